"""The last stages of a build: figures, the report, and what later tools add to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from flow.backends.functions import Shown, Site, Tool, functions
from flow.cost.calibration import FILE as CALIBRATION
from flow.cost.calibration import calibrated
from flow.cost.calibration import read as read_calibration
from flow.cost.energy import static_energy
from flow.errors import InputError, OutputError, ToolMissingError, UnsupportedError
from flow.pipeline.models import Extracted
from flow.pipeline.options import BuildOptions
from flow.pipeline.plan import Clock
from flow.project import Change, Project
from flow.report import since
from flow.report.assemble import assemble
from flow.report.page import render
from flow.report.record import Comparison, Report
from flow.report.text import to_markdown
from flow.results import EnergyReport, ResourceReport, SimResult
from flow.runs import RunDirectory, digest
from flow.verification.levels import (
    REFERENCE,
    SIMULATIONS,
    Inputs,
)

REPORT, PAGE = "report.json", "report.html"
SINCE = ", and a difference found since"
"""Behind the key of a report: a build makes it again, and so compares again."""


def estimate_resources(site: Site, options: BuildOptions) -> tuple[ResourceReport, ...] | str:
    """Return the static estimates, with the factors of a calibration beside the runs, or why there are none."""
    settings = {name: getattr(site.target, name) for name in ("backend", "io_type", "strategy")}
    try:
        estimates = functions(site.target).estimate_project(site)
        return tuple(calibrated(estimate, settings, options.output / CALIBRATION) for estimate in estimates)
    except UnsupportedError as error:
        return f"no estimate of resources: {error}"


def measure_simulation(
    site: Site, inputs: Inputs, simulation: SimResult | None, clock: Clock
) -> tuple[ResourceReport | EnergyReport, ...]:
    """Return what a simulation without pauses measures, where the back end measures something.

    Of a run without samples that is no energy: inputs made to break things change more bits than a user's.
    """
    measure, (port, adversarial) = functions(site.target).measure, inputs
    if measure is None or simulation is None:
        return ()
    with clock.stage("measure"):
        if len(port.codes):
            return measure(site, port.codes, simulation)
        cycles, _ = measure(site, adversarial, simulation)
        return (cycles,)


def assemble_report(
    run: RunDirectory,
    made: Extracted,
    site: Site,
    remarks: Sequence[str],
    comparison: Comparison | None,
    software: SimResult | ToolMissingError | None,
    distance: dict[str, Any] | None,
    shown: Shown,
    estimated: tuple[ResourceReport, ...] | str,
    measured: tuple[ResourceReport | EnergyReport, ...],
    clock: Clock,
) -> Report:
    """Return the report of a build; without a comparison of one that was asked to stop before."""
    manifest = run.manifest()
    own = () if isinstance(estimated, str) else estimated
    notes = [
        "stopped before simulation: nothing was compared" if comparison is None else "",
        f"software inference was not compared: {software}" if isinstance(software, ToolMissingError) else "",
        f"not simulated: {comparison.not_simulated}" if comparison and comparison.not_simulated else "",
        comparison.note if comparison else "",
        "" if shown.differences else shown.note,
        estimated if isinstance(estimated, str) else "",
    ]
    report = assemble(
        trained=made.source.trained,
        graph=site.graph,
        target=site.target,
        run_dir=run.path,
        project_digest=manifest["stages"].get("emit"),
        comparison=comparison,
        quantization=made.quantization,
        approximation=distance,
        configurations=functions(site.target).configurations(site),
        resources=[*own, *(report for report in measured if isinstance(report, ResourceReport))],
        energy=[static_energy(site.graph), *(report for report in measured if isinstance(report, EnergyReport))],
        notes=[*remarks, *filter(None, notes)],
        commands=manifest["commands"],
        versions=manifest["versions"],
        timings_s=clock.seconds,
    )
    return since.with_found(report, since.standing(_found_since(run), report))


def _found_since(run: RunDirectory) -> list[Any]:
    """Return what comparisons found since the last build."""
    try:
        found: list[Any] = read_report(run).document["verdict"].get("found_since", [])
    except InputError:  # there is no report yet, or it was changed
        return []
    return found


def keep_comparison(run: RunDirectory, stored: Report, recompared: Report) -> Report:
    """Return the report of a comparison; if it found a difference or settled one, the run's own report says so too."""
    before = stored.document["verdict"].get("found_since", [])
    now = [
        *since.standing(before, recompared),
        *([] if recompared.bit_exact is not False else [since.found(recompared, _now())]),
    ]
    if now == before:
        return recompared
    changes = [Change(**each) for each in recompared.document["project"]["changes"]]
    try:
        write_report(run, since.with_found(since.with_changes(stored, changes), now))
        key = run.manifest()["stages"]["report"].removesuffix(SINCE)
        run.mark_done("report", f"{key}{SINCE if now else ''}", REPORT)
    except OutputError as error:
        return recompared.with_notes(f"what this comparison found is not kept in the run: {error}")
    return recompared


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def report_key(made: Extracted, project: Project, inputs_key: str, options: BuildOptions) -> str:
    """Return what the report of a whole build is made of."""
    trained = made.source.trained
    made_of: tuple[Any, ...] = (trained.digest(), dict(trained.metrics), dict(trained.provenance))
    if made.quantization is not None:
        made_of += (made.quantization.document, made.quantization.accuracy, made.quantization.heads)
    if (factors := read_calibration(options.output / CALIBRATION)) is not None:
        made_of += (factors,)
    return digest(project.digest(), inputs_key, made_of)


def write_report(run: RunDirectory, assembled: Report) -> Report:
    """Write a report into its run directory, as JSON, Markdown and a page."""
    run.write_text("report.md", to_markdown(assembled))
    run.write_text(PAGE, render(assembled))
    run.write_json(REPORT, assembled.to_json())
    return assembled


def write_stopped_report(run: RunDirectory, assembled: Report, options: BuildOptions) -> Report:
    """Write the report of a build that stopped, which no later build takes for its own; one that compared stays."""
    with suppress(InputError):
        if read_report(run).document["verdict"]["compared"]:
            return assembled.with_notes(f"{REPORT} stays that of an earlier build of this run, which compared")
    write_report(run, assembled)
    run.mark_done("report", f"until {options.until}", REPORT)
    return assembled


def key_of_written(report: Report, key: str) -> str:
    """Return the key of a report; without software inference another one, for its tool may be there next time."""
    compared = report.document["verdict"]["compared"]
    software = set(compared) - SIMULATIONS - {REFERENCE}
    without = report.document["quantization"] or report.document.get("approximation")
    return key if software or without else f"compared {compared}"


def read_report(run: RunDirectory) -> Report:
    """Return the report that lies in a run directory.

    Raises:
        InputError: it is missing, or was changed.
    """
    return Report.read(run.read(REPORT), run.path)


def written_report(run: RunDirectory) -> Report:
    """Return the report that an earlier build wrote, with its page as this version draws it."""
    report = read_report(run)
    run.write_text(PAGE, render(report))
    return report


def run_tools(
    run: RunDirectory, site: Site, report: Report, report_key: str, later: Mapping[str, Tool], clock: Clock
) -> Report:
    """Return the report with what the later tools say, written again after each of them."""
    for name, tool in later.items():
        with clock.stage(name):
            taken = tool.run(site, clock.announce)
            report = write_report(run, report.with_resources(taken).with_notes(tool.note(taken)))
            run.mark_done("report", key_of_written(report, report_key), REPORT)
    return report
