"""Sabotage per op: every mutant that changes an output is caught by the inputs of a build, and by reading back.

A mutant counts if it changes a code of its op for any input of `many_inputs`. It is caught if it does so for the 2048
inputs that `flow build` runs; ops before it are untouched, so what diverges first is the mutated op. That a project
of a mutated graph computes what the mutant says, and that `first_divergence` names it, is held against C simulation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import zoo
from conftest import Golden, needs_compiler
from mutants import Mutant, mutants, site, targets

from flow.backends.hls4ml.csim import compile_together
from flow.backends.hls4ml.emit import emit
from flow.backends.hls4ml.readback import findings
from flow.data.adversarial import adversarial_inputs
from flow.errors import UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.pipeline import BuildOptions
from flow.project import Project
from flow.target import IO_TYPES, Target
from flow.verification.compare import first_divergence

SEED = 11
BUILD_INPUTS = next(item.default for item in fields(BuildOptions) if item.name == "adversarial")
EXHAUSTIVE_BITS = 16
"""Ports of up to so many bits are decided by all their inputs."""
RANDOM, STEERED, CHUNK = 8000, 8192, 4096
SIMULATED = 24
"""Projects in the default simulation."""
GOAL = 0.99


def many_inputs(graph: IntGraph) -> Codes:
    """Return the inputs that decide whether a mutant changes anything: all of them, or many of many kinds."""
    low, high = graph.port_limits()
    if np.log2((high - low + 1).astype(float)).sum() <= EXHAUSTIVE_BITS:
        axes = [np.arange(first, last + 1) for first, last in zip(low.flat, high.flat, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, *low.shape)
    rng = np.random.default_rng(SEED)
    shape = (RANDOM, *low.shape)
    codes = rng.integers(low, high, shape, endpoint=True)
    ends = np.choose(rng.integers(0, 3, shape), np.broadcast_arrays(low, np.zeros(shape, np.int64), high))
    sparse = np.where(rng.random(shape) < 0.15, codes, 0)
    mixed = np.where(rng.random(shape) < 0.8, ends, codes)
    return np.concatenate([adversarial_inputs(graph, STEERED), codes, ends, sparse, mixed])


@dataclass
class Tally:
    """Mutants of each kind of op that change an output, those of them that are caught, and the names of the rest."""

    changing: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def share(self) -> float:
        return self.caught.total() / self.changing.total()


def tally(most: int | None) -> Tally:
    """Try the mutants of each op of each row, at most `most` of a kind."""
    counts = Tally()
    for name in zoo.ROWS:
        graph = lower(zoo.row(name))
        few = reference.run(graph, adversarial_inputs(graph, BUILD_INPUTS)).codes
        many: dict[str, Codes] | None = None
        for op in targets(graph):
            where, parts = site(graph, op, few), []
            for mutant in mutants(graph, op, most):
                caught = mutant.differs(where)
                if not caught:
                    many = many or reference.run(graph, many_inputs(graph)).codes
                    total = len(many[op.name])
                    parts = parts or [
                        site(graph, op, {each: codes[start : start + CHUNK] for each, codes in many.items()})
                        for start in range(0, total, CHUNK)
                    ]
                    if not any(mutant.differs(part) for part in parts):
                        continue
                    counts.missed.append(f"{name}.{op.name}: {mutant.kind}: {mutant.what}")
                counts.changing[op.kind] += 1
                counts.caught[op.kind] += caught
    return counts


def test_the_inputs_of_a_build_catch_mutants() -> None:
    counts = tally(2)
    assert counts.changing.total() > 2000
    assert counts.share() >= GOAL, counts.missed


@pytest.mark.slow
def test_the_inputs_of_a_build_catch_mutants_of_each_kind_of_op(golden: Golden) -> None:
    """All mutants; those that are missed are listed in `tests/golden/missed_mutants.txt`."""
    counts = tally(None)
    golden("missed_mutants.txt", "\n".join([*counts.missed, ""]))
    kinds = {kind: (counts.caught[kind], changing) for kind, changing in counts.changing.items()}
    assert all(caught >= GOAL * changing for caught, changing in kinds.values()), kinds


@dataclass(frozen=True)
class Case:
    """A mutant that a graph can state, with its row and the graph that has it."""

    row: IntGraph
    mutant: Mutant
    graph: IntGraph

    def __str__(self) -> str:
        return f"{self.row.name}.{self.mutant.op.name}: {self.mutant.kind}: {self.mutant.what}"


def cases(each: int, target: Target) -> Iterator[tuple[Case, Project]]:
    """Yield mutants with their projects, `each` of every kind for every kind of op; rows come in an order by chance."""
    rng, seen, names = np.random.default_rng(SEED), Counter[tuple[str, str]](), list(zoo.ROWS)
    for number in rng.permutation(len(names)):
        row = lower(zoo.row(names[number]))
        for op in targets(row):
            for mutant in mutants(row, op, 1):
                graph = mutant.graph(row)
                if graph is None or seen[op.kind, mutant.kind] == each:
                    continue
                try:
                    project = emit(graph, target)
                except UnsupportedError:  # it is caught even before: no project can have it
                    continue
                seen[op.kind, mutant.kind] += 1
                yield Case(row, mutant, graph), project


def check_reading(each: int, target: Target) -> None:
    """Read back projects of mutated graphs: the first thing found is at the mutated op."""
    wrong, kinds = [], set()
    for case, project in cases(each, target):
        found = next(findings(project, case.row, target), None)
        kinds.add(case.row[case.mutant.op.name].kind)
        if found is None or found.op != case.mutant.op.name:
            wrong.append(f"{case}: {found}")
    assert wrong == []
    assert kinds == {op.kind for name in zoo.ROWS for op in targets(lower(zoo.row(name)))}


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_reading_finds_mutants(io_type: str) -> None:
    check_reading(1, Target(io_type=io_type))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["Latency", "Resource"])
@pytest.mark.parametrize("io_type", IO_TYPES)
def test_reading_finds_more_mutants(io_type: str, strategy: str) -> None:
    check_reading(8, Target(io_type=io_type, strategy=strategy))


def check_simulations(each: int, most: int | None, target: Target, directory: Path) -> None:
    """Simulate projects of mutated graphs: they give the codes of their mutants, and their op is named."""
    chosen = [case for case, _ in islice(cases(each, target), most)]
    graphs = [replace(case.graph, name=f"mutant_{number}") for number, case in enumerate(chosen)]
    simulations = compile_together([emit(graph, target) for graph in graphs], graphs, directory)
    for case, simulate in zip(chosen, simulations, strict=True):
        codes = adversarial_inputs(case.row, 256)
        expected, simulated = reference.run(case.row, codes), simulate(codes)
        op = case.row[case.mutant.op.name]
        where = site(case.row, op, expected.codes)
        assert np.array_equal(simulated.codes[op.name], case.mutant.codes(where)), str(case)
        if case.mutant.differs(where):
            divergence = first_divergence(case.row, expected, simulated, None)
            assert divergence is not None and divergence.op == op.name, str(case)


@needs_compiler
def test_projects_of_mutants_give_their_codes(tmp_path: Path) -> None:
    check_simulations(1, SIMULATED, Target(), tmp_path)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("io_type", IO_TYPES)
def test_more_projects_of_mutants_give_their_codes(io_type: str, tmp_path: Path) -> None:
    check_simulations(4, None, Target(io_type=io_type), tmp_path)
