"""Training as users call it: a spec, or a Keras model of their own with its arrays; a page says how it went."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow.data.datasets import Dataset
from flow.data.own import SplitSpec, of_arrays
from flow.data.session import Data, as_arrays, first_batches, is_dataset
from flow.errors import DataError, SpecError, at
from flow.files import writing
from flow.frontend.trained import TrainedModel
from flow.pipeline.live import KerasModel
from flow.progress import Announce, progress
from flow.report.page.training import History, render_training
from flow.runs import outside_runs
from flow.train.spec import DistillSpec, FloatSpec, ModelSpec, OwnSpec, Spec, load_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

PAGE = "training.html"
LIVE: Mapping[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3, "seed": 1}
"""How a model that has no spec is trained if nothing else is said."""


def train_model(
    model: Spec | str | Path | KerasModel,
    directory: Path | str,
    *,
    x: Data = None,
    y: Data = None,
    x_test: Data = None,
    y_test: Data = None,
    split: SplitSpec | None = None,
    dataset: Dataset | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    distill: DistillSpec | None = None,
    tensorboard: Path | str | None = None,
    announce: Announce | None = None,
) -> TrainedModel:
    """Train a model, also on from where an interrupted training of the same stood.

    Args:
        model: a spec, its name or file; or a Keras model (tf-keras), float or of QKeras layers, which is trained in
            place from the weights that it has.
        directory: where `trained.json`, `trained.npz`, `history.csv` and a page with the curves go; before the end
            it holds what an interrupted training goes on from.
        x, y: of a Keras model: inputs (samples, *shape), and labels: integers are classes, floats are targets; of
            several outputs a mapping by their names. Arrays, pandas frames or a batched `tf.data.Dataset`.
        x_test, y_test: the test split; without it `split` says which part of `x` it is.
        split: how `x` is split and scaled (default: a fifth is the test split, nothing is scaled).
        dataset: instead of the one that a spec names.
        epochs, batch_size, learning_rate, seed: instead of the spec's; of a Keras model 10, 32, 0.001 and 1.
        distill: a teacher, from which is learned beside the labels; instead of the spec's.
        tensorboard: directory of logs for TensorBoard.
        announce: called with what is done, in words; without it a bar is shown on a terminal and in a notebook.

    Returns:
        The model as data. A Keras model itself is trained too: `flow.build(model, x=x_test, y=y_test)`.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    directory = Path(directory)
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    wanted = {key: value for key, value in given.items() if value is not None}
    logs = None if tensorboard is None else Path(tensorboard)
    for place in filter(None, (directory, logs)):
        outside_runs(place)
    with ExitStack() as held:
        announce = announce or held.enter_context(progress())
        if isinstance(model, str | Path | ModelSpec | OwnSpec | FloatSpec):
            spec = load_spec(model) if isinstance(model, str | Path) else model
            if x is not None:
                raise SpecError("'x' goes with a Keras model; a spec names its data", remedy="leave it out")
            passes = wanted.pop("epochs", None)
            settings: Any = replace(spec.train, **wanted)
            spec = replace(spec, train=settings, distill=distill or spec.distill)
            from flow.train.fit import train

            trained = train(spec, directory, epochs=passes, dataset=dataset, tensorboard=logs, announce=announce)
        else:
            from flow.train.live import train_live

            samples = _samples(x, y, x_test, y_test, split or SplitSpec())
            trained = train_live(model, samples, directory, {**LIVE, **wanted}, distill, logs, announce)
    write_training_page(directory, trained)
    return trained


def load_history(directory: Path | str) -> History:
    """Return what was measured after each epoch of the training into a directory; in a notebook it shows its curves.

    Raises:
        DataError: there is no `history.csv`.
    """
    path = Path(directory) / "history.csv"
    try:
        return History(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError("no such file", file=path, remedy="train a model into the directory") from None


def write_training_page(directory: Path, trained: TrainedModel) -> Path:
    """Write the page of a training from its `history.csv`; return where it is.

    Raises:
        OutputError: it cannot be written.
    """
    history = load_history(directory).text
    with writing(directory / PAGE) as file:
        file.write(render_training(trained.name, history, trained.metrics, trained.provenance).encode())
    return directory / PAGE


def _samples(x: Data, y: Data, x_test: Data, y_test: Data, spec: SplitSpec) -> Dataset:
    """Return live arrays as a data set."""
    if is_dataset(x) and y is None:
        with at(argument="x"):
            x, y = first_batches(x, None)
    if is_dataset(x_test) and y_test is None:
        with at(argument="x_test"):
            x_test, y_test = first_batches(x_test, None)
    arrays: dict[str, Mapping[str, NDArray[np.generic]] | NDArray[np.generic]] = {}
    for name, each in {"x": x, "y": y, "x_test": x_test, "y_test": y_test}.items():
        if each is not None:
            with at(argument=name):
                arrays[name] = as_arrays(each)
        elif name in ("x", "y") or (name == "y_test" and x_test is not None):
            raise SpecError(f"'{name}' is not given", remedy="a Keras model is trained on arrays x and y")
    return of_arrays(arrays, spec)
