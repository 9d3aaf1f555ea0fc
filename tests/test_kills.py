"""Builds that are killed, whenever that is, or run at the same time: each ends as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import needs_compiler
from fixtures_cli import built_digits, copy_of_digits, flow
from kills import Undisturbed, count_kills, kill, lasting
from processes import SLOWLY, environment, running


@needs_compiler
@pytest.mark.parametrize(("moment", "sign"), [(5, signal.SIGTERM), (12, signal.SIGKILL)], ids=["early", "late"])
def test_a_build_that_was_killed_goes_on(
    tmp_path_factory: pytest.TempPathFactory, moment: int, sign: signal.Signals, tmp_path: Path
) -> None:
    output, built = built_digits(tmp_path_factory)
    whole = Undisturbed(output=output, report=lasting(built.report()), moments=moment)
    assert kill(whole, moment, sign, tmp_path, compiled=True) == ""


@needs_compiler
@pytest.mark.slow
def test_a_build_that_was_killed_anywhere_goes_on(tmp_path: Path) -> None:
    counts = count_kills(tmp_path)
    assert counts == Counter({"went on": counts.total()}) and counts.total() >= 40


@needs_compiler
def test_builds_of_one_run_with_other_inputs_do_not_mix(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    output = copy_of_digits(tmp_path_factory, tmp_path).parents[2]
    asked = ["build", "digits_mlp", "--adversarial", "64", "--output", str(output), "--json"]
    counts = (40, 60)
    builds = [
        subprocess.Popen(
            [sys.executable, "-c", SLOWLY, *asked, "--samples", str(count)], stdout=subprocess.PIPE, text=True
        )
        for count in counts
    ]
    for count, build in zip(counts, builds, strict=True):
        said, _ = build.communicate(timeout=300)
        document = json.loads(said)
        assert (build.returncode, document["verdict"]["samples"], document["accuracy"]["samples"]) == (0, count, count)
        assert lasting(flow(*asked, "--samples", count).report()) == lasting(document)


@needs_compiler
@pytest.mark.slow
def test_an_interrupted_fuzzing_leaves_neither_files_nor_processes(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    place = tmp_path / "temporary"
    command = [sys.executable, "-m", "flow.cli", "fuzz", "--models", "8", "--output", str(tmp_path / "fuzz")]
    with subprocess.Popen(command, env=environment(place), stderr=subprocess.PIPE, text=True) as process:
        while not list(place.glob("po2flow.*")):  # until a worker compiles
            assert process.poll() is None
            time.sleep(0.05)
        assert len(running(place)) > 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and process.stderr is not None
        assert "interrupted; what is finished stays" in process.stderr.read()
    assert running(place) == [] and list(place.iterdir()) == []
    left = {path.name for path in (tmp_path / "fuzz" / "seed-1").iterdir()}
    assert all(name == ".lock" or name.startswith("1-") for name in left), left
