"""Patterns of pruning: which weights go together, and among which a pattern chooses.

    weights        each weight alone, among all of the kernel
    2:4            at most two of each four weights in a row of inputs, for each neuron
    blocks 4x1     blocks of 4 inputs and 1 neuron, whole
    channels       whole neurons, or channels of a convolution: the hardware loses them
    fan_in 6       at most six weights for each neuron

A kernel is a matrix here: a row for each input of a neuron (of a convolution: for each place in its window and each
input channel), a column for each neuron. That of a depthwise convolution has a row for each place of its window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import SpecError, shown

Scores = NDArray[np.float64]
Kept = NDArray[np.bool_]
Indices = NDArray[np.int64]
WEIGHTS, CHANNELS = "weights", "channels"
ALLOCATIONS = ("layer", "cost")
"""How zeros are shared: each layer has its own fraction; or those of all go where they save most hardware."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a pattern divides a kernel.

    Attributes:
        unit: (inputs, neurons): to which unit each weight belongs; a unit goes or stays whole.
        group: (units,): among which units each is chosen.
        most: how many units of a group stay in the end; None if a sparsity says that.
    """

    unit: Indices
    group: Indices
    most: int | None = None

    def scores(self, of_weights: Scores) -> Scores:
        """Return the score of each unit: the mean of its weights'."""
        sizes = np.bincount(self.unit.reshape(-1))
        return np.bincount(self.unit.reshape(-1), of_weights.reshape(-1)) / sizes

    def sparsity(self) -> float | None:
        """Return the fraction of zeros that the pattern has in the end, if it says so itself."""
        if self.most is None:
            return None
        sizes = np.bincount(self.group)
        return 1 - float(np.minimum(sizes, self.most).sum() / sizes.sum())

    def counts(self, sparsity: float) -> Indices:
        """Return how many units of each group stay at a sparsity: one at least, as tfmot has it."""
        sizes = np.bincount(self.group)
        kept = np.rint(sizes.astype(np.float32) * np.float32(1 - np.float32(sparsity))).astype(np.int64)
        return np.asarray(np.maximum(kept, 1 if self.most is None else np.minimum(self.most, sizes)))


def _single(rows: int, columns: int) -> Layout:
    unit = np.arange(rows * columns).reshape(rows, columns)
    return Layout(unit, np.zeros(rows * columns, np.int64))


def _blocks(rows: int, columns: int, high: int, wide: int) -> Layout:
    i, j = np.indices((rows, columns))
    unit = i // high * -(-columns // wide) + j // wide
    return Layout(unit, np.zeros(unit.max() + 1, np.int64))


def _channels(rows: int, columns: int) -> Layout:
    return Layout(np.indices((rows, columns))[1], np.zeros(columns, np.int64))


def _n_of_m(rows: int, columns: int, most: int, among: int) -> Layout:
    i, j = np.indices((rows, columns))
    return Layout(_single(rows, columns).unit, (i // among * columns + j).reshape(-1), most)


def _fan_in(rows: int, columns: int, most: int) -> Layout:
    return Layout(_single(rows, columns).unit, np.indices((rows, columns))[1].reshape(-1), most)


FORMS: Mapping[str, Callable[..., Layout]] = {
    WEIGHTS: _single,
    r"(\d+):(\d+)": _n_of_m,
    r"blocks (\d+)x(\d+)": _blocks,
    CHANNELS: _channels,
    r"fan_in (\d+)": _fan_in,
}
"""How a pattern is written -> what divides a kernel by it, given rows, columns and the numbers in the text."""
WORDS = "'weights', 'channels', 'N:M' such as '2:4', 'blocks RxC' such as 'blocks 4x1', or 'fan_in N'"


def parse_pattern(text: Any) -> Callable[[int, int], Layout]:
    """Return what divides a kernel of so many rows and columns by a pattern.

    Raises:
        SpecError: the text is no pattern.
    """
    for form, make in FORMS.items():
        match = re.fullmatch(form, text) if isinstance(text, str) else None
        numbers = [int(number) for number in match.groups()] if match else []
        if match and all(numbers) and not (make is _n_of_m and numbers[0] > numbers[1]):
            return lambda rows, columns: make(rows, columns, *numbers)
    raise SpecError(f"pruning pattern {shown(text)} is not known", remedy=f"expected {WORDS}")


def counts_itself(pattern: str) -> bool:
    """Say whether a pattern says how many weights stay, so that no sparsity does.

    Raises:
        SpecError: the text is no pattern.
    """
    return parse_pattern(pattern)(1, 1).most is not None


def largest(scores: Scores, group: Indices, counts: Indices) -> Kept:
    """Say for each unit whether it is among the first so many of its group, by score; of equal ones the first."""
    order = np.lexsort((-scores, group))
    starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(counts)))[:-1]])
    kept = np.zeros(len(scores), bool)
    kept[order] = np.arange(len(scores)) - starts[group[order]] < counts[group[order]]
    return kept


def chosen(scores: Scores, growth: Scores | None, group: Indices, counts: Indices, exchanged: float) -> Kept:
    """Return the units that stay: the largest, and for a fraction of them those with the largest growth instead.

    Args:
        scores: (units,).
        growth: (units,): how much the loss would fall if a unit grew; None exchanges nothing.
        group, counts: (units,), (groups,): as of `Layout`.
        exchanged: the fraction, 0 to 1.
    """
    if growth is None:
        return largest(scores, group, counts)
    grown = np.minimum((counts * exchanged).astype(np.int64), counts)
    kept = largest(scores, group, counts - grown)
    return kept | largest(np.where(kept, -np.inf, growth), group, grown)


def comparable(scores: Scores) -> Scores:
    """Return scores that can be compared over layers: each square over the sum of those that are no smaller (LAMP).

    Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, ICLR 2021.
    """
    order = np.argsort(scores, kind="stable")
    squares = np.square(scores[order])
    above = np.cumsum(squares[::-1])[::-1]
    relative = np.zeros(len(scores))
    relative[order] = squares / np.maximum(above, np.finfo(np.float64).tiny)
    return relative
