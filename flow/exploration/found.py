"""What a search found: trials, their front, the best of it, and the commands that make each net again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.errors import counted
from flow.exploration.study import FAILED, FINISHED, PRUNED, REFUSED, RUNNING, Trial, dominated, points
from flow.report.page.exploration import tradeoff
from flow.train.spec import SPEC_TOML

PAGE = "explore.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What a search found.

    Attributes:
        model: name in the spec.
        directory: where trials and the page are.
        objectives: what was searched for, the first one being what `best` has most of.
        trials: all of them.
        budget_luts: as asked.
        importances: objective -> parameter -> how much it matters.
        dataset: name of the data set.
        part: that Yosys counted for.
    """

    model: str
    directory: Path
    objectives: tuple[str, ...]
    trials: tuple[Trial, ...]
    budget_luts: int | None = None
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dataset: str = ""
    part: str = ""

    @property
    def page(self) -> Path:
        """The page."""
        return self.directory / PAGE

    @property
    def front(self) -> tuple[Trial, ...]:
        """Trials of which no other is better in one objective and not worse in any, by LUTs that Yosys counted."""
        return front_of([each for each in self.trials if "luts" in each.confirmed], self.objectives)

    @property
    def best(self) -> Trial | None:
        """The best of the first objective, within the budget if there is one; None if nothing is."""
        fit = [each for each in self.front if self.budget_luts is None or each.confirmed["luts"] <= self.budget_luts]
        return min(fit, key=lambda each: points([each.figures], self.objectives[:1]), default=None)

    @property
    def exit_code(self) -> int:
        """1 if the outputs of a net that was confirmed differ, else 0."""
        return int(any(each.confirmed.get("bit_exact") is False for each in self.trials))

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        best = self.best
        return {
            "schema": 1,
            "model": self.model,
            "directory": str(self.directory),
            "dataset": self.dataset,
            "part": self.part,
            "objectives": list(self.objectives),
            "budget_luts": self.budget_luts,
            "trials": [_trial_json(each) for each in self.trials],
            "front": [each.number for each in self.front],
            "best": None if best is None else best.number,
            "importances": {name: dict(of) for name, of in self.importances.items()},
        }

    def to_text(self) -> str:
        """Return the front and how each of its nets is made again, for people."""
        count = {state: sum(each.state == state for each in self.trials) for state in STATES}
        said = ", ".join(f"{number} {state}" for state, number in count.items() if number)
        lines = [f"{self.model}: {counted(len(self.trials), 'trial')}: {said}"]
        if self.front:
            measures = [name for name in self.objectives if name != "luts"]
            lines.append(
                "  trial  " + "".join(f"{name:>10}" for name in (*measures, "test")) + "  Yosys LUT  static LUT"
            )
        for each in sorted(self.front, key=lambda trial: trial.confirmed["luts"]):
            shown = [figure_words(name, each.figures[name]) for name in self.objectives if name != "luts"]
            test = each.confirmed.get("test_accuracy")
            cells = "".join(f"{cell:>10}" for cell in (*shown, "" if test is None else figure_words("accuracy", test)))
            lines.append(f"  {each.number:5}  {cells}  {each.confirmed['luts']:9,}  {each.figures['luts']:10,}")
        if self.budget_luts is not None:
            within = f"within {self.budget_luts:,} LUT"
            lines.append(f"nothing {within}" if self.best is None else f"best {within}: trial {self.best.number}")
        if self.best is not None:
            lines += [f"  {line}" for line in rebuild(self.best)]
        return "\n".join([*lines, f"page: {self.page}"])

    def _repr_svg_(self) -> str:
        """Show the trade-off in a notebook."""
        return tradeoff(self.to_json(), alone=True)


STATES = (FINISHED, PRUNED, REFUSED, FAILED, RUNNING)


def rebuild(trial: Trial) -> tuple[str, str]:
    """Return the commands that make the net of a trial again."""
    spec, to = trial.directory / SPEC_TOML, f"rebuilt/trial-{trial.number:04d}"
    return f"flow train {spec} --output {to}", f"flow build {to} --backend rtl --until synth"


def _trial_json(trial: Trial) -> dict[str, Any]:
    named = {name: getattr(trial, name) for name in ("number", "state", "values", "figures", "short", "reason")}
    return {**named, "confirmed": dict(trial.confirmed), "directory": str(trial.directory), "commands": rebuild(trial)}


def figure_words(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:,.4g}"


def counted_figures(trial: Trial) -> dict[str, Any]:
    """Return the figures of a trial, LUTs as Yosys counted them if it did."""
    return {**trial.figures, **({"luts": trial.confirmed["luts"]} if "luts" in trial.confirmed else {})}


def front_of(trials: Sequence[Trial], objectives: Sequence[str]) -> tuple[Trial, ...]:
    ranks = dominated(points([counted_figures(each) for each in trials], objectives))
    return tuple(each for each, rank in zip(trials, ranks, strict=True) if not rank)
