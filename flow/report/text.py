"""The report: one JSON document (the machine-readable contract, schema 1), and its text and Markdown forms."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.inputs import PortInputs
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import to_values
from flow.ir.graph import IntGraph, MatMul, Op
from flow.ir.intervals import accumulation
from flow.ir.names import printable
from flow.ir.po2 import is_po2, split
from flow.quantization import words
from flow.quantization.stage import Quantization
from flow.results import Divergence, EnergyReport, ResourceReport, SimResult
from flow.target import Target
from flow.verification.compare import mismatches

SCHEMA = 1
COUNTS = ("lut", "ff", "dsp", "bram_18k", "uram")
FAMILY_COUNTS = {"alm": "ALM", "ram_blocks": "RAM blocks"}
"""Counts in `detail` of families that have no such thing as the usual ones -> heading."""
CONFUSION_CLASSES = 100
"""Classes up to which the report says which was taken for which."""


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

    def to_json(self) -> dict[str, Any]:
        """Return the document, as `report.json` holds it."""
        return dict(self.document)

    def with_resources(self, *more: ResourceReport) -> Report:
        """Return the report with further columns of resources; one source stands once."""
        return self._with("resources", more)

    def with_energy(self, *more: EnergyReport) -> Report:
        """Return the report with the energy of one inference by further sources; one source stands once."""
        return self._with("energy", more)

    def with_notes(self, *more: str) -> Report:
        """Return the report with further notes, each once."""
        notes = self.document["notes"]
        return Report({**self.document, "notes": [*notes, *(note for note in more if note and note not in notes)]})

    def _with(self, name: str, more: Sequence[ResourceReport | EnergyReport]) -> Report:
        new = {each.source: each.to_json() for each in more}  # of two of one source the last
        kept = [each for each in self.document.get(name, ()) if each["source"] not in new]
        return Report({**self.document, name: [*kept, *new.values()]})

    @classmethod
    def load(cls, run_dir: Path) -> Report:
        """Read the `report.json` of a run directory.

        Raises:
            OSError, ValueError: it is missing or damaged.
        """
        document = json.loads((run_dir / "report.json").read_text())
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
        differences: what the project's files say otherwise than the graph, in words.
        not_simulated: why the project was not run, if it was not: then it is never called bit exact.
        proofs: op name -> what was proved of it, as JSON.
    """

    port: PortInputs
    adversarial: int
    reference: SimResult
    others: tuple[SimResult, ...]
    divergence: Divergence | None
    differences: tuple[str, ...] = ()
    not_simulated: str = ""
    proofs: Mapping[str, Any] = field(default_factory=dict)


def assemble(
    *,
    trained: TrainedModel,
    graph: IntGraph,
    target: Target,
    run_dir: Path,
    project_digest: str | None,
    comparison: Comparison | None,
    quantization: Quantization | None = None,
    resources: Sequence[ResourceReport],
    energy: Sequence[EnergyReport],
    notes: Sequence[str],
    commands: Sequence[str],
    versions: Mapping[str, str],
    timings_s: Mapping[str, float],
) -> Report:
    """Put a report together.

    Args:
        trained, graph: the model, and its graph after the passes.
        target: hardware settings.
        run_dir: run directory; nothing is read from it.
        project_digest: of the project; None if there is none.
        comparison: None if nothing was compared.
        quantization: of a float model: what was chosen and measured.
        resources, energy: what each source says.
        notes: what a reader must know, besides the warnings of the graph.
        commands: command lines that do it all again.
        versions: of the packages that made the project, by name; those that trained the model are in `trained`.
        timings_s: seconds by stage.
    """
    wrong, proofs = _mismatches(graph, comparison), {} if comparison is None else comparison.proofs
    return Report(
        {
            "schema": SCHEMA,
            "model": trained.name,
            "run_dir": str(run_dir),
            "verdict": _verdict(comparison, wrong),
            "layers": [_layer(op, graph, wrong.get(op.name, 0), proofs.get(op.name)) for op in graph.ops],
            "sparsity": _total_sparsity(graph),
            "accuracy": _accuracy(graph, comparison, trained, quantization),
            "confusion": _confusion(graph, comparison, trained.metrics.get("float_confusion")),
            "softmax": _softmax(graph, comparison),
            "inputs": _inputs(graph, comparison),
            "quantization": None if quantization is None else dict(quantization.document),
            "resources": [each.to_json() for each in resources],
            "energy": [each.to_json() for each in energy],
            "project": {
                "backend": target.backend,
                "io_type": target.io_type,
                "strategy": target.strategy,
                "reuse_factor": target.reuse_factor,
                "reuse_factors": dict(target.reuse_factors),
                "part": target.part,
                "clock_period_ns": target.clock_period_ns,
                "path": str(run_dir / "project"),
                "digest": project_digest,
            },
            "notes": [*graph.warnings, *notes],
            "provenance": {
                **trained.provenance,
                "versions": {**trained.provenance.get("versions", {}), **versions},
                "commands": list(commands),
            },
            "timings_s": {name: round(seconds, 4) for name, seconds in timings_s.items()},
        }
    )


def _mismatches(graph: IntGraph, comparison: Comparison | None) -> dict[str, int]:
    total: dict[str, int] = {}
    for other in comparison.others if comparison else ():
        for name, count in mismatches(comparison.reference, other, graph.ops).items():  # type: ignore[union-attr]
            total[name] = total.get(name, 0) + count
    return total


def _verdict(comparison: Comparison | None, wrong: Mapping[str, int]) -> dict[str, Any]:
    if comparison is None:
        return {
            "bit_exact": None,
            "samples": 0,
            "adversarial_samples": 0,
            "mismatches": 0,
            "compared": [],
            "arithmetic": {},
            "first_divergence": None,
            "file_differences": [],
            "not_simulated": None,
        }
    levels = [*(each for each in comparison.others if each.level == "qkeras"), comparison.reference]
    levels += [each for each in comparison.others if each.level != "qkeras"]
    equal = not any(wrong.values()) and not comparison.differences
    return {
        "bit_exact": None if equal and comparison.not_simulated else equal,
        "samples": len(comparison.port.codes),
        "adversarial_samples": comparison.adversarial,
        "mismatches": sum(wrong.values()),
        "compared": [each.level for each in levels],
        "arithmetic": {each.level: each.arithmetic for each in levels},
        "first_divergence": None if comparison.divergence is None else comparison.divergence.to_json(),
        "file_differences": list(comparison.differences),
        "not_simulated": comparison.not_simulated or None,
    }


def _layer(op: Op, graph: IntGraph, wrong: int, proof: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": op.name,
        "op": op.kind,
        "inputs": list(op.inputs),
        "layers": list(dict.fromkeys(op.layers)),
        "fused": list(op.fused),
        "shape": list(op.shape),
        "output_format": op.format.to_json(),
        "rounding": op.rounding.value,
        "overflow": op.overflow.value,
        "accumulator_bits": None,
        "accumulator_range": None,
        "weights": 0,
        "sparsity": None,
        "mismatches": wrong,
        "proof": proof,
    }
    if isinstance(op, MatMul):
        sums = accumulation(op, graph[op.inputs[0]].format)
        entry |= {
            "accumulator_bits": op.accumulator.width if op.accumulator else None,
            "accumulator_range": [int(sums.low.min()), int(sums.high.max())],
            "weights": int(op.weight.size),
            "sparsity": float(np.count_nonzero(op.weight == 0) / op.weight.size),
            "weight_format": op.weight_format.to_json(),
            "power_of_two_weights": is_po2(op.weight),
        }
        if is_po2(op.weight):
            entry["exponents"] = _exponents(op)
    return entry


def _exponents(op: MatMul) -> dict[str, int]:
    """Return how many non-zero weights have each exponent of two, by exponent, ascending."""
    weights = split(op.weight)
    stored = weights.exponent[weights.nonzero] + weights.min_exponent - op.weight_format.frac_bits
    return {str(exponent): int(count) for exponent, count in zip(*np.unique(stored, return_counts=True), strict=True)}


def _total_sparsity(graph: IntGraph) -> float | None:
    weights = [op.weight for op in graph.ops if isinstance(op, MatMul)]
    total = sum(weight.size for weight in weights)
    return float(sum(np.count_nonzero(weight == 0) for weight in weights) / total) if total else None


def _accuracy(
    graph: IntGraph, comparison: Comparison | None, trained: TrainedModel, quantization: Quantization | None
) -> dict[str, Any]:
    """Return accuracies as fractions: those of training and those of this run; of a float model all are of this run."""
    measured = _measured_accuracy(graph, comparison)
    if quantization is not None:
        own = {"float": None, "quantized": None, "qkeras_at_training": None, **quantization.accuracy}
        return {**measured, **own, "hardware": measured["hardware"]}
    return {
        "float": trained.metrics.get("float"),
        "qkeras_at_training": trained.metrics.get("qkeras"),
        "samples_at_training": trained.provenance.get("test_samples"),
        **measured,
    }


def _measured_accuracy(graph: IntGraph, comparison: Comparison | None) -> dict[str, Any]:
    """Return accuracies as fractions, measured on the labelled inputs of a comparison."""
    found: dict[str, Any] = {"qkeras": None, "hardware": None, "samples": 0}
    labels = None if comparison is None else comparison.port.labels
    if labels is None:
        return found
    classes = _classes(graph, comparison)
    return {**found, "samples": len(labels), **{name: float(np.mean(said == labels)) for name, said in classes.items()}}


def _confusion(graph: IntGraph, comparison: Comparison | None, trained: Any) -> dict[str, Any] | None:
    """Return how often each class was taken for each: rows are labels, columns what the first output says.

    Args:
        graph: after the passes.
        comparison: its inputs need labels, each the number of a class; None gives None, as do too many classes.
        trained: the same of the float twin, counted at training; None if it was not.
    """
    count = math.prod(graph.output.shape)
    labels = None if comparison is None else comparison.port.labels
    if labels is None or count > CONFUSION_CLASSES or not ((labels >= 0) & (labels < count)).all():
        return None
    found: dict[str, Any] = {"classes": count, "float": trained, "qkeras": None, "hardware": None}
    for name, said in _classes(graph, comparison).items():
        found[name] = np.bincount(labels * count + said, minlength=count**2).reshape(count, count).tolist()
    return found


def _classes(graph: IntGraph, comparison: Comparison | None) -> dict[str, NDArray[np.int64]]:
    """Return the class of each labelled input, int64 (samples,): "qkeras" and "hardware", where they were run."""
    found: dict[str, NDArray[np.int64]] = {}
    if comparison is None or comparison.port.labels is None:
        return found
    name, count = graph.output.name, len(comparison.port.labels)
    for result in (comparison.reference, *comparison.others):
        if result.level != "reference":
            scores = result.softmax[name] if name in result.softmax else result.codes[name]
            role = "qkeras" if result.level == "qkeras" else "hardware"
            found[role] = scores[:count].reshape(count, -1).argmax(axis=1)
    return found


def _softmax(graph: IntGraph, comparison: Comparison | None) -> list[dict[str, Any]]:
    """Return how far each integer softmax is from QKeras' float one, over all inputs that were run."""
    found = []
    for result in comparison.others if comparison else ():
        for name, exact in result.softmax.items():
            values = to_values(comparison.reference.codes[name], graph[name].format)  # type: ignore[union-attr]
            same = values.argmax(axis=-1) == exact.argmax(axis=-1)
            found.append(
                {
                    "op": name,
                    "largest_difference": float(np.abs(values - exact).max(initial=0)),
                    "same_argmax": int(np.count_nonzero(same)),
                    "compared": int(same.size),
                }
            )
    return found


def softmax_line(entry: Mapping[str, Any]) -> str:
    """Return an entry of `softmax` in one line."""
    return (
        f"softmax '{entry['op']}': an integer function, at most {entry['largest_difference']:.2g} from QKeras' float "
        f"result; same largest class (the first, where codes tie) in {entry['same_argmax']} of {entry['compared']}"
    )


def _inputs(graph: IntGraph, comparison: Comparison | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "format": graph.inputs[0].format.to_json(),
        "shape": list(graph.inputs[0].shape),
        "ports": [{"name": op.name, "format": op.format.to_json(), "shape": list(op.shape)} for op in graph.inputs],
    }
    if comparison is not None:
        port = comparison.port
        entry |= {"source": port.source, "rounded_values": port.rounded, "clipped_values": port.clipped}
    return entry


def recompared(report: Report, graph: IntGraph, comparison: Comparison, timings_s: Mapping[str, float]) -> Report:
    """Return a report with another comparison in it, of the project as it lies on disk now."""
    wrong = _mismatches(graph, comparison)
    layers = [
        {**layer, "mismatches": wrong.get(layer["name"], 0), "proof": comparison.proofs.get(layer["name"])}
        for layer in report.document["layers"]
    ]
    return replace(
        report,
        document={
            **report.document,
            "verdict": _verdict(comparison, wrong),
            "accuracy": {**report.document["accuracy"], **_measured_accuracy(graph, comparison)},
            "confusion": _confusion(graph, comparison, (report.document.get("confusion") or {}).get("float")),
            "layers": layers,
            "softmax": _softmax(graph, comparison) or report.document.get("softmax", []),
            "timings_s": {name: round(seconds, 4) for name, seconds in timings_s.items()},
        },
    )


PROOF_WORDS = {
    "proved": "proved for all inputs",
    "exhaustive": "run on all inputs",
    "tested": "tested on the inputs of this run",
}
"""Scope of a proof -> words."""


def to_text(report: Report) -> str:
    """Return the report as short tables for a terminal."""
    return _render(report, _text_table, lambda title: f"\n{title}")


def to_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return _render(report, _markdown_table, lambda title: f"\n## {title}\n") + "\n"


def _render(report: Report, table: Any, heading: Any) -> str:
    document = report.document
    project = document["project"]
    lines = [
        f"{document['model']}: {project['backend']}, {project['io_type']}, {project['strategy']}, "
        f"reuse factor {_reuse_words(project)}, {project['part']}, {project['clock_period_ns']:g} ns",
        "",
        verdict_line(report),
    ]
    lines += [f"  {line}" for line in _verdict_details(document)]
    lines += [f"  {line}" for line in _proof_lines(document)]
    lines += [f"  {softmax_line(entry)}" for entry in document.get("softmax", ())]
    lines += [heading("Accuracy"), table(*_accuracy_rows(document))]
    if document.get("quantization"):
        lines += [heading("Quantization"), *(f"- {line}" for line in words.summary_lines(document["quantization"]))]
        lines += ["", table(*words.module_rows(document["quantization"]))]
    lines += [heading("Layers"), table(*_layer_rows(document))]
    for each in document["resources"]:
        lines += [heading(f"Resources: {_source_words(each)}"), table(*_resource_rows(each))]
        lines += ["", error_words(each["error"])] if "error" in each else []
    if document.get("energy"):
        lines += [heading("Energy"), *(_energy_line(each) for each in document["energy"])]
    if document["notes"]:
        lines += [heading("Notes"), *(f"- {printable(note)}" for note in document["notes"])]
    lines += [heading("Files"), f"project  {project['path']}", f"report   {document['run_dir']}/report.md"]
    lines += [f"page     {document['run_dir']}/report.html"]
    if document["verdict"]["first_divergence"] is not None:
        lines += [heading("Reproduce"), reproduction(document)]
    return "\n".join(lines)


def _reuse_words(project: Mapping[str, Any]) -> str:
    own = [f"{op} {factor}" for op, factor in project["reuse_factors"].items()]
    return ", ".join([str(project["reuse_factor"]), *own])


def verdict_line(report: Report) -> str:
    """Return the verdict in one line, with its scope."""
    verdict = report.document["verdict"]
    if report.bit_exact is None and not verdict["not_simulated"]:
        return "NOT COMPARED: the build stopped before simulation"
    scope = f"over {verdict['samples']} inputs and {verdict['adversarial_samples']} adversarial inputs"
    levels = " = ".join(
        f"{level} ({verdict['arithmetic'][level]})" if level == "qkeras" else level for level in verdict["compared"]
    )
    if report.bit_exact is None:
        return f"NOT SIMULATED: {verdict['not_simulated']}; computed by {levels}, {scope}"
    if report.bit_exact:
        layers = "every layer but the softmax" if report.document.get("softmax") else "every layer"
        return f"BIT EXACT: {levels}, {layers}, {scope}"
    return (
        f"DIFFERENT: {verdict['mismatches']} output elements differ between {', '.join(verdict['compared'])}, {scope}"
    )


def _proof_lines(document: Mapping[str, Any]) -> list[str]:
    """Return how many ops were proved, and over what, in one line; none if nothing was."""
    scopes = [layer["proof"]["scope"] for layer in document["layers"] if layer.get("proof")]
    if not scopes:
        return []
    counts = [f"{scopes.count(scope)} {words}" for scope, words in PROOF_WORDS.items() if scope in scopes]
    return [f"ops of the Verilog: {', '.join(counts)} (docs/proof.md)"]


def _verdict_details(document: Mapping[str, Any]) -> list[str]:
    lines = []
    first = document["verdict"]["first_divergence"]
    if first is not None:
        lines += [
            f"first at op '{first['op']}', element {tuple(first['index'])}: "
            f"{first['levels'][0]} {first['codes'][0]}, {first['levels'][1]} {first['codes'][1]}",
            f"cause: {first['cause']}",
            f"counterexample with {first['nonzero_inputs']} non-zero inputs, from sample {first['sample']}: "
            f"{document['run_dir']}/counterexample.npz",
        ]
    lines += [f"file: {difference}" for difference in document["verdict"]["file_differences"]]
    inputs = document["inputs"]
    if "source" in inputs:
        lines.append(
            f"inputs: {printable(inputs['source'])}; port {format_words(inputs['format'])}, "
            f"{inputs['rounded_values']} values rounded and {inputs['clipped_values']} clipped on their way in"
        )
    return lines


def reproduction(document: Mapping[str, Any]) -> str:
    """Return the command that runs the counterexample alone."""
    run_dir, levels = document["run_dir"], document["verdict"]["first_divergence"]["levels"]
    counterexample = f"{run_dir}/counterexample.npz"
    return shlex.join(["flow", "compare", run_dir, "--levels", *levels, "--inputs", counterexample])


def _accuracy_rows(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    accuracy = document["accuracy"]

    def row(name: str, samples: int | None, *values: float | None) -> list[str]:
        return [name, *("-" if value is None else f"{100 * value:.2f} %" for value in values), str(samples or "-")]

    if document.get("quantization"):
        rows = [row("this run", accuracy["samples"], accuracy["float"], accuracy["quantized"], accuracy["hardware"])]
        trained = accuracy["float_at_training"]
        if trained is not None:
            rows.insert(0, row("at training", accuracy["samples_at_training"], trained, None, None))
        return ["", "float", "quantized", "hardware", "samples"], rows
    rows = [row("this run", accuracy["samples"], None, accuracy["qkeras"], accuracy["hardware"])]
    if accuracy["float"] is not None:
        training = (accuracy["float"], accuracy["qkeras_at_training"], None)
        rows.insert(0, row("at training", accuracy["samples_at_training"], *training))
    return ["", "float", "QKeras", "hardware", "samples"], rows


def _layer_rows(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["op", "does", "shape", "output", "acc bits", "weights", "zeros", "mismatches"]
    rows = []
    for layer in document["layers"]:
        sparsity = layer["sparsity"]
        rows.append(
            [
                layer["name"],
                " + ".join(layer["fused"]) or layer["op"],
                "x".join(map(str, layer["shape"])),
                format_words(layer["output_format"]),
                str(layer["accumulator_bits"] or "-"),
                str(layer["weights"] or "-"),
                "-" if sparsity is None else f"{100 * sparsity:.1f} %",
                str(layer["mismatches"]),
            ]
        )
    return header, rows


def format_words(fmt: Mapping[str, Any]) -> str:
    """Return a format of the report as `--input-format` takes it, for example "ufixed<4,1>"."""
    width = fmt["signed"] + fmt["int_bits"] + fmt["frac_bits"]
    return f"{'' if fmt['signed'] else 'u'}fixed<{width},{fmt['signed'] + fmt['int_bits']}>"


def _source_words(resources: Mapping[str, Any]) -> str:
    kind = "static estimate" if resources["source"] == "static" else resources["source"]
    reached = resources["estimated_clock_period_ns"]
    return f"{kind} ({resources['tool']})" + ("" if reached is None else f", reaches {reached:g} ns")


def error_words(error: Mapping[str, Any]) -> str:
    """Return how far an estimate is off, as words."""
    lut, ff = (
        f"{name.upper()} by {error[name]['mean']:g} % in the mean, {error[name]['worst']:g} % at worst"
        for name in ("lut", "ff")
    )
    return f"off on {error['lut']['modules']} random modules ({error['against']}): {lut}; {ff}"


def _resource_rows(resources: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    own = [key for key in FAMILY_COUNTS if key in resources.get("detail", {})]
    counts = (*COUNTS, *own)
    header = ["", "LUT", "FF", "DSP", "BRAM 18k", "URAM", *(FAMILY_COUNTS[key] for key in own)]
    header += ["latency cycles", "II cycles"]

    def count(entry: Mapping[str, Any], key: str) -> int | None:
        found: int | None = entry.get(key, entry.get("detail", {}).get(key))
        return found

    def row(name: str, entry: Mapping[str, Any]) -> list[str]:
        found = [count(entry, key) for key in (*counts, "latency_cycles", "initiation_interval_cycles")]
        return [name, *("-" if each is None else f"{each:,}" for each in found)]

    rows = [row(layer["name"], layer) for layer in resources["layers"]] + [row("total", resources)]
    capacity = resources["capacity"]
    if capacity:
        rows.append(row("part has", capacity))
        shares = [(count(resources, key), capacity.get(key)) for key in counts]
        used = [f"{100 * part / whole:.1f} %" if whole and part is not None else "-" for part, whole in shares]
        rows.append(["used", *used, "", ""])
    return header, rows


def _energy_line(energy: Mapping[str, Any]) -> str:
    source = "static: 45 nm ASIC, relative only" if energy["source"] == "static" else energy["source"]
    words = {"int8": "with 8-bit multipliers", "float32": "in float32"}
    others = [f"{words[key]} {value:,.0f}" for key, value in energy["alternatives"].items()]
    figure = f"{energy['per_inference']:,.0f} {energy['unit']} per inference ({source})"
    return "; ".join([figure, *([", ".join(others)] if others else []), f"see {energy['table']}"])


def _text_table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    left = {i for i in range(len(header)) if i < 2 and not all(_is_number(row[i]) for row in rows)}
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text.replace(",", "").isdigit() or text == "-" or text.endswith("%")


def _markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
