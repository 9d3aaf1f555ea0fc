"""What an op of a float graph computes, on real numbers: the float network, and the quantized one in exact floats.

Quantized numbers are `codes * 2**-frac_bits`. Sums and products of them in float32 or float64 are exact as long as
every partial sum, on the finest grid that occurs, stays below 2**24 or 2**53; `Reach` keeps count of that. So the same
function computes the float network, whose results steer the search, and the quantized one, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.frontend.base import Evaluate
from flow.ir import sums
from flow.ir.fixed import FixedFormat
from flow.ir.graph import BatchNorm, Gather, LeakyRelu, MatMul, MaxPool, Merge, Relu, Reshape, SumPool
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS
from flow.ir.steps import MERGE_FUNCTIONS
from flow.quantization.floats import FloatOp, Function

Floats = NDArray[Any]
"""float32 or float64 (samples, *shape)."""
Result = TypeVar("Result")

BATCH_VALUES = 1 << 20
"""A batch of samples has about so many values in its largest array."""


def evaluate(op: FloatOp, inputs: Sequence[Floats], functions: Evaluate, dtype: type[Any] = np.float32) -> Floats:
    """Return the output of an op for some samples, in `dtype`."""
    x = inputs[0].astype(dtype, copy=False)
    result = _result(op, [x, *(each.astype(dtype, copy=False) for each in inputs[1:])], functions, dtype)
    if op.divisor != 1:
        result = result / dtype(op.divisor)
    return result


def _result(op: FloatOp, inputs: list[Floats], functions: Evaluate, dtype: type[Any]) -> Floats:
    kind, x, whole = op.op, inputs[0], (slice(0, len(inputs[0])),)
    if isinstance(kind, MatMul):
        assert op.weight is not None and op.bias is not None
        result = sums.sums_of_products(kind, sums.factor_of(kind, op.weight.astype(dtype)), x, whole)
        result += op.bias.astype(dtype)
        return result
    if isinstance(kind, BatchNorm):
        assert op.weight is not None and op.bias is not None
        return np.asarray(x * op.weight.astype(dtype) + op.bias.astype(dtype))
    if isinstance(kind, LeakyRelu):
        assert op.weight is not None
        return np.where(x < 0, x * op.weight.astype(dtype), x)
    if isinstance(kind, Relu):
        return np.clip(x, 0, None if op.limit is None else dtype(op.limit))
    if isinstance(kind, Merge):
        return reduce(MERGE_FUNCTIONS[kind.function], inputs)
    if isinstance(kind, MaxPool):
        return sums.pooled(kind, x, np.maximum, -np.inf, whole, dtype)
    if isinstance(kind, SumPool):
        weight = kind.weight.values[..., np.newaxis]
        return np.asarray(sums.pooled(kind, x, np.add, 0, whole, dtype) * weight.astype(dtype))
    if isinstance(kind, Reshape):
        return x.reshape(len(x), *kind.shape)
    if isinstance(kind, Gather):
        flat = [each.reshape(len(x), -1) for each in inputs]
        return np.take(np.concatenate([*flat, np.zeros((len(x), 1), dtype)], axis=1), kind.index, axis=1)
    assert isinstance(kind, Function)
    values = functions(kind.functions, np.ascontiguousarray(x, np.float32).reshape(-1))
    return values.reshape(x.shape).astype(dtype, copy=False)


def batches(op: FloatOp, samples: int) -> Iterator[slice]:
    """Yield slices of samples so that the largest array of an op has about `BATCH_VALUES` values."""
    size = max(1, int(np.prod(op.op.shape)))
    if isinstance(op.op, MatMul):
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
        out[part] = evaluate(op, [each[part] for each in inputs], functions)

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
    """Return how far the result of an op with quantized weights and bias reaches, and how fine it is.

    Args:
        op: the op, its weights and bias quantized.
        inputs: the reach of each of its inputs; the result holds for every input within.
        weight_frac_bits, bias_frac_bits: fraction bits of weights and bias; 0 without.
    """
    x, kind = inputs[0], op.op
    if op.has_weights:
        assert op.weight is not None and op.bias is not None
        flat = np.abs(op.weight).reshape(-1, op.weight.shape[-1]).sum(axis=0)
        largest = float((flat * x.largest + np.abs(op.bias)).max())
        return Reach(max(x.frac_bits + weight_frac_bits, bias_frac_bits), largest)
    if isinstance(kind, Merge):
        finest = max(each.frac_bits for each in inputs)
        if kind.function == "multiply":
            largest = float(np.prod([each.largest for each in inputs]))
            return Reach(sum(each.frac_bits for each in inputs), largest)
        return Reach(finest, float(sum(each.largest for each in inputs)))
    if isinstance(kind, SumPool):
        largest = float((kind.window.counts(kind.shape[:-1]) * kind.weight.values).max() * x.largest)
        return Reach(x.frac_bits + kind.weight.format.frac_bits, largest)
    if isinstance(kind, LeakyRelu):
        assert op.weight is not None
        return Reach(x.frac_bits + max(0, weight_frac_bits), x.largest * max(1.0, float(np.abs(op.weight).max())))
    return Reach(max(each.frac_bits for each in inputs), max(each.largest for each in inputs))
