"""Element-wise functions as Keras and QKeras compute them at inference: the values behind a lookup table.

`Model.predict` runs an optimised graph: a division by a constant becomes a product with its reciprocal, so QKeras'
`quantized_hswish` and Keras' `Average` round otherwise than their text says. The kernels take packets of numbers and
finish the rest of a tensor one by one, with code of their own. So a function is evaluated as a graph both ways, and has
a value only where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, at, shown
from flow.frontend.keras import operations, quantizers
from flow.frontend.keras.arguments import check_arguments
from flow.frontend.keras.operations import Arguments
from flow.train import keras_errors, load_tensorflow, quiet_warnings
from flow.train.quantizers import OURS, quantized_bits

tf, keras, qkeras = load_tensorflow()

Floats = NDArray[np.float32]

QKERAS_FUNCTIONS = ("hard_sigmoid", *quantizers.QKERAS_ONLY)
"""Functions of `qkeras.quantizers`; in QKeras' layers they come before Keras' of the same name."""
LAYERS = ("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU")
"""Element-wise Keras layers without a function in their configuration.

`Average` is accepted too, with the config {"count": n}: what Keras' merge layer makes of the sum of n inputs.
"""

OF_NORMALIZATIONS: Mapping[str, Callable[[Mapping[str, Any]], Callable[[Any], Any]]] = {
    "Reciprocal": lambda config: lambda x: 1 / tf.maximum(x, 1.0),
    "InverseRoot": lambda config: lambda x: 1 / tf.sqrt(tf.maximum(x, 0.0) + config["epsilon"]),
}
"""Functions inside a softmax and a layer normalization, of what these can give them; Keras has no layers of them."""
SATURATED = 16.0
"""Beyond so many times two to the power of its integer bits every `quantized_relu` gives its least or largest value."""
CHUNK, FEW = 1 << 20, 3
"""Elements per evaluation; elements of a tensor too small for a packet of any processor."""

ANY_SHAPE, ANY_ROWS = tf.TensorSpec(None, tf.float32), tf.TensorSpec([None, None], tf.float32)
"""TensorFlow rewrites a graph further where it knows how shapes are related; in `Model.predict` it rarely does."""


@quiet_warnings()
def evaluate(layers: Sequence[Mapping[str, Any]], values: Floats) -> Floats:
    """Return what the composition of some element-wise layers makes of each value.

    Args:
        layers: entries {"class_name", "config"} of a Keras configuration, first applied first: Activation, QActivation
            or one of `LAYERS`. Text is parsed as data and names come from fixed lists: nothing in an entry is run. One
            that says "precise" is computed in float64 and rounded to float32.
        values: (n,) float32.

    Returns:
        (n,) float32, as `Model.predict` gives them.

    Raises:
        UnsupportedError: a layer or function is unknown, random or not element-wise; or QKeras itself fails, or a
            result is not finite, or depends on where in a tensor its input stands.

    Example:
        >>> half = {"class_name": "QActivation", "config": {"activation": "quantized_relu(2,1)"}}
        >>> evaluate([half], np.float32([-1, 0.3, 0.8])).tolist()
        [0.0, 0.5, 1.0]
    """
    function = _composed(layers)

    def composed(x: Any) -> Any:
        return function(tf.ensure_shape(x, [None]))

    def by_few(rows: Any) -> Any:  # in a loop: of copies side by side TensorFlow makes one function of all rows
        return tf.map_fn(composed, rows, parallel_iterations=1, fn_output_signature=ANY_SHAPE)

    # no function branches on a tensor; reading their source takes most of the time
    graph = partial(tf.function, autograph=False)
    at_once = graph(composed, input_signature=[ANY_SHAPE])
    few = graph(by_few, input_signature=[ANY_ROWS])
    results = np.empty_like(values)
    what = " and ".join(f"layer '{layer['config'].get('name', layer['class_name'])}'" for layer in layers)
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        with at(field=what), keras_errors("QKeras itself cannot run it"):
            outputs, alone = np.asarray(at_once(part)), _one_by_one(few, part)
        if not np.isfinite(outputs).all():
            where, remedy = part[~np.isfinite(outputs)][0], "quantize the input to a smaller range"
            raise UnsupportedError(f"the value at {where:g} is not finite", field=what, remedy=remedy)
        differs = np.flatnonzero(outputs != alone)
        if len(differs):
            raise UnsupportedError(
                f"{len(differs)} values, the first at {part[differs[0]]:g}, depend in TensorFlow on where in a "
                "tensor they stand, so no hardware can equal them",
                field=what,
                remedy="let a quantizer follow, or change its bits",
            )
        results[start : start + CHUNK] = outputs
    return results


@quiet_warnings()
def approximate(layers: Sequence[Mapping[str, Any]], values: Floats) -> Floats:
    """Return the composition of some element-wise layers in float32, where the last bit does not matter.

    Args:
        layers, values: as of `evaluate`.

    Raises:
        UnsupportedError: a layer or function is unknown, random or not element-wise.
    """
    return np.asarray(_composed(layers)(tf.constant(values)))


def _composed(layers: Sequence[Mapping[str, Any]]) -> Callable[[Any], Any]:
    functions = [
        (precise_function if layer.get("precise") else layer_function)(str(layer["class_name"]), layer["config"])
        for layer in layers
    ]
    return lambda x: reduce(lambda value, function: function(value), functions, x)


def _one_by_one(few: Callable[[Any], Any], values: Floats) -> Floats:
    """Return what a function of rows, each by itself, gives for each value."""
    padded = np.resize(values, -(-len(values) // FEW) * FEW)
    return np.asarray(few(padded.reshape(-1, FEW))).reshape(-1)[: len(values)]


def layer_function(class_name: str, config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return the function of tensors that an element-wise layer is.

    Raises:
        UnsupportedError: it is none that is known, random, or depends on other elements.
    """
    name = quantizers.short_name(class_name)
    if name in LAYERS:
        kept = ("alpha", "max_value", "negative_slope", "threshold", "theta")
        layer = getattr(keras.layers, name)(**{key: config[key] for key in kept if key in config})
        return lambda x: layer.call(x)
    if name == "Average":
        count = int(config["count"])
        return lambda x: x / count
    if name in OF_NORMALIZATIONS:
        return OF_NORMALIZATIONS[name](config)
    if name not in ("Activation", "QActivation"):
        remedy = f"use one of {', '.join(('Activation', 'QActivation', *LAYERS))}"
        raise UnsupportedError(f"{name} is not an element-wise layer that can be evaluated", remedy=remedy)
    quantizer = quantizers.parse_quantizer(config.get("activation"))
    if quantizer is None:
        return lambda x: x
    kind, name, args = name, quantizer.name, quantizer.args
    if name in quantizers.RANDOM:
        raise UnsupportedError(f"{name!r} is random, at inference too", remedy="use 'binary' or 'quantized_bits'")
    if name in quantizers.POSITIONAL:
        return made_quantizer(quantizer)  # type: ignore[no-any-return]
    # in QKeras' layers `hard_sigmoid` is clip(x / 2 + 1/2, 0, 1), while Keras' is clip(0.2 * x + 0.5, 0, 1)
    if kind == "QActivation" and name in QKERAS_FUNCTIONS and not args:
        return getattr(qkeras.quantizers, name)  # type: ignore[no-any-return]
    if name in ("relu", *quantizers.FUNCTIONS) and name not in quantizers.QKERAS_ONLY and not args:
        return keras.activations.get(name)  # type: ignore[no-any-return]
    known = ", ".join(("relu", *quantizers.FUNCTIONS, *quantizers.POSITIONAL))
    raise UnsupportedError(f"function {name!r} is not supported", remedy=f"use one of {known}")


def precise_function(class_name: str, config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return the function of `layer_function` computed in float64, its result rounded to float32.

    A `quantized_relu` is float32 always: of numbers so large that it gives the same for all larger ones, and no larger.

    An approximation right to some units in the last place of float64 is, rounded to float32, the same function wherever
    an element stands, and never falls where the true one rises, but for numbers that are halfway between two float32 to
    all those places.

    Args:
        class_name, config: as of `layer_function`.
    """
    function = layer_function(class_name, config)
    quantizer = quantizers.parse_quantizer(config.get("activation"))
    if quantizer is not None and quantizer.name == "quantized_relu":  # casts all that it is given to float32
        reach = SATURATED * 2.0 ** int(quantizer.args.get("integer", 0))
        return lambda x: function(tf.clip_by_value(x, -reach, reach))

    def precise(x: Any) -> Any:
        backend = keras.backend
        single, epsilon = backend.floatx(), backend.epsilon()
        backend.set_floatx("float64")  # to which quantizers cast what they are given
        backend.set_epsilon(np.float64(epsilon))  # a number of Python's would become a float32 tensor
        try:
            return tf.cast(function(tf.cast(x, tf.float64)), tf.float32)
        finally:
            backend.set_floatx(single)
            backend.set_epsilon(epsilon)

    return precise


OPERANDS = ("x", "y", "a", "b", "t", "values", "clip_value_min", "clip_value_max")
"""Arguments whose constants are numbers of the type of the tensors; of others they are axes and shapes."""


def called_function(function: str, arguments: Arguments) -> Callable[[Any], Any]:
    """Return a function of TensorFlow that is in `operations.FUNCTIONS`, of one tensor or a list of them.

    Args:
        function: its name behind "tf.".
        arguments: what it is called with.
    """
    names, _ = operations.FUNCTIONS[function]

    def call(inputs: Any) -> Any:
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]

        def made(name: str, value: Any) -> Any:
            constant = name in OPERANDS and isinstance(value, int | float | list) and not _holds_tensors(value)
            return tf.constant(value, tensors[0].dtype) if constant else operations.filled(value, tensors)

        if function == "__operators__.getitem":
            return tensors[0][tuple(operations.slices(arguments))]
        symbol = reduce(getattr, function.split("."), tf)
        return symbol(made(names[0], arguments.first), **{name: made(name, v) for name, v in arguments.named.items()})

    return call


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, operations.Reads) for item in value)


def made_quantizer(quantizer: quantizers.QuantizerConfig, *, whole: bool = False) -> Any:
    """Return the quantizer object that a configuration describes; its name is one of `ARGUMENTS`.

    Args:
        quantizer: what it is.
        whole: whether it may look at a whole tensor, as one of weights may.

    Raises:
        UnsupportedError: its class does not take these arguments, or it looks at more than one element.
    """
    check_arguments(quantizer.name, quantizer.args, "quantizer")
    args = {key: value for key, value in quantizer.args.items() if key not in ("var_name", "use_variables")}
    scale = quantizers.frozen_scale(quantizer)
    if len(scale) == 1:
        args[quantizers.FROZEN] = scale[0]
    for key, value in () if whole else args.items():
        asks_the_data = isinstance(value, str) and key in ("alpha", "threshold") and not (key == "alpha" and scale)
        if asks_the_data or isinstance(value, list | tuple | dict):
            raise UnsupportedError(
                f"quantizer {quantizer.name!r} with {key}={shown(value)} looks at more than one element",
                remedy="give a number",
            )
    if quantizer.name == "quantized_hswish":
        args.pop("keep_negative", None)  # QKeras writes it and does not take it back
    cls = quantized_bits if scale else OURS.get(quantizer.name) or getattr(qkeras.quantizers, quantizer.name)
    with keras_errors(f"quantizer {quantizer.name!r} does not take its arguments"):
        return cls(**args)
