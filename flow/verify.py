"""Run the levels of a build on the same inputs and find where they part: QKeras, reference, C simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow import compare, reference
from flow.adversarial import adversarial_inputs
from flow.backends import csim
from flow.errors import InputError
from flow.fixed import Codes
from flow.graph import IntGraph
from flow.inputs import PortInputs
from flow.project import read
from flow.results import Divergence, SimResult
from flow.runs import RunDirectory, digest, read_npz, write_npz
from flow.sources import Source

INPUTS, QKERAS, COUNTEREXAMPLE = "inputs.npz", "qkeras.npz", "counterexample.npz"


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
    model = source.keras_model()
    from flow.train import inference

    result = inference.run(model, source.trained, extracted, lowered, codes)
    arrays: dict[str, NDArray[Any]] = {f"op/{name}": values for name, values in result.codes.items()}
    write_npz(run.path / QKERAS, {"arithmetic": np.array(result.arithmetic), **arrays})
    run.mark_done("qkeras", key, QKERAS)
    return result


def _stored_qkeras(run: RunDirectory) -> SimResult:
    arrays = read_npz(run.path / QKERAS)
    outputs = {name.removeprefix("op/"): array for name, array in arrays.items() if name.startswith("op/")}
    return SimResult(level="qkeras", codes=outputs, arithmetic=str(arrays["arithmetic"]))


@dataclass(frozen=True, slots=True)
class Simulator:
    """The compiled C simulation of a run's project."""

    program: Path
    directory: Path
    graph: IntGraph

    def run(self, codes: Codes) -> SimResult:
        return csim.run(self.program, self.directory, self.graph, codes)

    def differs_at(self, op: str) -> compare.Differ:
        """Return a function that says which inputs make csim and reference differ at an op."""

        def differ(codes: Codes) -> NDArray[np.bool_]:
            wrong = self.run(codes).codes[op] != reference.run(self.graph, codes).codes[op]
            return np.asarray(wrong.reshape(len(codes), -1).any(axis=1))

        return differ


def compiled(run: RunDirectory, graph: IntGraph, clock: Clock) -> Simulator:
    """Compile the project as it lies on disk, unless that was done before."""
    directory = run.path / "project"
    with clock.stage("csim_compile"):
        key = csim.sources_digest(read(directory, graph.name))
        program = csim.compile_project(directory, graph.name, run.path / "csim", key)
    return Simulator(program, directory, graph)


def find_divergence(
    run: RunDirectory, graph: IntGraph, expected: SimResult, others: list[SimResult], simulator: Simulator
) -> Divergence | None:
    """Return the first divergence of the first level that has one; its counterexample is left in the run directory."""
    path = run.path / COUNTEREXAMPLE
    path.unlink(missing_ok=True)
    for other in others:
        wrong = [name for name, count in compare.mismatches(expected, other, graph.ops).items() if count]
        if not wrong:
            continue
        differ = simulator.differs_at(wrong[0]) if other.level == "csim" else None
        divergence = compare.first_divergence(graph, expected, other, differ)
        assert divergence is not None
        facts = {"op": np.array(divergence.op), "levels": np.array(divergence.levels)}
        write_npz(path, {"codes": divergence.counterexample[None], **facts})
        return divergence
    return None
