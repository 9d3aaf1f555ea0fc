"""Keras models from trained artefacts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from flow.errors import ModelFileError
from flow.frontend.trained import TrainedModel
from flow.train import load_tensorflow, quiet_warnings
from flow.train.freeze import set_quantized_weights
from flow.train.layers import FixedBatchNormalization
from flow.train.quantizers import quantized_grid, quantized_po2_zero

_modules = load_tensorflow()
keras, qkeras = _modules.keras, _modules.qkeras


def custom_objects() -> dict[str, Any]:
    """Return every class that a model may name: QKeras', one that its list forgets, and ours, by name."""
    objects: dict[str, Any] = {}
    qkeras.utils._add_supported_quantized_objects(objects)  # QKeras' own list; there is no public name for it
    ours = (quantized_po2_zero, quantized_grid, FixedBatchNormalization, qkeras.quantizers.quantized_hswish)
    return {**objects, **{item.__name__: item for item in ours}}


@quiet_warnings()
def keras_model(trained: TrainedModel) -> Any:
    """Return a Keras model that computes what the trained model says.

    Args:
        trained: a model with layers of QKeras, of ours, or of Keras (a float model).

    Returns:
        The Keras model; its layers' quantized values are the arrays of `trained`, bit for bit.

    Raises:
        ModelFileError: configuration and weights do not make a model.
    """
    kind = keras.Sequential if trained.class_name == "Sequential" else keras.Model
    try:
        with keras.utils.custom_object_scope(custom_objects()):
            model = kind.from_config(copy.deepcopy(dict(trained.config)))
        weights = {
            name: {key: np.asarray(a, np.float32) for key, a in g.items()} for name, g in trained.weights.items()
        }
        set_quantized_weights(model, weights)
    except Exception as error:  # Keras fails in many ways: types, keys, shapes, names
        raise ModelFileError(
            f"configuration and weights do not make a Keras model: {error}", model=trained.name
        ) from error
    return model
