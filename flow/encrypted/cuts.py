"""A sum becomes a code by tables of few bits: the shift, the rounding and the clamp of a requantization, exactly.

Under TFHE a sum is free, and whatever else is computed is a table that a bootstrap looks up, whose cost doubles with
each bit that it reads. So a sum of ten bits is no table. Its lowest bits are taken off one by one, each by a table of
one bit; what is left above the bits of the code says only on which side of the format the sum lies.

    x + carry            carry = half and (below or odd): ties to even; or a constant, for roundings that have one
    side = -1, 0, 1      what is above the code's own bits, as a sign
    bit  = bit + side >= 1, for each bit of the code: 0 below the format, itself inside, 1 above

`carve` is that computation. It is written once, for encrypted numbers (`flow.encrypted.tfhe`) and for integers
(`Plain`): what a test shows of integers is what a server computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from flow.ir.fixed import Cast, Overflow, Rounding

DIRECT_BITS = 6
"""A sum of so many bits is one table: to take it apart costs more (docs/encrypted.md)."""
ADDENDS: dict[Rounding, Callable[[int], int]] = {
    Rounding.TRN: lambda half: 0,
    Rounding.RND: lambda half: half,
    Rounding.RND_MIN_INF: lambda half: max(half - 1, 0),
    Rounding.RND_CONV: lambda half: 0,
}
"""What is added before bits are dropped, given half a step; ties to even have a carry besides."""
Table = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How integers from `low` to `high`, on a grid of `frac_bits`, become codes.

    Attributes:
        low, high: the ends, both included; the grid is as coarse as the sum allows, and no coarser than the code's.
        frac_bits: fraction bits of the integers.
        cast: what makes codes of them.
    """

    low: int
    high: int
    frac_bits: int
    cast: Cast

    @property
    def drop(self) -> int:
        """Bits below the code's."""
        return self.frac_bits - self.cast.format.frac_bits

    @property
    def offset(self) -> int:
        """What makes the smallest code of the format zero."""
        return -self.cast.format.min_code

    @property
    def carries(self) -> bool:
        """Whether ties go to the even code."""
        return self.drop > 0 and self.cast.rounding is Rounding.RND_CONV

    @property
    def is_free(self) -> bool:
        """Whether every integer is its own code."""
        cast = self.cast
        same = self.drop == 0 and cast.divisor == 1
        return same and cast.lowest_code <= self.low and self.high <= cast.format.max_code

    @property
    def is_table(self) -> bool:
        """Whether it is one table: a short one, or a cast that has no form of few bits."""
        cast = self.cast
        other = cast.divisor != 1 or cast.rounding not in ADDENDS or cast.overflow is Overflow.SAT_ZERO
        return not self.is_free and (other or width(self.low, self.high) <= DIRECT_BITS)

    @property
    def addend(self) -> int:
        """What is added before bits are dropped, with the offset."""
        return ADDENDS[self.cast.rounding]((1 << self.drop) >> 1) + (self.offset << self.drop)

    @property
    def sides(self) -> tuple[int, int]:
        """How far it goes above the code's own bits; (0, 0) if nothing is clamped."""
        if self.cast.overflow is Overflow.WRAP:
            return 0, 0
        above, carry = self.drop + self.cast.format.width, int(self.carries) << self.drop
        return self.low + self.addend >> above, self.high + self.addend + carry >> above

    def code(self, x: Any) -> Any:
        """Return the codes of integers, by plain arithmetic: what a table holds."""
        return self.cast(np.asarray(x, np.int64), self.frac_bits)


def width(low: int, high: int) -> int:
    """Return the bits that hold the integers from `low` to `high`, with a sign if there are negative ones."""
    return max(high.bit_length() if high > 0 else 0, (-low - 1).bit_length() if low < 0 else 0) + (low < 0)


class Arithmetic(Protocol):
    """What can be done with numbers that may be encrypted, besides adding them and multiplying by constants."""

    def within(self, x: Any, low: int, high: int) -> Any:
        """Return x, of which it is proved that it goes from low to high."""

    def bit(self, x: Any, position: int) -> Any:
        """Return a bit, all below it having been taken off."""

    def above(self, x: Any, position: int, table: Table, low: int, high: int) -> Any:
        """Return the table of x without so many of its lowest bits: integers from low to high."""

    def table(self, x: Any, table: Table, low: int, high: int) -> Any:
        """Return the table of x, which is from low to high."""


class Plain:
    """The arithmetic of integers: what is computed under encryption, without any."""

    def within(self, x: Any, low: int, high: int) -> Any:
        assert np.min(x) >= low and np.max(x) <= high, f"{np.min(x)}..{np.max(x)} is not within {low}..{high}"
        return x

    def bit(self, x: Any, position: int) -> Any:
        return x >> position & 1

    def above(self, x: Any, position: int, table: Table, low: int, high: int) -> Any:
        return self.table(x >> position, table, low, high)

    def table(self, x: Any, table: Table, low: int, high: int) -> Any:
        return table(self.within(x, low, high))


def carve(x: Any, cut: Cut, how: Arithmetic) -> Any:
    """Return the codes of integers, computed in that arithmetic."""
    fmt, x = cut.cast.format, how.within(x, cut.low, cut.high)
    if cut.is_free:
        return x
    if cut.is_table:
        return how.table(x, cut.code, cut.low, cut.high)
    carry = 1 << cut.drop if cut.carries else 0
    raised = x + cut.addend
    if carry:
        raised = raised + _carry(x, cut.drop, how) * carry
    raised = how.within(raised, cut.low + cut.addend, cut.high + cut.addend + carry)
    bits = [how.bit(raised, cut.drop + position) for position in range(fmt.width)]
    if cut.sides != (0, 0):
        side = how.above(raised, cut.drop + fmt.width, np.sign, *cut.sides)
        low, high = (int(np.sign(end)) for end in cut.sides)
        bits = [
            how.table(bit + (side - low), lambda v: np.where(v + low >= 1, 1, 0), 0, 1 + high - low) for bit in bits
        ]
    code = sum((bit * (1 << position) for position, bit in enumerate(bits[1:], 1)), start=bits[0]) - cut.offset
    if cut.cast.lowest_code != fmt.min_code:
        code = how.table(code, lambda v: np.maximum(v, cut.cast.lowest_code), fmt.min_code, fmt.max_code)
    return code


def _carry(x: Any, drop: int, how: Arithmetic) -> Any:
    """Return 1 where x / 2**drop is rounded up: more than a half is dropped, or a half and the rest is odd."""
    *below, half = (how.bit(x, position) for position in range(drop))
    others = sum(below, start=how.bit(x, drop))
    return how.table(others + half * (drop + 1), lambda v: np.where(v > drop + 1, 1, 0), 0, 2 * drop + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the codes of some numbers take under TFHE.

    Attributes:
        bits: lowest bits that are taken off, by a table of one bit each.
        widths: bits that a table reads -> how many such tables.
        depth: how many tables follow one another.
    """

    bits: int = 0
    widths: tuple[tuple[int, int], ...] = ()
    depth: int = 0

    @classmethod
    def one(cls, bits: int) -> Tables:
        """Return a table of so many bits."""
        return cls(widths=((bits, 1),), depth=1)

    @property
    def bootstraps(self) -> int:
        """All of them."""
        return self.bits + sum(count for _, count in self.widths)

    @property
    def widest(self) -> int:
        """Bits of the widest table."""
        return max([width for width, _ in self.widths] + [int(self.bits > 0)])

    def times(self, count: int) -> Tables:
        """Return what so many numbers side by side take."""
        return Tables(bits=count * self.bits, widths=tuple((w, count * n) for w, n in self.widths), depth=self.depth)


def beside(parts: Sequence[Tables]) -> Tables:
    """Return what numbers side by side take."""
    return _joined(parts, max((part.depth for part in parts), default=0))


def behind(parts: Sequence[Tables]) -> Tables:
    """Return what steps one after another take."""
    return _joined(parts, sum(part.depth for part in parts))


def _joined(parts: Sequence[Tables], depth: int) -> Tables:
    widths: Counter[int] = Counter()
    for part in parts:
        widths.update(dict(part.widths))
    return Tables(bits=sum(part.bits for part in parts), widths=tuple(sorted(widths.items())), depth=depth)


def tables_of(cut: Cut) -> Tables:
    """Return what the code of one number takes: what `carve` asks for, counted."""
    if cut.is_free:
        return Tables()
    if cut.is_table:
        return Tables.one(width(cut.low, cut.high))
    fmt, steps = cut.cast.format, list[Tables]()
    if cut.carries:
        steps += [Tables(bits=cut.drop + 1, depth=cut.drop + 1), Tables.one(width(0, 2 * cut.drop + 1))]
    steps.append(Tables(bits=cut.drop + fmt.width, depth=cut.drop + fmt.width))
    if cut.sides != (0, 0):
        low, high = (int(np.sign(end)) for end in cut.sides)
        steps += [Tables.one(width(*cut.sides)), Tables.one(width(0, 1 + high - low)).times(fmt.width)]
    if cut.cast.lowest_code != fmt.min_code:
        steps.append(Tables.one(fmt.width))
    return behind(steps)
