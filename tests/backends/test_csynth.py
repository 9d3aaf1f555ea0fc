"""Vendor synthesis against fake tools: the command line, the steps asked for, the report read, and what goes wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import TESTS

from flow.backends.hls4ml.csynth import synthesize
from flow.errors import ToolFailedError, ToolMissingError
from flow.target import Target

REPORTS = TESTS / "data" / "reports"
WRITE_REPORT = """
mkdir -p tiny_prj/solution1/syn/report
cp {report} tiny_prj/solution1/syn/report/tiny_csynth.rpt
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    project = tmp_path / "run" / "project"
    project.mkdir(parents=True)
    (project / "build_prj.tcl").write_text("# generated\n")
    (project / "build_opt.tcl").write_text("# the template's steps\n")
    return tmp_path / "run"


def install(monkeypatch: pytest.MonkeyPatch, directory: Path, name: str, body: str) -> None:
    """Put a fake program on a PATH that holds nothing else but the shell's own tools."""
    tools = directory / "bin"
    tools.mkdir(exist_ok=True)
    program = tools / name
    program.write_text(f'#!/bin/sh\necho "$@" > command_line\n{body}')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("backend", "tool", "report", "command_line"),
    [
        ("Vitis", "vitis-run", "vitis_hls_csynth.rpt", "--mode hls --tcl build_prj.tcl"),
        ("Vitis", "vitis_hls", "vitis_hls_csynth.rpt", "-f build_prj.tcl"),
        (
            "Vivado",
            "vivado_hls",
            "vivado_hls_csynth.rpt",
            "-f build_prj.tcl reset=1 csim=0 synth=1 cosim=0 validation=0 export=0 vsynth=0 fifo_opt=0",
        ),
    ],
)
def test_runs_the_tool_on_a_copy_and_reads_its_report(
    backend: str,
    tool: str,
    report: str,
    command_line: str,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, tmp_path, tool, WRITE_REPORT.format(report=REPORTS / report))
    found = synthesize(run_dir, "tiny", Target(backend=backend))
    assert found.source == "csynth"
    assert found.total.lut is not None
    assert (run_dir / "csynth" / "command_line").read_text().strip() == command_line
    assert not (run_dir / "project" / "command_line").exists(), "the project itself stays as it was emitted"
    if backend == "Vitis":
        steps = (run_dir / "csynth" / "build_opt.tcl").read_text()
        assert "synth 1" in steps
        assert "csim 0" in steps


def test_says_which_tool_is_missing(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for backend, tool in (("Vitis", "vitis-run"), ("Vivado", "vivado_hls")):
        with pytest.raises(ToolMissingError, match=tool):
            synthesize(run_dir, "tiny", Target(backend=backend))


def test_a_tool_that_fails_or_leaves_no_report_is_an_error(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, "vitis-run", "echo 'ERROR: license'; exit 3")
    with pytest.raises(ToolFailedError, match="license"):
        synthesize(run_dir, "tiny", Target())
    install(monkeypatch, tmp_path, "vitis-run", "true")
    with pytest.raises(ToolFailedError, match="left no synthesis report"):
        synthesize(run_dir, "tiny", Target())
    install(monkeypatch, tmp_path, "vitis-run", WRITE_REPORT.format(report=REPORTS / "vitis_hls_csynth.rpt"))
    assert synthesize(run_dir, "tiny", Target()).source == "csynth"
    shutil.copytree(run_dir / "csynth/tiny_prj", run_dir / "project/tiny_prj")
    install(monkeypatch, tmp_path, "vitis-run", "true")
    with pytest.raises(ToolFailedError, match="left no synthesis report"):  # that of an earlier run is none of this
        synthesize(run_dir, "tiny", Target())
