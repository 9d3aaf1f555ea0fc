"""The bits of a netlist's values: computed by a node of their own, constants, or bits of another value.

A shift is wires, so a bit of its result is a bit of its operand; so are the bits of a sum below the other operand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from flow.backends.rtl.netlists.netlist import Netlist, Node, Pipeline, reached

Bit = int | tuple[int, int]
"""0, 1, or (node that computes it, its place in the node's value)."""
Own = list[Bit]
SUMS = ("add", "sub")


class NetBits:
    """The bits of every node of a pipelined netlist, and who reads whom.

    Args:
        net: the netlist.
        pipe: its stages.
        fixed: inputs that are constants: number of the input -> its code.

    Attributes:
        readers: node -> the nodes that read it, of those that an output depends on.
        merged: sums that become part of the one sum that reads them.
        roots: sums of three and more operands, into which these are merged.
        of: per node, the bits of its value, the lowest first.
    """

    def __init__(self, net: Netlist, pipe: Pipeline, fixed: Mapping[int, int]) -> None:
        self.net, self.pipe, inputs = net, pipe, net.inputs
        self.fixed = {number: constant(code, inputs[number].width) for number, code in fixed.items()}
        self.readers: defaultdict[int, list[int]] = defaultdict(list)
        for place in sorted(reached(net)):
            for arg in net.nodes[place].args:
                self.readers[arg].append(place)
        self.merged, self.roots = self._merged()
        self.of: list[Sequence[Bit]] = []
        for place, node in enumerate(net.nodes):
            own: list[Bit] = [(place, i) for i in range(node.width)]
            self.of.append(BITS[node.kind](self, place, node, own))

    def _merged(self) -> tuple[set[int], set[int]]:
        merged, roots = set[int](), set[int]()
        for place, node in enumerate(self.net.nodes):
            reader = self.only_reader(place)
            if node.kind in SUMS and reader is not None and self.net.nodes[reader].kind in SUMS:
                above = self.net.nodes[reader]
                if above.data[above.args.index(place)] == 0:
                    merged.add(place)
                    roots.add(reader)
        return merged, roots - merged

    def only_reader(self, place: int) -> int | None:
        """Return the node that alone reads another, in the same stage; None if there is no such node."""
        readers = self.readers[place]
        alone = len(readers) == 1 and place not in self.net.outputs
        return readers[0] if alone and self.pipe.stages[readers[0]] == self.pipe.stages[place] else None

    def extended(self, place: int, width: int, shift: int = 0) -> list[Bit]:
        """Return a value, shifted to the left, with exactly `width` bits."""
        bits = [*[0] * shift, *self.of[place]]
        sign = bits[-1] if self.net.nodes[place].signed else 0
        return [*bits[:width], *[sign] * (width - len(bits))]

    def terms(self, place: int, width: int) -> list[list[Bit]]:
        """Return what a sum adds, with those of the sums that are part of it; its constants as one, the last."""
        terms, fixed = list[list[Bit]](), 0
        left = [(place, 1)]
        while left:
            at, sign = left.pop()
            node = self.net.nodes[at]
            signs = (sign, -sign if node.kind == "sub" else sign)
            for arg, shift, own in zip(node.args, node.data, signs, strict=True):
                bits = self.extended(arg, width, shift)
                if arg in self.merged:
                    left.append((arg, own))
                elif all(isinstance(bit, int) for bit in bits):
                    fixed += own * sum(int(bool(bit)) << i for i, bit in enumerate(bits))
                else:
                    terms.append(bits)
        fixed %= 1 << width
        if fixed or len(terms) < 2:
            terms.append(constant(fixed, width))
        return terms if len(terms) > 1 else [constant(0, width), *terms]


def constant(value: int, width: int) -> list[Bit]:
    """Return the bits of a constant, two's complement."""
    return [value >> i & 1 for i in range(width)]


def _sum(bits: NetBits, place: int, node: Node, own: Own) -> Sequence[Bit]:
    if place in bits.merged or place in bits.roots:
        return own
    operands = (bits.extended(arg, node.width, shift) for arg, shift in zip(node.args, node.data, strict=True))
    for i, (a, b) in enumerate(zip(*operands, strict=True)):
        if node.kind == "sub" and a == b:
            own[i] = 0
        elif b == 0:
            own[i] = a
        elif a == 0 and node.kind == "add":
            own[i] = b
        else:
            break
    return own


def _less(bits: NetBits, place: int, node: Node, own: Own) -> Sequence[Bit]:
    a, b = node.args
    if bits.net.range(b) != (0, 0):
        return own
    return [bits.of[a][-1]] if bits.net.nodes[a].signed else [0]


def _mux(bits: NetBits, place: int, node: Node, own: Own) -> Sequence[Bit]:
    a, b = (bits.extended(arg, node.width) for arg in node.args[1:])
    condition = bits.of[node.args[0]][0]
    chosen = _alike(own, a, b)
    return [condition if pair == (1, 0) else bit for bit, pair in zip(chosen, zip(a, b, strict=True), strict=True)]


def _alike(own: Sequence[Bit], *sources: Sequence[Bit]) -> list[Bit]:
    """Return the bits of a choice: one bit where the choices are one, the same where they are the same elsewhere."""
    first: dict[tuple[Bit, ...], Bit] = {}
    bits = []
    for bit, choices in zip(own, zip(*sources, strict=True), strict=True):
        same = all(choice == choices[0] for choice in choices)
        bits.append(choices[0] if same else first.setdefault(choices, bit))
    return bits


BITS: Mapping[str, Callable[[NetBits, int, Node, Own], Sequence[Bit]]] = {
    "input": lambda bits, place, node, own: bits.fixed.get(node.data, own),
    "const": lambda bits, place, node, own: constant(node.low, node.width),
    **dict.fromkeys(SUMS, _sum),
    **dict.fromkeys(("mul", "both", "any", "table"), lambda bits, place, node, own: own),
    "shl": lambda bits, place, node, own: [*[0] * node.data, *bits.of[node.args[0]]],
    "shr": lambda bits, place, node, own: bits.extended(node.args[0], node.width + node.data)[node.data :],
    "even": lambda bits, place, node, own: [
        own[0],
        *bits.extended(node.args[0], node.width + node.data)[node.data + 1 :],
    ],
    "wrap": lambda bits, place, node, own: bits.extended(node.args[0], node.width),
    "clamp": lambda bits, place, node, own: _alike(
        own, bits.extended(node.args[0], node.width), *(constant(end, node.width) for end in node.data)
    ),
    "max": lambda bits, place, node, own: _alike(own, *(bits.extended(arg, node.width) for arg in node.args)),
    "less": _less,
    "mux": _mux,
}
"""Kind of node -> the bits of its value; `own` are those that it would compute itself."""
