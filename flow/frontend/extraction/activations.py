"""Activations: casts, piecewise linear functions, tables of any other function, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, counted
from flow.frontend import layers
from flow.frontend.extraction.averages import carried
from flow.frontend.extraction.builder import WEIGHT_BITS, Builder, Handler, Tensor, array_codes
from flow.frontend.layers import Function, Layer
from flow.ir.fixed import CODE_BITS, Cast, Codes, Constant, FixedFormat, exact_codes
from flow.ir.graph import BatchNorm, LeakyRelu, Op, Relu, Requantize, Softmax
from flow.ir.intervals import Range, check_division

SOFTMAX_BITS = 16
"""Widest input of a softmax: there is one exponential per distance of two codes."""
SOFTMAX_GUARD_BITS = 4
"""By how many bits the exponentials of a softmax are finer than its output."""
SLOPE_BITS = 16
"""Widest slope below zero that is multiplied; others go into the table of the quantizer behind them."""


def activate(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Do what a layer does to each element at its end."""
    if layer.activation is None:
        return tensor
    return ACTIVATIONS[type(layer.activation)](builder, layer, layer.activation, tensor)


def later(tensor: Tensor, function: Function) -> Tensor:
    """Leave an element-wise function to the table of the quantizer behind it."""
    return replace(tensor, functions=(*tensor.functions, function))


def _quantizer(builder: Builder, layer: Layer[Any], activation: layers.Quantizer, tensor: Tensor) -> Tensor:
    cast = activation.cast
    if cast is None or tensor.functions:
        return builder.lookup(layer, later(tensor, activation.function), widest=WEIGHT_BITS)
    if activation.scale:
        return _scaled(builder, layer, cast, activation.scale, carried(builder, layer, tensor))
    fused = ("relu", "requantize") if activation.relu else ("requantize",)
    if tensor.lines:
        return builder.scaled(layer, tensor, cast, fused)
    x, cast = builder.op(tensor), replace(cast, divisor=tensor.divisor)
    out = builder.add(Requantize, layer, [tensor], x.shape, cast, fused=fused)
    if tensor.divisor != 1:
        check_division(builder.op(out), Range.of(x.format))
    return out


def _scaled(builder: Builder, layer: Layer[Any], cast: Cast, scale: Sequence[float], tensor: Tensor) -> Tensor:
    """Append a cast between a division by powers of two, one for each channel, and a product with them."""
    shape, factors = builder.op(tensor).shape, np.array(scale)
    if factors.shape != shape[-1:]:
        raise UnsupportedError(f"has {len(factors)} scales", remedy=f"its input has {counted(shape[-1], 'channel')}")

    def times(source: Tensor, own: NDArray[np.float64], suffix: str) -> Tensor:
        values: dict[str, Any] = {"scale": exact_codes(own), "offset": Constant.zeros(len(own)), "fused": ("scale",)}
        return builder.add(BatchNorm, layer, [source], shape, suffix=suffix, **values)

    divided = times(builder.inside(layer, tensor), 1 / factors, "_divided")
    cut = builder.add(Requantize, layer, [divided], shape, replace(cast, divisor=tensor.divisor), suffix="_cut")
    return times(cut, factors, "")


def _relu(builder: Builder, layer: Layer[Any], activation: layers.Relu, tensor: Tensor) -> Tensor:
    """Append max(x, 0), at most `limit`: before a division that waits, behind functions that do."""
    if tensor.lines and not tensor.functions:
        return replace(tensor if activation.limit is None else builder.plain(layer, tensor), relu=True)
    x, limit = builder.op(tensor), activation.limit
    code = None if limit is None else math.ldexp(limit, x.format.frac_bits)
    if tensor.functions or (code is not None and (tensor.divisor != 1 or not code.is_integer())):
        return later(tensor, replace(activation.function, slope=0.0, limit=math.inf if limit is None else limit))
    if code is None or code >= x.format.max_code:
        out = builder.add(Relu, layer, [tensor], x.shape, Cast(x.format.unsigned()))
    else:
        out = builder.add(Relu, layer, [tensor], x.shape, limit=int(code))
    return replace(out, divisor=tensor.divisor)


def _leaky_relu(builder: Builder, layer: Layer[Any], activation: layers.LeakyRelu, tensor: Tensor) -> Tensor:
    """Multiply negative values by one slope, or leave it to a table if the slope has many bits."""
    slope = exact_codes(np.array([activation.slope], np.float32))
    if slope.format.width > SLOPE_BITS:
        return later(tensor, activation.function)
    if tensor.waits:
        return later(tensor, replace(activation.function, slope=activation.slope))
    return builder.add(LeakyRelu, layer, [tensor], builder.op(tensor).shape, slope=slope)


def _prelu(builder: Builder, layer: Layer[layers.Prelu], inputs: Sequence[Tensor]) -> Tensor:
    tensor, slope = carried(builder, layer, inputs[0]), array_codes(layer, "slope")
    shape = builder.op(tensor).shape
    if np.broadcast_shapes(slope.codes.shape, shape) != shape:
        raise UnsupportedError(f"slopes {slope.codes.shape} do not fit its input of shape {shape}")
    if slope.format.width > SLOPE_BITS:
        raise UnsupportedError(
            f"its slopes need {slope.format.width} bits to be exact, more than {SLOPE_BITS}",
            remedy="round them to powers of two",
        )
    return replace(builder.add(LeakyRelu, layer, [tensor], shape, slope=slope), divisor=tensor.divisor)


def _softmax(builder: Builder, layer: Layer[Any], activation: layers.Softmax, tensor: Tensor) -> Tensor:
    if activation.axis not in (-1, len(builder.op(tensor).shape)):
        raise UnsupportedError(f"axis={activation.axis!r} is not supported", remedy="use the last one")
    tensor = carried(builder, layer, tensor)
    if builder.softmax is None:
        builder.warnings.append(
            f"the final softmax ('{layer.name}') is left off the hardware, which returns its inputs; argmax is the same"
        )
        return replace(tensor, softmax=layer.name)
    x, fmt = builder.op(tensor), builder.softmax
    exponentials = softmax_exponentials(x, fmt, tensor.divisor)
    builder.warnings.append(
        f"the softmax ('{layer.name}') is an integer function of the same inputs, not QKeras' float one; "
        "the report says how far apart they are"
    )
    out = builder.add(Softmax, layer, [tensor], x.shape, Cast(fmt), exponentials=exponentials)
    return replace(out, softmax=layer.name)


def softmax_exponentials(x: Op, fmt: FixedFormat, divisor: int = 1) -> Codes:
    """Return the exponentials of a softmax over the codes of `x`, each over a divisor, for outputs of a format.

    Raises:
        UnsupportedError: the input is too wide, or the format has a sign or too many bits.
    """
    if fmt.signed or x.format.width > SOFTMAX_BITS:
        remedy = f"its input may have {SOFTMAX_BITS} bits (quantize it), its output is unsigned"
        raise UnsupportedError(f"the softmax has an input of {x.format} and an output of {fmt}", remedy=remedy)
    bits = fmt.width + SOFTMAX_GUARD_BITS
    if fmt.frac_bits < 0 or bits + max(fmt.frac_bits + 1, x.shape[-1].bit_length()) >= CODE_BITS - 2:
        raise UnsupportedError(f"the softmax has an output of {fmt}", remedy="use 0 to 24 fraction bits")
    distances = np.arange(1 << x.format.width) * x.format.step / divisor
    return np.asarray(np.rint(np.ldexp(np.exp(-distances), bits)), np.int64)


ACTIVATIONS: Mapping[type[Any], Callable[[Builder, Layer[Any], Any, Tensor], Tensor]] = {
    layers.Activation: lambda builder, layer, activation, tensor: later(tensor, activation.function),
    layers.Relu: _relu,
    layers.LeakyRelu: _leaky_relu,
    layers.Quantizer: _quantizer,
    layers.Softmax: _softmax,
}
LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Activate: lambda builder, layer, inputs: inputs[0],
    layers.Prelu: _prelu,
}
