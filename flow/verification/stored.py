"""What a run directory keeps for its levels: the model, the graph, the inputs, and results of software inference."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import PortInputs
from flow.errors import InputError, SpecError
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, from_json, to_json
from flow.results import SimResult
from flow.runs import RunDirectory, digest, digest_file, read_npz, write_npz
from flow.sources import Source, keep, kept
from flow.target import Target

GRAPH, INPUTS, SOFTWARE = "graph.json", "inputs.npz", "qkeras.npz"
MODEL, EXTRACTED = "model", "extracted.json"
Inputs = tuple[PortInputs, Codes]
"""Inputs of a run, and adversarial input codes besides."""


def stored_graph(run: RunDirectory) -> tuple[IntGraph, Target]:
    """Return the lowered graph of a run and its target.

    Raises:
        InputError: they are not there, or not as they were stored.
    """
    if not run.is_intact(GRAPH):
        raise InputError(f"{GRAPH} is missing or was changed", file=run.path, remedy="run 'flow build' again")
    try:
        target = Target.from_json(run.manifest()["target"])
    except (KeyError, TypeError, SpecError) as error:
        raise InputError(
            f"its manifest names no target ({error})", file=run.path, remedy="run 'flow build' again"
        ) from error
    return from_json(json.loads((run.path / GRAPH).read_text())), target


def inputs_digest(graph: IntGraph, port: PortInputs, adversarial: int) -> str:
    """Return the key of the input codes of a run."""
    labels = None if port.labels is None else port.labels.tolist()
    codes = np.ascontiguousarray(port.codes, np.int64)
    content = hashlib.sha256(codes.tobytes()).hexdigest()
    return digest(graph.digest(), codes.shape, content, labels, port.source, adversarial)


def store_inputs(run: RunDirectory, graph: IntGraph, port: PortInputs, adversarial: int) -> None:
    """Write input codes, and so many adversarial ones, to the run directory."""
    arrays: dict[str, NDArray[Any]] = {
        "codes": np.ascontiguousarray(port.codes, np.int64),
        "adversarial": adversarial_inputs(graph, adversarial),
        "labels": np.zeros(0, np.int64) if port.labels is None else port.labels,
        "source": np.array(port.source),
        "changed": np.array([port.rounded, port.clipped]),
    }
    write_npz(run.path / INPUTS, arrays, compress=True)


def read_inputs(run: RunDirectory) -> Inputs:
    """Return the inputs and the adversarial input codes of a run, as they lie there."""
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


def stored_inputs(run: RunDirectory) -> Inputs:
    """Return the inputs and the adversarial input codes of a run.

    Raises:
        InputError: they are not there, or not as they were stored.
    """
    if not run.is_intact(INPUTS):
        raise InputError(f"{INPUTS} is missing or was changed", file=run.path, remedy="run 'flow build' again")
    return read_inputs(run)


def store_software(run: RunDirectory, result: SimResult) -> None:
    """Write what software inference gave."""
    arrays: dict[str, NDArray[Any]] = {f"op/{name}": values for name, values in result.codes.items()}
    arrays |= {f"softmax/{name}": values for name, values in result.softmax.items()}
    write_npz(run.path / SOFTWARE, {"arithmetic": np.array(result.arithmetic), **arrays})


def stored_software(run: RunDirectory, level: str) -> SimResult:
    """Return what `store_software` wrote."""
    arrays = read_npz(run.path / SOFTWARE)
    outputs, softmax = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("op/", "softmax/")
    )
    return SimResult(level=level, codes=outputs, arithmetic=str(arrays["arithmetic"]), softmax=softmax)


def store_model(run: RunDirectory, source: Source, extracted: IntGraph) -> None:
    """Write the model and its extracted graph to the run directory, for software inference on other inputs."""
    files = [digest_file(path) for path in (source.keras_file, source.weights) if path is not None]
    key = digest(source.trained.digest(), extracted.digest(), files)
    directory = run.path / MODEL
    if not run.is_done(MODEL, f"{key} {digest_file(directory)}"):
        keep(source, directory)
        run.write_json(f"{MODEL}/{EXTRACTED}", to_json(extracted))
        run.mark_done(MODEL, f"{key} {digest_file(directory)}")


def stored_model(run: RunDirectory) -> tuple[Source, IntGraph]:
    """Return the model that a run was built from, and its extracted graph.

    Raises:
        InputError: it is not in the run directory, or not as it was stored.
    """
    directory = run.path / MODEL
    if not run.manifest().get("stages", {}).get(MODEL, "").endswith(f" {digest_file(directory)}"):
        raise InputError("the model is missing or was changed", file=directory, remedy="run 'flow build' again")
    return kept(directory), from_json(json.loads((directory / EXTRACTED).read_text()))
