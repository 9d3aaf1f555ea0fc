"""Footprint: what of a pipelined netlist becomes hardware, bit by bit, before any tool has run.

Bits that nothing reads, constants, and bits that two values share are not built, nor are their registers. What is left
is counted by kind, see `needs`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flow.backends.rtl.netlists.bits import Bit, NetBits
from flow.backends.rtl.netlists.needs import registers
from flow.backends.rtl.netlists.netlist import Netlist, Node, Pipeline
from flow.ir.fixed import Codes

Mine = list[int]
"""Which bits of a node are read."""
CHOICES = ("mux", "clamp", "both")
DSP_PRODUCT_BITS = 9
"""Products of so many bits take a DSP slice (Yosys, `mul2dsp -D DSP_Y_MINWIDTH=9`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one use of a netlist needs.

    Attributes:
        parts: kind -> how much of it.
        waits: (input, its bit) -> after how many cycles it is read, in ascending order without 0; only what is read.
    """

    parts: Mapping[str, int]
    waits: Mapping[tuple[int, int], tuple[int, ...]]


def used(net: Netlist, pipe: Pipeline, width: int, index: Codes, fill: int) -> Counter[str]:
    """Return what the uses of a netlist need, side by side.

    Args:
        width: bits of each output.
        index: int64 (uses, inputs): which code each input reads; -1 for a constant. A code that several uses read
            waits in one register.
        fill: that constant.
    """
    parts: Counter[str] = Counter()
    taps: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    padded, which = np.unique(index < 0, axis=0, return_inverse=True)
    for number, mask in enumerate(padded):
        uses = index[which.reshape(-1) == number]
        one = footprint(net, pipe, width, dict.fromkeys(np.flatnonzero(mask).tolist(), fill))
        for kind, count in one.parts.items():
            parts[kind] += count * len(uses)
        for (place, bit), stages in one.waits.items():
            for code in uses[:, place].tolist():
                taps[code, bit].update(stages)
    return parts + registers(taps.values())


def footprint(net: Netlist, pipe: Pipeline, width: int, fixed: Mapping[int, int]) -> Footprint:
    """Return what one use of a netlist needs, whose outputs have `width` bits.

    Args:
        fixed: inputs that are constants: number of the input -> its code.
    """
    count = _Count(NetBits(net, pipe, fixed))
    count.all_that_outputs_need(width)
    waits, inner = {}, list[Sequence[int]]()
    for (place, i), stages in count.read.items():
        node, start = net.nodes[place], pipe.stages[place]
        taps = tuple(sorted(stage - start for stage in stages if stage > start))
        if node.kind == "input":
            waits[node.data, i] = taps
        else:
            inner.append(taps)
    return Footprint(parts=count.parts + registers(inner), waits=waits)


class _Count:
    """What is built of a netlist, counted from the outputs back.

    Attributes:
        bits: what each bit is.
        parts: kind -> how much of it.
        read: bit that is read -> in which stages.
        built: bits that are there already, by what they compute.
    """

    def __init__(self, bits: NetBits) -> None:
        self.bits, self.net, self.pipe = bits, bits.net, bits.pipe
        self.parts: Counter[str] = Counter()
        self.read: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        self.built: set[tuple[object, ...]] = set()

    def all_that_outputs_need(self, width: int) -> None:
        """Count every node of which a bit is read."""
        for place in self.net.outputs:
            self.need(self.bits.extended(place, width), self.pipe.depth)
        for place in range(len(self.net.nodes) - 1, -1, -1):
            node = self.net.nodes[place]
            mine = [i for i in range(node.width) if (place, i) in self.read]
            if mine:
                for operand in COUNTS[node.kind](self, place, node, mine):
                    self.need(operand, self.pipe.stages[place])

    def need(self, bits: Sequence[Bit], stage: int) -> None:
        """Note that bits are read in a stage."""
        for bit in bits:
            if not isinstance(bit, int):
                self.read[bit].add(stage)

    def choose(self, place: int, kind: str, count: int) -> None:
        """Count bits of a choice; one that only another choice reads, or that chooses tables, is in their LUTs."""
        reader, node = self.bits.only_reader(place), self.net.nodes[place]
        tables = node.kind == "mux" and all(self._is_table(arg) for arg in node.args[1:])
        absorbed = tables or (reader is not None and self.net.nodes[reader].kind in CHOICES)
        self.parts["absorbed" if absorbed else kind] += count

    def _is_table(self, place: int) -> bool:
        node = self.net.nodes[place]
        return node.kind in ("table", "const") or (node.kind == "mux" and all(map(self._is_table, node.args[1:])))

    def select(self, place: int, a: Sequence[Bit], b: Sequence[Bit]) -> None:
        """Count a choice between two values: a LUT per bit, of which the set or reset of registers saves some."""
        known = [isinstance(x, int) + isinstance(y, int) for x, y in zip(a, b, strict=True)]
        self.choose(place, "select", known.count(0))
        stages, node = self.pipe.stages, self.net.nodes[place]
        alone = all(stages[reader] > stages[place] for reader in self.bits.readers[place]) and not any(
            self.net.nodes[arg].kind in CHOICES and stages[arg] == stages[place] for arg in node.args
        )
        self.choose(place, "reset" if alone else "gate", known.count(1))

    def compare(self, a: Sequence[Bit], b: Sequence[Bit]) -> None:
        """Count the comparison of two values."""
        if any(all(isinstance(bit, int) for bit in operand) for operand in (a, b)):
            self.compare_constant(len(a))
        else:
            known = [isinstance(x, int) + isinstance(y, int) for x, y in zip(a, b, strict=True)]
            self.parts["compare"] += _comparison_luts(known.count(0)) + -(-known.count(1) // 5)

    def compare_constant(self, bits: int) -> None:
        """Count the comparison of a value with a constant."""
        self.parts["compare_constant"] += max(1, (bits - 3) // 2)

    def any(self, bits: Sequence[Bit]) -> None:
        """Count the OR of bits, in LUTs of six inputs."""
        count = len({bit for bit in bits if not isinstance(bit, int)})
        self.parts["any"] += -(-max(count - 1, 0) // 5)


def _comparison_luts(bits: int) -> int:
    """Return the LUTs that compare two values; a choice by so few bits compares in its own LUTs."""
    return 0 if bits <= 3 else max(4, -(-2 * bits // 3))


def _sum(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    """A LUT per bit of a carry chain, one for equal bits; a bit without a second operand needs none, or an inverter."""
    first = next(i for i, bit in enumerate(count.bits.of[place]) if bit == (place, i))
    terms: list[Sequence[Bit]] = [term[first : mine[-1] + 1] for term in count.bits.terms(place, node.width)]
    if len(terms) == 1:  # all of it is known
        return terms
    if len(terms) > 2:
        _compress(count, terms)
    else:
        _carry_chain(count, terms, node.kind == "sub", count.pipe.stages[place])
    if len(terms[0]) > 2:
        count.parts["carry"] += -(-len(terms[0]) // 4)
    return terms


def _compress(count: _Count, terms: Sequence[Sequence[Bit]]) -> None:
    """Three and more operands are first brought to two, a full adder per bit and further operand."""
    for column in zip(*terms, strict=True):
        variables = sum(not isinstance(bit, int) for bit in column)
        if variables:
            count.parts[f"sum_of_{min(variables, 3)}"] += 1
            count.parts["further"] += max(variables - 3, 0)


def _carry_chain(count: _Count, terms: Sequence[Sequence[Bit]], minus: bool, stage: int) -> None:
    for x, y in zip(*terms, strict=True):
        if isinstance(x, int) and isinstance(y, int):
            continue
        fixed = x if isinstance(x, int) else y if isinstance(y, int) else None
        part = "sum" if fixed is None else "passed" if bool(fixed) == minus else "invert"
        key = (part, minus, frozenset((x, y)), stage)
        if key not in count.built:
            count.built.add(key)
            count.parts["small_sum" if len(terms[0]) <= 2 else part] += 1


def _product(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    a, b = (count.net.nodes[arg] for arg in node.args)
    if node.width >= DSP_PRODUCT_BITS and min(a.width, b.width) >= 2:
        count.parts["dsp"] += -(-a.width // 25) * -(-b.width // 18)
    else:
        count.parts["product"] += a.width * b.width
    return [count.bits.of[arg] for arg in node.args]


def _clamp(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    """Ends at powers of two look at the bits beyond, others are compared, as `verilog.netlist_module` writes."""
    (arg,), (least, most) = node.args, node.data
    source, bits = count.net.nodes[arg], count.bits.of[arg]
    all_ones = most & (most + 1) == 0 and most > 0
    both = source.low < least and source.high > most
    simple = all_ones and (source.low >= least or least == 0 or (least == -most - 1 and source.high > most))
    kept = count.bits.extended(arg, node.width)
    ends = 1 + any(isinstance(kept[i], int) for i in mine)  # where the code is constant, the end is the bit
    count.choose(place, ("clamp" if simple else "limit") if both else "clamp_one", len(mine) if both else ends)
    if simple:
        beyond = len(set(bits[most.bit_length() :]))
        count.parts["beyond"] += -(-max(beyond - 1, 0) // 5)
    else:
        for passed in (source.low < least != 0, source.high > most):
            if passed:
                count.compare_constant(source.width)
    return [bits]


def _compared(count: _Count, node: Node) -> list[Sequence[Bit]]:
    """Count the comparison of a node's operands, and return them."""
    width = max(count.net.nodes[arg].width for arg in node.args)
    a, b = (count.bits.extended(arg, width) for arg in node.args)
    count.compare(a, b)
    return [a, b]


def _max(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    operands = _compared(count, node)
    count.select(place, *([operand[i] for i in mine] for operand in operands))
    return operands


def _or(count: _Count, node: Node, bits: int) -> list[Sequence[Bit]]:
    """Count an OR of the low bits of a node's operand, and return them."""
    read = count.bits.of[node.args[0]][:bits]
    count.any(read)
    return [read]


def _both(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    count.choose(place, "gate", 1)
    return [count.bits.of[arg] for arg in node.args]


def _mux(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    condition, *args = node.args
    a, b = ([count.bits.extended(arg, node.width)[i] for i in mine] for arg in args)
    count.select(place, a, b)
    return [a, b, count.bits.of[condition][:1]]


def _table(count: _Count, place: int, node: Node, mine: Mine) -> list[Sequence[Bit]]:
    """A LUT per bit of six inputs, twice as many for each further input; one for equal bits."""
    index = count.bits.of[node.args[0]]
    for i in mine:
        column = tuple(value >> i & 1 for value in node.data)
        key = ("table", node.args, column, count.pipe.stages[place])
        if 0 < sum(column) < len(column) and key not in count.built:
            count.built.add(key)
            count.parts["table"] += 1 << max(len(index) - 6, 0)
    return [index]


COUNTS: Mapping[str, Callable[[_Count, int, Node, Mine], Sequence[Sequence[Bit]]]] = {
    # an input is built elsewhere; constants and wires have no bits of their own
    **dict.fromkeys(("input", "const", "shl", "shr", "wrap"), lambda count, place, node, mine: []),
    **dict.fromkeys(("add", "sub"), _sum),
    "mul": _product,
    "even": lambda count, place, node, mine: _or(count, node, node.data + 1),
    "any": lambda count, place, node, mine: _or(count, node, node.data),
    "clamp": _clamp,
    "max": _max,
    "less": lambda count, place, node, mine: _compared(count, node),
    "both": _both,
    "mux": _mux,
    "table": _table,
}
"""Kind of node -> counts what it needs, and returns the bits that it reads."""
