"""Netlist: what a kernel computes, as exact operations on integers of known range; from it the Verilog is written.

    kind    arguments   data            value
    input               place           code number `place` of the kernel's input
    const               value           value
    add     a b         sa, sb          (a << sa) + (b << sb)
    sub     a b         sa, sb          (a << sa) - (b << sb)
    mul     a b                         a * b
    shl     a           n               a << n
    shr     a           n               a >> n, toward minus infinity
    even    a           n               a >> n, its last bit cleared where the n bits below are zero
    wrap    a           n, signed       the low n bits of a
    clamp   a           low, high       a, at least low and at most high
    max     a b                         the larger
    less    a b                         1 where a < b, else 0
    both    a b                         a & b, of 0 and 1
    any     a           n               1 where one of the low n bits of a is set, else 0
    mux     c a b                       a where c is 1, b where it is 0
    table   a           values          values[a - low of a]
    lut     a b ...     values          values[a + 2 b + ...], 0 or 1, of 0 and 1
    join    a b ...                     a + 2 b + ..., of 0 and 1

Every node has the interval [low, high] of the values it can take for any input codes, and so the number of bits it
needs: no operation here can overflow. Equal nodes are one node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flow.ir.fixed import Codes, covering


@dataclass(frozen=True, slots=True)
class Node:
    """One value.

    Attributes:
        kind, args, data: see the table above; `args` are places of earlier nodes.
        low, high: the smallest and the largest value.
    """

    kind: str
    args: tuple[int, ...]
    data: Any
    low: int
    high: int

    @property
    def signed(self) -> bool:
        """Whether it can be negative."""
        return self.low < 0

    @property
    def width(self) -> int:
        """Bits it needs, two's complement if signed."""
        return covering(self.low, self.high, 0).width


@dataclass(slots=True)
class Netlist:
    """Nodes in dataflow order, and which of them leave; grown by the methods, each of which returns a node's place.

    Example:
        >>> net = Netlist()
        >>> x, y = net.input(-8, 7), net.input(0, 15)
        >>> net.outputs = [net.clamp(net.add(x, y, 1, 0), 0, 15)]
        >>> net.run(np.array([[-8, 15], [3, 4]])).tolist()
        [[0], [10]]
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    _places: dict[tuple[Any, ...], int] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Node]:
        """The input nodes, in order."""
        return [node for node in self.nodes if node.kind == "input"]

    def _new(self, kind: str, args: tuple[int, ...], data: Any, low: int, high: int) -> int:
        if low == high and kind not in ("input", "const"):
            return self.const(low)
        key = (kind, args, data)
        if key not in self._places:
            self._places[key] = len(self.nodes)
            self.nodes.append(Node(kind, args, data, int(low), int(high)))
        return self._places[key]

    def input(self, low: int, high: int) -> int:
        """Add the next input."""
        return self._new("input", (), len(self.inputs), low, high)

    def const(self, value: int) -> int:
        """Add a constant."""
        return self._new("const", (), int(value), value, value)

    def range(self, a: int) -> tuple[int, int]:
        """Return the smallest and the largest value of a node."""
        return self.nodes[a].low, self.nodes[a].high

    def _is(self, a: int, value: int) -> bool:
        return self.range(a) == (value, value)

    def add(self, a: int, b: int, sa: int = 0, sb: int = 0, limits: tuple[int, int] | None = None) -> int:
        """Add (a << sa) + (b << sb); `limits` if its range is known better than from those of a and b."""
        if self._is(a, 0):
            return self.shl(b, sb)
        if self._is(b, 0):
            return self.shl(a, sa)
        (low, high), (low_b, high_b) = self.range(a), self.range(b)
        inner = self.nodes[a]
        if low_b == high_b and sa == 0 and inner.kind == "add" and inner.data[1] == 0:
            (before, after) = inner.args
            constant, also = self.range(after)
            if constant == also:  # one constant for two
                return self.add(before, self.const(constant + (low_b << sb)), inner.data[0])
        low, high = (low << sa) + (low_b << sb), (high << sa) + (high_b << sb)
        return self._new("add", (a, b), (sa, sb), *_within(low, high, limits))

    def sub(self, a: int, b: int, sa: int = 0, sb: int = 0, limits: tuple[int, int] | None = None) -> int:
        """Add (a << sa) - (b << sb); `limits` as in `add`."""
        if self._is(b, 0):
            return self.shl(a, sa)
        if a == b and sa == sb:
            return self.const(0)
        (low, high), (low_b, high_b) = self.range(a), self.range(b)
        low, high = (low << sa) - (high_b << sb), (high << sa) - (low_b << sb)
        return self._new("sub", (a, b), (sa, sb), *_within(low, high, limits))

    def mul(self, a: int, b: int) -> int:
        """Add a * b."""
        corners = [x * y for x in self.range(a) for y in self.range(b)]
        return self._new("mul", (a, b), None, min(corners), max(corners))

    def shl(self, a: int, n: int) -> int:
        """Add a << n."""
        low, high = self.range(a)
        return a if n == 0 else self._new("shl", (a,), n, low << n, high << n)

    def shr(self, a: int, n: int) -> int:
        """Add a >> n."""
        low, high = self.range(a)
        return a if n == 0 else self._new("shr", (a,), n, low >> n, high >> n)

    def even(self, a: int, n: int) -> int:
        """Add a >> n with its last bit cleared where the n bits below are zero: a rounded half to even, if a is
        already larger by half a step."""
        if self.nodes[a].width <= n:  # no number but zero ends with so many zeros
            return self.shr(a, n)
        low, high = self.range(a)
        return self._new("even", (a,), n, _even(low, n), _even(high, n))

    def wrap(self, a: int, n: int, signed: bool) -> int:
        """Add the low n bits of a, as two's complement if signed."""
        least, most = (-(1 << (n - 1)), (1 << (n - 1)) - 1) if signed else (0, (1 << n) - 1)
        low, high = self.range(a)
        return a if least <= low and high <= most else self._new("wrap", (a,), (n, signed), least, most)

    def clamp(self, a: int, least: int, most: int) -> int:
        """Add a, at least `least` and at most `most`."""
        low, high = self.range(a)
        if least <= low and high <= most:
            return a
        ends = [min(max(end, least), most) for end in (low, high)]
        return self._new("clamp", (a,), (least, most), *ends)

    def max(self, a: int, b: int) -> int:
        """Add the larger of a and b."""
        (low, high), (low_b, high_b) = self.range(a), self.range(b)
        if low >= high_b or a == b:
            return a
        return b if low_b >= high else self._new("max", (a, b), None, max(low, low_b), max(high, high_b))

    def less(self, a: int, b: int) -> int:
        """Add 1 where a < b."""
        (low, high), (low_b, high_b) = self.range(a), self.range(b)
        return self._new("less", (a, b), None, int(high < low_b), int(low < high_b))

    def both(self, a: int, b: int) -> int:
        """Add a & b for a and b of 0 and 1."""
        (low, high), (low_b, high_b) = self.range(a), self.range(b)
        if low == 1:
            return b
        return a if low_b == 1 else self._new("both", (a, b), None, 0, min(high, high_b))

    def any(self, a: int, n: int) -> int:
        """Add 1 where one of the low n bits of a is set."""
        low, high = self.range(a)
        known = low == high or n == 0
        value = int(n > 0 and low % (1 << n) != 0)
        return self._new("any", (a,), n, value if known else 0, value if known else 1)

    def mux(self, c: int, a: int, b: int) -> int:
        """Add a where c is 1, b where it is 0."""
        if self._is(c, 1) or a == b:
            return a
        (low, high), (low_b, high_b) = self.range(a), self.range(b)
        return b if self._is(c, 0) else self._new("mux", (c, a, b), None, min(low, low_b), max(high, high_b))

    def table(self, a: int, values: Sequence[int]) -> int:
        """Add values[a - low of a]."""
        low, high = self.range(a)
        assert len(values) == high - low + 1, "a value for each code"
        return self._new("table", (a,), tuple(map(int, values)), min(values), max(values))

    def bit(self, a: int, n: int) -> int:
        """Add bit n of a."""
        return self.wrap(self.shr(a, n), 1, False)

    def lut(self, bits: Sequence[int], values: Sequence[int]) -> int:
        """Add values[bits[0] + 2 * bits[1] + ...], each 0 or 1; bits on which it does not depend are left out."""
        table, kept = np.asarray(values, np.int64), list(bits)
        for number in reversed(range(len(kept))):
            halves = table.reshape(-1, 2, 1 << number)
            node = self.nodes[kept[number]]
            if node.low == node.high:
                table = halves[:, node.low].reshape(-1)
            elif (halves[:, 0] == halves[:, 1]).all():
                table = halves[:, 0].reshape(-1)
            else:
                continue
            del kept[number]
        if not kept:
            return self.const(int(table[0]))
        if table.tolist() == [0, 1]:
            return kept[0]
        return self._new("lut", tuple(kept), tuple(table.tolist()), 0, 1)

    def join(self, bits: Sequence[int], limits: tuple[int, int] | None = None) -> int:
        """Add bits[0] + 2 * bits[1] + ...; `limits` as in `add`."""
        low, high = (sum(self.range(bit)[end] << i for i, bit in enumerate(bits)) for end in (0, 1))
        return bits[0] if len(bits) == 1 else self._new("join", tuple(bits), None, *_within(low, high, limits))

    def inline(self, inner: Netlist, inputs: Sequence[int]) -> list[int]:
        """Add another netlist, nodes of this one in place of its inputs; return the nodes of its outputs."""
        places: list[int] = []
        for node in inner.nodes:
            args = [places[arg] for arg in node.args]
            places.append(inputs[node.data] if node.kind == "input" else ADDED[node.kind](self, inner, node, args))
        return [places[place] for place in inner.outputs]

    def run(self, codes: Codes) -> Codes:
        """Return the outputs for input codes: int64 (samples, inputs) -> (samples, outputs)."""
        values = self.values(codes)
        out = [np.broadcast_to(values[place], len(codes)) for place in self.outputs]
        return np.stack(out, axis=1).astype(np.int64)

    def values(self, codes: Codes) -> list[Codes]:
        """Return the value of every node for input codes."""
        values: list[Codes] = []
        for node in self.nodes:
            values.append(EVALUATE[node.kind](self, node, [values[arg] for arg in node.args], codes))
        return values


def _within(low: int, high: int, limits: tuple[int, int] | None) -> tuple[int, int]:
    return (low, high) if limits is None else (max(low, limits[0]), min(high, limits[1]))


def _even(value: Any, n: int) -> Any:
    """Return integers, or one, halved n times, the last bit cleared where the n bits below are zero."""
    shifted = value >> n
    return shifted - (shifted & (shifted << n == value))


def _wrapped(value: Codes, bits: int, signed: bool) -> Codes:
    low = value & ((1 << bits) - 1)
    return np.where(low >> (bits - 1) == 1, low - (1 << bits), low) if signed else low


def _joined(bits: Sequence[Codes]) -> Codes:
    return np.asarray(sum(bit << i for i, bit in enumerate(bits)))


EVALUATE: Mapping[str, Callable[[Netlist, Node, Sequence[Codes], Codes], Codes]] = {
    "input": lambda net, node, args, codes: codes[:, node.data],
    "const": lambda net, node, args, codes: np.asarray(node.data, np.int64),
    "add": lambda net, node, args, codes: (args[0] << node.data[0]) + (args[1] << node.data[1]),
    "sub": lambda net, node, args, codes: (args[0] << node.data[0]) - (args[1] << node.data[1]),
    "mul": lambda net, node, args, codes: args[0] * args[1],
    "shl": lambda net, node, args, codes: args[0] << node.data,
    "shr": lambda net, node, args, codes: args[0] >> node.data,
    "even": lambda net, node, args, codes: _even(args[0], node.data),
    "wrap": lambda net, node, args, codes: _wrapped(args[0], *node.data),
    "clamp": lambda net, node, args, codes: np.clip(args[0], *node.data),
    "max": lambda net, node, args, codes: np.maximum(args[0], args[1]),
    "less": lambda net, node, args, codes: (args[0] < args[1]).astype(np.int64),
    "both": lambda net, node, args, codes: args[0] & args[1],
    "any": lambda net, node, args, codes: (args[0] & ((1 << node.data) - 1) != 0).astype(np.int64),
    "mux": lambda net, node, args, codes: np.where(args[0] == 1, args[1], args[2]),
    "table": lambda net, node, args, codes: np.asarray(node.data, np.int64)[args[0] - net.nodes[node.args[0]].low],
    "lut": lambda net, node, args, codes: np.asarray(node.data, np.int64)[_joined(args)],
    "join": lambda net, node, args, codes: _joined(args),
}
"""Kind of node -> its value for the values of its arguments and the kernel's input codes; see the table above."""
Adding = Callable[[Netlist, Netlist, Node, Sequence[int]], int]
ADDED: Mapping[str, Adding] = {
    "const": lambda net, inner, node, args: net.const(node.data),
    "add": lambda net, inner, node, args: net.add(args[0], args[1], node.data[0], node.data[1], (node.low, node.high)),
    "sub": lambda net, inner, node, args: net.sub(args[0], args[1], node.data[0], node.data[1], (node.low, node.high)),
    "mul": lambda net, inner, node, args: net.mul(args[0], args[1]),
    "max": lambda net, inner, node, args: net.max(args[0], args[1]),
    "less": lambda net, inner, node, args: net.less(args[0], args[1]),
    "both": lambda net, inner, node, args: net.both(args[0], args[1]),
    "mux": lambda net, inner, node, args: net.mux(args[0], args[1], args[2]),
    "shl": lambda net, inner, node, args: net.shl(args[0], node.data),
    "shr": lambda net, inner, node, args: net.shr(args[0], node.data),
    "even": lambda net, inner, node, args: net.even(args[0], node.data),
    "any": lambda net, inner, node, args: net.any(args[0], node.data),
    "wrap": lambda net, inner, node, args: net.wrap(args[0], *node.data),
    "clamp": lambda net, inner, node, args: net.clamp(args[0], *node.data),
    "table": lambda net, inner, node, args: net.table(args[0], _entries(net, inner, node, args[0])),
    "lut": lambda net, inner, node, args: net.lut(args, node.data),
    "join": lambda net, inner, node, args: net.join(args),
}
"""Kind of node -> how one of another netlist is added to this; an input is what is handed in."""


def _entries(net: Netlist, inner: Netlist, node: Node, place: int) -> Sequence[int]:
    """Return the values of a table for the range of what reads it here, which may be narrower."""
    (low, high), first = net.range(place), inner.nodes[node.args[0]].low
    values: Sequence[int] = node.data[low - first : high - first + 1]
    return values


KINDS = tuple(EVALUATE)
"""The closed set of nodes; every table over it has exactly these keys."""


def reached(net: Netlist) -> set[int]:
    """Return the nodes that the outputs depend on."""
    reached, left = set[int](), list(net.outputs)
    while left:
        place = left.pop()
        if place not in reached:
            reached.add(place)
            left += net.nodes[place].args
    return reached
