"""Keras as a front end: its files, functions and inference. TensorFlow is loaded when one of them is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.frontend.base import Frontend, Inference
from flow.frontend.keras import read
from flow.frontend.keras.scales import of_data
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.results import SimResult
from flow.train import OtherKerasError
from flow.train.apart import with_keras_2

SUFFIXES = (".h5", ".hdf5", ".keras", ".json")


def takes(path: Path) -> bool:
    """Say whether a path is a Keras model, or a file that nothing else is."""
    saved_model = path.is_dir() and (path / "saved_model.pb").exists()
    return saved_model or path.suffix in SUFFIXES or (path.is_file() and path.suffix != ".toml")


@with_keras_2
def read_file(path: Path, weights: Path | None) -> TrainedModel:
    """Return a user's model as data.

    Raises:
        FlowError: as `flow.train.reader.read_keras`.
    """
    from flow.train.configuration import read_configuration

    read_configuration(path, weights)  # what is refused there is refused before TensorFlow is loaded, in no time
    from flow.train.reader import read_keras

    return read_keras(path, weights).trained


@with_keras_2
def evaluate(functions: Sequence[Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `flow.train.functions.evaluate`, loaded when it is called."""
    from flow.train.functions import evaluate

    return evaluate(functions, values)


@with_keras_2
def approximate(functions: Sequence[Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `flow.train.functions.approximate`, loaded when it is called."""
    from flow.train.functions import approximate

    return approximate(functions, values)


def inference(
    trained: TrainedModel, file: Path | None, weights: Path | None, extracted: IntGraph, lowered: IntGraph
) -> Inference:
    """Return QKeras' inference, with the Keras model made already.

    Raises:
        ToolMissingError: TensorFlow or QKeras is not installed.
    """
    try:
        return _inference(trained, file, weights, extracted, lowered)
    except OtherKerasError:
        return lambda codes: _infer(trained, file, weights, extracted, lowered, codes)


@with_keras_2
def _infer(
    trained: TrainedModel,
    file: Path | None,
    weights: Path | None,
    extracted: IntGraph,
    lowered: IntGraph,
    codes: Codes,
) -> SimResult:
    return _inference(trained, file, weights, extracted, lowered)(codes)


def _inference(
    trained: TrainedModel, file: Path | None, weights: Path | None, extracted: IntGraph, lowered: IntGraph
) -> Inference:
    model = _keras_model(trained, file, weights)
    from flow.train.inference import run

    return lambda codes: run(model, trained, extracted, lowered, codes)


@with_keras_2
def outputs(
    trained: TrainedModel, file: Path | None, weights: Path | None, lowered: IntGraph, codes: Codes
) -> dict[str, NDArray[np.float32]]:
    """Return `flow.train.inference.float_outputs`, loaded when it is called.

    Raises:
        ToolMissingError: TensorFlow or QKeras is not installed.
    """
    model = _keras_model(trained, file, weights)
    from flow.train.inference import float_outputs

    return float_outputs(model, trained, lowered, codes)


def _keras_model(trained: TrainedModel, file: Path | None, weights: Path | None) -> Any:
    if file is not None:
        from flow.train.reader import read_keras

        return read_keras(file, weights, trained.config).keras
    from flow.train.freeze import keras_model

    return keras_model(trained)


def freeze(
    trained: TrainedModel, file: Path | None, weights: Path | None, samples: NDArray[np.floating[Any]] | None
) -> TrainedModel:
    """Return a model whose activations are scaled as in these samples, if QKeras scales any by the data.

    Raises:
        ToolMissingError: TensorFlow or QKeras is not installed.
    """
    return trained if samples is None or not any(of_data(trained.config)) else _freeze(trained, file, weights, samples)


@with_keras_2
def _freeze(
    trained: TrainedModel, file: Path | None, weights: Path | None, samples: NDArray[np.floating[Any]]
) -> TrainedModel:
    model = _keras_model(trained, file, weights)
    from flow.train.frozen import freeze_scales

    return freeze_scales(trained, model, samples)


FRONTEND = Frontend(
    name="keras",
    level="qkeras",
    code=("train", "frontend/keras"),
    takes=takes,
    read_file=read_file,
    read=read,
    evaluate=evaluate,
    approximate=approximate,
    inference=inference,
    outputs=outputs,
    freeze=freeze,
)
