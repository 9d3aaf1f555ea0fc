"""Interval arithmetic on the graph: on which grid an accumulator lies and how far it can go, for any input code.

The bounds follow from the formats alone (every input code of a format may occur), so what is proved here holds for
all inputs, not for a data set. A bound covers every partial sum in any order, because hardware adds in its own order:
the lower end sums only the negative extremes, the upper end only the positive ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flow.errors import UnsupportedError
from flow.fixed import CODE_BITS, Codes, FixedFormat, covering
from flow.graph import BatchNorm, MatMul, Op, Relu


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
            f"op '{op.name}': its accumulator may need {int(np.log2(reach)) + 2} bits, more than {CODE_BITS}; "
            "use fewer weight or input bits, or a narrower range of exponents"
        )
    positive, negative = np.maximum(weight, 0).sum(axis=0), np.minimum(weight, 0).sum(axis=0)
    bias = op.bias << bias_shift
    high = ((positive * x.max_code + negative * x.min_code) << product_shift) + np.maximum(bias, 0)
    low = ((positive * x.min_code + negative * x.max_code) << product_shift) + np.minimum(bias, 0)
    return Accumulation(frac_bits, product_shift, bias_shift, low, high)


def exact_result(op: Op, x: FixedFormat) -> tuple[int, int, int]:
    """Return (frac_bits, low, high) of the result of `op` before its cast, for any input in the format `x`."""
    if isinstance(op, MatMul):
        acc = accumulation(op, x)
        return acc.frac_bits, int(acc.low.min()), int(acc.high.max())
    if isinstance(op, BatchNorm):
        scale, offset, frac_bits = batchnorm_on_grid(op, x)
        ends = np.stack([scale * x.min_code + offset, scale * x.max_code + offset])
        return frac_bits, int(ends.min()), int(ends.max())
    return x.frac_bits, 0 if isinstance(op, Relu) else x.min_code, x.max_code


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
            f"op '{op.name}': its result needs more than {CODE_BITS} bits; quantize scale and offset"
        )
    return op.scale << scale_shift, op.offset << offset_shift, frac_bits


def casts_exactly(op: Op, x: FixedFormat) -> bool:
    """Say whether the output format of `op` holds every result, so that its cast changes nothing but the grid."""
    frac_bits, low, high = exact_result(op, x)
    shift = op.format.frac_bits - frac_bits
    return shift >= 0 and op.format.min_code <= low << shift and high << shift <= op.format.max_code
