"""Intervals: what they prove holds for every input, and an input exists that reaches each end."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, first, s, u

from flow import reference
from flow.errors import UnsupportedError
from flow.fixed import FixedFormat
from flow.graph import BatchNorm, Conv2D, Dense, MatMul, Op, Relu
from flow.intervals import accumulation, batchnorm_on_grid, casts_exactly, exact_result
from flow.passes import lower

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
    terms = [*((x[:, i, None] * op.weight[i]) << acc.product_shift for i in range(3))]
    terms.append(np.broadcast_to(op.bias << acc.bias_shift, terms[0].shape))
    sums = np.stack(
        [
            sum(t for t, used in zip(terms, chosen, strict=True) if used)
            for chosen in product([1, 0], repeat=4)
            if any(chosen)
        ]
    )
    assert np.array_equal(np.minimum(sums.min(axis=(0, 1)), 0), acc.low)
    assert np.array_equal(np.maximum(sums.max(axis=(0, 1)), 0), acc.high)
    assert acc.format.min_code <= acc.low.min() and acc.high.max() <= acc.format.max_code
    assert max(acc.channel_bits) <= acc.format.width and acc.bound == max(acc.high.max(), -acc.low.min())
    assert min(acc.product_shift, acc.bias_shift) == 0


@given(small_weights, st.sampled_from(FORMATS))
def test_bounds_of_a_convolution_hold_at_every_position(weight: list[int], fmt: FixedFormat) -> None:
    """With padding fewer terms meet; the bound is reached where all do."""
    net = Net((1, 4, 1), fmt).conv(np.reshape(weight, (1, 3, 1, 2)), [1, -2], padding="same")
    op, seen = first(net.graph(), Conv2D), []
    assert isinstance(op, Conv2D)
    reference.run(net.graph(), every_input(fmt, 4).reshape(-1, 1, 4, 1), lambda _, exact, frac_bits: seen.append(exact))
    acc, result = accumulation(op, fmt), np.concatenate(seen)
    assert (result >= acc.low).all() and (result <= acc.high).all()
    whole = Net((3,), fmt).dense(np.reshape(weight, (3, 2)), [1, -2]).ops[-1]
    assert isinstance(whole, MatMul)
    assert np.array_equal(acc.low, accumulation(whole, fmt).low)


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
        frac_bits, low, high = exact_result(op, fmt)
        exact = np.concatenate([part for part, _ in seen])
        assert frac_bits == seen[0][1]
        assert (low, high) == (exact.min(), exact.max())


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
    scale, offset, frac_bits = batchnorm_on_grid(op, u(2))
    assert (scale.tolist(), offset.tolist(), frac_bits) == ([12], [1], 3)


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
        assert acc.low.min() < half.min_code or acc.high.max() > half.max_code


def test_relu_has_no_negative_end() -> None:
    assert exact_result(Net((2,), s(4, 1)).relu().ops[-1], s(4, 1)) == (1, 0, 7)
    assert isinstance(Net((2,), s(4, 1)).relu().ops[-1], Relu)
