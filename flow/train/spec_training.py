"""The tables of a spec that say how a net learns: heads, augmentation, pruning, a teacher, epochs.

Docs of every key are in models/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from flow.errors import SpecError, shown
from flow.toml_table import Table
from flow.train.patterns import ALLOCATIONS, WEIGHTS, counts_itself

MAX_EPOCHS = 9999
MAX_TEMPERATURE = 100
MAX_LUTS = 10**9
CLASSIFICATION, REGRESSION, RECONSTRUCTION = TASKS = ("classification", "regression", "reconstruction")
LOSSES = ("mean_squared_error", "mean_absolute_error", "huber")
"""Of targets; that of classes is the cross entropy."""
BALANCED = "balanced"
AUGMENTATIONS = (
    *("RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
    *("GaussianNoise", "GaussianDropout"),
)
"""Layers of Keras that change samples in training, and nothing at inference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """An output of a net, and what it learns.

    Attributes:
        layer: whose output it is; of a net from a function the name of an output.
        labels: which labels of the data; empty for those that are called like the layer, or the only ones.
        task: "classification" (logits, one per class), "regression" (the targets) or "reconstruction" (the input).
        loss: of targets, one of `LOSSES`.
        weight: of its loss among those of all heads.
        class_weights: "balanced" if each class shall count as much as any other, else empty.
    """

    layer: str
    labels: str = ""
    task: str = CLASSIFICATION
    loss: str = LOSSES[0]
    weight: float = 1.0
    class_weights: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSpec:
    """A layer of Keras that changes samples in training: its class, one of `AUGMENTATIONS`, and its arguments."""

    layer: str
    arguments: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSpec:
    """How to prune: sparsity grows from 0 to each layer's own between two epochs, and is held from then on.

    Attributes:
        begin_epoch, end_epoch: between these.
        pattern: what goes together, see `flow.train.patterns`.
        allocate: "layer", or "cost": as many zeros in all, where they save most hardware.
        regrow: the fraction of what stays that is exchanged at each step.
        luts: in place of sparsities, what the model may take by the estimate of `flow.train.lut_cost`.
    """

    begin_epoch: int
    end_epoch: int
    pattern: str = WEIGHTS
    allocate: str = ALLOCATIONS[0]
    regrow: float = 0.0
    luts: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.begin_epoch < self.end_epoch:
            raise SpecError(f"begin_epoch {self.begin_epoch} is not before end_epoch {self.end_epoch}")
        if counts_itself(self.pattern) and self.allocate != ALLOCATIONS[0]:
            raise SpecError(f"pattern '{self.pattern}' allocates itself", remedy="leave 'allocate' out")
        if counts_itself(self.pattern) and self.luts is not None:
            what = f"pattern '{self.pattern}' says itself how many weights stay, and prune.luts a budget"
            raise SpecError(what, remedy="take one of them out")


@dataclass(frozen=True, slots=True)
class DistillSpec:
    """What a net learns beside its labels: what a teacher says of the same samples.

    Attributes:
        teacher: a Keras model (tf-keras); or its file, the directory of a trained model, or the name of one.
        temperature: logits of both are divided by it, in outputs that classify.
        weight: of the teacher in the loss; that of the labels is the rest to 1.
        hidden: layer of the net -> the the layer of the teacher that it should tell samples apart as.
        hidden_weight: of each such pair in the loss, beside labels and teacher.
    """

    teacher: Any = field(repr=False)
    _: KW_ONLY
    temperature: float = 2.0
    weight: float = 0.5
    hidden: Mapping[str, str] = field(default_factory=dict)
    hidden_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= MAX_TEMPERATURE:
            what = f"distill.temperature is {shown(self.temperature)}"
            raise SpecError(what, remedy=f"expected a number above 0, {MAX_TEMPERATURE} at most")
        if not 0 < self.weight <= 1:
            raise SpecError(f"distill.weight is {shown(self.weight)}", remedy="expected a number above 0, 1 at most")
        if not 0 < self.hidden_weight < math.inf:
            raise SpecError(f"distill.hidden_weight is {shown(self.hidden_weight)}", remedy="expected a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatTrainSpec:
    """How to train: Adam with a cosine learning rate.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples per step.
        learning_rate: at the first step; it falls to zero at the last one.
        seed: of the weights, the shuffling, the split and the calibration samples.
        validation: the fraction of the training split that is held out, to be measured on after each epoch, where the
            data has no validation split of its own.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    validation: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec(FloatTrainSpec):
    """How to train a quantized model; `frozen_epochs` last ones use batch normalization's moving statistics."""

    frozen_epochs: int

    def __post_init__(self) -> None:
        if self.frozen_epochs >= self.epochs:
            raise SpecError(f"train.frozen_epochs {self.frozen_epochs} must be less than train.epochs")


# -- reading


def read_head(table: Table) -> HeadSpec:
    """Read one of `[[heads]]`."""
    given: dict[str, Any] = {"layer": table.text("layer")}
    accepted = {"labels": (), "task": TASKS, "loss": LOSSES, "class_weights": (BALANCED,)}
    given |= {key: table.text(key, values) for key, values in accepted.items() if table.has(key)}
    if table.has("weight"):
        given["weight"] = table.number("weight", 0.0, 1e9)
    classifies = given.get("task", CLASSIFICATION) == CLASSIFICATION
    unfit = "loss" if classifies else "class_weights"
    if unfit in given:
        task = given.get("task", CLASSIFICATION)
        raise SpecError(f"key '{table.key(unfit)}' does not go with task '{task}'", remedy="leave it out")
    table.close()
    return HeadSpec(**given)


def read_augmentation(table: Table) -> AugmentSpec:
    """Read one of `[[augment]]`."""
    layer = table.text("layer", AUGMENTATIONS)
    arguments = {name: value for name, value in table.data.items() if name != "layer"}
    return AugmentSpec(layer=layer, arguments=tuple(arguments.items()))


def read_prune(table: Table) -> PruneSpec:
    """Read `[prune]`."""
    begin, end = table.integer("begin_epoch", 0, MAX_EPOCHS), table.integer("end_epoch", 1, MAX_EPOCHS)
    further: dict[str, Any] = {"pattern": table.text("pattern")} if table.has("pattern") else {}
    if table.has("allocate"):
        further["allocate"] = table.text("allocate", ALLOCATIONS)
    if table.has("regrow"):
        further["regrow"] = table.number("regrow", 0.0, 0.9)
    if table.has("luts"):
        further["luts"] = table.integer("luts", 1, MAX_LUTS)
    table.close()
    return PruneSpec(begin_epoch=begin, end_epoch=end, **further)


def read_distill(table: Table, directory: Path) -> DistillSpec:
    """Read `[distill]`: the teacher, a path beside the spec or the name of a model, and how it is learned from."""
    named = table.text("teacher")
    beside = directory / named
    numbers = ("temperature", "weight", "hidden_weight")
    given: dict[str, Any] = {key: table.number(key, 0.0, 1e9) for key in numbers if table.has(key)}
    if table.has("hidden"):
        layers = table.table("hidden")
        given["hidden"] = {name: layers.text(name) for name in layers.data}
    table.close()
    return DistillSpec(beside if beside.exists() else named, **given)


def read_train(table: Table) -> TrainSpec:
    """Read `[train]` of a whole spec."""
    part = table.table("train")
    given = read_schedule(part)
    frozen = part.integer("frozen_epochs", 0, MAX_EPOCHS) if part.has("frozen_epochs") else 0
    train = TrainSpec(**given, frozen_epochs=frozen)
    part.close()
    return train


def read_schedule(train: Table) -> dict[str, Any]:
    """Return what all kinds of `[train]` hold; `train` is that table."""
    return {
        "epochs": train.integer("epochs", 1, MAX_EPOCHS),
        "batch_size": train.integer("batch_size", 1, 65536),
        "learning_rate": train.number("learning_rate", 1e-6, 1.0),
        "seed": train.integer("seed", 0, 2**31 - 1),
        **({"validation": train.number("validation", 0.0, 1.0)} if train.has("validation") else {}),
    }
