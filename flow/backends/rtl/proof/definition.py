"""What an op is, position by position: the definition that its Verilog is proved against.

It is written from flow.ir.graph and flow.ir.fixed alone, over any arithmetic of whole numbers (`Algebra`), and shares
nothing with the netlists from which the Verilog comes. Tests hold it against `ir.reference` on every row of the zoo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.ir.graph import (
    BatchNorm,
    Conv,
    Dense,
    Gather,
    LeakyRelu,
    Lookup,
    MaxPool,
    Merge,
    Op,
    Pool,
    Relu,
    Reshape,
    Softmax,
    SumPool,
)

T = TypeVar("T")
B = TypeVar("B")
Key = tuple[int, ...]
"""What differs between positions of an op: slopes, a pooling weight, the input a gather reads; () if nothing."""


class Algebra(Protocol, Generic[T, B]):
    """Whole numbers (T) and truth values (B); no result is too large for it."""

    def const(self, value: int) -> T: ...
    def add(self, a: T, b: T) -> T: ...
    def sub(self, a: T, b: T) -> T: ...
    def mul(self, a: T, b: T) -> T: ...
    def shr(self, a: T, n: int) -> T:
        """Return a // 2**n."""
        ...

    def quotient(self, a: T, b: T) -> T:
        """Return a // b for positive b."""
        ...

    def low(self, a: T, n: int, signed: bool) -> T:
        """Return the low n bits of a, as two's complement if signed."""
        ...

    def steps(self, a: T, starts: Codes, values: Codes) -> T:
        """Return the value of the last start that is not above a; the first start never is."""
        ...

    def less(self, a: T, b: T) -> B: ...
    def same(self, a: T, b: T) -> B: ...
    def both(self, a: B, b: B) -> B: ...
    def either(self, a: B, b: B) -> B: ...
    def choose(self, c: B, a: T, b: T) -> T: ...


@dataclass(frozen=True, slots=True)
class Output:
    """One code of a position.

    Attributes:
        reads: places among the position's inputs.
        weights: one for each of these if all that the op knows of them is their weighted sum, plus `constant`; else
            None.
        frac_bits: fraction bits of the exact result.
        largest: no exact result is larger in magnitude.
    """

    reads: tuple[int, ...]
    weights: tuple[int, ...] | None
    constant: int
    frac_bits: int
    largest: int


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
    sizes = [math.prod(x.shape) for x in sources]
    starts = np.cumsum([0, *sizes])
    if isinstance(op, Gather | Reshape):
        flat = op.index.reshape(-1) if isinstance(op, Gather) else np.arange(sizes[0])
        source = np.where(flat < 0, -1, np.searchsorted(starts, flat, side="right") - 1)
        return Positions(flat[:, None].astype(np.int64), tuple((int(i),) for i in source), 0, 1)
    channels = op.shape[-1] if op.shape else 1
    count = math.prod(op.shape) // channels
    if isinstance(op, Conv | Pool):
        index = _windows(op, sources[0].shape)
    else:
        index = np.concatenate(
            [np.arange(size).reshape(count, -1) + start for size, start in zip(sizes, starts, strict=False)], axis=1
        )
    keys: list[Key] = [()] * count
    if isinstance(op, LeakyRelu):
        keys = [tuple(row) for row in np.broadcast_to(op.slope.codes, op.shape).reshape(-1, channels).tolist()]
    elif isinstance(op, SumPool):
        keys = [(weight,) for weight in op.weight.codes.reshape(-1).tolist()]
    fill = sources[0].format.min_code if isinstance(op, MaxPool) else 0
    return Positions(index, tuple(keys), fill, channels)


def _windows(op: Conv | Pool, shape: tuple[int, ...]) -> Codes:
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


def input_formats(op: Op, sources: Sequence[Op], key: Key) -> list[FixedFormat]:
    """Return the format of each input of one position."""
    if isinstance(op, Gather | Reshape):
        return [sources[max(key[0], 0)].format]
    if isinstance(op, Conv | Pool):
        return [sources[0].format] * (op.window.pixels * sources[0].shape[-1])
    return [x.format for x in sources for _ in range(x.shape[-1] if x.shape else 1)]


def outputs(op: Op, sources: Sequence[Op], key: Key) -> list[Output]:
    """Return what one position computes before its cast: an output per channel."""
    formats = [x.format for x in sources]
    x = formats[0]
    channels = op.shape[-1] if op.shape else 1
    if isinstance(op, Dense | Conv):
        return _sums(op, x)
    if isinstance(op, Gather):
        finest = max(fmt.frac_bits for fmt in formats)
        if key[0] < 0:
            return [_sum((), (), 0, finest, x)]
        fmt = formats[key[0]]
        return [_sum((0,), (1 << finest - fmt.frac_bits,), 0, finest, fmt)]
    if isinstance(op, Reshape):
        return [_sum((0,), (1,), 0, x.frac_bits, x)]
    if isinstance(op, BatchNorm):
        frac_bits = max(x.frac_bits + op.scale.format.frac_bits, op.offset.format.frac_bits)
        raised = frac_bits - x.frac_bits - op.scale.format.frac_bits
        beside = frac_bits - op.offset.format.frac_bits
        each = zip(op.scale.codes.tolist(), op.offset.codes.tolist(), strict=True)
        return [
            _sum((i,), (scale << raised,), offset << beside, frac_bits, x) for i, (scale, offset) in enumerate(each)
        ]
    if isinstance(op, MaxPool | SumPool):
        windows = [tuple(range(i, op.window.pixels * channels, channels)) for i in range(channels)]
        if isinstance(op, MaxPool):
            return [Output(reads, None, 0, x.frac_bits, 1 << x.width) for reads in windows]
        frac_bits = x.frac_bits + op.weight.format.frac_bits
        return [_sum(reads, key * len(reads), 0, frac_bits, x) for reads in windows]
    if isinstance(op, Merge):
        return _merges(op, formats, channels)
    if isinstance(op, Softmax):
        everything = tuple(range(channels))
        largest = (int(op.exponentials.sum()) * channels << op.format.width + 2) + 1
        return [Output(everything, None, 0, op.format.frac_bits, largest) for _ in everything]
    frac_bits, slopes = x.frac_bits, [0] * channels
    if isinstance(op, LeakyRelu):
        frac_bits, slopes = max(x.frac_bits, x.frac_bits + op.slope.format.frac_bits), list(key)
    more = (max(map(abs, slopes)) + 1) << (abs(op.slope.format.frac_bits) if isinstance(op, LeakyRelu) else 0)
    return [Output((i,), (1,), 0, frac_bits, more << x.width) for i in range(channels)]


def _sum(reads: tuple[int, ...], weights: tuple[int, ...], constant: int, frac_bits: int, x: FixedFormat) -> Output:
    largest = sum(map(abs, weights)) * max(x.max_code, -x.min_code) + abs(constant)
    return Output(reads, weights, constant, frac_bits, largest)


def _sums(op: Dense | Conv, x: FixedFormat) -> list[Output]:
    """Return the weighted sums of a dense layer or of one window of a convolution."""
    products = x.frac_bits + op.weight.format.frac_bits
    frac_bits = max(products, op.bias.format.frac_bits) if op.bias.codes.any() else products
    groups = op.groups if isinstance(op, Conv) else 1
    weight = op.weight.codes.reshape(
        -1, *op.weight.codes.shape[-2:]
    )  # (pixels of the window, channels of a group, filters)
    each = weight.shape[1]
    out = []
    for filter_, bias in enumerate(op.bias.codes.tolist()):
        group = filter_ // (weight.shape[2] // groups)
        pixel, channel = np.nonzero(weight[:, :, filter_])
        reads = pixel * (each * groups) + group * each + channel
        weights = tuple(w << (frac_bits - products) for w in weight[pixel, channel, filter_].tolist())
        constant = bias << (frac_bits - op.bias.format.frac_bits) if bias else 0
        out.append(_sum(tuple(reads.tolist()), weights, constant, frac_bits, x))
    return out


def _merges(op: Merge, formats: Sequence[FixedFormat], channels: int) -> list[Output]:
    several = [tuple(range(i, len(formats) * channels, channels)) for i in range(channels)]
    finest = max(fmt.frac_bits for fmt in formats)
    reach = [max(fmt.max_code, -fmt.min_code) for fmt in formats]
    if op.function == "multiply":
        return [Output(reads, None, 0, sum(fmt.frac_bits for fmt in formats), math.prod(reach)) for reads in several]
    shifts = [1 << finest - fmt.frac_bits for fmt in formats]
    largest = sum(each * shift for each, shift in zip(reach, shifts, strict=True))
    if op.function in ("add", "subtract"):
        sign = 1 if op.function == "add" else -1
        weights = (shifts[0], *(sign * shift for shift in shifts[1:]))
        return [Output(reads, weights, 0, finest, largest) for reads in several]
    return [Output(reads, None, 0, finest, largest) for reads in several]


def bits_needed(op: Op, output: Output) -> int:
    """Return how many bits of two's complement hold everything that `result` computes for an output."""
    raised = op.format.frac_bits - output.frac_bits
    exact = (output.largest + 2 * op.cast.divisor).bit_length() + max(raised, 0)
    return max(exact, -raised + op.cast.divisor.bit_length() + 2, op.format.width) + 4


def result(op: Op, sources: Sequence[Op], key: Key, place: int, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Return one output code.

    Args:
        op: the op.
        sources: what it reads.
        key: of the position.
        place: which of `outputs`.
        algebra: what computes.
        values: the weighted sum alone, plus its constant, if the output has weights; else its inputs.
    """
    output = outputs(op, sources, key)[place]
    if isinstance(op, Lookup):
        return algebra.steps(values[0], op.starts, op.values)
    if isinstance(op, MaxPool):
        return _largest(algebra, values)
    if isinstance(op, Reshape):
        return values[0]
    if isinstance(op, Softmax):
        return _softmax(op, place, algebra, values)
    exact = values[0]
    if isinstance(op, Relu):
        exact = _clamped(algebra, exact, 0, None if op.limit is None else op.limit)
    elif isinstance(op, LeakyRelu):
        x = sources[0].format
        above = output.frac_bits - x.frac_bits
        slope = key[place] << (above - op.slope.format.frac_bits)
        below = algebra.mul(exact, algebra.const(slope))
        negative = algebra.less(exact, algebra.const(0))
        exact = algebra.choose(negative, below, algebra.mul(exact, algebra.const(1 << above)))
    elif isinstance(op, Merge) and output.weights is None:
        exact = _merged(op, sources, output.frac_bits, algebra, values)
    return _cast(op, output.frac_bits, algebra, exact)


def _largest(algebra: Algebra[T, B], values: Sequence[T]) -> T:
    largest = values[0]
    for value in values[1:]:
        largest = algebra.choose(algebra.less(largest, value), value, largest)
    return largest


def _merged(op: Merge, sources: Sequence[Op], frac_bits: int, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    if op.function == "multiply":
        product = values[0]
        for value in values[1:]:
            product = algebra.mul(product, value)
        return product
    raised = [
        algebra.mul(value, algebra.const(1 << frac_bits - x.format.frac_bits))
        for value, x in zip(values, sources, strict=True)
    ]
    if op.function == "maximum":
        return _largest(algebra, raised)
    smallest = raised[0]
    for value in raised[1:]:
        smallest = algebra.choose(algebra.less(value, smallest), value, smallest)
    return smallest


def _softmax(op: Softmax, place: int, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    largest = _largest(algebra, values)
    starts = np.arange(len(op.exponentials), dtype=np.int64)
    weights = [algebra.steps(algebra.sub(largest, value), starts, op.exponentials) for value in values]
    return softmax_of(op, place, algebra, weights)


def softmax_of(op: Softmax, place: int, algebra: Algebra[T, B], weights: Sequence[T]) -> T:
    """Return one output of a softmax whose exponentials are given."""
    total = weights[0]
    for weight in weights[1:]:
        total = algebra.add(total, weight)
    doubled = algebra.mul(weights[place], algebra.const(2 << op.format.frac_bits))
    rounded = algebra.quotient(algebra.add(doubled, total), algebra.add(total, total))
    return _clamped(algebra, rounded, 0, op.format.max_code)


def _clamped(algebra: Algebra[T, B], value: T, low: int, high: int | None) -> T:
    least = algebra.const(low)
    value = algebra.choose(algebra.less(value, least), least, value)
    if high is None:
        return value
    most = algebra.const(high)
    return algebra.choose(algebra.less(most, value), most, value)


def _cast(op: Op, frac_bits: int, algebra: Algebra[T, B], exact: T) -> T:
    """Return the code of an exact result: one division, one rounding, one overflow."""
    fmt, raised = op.format, op.format.frac_bits - frac_bits
    numerator = algebra.mul(exact, algebra.const(1 << raised)) if raised > 0 else exact
    whole = op.cast.divisor << max(-raised, 0)
    rounded = numerator if whole == 1 else _rounded(op.cast.rounding, algebra, numerator, whole)
    if op.cast.overflow is Overflow.WRAP:
        return algebra.low(rounded, fmt.width, fmt.signed)
    if op.cast.overflow is Overflow.SAT_ZERO:
        below, above = algebra.const(fmt.min_code), algebra.const(fmt.max_code)
        outside = algebra.either(algebra.less(rounded, below), algebra.less(above, rounded))
        return algebra.choose(outside, algebra.const(0), rounded)
    return _clamped(algebra, rounded, op.cast.lowest_code, fmt.max_code)


def _rounded(rounding: Rounding, algebra: Algebra[T, B], numerator: T, whole: int) -> T:
    """Return numerator / whole, rounded."""
    const = algebra.const
    power = whole & (whole - 1) == 0
    floor = algebra.shr(numerator, whole.bit_length() - 1) if power else algebra.quotient(numerator, const(whole))
    if rounding is Rounding.TRN:
        return floor
    rest = algebra.sub(numerator, algebra.mul(floor, const(whole)))
    negative = algebra.less(numerator, const(0))
    twice = algebra.add(rest, rest)
    above, tie = algebra.less(const(whole), twice), algebra.same(twice, const(whole))
    if rounding is Rounding.TRN_ZERO:
        up = algebra.both(negative, algebra.less(const(0), rest))
    elif rounding is Rounding.RND_MIN_INF:
        up = above
    elif rounding is Rounding.RND:
        up = algebra.either(above, tie)
    else:
        odd = algebra.same(algebra.low(floor, 1, False), const(1))
        positive = algebra.less(const(-1), numerator)
        prefers_up = {Rounding.RND_INF: positive, Rounding.RND_ZERO: negative, Rounding.RND_CONV: odd}[rounding]
        up = algebra.either(above, algebra.both(tie, prefers_up))
    return algebra.choose(up, algebra.add(floor, const(1)), floor)
