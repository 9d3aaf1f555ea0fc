"""Generated Verilog proved against a second definition of each op, for all inputs.

In: a project on disk, as Yosys reads it, and the graph. Out: for each op what was shown and how, or an input that
refutes it.
"""
