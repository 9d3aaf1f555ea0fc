"""Compare levels by integer equality, find where they first part, and say why. No tolerance anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow.fixed import CODE_BITS, Codes, FixedFormat, Overflow, Rounding, overflow_to, requantize
from flow.graph import IntGraph, MatMul, Op
from flow.reference import Carrier, run
from flow.results import Divergence, SimResult

Differ = Callable[[Codes], NDArray[np.bool_]]
"""Says for each sample of a batch of input codes whether the two levels differ at the op in question."""

SHRINK_ROUNDS = 40


def mismatches(a: SimResult, b: SimResult, ops: Sequence[Op]) -> dict[str, int]:
    """Return, per op that both levels know, how many output elements differ."""
    return {
        op.name: int(np.count_nonzero(a.codes[op.name] != b.codes[op.name]))
        for op in ops
        if op.name in a.codes and op.name in b.codes
    }


def first_divergence(
    graph: IntGraph, reference: SimResult, other: SimResult, differ: Differ | None
) -> Divergence | None:
    """Return where `other` first parts from the reference, in dataflow order; None if nowhere.

    Args:
        graph: the graph of both.
        reference: codes of the reference.
        other: codes of another level on the same inputs.
        differ: runs both levels again on other inputs, to shrink the counterexample; None leaves it as it is.
    """
    for op in graph.ops:
        if op.name not in other.codes:
            continue
        wrong = reference.codes[op.name] != other.codes[op.name]
        if not wrong.any():
            continue
        inputs = graph.join_port(reference.codes)
        sample = _simplest(inputs, wrong)
        where = tuple(int(i) for i in np.argwhere(wrong[sample])[0])
        counterexample = inputs[sample] if differ is None else shrink(inputs[sample], differ)
        return Divergence(
            op=op.name,
            levels=("reference", other.level),
            sample=sample,
            index=where,
            codes=(int(reference.codes[op.name][sample][where]), int(other.codes[op.name][sample][where])),
            cause=explain(graph, op, inputs, other.codes[op.name].astype(np.int64)),
            nonzero_inputs=int(np.count_nonzero(counterexample)),
            counterexample=counterexample,
        )
    return None


def _simplest(inputs: Codes, wrong: NDArray[np.bool_]) -> int:
    """Return the diverging sample with fewest non-zero inputs."""
    samples = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    nonzero = np.count_nonzero(inputs[samples].reshape(len(samples), -1), axis=1)
    return int(samples[np.argmin(nonzero)])


def shrink(codes: Codes, differ: Differ) -> Codes:
    """Return an input with as few non-zero codes as could be found that still makes the levels differ.

    Sets ever smaller groups of elements to zero and keeps what still differs (delta debugging); each round tries all
    groups in one batch.
    """
    best: Codes = codes.copy()
    parts = 2
    for _ in range(SHRINK_ROUNDS):
        nonzero = np.flatnonzero(best)
        if len(nonzero) < 2:
            break
        groups = np.array_split(nonzero, min(parts, len(nonzero)))
        trials = np.repeat(best[None], len(groups), axis=0)
        for trial, group in zip(trials, groups, strict=True):
            trial.reshape(-1)[group] = 0
        still = np.flatnonzero(differ(trials))
        if len(still):
            best = np.asarray(trials[still[0]])
            parts = max(2, parts - 1)
        elif parts >= len(nonzero):
            break
        else:
            parts = min(2 * parts, len(nonzero))
    return best


def explain(graph: IntGraph, op: Op, inputs: Codes, observed: Codes) -> str:
    """Say which other rounding, overflow or width of `op` gives exactly the observed codes.

    Args:
        graph: the graph.
        op: the first op that diverges, so its inputs agree.
        inputs: input codes of the graph.
        observed: codes of `op` from the other level, same samples.
    """
    exact, frac_bits = _exact_result(graph, op, inputs)
    expected = requantize(exact, frac_bits, op.format, op.rounding, op.overflow, op.divisor)
    wrong = observed != expected
    for words, candidate in _candidates(op, exact, frac_bits):
        if np.array_equal(candidate[wrong], observed[wrong]) and np.array_equal(candidate, observed):
            return f"{words} gives exactly the observed codes"
    channels = np.unique(np.argwhere(wrong)[:, -1])
    return (
        f"no other rounding, overflow or width explains it; outputs differ in {len(channels)} of {op.shape[-1]} "
        f"channels (first: {channels[0]}): a weight, a bias or an input of this op differs"
    )


def _exact_result(graph: IntGraph, op: Op, inputs: Codes) -> tuple[Codes, int]:
    parts: list[Carrier] = []
    grid = [op.format.frac_bits]

    def keep(seen: Op, exact: Carrier, frac_bits: int) -> None:
        if seen is op:
            parts.append(exact.astype(np.int64))
            grid[0] = frac_bits

    result = run(graph, inputs, keep)
    return (np.concatenate(parts) if parts else result.codes[op.name].astype(np.int64)), grid[0]


def _candidates(op: Op, exact: Codes, frac_bits: int) -> Iterator[tuple[str, Codes]]:
    modes = [(rounding, overflow) for rounding in Rounding for overflow in Overflow]
    modes.sort(key=lambda mode: (mode[0] is not op.rounding) + (mode[1] is not op.overflow))  # one change before two
    for rounding, overflow in modes[1:]:
        changed = [each.value for each, own in ((rounding, op.rounding), (overflow, op.overflow)) if each is not own]
        own = [each.value for each in (op.rounding, op.overflow) if each not in (rounding, overflow)]
        words = f"{' and '.join(changed)} instead of {' and '.join(own)}"
        yield words, requantize(exact, frac_bits, op.format, rounding, overflow, op.divisor)
    for words, fmt in _other_formats(op.format):
        cast = requantize(exact, frac_bits, fmt, op.rounding, op.overflow, op.divisor)
        if fmt.frac_bits <= op.format.frac_bits:
            yield words, cast << (op.format.frac_bits - fmt.frac_bits)
    if isinstance(op, MatMul) and op.accumulator is not None:
        for width in range(op.accumulator.width - 1, 1, -1):
            narrow = replace(op.accumulator, int_bits=op.accumulator.int_bits - (op.accumulator.width - width))
            wrapped = overflow_to(exact, narrow, Overflow.WRAP)
            words = f"an accumulator of {width} bits that wraps, instead of {op.accumulator.width},"
            yield words, requantize(wrapped, frac_bits, op.format, op.rounding, op.overflow)


def _other_formats(fmt: FixedFormat) -> Iterator[tuple[str, FixedFormat]]:
    for int_bits in (fmt.int_bits, fmt.int_bits - 1, fmt.int_bits - 2, fmt.int_bits + 1):
        for frac_bits in (fmt.frac_bits, fmt.frac_bits - 1, fmt.frac_bits - 2):
            same = (int_bits, frac_bits) == (fmt.int_bits, fmt.frac_bits)
            if not same and 1 <= fmt.signed + int_bits + frac_bits < CODE_BITS:
                other = replace(fmt, int_bits=int_bits, frac_bits=frac_bits)
                yield f"an output of format {other} instead of {fmt}", other
