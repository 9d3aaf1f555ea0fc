"""x -> cast(scale * x + offset) for integers x: its thresholds, and the shortest factor and offset that have the same.

The cast that saturates behind a line makes a step function of it. Two such functions are the same on all codes of x if
they step at the same ones, so only those are looked at, on both sides. Among the factors of a grid the best are the two
around the true slope; a factor that does on one grid does, doubled, on the next finer one, so the coarsest is bisected.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import CODE_BITS, Cast, Codes, Constant, FixedFormat, Overflow, Rounding, narrowed
from flow.ir.po2 import signed_digits

Integers = NDArray[np.int64] | NDArray[np.object_]
Cut = tuple[Fraction, bool]
"""Where a step function of numbers steps: from that number on, or only beyond it."""
MOST_CODE_BITS = 16
"""A cast to more bits than this has too many thresholds to look at."""
ROUNDINGS = (Rounding.TRN, Rounding.RND, Rounding.RND_CONV)


@dataclass(frozen=True, slots=True)
class Line:
    """(scale * x + offset) * 2**-frac_bits: exactly, in integers of any size."""

    scale: int
    offset: int
    frac_bits: int

    def on(self, frac_bits: int) -> Line:
        """Return the same line on a grid that is no coarser than `frac_bits`."""
        finer = max(frac_bits - self.frac_bits, 0)
        return Line(self.scale << finer, self.offset << finer, self.frac_bits + finer)


def lines_of(scale: NDArray[np.floating[Any]], offset: NDArray[np.floating[Any]], frac_bits: int) -> tuple[Line, ...]:
    """Return the lines of a batch norm with real factors, of codes with so many fraction bits.

    Args:
        scale, offset: (channels,), finite.
        frac_bits: of what is multiplied.
    """
    lines = []
    for factor, addend in zip(scale.tolist(), offset.tolist(), strict=True):
        (n, d), (m, e) = factor.as_integer_ratio(), addend.as_integer_ratio()  # the denominators are powers of two
        own, other = d.bit_length() - 1 + frac_bits, e.bit_length() - 1
        finest = max(own, other)
        lines.append(Line(n << (finest - own), m << (finest - other), finest))
    return tuple(lines)


def hold(lines: Sequence[Line], x: FixedFormat) -> bool:
    """Say whether codes hold what lines make of the codes of a format, and their factors, all on one grid."""
    finest = max(line.frac_bits for line in lines)
    common = [line.on(finest) for line in lines]
    largest = max(abs(line.scale) * max(x.max_code, -x.min_code) + abs(line.offset) for line in common)
    return largest < 1 << (CODE_BITS - 1)


@dataclass(frozen=True, slots=True)
class _Factor:
    """cast((factor * x + offset) * 2**-shift), in steps of the cast's format."""

    factor: int
    offset: int
    shift: int


def has_thresholds(cast: Cast) -> bool:
    """Say whether the thresholds of a line behind which this cast stands are looked at here."""
    saturates = cast.overflow in (Overflow.SAT, Overflow.SAT_SYM)
    return saturates and cast.rounding in ROUNDINGS and cast.format.width <= MOST_CODE_BITS


def thresholds(line: Line, cast: Cast, low: int, high: int) -> Codes:
    """Return, for each code that a cast gives but the lowest, the first x from which on a rising line reaches it.

    Args:
        line: its scale is positive.
        cast: one that `has_thresholds`.
        low, high: x goes from `low` to `high`; what is reached nowhere is reached at `high + 1`.
    """
    line = line.on(cast.format.frac_bits + 1)
    shift, wide = line.frac_bits - cast.format.frac_bits, CODE_BITS - 2
    cut_bits = cast.format.width + shift + cast.divisor.bit_length()
    fits = cut_bits < wide and abs(line.offset).bit_length() < wide and line.scale.bit_length() < wide
    cuts = _cuts(_codes(cast).astype(np.int64 if fits else object), shift, cast.rounding, cast.divisor)
    return np.clip(-((line.offset - cuts) // line.scale), low, high + 1).astype(np.int64)


def _codes(cast: Cast) -> Codes:
    return np.arange(cast.lowest_code + 1, cast.format.max_code + 1)


def _cuts(codes: Integers, shift: int, rounding: Rounding, divisor: int = 1) -> Integers:
    """Return the least integers n for which n * 2**-shift / divisor is rounded to each code."""
    if shift == 0 or rounding is Rounding.TRN:
        return codes * (divisor << shift)
    ties_below = codes % 2 if rounding is Rounding.RND_CONV else 0  # a tie is rounded to the even code
    return (2 * codes - 1) * (divisor << (shift - 1)) + ties_below


def shortened(lines: Sequence[Line], x: FixedFormat, cast: Cast) -> tuple[Constant, Constant, Cast] | None:
    """Return scale, offset and cast of few bits that give each code of `x` what the lines and `cast` give it.

    Args:
        lines: of each channel.
        x: format of the codes.
        cast: one that `has_thresholds`.

    Returns:
        None if there are none in codes: a line whose ties step unevenly, or products of too many bits.
    """
    for rounding in (Rounding.TRN, cast.rounding):
        factors = [_shortest(line, x, cast, rounding) for line in lines]
        if None not in factors:
            return _joined([factor for factor in factors if factor is not None], x, cast, rounding)
    return None


def _joined(
    factors: Sequence[_Factor], x: FixedFormat, cast: Cast, rounding: Rounding
) -> tuple[Constant, Constant, Cast] | None:
    """Return the factors on the finest grid of them."""
    shift = max(factor.shift for factor in factors)
    scales = [each.factor << (shift - each.shift) for each in factors]
    offsets = [each.offset << (shift - each.shift) for each in factors]
    largest = max(
        abs(scale) * max(x.max_code, -x.min_code) + abs(off) for scale, off in zip(scales, offsets, strict=True)
    )
    if largest >= 1 << (CODE_BITS - 1):
        return None
    frac_bits = cast.format.frac_bits + shift
    scale, offset = narrowed(np.array(scales), frac_bits - x.frac_bits), narrowed(np.array(offsets), frac_bits)
    return scale, offset, Cast(cast.format, rounding, cast.overflow)


def _shortest(line: Line, x: FixedFormat, cast: Cast, rounding: Rounding) -> _Factor | None:
    """Return the factor and offset on the coarsest grid with which a cast that rounds so has the same thresholds."""
    low, high, sign = x.min_code, x.max_code, 1
    if line.scale < 0:  # a line that falls rises with -x
        line, low, high, sign = Line(-line.scale, line.offset, line.frac_bits), -high, -low, -1
    if line.scale == 0:
        return _Factor(0, _constant(line, cast), 0)
    codes, firsts = _codes(cast), thresholds(line, cast, low, high)
    reached, left = firsts <= high, firsts > low  # a code is reached somewhere; another comes before it
    at, before = (codes[reached], firsts[reached]), (codes[left], firsts[left] - 1)

    def on(shift: int) -> _Factor | None:
        return _on_grid(line, shift, at, before, cast, rounding)

    coarse, fine = -1, _finest(line, firsts[reached & left], cast)
    found = on(fine)
    if found is None:
        return None
    while fine - coarse > 1:
        middle = (coarse + fine) // 2
        coarser = on(middle)
        coarse, fine, found = (middle, fine, found) if coarser is None else (coarse, middle, coarser)
    return _Factor(sign * found.factor, found.offset, found.shift)


def _constant(line: Line, cast: Cast) -> int:
    """Return the code of a line that neither rises nor falls."""
    line = line.on(cast.format.frac_bits + 1)
    cuts = _cuts(_codes(cast).astype(object), line.frac_bits - cast.format.frac_bits, cast.rounding, cast.divisor)
    return cast.lowest_code + int(np.searchsorted(cuts, line.offset, "right"))


def _finest(line: Line, firsts: Codes, cast: Cast) -> int:
    """Return the finest grid that is tried: one finer than the line's own, to move ties off a threshold.

    A quotient has no grid of its own.
    """
    if not len(firsts):
        return 0  # the same code everywhere
    largest = int(np.abs(firsts).max())
    reach = (line.scale * largest).bit_length() - line.frac_bits + cast.format.frac_bits
    own = max(line.frac_bits - cast.format.frac_bits, 0) if cast.divisor == 1 else CODE_BITS
    return max(min(own + 1, CODE_BITS - 4 - max(reach, cast.format.width)), 0)


def _on_grid(
    line: Line, shift: int, at: tuple[Codes, Codes], before: tuple[Codes, Codes], cast: Cast, rounding: Rounding
) -> _Factor | None:
    """Return a factor with which each code is reached `at` its x and not `before`, on a grid of 2**-shift.

    Args:
        line: it rises.
        shift: of the grid.
        at, before: codes, and the x of each.
        cast, rounding: as of `_shortest`.
    """
    finer = line.frac_bits - cast.format.frac_bits - shift
    below = (line.scale << max(-finer, 0)) // (cast.divisor << max(finer, 0))
    found, largest = [], max(int(np.abs(xs).max(initial=0)) for _, xs in (at, before))
    for factor in {0, below, below + 1} if shift == 0 else (below, below + 1):
        if factor * largest >= 1 << (CODE_BITS - 2):
            continue
        least = _cuts(at[0], shift, rounding) - factor * at[1]
        most = _cuts(before[0], shift, rounding) - 1 - factor * before[1]
        lowest = int(least.max() if len(least) else most.min(initial=0))
        highest = int(most.min() if len(most) else lowest)
        if lowest <= highest:
            found.append(_Factor(factor, _roundest(lowest, highest), shift))
    return min(found, key=_digits, default=None)


def _digits(found: _Factor) -> int:
    return int(signed_digits(np.array([found.factor, found.offset])).sum())


def _roundest(low: int, high: int) -> int:
    """Return the integer between two with the most trailing zeros."""
    if low <= 0 <= high:
        return 0
    bits = max(low.bit_length(), high.bit_length())
    return next(n << bit for bit in range(bits, -1, -1) if (n := -(-low >> bit)) << bit <= high)


def cuts_of(cast: Cast) -> list[Cut]:
    """Return from which number on a cast gives each code but the lowest, before it divides."""
    step, half = cast.divisor * Fraction(2) ** -cast.format.frac_bits, Fraction(1, 2)
    codes = _codes(cast).tolist()
    if cast.rounding is Rounding.TRN:
        return [(code * step, False) for code in codes]
    return [((code - half) * step, cast.rounding is Rounding.RND_CONV and code % 2 == 1) for code in codes]


def stepped(lines: Sequence[Line], cuts: Sequence[Cut], values: Codes, x: FixedFormat) -> tuple[Codes, Codes]:
    """Return a step function of lines: starts and values of a `Lookup` with a function for each channel.

    Args:
        lines: of each channel.
        cuts: where it steps, ascending.
        values: int64 (cuts + 1,), what it gives from each on, first what it gives before all.
        x: format of the codes.

    Returns:
        Two int64 (channels, runs).
    """
    channels = []
    for line in lines:
        scaled = [(cut * Fraction(2) ** line.frac_bits, beyond) for cut, beyond in cuts]
        firsts = [math.floor(cut) + 1 if beyond else math.ceil(cut) for cut, beyond in scaled]
        channels.append(line_runs(firsts, values, line.scale, line.offset, x))
    return together(channels)


def line_runs(firsts: list[int], values: Codes, scale: int, offset: int, x: FixedFormat) -> tuple[Codes, Codes]:
    """Return starts and values of x -> values[i], i the number of `firsts` that scale * x + offset reaches."""
    low, high, kept = x.min_code, x.max_code, values.tolist()
    if scale == 0:
        return np.array([low]), values[[bisect_right(firsts, offset)]]
    if scale > 0:  # scale * x + offset >= first from x = ceil((first - offset) / scale) on
        steps = [-((offset - first) // scale) for first in firsts]
    else:  # ... up to x = floor((offset - first) / -scale), so that less comes from the next on
        steps, kept = [(offset - first) // -scale + 1 for first in reversed(firsts)], kept[::-1]
    starts, found = [low], kept[:1]
    for step, value in zip(steps, kept[1:], strict=True):
        if step > high:
            break
        if step <= starts[-1]:  # no code lies in the run before
            found[-1] = value
        else:
            starts.append(step)
            found.append(value)
    return np.array(starts), np.array(found)


def together(channels: Sequence[tuple[Codes, Codes]]) -> tuple[Codes, Codes]:
    """Return starts and values of all channels, (channels, runs): those with fewer runs repeat their last."""
    runs = max(len(starts) for starts, _ in channels)
    padded = [[np.pad(each, (0, runs - len(each)), "edge") for each in channel] for channel in channels]
    return np.stack([starts for starts, _ in padded]), np.stack([values for _, values in padded])
