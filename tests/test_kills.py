"""Builds that are killed, whenever that is: the next one is as if nothing had been."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from conftest import needs_compiler
from fixtures_cli import built_digits
from kills import Undisturbed, count_kills, kill, lasting


@needs_compiler
@pytest.mark.parametrize(("moment", "sign"), [(5, signal.SIGTERM), (12, signal.SIGKILL)], ids=["early", "late"])
def test_a_build_that_was_killed_goes_on(
    tmp_path_factory: pytest.TempPathFactory, moment: int, sign: signal.Signals, tmp_path: Path
) -> None:
    output, built = built_digits(tmp_path_factory)
    whole = Undisturbed(output=output, report=lasting(built.report()), moments=moment)
    assert kill(whole, moment, sign, tmp_path, compiled=True) == ""


@needs_compiler
@pytest.mark.slow
def test_a_build_that_was_killed_anywhere_goes_on(tmp_path: Path) -> None:
    counts = count_kills(tmp_path)
    assert counts == Counter({"went on": counts.total()}) and counts.total() >= 40
