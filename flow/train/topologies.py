"""Float models by name: `[float] topology` of a spec. None of their layers is quantized; the outputs are linear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flow.train import load_tensorflow, quiet_warnings
from flow.train.build import BATCH_NORM_MOMENTUM
from flow.train.layers import EPSILON
from flow.train.spec import FloatSpec

_modules = load_tensorflow()
keras = _modules.keras

STACKS = ((16, 1), (32, 2), (64, 2))
"""Filters and stride of each residual stack of `resnet8`."""
PAIRS = ((24, 1), (48, 2), (48, 1), (96, 2), (96, 1), (96, 1))
"""Filters of the pointwise and stride of the depthwise convolution of each pair of `mobile`."""
CODE_LENGTH = 16
HIDDEN_UNITS = (64, 32)
"""Of the encoder of `autoencoder`; the decoder has them the other way round."""


@quiet_warnings()
def build_topology(spec: FloatSpec, classes: int) -> Any:
    """Return the untrained Keras model of a float spec.

    Args:
        spec: the model.
        classes: units of the last layer of a classifier; the autoencoder has those of its input.

    Returns:
        A Keras model with one input of shape `spec.input_shape` and one linear output.
    """
    first = keras.Input(spec.input_shape, name="input")
    return keras.Model(first, TOPOLOGIES[spec.topology](first, classes), name=spec.name)


def resnet8(tensor: Any, classes: int) -> Any:
    """Apply ResNet-8, the image classification topology of MLPerf Tiny.

    A 3x3 convolution of 16 filters, three residual stacks of two 3x3 convolutions each (16, 32 and 64 filters, strides
    1, 2 and 2, a 1x1 convolution on the short cut of the last two), an average over the whole image, a dense layer.
    MLPerf's reference (github.com/mlcommons/tiny, benchmark/training/image_classification) gives the convolutions a
    bias and the short cuts no batch normalization; here a batch normalization follows each, and takes the bias' place.

    Args:
        tensor: (samples, height, width, channels).
        classes: units of the last layer.

    Returns:
        (samples, classes): logits.
    """
    tensor = _relu(_conv(tensor, "conv1", 16, 3, 1), "relu1")
    for number, (filters, stride) in enumerate(STACKS, 1):
        name = f"stack{number}"
        branch = _relu(_conv(tensor, f"{name}_conv1", filters, 3, stride), f"{name}_relu1")
        branch = _conv(branch, f"{name}_conv2", filters, 3, 1)
        if stride > 1:
            tensor = _conv(tensor, f"{name}_short", filters, 1, stride)
        tensor = _relu(keras.layers.Add(name=f"{name}_add")([tensor, branch]), f"{name}_relu2")
    tensor = keras.layers.AveragePooling2D(tuple(tensor.shape[1:3]), name="average")(tensor)
    return _dense(keras.layers.Flatten(name="flatten")(tensor), "logits", classes, "glorot_uniform")


def mobile(tensor: Any, classes: int) -> Any:
    """Apply a small depthwise-separable net after MobileNet v1 (arXiv 1704.04861): batch normalization, ReLU6.

    A 3x3 convolution of 16 filters with stride 2, six pairs of a depthwise 3x3 and a pointwise convolution (`PAIRS`),
    an average over the whole image, a dense layer.

    Args:
        tensor: (samples, height, width, channels).
        classes: units of the last layer.

    Returns:
        (samples, classes): logits.
    """
    tensor = _relu(_conv(tensor, "conv1", 16, 3, 2), "relu1", 6.0)
    for number, (filters, stride) in enumerate(PAIRS, 2):
        depthwise = keras.layers.DepthwiseConv2D(
            3, stride, "same", use_bias=False, depthwise_initializer="he_normal", name=f"depth{number}"
        )
        tensor = _relu(_batch_norm(depthwise(tensor), f"depth{number}_bn"), f"depth{number}_relu", 6.0)
        tensor = _relu(_conv(tensor, f"point{number}", filters, 1, 1), f"point{number}_relu", 6.0)
    tensor = keras.layers.GlobalAveragePooling2D(name="average")(tensor)
    return _dense(tensor, "logits", classes, "glorot_uniform")


def autoencoder(tensor: Any, classes: int) -> Any:
    """Apply a dense autoencoder like MLPerf Tiny's for anomaly detection, smaller: dense, batch normalization, ReLU.

    Args:
        tensor: (samples, features).
        classes: not used.

    Returns:
        (samples, features): the reconstruction, linear.
    """
    features = tensor.shape[1]
    for number, units in enumerate((*HIDDEN_UNITS, CODE_LENGTH, *reversed(HIDDEN_UNITS)), 1):
        dense = keras.layers.Dense(units, use_bias=False, kernel_initializer="he_normal", name=f"dense{number}")
        tensor = _relu(_batch_norm(dense(tensor), f"dense{number}_bn"), f"relu{number}")
    return _dense(tensor, "reconstruction", features, "glorot_uniform")


TOPOLOGIES: Mapping[str, Callable[[Any, int], Any]] = {
    "resnet8": resnet8,
    "mobile": mobile,
    "autoencoder": autoencoder,
}


def _conv(tensor: Any, name: str, filters: int, size: int, stride: int) -> Any:
    conv = keras.layers.Conv2D(filters, size, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name)
    return _batch_norm(conv(tensor), f"{name}_bn")


def _batch_norm(tensor: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=EPSILON, name=name)(tensor)


def _relu(tensor: Any, name: str, max_value: float | None = None) -> Any:
    return keras.layers.ReLU(max_value, name=name)(tensor)


def _dense(tensor: Any, name: str, units: int, initializer: str) -> Any:
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name)(tensor)
