"""The oracle: what a graph means, once more, slowly, in Python's unbounded integers and with other formulas.

It shares no arithmetic with `flow.fixed`, `flow.intervals` and `flow.reference`: a value is a Fraction, rounding is
written as it stands in Vitis HLS' user guide, a convolution is a loop over windows.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np

from flow.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.graph import BatchNorm, Conv2D, Dense, Flatten, Input, IntGraph, MaxPool2D, Op, Relu, Requantize

HALF = Fraction(1, 2)
Exact = np.ndarray  # of Fractions


def round_fraction(value: Fraction, rounding: Rounding) -> int:
    """Return the integer that UG1399's quantization mode gives."""
    size, sign = abs(value), (value > 0) - (value < 0)
    return {
        Rounding.TRN: lambda: math.floor(value),
        Rounding.TRN_ZERO: lambda: math.trunc(value),
        Rounding.RND: lambda: math.floor(value + HALF),
        Rounding.RND_MIN_INF: lambda: math.ceil(value - HALF),
        Rounding.RND_ZERO: lambda: sign * math.ceil(size - HALF),
        Rounding.RND_INF: lambda: sign * math.floor(size + HALF),
        Rounding.RND_CONV: lambda: round(value),
    }[rounding]()


def limit(code: int, fmt: FixedFormat, overflow: Overflow) -> int:
    """Return the code of `fmt` that UG1399's overflow mode gives."""
    width = fmt.signed + fmt.int_bits + fmt.frac_bits
    high = 2 ** (width - 1) - 1 if fmt.signed else 2**width - 1
    low = -high - 1 if fmt.signed else 0
    if overflow is Overflow.WRAP:
        return (code - low) % 2**width + low
    if overflow is Overflow.SAT_SYM and fmt.signed:
        return max(-high, min(high, code))
    if low <= code <= high:
        return code
    return 0 if overflow is Overflow.SAT_ZERO else max(low, min(high, code))


def cast(value: Fraction, fmt: FixedFormat, rounding: Rounding, overflow: Overflow) -> int:
    """Return the code of `fmt` that a value becomes."""
    return limit(round_fraction(value * Fraction(2) ** fmt.frac_bits, rounding), fmt, overflow)


def evaluate(graph: IntGraph, codes: Codes) -> dict[str, Codes]:
    """Return every op's output codes, int64 (samples, *shape)."""
    values: dict[str, Exact] = {}
    out: dict[str, Codes] = {}
    for op in graph.ops:
        if isinstance(op, Input):
            out[op.name] = codes
        else:
            exact = np.stack([_apply(op, sample) for sample in values[op.inputs[0]]])
            flat = [cast(value, op.format, op.rounding, op.overflow) for value in exact.reshape(-1)]
            out[op.name] = np.array(flat, np.int64).reshape(exact.shape)
        values[op.name] = to_fractions(out[op.name], op.format)
    return out


def to_fractions(codes: Codes, fmt: FixedFormat) -> Exact:
    step = Fraction(2) ** -fmt.frac_bits
    out = np.empty(codes.shape, object)
    out.reshape(-1)[:] = [int(code) * step for code in codes.reshape(-1)]
    return out


def _apply(op: Op, x: Exact) -> Exact:
    if isinstance(op, Dense):
        return x @ to_fractions(op.weight, op.weight_format) + to_fractions(op.bias, op.bias_format)
    if isinstance(op, Conv2D):
        weight, bias = to_fractions(op.weight, op.weight_format), to_fractions(op.bias, op.bias_format)
        size = (op.weight.shape[0], op.weight.shape[1])
        rows = [
            sum((window @ weight[place] for place, window in pixels), bias)
            for pixels in _windows(x, op.shape, size, op.strides, op.padding)
        ]
        return np.stack(rows).reshape(op.shape)
    if isinstance(op, MaxPool2D):
        windows = _windows(x, op.shape, op.pool, op.strides, op.padding)
        return np.stack([np.max(np.stack([p for _, p in pixels]), axis=0) for pixels in windows]).reshape(op.shape)
    if isinstance(op, BatchNorm):
        return x * to_fractions(op.scale, op.scale_format) + to_fractions(op.offset, op.offset_format)
    if isinstance(op, Relu):
        return np.where(x > 0, x, Fraction(0))
    if isinstance(op, Flatten):
        return x.reshape(-1)
    assert isinstance(op, Requantize)
    return x


def _windows(x: Exact, shape: tuple[int, ...], size: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...]):
    """Yield, per output pixel, the ((row, column) in the window, input pixel) that lie inside the image."""
    height, width, _ = x.shape
    for top, left in product(range(shape[0]), range(shape[1])):
        at = (top * strides[0] - pads[0], left * strides[1] - pads[2])
        inside = [
            ((row, col), x[at[0] + row, at[1] + col])
            for row, col in product(range(size[0]), range(size[1]))
            if 0 <= at[0] + row < height and 0 <= at[1] + col < width
        ]
        yield inside
