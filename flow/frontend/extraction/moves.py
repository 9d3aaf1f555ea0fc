"""Several tensors into one, and one with its codes at other places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend.extraction.activations import later
from flow.frontend.extraction.builder import Builder, Handler, Layer, Tensor, spatial_axes
from flow.ir.fixed import Codes
from flow.ir.graph import Gather, Merge, Reshape, Shape


def _merge(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensors = [builder.plain(layer, tensor) for tensor in inputs]
    shape = np.broadcast_shapes(*(builder.op(tensor).shape for tensor in tensors))
    spread = [_broadcast(builder, layer, tensor, shape) for tensor in tensors]
    average = layer.class_name == "Average"
    function = "add" if average else layer.class_name.lower()
    out = spread[0]
    if len(spread) > 1:
        fused = ("average",) if average else (function,)
        out = builder.add(Merge, layer, spread, shape, function=function, fused=fused)
    count = len(spread)
    if not average or count == 1:
        return out
    if count & (count - 1):  # QKeras multiplies by 1 / count in float32: a table tells its ties
        return later(out, "Average", {"count": count})
    return replace(out, divisor=count)


def _broadcast(builder: Builder, layer: Layer, tensor: Tensor, shape: Shape) -> Tensor:
    x = builder.op(tensor)
    if x.shape == shape:
        return tensor
    index = np.broadcast_to(np.arange(math.prod(x.shape)).reshape(x.shape), shape).copy()
    return builder.add(Gather, layer, [tensor], shape, suffix="_spread", index=index, fused=("broadcast",))


def _concatenate(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensors = [builder.plain(layer, tensor) for tensor in inputs]
    positions, start = [], 0
    for tensor in tensors:
        shape = builder.op(tensor).shape
        positions.append(start + np.arange(math.prod(shape)).reshape(shape))
        start += math.prod(shape)
    axis = int(layer.config.get("axis", -1))
    if axis == 0:
        raise UnsupportedError("joins samples (axis=0)", remedy="only axes of one sample are supported")
    index = np.concatenate(positions, axis if axis < 0 else axis - 1)
    return builder.add(Gather, layer, tensors, index.shape, index=index, fused=("concatenate",))


def _reshape(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    layer.only("data_format", "channels_last")
    tensor = inputs[0]
    x = builder.op(tensor)
    shape: Shape = (math.prod(x.shape),)
    if layer.class_name == "Reshape":
        given = [int(size) for size in layer.config["target_shape"]]
        known = math.prod(size for size in given if size != -1)
        shape = tuple(math.prod(x.shape) // known if size == -1 else size for size in given)
    if math.prod(shape) != math.prod(x.shape):
        raise UnsupportedError(f"target_shape {shape} does not hold its input of shape {x.shape}")
    out = builder.add(Reshape, layer, [tensor], shape, x.format, fused=(layer.class_name.lower(),))
    return replace(out, divisor=tensor.divisor, functions=tensor.functions)


def _move(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """Pad, crop, repeat or transpose: what the layer does to an array of positions, it does to the codes."""
    layer.only("data_format", "channels_last")
    tensor, x = inputs[0], builder.op(inputs[0])
    if tensor.functions:
        tensor = builder.plain(layer, tensor)
        x = builder.op(tensor)
    index = MOVES[layer.class_name](layer, np.arange(math.prod(x.shape)).reshape(x.shape))
    if index.size == 0:
        raise UnsupportedError(f"leaves nothing of its input of shape {x.shape}")
    out = builder.add(Gather, layer, [tensor], index.shape, index=index, fused=(layer.class_name.lower(),))
    return replace(out, divisor=tensor.divisor)


def _padded(layer: Layer, index: Codes) -> Codes:
    return np.pad(index, [*_margins(layer, "padding"), (0, 0)], constant_values=-1)


def _cropped(layer: Layer, index: Codes) -> Codes:
    margins = zip(index.shape, _margins(layer, "cropping"), strict=False)
    return index[tuple(slice(before, size - after) for size, (before, after) in margins)]


def _margins(layer: Layer, key: str) -> list[tuple[int, int]]:
    """Return (before, after) per axis: Keras writes one number, one per axis, or a pair per axis."""
    value, axes = layer.config[key], spatial_axes(layer.class_name)
    if isinstance(value, int):
        return [(value, value)] * axes
    if axes == 1:
        return [(int(value[0]), int(value[1]))]
    pairs = [(each, each) if isinstance(each, int) else each for each in value]
    return [(int(before), int(after)) for before, after in pairs]


def _upsampled(layer: Layer, index: Codes) -> Codes:
    layer.only("interpolation", "nearest")
    for axis, factor in enumerate(layer.spatial("size", 2)):
        index = index.repeat(factor, axis)
    return index


def _permuted(layer: Layer, index: Codes) -> Codes:
    return np.asarray(index.transpose([int(axis) - 1 for axis in layer.config["dims"]]))


def _repeated(layer: Layer, index: Codes) -> Codes:
    return np.asarray(np.tile(index, (int(layer.config["n"]), 1)))


MOVES: Mapping[str, Callable[[Layer, Codes], Codes]] = {
    "ZeroPadding1D": _padded,
    "ZeroPadding2D": _padded,
    "Cropping1D": _cropped,
    "Cropping2D": _cropped,
    "UpSampling1D": _upsampled,
    "UpSampling2D": _upsampled,
    "Permute": _permuted,
    "RepeatVector": _repeated,
}


LAYERS: Mapping[str, Handler] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _merge),
    "Concatenate": _concatenate,
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    **dict.fromkeys(MOVES, _move),
}
