"""C synthesis: `<top>_csynth.rpt` and `<top>_csynth.xml` of Vivado HLS 2020.1 and Vitis HLS 2020.2 to 2025.2.

Vivado HLS calls its DSP column `DSP48E`, Vitis HLS `DSP`; the XML has no layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from flow.cost.vendor_reports.text import ReportText, Row, Table
from flow.results import ResourceReport, Resources

COLUMNS = {"BRAM_18K": "bram_18k", "DSP48E": "dsp", "DSP": "dsp", "FF": "ff", "LUT": "lut", "URAM": "uram"}
"""Column of a csynth report -> field of Resources."""
TITLE = r"^== (Vivado HLS|Vitis HLS) Report for '(\S+)'"


def read_csynth(path: Path) -> ResourceReport:
    """Return what C synthesis estimates, from `<top>_csynth.rpt` or `<top>_csynth.xml`.

    Latency and interval are the largest that the report gives. Only the text report has layers (the instances of the
    top function).

    Raises:
        ToolFailedError: the file is cut short, or has another layout; it names file and line.
    """
    report = ReportText.read(path)
    return _xml(report) if path.suffix == ".xml" else _rpt(report)


def _rpt(report: ReportText) -> ResourceReport:
    """Read the text report; the tool's name is in its title."""
    title = re.search(TITLE, report.text, re.MULTILINE)
    if title is None:
        raise report.layout(1, "the title \"== Vivado HLS Report for '...'\" or \"== Vitis HLS Report for '...'\"")
    version = report.field(r"^\* Version:\s+(\S+)", "Version")
    tables = report.tables()
    timing = report.table(tables, "Performance Estimates", "Timing/Summary")
    latency = report.table(tables, "Performance Estimates", "Latency/Summary")
    area = report.table(tables, "Utilization Estimates", "Summary")
    totals = {row.cells[0]: row for row in area.rows}
    for name in ("Total", "Available"):
        if name not in totals:
            raise report.layout(area.line, f"a row {name!r} in the utilization summary")
    if not timing.rows or not latency.rows:
        raise report.layout((timing if not timing.rows else latency).line, "a row of numbers under this header")
    return ResourceReport(
        source="csynth",
        tool=f"{title[1]} {version}",
        part=report.field(r"^\* Target device:\s+(\S+)", "Target device"),
        clock_period_ns=_nanoseconds(report, timing, "Target"),
        estimated_clock_period_ns=_nanoseconds(report, timing, "Estimated"),
        total=Resources(
            name=title[2], **_counts(report, area, totals["Total"]), **_cycles(report, latency, latency.rows[0])
        ),
        layers=_instances(report, tables),
        top=title[2],
        capacity=_capacity(report, totals["Available"].line, _counts(report, area, totals["Available"])),
    )


def _instances(report: ReportText, tables: Sequence[Table]) -> tuple[Resources, ...]:
    """Join the two Instance tables on the instance's name; a module without logic stands only in that of latency."""
    counts: dict[str, dict[str, Any]] = {}
    complete = re.search(r"\* Instance:\s*\n\s*N/A", report.text.partition("== Utilization Estimates")[2]) is not None
    for table in tables:
        if table.heading != "Detail/Instance" or table.header[:2] != ("Instance", "Module"):
            continue
        is_area = table.section == "Utilization Estimates"
        complete |= is_area and bool(table.rows) and table.rows[-1].cells[0] == "Total"
        for row in table.rows:
            if row.cells[0] != "Total":
                read = _counts(report, table, row) if is_area else _cycles(report, table, row)
                counts.setdefault(row.cells[0], {}).update(read)
    if not complete:
        raise report.layout(report.end, "a table of instances that ends in 'Total', or N/A, among the utilization")
    return tuple(Resources(name=name, **fields) for name, fields in counts.items())


def _counts(report: ReportText, table: Table, row: Row) -> dict[str, Any]:
    """Return the resources of one row of a utilization table."""
    dsp = "DSP48E" if "DSP48E" in table.header else "DSP"
    columns = ["BRAM_18K", dsp, "FF", "LUT", *(["URAM"] if "URAM" in table.header else [])]
    return {COLUMNS[name]: report.count(row.line, name, report.cell(table, row, name)) for name in columns}


def _cycles(report: ReportText, table: Table, row: Row) -> dict[str, Any]:
    """Return the largest latency and interval of one row; the last header row is `min max min max min max Type`."""
    numbers = ("min", "max", "min", "max", "min", "max", "Type")
    if table.header[-7:] != numbers:
        raise report.layout(table.line, f"columns {' '.join(numbers)} (latency, absolute latency, interval)")
    report.check_width(table, row)
    return {
        "latency_cycles": report.count(row.line, "latency", row.cells[-6]),
        "initiation_interval_cycles": report.count(row.line, "interval", row.cells[-2]),
    }


def _nanoseconds(report: ReportText, table: Table, column: str) -> float:
    row = table.rows[0]
    cell = report.cell(table, row, column)
    if not cell.endswith("ns"):
        raise report.layout(row.line, f"nanoseconds under {column!r}, not {cell!r}")
    return float(report.decimal(row.line, f"{column} clock period", cell[:-2].strip()))


def _xml(report: ReportText) -> ResourceReport:
    """Read the XML report; it does not name the tool, but only Vivado HLS counts `DSP48E`."""
    if declared := re.search("<![^-]", report.text):  # an entity may stand for gigabytes
        raise report.layout(report.line_of(declared[0]), "XML without a document type, so without entities of its own")
    try:
        root = ElementTree.fromstring(report.text)
    except ElementTree.ParseError as error:
        raise report.layout(error.position[0], f"well-formed XML ({error})") from error
    area = {name: _elements(report, root, f"AreaEstimates/{name}") for name in ("Resources", "AvailableResources")}
    overall = _elements(report, root, "PerformanceEstimates/SummaryOfOverallLatency")
    timing = _elements(report, root, "PerformanceEstimates/SummaryOfTimingAnalysis")
    user = _elements(report, root, "UserAssignments")
    tool = "Vivado HLS" if "DSP48E" in area["Resources"] else "Vitis HLS"

    def get(elements: Mapping[str, str], name: str) -> str:
        if name not in elements:
            raise report.layout(report.end, f"an element <{name}>")
        return elements[name]

    def counts(where: str) -> dict[str, Any]:
        elements = area[where]
        missing = {"LUT", "FF", "BRAM_18K", "DSP48E" if "DSP48E" in elements else "DSP"} - set(elements)
        if missing:
            raise report.layout(report.line_of(f"<{where}>"), f"elements {', '.join(sorted(missing))} in <{where}>")
        return {
            COLUMNS[name]: report.count(report.line_of(f"<{where}>", f"<{name}>"), name, cell)
            for name, cell in elements.items()
            if name in COLUMNS
        }

    def cycles(name: str) -> int | None:
        return report.count(report.line_of(f"<{name}>"), name, get(overall, name))

    def nanoseconds(elements: Mapping[str, str], name: str) -> float:
        return float(report.decimal(report.line_of(f"<{name}>"), name, get(elements, name)))

    return ResourceReport(
        source="csynth",
        tool=f"{tool} {get(_elements(report, root, 'ReportVersion'), 'Version')}",
        part=get(user, "Part"),
        clock_period_ns=nanoseconds(user, "TargetClockPeriod"),
        estimated_clock_period_ns=nanoseconds(timing, "EstimatedClockPeriod"),
        total=Resources(
            name=get(user, "TopModelName"),
            **counts("Resources"),
            latency_cycles=cycles("Worst-caseLatency"),
            initiation_interval_cycles=cycles("Interval-max"),
        ),
        top=get(user, "TopModelName"),
        capacity=_capacity(report, report.line_of("<AvailableResources>"), counts("AvailableResources")),
    )


def _elements(report: ReportText, root: ElementTree.Element, where: str) -> dict[str, str]:
    """Return tag -> text of the children of one element."""
    element = root.find(where)
    if element is None:
        raise report.layout(report.end, f"an element <{where}>")
    return {child.tag: (child.text or "").strip() for child in element}


def _capacity(report: ReportText, line: int, counts: Mapping[str, int | None]) -> dict[str, int]:
    missing = [name for name, count in counts.items() if count is None]
    if missing:
        raise report.layout(line, f"a number of available {', '.join(missing)}")
    return {name: count for name, count in counts.items() if count is not None}
