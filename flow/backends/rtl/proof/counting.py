"""Sums that tables count, by algebra: from the output back, a group of nets at a time is replaced by what it sums.

The output is a weighted sum of its nets. Some nets of such a sum that are functions of the same few, as the three of
a counter are, often sum up to a weighted sum of these: all numbers of these few are tried. So the sum moves back to the
inputs, where it is compared with the definition. All of it holds modulo two to the width of the output, in which the
exact result lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flow.backends.rtl.proof.circuit import UNDEFINED, Circuit, Operation, extended
from flow.backends.rtl.proof.claims import Claim, Question

FEWEST = 6
"""Sums of fewer codes are left to a solver."""
MOST = 8
"""Of how many nets all numbers are tried."""
Sum = dict[int, int]
"""Net -> its weight; net 1 is the constant."""


def counts(claim: Claim, question: Question) -> bool:
    """Say whether an output that is an uncast weighted sum of its inputs is shown to be that sum."""
    output, fmt = question.output, claim.op.format
    if output.weights is None or len(output.reads) < FEWEST or min(question.reads) < 0:
        return False
    pairs = list(zip(question.reads, output.weights, strict=True))
    ends = [
        sorted((weight * claim.formats[element].min_code, weight * claim.formats[element].max_code))
        for element, weight in pairs
    ]
    low, high = (output.constant + sum(each[end] for each in ends) for end in (0, 1))
    exact = output.frac_bits == fmt.frac_bits and claim.op.cast.divisor == 1
    if not exact or low < claim.op.cast.lowest_code or high > fmt.max_code:
        return False
    circuit, source = claim.without_wires
    y, signed = [source.get(bit, bit) for bit in question.y], fmt.signed
    while y and y[-1] == 0 and low >= 0 and high < 1 << len(y) - 1:  # so there are fewer bits that matter
        y, signed = y[:-1], False
    width = len(y)
    expected: Sum = {1: output.constant}
    for element, weight in pairs:
        _add(expected, _number(claim.elements[element], claim.formats[element].signed), weight)
    found = _back(_number(y, signed), circuit, width)
    return found is not None and _reduced(found, width) == _reduced(expected, width)


def _number(bits: Sequence[int], signed: bool) -> Sum:
    """Return the number that some nets are."""
    number: Sum = {}
    for place, bit in enumerate(bits):
        weight = -1 << place if signed and place == len(bits) - 1 else 1 << place
        _add(number, {bit: 1}, weight)
    return number


def _add(total: Sum, other: Mapping[int, int], factor: int) -> None:
    for net, weight in other.items():
        if net:  # net 0 is zero
            total[net] = total.get(net, 0) + factor * weight


def _reduced(total: Sum, width: int) -> Sum:
    return {net: weight % (1 << width) for net, weight in total.items() if weight % (1 << width)}


def _back(total: Sum, circuit: Circuit, width: int) -> Sum | None:
    """Return a sum of inputs that is a sum of nets modulo 2**width; None if none was found."""
    leaves = {bit for one in circuit.operations if one.kind == "$mux" for bit in one.s}
    leaves |= {bit for one in circuit.operations if one.kind == "$not" for bit in one.a}
    groups = _Groups(circuit, leaves)
    while True:
        total = _reduced(total, width)
        driven = sorted((net for net in total if net in circuit.driver), key=lambda net: -circuit.driver[net][0])
        if not driven:
            return total
        following = (_through(net, total, circuit, width) or groups.through(net, total, width) for net in driven)
        replaced = next((each for each in following if each is not None), None)
        if replaced is None:
            return None
        total = replaced


def _through(net: int, total: Sum, circuit: Circuit, width: int) -> Sum | None:
    """Return a sum with the adder that drives a net replaced by what that reads."""
    one, rest = circuit.operations[circuit.driver[net][0]], dict(total)
    if one.kind != "$add":
        return None
    weight = total.get(one.y[0], 0)
    whole = all((total.get(bit, 0) - (weight << i)) % (1 << width) == 0 for i, bit in enumerate(one.y))
    if not whole or (weight << len(one.y)) % (1 << width):  # its carry out is lost
        return None
    for bit in one.y:
        rest.pop(bit, None)
    for operand in (one.a, one.b):
        for i, bit in enumerate(extended(operand, len(one.y), one.signed)):
            _add(rest, {bit: 1}, weight << i)
    return rest


class _Groups:
    """Nets as functions of few others: tables written as choices, whose conditions are where they begin."""

    def __init__(self, circuit: Circuit, leaves: set[int]) -> None:
        self.circuit, self.leaves = circuit, leaves
        self._cuts: dict[int, frozenset[int]] = {}

    def cut(self, net: int, top: bool = True) -> frozenset[int]:
        """Return the nets of which a net is a function."""
        if net in (0, 1, UNDEFINED):
            return frozenset()
        one = self._choice(net)
        if one is None or (not top and net in self.leaves):
            return frozenset((net,))
        if net not in self._cuts:
            place = self.circuit.driver[net][1]
            read = [*one.s, *(bits[place] for bits in (one.a, one.b) if bits)]
            found = frozenset[int]().union(*(self.cut(each, False) for each in read if each not in one.s))
            self._cuts[net] = found | {bit for bit in one.s if bit > 1}
        return self._cuts[net]

    def _choice(self, net: int) -> Operation | None:
        if net not in self.circuit.driver:
            return None
        one = self.circuit.operations[self.circuit.driver[net][0]]
        return one if one.kind in ("$mux", "$not") else None

    def through(self, net: int, total: Sum, width: int) -> Sum | None:
        """Return a sum with all functions of what a net is a function of replaced by a sum of that, if there is one."""
        cut = self.cut(net)
        if not 0 < len(cut) <= MOST or cut == {net}:
            return None
        group = [each for each in total if each in self.circuit.driver and self._choice(each) and self.cut(each) <= cut]
        nets = sorted(cut)
        ones = (1 << (1 << len(nets))) - 1
        values = {leaf: ones // ((1 << (1 << i)) + 1) << (1 << i) for i, leaf in enumerate(nets)}
        planes = {each: self._value(each, values, ones, {}) for each in group}

        def at(number: int) -> int:
            return sum(total[each] * (plane >> number & 1) for each, plane in planes.items())

        base = at(0)
        weights = [at(1 << i) - base for i in range(len(nets))]
        for number in range(1 << len(nets)):
            linear = base + sum(weight for i, weight in enumerate(weights) if number >> i & 1)
            if (at(number) - linear) % (1 << width):
                return None
        rest = {each: weight for each, weight in total.items() if each not in planes}
        _add(rest, {1: 1}, base)
        _add(rest, dict(zip(nets, weights, strict=True)), 1)
        return rest

    def _value(self, net: int, values: Mapping[int, int], ones: int, known: dict[int, int], top: bool = True) -> int:
        """Return a net for all numbers that the nets of its cut make, a bit each."""
        if net in (0, 1):
            return ones * net
        if net in values and not (top and self._choice(net)):
            return values[net]
        if net not in known:
            place, number = self.circuit.driver[net]
            one = self.circuit.operations[place]
            a = self._value(one.a[number], values, ones, known, False)
            if one.kind == "$not":
                known[net] = ones ^ a
            else:
                s = values[one.s[0]]
                known[net] = (a & ~s) | (self._value(one.b[number], values, ones, known, False) & s)
        return known[net]
