"""Training a live Keras model on arrays: what a spec says of a net and its heads, read off the model and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flow.data.datasets import Dataset
from flow.errors import SpecError, at
from flow.frontend.trained import TrainedModel
from flow.ir.names import identifier
from flow.progress import Announce
from flow.train import load_tensorflow, quiet_warnings
from flow.train.fit import train_net
from flow.train.freeze import layers_by_path
from flow.train.spec import (
    CLASSIFICATION,
    REGRESSION,
    DistillSpec,
    FloatSpec,
    FloatTrainSpec,
    HeadSpec,
    OwnSpec,
    TrainSpec,
)

keras: Any = load_tensorflow().keras
QUANTIZING = ("qkeras", "flow")
"""Packages whose layers quantize."""


@quiet_warnings()
def train_live(
    model: Any,
    data: Dataset,
    directory: Path,
    settings: Mapping[str, Any],
    distill: DistillSpec | None,
    tensorboard: Path | None,
    announce: Announce,
) -> TrainedModel:
    """Train a Keras model in place, from the weights that it has.

    Args:
        model: of tf-keras, functional or sequential.
        data: what it is trained on.
        directory: where the model and its checkpoints go.
        settings: epochs, batch_size, learning_rate, seed.
        distill: a teacher, or None.
        tensorboard: directory of logs, or None.
        announce: told of each epoch.

    Raises:
        FlowError: as `flow.train.fit.train`.
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "output_names"):
        what = f"expected a functional or sequential model of tf_keras, not an object of class {type(model).__name__}"
        raise SpecError(what, field="model", remedy="a float model of Keras 3 goes to flow.quantize")
    name = identifier(model.name, ())
    common: dict[str, Any] = {
        "name": name,
        "description": "",
        "dataset": data.name,
        "heads": tuple(_head(output, data) for output in model.output_names),
        "distill": distill,
    }
    quantizes = any(type(layer).__module__.partition(".")[0] in QUANTIZING for layer in layers_by_path(model).values())
    spec: OwnSpec | FloatSpec
    if quantizes:
        spec = OwnSpec(**common, train=TrainSpec(**settings, frozen_epochs=settings["epochs"] // 5))
    else:
        spec = FloatSpec(**common, train=FloatTrainSpec(**settings))
    with at(model=name):
        return train_net(spec, model, data, directory, tensorboard=tensorboard, announce=announce)


def _head(output: str, data: Dataset) -> HeadSpec:
    """Return what an output learns: classes if its labels are integers, else targets."""
    named = isinstance(data.class_names, Mapping)
    classes = data.classes(output) if not named or output in data.class_names else ()
    return HeadSpec(layer=output, task=CLASSIFICATION if classes else REGRESSION)
