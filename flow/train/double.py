"""Layers in float64, which is exact to 53 bits: where float32 does not hold the sums, software inference runs these.

Sums, merges, pooling and reshaping are Keras' own layers in float64; quantizers that are casts are QKeras' formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.frontend.extraction.arithmetic import nearest_pixels
from flow.frontend.keras.operations import Arguments, operation
from flow.frontend.keras.quantizers import (
    ACTIVATION_LAYERS,
    FUNCTIONS,
    LINES,
    activation_cast,
    frozen_scale,
    has_precise,
    is_activation_layer,
    parse_quantizer,
    short_name,
)
from flow.frontend.keras.reader import channels_first
from flow.frontend.keras.topology import BIDIRECTIONAL, FURTHER, STATES, Call, Topology
from flow.frontend.layers import Affine, Dot, MatMul, Merge
from flow.frontend.trained import Arrays, TrainedModel
from flow.ir.fixed import Cast, Overflow, Rounding
from flow.ir.graph import BatchNorm, IntGraph, LeakyRelu, Lookup, Op
from flow.ir.intervals import FLOAT64_BITS, casts_exactly, exact_result
from flow.train import load_tensorflow
from flow.train.deserialize import keras_layer_of
from flow.train.functions import called_function, layer_function, precise_function
from flow.train.recurrent import double_bidirectional, double_recurrent
from flow.train.sticky import quotient_to_odd, scaled_to_odd

keras: Any
tf, keras, _ = load_tensorflow()

NO_LAYERS = ("InputLayer", FURTHER)
"""Classes of calls whose tensors are there without calling a layer."""
Function = Callable[[Any], Any]
"""One call of a layer: a tensor, or a list of them where it reads several, to a tensor, or to a list of them."""
WEIGHTED = ("kernel", "depthwise_kernel", "pointwise_kernel", "bias")
GEOMETRY = ("units", "filters", "kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")
DOUBLE: Any = {"dtype": "float64"}


def of_steps(function: Function, axes: int) -> Function:
    """Return a function of samples as one of sequences of samples, along so many axes behind the batch."""
    if not axes:
        return function

    def of_sequences(inputs: Any) -> Any:
        several = isinstance(inputs, list)
        tensors = inputs if several else [inputs]
        samples = [tf.reshape(x, [-1, *x.shape[1 + axes :]]) for x in tensors]
        y = function(samples if several else samples[0])
        return tf.reshape(y, [-1, *tensors[0].shape[1 : 1 + axes], *y.shape[1:]])

    return of_sequences


def double_functions(
    trained: TrainedModel, calls: Topology, graph: IntGraph, undivided: Mapping[str, Undivided]
) -> dict[str, Function]:
    """Return every call in float64, with the trained model's quantized weights.

    Sums, merges, pooling and reshaping are Keras' own layers; quantizers that are casts are QKeras' formulas (its
    `quantized_relu` casts its input to float32, so it cannot be used as it is); batch normalization uses its float32
    constants, and rounds to odd where float64 does not hold its result; element-wise functions, which the graph holds
    as tables, are float32, or precise where the graph says so. What an average leaves undivided is undivided here too.
    """
    exact = {name for op in graph.ops if isinstance(op, LeakyRelu) or _held(op, graph) for name in op.layers}
    precise = {name for op in graph.ops if isinstance(op, Lookup) for name in op.precise}
    looked_up = {name for op in graph.ops if isinstance(op, Lookup) for name in op.layers}
    layers: dict[tuple[str, _Ways, int, int], Function] = {}
    functions = {}
    for call in calls.calls:
        if call.class_name in NO_LAYERS:
            continue
        over = [undivided.get(name, Undivided()).divisor for name in call.inputs]
        given, out = math.lcm(*over), undivided.get(call.name, Undivided())
        if _multiplies(call):  # divisors too
            given, over = out.divisor, [out.divisor] * len(over)
        ways = _Ways(call.name in exact, call.name in precise, call.name in looked_up)
        key = call.layer, ways, given, out.divisor
        if call.arguments is not None:
            function = _double_operation(call, call.arguments, ways, given, out.divisor)
        elif call.class_name == "Average" and out.divisor != 1:
            function = _mean
        else:
            if key not in layers:
                own = _over(call.config, out.divisor)
                last = {**own, "data_format": "channels_last"} if channels_first(call) else own
                made = replace(call, config=last)
                arrays = _multiplied(trained.weights.get(call.layer, {}), given)
                layer = _double_layer(made, arrays, ways, max(given // out.divisor, 1))
                layers[key] = of_steps(_turning(layer, call), call.time_axes)
            function = layers[key]
        functions[call.name] = _on_one_divisor(function, over, given, out)
    return functions


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a call in float64 computes.

    Attributes:
        exact: whether its batch normalization is.
        precise: whether its functions are those of float64.
        looked_up: whether a table holds what its activation gives, so that a clipped line is float32 too.
    """

    exact: bool
    precise: bool
    looked_up: bool


@dataclass(frozen=True, slots=True)
class Undivided:
    """By which divisor the output of a call is larger than Keras', and the fraction bits of the grid it is then on."""

    divisor: int = 1
    frac_bits: int = 0


def undivided_calls(extracted: IntGraph, lowered: IntGraph, taps: Mapping[str, str]) -> dict[str, Undivided]:
    """Return the calls whose output is held over a divisor, also where a softmax behind it is left off."""
    told = [(op, op.layers) for op in extracted.ops] + [(lowered[name], (call,)) for name, call in taps.items()]
    return {
        name: Undivided(op.denominator, op.format.frac_bits)
        for op, names in told
        for name in names
        if op.denominator != 1
    }


def _over(config: Mapping[str, Any], divisor: int) -> Mapping[str, Any]:
    """Return a configuration with the limit of its ReLU, or of that which is its activation, for so larger numbers."""
    if divisor != 1 and config.get("max_value") is not None:
        return {**config, "max_value": config["max_value"] * divisor}
    entry: Any = config.get("activation")
    if divisor == 1 or not is_activation_layer(entry):
        return config
    return {**config, "activation": {**entry, "config": _over(entry["config"], divisor)}}


def _multiplied(arrays: Arrays, divisor: int) -> Arrays:
    """Return the arrays of a layer for inputs that are so many times larger: what is added is larger too."""
    if divisor == 1:
        return arrays
    added: Any = {key: arrays[key].astype(np.float64) * divisor for key in ("bias", "offset") if key in arrays}
    return {**arrays, **added}


def _on_one_divisor(function: Function, over: list[int], given: int, out: Undivided) -> Function:
    """Return a function of tensors that are larger by the divisors `over`; an average's quotient is multiplied back."""
    if given == out.divisor == 1:
        return function

    def larger(inputs: Any) -> Any:
        several = isinstance(inputs, list)
        raised = [x * float(given // own) for x, own in zip(inputs if several else [inputs], over, strict=True)]
        y = function(raised if several else raised[0])
        if out.divisor <= given:
            return y
        steps = 2.0**out.frac_bits
        return tf.round(y * float(out.divisor // given) * steps) / steps

    return larger


def _multiplies(call: Call) -> bool:
    """Say whether a call makes products of what it reads."""
    if call.arguments is None:
        return call.class_name in ("Multiply", "Dot")
    settings = operation(str(call.config["function"]), call.arguments).settings
    return isinstance(settings, Dot | MatMul) or (isinstance(settings, Merge) and settings.function == "multiply")


def _quotient(divisor: int) -> Function:
    """Return the division by an integer, rounded to odd, so that the quantizer behind it rounds the exact quotient."""
    if divisor == 1:
        return tf.identity  # type: ignore[no-any-return]
    return lambda x: tf.ensure_shape(tf.numpy_function(quotient_to_odd, [x, float(divisor)], tf.float64), x.shape)


def _double_operation(call: Call, arguments: Arguments, ways: _Ways, given: int, out: int) -> Function:
    """Return a function of tensors in float64; what it is but a table of is float32, as in other layers."""
    said = operation(str(call.config["function"]), arguments)
    divisor = max(given // out, 1)
    if said.activation is not None:
        name, config = said.activation[0], _over(said.activation[1], out)
        if name in ACTIVATION_LAYERS:
            return _double_layer(replace(call, class_name=name, config=config), {}, ways, divisor)
        return _double_activation(replace(call, class_name="Activation", config={"activation": name}), ways, divisor)
    if isinstance(said.settings, Affine):
        return _composed(_scaled(_multiplied(said.arrays, given), ways.exact), _quotient(divisor))
    return _composed(called_function(str(call.config["function"]), arguments), _quotient(divisor))


def _turning(layer: Function, call: Call) -> Function:
    """Return a layer that takes the first axis of a sample for the channels where its configuration says so."""
    by_axis = "axis" in call.config and "BatchNormalization" in call.class_name
    axis = call.config["axis"] if by_axis else None
    if not channels_first(call) and axis not in (1, [1]):
        return layer

    def turned(x: Any) -> Any:
        axes = len(x.shape)
        if axes < 3:
            return layer(x)
        out = layer(tf.transpose(x, [0, *range(2, axes), 1]))
        last = len(out.shape) - 1
        return tf.transpose(out, [0, last, *range(1, last)]) if last > 1 else out

    return turned


def _held(op: Op, graph: IntGraph) -> bool:
    """Say whether an op is a batch normalization whose results float64 holds, and nothing else."""
    if not isinstance(op, BatchNorm):
        return False
    (x,) = (source.format for source in graph.sources(op))
    return casts_exactly(op, x) and exact_result(op, x).bound < 1 << FLOAT64_BITS


def _double_layer(call: Call, arrays: Arrays, ways: _Ways, divisor: int = 1) -> Function:
    """Return one layer in float64; slopes that are no op of the graph but part of a table are float32.

    What it does before its activation is divided by `divisor`.
    """
    class_name, config = call.class_name.removeprefix("Q"), dict(call.config)
    if class_name == "FixedSoftmax":
        return keras_layer_of(class_name, config).exact  # type: ignore[no-any-return]
    if class_name == "FixedLayerNormalization":
        return _double_layer_norm(config, arrays)
    if "scale" in arrays and "kernel" in arrays:
        products = _composed(_weighted("Dense", config, {"kernel": arrays["kernel"]}), _scaled(arrays, ways.exact))
        return _composed(products, _double_activation(call, ways, divisor))
    if "scale" in arrays:
        return _composed(_scaled(arrays, ways.exact), _quotient(divisor))
    if class_name == "Activation":
        return _double_activation(call, ways, divisor)
    if call.class_name in STATES:
        return double_recurrent(call.class_name, config, arrays, _double_function)
    if call.class_name in BIDIRECTIONAL:
        return double_bidirectional(config, arrays, _double_function)
    sloping = class_name == "LeakyReLU" or (class_name == "ReLU" and bool(config.get("negative_slope")))
    if class_name in ("ELU", "ThresholdedReLU") or (sloping and not ways.exact):
        precise = ways.precise and has_precise(class_name, {})
        return _composed(_quotient(divisor), _single(_element_wise(precise)(class_name, config)))
    if class_name == "Softmax":
        return tf.identity  # type: ignore[no-any-return]
    if class_name == "Embedding":
        table = arrays["table"].astype(np.float64)
        return lambda x: tf.gather(table, tf.minimum(tf.cast(x, tf.int32), len(table) - 1))
    if class_name == "Average":
        return _average
    if config.get("interpolation") == "bilinear":
        return _bilinear(config)
    if (class_name != "EinsumDense" and "kernel" in arrays) or "pointwise_kernel" in arrays:
        weighted = _weighted(class_name.removesuffix("Batchnorm"), config, arrays)
        return _composed(weighted, _double_activation(call, ways, divisor))
    if class_name == "EinsumDense":
        kept = {key: config[key] for key in ("equation", "output_shape", "bias_axes")}
        products = _with_weights(
            keras.layers.EinsumDense(**kept, **DOUBLE), [arrays[k] for k in WEIGHTED if k in arrays]
        )
        return _composed(products, _double_activation(call, ways, divisor))
    if "AveragePooling" in class_name:
        return _composed(_pooled(class_name, config, arrays), _double_activation(call, ways, divisor))
    layer = keras_layer_of(class_name, {**config, **DOUBLE})
    return _composed(_with_weights(layer, [arrays["slope"]] if "slope" in arrays else []), _quotient(divisor))


def _bilinear(config: Mapping[str, Any]) -> Function:
    """Return an interpolation between pixels; TensorFlow's own gives float32."""
    size = config["size"]

    def upsampled(x: Any) -> Any:
        for axis, factor in enumerate([size, size] if isinstance(size, int) else size):
            pixels = nearest_pixels(x.shape[1 + axis], factor)
            x = tf.reduce_mean(tf.gather(x, pixels, axis=1 + axis), axis=2 + axis)
        return x

    return upsampled


def _double_layer_norm(config: Mapping[str, Any], arrays: Arrays) -> Function:
    layer = keras_layer_of("FixedLayerNormalization", config)
    return lambda x: layer.exact(x) * arrays["scale"].astype(np.float64) + arrays["offset"].astype(np.float64)


def _scaled(arrays: Arrays, exact: bool) -> Function:
    """Return a batch normalization, rounded to odd unless float64 holds its results."""
    scale, offset = arrays["scale"].astype(np.float64), arrays["offset"].astype(np.float64)
    if exact:
        return lambda x: x * scale + offset

    constants = np.broadcast_shapes(scale.shape, offset.shape)

    def scaled(x: Any) -> Any:
        shape = tf.broadcast_static_shape(x.shape, tf.TensorShape(constants))
        return tf.ensure_shape(tf.numpy_function(scaled_to_odd, [x, scale, offset], tf.float64), shape)

    return scaled


def _double_activation(call: Call, ways: _Ways, divisor: int = 1) -> Function:
    """Return the activation of a layer, behind a division; a softmax is left off."""
    entry: Any = call.config.get("activation")
    if is_activation_layer(entry):
        made = replace(call, class_name=short_name(entry["class_name"]), config=entry["config"])
        return _double_layer(made, {}, ways, divisor)
    return _composed(_quotient(divisor), _double_function(call.class_name, entry, ways))


IN_A_CELL = _Ways(exact=False, precise=False, looked_up=False)
"""Functions of a recurrent layer are asked for by its cell."""


def _double_function(class_name: str, entry: Any, ways: _Ways = IN_A_CELL) -> Function:
    """Return what an entry of a layer's configuration names, in float64; nothing in place of a softmax."""
    quantizer = parse_quantizer(entry)
    if quantizer is None or quantizer.name == "softmax":
        return tf.identity  # type: ignore[no-any-return]
    if quantizer.name == "relu":
        return tf.nn.relu  # type: ignore[no-any-return]
    kind = "QActivation" if class_name.startswith("Q") else "Activation"
    if kind == "QActivation" and quantizer.name in LINES and not ways.looked_up:
        return layer_function(kind, {"activation": entry})
    cast = None if quantizer.name in FUNCTIONS else activation_cast(quantizer, "activation")
    if cast is None:
        precise = ways.precise and has_precise(quantizer.name, quantizer.args)
        return _single(_element_wise(precise)(kind, {"activation": entry}))
    scale = frozen_scale(quantizer)
    if len(set(scale)) < 2:
        return cast_values(cast)
    return lambda x: cast_values(cast)(x / np.array(scale)) * np.array(scale)


def cast_values(cast: Cast) -> Function:
    """Return what a cast that saturates does to float64 values.

    Raises:
        UnsupportedError: it rounds or overflows in a way that no activation quantizer of QKeras does.
    """
    rounding = ROUNDINGS.get(cast.rounding)
    if rounding is None or cast.overflow not in (Overflow.SAT, Overflow.SAT_SYM) or cast.divisor != 1:
        remedy = "use AP_RND_CONV, AP_RND, AP_RND_INF or AP_TRN, and AP_SAT"
        raise UnsupportedError(f"{cast.cpp} is no activation quantizer", remedy=remedy)
    steps, limits = 2.0**cast.format.frac_bits, (float(cast.lowest_code), float(cast.format.max_code))
    return lambda x: tf.clip_by_value(rounding(x * steps), *limits) / steps


ROUNDINGS: Mapping[Rounding, Function] = {
    Rounding.RND_CONV: tf.round,  # ties to even
    Rounding.RND_INF: lambda x: tf.sign(x) * ROUNDINGS[Rounding.RND](tf.abs(x)),
    Rounding.RND: lambda x: tf.floor(x) + tf.cast(x - tf.floor(x) >= 0.5, x.dtype),
    Rounding.TRN: tf.floor,
}


def _weighted(class_name: str, config: Mapping[str, Any], arrays: Arrays) -> Function:
    """Return a dense layer or convolution without its activation."""
    extra = "groups" if class_name in ("Conv1D", "Conv2D") else "output_padding"
    kept = {key: config[key] for key in (*GEOMETRY, extra) if config.get(key) is not None}
    layer = getattr(keras.layers, class_name)(**kept, use_bias="bias" in arrays, **DOUBLE)
    return _with_weights(layer, [arrays[key] for key in WEIGHTED if key in arrays])


def _with_weights(layer: Any, arrays: list[NDArray[np.float32]]) -> Function:
    """Return the call of a layer that has these weights, from its first call on."""

    def function(inputs: Any) -> Any:
        if arrays and not layer.built:
            layer.build(inputs.shape)
            layer.set_weights([array.astype(np.float64) for array in arrays])
        return layer(inputs)

    return function


def _pooled(class_name: str, config: Mapping[str, Any], arrays: Arrays) -> Function:
    """Return an average without its activation; QKeras' `average_quantizer` follows as a factor."""
    kept = {key: config[key] for key in ("pool_size", "strides", "padding", "keepdims") if key in config}
    layer = getattr(keras.layers, class_name)(**kept, **DOUBLE)
    if "multiplier" not in arrays:
        return layer  # type: ignore[no-any-return]
    multiplier = float(arrays["multiplier"])

    def function(inputs: Any) -> Any:
        area = math.prod(inputs.shape[1:-1] if class_name.startswith("Global") else layer.pool_size)
        return layer(inputs) * float(area) * multiplier

    return function


def _average(inputs: Any) -> Any:
    """Return the average of tensors as `Model.predict` computes it: in float32 times 1 / n."""
    total = sum(inputs)
    if len(inputs) & (len(inputs) - 1) == 0:
        return total / len(inputs)
    return tf.cast(tf.cast(total, tf.float32) * (np.float32(1) / np.float32(len(inputs))), tf.float64)


def _mean(inputs: Any) -> Any:
    return sum(inputs) / float(len(inputs))


def _element_wise(precise: bool) -> Callable[[str, Mapping[str, Any]], Function]:
    return precise_function if precise else layer_function


def _single(function: Function) -> Function:
    """Return a float32 function as one of float64."""
    return lambda x: tf.cast(function(tf.cast(x, tf.float32)), tf.float64)


def _composed(first: Function, second: Function) -> Function:
    return lambda x: second(first(x))
