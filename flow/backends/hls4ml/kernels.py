"""The ops that `nnet_flow.h` computes, as calls and configurations: every width and table that a kernel reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow.backends.hls4ml.dialects import DIALECTS, spelled
from flow.cost.cost_rules import cheapest_table
from flow.cost.schedules import gather_places, gather_schedule, pool_schedule
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Cast, Codes, reciprocal
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import common_grid, exact_result
from flow.ir.tables import searches
from flow.target import Target

CONFIG = "@config@"
"""Stands in a configuration where its name goes, which hls4ml numbers."""
LITERAL_BITS = 63
"""Constants are `long long`."""
OUTPUT_FIRST = ("merge_codes", "gather_codes", "truth_table_codes")
"""Kernels of any number of inputs, which come behind the output."""
MAX_INPUTS = 62
"""A step of a joining stream has a bit for each input and one for the output."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of `nnet_flow.h` for one op.

    Attributes:
        function: its name, without a namespace.
        config: C++ text of its configuration, `CONFIG` where its name goes.
        bits: width of the widest type that it computes in, besides those of its inputs and its output.
    """

    function: str
    config: str
    bits: int


@dataclass(slots=True)
class _Config:
    """A configuration under construction: members in order, and the tables defined behind it.

    Members are given by name; `raise_` is `raise`, which Python keeps for itself.

    Attributes:
        backend: in whose types the body of a scan is written.
    """

    backend: str
    members: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    def constant(self, **constants: int) -> None:
        for name, value in constants.items():
            kind, suffix = ("int", "") if -(2**31) < value < 2**31 else ("long long", "LL")
            self.members.append(f"static const {kind} {name.rstrip('_')} = {value}{suffix};")

    def size(self, **sizes: int) -> None:
        self.members += [f"static const unsigned {name} = {value};" for name, value in sizes.items()]

    def width(self, **widths: int) -> None:
        self.widths += widths.values()
        self.size(**widths)

    def alias(self, name: str, kind: str) -> None:
        self.members.append(f"typedef nnet::flow::{kind} {name};")

    def table(self, **tables: Iterable[int]) -> None:
        for name, values in tables.items():
            numbers = [int(value) for value in values]
            wide = max(max(numbers), -min(numbers)) >= 2**31
            kind, suffix = ("long long", "LL") if wide else ("int", "")
            array, listed = f"{name.rstrip('_')}[{len(numbers)}]", ", ".join(f"{number}{suffix}" for number in numbers)
            self.members.append(f"static const {kind} {array};")
            self.tables.append(f"const {kind} {CONFIG}::{array} = {{{listed}}};")

    def text(self) -> str:
        body = "".join(f"    {member}\n" for member in self.members)
        return f"struct {CONFIG} {{\n{body}}};\n" + "".join(f"{table}\n" for table in self.tables)

    def nest(self, name: str, inner: _Config) -> None:
        """Add another configuration as a member."""
        lines = [f"struct {name} {{", *(f"    {member}" for member in inner.members), "};"]
        self.members += [line.replace(CONFIG, f"{CONFIG}::{name}") for line in lines]
        self.tables += [table.replace(CONFIG, f"{CONFIG}::{name}") for table in inner.tables]
        self.widths += inner.widths


Fill = Callable[..., None]
"""Fills in what the configuration of an op's kernel says, from that, the op, the graph, and whether it streams."""


def kernel(op: Op, graph: IntGraph, target: Target) -> Kernel:
    """Return the kernel of an op that hls4ml does not compute.

    Raises:
        UnsupportedError: a stream joins too many inputs, or a division needs constants that are too wide.
    """
    function, fill = KERNELS[type(op)]
    config = _Config(target.backend)
    fill(config, op, graph, target.streams)
    return Kernel(function, config.text(), max(config.widths, default=0))


def _refusal(op: Op, graph: IntGraph, why: str, remedy: str) -> UnsupportedError:
    return UnsupportedError(f"op '{op.name}' {why}", named=op.name, model=graph.name, remedy=remedy)


def bits_of(*codes: int) -> int:
    """Return the bits of a signed integer that holds all of some codes."""
    return max(max(code, -code - 1).bit_length() for code in codes) + 1


def _cast(config: _Config, op: Op, graph: IntGraph, *held: int) -> None:
    """Add the type of the exact result, which also holds the codes `held`, and the cast."""
    exact = exact_result(op, *(source.format for source in graph.sources(op)))
    rounded = exact.frac_bits - op.format.frac_bits + 2  # ap_fixed rounds by bits that the exact result must have
    config.width(exact_bits=max(bits_of(exact.low, exact.high, *held), rounded))
    if op.cast.divisor == 1:
        config.constant(exact_frac=exact.frac_bits)
        config.alias("cast", f"shift_cast<{CONFIG}>")
        return
    raised = op.format.frac_bits - exact.frac_bits
    left = max(raised, 0)
    division = divide(exact.low << left, exact.high << left, op.cast.divisor << max(-raised, 0))
    if max(division.reciprocal, division.denominator).bit_length() > LITERAL_BITS:
        why = f"divides by {op.cast.divisor}, which takes a constant of more than {LITERAL_BITS} bits"
        raise _refusal(op, graph, why, "quantize its input to fewer bits")
    config.constant(numerator_shift=left, denominator=division.denominator, offset=division.offset)
    config.constant(reciprocal=division.reciprocal, product_shift=division.shift)
    config.width(numerator_bits=division.numerator_bits, reciprocal_bits=division.reciprocal.bit_length() + 1)
    config.width(product_bits=division.numerator_bits + division.reciprocal.bit_length() + 1)
    config.members.append(f"static const nnet::flow::rounding_mode rounding = nnet::flow::{op.cast.rounding.name};")
    config.alias("cast", f"divide_cast<{CONFIG}>")


@dataclass(frozen=True, slots=True)
class Division:
    """A division by a constant as a multiplication.

    For every n in the range it was made for: `n // denominator == ((n + offset * denominator) * reciprocal >> shift) -
    offset`; `numerator_bits` hold every n, the shifted n and twice the denominator.
    """

    denominator: int
    offset: int
    reciprocal: int
    shift: int
    numerator_bits: int


def divide(low: int, high: int, denominator: int) -> Division:
    """Return how to divide integers from `low` to `high`."""
    offset, factor, shift = reciprocal(low, high, denominator)
    return Division(denominator, offset, factor, shift, bits_of(low, high + offset * denominator, 2 * denominator))


def _map(config: _Config, op: Op, function: str) -> None:
    config.size(n_elem=math.prod(op.shape))
    config.alias("operation", f"{function}<{CONFIG}>")


def _requantize(config: _Config, op: Op, graph: IntGraph, stream: bool) -> None:
    _map(config, op, "requantize")
    _cast(config, op, graph)


def _relu(config: _Config, op: ops.Relu, graph: IntGraph, stream: bool) -> None:
    x = graph.sources(op)[0].format
    limit = x.max_code if op.limit is None else op.limit
    _map(config, op, "relu")
    config.constant(limit=limit)
    _cast(config, op, graph, x.min_code, x.max_code, limit)


def _leaky_relu(config: _Config, op: ops.LeakyRelu, graph: IntGraph, stream: bool) -> None:
    x = graph.sources(op)[0].format
    raised, shift = exact_result(op, x).shifts
    period = _period(np.broadcast_to(op.slope.codes << shift, op.shape))
    _map(config, op, "leaky_relu")
    config.constant(raise_=raised)
    config.size(n_slope=len(period))
    config.width(factor_bits=bits_of(*period))
    config.table(slope=period)
    _cast(config, op, graph, x.min_code, x.max_code)


def _period(values: Codes) -> list[int]:
    """Return the shortest run of trailing axes that all values repeat."""
    flat = values.reshape(-1)
    for axis in range(values.ndim, -1, -1):
        run = math.prod(values.shape[axis:])
        if (flat.reshape(-1, run) == flat[:run]).all():
            return [int(value) for value in flat[:run]]
    raise AssertionError("all axes together repeat once")


def _batchnorm(config: _Config, op: ops.BatchNorm, graph: IntGraph, stream: bool) -> None:
    x = graph.sources(op)[0].format
    shifts = exact_result(op, x).shifts
    scale, offset = op.scale.codes << shifts[0], op.offset.codes << shifts[1]
    _map(config, op, "scale_and_offset")
    config.size(n_chan=len(scale))
    config.width(factor_bits=bits_of(*scale.tolist()))
    config.table(scale=scale, offset=offset)
    _cast(config, op, graph, x.min_code, x.max_code, *offset.tolist())


def _lookup(config: _Config, op: ops.Lookup, graph: IntGraph, stream: bool) -> None:
    x = graph.sources(op)[0].format
    table = cheapest_table(op, x.width)
    if table is not None:
        _map(config, op, "clamped_table")
        config.constant(first=table.first, last=table.first + len(table.values) - 1)
        config.size(shift=table.shift)
        config.table(values=table.values)
    elif searches(op, x):
        channels = np.atleast_2d(op.starts), np.atleast_2d(op.values)
        runs = 1 << (op.starts.shape[-1] - 1).bit_length()
        starts, values = (np.pad(each, ((0, 0), (0, runs - each.shape[1])), "edge") for each in channels)
        _map(config, op, "search")
        config.size(n_chan=len(starts), n_runs=runs)
        config.table(starts=starts.reshape(-1), values=values.reshape(-1))
    else:
        _map(config, op, "runs")
        config.size(n_runs=len(op.starts))
        config.table(starts=op.starts, values=op.values)


def _merge(config: _Config, op: ops.Merge, graph: IntGraph, stream: bool) -> None:
    formats = [source.format for source in graph.sources(op)]
    config.size(n_elem=math.prod(op.shape))
    config.alias("operation", op.function)
    config.table(raise_=exact_result(op, *formats).shifts)
    # products are exact on the sum of the grids, without a shift
    held = [(x.min_code, x.max_code) for x in formats]
    if op.function != "multiply":
        held = [(x.low, x.high) for x in common_grid(formats)]
    _cast(config, op, graph, *(code for ends in held for code in ends))


def _gather(config: _Config, op: ops.Gather, graph: IntGraph, stream: bool) -> None:
    shapes = [source.shape for source in graph.sources(op)]
    source, place = gather_places(op.index, shapes)
    config.size(n_elem=op.index.size)
    if not stream:
        config.table(source=source, place=place)
        return
    if len(shapes) > MAX_INPUTS:
        remedy = f"a stream joins {MAX_INPUTS} at most: join them in two steps, or use io_parallel"
        raise _refusal(op, graph, f"joins {len(shapes)} inputs", remedy)
    sizes = [shape[-1] for shape in shapes]
    words = [math.prod(shape[:-1]) for shape in shapes]
    schedule = gather_schedule(source, place, op.shape[-1], sizes, words)
    config.size(n_input=len(shapes), n_rows=sum(schedule.depths), n_column=max(sizes), n_step=len(schedule.steps))
    config.table(first_row=np.cumsum([0, *schedule.depths[:-1]]), n_row=schedule.depths, step=schedule.steps)
    config.table(row=schedule.row, column=schedule.column)


def _truth_table(config: _Config, op: ops.TruthTable, graph: IntGraph, stream: bool) -> None:
    shapes = [source.shape for source in graph.sources(op)]
    source, place = gather_places(op.wires, shapes)
    config.size(n_elem=math.prod(op.shape), n_bit=op.wires.shape[-1])
    config.table(source=source, place=place, bit_of_code=op.bits.reshape(-1), values=op.values.reshape(-1))
    if stream:
        words = [math.prod(shape[:-1]) for shape in shapes]
        config.size(n_turn=max(words))
        config.table(n_word=words)


def _pool(config: _Config, op: ops.Pool, graph: IntGraph, stream: bool) -> None:
    source = graph.sources(op)[0]
    pixels = op.window.places(source.shape)
    if (pixels < 0).all(axis=1).any():
        raise _refusal(op, graph, "has a window of padding only", "use less padding than the window is wide")
    config.size(n_in=math.prod(source.shape[:-1]), n_out=len(pixels), n_chan=op.shape[-1])
    if stream:
        schedule = pool_schedule(pixels, math.prod(source.shape[:-1]))
        config.size(n_row=schedule.depth, n_step=len(schedule.steps), n_target=schedule.targets.shape[1])
        config.table(step=schedule.steps, target=schedule.targets.reshape(-1))
    else:
        config.size(n_window=pixels.shape[1])
        config.table(pixel=pixels.reshape(-1))


def _max_pool(config: _Config, op: ops.MaxPool, graph: IntGraph, stream: bool) -> None:
    _pool(config, op, graph, stream)
    config.alias("operation", f"largest<{CONFIG}>")
    _cast(config, op, graph)


def _sum_pool(config: _Config, op: ops.SumPool, graph: IntGraph, stream: bool) -> None:
    x = graph.sources(op)[0].format
    _pool(config, op, graph, stream)
    config.alias("operation", f"weighted_sum<{CONFIG}>")
    config.width(factor_bits=bits_of(*op.weight.codes.reshape(-1).tolist()))
    config.table(weight=op.weight.codes.reshape(-1))
    _cast(config, op, graph, x.min_code, x.max_code)


def _softmax(config: _Config, op: ops.Softmax, graph: IntGraph, stream: bool) -> None:
    largest, channels, shift = int(op.exponentials.max()), op.shape[-1], op.format.frac_bits + 1
    if shift < 0:
        raise _refusal(op, graph, "has outputs coarser than 2", "use at least 0 fraction bits")
    config.size(n_elem=math.prod(op.shape), n_chan=channels)
    config.width(exact_bits=max((largest << shift) + channels * largest, op.format.max_code).bit_length() + 1)
    config.constant(frac_bits=op.format.frac_bits, max_code=op.format.max_code)
    config.table(exponentials=op.exponentials)


def _dense(config: _Config, op: ops.Dense, graph: IntGraph, stream: bool) -> None:
    """Fill in a matrix product in the body of a scan; others are hls4ml's."""
    (x,) = (source.format for source in graph.sources(op))
    shifts = exact_result(op, x).shifts
    weight, bias = op.weight.codes << shifts[0], op.bias.codes << shifts[1]
    config.size(n_in=len(weight), n_out=len(bias))
    config.width(factor_bits=bits_of(*weight.reshape(-1).tolist()))
    config.table(weight=weight.reshape(-1), bias=bias)
    _cast(config, op, graph, x.min_code, x.max_code, *bias.tolist())


def _scan(config: _Config, op: ops.Scan, graph: IntGraph, stream: bool) -> None:
    """Fill in the function of a row: kernels on arrays, one after another, between codes of states."""
    body = body_of(op)
    row, *states = body.inputs
    config.size(n_rows=op.rows, n_in=math.prod(row.shape), n_out=op.shape[-1])
    config.size(n_state=sum(math.prod(state.shape) for state in states))
    config.width(state_bits=1 + max(state.format.width for state in states))
    config.members.append(f"static const bool every_row = {str(op.every_row).lower()};")
    lines = [] if DIALECTS[config.backend].pragmas else ["#pragma HLS INLINE"]
    lines += [f"x_T *of_{row.name} = row;", *_held(states, [state.name for state in states], "load_codes")]
    lines += [line for state in states for line in _partitioned(config.backend, f"of_{state.name}")]
    for each in body.ops[1:]:
        how = Cast(each.format) if isinstance(each, ops.Input) else each.cast
        config.members.append(f"typedef {spelled(config.backend, how)} t_{each.name};")
        if each in states:
            continue
        inner = _Config(config.backend)
        function, fill = IN_BODY[type(each)] if type(each) in IN_BODY else KERNELS[type(each)]
        fill(inner, each, body, False)
        config.nest(f"c_{each.name}", inner)
        given, read = f"of_{each.name}", [f"of_{name}" for name in each.inputs]
        x = "x_T" if each.inputs[0] == row.name else f"t_{each.inputs[0]}"
        types, arguments = f"{x}, t_{each.name}", ", ".join((*read, given))
        if function in OUTPUT_FIRST:
            types, arguments = f"t_{each.name}", ", ".join((given, *read))
        lines += [f"t_{each.name} {given}[{math.prod(each.shape)}];", *_partitioned(config.backend, given)]
        lines += [f"nnet::{function}<{types}, c_{each.name}>({arguments});"]
    lines += [f"nnet::copy_codes<t_{op.returns[0]}, y_T, n_out, 1>(of_{op.returns[0]}, result);"]
    lines += _held(states, op.returns[1:], "store_codes")
    config.members += [
        "template <class x_T, class y_T>",
        "static void apply(x_T *row, nnet::flow::sint<state_bits> *held, y_T *result) {",
        *(f"    {line}" for line in lines),
        "}",
    ]


def _partitioned(backend: str, array: str) -> list[str]:
    """Return the pragma that makes registers of an array, where a tool takes it."""
    return [] if DIALECTS[backend].pragmas else [f"#pragma HLS ARRAY_PARTITION variable={array} complete"]


def _held(states: Sequence[Op], names: Sequence[str], function: str) -> list[str]:
    """Return the lines that bring codes of states, one behind the other, into arrays, or those of ops out of them."""
    lines, start = [], 0
    for state, name in zip(states, names, strict=True):
        size = math.prod(state.shape)
        if function == "load_codes":
            lines.append(f"t_{name} of_{name}[{size}];")
        lines.append(f"nnet::flow::{function}<{size}>(held + {start}, of_{name});")
        start += size
    return lines


KERNELS: Mapping[type[Op], tuple[str, Fill]] = {
    ops.BatchNorm: ("map_codes", _batchnorm),
    ops.Relu: ("map_codes", _relu),
    ops.LeakyRelu: ("map_codes", _leaky_relu),
    ops.Requantize: ("map_codes", _requantize),
    ops.Merge: ("merge_codes", _merge),
    ops.MaxPool: ("pool_codes", _max_pool),
    ops.SumPool: ("pool_codes", _sum_pool),
    ops.Gather: ("gather_codes", _gather),
    ops.Lookup: ("map_codes", _lookup),
    ops.TruthTable: ("truth_table_codes", _truth_table),
    ops.Softmax: ("softmax_codes", _softmax),
    ops.Scan: ("scan_codes", _scan),
}
"""The kernel that computes an op, and what its configuration says."""
IN_BODY: Mapping[type[Op], tuple[str, Fill]] = {ops.Dense: ("dense_codes", _dense)}
"""What hls4ml computes, but not in the body of a scan."""
WITHOUT_KERNEL = (ops.Input, ops.Dense, ops.Conv, ops.Reshape)
"""hls4ml computes them in every form."""
