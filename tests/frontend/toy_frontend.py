"""A made-up framework: a JSON list of dense and ReLU layers, one after another, and inference in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flow.frontend import layers
from flow.frontend.base import Frontend, Inference
from flow.frontend.layers import Layer, Network
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Codes, to_values
from flow.ir.graph import IntGraph
from flow.results import SimResult

RELU = layers.Relu(function=layers.Function("relu", "relu"))


def read_file(path: Path, weights: Path | None) -> TrainedModel:
    steps = json.loads(path.read_text())
    arrays = {step["name"]: {key: np.float32(step[key]) for key in step.keys() & {"kernel", "bias"}} for step in steps}
    return TrainedModel(name=path.stem, frontend="toy", class_name="list", config={"steps": steps}, weights=arrays)


def read(model: TrainedModel) -> Network:
    size = len(model.config["steps"][0]["kernel"])
    made: list[Layer[Any]] = [Layer(name="x", path="x", source="port", settings=layers.Port(shape=(size,)))]
    for step in model.config["steps"]:
        own: dict[str, Any] = {"name": step["name"], "path": step["name"], "inputs": (made[-1].name,)}
        if "kernel" in step:
            made.append(Layer(**own, source="dense", settings=layers.Dense(), arrays=model.weights[step["name"]]))
        else:
            made.append(Layer(**own, source="relu", settings=layers.Activate(), activation=RELU))
    return Network(name=model.name, layers=tuple(made), outputs=(made[-1].name,))


def inference(model: TrainedModel, file: Any, weights: Any, extracted: IntGraph, lowered: IntGraph) -> Inference:
    def run(codes: Codes) -> SimResult:
        x = to_values(codes, lowered.inputs[0].format)
        values = {"x": x}
        for step in model.config["steps"]:
            x = x @ np.array(step["kernel"]) + step["bias"] if "kernel" in step else np.maximum(x, 0)
            values[step["name"]] = x
        made = {op.name: values[op.layers[-1]] / op.format.step for op in lowered.ops}
        return SimResult(level="numpy", codes={name: array.astype(np.int64) for name, array in made.items()})

    return run


FRONTEND = Frontend(
    name="toy", level="numpy", code=(), takes=lambda path: path.suffix == ".toy", inference=inference,
    outputs=lambda *given: {},
    read_file=read_file, read=read, evaluate=lambda own, values: values, approximate=lambda own, values: values,
)  # fmt: skip
