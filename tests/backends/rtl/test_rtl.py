"""The Verilog of every row of the zoo, simulated: bit for bit the reference, whatever the ports do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import zoo
from nets import Net, s, u

from flow.backends.rtl.netlists.pipelining import Clock
from flow.backends.rtl.simulation.rtlsim import RtlRun, compile_rtl, run_rtl
from flow.backends.rtl.verilog.depths import edge_depths
from flow.backends.rtl.verilog.emit import emit
from flow.backends.rtl.verilog.kernels import refusals
from flow.backends.rtl.verilog.stages import stream_module
from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import parse_format
from flow.errors import EmitError, UnsupportedError
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.ir.graph import Input, IntGraph
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import Target
from flow.train.random_models import random_recipe

IO_TYPES = ("io_parallel", "io_stream")


def target(io_type: str) -> Target:
    return Target(backend="rtl", io_type=io_type)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rtlsim")


def simulate(
    project: Project, graph: IntGraph, io_type: str, directory: Path, cache: Path, stalls: int | None = None
) -> RtlRun:
    """Run 40 adversarial inputs and hold every op against the reference."""
    write(project, directory)
    codes = adversarial_inputs(graph, 40)
    run = run_rtl(compile_rtl(directory, graph, io_type, cache), graph, codes, stalls=stalls)
    expected = reference.run(graph, codes)
    for op in graph.ops:
        np.testing.assert_array_equal(run.codes[op.name], expected.codes[op.name], err_msg=op.name)
    return run


@pytest.mark.parametrize(
    ("row", "io_type"),
    [
        pytest.param(row, io_type, marks=() if (number + turn) % 4 == 0 else pytest.mark.slow)
        for number, row in enumerate(zoo.ROWS)
        for turn, io_type in enumerate(IO_TYPES)
    ],
)
def test_verilog_is_the_reference(row: str, io_type: str, tmp_path: Path, cache: Path) -> None:
    graph = lower(zoo.row(row))
    simulate(emit(graph, target(io_type)), graph, io_type, tmp_path, cache, stalls=3)


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_sums_that_pass_one_input_on_are_wires(io_type: str, tmp_path: Path, cache: Path) -> None:
    """At each of several positions, where the module has more inputs than the one that is left; beside padding too."""
    net = Net((3, 2), u(4), "passes").dense([[0], [1]]).conv([[[4]], [[0]]], padding="same")
    graph = lower(net.requantize(s(8)).graph())
    simulate(emit(graph, target(io_type)), graph, io_type, tmp_path, cache)


def residual() -> IntGraph:
    """Return a graph whose skip branch must wait for a convolution of 3 x 3."""
    net = Net((6, 5, 2), u(4), "residual").requantize(u(4)).mark("skip")
    net.conv(zoo.po2(3, 3, 2, 2), padding="same").requantize(u(4)).mark("through")
    return lower(net.merge("add", "through", "skip").requantize(u(5)).graph())


def test_a_branch_has_the_words_it_needs(tmp_path: Path, cache: Path) -> None:
    """With the FIFO of the skip branch cut to one word, the fork waits for ever; with that of `depths`, for nothing."""
    graph = residual()
    ops = [op for op in graph.ops if not isinstance(op, Input)]
    modules = {op.name: stream_module(op, graph, Clock(period_ns=5.0), f"x_{op.name}") for op in ops}
    depth = max(edge_depths(graph, modules).values())
    project = emit(graph, target("io_stream"))
    run = simulate(project, graph, "io_stream", tmp_path / "whole", cache)
    assert run.initiation_interval_cycles == (6 + 2) * (5 + 2)  # the padded frame: no stage waits for another
    top = f"rtl/{graph.name}.v"
    cut = re.sub(rb"\.DEPTH\(%d\)" % depth, b".DEPTH(1)", project.files[top])
    assert cut != project.files[top]
    with pytest.raises(EmitError, match="nothing passes any more"):
        simulate(Project(graph.name, {**project.files, top: cut}), graph, "io_stream", tmp_path / "cut", cache)


@pytest.mark.parametrize("io_type", IO_TYPES)
@pytest.mark.parametrize("row", ["everything", "residual", "branch_strided", "two_outputs", "softmax", "scan"])
def test_timing_is_what_simulation_measures(row: str, io_type: str, tmp_path: Path, cache: Path) -> None:
    graph = lower(zoo.row(row))
    project = emit(graph, target(io_type))
    run = simulate(project, graph, io_type, tmp_path, cache)
    stated = json.loads(project.files["design.json"])["timing"]
    assert [run.latency_cycles, run.initiation_interval_cycles] == stated


@pytest.mark.parametrize(
    "index", [pytest.param(index, marks=() if index in (5, 10, 21, 26) else pytest.mark.slow) for index in range(200)]
)
def test_random_models(index: int, tmp_path: Path, cache: Path) -> None:
    """Random QKeras models; the four of the default selection once failed."""
    pytest.importorskip("flow.train")
    from flow.train.functions import evaluate
    from flow.train.recipes import forget, from_recipe

    recipe = random_recipe(7, index)
    forget()
    fmt = None if recipe.input_format is None else parse_format(recipe.input_format)
    try:
        graph = lower(extract(from_recipe(recipe).trained, fmt, evaluate=evaluate))
    except UnsupportedError as error:
        pytest.skip(str(error))
    if any(refusals(graph)):
        pytest.skip("a table too wide")
    for io_type in IO_TYPES:
        simulate(emit(graph, target(io_type)), graph, io_type, tmp_path / io_type, cache, stalls=2)
