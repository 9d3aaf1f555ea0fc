"""What each requantizer computes, in integers: the definitions that the netlists are held against; what is measured.

Written from the arithmetic, not from the Verilog of flow/study/circuits.py. Every value fits int64: the widest is a
product of 32 and 31 bits and half a step of its rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Parameters = Mapping[str, Any]
"""Name of a port -> integer, or array of one integer per accumulator; of a memory -> its words in order."""
FACTOR = 0.7071067811865476
"""What multipliers scale by beside the power of two: 1 / sqrt(2), whose binary digits show no pattern."""


def clamp(values: Codes, out_bits: int) -> Codes:
    """Return values brought into the signed range of `out_bits`."""
    return np.clip(values, -(1 << (out_bits - 1)), (1 << (out_bits - 1)) - 1)


def round_half_up(values: Codes, shift: Any) -> Codes:
    """Return values / 2^shift rounded to the nearest integer, ties towards +infinity (`AP_RND`).

    Example:
        >>> round_half_up(np.array([-6, -2, 2, 6]), 2).tolist()
        [-1, 0, 1, 2]
    """
    shift = np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return np.asarray((values + half) >> shift)


def shift_clamp(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return clamp(round_half_up(acc / 2^shift))."""
    return clamp(round_half_up(acc, parameters["shift"]), out_bits)


def dyadic(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return clamp(round_half_up(acc * multiplier / 2^shift)): the dyadic rescale of HAWQ-V3 (arXiv 2011.10680)."""
    return clamp(round_half_up(acc * parameters["multiplier"], parameters["shift"]), out_bits)


def tflite_single(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return what TFLite's `MultiplyByQuantizedMultiplier` does with TFLITE_SINGLE_ROUNDING, zero point and clamp.

    `shift` is the right shift, 0 to 31: their `total_shift` is 31 + shift.
    """
    shift = np.asarray(parameters["shift"], np.int64)
    rounded = round_half_up(acc * parameters["multiplier"], 31 + shift)
    return clamp(rounded + parameters["zero_point"], out_bits)


def gemmlowp_double(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return gemmlowp's requantization: two roundings (fixedpoint.h), zero point and clamp.

    `SaturatingRoundingDoublingHighMul` divides by 2^31 with a nudge and C's division, which truncates: ties go
    towards +infinity. `RoundingDivideByPOT` rounds ties away from zero.
    """
    product = acc * parameters["multiplier"]
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    shift = np.asarray(parameters["shift"], np.int64)
    mask = (np.int64(1) << shift) - 1
    threshold = (mask >> 1) + (high < 0)
    rounded = (high >> shift) + ((high & mask) > threshold)
    return clamp(rounded + parameters["zero_point"], out_bits)


def float_scale(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return clamp(rint(float32(acc) * scale)), each step rounded to nearest even, as IEEE 754 and NumPy do.

    `scale` holds the bits of a positive normal float32.
    """
    scale = np.asarray(parameters["scale"], np.uint32).view(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        product = acc.astype(np.float32) * scale
    low, high = -(1 << (out_bits - 1)), (1 << (out_bits - 1)) - 1
    return np.asarray(np.clip(np.rint(product), low, high), np.int64)


def count_steps(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return how many of the rising `steps` are at or below each accumulator: the unsigned code.

    Thresholds, and the nearest entry of a codebook whose entries rise: the steps are then the points between entries.
    """
    return np.asarray(np.searchsorted(parameters["steps"], acc, side="right"), np.int64)


def look_up(acc: Codes, parameters: Parameters, out_bits: int) -> Codes:
    """Return the `entries` that unsigned codes stand for."""
    entries: Codes = np.asarray(parameters["entries"], np.int64)
    return entries[acc]


# -- the parameters that are measured


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


def dyadic_values(multiplier_bits: int, acc_bits: int, out_bits: int) -> Parameters:
    """Return multiplier and shift."""
    shift = measured_shift(acc_bits, out_bits) + multiplier_bits
    return {"multiplier": round(FACTOR * (1 << multiplier_bits)), "shift": shift}


def scaled_values(acc_bits: int, out_bits: int) -> Parameters:
    """Return a 31-bit multiplier, the shift behind it, and a zero point."""
    shift = measured_shift(acc_bits, out_bits)
    return {"multiplier": round(FACTOR * (1 << 31)), "shift": shift, "zero_point": 3 - (1 << (out_bits - 2))}


def float_values(acc_bits: int, out_bits: int) -> Parameters:
    """Return the bits of a float32 scale."""
    scale = np.float32(FACTOR / (1 << measured_shift(acc_bits, out_bits)))
    return {"scale": int(scale.view(np.uint32))}
