"""Step functions of more codes than can be listed: where they step, found by bisection and tried around each step.

What stands between an integer sum and a quantizer is a step function of the sum. A front end says which functions never
fall (`layers.Function.falters`): between two codes of the same value nothing happens then, and between others bisection
finds every step. In float32 a sum, a product, a rounding or a clamp keeps that order, since it is rounded correctly;
tanh, exponentials and logarithms are approximations that may falter by some units in the last place. So the floats
around each step are tried, and where those end such a function must have moved by more than it falters.

A function such as swish falls up to one number and rises from there on: each side is searched by itself. Near that
number it is flat, so what follows must give one value for all that its least one may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.intervals import FLOAT32_BITS
from flow.ir.scaling import Cut, Line

Floats = NDArray[np.float32]
Values = Callable[[Codes], Floats]
"""What a function gives for codes, each rounded to a float32."""

MOST_STEPS = 1 << 12
"""A function of more steps is not built of comparisons."""
FIRST, ROUND = 1 << 10, 1 << 13
"""Codes that are tried first, and about as many as in each round of bisection."""
AROUND, FEWEST_AROUND, MOST_AROUND = 1 << 15, 64, 1 << 10
"""Floats that are tried around all steps; at least and at most on each side of one."""


@dataclass(frozen=True, slots=True)
class Ordinals:
    """float32 numbers, counted from zero: an integer more is the next number. They step as codes do."""

    min_code: int
    max_code: int
    width: ClassVar[int] = 32
    signed: ClassVar[bool] = True


def number(codes: Codes) -> Floats:
    """Return the numbers that ordinals count."""
    magnitude = np.abs(codes).astype(np.uint32).view(np.float32)
    return np.where(codes < 0, -magnitude, magnitude)


def ordinal(value: float) -> int:
    """Return the ordinal of the float32 next to a number, of the largest for one beyond it."""
    ends = np.finfo(np.float32)
    near = np.float32(min(max(value, float(ends.min)), float(ends.max)))
    count = int(np.abs(near).view(np.uint32))
    return -count if near < 0 else count


def ordinals(lines: Sequence[Line], x: FixedFormat, relu: bool) -> Ordinals:
    """Return the float32 numbers that codes become on some lines, and behind a ReLU if there is one."""
    scaled = [
        float(Fraction(line.scale * code + line.offset) / Fraction(2) ** line.frac_bits)
        for line in lines
        for code in (x.min_code, x.max_code)
    ]
    low, high = ordinal(min(scaled)), ordinal(max(scaled))
    return Ordinals(max(low, 0), max(high, 1)) if relu else Ordinals(low, max(high, low + 1))


def cut_before(step: int) -> Cut:
    """Return from which real number on rounding gives the float32 of an ordinal, or one beyond it: ties go to even."""
    low, high = number(np.array([step - 1, step])).tolist()
    return (Fraction(low) + Fraction(high)) / 2, step % 2 == 1


def find_steps(
    values: Values,
    fmt: FixedFormat | Ordinals,
    rising: Values,
    falters: int,
    what: str,
    turn: int | None = None,
    least_size: Values | None = None,
) -> tuple[Codes, Floats]:
    """Return the first code of each run of equal values, and these values, of a function that falls nowhere but so far.

    Args:
        values: the function.
        fmt: format of its codes; of float32 numbers, their ordinals.
        rising: what it is a quantizer of; this never falls but for
        falters: so many units in the last place; 0 if not at all.
        what: the function, for errors.
        turn: the code up to which it falls; None for a function that never falls.
        least_size: magnitude whose last place is counted in, where its own is less; None for its own.

    Returns:
        int64 (runs,) and float32 (runs,).

    Raises:
        UnsupportedError: it falls somewhere, steps too often, or is too flat around a step.
    """
    turn = fmt.min_code if turn is None else min(max(turn, fmt.min_code), fmt.max_code)
    codes = np.union1d(_first_codes(fmt), turn)
    found = values(codes)
    while True:
        steps = np.flatnonzero(found[1:] != found[:-1])
        if (np.where(codes[1:] <= turn, -1, 1) * np.diff(found) < 0).any():
            raise UnsupportedError(f"{what} of {fmt.width} bits falls somewhere", remedy="quantize its input first")
        if len(steps) > MOST_STEPS:
            remedy = "quantize its input first, or its output to fewer bits"
            raise UnsupportedError(f"{what} of {fmt.width} bits has more than {MOST_STEPS} steps", remedy=remedy)
        wide = steps[codes[steps + 1] - codes[steps] > 1]
        if not len(wide):
            break
        new = np.setdiff1d(_between(codes[wide], codes[wide + 1]), codes)
        codes, found = np.concatenate([codes, new]), np.concatenate([found, values(new)])
        order = np.argsort(codes)
        codes, found = codes[order], found[order]
    first = np.r_[0, steps + 1]
    starts, kept = codes[first], found[first]
    tried, ends = _around(starts[1:], fmt)
    if (values(tried) != kept[np.searchsorted(starts, tried, side="right") - 1]).any():
        raise UnsupportedError(f"{what} of {fmt.width} bits falters around a step", remedy="quantize its input first")
    if falters and len(starts) > 1:
        at, beyond = (rising(np.asarray(each)) for each in (np.repeat(starts[1:], 2), ends))
        size = np.maximum(np.abs(at), np.abs(beyond))
        size = size if least_size is None else np.maximum(size, least_size(np.repeat(starts[1:], 2)))
        outside = (ends == fmt.min_code) | (ends == fmt.max_code)
        if (np.abs(beyond - at) <= falters * np.spacing(size))[~outside].any():
            what = f"{what} of {fmt.width} bits is too flat at a step to tell on which side codes lie"
            raise UnsupportedError(what, remedy="quantize its input first, or its output to fewer bits")
    return starts, kept


def _first_codes(fmt: FixedFormat | Ordinals) -> Codes:
    """Return some codes, both ends among them: evenly spread, and powers of two with their neighbours."""
    powers = np.int64(1) << np.arange(fmt.width - fmt.signed)
    near = np.concatenate([powers - 1, powers, powers + 1])
    spread = np.linspace(fmt.min_code, fmt.max_code, FIRST).astype(np.int64)  # its ends are beyond 2**53
    codes = np.concatenate([near, -near, spread, [fmt.min_code, fmt.max_code]])
    return np.unique(codes[(codes >= fmt.min_code) & (codes <= fmt.max_code)])


def _between(low: Codes, high: Codes) -> Codes:
    """Return codes that divide each gap into equal parts."""
    parts = max(2, ROUND // len(low))
    part, (whole, rest) = np.arange(1, parts), np.divmod((high - low)[:, None], parts)
    return np.unique(low[:, None] + whole * part + rest * part // parts)


def _around(steps: Codes, fmt: FixedFormat | Ordinals) -> tuple[Codes, Codes]:
    """Return the codes of the floats around each step, and the outermost, two of each step."""
    count = min(max(AROUND // (2 * max(1, len(steps))), FEWEST_AROUND), MOST_AROUND)
    apart = np.int64(1) << np.maximum(np.frexp(np.abs(steps).astype(float))[1] - FLOAT32_BITS, 0)
    apart = np.ones_like(apart) if isinstance(fmt, Ordinals) else apart
    codes = steps[:, None] + apart[:, None] * np.arange(-count, count + 1)
    codes = np.clip(codes, fmt.min_code, fmt.max_code)
    return np.unique(np.r_[codes.reshape(-1), steps - (len(steps) > 0)]), codes[:, [0, -1]].reshape(-1)
