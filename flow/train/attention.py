"""Attention, softmax and layer normalization of integers, as layers that train: hardware computes the same codes.

Each computes with the step functions of `flow.frontend.step_functions`, sums, products and casts, every one of which is
exact in float32 where its numbers have 24 bits. Gradients are those of the real function that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import at
from flow.frontend.step_functions import (
    COARSER_SUM,
    StepFunction,
    check_settings,
    exponential,
    inverse_root,
    mean_weight,
    normalized_integer_bits,
    reciprocal,
)
from flow.train import load_tensorflow
from flow.train.layers import described, quantizer_of
from flow.train.quantizers import quantized_grid

keras: Any
qkeras: Any
tf, keras, qkeras = load_tensorflow()


class FixedSoftmax(keras.layers.Layer):  # type: ignore[misc]
    """A softmax over the last axis, of integers: for attention, or anywhere inside a net.

    Exponentials of the distances to the largest input have `bits` fraction bits. Their sum is rounded to two bits less,
    its reciprocal to `bits` significant bits; the products are rounded to `bits` fraction bits, at most `1 - 2**-bits`.

    Args:
        bits: 2 to 12.
        **kwargs: as for any Keras layer.

    Example:
        >>> [float(p) for p in FixedSoftmax(bits=4)(np.float32([[0, 1, 3]]))[0]]
        [0.0625, 0.125, 0.8125]
    """

    def __init__(self, bits: int = 8, **kwargs: Any) -> None:
        with at(layer=kwargs.get("name", type(self).__name__)):
            check_settings(bits)
        super().__init__(**kwargs)
        self.bits = bits

    def call(self, inputs: Any) -> Any:
        """Return what `exact` says, with the gradient of a softmax."""
        return _with_gradient_of(tf.nn.softmax, self.exact)(inputs)

    def exact(self, inputs: Any) -> Any:
        """Return the softmax, same shape and float type."""
        distances = inputs - tf.reduce_max(inputs, -1, keepdims=True)
        weights = _stepped(exponential(self.bits), distances)
        count, steps = int(inputs.shape[-1]), 2 ** (self.bits - COARSER_SUM)
        total = _rounded(tf.reduce_sum(weights, -1, keepdims=True), float(steps), 0, count * steps)
        inverse = _stepped(reciprocal(self.bits, count), total)
        return _rounded(weights * inverse, 2.0**self.bits, 0, 2**self.bits - 1)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        return {**super().get_config(), "bits": self.bits}


class FixedLayerNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Normalize each sample over its last axis, of integers, then scale and shift: `normalized * scale + offset`.

    The inputs without their mean are rounded to `bits` bits and clamped to +-2**integer. They are multiplied by the
    inverse root of their mean square, of `root_bits` significant bits, and rounded to `bits` bits again. A number of
    channels that is no power of two costs a product by a constant, and no division.

    Args:
        bits: 2 to 12.
        integer: integer bits of what is normalized, without the sign.
        root_bits: 2 to 12; the table has about 2**root_bits * 4 steps.
        epsilon: added to the variance.
        scale_quantizer: quantizer of the scale, `quantized_grid(8, 1)` if not given.
        offset_quantizer: quantizer of the offset, the same.
        **kwargs: as for any Keras layer.

    Example:
        >>> [float(y) for y in FixedLayerNormalization(bits=6)(np.float32([[0, 1, 2, 1]]))[0]]
        [-1.375, 0.0, 1.375, 0.0]
    """

    def __init__(
        self,
        bits: int = 8,
        integer: int = 2,
        root_bits: int = 6,
        epsilon: float = 2.0**-10,
        scale_quantizer: Any = None,
        offset_quantizer: Any = None,
        **kwargs: Any,
    ) -> None:
        with at(layer=kwargs.get("name", type(self).__name__)):
            check_settings(bits, integer, root_bits, epsilon)
        super().__init__(**kwargs)
        self.bits, self.integer, self.root_bits, self.epsilon = bits, integer, root_bits, epsilon
        self.scale_quantizer = quantizer_of(scale_quantizer) or quantized_grid(8, 1)
        self.offset_quantizer = quantizer_of(offset_quantizer) or quantized_grid(8, 1)

    def build(self, input_shape: Any) -> None:
        """Create gamma and beta, each of shape (channels,)."""
        shape = tuple(input_shape[-1:])
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return `exact * scale + offset`, with the gradient of a normalization."""
        normal = _with_gradient_of(self._smooth, self.exact)(inputs)
        return normal * self.scale_quantizer(self.gamma) + self.offset_quantizer(self.beta)

    def exact(self, inputs: Any) -> Any:
        """Return the normalized inputs, before scale and offset: same shape and float type."""
        channels = int(inputs.shape[-1])
        part = mean_weight(channels)
        mean = tf.reduce_sum(inputs, -1, keepdims=True) * part
        steps, limit = 2.0 ** (self.bits - 1 - self.integer), 2 ** (self.bits - 1)
        centered = _rounded((inputs * (channels * part) - mean), steps, -limit, limit - 1)
        variance = tf.reduce_sum(centered * centered, -1, keepdims=True) * part
        root = inverse_root(self.root_bits, self.epsilon, 4.0**self.integer, channels * part)
        steps = 2.0 ** (self.bits - 1 - normalized_integer_bits(channels))
        return _rounded(centered * _stepped(root, variance), steps, -limit, limit - 1)

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scale and offset as used: float32, shape (channels,)."""
        pair = self.scale_quantizer(self.gamma), self.offset_quantizer(self.beta)
        return np.asarray(pair[0], np.float32), np.asarray(pair[1], np.float32)

    def set_folded(self, scale: NDArray[np.float32], offset: NDArray[np.float32]) -> None:
        """Set the variables so that `folded()` returns these values, which must be the quantizers' own."""
        self.set_weights([scale, offset])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        settings = {key: getattr(self, key) for key in ("bits", "integer", "root_bits", "epsilon")}
        return {**super().get_config(), **settings, **described(self, "scale_quantizer", "offset_quantizer")}

    def _smooth(self, inputs: Any) -> Any:
        mean, variance = tf.nn.moments(inputs, -1, keepdims=True)
        return (inputs - mean) * tf.math.rsqrt(variance + self.epsilon)


def multi_head_attention(
    query: Any,
    value: Any = None,
    *,
    heads: int,
    key_dim: int,
    bits: int = 8,
    integer: int = 2,
    kernel_quantizer: str = "quantized_po2(4,1)",
    bias_quantizer: str = "quantized_bits(8,1,alpha=1)",
    name: str = "attention",
) -> Any:
    """Append attention to a functional model: of each head softmax(q k^T) v, joined and projected.

    It consists of QDense, QActivation, Dot, FixedSoftmax and Concatenate, called `name`_..., so a report shows each of
    its tensors. No factor 1 / sqrt(key_dim) is multiplied: the kernels of the queries begin smaller by it.

    Args:
        query: tensor (batch, positions, channels), quantized.
        value: tensor (batch, positions, channels) that is attended to; `query` itself if not given.
        heads: how many.
        key_dim: channels of each head's queries, keys and values.
        bits, integer: of queries, keys, values, scores and what each head gives, as of `quantized_bits`; scores have
            two integer bits more.
        kernel_quantizer, bias_quantizer: of the projections.
        name: before the names of the layers.

    Returns:
        (batch, positions, channels), not quantized yet.
    """
    value = query if value is None else value

    def projected(x: Any, units: int, what: str, scale: float = 1.0) -> Any:
        initializer = keras.initializers.VarianceScaling(scale, "fan_avg", "uniform")
        quantizers = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer}
        return qkeras.QDense(units, kernel_initializer=initializer, **quantizers, name=f"{name}_{what}")(x)

    def quantized(x: Any, what: str, more: int = 0) -> Any:
        return qkeras.QActivation(f"quantized_bits({bits},{integer + more},alpha=1)", name=f"{name}_{what}")(x)

    def head(number: int) -> Any:
        sources = {"query": (query, 1 / key_dim), "key": (value, 1.0), "value": (value, 1.0)}
        q, k, v = (
            quantized(projected(x, key_dim, f"{what}{number}", scale), f"{what}{number}_codes")
            for what, (x, scale) in sources.items()
        )
        scores = quantized(keras.layers.Dot(2, name=f"{name}_scores{number}")([q, k]), f"scores{number}_codes", 2)
        shares = FixedSoftmax(bits, name=f"{name}_shares{number}")(scores)
        return quantized(keras.layers.Dot((2, 1), name=f"{name}_mix{number}")([shares, v]), f"mix{number}_codes")

    parts = [head(number) for number in range(heads)]
    joined = parts[0] if heads == 1 else keras.layers.Concatenate(name=f"{name}_joined")(parts)
    return projected(joined, query.shape[-1], "output")


def _stepped(function: StepFunction, x: Any) -> Any:
    """Return the value of a step function at each x, in its float type."""
    starts, values = (tf.constant(part.astype(x.dtype.as_numpy_dtype)) for part in (function.starts, function.values))
    place = tf.searchsorted(starts, tf.reshape(x, [-1]), side="right")
    return tf.reshape(tf.gather(values, place), tf.shape(x))


def _rounded(x: Any, steps: float, low: int, high: int) -> Any:
    """Round half to even to multiples of 1 / steps, and clamp to low / steps and high / steps."""
    return tf.clip_by_value(tf.round(x * steps), low, high) / steps


def _with_gradient_of(smooth: Callable[[Any], Any], exact: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function whose values are `exact` and whose gradient is that of `smooth`."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        def gradient(upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = smooth(x)
            return tape.gradient(y, x, upstream)

        return exact(x), gradient

    return function  # type: ignore[no-any-return]
