"""Softmax inside nets and layer normalization: sums, products and step functions, each an op that was there before.

Both work on rows of one code at a time, (rows, steps, 1), so that a stream needs one table and one multiplier for each
of their steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction.activations import later
from flow.frontend.extraction.approximation import on_grid
from flow.frontend.extraction.builder import Builder, Handler, Tensor, array_codes
from flow.frontend.extraction.contractions import summed
from flow.frontend.extraction.moves import broadcast, reshaped
from flow.frontend.layers import Function, Layer
from flow.frontend.step_functions import (
    COARSER_SUM,
    MOST_BITS,
    SMALLEST_EPSILON,
    StepFunction,
    exponential,
    inverse_root,
    mean_weight,
    normalized_integer_bits,
    reciprocal,
)
from flow.ir.fixed import Cast, Constant, FixedFormat, Overflow, Rounding, exact_codes
from flow.ir.graph import BatchNorm, IntGraph, Lookup, MaxPool, Merge, Requantize
from flow.ir.tables import TABLE_INPUT_BITS
from flow.ir.windows import Window


def _softmax(builder: Builder, layer: Layer[layers.StepSoftmax], inputs: Sequence[Tensor]) -> Tensor:
    """Append exponentials of the distances to the largest, times the reciprocal of their sum."""
    bits, tensor = layer.settings.bits, builder.plain(layer, inputs[0])
    x, column = builder.op(tensor), _column(builder, layer, tensor)
    shape = builder.op(column).shape
    steps = shape[1]
    distance = _merged(builder, layer, "subtract", column, _largest(builder, layer, column))
    weight = _stepped(builder, layer, distance, exponential(bits), "exponential")
    fmt = FixedFormat(False, steps.bit_length(), bits - COARSER_SUM)
    total = _rounded(builder, layer, summed(builder, layer, weight, "sum"), fmt)
    inverse = _stepped(builder, layer, total, reciprocal(bits, steps), "reciprocal")
    exact = _merged(builder, layer, "multiply", weight, broadcast(builder, layer, inverse, shape))
    return reshaped(builder, layer, _rounded(builder, layer, exact, FixedFormat(False, 0, bits)), x.shape)


def _layer_norm(builder: Builder, layer: Layer[layers.StepLayerNorm], inputs: Sequence[Tensor]) -> Tensor:
    """Append what is left of the values without their mean, times the inverse root of its mean square."""
    settings, tensor = layer.settings, builder.plain(layer, inputs[0])
    x, column = builder.op(tensor).shape, _column(builder, layer, tensor)
    shape, channels = builder.op(column).shape, x[-1]
    part = mean_weight(channels)
    factor = channels * part
    mean = broadcast(builder, layer, summed(builder, layer, column, "mean", part), shape)
    if factor != 1:
        constants: dict[str, Any] = {"scale": exact_codes(np.array([factor])), "offset": Constant.zeros(1)}
        column = builder.add(BatchNorm, layer, [column], shape, suffix="_scaled", fused=("scale",), **constants)
    exact = _merged(builder, layer, "subtract", column, mean)
    fmt = FixedFormat(True, settings.integer, settings.bits - 1 - settings.integer)
    centered = _rounded(builder, layer, exact, fmt)
    variance = summed(builder, layer, _merged(builder, layer, "multiply", centered, centered), "variance", part)
    function = inverse_root(settings.root_bits, settings.epsilon, 4.0**settings.integer, factor)
    root = broadcast(builder, layer, _stepped(builder, layer, variance, function, "inverse_root"), shape)
    exact = _merged(builder, layer, "multiply", centered, root)
    integer = normalized_integer_bits(channels)
    normal = _rounded(builder, layer, exact, FixedFormat(True, integer, settings.bits - 1 - integer))
    scale, offset = array_codes(layer, "scale"), array_codes(layer, "offset")
    return builder.add(BatchNorm, layer, [reshaped(builder, layer, normal, x, "_shape")], x, scale=scale, offset=offset)


def inner_softmax(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor | None:
    """Append a softmax of floats: its real steps to a float graph, else that of integers; None if nobody asked."""
    activation, tensor = layer.activation, builder.plain(layer, tensor)
    if not isinstance(activation, layers.Softmax) or activation.axis not in (-1, len(builder.op(tensor).shape)):
        return None
    if builder.graph_type is not IntGraph:
        return _real_softmax(builder, layer, tensor, *activation.functions)
    bits = builder.bits_of_floats(layer)
    if bits is None:
        return None
    narrow = builder.op(tensor).format.width <= TABLE_INPUT_BITS
    tensor = tensor if narrow else builder.rounded_to(layer, tensor, TABLE_INPUT_BITS)
    settings = layers.StepSoftmax(bits=min(bits, MOST_BITS))
    return _softmax(builder, replace(layer, settings=settings), [tensor])


def _real_softmax(
    builder: Builder, layer: Layer[Any], tensor: Tensor, exponential: Function, reciprocal: Function
) -> Tensor:
    """Append exponentials of the distances to the largest, times the reciprocal of their sum, of real numbers."""
    column = _column(builder, layer, tensor)
    shape = builder.op(column).shape
    distance = _merged(builder, layer, "subtract", column, _largest(builder, layer, column))
    weight = builder.plain(layer, later(distance, exponential))
    total = builder.plain(layer, later(summed(builder, layer, weight, "sum"), reciprocal))
    exact = _merged(builder, layer, "multiply", weight, broadcast(builder, layer, total, shape))
    return reshaped(builder, layer, exact, builder.op(tensor).shape)


def _float_layer_norm(builder: Builder, layer: Layer[layers.LayerNorm], inputs: Sequence[Tensor]) -> Tensor:
    """Append the real steps of a layer normalization to a float graph, else the integer one, if it is asked for."""
    settings, tensor = layer.settings, builder.plain(layer, inputs[0])
    shape = builder.op(tensor).shape
    if settings.axis not in (-1, len(shape)):
        raise UnsupportedError(f"normalizes axis {settings.axis}", remedy="only the last one is supported")
    if builder.graph_type is not IntGraph:
        return _real_layer_norm(builder, layer, tensor)
    bits = builder.bits_of_floats(layer)
    if bits is None:
        remedy = "use FixedLayerNormalization of flow.train.attention, or take it rounded on request: --float-layers 12"
        raise UnsupportedError("computes with floats", remedy=remedy)
    values = builder.on_samples(tensor)
    largest = float(np.abs(values - values.mean(-1, keepdims=True)).max()) * shape[-1] * mean_weight(shape[-1])
    made = layers.StepLayerNorm(
        bits=min(bits, MOST_BITS),
        integer=max(-MOST_BITS, min(math.ceil(math.log2(max(largest, SMALLEST_EPSILON))), MOST_BITS)),
        root_bits=min(bits, MOST_BITS),
        epsilon=min(max(settings.epsilon, SMALLEST_EPSILON), 1.0),
    )
    arrays = {key: on_grid(layer.arrays[key], bits) for key in ("scale", "offset")}
    whole: Layer[Any] = layer
    return _layer_norm(builder, replace(whole, settings=made, arrays=arrays), [tensor])


def _real_layer_norm(builder: Builder, layer: Layer[layers.LayerNorm], tensor: Tensor) -> Tensor:
    """Append what is left of the values without their mean, times the inverse root of its mean square."""
    x, column = builder.op(tensor).shape, _column(builder, layer, tensor)
    shape = builder.op(column).shape

    def mean(values: Tensor, word: str) -> Tensor:
        return replace(summed(builder, layer, values, word), divisor=shape[1])

    average = broadcast(builder, layer, builder.plain(layer, mean(column, "mean")), shape)
    centered = _merged(builder, layer, "subtract", column, average)
    variance = mean(_merged(builder, layer, "multiply", centered, centered), "variance")
    root = builder.plain(layer, later(variance, layer.settings.root))
    normal = _merged(builder, layer, "multiply", centered, broadcast(builder, layer, root, shape))
    scale, offset = array_codes(layer, "scale"), array_codes(layer, "offset")
    return builder.add(BatchNorm, layer, [reshaped(builder, layer, normal, x, "_shape")], x, scale=scale, offset=offset)


def _largest(builder: Builder, layer: Layer[Any], column: Tensor) -> Tensor:
    """Append the largest value of each row, repeated along it."""
    x = builder.op(column)
    rows, steps, _ = x.shape
    window = Window((1, steps), (1, steps), ((0, 0), (0, 0)))
    values: dict[str, Any] = {"suffix": "_largest", "window": window, "fused": ("maximum",)}
    largest = builder.add(MaxPool, layer, [column], (rows, 1, 1), Cast(x.format), **values)
    return broadcast(builder, layer, largest, x.shape)


def _column(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return the values of the last axis one behind the other: (rows, steps, 1)."""
    shape = builder.op(tensor).shape
    return reshaped(builder, layer, tensor, (math.prod(shape[:-1]), shape[-1], 1), "_shape")


def _merged(builder: Builder, layer: Layer[Any], function: str, *tensors: Tensor) -> Tensor:
    shape = builder.op(tensors[0]).shape
    return builder.add(Merge, layer, tensors, shape, suffix=f"_{function}", function=function, fused=(function,))


def _rounded(builder: Builder, layer: Layer[Any], tensor: Tensor, fmt: FixedFormat) -> Tensor:
    """Append a cast that rounds half to even and saturates."""
    cast = Cast(fmt, Rounding.RND_CONV, Overflow.SAT)
    return builder.add(Requantize, layer, [tensor], builder.op(tensor).shape, cast, suffix="_rounded")


def _stepped(builder: Builder, layer: Layer[Any], tensor: Tensor, function: StepFunction, word: str) -> Tensor:
    """Append a step function of a tensor: of each start, the first code that is not below it."""
    x = builder.op(tensor)
    codes = np.ceil(np.ldexp(function.starts.astype(np.float64), x.format.frac_bits))
    starts = np.append(x.format.min_code, np.clip(codes, x.format.min_code, x.format.max_code + 1)).astype(np.int64)
    kept = np.append(starts[1:] > starts[:-1], True) & (starts <= x.format.max_code)
    values = exact_codes(function.values[kept])
    return builder.add(
        Lookup,
        layer,
        [tensor],
        x.shape,
        Cast(values.format),
        suffix=f"_{word}",
        starts=starts[kept],
        values=values.codes,
        fused=(word,),
    )


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.StepSoftmax: _softmax,
    layers.StepLayerNorm: _layer_norm,
    layers.LayerNorm: _float_layer_norm,
}
