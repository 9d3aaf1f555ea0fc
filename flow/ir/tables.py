"""Step functions as tables: no larger than what changes in them.

Codes beyond the first and the last step share one entry each, and where all steps lie on multiples of a power of two,
the bits below it select nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Lookup

TABLE_INPUT_BITS = 16
"""Codes of at most so many bits are listed one by one: evaluated, looked up, built as a table of hardware."""
TABLE_ENTRIES = 1 << 10
"""A table of more entries costs more than a comparison per run."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """`values[clamp(code >> shift, first, first + len(values) - 1) - first]` is the function of a code."""

    first: int
    shift: int
    values: Codes


def searches(op: Lookup, x: FixedFormat) -> bool:
    """Say whether a step function without a table is a binary search of its steps: of wide codes, or per channel."""
    return op.starts.ndim > 1 or x.width > TABLE_INPUT_BITS


def runs(codes: Codes, values: NDArray[Any]) -> tuple[Codes, NDArray[Any]]:
    """Return the first code and the value of each run of equal values: `starts` and `values` of a `Lookup`."""
    first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    return codes[first], values[first]


def smallest_table(op: Lookup) -> Table | None:
    """Return the smallest table of a step function, or None if it has more than `TABLE_ENTRIES`, or one a channel."""
    if op.starts.ndim > 1:
        return None
    steps = op.starts[1:]
    if not len(steps):
        return Table(0, 0, op.values)
    used = int(np.bitwise_or.reduce(steps))
    shift = (used & -used).bit_length() - 1 if used else int(op.starts[0]).bit_length()
    first, last = int(steps[0] - 1) >> shift, int(steps[-1]) >> shift
    if last - first >= TABLE_ENTRIES:
        return None
    codes = np.maximum(np.arange(first, last + 1) << shift, op.starts[0])
    return Table(first, shift, op.values[np.searchsorted(op.starts, codes, side="right") - 1])
