"""Passes: functions from IntGraph to IntGraph that keep its meaning; `lower` runs them in order.

In: a graph with one op per step of the model. Out: a graph of unified modules, with the same codes.
"""

from flow.ir.graph import IntGraph
from flow.ir.passes.fold_batchnorm import fold_batchnorm
from flow.ir.passes.fuse_requantize import fuse_requantize
from flow.ir.passes.fuse_thresholds import fuse_thresholds
from flow.ir.passes.hoist_casts import hoist_casts
from flow.ir.passes.infer_accumulators import infer_accumulators
from flow.ir.passes.shorten_batchnorm import shorten_batchnorm

PASSES = (fuse_thresholds, hoist_casts, fuse_requantize, shorten_batchnorm, fold_batchnorm, infer_accumulators)


def lower(graph: IntGraph, *, stream: bool = False) -> IntGraph:
    """Return the graph of unified modules: casts hoisted and fused, batch norm folded or shortened, accumulators sized.

    Args:
        graph: as it was extracted.
        stream: whether positions follow one another through the same hardware, so that a batch norm has it once.
    """
    graph = fuse_requantize(hoist_casts(fuse_thresholds(graph)))
    graph = fold_batchnorm(shorten_batchnorm(graph, stream=stream), stream=stream)
    return infer_accumulators(graph)
