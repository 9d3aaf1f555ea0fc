"""What users call: build, quantize, check and compare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flow.backends.functions import functions
from flow.data.session import Data
from flow.errors import InputError, OutputError, SpecError
from flow.files import temporary, writing
from flow.findings import Finding
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.pipeline.live import Model, as_files, saved
from flow.pipeline.models import extract_model, model_to_check
from flow.pipeline.options import BuildOptions, QuantizeOptions
from flow.pipeline.plan import Plan
from flow.pipeline.reporting import PAGE, REPORT, read_report, write_report
from flow.pipeline.stages import BUILD, COMPARE, QUANTIZE, STOPPED, WANTED
from flow.progress import Announce, progress
from flow.report.page import compare as side_by_side
from flow.report.page import render
from flow.report.record import Report
from flow.report.since import with_changes
from flow.results import ResourceReport
from flow.runs import RunDirectory, open_run, outside_runs
from flow.target import Target
from flow.verification.levels import project_changes, tools_note
from flow.verification.preflight import check as preflight


def quantize(
    model: Model,
    target: Target | None = None,
    options: QuantizeOptions | None = None,
    announce: Announce | None = None,
    *,
    calibration: Data = None,
    x: Data = None,
    y: Data = None,
) -> Report:
    """Quantize a float model and build it: restructure, search, then emit, simulate, compare, estimate, report.

    Args:
        model: a name in `models/` (a float model, or the float twin of a quantized one), a spec file, or a Keras model:
            a file, or an object of Keras 2 or 3.
        target, announce, x, y: as of `build`.
        options: calibration samples, settings, inputs and stages.
        calibration: samples to calibrate with, as `x`, if `options` name no file of them.

    Returns:
        The report, as `build` gives it; `quantization` says what was chosen.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    options = options or QuantizeOptions()
    outside_runs(options.output)
    with as_files(model, options, x=x, y=y, calibration=calibration) as (path, kept):
        return _build(path, target or Target(), kept, announce)


def build(
    model: Model,
    target: Target | None = None,
    options: BuildOptions | None = None,
    announce: Announce | None = None,
    *,
    x: Data = None,
    y: Data = None,
) -> Report:
    """Build a model: extract, emit, simulate, compare, estimate, report.

    Args:
        model: a name in `models/`, a spec file, the directory of a trained model, or a Keras model: a file (`.h5`,
            `.keras`, SavedModel, `.json` with weights) or an object of tf-keras, compiled or not.
        target: hardware settings.
        options: inputs and stages; `QuantizeOptions` for a float model.
        announce: called with what is done, in words; without it a bar is shown on a terminal and in a notebook.
        x: inputs to run, (samples, *shape), if `options` name no file of them: an array, a pandas frame, a batched
            `tf.data.Dataset` (its labels are `y`), or arrays by the names of the model's inputs.
        y: labels of `x`, as `--labels` takes them (docs/data.md); of several outputs by their names.

    Returns:
        The report; also in the run directory as `report.json`, `report.md` and `report.html`. A difference between
        levels is no error but its verdict.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    options = options or BuildOptions()
    outside_runs(options.output)
    with as_files(model, options, x=x, y=y) as (path, kept):
        return _build(path, target or Target(), kept, announce)


def _build(model: Path, target: Target, options: BuildOptions, announce: Announce | None) -> Report:
    with ExitStack() as held:
        announce = announce or held.enter_context(progress())
        given = {"model": model, "asked": target, "options": options, "announce": announce}
        given |= STOPPED.get(options.until, {})
        plan = Plan(QUANTIZE if isinstance(options, QuantizeOptions) else BUILD, {**given, "held": held}, announce)
        made = [plan[name] for name in WANTED[options.until]]
    report: Report = made[-1]
    return report


def check(
    model: Model, target: Target | None = None, options: BuildOptions | None = None, *, x: Data = None, y: Data = None
) -> tuple[Finding, ...]:
    """Say what would fail in a build or in the vendor's synthesis, before anything is generated.

    Args:
        model, x, y: as `build` takes them.
        target: hardware settings.
        options: inputs and formats; stages and numbers of inputs do not matter.

    Raises:
        FlowError: the model, its inputs or the part cannot be found or read.
    """
    target = target or Target()
    functions(target).check_part(target)
    with as_files(model, options or BuildOptions(), x=x, y=y) as (path, kept):
        return preflight(model_to_check(path, kept, target), target)


def load_graph(model: Path, options: BuildOptions) -> IntGraph:
    """Return the lowered graph of a model, as `flow show` prints it."""
    return lower(extract_model(model, options).graph)


def compare_run(
    path: Path | str,
    announce: Announce | None = None,
    *,
    levels: tuple[str, str] | None = None,
    inputs: Path | str | None = None,
) -> Report:
    """Run two levels of a run again, as it lies on disk now, and hold them against each other.

    Every file of the project is held against what the build wrote. Where the simulation is one of the levels, they are
    held against the graph too (types and weights, read back). Any of it makes the verdict false, and what is found
    stays in the run's own report until a build or a comparison finds it equal.

    Args:
        path: run directory.
        announce: called with what is done, in words; without it a bar is shown on a terminal and in a notebook.
        levels: two of `flow.verification.levels.LEVELS`; the reference and the simulation of its back end if None.
        inputs: `.npz` with input codes `codes`, as a counterexample is; the run's own inputs if None.

    Raises:
        SpecError: `levels` are not two of those.
        InputError: `path` is no run directory, its build stopped before simulation, or `inputs` is not of its model.
        ToolMissingError: a level needs what is not installed.
    """
    path, inputs = Path(path), None if inputs is None else Path(inputs)
    with ExitStack() as held:
        announce = announce or held.enter_context(progress())
        if path.is_dir():
            held.enter_context(RunDirectory(path).held())
        if (project := path / "project").exists() and not project.is_dir():
            raise InputError("is not a directory", file=project, remedy=RunDirectory(path).again())
        run = open_run(path)
        given = {"run": run, "stored": _as_it_lies(run), "asked_levels": levels, "asked_inputs": inputs}
        try:
            report: Report = Plan(COMPARE, given, announce)["kept"]
        except OutputError as error:
            if not run.is_read_only:
                raise
            what, remedy = (
                f"its simulation cannot be made in a run that is only read: {error.reason}",
                "compare a copy of it",
            )
            raise OutputError(what, file=path, remedy=remedy) from error
        return report.with_notes(tools_note(run))


def keep_figures(path: Path, *resources: ResourceReport) -> None:
    """Add figures of vendor reports to the reports of a run, where they stay until a build makes these again.

    Raises:
        InputError: `path` is no run directory, or its report is missing or was changed.
        OutputError: it cannot be written.
    """
    run = open_run(path)
    with run.held():
        key = run.manifest()["stages"].get("report", "")
        write_report(run, read_report(run).with_resources(*resources))
        run.mark_done("report", key, REPORT)


def load_report(path: Path | str) -> Report:
    """Return the report of a run directory; its verdict is false if the project is no longer as the build wrote it.

    Raises:
        InputError: it is none, or its report is missing or was changed.
    """
    run = open_run(Path(path))
    return _as_it_lies(run).with_notes(tools_note(run))


def _as_it_lies(run: RunDirectory) -> Report:
    return with_changes(read_report(run), project_changes(run))


def write_page(path: Path, report: Report) -> None:
    """Write the page of a run into its directory.

    Raises:
        OutputError: it cannot be written.
    """
    RunDirectory(path).write_text(PAGE, render(report))


def check_qkeras(path: Path | None) -> None:
    """Refuse a place for a QKeras model before the long work.

    Raises:
        SpecError: its name does not end in `.h5`.
        OutputError: it lies in a run directory.
    """
    if path is not None:
        outside_runs(path)
        if path.suffix != ".h5":
            raise SpecError(f"{path} does not end in .h5", field="--qkeras", remedy="QKeras models are kept in HDF5")


def write_qkeras(path: Path, report: Report) -> None:
    """Write the QKeras model of a quantized float model, to be trained on.

    Raises:
        UnsupportedError: as of `Report.qkeras_model`.
        OutputError: it cannot be written.
    """
    model = report.qkeras_model()
    with temporary() as scratch, writing(path) as file:
        file.write(saved(model, scratch / path.name))


def write_comparison(reports: Sequence[Report], path: Path) -> None:
    """Write a page with several runs side by side.

    Raises:
        OutputError: it lies in a run directory, or cannot be written.
    """
    outside_runs(path)
    with writing(path) as file:
        file.write(side_by_side(reports).encode())
