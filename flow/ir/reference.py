"""The living definition: what an IntGraph means, computed on integer codes.

Numbers are integers throughout. They travel in float32 or float64 arrays where the intervals prove that every sum
stays within 2**24 or 2**53, because floating-point addition and multiplication of integers is exact there and BLAS is
fast; in int64 otherwise. The carrier never changes a result, and a test holds the three against each other.

Each op is computed and cast piece by piece (ir.sums); between ops, codes are stored in the smallest type that holds
their format.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from flow.errors import DataError
from flow.ir import sums
from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.ir.graph import (
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
    Relu,
    Requantize,
    Reshape,
    Softmax,
    SumPool,
)
from flow.ir.intervals import accumulation, common_grid, exact_result
from flow.ir.sums import FLOAT32_EXACT, FLOAT64_EXACT, PIECE_BYTES, Carrier, Place
from flow.ir.tables import TABLE_INPUT_BITS
from flow.ir.windows import Shape, Window
from flow.results import SimResult

Observer = Callable[[Op, Carrier, int], None]
"""Called with an op, its exact result before the cast, and the fraction bits of that result."""

CACHE_BYTES = 1 << 21
"""A batch is as large as lets its largest array stay about this size, so that it stays in a core's cache."""
FEWEST_SAMPLES, ROOM_BYTES = 4, 1 << 26
"""But it has some samples, for each of which the weights need not be read again, if its largest array has room."""
FEWEST_POSITIONS = 256
"""So many windows or rows at a time, at least, are multiplied with the weights: BLAS reorders those each time."""


def code_dtype(fmt: FixedFormat) -> type[np.signedinteger[Any]]:
    """Return the smallest signed integer type that holds every code of a format."""
    return np.int16 if fmt.width <= 15 else np.int32 if fmt.width <= 31 else np.int64


def run(
    graph: IntGraph, codes: Codes, observe: Observer | None = None, keep: Collection[str] | None = None
) -> SimResult:
    """Compute the output codes of ops.

    Args:
        graph: the graph.
        codes: integers (samples, *graph.port_shape), each within its input's format.
        observe: called for every op and batch with its exact result before the cast.
        keep: names of the ops whose codes are wanted; the others' are dropped as soon as they were read, or never
            computed. None: all.

    Returns:
        Codes of the wanted ops, level "reference".

    Raises:
        DataError: wrong shape, or a code outside the input format.

    Example:
        >>> import numpy as np
        >>> from flow.ir.fixed import Cast, FixedFormat
        >>> from flow.ir.graph import Input, IntGraph, Relu
        >>> s4 = FixedFormat(True, 3, 0)
        >>> x = Input(name="x", inputs=(), shape=(2,), cast=Cast(s4))
        >>> y = Relu(name="y", inputs=("x",), shape=(2,), cast=Cast(s4))
        >>> run(IntGraph(name="g", ops=(x, y)), np.array([[-3, 5]])).codes["y"].tolist()
        [[0, 5]]
    """
    started = time.perf_counter()
    check_input(graph, codes)
    kept = [op for op in graph.ops if keep is None or op.name in keep]
    assert keep is None or len(kept) == len(keep), f"{graph.name}: has not all of the ops {list(keep)}"
    ops = graph.ops if observe is not None else _needed(graph, kept)
    out = {op.name: np.empty((len(codes), *op.shape), code_dtype(op.format)) for op in kept}
    ports, cores, last_reads, batch = graph.split_port(codes), os.cpu_count() or 1, _last_reads(ops), _batch_size(ops)
    if batch <= FEWEST_SAMPLES:  # of large images each core has its share
        batch = max(1, min(batch, math.ceil(len(codes) / cores)))
    starts = range(0, len(codes), batch)

    def run_batch(steps: list[_Step], start: int) -> None:
        part = slice(start, start + batch)
        values = {name: each[part] for name, each in ports.items()}
        _batch(steps, values, {name: each[part] for name, each in out.items()}, last_reads, observe)

    if observe is not None:  # in order, one after another
        steps = [_step(op, graph) for op in ops]
        for start in starts:
            run_batch(steps, start)
    else:  # NumPy computes outside the interpreter lock; two layers of threads would wait for each other
        with sums.one_thread_blas(), ThreadPoolExecutor(max_workers=cores) as pool:
            steps = list(pool.map(partial(_step, graph=graph), ops))
            list(pool.map(partial(run_batch, steps), starts))
    return SimResult(level="reference", codes=out, run_s=time.perf_counter() - started)


def run_output(graph: IntGraph, codes: Codes) -> Codes:
    """Compute the codes of the graph's first output only: int64 (samples, *output shape)."""
    name = graph.output.name
    return run(graph, codes, keep=(name,)).codes[name].astype(np.int64)


def check_input(graph: IntGraph, codes: Codes) -> None:
    """Raise DataError unless `codes` are integers of the port's shape and of each input's format."""
    if codes.shape[1:] != graph.port_shape:
        raise DataError(
            f"input codes have shape {codes.shape[1:]} per sample, the model takes {graph.port_shape}", model=graph.name
        )
    for name, part in graph.split_port(codes).items():
        op = graph[name]
        assert isinstance(op, Input)
        if part.size and (int(part.min()) < op.cast.lowest_code or int(part.max()) > op.format.max_code):
            raise DataError(
                f"codes {part.min()}..{part.max()} of input '{name}' are outside the format {op.format} "
                f"({op.cast.lowest_code}..{op.format.max_code})",
                model=graph.name,
            )


def _batch_size(ops: Collection[Op]) -> int:
    sample_bytes = 4 * max((math.prod(op.shape) for op in ops), default=1)
    return max(1, min(FEWEST_SAMPLES, ROOM_BYTES // sample_bytes), min(1024, CACHE_BYTES // sample_bytes))


def _needed(graph: IntGraph, kept: list[Op]) -> tuple[Op, ...]:
    """Return the ops from which some others follow, and these themselves."""
    names = {op.name for op in kept}
    for op in reversed(graph.ops):
        if op.name in names:
            names.update(op.inputs)
    return tuple(op for op in graph.ops if op.name in names)


def _last_reads(ops: Collection[Op]) -> dict[str, list[str]]:
    """Return op name -> the ops whose codes none reads after it."""
    reader = {op.name: op.name for op in ops}
    reader |= {name: op.name for op in ops for name in op.inputs}
    out: dict[str, list[str]] = {}
    for name, last in reader.items():
        out.setdefault(last, []).append(name)
    return out


FLOAT_SHIFTS = 100
"""A float32 holds a code times two to the power of minus this, and less."""


def _nothing() -> Carrier:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """An op with what does not depend on the data.

    Attributes:
        frac_bits, low, high: grid and range of the exact result.
        carrier: the type that is exact for the result, and for every sum or product on the way but those of `ends`.
        factor, addend: weights and bias, scale and offset, or slope, on that grid, in the carrier; the table of a
            Lookup, if it is small.
        shifts: by how much each input is shifted left to that grid.
        ends: where sums of products are cut into parts (`sums.products`); the factor is float32 then.
        padding: the zeros that a Gather adds around its input if it does nothing else, (before, after) axis by axis.
        row_bytes: what the work on one row of the output takes; 0 for ops that are not cut into rows.
    """

    op: Op
    frac_bits: int
    low: int
    high: int
    carrier: type[Any]
    factor: Carrier = field(default_factory=_nothing)
    addend: Carrier = field(default_factory=_nothing)
    shifts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    padding: Shape = ()
    row_bytes: int = 0

    @property
    def casts(self) -> bool:
        """Whether the cast changes any result."""
        op = self.op
        fits = op.cast.lowest_code <= self.low and self.high <= op.format.max_code
        return not (fits and self.frac_bits == op.format.frac_bits and op.cast.divisor == 1)


def _step(op: Op, graph: IntGraph) -> _Step:
    if isinstance(op, Input):
        return _Step(op, op.format.frac_bits, op.format.min_code, op.format.max_code, np.int64)
    formats = [source.format for source in graph.sources(op)]
    x = formats[0]
    if isinstance(op, MatMul):
        return _matmul_step(op, x)
    exact = exact_result(op, *formats)
    frac_bits, low, high = exact.frac_bits, exact.low, exact.high
    carrier, row_bytes = sums.carrier(exact.bound), 12 * math.prod(op.shape[1:])
    if isinstance(op, BatchNorm):
        scale, offset = op.scale.codes << exact.shifts[0], op.offset.codes << exact.shifts[1]
        largest = np.abs(scale) * max(x.max_code, -x.min_code) + np.abs(offset)
        carrier = sums.carrier(int(largest.max(initial=0)))
        factor, addend = scale.astype(carrier), offset.astype(carrier)
        return _Step(op, frac_bits, low, high, carrier, factor, addend, row_bytes=row_bytes)
    if isinstance(op, LeakyRelu):
        raised, shift = exact.shifts
        factor = np.broadcast_to((op.slope.codes << shift).astype(carrier), op.shape)
        return _Step(op, frac_bits, low, high, carrier, factor, shifts=(raised,), row_bytes=row_bytes)
    if isinstance(op, Merge | Gather):
        carrier = sums.carrier(max(exact.bound, *(each.bound for each in common_grid(formats))))
        step = _Step(op, frac_bits, low, high, carrier, shifts=exact.shifts, row_bytes=row_bytes)
        return replace(step, **_moving(step, graph)) if isinstance(op, Gather) else step
    if isinstance(op, SumPool):
        factor = op.weight.codes[..., np.newaxis].astype(carrier)
        return _Step(op, frac_bits, low, high, carrier, factor, row_bytes=row_bytes)
    if isinstance(op, Lookup) and x.width <= TABLE_INPUT_BITS:
        runs = np.searchsorted(op.starts, np.arange(x.min_code, x.max_code + 1), side="right") - 1
        return _Step(op, frac_bits, low, high, carrier, op.values[runs], row_bytes=row_bytes)
    return _Step(op, frac_bits, low, high, carrier, row_bytes=0 if isinstance(op, Softmax) else row_bytes)


def _matmul_step(op: MatMul, x: FixedFormat) -> _Step:
    acc = accumulation(op, x)
    low, high, carrier = acc.low, acc.high, sums.carrier(acc.bound)
    weight = op.weight.codes << acc.shifts[0] if acc.shifts[0] else op.weight.codes
    bias = (op.bias.codes << acc.shifts[1]).astype(carrier)
    ends: tuple[int, ...] = ()
    if carrier is np.float64 and not (isinstance(op, Conv) and op.groups > 1):
        ends = sums.splits(weight.reshape(-1, op.shape[-1]), x)
    factor = sums.factor_of(op, weight.astype(np.float32 if ends else carrier))
    if sums.is_depthwise(op):
        position_bytes = 5 * factor.itemsize * op.shape[-1]
    else:
        position_bytes = factor.itemsize * (op.weight.codes[..., 0].size + 3 * op.shape[-1])
        position_bytes = min(position_bytes, PIECE_BYTES // FEWEST_POSITIONS)
    row_bytes = position_bytes * math.prod(op.shape[1:-1])
    return _Step(op, acc.frac_bits, low, high, carrier, factor, bias, ends=ends, row_bytes=row_bytes)


def _moving(step: _Step, graph: IntGraph) -> dict[str, Any]:
    """Return the padding of a Gather that only adds zeros around its input, or that it is not cut into rows."""
    op = step.op
    assert isinstance(op, Gather)
    (source, *others), inside = graph.sources(op), op.index >= 0
    if not others and not step.casts and inside.any() and inside.ndim == len(source.shape) > 1:
        spans = [
            np.flatnonzero(inside.any(axis=tuple(i for i in range(inside.ndim) if i != axis)))
            for axis in range(inside.ndim)
        ]
        box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        whole = np.arange(math.prod(source.shape)).reshape(source.shape)
        if np.array_equal(op.index[box], whole) and op.shape[-1] == source.shape[-1]:
            ends = [(part.start, size - part.stop) for part, size in zip(box[:-1], op.shape, strict=False)]
            return {"padding": tuple(pad for each in ends for pad in each)}
    return {"row_bytes": 0}


def _batch(
    steps: list[_Step],
    values: dict[str, Carrier],
    kept: dict[str, Carrier],
    last_reads: Mapping[str, list[str]],
    observe: Observer | None,
) -> None:
    """Compute ops, one after another: `kept` is filled; of `values`, which holds the inputs, nothing is left."""
    for step in steps:
        op = step.op
        if not isinstance(op, Input):
            values[op.name] = _apply(step, [values[name] for name in op.inputs], kept.get(op.name), observe)
        elif op.name in kept:
            kept[op.name][...] = values[op.name]
        for name in last_reads.get(op.name, ()):
            del values[name]


def _apply(step: _Step, inputs: list[Carrier], out: Carrier | None, observe: Observer | None) -> Carrier:
    """Return the codes of an op, in `out` if there is one."""
    op, samples = step.op, len(inputs[0])
    if isinstance(op, Reshape) and out is None:
        return inputs[0].reshape(samples, *op.shape)
    if out is None:
        out = np.empty((samples, *op.shape), _stored(op.format))
    places = sums.pieces(samples, op.shape, step.row_bytes) if step.row_bytes else ((slice(0, samples),),)
    if isinstance(op, MaxPool | Reshape | Lookup | Softmax):
        for place in places:
            out[place] = _chosen(step, inputs[0], place)
        return out
    exacts = None if observe is None else np.empty(out.shape, step.carrier)
    for place in places:
        exact = _exact(step, inputs, place)
        if exacts is not None:
            exacts[place] = exact
        out[place] = _cast(exact, step) if step.casts else exact
    if observe is not None and exacts is not None:
        observe(op, exacts, step.frac_bits)
    return out


def _stored(fmt: FixedFormat) -> type[Any]:
    """Return the type in which codes of a format wait for the ops that read them."""
    for small in (np.uint8, np.int8, np.int16):
        if np.iinfo(small).min <= fmt.min_code and fmt.max_code <= np.iinfo(small).max:
            return small
    return sums.carrier(max(fmt.max_code, -fmt.min_code))


def _chosen(step: _Step, x: Carrier, place: Place) -> Carrier:
    """Return codes at a place of the output of an op that casts nothing."""
    op = step.op
    if isinstance(op, MaxPool):
        return sums.pooled(op, x, np.maximum, op.format.min_code, place, x.dtype)  # the fill never wins against a code
    if isinstance(op, Lookup):
        if not step.factor.size:
            return np.asarray(op.values[np.searchsorted(op.starts, x[place], side="right") - 1])
        return np.asarray(np.take(step.factor, x[place].astype(np.intp) - op.starts[0]))
    if isinstance(op, Softmax):
        return _softmax(op, x)
    assert isinstance(op, Reshape)
    return x.reshape(len(x), *op.shape)[place]


def _exact(step: _Step, inputs: list[Carrier], place: Place) -> Carrier:
    """Return the exact results of an op at a place of its output, before the cast: an array of its own if it casts."""
    op, x = step.op, inputs[0]
    if isinstance(op, MatMul):
        result = sums.sums_of_products(op, step.factor, x, place, step.ends)
        result += step.addend
        return result
    if isinstance(op, Merge):
        raised = [_raised(step, x[place], shift) for x, shift in zip(inputs, step.shifts, strict=True)]
        result, *others = raised
        for other in others:
            MERGE_FUNCTIONS[op.function](result, other, out=result)
        return result
    if isinstance(op, Gather):
        return _gather(op, step, inputs, place)
    if isinstance(op, BatchNorm):
        result = x[place].astype(step.carrier)
        result *= step.factor
        result += step.addend
        return result
    if isinstance(op, SumPool):
        result = sums.pooled(op, x, np.add, 0, place, step.carrier)
        result *= step.factor[place[1:]]
        return result
    if isinstance(op, LeakyRelu):
        wide = x[place].astype(step.carrier)
        return np.where(wide < 0, wide * step.factor[place[1:]], _raised(step, wide, step.shifts[0]))
    if isinstance(op, Relu):
        result = np.maximum(x[place], 0)
        if op.limit is not None:
            np.minimum(result, step.high, out=result)  # which is no more than the largest code of the input
        return result.astype(step.carrier, copy=False)
    assert isinstance(op, Requantize)
    return x[place].astype(step.carrier)


MERGE_FUNCTIONS: Mapping[str, Callable[..., Carrier]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _raised(step: _Step, x: Carrier, shift: int) -> Carrier:
    """Return a copy of an input, shifted left, in the carrier."""
    wide = x.astype(step.carrier)
    if shift:
        wide *= step.carrier(1 << shift)
    return wide


def _gather(op: Gather, step: _Step, inputs: list[Carrier], place: Place) -> Carrier:
    if step.padding:
        ones = (1,) * (len(op.shape) - 1)
        window = Window.with_padding(ones, ones, step.padding)
        return sums.strip(inputs[0], place, window, 0, inputs[0].dtype)
    raised = [_raised(step, x, shift).reshape(len(x), -1) for x, shift in zip(inputs, step.shifts, strict=True)]
    zero = np.zeros((len(raised[0]), 1), step.carrier)
    return np.take(np.concatenate([*raised, zero], axis=1), op.index, axis=1)  # index -1 is the zero


def _softmax(op: Softmax, x: Carrier) -> Carrier:
    codes = x.astype(np.int64)
    weights = op.exponentials[codes.max(axis=-1, keepdims=True) - codes]
    total = weights.sum(axis=-1, keepdims=True)
    rounded = ((weights << (op.format.frac_bits + 1)) + total) // (2 * total)
    return np.asarray(np.minimum(rounded, op.format.max_code))


FLOAT_ROUNDINGS: Mapping[Rounding, Callable[..., Carrier]] = {
    Rounding.RND_CONV: np.rint,  # ties to even
    Rounding.RND: np.floor,  # of half a step more
    Rounding.TRN: np.floor,
}


def _cast(exact: Carrier, step: _Step) -> Carrier:
    """Cast exact results, which are overwritten, to the format of the op."""
    op, fmt = step.op, step.op.format
    shift = step.frac_bits - fmt.frac_bits
    half = 1 << shift - 1 if op.cast.rounding is Rounding.RND and shift > 0 else 0
    holds = FLOAT32_EXACT if exact.dtype == np.float32 else FLOAT64_EXACT
    if (
        exact.dtype.kind == "f"
        and 0 <= shift < FLOAT_SHIFTS
        and max(step.high + half, -step.low) <= holds
        and op.cast.divisor == 1
        and op.cast.rounding in FLOAT_ROUNDINGS
        and op.cast.overflow in (Overflow.SAT, Overflow.SAT_SYM)
    ):
        if half:
            exact += exact.dtype.type(half)
        if shift:
            exact *= exact.dtype.type(2.0**-shift)
            FLOAT_ROUNDINGS[op.cast.rounding](exact, out=exact)
        return np.clip(exact, op.cast.lowest_code, fmt.max_code, out=exact)
    return op.cast(exact.astype(np.int64), step.frac_bits)
