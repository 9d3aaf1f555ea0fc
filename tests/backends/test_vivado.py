"""Vivado's synthesis against a fake tool: the command line, the script, the reports read, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TESTS
from nets import Net, u
from test_csynth import install

from flow import pipeline
from flow.backends.base import BACKENDS
from flow.backends.functions import Site, tools
from flow.backends.vivado import constraints, script
from flow.errors import SpecError, ToolFailedError, ToolMissingError, UnsupportedError
from flow.results import ResourceReport
from flow.target import Target

REPORTS = TESTS / "data" / "reports"
PART = "xczu7ev-ffvc1156-2-e"
WRITE_REPORTS = f"""
ls > listing
cp {REPORTS}/vivado_utilization_ultrascale.rpt utilization.rpt
cp {REPORTS}/vivado_hierarchy.rpt hierarchy.rpt
cp {REPORTS}/vivado_timing.rpt timing.rpt
"""


def synthesize(run_dir: Path, name: str, target: Target) -> ResourceReport:
    """Run the last stage of `--until vivado` on a run."""
    graph = Net((2,), u(4), name).requantize(u(3)).graph()
    return tools("vivado", target)["vivado"].run(Site(run_dir, graph, target), lambda what: None)


def check(until: str, target: Target) -> None:
    """Ask a stage whether it can take a target."""
    tools(until, target)[until].check(target)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Return a run in which C synthesis has left two modules and the contents of a ROM."""
    verilog = tmp_path / "run" / "csynth" / "tiny_cnn_prj" / "solution1" / "syn" / "verilog"
    verilog.mkdir(parents=True)
    for name in ("tiny_cnn.v", "tiny_cnn_rom.v", "tiny_cnn_rom.dat"):
        (verilog / name).write_text("\n")
    return tmp_path / "run"


def test_runs_vivado_on_what_c_synthesis_left(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, "vivado", WRITE_REPORTS)
    found = synthesize(run_dir, "tiny_cnn", Target(part=PART))
    assert (found.source, found.tool) == ("vivado", "Vivado 2023.1 (routed)")
    assert (found.total.lut, found.estimated_clock_period_ns) == (4321, 3.621)
    assert [layer.name for layer in found.layers] == ["conv1_U0", "dense1_U0"]
    directory = run_dir / "vivado"
    assert (directory / "command_line").read_text().strip() == "-mode batch -nojournal -source synthesize.tcl"
    assert {"tiny_cnn.v", "tiny_cnn_rom.v", "tiny_cnn_rom.dat"} <= set((directory / "listing").read_text().split())
    assert (directory / "synthesize.tcl").read_text() == script("tiny_cnn", Target(part=PART))
    assert (directory / "clock.xdc").read_text() == constraints(Target(part=PART), "ap_clk")


def test_script_and_constraints() -> None:
    assert script("tiny_cnn", Target(part=PART)).splitlines() == [
        "read_verilog [glob *.v]",
        "read_xdc -mode out_of_context clock.xdc",
        f"synth_design -mode out_of_context -top tiny_cnn -part {PART}",
        "report_utilization -file utilization.rpt",
        "report_utilization -hierarchical -file hierarchy.rpt",
        "report_timing_summary -file timing.rpt",
    ]
    clock = constraints(Target(part=PART, clock_period_ns=3.3), "ap_clk")
    assert clock == "create_clock -name clock -period 3.300 [get_ports ap_clk]\n"


@pytest.mark.skipif("rtl" not in BACKENDS, reason="no back end rtl")
def test_a_verilog_project_needs_no_c_synthesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(backend="rtl", part=PART)
    (tmp_path / "run" / "project" / "rtl").mkdir(parents=True)
    (tmp_path / "run" / "project" / "rtl" / "tiny_cnn.v").write_text("\n")
    install(monkeypatch, tmp_path, "vivado", WRITE_REPORTS)
    assert synthesize(tmp_path / "run", "tiny_cnn", target).total.lut == 4321
    assert "get_ports aclk" in (tmp_path / "run" / "vivado" / "clock.xdc").read_text()
    with pytest.raises(UnsupportedError, match="--until vivado"):
        check("csynth", target)


def test_says_that_vivado_is_missing_or_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ToolMissingError, match="'vivado' is not on PATH; install AMD Vivado"):
        check("vivado", Target())
    with pytest.raises(UnsupportedError, match="for Quartus"):
        check("vivado", Target(backend="Quartus"))


@pytest.mark.parametrize("backend", ["Vitis", "rtl"])
def test_takes_every_part_of_amd_and_no_other(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, "vivado", "true")
    check("vivado", Target(backend=backend, part="xa7z020clg400-1Q"))
    with pytest.raises(SpecError, match="is none of AMD's"):
        check("vivado", Target(backend=backend, part="iCE40HX8K"))


def test_what_goes_wrong(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, "vivado", "echo 'ERROR: [Common 17-345] no license'; exit 1")
    with pytest.raises(ToolFailedError, match="no license"):
        synthesize(run_dir, "tiny_cnn", Target(part=PART))
    install(monkeypatch, tmp_path, "vivado", "true")
    with pytest.raises(ToolFailedError, match="left no utilization"):
        synthesize(run_dir, "tiny_cnn", Target(part=PART))
    with pytest.raises(ToolFailedError, match="there is no Verilog"):
        synthesize(run_dir, "other", Target(part=PART))


def test_stages_of_a_build() -> None:
    def stages(until: str, backend: str) -> list[str]:
        return list(tools(until, Target(backend=backend)))

    assert stages("vivado", "Vitis") == ["csynth", "vivado"], "Vivado takes what C synthesis writes"
    assert stages("csynth", "Vitis") == ["csynth"]
    assert stages("vivado", "Quartus") == ["vivado"], "which refuses it"
    assert stages("report", "Vitis") == []
    assert stages("pnr", "rtl") == ["synth", "pnr"]
    with pytest.raises(SpecError, match="csynth, vivado"):
        pipeline.BuildOptions(until="place")
