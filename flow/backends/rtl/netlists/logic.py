"""Logic: a pipelined netlist as gates, registers, carry chains and DSP slices, as Yosys reads its Verilog.

What `verilog.netlist_module` writes for a kind of node is written out here in bits; the two tables follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flow.backends.rtl.netlists.gates import FALSE, MASK, TRUE, Gates, Literal
from flow.backends.rtl.netlists.netlist import Netlist, Node, reached
from flow.backends.rtl.netlists.pipelining import Pipeline
from flow.backends.rtl.netlists.sums import SHORTEST_CHAIN, SUMS, Adders, Bits, merged_sums

DSP_PRODUCT_BITS = 9
"""Products of so many bits take a DSP slice (Yosys, `mul2dsp -D DSP_Y_MINWIDTH=9`)."""
LUT_INPUTS = 6
"""A comparison with a constant of so many bits is one table, and a chain of comparisons takes as many per table."""


class Logic:
    """What a netlist is made of.

    Args:
        net, pipe: the netlist and its stages.
        fixed: inputs that are constants: number of the input -> its code.
        width: bits of each output.

    Attributes:
        gates: all logic; inputs, registers, and what leaves chains and DSP slices come from outside.
        owners: gate -> the node that it was first made for.
        inputs: gate -> (number of the input, its bit).
        registers: gate -> (what it holds, for how many cycles).
        adders: the carry chains.
        products: gate that leaves a DSP slice -> (its node, what enters).
        choices: bit chosen between one and a constant -> (when it is the constant, the other, the constant): if it goes
            into a register, that is the register's reset.
        outputs: bits that leave.
    """

    def __init__(self, net: Netlist, pipe: Pipeline, fixed: Mapping[int, int], width: int) -> None:
        self.net, self.pipe, self.fixed = net, pipe, fixed
        self.gates = Gates()
        self.adders = Adders(self.gates)
        self.owners: list[int] = [-1]
        self.inputs: dict[int, tuple[int, int]] = {}
        self.registers: dict[int, tuple[Literal, int]] = {}
        self.products: dict[int, tuple[int, Bits]] = {}
        self.choices: dict[Literal, tuple[Literal, Literal, Literal]] = {}
        self._held: dict[tuple[Literal, int], Literal] = {}
        self._bits: dict[int, Bits] = {}
        used = sorted(reached(net))
        self.merged = merged_sums(net, pipe, used)
        for place in used:
            if place not in self.merged:
                node = net.nodes[place]
                self._bits[place] = BUILD[node.kind](self, node, place)
                self._own(place)
        self.outputs = [bit for place in net.outputs for bit in self.extended(place, pipe.depth, width)]
        self._own(-1)

    def _own(self, place: int) -> None:
        self.owners += [place] * (len(self.gates.reads) - len(self.owners))

    def read(self, place: int, stage: int) -> Bits:
        """Return a value's bits in a stage."""
        late = stage - self.pipe.stages[place]
        return [self._later(bit, late) for bit in self._bits[place]]

    def _later(self, bit: Literal, cycles: int) -> Literal:
        if cycles == 0 or bit in (FALSE, TRUE):
            return bit
        if (bit, cycles) not in self._held:
            self._held[bit, cycles] = self.gates.outside()
            self.registers[self._held[bit, cycles] >> 1] = bit, cycles
        return self._held[bit, cycles]

    def extended(self, place: int, stage: int, width: int, shift: int = 0) -> Bits:
        """Return a value in a stage, shifted to the left, with exactly `width` bits."""
        bits = [*[FALSE] * shift, *self.read(place, stage)]
        sign = bits[-1] if self.net.nodes[place].signed else FALSE
        return [*bits[:width], *[sign] * (width - len(bits))]

    def choose(self, condition: Literal, a: Bits, b: Bits) -> Bits:
        """Add `condition ? a : b`."""
        out = []
        for x, y in zip(a, b, strict=True):
            bit = self.gates.choose(condition, x, y)
            if (x in (FALSE, TRUE)) != (y in (FALSE, TRUE)):
                constant = x in (FALSE, TRUE)
                self.chosen(bit, (condition, y, x) if constant else (condition ^ 1, x, y))
            out.append(bit)
        return out

    def chosen(self, bit: Literal, choice: tuple[Literal, Literal, Literal]) -> None:
        """Note that a bit is a choice, unless it came out as the other itself or as one that was there before."""
        if self.gates.reads[bit >> 1] and choice[1] >> 1 < bit >> 1:
            self.choices.setdefault(bit, choice)

    def less(self, a: Bits, b: Bits, signed: bool) -> Literal:
        """Add a < b, of equal width: tables that compare some bits each, from three on along a chain (`cmp2lcu`)."""
        g = self.gates
        if not any(b):
            return a[-1] if signed else FALSE
        if signed:
            a, b = [*a[:-1], b[-1]], [*b[:-1], a[-1]]
        while len(a) > 1 and a[-1] == b[-1]:
            a, b = a[:-1], b[:-1]
        constants = [next((i for i, bit in enumerate(bits) if bit in (FALSE, TRUE)), len(bits)) for bits in (a, b)]
        equal, below, room = [TRUE], [FALSE], LUT_INPUTS
        for i in reversed(range(len(a))):
            cost = sum(i < first for first in constants)  # Yosys takes a bit to cost nothing if any below is constant
            if room < cost:
                equal.append(TRUE)
                below.append(FALSE)
                room = LUT_INPUTS
            room -= cost
            below[-1] = g.either(below[-1], g.both(equal[-1], g.both(b[i], a[i] ^ 1)))
            equal[-1] = g.both(equal[-1], g.differ(a[i], b[i]) ^ 1)
        pairs = list(zip(reversed(equal), reversed(below), strict=True))
        if len(pairs) >= SHORTEST_CHAIN:
            return self.adders.chain([(g.both(same, under ^ 1), under) for same, under in pairs])[-1]
        carry = FALSE
        for same, under in pairs:
            carry = g.either(under, g.both(same, carry))
        return carry

    def known_less(self, a: Bits, b: Bits) -> Literal | None:
        """Return a < b, of equal width and signed, if there is such a bit already."""
        less, value = 0, self.gates.value
        for x, y in zip([*a[:-1], b[-1]], [*b[:-1], a[-1]], strict=True):
            less = ~value(x) & value(y) | ~(value(x) ^ value(y)) & less
        return self.gates.known(less & MASK)

    def numbers(self, args: Sequence[int], stage: int) -> tuple[Bits, Bits, bool]:
        """Return two values with one width, and whether they are signed."""
        nodes = [self.net.nodes[arg] for arg in args]
        signed = any(node.signed for node in nodes)
        width = max(node.width + (signed and not node.signed) for node in nodes)
        a, b = (self.extended(arg, stage, width) for arg in args)
        return a, b, signed


def constant(value: int, width: int) -> Bits:
    """Return the bits of a constant, two's complement."""
    return [value >> i & 1 for i in range(width)]


def _input(logic: Logic, node: Node, place: int) -> Bits:
    if node.data in logic.fixed:
        return constant(logic.fixed[node.data], node.width)
    bits = [logic.gates.outside() for _ in range(node.width)]
    logic.inputs |= {bit >> 1: (node.data, i) for i, bit in enumerate(bits)}
    return bits


def _sum(logic: Logic, node: Node, place: int) -> Bits:
    """A sum with those that are part of it."""
    terms, left, stage = list[tuple[Bits, bool]](), [(place, False)], logic.pipe.stages[place]
    while left:
        at, minus = left.pop()
        inner = logic.net.nodes[at]
        for number, (arg, shift) in enumerate(zip(inner.args, inner.data, strict=True)):
            own = minus ^ (number == 1 and inner.kind == "sub")
            if arg in logic.merged:
                left.append((arg, own))
            else:
                terms.append((logic.extended(arg, stage, node.width, shift), own))
    ones = [bits[0] for bits, minus in terms if not minus and not any(bits[1:])]
    if len(terms) == 3 and len(ones) == 1 and not any(minus for _, minus in terms):  # it enters the chain as its carry
        a, b = (bits for bits, _ in terms if any(bits[1:]))
        return logic.adders.two(a, b, carry=ones[0])
    if len(terms) == 2:
        return logic.adders.two(terms[0][0], terms[1][0], terms[1][1])
    return logic.adders.many(terms, node.width)


def _product(logic: Logic, node: Node, place: int) -> Bits:
    """A DSP slice, or the sum of the rows of a small product."""
    stage, (a, b) = logic.pipe.stages[place], (logic.net.nodes[arg] for arg in node.args)
    x, y = logic.extended(node.args[0], stage, node.width), logic.read(node.args[1], stage)
    if node.width >= DSP_PRODUCT_BITS and min(a.width, b.width) >= 2:
        bits = [logic.gates.outside() for _ in range(node.width)]
        logic.products |= {bit >> 1: (place, [*logic.read(node.args[0], stage), *y]) for bit in bits}
        return bits
    y = [*y, FALSE] if a.signed and not b.signed else y
    rows = [[FALSE] * i + [logic.gates.both(bit, other) for other in x] for i, bit in enumerate(y)]
    signed = a.signed or b.signed
    return logic.adders.many(
        [(row[: node.width], signed and i == len(y) - 1) for i, row in enumerate(rows)], node.width
    )


def _even(logic: Logic, node: Node, place: int) -> Bits:
    n = node.data
    source = logic.extended(node.args[0], logic.pipe.stages[place], node.width + n)
    return [logic.gates.both(source[n], logic.gates.any(source[:n])), *source[n + 1 :]]


def _less(logic: Logic, node: Node, place: int) -> Bits:
    return [logic.less(*logic.numbers(node.args, logic.pipe.stages[place]))]


def _max(logic: Logic, node: Node, place: int) -> Bits:
    stage = logic.pipe.stages[place]
    a, b, signed = logic.numbers(node.args, stage)
    x, y = (logic.extended(arg, stage, node.width) for arg in node.args)
    return logic.choose(logic.less(b, a, signed), x, y)


def _mux(logic: Logic, node: Node, place: int) -> Bits:
    stage, (condition, *args) = logic.pipe.stages[place], node.args
    a, b = (logic.extended(arg, stage, node.width) for arg in args)
    return logic.choose(logic.read(condition, stage)[0], a, b)


def _clamp(logic: Logic, node: Node, place: int) -> Bits:
    """Ends at powers of two look at the bits beyond, others are compared."""
    (arg,), (least, most), stage = node.args, node.data, logic.pipe.stages[place]
    source, x, g = logic.net.nodes[arg], logic.read(arg, stage), logic.gates
    top, width, bits = source.width - 1, node.width, most.bit_length()
    high, low, kept = constant(most, width), constant(least, width), logic.extended(arg, stage, width)
    all_ones = most == (1 << bits) - 1 and bits > 0
    if all_ones and source.low >= least:
        above = g.any(x[bits : top + 1 - source.signed])
        return logic.choose(g.both(above, x[top] ^ 1) if source.signed else above, high, kept)
    if all_ones and least == 0:
        upper = logic.choose(g.any(x[bits:top]), high, kept) if source.high > most else kept
        return logic.choose(x[top], low, upper)
    if all_ones and least == -most - 1 and source.high > most:
        beyond = g.both(g.any(x[bits:]), g.any(bit ^ 1 for bit in x[bits:]))
        return logic.choose(beyond, [*[x[top] ^ 1] * bits, x[top]], kept)
    return _compared_clamp(logic, node, stage)


def _compared_clamp(logic: Logic, node: Node, stage: int) -> Bits:
    (arg,), (least, most), source = node.args, node.data, logic.net.nodes[node.args[0]]
    size = 1 + max(source.width - source.signed, least.bit_length(), most.bit_length())
    value, end = logic.extended(arg, stage, size), constant(most, size)
    high, low, kept = (constant(most, node.width), constant(least, node.width), logic.extended(arg, stage, node.width))
    upper = kept
    if source.high > most:
        above, upper = logic.less(end, value, True), []
        for limit, bit in zip(high, kept, strict=True):
            # x | f(x) is x | f(0), and x & f(x) is x & f(1): logic that synthesis finds
            rest = logic.known_less(end, [limit ^ 1 if other == bit else other for other in value])
            upper.append(logic.gates.choose(above if rest is None else rest, limit, bit))
            if bit not in (FALSE, TRUE):
                logic.chosen(upper[-1], (above, bit, limit))
    return logic.choose(logic.less(value, constant(least, size), True), low, upper) if source.low < least else upper


def _table(logic: Logic, node: Node, place: int) -> Bits:
    """A tree of choices by the bits of the index, in which equal parts are one."""
    (arg,), source = node.args, logic.net.nodes[node.args[0]]
    index = logic.read(arg, logic.pipe.stages[place])
    values = [node.data[0]] * (1 << len(index))
    for code, value in enumerate(node.data, source.low):
        values[code % len(values)] = value
    known: dict[tuple[int, ...], Literal] = {}

    def choose(column: tuple[int, ...], bit: int) -> Literal:
        if column.count(column[0]) == len(column):
            return column[0]
        if column not in known:
            half = len(column) // 2
            halves = ([choose(column[half:], bit - 1)], [choose(column[:half], bit - 1)])
            (known[column],) = logic.choose(index[bit], *halves)
        return known[column]

    return [choose(tuple(value >> i & 1 for value in values), len(index) - 1) for i in range(node.width)]


def _extended(logic: Logic, node: Node, place: int, more: int = 0) -> Bits:
    return logic.extended(node.args[0], logic.pipe.stages[place], node.width + more)


BUILD: Mapping[str, Callable[[Logic, Node, int], Bits]] = {
    "input": _input,
    "const": lambda logic, node, place: constant(node.low, node.width),
    **dict.fromkeys(SUMS, _sum),
    "mul": _product,
    "shl": lambda logic, node, place: [
        *[FALSE] * node.data,
        *logic.read(node.args[0], logic.pipe.stages[place]),
    ],
    "shr": lambda logic, node, place: _extended(logic, node, place, node.data)[node.data :],
    "even": _even,
    "wrap": _extended,
    "clamp": _clamp,
    "max": _max,
    "less": _less,
    "both": lambda logic, node, place: [
        logic.gates.both(*(logic.read(arg, logic.pipe.stages[place])[0] for arg in node.args))
    ],
    "any": lambda logic, node, place: [
        logic.gates.any(logic.extended(node.args[0], logic.pipe.stages[place], node.data))
    ],
    "mux": _mux,
    "table": _table,
    "lut": lambda logic, node, place: [
        logic.gates.table([logic.read(arg, logic.pipe.stages[place])[0] for arg in node.args], node.data)
    ],
    "join": lambda logic, node, place: [logic.read(arg, logic.pipe.stages[place])[0] for arg in node.args],
}
"""Kind of node -> the bits of its value."""
