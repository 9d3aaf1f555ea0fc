"""Trials: one thing is done to a run or a model, the command line is asked, and what it answers is judged.

A trial never raises for what the flow does wrong: that is its outcome. Tests ask for some of them,
`benchmarks/reliability.py` for all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from unittest.mock import patch

import numpy as np
from fixtures_cli import Outcome, flow
from hostile_inputs import FILE, GOOD, MODEL, RUN, Bad
from kills import BUILT, Undisturbed, kill, lasting, leftovers
from sabotage import Sabotage

from flow.frontend.trained import TrainedModel
from flow.ir.graph import IntGraph
from flow.pipeline import driver
from flow.pipeline.models import Extracted
from flow.pipeline.options import BuildOptions
from flow.pipeline.plan import Stage
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
        seconds: that it took.
    """

    status: str
    reason: str = ""
    attributed: bool = False
    simulated: bool = False
    seconds: float = 0.0


CAUGHT, MISSED, CRASHED = "caught", "missed", "crashed"
EXACT, REFUSED, ACCEPTED, RESUMED, WRONG, HUNG = ("exact", "refused", "accepted", "resumed", "wrong", "hung")


def run_of(graph: IntGraph, target: Target, output: Path) -> Report:
    """Build a lowered graph, as `flow build` builds one that a front end read; there is no software to compare with."""
    trained = TrainedModel(name=graph.name, class_name="Functional", config={}, weights={})
    made = Extracted(Source(trained=trained), None, graph)
    stages = (
        Stage(makes="made", run=lambda: made),
        Stage(makes="lowered", run=lambda: graph),  # as it is: changes name what stands in its files
        Stage(makes="software", run=lambda: None),
        Stage(makes="remarks", run=lambda: ()),
    )
    with patch.object(driver, "BUILD", (*driver.BUILD, *stages)):
        return driver.build(graph.name, target, BuildOptions(output=output, adversarial=SAMPLES))


def clean(outcome: Outcome) -> str:
    """Return what is wrong about the form of an answer, whatever it says; empty if nothing is."""
    if "Traceback" in outcome.err + outcome.out:
        return "traceback: " + outcome.err.strip().splitlines()[-1]
    if outcome.code not in (0, 1, 2, 3, 4):
        return f"exit code {outcome.code}"
    if outcome.code >= 2 and not outcome.err.startswith(("flow: error: ", "usage: flow ")):  # the latter is argparse's
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
    return Verdict(status=status, reason=said, attributed=_named(names, said), simulated=bool(found["mismatches"]))


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


# -- models


def build(arguments: Sequence[object], place: Path) -> Verdict:
    """Build a model for Vitis and as Verilog; exact is exact for both, and QKeras must have been compared."""
    for backend in ("Vitis", "rtl"):
        outcome = flow("build", *arguments, "--backend", backend, "--adversarial", SAMPLES, "--output", place, "--json")
        wrong = clean(outcome)
        if wrong:
            return Verdict(status=CRASHED, reason=f"{backend}: {wrong}")
        if outcome.code == 2:
            return Verdict(status=REFUSED, reason=outcome.err.removeprefix("flow: error: ").strip())
        document = _document(outcome)
        verdict = document.get("verdict", {})
        if outcome.code or verdict.get("bit_exact") is not True or len(verdict["compared"]) != 3:
            said = outcome.err or f"{verdict.get('mismatches')} outputs differ, of {verdict.get('compared')}"
            return Verdict(status=WRONG, reason=f"{backend}: {said}")
    return Verdict(status=EXACT)


# -- bad files and arguments


def hostile(bad: Bad, model: Path, run: Path, place: Path) -> Verdict:
    """Give a command a bad file or argument, in an empty directory of its own."""
    copy, file = place / "run" / run.name, place / f"bad{bad.suffix}"
    if RUN in bad.arguments:
        shutil.copytree(run, copy, symlinks=True)
    if bad.harm is not None:
        bad.harm(copy)
    if isinstance(bad.content, bytes):
        file.write_bytes(bad.content)
    elif bad.content is not None:
        bad.content(file)
    np.save(place / "good.npy", GOOD)
    words = {MODEL: model, RUN: copy, FILE: file}
    with contextlib.chdir(place):
        outcome = flow(*(words.get(argument, argument) for argument in bad.arguments))
    wrong = clean(outcome)
    if wrong:
        return Verdict(status=CRASHED, reason=wrong)
    status = {0: ACCEPTED, 1: CAUGHT}.get(outcome.code, REFUSED) if outcome.code in bad.codes else WRONG
    return Verdict(status=status, reason=f"exit code {outcome.code}: {outcome.err.strip()}")


# -- kills


def killed(whole: Undisturbed, moment: int, backend: str, place: Path) -> Verdict:
    """Kill a build before its how many-th file has its name; the same build must then go on as if nothing had been."""
    wrong = kill(whole, moment, signal.SIGKILL, place, "--backend", backend, compiled=True)
    return Verdict(status=WRONG if wrong else RESUMED, reason=wrong)


def killed_after(whole: Undisturbed, seconds: float, backend: str, place: Path) -> Verdict:
    """The same wherever a build from nothing is by then; a compiler that it started goes on alone."""
    command = [*BUILT, str(place), "--backend", backend]
    process = subprocess.Popen([sys.executable, "-m", "flow.cli", *command], stdout=DEVNULL, stderr=DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    process.wait()
    for path in place.rglob(".writing-*"):
        os.utime(path, (0, 0))
    again = flow(*command)
    if clean(again) or again.code:
        return Verdict(status=CRASHED, reason=f"exit code {again.code}: {again.err}")
    same, left = lasting(again.report()) == whole.report, leftovers(place)
    return Verdict(status=RESUMED if same and not left else WRONG, reason=f"the same report: {same}; left: {left}")
