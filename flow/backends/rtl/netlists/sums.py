"""Sums of bits as Yosys builds them: which sums become one (`alumacc`), full adders for columns (`maccmap`), chains.

Rules read in Yosys 0.70: a sum that one other sum alone reads becomes part of it where it has the same width, or where
it cannot overflow its own. Operands are first made as short as their signs allow (`wreduce`). A sum of two operands, or
of two words that full adders left, is a carry chain from three bits on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from flow.backends.rtl.netlists.gates import FALSE, MASK, TRUE, Gates, Literal
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import Pipeline

Bits = list[Literal]
SUMS = ("add", "sub")
SHORTEST_CHAIN = 3


class Port(NamedTuple):
    """An operand of a sum: its bits, whether they are read as signed, whether it is subtracted."""

    size: int
    signed: bool
    minus: bool


def merged_sums(net: Netlist, pipe: Pipeline, used: Sequence[int]) -> set[int]:
    """Return the sums that become part of the one sum that reads them; `used` are the nodes that are built."""
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for place in used:
        for arg in net.nodes[place].args:
            readers[arg].append(place)
    merged, ports = set[int](), dict[int, list[Port]]()
    for place in used:
        node = net.nodes[place]
        if node.kind not in SUMS:
            continue
        sizes = [_sizes(net, arg, shift, node.width) for arg, shift in zip(node.args, node.data, strict=True)]
        signed = max(size for size, _ in sizes) < max(size for _, size in sizes)
        ports[place] = []
        for number, (arg, shift) in enumerate(zip(node.args, node.data, strict=True)):
            inner, minus = net.nodes[arg], number == 1 and node.kind == "sub"
            minus ^= number == 1 and inner.kind == "const" and inner.low < 0  # which is written as its magnitude
            alone = readers[arg] == [place] and arg not in net.outputs and pipe.stages[arg] == pipe.stages[place]
            whole = inner.width == node.width or (
                inner.signed == signed and _fits(ports.get(arg, ()), signed, inner.width)
            )
            if arg in ports and shift == 0 and alone and whole:
                merged.add(arg)
                ports[place] += [port._replace(minus=port.minus ^ minus) for port in ports[arg]]
            else:
                ports[place].append(Port(sizes[number][0 if signed else 1], signed, minus))
    return merged


def _sizes(net: Netlist, arg: int, shift: int, width: int) -> tuple[int, int]:
    """Return how many bits an operand takes, as a signed number and as an unsigned one of so many bits."""
    node = net.nodes[arg]
    if node.kind == "const":
        bits = (abs(node.low) << shift).bit_length()
        return min(bits + 1, width), min(bits, width)
    bits = min(node.width + shift, width)
    return (bits, width) if node.signed else (min(bits + 1, width), bits)


def _fits(ports: Sequence[Port], signed: bool, width: int) -> bool:
    """Say whether a sum of operands cannot overflow, as Yosys sees it."""
    if any(port.signed != signed or (port.minus and not signed) for port in ports):
        return False
    return sum((1 << port.size) - 1 for port in ports).bit_length() <= width


class Adders:
    """Sums over gates, and the carry chains that they take.

    Attributes:
        chains: gate that leaves a chain -> what the chain reads, per bit, and at which bit it leaves.
        leaves: gate that leaves a chain -> all that leave it.
        enters: gate that leaves a chain -> the carry into its first bit, if that is no constant.
    """

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.chains: dict[int, tuple[Sequence[tuple[Literal, Literal]], int]] = {}
        self.leaves: dict[int, Bits] = {}
        self.enters: dict[int, Literal] = {}

    def chain(self, reads: Sequence[tuple[Literal, Literal]]) -> Bits:
        """Add a carry chain: per bit, what its look-up table computes and what enters beside it."""
        leaves = [self.gates.outside() for _ in reads]
        for place, leaf in enumerate(leaves):
            self.chains[leaf >> 1] = (reads, place)
            self.leaves[leaf >> 1] = leaves
        return leaves

    def _sum(self, reads: Sequence[tuple[Literal, Literal]], carry: Literal) -> Bits:
        """Add the chain of a sum.

        `abc9` looks through chains: a bit that it has elsewhere too is taken there. Likely it has functions of a few
        bits, so only of these it is said what they are.
        """
        leaves, gates = self.chain(reads), self.gates
        if carry > TRUE:
            self.enters |= {leaf >> 1: carry for leaf in leaves}
            return leaves
        carried, support = gates.value(carry), frozenset[int]()
        for (half, x), leaf in zip(reads, leaves, strict=True):
            few = gates.support((half, x), support)
            if few is None:
                break
            chosen, support = gates.value(half), few
            gates.computed(leaf, chosen ^ carried, support)
            carried = chosen & carried | ~chosen & MASK & gates.value(x)
        return leaves

    def two(self, a: Bits, b: Bits, minus: bool = False, carry: Literal = FALSE) -> Bits:
        """Add a + b, or a - b: wires as long as there is no carry, then a chain; `carry` enters a + b besides."""
        low: Bits = []
        for x, y in zip(a, b, strict=True):
            if carry != FALSE or (y != FALSE and (x != FALSE or minus)):
                break
            low.append(x if y == FALSE else y)
        a, b = a[len(low) :], [bit ^ minus for bit in b[len(low) :]]
        if len(a) >= SHORTEST_CHAIN:
            return low + self._sum(
                [(self.gates.differ(x, y), x) for x, y in zip(a, b, strict=True)], TRUE if minus else carry
            )
        carry = TRUE if minus else carry
        for x, y in zip(a, b, strict=True):
            half = self.gates.differ(x, y)
            low.append(self.gates.differ(half, carry))
            carry = self.gates.choose(half, carry, x)
        return low

    def many(self, terms: Sequence[tuple[Bits, bool]], width: int) -> Bits:
        """Add terms, some of which are subtracted."""
        columns: list[dict[tuple[Literal, int], None]] = [{} for _ in range(width)]
        fixed = 0
        for number, (bits, minus) in enumerate(sorted(terms, key=lambda term: term[1])):
            if all(bit in (FALSE, TRUE) for bit in bits):
                value = sum(bit << i for i, bit in enumerate(bits))
                fixed += -value if minus else value
                continue
            fixed += minus
            for i, bit in enumerate(bits[:width]):
                if minus:  # an inverter's output, of which Yosys does not know here that it is constant
                    columns[i][bit ^ 1, number + 1] = None
                elif bit == TRUE:
                    fixed += 1 << i
                elif bit != FALSE:
                    _add(columns, bit, i)
        constants = [[TRUE] * (fixed >> i & 1) for i in range(width)]
        return self._columns([first + [bit for bit, _ in each] for first, each in zip(constants, columns, strict=True)])

    def _columns(self, columns: list[Bits]) -> Bits:
        """Add columns of bits: full adders until two words are left, whose sum is a chain."""
        g, words, spare = self.gates, list[Bits](), Bits()
        width = len(columns)
        while any(columns):
            words.append([column.pop(0) if column else FALSE for column in columns])
            free = max(len(words) - 2, 0) - len(spare)
            for i, column in enumerate(columns):  # carries into full adders that have room for a bit
                while column and 1 << i <= free:
                    spare += [column.pop(0)] * (1 << i)
                    free -= 1 << i
        while len(words) > 2:
            fewer = list[Bits]()
            for a, b, c in zip(words[::3], words[1::3], words[2::3], strict=False):
                half = [g.differ(x, y) for x, y in zip(a, b, strict=True)]
                fewer.append([g.differ(x, y) for x, y in zip(half, c, strict=True)])
                carries = [g.either(g.both(x, y), g.both(z, h)) for x, y, z, h in zip(a, b, c, half, strict=True)]
                fewer.append([spare.pop() if spare else FALSE, *carries[:-1]])
            words = fewer + words[len(words) // 3 * 3 :]
        words += [[FALSE] * width] * (2 - len(words))
        return self.two(words[0], words[1])


def _add(columns: Sequence[dict[tuple[Literal, int], None]], bit: Literal, place: int) -> None:
    """Add a bit to columns; twice the same bit is one in the next column."""
    while place < len(columns):
        if (bit, 0) not in columns[place]:
            columns[place][bit, 0] = None
            return
        del columns[place][bit, 0]
        place += 1
