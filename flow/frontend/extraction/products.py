"""Sums of products, and pooling: dense, convolutions of all kinds, batch normalization, the largest and the average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError, counted
from flow.frontend import layers
from flow.frontend.extraction.averages import carried
from flow.frontend.extraction.builder import (
    SPREAD,
    Builder,
    Handler,
    Tensor,
    array_codes,
    bias_codes,
    check_outputs,
    kernel_codes,
    waiting,
    window_over,
)
from flow.frontend.layers import Layer, Margins, Padding
from flow.ir.fixed import Cast, Codes, Constant, exact_codes, times
from flow.ir.graph import BatchNorm, Conv, Dense, Gather, IntGraph, MaxPool, Reshape, SumPool
from flow.ir.scaling import hold, lines_of
from flow.ir.windows import Shape, Window


def _dense(builder: Builder, layer: Layer[layers.Dense], inputs: Sequence[Tensor]) -> Tensor:
    tensor = carried(builder, layer, inputs[0])
    if layer.settings.contracted is not None:
        return _dense_of_axes(builder, layer, tensor, layer.settings.contracted)
    x, weight = builder.op(tensor), kernel_codes(layer, 2)
    n_in, units = weight.codes.shape
    if n_in != x.shape[-1]:
        raise UnsupportedError(f"kernel {weight.codes.shape} does not fit its input of shape {x.shape}")
    check_outputs(units, "units", layer.settings.units)
    bias, normalized = times(bias_codes(layer, units), tensor.divisor), "scale" in layer.arrays
    suffix = "_products" if normalized else ""
    out = builder.add(Dense, layer, [tensor], (*x.shape[:-1], units), suffix=suffix, weight=weight, bias=bias)
    out = replace(out, divisor=tensor.divisor)
    return _scaled(builder, layer, out) if normalized else out


def _dense_of_axes(builder: Builder, layer: Layer[layers.Dense], tensor: Tensor, summed: int) -> Tensor:
    """A dense layer between two reshapes, which join the axes that are summed and part those of its outputs."""
    x = builder.op(tensor)
    kernel = kernel_codes(layer, layer.arrays["kernel"].ndim)
    outputs = kernel.codes.shape[summed:]
    if kernel.codes.shape[:summed] != x.shape[-summed:]:
        raise UnsupportedError(f"kernel {kernel.codes.shape} does not fit its input of shape {x.shape}")
    weight = Constant(kernel.codes.reshape(math.prod(x.shape[-summed:]), -1), kernel.format)
    return _joined_dense(builder, layer, tensor, weight, x.shape[:-summed], outputs)


def _joined_dense(
    builder: Builder, layer: Layer[Any], tensor: Tensor, weight: Constant, rows: Shape, outputs: Shape
) -> Tensor:
    """Append a dense layer of all that a row holds, and part its outputs; the bias is broadcast over these."""
    x, (n_in, units) = builder.op(tensor), weight.codes.shape
    bias = array_codes(layer, "bias") if layer.settings.biased else Constant.zeros(units)
    spread = np.broadcast_to(bias.codes, outputs).reshape(-1) if layer.settings.biased else bias.codes
    bias = times(Constant(spread, bias.format), tensor.divisor)
    flat = builder.add(Reshape, layer, [tensor], (*rows, n_in), Cast(x.format), suffix="_joined")
    made = builder.add(Dense, layer, [flat], (*rows, units), suffix="_products", weight=weight, bias=bias)
    out = builder.add(Reshape, layer, [made], (*rows, *outputs), Cast(builder.op(made).format))
    return replace(out, divisor=tensor.divisor)


def _locally_connected(builder: Builder, layer: Layer[layers.LocallyConnected], inputs: Sequence[Tensor]) -> Tensor:
    """A dense layer of the whole input, with the weights of each position where its window is, and zeros elsewhere."""
    settings, tensor = layer.settings, carried(builder, layer, inputs[0])
    x, kernel = builder.op(tensor).shape, kernel_codes(layer, 3)
    window = window_over(x, Padding.VALID, settings.window, settings.strides)
    places = (window.places(x)[..., None] * x[-1] + np.arange(x[-1])).reshape(math.prod(window.positions(x)), -1)
    count, filters = len(places), kernel.codes.shape[-1]
    if kernel.codes.shape[:2] != places.shape:
        raise UnsupportedError(f"kernel {kernel.codes.shape} does not fit its input of shape {x}")
    if math.prod(x) * count * filters > SPREAD:
        what = f"its kernel spreads over {math.prod(x)} x {count * filters} weights"
        raise UnsupportedError(what, remedy=f"at most {SPREAD} are built: use a smaller input, or a convolution")
    matrix = np.zeros((math.prod(x), count, filters), np.int64)
    matrix[places, np.arange(count)[:, None]] = kernel.codes
    weight = Constant(matrix.reshape(math.prod(x), -1), kernel.format)
    return _joined_dense(builder, layer, tensor, weight, (), (*window.positions(x), filters))


def _conv(builder: Builder, layer: Layer[layers.Conv], inputs: Sequence[Tensor]) -> Tensor:
    settings = layer.settings
    kernel = kernel_codes(layer, settings.axes + 2)
    filters = kernel.codes.shape[-1]
    check_outputs(filters, "filters", settings.filters)
    return _convolve(builder, layer, inputs[0], kernel, bias_codes(layer, filters), settings.groups)


def _depthwise(builder: Builder, layer: Layer[layers.DepthwiseConv], inputs: Sequence[Tensor]) -> Tensor:
    channels = builder.op(inputs[0]).shape[-1]
    kernel = _by_channel(kernel_codes(layer, layer.settings.axes + 2, quantizer="depthwise_quantizer"), channels)
    return _convolve(builder, layer, inputs[0], kernel, bias_codes(layer, kernel.codes.shape[-1]), channels)


def _separable(builder: Builder, layer: Layer[layers.SeparableConv], inputs: Sequence[Tensor]) -> Tensor:
    settings, channels = layer.settings, builder.op(inputs[0]).shape[-1]
    axes = settings.axes + 2
    depthwise = _by_channel(kernel_codes(layer, axes, "depthwise_kernel", "depthwise_quantizer"), channels)
    pointwise = kernel_codes(layer, axes, "pointwise_kernel", "pointwise_quantizer")
    filters = pointwise.codes.shape[-1]
    check_outputs(filters, "filters", settings.filters)
    none = Constant.zeros(depthwise.codes.shape[-1])
    between = _convolve(builder, layer, inputs[0], depthwise, none, channels, suffix="_depthwise")
    ones = (1,) * settings.axes
    single = replace(layer, settings=replace(settings, strides=ones, dilation=ones, padding=Padding.VALID))
    return _convolve(builder, single, between, pointwise, bias_codes(layer, filters), 1)


def _by_channel(kernel: Constant, channels: int) -> Constant:
    """Return a depthwise kernel (*window, channels, multiplier) as one of a convolution with a group per channel."""
    codes = kernel.codes
    if codes.shape[-2] != channels:
        raise UnsupportedError(f"kernel {codes.shape} does not fit its input of {counted(channels, 'channel')}")
    return Constant(codes.reshape(*codes.shape[:-2], 1, -1), kernel.format)


def _convolve(
    builder: Builder,
    layer: Layer[layers.Conv],
    tensor: Tensor,
    kernel: Constant,
    bias: Constant,
    groups: int,
    suffix: str = "",
) -> Tensor:
    tensor = carried(builder, layer, tensor)
    bias = times(bias, tensor.divisor)
    weight = _dilated(kernel.codes, layer.settings.dilation)
    x, strides = builder.op(tensor).shape, layer.settings.strides
    if len(x) != weight.ndim - 1 or weight.shape[-2] * groups != x[-1] or weight.shape[-1] % groups:
        raise UnsupportedError(f"kernel {weight.shape} in {groups} groups does not fit its input of shape {x}")
    window = window_over(x, layer.settings.padding, weight.shape[:-2], strides)
    kind = f"conv{len(strides)}d" if groups == 1 else "depthwise_" * (groups == x[-1]) + f"conv{len(strides)}d"
    values: dict[str, Any] = {"weight": Constant(weight, kernel.format), "bias": bias, "groups": groups}
    shape = (*window.positions(x), weight.shape[-1])
    out = builder.add(Conv, layer, [tensor], shape, suffix=suffix, fused=(kind,), window=window, **values)
    return replace(out, divisor=tensor.divisor)


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


def _conv_transpose(builder: Builder, layer: Layer[layers.ConvTranspose], inputs: Sequence[Tensor]) -> Tensor:
    """A convolution of the flipped kernel over the input with zeros between and around its pixels.

    Source: `deconv_output_length` of Keras, and TensorFlow's gradient of a convolution, which it computes.
    """
    settings, axes = layer.settings, layer.settings.axes
    tensor, kernel = carried(builder, layer, inputs[0]), kernel_codes(layer, axes + 2)
    weight = _dilated(kernel.codes, settings.dilation)
    x = builder.op(tensor).shape
    extra = (None,) * axes if settings.output_padding is None else settings.output_padding
    if len(x) != axes + 1 or weight.shape[-1] != x[-1]:
        raise UnsupportedError(f"kernel {weight.shape} does not fit its input of shape {x}")
    index = np.arange(math.prod(x)).reshape(x)
    for axis in range(axes):
        places = _transposed_places(x[axis], weight.shape[axis], settings.strides[axis], settings.padding, extra[axis])
        inside = np.expand_dims(places >= 0, tuple(range(1, index.ndim - axis)))
        index = np.where(inside, np.take(index, np.maximum(places, 0), axis), -1)
    check_outputs(weight.shape[-2], "filters", settings.filters)
    flipped = np.flip(weight, tuple(range(axes))).swapaxes(-1, -2).copy()
    stuffed = builder.add(Gather, layer, [tensor], index.shape, suffix="_stuffed", index=index, fused=("stuff",))
    window = Window(flipped.shape[:-2], (1,) * axes, ((0, 0),) * axes)
    shape = (*window.positions(index.shape), flipped.shape[-1])
    bias = times(bias_codes(layer, shape[-1]), tensor.divisor)
    values: dict[str, Any] = {"weight": Constant(flipped, kernel.format), "bias": bias, "window": window}
    out = builder.add(Conv, layer, [stuffed], shape, fused=(f"conv{axes}d_transpose",), **values)
    return replace(out, divisor=tensor.divisor)


def _transposed_places(size: int, window: int, step: int, padding: Padding | Margins, extra: int | None) -> Codes:
    """Return, for one axis of the padded input of the flipped kernel, which input pixel stands there, or -1."""
    if padding not in (Padding.VALID, Padding.SAME):
        raise UnsupportedError(f"padding {padding} is not supported", remedy="use 'valid' or 'same'")
    same = padding is Padding.SAME
    if extra is None:
        length = size * step + (0 if same else max(window - step, 0))
    else:
        length = (size - 1) * step + window - 2 * (window // 2 if same else 0) + extra
    before = max((-(-length // step) - 1) * step + window - length, 0) // 2 if same else 0
    stuffed = np.arange(length + window - 1) - (window - 1 - before)
    return np.where((stuffed % step == 0) & (stuffed >= 0) & (stuffed < size * step), stuffed // step, -1)


def _batchnorm(builder: Builder, layer: Layer[layers.BatchNorm], inputs: Sequence[Tensor]) -> Tensor:
    tensor = carried(builder, layer, inputs[0])
    shape, axis = builder.op(tensor).shape, layer.settings.axis
    if axis not in (-1, 1, len(shape)):  # of axis 1 the codes are turned
        raise UnsupportedError(f"normalizes axis {axis}", remedy="only the last one and the first one are supported")
    return _scaled(builder, layer, tensor)


def _scaled(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Multiply by `scale` and add `offset`, one of each per channel."""
    shape = builder.op(tensor).shape
    arrays = [layer.arrays[key] for key in ("scale", "offset") if key in layer.arrays]
    if (
        builder.graph_type is IntGraph
        and all(array.shape == shape[-1:] and np.isfinite(array).all() for array in arrays)
        and len(arrays) > 1
    ):
        x = builder.op(tensor).format
        lines = lines_of(arrays[0], arrays[1].astype(np.float64) * tensor.divisor, x.frac_bits)
        if not hold(lines, x):
            return replace(tensor, lines=lines)
    scale, offset = array_codes(layer, "scale"), times(array_codes(layer, "offset"), tensor.divisor)
    shapes = scale.codes.shape, offset.codes.shape
    if shapes != (shape[-1:], shape[-1:]):
        raise UnsupportedError(f"scale {shapes[0]} or offset {shapes[1]} does not fit {counted(shape[-1], 'channel')}")
    out = builder.add(BatchNorm, layer, [tensor], shape, scale=scale, offset=offset)
    return replace(out, divisor=tensor.divisor)


# -- pooling: the largest code of each window, and averages over real pixels


def _max_pool(builder: Builder, layer: Layer[layers.MaxPool], inputs: Sequence[Tensor]) -> Tensor:
    """The largest codes: of what lines make of them too, once those that fall rise."""
    tensor = carried(builder, layer, inputs[0]) if inputs[0].functions else _rising(builder, layer, inputs[0])
    x = builder.op(tensor)
    window = _window(layer.settings, x.shape)
    shape = (*window.positions(x.shape), x.shape[-1])
    out = builder.add(MaxPool, layer, [tensor], shape, Cast(x.format), window=window)
    return _without_axes(builder, layer, waiting(out, tensor))


def _rising(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return a tensor on which no line falls that waits: the codes of channels where one does have the other sign."""
    if all(line.scale >= 0 for line in tensor.lines):
        return tensor
    signs = np.array([1.0 if line.scale >= 0 else -1.0 for line in tensor.lines])
    source = builder.inside(layer, tensor)
    values: dict[str, Any] = {"scale": exact_codes(signs), "offset": Constant.zeros(len(signs))}
    shape = builder.op(tensor).shape
    made = builder.add(BatchNorm, layer, [source], shape, suffix="_signed", fused=("sign",), **values)
    lines = tuple(replace(line, scale=abs(line.scale)) for line in tensor.lines)
    return waiting(made, replace(tensor, lines=lines))


def _average_pool(builder: Builder, layer: Layer[layers.AveragePool], inputs: Sequence[Tensor]) -> Tensor:
    """Sums over real pixels, on a common denominator; what is left of it after powers of two waits as a divisor."""
    alone = layer.activation is None and not layer.settings.scaled
    tensor = carried(builder, layer, inputs[0]) if alone else builder.plain(layer, inputs[0])
    x = builder.op(tensor)
    window = _window(layer.settings, x.shape)
    positions = window.positions(x.shape)
    counts = window.counts(positions)
    common = math.lcm(*(int(count) for count in np.unique(counts)))
    weight = exact_codes((common // counts) / (common & -common))
    divisor = common // (common & -common)
    if layer.settings.scaled:
        weight, divisor = _multiplied(layer, counts, window.pixels), 1
    shape = (*positions, x.shape[-1])
    out = builder.add(SumPool, layer, [tensor], shape, fused=("average",), window=window, weight=weight)
    return _without_axes(builder, layer, replace(out, divisor=divisor * tensor.divisor))


def _multiplied(layer: Layer[layers.AveragePool], counts: Codes, area: int) -> Constant:
    """Return the weights of QKeras' average: the mean over real pixels, times the window's area, times a multiplier.

    QKeras rounds each step to float32, which is exact for powers of two only.
    """
    if any(int(number) & (int(number) - 1) for number in (area, *np.unique(counts))):
        remedy = "use a window of a power of two without padding, or no average_quantizer"
        raise UnsupportedError(f"its average_quantizer multiplies a rounded average over {area} pixels", remedy=remedy)
    return exact_codes(array_codes(layer, "multiplier").values.item() * area / counts)


def _window(settings: layers.Pool, x: Shape) -> Window:
    """Return the window of a pooling layer over an image of shape `x`."""
    if settings.window is None:
        return Window(x[:-1], x[:-1], ((0, 0),) * len(x[:-1]))
    return window_over(x, settings.padding, settings.window, settings.strides)


def _without_axes(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Drop the axes of one that a global pooling leaves, unless it keeps them."""
    x = builder.op(tensor)
    if layer.settings.window is not None or layer.settings.keepdims:
        return tensor
    out = builder.add(Reshape, layer, [tensor], x.shape[-1:], Cast(x.format), suffix="_flat")
    return waiting(out, tensor)


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Dense: _dense,
    layers.LocallyConnected: _locally_connected,
    layers.Conv: _conv,
    layers.DepthwiseConv: _depthwise,
    layers.SeparableConv: _separable,
    layers.ConvTranspose: _conv_transpose,
    layers.BatchNorm: _batchnorm,
    layers.MaxPool: _max_pool,
    layers.AveragePool: _average_pool,
}
