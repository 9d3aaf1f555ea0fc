"""Fuse batch norm into the step function behind it: scale * x + offset >= t, for integers x, is a threshold of x."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.ir.graph import BatchNorm, IntGraph, Lookup, Op, Relu
from flow.ir.intervals import casts_exactly, exact_result
from flow.ir.passes.rewrite import merge_pairs
from flow.ir.scaling import line_runs, together
from flow.ir.tables import TABLE_INPUT_BITS


def fuse_thresholds(graph: IntGraph) -> IntGraph:
    """Make one step function, with thresholds for each channel, of a batch norm and the one that alone reads it.

    A ReLU may stand between them.

    Only where that reads more than 16 bits: behind fewer it may be a table, and the batch norm part of a sum.
    """
    return merge_pairs(graph, _fuse)


def _fuse(first: Op, second: Op, graph: IntGraph) -> Op | None:
    if isinstance(first, Relu) and isinstance(second, Lookup):
        return _behind_relu(first, second, graph)
    if not (isinstance(first, BatchNorm) and isinstance(second, Lookup)):
        return None
    (x,) = (source.format for source in graph.sources(first))
    exact = exact_result(first, x)
    narrow = first.format.width <= TABLE_INPUT_BITS or second.starts.ndim > 1
    if narrow or not casts_exactly(first, x) or exact.frac_bits != first.format.frac_bits:
        return None
    scales, offsets = first.scale.codes << exact.shifts[0], first.offset.codes << exact.shifts[1]
    pairs, firsts = zip(scales.tolist(), offsets.tolist(), strict=True), second.starts[1:].tolist()
    starts, values = together([line_runs(firsts, second.values, scale, offset, x) for scale, offset in pairs])
    return replace(second, name=first.name, inputs=first.inputs, starts=starts, values=values)


def _behind_relu(first: Relu, second: Lookup, graph: IntGraph) -> Op | None:
    """Return the step function of a ReLU of a batch norm and what reads it, for the batch norm to become part of."""
    (x,) = graph.sources(first)
    wide = first.format.width > TABLE_INPUT_BITS and second.starts.ndim == 1
    if not (isinstance(x, BatchNorm) and wide and casts_exactly(first, x.format)):
        return None
    if first.format.frac_bits != x.format.frac_bits:
        return None
    kept = second.starts <= (first.format.max_code if first.limit is None else first.limit)
    starts = np.r_[x.format.min_code, second.starts[kept][1:]]
    return replace(second, name=first.name, inputs=first.inputs, starts=starts, values=second.values[kept])
