"""The one rewrite that passes share: two ops in a row become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flow.ir.graph import Draft, IntGraph, Op

Merge = Callable[[Op, Op, IntGraph], Op | None]
"""Given an op, its only reader and the graph, return the op that does both, or None to leave them.

Of the graph it looks only at what the first op reads and at what reads the second.
"""


def merge_pairs(graph: IntGraph, merge: Merge) -> IntGraph:
    """Replace each op and its only reader by what `merge` returns, the first such pair first, until nothing changes.

    The merged op keeps the first op's name and inputs; ops that read the second read it from then on.
    """
    draft, at = _draft(graph, graph.ops, graph.outputs), 0
    while at < len(draft.ops):
        first = draft.ops[at]
        readers = draft.readers(first.name)
        alone = len(readers) == 1 and first.name not in draft.outputs
        merged = merge(first, readers[0], draft) if alone else None
        if merged is None:
            at += 1
            continue
        (second,) = readers
        merged = replace(
            merged,
            layers=first.layers + second.layers,
            fused=first.fused + second.fused,
            denominator=second.denominator,
        )
        outputs = tuple(first.name if name == second.name else name for name in draft.outputs)
        draft = _draft(graph, _substitute(draft.ops, first, second, merged), outputs)
        at = _first_affected(draft, merged)
    return graph if draft.ops == graph.ops else replace(graph, ops=draft.ops, outputs=draft.outputs)


def _draft(graph: IntGraph, ops: tuple[Op, ...], outputs: tuple[str, ...]) -> Draft:
    return Draft(name=graph.name, ops=ops, outputs=outputs, warnings=graph.warnings)


def _first_affected(graph: IntGraph, merged: Op) -> int:
    """Return the place of the first op for which `merge` may now say otherwise: the reader of its reader is new."""
    near = {merged.name, *merged.inputs, *(name for op in graph.sources(merged) for name in op.inputs)}
    return next(place for place, op in enumerate(graph.ops) if op.name in near)


def _substitute(ops: tuple[Op, ...], first: Op, second: Op, merged: Op) -> tuple[Op, ...]:
    out = []
    for op in ops:
        if op is second:
            out.append(merged)
        elif second.name in op.inputs:
            out.append(replace(op, inputs=tuple(first.name if name == second.name else name for name in op.inputs)))
        elif op is not first:
            out.append(op)
    return tuple(out)
