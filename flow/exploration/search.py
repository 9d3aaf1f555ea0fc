"""The search: trials are drawn, judged after a short training, trained, and their front is confirmed by synthesis.

    ask ─▶ spec.toml ─▶ short training ─▶ among the better half? ─▶ full training ─▶ front ─▶ Yosys

A trial that was begun by a search that was interrupted is handed out again, and goes on behind its last epoch.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.backends.functions import tools
from flow.errors import FlowError, InputError, SpecError, ToolFailedError, counted, shown
from flow.exploration.found import PAGE, Exploration, counted_figures, figure_words, front_of
from flow.exploration.space import OBJECTIVES, Space, read_space
from flow.exploration.study import (
    FAILED,
    FINISHED,
    PRUNED,
    REFUSED,
    RUNNING,
    Study,
    Trial,
    goes_on,
    points,
)
from flow.exploration.trial import CONFIRMED, FULL, SHORT, confirm, measure
from flow.files import locked, writing
from flow.json_text import json_text
from flow.progress import Announce, progress
from flow.report.page.exploration import render_exploration
from flow.runs import digest, outside_runs
from flow.target import Target
from flow.train.spec import SPEC_TOML, FloatSpec, find_spec, load_spec
from flow.workers import Pool, Work, dask_pool, gone, import_extra

DATA, DATABASE, CRASH = "explore.json", "study.db", "crash.txt"
MOST_TRIALS = 100_000
MOST_REFUSED = 200
"""Proposals one after another that are no nets, after which the space is said to hold none."""
FIRST_SHORT = 4
"""So many short trainings go on whatever they give: there is nothing to hold them against."""
MOST_LOST = 5
PAUSE_S, PAGE_EVERY_S = 0.25, 20.0


# -- what users call


def explore(
    spec: str | Path,
    *,
    trials: int = 50,
    workers: int | None = None,
    scheduler: str | None = None,
    storage: str | None = None,
    budget_luts: int | None = None,
    output: Path | str = "explore",
    target: Target | None = None,
    announce: Announce | None = None,
) -> Exploration:
    """Search the space of a spec for nets that are accurate and small, also on from where an interrupted search stood.

    In a script call it below `if __name__ == "__main__":`, as workers are processes that import the script.

    Args:
        spec: a spec with a `[search]` table, or the name of a model.
        trials: how many there shall be, those of earlier calls counted.
        workers: how many processes train on this machine (default: one for two processors).
        scheduler: address of a scheduler of Dask instead, whose workers see `output` under the same path.
        storage: URL of a database for the trials (default: SQLite beside them).
        budget_luts: most LUTs; the best net within it is looked for, and trials above it count as not possible.
        output: where trials go, in a directory of their model and space.
        target: part, clock and io_type of the Verilog.
        announce: called with what is done, in words; without it a bar is shown on a terminal and in a notebook.

    Returns:
        What was found, also as a page in its directory.

    Raises:
        FlowError: one of the tree in flow.errors.
    """
    path = find_spec(spec)
    space, target, output = read_space(path), target or Target(backend="rtl"), Path(output)
    base = load_spec(path)
    for package in ("optuna", "distributed", "tomli_w"):
        import_extra(package)
    _check(base, space, trials, budget_luts, path)
    for tool in tools("synth", target).values():
        tool.check(target)
    outside_runs(output)
    space_key = digest(
        dict(space.document), [repr(each) for each in space.parameters], space.constraints, space.objectives
    )
    name = f"{base.name}-{digest(space_key, space.short, target.to_json())[:8]}"
    directory = (output / name).resolve()
    dataset = base.dataset if isinstance(base.dataset, str) else "of its own"
    with ExitStack() as held:
        announce = announce or held.enter_context(progress())
        held.enter_context(locked(directory))
        study = Study(name, space, storage or directory / DATABASE, directory, base.train.seed)
        pool = held.enter_context(dask_pool(workers, scheduler))
        facts = {"model": base.name, "dataset": dataset, "part": target.part, "budget_luts": budget_luts}
        return search(study, pool, trials, target, facts, announce)


def _check(base: Any, space: Space, trials: int, budget_luts: int | None, path: Path) -> None:
    """Refuse what no search can be made of, before anything is begun."""
    if isinstance(base, FloatSpec):
        what = "is of a float model, which takes no LUTs before it is quantized"
        raise SpecError(what, file=path, remedy="search a quantized spec")
    if not 1 <= trials <= MOST_TRIALS:
        raise SpecError(f"{trials} is not within 1 to {MOST_TRIALS}", field="trials")
    if budget_luts is not None and budget_luts < 1:
        raise SpecError(f"{budget_luts} is below 1", field="budget-luts")
    if space.objectives[0] == "luts" and budget_luts is not None:
        what = "a budget of LUTs is for what is best within it, and 'luts' is the first objective"
        raise SpecError(what, file=path, remedy=f"put another one first: {', '.join(OBJECTIVES)}")


def search(
    study: Study, pool: Pool, trials: int, target: Target, facts: Mapping[str, Any], announce: Announce
) -> Exploration:
    """Search, and write the page whatever happens; arguments as of `explore`, `facts` are fields of the result."""
    run = _Search(study, pool, trials, target, facts, announce)
    try:
        run.go_on()
    finally:
        found = run.write()
    return found


# -- the loop


@dataclass(frozen=True, slots=True)
class _Job:
    """A step of a trial: `SHORT`, `FULL` or `CONFIRMED`."""

    trial: int
    step: str
    directory: Path


class _Search:
    def __init__(
        self,
        study: Study,
        pool: Pool,
        trials: int,
        target: Target,
        facts: Mapping[str, Any],
        announce: Announce,
    ) -> None:
        self.study, self.pool, self.wanted, self.target = study, pool, trials, target
        self.facts, self.announce = facts, announce
        self.running, self.written_at, self.lost = dict[Work, _Job](), time.monotonic(), 0
        self.first = SHORT if study.space.short else FULL
        self.known = study.trials()
        mine = [each for each in self.known if each.state == RUNNING and each.directory.parent == study.directory]
        for each in [each for each in mine if not (each.directory / SPEC_TOML).is_file()]:
            study.give_up(each.number, FAILED, "the search was ended before it began")
            mine.remove(each)
        self.waiting = deque(_Job(each.number, FULL if each.short else self.first, each.directory) for each in mine)

    def go_on(self) -> None:
        """Hand out work until nothing is left to do."""
        try:
            while True:
                begun, size = False, max(1, self.pool.size())
                while len(self.running) < size and (job := self._next()) is not None:
                    self.running[self._submit(job)], begun = job, True
                if not self.running:
                    return
                ended = [work for work in self.running if work.done()]
                for work in ended:
                    self._handle(self.running.pop(work), work)
                if ended:
                    self.known = self.study.trials()
                    if time.monotonic() - self.written_at > PAGE_EVERY_S:
                        self.write()
                if ended or begun:
                    said = self._said()
                self.announce(said, min(self._done(), self.wanted), self.wanted)
                time.sleep(0 if ended else PAUSE_S)
        finally:
            for work in self.running:
                work.cancel()

    def _submit(self, job: _Job) -> Work:
        if job.step == CONFIRMED:
            return self.pool.submit(confirm, str(job.directory), self.target.to_json())
        part = self.study.space.short if job.step == SHORT else 1.0
        return self.pool.submit(measure, str(job.directory), job.step, part, self.target.to_json())

    def _next(self) -> _Job | None:
        """Return what is to be done next: what waits, a new trial, and in the end what is to be confirmed."""
        if self.waiting:
            return self.waiting.popleft()
        if sum(each.state != REFUSED for each in self.known) < self.wanted:
            return self._new()
        begun = {job.trial for job in self.running.values()}
        return next(
            (_Job(each.number, CONFIRMED, each.directory) for each in self._to_confirm() if each.number not in begun),
            None,
        )

    def _new(self) -> _Job:
        """Return the first step of a new trial, the first proposal that is a net."""
        write_toml = import_extra("tomli_w").dumps
        for _ in range(MOST_REFUSED):
            number, values = self.study.ask()
            directory = self.study.directory / f"trial-{number:04d}"
            try:
                text = write_toml(self.study.space.spec(values))
                with writing(directory / SPEC_TOML) as file:
                    file.write(text.encode())
                load_spec(directory / SPEC_TOML)
            except InputError as error:
                reason = error.at().reason
                self.study.give_up(number, REFUSED, reason)
                continue
            self.known = self.study.trials()
            return _Job(number, self.first, directory)
        what = f"{counted(MOST_REFUSED, 'proposal')} one after another are no net, the last one as {reason}"
        raise SpecError(what, remedy="change [search.space] or its constraints")

    def _handle(self, job: _Job, work: Work) -> None:
        """Keep what a step of a trial gave."""
        try:
            figures = work.result()
        except (InputError, ToolFailedError) as error:
            if job.step != CONFIRMED:
                raise
            figures = {"failed": str(error)}  # as a net that is too large for Yosys: it does not stand in the front
        except FlowError:
            raise
        except CancelledError as error:
            raise gone(error) from error
        except Exception as error:  # a bug, or a worker that died again and again with this trial
            with writing(job.directory / CRASH) as file:
                file.write("".join(traceback.format_exception(error)).encode(errors="replace"))
            self._lost(job, FAILED, f"{type(error).__name__}: {shown(error)}, see {job.directory / CRASH}", error)
            return
        unknown = [name for name in self.study.space.objectives if figures.get(name) is None]
        if "refused" in figures:
            self._lost(job, REFUSED, figures["refused"])
        elif job.step == CONFIRMED:
            self.study.keep_confirmed(job.trial, figures)
        elif unknown:
            what = f"objective '{unknown[0]}' is not measured of this net"
            raise SpecError(what, remedy="leave it out of [search] objectives")
        elif job.step == FULL:
            self.study.finish(job.trial, figures, self.facts["budget_luts"])
        else:
            self._judge(job, figures)

    def _judge(self, job: _Job, figures: Mapping[str, Any]) -> None:
        """Have a trial go on after its short training, or prune it."""
        self.study.keep_short(job.trial, figures)
        budget, objectives = self.facts["budget_luts"], self.study.space.objectives
        if budget is not None and figures["luts_low"] > budget:
            what = f"its short training takes {figures['luts']:,} LUT by the static estimate, the budget is {budget:,}"
            self.study.give_up(job.trial, PRUNED, what)
            return
        others = points([each.short for each in self.study.trials() if each.short], objectives)
        (own,) = points([figures], objectives)
        if len(others) <= FIRST_SHORT or goes_on(own, others):
            self.waiting.append(_Job(job.trial, FULL, job.directory))
        else:
            words = f"its short training is not among the better half of {len(others)}"
            self.study.give_up(job.trial, PRUNED, words)

    def _lost(self, job: _Job, state: str, reason: str, cause: Exception | None = None) -> None:
        """Keep that a trial gave no net, and why; end the search if none has given one."""
        if job.step == CONFIRMED:
            raise ToolFailedError(f"trial {job.trial} could not be confirmed: {reason}") from cause
        self.study.give_up(job.trial, state, reason)
        self.lost += 1
        if self.lost >= MOST_LOST and not any(each.state in (FINISHED, PRUNED) for each in self.study.trials()):
            what = f"the first {counted(self.lost, 'trial')} gave no net, the last one: {reason}"
            raise (SpecError if state == REFUSED else ToolFailedError)(what) from cause

    def _to_confirm(self) -> list[Trial]:
        """Return trials of the front whose LUTs are not counted yet; to count them may bring further ones into it."""
        budget, objectives = self.facts["budget_luts"], self.study.space.objectives
        finished = [
            each for each in self.known if each.state == FINISHED and each.directory.parent == self.study.directory
        ]
        able = [each for each in finished if "failed" not in each.confirmed]
        fit = [each for each in able if budget is None or each.figures["luts_low"] <= budget]
        return [each for each in front_of(fit, objectives) if not each.confirmed]

    def _done(self) -> int:
        return sum(each.state in (FINISHED, PRUNED, FAILED) for each in self.known)

    def _said(self) -> str:
        """Return what is done now, and the best of the front so far."""
        objectives = self.study.space.objectives
        front = front_of([each for each in self.known if each.state == FINISHED], objectives)
        best = sorted(front, key=lambda each: points([each.figures], objectives[:1]))[:3]
        shown = [
            (figure_words(objectives[0], each.figures[objectives[0]]), counted_figures(each)["luts"]) for each in best
        ]
        steps = [job.step for job in self.running.values()]
        doing = "confirming" if CONFIRMED in steps else f"{len(steps)} training"
        said = " | ".join(f"{words} {luts:,} LUT" for words, luts in shown)
        return f"trials ({doing}; front {said or 'empty'})"

    def write(self) -> Exploration:
        """Write page and data, and return what they say."""
        known = tuple(self.study.trials())
        space, directory = self.study.space, self.study.directory
        found = Exploration(
            directory=directory,
            objectives=space.objectives,
            trials=known,
            importances=self.study.importances(),
            **self.facts,
        )
        data = found.to_json()
        with writing(directory / DATA) as file:
            file.write((json_text(data) + "\n").encode())
        with writing(directory / PAGE) as file:
            file.write(render_exploration(data).encode())
        self.written_at = time.monotonic()
        return found
