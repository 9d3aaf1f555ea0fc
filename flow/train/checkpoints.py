"""Checkpoints: a training that was interrupted goes on behind its last whole epoch, and ends in the same weights.

After each epoch the weights (with masks and steps of pruning) and the optimizer's variables are written to a file that
appears whole or not at all. Its key says what is trained on what; another training does not take it. What is drawn at
random is the order of samples alone. To go on, the epochs that are done are run again without computing anything: that
draws their orders, so the next epoch has the order that it would have had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow.data.datasets import Dataset
from flow.errors import InputError
from flow.runs import digest, read_npz, write_npz
from flow.train import load_tensorflow

keras: Any = load_tensorflow().keras

DIRECTORY = ".training"
"""Below the directory of the trained model, until it is written."""


def training_key(spec: Any, epochs: int, data: Dataset, versions: Any) -> str:
    """Return what a training is made of: spec, number of epochs, training split and versions of packages."""
    arrays = [hashlib.sha256(array.tobytes()).hexdigest() for array in (data.x_train, data.y_train)]
    return digest(repr(spec), epochs, arrays, versions)


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

    def save(self, model: Any, epochs: int) -> None:
        """Write a model and its optimizer after so many epochs.

        Raises:
            OutputError: the file cannot be written.
        """
        arrays = {f"weight/{i}": array for i, array in enumerate(model.get_weights())}
        arrays |= {f"optimizer/{i}": variable.numpy() for i, variable in enumerate(model.optimizer.variables)}
        write_npz(self.path, {"key": np.array(self.key), "epochs": np.array(epochs), **arrays})

    def restore(self, model: Any) -> None:
        """Put a model and its optimizer where they stood."""
        kept = read_npz(self.path)
        model.set_weights([kept[f"weight/{i}"] for i in range(len(model.get_weights()))])
        model.optimizer.build(model.trainable_variables)
        for i, variable in enumerate(model.optimizer.variables):
            variable.assign(kept[f"optimizer/{i}"])


class GoOn(keras.callbacks.Callback):  # type: ignore[misc]
    """Passes over the epochs that are done, restores the checkpoint, and saves after each epoch that follows."""

    def __init__(self, checkpoint: Checkpoint, done: int) -> None:
        super().__init__()
        self.checkpoint, self.done = checkpoint, done

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch < self.done:
            self.model.train_function = _pass_over
        elif epoch == self.done > 0:
            self.checkpoint.restore(self.model)
            self.model.train_function = None
            self.model.make_train_function()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch >= self.done:
            self.checkpoint.save(self.model, epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        self.model.train_function = None


def _pass_over(batches: Iterator[Any]) -> dict[str, float]:
    """Take a batch and compute nothing."""
    next(batches)
    return {"loss": 0.0}
