"""Sums of products: dense, convolutions of all kinds, batch normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend.extraction.activations import activate
from flow.frontend.extraction.builder import (
    SPREAD,
    Builder,
    Constant,
    Handler,
    Layer,
    Tensor,
    spatial_axes,
    window_geometry,
)
from flow.ir.fixed import Codes
from flow.ir.graph import BatchNorm, Conv, Dense, Gather, Shape, windows


def _dense(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0])
    x, (weight, weight_format) = builder.op(tensor), layer.kernel(2)
    if weight.shape[0] != x.shape[-1]:
        raise UnsupportedError(f"kernel {weight.shape} does not fit its input of shape {x.shape}")
    layer.check_outputs(weight.shape[1])
    values: dict[str, Any] = {"weight": weight, "weight_format": weight_format, **layer.bias(weight.shape[1])}
    return activate(builder, layer, builder.add(Dense, layer, [tensor], (*x.shape[:-1], weight.shape[1]), **values))


def _conv(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    kernel = layer.kernel(spatial_axes(layer.class_name) + 2)
    layer.check_outputs(kernel[0].shape[-1])
    groups = int(layer.config.get("groups") or 1)
    return activate(
        builder, layer, _convolve(builder, layer, inputs[0], kernel, layer.bias(kernel[0].shape[-1]), groups)
    )


def _depthwise(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    channels = builder.op(inputs[0]).shape[-1]
    kernel = layer.kernel(spatial_axes(layer.class_name) + 2, quantizer="depthwise_quantizer")
    kernel = _by_channel(kernel, channels)
    filters = kernel[0].shape[-1]
    return activate(builder, layer, _convolve(builder, layer, inputs[0], kernel, layer.bias(filters), channels))


def _separable(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    axes = spatial_axes(layer.class_name) + 2
    channels = builder.op(inputs[0]).shape[-1]
    depthwise = _by_channel(layer.kernel(axes, "depthwise_kernel", "depthwise_quantizer"), channels)
    pointwise = layer.kernel(axes, "pointwise_kernel", "pointwise_quantizer")
    layer.check_outputs(pointwise[0].shape[-1])
    none = replace(layer, arrays={}, config={**layer.config, "use_bias": False})
    between = _convolve(
        builder, layer, inputs[0], depthwise, none.bias(depthwise[0].shape[-1]), channels, suffix="_depthwise"
    )
    whole = replace(layer, config={**layer.config, "strides": 1, "padding": "valid", "dilation_rate": 1})
    return activate(
        builder, layer, _convolve(builder, whole, between, pointwise, layer.bias(pointwise[0].shape[-1]), 1)
    )


def _by_channel(kernel: Constant, channels: int) -> Constant:
    """Return a depthwise kernel (*window, channels, multiplier) as one of a convolution with a group per channel."""
    codes, fmt = kernel
    if codes.shape[-2] != channels:
        raise UnsupportedError(f"kernel {codes.shape} does not fit its input of {channels} channels")
    return codes.reshape(*codes.shape[:-2], 1, -1), fmt


def _convolve(
    builder: Builder,
    layer: Layer,
    tensor: Tensor,
    kernel: Constant,
    bias: Mapping[str, Any],
    groups: int,
    suffix: str = "",
) -> Tensor:
    layer.only("data_format", "channels_last")
    tensor, (weight, weight_format) = builder.plain(layer, tensor), kernel
    weight = _dilated(weight, layer.spatial("dilation_rate"))
    x, strides = builder.op(tensor).shape, layer.spatial("strides")
    if len(x) != weight.ndim - 1 or weight.shape[-2] * groups != x[-1] or weight.shape[-1] % groups:
        raise UnsupportedError(f"kernel {weight.shape} in {groups} groups does not fit its input of shape {x}")
    out, padding = window_geometry(layer.config, x, weight.shape[:-2], strides)
    values: dict[str, Any] = {
        "strides": strides,
        "padding": padding,
        "groups": groups,
        "weight": weight,
        "weight_format": weight_format,
    }
    kind = f"conv{len(out)}d" if groups == 1 else "depthwise_" * (groups == x[-1]) + f"conv{len(out)}d"
    shape = (*out, weight.shape[-1])
    return builder.add(Conv, layer, [tensor], shape, suffix=suffix, fused=(kind,), **values, **bias)


def _dilated(weight: Codes, rates: Shape) -> Codes:
    """Return a kernel with `rate - 1` zeros between its weights along each axis."""
    if all(rate == 1 for rate in rates):
        return weight
    window = tuple((size - 1) * rate + 1 for size, rate in zip(weight.shape, rates, strict=False))
    if math.prod(window) > SPREAD:
        raise UnsupportedError(f"dilation_rate {rates} spreads its windows over {window}", remedy="use smaller rates")
    out = np.zeros((*window, *weight.shape[-2:]), np.int64)
    out[tuple(slice(None, None, rate) for rate in rates)] = weight
    return out


def _conv_transpose(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """A convolution of the flipped kernel over the input with zeros between and around its pixels.

    Source: `deconv_output_length` of Keras, and TensorFlow's gradient of a convolution, which it computes.
    """
    layer.only("data_format", "channels_last")
    axes = spatial_axes(layer.class_name)
    tensor, (weight, weight_format) = builder.plain(layer, inputs[0]), layer.kernel(axes + 2)
    weight = _dilated(weight, layer.spatial("dilation_rate"))
    x, strides = builder.op(tensor).shape, layer.spatial("strides")
    if len(x) != axes + 1 or weight.shape[-1] != x[-1]:
        raise UnsupportedError(f"kernel {weight.shape} does not fit its input of shape {x}")
    given = None if layer.class_name.startswith("Q") else layer.config.get("output_padding")  # QKeras drops it
    extra = [None] * axes if given is None else list(layer.spatial("output_padding"))
    index = np.arange(math.prod(x)).reshape(x)
    for axis in range(axes):
        places = _transposed_places(x[axis], weight.shape[axis], strides[axis], layer.config["padding"], extra[axis])
        index = _picked(index, places, axis)
    layer.check_outputs(weight.shape[-2])
    flipped = np.flip(weight, tuple(range(axes))).swapaxes(-1, -2).copy()
    stuffed = builder.add(Gather, layer, [tensor], index.shape, suffix="_stuffed", index=index, fused=("stuff",))
    out = windows(index.shape, flipped.shape[:-2], (1,) * axes, (0, 0) * axes)
    values: dict[str, Any] = {
        "strides": (1,) * axes,
        "padding": (0, 0) * axes,
        "weight": flipped,
        "weight_format": weight_format,
    }
    shape, bias = (*out, flipped.shape[-1]), layer.bias(flipped.shape[-1])
    conv = builder.add(Conv, layer, [stuffed], shape, fused=(f"conv{axes}d_transpose",), **values, **bias)
    return activate(builder, layer, conv)


def _transposed_places(size: int, window: int, step: int, padding: str, extra: int | None) -> Codes:
    """Return, for one axis of the padded input of the flipped kernel, which input pixel stands there, or -1."""
    if padding not in ("valid", "same"):
        raise UnsupportedError(f"padding {padding!r} is not supported", remedy="use 'valid' or 'same'")
    if extra is None:
        length = size * step + (max(window - step, 0) if padding == "valid" else 0)
    else:
        length = (size - 1) * step + window - 2 * (window // 2 if padding == "same" else 0) + extra
    before = max((-(-length // step) - 1) * step + window - length, 0) // 2 if padding == "same" else 0
    stuffed = np.arange(length + window - 1) - (window - 1 - before)
    return np.where((stuffed % step == 0) & (stuffed >= 0) & (stuffed < size * step), stuffed // step, -1)


def _picked(index: Codes, places: Codes, axis: int) -> Codes:
    """Return `index` with the given places along one axis, -1 where a place is negative."""
    inside = np.expand_dims(places >= 0, tuple(range(1, index.ndim - axis)))
    return np.where(inside, np.take(index, np.maximum(places, 0), axis), -1)


def _batchnorm(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0])
    shape, axis = builder.op(tensor).shape, layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    if axis not in (-1, len(shape)):
        raise UnsupportedError(f"normalizes axis {axis}", remedy="only the last one (channels) is supported")
    scale, scale_format = layer.codes("scale")
    offset, offset_format = layer.codes("offset")
    if scale.shape != shape[-1:] or offset.shape != shape[-1:]:
        raise UnsupportedError(f"scale {scale.shape} or offset {offset.shape} does not fit {shape[-1]} channels")
    values: dict[str, Any] = {
        "scale": scale,
        "scale_format": scale_format,
        "offset": offset,
        "offset_format": offset_format,
    }
    return builder.add(BatchNorm, layer, [tensor], shape, **values)


LAYERS: Mapping[str, Handler] = {
    **dict.fromkeys(("QDense", "Dense"), _dense),
    **dict.fromkeys(("QConv1D", "Conv1D", "QConv2D", "Conv2D", "QConv2DBatchnorm"), _conv),
    **dict.fromkeys(
        ("QDepthwiseConv2D", "DepthwiseConv2D", "DepthwiseConv1D", "QDepthwiseConv2DBatchnorm"), _depthwise
    ),
    **dict.fromkeys(("QSeparableConv1D", "SeparableConv1D", "QSeparableConv2D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("QConv2DTranspose", "Conv2DTranspose", "Conv1DTranspose"), _conv_transpose),
    **dict.fromkeys(("FixedBatchNormalization", "BatchNormalization", "QBatchNormalization"), _batchnorm),
}
