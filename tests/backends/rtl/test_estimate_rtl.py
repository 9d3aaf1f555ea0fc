"""The estimate of rtl projects: its stated errors are those of the stored table, and the table is what is emitted."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from nets import Net, s, u

from flow.backends.rtl.netlists.covers import Cover
from flow.backends.rtl.netlists.footprint import first_uses, footprint, used
from flow.backends.rtl.netlists.gates import TRUE, Gates
from flow.backends.rtl.netlists.needs import Memory, Needs, held
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import DELAYS, Clock, Pipeline, pipeline
from flow.backends.rtl.synthesis.estimate import COEFFICIENTS, FITTED, LUTS, estimate_rtl, luts, memory_needs
from flow.backends.rtl.verilog.emit import DESIGN, count_needs, emit
from flow.errors import UnsupportedError
from flow.ir.passes import lower
from flow.parts import LATTICE_PARTS, PARTS
from flow.report.words import error_words
from flow.results import ResourceReport
from flow.target import IO_TYPES, Target

BENCHMARKS = REPOSITORY / "benchmarks"
CHECKED = (1, 6, 20)
"""Seeds of modules that are synthesized again: two convolutions and a pooling, a few seconds."""


@pytest.fixture(scope="module")
def fit() -> Any:
    """The script that fits, as a module."""
    pytest.importorskip("scipy")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("fit_estimate")


def test_stated_errors_are_those_of_the_table(fit: Any) -> None:
    data = json.loads(COEFFICIENTS.read_text())
    rows = fit.read_rows()
    assert data["error"] == {"against": fit.RTL_AGAINST, **fit.held_out_errors(rows, data["lut"])}
    assert set(data["lut"]) == set(FITTED) and min(data["lut"].values()) >= 0
    assert data["fitted"] == sum(not fit.held_out(row.seed) for row in rows)
    assert {row.family for row in rows} == {"7-series", "UltraScale+"}


def test_table_is_what_is_emitted_now(fit: Any, tmp_path: Path) -> None:
    rows = {(row.seed, row.family): row for row in fit.read_rows()}
    for seed in range(0, 48, 4):
        emitted, row = fit._emitted(seed, "7-series", tmp_path / str(seed)), rows[seed, "7-series"]
        assert (emitted.kind, emitted.needs) == (row.kind, row.needs), f"run {fit.__file__} measure"
        assert emitted.module.digest.startswith(row.verilog), f"run {fit.__file__} measure"


def test_yosys_counts_what_the_table_says(fit: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyosys", reason="Yosys (pyosys) is not installed")
    emitted = {seed: fit._emitted(seed, "7-series", tmp_path / str(seed)) for seed in CHECKED}
    stored = {row.seed: row for row in fit.read_rows() if row.family == "7-series"}
    worst = json.loads(COEFFICIENTS.read_text())["error"]
    for row in fit._measured(emitted, "7-series"):
        known = stored[row.seed]
        assert (row.ff, row.dsp, row.carry) == (known.ff, known.dsp, known.carry)
        assert abs(row.lut / known.lut - 1) < 0.03  # Yosys orders logic by names, and those by what shares its run
        estimated = luts(row.needs, row.family, json.loads(COEFFICIENTS.read_text())["lut"])
        assert abs(estimated / row.lut - 1) <= worst["lut"]["worst"] / 100


@pytest.mark.parametrize(
    ("seed", "most"),
    [
        pytest.param(375, 0.02, id="logic takes bits of a chain that it has elsewhere too, registers do not"),
        pytest.param(552, 0.12, id="a third operand of one bit enters a chain as its carry"),
        pytest.param(616, 0.26, id="a limit looks at its own bit for nothing"),
        pytest.param(421, 0.0, id="a choice of a constant in a table is a reset"),
        pytest.param(411, 0.0, id="a table that no other table reads has room for a reset"),
        pytest.param(292, 0.06, id="few functions of eight bits become four tables"),
    ],
)
def test_what_synthesis_does_is_counted(fit: Any, seed: int, most: float) -> None:
    (row,) = (row for row in fit.read_rows() if (row.seed, row.family) == (seed, "7-series"))
    kind, io_type, graph = fit.random_module(seed)
    needs_now = count_needs(graph, fit.target(seed, io_type, row.family))[0][graph.ops[-1].name]
    assert row.kind == kind and abs(luts(needs_now, row.family, dict.fromkeys(FITTED, 0)) / row.lut - 1) <= most


# -- counted bit by bit


def needs(net: Netlist, *outputs: int, width: int, pipe: Pipeline | None = None) -> dict[str, int]:
    net.outputs = list(outputs)
    found = footprint(net, pipe or pipeline(net, Clock(period_ns=5.0)), width, {}).alone()
    return {kind: count for kind, count in found.items() if count}


def test_sum_is_as_long_as_its_operands_overlap() -> None:
    net = Netlist()
    x, y = net.input(0, 15), net.input(0, 15)
    # the two lowest bits are wires, two have two operands, and two are carries alone
    assert needs(net, net.add(x, y, 0, 2), width=7) == {"lut": 2, "carry": 2, "flip_flops": 7}


def test_wires_and_bits_that_nothing_reads_are_not_built() -> None:
    net = Netlist()
    x = net.input(-8, 7)
    assert needs(net, net.shl(x, 3), width=7) == {}
    total = net.add(x, net.input(-8, 7))
    assert needs(net, net.wrap(total, 2, False), width=2) == {"lut": 2, "carry": 1, "flip_flops": 2}


def test_a_saturated_zero_shares_a_register() -> None:
    net = Netlist()
    raised = net.clamp(net.shl(net.input(0, 7), 3), 0, 31)  # the three lowest bits are one
    assert needs(net, raised, width=5)["flip_flops"] == 3


def test_three_operands_of_one_stage_are_one_sum() -> None:
    net = Netlist()
    x, y, z = (net.input(0, 15) for _ in range(3))
    assert needs(net, net.add(net.add(x, y), z), width=6)["carry"] == 2  # one chain, of six bits


def test_a_limit_is_the_reset_of_registers() -> None:
    net = Netlist()
    assert needs(net, net.clamp(net.input(-128, 127), 0, 127), width=7) == {"lut": 1, "flip_flops": 7}


def test_what_is_computed_twice_is_built_once() -> None:
    gates = Gates()
    bits = [gates.outside() for _ in range(10)]
    assert gates.any(bits) == gates.both(gates.any(bits[:4]) ^ 1, gates.any(bits[4:]) ^ 1) ^ 1
    assert gates.any(bits) > TRUE  # which is seldom zero, and still no constant
    a, b, c = bits[:3]
    assert gates.either(gates.both(a, b), gates.both(a, b ^ 1)) == a
    assert len({gates.differ(gates.differ(*pair), other) for *pair, other in ((a, b, c), (c, a, b))}) == 1


@pytest.mark.parametrize(("inputs", "tables"), [(6, 1), (7, 2), (11, 2), (36, 7)])
def test_a_wide_gate_takes_as_few_tables_as_hold_its_inputs(inputs: int, tables: int) -> None:
    gates = Gates()
    root = reduce(gates.differ, [gates.outside() for _ in range(inputs)])
    assert len(Cover(gates, [root], {}).tables) == tables


def test_words_that_neighbours_share_are_counted_once() -> None:
    net = Netlist()
    x, y, z = (net.input(0, 15) for _ in range(3))
    net.outputs = [net.add(net.add(x, y), net.add(y, z), 0, 1)]
    pipe = Pipeline((0, 0, 0, 0, 0, 1), 2)  # the two inner sums are registered
    apart, overlapping = (np.arange(3)[None] + step * np.arange(4)[:, None] for step in (3, 1))
    assert used(net, pipe, 7, overlapping, 0)["lut"] < used(net, pipe, 7, apart, 0)["lut"]
    assert first_uses(net, pipe, overlapping).sum(axis=1).tolist() == [4, 1, 1, 4, 1, 4]


def test_held() -> None:
    assert held(()) == (0, 0)
    assert held((2,)) == (2, 0)
    assert held((1, 2, 7)) == (2, 1)


@pytest.mark.parametrize(
    ("memory", "family", "expected"),
    [  # as Yosys 0.70 maps po2flow_fifo (2 addresses) and po2flow_window (1, or 2)
        ((12, 2, 2), "7-series", (12, 25, 0)),
        ((60, 2, 2), "7-series", (40, 1, 0)),
        ((60, 2, 2), "UltraScale+", (40, 1, 0)),
        ((12, 30, 2), "7-series", (8, 5, 0)),
        ((24, 40, 2), "7-series", (32, 6, 0)),
        ((24, 40, 2), "UltraScale+", (32, 6, 0)),
        ((12, 100, 2), "7-series", (44, 7, 0)),
        ((24, 40, 1), "7-series", (24, 0, 0)),
        ((8, 100, 1), "7-series", (16, 0, 0)),
        ((96, 65, 2), "7-series", (96, 97, 3)),
        ((24, 128, 2), "7-series", (24, 25, 1)),
        ((60, 1000, 2), "7-series", (60, 61, 4)),
    ],
)
def test_memories(memory: tuple[int, int, int], family: str, expected: tuple[int, int, int]) -> None:
    width, depth, ports = memory
    assert memory_needs(Memory(width=width, depth=depth, ports=ports), family) == expected


def test_needs_add_up() -> None:
    found = Needs(parts={"lut": 3}, memories=(Memory(width=4, depth=9, ports=2),))
    both = found + Needs(parts={"lut": 1, "carry": 2})
    assert (dict(both.parts), both.memories) == ({"lut": 4, "carry": 2}, found.memories)
    assert not set(LUTS) & set(FITTED)


# -- whole projects


def report(net: Net, **settings: Any) -> ResourceReport:
    target = Target(backend="rtl", **{"io_type": "io_parallel", "part": "xc7z020clg400-1", **settings})
    graph = net.graph()
    return estimate_rtl(graph, target, emit(graph, target).files[DESIGN])


def layer(weight: Any, bits: int = 6) -> Net:
    return Net((8,), s(bits)).dense(weight)


def test_estimate_follows_what_is_built() -> None:
    rng = np.random.default_rng(0)
    po2 = rng.choice([-1, 1], (8, 6)) << rng.integers(0, 4, (8, 6))
    plain, sparse = report(layer(po2)), report(layer(np.where(rng.random((8, 6)) < 0.6, 0, po2)))
    assert sparse.total.lut < plain.total.lut < report(layer(po2, bits=8)).total.lut
    assert plain.total.lut < report(layer(po2 * 11)).total.lut
    assert plain.total.ff < report(layer(po2), clock_period_ns=2.0).total.ff
    assert (plain.total.initiation_interval_cycles, plain.total.dsp) == (1, 0)
    assert plain.total.ff > plain.layers[0].ff  # with the bits that say which stages hold a sample


def test_memories_of_a_stream_stand_in_the_total() -> None:
    net = Net((12, 12, 2), u(4)).conv(np.ones((3, 3, 2, 4), int)).requantize(u(4))
    found = report(net, io_type="io_stream")
    assert found.total.lut > sum(each.lut for each in found.layers) > 0
    assert found.total.initiation_interval_cycles == 144 < found.total.latency_cycles


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_ops_stand_in_the_order_of_the_data_with_their_cycles(io_type: str) -> None:
    net = Net((12, 12, 2), u(4)).conv(np.ones((3, 3, 2, 4), int)).requantize(u(4)).pool((2, 2)).flatten()
    graph = lower(net.dense(np.ones((100, 3), int)).requantize(s(9)).graph())
    target = Target(backend="rtl", io_type=io_type, part="xc7z020clg400-1")
    design = emit(graph, target).files[DESIGN]
    found = estimate_rtl(graph, target, design)
    assert (
        [op.name for op in found.layers] == [op.name for op in graph.ops[1:]] != sorted(op.name for op in graph.ops[1:])
    )
    cycles = [(op.latency_cycles, op.initiation_interval_cycles) for op in found.layers]
    if io_type == "io_parallel":
        assert sum(latency for latency, _ in cycles) == found.total.latency_cycles
        assert {interval for _, interval in cycles} == {1}
    else:
        assert [interval for _, interval in cycles] == [144, 100, 25, 1]
        assert found.total.initiation_interval_cycles == 144
        assert all(latency >= interval for latency, interval in cycles)
    earlier = json.loads(design)
    del earlier["op_timing"]
    assert {op.latency_cycles for op in estimate_rtl(graph, target, json.dumps(earlier).encode()).layers} == {None}


def test_other_families_are_refused() -> None:
    target = Target(backend="rtl", io_type="io_parallel", part="xc7z020clg400-1")
    graph = layer(np.eye(8, dtype=int)).graph()
    design = emit(graph, target).files[DESIGN]
    for part, words in (("LFE5U-25F-6BG256C", "family 'ECP5'"), ("xc6slx9-tqg144-2", "xc6slx9")):
        with pytest.raises(UnsupportedError, match=words):
            estimate_rtl(graph, replace(target, part=part), design)


def test_the_longest_path_is_named_with_its_delay() -> None:
    found = report(layer(np.full((8, 2), 3)))
    path = found.critical_path
    assert path["op"] == found.layers[-1].name and path["delay_ns"] == found.estimated_clock_period_ns
    assert 0 < path["delay_ns"] <= found.clock_period_ns and path["nodes"][-1].endswith(("add", "sub"))
    assert set(DELAYS) >= {part.family for part in (*PARTS, *LATTICE_PARTS)}


def test_reports_state_the_error() -> None:
    entry = report(layer(np.eye(8, dtype=int))).to_json()
    assert (
        {"mean", "p95", "worst", "median_ratio", "modules"} == set(entry["error"]["lut"]) == set(entry["error"]["ff"])
    )
    words = f"LUT by {entry['error']['lut']['mean']:g} % in the mean, {entry['error']['lut']['worst']:g} % at worst"
    assert words in error_words(entry["error"]) and entry["error"]["against"] in error_words(entry["error"])


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_logic_is_mapped_for_a_report_alone(io_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net((6, 2), u(4)).conv(np.ones((3, 2, 2), int)).requantize(u(4)).flatten().dense(np.ones((8, 2), int))
    target, graph = Target(backend="rtl", io_type=io_type, part="xc7z020clg400-1"), net.graph()
    monkeypatch.setattr("flow.backends.rtl.netlists.footprint.Cover", None)
    design = emit(graph, target).files[DESIGN]
    with pytest.raises(TypeError, match="not callable"):
        estimate_rtl(graph, target, design)
