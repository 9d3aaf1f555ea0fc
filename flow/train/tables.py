"""Tables: neurons that read a few bits each and give one, with a small subnet of powers of two inside.

A neuron with `fan_in` wires is a function of that many bits, so of six one LUT, whatever is computed in it. While it
trains a layer is one Keras layer, whose wires `flow.train.rewiring` learns. Then it is written as layers of Keras and
QKeras that compute the same: a gather of the wires, and two depthwise convolutions (`plain_tables`).

After LogicNets (arXiv 2004.03021) and NeuraLUT (arXiv 2403.00849).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.train import load_tensorflow
from flow.train.quantizers import quantized_grid, quantized_po2_zero

tf: Any
keras: Any
qkeras: Any
tf, keras, qkeras = load_tensorflow()

BIT = "quantized_relu(1,1)"
"""Gives 1 above a half, else 0."""
EPSILON, MOMENTUM = 2.0**-10, 0.95
OF_BIASES = 4
"""Integer bits of the biases of hidden units."""


class Thresholds(keras.layers.Layer):  # type: ignore[misc]
    """Gives a bit for each value and threshold, 1 where the value is above: all thresholds of a value side by side."""

    def __init__(self, at: Sequence[float], name: str) -> None:
        super().__init__(name=name)
        self.at = tuple(at)

    def call(self, inputs: Any) -> Any:
        """Return float32 (samples, features * thresholds) of 0 and 1."""
        above = tf.cast(inputs[:, :, None] > tf.constant(self.at, tf.float32), tf.float32)
        return tf.reshape(above, (-1, inputs.shape[1] * len(self.at)))


class Popcount(keras.layers.Layer):  # type: ignore[misc]
    """Counts the bits of each class, those of a class side by side; in training it divides by a temperature."""

    def __init__(self, units: int, temperature: float, name: str) -> None:
        super().__init__(name=name)
        self.units, self.temperature = units, temperature

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Return float32 (samples, units)."""
        counts = tf.reduce_sum(tf.reshape(inputs, (-1, self.units, inputs.shape[1] // self.units)), 2)
        return counts / self.temperature if training else counts


class Tables(keras.layers.Layer):  # type: ignore[misc]
    """Neurons of few bits: hidden units with a ReLU, their weighted sum, normalized, then its sign as a bit.

    Inside a bit is -1 or 1. Weights are powers of two or zero. Gradients pass quantizers straight through, and the sign
    as a bell around zero.

    Args:
        units: how many neurons.
        fan_in: how many bits each reads.
        hidden: hidden units of each.
        exponents: of the weights, the smallest and the largest.
        tree: each neuron reads the next `fan_in` bits, and no wire is learned.

    Attributes:
        use_moving_statistics: as of `FixedBatchNormalization`.
        watched: whether the next call keeps what it sees.
        seen: bits (features, samples), and what the ReLU reads (units, hidden, samples).
    """

    def __init__(
        self, units: int, fan_in: int, hidden: int, exponents: tuple[int, int], *, tree: bool = False, name: str
    ) -> None:
        super().__init__(name=name)
        self.units, self.fan_in, self.hidden, self.tree = units, fan_in, hidden, tree
        self.exponents = exponents
        self.quantizer = quantized_po2_zero(8, min_exp=exponents[0], max_exp=exponents[1])
        self.bias_quantizer = quantized_grid(1 + OF_BIASES - exponents[0], OF_BIASES)
        self.use_moving_statistics, self.watched = False, False
        self.seen: tuple[Any, ...] = ()

    def build(self, input_shape: Any) -> None:
        """Create wires and weights."""
        normal = keras.initializers.RandomNormal
        limit = 2.0 ** self.exponents[1]
        clip = {"constraint": lambda weight: tf.clip_by_value(weight, -limit, limit)}
        neurons, inner = (self.units,), (self.units, self.hidden)
        self.wires = self.add_weight("wires", (self.units, self.fan_in), tf.int32, trainable=False)
        self.wires.assign(self.wired(np.arange(input_shape[-1])))
        self.first = self.add_weight("first", (*inner, self.fan_in), initializer=normal(stddev=0.4), **clip)
        self.bias = self.add_weight("bias", inner, initializer=normal(stddev=0.3))
        self.second = self.add_weight("second", inner, initializer=normal(stddev=0.4), **clip)
        self.offset = self.add_weight("offset", neurons, initializer=normal(stddev=0.3))
        self.moving_mean = self.add_weight("moving_mean", neurons, trainable=False, initializer="zeros")
        self.moving_variance = self.add_weight("moving_variance", neurons, trainable=False, initializer="ones")
        super().build(input_shape)

    def wired(self, inputs: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return (units, fan_in) wires: each neuron has its own inputs, drawn at random by TensorFlow's seed."""
        if self.tree:
            return np.arange(self.units * self.fan_in, dtype=np.int32).reshape(self.units, self.fan_in)
        order = tf.argsort(tf.random.uniform((self.units, len(inputs))), axis=1)[:, : self.fan_in]
        return np.asarray(inputs[np.asarray(order)], np.int32)

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Return bits, float32 (samples, units)."""
        bits = tf.transpose(2 * inputs - 1)
        reads = tf.gather(bits, self.wires)  # (units, fan_in, samples)
        before = tf.matmul(self.quantizer(self.first), reads) + self.bias_quantizer(self.bias)[:, :, None]
        if self.watched:
            self.seen = (bits, before)
        sums = tf.reduce_sum(self.quantizer(self.second)[:, :, None] * tf.nn.relu(before), 1)
        if not training:
            return tf.transpose(tf.cast(sums >= self.least()[:, None], tf.float32))
        mean, variance = self.moving_mean + 0.0, self.moving_variance + 0.0
        if not self.use_moving_statistics:
            mean, variance = tf.nn.moments(sums, axes=[1])
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign_sub((moving - tf.stop_gradient(batch)) * (1 - MOMENTUM))
        normal = (sums - mean[:, None]) * tf.math.rsqrt(variance + EPSILON)[:, None] + self.offset[:, None]
        return tf.transpose(_step(normal))

    def least(self) -> Any:
        """Return the smallest sum of each neuron that gives 1, on the grid of the sums."""
        grid = 2.0 ** (2 * self.exponents[0])
        top = self.hidden * 2.0 ** self.exponents[1] * self.bound() + grid
        exact = self.moving_mean - self.offset * tf.sqrt(self.moving_variance + EPSILON)
        return tf.clip_by_value(tf.math.ceil(exact / grid) * grid, -top, top)

    def bound(self) -> float:
        """Return what no hidden unit exceeds."""
        return float(self.fan_in * 2.0 ** self.exponents[1] + 2.0**OF_BIASES)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _step(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return 1 from zero on, else 0; as if it were smooth around zero."""
    return tf.cast(x >= 0, tf.float32), lambda upstream: upstream * tf.exp(-0.5 * tf.square(x)) / 2


# -- the plain form


def plain_thresholds(layer: Thresholds, step: float) -> Callable[[Any], Any]:
    """Return what computes the same of a Keras tensor with layers of Keras and QKeras.

    Args:
        layer: the layer.
        step: of the values that it reads; its thresholds lie between them or on them.
    """

    def made(tensor: Any) -> Any:
        features, count = tensor.shape[1], len(layer.at)
        kernel = np.full((1, 1, features, count), 1 / step)
        bias = np.tile(-np.floor(np.array(layer.at) / step), features)
        tensor = keras.layers.Reshape((1, 1, features), name=f"{layer.name}_values")(tensor)
        tensor = _depthwise(f"{layer.name}_above", kernel, bias, 1.0)(tensor)
        tensor = keras.layers.Flatten(name=f"{layer.name}_flat")(tensor)
        return qkeras.QActivation(BIT, name=layer.name)(tensor)

    return made


def plain_tables(layer: Tables) -> Callable[[Any], Any]:
    """Return what computes the same of a Keras tensor with layers of Keras and QKeras.

    A bit is 0 or 1 there: `w (2 x - 1) + b = 2 w x + (b - w)`. The least sum that gives 1 becomes a bias behind which
    one step of the grid less is a half, and rounds to 0.
    """
    units, fan_in, hidden = layer.units, layer.fan_in, layer.hidden
    first, second = (layer.quantizer(weight).numpy() for weight in (layer.first, layer.second))
    bias = layer.bias_quantizer(layer.bias).numpy() - first.sum(2)
    grid = 2.0 ** layer.exponents[0]
    offset = 0.5 + grid**2 - layer.least().numpy()
    top = math.ceil(math.log2(layer.bound() + 1))

    def made(tensor: Any) -> Any:
        name, reshape = layer.name, keras.layers.Reshape
        tensor = tf.gather(tensor, layer.wires.numpy().T.reshape(-1).tolist(), axis=1)
        tensor = reshape((fan_in, 1, units), name=f"{name}_wires")(tensor)
        kernel = 2 * first.transpose(2, 0, 1)[:, None]  # (fan_in, 1, units, hidden)
        tensor = _depthwise(f"{name}_hidden", kernel, bias.reshape(-1), grid)(tensor)
        relu = f"quantized_relu({top - layer.exponents[0]},{top})"
        tensor = qkeras.QActivation(relu, name=f"{name}_relu")(tensor)
        tensor = reshape((units, hidden), name=f"{name}_units")(tensor)
        tensor = keras.layers.Permute((2, 1), name=f"{name}_turned")(tensor)
        tensor = reshape((hidden, 1, units), name=f"{name}_terms")(tensor)
        tensor = _depthwise(f"{name}_sum", second.T[:, None, :, None], offset, grid**2)(tensor)
        tensor = keras.layers.Flatten(name=f"{name}_flat")(tensor)
        return qkeras.QActivation(BIT, name=name)(tensor)

    return made


def plain_popcount(layer: Popcount) -> Callable[[Any], Any]:
    """Return the dense layer of ones that counts the bits of each class; no temperature is left."""

    def made(tensor: Any) -> Any:
        ones = np.repeat(np.eye(layer.units), tensor.shape[1] // layer.units, axis=0)
        return _with_weights(
            qkeras.QDense(layer.units, use_bias=False, kernel_quantizer=_po2(ones), name=layer.name), [ones]
        )(tensor)

    return made


def _depthwise(name: str, kernel: NDArray[Any], bias: NDArray[Any], step: float) -> Callable[[Any], Any]:
    """Return a depthwise convolution that covers its input; its bias is on a grid."""
    frac_bits = -round(math.log2(step))
    int_bits = max(1, int(np.abs(bias).max()).bit_length())  # QKeras makes a sign of what has one bit
    layer = qkeras.QDepthwiseConv2D(
        kernel.shape[:2],
        depth_multiplier=kernel.shape[3],
        depthwise_quantizer=_po2(kernel),
        bias_quantizer=qkeras.quantized_bits(1 + int_bits + frac_bits, int_bits, 0, 1, alpha=1.0),
        name=name,
    )
    return _with_weights(layer, [kernel, bias])


def _po2(kernel: NDArray[Any]) -> Any:
    """Return the quantizer of powers of two that holds a kernel."""
    exponents = np.log2(np.abs(kernel[kernel != 0])) if kernel.any() else np.zeros(1)
    low, high = int(exponents.min()), int(exponents.max())
    return quantized_po2_zero(1 + (high - low + 1).bit_length(), min_exp=low, max_exp=high)


def _with_weights(layer: Any, weights: Sequence[NDArray[Any]]) -> Callable[[Any], Any]:
    """Return a layer that gets its weights where it is first called."""

    def called(tensor: Any) -> Any:
        output = layer(tensor)
        layer.set_weights(weights)
        return output

    return called
