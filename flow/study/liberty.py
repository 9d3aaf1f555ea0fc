"""Standard cells: area, input capacitance and logic function, from a liberty file or of generic gates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import ModelFileError

Lanes = NDArray[np.uint64]
Function = Callable[[Mapping[str, Lanes]], Lanes]
TOKEN = re.compile(r"/\*.*?\*/|\"[^\"]*\"|[\w.+\-\[\]]+|[{}():;,]", re.DOTALL)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell with one output.

    Attributes:
        name: type in the netlist.
        area: of the library's unit.
        load: input pin -> capacitance, of the library's unit.
        output: its output pin.
        function: lanes of each input pin -> lanes of the output; None for a flip-flop.
        data, clock: pins of a flip-flop that takes `data` at the rising clock; empty for a gate.
    """

    name: str
    area: float
    load: Mapping[str, float]
    output: str
    function: Function | None
    data: str = ""
    clock: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Cells that a netlist may be made of.

    Attributes:
        name: of the library.
        path: liberty file, or None for generic gates.
        voltage: V, or None.
        cells: by type.
    """

    name: str
    path: Path | None
    voltage: float | None
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a liberty file: `kind (name) { attributes; groups }`."""

    kind: str
    name: str
    attributes: Mapping[str, str]
    groups: tuple[Group, ...]

    def each(self, kind: str) -> tuple[Group, ...]:
        """Return the groups of a kind in it."""
        return tuple(group for group in self.groups if group.kind == kind)


def read_library(path: Path) -> Library:
    """Read a liberty file: the gates with one output, and the flip-flops that only have data and a rising clock.

    Raises:
        ModelFileError: it is not readable, or no liberty file.
    """
    try:
        return parse_library(path.read_text(), path)
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise ModelFileError(f"not a readable liberty file ({error!r})", file=path) from error


def parse_library(text: str, path: Path | None = None) -> Library:
    """Return the library that the text of a liberty file describes; `path` is what Yosys reads."""
    tokens = [token for token in TOKEN.findall(text) if not token.startswith("/*")]
    root, _ = _group(tokens, 0)
    if root.kind != "library":
        raise ValueError(f"begins with {root.kind!r}, not with 'library'")
    cells = [cell for group in root.each("cell") if (cell := _cell(group)) is not None]
    voltage = float(root.attributes["nom_voltage"]) if "nom_voltage" in root.attributes else None
    return Library(name=root.name, path=path, voltage=voltage, cells={cell.name: cell for cell in cells})


def _group(tokens: Sequence[str], at: int) -> tuple[Group, int]:
    """Read `kind ( name ) { ... }` and return it with the place behind it."""
    kind, close = tokens[at], tokens.index(")", at)
    name = " ".join(tokens[at + 2 : close]).strip('"')
    attributes: dict[str, str] = {}
    groups = []
    at = close + 2
    while tokens[at] != "}":
        if tokens[at] == ";":
            at += 1
        elif tokens[at + 1] == ":":
            attributes[tokens[at]] = tokens[at + 2].strip('"')
            at += 3
        else:
            close = tokens.index(")", at)
            if tokens[close + 1 : close + 2] == ["{"]:
                group, at = _group(tokens, at)
                groups.append(group)
            else:  # a complex attribute, as index_1 ("...")
                at = close + 1
    return Group(kind, name, attributes, tuple(groups)), at + 1


def _cell(group: Group) -> Cell | None:
    pins = group.each("pin")
    outputs = [pin for pin in pins if pin.attributes.get("direction") == "output"]
    if len(outputs) != 1 or "function" not in outputs[0].attributes or "three_state" in outputs[0].attributes:
        return None
    inputs = [pin for pin in pins if pin.attributes.get("direction") == "input"]
    load = {pin.name: float(pin.attributes["capacitance"]) for pin in inputs}
    function: Function | None = None
    data = clock = ""
    if flip_flops := group.each("ff"):
        data, clock = flip_flops[0].attributes["next_state"], flip_flops[0].attributes["clocked_on"]
        plain = flip_flops[0].name.split()[0].strip('",') == outputs[0].attributes["function"]
        if not plain or {data, clock} != set(load):
            return None
    elif group.each("latch"):
        return None
    else:
        function = parse_function(outputs[0].attributes["function"])
    area, output = float(group.attributes["area"]), outputs[0].name
    return Cell(name=group.name, area=area, load=load, output=output, function=function, data=data, clock=clock)


def parse_function(text: str) -> Function:
    """Return what a liberty function computes: `!a`, `a'`, `a b`, `a*b`, `a&b`, `a^b`, `a+b`, `a|b`, parentheses.

    Example:
        >>> nand = parse_function("!(A B)")
        >>> int(nand({"A": np.uint64(0b1100), "B": np.uint64(0b1010)}) & np.uint64(15))
        7
    """
    tokens = re.findall(r"[A-Za-z_]\w*|[01]|[!'()*&^+|]", text)
    function, at = _chain(tokens, 0)
    if at != len(tokens):
        raise ValueError(f"function {text!r} cannot be read")
    return function


CHAINS = ((("+", "|"), np.bitwise_or), (("*", "&", ""), np.bitwise_and), (("^",), np.bitwise_xor))
"""Signs, an empty one for operands side by side, and what they compute; the later bind tighter."""


def _chain(tokens: Sequence[str], at: int, level: int = 0) -> tuple[Function, int]:
    """Read operands joined by signs of a level of `CHAINS`, and the place behind them."""
    if level == len(CHAINS):
        return _factor(tokens, at)
    signs, combine = CHAINS[level]
    left, at = _chain(tokens, at, level + 1)
    while at < len(tokens):
        beside = "" in signs and (tokens[at] in "!(" or tokens[at][0].isalnum() or tokens[at][0] == "_")
        if tokens[at] not in signs and not beside:
            break
        right, at = _chain(tokens, at if beside else at + 1, level + 1)
        left = _joined(left, right, combine)
    return left, at


def _joined(left: Function, right: Function, combine: Callable[[Lanes, Lanes], Any]) -> Function:
    return lambda pins: combine(left(pins), right(pins))


def _factor(tokens: Sequence[str], at: int) -> tuple[Function, int]:
    token = tokens[at]
    if token == "!":
        inner, at = _factor(tokens, at + 1)
        return _inverted(inner), at
    if token == "(":
        function, at = _chain(tokens, at + 1)
        if tokens[at] != ")":
            raise ValueError("a parenthesis is not closed")
    elif token in ("0", "1"):
        value = np.asarray(ALL if token == "1" else np.uint64(0))
        function = lambda pins: value  # noqa: E731
    elif token[0].isalpha() or token[0] == "_":
        function = itemgetter(token)
    else:
        raise ValueError(f"{token!r} is no operand")
    at += 1
    while tokens[at : at + 1] == ["'"]:
        function, at = _inverted(function), at + 1
    return function, at


def _inverted(function: Function) -> Function:
    return lambda pins: ~function(pins)


# -- generic gates


def _gate(name: str, transistors: int, function: str) -> Cell:
    pins = sorted(set(re.findall(r"[A-Z]", function)))
    load = dict.fromkeys(pins, transistors / len(pins))
    cell = f"$_{name}_"
    return Cell(name=cell, area=transistors, load=load, output="Y", function=parse_function(function))


GENERIC = Library(
    name="generic gates",
    path=None,
    voltage=None,
    cells={
        cell.name: cell
        for cell in (
            _gate("NOT", 2, "!A"),
            _gate("NAND", 4, "!(A B)"),
            _gate("NOR", 4, "!(A+B)"),
            _gate("AND", 6, "A B"),
            _gate("OR", 6, "A+B"),
            _gate("XOR", 12, "A^B"),
            _gate("XNOR", 12, "!(A^B)"),
            _gate("ANDNOT", 6, "A !B"),
            _gate("ORNOT", 6, "A+!B"),
            _gate("MUX", 12, "(A !S)+(B S)"),
            _gate("NMUX", 10, "!((A !S)+(B S))"),
            _gate("AOI3", 6, "!((A B)+C)"),
            _gate("OAI3", 6, "!((A+B) C)"),
            _gate("AOI4", 8, "!((A B)+(C D))"),
            _gate("OAI4", 8, "!((A+B) (C+D))"),
            Cell(name="$_DFF_P_", area=16, load={"C": 4.0, "D": 4.0}, output="Q", function=None, data="D", clock="C"),
        )
    },
)
"""Yosys' own gates; area and load in transistors, as its `stat -tech cmos` and `abc -g cmos` count them."""
