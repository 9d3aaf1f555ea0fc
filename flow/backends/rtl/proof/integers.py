"""Definitions computed on arrays, one number per sample."""

from __future__ import annotations

import numpy as np

from flow.backends.rtl.proof.definition import Output, bits_needed, result
from flow.ir.fixed import Codes
from flow.ir.graph import Op


class Integers:
    """The algebra of arrays, one number per sample: int64, or Python's integers where those are too narrow.

    Args:
        bits: how many bits hold every number, `bits_needed`.
    """

    def __init__(self, bits: int) -> None:
        self.dtype: type = np.int64 if bits <= 63 else object

    def const(self, value: int) -> Codes:
        return np.array(value, self.dtype)

    def add(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a + b)

    def sub(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a - b)

    def mul(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a * b)

    def shr(self, a: Codes, n: int) -> Codes:
        return np.asarray(a // self.const(1 << n))

    def quotient(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a // b)

    def low(self, a: Codes, n: int, signed: bool) -> Codes:
        low = a % self.const(1 << n)
        return np.asarray(np.where(low < 1 << n - 1, low, low - (1 << n)) if signed else low)

    def steps(self, a: Codes, starts: Codes, values: Codes) -> Codes:
        return np.asarray(values[np.searchsorted(starts, a.astype(np.int64), side="right") - 1])

    def less(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a < b)

    def same(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a == b)

    def both(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a & b)

    def either(self, a: Codes, b: Codes) -> Codes:
        return np.asarray(a | b)

    def choose(self, c: Codes, a: Codes, b: Codes) -> Codes:
        return np.asarray(np.where(c.astype(bool), a, b))


def evaluate(op: Op, output: Output, inputs: Codes) -> Codes:
    """Return one output's codes for samples of its position: int64 (samples, inputs) -> (samples,)."""
    algebra = Integers(bits_needed(op, output))
    values: list[Codes] = [inputs[:, read].astype(algebra.dtype) for read in output.reads]
    if output.weights is not None:
        total: Codes = np.full(len(inputs), output.constant, algebra.dtype)
        for value, weight in zip(values, output.weights, strict=True):
            total = total + value * algebra.const(weight)
        values = [total]
    return np.asarray(result(op, output, algebra, values)).astype(np.int64)
