"""Configurations that Keras 3 wrote, in the form of Keras 2; float models of today come so.

    node    {"args": [tensors, or lists of them], "kwargs": {...}}   ->  [["layer", node, tensor, kwargs], ...]
    tensor  {"class_name": "__keras_tensor__", "config": {"keras_history": ["layer", node, tensor]}}
    dtype   {"class_name": "DTypePolicy", "config": {"name": "float32"}}  ->  "float32"

The numbers need no change: `.h5` lists layers and weights in the same order, `.keras` names them in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flow.frontend.keras.quantizers import short_name

TENSOR = "__keras_tensor__"
NEW_KEYS = ("optional", "quantization_config", "lora_rank", "lora_alpha", "data_type", "shared_object_id")
"""Keys of layers that Keras 2 does not know and that change nothing at inference."""
RENAMED: Mapping[str, Mapping[str, str]] = {
    "InputLayer": {"batch_shape": "batch_input_shape"},
    "LeakyReLU": {"negative_slope": "alpha"},
}
"""Layer -> keys that have another name in Keras 2."""


def as_keras_2(entry: Any) -> Any:
    """Return an entry of a model or layer, {"class_name", "config", ...}, in the form of Keras 2; others as they are.

    Damaged ones too are left as they are: what reads them next refuses them.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        return entry
    renamed = RENAMED.get(short_name(str(entry.get("class_name"))), {})
    config = {renamed.get(key, key): value for key, value in entry["config"].items() if key not in NEW_KEYS}
    if "dtype" in config:
        config["dtype"] = _dtype(config["dtype"])
    if isinstance(config.get("layers"), list):
        config["layers"] = [as_keras_2(layer) for layer in config["layers"]]
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or not any(isinstance(node, Mapping) for node in nodes):
        return {**entry, "config": config}
    return {**entry, "config": config, "inbound_nodes": [_node(node) for node in nodes]}


def _dtype(value: Any) -> Any:
    named = isinstance(value, Mapping) and value.get("class_name") == "DTypePolicy"
    return value["config"].get("name") if named and isinstance(value.get("config"), Mapping) else value


def _node(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    given = {key: value for key, value in dict(node.get("kwargs") or {}).items() if value is not None}
    return [[*history, given] for history in _histories(node.get("args"))]


def _histories(value: Any) -> Iterator[list[Any]]:
    """Yield [layer, node, tensor] of each tensor in the arguments of a call; of anything else, what refuses it."""
    if isinstance(value, list):
        for item in value:
            yield from _histories(item)
    elif isinstance(value, Mapping) and value.get("class_name") == TENSOR and isinstance(value.get("config"), Mapping):
        yield list(value["config"].get("keras_history") or ["", 0, 0])[:3]
    elif value is not None:
        yield [f"an argument {value!r:.40}", 0, 0]
