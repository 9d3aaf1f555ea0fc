"""TOML files, read key by key: every missing, wrong or unknown key is an error that names it."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from flow.errors import SpecError, shortened, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Names of models and layers: they become names of directories and of C++ variables."""
KINDS: Mapping[type, tuple[type | tuple[type, ...], str]] = {
    int: (int, "an integer"),
    float: ((int, float), "a number"),
    str: (str, "a string"),
    bool: (bool, "true or false"),
}
"""Type of a setting -> what TOML has for it, and its words."""


def read_toml(path: Path) -> Table:
    """Return the table of a TOML file.

    Raises:
        SpecError: no such file, or not TOML.
    """
    try:
        return Table(tomllib.loads(path.read_text(encoding="utf-8")), "")
    except FileNotFoundError:
        raise SpecError("no such file", file=path) from None
    except (OSError, ValueError, RecursionError) as error:  # tomllib reports too long numbers and too deep lists so
        raise SpecError(f"not a readable TOML file ({shown(error)})", file=path) from error


class Table:
    """A TOML table that is read key by key; `close` complains of keys that nobody asked for."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where, self.asked = data, where, list[str]()

    def key(self, name: str) -> str:
        """Return the dotted name of a key, as messages say it."""
        return f"{self.where}.{name}" if self.where else name

    def take(self, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        """Return the value of a key that must be there and be of this kind."""
        self.asked.append(name)
        if name not in self.data:
            raise SpecError(f"key '{self.key(name)}' is missing", remedy=f"expected {what}")
        value = self.data[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SpecError(f"key '{self.key(name)}' is {shown(value)}", remedy=f"expected {what}")
        return value

    def has(self, name: str) -> bool:
        """Say whether an optional key is there."""
        self.asked.append(name)
        return name in self.data

    def optional(self, types: Mapping[str, type]) -> dict[str, Any]:
        """Return the values of those of these keys that are there, and complain of keys that are not among them."""
        values = {name: self.take(name, *KINDS[kind]) for name, kind in types.items() if self.has(name)}
        self.close()
        return values

    def integer(self, name: str, low: int, high: int) -> int:
        """Return an integer from `low` to `high`."""
        value: int = self.take(name, int, f"an integer from {low} to {high}")
        if not low <= value <= high:
            raise SpecError(
                f"key '{self.key(name)}' is {shown(value)}", remedy=f"expected an integer from {low} to {high}"
            )
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number from `low` to below `high`."""
        what = f"a number from {low} to below {high}"
        value: float = self.take(name, (int, float), what)
        if not low <= value < high:
            raise SpecError(f"key '{self.key(name)}' is {shown(value)}", remedy=f"expected {what}")
        return float(value)

    def text(self, name: str, accepted: tuple[str, ...] = ()) -> str:
        """Return a string, one of `accepted` if that is given."""
        value: str = self.take(name, str, f"one of {', '.join(accepted)}" if accepted else "a string")
        if accepted and value not in accepted:
            raise SpecError(
                f"key '{self.key(name)}' is {shown(value)}", remedy=f"expected one of {', '.join(accepted)}"
            )
        return value

    def name(self, name: str) -> str:
        """Return an identifier: lower-case letters, digits and underscores."""
        value = self.text(name)
        if not NAME.fullmatch(value):
            raise SpecError(
                f"key '{self.key(name)}' is {shown(value)}",
                remedy="expected lower-case letters, digits and _, at most 64",
            )
        return value

    def integers(self, name: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Return positive integers, as many as one of `lengths`."""
        what = f"{' or '.join(str(length) for length in lengths)} positive integers in brackets"
        values = self.take(name, list, what)
        if len(values) not in lengths or any(type(value) is not int or value < 1 for value in values):
            raise SpecError(f"key '{self.key(name)}' is {shown(values)}", remedy=f"expected {what}")
        return tuple(values)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return numbers in rising order, one at least."""
        what = "finite numbers in brackets, each above the one before"
        values = self.take(name, list, what)
        given = bool(values) and all(type(value) in (int, float) and math.isfinite(value) for value in values)
        if not given or any(one >= other for one, other in pairwise(values)):
            raise SpecError(f"key '{self.key(name)}' is {shown(values)}", remedy=f"expected {what}")
        return tuple(map(float, values))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return one string or several."""
        what = "a string, or strings in brackets"
        value = self.take(name, (str, list), what)
        values = [value] if isinstance(value, str) else value
        if not values or not all(isinstance(each, str) and each for each in values):
            raise SpecError(f"key '{self.key(name)}' is {shown(value)}", remedy=f"expected {what}")
        return tuple(values)

    def table(self, name: str) -> Table:
        """Return a table within this one."""
        return Table(self.take(name, dict, "a table"), self.key(name))

    def tables(self, name: str) -> tuple[Table, ...]:
        """Return an array of tables."""
        rows = self.take(name, list, f"an array of tables, written [[{name}]]")
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise SpecError(f"key '{self.key(name)}' is {shown(rows)}", remedy=f"expected tables, written [[{name}]]")
        return tuple(Table(row, f"{self.key(name)}[{index}]") for index, row in enumerate(rows))

    def close(self) -> None:
        """Complain of the first key that nobody asked for."""
        for name in self.data:
            if name not in self.asked:
                raise SpecError(
                    f"key '{shortened(self.key(name))}' is unknown", remedy=f"accepted are {', '.join(self.asked)}"
                )
