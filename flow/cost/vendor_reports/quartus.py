"""Quartus Prime 17.0 to 24.1, Standard and Pro: the fitter's `<revision>.fit.summary` and `<revision>.fit.rpt`.

Families whose logic is counted in adaptive logic modules (ALM: Cyclone V, Arria, Stratix, Agilex). An ALM is no LUT
and a block of RAM (M10K, M20K) none of 18 kbit, so they stand under names of their own: `detail` has `alm`,
`ram_blocks` and `memory_bits`, `lut` is the number of combinational ALUTs, and `bram_18k` is never set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flow.cost.vendor_reports.text import ReportText, Row, Table
from flow.errors import ToolFailedError
from flow.results import ResourceReport, Resources

SUMMARY = "Fitter Summary"
ENTITIES = "Fitter Resource Utilization by Entity"
CAPACITIES = {
    "alm": "Logic utilization (in ALMs)",
    "memory_bits": "Total block memory bits",
    "ram_blocks": "Total RAM Blocks",
    "dsp": "Total DSP Blocks",
}
"""What is used and available, by its line in the summary; without RAM or DSP blocks on the device it has no line."""
REGISTERS = ("Total registers", "Total dedicated logic registers")
Summary = Mapping[str, tuple[int, str]]


def read_quartus_fit(path: Path) -> ResourceReport:
    """Return what the fitter placed, from `<revision>.fit.summary` or `<revision>.fit.rpt`.

    Only the latter has layers (the entities in the top entity) and the number of combinational ALUTs.

    Raises:
        ToolFailedError: the file is cut short or has another layout, or the fit failed; it names file
            and line.
    """
    report = ReportText.read(path)
    boxes = {box.header[0]: box for box in report.tables(";") if len(box.header) == 1}
    summary = _summary(report, boxes.get(SUMMARY))
    line, status = _line(report, summary, "Fitter Status")
    if not status.startswith("Successful"):
        raise ToolFailedError(f"{path}:{line}: the fit did not succeed: {status}")
    numbers = {name: _used(report, label, *summary[label]) for name, label in CAPACITIES.items() if label in summary}
    if "alm" not in numbers:
        raise report.layout(report.end, f"a line {CAPACITIES['alm']!r}: other logic than ALMs is not read")
    registers = next((label for label in REGISTERS if label in summary), REGISTERS[0])
    count, text = _line(report, summary, registers)
    layers = _entities(report, boxes.get(ENTITIES))
    return ResourceReport(
        source="quartus",
        tool=f"Quartus Prime {_line(report, summary, 'Quartus Prime Version')[1].split()[0]} (fitted)",
        part=_line(report, summary, "Device")[1],
        total=Resources(
            name=_line(report, summary, "Top-level Entity Name")[1],
            lut=layers[0].lut if layers else None,
            ff=_whole(report, count, registers, text),
            dsp=numbers["dsp"][0] if "dsp" in numbers else None,
            detail={name: used for name, (used, _) in numbers.items() if name != "dsp"},
        ),
        layers=layers[1:],
        capacity={name: available for name, (_, available) in numbers.items()},
    )


def _summary(report: ReportText, box: Table | None) -> Summary:
    """Return label -> line and value, from the box of a `.fit.rpt` or the lines of a `.fit.summary`."""
    if box is not None:
        report.check_closed(box)
        return {row.cells[0]: (row.line, row.cells[-1]) for row in box.rows}
    lines = [line.partition(" : ") for line in report.text.splitlines()]
    if lines and lines[0][0] == "Fitter Status":
        if not report.text.endswith("\n"):
            raise report.layout(len(lines), "a whole line")
        return {label.strip(): (number, value.strip()) for number, (label, _, value) in enumerate(lines, 1)}
    raise report.layout(1, f"'Fitter Status : ...' or a table {SUMMARY!r}")


def _line(report: ReportText, summary: Summary, label: str) -> tuple[int, str]:
    if label not in summary:
        raise report.layout(report.end, f"a line {label!r} in the fitter's summary")
    return summary[label]


def _used(report: ReportText, label: str, line: int, text: str) -> tuple[int, int]:
    """Read `17,269 / 32,070 ( 54 % )`."""
    counts = re.fullmatch(r"([\d,]+) / ([\d,]+) \(.*\)", text)
    if counts is None:
        raise report.layout(line, f"'<used> / <available> ( <percent> )', not {text!r}")
    return _whole(report, line, label, counts[1]), _whole(report, line, label, counts[2])


def _whole(report: ReportText, line: int, name: str, text: str) -> int:
    """Read a whole number with commas between its thousands, or without any."""
    return report.whole(line, name, text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else text)


def _entities(report: ReportText, box: Table | None) -> tuple[Resources, ...]:
    """Return the top entity and those in it; nothing where the table of contents lists no such table."""
    if box is None:
        if re.search(rf"^\s+\d+\. {ENTITIES}$", report.text, re.MULTILINE):
            raise report.layout(report.end, f"a table {ENTITIES!r}, as the table of contents says")
        return ()
    report.check_closed(box)
    if len(box.rows) < 2:
        raise report.layout(box.line, f"columns and rows in the table {ENTITIES!r}")
    header, top, *others = box.rows
    table = Table(box.section, box.heading, header.line, header.cells, (top, *others), box.closed)
    return tuple(_entity(report, table, row) for row in table.rows if row is top or row.indent == top.indent + 3)


def _entity(report: ReportText, table: Table, row: Row) -> Resources:
    """Read one row, where `43 (2)` is 43 of which 2 are the entity's own."""
    names = {
        "ram_blocks": next((name for name in table.header if re.fullmatch(r"M\d+Ks", name)), "M20Ks"),
        "dsp": next((name for name in table.header if name.startswith("DSP Blocks")), "DSP Blocks"),
        "lut": "Combinational ALUTs",
        "ff": "Dedicated Logic Registers",
        "memory_bits": "Block Memory Bits",
    }
    counts: dict[str, Any] = {
        field: _whole(report, row.line, name, report.cell(table, row, name).partition(" (")[0])
        for field, name in names.items()
    }
    detail = {name: counts.pop(name) for name in ("ram_blocks", "memory_bits")}
    return Resources(name=row.cells[0].strip("|"), **counts, detail=detail)
