"""Count what ops are by structure on a target, from its weights, widths and the loops of the generated code.

What no tool was asked about: `flow.cost.hls` turns it into estimates, with truth where there is some. What one adder,
shifter or memory takes stands in `cost.cost_rules`, with sources; here is which of them each op has, and how ops follow
each other. A matrix product has the hardware of one output position in either io_type (`cost.matmul_costs`). Other ops
have that of every position in io_parallel, and of one word (all channels of a position) in io_stream.
docs/estimates.md tells it as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from flow.cost import cost_rules as rules
from flow.cost.cost_rules import LEVEL_NS, Cost, Logic
from flow.cost.matmul_costs import line_buffer, matmul_cost
from flow.cost.schedules import gather_places, gather_schedule
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import Range, common_grid, exact_result
from flow.ir.tables import searches
from flow.parts import Part
from flow.target import Target


def op_costs(graph: IntGraph, target: Target, part: Part) -> dict[str, Cost]:
    """Return what each op is by structure, in dataflow order, without FIFOs.

    Args:
        graph: after the passes; ops that were not fused are counted as they stand.
        target: io_type, strategy, reuse factor and clock.
        part: its table of flow.parts.

    Raises:
        UnsupportedError: an accumulator would need more than 62 bits, a stream is read by nothing, or the family of
            the part has no estimate.
    """
    if part.family not in LEVEL_NS:
        raise UnsupportedError(f"there is no static estimate for family {part.family!r}")
    costing = [op for op in graph if type(op) not in FREE]
    return {op.name: COSTS[type(op)](op, graph.sources(op), target, part) for op in costing}


class Timed(Protocol):
    """What is known of an op in a stream: its cycles for a whole sample, and those of its pipeline alone."""

    @property
    def latency_cycles(self) -> int: ...

    @property
    def depth(self) -> int: ...


def through_stream(graph: IntGraph, timed: Mapping[str, Timed]) -> int:
    """Return a sample's cycles through a stream: those of the slowest op, and the pipelines before and behind it."""
    through = longest_paths(graph, {name: each.depth for name, each in timed.items()})
    return max((each.latency_cycles + through[name] - each.depth for name, each in timed.items()), default=0)


def longest_paths(graph: IntGraph, cycles: Mapping[str, int]) -> dict[str, int]:
    """Return, per op, the cycles of all ops on the longest path through it; `cycles` leaves out the inputs."""
    until: dict[str, int] = {}
    for op in graph.ops:
        until[op.name] = cycles.get(op.name, 0) + max((until[name] for name in op.inputs), default=0)
    behind = dict.fromkeys(until, 0)
    for op in reversed(graph.ops):
        for name in op.inputs:
            behind[name] = max(behind[name], behind[op.name] + cycles[op.name])
    return {name: until[name] + behind[name] for name in cycles}


# -- ops


def _conv(op: ops.Conv, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    (x,) = inputs
    return matmul_cost(op, x.format, op.window.padded(x.shape), line_buffer(op.window, x), target, part)


def _maxpool(op: ops.MaxPool, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    """A tree of comparators per output channel: for every position at once, or for one position in a stream."""
    (x,), stream = inputs, target.io_type == "io_stream"
    window = op.window.pixels
    copies = op.shape[-1] if stream else math.prod(op.shape)
    depth = max(1, math.ceil(2 * rules.tree_levels(window) / rules.levels_per_stage(target, part)))
    interval = max(math.prod(shape[:-1]) for shape in (op.shape, x.shape)) if stream else target.reuse(op.name)
    return Cost(
        logic_lut=copies * (window - 1) * rules.comparator_luts(op.format.width),
        memory_lut=line_buffer(op.window, x) if stream else 0,
        register_bits=copies * op.format.width * (1 + window * stream),
        depth=depth,
        initiation_interval_cycles=interval,
        latency_cycles=interval - 1 + depth,
    )


def _sumpool(op: ops.SumPool, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    """A tree of adders per output channel, as `_maxpool`; what it holds of a stream is counted besides."""
    cost, x = _pipelined(_window_sums, op, inputs, target, part), inputs[0]
    if target.io_type == "io_parallel":
        return cost
    window_bits = op.window.pixels * x.shape[-1] * x.format.width
    return replace(
        cost, register_bits=cost.register_bits + window_bits, memory_lut=cost.memory_lut + line_buffer(op.window, x)
    )


def _reshape(op: ops.Reshape, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    """Wires between arrays; in a stream codes move into words of another size, as many a cycle as divide both."""
    word, read = op.shape[-1], inputs[0].shape[-1]
    if target.io_type == "io_parallel" or read == word:
        return Cost()
    turns = math.prod(op.shape) // math.gcd(read, word)
    return Cost(register_bits=word * op.format.width, depth=1, initiation_interval_cycles=turns, latency_cycles=turns)


def _gather(op: ops.Gather, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    """Wires between arrays; in a stream words wait from when they come to when the last result that needs them goes.

    Each code of a word is then chosen among the places in a word from which it comes at any position, and a zero.
    """
    if target.io_type == "io_parallel":
        return Cost()
    sizes, words = [x.shape[-1] for x in inputs], [math.prod(x.shape[:-1]) for x in inputs]
    source, place = gather_places(op.index, [x.shape for x in inputs])
    schedule = gather_schedule(source, place, op.shape[-1], sizes, words)
    waiting = [
        rules.fifo_memory(x.shape[-1] * x.format.width, depth) for x, depth in zip(inputs, schedule.depths, strict=True)
    ]
    origins = np.where(source < 0, -1, source * max(sizes) + schedule.column).reshape(-1, op.shape[-1])
    choices = [len(np.unique(column)) for column in origins.T]
    return Cost(
        register_bits=op.shape[-1] * op.format.width,
        logic_lut=sum(rules.multiplexer_luts(count, op.format.width) for count in choices),
        memory_lut=sum(luts for _, luts in waiting),
        bram_18k=sum(bram for bram, _ in waiting),
        depth=1,
        initiation_interval_cycles=len(schedule.steps),
        latency_cycles=len(schedule.steps),
    )


# -- ops that take new codes each cycle: all of them, or in a stream one word


def _pipelined(logic_of: Callable[..., Logic], op: Op, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    """Return what an op takes whose logic, a cast behind it, is cut into pipeline stages.

    Args:
        logic_of: gives the logic from the codes of the inputs to the exact results.
        op, inputs, target, part: as of `COSTS`.
    """
    formats = [source.format for source in inputs]
    exact = exact_result(op, *formats)
    codes = _positions(op, target) * op.shape[-1]
    logic = logic_of(op, exact, target, part, *formats) + codes * _cast(op, exact, part)
    turns = max(math.prod(shape[:-1]) for shape in (op.shape, inputs[0].shape)) if target.io_type == "io_stream" else 1
    depth = max(1, math.ceil(logic.levels / rules.levels_per_stage(target, part))) + logic.stages
    counts = ("adders", "adder_bits", "multipliers", "shifts", "memory_lut", "dsp", "bram_18k")
    return Cost(
        **{name: getattr(logic, name) for name in counts},
        logic_lut=logic.lut,
        register_bits=codes * op.format.width * depth,
        depth=depth,
        initiation_interval_cycles=turns,
        latency_cycles=turns - 1 + depth,
    )


def _batchnorm(op: ops.BatchNorm, exact: Range, target: Target, part: Part, x: FixedFormat) -> Logic:
    sums = int(np.count_nonzero(op.offset.codes)) * _positions(op, target) * rules.adder(exact.format.width)
    return _factors(op, op.scale.codes << exact.shifts[0], x.width, target, part) + sums


def _relu(op: ops.Relu, exact: Range, target: Target, part: Part, x: FixedFormat) -> Logic:
    below = Logic(lut=x.width, levels=1) if x.signed else Logic()
    above = Logic() if op.limit is None or op.limit >= x.max_code else rules.comparators(x.width, 1)
    return _positions(op, target) * op.shape[-1] * (below + above)


def _leaky_relu(op: ops.LeakyRelu, exact: Range, target: Target, part: Part, x: FixedFormat) -> Logic:
    if not x.signed:
        return Logic()
    choice = _positions(op, target) * op.shape[-1] * Logic(lut=exact.format.width, levels=1)
    return _factors(op, op.slope.codes << exact.shifts[1], x.width, target, part) + choice


def _merge(op: ops.Merge, exact: Range, target: Target, part: Part, *inputs: FixedFormat) -> Logic:
    return _positions(op, target) * op.shape[-1] * _merged(op, inputs, part)


def _window_sums(op: ops.SumPool, exact: Range, target: Target, part: Part, x: FixedFormat) -> Logic:
    """Return the trees of the windows, of real pixels only in io_parallel, and the weights of their positions."""
    counts = op.window.counts(op.shape[:-1])
    built = np.full(1, op.window.pixels) if target.io_type == "io_stream" else counts.reshape(-1)
    largest = int(counts.max())
    total_bits = rules.code_bits(largest * x.min_code, largest * x.max_code)
    sizes = zip(*(values.tolist() for values in np.unique(built, return_counts=True)), strict=True)
    trees = rules.beside(*(number * op.shape[-1] * rules.adders(size, x.width, total_bits) for size, number in sizes))
    if (op.weight.codes == 1).all():
        return trees
    return trees + _factors(op, op.weight.codes[..., np.newaxis], total_bits, target, part)


def _lookup(op: ops.Lookup, exact: Range, target: Target, part: Part, x: FixedFormat) -> Logic:
    codes, table = _positions(op, target) * op.shape[-1], rules.cheapest_table(op, x.width)
    if table is None:
        compared = rules.search if searches(op, x) else rules.comparisons
        return codes * compared(x.width, op.starts.shape[-1], op.format.width)
    return codes * rules.lookup_table(x.width - table.shift, len(table.values), op.format.width)


def _truth_table(op: ops.TruthTable, exact: Range, target: Target, part: Part, *inputs: FixedFormat) -> Logic:
    entries = op.values.shape[-1]
    return math.prod(op.shape) * rules.lookup_table(op.wires.shape[-1], entries, op.format.width)


def _softmax(op: ops.Softmax, exact: Range, target: Target, part: Part, x: FixedFormat) -> Logic:
    """Return, of each row: the largest code, a table of exponentials per element, their sum, and a division each."""
    channels, bits = op.shape[-1], int(op.exponentials.max()).bit_length()
    total_bits = bits + rules.tree_levels(channels)
    bram, luts = rules.weight_memory(bits, len(op.exponentials))
    exponential = rules.adder(x.width + 1) + Logic(memory_lut=luts, bram_18k=bram, levels=1)
    quotient = rules.adder(total_bits) + rules.divider(bits + op.format.frac_bits + 1, total_bits)
    clamp = Logic(lut=op.format.width, levels=1)
    return _positions(op, target) * (
        rules.comparators(x.width, channels - 1)
        + channels * exponential
        + rules.adders(channels, bits, total_bits)
        + channels * (quotient + clamp)
    )


def _scan(op: ops.Scan, inputs: Sequence[Op], target: Target, part: Part) -> Cost:
    """Return the hardware of one row, on arrays; a row begins when the states of the one before are there."""
    body, arrays = body_of(op), replace(target, io_type="io_parallel", reuse_factors=())
    costs = op_costs(body, arrays, part)
    counts = (name for name in Cost.__dataclass_fields__ if not name.endswith("_cycles"))
    row = Cost(**{name: sum(getattr(cost, name) for cost in costs.values()) for name in counts})
    latencies = {name: cost.latency_cycles for name, cost in costs.items()}
    depth = max(1, *longest_paths(body, latencies).values())
    states = sum(math.prod(state.shape) * state.format.width for state in body.inputs[1:])
    cycles = op.rows * depth
    return replace(
        row,
        register_bits=row.register_bits + states,
        depth=depth,
        initiation_interval_cycles=cycles,
        latency_cycles=cycles,
    )


COSTS: Mapping[type[Op], Callable[..., Cost]] = {
    ops.Dense: lambda op, inputs, *on: matmul_cost(op, inputs[0].format, inputs[0].shape, 0, *on),
    ops.Conv: _conv,
    ops.BatchNorm: partial(_pipelined, _batchnorm),
    ops.Relu: partial(_pipelined, _relu),
    ops.LeakyRelu: partial(_pipelined, _leaky_relu),
    ops.Requantize: partial(_pipelined, lambda *cast: Logic()),
    ops.Merge: partial(_pipelined, _merge),
    ops.MaxPool: _maxpool,
    ops.SumPool: _sumpool,
    ops.Reshape: _reshape,
    ops.Gather: _gather,
    ops.Lookup: partial(_pipelined, _lookup),
    ops.TruthTable: partial(_pipelined, _truth_table),
    ops.Softmax: partial(_pipelined, _softmax),
    ops.Scan: _scan,
}
"""What an op takes, from the op, the ops that it reads, in order, the target (io_type, strategy, reuse factor, clock),
and the part, which says which DSP slices there are and how fast logic is."""
FREE: tuple[type[Op], ...] = (ops.Input,)
"""Ops that take nothing: ports."""


# -- pieces of ops


def _positions(op: Op, target: Target) -> int:
    """Return how many positions of the output have hardware of their own."""
    return 1 if target.io_type == "io_stream" else math.prod(op.shape[:-1])


def _cast(op: Op, exact: Range, part: Part) -> Logic:
    """Return the cast of one exact result, with its division by the odd part of the divisor."""
    twos = (op.cast.divisor & -op.cast.divisor).bit_length() - 1
    odd, shift = op.cast.divisor >> twos, exact.frac_bits + twos - op.format.frac_bits
    if odd == 1:
        luts = rules.cast_luts(exact.format.width, exact.low < 0, shift, op)
        return Logic(lut=luts, levels=2 * bool(luts))
    raised = max(-shift, 0)
    return rules.constant_division(exact.low << raised, exact.high << raised, odd << max(shift, 0), op, part)


def _factors(op: Op, factor: Codes, bits: int, target: Target, part: Part) -> Logic:
    """Return products of codes of `bits` by constants, which a stream stores if positions differ in theirs.

    Args:
        factor: int64, its shape the end of the op's.
    """
    rows = np.broadcast_to(factor, op.shape).reshape(-1, op.shape[-1])
    if target.io_type == "io_stream":
        if (rows != rows[0]).any():
            factor_bits = rules.code_bits(int(rows.min()), int(rows.max()))
            chosen = Logic(lut=rules.multiplexer_luts(len(rows), factor_bits), levels=1)
            return op.shape[-1] * (chosen + rules.product(bits, factor_bits, part))
        rows = rows[:1]
    values, counts = np.unique(np.abs(rows), return_counts=True)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return rules.beside(*(count * rules.constant_product(bits, value, part) for value, count in pairs))


def _merged(op: ops.Merge, formats: Sequence[FixedFormat], part: Part) -> Logic:
    """Return one element: a tree of adders or comparators, or products one after another."""
    if op.function == "multiply":
        bits, logic = formats[0].width, Logic()
        for other in formats[1:]:
            logic, bits = logic + rules.product(bits, other.width, part), bits + other.width
        return logic
    ranges = common_grid(formats)
    ends = [(x.low, x.high) for x in ranges]
    if op.function in ("maximum", "minimum"):
        bits = rules.code_bits(min(low for low, _ in ends), max(high for _, high in ends))
        return rules.comparators(bits, len(formats) - 1)
    if op.function == "subtract":
        ends = [ends[0], *((-high, -low) for low, high in ends[1:])]
    low, high = np.array(ends, np.int64).T[..., np.newaxis]
    lowest = np.array([x.shifts for x in ranges], np.int64)
    adders, bits = rules.adder_tree(low, high, lowest)
    return Logic(adders=adders, adder_bits=bits, levels=rules.tree_levels(len(formats)))
