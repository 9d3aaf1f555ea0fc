"""The levels of a build: software inference, the reference and the simulation, run on the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow.backends.base import BACKENDS
from flow.backends.functions import Level, Site, functions
from flow.data.inputs import PortInputs
from flow.errors import DataError, InputError, ToolMissingError, at
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.results import Divergence, SimResult
from flow.runs import RunDirectory, read_npz, write_npz
from flow.verification import compare
from flow.verification.stored import stored_model

REFERENCE = "reference"
SIMULATIONS = frozenset(row.simulation for row in BACKENDS.values())
"""Levels that run a project; each back end has one."""
COUNTEREXAMPLE = "counterexample.npz"


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
    """Return the first divergence of the first level that has one; its counterexample is left in the run directory."""
    for other in others:
        if not any(compare.mismatches(expected, other, site.graph.ops).values()):
            continue
        divergence = compare.first_divergence(site.graph, expected, other, _rerun(site, expected, other))
        assert divergence is not None
        facts = {"op": np.array(divergence.op), "levels": np.array(divergence.levels)}
        write_npz(site.path / COUNTEREXAMPLE, {"codes": divergence.counterexample[None], **facts})
        return divergence
    return None


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
        raise DataError(
            f"'codes' holds {len(codes)} samples of {codes.dtype}", file=path, remedy="give integers, one or more"
        )
    codes = codes.astype(np.int64)
    with at(file=path):
        reference.check_input(graph, codes)
    return PortInputs(codes=codes, labels=None, source=str(path), rounded=0, clipped=0)
