"""Read what the vendor's tools report: Vivado HLS and Vitis HLS `csynth`, and Vivado's utilization.

The layouts are those of Vivado HLS 2020.1, Vitis HLS 2020.2 to 2024.2 and Vivado 2018.2 to 2023.2. The text reports
are boxes of `+---+` and `|`; Vivado HLS calls its DSP column `DSP48E`, Vitis HLS `DSP`. A number the tool does not
know (`-`, `?`, `undef`) is None; a table, column or element that is not where it should be is an error, never a zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from flow.errors import ToolFailedError
from flow.results import ResourceReport, Resources

UNKNOWN = ("-", "?", "undef", "")
"""How the tools write a number that they do not have."""

HLS_COLUMNS: Mapping[str, str] = {
    "BRAM_18K": "bram_18k",
    "DSP48E": "dsp",
    "DSP": "dsp",
    "FF": "ff",
    "LUT": "lut",
    "URAM": "uram",
}
"""Column of a csynth report -> field of Resources."""


@dataclass(frozen=True, slots=True)
class Table:
    """A box of a text report.

    Attributes:
        section: the `== ...` or numbered heading that it stands under.
        heading: the nearest `+ ...` and `* ...` headings above it, without their marks, for example "Detail/Instance".
        line: where it begins, from 1.
        header: cells of the last header row.
        rows: cells of the other rows.
    """

    section: str
    heading: str
    line: int
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_csynth(path: Path) -> ResourceReport:
    """Return what C synthesis estimates, from `<top>_csynth.rpt` or `<top>_csynth.xml`.

    Latency and interval are the largest that the report gives. Only the text report has layers (the instances of the
    top function).

    Raises:
        ToolFailedError: the file cannot be read, is cut short, or has another layout; it names file and line.
    """
    text = _read(path)
    return _csynth_xml(path, text) if path.suffix == ".xml" else _csynth_rpt(path, text)


def read_vivado_utilization(path: Path) -> ResourceReport:
    """Return what Vivado counts, from the text of `report_utilization`.

    `bram_18k` is twice the block RAM tiles (a tile is two of 18 kbit; half a tile is one). 7-series reports have no
    UltraRAM row: `uram` is None.

    Raises:
        ToolFailedError: the file cannot be read, is cut short, or has another layout; it names file and line.
    """
    text = _read(path)
    tables = [table for table in _tables(text) if table.header[:2] == ("Site Type", "Used")]
    used: dict[str, int] = {}
    capacity: dict[str, int] = {}
    wanted = (
        ("lut", ("Slice LUTs", "CLB LUTs"), 1),
        ("ff", ("Slice Registers", "CLB Registers"), 1),
        ("bram_18k", ("Block RAM Tile",), 2),
        ("dsp", ("DSPs",), 1),
        ("uram", ("URAM",), 1),
    )
    for name, labels, factor in wanted:
        found = [
            (table, row) for table in tables for row in table.rows if row[0].rstrip("*") in labels and len(row) > 1
        ]
        if not found and name == "uram":
            continue
        if not found:
            raise _layout(path, _lines(text), f"a row {' or '.join(map(repr, labels))} in a table of site types")
        table, row = found[0]
        used[name] = _scaled(path, table.line, _cell(path, table, row, "Used"), factor)
        capacity[name] = _scaled(path, table.line, _cell(path, table, row, "Available"), factor)
    fields = {name: _field(path, text, rf"^\| {name}\s*: (.+?)\s*$", name) for name in ("Tool Version", "Design")}
    part = _field(path, text, r"^\| Device\s*: (\S+)", "Device")
    state = _field(path, text, r"^\| Design State\s*: (.+?)\s*$", "Design State")
    version = re.search(r"v\.(\S+)", fields["Tool Version"])
    if version is None:
        raise _layout(path, 1, "a line '| Tool Version : Vivado v.<version>'")
    return ResourceReport(
        source="vivado",
        tool=f"Vivado {version[1]} ({state.lower()})",
        part=f"xc{part}" if part[0].isdigit() else part,
        total=_resources(fields["Design"], used),
        capacity=capacity,
    )


def find_reports(project_dir: Path) -> tuple[ResourceReport, ...]:
    """Return every report that an hls4ml project of the Vivado or Vitis back end holds, csynth first.

    The places are those of hls4ml's Tcl: `<top>_prj/<solution>/syn/report/<top>_csynth.rpt` (or `.xml`, read only where
    the text is absent, because it has no layers) and `vivado_synth.rpt`. Reports of submodules are left alone.

    Raises:
        ToolFailedError: a report is there and cannot be understood.
    """
    found: list[ResourceReport] = []
    for folder in sorted(project_dir.glob("*_prj/*/syn/report")):
        top = folder.parents[2].name.removesuffix("_prj")
        choices = [folder / f"{top}_csynth{suffix}" for suffix in (".rpt", ".xml")]
        found += [read_csynth(path) for path in choices if path.is_file()][:1]
    synthesis = project_dir / "vivado_synth.rpt"
    return (*found, read_vivado_utilization(synthesis)) if synthesis.is_file() else tuple(found)


def _csynth_rpt(path: Path, text: str) -> ResourceReport:
    """Read the text report; the tool's name is in its title."""
    title = re.search(r"^== (Vivado HLS|Vitis HLS) Report for '(\S+)'", text, re.MULTILINE)
    if title is None:
        raise _layout(path, 1, "the title \"== Vivado HLS Report for '...'\" or \"== Vitis HLS Report for '...'\"")
    version = _field(path, text, r"^\* Version:\s+(\S+)", "Version")
    tables = _tables(text)
    timing = _table(path, text, tables, "Performance Estimates", "Timing/Summary")
    latency = _table(path, text, tables, "Performance Estimates", "Latency/Summary")
    area = _table(path, text, tables, "Utilization Estimates", "Summary")
    totals = {row[0]: row for row in area.rows}
    for name in ("Total", "Available"):
        if name not in totals:
            raise _layout(path, area.line, f"a row {name!r} in the utilization summary")
    if not timing.rows or not latency.rows:
        raise _layout(path, (timing if not timing.rows else latency).line, "a row of numbers under this header")
    return ResourceReport(
        source="csynth",
        tool=f"{title[1]} {version}",
        part=_field(path, text, r"^\* Target device:\s+(\S+)", "Target device"),
        clock_period_ns=_nanoseconds(path, timing, "Target"),
        estimated_clock_period_ns=_nanoseconds(path, timing, "Estimated"),
        total=_resources(title[2], {**_counts(path, area, totals["Total"]), **_cycles(path, latency, latency.rows[0])}),
        layers=_instances(path, text, tables),
        capacity=_capacity(path, area.line, _counts(path, area, totals["Available"])),
    )


def _instances(path: Path, text: str, tables: Sequence[Table]) -> tuple[Resources, ...]:
    """Join the two Instance tables on the instance's name; a module without logic stands only in that of latency."""
    counts: dict[str, dict[str, int | None]] = {}
    whole = re.search(r"\* Instance:\s*\n\s*N/A", text.partition("== Utilization Estimates")[2]) is not None
    for table in tables:
        if table.heading != "Detail/Instance" or table.header[:2] != ("Instance", "Module"):
            continue
        is_area = table.section == "Utilization Estimates"
        whole |= is_area and bool(table.rows) and table.rows[-1][0] == "Total"
        for row in table.rows:
            if row[0] != "Total":
                read = _counts(path, table, row) if is_area else _cycles(path, table, row)
                counts.setdefault(row[0], {}).update(read)
    if not whole:
        raise _layout(path, _lines(text), "a table of instances that ends in 'Total', or N/A, among the utilization")
    return tuple(_resources(name, fields) for name, fields in counts.items())


def _csynth_xml(path: Path, text: str) -> ResourceReport:
    """Read the XML report; it does not name the tool, but only Vivado HLS counts `DSP48E`."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise _layout(path, error.position[0], f"well-formed XML ({error})") from error
    area = {name: _elements(path, root, f"AreaEstimates/{name}") for name in ("Resources", "AvailableResources")}
    overall = _elements(path, root, "PerformanceEstimates/SummaryOfOverallLatency")
    timing = _elements(path, root, "PerformanceEstimates/SummaryOfTimingAnalysis")
    user = _elements(path, root, "UserAssignments")
    tool = "Vivado HLS" if "DSP48E" in area["Resources"] else "Vitis HLS"

    def get(elements: Mapping[str, str], name: str) -> str:
        if name not in elements:
            raise _layout(path, _lines(text), f"an element <{name}>")
        return elements[name]

    def counts(elements: Mapping[str, str]) -> dict[str, int | None]:
        missing = {"LUT", "FF", "BRAM_18K"} - set(elements) | (
            {"DSP"} if not {"DSP", "DSP48E"} & set(elements) else set()
        )
        if missing:
            raise _layout(path, _lines(text), f"elements {', '.join(sorted(missing))} among the resources")
        return {HLS_COLUMNS[name]: _number(path, 1, value) for name, value in elements.items() if name in HLS_COLUMNS}

    return ResourceReport(
        source="csynth",
        tool=f"{tool} {get(_elements(path, root, 'ReportVersion'), 'Version')}",
        part=get(user, "Part"),
        clock_period_ns=_float(path, 1, get(user, "TargetClockPeriod")),
        estimated_clock_period_ns=_float(path, 1, get(timing, "EstimatedClockPeriod")),
        total=_resources(
            get(user, "TopModelName"),
            {
                **counts(area["Resources"]),
                "latency_cycles": _number(path, 1, get(overall, "Worst-caseLatency")),
                "initiation_interval_cycles": _number(path, 1, get(overall, "Interval-max")),
            },
        ),
        capacity=_capacity(path, 1, counts(area["AvailableResources"])),
    )


def _elements(path: Path, root: ElementTree.Element, where: str) -> dict[str, str]:
    """Return tag -> text of the children of one element."""
    element = root.find(where)
    if element is None:
        raise _layout(path, 1, f"an element <{where}>")
    return {child.tag: (child.text or "").strip() for child in element}


def _tables(text: str) -> list[Table]:
    """Return the boxes of a text report; a box is a run of lines that begin with `+-` or `|`."""
    tables: list[Table] = []
    section, plus, star = "", "", ""
    parts: list[list[tuple[str, ...]]] = []  # rows of the open box, split at its rules
    start = 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        line = raw.strip()
        if line.startswith(("+-", "|")):
            start = start or number
            if line.startswith("+-"):
                parts.append([])
            elif parts:
                parts[-1].append(tuple(cell.strip() for cell in line.strip("|").split("|")))
            continue
        filled = [rows for rows in parts if rows]
        if filled:
            body = tuple(row for rows in filled[1:] for row in rows)
            tables.append(Table(section, "/".join(filter(None, (plus, star))), start, filled[0][-1], body))
        parts, start = [], 0
        if line.startswith("== ") or re.match(r"\d+(\.\d+)* \S", line):
            section, plus, star = line.removeprefix("== "), "", ""
        elif line.startswith("+ "):
            plus, star = line[2:].strip().rstrip(":"), ""
        elif line.startswith("* ") and line.endswith(":"):
            star = line[2:].rstrip(":")
    return tables


def _table(path: Path, text: str, tables: Sequence[Table], section: str, heading: str) -> Table:
    for table in tables:
        if table.section == section and table.heading == heading:
            return table
    raise _layout(path, _lines(text), f"a table '{heading}' under '== {section}'")


def _cell(path: Path, table: Table, row: Sequence[str], column: str) -> str:
    if column not in table.header:
        raise _layout(path, table.line, f"a column {column!r} beside {', '.join(filter(None, table.header))}")
    if len(row) != len(table.header):
        raise _layout(path, table.line, f"{len(table.header)} cells in the row of {row[0]!r}, not {len(row)}")
    return row[table.header.index(column)]


def _counts(path: Path, table: Table, row: Sequence[str]) -> dict[str, int | None]:
    """Return the resources of one row of a csynth utilization table."""
    dsp = "DSP48E" if "DSP48E" in table.header else "DSP"
    columns = ["BRAM_18K", dsp, "FF", "LUT", *(["URAM"] if "URAM" in table.header else [])]
    return {HLS_COLUMNS[name]: _number(path, table.line, _cell(path, table, row, name)) for name in columns}


def _cycles(path: Path, table: Table, row: Sequence[str]) -> dict[str, int | None]:
    """Return the largest latency and interval of one row; the last header row is `min max min max min max Type`."""
    numbers = ("min", "max", "min", "max", "min", "max", "Type")
    if table.header[-7:] != numbers or len(row) != len(table.header):
        raise _layout(path, table.line, f"columns {' '.join(numbers)} (latency, absolute latency, interval)")
    return {
        "latency_cycles": _number(path, table.line, row[-6]),
        "initiation_interval_cycles": _number(path, table.line, row[-2]),
    }


def _nanoseconds(path: Path, table: Table, column: str) -> float:
    cell = _cell(path, table, table.rows[0], column)
    if not cell.endswith("ns"):
        raise _layout(path, table.line, f"nanoseconds under {column!r}, not {cell!r}")
    return _float(path, table.line, cell[:-2])


def _resources(name: str, counts: Mapping[str, int | None]) -> Resources:
    return Resources(
        name=name,
        lut=counts.get("lut"),
        ff=counts.get("ff"),
        dsp=counts.get("dsp"),
        bram_18k=counts.get("bram_18k"),
        uram=counts.get("uram"),
        latency_cycles=counts.get("latency_cycles"),
        initiation_interval_cycles=counts.get("initiation_interval_cycles"),
    )


def _capacity(path: Path, line: int, counts: Mapping[str, int | None]) -> dict[str, int]:
    missing = [name for name, count in counts.items() if count is None]
    if missing:
        raise _layout(path, line, f"a number of available {', '.join(missing)}")
    return {name: count for name, count in counts.items() if count is not None}


def _number(path: Path, line: int, cell: str) -> int | None:
    if cell in UNKNOWN:
        return None
    if not cell.isdecimal():
        raise _layout(path, line, f"a whole number, not {cell!r}")
    return int(cell)


def _float(path: Path, line: int, cell: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise _layout(path, line, f"a number, not {cell!r}") from error


def _scaled(path: Path, line: int, cell: str, factor: int) -> int:
    """Return `cell * factor`, which must be whole (2.5 block RAM tiles are 5 of 18 kbit)."""
    value = _float(path, line, cell) * factor
    if not value.is_integer():
        raise _layout(path, line, f"a multiple of 1/{factor}, not {cell!r}")
    return int(value)


def _field(path: Path, text: str, pattern: str, name: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise _layout(path, 1, f"a line that says {name!r} at the head of the report")
    return match[1]


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ToolFailedError(f"{path}: the report cannot be read: {error.strerror}") from error


def _layout(path: Path, line: int, expected: str) -> ToolFailedError:
    return ToolFailedError(f"{path}:{line}: expected {expected}; the report is cut short or of another tool version")
