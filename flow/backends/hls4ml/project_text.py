"""A generated project as the compiler and the synthesis tool read it: types, configurations, calls and ports."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flow.project import Project


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
        return self.arguments[:1] if self.function in OUTPUT_FIRST else self.arguments[1:2]

    @property
    def reads(self) -> tuple[str, ...]:
        """The variables that it reads; its weights are none."""
        return self.arguments[1:] if self.function in OUTPUT_FIRST else self.arguments[:1]

    @property
    def output_type(self) -> str:
        """The type of what it writes."""
        return self.types[0] if self.function in OUTPUT_FIRST else self.types[1]


OUTPUT_FIRST = ("merge_codes", "gather_codes")


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
        return tuple(each.call for each in self.statements if each.call is not None)

    def element(self, name: str) -> str:
        """Return the type of one code behind a typedef, which in io_stream is an array of it."""
        text = self.types.get(name, "nothing")
        packed = re.fullmatch(r"nnet::array<(.+), [\d*/]+>", text)
        return packed.group(1) if packed else text

    def word(self, name: str) -> int:
        """Return how many codes a value of a typedef holds."""
        packed = re.fullmatch(r"nnet::array<.+, (\d+)\*1>", self.types.get(name, ""))
        return int(packed.group(1)) if packed else 1


def read_text(project: Project, top: str) -> ProjectText:
    """Return what a project's text says."""
    typedefs = re.findall(r"typedef ([^;\n]+) (\w+);", project.text("firmware/defines.h"))
    parameters = project.text("firmware/parameters.h")
    blocks = {
        name: whole
        for whole, name in re.findall(r"(struct (\w+)[^\n{]*\{\n.*?\n\};\n(?:const [^;]*;\n)*)", parameters, re.DOTALL)
    }
    source = re.sub(r"#ifndef __SYNTHESIS__.*?#endif", "", project.text(f"firmware/{top}.cpp"), flags=re.DOTALL)
    signature = re.search(rf"void {top}\((.*?)\) \{{", source, re.DOTALL)
    ports = re.findall(r"(?:hls::stream<(\w+)> &|(\w+) )(\w+)", signature.group(1)) if signature else []
    return ProjectText(
        types={name: kind for kind, name in typedefs},
        aliases={name: {a: kind for kind, a in re.findall(r"typedef (\w+) (\w+);", b)} for name, b in blocks.items()},
        numbers={
            name: {key: int(value) for key, value in re.findall(r"static const unsigned (\w+) = (\d+);", body)}
            for name, body in blocks.items()
        },
        configs=blocks,
        ports=tuple((stream or array, variable) for stream, array, variable in ports),
        statements=_statements(source),
    )


def _statements(source: str) -> tuple[Statement, ...]:
    pattern = r"nnet::(\w+)<([^;]*?)>\(([^;]*?)\); // (\w+)|auto& (\w+) = (\w+);"
    found = [
        Statement(Call(function, _split(types), _split(arguments), op)) if function else Statement(None, (new, old))
        for function, types, arguments, op, new, old in re.findall(pattern, source)
    ]
    calls = sum(each.call is not None for each in found)
    if len(re.findall(r"nnet::(?!array)\w+<", source)) != calls:
        found.append(Statement(Call("?", ("", ""), (), "a call without a comment")))
    # names come before calls in the text, and none is read before it is written
    return tuple(sorted(found, key=lambda each: each.call is not None))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
