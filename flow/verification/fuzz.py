"""Fuzzing: random QKeras models go the whole way, many in one C++ compilation, and every difference is shrunk and kept.

    for each model     recipe -> Keras -> extract -> passes -> emit
    for each batch     one compilation; csim, QKeras and the reference on the same codes, every op compared
    for every tenth    the Verilog of the back end rtl, simulated on these codes too

Workers are processes of their own (TensorFlow and g++ fill a processor each) that write one JSON file per model, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flow.backends.functions import Site, folds, functions
from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import parse_format
from flow.errors import InputError, SpecError, ToolFailedError, ToolMissingError, UnsupportedError, at, counted, shown
from flow.files import BESIDE, locked, temporary
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, to_text
from flow.ir.passes import lower
from flow.progress import Announce, silent
from flow.project import Project, write
from flow.results import SimResult
from flow.runs import RunDirectory
from flow.target import Target
from flow.toolchain import ending_in_order, run_pool
from flow.train.random_models import Recipe, random_recipe, smaller
from flow.verification.compare import mismatches
from flow.workers import dask_pool

BATCH = 24
"""Models compiled at once by one worker."""
INPUTS = 96
"""Adversarial inputs per model."""
SHRINK_TRIALS = 60
EXACT, REFUSED, DIFFERS, CRASHED = "exact", "refused", "differs", "crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one model.

    Attributes:
        name: of the recipe.
        status: `EXACT`, `REFUSED` (by an UnsupportedError), `DIFFERS` or `CRASHED`.
        reason: why, if not exact.
        general: of a refusal, what is wrong and what to do, without where.
        ops: number of ops of its graph.
        seconds: that it took, its share of the compilation included.
    """

    name: str
    status: str
    reason: str = ""
    general: str = ""
    ops: int = 0
    seconds: float = 0.0

    @property
    def is_finding(self) -> bool:
        """Whether a developer must look at it."""
        return self.status in (DIFFERS, CRASHED)


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A model on its way: all but its simulation."""

    recipe: Recipe
    target: Target
    graph: IntGraph
    project: Project
    codes: Codes
    expected: SimResult
    qkeras: SimResult


def try_recipes(recipes: Sequence[Recipe]) -> Iterator[Outcome]:
    """Yield the outcome of each recipe, simulated in batches."""
    for batch in (recipes[start : start + BATCH] for start in range(0, len(recipes), BATCH)):
        started = time.perf_counter()
        prepared = [_guarded(recipe, _prepare, recipe) for recipe in batch]
        outcomes = [each for each in prepared if isinstance(each, Outcome)]
        ready = [each for each in prepared if isinstance(each, _Ready)]
        for io_type in ("io_parallel", "io_stream"):
            outcomes += _simulated([each for each in ready if each.recipe.io_type == io_type])
        share = (time.perf_counter() - started) / len(batch)
        yield from (replace(outcome, seconds=share) for outcome in outcomes)


def _guarded(recipe: Recipe, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or the outcome that its exception means."""
    try:
        return function(*arguments)
    except ToolMissingError:
        raise
    except UnsupportedError as error:
        general = str(UnsupportedError(error.what, remedy=error.remedy))
        return Outcome(name=recipe.name, status=REFUSED, reason=str(error), general=general)
    except Exception:  # whatever it is, it is a finding
        return Outcome(name=recipe.name, status=CRASHED, reason=traceback.format_exc(limit=-6))


def _prepare(recipe: Recipe) -> _Ready | Outcome:
    from flow.train import inference
    from flow.train.functions import evaluate
    from flow.train.recipes import forget, from_recipe

    forget()
    made = from_recipe(recipe)
    fmt = None if recipe.input_format is None else parse_format(recipe.input_format)
    target = Target(backend=recipe.backend, io_type=recipe.io_type, strategy=recipe.strategy)
    extracted = extract(made.trained, fmt, evaluate=evaluate, folds=folds(target))
    graph = lower(extracted, stream=recipe.io_type == "io_stream")
    codes = adversarial_inputs(graph, INPUTS)
    expected = reference.run(graph, codes)
    qkeras = inference.run(made.keras, made.trained, extracted, graph, codes)
    wrong = _first_wrong(graph, expected, qkeras)
    if wrong is not None:
        return Outcome(name=recipe.name, status=DIFFERS, reason=wrong, ops=len(graph.ops))
    return _Ready(recipe, target, graph, functions(target).emit(graph, target), codes, expected, qkeras)


def _first_wrong(graph: IntGraph, expected: SimResult, other: SimResult) -> str | None:
    for name, count in mismatches(expected, other, graph.ops).items():
        if count:
            total = expected.codes[name].size
            where = f"op '{name}' ({graph[name].kind})"
            return f"{other.level} differs from the reference first at {where}: {count} of {total}"
    return None


def _simulated(ready: Sequence[_Ready]) -> list[Outcome]:
    """Compile together and compare; if the compilation fails, one by one, so that the culprit is named."""
    if not ready:
        return []
    compile_together = functions(ready[0].target).compile_together
    assert compile_together is not None, f"{ready[0].target.backend} has no common compilation"
    with temporary() as scratch:
        try:
            projects, graphs = [each.project for each in ready], [each.graph for each in ready]
            simulations = compile_together(projects, graphs, scratch)
        except ToolFailedError as error:
            if len(ready) == 1:
                return [Outcome(name=ready[0].recipe.name, status=CRASHED, reason=str(error))]
            half = len(ready) // 2
            return _simulated(ready[:half]) + _simulated(ready[half:])
        pairs = zip(ready, simulations, strict=True)
        return [_guarded(each.recipe, _verdict, each, simulate, scratch) for each, simulate in pairs]


def _verdict(each: _Ready, simulate: Callable[[Codes], SimResult], scratch: Path) -> Outcome:
    wrong = _first_wrong(each.graph, each.expected, simulate(each.codes))
    if wrong is None and each.recipe.rtlsim:
        wrong = _first_wrong(each.graph, each.expected, _verilog(each, scratch))
    status = EXACT if wrong is None else DIFFERS
    return Outcome(name=each.recipe.name, status=status, reason=wrong or "", ops=len(each.graph.ops))


def _verilog(each: _Ready, scratch: Path) -> SimResult:
    """Simulate the Verilog of a graph; the simulator is built once for a `scratch` directory."""
    target = Target(backend="rtl", io_type=each.recipe.io_type)
    site = Site(path=scratch / "verilog", graph=each.graph, target=target)
    write(functions(target).emit(each.graph, target), site.project)
    return functions(target).compile(site)(each.codes)


def shrink(recipe: Recipe, outcome: Outcome) -> tuple[Recipe, Outcome]:
    """Return a recipe with fewer layers that fails in the same way, and its outcome."""
    for _ in range(SHRINK_TRIALS):
        for candidate in smaller(recipe):
            if len(candidate.config["layers"]) >= len(recipe.config["layers"]):
                continue
            (found,) = try_recipes([candidate])
            if found.status == outcome.status and _kind(found) == _kind(outcome):
                recipe, outcome = candidate, found
                break
        else:
            break
    return recipe, outcome


def _kind(outcome: Outcome) -> str:
    """Return what two outcomes of the same cause share: the level that differs, or the last line of a traceback."""
    last = outcome.reason.strip().splitlines()[-1]
    return last.split(" ")[0] if outcome.status == DIFFERS else last.split(":")[0]


def describe(recipe: Recipe) -> str:
    """Return the integer graph of a recipe as text, or why it has none."""
    from flow.train.functions import evaluate
    from flow.train.recipes import from_recipe

    try:
        fmt = None if recipe.input_format is None else parse_format(recipe.input_format)
        return to_text(lower(extract(from_recipe(recipe).trained, fmt, evaluate=evaluate)))
    except Exception as error:  # it may be what the recipe was kept for
        return f"no graph: {error}"


# -- the run


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcomes of a run.

    Attributes:
        outcomes: one per model.
        seconds: wall clock of this run; models done by an earlier one took none.
        fresh: how many models were done by this one.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    fresh: int

    @property
    def findings(self) -> tuple[Outcome, ...]:
        """Outcomes that a developer must look at."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_finding)

    def refusals(self) -> Counter[str]:
        """Return how often each reason was given, without the places and the numbers in it."""
        refused = (outcome.general or outcome.reason for outcome in self.outcomes if outcome.status == REFUSED)
        return Counter(re.sub(r"\d+", "N", reason) for reason in refused)

    def to_text(self) -> str:
        """Return the counts, the reasons and the findings, for people."""
        counts = Counter(outcome.status for outcome in self.outcomes)
        said = ", ".join(f"{counts[status]} {status}" for status in (EXACT, REFUSED, DIFFERS, CRASHED))
        lines = [f"{counted(len(self.outcomes), 'model')}: {said}"]
        if self.fresh:
            rate = 60 * self.fresh / self.seconds
            lines.append(f"{self.fresh} in {self.seconds:.0f} s: {rate:.0f} models per minute")
        lines += [f"  refused {count:4}: {reason}" for reason, count in self.refusals().most_common()]
        lines += [f"  {each.status}: {each.name}: {each.reason.strip().splitlines()[-1]}" for each in self.findings]
        return "\n".join(lines)


def fuzz(models: int, seed: int, output: Path, announce: Announce = silent, *, scheduler: str | None = None) -> Summary:
    """Try `models` random models of a seed on all processors, or on those of a scheduler.

    Args:
        models: how many.
        seed: of the models; model i of a seed is always the same.
        output: directory for outcomes and findings; those already there are kept.
        announce: called about once a second with the number of models done and to do.
        scheduler: address of a Dask scheduler, whose workers see `output` under the same path.

    Raises:
        InputError: `output` holds something else.
        ToolFailedError: a worker died, or no scheduler answers.
        ToolMissingError: Dask is not installed.
    """
    directory = output / f"seed-{seed}"
    directory.mkdir(parents=True, exist_ok=True)
    before, started = len(_missing(directory, seed, models)), time.perf_counter()
    workers = min(os.cpu_count() or 1, before)
    command, place = [sys.executable, "-m", "flow.verification.fuzz"], str(directory.resolve())
    commands = {
        f"worker {number}": [*command, *map(str, (seed, models, number, workers)), place] for number in range(workers)
    }

    def tell(*ended: str) -> None:
        announce("random models", models - len(_missing(directory, seed, models)), models)

    with locked(directory, f"findings/{BESIDE}*"):
        if scheduler is None:
            run_pool(commands, Path.cwd(), None, tell, tell)
        else:
            _on_workers(scheduler, directory.resolve(), seed, models, tell)
    outcomes = tuple(_read_outcome(_path(directory, seed, index)) for index in range(models))
    return Summary(outcomes, time.perf_counter() - started, before)


def _on_workers(scheduler: str, directory: Path, seed: int, models: int, tell: Callable[[], None]) -> None:
    """Have the workers of a scheduler try the models that have no outcome yet, a batch at a time."""
    missing = _missing(directory, seed, models)
    if not missing:
        return
    with dask_pool(scheduler=scheduler) as pool:
        batches = (tuple(missing[start : start + BATCH]) for start in range(0, len(missing), BATCH))
        works = [pool.submit(try_models, seed, batch, str(directory)) for batch in batches]
        while not all(work.done() for work in works):
            pool.size()  # which says if the scheduler is gone
            tell()
            time.sleep(1)
        for work in works:
            work.result()


def _path(directory: Path, seed: int, index: int) -> Path:
    return directory / f"{seed}-{index}.json"


def _missing(directory: Path, seed: int, models: int) -> list[int]:
    return [index for index in range(models) if not _path(directory, seed, index).exists()]


def _read_outcome(path: Path) -> Outcome:
    try:
        return Outcome(**json.loads(path.read_text())["outcome"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a readable outcome ({error})", file=path, remedy="remove it and run again") from error


def replay(path: Path) -> Outcome:
    """Try the recipe of a finding again.

    Raises:
        InputError: the file holds no recipe, or one of a model that Keras must not see.
    """
    from flow.train.configuration import checked

    with at(file=path):
        try:
            recipe = Recipe.from_json(json.loads(path.read_text())["recipe"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError, SpecError) as error:
            raise InputError(f"holds no recipe ({shown(error)})") from error
        checked({"class_name": "Functional", "config": recipe.config})
    (outcome,) = try_recipes([recipe])
    return outcome


def main(arguments: Sequence[str]) -> int:
    """Run as a worker, SEED MODELS NUMBER WORKERS DIRECTORY: do its share of the models that have no outcome yet."""
    (seed, models, number, workers), place = map(int, arguments[:-1]), arguments[-1]
    try_models(seed, _missing(Path(place), seed, models)[number::workers], place)
    return 0


def try_models(seed: int, indexes: Sequence[int], place: str) -> None:
    """Try models of a seed that have no outcome yet, and write it into a directory, with what was found, shrunk."""
    directory = Path(place)
    share = [random_recipe(seed, index) for index in indexes if not _path(directory, seed, index).exists()]
    by_name, outcomes = {recipe.name: recipe for recipe in share}, RunDirectory(directory)
    for outcome in try_recipes(share):
        recipe = by_name[outcome.name]
        if outcome.is_finding:
            small, found = shrink(recipe, outcome)
            kept = {"recipe": small.to_json(), "outcome": asdict(found), "graph": describe(small).splitlines()}
            outcomes.write_json(f"findings/{recipe.name}.json", kept)
        index = int(recipe.name.rpartition("_")[2])
        outcomes.write_json(_path(directory, seed, index).name, {"outcome": asdict(outcome)})


if __name__ == "__main__":
    with ending_in_order():
        sys.exit(main(sys.argv[1:]))
