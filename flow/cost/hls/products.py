"""Products by constants, as HLS builds them: what is shared, what is a wire, an adder, a multiplier, a DSP slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.cost import cost_rules as rules
from flow.cost.hls.settings import Hls
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.intervals import accumulation
from flow.ir.ops import MatMul
from flow.ir.po2 import signed_digits
from flow.parts import Part

FABRIC_PRODUCT_BITS = {"Vivado HLS": 20, "Vitis HLS": 19}
"""Bits of both operands together up to which a product by a constant stays in LUTs (docs/estimates.md, DSP slices)."""
FABRIC_INPUT_BITS = {"Vivado HLS": 0, "Vitis HLS": 13}
"""Bits of an input up to which all of its products do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """The products of a constant matrix, and the trees that sum them.

    HLS builds a product once for each input and weight, however many outputs read it; a weight and its negative are
    two products.

    Attributes:
        negated_bits: bits of negated inputs, for powers of two below zero.
        two_digit_bits: bits of sums of two shifted inputs.
        multipliers: products by three and more signed digits.
        in_dsp: those of them that take DSP slices.
        slices: DSP slices of all of `in_dsp`.
        fabric_bits: pairs of bits of those in LUTs.
        terms: nonzero weights of one, two, three and more signed digits.
        adders, adder_bits: of the trees, one per output, no wider than the accumulator.
        longest: terms of the longest tree.
        outputs: outputs that sum something.
    """

    negated_bits: int
    two_digit_bits: int
    multipliers: int
    in_dsp: int
    slices: int
    fabric_bits: int
    terms: tuple[int, int, int]
    adders: int
    adder_bits: int
    longest: int
    outputs: int


def products_of(op: MatMul, x: FixedFormat, part: Part, hls: Hls) -> Products:
    """Return the products and trees of a dense or convolution at one output position."""
    matrix = op.matrix()
    value = _distinct(matrix)
    digits = signed_digits(value)
    bits = rules.range_bits(np.minimum(value, 0), np.maximum(value, 0))
    several = digits >= 3
    operand = signed_bits(x)
    in_dsp = several & takes_dsp(operand, bits, hls)
    widths, counts = np.unique(bits[in_dsp], return_counts=True)
    magnitude = rules.range_bits(np.zeros_like(value), np.abs(value))
    kinds = np.minimum(signed_digits(matrix), 3)
    adders, adder_bits, longest = _trees(op, matrix, x)
    return Products(
        negated_bits=x.width * int(((digits == 1) & (value < 0)).sum()),
        two_digit_bits=int((x.width + magnitude[digits == 2]).sum()),
        multipliers=int(several.sum()),
        in_dsp=int(in_dsp.sum()),
        slices=sum(
            rules.dsp_slices(operand, int(width), part) * int(count)
            for width, count in zip(widths, counts, strict=True)
        ),
        fabric_bits=int((x.width * magnitude[several & ~in_dsp]).sum()),
        terms=(int((kinds == 1).sum()), int((kinds == 2).sum()), int((kinds == 3).sum())),
        adders=adders,
        adder_bits=adder_bits,
        longest=longest,
        outputs=int(matrix.any(axis=0).sum()),
    )


def _distinct(matrix: Codes) -> Codes:
    """Return the weight of each product that is built: the distinct nonzero weights of each row."""
    row, column = np.nonzero(matrix)
    return np.asarray(np.unique(np.stack([row, matrix[row, column]]), axis=1)[1])


def accumulator_of(op: MatMul, x: FixedFormat) -> FixedFormat:
    """Return the format in which products are summed; before it is inferred, the one that holds every sum."""
    return op.accumulator or accumulation(op, x).format


def signed_bits(x: FixedFormat) -> int:
    """Return the bits of an operand of a multiplier, which is signed."""
    return x.width + (not x.signed)


def takes_dsp(bits: int, other_bits: Codes, hls: Hls) -> NDArray[np.bool_]:
    """Say of products whether they take DSP slices; a project can force it either way."""
    if hls.multipliers != "auto":
        return np.full(other_bits.shape, hls.multipliers == "dsp")
    return (bits + other_bits > FABRIC_PRODUCT_BITS[hls.tool]) & (bits > FABRIC_INPUT_BITS[hls.tool])


def _trees(op: MatMul, matrix: Codes, x: FixedFormat) -> tuple[int, int, int]:
    """Return adders, their bits, and the terms of the longest of the trees that sum products in the accumulator.

    A product is cut to the grid of the accumulator before it is summed, and a sum has the bits of its range, at most
    those of the accumulator.
    """
    product_bits, accumulator = x.frac_bits + op.weight.format.frac_bits, accumulator_of(op, x)
    drop = max(product_bits - accumulator.frac_bits, 0)
    weight = matrix << max(accumulator.frac_bits - product_bits, 0)
    bias = np.floor(op.bias.codes * 2.0 ** (accumulator.frac_bits - op.bias.format.frac_bits)).astype(np.int64)
    ends = np.stack([weight * x.min_code, weight * x.max_code, np.zeros_like(weight)]) >> drop
    low = np.vstack([ends.min(axis=0), np.minimum(bias, 0)])
    high = np.vstack([ends.max(axis=0), np.maximum(bias, 0)])
    terms = np.count_nonzero(matrix, axis=0) + (bias != 0)
    adders = bits = 0
    while low.shape[0] > 1:
        if low.shape[0] % 2:
            low, high = (np.pad(array, ((0, 1), (0, 0))) for array in (low, high))
        here = (low != 0) | (high != 0)
        both = here[0::2] & here[1::2]
        low, high = low[0::2] + low[1::2], high[0::2] + high[1::2]
        adders += int(both.sum())
        bits += int(np.minimum(rules.range_bits(low, high), accumulator.width)[both].sum())
    return adders, bits, int(terms.max(initial=0))
