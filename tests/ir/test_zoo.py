"""Every row of the zoo: kept by JSON and by passes, equal to the oracle on any carrier, emitted, and simulated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zoo
from conftest import needs_compiler
from nets import inputs
from oracle import evaluate

from flow.backends.hls4ml.csim import compile_together
from flow.backends.hls4ml.emit import emit
from flow.ir import reference, sums
from flow.ir.graph import Input, from_json, to_json, to_text
from flow.ir.passes import lower, passes
from flow.target import IO_TYPES, STRATEGIES, Target

RANDOM_INPUTS = 12
every_row = pytest.mark.parametrize("name", zoo.ROWS)


@every_row
def test_json_keeps_the_graph(name: str) -> None:
    for graph in (zoo.row(name), lower(zoo.row(name))):
        again = from_json(json.loads(json.dumps(to_json(graph))))
        assert to_json(again) == to_json(graph)
        assert again.digest() == graph.digest() and to_text(again) == to_text(graph)


@every_row
def test_reference_is_the_oracle(name: str) -> None:
    for graph in (zoo.row(name), lower(zoo.row(name))):
        codes = inputs(graph, RANDOM_INPUTS)
        expected, result = evaluate(graph, codes), reference.run(graph, codes)
        for op in graph.ops:
            assert np.array_equal(result.codes[op.name], expected[op.name]), op.name
        assert np.array_equal(reference.run_output(graph, codes), expected[graph.output.name])


@every_row
def test_carriers_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any wider carrier than the one chosen gives the same codes."""
    graph = lower(zoo.row(name))
    codes = inputs(graph, RANDOM_INPUTS)
    chosen = reference.run(graph, codes).codes
    order = [np.float32, np.float64, np.int64]
    for at_least in order[1:]:
        own = sums.carrier
        with monkeypatch.context() as patch:
            patch.setattr(sums, "carrier", lambda b, own=own, w=at_least: order[max(map(order.index, (own(b), w)))])
            patch.setattr(sums, "splits", lambda weight, x: ())
            wider = reference.run(graph, codes).codes
        assert all(np.array_equal(chosen[op.name], wider[op.name]) for op in graph.ops), at_least


@every_row
def test_passes_keep_the_meaning(name: str) -> None:
    graph = zoo.row(name)
    codes = inputs(graph, 100)
    expected = reference.run_output(graph, codes)
    for each in passes():
        graph = each(graph)
        assert np.array_equal(reference.run_output(graph, codes), expected), each.__name__
    layers = [layer for op in graph.ops for layer in op.layers]
    assert sorted(layers) == sorted(op.name for op in zoo.row(name).ops if not isinstance(op, Input))


@every_row
def test_emits_for_every_target(name: str) -> None:
    graph = lower(zoo.row(name))
    for backend, io_type, strategy in product(("Vitis", "Vivado"), IO_TYPES, STRATEGIES):
        target = Target(backend=backend, io_type=io_type, strategy=strategy)
        emit(graph, target)


def check_all_equal(target: Target, tmp_path: Path, rows: Sequence[str] = tuple(zoo.ROWS)) -> None:
    """Simulate rows in one program and hold every op's output against the reference."""
    graphs = [lower(zoo.row(name)) for name in rows]
    simulations = compile_together([emit(graph, target) for graph in graphs], graphs, tmp_path)
    different = []
    for graph, simulate in zip(graphs, simulations, strict=True):
        given = inputs(graph, 100)
        simulated = simulate(given)
        expected = reference.run(graph, given)
        assert set(simulated.codes) == {op.name for op in graph.ops}
        different += [
            f"{graph.name}.{op.name}"
            for op in graph.ops
            if not isinstance(op, Input) and not np.array_equal(simulated.codes[op.name], expected.codes[op.name])
        ]
    assert different == []


@needs_compiler
@pytest.mark.parametrize(("io_type", "strategy"), [("io_parallel", "Latency"), ("io_stream", "Resource")])
def test_csim_is_the_reference(io_type: str, strategy: str, tmp_path: Path) -> None:
    """Half of the rows each way; all of them every way are a slow test."""
    check_all_equal(Target(io_type=io_type, strategy=strategy), tmp_path, list(zoo.ROWS)[io_type == "io_stream" :: 2])


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("backend", "io_type", "strategy"), list(product(("Vitis", "Vivado"), IO_TYPES, STRATEGIES)))
def test_csim_is_the_reference_for_every_target(backend: str, io_type: str, strategy: str, tmp_path: Path) -> None:
    check_all_equal(Target(backend=backend, io_type=io_type, strategy=strategy), tmp_path)
