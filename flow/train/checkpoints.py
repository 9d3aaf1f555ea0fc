"""Checkpoints: a training that was interrupted goes on behind its last whole epoch, and ends in the same weights.

After each epoch the weights (pruned ones are zeros) and the optimizer's variables are written to a file that
appears whole or not at all, with the states of the generators that layers draw from. Its key says what is trained on
what; another training does not take it. The order of samples is drawn by Keras. To go on, the epochs that are done are
run again without computing anything: that draws their orders, so the next epoch has the order that it would have had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.data.datasets import Dataset, named
from flow.errors import InputError
from flow.runs import digest, read_npz, write_npz
from flow.train import load_tensorflow

keras: Any = load_tensorflow().keras

DIRECTORY = ".training"
"""Below the directory of the trained model, until it is written."""
HISTORY = "history/"


def training_key(spec: Any, epochs: int, data: Dataset, versions: Any, *made_of: str) -> str:
    """Return what a training is made of: spec, number of epochs, samples, versions of packages, and anything else."""
    splits = [
        (inputs, *(labels for _, labels in sorted(named(targets).items()))) for _, inputs, targets in data.splits()
    ]
    arrays = [hashlib.sha256(array.tobytes()).hexdigest() for split in splits for array in split]
    return digest(repr(spec), epochs, arrays, versions, list(made_of))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a training stood after its last whole epoch.

    Attributes:
        path: the file; it need not be there.
        key: what is trained.
    """

    path: Path
    key: str

    def epochs_done(self) -> int:
        """Return how many epochs are done; 0 if there is no file, it is damaged, or of another training."""
        try:
            kept = read_npz(self.path)
            return int(kept["epochs"]) if str(kept["key"]) == self.key else 0
        except (InputError, KeyError):
            return 0

    def history(self) -> dict[str, list[float]]:
        """Return what was measured after each epoch that is done."""
        if not self.epochs_done():
            return {}
        kept = read_npz(self.path)
        return {key.removeprefix(HISTORY): kept[key].tolist() for key in kept if key.startswith(HISTORY)}

    def save(self, model: Any, epochs: int, history: Mapping[str, Sequence[float]], randomness: Sequence[Any]) -> None:
        """Write a model and its optimizer after so many epochs, what was measured, and the states of generators.

        Raises:
            OutputError: the file cannot be written.
        """
        arrays = {f"weight/{i}": array for i, array in enumerate(model.get_weights())}
        arrays |= {f"optimizer/{i}": variable.numpy() for i, variable in enumerate(model.optimizer.variables)}
        arrays |= {f"random/{i}": generator.state.numpy() for i, generator in enumerate(randomness)}
        arrays |= {f"{HISTORY}{name}": np.array(values) for name, values in history.items()}
        write_npz(self.path, {"key": np.array(self.key), "epochs": np.array(epochs), **arrays})

    def restore(self, model: Any, randomness: Sequence[Any]) -> None:
        """Put a model, its optimizer and generators where they stood."""
        kept = read_npz(self.path)
        model.set_weights([kept[f"weight/{i}"] for i in range(len(model.get_weights()))])
        model.optimizer.build(model.trainable_variables)
        for i, variable in enumerate(model.optimizer.variables):
            variable.assign(kept[f"optimizer/{i}"])
        for i, generator in enumerate(randomness):
            generator.state.assign(kept[f"random/{i}"])


class GoOn(keras.callbacks.Callback):  # type: ignore[misc]
    """Passes over the epochs that are done, restores the checkpoint, and saves after each epoch that follows.

    Attributes:
        done: epochs that a training before this one has done.
        history: what was measured after each epoch so far.
    """

    def __init__(self, checkpoint: Checkpoint, randomness: Sequence[Any]) -> None:
        super().__init__()
        self.checkpoint, self.randomness = checkpoint, randomness
        self.done, self.history = checkpoint.epochs_done(), checkpoint.history()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch < self.done:
            self.model.train_function = _pass_over
        elif epoch == self.done > 0:
            self.checkpoint.restore(self.model, self.randomness)
            self.model.train_function = None
            self.model.make_train_function()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch >= self.done:
            for name, value in by_name(logs or {}).items():
                self.history.setdefault(name, []).append(value)
            self.checkpoint.save(self.model, epoch + 1, self.history, self.randomness)

    def on_train_end(self, logs: Any = None) -> None:
        self.model.train_function = None


def by_name(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return what Keras measured, as numbers."""
    return {name: float(value) for name, value in logs.items()}


def _pass_over(batches: Iterator[Any]) -> dict[str, float]:
    """Take a batch and compute nothing."""
    next(batches)
    return {"loss": 0.0}
