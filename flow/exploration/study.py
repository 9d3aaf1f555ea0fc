"""A study: trials in one of Optuna's databases, and its sampler, which proposes the next ones.

The figures of a trial are attributes of it, what Yosys counted are attributes of the study: the database holds all that
a search has found.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flow.errors import SpecError, ToolMissingError, shown
from flow.exploration.space import OBJECTIVES, Parameter, Space, Value
from flow.workers import INSTALL, import_extra

RUNNING, FINISHED, PRUNED, REFUSED, FAILED = "running", "finished", "pruned", "refused", "failed"
"""What becomes of a trial: its short training was among the worse ones (pruned), there is no such net (refused)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A point of a search.

    Attributes:
        number: of the trial.
        state: one of those above.
        values: of the parameters.
        directory: where its spec and its net are.
        figures: of its full training, as `flow.exploration.trial.measure` gives them.
        short: of its short training.
        confirmed: what synthesis said.
        reason: why it was pruned, refused or failed.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    directory: Path
    figures: Mapping[str, Any] = field(default_factory=dict)
    short: Mapping[str, Any] = field(default_factory=dict)
    confirmed: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


def import_optuna() -> Any:
    """Return Optuna.

    Raises:
        ToolMissingError: it is not installed, or too old.
    """
    optuna = import_extra("optuna")
    if int(optuna.__version__.partition(".")[0]) < 5:
        raise ToolMissingError(f"package 'optuna' is {optuna.__version__}, too old", remedy=INSTALL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Study:
    """Trials of one space, in a database."""

    def __init__(self, name: str, space: Space, storage: str | Path | None, directory: Path, seed: int) -> None:
        """Open a study, or begin it.

        Args:
            name: of the study in the database.
            space: what is sampled.
            storage: URL of a database, or an SQLite file; None keeps trials in memory.
            directory: where trials of this search go; others' of the same study lie elsewhere.
            seed: of the sampler.

        Raises:
            SpecError: the database cannot be opened.
        """
        self.optuna, self.space, self.directory = import_optuna(), space, directory
        self.distributions = {each.name: _distribution(self.optuna, each) for each in space.parameters}
        try:
            kept = self._storage(storage)
            ends = ["maximize" if OBJECTIVES[each] else "minimize" for each in space.objectives]
            self.study = self.optuna.create_study(study_name=name, storage=kept, directions=ends, load_if_exists=True)
        except Exception as error:  # of SQLAlchemy, Optuna or a driver that is not installed
            what = f"the database {shown(str(storage))} cannot be opened ({type(error).__name__}: {shown(error)})"
            raise SpecError(
                what, field="storage", remedy="give a URL of SQLAlchemy: sqlite:///FILE, postgresql://.."
            ) from error
        before = len(self.study.trials)
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed + before)
        own = space.own_values()
        if not before and own is not None:
            self.study.enqueue_trial(own)

    def _storage(self, storage: str | Path | None) -> Any:
        if storage is None:
            return None
        url = f"sqlite:///{storage}" if isinstance(storage, Path) else storage
        return self.optuna.storages.RDBStorage(
            url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
        )

    def ask(self) -> tuple[int, dict[str, Value]]:
        """Return the number and the parameters of a new trial."""
        trial = self.study.ask(self.distributions)
        trial.set_user_attr("directory", str(self.directory / f"trial-{trial.number:04d}"))
        return trial.number, dict(trial.params)

    def keep_short(self, number: int, figures: Mapping[str, Any]) -> None:
        """Keep what the short training of a trial gave."""
        self._trial(number).set_user_attr("short", dict(figures))

    def finish(self, number: int, figures: Mapping[str, Any], budget_luts: int | None) -> None:
        """Keep the figures of a trial."""
        trial = self._trial(number)
        trial.set_user_attr("figures", dict(figures))
        if budget_luts is not None:
            trial.set_constraint("luts", float(figures["luts"] - budget_luts))
        self.study.tell(number, [float(figures[name]) for name in self.space.objectives])

    def give_up(self, number: int, state: str, reason: str) -> None:
        """Keep that a trial was pruned, refused or failed, and why."""
        trial, states = self._trial(number), self.optuna.trial.TrialState
        trial.set_user_attr("state", state)
        trial.set_user_attr("reason", reason)
        self.study.tell(number, state=states.FAIL if state == FAILED else states.PRUNED)

    def keep_confirmed(self, number: int, figures: Mapping[str, Any]) -> None:
        """Keep what synthesis said of a trial, which is finished."""
        self.study.set_user_attr(f"confirmed {number}", dict(figures))

    def trials(self) -> list[Trial]:
        """Return all trials, in the order of their numbers."""
        confirmed, states = self.study.user_attrs, self.optuna.trial.TrialState
        said = {states.COMPLETE: FINISHED, states.PRUNED: PRUNED, states.FAIL: FAILED}
        return [
            Trial(
                number=each.number,
                state=each.user_attrs.get("state", said.get(each.state, RUNNING)),
                values={name: self._parameter(name).value(value) for name, value in each.params.items()},
                directory=Path(each.user_attrs.get("directory", "")),
                figures=each.user_attrs.get("figures", {}),
                short=each.user_attrs.get("short", {}),
                confirmed=confirmed.get(f"confirmed {each.number}", {}),
                reason=each.user_attrs.get("reason", ""),
            )
            for each in self.study.get_trials(deepcopy=False)
            if each.state != states.WAITING
        ]

    def importances(self) -> dict[str, dict[str, float]]:
        """Return for each objective how much each parameter matters for it (PED-ANOVA), the largest first."""
        finished = [trial for trial in self.trials() if trial.state == FINISHED]
        if len(finished) < 4:
            return {}
        found = {}
        for index, name in enumerate(self.space.objectives):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                of = self.optuna.importance.get_param_importances
                found[name] = dict(of(self.study, target=lambda trial, index=index: trial.values[index]))
        return found

    def _parameter(self, name: str) -> Parameter:
        return next(each for each in self.space.parameters if each.name == name)

    def _trial(self, number: int) -> Any:
        (frozen,) = (each for each in self.study.get_trials(deepcopy=False) if each.number == number)
        return self.optuna.trial.Trial(self.study, frozen._trial_id)


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    """Return a parameter as Optuna samples it."""
    kinds = optuna.distributions
    if parameter.choices:
        return kinds.CategoricalDistribution(parameter.labels())
    if parameter.is_integer:
        return kinds.IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1)
    return kinds.FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


# -- better and worse


def points(figures: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> list[tuple[float, ...]]:
    """Return figures as numbers of which less is better."""
    return [tuple(-each[name] if OBJECTIVES[name] else each[name] for name in objectives) for each in figures]


def dominated(given: Sequence[tuple[float, ...]]) -> list[int]:
    """Return by how many others each of some points is dominated: not worse in anything, and better in something.

    Example:
        >>> dominated([(0, 0), (1, 1), (0, 2), (0, 0)])
        [0, 2, 2, 0]
    """
    table = np.asarray(given, float).reshape(len(given), len(given[0]) if given else 0)
    not_worse = (table[:, None, :] <= table[None, :, :]).all(-1)
    better = (table[:, None, :] < table[None, :, :]).any(-1)
    return [int(count) for count in (not_worse & better).sum(0)]


def goes_on(point: tuple[float, ...], others: Sequence[tuple[float, ...]], keep: float = 0.5) -> bool:
    """Say whether a short training is among the better ones: fewer than `keep` of all are dominated by fewer others.

    As in asynchronous successive halving (Li et al. 2020) with the rank of Fonseca and Fleming (1993) for several
    objectives (Schmucker et al. 2021).

    Args:
        point: of the trial.
        others: of all short trainings so far, itself included.
        keep: the part that goes on.
    """
    ranks = dominated(others)
    own = ranks[others.index(point)]
    return sum(rank < own for rank in ranks) < keep * len(others)
