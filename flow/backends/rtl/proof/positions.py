"""Where an op computes what: its positions, and which codes of its inputs each of them reads.

A position is what one kernel computes: all channels of a pixel, the whole vector of a dense layer, one moved code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.ir import ops
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Op

Key = tuple[int, ...]
"""What differs between positions of an op: slopes, a pooling weight, the input a gather reads; () if nothing."""
OUTSIDE: tuple[type[Op], ...] = (ops.Input,)
"""The ops whose codes come from outside: nothing computes them."""


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Where an op computes what.

    Attributes:
        index: int64 (positions, inputs): which code of the op's inputs, each flattened, one after another; -1: padding.
        keys: per position.
        fill: the code in the padding.
        channels: codes of one position; position p gives codes p * channels onwards.
    """

    index: Codes
    keys: tuple[Key, ...]
    fill: int
    channels: int


def positions(op: Op, sources: Sequence[Op]) -> Positions:
    """Return the positions of an op that reads `sources`."""
    return LAYOUTS[type(op)].positions(op, sources)


def input_formats(op: Op, sources: Sequence[Op], key: Key) -> list[FixedFormat]:
    """Return the format of each input of one position."""
    return LAYOUTS[type(op)].formats(op, sources, key)


def channels_of(op: Op) -> int:
    """Return how many codes a position of an op computes, but for ops that move single codes."""
    return op.shape[-1] if op.shape else 1


# ---------------------------------------------------------------------- where an op computes what


def _pixels(op: Op, sources: Sequence[Op]) -> Positions:
    """Every pixel reads the pixels in the same place of all inputs."""
    count, start, index = math.prod(op.shape) // channels_of(op), 0, []
    for x in sources:
        size = math.prod(x.shape)
        index.append(np.arange(start, start + size).reshape(count, -1))
        start += size
    return Positions(np.concatenate(index, axis=1), ((),) * count, 0, channels_of(op))


def _sloped_pixels(op: ops.LeakyRelu, sources: Sequence[Op]) -> Positions:
    where, channels = _pixels(op, sources), channels_of(op)
    slopes = np.broadcast_to(op.slope.codes, op.shape).reshape(-1, channels).tolist()
    return Positions(where.index, tuple(map(tuple, slopes)), 0, channels)


def _windows(op: ops.Conv | ops.Pool, sources: Sequence[Op]) -> Positions:
    index = _window_index(op, sources[0].shape)
    return Positions(index, ((),) * len(index), 0, channels_of(op))


def _max_windows(op: ops.MaxPool, sources: Sequence[Op]) -> Positions:
    where = _windows(op, sources)
    return Positions(where.index, where.keys, sources[0].format.min_code, where.channels)


def _weighted_windows(op: ops.SumPool, sources: Sequence[Op]) -> Positions:
    keys = tuple((weight,) for weight in op.weight.codes.reshape(-1).tolist())
    return Positions(_windows(op, sources).index, keys, 0, channels_of(op))


def _window_index(op: ops.Conv | ops.Pool, shape: tuple[int, ...]) -> Codes:
    """Return for each window which codes it holds, pixel by pixel, -1 outside the input."""
    axes = len(op.window.size)
    place = np.zeros((1,) * (2 * axes), np.int64)
    inside = np.ones((1,) * (2 * axes), bool)
    for axis in range(axes):
        first = np.arange(op.shape[axis]) * op.window.strides[axis] - op.window.pads[axis][0]
        at = first[:, None] + np.arange(op.window.size[axis])
        spread = [1] * (2 * axes)
        spread[axis], spread[axes + axis] = at.shape
        place = place * shape[axis] + at.reshape(spread)
        inside = inside & ((at >= 0) & (at < shape[axis])).reshape(spread)
    pixels = np.where(inside, place, -1).reshape(math.prod(op.shape[:-1]), -1, 1)
    return np.where(pixels < 0, -1, pixels * shape[-1] + np.arange(shape[-1])).reshape(len(pixels), -1)


def _same_places(op: ops.Reshape, sources: Sequence[Op]) -> Positions:
    flat = np.arange(math.prod(op.shape), dtype=np.int64)
    return Positions(flat[:, None], ((0,),) * len(flat), 0, 1)


def _other_places(op: ops.Gather, sources: Sequence[Op]) -> Positions:
    starts = np.cumsum([0, *(math.prod(x.shape) for x in sources)])
    flat = op.index.reshape(-1)
    source = np.where(flat < 0, -1, np.searchsorted(starts, flat, side="right") - 1)
    return Positions(flat[:, None].astype(np.int64), tuple((int(i),) for i in source), 0, 1)


# ---------------------------------------------------------------------- what a position reads


def _pixel_formats(op: Op, sources: Sequence[Op], key: Key) -> list[FixedFormat]:
    return [x.format for x in sources for _ in range(channels_of(x))]


def _window_formats(op: ops.Conv | ops.Pool, sources: Sequence[Op], key: Key) -> list[FixedFormat]:
    return [sources[0].format] * (op.window.pixels * sources[0].shape[-1])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an op computes what.

    Attributes:
        positions: op, what it reads -> its positions.
        formats: op, what it reads, key of a position -> the format of each input of that position.
    """

    positions: Callable[[Any, Sequence[Op]], Positions]
    formats: Callable[[Any, Sequence[Op], Key], list[FixedFormat]]


LAYOUTS: Mapping[type[Op], Layout] = {
    **dict.fromkeys(
        (ops.Dense, ops.BatchNorm, ops.Relu, ops.Requantize, ops.Merge, ops.Lookup, ops.Softmax),
        Layout(_pixels, _pixel_formats),
    ),
    ops.LeakyRelu: Layout(_sloped_pixels, _pixel_formats),
    ops.Conv: Layout(_windows, _window_formats),
    ops.MaxPool: Layout(_max_windows, _window_formats),
    ops.SumPool: Layout(_weighted_windows, _window_formats),
    ops.Reshape: Layout(_same_places, lambda op, sources, key: [sources[0].format]),
    ops.Gather: Layout(_other_places, lambda op, sources, key: [sources[max(key[0], 0)].format]),
}
"""By type of op, but for those `OUTSIDE`."""
