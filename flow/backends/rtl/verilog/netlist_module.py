"""A netlist as a module of Verilog-2005: one wire per node, one register per value and stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flow.backends.rtl.netlists.netlist import Netlist, Node, reached
from flow.backends.rtl.netlists.pipelining import Pipeline
from flow.backends.rtl.verilog.printer import concat, declare, literal, module, port, repeated
from flow.ir.fixed import FixedFormat

BLOCK = 32
"""Registers of one always block; Yosys takes time with the square of their number."""


def netlist_module(
    name: str, net: Netlist, pipe: Pipeline, inputs: Sequence[FixedFormat], outputs: Sequence[FixedFormat]
) -> str:
    """Return the module of a netlist: `(input clk, input ce, input [..] x, output [..] y)`.

    Args:
        pipe: its stages; all registers advance while `ce` is high.
        inputs: the format of each input, which gives its bits in `x`, the first one lowest.
        outputs: the format of each output in `y`, the first one lowest.
    """
    writer = _Writer(net, pipe)
    offset, body = 0, ""
    for place, node in enumerate(net.nodes):
        if node.kind == "input":
            width = inputs[node.data].width
            body += _wire(node, f"n{place}", f"x[{offset} +: {width}]") if place in writer.used else ""
            offset += width
    registers, advance = writer.registers()
    body += registers  # which the lines below read
    body += "".join(LINES[net.nodes[place].kind](writer, place, net.nodes[place]) for place in writer.used)
    results = [
        fit(writer.at(place, pipe.depth), net.nodes[place], output.width)
        for place, output in zip(net.outputs, outputs, strict=True)
    ]
    listed = ",\n        ".join(reversed(results))
    body += f"{advance}    assign y = {{\n        {listed}\n    }};\n"
    x, y = port("input", "x", max(offset, 1)), port("output", "y", sum(output.width for output in outputs))
    return module(name, [port("input", "clk"), port("input", "ce"), x, y], body)


def _wire(node: Node, name: str, value: str) -> str:
    return declare(name, width=node.width, signed=node.signed, value=value)


class _Writer:
    """Names and registers of one netlist. A value that is used in a later stage than its own passes registers."""

    def __init__(self, net: Netlist, pipe: Pipeline) -> None:
        self.net, self.pipe = net, pipe
        self.used = sorted(reached(net))
        self.last = self._last_stages()

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
            return literal(node.low, node.width)
        later = stage - self.pipe.stages[place]
        return f"n{place}_{later}" if later else f"n{place}"

    def argument(self, node: Node) -> Node:
        """Return the first node that another reads."""
        return self.net.nodes[node.args[0]]

    def fitted(self, place: int, stage: int, width: int, shift: int = 0) -> str:
        """Return a value, `shift` bits further up, with exactly `width` bits."""
        return fit(self.at(place, stage), self.net.nodes[place], width, shift)

    def numbers(self, places: Sequence[int], stage: int, width: int = 0) -> list[str]:
        """Return values with their signs and one width, at least `width`: what Verilog compares and multiplies."""
        nodes = [self.net.nodes[place] for place in places]
        signed = any(node.signed for node in nodes)
        width = max(width, *(node.width + (signed and not node.signed) for node in nodes))
        texts = [self.fitted(place, stage, width) for place in places]
        as_declared = [node.signed == signed and node.width == width and node.kind != "const" for node in nodes]
        return [
            text if declared or not signed else f"$signed({text})"
            for text, declared in zip(texts, as_declared, strict=True)
        ]

    def registers(self) -> tuple[str, str]:
        """Return the declarations of the registers between stages, and how they advance."""
        declared, advanced = "", list[str]()
        for place in self.used:
            node = self.net.nodes[place]
            if node.kind == "const":
                continue
            for later in range(1, self.last[place] - self.pipe.stages[place] + 1):
                name, before = f"n{place}_{later}", f"n{place}_{later - 1}" if later > 1 else f"n{place}"
                declared += declare(name, width=node.width, kind="reg", signed=node.signed)
                advanced.append(f"            {name} <= {before};\n")
        blocks = ("".join(advanced[start : start + BLOCK]) for start in range(0, len(advanced), BLOCK))
        return declared, "".join(
            f"    always @(posedge clk) begin\n        if (ce) begin\n{block}        end\n    end\n" for block in blocks
        )


def fit(name: str, node: Node, width: int, shift: int = 0) -> str:
    """Return the value of a node, of which `name` is the name, `shift` bits further up, with exactly `width` bits."""
    kept = width - shift
    if node.kind == "const" or kept <= 0:
        return literal(node.low << shift, width)
    above = []
    if kept > node.width:
        above = [
            repeated(f"{name}[{node.width - 1}]", kept - node.width) if node.signed else literal(0, kept - node.width)
        ]
    value = f"{name}[{kept - 1}:0]" if kept < node.width else name
    return concat([*([literal(0, shift)] if shift else []), value, *above])


def _table(writer: _Writer, place: int, node: Node) -> str:
    index, name = writer.argument(node), writer.at(node.args[0], writer.pipe.stages[place])
    entries = "".join(
        f"            {literal(index.low + i, index.width)}: n{place} = {literal(value, node.width)};\n"
        for i, value in enumerate(node.data)
    )
    rest = f"            default: n{place} = {literal(node.data[0], node.width)};\n"
    return (
        declare(f"n{place}", width=node.width, kind="reg", signed=node.signed)
        + f"    always @* begin\n        case ({name})\n{entries}{rest}        endcase\n    end\n"
    )


def _value(writer: _Writer, place: int, node: Node) -> str:
    return _wire(node, f"n{place}", VALUES[node.kind](writer, node, writer.pipe.stages[place]))


def _sum(writer: _Writer, node: Node, stage: int) -> str:
    """Return a sum or difference; of a negative constant, the other one of its magnitude."""
    (a, b), (sa, sb), minus = node.args, node.data, node.kind == "sub"
    left, second = writer.fitted(a, stage, node.width, sa), writer.net.nodes[b]
    if second.kind == "const" and second.low < 0:
        right, minus = literal(-second.low << sb, node.width), not minus
    else:
        right = writer.fitted(b, stage, node.width, sb)
    return f"{left} {'-' if minus else '+'} {right}"


def _shr(writer: _Writer, node: Node, stage: int) -> str:
    name, width = writer.at(node.args[0], stage), writer.argument(node).width
    lowest = min(node.data, width - 1)  # of a shift by more bits than there are, the sign is left
    return f"{name}[{lowest + node.width - 1}:{lowest}]"


def _even(writer: _Writer, node: Node, stage: int) -> str:
    n, name, source = node.data, writer.at(node.args[0], stage), writer.argument(node)
    last = f"{name}[{n}] & (|{name}[{n - 1}:0])"
    if node.width == 1:
        return last
    top = source.width - 1
    # -1, made even, is -2: of two bits, the upper one is the sign
    return concat([last, f"{name}[{top}:{n + 1}]" if top > n else f"{name}[{top}]"])


def _less(writer: _Writer, node: Node, stage: int) -> str:
    return " < ".join(writer.numbers(node.args, stage))


def _max(writer: _Writer, node: Node, stage: int) -> str:
    a, b = (writer.fitted(place, stage, node.width) for place in node.args)
    return f"({' > '.join(writer.numbers(node.args, stage))}) ? {a} : {b}"


def _mux(writer: _Writer, node: Node, stage: int) -> str:
    a, b = (writer.fitted(place, stage, node.width) for place in node.args[1:])
    return f"{writer.at(node.args[0], stage)} ? {a} : {b}"


def _lut(writer: _Writer, node: Node, stage: int) -> str:
    """Return a table as choices by its bits, the last one first; equal halves are one."""
    names = [writer.at(arg, stage) for arg in node.args]

    def choose(values: tuple[int, ...], bit: int) -> str:
        if len(set(values)) == 1:
            return literal(values[0], 1)
        half = len(values) // 2
        if values[:half] == values[half:]:
            return choose(values[half:], bit - 1)
        if len(values) == 2:
            return names[bit] if values[1] else f"~{names[bit]}"
        return f"({names[bit]} ? {choose(values[half:], bit - 1)} : {choose(values[:half], bit - 1)})"

    return choose(node.data, len(names) - 1)


def _clamp(writer: _Writer, node: Node, stage: int) -> str:
    """Return the clamp of a value. Ends at powers of two are tested by bits, which takes no carry chain."""
    name, source, (least, most) = writer.at(node.args[0], stage), writer.argument(node), node.data
    top, width, bits = source.width - 1, node.width, most.bit_length()
    high, low, kept = literal(most, width), literal(least, width), writer.fitted(node.args[0], stage, width)
    all_ones = most == (1 << bits) - 1 and bits > 0
    if source.low >= least and all_ones:  # only the upper end can be passed
        sign = f"~{name}[{top}] & " if source.signed else ""
        above = f"|{name}[{top - source.signed}:{bits}]"
        return f"({sign}({above})) ? {high} : {kept}"
    if least == 0 and all_ones and source.signed:
        above = f"(|{name}[{top - 1}:{bits}]) ? {high} : " if source.high > most else ""
        return f"{name}[{top}] ? {low} : {above}{kept}"
    if least == -most - 1 and all_ones and source.signed and source.high > most:
        beyond = f"(|{name}[{top}:{bits}]) & ~(&{name}[{top}:{bits}])"
        return f"({beyond}) ? {{{name}[{top}], {repeated(f'~{name}[{top}]', bits)}}} : {kept}"
    bits = 1 + max(source.width, least.bit_length(), most.bit_length())
    value = f"$signed({writer.fitted(node.args[0], stage, bits)})"
    below, above = (f"{value} {sign} $signed({literal(end, bits)})" for sign, end in (("<", least), (">", most)))
    return f"({below}) ? {low} : ({above}) ? {high} : {kept}"


VALUES: Mapping[str, Callable[[_Writer, Node, int], str]] = {
    **dict.fromkeys(("add", "sub"), _sum),
    "mul": lambda writer, node, stage: " * ".join(writer.numbers(node.args, stage, node.width)),
    "less": _less,
    "both": lambda writer, node, stage: " & ".join(writer.at(arg, stage) for arg in node.args),
    "shl": lambda writer, node, stage: writer.fitted(node.args[0], stage, node.width, node.data),
    "shr": _shr,
    "wrap": lambda writer, node, stage: writer.fitted(node.args[0], stage, node.width),
    "any": lambda writer, node, stage: (
        f"|{writer.at(node.args[0], stage)}[{min(node.data, writer.argument(node).width) - 1}:0]"
    ),
    "even": _even,
    "clamp": _clamp,
    "max": _max,
    "mux": _mux,
    "lut": _lut,
    "join": lambda writer, node, stage: concat([writer.at(arg, stage) for arg in node.args[: node.width]]),
}
"""Kind of node -> its value in a stage as an expression."""
LINES: Mapping[str, Callable[[_Writer, int, Node], str]] = {
    # inputs stand before all other lines; a constant is written where it is read
    **dict.fromkeys(("input", "const"), lambda writer, place, node: ""),
    "table": _table,
    **dict.fromkeys(VALUES, _value),
}
"""Kind of node -> the lines that compute it."""
