"""Run the command line in this process, and share builds between tests."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flow import cli, progress
from flow.train import quiet_warnings

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        """Return the JSON that the command printed, and nothing else."""
        return dict(json.loads(self.out))


def flow(*arguments: object) -> Outcome:
    """Run `flow ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    silent = patch.object(progress, "LOG_EVERY_S", 3600.0)  # on a busy machine any work may be long
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), quiet_warnings(), silent:
        try:
            code = cli.main([str(each) for each in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(outcome: Outcome, *words: str, code: int = 2) -> str:
    """Check that a command failed as it should: its exit code, one line on stderr, no traceback, nothing on stdout."""
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert outcome.err.startswith("flow: error: "), outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, outcome.err
    return outcome.err


def run_directories(output: Path) -> list[Path]:
    """Return the run directories under an output directory."""
    return sorted(path.parent for path in output.rglob("manifest.json"))


def built_digits(temporary: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Return the output directory of one small build of digits_mlp, and what the command said; do not change it."""
    return _built_digits(temporary.getbasetemp() / "digits")


@cache
def _built_digits(output: Path) -> tuple[Path, Outcome]:
    samples = ("--samples", 100, "--adversarial", 64)
    built = flow("build", "digits_mlp", "--output", output, *samples, "--json")
    assert built.code == 0, built
    return output, built


def copy_of_digits(temporary: pytest.TempPathFactory, place: Path) -> Path:
    """Return a copy of that build's run directory, to be damaged; the output directory is three levels up."""
    output, _ = built_digits(temporary)
    shutil.copytree(output, place / "runs")
    return run_directories(place / "runs")[0]
