"""What a dense or a convolution takes: the hardware of one output position, used once for each position."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from flow.cost import cost_rules as rules
from flow.cost.cost_rules import Cost
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import MatMul, Op
from flow.ir.intervals import Accumulation, accumulation
from flow.ir.po2 import is_po2, signed_digits, split
from flow.ir.windows import Shape, Window
from flow.parts import Part
from flow.target import Target


def matmul_cost(op: MatMul, x: FixedFormat, reads: Shape, line_luts: int, target: Target, part: Part) -> Cost:
    """Return what a dense or a convolution takes.

    Args:
        op: the dense or convolution.
        x: format of what it reads.
        reads: shape of what it reads, with the zeros around it.
        line_luts: LUTs of the rows that its windows keep of a stream, as `line_buffer` counts them; 0 without windows.
        target, part: as of `flow.cost.estimation.COSTS`.
    """
    acc = accumulation(op, x)
    weight = op.matrix()
    reuse = min(target.reuse(op.name), weight.size)
    if target.strategy == "Resource" and reuse > 1:
        cost = _stored(op, weight, acc, x, reuse, target, part)
    else:  # a weight that is read at one address only is a constant in either strategy
        shifted = weight << acc.shifts[0], op.bias.codes << acc.shifts[1]
        cost = _constant(op, *shifted, acc.frac_bits, x, target, part)
        cost = replace(cost, dsp=math.ceil(cost.dsp / reuse))  # hls4ml limits multipliers, not adders
    stream = target.io_type == "io_stream"
    positions = math.prod((reads if stream else op.shape)[:-1])
    # with Resource, a position begins when the one before is done (nnet_conv2d_resource.h, nnet_conv2d_stream.h)
    turns = reuse + (cost.depth if target.strategy == "Resource" and positions > 1 else 0)
    # a dense reads its one word when it has written the result of the one before (nnet_dense_stream.h)
    interval = reuse + cost.depth if stream and positions == 1 else positions * turns
    # im2col: every word of a window is chosen among the positions (nnet_conv2d_latency.h, fill_buffer)
    window_bits = int(np.count_nonzero(weight.any(axis=1))) * x.width
    select = 0 if stream else rules.multiplexer_luts(positions, window_bits)
    held_bits = window_bits + op.shape[-1] * op.format.width if stream else math.prod(op.shape) * op.format.width
    return replace(
        cost,
        weights=op.weight.codes.size,
        nonzero_weights=int(np.count_nonzero(op.weight.codes)),
        weight_bits=op.weight.codes.size * _stored_bits(op),
        logic_lut=cost.logic_lut + select,
        memory_lut=cost.memory_lut + (line_luts if stream else 0),
        register_bits=cost.register_bits + held_bits,
        initiation_interval_cycles=interval,
        latency_cycles=positions * turns - 1 + cost.depth,
    )


def _constant(op: Op, weight: Codes, bias: Codes, frac_bits: int, x: FixedFormat, target: Target, part: Part) -> Cost:
    """Sums of products by constants, all at once: shifts, signed-digit adders or DSP slices, then a tree and a cast.

    Args:
        weight: int64 (n_in, channels); `bias`: int64 (channels,); both on the grid of `frac_bits`.
    """
    digits, used = signed_digits(weight), weight.any(axis=0)
    low, high, lsb = leaves(weight, bias, x)
    weight_bits = rules.range_bits(np.minimum(weight, -1), np.abs(weight)) - rules.lowest_bit(weight)
    in_dsp = (digits > 1) & rules.takes_dsp(x.width, weight_bits)
    extra = np.where(in_dsp, 0, np.maximum(digits - 1, 0))
    adders, bits = rules.adder_tree(low[:, used], high[:, used], lsb[:, used])
    total_low, total_high = low.sum(axis=0), high.sum(axis=0)
    widths, terms = rules.range_bits(total_low, total_high), (np.count_nonzero(weight, axis=0) + (bias != 0)) * used
    luts = sum(
        rules.cast_luts(int(width), bool(negative), frac_bits - op.format.frac_bits, op)
        for width, negative in zip(widths[used], (total_low < 0)[used], strict=True)
    )
    in_row = rules.tree_levels(int(terms.max(initial=1))) + rules.tree_levels(int(extra.max(initial=0)) + 1)
    levels = in_row + 2 * bool(luts)
    per_stage = rules.levels_per_stage(target, part)
    return Cost(
        adders=adders + int(extra.sum()),
        adder_bits=bits + int((extra * (rules.range_bits(low, high) - lsb)[:-1]).sum()),
        multipliers=int((digits > 1).sum()),
        shifts=int((digits == 1).sum()),
        register_bits=rules.pipeline_register_bits(terms, widths, x.width, levels, per_stage),
        logic_lut=luts,
        dsp=sum(rules.dsp_slices(x.width, int(bits), part) for bits in weight_bits[in_dsp]),
        depth=max(1, math.ceil(levels / per_stage)) + rules.DSP_STAGES * bool(in_dsp.any()),
    )


def leaves(weight: Codes, bias: Codes, x: FixedFormat) -> tuple[Codes, Codes, Codes]:
    """Return what is summed in each channel: smallest and largest code of each product, and its lowest bit.

    Args:
        weight: int64 (n_in, channels); `bias`: int64 (channels,); both on one grid.
        x: format of the input codes.

    Returns:
        Three int64 (n_in + 1, channels): the products and 0 in their range, in the last row the bias.
    """
    ends = np.stack([weight * x.min_code, weight * x.max_code, np.zeros_like(weight)])
    low, high = np.vstack([ends.min(axis=0), np.minimum(bias, 0)]), np.vstack([ends.max(axis=0), np.maximum(bias, 0)])
    return low, high, np.vstack([rules.lowest_bit(weight), rules.lowest_bit(bias)])


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
    if is_po2(op.weight.codes):
        span = split(op.weight.codes).max_exponent - split(op.weight.codes).min_exponent
        product_bits = x.width + span + 1
        lut_each, dsp_each = rules.shifter_luts(span, product_bits), 0
    else:
        product_bits = x.width + stored_bits
        in_dsp = bool(rules.takes_dsp(x.width, np.array(stored_bits)))
        lut_each = 0 if in_dsp else rules.multiplier_luts(x.width, stored_bits)
        dsp_each = rules.dsp_slices(x.width, stored_bits, part) if in_dsp else 0
    bram, memory_lut = rules.weight_memory(units * stored_bits, reuse)
    select = math.ceil(n_in / reuse) * rules.multiplexer_luts(min(reuse, n_in), x.width)
    casts = [
        rules.cast_luts(bits, low < 0, acc.frac_bits - op.format.frac_bits, op)
        for bits, low in zip(op.channel_bits or acc.channel_bits, acc.channel_low.tolist(), strict=True)
    ]
    levels = 3 + rules.tree_levels(terms) + 2 * any(casts)  # select, multiply, tree, accumulate, cast
    per_stage = rules.levels_per_stage(target, part)
    terms_of = np.full(outputs, terms, np.int64)
    return Cost(
        adders=outputs * terms,
        adder_bits=outputs * (rules.even_tree_bits(terms, product_bits, acc_bits) + acc_bits),
        multipliers=0 if is_po2(op.weight.codes) else units,
        shifts=units if is_po2(op.weight.codes) else 0,
        register_bits=n_out * acc_bits
        + rules.pipeline_register_bits(terms_of, np.full(outputs, acc_bits), product_bits, levels, per_stage),
        logic_lut=units * lut_each + select + sum(casts),
        memory_lut=memory_lut,
        bram_18k=bram,
        dsp=units * dsp_each,
        depth=math.ceil(levels / per_stage) + rules.DSP_STAGES * bool(dsp_each),
    )


def _stored_bits(op: MatMul) -> int:
    """Return the bits of one weight in memory: sign, zero flag and exponent of a power of two, else its format."""
    return split(op.weight.codes).stored_bits if is_po2(op.weight.codes) else op.weight.format.width


def line_buffer(window: Window, x: Op) -> int:
    """Return the LUTs of the rows that a window keeps of a stream `x`.

    They are shift registers as long as a padded row (nnet_conv_stream.h).
    """
    padded = window.padded(x.shape)[:-1]
    bits = x.shape[-1] * x.format.width
    return sum(
        (span - 1) * rules.shift_register_luts(bits, math.prod(padded[axis + 1 :]))
        for axis, span in enumerate(window.size[:-1])
    )
