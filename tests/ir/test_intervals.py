"""Intervals: what they prove holds for every input, and an input exists that reaches each end."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, first, s, u

from flow.errors import UnsupportedError
from flow.ir import reference
from flow.ir.fixed import FixedFormat
from flow.ir.graph import MERGES, BatchNorm, Conv, Dense, LeakyRelu, MatMul, Op, Pool, Relu, SumPool
from flow.ir.intervals import (
    Range,
    accumulation,
    casts_exactly,
    check_division,
    exact_result,
)
from flow.ir.passes import lower

FORMATS = (u(2), s(2), s(3, 1), u(1), FixedFormat(False, 4, -2))
small_weights = st.lists(st.integers(-9, 9), min_size=6, max_size=6)


def every_input(fmt: FixedFormat, size: int) -> np.ndarray:
    return np.array(list(product(range(fmt.min_code, fmt.max_code + 1), repeat=size)))


@given(
    small_weights, st.lists(st.integers(-20, 20), min_size=2, max_size=2), st.sampled_from(FORMATS), st.integers(-2, 3)
)
def test_bounds_of_a_dense_hold_every_partial_sum_and_are_reached(
    weight: list[int], bias: list[int], fmt: FixedFormat, bias_frac: int
) -> None:
    """Brute force: every input, every subset of the terms; a bound that is not reached would be a bit too many."""
    op = Net((3,), fmt).dense(np.reshape(weight, (3, 2)), bias, frac=1, bias_frac=bias_frac).ops[-1]
    assert isinstance(op, Dense)
    acc = accumulation(op, fmt)
    x = every_input(fmt, 3)
    terms = [*((x[:, i, None] * op.weight.codes[i]) << acc.shifts[0] for i in range(3))]
    terms.append(np.broadcast_to(op.bias.codes << acc.shifts[1], terms[0].shape))
    sums = np.stack(
        [
            sum(t for t, used in zip(terms, chosen, strict=True) if used)
            for chosen in product([1, 0], repeat=4)
            if any(chosen)
        ]
    )
    assert np.array_equal(np.minimum(sums.min(axis=(0, 1)), 0), acc.channel_low)
    assert np.array_equal(np.maximum(sums.max(axis=(0, 1)), 0), acc.channel_high)
    assert acc.format.min_code <= acc.channel_low.min() and acc.channel_high.max() <= acc.format.max_code
    assert (acc.low, acc.high) == (acc.channel_low.min(), acc.channel_high.max())
    assert max(acc.channel_bits) <= acc.format.width and acc.bound == max(
        acc.channel_high.max(), -acc.channel_low.min()
    )
    assert min(acc.shifts[0], acc.shifts[1]) == 0


@given(small_weights, st.sampled_from(FORMATS))
def test_bounds_of_a_convolution_hold_at_every_position(weight: list[int], fmt: FixedFormat) -> None:
    """With padding fewer terms meet; the bound is reached where all do."""
    net = Net((1, 4, 1), fmt).conv(np.reshape(weight, (1, 3, 1, 2)), [1, -2], padding="same")
    op, seen = first(net.graph(), Conv), []
    assert isinstance(op, Conv)
    reference.run(net.graph(), every_input(fmt, 4).reshape(-1, 1, 4, 1), lambda _, exact, frac_bits: seen.append(exact))
    acc, result = accumulation(op, fmt), np.concatenate(seen)
    assert (result >= acc.channel_low).all() and (result <= acc.channel_high).all()
    whole = Net((3,), fmt).dense(np.reshape(weight, (3, 2)), [1, -2]).ops[-1]
    assert isinstance(whole, MatMul)
    assert np.array_equal(acc.channel_low, accumulation(whole, fmt).channel_low)


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.sampled_from(FORMATS), st.integers(-1, 3))
def test_exact_results_of_the_other_ops_are_tight(values: list[int], fmt: FixedFormat, offset_frac: int) -> None:
    nets = (
        Net((2,), fmt).batchnorm(values[:2], values[2:], frac=1, offset_frac=offset_frac),
        Net((2,), fmt).relu(),
        Net((2,), fmt).requantize(fmt),
    )
    for net in nets:
        op, seen, x = net.ops[-1], [], every_input(fmt, 2)
        reference.run(net.graph(), x, lambda _, exact, frac_bits, seen=seen: seen.append((exact, frac_bits)))
        result = exact_result(op, fmt)
        exact = np.concatenate([part for part, _ in seen])
        assert result.frac_bits == seen[0][1]
        assert (result.low, result.high) == (exact.min(), exact.max())


NETS = {
    **{
        name: Net((1,), s(3, 1)).port("b", (1,), u(2)).port("c", (1,), s(2, -1)).merge(name, "b", "c")
        for name in MERGES
    },
    "leaky": Net((2,), s(3, 1)).leaky([3, -5], frac=2),
    "leaky, steep": Net((1,), s(3)).leaky([9], frac=0),
    "leaky, unsigned": Net((2,), u(3, 1)).leaky([-5], frac=2),
    "limit": Net((2,), s(4)).relu(limit=3),
    "limit that none reaches": Net((2,), s(4)).relu(limit=30),
    "sums": Net((3, 1), s(3)).average((2,), s(3), (1,)),
    "sums at the edge": Net((3, 1), s(2)).average((3,), s(3), (1,), "same"),
    "gather": Net((2,), u(2)).port("b", (1,), s(3, 1)).gather(lambda x, b: np.hstack([x, b]), "b"),
    "lookup": Net((2,), s(3)).lookup([-4, 0, 2], [1, 0, 3], u(2, 1)),
}


@pytest.mark.parametrize("name", NETS)
def test_exact_results_are_those_that_occur(name: str) -> None:
    """Brute force over every input of every port."""
    graph = NETS[name].graph()
    op = next(op for op in graph.ops if op.inputs)
    low, high = graph.port_limits()
    ranges = [range(a, b + 1) for a, b in zip(low.reshape(-1).tolist(), high.reshape(-1).tolist(), strict=True)]
    codes = np.array(list(product(*ranges))).reshape(-1, *graph.port_shape)
    seen = []

    def keep(seen_op: Op, exact: np.ndarray, frac_bits: int) -> None:
        if seen_op is op:
            seen.append((exact.min(), exact.max(), frac_bits))

    result = reference.run(graph, codes, keep)
    if not seen:  # a table has no cast
        seen = [(result.codes[op.name].min(), result.codes[op.name].max(), op.format.frac_bits)]
    found = exact_result(op, *(source.format for source in graph.sources(op)))
    ends = min(part[0] for part in seen), max(part[1] for part in seen)
    assert (found.frac_bits, found.low, found.high) == (seen[0][2], *ends)


def test_a_padding_of_zeros_is_in_the_range() -> None:
    op = Net((2,), s(3)).requantize(u(3)).gather(lambda x: np.pad(x, 1, constant_values=-1)).ops[-1]
    positive = FixedFormat(False, 3, 0)
    assert exact_result(op, positive) == Range(0, 0, 7, (0,))


def test_window_counts_are_those_of_ones() -> None:
    for shape, window, strides, padding in (
        ((5, 4), (3, 3), (2, 1), "same"),
        ((7,), (3,), (2,), "same"),
        ((6, 6), (2, 3), (2, 3), "valid"),
    ):
        net = Net((*shape, 1), u(1)).average(window, u(1), strides, padding)
        op = next(op for op in net.ops if isinstance(op, SumPool))
        assert isinstance(op, Pool)
        plain = Net((*shape, 1), u(1)).average(window, u(1), strides, padding).graph()
        sums = reference.run(plain, np.ones((1, *shape, 1), np.int64)).codes[op.name]
        assert np.array_equal(op.window.counts(op.shape[:-1]) * op.weight.codes, sums[0, ..., 0])
        assert op.window.counts(op.shape[:-1]).max() <= np.prod(window) and op.window.counts(op.shape[:-1]).min() >= 1


def test_divisions_beyond_int64_are_refused() -> None:
    op = Net((1,), s(8)).requantize(s(8, 4), divisor=3).ops[-1]
    check_division(op, Range(0, -128, 127))
    with pytest.raises(UnsupportedError, match=r"op 'requantize_1': dividing by 3 to s8\.4 takes more than 61 bits"):
        check_division(op, Range(0, -(1 << 57), 0))
    with pytest.raises(UnsupportedError, match="dividing by 3"):
        check_division(op, Range(64, 0, 1))


def test_leaky_products_beyond_int64_are_refused() -> None:
    op = Net((1,), s(8)).leaky([3], frac=2).ops[-1]
    assert isinstance(op, LeakyRelu)
    exact = exact_result(op, s(8))
    assert (exact.frac_bits, exact.shifts) == (2, (2, 0))
    with pytest.raises(UnsupportedError, match="op 'leaky_relu_1': its result needs more than 63 bits"):
        exact_result(op, s(62))
    with pytest.raises(UnsupportedError, match="op 'merge_1': its result needs more than 63 bits"):
        Net((1,), s(40)).mark("x").merge("multiply", "x")


def test_casts_exactly_says_whether_no_code_changes() -> None:
    def dense(fmt: FixedFormat) -> Op:
        return Net((2,), u(3)).dense([[1], [-1]], frac=1).requantize(fmt).ops[-1]

    x = Net((2,), u(3)).dense([[1], [-1]], frac=1).ops[-1].format
    assert x == s(4, 1)
    assert casts_exactly(dense(x), x) and casts_exactly(dense(s(6, 2)), x)
    assert not casts_exactly(dense(s(3, 1)), x) and not casts_exactly(dense(s(8)), x)
    assert not casts_exactly(dense(u(5, 1)), x)
    assert casts_exactly(Net((2,), s(4)).relu().ops[-1], s(4))


def test_sums_that_int64_cannot_hold_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"op 'dense_1': its accumulator may need 6\d bits"):
        Net((4,), s(32)).dense(np.full((4, 1), 1 << 30))
    with pytest.raises(UnsupportedError, match="its accumulator may need"):
        Net((1,), u(4)).dense([[1]], [1], bias_frac=60)
    with pytest.raises(UnsupportedError, match="op 'batchnorm_1': its result needs more than 63 bits"):
        Net((1,), s(32)).batchnorm([1 << 31], [0])
    op = Net((1,), u(2)).batchnorm([3], [1], frac=1, offset_frac=3).ops[-1]
    assert isinstance(op, BatchNorm)
    exact = exact_result(op, u(2))
    assert (op.scale.codes << exact.shifts[0], op.offset.codes << exact.shifts[1], exact.frac_bits) == ([12], [1], 3)


@settings(max_examples=50)
@given(st.lists(st.integers(-9, 9), min_size=6, max_size=6), st.sampled_from(FORMATS))
def test_the_proved_accumulator_never_wraps_and_one_bit_less_can(weight: list[int], fmt: FixedFormat) -> None:
    graph = lower(Net((3,), fmt).dense(np.reshape(weight, (3, 2)), [1, -1]).graph())
    op = first(graph)
    assert isinstance(op, MatMul) and op.accumulator is not None
    acc = accumulation(op, fmt)
    assert op.channel_bits == acc.channel_bits and op.accumulator == acc.format
    if op.accumulator.width > 1:
        half = FixedFormat(op.accumulator.signed, op.accumulator.int_bits - 1, op.accumulator.frac_bits)
        assert acc.channel_low.min() < half.min_code or acc.channel_high.max() > half.max_code


def test_relu_has_no_negative_end() -> None:
    assert exact_result(Net((2,), s(4, 1)).relu().ops[-1], s(4, 1)) == Range(1, 0, 7)
    assert isinstance(Net((2,), s(4, 1)).relu().ops[-1], Relu)
