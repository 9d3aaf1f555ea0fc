"""Trials: what docs/reliability.md counts, some of it by default and the rest as slow tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_compiler
from fixtures_cli import flow, run_directories
from fixtures_keras import conv_parts, save, sequential
from hostile_inputs import KINDS, RUN
from kills import undisturbed
from odd_inputs import COMMANDS, FINE_VALUES, NUMBERS, TEXTS, VALUES
from reported_inputs import REPORTED
from sabotage_of_files import ALL, PLACES, planted, plots, victim
from trials import (
    ACCEPTED,
    CAUGHT,
    REFUSED,
    RESUMED,
    SAMPLES,
    build,
    clean,
    hostile,
    killed_after,
    run_of,
    sabotage,
)

from flow.backends.functions import functions
from flow.pipeline import load_report

pytestmark = [
    needs_compiler,
    pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning"),  # QKeras' use of pyparsing
]
QUICK = {
    ("Libero", "synthesis by SmartHLS"),
    ("Libero", "another part of Libero"),
    ("oneAPI", "weights of oneAPI"),
    ("oneAPI", "a file of oneAPI gone"),
    ("rtl, parallel", "not for Yosys"),
    ("rtl, parallel", "always ready"),
    ("rtl, parallel", "a register that does not wait"),
    ("rtl, parallel", "no kernel"),
}
"""Sabotage that is tried by default: of projects that are not simulated, or quickly."""


def chosen(rows: Iterable[tuple[Any, ...]], quick: Callable[..., bool]) -> list[Any]:
    """Return the rows of a test, those that are not quick as slow ones."""
    return [pytest.param(*row, marks=[] if quick(*row) else [pytest.mark.slow], id=" | ".join(row)) for row in rows]


def test_every_kind_of_sabotage_changes_its_project() -> None:
    projects = {place: functions(target).emit(victim(place), target) for place, target in PLACES.items()}
    for place, _, _, crime in plots():
        planted(projects[place], crime)
    assert {place for place, _, _, _ in plots()} == set(PLACES)
    assert all(len(ALL[table]) >= 40 for table in ("Vitis and Vivado", "Verilog"))


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the run whose project is changed, by its place; it is built when it is first asked for."""
    output = tmp_path_factory.mktemp("victims")

    def run(place: str) -> Path:
        if not (output / place).exists():
            run_of(victim(place), PLACES[place], output / place)
        return run_directories(output / place)[0]

    return run


@pytest.mark.parametrize(
    ("place", "table", "name"),
    chosen([row[:3] for row in plots()], lambda place, table, name: (place, name) in QUICK),
)
def test_sabotage_is_caught_by_name(
    place: str, table: str, name: str, victims: Callable[[str], Path], tmp_path: Path
) -> None:
    verdict = sabotage(victims(place), ALL[table][name], tmp_path)
    assert (verdict.status, verdict.attributed) == (CAUGHT, True), verdict


def test_cycles_are_measured_without_samples(victims: Callable[[str], Path]) -> None:
    """Of inputs that were made to break things the cycles are told, and not what they cost."""
    document = load_report(victims("rtl, parallel")).document
    assert document["verdict"]["bit_exact"] is True
    assert (document["verdict"]["samples"], document["verdict"]["adversarial_samples"]) == (0, SAMPLES)
    (cycles,) = (entry for entry in document["resources"] if entry["source"] == "rtlsim")
    assert cycles["latency_cycles"] > 0
    assert [entry["source"] for entry in document["energy"]] == ["static"]


@pytest.mark.parametrize("name", chosen([(name,) for name in REPORTED], lambda name: name == "Lambda"))
def test_reported_inputs(name: str, tmp_path: Path) -> None:
    kind = REPORTED[name]
    verdict = build(kind.write(tmp_path), tmp_path / "runs")
    assert verdict.status == kind.becomes, verdict


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a user's model."""
    return save(sequential((4, 4, 1), *conv_parts()), tmp_path_factory.mktemp("user") / "model.h5")


@pytest.mark.parametrize(
    ("kind", "name"),
    chosen(
        [(kind, name) for kind, table in KINDS.items() for name in table],
        lambda kind, name: (
            (name == next(iter(KINDS[kind])) and RUN not in KINDS[kind][name].arguments)
            or (kind in ("odd samples", "odd labels") and KINDS[kind][name].codes != (0,))
        ),
    ),
)
def test_bad_files_and_arguments(kind: str, name: str, model: Path, tmp_path: Path) -> None:
    bad, runs = KINDS[kind][name], model.parent / "runs"
    if RUN in bad.arguments and not runs.exists():
        assert flow("build", model, "--output", runs, "--adversarial", SAMPLES).code == 0
    run = run_directories(runs)[0] if RUN in bad.arguments else runs
    verdict = hostile(bad, model, run, tmp_path)
    assert verdict.status in (REFUSED, CAUGHT, ACCEPTED), verdict


@pytest.mark.parametrize(
    ("command", "option"),
    chosen(
        [(command, option) for table in (NUMBERS, TEXTS) for command, options in table.items() for option in options],
        lambda command, option: command not in ("build", "quantize"),
    ),
)
def test_odd_values_of_options(command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        outcome = flow(*COMMANDS[command], option, value)
        assert clean(outcome) == "", (value, outcome)
        assert outcome.code == (0 if value in FINE_VALUES.get((command, option), ()) else 2), (value, outcome)
        assert len(outcome.err) < 2000 and "\x1b" not in outcome.err + outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["Vitis", "rtl"])
def test_a_build_that_was_killed_while_it_computes_goes_on(backend: str, tmp_path: Path) -> None:
    whole = undisturbed(tmp_path / "whole", "--backend", backend)
    for seconds in (2.0, 8.0):
        verdict = killed_after(whole, seconds, backend, tmp_path / f"{seconds}")
        assert verdict.status == RESUMED, verdict
