"""The page of one run: its sections in order."""

from __future__ import annotations

from flow.report.page import ops, quantization, sections, verdict
from flow.report.page.html import element, join, page
from flow.report.record import Report

SECTIONS = (
    ("network", "Network", ops.diagram),
    ("ops", "Ops", ops.modules),
    ("quantization", "Quantization", quantization.quantization),
    ("accuracy", "Accuracy", sections.accuracy),
    ("resources", "Resources and latency", sections.resources),
    ("energy", "Energy", sections.energy),
    ("notes", "Notes", sections.notes),
    ("inputs", "Inputs", sections.inputs),
    ("provenance", "Provenance", sections.provenance),
    ("timings", "Timings", sections.timings),
)
"""(id, title, function); a section without anything to say is left out."""


def render(report: Report) -> str:
    """Return the page of a run: one HTML file that needs nothing else."""
    made = [(place, title, section(report)) for place, title, section in SECTIONS]
    kept = [(place, title, inside) for place, title, inside in made if inside]
    parts = (
        element("section", element("h2", title, id=place), inside, aria_labelledby=place)
        for place, title, inside in kept
    )
    contents = [("verdict", "Verdict"), *((place, title) for place, title, _ in kept)]
    main = join([verdict.verdict(report), verdict.summary(report), *parts])
    return page(f"{report.document['model']}: report", verdict.heading(report), contents, main)
