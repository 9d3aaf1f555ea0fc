"""What each output of a net learns: its labels, its loss, and how well it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset, Targets
from flow.data.own import ARRAYS
from flow.errors import DataError, SpecError, counted
from flow.train import load_tensorflow
from flow.train.spec import BALANCED, CLASSIFICATION, RECONSTRUCTION, REGRESSION, HeadSpec

keras: Any = load_tensorflow().keras

MEASURES: Mapping[str, str] = {CLASSIFICATION: "accuracy"}
ERROR = "mean_absolute_error"
"""What is measured of targets."""
SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """What an output learns.

    Attributes:
        name: of the output.
        head: as the spec says it.
        classes: their names; none for targets.
        train, valid, test: labels of each split; `valid` is None without one.
        weights: of each training sample, or None.
        softmax: whether the output is a softmax already, not logits.
    """

    name: str
    head: HeadSpec
    classes: tuple[str, ...]
    train: NDArray[Any]
    valid: NDArray[Any] | None
    test: NDArray[Any]
    weights: NDArray[np.float32] | None
    softmax: bool = False

    def loss(self) -> Any:
        """Return the loss, for `Model.compile`."""
        if self.head.task == CLASSIFICATION:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=not self.softmax)
        return keras.losses.get(self.head.loss)

    def measure(self) -> str:
        """Return what Keras calls that which is measured after each epoch."""
        return MEASURES.get(self.head.task, ERROR)

    def measured(self, outputs: NDArray[Any]) -> float:
        """Return the accuracy, or the mean absolute error, on the test split."""
        if self.head.task == CLASSIFICATION:
            return float(np.mean(np.argmax(outputs, axis=-1) == self.test))
        return float(np.mean(np.abs(outputs.astype(np.float64) - self.test)))

    def confusion(self, outputs: NDArray[Any]) -> list[list[int]]:
        """Return how many test samples of each class (row) are taken for each (column)."""
        said, count = np.argmax(outputs, axis=-1), outputs.shape[-1]
        pairs = (self.test * count + said).reshape(-1)
        return np.bincount(pairs, minlength=count**2).reshape(count, count).tolist()


def shaped(data: Dataset, shape: tuple[int, ...], model: str) -> dict[str, NDArray[np.float32] | None]:
    """Return the inputs of each split in the shape of a model: the same elements, row by row.

    Raises:
        DataError: a sample has another number of elements.
    """
    found = data.x_train.shape[1:]
    if found != shape and np.prod(found) != np.prod(shape):
        raise DataError(f"inputs of '{data.name}' have shape {found}, not {shape}", model=model)
    splits = {"train": data.x_train, "valid": data.x_valid, "test": data.x_test}
    return {name: None if x is None else x.reshape(-1, *shape) for name, x in splits.items()}


def goals(
    heads: Sequence[HeadSpec],
    data: Dataset,
    inputs: Mapping[str, NDArray[np.float32] | None],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    model: str,
    softmax: Sequence[str] = (),
) -> tuple[Goal, ...]:
    """Return what each output learns.

    Args:
        heads: one for each output.
        data: what is trained on.
        inputs: of each split, as `shaped` gives them.
        shapes: of one sample of each output, by its name.
        model: its name, for messages.
        softmax: outputs that are a softmax.

    Raises:
        SpecError: a head is no output.
        DataError: the labels do not fit the output.
    """
    by_output = {head.layer: head for head in heads}
    for name in by_output:
        if name not in shapes:
            outputs = ", ".join(shapes)
            raise SpecError(f"head '{name}' is no output", model=model, remedy=f"the net has {outputs}")
    for name in shapes:
        if name not in by_output:
            raise SpecError(f"output '{name}' has no head", model=model, remedy="add a [[heads]] for it")
    return tuple(_goal(by_output[name], data, inputs, shape, model, name in softmax) for name, shape in shapes.items())


def _goal(
    head: HeadSpec,
    data: Dataset,
    inputs: Mapping[str, NDArray[np.float32] | None],
    shape: tuple[int, ...],
    model: str,
    softmax: bool,
) -> Goal:
    splits: Mapping[str, Targets | None] = {"train": data.y_train, "valid": data.y_valid, "test": data.y_test}
    if head.task == RECONSTRUCTION:
        labels = {name: None if x is None else x.reshape(-1, *shape) for name, x in inputs.items()}
    else:
        name = _labels_of(head, data.y_train, model)
        labels = {split: y.get(name) if isinstance(y, Mapping) else y for split, y in splits.items()}
        classes = data.classes(name)
        if head.task == CLASSIFICATION:
            if not classes:
                what = f"labels of '{head.layer}' are targets"
                raise DataError(what, model=model, remedy="give its head the task 'regression'")
            for split, y in labels.items():
                if y is not None:
                    _hold_classes(y, shape, head, split, model)
            if shape[-1] < len(classes):
                where = "in the last layer" if isinstance(data.y_train, np.ndarray) else f"in layer '{head.layer}'"
                units, count = counted(shape[-1], "unit"), counted(len(classes), "class", "classes")
                what = f"{units} {where}, but '{data.name}' has {count}"
                remedy = f"give it a unit for each class; {_otherwise(data, REGRESSION)}"
                raise DataError(what, model=model, remedy=remedy)
            labels = {split: None if y is None else y.reshape(-1, *shape[:-1]) for split, y in labels.items()}
        else:
            labels = {
                split: None if y is None else _as_targets(y, shape, head, data, model) for split, y in labels.items()
            }
    train, test = labels["train"], labels["test"]
    assert train is not None and test is not None
    return Goal(
        name=head.layer,
        head=head,
        classes=() if head.task != CLASSIFICATION else data.classes(_labels_of(head, data.y_train, model)),
        train=train,
        valid=labels["valid"],
        test=test,
        weights=_balanced(train) if head.class_weights == BALANCED else None,
        softmax=softmax,
    )


def _labels_of(head: HeadSpec, labels: Targets, model: str) -> str:
    """Return the name of the labels of a head."""
    if not isinstance(labels, Mapping):
        return ""
    name = head.labels or head.layer
    if name not in labels:
        there = ", ".join(labels)
        raise DataError(f"head '{head.layer}' has no labels '{name}'", model=model, remedy=f"there are {there}")
    return name


def _hold_classes(labels: NDArray[Any], shape: tuple[int, ...], head: HeadSpec, split: str, model: str) -> None:
    """Raise a DataError if labels are not one class for each sample, or for each position of an output with some."""
    if math.prod(labels.shape[1:]) == math.prod(shape[:-1]):
        return
    what = f"labels of '{head.layer}' have shape {labels.shape} in the {SPLIT_NAMES[split]} split"
    one = f"one of {shape[:-1]} for each sample" if shape[:-1] else "one for each sample"
    remedy = f"give numbers of classes, {one}: of one-hot labels y.argmax(axis=-1)"
    raise DataError(what, model=model, remedy=remedy)


def _as_targets(
    labels: NDArray[Any], shape: tuple[int, ...], head: HeadSpec, data: Dataset, model: str
) -> NDArray[np.float32]:
    if labels[0].size != np.prod(shape):
        what = f"output '{head.layer}' has shape {shape}, but its targets {labels.shape[1:] or 'one number'}"
        raise DataError(what, model=model, remedy=f"give as many targets; {_otherwise(data, CLASSIFICATION)}")
    return labels.reshape(-1, *shape).astype(np.float32)


def _otherwise(data: Dataset, task: str) -> str:
    """Return how labels are said to be of another task."""
    if data.name != ARRAYS:
        return f"or its head the task '{task}'"
    kind, what = ("float", "targets") if task == REGRESSION else ("int", "classes")
    return f"or labels that are {what} as {kind}s: y.astype({kind!r})"


def _balanced(labels: NDArray[Any]) -> NDArray[np.float32]:
    """Return weights of samples with which each class counts as much as any other."""
    from sklearn.utils.class_weight import compute_sample_weight

    if labels.ndim > 1:
        raise SpecError("class_weights are for one class a sample, not one at each position")
    return np.asarray(compute_sample_weight("balanced", labels), np.float32)


def is_softmax(model: Any, output: str) -> bool:
    """Say whether an output comes out of a softmax."""
    layer = model.get_layer(output)
    if isinstance(layer, keras.Model):
        return is_softmax(layer, layer.output_names[0])
    activation = getattr(layer, "activation", None)
    return isinstance(layer, keras.layers.Softmax) or getattr(activation, "__name__", "") == "softmax"


def only_or_all(values: Sequence[Any]) -> Any:
    """Return the value of the only output, or a list of those of all, as Keras takes them."""
    return values[0] if len(values) == 1 else list(values)
