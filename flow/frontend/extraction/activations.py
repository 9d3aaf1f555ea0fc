"""Activations: casts, piecewise linear functions, tables of any other function, softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.frontend.extraction.builder import Builder, Handler, Layer, Tensor
from flow.frontend.quantizers import FUNCTIONS, activation_cast, parse_quantizer
from flow.ir.fixed import CODE_BITS, Codes, FixedFormat, exact_codes
from flow.ir.graph import LeakyRelu, Op, Relu, Requantize, Softmax
from flow.ir.intervals import check_division

SOFTMAX_BITS = 16
"""Widest input of a softmax: there is one exponential per distance of two codes."""
SOFTMAX_GUARD_BITS = 4
"""By how many bits the exponentials of a softmax are finer than its output."""
SLOPE_BITS = 16
"""Widest slope below zero that is multiplied; others go into the table of the quantizer behind them."""


def _activation(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    return activate(builder, layer, inputs[0])


def activate(builder: Builder, layer: Layer, tensor: Tensor) -> Tensor:
    """Do what an activation layer does, or the `activation` argument of another layer."""
    entry = layer.config.get("activation")
    quantizer = parse_quantizer(entry)
    if quantizer is None:
        return tensor
    if quantizer.name == "softmax":
        return _softmax(builder, layer, [tensor])
    if quantizer.name == "relu" and not quantizer.args:
        return _positive(builder, layer, tensor)
    ours = "QActivation" if layer.class_name.startswith("Q") else "Activation"
    applied = replace(tensor, functions=(*tensor.functions, {"class_name": ours, "config": {"activation": entry}}))
    if quantizer.name in FUNCTIONS:
        return applied
    cast = activation_cast(quantizer, "activation")
    if cast is None or tensor.functions:
        return builder.lookup(layer, applied)
    fused = ("relu", "requantize") if cast.relu else ("requantize",)
    values: dict[str, Any] = {
        "rounding": cast.rounding,
        "overflow": cast.overflow,
        "divisor": tensor.divisor,
        "fused": fused,
    }
    x = builder.op(tensor)
    out = builder.add(Requantize, layer, [tensor], x.shape, cast.format, **values)
    if tensor.divisor != 1:
        check_division(builder.op(out), x.format.frac_bits, x.format.min_code, x.format.max_code)
    return out


def _positive(builder: Builder, layer: Layer, tensor: Tensor, limit: float | None = None) -> Tensor:
    """Append max(x, 0), at most `limit`: before a division that waits, behind functions that do."""
    x = builder.op(tensor)
    code = None if limit is None else math.ldexp(limit, x.format.frac_bits)
    if tensor.functions or (code is not None and (tensor.divisor != 1 or not code.is_integer())):
        return later(tensor, "ReLU", {"max_value": limit, "negative_slope": 0.0, "threshold": 0.0})
    if code is None or code >= x.format.max_code:
        out = builder.add(Relu, layer, [tensor], x.shape, x.format.unsigned())
    else:
        out = builder.add(Relu, layer, [tensor], x.shape, limit=int(code))
    return replace(out, divisor=tensor.divisor)


def later(tensor: Tensor, class_name: str, config: Mapping[str, Any]) -> Tensor:
    """Leave an element-wise layer to the table of the quantizer behind it."""
    return replace(tensor, functions=(*tensor.functions, {"class_name": class_name, "config": dict(config)}))


RELU_KEYS = ("max_value", "negative_slope", "threshold")


def _relu(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    config = layer.config
    slope, limit = float(config.get("negative_slope") or 0), config.get("max_value")
    if config.get("threshold") or (slope and limit is not None):
        return later(inputs[0], "ReLU", {key: config[key] for key in RELU_KEYS if key in config})
    if slope:
        return _leaky(builder, layer, inputs[0], np.array([slope], np.float32))
    return _positive(builder, layer, inputs[0], None if limit is None else float(limit))


def _leaky_relu(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    slope = layer.config.get("alpha", layer.config.get("negative_slope", 0.3))
    return _leaky(builder, layer, inputs[0], np.array([slope], np.float32))


def _leaky(builder: Builder, layer: Layer, tensor: Tensor, slope: NDArray[np.float32]) -> Tensor:
    """Multiply negative values by one slope, or leave it to a table if the slope has many bits."""
    codes, fmt = exact_codes(slope)
    if tensor.waits or fmt.width > SLOPE_BITS:
        return later(tensor, "LeakyReLU", {"alpha": float(slope[0])})
    return builder.add(LeakyRelu, layer, [tensor], builder.op(tensor).shape, slope=codes, slope_format=fmt)


def _prelu(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor, (slope, fmt) = builder.plain(layer, inputs[0]), layer.codes("slope")
    shape = builder.op(tensor).shape
    if np.broadcast_shapes(slope.shape, shape) != shape:
        raise UnsupportedError(f"slopes {slope.shape} do not fit its input of shape {shape}")
    if fmt.width > SLOPE_BITS:
        raise UnsupportedError(
            f"its slopes need {fmt.width} bits to be exact, more than {SLOPE_BITS}",
            remedy="round them to powers of two",
        )
    return builder.add(LeakyRelu, layer, [tensor], shape, slope=slope, slope_format=fmt)


def _function(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    return later(inputs[0], layer.class_name, layer.config)


def _softmax(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    if layer.config.get("axis", -1) not in (-1, len(builder.op(inputs[0]).shape)):
        raise UnsupportedError(f"axis={layer.config['axis']!r} is not supported", remedy="use the last one")
    tensor = builder.plain(layer, inputs[0])
    if builder.softmax is None:
        builder.warnings.append(
            f"the final softmax ('{layer.name}') is left off the hardware, which returns its inputs; argmax is the same"
        )
        return replace(tensor, softmax=layer.name)
    x, fmt = builder.op(tensor), builder.softmax
    exponentials = softmax_exponentials(x, fmt)
    builder.warnings.append(
        f"the softmax ('{layer.name}') is an integer function of the same inputs, not QKeras' float one; "
        "the report says how far apart they are"
    )
    out = builder.add(Softmax, layer, [tensor], x.shape, fmt, exponentials=exponentials)
    return replace(out, softmax=layer.name)


def softmax_exponentials(x: Op, fmt: FixedFormat) -> Codes:
    """Return the exponentials of a softmax over the codes of `x`, for outputs of a format.

    Raises:
        UnsupportedError: the input is too wide, or the format has a sign or too many bits.
    """
    if fmt.signed or x.format.width > SOFTMAX_BITS:
        raise UnsupportedError(
            f"the softmax has an input of {x.format} and an output of {fmt}",
            remedy=f"its input may have {SOFTMAX_BITS} bits (quantize it), its output is unsigned",
        )
    bits = fmt.width + SOFTMAX_GUARD_BITS
    if fmt.frac_bits < 0 or bits + max(fmt.frac_bits + 1, x.shape[-1].bit_length()) >= CODE_BITS - 2:
        raise UnsupportedError(f"the softmax has an output of {fmt}", remedy="use 0 to 24 fraction bits")
    distances = np.arange(1 << x.format.width) * x.format.step
    return np.asarray(np.rint(np.ldexp(np.exp(-distances), bits)), np.int64)


LAYERS: Mapping[str, Handler] = {
    **dict.fromkeys(("QActivation", "Activation"), _activation),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    **dict.fromkeys(("ELU", "ThresholdedReLU"), _function),
    "Softmax": _softmax,
}
