"""Rounding to odd, against exact fractions: no further rounding can tell it from the exact number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.train.sticky import scaled_to_odd

CODES = st.integers(-(2**53), 2**53)
FACTORS = st.tuples(st.integers(-(2**24), 2**24), st.integers(-60, 20))


def to_odd(exact: Fraction) -> float:
    """Return the float64 that holds a number, or of the two around it the odd one."""
    near = float(exact)
    if Fraction(near) == exact or np.float64(near).view(np.int64) & 1:
        return near
    return float(np.nextafter(near, np.inf if exact > Fraction(near) else -np.inf))


@settings(max_examples=500, deadline=None)
@given(x=CODES, shift=st.integers(-40, 0), scale=FACTORS, offset=FACTORS, cancels=st.booleans())
def test_products_and_sums_are_rounded_to_odd(
    x: int, shift: int, scale: tuple[int, int], offset: tuple[int, int], cancels: bool
) -> None:
    a, b = np.float64(x * 2.0**shift), np.float64(np.ldexp(float(scale[0]), scale[1]))
    c = np.float64(np.ldexp(float(offset[0]), offset[1]))
    if cancels:
        c = np.float64(np.float32(-a * b))
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert scaled_to_odd(np.array([a]), np.array([b]), np.array([c])).tolist() == [to_odd(exact)]
