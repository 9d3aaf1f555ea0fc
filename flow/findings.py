"""Findings: what a rule finds in a model or a design, with what to do and where that is known from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from flow.errors import FlowError, PreflightError, UnsupportedError

ERROR, WARNING = "error", "warning"
"""What is refused, and what a build goes on with."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What is found: the op or layer (or nothing, for all), what is wrong with it, and the way out."""

    op: str
    reason: str
    remedy: str

    @classmethod
    def of(cls, refusal: FlowError) -> Hit:
        """Return a refusal as a rule yields it."""
        return cls(refusal.op, refusal.reason, refusal.remedy or "change it, or leave it out")

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit with its rule.

    Attributes:
        rule: id of the rule.
        severity: "error" (refused) or "warning" (goes on).
        op: op or layer; empty if it is the whole.
        reason: what is wrong, in words that name the op or layer.
        source: where it is known from.
        remedy: what to do.
    """

    rule: str
    severity: str
    op: str
    reason: str
    source: str
    remedy: str

    @property
    def refusal(self) -> UnsupportedError:
        """What an error refuses, to be raised."""
        return UnsupportedError(self.reason, named=self.op, remedy=self.remedy)

    def __str__(self) -> str:
        return str(self.refusal)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """A rule: its id, its severity, where it is known from, and what finds it; the first line of that tells it."""

    id: str
    severity: str
    source: str
    find: Callable[[Subject], Iterable[Hit]]

    @property
    def title(self) -> str:
        """One line that says what is found."""
        return (self.find.__doc__ or "").partition("\n")[0]

    def apply(self, subject: Subject) -> Iterator[Finding]:
        """Yield what the rule finds."""
        for hit in self.find(subject):
            yield Finding(self.id, self.severity, hit.op, hit.reason, self.source, hit.remedy)


def refuse(name: str, refusals: Iterable[FlowError]) -> None:
    """Raise what refuses a model, if there is anything: one error, or one of a line each.

    Raises:
        FlowError: there is one.
        PreflightError: there are several.
    """
    located = [refusal.at(model=name) for refusal in refusals]
    if len(located) == 1:
        raise located[0]
    if located:
        raise PreflightError(located)


def to_text(findings: Sequence[Finding]) -> str:
    """Return findings for a terminal: errors first."""
    if not findings:
        return "nothing found"
    lines = []
    for finding in sorted(findings, key=lambda finding: finding.severity):
        lines += [f"{finding.severity:8} {finding.rule}: {finding.reason}", f"         way out: {finding.remedy}"]
        lines += [f"         source: {finding.source}"]
    return "\n".join(lines)
