"""Passes: what they make of each pattern, what they leave, and that no generated graph changes its meaning."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, first, inputs, s, u

from flow.errors import UnsupportedError
from flow.ir.fixed import Cast, Constant, FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Dense, IntGraph, Lookup, MatMul, Op, Relu, from_json, to_json, verify
from flow.ir.passes import drop_channels, fold_batchnorm, fuse_requantize, infer_accumulators, lower, rewrite
from flow.ir.passes.fold_batchnorm import _fold, narrowed
from flow.ir.passes.fuse_requantize import _fuse
from flow.ir.passes.rewrite import merge_pairs
from flow.ir.po2 import is_po2
from flow.ir.reference import run, run_output


def kinds(graph: IntGraph) -> list[str]:
    return [op.kind for op in graph.ops[1:]]


def dense() -> Net:
    return Net((3,), u(4)).dense([[1, 2], [-4, 0], [2, -1]], [3, -5], frac=1)


def test_fold_multiplies_weights_and_bias() -> None:
    graph = fold_batchnorm(dense().batchnorm([4, -2], [1, 3], frac=2, offset_frac=4).graph())
    assert kinds(graph) == ["dense"]
    op = first(graph)
    assert isinstance(op, Dense) and is_po2(op.weight.codes)
    step = op.weight.format.step
    assert (op.weight.codes * step).tolist() == [[0.5, -0.5], [-2.0, 0.0], [1.0, 0.25]]
    assert (op.bias.codes * op.bias.format.step).tolist() == [1.5 + 1 / 16, 1.25 + 3 / 16]
    assert op.layers == ("dense_1", "batchnorm_2") and op.fused == ("dense", "batchnorm")


def test_fold_narrows_what_it_makes() -> None:
    constant = narrowed(np.array([8, -24, 0]), 5)
    assert constant.codes.tolist() == [1, -3, 0] and constant.format == FixedFormat(True, 0, 2)
    constant = narrowed(np.zeros(3, np.int64), 50)
    assert not constant.codes.any() and constant.format == u(1)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (dense().requantize(s(4)).batchnorm([2, 1], [0, 1]), ["dense", "batchnorm"]),
        (dense().relu().batchnorm([2, 1], [0, 1]), ["dense", "batchnorm"]),
        (dense().batchnorm([2, 1], [0, 1]).batchnorm([1, 4], [0, 1]), ["dense"]),
        (Net((3,), u(4)).batchnorm([1, 2, 3], [0, 0, 1]).relu().requantize(u(3)), ["batchnorm"]),
        (dense().relu().requantize(u(3)), ["dense"]),
        (dense().requantize(s(4)), ["dense"]),
        (dense().requantize(s(4)).requantize(s(3)), ["dense", "requantize"]),
        (dense().relu().requantize(u(4)).requantize(u(3)), ["dense", "requantize"]),
        (dense().requantize(s(4)).relu(), ["dense", "relu"]),
        (dense().relu().requantize(u(3), overflow=Overflow.WRAP), ["dense", "requantize"]),
        (dense().relu().requantize(u(3), overflow=Overflow.SAT_ZERO), ["dense", "requantize"]),
        (dense().relu().requantize(s(1)), ["dense", "requantize"]),
        (dense().requantize(s(12, 3)).requantize(s(3)), ["dense"]),
        (Net((3,), s(4)).relu().requantize(u(3)), ["relu"]),
        (Net((3,), s(6)).relu(limit=9).requantize(u(3)), ["relu"]),
        (dense().relu(limit=9).requantize(u(3)), ["dense", "relu"]),
        (dense().leaky([1], frac=2).requantize(s(4)), ["dense", "leaky_relu"]),
        (dense().requantize(s(4)).mark("a").merge("add", "a").relu().requantize(u(4)), ["dense", "merge"]),
        (
            dense().mark("a").relu().requantize(u(4)).dense([[1, 2], [2, 1]]).merge("add", "a"),
            ["dense", "relu", "dense", "merge"],
        ),
        (dense().mark("a").leave("a").relu().requantize(u(4)), ["dense", "relu"]),
        (Net((4, 4, 1), s(4)).average((2, 2), s(4)), ["sumpool"]),
        (Net((6, 1), s(4)).average((3,), s(4)).relu(), ["sumpool", "relu"]),
        (dense().requantize(s(6), divisor=3), ["dense", "requantize"]),
        (Net((2, 3), s(4)).gather(lambda x: x[::-1]).requantize(s(3)), ["gather", "requantize"]),
        (Net((3,), s(4)).lookup([-8, 0], [-1, 1], s(3)).requantize(s(2)), ["lookup", "requantize"]),
        (Net((2, 2, 1), s(4)).pool((2, 2)).relu(), ["maxpool", "relu"]),
    ],
)  # fmt: skip
def test_what_is_fused_and_what_is_not(net: Net, expected: list[str]) -> None:
    graph = net.graph()
    lowered = lower(graph)
    assert kinds(lowered) == expected
    codes = inputs(graph, 200)
    assert np.array_equal(run_output(lowered, codes), run_output(graph, codes))


def test_a_unified_module_has_the_cast_of_its_requantization() -> None:
    op = first(lower(dense().relu().requantize(s(5, -1), Rounding.RND_INF, Overflow.SAT_SYM).graph()))
    assert (op.format, op.cast.rounding, op.cast.overflow) == (u(4, -1), Rounding.RND_INF, Overflow.SAT_SYM)
    assert op.fused == ("dense", "relu", "requantize")
    op = first(lower(dense().relu().graph()))
    assert not op.format.signed and op.cast.overflow is Overflow.SAT


def test_a_batch_norm_and_the_step_function_behind_it_are_thresholds_of_each_channel() -> None:
    rng = np.random.default_rng(11)
    every = np.broadcast_to(np.arange(-128, 128)[:, None], (256, 5))
    for trial in range(40):
        scale, offset = rng.integers(-30000, 30000, 5) * (rng.random(5) < 0.9), rng.integers(-90000, 90000, 5)
        net = Net((5,), s(8)).batchnorm([*scale[:4], 65000], offset, offset_frac=trial % 3)
        fmt = net.last.format
        within = rng.integers(fmt.min_code + 1, fmt.max_code, 6) >> rng.choice([0, 3, 12])
        starts = [fmt.min_code, *np.unique(within)]
        graph = net.lookup(starts, rng.integers(-8, 8, len(starts)), s(4)).graph()
        lowered = lower(graph)
        op = first(lowered, Lookup)
        assert isinstance(op, Lookup) and op.fused == ("batchnorm", "lookup") and len(op.starts) == 5
        assert np.array_equal(run_output(lowered, every), run_output(graph, every))


def test_a_batch_norm_before_a_table_is_folded_as_ever() -> None:
    assert kinds(lower(dense().batchnorm([4, -2], [1, 3]).lookup([-256, 0], [-1, 1], s(2)).graph())) == [
        "dense",
        "lookup",
    ]


def test_a_relu_that_rounds_is_not_fused() -> None:
    graph = dense().relu().graph()
    rounds = replace(graph.ops[-1], cast=Cast(u(2), Rounding.RND))
    graph = replace(graph, ops=(*graph.ops[:-1], rounds))
    lowered = lower(graph)
    assert isinstance(lowered.output, Relu)
    codes = inputs(graph, 200)
    assert np.array_equal(run_output(lowered, codes), run_output(graph, codes))


def test_an_op_that_two_read_is_not_merged() -> None:
    """Each reader needs what stands between them as it is."""
    graph = dense().batchnorm([4, -2], [1, 3]).graph()
    branch = replace(graph.ops[-1], name="other")
    graph = replace(graph, ops=(*graph.ops, branch), outputs=("batchnorm_2", "other"))
    assert [op.name for op in fold_batchnorm(graph).ops] == [op.name for op in graph.ops]


def pairs_by_definition(graph: IntGraph, merge: rewrite.Merge) -> IntGraph:
    """Merge the first pair that can be merged, then start again."""
    for op in graph.ops:
        readers = graph.readers(op.name)
        merged = merge(op, readers[0], graph) if len(readers) == 1 and op.name not in graph.outputs else None
        if merged is not None:
            (second,) = readers
            merged = replace(merged, layers=op.layers + second.layers, fused=op.fused + second.fused)
            outputs = tuple(op.name if name == second.name else name for name in graph.outputs)
            ops = rewrite._substitute(graph.ops, op, second, merged)
            return pairs_by_definition(replace(graph, ops=ops, outputs=outputs), merge)
    return graph


def check_pairs(graph: IntGraph) -> None:
    for merge in (_fold, _fuse):
        assert merge_pairs(graph, merge).digest() == pairs_by_definition(graph, merge).digest()
        graph = merge_pairs(graph, merge)


@pytest.mark.parametrize("name", zoo.ROWS)
def test_merging_in_one_go_is_merging_one_by_one(name: str) -> None:
    check_pairs(zoo.row(name))


def test_merging_goes_back_to_what_a_merge_made_possible() -> None:
    """Two casts in a row go away from the last to the first, if only the last pair may be merged at first."""
    graph = Net((2,), s(9)).requantize(s(8)).requantize(s(7)).requantize(s(6)).requantize(s(5)).graph()

    def merge(first: Op, second: Op, graph: IntGraph) -> Op | None:
        return first if not graph.readers(second.name) else None

    assert [op.name for op in merge_pairs(graph, merge).ops] == ["port"]
    assert merge_pairs(graph, merge).digest() == pairs_by_definition(graph, merge).digest()
    assert merge_pairs(graph, lambda first, second, graph: None) is graph

    def after_a_merge(first: Op, second: Op, graph: IntGraph) -> Op | None:
        """Merge the last pair, then the pair whose reader it is."""
        if first.name == "requantize_2":
            return None
        return first if all(len(op.fused) > 1 for op in graph.readers(second.name)) else None

    assert [op.name for op in merge_pairs(graph, after_a_merge).ops] == ["port"]
    assert merge_pairs(graph, after_a_merge).digest() == pairs_by_definition(graph, after_a_merge).digest()


def test_merging_takes_time_in_proportion_to_the_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair is tried a few times, and the graph verified once, however many ops there are."""
    depth, tried, verified = 100, [], []
    net = Net((2,), u(4))
    for _ in range(depth):
        net.dense([[1, -1], [2, 1]]).batchnorm([1, 3], [0, -2]).relu().requantize(u(4))
    graph = net.graph()

    def fold(first: Op, second: Op, graph: IntGraph) -> Op | None:
        tried.append(first.name)
        return _fold(first, second, graph)

    monkeypatch.setattr("flow.ir.graph.verify", verified.append)
    folded = merge_pairs(graph, fold)
    assert len(folded.ops) == 1 + 3 * depth and len(tried) < 8 * depth and len(verified) == 1
    monkeypatch.undo()
    verify(folded)


def test_accumulators_are_set_on_every_product() -> None:
    graph = infer_accumulators(dense().dense([[1], [1]]).graph())
    assert all(op.accumulator is not None and op.channel_bits for op in graph.ops if isinstance(op, MatMul))
    with pytest.raises(UnsupportedError, match="its accumulator may need"):
        wide = Net((4,), s(8)).dense(np.full((4, 1), 1 << 30)).graph()
        op = replace(wide.ops[1], weight=Constant(np.full((4, 1), 1 << 60), s(62)))
        infer_accumulators(replace(wide, ops=(wide.ops[0], op)))


formats = st.builds(
    lambda signed, width, frac: FixedFormat(signed, width - signed - frac, frac),
    st.booleans(), st.integers(1, 8), st.integers(-3, 4),
)  # fmt: skip
casts = st.tuples(formats, st.sampled_from(Rounding), st.sampled_from(Overflow))


@st.composite
def chains(draw: st.DrawFn) -> IntGraph:
    """Draw a chain of ops, in any order, also in orders that no model has."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    net = Net((draw(st.integers(1, 4)),), draw(formats))
    for kind in draw(st.lists(st.sampled_from(("dense", "batchnorm", "relu", "requantize")), min_size=1, max_size=7)):
        channels, last = net.ops[-1].shape[-1], net.ops[-1].format
        if last.width > 30:
            kind = "requantize"
        if kind == "dense":
            weight = rng.integers(-9, 9, (channels, int(rng.integers(1, 5))))
            net.dense(
                weight, rng.integers(-50, 50, weight.shape[1]), int(rng.integers(-2, 5)), int(rng.integers(-4, 8))
            )
        elif kind == "batchnorm":
            scale, offset = rng.integers(-9, 9, channels), rng.integers(-50, 50, channels)
            net.batchnorm(scale, offset, int(rng.integers(-2, 5)), int(rng.integers(-4, 8)))
        elif kind == "relu":
            net.relu()
        else:
            net.requantize(*draw(casts))
    return net.graph()


@settings(max_examples=400, deadline=None)
@given(chains())
def test_no_pass_changes_the_meaning_of_a_graph(graph: IntGraph) -> None:
    codes = inputs(graph, 60)
    expected = run_output(graph, codes)
    for each in (fold_batchnorm, fuse_requantize, infer_accumulators, lower):
        assert np.array_equal(run_output(each(graph), codes), expected), each.__name__


@settings(max_examples=200, deadline=None)
@given(chains())
def test_merging_in_one_go_is_merging_one_by_one_on_chains(graph: IntGraph) -> None:
    check_pairs(graph)


@settings(max_examples=100, deadline=None)
@given(chains())
def test_lowering_twice_is_lowering_once(graph: IntGraph) -> None:
    lowered = lower(graph)
    assert lower(lowered).digest() == lowered.digest()
    pairs = zip(lowered.ops, lowered.ops[1:], strict=False)
    assert not any(isinstance(a, MatMul) and isinstance(b, BatchNorm) and a.fused == ("dense",) for a, b in pairs)


# dead channels


def with_dead(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return weights some of whose channels are zeros, and some of whose inputs are not read."""
    weight = rng.integers(-3, 4, shape)
    weight[..., rng.random(shape[-1]) < 0.4] = 0
    weight[..., rng.random(shape[-2]) < 0.3, :] = 0
    return weight


def separable(rng: np.random.Generator) -> Net:
    """Return a net in which channels die in each way: unread, constant, saturated, behind padding, when flattened."""
    padding = "same" if rng.random() < 0.5 else "valid"
    net = Net((6, 5, 2), s(4)).conv(with_dead(rng, 3, 2, 2, 5), rng.integers(-9, 9, 5), padding=padding)
    net.batchnorm(rng.integers(1, 5, 5), rng.integers(-90, 9, 5)).relu().requantize(u(4, -2))
    net.conv(with_dead(rng, 2, 2, 1, 5), rng.integers(-5, 5, 5), groups=5).leaky(rng.integers(1, 3, 5), frac=1)
    net.requantize(s(5, -1)).pool((2, 2)).conv(with_dead(rng, 1, 1, 5, 4), rng.integers(-5, 5, 4), padding=padding)
    net.relu().requantize(u(3, -4)).reshape(math.prod(net.last.shape))
    return net.dense(with_dead(rng, net.last.shape[0], 6), rng.integers(-99, 9, 6)).relu().dense(with_dead(rng, 6, 3))


@pytest.mark.parametrize("seed", range(12))
def test_dead_channels_go_and_nothing_changes(seed: int) -> None:
    graph = fold_batchnorm(fuse_requantize(separable(np.random.default_rng(seed)).graph()))
    smaller, codes = drop_channels(graph), inputs(graph, 40)
    whole, part = run(graph, codes).codes, run(smaller, codes).codes
    assert sum(op.shape[-1] for op in smaller.ops) < sum(op.shape[-1] for op in graph.ops)
    for op in smaller.ops:
        kept = list(op.kept) or range(graph[op.name].shape[-1])
        assert np.array_equal(part[op.name], whole[op.name][..., kept]), op.name
    assert drop_channels(smaller) is smaller
    again = from_json(json.loads(json.dumps(to_json(smaller))))
    assert again.digest() == smaller.digest() and [op.kept for op in again.ops] == [op.kept for op in smaller.ops]


def test_channels_that_stay() -> None:
    """The last one, those of outputs, of sums of branches, of groups, and values that a window meets beside padding."""

    def ones(*shape: int) -> np.ndarray:
        return np.ones(shape, int)

    zeros, fours = np.zeros((3, 2), int), np.zeros((1, 3, 4), int)
    two = Net((3,), u(4)).dense(zeros, [1, 2])
    nets = {
        Net((3,), u(4)).dense(zeros, [1, 2]).dense([[1], [1]]): 1,
        two.mark("a").dense([[0], [1]]).mark("b").leave("a", "b"): 2,
        Net((3,), u(4)).dense(zeros, [0, 2]).mark("a").dense([[1, 0], [0, 1]]).merge("add", "a").dense([[1], [1]]): 2,
        Net((4, 3), u(4)).conv(zeros[None], [1, 2]).conv(np.ones((3, 2, 1), int), padding="same"): 2,
        Net((4, 3), u(4)).conv(zeros[None], [1, 2]).conv(ones(2, 1, 4), groups=2).conv(ones(1, 4, 1)): 2,
        Net((4, 3), u(4)).conv(fours, [1, 2, 3, 4]).conv(ones(2, 2, 4), groups=2).conv(ones(1, 4, 1)): 4,
        Net((4, 3), u(4)).conv(fours, [1, 2, 3, 4]).conv(ones(2, 2, 2), groups=2).conv(ones(1, 2, 1)): 4,
    }
    for net, channels in nets.items():
        graph = net.graph()
        smaller, codes = drop_channels(graph), inputs(graph, 9)
        assert smaller.ops[1].shape[-1] == channels
        assert np.array_equal(run_output(smaller, codes), run_output(graph, codes))
