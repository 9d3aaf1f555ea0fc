"""Software inference with QKeras: what each layer computes, as integer codes on the graph's formats.

Keras computes in float32. Where the graph's intervals prove that every sum of every layer fits 24 bits, that is exact,
and the model runs as it is. Otherwise the same quantized weights run in float64 (exact to 53 bits) through Keras layers
built for that, and the result says so.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.fixed import Codes, to_values
from flow.graph import Input, IntGraph
from flow.intervals import exact_result
from flow.quantizers import activation_cast, parse_quantizer
from flow.reference import code_dtype
from flow.results import SimResult
from flow.train import load_tensorflow, quiet_warnings
from flow.trained import TrainedModel

_modules = load_tensorflow()
tf, keras = _modules.tf, _modules.keras

FLOAT32_BITS, FLOAT64_BITS = 24, 53
BATCH = 1024


def exact_in(graph: IntGraph, bits: int) -> bool:
    """Say whether every result in an extracted graph, before its cast, needs at most `bits` significant bits."""
    for op in graph.ops:
        if not isinstance(op, Input):
            _, low, high = exact_result(op, graph[op.inputs[0]].format)
            if max(high, -low) >= 1 << bits:
                return False
    return True


@quiet_warnings()
def run(model: Any, trained: TrainedModel, extracted: IntGraph, lowered: IntGraph, codes: Codes) -> SimResult:
    """Run software inference on the values that the input port carries.

    Args:
        model: the Keras model as the user gave it, or as rebuilt from `trained`.
        trained: the same model as data.
        extracted: its graph before any pass: one op per step of the model.
        lowered: the graph of unified modules; the result has the outputs of its ops.
        codes: input codes (samples, *shape).

    Returns:
        Codes of every op of `lowered`, level "qkeras".

    Raises:
        UnsupportedError: sums need more than 53 bits, or an output is not on the grid of its format.
    """
    started = time.perf_counter()
    plain_batchnorm = any(type(layer).__name__ == "BatchNormalization" for layer in model.layers)
    if exact_in(extracted, FLOAT32_BITS) and not plain_batchnorm:
        arithmetic, dtype = "float32", np.float32
    elif exact_in(extracted, FLOAT64_BITS):
        arithmetic, dtype = "float64", np.float64
        model = double_model(trained)
    else:
        raise UnsupportedError(f"{lowered.name}: sums need more than {FLOAT64_BITS} bits, so no float can check them")
    taps = {op.name: op.layers[-1] for op in lowered.ops[1:]}
    outputs = _outputs(model, list(taps.values()), to_values(codes, lowered.input.format).astype(dtype))
    results: dict[str, Codes] = {lowered.input.name: codes}
    for op, values in zip(lowered.ops[1:], outputs, strict=True):
        scaled = np.ldexp(values.astype(np.float64), op.format.frac_bits)
        whole = np.rint(scaled)
        if not (whole == scaled).all():
            raise UnsupportedError(
                f"{lowered.name}: QKeras' output of layer '{taps[op.name]}' is not on the grid of {op.format} "
                f"({np.count_nonzero(whole != scaled)} elements, {arithmetic}); please report this model"
            )
        results[op.name] = whole.astype(code_dtype(op.format)).reshape(len(codes), *op.shape)
    return SimResult(level="qkeras", codes=results, arithmetic=arithmetic, run_s=time.perf_counter() - started)


def _outputs(model: Any, layers: list[str], inputs: Any) -> list[Any]:
    """Return the outputs of the named layers; a softmax is left off, as it is in the hardware."""
    for layer in model.layers:
        if getattr(getattr(layer, "activation", None), "__name__", "") == "softmax" and layer.name in layers:
            layer.activation = keras.activations.linear
    tensors = [model.get_layer(name).output for name in layers]
    taps = keras.Model(model.inputs, tensors)
    found = taps.predict(inputs, batch_size=BATCH, verbose=0)
    return [found] if len(layers) == 1 else list(found)


_KerasLayer: Any = keras.layers.Layer


class _Affine(_KerasLayer):  # type: ignore[misc]
    """`x * scale + offset`, the constants as batch normalization computed them in float32."""

    def __init__(self, scale: Any, offset: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale.astype(np.float64), offset.astype(np.float64)

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale + self.offset


class _Cast(_KerasLayer):  # type: ignore[misc]
    """QKeras' formula of `quantized_bits` and `quantized_relu`: clip(round(x * 2**frac_bits)) / 2**frac_bits."""

    def __init__(self, entry: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        quantizer = parse_quantizer(entry)
        assert quantizer is not None
        cast = activation_cast(quantizer, "activation")
        self.steps = 2.0**cast.format.frac_bits
        low = -cast.format.max_code if cast.overflow.value == "AP_SAT_SYM" else cast.format.min_code
        self.limits = (float(low), float(cast.format.max_code))

    def call(self, inputs: Any) -> Any:
        return tf.clip_by_value(tf.round(inputs * self.steps), *self.limits) / self.steps


def double_model(trained: TrainedModel) -> Any:
    """Return a Keras model in float64 with the trained model's quantized weights, layer by layer.

    Dense, convolution, pooling and reshaping are Keras' own; quantizers are QKeras' formulas (its `quantized_relu`
    casts its input to float32, so it cannot be used as it is); batch normalization uses its float32 constants.
    """
    tensor = inputs = keras.Input(trained.input_shape(), dtype="float64")
    for entry in trained.config["layers"]:
        layer = _double_layer(entry, trained)
        if layer is None:
            continue
        tensor = layer(tensor)
        weights = trained.weights.get(layer.name, {})
        if "kernel" in weights:
            layer.set_weights([weights[key].astype(np.float64) for key in ("kernel", "bias") if key in weights])
    return keras.Model(inputs, tensor)


def _double_layer(entry: Mapping[str, Any], trained: TrainedModel) -> Any:
    class_name = entry["class_name"].rsplit(">", 1)[-1]
    config = copy.deepcopy(dict(entry["config"]))
    name = config["name"]
    named = {"name": name, "dtype": "float64"}
    if class_name == "InputLayer":
        return None
    if "BatchNormalization" in class_name:
        return _Affine(trained.weights[name]["scale"], trained.weights[name]["offset"], **named)
    activation = parse_quantizer(config.get("activation"))
    plain = activation is None or activation.name in ("relu", "softmax")
    if class_name in ("QActivation", "Activation") and not plain:
        return _Cast(config["activation"], **named)
    if class_name in ("QDense", "Dense", "QConv2D", "Conv2D"):
        geometry = ("units", "filters", "kernel_size", "strides", "padding", "use_bias")
        kept = {key: config[key] for key in geometry if key in config}
        cls = getattr(keras.layers, class_name.removeprefix("Q"))
        return cls(**kept, **named, activation=_double_activation(activation, config, plain))
    if class_name in ("QActivation", "Activation"):
        return keras.layers.Activation(activation.name if activation else "linear", **named)
    return getattr(keras.layers, class_name).from_config({**config, "dtype": "float64"})


def _double_activation(activation: Any, config: Mapping[str, Any], plain: bool) -> Any:
    if activation is None:
        return None
    return activation.name if plain else _Cast(config["activation"], dtype="float64")
