"""What depends on few bits becomes truth tables: the same codes, only where that takes less, and faults found in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import Net, s, u

from flow.ir.graph import IntGraph, TruthTable, to_json
from flow.ir.passes import lower
from flow.ir.passes.fuse_tables import fuse_tables
from flow.ir.reference import run
from flow.verification import causes, faults


def neurons(seed: int, hidden: int = 3, wide: int = 0) -> IntGraph:
    """Return two layers of four neurons of three bits each, and their count; `wide` hidden units read all bits."""
    rng = np.random.default_rng(seed)
    net, size = Net((10,), u(1)), 10
    for layer in range(2):
        read = [rng.choice(size, 3, replace=False) for _ in range(4)]
        first, second = np.zeros((size, 4 * hidden + wide), int), np.zeros((4 * hidden + wide, 4), int)
        for neuron, wires in enumerate(read):
            units = slice(neuron * hidden, (neuron + 1) * hidden)
            first[wires, units] = rng.choice([-4, -2, -1, 1, 2, 4], (3, hidden))
            second[units, neuron] = rng.choice([-2, -1, 1, 2], hidden)
        first[:, 4 * hidden :] = 1
        second[4 * hidden :] = 1
        net = net.dense(first, rng.integers(-3, 4, first.shape[1])).relu().requantize(u(4)).dense(second)
        net = (
            net.batchnorm([3, 5, -3, 7], [1, -2, 3, 4]).requantize(s(14)).lookup([-8192, 1], [-1, 1], s(2))
            if layer
            else net
        )
        net, size = (net if layer else net.requantize(u(1))), 4
    return net.dense(np.ones((4, 1))).graph()


@pytest.mark.parametrize("seed", range(3))
def test_neurons_of_few_bits_are_tables_with_the_same_codes(seed: int) -> None:
    graph = neurons(seed)
    plain, tables = lower(graph), lower(graph, tables=True)
    every = (np.arange(1 << 10)[:, None] >> np.arange(10) & 1).astype(np.int64)
    made, expected = run(tables, every).codes, run(plain, every).codes
    for op in tables.ops:
        assert np.array_equal(made[op.name], expected[op.name]), op.name
    kinds = [op.kind for op in tables.ops]
    assert "truth_table" in kinds and set(kinds) <= {"input", "truth_table"}
    layers = {layer for op in tables.ops for layer in op.layers}
    assert layers == {layer for op in plain.ops for layer in op.layers}, "each layer is still named"
    last = tables.ops[-1]
    assert last.layers[-1] == plain.ops[-1].layers[-1] and set(last.fused) >= {"dense"}


def test_a_number_of_two_values_is_one_bit() -> None:
    graph = lower(Net((6,), s(2)).lookup([-2, 0], [-1, 1], s(2)).dense(np.ones((6, 1))).relu().graph(), tables=True)
    table = graph.ops[-1]
    assert isinstance(table, TruthTable) and table.wires.shape == (1, 6) and (table.bits == 1).all(), "the sign"


def test_a_bit_that_changes_nothing_is_no_wire() -> None:
    weight = [[8], [1], [8], [0]]  # the second never decides whether there are more than four
    graph = lower(Net((4,), u(1)).dense(weight).lookup([0, 5], [0, 1], u(1)).graph(), tables=True)
    (table,) = (op for op in graph.ops if isinstance(op, TruthTable))
    assert table.wires.tolist() == [[0, 2]] and table.values.tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize(
    "net",
    [
        Net((7,), u(1)).dense(np.ones((7, 1))).relu().requantize(u(1)),
        Net((4,), u(8)).dense([[1, 0], [0, 2], [0, 0], [0, 0]], [1, 1]).requantize(u(4)),
        Net((4,), u(4)).requantize(u(2)).lookup([0, 2], [1, 3], u(2)),
        Net((2, 3), u(1)).gather(lambda x: x[::-1]),
    ],
    ids=["seven bits", "wide inputs", "nothing is added", "wires"],
)
def test_other_nets_stay_as_they_are(net: Net) -> None:
    graph = net.graph()
    assert to_json(lower(graph, tables=True)) == to_json(lower(graph))


def test_positions_of_a_stream_stay() -> None:
    graph = neurons(0)
    assert to_json(lower(graph, stream=True, tables=True)) == to_json(lower(graph, stream=True))


def test_what_reads_too_much_keeps_its_arithmetic_and_the_rest_is_tables() -> None:
    graph = neurons(1, wide=1)
    plain, tables = lower(graph), fuse_tables(lower(graph))
    every = (np.arange(1 << 10)[:, None] >> np.arange(10) & 1).astype(np.int64)
    assert {"dense", "truth_table"} <= {op.kind for op in tables.ops}
    assert np.array_equal(run(plain, every).codes[plain.output.name], run(tables, every).codes[tables.output.name])


def test_a_wrong_entry_is_named() -> None:
    weight = [[1, 0, 2], [2, 1, 0], [-1, 1, 1], [0, -4, 1]]
    graph = lower(Net((4,), u(1)).dense(weight).relu().requantize(u(1)).graph(), tables=True)
    (op,) = (op for op in graph.ops if isinstance(op, TruthTable))
    x = (np.arange(1 << 4)[:, None] >> np.arange(4) & 1).astype(np.int64)
    values = op.values.copy()
    values[2, 5] ^= 1
    right = run(graph, x).codes[op.name].astype(np.int64)
    wrong, _, _ = causes.alone(replace(op, values=values), {"port": graph.ops[0].format}, {"port": x})
    where = causes.site(op, {"port": graph.ops[0].format}, {"port": x}, wrong)
    found = [each for each in faults.faults(where, wrong != right) if causes.gives(each, where)]
    assert [words for words, _ in found] == [
        f"entry 5 of the table of element (2,) of {values[2, 5]} instead of {op.values[2, 5]}"
    ]
