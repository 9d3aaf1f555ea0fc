"""Read a generated project back and hold it against the graph: calls, types, and every weight.

What is read is the text that a compiler or a synthesis tool reads. Weights stand in a project twice, in `w2.h` for
synthesis and in `w2.txt` for simulation; both are checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from flow.backends.hls4ml.layers import traced
from flow.backends.hls4ml.po2_weights import is_stored_po2, stored_codes, value_exponent
from flow.errors import EmitError, UnsupportedError
from flow.fixed import Codes, FixedFormat, Overflow, Rounding, parse_cpp
from flow.graph import BatchNorm, Conv2D, Dense, IntGraph, MatMul, MaxPool2D, Op, Relu, Requantize
from flow.po2 import split
from flow.project import Project
from flow.target import Target

CALLS: Mapping[type[Op], str] = {
    Dense: "dense",
    Conv2D: "conv_2d_cl",
    BatchNorm: "normalize",
    Relu: "relu",
    Requantize: "linear",
    MaxPool2D: "pooling2d_cl",
}
ADAPTERS = ("repack_stream", "zeropad2d_cl")
"""Calls that hls4ml may add between ops in io_stream; they move codes and change none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the project says something else than the graph."""

    op: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"op '{self.op}': {self.what} is {self.found}, the graph says {self.expected}"


@dataclass(frozen=True, slots=True)
class Call:
    """One `nnet::` call of the top function, with the op's name from the comment behind it."""

    function: str
    types: tuple[str, ...]
    arguments: tuple[str, ...]
    op: str


def check_project(project: Project, graph: IntGraph, target: Target) -> None:
    """Raise EmitError with the first finding, if there is any."""
    for finding in findings(project, graph, target):
        raise EmitError(f"{graph.name}: the generated project is not the graph: {finding}; this is a bug, report it")


def findings(project: Project, graph: IntGraph, target: Target) -> Iterator[Finding]:
    """Yield every difference between a project and its graph, in dataflow order."""
    typedefs = re.findall(r"typedef ([^;\n]+) (\w+);", project.text("firmware/defines.h"))
    types = {name: kind for kind, name in typedefs}
    configs = _configs(project.text("firmware/parameters.h"))
    listed = _calls(project.text(f"firmware/{graph.name}.cpp"))
    calls = {call.op: call for call in listed}
    computing = traced(graph)
    found = [call.op for call in listed]
    if found != [op.name for op in computing]:
        yield Finding(graph.name, "the sequence of calls", str([op.name for op in computing]), str(found))
        return
    yield from _type(graph.input, "input type", graph.input.format, _precision(types, "input_t"))
    for op in computing:
        call = calls[op.name]
        if call.function != _function(op):
            yield Finding(op.name, "the call", _function(op), call.function)
        result = _precision(types, call.types[1])
        yield from _type(op, "output type", op.format, result, op.rounding, op.overflow)
        if isinstance(op, MatMul):
            assert op.accumulator is not None
            config = configs[call.types[2]]
            # a convolution's sums are made in the config of its matrix product
            config = configs.get(config.get("mult_config", ""), config)
            yield from _type(op, "accumulator", op.accumulator, _precision(types, config["accum_t"]))
            yield from _type(op, "bias type", op.bias_format, _precision(types, config["bias_t"]))
            yield from _values(project, op, "bias", call.arguments[3], op.bias, op.bias_format)
            yield from _weights(project, op, call, types, config["weight_t"], target)
        if isinstance(op, BatchNorm):
            config = configs[call.types[2]]
            yield from _type(op, "scale type", op.scale_format, _precision(types, config["scale_t"]))
            yield from _type(op, "offset type", op.offset_format, _precision(types, config["bias_t"]))
            yield from _values(project, op, "scale", call.arguments[2], op.scale, op.scale_format)
            yield from _values(project, op, "offset", call.arguments[3], op.offset, op.offset_format)


def _function(op: Op) -> str:
    """Return the function that computes an op; hls4ml has its own for kernels of one pixel."""
    if isinstance(op, Conv2D) and op.weight.shape[:2] == (1, 1):
        return "pointwise_conv_2d_cl"
    return CALLS[type(op)]


def _calls(source: str) -> list[Call]:
    """Return the computing calls, in order."""
    code = re.sub(r"#ifndef __SYNTHESIS__.*?#endif", "", source, flags=re.DOTALL)
    pattern = r"nnet::(\w+)<([^;]*?)>\(([^;]*?)\); // (\w+)"
    calls = [
        Call(function, _split(types), _split(arguments), op)
        for function, types, arguments, op in re.findall(pattern, code)
        if function not in ADAPTERS
    ]
    listed = len(re.findall(r"nnet::(?!array)\w+<", code)) - sum(code.count(f"nnet::{name}<") for name in ADAPTERS)
    if listed != len(calls):
        calls.append(Call("?", (), (), "a call without a comment"))
    return calls


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _configs(parameters: str) -> dict[str, dict[str, str]]:
    blocks = re.findall(r"struct (config\w+) : [\w:]+ \{(.*?)\n\};", parameters, flags=re.DOTALL)
    return {name: {alias: kind for kind, alias in re.findall(r"typedef (\w+) (\w+);", body)} for name, body in blocks}


def _precision(types: Mapping[str, str], name: str) -> str:
    """Return the element type behind a typedef, which in io_stream is an array of it."""
    text = types.get(name, "nothing")
    packed = re.fullmatch(r"nnet::array<(.+), [\d*/]+>", text)
    return packed.group(1) if packed else text


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
    project: Project, op: MatMul, call: Call, types: Mapping[str, str], weight_type: str, target: Target
) -> Iterator[Finding]:
    weight = op.weight.reshape(-1, op.weight.shape[-1])
    if target.strategy == "Resource":
        weight = weight.T  # hls4ml stores them output by output for this strategy
    if target.strategy == "Resource" and is_stored_po2(op):
        stored = split(op.weight)
        expected = f"nnet::po2_weight<{stored.exponent_bits}, {value_exponent(op, stored)}>"
        if types.get(weight_type) != expected:
            yield Finding(op.name, "the weight type", expected, types.get(weight_type, "nothing"))
        codes = stored_codes(split(weight))
        yield from _values(project, op, "weight", call.arguments[2], codes, FixedFormat(False, 62, 0))
    else:
        yield from _type(op, "weight type", op.weight_format, _precision(types, weight_type))
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
