"""Sabotage: one thing changed in a project's text is found, at the right op, by reading and by running it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from nets import altered
from sabotage import LAST, SABOTAGE, TARGETS, victim

from flow.backends.functions import Level
from flow.backends.hls4ml.csim import compile_together
from flow.backends.hls4ml.emit import emit
from flow.backends.hls4ml.readback import Finding, check_project, findings
from flow.data.adversarial import adversarial_inputs
from flow.errors import EmitError
from flow.ir import reference
from flow.ir.fixed import Codes, Rounding
from flow.project import Project
from flow.results import SimResult
from flow.target import Target
from flow.verification import compare

both = pytest.mark.parametrize("target", TARGETS, ids=["parallel", "stream"])


def found(project: Project, target: Target) -> list[Finding]:
    return list(findings(project, victim(), target))


@both
def test_an_honest_project_has_no_findings(target: Target) -> None:
    assert found(emit(victim(), target), target) == []


@both
@pytest.mark.parametrize("name", SABOTAGE)
def test_reading_finds_it(name: str, target: Target) -> None:
    crime = SABOTAGE[name]
    project = crime.act(emit(victim(), target))
    seen = found(project, target)
    assert seen and {finding.op for finding in seen} == {crime.op}, seen
    assert all(crime.found in str(finding) for finding in seen), seen
    with pytest.raises(EmitError, match=rf"victim: the generated project is not the graph: op '{crime.op}'"):
        check_project(project, victim(), target)


@pytest.fixture(scope="module", params=TARGETS[:1], ids=["parallel"])
def simulations(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Level]:
    """Return, by name of the sabotage, the simulation of the project; "" is the honest one."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on PATH")
    crimes = {"": lambda project: project} | {name: crime.act for name, crime in SABOTAGE.items() if crime.cause}
    graphs, projects = [], []
    for number, act in enumerate(crimes.values()):
        graphs.append(replace(victim(), name=f"victim_{number}"))
        done = act(emit(victim(), request.param))
        files = {path.replace("victim", graphs[-1].name): text for path, text in done.files.items()}
        renamed = {path: re.sub(rb"\bvictim\b", graphs[-1].name.encode(), text) for path, text in files.items()}
        projects.append(Project(graphs[-1].name, renamed))
    compiled = compile_together(projects, graphs, tmp_path_factory.mktemp("sabotage"))
    return dict(zip(crimes, compiled, strict=True))


def test_an_honest_project_runs_as_the_reference(simulations: dict[str, Level]) -> None:
    graph = victim()
    codes = adversarial_inputs(graph, 1000)
    assert compare.first_divergence(graph, reference.run(graph, codes), simulations[""](codes), None) is None


@pytest.mark.parametrize("name", [name for name, crime in SABOTAGE.items() if crime.cause])
def test_running_finds_it(name: str, simulations: dict[str, Level]) -> None:
    crime, graph, simulate = SABOTAGE[name], victim(), simulations[name]
    codes = adversarial_inputs(graph, 1000)
    expected, other = reference.run(graph, codes), simulate(codes)

    def rerun(trial: Codes) -> tuple[SimResult, SimResult]:
        return reference.run(graph, trial), simulate(trial)

    divergence = compare.first_divergence(graph, expected, other, rerun)
    assert divergence is not None and divergence.op == crime.op and divergence.levels == ("reference", "csim")
    assert crime.cause is not None and crime.cause in divergence.cause
    first, second = (each.codes[crime.op] for each in rerun(divergence.counterexample[None]))
    assert divergence.codes[0] != divergence.codes[1] and (first != second).any()
    nonzero = np.count_nonzero(divergence.counterexample)
    assert divergence.nonzero_inputs == nonzero <= np.count_nonzero(codes[divergence.sample])
    counts = compare.mismatches(expected, other, graph.ops)
    assert next(op for op, count in counts.items() if count) == crime.op


def test_the_graph_is_what_counts() -> None:
    """Reading also finds an honest project of another graph."""
    graph = victim()
    ops = tuple(altered(op, rounding=Rounding.RND_ZERO) if op.name == LAST else op for op in graph.ops)
    seen = list(findings(emit(graph, TARGETS[0]), replace(graph, ops=ops), TARGETS[0]))
    assert [finding.op for finding in seen] == [LAST]
