"""Vivado 2018.2 to 2025.2: what `report_utilization`, the same with `-hierarchical`, and `report_timing_summary` write.

Slices are counted as "Slice LUTs" (7 series) or "CLB LUTs" (UltraScale and UltraScale+). Versal is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from flow.cost.vendor_reports.text import MOST_COUNT, MOST_NS, UNKNOWN, ReportText
from flow.errors import ToolFailedError
from flow.results import ResourceReport, Resources

SITES = (
    ("lut", ("Slice LUTs", "CLB LUTs"), 1),
    ("ff", ("Slice Registers", "CLB Registers"), 1),
    ("bram_18k", ("Block RAM Tile",), 2),
    ("dsp", ("DSPs",), 1),
    ("uram", ("URAM",), 1),
)
"""Field of Resources, the row's label, and how many of the field one of the row's is: half a tile is one of 18 kbit."""
HIERARCHY = "1. Utilization by Hierarchy"
TIMING = "| Design Timing Summary"
CLOCKS = "| Clock Summary"


@dataclass(frozen=True, slots=True)
class Timing:
    """The worst setup path between two registers.

    Attributes:
        period_ns: of the one clock; None if there is none.
        slack_ns: worst negative slack (WNS), negative if the period is missed; None if no path has one.
    """

    period_ns: Decimal | None
    slack_ns: Decimal | None

    @property
    def reached_ns(self) -> float | None:
        """The shortest period that the worst path allows; None where that path takes several (its slack is longer)."""
        if self.period_ns is None or self.slack_ns is None or self.slack_ns > self.period_ns:
            return None
        return float(self.period_ns - self.slack_ns)


def read_vivado(utilization: Path, hierarchy: Path | None = None, timing: Path | None = None) -> ResourceReport:
    """Return what Vivado counts and what clock it expects to reach, from its reports of one design.

    Args:
        utilization: text of `report_utilization`.
        hierarchy: text of `report_utilization -hierarchical`: gives the layers, which are the instances in the top
            module.
        timing: text of `report_timing_summary`: gives the target clock, and period minus slack as the reached one.

    Raises:
        ToolFailedError: a file is cut short, has another layout, or is of another design or version
            of Vivado than the first; it names file and line.
    """
    report = read_vivado_utilization(utilization)
    if hierarchy is not None:
        _check_same(utilization, hierarchy)
        report = replace(report, layers=read_vivado_hierarchy(hierarchy))
    if timing is not None:
        _check_same(utilization, timing)
        clock = read_vivado_timing(timing)
        period = None if clock.period_ns is None else float(clock.period_ns)
        report = replace(report, clock_period_ns=period, estimated_clock_period_ns=clock.reached_ns)
    return report


def read_vivado_utilization(path: Path) -> ResourceReport:
    """Return what Vivado counts, from the text of `report_utilization`.

    `bram_18k` is twice the block RAM tiles. 7-series reports have no UltraRAM row: `uram` is None.

    Raises:
        ToolFailedError: the file is cut short, or has another layout; it names file and line.
    """
    report = ReportText.read(path)
    tables = [table for table in report.tables() if table.header[:2] == ("Site Type", "Used")]
    used: dict[str, Any] = {}
    capacity: dict[str, int] = {}
    for name, labels, factor in SITES:
        rows = [(table, row) for table in tables for row in table.rows if row.cells[0].rstrip("*") in labels]
        if not rows and name == "uram":
            continue
        if not rows:
            raise report.layout(report.end, f"a row {' or '.join(map(repr, labels))} in a table of site types")
        table, row = rows[0]
        used[name] = _scaled(report, row.line, row.cells[0], report.cell(table, row, "Used"), factor)
        capacity[name] = _scaled(report, row.line, row.cells[0], report.cell(table, row, "Available"), factor)
    version, design = _head(report)
    part = report.field(r"^\| Device\s*: (\S+)", "Device")
    state = report.field(r"^\| Design State\s*: (.+?)\s*$", "Design State")
    return ResourceReport(
        source="vivado",
        tool=f"Vivado {version} ({state.lower()})",
        part=f"xc{part}" if part[0].isdigit() else part,
        total=Resources(name=design, **used),
        top=design,
        capacity=capacity,
    )


def read_vivado_hierarchy(path: Path) -> tuple[Resources, ...]:
    """Return the instances in the top module, from the text of `report_utilization -hierarchical`.

    The top module's own logic is not among them.

    Raises:
        ToolFailedError: the file is cut short, or has another layout; it names file and line.
    """
    report = ReportText.read(path)
    tables = [table for table in report.tables() if table.section == HIERARCHY]
    if not tables or not tables[0].rows:
        raise report.layout(report.end, f"a table under {HIERARCHY!r}")
    table, top = tables[0], tables[0].rows[0]
    report.check_closed(table)
    if report.cell(table, top, "Module") != "(top)":
        raise report.layout(top.line, "the top module in the first row, with module '(top)'")
    dsp = "DSP48 Blocks" if "DSP48 Blocks" in table.header else "DSP Blocks"
    layers = []
    for row in table.rows[1:]:
        if row.indent != top.indent + 2 or row.cells[0].startswith("("):
            continue
        counts = {
            name: report.count(row.line, name, report.cell(table, row, name))
            for name in ("Total LUTs", "FFs", "RAMB36", "RAMB18", dsp, *(["URAM"] if "URAM" in table.header else []))
        }
        blocks, halves = counts["RAMB36"], counts["RAMB18"]
        layers.append(
            Resources(
                name=row.cells[0],
                lut=counts["Total LUTs"],
                ff=counts["FFs"],
                dsp=counts[dsp],
                bram_18k=None if blocks is None or halves is None else 2 * blocks + halves,
                uram=counts.get("URAM"),
            )
        )
    return tuple(layers)


def read_vivado_timing(path: Path) -> Timing:
    """Return clock and worst setup slack, from the text of `report_timing_summary`.

    Raises:
        ToolFailedError: the file is cut short, has another layout, or more than one clock; it names
            file and line.
    """
    report = ReportText.read(path)
    lines = report.text.splitlines()
    slack = _below(report, lines, TIMING, "WNS(ns)")
    if slack is None:
        raise report.layout(report.line_of(TIMING), "a header 'WNS(ns) ...' below this title")
    numbers, rule = lines[slack].split(), lines[slack - 1].split()
    if len(numbers) != len(rule):
        raise report.layout(slack + 1, f"{len(rule)} numbers, WNS first")
    if numbers[0] in UNKNOWN:
        return Timing(_period(report, lines), None)
    return Timing(_period(report, lines), report.decimal(slack + 1, "WNS(ns)", numbers[0], least=-MOST_NS))


def _period(report: ReportText, lines: Sequence[str]) -> Decimal | None:
    """Return the period of the one clock, or None if there is no clock."""
    first = _below(report, lines, CLOCKS, "Clock")
    if first is None:
        return None
    clock = re.fullmatch(r"\S+\s+\{[^}]*\}\s+(\S+)\s+\S+\s*", lines[first])
    if clock is None:
        raise report.layout(first + 1, "a clock with {waveform}, period and frequency")
    if first + 1 == len(lines) or lines[first + 1].strip():
        raise report.layout(first + 2, "an empty line after the one clock")
    return report.decimal(first + 1, "Period(ns)", clock[1])


def _below(report: ReportText, lines: Sequence[str], title: str, header: str) -> int | None:
    """Return the index in `lines` of the line below a section's header and rule; None for a section without one."""
    starts = [index for index, line in enumerate(lines) if line.strip() == title]
    if not starts:
        raise report.layout(report.end, f"a section {title!r}")
    for index in range(starts[0] + 1, len(lines) - 2):
        if lines[index].split()[:1] == [header]:
            if not re.fullmatch(r"[\s-]*-[\s-]*", lines[index + 1]):
                raise report.layout(index + 2, f"a rule under the header that begins with {header!r}")
            return index + 2
        if re.match(r"\| [^-]", lines[index]):
            return None
    raise report.layout(report.end, f"a header that begins with {header!r} below {title!r}")


def _head(report: ReportText) -> tuple[str, str]:
    """Return version and design."""
    tool = report.field(r"^\| Tool Version\s*: (.+?)\s*$", "Tool Version")
    version = re.search(r"Vivado v\.(\S+)", tool)
    if version is None:
        raise report.layout(report.line_of("| Tool Version"), "a line '| Tool Version : Vivado v.<version>'")
    return version[1], report.field(r"^\| Design\s*: (\S+)", "Design")


def _check_same(first: Path, other: Path) -> None:
    expected, report = _head(ReportText.read(first)), ReportText.read(other)
    actual = _head(report)
    if actual != expected:
        kinds = [f"design '{design}' by Vivado {version}" for version, design in (actual, expected)]
        line = report.line_of("| Tool Version")
        raise ToolFailedError(
            f"{other}:{line}: is of {kinds[0]}, but {first} of {kinds[1]}", remedy="give reports of one run"
        )


def _scaled(report: ReportText, line: int, name: str, cell: str, factor: int) -> int:
    """Return `cell * factor`, which must be whole (2.5 block RAM tiles are 5 of 18 kbit)."""
    value = report.decimal(line, name, cell, most=MOST_COUNT) * factor
    if value != int(value):
        raise report.layout(line, f"a multiple of 1/{factor}, not {cell!r}")
    return int(value)
