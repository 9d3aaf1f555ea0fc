"""Causes: for each op, what was done to it is what the comparison names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import zoo
from nets import Net, altered, first, inputs, s, u

from flow.ir import reference
from flow.ir.fixed import (
    Cast,
    Codes,
    Constant,
    FixedFormat,
    Overflow,
    Rounding,
    overflow_to,
    round_quotient,
)
from flow.ir.graph import (
    BatchNorm,
    Conv,
    Dense,
    Gather,
    IntGraph,
    LeakyRelu,
    Lookup,
    MaxPool,
    Merge,
    Op,
    Relu,
    Reshape,
    Softmax,
    SumPool,
)
from flow.ir.passes import lower
from flow.verification import causes, compare
from flow.verification.compare import explain

SAMPLES = 300


def changed(graph: IntGraph, op: Op, **values: Any) -> IntGraph:
    """Return a graph with one op changed."""
    other = altered(op, **values)
    return replace(graph, ops=tuple(other if each is op else each for each in graph.ops))


def array(codes: Codes, **places: int) -> Codes:
    """Return a copy with the codes at flat positions `_0`, `_5`, ... replaced."""
    codes = codes.copy()
    for place, code in places.items():
        codes.reshape(-1)[int(place[1:])] = code
    return codes


@dataclass(frozen=True)
class Crime:
    """What is done to the first op of a kind: fields replaced, or how its codes come about from (graph, op, known)."""

    net: Callable[[], Net]
    kind: type[Op]
    words: str
    values: Callable[[Any], dict[str, Any]] | None = None
    codes: Callable[[IntGraph, Any, dict[str, Codes]], Codes] | None = None


def dense() -> Net:
    return Net((6,), s(4)).dense(zoo.ints(6, 4), [1, 0, -1, 2], frac=1).requantize(s(6, -1))


def conv() -> Net:
    return Net((4, 5, 2), s(4)).conv(zoo.po2(2, 2, 2, 3), [5, -3, 1], padding="same").requantize(s(6, -1))


def grouped() -> Net:
    return Net((4, 4, 4), s(3)).conv(zoo.po2(3, 3, 2, 6), [5, -3, 0, 9, 1, 1], groups=2).requantize(s(8))


def depthwise() -> Net:
    return Net((6, 3), s(4)).conv(zoo.ints(3, 1, 3), [5, -3, 0], groups=3).requantize(s(8))


def norm() -> Net:
    return Net((2, 3, 2), s(4)).batchnorm([3, -2], [1, -7], frac=2, offset_frac=1).requantize(s(6, 1))


def leaky() -> Net:
    return Net((2, 3), s(5, 1)).leaky([1, -2, 3], frac=2).requantize(s(6, 1))


def merged(function: str = "add") -> Net:
    return Net((2, 3), s(4)).port("b", (2, 3), u(3, 2)).merge(function, "b").requantize(s(4))


def joined() -> Net:
    both = Net((2, 3), s(4)).port("b", (4, 3), u(3, 1))
    return both.gather(lambda x, b: np.concatenate([x, b]), "b").requantize(s(6, 1))


def padded() -> Net:
    return Net((3, 4, 2), u(4)).gather(lambda x: np.pad(x, ((1, 2), (0, 1), (0, 0)), constant_values=-1))


def same_average() -> Net:
    return Net((5, 4, 2), u(4)).average((3, 3), u(6, 2), (1, 1), padding="same")


def nine() -> Net:
    return Net((6, 7, 2), s(5)).average((3, 3), s(7, 2), (2, 2))


def pooled() -> Net:
    return Net((3, 5, 1), s(4)).pool((2, 2), (1, 1), padding="same")


def table() -> Net:
    return Net((6,), s(5)).lookup([-16, -3, 0, 7], [-5, -1, 0, 6], s(4, 2))


def softmax() -> Net:
    return Net((6,), s(4, 1)).softmax(u(8, 8))


def padding_of(op: Any, known: dict[str, Codes], fill: int) -> Codes:
    """Return what an op gives with its padding filled: computed on inputs that hold the padding."""
    x = np.pad(known[op.inputs[0]], [(0, 0), *op.window.pads, (0, 0)], constant_values=fill)
    net = Net(x.shape[1:], s(8))
    cast = Cast(s(8)) if isinstance(op, MaxPool) else op.cast
    bare = replace(op, inputs=("port",), window=op.window.unpadded(), cast=cast)
    return reference.run(IntGraph(name="wide", ops=(net.ops[0], bare)), x.astype(np.int64)).codes[op.name]


def exact_of(graph: IntGraph, op: Op, known: dict[str, Codes]) -> tuple[Codes, int]:
    formats = {name: graph[name].format for name in op.inputs}
    _, exact, frac_bits = causes.alone(op, formats, {name: known[name].astype(np.int64) for name in op.inputs})
    return exact, frac_bits


def wrapped(width: int) -> Callable[[IntGraph, Any, dict[str, Codes]], Codes]:
    def codes(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
        exact, frac_bits = exact_of(graph, op, known)
        narrow = overflow_to(exact, FixedFormat(True, width - 1 - frac_bits, frac_bits), Overflow.WRAP)
        return op.cast(narrow, frac_bits)

    return codes


def truncated_division(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
    exact, frac_bits = exact_of(graph, op, known)
    quotient = round_quotient(exact, op.cast.divisor, Rounding.TRN)
    return replace(op.cast, divisor=1)(quotient, frac_bits)


def without_bits(dropped: int) -> Callable[[IntGraph, Any, dict[str, Codes]], Codes]:
    def codes(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
        exact, frac_bits = exact_of(graph, op, known)
        return op.cast(exact >> dropped << dropped, frac_bits)

    return codes


def softmax_truncated(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
    x = known[op.inputs[0]].astype(np.int64)
    weights = op.exponentials[x.max(axis=-1, keepdims=True) - x]
    return np.minimum((weights << op.format.frac_bits) // weights.sum(axis=-1, keepdims=True), op.format.max_code)


def smallest_of_windows(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
    x = known[op.inputs[0]].astype(np.int64)
    padded = np.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=99)
    return np.stack([padded[:, i : i + 3, j : j + 5] for i in (0, 1) for j in (0, 1)]).min(axis=0)


def without_first_pixel(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
    x = known[op.inputs[0]].astype(np.int64)
    exact, frac_bits = exact_of(graph, op, known)
    pixel = x[:, :5:2, :6:2][:, : op.shape[0], : op.shape[1]]
    return op.cast(exact - pixel, frac_bits)


def channels_first(graph: IntGraph, op: Any, known: dict[str, Codes]) -> Codes:
    x = known[op.inputs[0]]
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def read_from(element: tuple[int, ...], position: int) -> Callable[[Any], dict[str, Any]]:
    def values(op: Any) -> dict[str, Any]:
        index = op.index.copy()
        index[element] = position
        return {"index": index}

    return values


def with_weight(name: str, index: tuple[int, ...], code: int) -> Callable[[Any], dict[str, Any]]:
    def values(op: Any) -> dict[str, Any]:
        held = getattr(op, name)
        codes = held.codes.copy()
        codes[index] = code
        return {name: Constant(codes, s(20, held.format.frac_bits))}

    return values


def bias_and_weight(op: Any) -> dict[str, Any]:
    return with_weight("weight", (2, 1), -8)(op) | with_weight("bias", (3,), -2)(op)


CRIMES: dict[str, Crime] = {
    "dense rounds otherwise": Crime(
        dense, Dense, "AP_RND instead of AP_RND_CONV", lambda op: {"rounding": Rounding.RND}
    ),
    "dense wraps": Crime(dense, Dense, "AP_WRAP instead of AP_SAT", lambda op: {"overflow": Overflow.WRAP}),
    "dense without sign": Crime(
        dense, Dense, f"an output of format {u(6, -1)} instead of {s(6, -1)}", lambda op: {"format": u(6, -1)}
    ),
    "dense in a narrow accumulator": Crime(
        dense, Dense, "an accumulator of 6 bits that wraps, instead of ", codes=wrapped(6)
    ),
    "dense in a coarse accumulator": Crime(
        lambda: Net((6,), s(4)).dense(zoo.ints(6, 4), frac=3).requantize(s(6, -1)),
        Dense,
        "an accumulator of 1 fraction bits that truncates, instead of 3,",
        codes=without_bits(2),
    ),
    "weights of fewer bits": Crime(
        dense,
        Dense,
        f"weight of format {FixedFormat(True, 1, 1)} instead of {s(4, 1)}",
        lambda op: {"weight": overflow_to(op.weight.codes, FixedFormat(True, 1, 1), Overflow.WRAP)},
    ),
    "a weight": Crime(dense, Dense, "weight (2, 1) of ", with_weight("weight", (2, 1), -8)),
    "a bias": Crime(dense, Dense, "bias (3,) of 3 instead of 2", with_weight("bias", (3,), 3)),
    "a weight and a bias": Crime(dense, Dense, " and bias (3,) of -2 instead of 2", bias_and_weight),
    "a weight of a convolution": Crime(conv, Conv, "weight (1, 0, 1, 2) of ", with_weight("weight", (1, 0, 1, 2), 3)),
    "a weight of the second group": Crime(
        grouped, Conv, "weight (0, 2, 1, 4) of ", with_weight("weight", (0, 2, 1, 4), 4)
    ),
    "a weight of a depthwise convolution": Crime(
        depthwise,
        Conv,
        "weight (1, 0, 2) of ",
        lambda op: with_weight("weight", (1, 0, 2), int(op.weight.codes[1, 0, 2]) ^ 2)(op),
    ),
    "padding filled with the smallest code": Crime(
        conv,
        Conv,
        "padding filled with the smallest code, -8, instead of 0,",
        codes=lambda g, op, k: padding_of(op, k, -8),
    ),
    "padding on the other side": Crime(
        conv, Conv, "padding (1, 0, 1, 0) instead of (0, 1, 0, 1)", lambda op: {"padding": (1, 0, 1, 0)}
    ),
    "input of a dense on another grid": Crime(
        dense,
        Dense,
        "input 'port' taken for one of 1 fraction bits instead of 0",
        codes=lambda g, op, k: shifted(g, op, k, 1),
    ),
    "a scale": Crime(norm, BatchNorm, "scale (1,) of -1 instead of -2", with_weight("scale", (1,), -1)),
    "an offset": Crime(norm, BatchNorm, "offset (0,) of ", with_weight("offset", (0,), 5)),
    "scales of fewer bits": Crime(
        norm,
        BatchNorm,
        f"scale of format {FixedFormat(True, -1, 2)} instead of",
        lambda op: {"scale": overflow_to(op.scale.codes, s(2), Overflow.WRAP)},
    ),
    "batch norm rounds otherwise": Crime(
        norm, BatchNorm, "AP_TRN instead of AP_RND_CONV", lambda op: {"rounding": Rounding.TRN}
    ),
    "no relu": Crime(
        lambda: Net((4,), s(5)).relu(),
        Relu,
        "the ReLU left away",
        codes=lambda g, op, k: overflow_to(k["port"].astype(np.int64), op.format, Overflow.WRAP),
    ),
    "no limit": Crime(lambda: Net((4,), s(6)).relu(limit=9), Relu, "no limit instead of 9", lambda op: {"limit": None}),
    "another limit": Crime(
        lambda: Net((4,), s(6)).relu(limit=9), Relu, "limit 8 instead of 9", lambda op: {"limit": 8}
    ),
    "a slope": Crime(leaky, LeakyRelu, "slope (1,) of -1 instead of -2", with_weight("slope", (1,), -1)),
    "a slope of one element": Crime(
        lambda: Net((2, 3), s(5, 1)).leaky([[1, 0, 3], [2, 2, 1]], frac=1),
        LeakyRelu,
        "slope (1, 0) of 3 instead of 2",
        with_weight("slope", (1, 0), 3),
    ),
    "one slope for all": Crime(
        lambda: Net((2, 3), s(5)).leaky([1], frac=3),
        LeakyRelu,
        "slope (0,) of 2 instead of 1",
        with_weight("slope", (0,), 2),
    ),
    "no slope": Crime(leaky, LeakyRelu, "zero instead of the slope", lambda op: {"slope": np.zeros(3, np.int64)}),
    "another function": Crime(
        lambda: merged("maximum"), Merge, "minimum instead of maximum", lambda op: {"function": "minimum"}
    ),
    "inputs swapped": Crime(
        lambda: merged("subtract"),
        Merge,
        "inputs in the order b, port instead of port, b",
        lambda op: {"inputs": op.inputs[::-1]},
    ),
    "an input's shift left away": Crime(
        merged,
        Merge,
        "input 'port' taken for one of 2 fraction bits instead of 0",
        codes=lambda g, op, k: shifted(g, op, k, 2),
    ),
    "an input's shift off by one": Crime(
        merged,
        Merge,
        "input 'port' taken for one of 1 fraction bits instead of 0",
        codes=lambda g, op, k: shifted(g, op, k, 1),
    ),
    "a merge in a narrow type": Crime(
        lambda: Net((2, 3), s(4)).port("b", (2, 3), s(4)).merge("add", "b").requantize(s(4, -1)),
        Merge,
        "a result before the cast of 4 bits that wraps, instead of 5,",
        codes=wrapped(4),
    ),
    "joined the other way round": Crime(
        joined, Gather, "inputs in the order b, port instead of port, b", lambda op: {"inputs": op.inputs[::-1]}
    ),
    "one element from elsewhere": Crime(
        joined, Gather, "element (1, 2) read from 'b' (3, 0) instead of 'port' (1, 2)", read_from((1, 2), 15)
    ),
    "a joined input's shift": Crime(
        joined,
        Gather,
        "input 'b' taken for one of 2 fraction bits instead of 1",
        codes=lambda g, op, k: shifted(g, op, k, 2, "b"),
    ),
    "filled with the largest code": Crime(
        padded,
        Gather,
        "padding filled with the largest code, 15, instead of 0,",
        codes=lambda g, op, k: filled(op, k, 15),
    ),
    "filled with the top bit": Crime(
        padded,
        Gather,
        "padding filled with the code whose top bit alone is set, 8, instead of 0,",
        codes=lambda g, op, k: filled(op, k, 8),
    ),
    "channels first": Crime(
        lambda: Net((2, 3, 4), s(4)).flatten(),
        Reshape,
        "its input read with axes in the order (2, 0, 1)",
        codes=channels_first,
    ),
    "average over padding too": Crime(
        same_average,
        SumPool,
        "an average over all pixels of a window",
        lambda op: {"weight": np.ones_like(op.weight.codes), "divisor": 9},
    ),
    "division truncated before the cast": Crime(
        same_average, SumPool, "a division by 36 that is AP_TRN before the cast", codes=truncated_division
    ),
    "division by a power of two": Crime(nine, SumPool, "a division by 8 instead of 9", lambda op: {"divisor": 8}),
    "average rounds otherwise": Crime(
        nine, SumPool, "AP_TRN_ZERO instead of AP_RND_CONV", lambda op: {"rounding": Rounding.TRN_ZERO}
    ),
    "a pixel left away": Crime(nine, SumPool, "pixel (0, 0) of each window left away", codes=without_first_pixel),
    "max pooling against zero": Crime(
        pooled, MaxPool, "padding filled with zero, 0, instead of -8,", codes=lambda g, op, k: padding_of(op, k, 0)
    ),
    "smallest instead of largest": Crime(pooled, MaxPool, "the smallest code of a window", codes=smallest_of_windows),
    "pooling in a narrow type": Crime(
        pooled,
        MaxPool,
        f"an output of format {s(3)} instead of {s(4)}",
        codes=lambda g, op, k: overflow_to(reference_of(g, op, k), s(3), Overflow.WRAP),
    ),
    "a table entry": Crime(
        table, Lookup, "entry 2 (codes from 0) of 3 instead of 0", lambda op: {"values": array(op.values, _2=3)}
    ),
    "two table entries": Crime(
        table,
        Lookup,
        "entry 0 (codes from -16) of -4 instead of -5 and entry 3 (codes from 7) of 5 instead of 6",
        lambda op: {"values": array(op.values, _0=-4, _3=5)},
    ),
    "a run that begins later": Crime(
        table, Lookup, "entry 2 that begins at code 2 instead of 0", lambda op: {"starts": array(op.starts, _2=2)}
    ),
    "a run that begins earlier": Crime(
        table, Lookup, "entry 2 that begins at code -2 instead of 0", lambda op: {"starts": array(op.starts, _2=-2)}
    ),
    "softmax truncated": Crime(softmax, Softmax, "AP_TRN instead of AP_RND", codes=softmax_truncated),
    "an exponential": Crime(
        softmax,
        Softmax,
        "exponential 3 of ",
        lambda op: {"exponentials": array(op.exponentials, _3=int(op.exponentials[3]) + 1)},
    ),
}


def shifted(graph: IntGraph, op: Op, known: dict[str, Codes], frac_bits: int, name: str = "port") -> Codes:
    formats = {each: graph[each].format for each in op.inputs}
    own = formats[name]
    formats[name] = replace(own, int_bits=own.int_bits + own.frac_bits - frac_bits, frac_bits=frac_bits)
    return causes.alone(op, formats, {each: known[each].astype(np.int64) for each in op.inputs})[0]


def filled(op: Any, known: dict[str, Codes], fill: int) -> Codes:
    x = known[op.inputs[0]].astype(np.int64)
    return np.where(op.index < 0, fill, x.reshape(len(x), -1)[:, op.index])


def reference_of(graph: IntGraph, op: Op, known: dict[str, Codes]) -> Codes:
    return known[op.name].astype(np.int64)


@pytest.mark.parametrize("name", CRIMES)
def test_what_was_done_is_named(name: str) -> None:
    crime = CRIMES[name]
    graph = lower(crime.net().graph())
    codes = inputs(graph, SAMPLES)
    known = dict(reference.run(graph, codes).codes)
    op = first(graph, crime.kind)
    if crime.codes is not None:
        observed = crime.codes(graph, op, known)
    else:
        assert crime.values is not None
        observed = causes.alone(
            altered(op, **crime.values(op)),
            {each: graph[each].format for each in op.inputs},
            {each: known[each].astype(np.int64) for each in op.inputs},
        )[0]
    assert not np.array_equal(observed, known[op.name]), "nothing was done"
    cause = explain(graph, op, known, observed)
    assert cause is not None and crime.words in cause, cause
    assert cause.endswith(f" gives exactly the observed codes of {len(codes)} inputs")


@pytest.mark.parametrize("name", zoo.ROWS)
def test_every_op_is_explained_or_not_but_never_fails(name: str) -> None:
    """One element off by one, and every code off by one: no setting is claimed that does not give these codes."""
    for graph in (zoo.row(name), lower(zoo.row(name))):
        known = dict(reference.run(graph, inputs(graph, 20)).codes)
        for op in graph.ops[len(graph.inputs) :]:
            honest = known[op.name].astype(np.int64)
            assert explain(graph, op, known, honest) is None
            wrong = honest.copy()
            wrong[3, ..., 0] += 1
            for observed in (wrong, honest + 1):
                assert explain(graph, op, known, observed) is not None


def test_a_fault_in_many_channels_is_not_searched() -> None:
    graph = lower(Net((6,), s(4)).dense(zoo.ints(6, 8), frac=1).requantize(s(6, -1)).graph())
    op = first(graph, Dense)
    known = dict(reference.run(graph, inputs(graph, SAMPLES)).codes)
    other = causes.alone(
        altered(op, weight=op.weight.codes[::-1]), {"port": s(4)}, {"port": known["port"].astype(np.int64)}
    )
    cause = explain(graph, op, known, other[0])
    assert cause is not None and cause.startswith("no other rounding") and "8 of 8 channels" in cause


@pytest.mark.parametrize("samples", [7, 1000])
def test_an_op_is_explained_part_by_part(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cause must give the codes of all samples, not only of those that are looked at first."""
    graph = lower(dense().graph())
    monkeypatch.setattr(compare, "ELEMENTS", 10 * samples)
    op = first(graph, Dense)
    known = dict(reference.run(graph, inputs(graph, SAMPLES)).codes)
    changes = with_weight("weight", (2, 1), -8)(op)
    values = {"port": s(4)}, {"port": known["port"].astype(np.int64)}
    observed = causes.alone(altered(op, **changes), *values)[0]
    cause = explain(graph, op, known, observed)
    assert cause is not None and cause.startswith("weight (2, 1) of -8 instead of ")
    observed[-1, 0] ^= 1
    cause = explain(graph, op, known, observed)
    assert cause is not None and cause.startswith("no other rounding")
