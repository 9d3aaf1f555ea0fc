"""Adversarial inputs: the same ones for anyone, in range, and they reach what they claim to reach."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zoo
from nets import Net, first, s, u

from flow.data import adversarial
from flow.data.adversarial import GENERATIONS, POOL, SEED, _aims, _edge_distances, adversarial_inputs, corner_inputs
from flow.ir import reference
from flow.ir.graph import IntGraph, Lookup, MatMul, Op
from flow.ir.intervals import accumulation
from flow.ir.passes import lower
from flow.results import SimResult

COUNT = 256
ROWS = [
    "dense_signed_input",
    "dense_one_bit_input",
    "dense_single_element",
    "conv_same",
    "everything",
    "relu_then_cast",
    "two_inputs",
    "residual",
    "concatenate_rows",
]
SEARCHED = ["average_of_nine", "residual_twice", "dense_twice", "lookup_wide"]
"""Rows with edges that random inputs do not reach."""


def sums(graph: IntGraph, codes: np.ndarray, name: str) -> np.ndarray:
    parts: list[np.ndarray] = []

    def keep(op: Op, exact: np.ndarray, frac_bits: int) -> None:
        if op.name == name:
            parts.append(exact.astype(np.int64))  # a copy: the cast that follows works in place

    reference.run(graph, codes, keep)
    return np.concatenate(parts)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("count", [16, COUNT, 2000])
def test_count_range_and_repetition(name: str, count: int) -> None:
    graph = lower(zoo.row(name))
    codes = adversarial_inputs(graph, count)
    low, high = graph.port_limits()
    assert codes.shape == (count, *graph.port_shape) and codes.dtype == np.int16
    assert (low <= codes).all() and (codes <= high).all()
    assert codes.min() == low.min() and codes.max() == high.max()
    assert np.array_equal(codes, adversarial_inputs(lower(zoo.row(name)), count))


def test_corners() -> None:
    rows = corner_inputs(Net((2, 2, 1), s(3)).graph()).reshape(-1, 4).tolist()
    assert rows[:6] == [[-4] * 4, [3] * 4, [0] * 4, [3, -4, 3, -4], [-4, 3, -4, 3], [3, 0, 3, 0]]
    assert len(rows) == 7 and len(set(rows[6])) > 1
    both = corner_inputs(Net((2,), s(3)).port("b", (1,), u(2)).graph())
    assert both[:4].tolist() == [[-4, -4, 0], [3, 3, 3], [0, 0, 0], [3, -4, 3]], "each port at its own ends"


@pytest.mark.parametrize("fmt", [u(4), s(5, 2), u(1), s(2)])
def test_each_element_stands_alone_at_its_ends(fmt) -> None:
    graph = lower(Net((6,), fmt).dense(zoo.ints(6, 3)).requantize(s(5)).graph())
    rows = {tuple(row) for row in adversarial_inputs(graph, COUNT).tolist()}
    for end in {fmt.min_code, fmt.max_code} - {0}:
        for position in range(6):
            assert tuple(end if i == position else 0 for i in range(6)) in rows


@pytest.mark.parametrize("fmt", [u(4), s(5, 2), u(1)])
def test_the_accumulators_of_the_first_op_reach_both_ends(fmt) -> None:
    """Without a bias the ends of the interval are sums that occur, so the inputs must show them."""
    graph = lower(Net((9,), fmt).dense(zoo.ints(9, 5)).relu().requantize(u(4)).graph())
    op = first(graph)
    assert isinstance(op, MatMul)
    acc, found = accumulation(op, fmt), sums(graph, adversarial_inputs(graph, COUNT), op.name)
    assert np.array_equal(found.min(axis=0), acc.channel_low) and np.array_equal(found.max(axis=0), acc.channel_high)


def test_later_accumulators_go_as_far_as_with_any_of_many_random_inputs() -> None:
    rng = np.random.default_rng(SEED)
    graph = lower(
        Net((12,), u(4)).dense(zoo.ints(12, 8)).relu().requantize(u(4, -3)).dense(zoo.ints(8, 6), frac=1).graph()
    )
    name = graph.output.name
    random = sums(graph, rng.integers(0, 15, (POOL, 12), endpoint=True), name)
    ours = sums(graph, adversarial_inputs(graph, COUNT), name)
    assert (ours.max(axis=0) >= random.max(axis=0)).all() and (ours.min(axis=0) <= random.min(axis=0)).all()
    assert np.ptp(ours, axis=0).sum() > np.ptp(random, axis=0).sum()


def test_ties_and_both_ends_of_the_output_are_hit() -> None:
    """An op whose sums seldom fall on a tie (one in 16) or on the last code before it saturates."""
    graph = lower(Net((6,), u(4)).dense(zoo.ints(6, 2), [3, -1]).requantize(s(3, -4)).graph())
    op = first(graph)
    found = sums(graph, adversarial_inputs(graph, COUNT), op.name)
    random = sums(graph, np.random.default_rng(0).integers(0, 15, (COUNT, 6), endpoint=True), op.name)

    def ties(values: np.ndarray) -> int:
        return int(np.count_nonzero(values % 16 == 8))

    assert ties(found) > 1.5 * ties(random) > 0
    outputs = reference.run_output(graph, adversarial_inputs(graph, COUNT))
    assert {-4, 3} <= set(outputs.reshape(-1).tolist())


@pytest.mark.parametrize("name", [*ROWS, *SEARCHED])
def test_no_edge_of_any_op_is_farther_than_from_as_many_random_inputs(name: str) -> None:
    graph, count = lower(zoo.row(name)), 2048
    low, high = graph.port_limits()
    random = np.random.default_rng(0).integers(low, high, (count, *low.shape), endpoint=True)
    aims = _aims(graph, corner_inputs(graph), count)
    sides = (adversarial_inputs(graph, count), random)
    ours, theirs = (_edge_distances(graph, codes, aims).min(axis=0) for codes in sides)
    assert (ours <= theirs).all()
    assert name not in SEARCHED or (ours < theirs).any()


def test_both_sides_of_each_step_of_a_table_occur() -> None:
    """The table is behind a dense op, and has 16,384 codes."""
    graph = lower(zoo.row("lookup_wide"))
    op = first(graph, Lookup)
    assert isinstance(op, Lookup)
    seen = set(reference.run(graph, adversarial_inputs(graph, 2048)).codes[op.inputs[0]].reshape(-1).tolist())
    reached = [start for start in op.starts.tolist()[1:] if min(seen) < start <= max(seen)]
    assert reached and {each for start in reached for each in (start, start - 1)} <= seen


def image_net(side: int, depth: int) -> IntGraph:
    """Return convolutions of an image with 3 channels, the first with a stride of 4."""
    net = Net((side, side, 3), u(8))
    for number in range(depth):
        channels = net.ops[-1].shape[-1]
        net = net.conv(zoo.ints(3, 3, channels, 4), strides=(4, 4) if number == 0 else (1, 1), padding="same")
        net = net.relu().requantize(u(4, -2))
    return lower(net.graph())


def peak_bytes(graph: IntGraph, count: int) -> int:
    tracemalloc.start()
    try:
        adversarial_inputs(graph, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_no_faster_than_the_input() -> None:
    small, large = (peak_bytes(image_net(side, 1), 16) for side in (48, 96))
    assert large < 4.5 * small
    assert large < 64 << 20, "an identity matrix over the elements would have 5.7 GB"


def test_the_work_is_that_of_some_times_the_inputs_whatever_the_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    samples: list[int] = []

    def counted(graph: IntGraph, codes: np.ndarray, *asked, **named) -> SimResult:
        samples.append(len(codes))
        return reference.run(graph, codes, *asked, **named)

    monkeypatch.setattr(adversarial, "run", counted)
    totals = []
    for depth in (1, 6):
        samples.clear()
        adversarial_inputs(image_net(16, depth), 32)
        totals.append(sum(samples))
    assert totals[0] == totals[1] <= 32 * 2 * (GENERATIONS + 4)
