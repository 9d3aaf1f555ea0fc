"""The stages of a build and of a comparison, as two lists: reading them is reading what is done.

Each row makes the value of its name from the values that its function's parameters name; `flow.pipeline.plan` runs
them. What a build is given: `model`, `asked` (a Target), `options`, `announce`. What a comparison is given: `run`,
`stored` (the report of the build), `asked_levels`, `asked_inputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from flow.backends.base import find_backend
from flow.backends.functions import TOOLS, Shown, Site, Tool, functions, tools
from flow.commands import commands
from flow.cost.energy import static_energy
from flow.data.inputs import PortInputs, no_inputs, to_port
from flow.errors import InputError, SpecError, ToolMissingError, UnsupportedError
from flow.findings import ERROR
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, slides_windows, to_json
from flow.ir.passes import lower
from flow.pipeline.models import Extracted, extract_model, quantize_model
from flow.pipeline.options import BuildOptions
from flow.pipeline.plan import Clock, Stage
from flow.project import Project, read, write
from flow.report.assemble import assemble, recompared
from flow.report.page import render
from flow.report.record import Comparison, Report
from flow.report.text import to_markdown
from flow.results import Divergence, EnergyReport, ResourceReport, SimResult
from flow.runs import RunDirectory, digest
from flow.target import Target
from flow.verification.levels import (
    COUNTEREXAMPLE,
    REFERENCE,
    SIMULATIONS,
    find_divergence,
    known_levels,
    open_level,
    read_counterexample,
)
from flow.verification.preflight import Design, examine, refuse
from flow.verification.stored import (
    GRAPH,
    INPUTS,
    SOFTWARE,
    inputs_digest,
    read_inputs,
    store_inputs,
    store_model,
    store_software,
    stored_graph,
    stored_inputs,
    stored_software,
)

REPORT, PAGE = "report.json", "report.html"
Inputs = tuple[PortInputs, Codes]
"""Inputs of a run, and adversarial input codes besides."""


# -- before the long work


def later_tools(asked: Target, options: BuildOptions) -> Mapping[str, Tool]:
    """Return the tools that are asked for; what would stop one of them stops the build now.

    Raises:
        FlowError: the part is not known, or a tool is missing or cannot take the target.
    """
    functions(asked).check_part(asked.part)
    later = tools(options.until, asked)
    for tool in later.values():
        tool.check(asked)
    return later


# -- graph and project


def settle_target(asked: Target, lowered: IntGraph) -> Target:
    """Return the target with the io_type that the graph needs, where none was asked for."""
    return asked.for_windows(slides_windows(lowered))


def find_remarks(made: Extracted, lowered: IntGraph, target: Target) -> list[str]:
    """Return what the preflight warns of and the graph does not.

    Raises:
        UnsupportedError, PreflightError: it found errors.
    """
    trained = made.source.trained if made.quantization is None else None
    found = examine(Design(trained=trained, extracted=made.graph, lowered=lowered, target=target))
    refuse(lowered.name, [finding.refusal for finding in found if finding.severity == ERROR])
    return [f"{finding.rule}: {finding}" for finding in found if str(finding) not in lowered.warnings]


def make_run(
    model: str | Path, made: Extracted, lowered: IntGraph, target: Target, options: BuildOptions
) -> RunDirectory:
    """Return the run directory of a graph and a target, with model and graph in it."""
    versions = {"po2flow": version("po2flow"), **_generator(target)}
    key = digest(lowered.digest(), target.to_json(), versions)
    run = RunDirectory(options.output / lowered.name / target.backend / key[:12])
    again = commands(model, target, options, trained_here=made.source.dataset is not None)
    facts = {
        "schema": 1,
        "model": made.source.trained.name,
        "float_model": made.quantization is not None,
        "software": made.source.level,
        "target": target.to_json(),
        "versions": versions,
    }
    run.describe({"stages": {}, **run.manifest(), **facts, "commands": list(again)})
    run.write_json(GRAPH, to_json(lowered))
    run.record(GRAPH)
    store_model(run, made.source, made.graph)
    return run


def _generator(target: Target) -> dict[str, str]:
    """Return name and version of the package that a back end generates with.

    Raises:
        ToolMissingError: it is not installed.
    """
    backend = find_backend(target.backend)
    try:
        return {backend.generator: version(backend.generator)}
    except PackageNotFoundError as error:
        raise ToolMissingError(
            f"back end {target.backend} needs {backend.generator}", remedy=f"run: pip install {backend.install}"
        ) from error


def project_on_disk(site: Site) -> str:
    """Return the digest of the project that lies in a run directory; empty if none does."""
    return read(site.project, site.graph.name).digest() if site.project.is_dir() else ""


def emit_project(site: Site) -> Project:
    """Write the project of a graph."""
    project = functions(site.target).emit(site.graph, site.target)
    write(project, site.project)
    return project


def project_as_written(site: Site) -> Project:
    """Return the project that an earlier build wrote."""
    return read(site.project, site.graph.name)


# -- inputs


def port_inputs(made: Extracted, lowered: IntGraph) -> PortInputs:
    """Return the samples on the grid of the ports."""
    return to_port(made.samples, lowered) if made.samples is not None else no_inputs(lowered)


def inputs_key(lowered: IntGraph, port: PortInputs, options: BuildOptions) -> str:
    """Return what the inputs of a run are made of."""
    return inputs_digest(lowered, port, options.adversarial)


def make_inputs(run: RunDirectory, lowered: IntGraph, port: PortInputs, options: BuildOptions) -> Inputs:
    """Write the inputs of a run, with adversarial ones, and return them."""
    store_inputs(run, lowered, port, options.adversarial)
    return read_inputs(run)


def all_codes(inputs: Inputs) -> Codes:
    """Return all input codes, the adversarial ones last."""
    return np.concatenate([inputs[0].codes, inputs[1]])


# -- levels, checks and their comparison


def not_simulated(target: Target) -> str:
    """Return why the project is not simulated; empty if it is."""
    return functions(target).not_simulated(target)


def run_reference(site: Site, codes: Codes) -> SimResult:
    """Return what the graph means."""
    return open_level(site, REFERENCE)(codes)


def software_key(made: Extracted, inputs_key: str) -> str:
    """Return what the results of software inference are made of."""
    return digest(made.source.trained.digest(), inputs_key)


def run_software(
    run: RunDirectory, site: Site, made: Extracted, codes: Codes, clock: Clock
) -> SimResult | ToolMissingError:
    """Return inference of the model by its own framework, or why there is none."""
    with clock.stage(made.source.level):
        try:
            result = open_level(site, made.source.level)(codes)
        except ToolMissingError as error:
            return error
    store_software(run, result)
    return result


def run_simulation(site: Site, codes: Codes, clock: Clock, not_simulated: str) -> SimResult | None:
    """Return what the project computes; None if it is not simulated."""
    return None if not_simulated else _run_level(site.target.simulation, site, codes, clock)


def _run_level(name: str, site: Site, codes: Codes, clock: Clock) -> SimResult:
    simulates = name in SIMULATIONS
    with clock.stage(f"{name}_compile" if simulates else name):
        level = open_level(site, name)
    with clock.stage(f"{name}_run" if simulates else name):
        return level(codes)


def run_checks(site: Site, codes: Codes, clock: Clock) -> Shown:
    """Return what the back end's own checks show of the project."""
    shown = Shown()
    for name, check in functions(site.target).checks(site.target).items():
        with clock.stage(name):
            more = check(site, codes, clock.announce)
        shown = shown.joined(more)
    return shown


def levels_of_build(
    reference: SimResult, software: SimResult | ToolMissingError | None, simulation: SimResult | None
) -> tuple[SimResult, ...]:
    """Return the levels that were run, the one that the others are held against first."""
    return (reference, *(level for level in (software, simulation) if isinstance(level, SimResult)))


def compare_levels(site: Site, levels: tuple[SimResult, ...], shown: Shown, all_inputs: bool) -> Divergence | None:
    """Return where the levels first part, once everything was run; the counterexample replaces that of a run before."""
    if all_inputs:
        (site.path / COUNTEREXAMPLE).unlink(missing_ok=True)
    return find_divergence(site, levels[0], levels[1:])


def make_comparison(
    inputs: Inputs,
    levels: tuple[SimResult, ...],
    shown: Shown,
    divergence: Divergence | None,
    not_simulated: str,
) -> Comparison:
    """Return all that was compared."""
    return Comparison(
        port=inputs[0],
        adversarial=len(inputs[1]),
        reference=levels[0],
        others=levels[1:],
        divergence=divergence,
        differences=shown.differences,
        not_simulated=not_simulated,
        proofs=shown.proofs,
    )


# -- figures and report


def estimate_resources(site: Site) -> ResourceReport | str:
    """Return the static estimate, or why there is none."""
    try:
        return functions(site.target).estimate_project(site)
    except UnsupportedError as error:
        return f"no estimate of resources: {error}"


def measure_simulation(
    site: Site, inputs: Inputs, simulation: SimResult | None, clock: Clock
) -> tuple[ResourceReport, EnergyReport] | None:
    """Return what a simulation without pauses measures, where the back end measures something."""
    measure = functions(site.target).measure
    if measure is None or simulation is None:
        return None
    with clock.stage("measure"):
        return measure(site, inputs[0].codes, simulation)


def assemble_report(
    run: RunDirectory,
    made: Extracted,
    site: Site,
    remarks: Sequence[str],
    comparison: Comparison,
    software: SimResult | ToolMissingError | None,
    shown: Shown,
    estimated: ResourceReport | str,
    measured: tuple[ResourceReport, EnergyReport] | None,
    clock: Clock,
) -> Report:
    """Return the report of a build that ran its levels."""
    notes = list(remarks)
    if isinstance(software, ToolMissingError):
        notes.append(f"software inference was not compared: {software}")
    if comparison.not_simulated:
        notes.append(f"not simulated: {comparison.not_simulated}")
    if shown.note and not shown.differences:
        notes.append(shown.note)
    report = _assembled(run, made, site, notes, comparison, estimated, clock)
    return report if measured is None else report.with_resources(measured[0]).with_energy(measured[1])


def stopped_report(
    run: RunDirectory,
    made: Extracted,
    site: Site,
    remarks: Sequence[str],
    estimated: ResourceReport | str,
    options: BuildOptions,
    clock: Clock,
) -> Report:
    """Return and write the report of a build that was asked to stop before simulation."""
    notes = [*remarks, "stopped before simulation: nothing was compared"]
    report = _assembled(run, made, site, notes, None, estimated, clock)
    write_report(run, report)
    run.mark_done("report", f"until {options.until}", REPORT)
    return report


def _assembled(
    run: RunDirectory,
    made: Extracted,
    site: Site,
    notes: list[str],
    comparison: Comparison | None,
    estimated: ResourceReport | str,
    clock: Clock,
) -> Report:
    manifest = run.manifest()
    return assemble(
        trained=made.source.trained,
        graph=site.graph,
        target=site.target,
        run_dir=run.path,
        project_digest=manifest["stages"].get("emit"),
        comparison=comparison,
        quantization=made.quantization,
        resources=[estimated] if isinstance(estimated, ResourceReport) else [],
        energy=[static_energy(site.graph)],
        notes=notes if isinstance(estimated, ResourceReport) else [*notes, estimated],
        commands=manifest["commands"],
        versions=manifest["versions"],
        timings_s=clock.seconds,
    )


def report_key(made: Extracted, project: Project, inputs_key: str) -> str:
    """Return what the report of a whole build is made of."""
    trained = made.source.trained
    made_of: tuple[Any, ...] = (trained.digest(), dict(trained.metrics), dict(trained.provenance))
    if made.quantization is not None:
        made_of += (made.quantization.document, made.quantization.accuracy)
    return digest(project.digest(), inputs_key, made_of)


def write_report(run: RunDirectory, assembled: Report) -> Report:
    """Write a report into its run directory, as JSON, Markdown and a page."""
    run.write_text("report.md", to_markdown(assembled))
    run.write_text(PAGE, render(assembled))
    run.write_json(REPORT, assembled.to_json())
    return assembled


def key_of_written(report: Report, key: str) -> str:
    """Return the key of a report; without software inference another one, for its tool may be there next time."""
    compared = report.document["verdict"]["compared"]
    software = set(compared) - SIMULATIONS - {REFERENCE}
    return key if software or report.document["quantization"] else f"compared {compared}"


def written_report(run: RunDirectory) -> Report:
    """Return the report that an earlier build wrote, with its page as this version draws it."""
    report = Report.load(run.path)
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
            run.mark_done("report", report_key, REPORT)
    return report


# -- a comparison of a run as it lies on disk


def levels_to_compare(site: Site, asked_levels: tuple[str, str] | None) -> tuple[str, str]:
    """Return the two levels that are asked for: the reference and the simulation if none are.

    Raises:
        SpecError: they are not two that the run has.
        InputError: one of them cannot be run.
    """
    simulation, known = site.target.simulation, known_levels(site)
    first, second = asked_levels or (REFERENCE, simulation)
    if first == second or not {first, second} <= set(known):
        raise SpecError(f"levels '{first}' and '{second}' are not two of {', '.join(known)}")
    reason = functions(site.target).not_simulated(site.target)
    if reason and asked_levels and simulation in asked_levels:
        raise InputError(f"{site.path}: {simulation}: not simulated: {reason}")
    return first, second


def inputs_to_compare(run: RunDirectory, lowered: IntGraph, asked_inputs: Path | None) -> Inputs:
    """Return the inputs of a run, or those of a file."""
    own = stored_inputs(run)
    return own if asked_inputs is None else (read_counterexample(asked_inputs, lowered), own[1][:0])


def run_two_levels(
    site: Site, codes: Codes, level_names: tuple[str, str], not_simulated: str, clock: Clock
) -> tuple[SimResult, ...]:
    """Return both levels; the first alone if the second is a simulation that cannot be run."""
    names = level_names[:1] if not_simulated and level_names[1] in SIMULATIONS else level_names
    return tuple(_run_level(name, site, codes, clock) for name in names)


def check_project(
    site: Site, levels: tuple[SimResult, ...], level_names: tuple[str, str], codes: Codes, clock: Clock
) -> Shown:
    """Return what the project's files say otherwise than the graph, and what the back end's own checks show of it."""
    if site.target.simulation not in level_names:
        return Shown()
    with clock.stage("readback"):
        project = read(site.project, site.graph.name)
        files = Shown(differences=functions(site.target).differences(project, site.graph, site.target))
    return files.joined(run_checks(site, codes, clock))


def recompare(stored: Report, lowered: IntGraph, comparison: Comparison, clock: Clock) -> Report:
    """Return the stored report with what this comparison found."""
    return recompared(stored, lowered, comparison, clock.seconds)


# -- the lists

COMPARED = (
    Stage(makes="codes", run=all_codes),
    Stage(makes="not_simulated", run=not_simulated),
    Stage(makes="divergence", run=compare_levels, name="compare"),
    Stage(makes="comparison", run=make_comparison),
)
BUILT = (
    Stage(makes="later", run=later_tools),
    Stage(makes="lowered", run=lambda made: lower(made.graph)),
    Stage(makes="target", run=settle_target),
    Stage(makes="remarks", run=find_remarks),
    Stage(makes="run", run=make_run),
    Stage(makes="site", run=lambda run, lowered, target: Site(run.path, lowered, target)),
    Stage(makes="project_on_disk", run=project_on_disk),
    Stage(
        makes="project",
        run=emit_project,
        name="emit",
        key="project_on_disk",
        load=project_as_written,
        recorded=lambda project, key: project.digest(),
    ),
    Stage(makes="port", run=port_inputs),
    Stage(makes="inputs_key", run=inputs_key),
    Stage(makes="inputs", run=make_inputs, name="inputs", key="inputs_key", files=(INPUTS,), load=read_inputs),
    Stage(makes="all_inputs", run=lambda: True),
    Stage(makes="reference", run=run_reference, name="reference"),
    Stage(makes="simulation", run=run_simulation),
    Stage(makes="levels", run=levels_of_build),
    Stage(makes="shown", run=run_checks),
    *COMPARED,
    Stage(makes="estimated", run=estimate_resources, name="estimate"),
    Stage(makes="measured", run=measure_simulation),
    Stage(makes="assembled", run=assemble_report),
    Stage(makes="report_key", run=report_key),
    Stage(
        makes="report",
        run=write_report,
        name="report",
        announced=False,
        key="report_key",
        files=(REPORT,),
        load=written_report,
        recorded=key_of_written,
    ),
    Stage(makes="stopped_report", run=stopped_report),
    Stage(makes="report_of_tools", run=run_tools),
)
BUILD = (
    Stage(makes="made", run=extract_model, name="extract"),
    Stage(makes="software_key", run=software_key),
    Stage(
        makes="software",
        run=run_software,
        name="software",
        announced=False,
        key="software_key",
        files=(SOFTWARE,),
        load=lambda run, made: stored_software(run, made.source.level),
        recorded=lambda result, key: key if isinstance(result, SimResult) else None,
    ),
    *BUILT,
)
QUANTIZE = (
    Stage(makes="made", run=quantize_model, name="quantize"),
    Stage(makes="software", run=lambda: None),  # of a float model: there is no integer software to compare with
    *BUILT,
)
COMPARE = (
    Stage(makes="stored_graph", run=stored_graph),
    Stage(makes="lowered", run=lambda stored_graph: stored_graph[0]),
    Stage(makes="target", run=lambda stored_graph: stored_graph[1]),
    Stage(makes="level_names", run=levels_to_compare),
    Stage(makes="inputs", run=inputs_to_compare),
    Stage(makes="all_inputs", run=lambda asked_inputs: asked_inputs is None),
    Stage(makes="site", run=lambda run, lowered, target: Site(run.path, lowered, target)),
    Stage(makes="levels", run=run_two_levels),
    Stage(makes="shown", run=check_project),
    *COMPARED,
    Stage(makes="recompared", run=recompare),
)
WANTED: Mapping[str, tuple[str, ...]] = {
    "extract": ("later", "run", "stopped_report"),
    "emit": ("later", "remarks", "project", "stopped_report"),
    "report": ("later", "remarks", "project", "inputs", "report"),
    **dict.fromkeys(TOOLS, ("later", "remarks", "project", "inputs", "report", "report_of_tools")),
}
"""What is made, in order, for each stage that a build may stop after; its report is the last."""
