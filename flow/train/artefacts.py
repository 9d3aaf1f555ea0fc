"""What training leaves: models as data, what was measured of them, files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset
from flow.data.own import DataSpec
from flow.errors import ModelFileError, OutputError
from flow.files import writing
from flow.frontend.trained import TRAINED_JSON, TRAINED_NPZ, TrainedModel, save_trained
from flow.runs import digest
from flow.train import keras_errors
from flow.train.epochs import History
from flow.train.freeze import quantized_weights
from flow.train.heads import Goal
from flow.train.spec import CLASSIFICATION, RECONSTRUCTION, Spec

VERIFICATION_SAMPLES, OWN_VERIFICATION_SAMPLES = 300, 2000
"""Of the test split, kept with the model; more of a user's own samples, which a build does not look for elsewhere."""
CALIBRATION_SAMPLES = 128
"""Of the training split, drawn without regard to their class; all of them, in another order, if there are fewer."""
BATCH_SIZE = 1024
"""Of predictions; it changes no result."""
PARTIAL = ".partial-"
"""Names of directories that hold models on their way into place begin so."""
HISTORY_CSV = "history.csv"
"""What was measured after each epoch of each model."""
PACKAGES = ("tensorflow", "tf-keras", "qkeras", "tensorflow-model-optimization", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of the packages that a training depends on."""
    return {package: version(package) for package in PACKAGES}


def artefact(
    model: Any,
    spec: Spec,
    data: Dataset,
    x_test: NDArray[np.float32],
    x_train: NDArray[np.float32],
    goals: Sequence[Goal],
    epochs: int,
    *,
    level: str = "float",
) -> TrainedModel:
    """Return a trained model as data, with what was measured of it, verification and calibration inputs.

    Args:
        model: a Keras model without pruning wrappers.
        spec: whose name it bears; the seed of the training picks the calibration inputs as well.
        data: what it was trained on.
        x_test, x_train: inputs in the shape of the model.
        goals: what its outputs learned.
        epochs: how many it was trained.
        level: what its accuracy is called: "float", or "qkeras" of a quantized model.

    Returns:
        The model; labels of its verification inputs are None for a reconstruction.

    Raises:
        UnsupportedError: a weight is NaN or infinite.
    """
    seed, kept = spec.train.seed, VERIFICATION_SAMPLES
    if isinstance(spec.dataset, DataSpec):
        kept = OWN_VERIFICATION_SAMPLES
    count = min(CALIBRATION_SAMPLES, len(x_train))
    drawn = np.random.default_rng(seed).choice(len(x_train), count, replace=False)
    labels = {goal.name: goal.test[:kept] for goal in goals if goal.head.task != RECONSTRUCTION}
    return TrainedModel(
        name=spec.name,
        class_name=type(model).__name__,
        config=configuration(model),
        weights=quantized_weights(model),
        verification_inputs=x_test[:kept],
        verification_labels=(next(iter(labels.values())) if len(goals) == 1 else labels) if labels else None,
        calibration_inputs=x_train[drawn] if level == "float" else None,
        metrics=metrics(model, goals, x_test, level),
        provenance={
            "dataset": data.name,
            "source": data.source,
            **({"preparation": dict(data.preparation)} if data.preparation else {}),
            "seed": seed,
            "epochs": epochs,
            "train_samples": len(x_train),
            "test_samples": len(x_test),
            "python": platform.python_version(),
            "versions": versions(),
        },
    )


def fingerprint(model: Any) -> str:
    """Return the SHA-256 of a Keras model: of its configuration and its weights as they are.

    Raises:
        ModelFileError: Keras does not describe it.
    """
    return digest(configuration(model), [hashlib.sha256(array.tobytes()).hexdigest() for array in model.get_weights()])


def configuration(model: Any) -> dict[str, Any]:
    """Return the configuration of a Keras model as JSON types.

    Raises:
        ModelFileError: Keras does not describe it.
    """
    with keras_errors("Keras does not describe this model", ModelFileError):
        return json.loads(json.dumps(model.get_config()))  # type: ignore[no-any-return]


def metrics(model: Any, goals: Sequence[Goal], x_test: NDArray[np.float32], level: str) -> dict[str, Any]:
    """Return what is measured of a model on the test split.

    Args:
        model: a Keras model.
        goals: what its outputs learned.
        x_test: inputs in its shape.
        level: "float" or "qkeras".

    Returns:
        Of one output that classifies `level`, its accuracy as a fraction, and of a float model "float_confusion", how
        many samples of each class (row) were taken for each (column); of one that gives the input again
        "reconstruction_mse", the mean of (output - input)**2 over all features; of any other, or several, "heads": for
        each output by its name what is measured of it, and the value by level.
    """
    outputs = model.predict(x_test, batch_size=BATCH_SIZE, verbose=0)
    if len(goals) > 1:
        return {"heads": _of_heads(goals, outputs, level)}
    (goal,) = goals
    if goal.head.task == RECONSTRUCTION:
        return {"reconstruction_mse": float(np.mean(np.square(outputs.astype(np.float64) - goal.test)))}
    if goal.head.task != CLASSIFICATION:
        return {"heads": _of_heads(goals, [outputs], level)}
    confusion = {"float_confusion": goal.confusion(outputs)} if level == "float" else {}
    return {level: goal.measured(outputs), **confusion}


def _of_heads(goals: Sequence[Goal], outputs: Sequence[NDArray[Any]], level: str) -> dict[str, Any]:
    return {
        goal.name: {"measure": goal.measure(), level: goal.measured(output)}
        for goal, output in zip(goals, outputs, strict=True)
    }


def joined(twin: Mapping[str, Any], quantized: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured of a quantized model together with what was of its float twin."""
    found = {**twin, **quantized}
    if "heads" in twin:
        found["heads"] = {name: {**of, **quantized["heads"][name]} for name, of in twin["heads"].items()}
    return found


def history_text(histories: Mapping[str, History]) -> str:
    """Return what was measured after each epoch as a table: a line for each epoch of each model."""
    columns = list(dict.fromkeys(name for history in histories.values() for name in history))
    lines = [",".join(("model", "epoch", *columns))]
    for model, history in histories.items():
        for epoch in range(max(map(len, history.values()), default=0)):
            values = [history.get(name, []) for name in columns]
            cells = [f"{of[epoch]:.7g}" if epoch < len(of) else "" for of in values]
            lines.append(",".join((model, str(epoch + 1), *cells)))
    return "\n".join(lines) + "\n"


def write(models: Mapping[str, TrainedModel], histories: Mapping[str, History], directory: Path) -> None:
    """Save models under a temporary name, then move their files into place.

    Args:
        models: subdirectory ("" for the directory itself) -> the model that goes there.
        histories: name of a model -> what was measured after each epoch.
        directory: made if it is not there.

    Raises:
        OutputError: the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=directory, prefix=PARTIAL))
        try:
            for below, model in models.items():
                save_trained(model, partial / below)
            for below in models:
                (directory / below).mkdir(exist_ok=True)
                for name in (TRAINED_NPZ, TRAINED_JSON):
                    (partial / below / name).replace(directory / below / name)
            with writing(directory / HISTORY_CSV) as file:
                file.write(history_text(histories).encode())
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write the trained model ({error})", file=directory) from error
