"""Data of a Python session: NumPy, pandas, `tf.data.Dataset`, or anything else that NumPy makes an array of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flow.data.inputs import Arrays
from flow.errors import DataError

Data: TypeAlias = Any
"""An array, a pandas frame, a batched `tf.data.Dataset`, or a mapping of arrays by the names of inputs or outputs."""


def as_arrays(data: Data, limit: int | None = None) -> Arrays:
    """Return arrays of numbers, at most so many samples of each.

    Raises:
        DataError: it is no array of numbers.
    """
    if is_dataset(data):
        data, _ = first_batches(data, limit)
    if isinstance(data, Mapping):
        return {str(name): _array(f"{name!r} ", each)[:limit] for name, each in data.items()}
    return _array("", data)[:limit]


def _array(name: str, data: Any) -> NDArray[Any]:
    kind = type(data).__name__
    try:
        array = np.asarray(data)
    except Exception as error:  # ragged lists, tensors of other devices
        raise DataError(
            f"{name}is no array ({kind})", remedy="give an array, the samples along its first axis"
        ) from error
    if array.dtype.kind not in "fiub" or not array.ndim:
        what = f"{name}is an array of {array.dtype}, not of numbers" if array.ndim else f"{name}is no array ({kind})"
        raise DataError(what, remedy="give an array of numbers, the samples along its first axis")
    return array


def is_dataset(data: Any) -> bool:
    """Say whether this is a `tf.data.Dataset`, without importing TensorFlow."""
    return hasattr(data, "as_numpy_iterator") and hasattr(data, "element_spec")


def first_batches(data: Any, limit: int | None) -> tuple[Any, Any]:
    """Return inputs, and labels or None, of the first batches of a `tf.data.Dataset`: `limit` samples or more.

    Raises:
        DataError: it has none.
    """
    batches, samples = list[Any](), 0
    try:
        for batch in data.as_numpy_iterator():
            batches.append(batch if isinstance(batch, tuple) else (batch, None))
            samples += len(_leaf(batches[-1][0]))
            if limit is not None and samples >= limit:
                break
        inputs, labels = zip(*(batch[:2] for batch in batches), strict=True)
        return _concatenated(inputs), None if labels[0] is None else _concatenated(labels)
    except Exception as error:  # a generator of the user fails in any way, elements nest as they like
        what = f"gives no batches of arrays ({type(error).__name__})" if batches else "holds no batch"
        remedy = "batch it, as for model.fit: arrays, mappings of arrays, or pairs of them with labels"
        raise DataError(what, remedy=remedy) from error


def _leaf(batch: Any) -> Any:
    return next(iter(batch.values())) if isinstance(batch, Mapping) else batch


def _concatenated(batches: Sequence[Any]) -> Any:
    if isinstance(batches[0], Mapping):
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return np.concatenate(batches)
