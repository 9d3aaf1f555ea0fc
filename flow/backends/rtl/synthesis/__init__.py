"""What generated Verilog takes: Yosys, nextpnr, and the estimate fitted to Yosys.

In: a project on disk, or its `design.json`. Out: a `ResourceReport`.
"""
