"""Trials: one thing is done to a run or a model, the command line is asked, and what it answers is judged.

A trial never raises for what the flow does wrong: that is its outcome. Tests ask for some of them,
`benchmarks/reliability.py` for all.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fixtures_cli import Outcome, flow
from sabotage import Sabotage

from flow.frontend.trained import TrainedModel
from flow.ir.graph import IntGraph
from flow.pipeline.models import Extracted
from flow.pipeline.options import BuildOptions
from flow.pipeline.plan import Plan
from flow.pipeline.stages import BUILD, WANTED
from flow.project import read, write
from flow.report.record import Report
from flow.sources import Source
from flow.target import Target

SAMPLES = 64
"""Adversarial inputs of a run that is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a trial.

    Attributes:
        status: one word; those of a table are said where it is made.
        reason: what the command line said.
        attributed: of sabotage, whether the op or the file that was changed is named.
        simulated: of sabotage, whether simulation gave other codes as well.
    """

    status: str
    reason: str = ""
    attributed: bool = False
    simulated: bool = False


CAUGHT, MISSED, CRASHED = "caught", "missed", "crashed"


def run_of(graph: IntGraph, target: Target, output: Path) -> Report:
    """Build a graph, as `flow build` builds one that a front end read; there is no software to compare with."""
    trained = TrainedModel(name=graph.name, class_name="Functional", config={}, weights={})
    options = BuildOptions(output=output, adversarial=SAMPLES)
    made = Extracted(Source(trained=trained), None, graph)
    given = {"model": Path(graph.name), "asked": target, "options": options, "announce": lambda stage: None}
    plan = Plan(BUILD, {**given, "made": made, "software": None, "remarks": ()}, lambda stage: None)
    report: Report = [plan[name] for name in WANTED["report"]][-1]
    return report


def clean(outcome: Outcome) -> str:
    """Return what is wrong about the form of an answer, whatever it says; empty if nothing is."""
    if "Traceback" in outcome.err + outcome.out:
        return "traceback: " + outcome.err.strip().splitlines()[-1]
    if outcome.code not in (0, 1, 2, 3, 4):
        return f"exit code {outcome.code}"
    if outcome.code >= 2 and not outcome.err.startswith("flow: error: "):
        return f"exit code {outcome.code} without an error: {outcome.err[:200]!r}"
    return ""


def sabotage(run: Path, crime: Sabotage, place: Path) -> Verdict:
    """Change the project of a copy of a run, and judge what `flow compare` and `flow report` say of it.

    Caught is a verdict that the run is not exact, or a refusal to give one; anything else is missed.
    """
    copy = place / run.name
    shutil.copytree(run, copy, symlinks=True)
    project = read(copy / "project", json.loads((copy / "graph.json").read_text())["name"])
    after = crime.act(project)
    paths = {path for path in {*project.files, *after.files} if project.files.get(path) != after.files.get(path)}
    assert paths, "nothing was changed"
    write(after, copy / "project")
    compared, reported = flow("compare", copy, "--json"), flow("report", copy, "--format", "json")
    verdict = _judged(compared, {*paths, *filter(None, [crime.op])})
    if verdict.status == CAUGHT and _calls_it_exact(reported):
        return replace(verdict, status=MISSED, reason=f"flow report calls it bit exact, after: {verdict.reason}")
    return verdict


def _judged(outcome: Outcome, names: set[str]) -> Verdict:
    """Return the verdict on a comparison; it should name one of `names`."""
    wrong = clean(outcome)
    if wrong:
        return Verdict(status=CRASHED, reason=wrong)
    if outcome.code >= 2:
        return Verdict(status=CAUGHT, reason=outcome.err, attributed=_named(names, outcome.err))
    found = outcome.report()["verdict"]
    divergence = found["first_divergence"]
    said = "; ".join([*found["file_differences"], *([f"op '{divergence['op']}'"] if divergence else [])])
    exact = found["bit_exact"] is not False or outcome.code != 1
    status = MISSED if exact else CAUGHT
    return Verdict(status=status, reason=said, attributed=_named(names, said), simulated=found["mismatches"] > 0)


def _named(names: set[str], text: str) -> bool:
    return any(name in text for name in names)


def _calls_it_exact(outcome: Outcome) -> bool:
    """Say whether a report, read after a comparison found a difference, still says that there is none."""
    return outcome.code == 0 and bool(_document(outcome).get("verdict", {}).get("bit_exact"))


def _document(outcome: Outcome) -> dict[str, Any]:
    try:
        return outcome.report()
    except ValueError:
        return {}
