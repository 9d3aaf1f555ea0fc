"""Footprint: what of a pipelined netlist becomes hardware, bit by bit, before any tool has run.

A shift is wires, so a bit of its result is a bit of its operand; so are the bits of a sum below the other operand. Bits
that nothing reads, constants, and bits that two values share are not built, nor are their registers. What is left is
counted by kind; what a LUT each kind takes is fitted to a synthesizer (`flow.backends.rtl.synthesis.estimate`).

    sum                bits of carry chains with two operands
    small_sum          the same of sums of one or two bits, which have no carry chain
    invert, passed     bits of carry chains whose other operand is a constant 1, 0
    sum_of_1, _2, _3   bits of sums of more than two operands that have one, two, or more variables
    further            the fourth variable of such a bit and those after it
    carry              cells of carry chains, 4 bits each
    select, gate       bits chosen between two, between one and a constant
    reset              the same as gate, between registers or sums and a register, whose set or reset does it
    compare            LUTs of a comparison of two values, compare_constant: with a constant
    absorbed           bits of a choice that only another choice reads, or between tables
    clamp, clamp_one   bits that leave a clamp at both ends; clamps at one end, which the set or reset of registers do
    limit              bits that leave a clamp at two ends of which one is no power of two
    beyond             LUTs that look at the bits above them
    any, table         LUTs of an OR of many bits, of a table
    product, dsp       pairs of bits of a small product, DSP slices of a large one
    flip_flops         registers;   shift_registers: bits that only wait, for 3 cycles or more

Streams have besides: `stages`, `control` (bits of a window's counters), `padding` (those of them that are held against
the frame inside its padding), `fifo_control` (bits of addresses), and the memories of `Needs`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.backends.rtl.netlists.netlist import Netlist, Node
from flow.backends.rtl.netlists.pipelining import Pipeline, reached
from flow.ir.fixed import Codes

Bit = int | tuple[int, int]
"""0, 1, or (node that computes it, its place in the node's value)."""
SHORTEST_SHIFT_REGISTER = 3
"""A bit that only waits for so many cycles becomes a shift register of one LUT (Yosys, `xilinx_srl -minlen`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Words that are read in the cycle in which their address is given.

    Attributes:
        width, depth: bits of a word, words.
        ports: addresses, 1 or 2.
    """

    width: int
    depth: int
    ports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a module needs.

    Attributes:
        parts: kind -> how much of it, see above.
        memories: those of its line buffers and FIFOs.
    """

    parts: Mapping[str, int]
    memories: tuple[Memory, ...] = ()

    def __add__(self, other: Needs) -> Needs:
        return Needs(parts=Counter(self.parts) + Counter(other.parts), memories=self.memories + other.memories)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"parts": dict(self.parts), "memories": [[each.width, each.depth, each.ports] for each in self.memories]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Needs:
        """Return what `to_json` wrote."""
        memories = (Memory(width=width, depth=depth, ports=ports) for width, depth, ports in data["memories"])
        return cls(parts=data["parts"], memories=tuple(memories))


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
        net: what is computed at each.
        pipe: its stages.
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
    return parts + _registers(taps.values())


def footprint(net: Netlist, pipe: Pipeline, width: int, fixed: Mapping[int, int]) -> Footprint:
    """Return what one use of a netlist needs.

    Args:
        net: what is computed.
        pipe: its stages.
        width: bits of each output.
        fixed: inputs that are constants: number of the input -> its code.
    """
    walk = _Walk(net, pipe, fixed)
    walk.back(width)
    waits, inner = {}, list[Sequence[int]]()
    for (place, i), stages in walk.read.items():
        node, start = net.nodes[place], pipe.stages[place]
        taps = tuple(sorted(stage - start for stage in stages if stage > start))
        if node.kind == "input":
            waits[node.data, i] = taps
        else:
            inner.append(taps)
    return Footprint(parts=walk.parts + _registers(inner), waits=waits)


def window_needs(read: Iterable[tuple[int, int]], settings: Mapping[str, int], channels: int) -> Needs:
    """Return what a window over a frame needs (`po2flow_window`).

    Args:
        read: (code of the window, its bit) that are read; a pixel's channels lie together, the row's pixels too.
        settings: its parameters.
        channels: of a pixel.
    """
    rows, cols, columns = settings["KR"], settings["KC"], settings["PADDED_COLS"]
    taps: defaultdict[tuple[int, int, int], set[int]] = defaultdict(set)
    for code, bit in read:
        pixel, channel = divmod(code, channels)
        row, col = divmod(pixel, cols)
        taps[row, channel, bit].add(cols - col)
    skips = [(size, step) for size, step in ((rows, settings["SR"]), (cols, settings["SC"])) if max(size, step) > 1]
    counters = sum(max(skip).bit_length() for skip in skips)
    counters += sum(size.bit_length() for size in (settings["PADDED_ROWS"], columns) if size > 1)
    padded = (settings["PADDED_ROWS"], columns) != (settings["ROWS"], settings["COLS"])
    parts = _registers(taps.values()) + Counter(flip_flops=counters + 1, control=counters, padding=counters * padded)
    if rows == 1:
        return Needs(parts=parts)
    memory = Memory(width=(rows - 1) * settings["WIDTH"], depth=columns, ports=1 if rows == 2 else 2)
    return Needs(parts=parts, memories=(memory,))


def fifo_needs(width: int, depth: int) -> Needs:
    """Return what a FIFO needs (`po2flow_fifo`): two addresses, a count, and the words."""
    bits = max(1, (depth - 1).bit_length())
    return Needs(
        parts=Counter(flip_flops=3 * bits + 1, fifo_control=bits),
        memories=(Memory(width=width, depth=depth, ports=2),),
    )


def _registers(taps: Iterable[Iterable[int]]) -> Counter[str]:
    found = [held(sorted(each)) for each in taps]
    return Counter(flip_flops=sum(each[0] for each in found), shift_registers=sum(each[1] for each in found))


def held(taps: Sequence[int]) -> tuple[int, int]:
    """Return (flip-flops, shift registers) of a bit that is read after so many cycles, in ascending order.

    Example:
        >>> held((1, 2, 7))
        (2, 1)
    """
    gaps = [after - before for before, after in zip((0, *taps), taps, strict=False)]
    long = [gap for gap in gaps if gap >= SHORTEST_SHIFT_REGISTER]
    return sum(gaps) - sum(long), len(long)


class _Walk:
    """The bits of every node, and, from the outputs back, which are read and when."""

    def __init__(self, net: Netlist, pipe: Pipeline, fixed: Mapping[int, int]) -> None:
        self.net, self.pipe = net, pipe
        self.bits: list[Sequence[Bit]] = []
        self.parts: Counter[str] = Counter()
        self.read: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        self.built: set[tuple[object, ...]] = set()
        self.readers: defaultdict[int, list[int]] = defaultdict(list)
        for place in sorted(reached(net)):
            for arg in net.nodes[place].args:
                self.readers[arg].append(place)
        self.merged, self.roots = self._merged()
        for place, node in enumerate(net.nodes):
            self.bits.append(self._bits(place, node, fixed))

    # -- forward: what each bit is

    def _bits(self, place: int, node: Node, fixed: Mapping[int, int]) -> Sequence[Bit]:
        if node.kind == "input" and node.data in fixed:
            return constant(fixed[node.data], node.width)
        if node.kind == "const":
            return constant(node.low, node.width)
        fresh: list[Bit] = [(place, i) for i in range(node.width)]
        if node.kind == "input":
            return fresh
        args = [self.bits[arg] for arg in node.args]
        if node.kind == "shl":
            return [*[0] * node.data, *args[0]]
        if node.kind == "shr":
            return self.extended(node.args[0], node.width + node.data)[node.data :]
        if node.kind == "wrap":
            return self.extended(node.args[0], node.width)
        if node.kind in SUMS and place not in self.merged | self.roots:
            for i, (a, b) in enumerate(zip(*self._operands(node), strict=True)):
                if node.kind == "sub" and a == b:
                    fresh[i] = 0
                elif b == 0:
                    fresh[i] = a
                elif a == 0 and node.kind == "add":
                    fresh[i] = b
                else:
                    break
        if node.kind == "even":
            return [fresh[0], *self.extended(node.args[0], node.width + node.data)[node.data + 1 :]]
        if node.kind == "less" and self._is_zero(node.args[1]):
            return [self.bits[node.args[0]][-1]] if self.net.nodes[node.args[0]].signed else [0]
        if node.kind == "clamp":
            ends = (constant(end, node.width) for end in node.data)
            return _alike(fresh, self.extended(node.args[0], node.width), *ends)
        if node.kind == "max":
            return _alike(fresh, *(self.extended(arg, node.width) for arg in node.args))
        if node.kind == "mux":
            bits = _alike(fresh, *(self.extended(arg, node.width) for arg in node.args[1:]))
            chosen = (self.extended(arg, node.width) for arg in node.args[1:])
            return [
                args[0][0] if pair == (1, 0) else bit for bit, pair in zip(bits, zip(*chosen, strict=True), strict=True)
            ]
        return fresh

    def _is_zero(self, place: int) -> bool:
        return self.net.range(place) == (0, 0)

    def extended(self, place: int, width: int, shift: int = 0) -> list[Bit]:
        """Return a value, shifted to the left, with exactly `width` bits."""
        bits = [*[0] * shift, *self.bits[place]]
        sign = bits[-1] if self.net.nodes[place].signed else 0
        return [*bits[:width], *[sign] * (width - len(bits))]

    def _operands(self, node: Node) -> tuple[list[Bit], list[Bit]]:
        """Return the bits of both operands of a sum, as wide as it is."""
        a, b = (self.extended(arg, node.width, shift) for arg, shift in zip(node.args, node.data, strict=True))
        return a, b

    def _only_reader(self, place: int) -> int | None:
        """Return the node that alone reads another, in the same stage; None if there is no such node."""
        readers = self.readers[place]
        alone = len(readers) == 1 and place not in self.net.outputs
        return readers[0] if alone and self.pipe.stages[readers[0]] == self.pipe.stages[place] else None

    def _merged(self) -> tuple[set[int], set[int]]:
        """Return sums that become part of the one sum that reads them, and those: sums of three and more operands."""
        merged, roots = set[int](), set[int]()
        for place, node in enumerate(self.net.nodes):
            reader = self._only_reader(place)
            if node.kind in SUMS and reader is not None and self.net.nodes[reader].kind in SUMS:
                above = self.net.nodes[reader]
                if above.data[above.args.index(place)] == 0:
                    merged.add(place)
                    roots.add(reader)
        return merged, roots - merged

    # -- backward: what is read

    def need(self, bit: Bit, stage: int) -> None:
        if not isinstance(bit, int):
            self.read[bit].add(stage)

    def back(self, width: int) -> None:
        """Count all that the outputs need."""
        for place in self.net.outputs:
            for bit in self.extended(place, width):
                self.need(bit, self.pipe.depth)
        for place in range(len(self.net.nodes) - 1, -1, -1):
            node = self.net.nodes[place]
            mine = [i for i in range(node.width) if (place, i) in self.read]
            if mine and node.kind != "input":
                self._count(place, node, mine)

    def _count(self, place: int, node: Node, mine: list[int]) -> None:
        """Count a node of which these bits are read."""
        stage, kind = self.pipe.stages[place], node.kind
        operands: list[Sequence[Bit]]
        if kind in SUMS:
            first = next(i for i, bit in enumerate(self.bits[place]) if bit == (place, i))
            operands = [each[first : mine[-1] + 1] for each in self._terms(place, node.width)]
            self._sum(operands, kind == "sub", stage)
        elif kind == "mux":
            operands = [[self.extended(arg, node.width)[i] for i in mine] for arg in node.args[1:]]
            self._select(place, *operands)
            operands.append(self.bits[node.args[0]][:1])
        elif kind == "max":
            operands = [self.extended(arg, max(self.net.nodes[a].width for a in node.args)) for arg in node.args]
            self._compare(*operands)
            self._select(place, *([each[i] for i in mine] for each in operands))
        elif kind == "less":
            operands = [self.extended(arg, max(self.net.nodes[a].width for a in node.args)) for arg in node.args]
            self._compare(*operands)
        elif kind == "even":
            operands = [self.bits[node.args[0]][: node.data + 1]]
            self._any(operands[0])
        elif kind == "any":
            operands = [self.bits[node.args[0]][: node.data]]
            self._any(operands[0])
        elif kind == "clamp":
            operands = [self.bits[node.args[0]]]
            self._clamp(place, node, mine, operands[0])
        elif kind == "table":
            operands = [self.bits[node.args[0]]]
            for i in mine:
                column = tuple(value >> i & 1 for value in node.data)
                key = ("table", node.args, column, stage)
                if 0 < sum(column) < len(column) and key not in self.built:
                    self.built.add(key)
                    self.parts["table"] += 1 << max(len(operands[0]) - 6, 0)
        elif kind == "mul":
            operands = [self.bits[arg] for arg in node.args]
            self._multiply(node)
        else:
            assert kind == "both", kind
            operands = [self.bits[arg] for arg in node.args]
            self._choose(place, "gate", 1)
        for bits in operands:
            for bit in bits:
                self.need(bit, stage)

    def _choose(self, place: int, kind: str, count: int) -> None:
        """Count bits of a choice; one that only another choice reads, or that chooses tables, is in their LUTs."""
        reader, node = self._only_reader(place), self.net.nodes[place]
        tables = node.kind == "mux" and all(self._is_table(arg) for arg in node.args[1:])
        absorbed = tables or (reader is not None and self.net.nodes[reader].kind in CHOICES)
        self.parts["absorbed" if absorbed else kind] += count

    def _terms(self, place: int, width: int) -> list[list[Bit]]:
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

    def _sum(self, terms: Sequence[Sequence[Bit]], minus: bool, stage: int) -> None:
        """A LUT per bit of a carry chain, one for equal bits; a bit without a second operand needs none, or an
        inverter. Three and more operands are first brought to two, a full adder per bit and further operand."""
        if len(terms) == 1:  # all of it is known
            return
        bits = len(terms[0])
        if len(terms) > 2:
            for column in zip(*terms, strict=True):
                known = sum(isinstance(bit, int) for bit in column)
                count = len(column) - known
                if count:
                    self.parts[f"sum_of_{min(count, 3)}"] += 1
                    self.parts["further"] += max(count - 3, 0)
        else:
            for x, y in zip(*terms, strict=True):
                known = isinstance(x, int) + isinstance(y, int)
                if known == 2:
                    continue
                fixed = x if isinstance(x, int) else y if isinstance(y, int) else None
                part = "sum" if fixed is None else "passed" if bool(fixed) == minus else "invert"
                key = (part, minus, frozenset((x, y)), stage)
                if key not in self.built:
                    self.built.add(key)
                    self.parts["small_sum" if bits <= 2 else part] += 1
        if bits > 2:
            self.parts["carry"] += -(-bits // 4)

    def _is_table(self, place: int) -> bool:
        node = self.net.nodes[place]
        return node.kind in ("table", "const") or (node.kind == "mux" and all(map(self._is_table, node.args[1:])))

    def _select(self, place: int, a: Sequence[Bit], b: Sequence[Bit]) -> None:
        known = [isinstance(x, int) + isinstance(y, int) for x, y in zip(a, b, strict=True)]
        self._choose(place, "select", known.count(0))
        stages, node = self.pipe.stages, self.net.nodes[place]
        alone = all(stages[reader] > stages[place] for reader in self.readers[place]) and not any(
            self.net.nodes[arg].kind in CHOICES and stages[arg] == stages[place] for arg in node.args
        )
        self._choose(place, "reset" if alone else "gate", known.count(1))

    def _compare(self, a: Sequence[Bit], b: Sequence[Bit]) -> None:
        if any(all(isinstance(bit, int) for bit in each) for each in (a, b)):
            self._compare_constant(len(a))
        else:
            known = [isinstance(x, int) + isinstance(y, int) for x, y in zip(a, b, strict=True)]
            self.parts["compare"] += _comparison_luts(known.count(0)) + -(-known.count(1) // 5)

    def _compare_constant(self, bits: int) -> None:
        self.parts["compare_constant"] += max(1, (bits - 3) // 2)

    def _any(self, bits: Sequence[Bit]) -> None:
        count = len({bit for bit in bits if not isinstance(bit, int)})
        self.parts["any"] += -(-max(count - 1, 0) // 5)

    def _clamp(self, place: int, node: Node, mine: Sequence[int], bits: Sequence[Bit]) -> None:
        """Ends at powers of two look at the bits beyond, others are compared, as `verilog.text` writes."""
        least, most = node.data
        whole = most & (most + 1) == 0 and most > 0
        source = self.net.nodes[node.args[0]]
        both = source.low < least and source.high > most
        simple = whole and (source.low >= least or least == 0 or (least == -most - 1 and source.high > most))
        kept = self.extended(node.args[0], node.width)
        ends = 1 + any(isinstance(kept[i], int) for i in mine)  # where the code is constant, the end is the bit
        self._choose(place, ("clamp" if simple else "limit") if both else "clamp_one", len(mine) if both else ends)
        if simple:
            beyond = len(set(bits[most.bit_length() :]))
            self.parts["beyond"] += -(-max(beyond - 1, 0) // 5)
            return
        for passed in (source.low < least != 0, source.high > most):
            if passed:
                self._compare_constant(source.width)

    def _multiply(self, node: Node) -> None:
        a, b = (self.net.nodes[arg] for arg in node.args)
        if node.width >= DSP_PRODUCT_BITS and min(a.width, b.width) >= 2:
            self.parts["dsp"] += -(-a.width // 25) * -(-b.width // 18)
        else:
            self.parts["product"] += a.width * b.width


DSP_PRODUCT_BITS = 9
"""Products of so many bits take a DSP slice (Yosys, `mul2dsp -D DSP_Y_MINWIDTH=9`)."""
SUMS = ("add", "sub")
CHOICES = ("mux", "clamp", "both")


def _alike(own: Sequence[Bit], *sources: Sequence[Bit]) -> list[Bit]:
    """Return the bits of a choice: one bit where the choices are one, the same where they are the same elsewhere."""
    first: dict[tuple[Bit, ...], Bit] = {}
    bits = []
    for bit, choices in zip(own, zip(*sources, strict=True), strict=True):
        same = all(choice == choices[0] for choice in choices)
        bits.append(choices[0] if same else first.setdefault(choices, bit))
    return bits


def _comparison_luts(bits: int) -> int:
    """Return the LUTs that compare two values; a choice by so few bits compares in its own LUTs."""
    return 0 if bits <= 3 else max(4, -(-2 * bits // 3))


def constant(value: int, width: int) -> list[Bit]:
    """Return the bits of a constant, two's complement."""
    return [value >> i & 1 for i in range(width)]
