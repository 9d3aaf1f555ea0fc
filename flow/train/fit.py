"""Training a spec: the quantized model and its float twin, pruned on the same schedule, then frozen and saved.

A float spec's model is trained as it is, nothing pruned and nothing quantized. A training that was interrupted, or
killed, goes on behind its last whole epoch (`flow.train.checkpoints`).
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset, load_dataset
from flow.errors import DataError, OutputError, SpecError
from flow.files import locked, sweep
from flow.frontend.trained import FLOAT_DIR, TRAINED_JSON, TRAINED_NPZ, TrainedModel, save_trained
from flow.progress import Announce, silent
from flow.train import load_pruning, load_tensorflow, quiet_warnings
from flow.train.build import Wrap, build_float, build_quantized, build_topology
from flow.train.checkpoints import DIRECTORY, Checkpoint, GoOn, training_key
from flow.train.deserialize import custom_objects
from flow.train.freeze import freeze, quantized_weights, sparsity
from flow.train.layers import FixedBatchNormalization
from flow.train.spec import Conv2DSpec, DenseSpec, FloatSpec, LayerSpec, ModelSpec

tf, keras, _ = load_tensorflow()

MASK_UPDATES_PER_EPOCH = 4
VERIFICATION_SAMPLES = 300
CALIBRATION_SAMPLES = 128
"""Of the training split, drawn without regard to their class; all of them, in another order, if there are fewer."""
BATCH_SIZE = 1024
"""Of predictions; it changes no result."""
PARTIAL = ".partial-"
"""Names of directories that hold models on their way into place begin so."""
PACKAGES = ("tensorflow", "tf-keras", "qkeras", "tensorflow-model-optimization", "numpy", "scikit-learn")


@quiet_warnings()
def train(
    spec: ModelSpec | FloatSpec,
    directory: Path,
    *,
    epochs: int | None = None,
    dataset: Dataset | None = None,
    announce: Announce = silent,
) -> TrainedModel:
    """Train a model, and write `trained.json` and `trained.npz`; of a quantized one the float twin's too, in `float/`.

    The same spec, data, versions and machine give the same model, bit for bit; so does a training that was interrupted
    when it is begun again with the same arguments. One process at a time trains into a directory: a second one waits.

    Args:
        spec: the model.
        directory: where to write. Before training has ended that is only what it goes on from, in `.training/`.
        epochs: instead of those of the spec; the pruning schedule is scaled with them.
        dataset: instead of the one that the spec names.
        announce: called with what was reached, in words, after each epoch.

    Returns:
        The model as data, as written.

    Raises:
        SpecError: `epochs` is less than 1.
        DataError: the data set does not fit the model.
        ToolMissingError: the data set or a package is not to be had.
        OutputError: the directory cannot be written.

    Example:
        >>> train(load_spec("digits_mlp"), Path("out")).metrics["qkeras"]  # doctest: +SKIP
        0.9638888888888889
        >>> train(load_spec("mnist_autoencoder"), Path("out")).metrics  # doctest: +SKIP
        {'reconstruction_mse': 0.0098}
    """
    if epochs is not None and epochs < 1:
        raise SpecError(f"epochs is {epochs}", model=spec.name, remedy="expected at least 1")
    epochs, data = epochs or spec.train.epochs, dataset or load_dataset(spec.dataset)
    shape = spec.input_shape if isinstance(spec, FloatSpec) else spec.input.shape
    if (found := data.x_train.shape[1:]) != shape:
        raise DataError(f"inputs of '{data.name}' have shape {found}, not {shape}", model=spec.name)
    count = len(data.class_names)
    if isinstance(spec, ModelSpec) and (units := getattr(spec.layers[-1], "units", count)) != count:
        raise DataError(f"{units} units in the last layer, but '{data.name}' has {count} classes", model=spec.name)
    kept, key = directory / DIRECTORY, training_key(spec, epochs, data, _versions())
    with locked(kept):
        sweep(directory, f"{PARTIAL}*", older_than_s=0)
        if isinstance(spec, FloatSpec):
            checkpoint = Checkpoint(path=kept / "float.npz", key=key)
            models = _fit_float(spec, data, epochs, checkpoint, announce)
        else:
            twin, quantized = (Checkpoint(path=kept / f"{name}.npz", key=key) for name in ("float_twin", "quantized"))
            models = _fit_quantized(spec, data, epochs, twin, quantized, announce)
        write(models, directory)
        shutil.rmtree(kept, ignore_errors=True)
    return models[""]


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _fit_float(
    spec: FloatSpec, data: Dataset, epochs: int, checkpoint: Checkpoint, announce: Announce
) -> dict[str, TrainedModel]:
    seeded(spec.train.seed)
    model = build_topology(spec, len(data.class_names))
    optimizer = cosine_adam(spec, data, epochs)
    classifies = spec.task == "classification"
    if classifies:
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    else:
        model.compile(optimizer, keras.losses.MeanSquaredError())
    done = checkpoint.epochs_done()
    callbacks = [told(spec.name, epochs, done, announce), GoOn(checkpoint, done)]
    options = {"batch_size": spec.train.batch_size, "epochs": epochs, "callbacks": callbacks, "verbose": 0}
    if done < epochs:
        model.fit(data.x_train, data.y_train if classifies else data.x_train, **options)
    else:
        checkpoint.restore(model)
    return {"": float_artefact(model, spec, data, epochs)}


def _fit_quantized(
    spec: ModelSpec, data: Dataset, epochs: int, of_twin: Checkpoint, of_quantized: Checkpoint, announce: Announce
) -> dict[str, TrainedModel]:
    """Return the quantized model, and in `FLOAT_DIR` its float twin."""
    twin = _fit_pruned(build_float, f"{spec.name} float twin", spec, data, epochs, of_twin, announce)
    model = _fit_pruned(build_quantized, f"{spec.name} quantized", spec, data, epochs, of_quantized, announce)
    weights = freeze(model, data.x_test)
    float_twin = float_artefact(twin, spec, data, epochs)
    accuracy = float(np.mean(classes(model, data) == data.y_test))
    trained = replace(
        float_twin,
        config=json.loads(json.dumps(model.get_config())),
        weights=weights,
        calibration_inputs=None,
        metrics={**float_twin.metrics, "qkeras": accuracy, "sparsity": sparsity(weights)},
    )
    return {"": trained, FLOAT_DIR: float_twin}


def _fit_pruned(
    build: Callable[[ModelSpec, Wrap], Any],
    title: str,
    spec: ModelSpec,
    data: Dataset,
    epochs: int,
    checkpoint: Checkpoint,
    announce: Announce,
) -> Any:
    """Build, train and prune a model; return it without the pruning wrappers."""
    seeded(spec.train.seed)
    model = build(spec, lambda layer, layer_spec: _pruned(layer, layer_spec, spec, data, epochs))
    optimizer = cosine_adam(spec, data, epochs)
    unfrozen = epochs - spec.train.frozen_epochs * epochs // spec.train.epochs
    done = checkpoint.epochs_done()
    callbacks = [load_pruning().UpdatePruningStep(), told(title, epochs, done, announce), GoOn(checkpoint, done)]
    options = {"batch_size": spec.train.batch_size, "callbacks": callbacks, "verbose": 0}
    for first, last in ((0, unfrozen), (unfrozen, epochs)):
        for layer in model.layers:
            if isinstance(layer, FixedBatchNormalization):
                layer.use_moving_statistics = first > 0
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
        if done < epochs:
            model.fit(data.x_train, data.y_train, initial_epoch=first, epochs=last, **options)
    if done == epochs:
        checkpoint.restore(model)
    with keras.utils.custom_object_scope(custom_objects()):
        return load_pruning().strip_pruning(model)


def _pruned(layer: Any, layer_spec: LayerSpec, spec: ModelSpec, data: Dataset, epochs: int) -> Any:
    if not isinstance(layer_spec, (DenseSpec, Conv2DSpec)) or layer_spec.sparsity == 0:
        return layer
    steps = steps_per_epoch(spec, data)
    steps_per_spec_epoch = steps * epochs / spec.train.epochs
    schedule = load_pruning().PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=layer_spec.sparsity,
        begin_step=int(spec.prune.begin_epoch * steps_per_spec_epoch),
        end_step=max(1, int(spec.prune.end_epoch * steps_per_spec_epoch)),
        frequency=max(1, steps // MASK_UPDATES_PER_EPOCH),
    )
    return load_pruning().prune_low_magnitude(layer, pruning_schedule=schedule)


def seeded(seed: int) -> None:
    """Forget all models, and make what comes next the same each time: random numbers and the order of sums."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def steps_per_epoch(spec: ModelSpec | FloatSpec, data: Dataset) -> int:
    """Return how many batches the training split makes."""
    return -(-len(data.x_train) // spec.train.batch_size)


def cosine_adam(spec: ModelSpec | FloatSpec, data: Dataset, epochs: int) -> Any:
    """Return Adam with a learning rate that falls to zero over so many epochs."""
    steps = epochs * steps_per_epoch(spec, data)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(spec.train.learning_rate, steps))


def told(title: str, epochs: int, done: int, announce: Announce) -> Any:
    """Return the callback that announces each epoch, but for those that are `done`."""

    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        if epoch >= done:
            measured = ", ".join(f"{name} {value:.3f}" for name, value in logs.items())
            announce(f"{title}: {measured}, epochs", epoch + 1, epochs)

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


# -- what training leaves: models as data, what was measured of them, files that appear whole or not at all


def float_artefact(model: Any, spec: ModelSpec | FloatSpec, data: Dataset, epochs: int) -> TrainedModel:
    """Return a trained float model as data, with what was measured of it, verification and calibration inputs.

    Args:
        model: a Keras model of plain layers: one input, one linear output, no pruning wrappers.
        spec: whose name it bears; the seed of the training picks the calibration inputs as well.
        data: what it was trained on.
        epochs: how many it was trained.

    Returns:
        The model; labels of its verification inputs are None for a reconstruction.

    Raises:
        UnsupportedError: a weight is NaN or infinite.
    """
    classifies, seed = not isinstance(spec, FloatSpec) or spec.task == "classification", spec.train.seed
    count = min(CALIBRATION_SAMPLES, len(data.x_train))
    drawn = np.random.default_rng(seed).choice(len(data.x_train), count, replace=False)
    return TrainedModel(
        name=spec.name,
        class_name="Functional",
        config=json.loads(json.dumps(model.get_config())),
        weights=quantized_weights(model),
        verification_inputs=data.x_test[:VERIFICATION_SAMPLES],
        verification_labels=data.y_test[:VERIFICATION_SAMPLES] if classifies else None,
        calibration_inputs=data.x_train[drawn],
        metrics=metrics(model, data, classifies),
        provenance={
            "dataset": data.name,
            "source": data.source,
            "seed": seed,
            "epochs": epochs,
            "train_samples": len(data.x_train),
            "test_samples": len(data.x_test),
            "python": platform.python_version(),
            "versions": _versions(),
        },
    )


def classes(model: Any, data: Dataset) -> NDArray[np.int64]:
    """Return the class with the largest logit for each test sample: int64 (samples,)."""
    logits = model.predict(data.x_test, batch_size=BATCH_SIZE, verbose=0)
    return np.asarray(np.argmax(logits, axis=1), np.int64)


def metrics(model: Any, data: Dataset, classifies: bool) -> dict[str, Any]:
    """Return what is measured of a float model on the test split.

    Returns:
        Of a classification "float", its accuracy as a fraction, and "float_confusion", how many samples of each class
        (row) were taken for each (column); of a reconstruction "reconstruction_mse", the mean of (output - input)**2
        over all features.
    """
    if not classifies:
        outputs = model.predict(data.x_test, batch_size=BATCH_SIZE, verbose=0)
        return {"reconstruction_mse": float(np.mean(np.square(outputs.astype(np.float64) - data.x_test)))}
    said, count = classes(model, data), len(data.class_names)
    confusion = np.bincount(data.y_test * count + said, minlength=count**2).reshape(count, count).tolist()
    return {"float": float(np.mean(said == data.y_test)), "float_confusion": confusion}


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
        partial = Path(tempfile.mkdtemp(dir=directory, prefix=PARTIAL))
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
