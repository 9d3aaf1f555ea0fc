"""Training a spec: the quantized model and its float twin, pruned on the same schedule, then frozen and saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flow.data.datasets import Dataset, load_dataset
from flow.errors import DataError, SpecError
from flow.frontend.trained import FLOAT_DIR, TrainedModel
from flow.train import load_pruning, load_tensorflow, quiet_warnings
from flow.train.artefacts import VERIFICATION_SAMPLES, classes, float_artefact, provenance, write
from flow.train.build import Wrap, build_float, build_quantized
from flow.train.freeze import freeze, sparsity
from flow.train.layers import FixedBatchNormalization
from flow.train.rebuild import custom_objects
from flow.train.spec import Conv2DSpec, DenseSpec, FloatSpec, LayerSpec, ModelSpec

_modules = load_tensorflow()
tf, keras = _modules.tf, _modules.keras

MASK_UPDATES_PER_EPOCH = 4


@quiet_warnings()
def train(
    spec: ModelSpec,
    directory: Path,
    *,
    epochs: int | None = None,
    dataset: Dataset | None = None,
    progress: bool = True,
) -> TrainedModel:
    """Train a model and its float twin, and write `trained.json` and `trained.npz`, the twin's in `float/`.

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
    epochs = checked_epochs(spec, epochs)
    data = dataset or load_dataset(spec.dataset)
    check_inputs(spec.name, spec.input.shape, data)
    _check_classes(spec, data)
    run = _Run(spec, data, epochs, progress)
    twin = run.fit(build_float, "float twin")
    model = run.fit(build_quantized, "quantized")
    weights = freeze(model, data.x_test)
    seed = spec.train.seed
    float_twin = float_artefact(twin, data, name=spec.name, task="classification", seed=seed, epochs=run.epochs)
    trained = TrainedModel(
        name=spec.name,
        class_name="Functional",
        config=json.loads(json.dumps(model.get_config())),
        weights=weights,
        verification_inputs=data.x_test[:VERIFICATION_SAMPLES],
        verification_labels=data.y_test[:VERIFICATION_SAMPLES],
        metrics={
            **float_twin.metrics,
            "qkeras": float(np.mean(classes(model, data) == data.y_test)),
            "sparsity": sparsity(weights),
        },
        provenance=provenance(data, seed, run.epochs),
    )
    write({"": trained, FLOAT_DIR: float_twin}, directory)
    return trained


class _Run:
    """One training: the spec, the data and the schedule, the same for the model and its twin."""

    def __init__(self, spec: ModelSpec, data: Dataset, epochs: int, progress: bool) -> None:
        self.spec, self.data, self.epochs, self.progress = spec, data, epochs, progress
        self.steps_per_epoch = -(-len(data.x_train) // spec.train.batch_size)
        self.frozen_epochs = spec.train.frozen_epochs * epochs // spec.train.epochs

    def fit(self, build: Callable[[ModelSpec, Wrap], Any], label: str) -> Any:
        """Build, train and prune a model; return it without the pruning wrappers."""
        seeded(self.spec.train.seed)
        model = build(self.spec, self._pruned)
        optimizer = cosine_adam(self.spec.train.learning_rate, self.epochs * self.steps_per_epoch)
        with epoch_bar(f"{self.spec.name} {label}", self.epochs, self.progress) as advance:
            callbacks = [load_pruning().UpdatePruningStep(), advance]
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


def seeded(seed: int) -> None:
    """Forget all models, and make what comes next the same each time: random numbers and the order of sums."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def cosine_adam(learning_rate: float, steps: int) -> Any:
    """Return Adam with a learning rate that falls to zero over so many steps."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))


@contextmanager
def epoch_bar(title: str, epochs: int, progress: bool) -> Iterator[Any]:
    """Show a bar of epochs on stderr, if `progress` and that is a terminal; gives the callback that moves it."""
    with tqdm(total=epochs, desc=title, unit="epoch", disable=not (progress and sys.stderr.isatty())) as bar:

        def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items()})
            bar.update()

        yield keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


def checked_epochs(spec: ModelSpec | FloatSpec, epochs: int | None) -> int:
    """Return how many epochs to train: those asked for, else those of the spec.

    Raises:
        SpecError: less than 1 is asked for.
    """
    if epochs is not None and epochs < 1:
        raise SpecError(f"epochs is {epochs}", model=spec.name, remedy="expected at least 1")
    return epochs or spec.train.epochs


def check_inputs(name: str, shape: tuple[int, ...], data: Dataset) -> None:
    """Raise DataError unless samples have the shape that the model `name` takes."""
    if data.x_train.shape[1:] != shape:
        raise DataError(f"inputs of '{data.name}' have shape {data.x_train.shape[1:]}, not {shape}", model=name)


def _check_classes(spec: ModelSpec, data: Dataset) -> None:
    if (units := getattr(spec.layers[-1], "units", len(data.class_names))) != len(data.class_names):
        raise DataError(
            f"{units} units in the last layer, but '{data.name}' has {len(data.class_names)} classes", model=spec.name
        )
