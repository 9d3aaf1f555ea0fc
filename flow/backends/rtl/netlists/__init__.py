"""Kernels as words of bits: netlists, the arithmetic that makes them, their pipelining and their footprint.

In: terms and formats. Out: a `Netlist` whose outputs are the codes of one op, cut into stages, and what it needs.
"""
