"""Size the accumulators: proved by intervals to hold every partial sum, for any input of the input format."""

from __future__ import annotations

from dataclasses import replace

from flow.ir.fixed import FixedFormat
from flow.ir.graph import IntGraph, MatMul, Op
from flow.ir.intervals import accumulation


def infer_accumulators(graph: IntGraph) -> IntGraph:
    """Set `accumulator` and `channel_bits` of every dense and convolution.

    Raises:
        UnsupportedError: a sum may need more than 62 bits.
    """

    def sized(op: Op) -> Op:
        if not isinstance(op, MatMul):
            return op
        acc = accumulation(op, graph[op.inputs[0]].format)
        return replace(op, accumulator=_castable(acc.format, op.format.frac_bits), channel_bits=acc.channel_bits)

    return replace(graph, ops=tuple(sized(op) for op in graph.ops))


def _castable(fmt: FixedFormat, frac_bits: int) -> FixedFormat:
    """Widen a format that lies wholly below the grid it is cast to: `ap_fixed` rounds by bits that it must have."""
    return replace(fmt, int_bits=max(fmt.int_bits, 1 - frac_bits))
