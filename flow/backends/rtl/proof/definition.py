"""What an op is, position by position: the definition that its Verilog is proved against.

It is written from flow.ir.graph and flow.ir.fixed alone, over any arithmetic of whole numbers (`algebra`), and shares
nothing with the netlists from which the Verilog comes. Tests hold it against `ir.reference` on every row of the zoo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.backends.rtl.proof.algebra import Algebra, B, T, clamped, converted, largest, smallest
from flow.backends.rtl.proof.positions import OUTSIDE as OUTSIDE
from flow.backends.rtl.proof.positions import Key, channels_of
from flow.ir import ops
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Op


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
        op: the op.
        output: one of `outputs`.
        algebra: what computes.
        values: the weighted sum alone, plus its constant, if the output has weights; else its inputs.
    """
    code: T = DEFINITIONS[type(op)].result(op, output, algebra, values)
    return code


def bits_needed(op: Op, output: Output) -> int:
    """Return how many bits of two's complement hold everything that `result` computes for an output."""
    raised = op.format.frac_bits - output.frac_bits
    exact = (output.largest + 2 * op.cast.divisor).bit_length() + max(raised, 0)
    return max(exact, -raised + op.cast.divisor.bit_length() + 2, op.format.width) + 4


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
    return [Output((i,), (1,), 0, x.frac_bits, 1 << x.width) for i in range(channels_of(op))]


def _leaky_outputs(op: ops.LeakyRelu, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,), slope_bits = formats, op.slope.format.frac_bits
    frac_bits = max(x.frac_bits, x.frac_bits + slope_bits)
    above = frac_bits - x.frac_bits
    most = (max(map(abs, key)) + 1) << abs(slope_bits) + x.width
    return [
        Output((i,), (1,), 0, frac_bits, most, factors=(slope << above - slope_bits, 1 << above))
        for i, slope in enumerate(key)
    ]


def _merge_outputs(op: ops.Merge, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    channels = channels_of(op)
    reads = [tuple(range(i, len(formats) * channels, channels)) for i in range(channels)]
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


def _window_reads(op: ops.Pool) -> list[tuple[int, ...]]:
    """Return which codes of a window each channel reads."""
    channels = op.shape[-1]
    return [tuple(range(i, op.window.pixels * channels, channels)) for i in range(channels)]


def _maximum_outputs(op: ops.MaxPool, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,) = formats
    return [Output(reads, None, 0, x.frac_bits, 1 << x.width) for reads in _window_reads(op)]


def _window_sum_outputs(op: ops.SumPool, formats: Sequence[FixedFormat], key: Key) -> list[Output]:
    (x,) = formats
    frac_bits = x.frac_bits + op.weight.format.frac_bits
    return [_sum(reads, key * len(reads), 0, frac_bits, x) for reads in _window_reads(op)]


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


def _product(algebra: Algebra[T, B], values: Sequence[T]) -> T:
    product = values[0]
    for value in values[1:]:
        product = algebra.mul(product, value)
    return product


def _merge_code(op: ops.Merge, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    if op.function == "multiply":
        return converted(algebra, op.cast, output.frac_bits, _product(algebra, values))
    if output.weights is not None:
        return _cast_code(op, output, algebra, values)
    raised = [algebra.mul(x, algebra.const(factor)) for x, factor in zip(values, output.factors, strict=True)]
    choose = {"maximum": largest, "minimum": smallest}[op.function]
    return converted(algebra, op.cast, output.frac_bits, choose(algebra, raised))


def _softmax_code(op: ops.Softmax, output: Output, algebra: Algebra[T, B], values: Sequence[T]) -> T:
    most = largest(algebra, values)
    starts = np.arange(len(op.exponentials), dtype=np.int64)
    weights = [algebra.steps(algebra.sub(most, value), starts, op.exponentials) for value in values]
    total = weights[0]
    for weight in weights[1:]:
        total = algebra.add(total, weight)
    doubled = algebra.mul(weights[output.place], algebra.const(2 << op.format.frac_bits))
    rounded = algebra.quotient(algebra.add(doubled, total), algebra.add(total, total))
    return clamped(algebra, rounded, 0, op.format.max_code)


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
        _single_outputs, lambda op, output, algebra, values: algebra.steps(values[0], op.starts, op.values)
    ),
    ops.Softmax: Definition(_softmax_outputs, _softmax_code),
}
"""By type of op, but for those `OUTSIDE`."""
