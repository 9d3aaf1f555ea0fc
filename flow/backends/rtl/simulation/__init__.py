"""Generated Verilog simulated cycle by cycle, and what such a run measures.

In: a project on disk and input codes. Out: codes of every op, latency, interval and toggles.
"""
