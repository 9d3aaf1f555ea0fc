"""Layers that QKeras 0.9.0 lacks: a batch normalization whose scale and offset are what the hardware multiplies and
adds, and a dense layer of QKeras' master."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.frontend.keras.quantizers import parse_quantizer
from flow.train import load_tensorflow
from flow.train.functions import made_quantizer

keras: Any
qkeras: Any
tf, keras, qkeras = load_tensorflow()

EPSILON = 2.0**-10
"""A power of two, so that `(1 - EPSILON) + EPSILON == 1` in float32 and a folded layer is reproduced exactly."""


class FixedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Normalize over the batch with a quantized scale and offset: `y = x * scale + offset`, per channel.

    `scale = scale_quantizer(gamma / sqrt(var + epsilon))` and `offset = offset_quantizer(beta - mean * scale)`, with
    the batch's mean and variance in training and the moving ones otherwise. Gradients pass the quantizers straight
    through, so what is trained is what the hardware does. Normalizes the last axis.

    Args:
        scale_quantizer: quantizer of the scale: `quantized_po2_zero` (a shift) or `quantized_grid` (a multiplier).
        offset_quantizer: quantizer of the offset.
        epsilon: added to the variance.
        **kwargs: as for Keras' `BatchNormalization`.

    Attributes:
        use_moving_statistics: set it and compile the model again to train with the moving mean and variance as well,
            as one does in the last epochs, when the scale should no longer jump between exponents.
    """

    def __init__(self, scale_quantizer: Any, offset_quantizer: Any, epsilon: float = EPSILON, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)
        self.scale_quantizer = quantizer_of(scale_quantizer)
        self.offset_quantizer = quantizer_of(offset_quantizer)
        self.use_moving_statistics = False

    def build(self, input_shape: Any) -> None:
        """Create gamma, beta and the moving statistics, each of shape (channels,)."""
        super().build(input_shape)
        self.fused = False  # Keras' fused kernel has no place for quantizers

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Return `inputs * scale + offset`, float32, same shape."""
        training = False if self.use_moving_statistics else self._get_training_value(training)
        mean, variance = tf.__internal__.smart_cond.smart_cond(
            training,
            lambda: self._batch_statistics(inputs),
            lambda: (self.moving_mean + 0.0, self.moving_variance + 0.0),
        )
        scale, offset = self._scale_and_offset(mean, variance)
        return inputs * scale + offset

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scale and offset as used at inference: float32, shape (channels,)."""
        scale, offset = self._scale_and_offset(self.moving_mean, self.moving_variance)
        return np.asarray(scale, np.float32), np.asarray(offset, np.float32)

    def set_folded(self, scale: NDArray[np.float32], offset: NDArray[np.float32]) -> None:
        """Set the variables so that `folded()` returns these values, which must be the quantizers' own."""
        ones = np.ones_like(scale)
        self.set_weights([scale, offset, 0 * ones, ones - np.float32(self.epsilon)])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        return {**super().get_config(), **described(self, "scale_quantizer", "offset_quantizer")}

    def _scale_and_offset(self, mean: Any, variance: Any) -> tuple[Any, Any]:
        scale = self.scale_quantizer(self.gamma / tf.sqrt(variance + self.epsilon))
        return scale, self.offset_quantizer(self.beta - mean * scale)

    def _batch_statistics(self, inputs: Any) -> tuple[Any, Any]:
        mean, variance = tf.nn.moments(inputs, axes=list(range(len(inputs.shape) - 1)))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign_sub((moving - tf.stop_gradient(batch)) * (1.0 - self.momentum))
        return mean, variance


def quantizer_of(identifier: Any) -> Any:
    """Return the quantizer that a configuration describes; anything else as it is."""
    if not isinstance(identifier, Mapping):
        return identifier
    quantizer = parse_quantizer(identifier)
    return None if quantizer is None else made_quantizer(quantizer, whole=quantizer.name == "quantized_grid")


def described(layer: Any, *keys: str) -> dict[str, Any]:
    """Return quantizers of a layer as its configuration says them."""
    quantizers = {key: getattr(layer, key) for key in keys}
    return {key: {"class_name": type(held).__name__, "config": held.get_config()} for key, held in quantizers.items()}


class QDenseBatchnorm(qkeras.QDense):  # type: ignore[misc]
    """A dense layer whose output is normalized: what QKeras' master computes at inference; QKeras 0.9.0 has none.

    The kernel is quantized, then multiplied by the scale of the normalization, which nothing quantizes.

    Args:
        units, **kwargs: as of `QDense`.
        axis, momentum, center, scale, ema_freeze_delay, folding_mode: of the normalization and its training.
        epsilon: added to the variance.
    """

    def __init__(
        self,
        units: int,
        axis: Any = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        ema_freeze_delay: Any = None,
        folding_mode: str = "ema_stats_folding",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        self.batchnorm = keras.layers.BatchNormalization(epsilon=epsilon, center=center, scale=scale)

    def build(self, input_shape: Any) -> None:
        """Create the variables, in the order in which QKeras' master saves them."""
        super().build(input_shape)
        self._iteration = tf.Variable(-1, trainable=False, name="iteration", dtype=tf.int64)
        self.batchnorm.build([*input_shape[:-1], self.units])
        self.batchnorm.built = True

    def normalized(self) -> tuple[Any, Any, Any]:
        """Return the quantized kernel, and the scale and offset of its products, one for each unit."""
        norm = self.batchnorm
        kernel = self.kernel if self.kernel_quantizer is None else self.kernel_quantizer_internal(self.kernel)
        bias = self.bias if self.use_bias else 0.0
        if self.bias_quantizer_internal is not None:
            bias = self.bias_quantizer_internal(bias)
        scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
        scale = scale if norm.gamma is None else scale * norm.gamma
        return kernel, scale, scale * (bias - norm.moving_mean) + norm.beta

    def call(self, inputs: Any) -> Any:
        """Return the activation of `inputs @ (scale * kernel) + offset`, float32."""
        kernel, scale, offset = self.normalized()
        outputs = keras.backend.dot(inputs, scale * kernel) + offset
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        norm = self.batchnorm
        return {**super().get_config(), "epsilon": norm.epsilon, "center": norm.center, "scale": norm.scale}
