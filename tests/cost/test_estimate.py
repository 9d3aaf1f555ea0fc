"""The static estimate: rules on numbers worked out by hand, and what must hold for any graph."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, altered, s, u

from flow.cost.cost_rules import (
    Logic,
    adder_tree,
    beside,
    cast_luts,
    comparator_luts,
    comparisons,
    constant_division,
    constant_product,
    dsp_slices,
    even_tree_bits,
    fifo_memory,
    levels_per_stage,
    lookup_table,
    lowest_bit,
    multiplexer_luts,
    range_bits,
    shift_register_luts,
    shifter_luts,
    takes_dsp,
    tree_levels,
    weight_memory,
)
from flow.cost.estimation import longest_paths, op_costs, through_stream
from flow.cost.fifos import fifos
from flow.cost.hls.estimates import estimate
from flow.errors import SpecError
from flow.ir.fixed import Cast, Codes, Constant, FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Conv, Dense, Input, IntGraph, MaxPool, Op, Relu, Requantize, Reshape
from flow.ir.passes import lower
from flow.ir.po2 import signed_digits
from flow.ir.windows import Window
from flow.parts import find_part
from flow.results import Resources
from flow.target import IO_TYPES, STRATEGIES, Target

U4 = FixedFormat(False, 4, 0)
U5 = FixedFormat(False, 5, 0)
S8 = FixedFormat(True, 7, 0)
S20 = FixedFormat(True, 19, 0)


def dense(
    weight: Codes,
    source: str = "x",
    out: FixedFormat = S20,
    name: str = "d",
    bias: Codes | None = None,
    rounding: Rounding = Rounding.RND_CONV,
) -> Dense:
    weight = np.asarray(weight, np.int64)
    return Dense(
        name=name,
        inputs=(source,),
        shape=(weight.shape[1],),
        cast=Cast(out, rounding, Overflow.SAT),
        weight=Constant(weight, FixedFormat(True, 12, 0)),
        bias=Constant(np.zeros(weight.shape[1], np.int64) if bias is None else bias, S8),
    )


def on_input(op: Op, shape: tuple[int, ...], fmt: FixedFormat = U4) -> IntGraph:
    return IntGraph(name="g", ops=(Input(name="x", inputs=(), shape=shape, cast=Cast(fmt)), op))


def layers(graph: IntGraph, target: Target) -> list[Resources]:
    return [cost.resources(name) for name, cost in op_costs(graph, target, find_part(target.part)).items()]


def only(graph: IntGraph, target: Target) -> Resources:
    (layer,) = layers(graph, target)
    return layer


def conv_net() -> IntGraph:
    """A convolution, a pool and a dense: 6x6x1 -> 4x4x2 -> 2x2x2 -> 8 -> 3."""
    weight = np.zeros((3, 3, 1, 2), np.int64)
    weight[1, 1, 0] = (4, -2)
    weight[0, 0, 0] = (1, 0)
    return IntGraph(
        name="net",
        ops=(
            Input(name="x", inputs=(), shape=(6, 6, 1), cast=Cast(U4)),
            Conv(
                name="c",
                inputs=("x",),
                shape=(4, 4, 2),
                cast=Cast(U5, overflow=Overflow.SAT),
                weight=Constant(weight, S8),
                bias=Constant(np.zeros(2, np.int64), S8),
                window=Window((3, 3), (1, 1), ((0, 0), (0, 0))),
            ),
            MaxPool(
                name="p",
                inputs=("c",),
                shape=(2, 2, 2),
                cast=Cast(U5),
                window=Window((2, 2), (2, 2), ((0, 0), (0, 0))),
            ),
            Reshape(name="f", inputs=("p",), shape=(8,), cast=Cast(U5)),
            dense(np.tile([1, 0, -4], (8, 1)), "f"),
        ),
    )


# -- rules


@pytest.mark.parametrize(
    ("weight", "digits"), [(0, 0), (1, 1), (-8, 1), (3, 2), (7, 2), (11, 3), (-5, 2), (0x155, 5), (255, 2)]
)
def test_signed_digits(weight: int, digits: int) -> None:
    assert signed_digits(np.array(weight)) == digits


def test_range_and_lowest_bit() -> None:
    assert range_bits(np.array([0, -8, -9, 0]), np.array([0, 7, 7, 8])).tolist() == [0, 4, 5, 4]
    assert lowest_bit(np.array([0, 1, -12, 64])).tolist() == [0, 0, 2, 6]


def test_adder_tree_by_hand() -> None:
    # x0 + 4*x1, x in 0..15: sum 0..75 is 7 bits, the two lowest pass through
    low, high, lsb = np.zeros((2, 1), np.int64), np.array([[15], [60]]), np.array([[0], [2]])
    assert adder_tree(low, high, lsb) == (1, 5)
    # a third leaf, 2*x2: sum 0..105 is 7 bits, above bit 1
    low, high, lsb = np.zeros((3, 1), np.int64), np.array([[15], [60], [30]]), np.array([[0], [2], [1]])
    assert adder_tree(low, high, lsb) == (2, 5 + 6)


def test_even_tree() -> None:
    assert even_tree_bits(1, 8, 20) == 0
    assert even_tree_bits(3, 8, 20) == 9 + 10
    assert even_tree_bits(4, 8, 9) == 9 + 9 + 9
    assert [tree_levels(n) for n in (0, 1, 2, 3, 4, 5)] == [0, 0, 1, 2, 2, 3]


def test_cast() -> None:
    out = dense(np.ones((1, 1)), out=S8)
    assert cast_luts(32, True, 8, out) == 24 + 2 + 4 + 8, "round 24 kept bits, OR 7 dropped ones, clamp 17 to 8"
    assert cast_luts(32, True, 8, altered(out, rounding=Rounding.RND)) == 24 + 4 + 8
    assert cast_luts(32, True, 8, altered(out, rounding=Rounding.TRN, overflow=Overflow.WRAP)) == 0
    assert cast_luts(8, True, 0, out) == 0, "a cast that changes nothing is wires"
    assert cast_luts(8, True, 0, altered(out, format=FixedFormat(False, 8, 0))) == 1 + 8, "ReLU: clamp at zero"


def test_memories_and_multiplexers() -> None:
    assert weight_memory(100, 4) == (0, 100)
    assert weight_memory(1280, 4) == (36, 0)
    assert weight_memory(40, 1024) == (4, 0)
    assert fifo_memory(384, 40) == (22, 0), "as Vitis HLS 2023.1 reports for 40 words of 384 bits"
    assert fifo_memory(864, 80) == (48, 0)
    assert fifo_memory(16, 1) == (0, 16)
    assert shift_register_luts(8, 33) == 16
    assert multiplexer_luts(1, 8) == 0
    assert multiplexer_luts(4, 8) == 8
    assert multiplexer_luts(16, 8) == 40
    assert shifter_luts(0, 12) == 0
    assert shifter_luts(3, 12) == 12
    assert shifter_luts(7, 12) == 24


def test_dsp_rules() -> None:
    assert takes_dsp(16, np.array([9, 10, 16])).tolist() == [False, True, True]
    series7, plus = find_part("xc7z020"), find_part("xcvu13p")
    assert dsp_slices(16, 16, series7) == 1
    assert dsp_slices(18, 26, series7) == 2
    assert dsp_slices(18, 26, plus) == 1
    assert dsp_slices(32, 32, plus) == 4


def test_levels_per_stage() -> None:
    assert levels_per_stage(Target(clock_period_ns=5.0), find_part("xcvu13p")) == 4  # 5 * 0.73 / 0.9
    assert levels_per_stage(Target(clock_period_ns=5.0, backend="Vivado"), find_part("xc7z020")) == 2
    assert levels_per_stage(Target(clock_period_ns=1.0), find_part("xc7z020")) == 1


def test_logic_adds_in_a_row_and_multiplies_side_by_side() -> None:
    one, other = Logic(lut=3, levels=2), Logic(adders=1, adder_bits=5, levels=1, stages=3)
    assert one + other == Logic(lut=3, adders=1, adder_bits=5, levels=3, stages=3)
    assert 4 * one == Logic(lut=12, levels=2)
    assert beside(one, other) == Logic(lut=3, adders=1, adder_bits=5, levels=2, stages=3)


def test_products_by_a_constant() -> None:
    part = find_part("xcvu13p")
    assert constant_product(8, 0, part) == Logic()
    assert constant_product(8, 16, part) == Logic(shifts=1)
    assert constant_product(8, 7, part) == Logic(multipliers=1, adders=1, adder_bits=11, levels=1)
    assert constant_product(16, 0x0B55, part).dsp == 1


def test_division_by_a_constant() -> None:
    """0..45 over 9: 6 bits, 2**10 / 9 rounded up is 114 = 2 * 57; 57 = 64 - 8 + 1 takes two adders of 6 + 6 bits."""
    part, floor = find_part("xcvu13p"), dense(np.ones((1, 1)), out=FixedFormat(False, 3, 0), rounding=Rounding.TRN)
    assert constant_division(0, 45, 9, floor, part) == Logic(multipliers=1, adders=2, adder_bits=24, levels=3), (
        "45 / 9 is 5: three bits, nothing to clamp"
    )
    rounds = constant_division(0, 45, 9, altered(floor, rounding=Rounding.RND), part)
    # the rest in 5 bits: 9 * quotient is an adder of 5 + 4 bits; a subtraction, a comparison, an increment of 3 bits
    assert (rounds.adders, rounds.adder_bits, rounds.lut) == (2 + 3, 24 + 9 + 5 + 3, 3)
    below = constant_division(-45, 45, 9, floor, part)
    assert below.adders == constant_division(0, 90, 9, floor, part).adders + 2, "an offset, added and taken off again"


def test_step_functions() -> None:
    assert lookup_table(8, 1, 5) == Logic()
    assert lookup_table(4, 16, 5) == Logic(lut=5, levels=1), "a LUT6 a bit"
    assert lookup_table(8, 256, 5) == Logic(lut=4 * 5, levels=1)
    assert lookup_table(10, 1024, 5).lut == 16 * 5 + multiplexer_luts(4, 5)
    assert lookup_table(14, 16, 5) == Logic(lut=5 + 2 * 9, levels=2), "clamped below and above"
    assert comparisons(14, 4, 3).lut == 3 * 7 + multiplexer_luts(4, 3)


# -- ops, by hand


def test_dense_of_constants() -> None:
    """y0 = x0 + 4 x1 (7 bits, 5 of them added), y1 = -2 x2 (wires), y2 = 0."""
    layer = only(on_input(dense(np.array([[1, 0, 0], [4, 0, 0], [0, -2, 0]])), (3,)), Target())
    assert layer.detail == {
        "multipliers": 0,
        "adders": 1,
        "adder_bits": 5,
        "shifts": 3,
        "weights": 9,
        "nonzero_weights": 3,
        "weight_bits": 9 * (2 + 2),  # sign, zero flag, exponent 0..2
        "register_bits": 3 * 20,
    }
    assert (layer.lut, layer.ff, layer.dsp, layer.bram_18k) == (5, 60, 0, 0)
    assert (layer.latency_cycles, layer.initiation_interval_cycles) == (1, 1)


def test_dense_by_signed_digits() -> None:
    """y = 7 x = 8 x - x: one adder over the product's 7 bits, counted as one multiplier."""
    layer = only(on_input(dense(np.array([[7]])), (1,)), Target())
    assert (layer.detail["multipliers"], layer.detail["adders"], layer.detail["adder_bits"]) == (1, 1, 7)
    assert (layer.lut, layer.dsp) == (7, 0)


def test_wide_products_take_dsps() -> None:
    wide = FixedFormat(False, 16, 0)
    weight = np.full((4, 2), 0x0B55)
    parallel = only(on_input(dense(weight, out=FixedFormat(True, 40, 0)), (4,), wide), Target())
    assert (parallel.dsp, parallel.detail["multipliers"], parallel.detail["adders"]) == (8, 8, 6)
    reused = only(on_input(dense(weight, out=FixedFormat(True, 40, 0)), (4,), wide), Target(reuse_factor=4))
    assert (reused.dsp, reused.initiation_interval_cycles) == (2, 4)
    stored = Target(strategy="Resource", reuse_factor=4)
    assert only(on_input(dense(weight, out=FixedFormat(True, 40, 0)), (4,), wide), stored).dsp == 2


def test_stored_shifts() -> None:
    """8 x 4 weights of exponent 0..3, 4 in turn: 8 shifters of 4 + 3 + 1 bits, 2 for each output."""
    weight = np.array([[1, -2, 4, 8]] * 8)
    layer = only(
        on_input(dense(weight, out=FixedFormat(True, 9, 0)), (8,)), Target(strategy="Resource", reuse_factor=4)
    )
    acc_bits = 11  # -2 * 15 * 8 .. 8 * 15 * 8
    assert layer.detail["shifts"] == 8
    assert layer.detail["adders"] == 8
    assert layer.detail["adder_bits"] == 4 * (9 + acc_bits)
    casts = math.ceil(1 / 5) + 10  # only y3, up to 960, exceeds 9 bits
    assert layer.lut == 4 * (9 + acc_bits) + 8 * 8 + 2 * 4 + casts + 8 * 4, "adders, shifters, selects, casts, ROM"
    assert (layer.dsp, layer.bram_18k) == (0, 0)
    assert layer.initiation_interval_cycles == 4


def test_resource_without_reuse_is_constant() -> None:
    graph = on_input(dense(np.array([[1, 4], [3, 0]])), (2,))
    latency, resource = only(graph, Target()), only(graph, Target(strategy="Resource"))
    assert latency == resource


def test_conv_net_parallel() -> None:
    conv, pool, flatten, last = layers(conv_net(), Target())
    # y0 = x00 + 4 x11 (5 bits), y1 = -2 x11; two window words of 4 bits out of 16 positions; clamp 7 -> 5 and 6 -> 5
    assert conv.lut == 5 + (1 + 5) + (1 + 5) + multiplexer_luts(16, 2 * 4)
    assert (conv.ff, conv.initiation_interval_cycles) == (4 * 4 * 2 * 5, 16)
    assert pool.lut == 8 * 3 * (3 + 5)
    assert (flatten.lut, flatten.ff, flatten.latency_cycles) == (0, 0, 0)
    assert last.detail["adders"] == 2 * 7


def test_conv_net_stream() -> None:
    conv, pool, flatten, _ = layers(conv_net(), Target(io_type="io_stream"))
    assert (conv.initiation_interval_cycles, pool.initiation_interval_cycles) == (36, 16)
    assert flatten.initiation_interval_cycles == 4
    assert conv.lut == 5 + 6 + 6 + 2 * 4, "with two rows of 6 words of 4 bits"


def test_unfused_ops() -> None:
    ones = np.ones(2, np.int64)
    ops: list[Op] = [
        BatchNorm(
            name="b",
            inputs=("x",),
            shape=(3, 2),
            cast=Cast(S20),
            scale=Constant(5 * ones, S8),
            offset=Constant(ones, S8),
        ),
        Relu(name="r", inputs=("x",), shape=(3, 2), cast=Cast(U4)),
        Requantize(name="q", inputs=("x",), shape=(3, 2), cast=Cast(FixedFormat(False, 2, 0), overflow=Overflow.SAT)),
    ]
    norm, relu, cast = (only(on_input(op, (3, 2)), Target()) for op in ops)
    assert norm.detail["multipliers"] == 6, "scale 5 has two digits"
    assert norm.detail["adders"] == 6 * 2
    assert (relu.lut, relu.detail["shifts"]) == (0, 0), "its input is unsigned"
    assert cast.lut == 6 * (1 + 2)
    streamed = only(on_input(ops[0], (3, 2)), Target(io_type="io_stream"))
    assert streamed.detail["multipliers"] == 2
    assert streamed.initiation_interval_cycles == 3


def first(net: Net, target: Target) -> Resources:
    return layers(net.graph(), target)[0]


ARRAYS, STREAM = Target(), Target(io_type="io_stream")


def test_relu_and_its_limit() -> None:
    x = Net((3, 2), s(6))
    assert first(x.relu(), ARRAYS).lut == 6 * 6, "an AND per bit"
    limited = Net((3, 2), s(6)).relu(limit=9)
    assert first(limited, ARRAYS).lut == 6 * (6 + comparator_luts(6))
    assert first(limited, STREAM).lut == 2 * (6 + comparator_luts(6))
    assert first(Net((2,), u(6)).relu(limit=63), ARRAYS).lut == 0, "no code is above"


def test_leaky_relu() -> None:
    powers, factors = Net((4,), s(5)).leaky([1], frac=3), Net((4,), s(5)).leaky([3], frac=3)
    assert first(powers, ARRAYS).lut == 4 * 8, "the sign selects between two shifts: -16/8 .. 15 in 8 bits"
    assert first(factors, ARRAYS).lut == 4 * (8 + 5 + 2), "3 x: an adder of 5 + 2 bits"
    assert first(Net((4,), u(5)).leaky([3], frac=3), ARRAYS).lut == 0, "nothing is below zero"
    each = Net((3, 2), s(5)).leaky([[1, 3], [3, 1], [1, 1]], frac=3)
    assert first(each, ARRAYS).detail["multipliers"] == 2
    stored = first(each, STREAM)
    assert stored.detail["multipliers"] == 2 and stored.lut == 2 * (multiplexer_luts(3, 2) + 5 * 2 + 8)


def test_merges() -> None:
    """u4 + u4: 5 bits; in a stream once per channel."""
    twice = Net((3, 2), u(4)).mark("x").merge("add", "x")
    assert first(twice, ARRAYS).detail["adder_bits"] == 6 * 5
    assert first(twice, STREAM).lut == 2 * 5
    finer = Net((2,), u(4)).port("b", (2,), u(4, 2)).merge("add", "b")
    assert first(finer, ARRAYS).detail["adder_bits"] == 2 * 5, "0..60 and 0..15 above bit 2 of the one: 7 - 2 bits"
    assert first(Net((3,), u(4)).mark("x").merge("maximum", "x"), ARRAYS).lut == 3 * comparator_luts(4)
    assert first(Net((3,), u(4)).mark("x").merge("multiply", "x"), ARRAYS).lut == 3 * 16
    wide = Net((3,), u(12)).mark("x").merge("multiply", "x")
    assert (first(wide, ARRAYS).dsp, first(wide, ARRAYS).lut, first(wide, ARRAYS).latency_cycles) == (3, 0, 4)


def test_averages() -> None:
    """2 x 2 windows of u4 add in 3 adders of 5, 5 and 6 bits; the quotient of a power of two is its cast."""
    net = Net((4, 4, 1), u(4)).average((2, 2), u(4))
    sums = first(net, ARRAYS)
    assert (sums.detail["adders"], sums.lut) == (4 * 3, 4 * 16)
    assert first(net, STREAM).detail["adders"] == 3
    assert first(net, STREAM).initiation_interval_cycles == 16
    fused = only(lower(net.graph()), ARRAYS)
    assert fused.lut == 4 * (16 + 4 + 1), "4 bits of 6 are kept and rounded, with an OR of the bit below the half"
    thirds = only(lower(Net((6, 1), u(4)).average((3,), u(4)).graph()), ARRAYS)
    assert thirds.detail["multipliers"] == 2 * 2, "by the reciprocal and back"
    edges = first(Net((5, 1), u(4)).average((3,), u(6), (1,), padding="same"), ARRAYS)
    assert edges.detail["adders"] == (1 + 2 + 2 + 2 + 1) + 2, "real pixels only; edges weigh 3, the others 2"


def test_gather_is_wires_or_waiting_words() -> None:
    crop = Net((4, 5, 2), s(4)).gather(lambda x: x[1:3, 2:])
    assert first(crop, ARRAYS) == replace(first(crop, ARRAYS), lut=0, ff=0, latency_cycles=0)
    flow = first(crop, STREAM)
    assert (flow.lut, flow.ff) == (8, 8), "a word waits for a cycle"
    assert flow.initiation_interval_cycles == 20
    turned = first(Net((4, 5, 2), s(4)).gather(lambda x: x[::-1]), STREAM)
    assert turned.lut == shift_register_luts(8, 20), "the first row goes last"
    assert turned.initiation_interval_cycles == 16 + 19, "the first result goes with the 16th word"
    doubled = first(Net((3, 2), s(4)).gather(lambda x: x.repeat(2, 0)), STREAM)
    assert doubled.initiation_interval_cycles == 6


def test_lookup_and_softmax() -> None:
    net = Net((3, 2), u(4)).lookup(range(16), [i % 3 for i in range(16)], u(2))
    assert (first(net, ARRAYS).lut, first(net, STREAM).lut) == (6 * 2, 2 * 2)
    rows = Net((3, 4), u(4)).softmax(u(8, 8))
    assert first(rows, ARRAYS).lut == 3 * (first(rows, STREAM).lut or 0)
    # of one row: 3 comparators, 4 distances, 4 tables of 16 x 11 bits, a sum, 4 divisions of 11 + 9 by 13 bits
    row = 3 * comparator_luts(4) + 4 * 5 + 4 * 11 + even_tree_bits(4, 11, 13) + 4 * (13 + 20 * 14 + 8)
    assert first(rows, STREAM).lut == row


def test_groups_are_zeros_between_them() -> None:
    weight = np.arange(1, 13).reshape(3, 1, 4)
    whole = np.zeros((3, 2, 4), np.int64)
    whole[:, 0, :2], whole[:, 1, 2:] = weight[:, 0, :2], weight[:, 0, 2:]
    apart = first(Net((5, 2), s(4)).conv(weight, groups=2), ARRAYS)
    one = first(Net((5, 2), s(4)).conv(whole), ARRAYS)
    assert (apart.lut, apart.ff, apart.dsp) == (one.lut, one.ff, one.dsp)
    assert apart.detail["weights"] == apart.detail["nonzero_weights"] == 12


def test_one_axis_has_no_line_buffer() -> None:
    conv = Net((7, 2), u(4)).conv(np.eye(2, dtype=int)[np.newaxis].repeat(3, 0))
    streamed, parallel = (first(conv, target) for target in (STREAM, ARRAYS))
    assert streamed.initiation_interval_cycles == 7 and parallel.initiation_interval_cycles == 5
    assert streamed.lut == (parallel.lut or 0) - multiplexer_luts(5, 3 * 2 * 4)


# -- what must hold for any graph


@pytest.mark.parametrize("name", zoo.ROWS)
def test_every_row_of_the_zoo(name: str) -> None:
    for graph, io_type, strategy, reuse in product((zoo.row(name), lower(zoo.row(name))), IO_TYPES, STRATEGIES, (1, 4)):
        found = layers(graph, Target(io_type=io_type, strategy=strategy, reuse_factor=reuse))
        assert [layer.name for layer in found] == [op.name for op in graph.ops if not isinstance(op, Input)]
        for layer in found:
            counts = (layer.lut, layer.ff, layer.dsp, layer.bram_18k, layer.latency_cycles, *layer.detail.values())
            assert all(isinstance(count, int) and count >= 0 for count in counts)


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_latency_is_that_of_the_longest_path(io_type: str) -> None:
    """A branch beside a longer one adds nothing; in a chain all count."""
    wide = np.full((8, 8), 3)
    net = Net((8,), s(4)).mark("x").dense(wide).requantize(s(4)).dense(wide).requantize(s(4)).mark("long")
    chain = net.graph()
    both = net.back("x").dense(wide).requantize(s(4)).merge("add", "long").graph()
    target = Target(io_type=io_type)
    cycles = [layer.latency_cycles or 0 for layer in layers(both, target)]
    assert (through(chain, target), through(both, target)) == (sum(cycles[:4]), sum(cycles[:4]) + cycles[-1])


def through(graph: IntGraph, target: Target) -> int:
    costs = op_costs(graph, target, find_part(target.part))
    if target.streams:
        return through_stream(graph, costs)
    return max(longest_paths(graph, {name: cost.latency_cycles for name, cost in costs.items()}).values())


def test_fifos_of_a_stream_with_several_readers() -> None:
    """One into the clone and one to each reader, as deep as cost.fifos says; a port that nothing reads has none."""
    assert fifos(Net((40, 20), s(16)).requantize(s(16)).graph()) == ()
    graph = Net((40, 20), s(16)).requantize(s(16)).mark("a").requantize(s(15)).merge("add", "a").graph()
    depths = [(fifo.stream, fifo.depth) for fifo in fifos(graph)]
    assert depths == [
        ("requantize_1", 3),
        ("clone_requantize_1_1", 3),
        ("clone_requantize_1_2", 17),
        ("requantize_2", 3),
    ]


def test_unknown_part() -> None:
    with pytest.raises(SpecError, match="xc6slx9"):
        estimate(conv_net(), Target(part="xc6slx9-tqg144-2"))


TARGETS = [
    Target(io_type=io_type, strategy=strategy, reuse_factor=reuse)
    for io_type in ("io_parallel", "io_stream")
    for strategy in ("Latency", "Resource")
    for reuse in (1, 4)
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.io_type}-{t.strategy}-{t.reuse_factor}")
def test_powers_of_two_need_no_dsp(target: Target) -> None:
    wide = FixedFormat(True, 15, 0)
    weight = np.array([[1, -(2**11)], [0, 2**5], [4, 0], [-1, 2]])
    layer = only(on_input(dense(weight, out=FixedFormat(True, 40, 0)), (4,), wide), target)
    assert (layer.dsp, layer.detail["multipliers"]) == (0, 0)


weights = st.lists(
    st.tuples(st.booleans(), st.integers(-1, 7)), min_size=24, max_size=24
)  # sign, exponent; -1 stands for zero


def as_codes(drawn: list[tuple[bool, int]]) -> Codes:
    codes = [(-1 if negative else 1) * 2**exponent if exponent >= 0 else 0 for negative, exponent in drawn]
    return np.array(codes, np.int64).reshape(8, 3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(weights, st.integers(0, 23), st.integers(0, 7), st.sampled_from(TARGETS), st.sampled_from([U4, S8]))
def test_another_weight_never_costs_less(
    drawn: list[tuple[bool, int]], place: int, exponent: int, target: Target, x: FixedFormat
) -> None:
    weight = as_codes(drawn)
    more = weight.copy()
    if more.flat[place] == 0:
        more.flat[place] = 2**exponent
    bias = np.array([0, 5, -3], np.int64)
    sparse, denser = (only(on_input(dense(codes, out=U5, bias=bias), (8,), x), target) for codes in (weight, more))
    assert (denser.lut or 0) >= (sparse.lut or 0)
    assert sparse.detail["nonzero_weights"] == np.count_nonzero(weight)
    assert sparse.detail["weights"] == weight.size
