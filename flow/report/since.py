"""What comparisons found since the build: it stays in the run's report until a build or a comparison finds it equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flow.project import Change
from flow.report.record import Report


def found(report: Report, at: str) -> dict[str, Any]:
    """Return what a comparison found, as an entry of `verdict.found_since`.

    Args:
        report: of the comparison.
        at: when, in ISO 8601.
    """
    document, project = report.document, report.document["project"]
    verdict = {name: value for name, value in document["verdict"].items() if name != "found_since"}
    of = {"digest": project["digest"], "changes": project["changes"]}
    return {"at": at, "inputs": document["inputs"].get("source"), "project": of, "verdict": verdict}


def standing(entries: Sequence[Mapping[str, Any]], report: Report) -> list[Mapping[str, Any]]:
    """Return the entries that the comparison of a report does not settle.

    It settles what was found of another project, and what was found between the same levels on the same inputs.
    """
    verdict, project = report.document["verdict"], report.document["project"]

    def is_settled(entry: Mapping[str, Any]) -> bool:
        levels, inputs = set(entry["verdict"]["compared"]), entry["verdict"]["inputs_digest"]
        again = levels <= set(verdict["compared"]) and inputs == verdict["inputs_digest"]
        return again or not _lies_there(entry, project["changes"]) or entry["project"]["digest"] != project["digest"]

    return [entry for entry in entries if not is_settled(entry)]


def _lies_there(entry: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether the files that a difference was found with are still the changed ones, if any were changed."""
    return entry["project"]["changes"] in ([], changes)


def with_found(report: Report, entries: Sequence[Mapping[str, Any]]) -> Report:
    """Return a run's report with what comparisons found since."""
    verdict = {**report.document["verdict"], "found_since": list(entries)}
    return judged(Report({**report.document, "verdict": verdict}))


def with_changes(report: Report, changes: Sequence[Change]) -> Report:
    """Return a run's report with the files of the project that are no longer as the build wrote them.

    What comparisons found of other changes than these is left out.
    """
    now = [{"path": each.path, "how": each.how} for each in changes]
    document = {**report.document, "project": {**report.document["project"], "changes": now}}
    entries = document["verdict"].get("found_since", [])
    return with_found(Report(document), [entry for entry in entries if _lies_there(entry, now)])


def as_built(report: Report) -> Report:
    """Return a report as it was before anything came to light since."""
    return with_found(with_changes(report, ()), ())


def judged(report: Report) -> Report:
    """Return a report whose verdict is false where anything of it is, true where levels were compared, else None."""
    verdict, changes = report.document["verdict"], report.document["project"].get("changes")
    wrong = verdict["mismatches"] or verdict["file_differences"] or verdict.get("found_since") or changes
    known = verdict["compared"] and not verdict.get("not_simulated")
    return Report({**report.document, "verdict": {**verdict, "bit_exact": False if wrong else True if known else None}})
