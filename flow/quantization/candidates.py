"""Fraction bits that cover a range, and the codes of numbers for given fraction bits: integers or powers of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.ir.fixed import Codes, FixedFormat
from flow.quantization.floats import Reals

MOST_FRAC_BITS = 64
"""Numbers whose fraction bits would lie beyond this, up or down, are refused: nothing on an FPGA is of that size."""
SPREAD = 8
"""By how many fraction bits the weights of a channel may be finer than those of the coarsest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightCodes:
    """Weights as codes.

    Attributes:
        codes: int64, in the shape of the weights; on the grid of each output channel (the last axis).
        frac_bits: int64 (channels,): `values == codes * 2.0**-frac_bits`.
    """

    codes: Codes
    frac_bits: Codes

    @property
    def values(self) -> Reals:
        """What the codes stand for."""
        return np.ldexp(self.codes.astype(np.float64), -self.frac_bits)

    @property
    def finest(self) -> int:
        """Fraction bits of the grid that holds all channels."""
        return int(self.frac_bits.max())

    def on_one_grid(self) -> Codes:
        """Return the codes on the finest grid of all channels."""
        return self.codes << (self.finest - self.frac_bits)

    def picked(self, others: Sequence[WeightCodes], chosen: NDArray[np.int64]) -> WeightCodes:
        """Return for each channel the codes of the candidate chosen for it."""
        codes, frac_bits = self.codes.copy(), self.frac_bits.copy()
        for number, other in enumerate(others):
            mine = chosen == number
            codes[..., mine], frac_bits[mine] = other.codes[..., mine], other.frac_bits[mine]
        return WeightCodes(codes=codes, frac_bits=frac_bits)


def covering_frac_bits(low: Reals, high: Reals, fmt_low: int, fmt_high: int) -> Codes:
    """Return the most fraction bits with which codes from `fmt_low` to `fmt_high` cover ranges, range by range.

    Codes cover a range if its ends round to codes within. Any number of fraction bits covers an empty range (both ends
    zero): the result there is the least of the others, or 0.

    Example:
        >>> covering_frac_bits(np.array([0.0]), np.array([3.2]), 0, 255).tolist()  # 3.2 * 2**6 is 205, * 2**7 is 410
        [6]

    Raises:
        UnsupportedError: a range is so large or small that they would be beyond `MOST_FRAC_BITS`.
    """
    most = np.full(np.shape(high), MOST_FRAC_BITS + 1, np.int64)
    for ends, limit in ((high, fmt_high), (-np.asarray(low), -fmt_low)):
        positive = np.asarray(ends) > 0
        if limit <= 0:
            continue
        size = np.where(positive, ends, 1.0)
        bits = np.floor(np.log2(limit) - np.log2(size)).astype(np.int64)
        for _ in range(2):  # rounding may let one more bit in, and log2 may be off by one
            bits = np.where(np.rint(np.ldexp(size, bits + 1)) <= limit, bits + 1, bits)
        most = np.where(positive, np.minimum(most, bits), most)
    empty = most > MOST_FRAC_BITS
    if empty.all():
        largest = float(max(np.max(np.abs(low), initial=0), np.max(np.abs(high), initial=0)))
        if largest > 0:
            raise UnsupportedError(f"its largest magnitude is {largest:.3g}: too small for a fixed-point format")
        return np.zeros_like(most)
    most = np.where(empty, most.min(), most)
    if most.min() < -MOST_FRAC_BITS:
        largest = float(max(np.max(np.abs(low)), np.max(np.abs(high))))
        raise UnsupportedError(f"its largest magnitude is {largest:.3g}: too large for a fixed-point format")
    return most


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Return the smallest and the largest code of a width."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def weight_candidates(
    weight: Reals, bits: int, kind: str, per_channel: bool, offsets: Sequence[int]
) -> tuple[WeightCodes, ...]:
    """Return weights as codes, for each number of fraction bits by which they are finer than what covers their range.

    Args:
        weight: real weights; the last axis is the output channel.
        bits: width of a weight.
        kind: "integer", or "po2": zero and plus/minus powers of two, `2**(bits - 1) - 1` of them.
        per_channel: whether each channel has fraction bits of its own.
        offsets: candidates.
    """
    flat = weight.reshape(-1, weight.shape[-1])
    low, high = flat.min(axis=0), flat.max(axis=0)
    of_tensor = np.broadcast_to(_covering(low.min(), high.max(), bits, kind), high.shape)
    fit = np.minimum(_covering(low, high, bits, kind), of_tensor + SPREAD) if per_channel else of_tensor
    candidates = []
    for offset in offsets:
        frac_bits = (fit + offset).astype(np.int64)
        scaled = np.ldexp(weight, frac_bits)
        codes = _integers(scaled, bits) if kind == "integer" else _powers(scaled, bits)
        candidates.append(WeightCodes(codes=codes, frac_bits=frac_bits))
    return tuple(candidates)


def _covering(low: Reals, high: Reals, bits: int, kind: str) -> Codes:
    if kind == "integer":
        return covering_frac_bits(np.asarray(low), np.asarray(high), *code_range(bits, True))
    largest = most_power(bits)
    return covering_frac_bits(np.asarray(low), np.asarray(high), -largest, largest)


def most_power(bits: int) -> int:
    """Return the largest code of a power-of-two weight: one bit is the sign, and one of the other codes is zero."""
    return int(1 << ((1 << (bits - 1)) - 2))


def _integers(scaled: Reals, bits: int) -> Codes:
    return np.clip(np.rint(scaled), *code_range(bits, True)).astype(np.int64)


def _powers(scaled: Reals, bits: int) -> Codes:
    """Return the nearest of zero and plus/minus 1, 2, 4, ... up to `most_power(bits)`."""
    magnitude = np.abs(scaled)
    mantissa, exponent = np.frexp(magnitude)  # magnitude == mantissa * 2**exponent, 1/2 <= mantissa < 1
    power = np.ldexp(1.0, exponent - (mantissa < 0.75))
    nearest = np.clip(power, 1, most_power(bits))
    codes = np.where(magnitude <= 0.5, 0, np.copysign(nearest, scaled))
    return np.asarray(codes.astype(np.int64))


def quantize_values(values: NDArray[np.floating], frac_bits: int, bits: int) -> Codes:
    """Return constants as signed codes of a width: nearest, ties to even, clamped."""
    codes = np.clip(np.rint(np.ldexp(values, frac_bits)), *code_range(bits, True))
    return np.asarray(codes.astype(np.int64))


def output_format(frac_bits: int, bits: int, signed: bool) -> FixedFormat:
    """Return the format of a width with given fraction bits."""
    return FixedFormat(signed, bits - signed - frac_bits, frac_bits)
