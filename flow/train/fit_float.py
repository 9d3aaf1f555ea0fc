"""Training a float spec: the model as it is, nothing pruned and nothing quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flow.data.datasets import Dataset, load_dataset
from flow.frontend.trained import TrainedModel
from flow.train import load_tensorflow, quiet_warnings
from flow.train.artefacts import float_artefact, write
from flow.train.fit import check_inputs, checked_epochs, cosine_adam, epoch_bar, seeded
from flow.train.spec import FloatSpec
from flow.train.topologies import build_topology

_modules = load_tensorflow()
keras = _modules.keras


@quiet_warnings()
def train_float(
    spec: FloatSpec,
    directory: Path,
    *,
    epochs: int | None = None,
    dataset: Dataset | None = None,
    progress: bool = True,
) -> TrainedModel:
    """Train a float model, and write `trained.json` and `trained.npz`.

    The same spec, data, versions and machine give the same model, bit for bit.

    Args:
        spec: the model.
        directory: where to write; nothing is written before training has ended.
        epochs: instead of those of the spec.
        dataset: instead of the one that the spec names.
        progress: show a bar on stderr if that is a terminal.

    Returns:
        The float model as data, as written.

    Raises:
        SpecError: `epochs` is less than 1.
        DataError: the data set does not fit the model.
        ToolMissingError: the data set or a package is not to be had.
        OutputError: the directory cannot be written.

    Example:
        >>> train_float(load_spec("mnist_autoencoder"), Path("out")).metrics  # doctest: +SKIP
        {'reconstruction_mse': 0.0098}
    """
    epochs = checked_epochs(spec, epochs)
    data = dataset or load_dataset(spec.dataset)
    check_inputs(spec.name, spec.input_shape, data)
    model = _fit(spec, data, epochs, progress)
    trained = float_artefact(model, data, name=spec.name, task=spec.task, seed=spec.train.seed, epochs=epochs)
    write({"": trained}, directory)
    return trained


def _fit(spec: FloatSpec, data: Dataset, epochs: int, progress: bool) -> Any:
    seeded(spec.train.seed)
    model = build_topology(spec, len(data.class_names))
    steps_per_epoch = -(-len(data.x_train) // spec.train.batch_size)
    optimizer = cosine_adam(spec.train.learning_rate, epochs * steps_per_epoch)
    if spec.task == "classification":
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    else:
        model.compile(optimizer, keras.losses.MeanSquaredError())
    targets = data.y_train if spec.task == "classification" else data.x_train
    with epoch_bar(spec.name, epochs, progress) as advance:
        model.fit(
            data.x_train, targets, batch_size=spec.train.batch_size, epochs=epochs, callbacks=[advance], verbose=0
        )
    return model
