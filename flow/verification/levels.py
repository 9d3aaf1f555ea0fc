"""The levels of a build, run on the same inputs: software, the reference, the simulation; what a run keeps for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.backends.base import BACKENDS, find_backend
from flow.backends.functions import Level, Site, functions
from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import PortInputs
from flow.data.labels import Labels
from flow.errors import DataError, InputError, OutputError, SpecError, ToolMissingError, at, counted, shown
from flow.files import naming
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, from_json, to_json
from flow.project import Change, changes, left_by_tools, read
from flow.results import Divergence, SimResult
from flow.runs import RunDirectory, digest, digest_file, digest_tree, read_npz, write_npz
from flow.sources import Source, keep, kept
from flow.target import Target
from flow.verification import compare

REFERENCE = "reference"
SIMULATIONS = frozenset(row.simulation for row in BACKENDS.values())
"""Levels that run a project; each back end has one."""
COUNTEREXAMPLE = "counterexample.npz"
GRAPH, INPUTS, SOFTWARE = "graph.json", "inputs.npz", "qkeras.npz"
MODEL, EXTRACTED = "model", "extracted.json"
Inputs = tuple[PortInputs, Codes]
"""Inputs of a run, and adversarial input codes besides."""


def is_software(level: str) -> bool:
    """Say whether a level is inference of the model by its own framework."""
    return level != REFERENCE and level not in SIMULATIONS


def known_levels(site: Site) -> tuple[str, ...]:
    """Return the levels of a run in the order of a report; a float model has no software that computes integers."""
    run = RunDirectory(site.path)
    software = () if run.manifest().get("float_model") else (run.manifest().get("software", "qkeras"),)
    return (*software, REFERENCE, site.target.simulation)


def open_level(site: Site, name: str) -> Level:
    """Return what computes a level of a run, as it lies on disk.

    Raises:
        InputError: the model is not in the run directory, or not as it was stored.
        ToolMissingError: what the level runs with is not installed.
    """
    if name == REFERENCE:
        return lambda codes: reference.run(site.graph, codes)
    if name in SIMULATIONS:
        return functions(site.target).compile(site)
    source, extracted = stored_model(RunDirectory(site.path))
    return source.inference(extracted, site.graph)


def find_divergence(site: Site, expected: SimResult, others: Sequence[SimResult]) -> Divergence | None:
    """Return the first divergence of the first level that has one."""
    for other in others:
        if not any(compare.mismatches(expected, other, site.graph.ops).values()):
            continue
        divergence = compare.first_divergence(site.graph, expected, other, _rerun(site, expected, other))
        assert divergence is not None
        return divergence
    return None


def keep_counterexample(site: Site, divergence: Divergence | None, *, settled: bool) -> str:
    """Leave the counterexample of a divergence in the run directory.

    Args:
        site: the run.
        divergence: None if nothing differs.
        settled: nothing differs on any input of the run: then that of a comparison before is removed.

    Returns:
        Why the run directory is as before, in words; nothing if all went well.
    """
    path = site.path / COUNTEREXAMPLE
    try:
        if divergence is not None:
            facts = {"op": np.array(divergence.op), "levels": np.array(divergence.levels)}
            write_npz(path, {"codes": divergence.counterexample[None], **facts})
        elif settled and path.exists():
            with naming(path):
                path.unlink()
    except OutputError as error:
        return f"{COUNTEREXAMPLE} is not of this comparison: {error}"
    return ""


def _rerun(site: Site, *results: SimResult) -> compare.Rerun | None:
    """Return what runs two levels again; None if one has only its stored results, because its tool is gone by now."""
    try:
        first, second = (open_level(site, result.level) for result in results)
    except ToolMissingError:
        return None
    return lambda codes: (first(codes), second(codes))


def read_counterexample(path: Path, graph: IntGraph) -> PortInputs:
    """Return the input codes of a counterexample, or of any `.npz` with an array `codes` (samples, *port_shape).

    Raises:
        InputError: there is no such array.
        DataError: the codes are no integers, or not those of the graph's inputs.
    """
    codes = read_npz(path).get("codes")
    if codes is None:
        raise InputError("has no array 'codes'", file=path)
    if codes.dtype.kind not in "iu" or not len(codes):
        what = f"'codes' holds {counted(len(codes), 'sample')} of {codes.dtype}"
        raise DataError(what, file=path, remedy="give integers, one or more")
    codes = codes.astype(np.int64)
    with at(file=path):
        reference.check_input(graph, codes)
    return PortInputs(codes=codes, source=str(path), rounded=0, clipped=0)


# -- what a run directory keeps


def stored_graph(run: RunDirectory) -> tuple[IntGraph, Target]:
    """Return the lowered graph of a run and its target.

    Raises:
        InputError: they are not there, or not as they were stored.
    """
    try:
        graph = from_json(json.loads(run.read(GRAPH)))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        what = f"{GRAPH} holds no graph ({shown(error)})"
        raise InputError(what, file=run.path, remedy=run.again()) from error
    return graph, _target(run)


def _target(run: RunDirectory) -> Target:
    try:
        return Target.from_json(run.manifest()["target"])
    except (KeyError, TypeError, SpecError) as error:
        what = f"its manifest names no target ({shown(error)})"
        raise InputError(what, file=run.path, remedy=run.again()) from error


def project_changes(run: RunDirectory) -> list[Change]:
    """Return which files of a run's project are not as its build wrote them; quick, and the same for all back ends.

    Raises:
        InputError: the manifest names no target.
    """
    manifest, directory, leaves = run.manifest(), run.path / "project", _leaves(run)
    if "project" in manifest:
        return changes(directory, manifest["project"], leaves)
    same = read(directory, "", leaves).digest() == manifest["stages"].get("emit")  # earlier versions kept no more
    return [] if same else [Change(".", "changed")]


def tools_note(run: RunDirectory) -> str:
    """Return what tools left in the directory of a run's project, in words; empty if nothing."""
    left = left_by_tools(run.path / "project", _leaves(run))
    return f"not of the project, left in its directory by tools: {', '.join(left)}" if left else ""


def _leaves(run: RunDirectory) -> tuple[str, ...]:
    return find_backend(_target(run).backend).left_by_tools


def inputs_digest(graph: IntGraph, port: PortInputs, adversarial: int) -> str:
    """Return the key of the input codes of a run."""
    labels = [(each.output, each.index, str(each.values.dtype), each.values.tolist()) for each in port.labels]
    return digest(graph.digest(), codes_digest(port.codes), labels, port.source, adversarial)


def codes_digest(codes: Codes) -> str:
    """Return the SHA-256 of the shape and the codes of some inputs, whatever type holds them."""
    content = hashlib.sha256()
    for sample in codes:
        content.update(sample.astype(np.int64).tobytes())
    return digest(codes.shape, content.hexdigest())


def store_inputs(run: RunDirectory, graph: IntGraph, port: PortInputs, adversarial: int) -> Inputs:
    """Write input codes, and so many adversarial ones, to the run directory, and return them."""
    arrays: dict[str, NDArray[Any]] = {
        "codes": port.codes,
        "adversarial": adversarial_inputs(graph, adversarial),
        **{f"labels/{each.index}/{each.output}": each.values for each in port.labels},
        "source": np.array(port.source),
        "changed": np.array([port.rounded, port.clipped]),
    }
    run.write_npz(INPUTS, arrays, compress=True)
    return replace(port, codes=arrays["codes"]), arrays["adversarial"]


def stored_inputs(run: RunDirectory) -> Inputs:
    """Return the inputs and the adversarial input codes of a run.

    Raises:
        InputError: they are not there, or not as they were stored.
    """
    if "inputs" not in run.manifest().get("stages", {}):
        what = f"this build stopped before its inputs were made (there is no {INPUTS})"
        raise InputError(what, file=run.path, remedy="run 'flow build' without --until, or give --inputs")
    arrays = run.read_npz(INPUTS)
    rounded, clipped = arrays["changed"].tolist()
    port = PortInputs(
        codes=arrays["codes"],
        labels=tuple(_stored_labels(arrays)),
        source=str(arrays["source"]),
        rounded=rounded,
        clipped=clipped,
    )
    return port, arrays["adversarial"]


def _stored_labels(arrays: Mapping[str, NDArray[Any]]) -> Iterator[Labels]:
    """Yield the labels of each output; runs of earlier versions have classes of the first one alone."""
    if len(arrays.get("labels", ())):
        yield Labels(output="", index=0, values=arrays["labels"])
    for name, values in arrays.items():
        if name.startswith("labels/"):
            _, index, output = name.split("/", 2)
            yield Labels(output=output, index=int(index), values=values)


def store_software(run: RunDirectory, result: SimResult) -> None:
    """Write what software inference gave."""
    arrays: dict[str, NDArray[Any]] = {f"op/{name}": values for name, values in result.codes.items()}
    arrays |= {f"softmax/{name}": values for name, values in result.softmax.items()}
    run.write_npz(SOFTWARE, {"arithmetic": np.array(result.arithmetic), **arrays})


def stored_software(run: RunDirectory, level: str) -> SimResult:
    """Return what `store_software` wrote.

    Raises:
        InputError: it is not there, or not as it was stored.
    """
    arrays = run.read_npz(SOFTWARE)
    outputs, softmax = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("op/", "softmax/")
    )
    return SimResult(level=level, codes=outputs, arithmetic=str(arrays["arithmetic"]), softmax=softmax)


def store_model(run: RunDirectory, source: Source, extracted: IntGraph) -> None:
    """Write the model and its extracted graph to the run directory, for software inference on other inputs."""
    given = [digest_file(path) for path in (source.keras_file, source.weights) if path is not None]
    key = digest(source.trained.digest(), extracted.digest(), given)
    directory = run.path / MODEL
    if not run.is_done(MODEL, f"{key} {digest_file(directory)}"):
        files = keep(source, directory)
        run.write_json(f"{MODEL}/{EXTRACTED}", to_json(extracted))
        files[EXTRACTED] = run.written[f"{MODEL}/{EXTRACTED}"]
        run.mark_done(MODEL, f"{key} {digest_tree(files)}")


def stored_model(run: RunDirectory) -> tuple[Source, IntGraph]:
    """Return the model that a run was built from, and its extracted graph.

    Raises:
        InputError: it is not in the run directory, or not as it was stored.
    """
    directory = run.path / MODEL
    if not run.manifest().get("stages", {}).get(MODEL, "").endswith(f" {digest_file(directory)}"):
        raise InputError("the model is missing or was changed", file=directory, remedy=run.again())
    return kept(directory), from_json(json.loads((directory / EXTRACTED).read_text()))
