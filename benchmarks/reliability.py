"""Measure what becomes of strange inputs, changed projects, kills and hostile files: the tables of docs/reliability.md.

    python benchmarks/reliability.py [--sections NAME ...] [--record]

Each row is a trial of `tests/trials.py`. Its verdict is kept in `build/reliability` until the code of `flow` or of the
trials changes, so an interrupted measurement goes on where it stopped. Workers share the rows; one that a row kills, or
that hangs in one, is replaced, and that is the verdict on the row. Needs `po2flow[train]`, g++ and pyosys.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests" / "verification"))
import test_hostile
import trials
from fixtures_cli import run_directories
from hostile_files import base_models
from hostile_inputs import KINDS, Bad
from kills import Undisturbed, undisturbed
from reliability_document import is_good, record, tables
from reported_inputs import REPORTED, Reported
from sabotage import Sabotage
from sabotage_of_files import PLACES, plots, victim
from trials import ACCEPTED, CRASHED, HUNG, REFUSED, WRONG, Verdict

from flow.runs import digest, digest_file, keep, read_kept
from flow.toolchain import run_tool

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 300.0
"""A trial that takes longer is a hang."""
KILLED = ("Vitis", "rtl")
"""Back ends whose builds are killed: at every write, and in between after each of so many parts of their time."""
PARTS = 5
Verdicts = dict[str, dict[str, Verdict | None]]
Trial = Callable[[Path], Verdict]
"""Takes an empty directory."""


# -- what the trials are done to


@dataclass(frozen=True, slots=True)
class Bases:
    """Models and finished runs below one directory; each is made when it is first asked for."""

    path: Path

    def victim(self, place: str) -> Path:
        """Return the run whose project is changed."""
        output = self.path / "victims" / place
        if not list(output.rglob("report.json")):
            trials.run_of(victim(place), PLACES[place], output)
        return run_directories(output)[0]

    def model(self) -> Path:
        """Return a user's model."""
        path: Path = _models(self.path)["chain"]["h5"][0]
        return path

    def user_run(self) -> Path:
        """Return a run of that model."""
        output = self.path / "user"
        if not list(output.rglob("report.json")):
            done = trials.flow("build", self.model(), "--output", output, "--adversarial", trials.SAMPLES)
            assert done.code == 0, done
        return run_directories(output)[0]

    def undisturbed(self, backend: str) -> tuple[Undisturbed, float]:
        """Return a build that nobody kills, and how many seconds it takes."""
        output, path = self.path / "undisturbed" / backend, self.path / f"undisturbed-{backend}.json"
        if not path.exists():
            started = time.perf_counter()
            whole = undisturbed(output, "--backend", backend)
            seconds = time.perf_counter() - started
            path.write_text(json.dumps({"report": whole.report, "moments": whole.moments, "seconds": seconds}))
        known = json.loads(path.read_text())
        return Undisturbed(output=output, report=known["report"], moments=known["moments"]), known["seconds"]


@cache
def _models(path: Path) -> Any:
    """Return the models that hostile files are made of, of this process alone."""
    own = path / f"models-{os.getpid()}"
    own.mkdir(parents=True)
    return base_models(own)


# -- rows


def _inputs(bases: Bases) -> dict[str, Trial]:
    def trial(kind: Reported, place: Path) -> Verdict:
        return trials.build(kind.write(place), place / "runs")

    return {name: partial(trial, kind) for name, kind in REPORTED.items()}


def _sabotage(bases: Bases) -> dict[str, Trial]:
    def trial(where: str, crime: Sabotage, place: Path) -> Verdict:
        return trials.sabotage(bases.victim(where), crime, place)

    return {
        f"{table} | {where} | {name}": partial(trial, where, crime) for where, table, name, crime in plots(fewer=True)
    }


def _kills(bases: Bases) -> dict[str, Trial]:
    def trial(do: Callable[..., Verdict], whole: Undisturbed, when: float, backend: str, place: Path) -> Verdict:
        return do(whole, when, backend, place)

    found: dict[str, Trial] = {}
    for backend in KILLED:
        whole, seconds = bases.undisturbed(backend)
        for moment in range(1, whole.moments + 1):
            found[f"{backend} | write {moment}"] = partial(trial, trials.killed, whole, moment, backend)
        for part in range(1, PARTS):
            after = partial(trial, trials.killed_after, whole, seconds * part / PARTS, backend)
            found[f"{backend} | after {part} of {PARTS} parts"] = after
    return found


def _models_rows(bases: Bases) -> dict[str, Trial]:
    """Return the trials of `test_hostile`: bad models, by what is bad about them."""

    def trial(test: Callable[..., None], subject: object, place: Path) -> Verdict:
        with chdir(place):
            test(_models(bases.path), subject, place)
        return Verdict(status=ACCEPTED if any(place.rglob("project")) else REFUSED)

    attacks = {f"{name.replace(': ', ' | ', 1)}": (test_hostile.test_attacks, name) for name in test_hostile.ATTACKS}
    damaged = {f"bytes | {seed}": (test_hostile.test_damaged_files, seed) for seed in range(40)}
    contorted = {f"layers | {seed}": (test_hostile.test_contorted_configurations, seed) for seed in range(60)}
    return {name: partial(trial, *row) for name, row in {**attacks, **damaged, **contorted}.items()}


def _files(bases: Bases) -> dict[str, Trial]:
    def trial(bad: Bad, place: Path) -> Verdict:
        return trials.hostile(bad, bases.model(), bases.user_run(), place)

    return {f"{kind} | {name}": partial(trial, bad) for kind, table in KINDS.items() for name, bad in table.items()}


SECTIONS: Mapping[str, Callable[[Bases], dict[str, Trial]]] = {
    "inputs": _inputs,
    "sabotage": _sabotage,
    "kills": _kills,
    "models": _models_rows,
    "files": _files,
}
"""The trials of each section, by name."""


# -- measuring


def code_key() -> str:
    """Return what verdicts hold for: the code of `flow`, of its templates and of the trials."""
    flow = [path for suffix in ("py", "h", "v") for path in sorted((ROOT / "flow").rglob(f"*.{suffix}"))]
    code = [*flow, *sorted((ROOT / "tests").glob("*.py")), Path(test_hostile.__file__)]
    return digest([digest_file(path) for path in code])


@dataclass(frozen=True, slots=True)
class Ledger:
    """Verdicts that are kept, and claims of workers on rows, in a directory.

    Attributes:
        path: the directory.
        key: of the code.
        older: whether a verdict on earlier code stands, if it is as it should be.
    """

    path: Path
    key: str
    older: bool

    @property
    def bases(self) -> Bases:
        return Bases(self.path / "bases" / self.key[:12])

    def _place(self, section: str, name: str) -> Path:
        return self.path / section / f"{digest(name)[:16]}.json"

    def verdict(self, section: str, name: str) -> Verdict | None:
        kept = read_kept(self._place(section, name), self.key)
        if kept is not None:
            return Verdict(**kept)
        older = self._older(section, name)
        return older if older is not None and is_good(section, older) else None

    def _older(self, section: str, name: str) -> Verdict | None:
        path = self._place(section, name)
        return Verdict(**json.loads(path.read_text())["result"]) if self.older and path.exists() else None

    def is_older(self, section: str, name: str) -> bool:
        """Say whether a verdict is one on earlier code."""
        return read_kept(self._place(section, name), self.key) is None

    def keep(self, section: str, name: str, verdict: Verdict) -> None:
        keep(self._place(section, name), self.key, asdict(verdict))

    def claim(self, section: str, name: str) -> bool:
        """Say whether a row has no verdict and is nobody else's; then it is the caller's."""
        claim = self._place(section, name).with_suffix(".claimed")
        claim.parent.mkdir(parents=True, exist_ok=True)
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            return False
        return self.verdict(section, name) is None

    def claimed_s(self, section: str, name: str) -> float | None:
        """Return for how long a row has been somebody's."""
        claim = self._place(section, name).with_suffix(".claimed")
        return time.time() - claim.stat().st_mtime if claim.exists() else None

    def prepare(self, sections: Sequence[str]) -> None:
        """Make what workers would else make at the same time; forget what holds no more, and claims of the dead."""
        for old in self.path.glob("bases/*"):
            if old != self.bases.path:
                shutil.rmtree(old)
        self.bases.path.mkdir(parents=True, exist_ok=True)
        for claim in self.path.rglob("*.claimed"):
            claim.unlink()
        for place in PLACES if "sabotage" in sections else ():
            self.bases.victim(place)
        if "files" in sections:
            self.bases.user_run()


def work(ledger: Ledger, sections: Sequence[str]) -> None:
    """Do rows that nobody does or did, one after another, while there is somebody who counts them."""
    parent = os.getppid()
    _models(ledger.bases.path)  # TensorFlow starts before any trial, and in none of their seconds
    for section in sections:
        for name, trial in SECTIONS[section](ledger.bases).items():
            if os.getppid() != parent:
                return
            if not ledger.claim(section, name):
                continue
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="po2flow-reliability-", ignore_cleanup_errors=True) as scratch:
                verdict = _tried(trial, Path(scratch))
            faulthandler.cancel_dump_traceback_later()
            ledger.keep(section, name, replace(verdict, seconds=round(time.perf_counter() - started, 2)))


def _tried(trial: Trial, scratch: Path) -> Verdict:
    """Return the verdict of a trial; what it raises, the flow raised, or it is a check that failed."""
    try:
        return trial(scratch)
    except test_hostile.TooLong:
        return Verdict(status=HUNG)
    except AssertionError as error:
        return Verdict(status=WRONG, reason=str(error)[:1000])
    except Exception as error:
        return Verdict(status=CRASHED, reason=f"{type(error).__name__}: {error}"[:1000])


def measure(ledger: Ledger, sections: Sequence[str], workers: int, until: float) -> Verdicts:
    """Return the verdict on every row, by section; None on those that were not tried until then, by `time.time`."""
    ledger.prepare(sections)
    rows = [(section, name) for section in sections for name in SECTIONS[section](ledger.bases)]
    options = ["--build", ledger.path, *(["--older"] if ledger.older else [])]
    command = [sys.executable, __file__, "--worker", ledger.key, *options, "--sections", *sections]
    running: list[subprocess.Popen[bytes]] = []
    with (ledger.path / "log").open("wb") as log:
        while (missing := [row for row in rows if ledger.verdict(*row) is None]) and time.time() < until:
            _bar(len(rows) - len(missing), len(rows))
            if any(process.poll() for process in running):
                _judge_the_dead(ledger, missing)
            running = [process for process in running if process.poll() is None]
            free = [row for row in missing if ledger.claimed_s(*row) is None]
            running += [
                subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT) for _ in free[len(running) : workers]
            ]
            time.sleep(1)
    for process in running:
        process.kill()
        process.wait()
    _bar(len(rows) - len(missing), len(rows))
    verdicts: Verdicts = {section: {} for section in sections}
    for section, name in rows:
        verdicts[section][name] = ledger.verdict(section, name)
    return verdicts


def _judge_the_dead(ledger: Ledger, missing: Sequence[tuple[str, str]]) -> None:
    """Keep a verdict on the row in which a worker died: the one that has been claimed for longest."""
    seconds, row = max((ledger.claimed_s(*row) or 0.0, row) for row in missing)
    status = HUNG if seconds >= LIMIT_S else CRASHED
    ledger.keep(*row, Verdict(status=status, reason="its process ended", seconds=round(seconds, 2)))


def _bar(done: int, of: int) -> None:
    filled = 40 * done // max(of, 1)
    end = "\n" if done == of else ""
    print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done} of {of} trials", end=end, file=sys.stderr, flush=True)


def _of_what(ledger: Ledger, verdicts: Verdicts) -> str:
    """Return which code the verdicts are on, and how many rows have none."""
    commit = run_tool(["git", "describe", "--always"], ROOT).strip()
    rows = [(section, name, one) for section, own in verdicts.items() for name, one in own.items()]
    made = [row for row in rows if row[2] is not None]
    older = sum(ledger.is_older(section, name) for section, name, _ in made)
    said = f"{len(made)} of {len(rows)} trials, of commit {commit}"
    left = Counter(section for section, _, one in rows if one is None)
    if older:
        said += f"; {older} of them were made some commits before"
    if left:
        said += f"; not tried for want of time: {', '.join(f'{count} of {section}' for section, count in left.items())}"
    return f"{said}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS, metavar="NAME")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "reliability", metavar="DIR")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="try nothing more after so many")
    parser.add_argument(
        "--older", action="store_true", help="let verdicts on earlier code stand that are as they should be"
    )
    parser.add_argument("--record", action="store_true", help="write the tables of docs/reliability.md")
    parser.add_argument("--worker", metavar="KEY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.build.resolve(), arguments.worker or code_key(), arguments.older)
    if arguments.worker is not None:
        work(ledger, arguments.sections)
        return
    verdicts = measure(ledger, arguments.sections, arguments.workers, time.time() + 60 * arguments.minutes)
    made = {section: {name: one for name, one in own.items() if one is not None} for section, own in verdicts.items()}
    text = f"{_of_what(ledger, verdicts)}\n\n{tables({section: own for section, own in made.items() if own})}"
    print(text)
    if arguments.record:
        record(text)


if __name__ == "__main__":
    main()
