"""Sums of products and windows over images, in pieces that stay in a core's cache; floats carry the integers.

A float of `bits` significant bits holds every integer up to `2**bits` exactly, and times a power of two it stays exact.
So a sum is exact in any order, and BLAS may compute it, where no partial sum goes beyond that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Conv, MatMul, Op, Pool
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS
from flow.ir.windows import Shape, Window

Carrier = NDArray[Any]
Place = tuple[slice, ...]
"""Samples and, if there are any, rows: the first axis and the second."""

FLOAT32_EXACT, FLOAT64_EXACT = 1 << FLOAT32_BITS, 1 << FLOAT64_BITS
PIECE_BYTES = 1 << 20
"""A piece is as large as lets what is computed for it stay about this size: half of a core's cache."""
FEWEST_PRODUCTS = 64
"""A sum in float64 costs twice a sum in float32; adding two sums costs about as much as this many products less."""


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread_blas() -> Any:
    """Return a context in which BLAS uses one thread, for work that runs side by side already."""
    return _threads().limit(limits=1, user_api="blas")


def carrier(bound: int) -> type[Any]:
    """Return the fastest type that holds every integer up to `bound` exactly."""
    return np.float32 if bound <= FLOAT32_EXACT else np.float64 if bound <= FLOAT64_EXACT else np.int64


def pieces(samples: int, shape: Shape, bytes_each: int) -> Iterator[Place]:
    """Yield places that cover `samples` arrays of a shape: several samples, or else rows of one sample.

    Args:
        samples: how many there are.
        shape: of one sample, channels last; an array of one axis has no rows.
        bytes_each: what the work on one row takes.
    """
    rows = shape[0] if len(shape) > 1 else 1
    if rows * bytes_each <= PIECE_BYTES or len(shape) == 1:
        count = max(1, PIECE_BYTES // max(1, rows * bytes_each))
        for first in range(0, samples, count):
            yield (slice(first, first + count),)
    else:
        parts = math.ceil(rows / max(1, PIECE_BYTES // bytes_each))
        count = math.ceil(rows / parts)
        for sample in range(samples):
            for first in range(0, rows, count):
                yield slice(sample, sample + 1), slice(first, min(first + count, rows))


def splits(weight: Codes, x: FixedFormat) -> tuple[int, ...]:
    """Return where to cut the rows of a weight matrix so that no part's partial sum leaves what float32 holds.

    Returns:
        The ends of the parts, each as long as it may be; empty where float64 is faster, or a single product is too
        large.
    """
    positive, negative = np.maximum(weight, 0), np.minimum(weight, 0)
    high = np.cumsum(positive * x.max_code + negative * x.min_code, axis=0)
    low = np.cumsum(positive * x.min_code + negative * x.max_code, axis=0)
    ends = [0]
    while ends[-1] < len(weight):
        before = (high[ends[-1] - 1], low[ends[-1] - 1]) if ends[-1] else (0, 0)
        reach = np.maximum(high - before[0], before[1] - low).max(axis=1)  # from the last end to each row
        ends.append(int(np.searchsorted(reach, FLOAT32_EXACT, side="right")))
        if ends[-1] == ends[-2]:
            return ()
    return tuple(ends[1:]) if len(weight) >= FEWEST_PRODUCTS * (len(ends) - 1) else ()


def factor_of(op: MatMul, weight: Carrier) -> Carrier:
    """Return a weight of an op, in whichever type, as `sums_of_products` takes it."""
    if is_depthwise(op):
        return np.tile(weight[..., 0, :], op.shape[-2])  # once for each pixel of a row
    if isinstance(op, Conv) and op.groups > 1:
        return weight.reshape(-1, *weight.shape[-2:])
    return weight.reshape(-1, weight.shape[-1])


def sums_of_products(op: MatMul, factor: Carrier, x: Carrier, place: Place, ends: tuple[int, ...] = ()) -> Carrier:
    """Return the sums of products of a dense or a convolution, without bias, at a place of its output.

    Args:
        op: the op, for its geometry.
        factor: its weight, from `factor_of`; what is multiplied is brought to its type.
        x: samples of its input.
        place: which samples and rows.
        ends: where sums are cut, see `products`.

    Returns:
        (samples, *shape at that place).
    """
    shape = shape_at(op, place)
    if not isinstance(op, Conv):
        rows = x[place].astype(factor.dtype, copy=False).reshape(-1, x.shape[-1])
        return products(rows, factor, ends).reshape(-1, *shape)
    pixels = strip(x, place, op.window, 0, factor.dtype)
    if is_depthwise(op):
        each = op.shape[-1] // op.groups  # a channel is there once for each of its filters
        return depthwise(pixels if each == 1 else np.repeat(pixels, each, axis=-1), factor, op.window.strides, shape)
    rows = columns(pixels, op.window)
    if op.groups == 1:
        return products(rows, factor, ends).reshape(-1, *shape)
    return in_groups(rows, factor, op.groups).reshape(-1, *shape)


def is_depthwise(op: MatMul) -> bool:
    """Say whether each filter reads one channel."""
    return isinstance(op, Conv) and op.groups > 1 and op.weight.codes.shape[-2] == 1


def shape_at(op: Op, place: Place) -> Shape:
    """Return the shape of a sample's output at a place."""
    return (place[1].stop - place[1].start, *op.shape[1:]) if len(place) == 2 else op.shape


def pooled(op: Pool, x: Carrier, function: Callable[..., Carrier], fill: float, place: Place, dtype: Any) -> Carrier:
    """Return the windows of a pooling at a place of its output, reduced by a NumPy function of two arguments."""
    pixels = strip(x, place, op.window, fill, dtype)
    shape = shape_at(op, place)
    first, *others = np.ndindex(op.window.size)
    result: Carrier = shifted(pixels, first, op.window.strides, shape).copy()
    for offset in others:
        function(result, shifted(pixels, offset, op.window.strides, shape), out=result)
    return result


def in_groups(rows: Carrier, weight: Carrier, groups: int) -> Carrier:
    """Return the sums of products where input channels and filters are in groups.

    Args:
        rows: (rows, window * channels of all groups).
        weight: (window, channels of a group, filters of all groups).
        groups: how many there are.
    """
    positions, channels, filters = weight.shape
    # (groups, rows, window * channels of a group) @ (groups, window * channels of a group, filters of a group)
    left = rows.reshape(-1, positions, groups, channels).transpose(2, 0, 1, 3).reshape(groups, -1, positions * channels)
    right = weight.reshape(positions * channels, groups, filters // groups).transpose(1, 0, 2)
    return np.asarray((left @ right).transpose(1, 0, 2).reshape(-1, filters))


def products(x: Carrier, weight: Carrier, ends: tuple[int, ...]) -> Carrier:
    """Return `x @ weight`; with `ends`, parts of the sum in the type of both, added up in float64."""
    if not ends:
        return np.asarray(x @ weight)
    total = (x[:, : ends[0]] @ weight[: ends[0]]).astype(np.float64)
    for first, end in pairwise(ends):
        total += x[:, first:end] @ weight[first:end]
    return total


def padded(x: Carrier, around: Sequence[tuple[int, int]], fill: float, dtype: Any) -> Carrier:
    """Return samples in another type, with pixels of `fill` around them; as they are if neither is needed."""
    if not any(map(any, around)):
        return x.astype(dtype, copy=False)
    pads = [(0, 0), *around, (0, 0)]
    out = np.full([before + size + after for size, (before, after) in zip(x.shape, pads, strict=True)], fill, dtype)
    out[tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, pads, strict=True))] = x
    return out


def strip(x: Carrier, place: Place, window: Window, fill: float, dtype: Any) -> Carrier:
    """Return the padded pixels that the windows at a place of the output read."""
    samples, rows = place if len(place) == 2 else (place[0], None)
    if rows is None:
        return padded(x[samples], window.pads, fill, dtype)
    (before, _), *others = window.pads
    first = rows.start * window.strides[0] - before
    last = (rows.stop - 1) * window.strides[0] - before + window.size[0]
    outside = min(max(0, -first), last - first), min(max(0, last - x.shape[1]), last - first)
    return padded(x[samples, max(0, first) : max(0, last)], [outside, *others], fill, dtype)


def columns(x: Carrier, window: Window) -> Carrier:
    """Return the windows of padded samples as rows: (samples * windows, window * channels)."""
    axes = tuple(range(1, x.ndim - 1))
    every = (slice(None), *(slice(None, None, step) for step in window.strides))
    if window.pixels == 1:
        return x[every].reshape(-1, x.shape[-1])
    windows = sliding_window_view(x, window.size, axes)  # (samples, *positions, channels, *window)
    return np.moveaxis(windows[every], x.ndim - 1, -1).reshape(-1, window.pixels * x.shape[-1])


def shifted(x: Carrier, offset: Shape, strides: Shape, shape: Shape) -> Carrier:
    """Return the pixel at `offset` of every window: (samples, *windows, channels), a view."""
    spans = tuple(
        slice(first, first + step * (count - 1) + 1, step)
        for first, step, count in zip(offset, strides, shape, strict=False)
    )
    return x[(slice(None),) + spans]  # noqa: RUF005 - a starred index needs Python 3.11


def depthwise(x: Carrier, weight: Carrier, strides: Shape, shape: Shape) -> Carrier:
    """Return the sums of products over each channel's own window: the sum over positions of shifted pixels * weight.

    Args:
        x: padded samples (samples, *pixels, channels).
        weight: (*window, row): the weights of a position, once for each pixel of a row of the output.
        strides: per axis of the window.
        shape: (*windows, channels) of the output.

    Returns:
        (samples, *shape).
    """
    *outer, step = strides
    width, channels = shape[-2:]
    # a row of pixels is one axis, so that NumPy's inner loops are long: every step-th pixel, from the first on, ...
    apart = [np.ascontiguousarray(x[..., first::step, :]).reshape(*x.shape[:-2], -1) for first in range(step)]
    total = scratch = np.zeros(0)
    for number, offset in enumerate(np.ndindex(*weight.shape[:-1])):
        first = offset[-1] // step * channels
        row = apart[offset[-1] % step][..., first : first + width * channels]
        pixels, factor = shifted(row, offset[:-1], tuple(outer), shape[:-2]), weight[offset][: width * channels]
        if number == 0:
            total = pixels * factor
            scratch = np.empty_like(total)
        else:
            np.multiply(pixels, factor, out=scratch)
            total += scratch
    return total.reshape(-1, *shape)
