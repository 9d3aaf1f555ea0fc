"""Small QKeras models as a user might have them, saved in every form that Keras 2 writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.errors import ToolMissingError
from flow.train import load_tensorflow, quiet_warnings

try:
    _modules = load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train.freeze import layers_by_path

keras, qkeras = _modules.keras, _modules.qkeras
layers = keras.layers
po2, bits = qkeras.quantized_po2, qkeras.quantized_bits


def bias() -> Any:
    return bits(6, 1, alpha=1)


def dense(units: int, name: str, kernel: Any = None, **more: Any) -> Any:
    """Return a QDense with a power-of-two kernel unless told otherwise."""
    return qkeras.QDense(units, kernel_quantizer=kernel or po2(4, 1), bias_quantizer=bias(), name=name, **more)


def sequential(shape: Sequence[int], *parts: Any, seed: int = 1, trained: bool = True) -> Any:
    """Return a Sequential model whose variables all hold seeded numbers."""
    with quiet_warnings():
        model = keras.Sequential([layers.InputLayer(tuple(shape)), *parts])
        return scatter(model, seed) if trained else model


def functional(shape: Sequence[int], *parts: Any, seed: int = 1) -> Any:
    """Return the same as a Functional model."""
    with quiet_warnings():
        tensor = inputs = layers.Input(tuple(shape))
        for part in parts:
            tensor = part(tensor)
        return scatter(keras.Model(inputs, tensor), seed)


def scatter(model: Any, seed: int) -> Any:
    """Give every variable of a model, and of the models in it, seeded numbers, as training would."""
    rng = np.random.default_rng(seed)
    for layer in layers_by_path(model).values():
        values = [rng.normal(0, 0.5, weight.shape) for weight in layer.get_weights()]
        whole = isinstance(layer, layers.BatchNormalization)
        for position, variable in enumerate(layer.weights):
            if whole or "variance" in variable.name:
                values[position] = np.abs(values[position]) + 0.25
            if variable.dtype.is_integer:
                values[position] = np.zeros(variable.shape, np.int64)
        layer.set_weights(values)
    return model


@quiet_warnings()
def wired(build: Callable[..., Any], *shapes: Sequence[int], seed: int = 1) -> Any:
    """Return the functional model of `build(*inputs)`, an output or a list of them, for inputs of these shapes."""
    inputs = [layers.Input(tuple(shape), name=f"in{number}") for number, shape in enumerate(shapes)]
    return scatter(keras.Model(inputs, build(*inputs)), seed)


def conv_parts() -> list[Any]:
    """Return the layers of a convolutional net that has one of everything."""
    return [
        qkeras.QActivation(bits(4, 0, alpha=1), name="quantize_input"),
        qkeras.QConv2D(3, (3, 3), kernel_quantizer=po2(4, 1), bias_quantizer=bias(), name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.Activation("relu", name="relu"),
        qkeras.QActivation("quantized_relu(4,1)", name="quantize"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Dropout(0.1, name="drop"),
        layers.Flatten(name="flat"),
        dense(6, "hidden", bits(4, 0), activation="quantized_relu(4,1)"),
        dense(4, "logits", bits(4, 0, keep_negative=False, alpha=1)),
        layers.Activation("softmax", name="softmax"),
    ]


def mlp_parts() -> list[Any]:
    """Return the layers of a net without batch normalization, which float32 computes exactly."""
    return [
        qkeras.QActivation("quantized_bits(4,0,alpha=1)", name="quantize_input"),
        dense(6, "first", activation="quantized_relu(4,1)"),
        dense(5, "second", bits(4, 0, symmetric=True, alpha=1), activation="relu"),
        qkeras.QActivation("quantized_relu(5,2)", name="quantize"),
        dense(3, "third", bits(4, 0), activation="softmax"),
    ]


@quiet_warnings()
def save_all(model: Any, directory: Path) -> dict[str, tuple[Path, Path | None]]:
    """Save a model in every form; return form -> (model, weights)."""
    model.save(directory / "model.h5")
    model.save(directory / "model.keras")
    model.save(directory / "saved" / "model")
    (directory / "model.json").write_text(model.to_json())
    model.save_weights(directory / "older.h5")
    model.save_weights(directory / "newer.weights.h5")
    return {
        "h5": (directory / "model.h5", None),
        "keras": (directory / "model.keras", None),
        "saved model": (directory / "saved" / "model", None),
        "json": (directory / "model.json", directory / "older.h5"),
        "json, newer weights": (directory / "model.json", directory / "newer.weights.h5"),
    }


@quiet_warnings()
def save(model: Any, path: Path) -> Path:
    """Save a model and return the path."""
    model.save(path)
    return path


def array(path: Path, values: Any) -> Path:
    """Save an array and return the path."""
    np.save(path, values)
    return path
