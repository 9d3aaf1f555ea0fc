"""Exponential, reciprocal and inverse root as step functions: what integer attention and normalization compute.

Each is a list of values on binary grids and the float32 numbers between which each of them holds. A comparison with a
float32 is exact on every grid, so software that compares and hardware that looks codes up compute the same function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, shown

LEAST_BITS, MOST_BITS = 2, 12
"""Of the tables: a table of more bits costs more than the numbers that it serves."""
COARSER_SUM = 2
"""By how many bits the sum of a softmax is rounded before its reciprocal is looked up: the table is so much smaller."""
SMALLEST_EPSILON = 2.0**-24
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class StepFunction:
    """The value of the last start that is not above x, or the first value below all starts.

    Attributes:
        starts: float32 (runs - 1,), ascending.
        values: float32 (runs,).
    """

    starts: Floats
    values: Floats

    def __call__(self, x: NDArray[Any]) -> Floats:
        """Return the value at each x, same shape."""
        return np.asarray(self.values[np.searchsorted(self.starts, x, side="right")])


def exponential(bits: int) -> StepFunction:
    """Return exp(x) for x <= 0, rounded to `bits` fraction bits.

    Example:
        >>> exponential(2)(np.float32([-9, -1, -0.5, 0])).tolist()
        [0.0, 0.25, 0.5, 1.0]
    """
    return _rounded(np.arange((1 << bits) + 1) / (1 << bits), np.log)


def reciprocal(bits: int, largest: int) -> StepFunction:
    """Return 1 / x for 1 <= x <= largest, rounded to `bits` significant bits.

    Example:
        >>> reciprocal(2, 4)(np.float32([1, 1.25, 2, 3, 4])).tolist()
        [1.0, 0.75, 0.5, 0.375, 0.25]
    """
    return _rounded(_significant(bits, -(largest - 1).bit_length(), 0)[::-1], lambda y: 1 / y)


def inverse_root(bits: int, epsilon: float, largest: float, scale: float = 1.0) -> StepFunction:
    """Return 1 / sqrt(x / scale + epsilon) for 0 <= x <= largest, rounded to `bits` significant bits.

    Example:
        >>> inverse_root(3, 2.0**-4, 4.0)(np.float32([0, 0.25, 1, 4])).tolist()
        [4.0, 1.75, 1.0, 0.5]
    """
    low, high = (-np.log2(x) / 2 for x in (largest / scale + epsilon, epsilon))
    values = _significant(bits, math.floor(low), math.ceil(high))[::-1]
    return _rounded(values, lambda y: (1 / y**2 - epsilon) * scale)


def mean_weight(channels: int) -> float:
    """Return the largest power of two that is not above 1 / channels.

    A sum times this is a mean, times some factor below 2; the values get the same factor, which their root takes out.
    """
    return 2.0 ** -(channels - 1).bit_length()


def normalized_integer_bits(channels: int) -> int:
    """Return how many integer bits hold a value with a mean square of 1 over so many channels: its root at most."""
    return (channels - 1).bit_length() + 1 >> 1


def check_settings(bits: Any, integer: Any = 0, root_bits: Any = LEAST_BITS, epsilon: Any = 1.0) -> None:
    """Refuse settings of which no tables can be made.

    Raises:
        UnsupportedError: one is not within its limits.
    """
    limits = {"bits": (LEAST_BITS, MOST_BITS), "integer": (-MOST_BITS, MOST_BITS), "root_bits": (LEAST_BITS, MOST_BITS)}
    for (name, (low, high)), value in zip(limits.items(), (bits, integer, root_bits), strict=True):
        if type(value) is not int or not low <= value <= high:
            raise UnsupportedError(f"{name}={shown(value)} is not a whole number", remedy=f"use {low} to {high}")
    if not isinstance(epsilon, float) or not SMALLEST_EPSILON <= epsilon <= 1:
        remedy = f"use {SMALLEST_EPSILON:.1e} to 1"
        raise UnsupportedError(f"epsilon={shown(epsilon)} is not a number above 0", remedy=remedy)


def _significant(bits: int, low: int, high: int) -> NDArray[np.float64]:
    """Return all numbers of `bits` significant bits from 2**low to 2**high, ascending."""
    mantissas = 1 + np.arange(1 << bits - 1) / (1 << bits - 1)
    return np.append(np.ldexp(mantissas, np.arange(low, high)[:, None]).reshape(-1), 2.0**high)


def _rounded(values: NDArray[np.float64], inverse: Callable[[Any], Any]) -> StepFunction:
    """Return the function with these values, each from where the exact one is halfway to it from the value before."""
    return StepFunction(np.float32(inverse((values[1:] + values[:-1]) / 2)), np.float32(values))
