"""How deep the FIFOs before joins and behind forks must be: the way of every word, counted cycle by cycle.

Every stage takes a word in the first cycle in which it can and gives it after a fixed time, so with FIFOs without end
the cycle of each word follows from those of the words before. An edge must hold the largest number of words that
entered and have not left, by two schedules:

- words enter the design one by one, each when all before have come to rest. Stages read and write in an order that does
  not depend on the data, so the network is determinate (Kahn 1974): if one schedule ends with FIFOs of this depth, none
  waits for ever.
- words enter in every cycle. With FIFOs of this depth none is full, so the branches do not slow down the design.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.verilog.op_modules import OpModule, words
from flow.ir.graph import Input, IntGraph, Op

FRAMES = 3
"""Samples that follow each other without a gap; from the second on nothing changes."""
SPARE = 2
"""Words that a FIFO holds besides: a word that enters is read a cycle later, and leaves a cycle after that."""
Cycles = NDArray[np.int64]
Edge = tuple[str, str, int]
"""An op, one that reads it, and at which place among its inputs."""


def readers(graph: IntGraph, name: str) -> int:
    """Return how many inputs of ops, and outputs of the design, an op's words go to."""
    return sum(op.inputs.count(name) for op in graph.ops) + graph.outputs.count(name)


def edge_depths(graph: IntGraph, modules: Mapping[str, OpModule]) -> dict[Edge, int]:
    """Return the depth of the FIFO of each edge that needs one: behind a fork, or before a join."""
    needed: dict[Edge, int] = {}
    for gap in (1, _rest(graph, modules)):
        for edge, (enters, leaves) in _run(graph, modules, gap)[1].items():
            needed[edge] = max(needed.get(edge, 0), _most_waiting(enters, leaves))
    return {
        edge: count + SPARE
        for edge, count in needed.items()
        if count > 1 and (readers(graph, edge[0]) > 1 or len(graph[edge[1]].inputs) > 1)
    }


def stream_timing(graph: IntGraph, modules: Mapping[str, OpModule]) -> tuple[int, int]:
    """Return latency, from the first word of a sample to its last result, and initiation interval of a stream."""
    given, _ = _run(graph, modules, 1, edge_depths(graph, modules))
    ends = np.max([given[name].reshape(FRAMES, -1)[:, -1] for name in graph.outputs], axis=0)
    return int(ends[0]), int(ends[-1] - ends[-2])


def op_timing(op: Op, graph: IntGraph, module: OpModule) -> tuple[int, int]:
    """Return latency and initiation interval of an op in a stream by itself, were its inputs to come in every cycle."""
    arrivals = [np.arange(FRAMES * words(x.shape), dtype=np.int64) for x in graph.sources(op)]
    ends = _schedule(op, graph, module, arrivals)[1].reshape(FRAMES, -1)[:, -1]
    return int(ends[0]), int(ends[-1] - ends[-2])


def _rest(graph: IntGraph, modules: Mapping[str, OpModule]) -> int:
    """Return cycles after which a word has no effect any more."""
    cycles = sum(module.depth for module in modules.values()) + 4 * len(graph.ops)
    cycles += sum(words(op.shape) for op in graph.ops)
    buffers = (module.line_buffer for module in modules.values() if module.line_buffer is not None)
    return cycles + sum(buffer["PADDED_ROWS"] * buffer["PADDED_COLS"] for buffer in buffers)


def _run(
    graph: IntGraph, modules: Mapping[str, OpModule], gap: int, with_fifo: Collection[Edge] = ()
) -> tuple[dict[str, Cycles], dict[Edge, tuple[Cycles, Cycles]]]:
    """Follow words that enter the design every `gap` cycles; the edges with a FIFO take a cycle more.

    Returns:
        When each word of an op leaves the FIFO behind it, and when each word of an edge enters it and leaves.
    """
    given: dict[str, Cycles] = {}
    edges = {}
    for op in graph.ops:
        if isinstance(op, Input):
            given[op.name] = np.arange(FRAMES * words(op.shape), dtype=np.int64) * gap
            continue
        arrivals = [given[x] + ((x, op.name, number) in with_fifo) for number, x in enumerate(op.inputs)]
        takes, gives = _schedule(op, graph, modules[op.name], arrivals)
        for number, (name, when) in enumerate(zip(op.inputs, takes, strict=True)):
            edges[name, op.name, number] = given[name], when
        given[op.name] = gives + 1
    return given, edges


def _most_waiting(arrives: Cycles, leaves: Cycles) -> int:
    """Return the largest number of words that have arrived and not left."""
    entered = np.arange(1, len(arrives) + 1)
    return int((entered - np.searchsorted(leaves, arrives, side="left")).max(initial=0))


def _schedule(op: Op, graph: IntGraph, module: OpModule, arrivals: list[Cycles]) -> tuple[list[Cycles], Cycles]:
    """Return when an op takes each word of its inputs and when it gives each of its own."""
    sources = graph.sources(op)
    if module.line_buffer is not None:
        return _window_schedule(module.line_buffer, module.depth, arrivals[0])
    if module.row_cycles:
        takes = _apart(arrivals[0], module.row_cycles)
        each = words(sources[0].shape) // words(op.shape)
        return [takes], (takes + module.depth)[each - 1 :: each]
    if all(words(x.shape) == words(op.shape) for x in sources) and module.by_pixel:
        takes = _apart(np.max(arrivals, axis=0), 1)
        return [takes] * len(sources), takes + module.depth
    takes_each, full = _collected(arrivals)
    count = words(op.shape)
    starts = _apart(full + module.depth + (count > 1), count)
    gives: Cycles = starts[:, None] + np.arange(count, dtype=np.int64)
    return takes_each, gives.reshape(-1)


def _collected(arrivals: list[Cycles]) -> tuple[list[Cycles], Cycles]:
    """Return when whole samples are taken, word by word, and from when on all inputs hold one.

    An input that holds a sample takes none of the next one until the others hold theirs too.
    """
    takes: list[list[Cycles]] = [[] for _ in arrivals]
    full = np.zeros(FRAMES, np.int64)
    for frame, parts in enumerate(zip(*(np.split(when, FRAMES) for when in arrivals), strict=True)):
        for when, before in zip(parts, takes, strict=True):
            before.append(_apart(np.maximum(when, full[frame - 1]) if frame else when, 1))
        full[frame] = max(each[-1][-1] for each in takes) + 1
    return [np.concatenate(each) for each in takes], full


def _apart(arrives: Cycles, gap: int) -> Cycles:
    """Return the first cycles, not before `arrives`, that are at least `gap` apart."""
    steps = np.arange(len(arrives)) * gap
    return np.asarray(np.maximum.accumulate(arrives - steps) + steps)


def _window_schedule(at: Mapping[str, int], depth: int, arrives: Cycles) -> tuple[list[Cycles], Cycles]:
    rows, cols = at["PADDED_ROWS"], at["PADDED_COLS"]
    real = np.zeros((rows, cols), bool)
    real[at["TOP"] : at["TOP"] + at["ROWS"], at["LEFT"] : at["LEFT"] + at["COLS"]] = True
    ends = np.zeros((rows, cols), bool)
    ends[at["KR"] - 1 :: at["SR"], at["KC"] - 1 :: at["SC"]] = True
    everything = np.full(FRAMES * rows * cols, -rows * cols)  # padding before the first word is over when it comes
    inside = np.tile(real.reshape(-1), FRAMES)
    everything[inside] = arrives
    steps = _apart(everything, 1)
    return [steps[inside]], steps[np.tile(ends.reshape(-1), FRAMES)] + depth
