"""Tables of samples: `.csv` and `.parquet`, read by pandas."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import DataError, ToolMissingError, shown

INSTALL_COMMAND = "pip install 'po2flow[tables]'"
TABLES = {".csv": "read_csv", ".parquet": "read_parquet"}
"""Suffix of a table -> the function of pandas that reads it."""
SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
"""What stands between the columns of tables that are called .csv too."""


def read_table(
    path: Path, features: Sequence[str], labels: Sequence[str], split: str
) -> tuple[NDArray[np.float64], Mapping[str, NDArray[Any]], NDArray[Any] | None, tuple[str, ...]]:
    """Return the features, the labels by name, what the column `split` says, and the names of the features.

    Args:
        path: the table; its first row names the columns.
        features: columns; none for all that are neither labels nor `split`.
        labels: columns; none for the last one. A single one is called "".
        split: a column, or empty.

    Raises:
        DataError: the table or a column is missing, a feature is no number, a cell is empty.
        ToolMissingError: pandas, or what it reads Parquet with, is missing.
    """
    frame = _frame(path)
    names = [str(name) for name in frame.columns]
    frame.columns = names
    _hold_separated(path, names)
    last = [name for name in names if name != split][-1:]
    wanted = list(labels) or last
    used = list(features) or [name for name in names if name not in (*wanted, split)]
    for name in (*wanted, *used, *([split] if split else [])):
        if name not in names:
            raise DataError(f"has no column {shown(name)}", remedy=f"there are {shown(', '.join(names))}")
        if empty := int(frame[name].isna().sum()):
            what = f"column {shown(name)} has {empty} empty cells"
            raise DataError(what, remedy="fill them or leave these rows out: no value is guessed")
    for name in used:
        if frame[name].dtype.kind not in "fiub":
            what = f"column {shown(name)} holds {shown(frame[name].iloc[0])}, no number"
            raise DataError(what, remedy="name the columns that are numbers in data.features")
    values = {name if len(wanted) > 1 else "": frame[name].to_numpy() for name in wanted}
    said = frame[split].to_numpy() if split else None
    return frame[used].to_numpy(np.float64), values, said, tuple(used)


def _hold_separated(path: Path, names: Sequence[str]) -> None:
    """Raise a DataError if the only column is a row of names with another separator between them."""
    if len(names) != 1 or path.suffix.lower() != ".csv":
        return
    for separator, word in SEPARATORS.items():
        if separator in names[0]:
            what = f"has one column, {shown(names[0])}: its separator is {word}"
            remedy = f"save it with commas: pandas.read_csv({path.name!r}, sep={separator!r}).to_csv(..., index=False)"
            raise DataError(what, remedy=remedy)


def _frame(path: Path) -> Any:
    if not path.is_file():
        raise DataError("no such file")
    try:
        pandas = importlib.import_module("pandas")
        return getattr(pandas, TABLES[path.suffix.lower()])(path)
    except ImportError as error:
        what = f"a package that reads {path.suffix} cannot be imported ({shown(error)})"
        raise ToolMissingError(what, remedy=f"run: {INSTALL_COMMAND}") from error
    except Exception as error:  # a damaged table fails in many ways: encoding, quotes, columns
        raise DataError(f"not a readable table ({shown(error)})", remedy="give columns with names") from error
