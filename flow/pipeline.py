"""The driver: from a model to a verified project and its report, stage by stage, resumable.

extract|quantize -> emit -> inputs -> reference -> qkeras -> csim_compile -> csim_run -> compare -> estimate -> report
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.backends.hls4ml.dialects import not_simulated
from flow.backends.rtl.synthesis.synth import dsp_note
from flow.backends.synthesis import STAGES, stages
from flow.commands import commands
from flow.cost.energy import static_energy
from flow.cost.estimation import estimate
from flow.data.inputs import Samples, derive_format, no_inputs, parse_format, to_port
from flow.errors import DataError, InputError, SpecError, ToolMissingError, UnsupportedError
from flow.frontend.extraction import Evaluate, extract, quantizes_its_input, refusals
from flow.ir import reference
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import IntGraph, from_json, slides_windows, to_json
from flow.ir.passes import lower
from flow.parts import find_device, find_part
from flow.project import Project, read, write
from flow.quantization.settings import QuantSettings
from flow.quantization.stage import Quantization, quantize_stage
from flow.report.assemble import assemble, recompared
from flow.report.page import compare as side_by_side
from flow.report.page import render
from flow.report.record import Comparison, Report
from flow.report.text import to_markdown
from flow.results import ResourceReport, Resources, SimResult
from flow.runs import RunDirectory, digest, open_run, read_npz, write_npz, writing
from flow.sources import Source, find_calibration, find_float, find_samples, find_source
from flow.target import AMD_BACKENDS, RTL, SIMULATIONS, Target
from flow.verification.levels import (
    COUNTEREXAMPLE,
    LEVELS,
    Bench,
    Clock,
    find_divergence,
    prove_ops,
    qkeras_level,
    read_inputs,
    runs_streams,
    store_inputs,
    store_model,
    stored_inputs,
    stream_differences,
)
from flow.verification.preflight import ERROR, Design, Finding, Model, examine, quantizes, refuse
from flow.verification.preflight import check as preflight

GRAPH, REPORT, PAGE = "graph.json", "report.json", "report.html"
UNTIL = ("extract", "emit", "report", *STAGES)
STREAMS_RAN = "the streams ran side by side, FIFOs as deep as in the project: no deadlock, outputs equal"
Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a build does besides its target.

    Attributes:
        weights: weights file for a model given as `.json`.
        inputs, labels: `.npy` files; without them a named model's test set, or the inputs kept with it, is used.
        input_format: port format for models that do not quantize their input, like "ufixed<8,0>".
        softmax: format of the outputs of a final softmax, like "ufixed<8,0>", or "off" to leave it off the hardware.
        samples: at most this many inputs are run.
        adversarial: how many adversarial inputs are run besides, at least 16.
        until: stage after which to stop: one of `UNTIL`.
        output: directory that holds all runs.

    Raises:
        SpecError: a value is not one of those.
    """

    weights: Path | None = None
    inputs: Path | None = None
    labels: Path | None = None
    input_format: str | None = None
    softmax: str = "off"
    samples: int = 2000
    adversarial: int = 2048
    until: str = "report"
    output: Path = Path("hls_projects")

    def __post_init__(self) -> None:
        if self.until not in UNTIL:
            raise SpecError(f"until: {self.until!r} is not a stage; use one of {', '.join(UNTIL)}")
        if self.samples < 1:
            raise SpecError(f"samples: {self.samples} is below 1")
        if self.adversarial < 16:
            raise SpecError(f"adversarial: {self.adversarial} is below 16")
        if self.labels is not None and self.inputs is None:
            raise SpecError("labels were given without inputs; give both")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions(BuildOptions):
    """What the build of a float model does besides its target.

    Attributes:
        calibration: `.npy` of samples to calibrate with; without it the training samples kept with a named model.
        settings: how it is quantized.
        spec: the TOML file that the settings of single layers come from; only named in the report.
    """

    calibration: Path | None = None
    settings: QuantSettings = field(default_factory=QuantSettings)
    spec: Path | None = None


def quantize(
    model: str | Path,
    target: Target | None = None,
    options: QuantizeOptions | None = None,
    announce: Announce = lambda stage: None,
) -> Report:
    """Quantize a float model and build it: restructure, search, then emit, simulate, compare, estimate, report.

    Args:
        model: a name in `models/` (a float model, or the float twin of a quantized one), a spec file, or a Keras model.
        target, announce: as of `build`.
        options: calibration samples, settings, inputs and stages.

    Returns:
        The report, as `build` gives it; `quantization` says what was chosen.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    return build(model, target, options or QuantizeOptions(), announce)


def build(
    model: str | Path,
    target: Target | None = None,
    options: BuildOptions | None = None,
    announce: Announce = lambda stage: None,
) -> Report:
    """Build a model: extract, emit, simulate, compare, estimate, report.

    Args:
        model: a name in `models/`, a spec file, or a Keras model (`.h5`, `.keras`, SavedModel, `.json` with weights).
        target: hardware settings.
        options: inputs and stages; `QuantizeOptions` for a float model.
        announce: called with the name of each stage as it begins.

    Returns:
        The report; also in the run directory as `report.json`, `report.md` and `report.html`. A difference between
        levels is no error but its verdict.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    target, options = target or Target(), options or BuildOptions()
    _check_part(target)
    tools = stages(options.until, target)
    for tool in tools.values():
        tool.check(target)  # before the long work, not after it
    clock = Clock(announce)
    with clock.stage("quantize" if isinstance(options, QuantizeOptions) else "extract"):
        if isinstance(options, QuantizeOptions):
            found = _quantize(Path(model), target, options, announce)
        else:
            found = _extract(Path(model), options)
        source, samples, extracted = found.source, found.samples, found.graph
        lowered = lower(extracted)
        target = target.for_windows(slides_windows(lowered))
        remarks = [] if options.until == "extract" else _preflight(found, lowered, target)
        run = _open(model, found, lowered, target, options)
        store_model(run, source, extracted)
    if options.until != "extract":
        _emit(run, lowered, target, clock)
    if options.until in ("extract", "emit"):
        notes = [*remarks, "stopped before simulation: nothing was compared"]
        report = _assemble(run, found, lowered, target, None, notes, clock)
        return _finish(run, report, f"until {options.until}")
    port = to_port(samples, lowered) if samples is not None else no_inputs(lowered)
    inputs_key = store_inputs(run, lowered, port, options.adversarial, clock)
    made_of: tuple[Any, ...] = (source.trained.digest(), dict(source.trained.metrics), dict(source.trained.provenance))
    if found.quantization is not None:
        made_of += (found.quantization.document, found.quantization.accuracy)
    key = digest(run.manifest()["stages"]["emit"], inputs_key, made_of)
    if run.is_done("report", key, REPORT):
        report = Report.load(run.path)
        write_page(run.path, report)
    else:
        report = _verify(run, found, lowered, target, inputs_key, remarks, clock)
        compared = report.document["verdict"]["compared"]
        if found.quantization is None and "qkeras" not in compared:
            key = f"compared {compared}"  # QKeras may be there next time
        _finish(run, report, key)
    for name, tool in tools.items():
        with clock.stage(name):
            taken = tool.run(run.path, lowered, target, announce)
            notes = [dsp_note(taken)] if name == "synth" else []
            report = _finish(run, report.with_resources(taken).with_notes(*notes), key)
    return report


def _check_part(target: Target) -> None:
    """Raise SpecError if the part is one whose contents this package should know and does not."""
    if target.backend in AMD_BACKENDS:
        find_part(target.part)
    elif target.backend == RTL:
        find_device(target.part)


@dataclass(frozen=True, slots=True, eq=False)
class _Extracted:
    source: Source
    samples: Samples | None
    graph: IntGraph
    quantization: Quantization | None = None


def _extract(model: Path, options: BuildOptions) -> _Extracted:
    cache = options.output / ".read"
    source = find_source(model, weights=options.weights, cache=cache)
    samples = find_samples(source, options.inputs, options.labels, options.samples, cache)
    fmt, softmax = _input_format(source, options, samples), _softmax_format(options)
    try:
        graph = extract(source.trained, fmt, softmax=softmax, evaluate=_evaluated(cache))
    except UnsupportedError:  # of one thing; there may be more
        refuse(source.trained.name, refusals(source.trained, fmt, softmax=softmax, evaluate=_evaluated(cache)))
        raise
    return _Extracted(source, samples, graph)


def _quantize(model: Path, target: Target, options: QuantizeOptions, announce: Announce) -> _Extracted:
    def luts(graph: IntGraph) -> tuple[Resources, ...]:
        return estimate(graph, target.for_windows(slides_windows(graph))).layers

    cache = options.output / ".read"
    source = find_float(model, weights=options.weights, cache=cache)
    calibration = find_calibration(source, options.calibration)
    samples = find_samples(source, options.inputs, options.labels, options.samples, cache)
    made = quantize_stage(
        source.trained,
        calibration,
        samples,
        options.settings,
        None if options.input_format is None else parse_format(options.input_format),
        _softmax_format(options),
        cache,
        announce,
        luts if target.backend in AMD_BACKENDS else None,
    )
    return _Extracted(source, samples, made.model.extracted, made)


def _softmax_format(options: BuildOptions) -> FixedFormat | None:
    return None if options.softmax == "off" else parse_format(options.softmax)


def _preflight(made: _Extracted, lowered: IntGraph, target: Target) -> list[str]:
    """Return what the preflight warns of and the graph does not.

    Raises:
        UnsupportedError, PreflightError: it found errors.
    """
    trained = made.source.trained if made.quantization is None else None
    found = examine(Design(trained=trained, extracted=made.graph, lowered=lowered, target=target))
    refuse(lowered.name, [finding for finding in found if finding.severity == ERROR])
    return [f"{finding.rule}: {finding}" for finding in found if str(finding) not in lowered.warnings]


def check(model: str | Path, target: Target | None = None, options: BuildOptions | None = None) -> tuple[Finding, ...]:
    """Say what would fail in a build or in the vendor's synthesis, before anything is generated.

    Args:
        model: as `build` takes it.
        target: hardware settings.
        options: inputs and formats; stages and numbers of inputs do not matter.

    Raises:
        FlowError: the model, its inputs or the part cannot be found or read.
    """
    target, options = target or Target(), options or BuildOptions()
    _check_part(target)
    cache = options.output / ".read"
    source = find_source(Path(model), weights=options.weights, cache=cache)
    derived = options.input_format is None and not quantizes(source.trained)
    samples = None
    if derived or options.inputs is not None:
        samples = find_samples(source, options.inputs, options.labels, options.samples, cache)
    fmt = parse_format(options.input_format) if options.input_format is not None else None
    if derived and samples is not None:
        fmt = derive_format(samples.values)
    found = Model(
        trained=source.trained,
        input_format=fmt,
        derived=derived and samples is not None,
        softmax=_softmax_format(options),
        evaluate=_evaluated(cache),
    )
    return preflight(found, target)


def _evaluated(cache: Path) -> Evaluate:
    """Return `flow.train.functions.evaluate` behind a cache: it takes TensorFlow, and a table is made once."""

    def evaluate(layers: Sequence[Mapping[str, Any]], values: NDArray[np.float32]) -> NDArray[np.float32]:
        key = digest(list(layers), values.shape, hashlib.sha256(values.tobytes()).hexdigest(), version("po2flow"))
        path = cache / f"table-{key[:16]}.npz"
        try:
            return read_npz(path)["results"]
        except InputError:  # not there yet, or damaged: it is made again
            from flow.train.functions import evaluate

            results = evaluate(layers, values)
        write_npz(path, {"results": results})
        return results

    return evaluate


def load_graph(model: Path, options: BuildOptions) -> IntGraph:
    """Return the lowered graph of a model, as `flow show` prints it."""
    return lower(_extract(model, options).graph)


def _input_format(source: Source, options: BuildOptions, samples: Samples | None) -> FixedFormat | None:
    """Return the port's format for a model that does not quantize its own input."""
    if options.input_format is not None:
        return parse_format(options.input_format)
    if quantizes_its_input(source.trained):
        return None
    if samples is None:
        raise DataError(
            f"{source.trained.name}: the model does not quantize its input; give --input-format, or --inputs to derive "
            "the format from"
        )
    return derive_format(samples.values)


def _open(
    model: str | Path, made: _Extracted, lowered: IntGraph, target: Target, options: BuildOptions
) -> RunDirectory:
    versions = {"po2flow": version("po2flow"), **_generator(target)}
    key = digest(lowered.digest(), target.to_json(), versions)
    run = RunDirectory(options.output / lowered.name / target.backend / key[:12])
    again = commands(model, target, options, trained_here=made.source.dataset is not None)
    facts = {
        "schema": 1,
        "model": made.source.trained.name,
        "float_model": made.quantization is not None,
        "target": target.to_json(),
        "versions": versions,
    }
    run.describe({"stages": {}, **run.manifest(), **facts, "commands": list(again)})
    run.write_json(GRAPH, to_json(lowered))
    run.record(GRAPH)
    return run


def _generator(target: Target) -> dict[str, str]:
    """Return name and version of the package that a back end generates with.

    Raises:
        ToolMissingError: it is not installed.
    """
    name, install = ("alkaid", "'po2flow[rtl]'") if target.backend == RTL else ("hls4ml", "po2flow")
    try:
        return {name: version(name)}
    except PackageNotFoundError as error:
        raise ToolMissingError(f"back end {target.backend} needs {name}; run: pip install {install}") from error


def _emit(run: RunDirectory, lowered: IntGraph, target: Target, clock: Clock) -> None:
    """Write the project, unless the one on disk is whole and as it was written."""
    with clock.stage("emit"):
        directory = run.path / "project"
        if directory.is_dir() and run.is_done("emit", read(directory, lowered.name).digest()):
            return
        project = _emitter(target)(lowered, target)
        write(project, directory)
        run.mark_done("emit", project.digest())


def _emitter(target: Target) -> Callable[[IntGraph, Target], Project]:
    if target.backend == RTL:
        from flow.backends.rtl.verilog.emit import emit as emit_rtl

        return emit_rtl
    from flow.backends.hls4ml import emit, other_emit  # hls4ml takes half a second to import

    return emit.emit if target.backend in AMD_BACKENDS else other_emit.emit


def _verify(
    run: RunDirectory,
    made: _Extracted,
    lowered: IntGraph,
    target: Target,
    inputs_key: str,
    remarks: Sequence[str],
    clock: Clock,
) -> Report:
    port, adversarial = stored_inputs(run)
    codes = np.concatenate([port.codes, adversarial])
    with clock.stage("reference"):
        expected = reference.run(lowered, codes)
    others, notes = [], list(remarks)
    if made.quantization is None:
        with clock.stage("qkeras"):
            try:
                others.append(qkeras_level(run, made.source, made.graph, lowered, codes, inputs_key))
            except ToolMissingError as error:
                notes.append(f"software inference was not compared: {error}")
    bench, reason = Bench(run, lowered, target, clock), not_simulated(target)
    if reason:
        notes.append(f"not simulated: {reason}")
    else:
        others.append(_run_level(target.simulation, bench, codes))
    differences: tuple[str, ...] = ()
    proofs: dict[str, Any] = {}
    if runs_streams(target):
        differences = stream_differences(bench, codes)
        notes += [] if differences else [STREAMS_RAN]
    if target.backend == RTL:
        proofs, differences = prove_ops(bench, len(codes))
    (run.path / COUNTEREXAMPLE).unlink(missing_ok=True)
    with clock.stage("compare"):
        divergence = find_divergence(bench, expected, others)
    comparison = Comparison(
        port=port,
        adversarial=len(adversarial),
        reference=expected,
        others=tuple(others),
        divergence=divergence,
        differences=differences,
        not_simulated=reason,
        proofs=proofs,
    )
    report = _assemble(run, made, lowered, target, comparison, notes, clock)
    if target.backend != RTL:
        return report
    from flow.backends.rtl.simulation.measured import measure

    with clock.stage("measure"):
        cycles, toggles = measure(bench.project, lowered, target, port.codes, others[-1], run.path / "rtlsim")
    return report.with_resources(cycles).with_energy(toggles)


def _assemble(
    run: RunDirectory,
    made: _Extracted,
    lowered: IntGraph,
    target: Target,
    comparison: Comparison | None,
    notes: list[str],
    clock: Clock,
) -> Report:
    resources = []
    with clock.stage("estimate"):
        try:
            resources.append(_estimated(run, lowered, target))
        except UnsupportedError as error:
            notes = [*notes, f"no estimate of resources: {error}"]
    manifest = run.manifest()
    return assemble(
        trained=made.source.trained,
        graph=lowered,
        target=target,
        run_dir=run.path,
        project_digest=manifest["stages"].get("emit"),
        comparison=comparison,
        quantization=made.quantization,
        resources=resources,
        energy=[static_energy(lowered)],
        notes=notes,
        commands=manifest["commands"],
        versions=manifest["versions"],
        timings_s=clock.seconds,
    )


def _estimated(run: RunDirectory, lowered: IntGraph, target: Target) -> ResourceReport:
    """Return the static estimate.

    Raises:
        UnsupportedError: there is none for the back end, or the part.
    """
    if target.backend == RTL:
        from flow.backends.rtl.synthesis.estimate import estimate_rtl
        from flow.backends.rtl.verilog.emit import DESIGN

        return estimate_rtl(lowered, target, (run.path / "project" / DESIGN).read_bytes())
    if target.backend not in AMD_BACKENDS:
        raise UnsupportedError(f"its rules are those of {' and '.join(AMD_BACKENDS)}, and of {RTL}")
    return estimate(lowered, target)


def _finish(run: RunDirectory, report: Report, key: str) -> Report:
    """Write the report; `key` says what it was made of, and only the key of a whole build will be found again."""
    run.write_text("report.md", to_markdown(report))
    write_page(run.path, report)
    run.write_json(REPORT, report.to_json())
    run.mark_done("report", key, REPORT)
    return report


def _run_level(name: str, bench: Bench, codes: Codes) -> SimResult:
    level = LEVELS[name](bench)
    with bench.clock.stage(f"{name}_run" if name in SIMULATIONS else name):
        return level(codes)


def compare_run(
    path: Path,
    announce: Announce = lambda stage: None,
    *,
    levels: tuple[str, str] | None = None,
    inputs: Path | None = None,
) -> Report:
    """Run two levels of a run again, as it lies on disk now, and hold them against each other.

    Where C simulation is one of them, the project's files are held against the graph too (types and weights, read
    back). Either one makes the verdict false.

    Args:
        path: run directory.
        announce: called with the name of each stage as it begins.
        levels: two of `flow.verification.levels.LEVELS`; the reference and the simulation of its back end if None.
        inputs: `.npz` with input codes `codes`, as a counterexample is; the run's own inputs if None.

    Raises:
        SpecError: `levels` are not two of those.
        InputError: `path` is no run directory, its build stopped before simulation, or `inputs` is not of its model.
        ToolMissingError: a level needs what is not installed.
    """
    run = open_run(path)
    clock = Clock(announce)
    report = load_report(path)
    lowered, target = _stored_graph(run)
    first, second = levels or ("reference", target.simulation)
    known = [name for name in LEVELS if name == target.simulation or name not in SIMULATIONS]
    if run.manifest().get("float_model"):  # which no QKeras inference is compared with
        known.remove("qkeras")
    if first == second or not {first, second} <= set(known):
        raise SpecError(f"levels '{first}' and '{second}' are not two of {', '.join(known)}")
    simulates = target.simulation in (first, second)
    reason = not_simulated(target) if simulates else ""
    if reason and levels:
        raise InputError(f"{path}: {target.simulation}: not simulated: {reason}")
    own, adversarial = stored_inputs(run)
    port = own if inputs is None else read_inputs(inputs, lowered)
    codes = np.concatenate([port.codes, adversarial]) if inputs is None else port.codes
    bench = Bench(run, lowered, target, clock)
    differences: tuple[str, ...] = ()
    proofs: dict[str, Any] = {}
    expected = _run_level(first, bench, codes)
    if simulates:
        with clock.stage("readback"):
            differences = _file_differences(read(run.path / "project", lowered.name), lowered, target)
        if runs_streams(target):
            differences += stream_differences(bench, codes)
        if target.backend == RTL:
            proofs, refuted = prove_ops(bench, len(codes))
            differences += refuted
    others = () if reason else (_run_level(second, bench, codes),)
    if inputs is None:
        (run.path / COUNTEREXAMPLE).unlink(missing_ok=True)
    with clock.stage("compare"):
        divergence = find_divergence(bench, expected, others)
    comparison = Comparison(
        port=port,
        adversarial=len(codes) - len(port.codes),
        reference=expected,
        others=others,
        divergence=divergence,
        differences=differences,
        not_simulated=reason,
        proofs=proofs,
    )
    return recompared(report, lowered, comparison, clock.seconds)


def _stored_graph(run: RunDirectory) -> tuple[IntGraph, Target]:
    if not run.is_intact(GRAPH):
        raise InputError(f"{run.path}: {GRAPH} is missing or was changed; run 'flow build' again")
    try:
        target = Target.from_json(run.manifest()["target"])
    except (KeyError, TypeError, SpecError) as error:
        raise InputError(f"{run.path}: its manifest names no target ({error}); run 'flow build' again") from error
    return from_json(json.loads((run.path / GRAPH).read_text())), target


def _file_differences(project: Project, graph: IntGraph, target: Target) -> tuple[str, ...]:
    if target.backend == RTL:
        from flow.backends.rtl.verilog.emit import findings

        return tuple(findings(project, graph, target))
    from flow.backends.hls4ml import other_readback, readback

    reader = readback if target.backend in AMD_BACKENDS else other_readback
    try:
        return tuple(str(found) for found in reader.findings(project, graph, target))
    except (LookupError, ValueError) as error:  # a file is gone, or no longer has the form that hls4ml gave it
        return (f"the project cannot be read back: {type(error).__name__}: {error}",)


def load_report(path: Path) -> Report:
    """Return the report of a run directory.

    Raises:
        InputError: it is none, or its report is missing or was changed.
    """
    run = open_run(path)
    if not run.is_intact(REPORT):
        raise InputError(f"{path}: {REPORT} is missing or was changed; run 'flow build' again")
    return Report.load(run.path)


def write_page(path: Path, report: Report) -> None:
    """Write the page of a run into its directory.

    Raises:
        OutputError: it cannot be written.
    """
    RunDirectory(path).write_text(PAGE, render(report))


def write_comparison(reports: Sequence[Report], path: Path) -> None:
    """Write a page with several runs side by side.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path) as file:
        file.write(side_by_side(reports).encode())
