"""Streams of a graph: the kernels between which words flow, and the order in which each reads and writes.

A tensor in a stream is a sequence of words, one per position, each all codes of the last axis. A stream is read once,
so a tensor with several readers is cloned; the zeros around a convolution, and words of another size, are kernels of
their own. Every kernel reads and writes in steps whose order does not depend on the data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from flow.cost.schedules import gather_places, gather_schedule, pool_schedule, steps
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op
from flow.ir.windows import Shape

CLONES = 7
"""`clone_stream` of hls4ml 1.3.0 writes 2 to 7 streams."""


class Kind(Enum):
    """What a kernel is for."""

    PORT = "port"
    OP = "op"
    FLAT = "flat"
    CLONE = "clone"
    COPY = "copy"
    PAD = "pad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What reads streams and writes others; a stream has the name of what writes it.

    Attributes:
        name: of the op it computes, or one that no op has.
        kind: `PORT` brings an input in; `FLAT` is another name for a stream, whose words a Dense takes as one vector.
        op: the op whose codes it writes; of a `PAD`, the convolution that reads them.
        reads, writes: streams, in order.
        shape: of what it writes; the last axis is a word (of `FLAT`, all words together).
    """

    name: str
    kind: Kind
    op: Op
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Streams:
    """Kernels in dataflow order, and the streams that are the outputs of the graph, in its order."""

    kernels: tuple[Kernel, ...]
    ports: tuple[str, ...]


def streams(graph: IntGraph) -> Streams:
    """Return the kernels of a graph.

    Raises:
        UnsupportedError: an op is read by nothing.
    """
    return _Builder(graph, {op.name for op in graph.ops}).build()


def stream_roots(graph: IntGraph) -> dict[str, str]:
    """Return, by op, the op whose stream holds its codes: itself, or the source of a reshape that keeps the words.

    A matrix product takes words of any size.
    """
    roots: dict[str, str] = {}
    shapes = {op.name: op.shape for op in graph.ops}
    flat_only = {op.name: len(op.shape) == 1 and op.name not in graph.outputs for op in graph.ops}
    for op in graph.ops:
        for name in op.inputs:
            flat_only[name] &= isinstance(op, ops.Dense)
    for op in graph.ops:
        source = roots[op.inputs[0]] if isinstance(op, ops.Reshape) else op.name
        same = shapes[source][-1] == op.shape[-1]
        roots[op.name] = source if same or flat_only[op.name] else op.name
    return roots


@dataclass(slots=True)
class _Builder:
    """Collects kernels; `taken` are names in use, `taps` streams that wait for a reader."""

    graph: IntGraph
    taken: set[str]
    kernels: list[Kernel] = field(default_factory=list)
    taps: dict[str, list[str]] = field(default_factory=dict)

    def build(self) -> Streams:
        roots = stream_roots(self.graph)
        computing = [op for op in self.graph.ops if roots[op.name] == op.name]
        uses = Counter(roots[name] for op in computing for name in op.inputs)
        uses.update(roots[name] for name in self.graph.outputs)
        for op in computing:
            inputs = [self.taps[roots[name]].pop(0) for name in op.inputs]
            if isinstance(op, ops.Dense) and len(op.shape) == 1 and len(self.graph[roots[op.inputs[0]]].shape) > 1:
                shape: Shape = (len(op.weight.codes),)
                inputs = [self.add(self.fresh(f"flat_{op.name}"), Kind.FLAT, op, inputs, shape)]
            if isinstance(op, ops.Conv) and any(op.window.padding):
                shape = op.window.padded(self.graph.sources(op)[0].shape)
                inputs = [self.add(self.fresh(f"pad_{op.name}"), Kind.PAD, op, inputs, shape)]
            kind = Kind.PORT if isinstance(op, ops.Input) else Kind.COPY if isinstance(op, ops.Reshape) else Kind.OP
            self.add(op.name, kind, op, inputs, op.shape)
            self.taps[op.name] = self.clone(op, uses[op.name])
        ports = []
        for name in self.graph.outputs:
            tap, op = self.taps[roots[name]].pop(0), self.graph[name]
            if isinstance(self.graph[roots[name]], ops.Input):
                tap = self.add(self.fresh(f"{name}_port"), Kind.COPY, op, [tap], op.shape)
            ports.append(tap)
        return Streams(tuple(self.kernels), tuple(ports))

    def clone(self, op: Op, uses: int) -> list[str]:
        """Return as many streams of an op's codes as it has readers."""
        if uses == 0:
            raise UnsupportedError(
                f"op '{op.name}' is read by nothing",
                named=op.name,
                model=self.graph.name,
                remedy="in io_stream it would never be done: leave it out of the model, or use io_parallel",
            )
        taps = [op.name]
        while len(taps) < uses:
            source, count = taps.pop(), min(CLONES, uses - len(taps))
            name = self.fresh(f"clone_{op.name}")
            written = [self.fresh(f"{name}_{number}") for number in range(1, count + 1)]
            self.add(name, Kind.CLONE, op, [source], op.shape, written)
            taps += written
        return taps

    def add(self, name: str, kind: Kind, op: Op, reads: list[str], shape: Shape, writes: Sequence[str] = ()) -> str:
        written = tuple(writes or (name,))
        self.kernels.append(Kernel(name=name, kind=kind, op=op, reads=tuple(reads), writes=written, shape=shape))
        return name

    def fresh(self, name: str) -> str:
        chosen = unused(name, self.taken)
        self.taken.add(chosen)
        return chosen


def unused(name: str, taken: Set[str]) -> str:
    """Return `name`, with a number behind it if it is taken.

    Example:
        >>> unused("pad", {"pad", "pad_0"})
        'pad_1'
    """
    names = (name, *(f"{name}_{number}" for number in range(len(taken))))
    return next(candidate for candidate in names if candidate not in taken)


# -- the order in which a kernel reads and writes


@dataclass(frozen=True, slots=True)
class Process:
    """A kernel as the FIFOs see it, for one sample.

    Attributes:
        name: the kernel's.
        reads: streams; None for an input of the graph, which always has words.
        writes: streams between kernels; outputs of the graph always take words.
        steps: bit P set: read a word of input P; the bit above those: write a word to each of `writes`. All of a step
            happens at once, or waits.
    """

    name: str
    reads: tuple[str | None, ...]
    writes: tuple[str, ...]
    steps: tuple[int, ...]

    def late(self, by: int) -> tuple[int, ...]:
        """Return the steps of a pipeline that begins `by` steps before the first of them writes, and stalls as one."""
        write = 1 << len(self.reads)
        rest = (0,) * by
        reading = ((step & ~write) for step in (*self.steps, *rest))
        writing = ((step & write) for step in (*rest, *self.steps))
        return tuple(read | wrote for read, wrote in zip(reading, writing, strict=True))


def processes(graph: IntGraph, network: Streams) -> tuple[Process, ...]:
    """Return the kernels of a graph as processes, in dataflow order."""
    names: dict[str, str | None] = {}
    shapes: dict[str, Shape] = {}
    running = []
    for kernel in network.kernels:
        if kernel.kind is Kind.FLAT:
            names[kernel.name], shapes[kernel.name] = names[kernel.reads[0]], shapes[kernel.reads[0]]
            continue
        names |= {name: None if kernel.kind is Kind.PORT else name for name in kernel.writes}
        shapes |= dict.fromkeys(kernel.writes, kernel.shape)
        if kernel.kind is not Kind.PORT:
            order = _order(kernel, [shapes[name] for name in kernel.reads], graph)
            reads = tuple(names[name] for name in kernel.reads)
            writes = tuple(name for name in kernel.writes if name not in network.ports)
            running.append(Process(kernel.name, reads, writes, tuple(order.tolist())))
    return tuple(running)


def _order(kernel: Kernel, streamed: Sequence[Shape], graph: IntGraph) -> Codes:
    """Return the steps of a kernel that reads streams of tensors of these shapes."""
    op = kernel.op
    shapes = [source.shape for source in graph.sources(op)]
    words = [math.prod(shape[:-1]) for shape in streamed]
    if kernel.kind is Kind.PAD:
        assert isinstance(op, ops.Conv)  # a step writes a word of zeros, or passes one on
        return np.pad(np.full(shapes[0][:-1], 3), op.window.pads, constant_values=2).reshape(-1)
    if kernel.kind is Kind.COPY:
        return _regrouped(op, shapes, words)
    if kernel.kind is Kind.CLONE:
        return _word_by_word(op, shapes, words)
    return ORDERS[type(op)](op, shapes, words)


def _word_by_word(op: Op, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    """Return the steps that read a word of each input and write one."""
    count = math.prod(op.shape[:-1])
    return steps([np.arange(1, count + 1)] * len(words), words, count)


def _regrouped(op: Op, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    """Return the steps that put the codes of one stream into words of another size."""
    count, read = math.prod(op.shape[:-1]), math.prod(op.shape) // words[0]
    codes = np.arange(1, count + 1) * op.shape[-1]
    return steps([-(-codes // read)], words, count)


def _dense(op: ops.Dense, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    """Return the steps of a dense: of a vector, it reads all words before it writes its one."""
    return steps([np.array(words)], words, 1) if len(op.shape) == 1 else _word_by_word(op, shapes, words)


def _conv(op: ops.Conv, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    """Return the steps that write a position when the last word of its window has been read."""
    order = np.arange(1, words[0] + 1).reshape(op.window.padded(shapes[0])[:-1])
    ends = zip(op.window.size, op.window.strides, strict=True)
    last = order[tuple(slice(size - 1, None, step) for size, step in ends)]
    return steps([last.reshape(-1)], words, last.size)


def _gather(op: ops.Gather, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    source, place = gather_places(op.index, shapes)
    return gather_schedule(source, place, op.shape[-1], [shape[-1] for shape in shapes], words).steps


def _truth_table(op: ops.TruthTable, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    """Return the steps that read every word of each input before the first is written."""
    count = math.prod(op.shape[:-1])
    return steps([np.full(count, each) for each in words], words, count)


def _scan(op: ops.Scan, shapes: Sequence[Shape], words: Sequence[int]) -> Codes:
    """Return the steps of a scan: a row for each of its input, or the last behind all of them."""
    return _word_by_word(op, shapes, words) if op.every_row else steps([np.array(words)], words, 1)


ORDERS: Mapping[type[Op], Callable[..., Codes]] = {
    ops.Dense: _dense,
    ops.Conv: _conv,
    **dict.fromkeys((ops.BatchNorm, ops.Relu, ops.LeakyRelu, ops.Requantize), _word_by_word),
    **dict.fromkeys((ops.Merge, ops.Lookup, ops.Softmax), _word_by_word),
    **dict.fromkeys(
        (ops.MaxPool, ops.SumPool),
        lambda op, shapes, words: pool_schedule(op.window.places(shapes[0]), words[0]).steps,
    ),
    ops.Gather: _gather,
    ops.TruthTable: _truth_table,
    ops.Scan: _scan,
}
"""Steps in which an op reads and writes words, from the op, the shapes that it reads, and the words of each stream."""
OTHER_KERNELS: tuple[type[Op], ...] = (ops.Input, ops.Reshape)
"""Ops whose kernels are not of kind `OP`: a `PORT` has no process, a `COPY` the order of any copy."""
