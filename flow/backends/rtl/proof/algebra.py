"""Arithmetic of whole numbers, whatever they are: arrays (`Integers`) or bit vectors (`terms`).

Rounding and overflow are written here from flow.ir.fixed alone, for the definitions that the Verilog is proved against.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

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


def _elementwise(function: Callable[..., Any]) -> Callable[..., Codes]:
    return staticmethod(lambda *operands: np.asarray(function(*operands)))


class Integers:
    """The algebra of arrays, one number per sample: int64, or Python's integers where those are too narrow.

    Args:
        bits: how many bits hold every number, `definition.bits_needed`.
    """

    add, sub, mul, quotient = map(_elementwise, (operator.add, operator.sub, operator.mul, operator.floordiv))
    less, same, both, either = map(_elementwise, (operator.lt, operator.eq, operator.and_, operator.or_))

    def __init__(self, bits: int) -> None:
        self.dtype: type = np.int64 if bits <= 63 else object

    def const(self, value: int) -> Codes:
        return np.array(value, self.dtype)

    def shr(self, a: Codes, n: int) -> Codes:
        return np.asarray(a // self.const(1 << n))

    def low(self, a: Codes, n: int, signed: bool) -> Codes:
        low = a % self.const(1 << n)
        return np.asarray(np.where(low < 1 << n - 1, low, low - (1 << n)) if signed else low)

    def steps(self, a: Codes, starts: Codes, values: Codes) -> Codes:
        return np.asarray(values[np.searchsorted(starts, a.astype(np.int64), side="right") - 1])

    def choose(self, c: Codes, a: Codes, b: Codes) -> Codes:
        return np.asarray(np.where(c.astype(bool), a, b))


def largest(algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Return the largest of some numbers."""
    return reduce(lambda most, value: algebra.choose(algebra.less(most, value), value, most), values)


def smallest(algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Return the smallest of some numbers."""
    return reduce(lambda least, value: algebra.choose(algebra.less(value, least), value, least), values)


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
