"""Passes: functions from IntGraph to IntGraph that keep its meaning; `lower` runs them in order.

In: a graph with one op per step of the model. Out: a graph of unified modules, with the same codes.
"""

from collections.abc import Callable
from functools import partial

from flow.ir.graph import IntGraph
from flow.ir.passes.drop_channels import drop_channels
from flow.ir.passes.fold_batchnorm import fold_batchnorm
from flow.ir.passes.fuse_requantize import fuse_requantize
from flow.ir.passes.fuse_tables import fuse_tables
from flow.ir.passes.fuse_thresholds import fuse_thresholds
from flow.ir.passes.hoist_casts import hoist_casts
from flow.ir.passes.infer_accumulators import infer_accumulators
from flow.ir.passes.shorten_batchnorm import shorten_batchnorm

Pass = Callable[[IntGraph], IntGraph]


def passes(*, stream: bool = False, tables: bool = False) -> tuple[Pass, ...]:
    """Return the passes in order: casts hoisted and fused, batch norm shortened or folded, dead channels
    dropped, truth tables made, accumulators sized.

    Args:
        stream: whether positions follow one another through the same hardware, so that a batch norm has it once.
        tables: whether what depends on few bits becomes truth tables, if no positions follow one another.
    """
    shorten, fold = (partial(each, stream=stream) for each in (shorten_batchnorm, fold_batchnorm))
    made = (fuse_tables,) if tables and not stream else ()
    return fuse_thresholds, hoist_casts, fuse_requantize, shorten, fold, drop_channels, *made, infer_accumulators


def lower(graph: IntGraph, *, stream: bool = False, tables: bool = False) -> IntGraph:
    """Return the graph of unified modules of an extracted graph; `stream` and `tables` as of `passes`."""
    for each in passes(stream=stream, tables=tables):
        graph = each(graph)
    return graph
