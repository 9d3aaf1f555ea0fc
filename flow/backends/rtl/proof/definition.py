"""What an op is, position by position: the definition that its Verilog is proved against.

A position is what one kernel computes: all channels of a pixel, the whole vector of a dense layer, one moved code.
`LAYOUTS` says which codes of its inputs each position reads, `DEFINITIONS` what it computes of them.

Both are written from flow.ir.graph and flow.ir.fixed alone, over any arithmetic of whole numbers (`algebra`), and share
nothing with the netlists from which the Verilog comes. Tests hold them against `ir.reference` on every row of the zoo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from flow.backends.rtl.proof.algebra import Algebra, B, T, clamped, converted, largest, smallest
from flow.ir import ops
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import IntGraph, Op, body_of

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


@dataclass(frozen=True, slots=True)
class Output:
    """One code of a position.

    Attributes:
        reads: places among the position's inputs.
        weights: one for each of these if all that the op knows of them is their weighted sum, plus `constant`; else
            None.
        frac_bits: fraction bits of the exact result.
        largest: no exact result is larger in magnitude.
        place: which output of its position it is.
        factors: what brings numbers to the grid of the exact result: `x * slope` and `x` of a LeakyRelu, each input of
            a maximum or minimum.
    """

    reads: tuple[int, ...]
    weights: tuple[int, ...] | None
    constant: int
    frac_bits: int
    largest: int
    place: int = 0
    factors: tuple[int, ...] = ()


def outputs(op: Op, sources: Sequence[Op], key: Key) -> list[Output]:
    """Return what one position computes before its cast: an output per channel."""
    return DEFINITIONS[type(op)].outputs(op, [x.format for x in sources], key)


def result(op: Op, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Return one output code.

    Args:
        output: one of `outputs`.
        values: the weighted sum alone, plus its constant, if the output has weights; else its inputs.
    """
    code: T = DEFINITIONS[type(op)].result(op, output, algebra, values)
    return code


def bits_needed(op: Op, output: Output) -> int:
    """Return how many bits of two's complement hold everything that `result` computes for an output."""
    raised = op.format.frac_bits - output.frac_bits
    exact = (output.largest + 2 * op.cast.divisor).bit_length() + max(raised, 0)
    return max(exact, -raised + op.cast.divisor.bit_length() + 2, op.format.width) + 4


# ---------------------------------------------------------------------- which codes a position reads


def _pixels(op: Op, sources: Sequence[Op]) -> Positions:
    """Every pixel reads the pixels in the same place of all inputs."""
    count, start, index = math.prod(op.shape) // channels_of(op), 0, []
    for x in sources:
        size = math.prod(x.shape)
        index.append(np.arange(start, start + size).reshape(count, -1))
        start += size
    return Positions(np.concatenate(index, axis=1), ((),) * count, 0, channels_of(op))


def _sloped_pixels(op: ops.LeakyRelu, sources: Sequence[Op]) -> Positions:
    slopes = np.broadcast_to(op.slope.codes, op.shape).reshape(-1, channels_of(op)).tolist()
    return replace(_pixels(op, sources), keys=tuple(map(tuple, slopes)))


def _max_windows(op: ops.MaxPool, sources: Sequence[Op]) -> Positions:
    return replace(_windows(op, sources), fill=sources[0].format.min_code)


def _weighted_windows(op: ops.SumPool, sources: Sequence[Op]) -> Positions:
    return replace(_windows(op, sources), keys=tuple((weight,) for weight in op.weight.codes.reshape(-1).tolist()))


def _windows(op: ops.Conv | ops.Pool, sources: Sequence[Op]) -> Positions:
    """Each window reads its codes pixel by pixel, -1 outside the input."""
    (shape,) = (x.shape for x in sources)
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
    index = np.where(pixels < 0, -1, pixels * shape[-1] + np.arange(shape[-1])).reshape(len(pixels), -1)
    return Positions(index, ((),) * len(index), 0, channels_of(op))


def _same_places(op: ops.Reshape, sources: Sequence[Op]) -> Positions:
    flat = np.arange(math.prod(op.shape), dtype=np.int64)
    return Positions(flat[:, None], ((0,),) * len(flat), 0, 1)


def _other_places(op: ops.Gather, sources: Sequence[Op]) -> Positions:
    starts = np.cumsum([0, *(math.prod(x.shape) for x in sources)])
    flat = op.index.reshape(-1)
    source = np.where(flat < 0, -1, np.searchsorted(starts, flat, side="right") - 1)
    return Positions(flat[:, None].astype(np.int64), tuple((int(i),) for i in source), 0, 1)


def _all_codes(op: ops.TruthTable | ops.Scan, sources: Sequence[Op]) -> Positions:
    """One position, which reads all codes of all inputs."""
    count = sum(math.prod(x.shape) for x in sources)
    return Positions(np.arange(count, dtype=np.int64)[None], ((),), 0, math.prod(op.shape))


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
    **dict.fromkeys(
        (ops.TruthTable, ops.Scan),
        Layout(
            _all_codes,
            lambda op, sources, key: [x.format for x in sources for _ in range(math.prod(x.shape))],
        ),
    ),
}
"""By type of op, but for those `OUTSIDE`."""


# ---------------------------------------------------------------------- what a position computes before its cast


def _sum(reads: tuple[int, ...], weights: tuple[int, ...], constant: int, frac_bits: int, x: FixedFormat) -> Output:
    most = sum(map(abs, weights)) * max(x.max_code, -x.min_code) + abs(constant)
    return Output(reads, weights, constant, frac_bits, most)


def _sum_outputs(op: ops.Dense | ops.Conv, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    """Return the weighted sums of a dense layer or of one window of a convolution."""
    (x,), groups = formats, op.groups if isinstance(op, ops.Conv) else 1
    products = x.frac_bits + op.weight.format.frac_bits
    frac_bits = max(products, op.bias.format.frac_bits) if op.bias.codes.any() else products
    weight = op.weight.codes.reshape(-1, *op.weight.codes.shape[-2:])  # (pixels, channels of a group, filters)
    channels = weight.shape[1]
    sums = []
    for filter_, bias in enumerate(op.bias.codes.tolist()):
        group = filter_ // (weight.shape[2] // groups)
        pixel, channel = np.nonzero(weight[:, :, filter_])
        reads = pixel * (channels * groups) + group * channels + channel
        weights = tuple(w << (frac_bits - products) for w in weight[pixel, channel, filter_].tolist())
        constant = bias << (frac_bits - op.bias.format.frac_bits) if bias else 0
        sums.append(_sum(tuple(reads.tolist()), weights, constant, frac_bits, x))
    return sums


def _scaled_outputs(op: ops.BatchNorm, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,) = formats
    frac_bits = max(x.frac_bits + op.scale.format.frac_bits, op.offset.format.frac_bits)
    raised = frac_bits - x.frac_bits - op.scale.format.frac_bits
    beside = frac_bits - op.offset.format.frac_bits
    terms = enumerate(zip(op.scale.codes.tolist(), op.offset.codes.tolist(), strict=True))
    return [_sum((i,), (scale << raised,), offset << beside, frac_bits, x) for i, (scale, offset) in terms]


def _single_outputs(op: Op, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,) = formats
    return [Output((i,), (1,), 0, x.frac_bits, 1 << x.width, i) for i in range(channels_of(op))]


def _leaky_outputs(op: ops.LeakyRelu, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,), slope_bits = formats, op.slope.format.frac_bits
    frac_bits = max(x.frac_bits, x.frac_bits + slope_bits)
    above = frac_bits - x.frac_bits
    most = (max(map(abs, key)) + 1) << abs(slope_bits) + x.width
    return [
        Output((i,), (1,), 0, frac_bits, most, factors=(slope << above - slope_bits, 1 << above))
        for i, slope in enumerate(key)
    ]


def _reads_by_channel(pixels: int, channels: int) -> list[tuple[int, ...]]:
    """Return which codes of some pixels, one after another, each channel reads."""
    return [tuple(range(i, pixels * channels, channels)) for i in range(channels)]


def _merge_outputs(op: ops.Merge, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    reads = _reads_by_channel(len(formats), channels_of(op))
    reach = [max(fmt.max_code, -fmt.min_code) for fmt in formats]
    if op.function == "multiply":
        frac_bits = sum(fmt.frac_bits for fmt in formats)
        return [Output(several, None, 0, frac_bits, math.prod(reach)) for several in reads]
    finest = max(fmt.frac_bits for fmt in formats)
    shifts = tuple(1 << finest - fmt.frac_bits for fmt in formats)
    most, weights = sum(reached * shift for reached, shift in zip(reach, shifts, strict=True)), None
    if op.function in ("add", "subtract"):
        sign = 1 if op.function == "add" else -1
        weights = (shifts[0], *(sign * shift for shift in shifts[1:]))
    return [Output(several, weights, 0, finest, most, factors=shifts) for several in reads]


def _maximum_outputs(op: ops.MaxPool, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,) = formats
    return [
        Output(reads, None, 0, x.frac_bits, 1 << x.width) for reads in _reads_by_channel(op.window.pixels, op.shape[-1])
    ]


def _window_sum_outputs(op: ops.SumPool, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,) = formats
    frac_bits = x.frac_bits + op.weight.format.frac_bits
    return [
        _sum(reads, key * len(reads), 0, frac_bits, x) for reads in _reads_by_channel(op.window.pixels, op.shape[-1])
    ]


def _gather_outputs(op: ops.Gather, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    finest = max(fmt.frac_bits for fmt in formats)
    if key[0] < 0:
        return [_sum((), (), 0, finest, formats[0])]
    x = formats[key[0]]
    return [_sum((0,), (1 << finest - x.frac_bits,), 0, finest, x)]


def _softmax_outputs(op: ops.Softmax, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    every = tuple(range(channels_of(op)))
    most = (int(op.exponentials.sum()) * len(every) << op.format.width + 2) + 1
    return [Output(every, None, 0, op.format.frac_bits, most, place) for place in every]


def _table_outputs(op: ops.TruthTable, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    """Return what each element reads: the code of each wire that is none of zero."""
    count = op.wires.shape[-1]
    most = 1 << max(count, *(fmt.width for fmt in formats))
    return [
        Output(tuple(wire for wire in wires if wire >= 0), None, 0, op.format.frac_bits, most, place)
        for place, wires in enumerate(op.wires.reshape(-1, count).tolist())
    ]


def _scan_outputs(op: ops.Scan, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    """Return the codes of each row, of the rows before it and, if the scan reads any, of the states at first."""
    body, channels = body_of(op), op.shape[-1]
    row, *states = (math.prod(x.shape) for x in body.inputs)
    bits = max(bits_needed(each, one) for each, _, _, _, of_it in _parts(body) for one in of_it)
    begun = sum(states) * (len(formats) > 1)
    rows = range(1, op.rows + 1) if op.every_row else (op.rows,)
    reads = [(*range(count * row), *range(op.rows * row, op.rows * row + begun)) for count in rows]
    return [
        Output(several, None, 0, op.format.frac_bits, 1 << bits, channel)
        for several in reads
        for channel in range(channels)
    ]


def _parts(body: IntGraph) -> Iterator[tuple[Op, int, list[int], int, list[Output]]]:
    """Yield, op by op, where each position of a body begins, what it reads (-1: the fill), and what it computes."""
    for each in body.ops[len(body.inputs) :]:
        sources = body.sources(each)
        where = positions(each, sources)
        for place, key in enumerate(where.keys):
            yield each, place * where.channels, where.index[place].tolist(), where.fill, outputs(each, sources, key)


# ---------------------------------------------------------------------- the code of an output


def _cast_code(op: Op, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    (exact,) = values
    return converted(algebra, op.cast, output.frac_bits, exact)


def _relu_code(op: ops.Relu, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    (x,) = values
    return converted(algebra, op.cast, output.frac_bits, clamped(algebra, x, 0, op.limit))


def _leaky_code(op: ops.LeakyRelu, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    (x,) = values
    below, above = (algebra.mul(x, algebra.const(factor)) for factor in output.factors)
    exact = algebra.choose(algebra.less(x, algebra.const(0)), below, above)
    return converted(algebra, op.cast, output.frac_bits, exact)


def _merge_code(op: ops.Merge, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    if op.function == "multiply":
        return converted(algebra, op.cast, output.frac_bits, reduce(algebra.mul, values))
    if output.weights is not None:
        return _cast_code(op, output, algebra, values)
    raised = [algebra.mul(x, algebra.const(factor)) for x, factor in zip(values, output.factors, strict=True)]
    choose = {"maximum": largest, "minimum": smallest}[op.function]
    return converted(algebra, op.cast, output.frac_bits, choose(algebra, raised))


def _softmax_code(op: ops.Softmax, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    most = largest(algebra, values)
    starts = np.arange(len(op.exponentials), dtype=np.int64)
    weights = [algebra.steps(algebra.sub(most, value), starts, op.exponentials) for value in values]
    total = reduce(algebra.add, weights)
    doubled = algebra.mul(weights[output.place], algebra.const(2 << op.format.frac_bits))
    rounded = algebra.quotient(algebra.add(doubled, total), algebra.add(total, total))
    return clamped(algebra, rounded, 0, op.format.max_code)


def _table_code(op: ops.TruthTable, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    count = op.wires.shape[-1]
    wires, bits = (each.reshape(-1, count)[output.place].tolist() for each in (op.wires, op.bits))
    codes, number = iter(values), algebra.const(0)
    for weight, (wire, bit) in enumerate(zip(wires, bits, strict=True)):
        if wire >= 0:
            one = algebra.low(algebra.shr(next(codes), bit), 1, False)
            number = algebra.add(number, algebra.mul(one, algebra.const(1 << weight)))
    table = op.values.reshape(-1, 1 << count)[output.place]
    return algebra.steps(number, np.arange(len(table)), table)


def _scan_code(op: ops.Scan, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    """Run the body on each row that an output reads."""
    body = body_of(op)
    row, *states = body.inputs
    width, size = math.prod(row.shape), sum(math.prod(state.shape) for state in states)
    begun = len(values) - width if op.rows == 1 else 0
    rows = (len(values) - begun) // width
    left = list(values[rows * width :]) or [algebra.const(0)] * size
    given: list[list[T]] = []
    for number in range(rows):
        codes = {row.name: list(values[number * width : (number + 1) * width])}
        for state in states:
            codes[state.name], left = left[: math.prod(state.shape)], left[math.prod(state.shape) :]
        for each, start, reads, fill, of_it in _parts(body):
            read = [code for name in each.inputs for code in codes[name]]
            own = [read[i] if i >= 0 else algebra.const(fill) for i in reads]
            held = codes.setdefault(each.name, [algebra.const(0)] * math.prod(each.shape))
            for offset, one in enumerate(of_it):
                several = [own[i] for i in one.reads]
                if one.weights is not None:
                    terms = (algebra.mul(x, algebra.const(w)) for x, w in zip(several, one.weights, strict=True))
                    several = [reduce(algebra.add, terms, algebra.const(one.constant))]
                held[start + offset] = result(each, one, algebra, several)
        given = [codes[name] for name in op.returns]
        left = [code for state in given[1:] for code in state]
    return given[0][output.place]


@dataclass(frozen=True, slots=True)
class Definition:
    """What an op is.

    Attributes:
        outputs: op, formats of what it reads, key of a position -> what that computes before the cast.
        result: op, one of these, algebra, values -> the code.
    """

    outputs: Callable[[Any, Sequence[FixedFormat], Key], list[Output]]
    result: Callable[[Any, Output, Algebra[Any, Any], Sequence[Any]], Any]


DEFINITIONS: Mapping[type[Op], Definition] = {
    **dict.fromkeys((ops.Dense, ops.Conv), Definition(_sum_outputs, _cast_code)),
    ops.BatchNorm: Definition(_scaled_outputs, _cast_code),
    ops.Relu: Definition(_single_outputs, _relu_code),
    ops.LeakyRelu: Definition(_leaky_outputs, _leaky_code),
    ops.Requantize: Definition(_single_outputs, _cast_code),
    ops.Merge: Definition(_merge_outputs, _merge_code),
    ops.MaxPool: Definition(_maximum_outputs, lambda op, output, algebra, values: largest(algebra, values)),
    ops.SumPool: Definition(_window_sum_outputs, _cast_code),
    ops.Reshape: Definition(
        lambda op, formats, key: [_sum((0,), (1,), 0, formats[0].frac_bits, formats[0])],
        lambda op, output, algebra, values: values[0],
    ),
    ops.Gather: Definition(_gather_outputs, _cast_code),
    ops.Lookup: Definition(
        _single_outputs,
        lambda op, output, algebra, values: algebra.steps(values[0], *op.of_channel(output.place)),
    ),
    ops.Softmax: Definition(_softmax_outputs, _softmax_code),
    ops.TruthTable: Definition(_table_outputs, _table_code),
    ops.Scan: Definition(_scan_outputs, _scan_code),
}
"""By type of op, but for those `OUTSIDE`."""
