"""Fuse ReLU and requantization into the op before: the unified module, with one shift, one rounding, one clamp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from flow.ir import ops
from flow.ir.fixed import Cast, Overflow
from flow.ir.graph import IntGraph, Op
from flow.ir.intervals import casts_exactly
from flow.ir.passes.rewrite import merge_pairs
from flow.ir.passes.shorten_batchnorm import short_norm


class Takes(Enum):
    """What of the ReLU and the requantization behind an op becomes its own."""

    NOTHING = "nothing"
    CAST = "the ReLU, the rounding and the clamp"
    DIVISION = "the division too"


TAKES: Mapping[type[Op], Takes] = {
    ops.Input: Takes.NOTHING,
    ops.Dense: Takes.CAST,
    ops.Conv: Takes.CAST,
    ops.BatchNorm: Takes.CAST,
    ops.Relu: Takes.CAST,
    ops.LeakyRelu: Takes.CAST,
    ops.Requantize: Takes.NOTHING,
    ops.Merge: Takes.DIVISION,
    ops.MaxPool: Takes.NOTHING,
    ops.SumPool: Takes.DIVISION,
    ops.Reshape: Takes.NOTHING,
    ops.Gather: Takes.NOTHING,
    ops.Lookup: Takes.NOTHING,
    ops.TruthTable: Takes.NOTHING,
    ops.Softmax: Takes.NOTHING,
    ops.Scan: Takes.NOTHING,
}
"""What of the ReLU and the requantization behind it becomes an op's own."""
TIED: Mapping[type[Op], bool] = {
    ops.Input: False,
    ops.Dense: False,
    ops.Conv: False,
    ops.BatchNorm: False,
    ops.Relu: False,
    ops.LeakyRelu: False,
    ops.Requantize: False,
    ops.Merge: False,
    ops.MaxPool: True,
    ops.SumPool: False,
    ops.Reshape: True,
    ops.Gather: False,
    ops.Lookup: True,
    ops.TruthTable: True,
    ops.Softmax: True,
    ops.Scan: True,
}
"""Whether an op is made for the format of its input, so that this must stay."""


def fuse_requantize(graph: IntGraph) -> IntGraph:
    """Give each op that computes the ReLU and the cast that follow it.

    A ReLU is an unsigned saturating cast. A requantization after a ReLU keeps its own rounding; its format loses the
    sign, since no code below zero is left. Only an op whose own cast is exact is fused (they come so from `extract`);
    a ReLU with a limit stays an op; only sums and merges divide, and the factors of a batch norm that are made to.
    """
    return merge_pairs(graph, _fuse)


def _fuse(first: Op, second: Op, graph: IntGraph) -> Op | None:
    takes = TAKES[type(first)]
    if takes is Takes.NOTHING:
        return None
    exact = casts_exactly(first, *(source.format for source in graph.sources(first)))
    if isinstance(second, ops.Relu) and second.limit is None and exact and casts_exactly(second, first.format):
        return replace(first, cast=Cast(second.format.unsigned(), overflow=Overflow.SAT))
    after_relu = bool(first.fused) and first.fused[-1] == "relu"
    if isinstance(second, ops.Requantize) and (exact or after_relu):
        if after_relu and not (_keeps_relu(second) and _may_lose_sign(second, graph)):
            return None
        fmt = second.format.unsigned() if after_relu else second.format
        made = replace(first, cast=replace(second.cast, format=fmt))
        if second.cast.divisor == 1 or takes is Takes.DIVISION:
            return made
        return short_norm(made, graph.sources(first)[0].format) if isinstance(made, ops.BatchNorm) else None
    return None


def _may_lose_sign(op: Op, graph: IntGraph) -> bool:
    """Say whether the ops that read `op` take the unsigned format of the same codes; some are made for its format."""
    return not op.format.signed or not any(TIED[type(reader)] for reader in graph.readers(op.name))


def _keeps_relu(op: Op) -> bool:
    """Say whether casting a negative value with this op's modes gives zero, as casting its ReLU would.

    True for saturation to an unsigned format; wrapping would turn a negative accumulator into something else. One
    signed bit holds no positive code and has no unsigned counterpart.
    """
    return op.cast.overflow in (Overflow.SAT, Overflow.SAT_SYM) and op.format.max_code > 0
