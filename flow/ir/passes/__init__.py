"""Passes: functions from IntGraph to IntGraph that keep its meaning; `lower` runs them in order.

In: a graph with one op per step of the model. Out: a graph of unified modules, with the same codes.
"""

from flow.ir.graph import IntGraph
from flow.ir.passes.fold_batchnorm import fold_batchnorm
from flow.ir.passes.fuse_requantize import fuse_requantize
from flow.ir.passes.fuse_thresholds import fuse_thresholds
from flow.ir.passes.hoist_casts import hoist_casts
from flow.ir.passes.infer_accumulators import infer_accumulators

PASSES = (fuse_thresholds, fold_batchnorm, hoist_casts, fuse_requantize, infer_accumulators)


def lower(graph: IntGraph) -> IntGraph:
    """Return the graph of unified modules: batch norm folded, casts hoisted and fused, accumulators sized."""
    for each in PASSES:
        graph = each(graph)
    return graph
