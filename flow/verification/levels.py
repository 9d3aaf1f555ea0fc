"""Run the levels of a build on the same inputs and find where they part: QKeras, reference, C simulation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.backends.hls4ml import csim, threaded
from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import PortInputs
from flow.errors import DataError, InputError, ToolMissingError
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, from_json, to_json
from flow.project import read
from flow.results import Divergence, SimResult
from flow.runs import RunDirectory, digest, digest_file, read_npz, write_npz
from flow.sources import Source, keep, kept
from flow.target import AMD_BACKENDS, Target
from flow.verification import compare

INPUTS, QKERAS, COUNTEREXAMPLE = "inputs.npz", "qkeras.npz", "counterexample.npz"
MODEL, EXTRACTED = "model", "extracted.json"
STREAMED_SAMPLES = 4
"""Samples that streams run side by side; they are slow, and whether they deadlock does not depend on the codes."""
STALLS = 1
"""Seed of the random pauses at the ports of a Verilog design."""
PROOF_S = 60.0
"""How long a solver may take for one op."""


@dataclass(slots=True)
class Clock:
    """Seconds per stage; `announce` is called as each begins."""

    announce: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.announce(name)
        started = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - started


def store_inputs(run: RunDirectory, graph: IntGraph, port: PortInputs, adversarial: int, clock: Clock) -> str:
    """Write input codes and adversarial input codes to the run directory; return the key of their content."""
    labels = None if port.labels is None else port.labels.tolist()
    codes = np.ascontiguousarray(port.codes, np.int64)
    content = hashlib.sha256(codes.tobytes()).hexdigest()
    key = digest(graph.digest(), codes.shape, content, labels, port.source, adversarial)
    if run.is_done("inputs", key, INPUTS):
        return key
    with clock.stage("inputs"):
        arrays: dict[str, NDArray[Any]] = {
            "codes": codes,
            "adversarial": adversarial_inputs(graph, adversarial),
            "labels": np.zeros(0, np.int64) if port.labels is None else port.labels,
            "source": np.array(port.source),
            "changed": np.array([port.rounded, port.clipped]),
        }
        write_npz(run.path / INPUTS, arrays, compress=True)
        run.mark_done("inputs", key, INPUTS)
    return key


def stored_inputs(run: RunDirectory) -> tuple[PortInputs, Codes]:
    """Return the inputs and the adversarial input codes of a run.

    Raises:
        InputError: they are not there, or not as they were stored.
    """
    if not run.is_intact(INPUTS):
        raise InputError(f"{run.path}: {INPUTS} is missing or was changed; run 'flow build' again")
    arrays = read_npz(run.path / INPUTS)
    rounded, clipped = arrays["changed"].tolist()
    port = PortInputs(
        codes=arrays["codes"],
        labels=arrays["labels"] if len(arrays["labels"]) else None,
        source=str(arrays["source"]),
        rounded=rounded,
        clipped=clipped,
    )
    return port, arrays["adversarial"]


def qkeras_level(
    run: RunDirectory, source: Source, extracted: IntGraph, lowered: IntGraph, codes: Codes, inputs_key: str
) -> SimResult:
    """Return software inference, from the run directory if it was made there for the same model and inputs.

    Raises:
        ToolMissingError: TensorFlow or QKeras is not installed.
    """
    key = digest(source.trained.digest(), inputs_key)
    if run.is_done("qkeras", key, QKERAS):
        return _stored_qkeras(run)
    result = source.inference(extracted, lowered)(codes)
    arrays: dict[str, NDArray[Any]] = {f"op/{name}": values for name, values in result.codes.items()}
    arrays |= {f"softmax/{name}": values for name, values in result.softmax.items()}
    write_npz(run.path / QKERAS, {"arithmetic": np.array(result.arithmetic), **arrays})
    run.mark_done("qkeras", key, QKERAS)
    return result


def _stored_qkeras(run: RunDirectory) -> SimResult:
    arrays = read_npz(run.path / QKERAS)
    outputs, softmax = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("op/", "softmax/")
    )
    return SimResult(level="qkeras", codes=outputs, arithmetic=str(arrays["arithmetic"]), softmax=softmax)


def store_model(run: RunDirectory, source: Source, extracted: IntGraph) -> None:
    """Write the model and its extracted graph to the run directory, for software inference on other inputs."""
    files = [digest_file(path) for path in (source.keras_file, source.weights) if path is not None]
    key = digest(source.trained.digest(), extracted.digest(), files)
    directory = run.path / MODEL
    if not run.is_done(MODEL, f"{key} {digest_file(directory)}"):
        keep(source, directory)
        run.write_json(f"{MODEL}/{EXTRACTED}", to_json(extracted))
        run.mark_done(MODEL, f"{key} {digest_file(directory)}")


def prove_ops(bench: Bench, tested: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Prove the Verilog of each op, unless that was done before.

    Args:
        bench: the run.
        tested: how many inputs were simulated.

    Returns:
        Op name -> what was shown, as JSON; and what is wrong, in words.
    """
    from flow.backends.rtl.proof.prove import Refuted, prove

    with bench.clock.stage("prove"):
        shown = prove(
            bench.project,
            bench.graph,
            bench.target.io_type,
            time_limit_s=PROOF_S,
            cache_dir=bench.run.path / "proofs",
            tested=tested,
            announce=bench.clock.announce,
        )
    wrong = tuple(f"not proved: {each}" for each in shown.values() if isinstance(each, Refuted))
    return {name: each.to_json() for name, each in shown.items() if not isinstance(each, Refuted)}, wrong


Level = Callable[[Codes], SimResult]
"""Computes the codes of every op that the level knows, for input codes."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the levels of a run find what they need."""

    run: RunDirectory
    graph: IntGraph
    target: Target
    clock: Clock

    @property
    def project(self) -> Path:
        """Where the project lies."""
        return self.run.path / "project"


def _reference(bench: Bench) -> Level:
    return lambda codes: reference.run(bench.graph, codes)


def _csim(bench: Bench) -> Level:
    """Compile the project as it lies on disk, unless that was done before."""
    directory, name = bench.project, bench.graph.name
    with bench.clock.stage("csim_compile"):
        key = csim.sources_digest(read(directory, name))
        program = csim.compile_project(directory, name, bench.run.path / "csim", key)
    return lambda codes: csim.run(program, directory, bench.graph, codes)


def _rtlsim(bench: Bench) -> Level:
    """Read the Verilog as it lies on disk, unless that was done before."""
    from flow.backends.rtl.simulation.rtlsim import compile_rtl, run_rtl

    with bench.clock.stage("rtlsim_compile"):
        program = compile_rtl(bench.project, bench.graph, bench.target.io_type, bench.run.path / "rtlsim")
    return lambda codes: run_rtl(program, bench.graph, codes, stalls=STALLS)


def _qkeras(bench: Bench) -> Level:
    """Read the model that the run was built from.

    Raises:
        InputError: it is not in the run directory, or not as it was stored.
        ToolMissingError: TensorFlow or QKeras is not installed.
    """
    directory = bench.run.path / MODEL
    if not bench.run.manifest().get("stages", {}).get(MODEL, "").endswith(f" {digest_file(directory)}"):
        raise InputError(f"{directory}: the model is missing or was changed; run 'flow build' again")
    with bench.clock.stage("qkeras"):
        extracted = from_json(json.loads((directory / EXTRACTED).read_text()))
        return kept(directory).inference(extracted, bench.graph)


LEVELS: Mapping[str, Callable[[Bench], Level]] = {
    "qkeras": _qkeras,
    "reference": _reference,
    "csim": _csim,
    "rtlsim": _rtlsim,
}
"""Levels by name, in the order of a report."""


def runs_streams(target: Target) -> bool:
    """Say whether a target's projects have streams that C simulation can run side by side."""
    return target.io_type == "io_stream" and target.backend in AMD_BACKENDS


def stream_differences(bench: Bench, codes: Codes) -> tuple[str, ...]:
    """Run the kernels of a streamed project side by side on some of the samples; return what is wrong, in words."""
    directory, graph = bench.project, bench.graph
    chosen = codes[np.unique(np.linspace(0, len(codes) - 1, STREAMED_SAMPLES).astype(int))]
    with bench.clock.stage("streams"):
        try:
            program = threaded.compile_threads(read(directory, graph.name), directory, graph, bench.run.path / "csim")
        except (LookupError, ValueError) as error:  # the text has no longer the form that hls4ml gave it
            return (f"its streams cannot be run side by side: {error}",)
        return threaded.complaints(program, directory, graph, chosen)


def find_divergence(bench: Bench, expected: SimResult, others: Sequence[SimResult]) -> Divergence | None:
    """Return the first divergence of the first level that has one; its counterexample is left in the run directory."""
    for other in others:
        if not any(compare.mismatches(expected, other, bench.graph.ops).values()):
            continue
        divergence = compare.first_divergence(bench.graph, expected, other, _rerun(bench, expected, other))
        assert divergence is not None
        facts = {"op": np.array(divergence.op), "levels": np.array(divergence.levels)}
        write_npz(bench.run.path / COUNTEREXAMPLE, {"codes": divergence.counterexample[None], **facts})
        return divergence
    return None


def _rerun(bench: Bench, *results: SimResult) -> compare.Rerun | None:
    """Return what runs two levels again; None if one has only its stored results, because its tool is gone by now."""
    try:
        first, second = (LEVELS[result.level](bench) for result in results)
    except ToolMissingError:
        return None
    return lambda codes: (first(codes), second(codes))


def read_inputs(path: Path, graph: IntGraph) -> PortInputs:
    """Return the input codes of a counterexample, or of any `.npz` with an array `codes` (samples, *port_shape).

    Raises:
        InputError: there is no such array.
        DataError: the codes are no integers, or not those of the graph's inputs.
    """
    codes = read_npz(path).get("codes")
    if codes is None:
        raise InputError(f"{path}: has no array 'codes'")
    if codes.dtype.kind not in "iu" or not len(codes):
        raise DataError(f"{path}: 'codes' holds {len(codes)} samples of {codes.dtype}; give integers, one or more")
    codes = codes.astype(np.int64)
    try:
        reference.check_input(graph, codes)
    except DataError as error:
        raise error.at(str(path)) from None
    return PortInputs(codes=codes, labels=None, source=str(path), rounded=0, clipped=0)
