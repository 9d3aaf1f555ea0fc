"""How deep the FIFOs of branches must be: what each word's way takes, counted on the graph, cycle by cycle.

Every stage takes a word in the first cycle in which it can and gives it after a fixed time, so without back-pressure
the cycle of each word follows from those of the words before. A branch must hold what its faster way delivers before
the slower one has caught up: the largest number of words that entered and have not left. With FIFOs that deep no stage
waits for another, so none can wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.modules import Module, is_window, window_settings, words
from flow.graph import Conv, Input, IntGraph, Op, Pool

FRAMES = 3
"""Samples that follow each other without a gap; from the second on nothing changes."""
Cycles = NDArray[np.int64]


def branch_depths(graph: IntGraph, modules: Mapping[str, Module]) -> dict[tuple[str, str, int], int]:
    """Return the words each branch holds: (op, reader, place among the reader's inputs) -> depth.

    Only ops with several readers, the ports of the design included, have branches.
    """
    left: dict[str, Cycles] = {}  # when each word of an op leaves its FIFO
    taken: dict[tuple[str, str, int], Cycles] = {}
    for op in graph.ops:
        if isinstance(op, Input):
            left[op.name] = np.arange(FRAMES * words(op.shape), dtype=np.int64)
            continue
        arrivals = [left[name] for name in op.inputs]
        takes, gives = _schedule(op, graph, modules[op.name], arrivals)
        for number, (name, when) in enumerate(zip(op.inputs, takes, strict=True)):
            taken[name, op.name, number] = when
        left[op.name] = gives + 1  # the FIFO of two words behind each stage
    branches = {}
    for key, when in taken.items():
        readers = sum(op.inputs.count(key[0]) for op in graph.ops) + graph.outputs.count(key[0])
        if readers > 1:
            branches[key] = _most_waiting(left[key[0]], when) + 2
    return branches


def _most_waiting(arrives: Cycles, leaves: Cycles) -> int:
    """Return the largest number of words that have arrived and not left."""
    entered = np.arange(1, len(arrives) + 1)
    return int((entered - np.searchsorted(leaves, arrives, side="left")).max(initial=0))


def _schedule(op: Op, graph: IntGraph, module: Module, arrivals: list[Cycles]) -> tuple[list[Cycles], Cycles]:
    """Return when an op takes each word of its inputs and when it gives each of its own."""
    sources = graph.sources(op)
    if is_window(op):
        assert isinstance(op, Conv | Pool)
        return _window_schedule(op, sources[0], module, arrivals[0])
    if all(words(x.shape) == words(op.shape) for x in sources) and module.by_pixel:
        takes = _one_per_cycle(np.max(arrivals, axis=0))
        return [takes] * len(sources), takes + module.depth
    each = [_one_per_cycle(when) for when in arrivals]
    full = np.max([when.reshape(FRAMES, -1)[:, -1] + 1 for when in each], axis=0)
    count = words(op.shape)
    starts = _apart(full + module.depth + (count > 1), count)
    gives: Cycles = starts[:, None] + np.arange(count, dtype=np.int64)
    return each, gives.reshape(-1)


def _one_per_cycle(arrives: Cycles) -> Cycles:
    return _apart(arrives, 1)


def _apart(arrives: Cycles, gap: int) -> Cycles:
    """Return the first cycles, not before `arrives`, that are at least `gap` apart."""
    steps = np.arange(len(arrives)) * gap
    return np.asarray(np.maximum.accumulate(arrives - steps) + steps)


def _window_schedule(op: Conv | Pool, x: Op, module: Module, arrives: Cycles) -> tuple[list[Cycles], Cycles]:
    at = window_settings(op, x)
    rows, cols = at["PADDED_ROWS"], at["PADDED_COLS"]
    real = np.zeros((rows, cols), bool)
    real[at["TOP"] : at["TOP"] + at["ROWS"], at["LEFT"] : at["LEFT"] + at["COLS"]] = True
    ends = np.zeros((rows, cols), bool)
    ends[at["KR"] - 1 :: at["SR"], at["KC"] - 1 :: at["SC"]] = True
    everything = np.zeros(FRAMES * rows * cols, np.int64)
    inside = np.tile(real.reshape(-1), FRAMES)
    everything[inside] = arrives
    steps = _apart(everything, 1)
    return [steps[inside]], steps[np.tile(ends.reshape(-1), FRAMES)] + module.depth
