"""Kernels: each op of the graph as netlists, and which codes of its inputs go where.

A kernel computes one position of the output: all channels of a pixel, the whole vector of a dense layer, one code of a
gather. It is built once and used at every position that computes the same function. What differs between positions -
slopes, a pooling weight, the input that is read - is handed in as `constants`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from flow.backends.rtl.netlists import arithmetic
from flow.backends.rtl.netlists.counters import count
from flow.backends.rtl.netlists.footprint import footprint
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import Clock, pipeline
from flow.cost.cost_rules import cheapest_table
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import accumulation, common_grid, exact_result
from flow.ir.reference import code_dtype
from flow.ir.tables import Table, searches

Formats = Sequence[FixedFormat]
OUTSIDE: tuple[type[Op], ...] = (ops.Input,)
"""The ops whose codes come from outside: nothing computes them."""
LEAF_BITS = 6
"""A table of so many input bits is one lookup table of the FPGA per output bit."""
COUNTED_BITS = 16
"""Sums of fewer single bits take fewer tables as adders in Yosys, whatever the estimate says: of 10 bits 10 for 12."""
UNHURRIED = Clock(period_ns=1e6)
"""A clock for which nothing needs a register."""
TABLE_INPUT_BITS = 16
"""Softmax's exponentials are built for inputs of at most so many bits."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedNetlist:
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


def kernels(op: Op, graph: IntGraph) -> list[PlacedNetlist]:
    """Return the kernels of an op; together they compute every element of its output once.

    An op that `refusals` names would take more memory than there is.

    Raises:
        ToolMissingError: alkaid is needed and not installed.
    """
    places, sources = PLACES[type(op)], graph.sources(op)
    index, constants = places.index(op, sources), places.constants(op, sources)
    rows = np.broadcast_to(constants, (len(index), constants.shape[1]))
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    placed = []
    for number, row in enumerate(distinct):
        here = np.flatnonzero(which.reshape(-1) == number)
        net = NETLISTS[type(op)](op, [x.format for x in sources], row)
        placed.append(PlacedNetlist(net, index[here, : len(net.inputs)], places.fill(op), here))  # a zero reads nothing
    return placed


def pixel_netlist(op: Op, sources: Sequence[Op]) -> Netlist:
    """Return the netlist of every position of an op that computes the same function at each."""
    return NETLISTS[type(op)](op, [x.format for x in sources], PLACES[type(op)].constants(op, sources)[0])


def refusals(graph: IntGraph) -> Iterator[UnsupportedError]:
    """Yield why ops of a graph have no netlist: who, why, and what to do."""
    for op in graph.ops:
        bits = 0 if isinstance(op, OUTSIDE) else PLACES[type(op)].table_bits(graph.sources(op))
        if bits > TABLE_INPUT_BITS:
            yield UnsupportedError(
                f"op '{op.name}' is a table over {bits} bits",
                named=op.name,
                remedy=f"at most {TABLE_INPUT_BITS} are built: quantize its input",
            )


def evaluate(op: Op, graph: IntGraph, inputs: list[Codes]) -> Codes:
    """Return an op's output as its netlists compute it, of which the Verilog is written; inputs: (samples, *shape)."""
    samples = len(inputs[0])
    flat = np.concatenate([x.reshape(samples, -1) for x in inputs], axis=1).astype(np.int64)
    out = np.empty((samples, math.prod(op.shape)), code_dtype(op.format))
    for kernel in kernels(op, graph):
        padded = np.concatenate([flat, np.full((samples, 1), kernel.fill, np.int64)], axis=1)  # index -1 is the fill
        codes = padded[:, kernel.index].reshape(samples * len(kernel.places), kernel.index.shape[1])
        result = kernel.net.run(codes).reshape(samples, len(kernel.places), -1)
        out.reshape(samples, -1, result.shape[-1])[:, kernel.places] = result
    return out.reshape(samples, *op.shape)


def _pixels(op: Op, sources: Sequence[Op]) -> Codes:
    """Every input at the same position."""
    starts = np.cumsum([0] + [math.prod(x.shape) for x in sources])
    codes = [np.arange(start, end, dtype=np.int64) for start, end in pairwise(starts)]
    return np.concatenate([row.reshape(-1, _channels(x)) for x, row in zip(sources, codes, strict=True)], axis=1)


def _windows(op: ops.Conv | ops.Pool, sources: Sequence[Op]) -> Codes:
    """The pixels of a window, -1 in the padding."""
    (x,) = sources
    places, channels = op.window.places(x.shape)[..., np.newaxis], np.arange(x.shape[-1])
    return np.where(places < 0, -1, places * len(channels) + channels).reshape(len(places), -1)


def _source(op: ops.Gather, sources: Sequence[Op]) -> Codes:
    """Which input a code comes from; a zero comes from behind the last."""
    starts, flat = np.cumsum([0] + [math.prod(x.shape) for x in sources]), op.index.reshape(-1)
    source = np.searchsorted(starts, flat, side="right") - 1
    return np.where(flat < 0, len(sources), source)[:, None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where an op computes what.

    Attributes:
        index: op, what it reads -> which code each input of each position is, see `PlacedNetlist`.
        constants: the same -> what differs between positions, int64 (positions or 1, n).
        fill: op -> the code that stands in padding.
        table_bits: what it reads -> over how many bits it is a table; 0 if it is none.
    """

    index: Callable[[Any, Sequence[Op]], Codes]
    constants: Callable[[Any, Sequence[Op]], Codes] = lambda op, sources: np.zeros((1, 1), np.int64)
    fill: Callable[[Op], int] = lambda op: 0
    table_bits: Callable[[Sequence[Op]], int] = lambda sources: 0


PLACES: Mapping[type[Op], Places] = {
    **dict.fromkeys((ops.Dense, ops.BatchNorm, ops.Relu, ops.Requantize, ops.Merge, ops.Lookup), Places(_pixels)),
    ops.Softmax: Places(_pixels, table_bits=lambda sources: sources[0].format.width),
    ops.LeakyRelu: Places(
        _pixels, lambda op, sources: np.broadcast_to(op.slope.codes, op.shape).reshape(-1, op.shape[-1])
    ),
    ops.Conv: Places(_windows),
    ops.MaxPool: Places(_windows, fill=lambda op: op.format.min_code),
    ops.SumPool: Places(_windows, lambda op, sources: op.weight.codes.reshape(-1, 1)),
    ops.Reshape: Places(lambda op, sources: np.arange(math.prod(op.shape), dtype=np.int64)[:, None]),
    ops.Gather: Places(lambda op, sources: op.index.reshape(-1, 1), _source),
    ops.TruthTable: Places(
        lambda op, sources: np.arange(sum(math.prod(x.shape) for x in sources), dtype=np.int64)[None],
        lambda op, sources: np.array([[math.prod(x.shape) for x in sources]], np.int64),
    ),
    ops.Scan: Places(lambda op, sources: np.arange(math.prod(sources[0].shape), dtype=np.int64)[None]),
}
"""By type of op, but for those `OUTSIDE`."""


def _channels(op: Op) -> int:
    return op.shape[-1] if op.shape else 1


def _start(count: int, fmt: FixedFormat) -> tuple[Netlist, list[int]]:
    net = Netlist()
    return net, _add_inputs(net, count, fmt)


def _add_inputs(net: Netlist, count: int, fmt: FixedFormat) -> list[int]:
    return [net.input(fmt.min_code, fmt.max_code) for _ in range(count)]


def _cast(net: Netlist, op: Op, exact: int, frac_bits: int) -> int:
    return arithmetic.cast(net, exact, frac_bits, op.cast)


def _copy_netlist(op: Op, formats: Formats, constants: Codes) -> Netlist:
    net, codes = _start(1, formats[0])
    net.outputs = codes
    return net


def _requantize_netlist(op: Op, formats: Formats, constants: Codes) -> Netlist:
    net, codes = _start(_channels(op), formats[0])
    net.outputs = [_cast(net, op, code, formats[0].frac_bits) for code in codes]
    return net


def _relu_netlist(op: ops.Relu, formats: Formats, constants: Codes) -> Netlist:
    net, codes = _start(_channels(op), formats[0])
    for code in codes:
        high = net.range(code)[1] if op.limit is None else op.limit
        net.outputs.append(_cast(net, op, net.clamp(code, 0, high), formats[0].frac_bits))
    return net


def _matmul_netlist(op: ops.MatMul, formats: Formats, constants: Codes) -> Netlist:
    (x,) = formats
    matrix, acc = op.matrix(), accumulation(op, x)
    net, codes = _start(len(matrix), x)
    sums = arithmetic.product(net, codes, matrix, op.name)
    counted = _counted(op, x, matrix)
    if counted is not None:
        net.outputs = sums
        net = min((net, counted), key=_luts)
        sums, net.outputs = net.outputs, []
    for total, bias in zip(sums, op.bias.codes.tolist(), strict=True):
        exact = net.add(net.shl(total, acc.shifts[0]), net.const(bias << acc.shifts[1]))
        net.outputs.append(_cast(net, op, exact, acc.frac_bits))
    return net


def _counted(op: ops.MatMul, x: FixedFormat, matrix: Codes) -> Netlist | None:
    """Return products whose sums of single bits are counted by tables of six inputs; None if there are no such sums."""
    alike = [len(set(column[column != 0].tolist())) == 1 and column.max() > 0 for column in matrix.T]
    alike = [each and np.count_nonzero(column) >= COUNTED_BITS for each, column in zip(alike, matrix.T, strict=True)]
    if x.signed or x.width > 1 or not any(alike):
        return None
    net, codes = _start(len(matrix), x)
    sums = arithmetic.product(net, codes, np.where(alike, 0, matrix), op.name)
    for place, column in enumerate(matrix.T):
        if alike[place]:
            bits = [code for code, weight in zip(codes, column.tolist(), strict=True) if weight]
            sums[place] = arithmetic.times(net, count(net, bits), int(column.max()))
    net.outputs = sums
    return net


def _luts(net: Netlist) -> int:
    """Return the look-up tables that a netlist takes."""
    one = footprint(net, pipeline(net, UNHURRIED), max(net.nodes[place].width for place in net.outputs), {})
    return one.alone()["lut"]


def _merge_netlist(op: ops.Merge, formats: Formats, constants: Codes) -> Netlist:
    net = Netlist()
    operands = [_add_inputs(net, _channels(op), fmt) for fmt in formats]
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
    functions = {"add": Netlist.add, "subtract": Netlist.sub, "multiply": Netlist.mul, "maximum": Netlist.max}
    return functions[function](net, a, b)


def _sum_pool_netlist(op: ops.SumPool, formats: Formats, constants: Codes) -> Netlist:
    frac_bits, (weight,) = exact_result(op, *formats).frac_bits, constants.tolist()

    def finish(net: Netlist, total: int) -> int:
        return _cast(net, op, arithmetic.times(net, total, weight), frac_bits)

    return _pooled(op, formats[0], Netlist.add, finish)


def _pooled(
    op: ops.Pool, x: FixedFormat, reduce: Callable[[Netlist, int, int], int], finish: Callable[[Netlist, int], int]
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


def _batchnorm_netlist(op: ops.BatchNorm, formats: Formats, constants: Codes) -> Netlist:
    (x,) = formats
    grid = exact_result(op, x)
    scale, offset = op.scale.codes << grid.shifts[0], op.offset.codes << grid.shifts[1]
    net, codes = _start(len(scale), x)
    for code, factor, addend in zip(codes, scale.tolist(), offset.tolist(), strict=True):
        exact = net.add(arithmetic.times(net, code, factor), net.const(addend))
        net.outputs.append(_cast(net, op, exact, grid.frac_bits))
    return net


def _leaky_relu_netlist(op: ops.LeakyRelu, formats: Formats, constants: Codes) -> Netlist:
    (x,) = formats
    grid = exact_result(op, x)
    raised, shift = grid.shifts
    net, codes = _start(len(constants), x)
    for code, factor in zip(codes, constants.tolist(), strict=True):
        below = arithmetic.times(net, net.clamp(code, x.min_code, 0), factor << shift)
        above = net.shl(net.clamp(code, 0, x.max_code), raised)
        exact = net.mux(net.less(code, net.const(0)), below, above)
        net.outputs.append(_cast(net, op, exact, grid.frac_bits))
    return net


def _lookup_netlist(op: ops.Lookup, formats: Formats, constants: Codes) -> Netlist:
    (x,) = formats
    net, codes = _start(_channels(op), x)
    table = cheapest_table(op, x.width)
    if not searches(op, x):
        lengths = np.diff(np.append(op.starts, x.max_code + 1))
        values = np.repeat(op.values, lengths)
        net.outputs = [_table(net, code, values) for code in codes]
    elif table is not None:
        net.outputs = [_clamped_table(net, code, table) for code in codes]
    else:
        net.outputs = [_search(net, code, *op.of_channel(channel)) for channel, code in enumerate(codes)]
    return net


def _clamped_table(net: Netlist, code: int, table: Table) -> int:
    """Add the value of a table that covers a part of the codes, widened to a power of two of them."""
    shifted = net.shr(code, table.shift)
    (low, high), size = net.range(shifted), 1 << (len(table.values) - 1).bit_length()
    first = max(low, min(table.first, high - size + 1))
    entries = np.clip(np.arange(first, first + size) - table.first, 0, len(table.values) - 1)
    place = net.sub(net.clamp(shifted, first, first + size - 1), net.const(first))
    return _table(net, place, table.values[entries])


def _search(net: Netlist, code: int, starts: Codes, values: Codes) -> int:
    """Add the value of the run that holds a code: in each step one comparison, with the start in the middle."""
    runs = int(np.searchsorted(starts, net.range(code)[1], side="right"))  # those that a code can lie in
    levels = (runs - 1).bit_length()
    starts, values = (np.pad(each, (0, (1 << levels) - len(each)), "edge") for each in (starts[:runs], values[:runs]))
    run = net.const(0)
    for level in range(levels - 1, -1, -1):
        below = _table(net, run, starts[1 << level :: 2 << level] - 1)
        run = net.add(run, net.less(below, code), 1, 0)
    return _table(net, run, values)


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


def _softmax_netlist(op: ops.Softmax, formats: Formats, constants: Codes) -> Netlist:
    (x,) = formats
    net, codes = _start(op.shape[-1], x)
    largest = reduce(net.max, codes)
    distances = [net.sub(largest, code, limits=(0, x.max_code - x.min_code)) for code in codes]
    weights = [_table(net, distance, op.exponentials) for distance in distances]
    total = reduce(net.add, weights)
    for weight in weights:
        doubled = net.add(net.shl(weight, op.format.frac_bits + 1), total)  # twice the numerator, and half a step
        quotient = arithmetic.divide(net, doubled, net.shl(total, 1), op.format.frac_bits + 1)
        net.outputs.append(net.clamp(quotient, 0, op.format.max_code))
    return net


def _gather_netlist(op: ops.Gather, formats: Formats, constants: Codes) -> Netlist:
    """Return the netlist of one code of the input that `constants` names, or of a zero behind the last input."""
    frac_bits, (source,) = common_grid(formats)[0].frac_bits, constants.tolist()
    if source == len(formats):
        net = Netlist()
        net.outputs = [_cast(net, op, net.const(0), frac_bits)]
        return net
    x = formats[source]
    net, (code,) = _start(1, x)
    net.outputs = [_cast(net, op, net.shl(code, frac_bits - x.frac_bits), frac_bits)]
    return net


def _truth_table_netlist(op: ops.TruthTable, formats: Formats, constants: Codes) -> Netlist:
    """Return all tables; `constants` says how many codes each input has."""
    net = Netlist()
    codes = [code for pair in zip(constants.tolist(), formats, strict=True) for code in _add_inputs(net, *pair)]
    rows = (each.reshape(-1, each.shape[-1]).tolist() for each in (op.wires, op.bits, op.values))
    for wires, bits, values in zip(*rows, strict=True):
        read = [net.bit(codes[wire], bit) if wire >= 0 else net.const(0) for wire, bit in zip(wires, bits, strict=True)]
        word = net.join([net.lut(read, [value >> i & 1 for value in values]) for i in range(op.format.width)])
        net.outputs.append(net.wrap(word, op.format.width, op.format.signed))
    return net


def row_netlist(op: ops.Scan) -> Netlist:
    """Return the netlist of one row of a scan: of the codes of the row and of the states, what `returns` names."""
    net, body = Netlist(), body_of(op)
    taken = [_add_inputs(net, math.prod(x.shape), x.format) for x in body.inputs]
    net.outputs = [code for codes in _row(net, op, body, taken) for code in codes]
    return net


def _row(net: Netlist, op: ops.Scan, body: IntGraph, taken: Sequence[list[int]]) -> list[list[int]]:
    """Add the body of a scan on a row and states, and return what it gives."""
    held = {x.name: codes for x, codes in zip(body.inputs, taken, strict=True)}
    for each in body.ops:
        if isinstance(each, OUTSIDE):
            continue
        read, held[each.name] = [code for name in each.inputs for code in held[name]], [-1] * math.prod(each.shape)
        for kernel in kernels(each, body):
            for place, row in zip(kernel.places.tolist(), kernel.index.tolist(), strict=True):
                codes = [read[i] if i >= 0 else net.const(kernel.fill) for i in row]
                count = len(kernel.net.outputs)
                held[each.name][place * count : (place + 1) * count] = net.inline(kernel.net, codes)
    return [held[name] for name in op.returns]


def _scan_netlist(op: ops.Scan, formats: Formats, constants: Codes) -> Netlist:
    """Return all rows, one behind the other, as one function."""
    body = body_of(op)
    row, *states = body.inputs
    width, held = row.shape[-1], list[list[int]]()
    net, codes = _start(op.rows * width, row.format)
    held = [[net.const(0)] * math.prod(state.shape) for state in states]
    for start in range(0, len(codes), width):
        given, *held = _row(net, op, body, [codes[start : start + width], *held])
        net.outputs = [*net.outputs * op.every_row, *given]
    return net


NETLISTS: Mapping[type[Op], Callable[[Any, Formats, Codes], Netlist]] = {
    **dict.fromkeys((ops.Dense, ops.Conv), _matmul_netlist),
    ops.BatchNorm: _batchnorm_netlist,
    ops.Relu: _relu_netlist,
    ops.LeakyRelu: _leaky_relu_netlist,
    ops.Requantize: _requantize_netlist,
    ops.Merge: _merge_netlist,
    ops.MaxPool: lambda op, formats, constants: _pooled(op, formats[0], Netlist.max, lambda net, largest: largest),
    ops.SumPool: _sum_pool_netlist,
    ops.Reshape: _copy_netlist,
    ops.Gather: _gather_netlist,
    ops.Lookup: _lookup_netlist,
    ops.Softmax: _softmax_netlist,
    ops.TruthTable: _truth_table_netlist,
    ops.Scan: _scan_netlist,
}
"""Type of op -> the netlist of one position: op, formats of what it reads, constants of the position: int64 (n,)."""
