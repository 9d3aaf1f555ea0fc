"""Keras as a front end: its files, functions and inference. TensorFlow is loaded when one of them is needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from flow.frontend.base import Evaluate, Frontend, Inference
from flow.frontend.keras import read
from flow.frontend.trained import TrainedModel
from flow.ir.graph import IntGraph

SUFFIXES = (".h5", ".hdf5", ".keras", ".json")


def takes(path: Path) -> bool:
    """Say whether a path is a Keras model, or a file that nothing else is."""
    saved_model = path.is_dir() and (path / "saved_model.pb").exists()
    return saved_model or path.suffix in SUFFIXES or (path.is_file() and path.suffix != ".toml")


def read_file(path: Path, weights: Path | None) -> TrainedModel:
    """Return a user's model as data.

    Raises:
        FlowError: as `flow.train.reader.read_keras`.
    """
    from flow.train.configuration import read_configuration

    read_configuration(path, weights)  # what is refused there is refused before TensorFlow is loaded, in no time
    from flow.train.reader import read_keras

    return read_keras(path, weights).trained


def element_wise(name: str) -> Evaluate:
    """Return a function of `flow.train.functions`, which is loaded when it is called."""
    return lambda functions, values: getattr(import_module("flow.train.functions"), name)(functions, values)


def inference(
    trained: TrainedModel, file: Path | None, weights: Path | None, extracted: IntGraph, lowered: IntGraph
) -> Inference:
    """Return QKeras' inference, with the Keras model made already.

    Raises:
        ToolMissingError: TensorFlow or QKeras is not installed.
    """
    if file is not None:
        from flow.train.reader import read_keras

        model = read_keras(file, weights).keras
    else:
        from flow.train.freeze import keras_model

        model = keras_model(trained)
    from flow.train.inference import run

    return lambda codes: run(model, trained, extracted, lowered, codes)


FRONTEND = Frontend(
    name="keras",
    level="qkeras",
    code=("train", "frontend/keras"),
    takes=takes,
    read_file=read_file,
    read=read,
    evaluate=element_wise("evaluate"),
    approximate=element_wise("approximate"),
    inference=inference,
)
