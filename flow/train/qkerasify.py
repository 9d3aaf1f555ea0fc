"""A float Keras model becomes its QKeras twin: the same layers and weights, with quantizers, to be trained on.

    layer                                     becomes
    input                                     itself, and a quantizer behind it: the port
    Dense, Conv1D, Conv2D, DepthwiseConv2D    that of QKeras: kernel powers of two or zero, bias fixed point
    BatchNormalization                        FixedBatchNormalization: scale powers of two, offset fixed point
    ReLU                                      quantized_relu
    other activations, averages               themselves, and a quantizer behind them
    all others                                themselves

An activation that is an argument of a layer becomes a layer of its own. The range of each quantizer is fitted: to the
weights, or to what the float model computes on some samples. A rule for a layer's name or class says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.inputs import Arrays, checked_values, fitted_format
from flow.data.session import Data, as_arrays
from flow.errors import SpecError, UnsupportedError, at, shown
from flow.frontend.keras.quantizers import parse_quantizer
from flow.ir.fixed import FixedFormat
from flow.train import load_tensorflow, quiet_warnings
from flow.train.artefacts import configuration
from flow.train.build import activation_of
from flow.train.deserialize import keras_model_of
from flow.train.functions import made_quantizer
from flow.train.quantizers import quantized_grid, quantized_po2_zero

keras: Any
qkeras: Any
_, keras, qkeras = load_tensorflow()

KERNEL_BITS, ACTIVATION_BITS, BIAS_BITS = 4, 6, 8
FITTED_ON = 512
"""Samples that ranges of activations are fitted on, at most."""
WEIGHTED = {"Dense": "kernel", "Conv1D": "kernel", "Conv2D": "kernel", "DepthwiseConv2D": "depthwise"}
"""Class -> what QKeras calls the quantizer of its kernel."""
QUANTIZED_BEHIND = (
    *("InputLayer", "ReLU", "Activation", "LeakyReLU", "PReLU", "ELU"),
    *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
)
"""Classes that a quantizer follows if no rule says otherwise."""
PLAIN_RELU = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
ROLES = ("kernel", "bias", "scale", "offset", "output")
Quantizers = Mapping[str, Mapping[str, Any]]
"""Name or class of a layer -> role -> a quantizer: an object, its text, or None for none."""


@quiet_warnings()
def qkerasify(
    model: Any,
    quantizers: Quantizers | None = None,
    *,
    x: Data = None,
    kernel_bits: int = KERNEL_BITS,
    activation_bits: int = ACTIVATION_BITS,
) -> Any:
    """Return the QKeras twin of a float Keras model, with its weights, ready to be trained on.

    Args:
        model: a functional or sequential model of tf-keras, or the file of one (of Keras 3 too).
        quantizers: rules: name or class of a layer -> "kernel", "bias", "scale", "offset" or "output" -> a quantizer,
            as an object or as text, or None for none. A rule for a name goes before one for a class.
        x: samples (samples, *shape) that the ranges of activations are fitted on; needed unless rules give all of them.
        kernel_bits: of powers of two: a sign, and exponents below the largest one.
        activation_bits: of activations and of the input.

    Returns:
        A functional model of the same name.

    Raises:
        SpecError: a rule is of no layer or role, or `x` is needed.
        DataError: `x` is of another shape, empty, not numbers, or not finite.
        UnsupportedError: a layer is called more than once, or has models in it.

    Example:
        >>> twin = qkerasify(model, {"Dense": {"kernel": "quantized_bits(6,0,1,alpha=1.0)"}}, x=x)  # doctest: +SKIP
    """
    model = _functional(model)
    with at(model=model.name):
        twin = _Twin(model, dict(quantizers or {}), x, kernel_bits, activation_bits)
        config = twin.config()
        made = keras_model_of("Functional", config)
    for layer in model.layers:
        made.get_layer(layer.name).set_weights(layer.get_weights())
    return made


def _functional(model: Any) -> Any:
    if isinstance(model, str | Path):
        from flow.train.reader import read_keras

        model = read_keras(Path(model)).keras
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        what = f"expected a built model of tf_keras or its file, not an object of class {type(model).__name__}"
        raise SpecError(what, field="model", remedy="save a model of Keras 3 as .keras and give the file")
    return keras.Model(model.inputs, model.outputs, name=model.name)


@dataclass(slots=True)
class _Twin:
    """A configuration on its way: layers are replaced, and quantizers put behind them."""

    model: Any
    rules: Quantizers
    x: Data
    kernel_bits: int
    activation_bits: int
    entries: list[dict[str, Any]] = field(default_factory=list)
    now: dict[str, str] = field(default_factory=dict)
    """Name of a layer -> the layer whose output stands for its output."""
    ranges: dict[str, NDArray[Any]] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        config = configuration(self.model)
        self._check(config["layers"])
        if self.x is not None:
            with at(argument="x"):
                self.x = self._samples(as_arrays(self.x, FITTED_ON))
        for entry in config["layers"]:
            with at(layer=entry["name"]):
                self._add(entry)
        outputs = [[self.now.get(name, name), *rest] for name, *rest in config["output_layers"]]
        return {**config, "layers": self.entries, "output_layers": outputs}

    def _check(self, entries: list[dict[str, Any]]) -> None:
        known = {entry["config"]["name"] for entry in entries} | {entry["class_name"] for entry in entries}
        for key, rule in self.rules.items():
            if key not in known:
                raise SpecError(f"rule {shown(key)} is of no layer", remedy="name a layer, or the class of one")
            for role in rule:
                if role not in ROLES:
                    raise SpecError(f"rule {shown(key)} has {shown(role)}", remedy=f"expected {', '.join(ROLES)}")
        for entry in entries:
            if len(entry["inbound_nodes"]) > 1 or "layers" in entry["config"]:
                what = f"layer '{entry['name']}' is called more than once, or holds layers"
                raise UnsupportedError(what, remedy="write it as layers that are called once")

    def _add(self, entry: dict[str, Any]) -> None:
        """Append a layer, an activation of its own, and a quantizer behind it."""
        own, name, kind = entry["config"], entry["name"], entry["class_name"]
        entry["inbound_nodes"] = [
            [[self.now.get(of, of), *rest] for of, *rest in node] for node in entry["inbound_nodes"]
        ]
        if kind in WEIGHTED:
            activation = own.pop("activation", "linear")
            self._weighted(entry)
            if activation != "linear":
                self._behind(name, f"{name}_{_short(activation)}", "Activation", {"activation": activation})
            elif (given := self._rule((name, kind), "output")) is not None:
                self._behind_with(name, f"{name}_output", given)
            return
        if kind == "BatchNormalization":
            self._batch_norm(entry)
        elif _is_relu(kind, own):
            entry["class_name"], entry["config"] = "QActivation", self._activation(kind, name, name)
        self.entries.append(entry)
        if kind == "Activation" and own.get("activation") in ("linear", "softmax"):
            return
        if not _is_relu(kind, own):
            self._quantized(kind, name, name)

    def _behind(self, of: str, name: str, kind: str, settings: dict[str, Any]) -> None:
        """Put the activation of a layer behind it, quantized."""
        if settings["activation"] == "relu":
            self._behind_with(of, name, self._rule((name, of, kind), "output") or self._fitted(of))
            return
        self._insert(of, name, kind, settings)
        if settings["activation"] != "softmax":
            self._quantized(kind, of, name)

    def _quantized(self, kind: str, of: str, name: str) -> None:
        """Put a quantizer behind a layer, if a rule or its class asks for it."""
        said = self._rule((name, of, kind), "output", ...)
        if said is None or (said is ... and kind not in QUANTIZED_BEHIND):
            return
        self._behind_with(of, f"{name}_quantizer", self._fitted(of) if said is ... else said)

    def _behind_with(self, of: str, name: str, quantizer: Any) -> None:
        self._insert(of, name, "QActivation", {"activation": _described(quantizer)})

    def _insert(self, of: str, name: str, kind: str, settings: dict[str, Any]) -> None:
        node = [[[self.now.get(of, of), 0, 0, {}]]]
        config = {"name": name, "trainable": True, "dtype": "float32", **settings}
        self.entries.append({"class_name": kind, "name": name, "config": config, "inbound_nodes": node})
        self.now[of] = name

    def _weighted(self, entry: dict[str, Any]) -> None:
        kind, name = entry["class_name"], entry["name"]
        kernel, *bias = (np.asarray(variable) for variable in self.model.get_layer(name).weights)
        what = WEIGHTED[kind]
        fitted = {f"{what}_quantizer": self._po2(kernel), "bias_quantizer": None}
        if bias:
            integer = fitted_format(np.append(bias[0], -1e-9), BIAS_BITS).int_bits
            fitted["bias_quantizer"] = qkeras.quantized_bits(BIAS_BITS, max(0, integer), 0, 1, alpha=1.0)
        for key, role in ((f"{what}_quantizer", "kernel"), ("bias_quantizer", "bias")):
            quantizer = self._rule((name, kind), role, fitted[key])
            fitted[key] = None if quantizer is None else _described(quantizer)
        entry["class_name"], entry["config"] = f"Q{kind}", {**entry["config"], "activation": None, **fitted}
        self.entries.append(entry)

    def _batch_norm(self, entry: dict[str, Any]) -> None:
        """Quantize a batch normalization of the last axis that has both gamma and beta; others stay."""
        layer = self.model.get_layer(entry["name"])
        if not (layer.center and layer.scale) or list(layer.axis) != [len(layer.input_shape) - 1]:
            return
        gamma, beta, mean, variance = (np.asarray(variable, np.float64) for variable in layer.get_weights())
        scale = gamma / np.sqrt(variance + layer.epsilon)
        offset = fitted_format(np.append(beta - mean * scale, -1e-9), BIAS_BITS)
        defaults = {"scale": self._po2(scale), "offset": quantized_grid(BIAS_BITS, max(0, offset.int_bits))}
        keys = (entry["name"], entry["class_name"])
        given = {role: self._rule(keys, role, default) for role, default in defaults.items()}
        if None in given.values():
            return
        quantizers = {f"{role}_quantizer": _described(quantizer) for role, quantizer in given.items()}
        entry["class_name"], entry["config"] = "FixedBatchNormalization", {**entry["config"], **quantizers}

    def _activation(self, kind: str, of: str, name: str) -> dict[str, Any]:
        quantizer = self._rule((name, of, kind), "output") or self._fitted(of)
        return {"name": name, "trainable": True, "dtype": "float32", "activation": _described(quantizer)}

    def _rule(self, keys: Sequence[str], role: str, default: Any = None) -> Any:
        """Return what the first of the rules for names and classes says of a role, or the default."""
        return next((self.rules[key][role] for key in keys if role in self.rules.get(key, {})), default)

    def _po2(self, values: NDArray[Any]) -> Any:
        largest = float(np.abs(values).max(initial=0.0))
        top = int(np.clip(np.rint(np.log2(largest)), -20, 20)) if largest else 0
        return quantized_po2_zero(self.kernel_bits, min_exp=top - 2 ** (self.kernel_bits - 1) + 2, max_exp=top)

    def _fitted(self, name: str) -> str:
        """Return the quantizer whose range holds what the float model computes at a layer."""
        if not self.ranges:
            self.ranges = self._run()
        fmt = fitted_format(self.ranges[name], self.activation_bits)
        integer = max(0, fmt.int_bits)  # QKeras knows no fewer
        return activation_of(FixedFormat(fmt.signed, integer, fmt.width - fmt.signed - integer))

    def _samples(self, arrays: Arrays) -> Arrays:
        """Return samples that are of the inputs; an axis that an input leaves open may have any length."""
        shapes = dict[str, tuple[int, ...]]()
        for name, tensor in zip(self.model.input_names, self.model.inputs, strict=True):
            given = np.shape(arrays.get(name, ()) if isinstance(arrays, Mapping) else arrays)
            wanted, found = tensor.shape[1:], given[1:]
            open_or_not = (
                zip(wanted, found, strict=True) if len(wanted) == len(found) else ((size, 1) for size in wanted)
            )
            shapes[name] = tuple(here if size is None else size for size, here in open_or_not)
        checked_values(arrays, shapes)
        return arrays

    def _run(self) -> dict[str, NDArray[Any]]:
        if self.x is None:
            remedy = "give x, some training samples; or rules with an 'output' for each activation and the input"
            raise SpecError("ranges of activations are not known", remedy=remedy)
        outputs = {layer.name: layer.output for layer in self.model.layers}
        return keras.Model(self.model.inputs, outputs).predict(self.x, verbose=0)  # type: ignore[no-any-return]


def _is_relu(kind: str, own: Mapping[str, Any]) -> bool:
    """Say whether a layer is max(x, 0) and no more."""
    if kind == "ReLU":
        return all(own.get(key) in (value, None) for key, value in PLAIN_RELU.items())
    return kind == "Activation" and own.get("activation") == "relu"


def _short(activation: Any) -> str:
    return activation if isinstance(activation, str) else "activation"


def _described(quantizer: Any) -> dict[str, Any]:
    """Return a quantizer, given as an object or as text, as a configuration says it."""
    if isinstance(quantizer, str):
        parsed = parse_quantizer(quantizer)
        if parsed is None:
            raise SpecError(f"{shown(quantizer)} is no quantizer")
        quantizer = made_quantizer(parsed, whole=True)
    return {"class_name": type(quantizer).__name__, "config": quantizer.get_config()}
