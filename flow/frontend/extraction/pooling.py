"""Pooling: the largest code of each window, and averages over real pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction.activations import activate
from flow.frontend.extraction.builder import Builder, Handler, Tensor, array_codes, window_geometry
from flow.frontend.layers import Layer
from flow.ir.fixed import Codes, FixedFormat, exact_codes
from flow.ir.graph import MaxPool, Pool, Reshape, Shape, SumPool
from flow.ir.intervals import window_counts


def _max_pool(builder: Builder, layer: Layer[layers.MaxPool], inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0]) if inputs[0].functions else inputs[0]
    geometry, shape = _pool_geometry(layer.settings, builder.op(tensor).shape)
    out = builder.add(MaxPool, layer, [tensor], shape, builder.op(tensor).format, **geometry)
    return _without_axes(builder, layer, replace(out, divisor=tensor.divisor))


def _average_pool(builder: Builder, layer: Layer[layers.AveragePool], inputs: Sequence[Tensor]) -> Tensor:
    """Sums over real pixels, on a common denominator; what is left of it after powers of two waits as a divisor."""
    tensor = builder.plain(layer, inputs[0])
    x = builder.op(tensor)
    geometry, shape = _pool_geometry(layer.settings, x.shape)
    counts = window_counts(Pool(name="counts", inputs=(), shape=shape, format=x.format, **geometry))
    common = math.lcm(*(int(count) for count in np.unique(counts)))
    weight, weight_format = exact_codes((common // counts) / (common & -common))
    divisor = common // (common & -common)
    if layer.settings.scaled:
        weight, weight_format, divisor = _multiplied(layer, counts, math.prod(geometry["window"]))
    values: dict[str, Any] = {**geometry, "weight": weight, "weight_format": weight_format}
    out = replace(builder.add(SumPool, layer, [tensor], shape, fused=("average",), **values), divisor=divisor)
    return activate(builder, layer, _without_axes(builder, layer, out))


def _multiplied(layer: Layer[layers.AveragePool], counts: Codes, area: int) -> tuple[Codes, FixedFormat, int]:
    """Return the weights of QKeras' average: the mean over real pixels, times the window's area, times a multiplier.

    QKeras rounds each step to float32, which is exact for powers of two only.
    """
    if any(int(number) & (int(number) - 1) for number in (area, *np.unique(counts))):
        raise UnsupportedError(
            f"its average_quantizer multiplies a rounded average over {area} pixels",
            remedy="use a window of a power of two without padding, or no average_quantizer",
        )
    multiplier, fmt = array_codes(layer, "multiplier")
    weight, weight_format = exact_codes(multiplier.item() * fmt.step * area / counts)
    return weight, weight_format, 1


def _pool_geometry(settings: layers.Pool, x: Shape) -> tuple[dict[str, Any], Shape]:
    """Return window, strides and padding of a pooling layer, and the shape of its output."""
    window = settings.window
    if window is None:
        window = x[:-1]
        return {"window": window, "strides": window, "padding": (0, 0) * len(window)}, (*((1,) * len(window)), x[-1])
    out, padding = window_geometry(settings.padding, x, window, settings.strides)
    return {"window": window, "strides": settings.strides, "padding": padding}, (*out, x[-1])


def _without_axes(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Drop the axes of one that a global pooling leaves, unless it keeps them."""
    x = builder.op(tensor)
    if layer.settings.window is not None or layer.settings.keepdims:
        return tensor
    out = builder.add(Reshape, layer, [tensor], x.shape[-1:], x.format, suffix="_flat")
    return replace(out, divisor=tensor.divisor)


LAYERS: Mapping[type[layers.Settings], Handler] = {layers.MaxPool: _max_pool, layers.AveragePool: _average_pool}
