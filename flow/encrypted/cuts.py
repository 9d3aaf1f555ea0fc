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
        return not self.is_free and (other or bits_of(self.high - self.low) <= DIRECT_BITS)

    @property
    def above(self) -> int:
        """Bits up to the highest of the code's own."""
        return self.drop + self.cast.format.width

    @property
    def base(self) -> int:
        """What makes an integer non-negative, and is zero in all bits up to the code's highest."""
        return -(self.low >> self.above) << self.above

    @property
    def addend(self) -> int:
        """What is added besides, before bits are dropped."""
        return ADDENDS[self.cast.rounding]((1 << self.drop) >> 1) + (self.offset << self.drop)

    @property
    def highest(self) -> int:
        """How far it goes with all that is added."""
        return self.high + self.base + self.addend + (int(self.carries) << self.drop)

    @property
    def sides(self) -> tuple[int, int]:
        """How many formats below and above the code's own it goes: (0, 0) if nothing is clamped."""
        if self.cast.overflow is Overflow.WRAP:
            return 0, 0
        inside = self.base >> self.above
        return (self.low + self.base + self.addend >> self.above) - inside, (self.highest >> self.above) - inside

    def code(self, x: Any) -> Any:
        """Return the codes of integers, by plain arithmetic: what a table holds."""
        return self.cast(np.asarray(x, np.int64), self.frac_bits)


def bits_of(high: int) -> int:
    """Return the bits that hold the integers from 0 to `high`."""
    return max(high.bit_length(), 1)


class Arithmetic(Protocol):
    """What can be done with numbers that may be encrypted, besides adding them and multiplying by constants."""

    def within(self, x: Any, high: int) -> Any:
        """Return x, of which it is proved that it goes from 0 to high."""

    def bit(self, x: Any, position: int) -> Any:
        """Return a bit, all below it having been taken off."""

    def above(self, x: Any, position: int, table: Table, high: int) -> Any:
        """Return the table of x without so many of its lowest bits: integers from 0 to high."""

    def table(self, x: Any, table: Table, high: int) -> Any:
        """Return the table of x, which goes from 0 to high; what it holds is not negative."""


class Plain:
    """The arithmetic of integers: what is computed under encryption, without any."""

    def within(self, x: Any, high: int) -> Any:
        assert np.min(x) >= 0 and np.max(x) <= high, f"{np.min(x)}..{np.max(x)} is not within 0..{high}"
        return x

    def bit(self, x: Any, position: int) -> Any:
        return x >> position & 1

    def above(self, x: Any, position: int, table: Table, high: int) -> Any:
        return self.table(x >> position, table, high)

    def table(self, x: Any, table: Table, high: int) -> Any:
        results = table(self.within(x, high))
        assert np.min(results) >= 0, f"a table holds {np.min(results)}"
        return results


def carve(x: Any, cut: Cut, how: Arithmetic) -> Any:
    """Return the codes of integers, computed in that arithmetic; no number in between is negative."""
    fmt, lowest = cut.cast.format, cut.cast.lowest_code
    if cut.is_free:
        return x
    if cut.is_table:
        reach = cut.high - cut.low
        return how.table(x - cut.low, lambda v: cut.code(v + cut.low) - fmt.min_code, reach) + fmt.min_code
    x = how.within(x + cut.base, cut.high + cut.base)
    raised = x + cut.addend
    if cut.carries:
        raised = raised + _carry(x, cut.drop, how) * (1 << cut.drop)
    raised = how.within(raised, cut.highest)
    bits = [how.bit(raised, cut.drop + position) for position in range(fmt.width)]
    if cut.sides != (0, 0):
        inside, (below, over) = cut.base >> cut.above, (int(np.sign(end)) for end in cut.sides)
        side = how.above(
            raised, cut.above, lambda v: np.maximum(np.sign(v - inside), below) - below, cut.highest >> cut.above
        )
        bits = [how.table(bit + side, lambda v: np.where(v + below >= 1, 1, 0), 1 + over - below) for bit in bits]
    code = sum((bit * (1 << position) for position, bit in enumerate(bits[1:], 1)), start=bits[0])
    code = how.within(code, (1 << fmt.width) - 1)
    if lowest != fmt.min_code:
        code = how.table(code, lambda v: np.maximum(v, lowest + cut.offset), (1 << fmt.width) - 1)
    return code - cut.offset


def _carry(x: Any, drop: int, how: Arithmetic) -> Any:
    """Return 1 where x / 2**drop is rounded up: more than a half is dropped, or a half and the rest is odd."""
    *below, half = (how.bit(x, position) for position in range(drop))
    others = sum(below, start=how.bit(x, drop))
    return how.table(others + half * (drop + 1), lambda v: np.where(v > drop + 1, 1, 0), 2 * drop + 1)


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
        return Tables.one(bits_of(cut.high - cut.low))
    fmt, steps = cut.cast.format, list[Tables]()
    if cut.carries:
        steps += [Tables(bits=cut.drop + 1, depth=cut.drop + 1), Tables.one(bits_of(2 * cut.drop + 1))]
    steps.append(Tables(bits=cut.above, depth=cut.above))
    if cut.sides != (0, 0):
        below, over = (int(np.sign(end)) for end in cut.sides)
        steps.append(Tables.one(bits_of(cut.highest >> cut.above)))
        steps.append(Tables.one(bits_of(1 + over - below)).times(fmt.width))
    if cut.cast.lowest_code != fmt.min_code:
        steps.append(Tables.one(fmt.width))
    return behind(steps)
