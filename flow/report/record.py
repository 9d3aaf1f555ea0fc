"""What a build found, as one JSON document: the machine-readable contract, schema 1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.data.inputs import PortInputs
from flow.part_names import is_same_part
from flow.project import Change
from flow.results import Divergence, EnergyReport, ResourceReport, SimResult

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What a build found; `document` has the fields of `docs/report.md`, JSON types only."""

    document: Mapping[str, Any]

    @property
    def bit_exact(self) -> bool | None:
        """True or false after a comparison; None if nothing was compared."""
        verdict = self.document["verdict"]["bit_exact"]
        return None if verdict is None else bool(verdict)

    @property
    def exit_code(self) -> int:
        """0 if nothing differs, 1 if outputs differ."""
        return 1 if self.bit_exact is False else 0

    @property
    def is_outdated(self) -> bool:
        """Whether the project is no longer the one of this report, or a comparison since found a difference."""
        return bool(self.document["project"].get("changes") or self.document["verdict"].get("found_since"))

    def to_json(self) -> dict[str, Any]:
        """Return the document, as `report.json` holds it."""
        return dict(self.document)

    def with_resources(self, *more: ResourceReport) -> Report:
        """Return the report with further columns of resources; one source stands once.

        A note says which are of another part than the run.
        """
        part = self.document["project"]["part"]
        others = (each for each in more if each.part and not is_same_part(each.part, part))
        notes = (f"{each.source} ({each.tool}) is of part {each.part}, the run of {part}" for each in others)
        return self._with("resources", more).with_notes(*notes)

    def with_energy(self, *more: EnergyReport) -> Report:
        """Return the report with the energy of one inference by further sources; one source stands once."""
        return self._with("energy", more)

    def with_notes(self, *more: str) -> Report:
        """Return the report with further notes, each once."""
        notes = self.document["notes"]
        return Report({**self.document, "notes": [*notes, *(note for note in more if note and note not in notes)]})

    def _with(self, name: str, more: Sequence[ResourceReport | EnergyReport]) -> Report:
        new = {entry.source: entry.to_json() for entry in more}  # of two of one source the last
        kept = [entry for entry in self.document.get(name, ()) if entry["source"] not in new]
        return Report({**self.document, name: [*kept, *new.values()]})

    @classmethod
    def read(cls, content: bytes, run_dir: Path) -> Report:
        """Read the `report.json` of a run directory.

        Raises:
            ValueError: it is of another schema.
        """
        document = json.loads(content)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"{run_dir}/report.json is not of schema {SCHEMA}")
        project = {**document["project"], "path": str(run_dir / "project")}
        return cls({**document, "run_dir": str(run_dir), "project": project})  # wherever the directory lies by now


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Levels that were run on the same inputs.

    Attributes:
        port: the inputs.
        adversarial: how many of the inputs are adversarial; they stand last.
        reference: codes of the level that the others are held against, the reference but in `flow compare --levels`.
        others: codes of the other levels.
        divergence: where they first part, if they do.
        inputs_digest: SHA-256 of all input codes.
        changes: files of the project that are not as they were written.
        differences: what the project's files say otherwise than the graph, in words.
        not_simulated: why the project was not run, if it was not: then it is never called bit exact.
        proofs: op name -> what was proved of it, as JSON.
        note: what a report says of it besides; empty for nothing.
    """

    port: PortInputs
    adversarial: int
    reference: SimResult
    others: tuple[SimResult, ...]
    divergence: Divergence | None
    inputs_digest: str = ""
    changes: tuple[Change, ...] = ()
    differences: tuple[str, ...] = ()
    not_simulated: str = ""
    proofs: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
