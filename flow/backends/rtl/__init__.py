"""Verilog of our own: kernels, their simulation, synthesis and proofs.

In: a lowered `IntGraph` and a `Target`. Out: a `Project` of Verilog, the codes and cycles of its simulation, what Yosys
and nextpnr say of it, and a proof per op.
"""
