"""Extract an IntGraph from a trained model: every number becomes an integer of a known format, or is refused by name.

One function per Keras layer class, in `LAYERS`; each turns a layer's configuration and quantized arrays into ops whose
formats hold every possible result, so nothing is rounded here but what the model itself rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError, UnsupportedError
from flow.fixed import CODE_BITS, Codes, FixedFormat, Overflow, Rounding, covering, exact_codes
from flow.graph import (
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    Input,
    IntGraph,
    MaxPool2D,
    Op,
    Relu,
    Requantize,
    Shape,
)
from flow.intervals import exact_result
from flow.names import identifier
from flow.quantizers import ACTIVATION_QUANTIZERS, activation_cast, check_weight_quantizer, parse_quantizer, short_name
from flow.trained import TrainedModel

WEIGHT_BITS = 32
"""Widest weight accepted: float32 weights that nothing quantized need more, and no one wants them as multipliers."""


@dataclass(slots=True)
class Builder:
    """The graph so far, while layers are read one after another.

    Attributes:
        model: the trained model.
        input_format: format of the input port for models that do not quantize their own input.
        ops: ops so far.
        skipped: layers since the last op that do nothing at inference.
        softmax: name of the softmax layer, once it is reached; nothing may follow it.
        warnings: what a report must say.
    """

    model: TrainedModel
    input_format: FixedFormat | None
    ops: list[Op] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    softmax: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def last(self) -> Op:
        return self.ops[-1]

    def add(self, cls: type[Op], layer: Layer, shape: Shape, fmt: FixedFormat, **values: Any) -> None:
        """Append an op that reads the last one."""
        if self.softmax is not None:
            raise UnsupportedError(f"comes after the softmax '{self.softmax}'; only a final softmax is supported")
        values.setdefault("fused", (cls.kind,))
        self.ops.append(
            cls(
                name=identifier(layer.name, [op.name for op in self.ops]),
                inputs=(self.last.name,) if self.ops else (),
                shape=shape,
                format=fmt,
                layers=(*self.skipped, layer.name),
                **values,
            )
        )
        self.skipped = []


@dataclass(frozen=True, slots=True)
class Layer:
    """One Keras layer: its name, class, configuration and arrays."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    arrays: Mapping[str, NDArray[np.float32]]

    def codes(self, key: str) -> tuple[Codes, FixedFormat]:
        """Return an array as codes in the narrowest format.

        Raises:
            UnsupportedError: it is missing, not finite, or spans more bits than codes have.
        """
        values = self.arrays.get(key)
        if values is None:
            raise UnsupportedError(f"{key} is missing from the model file")
        try:
            return exact_codes(values)
        except FlowError as error:
            raise UnsupportedError(f"{key}: {error}") from None

    def quantized(self, key: str) -> tuple[Codes, FixedFormat]:
        """Return a kernel or bias as codes.

        Raises:
            UnsupportedError: its quantizer is not known, or it needs more than `WEIGHT_BITS` bits.
        """
        check_weight_quantizer(parse_quantizer(self.config.get(f"{key}_quantizer")), key)
        codes, fmt = self.codes(key)
        if fmt.width > WEIGHT_BITS:
            raise UnsupportedError(
                f"{key} needs {fmt.width} bits to be exact, more than {WEIGHT_BITS}; "
                f"give the layer a {key}_quantizer such as quantized_bits or quantized_po2"
            )
        return codes, fmt


def extract(model: TrainedModel, input_format: FixedFormat | None = None) -> IntGraph:
    """Return the integer graph of a trained model, one op per step, before any pass.

    Args:
        model: the trained model.
        input_format: format of the input port; needed when the model's first layer is no quantizer, and refused when
            it is one (the port then has the quantizer's format).

    Raises:
        UnsupportedError: something has no exact integer form here; the message names the layer.
    """
    layers = list(_chain(model))
    builder = Builder(model, input_format)
    for position, layer in enumerate(layers):
        handler = LAYERS.get(layer.class_name)
        if handler is None:
            raise UnsupportedError(
                f"{model.name}: layer '{layer.name}': {layer.class_name} is not supported; "
                f"use one of {', '.join(LAYERS)}"
            )
        try:
            if not builder.ops:
                _input(builder, layers)
            if not (position == 0 and layer.class_name == "InputLayer"):
                handler(builder, layer)
        except FlowError as error:
            raise error.at(f"{model.name}: layer '{layer.name}' ({layer.class_name})") from None
    if len(builder.ops) == 1:
        raise UnsupportedError(f"{model.name}: the model computes nothing after its input")
    ops = [*builder.ops[:-1], replace(builder.last, layers=(*builder.last.layers, *builder.skipped))]
    return IntGraph(name=identifier(model.name, ()), ops=tuple(ops), warnings=(*model.warnings, *builder.warnings))


def quantizes_its_input(model: TrainedModel) -> bool:
    """Say whether the first layer that computes is an activation quantizer, so that the port's format is known."""
    computing = [layer for layer in _chain(model) if layer.class_name not in ("InputLayer", *NO_OPS)]
    if not computing or computing[0].class_name not in ("QActivation", "Activation"):
        return False
    quantizer = parse_quantizer(computing[0].config.get("activation"))
    return quantizer is not None and quantizer.name in ACTIVATION_QUANTIZERS


def _chain(model: TrainedModel) -> Iterator[Layer]:
    """Yield the layers of a model without branches, from input to output."""
    entries = list(model.config.get("layers", ()))
    if not entries:
        raise UnsupportedError(f"{model.name}: the model has no layers")
    previous = None
    for entry in entries:
        config = entry["config"]
        name, class_name = str(config.get("name", entry.get("name"))), short_name(entry["class_name"])
        if class_name in ("Functional", "Sequential", "Model"):
            raise UnsupportedError(f"{model.name}: layer '{name}' is a model itself; flatten it into one model")
        if model.class_name != "Sequential" and previous is not None:
            sources = _inbound(entry)
            if sources != [previous]:
                raise UnsupportedError(
                    f"{model.name}: layer '{name}' reads {', '.join(map(repr, sources)) or 'nothing'}, not the layer "
                    f"before it ('{previous}'); only models without branches or shared layers are supported"
                )
        previous = name
        yield Layer(name, class_name, config, model.weights.get(name, {}))
    outputs = [str(output[0]) for output in model.config.get("output_layers", ())]
    if outputs not in ([], [previous]):
        raise UnsupportedError(
            f"{model.name}: the outputs are {', '.join(map(repr, outputs))}; "
            "only one output, of the last layer, is supported"
        )


def _inbound(entry: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers that a functional layer reads, over all its calls."""
    return [str(call[0]) for node in entry.get("inbound_nodes", ()) for call in node]


def _input(builder: Builder, layers: list[Layer]) -> None:
    """Append the Input op: its shape from the first layer, its format from the quantizer or the caller."""
    first = layers[0]
    shape = builder.model.input_shape()
    name = first.name if first.class_name == "InputLayer" else "input"
    layer = Layer(name, "InputLayer", {}, {})
    if quantizes_its_input(builder.model):
        if builder.input_format is not None:
            raise UnsupportedError(
                "the model quantizes its own input, so its port has that format; drop --input-format"
            )
        fmt = FixedFormat(True, 0, 0)  # replaced by the quantizer's in _activation
    elif builder.input_format is None:
        raise UnsupportedError("the model does not quantize its input; give --input-format or inputs to derive it from")
    else:
        fmt = builder.input_format
    builder.add(
        Input,
        layer,
        shape,
        fmt,
        rounding=Rounding.RND_CONV,
        overflow=Overflow.SAT,
    )


def _dense(builder: Builder, layer: Layer) -> None:
    if len(builder.last.shape) != 1:
        raise UnsupportedError(f"reads a tensor of shape {builder.last.shape}; put a Flatten before it")
    _matmul(builder, layer, Dense, (int(layer.config["units"]),), {})


def _conv2d(builder: Builder, layer: Layer) -> None:
    config = layer.config
    _only(config, "data_format", "channels_last")
    _only(config, "groups", 1)
    if tuple(config.get("dilation_rate") or (1, 1)) != (1, 1):
        raise UnsupportedError(f"dilation_rate {config['dilation_rate']} is not supported")
    if len(builder.last.shape) != 3:
        raise UnsupportedError(f"reads a tensor of shape {builder.last.shape}, not (height, width, channels)")
    kernel = layer.arrays.get("kernel")
    if kernel is None:
        raise UnsupportedError("kernel is missing from the model file")
    if kernel.ndim != 4:
        raise UnsupportedError(f"kernel {kernel.shape} does not fit; it has (height, width, channels, filters)")
    size, strides = (kernel.shape[0], kernel.shape[1]), _pair(config.get("strides", 1))
    out, padding = _window(config, builder.last.shape, size, strides)
    _matmul(builder, layer, Conv2D, (*out, kernel.shape[-1]), {"strides": strides, "padding": padding})


def _matmul(builder: Builder, layer: Layer, cls: type[Dense | Conv2D], shape: Shape, extra: dict[str, Any]) -> None:
    weight, weight_format = layer.quantized("kernel")
    if layer.config.get("use_bias", True):
        bias, bias_format = layer.quantized("bias")
    else:
        bias, bias_format = np.zeros(shape[-1], np.int64), FixedFormat(False, 1, 0)
    x = builder.last.shape
    if weight.ndim != len(x) + 1 or weight.shape[-2:] != (x[-1], shape[-1]):
        raise UnsupportedError(f"kernel {weight.shape} does not fit its input of shape {x} and {shape[-1]} outputs")
    if bias.shape != shape[-1:]:
        raise UnsupportedError(f"bias {bias.shape} does not fit {shape[-1]} outputs")
    values = {**extra, "weight": weight, "weight_format": weight_format, "bias": bias, "bias_format": bias_format}
    builder.add(cls, layer, shape, FixedFormat(True, CODE_BITS - 1, 0), **values)
    _widen(builder)
    _activation(builder, layer)


def _batchnorm(builder: Builder, layer: Layer) -> None:
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    if axis not in (-1, len(builder.last.shape)):
        raise UnsupportedError(f"normalizes axis {axis}; only the last one (channels) is supported")
    scale, scale_format = layer.codes("scale")
    offset, offset_format = layer.codes("offset")
    channels = builder.last.shape[-1:]
    if scale.shape != channels or offset.shape != channels:
        raise UnsupportedError(f"scale {scale.shape} or offset {offset.shape} does not fit {channels[0]} channels")
    values = {"scale": scale, "scale_format": scale_format, "offset": offset, "offset_format": offset_format}
    builder.add(BatchNorm, layer, builder.last.shape, FixedFormat(True, CODE_BITS - 1, 0), **values)
    _widen(builder)


def _widen(builder: Builder) -> None:
    """Give the last op the format that holds each of its results exactly."""
    op = builder.ops[-1]
    frac_bits, low, high = exact_result(op, builder.ops[-2].format)
    builder.ops[-1] = replace(op, format=covering(low, high, frac_bits))


def _activation(builder: Builder, layer: Layer) -> None:
    """Append what an activation layer does, or the `activation` argument of a dense or convolution layer."""
    quantizer = parse_quantizer(layer.config.get("activation"))
    if quantizer is None:
        return _nothing(builder, layer)
    if quantizer.name == "relu":
        return _relu(builder, layer)
    if quantizer.name == "softmax":
        return _softmax(builder, layer)
    cast = activation_cast(quantizer, "activation")
    if isinstance(builder.last, Input) and builder.input_format is None:
        port = builder.ops.pop()
        layers = (*port.layers, layer.name)
        builder.ops.append(
            replace(port, format=cast.format, rounding=cast.rounding, overflow=cast.overflow, layers=layers)
        )
        return None
    fused = ("relu", "requantize") if cast.relu else ("requantize",)
    values = {"rounding": cast.rounding, "overflow": cast.overflow, "fused": fused}
    return builder.add(Requantize, layer, builder.last.shape, cast.format, **values)


def _relu(builder: Builder, layer: Layer) -> None:
    for name in ("negative_slope", "threshold"):
        value = layer.config.get(name)
        if value is not None and np.any(np.asarray(value) != 0):
            raise UnsupportedError(f"{name}={value!r} is not supported; use 0")
    if layer.config.get("max_value") is not None:
        raise UnsupportedError(f"max_value={layer.config['max_value']!r} is not supported; use quantized_relu")
    builder.add(Relu, layer, builder.last.shape, builder.last.format.unsigned())


def _softmax(builder: Builder, layer: Layer) -> None:
    if builder.softmax is not None:
        raise UnsupportedError(f"comes after the softmax '{builder.softmax}'; only a final softmax is supported")
    builder.softmax = layer.name
    builder.warnings.append(
        f"the final softmax ('{layer.name}') is left off the hardware, which returns its inputs; argmax is the same"
    )


def _max_pool(builder: Builder, layer: Layer) -> None:
    _only(layer.config, "data_format", "channels_last")
    pool = _pair(layer.config["pool_size"])
    strides = _pair(layer.config.get("strides") or pool)
    out, padding = _window(layer.config, builder.last.shape, pool, strides)
    shape, fmt = (*out, builder.last.shape[-1]), builder.last.format
    builder.add(MaxPool2D, layer, shape, fmt, pool=pool, strides=strides, padding=padding)


def _flatten(builder: Builder, layer: Layer) -> None:
    _only(layer.config, "data_format", "channels_last")
    builder.add(Flatten, layer, (math.prod(builder.last.shape),), builder.last.format)


def _nothing(builder: Builder, layer: Layer) -> None:
    if builder.softmax is None and layer.name not in builder.last.layers:
        builder.skipped.append(layer.name)


def _only(config: Mapping[str, Any], key: str, accepted: Any) -> None:
    if config.get(key, accepted) not in (accepted, None):
        raise UnsupportedError(f"{key}={config[key]!r} is not supported; use {accepted!r}")


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _window(
    config: Mapping[str, Any], shape: Shape, size: tuple[int, int], strides: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Return output (height, width) and padding (top, bottom, left, right), as TensorFlow pads: more at the end."""
    if len(shape) != 3:
        raise UnsupportedError(f"reads a tensor of shape {shape}, not (height, width, channels)")
    kind = config.get("padding", "valid")
    if kind == "valid":
        out = tuple((n - k) // s + 1 for n, k, s in zip(shape[:2], size, strides, strict=True))
        if min(out) < 1:
            raise UnsupportedError(f"window {size} is larger than its input {shape}")
        return (out[0], out[1]), (0, 0, 0, 0)
    if kind != "same":
        raise UnsupportedError(f"padding {kind!r} is not supported; use 'valid' or 'same'")
    out = tuple(-(-n // s) for n, s in zip(shape[:2], strides, strict=True))
    total = [max((o - 1) * s + k - n, 0) for o, s, k, n in zip(out, strides, size, shape[:2], strict=True)]
    return (out[0], out[1]), (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)


NO_OPS = ("Dropout", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "SpatialDropout2D")
LAYERS: Mapping[str, Callable[[Builder, Layer], None]] = {
    "InputLayer": _nothing,
    "QDense": _dense,
    "Dense": _dense,
    "QConv2D": _conv2d,
    "Conv2D": _conv2d,
    "FixedBatchNormalization": _batchnorm,
    "BatchNormalization": _batchnorm,
    "QActivation": _activation,
    "Activation": _activation,
    "ReLU": _relu,
    "Softmax": _softmax,
    "MaxPooling2D": _max_pool,
    "Flatten": _flatten,
    **dict.fromkeys(NO_OPS, _nothing),
}
