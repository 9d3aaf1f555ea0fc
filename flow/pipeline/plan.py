"""A plan: stages, each made when its value is asked for; the one place that skips, runs, times, announces and records.

A stage is a function, and what it needs are the values that its parameters name. So a list of stages with the values
given at the start is a whole build: whoever asks for the report has everything made that the report needs, in the order
of the parameters, and nothing else. A stage with a key leaves files in the run directory; while they stand there with
that key, they are read instead.

    plan = Plan((Stage(makes="graph", run=extract), Stage(name="emit", makes="project", run=emit)), {"model": model})
    plan["project"]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from flow.errors import InputError
from flow.progress import Announce
from flow.runs import RunDirectory


@dataclass(slots=True)
class Clock:
    """Seconds per stage; `announce` is called as each begins."""

    announce: Announce
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.announce(name)
        started = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - started


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of a plan.

    Attributes:
        makes: name of its value.
        run: computes it from the values that its parameters name.
        name: what is announced, timed and recorded; empty for what takes no time worth telling.
        announced: whether it is announced and timed.
        key: name of the value that says what its files were made of; empty if it is run in each build.
        files: which files of the run directory it leaves.
        load: reads its value from those files, from the values that its parameters name; raises InputError if they are
            no longer as they were left, and then it is run again.
        recorded: (value, key) -> the key that is recorded; None for a value that is not to be found again.
    """

    makes: str
    run: Callable[..., Any]
    name: str = ""
    announced: bool = True
    key: str = ""
    files: tuple[str, ...] = ()
    load: Callable[..., Any] | None = None
    recorded: Callable[[Any, str], str | None] = lambda value, key: key

    @property
    def needs(self) -> frozenset[str]:
        """Names of all values that it may ask for."""
        functions = (self.run,) if self.load is None else (self.run, self.load)
        asked = {name for function in functions for name in inspect.signature(function).parameters}
        return frozenset(asked | ({self.key} if self.key else set()))


class Plan:
    """Values by name: given at the start, or made by a stage when they are first asked for."""

    def __init__(self, stages: Sequence[Stage], given: Mapping[str, Any], announce: Announce) -> None:
        self._stages = {stage.makes: stage for stage in stages}
        self._values: dict[str, Any] = {**given, "clock": Clock(announce)}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = self._make(self._stages[name])
        return self._values[name]

    def _call(self, function: Callable[..., Any]) -> Callable[[], Any]:
        """Return a function with its values, which are made now."""
        values = {name: self[name] for name in inspect.signature(function).parameters}
        return lambda: function(**values)

    def _make(self, stage: Stage) -> Any:
        key = self[stage.key] if stage.key else ""
        if stage.load is not None:
            run: RunDirectory = self["run"]
            if run.is_done(stage.name, key):
                load = self._call(stage.load)
                with suppress(InputError):
                    return load()
        compute = self._call(stage.run)
        with self["clock"].stage(stage.name) if stage.name and stage.announced else nullcontext():
            value = compute()
            recorded = stage.recorded(value, key) if stage.key else None
            if recorded is not None:
                self["run"].mark_done(stage.name, recorded, *stage.files)
        return value
