"""What hls4ml's back ends do not compute exactly, said before anything is written: who, why, and the way out."""

from __future__ import annotations

from flow.backends.hls4ml import dialects
from flow.backends.hls4ml.layers import form_refusals, layer_of, reuse_refusals
from flow.backends.hls4ml.wiring import wire
from flow.errors import UnsupportedError
from flow.ir.graph import IntGraph
from flow.target import Target


def check(graph: IntGraph, target: Target) -> None:
    """Refuse what can be seen without making any kernel; those that cannot be made raise where they are made.

    Raises:
        UnsupportedError: the first that is refused.
    """
    for refusal in (*dialects.refusals(graph, target), *reuse_refusals(graph, target), *_forms(graph, target)):
        raise refusal.at(model=graph.name)


def refusals(graph: IntGraph, target: Target) -> list[UnsupportedError]:
    """Return all that a back end refuses in a graph, reuse factors aside.

    Kernels are made only if every op has a form, and connected only if all of them can be made.
    """
    refused = [*dialects.refusals(graph, target), *_forms(graph, target)]
    if refused or not dialects.DIALECTS[target.backend].extended:
        return refused
    for op in graph.ops:
        try:
            layer_of(op, graph, target, op.inputs)
        except UnsupportedError as error:
            refused.append(error)
    if not refused:
        try:
            wire(graph, target)
        except UnsupportedError as error:
            refused.append(error)
    return refused


def _forms(graph: IntGraph, target: Target) -> list[UnsupportedError]:
    return [refusal for op in graph.ops for refusal in form_refusals(op, target)]
