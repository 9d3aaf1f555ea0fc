"""x * scale + offset, and quotients, where float64 does not hold them: rounded to odd, so that no rounding came before.

Rounding to odd keeps what is exact and makes the last bit of all else a one: no rounding to two bits less, and no
comparison with a number of so many bits, can tell the result from the exact number (Boldo and Melquiond, IEEE
Transactions on Computers 57(4), 2008).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
SPLITTER = 2.0**27 + 1
"""What cuts 53 bits into two halves (Dekker, Numerische Mathematik 18, 1971)."""


def scaled_to_odd(x: Doubles, scale: Doubles, offset: Doubles) -> Doubles:
    """Return x * scale + offset, rounded to odd.

    Args:
        x: (..., channels); products with it neither overflow nor lose bits below the smallest float64.
        scale, offset: (channels,).
    """
    product, of_product = _product(x, scale)
    low, of_low = _sum(offset, of_product)
    high, of_high = _sum(product, low)
    return _to_odd(high, _to_odd(of_high, of_low))


def quotient_to_odd(x: Doubles, divisor: float) -> Doubles:
    """Return x / divisor, rounded to odd.

    Args:
        x: multiples of the smallest float64 that `divisor` times 2**53 is far above.
        divisor: an integer of fewer than 27 bits.
    """
    quotient = x / divisor
    product, of_product = _product(quotient, np.float64(divisor))
    return _to_odd(quotient, ((x - product) - of_product) / divisor)


def _sum(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return a + b and by how much that was rounded (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _product(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return a * b and by how much that was rounded (Dekker)."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    product = a * b
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Doubles) -> tuple[Doubles, Doubles]:
    scaled = a * SPLITTER
    high = scaled - (scaled - a)
    return high, a - high


def _to_odd(a: Doubles, b: Doubles) -> Doubles:
    """Return a + b, rounded to odd: of the two floats around it, the one whose last bit is one."""
    total, rest = _sum(a, b)
    even = (np.ascontiguousarray(total).view(np.int64) & 1) == 0
    return np.where((rest != 0) & even, np.nextafter(total, np.where(rest > 0, np.inf, -np.inf)), total)
