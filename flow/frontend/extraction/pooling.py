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
from flow.frontend.extraction.builder import Builder, Handler, Tensor, array_codes, window_over
from flow.frontend.layers import Layer
from flow.ir.fixed import Cast, Codes, Constant, exact_codes
from flow.ir.graph import MaxPool, Reshape, SumPool
from flow.ir.windows import Shape, Window


def _max_pool(builder: Builder, layer: Layer[layers.MaxPool], inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0]) if inputs[0].functions else inputs[0]
    x = builder.op(tensor)
    window = _window(layer.settings, x.shape)
    shape = (*window.positions(x.shape), x.shape[-1])
    out = builder.add(MaxPool, layer, [tensor], shape, Cast(x.format), window=window)
    return _without_axes(builder, layer, replace(out, divisor=tensor.divisor))


def _average_pool(builder: Builder, layer: Layer[layers.AveragePool], inputs: Sequence[Tensor]) -> Tensor:
    """Sums over real pixels, on a common denominator; what is left of it after powers of two waits as a divisor."""
    tensor = builder.plain(layer, inputs[0])
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
    return activate(builder, layer, _without_axes(builder, layer, replace(out, divisor=divisor)))


def _multiplied(layer: Layer[layers.AveragePool], counts: Codes, area: int) -> Constant:
    """Return the weights of QKeras' average: the mean over real pixels, times the window's area, times a multiplier.

    QKeras rounds each step to float32, which is exact for powers of two only.
    """
    if any(int(number) & (int(number) - 1) for number in (area, *np.unique(counts))):
        raise UnsupportedError(
            f"its average_quantizer multiplies a rounded average over {area} pixels",
            remedy="use a window of a power of two without padding, or no average_quantizer",
        )
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
    return replace(out, divisor=tensor.divisor)


LAYERS: Mapping[type[layers.Settings], Handler] = {layers.MaxPool: _max_pool, layers.AveragePool: _average_pool}
