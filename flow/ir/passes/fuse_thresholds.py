"""Fuse batch norm into the step function behind it: scale * x + offset >= t, for integers x, is a threshold of x."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.ir.fixed import Codes
from flow.ir.graph import BatchNorm, IntGraph, Lookup, Op
from flow.ir.intervals import casts_exactly, exact_result
from flow.ir.passes.rewrite import merge_pairs
from flow.ir.tables import TABLE_INPUT_BITS


def fuse_thresholds(graph: IntGraph) -> IntGraph:
    """Make one step function, with thresholds for each channel, of a batch norm and the one that alone reads it.

    Only where that reads more than 16 bits: behind fewer it may be a table, and the batch norm part of a sum.
    """
    return merge_pairs(graph, _fuse)


def _fuse(first: Op, second: Op, graph: IntGraph) -> Op | None:
    if not (isinstance(first, BatchNorm) and isinstance(second, Lookup)):
        return None
    (x,) = (source.format for source in graph.sources(first))
    exact = exact_result(first, x)
    narrow = first.format.width <= TABLE_INPUT_BITS or second.starts.ndim > 1
    if narrow or not casts_exactly(first, x) or exact.frac_bits != first.format.frac_bits:
        return None
    scales, offsets = first.scale.codes << exact.shifts[0], first.offset.codes << exact.shifts[1]
    steps = zip(scales.tolist(), offsets.tolist(), strict=True)
    channels = [_runs(second, scale, offset, x.min_code, x.max_code) for scale, offset in steps]
    runs = max(len(starts) for starts, _ in channels)
    starts, values = (
        np.stack([np.pad(channel[part], (0, runs - len(channel[part])), "edge") for channel in channels])
        for part in range(2)
    )
    return replace(second, name=first.name, inputs=first.inputs, starts=starts, values=values)


def _runs(op: Lookup, scale: int, offset: int, low: int, high: int) -> tuple[Codes, Codes]:
    """Return starts and values of x -> op(scale * x + offset), for x from `low` to `high`."""
    thresholds, values = op.starts[1:].tolist(), op.values.tolist()
    if scale == 0:
        return np.array([low]), op.value_of(np.array([offset]))
    if scale > 0:  # scale * x + offset >= t from x = ceil((t - offset) / scale) on
        firsts = [-((offset - t) // scale) for t in thresholds]
    else:  # ... up to x = floor((offset - t) / -scale), so that less comes from the next on
        firsts, values = [(offset - t) // -scale + 1 for t in reversed(thresholds)], values[::-1]
    starts, kept = [low], values[:1]
    for first, value in zip(firsts, values[1:], strict=True):
        if first > high:
            break
        if first <= starts[-1]:  # no code lies in the run before
            kept[-1] = value
        else:
            starts.append(first)
            kept.append(value)
    return np.array(starts), np.array(kept)
