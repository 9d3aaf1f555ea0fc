"""A generated project as the compiler and the synthesis tool read it: types, configurations, calls and ports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from flow.backends.hls4ml.dialects import Dialect
from flow.backends.hls4ml.kernels import OUTPUT_FIRST
from flow.project import Project

CALL = re.compile(r"nnet::(?P<function>\w+)<(?P<types>[^;]*?)>\((?P<arguments>[^;]*?)\);(?: // (?P<op>\w+))?")
DEPTH = re.compile(r"#pragma HLS STREAM variable=(\w+) depth=(\d+)")
PIPE = re.compile(r"using (\w+) = [\w:]+pipe<\w+, (\w+), (\d+)")
TASK = re.compile(r"task_sequence<nnet::(\w+)<([^>]*)>>\s*\(?(\w+)\)?;")
ALIAS = re.compile(r"auto& (\w+) = ([\w.]+);")
NUMBER = re.compile(r"static (?:const|constexpr) unsigned (\w+) = (\d+);")
FOR_SIMULATION = re.compile(r"#ifndef (?:__SYNTHESIS__|HLS_SYNTHESIS)\n.*?#endif", re.DOTALL)
"""Where `load_weights_from_txt` and `save_layer_output` are called."""
CARRIERS = ("clone_stream", "copy_codes", "repack_stream", "zeropad1d_cl", "zeropad2d_cl")
"""Calls between ops: they move codes and change none. In oneAPI's streams their names end with `_stream`."""
UNNAMED = "a call without a comment"


def carries(function: str) -> bool:
    """Say whether a function only moves codes."""
    return function.startswith(CARRIERS)


@dataclass(frozen=True, slots=True)
class Call:
    """One `nnet::` call of the top function, with the name from the comment behind it."""

    function: str
    types: tuple[str, ...]
    arguments: tuple[str, ...]
    op: str

    @property
    def config(self) -> str:
        """The name of its configuration."""
        return next((name for name in self.types if name.startswith("config")), "")

    @property
    def writes(self) -> tuple[str, ...]:
        """The variables that it writes."""
        if self.function == "clone_stream":
            return self.arguments[1:]
        return self.arguments[:1] if self.output_first else self.arguments[1:2]

    @property
    def moved(self) -> int:
        """How many codes a carrier moves, if its configuration does not say so."""
        return int(self.types[-1] if self.function == "clone_stream" else self.types[2])

    @property
    def output_first(self) -> bool:
        """Whether it names what it writes before what it reads."""
        return self.function.removesuffix("_stream") in OUTPUT_FIRST

    @property
    def reads(self) -> tuple[str, ...]:
        """The variables that it reads; its weights are none."""
        return self.arguments[1:] if self.output_first else self.arguments[:1]

    @property
    def output_type(self) -> str:
        """The type of what it writes."""
        return self.types[0] if self.output_first else self.types[1]


@dataclass(frozen=True, slots=True)
class Statement:
    """A line that moves codes: a call, or another name for a variable."""

    call: Call | None
    alias: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ProjectText:
    """What the text says.

    Attributes:
        types: typedef name -> type.
        aliases, numbers: configuration -> its typedefs; -> its whole-number constants.
        configs: configuration -> its text with the tables behind it.
        ports: (type, variable) of the top function's parameters, in order.
        statements: the body, in order.
    """

    types: dict[str, str]
    aliases: dict[str, dict[str, str]]
    numbers: dict[str, dict[str, int]]
    configs: dict[str, str]
    ports: tuple[tuple[str, str], ...]
    statements: tuple[Statement, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls, in order."""
        return tuple(statement.call for statement in self.statements if statement.call is not None)

    def element(self, name: str) -> str:
        """Return the type of one code behind a typedef, which in io_stream is an array of it."""
        text = self.types.get(name, "nothing")
        packed = re.fullmatch(r"nnet::array<(.+), [\d*/]+>", text)
        return packed.group(1) if packed else text

    def word(self, name: str) -> int:
        """Return how many codes a value of a typedef holds."""
        packed = re.fullmatch(r"nnet::array<.+, (\d+)\*1>", self.types.get(name, ""))
        return int(packed.group(1)) if packed else 1


def read_text(project: Project, dialect: Dialect) -> ProjectText:
    """Return what the text of a project of a back end says."""
    sources = dialect.sources
    typedefs = re.findall(r"typedef ([^;\n]+) (\w+);", project.text(f"{sources}/defines.h"))
    parameters = project.text(f"{sources}/parameters.h")
    blocks = {
        name: block
        for block, name in re.findall(r"(struct (\w+)[^\n{]*\{\n.*?\n\};\n(?:const [^;]*;\n)*)", parameters, re.DOTALL)
    }
    source = FOR_SIMULATION.sub("", project.text(f"{sources}/{project.name}.cpp"))
    header, tasks = project.text(f"{sources}/{project.name}.h"), "task_sequence<" in source
    return ProjectText(
        types={name: kind for kind, name in typedefs},
        aliases={name: {a: kind for kind, a in re.findall(r"typedef (\w+) (\w+);", b)} for name, b in blocks.items()},
        numbers={name: {key: int(value) for key, value in NUMBER.findall(body)} for name, body in blocks.items()},
        configs=blocks,
        ports=tuple(PORTS[dialect.ports](source, header, project.name)),
        statements=_tasks(source, header) if tasks else _statements(source),
    )


def read_configurations(sources: Path, name: str) -> dict[str, str]:
    """Return op -> the configuration of its call, from the sources of a project; nothing if they are not there."""
    path = sources / f"{name}.cpp"
    source = path.read_text(errors="replace") if path.is_file() else ""
    calls = [each.call for each in (_tasks(source, "") if "task_sequence<" in source else _statements(source))]
    found = {call.op: re.search(r"\w*config\d+$", " ".join(call.types)) for call in calls if call is not None}
    return {op: config[0] for op, config in found.items() if config is not None}


def _arguments(source: str, header: str, name: str) -> list[tuple[str, str]]:
    """Return the parameters of the top function."""
    signature = re.search(rf"void (?:CCS_BLOCK\()?{name}\)?\((.*?)\) \{{", source, re.DOTALL)
    found = re.findall(r"(?:[\w:]+<(\w+)> &|(\w+) )(\w+)", signature[1]) if signature else []
    return [(stream or array, variable) for stream, array, variable in found]


def _structs(source: str, header: str, name: str) -> list[tuple[str, str]]:
    """Return the members of the structs that the top function takes and returns, or the streams that hold its words."""
    members = [
        (kind, f"{side}s.{variable}")
        for side, body in re.findall(r"struct (input|output)_data \{(.*?)\};", header, re.DOTALL)
        for kind, variable in re.findall(r"(\w+) (\w+)\[", body)
    ]
    streams = ((kind, variable.removesuffix("_stream")) for kind, variable in _arguments(source, header, name))
    return members or list(streams)


def _pipes(source: str, header: str, name: str) -> list[tuple[str, str]]:
    """Return the pipes of the header, or the variables that are read from them and written to them."""
    variables = {pipe: variable for variable, pipe in re.findall(r"auto (\w+) = (\w+)::read\(\);", source)}
    variables |= dict(re.findall(r"(\w+)::write\((\w+)\);", source))
    return [(kind, variables.get(pipe, pipe)) for pipe, kind, _ in PIPE.findall(header)]


PORTS = {"arguments": _arguments, "structs": _structs, "pipes": _pipes}


def read_depths(source: str) -> dict[str, int]:
    """Return, by variable, the depths of FIFOs that the text of a top function gives."""
    depths = [*DEPTH.findall(source), *((pipe, depth) for pipe, _, depth in PIPE.findall(source))]
    return {variable: int(depth) for variable, depth in depths}


def _statements(source: str) -> tuple[Statement, ...]:
    """Return aliases and then calls: names come first in the text, and none is read before it is written."""
    aliases = [Statement(None, (new, old)) for new, old in ALIAS.findall(source)]
    calls = [
        Statement(Call(match["function"], _split(match["types"]), _split(match["arguments"]), match["op"] or UNNAMED))
        for match in CALL.finditer(source)
    ]
    if len(re.findall(r"nnet::(?!array)\w+<", source)) != len(calls):
        calls.append(Statement(Call("?", ("", ""), (), UNNAMED)))
    return (*aliases, *calls)


def _tasks(source: str, header: str) -> tuple[Statement, ...]:
    """Return the calls of oneAPI's streams, where each is a task between pipes."""
    pipes = {pipe: kind for pipe, kind, _ in PIPE.findall(header + source)}
    arguments = dict(re.findall(r"(\w+)\.async\((.*?)\);", source))
    statements = []
    for function, listed, op in TASK.findall(source):
        named = _split(listed)
        ends = [name for name in named if name in pipes]
        types = tuple(pipes.get(name, name) for name in named)
        given = _split(arguments[op]) if arguments.get(op) else ()
        statements.append(Statement(Call(function, types, (*ends, *given), op)))
    return tuple(statements)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
