"""The report for people who read text: short tables for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow.cost.calibration import beside
from flow.errors import counted
from flow.ir.names import printable
from flow.quantization.words import module_rows, summary_lines
from flow.report import words
from flow.report.record import Report

FAMILY_COUNTS = {"alm": "ALM", "ram_blocks": "RAM blocks"}
"""Counts in `detail` of families that have no such thing as the usual ones -> heading."""


def to_text(report: Report) -> str:
    """Return the report as short tables for a terminal."""
    return _render(report, _text_table, lambda title: f"\n{title}")


def to_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return _render(report, _markdown_table, lambda title: f"\n## {title}\n") + "\n"


def _render(report: Report, table: Any, heading: Any) -> str:
    document = report.document
    project = document["project"]
    lines = [f"{document['model']}: {', '.join(map(str, words.settings(project)))}", "", words.verdict_line(report)]
    lines += [f"  {line}" for line in _verdict_details(document)]
    lines += [line] if (line := words.lut_line(document)) else []
    lines += [f"  {words.softmax_line(entry)}" for entry in document.get("softmax", ())]
    lines += [heading("Accuracy"), *(table(*rows) for rows in _accuracy_tables(document))]
    if document.get("quantization"):
        lines += [heading("Quantization"), *(f"- {line}" for line in summary_lines(document["quantization"]))]
        lines += ["", table(*module_rows(document["quantization"]))]
    lines += [heading("Layers"), table(*_layer_rows(document))]
    for resources in document["resources"]:
        lines += [heading(f"Resources: {_source_words(resources)}"), table(*_resource_rows(resources))]
        lines += ["", *told] if (told := _estimate_lines(resources)) else []
    for found in beside(document):
        lines += [heading(f"Predicted and measured: {words.beside_words(found)}"), table(*words.beside_rows(found))]
        lines += ["", f"modules that are no op's: {', '.join(sorted(found.unmatched))}"] if found.unmatched else []
    if document.get("energy"):
        lines += [heading("Energy"), *map(_energy_line, document["energy"])]
    if document["notes"]:
        lines += [heading("Notes"), *(f"- {printable(note)}" for note in document["notes"])]
    written = project["path"] if project["digest"] else "not written: the build stopped before"
    lines += [heading("Files"), f"project  {written}", f"report   {document['run_dir']}/report.md"]
    lines += [f"page     {document['run_dir']}/report.html"]
    if document["verdict"]["first_divergence"] is not None:
        lines += [heading("Reproduce"), words.reproduction(document)]
    return "\n".join(lines)


def _estimate_lines(resources: Mapping[str, Any]) -> list[str]:
    """Return what is known of an estimate: its error, what says where true counts lie, its longest path."""
    lines = [words.error_words(resources["error"])] if "error" in resources else []
    if lut := (resources.get("intervals") or {}).get("lut"):
        lines.append(f"LUT {lut['basis']}")
    told = (words.calibration_line(resources), words.path_line(resources))
    return [*lines, *filter(None, told)]


def _verdict_details(document: Mapping[str, Any]) -> list[str]:
    lines = []
    first, files = document["verdict"]["first_divergence"], words.differences(document)
    if first is not None:
        lines += [
            f"first at {words.divergence_place(first)}: {words.divergence_codes(first)}",
            f"cause: {first['cause']}" + ("; another may fit too: see the files below" if files else ""),
            f"counterexample with {first['nonzero_inputs']} non-zero inputs, from sample {first['sample']}: "
            f"{document['run_dir']}/counterexample.npz",
        ]
    lines += [f"file: {printable(difference)}" for difference in files]
    lines += [printable(words.found_line(entry)) for entry in document["verdict"].get("found_since", ())]
    if words.since_words(document):
        lines.append(words.before_line(Report(document)))
    inputs = document["inputs"]
    if "source" in inputs:
        rounded, clipped = counted(inputs["rounded_values"], "value"), inputs["clipped_values"]
        lines.append(
            f"inputs: {printable(inputs['source'])}; port {words.format_words(inputs['format'])}, "
            f"{rounded} rounded and {clipped} clipped on their way in"
        )
    scopes = [layer["proof"]["scope"] for layer in document["layers"] if layer.get("proof")]
    if scopes:
        counts = [f"{scopes.count(scope)} {said}" for scope, (said, _) in words.SCOPES.items() if scope in scopes]
        lines.append(f"ops of the Verilog: {', '.join(counts)} (docs/proof.md)")
    return lines


def _accuracy_tables(document: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Return the accuracies, or of a model with heads those at training and what was measured of each head."""
    software, training, here = words.accuracies(document)
    header, of_heads = words.head_rows(document)
    measured = [] if training[0] is None else [("at training", training)]
    measured += [] if of_heads else [("this run", here)]
    rows = [
        [name, *("-" if share is None else f"{100 * share:.2f} %" for share in shares), str(samples or "-")]
        for name, (*shares, samples) in measured
    ]
    tables = [(["", "float", software, "hardware", "samples"], rows)] if rows else []
    if of_heads:
        tables.append((header, [["-" if cell is None else cell for cell in row] for row in of_heads]))
    return tables


def _layer_rows(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["op", "does", "shape", "output", "acc bits", "weights", "zeros", "mismatches"]
    rows = [
        [
            layer["name"],
            ", ".join(filter(None, (words.does(layer), words.steps_words(layer)))),
            "x".join(map(str, layer["shape"])),
            words.output_words(layer),
            str(layer["accumulator_bits"] or "-"),
            str(layer["weights"] or "-"),
            "-" if layer["sparsity"] is None else f"{100 * layer['sparsity']:.1f} %",
            "-" if layer["mismatches"] is None else str(layer["mismatches"]),
        ]
        for layer in document["layers"]
    ]
    return header, rows


def _source_words(resources: Mapping[str, Any]) -> str:
    kind = words.source_words(resources) if resources["source"].startswith("static") else resources["source"]
    reached = resources["estimated_clock_period_ns"]
    planned = "critical_path" in resources  # the model's own figure, which stands below with its path
    return f"{kind} ({resources['tool']})" + ("" if reached is None or planned else f", reaches {reached:g} ns")


def _resource_rows(resources: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    own = [key for key in FAMILY_COUNTS if key in resources.get("detail", {})]
    counts = (*words.COUNTS, *own)
    header = ["", *words.COUNTS.values(), *(FAMILY_COUNTS[key] for key in own), "latency cycles", "II cycles"]

    def count(entry: Mapping[str, Any], key: str) -> Any:
        return entry.get(key, entry.get("detail", {}).get(key))

    def row(name: str, entry: Mapping[str, Any]) -> list[str]:
        numbers = [count(entry, key) for key in (*counts, "latency_cycles", "initiation_interval_cycles")]
        return [name, *("-" if number is None else f"{number:,}" for number in numbers)]

    rows = [row(layer["name"], layer) for layer in resources["layers"]] + [row("total", resources)]
    stated = resources.get("intervals") or {}
    for name, end in (("from", "low"), ("to", "high")) if stated else ():
        rows.append(row(name, {key: interval[end] for key, interval in stated.items()}))
    capacity = resources["capacity"]
    if capacity:
        rows.append(row("part has", capacity))
        shares = [(count(resources, key), capacity.get(key)) for key in counts]
        used = [f"{100 * taken / has:.1f} %" if has and taken is not None else "-" for taken, has in shares]
        rows.append(["used", *used, "", ""])
    return header, rows


def _energy_line(energy: Mapping[str, Any]) -> str:
    source = "static: 45 nm ASIC, relative only" if energy["source"] == "static" else energy["source"]
    others = [f"{words.ALTERNATIVES[key]} {value:,.0f}" for key, value in energy["alternatives"].items()]
    figure = f"{energy['per_inference']:,.0f} {energy['unit']} per inference ({source})"
    return "; ".join([figure, *([", ".join(others)] if others else []), f"see {energy['table']}"])


def _text_table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    left = {i for i in range(len(header)) if i < 2 and not all(_is_number(row[i]) for row in rows)}
    lines = []
    for row in [header, *rows]:
        cells = [f"{cell:{'<' if i in left else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text.replace(",", "").isdigit() or text == "-" or text.endswith("%")


def _markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
