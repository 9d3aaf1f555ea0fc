"""Calibration: what is learned from measured runs, what it makes of an estimate, and what a report says of both."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flow.backends.hls4ml.project_text import read_configurations
from flow.cli import main
from flow.cost.calibration import FILE, beside, calibrated, learn, read, write
from flow.errors import InputError, SpecError
from flow.report.page.document import resources as page_of_resources
from flow.report.record import Report
from flow.report.words import beside_rows, calibration_line, interval_line
from flow.results import Interval, ResourceReport, Resources

GOLDEN = Path(__file__).parents[1] / "golden"
SETTINGS = {"backend": "Vitis", "io_type": "io_parallel", "strategy": "Latency"}


def figures(source: str, scale: float = 1.0, prefix: str = "") -> ResourceReport:
    def counts(name: str, lut: int) -> Resources:
        return Resources(name=name, lut=round(lut * scale), ff=round(2 * lut * scale), dsp=0)

    layers = (counts(f"{prefix}fc1", 100), counts(f"{prefix}fc2", 60))
    return ResourceReport(source=source, tool=f"{source} 1", total=counts("m", 200), layers=layers)


def document(*reports: ResourceReport, run: str = "runs/m/Vitis/1", model: str = "m") -> dict[str, Any]:
    return {"model": model, "run_dir": run, "project": SETTINGS, "resources": [each.to_json() for each in reports]}


def test_ops_are_paired_by_name_and_the_total_stands_last() -> None:
    (found,) = beside(document(figures("static"), figures("vivado", 1.5, prefix="m_")))
    assert [pair.name for pair in found.pairs] == ["fc1", "fc2", "total"] and not found.unmatched
    header, rows = beside_rows(found)
    assert header[:4] == ["op", "LUT predicted", "measured", "off"]
    assert rows[0][:4] == ["fc1", "100", "150", "-33 %"]
    assert not beside(document(figures("static"), figures("csynth")))  # which the other estimate foretells


REPORTED = {  # modules of public hls4ml projects, as Vivado HLS 2019.1 and 2020.1 and Vitis HLS 2022.2 name them
    "grp_dense_latency_ap_fixed_ap_fixed_config11_0_0_0_0_0_0_fu_233": "fc1",
    "call_ret3_relu_ap_fixed_ap_fixed_16_6_5_3_0_relu_config11_s_fu_337": "fc1",
    "conv_2d_cl_array_ap_fixed_1u_array_ap_fixed_37_17_5_3_0_16u_config3_U0": "fc2",
    "grp_dense_resource_rf_leq_nin_ap_fixed_ap_fixed_27_11_5_3_0_config3_mult_s_fu_119": "fc2",
    "grp_dense_latency_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_0_1_fu_123": None,
    "clone_stream_array_ap_fixed_16u_array_ap_fixed_16_6_5_3_0_16u_1024_U0": None,
    "relu_array_ap_fixed_2u_array_ap_ufixed_6_0_4_0_0_2u_relu_config1_U0": None,
}


def test_modules_of_hls_are_known_by_their_configuration() -> None:
    modules = tuple(Resources(name=name, lut=10, ff=2) for name in REPORTED)
    given = document(figures("static_csynth"), replace(figures("csynth"), layers=modules))
    assert [pair.name for pair in beside(given)[0].pairs] == ["total"]  # of a run that does not say which are whose
    named = {"fc1": "config11", "fc2": "relu_config3"}
    given["layers"] = [{"name": "in"}, *({"name": op, "configuration": named[op]} for op in named)]
    (found,) = beside(given)
    counts = {pair.name: (pair.estimated["lut"], pair.measured["lut"], pair.measured["dsp"]) for pair in found.pairs}
    assert counts == {"fc1": (100, 20, None), "fc2": (60, 20, None), "total": (200, 200, 0)}
    assert set(found.unmatched) == {name for name, op in REPORTED.items() if op is None}


@pytest.mark.parametrize("golden", ["io_parallel", "io_stream", "Quartus/io_parallel", "oneAPI/io_stream"])
def test_projects_say_which_configuration_is_whose(golden: str) -> None:
    found = read_configurations(GOLDEN / golden, "tiny")
    assert found == {"conv_1": "config2", "dense_5": "config4"}
    assert not read_configurations(GOLDEN, "tiny")


def test_factors_are_the_median_per_group_and_come_back_scaled(tmp_path: Path) -> None:
    path = tmp_path / FILE
    scales = {"a": 1.4, "b": 1.5, "c": 1.5, "d": 1.6, "e": 2.0}
    runs = [
        document(figures("static"), replace(figures("vivado", scale, f"{net}_"), layers=()), run=net, model=net)
        for net, scale in scales.items()
    ]
    write(path, learn(runs))
    ((group, entry),) = (read(path) or {}).items()
    assert (group, len(entry["runs"])) == ("static by vivado Vitis io_parallel Latency", 5)
    assert entry["factors"]["lut"] == {"factor": 1.5, "low": 1.4, "high": 2.0, "pairs": 5, "designs": 5}
    assert "dsp" not in entry["factors"]  # of zeros nothing is learned
    found = calibrated(figures("static"), SETTINGS, path)
    assert (found.total.lut, found.layers[1].lut, found.calibration["file"]) == (300, 90, str(path))
    said = found.to_json()
    assert said["intervals"]["lut"]["low"] == 280 and said["intervals"]["lut"]["high"] == 400
    assert f"times 1.5 by {path}: all of 5 counts in 5 designs by vivado 1" in (interval_line(said, "lut") or "")
    assert str(path) in (calibration_line(said) or "")
    # of another group nothing changes, nor without a file
    assert calibrated(figures("static"), {**SETTINGS, "strategy": "Resource"}, path) == figures("static")
    assert calibrated(figures("static_csynth"), SETTINGS, path) == figures("static_csynth")
    assert calibrated(figures("static"), SETTINGS, tmp_path / "none.json") == figures("static")


def test_a_factor_of_few_designs_keeps_the_ends_of_the_estimate(tmp_path: Path) -> None:
    path = tmp_path / FILE
    runs = [document(figures("static"), figures("vivado", 1.5, "m_"), run=str(run)) for run in range(5)]
    write(path, learn(runs))  # five runs of one net are one design
    estimate = figures("static")
    own = {"lut": Interval(low=150, high=260, basis="within 30 % for 9 of 10 such designs", designs=43)}
    found = calibrated(replace(estimate, total=replace(estimate.total, intervals=own)), SETTINGS, path).total
    assert found.lut == 300
    told = f"within 30 % for 9 of 10 such designs; times 1.5 by {path}, of 1 design alone"
    assert found.intervals["lut"] == Interval(low=225, high=390, basis=told, designs=43)
    assert found.intervals["ff"].low is None  # nothing said how far it was off


def test_what_was_scaled_before_is_learned_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / FILE
    measured = figures("vivado", 1.5, "m_")
    write(path, learn([document(figures("static"), measured)]))
    again = learn([document(calibrated(figures("static"), SETTINGS, path), measured)])
    (entry,) = again["groups"].values()
    assert entry["factors"]["lut"]["factor"] == 1.5


def test_runs_without_measurements_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run has figures"):
        learn([document(figures("static"))])
    path = tmp_path / FILE
    good = learn([document(figures("static"), figures("vivado"))])
    damaged = copy.deepcopy(good)
    next(iter(damaged["groups"].values()))["factors"]["lut"]["factor"] = -1
    for text in ("{", "[]", json.dumps(damaged)):
        path.write_text(text)
        with pytest.raises(SpecError, match="no calibration"):
            read(path)


def test_a_run_with_figures_of_another_design_is_left_out(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tmp_path / "m" / "Vitis" / name for name in ("own", "other")]
    measured = figures("vivado", 1.5, "m_")
    found = {
        run: Report(document(figures("static"), replace(measured, top=top), run=str(run)))
        for run, top in zip(runs, ("m", "tiny_cnn"), strict=True)
    }
    monkeypatch.setattr("flow.cli._found_report", found.__getitem__)
    assert main(["calibrate", str(runs[1])]) == 2
    assert "vivado (vivado 1) is of top tiny_cnn, the run of m; hand" in capsys.readouterr().err
    assert not (tmp_path / FILE).exists()
    assert main(["calibrate", *map(str, runs)]) == 0
    assert f"left out: {runs[1]}: vivado" in capsys.readouterr().err
    assert [entry["runs"] for entry in (read(tmp_path / FILE) or {}).values()] == [[str(runs[0])]]


def test_command_writes_beside_the_runs(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "m" / "Vitis" / "1"
    found = Report(document(figures("static"), figures("vivado", 1.5, "m_"), run=str(run)))
    monkeypatch.setattr("flow.cli._found_report", lambda run_dir: found)
    assert main(["calibrate", str(run)]) == 0
    assert "lut: times 1.50 (1.50 to 1.50; 2 counts)" in (said := capsys.readouterr().out)
    assert f"kept in {tmp_path / FILE}" in said
    assert main(["calibrate", str(run), str(tmp_path / "a" / "b" / "c" / "d")]) == 2
    assert "--to" in capsys.readouterr().err
    page = page_of_resources(
        Report({**found.document, "resources": [{**each, "capacity": {}} for each in found.document["resources"]]})
    )
    assert "static estimate beside Vivado" in page and "-33 %" in page
