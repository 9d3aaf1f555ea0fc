"""Put a report together, or another comparison into it: what stages found becomes JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import IntGraph, Lookup, MatMul, Op, nested
from flow.ir.intervals import accumulation
from flow.ir.po2 import is_po2, split
from flow.ir.tables import TABLE_INPUT_BITS
from flow.report.record import SCHEMA, Comparison, Report
from flow.report.scores import accuracy, confusion, heads, measured_accuracy, softmax
from flow.report.since import with_changes
from flow.results import EnergyReport, ResourceReport
from flow.target import Target
from flow.verification.compare import mismatches
from flow.verification.levels import is_software

if TYPE_CHECKING:
    from flow.quantization.stage import Quantization


def assemble(
    *,
    trained: TrainedModel,
    graph: IntGraph,
    target: Target,
    run_dir: Path,
    project_digest: str | None,
    comparison: Comparison | None,
    quantization: Quantization | None = None,
    approximation: Mapping[str, Any] | None = None,
    configurations: Mapping[str, str] | None = None,
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
        approximation: what was rounded on request, and how far outputs are from the model's; None if nothing was.
        configurations: op -> the configuration of its kernel in the project, where it has one.
        resources, energy: what each source says.
        notes: what a reader must know, besides the warnings of the graph.
        commands: command lines that do it all again.
        versions: of the packages that made the project, by name; those that trained the model are in `trained`.
        timings_s: seconds by stage.
    """
    wrong, proofs = _mismatches(graph, comparison), {} if comparison is None else comparison.proofs
    taken = {name: {"configuration": taken} for name, taken in (configurations or {}).items()}
    report = Report(
        {
            "schema": SCHEMA,
            "model": trained.name,
            "run_dir": str(run_dir),
            "verdict": _verdict(comparison, wrong),
            "layers": [
                _layer(op, graph, wrong.get(op.name), proofs.get(op.name)) | taken.get(op.name, {}) for op in graph.ops
            ],
            "sparsity": _total_sparsity(graph),
            "accuracy": accuracy(graph, comparison, trained, quantization),
            "confusion": confusion(graph, comparison, trained.metrics.get("float_confusion")),
            "heads": heads(graph, comparison, {} if quantization is None else quantization.heads),
            "softmax": softmax(graph, comparison),
            "inputs": _inputs(graph, comparison),
            "quantization": None if quantization is None else dict(quantization.document),
            "approximation": None if approximation is None else dict(approximation),
            "resources": [entry.to_json() for entry in resources],
            "energy": [entry.to_json() for entry in energy],
            "project": {
                **target.to_json(),
                "clock_uncertainty": target.clock_uncertainty,
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
    return with_changes(report, comparison.changes if comparison else ())


def recompared(report: Report, graph: IntGraph, comparison: Comparison, timings_s: Mapping[str, float]) -> Report:
    """Return a report with another comparison in it, of the project as it lies on disk now."""
    wrong = _mismatches(graph, comparison)
    layers = [
        {**layer, "mismatches": wrong.get(layer["name"]), "proof": comparison.proofs.get(layer["name"])}
        for layer in report.document["layers"]
    ]
    report = Report(
        {
            **report.document,
            "verdict": _verdict(comparison, wrong),
            "inputs": {**report.document["inputs"], **_source(comparison)},
            "accuracy": {**report.document["accuracy"], **measured_accuracy(graph, comparison)},
            "confusion": confusion(graph, comparison, (report.document.get("confusion") or {}).get("float")),
            "heads": heads(graph, comparison, {each["output"]: each for each in report.document.get("heads", ())}),
            "layers": layers,
            "softmax": softmax(graph, comparison) or report.document.get("softmax", []),
            "timings_s": {name: round(seconds, 4) for name, seconds in timings_s.items()},
        }
    )
    return with_changes(report, comparison.changes).with_notes(comparison.note)


def _mismatches(graph: IntGraph, comparison: Comparison | None) -> dict[str, int]:
    """Return, per op that was compared, how many of its output elements differ."""
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
            "inputs_digest": None,
            "mismatches": None,
            "compared": [],
            "arithmetic": {},
            "first_divergence": None,
            "file_differences": [],
            "found_since": [],
            "not_simulated": None,
        }
    levels = [*(other for other in comparison.others if is_software(other.level)), comparison.reference]
    levels += [other for other in comparison.others if not is_software(other.level)]
    return {
        "bit_exact": None,  # judged when the report is whole
        "samples": len(comparison.port.codes),
        "adversarial_samples": comparison.adversarial,
        "inputs_digest": comparison.inputs_digest,
        "mismatches": sum(wrong.values()) if comparison.others else None,
        "compared": [result.level for result in levels],
        "arithmetic": {result.level: result.arithmetic for result in levels},
        "first_divergence": None if comparison.divergence is None else comparison.divergence.to_json(),
        "file_differences": [*map(str, comparison.changes), *comparison.differences],
        "found_since": [],
        "not_simulated": comparison.not_simulated or None,
    }


def _layer(op: Op, graph: IntGraph, wrong: int | None, proof: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": op.name,
        "op": op.kind,
        "inputs": list(op.inputs),
        "layers": list(dict.fromkeys(op.layers)),
        "fused": list(op.fused),
        "shape": list(op.shape),
        "output_format": op.format.to_json(),
        "rounding": op.cast.rounding.value,
        "overflow": op.cast.overflow.value,
        "accumulator_bits": None,
        "accumulator_range": None,
        "weights": 0,
        "sparsity": None,
        "mismatches": wrong,
        "proof": proof,
    }
    if op.denominator != 1:
        entry["denominator"] = op.denominator
    if isinstance(op, MatMul):
        sums = accumulation(op, graph[op.inputs[0]].format)
        entry |= {
            "accumulator_bits": op.accumulator.width if op.accumulator else None,
            "accumulator_range": [sums.low, sums.high],
        }
    held = [each.weight for each in nested(op) if isinstance(each, MatMul)]
    if held:  # those of a scan are of one recurrent kernel
        codes = np.concatenate([weight.codes.reshape(-1) for weight in held])
        entry |= {
            "weights": int(codes.size),
            "sparsity": float(np.count_nonzero(codes == 0) / codes.size),
            "weight_format": held[0].format.to_json(),
            "power_of_two_weights": is_po2(codes),
        }
        if is_po2(codes):
            entry["exponents"] = _exponents(codes, held[0].format.frac_bits)
    if isinstance(op, Lookup):
        entry["steps"] = _steps(op, graph[op.inputs[0]].format)
    return entry


def _steps(op: Lookup, x: FixedFormat) -> dict[str, Any]:
    """Return how many steps a function has, or the functions of its channels, and how they were found."""
    functions = len(op.starts) if op.starts.ndim > 1 else 1
    counts = [len(op.of_channel(channel)[0]) - 1 for channel in range(functions)]
    listed = x.width <= TABLE_INPUT_BITS and op.starts.ndim == 1
    return {"functions": functions, "least": min(counts), "most": max(counts), "listed": listed}


def _exponents(codes: Codes, frac_bits: int) -> dict[str, int]:
    """Return how many non-zero weights have each exponent of two, by exponent, ascending."""
    weights = split(codes)
    stored = weights.exponent[weights.nonzero] + weights.min_exponent - frac_bits
    return {str(exponent): int(count) for exponent, count in zip(*np.unique(stored, return_counts=True), strict=True)}


def _total_sparsity(graph: IntGraph) -> float | None:
    weights = [each.weight.codes for op in graph.ops for each in nested(op) if isinstance(each, MatMul)]
    total = sum(weight.size for weight in weights)
    return float(sum(np.count_nonzero(weight == 0) for weight in weights) / total) if total else None


def _inputs(graph: IntGraph, comparison: Comparison | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "format": graph.inputs[0].format.to_json(),
        "shape": list(graph.inputs[0].shape),
        "ports": [{"name": op.name, "format": op.format.to_json(), "shape": list(op.shape)} for op in graph.inputs],
    }
    return entry if comparison is None else entry | _source(comparison)


def _source(comparison: Comparison) -> dict[str, Any]:
    port = comparison.port
    return {"source": port.source, "rounded_values": port.rounded, "clipped_values": port.clipped}
