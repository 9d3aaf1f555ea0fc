"""Fold batch norm into the dense or convolution before it: (x @ w + b) * s + o == x @ (w * s) + (b * s + o)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.errors import UnsupportedError
from flow.ir.fixed import CODE_BITS, Codes, FixedFormat, covering
from flow.ir.graph import BatchNorm, IntGraph, MatMul, Op
from flow.ir.intervals import casts_exactly
from flow.ir.passes.rewrite import merge_pairs


def fold_batchnorm(graph: IntGraph) -> IntGraph:
    """Multiply weights and bias by the batch norm's scale, exactly; power-of-two scales keep power-of-two weights.

    Only where the product's result reaches the batch norm unrounded and unclamped, and no other op reads it.

    Raises:
        UnsupportedError: a folded weight or bias would need more than 63 bits.
    """
    return merge_pairs(graph, _fold)


def _fold(first: Op, second: Op, graph: IntGraph) -> Op | None:
    if not (isinstance(first, MatMul) and isinstance(second, BatchNorm)):
        return None
    if not casts_exactly(first, graph[first.inputs[0]].format):
        return None
    if _reach(first, second) >= 2.0 ** (CODE_BITS - 1):
        raise UnsupportedError(f"folding '{second.name}' takes more than {CODE_BITS} bits", op=first.name)
    weight, weight_frac = first.weight * second.scale, first.weight_format.frac_bits + second.scale_format.frac_bits
    bias_frac = first.bias_format.frac_bits + second.scale_format.frac_bits
    common = max(bias_frac, second.offset_format.frac_bits)
    bias = (first.bias * second.scale << (common - bias_frac)) + (
        second.offset << (common - second.offset_format.frac_bits)
    )
    weight, weight_format = narrowed(weight, weight_frac)
    bias, bias_format = narrowed(bias, common)
    return replace(
        first,
        weight=weight,
        weight_format=weight_format,
        bias=bias,
        bias_format=bias_format,
        format=second.format,
        rounding=second.rounding,
        overflow=second.overflow,
    )


def _reach(first: MatMul, second: BatchNorm) -> float:
    """Return a bound of every integer that folding computes."""
    scale, offset = np.abs(second.scale).max(initial=0), np.abs(second.offset).max(initial=0)
    finer = second.offset_format.frac_bits - first.bias_format.frac_bits - second.scale_format.frac_bits
    bias = float(np.abs(first.bias).max(initial=0)) * float(scale) * 2.0 ** max(finer, 0)
    weight = float(np.abs(first.weight).max(initial=0)) * float(scale)
    return max(weight, bias + float(offset) * 2.0 ** max(-finer, 0))


def narrowed(codes: Codes, frac_bits: int) -> tuple[Codes, FixedFormat]:
    """Drop fraction bits that are zero in every code; return the codes and their narrowest format."""
    used = int(np.bitwise_or.reduce(np.abs(codes), axis=None)) if codes.size else 0
    if used == 0:
        return np.zeros_like(codes), FixedFormat(False, 1, 0)
    spare = (used & -used).bit_length() - 1
    codes = codes >> spare
    return codes, covering(int(codes.min()), int(codes.max()), frac_bits - spare)
