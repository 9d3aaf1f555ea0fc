"""The stages of a build and of a comparison, as two lists: reading them is reading what is done.

Each row makes the value of its name from the values that its function's parameters name; `flow.pipeline.plan` runs
them. What a build is given: `model`, `asked` (a Target), `options`, `announce`, `held`. What a comparison is
given: `run`, `stored` (the report of the build), `asked_levels`, `asked_inputs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from flow.backends.base import find_backend
from flow.backends.functions import TOOLS, Design, Shown, Site, Tool, emit, functions, lowered_for, settled, tools
from flow.commands import commands
from flow.data.inputs import no_inputs, to_port
from flow.errors import EmitError, InputError, SpecError, ToolFailedError, ToolMissingError
from flow.findings import ERROR, refuse
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, to_json
from flow.pipeline.models import Extracted, extract_model, quantize_model
from flow.pipeline.options import BuildOptions
from flow.pipeline.plan import Clock, Stage
from flow.pipeline.reporting import (
    REPORT,
    assemble_report,
    estimate_resources,
    keep_comparison,
    key_of_written,
    measure_simulation,
    report_key,
    run_tools,
    write_report,
    write_stopped_report,
    written_report,
)
from flow.project import Change, Project, write
from flow.report.assemble import recompared
from flow.report.record import Comparison
from flow.report.scores import distances
from flow.results import SimResult
from flow.runs import RunDirectory, digest
from flow.target import Target
from flow.verification.levels import (
    GRAPH,
    INPUTS,
    REFERENCE,
    SIMULATIONS,
    SOFTWARE,
    Inputs,
    codes_digest,
    find_divergence,
    inputs_digest,
    keep_counterexample,
    known_levels,
    open_level,
    project_changes,
    read_counterexample,
    store_inputs,
    store_model,
    store_software,
    stored_graph,
    stored_inputs,
    stored_software,
)
from flow.verification.preflight import examine

# -- before the long work


def later_tools(asked: Target, options: BuildOptions) -> Mapping[str, Tool]:
    """Return the tools that are asked for; what would stop one of them stops the build now.

    Raises:
        FlowError: the part is not known, or a tool is missing or cannot take the target.
    """
    functions(asked).check_part(asked)
    later = tools(options.until, asked)
    for tool in later.values():
        tool.check(asked)
    return later


# -- graph and project


def find_remarks(made: Extracted, lowered: IntGraph, asked: Target, target: Target) -> list[str]:
    """Return what the preflight warns of and the graph does not, and reuse factors other than the one asked for.

    Raises:
        UnsupportedError, PreflightError: it found errors.
    """
    exact = made.quantization is None and not made.approximated
    trained = made.source.trained if exact else None
    found = examine(Design(trained=trained, extracted=made.graph, lowered=lowered, target=target))
    refuse(lowered.name, [finding.refusal for finding in found if finding.severity == ERROR])
    warned = [f"{finding.rule}: {finding}" for finding in found if str(finding) not in lowered.warnings]
    settled_here = target.reuse_factors[len(asked.reuse_factors) :]
    nearest = f"the legal one nearest to {asked.reuse_factor}"
    return [*(f"op '{op}' has reuse factor {factor}, {nearest}" for op, factor in settled_here), *warned]


def make_run(
    model: str | Path, made: Extracted, lowered: IntGraph, target: Target, options: BuildOptions, held: ExitStack
) -> RunDirectory:
    """Return the run directory of a graph and a target, with model and graph in it, and hold it until `held` ends."""
    versions = {"po2flow": version("po2flow"), **_generator(target)}
    key = digest(lowered.digest(), target.to_json(), versions)
    run = RunDirectory(options.output / lowered.name / target.backend / key[:12])
    held.enter_context(run.held())
    again = commands(model, target, options, trained_here=made.source.has_spec)
    facts = {
        "schema": 1,
        "model": made.source.trained.name,
        "float_model": made.quantization is not None or bool(made.approximated),
        "software": made.source.level,
        "target": target.to_json(),
        "versions": versions,
    }
    run.describe({"stages": {}, **run.manifest(), **facts, "commands": list(again)})
    run.write_json(GRAPH, to_json(lowered))
    run.mark_done("graph", lowered.digest(), GRAPH)
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


def project_on_disk(run: RunDirectory) -> str:
    """Return the digest of the project in a run directory, if it lies there as it was written; else nothing."""
    manifest = run.manifest()
    intact = "project" in manifest and not project_changes(run)
    return str(manifest["stages"].get("emit", "")) if intact else ""


def emit_project(run: RunDirectory, site: Site) -> Project:
    """Write the project of a graph."""
    project = emit(site.graph, site.target)
    write(project, site.project)
    run.describe({"project": project.digests()})
    return project


# -- levels, checks and their comparison


def run_software(
    run: RunDirectory, site: Site, made: Extracted, codes: Codes, clock: Clock
) -> SimResult | ToolMissingError | None:
    """Return inference of the model by its own framework, or why there is none.

    It does not compute the same where something was rounded on request: see `measure_distance`.
    """
    if made.approximated:
        return None
    with clock.stage(made.source.level):
        try:
            result = open_level(site, made.source.level)(codes)
        except ToolMissingError as error:
            return error
    store_software(run, result)
    return result


def measure_distance(
    made: Extracted, site: Site, inputs: Inputs, codes: Codes, reference: SimResult, options: BuildOptions, clock: Clock
) -> dict[str, Any] | None:
    """Return how far outputs are from the model's own where something was rounded on request; None where nothing was.

    Over the samples of the run, or over its adversarial inputs if it has none.
    """
    if not made.approximated:
        return None
    count = len(inputs[0].codes) or len(codes)
    with clock.stage(made.source.level):
        try:
            own = made.source.outputs(site.graph, codes[:count])
        except ToolMissingError:
            own = None
    return {
        "layers": list(made.approximated),
        "float_layers": options.float_layers,
        "batchnorm_bits": options.batchnorm_bits,
        "software": made.source.level,
        "samples": count,
        "outputs": [] if own is None else distances(site.graph, reference, own),
    }


def run_simulation(site: Site, codes: Codes, clock: Clock, not_simulated: str) -> SimResult | None:
    """Return what the project computes; None if it is not simulated."""
    return None if not_simulated else _run_level(site.target.simulation, site, codes, clock)


def _run_level(name: str, site: Site, codes: Codes, clock: Clock) -> SimResult:
    if name not in SIMULATIONS:
        with clock.stage(name):
            return open_level(site, name)(codes)
    with clock.stage(f"{name}_compile"):
        level = open_level(site, name)
    with clock.stage(f"{name}_run"):
        return level(codes)


def run_checks(site: Site, levels: tuple[SimResult, ...], codes: Codes, clock: Clock) -> Shown:
    """Return what the back end's own checks show of the project; in a build they come behind its `levels`."""
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


def compare_levels(
    site: Site,
    shown: Shown,
    levels: tuple[SimResult, ...],
    inputs: Inputs,
    codes: Codes,
    changes: tuple[Change, ...],
    not_simulated: str,
    all_inputs: bool,
) -> Comparison:
    """Return where the levels part, and what else was found; the counterexample replaces that of a run before."""
    divergence = find_divergence(site, levels[0], levels[1:])
    return Comparison(
        port=inputs[0],
        adversarial=len(inputs[1]),
        reference=levels[0],
        others=levels[1:],
        divergence=divergence,
        note=keep_counterexample(site, divergence, settled=all_inputs),
        inputs_digest=codes_digest(codes),
        changes=changes,
        differences=shown.differences,
        not_simulated=not_simulated,
        proofs=shown.proofs,
    )


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
        raise InputError(f"not simulated: {reason}", file=site.path, field=simulation)
    return first, second


def inputs_to_compare(run: RunDirectory, lowered: IntGraph, asked_inputs: Path | None) -> Inputs:
    """Return the inputs of a run, or those of a file."""
    if asked_inputs is None:
        return stored_inputs(run)
    return read_counterexample(asked_inputs, lowered), np.zeros((0, *lowered.port_shape), np.int64)


def run_two_levels(
    site: Site,
    codes: Codes,
    level_names: tuple[str, str],
    changes: tuple[Change, ...],
    not_simulated: str,
    clock: Clock,
) -> tuple[tuple[SimResult, ...], Shown]:
    """Return both levels, without a simulation that cannot be run, and why a changed project fails in one."""
    levels, shown = [], Shown()
    for name in level_names:
        if name not in SIMULATIONS:
            levels.append(_run_level(name, site, codes, clock))
        elif not not_simulated:
            with broken(changes) as failed:
                levels.append(_run_level(name, site, codes, clock))
            shown = shown.joined(Shown(differences=tuple(f"{name} cannot be run: {why}" for why in failed)))
    return tuple(levels), shown


def check_project(
    site: Site, level_names: tuple[str, str], codes: Codes, changes: tuple[Change, ...], clock: Clock
) -> Shown:
    """Return what the project's files say otherwise than the graph, and what the back end's own checks show of it."""
    if site.target.simulation not in level_names:
        return Shown()
    with clock.stage("readback"):
        shown = Shown(differences=functions(site.target).differences(site.read(), site.graph, site.target))
    with broken(changes) as failed:
        shown = shown.joined(run_checks(site, (), codes, clock))
    return shown.joined(Shown(differences=tuple(f"cannot be checked: {why}" for why in failed)))


@contextmanager
def broken(changes: tuple[Change, ...]) -> Iterator[list[str]]:
    """Collect why a project that was changed fails, in a tool or by itself: then that is a finding, else an error."""
    failed: list[str] = []
    try:
        yield failed
    except (EmitError, ToolFailedError) as error:
        if not changes:
            raise
        first, *lines = error.what.splitlines()
        failed.append(" ".join([first, *[line.strip() for line in lines if "error" in line.lower()][:1]]))


# -- the lists

COMPARED = (
    Stage(makes="codes", run=lambda inputs: np.concatenate([inputs[0].codes, inputs[1]])),
    Stage(makes="changes", run=lambda run: tuple(project_changes(run))),
    Stage(makes="not_simulated", run=lambda target: functions(target).not_simulated(target)),
    Stage(makes="comparison", run=compare_levels, name="compare"),
)
BUILT = (
    Stage(makes="later", run=later_tools),
    Stage(makes="lowered", run=lambda made, asked: lowered_for(made.graph, asked)),
    Stage(makes="target", run=lambda asked, lowered: settled(asked, lowered)),
    Stage(makes="remarks", run=find_remarks),
    Stage(makes="run", run=make_run),
    Stage(makes="site", run=lambda run, lowered, target: Site(run.path, lowered, target)),
    Stage(makes="project_on_disk", run=project_on_disk),
    Stage(
        makes="project",
        run=emit_project,
        name="emit",
        key="project_on_disk",
        load=lambda site: site.read(),
        recorded=lambda project, key: project.digest(),
    ),
    Stage(
        makes="port",
        run=lambda made, lowered: (
            no_inputs(lowered) if made.samples is None else to_port(made.samples, lowered, made.labels)
        ),
    ),
    Stage(makes="inputs_key", run=lambda lowered, port, options: inputs_digest(lowered, port, options.adversarial)),
    Stage(
        makes="inputs",
        run=lambda run, lowered, port, options: store_inputs(run, lowered, port, options.adversarial),
        name="inputs",
        key="inputs_key",
        files=(INPUTS,),
        load=stored_inputs,
    ),
    Stage(makes="all_inputs", run=lambda: True),
    Stage(makes="reference", run=lambda site, codes: open_level(site, REFERENCE)(codes), name="reference"),
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
    Stage(makes="stopped_report", run=write_stopped_report),
    Stage(makes="report_of_tools", run=run_tools),
)
BUILD = (
    Stage(makes="made", run=extract_model, name="extract"),
    Stage(makes="software_key", run=lambda made, inputs_key: digest(made.source.trained.digest(), inputs_key)),
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
    Stage(makes="distance", run=measure_distance),
    *BUILT,
)
QUANTIZE = (
    Stage(makes="made", run=quantize_model, name="quantize"),
    Stage(makes="software", run=lambda: None),  # of a float model: there is no integer software to compare with
    Stage(makes="distance", run=lambda: None),
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
    Stage(makes="checked", run=check_project),
    Stage(makes="ran", run=run_two_levels),
    Stage(makes="levels", run=lambda ran: ran[0]),
    Stage(makes="shown", run=lambda checked, ran: checked.joined(ran[1])),
    *COMPARED,
    Stage(
        makes="recompared",
        run=lambda stored, lowered, comparison, clock: recompared(stored, lowered, comparison, clock.seconds),
    ),
    Stage(makes="kept", run=keep_comparison),
)
WANTED: Mapping[str, tuple[str, ...]] = {
    "extract": ("later", "run", "stopped_report"),
    "emit": ("later", "remarks", "project", "stopped_report"),
    "report": ("later", "remarks", "project", "inputs", "report"),
    **dict.fromkeys(TOOLS, ("later", "remarks", "project", "inputs", "report", "report_of_tools")),
}
"""What is made, in order, for each stage that a build may stop after; its report is the last."""
STOPPED: Mapping[str, Mapping[str, Any]] = {
    "emit": {"comparison": None, "software": None, "distance": None, "shown": Shown(), "measured": ()},
    "extract": {
        **{"comparison": None, "software": None, "distance": None, "shown": Shown(), "measured": ()},
        "remarks": (),
    },
}
"""What a build that stops before simulation has instead of it; a graph alone is not held against a target either."""
