"""From an `IntGraph` to a project of Verilog: the netlist of each op, its module, its FIFOs, the files.

In: a lowered graph and a target. Out: a `Project`.
"""
