"""Interval arithmetic on the graph: on which grid an accumulator lies and how far it can go, for any input code.

The bounds follow from the formats alone (every input code of a format may occur), so what is proved here holds for
all inputs, not for a data set. A bound covers every partial sum in any order, because hardware adds in its own order:
the lower end sums only the negative extremes, the upper end only the positive ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import CODE_BITS, Codes, FixedFormat, covering
from flow.ir.graph import IntGraph, Op, body_of

FLOAT32_BITS, FLOAT64_BITS = 24, 53
"""Significant bits of IEEE 754 floats, the hidden one included."""


@dataclass(frozen=True, slots=True)
class Range:
    """How far an exact result goes, for any codes of the inputs' formats.

    Attributes:
        frac_bits: fraction bits of the result.
        low, high: codes on that grid.
        shifts: left shifts that bring what is added, chosen or joined onto that grid, in order: products and bias of a
            Dense or Conv, products and offset of a BatchNorm, `x` and `x * slope` of a LeakyRelu, each input of a
            Merge or Gather.
    """

    frac_bits: int
    low: int
    high: int
    shifts: tuple[int, ...] = ()

    @classmethod
    def of(cls, fmt: FixedFormat) -> Range:
        """Return that of all codes of a format."""
        return cls(fmt.frac_bits, fmt.min_code, fmt.max_code)

    @property
    def bound(self) -> int:
        """Largest magnitude."""
        return max(self.high, -self.low)

    @property
    def format(self) -> FixedFormat:
        """The narrowest format that holds it."""
        return covering(self.low, self.high, self.frac_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulation(Range):
    """How far every partial sum of products and bias goes: `acc = (x @ weight << shifts[0]) + (bias << shifts[1])`.

    Attributes:
        channel_low, channel_high: int64 (channels,), the same for each output channel.
    """

    channel_low: Codes
    channel_high: Codes

    @property
    def channel_bits(self) -> tuple[int, ...]:
        """Bits each channel needs by itself."""
        ends = zip(self.channel_low.tolist(), self.channel_high.tolist(), strict=True)
        return tuple(covering(low, high, self.frac_bits).width for low, high in ends)


def accumulation(op: ops.MatMul, x: FixedFormat) -> Accumulation:
    """Return grid and bounds of the accumulator of `op` for any input in the format `x`.

    Raises:
        UnsupportedError: a sum may need more than 62 bits.
    """
    matrix, bias = op.weight.codes.reshape(-1, op.weight.codes.shape[-1]), op.bias.codes
    product_frac = x.frac_bits + op.weight.format.frac_bits
    frac_bits = product_frac if not bias.any() else max(product_frac, op.bias.format.frac_bits)
    product_shift = frac_bits - product_frac
    bias_shift = frac_bits - op.bias.format.frac_bits if bias.any() else 0
    largest = np.abs(matrix).astype(np.float64).sum(axis=0) * max(x.max_code, -x.min_code) * 2.0**product_shift
    reach = float((largest + np.abs(bias) * 2.0**bias_shift).max(initial=0))
    if reach >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(
            f"its accumulator may need {int(np.log2(reach)) + 2} bits, more than {CODE_BITS}",
            op=op.name,
            remedy="use fewer weight or input bits, or a narrower range of exponents",
        )
    positive, negative = np.maximum(matrix, 0).sum(axis=0), np.minimum(matrix, 0).sum(axis=0)
    bias = bias << bias_shift
    high = ((positive * x.max_code + negative * x.min_code) << product_shift) + np.maximum(bias, 0)
    low = ((positive * x.min_code + negative * x.max_code) << product_shift) + np.minimum(bias, 0)
    ends = int(low.min(initial=0)), int(high.max(initial=0))
    return Accumulation(frac_bits, *ends, (product_shift, bias_shift), channel_low=low, channel_high=high)


def exact_result(op: Op, *inputs: FixedFormat) -> Range:
    """Return how far the result of `op` goes before its cast, for any codes of the formats it reads.

    Raises:
        UnsupportedError: it may need more than 62 bits.
    """
    result = BOUNDS[type(op)](op, *inputs)
    if result.bound >= 1 << (CODE_BITS - 1):
        raise UnsupportedError(f"its result needs more than {CODE_BITS} bits", op=op.name, remedy="quantize its inputs")
    return result


def _input(op: ops.Input) -> Range:
    return Range.of(op.format)


def _as_it_is(op: Op, x: FixedFormat) -> Range:
    return Range.of(x)


def _batchnorm(op: ops.BatchNorm, x: FixedFormat) -> Range:
    product_frac = x.frac_bits + op.scale.format.frac_bits
    frac_bits = max(product_frac, op.offset.format.frac_bits)
    shifts = frac_bits - product_frac, frac_bits - op.offset.format.frac_bits
    largest = np.abs(op.scale.codes) * 2.0 ** shifts[0] * max(x.max_code, -x.min_code)
    if (largest + np.abs(op.offset.codes) * 2.0 ** shifts[1]).max(initial=0) >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(
            f"its result needs more than {CODE_BITS} bits", op=op.name, remedy="quantize scale and offset"
        )
    scale, offset = op.scale.codes << shifts[0], op.offset.codes << shifts[1]
    ends = np.stack([scale * x.min_code + offset, scale * x.max_code + offset])
    return Range(frac_bits, int(ends.min()), int(ends.max()), shifts)


def _relu(op: ops.Relu, x: FixedFormat) -> Range:
    return Range(x.frac_bits, 0, x.max_code if op.limit is None else min(x.max_code, op.limit))


def _leaky_relu(op: ops.LeakyRelu, x: FixedFormat) -> Range:
    product_frac = x.frac_bits + op.slope.format.frac_bits
    frac_bits = max(product_frac, x.frac_bits)
    raised, shift = frac_bits - x.frac_bits, frac_bits - product_frac
    largest = float(np.abs(op.slope.codes).max()) * 2.0**shift * max(x.max_code, -x.min_code)
    if max(largest, x.max_code * 2.0**raised) >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(f"its result needs more than {CODE_BITS} bits", op=op.name, remedy="quantize its input")
    below = (op.slope.codes << shift) * x.min_code
    return Range(frac_bits, min(0, int(below.min())), max(x.max_code << raised, int(below.max())), (raised, shift))


def common_grid(inputs: Sequence[FixedFormat]) -> list[Range]:
    """Return how far the codes of some formats go on the finest of their grids."""
    frac_bits = max(x.frac_bits for x in inputs)
    shifts = [frac_bits - x.frac_bits for x in inputs]
    return [
        Range(frac_bits, x.min_code << shift, x.max_code << shift, (shift,))
        for x, shift in zip(inputs, shifts, strict=True)
    ]


def _merge(op: ops.Merge, *inputs: FixedFormat) -> Range:
    if op.function == "multiply":
        low, high = inputs[0].min_code, inputs[0].max_code
        for x in inputs[1:]:
            corners = [a * b for a in (low, high) for b in (x.min_code, x.max_code)]
            low, high = min(corners), max(corners)
        return Range(sum(x.frac_bits for x in inputs), low, high, (0,) * len(inputs))
    first, *others = common_grid(inputs)
    low, high = first.low, first.high
    for other in others:
        if op.function == "add":
            low, high = low + other.low, high + other.high
        elif op.function == "subtract":
            low, high = low - other.high, high - other.low
        elif op.function == "maximum":
            low, high = max(low, other.low), max(high, other.high)
        else:
            low, high = min(low, other.low), min(high, other.high)
    return Range(first.frac_bits, low, high, (*first.shifts, *(shift for other in others for shift in other.shifts)))


def _gather(op: ops.Gather, *inputs: FixedFormat) -> Range:
    ranges, zero = common_grid(inputs), [0] if (op.index < 0).any() else []
    low, high = min(zero + [each.low for each in ranges]), max(zero + [each.high for each in ranges])
    return Range(ranges[0].frac_bits, low, high, tuple(shift for each in ranges for shift in each.shifts))


def _sum_pool(op: ops.SumPool, x: FixedFormat) -> Range:
    largest = int((op.window.counts(op.shape[:-1]) * op.weight.codes).max())
    return Range(x.frac_bits + op.weight.format.frac_bits, largest * x.min_code, largest * x.max_code)


def _looked_up(op: ops.Lookup | ops.TruthTable, *inputs: FixedFormat) -> Range:
    return Range(op.format.frac_bits, int(op.values.min()), int(op.values.max()))


def _softmax(op: ops.Softmax, x: FixedFormat) -> Range:
    return Range(op.format.frac_bits, 0, op.format.max_code)


BOUNDS: Mapping[type[Op], Callable[..., Range]] = {
    ops.Input: _input,
    ops.Dense: accumulation,
    ops.Conv: accumulation,
    ops.BatchNorm: _batchnorm,
    ops.Relu: _relu,
    ops.LeakyRelu: _leaky_relu,
    ops.Requantize: _as_it_is,
    ops.Merge: _merge,
    ops.MaxPool: _as_it_is,
    ops.SumPool: _sum_pool,
    ops.Reshape: _as_it_is,
    ops.Gather: _gather,
    ops.Lookup: _looked_up,
    ops.TruthTable: _looked_up,
    ops.Softmax: _softmax,
    ops.Scan: lambda op, x: Range.of(op.format),
}
"""How far the exact result of an op goes, from the op and the formats it reads."""


def check_division(op: Op, exact: Range) -> None:
    """Raise UnsupportedError unless the cast of `op` with its divisor stays below 62 bits on every grid it uses."""
    raised = op.format.frac_bits - exact.frac_bits
    numerator, divisor = exact.bound << max(raised, 0), op.cast.divisor << max(-raised, 0)
    if max(numerator, divisor) >= 1 << (CODE_BITS - 2):
        raise UnsupportedError(
            f"dividing by {op.cast.divisor} to {op.format} takes more than {CODE_BITS - 2} bits",
            op=op.name,
            remedy="quantize its input or choose a coarser output",
        )


def casts_exactly(op: Op, *inputs: FixedFormat) -> bool:
    """Say whether the output format of `op` holds every result, so that its cast changes nothing but the grid."""
    exact = exact_result(op, *inputs)
    shift = op.format.frac_bits - exact.frac_bits
    if op.cast.divisor != 1 or shift < 0:
        return False
    return op.cast.lowest_code <= exact.low << shift and exact.high << shift <= op.format.max_code


KEEPS_ORDER = (ops.Relu, ops.MaxPool, ops.Reshape, ops.Gather)
"""Ops that choose or move codes: of numbers that are rounded to odd they choose the same as of exact ones."""


def _to_odd(graph: IntGraph) -> set[str]:
    """Return the batch normalizations that one quantizer alone reads, what chooses between them, and that quantizer."""
    found = set()
    for op in graph.ops:
        if not isinstance(op, ops.BatchNorm):
            continue
        if not casts_exactly(op, *(x.format for x in graph.sources(op))):  # it is its own quantizer
            found |= {op.name} if op.format.width <= FLOAT64_BITS - 3 else set()
            continue
        chain: list[Op] = [op]
        while len(readers := graph.readers(chain[-1].name)) == 1 and chain[-1].name not in graph.outputs:
            chain += readers
            if not isinstance(chain[-1], KEEPS_ORDER):
                break
        last = chain[-1]
        steps = isinstance(last, ops.Lookup) and op.denominator == 1
        if (steps or isinstance(last, ops.Requantize)) and last.format.width <= FLOAT64_BITS - 3:
            found |= {op.name for op in chain}
    return found


def inexact_in(graph: IntGraph, bits: int) -> tuple[Op, ...]:
    """Return the ops of an extracted graph whose results floats with `bits` significant bits may not hold exactly.

    A quantizer is `x + (xq - x)` in QKeras, so its input must fit on the grid of its output too; a quotient must be
    further from a tie than its rounding. Step functions are of float32: of what they read, rounded to it. In float64
    a batch normalization that only a quantizer reads, perhaps behind a ReLU, is rounded to odd, which that cannot tell
    from the exact result. What an average leaves undivided is its quotient times the divisor, rounded to whole codes.
    """
    formats = {op.name: op.format for op in graph.ops}
    inexact: list[Op] = []
    odd = _to_odd(graph) if bits == FLOAT64_BITS else set()
    for op in graph.ops:
        if op.name in odd:
            continue
        exact = exact_result(op, *(formats[name] for name in op.inputs))
        if isinstance(op, ops.Scan) and inexact_in(body_of(op), bits):
            inexact.append(op)
            continue
        finer = max(0, op.format.frac_bits - exact.frac_bits + (op.cast.divisor != 1)) + 3 * (op.denominator != 1)
        if exact.bound << finer >= 1 << bits:
            inexact.append(op)
    return tuple(inexact)
