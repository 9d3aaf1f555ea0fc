"""Freezing: every variable becomes the value that its quantizer makes of it, and nothing the model says changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.train import load_tensorflow
from flow.train.layers import FixedBatchNormalization

_modules = load_tensorflow()
tf, keras = _modules.tf, _modules.keras

Weights = dict[str, dict[str, NDArray[np.float32]]]


def quantized_weights(model: Any) -> Weights:
    """Return what each layer really multiplies and adds, as `flow.trained.TrainedModel.weights` holds it.

    Args:
        model: a Keras model of QKeras layers without pruning wrappers.

    Returns:
        Layer name -> kernel (and bias), or scale and offset; float32.

    Raises:
        UnsupportedError: a value is NaN or infinite.
    """
    weights = {}
    for layer in model.layers:
        group = _arrays(layer)
        for key, array in group.items():
            if not np.isfinite(array).all():
                raise UnsupportedError(f"{model.name}: layer '{layer.name}': {key} holds NaN or infinite values")
        if group:
            weights[layer.name] = group
    return weights


def set_quantized_weights(model: Any, weights: Weights) -> None:
    """Set the variables of a model so that its layers use exactly these values.

    Raises:
        AssertionError: a quantizer does not leave its own output as it is.
    """
    for layer in model.layers:
        if layer.name not in weights:
            continue
        group = weights[layer.name]
        if isinstance(layer, FixedBatchNormalization):
            layer.set_folded(group["scale"], group["offset"])
        else:
            layer.set_weights([group[key] for key in ("kernel", "bias") if key in group])
    for (name, key, found), (_, _, wanted) in zip(_flat(quantized_weights(model)), _flat(weights), strict=True):
        assert np.array_equal(found, wanted), f"{name}/{key}: quantizing twice differs from quantizing once"


def freeze(model: Any, inputs: NDArray[np.float32]) -> Weights:
    """Replace kernels, biases and batch normalizations by their quantized values.

    Args:
        model: a Keras model of QKeras layers without pruning wrappers; changed in place.
        inputs: (n, *shape) float32: samples on which the outputs must stay the same, bit for bit.

    Returns:
        The quantized weights.

    Raises:
        UnsupportedError: a weight is NaN or infinite.
        AssertionError: an output changed.
    """
    before = model.predict(inputs, batch_size=1024, verbose=0)
    weights = quantized_weights(model)
    set_quantized_weights(model, weights)
    after = model.predict(inputs, batch_size=1024, verbose=0)
    assert np.array_equal(before, after), f"{model.name}: freezing changed {np.count_nonzero(before != after)} outputs"
    return weights


def sparsity(weights: Weights) -> float:
    """Return the fraction of exact zeros over all kernels."""
    kernels = [group["kernel"] for group in weights.values() if "kernel" in group]
    return float(sum(np.count_nonzero(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels))


def _arrays(layer: Any) -> dict[str, NDArray[np.float32]]:
    if isinstance(layer, FixedBatchNormalization):
        scale, offset = layer.folded()
        return {"scale": scale, "offset": offset}
    if isinstance(layer, keras.layers.BatchNormalization):
        return _plain_batchnorm(layer)
    arrays = {}
    for key in ("kernel", "bias"):
        variable, quantizer = getattr(layer, key, None), getattr(layer, f"{key}_quantizer_internal", None)
        if variable is not None:
            arrays[key] = np.asarray(quantizer(variable) if quantizer else variable, np.float32)
    return arrays


def _plain_batchnorm(layer: Any) -> dict[str, NDArray[np.float32]]:
    """Return scale and offset in float32, as `tf.nn.batch_normalization` computes them before it uses them."""
    scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
    scale = scale if layer.gamma is None else scale * layer.gamma
    offset = -layer.moving_mean * scale
    offset = offset if layer.beta is None else layer.beta + offset
    return {"scale": np.asarray(scale, np.float32), "offset": np.asarray(offset, np.float32)}


def _flat(weights: Weights) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    return ((name, key, group[key]) for name, group in sorted(weights.items()) for key in sorted(group))
