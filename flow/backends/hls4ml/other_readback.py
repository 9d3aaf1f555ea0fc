"""Read a project of one of hls4ml's other back ends back and hold it against the graph: calls, types, every weight."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from flow.backends.hls4ml.dialects import DEFAULTS, DIALECTS, spelled
from flow.backends.hls4ml.layers import traced
from flow.backends.hls4ml.readback import Finding
from flow.errors import EmitError
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import BatchNorm, Conv, Dense, IntGraph, MatMul, MaxPool, Op, Relu, Requantize
from flow.project import Project
from flow.target import Target

CALL = re.compile(r"nnet::(?P<function>\w+)<(?P<types>[^;]*?)>\((?P<arguments>[^;]*?)\);")
"""A call of the top function; `load_weights_from_txt` and `save_layer_output` stand between `#ifndef` and `#endif`."""
FUNCTIONS: Mapping[type[Op], str] = {
    Dense: "dense",
    BatchNorm: "normalize",
    Relu: "relu",
    Requantize: "linear",
    MaxPool: "pooling2d_cl",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One computing call of the top function: its result's type, its configuration, and its weights' variables."""

    op: str
    function: str
    result: str
    config: str
    weights: tuple[str, ...]


def is_adapter(function: str) -> bool:
    """Say whether a function only moves codes, which hls4ml may add in io_stream."""
    return function.startswith(("repack_stream", "zeropad1d_cl", "zeropad2d_cl"))


def check_project(project: Project, graph: IntGraph, target: Target) -> None:
    """Raise EmitError with the first finding, if there is any."""
    for finding in findings(project, graph, target):
        raise EmitError(
            f"the generated project is not the graph: {finding}", model=graph.name, remedy="this is a bug, report it"
        )


def findings(project: Project, graph: IntGraph, target: Target) -> Iterator[Finding]:
    """Yield every difference between a project and its graph, in dataflow order."""
    reader = _Reader(project, graph, target)
    computing = traced(graph)
    listed, expected = [call.op for call in reader.calls], [op.name for op in computing]
    if listed != expected:
        yield Finding(graph.name, "the sequence of calls", str(expected), str(listed))
        return
    yield from reader.type(graph.inputs[0], "input type", spelled(target.backend, graph.inputs[0].format), "input_t")
    for op, call in zip(computing, reader.calls, strict=True):
        if call.function != _function(op, target):
            yield Finding(op.name, "the call", _function(op, target), call.function)
        modes = DEFAULTS if isinstance(op, MaxPool) else (op.rounding, op.overflow)
        yield from reader.type(op, "output type", spelled(target.backend, op.format, modes), call.result)
        yield from reader.constants(op, call)


def _function(op: Op, target: Target) -> str:
    """Return the function that computes an op."""
    intel, stream = target.backend in ("Quartus", "oneAPI"), target.io_type == "io_stream"
    if isinstance(op, Conv) or (isinstance(op, Dense) and len(op.shape) > 1):
        window = op.window if isinstance(op, Conv) else (1,) * (len(op.shape) - 1)
        pointwise = set(window) == {1} and not (intel and stream)
        name = f"{'pointwise_' if pointwise else ''}conv_{len(window)}d_cl"
    elif isinstance(op, Dense) and target.backend != "Catapult":
        name = "dense_resource" if intel else "dense_latency"
    else:
        name = FUNCTIONS[type(op)]
    return f"{name}_stream" if target.backend == "oneAPI" and stream else name


class _Reader:
    """The parsed text of one project."""

    def __init__(self, project: Project, graph: IntGraph, target: Target) -> None:
        self.project, self.target, self.sources = project, target, DIALECTS[target.backend].sources
        source = project.text(f"{self.sources}/{graph.name}.cpp")
        header = project.text(f"{self.sources}/{graph.name}.h")
        typedefs = re.findall(r"typedef ([^;\n]+) (\w+);", project.text(f"{self.sources}/defines.h"))
        self.types = {name: kind for kind, name in typedefs}
        self.configs = _configs(project.text(f"{self.sources}/parameters.h"))
        tasks = (target.backend, target.io_type) == ("oneAPI", "io_stream")
        self.calls = _tasks(source, header) if tasks else _calls(source)

    def type(self, op: Op, what: str, expected: str, name: str) -> Iterator[Finding]:
        """Hold a typedef against the type it should be; in streams it is an array of it."""
        text = self.types.get(name, "nothing")
        packed = re.fullmatch(r"nnet::array<(.+), [\d*/]+>", text)
        found = packed.group(1) if packed else text
        if found != expected:
            yield Finding(op.name, f"the {what}", expected, found)

    def constants(self, op: Op, call: Call) -> Iterator[Finding]:
        """Hold the types and values of an op's constants, and its accumulator, against the graph."""
        backend, config = self.target.backend, self.configs.get(call.config, {})
        config = self.configs.get(config.get("mult_config", ""), config)
        if isinstance(op, MatMul):
            assert op.accumulator is not None
            weight = op.matrix()
            weight = weight.T if self.target.strategy == "Resource" else weight
            yield from self.type(op, "accumulator", spelled(backend, op.accumulator), config.get("accum_t", ""))
            stored = (("weight", weight, op.weight_format), ("bias", op.bias, op.bias_format))
        elif isinstance(op, BatchNorm):
            stored = (("scale", op.scale, op.scale_format), ("bias", op.offset, op.offset_format))
        else:
            return
        for (what, codes, fmt), variable in zip(stored, call.weights, strict=True):
            yield from self.type(op, f"{what} type", spelled(backend, fmt), config.get(f"{what}_t", ""))
            yield from self.values(op, what, variable, codes, fmt)

    def values(self, op: Op, what: str, variable: str, codes: Codes, fmt: FixedFormat) -> Iterator[Finding]:
        """Compare the numbers of a weight's files, exactly."""
        forms = [(f"{variable}.h", r"= \{+(.*?)\}+;")]
        if DIALECTS[self.target.backend].weights_in_text:
            forms.append((f"{variable}.txt", r"(.*)"))
        expected = codes.reshape(-1)
        for path, pattern in forms:
            match = re.search(pattern, self.project.text(f"{self.sources}/weights/{path}"), flags=re.DOTALL)
            numbers = [Fraction(text.strip()) for text in match.group(1).split(",")] if match else []
            scaled = [number * Fraction(2) ** fmt.frac_bits for number in numbers]
            wrong = [i for i, (found, code) in enumerate(zip(scaled, expected, strict=False)) if found != int(code)]
            if len(scaled) != len(expected):
                yield Finding(op.name, f"the number of values in {path}", str(len(expected)), str(len(scaled)))
            elif wrong:
                index = tuple(int(i) for i in np.unravel_index(wrong[0], codes.shape))
                where = f"{what} {index} in {path}"
                yield Finding(op.name, where, f"code {expected[wrong[0]]}", f"code {scaled[wrong[0]]}")


def _calls(source: str) -> list[Call]:
    """Return the computing calls of a top function, in order."""
    code = re.sub(r"#ifndef (__SYNTHESIS__|HLS_SYNTHESIS)\n.*?#endif", "", source, flags=re.DOTALL)
    calls = []
    for match in re.finditer(CALL.pattern + r"(?: // (?P<op>\w+))?", code):
        types, arguments = match["types"].split(", "), match["arguments"].split(", ")
        if not is_adapter(match["function"]):
            op = match["op"] or "a call without a name"
            calls.append(Call(op, match["function"], types[1], types[2], tuple(arguments[2:])))
    return calls


def _tasks(source: str, header: str) -> list[Call]:
    """Return the computing task sequences of oneAPI's streams, in order."""
    pipes = dict(re.findall(r"using (\w+) = [\w:]+pipe<\w+, (\w+),", header + source))
    arguments = dict(re.findall(r"(\w+)\.async\((.*?)\);", source))
    calls = []
    for function, output, config, op in re.findall(
        r"task_sequence<nnet::(\w+)<\w+, (\w+), (\w+)>>\s*\(?(\w+)\)?;", source
    ):
        if not is_adapter(function):
            weights = tuple(part for part in arguments.get(op, "").split(", ") if part)
            calls.append(Call(op, function, pipes.get(output, ""), config, weights))
    return calls


def _configs(parameters: str) -> dict[str, dict[str, str]]:
    blocks = re.findall(r"struct (config\w+) : [\w:]+ \{(.*?)\n\};", parameters, flags=re.DOTALL)
    return {name: {alias: kind for kind, alias in re.findall(r"typedef (\w+) (\w+);", body)} for name, body in blocks}
