"""Keras models from a spec: the quantized one and its float twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flow.ir.fixed import FixedFormat
from flow.train import load_tensorflow, quiet_warnings
from flow.train.layers import EPSILON, FixedBatchNormalization
from flow.train.quantizers import quantized_grid, quantized_po2_zero
from flow.train.spec import (
    BatchNormSpec,
    Conv2DSpec,
    DenseSpec,
    FlattenSpec,
    LayerSpec,
    MaxPool2DSpec,
    ModelSpec,
    Po2Spec,
    ReluSpec,
)

_modules = load_tensorflow()
keras, qkeras = _modules.keras, _modules.qkeras

BATCH_NORM_MOMENTUM = 0.9

Wrap = Callable[[Any, LayerSpec], Any]
"""What is done to each layer before it is used: pruning wraps it."""


@quiet_warnings()
def build_quantized(spec: ModelSpec, wrap: Wrap = lambda layer, _: layer) -> Any:
    """Return the Keras model of a spec with QKeras layers; it quantizes its own input and ends with logits.

    Args:
        spec: the model.
        wrap: called with each layer and its spec; returns the layer to use.
    """
    quantize_input = qkeras.QActivation(_activation(spec.input.format), name=spec.input.name)
    return _chain(spec, [quantize_input, *(wrap(_quantized(layer), layer) for layer in spec.layers)])


@quiet_warnings()
def build_float(spec: ModelSpec, wrap: Wrap = lambda layer, _: layer) -> Any:
    """Return the float twin: the same topology in float32, nothing quantized.

    Args:
        spec: the model.
        wrap: as in `build_quantized`.
    """
    return _chain(spec, [wrap(_float(layer), layer) for layer in spec.layers])


def _chain(spec: ModelSpec, layers: list[Any]) -> Any:
    first = tensor = keras.Input(spec.input.shape, name="input")
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(first, tensor, name=spec.name)


def _quantized(layer: LayerSpec) -> Any:
    if isinstance(layer, (DenseSpec, Conv2DSpec)):
        arguments = {
            **_geometry(layer),
            "kernel_quantizer": _po2(layer.kernel),
            "bias_quantizer": _bits(layer.bias) if layer.bias else None,
        }
        return qkeras.QDense(**arguments) if isinstance(layer, DenseSpec) else qkeras.QConv2D(**arguments)
    if isinstance(layer, BatchNormSpec):
        return FixedBatchNormalization(
            scale_quantizer=_po2(layer.scale) if isinstance(layer.scale, Po2Spec) else _grid(layer.scale),
            offset_quantizer=_grid(layer.offset),
            momentum=BATCH_NORM_MOMENTUM,
            name=layer.name,
        )
    if isinstance(layer, ReluSpec):
        return qkeras.QActivation(_activation(layer.format), name=layer.name)
    return _reshaping(layer)


def _float(layer: LayerSpec) -> Any:
    if isinstance(layer, DenseSpec):
        return keras.layers.Dense(**_geometry(layer))
    if isinstance(layer, Conv2DSpec):
        return keras.layers.Conv2D(**_geometry(layer))
    if isinstance(layer, BatchNormSpec):
        return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=EPSILON, name=layer.name)
    if isinstance(layer, ReluSpec):
        return keras.layers.ReLU(name=layer.name)
    return _reshaping(layer)


def _reshaping(layer: MaxPool2DSpec | FlattenSpec) -> Any:
    if isinstance(layer, MaxPool2DSpec):
        return keras.layers.MaxPooling2D(layer.size, name=layer.name)
    return keras.layers.Flatten(name=layer.name)


def _geometry(layer: DenseSpec | Conv2DSpec) -> dict[str, Any]:
    common = {"name": layer.name, "use_bias": layer.bias is not None, "kernel_initializer": "he_normal"}
    if isinstance(layer, DenseSpec):
        return {**common, "units": layer.units}
    sizes = {"kernel_size": layer.kernel_size, "strides": layer.strides, "padding": layer.padding}
    return {**common, **sizes, "filters": layer.filters}


def _activation(fmt: FixedFormat) -> str:
    """Return the QKeras activation that rounds half to even and clamps to the format."""
    if fmt.signed:
        return f"quantized_bits({fmt.width},{fmt.int_bits},0,1,alpha=1.0)"
    return f"quantized_relu({fmt.width},{fmt.int_bits})"


def _bits(fmt: FixedFormat) -> Any:
    return qkeras.quantized_bits(fmt.width, fmt.int_bits, 0, 1, alpha=1.0)


def _grid(fmt: FixedFormat) -> Any:
    return quantized_grid(fmt.width, fmt.int_bits)


def _po2(values: Po2Spec) -> Any:
    count = values.max_exponent - values.min_exponent + 1
    bits = 1 + count.bit_length()  # a sign; an exponent or zero
    return quantized_po2_zero(bits, min_exp=values.min_exponent, max_exp=values.max_exponent)
