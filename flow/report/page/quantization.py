"""How a float model was quantized: settings, counts, what was chosen for each module."""

from __future__ import annotations

from flow.quantization.words import POINTS_WORDS, cost_rows, how, module_rows, output_line
from flow.report.page import charts
from flow.report.page.html import Html, element, facts, join, number, table
from flow.report.record import Report


def quantization(report: Report) -> Html | None:
    """Return what was chosen and what it costs; None for a model that was quantized before."""
    found = report.document.get("quantization")
    if not found:
        return None
    calibration = found["calibration"]
    told = facts(
        ("how", how(found["settings"])),
        ("calibration", f"{calibration['samples']} of {calibration['of']} samples, {calibration['source']}"),
        ("outputs", None if found["outputs"] is None else output_line(found["outputs"])),
    )
    rows = [(POINTS_WORDS[each["points"]], each["ops"], number(each["ops"])) for each in found["counts"]]
    values = [
        (POINTS_WORDS[each["points"]], each["values_per_inference"], number(each["values_per_inference"]))
        for each in found["counts"]
    ]
    costs = table("What requantizers cost, each and per inference", *cost_rows(found)) if found["costs"] else None
    note = "From docs/quantizer-cost.md: measured circuits of the next larger widths."
    header, lines = module_rows(found)
    parts = [
        told,
        charts.bars(rows, "Quantization ops per inference"),
        charts.bars(values, "Values quantized per inference"),
        costs,
        element("p", note, class_="note") if costs else None,
        table("What was chosen for each module", header, lines, words=2),
    ]
    return join(parts)
