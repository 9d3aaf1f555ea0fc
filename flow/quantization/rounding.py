"""Weights rounded by what they do: each up or down, so that the module's sums come closest to the float ones.

After the idea of AdaRound (Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020): not
the nearest code of a weight matters but the error of the sums that it is part of, where errors of weights cancel. No
gradient is needed: the squared error of a sum is quadratic in its weights, so what one flip does is known exactly, and
weight after weight is flipped as long as that lowers it. What comes out is kept only if the module's output, computed
as the hardware does, is closer to the float output than before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.ir import sums
from flow.ir.fixed import Codes
from flow.ir.graph import Conv, MatMul
from flow.quantization.candidates import WeightCodes, code_range, most_power
from flow.quantization.evaluation import Floats, batches
from flow.quantization.floats import FloatOp, Reals
from flow.quantization.search import Choice, Parameters, Task, choice_error

MOST_PASSES = 8
"""How often all weights are looked at; most flips happen in the first two passes."""


def reconstruct(task: Task, choice: Choice) -> Choice:
    """Return a choice whose weights are rounded by reconstruction, if that lowers the error; else the same."""
    better = choice
    for op in task.module.weighted:
        if not isinstance(op.op, MatMul):
            continue
        chosen = better.parameters[op.name]
        codes = _flipped(task, op, chosen)
        flipped = replace(chosen, weight=replace(chosen.weight, codes=codes))
        tried = replace(better, parameters={**better.parameters, op.name: flipped})
        error = choice_error(task, tried)
        if error < better.error:
            better = replace(tried, error=error)
    return better


def _flipped(task: Task, op: FloatOp, chosen: Parameters) -> Codes:
    """Return the codes of an op's weights after all flips that lower the squared error of its sums."""
    assert isinstance(op.op, MatMul)
    weight = chosen.weight
    low, high = _neighbours(op.numbers[0], weight, task)
    groups = op.op.groups if isinstance(op.op, Conv) else 1
    products = _products(task, op, chosen, groups)
    step = np.ldexp(1.0, -weight.frac_bits).reshape(groups, 1, -1)
    state = _State(
        codes=_by_group(weight.codes, groups).astype(np.float64),
        low=_by_group(low, groups).astype(np.float64),
        high=_by_group(high, groups).astype(np.float64),
        step=step,
        second=products[0],
        first=products[1],
    )
    for _ in range(MOST_PASSES):
        if not state.flip_all():
            break
    return _from_groups(state.codes, weight.codes.shape).astype(np.int64)


def _neighbours(values: Reals, weight: WeightCodes, task: Task) -> tuple[Codes, Codes]:
    """Return the codes just below and just above each weight, within the range of codes."""
    scaled = np.ldexp(values, weight.frac_bits)
    assert task.own.weight_bits is not None
    if task.own.weights == "integer":
        limits = code_range(task.own.weight_bits, True)
        low = np.floor(scaled)
        return tuple(np.clip(codes, *limits).astype(np.int64) for codes in (low, low + 1))  # type: ignore[return-value]
    magnitude, sign = np.abs(scaled), np.where(scaled < 0, -1, 1)
    power = np.ldexp(1.0, np.frexp(magnitude)[1] - 1)  # the largest power of two that is no larger
    largest = most_power(task.own.weight_bits)
    below = np.where(magnitude < 1, 0, np.clip(power, 1, largest))
    above = np.where(magnitude < 1, 1, np.clip(2 * power, 1, largest))
    return (sign * below).astype(np.int64), (sign * above).astype(np.int64)


def _products(task: Task, op: FloatOp, chosen: Parameters, groups: int) -> tuple[Reals, Reals]:
    """Return X'X and X'r: inputs with inputs (groups, k, k), and with what the sums lack (groups, k, filters)."""
    x, goal = task.inputs[op.inputs[0]].values, task.results[op.name]
    assert isinstance(op.op, MatMul)
    size = op.op.weight.codes[..., 0].size
    second = np.zeros((groups, size, size))
    first = np.zeros((groups, size, op.channels // groups))
    values = _by_group(chosen.weight.values, groups)
    bias = chosen.bias_values.reshape(groups, 1, -1)
    for part in batches(op, len(x)):
        rows = _rows(op.op, x[part], groups)
        wanted = goal[part].reshape(-1, groups, op.channels // groups).transpose(1, 0, 2)
        lacking = wanted - bias - rows @ values
        second += rows.transpose(0, 2, 1) @ rows
        first += rows.transpose(0, 2, 1) @ lacking
    return second, first


def _rows(op: MatMul, x: Floats, groups: int) -> Floats:
    """Return what each sum multiplies: (groups, sums, window * channels of a group)."""
    if not isinstance(op, Conv):
        return x.reshape(1, -1, x.shape[-1]).astype(np.float64)
    pixels = sums.padded(x, op.window.pads, 0, np.float64)
    rows = sums.columns(pixels, op.window)
    channels = op.weight.codes.shape[-2]
    split = rows.reshape(len(rows), -1, groups, channels).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(split.reshape(groups, len(rows), -1))


def _by_group(weight: NDArray[np.generic], groups: int) -> Reals:
    """Return weights (*window, channels, filters) as (groups, window * channels, filters of a group)."""
    flat = weight.reshape(-1, groups, weight.shape[-1] // groups)
    return np.ascontiguousarray(flat.transpose(1, 0, 2)).astype(np.float64)


def _from_groups(codes: Reals, shape: tuple[int, ...]) -> Reals:
    return np.asarray(codes.transpose(1, 0, 2).reshape(shape))


@dataclass(slots=True)
class _State:
    """Weights as they are flipped.

    Attributes:
        codes, low, high: (groups, k, filters): what each weight is now, and the two codes that it may be.
        step: value of a code, (groups, 1, filters).
        second: X'X, (groups, k, k).
        first: X' times what the sums lack, (groups, k, filters); kept up to date.
    """

    codes: Reals
    low: Reals
    high: Reals
    step: Reals
    second: Reals
    first: Reals

    def flip_all(self) -> bool:
        """Look at every weight once, all filters side by side; return whether any was flipped."""
        flipped = False
        for k in range(self.codes.shape[1]):
            other = np.where(self.codes[:, k] == self.low[:, k], self.high[:, k], self.low[:, k])
            change = (other - self.codes[:, k]) * self.step[:, 0]  # (groups, filters)
            gain = 2 * change * self.first[:, k] - np.square(change) * self.second[:, k, k, np.newaxis]
            change = np.where(gain > 0, change, 0.0)
            if change.any():
                flipped = True
                self.codes[:, k] = np.where(change != 0, other, self.codes[:, k])
                self.first -= self.second[:, :, k, np.newaxis] * change[:, np.newaxis]
        return flipped
