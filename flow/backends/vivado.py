"""Vivado: out-of-context synthesis of a project's Verilog, where Vivado is installed, and its reports.

hls4ml's `vivado_synth.tcl` gives the design no clock and puts a buffer at every port, which few parts have pins for; so
the script is our own, the same for what C synthesis wrote and for Verilog projects.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from flow.cost.vendor_reports.kinds import find_reports
from flow.errors import OutputError, ToolFailedError, UnsupportedError
from flow.parts import complete_part
from flow.results import ResourceReport
from flow.target import Target
from flow.toolchain import require_tool, run_tool

SCRIPT, CLOCK = "synthesize.tcl", "clock.xdc"


def synthesize(sources: Path, directory: Path, name: str, target: Target, *, clock_port: str) -> ResourceReport:
    """Synthesize Verilog and return what Vivado reports.

    Args:
        sources: directory with the Verilog, and the contents of ROMs beside the modules that read them.
        directory: where Vivado works; it is emptied first.
        name: top module.
        target: part and clock.
        clock_port: what the top module calls its clock.

    Raises:
        SpecError: the part is no complete name of AMD's.
        ToolMissingError: Vivado is not on PATH.
        ToolFailedError: it failed, or left no report, or there is no Verilog.
        OutputError: the directory cannot be written.
    """
    program = command(target)
    if not any(sources.glob("*.v")):
        raise ToolFailedError(f"there is no Verilog in {sources}", remedy="run 'flow build' again")
    files = own_files(name, target, clock_port)
    return run_on_copy(program, sources, directory, files, "vivado", f"utilization of '{name}'")


def own_files(name: str, target: Target, clock_port: str) -> dict[str, str]:
    """Return what is written beside the Verilog."""
    return {CLOCK: constraints(target, clock_port), SCRIPT: script(name, target)}


def run_on_copy(
    program: list[str],
    sources: Path,
    directory: Path,
    files: Mapping[str, str],
    source: str,
    what: str,
    leaves: Sequence[str] = (),
) -> ResourceReport:
    """Run a vendor's tool on a copy of what it reads, and return what it reports.

    Args:
        program: the command, run in the copy.
        sources: directory that is copied.
        directory: the copy; it is emptied first.
        files: what is written beside the sources.
        source: which of the reports found is asked for.
        what: that report in words.
        leaves: patterns of names that are not copied: what an earlier run of the tool left there is not of this one.

    Raises:
        ToolFailedError: the tool failed, or left no report.
        OutputError: the copy cannot be written.
    """
    try:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(sources, directory, ignore=shutil.ignore_patterns(*leaves))
        for path, text in files.items():
            (directory / path).write_text(text)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", file=directory) from error
    run_tool(program, directory)
    for report in find_reports(directory):
        if report.source == source:
            return report
    raise ToolFailedError(f"{program[0]} left no {what} in {directory}")


def command(target: Target) -> list[str]:
    """Return the command that synthesizes in the directory of the script.

    Raises:
        SpecError: the part is no complete name of AMD's.
        ToolMissingError: Vivado is not on PATH.
    """
    complete_part(target.part)
    return [require_tool("vivado"), "-mode", "batch", "-nojournal", "-source", SCRIPT]


def takes_only_verilog(target: Target) -> UnsupportedError:
    """Return why Vivado cannot take the projects of a back end whose own tool makes the Verilog."""
    return UnsupportedError(
        f"Vivado cannot synthesize projects for {target.backend}", remedy="use back end Vitis or Vivado"
    )


def constraints(target: Target, clock_port: str) -> str:
    """Return the constraints: the clock, on its port."""
    return f"create_clock -name clock -period {target.clock_period_ns:.3f} [get_ports {clock_port}]\n"


def script(name: str, target: Target) -> str:
    """Return the script; the clock is read before synthesis, which then works towards it (UG901, UG905)."""
    return (
        "read_verilog [glob *.v]\n"
        f"read_xdc -mode out_of_context {CLOCK}\n"
        f"synth_design -mode out_of_context -top {name} -part {target.part}\n"
        "report_utilization -file utilization.rpt\n"
        "report_utilization -hierarchical -file hierarchy.rpt\n"
        "report_timing_summary -file timing.rpt\n"
    )
