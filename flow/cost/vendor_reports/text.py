"""A report as text: its tables, its numbers, and the error that names file and line where it is not as expected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from flow.errors import InputError, ToolFailedError

MOST_BYTES, MOST_COLUMNS = 64 << 20, 10_000
"""Of a report and of a line of it; those of large designs have a few megabytes and some hundred columns."""
MOST_COUNT, MOST_NS = 10**12, 10**6
"""Of resources and cycles, and of periods and slacks in nanoseconds."""
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,9})?")
UNKNOWN = ("-", "?", "undef", "NA", "N/A", "inf", "")
"""How the tools write a number that they do not have."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        line: where it stands, from 1.
        indent: spaces before its first cell's text.
        cells: without the spaces around them.
    """

    line: int
    indent: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A box of a text report.

    Attributes:
        section: the `== ...` or numbered heading that it stands under.
        heading: the nearest `+ ...` and `* ...` headings above it, without their marks, for example "Detail/Instance".
        line: where it begins, from 1.
        header: cells of the last header row.
        rows: the other rows.
        closed: whether it ends in a rule, so that no row is cut off.
    """

    section: str
    heading: str
    line: int
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    closed: bool


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report and where it was read."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> ReportText:
        """Read a report.

        Raises:
            InputError: the file cannot be read.
            ToolFailedError: it is too large to be a report, or a line of it is.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise InputError(f"the report cannot be read: {error.strerror or error}", file=path) from error
        if len(content) > MOST_BYTES:
            raise ToolFailedError(f"a report has at most {MOST_BYTES >> 20} MB, this one has more", file=path)
        report = cls(path, content.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n"))
        for line, text in enumerate(report.text.splitlines(), 1):
            if len(text) > MOST_COLUMNS:
                what = f"a line of a report has at most {MOST_COLUMNS:,} characters, this one has {len(text):,}"
                raise ToolFailedError(what, file=f"{path}:{line}")
        return report

    @property
    def end(self) -> int:
        """The last line, where what is missing from the whole report is missed."""
        return len(self.text.splitlines()) + 1

    def layout(self, line: int, expected: str) -> ToolFailedError:
        """Return the error that a line is not what was expected."""
        remedy = "the report is cut short or of another tool version"
        return ToolFailedError(f"expected {expected}", file=f"{self.path}:{line}", remedy=remedy)

    def field(self, pattern: str, name: str) -> str:
        """Return the group of a pattern that one line must match."""
        match = re.search(pattern, self.text, re.MULTILINE)
        if match is None:
            raise self.layout(1, f"a line that says {name!r} at the head of the report")
        return match[1]

    def line_of(self, *texts: str) -> int:
        """Return the line of the last of some texts that follow each other, each the first after the one before."""
        place = 0
        for text in texts:
            place = max(place, self.text.find(text, place))
        return self.text.count("\n", 0, place) + 1

    def count(self, line: int, name: str, cell: str) -> int | None:
        """Return a whole number, or None if the tool does not know it."""
        return None if cell in UNKNOWN else self.whole(line, name, cell)

    def whole(self, line: int, name: str, cell: str) -> int:
        """Return a count of what `name` says, from 0 to `MOST_COUNT`.

        Raises:
            ToolFailedError: it is no whole number, or none that a design can have.
        """
        if not re.fullmatch("[0-9]+", cell):
            raise self.layout(line, f"a whole number, not {_short(cell)}")
        return int(self.decimal(line, name, cell, most=MOST_COUNT))

    def decimal(self, line: int, name: str, cell: str, *, least: int = 0, most: int = MOST_NS) -> Decimal:
        """Return a number as it is written; the one gate of numbers that reports hold.

        Raises:
            ToolFailedError: it is no number, or outside `least` to `most`.
        """
        if not NUMBER.fullmatch(cell):
            raise self.layout(line, f"a number, not {_short(cell)}")
        number = Decimal(cell)
        if not least <= number <= most:
            what = f"{name} is {_short(cell)}, which no design has: it is outside {least:,} to {most:,}"
            raise ToolFailedError(what, file=f"{self.path}:{line}", remedy="give the report as the tool wrote it")
        return number

    def cell(self, table: Table, row: Row, column: str) -> str:
        """Return the cell of a row that stands under a column."""
        self.check_width(table, row)
        return row.cells[self.column(table, column)]

    def column(self, table: Table, name: str) -> int:
        """Return the position of a column."""
        if name not in table.header:
            raise self.layout(table.line, f"a column {name!r} beside {', '.join(filter(None, table.header))}")
        return table.header.index(name)

    def check_width(self, table: Table, row: Row) -> None:
        """Refuse a row that has not as many cells as the header."""
        if len(row.cells) != len(table.header):
            cells = f"{len(table.header)} cells in the row of {row.cells[0]!r}, not {len(row.cells)}"
            raise self.layout(row.line, cells)

    def check_closed(self, table: Table) -> None:
        """Refuse a table that is cut short."""
        if not table.closed:
            raise self.layout(table.rows[-1].line + 1 if table.rows else table.line, "the end of the table")

    def table(self, tables: Sequence[Table], section: str, heading: str) -> Table:
        """Return the table that stands under a heading of a section."""
        for table in tables:
            if table.section == section and table.heading == heading:
                return table
        raise self.layout(self.end, f"a table '{heading}' under '== {section}'")

    def tables(self, mark: str = "|") -> list[Table]:
        """Return the boxes; a box is a run of lines that begin with `+-` or the mark between its cells."""
        tables: list[Table] = []
        section, plus, star = "", "", ""
        parts: list[list[Row]] = []  # rows of the open box, split at its rules
        start = 0
        for number, raw in enumerate([*self.text.splitlines(), ""], 1):
            line = raw.strip()
            if line.startswith(("+-", mark)):
                start = start or number
                if line.startswith("+-"):
                    parts.append([])
                elif parts:
                    parts[-1].append(_row(number, line, mark))
                continue
            filled = [rows for rows in parts if rows]
            if filled:
                body = tuple(row for rows in filled[1:] for row in rows)
                heading, closed = "/".join(filter(None, (plus, star))), not parts[-1]
                tables.append(Table(section, heading, start, filled[0][-1].cells, body, closed))
            parts, start = [], 0
            if line.startswith("== ") or re.match(r"\d+(\.\d+)*\.? \S", line):
                section, plus, star = line.removeprefix("== "), "", ""
            elif line.startswith("+ "):
                plus, star = line[2:].strip().rstrip(":"), ""
            elif line.startswith("* ") and line.endswith(":"):
                star = line[2:].rstrip(":")
        return tables


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:20]}... ({len(cell):,} characters)")


def _row(number: int, line: str, mark: str) -> Row:
    cells = line.strip(mark).split(mark)
    return Row(number, len(cells[0]) - len(cells[0].lstrip()), tuple(cell.strip() for cell in cells))
