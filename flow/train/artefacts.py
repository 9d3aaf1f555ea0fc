"""What training leaves: float models as data, what was measured of a model, files that appear whole or not at all."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset
from flow.errors import OutputError
from flow.frontend.trained import TRAINED_JSON, TRAINED_NPZ, TrainedModel, save_trained
from flow.train.freeze import quantized_weights

VERIFICATION_SAMPLES = 300
CALIBRATION_SAMPLES = 128
BATCH_SIZE = 1024
"""Of predictions; it changes no result."""
PACKAGES = ("tensorflow", "tf-keras", "qkeras", "tensorflow-model-optimization", "numpy", "scikit-learn")


def float_artefact(model: Any, data: Dataset, *, name: str, task: str, seed: int, epochs: int) -> TrainedModel:
    """Return a trained float model as data, with verification and calibration inputs.

    Args:
        model: a Keras model of plain layers: one input, one linear output, no pruning wrappers.
        data: what it was trained on.
        name: what the artefact is called.
        task: "classification" (measured: accuracy and confusion) or "reconstruction" (measured: mean squared error).
        seed: of the training; it picks the calibration inputs as well.
        epochs: how many it was trained.

    Returns:
        The model; labels of its verification inputs are None for a reconstruction.

    Raises:
        UnsupportedError: a weight is NaN or infinite.
    """
    classifies = task == "classification"
    return TrainedModel(
        name=name,
        class_name="Functional",
        config=json.loads(json.dumps(model.get_config())),
        weights=quantized_weights(model),
        verification_inputs=data.x_test[:VERIFICATION_SAMPLES],
        verification_labels=data.y_test[:VERIFICATION_SAMPLES] if classifies else None,
        calibration_inputs=calibration_inputs(data, seed),
        metrics=float_metrics(classes(model, data), data) if classifies else reconstruction_metrics(model, data),
        provenance=provenance(data, seed, epochs),
    )


def calibration_inputs(data: Dataset, seed: int) -> NDArray[np.float32]:
    """Return samples of the training split, drawn without regard to their class: (`CALIBRATION_SAMPLES`, *shape).

    All of them, in another order, if there are fewer.
    """
    count = min(CALIBRATION_SAMPLES, len(data.x_train))
    drawn = np.random.default_rng(seed).choice(len(data.x_train), count, replace=False)
    return data.x_train[drawn]


def classes(model: Any, data: Dataset) -> NDArray[np.int64]:
    """Return the class with the largest logit for each test sample: int64 (samples,)."""
    logits = model.predict(data.x_test, batch_size=BATCH_SIZE, verbose=0)
    return np.asarray(np.argmax(logits, axis=1), np.int64)


def float_metrics(said: NDArray[np.int64], data: Dataset) -> dict[str, Any]:
    """Return the accuracy ("float", a fraction) and the confusion ("float_confusion") of a float model.

    Args:
        said: int64 (samples,), the class of each test sample as the model says.
        data: holds the labels.
    """
    return {"float": float(np.mean(said == data.y_test)), "float_confusion": confusion(said, data)}


def reconstruction_metrics(model: Any, data: Dataset) -> dict[str, Any]:
    """Return "reconstruction_mse": the mean of (output - input)**2 over all features of the test split."""
    outputs = model.predict(data.x_test, batch_size=BATCH_SIZE, verbose=0)
    return {"reconstruction_mse": float(np.mean(np.square(outputs.astype(np.float64) - data.x_test)))}


def confusion(said: NDArray[np.int64], data: Dataset) -> list[list[int]]:
    """Return how many test samples of each class (row) were taken for each (column).

    Args:
        said: int64 (samples,), the class of each test sample as a model says.
        data: names the classes and their labels.
    """
    count = len(data.class_names)
    table: list[list[int]] = np.bincount(data.y_test * count + said, minlength=count**2).reshape(count, count).tolist()
    return table


def provenance(data: Dataset, seed: int, epochs: int) -> dict[str, Any]:
    """Return how a model was made: data, seed, epochs and versions (JSON types only)."""
    return {
        "dataset": data.name,
        "source": data.source,
        "seed": seed,
        "epochs": epochs,
        "train_samples": len(data.x_train),
        "test_samples": len(data.x_test),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def write(models: Mapping[str, TrainedModel], directory: Path) -> None:
    """Save models under a temporary name, then move their files into place.

    Args:
        models: subdirectory ("" for the directory itself) -> the model that goes there.
        directory: made if it is not there.

    Raises:
        OutputError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=directory, prefix=".partial-"))
        try:
            for below, model in models.items():
                save_trained(model, partial / below)
            for below in models:
                (directory / below).mkdir(exist_ok=True)
                for name in (TRAINED_NPZ, TRAINED_JSON):
                    (partial / below / name).replace(directory / below / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write the trained model ({error})", file=directory) from error
