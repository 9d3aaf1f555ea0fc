"""Inputs of a build: read, checked, and brought onto the input port's grid, with what that changed counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.array_files import TABLE, read_arrays
from flow.data.labels import MOST_NAMED, Given, Labels, read_labels
from flow.errors import DataError, at, counted, shown
from flow.ir.fixed import Codes, FixedFormat, exact_within, parse_cpp, quantize, to_values
from flow.ir.graph import IntGraph
from flow.ir.reference import port_dtype
from flow.ir.windows import Shape

MAX_INPUT_BITS = 16
Arrays = NDArray[Any] | Mapping[str, NDArray[Any]]
BLOCK = 1 << 22
"""Elements of inputs that are brought onto grids at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Inputs as values.

    Attributes:
        values: (samples, *shape), finite; several inputs are flattened and joined in order.
        labels: as they are given, or None.
        source: where they come from, for people.
    """

    values: NDArray[np.floating[Any]]
    labels: Given | None
    source: str

    def first(self, count: int) -> Samples:
        """Return the first samples."""
        labels = None if self.labels is None else self.labels.first(count)
        return replace(self, values=self.values[:count], labels=labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PortInputs:
    """Inputs as the port carries them.

    Attributes:
        codes: (samples, *port_shape) integers of the ports' formats.
        source: where they come from.
        rounded, clipped: how many values changed by rounding, and how many by clamping.
        labels: of each output that has some.
    """

    codes: Codes
    source: str
    rounded: int
    clipped: int
    labels: tuple[Labels, ...] = ()


def read_samples(inputs: Path, labels: Path | None, shapes: Mapping[str, Shape]) -> Samples:
    """Read the inputs of a model.

    Args:
        inputs: a file of one array, for several inputs an `.npz` with an array for each, by its name. A `.csv` has the
            values of a sample in a row, in the order of the array.
        labels: a file of labels, or None.
        shapes: shape of each input by its name, in the model's order.

    Returns:
        Values of the only input, or of all inputs flattened and joined in order.

    Raises:
        DataError: missing, damaged, of another shape, not numbers, not finite; labels of another length.
    """
    with at(file=inputs):
        arrays = read_arrays(inputs)
        if len(shapes) == 1:
            arrays = _only(arrays, *shapes.items(), table=inputs.suffix.lower() == TABLE)
        values = checked_values(arrays, shapes)
    given = None if labels is None else read_labels(labels, len(values))
    return Samples(values=values, labels=given, source=inputs.name)


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
        count = np.count_nonzero(~np.isfinite(values))
        raise DataError(f"{name}{counted(count, 'value is', 'values are')} NaN or infinite")
    return values


def _only(arrays: Arrays, port: tuple[str, Shape], *, table: bool) -> NDArray[Any]:
    """Return the array of a file for the only input; a row of a table is a sample."""
    array = _array(arrays, port[0])
    return array.reshape(len(array), *port[1]) if table and array.shape[1:] == (math.prod(port[1]),) else array


def _array(found: Arrays, name: str) -> NDArray[Any]:
    """Return the array of a file, or of an archive that holds one alone, or one of this name."""
    if isinstance(found, np.ndarray):
        return found
    if name not in found and len(found) != 1:
        remedy = f"give one array, or one that is called {name!r}"
        raise DataError(f"an .npz archive of {counted(len(found), 'array')}", remedy=remedy)
    return found[name] if name in found else next(iter(found.values()))


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
    return fitted_format(values, MAX_INPUT_BITS)


def fitted_format(values: NDArray[np.floating[Any]], bits: int) -> FixedFormat:
    """Return the format of so many bits whose range holds all values, and no range of half the size does.

    Example:
        >>> fitted_format(np.array([0.25, 3.5]), 8)
        FixedFormat(signed=False, int_bits=2, frac_bits=6)
    """
    low, high = float(values.min()), float(values.max())
    signed, int_bits = low < 0, int(np.frexp(max(-low, high))[1])
    return FixedFormat(signed, int_bits, bits - signed - int_bits)


def parse_format(text: str) -> FixedFormat:
    """Read an `--input-format`: "ufixed<8,0>" or "fixed<16,6>", with the vendor's meaning (integer bits with sign).

    Raises:
        DataError: it is neither.
    """
    try:
        return parse_cpp(text if text.startswith("ap_") else f"ap_{text}").format
    except ValueError:
        raise DataError(f"input format {shown(text)} is not like 'ufixed<8,0>' or 'fixed<16,6>'") from None


def to_port(samples: Samples, graph: IntGraph, labels: tuple[Labels, ...] = ()) -> PortInputs:
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
    return PortInputs(codes=codes, labels=labels, source=samples.source, rounded=rounded, clipped=clipped)


def no_inputs(graph: IntGraph) -> PortInputs:
    """Return an empty set of inputs, for a build on adversarial inputs alone."""
    codes = np.zeros((0, *graph.port_shape), port_dtype(graph))
    return PortInputs(codes=codes, source="none were given", rounded=0, clipped=0)
