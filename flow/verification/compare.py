"""Compare levels by integer equality, find where they first part, and say why. No tolerance anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from flow.errors import counted
from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph, Op
from flow.ir.reference import run
from flow.results import Divergence, SimResult
from flow.verification import causes
from flow.verification.causes import Site
from flow.verification.faults import faults

Differ = Callable[[Codes], NDArray[np.bool_]]
"""Says for each sample of a batch of input codes whether two levels still differ as they did."""
Rerun = Callable[[Codes], tuple[SimResult, SimResult]]
"""Runs both levels on a batch of input codes."""
SHRINK_ROUNDS = 40
FIRST_GROUPS = 16
"""Groups into which the non-zero inputs are split at first."""
ONLY_BEHIND_OTHERS = "alone this input differs no more: a level computes with what the inputs before it left"
FEW, ELEMENTS = 32, 1 << 22
"""Samples that a cause is tried on first, and elements that an op is computed on at a time."""


def mismatches(a: SimResult, b: SimResult, ops: Sequence[Op]) -> dict[str, int]:
    """Return, per op that both levels know, how many output elements differ."""
    return {
        op.name: int(np.count_nonzero(a.codes[op.name] != b.codes[op.name]))
        for op in ops
        if op.name in a.codes and op.name in b.codes
    }


def first_divergence(graph: IntGraph, first: SimResult, second: SimResult, rerun: Rerun | None) -> Divergence | None:
    """Return where two levels first part, in dataflow order of the ops that both know; None if nowhere.

    Args:
        graph: the graph of both.
        first, second: codes of the two levels on the same inputs.
        rerun: runs both levels on other inputs, to shrink the counterexample: then op, element and codes are those of
            the shrunk input. None leaves it as it is, and so does an input on which they differ behind others only.
    """
    counts = mismatches(first, second, graph.ops)
    name = next((name for name, count in counts.items() if count), None)
    if name is None:
        return None
    inputs = graph.join_port(first.codes)
    sample = _simplest(inputs, first.codes[name] != second.codes[name])
    counterexample, codes = inputs[sample], [each.codes[name][sample] for each in (first, second)]
    cause = _cause(graph, graph[name], inputs, first, second)
    differ = None if rerun is None else _differs_first_at(name, graph, rerun)
    if differ is not None and not differ(counterexample[None]).any():
        cause = f"{ONLY_BEHIND_OTHERS}; {cause}"
    elif rerun is not None and differ is not None:
        counterexample = shrink(counterexample, differ)
        codes = [each.codes[name][0] for each in rerun(counterexample[None])]
    where = tuple(int(i) for i in np.argwhere(codes[0] != codes[1])[0])
    return Divergence(
        op=name,
        levels=(first.level, second.level),
        sample=sample,
        index=where,
        codes=(int(codes[0][where]), int(codes[1][where])),
        cause=cause,
        nonzero_inputs=int(np.count_nonzero(counterexample)),
        counterexample=counterexample,
    )


def _simplest(inputs: Codes, wrong: NDArray[np.bool_]) -> int:
    """Return the diverging sample with fewest non-zero inputs."""
    samples = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    nonzero = np.count_nonzero(inputs[samples].reshape(len(samples), -1), axis=1)
    return int(samples[np.argmin(nonzero)])


def _differs_first_at(name: str, graph: IntGraph, rerun: Rerun) -> Differ:
    """Return a function that says for which inputs the levels differ at an op, and at none before it."""

    def differ(trials: Codes) -> NDArray[np.bool_]:
        first, second = rerun(trials)
        still = np.ones(len(trials), bool)
        for op in graph.ops:
            if op.name in first.codes and op.name in second.codes:
                wrong = (first.codes[op.name] != second.codes[op.name]).reshape(len(trials), -1).any(axis=1)
                if op.name == name:
                    return np.asarray(still & wrong)
                still &= ~wrong
        raise AssertionError(f"{name} is no op of both levels")

    return differ


def shrink(codes: Codes, differ: Differ) -> Codes:
    """Return an input with as few non-zero codes as could be found that still makes the levels differ.

    Delta debugging: each round tries to set each of some groups of elements to zero, and then the longest row of those
    that can be zero by themselves; where none can, groups become smaller, down to single elements. This is repeated
    until it changes nothing, so a result shrinks to itself.
    """
    best: Codes = codes.copy()
    parts, smaller = FIRST_GROUPS, False
    for _ in range(SHRINK_ROUNDS):
        nonzero = np.flatnonzero(best)
        groups = np.array_split(nonzero, min(parts, len(nonzero))) if len(nonzero) else []
        single = [groups[i] for i in np.flatnonzero(differ(_without(best, groups)))] if groups else []
        if single:
            rows = [np.concatenate(single[: i + 1]) for i in range(len(single))]
            trials = _without(best, rows)
            longest = int(np.flatnonzero(differ(trials))[-1]) if len(rows) > 1 else 0
            best, smaller = trials[longest], True
        elif parts < len(nonzero):
            parts *= 2
        elif smaller and len(nonzero) > FIRST_GROUPS:
            parts, smaller = FIRST_GROUPS, False
        else:
            break
    return best


def _without(codes: Codes, groups: Sequence[NDArray[np.int64]]) -> Codes:
    """Return copies of an input, each with one group of elements set to zero."""
    trials = np.repeat(codes[None], len(groups), axis=0)
    for trial, group in zip(trials, groups, strict=True):
        trial.reshape(-1)[group] = 0
    return trials


def _cause(graph: IntGraph, op: Op, inputs: Codes, first: SimResult, second: SimResult) -> str:
    """Return why one of the levels, or each of them, is not what the graph says."""
    if isinstance(op, Input):
        return "the levels read different inputs"
    known: dict[str, Codes] = {**second.codes, **first.codes}
    hidden = [name for name in dict.fromkeys(op.inputs) if name not in first.codes or name not in second.codes]
    if any(name not in known for name in hidden):
        known = {**run(graph, inputs).codes, **known}
    levels = [level for level in (second, first) if level.level != "reference"]
    found = {level.level: explain(graph, op, known, level.codes[op.name]) for level in levels}
    words = [f"{level}: {cause}" if len(levels) > 1 else cause for level, cause in found.items() if cause is not None]
    beyond = f" (its input {', '.join(hidden)} was not compared)" if hidden else ""
    return "; ".join(words) + beyond


def explain(graph: IntGraph, op: Op, known: Mapping[str, Codes], observed: Codes) -> str | None:
    """Say which other setting or number of `op` gives exactly the observed codes; None if they are what `op` gives.

    Args:
        graph: the graph.
        op: the op, no Input.
        known: codes of what `op` reads, by name, (samples, *shape).
        observed: codes of `op` from a level, same samples.
    """
    wrong = np.concatenate([(part.expected() != part.observed) for part in _parts(graph, op, known, observed)])
    if not wrong.any():
        return None
    samples = wrong.reshape(len(wrong), -1).any(axis=1)
    telling = np.argsort(np.where(samples, np.cumsum(samples), np.cumsum(~samples)), kind="stable")  # one of each
    ordered = {name: known[name][telling] for name in op.inputs}
    few = next(_parts(graph, op, {name: codes[:FEW] for name, codes in ordered.items()}, observed[telling[:FEW]]))
    parts = list(_parts(graph, op, ordered, observed[telling]))
    for candidate in chain(causes.settings(few), faults(parts[0], parts[0].expected() != parts[0].observed)):
        if all(causes.gives(candidate, each) for each in (few, *parts)):
            scope = counted(len(observed), "input", "inputs") + ", as others may" * (len(observed) == 1)
            return f"{candidate[0]} gives exactly the observed codes of {scope}"
    channels = np.unique(np.argwhere(wrong)[:, -1])
    return (
        "no other rounding, overflow, width or single number explains it; outputs differ in "
        f"{len(channels)} of {op.shape[-1]} channels (first: {channels[0]}): a weight, a bias or an input of this op "
        "differs"
    )


def _parts(graph: IntGraph, op: Op, known: Mapping[str, Codes], observed: Codes) -> Iterator[Site[Op]]:
    """Yield the op's site, some samples after others, so that a site's arrays stay small."""
    sources = graph.sources(op)
    each = math.prod(op.shape) + sum(math.prod(source.shape) for source in sources)
    count = max(1, ELEMENTS // each)
    formats = {source.name: source.format for source in sources}
    for start in range(0, len(observed), count):
        part = slice(start, start + count)
        inputs = {name: known[name][part].astype(np.int64) for name in formats}
        yield causes.site(op, formats, inputs, observed[part].astype(np.int64))
