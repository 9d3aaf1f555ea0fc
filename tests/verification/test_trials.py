"""Trials: each kind of sabotage, input and hostile file that docs/reliability.md counts, or some of them by default."""

from __future__ import annotations

import pytest
from conftest import needs_compiler
from sabotage_of_files import ALL, PLACES, planted, plots, victim
from trials import SAMPLES, run_of

from flow.backends.functions import functions


def test_every_kind_of_sabotage_changes_its_project() -> None:
    projects = {place: functions(target).emit(victim(place), target) for place, target in PLACES.items()}
    for place, _, _, crime in plots():
        planted(projects[place], crime)
    assert {place for place, _, _, _ in plots()} == set(PLACES)
    assert all(len(ALL[table]) >= 40 for table in ("Vitis and Vivado", "Verilog"))


@needs_compiler
def test_cycles_are_measured_without_samples(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of inputs that were made to break things the cycles are told, and not what they cost."""
    document = run_of(victim("rtl"), PLACES["rtl"], tmp_path_factory.mktemp("rtl")).document
    assert document["verdict"]["bit_exact"] is True
    assert (document["verdict"]["samples"], document["verdict"]["adversarial_samples"]) == (0, SAMPLES)
    (cycles,) = (entry for entry in document["resources"] if entry["source"] == "rtlsim")
    assert cycles["latency_cycles"] > 0
    assert [entry["source"] for entry in document["energy"]] == ["static"]
