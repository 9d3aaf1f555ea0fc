"""The reference's fast paths: each against a slow definition, at ties, negative codes, edges, and limits of floats."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import product

import numpy as np
import oracle
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net, inputs, s, u

from flow.ir import reference, sums
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import Gather, IntGraph, MatMul, Op
from flow.ir.intervals import accumulation
from flow.ir.steps import Step, added_pads, parts_of, step_of

EXACT = 1 << 24
FLOAT_CASTS = [*product((Rounding.RND_CONV, Rounding.RND, Rounding.TRN), (Overflow.SAT, Overflow.SAT_SYM))]


def same(graph: IntGraph, codes: np.ndarray) -> None:
    expected, found = oracle.evaluate(graph, codes), reference.run(graph, codes).codes
    for op in graph.ops:
        assert np.array_equal(found[op.name], expected[op.name]), op.name
    # codes that are not kept are stored otherwise
    assert np.array_equal(reference.run_output(graph, codes), expected[graph.output.name])


@pytest.mark.parametrize("name", zoo.ROWS)
def test_pieces_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of an image by itself; every sample by itself; sums of few products by themselves."""
    graph = zoo.row(name)
    codes = inputs(graph, 5)
    expected = reference.run(graph, codes).codes
    changes = (
        ((sums, "PIECE_BYTES", 1),),
        ((reference, "CACHE_BYTES", 1), (reference, "FEWEST_SAMPLES", 1)),
        ((sums, "FLOAT32_EXACT", 1 << 9), (sums, "FEWEST_PRODUCTS", 1)),
    )
    for changed in changes:
        with monkeypatch.context() as patch:
            for module, constant, value in changed:
                patch.setattr(module, constant, value)
            found = reference.run(graph, codes).codes
        assert all(np.array_equal(found[op.name], expected[op.name]) for op in graph.ops), changed


@pytest.mark.parametrize(
    ("samples", "shape", "bytes_each"),
    [(5, (7, 3, 2), 1), (5, (7, 3, 2), 1 << 18), (3, (7, 3, 2), 1 << 30), (1000, (9,), 1 << 13), (0, (4, 4, 1), 99)],
)
def test_pieces_cover_everything_once(samples: int, shape: tuple[int, ...], bytes_each: int) -> None:
    seen = np.zeros((samples, *shape), np.int64)
    for place in sums.pieces(samples, shape, bytes_each):
        seen[place] += 1
        assert sums.shape_at(Net(shape, u(1)).ops[0], place) == seen[place].shape[1:]
    assert (seen == 1).all()


@pytest.mark.parametrize(("rounding", "overflow"), list(product(Rounding, Overflow)))
def test_casts_are_the_oracle_on_every_code(rounding: Rounding, overflow: Overflow) -> None:
    """Every tie above and below zero, and both ends, of formats coarser, equal and finer, signed and unsigned."""
    codes = np.arange(-512, 512).reshape(-1, 1)
    for fmt in (s(6, -3), u(6, -2), s(5), u(5), s(4, -7), s(3, -12), u(2, -9), s(13, 2), u(12, 2), s(30, 25)):
        same(Net((1,), s(10)).requantize(fmt, rounding, overflow).graph(), codes)


@pytest.mark.parametrize(("rounding", "overflow"), FLOAT_CASTS)
@pytest.mark.parametrize("width", [25, 26, 54, 55])
def test_casts_at_the_end_of_floats(width: int, rounding: Rounding, overflow: Overflow) -> None:
    """Up to 2**24 in float32, up to 2**53 in float64, beyond that in wider types; half a step more counts."""
    end = 1 << width - 1
    codes = np.array([*range(-end, 9 - end), *range(-9, 9), *range(end - 9, end)]).reshape(-1, 1)
    for shift in (0, 1, 2, width - 3, width - 1, width, width + 9):
        for fmt in (s(width - 1, -shift), s(8, -shift)):
            net = Net((1,), s(width)).requantize(fmt, rounding, overflow)
            expected = Cast(fmt, rounding, overflow)(codes, 0)
            assert np.array_equal(reference.run_output(net.graph(), codes), expected), (shift, fmt)


def test_casts_to_formats_far_away() -> None:
    """A shift by more than a float's exponent spans leaves 0, or -1 if rounded down."""
    for rounding, overflow in FLOAT_CASTS:
        same(
            Net((3,), s(4)).requantize(FixedFormat(True, 303, -300), rounding, overflow).graph(), np.array([[-8, 0, 7]])
        )


def odd_sums(x: FixedFormat, rows: int, largest: int, seed: int = 0) -> Net:
    """Return a dense whose sums come close to their bounds: few signs change along a channel."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(largest // 2, largest, (rows, 3)) * [1, -1, 1] | 1
    weight[:, 2] *= rng.choice([-1, 1], rows)
    return Net((rows,), x).dense(weight, [1, -3, 5])


@pytest.mark.parametrize("x", [u(8), s(8), u(12)])
@pytest.mark.parametrize(("rows", "largest"), [(700, 127), (2000, 255), (3000, 4000), (300, 1 << 11)])
def test_sums_beyond_float32_are_cut_into_parts(x: FixedFormat, rows: int, largest: int) -> None:
    """Int64 gives the same; the parts are as long as they may be, and no longer."""
    graph = odd_sums(x, rows, largest).graph()
    op = graph.ops[-1]
    assert isinstance(op, MatMul)
    codes = inputs(graph, 40)
    codes[20:] = np.where(codes[20:] % 3 == 0, x.max_code, x.min_code)
    assert np.array_equal(reference.run_output(graph, codes), codes @ op.weight.codes + op.bias.codes)
    ends = sums.splits(op.weight.codes, x)
    assert accumulation(op, x).bound > EXACT or ends == (rows,)
    if ends:
        assert ends[-1] == rows and len(ends) * sums.FEWEST_PRODUCTS <= rows
        for start, end in zip((0, *ends), ends, strict=False):
            assert bound(op.weight.codes[start:end], x) <= EXACT
            assert end == rows or bound(op.weight.codes[start : end + 1], x) > EXACT


def bound(weight: np.ndarray, x: FixedFormat) -> int:
    op = Net((len(weight),), x).dense(weight).ops[-1]
    assert isinstance(op, MatMul)
    return accumulation(op, x).bound


def test_when_sums_are_cut() -> None:
    assert sums.splits(np.full((640, 1), 1 << 10), u(8)) == (64 * 1, 128, 192, 256, 320, 384, 448, 512, 576, 640)
    assert sums.splits(np.full((640, 1), 1 << 11), u(8)) == ()  # too many parts: float64 is as fast
    assert sums.splits(np.array([[1 << 24], [1]]), u(8)) == ()  # one product is too large
    op = odd_sums(u(8), 2000, 255).ops[-1]
    assert isinstance(op, MatMul)
    assert len(parts_of(op, op.weight.codes, u(8))) > 1 and accumulation(op, u(8)).bound > EXACT


@st.composite
def depthwise(draw: st.DrawFn) -> Net:
    axes = draw(st.integers(1, 2))
    window = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    size = tuple(draw(st.integers(span, 7)) for span in window)
    strides = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    channels, each = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    fmt, largest = draw(st.sampled_from((u(4), s(4)))), draw(st.sampled_from((7, 1 << 30, 1 << 54)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weight = rng.integers(-largest, largest, (*window, 1, channels * each))
    net = Net((*size, channels), fmt)
    bias = rng.integers(-9, 9, channels * each)
    return net.conv(weight, bias, strides=strides, padding=draw(st.sampled_from(("valid", "same"))), groups=channels)


@settings(max_examples=150)
@given(depthwise(), st.sampled_from((1, 200, 1 << 20)))
def test_depthwise_convolutions_are_the_oracle(net: Net, piece_bytes: int) -> None:
    """Any window, strides, padding and filters a channel, in any carrier, in any pieces."""
    graph = net.graph()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "PIECE_BYTES", piece_bytes)
        same(graph, inputs(graph, 2))


PADDINGS = {
    "around": lambda x: np.pad(x, ((2, 1), (0, 3), (0, 0)), constant_values=-1),
    "above": lambda x: np.pad(x, ((2, 0), (0, 0), (0, 0)), constant_values=-1),
    "nothing": lambda x: x,
}
NO_PADDINGS = {
    "channels": lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0)), constant_values=-1),
    "flipped": lambda x: np.pad(x[::-1], ((2, 1), (0, 3), (0, 0)), constant_values=-1),
    "shifted": lambda x: np.pad((x + 1) % x.size, ((2, 1), (0, 3), (0, 0)), constant_values=-1),
    "cropped": lambda x: np.pad(x[1:], ((2, 1), (0, 3), (0, 0)), constant_values=-1),
    "hole": lambda x: np.pad(np.where(x == 7, -1, x), ((2, 1), (0, 3), (0, 0)), constant_values=-1),
    "one more": lambda x: np.pad(np.where(np.pad(x, ((1, 1), (0, 0), (0, 0)), constant_values=-1) < 0, 0, 1) * 3, 1),
    "row of zeros": lambda x: np.insert(x, 1, -1, axis=0),
    "zeros only": lambda x: np.full_like(x, -1),
    "flat": lambda x: x.reshape(-1),
}


@pytest.mark.parametrize("name", [*PADDINGS, *NO_PADDINGS])
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_paddings_are_found_and_other_gathers_are_not(
    name: str, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "PIECE_BYTES", piece_bytes)
    net = Net((3, 4, 2), s(5, 1)).requantize(s(4, 1)).gather((PADDINGS | NO_PADDINGS)[name]).requantize(s(3))
    graph = net.graph()
    op = next(op for op in graph.ops if isinstance(op, Gather))
    step = step_of(op, *graph.sources(op))
    assert (added_pads(op, graph.sources(op)) is not None) == (name in PADDINGS) == bool(step.row_bytes)
    same(graph, inputs(graph, 5))


def test_a_padding_that_casts_leaves_its_input_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cast works in place, on copies only."""
    monkeypatch.setattr(sums, "PIECE_BYTES", 1)
    net = (
        Net((3, 4, 1), s(20))
        .requantize(s(20))
        .gather(lambda x: np.pad(x, ((1, 0), (0, 0), (0, 0)), constant_values=-1))
    )
    op = replace(net.last, cast=Cast(s(6, -9), Rounding.RND, Overflow.SAT))
    copy = replace(net.last, name="again")
    graph = IntGraph(name="net", ops=(*net.ops[:-1], op, copy), outputs=("again",))
    codes = inputs(graph, 3)
    expected = oracle.evaluate(graph, codes)
    found = reference.run(graph, codes, keep=(op.name, "again")).codes
    assert all(np.array_equal(found[name], expected[name]) for name in (op.name, "again"))


def test_a_vector_that_is_only_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "PIECE_BYTES", 1)
    graph = Net((6,), s(5)).requantize(s(4)).gather(lambda x: x).requantize(s(3)).graph()
    same(graph, inputs(graph, 5))


@pytest.mark.parametrize("fmt", [u(8), s(8), u(16), s(16), s(17), s(25), s(40)])
def test_codes_are_stored_whole(fmt: FixedFormat) -> None:
    """Both ends of a format pass through every op that only moves or compares them."""
    net = Net((2, 2, 2), fmt).requantize(fmt).pool((1, 2), padding="same").gather(lambda x: x[::-1]).mark("x").relu()
    graph = net.merge("maximum", "x").flatten().graph()
    same(graph, np.concatenate([graph.port_limits()[0][None], graph.port_limits()[1][None], inputs(graph, 3)]))


def branches() -> IntGraph:
    net = Net((6, 6, 2), u(4)).conv(zoo.po2(3, 3, 2, 3), padding="same").requantize(s(5)).mark("a").relu().mark("b")
    net = net.back("a").pool((2, 2)).flatten().dense(zoo.po2(27, 4)).mark("c").back("b").merge("add", "a")
    return net.leave("c").graph()


@pytest.mark.parametrize("keep", [("relu_3",), ("port", "maxpool_4"), ("merge_7", "requantize_2"), ("reshape_5",), ()])
def test_only_wanted_codes_are_kept_and_only_what_they_need_is_computed(
    keep: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = branches()
    codes = inputs(graph, 9)
    everything = reference.run(graph, codes).codes
    computed: set[str] = set()
    whole = reference._apply

    def counting(step: Step, *rest: object) -> np.ndarray:
        computed.add(step.op.name)
        return whole(step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reference, "_apply", counting)
    found = reference.run(graph, codes, keep=keep).codes
    assert set(found) == set(keep)
    assert all(np.array_equal(found[name], everything[name]) for name in keep)
    needed = {name for name in keep if name != "port"}
    for op in reversed(graph.ops):
        needed |= {name for name in op.inputs if op.name in needed and name != "port"}
    assert computed == needed


def test_an_observer_sees_every_op_whatever_is_kept() -> None:
    graph, seen = branches(), []

    def observe(op: Op, exact: np.ndarray, frac_bits: int) -> None:
        seen.append((op.name, exact.astype(np.int64), frac_bits))

    codes = inputs(graph, 9)
    reference.run(graph, codes, observe, keep=("relu_3",))
    kept = list(seen)
    seen.clear()
    reference.run(graph, codes, observe)
    assert [name for name, _, _ in kept] == [name for name, _, _ in seen]
    assert all(np.array_equal(a, b) for (_, a, _), (_, b, _) in zip(kept, seen, strict=True))
    with pytest.raises(AssertionError, match="has not all of the ops"):
        reference.run(graph, codes, keep=("nothing",))


def test_memory_does_not_grow_with_depth() -> None:
    """Only what a later op reads is there: three arrays of a wide image for each core, however many ops there are."""

    def peak(depth: int) -> int:
        net = Net((128, 128, 8), s(4))
        for _ in range(depth):
            net.conv(np.eye(8, dtype=int).reshape(1, 1, 8, 8)).requantize(s(4))
        graph, codes = net.graph(), inputs(net.graph(), 9)
        tracemalloc.start()
        reference.run_output(graph, codes)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(30) < 1.2 * peak(3)


def test_large_images_come_in_small_batches() -> None:
    sizes = {side: reference._batch_size(Net((side, side, 64), u(8)).graph().ops) for side in (1, 16, 112, 512, 2048)}
    assert sizes == {1: 1024, 16: 32, 112: 4, 512: 1, 2048: 1}


def test_tables_for_wide_inputs_are_searched() -> None:
    """As are those for narrow ones that are stored as floats."""
    for width in (5, 16, 17, 30):
        low = -(1 << width - 1)
        graph = Net((40,), s(width)).lookup([low, low + 1, -3, 0, 9], [-1, 3, 0, 2, -2], s(3)).graph()
        same(graph, inputs(graph, 3))
        graph = Net((40,), u(width)).requantize(u(width)).lookup([0, 1, 9], [-1, 3, 0], s(3)).requantize(s(2)).graph()
        same(graph, inputs(graph, 3))
