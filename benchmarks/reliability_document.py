"""What `reliability.py` measured, as the tables of docs/reliability.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reported_inputs import REPORTED
from sabotage_of_files import ALL
from stock import markdown_table
from trials import ACCEPTED, CAUGHT, EXACT, MISSED, REFUSED, RESUMED, Verdict

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured by benchmarks/reliability.py -->", "<!-- end of what was measured -->"
LONG_S = 30.0
"""A bad file that is refused later than this is one that hung."""
Verdicts = Mapping[str, Verdict]
GOOD: Mapping[str, tuple[str, ...]] = {
    "inputs": (EXACT, REFUSED),
    "sabotage": (CAUGHT,),
    "kills": (RESUMED,),
    "models": (REFUSED, ACCEPTED),
    "files": (REFUSED, CAUGHT, ACCEPTED),
}
"""The verdicts of each section that are as they should be."""


def is_good(section: str, verdict: Verdict) -> bool:
    """Say whether a verdict is as it should be."""
    named = section != "sabotage" or verdict.attributed
    quick = section not in ("models", "files") or verdict.seconds <= LONG_S
    return verdict.status in GOOD[section] and named and quick


def record(text: str) -> None:
    """Write tables into docs/reliability.md, between its marks."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


def tables(found: Mapping[str, Verdicts]) -> str:
    """Return the verdicts of some sections as Markdown."""
    texts = {"inputs": _inputs, "sabotage": _sabotage, "kills": _kills, "models": _models, "files": _files}
    lines = [line for section, verdicts in found.items() for line in texts[section](verdicts)]
    return "\n".join([*lines, *_failures(found), ""])


def _inputs(found: Verdicts) -> Iterator[str]:
    yield "### Inputs\n"
    header = ["kinds", "exact", "refused", "anything else", "longest, s"]
    yield markdown_table(header, [_counts(list(found.values()), EXACT, REFUSED)]) + "\n"
    yield "| kind | reported | what went wrong there | here |\n|---|---|---|---|"
    for name, verdict in found.items():
        kind = REPORTED[name]
        where = re.sub(r"https://github.com/(.*)/(?:issues|pull)/(\d+)", r"\1 \2", kind.url)
        here = verdict.status if verdict.status == EXACT else f"{verdict.status}: {_short(verdict.reason)}"
        yield f"| {name} | [{where}]({kind.url}) | {kind.what} | {here} |"
    yield ""


def _sabotage(found: Verdicts) -> Iterator[str]:
    yield "### Changed projects\n"
    header = [
        "project of",
        "changes",
        "kinds",
        "caught",
        "attributed",
        "missed",
        "anything else",
        "other codes as well",
    ]
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for name, verdict in found.items():
        table, place, _ = name.split(" | ")
        groups.setdefault((place, table), []).append(verdict)
    lines = []
    for (place, table), group in sorted(groups.items()):
        counts = Counter(verdict.status for verdict in group)
        attributed = sum(verdict.attributed for verdict in group)
        others = len(group) - counts[CAUGHT] - counts[MISSED]
        simulated = sum(verdict.simulated for verdict in group)
        numbers = (len(group), counts[CAUGHT], attributed, counts[MISSED], others, simulated)
        lines.append([place, table, *map(str, numbers)])
    yield markdown_table(header, lines) + "\n"
    kinds = {table: len(rows) for table, rows in ALL.items()}
    listed = ", ".join(f"{count} {table}" for table, count in kinds.items())
    yield f"{len(found)} trials of {sum(kinds.values())} kinds: {listed}.\n"


def _kills(found: Verdicts) -> Iterator[str]:
    yield "### Kills\n"
    header = ["build for", "killed", "went on to the same report", "anything else", "longest, s"]
    yield markdown_table(header, [[name, *_counts(group, RESUMED)] for name, group in _groups(found)]) + "\n"


def _models(found: Verdicts) -> Iterator[str]:
    yield "### Hostile models\n"
    header = ["what is wrong", "tried", "refused", "became a project", "anything else", "longest, s"]
    yield markdown_table(header, [[name, *_counts(group, REFUSED, ACCEPTED)] for name, group in _groups(found)]) + "\n"


def _files(found: Verdicts) -> Iterator[str]:
    yield "### Hostile files and arguments\n"
    header = ["what is wrong", "tried", "refused", "a difference", "as if it were whole", "anything else", "longest, s"]
    lines = [[name, *_counts(group, REFUSED, CAUGHT, ACCEPTED)] for name, group in _groups(found)]
    yield markdown_table(header, lines) + "\n"


def _groups(found: Verdicts) -> list[tuple[str, list[Verdict]]]:
    """Return the verdicts by what stands first in their names."""
    groups: dict[str, list[Verdict]] = {}
    for name, verdict in found.items():
        groups.setdefault(name.partition(" | ")[0], []).append(verdict)
    return list(groups.items())


def _counts(group: Sequence[Verdict], *statuses: str) -> list[str]:
    """Return how many there are, how many of each status, how many of none, and the longest."""
    counts = Counter(verdict.status for verdict in group)
    numbers = [len(group), *(counts[status] for status in statuses)]
    longest = max(verdict.seconds for verdict in group)
    return [*map(str, numbers), str(len(group) - sum(numbers[1:])), f"{longest:.0f}"]


def _short(reason: str) -> str:
    """Return a message as a cell: without the file that it begins with, and no longer than two lines."""
    text = re.sub(r"^(\S*/)?model(\.h5|\.keras)?: ", "", " ".join(reason.split()))
    return re.sub(r"([|<*_`])", r"\\\1", text if len(text) <= 240 else text[:237] + "...")


def _failures(found: Mapping[str, Verdicts]) -> Iterator[str]:
    """Yield every row that is not as it should be."""
    yield "### What was not as it should be\n"
    said = [
        f"- {section}, {name}: {verdict.status}, {verdict.seconds:.0f} s: {_short(verdict.reason)}"
        for section, verdicts in found.items()
        for name, verdict in verdicts.items()
        if not is_good(section, verdict)
    ]
    yield "\n".join(said) or "Nothing of what was tried."
