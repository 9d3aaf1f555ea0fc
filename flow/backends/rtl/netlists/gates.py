"""Gates: logic of single bits, in which each function of the same bits is built once.

A literal is twice the number of a gate, plus one if it is inverted; 0 and 1 are the constants. Whether two gates
compute the same is found by simulation (functional hashing, as ABC's `fraig` begins): bits from outside have random
patterns, and what agrees on all patterns is one gate. That is no proof, and only an estimate is made from gates.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import reduce

Literal = int
FALSE, TRUE = 0, 1
PART = 128
"""Patterns of one kind: as many zeros as ones, rarely one, rarely zero; wide ANDs and equal words occur so."""
MASK = (1 << 8 * PART) - 1


class Gates:
    """Gates in the order in which they were made: a gate comes after all that it reads.

    Attributes:
        reads: per gate, the literals that it reads; none for a constant, or for what comes from outside.

    Example:
        >>> gates = Gates()
        >>> a, b = gates.outside(), gates.outside()
        >>> gates.choose(a, b, FALSE) == gates.both(b, a)
        True
    """

    def __init__(self) -> None:
        self.reads: list[tuple[Literal, ...]] = [()]
        self._values = [0]
        self._known: dict[int, Literal] = {0: FALSE}

    def outside(self) -> Literal:
        """Add a bit that comes from outside."""
        return self._gate((), _pattern(len(self.reads)))

    def both(self, a: Literal, b: Literal) -> Literal:
        """Add a & b."""
        return self._gate((a, b), self._value(a) & self._value(b))

    def either(self, a: Literal, b: Literal) -> Literal:
        """Add a | b."""
        return self._gate((a, b), self._value(a) | self._value(b))

    def differ(self, a: Literal, b: Literal) -> Literal:
        """Add a ^ b."""
        return self._gate((a, b), self._value(a) ^ self._value(b))

    def choose(self, condition: Literal, a: Literal, b: Literal) -> Literal:
        """Add `condition ? a : b`."""
        which = self._value(condition)
        return self._gate((condition, a, b), which & self._value(a) | ~which & MASK & self._value(b))

    def table(self, bits: Sequence[Literal], values: Sequence[int]) -> Literal:
        """Add a look-up table: the value at the number that bits make, the first one lowest."""
        parts = [-value & MASK for value in values]
        for bit in bits:
            which = self._value(bit)
            parts = [which & b | ~which & a for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return self._gate(tuple(bits), parts[0])

    def any(self, bits: Iterable[Literal]) -> Literal:
        """Add the OR of bits."""
        return reduce(self.either, bits, FALSE)

    def _value(self, bit: Literal) -> int:
        return self._values[bit >> 1] ^ (-(bit & 1) & MASK)

    def _gate(self, reads: tuple[Literal, ...], value: int) -> Literal:
        """Return the literal of these values; gates are kept so that the first pattern gives zero."""
        inverted = value & 1
        value ^= -inverted & MASK
        if value not in self._known:
            self._known[value] = 2 * len(self.reads)
            self.reads.append(reads)
            self._values.append(value)
        return self._known[value] ^ inverted


def _pattern(number: int) -> int:
    """Return the values of a bit from outside."""
    bits = random.Random(number).getrandbits
    rare = [bits(PART) & bits(PART) & bits(PART) & bits(PART) for _ in range(4)]
    kinds = [rare[0], ~rare[1], rare[2] & bits(PART), ~rare[3], *(bits(PART) for _ in range(4))]
    each = (1 << PART) - 1
    return sum((kind & each) << i * PART for i, kind in enumerate(kinds)) & ~1
