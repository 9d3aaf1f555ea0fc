"""Shorten the factors of a batch norm that is cast: only the codes behind the cast must be those of the true ones."""

from __future__ import annotations

from dataclasses import replace

from flow.ir.fixed import FixedFormat
from flow.ir.graph import BatchNorm, IntGraph, Op
from flow.ir.intervals import casts_exactly, exact_result
from flow.ir.passes.fold_batchnorm import apart_bits, folded, folded_bits, folds
from flow.ir.scaling import Line, has_thresholds, shortened


def shorten_batchnorm(graph: IntGraph, *, stream: bool = False) -> IntGraph:
    """Give each batch norm that rounds and saturates the shortest factors and offsets with the same codes.

    Only where that takes fewer adders, with its factors multiplied into the weights before it or not.

    Args:
        graph: casts are fused.
        stream: whether positions follow one another through the same hardware.
    """
    ops = {op.name: op for op in graph.ops}
    for op in graph.ops:
        if isinstance(op, BatchNorm):
            (x,) = graph.sources(op)
            short = short_norm(op, x.format)
            if short is not None and _adder_bits(short, x, graph, stream) < _adder_bits(op, x, graph, stream):
                ops[op.name] = short
    return replace(graph, ops=tuple(ops.values()))


def short_norm(op: BatchNorm, x: FixedFormat) -> BatchNorm | None:
    """Return a batch norm with the shortest factors and offsets, which also divide if its cast does; None without."""
    if not has_thresholds(op.cast) or casts_exactly(op, x):
        return None
    exact = exact_result(op, x)
    scales, offsets = op.scale.codes << exact.shifts[0], op.offset.codes << exact.shifts[1]
    pairs = zip(scales.tolist(), offsets.tolist(), strict=True)
    made = shortened([Line(scale, offset, exact.frac_bits) for scale, offset in pairs], x, op.cast)
    return None if made is None else replace(op, scale=made[0], offset=made[1], cast=made[2])


def _adder_bits(op: BatchNorm, x: Op, graph: IntGraph, stream: bool) -> int:
    """Return the bits of the adders of a batch norm and of what it reads, in the form that `fold_batchnorm` chooses."""
    alone = len(graph.readers(x.name)) == 1 and x.name not in graph.outputs
    whole = folded(x, op, graph) if alone else None
    if whole is not None and folds(whole, op, x, graph, stream):
        return folded_bits(whole, graph)
    return apart_bits(op, x, graph, stream)
