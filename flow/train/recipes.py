"""Keras models from the recipes of `flow.train.random_models`, with weights at the corners of their quantizers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from flow.frontend.trained import TrainedModel
from flow.train import load_tensorflow, quiet_warnings
from flow.train.deserialize import keras_model_of
from flow.train.freeze import layers_by_path, quantized_weights
from flow.train.random_drafts import EPSILON
from flow.train.random_models import Recipe
from flow.train.reader import KerasModel

keras = load_tensorflow().keras

STEP = 2.0**-4
"""Biases and offsets without a quantizer are multiples of this."""


@quiet_warnings()
def from_recipe(recipe: Recipe) -> KerasModel:
    """Return the model of a recipe, as `read_keras` returns a user's.

    Raises:
        ModelFileError: it describes no model, or holds code.
        UnsupportedError: a layer is unknown, or a quantizer makes no fixed weights.
    """
    config = copy.deepcopy(dict(recipe.config))
    model = keras_model_of("Functional", config)
    for layer in layers_by_path(model).values():
        layer.set_weights([_values(recipe.seed, layer, variable) for variable in layer.weights])
    trained = TrainedModel(name=recipe.name, class_name="Functional", config=config, weights=quantized_weights(model))
    return KerasModel(model, trained)


def forget() -> None:
    """Free what TensorFlow keeps of the models made before."""
    keras.backend.clear_session()


def _values(seed: int, layer: Any, variable: Any) -> NDArray[np.float32]:
    """Return values for one variable: extremes, ties, zeros and dead channels among them."""
    name = variable.name.rsplit("/", 1)[-1].split(":")[0]
    way = "backward " if isinstance(layer, keras.layers.Bidirectional) and "backward_" in variable.name else ""
    rng = np.random.default_rng([seed, crc32(f"{layer.name}/{way}{name}".encode())])
    shape = tuple(variable.shape)
    if name == "iteration":
        return np.asarray(variable)
    if getattr(layer, "epsilon", EPSILON) != EPSILON and name in ANY:
        return np.asarray(ANY[name](rng, shape), np.float32)
    exact = {
        "moving_variance": np.full(shape, 1 - EPSILON),
        "moving_mean": rng.integers(-8, 9, shape) * STEP,
        "beta": rng.integers(-16, 17, shape) * STEP,
        "gamma": rng.choice([-1.5, -1, -0.25, 0, 0.125, 0.5, 1, 1.25, 2], shape),
        "alpha": rng.choice([-0.5, 0, 0.125, 0.25, 0.5], shape),
        "bias": rng.integers(-24, 25, shape) * STEP * (rng.random() < 0.8),
    }
    if name in exact:
        return exact[name].astype(np.float32)
    own = getattr(layer, "layer", layer)  # that a wrapper holds
    quantizers = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")
    if not any(getattr(own, key, None) for key in quantizers) and rng.random() < 0.5:
        return (rng.integers(-7, 8, shape) * 2.0**-3).astype(np.float32)  # few bits; others have all of a float's
    return _kernel(rng, shape).astype(np.float32)


ANY: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.floating[Any]]]] = {
    "moving_variance": lambda rng, shape: rng.uniform(0.1, 3, shape),
    "moving_mean": lambda rng, shape: rng.normal(0, 1, shape),
    "beta": lambda rng, shape: rng.normal(0, 0.5, shape),
    "gamma": lambda rng, shape: rng.normal(1, 0.3, shape) * rng.choice([1, 1, 1, 1, 1, 1, -1, 0.01], shape),
}
"""Variables of batch normalizations with any factors."""


def _kernel(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
    kind = rng.integers(5)
    weight: NDArray[np.floating[Any]] = np.asarray(rng.normal(0, [0.1, 0.5, 1.0, 4.0, 0.5][kind], shape))
    if kind == 4:  # on and between the steps of most grids
        weight = rng.integers(-32, 33, shape) * 2.0**-5
    weight[rng.random(shape) < rng.choice([0, 0.5, 0.9])] = 0
    if rng.random() < 0.2:
        weight[..., rng.integers(shape[-1])] = 0
    return weight
