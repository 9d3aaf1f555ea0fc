"""Vendor synthesis: run Vitis HLS or Vivado HLS on a project, where they are installed, and read their report."""

from __future__ import annotations

from pathlib import Path

from flow.backends.base import find_backend
from flow.backends.vivado import run_on_copy
from flow.results import ResourceReport
from flow.target import Target
from flow.toolchain import find_tool, require_tool

STEPS = {"reset": 1, "csim": 0, "synth": 1, "cosim": 0, "validation": 0, "export": 0, "vsynth": 0, "fifo_opt": 0}
"""What `build_prj.tcl` of hls4ml is asked to do; that of Vitis reads it from `build_opt.tcl`."""


def synthesize(run_dir: Path, name: str, target: Target) -> ResourceReport:
    """Synthesize a copy of the project and return what the tool reports.

    Raises:
        ToolMissingError: no tool of the back end is on PATH.
        ToolFailedError: it failed, or left no report.
        OutputError: the copy cannot be written.
    """
    project, copy, report = run_dir / "project", run_dir / "csynth", f"synthesis report of '{name}'"
    leaves = find_backend(target.backend).left_by_tools
    return run_on_copy(command(target), project, copy, own_files(target), "csynth", report, leaves)


def own_files(target: Target) -> dict[str, str]:
    """Return what is written over the files of the project's copy: the steps, where no command line takes them."""
    steps = "".join(f"    {step} {value}\n" for step, value in STEPS.items())
    return {"build_opt.tcl": f"array set opt {{\n{steps}}}\n"} if target.backend == "Vitis" else {}


def command_line_steps() -> str:
    """Return the steps as the one argument that Vivado HLS hands to the script."""
    return " ".join(f"{step}={value}" for step, value in STEPS.items())


def command(target: Target) -> list[str]:
    """Return the command that synthesizes a project in its directory.

    Raises:
        ToolMissingError: no tool of the back end is on PATH.
    """
    if target.backend == "Vivado":
        return [require_tool("vivado_hls"), "-f", "build_prj.tcl", command_line_steps()]
    older = find_tool("vitis_hls")  # before 2024.2
    if older is not None and find_tool("vitis-run") is None:
        return [older, "-f", "build_prj.tcl"]
    return [require_tool("vitis-run"), "--mode", "hls", "--tcl", "build_prj.tcl"]
