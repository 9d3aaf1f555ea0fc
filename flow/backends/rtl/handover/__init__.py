"""What a firmware engineer gets of a Verilog project: bench, constraints, scripts, IP-XACT, VHDL, a README; bitstreams.

In: a project as it lies in a run, input codes and what the reference gives for them. Out: a `Project` that needs
nothing of this package, or a bitstream for a board.
"""
