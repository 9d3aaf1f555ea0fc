"""Read a generated project back and hold it against the graph: calls, wiring, types, windows, and every weight.

What is read is the text that a compiler or a synthesis tool reads. Weights stand in a project twice, in `w2.h` for
synthesis and in `w2.txt` for simulation; both are checked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from flow.backends.hls4ml.fifo_depths import read_depths
from flow.backends.hls4ml.kernels import CONFIG, KERNELS, kernel
from flow.backends.hls4ml.layers import AXES, PADS, needs_kernel, traced
from flow.backends.hls4ml.po2_weights import is_stored_po2, stored_codes, value_exponent
from flow.backends.hls4ml.project_text import Call, ProjectText, read_text
from flow.cost.fifos import fifos
from flow.cost.streams import streams
from flow.errors import EmitError, UnsupportedError
from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding, parse_cpp
from flow.ir.graph import Conv, Dense, IntGraph, MatMul, MaxPool, Op, Pool, Reshape
from flow.ir.po2 import split
from flow.project import Project
from flow.target import Target

CARRIERS = ("clone_stream", "copy_codes", "zeropad1d_cl", "zeropad2d_cl")
"""Calls between ops: they move codes and change none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the project says something else than the graph."""

    op: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"op '{self.op}': {self.what} is {self.found}, the graph says {self.expected}"


def check_project(project: Project, graph: IntGraph, target: Target) -> None:
    """Raise EmitError with the first finding, if there is any."""
    for finding in findings(project, graph, target):
        raise EmitError(
            f"the generated project is not the graph: {finding}", model=graph.name, remedy="this is a bug, report it"
        )


def findings(project: Project, graph: IntGraph, target: Target) -> Iterator[Finding]:
    """Yield every difference between a project and its graph, in dataflow order."""
    text = read_text(project, graph.name)
    found = [call.op for call in text.calls if call.function not in CARRIERS]
    expected = [op.name for op in traced(graph)]
    if found != expected:
        yield Finding(graph.name, "the sequence of calls", str(expected), str(found))
        return
    count = len(graph.inputs) + len(graph.outputs)
    if len(text.ports) != count:
        yield Finding(graph.name, "the number of ports", str(count), str(len(text.ports)))
        return
    for port, (kind, _) in zip(graph.inputs, text.ports, strict=False):
        yield from _type(port, "input type", port.format, text.element(kind))
    yield from _wiring(text, graph, target)
    for op in traced(graph):
        call = next(call for call in text.calls if call.op == op.name)
        yield from _call(project, text, op, call, graph, target)
    if target.io_type == "io_stream":
        yield from _depths(project, text, graph)


def _call(
    project: Project, text: ProjectText, op: Op, call: Call, graph: IntGraph, target: Target
) -> Iterator[Finding]:
    """Yield what is wrong about one op's call, its types and its configuration."""
    stream = target.io_type == "io_stream"
    function = _function(op, stream)
    if call.function != function:
        yield Finding(op.name, "the call", function, call.function)
    yield from _type(op, "output type", op.format, text.element(call.output_type), op.rounding, op.overflow)
    if needs_kernel(op, stream):
        config = kernel(op, graph, stream).config.replace(CONFIG, call.config)
        yield from _text(op, config, text.configs.get(call.config, ""))
        return
    numbers = text.numbers.get(call.config, {})
    yield from _numbers(op, _shape_numbers(op, graph, stream), numbers)
    if isinstance(op, MatMul):
        yield from _matmul(project, text, op, call, target)


def _matmul(project: Project, text: ProjectText, op: MatMul, call: Call, target: Target) -> Iterator[Finding]:
    assert op.accumulator is not None
    # a convolution's sums are made in the configuration of its matrix product
    config = text.aliases.get(call.config, {})
    name = config.get("mult_config", call.config)
    config = text.aliases.get(name, config)
    n_in, n_out = op.matrix().shape
    product = {"n_in": n_in, "n_out": n_out, "reuse_factor": target.reuse(op.name)}
    yield from _numbers(op, product, text.numbers.get(name, {}))
    yield from _type(op, "accumulator", op.accumulator, text.element(config.get("accum_t", "")))
    yield from _type(op, "bias type", op.bias_format, text.element(config.get("bias_t", "")))
    yield from _values(project, op, "bias", call.arguments[3], op.bias, op.bias_format)
    yield from _weights(project, op, call, text, config.get("weight_t", ""), target)


def _function(op: Op, stream: bool) -> str:
    """Return the function that computes an op; hls4ml has its own for windows of one pixel."""
    if needs_kernel(op, stream):
        return KERNELS[type(op)][0]
    if isinstance(op, MaxPool):
        return "pooling2d_cl"
    if len(op.shape) == 1:
        return "dense"
    pointwise = "pointwise_" if isinstance(op, Dense) or (isinstance(op, Conv) and math.prod(op.window) == 1) else ""
    return f"{pointwise}conv_{len(op.shape) - 1}d_cl"


def _shape_numbers(op: Op, graph: IntGraph, stream: bool) -> dict[str, int]:
    """Return what hls4ml's configuration of an op says about windows."""
    if isinstance(op, Dense):
        axes = len(op.shape) - 1
        shape, window, strides, padding = (*op.shape[:-1], len(op.weight)), (1,) * axes, (1,) * axes, (0, 0) * axes
    else:
        assert isinstance(op, Conv | Pool)
        shape, window, strides, padding = graph.sources(op)[0].shape, op.window, op.strides, op.padding
    if not window:
        return {}
    if stream:
        shape, padding = _grown(shape, padding), (0,) * len(padding)
    numbers = {"n_filt": op.shape[-1]} | ({"n_chan": shape[-1]} if isinstance(op, MatMul) else {})
    prefix = "filt" if isinstance(op, MatMul) else "pool"
    for i, axis in enumerate(AXES[len(window)]):
        numbers |= {
            f"in_{axis}": shape[i],
            f"out_{axis}": op.shape[i],
            f"{prefix}_{axis}": window[i],
            f"stride_{axis}": strides[i],
            **dict(zip(PADS[axis], padding[2 * i : 2 * i + 2], strict=True)),
        }
    return numbers


def _grown(shape: tuple[int, ...], padding: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape with its padding."""
    pads = zip(padding[::2], padding[1::2], strict=True)
    return (*(size + before + after for size, (before, after) in zip(shape, pads, strict=False)), shape[-1])


def _numbers(op: Op, expected: Mapping[str, int], found: Mapping[str, int]) -> Iterator[Finding]:
    for name, value in expected.items():
        if found.get(name) != value:
            yield Finding(op.name, f"the constant {name}", str(value), str(found.get(name, "nothing")))


def _text(op: Op, expected: str, found: str) -> Iterator[Finding]:
    """Compare the configuration of a kernel of ours, line by line."""
    lines, others = expected.splitlines(), found.splitlines()
    if len(lines) != len(others):
        yield Finding(op.name, "the number of lines of its configuration", str(len(lines)), str(len(others)))
    for line, other in zip(lines, others, strict=False):
        if line != other:
            yield Finding(op.name, "the configuration", repr(line.strip()), repr(other.strip()))


def _depths(project: Project, text: ProjectText, graph: IntGraph) -> Iterator[Finding]:
    """Yield the FIFOs in which too few words have room; more do no harm."""
    written = {kernel.name: kernel.writes for kernel in streams(graph).kernels}
    pairs = [zip(written.get(call.op, ()), call.writes, strict=False) for call in text.calls]
    names = {stream: variable for pair in pairs for stream, variable in pair}
    depths = read_depths(project.text(f"firmware/{graph.name}.cpp"))
    for fifo in fifos(graph):
        variable = names.get(fifo.stream, "nothing")
        depth = depths.get(variable, 0)
        if depth < fifo.needed:
            yield Finding(fifo.op, f"the depth of the FIFO {variable}", f"at least {fifo.needed}", str(depth))


@dataclass(slots=True)
class _Wires:
    """Which codes each variable holds, and how often it is read."""

    holds: dict[str, tuple[str, tuple[int, ...]]]
    reads: Counter[str] = field(default_factory=Counter)

    def read(self, variable: str) -> tuple[str, tuple[int, ...]]:
        self.reads[variable] += 1
        return self.holds.get(variable, ("nothing", ()))


def _wiring(text: ProjectText, graph: IntGraph, target: Target) -> Iterator[Finding]:
    """Follow the codes from port to port."""
    stream = target.io_type == "io_stream"
    ports = [variable for _, variable in text.ports]
    inputs, outputs = ports[: len(graph.inputs)], ports[len(graph.inputs) :]
    wires = _Wires({name: (op.name, ()) for op, name in zip(graph.inputs, inputs, strict=True)})
    names: dict[str, str] = {}
    for statement in text.statements:
        if statement.alias is not None:
            names[statement.alias[0]] = statement.alias[1]
            continue
        call = statement.call
        assert call is not None
        held = [wires.read(_resolve(names, variable)) for variable in call.reads]
        if call.function in CARRIERS:
            yield from _carrier(text, call, held[0], graph)
            holds = _padded(text, call, held[0])
        else:
            op = graph[call.op]
            padding = op.padding if stream and isinstance(op, Conv) and any(op.padding) else ()
            expected = [(_source(graph, name), padding) for name in op.inputs]
            if held != expected:
                yield Finding(op.name, "what it reads", str(expected), str(held))
            holds = (op.name, ())
            if stream and text.word(call.output_type) != op.shape[-1]:
                word = str(text.word(call.output_type))
                yield Finding(op.name, "the size of a word", str(op.shape[-1]), word)
        wires.holds.update(dict.fromkeys(call.writes, holds))
    for name, variable in zip(graph.outputs, outputs, strict=True):
        held_there = wires.read(variable)
        if held_there != (_source(graph, name), ()):
            yield Finding(name, "what its port gives", _source(graph, name), str(held_there))
    for variable, (name, _) in wires.holds.items():
        if stream and wires.reads[variable] != 1:
            yield Finding(name, f"how often {variable} is read", "1", str(wires.reads[variable]))


def _resolve(names: Mapping[str, str], variable: str) -> str:
    while variable in names:
        variable = names[variable]
    return variable


def _source(graph: IntGraph, name: str) -> str:
    """Return the op that makes the codes of `name`: reshapes only pass them on."""
    op = graph[name]
    return _source(graph, op.inputs[0]) if isinstance(op, Reshape) else name


def _carrier(text: ProjectText, call: Call, held: tuple[str, tuple[int, ...]], graph: IntGraph) -> Iterator[Finding]:
    """Check a call that moves codes: the type stays, and it moves all of them."""
    op = graph[held[0]] if held[0] != "nothing" else graph.ops[0]
    result = text.element(call.types[1])
    if _format(result) != op.format:
        yield Finding(op.name, f"the type that {call.op} carries", op.format.cpp(), result)
    size = math.prod(op.shape)
    if call.config:
        numbers = text.numbers.get(call.config, {})
        sizes = [numbers.get(f"in_{axis}", 1) for axis in AXES[2]]
        grown = {
            f"out_{axis}": numbers.get(f"in_{axis}", 0) + sum(numbers.get(end, 0) for end in PADS[axis])
            for axis in AXES[2 if "2d" in call.function else 1]
        }
        yield from _numbers(op, grown, numbers)
        moved = math.prod(sizes) * numbers.get("n_chan", 0)
    else:
        moved = int(call.types[2])
    if moved != size:
        yield Finding(op.name, f"the number of codes that {call.op} carries", str(size), str(moved))


def _padded(text: ProjectText, call: Call, held: tuple[str, tuple[int, ...]]) -> tuple[str, tuple[int, ...]]:
    """Return what a carrier writes: the same codes, in zeros after a padding."""
    if not call.config:
        return held
    numbers = text.numbers.get(call.config, {})
    axes = AXES[2 if "2d" in call.function else 1]
    return held[0], tuple(numbers.get(end, -1) for axis in axes for end in PADS[axis])


def _format(text: str) -> FixedFormat | None:
    try:
        return parse_cpp(text)[0]
    except (ValueError, UnsupportedError):  # no type of ours, or one of a width that we do not have
        return None


def _type(
    op: Op,
    what: str,
    fmt: FixedFormat,
    text: str,
    rounding: Rounding = Rounding.TRN,
    overflow: Overflow = Overflow.WRAP,
) -> Iterator[Finding]:
    try:
        same = parse_cpp(text) == (fmt, rounding, overflow)
    except (ValueError, UnsupportedError):  # no type of ours, or one of a width that we do not have
        same = False
    if not same:
        yield Finding(op.name, f"the {what}", fmt.cpp(rounding, overflow), text)


def _weights(
    project: Project, op: MatMul, call: Call, text: ProjectText, weight_type: str, target: Target
) -> Iterator[Finding]:
    weight = op.matrix()
    if target.strategy == "Resource":
        weight = weight.T  # hls4ml stores them output by output for this strategy
    if target.strategy == "Resource" and is_stored_po2(op):
        stored = split(op.weight)
        expected = f"nnet::po2_weight<{stored.exponent_bits}, {value_exponent(op, stored)}>"
        if text.types.get(weight_type) != expected:
            yield Finding(op.name, "the weight type", expected, text.types.get(weight_type, "nothing"))
        codes = stored_codes(split(weight))
        yield from _values(project, op, "weight", call.arguments[2], codes, FixedFormat(False, 62, 0))
    else:
        yield from _type(op, "weight type", op.weight_format, text.element(weight_type))
        yield from _values(project, op, "weight", call.arguments[2], weight, op.weight_format)


def _values(project: Project, op: Op, what: str, variable: str, codes: Codes, fmt: FixedFormat) -> Iterator[Finding]:
    """Compare the numbers of a weight file, exactly, in both of its forms."""
    expected = codes.reshape(-1)
    for path, pattern in ((f"{variable}.h", r"= \{(.*?)\};"), (f"{variable}.txt", r"(.*)")):
        match = re.search(pattern, project.text(f"firmware/weights/{path}"), flags=re.DOTALL)
        numbers = [Fraction(text.strip()) for text in match.group(1).split(",")] if match else []
        scaled = [number * Fraction(2) ** fmt.frac_bits for number in numbers]
        wrong = [index for index, (a, b) in enumerate(zip(scaled, expected, strict=False)) if a != int(b)]
        if len(scaled) != len(expected):
            yield Finding(op.name, f"the number of values in {path}", str(len(expected)), str(len(scaled)))
        elif wrong:
            first = wrong[0]
            index = tuple(int(i) for i in np.unravel_index(first, codes.shape))
            where = f"{what} {index} in {path}"
            yield Finding(op.name, where, f"code {expected[first]}", f"code {scaled[first]}")
