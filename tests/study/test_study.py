"""The study of requantizers: definitions on ties, the check of netlists, toggles, the table and what is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY

from flow.cli import main
from flow.cost import requantizers as table
from flow.cost.requantizers import CONSTANT, RUNTIME, costs_from_json, costs_to_json, load_costs, requantization_cost
from flow.errors import (
    EmitError,
    ModelFileError,
    OutputError,
    SpecError,
    ToolFailedError,
    ToolMissingError,
    UnsupportedError,
)
from flow.study import definitions, gates, measure
from flow.study.circuits import ALL_WIDTHS, CIRCUITS, TOP, Circuit, verilog
from flow.study.document import in_words, render, write_study
from flow.study.gates import Simulation, read_netlist
from flow.study.liberty import GENERIC, parse_function, parse_library, read_library
from flow.study.vectors import cases, codes_of, model_accumulators, scope, widened

needs_yosys = pytest.mark.skipif(find_spec("pyosys") is None, reason="pyosys is not installed")
ACCUMULATORS = [-(1 << 31), (1 << 31) - 1, 0, 1, -1, 2, -2, 3, -3, 6, -6, 10, -10, 1 << 20, -(1 << 20), 123456789]


# -- definitions


def half_up(value: Fraction) -> int:
    return (value + Fraction(1, 2)).__floor__()


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def clamped(value: int, bits: int) -> int:
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


@pytest.mark.parametrize("shift", [0, 1, 2, 5, 31])
def test_shift_rounds_half_up(shift: int) -> None:
    codes = definitions.shift_clamp(np.array(ACCUMULATORS), {"shift": shift}, 8)
    assert codes.tolist() == [clamped(half_up(Fraction(acc, 1 << shift)), 8) for acc in ACCUMULATORS]


@pytest.mark.parametrize(("multiplier", "shift"), [(1, 1), (3, 2), (46341, 20), (65535, 47), (0, 0)])
def test_dyadic_rounds_half_up(multiplier: int, shift: int) -> None:
    codes = definitions.dyadic(np.array(ACCUMULATORS), {"multiplier": multiplier, "shift": shift}, 8)
    assert codes.tolist() == [clamped(half_up(Fraction(acc * multiplier, 1 << shift)), 8) for acc in ACCUMULATORS]


@pytest.mark.parametrize("multiplier", [1 << 30, 1518500250, (1 << 31) - 1])
@pytest.mark.parametrize("shift", [0, 1, 2, 24, 31])
def test_tflite_rounds_once_and_gemmlowp_twice(multiplier: int, shift: int) -> None:
    parameters = {"multiplier": multiplier, "shift": shift, "zero_point": -5}
    once, twice = [], []
    for acc in ACCUMULATORS:
        once.append(clamped(half_up(Fraction(acc * multiplier, 1 << (31 + shift))) - 5, 8))
        high = half_up(Fraction(acc * multiplier, 1 << 31))
        twice.append(clamped(half_away(Fraction(high, 1 << shift)) - 5, 8))
    assert definitions.tflite_single(np.array(ACCUMULATORS), parameters, 8).tolist() == once
    assert definitions.gemmlowp_double(np.array(ACCUMULATORS), parameters, 8).tolist() == twice


def test_the_rules_for_ties_differ() -> None:
    """-2.5 and 2.5: half up, half away from zero in gemmlowp's second rounding, half to even in float32."""
    acc, half = np.array([-10, 10]), {"multiplier": 1 << 30, "shift": 1, "zero_point": 0}
    assert definitions.shift_clamp(acc, {"shift": 2}, 8).tolist() == [-2, 3]
    assert definitions.tflite_single(acc, half, 8).tolist() == [-2, 3]
    assert definitions.gemmlowp_double(acc, half, 8).tolist() == [-3, 3]
    quarter = {"scale": int(np.float32(0.25).view(np.uint32))}
    assert definitions.float_scale(acc, quarter, 8).tolist() == [-2, 2]


def test_float_rounds_the_accumulator_first() -> None:
    """2^24 + 1 has no float32; it becomes 2^24, which half of 2^24 + 1 would not."""
    scale = {"scale": int(np.float32(2.0**-19).view(np.uint32))}
    acc = np.array([(1 << 24) + (1 << 18) + 1, (1 << 24) + (1 << 18), (1 << 31) - 1])
    assert definitions.float_scale(acc, scale, 8).tolist() == [32, 32, 127]


def test_steps_are_counted_up_to_their_own_value() -> None:
    assert definitions.count_steps(np.array([-3, -2, 0, 4, 5, 9]), {"steps": (-2, 4, 9)}, 2).tolist() == [
        0,
        1,
        1,
        2,
        2,
        3,
    ]


# -- circuits


def test_the_table_of_circuits() -> None:
    assert {name.removesuffix(f"_{CIRCUITS[name].parameters}") for name in CIRCUITS} == {
        *("shift", "dyadic8", "dyadic16", "tflite31", "gemmlowp31", "float32", "thresholds"),
        *("encode16", "encode256", "decode16", "decode256"),
    }
    assert len(ALL_WIDTHS) == 9
    for circuit in CIRCUITS.values():
        text = verilog(circuit, *circuit.widths[0])
        ported = [name for name in circuit.ports(*circuit.widths[0]) if f"] {name},\n" in text]
        assert bool(ported or "input wire write" in text) == (circuit.parameters == RUNTIME)


def test_storage_is_counted() -> None:
    assert CIRCUITS["encode16_runtime"].storage_bits(32, 4) == 15 * 32
    assert CIRCUITS["thresholds_runtime"].storage_bits(16, 8) == 255 * 16
    assert CIRCUITS["decode256_runtime"].storage_bits(8, 16) == 256 * 16
    assert CIRCUITS["encode16_constant"].storage_bits(32, 4) == CIRCUITS["shift_runtime"].storage_bits(32, 8) == 0


@pytest.mark.parametrize("name", CIRCUITS)
def test_cases_hold_ends_and_ties(name: str) -> None:
    circuit = CIRCUITS[name]
    acc_bits, out_bits = circuit.widths[0]
    first = next(iter(cases(circuit, acc_bits, out_bits)))
    if circuit.signed:
        assert {-(1 << (acc_bits - 1)), (1 << (acc_bits - 1)) - 1, 0} <= set(first.acc.tolist())
    if set(first.parameters) == {"shift"}:
        half = 1 << (int(first.parameters["shift"]) - 1)
        assert {half, -half, 3 * half, half - 1, half + 1} <= set(first.acc.tolist())
    if circuit.memory == "steps":
        assert set(definitions.codebook_steps(16, 4)["steps"]) <= set(
            np.concatenate([case.acc for case in cases(CIRCUITS["encode16_constant"], 16, 4)]).tolist()
        )
    assert scope(circuit, 16) == "exhaustive"


# -- cells

LIBRARY = """
library(small) {
  nom_voltage : 2.0; /* a comment */
  lu_table_template(t) { variable_1 : input_net_transition; index_1 ("1, 2"); }
  cell (NAND) { area : 3;
    pin(A) { direction : input; capacitance : 0.5; }
    pin(B) { direction : input; capacitance : 0.25; }
    pin(Y) { direction : output; function : "(!(A B))"; timing() { related_pin : "A"; } } }
  cell (DFF) { area : 9; ff (Q1,Q2) { next_state : "D"; clocked_on : "CLK"; }
    pin(CLK) { direction : input; capacitance : 1; }
    pin(D) { direction : input; capacitance : 2; }
    pin(Q) { direction : output; function : "Q1"; } }
  cell (DFFN) { area : 9; ff (Q1,Q2) { next_state : "D"; clocked_on : "!CLK"; }
    pin(CLK) { direction : input; capacitance : 1; }
    pin(D) { direction : input; capacitance : 2; }
    pin(Q) { direction : output; function : "Q1"; } }
  cell (HALF) { area : 5;
    pin(A) { direction : input; capacitance : 1; }
    pin(S) { direction : output; function : "A"; }
    pin(C) { direction : output; function : "!A"; } }
  cell (TRI) { area : 5;
    pin(A) { direction : input; capacitance : 1; }
    pin(Y) { direction : output; function : "A"; three_state : "A"; } }
  cell (LATCH) { area : 5; latch (Q1,Q2) { data_in : "D"; enable : "D"; }
    pin(D) { direction : input; capacitance : 1; }
    pin(Q) { direction : output; function : "Q1"; } }
}
"""


def test_a_liberty_file_is_read() -> None:
    library = parse_library(LIBRARY)
    assert (library.name, library.voltage, set(library.cells)) == ("small", 2.0, {"NAND", "DFF"})
    nand, register = library.cells["NAND"], library.cells["DFF"]
    assert (nand.area, nand.output, dict(nand.load)) == (3.0, "Y", {"A": 0.5, "B": 0.25})
    assert (register.data, register.clock, register.output, register.function) == ("D", "CLK", "Q", None)


@pytest.mark.parametrize("text", ["", "library(x) {", "cell (x) { }", LIBRARY.replace("(!(A B))", "(!(A B)")])
def test_a_damaged_liberty_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.lib").write_text(text)
    with pytest.raises(ModelFileError, match="not a readable liberty file"):
        read_library(tmp_path / "x.lib")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A B", 0b1000),
        ("A*B", 0b1000),
        ("A&B", 0b1000),
        ("A+B", 0b1110),
        ("A|B", 0b1110),
        ("A^B", 0b0110),
        ("!A B", 0b0100),
        ("A' B", 0b0100),
        ("!(A+B)'", 0b1110),
        ("A B'+A' B", 0b0110),
        ("!A^B A", 0b1000),  # ^ binds tighter than a product
        ("1", 0b1111),
        ("0", 0b0000),
    ],
)
def test_functions_of_cells(text: str, expected: int) -> None:
    pins = {"A": np.array([0b1010], np.uint64), "B": np.array([0b1100], np.uint64)}
    assert int(np.broadcast_to(parse_function(text)(pins), 1)[0]) & 15 == expected


@pytest.mark.parametrize("text", ["(A", "A)", "+", "A !"])
def test_functions_that_cannot_be_read(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_function(text)


def test_the_libraries_at_hand(tmp_path: Path) -> None:
    assert measure.find_library(tmp_path / "none.lib") is GENERIC
    (tmp_path / "small.lib").write_text(LIBRARY)
    assert measure.find_library(tmp_path / "small.lib").name == "small"


# -- simulation


def netlist(tmp_path: Path, cells: dict[str, Any], ports: dict[str, list[int | str]]) -> gates.Netlist:
    document = {"modules": {TOP: {"ports": {name: {"bits": bits} for name, bits in ports.items()}, "cells": cells}}}
    (tmp_path / "netlist.json").write_text(json.dumps(document))
    return read_netlist(tmp_path / "netlist.json", TOP, GENERIC)


def cell(kind: str, **pins: int | str) -> dict[str, Any]:
    return {"type": f"$_{kind}_", "connections": {pin: [bit] for pin, bit in pins.items()}}


def inverter(tmp_path: Path) -> gates.Netlist:
    cells = {
        "in": cell("DFF_P", C=2, D=3, Q=5),
        "not": cell("NOT", A=5, Y=6),
        "out": cell("DFF_P", C=2, D=6, Q=4),
    }
    return netlist(tmp_path, cells, {"clk": [2], "acc_in": [3], "code": [4]})


@pytest.mark.parametrize("chunk", [1, gates.CHUNK])
def test_toggles_are_those_of_the_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(gates, "CHUNK", chunk)
    found = inverter(tmp_path)
    bits = np.random.default_rng(0).integers(0, 2, 1000)
    simulation = Simulation(found)
    assert np.array_equal(simulation.codes({"acc_in": bits}, 1000, signed=False), 1 - bits)
    changes = int(np.count_nonzero(np.diff(bits)))
    toggles = simulation.toggled({"acc_in": bits}, 1000)
    assert sorted(toggles[found.load > 0].tolist()) == [changes, changes]
    assert (found.area, found.register_area, found.clock_load) == (34, 32, 8.0)
    assert sorted(found.load[found.load > 0].tolist()) == [2.0, 4.0]


def test_unknown_cells_and_loops_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError, match=r"Yosys left a cell \$_TBUF_ that generic gates does not have"):
        netlist(tmp_path, {"t": cell("TBUF", A=2, Y=3)}, {"acc_in": [2], "code": [3]})
    with pytest.raises(ToolFailedError, match="loop"):
        netlist(tmp_path, {"a": cell("NOT", A=3, Y=4), "b": cell("NOT", A=4, Y=3)}, {"acc_in": [2], "code": [3]})


def test_accumulators_of_models_fill_the_width() -> None:
    found = model_accumulators(("digits_mlp",))
    assert list(found) == ["digits_mlp/dense1", "digits_mlp/dense2", "digits_mlp/logits"]
    for bits in (16, 24, 32):
        room = 1 << (bits - bits // 4 - 1)
        for name in found:
            acc = widened({name: found[name]}, bits)
            assert len(acc) == len(found[name])
            assert room // 2 <= max(acc.max(), ~acc.min()) < room
        codes = codes_of(widened(found, bits), bits, 4)
        assert 0 <= codes.min() < codes.max() <= 15


# -- the measurement


def cells_only(circuits: list[Circuit], tmp_path: Path, **settings: Any) -> table.Costs:
    """To 6 bits nothing is synthesized for FPGAs."""
    return measure.measure(circuits, tmp_path, widths=[(16, 6)], **settings)


@needs_yosys
def test_circuits_are_measured_on_generic_gates(tmp_path: Path) -> None:
    circuits = [CIRCUITS[name] for name in ("shift_constant", "shift_runtime")]
    costs = cells_only(circuits, tmp_path, library=GENERIC)
    assert (costs.cell_library, costs.area_unit) == ("generic gates", "transistors")
    rows = {row.circuit: row for row in costs.rows}
    assert all(row.checked.scope == "exhaustive" and row.checked.inputs >= 1 << 16 for row in costs.rows)
    assert rows["shift_constant"].logic_area < rows["shift_runtime"].logic_area
    assert rows["shift_runtime"].register_area == 22 * 16
    assert rows["shift_constant"].xc7_nodsp is None and rows["shift_constant"].delay_ns is None
    said: list[str] = []
    assert cells_only(circuits, tmp_path, library=GENERIC, announce=said.append) == costs
    assert said == [], "measured again"


@pytest.mark.slow
@needs_yosys
def test_multipliers_and_loaded_thresholds_on_generic_gates(tmp_path: Path) -> None:
    circuits = [CIRCUITS[name] for name in ("shift_runtime", "dyadic8_constant", "thresholds_runtime")]
    shift, dyadic, row = cells_only(circuits, tmp_path, library=GENERIC).rows
    assert shift.logic_area < dyadic.logic_area
    assert row.checked.scope == "exhaustive" and row.register_area == 22 * 16
    assert row.logic_area > row.storage_bits * 16


@needs_yosys
@pytest.mark.skipif(not measure.LIBERTY.exists(), reason="qflow-tech-osu018 is not installed")
def test_a_circuit_is_measured_as_in_the_table(tmp_path: Path) -> None:
    """All but the energy, which changes with the models."""
    row = measure.measure([CIRCUITS["shift_constant"]], tmp_path, widths=[(16, 8)]).rows[0]
    expected = load_costs().find("shift_constant", 16, 8)
    assert replace(row, energy=expected.energy, energy_zeros=expected.energy_zeros) == expected


@needs_yosys
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("shift_runtime", "+ up", "+ 0"),
        ("shift_constant", "halves[0] & ", "halves[0] | "),
        ("gemmlowp31_constant", "{1'b0, high[15]}", "2'b0"),
        ("float32_runtime", "(fixed[24] | |fixed[22:0])", "1'b1"),
        ("thresholds_runtime", "acc >= $signed(steps_5", "acc > $signed(steps_5"),
    ],
)
def test_a_broken_circuit_is_caught(tmp_path: Path, name: str, right: str, wrong: str) -> None:
    circuit = CIRCUITS[name]
    text = circuit.body(16, 6)
    assert text.count(right) == 1
    broken = replace(circuit, body=lambda acc_bits, out_bits: text.replace(right, wrong))
    with pytest.raises(EmitError, match=f"{name}, 16 -> 6: the netlist gives -?[0-9]+, the definition"):
        cells_only([broken], tmp_path, library=GENERIC)


@needs_yosys
@pytest.mark.slow
@pytest.mark.parametrize("name", CIRCUITS)
def test_every_circuit_does_what_its_definition_says(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_on_fpga", lambda *_: False)
    circuit = CIRCUITS[name]
    rows = measure.measure([circuit], tmp_path, library=GENERIC).rows
    assert [(row.acc_bits, row.out_bits) for row in rows] == sorted(circuit.widths, reverse=True)


def test_the_delay_is_what_abc_said_last() -> None:
    assert measure.read_delay("Area = 3 Delay =  1607.84 ps\nDelay = 11258.06 ps ( 3 %)") == 11.26
    assert measure.read_delay("nothing") is None


# -- the table that comes along


def test_the_table_has_every_circuit_and_width() -> None:
    costs = load_costs()
    assert [(row.circuit, row.acc_bits, row.out_bits) for row in costs.rows] == [
        (name, *pair) for name, circuit in CIRCUITS.items() for pair in sorted(circuit.widths, reverse=True)
    ]
    for row in costs.rows:
        assert row.xc7 is not None and row.xcup is not None
        assert (row.xc7_nodsp is None) == (row.xcup_nodsp is None)
    assert costs_from_json(json.loads(costs_to_json(costs))) == costs


def test_the_smallest_width_that_covers_is_taken() -> None:
    assert requantization_cost("shift_constant", 17, 7).name == "shift_constant, 24 -> 8"
    assert requantization_cost("dyadic16_runtime", 16, 4).name == "dyadic16_runtime, 16 -> 4"
    with pytest.raises(SpecError, match=r"no requantizer 'shift' in the table; there are shift_constant, "):
        requantization_cost("shift", 16, 8)
    with pytest.raises(UnsupportedError, match="none covers 33 -> 8"):
        requantization_cost("shift_constant", 33, 8)
    with pytest.raises(UnsupportedError, match="has no 'shift_constant, 17 -> 8'"):
        load_costs().find("shift_constant", 17, 8)


def test_document_and_plot_are_those_of_the_table(tmp_path: Path) -> None:
    """What `flow study quantizers --output .` writes, but for the measuring."""
    for path in write_study(load_costs(), tmp_path):
        assert path.read_text() == (REPOSITORY / path.relative_to(tmp_path)).read_text(), f"{path.name}: run it again"


def test_a_table_of_one_circuit_makes_a_document() -> None:
    costs = load_costs()
    one = replace(costs, rows=tuple(row for row in costs.rows if row.circuit == "dyadic8_constant"))
    document, drawn = render(one)
    assert "dyadic 8-bit, constant" in document and drawn.startswith("<svg")


def test_circuits_in_words() -> None:
    assert in_words("encode256_constant") == "codebook encode, 256 entries, constant"
    assert in_words("thresholds_runtime") == "thresholds, run-time"
    assert {CONSTANT, RUNTIME} == {row.parameters for row in load_costs().rows}


# -- the command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "multipliers"], "there is no study 'multipliers'; there is 'quantizers'"),
        (["study", "quantizers", "--circuits", "shift"], "no requantizer 'shift'; there are shift_constant, "),
    ],
)
def test_wrong_names(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_no_yosys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> str:
        raise ToolMissingError("Yosys is not installed")

    monkeypatch.setattr(measure, "yosys_version", missing)
    assert main(["study", "quantizers", "--output", str(tmp_path)]) == 3
    assert "Yosys is not installed" in capsys.readouterr().err


def test_the_command_writes_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "measure", lambda circuits, cache, **_: load_costs())
    assert main(["study", "quantizers", "--output", str(tmp_path)]) == 0
    assert f"{len(load_costs().rows)} requantizers measured" in capsys.readouterr().out
    assert (tmp_path / "docs" / "quantizer-cost.md").read_text().startswith("# What requantizing")


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "flow").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_study(load_costs(), tmp_path)
