"""Configurations become Keras objects here and nowhere else, after they were checked: one gate for every way in.

A user's file of any form, a finding of `flow fuzz`, a model kept in a directory: Keras would import modules, evaluate
texts and run functions that a configuration names, so it sees none that `flow.train.configuration` has not let through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flow.errors import ModelFileError
from flow.frontend.keras.quantizers import is_activation_layer
from flow.train import keras_errors, load_tensorflow
from flow.train.attention import FixedLayerNormalization, FixedSoftmax
from flow.train.configuration import checked
from flow.train.layers import FixedBatchNormalization, QDenseBatchnorm
from flow.train.quantizers import OURS, quantized_bits

qkeras: Any
tf, keras, qkeras = load_tensorflow()


def keras_model_of(class_name: str, config: Mapping[str, Any]) -> Any:
    """Return the Keras model that a configuration describes, with numbers of Keras' choice.

    Raises:
        ModelFileError: it is no model's, holds code, or Keras cannot make a model of it.
        UnsupportedError: a layer or a quantizer that we do not know.
    """
    entry = checked({"class_name": class_name, "config": config})
    with keras_errors("Keras 2 cannot load this model", ModelFileError):
        model = keras.models.model_from_json(json.dumps(entry), custom_objects=custom_objects())
        _set_activations(model, entry["config"]["layers"])
        return model


def _set_activations(model: Any, entries: Sequence[Mapping[str, Any]]) -> None:
    """Set the activations that are layers: QKeras' own layers make them with default arguments."""
    for entry in entries:
        own = entry["config"]
        if "layers" in own:
            _set_activations(model.get_layer(own["name"]), own["layers"])
        elif entry["class_name"] != "QActivation" and is_activation_layer(own.get("activation")):
            made = keras_layer_of(own["activation"]["class_name"], own["activation"]["config"])
            model.get_layer(own["name"]).activation = made


def keras_layer_of(class_name: str, config: Mapping[str, Any]) -> Any:
    """Return the layer of Keras, or of ours, that a checked configuration describes."""
    return (custom_objects().get(class_name) or getattr(keras.layers, class_name)).from_config(config)


def custom_objects() -> dict[str, Any]:
    """Return every class that a model may name: QKeras', those that it forgets, and ours, by name."""
    objects: dict[str, Any] = {}
    qkeras.utils._add_supported_quantized_objects(objects)  # QKeras' own list; there is no public name for it
    ours = (
        FixedBatchNormalization,
        FixedLayerNormalization,
        FixedSoftmax,
        qkeras.quantizers.quantized_hswish,
        qkeras.QConv2DTranspose,
        QDenseBatchnorm,
    )
    own = {item.__name__: item for item in ours}
    return {**objects, **OURS, **own, "QActivation": _QActivation, "quantized_bits": quantized_bits}


class _QActivation(qkeras.QActivation):  # type: ignore[misc]
    """Makes the quantizer that a configuration describes; QKeras' own leaves it a dictionary and cannot be called."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        activation = config.get("activation")
        if isinstance(activation, Mapping):
            if is_activation_layer(activation):
                activation = keras_layer_of(activation["class_name"], activation["config"])
            else:
                activation = qkeras.get_quantizer(dict(activation))
        return qkeras.QActivation(**{**config, "activation": activation})
