"""Compare: the first op that differs, a counterexample with few inputs, and the change that explains the codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import zoo
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, altered, first, inputs, s, u

from flow.ir import reference
from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.ir.graph import IntGraph, MatMul
from flow.ir.passes import lower
from flow.results import Divergence, SimResult
from flow.verification.compare import explain, first_divergence, mismatches, shrink


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
    assert divergence.cause == f"{new} instead of {old} gives exactly the observed codes of {len(CODES)} inputs"


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
    cause = explain(mine, mine["dense_1"], {"port": CODES}, codes)
    words = f"an output of format {fmt} instead of {s(5, -1)}"
    assert cause == f"{words} gives exactly the observed codes of {len(CODES)} inputs"


def test_a_narrow_accumulator_is_named() -> None:
    wide = graph(fmt=s(10))
    op = first(wide)
    assert isinstance(op, MatMul) and op.accumulator is not None
    for width in range(op.accumulator.width - 1, 5, -1):
        exact = reference.run(
            lower(Net((6,), s(4)).dense(op.weight.codes, op.bias.codes, frac=1).graph()), CODES
        ).codes["dense_1"]
        low = exact.astype(np.int64) & ((1 << width) - 1)
        wrapped = np.where(low >= 1 << (width - 1), low - (1 << width), low)
        observed = np.clip(np.rint(wrapped / 2), -512, 511).astype(np.int64)
        if np.array_equal(observed, reference.run(wide, CODES).codes["dense_1"]):
            continue  # no sum of these inputs is that large
        cause = explain(wide, op, {"port": CODES}, observed)
        words = f"an accumulator of {width} bits that wraps, instead of {op.accumulator.width},"
        assert cause == f"{words} gives exactly the observed codes of {len(CODES)} inputs"


def test_a_wrong_weight_is_not_taken_for_a_mode() -> None:
    mine = graph()
    op = first(mine)
    assert isinstance(op, MatMul)
    weight = op.weight.codes.copy()
    weight[2, 1] -= 1
    theirs = replace(mine, ops=tuple(altered(op, weight=weight) if each is op else each for each in mine.ops))
    divergence = first_divergence(mine, reference.run(mine, CODES), run(theirs, CODES), None)
    assert divergence is not None
    assert divergence.cause.startswith(
        f"weight (2, 1) of {weight[2, 1]} instead of {op.weight.codes[2, 1]} gives exactly"
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

    def rerun(trials: Codes) -> tuple[SimResult, SimResult]:
        return reference.run(mine, trials), run(theirs, trials)

    def differ(trials: Codes) -> np.ndarray:
        own, other = rerun(trials)
        return (own.codes["dense_1"] != other.codes["dense_1"]).any(axis=1)

    divergence = first_divergence(mine, *rerun(CODES), rerun)
    assert divergence is not None and differ(divergence.counterexample[None]).all()
    again = first_divergence(mine, *rerun(divergence.counterexample[None]), rerun)
    assert again is not None and np.array_equal(again.counterexample, divergence.counterexample)
    assert (again.op, again.index, again.codes) == (divergence.op, divergence.index, divergence.codes)
    for position in np.flatnonzero(divergence.counterexample):
        fewer = divergence.counterexample.copy()
        fewer[position] = 0
        assert not differ(fewer[None]).any(), "one more input could be zero"


def test_a_level_that_remembers_inputs() -> None:
    """A difference that an input shows only behind others keeps that input as it is, and says so."""
    mine, theirs = graph(), graph(Rounding.TRN)

    def rerun(codes: Codes) -> tuple[SimResult, SimResult]:
        other = run(theirs, codes)
        first_codes = {name: reference.run(mine, codes[:1]).codes[name] for name in other.codes}
        kept = {name: np.concatenate([first_codes[name], array[1:]]) for name, array in other.codes.items()}
        return reference.run(mine, codes), replace(other, codes=kept)

    divergence = first_divergence(mine, *rerun(CODES), rerun)
    assert divergence is not None and divergence.op == "dense_1" and divergence.sample > 0
    assert np.array_equal(divergence.counterexample, CODES[divergence.sample])
    assert divergence.codes[0] != divergence.codes[1]
    assert divergence.cause.startswith("alone this input differs no more")


def test_ops_without_arithmetic() -> None:
    pooled = lower(Net((2, 2, 1), u(4)).pool((2, 2)).flatten().graph())
    codes = inputs(pooled, 50)
    own = reference.run(pooled, codes)
    op = pooled.ops[1]
    wrong = own.codes[op.name].astype(np.int64) + 1
    cause = explain(pooled, op, own.codes, wrong)
    assert cause is not None and "no other rounding, overflow, width or single number explains it" in cause


# two levels, several inputs


def residual() -> IntGraph:
    """Return a graph of two inputs whose branches meet."""
    net = Net((4,), s(4)).port("other", (3, 3, 2), u(3)).mark("a").back("other").conv(zoo.po2(3, 3, 2, 4))
    return lower(net.relu().requantize(u(5)).flatten().merge("add", "a").requantize(s(6)).graph())


def with_op(graph: IntGraph, name: str, **values: object) -> IntGraph:
    ops = tuple(altered(op, **values) if op.name == name else op for op in graph.ops)
    return replace(graph, ops=ops)


def level(name: str, graph: IntGraph, *hidden: str) -> Callable[[Codes], SimResult]:
    """Return a level that computes a graph and does not show some ops."""

    def compute(codes: Codes) -> SimResult:
        result = reference.run(graph, codes)
        shown = {op: each for op, each in result.codes.items() if op not in hidden}
        return replace(result, level=name, codes=shown)

    return compute


def divergence_of(graph: IntGraph, first: Callable[..., SimResult], second: Callable[..., SimResult]) -> Divergence:
    codes = inputs(graph, 500)
    found = first_divergence(graph, first(codes), second(codes), lambda trials: (first(trials), second(trials)))
    assert found is not None
    return found


def test_a_counterexample_with_several_inputs_is_shrunk_over_all_of_them() -> None:
    graph = residual()
    last = graph.output.name

    def theirs(codes: Codes) -> SimResult:
        result, parts = run(graph, codes), graph.split_port(codes)
        both = np.all([each.reshape(len(codes), -1).any(axis=1) for each in parts.values()], axis=0)
        return replace(result, codes={**result.codes, last: result.codes[last] + both[:, np.newaxis]})

    found = divergence_of(graph, level("reference", graph), theirs)
    assert found.op == last and found.counterexample.shape == graph.port_shape
    parts = graph.split_port(found.counterexample[None])
    assert [np.count_nonzero(each) for each in parts.values()] == [1, 1] and found.nonzero_inputs == 2


def test_a_merge_of_two_inputs_is_explained() -> None:
    graph = residual()
    theirs = with_op(graph, graph.output.name, function="maximum")
    found = divergence_of(graph, level("reference", graph), level("csim", theirs))
    assert found.op == graph.output.name and found.nonzero_inputs == 1
    assert found.cause.startswith("maximum instead of add gives exactly")


def test_shrinking_stays_at_the_first_op() -> None:
    """Where more zeros would move the divergence to an earlier op, they are not taken."""
    graph = lower(Net((4,), s(5)).relu().dense(zoo.ints(4, 3)).requantize(s(6)).graph())

    def theirs(codes: Codes) -> SimResult:
        result = run(graph, codes)
        few = np.count_nonzero(codes, axis=1) < 2
        relu, last = (result.codes[op.name].copy() for op in graph.ops[1:3])
        relu[few] ^= 1
        last[(codes != 0).any(axis=1)] ^= 1
        return replace(result, codes={**result.codes, graph.ops[1].name: relu, graph.ops[2].name: last})

    codes = np.array([[1, 2, 3, 4]])
    own = level("reference", graph)
    found = first_divergence(graph, own(codes), theirs(codes), lambda trials: (own(trials), theirs(trials)))
    assert found is not None and (found.op, found.nonzero_inputs) == (graph.ops[2].name, 2)


@pytest.mark.parametrize("names", [("qkeras", "csim"), ("csim", "qkeras"), ("qkeras", "reference")])
def test_any_two_levels(names: tuple[str, str]) -> None:
    """The cause is that of the level which is not what the graph says, whichever stands first."""
    mine = graph()
    wrong = graph(Rounding.TRN)
    first, second = (level(name, wrong if name == "qkeras" else mine) for name in names)
    found = divergence_of(mine, first, second)
    assert found.levels == names and found.op == "dense_1"
    words = "AP_TRN instead of AP_RND_CONV gives exactly"
    assert found.cause.startswith(words if "reference" in names else f"qkeras: {words}")


def test_two_levels_that_are_both_wrong() -> None:
    mine = graph()
    found = divergence_of(mine, level("qkeras", graph(Rounding.TRN)), level("csim", graph(Rounding.RND)))
    csim, qkeras = found.cause.split("; ")
    assert csim.startswith("csim: AP_RND instead of AP_RND_CONV gives")
    assert qkeras.startswith("qkeras: AP_TRN instead of AP_RND_CONV gives")


def test_an_op_whose_input_no_level_shows() -> None:
    """QKeras does not show every op: what one reads is computed by the reference, and the cause says so."""
    graph = lower(Net((4,), s(5)).relu().dense(zoo.ints(4, 3)).requantize(s(6, -1)).graph())
    hidden, last = graph.ops[1].name, graph.output.name
    theirs = with_op(graph, last, rounding=Rounding.TRN)
    found = divergence_of(graph, level("reference", graph), level("qkeras", theirs, hidden))
    assert found.op == last and found.cause.startswith("AP_TRN instead of AP_RND_CONV gives exactly")
    assert found.cause.endswith(f"(its input {hidden} was not compared)")
    found = divergence_of(graph, level("csim", graph, hidden), level("qkeras", theirs, hidden))
    assert found.cause.startswith("qkeras: AP_TRN instead of AP_RND_CONV gives exactly")


def test_levels_that_read_different_inputs() -> None:
    mine = graph()
    own = reference.run(mine, CODES)
    other = replace(own, level="csim", codes={**own.codes, "port": own.codes["port"] + 1})
    found = first_divergence(mine, own, other, None)
    assert found is not None and (found.op, found.cause) == ("port", "the levels read different inputs")
