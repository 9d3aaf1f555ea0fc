"""Estimate resources and cycles of a graph on a target, from its weights, widths and hls4ml's loop structure.

A model, not a measurement. What one adder, shifter or memory takes stands in `flow.cost_rules`, with sources; here is
which of them each op has, how often, and how ops follow each other. docs/estimates.md tells it as a whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from flow.cost_rules import (
    DSP_STAGES,
    adder_tree,
    cast_luts,
    comparator_luts,
    dsp_slices,
    even_tree_bits,
    fifo_memory,
    levels_per_stage,
    lowest_bit,
    multiplexer_luts,
    multiplier_luts,
    pipeline_register_bits,
    range_bits,
    shift_register_luts,
    shifter_luts,
    signed_digits,
    takes_dsp,
    tree_levels,
    weight_memory,
)
from flow.fixed import Codes, FixedFormat
from flow.graph import BatchNorm, Conv, Input, IntGraph, MatMul, MaxPool, Op, Reshape
from flow.intervals import Accumulation, accumulation, batchnorm_on_grid
from flow.parts import Part, find_part
from flow.po2 import is_po2, split
from flow.results import ResourceReport, Resources
from flow.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one op takes; the fields of `Resources`, the counts of its detail, and how deep its pipeline is.

    Attributes:
        depth: pipeline stages from operands to result.
        logic_lut: LUTs that are neither adders nor memory (casts, multiplexers, shifters, products).
        memory_lut: LUTs used as memory or shift registers.
    """

    adders: int = 0
    adder_bits: int = 0
    multipliers: int = 0
    shifts: int = 0
    weights: int = 0
    nonzero_weights: int = 0
    weight_bits: int = 0
    register_bits: int = 0
    logic_lut: int = 0
    memory_lut: int = 0
    dsp: int = 0
    bram_18k: int = 0
    depth: int = 0
    latency_cycles: int = 0
    initiation_interval_cycles: int = 0

    def resources(self, name: str) -> Resources:
        """Return the counts as a report holds them: one LUT per adder bit, one flip-flop per register bit."""
        detail = ("multipliers", "adders", "adder_bits", "shifts", "weights", "nonzero_weights", "weight_bits")
        return Resources(
            name=name,
            lut=self.adder_bits + self.logic_lut + self.memory_lut,
            ff=self.register_bits,
            dsp=self.dsp,
            bram_18k=self.bram_18k,
            uram=0,
            latency_cycles=self.latency_cycles,
            initiation_interval_cycles=self.initiation_interval_cycles,
            detail={key: getattr(self, key) for key in (*detail, "register_bits")},
        )


def estimate(graph: IntGraph, target: Target) -> ResourceReport:
    """Return the static estimate of `graph` on `target`, per op and in all, with the capacity of the part.

    Args:
        graph: after the passes; ops that were not fused are counted as they stand.
        target: back end, io_type, strategy, reuse factor, part and clock.

    Raises:
        SpecError: the part is not in the table of flow.parts.
        UnsupportedError: an accumulator would need more than 62 bits.
    """
    part = find_part(target.part)
    costs = {op.name: _cost(op, graph[op.inputs[0]], target, part) for op in graph if not isinstance(op, Input)}
    if target.io_type == "io_stream":
        costs = {
            name: cost if graph[name] is graph.output else _with_fifo(cost, graph[name]) for name, cost in costs.items()
        }
    return ResourceReport(
        source="static",
        tool="flow static model, see docs/estimates.md",
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        total=_total(tuple(costs.values()), target).resources(graph.name),
        layers=tuple(cost.resources(name) for name, cost in costs.items()),
        capacity=part.capacity(),
    )


# -- ops


def _cost(op: Op, x: Op, target: Target, part: Part) -> Cost:
    if isinstance(op, MatMul):
        return _matmul(op, x, target, part)
    if isinstance(op, MaxPool):
        return _maxpool(op, x, target, part)
    if isinstance(op, Reshape):
        return _reshape(op, x, target)
    return _elementwise(op, x, target, part)


def _matmul(op: MatMul, x: Op, target: Target, part: Part) -> Cost:
    """Dense or convolution: the hardware of one output position, used once for each position."""
    acc = accumulation(op, x.format)
    weight = op.weight.reshape(-1, op.weight.shape[-1])
    reuse = min(target.reuse(op.name), weight.size)
    if target.strategy == "Resource" and reuse > 1:
        cost = _stored(op, weight, acc, x.format, reuse, target, part)
    else:  # a weight that is read at one address only is a constant in either strategy
        shifted = weight << acc.product_shift, op.bias << acc.bias_shift
        cost = _constant(op, *shifted, acc.frac_bits, x.format, target, part)
        cost = replace(cost, dsp=math.ceil(cost.dsp / reuse))  # hls4ml limits multipliers, not adders
    stream = target.io_type == "io_stream"
    positions = _stream_words(op, x) if stream else math.prod(op.shape[:-1])
    # with Resource, a position begins when the one before is done (nnet_conv2d_resource.h, nnet_conv2d_stream.h)
    each = reuse + (cost.depth if target.strategy == "Resource" and positions > 1 else 0)
    # a dense reads its one word when it has written the result of the one before (nnet_dense_stream.h)
    interval = reuse + cost.depth if stream and positions == 1 else positions * each
    # im2col: every word of a window is chosen among the positions (nnet_conv2d_latency.h, fill_buffer)
    window_bits = int(np.count_nonzero(weight.any(axis=1))) * x.format.width
    select = 0 if stream else multiplexer_luts(positions, window_bits)
    held_bits = window_bits + op.shape[-1] * op.format.width if stream else math.prod(op.shape) * op.format.width
    return replace(
        cost,
        weights=weight.size,
        nonzero_weights=int(np.count_nonzero(weight)),
        weight_bits=weight.size * _stored_bits(op),
        logic_lut=cost.logic_lut + select,
        memory_lut=cost.memory_lut + (_line_buffer(op, x) if stream else 0),
        register_bits=cost.register_bits + held_bits,
        initiation_interval_cycles=interval,
        latency_cycles=positions * each - 1 + cost.depth,
    )


def _constant(op: Op, weight: Codes, bias: Codes, frac_bits: int, x: FixedFormat, target: Target, part: Part) -> Cost:
    """Sums of products by constants, all at once: shifts, signed-digit adders or DSP slices, then a tree and a cast.

    Args:
        weight: int64 (n_in, channels); `bias`: int64 (channels,); both on the grid of `frac_bits`.
    """
    digits, used = signed_digits(weight), weight.any(axis=0)
    ends = np.stack([weight * x.min_code, weight * x.max_code, np.zeros_like(weight)])
    low, high, lsb = ends.min(axis=0), ends.max(axis=0), lowest_bit(weight)
    weight_bits = range_bits(np.minimum(weight, -1), np.abs(weight)) - lsb
    in_dsp = (digits > 1) & takes_dsp(x.width, weight_bits)
    extra = np.where(in_dsp, 0, np.maximum(digits - 1, 0))
    leaves = [np.vstack(pair) for pair in ((low, np.minimum(bias, 0)), (high, np.maximum(bias, 0)))]
    adders, bits = adder_tree(leaves[0][:, used], leaves[1][:, used], np.vstack([lsb, lowest_bit(bias)])[:, used])
    total_low, total_high = leaves[0].sum(axis=0), leaves[1].sum(axis=0)
    widths, terms = range_bits(total_low, total_high), (np.count_nonzero(weight, axis=0) + (bias != 0)) * used
    luts = sum(
        cast_luts(int(width), bool(negative), frac_bits - op.format.frac_bits, op)
        for width, negative in zip(widths[used], (total_low < 0)[used], strict=True)
    )
    levels = tree_levels(int(terms.max(initial=1))) + tree_levels(int(extra.max(initial=0)) + 1) + 2 * bool(luts)
    per_stage = levels_per_stage(target, part)
    return Cost(
        adders=adders + int(extra.sum()),
        adder_bits=bits + int((extra * (range_bits(low, high) - lsb)).sum()),
        multipliers=int((digits > 1).sum()),
        shifts=int((digits == 1).sum()),
        register_bits=pipeline_register_bits(terms, widths, x.width, levels, per_stage),
        logic_lut=luts,
        dsp=sum(dsp_slices(x.width, int(bits), part) for bits in weight_bits[in_dsp]),
        depth=max(1, math.ceil(levels / per_stage)) + DSP_STAGES * bool(in_dsp.any()),
    )


def _stored(
    op: MatMul, weight: Codes, acc: Accumulation, x: FixedFormat, reuse: int, target: Target, part: Part
) -> Cost:
    """Products with weights read from memory, `reuse` in turn on each unit (nnet_dense_resource.h).

    Zeros are stored and multiplied like any weight: here pruning saves nothing.
    """
    n_in, n_out = weight.shape
    units = math.ceil(weight.size / reuse)
    outputs, terms = min(n_out, units), math.ceil(units / n_out)
    acc_bits = acc.format.width
    stored_bits = _stored_bits(op)
    if is_po2(op.weight):
        span = split(op.weight).max_exponent - split(op.weight).min_exponent
        product_bits = x.width + span + 1
        lut_each, dsp_each = shifter_luts(span, product_bits), 0
    else:
        product_bits = x.width + stored_bits
        in_dsp = bool(takes_dsp(x.width, np.array(stored_bits)))
        lut_each = 0 if in_dsp else multiplier_luts(x.width, stored_bits)
        dsp_each = dsp_slices(x.width, stored_bits, part) if in_dsp else 0
    bram, memory_lut = weight_memory(units * stored_bits, reuse)
    select = math.ceil(n_in / reuse) * multiplexer_luts(min(reuse, n_in), x.width)
    casts = [
        cast_luts(bits, low < 0, acc.frac_bits - op.format.frac_bits, op)
        for bits, low in zip(op.channel_bits or acc.channel_bits, acc.low.tolist(), strict=True)
    ]
    levels = 3 + tree_levels(terms) + 2 * any(casts)  # select, multiply, tree, accumulate, cast
    per_stage = levels_per_stage(target, part)
    each = np.full(outputs, terms, np.int64)
    return Cost(
        adders=outputs * terms,
        adder_bits=outputs * (even_tree_bits(terms, product_bits, acc_bits) + acc_bits),
        multipliers=0 if is_po2(op.weight) else units,
        shifts=units if is_po2(op.weight) else 0,
        register_bits=n_out * acc_bits
        + pipeline_register_bits(each, np.full(outputs, acc_bits), product_bits, levels, per_stage),
        logic_lut=units * lut_each + select + sum(casts),
        memory_lut=memory_lut,
        bram_18k=bram,
        dsp=units * dsp_each,
        depth=math.ceil(levels / per_stage) + DSP_STAGES * bool(dsp_each),
    )


def _stored_bits(op: MatMul) -> int:
    """Return the bits of one weight in memory: sign, zero flag and exponent of a power of two, else its format."""
    return split(op.weight).stored_bits if is_po2(op.weight) else op.weight_format.width


def _maxpool(op: MaxPool, x: Op, target: Target, part: Part) -> Cost:
    """A tree of comparators per output channel: for every position at once, or for one position in a stream."""
    stream = target.io_type == "io_stream"
    window = math.prod(op.window)
    copies = op.shape[-1] if stream else math.prod(op.shape)
    depth = max(1, math.ceil(2 * tree_levels(window) / levels_per_stage(target, part)))
    interval = _stream_words(op, x) if stream else target.reuse(op.name)
    return Cost(
        logic_lut=copies * (window - 1) * comparator_luts(op.format.width),
        memory_lut=_line_buffer(op, x) if stream else 0,
        register_bits=copies * op.format.width * (1 + window * stream),
        depth=depth,
        initiation_interval_cycles=interval,
        latency_cycles=interval - 1 + depth,
    )


def _reshape(op: Reshape, x: Op, target: Target) -> Cost:
    """Wires between arrays; in a stream the words of an image are gathered into one (nnet_stream.h, repack_stream)."""
    words = math.prod(x.shape[:-1])
    if target.io_type == "io_parallel" or words == 1:
        return Cost()
    return Cost(
        register_bits=math.prod(op.shape) * op.format.width,
        depth=1,
        initiation_interval_cycles=words,
        latency_cycles=words,
    )


def _elementwise(op: Op, x: Op, target: Target, part: Part) -> Cost:
    """BatchNorm, Relu or Requantize that was not fused: one product and sum, or one cast, per element."""
    if isinstance(op, BatchNorm):
        scale, offset, frac_bits = batchnorm_on_grid(op, x.format)
    else:
        scale = np.ones(op.shape[-1], np.int64)
        offset, frac_bits = np.zeros_like(scale), x.format.frac_bits
    one = _constant(op, scale[np.newaxis], offset, frac_bits, x.format, target, part)
    positions = math.prod(op.shape[:-1])
    copies, words = (1, positions) if target.io_type == "io_stream" else (positions, 1)
    names = ("adders", "adder_bits", "multipliers", "shifts", "register_bits", "logic_lut", "dsp")
    cost = replace(one, **{name: copies * getattr(one, name) for name in names})
    return replace(
        cost,
        shifts=cost.shifts if isinstance(op, BatchNorm) else 0,
        register_bits=cost.register_bits + copies * op.shape[-1] * op.format.width,
        initiation_interval_cycles=words * target.reuse(op.name),
        latency_cycles=words * target.reuse(op.name) - 1 + cost.depth,
    )


# -- composition


def _total(costs: tuple[Cost, ...], target: Target) -> Cost:
    """Sum the counts; the slowest op sets the interval.

    Arrays (io_parallel) are handed on whole: latencies add up. Streams overlap: the slowest op, and the pipelines of
    the others, since each begins with the first word of the one before.
    """
    counts = (name for name in Cost.__dataclass_fields__ if not name.endswith("_cycles"))
    total = Cost(**{name: sum(getattr(cost, name) for cost in costs) for name in counts})
    slowest = max(costs, key=lambda cost: cost.latency_cycles, default=Cost())
    stream = target.io_type == "io_stream"
    return replace(
        total,
        latency_cycles=slowest.latency_cycles + total.depth - slowest.depth
        if stream
        else sum(cost.latency_cycles for cost in costs),
        initiation_interval_cycles=max((cost.initiation_interval_cycles for cost in costs), default=0),
    )


def _with_fifo(cost: Cost, op: Op) -> Cost:
    """Add the FIFO behind an op: hls4ml makes it as deep as the tensor has words, one word per position."""
    bram, luts = fifo_memory(op.shape[-1] * op.format.width, math.prod(op.shape[:-1]))
    return replace(cost, bram_18k=cost.bram_18k + bram, memory_lut=cost.memory_lut + luts)


def _line_buffer(op: Op, x: Op) -> int:
    """Return the LUTs of the rows a window keeps: shift registers as long as a padded row (nnet_conv_stream.h)."""
    if isinstance(op, Conv):
        rows, padding = int(op.weight.shape[0]) - 1, op.padding
    elif isinstance(op, MaxPool):
        rows, padding = op.window[0] - 1, op.padding
    else:
        return 0
    return rows * shift_register_luts(x.shape[-1] * x.format.width, x.shape[1] + padding[2] + padding[3])


def _stream_words(op: Op, x: Op) -> int:
    """Return the words an op reads: one per input position, padding included."""
    if isinstance(op, Conv | MaxPool):
        top, bottom, left, right = op.padding
        return (x.shape[0] + top + bottom) * (x.shape[1] + left + right)
    return math.prod(x.shape[:-1])
