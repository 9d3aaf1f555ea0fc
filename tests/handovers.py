"""Hand-overs of small graphs, and what `make` says in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from flow.backends.rtl.handover.export import of_project
from flow.backends.rtl.verilog.emit import emit
from flow.data.adversarial import adversarial_inputs
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.project import Project
from flow.target import Target

SAMPLES = 12


def handed_over(
    graph: IntGraph,
    target: Target,
    project: Project | None = None,
    samples: int = SAMPLES,
    interface: str = "axis",
    tdata_bits: int | None = None,
    board: str | None = None,
) -> Project:
    """Return the hand-over of a graph, or of another project that is given out for its own."""
    codes = reference.run(graph, adversarial_inputs(graph, samples)).codes
    named = (*(op.name for op in graph.inputs), *graph.outputs)
    chosen = {name: codes[name] for name in named}
    return of_project(project or emit(graph, target), graph, target, chosen, interface, tdata_bits, board)


def make(directory: Path, *goals: str, fails: bool = False, **environment: str) -> str:
    """Return what `make` prints; a bench that does not pass must be expected to."""
    command = ["make", "-s", "-C", str(directory), *goals]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert (run.returncode != 0) == fails, run.stdout + run.stderr
    return run.stdout
