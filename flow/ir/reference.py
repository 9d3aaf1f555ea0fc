"""What an IntGraph means, computed on integer codes: the steps of its ops, one after another.

`ir.steps` says what each op computes. Here batches of samples run side by side, each op is computed and cast piece by
piece (`sums.pieces`), and between ops codes are stored in the smallest type that holds their format.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from flow.errors import DataError
from flow.ir import sums
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Input, IntGraph, Op, Reshape
from flow.ir.steps import Step, cast, step_of
from flow.ir.sums import Carrier
from flow.results import SimResult

Observer = Callable[[Op, Carrier, int], None]
"""Called with an op, its exact result before the cast, and the fraction bits of that result."""

CACHE_BYTES = 1 << 21
"""A batch is as large as lets its largest array stay about this size, so that it stays in a core's cache."""
FEWEST_SAMPLES, ROOM_BYTES = 4, 1 << 26
"""But it has some samples, for each of which the weights need not be read again, if its largest array has room."""


def code_dtype(fmt: FixedFormat) -> type[np.signedinteger[Any]]:
    """Return the smallest signed integer type that holds every code of a format."""
    for most, small in ((7, np.int8), (15, np.int16), (31, np.int32)):
        if fmt.width <= most:
            return small
    return np.int64


def port_dtype(graph: IntGraph) -> np.dtype[Any]:
    """Return the smallest signed integer type, of 16 bits or more, that holds every code of a sample."""
    return np.result_type(np.int16, *(code_dtype(op.format) for op in graph.inputs))


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
    computed = [op for op in ops if not isinstance(op, Input)]
    ports, cores, last_reads, batch = graph.split_port(codes), os.cpu_count() or 1, _last_reads(ops), _batch_size(ops)
    if batch <= FEWEST_SAMPLES:  # of large images each core has its share
        batch = max(1, min(batch, math.ceil(len(codes) / cores)))
    starts = range(0, len(codes), batch)

    for op in kept:
        if isinstance(op, Input):
            out[op.name][...] = ports[op.name]

    def run_batch(steps: list[Step], start: int) -> None:
        part = slice(start, start + batch)
        values = {name: each[part] for name, each in ports.items()}
        _batch(steps, values, {name: each[part] for name, each in out.items()}, last_reads, observe)

    with sums.one_thread_blas():  # threads of BLAS wait for each other, and for those of `pool`
        if observe is not None:  # in order, one after another
            steps = [step_of(op, *graph.sources(op)) for op in computed]
            for start in starts:
                run_batch(steps, start)
        else:  # NumPy computes outside the interpreter lock
            with ThreadPoolExecutor(max_workers=cores) as pool:
                steps = list(pool.map(lambda op: step_of(op, *graph.sources(op)), computed))
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


def _batch(
    steps: list[Step],
    values: dict[str, Carrier],
    kept: dict[str, Carrier],
    last_reads: Mapping[str, list[str]],
    observe: Observer | None,
) -> None:
    """Compute ops, one after another: `kept` is filled; of `values`, the inputs at first, what was read is dropped."""
    for step in steps:
        op = step.op
        values[op.name] = _apply(step, [values[name] for name in op.inputs], kept.get(op.name), observe)
        for name in last_reads.get(op.name, ()):
            del values[name]


def _apply(step: Step, inputs: list[Carrier], out: Carrier | None, observe: Observer | None) -> Carrier:
    """Return the codes of an op, in `out` if there is one."""
    op, samples = step.op, len(inputs[0])
    if isinstance(op, Reshape) and out is None:  # nothing need be copied
        return inputs[0].reshape(samples, *op.shape)
    if out is None:
        out = np.empty((samples, *op.shape), _stored(op.format))
    places = sums.pieces(samples, op.shape, step.row_bytes) if step.row_bytes else ((slice(0, samples),),)
    exacts = np.empty(out.shape, step.carrier) if observe is not None and not step.chooses else None
    for place in places:
        result = step.apply(place, *inputs)
        if exacts is not None:
            exacts[place] = result
        out[place] = result if step.chooses or not step.casts else cast(result, step)
    if observe is not None and exacts is not None:
        observe(op, exacts, step.exact.frac_bits)
    return out


def _stored(fmt: FixedFormat) -> type[Any]:
    """Return the type in which codes of a format wait for the ops that read them."""
    for small in (np.uint8, np.int8, np.int16):
        if np.iinfo(small).min <= fmt.min_code and fmt.max_code <= np.iinfo(small).max:
            return small
    return sums.carrier(max(fmt.max_code, -fmt.min_code))
