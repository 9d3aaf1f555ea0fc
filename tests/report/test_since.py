"""What comparisons found since the build: what settles it, and how a report says it."""

from __future__ import annotations

from typing import Any

import page_reports
import pytest

from flow.project import Change
from flow.report.page import render
from flow.report.record import Report
from flow.report.since import as_built, found, standing, with_changes, with_found
from flow.report.text import to_text
from flow.report.words import verdict_line

AT = "2026-11-30T13:29:02+00:00"
EDITED = (Change("project.tcl", "changed"),)


def full() -> page_reports.Document:
    return {**page_reports.full(), "energy": []}


def compared(
    inputs: str, *levels: str, changes: tuple[Change, ...] = (), digest: str = "p", mismatches: int = 0
) -> Report:
    """Return the report of a comparison of levels on some inputs."""
    document = full()
    files = [str(change) for change in changes]
    outcome = {"compared": list(levels), "inputs_digest": inputs, "mismatches": mismatches, "file_differences": files}
    document["verdict"] |= {**outcome, "found_since": []}
    document["project"] |= {"digest": digest}
    return with_changes(Report(document), changes)


OWN = ("own", "reference", "csim")
SETTLES: dict[str, tuple[Report, Report, bool]] = {
    "the same again": (compared(*OWN, mismatches=3), compared(*OWN), True),
    "the same in a build": (compared(*OWN, mismatches=3), compared("own", "qkeras", "reference", "csim"), True),
    "other inputs": (compared(*OWN, mismatches=3), compared("other", "reference", "csim"), False),
    "fewer levels": (compared(*OWN, mismatches=3), compared("own", "qkeras", "reference"), False),
    "files restored": (compared(*OWN, changes=EDITED), compared("other", "reference", "csim"), True),
    "files still changed": (compared(*OWN, changes=EDITED), compared("other", *OWN[1:], changes=EDITED), False),
    "another project": (compared(*OWN, mismatches=3), compared("other", *OWN[1:], digest="q"), True),
}


@pytest.mark.parametrize("what", SETTLES)
def test_what_settles_a_difference(what: str) -> None:
    before, after, settled = SETTLES[what]
    assert before.bit_exact is False
    entry = found(before, AT)
    assert standing([entry], after) == ([] if settled else [entry])


def test_a_report_says_what_was_found_since_beside_what_the_build_found() -> None:
    built = compared("own", "qkeras", "reference", "csim")
    report = with_found(built, [found(compared("other", *OWN[1:], mismatches=3), AT)])
    assert (report.bit_exact, report.is_outdated, report.exit_code) == (False, True, 1)
    assert verdict_line(report) == f"DIFFERENT: flow compare found a difference at {AT}"
    scope = "over 360 inputs and 2048 adversarial inputs"
    for form in (to_text(report), render(report)):
        assert f"flow compare at {AT}: 3 output elements differ between reference, csim, {scope}" in form
        assert "before that: BIT EXACT: qkeras (float32) = reference = csim" in form
    assert as_built(report).document == as_built(built).document and as_built(report).bit_exact is True


def test_many_changes_are_counted_and_some_named() -> None:
    many = tuple(Change(f"firmware/{number:02}.h", "missing") for number in range(50))
    text = to_text(with_changes(Report(full()), many))
    assert "DIFFERENT: 50 files of the project changed since the build wrote it" in text
    assert text.count("is gone since the build wrote it") == 20 and "and 30 more" in text


def test_names_of_files_cannot_break_a_report() -> None:
    report = with_changes(Report(full()), (Change("a\n\x1b[2J<b>.h", "extra"),))
    assert "\x1b" not in to_text(report) and "<b>.h" not in render(report)


def words(**verdict: Any) -> str:
    document = full()
    document["verdict"] |= {"bit_exact": False, **verdict}
    return verdict_line(Report(document)).partition(" between ")[0]


def test_a_headline_says_what_differs() -> None:
    assert words(mismatches=1) == "DIFFERENT: 1 output element differs"
    assert words(mismatches=7) == "DIFFERENT: 7 output elements differ"
    streams = "DIFFERENT: 1 thing is wrong in the project's files or streams; "
    assert words(file_differences=["deadlock"]) == f"{streams}no output element differs"
    assert words(file_differences=["deadlock"], mismatches=2) == f"{streams}2 output elements differ"


def test_a_difference_found_with_changed_files_goes_when_they_are_restored() -> None:
    entry = found(compared(*OWN, changes=EDITED), AT)
    report = with_found(compared(*OWN), [entry])
    assert with_changes(report, EDITED).document["verdict"]["found_since"] == [entry]
    for changes in ((), (Change("build_prj.tcl", "changed"),)):
        assert str(EDITED[0]) not in to_text(with_changes(report, changes))
    assert with_changes(report, ()).bit_exact is True
