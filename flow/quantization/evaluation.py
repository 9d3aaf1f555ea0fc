"""What an op of a float graph computes, on real numbers: the float network, and the quantized one in exact floats.

Quantized numbers are `codes * 2**-frac_bits`. Sums and products of them in float32 or float64 are exact as long as
every partial sum, on the finest grid that occurs, stays below 2**24 or 2**53; `Reach` keeps count of that. So the same
function computes the float network, whose results steer the search, and the quantized one, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.frontend.base import Evaluate
from flow.ir import ops, sums
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Op
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS
from flow.ir.steps import MERGE_FUNCTIONS
from flow.quantization.floats import INTEGER_ONLY, FloatOp, Function

Floats = NDArray[Any]
"""float32 or float64 (samples, *shape)."""
Result = TypeVar("Result")

BATCH_VALUES = 1 << 20
"""A batch of samples has about so many values in its largest array."""


def evaluate(op: FloatOp, inputs: Sequence[Floats], functions: Evaluate, dtype: type[Any] = np.float32) -> Floats:
    """Return the output of an op for some samples, in `dtype`."""
    x = inputs[0].astype(dtype, copy=False)
    result = RESULTS[type(op.op)](_Call(op, functions, dtype), x, *(y.astype(dtype, copy=False) for y in inputs[1:]))
    if op.divisor != 1:
        result = result / dtype(op.divisor)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """An op that is evaluated, and how."""

    op: FloatOp
    functions: Evaluate
    dtype: type[Any]

    @property
    def kind(self) -> Any:
        """The op that it becomes: what it is."""
        return self.op.op

    def numbers(self) -> tuple[Floats, Floats]:
        """Return factor and addend."""
        factor, addend = self.op.numbers
        return factor.astype(self.dtype), addend.astype(self.dtype)


def _products(call: _Call, x: Floats) -> Floats:
    factor, addend = call.numbers()
    result = sums.sums_of_products(call.kind, sums.factor_of(call.kind, factor), x, (slice(0, len(x)),))
    result += addend
    return result


def _scaled(call: _Call, x: Floats) -> Floats:
    factor, addend = call.numbers()
    return np.asarray(x * factor + addend)


def _clipped(call: _Call, x: Floats) -> Floats:
    return np.clip(x, 0, None if call.op.limit is None else call.dtype(call.op.limit))


def _sloped(call: _Call, x: Floats) -> Floats:
    assert call.op.slope is not None
    return np.where(x < 0, x * call.op.slope.astype(call.dtype), x)


def _merged(call: _Call, *inputs: Floats) -> Floats:
    return reduce(MERGE_FUNCTIONS[call.kind.function], inputs)


def _largest(call: _Call, x: Floats) -> Floats:
    return sums.pooled(call.kind, x, np.maximum, -np.inf, (slice(0, len(x)),), call.dtype)


def _summed(call: _Call, x: Floats) -> Floats:
    weight = call.kind.weight.values[..., np.newaxis].astype(call.dtype)
    return np.asarray(sums.pooled(call.kind, x, np.add, 0, (slice(0, len(x)),), call.dtype) * weight)


def _reshaped(call: _Call, x: Floats) -> Floats:
    return x.reshape(len(x), *call.kind.shape)


def _gathered(call: _Call, *inputs: Floats) -> Floats:
    flat = [x.reshape(len(x), -1) for x in inputs]
    zero = np.zeros((len(flat[0]), 1), call.dtype)
    return np.asarray(np.take(np.concatenate([*flat, zero], axis=1), call.kind.index, axis=1))


def _of_function(call: _Call, x: Floats) -> Floats:
    table = call.op.table
    if table is not None:
        rows = np.clip(x, 0, len(table) - 1).astype(np.int64)
        return table.astype(call.dtype)[rows, np.arange(table.shape[-1])]
    values = call.functions(call.kind.functions, np.ascontiguousarray(x, np.float32).reshape(-1))
    return values.reshape(x.shape).astype(call.dtype, copy=False)


RESULTS: Mapping[type[Op], Callable[..., Floats]] = {
    ops.Dense: _products,
    ops.Conv: _products,
    ops.BatchNorm: _scaled,
    ops.Relu: _clipped,
    ops.LeakyRelu: _sloped,
    ops.Merge: _merged,
    ops.MaxPool: _largest,
    ops.SumPool: _summed,
    ops.Reshape: _reshaped,
    ops.Gather: _gathered,
    Function: _of_function,
}
"""What an op of a float graph computes, before what is left of an average divides it."""
NOT_EVALUATED = (ops.Input, *INTEGER_ONLY)
"""Ops whose values are given, and those that no float graph has."""


def batches(op: FloatOp, samples: int) -> Iterator[slice]:
    """Yield slices of samples so that the largest array of an op has about `BATCH_VALUES` values."""
    size = max(1, int(np.prod(op.op.shape)))
    if isinstance(op.op, ops.MatMul):
        size = max(size, size // op.op.weight.codes.shape[-1] * op.op.weight.codes[..., 0].size)
    step = max(1, min(BATCH_VALUES // size, -(-samples // (os.cpu_count() or 1))))
    for start in range(0, samples, step):
        yield slice(start, start + step)


def over_batches(op: FloatOp, samples: int, function: Callable[[slice], Result]) -> list[Result]:
    """Return what a function gives for each batch of samples, in order; batches run side by side."""
    parts = list(batches(op, samples))
    if isinstance(op.op, Function):  # TensorFlow has threads of its own
        return [function(part) for part in parts]
    with sums.one_thread_blas(), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(function, parts))


def evaluated(op: FloatOp, inputs: Sequence[Floats], functions: Evaluate) -> Floats:
    """Return the output of an op for all samples, float32 (samples, *shape)."""
    out = np.empty((len(inputs[0]), *op.op.shape), np.float32)

    def fill(part: slice) -> None:
        out[part] = evaluate(op, [x[part] for x in inputs], functions)

    over_batches(op, len(out), fill)
    return out


@dataclass(frozen=True, slots=True)
class Reach:
    """How fine and how large the values of a tensor can be: multiples of `2**-frac_bits`, at most `largest`."""

    frac_bits: int
    largest: float

    @classmethod
    def of(cls, fmt: FixedFormat) -> Reach:
        """Return that of all codes of a format."""
        return cls(fmt.frac_bits, float(np.ldexp(float(max(fmt.max_code, -fmt.min_code)), -fmt.frac_bits)))

    def carrier(self, name: str) -> type[Any]:
        """Return the float type that computes such values exactly, halves of a step included.

        Raises:
            UnsupportedError: none does.
        """
        bits = np.log2(max(self.largest, 1e-300)) + self.frac_bits + 1
        if bits < FLOAT32_BITS and abs(self.frac_bits) < 100:
            return np.float32
        if bits < FLOAT64_BITS:
            return np.float64
        raise UnsupportedError(
            f"its sums need {int(bits) + 2} bits, more than {FLOAT64_BITS}",
            module=name,
            remedy="use fewer bits, or inputs of one size",
        )


def reach_after(op: FloatOp, inputs: Sequence[Reach], weight_frac_bits: int, bias_frac_bits: int) -> Reach:
    """Return how far the result of an op goes for any inputs that go so far.

    Args:
        op: the op, with quantized numbers in it.
        inputs: of each tensor that it reads.
        weight_frac_bits: fraction bits of its factor or slope.
        bias_frac_bits: of its addend.
    """
    return REACHES[type(op.op)](op, inputs, weight_frac_bits, bias_frac_bits)


def _weighted_reach(op: FloatOp, inputs: Sequence[Reach], weight_frac_bits: int, bias_frac_bits: int) -> Reach:
    (factor, addend), (x,) = op.numbers, inputs
    flat = np.abs(factor).reshape(-1, factor.shape[-1]).sum(axis=0)
    largest = float((flat * x.largest + np.abs(addend)).max())
    return Reach(max(x.frac_bits + weight_frac_bits, bias_frac_bits), largest)


def _sloped_reach(op: FloatOp, inputs: Sequence[Reach], weight_frac_bits: int, bias_frac_bits: int) -> Reach:
    assert op.slope is not None
    (x,) = inputs
    return Reach(x.frac_bits + max(0, weight_frac_bits), x.largest * max(1.0, float(np.abs(op.slope).max())))


def _merged_reach(op: FloatOp, inputs: Sequence[Reach], weight_frac_bits: int, bias_frac_bits: int) -> Reach:
    assert isinstance(op.op, ops.Merge)
    if op.op.function == "multiply":
        return Reach(sum(x.frac_bits for x in inputs), float(np.prod([x.largest for x in inputs])))
    return Reach(max(x.frac_bits for x in inputs), float(sum(x.largest for x in inputs)))


def _summed_reach(op: FloatOp, inputs: Sequence[Reach], weight_frac_bits: int, bias_frac_bits: int) -> Reach:
    assert isinstance(op.op, ops.SumPool)
    (x,), weight = inputs, op.op.weight
    largest = float((op.op.window.counts(op.op.shape[:-1]) * weight.values).max() * x.largest)
    return Reach(x.frac_bits + weight.format.frac_bits, largest)


def _chosen_reach(op: FloatOp, inputs: Sequence[Reach], weight_frac_bits: int, bias_frac_bits: int) -> Reach:
    return Reach(max(x.frac_bits for x in inputs), max(x.largest for x in inputs))


REACHES: Mapping[type[Op], Callable[[FloatOp, Sequence[Reach], int, int], Reach]] = {
    ops.Dense: _weighted_reach,
    ops.Conv: _weighted_reach,
    ops.BatchNorm: _weighted_reach,
    ops.Relu: _chosen_reach,
    ops.LeakyRelu: _sloped_reach,
    ops.Merge: _merged_reach,
    ops.MaxPool: _chosen_reach,
    ops.SumPool: _summed_reach,
    ops.Reshape: _chosen_reach,
    ops.Gather: _chosen_reach,
}
"""How fine and how large the result of an op can be; a `Function` becomes a table, whose values are codes."""
