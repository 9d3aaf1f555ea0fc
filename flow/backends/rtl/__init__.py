"""Verilog of our own: kernels, their simulation, synthesis and proofs."""
