"""Arrays in a user's files, told by what they begin with: `.npy`, `.npz`, and `.csv` tables. Nothing is unpickled.

.npy     one array, as `np.save` writes it
.npz     arrays by name, as `np.savez` writes them
.csv     numbers with commas between, one sample a row; a first row that holds anything else names the columns
"""

from __future__ import annotations

import csv
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, counted, shown

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK"
TABLE = ".csv"
FORMATS = "give a .npy array, an .npz archive, or a .csv of numbers with one sample a row"
COUNTING = 4
"""So many columns, called 0, 1, 2, ..., are names that other programs gave."""
UNPACKED_BYTES = 4 << 30
"""Most bytes that an archive may unpack to: a megabyte can declare terabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A `.csv`: float64 (samples, columns), and the names of the columns; none if the first row has numbers."""

    values: NDArray[np.float64]
    columns: tuple[str, ...]


def read_arrays(path: Path) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
    """Return the array of a file, or the arrays of an archive by name.

    Raises:
        DataError: as of `read_content`.
    """
    content = read_content(path)
    return content.values if isinstance(content, Table) else content


def read_content(path: Path) -> NDArray[Any] | Mapping[str, NDArray[Any]] | Table:
    """Return the array of a file, the arrays of an archive by name, or a table with the names of its columns.

    Raises:
        DataError: missing, damaged, of no known form, too large, or with Python objects in it.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(NPY_MAGIC))
        if magic == NPY_MAGIC:
            array: NDArray[Any] = _unpickled(path)
            return array
        if magic.startswith(ZIP_MAGIC):
            return _archive(path)
        if path.suffix.lower() == TABLE:
            return _table(path)
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except OSError as error:
        raise DataError(f"not a readable .npy file ({error.strerror or shown(error)})", file=path) from None
    raise DataError("not a readable .npy file, nor .npz or .csv", file=path, remedy=FORMATS)


def _unpickled(path: Path) -> Any:
    """Return what NumPy reads; its own words are left out, for they advise to trust the file."""
    try:
        with path.open("rb") as file:  # np.load leaves a damaged archive open
            content = np.load(file, allow_pickle=False)
            return content if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    except Exception as error:  # NumPy reports damage in many ways
        what = "not a readable .npy file: damaged, cut short, or not of numbers"
        raise DataError(what, file=path, remedy="save an array of numbers with np.save") from error


def _archive(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except Exception as error:  # zipfile reports damage in many ways
        raise DataError("not a readable .npy file or .npz archive: damaged or cut short", file=path) from error
    if size > UNPACKED_BYTES:
        what = f"unpacks to {size} bytes, more than {UNPACKED_BYTES}"
        raise DataError(what, file=path, remedy="give fewer samples, or a .npy file")
    arrays = _unpickled(path)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            what = f"not a readable .npz file: {shown(name)} is no array"
            raise DataError(what, file=path, remedy="save arrays of numbers with np.savez")
    return dict(arrays)


def _table(path: Path) -> Table:
    remedy = "one sample a row, commas between; a first row without numbers names the columns"
    try:
        with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a table without rows
            first = [cell.strip().strip('"') for cell in file.readline().split(",")]
            if len(first) >= COUNTING and first == [str(number) for number in range(len(first))]:
                what = "its first row counts 0, 1, 2, ...: names of columns, or a sample?"
                raise DataError(what, file=path, remedy="leave it out, or write the numbers with a decimal point")
            named = not any(map(_is_number, first))
            if not named:
                file.seek(0)
            table = np.loadtxt(file, delimiter=",", comments=None, quotechar='"', ndmin=2)
    except UnicodeDecodeError as error:
        raise DataError("not a table of numbers: it is no text in UTF-8", file=path, remedy=remedy) from error
    except ValueError as error:
        raise DataError(f"not a table of numbers: {_fault(path)}", file=path, remedy=remedy) from error
    if not table.size:
        raise DataError("holds no row of numbers", file=path, remedy=remedy)
    return Table(table, tuple(first) if named else ())


def _fault(path: Path) -> str:
    """Return which row of a table is not as wide as the first, or which cell is no number."""
    with path.open(encoding="utf-8-sig", newline="") as file, suppress(csv.Error):
        width = 0
        for number, cells in enumerate(csv.reader(file), 1):
            width = width or len(cells)
            if cells and len(cells) != width:
                return f"row {number} has {counted(len(cells), 'column')}, row 1 has {width}"
            bad = [column for column, cell in enumerate(cells, 1) if not _is_number(cell)]
            if bad and (number > 1 or len(bad) < width):
                return f"row {number}, column {bad[0]} holds {shown(cells[bad[0] - 1])}"
    return "a row cannot be read"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
