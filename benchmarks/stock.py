"""What a user has without po2flow: stock QKeras models of our topologies, and plain hls4ml on them.

hls4ml knows neither our quantizer with a zero nor our batch normalization, so each model is built from stock layers:
`QDense`, `QConv2D`, `QActivation(quantized_relu)` and Keras' `BatchNormalization` that holds the folded scale and offset.
Topology and stored weights are those of the trained model.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from flow.spec import BatchNormSpec, Conv2DSpec, DenseSpec, FlattenSpec, LayerSpec, MaxPool2DSpec, ModelSpec, Po2Spec
from flow.train import load_tensorflow
from flow.train.layers import EPSILON
from flow.trained import TrainedModel

_modules = load_tensorflow()
tf, keras, qkeras = _modules.tf, _modules.keras, _modules.qkeras

KernelQuantizer = Callable[[Po2Spec], Any]


def po2_kernel(values: Po2Spec) -> Any:
    """Return the `quantized_po2` that a user would write: it reaches the same powers of two, but has no zero."""
    count = values.max_exponent - values.min_exponent + 1
    return qkeras.quantized_po2(1 + count.bit_length(), 2**values.max_exponent)


def bits_kernel(values: Po2Spec) -> Any:
    """Return the `quantized_bits` that holds zero and every power of two of the range, so no weight changes."""
    integer = values.max_exponent + 1  # 2**max_exponent itself must fit
    return qkeras.quantized_bits(1 + integer - values.min_exponent, integer, 1, alpha=1.0)


def stock_model(spec: ModelSpec, trained: TrainedModel, kernel: KernelQuantizer) -> Any:
    """Return the stock QKeras model of a spec with the stored weights of its trained model.

    Args:
        spec: the topology.
        trained: its weights.
        kernel: makes the kernel quantizer of a layer; `po2_kernel` or `bits_kernel`.
    """
    quantize_input = qkeras.QActivation(_relu(spec.input.format), name=spec.input.name)
    model = keras.Sequential(
        [keras.Input(spec.input.shape), quantize_input, *(_layer(layer, kernel) for layer in spec.layers)],
        name=spec.name,
    )
    for layer in model.layers:
        group = trained.weights.get(layer.name, {})
        if "scale" in group:  # gamma, beta, mean, variance, such that gamma / sqrt(variance + epsilon) is the scale
            ones = np.ones_like(group["scale"])
            layer.set_weights([group["scale"], group["offset"], 0 * ones, ones - np.float32(EPSILON)])
        elif "kernel" in group:
            layer.set_weights([group[key] for key in ("kernel", "bias") if key in group])
    return model


def _layer(layer: LayerSpec, kernel: KernelQuantizer) -> Any:
    if isinstance(layer, DenseSpec | Conv2DSpec):
        bias = layer.bias and qkeras.quantized_bits(layer.bias.width, layer.bias.int_bits, 1, alpha=1.0)
        common = {"name": layer.name, "use_bias": layer.bias is not None, "bias_quantizer": bias}
        common["kernel_quantizer"] = kernel(layer.kernel)
        if isinstance(layer, DenseSpec):
            return qkeras.QDense(layer.units, **common)
        return qkeras.QConv2D(
            layer.filters, layer.kernel_size, strides=layer.strides, padding=layer.padding, **common
        )
    if isinstance(layer, BatchNormSpec):
        return keras.layers.BatchNormalization(epsilon=EPSILON, name=layer.name)
    if isinstance(layer, MaxPool2DSpec):
        return keras.layers.MaxPooling2D(layer.size, name=layer.name)
    if isinstance(layer, FlattenSpec):
        return keras.layers.Flatten(name=layer.name)
    return qkeras.QActivation(_relu(layer.format), name=layer.name)


def _relu(fmt: Any) -> str:
    return f"quantized_relu({fmt.width},{fmt.int_bits})"
