"""What a build found, as one JSON document: the machine-readable contract, schema 1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from flow.cost.calibration import other_design
from flow.data.inputs import PortInputs
from flow.data.session import Data
from flow.errors import SpecError, ToolMissingError, shown
from flow.frontend.base import read
from flow.part_names import is_same_part
from flow.project import Change
from flow.results import Divergence, EnergyReport, ResourceReport, SimResult
from flow.runs import RunDirectory
from flow.verification.levels import REFERENCE, stored_model
from flow.verification.prediction import outputs

SCHEMA = 1
FRAMES = ("layers", "resources", "accuracy")
"""Parts of the document that are tables."""


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

    def predict(self, x: Data, *, codes: bool = False, level: str = REFERENCE) -> Any:
        """Return what the hardware gives for inputs.

        Args:
            x: (samples, *shape), as `flow.build` takes it.
            codes: return integers on the grid of the output's format, instead of values.
            level: what computes them: "reference", which is the fastest, or the simulation of the run's back end,
                "csim" or "rtlsim".

        Returns:
            (samples, *shape) float64, or int64 codes; of several outputs a mapping by their names.

        Raises:
            DataError: `x` does not fit the model.
            FlowError: as of `flow.verification.prediction.outputs`.

        Example:
            report = flow.build(model, x=x_test, y=y_test)
            classes = report.predict(x_new).argmax(-1)
        """
        return outputs(self.run_dir, x, level=level, codes=codes)

    def trace(self, x: Data, *, codes: bool = False, level: str = REFERENCE) -> Mapping[str, NDArray[Any]]:
        """Return what each op of the hardware gives, by its name; arguments as of `predict`."""
        found: Mapping[str, NDArray[Any]] = outputs(self.run_dir, x, level=level, codes=codes, every_op=True)
        return found

    def qkeras_model(self) -> Any:
        """Return what `flow.quantize` made as a QKeras model that computes the same codes, to be trained on.

        Returns:
            A functional model of tf-keras; a final softmax is there again. `flow.build` takes it when it is trained.

        Raises:
            SpecError: the report is of no quantized float model.
            UnsupportedError: an op has no layer of QKeras or Keras that computes the same; the message names it.

        Example:
            model = flow.quantize("my_net.h5", calibration=x).qkeras_model()
            flow.train_model(model, "tuned", x=x, y=y, epochs=5, learning_rate=2e-4)
            report = flow.build(model, x=x_test, y=y_test)
        """
        if self.document["quantization"] is None:
            remedy = "a QKeras model is trained on as it is; flow.quantize makes one of a float model"
            raise SpecError(
                "this run was not quantized from a float model", model=self.document["model"], remedy=remedy
            )
        source, extracted = stored_model(RunDirectory(self.run_dir))
        network = read(source.trained)
        softmaxes = {
            output: network.final_softmax(name) for name, output in zip(network.outputs, extracted.outputs, strict=True)
        }
        made = import_module("flow.train.graph_model").graph_model  # with TensorFlow
        return made(extracted, self.document["quantization"], {op: layer for op, layer in softmaxes.items() if layer})

    @property
    def run_dir(self) -> Path:
        """The directory of the run."""
        return Path(self.document["run_dir"])

    def frame(self, part: str) -> Any:
        """Return a part of the report as a pandas frame.

        Args:
            part: "layers", a row per op; "resources", a row per source; or "accuracy", one row.

        Raises:
            SpecError: there is no such part.
            ToolMissingError: pandas is not installed.
        """
        if part not in FRAMES:
            raise SpecError(f"{shown(part)} is no part", field="part", remedy=f"use one of {', '.join(FRAMES)}")
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ToolMissingError(
                "package 'pandas' is not installed", remedy="run: pip install 'po2flow[frames]'"
            ) from error
        rows = self.document[part] if isinstance(self.document[part], list) else [self.document[part]]
        return pandas.DataFrame([{k: v for k, v in row.items() if k != "layers"} for row in rows])

    def __repr__(self) -> str:
        verdict = {True: "BIT EXACT", False: "DIFFERENT", None: "not compared"}[self.bit_exact]
        return f"<Report of {self.document['model']}: {verdict}, {self.run_dir}>"

    def _repr_html_(self) -> str:
        """Show the page of the report in a notebook."""
        page = import_module("flow.report.page").render(self)
        return f'<iframe srcdoc="{escape(page)}" width="100%" height="600" frameborder="0"></iframe>'

    def to_json(self) -> dict[str, Any]:
        """Return the document, as `report.json` holds it."""
        return dict(self.document)

    def with_resources(self, *more: ResourceReport) -> Report:
        """Return the report with further columns of resources; one source stands once.

        A note says which are of another part or another design than the run.
        """
        part = self.document["project"]["part"]
        others = (each for each in more if each.part and not is_same_part(each.part, part))
        notes = (f"{each.source} ({each.tool}) is of part {each.part}, the run of {part}" for each in others)
        designs = (other_design(self.document, each.to_json()) for each in more)
        return self._with("resources", more).with_notes(*notes, *designs)

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
