"""Cast before a change of shape instead of after it, so that the pooling before both takes the cast."""

from __future__ import annotations

from dataclasses import replace

from flow.ir.graph import IntGraph, Op, Pool, Relu, Requantize, Reshape


def hoist_casts(graph: IntGraph) -> IntGraph:
    """Swap each reshape behind a pooling with the ReLU or requantization that alone reads it.

    A global pooling drops its axes of one by a reshape, and its quantizer stands behind that.
    """
    for shaped in graph.ops:
        readers = graph.readers(shaped.name)
        if not isinstance(shaped, Reshape) or len(readers) != 1 or shaped.name in graph.outputs:
            continue
        (cast,), (source,) = readers, graph.sources(shaped)
        alone = graph.readers(source.name) == (shaped,) and source.name not in graph.outputs
        if isinstance(source, Pool) and isinstance(cast, Relu | Requantize) and alone:
            return hoist_casts(replace(graph, ops=_swapped(graph.ops, source, shaped, cast)))
    return graph


def _swapped(ops: tuple[Op, ...], source: Op, shaped: Op, cast: Op) -> tuple[Op, ...]:
    first = replace(cast, name=shaped.name, inputs=shaped.inputs, shape=source.shape, layers=())
    layers = shaped.layers + cast.layers
    second = replace(
        shaped,
        name=cast.name,
        inputs=(shaped.name,),
        cast=replace(shaped.cast, format=cast.format),
        layers=layers,
        denominator=cast.denominator,
    )
    return tuple(first if op is shaped else second if op is cast else op for op in ops)
