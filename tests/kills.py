"""Kills of a build at every write: the same build then ends as if nothing had been, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtures_cli import flow

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
BUILT = ("build", "digits_mlp", "--samples", "100", "--adversarial", "64", "--json", "--output")
KILLED = """
import os, signal, sys
from flow.cli import main
number, moment, *arguments = sys.argv[1:]
count, replace = 0, os.replace
def counted(*paths):
    global count
    count += 1
    if count == int(moment):  # the file is written and has not its name yet
        os.kill(os.getpid(), int(number))
    replace(*paths)
os.replace = counted
code = main(arguments)
print(count, file=sys.stderr)
sys.exit(code)
"""
"""Every file and folder gets its name by `os.replace`."""
LEFT = (".writing-*", "tmp*", "*.tmp", "new", "old")
NEVER = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A build that nobody killed.

    Attributes:
        output: where it is; its simulations are compiled.
        report: what of its report is the same each time.
        moments: how often something was renamed.
    """

    output: Path
    report: Any
    moments: int


def _run(number: int, moment: int, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, str(number), str(moment), *BUILT, str(output), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def undisturbed(output: Path, *more: str) -> Undisturbed:
    """Return a build from nothing; its moments are those of another one that finds the simulations compiled."""
    done = _run(0, NEVER, output, *more)
    assert done.returncode == 0, done.stderr
    with tempfile.TemporaryDirectory() as again:
        _copy_simulations(output, Path(again))
        moments = int(_run(0, NEVER, Path(again), *more).stderr.splitlines()[-1])
    return Undisturbed(output=output, report=lasting(json.loads(done.stdout)), moments=moments)


def _copy_simulations(of: Path, to: Path) -> None:
    for cache in (*of.rglob("csim"), *of.rglob("rtlsim")):
        if cache.is_dir() and cache.parent.name != "project":
            shutil.copytree(cache, to / cache.relative_to(of))


def lasting(document: Mapping[str, Any]) -> Any:
    """Return what of a report is the same in every build: all but times and places."""
    told = {
        key: value for key, value in document.items() if key not in ("timings_s", "run_dir", "provenance", "project")
    }
    return json.loads(json.dumps(told), object_hook=lambda each: {k: v for k, v in each.items() if k != "seconds"})


def kill(whole: Undisturbed, moment: int, sign: signal.Signals, output: Path, *more: str, compiled: bool) -> str:
    """Kill a build at a moment, build again, and return what is wrong; nothing if nothing is.

    Args:
        whole: what the second build must give.
        moment: before the how many-th renaming.
        sign: the signal.
        output: an empty directory.
        more: arguments of the build.
        compiled: the simulations of `whole` are there already, which saves their compilation.
    """
    if compiled:
        _copy_simulations(whole.output, output)
    ended = _run(sign, moment, output, *more)
    expected = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[sign]
    if ended.returncode != expected or "Traceback" in ended.stderr:
        return f"ended with status {ended.returncode}, not {expected}: {ended.stderr}"
    if sign != signal.SIGKILL and (left := leftovers(output)):
        return f"left by a process that could tidy up: {left}"
    for path in output.rglob(".writing-*"):  # where several processes write, one may not be claimed for a minute yet
        os.utime(path, (0, 0))
    again = flow(*BUILT, output, *more)
    if again.code != 0:
        return f"the next build ended with status {again.code}: {again.err}"
    if lasting(again.report()) != whole.report:
        return "the next build has another report"
    return f"left: {left}" if (left := leftovers(output)) else ""


def leftovers(output: Path) -> list[str]:
    """Return scratch files and folders below a directory."""
    return sorted(str(path.relative_to(output)) for pattern in LEFT for path in output.rglob(pattern))


def count_kills(place: Path, moments: Sequence[int] | None = None, *more: str) -> Counter[str]:
    """Kill builds with each signal at each renaming; return how many went on, and what went wrong how often.

    Args:
        place: an empty directory.
        moments: before which renamings; all of them if None.
        more: arguments of the build, like `--backend rtl`.
    """
    whole, counts = undisturbed(place / "whole", *more), Counter[str]()
    for moment in range(1, whole.moments + 1) if moments is None else moments:
        for sign in SIGNALS:
            output = place / f"{moment}-{sign.name}"
            wrong = kill(whole, moment, sign, output, *more, compiled=True)
            counts[f"before renaming {moment}, {sign.name}: {wrong}" if wrong else "went on"] += 1
            shutil.rmtree(output)
    return counts
