"""Baselines: each tensor's fraction bits chosen by itself, with the candidates and the arithmetic of the joint search.

independent   weights by the module's float output, everything else in floats; bias and output by their own error
mse           each by its own squared error
minmax        what covers each range
percentile    the same, of all but `1 - PERCENTILE` of an output's values
kl            outputs by the divergence of their histogram from its quantized form, as TensorRT does; weights cover
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow.quantization.candidates import WeightCodes, code_range, covering_frac_bits, output_format
from flow.quantization.evaluation import evaluate, over_batches
from flow.quantization.floats import FloatOp, Reals
from flow.quantization.search import (
    Choice,
    Parameters,
    Task,
    candidate_parameters,
    choice_error,
    search,
    squared_errors,
    tail,
)

PERCENTILE = 99.99
BINS = 2048


def choose(task: Task) -> Choice:
    """Return the choice for a module by the rule that the settings name: the joint search, or a baseline."""
    rule = task.settings.choose
    if rule == "joint":
        return search(task)
    parameters = {op.name: _parameters(task, op) for op in task.module.weighted}
    frac_bits = task.fixed_frac_bits
    if frac_bits is None:
        frac_bits = OUTPUTS[rule](task)
    fmt = output_format(frac_bits, task.bits, task.module.signed)
    choice = Choice(parameters=parameters, format=fmt, error=0.0, tried=1)
    return replace(choice, error=choice_error(task, choice))


def _parameters(task: Task, op: FloatOp) -> Parameters:
    """Return weights and bias of one op, each chosen by itself."""
    rule, candidates = task.settings.choose, task.weights[op.name]
    rows = candidate_parameters(task, op)
    covers = task.settings.offsets.index(0)
    if rule in ("mse", "independent"):
        factor, addend = op.numbers
        errors = _output_errors(task, op) if rule == "independent" else _weight_errors(factor, candidates)
        if not task.settings.per_channel:
            errors = np.broadcast_to(errors.sum(axis=1, keepdims=True), errors.shape)
        chosen = errors.argmin(axis=0)
        bias = int(np.argmin([np.square(tried.bias_values - addend).sum() for tried in rows[covers]]))
    else:
        chosen, bias = np.full(op.channels, covers), covers
    return Parameters.picked([row[bias] for row in rows], chosen)


def _weight_errors(weight: Reals, candidates: Sequence[WeightCodes]) -> Reals:
    """Return the squared error of weights: (candidates, channels)."""
    flat = [np.square(candidate.values - weight).reshape(-1, weight.shape[-1]).sum(axis=0) for candidate in candidates]
    return np.stack(flat)


def _output_errors(task: Task, op: FloatOp) -> Reals:
    """Return the squared error of the module's result with one op's weights quantized: (candidates, channels)."""

    def errors(part: slice) -> Reals:
        inputs = {name: tensor.values[part] for name, tensor in task.inputs.items()}
        goal = task.target[part].reshape(-1, task.target.shape[-1])
        squared = []
        for candidate in task.weights[op.name]:
            tried = replace(op, factor=candidate.values)
            values = {**inputs, op.name: evaluate(tried, [inputs[op.inputs[0]]], task.functions)}
            off = tail(task, values, np.float32).reshape(goal.shape) - goal
            squared.append(np.square(off, dtype=np.float64).sum(axis=0))
        return np.stack(squared)

    return np.asarray(sum(over_batches(op, len(task.target), errors)))


def _closest(task: Task) -> int:
    outputs = task.output_candidates()
    formats = [output_format(frac_bits, task.bits, task.module.signed) for frac_bits in outputs]
    errors = squared_errors(task.target, task.target, formats, task.settings.rounding)
    return outputs[int(errors.sum(axis=1).argmin())]


def _percentile(task: Task) -> int:
    low, high = np.percentile(task.target, [100 - PERCENTILE, PERCENTILE])
    if low == high == 0:
        return task.fitted_output()
    return int(covering_frac_bits(np.array([low]), np.array([high]), *code_range(task.bits, task.module.signed))[0])


def _divergence(task: Task) -> int:
    """Return the fraction bits with which the histogram of magnitudes diverges least from its quantized form."""
    magnitudes = np.abs(task.target).reshape(-1)
    largest = float(magnitudes.max(initial=0))
    if largest == 0:
        return task.fitted_output()
    counts, edges = np.histogram(magnitudes, BINS, (0, largest))
    levels = code_range(task.bits, task.module.signed)[1] + 1
    outputs = task.output_candidates()
    ends = [np.ldexp(float(levels), -frac_bits) for frac_bits in outputs]
    divergences = [_kl(counts, int(np.clip(np.searchsorted(edges, end), 1, BINS)), levels) for end in ends]
    return outputs[int(np.argmin(divergences))]


def _kl(counts: NDArray[np.int64], kept: int, levels: int) -> float:
    """Return KL(P, Q): P the first bins with all beyond in the last, Q the same bins spread evenly in each level."""
    clipped = counts[:kept].astype(np.float64)
    quantized = clipped.copy()
    clipped[-1] += counts[kept:].sum()
    level = np.minimum(np.arange(kept) * levels // kept, levels - 1)
    filled = quantized > 0
    total = np.bincount(level, quantized, levels)
    share = np.bincount(level, filled, levels)
    spread = np.where(filled, total[level] / np.maximum(share[level], 1), 0)
    p, q = clipped / clipped.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    missed = p[(p > 0) & ~both].sum()  # what Q gives no probability: counted as if it had a very small one
    return float((p[both] * np.log(p[both] / q[both])).sum() + missed * np.log(1e9))


OUTPUTS: Mapping[str, Callable[[Task], int]] = {
    "independent": _closest,
    "mse": _closest,
    "minmax": Task.fitted_output,
    "percentile": _percentile,
    "kl": _divergence,
}
