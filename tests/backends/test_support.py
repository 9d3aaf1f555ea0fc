"""docs/support.md is what really happens to each of its rows, and leaves out nothing that a model may name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Golden, needs_compiler
from fixtures_keras import qkeras
from nets import inputs
from support_rows import (
    ACTIVATION_ROWS,
    FUNCTION_ROWS,
    LAYER_ROWS,
    ROWS,
    WEIGHT_ROWS,
    WEIGHT_TEXTS,
    WEIGHTED,
    Row,
    bias_row,
    weight_row,
)
from support_table import TARGETS, Made, document, emitted, made, refusal

from flow.backends.functions import Level
from flow.backends.hls4ml.csim import compile_together, run, sources_digest
from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.piped import compile_pipes
from flow.backends.rtl.simulation.rtlsim import compile_rtl, run_rtl
from flow.errors import UnsupportedError
from flow.frontend.keras import LAYERS
from flow.frontend.keras.quantizers import FUNCTIONS, POSITIONAL, RANDOM
from flow.ir import reference
from flow.ir.graph import Input, IntGraph
from flow.project import Project, write
from flow.target import Target
from flow.train import inference

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
AMD = [target for target in TARGETS if target.backend in ("Vitis", "Vivado")]
SIMULATED = [target for target in TARGETS if target.backend in DIALECTS and not DIALECTS[target.backend].needs]


def names(rows: Any) -> set[str]:
    return {row.name for row in rows}


def test_the_document_is_what_happens(golden: Golden) -> None:
    golden("../../docs/support.md", document())


def test_every_layer_and_quantizer_has_a_row() -> None:
    classes = vars(qkeras.quantizers).values()
    quantizers = {cls.__name__ for cls in classes if isinstance(cls, type) and cls.__module__ == "qkeras.quantizers"}
    quantizers = (quantizers - {"BaseQuantizer"}) | set(POSITIONAL) | set(RANDOM)
    assert names(LAYER_ROWS) == set(LAYERS)
    assert quantizers <= names(WEIGHT_ROWS) and quantizers <= names(ACTIVATION_ROWS)
    assert set(FUNCTIONS) <= names(FUNCTION_ROWS)
    assert len({row.recipe.name for row in ROWS}) == len(ROWS)


def accepted(target: Target) -> list[Made]:
    return [made(row) for row in ROWS if not refusal(made(row), target)]


def test_layers_are_emitted() -> None:
    """Each once, for one of the targets in turn; all of them are in the slow test below."""
    for number, row in enumerate(LAYER_ROWS):
        if not refusal(made(row), AMD[number % len(AMD)]):
            emitted(made(row), AMD[number % len(AMD)])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_cell_is_emitted_or_refused(target: Target) -> None:
    for found in map(made, ROWS):
        if found.lowered is not None and refusal(found, target):
            with pytest.raises(UnsupportedError, match=f"^{found.lowered.name}: "):
                emitted(found, target)
        elif found.lowered is not None:
            emitted(found, target)


@pytest.mark.slow
def test_qkeras_agrees_with_the_reference() -> None:
    different = []
    for found in accepted(AMD[0]):
        graph, codes = found.lowered, inputs(found.lowered, 100)
        expected = reference.run(graph, codes).codes
        computed = inference.run(found.source.keras, found.source.trained, found.extracted, graph, codes).codes
        assert set(graph.outputs) <= set(computed) or found.row.softmax, found.row.label
        different += [
            f"{found.row.label}: {name}" for name in computed if not np.array_equal(computed[name], expected[name])
        ]
    assert different == []


def _alone(project: Project, graph: IntGraph, directory: Path) -> Level:
    write(project, directory / "project")
    program = compile_pipes(project, graph, directory / "csim", sources_digest(project))
    return partial(run, program, directory / "project", graph)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("target", SIMULATED, ids=str)
def test_csim_of_every_cell_is_the_reference(target: Target, tmp_path: Path) -> None:
    rows = accepted(target)
    projects = [emitted(found, target) for found in rows]
    graphs = [found.lowered for found in rows]
    if DIALECTS[target.backend].ports == "pipes":
        simulations = [
            _alone(project, graph, tmp_path / graph.name) for project, graph in zip(projects, graphs, strict=True)
        ]
    else:
        simulations = compile_together(projects, graphs, tmp_path)
    different = []
    for found, simulate in zip(rows, simulations, strict=True):
        graph, codes = found.lowered, inputs(found.lowered, 100)
        simulated, expected = simulate(codes).codes, reference.run(graph, codes).codes
        assert set(simulated) == {op.name for op in graph.ops}
        different += [
            f"{found.row.label}: {op.name}"
            for op in graph.ops
            if not isinstance(op, Input) and not np.array_equal(simulated[op.name], expected[op.name])
        ]
    assert different == []


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("target", [target for target in TARGETS if target.backend == "rtl"], ids=str)
def test_rtlsim_of_every_cell_is_the_reference(target: Target, tmp_path: Path) -> None:
    different = []
    for found in accepted(target):
        graph, codes = found.lowered, inputs(found.lowered, 40)
        write(emitted(found, target), tmp_path / found.row.recipe.name)
        program = compile_rtl(tmp_path / found.row.recipe.name, graph, target.io_type, tmp_path / "rtlsim")
        simulated, expected = run_rtl(program, graph, codes, stalls=1).codes, reference.run(graph, codes).codes
        different += [
            f"{found.row.label}: {op.name}"
            for op in graph.ops
            if not np.array_equal(simulated[op.name], expected[op.name])
        ]
    assert different == []


def _in_every_place(text: str) -> list[Row]:
    return [*(weight_row(text, class_name) for class_name in WEIGHTED), bias_row(text)]


@pytest.mark.slow
@pytest.mark.parametrize("text", WEIGHT_TEXTS)
def test_a_weight_quantizer_is_the_same_in_every_layer(text: str) -> None:
    as_kernel = bool(made(weight_row(text)).reason)
    reasons = [made(row).reason for row in _in_every_place(text)]
    assert [reason for reason in reasons if bool(reason) != as_kernel] == []
