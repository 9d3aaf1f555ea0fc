"""Fixed-point formats: codes (stored integers) and the values they stand for.

`values == codes * 2.0**-frac_bits`. `int_bits` never counts the sign, so `width = signed + int_bits + frac_bits`;
the vendor's `ap_fixed<W, I>` is `W = width`, `I = signed + int_bits`, and this module is the only place that converts.

Rounding and overflow carry the vendor's names (Vitis HLS User Guide UG1399, "Quantization Modes" and "Overflow
Modes"; the behaviour is that of `ap_fixed_base.h` in hls4ml's `ap_types`, against which tests hold this module).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, UnsupportedError, counted

Codes = NDArray[np.int64]
Values = NDArray[np.float64]

CODE_BITS = 63
"""Codes are int64: a format wider than this is refused."""


class Rounding(Enum):
    """What becomes of the bits below the last kept one; results on (-1.5, -0.5, 0.5, 1.5) in each line."""

    TRN = "AP_TRN"  # toward minus infinity: (-2, -1, 0, 1); the default of ap_fixed
    TRN_ZERO = "AP_TRN_ZERO"  # toward zero: (-1, 0, 0, 1)
    RND = "AP_RND"  # nearest, ties toward plus infinity: (-1, 0, 1, 2)
    RND_ZERO = "AP_RND_ZERO"  # nearest, ties toward zero: (-1, 0, 0, 1)
    RND_MIN_INF = "AP_RND_MIN_INF"  # nearest, ties toward minus infinity: (-2, -1, 0, 1)
    RND_INF = "AP_RND_INF"  # nearest, ties away from zero: (-2, -1, 1, 2)
    RND_CONV = "AP_RND_CONV"  # nearest, ties to even: (-2, 0, 0, 2); what QKeras and NumPy do


class Overflow(Enum):
    """What becomes of a code outside the format."""

    WRAP = "AP_WRAP"  # keep the low bits; the default of ap_fixed
    SAT = "AP_SAT"  # clamp to [min_code, max_code]
    SAT_ZERO = "AP_SAT_ZERO"  # become zero
    SAT_SYM = "AP_SAT_SYM"  # clamp to [-max_code, max_code] when signed


@dataclass(frozen=True, slots=True)
class FixedFormat:
    """A fixed-point format. `int_bits` or `frac_bits` may be negative as long as the width is positive.

    Example:
        >>> FixedFormat(True, 2, 4).width
        7
    """

    signed: bool
    int_bits: int
    frac_bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.width <= CODE_BITS:
            raise UnsupportedError(
                f"a fixed-point format of {self.width} bits (signed={self.signed}, int_bits={self.int_bits}, "
                f"frac_bits={self.frac_bits}) is outside 1 to {CODE_BITS} bits",
                remedy="quantize more coarsely",
            )

    @property
    def width(self) -> int:
        """Bits in all, sign included."""
        return self.signed + self.int_bits + self.frac_bits

    @property
    def min_code(self) -> int:
        """The smallest code."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max_code(self) -> int:
        """The largest code."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def step(self) -> float:
        """The value of one code."""
        return 2.0**-self.frac_bits

    def unsigned(self) -> FixedFormat:
        """Return the unsigned format that holds its non-negative codes."""
        return FixedFormat(False, max(self.int_bits, 1 - self.frac_bits), self.frac_bits)

    def cpp(self, rounding: Rounding = Rounding.TRN, overflow: Overflow = Overflow.WRAP) -> str:
        """Return the C++ type, for example `ap_ufixed<6,2,AP_RND_CONV,AP_SAT,0>`."""
        kind = "ap_fixed" if self.signed else "ap_ufixed"
        return f"{kind}<{self.width},{self.signed + self.int_bits},{rounding.value},{overflow.value},0>"

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.width}.{self.frac_bits}"

    def to_json(self) -> dict[str, int | bool]:
        """Return the three fields as JSON types."""
        return {"signed": self.signed, "int_bits": self.int_bits, "frac_bits": self.frac_bits}

    @classmethod
    def from_json(cls, data: dict[str, int | bool]) -> FixedFormat:
        """Return the format that `to_json` wrote."""
        return cls(bool(data["signed"]), int(data["int_bits"]), int(data["frac_bits"]))


@dataclass(frozen=True, slots=True)
class Cast:
    """How an exact number becomes a code of `format`: one division, one shift, one rounding, one clamp.

    Example:
        >>> Cast(FixedFormat(True, 3, 0), Rounding.RND, Overflow.SAT)(np.array([5, 99]), frac_bits=1).tolist()
        [3, 7]
    """

    format: FixedFormat
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP
    divisor: int = 1

    def __post_init__(self) -> None:
        assert self.divisor >= 1, f"a cast divides by {self.divisor}"

    @property
    def lowest_code(self) -> int:
        """The smallest code that it gives: symmetric saturation never makes `format.min_code`."""
        return lowest_code(self.format, self.overflow)

    @property
    def cpp(self) -> str:
        """The C++ type to which an assignment casts likewise, but for the division."""
        return self.format.cpp(self.rounding, self.overflow)

    def __call__(self, codes: Codes, frac_bits: int) -> Codes:
        """Return the codes of `format`, int64, of numbers with `frac_bits` fraction bits.

        With a divisor, the numbers on the finer of both grids and the divisor on it have less than 62 bits
        (`flow.ir.intervals.check_division`).
        """
        fmt, overflow = self.format, self.overflow
        raised = fmt.frac_bits - frac_bits
        if self.divisor != 1:
            quotient = round_quotient(codes << max(raised, 0), self.divisor << max(-raised, 0), self.rounding)
            return overflow_to(quotient, fmt, overflow)
        if raised <= 0 or overflow is Overflow.WRAP:
            return overflow_to(round_shift(codes, -raised, self.rounding), fmt, overflow)
        # a left shift loses bits of codes far beyond the ends of the format; those just beyond them clamp to the same
        near = np.clip(codes, (fmt.min_code >> raised) - 1, (fmt.max_code >> raised) + 1)
        return overflow_to(near << min(raised, CODE_BITS - 1), fmt, overflow)


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """Numbers that an op holds: int64 codes of a format, which `flow.ir.graph.verify` checks."""

    codes: Codes
    format: FixedFormat

    @property
    def values(self) -> Values:
        """The numbers, float64 (exact up to 53 bits)."""
        return to_values(self.codes, self.format)

    @classmethod
    def zeros(cls, *shape: int) -> Constant:
        """Return zeros in the narrowest format."""
        return cls(np.zeros(shape, np.int64), FixedFormat(False, 1, 0))


def narrowed(codes: Codes, frac_bits: int) -> Constant:
    """Return codes in their narrowest format, without the fraction bits that are zero in each of them."""
    used = int(np.bitwise_or.reduce(np.abs(codes), axis=None)) if codes.size else 0
    if used == 0:
        return Constant.zeros(*codes.shape)
    spare = (used & -used).bit_length() - 1
    codes = codes >> spare
    return Constant(codes, covering(int(codes.min()), int(codes.max()), frac_bits - spare))


def times(constant: Constant, factor: int) -> Constant:
    """Return a constant multiplied by a positive integer, exactly.

    Raises:
        UnsupportedError: that takes more bits than codes have.
    """
    if factor == 1:
        return constant
    if constant.format.width + factor.bit_length() >= CODE_BITS:
        what = f"constants of {constant.format.width} bits times {factor} need more than {CODE_BITS - 1} bits"
        raise UnsupportedError(what, remedy="put a quantizer (QActivation) behind the averages before it")
    return narrowed(constant.codes * factor, constant.format.frac_bits)


def parse_cpp(text: str) -> Cast:
    """Read a C++ type as `FixedFormat.cpp` or hls4ml writes it; modes left out are ap_fixed's defaults.

    Raises:
        ValueError: the text is no such type.
    """
    match = re.fullmatch(r"ap_(u?)(?:fixed<(\d+),(-?\d+)(?:,(\w+),(\w+)(?:,0)?)?>|int<(\d+)>)", text.replace(" ", ""))
    if match is None:
        raise ValueError(f"{text!r} is not an ap_[u]fixed or ap_[u]int type")
    unsigned, width, integer, rounding, overflow, whole = match.groups()
    total, signed = int(width or whole), not unsigned
    int_bits = int(integer or whole) - signed
    fmt = FixedFormat(signed, int_bits, total - signed - int_bits)
    return Cast(fmt, Rounding(rounding or Rounding.TRN), Overflow(overflow or Overflow.WRAP))


def covering(min_code: int, max_code: int, frac_bits: int) -> FixedFormat:
    """Return the narrowest format with `frac_bits` that holds every code from `min_code` to `max_code`.

    Raises:
        UnsupportedError: it would be wider than `CODE_BITS`.
    """
    signed = min_code < 0
    magnitude = max(max_code, -min_code - 1, 0).bit_length()
    return FixedFormat(signed, max(magnitude, 1 - signed) - frac_bits, frac_bits)


def round_shift(codes: Codes, shift: int, rounding: Rounding) -> Codes:
    """Divide integers by `2**shift` with the given rounding; a negative `shift` multiplies exactly.

    Args:
        codes: int64, any shape; `|codes| < 2**62`, and no bit may be lost by a left shift.
        shift: number of fraction bits to drop.
    """
    if shift <= 0:
        return codes << -shift
    if shift > CODE_BITS - 1:  # everything is below half a step
        half_or_less = np.where(codes < 0, -1, 0) if rounding in (Rounding.TRN,) else np.zeros_like(codes)
        return half_or_less.astype(np.int64)
    floor = codes >> shift
    return _rounded(floor, codes - (floor << shift), 1 << shift, codes < 0, rounding)


def reciprocal(low: int, high: int, divisor: int) -> tuple[int, int, int]:
    """Return (offset, factor, shift) so that `n // divisor == ((n + offset * divisor) * factor >> shift) - offset`.

    That holds for integers n from `low` to `high`. With factor = ceil(2**shift / divisor), the product exceeds the
    quotient by less than 1 / divisor, so it stays below the next whole number (Granlund and Montgomery, PLDI 1994,
    section 4).
    """
    offset = -(low // divisor) if low < 0 else 0  # whole divisors that make it non-negative
    largest = high + offset * divisor
    shift = divisor.bit_length()
    while (-(-(1 << shift) // divisor) * divisor - (1 << shift)) * largest >= 1 << shift:
        shift += 1
    return offset, -(-(1 << shift) // divisor), shift


def round_quotient(codes: Codes, divisor: int | Codes, rounding: Rounding) -> Codes:
    """Divide integers (`|codes| < 2**62`) by positive ones of less than 62 bits and round to whole numbers."""
    floor, rest = np.divmod(codes, np.asarray(divisor, np.int64))
    return _rounded(floor, rest, divisor, codes < 0, rounding)


def _rounded(floor: Codes, rest: Codes, whole: int | Codes, negative: NDArray[np.bool_], rounding: Rounding) -> Codes:
    """Round `floor + rest / whole`, where `0 <= rest < whole`, to `floor` or `floor + 1`."""
    twice = rest << 1
    if rounding is Rounding.TRN:
        return floor
    if rounding is Rounding.TRN_ZERO:
        up = negative & (rest > 0)
    elif rounding is Rounding.RND:
        up = twice >= whole
    elif rounding is Rounding.RND_MIN_INF:
        up = twice > whole
    elif rounding is Rounding.RND_INF:
        up = (twice > whole) | ((twice == whole) & ~negative)
    elif rounding is Rounding.RND_ZERO:
        up = (twice > whole) | ((twice == whole) & negative)
    else:
        up = (twice > whole) | ((twice == whole) & ((floor & 1) == 1))
    return np.asarray(floor + up)


def lowest_code(fmt: FixedFormat, overflow: Overflow) -> int:
    """Return the smallest code that a cast to `fmt` gives: symmetric saturation never makes `fmt.min_code`."""
    return -fmt.max_code if overflow is Overflow.SAT_SYM and fmt.signed else fmt.min_code


def overflow_to(codes: Codes, fmt: FixedFormat, overflow: Overflow) -> Codes:
    """Bring integers into `fmt` by the given overflow mode."""
    if overflow is Overflow.WRAP:
        unused = 64 - fmt.width
        return (codes << unused) >> unused if fmt.signed else np.bitwise_and(codes, fmt.max_code)
    if overflow is Overflow.SAT_ZERO:
        return np.where((codes < fmt.min_code) | (codes > fmt.max_code), 0, codes)
    return np.clip(codes, lowest_code(fmt, overflow), fmt.max_code)


def to_values(codes: Codes, fmt: FixedFormat) -> Values:
    """Return `codes * 2**-frac_bits` as float64 (exact up to 53 bits)."""
    return np.ldexp(codes.astype(np.float64), -fmt.frac_bits)


def to_codes(values: NDArray[np.floating], fmt: FixedFormat) -> Codes:
    """Return the codes of values that lie exactly on the grid of `fmt`.

    Raises:
        DataError: a value is not finite, not on the grid, or out of range.
    """
    scaled = np.ldexp(np.asarray(values, np.float64), fmt.frac_bits)
    if not np.isfinite(scaled).all():
        raise DataError(f"{counted(np.count_nonzero(~np.isfinite(scaled)), 'value is', 'values are')} NaN or infinite")
    codes = np.rint(scaled)
    off_grid, outside = codes != scaled, (codes < fmt.min_code) | (codes >= fmt.max_code + 1)  # + 1: a float64
    said = (
        ("value is no multiple of", "values are no multiples of"),
        ("value is outside the range of", "values are outside the range of"),
    )
    for bad, words in zip((off_grid, outside), said, strict=True):
        if bad.any():
            first = np.asarray(values)[bad].flat[0]
            raise DataError(f"{counted(np.count_nonzero(bad), *words)} the format {fmt} (first: {first!r})")
    return codes.astype(np.int64)


def quantize(values: NDArray[np.floating], cast: Cast) -> Codes:
    """Round float values to codes, as assigning a double to `ap_[u]fixed` does; a divisor is not applied.

    Values beyond +-2**62 steps are clamped first, so `Overflow.WRAP` is refused for them.

    Raises:
        DataError: a value is NaN or infinite, or out of int64 with `Overflow.WRAP`.
    """
    fmt, overflow = cast.format, cast.overflow
    scaled = np.ldexp(np.asarray(values, np.float64), fmt.frac_bits)
    if not np.isfinite(scaled).all():
        raise DataError(f"{counted(np.count_nonzero(~np.isfinite(scaled)), 'value is', 'values are')} NaN or infinite")
    huge = np.abs(scaled) >= 2.0**52  # no fraction is left at this size
    if overflow is Overflow.WRAP and huge.any():
        raise DataError("values too large to wrap", remedy="scale them into the range of the format")
    whole = np.floor(scaled)
    # scaled = whole + fraction; 2 bits of fraction (with a sticky bit) decide every rounding mode
    fraction = scaled - whole
    quarter = np.select([fraction == 0, fraction < 0.5, fraction == 0.5], [0, 1, 2], 3)
    codes = np.where(huge, 0, whole).astype(np.int64) * 4 + quarter
    rounded = overflow_to(round_shift(codes, 2, cast.rounding), fmt, overflow)
    if not huge.any():
        return rounded
    whole = np.clip(scaled, -(2.0**62), 2.0**62).astype(np.int64)
    edge = overflow_to(whole, fmt, overflow)
    return np.where(huge, edge, rounded)


def exact_within(values: NDArray[np.floating], bits: int) -> FixedFormat | None:
    """Return the narrowest format that holds finite float values exactly, or None if it has more than `bits` bits."""
    try:
        fmt = exact_codes(values).format
    except UnsupportedError:  # more bits than codes have
        return None
    return fmt if fmt.width <= bits else None


def exact_codes(values: NDArray[np.floating]) -> Constant:
    """Return finite float values exactly, as codes of the narrowest format.

    Raises:
        DataError: a value is NaN or infinite.
        UnsupportedError: the values span more than `CODE_BITS` bits.
    """
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise DataError(f"{counted(np.count_nonzero(~np.isfinite(array)), 'value is', 'values are')} NaN or infinite")
    mantissa, exponent = np.frexp(array)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    nonzero = whole != 0
    if not nonzero.any():
        return Constant.zeros(*array.shape)
    trailing = np.log2((whole & -whole).astype(np.float64), where=nonzero, out=np.zeros(array.shape)).astype(np.int64)
    lowest = int((exponent - 53 + trailing)[nonzero].min())
    largest = int(exponent[nonzero].max()) - lowest
    if largest > CODE_BITS - 1:
        raise UnsupportedError(f"values span {largest} bits between largest and finest", remedy=f"{CODE_BITS - 1} fit")
    scaled = np.ldexp(array, -lowest)
    codes = scaled.astype(np.int64)
    return Constant(codes, covering(int(codes.min()), int(codes.max()), -lowest))
