"""Power-of-two weights: every code is 0 or +-2**k.

"Power of two" means two things and they are kept apart: here each *weight* is a power of two (or zero), so a product
is a shift; a power-of-two *scale* is the `frac_bits` of a format and says nothing about the codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Codes


def is_po2(codes: Codes) -> bool:
    """Say whether every code is zero or plus/minus a power of two."""
    magnitude = np.abs(codes)
    return bool(((magnitude & (magnitude - 1)) == 0).all())


def signed_digits(weight: Codes) -> Codes:
    """Return the number of non-zero canonical signed digits of each weight: 1 for a power of two, 0 for zero.

    A product by a constant is that many shifts and one adder less (Reitwiesner 1960; popcount(n/2 xor 3n/2)).
    """
    half = np.abs(weight) >> 1
    digits: Codes = np.bitwise_count(half ^ (np.abs(weight) + half)).astype(np.int64)
    return digits


@dataclass(frozen=True, slots=True, eq=False)
class Po2Weights:
    """Codes split as `codes == where(nonzero, (-1)**negative * 2**(exponent + min_exponent), 0)`.

    `exponent` counts up from the smallest one present, so it is stored in `exponent_bits` bits, unsigned; it is 0
    where `nonzero` is false.
    """

    negative: NDArray[np.bool_]
    exponent: Codes
    nonzero: NDArray[np.bool_]
    min_exponent: int

    @property
    def max_exponent(self) -> int:
        """The largest exponent of a non-zero code."""
        return self.min_exponent + int(self.exponent.max(initial=0))

    @property
    def exponent_bits(self) -> int:
        """Bits of a stored exponent."""
        return max(1, int(self.exponent.max(initial=0)).bit_length())

    @property
    def stored_bits(self) -> int:
        """Bits of one stored weight: sign, zero flag and exponent."""
        return 2 + self.exponent_bits


def split(codes: Codes) -> Po2Weights:
    """Split power-of-two codes into sign, exponent and zero flag.

    Raises:
        AssertionError: a code is no power of two (callers ask `is_po2` first).
    """
    assert is_po2(codes)
    nonzero = codes != 0
    exponent = np.frexp(np.abs(codes).astype(np.float64))[1].astype(np.int64) - 1  # exact: one bit set
    lowest = int(exponent[nonzero].min()) if nonzero.any() else 0
    return Po2Weights(
        negative=codes < 0,
        exponent=np.where(nonzero, exponent - lowest, 0),
        nonzero=nonzero,
        min_exponent=lowest,
    )


def join(weights: Po2Weights) -> Codes:
    """Return the codes that `split` took apart."""
    magnitude = np.int64(1) << (weights.exponent + weights.min_exponent)
    return np.where(weights.nonzero, np.where(weights.negative, -magnitude, magnitude), 0)
