"""Recurrent layers in float64: Keras' own cells, whose states a quantizer changes before each step as in QKeras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flow.frontend.keras.quantizers import short_name
from flow.frontend.trained import Arrays
from flow.train import load_tensorflow

tf, keras, _ = load_tensorflow()

Function = Callable[[Any], Any]
Named = Callable[[str, Any], Function]
"""Class of a layer and an entry of its configuration -> the function that this names, in float64."""
ARRAYS = ("kernel", "recurrent_kernel", "bias")


def double_recurrent(class_name: str, config: Mapping[str, Any], arrays: Arrays, named: Named) -> Function:
    """Return the call of a recurrent layer in float64, with these weights: of a sequence, or a list with its states."""
    kind = class_name.removeprefix("Q")
    kept = {key: config[key] for key in ("units", "use_bias", "reset_after") if key in config}
    functions = {key: named(class_name, config[key]) for key in ("activation", "recurrent_activation") if key in config}
    cell = _cell(kind, named(class_name, config.get("state_quantizer")))(**kept, **functions, dtype="float64")
    ways = {key: config.get(key, False) for key in ("return_sequences", "return_state", "go_backwards")}
    layer = keras.layers.RNN(cell, **ways, dtype="float64")

    def function(inputs: Any) -> Any:
        sequence, *first = inputs if isinstance(inputs, list) else [inputs]
        if not layer.built:
            layer.build(sequence.shape)
            layer.set_weights([arrays[key].astype(np.float64) for key in ARRAYS if key in arrays])
        return layer(sequence, initial_state=first or None)

    return function


def double_bidirectional(config: Mapping[str, Any], arrays: Arrays, named: Named) -> Function:
    """Return the call of a bidirectional layer in float64, with these weights."""
    entry = config["layer"]
    opposite = {**entry["config"], "go_backwards": not entry["config"].get("go_backwards", False)}
    entries = {"forward": entry, "backward": config.get("backward_layer") or {**entry, "config": opposite}}
    forward, backward = (
        double_recurrent(
            short_name(one["class_name"]),
            one["config"],
            {key.removeprefix(f"{way}_"): array for key, array in arrays.items() if key.startswith(way)},
            named,
        )
        for way, one in entries.items()
    )
    merge = config.get("merge_mode", "concat")

    def function(inputs: Any) -> Any:
        sequence, *first = inputs if isinstance(inputs, list) else [inputs]
        half = len(first) // 2
        there, back = forward([sequence, *first[:half]]), backward([sequence, *first[half:]])
        (one, *states), (other, *others) = (made if isinstance(made, list) else [made] for made in (there, back))
        other = tf.reverse(other, [1]) if entry["config"].get("return_sequences") else other
        joined = [one, other] if merge is None else [MERGES[merge](one, other)]
        return [*joined, *states, *others]

    return function


MERGES: Mapping[str, Callable[[Any, Any], Any]] = {
    "concat": lambda one, other: tf.concat([one, other], -1),
    "sum": lambda one, other: one + other,
    "mul": lambda one, other: one * other,
    "ave": lambda one, other: (one + other) / 2,
}


def _cell(kind: str, quantize: Function) -> Any:
    """Return Keras' class of a cell with states that are quantized before each step."""
    base: Any = getattr(keras.layers, f"{kind}Cell")

    class Cell(base):  # type: ignore[misc]
        def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
            return super().call(inputs, [quantize(state) for state in tf.nest.flatten(states)], training)

    return Cell
