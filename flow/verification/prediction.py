"""What a run's hardware gives for inputs of a Python session: at the reference's speed, or by its simulation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.backends.functions import Level, Site
from flow.data.inputs import Samples, checked_values, to_port
from flow.data.session import Data, as_arrays
from flow.errors import SpecError, at, shown
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.runs import open_run
from flow.verification.levels import REFERENCE, SIMULATIONS, known_levels, open_level, stored_graph

SAMPLES = 4096
"""So many are run at a time."""


def outputs(path: Path, x: Data, *, level: str = REFERENCE, codes: bool = False, every_op: bool = False) -> Any:
    """Run the graph of a run directory, or its simulation, on values.

    Args:
        path: run directory.
        x: (samples, *shape) values, as `flow.build` takes them; of several inputs a mapping by their names.
        level: "reference", or the simulation of the run's back end.
        codes: return integers on the grid of each op's format, instead of values.
        every_op: return what each op gives, not the outputs alone.

    Returns:
        (samples, *shape) of the only output, or a mapping by the names of outputs or ops.

    Raises:
        SpecError: the run has no such level.
        DataError: `x` does not fit the model.
        InputError: `path` is no run directory, or not as it was left.
        ToolMissingError, ToolFailedError: as of the simulation.
    """
    run = open_run(path)
    graph, target = stored_graph(run)
    site = Site(path, graph, target)
    if level not in (known := [each for each in known_levels(site) if each == REFERENCE or each in SIMULATIONS]):
        raise SpecError(
            f"{shown(level)} is no level",
            field="level",
            remedy=f"use one of {', '.join(known)}; software predicts by itself",
        )
    wanted = [op.name for op in graph] if every_op else list(dict.fromkeys(graph.outputs))
    with at(argument="x"):
        values = checked_values(as_arrays(x), {op.layers[0] if op.layers else op.name: op.shape for op in graph.inputs})
    compute = _reference(graph, wanted) if level == REFERENCE else open_level(site, level)
    parts, clipped = list[Mapping[str, Codes]](), 0
    for start in range(0, len(values), SAMPLES):
        port = to_port(Samples(values=values[start : start + SAMPLES], labels=None, source="x"), graph)
        parts.append(compute(port.codes).codes)
        clipped += port.clipped
    if clipped and not all(op.layers[1:] for op in graph.inputs):  # else quantizers of the model itself clamp them
        formats = ", ".join(op.format.cpp() for op in graph.inputs)
        warnings.warn(f"{clipped} values of x are beyond the input's format {formats} and were clamped", stacklevel=3)
    found: Mapping[str, NDArray[Any]] = {
        name: np.concatenate([part[name] for part in parts]) for name in wanted if name in parts[0]
    }
    if not codes:
        found = {name: graph[name].numbers(each) for name, each in found.items()}
    return found if every_op or len(graph.outputs) > 1 else found[graph.outputs[0]]


def _reference(graph: IntGraph, wanted: list[str]) -> Level:
    return lambda codes: reference.run(graph, codes, keep=wanted)
