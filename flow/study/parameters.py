"""The parameters of the requantizers that are measured."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from flow.study.definitions import Parameters

FACTOR = 0.7071067811865476
"""What multipliers scale by beside the power of two: 1 / sqrt(2), whose binary digits show no pattern."""


def measured_shift(acc_bits: int, out_bits: int) -> int:
    """Return the shift that brings the largest accumulator of the simulation to the largest output code.

    A quarter of the accumulator's bits is headroom: it repeats the sign.
    """
    return acc_bits - acc_bits // 4 - out_bits


def codebook_entries(acc_bits: int, out_bits: int) -> Parameters:
    """Return a codebook's 2^acc_bits entries of `out_bits`, denser towards zero: full range * x^1.5."""
    return {"entries": _curve(1 << acc_bits, out_bits - 1)}


def codebook_steps(acc_bits: int, out_bits: int) -> Parameters:
    """Return the points halfway between the entries of such a codebook over the accumulators; ties go up."""
    entries = _curve(1 << out_bits, acc_bits - acc_bits // 4 - 1)
    return {"steps": tuple(-(-(a + b) // 2) for a, b in pairwise(entries))}


def uniform_steps(acc_bits: int, out_bits: int) -> Parameters:
    """Return steps 2^shift * sqrt(2) apart that no power of two divides."""
    step = (1 << measured_shift(acc_bits, out_bits)) / FACTOR
    half = (1 << (out_bits - 1)) - 1
    return {"steps": tuple(int(np.ceil((index - half - 0.3) * step)) for index in range(2 * half + 1))}


def _curve(count: int, bits: int) -> tuple[int, ...]:
    places = (2 * np.arange(count) + 1 - count) / count
    return tuple(int(each) for each in np.rint(np.sign(places) * np.abs(places) ** 1.5 * ((1 << bits) - 1)))


def shift_values(acc_bits: int, out_bits: int) -> Parameters:
    """Return the shift."""
    return {"shift": measured_shift(acc_bits, out_bits)}


def dyadic_values(multiplier_bits: int) -> Callable[[int, int], Parameters]:
    """Return what gives multiplier and shift."""

    def values(acc_bits: int, out_bits: int) -> Parameters:
        shift = measured_shift(acc_bits, out_bits) + multiplier_bits
        return {"multiplier": round(FACTOR * (1 << multiplier_bits)), "shift": shift}

    return values


def scaled_values(acc_bits: int, out_bits: int) -> Parameters:
    """Return a 31-bit multiplier, the shift behind it, and a zero point."""
    shift = measured_shift(acc_bits, out_bits)
    return {"multiplier": round(FACTOR * (1 << 31)), "shift": shift, "zero_point": 3 - (1 << (out_bits - 2))}


def float_values(acc_bits: int, out_bits: int) -> Parameters:
    """Return the bits of a float32 scale."""
    scale = np.float32(FACTOR / (1 << measured_shift(acc_bits, out_bits)))
    return {"scale": int(scale.view(np.uint32))}
