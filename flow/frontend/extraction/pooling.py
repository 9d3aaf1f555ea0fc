"""Pooling: the largest code of each window, and averages over real pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend.extraction.activations import activate
from flow.frontend.extraction.builder import Builder, Handler, Layer, Tensor, window_geometry
from flow.frontend.quantizers import parse_quantizer
from flow.ir.fixed import Codes, FixedFormat, exact_codes
from flow.ir.graph import MaxPool, Pool, Reshape, Shape, SumPool
from flow.ir.intervals import window_counts


def _max_pool(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0]) if inputs[0].functions else inputs[0]
    geometry, shape = _pool_geometry(layer, builder.op(tensor).shape)
    out = builder.add(MaxPool, layer, [tensor], shape, builder.op(tensor).format, **geometry)
    return _without_axes(builder, layer, replace(out, divisor=tensor.divisor))


def _average_pool(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """Sums over real pixels, on a common denominator; what is left of it after powers of two waits as a divisor."""
    tensor = builder.plain(layer, inputs[0])
    x = builder.op(tensor)
    geometry, shape = _pool_geometry(layer, x.shape)
    counts = window_counts(Pool(name="counts", inputs=(), shape=shape, format=x.format, **geometry))
    common = math.lcm(*(int(count) for count in np.unique(counts)))
    weight, weight_format = exact_codes((common // counts) / (common & -common))
    divisor = common // (common & -common)
    if "multiplier" in layer.arrays or parse_quantizer(layer.config.get("average_quantizer")) is not None:
        weight, weight_format, divisor = _multiplied(layer, counts, math.prod(geometry["window"]))
    values: dict[str, Any] = {**geometry, "weight": weight, "weight_format": weight_format}
    out = replace(builder.add(SumPool, layer, [tensor], shape, fused=("average",), **values), divisor=divisor)
    return activate(builder, layer, _without_axes(builder, layer, out))


def _multiplied(layer: Layer, counts: Codes, area: int) -> tuple[Codes, FixedFormat, int]:
    """Return the weights of QKeras' average: the mean over real pixels, times the window's area, times a multiplier.

    QKeras rounds each step to float32, which is exact for powers of two only.
    """
    if any(int(number) & (int(number) - 1) for number in (area, *np.unique(counts))):
        raise UnsupportedError(
            f"its average_quantizer multiplies a rounded average over {area} pixels",
            remedy="use a window of a power of two without padding, or no average_quantizer",
        )
    multiplier, fmt = layer.codes("multiplier")
    weight, weight_format = exact_codes(multiplier.item() * fmt.step * area / counts)
    return weight, weight_format, 1


def _pool_geometry(layer: Layer, x: Shape) -> tuple[dict[str, Any], Shape]:
    """Return window, strides and padding of a pooling layer, and the shape of its output."""
    layer.only("data_format", "channels_last")
    if layer.class_name.removeprefix("Q").startswith("Global"):
        window = x[:-1]
        return {"window": window, "strides": window, "padding": (0, 0) * len(window)}, (*((1,) * len(window)), x[-1])
    window = layer.spatial("pool_size")
    strides = layer.spatial("strides", window)
    out, padding = window_geometry(layer.config, x, window, strides)
    return {"window": window, "strides": strides, "padding": padding}, (*out, x[-1])


def _without_axes(builder: Builder, layer: Layer, tensor: Tensor) -> Tensor:
    """Drop the axes of one that a global pooling leaves, unless it keeps them."""
    x = builder.op(tensor)
    if not layer.class_name.removeprefix("Q").startswith("Global") or layer.config.get("keepdims"):
        return tensor
    out = builder.add(Reshape, layer, [tensor], x.shape[-1:], x.format, suffix="_flat")
    return replace(out, divisor=tensor.divisor)


LAYERS: Mapping[str, Handler] = {
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"), _max_pool),
    **dict.fromkeys(
        (
            "AveragePooling1D",
            "AveragePooling2D",
            "GlobalAveragePooling1D",
            "GlobalAveragePooling2D",
            "QAveragePooling2D",
            "QGlobalAveragePooling2D",
        ),
        _average_pool,
    ),
}
