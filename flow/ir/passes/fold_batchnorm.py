"""Fold batch norm into the dense or convolution before it: (x @ w + b) * s + o == x @ (w * s) + (b * s + o)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.errors import UnsupportedError
from flow.ir.fixed import CODE_BITS, narrowed
from flow.ir.graph import BatchNorm, IntGraph, MatMul, Op
from flow.ir.intervals import accumulation, casts_exactly
from flow.ir.passes.rewrite import merge_pairs


def fold_batchnorm(graph: IntGraph) -> IntGraph:
    """Multiply weights and bias by the batch norm's scale, exactly; power-of-two scales keep power-of-two weights.

    Only where the product's result reaches the batch norm unrounded and unclamped, no other op reads it, and codes hold
    folded weights and their sums.
    """
    return merge_pairs(graph, _fold)


def _fold(first: Op, second: Op, graph: IntGraph) -> Op | None:
    if not (isinstance(first, MatMul) and isinstance(second, BatchNorm)):
        return None
    if not casts_exactly(first, graph[first.inputs[0]].format):
        return None
    if _reach(first, second) >= 2.0 ** (CODE_BITS - 1):
        return None
    scale, offset = second.scale, second.offset
    product_frac = first.bias.format.frac_bits + scale.format.frac_bits
    bias_frac = max(product_frac, offset.format.frac_bits)
    product = first.bias.codes * scale.codes << (bias_frac - product_frac)
    bias = product + (offset.codes << (bias_frac - offset.format.frac_bits))
    weight_frac = first.weight.format.frac_bits + scale.format.frac_bits
    weight = narrowed(first.weight.codes * scale.codes, weight_frac)
    folded = replace(first, weight=weight, bias=narrowed(bias, bias_frac), cast=second.cast)
    try:
        accumulation(folded, graph[first.inputs[0]].format)
    except UnsupportedError:
        return None
    return folded


def _reach(first: MatMul, second: BatchNorm) -> float:
    """Return a bound of every integer that folding computes."""
    scale, offset = np.abs(second.scale.codes).max(initial=0), np.abs(second.offset.codes).max(initial=0)
    finer = second.offset.format.frac_bits - first.bias.format.frac_bits - second.scale.format.frac_bits
    bias = float(np.abs(first.bias.codes).max(initial=0)) * float(scale) * 2.0 ** max(finer, 0)
    weight = float(np.abs(first.weight.codes).max(initial=0)) * float(scale)
    return max(weight, bias + float(offset) * 2.0 ** max(-finer, 0))
