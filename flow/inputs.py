"""Inputs of a build: read, checked, and brought onto the input port's grid, with what that changed counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, UnsupportedError
from flow.fixed import Codes, FixedFormat, Overflow, Rounding, exact_codes, parse_cpp, quantize, to_values
from flow.graph import Op, Shape

MAX_INPUT_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Inputs as values.

    Attributes:
        values: (samples, *shape), finite.
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
        codes: (samples, *shape) int64 of the port's format.
        labels: (samples,) int64, or None.
        source: where they come from.
        rounded, clipped: how many values changed by rounding, and how many by clamping.
    """

    codes: Codes
    labels: NDArray[np.int64] | None
    source: str
    rounded: int
    clipped: int


def read_samples(inputs: Path, labels: Path | None, shape: Shape) -> Samples:
    """Read `.npy` files.

    Raises:
        DataError: missing, damaged, of another shape, not numbers, not finite; labels of another length or kind.
    """
    values = _array(inputs)
    if values.dtype.kind not in "fiub":
        raise DataError(f"{inputs}: holds {values.dtype}, not numbers")
    if values.shape[1:] != shape or values.ndim != len(shape) + 1:
        raise DataError(f"{inputs}: has shape {values.shape}; the model takes (samples, {', '.join(map(str, shape))})")
    if not len(values):
        raise DataError(f"{inputs}: holds no samples")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{inputs}: {np.count_nonzero(~np.isfinite(values))} values are NaN or infinite")
    return Samples(values=values, labels=None if labels is None else _labels(labels, len(values)), source=inputs.name)


def _labels(path: Path, samples: int) -> NDArray[np.int64]:
    labels = _array(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels are {labels.dtype} of shape {labels.shape}; expected one integer a sample")
    if len(labels) != samples:
        raise DataError(f"{path}: {len(labels)} labels for {samples} samples")
    return labels.astype(np.int64)


def _array(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:  # np.load leaves a damaged archive open
            array = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # NumPy reports damage, pickles and other formats in many ways
        raise DataError(f"{path}: not a readable .npy file ({error})") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: an .npz archive; give one .npy file")
    return array


def derive_format(values: NDArray[np.floating[Any]]) -> FixedFormat:
    """Return a port format from data: the finest step that occurs and the largest magnitude, at most 16 bits.

    Range comes first: where 16 bits do not hold both, fraction bits are dropped and values will be rounded.
    """
    finite = values.astype(np.float64)
    low, high = float(finite.min()), float(finite.max())
    signed = low < 0
    try:
        _, exact = exact_codes(finite)
        if exact.width <= MAX_INPUT_BITS:
            return exact
    except UnsupportedError:  # more bits than codes have
        pass
    int_bits = int(np.frexp(max(high, -low))[1])
    return FixedFormat(signed, int_bits, MAX_INPUT_BITS - signed - int_bits)


def parse_format(text: str) -> FixedFormat:
    """Read an `--input-format`: "ufixed<8,0>" or "fixed<16,6>", with the vendor's meaning (integer bits with sign).

    Raises:
        DataError: it is neither.
    """
    try:
        fmt, _, _ = parse_cpp(text if text.startswith("ap_") else f"ap_{text}")
    except ValueError:
        raise DataError(f"input format {text!r} is not like 'ufixed<8,0>' or 'fixed<16,6>'") from None
    return fmt


def to_port(samples: Samples, op: Op) -> PortInputs:
    """Bring values onto the port's grid: rounded half to even and clamped, as the model's input quantizer does."""
    codes = quantize(samples.values, op.format, Rounding.RND_CONV, Overflow.SAT)
    values = to_values(codes, op.format)
    beyond = (samples.values > op.format.max_code * op.format.step) | (
        samples.values < op.format.min_code * op.format.step
    )
    clipped = int(np.count_nonzero(beyond & (values != samples.values)))
    changed = int(np.count_nonzero(values != samples.values))
    return PortInputs(
        codes=codes, labels=samples.labels, source=samples.source, rounded=changed - clipped, clipped=clipped
    )


def no_inputs(op: Op) -> PortInputs:
    """Return an empty set of inputs, for a build on adversarial inputs alone."""
    codes = np.zeros((0, *op.shape), np.int64)
    return PortInputs(codes=codes, labels=None, source="none were given", rounded=0, clipped=0)
