"""Affine forms: what a wire of a circuit is as a weighted sum of the inputs, exactly, for all inputs.

The bits of a wire are its form's value modulo two to their number. An adder or multiplier has a form only if no bit is
lost there: if the interval of the form, over all codes of the inputs' formats, fits its wire. Shifts may lose bits that
the adder behind them drops anyway. A wire without a form is nothing wrong: it is not linear, or is cut on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.proof.circuit import REGISTER, SHIFTS, Bits, Circuit, Operation, extended, shifted
from flow.errors import ToolFailedError
from flow.ir.fixed import FixedFormat

LARGEST = 1 << 62
"""Forms with larger weights or values are given up: they would not fit int64."""
LINEAR = ("$add", "$sub", "$neg", "$pos", "$mul", REGISTER, *SHIFTS)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """`sum(weights * inputs) + constant`, and the smallest and largest value that it has."""

    weights: NDArray[np.int64]
    constant: int
    low: int
    high: int

    def fits(self, width: int, signed: bool) -> bool:
        """Say whether a wire of that width, read so, holds every value."""
        least, most = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        return least <= self.low and self.high <= most


def direction(weights: NDArray[np.int64]) -> tuple[bytes, int] | None:
    """Return the direction of weights, or None if all are zero: two forms of one direction determine each other.

    Returns:
        The weights over their greatest common divisor, the first one positive, as bytes; and what these are multiplied
        by.
    """
    nonzero = weights[weights != 0]
    if not len(nonzero):
        return None
    factor = int(np.gcd.reduce(np.abs(nonzero))) * (1 if nonzero[0] > 0 else -1)
    return (weights // factor).tobytes(), factor


class Forms:
    """The forms of a circuit's operations.

    Args:
        circuit: the circuit.
        sources: net -> (operation that drives it, or -1 - element of the input, and which bit of it).
        formats: of each element of the input.

    Attributes:
        of_operation: place of an operation -> form, for those that have one.
    """

    def __init__(
        self, circuit: Circuit, sources: Mapping[int, tuple[int, int]], formats: Sequence[FixedFormat]
    ) -> None:
        self.sources = sources
        self.low = np.array([fmt.min_code for fmt in formats], np.int64)
        self.high = np.array([fmt.max_code for fmt in formats], np.int64)
        self.of_operation: dict[int, Form] = {}
        for place, operation in enumerate(circuit.operations):
            form = self._of(operation) if operation.kind in LINEAR else None
            width, shift = len(operation.y), operation.kind in SHIFTS
            if form is not None and (shift or form.fits(width, False) or form.fits(width, True)):
                self.of_operation[place] = form

    def _of(self, operation: Operation) -> Form | None:
        if operation.kind in (REGISTER, "$pos"):
            return self._read(operation.a, operation.signed) or self._read(operation.a, not operation.signed)
        if operation.kind in SHIFTS:
            return self._read(shifted(operation), operation.signed, len(operation.y))
        width = len(operation.y)
        a = self._read(extended(operation.a, max(width, len(operation.a)), operation.signed), operation.signed, width)
        if a is None or operation.kind == "$neg":
            return None if a is None else self._scaled(a, -1)
        b = self._read(extended(operation.b, max(width, len(operation.b)), operation.signed), operation.signed, width)
        if b is None:
            return None
        if operation.kind == "$mul":
            if a.weights.any() and b.weights.any():
                return None
            return self._scaled(a, b.constant) if a.weights.any() else self._scaled(b, a.constant)
        return self._sum(a, b if operation.kind == "$add" else self._scaled(b, -1))

    def _form(self, weights: NDArray[np.int64], constant: int) -> Form | None:
        positive, negative = np.maximum(weights, 0), np.minimum(weights, 0)
        reach = float(np.abs(weights.astype(np.float64)) @ np.maximum(np.abs(self.low), self.high).astype(np.float64))
        if reach + abs(constant) >= LARGEST:
            return None
        low = int(positive @ self.low + negative @ self.high) + constant
        return Form(weights, constant, low, int(positive @ self.high + negative @ self.low) + constant)

    def _sum(self, a: Form | None, b: Form | None) -> Form | None:
        return None if a is None or b is None else self._form(a.weights + b.weights, a.constant + b.constant)

    def _scaled(self, a: Form, factor: int) -> Form | None:
        if max(a.high, -a.low, 1) * abs(factor) >= LARGEST or int(np.abs(a.weights).max()) * abs(factor) >= LARGEST:
            return None
        return self._form(a.weights * factor, a.constant * factor)

    def _constant(self, value: int) -> Form:
        return Form(np.zeros(len(self.low), np.int64), value, value, value)

    def _read(self, bits: Bits, signed: bool, modulo: int | None = None) -> Form | None:
        """Return the form of an operand, or None if it has none; with `modulo`, only its lowest bits must be right."""
        if all(bit in (0, 1) for bit in bits):
            value = sum(bit << place for place, bit in enumerate(bits))
            return self._constant(value - (1 << len(bits)) if signed and bits[-1] else value)
        core = bits
        while core[-1] == 0 and len(core) > 1:
            core = core[:-1]
        as_signed = len(core) == len(bits) and signed
        if len(core) == len(bits):
            while len(core) > 1 and core[-1] == core[-2] and core[-1] not in (0, 1):
                core, as_signed = core[:-1], True
        if as_signed and not signed and len(core) < len(bits) and (modulo is None or len(bits) < modulo):
            return None  # copies of the sign, read as a magnitude
        return self._joined(core, as_signed, modulo is not None and len(core) >= modulo)

    def _joined(self, bits: Bits, signed: bool, loose: bool) -> Form | None:
        """Return the form of wires side by side; the highest is read as `signed` says, or need not fit if `loose`."""
        parts = runs(bits, self.sources)
        if len(parts) == 1:
            return self._slice(*parts[0][1:], signed, loose)
        total: Form | None = self._constant(0)
        for number, (offset, source, first, length) in enumerate(parts):
            last = number == len(parts) - 1
            form = self._slice(source, first, length, signed and last, loose and last)
            if form is None or total is None:
                return None
            total = self._sum(total, self._scaled(form, 1 << offset))
        return total

    def _slice(self, source: int | None, first: int, length: int, signed: bool, loose: bool) -> Form | None:
        if source is None:
            return self._constant(first - (1 << length) if signed and first >> length - 1 else first)
        if source < 0:
            weights = np.zeros(len(self.low), np.int64)
            weights[-1 - source] = 1
        form = self._form(weights, 0) if source < 0 else self.of_operation.get(source)
        if form is None:
            return None
        if first:
            if form.constant % (1 << first) or (form.weights % (1 << first)).any():
                return None
            form = self._form(form.weights >> first, form.constant >> first)
        return form if form is not None and (loose or form.fits(length, signed)) else None


def runs(bits: Bits, sources: Mapping[int, tuple[int, int]]) -> list[tuple[int, int | None, int, int]]:
    """Return an operand as runs of neighbouring bits of one source: (offset, source, first bit, length).

    A run of constants has source None and its value instead of the first bit.

    Raises:
        ToolFailedError: a net has no source.
    """
    joined: list[tuple[int, int | None, int, int]] = []
    for offset, bit in enumerate(bits):
        constant = bit in (0, 1)
        if not constant and bit not in sources:
            raise ToolFailedError(f"net {bit} is driven by nothing that is proved")
        source, index = (None, bit) if constant else sources[bit]
        start, before, first, length = joined[-1] if joined else (0, -1, 0, 0)
        if joined and constant and before is None:
            joined[-1] = (start, None, first | (bit << length), length + 1)
        elif joined and not constant and (before, first + length) == (source, index):
            joined[-1] = (start, source, first, length + 1)
        else:
            joined.append((offset, source, index, 1))
    return joined
