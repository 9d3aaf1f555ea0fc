"""Inputs chosen to break things: corners, extremes, rounding ties, accumulators driven to their ends."""

from __future__ import annotations

import numpy as np

from flow.fixed import Codes
from flow.graph import Op


def corner_inputs(op: Op) -> Codes:
    """Return all-min, all-max, all-zero and alternating inputs: int64 (7, *shape)."""
    low, high = op.format.min_code, op.format.max_code
    size = int(np.prod(op.shape))
    odd = np.arange(size) % 2 == 1
    ramp = low + (np.arange(size) * 7919) % (high - low + 1)
    rows = [
        np.full(size, low),
        np.full(size, high),
        np.zeros(size),
        np.where(odd, low, high),
        np.where(odd, high, low),
        np.where(odd, 0, high),
        ramp,
    ]
    return np.stack(rows).astype(np.int64).reshape(-1, *op.shape)
