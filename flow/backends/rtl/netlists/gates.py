"""Gates: logic of single bits, in which each function of the same bits is built once.

A literal is twice the number of a gate, plus one if it is inverted; 0 and 1 are the constants. Whether two gates
compute the same is found by simulation (functional hashing, as ABC's `fraig` begins): bits from outside have random
patterns, and what agrees on all patterns is one gate. That is no proof, and only an estimate is made from gates.

What leaves a carry chain comes from outside, and of some it is said later what it is. Then gates that are apart compute
the same: whoever reads one takes the first of them, its `source`. Registers of both stay, as synthesis merges these
before it looks through chains.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import reduce

Literal = int
FALSE, TRUE = 0, 1
PART = 128
"""Patterns of one kind: as many zeros as ones, rarely one, rarely zero; wide ANDs and equal words occur so."""
HALF = 8 * PART
"""Patterns in which what leaves a chain may be anything; as many follow in which it is what was said of it."""
MASK = (1 << 2 * HALF) - 1
FEW = 6
"""Of gates that depend on no more bits from outside it is known on which."""


class Gates:
    """Gates in the order in which they were made: a gate comes after all that it reads.

    Attributes:
        reads: per gate, the literals that it reads; none for a constant, or for what comes from outside.
        supports: per gate, the gates from outside that it depends on; None if these are more than `FEW`.

    Example:
        >>> gates = Gates()
        >>> a, b = gates.outside(), gates.outside()
        >>> gates.choose(a, b, FALSE) == gates.both(b, a)
        True
    """

    def __init__(self) -> None:
        self.reads: list[tuple[Literal, ...]] = [()]
        self.supports: list[frozenset[int] | None] = [frozenset()]
        self._values = [0]
        self._known: dict[int, Literal] = {0: FALSE}
        self._sources = [FALSE]
        self._first: dict[int, Literal] = {0: FALSE}

    def outside(self) -> Literal:
        """Add a bit that comes from outside."""
        gate = len(self.reads)
        return self._gate((), _pattern(gate), frozenset((gate,)))

    def computed(self, bit: Literal, value: int, support: frozenset[int]) -> None:
        """Say of a bit from outside what it is on all patterns, and what it depends on; others may compute the same."""
        gate = bit >> 1
        self.supports[gate] = support
        self._values[gate] = self._values[gate] & (1 << HALF) - 1 | value >> HALF << HALF
        self._sources[gate] = self._source(gate)

    def known(self, value: int) -> Literal | None:
        """Return the literal that is this on all patterns, if there is one."""
        inverted = value & 1
        found = self._known.get(value ^ (-inverted & MASK))
        return None if found is None else found ^ inverted

    def source(self, bit: Literal) -> Literal:
        """Return the bit from which a bit is taken: itself, or the first that computes the same."""
        return self._sources[bit >> 1] ^ (bit & 1)

    def _source(self, gate: int) -> Literal:
        value = self._values[gate] >> HALF
        inverted = value & 1
        return self._first.setdefault(value ^ (-inverted & MASK >> HALF), 2 * gate ^ inverted) ^ inverted

    def support(self, bits: Iterable[Literal], found: frozenset[int] = frozenset()) -> frozenset[int] | None:
        """Return the gates from outside that bits depend on, with those found before; None if more than `FEW`."""
        for bit in bits:
            support = self.supports[bit >> 1]
            if support is None or len(found := found | support) > FEW:
                return None
        return found

    def both(self, a: Literal, b: Literal) -> Literal:
        """Add a & b."""
        return self._gate((a, b), self.value(a) & self.value(b))

    def either(self, a: Literal, b: Literal) -> Literal:
        """Add a | b."""
        return self._gate((a, b), self.value(a) | self.value(b))

    def differ(self, a: Literal, b: Literal) -> Literal:
        """Add a ^ b."""
        return self._gate((a, b), self.value(a) ^ self.value(b))

    def choose(self, condition: Literal, a: Literal, b: Literal) -> Literal:
        """Add `condition ? a : b`."""
        which = self.value(condition)
        return self._gate((condition, a, b), which & self.value(a) | ~which & MASK & self.value(b))

    def table(self, bits: Sequence[Literal], values: Sequence[int]) -> Literal:
        """Add a look-up table: the value at the number that bits make, the first one lowest."""
        parts = [-value & MASK for value in values]
        for bit in bits:
            which = self.value(bit)
            parts = [which & b | ~which & a for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return self._gate(tuple(bits), parts[0])

    def any(self, bits: Iterable[Literal]) -> Literal:
        """Add the OR of bits."""
        return reduce(self.either, bits, FALSE)

    def value(self, bit: Literal) -> int:
        """Return what a literal is on all patterns."""
        return self._values[bit >> 1] ^ (-(bit & 1) & MASK)

    def _gate(self, reads: tuple[Literal, ...], value: int, support: frozenset[int] | None = None) -> Literal:
        """Return the literal of these values; gates are kept so that the first pattern gives zero."""
        inverted = value & 1
        value ^= -inverted & MASK
        if value not in self._known:
            self._known[value] = 2 * len(self.reads)
            self.reads.append(tuple(map(self.source, reads)))
            self.supports.append(support or self.support(reads))
            self._values.append(value)
            self._sources.append(self._source(len(self._sources)))
        return self._known[value] ^ inverted


def _pattern(number: int) -> int:
    """Return the values of a bit from outside."""
    bits = random.Random(number).getrandbits
    rare = [bits(PART) & bits(PART) & bits(PART) & bits(PART) for _ in range(4)]
    kinds = [rare[0], ~rare[1], rare[2] & bits(PART), ~rare[3], *(bits(PART) for _ in range(4))]
    each = (1 << PART) - 1
    half = sum((kind & each) << i * PART for i, kind in enumerate(kinds)) & ~1
    return half | half << HALF
