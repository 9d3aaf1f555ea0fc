"""The graph: what verify refuses, its text, and names that are safe wherever they go."""

from __future__ import annotations

import hashlib
import json
import keyword
from dataclasses import replace

import numpy as np
import pytest
import zoo
from conftest import Golden
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, altered, s, u

from flow.ir.fixed import Cast, Constant, Overflow, Rounding
from flow.ir.forms import LARGE_ARRAY
from flow.ir.graph import IntGraph, from_json, to_json, to_text
from flow.ir.names import GENERATED, MAX_LENGTH, RESERVED, identifier
from flow.ir.passes import lower


def small() -> IntGraph:
    net = Net((4, 4, 2), u(4)).conv(zoo.po2(3, 3, 2, 3)).batchnorm([1, 2, 4], [0, 1, -1]).relu().requantize(u(4))
    return net.pool((2, 2)).flatten().dense(zoo.po2(3, 2), [1, -1]).graph()


def broken(op_name: str, /, **changes: object) -> IntGraph:
    graph = small()
    return replace(graph, ops=tuple(altered(op, **changes) if op.name == op_name else op for op in graph.ops))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("relu_3", {"name": "conv_1"}, "repeats"),
        ("relu_3", {"name": "relu 3"}, "is no identifier"),
        ("relu_3", {"inputs": ("dense_7",)}, "not computed before it"),
        ("relu_3", {"inputs": ("port", "conv_1")}, r"relu_3: reads \('port', 'conv_1'\)"),
        ("relu_3", {"inputs": ()}, r"relu_3: reads \(\)"),
        ("relu_3", {"divisor": 0}, "divides by 0"),
        ("port", {"inputs": ("port",)}, "not computed before it"),
        ("dense_7", {"bias": np.zeros(3, np.int64)}, "channels differ"),
        ("dense_7", {"shape": (3,)}, "channels differ"),
        ("dense_7", {"weight": np.full((3, 2), 1000)}, "codes 0..1000 outside"),
        ("dense_7", {"weight": np.zeros((3, 2))}, "weight is not int64"),
        ("dense_7", {"bias": np.array([99, 0])}, "codes 0..99 outside"),
        ("batchnorm_2", {"scale": np.array([1, 2, 99])}, "codes 0..99 outside"),
        ("batchnorm_2", {"offset": np.array([1, 2, -99])}, "outside"),
        ("maxpool_5", {"format": u(5)}, "changes the format"),
        ("reshape_6", {"format": s(5)}, "changes the format"),
    ],
)
def test_verify(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        broken(name, **changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dense_7", {"weight": np.zeros((4, 2), np.int64)}),
        ("conv_1", {"weight": np.zeros((3, 3, 1, 3), np.int64)}),
        ("conv_1", {"shape": (3, 3, 3)}),
        ("conv_1", {"groups": 2}),
        ("batchnorm_2", {"scale": np.array([1])}),
        ("relu_3", {"shape": (1, 1, 3)}),
        ("requantize_4", {"shape": (2, 2, 2)}),
        ("maxpool_5", {"shape": (1, 2, 3)}),
        ("reshape_6", {"shape": (4,)}),
    ],
)
def test_verify_finds_shapes_that_do_not_follow(name: str, changes: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match=name):
        broken(name, **changes)


def branched() -> IntGraph:
    net = Net((2, 3), s(4)).port("b", (2, 3), u(3)).merge("add", "b").leaky([1, 2, 1], frac=2).requantize(s(4))
    net = net.gather(lambda x: x[::-1]).lookup([-8, 0], [-1, 1], s(3)).mark("steps").leave("steps")
    return net.average((2,), s(4)).softmax(u(4, 4)).graph()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("merge_2", {"inputs": ("port",)}, "reads"),
        ("merge_2", {"function": "divide"}, "does not follow"),
        ("leaky_relu_3", {"slope": np.array([1, 2])}, "shape"),
        ("leaky_relu_3", {"slope": np.array([1, 2, 99])}, "codes 0..99 outside"),
        ("gather_5", {"index": np.full((2, 3), 6)}, "does not follow"),
        ("gather_5", {"index": np.full((2, 3), -2)}, "does not follow"),
        ("gather_5", {"index": np.zeros((3, 2), np.int64)}, "does not follow"),
        ("lookup_6", {"starts": np.array([-7, 0])}, "lookup_6"),
        ("lookup_6", {"starts": np.array([-8, -8])}, "runs are not in order"),
        ("lookup_6", {"values": np.array([-1, 9])}, "codes 0..9 outside|codes -1..9 outside"),
        ("lookup_6", {"values": np.array([-1])}, "lookup_6"),
        ("sumpool_7", {"weight": np.ones(2, np.int64)}, "does not follow"),
        ("softmax_9", {"exponentials": np.ones(8, np.int64)}, "exponentials do not fit"),
    ],
)
def test_verify_branches_and_tables(name: str, changes: dict[str, object], message: str) -> None:
    graph = branched()
    with pytest.raises((AssertionError, ValueError), match=message):
        replace(graph, ops=tuple(altered(op, **changes) if op.name == name else op for op in graph.ops))


def test_a_graph_begins_with_its_inputs() -> None:
    graph = small()
    with pytest.raises(AssertionError, match="the first op is an input"):
        replace(graph, ops=graph.ops[1:])
    with pytest.raises(AssertionError, match="the first op is an input"):
        replace(graph, ops=())
    with pytest.raises(AssertionError, match=r"outputs .* are not computed"):
        replace(graph, outputs=("nothing",))


def test_ports() -> None:
    graph = branched()
    assert [op.name for op in graph.inputs] == ["port", "b"] and graph.port_shape == (12,)
    assert graph.outputs == ("lookup_6", "softmax_9") and graph.output.name == "lookup_6"
    low, high = graph.port_limits()
    assert low.tolist() == [-8] * 6 + [0] * 6 and high.tolist() == [7] * 12
    codes = np.arange(24).reshape(2, 12)
    parts = graph.split_port(codes)
    assert parts["b"].tolist() == [[[6, 7, 8], [9, 10, 11]], [[18, 19, 20], [21, 22, 23]]]
    assert np.array_equal(graph.join_port(parts), codes)
    symmetric = replace(graph.inputs[0].cast, overflow=Overflow.SAT_SYM)
    assert symmetric.lowest_code == -7 and replace(symmetric, format=u(4)).lowest_code == 0
    assert small().port_shape == (4, 4, 2)
    assert [op.name for op in graph.sources(graph["merge_2"])] == ["port", "b"]
    assert [op.name for op in graph.readers("lookup_6")] == ["sumpool_7"]


def test_text(golden: Golden) -> None:
    graphs = [zoo.row("everything"), lower(zoo.row("everything")), lower(zoo.row("cast_symmetric")), lower(branched())]
    golden("graphs.txt", "\n\n".join(map(to_text, graphs)) + "\n")


def test_digest_tells_graphs_apart() -> None:
    graph = small()
    changed = [
        broken("dense_7", bias=np.array([1, 0])),
        broken("relu_3", rounding=Rounding.RND),
        broken("dense_7", layers=("other",)),
        replace(graph, name="other"),
        replace(graph, warnings=("w",)),
    ]
    assert len({graph.digest(), *(each.digest() for each in changed)}) == 1 + len(changed)
    assert graph.digest() == small().digest()


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [
        (127, "<i1"),
        (-128, "<i1"),
        (128, "<i2"),
        (-129, "<i2"),
        (1 << 15, "<i4"),
        (1 << 31, "<i8"),
        ((1 << 62) - 1, "<i8"),
    ],
)
def test_large_arrays_are_bytes_in_json(largest: int, dtype: str) -> None:
    """In the smallest type that holds them; small ones are lists, and lists of any length are read."""
    weight = np.arange(2 * (LARGE_ARRAY // 2 + 1), dtype=np.int64).reshape(2, -1) % 7 - 3
    weight[1, 5] = largest
    op = replace(small()["dense_7"], weight=Constant(weight, s(63)), bias=Constant.zeros(weight.shape[1]))
    op = replace(op, shape=(weight.shape[1],), cast=Cast(s(63)))
    graph = IntGraph(
        name="net", ops=(replace(small().ops[0], name="maxpool_5", shape=(2,)), replace(op, inputs=("maxpool_5",)))
    )
    data = json.loads(json.dumps(to_json(graph), indent=1))
    assert data["ops"][1]["weight"]["dtype"] == dtype and isinstance(data["ops"][1]["bias"], list)
    again = from_json(data)
    assert again.digest() == graph.digest() and again.ops[1].weight.codes.dtype == np.int64
    assert np.array_equal(again.ops[1].weight.codes, weight)
    data["ops"][1]["weight"] = weight.tolist()
    before = graph.digest()
    assert from_json(data).digest() == before
    weight[0, 0] += 1
    assert graph.digest() != before


def test_the_json_of_small_graphs_is_text_that_stays() -> None:
    """Run directories are named by it."""
    data = to_json(small())
    assert data["ops"][1]["weight"] == small()["conv_1"].weight.codes.tolist()
    assert small().digest() == hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    assert small().digest() == "475fa28151a0e13086309d78608309a776b509632b88edb4a6252ee920c4ea9f"


DIGESTS = {
    "everything": "1a3f15264c44c2a43d66bd9732f8af37cba8b5d3851443461e8d7d0417006a63",
    "conv_strided": "02377356b26f55324f4a1296d9c40a52fd55a856d1caffd6c0d468825b573062",
    "average_same": "b2532e54d41c2f31f8e7d402978f89b66a5ac1c595e2f66391063bf2f457fb19",
    "cast_symmetric": "96b8f229ec5a39fbf8b799757957266e67b3c2e416ebe55b3d167b3365fb5b34",
    "pool_same": "1a1e22a8346f69fb7522945a98e37a6fc8483d14947c64052e6bb506dda20045",
}
"""Digests of graphs of the zoo before ops had value types."""


@pytest.mark.parametrize("name", DIGESTS)
def test_value_types_leave_the_json_as_it_was(name: str) -> None:
    graph = zoo.row(name)
    assert graph.digest() == DIGESTS[name]
    assert from_json(json.loads(json.dumps(to_json(graph)))).digest() == DIGESTS[name]


HOSTILE = [
    "", "   ", "1st", "Dense 1;rm -rf /", "../../etc/passwd", "int", "Main", "ünïcödé", "日本", "a" * 300, "_",
    "__init__", "con\n#include", "x*/", "w2", "layer3_out", "result_t", "input", "wire", "module", "printf", "nnet",
    "class", "-", "$(x)",
]  # fmt: skip


@given(st.lists(st.text(max_size=60) | st.sampled_from(HOSTILE), max_size=8))
def test_identifiers_are_safe_and_unique(names: list[str]) -> None:
    taken: list[str] = []
    for name in names:
        made = identifier(name, taken)
        assert made not in taken and made.isascii() and made.isidentifier() and made == made.lower()
        assert len(made) <= MAX_LENGTH + 8 and "__" not in made and not made.endswith("_")
        assert made not in RESERVED and not keyword.iskeyword(made)
        assert made.startswith("op_") or not GENERATED.fullmatch(made)
        taken.append(made)


def test_ordinary_names_stay() -> None:
    assert [identifier(name, ()) for name in ("dense_1", "Conv2D", "q_act")] == ["dense_1", "conv2d", "q_act"]
    assert identifier("int", ()) == "op_int" and identifier("dense", ["dense", "dense_2"]) == "dense_3"
