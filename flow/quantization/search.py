"""The joint search of one module: fraction bits of weights, bias and output that reconstruct its float output best.

Every candidate is computed as the hardware will: exact sums of quantized inputs and weights, one rounding, one clamp.
The squared error to the float output is kept apart by output channel, so that with fraction bits per channel the best
of all combinations is found too: channels share nothing but bias and output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.frontend.base import Evaluate
from flow.ir.fixed import Codes, FixedFormat, Rounding
from flow.ir.graph import LeakyRelu
from flow.quantization.candidates import (
    WeightCodes,
    code_range,
    covering_frac_bits,
    output_format,
    quantize_values,
    weight_candidates,
)
from flow.quantization.evaluation import Floats, Reach, evaluate, over_batches, reach_after
from flow.quantization.floats import FloatOp, Function, Reals
from flow.quantization.modules import Module
from flow.quantization.settings import LayerSettings, QuantSettings

PIECE_VALUES = 1 << 16
"""Values whose errors are computed at a time: what stays in a core's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A quantized tensor: values float32 (samples, *shape) on the grid of `format`."""

    values: Floats
    format: FixedFormat


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """Weights and bias of one op, chosen.

    Attributes:
        weight: its weights as codes.
        bias: int64 (channels,), codes with `bias_frac_bits` fraction bits.
    """

    weight: WeightCodes
    bias: Codes
    bias_frac_bits: int

    def put_into(self, op: FloatOp) -> FloatOp:
        """Return the op with the values of the codes in it."""
        return replace(op, factor=self.weight.values, addend=self.bias_values)

    @property
    def bias_values(self) -> Reals:
        """What the codes of the bias stand for."""
        return np.ldexp(self.bias.astype(np.float64), -self.bias_frac_bits)

    @classmethod
    def picked(cls, candidates: Sequence[Parameters], chosen: Codes) -> Parameters:
        """Return for each channel the weights and bias of the candidate chosen for it; all share the bias' grid."""
        first = candidates[0]
        bias = np.stack([candidate.bias for candidate in candidates])[chosen, np.arange(len(first.bias))]
        weight = first.weight.picked([candidate.weight for candidate in candidates], chosen)
        return cls(weight=weight, bias=bias, bias_frac_bits=first.bias_frac_bits)


Rows = tuple[tuple[Parameters, ...], ...]
"""Weights and bias of an op, by candidate of its weights and candidate of its bias."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What was chosen for a module.

    Attributes:
        parameters: op -> its weights and bias.
        format: of its output.
        error: squared error of its output, over the squared float output; 0 to 1 if it is any good.
        tried: how many combinations of candidates were compared.
    """

    parameters: Mapping[str, Parameters]
    format: FixedFormat
    error: float
    tried: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """A module with all that its search sees.

    Attributes:
        module: the module.
        inputs: the quantized tensors that it reads.
        target: its float output, float32 (samples, *shape).
        results: op with weights -> its float result, float32 (samples, *shape).
        settings, own: of the model and of this module; `own` has no None.
        bits: width of its output.
        fixed_frac_bits: fraction bits of its output, if they are decided; else None.
        functions: computes functions.
    """

    module: Module
    inputs: Mapping[str, Quantized]
    target: Floats
    results: Mapping[str, Floats]
    settings: QuantSettings
    own: LayerSettings
    bits: int
    fixed_frac_bits: int | None
    functions: Evaluate
    weights: Mapping[str, tuple[WeightCodes, ...]] = field(init=False)

    def __post_init__(self) -> None:
        own, offsets = self.own, self.settings.offsets
        assert own.weight_bits is not None and own.weights is not None
        candidates = {}
        for op in self.module.weighted:
            candidates[op.name] = weight_candidates(
                op.numbers[0], own.weight_bits, own.weights, self.settings.per_channel, offsets
            )
        object.__setattr__(self, "weights", candidates)

    def output_candidates(self) -> tuple[int, ...]:
        """Return fraction bits for the output."""
        if self.fixed_frac_bits is not None:
            return (self.fixed_frac_bits,)
        fit = self.fitted_output()
        return tuple(fit + offset for offset in self.settings.offsets)

    def fitted_output(self) -> int:
        """Return the fraction bits that cover the float output."""
        low, high = self.target.min(keepdims=True).reshape(-1), self.target.max(keepdims=True).reshape(-1)
        return int(covering_frac_bits(low, high, *code_range(self.bits, self.module.signed))[0])

    def bias_of(self, op: FloatOp, weight: WeightCodes) -> Reals:
        """Return the real bias of an op with these weights: corrected for their mean error, if that is asked for."""
        _, bias = op.numbers
        if not self.settings.bias_correction:
            return bias
        got = replace(op, factor=weight.values)
        x, goal = self.inputs[op.inputs[0]].values, self.results[op.name]

        def lacking(part: slice) -> Reals:
            return _channel_sums(goal[part]) - _channel_sums(evaluate(got, [x[part]], self.functions))

        total = sum(over_batches(op, len(x), lacking))
        return np.asarray(bias + total / (goal.size // goal.shape[-1]))

    def bias_candidates(self, op: FloatOp, biases: Sequence[Reals]) -> tuple[int, ...]:
        """Return fraction bits for the bias of an op: none finer than its sums."""
        largest = np.abs(np.stack(biases)).max(keepdims=True).reshape(1)
        fit = int(covering_frac_bits(-largest, largest, *code_range(self.settings.bias_bits, True))[0])
        weight = self.weights[op.name][self.settings.offsets.index(0)]
        sums = self.inputs[op.inputs[0]].format.frac_bits + weight.finest
        return tuple(min(fit + offset, sums) for offset in self.settings.offsets)


def _channel_sums(values: Floats) -> Reals:
    return np.asarray(values.reshape(-1, values.shape[-1]).sum(axis=0, dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """The candidates of a module, and the squared errors of all their combinations.

    Attributes:
        ops: its ops with weights.
        parameters: op -> weights candidate -> bias candidate -> what that is.
        outputs: fraction bits of the output.
        errors: float64 (weights candidates of each op..., bias, output, channels).
    """

    ops: tuple[str, ...]
    parameters: Mapping[str, Rows]
    outputs: tuple[int, ...]
    errors: Reals


def search(task: Task) -> Choice:
    """Return the best combination of candidates for a module, by the squared error of its output.

    With fraction bits per channel, each channel has its own candidate for its weights.
    """
    grid = error_grid(task)
    axes = len(grid.ops)
    flat = grid.errors.reshape(-1, *grid.errors.shape[axes:])  # (combinations of weights, bias, output, channels)
    if task.settings.per_channel:
        total = flat.min(axis=0).sum(axis=-1)
        bias, output = np.unravel_index(int(total.argmin()), total.shape)
        chosen = flat[:, bias, output].argmin(axis=0)
    else:
        total = flat.sum(axis=-1)
        combination, bias, output = np.unravel_index(int(total.argmin()), total.shape)
        chosen = np.full(flat.shape[-1], combination)
    picks = np.unravel_index(chosen, grid.errors.shape[:axes]) if axes else ()
    parameters = {
        name: Parameters.picked([row[bias] for row in grid.parameters[name]], pick)
        for name, pick in zip(grid.ops, picks, strict=True)
    }
    squared = float(np.take_along_axis(flat[:, bias, output], chosen[np.newaxis], axis=0).sum())
    fmt = output_format(grid.outputs[output], task.bits, task.module.signed)
    return Choice(parameters=parameters, format=fmt, error=relative(squared, task), tried=int(np.prod(flat.shape[:-1])))


def relative(squared: float, task: Task) -> float:
    """Return a squared error divided by the squared float output; undivided where that output is zero."""
    largest = float(np.square(task.target, dtype=np.float64).sum())
    return squared / largest if largest > 0 else squared


def error_grid(task: Task) -> Grid:
    """Return the squared error of every combination of candidates."""
    parameters = _without_repeats({op.name: candidate_parameters(task, op) for op in task.module.weighted})
    outputs = task.output_candidates()
    ops = tuple(parameters)
    biases = len(next(iter(parameters.values()))[0]) if parameters else 1
    shape = (*map(len, parameters.values()), biases, len(outputs), task.target.shape[-1])
    formats = [output_format(frac_bits, task.bits, task.module.signed) for frac_bits in outputs]

    carrier = exact_carrier(task, {name: [tried for row in rows for tried in row] for name, rows in parameters.items()})

    def errors(part: slice) -> Reals:
        squared = np.empty(shape)
        for index, values in _results(task, parameters, carrier, part):
            squared[index] = squared_errors(values, task.target[part], formats, task.settings.rounding)
        return squared

    total = sum(over_batches(_widest(task.module), len(task.target), errors))
    return Grid(ops=ops, parameters=parameters, outputs=outputs, errors=np.asarray(total))


def _without_repeats(parameters: dict[str, Rows]) -> dict[str, Rows]:
    """Leave out candidates of the biases that are the same for every op: those that would be finer than the sums."""
    grids = zip(*([tried.bias_frac_bits for tried in rows[0]] for rows in parameters.values()), strict=True)
    first = {grid: number for number, grid in reversed(list(enumerate(grids)))}
    kept = sorted(first.values())
    return {name: tuple(tuple(row[number] for number in kept) for row in rows) for name, rows in parameters.items()}


def candidate_parameters(task: Task, op: FloatOp) -> Rows:
    """Return weights and bias of an op for every candidate of its weights and every one of its bias."""
    weights = task.weights[op.name]
    biases = [task.bias_of(op, weight) for weight in weights]
    fractions = task.bias_candidates(op, biases)
    bits = task.settings.bias_bits
    return tuple(
        tuple(
            Parameters(weight=weight, bias=quantize_values(bias, frac_bits, bits), bias_frac_bits=frac_bits)
            for frac_bits in fractions
        )
        for weight, bias in zip(weights, biases, strict=True)
    )


def _results(task: Task, parameters: Mapping[str, Rows], carrier: type[Any], part: slice) -> Any:
    """Yield the exact result of a module for every combination of weights and bias, with its place in the grid."""
    ops = task.module.weighted
    biases = len(next(iter(parameters.values()))[0]) if parameters else 1
    inputs = {name: tensor.values[part] for name, tensor in task.inputs.items()}
    sums = {}
    for op in ops:  # without bias: one sum of products for all biases
        for number, row in enumerate(parameters[op.name]):
            bare = replace(row[0].put_into(op), addend=np.zeros_like(op.addend))
            sums[op.name, number] = evaluate(bare, [inputs[op.inputs[0]]], task.functions, carrier)
    for numbers in product(*(range(len(parameters[op.name])) for op in ops)):
        for bias in range(biases):
            values: dict[str, Floats] = dict(inputs)
            for op, number in zip(ops, numbers, strict=True):
                chosen = parameters[op.name][number][bias]
                values[op.name] = sums[op.name, number] + chosen.bias_values.astype(carrier)
            yield (*numbers, bias), tail(task, values, carrier)


def choice_error(task: Task, choice: Choice) -> float:
    """Return the relative squared error of a module's output with a choice, computed anew."""
    off = chosen_codes(task, choice) * np.float32(choice.format.step) - task.target
    return relative(float(np.square(off, dtype=np.float64).sum()), task)


def chosen_codes(task: Task, choice: Choice) -> Floats:
    """Return the output codes of a module, float32 (samples, *shape)."""
    parameters, fmt = choice.parameters, choice.format
    carrier = exact_carrier(task, {name: (chosen,) for name, chosen in parameters.items()})
    codes = np.empty_like(task.target)

    def fill(part: slice) -> None:
        values = {name: tensor.values[part] for name, tensor in task.inputs.items()}
        for op in task.module.weighted:
            chosen = parameters[op.name].put_into(op)
            values[op.name] = evaluate(chosen, [values[op.inputs[0]]], task.functions, carrier)
        codes[part] = cast(tail(task, values, carrier), fmt, task.settings.rounding)

    over_batches(_widest(task.module), len(codes), fill)
    return codes


def tail(task: Task, values: dict[str, Floats], carrier: type[Any]) -> Floats:
    """Return the result of a module, given its inputs and the results of its ops with weights."""
    for op in task.module.ops:
        if op.name not in values:
            values[op.name] = evaluate(op, [values[name] for name in op.inputs], task.functions, carrier)
    return values[task.module.point.name]


def exact_carrier(task: Task, parameters: Mapping[str, Sequence[Parameters]]) -> type[Any]:
    """Return the float type in which all ops of a module are exact, for all inputs of their formats.

    Raises:
        UnsupportedError: none is.
    """
    reaches = {name: Reach.of(tensor.format) for name, tensor in task.inputs.items()}
    widest: type[Any] = np.float32
    for op in task.module.ops:
        if op.divisor != 1:  # a quotient is far enough from a tie that it is no tie by mistake
            widest = np.float64
        if isinstance(op.op, Function):
            continue
        inputs = [reaches[name] for name in op.inputs]
        own = [
            reach_after(tried.put_into(op), inputs, tried.weight.finest, tried.bias_frac_bits)
            for tried in parameters.get(op.name, ())
        ] or [reach_after(op, inputs, slope_frac_bits(op), 0)]
        reaches[op.name] = Reach(max(reach.frac_bits for reach in own), max(reach.largest for reach in own))
        if reaches[op.name].carrier(task.module.name) is np.float64:
            widest = np.float64
    return widest


def slope_frac_bits(op: FloatOp) -> int:
    """Return the fraction bits of the slopes of a leaky ReLU; 0 for other ops."""
    return op.op.slope.format.frac_bits if isinstance(op.op, LeakyRelu) else 0


def _widest(module: Module) -> FloatOp:
    """Return the op whose arrays decide how many samples make a batch."""
    weighted = module.weighted
    return max(weighted, key=lambda op: int(np.prod(op.op.shape))) if weighted else module.point


def squared_errors(
    values: Floats, target: Floats, formats: Sequence[FixedFormat], rounding: Rounding
) -> NDArray[np.float64]:
    """Return the squared errors of values rounded to formats: float64 (formats, channels)."""
    flat, goal = values.reshape(-1, values.shape[-1]), target.reshape(-1, target.shape[-1])
    rows = max(1, PIECE_VALUES // flat.shape[-1])
    sums = np.zeros((len(formats), flat.shape[-1]))
    for at in range(0, len(flat), rows):
        for number, fmt in enumerate(formats):
            error = cast(flat[at : at + rows], fmt, rounding)
            error -= goal[at : at + rows] * goal.dtype.type(np.ldexp(1.0, fmt.frac_bits))
            sums[number] += np.einsum("ij,ij->j", error, error)
    return sums * np.ldexp(1.0, [[-2 * fmt.frac_bits] for fmt in formats])


def cast(values: Floats, fmt: FixedFormat, rounding: Rounding) -> Floats:
    """Return the codes of values in a format, rounded and clamped, as floats: a new array."""
    scaled: Floats = values * values.dtype.type(np.ldexp(1.0, fmt.frac_bits))
    ROUNDERS[rounding](scaled)
    np.maximum(scaled, fmt.min_code, out=scaled)
    np.minimum(scaled, fmt.max_code, out=scaled)
    return scaled


def _floor(x: Floats, more: float = 0.0) -> None:
    x += x.dtype.type(more)
    np.floor(x, out=x)


def _ceil(x: Floats, less: float) -> None:
    x -= x.dtype.type(less)
    np.ceil(x, out=x)


def _away(x: Floats) -> None:
    magnitude = np.abs(x)
    _floor(magnitude, 0.5)
    np.copysign(magnitude, x, out=x)


def _towards(x: Floats) -> None:
    magnitude = np.abs(x)
    _ceil(magnitude, 0.5)
    np.copysign(magnitude, x, out=x)


ROUNDERS: Mapping[Rounding, Callable[[Floats], object]] = {
    Rounding.TRN: _floor,
    Rounding.TRN_ZERO: lambda x: np.trunc(x, out=x),
    Rounding.RND: lambda x: _floor(x, 0.5),
    Rounding.RND_MIN_INF: lambda x: _ceil(x, 0.5),
    Rounding.RND_INF: _away,
    Rounding.RND_ZERO: _towards,
    Rounding.RND_CONV: lambda x: np.rint(x, out=x),
}
"""How scaled values are rounded, in place; exact, since `Reach` keeps halves of a step representable."""
