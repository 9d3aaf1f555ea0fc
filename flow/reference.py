"""The living definition: what an IntGraph means, computed on integer codes.

Numbers are integers throughout. They travel in float32 or float64 arrays where the intervals prove that every sum
stays below 2**24 or 2**53, because floating-point addition and multiplication of integers is exact there and BLAS is
fast; in int64 otherwise. The carrier never changes a result, and a test holds the three against each other.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flow.errors import DataError
from flow.fixed import Codes, FixedFormat, Overflow, Rounding, lowest_code, requantize
from flow.graph import (
    BatchNorm,
    Conv,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MatMul,
    MaxPool,
    Merge,
    Op,
    Pool,
    Relu,
    Requantize,
    Reshape,
    Shape,
    Softmax,
    SumPool,
)
from flow.intervals import accumulation, batchnorm_on_grid, common_grid, exact_result, leaky_grid
from flow.results import SimResult

Carrier = NDArray[Any]
Observer = Callable[[Op, Carrier, int], None]
"""Called with an op, its exact result before the cast, and the fraction bits of that result."""

CACHE_BYTES = 1 << 21
"""A batch is as large as lets its largest array stay about this size, so that it stays in a core's cache."""


def code_dtype(fmt: FixedFormat) -> type[np.signedinteger[Any]]:
    """Return the smallest signed integer type that holds every code of a format."""
    return np.int16 if fmt.width <= 15 else np.int32 if fmt.width <= 31 else np.int64


def run(graph: IntGraph, codes: Codes, observe: Observer | None = None) -> SimResult:
    """Compute every op's output codes.

    Args:
        graph: the graph.
        codes: integers (samples, *graph.port_shape), each within its input's format.
        observe: called for every op and batch with its exact result before the cast.

    Returns:
        Codes of every op, level "reference".

    Raises:
        DataError: wrong shape, or a code outside the input format.

    Example:
        >>> import numpy as np
        >>> from flow.fixed import FixedFormat
        >>> from flow.graph import Input, IntGraph, Relu
        >>> s4 = FixedFormat(True, 3, 0)
        >>> x = Input(name="x", inputs=(), shape=(2,), format=s4)
        >>> y = Relu(name="y", inputs=("x",), shape=(2,), format=s4)
        >>> run(IntGraph(name="g", ops=(x, y)), np.array([[-3, 5]])).codes["y"].tolist()
        [[0, 5]]
    """
    started = time.perf_counter()
    check_input(graph, codes)
    steps = [_step(op, graph) for op in graph.ops]
    out = {op.name: np.empty((len(codes), *op.shape), code_dtype(op.format)) for op in graph}

    batch, ports = _batch_size(graph), graph.split_port(codes)

    def run_batch(start: int) -> None:
        part = slice(start, start + batch)
        for op, result in _batch(steps, {name: each[part] for name, each in ports.items()}, observe):
            out[op.name][part] = result

    starts = range(0, len(codes), batch)
    if observe is not None:  # in order, one after another
        for start in starts:
            run_batch(start)
    else:  # NumPy computes outside the interpreter lock; two layers of threads would wait for each other
        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(run_batch, starts))
    return SimResult(level="reference", codes=out, run_s=time.perf_counter() - started)


def run_output(graph: IntGraph, codes: Codes) -> Codes:
    """Compute the codes of the graph's first output only: int64 (samples, *output shape)."""
    return run(graph, codes).codes[graph.output.name].astype(np.int64)


def check_input(graph: IntGraph, codes: Codes) -> None:
    """Raise DataError unless `codes` are integers of the port's shape and of each input's format."""
    if codes.shape[1:] != graph.port_shape:
        raise DataError(
            f"{graph.name}: input codes have shape {codes.shape[1:]} per sample, the model takes {graph.port_shape}"
        )
    for name, part in graph.split_port(codes).items():
        op = graph[name]
        assert isinstance(op, Input)
        if part.size and (int(part.min()) < op.lowest_code or int(part.max()) > op.format.max_code):
            raise DataError(
                f"{graph.name}: codes {part.min()}..{part.max()} of input '{name}' are outside the format {op.format} "
                f"({op.lowest_code}..{op.format.max_code})"
            )


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _batch_size(graph: IntGraph) -> int:
    windows = [op.weight[..., 0].size if isinstance(op, Conv) else 1 for op in graph.ops]
    largest = max(
        math.prod(op.shape[:-1]) * max(window, op.shape[-1]) for op, window in zip(graph.ops, windows, strict=True)
    )
    return max(16, min(1024, CACHE_BYTES // (4 * largest)))


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """An op with what does not depend on the data.

    Attributes:
        frac_bits, low, high: grid and range of the exact result.
        carrier: the type that is exact for every sum or product of the op.
        factor, addend: weights and bias, scale and offset, or slope, on that grid, in the carrier.
        shifts: by how much each input is shifted left to that grid.
    """

    op: Op
    frac_bits: int
    low: int
    high: int
    carrier: type[Any]
    factor: Carrier
    addend: Carrier
    shifts: tuple[int, ...] = ()


def _step(op: Op, graph: IntGraph) -> _Step:
    none = np.zeros(0)
    if isinstance(op, Input):
        return _Step(op, op.format.frac_bits, op.format.min_code, op.format.max_code, np.int64, none, none)
    formats = [source.format for source in graph.sources(op)]
    x = formats[0]
    frac_bits, low, high = exact_result(op, *formats)
    if isinstance(op, MatMul):
        acc = accumulation(op, x)
        carrier = _carrier(acc.bound)
        factor = (op.weight << acc.product_shift).astype(carrier)
        return _Step(op, frac_bits, low, high, carrier, factor, (op.bias << acc.bias_shift).astype(carrier))
    if isinstance(op, BatchNorm):
        scale, offset, _ = batchnorm_on_grid(op, x)
        largest = np.abs(scale) * max(x.max_code, -x.min_code) + np.abs(offset)
        carrier = _carrier(int(largest.max(initial=0)))
        return _Step(op, frac_bits, low, high, carrier, scale.astype(carrier), offset.astype(carrier))
    carrier = _carrier(max(high, -low))
    if isinstance(op, LeakyRelu):
        _, raised, slope = leaky_grid(op, x)
        return _Step(op, frac_bits, low, high, carrier, slope.astype(carrier), none, (raised,))
    if isinstance(op, Merge | Gather):
        finest, ends = common_grid(formats)
        carrier = _carrier(max(max(high, -low), *(max(end[1], -end[0]) for end in ends)))
        same = isinstance(op, Merge) and op.function == "multiply"
        shifts = tuple(0 if same else finest - fmt.frac_bits for fmt in formats)
        return _Step(op, frac_bits, low, high, carrier, none, none, shifts)
    if isinstance(op, SumPool):
        return _Step(op, frac_bits, low, high, carrier, op.weight[..., np.newaxis].astype(carrier), none)
    return _Step(op, frac_bits, low, high, carrier, none, none)


def _batch(steps: list[_Step], codes: dict[str, Carrier], observe: Observer | None) -> Iterator[tuple[Op, Carrier]]:
    values: dict[str, Carrier] = dict(codes)
    for step in steps:
        op = step.op
        if not isinstance(op, Input):
            values[op.name] = _apply(step, [values[name] for name in op.inputs], observe)
        yield op, values[op.name]


def _apply(step: _Step, inputs: list[Carrier], observe: Observer | None) -> Carrier:
    op, x = step.op, inputs[0]
    if isinstance(op, MaxPool):
        return _max_pool(op, x)
    if isinstance(op, Reshape):
        return x.reshape(len(x), *op.shape)
    if isinstance(op, Lookup):
        return op.values[np.searchsorted(op.starts, x, side="right") - 1]
    if isinstance(op, Softmax):
        return _softmax(op, x)
    exact = _exact(step, inputs)
    if observe is not None:
        observe(op, exact, step.frac_bits)
    return _cast(exact, step)


def _exact(step: _Step, inputs: list[Carrier]) -> Carrier:
    """Return the exact result of an op before its cast, an array of its own."""
    op, x = step.op, inputs[0]
    if isinstance(op, MatMul):
        return _matmul(op, step, x)
    if isinstance(op, Merge):
        return _merge(op, step, inputs)
    if isinstance(op, Gather):
        return _gather(op, step, inputs)
    if isinstance(op, BatchNorm):
        return np.asarray(x.astype(step.carrier) * step.factor + step.addend)
    if isinstance(op, SumPool):
        return _sum_pool(op, step, x)
    if isinstance(op, LeakyRelu):
        wide = x.astype(step.carrier)
        return np.asarray(np.where(wide < 0, wide * step.factor, wide * step.carrier(1 << step.shifts[0])))
    if isinstance(op, Relu):
        return np.asarray(np.maximum(x, 0) if op.limit is None else np.clip(x, 0, op.limit))
    assert isinstance(op, Requantize)
    return np.asarray(x.copy())


def _carrier(bound: int) -> type[Any]:
    """Return the fastest type that is exact up to twice `bound` (twice, so that halves are exact when rounding)."""
    return np.float32 if bound < 1 << 23 else np.float64 if bound < 1 << 52 else np.int64


def _matmul(op: MatMul, step: _Step, x: Carrier) -> Carrier:
    values = x.astype(step.carrier, copy=False)
    result = _conv(op, step, values) if isinstance(op, Conv) else values.reshape(-1, values.shape[-1]) @ step.factor
    result += step.addend
    return result.reshape(len(x), *op.shape)


def _conv(op: Conv, step: _Step, x: Carrier) -> Carrier:
    """Return the sums of products as rows: (samples * windows, filters)."""
    columns = _columns(op, x)
    filters = op.weight.shape[-1]
    if op.groups == 1:
        return np.asarray(columns.reshape(-1, op.weight[..., 0].size) @ step.factor.reshape(-1, filters))
    each = filters // op.groups
    # (groups, rows, window * channels of a group) @ (groups, window * channels of a group, filters of a group)
    split = columns.reshape(-1, math.prod(op.window), op.groups, op.weight.shape[-2]).transpose(2, 0, 1, 3)
    left = split.reshape(op.groups, -1, op.weight[..., 0].size)
    right = step.factor.reshape(-1, op.groups, each).transpose(1, 0, 2)
    return np.asarray((left @ right).transpose(1, 0, 2).reshape(-1, filters))


def _columns(op: Conv, x: Carrier) -> Carrier:
    """Return the windows of padded inputs: (samples, *windows, *window, channels)."""
    padded = _padded(x, op.padding, 0)
    columns = np.empty((len(x), *op.shape[:-1], *op.window, x.shape[-1]), padded.dtype)
    every = (slice(None),) * len(op.shape)
    for offset in np.ndindex(op.window):
        columns[every + offset] = _shifted(padded, offset, op.strides, op.shape)
    return columns


def _padded(x: Carrier, padding: Shape, fill: int) -> Carrier:
    if not any(padding):
        return x
    pads = list(zip(padding[::2], padding[1::2], strict=True))
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)


def _shifted(x: Carrier, offset: Shape, strides: Shape, shape: Shape) -> Carrier:
    """Return the pixel at `offset` of every window: (samples, *windows, channels), a view."""
    spans = tuple(
        slice(first, first + step * (count - 1) + 1, step)
        for first, step, count in zip(offset, strides, shape, strict=False)
    )
    return x[(slice(None),) + spans]  # noqa: RUF005 - a starred index needs Python 3.11


def _max_pool(op: MaxPool, x: Carrier) -> Carrier:
    padded = _padded(x, op.padding, op.format.min_code)  # which never wins against a real code
    return _reduced(op, padded, np.maximum)


def _sum_pool(op: SumPool, step: _Step, x: Carrier) -> Carrier:
    result = _reduced(op, _padded(x.astype(step.carrier), op.padding, 0), np.add)
    result *= step.factor
    return result


def _reduced(op: Pool, x: Carrier, function: Callable[..., Carrier]) -> Carrier:
    """Return the windows' pixels reduced by a NumPy function of two arguments."""
    first, *others = np.ndindex(op.window)
    result: Carrier = _shifted(x, first, op.strides, op.shape).copy()
    for offset in others:
        function(result, _shifted(x, offset, op.strides, op.shape), out=result)
    return result


MERGE_FUNCTIONS: Mapping[str, Callable[..., Carrier]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _merge(op: Merge, step: _Step, inputs: list[Carrier]) -> Carrier:
    raised = _on_common_grid(step, inputs)
    result = raised[0]
    for other in raised[1:]:
        result = MERGE_FUNCTIONS[op.function](result, other)
    return result


def _gather(op: Gather, step: _Step, inputs: list[Carrier]) -> Carrier:
    raised = [x.reshape(len(x), -1) for x in _on_common_grid(step, inputs)]
    zero = np.zeros((len(raised[0]), 1), step.carrier)
    return np.take(np.concatenate([*raised, zero], axis=1), op.index, axis=1)  # index -1 is the zero


def _on_common_grid(step: _Step, inputs: list[Carrier]) -> list[Carrier]:
    """Return copies of the inputs, shifted left to the op's grid."""
    return [x.astype(step.carrier) * step.carrier(1 << shift) for x, shift in zip(inputs, step.shifts, strict=True)]


def _softmax(op: Softmax, x: Carrier) -> Carrier:
    codes = x.astype(np.int64)
    weights = op.exponentials[codes.max(axis=-1, keepdims=True) - codes]
    total = weights.sum(axis=-1, keepdims=True)
    rounded = ((weights << (op.format.frac_bits + 1)) + total) // (2 * total)
    return np.asarray(np.minimum(rounded, op.format.max_code))


def _cast(exact: Carrier, step: _Step) -> Carrier:
    """Cast the exact result, which is overwritten, to the format of the op."""
    op, fmt = step.op, step.op.format
    shift = step.frac_bits - fmt.frac_bits
    if shift == 0 and op.divisor == 1 and lowest_code(fmt, op.overflow) <= step.low and step.high <= fmt.max_code:
        return exact
    if (
        exact.dtype.kind == "f"
        and shift >= 0
        and op.divisor == 1
        and (op.rounding, op.overflow) == (Rounding.RND_CONV, Overflow.SAT)
    ):
        exact *= exact.dtype.type(2.0**-shift)
        np.rint(exact, out=exact)  # ties to even
        return np.clip(exact, fmt.min_code, fmt.max_code, out=exact)
    return requantize(exact.astype(np.int64), step.frac_bits, fmt, op.rounding, op.overflow, op.divisor)
