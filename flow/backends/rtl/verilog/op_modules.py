"""The Verilog of an op that computes on whole tensors: `(clk, ce, x, y)`, y following x after `depth` cycles of ce.

`x` holds the inputs of the op one after another, the first one lowest; a tensor's first element is lowest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from flow.backends.rtl.netlists.footprint import used
from flow.backends.rtl.netlists.needs import Needs
from flow.backends.rtl.netlists.pipelining import Clock, Pipeline, pipeline
from flow.backends.rtl.verilog.kernels import PlacedNetlist, kernels
from flow.backends.rtl.verilog.netlist_module import netlist_module
from flow.backends.rtl.verilog.printer import assign, concat, instance, literal, module, port, repeated
from flow.ir.fixed import FixedFormat
from flow.ir.graph import IntGraph, Op
from flow.ir.windows import Shape


@dataclass(frozen=True, slots=True)
class OpModule:
    """An op as Verilog.

    Attributes:
        name: the module's.
        texts: module name -> Verilog, this one and those it instantiates.
        depth: cycles from input to output of its pipeline.
        needs: counts what it is made of, for the estimate; takes about as long as all the rest.
        longest: of its pipelines, the one with the longest path; None if it has none.
        by_pixel: in a stream: it gives a word for each word it takes, or for a window; else it collects frames.
        row_cycles: in a stream: from a word to the next, where a word waits for states of the one before; else 0.
        line_buffer: in a stream: parameters of the `po2flow_window` that it stands behind, if it does.
    """

    name: str
    texts: dict[str, str]
    depth: int
    needs: Callable[[], Needs]
    longest: Pipeline | None
    by_pixel: bool = True
    row_cycles: int = 0
    line_buffer: Mapping[str, int] | None = None


def tensor_bits(op: Op) -> int:
    """Return the bits of a whole tensor."""
    return math.prod(op.shape) * op.format.width


def words(shape: Shape) -> int:
    """Return how many words a tensor takes in a stream: its pixels."""
    return math.prod(shape[:-1])


def word_bits(op: Op) -> int:
    """Return the bits of one word of an op's output."""
    return tensor_bits(op) // words(op.shape)


def tensor_module(op: Op, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """Return an op on whole tensors, every position at once."""
    sources, placed = graph.sources(op), kernels(op, graph)
    pipes = [pipeline(kernel.net, clock) for kernel in placed]
    depth = max(pipe.depth for pipe in pipes)
    pipes = [replace(pipe, depth=depth) for pipe in pipes]
    needs, longest = partial(_needs, op, placed, pipes), max(pipes, key=lambda pipe: pipe.path_ns)
    elements = _elements(sources)
    if len(placed) == 1 and np.array_equal(placed[0].index, np.arange(len(elements))[None]):
        formats = [fmt for _, fmt in elements]
        text = netlist_module(name, placed[0].net, pipes[0], formats, [op.format] * len(placed[0].net.outputs))
        return OpModule(name, {name: text}, depth, needs, longest)
    texts, body = dict[str, str](), ""
    for number, (kernel, pipe) in enumerate(zip(placed, pipes, strict=True)):
        size = len(kernel.net.outputs) * op.format.width
        inner = f"{name}_kernel{number if len(placed) > 1 else ''}"
        shifted = all(node.kind in ("input", "const", "shl") for node in kernel.net.nodes)
        wires = depth == 0 and shifted and len(kernel.net.outputs) == 1
        formats = _formats(kernel, sources)
        if not wires:
            texts[inner] = netlist_module(inner, kernel.net, pipe, formats, [op.format] * len(kernel.net.outputs))
        for place, row in zip(kernel.places.tolist(), kernel.index.tolist(), strict=True):
            y, starts = f"y[{place * size} +: {size}]", [elements[read][0] if read >= 0 else None for read in row]
            if wires:
                body += assign(y, _wire(kernel, starts, formats, op.format))
                continue
            read = [
                literal(kernel.fill, fmt.width) if start is None else f"x[{start} +: {fmt.width}]"
                for start, fmt in zip(starts, formats, strict=True)
            ]
            body += instance(inner, f"at_{place}", {"clk": "clk", "ce": "ce", "x": concat(read), "y": y})
    total = sum(tensor_bits(x) for x in sources)
    ports = [port("input", "clk"), port("input", "ce"), port("input", "x", total), port("output", "y", tensor_bits(op))]
    return OpModule(name, {**texts, name: module(name, ports, body)}, depth, needs, longest)


def _needs(op: Op, placed: Sequence[PlacedNetlist], pipes: Sequence[Pipeline]) -> Needs:
    uses = (
        used(kernel.net, pipe, op.format.width, kernel.index, kernel.fill)
        for kernel, pipe in zip(placed, pipes, strict=True)
    )
    return Needs(parts=sum(uses, Counter[str]()))


def _elements(sources: Sequence[Op]) -> list[tuple[int, FixedFormat]]:
    """Return first bit and format of every element of the inputs, one input after another."""
    formats = [x.format for x in sources for _ in range(math.prod(x.shape))]
    starts = np.cumsum([0, *(fmt.width for fmt in formats)])
    return list(zip(starts.tolist(), formats, strict=False))


def _formats(kernel: PlacedNetlist, sources: Sequence[Op]) -> list[FixedFormat]:
    """Return the format of each input of a kernel; one of only padding has the first input's."""
    ends = np.cumsum([math.prod(x.shape) for x in sources])
    largest = kernel.index.max(axis=0, initial=-1)
    return [sources[int(np.searchsorted(ends, max(i, 0), side="right"))].format for i in largest.tolist()]


def _wire(kernel: PlacedNetlist, starts: Sequence[int | None], formats: Sequence[FixedFormat], fmt: FixedFormat) -> str:
    """Return the one output of a netlist that only shifts and extends one of its inputs, or is a constant.

    `starts` has the first bit of each input in `x`, None for padding.
    """
    net = kernel.net
    node, shift = net.nodes[net.outputs[0]], 0
    while node.kind == "shl":
        shift, node = shift + node.data, net.nodes[node.args[0]]
    if node.kind == "const":
        return literal(node.low << shift, fmt.width)
    start, x = starts[node.data], formats[node.data]
    below, missing = [literal(0, shift)] if shift else [], fmt.width - x.width - shift
    if start is None:
        return concat([*below, literal(kernel.fill, x.width + missing)])
    sign = repeated(f"x[{start + x.width - 1}]", missing) if x.signed else literal(0, missing)
    return concat([*below, f"x[{start} +: {x.width}]", *([sign] if missing else [])])
