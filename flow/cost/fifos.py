"""How deep the FIFO of each stream must be, so that no schedule of the kernels ends in a deadlock.

Kernels whose steps do not depend on data, and FIFOs that block when full or empty, are a Kahn network: whether it
comes to its end depends on the depths alone, never on who runs when. So one schedule that ends within the depths
proves them, and the schedule that is simulated here keeps every stream but the inputs of joins at one word.
docs/streams.md derives it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from flow.cost.cost_rules import SMALL_MEMORY_BITS
from flow.cost.streams import Kind, Process, processes, streams
from flow.ir.graph import IntGraph

PIPELINE_STEPS = 16
"""So many steps a pipeline may have begun before the first of them writes: an assumption, see docs/streams.md."""
SHIFT_REGISTER_DEPTH = 32
"""A LUT holds so many words of one bit (SRL32: UG474, UG574); a shallower FIFO takes no fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fifo:
    """The FIFO of one stream between kernels.

    Attributes:
        stream: its name.
        op: the op whose codes it carries.
        word_bits: bits of a word.
        words: words of a sample.
        needed: the depth below which some pipeline of at most `PIPELINE_STEPS` steps may deadlock.
    """

    stream: str
    op: str
    word_bits: int
    words: int
    needed: int

    @property
    def depth(self) -> int:
        """The depth to build: what is needed, two to go on while a word is read, and what costs no more; no sample
        needs more than all of its words."""
        free = min(SHIFT_REGISTER_DEPTH, SMALL_MEMORY_BITS // self.word_bits)
        return min(self.words, max(self.needed, 2, free))


def fifos(graph: IntGraph) -> tuple[Fifo, ...]:
    """Return the FIFOs of a graph, in dataflow order.

    Raises:
        UnsupportedError: an op is read by nothing.

    Example:
        >>> from flow.ir.fixed import Cast, FixedFormat
        >>> from flow.ir.graph import Input, Relu
        >>> fmt = FixedFormat(True, 3, 0)
        >>> ops = [Input(name="x", inputs=(), shape=(9, 2), cast=Cast(fmt))]
        >>> ops += [Relu(name=b, inputs=(a,), shape=(9, 2), cast=Cast(fmt)) for a, b in (("x", "y"), ("y", "z"))]
        >>> [(fifo.stream, fifo.needed, fifo.depth) for fifo in fifos(IntGraph(name="net", ops=tuple(ops)))]
        [('y', 1, 9)]
    """
    network = streams(graph)
    needed = needed_depths(processes(graph, network))
    writers = {name: kernel for kernel in network.kernels for name in kernel.writes}
    built = []
    for name, depth in needed.items():
        kernel = writers[name]
        op = graph.sources(kernel.op)[0] if kernel.kind is Kind.PAD else kernel.op
        bits, words = kernel.shape[-1] * op.format.width, math.prod(kernel.shape[:-1])
        built.append(Fifo(stream=name, op=op.name, word_bits=bits, words=words, needed=depth))
    return tuple(built)


def needed_depths(running: Sequence[Process], pipeline_steps: int = PIPELINE_STEPS) -> dict[str, int]:
    """Return, by stream, the depth that is enough for pipelines of any length up to `pipeline_steps`.

    A stream whose reader has no other input needs one word. At a join, words wait on one input while the others are
    late: latest where every kernel is as late as it can be but those that feed this input.
    """
    depths = {name: 1 for process in running for name in process.writes}
    for part in _parts(running):
        joined = [name for process in part for name in _inputs(process) if len(_inputs(process)) > 1]
        if not joined:
            continue
        depths |= simulate(part).peaks
        for name in joined if pipeline_steps else ():
            before = _ancestors(part, name)
            late = {process.name: pipeline_steps for process in part if process.name not in before}
            depths[name] = max(depths[name], simulate(part, late=late).peaks[name])
    return depths


def _parts(running: Sequence[Process]) -> Iterator[list[Process]]:
    """Cut the network wherever a single stream joins what is before to what is after; that stream is left out."""
    part: list[Process] = []
    unread: set[str] = set()
    for process in running:
        part.append(process)
        unread = (unread | set(process.writes)) - set(process.reads)
        if len(unread) <= 1:
            written = {name for member in part for name in member.writes} - unread
            yield [
                Process(
                    member.name,
                    tuple(name if name in written else None for name in member.reads),
                    tuple(name for name in member.writes if name in written),
                    member.steps,
                )
                for member in part
            ]
            part = []


def _inputs(process: Process) -> list[str]:
    return [name for name in process.reads if name is not None]


def _ancestors(running: Sequence[Process], stream: str) -> set[str]:
    """Return the processes that a stream's words come through."""
    ancestors: set[str] = set()
    wanted = {stream}
    for process in reversed(running):
        if wanted & set(process.writes):
            ancestors.add(process.name)
            wanted.update(_inputs(process))
    return ancestors


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulation went.

    Attributes:
        peaks: by stream, the most words that were in it.
        waiting: what each process that never ended waits for; none of them: no deadlock.
    """

    peaks: dict[str, int]
    waiting: tuple[str, ...]


def simulate(
    running: Sequence[Process], depths: Mapping[str, int] | None = None, late: Mapping[str, int] | None = None
) -> Outcome:
    """Run all processes through one sample; it leaves the streams empty, so any number of samples goes the same way.

    Of the processes that can take a step, the one nearest to the outputs does. Those that read inputs of the graph
    wait until no other can, and then until one is needed.

    Args:
        running: in dataflow order.
        depths: by stream; without them no FIFO is ever full.
        late: by process, the steps that its pipeline begins before it writes.
    """
    return _Simulation(running, depths, late or {}).run()


class _Simulation:
    """State of a simulation; processes and streams are numbers."""

    def __init__(self, running: Sequence[Process], depths: Mapping[str, int] | None, late: Mapping[str, int]) -> None:
        self.running = running
        self.streams = [name for process in running for name in process.writes]
        number = {name: place for place, name in enumerate(self.streams)}
        self.steps = [process.late(late.get(process.name, 0)) for process in running]
        self.reads = [[None if name is None else number[name] for name in process.reads] for process in running]
        self.writes = [[number[name] for name in process.writes] for process in running]
        self.writer = {stream: place for place, written in enumerate(self.writes) for stream in written}
        self.reader = {stream: place for place, read in enumerate(self.reads) for stream in read if stream is not None}
        self.depth = None if depths is None else [depths[name] for name in self.streams]
        self.level = [0] * len(self.streams)
        self.peak = [0] * len(self.streams)
        self.position = [0] * len(running)

    def run(self) -> Outcome:
        first = {place for place, read in enumerate(self.reads) if None in read}
        ready = [-place for place in range(len(self.running)) if place not in first]
        while True:
            while ready:
                place = -heappop(ready)
                if self.step(place):
                    near = [place, *(self.reader[stream] for stream in self.writes[place])]
                    near += [self.writer[stream] for stream in self.reads[place] if stream is not None]
                    for other in near:
                        if other not in first and -other not in ready:
                            heappush(ready, -other)
            started = next((place for place in self.wanted(first) if self.step(place)), None)
            if started is None:
                break
            ready = [-self.reader[stream] for stream in self.writes[started] if self.reader[stream] not in first]
            ready += [-self.writer[s] for s in self.reads[started] if s is not None and self.writer[s] not in first]
        waiting = tuple(self.complaint(place) for place in range(len(self.running)) if not self.done(place))
        return Outcome(dict(zip(self.streams, self.peak, strict=True)), waiting)

    def done(self, place: int) -> bool:
        return self.position[place] == len(self.steps[place])

    def missing(self, place: int) -> int | None:
        """Return a stream whose words the next step of a process waits for."""
        step = self.steps[place][self.position[place]]
        for bit, stream in enumerate(self.reads[place]):
            if stream is not None and step >> bit & 1 and not self.level[stream]:
                return stream
        return None

    def full(self, place: int) -> int | None:
        """Return a stream without room for the next step of a process."""
        writes = self.steps[place][self.position[place]] >> len(self.reads[place]) & 1
        if self.depth is None or not writes:
            return None
        return next((stream for stream in self.writes[place] if self.level[stream] >= self.depth[stream]), None)

    def step(self, place: int) -> bool:
        """Take the next step of a process, if it can be taken."""
        if self.done(place) or self.missing(place) is not None or self.full(place) is not None:
            return False
        step = self.steps[place][self.position[place]]
        for bit, stream in enumerate(self.reads[place]):
            if stream is not None and step >> bit & 1:
                self.level[stream] -= 1
        if step >> len(self.reads[place]) & 1:
            for stream in self.writes[place]:
                self.level[stream] += 1
                self.peak[stream] = max(self.peak[stream], self.level[stream])
        self.position[place] += 1
        return True

    def wanted(self, first: set[int]) -> list[int]:
        """Return the processes at the inputs, first the one that the last process that has not ended waits for."""
        place = next((place for place in reversed(range(len(self.running))) if not self.done(place)), None)
        while place is not None and place not in first:
            stream = self.missing(place)
            place = None if stream is None else self.writer[stream]
        return ([] if place is None else [place]) + sorted(first)

    def complaint(self, place: int) -> str:
        missing, full = self.missing(place), self.full(place)
        name = self.running[place].name
        if missing is not None:
            return f"'{name}' waits for a word of '{self.streams[missing]}'"
        assert full is not None and self.depth is not None
        return f"'{name}' waits for room in '{self.streams[full]}' (depth {self.depth[full]})"
