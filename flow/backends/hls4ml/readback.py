"""Read a generated project back and hold it against the graph: calls, wiring, types, windows, and every weight.

What is read is the text that a compiler or a synthesis tool reads. Weights stand in a project twice, in `w2.h` for
synthesis and in `w2.txt` for simulation; both are checked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from flow.backends.hls4ml.dialects import DIALECTS, Dialect, spelled
from flow.backends.hls4ml.extension import stored_codes, value_exponent
from flow.backends.hls4ml.kernels import CONFIG, KERNELS, kernel
from flow.backends.hls4ml.layers import AXES, PADS, WITHOUT_LAYER, is_convolution, needs_kernel, traced
from flow.backends.hls4ml.project_text import Call, ProjectText, carries, read_depths, read_text
from flow.cost.fifos import fifos
from flow.cost.streams import Kind, streams
from flow.errors import EmitError
from flow.ir.fixed import Cast, Constant, FixedFormat
from flow.ir.graph import BatchNorm, Conv, Dense, Input, IntGraph, MatMul, MaxPool, Op, Pool, Relu, Requantize, Reshape
from flow.ir.po2 import is_po2, split
from flow.ir.windows import Window
from flow.project import Project
from flow.target import Target

STORED = FixedFormat(False, 62, 0)
"""Holds every code of stored exponents, which are whole numbers in a weight's files."""


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
    dialect = DIALECTS[target.backend]
    text = read_text(project, dialect)
    computing = [call for call in text.calls if not carries(call.function)]
    listed, expected = [call.op for call in computing], [op.name for op in traced(graph)]
    if listed != expected:
        yield Finding(graph.name, "the sequence of calls", str(expected), str(listed))
        return
    reader = _Reader(project, text, graph, target)
    if dialect.extended:
        count = len(graph.inputs) + len(graph.outputs)
        if len(text.ports) != count:
            yield Finding(graph.name, "the number of ports", str(count), str(len(text.ports)))
            return
    kinds = [kind for kind, _ in text.ports] if dialect.extended else ["input_t"]
    for port, kind in zip(graph.inputs, kinds, strict=False):
        yield from reader.type(port, "input type", Cast(port.format), kind)
    if dialect.extended:
        yield from _wiring(text, graph, target)
    for op, call in zip(traced(graph), computing, strict=True):
        yield from reader.op(op, call)
    if dialect.sets_depths and target.io_type == "io_stream":
        yield from _depths(project, text, graph, dialect)


@dataclass(frozen=True, slots=True)
class _Reader:
    """What is wrong about the calls of a project, their types, their configurations and their constants."""

    project: Project
    text: ProjectText
    graph: IntGraph
    target: Target

    def op(self, op: Op, call: Call) -> Iterator[Finding]:
        """Hold one op's call against the graph."""
        function = _function(op, self.graph, self.target)
        if call.function != function:
            yield Finding(op.name, "the call", function, call.function)
        yield from self.type(op, "output type", op.cast, call.output_type)
        if needs_kernel(op, self.graph, self.target):
            expected = kernel(op, self.graph, self.target).config.replace(CONFIG, call.config)
            yield from _text(op, expected, self.text.configs.get(call.config, ""))
            return
        yield from CALLS[type(op)].configured(self, op, call)

    def matmul(self, op: Op, call: Call) -> Iterator[Finding]:
        """Hold a dense or a convolution; a convolution's sums are made in the configuration of its matrix product."""
        assert isinstance(op, MatMul) and op.accumulator is not None
        yield from self.window(op, call)
        name = self.text.aliases.get(call.config, {}).get("mult_config", call.config)
        config = self.text.aliases.get(name, {})
        n_in, n_out = op.matrix().shape
        product = {"n_in": n_in, "n_out": n_out, "reuse_factor": self.target.reuse(op.name)}
        yield from _numbers(op, product, self.text.numbers.get(name, {}))
        yield from self.type(op, "accumulator", Cast(op.accumulator), config.get("accum_t", ""))
        yield from self.weights(op, call.arguments[2], config)
        yield from self.constant(op, "bias", call.arguments[3], config, op.bias)

    def batchnorm(self, op: Op, call: Call) -> Iterator[Finding]:
        """Hold a batch normalization."""
        assert isinstance(op, BatchNorm)
        config = self.text.aliases.get(call.config, {})
        yield from self.constant(op, "scale", call.arguments[2], config, op.scale)
        yield from self.constant(op, "bias", call.arguments[3], config, op.offset)

    def window(self, op: Op, call: Call) -> Iterator[Finding]:
        """Hold the windows of a convolution or a pooling."""
        numbers = self.text.numbers.get(call.config, {})
        yield from _numbers(op, _shape_numbers(op, self.graph, self.target), numbers)

    def type(self, op: Op, what: str, cast: Cast, name: str) -> Iterator[Finding]:
        """Hold a typedef against the type it should be; in streams it is an array of it."""
        expected, element = spelled(self.target.backend, cast), self.text.element(name)
        if element != expected:
            yield Finding(op.name, f"the {what}", expected, element)

    def weights(self, op: MatMul, variable: str, config: Mapping[str, str]) -> Iterator[Finding]:
        """Hold the weights against the graph: as they are, or as stored exponents."""
        weight, resource = op.matrix(), self.target.strategy == "Resource"
        if resource:
            weight = weight.T  # hls4ml stores them output by output for this strategy
        if not (resource and DIALECTS[self.target.backend].stores_exponents and is_po2(op.weight.codes)):
            yield from self.constant(op, "weight", variable, config, Constant(weight, op.weight.format))
            return
        stored = split(op.weight.codes)
        expected = f"nnet::po2_weight<{stored.exponent_bits}, {value_exponent(op, stored)}>"
        kind = self.text.types.get(config.get("weight_t", ""), "nothing")
        if kind != expected:
            yield Finding(op.name, "the weight type", expected, kind)
        yield from self.values(op, "weight", variable, Constant(stored_codes(split(weight)), STORED))

    def constant(
        self, op: Op, what: str, variable: str, config: Mapping[str, str], constant: Constant
    ) -> Iterator[Finding]:
        """Hold the type and the numbers of a constant against the graph."""
        yield from self.type(op, f"{what} type", Cast(constant.format), config.get(f"{what}_t", ""))
        yield from self.values(op, what, variable, constant)

    def values(self, op: Op, what: str, variable: str, constant: Constant) -> Iterator[Finding]:
        """Compare the numbers of a constant's files, exactly."""
        dialect, expected = DIALECTS[self.target.backend], constant.codes.reshape(-1)
        files = [(f"{variable}.h", r"= \{+(.*?)\}+;"), (f"{variable}.txt", r"(.*)")]
        for path, pattern in files if dialect.weights_in_text else files[:1]:
            match = re.search(pattern, self.project.text(f"{dialect.sources}/weights/{path}"), flags=re.DOTALL)
            numbers = [Fraction(text.strip()) for text in match.group(1).split(",")] if match else []
            scaled = [number * Fraction(2) ** constant.format.frac_bits for number in numbers]
            wrong = [i for i, (number, code) in enumerate(zip(scaled, expected, strict=False)) if number != int(code)]
            if len(scaled) != len(expected):
                yield Finding(op.name, f"the number of values in {path}", str(len(expected)), str(len(scaled)))
            elif wrong:
                index = tuple(int(i) for i in np.unravel_index(wrong[0], constant.codes.shape))
                where = f"{what} {index} in {path}"
                yield Finding(op.name, where, f"code {expected[wrong[0]]}", f"code {scaled[wrong[0]]}")


def _function(op: Op, graph: IntGraph, target: Target) -> str:
    """Return the function that computes an op; hls4ml has its own for windows of one pixel."""
    dialect = DIALECTS[target.backend]
    suffix = dialect.stream_suffix if target.io_type == "io_stream" else ""
    if needs_kernel(op, graph, target):
        return f"{KERNELS[type(op)][0]}{suffix}"
    one_pixel = isinstance(op, Dense) or (isinstance(op, Conv) and op.window.pixels == 1)
    pointwise = "pointwise_" if one_pixel and target.io_type in dialect.pointwise else ""
    function = CALLS[Conv if is_convolution(op) else type(op)].function.format(
        dense=dialect.dense, pointwise=pointwise, axes=len(op.shape) - 1
    )
    return f"{function}{suffix}"


class _Expected(NamedTuple):
    """What a project holds of an op that hls4ml computes: the function called, and what checks its configuration."""

    function: str
    configured: Callable[[_Reader, Op, Call], Iterator[Finding]] = lambda reader, op, call: iter(())


CALLS: Mapping[type[Op], _Expected] = {
    Dense: _Expected("{dense}", _Reader.matmul),
    Conv: _Expected("{pointwise}conv_{axes}d_cl", _Reader.matmul),
    BatchNorm: _Expected("normalize", _Reader.batchnorm),
    Relu: _Expected("relu"),
    Requantize: _Expected("linear"),
    MaxPool: _Expected("pooling2d_cl", _Reader.window),
}
WITHOUT_CALL = (Input, Reshape, *WITHOUT_LAYER)
"""They are no call, or a kernel's, whose configuration is compared as a text."""


def _shape_numbers(op: Op, graph: IntGraph, target: Target) -> dict[str, int]:
    """Return what hls4ml's configuration of an op says about windows."""
    if isinstance(op, Dense):
        axes = len(op.shape) - 1
        shape, window = (*op.shape[:-1], len(op.weight.codes)), Window((1,) * axes, (1,) * axes, ((0, 0),) * axes)
    else:
        assert isinstance(op, Conv | Pool)
        shape, window = graph.sources(op)[0].shape, op.window
    if not window.size:
        return {}
    if target.io_type == "io_stream" and not DIALECTS[target.backend].pads_streams:
        shape, window = window.padded(shape), window.unpadded()
    numbers = {"n_filt": op.shape[-1]} | ({"n_chan": shape[-1]} if isinstance(op, MatMul) else {})
    prefix = "filt" if isinstance(op, MatMul) else "pool"
    for i, axis in enumerate(AXES[len(window.size)]):
        numbers |= {
            f"in_{axis}": shape[i],
            f"out_{axis}": op.shape[i],
            f"{prefix}_{axis}": window.size[i],
            f"stride_{axis}": window.strides[i],
            **dict(zip(PADS[axis], window.pads[i], strict=True)),
        }
    return numbers


def _numbers(op: Op, expected: Mapping[str, int], written: Mapping[str, int]) -> Iterator[Finding]:
    for name, value in expected.items():
        if written.get(name) != value:
            yield Finding(op.name, f"the constant {name}", str(value), str(written.get(name, "nothing")))


def _text(op: Op, expected: str, written: str) -> Iterator[Finding]:
    """Compare the configuration of a kernel of ours, line by line."""
    lines, others = expected.splitlines(), written.splitlines()
    if len(lines) != len(others):
        yield Finding(op.name, "the number of lines of its configuration", str(len(lines)), str(len(others)))
    for line, other in zip(lines, others, strict=False):
        if line != other:
            yield Finding(op.name, "the configuration", repr(line.strip()), repr(other.strip()))


def _depths(project: Project, text: ProjectText, graph: IntGraph, dialect: Dialect) -> Iterator[Finding]:
    """Yield the FIFOs in which too few words have room; more do no harm."""
    written = {kernel.name: kernel.writes for kernel in streams(graph).kernels}
    pairs = [zip(written.get(call.op, ()), call.writes, strict=False) for call in text.calls]
    names = {stream: variable for pair in pairs for stream, variable in pair}
    depths = read_depths(project.text(f"{dialect.sources}/{graph.name}.cpp"))
    unpadded = {kernel.name for kernel in streams(graph).kernels if dialect.pads_streams and kernel.kind is Kind.PAD}
    for fifo in fifos(graph):
        if fifo.stream in unpadded:
            continue
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
    stream, padded = target.io_type == "io_stream", not DIALECTS[target.backend].pads_streams
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
        if carries(call.function):
            yield from _carrier(text, call, held[0], graph, target.backend)
            holds = _padded(text, call, held[0])
        else:
            op = graph[call.op]
            padding = op.window.padding if stream and padded and isinstance(op, Conv) else ()
            padding = padding if any(padding) else ()
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


def _carrier(
    text: ProjectText, call: Call, held: tuple[str, tuple[int, ...]], graph: IntGraph, backend: str
) -> Iterator[Finding]:
    """Check a call that moves codes: the type stays, and it moves all of them."""
    op = graph[held[0]] if held[0] != "nothing" else graph.ops[0]
    result = text.element(call.types[1])
    if result not in (spelled(backend, op.cast), spelled(backend, Cast(op.format))):
        yield Finding(op.name, f"the type that {call.op} carries", spelled(backend, op.cast), result)
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
        moved = call.moved
    if moved != size:
        yield Finding(op.name, f"the number of codes that {call.op} carries", str(size), str(moved))


def _padded(text: ProjectText, call: Call, held: tuple[str, tuple[int, ...]]) -> tuple[str, tuple[int, ...]]:
    """Return what a carrier writes: the same codes, in zeros after a padding."""
    if not call.config:
        return held
    numbers = text.numbers.get(call.config, {})
    axes = AXES[2 if "2d" in call.function else 1]
    return held[0], tuple(numbers.get(end, -1) for axis in axes for end in PADS[axis])
