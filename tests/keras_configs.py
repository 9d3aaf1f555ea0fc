"""Keras configurations written by hand, NumPy in the place of QKeras, and how to read off a graph what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flow.frontend.trained import TrainedModel
from flow.ir.graph import Input, IntGraph
from flow.ir.reference import run_output

Entry = dict[str, Any]
BITS = {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 3, "alpha": 1}}
RELU = "quantized_relu(4,2)"


def layer(class_name: str, name: str, **config: Any) -> Entry:
    return {"class_name": class_name, "config": {"name": name, **config}}


def port(*shape: int | None) -> Entry:
    return layer("InputLayer", "in", batch_input_shape=[None, *shape])


def dense(name: str = "fc", units: int = 2, **config: Any) -> Entry:
    return layer("QDense", name, **{"units": units, "kernel_quantizer": BITS, "bias_quantizer": BITS, **config})


def conv(name: str = "cv", **config: Any) -> Entry:
    return layer("QConv2D", name, **{"strides": [1, 1], "padding": "valid", "kernel_quantizer": BITS, **config})


def arrays(*shape: int, bias: int | None = None) -> dict[str, np.ndarray]:
    weights = np.resize(np.float32([1, -2, 0, 4, 0.5]), shape)
    return {"kernel": weights} if bias is None else {"kernel": weights, "bias": np.resize(np.float32([1, -3]), bias)}


def model(*layers: Entry, weights: dict[str, Any] | None = None, **more: Any) -> TrainedModel:
    config = {"layers": list(layers), **more.pop("config", {})}
    return TrainedModel(
        name="m", class_name=more.pop("class_name", "Sequential"), config=config, weights=weights or {}, **more
    )


FC = {"fc": arrays(3, 2, bias=2)}


def kinds(graph: IntGraph) -> list[type]:
    return [type(op) for op in graph.ops if not isinstance(op, Input)]


def reads(entry: Entry, *sources: str) -> Entry:
    """Return a layer as a Functional lists it, reading other layers once."""
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": [[[name, 0, 0, {}] for name in sources]]}


def functional(*layers: Entry, outputs: Sequence[str], **more: Any) -> TrainedModel:
    """Return a Functional; an entry without inbound nodes is an input."""
    entries = [entry if "inbound_nodes" in entry else reads(entry) for entry in layers]
    ports = [entry["name"] for entry in entries if entry["class_name"] == "InputLayer"]
    ends = {
        "input_layers": [[name, 0, 0] for name in ports],
        "output_layers": [[name, 0, 0] for name in outputs],
    }
    entries = [{**entry, "inbound_nodes": []} if entry["name"] in ports else entry for entry in entries]
    return model(*entries, class_name="Functional", config=ends, **more)


def named(name: str, *shape: int) -> Entry:
    return layer("InputLayer", name, batch_input_shape=[None, *shape])


def values(graph: IntGraph, codes: Any) -> np.ndarray:
    """Return the values of the first output for one sample of input codes."""
    out = run_output(graph, np.array([codes], np.int64))[0]
    return out * graph.output.format.step


KNOWN: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "QActivation hard_sigmoid": lambda x: np.clip(x / 2 + 0.5, 0, 1),
    "Activation tanh": np.tanh,
    "QActivation tanh": np.tanh,
    "QActivation quantized_bits(4,1,alpha=1)": lambda x: np.clip(np.rint(x * 4), -8, 7) / 4,
    "QActivation quantized_bits(4,1,alpha=2)": lambda x: 2 * np.clip(np.rint(x * 4), -8, 7) / 4,
    "QActivation quantized_relu(4,2)": lambda x: np.clip(np.rint(x * 4), 0, 15) / 4,
    "QActivation binary": lambda x: np.where(x < 0, -1, 1),
    "Activation relu6": lambda x: np.clip(x, 0, 6),
    "Average": lambda x: x / 3,
    "ReLU": lambda x: np.clip(x, 0, 6),
    "LeakyReLU": lambda x: np.where(x < 0, np.float32(0.3) * x, x),
    "ELU": lambda x: np.where(x < 0, np.expm1(x), x),
}


def evaluate(layers: Sequence[Mapping[str, Any]], values: np.ndarray) -> np.ndarray:
    for each in layers:
        name = " ".join(filter(None, [each["class_name"], each["config"].get("activation")]))
        values = KNOWN[name](values).astype(np.float32)
    return values
