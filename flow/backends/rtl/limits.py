"""What open tools are known to be slow at in Verilog of ours, as rules of the preflight (docs/preflight.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from flow.backends.functions import Design
from flow.findings import WARNING, Hit, Rule
from flow.ir.graph import MatMul

VERILOG_PRODUCTS = 50_000
"""Products of a Verilog design beyond which Yosys takes hours; 5,600 take minutes (docs/synthesis.md)."""


def _large_verilog(subject: Design) -> Iterator[Hit]:
    """Verilog of so many adders that open tools take hours for it."""
    stream = subject.target.io_type == "io_stream"
    for op in subject.lowered.ops:
        if isinstance(op, MatMul):
            places = 1 if stream else math.prod(op.shape[:-1])
            products = places * int((op.matrix() != 0).sum())
            if products > VERILOG_PRODUCTS:
                reason = f"op '{op.name}' has {products} products with a circuit of their own, at {places} places"
                yield Hit(op.name, reason, "use --io-type io_stream or more zeros, or expect hours of synthesis")


RULES: tuple[Rule[Design], ...] = (
    Rule("verilog-size", WARNING, "measured with Yosys 0.70, docs/synthesis.md", _large_verilog),
)
