"""The one rewrite that passes share: two ops in a row become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flow.graph import IntGraph, Op

Merge = Callable[[Op, Op, IntGraph], Op | None]
"""Given an op, its only reader and the graph, return the op that does both, or None to leave them."""


def merge_pairs(graph: IntGraph, merge: Merge) -> IntGraph:
    """Replace each op and its only reader by what `merge` returns, until nothing changes.

    The merged op keeps the first op's name and inputs; ops that read the second read it from then on.
    """
    for first in graph.ops:
        readers = graph.readers(first.name)
        if len(readers) != 1 or first.name in graph.outputs:
            continue
        second = readers[0]
        merged = merge(first, second, graph)
        if merged is not None:
            merged = replace(merged, layers=first.layers + second.layers, fused=first.fused + second.fused)
            outputs = tuple(first.name if name == second.name else name for name in graph.outputs)
            ops = _substitute(graph.ops, first, second, merged)
            return merge_pairs(replace(graph, ops=ops, outputs=outputs), merge)
    return graph


def _substitute(ops: tuple[Op, ...], first: Op, second: Op, merged: Op) -> tuple[Op, ...]:
    out = []
    for op in ops:
        if op is first:
            continue
        if op is second:
            out.append(merged)
        else:
            out.append(replace(op, inputs=tuple(first.name if name == second.name else name for name in op.inputs)))
    return tuple(out)
