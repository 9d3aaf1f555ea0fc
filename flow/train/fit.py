"""Training a spec: the quantized model and its float twin, pruned on the same schedule, then frozen and saved."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from flow.datasets import Dataset, load_dataset
from flow.errors import DataError, OutputError, SpecError
from flow.spec import Conv2DSpec, DenseSpec, LayerSpec, ModelSpec
from flow.train import load_pruning, load_tensorflow, quiet_warnings
from flow.train.build import Wrap, build_float, build_quantized
from flow.train.freeze import freeze, sparsity
from flow.train.layers import FixedBatchNormalization
from flow.train.rebuild import custom_objects
from flow.trained import TRAINED_JSON, TRAINED_NPZ, TrainedModel, save_trained

_modules = load_tensorflow()
tf, keras = _modules.tf, _modules.keras

VERIFICATION_SAMPLES = 300
MASK_UPDATES_PER_EPOCH = 4
PACKAGES = ("tensorflow", "tf-keras", "qkeras", "tensorflow-model-optimization", "numpy", "scikit-learn")


@quiet_warnings()
def train(
    spec: ModelSpec,
    directory: Path,
    *,
    epochs: int | None = None,
    dataset: Dataset | None = None,
    progress: bool = True,
) -> TrainedModel:
    """Train a model and its float twin, and write `trained.json` and `trained.npz`.

    The same spec, data, versions and machine give the same model, bit for bit.

    Args:
        spec: the model.
        directory: where to write; nothing is written before training has ended.
        epochs: instead of those of the spec; the pruning schedule is scaled with them.
        dataset: instead of the one that the spec names.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        The quantized model as data, as written.

    Raises:
        SpecError: `epochs` is less than 1.
        DataError: the data set does not fit the model.
        ToolMissingError: the data set or a package is not to be had.
        OutputError: the directory cannot be written.

    Example:
        >>> train(load_spec("digits_mlp"), Path("out")).metrics["qkeras"]  # doctest: +SKIP
        0.9638888888888889
    """
    if epochs is not None and epochs < 1:
        raise SpecError(f"{spec.name}: epochs is {epochs}; expected at least 1")
    data = dataset or load_dataset(spec.dataset)
    _check(spec, data)
    run = _Run(spec, data, epochs or spec.train.epochs, progress)
    twin = run.fit(build_float, "float twin")
    model = run.fit(build_quantized, "quantized")
    weights = freeze(model, data.x_test)
    said_by_twin, said = classes(twin, data), classes(model, data)
    trained = TrainedModel(
        name=spec.name,
        class_name="Functional",
        config=json.loads(json.dumps(model.get_config())),
        weights=weights,
        verification_inputs=data.x_test[:VERIFICATION_SAMPLES],
        verification_labels=data.y_test[:VERIFICATION_SAMPLES],
        metrics={
            "float": float(np.mean(said_by_twin == data.y_test)),
            "qkeras": float(np.mean(said == data.y_test)),
            "sparsity": sparsity(weights),
            "float_confusion": confusion(said_by_twin, data),
        },
        provenance={
            "dataset": data.name,
            "source": data.source,
            "seed": spec.train.seed,
            "epochs": run.epochs,
            "train_samples": len(data.x_train),
            "test_samples": len(data.x_test),
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
        },
    )
    _write(trained, directory)
    return trained


def classes(model: Any, data: Dataset) -> NDArray[np.int64]:
    """Return the class with the largest logit for each test sample: int64 (samples,)."""
    logits = model.predict(data.x_test, batch_size=1024, verbose=0)
    return np.asarray(np.argmax(logits, axis=1), np.int64)


def confusion(said: NDArray[np.int64], data: Dataset) -> list[list[int]]:
    """Return how many test samples of each class (row) were taken for each (column).

    Args:
        said: int64 (samples,), the class of each test sample as a model says.
        data: names the classes and their labels.
    """
    count = len(data.class_names)
    table: list[list[int]] = np.bincount(data.y_test * count + said, minlength=count**2).reshape(count, count).tolist()
    return table


class _Run:
    """One training: the spec, the data and the schedule, the same for the model and its twin."""

    def __init__(self, spec: ModelSpec, data: Dataset, epochs: int, progress: bool) -> None:
        self.spec, self.data, self.epochs, self.progress = spec, data, epochs, progress
        self.steps_per_epoch = -(-len(data.x_train) // spec.train.batch_size)
        self.frozen_epochs = spec.train.frozen_epochs * epochs // spec.train.epochs

    def fit(self, build: Callable[[ModelSpec, Wrap], Any], label: str) -> Any:
        """Build, train and prune a model; return it without the pruning wrappers."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(self.spec.train.seed)
        tf.config.experimental.enable_op_determinism()
        model = build(self.spec, self._pruned)
        total_steps = self.epochs * self.steps_per_epoch
        schedule = keras.optimizers.schedules.CosineDecay(self.spec.train.learning_rate, total_steps)
        optimizer = keras.optimizers.Adam(schedule)
        shown = self.progress and sys.stderr.isatty()
        with tqdm(total=self.epochs, desc=f"{self.spec.name} {label}", unit="epoch", disable=not shown) as bar:
            callbacks = [load_pruning().UpdatePruningStep(), keras.callbacks.LambdaCallback(on_epoch_end=_advance(bar))]
            for first, last in ((0, self.epochs - self.frozen_epochs), (self.epochs - self.frozen_epochs, self.epochs)):
                for layer in model.layers:
                    if isinstance(layer, FixedBatchNormalization):
                        layer.use_moving_statistics = first > 0
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
                model.compile(optimizer, loss, metrics=["accuracy"])
                model.fit(
                    self.data.x_train,
                    self.data.y_train,
                    batch_size=self.spec.train.batch_size,
                    initial_epoch=first,
                    epochs=last,
                    callbacks=callbacks,
                    verbose=0,
                )
        with keras.utils.custom_object_scope(custom_objects()):
            return load_pruning().strip_pruning(model)

    def _pruned(self, layer: Any, layer_spec: LayerSpec) -> Any:
        if not isinstance(layer_spec, (DenseSpec, Conv2DSpec)) or layer_spec.sparsity == 0:
            return layer
        steps_per_spec_epoch = self.steps_per_epoch * self.epochs / self.spec.train.epochs
        schedule = load_pruning().PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=layer_spec.sparsity,
            begin_step=int(self.spec.prune.begin_epoch * steps_per_spec_epoch),
            end_step=max(1, int(self.spec.prune.end_epoch * steps_per_spec_epoch)),
            frequency=max(1, self.steps_per_epoch // MASK_UPDATES_PER_EPOCH),
        )
        return load_pruning().prune_low_magnitude(layer, pruning_schedule=schedule)


def _advance(bar: Any) -> Callable[[int, dict[str, float]], None]:
    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        bar.set_postfix(loss=f"{logs['loss']:.3f}", accuracy=f"{logs['accuracy']:.3f}")
        bar.update()

    return on_epoch_end


def _check(spec: ModelSpec, data: Dataset) -> None:
    if data.x_train.shape[1:] != spec.input.shape:
        raise DataError(
            f"{spec.name}: inputs of '{data.name}' have shape {data.x_train.shape[1:]}, not {spec.input.shape}"
        )
    if (units := getattr(spec.layers[-1], "units", len(data.class_names))) != len(data.class_names):
        raise DataError(
            f"{spec.name}: {units} units in the last layer, but '{data.name}' has {len(data.class_names)} classes"
        )


def _write(trained: TrainedModel, directory: Path) -> None:
    """Save under a temporary name, then move both files into place."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=directory, prefix=".partial-"))
        try:
            save_trained(trained, partial)
            for name in (TRAINED_NPZ, TRAINED_JSON):
                (partial / name).replace(directory / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{directory}: cannot write the trained model ({error})") from error
