"""The AXI-Stream ports of a design: one per input and output of the graph, whole bytes wide."""

from __future__ import annotations

from flow.backends.rtl.verilog import printer
from flow.ir.graph import IntGraph, Op

CLOCKED = {"clk": "aclk", "rst": "~aresetn"}
"""How clock and reset of the library's modules are connected in a top."""


def axis_port(graph: IntGraph, op: Op, side: str) -> str:
    """Return the prefix of the port of an input (`side` "s") or an output ("m")."""
    alone = len(graph.inputs if side == "s" else graph.outputs) == 1
    return f"{side}_axis" if alone else f"{side}_axis_{op.name}"


def top_module(graph: IntGraph, beat_bits: dict[str, int], body: str) -> str:
    """Return the top module: its clock and reset, its AXI-Stream ports, and what stands between them.

    Args:
        graph: it has the inputs and outputs.
        beat_bits: op -> bits of one beat.
        body: lines of the module.
    """
    ports = [printer.port("input", "aclk"), printer.port("input", "aresetn")]
    outputs = [graph[name] for name in graph.outputs]
    for side, ops, there, back in (("s", graph.inputs, "input", "output"), ("m", outputs, "output", "input")):
        for op in ops:
            name = axis_port(graph, op, side)
            ports += [
                printer.port(there, f"{name}_tdata", -(-beat_bits[op.name] // 8) * 8),
                printer.port(there, f"{name}_tvalid"),
                printer.port(back, f"{name}_tready"),
                printer.port(there, f"{name}_tlast"),
            ]
    return printer.module(graph.name, ports, body)


def padded(width: int, name: str) -> str:
    """Return data widened to whole bytes with zeros.

    Example:
        >>> padded(12, "y_data")
        "{4'd0, y_data}"
    """
    missing = -width % 8
    return f"{{{missing}'d0, {name}}}" if missing else name
