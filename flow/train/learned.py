"""Formats that are learned: integer and fraction bits of activations are variables, rounded wherever they are used.

Fraction bits learn from what rounding takes away, integer bits from what clamping does (Sun et al., Gradient-based
Automatic Mixed Precision Quantization, arXiv 2405.00645, for the first; Esser et al., LSQ, arXiv 1902.08153, for both).
A layer has such a quantizer only while it trains: then it gets back the `quantized_relu` or `quantized_bits` of
QKeras with the bits that were found, which gives the same values.
"""

from __future__ import annotations

import math
from typing import Any

from flow.train import load_tensorflow

qkeras: Any
tf, _, qkeras = load_tensorflow()

MOST_BITS = 16.0
"""Integer bits, and fraction bits, are no more than this."""


class LearnedFormat(qkeras.BaseQuantizer):  # type: ignore[misc]
    """Rounds half to even and clamps, to a format whose bits are learned.

    Args:
        signed: whether values may be negative; otherwise it is a ReLU too.
        integer: integer bits, without a sign, at first.
        fraction: fraction bits at first.
    """

    def __init__(self, signed: bool, integer: int, fraction: int) -> None:
        super().__init__()
        self.signed = signed
        self.top = tf.Variable(float(integer), name="integer_bits")
        self.fraction = tf.Variable(float(fraction), name="fraction_bits")

    def bits_of(self) -> tuple[Any, Any]:
        """Return whole integer and fraction bits, at least one bit in all, as tensors that gradients pass."""
        top = _whole(tf.clip_by_value(self.top, 0.0, MOST_BITS))  # QKeras computes with no fewer integer bits
        fraction = _whole(tf.clip_by_value(self.fraction, -MOST_BITS, MOST_BITS))
        return top, tf.maximum(fraction, tf.stop_gradient(1 - top))

    def width(self) -> Any:
        """Return the bits in all, as a tensor that gradients pass."""
        top, fraction = self.bits_of()
        return top + fraction + float(self.signed)

    def __call__(self, x: Any) -> Any:
        x = tf.convert_to_tensor(x, tf.float32)
        top, fraction = self.bits_of()
        step = tf.stop_gradient(tf.pow(2.0, -fraction))
        limit = tf.pow(2.0, top)
        low = -limit if self.signed else tf.zeros_like(limit)
        clipped = tf.minimum(tf.maximum(x, low), limit - step)
        lost = tf.stop_gradient(clipped - tf.round(clipped / step) * step)
        halving = -math.log(2) * fraction  # what is lost is half as much with each fraction bit more
        return clipped - lost * (1 + halving - tf.stop_gradient(halving))


def learned_formats(model_layers: list[Any]) -> dict[str, LearnedFormat]:
    """Return name -> a format to learn for each `QActivation` that is a plain cast, at first the one it has."""
    found = {}
    for layer in model_layers:
        quantizer: Any = getattr(layer, "quantizer", None)
        if isinstance(layer, qkeras.QActivation) and (signed := _signed(quantizer)) is not None:
            bits, integer = int(quantizer.bits), int(quantizer.integer)
            found[layer.name] = LearnedFormat(signed, integer, bits - integer - signed)
    return found


def learn(layer: Any, learned: LearnedFormat) -> None:
    """Give a `QActivation` a format to learn, whose variables are the layer's."""
    layer.quantizer = learned
    layer._trainable_weights.extend([learned.top, learned.fraction])  # Keras 2 tracks none of a quantizer


def settle(layer: Any, learned: LearnedFormat) -> None:
    """Give a `QActivation` the quantizer of QKeras that computes what was learned."""
    layer._trainable_weights.clear()
    top, fraction = (int(bits) for bits in learned.bits_of())
    width = top + fraction + learned.signed
    if learned.signed:
        layer.quantizer = qkeras.quantized_bits(width, top, 0, 1, alpha=1.0)
        layer.activation = f"quantized_bits({width},{top},0,1,alpha=1.0)"
    else:
        layer.quantizer, layer.activation = qkeras.quantized_relu(width, top), f"quantized_relu({width},{top})"


def _signed(quantizer: Any) -> bool | None:
    """Say whether a plain cast is signed; None if it is something else."""
    if type(quantizer) is qkeras.quantized_relu:
        plain = not quantizer.use_sigmoid and not quantizer.negative_slope and quantizer.relu_upper_bound is None
        return False if plain else None
    if type(quantizer) is qkeras.quantized_bits and quantizer.keep_negative and not quantizer.symmetric:
        return True if quantizer.alpha in (None, 1, 1.0) else None
    return None


def _whole(x: Any) -> Any:
    return x + tf.stop_gradient(tf.round(x) - x)
