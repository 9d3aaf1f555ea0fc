"""Formats that are learned: integer and fraction bits are variables, rounded to whole bits wherever they are used.

Fraction bits learn from what rounding takes away, integer bits from what clamping does (Sun et al., Gradient-based
Automatic Mixed Precision Quantization, arXiv 2405.00645, for the first; Esser et al., LSQ, arXiv 1902.08153, for both).
Of a given width the step alone is learned, and is a power of two at each step of the training.

A layer has such a quantizer only while it trains. Then an activation gets back the `quantized_relu` or `quantized_bits`
of QKeras with the bits that were found, and a kernel a `quantized_grid`, which give the same values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import SpecError
from flow.train import load_tensorflow
from flow.train.freeze import layers_by_path
from flow.train.kernels import Kernel, kernel_of
from flow.train.quantizers import power_of_two, quantized_grid

keras: Any
qkeras: Any
tf, keras, qkeras = load_tensorflow()

MOST_BITS = 16.0
"""Integer bits, and fraction bits, are no more than this."""
FINER = 4
"""By how many bits a step that fits a kernel may be finer than one whose range holds all weights."""
GRANULARITIES = ("layer", "channel")


class LearnedFormat(qkeras.BaseQuantizer):  # type: ignore[misc]
    """Rounds half to even and clamps, to a format whose bits are learned.

    Args:
        signed: whether values may be negative; otherwise it is a ReLU too.
        integer: integer bits, without a sign, at first; or an array with those of each channel.
        fraction: fraction bits at first; or an array.
        width: in all, sign included, if that is given: then only the step is learned. A number, or an array.
        least: integer bits are no fewer.
        of: name of the layer; variables of one name cannot be saved together.
    """

    def __init__(
        self, signed: bool, integer: Any, fraction: Any, *, width: Any = None, least: float = 0.0, of: str = ""
    ) -> None:
        super().__init__()
        self.signed, self.given, self.least = signed, width, least
        self.fraction = tf.Variable(np.float32(fraction), name=f"{of}_fraction_bits")
        self.top = None if width is not None else tf.Variable(np.float32(integer), name=f"{of}_integer_bits")

    @property
    def variables_learned(self) -> list[Any]:
        """The variables, the one of integer bits first."""
        return [variable for variable in (self.top, self.fraction) if variable is not None]

    def bits_of(self) -> tuple[Any, Any]:
        """Return whole integer and fraction bits, at least one bit in all, as tensors that gradients pass."""
        if self.top is None:
            magnitude = np.float32(self.given - self.signed)
            fraction = _whole(tf.clip_by_value(self.fraction, magnitude - MOST_BITS, magnitude - self.least))
            return magnitude - fraction, fraction
        top = _whole(tf.clip_by_value(self.top, self.least, MOST_BITS))
        fraction = _whole(tf.clip_by_value(self.fraction, -MOST_BITS, MOST_BITS))
        return top, tf.maximum(fraction, tf.stop_gradient(1 - top))

    def width(self) -> Any:
        """Return the bits in all, as a tensor that gradients pass."""
        top, fraction = self.bits_of()
        return top + fraction + float(self.signed)

    def step_of(self, kernel: Kernel) -> Any:
        """Return the step of a kernel's weights, or that of each column, as a tensor that gradients pass."""
        step = power_of_two(-self.bits_of()[1])
        return step if step.shape.rank == 0 else tf.reshape(step, [kernel.columns])

    def __call__(self, x: Any) -> Any:
        x = tf.convert_to_tensor(x, tf.float32)
        top, fraction = self.bits_of()
        step, limit = tf.stop_gradient(power_of_two(-fraction)), power_of_two(top)
        low = -limit if self.signed else tf.zeros_like(limit)
        clipped = tf.minimum(tf.maximum(x, low), limit - step)
        lost = tf.stop_gradient(clipped - tf.round(clipped / step) * step)
        halving = -math.log(2) * fraction  # what is lost is half as much with each fraction bit more
        return clipped - lost * (1 + halving - tf.stop_gradient(halving))


def learned_formats(model_layers: Sequence[Any], *, kernels: str = "") -> dict[str, LearnedFormat]:
    """Return name -> a format to learn for each `QActivation` that is a plain cast, at first the one it has.

    With `kernels`, one of `GRANULARITIES`, also for each kernel that is rounded to a fixed-point grid.
    """
    found = {}
    for layer in model_layers:
        if (activation := _of_activation(layer)) is not None:
            found[layer.name] = activation
        elif kernels and (kernel := kernel_of(layer)) is not None and _is_grid(kernel.quantizer):
            width, shape = _widths(kernel, kernels == GRANULARITIES[1])
            top = np.broadcast_to(np.float64(kernel.quantizer.integer).reshape(-1), math.prod(shape)).reshape(shape)
            found[layer.name] = LearnedFormat(True, top, width - top - 1, least=-MOST_BITS, of=layer.name)
    return found


def learn(layer: Any, learned: LearnedFormat) -> None:
    """Give a layer a format to learn, of its activation or its kernel, whose variables are the layer's.

    Raises:
        SpecError: it has one already.
    """
    kernel = kernel_of(layer)
    if isinstance(layer.quantizer if kernel is None else kernel.quantizer, LearnedFormat):
        what = f"the format of layer '{layer.name}' is learned by two callbacks"
        raise SpecError(what, remedy="name its layers in LearnedSteps, or give LutCost formats=False")
    _set(layer, learned)
    layer._trainable_weights.extend(learned.variables_learned)  # Keras 2 tracks none of a quantizer


def settle(layer: Any, learned: LearnedFormat) -> None:
    """Give a layer the quantizer that computes what was learned."""
    own = {id(variable) for variable in learned.variables_learned}
    kept = [variable for variable in layer._trainable_weights if id(variable) not in own]
    layer._trainable_weights[:] = kept
    top, fraction = (np.asarray(bits).astype(int).reshape(-1) for bits in learned.bits_of())
    width = top + fraction + learned.signed
    if not isinstance(layer, qkeras.QActivation):
        alike = learned.fraction.shape.rank == 0
        _set(layer, quantized_grid(*((int(each[0]) if alike else each.tolist()) for each in (width, top))))
    elif learned.signed:
        layer.quantizer = qkeras.quantized_bits(int(width[0]), int(top[0]), 0, 1, alpha=1.0)
        layer.activation = f"quantized_bits({width[0]},{top[0]},0,1,alpha=1.0)"
    else:
        layer.quantizer = qkeras.quantized_relu(int(width[0]), int(top[0]))
        layer.activation = f"quantized_relu({width[0]},{top[0]})"


def _set(layer: Any, quantizer: Any) -> None:
    """Give a layer another quantizer of its activation or its kernel."""
    kernel = kernel_of(layer)
    if kernel is None:
        layer.quantizer = quantizer
        return
    setattr(layer, f"{kernel.what}_quantizer", quantizer)
    setattr(layer, f"{kernel.what}_quantizer_internal", quantizer)
    layer.quantizers[0] = quantizer


class LearnedSteps(keras.callbacks.Callback):  # type: ignore[misc]
    """Learn ranges during `fit`: the steps of fixed-point kernels and activations, always powers of two.

    Widths stay. The step of a kernel begins with the one that fits its weights, that of an activation with its own.
    After each `fit` a kernel has a `quantized_grid`, an activation its quantizer of QKeras, with what was found.

    Args:
        model: a built Keras model; compile it afterwards.
        layers: names of layers; by default all that have a `QActivation` of `quantized_relu` or `quantized_bits`, or a
            kernel under a `quantized_grid` or a `quantized_bits` with alpha=1.
        per_channel: whether each neuron or channel of a kernel has a step of its own.

    Raises:
        SpecError: a layer is not there or has nothing to learn.

    Example:
        >>> model.fit(x, y, epochs=20, callbacks=[LearnedSteps(model, per_channel=True)])  # doctest: +SKIP
    """

    def __init__(self, model: Any, *, layers: Sequence[str] | None = None, per_channel: bool = False) -> None:
        super().__init__()
        by_path = layers_by_path(model)
        found = {path: learned for path, layer in by_path.items() if (learned := _of_width(layer, per_channel))}
        for name in layers or () if found else ("",):
            if name not in found:
                what = f"layer '{name}' has no step to learn" if name else "no layer has a step to learn"
                remedy = f"there are: {', '.join(found)}" if found else "give it fixed-point kernels or activations"
                raise SpecError(what, model=model.name, remedy=remedy)
        self.learned = {path: (by_path[path], found[path]) for path in (found if layers is None else layers)}

    def on_train_begin(self, logs: Any = None) -> None:
        """Let steps be learned while the model trains."""
        for layer, learned in self.learned.values():
            learn(layer, learned)

    def on_train_end(self, logs: Any = None) -> None:
        """Leave a model of quantizers that have no variables."""
        for layer, learned in self.learned.values():
            settle(layer, learned)
        self.model.predict_function = self.model.test_function = None


def _of_width(layer: Any, per_channel: bool) -> LearnedFormat | None:
    """Return a format of the width that a layer's quantizer has, if that is a fixed-point one."""
    if (activation := _of_activation(layer, keeps_width=True)) is not None:
        return activation
    kernel = kernel_of(layer)
    if kernel is None or not _is_grid(kernel.quantizer):
        return None
    width, shape = _widths(kernel, per_channel)
    weights = np.asarray(kernel.variable, np.float64).reshape(-1, math.prod(shape))
    fraction = _fitted(weights, width.reshape(-1)).reshape(shape)
    return LearnedFormat(True, width - 1 - fraction, fraction, width=width, least=-MOST_BITS, of=layer.name)


def _of_activation(layer: Any, *, keeps_width: bool = False) -> LearnedFormat | None:
    """Return a format to learn, at first the one that it has, of a `QActivation` that is a plain cast; else None."""
    quantizer: Any = getattr(layer, "quantizer", None)
    if not isinstance(layer, qkeras.QActivation) or (signed := _signed(quantizer)) is None:
        return None
    bits, integer = int(quantizer.bits), int(quantizer.integer)
    return LearnedFormat(signed, integer, bits - integer - signed, width=bits if keeps_width else None, of=layer.name)


def _widths(kernel: Kernel, per_channel: bool) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Return the widths of a kernel's weights and their shape: one of all, or one of each channel."""
    quantizer: Any = kernel.quantizer
    given = np.float64(getattr(quantizer, "of_channels", quantizer.bits))
    shape = kernel.shape_of_channels if per_channel or given.shape or np.shape(quantizer.integer) else ()
    return np.broadcast_to(given.reshape(-1), math.prod(shape)).reshape(shape), shape


def _fitted(weights: NDArray[np.float64], bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each column the fraction bits, of so many bits, that round its weights with the least error."""
    limit = 2.0 ** (bits - 1)
    largest = np.maximum(np.abs(weights).max(axis=0), 2.0**-MOST_BITS)
    coarsest = np.floor(np.log2(limit / largest))
    tried = coarsest + np.arange(FINER)[:, np.newaxis]
    steps = 2.0 ** -tried[:, np.newaxis]
    errors = np.square(np.clip(np.rint(weights / steps), -limit, limit - 1) * steps - weights).sum(axis=1)
    return np.asarray(coarsest + errors.argmin(axis=0))


def _is_grid(quantizer: Any) -> bool:
    """Say whether a quantizer of weights is a signed fixed-point grid."""
    if isinstance(quantizer, quantized_grid):
        return quantizer.keep_negative
    plain = type(quantizer) is qkeras.quantized_bits and quantizer.keep_negative
    return plain and not isinstance(quantizer.alpha, str) and quantizer.alpha in (None, 1)


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
