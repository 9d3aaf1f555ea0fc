"""The living definition: what an IntGraph means, computed on integer codes.

Numbers are integers throughout. They travel in float32 or float64 arrays where the intervals prove that every sum
stays below 2**24 or 2**53, because floating-point addition and multiplication of integers is exact there and BLAS is
fast; in int64 otherwise. The carrier never changes a result, and a test holds the three against each other.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flow.errors import DataError
from flow.fixed import Codes, FixedFormat, Overflow, Rounding, requantize
from flow.graph import BatchNorm, Conv2D, Flatten, Input, IntGraph, MatMul, MaxPool2D, Op, Relu, Requantize
from flow.intervals import accumulation, batchnorm_on_grid, exact_result
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
        codes: integers (samples, *input shape) of the input's format.
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

    batch = _batch_size(graph)

    def run_batch(start: int) -> None:
        part = slice(start, start + batch)
        for op, result in _batch(steps, codes[part], observe):
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
    """Compute the output codes only: int64 (samples, *output shape)."""
    return run(graph, codes).codes[graph.output.name].astype(np.int64)


def check_input(graph: IntGraph, codes: Codes) -> None:
    """Raise DataError unless `codes` are integers of the input's shape and format."""
    op = graph.input
    if codes.shape[1:] != op.shape:
        raise DataError(
            f"{graph.name}: input codes have shape {codes.shape[1:]} per sample, the model takes {op.shape}"
        )
    if codes.size and (int(codes.min()) < op.lowest_code or int(codes.max()) > op.format.max_code):
        raise DataError(
            f"{graph.name}: input codes {codes.min()}..{codes.max()} are outside the format {op.format} "
            f"({op.lowest_code}..{op.format.max_code})"
        )


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _batch_size(graph: IntGraph) -> int:
    windows = [op.weight[..., 0].size if isinstance(op, Conv2D) else 1 for op in graph.ops]
    largest = max(
        math.prod(op.shape[:-1]) * max(window, op.shape[-1]) for op, window in zip(graph.ops, windows, strict=True)
    )
    return max(16, min(1024, CACHE_BYTES // (4 * largest)))


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """An op with what does not depend on the data.

    Attributes:
        frac_bits, low, high: grid and range of the exact result.
        factor, addend: weights and bias, or scale and offset, on that grid, in the carrier that is exact for them.
    """

    op: Op
    frac_bits: int
    low: int
    high: int
    factor: Carrier
    addend: Carrier


def _step(op: Op, graph: IntGraph) -> _Step:
    none = np.zeros(0)
    if isinstance(op, Input):
        return _Step(op, op.format.frac_bits, op.format.min_code, op.format.max_code, none, none)
    x = graph[op.inputs[0]].format
    frac_bits, low, high = exact_result(op, x)
    if isinstance(op, MatMul):
        acc = accumulation(op, x)
        carrier = _carrier(acc.bound)
        factor = (op.weight << acc.product_shift).reshape(-1, op.weight.shape[-1]).astype(carrier)
        return _Step(op, frac_bits, low, high, factor, (op.bias << acc.bias_shift).astype(carrier))
    if isinstance(op, BatchNorm):
        scale, offset, _ = batchnorm_on_grid(op, x)
        largest = np.abs(scale) * max(x.max_code, -x.min_code) + np.abs(offset)
        carrier = _carrier(int(largest.max(initial=0)))
        return _Step(op, frac_bits, low, high, scale.astype(carrier), offset.astype(carrier))
    return _Step(op, frac_bits, low, high, none, none)


def _batch(steps: list[_Step], codes: Codes, observe: Observer | None) -> Iterator[tuple[Op, Carrier]]:
    values: dict[str, Carrier] = {}
    for step in steps:
        op = step.op
        result = codes if isinstance(op, Input) else _apply(step, values[op.inputs[0]], observe)
        values[op.name] = result
        yield op, result


def _apply(step: _Step, x: Carrier, observe: Observer | None) -> Carrier:
    op = step.op
    if isinstance(op, MaxPool2D):
        return _max_pool(op, x)
    if isinstance(op, Flatten):
        return x.reshape(len(x), -1)
    if isinstance(op, MatMul):
        exact = _matmul(op, step, x)
    elif isinstance(op, BatchNorm):
        exact = x.astype(step.factor.dtype) * step.factor + step.addend
    elif isinstance(op, Relu):
        exact = np.maximum(x, 0)
    else:
        assert isinstance(op, Requantize)
        exact = x.copy()
    if observe is not None:
        observe(op, exact, step.frac_bits)
    return _cast(exact, step)


def _carrier(bound: int) -> type[Any]:
    """Return the fastest type that is exact up to twice `bound` (twice, so that halves are exact when rounding)."""
    return np.float32 if bound < 1 << 23 else np.float64 if bound < 1 << 52 else np.int64


def _matmul(op: MatMul, step: _Step, x: Carrier) -> Carrier:
    values = x.astype(step.factor.dtype, copy=False)
    rows = _columns(op, values) if isinstance(op, Conv2D) else values.reshape(-1, values.shape[-1])
    result: Carrier = rows @ step.factor
    result += step.addend
    return result.reshape(len(x), *op.shape)


def _columns(op: Conv2D, x: Carrier) -> Carrier:
    """Return the windows of padded images as rows: (samples * out_height * out_width, kh * kw * channels)."""
    top, bottom, left, right = op.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))) if any(op.padding) else x
    kernel_height, kernel_width, channels, _ = op.weight.shape
    height, width, _ = op.shape
    columns = np.empty((len(x), height, width, kernel_height, kernel_width, channels), padded.dtype)
    for row in range(kernel_height):
        for col in range(kernel_width):
            columns[..., row, col, :] = _shifted(padded, row, col, op.strides, (height, width))
    return columns.reshape(-1, kernel_height * kernel_width * channels)


def _shifted(x: Carrier, row: int, col: int, strides: tuple[int, int], shape: tuple[int, int]) -> Carrier:
    """Return the pixel (row, col) of every window."""
    return x[
        :,
        row : row + strides[0] * (shape[0] - 1) + 1 : strides[0],
        col : col + strides[1] * (shape[1] - 1) + 1 : strides[1],
    ]


def _max_pool(op: MaxPool2D, x: Carrier) -> Carrier:
    top, bottom, left, right = op.padding
    if any(op.padding):  # the smallest code of the format never wins against a real one
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=op.format.min_code)
    height, width, _ = op.shape
    windows = [(row, col) for row in range(op.pool[0]) for col in range(op.pool[1])]
    result: Carrier = _shifted(x, 0, 0, op.strides, (height, width)).copy()
    for row, col in windows[1:]:
        np.maximum(result, _shifted(x, row, col, op.strides, (height, width)), out=result)
    return result


def _cast(exact: Carrier, step: _Step) -> Carrier:
    """Cast the exact result, which is overwritten, to the format of the op."""
    op, fmt = step.op, step.op.format
    shift = step.frac_bits - fmt.frac_bits
    if shift == 0 and fmt.min_code <= step.low and step.high <= fmt.max_code:
        return exact
    if exact.dtype.kind == "f" and shift >= 0 and (op.rounding, op.overflow) == (Rounding.RND_CONV, Overflow.SAT):
        exact *= exact.dtype.type(2.0**-shift)
        np.rint(exact, out=exact)  # ties to even
        return np.clip(exact, fmt.min_code, fmt.max_code, out=exact)
    return requantize(exact.astype(np.int64), step.frac_bits, fmt, op.rounding, op.overflow)
