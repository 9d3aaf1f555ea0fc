"""Sums of single bits are counted by tables where these are fewer, and proved by algebra, at any number of bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import Net, s, u
from test_proof import emitted, shown

from flow.backends.rtl.netlists.counters import count
from flow.backends.rtl.netlists.footprint import footprint
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import Clock, pipeline
from flow.backends.rtl.proof.engines import COUNTING
from flow.backends.rtl.verilog.kernels import pixel_netlist
from flow.ir.graph import IntGraph
from flow.ir.passes import lower


def counted(bits: int) -> Netlist:
    """Return the netlist of a count of so many bits."""
    net = Netlist()
    net.outputs = [count(net, [net.input(0, 1) for _ in range(bits)])]
    return net


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 6, 7, 9, 13, 20, 47, 100, 333])
def test_counts_are_right(bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes = (rng.random((300, bits)) < rng.random((300, 1))).astype(np.int64)
    codes[:2] = [[0], [1]]
    net = counted(bits)
    assert np.array_equal(net.run(codes)[:, 0], codes.sum(axis=1))
    assert net.range(net.outputs[0]) == (0, bits)


def test_a_hundred_bits_take_less_than_a_hundred_tables() -> None:
    net = counted(100)
    assert 80 < footprint(net, pipeline(net, Clock(period_ns=1e6)), 7, {}).alone()["lut"] < 100


def popcounts(bits: int = 40) -> IntGraph:
    """Return two counts of half the bits each, of which the second is doubled."""
    weight = np.zeros((bits, 2), int)
    weight[: bits // 2, 0], weight[bits // 2 :, 1] = 1, 2
    return lower(Net((bits,), u(1)).dense(weight).graph())


@pytest.mark.parametrize(
    ("graph", "tables"),
    [
        (popcounts(), True),
        (lower(Net((24,), u(1)).dense(-np.ones((24, 1), int)).graph()), False),
        (lower(Net((24,), s(1)).dense(np.ones((24, 1), int)).graph()), False),
        (lower(Net((12,), u(1)).dense(np.ones((12, 1), int)).graph()), False),
    ],
    ids=["counts", "of minus one", "of signed bits", "of few bits"],
)
def test_only_sums_of_bits_are_counted_by_tables(graph: IntGraph, tables: bool) -> None:
    kinds = {node.kind for node in pixel_netlist(graph.ops[1], graph.ops[:1]).nodes}
    assert ("lut" in kinds) is tables


def test_a_count_is_proved_and_a_wrong_entry_of_it_refuted(tmp_path: Path) -> None:
    graph = popcounts()
    files = emitted(graph)
    (proof,) = shown(graph, files, tmp_path, "io_parallel").values()
    assert (proof["scope"], proof["engine"]) == ("proved", COUNTING)
    name = next(name for name, text in files.items() if "? ~n0 :" in text)
    wrong = files | {name: files[name].replace("? ~n0 :", "? n0 :", 1)}
    (proof,) = shown(graph, wrong, tmp_path, "io_parallel").values()
    assert proof["scope"] == "refuted"
