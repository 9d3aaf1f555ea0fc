"""Fold batch norm into the dense or convolution before it: (x @ w + b) * s + o == x @ (w * s) + (b * s + o)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from flow.errors import UnsupportedError
from flow.ir.fixed import CODE_BITS, narrowed
from flow.ir.graph import BatchNorm, IntGraph, MatMul, Op
from flow.ir.intervals import accumulation, casts_exactly, exact_result
from flow.ir.passes.rewrite import merge_pairs
from flow.ir.po2 import signed_digits


def fold_batchnorm(graph: IntGraph, *, stream: bool = False) -> IntGraph:
    """Multiply weights and bias by the batch norm's scale, exactly; power-of-two scales keep power-of-two weights.

    Only where the product's result reaches the batch norm unrounded and unclamped, no other op reads it, and codes hold
    folded weights and their sums. A batch norm that is cast stays where it takes a quarter fewer adders than
    folded weights.

    Args:
        graph: casts are fused.
        stream: whether positions follow one another through the same hardware.
    """
    return merge_pairs(graph, partial(_fold, stream=stream))


def _fold(first: Op, second: Op, graph: IntGraph, stream: bool = False) -> Op | None:
    if not isinstance(second, BatchNorm):
        return None
    whole = folded(first, second, graph)
    if whole is None or casts_exactly(second, first.format):
        return whole
    return whole if folds(whole, second, first, graph, stream) else None


def folds(whole: MatMul, op: BatchNorm, x: Op, graph: IntGraph, stream: bool) -> bool:
    """Say whether a batch norm is folded into `x`, as `whole`: a stage of its own must save a quarter of the adders."""
    return 3 * folded_bits(whole, graph) <= 4 * apart_bits(op, x, graph, stream)


def folded_bits(op: MatMul, graph: IntGraph) -> int:
    """Return the bits of the adders of a dense or a convolution: the digits of its weights, as wide as their sum."""
    matrix = op.weight.codes.reshape(-1, op.shape[-1])
    digits = signed_digits(matrix).sum(axis=0) + (op.bias.codes != 0)
    return int(digits @ np.array(accumulation(op, graph[op.inputs[0]].format).channel_bits))


def apart_bits(op: BatchNorm, x: Op, graph: IntGraph, stream: bool) -> int:
    """Return the bits of the adders of a batch norm and of the dense or convolution that it reads, if it does.

    In arrays each position of a batch norm has hardware of its own, where all positions of a convolution share theirs.
    What it reads of them is kept in a register.
    """
    digits = int((signed_digits(op.scale.codes) + (op.offset.codes != 0)).sum())
    copies = 1 if stream else math.prod(op.shape[:-1])
    before = folded_bits(x, graph) if isinstance(x, MatMul) else 0
    registers = op.shape[-1] * x.format.width if before else 0
    return before + copies * (digits * exact_result(op, x.format).format.width + registers)


def folded(first: Op, second: BatchNorm, graph: IntGraph) -> MatMul | None:
    """Return the dense or convolution that does what it and the batch norm behind it do, if there is one."""
    if not isinstance(first, MatMul) or not casts_exactly(first, graph[first.inputs[0]].format):
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
    whole = replace(first, weight=weight, bias=narrowed(bias, bias_frac), cast=second.cast)
    try:
        accumulation(whole, graph[first.inputs[0]].format)
    except UnsupportedError:
        return None
    return whole


def _reach(first: MatMul, second: BatchNorm) -> float:
    """Return a bound of every integer that folding computes."""
    scale, offset = np.abs(second.scale.codes).max(initial=0), np.abs(second.offset.codes).max(initial=0)
    finer = second.offset.format.frac_bits - first.bias.format.frac_bits - second.scale.format.frac_bits
    bias = float(np.abs(first.bias.codes).max(initial=0)) * float(scale) * 2.0 ** max(finer, 0)
    weight = float(np.abs(first.weight.codes).max(initial=0)) * float(scale)
    return max(weight, bias + float(offset) * 2.0 ** max(-finer, 0))
