"""When a stream kernel reads, keeps and writes words: constant tables, computed from what each output word needs.

Words come in order and leave in order. A result can be written as soon as the last word that it needs has been read,
and a word is dropped as soon as no result to come needs it; so a circular buffer as long as the longest wait is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow.ir.fixed import Codes
from flow.ir.windows import Shape


@dataclass(frozen=True, slots=True, eq=False)
class GatherSchedule:
    """How a Gather runs in a stream.

    Attributes:
        steps: int64, bit P set: read a word of input P; the bit above those: write a word.
        depths: words that wait, per input; their rows lie one input after another.
        row, column: int64, the shape of the output: where in the buffer its code lies; row -1 for a zero.
    """

    steps: Codes
    depths: tuple[int, ...]
    row: Codes
    column: Codes


def gather_places(index: Codes, shapes: Sequence[Shape]) -> tuple[Codes, Codes]:
    """Return, for each code of a Gather, which input it comes from (-1: a zero) and which of that input's codes it is.

    Args:
        index: as `Gather` has it.
        shapes: of its inputs.
    """
    flat = index.reshape(-1)
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    source = np.where(flat < 0, -1, np.searchsorted(starts, flat, side="right") - 1)
    return source, np.where(flat < 0, 0, flat - starts[source])


def gather_schedule(
    source: Codes, place: Codes, word: int, sizes: Sequence[int], words: Sequence[int]
) -> GatherSchedule:
    """Return the schedule of a Gather.

    Args:
        source: int64 (outputs,), which input each code comes from, -1 for a zero.
        place: int64 (outputs,), which of its codes.
        word: codes in a word of the output.
        sizes: codes in a word of each input.
        words: words of each input in a sample.
    """
    count = len(source) // word
    needed, oldest = [], []
    for number, size in enumerate(sizes):
        last = np.where(source == number, place // size + 1, 0).reshape(count, word).max(axis=1)
        first = np.where(source == number, place // size, words[number]).reshape(count, word).min(axis=1)
        needed.append(np.maximum.accumulate(last))
        oldest.append(np.minimum.accumulate(first[::-1])[::-1])
    depths = [max(1, int((a - b).max())) for a, b in zip(needed, oldest, strict=True)]
    starts = np.cumsum([0, *depths[:-1]])
    row, column = np.full(len(source), -1), np.zeros(len(source), np.int64)
    for number, size in enumerate(sizes):
        mine = source == number
        row[mine] = starts[number] + place[mine] // size % depths[number]
        column[mine] = place[mine] % size
    return GatherSchedule(steps(needed, words, count), tuple(depths), row, column)


def steps(needed: Sequence[Codes], words: Sequence[int], count: int) -> Codes:
    """Return the steps that read until every need of an output word is met, write it, and read what is left.

    Args:
        needed: per input, int64 (count,): how many of its words each output word needs, never falling.
        words: words of each input in a sample.
        count: words of the output.

    Returns:
        int64, bit P set: read a word of input P; the bit above those: write a word.
    """
    read = [0] * len(words)
    taken = []
    for k in range(count + 1):
        goal = list(words) if k == count else [int(need[k]) for need in needed]
        turns = max(want - have for want, have in zip(goal, read, strict=True))
        for turn in range(max(turns, 0 if k == count else 1)):
            step = 0
            for number, want in enumerate(goal):
                # an input with fewer words to read than others reads them first
                if read[number] < want:
                    read[number] += 1
                    step |= 1 << number
            if k < count and turn == max(turns, 1) - 1:
                step |= 1 << len(words)
            taken.append(step)
    return np.array(taken, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PoolSchedule:
    """How a pooling runs in a stream.

    Attributes:
        steps: int64, bit 0: read a word; bit 1: write one.
        depth: windows that are open at a time.
        targets: int64 (words, targets): 2 * row + 1 where the word is the first of a window, 2 * row where it is a
            later one, -1 for none.
    """

    steps: Codes
    depth: int
    targets: Codes


def pool_schedule(pixels: Codes, words: int) -> PoolSchedule:
    """Return the schedule of a pooling whose windows hold `pixels` (windows, window size), -1 for padding."""
    count = len(pixels)
    first = np.where(pixels < 0, words, pixels).min(axis=1)
    last = pixels.max(axis=1)
    needed = np.maximum.accumulate(last + 1)
    # when window k is written, the windows that have begun go up to the last one whose first pixel is below needed[k]
    begun = np.searchsorted(np.minimum.accumulate(first[::-1])[::-1], needed, side="left")
    depth = int((begun - np.arange(count)).max())
    rows_of: list[list[int]] = [[] for _ in range(words)]
    for k, window in enumerate(pixels):
        for pixel in window[window >= 0]:
            rows_of[pixel].append(2 * (k % depth) + (pixel == first[k]))
    targets = np.full((words, max(1, *map(len, rows_of))), -1, np.int64)
    for pixel, rows in enumerate(rows_of):
        targets[pixel, : len(rows)] = rows
    return PoolSchedule(steps([needed], [words], count), depth, targets)
