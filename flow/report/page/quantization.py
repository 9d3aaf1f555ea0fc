"""How a float model was quantized: settings, counts, what was chosen for each module."""

from __future__ import annotations

from flow.quantization.words import POINTS_WORDS, cost_rows, how, module_rows, output_line
from flow.report.page import charts
from flow.report.page.html import Html, element, facts, join, number, table
from flow.report.record import Report


def quantization(report: Report) -> Html | None:
    """Return what was chosen and what it costs; None for a model that was quantized before."""
    document = report.document.get("quantization")
    if not document:
        return None
    calibration = document["calibration"]
    told = facts(
        ("how", how(document["settings"])),
        ("calibration", f"{calibration['samples']} of {calibration['of']} samples, {calibration['source']}"),
        ("outputs", None if document["outputs"] is None else output_line(document["outputs"])),
    )
    counts = [
        (POINTS_WORDS[entry["points"]], entry["ops"], entry["values_per_inference"]) for entry in document["counts"]
    ]
    ops = [(points, count, number(count)) for points, count, _ in counts]
    values = [(points, count, number(count)) for points, _, count in counts]
    costs = table("What requantizers cost, each and per inference", *cost_rows(document)) if document["costs"] else None
    note = "From docs/quantizer-cost.md: measured circuits of the next larger widths."
    header, lines = module_rows(document)
    parts = [
        told,
        charts.bars(ops, "Quantization ops per inference"),
        charts.bars(values, "Values quantized per inference"),
        costs,
        element("p", note, class_="note") if costs else None,
        table("What was chosen for each module", header, lines, words=2),
    ]
    return join(parts)
