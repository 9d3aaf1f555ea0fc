"""Inputs of a build: read, checked, and brought onto the input port's grid, with what that changed counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.array_files import TABLE, read_arrays
from flow.errors import DataError, at, shown
from flow.ir.fixed import Codes, FixedFormat, exact_within, parse_cpp, quantize, to_values
from flow.ir.graph import IntGraph
from flow.ir.reference import port_dtype
from flow.ir.windows import Shape

MAX_INPUT_BITS = 16
Arrays = NDArray[Any] | Mapping[str, NDArray[Any]]
BLOCK = 1 << 22
"""Elements of inputs that are brought onto grids at a time."""
MOST_NAMED = 8
"""Arrays of a wrong archive that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Inputs as values.

    Attributes:
        values: (samples, *shape), finite; several inputs are flattened and joined in order.
        labels: (samples,) int64, or None.
        source: where they come from, for people.
    """

    values: NDArray[np.floating[Any]]
    labels: NDArray[np.int64] | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PortInputs:
    """Inputs as the port carries them.

    Attributes:
        codes: (samples, *port_shape) integers of the ports' formats.
        labels: (samples,) int64, or None.
        source: where they come from.
        rounded, clipped: how many values changed by rounding, and how many by clamping.
    """

    codes: Codes
    labels: NDArray[np.int64] | None
    source: str
    rounded: int
    clipped: int


def read_samples(inputs: Path, labels: Path | None, shapes: Mapping[str, Shape]) -> Samples:
    """Read the inputs of a model.

    Args:
        inputs: a file of one array, for several inputs an `.npz` with an array for each, by its name. A `.csv` has the
            values of a sample in a row, in the order of the array.
        labels: a file of class numbers.
        shapes: shape of each input by its name, in the model's order.

    Returns:
        Values of the only input, or of all inputs flattened and joined in order.

    Raises:
        DataError: missing, damaged, of another shape, not numbers, not finite; labels of another length or kind.
    """
    with at(file=inputs):
        arrays = read_arrays(inputs)
        if len(shapes) == 1:
            arrays = _only(arrays, *shapes.items(), table=inputs.suffix.lower() == TABLE)
        values = checked_values(arrays, shapes)
    return Samples(values=values, labels=None if labels is None else _labels(labels, len(values)), source=inputs.name)


def checked_values(arrays: Any, shapes: Mapping[str, Shape]) -> NDArray[np.float64]:
    """Return values of the only input, or of all inputs flattened and joined in order.

    Args:
        arrays: (samples, *shape); of several inputs a mapping by their names.
        shapes: shape of each input by its name, in the model's order.

    Raises:
        DataError: of another shape, not numbers, not finite, or not of these inputs.
    """
    if len(shapes) == 1 and not isinstance(arrays, Mapping):
        return _checked("", np.asarray(arrays), *shapes.values())
    if not isinstance(arrays, Mapping):
        remedy = "the model has several inputs: give an .npz (in Python a dict) with an array for each"
        raise DataError("a single array", remedy=remedy)
    if sorted(arrays) != sorted(shapes):
        names = ", ".join(map(repr, shapes))
        remedy = f"the model has the inputs {names}: give an .npz (in Python a dict) with an array for each"
        raise DataError(f"holds {', '.join(map(shown, sorted(arrays)[:MOST_NAMED])) or 'nothing'}", remedy=remedy)
    parts = [_checked(f"'{name}' ", np.asarray(arrays[name]), shape) for name, shape in shapes.items()]
    if len({len(part) for part in parts}) != 1:
        counts = ", ".join(str(len(part)) for part in parts)
        raise DataError(f"its arrays have {counts} samples", remedy="give as many")
    return parts[0] if len(parts) == 1 else np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _checked(name: str, values: NDArray[Any], shape: Shape) -> NDArray[np.float64]:
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name}holds {values.dtype}, not numbers")
    if values.shape[1:] != shape or values.ndim != len(shape) + 1:
        remedy = f"the model takes (samples, {', '.join(map(str, shape))})"
        raise DataError(f"{name}has shape {values.shape}", remedy=remedy)
    if not len(values):
        raise DataError(f"{name}holds no samples")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{name}{np.count_nonzero(~np.isfinite(values))} values are NaN or infinite")
    return values


def _labels(path: Path, samples: int) -> NDArray[np.int64]:
    with at(file=path):
        labels = _array(read_arrays(path))
    labels = labels[:, 0] if labels.shape[1:] == (1,) else labels
    if path.suffix.lower() == TABLE and labels.ndim == 1 and (labels == np.floor(labels)).all():
        labels = np.clip(labels, -1, 1 << 53).astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        what = f"labels are {labels.dtype} of shape {labels.shape}"
        raise DataError(what, file=path, remedy="expected one integer a sample")
    if len(labels) != samples:
        raise DataError(f"{len(labels)} labels for {samples} samples", file=path)
    return labels.astype(np.int64)


def _only(arrays: Arrays, port: tuple[str, Shape], *, table: bool) -> NDArray[Any]:
    """Return the array of a file for the only input; a row of a table is a sample."""
    array = _array(arrays, port[0])
    return array.reshape(len(array), *port[1]) if table and array.shape[1:] == (math.prod(port[1]),) else array


def _array(found: Arrays, name: str = "") -> NDArray[Any]:
    """Return the array of a file, or of an archive that holds one alone, or one of this name."""
    if isinstance(found, np.ndarray):
        return found
    if name not in found and len(found) != 1:
        remedy = f"give one array{f', or one that is called {name!r}' if name else ''}"
        raise DataError(f"an .npz archive of {len(found)} arrays", remedy=remedy)
    return found[name] if name in found else next(iter(found.values()))


def check_labels(labels: NDArray[np.int64], path: Path, graph: IntGraph) -> None:
    """Refuse labels that are no classes of a model: those are the numbers of its outputs, from 0.

    Raises:
        DataError: one is below 0, or there is no output of its number.
    """
    low, high, classes = int(labels.min()), int(labels.max()), math.prod(graph.output.shape)
    if low >= 0 and high < classes:
        return
    what = f"labels are {low} to {high}, but the classes of the model are 0 to {classes - 1}"
    remedy = "subtract 1 from each" if (low, high) == (1, classes) else "number the classes from 0, as its outputs"
    if classes == 1:
        what, remedy = "the model has one output, which tells no classes apart", "leave --labels out"
    raise DataError(what, file=path, remedy=remedy)


def derive_format(values: NDArray[np.floating[Any]]) -> FixedFormat:
    """Return a port format from data: the finest step that occurs and the largest magnitude, at most 16 bits.

    Range comes first: where 16 bits do not hold both, fraction bits are dropped and values will be rounded.
    """
    flat, distinct = values.reshape(-1), list[NDArray[np.float64]]()
    for start in range(0, len(flat), BLOCK):  # at most 2**16 values of a block lie on a grid that is fine enough
        distinct.append(np.unique(flat[start : start + BLOCK].astype(np.float64)))
        if exact_within(distinct[-1], MAX_INPUT_BITS) is None:
            break
    else:
        exact = exact_within(np.concatenate(distinct), MAX_INPUT_BITS)
        if exact is not None:
            return exact
    low, high = float(values.min()), float(values.max())
    signed, int_bits = low < 0, int(np.frexp(max(-low, high))[1])
    return FixedFormat(signed, int_bits, MAX_INPUT_BITS - signed - int_bits)


def parse_format(text: str) -> FixedFormat:
    """Read an `--input-format`: "ufixed<8,0>" or "fixed<16,6>", with the vendor's meaning (integer bits with sign).

    Raises:
        DataError: it is neither.
    """
    try:
        return parse_cpp(text if text.startswith("ap_") else f"ap_{text}").format
    except ValueError:
        raise DataError(f"input format {shown(text)} is not like 'ufixed<8,0>' or 'fixed<16,6>'") from None


def to_port(samples: Samples, graph: IntGraph) -> PortInputs:
    """Bring values onto the grids of the ports: rounded half to even and clamped, as the input quantizers do."""
    values = samples.values.reshape(len(samples.values), *graph.port_shape)
    codes = np.empty(values.shape, port_dtype(graph))
    rounded = clipped = 0
    for start in range(0, len(values), step := max(1, BLOCK // math.prod(graph.port_shape))):
        block, parts = slice(start, start + step), {}
        for name, part in graph.split_port(values[block]).items():
            op = graph[name]
            parts[name] = quantize(part, op.cast)
            changed = to_values(parts[name], op.format) != part
            beyond = (part > op.format.max_code * op.format.step) | (part < op.format.min_code * op.format.step)
            clipped += int(np.count_nonzero(beyond & changed))
            rounded += int(np.count_nonzero(changed & ~beyond))
        codes[block] = graph.join_port(parts)
    return PortInputs(codes=codes, labels=samples.labels, source=samples.source, rounded=rounded, clipped=clipped)


def no_inputs(graph: IntGraph) -> PortInputs:
    """Return an empty set of inputs, for a build on adversarial inputs alone."""
    codes = np.zeros((0, *graph.port_shape), port_dtype(graph))
    return PortInputs(codes=codes, labels=None, source="none were given", rounded=0, clipped=0)
