"""Compare: the first op that differs, a counterexample with few inputs, and the change that explains the codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zoo
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, first, inputs, s, u

from flow import reference
from flow.compare import explain, first_divergence, mismatches, shrink
from flow.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.graph import IntGraph, MatMul
from flow.passes import lower
from flow.results import SimResult


def graph(
    rounding: Rounding = Rounding.RND_CONV, overflow: Overflow = Overflow.SAT, fmt: FixedFormat | None = None
) -> IntGraph:
    """Return a graph whose sums fall on every tie and leave the output format at both ends."""
    net = Net((6,), s(4)).dense(zoo.ints(6, 4), [1, 0, -1, 2], frac=1)
    return lower(net.requantize(fmt or s(5, -1), rounding, overflow).dense(zoo.po2(4, 2)).graph())


def run(other: IntGraph, codes: Codes) -> SimResult:
    """Return what another graph computes, as if csim had."""
    return replace(reference.run(other, codes), level="csim")


CODES = inputs(graph(), 3000)
MODES = [(rounding, overflow) for rounding in Rounding for overflow in Overflow]


def test_equal_levels_have_no_divergence() -> None:
    own = reference.run(graph(), CODES)
    assert first_divergence(graph(), own, run(graph(), CODES), None) is None
    assert set(mismatches(own, own, graph().ops).values()) == {0}


@pytest.mark.parametrize("own", [(Rounding.RND_CONV, Overflow.SAT), (Rounding.TRN, Overflow.WRAP)])
@pytest.mark.parametrize("other", MODES)
def test_every_other_mode_is_named(own: tuple[Rounding, Overflow], other: tuple[Rounding, Overflow]) -> None:
    if own == other:
        return
    mine, theirs = graph(*own), graph(*other)
    divergence = first_divergence(mine, reference.run(mine, CODES), run(theirs, CODES), None)
    assert divergence is not None and divergence.op == "dense_1"
    changed = [(b.value, a.value) for a, b in zip(own, other, strict=True) if a is not b]
    new, old = (" and ".join(words) for words in zip(*changed, strict=True))
    assert divergence.cause == f"{new} instead of {old} gives exactly the observed codes"


def test_the_smallest_change_is_named_where_more_would_do() -> None:
    """Where nothing overflows, any overflow mode fits; only the rounding is named."""
    mine, theirs = graph(fmt=s(12, -1)), graph(Rounding.TRN, fmt=s(12, -1))
    divergence = first_divergence(mine, reference.run(mine, CODES), run(theirs, CODES), None)
    assert divergence is not None and divergence.cause.startswith("AP_TRN instead of AP_RND_CONV gives")


@pytest.mark.parametrize("fmt", [s(4, -1), s(3, -1), s(6, -1), s(4, -2), s(3, -3), s(5, -2)])
def test_every_other_width_is_named(fmt: FixedFormat) -> None:
    mine = graph()
    theirs = graph(fmt=fmt)
    codes = reference.run(theirs, CODES).codes["dense_1"].astype(np.int64) << (-1 - fmt.frac_bits)
    cause = explain(mine, mine["dense_1"], CODES, codes)
    assert cause == f"an output of format {fmt} instead of {s(5, -1)} gives exactly the observed codes"


def test_a_narrow_accumulator_is_named() -> None:
    wide = graph(fmt=s(10))
    op = first(wide)
    assert isinstance(op, MatMul) and op.accumulator is not None
    for width in range(op.accumulator.width - 1, 5, -1):
        exact = reference.run(lower(Net((6,), s(4)).dense(op.weight, op.bias, frac=1).graph()), CODES).codes["dense_1"]
        low = exact.astype(np.int64) & ((1 << width) - 1)
        wrapped = np.where(low >= 1 << (width - 1), low - (1 << width), low)
        observed = np.clip(np.rint(wrapped / 2), -512, 511).astype(np.int64)
        if np.array_equal(observed, reference.run(wide, CODES).codes["dense_1"]):
            continue  # no sum of these inputs is that large
        cause = explain(wide, op, CODES, observed)
        words = f"an accumulator of {width} bits that wraps, instead of {op.accumulator.width},"
        assert cause == f"{words} gives exactly the observed codes"


def test_a_wrong_weight_is_not_taken_for_a_mode() -> None:
    mine = graph()
    op = first(mine)
    assert isinstance(op, MatMul)
    weight = op.weight.copy()
    weight[2, 1] -= 1
    theirs = replace(mine, ops=tuple(replace(op, weight=weight) if each is op else each for each in mine.ops))
    divergence = first_divergence(mine, reference.run(mine, CODES), run(theirs, CODES), None)
    assert divergence is not None
    assert (
        "outputs differ in 1 of 4 channels (first: 1): a weight, a bias or an input of this op differs"
        in divergence.cause
    )


def test_the_first_op_in_dataflow_order_and_the_simplest_sample() -> None:
    mine = graph()
    own = reference.run(mine, CODES)
    other = {name: codes.copy() for name, codes in own.codes.items()}
    last = mine.output.name
    other[last][5, 1] += 1
    other[last][2, 0] += 1  # sample 2 is all zero
    divergence = first_divergence(mine, own, SimResult(level="csim", codes=other), None)
    assert divergence is not None
    assert (divergence.op, divergence.sample, divergence.index, divergence.nonzero_inputs) == (last, 2, (0,), 0)
    assert divergence.codes == (own.codes[last][2, 0], other[last][2, 0]) and divergence.levels == ("reference", "csim")
    assert mismatches(own, SimResult(level="csim", codes=other), mine.ops)[last] == 2
    other["dense_1"][7, 3] += 1
    divergence = first_divergence(mine, own, SimResult(level="csim", codes=other), None)
    assert divergence is not None and (divergence.op, divergence.sample, divergence.index) == ("dense_1", 7, (3,))
    assert divergence.to_json()["op"] == "dense_1" and "counterexample" not in divergence.to_json()


def test_levels_that_know_fewer_ops() -> None:
    mine = graph()
    own = reference.run(mine, CODES)
    other = SimResult(level="qkeras", codes={mine.output.name: own.codes[mine.output.name] + 1})
    divergence = first_divergence(mine, own, other, None)
    assert divergence is not None and divergence.op == mine.output.name and divergence.levels[1] == "qkeras"
    assert set(mismatches(own, other, mine.ops)) == {mine.output.name}


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_shrinking_leaves_only_what_is_needed(size: int, seed: int) -> None:
    """The levels differ if both of two elements are not zero: those two are found among any number of others."""
    rng = np.random.default_rng(seed)
    needed = rng.choice(size, min(2, size), replace=False)
    calls = []

    def differ(trials: Codes) -> np.ndarray:
        calls.append(len(trials))
        return (trials.reshape(len(trials), -1)[:, needed] != 0).all(axis=1)

    codes = rng.integers(1, 9, (size, 1))
    small = shrink(codes, differ)
    assert sorted(np.flatnonzero(small)) == sorted(needed) and small.shape == codes.shape
    assert (small[small != 0] == codes[small != 0]).all() and len(calls) <= 40


def test_shrinking_a_real_divergence_reproduces_it() -> None:
    mine, theirs = graph(), graph(Rounding.RND)

    def differ(trials: Codes) -> np.ndarray:
        wrong = reference.run(mine, trials).codes["dense_1"] != reference.run(theirs, trials).codes["dense_1"]
        return wrong.any(axis=1)

    divergence = first_divergence(mine, reference.run(mine, CODES), run(theirs, CODES), differ)
    assert divergence is not None and differ(divergence.counterexample[None]).all()
    for position in np.flatnonzero(divergence.counterexample):
        fewer = divergence.counterexample.copy()
        fewer[position] = 0
        assert not differ(fewer[None]).any(), "one more input could be zero"


def test_ops_without_arithmetic() -> None:
    pooled = lower(Net((2, 2, 1), u(4)).pool((2, 2)).flatten().graph())
    codes = inputs(pooled, 50)
    own = reference.run(pooled, codes)
    op = pooled.ops[1]
    wrong = own.codes[op.name].astype(np.int64) + 1
    assert "no other rounding, overflow or width explains it" in explain(pooled, op, codes, wrong)
