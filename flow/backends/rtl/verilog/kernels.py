"""Kernels: each op of the graph as netlists, and which codes of its inputs go where.

A kernel computes one position of the output: all channels of a pixel, the whole vector of a dense layer, one element
of a gather. It is built once and used at every position that computes the same function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flow.backends.rtl.netlists import arithmetic
from flow.backends.rtl.netlists.netlist import Netlist
from flow.errors import UnsupportedError
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import (
    BatchNorm,
    Conv,
    Gather,
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
    Softmax,
    SumPool,
)
from flow.ir.intervals import accumulation, common_grid, exact_result
from flow.ir.reference import code_dtype
from flow.ir.tables import TABLE_INPUT_BITS
from flow.ir.windows import Shape

LEAF_BITS = 6
"""A table of so many input bits is one lookup table of the FPGA per output bit."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One function and where it is used.

    Attributes:
        net: the function of one position.
        index: int64 (positions, len(net.inputs)): which code of the op's inputs (each flattened, one after another)
            is each input; -1 for padding.
        fill: the code that stands in padding.
        places: int64 (positions,): which position of the output each use computes, in units of its outputs.
    """

    net: Netlist
    index: Codes
    fill: int
    places: Codes


def kernels(op: Op, graph: IntGraph) -> list[Kernel]:
    """Return the kernels of an op; together they compute every element of its output once.

    An op that `refusals` names would take more memory than there is.

    Raises:
        ToolMissingError: alkaid is needed and not installed.
    """
    inputs = graph.sources(op)
    formats = [x.format for x in inputs]
    if isinstance(op, Gather):
        return list(_gathers(op, inputs, formats))
    if isinstance(op, LeakyRelu) and not uniform(op):
        return list(_by_position(op, inputs, op.slope.codes, lambda slope: _leaky_relu(op, formats[0], slope)))
    if isinstance(op, SumPool) and not uniform(op):
        return list(
            _by_position(op, inputs, op.weight.codes[..., None], lambda weight: _sum_pool(op, formats[0], weight))
        )
    if isinstance(op, Reshape):
        elements = np.arange(math.prod(op.shape), dtype=np.int64)
        return [Kernel(_identity(formats[0]), elements[:, None], 0, elements)]
    net = kernel(op, formats)
    index = _windows(op, inputs[0].shape) if isinstance(op, Conv | Pool) else _pixels(op, inputs)
    fill = op.format.min_code if isinstance(op, MaxPool) else 0
    return [Kernel(net, index, fill, np.arange(len(index)))]


def refusals(graph: IntGraph) -> Iterator[UnsupportedError]:
    """Yield why ops of a graph have no netlist: who, why, and what to do."""
    for op in graph.ops:
        if isinstance(op, Lookup | Softmax) and graph.sources(op)[0].format.width > TABLE_INPUT_BITS:
            width = graph.sources(op)[0].format.width
            yield UnsupportedError(
                f"op '{op.name}' is a table over {width} bits",
                named=op.name,
                remedy=f"at most {TABLE_INPUT_BITS} are built: quantize its input",
            )


def uniform(op: Op) -> bool:
    """Say whether an op computes the same function at every position."""
    if isinstance(op, SumPool):
        return bool((op.weight.codes == op.weight.codes.flat[0]).all())
    return not isinstance(op, LeakyRelu) or math.prod(op.slope.codes.shape[:-1]) == 1


def kernel(op: Op, formats: list[FixedFormat]) -> Netlist:
    """Return the netlist of one position of an op that computes the same at each."""
    x = formats[0]
    if isinstance(op, MatMul):
        return _matmul(op, x)
    if isinstance(op, Merge):
        return _merge(op, formats)
    if isinstance(op, MaxPool):
        return _max_pool(op, x)
    if isinstance(op, SumPool):
        return _sum_pool(op, x, op.weight.codes.flat[:1])
    if isinstance(op, Softmax):
        return _softmax(op, x)
    if isinstance(op, Lookup):
        return _lookup(op, x)
    if isinstance(op, BatchNorm):
        return _batchnorm(op, x)
    if isinstance(op, LeakyRelu):
        return _leaky_relu(op, x, np.broadcast_to(op.slope.codes.reshape(-1), op.shape[-1:]))
    assert isinstance(op, Relu | Requantize), op.kind
    net, codes = _start(op.shape[-1] if op.shape else 1, x)
    for code in codes:
        if isinstance(op, Relu):
            high = net.range(code)[1]
            code = net.clamp(code, 0, high if op.limit is None else op.limit)
        net.outputs.append(_cast(net, op, code, x.frac_bits))
    return net


def _identity(fmt: FixedFormat) -> Netlist:
    net, codes = _start(1, fmt)
    net.outputs = codes
    return net


def _start(count: int, fmt: FixedFormat) -> tuple[Netlist, list[int]]:
    net = Netlist()
    return net, _add_inputs(net, count, fmt)


def _add_inputs(net: Netlist, count: int, fmt: FixedFormat) -> list[int]:
    return [net.input(fmt.min_code, fmt.max_code) for _ in range(count)]


def _cast(net: Netlist, op: Op, exact: int, frac_bits: int) -> int:
    return arithmetic.cast(net, exact, frac_bits, op.cast)


def _matmul(op: MatMul, x: FixedFormat) -> Netlist:
    matrix, acc = op.matrix(), accumulation(op, x)
    net, codes = _start(len(matrix), x)
    sums = arithmetic.product(net, codes, matrix, op.name)
    for total, bias in zip(sums, op.bias.codes.tolist(), strict=True):
        exact = net.add(net.shl(total, acc.shifts[0]), net.const(bias << acc.shifts[1]))
        net.outputs.append(_cast(net, op, exact, acc.frac_bits))
    return net


def _merge(op: Merge, formats: list[FixedFormat]) -> Netlist:
    net, channels = Netlist(), op.shape[-1] if op.shape else 1
    operands = [_add_inputs(net, channels, fmt) for fmt in formats]
    grid = exact_result(op, *formats)
    for codes in zip(*operands, strict=True):
        first, *others = (net.shl(code, shift) for code, shift in zip(codes, grid.shifts, strict=True))
        for other in others:
            first = _merged(net, op.function, first, other)
        net.outputs.append(_cast(net, op, first, grid.frac_bits))
    return net


def _merged(net: Netlist, function: str, a: int, b: int) -> int:
    if function == "minimum":
        return net.mux(net.less(a, b), a, b)
    functions: dict[str, Callable[[int, int], int]] = {
        "add": net.add,
        "subtract": net.sub,
        "multiply": net.mul,
        "maximum": net.max,
    }
    return functions[function](a, b)


def _max_pool(op: MaxPool, x: FixedFormat) -> Netlist:
    return _pooled(op, x, lambda net, a, b: net.max(a, b), lambda net, largest: largest)


def _sum_pool(op: SumPool, x: FixedFormat, weight: Codes) -> Netlist:
    frac_bits = exact_result(op, x).frac_bits

    def finish(net: Netlist, total: int) -> int:
        return _cast(net, op, arithmetic.times(net, total, int(weight.item())), frac_bits)

    return _pooled(op, x, lambda net, a, b: net.add(a, b), finish)


def _pooled(
    op: Pool, x: FixedFormat, reduce: Callable[[Netlist, int, int], int], finish: Callable[[Netlist, int], int]
) -> Netlist:
    """Reduce the pixels of a window, channel by channel, as a balanced tree."""
    channels, size = op.shape[-1], op.window.pixels
    net, codes = _start(size * channels, x)
    for channel in range(channels):
        left = codes[channel::channels]
        while len(left) > 1:
            pairs = zip(left[::2], left[1::2], strict=False)
            left = [reduce(net, a, b) for a, b in pairs] + left[len(left) // 2 * 2 :]
        net.outputs.append(finish(net, left[0]))
    return net


def _batchnorm(op: BatchNorm, x: FixedFormat) -> Netlist:
    grid = exact_result(op, x)
    scale, offset = op.scale.codes << grid.shifts[0], op.offset.codes << grid.shifts[1]
    net, codes = _start(len(scale), x)
    for code, factor, addend in zip(codes, scale.tolist(), offset.tolist(), strict=True):
        exact = net.add(arithmetic.times(net, code, factor), net.const(addend))
        net.outputs.append(_cast(net, op, exact, grid.frac_bits))
    return net


def _leaky_relu(op: LeakyRelu, x: FixedFormat, slope: Codes) -> Netlist:
    grid = exact_result(op, x)
    raised, shift = grid.shifts
    net, codes = _start(len(slope), x)
    for code, factor in zip(codes, slope.tolist(), strict=True):
        below = arithmetic.times(net, net.clamp(code, x.min_code, 0), factor << shift)
        above = net.shl(net.clamp(code, 0, x.max_code), raised)
        exact = net.mux(net.less(code, net.const(0)), below, above)
        net.outputs.append(_cast(net, op, exact, grid.frac_bits))
    return net


def _lookup(op: Lookup, x: FixedFormat) -> Netlist:
    net, codes = _start(op.shape[-1] if op.shape else 1, x)
    lengths = np.diff(np.append(op.starts, x.max_code + 1))
    values = np.repeat(op.values, lengths)
    net.outputs = [_table(net, code, values) for code in codes]
    return net


def _table(net: Netlist, code: int, values: Codes) -> int:
    """Add values[code - its smallest]: halves of the table chosen by the code's bits, equal halves built once."""
    low, _ = net.range(code)
    bits = (len(values) - 1).bit_length()
    if low < 0:  # the sign bit is the first choice; in order of the bits, negative codes come last
        values = np.roll(values, len(values) // 2)
    known: dict[bytes, int] = {}

    def choose(part: Codes, bits: int) -> int:
        key = part.tobytes()
        if key not in known:
            if (part == part[0]).all():
                known[key] = net.const(int(part[0]))
            elif bits <= LEAF_BITS:
                known[key] = net.table(net.wrap(code, bits, False), part.tolist())
            else:
                half = len(part) // 2
                bit = net.any(net.shr(code, bits - 1), 1)
                known[key] = net.mux(bit, choose(part[half:], bits - 1), choose(part[:half], bits - 1))
        return known[key]

    return choose(np.ascontiguousarray(values), bits)


def _softmax(op: Softmax, x: FixedFormat) -> Netlist:
    net, codes = _start(op.shape[-1], x)
    largest = codes[0]
    for code in codes[1:]:
        largest = net.max(largest, code)
    distances = [net.sub(largest, code, limits=(0, x.max_code - x.min_code)) for code in codes]
    weights = [_table(net, distance, op.exponentials) for distance in distances]
    total = weights[0]
    for weight in weights[1:]:
        total = net.add(total, weight)
    for weight in weights:
        doubled = net.add(net.shl(weight, op.format.frac_bits + 1), total)  # twice the numerator, and half a step
        quotient = arithmetic.divide(net, doubled, net.shl(total, 1), op.format.frac_bits + 1)
        net.outputs.append(net.clamp(quotient, 0, op.format.max_code))
    return net


def _pixels(op: Op, inputs: tuple[Op, ...]) -> Codes:
    """Return an index of whole pixels: every input at the same position."""
    starts = np.cumsum([0] + [math.prod(x.shape) for x in inputs])
    each = [_rows(x.shape) + start for x, start in zip(inputs, starts, strict=False)]
    return np.concatenate(each, axis=1)


def _rows(shape: Shape) -> Codes:
    return np.arange(math.prod(shape), dtype=np.int64).reshape(-1, shape[-1] if shape else 1)


def _windows(op: Conv | Pool, shape: Shape) -> Codes:
    """Return an index of windows: (positions, window * channels), -1 in the padding."""
    places, channels = op.window.places(shape)[..., np.newaxis], np.arange(shape[-1])
    return np.where(places < 0, -1, places * len(channels) + channels).reshape(len(places), -1)


def _by_position(
    op: LeakyRelu | SumPool, inputs: tuple[Op, ...], constants: Codes, net: Callable[[Codes], Netlist]
) -> Iterator[Kernel]:
    """One kernel for each distinct row of constants along the positions."""
    index = _windows(op, inputs[0].shape) if isinstance(op, SumPool) else _pixels(op, inputs)
    width = op.shape[-1] if isinstance(op, LeakyRelu) else 1
    rows = np.broadcast_to(constants, (*op.shape[:-1], width)).reshape(-1, width)
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    for number, row in enumerate(distinct):
        places = np.flatnonzero(which.reshape(-1) == number)
        yield Kernel(net(row), index[places], 0, places)


def _gathers(op: Gather, inputs: tuple[Op, ...], formats: list[FixedFormat]) -> Iterator[Kernel]:
    """One kernel of one element for each input, and one for zeros."""
    frac_bits = common_grid(formats)[0].frac_bits
    flat, start = op.index.reshape(-1), 0
    for x in inputs:
        stop = start + math.prod(x.shape)
        places = np.flatnonzero((start <= flat) & (flat < stop))
        net, (code,) = _start(1, x.format)
        net.outputs = [_cast(net, op, net.shl(code, frac_bits - x.format.frac_bits), frac_bits)]
        if len(places):
            yield Kernel(net, flat[places, None], 0, places)
        start = stop
    places = np.flatnonzero(flat < 0)
    if len(places):
        net = Netlist()
        net.outputs = [_cast(net, op, net.const(0), frac_bits)]
        yield Kernel(net, np.empty((len(places), 0), np.int64), 0, places)


def evaluate(op: Op, graph: IntGraph, inputs: list[Codes]) -> Codes:
    """Return an op's output as its netlists compute it: what the Verilog is written from.

    Args:
        op: the op.
        graph: its graph.
        inputs: codes of each input, (samples, *shape).
    """
    samples = len(inputs[0])
    flat = np.concatenate([x.reshape(samples, -1) for x in inputs], axis=1).astype(np.int64)
    out = np.empty((samples, math.prod(op.shape)), code_dtype(op.format))
    for each in kernels(op, graph):
        padded = np.concatenate([flat, np.full((samples, 1), each.fill, np.int64)], axis=1)  # index -1 is the fill
        codes = padded[:, each.index].reshape(samples * len(each.places), each.index.shape[1])
        result = each.net.run(codes).reshape(samples, len(each.places), -1)
        out.reshape(samples, -1, result.shape[-1])[:, each.places] = result
    return out.reshape(samples, *op.shape)
