"""Arithmetic with constants, reductions over any axes and slices: what operators and functions of a framework say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction.averages import carried, divided
from flow.frontend.extraction.builder import SPREAD, Builder, Handler, Tensor, array_codes, kernel_codes
from flow.frontend.extraction.contractions import contract, summed
from flow.frontend.extraction.moves import broadcast, gathered, reshaped
from flow.frontend.layers import Layer
from flow.ir.fixed import Cast, Constant, exact_codes, times
from flow.ir.graph import BatchNorm, Dense, MaxPool, Merge, SumPool
from flow.ir.windows import Window


def _affine(builder: Builder, layer: Layer[layers.Affine], inputs: Sequence[Tensor]) -> Tensor:
    """A batch normalization: of the channels, or of all elements in a row where the constants differ between them."""
    tensor = carried(builder, layer, inputs[0])
    rank = len(builder.op(tensor).shape)
    offset = times(_of_a_sample(layer, "offset", rank), tensor.divisor)
    return _scaled(builder, layer, tensor, _of_a_sample(layer, "scale", rank), offset)


def _of_a_sample(layer: Layer[Any], key: str, rank: int) -> Constant:
    """Return a constant that meets a tensor of `rank` axes and the batch: an axis of one is that of the batch."""
    constant = array_codes(layer, key)
    shape = constant.codes.shape
    if len(shape) > rank + 1 or (len(shape) == rank + 1 and shape[0] != 1):
        remedy = f"give one of {rank} axes at most"
        raise UnsupportedError(f"a constant of shape {shape} is not the same for every sample", remedy=remedy)
    return Constant(constant.codes[0], constant.format) if len(shape) > rank else constant


def _scaled(
    builder: Builder, layer: Layer[Any], tensor: Tensor, scale: Constant, offset: Constant, suffix: str = ""
) -> Tensor:
    shape = np.broadcast_shapes(builder.op(tensor).shape, scale.codes.shape, offset.codes.shape)
    tensor = broadcast(builder, layer, tensor, shape)
    by_channel = all(math.prod(constant.codes.shape[:-1]) == 1 for constant in (scale, offset))
    values: dict[str, Any] = {}
    for name, constant in (("scale", scale), ("offset", offset)):
        own, spread = (constant.codes.reshape(-1), shape[-1:]) if by_channel else (constant.codes, shape)
        values[name] = Constant(np.broadcast_to(own, spread).reshape(-1), constant.format)
    if not by_channel:
        tensor = reshaped(builder, layer, tensor, (math.prod(shape),), "_row")
    out = builder.add(BatchNorm, layer, [tensor], builder.op(tensor).shape, suffix=suffix, fused=("scale",), **values)
    out = replace(out, divisor=tensor.divisor)
    return out if by_channel else reshaped(builder, layer, out, shape, "_shaped")


def _bound(builder: Builder, layer: Layer[layers.Bound], inputs: Sequence[Tensor]) -> Tensor:
    """The larger or smaller of the input and a tensor that is the same for any input: nothing of it, plus the bound."""
    tensor = builder.plain(layer, inputs[0])
    for function, key in BOUNDS[layer.settings.function]:
        bound = _of_a_sample(layer, key, len(builder.op(tensor).shape))
        zero = Constant.zeros(1)
        other = _scaled(builder, layer, tensor, zero, bound, suffix=f"_{key}")
        shape = builder.op(other).shape
        spread = broadcast(builder, layer, tensor, shape)
        tensor = builder.add(Merge, layer, [spread, other], shape, function=function, fused=(function,))
    return tensor


BOUNDS = {
    "maximum": (("maximum", "bound"),),
    "minimum": (("minimum", "bound"),),
    "clip": (("minimum", "high"), ("maximum", "low")),
}
"""Function -> the merges that it is, each with the name of its constant."""


def _slice(builder: Builder, layer: Layer[layers.Slice], inputs: Sequence[Tensor]) -> Tensor:
    tensor = divided(builder, layer, inputs[0])
    x = builder.op(tensor)
    index = np.arange(math.prod(x.shape)).reshape(1, *x.shape)[layer.settings.parts][0]
    if index.ndim == 0 or index.size == 0:
        raise UnsupportedError(f"leaves nothing of its input of shape {x.shape}", remedy="keep an axis: x[:, 0:1]")
    if np.array_equal(index.reshape(-1), np.arange(math.prod(x.shape))):
        return reshaped(builder, layer, tensor, index.shape)
    return gathered(builder, layer, tensor, index, "slice")


def _reduce(builder: Builder, layer: Layer[layers.Reduce], inputs: Sequence[Tensor]) -> Tensor:
    """A pooling of all of a sequence, whose elements are what is reduced and whose channels are the rest."""
    settings = layer.settings
    whole = settings.function == "maximum"
    tensor = divided(builder, layer, inputs[0]) if whole else carried(builder, layer, inputs[0])
    shape = builder.op(tensor).shape
    axes = sorted({(axis if axis < 0 else axis - 1) % len(shape) for axis in settings.axes})
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    left = kept if settings.keepdims else tuple(shape[axis] for axis in rest)
    if not left:
        raise UnsupportedError("leaves no axis of a sample", remedy="give keepdims=True")
    if axes != list(range(len(axes))):
        index = np.arange(math.prod(shape)).reshape(shape).transpose(*axes, *rest)
        tensor = gathered(builder, layer, tensor, index, "transpose", "_ordered")
    count = math.prod(shape[axis] for axis in axes)
    rows = reshaped(builder, layer, tensor, (count, math.prod(shape) // count), "_rows")
    pooled = _pooled(builder, layer, rows)
    return reshaped(builder, layer, pooled, left, "_shaped")


def _pooled(builder: Builder, layer: Layer[layers.Reduce], rows: Tensor) -> Tensor:
    """Reduce a sequence to one row."""
    x, function = builder.op(rows), layer.settings.function
    count, channels = x.shape
    window = Window((count,), (count,), ((0, 0),))
    if function == "maximum":
        out = builder.add(MaxPool, layer, [rows], (1, channels), Cast(x.format), window=window)
        return replace(out, divisor=rows.divisor)
    halves = count & -count if function == "average" else 1
    weight = exact_codes(np.full((1,), 1 / halves))
    out = builder.add(SumPool, layer, [rows], (1, channels), fused=(function,), window=window, weight=weight)
    return replace(out, divisor=rows.divisor * (count // halves if function == "average" else 1))


def _interpolate(builder: Builder, layer: Layer[layers.Interpolate], inputs: Sequence[Tensor]) -> Tensor:
    """Averages of pixels, each as often as it counts: of 2 * factor along each axis, those of the two nearest ones."""
    tensor = carried(builder, layer, inputs[0])
    shape = builder.op(tensor).shape
    index = np.arange(math.prod(shape)).reshape(shape)
    for axis, factor in enumerate(layer.settings.factors):
        index = np.take(index, nearest_pixels(shape[axis], factor), 2 * axis)
    made, channels = index.shape[:-1:2], shape[-1]
    index = np.moveaxis(index, range(1, 2 * len(made), 2), range(len(made), 2 * len(made)))
    steps = index.size // (math.prod(made) * channels)
    if index.size > SPREAD:
        raise UnsupportedError(f"reads {index.size} pixels", remedy=f"at most {SPREAD} are read: use a smaller size")
    rows = gathered(builder, layer, tensor, index.reshape(-1, steps, channels), "repeat", "_near")
    pixels = replace(summed(builder, layer, rows, "bilinear", 1 / steps), divisor=tensor.divisor)
    return reshaped(builder, layer, pixels, (*made, channels))


def nearest_pixels(size: int, factor: int) -> NDArray[np.int64]:
    """Return for each of `size * factor` pixels between pixels those whose average it is, (pixels, 2 * factor).

    Source: `tf.image.resize` with half-pixel centers: the pixel i lies at (i + 1/2) / factor - 1/2.
    """
    place = 2 * np.arange(size * factor) + 1 - factor  # in halves of a factor of a pixel
    lower, part = np.divmod(place, 2 * factor)
    upper = np.arange(2 * factor) < part[:, None]
    return np.asarray(np.clip(lower[:, None] + upper, 0, size - 1), np.int64)


def _product(builder: Builder, layer: Layer[layers.Product], inputs: Sequence[Tensor]) -> Tensor:
    """A dense layer without a bias; along the last axis but one where the matrix stands before the tensor."""
    tensor, weight = carried(builder, layer, inputs[0]), kernel_codes(layer, 2)
    if layer.settings.before:
        tensor = _turned(builder, layer, tensor, "_turned")
    x = builder.op(tensor).shape
    if weight.codes.shape[0] != x[-1]:
        raise UnsupportedError(f"matrix {weight.codes.shape} does not fit its input of shape {x}")
    units = weight.codes.shape[1]
    suffix = "_products" if layer.settings.before else ""
    out = builder.add(
        Dense, layer, [tensor], (*x[:-1], units), suffix=suffix, weight=weight, bias=Constant.zeros(units)
    )
    out = replace(out, divisor=tensor.divisor)
    return _turned(builder, layer, out, "") if layer.settings.before else out


def _turned(builder: Builder, layer: Layer[Any], tensor: Tensor, suffix: str) -> Tensor:
    """Exchange the last two axes."""
    shape = builder.op(tensor).shape
    if len(shape) < 2:
        raise UnsupportedError(f"multiplies a matrix by a tensor of shape {shape}", remedy="give it two axes")
    index = np.arange(math.prod(shape)).reshape(shape).swapaxes(-1, -2)
    return gathered(builder, layer, tensor, index, "transpose", suffix)


def _matmul(builder: Builder, layer: Layer[layers.MatMul], inputs: Sequence[Tensor]) -> Tensor:
    ranks = [len(builder.op(tensor).shape) for tensor in inputs]
    if min(ranks) < 2 or ranks[0] != ranks[1]:
        raise UnsupportedError(
            f"multiplies tensors of {ranks[0]} and {ranks[1]} axes", remedy="give them as many, 2 or more"
        )
    many = ascii_uppercase[: ranks[0] - 2]
    terms = [
        term[::-1] if turned else term for term, turned in zip(("ij", "jk"), layer.settings.transposes, strict=True)
    ]
    return contract(builder, layer, inputs, f"{many}{terms[0]},{many}{terms[1]}->{many}ik")


def _embedding(builder: Builder, layer: Layer[layers.Embedding], inputs: Sequence[Tensor]) -> Tensor:
    """Rows of the table, looked up for the codes, each repeated for every channel."""
    tensor, table = builder.plain(layer, inputs[0]), array_codes(layer, "table")
    x = builder.op(tensor)
    index = np.arange(math.prod(x.shape)).reshape(x.shape)[..., None].repeat(table.codes.shape[-1], -1)
    spread = gathered(builder, layer, tensor, index, "repeat", "_spread")
    return builder.embedded(layer, spread, table)


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Affine: _affine,
    layers.Bound: _bound,
    layers.Slice: _slice,
    layers.Reduce: _reduce,
    layers.Product: _product,
    layers.MatMul: _matmul,
    layers.Embedding: _embedding,
    layers.Interpolate: _interpolate,
}
