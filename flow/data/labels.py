"""Labels: what each output of a model should have said, and how well it did.

The type and the shape of an output's labels say what they are; (samples, *shape) is the output:

    integers (samples,) or (samples, 1)                   the class of each sample: the number of its largest element
    integers (samples, *shape[:-1])                       the class at each position, for example of each pixel
    0 and 1, of an output of one element at each position binary classes: whether it is above the threshold
    (samples, *shape) of 0 and 1, a single 1 in each row  classes, one-hot
    floats (samples, *shape)                              targets of a regression

Anything else is refused. A `.csv` has no types: there one column of whole numbers counts as integers, several columns
or fractions as floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.array_files import Table, read_content
from flow.errors import DataError, shown
from flow.ir.graph import IntGraph
from flow.ir.intervals import exact_result
from flow.ir.windows import Shape

MOST_NAMED = 8
"""Arrays of a wrong archive that a message names."""
ACCURACY, ERRORS = "accuracy", ("mean_absolute_error", "mean_squared_error")
"""What is measured of classes, a fraction, and of targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An output of a model, as labels are held against it.

    Attributes:
        name: of the layer whose output it is.
        shape: of one sample.
        softmax: the final softmax that the hardware leaves off; empty if it leaves none off.
    """

    name: str
    shape: Shape
    softmax: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """Labels as a file or a data set holds them, before it is known which outputs they are of.

    Attributes:
        arrays: name -> one entry a sample; "" is the name of an array that has none.
        source: the file, for messages.
        columns: names of the columns, if it is a table that has some.
        untyped: whether it is a table, in which every number is a float.
    """

    arrays: Mapping[str, NDArray[Any]]
    source: Path
    columns: tuple[str, ...] = ()
    untyped: bool = False

    def first(self, count: int) -> Given:
        """Return the labels of the first samples."""
        return replace(self, arrays={name: array[:count] for name, array in self.arrays.items()})

    def by_name(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays; of a table the columns of one name together."""
        if not self.columns:
            return self.arrays
        (table,) = self.arrays.values()
        own = {name: [at for at, other in enumerate(self.columns) if other == name] for name in self.columns}
        return {name: table[:, places] for name, places in own.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """What one output should have said.

    Attributes:
        output: name of the output.
        index: its place among the outputs of the model.
        values: of classes int64, (samples,) or one at each position; of a regression float64 (samples, *shape).
    """

    output: str
    index: int
    values: NDArray[Any]

    @property
    def are_classes(self) -> bool:
        """Whether they are classes, not targets."""
        return self.values.dtype.kind == "i"

    def said(self, scores: NDArray[Any], threshold: float) -> NDArray[np.int64]:
        """Return the classes that an output says, int64, like `values`.

        Args:
            scores: (samples, *shape), more samples than there are labels do not count. The largest element is the
                class, the first of equal ones.
            threshold: what a lone element must exceed to be class 1.
        """
        each = scores[: len(self.values)].reshape(*self.values.shape, -1)
        if each.shape[-1] == 1:
            return (each[..., 0] > threshold).astype(np.int64)
        return np.asarray(each.argmax(axis=-1), np.int64)

    def measure(self, scores: NDArray[Any], threshold: float, step: float = 1.0) -> dict[str, float]:
        """Return the accuracy of classes, or the mean absolute and mean squared error to targets.

        Args:
            scores: values of the output, or its codes of so large a `step`; the threshold is on the same scale.
        """
        if self.are_classes:
            return {ACCURACY: float(np.mean(self.said(scores, threshold) == self.values))}
        errors = scores[: len(self.values)] * step - self.values
        return dict(zip(ERRORS, (float(np.abs(errors).mean()), float(np.square(errors).mean())), strict=True))

    def confusion(self, scores: NDArray[Any], threshold: float, classes: int) -> list[list[int]]:
        """Return how often each class (row) was taken for each (column)."""
        pairs = self.values * classes + self.said(scores, threshold)
        return np.bincount(pairs.reshape(-1), minlength=classes**2).reshape(classes, classes).tolist()


def classes_of(shape: Shape, labels: NDArray[np.int64]) -> int:
    """Return how many classes an output tells apart: two if it has a lone element at each position of the labels."""
    return max(2, math.prod(shape) // max(1, math.prod(labels.shape[1:])))


def threshold(graph: IntGraph, name: str) -> float:
    """Return what a lone element must exceed to be class 1, as Keras' `binary_accuracy` takes it.

    It is 1/2 where the output is never negative, for example that of a sigmoid, and 0 where it can be, for example a
    logit.
    """
    op = graph[name]
    return 0.0 if exact_result(op, *(source.format for source in graph.sources(op))).low < 0 else 0.5


def read_labels(path: Path, samples: int) -> Given:
    """Read the labels of some samples.

    Raises:
        DataError: missing, damaged, not numbers, not finite, or of another length.
    """
    content = read_content(path)
    if isinstance(content, Table):
        given = Given(arrays={"": content.values}, source=path, columns=content.columns, untyped=True)
    else:
        given = Given(arrays=content if isinstance(content, Mapping) else {"": content}, source=path)
    for name, array in given.arrays.items():
        of = f"labels {name!r}" if name else "labels"
        if array.dtype.kind not in "fiub":
            raise DataError(f"{of} are {array.dtype} of shape {array.shape}", file=path, remedy="give numbers")
        if array.ndim == 0 or len(array) != samples:
            found = len(array) if array.ndim else "one number, not"
            raise DataError(f"{found} {of} for {samples} samples", file=path)
        if not np.isfinite(array).all():
            raise DataError(f"{np.count_nonzero(~np.isfinite(array))} {of} are NaN or infinite", file=path)
    return given


def told_apart(given: Given, heads: Sequence[Head]) -> tuple[Labels, ...]:
    """Return the labels of each output that has some, as classes or targets.

    Args:
        given: of one output an array of any name, of several an array for each by the name of the output.
        heads: all outputs, in the order of the model.

    Raises:
        DataError: an array is of no output, or what it holds is neither; the message says what is accepted.
    """
    names = [head.name for head in heads]
    arrays = given.by_name() if len(heads) > 1 else given.arrays
    if len(heads) == 1 and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    elif len(heads) == 1 and names[0] in arrays:
        arrays = {names[0]: arrays[names[0]]}
    elif len(heads) == 1:
        remedy = f"give one array, or one that is called {names[0]!r}"
        raise DataError(f"an .npz archive of {len(arrays)} arrays", file=given.source, remedy=remedy)
    unknown = [name for name in arrays if name not in names]
    if unknown or not arrays:
        held = ", ".join(map(shown, unknown[:MOST_NAMED])) if any(unknown) else "one array" if unknown else "nothing"
        remedy = f"the model has the outputs {', '.join(map(repr, names))}: give an .npz with an array for each"
        remedy += " that has labels"
        raise DataError(f"holds {held}", file=given.source, remedy=remedy)
    found = []
    for name, array in arrays.items():
        index = names.index(name)
        of = f"output {name!r}: labels" if len(heads) > 1 else "labels"
        values = _classes_or_targets(array, heads[index], given, of)
        found.append(Labels(output=name, index=index, values=values))
    return tuple(sorted(found, key=lambda labels: labels.index))


def _classes_or_targets(array: NDArray[Any], head: Head, given: Given, of: str) -> NDArray[Any]:
    """Return int64 classes or float64 targets, as the table above says."""
    shape, elements, kind = head.shape, math.prod(head.shape), array.dtype.kind
    are_integers = kind in "iu" or (kind == "b" and shape[-1] == 1)
    column = array.reshape(-1) if array.shape[1:] in ((), (1,)) else None
    if given.untyped and array.shape[1:] == (elements,):
        array = array.reshape(-1, *shape)
    elif column is not None and elements == 1:
        array = column.reshape(-1, *shape)
    if array.shape[1:] == shape:
        binary = bool(((array == 0) | (array == 1)).all())
        if binary and shape[-1] == 1:
            return array[..., 0].astype(np.int64) if elements > 1 else array.reshape(-1).astype(np.int64)
        if binary and (array.sum(axis=-1) == 1).all():
            return np.asarray(array.argmax(axis=-1), np.int64)
        if kind == "f":
            return _targets(array, head, given, of)
    if given.untyped and column is not None and (column == np.floor(column)).all():
        column, are_integers = np.clip(column, -1, 1 << 53).astype(np.int64), True
    if are_integers and column is not None:
        return _classes(column, elements, given, of)
    positions = shape[:-1]
    if are_integers and array.shape[1:] in (positions, (*positions, 1)):
        return _classes(array.reshape(-1, *positions), shape[-1], given, of)
    accepted = f"(samples, {', '.join(map(str, shape))})"
    remedy = f"classes are one integer a sample or one-hot {accepted}, targets are floats {accepted}"
    raise DataError(f"{of} are {array.dtype} of shape {array.shape}", file=given.source, remedy=remedy)


def _targets(array: NDArray[Any], head: Head, given: Given, of: str) -> NDArray[np.float64]:
    if head.softmax:
        what = f"{of} are targets, but the hardware leaves the final softmax ({head.softmax!r}) off"
        remedy = "keep it with --softmax 'ufixed<16,0>', or give the class of each sample"
        raise DataError(what, file=given.source, remedy=remedy)
    return array.astype(np.float64)


def _classes(labels: NDArray[Any], elements: int, given: Given, of: str) -> NDArray[np.int64]:
    """Return the labels if they are classes: those are the numbers of elements, from 0."""
    low, high, classes = int(labels.min()), int(labels.max()), max(2, elements)
    if low >= 0 and high < classes:
        return labels.astype(np.int64)
    what = f"{of} are {low} to {high}, but the classes of the model are 0 to {classes - 1}"
    remedy = "subtract 1 from each" if (low, high) == (1, classes) else "number the classes from 0, as its outputs"
    if elements == 1:
        remedy += ", or give the targets of a regression as floats"
    raise DataError(what, file=given.source, remedy=remedy)
