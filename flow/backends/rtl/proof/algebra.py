"""Arithmetic of whole numbers, whatever they are: arrays (`integers`) or bit vectors (`terms`).

Rounding and overflow are written here from flow.ir.fixed alone, for the definitions that the Verilog is proved against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from flow.ir.fixed import Cast, Codes, Overflow, Rounding

T = TypeVar("T")
B = TypeVar("B")


class Algebra(Protocol, Generic[T, B]):
    """Whole numbers (T) and truth values (B); no result is too large for it."""

    def const(self, value: int) -> T: ...
    def add(self, a: T, b: T) -> T: ...
    def sub(self, a: T, b: T) -> T: ...
    def mul(self, a: T, b: T) -> T: ...
    def shr(self, a: T, n: int) -> T:
        """Return a // 2**n."""
        ...

    def quotient(self, a: T, b: T) -> T:
        """Return a // b for positive b."""
        ...

    def low(self, a: T, n: int, signed: bool) -> T:
        """Return the low n bits of a, as two's complement if signed."""
        ...

    def steps(self, a: T, starts: Codes, values: Codes) -> T:
        """Return the value of the last start that is not above a; the first start never is."""
        ...

    def less(self, a: T, b: T) -> B: ...
    def same(self, a: T, b: T) -> B: ...
    def both(self, a: B, b: B) -> B: ...
    def either(self, a: B, b: B) -> B: ...
    def choose(self, c: B, a: T, b: T) -> T: ...


def largest(algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Return the largest of some numbers."""
    most = values[0]
    for value in values[1:]:
        most = algebra.choose(algebra.less(most, value), value, most)
    return most


def smallest(algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Return the smallest of some numbers."""
    least = values[0]
    for value in values[1:]:
        least = algebra.choose(algebra.less(value, least), value, least)
    return least


def clamped(algebra: Algebra[T, B], value: T, low: int, high: int | None) -> T:
    """Return a number, at least `low` and at most `high`, if that is given."""
    least = algebra.const(low)
    value = algebra.choose(algebra.less(value, least), least, value)
    if high is None:
        return value
    most = algebra.const(high)
    return algebra.choose(algebra.less(most, value), most, value)


def converted(algebra: Algebra[T, B], cast: Cast, frac_bits: int, exact: T) -> T:
    """Return the code of an exact result with so many fraction bits: one division, one rounding, one overflow."""
    fmt, raised = cast.format, cast.format.frac_bits - frac_bits
    numerator = algebra.mul(exact, algebra.const(1 << raised)) if raised > 0 else exact
    divisor = cast.divisor << max(-raised, 0)
    rounded = numerator if divisor == 1 else _rounded_quotient(cast.rounding, algebra, numerator, divisor)
    if cast.overflow is Overflow.WRAP:
        return algebra.low(rounded, fmt.width, fmt.signed)
    if cast.overflow is Overflow.SAT_ZERO:
        below, above = algebra.const(fmt.min_code), algebra.const(fmt.max_code)
        outside = algebra.either(algebra.less(rounded, below), algebra.less(above, rounded))
        return algebra.choose(outside, algebra.const(0), rounded)
    return clamped(algebra, rounded, cast.lowest_code, fmt.max_code)


def _rounded_quotient(rounding: Rounding, algebra: Algebra[T, B], numerator: T, divisor: int) -> T:
    """Return numerator / divisor, rounded to an integer."""
    const = algebra.const
    power = divisor & (divisor - 1) == 0
    floor = algebra.shr(numerator, divisor.bit_length() - 1) if power else algebra.quotient(numerator, const(divisor))
    if rounding is Rounding.TRN:
        return floor
    rest = algebra.sub(numerator, algebra.mul(floor, const(divisor)))
    negative = algebra.less(numerator, const(0))
    twice = algebra.add(rest, rest)
    above, tie = algebra.less(const(divisor), twice), algebra.same(twice, const(divisor))
    if rounding is Rounding.TRN_ZERO:
        up = algebra.both(negative, algebra.less(const(0), rest))
    elif rounding is Rounding.RND_MIN_INF:
        up = above
    elif rounding is Rounding.RND:
        up = algebra.either(above, tie)
    else:
        odd = algebra.same(algebra.low(floor, 1, False), const(1))
        positive = algebra.less(const(-1), numerator)
        prefers_up = {Rounding.RND_INF: positive, Rounding.RND_ZERO: negative, Rounding.RND_CONV: odd}[rounding]
        up = algebra.either(above, algebra.both(tie, prefers_up))
    return algebra.choose(up, algebra.add(floor, const(1)), floor)
