"""Verilog-2005 of a netlist: one module, one wire per node, one register per value and stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flow.backends.rtl.netlists.netlist import Netlist, Node
from flow.backends.rtl.netlists.pipelining import Pipeline
from flow.ir.fixed import FixedFormat

HEADER = "// Made by po2flow; see docs/rtl.md.\n`default_nettype none\n\n"
FOOTER = "\n`default_nettype wire\n"
BLOCK = 32
"""Registers of one always block; Yosys takes time with the square of their number."""


def module(name: str, net: Netlist, pipe: Pipeline, inputs: Sequence[FixedFormat], output: FixedFormat) -> str:
    """Return the module of a kernel: `(input clk, input ce, input [..] x, output [..] y)`.

    Args:
        name: the module's.
        net: what it computes.
        pipe: its stages; all registers advance while `ce` is high.
        inputs: the format of each input, which gives its bits in `x`, the first one lowest.
        output: the format of every output in `y`, the first one lowest.
    """
    text = _Text(net, pipe)
    offset, lines = 0, list[str]()
    for node, place in [(node, place) for place, node in enumerate(net.nodes) if node.kind == "input"]:
        width = inputs[node.data].width
        lines.append(_declare("wire", node, f"n{place}", f"x[{offset} +: {width}]"))
        offset += width
    body = "".join(text.node(place) for place in text.used if net.nodes[place].kind != "input")
    results = [text.fit(text.at(place, pipe.depth), net.nodes[place], output.width) for place in net.outputs]
    return (
        f"{HEADER}module {name} (\n    input wire clk,\n    input wire ce,\n"
        f"    input wire [{max(offset, 1) - 1}:0] x,\n    output wire [{len(results) * output.width - 1}:0] y\n);\n"
        + "".join(lines)
        + body
        + text.registers()
        + f"    assign y = {{\n        {_joined(reversed(results))}\n    }};\nendmodule\n{FOOTER}"
    )


def _joined(parts: Iterable[str]) -> str:
    return ",\n        ".join(parts)


def _declare(kind: str, node: Node, name: str, value: str = "") -> str:
    sign = " signed" if node.signed else ""
    return f"    {kind}{sign} [{node.width - 1}:0] {name}{f' = {value}' if value else ''};\n"


def literal(value: int, width: int) -> str:
    """Return an integer as a Verilog constant of `width` bits, its two's complement if negative."""
    return f"{width}'d{value & ((1 << width) - 1)}"


class _Text:
    """Names and registers of one netlist. A value that is used in a later stage than its own passes registers."""

    def __init__(self, net: Netlist, pipe: Pipeline) -> None:
        self.net, self.pipe = net, pipe
        self.used = sorted(self._used())
        self.last = self._last_stages()

    def _used(self) -> set[int]:
        used, left = {place for place, node in enumerate(self.net.nodes) if node.kind == "input"}, [*self.net.outputs]
        while left:
            place = left.pop()
            if place not in used:
                used.add(place)
                left += self.net.nodes[place].args
        return used

    def _last_stages(self) -> dict[int, int]:
        """Return the last stage that reads each node."""
        last = {place: self.pipe.stages[place] for place in self.used}
        for place in self.net.outputs:
            last[place] = self.pipe.depth
        for place in self.used:
            for arg in self.net.nodes[place].args:
                last[arg] = max(last[arg], self.pipe.stages[place])
        return last

    def at(self, place: int, stage: int) -> str:
        """Return the name of a node's value in a stage."""
        node = self.net.nodes[place]
        if node.kind == "const":
            value = literal(node.low, node.width)
            return f"$signed({value})" if node.signed else value
        later = stage - self.pipe.stages[place]
        return f"n{place}_{later}" if later else f"n{place}"

    def signed(self, place: int, stage: int) -> str:
        """Return the name as a signed operand."""
        name = self.at(place, stage)
        return name if self.net.nodes[place].signed else f"$signed({{1'b0, {name}}})"

    def fit(self, name: str, node: Node, width: int) -> str:
        """Return a value of a node with exactly `width` bits."""
        if node.kind == "const":
            return literal(node.low, width)
        missing = width - node.width
        if missing == 0:
            return name
        if missing < 0:
            return f"{name}[{width - 1}:0]"
        fill = f"{{{missing}{{{name}[{node.width - 1}]}}}}" if node.signed else f"{missing}'d0"
        return f"{{{fill}, {name}}}"

    def node(self, place: int) -> str:
        """Return the declaration of a node."""
        node = self.net.nodes[place]
        if node.kind == "const":
            return ""
        if node.kind == "table":
            return _declare("reg", node, f"n{place}") + self._case(place, node)
        return _declare("wire", node, f"n{place}", self._value(node, self.pipe.stages[place]))

    def _case(self, place: int, node: Node) -> str:
        (arg,) = node.args
        index, name = self.net.nodes[arg], self.at(arg, self.pipe.stages[place])
        entries = (
            f"            {literal(index.low + i, index.width)}: n{place} = {literal(value, node.width)};\n"
            for i, value in enumerate(node.data)
        )
        rest = f"            default: n{place} = {literal(node.data[0], node.width)};\n"
        return f"    always @* begin\n        case ({name})\n{''.join(entries)}{rest}        endcase\n    end\n"

    def _value(self, node: Node, stage: int) -> str:
        args = [self.at(arg, stage) for arg in node.args]
        source = self.net.nodes[node.args[0]]
        if node.kind == "shl":
            return f"{args[0]} <<< {node.data}"
        if node.kind == "shr":
            return f"{args[0]} >>> {node.data}"
        if node.kind == "even":
            n, name = node.data, args[0]
            last = f"{name}[{n}] & (|{name}[{n - 1}:0])"
            return f"{{{name}[{source.width - 1}:{n + 1}], {last}}}" if source.width > n + 1 else last
        if node.kind == "wrap":
            return self.fit(args[0], source, node.width)
        if node.kind == "any":
            bits = min(node.data, source.width)
            return f"|{args[0]}[{bits - 1}:0]"
        if node.kind == "clamp":
            return _clamp(args[0], source, node, *node.data)
        if node.kind == "both":
            return f"{args[0]} & {args[1]}"
        if node.kind == "mux":
            a, b = self._alike(node.args[1:], stage, node)
            return f"{args[0]} ? {a} : {b}"
        a, b = self._alike(node.args, stage, node)
        if node.kind == "max":
            return f"({a} > {b}) ? {a} : {b}"
        if node.kind == "less":
            return f"{a} < {b}"
        if node.kind == "mul":
            return f"{a} * {b}"
        left, right = (
            f"({name} <<< {shift})" if shift else name for name, shift in zip((a, b), node.data, strict=True)
        )
        return f"{left} {'+' if node.kind == 'add' else '-'} {right}"

    def _alike(self, places: Sequence[int], stage: int, result: Node) -> list[str]:
        """Return operands of one signedness, so that Verilog extends them by their own signs."""
        any_signed = result.signed or any(self.net.nodes[place].signed for place in places)
        return [(self.signed if any_signed else self.at)(place, stage) for place in places]

    def registers(self) -> str:
        """Return the registers between stages."""
        declared, advanced = list[str](), list[str]()
        for place in self.used:
            node = self.net.nodes[place]
            if node.kind == "const":
                continue
            for later in range(1, self.last[place] - self.pipe.stages[place] + 1):
                declared.append(_declare("reg", node, f"n{place}_{later}"))
                before = f"n{place}_{later - 1}" if later > 1 else f"n{place}"
                advanced.append(f"            n{place}_{later} <= {before};\n")
        if not advanced:
            return ""
        blocks = (advanced[start : start + BLOCK] for start in range(0, len(advanced), BLOCK))
        return "".join(declared) + "".join(
            f"    always @(posedge clk) begin\n        if (ce) begin\n{''.join(block)}        end\n    end\n"
            for block in blocks
        )


def _clamp(name: str, source: Node, node: Node, least: int, most: int) -> str:
    """Return the clamp of a value. Ends at powers of two are tested by bits, which takes no carry chain."""
    top, width, bits = source.width - 1, node.width, most.bit_length()
    high, low = literal(most, width), literal(least, width)
    kept = f"{name}[{width - 1}:0]" if width <= source.width else name
    whole = most == (1 << bits) - 1 and bits > 0
    if source.low >= least and whole:  # only the upper end can be passed
        sign = f"~{name}[{top}] & " if source.signed else ""
        above = f"|{name}[{top - source.signed}:{bits}]"
        return f"({sign}({above})) ? {high} : {kept}"
    if least == 0 and whole and source.signed:
        above = f"(|{name}[{top - 1}:{bits}]) ? {high} : " if source.high > most else ""
        return f"{name}[{top}] ? {low} : {above}{kept}"
    if least == -most - 1 and whole and source.signed and source.high > most:
        beyond = f"(|{name}[{top}:{bits}]) & ~(&{name}[{top}:{bits}])"
        return f"({beyond}) ? {{{name}[{top}], {{{bits}{{~{name}[{top}]}}}}}} : {kept}"
    bits = max(source.width, least.bit_length(), most.bit_length())
    compared = name if source.signed else f"$signed({{1'b0, {name}}})"
    ends = [f"$signed({literal(end, bits + 1)})" for end in (least, most)]
    return f"({compared} < {ends[0]}) ? {low} : ({compared} > {ends[1]}) ? {high} : {kept}"
