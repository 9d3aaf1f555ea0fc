"""Interval arithmetic on the graph: on which grid an accumulator lies and how far it can go, for any input code.

The bounds follow from the formats alone (every input code of a format may occur), so what is proved here holds for
all inputs, not for a data set. A bound covers every partial sum in any order, because hardware adds in its own order:
the lower end sums only the negative extremes, the upper end only the positive ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow.errors import UnsupportedError
from flow.ir.fixed import CODE_BITS, Codes, FixedFormat, covering, lowest_code
from flow.ir.graph import (
    BatchNorm,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MatMul,
    Merge,
    Op,
    Pool,
    Relu,
    Softmax,
    SumPool,
)

FLOAT32_BITS, FLOAT64_BITS = 24, 53
"""Significant bits of IEEE 754 floats, the hidden one included."""


@dataclass(frozen=True, slots=True)
class Accumulation:
    """How products and bias meet: `acc = (x @ weight << product_shift) + (bias << bias_shift)`.

    Attributes:
        frac_bits: fraction bits of the accumulator.
        product_shift, bias_shift: left shifts onto that grid; one of them is 0.
        low, high: int64 (channels,), codes on that grid: bounds of every partial sum.
    """

    frac_bits: int
    product_shift: int
    bias_shift: int
    low: Codes
    high: Codes

    @property
    def bound(self) -> int:
        """Largest magnitude that any partial sum can have."""
        return max(int(self.high.max(initial=0)), -int(self.low.min(initial=0)))

    @property
    def format(self) -> FixedFormat:
        """The narrowest format that holds every partial sum of every channel."""
        return covering(int(self.low.min(initial=0)), int(self.high.max(initial=0)), self.frac_bits)

    @property
    def channel_bits(self) -> tuple[int, ...]:
        """Bits each channel needs by itself."""
        return tuple(
            covering(int(low), int(high), self.frac_bits).width for low, high in zip(self.low, self.high, strict=True)
        )


def accumulation(op: MatMul, x: FixedFormat) -> Accumulation:
    """Return grid and bounds of the accumulator of `op` for any input in the format `x`.

    Raises:
        UnsupportedError: a sum may need more than 62 bits.
    """
    product_frac = x.frac_bits + op.weight_format.frac_bits
    frac_bits = product_frac if not op.bias.any() else max(product_frac, op.bias_format.frac_bits)
    product_shift = frac_bits - product_frac
    bias_shift = frac_bits - op.bias_format.frac_bits if op.bias.any() else 0
    weight = op.weight.reshape(-1, op.weight.shape[-1])
    largest = np.abs(weight).astype(np.float64).sum(axis=0) * max(x.max_code, -x.min_code) * 2.0**product_shift
    reach = float((largest + np.abs(op.bias) * 2.0**bias_shift).max(initial=0))
    if reach >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(
            f"its accumulator may need {int(np.log2(reach)) + 2} bits, more than {CODE_BITS}",
            op=op.name,
            remedy="use fewer weight or input bits, or a narrower range of exponents",
        )
    positive, negative = np.maximum(weight, 0).sum(axis=0), np.minimum(weight, 0).sum(axis=0)
    bias = op.bias << bias_shift
    high = ((positive * x.max_code + negative * x.min_code) << product_shift) + np.maximum(bias, 0)
    low = ((positive * x.min_code + negative * x.max_code) << product_shift) + np.minimum(bias, 0)
    return Accumulation(frac_bits, product_shift, bias_shift, low, high)


def exact_result(op: Op, *inputs: FixedFormat) -> tuple[int, int, int]:
    """Return (frac_bits, low, high) of the result of `op` before its cast, for any codes of the formats it reads.

    Raises:
        UnsupportedError: it may need more than 62 bits.
    """
    frac_bits, low, high = _exact_result(op, inputs)
    if max(high, -low) >= 1 << (CODE_BITS - 1):
        raise UnsupportedError(f"its result needs more than {CODE_BITS} bits", op=op.name, remedy="quantize its inputs")
    return frac_bits, low, high


def exact_format(op: Op, *inputs: FixedFormat) -> FixedFormat:
    """Return the narrowest format that holds the result of `op` before its cast, for any codes of the formats it reads.

    Raises:
        UnsupportedError: it may need more than 62 bits.
    """
    frac_bits, low, high = exact_result(op, *inputs)
    return covering(low, high, frac_bits)


def _exact_result(op: Op, inputs: tuple[FixedFormat, ...]) -> tuple[int, int, int]:
    x = inputs[0]
    if isinstance(op, MatMul):
        acc = accumulation(op, x)
        return acc.frac_bits, int(acc.low.min()), int(acc.high.max())
    if isinstance(op, BatchNorm):
        scale, offset, frac_bits = batchnorm_on_grid(op, x)
        ends = np.stack([scale * x.min_code + offset, scale * x.max_code + offset])
        return frac_bits, int(ends.min()), int(ends.max())
    if isinstance(op, Merge):
        return _merged(op, inputs)
    if isinstance(op, Gather):
        frac_bits, each = common_grid(inputs)
        zero = [0] if (op.index < 0).any() else []
        return frac_bits, min(zero + [low for low, _ in each]), max(zero + [high for _, high in each])
    if isinstance(op, SumPool):
        largest = int((window_counts(op) * op.weight).max())
        return x.frac_bits + op.weight_format.frac_bits, largest * x.min_code, largest * x.max_code
    if isinstance(op, LeakyRelu):
        frac_bits, raised, slope = leaky_grid(op, x)
        below = slope * x.min_code
        return frac_bits, min(0, int(below.min())), max(x.max_code << raised, int(below.max()))
    if isinstance(op, Lookup):
        return op.format.frac_bits, int(op.values.min()), int(op.values.max())
    if isinstance(op, Softmax):
        return op.format.frac_bits, 0, op.format.max_code
    if isinstance(op, Relu):
        return x.frac_bits, 0, x.max_code if op.limit is None else min(x.max_code, op.limit)
    return x.frac_bits, x.min_code, x.max_code


def common_grid(inputs: Sequence[FixedFormat]) -> tuple[int, list[tuple[int, int]]]:
    """Return the finest fraction bits of some formats, and the smallest and largest code of each on that grid."""
    frac_bits = max(x.frac_bits for x in inputs)
    return frac_bits, [(x.min_code << frac_bits - x.frac_bits, x.max_code << frac_bits - x.frac_bits) for x in inputs]


def _merged(op: Merge, inputs: Sequence[FixedFormat]) -> tuple[int, int, int]:
    frac_bits, ends = common_grid(inputs)
    low, high = ends[0]
    if op.function == "multiply":
        low, high = inputs[0].min_code, inputs[0].max_code
        for x in inputs[1:]:
            corners = [a * b for a in (low, high) for b in (x.min_code, x.max_code)]
            low, high = min(corners), max(corners)
        return sum(x.frac_bits for x in inputs), low, high
    for other_low, other_high in ends[1:]:
        if op.function == "add":
            low, high = low + other_low, high + other_high
        elif op.function == "subtract":
            low, high = low - other_high, high - other_low
        elif op.function == "maximum":
            low, high = max(low, other_low), max(high, other_high)
        else:
            low, high = min(low, other_low), min(high, other_high)
    return frac_bits, low, high


def leaky_grid(op: LeakyRelu, x: FixedFormat) -> tuple[int, int, Codes]:
    """Return the fraction bits of `x` and `x * slope` together, the left shift of `x`, and the slope shifted likewise.

    Raises:
        UnsupportedError: a product may need more than 62 bits.
    """
    product_frac = x.frac_bits + op.slope_format.frac_bits
    frac_bits = max(product_frac, x.frac_bits)
    shift, raised = frac_bits - product_frac, frac_bits - x.frac_bits
    reach = float(np.abs(op.slope).max()) * 2.0**shift * max(x.max_code, -x.min_code)
    if max(reach, x.max_code * 2.0**raised) >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(f"its result needs more than {CODE_BITS} bits", op=op.name, remedy="quantize its input")
    return frac_bits, raised, op.slope << shift


def check_division(op: Op, frac_bits: int, low: int, high: int) -> None:
    """Raise UnsupportedError unless the cast of `op` with its divisor stays below 62 bits on every grid it uses."""
    raised = op.format.frac_bits - frac_bits
    numerator, divisor = max(high, -low) << max(raised, 0), op.divisor << max(-raised, 0)
    if max(numerator, divisor) >= 1 << (CODE_BITS - 2):
        raise UnsupportedError(
            f"dividing by {op.divisor} to {op.format} takes more than {CODE_BITS - 2} bits",
            op=op.name,
            remedy="quantize its input or choose a coarser output",
        )


def window_counts(op: Pool) -> Codes:
    """Return how many real pixels each window holds: int64, the shape of the output without channels."""
    counts = np.ones((), np.int64)
    pads = zip(op.padding[::2], op.padding[1::2], strict=True)
    for out, span, step, (before, after) in zip(op.shape, op.window, op.strides, pads, strict=False):
        first = np.arange(out) * step - before
        size = (out - 1) * step + span - before - after  # pixels behind the last window are in none
        counts = np.multiply.outer(counts, np.minimum(first + span, size) - np.maximum(first, 0))
    return counts.astype(np.int64)


def batchnorm_on_grid(op: BatchNorm, x: FixedFormat) -> tuple[Codes, Codes, int]:
    """Return scale and offset codes shifted so that `x * scale + offset` has the returned fraction bits.

    Raises:
        UnsupportedError: the sum may need more than 62 bits.
    """
    product_frac = x.frac_bits + op.scale_format.frac_bits
    frac_bits = max(product_frac, op.offset_format.frac_bits)
    scale_shift, offset_shift = frac_bits - product_frac, frac_bits - op.offset_format.frac_bits
    reach = np.abs(op.scale) * 2.0**scale_shift * max(x.max_code, -x.min_code) + np.abs(op.offset) * 2.0**offset_shift
    if reach.max(initial=0) >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(
            f"its result needs more than {CODE_BITS} bits", op=op.name, remedy="quantize scale and offset"
        )
    return op.scale << scale_shift, op.offset << offset_shift, frac_bits


def casts_exactly(op: Op, *inputs: FixedFormat) -> bool:
    """Say whether the output format of `op` holds every result, so that its cast changes nothing but the grid."""
    frac_bits, low, high = exact_result(op, *inputs)
    shift = op.format.frac_bits - frac_bits
    if op.divisor != 1 or shift < 0:
        return False
    return lowest_code(op.format, op.overflow) <= low << shift and high << shift <= op.format.max_code


def inexact_in(graph: IntGraph, bits: int) -> tuple[Op, ...]:
    """Return the ops of an extracted graph whose results floats with `bits` significant bits may not hold exactly.

    A quantizer is `x + (xq - x)` in QKeras, so its input must fit on the grid of its output too; a quotient must be
    further from a tie than its rounding; and tables are functions of float32.
    """
    formats = {op.name: op.format for op in graph.ops}
    found = []
    for op in graph.ops:
        if isinstance(op, Input):
            low, high, finer = op.format.min_code, op.format.max_code, 0
        else:
            frac_bits, low, high = exact_result(op, *(formats[name] for name in op.inputs))
            finer = max(0, op.format.frac_bits - frac_bits + (op.divisor != 1))
        beyond = isinstance(op, Lookup) and formats[op.inputs[0]].width > FLOAT32_BITS
        if beyond or max(high, -low) << finer >= 1 << bits:
            found.append(op)
    return tuple(found)
