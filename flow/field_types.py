"""Fields of options, held against the types that their dataclass says: what a user gives in Python is checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from flow.errors import SpecError, shown

WORDS: Mapping[Any, str] = {
    **{bool: "True or False", int: "a whole number", float: "a number", str: "a text", Path: "a path"},
    **{NoneType: "None", tuple: "a tuple", Mapping: "a mapping"},
}
MISFIT = object()


def hold_types(options: Any) -> None:
    """Hold the fields of a frozen dataclass against their types, in its `__post_init__`.

    A text for a path becomes a path, and a number of NumPy one of Python.

    Raises:
        SpecError: a value is of another type; the message names the field.
    """
    hints = get_type_hints(type(options))
    for item in fields(options):
        value = getattr(options, item.name)
        fitted = _fitted(value, hints[item.name])
        if fitted is MISFIT:
            raise SpecError(f"{shown(value)} is not {_words(hints[item.name])}", field=item.name)
        if fitted is not value:
            object.__setattr__(options, item.name, fitted)


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fitted(value: Any, hint: Any) -> Any:
    """Return a value as one of a type, or `MISFIT`."""
    fitted = (_as(value, choice) for choice in _choices(hint))
    return next((each for each in fitted if each is not MISFIT), MISFIT)


def _as(value: Any, kind: Any) -> Any:
    inner, kind = get_args(kind), get_origin(kind) or kind
    if isinstance(value, bool) or kind is bool:
        return value if isinstance(value, bool) and kind is bool else MISFIT
    if kind is int:
        return int(value) if isinstance(value, Integral) else MISFIT
    if kind is float:
        return value if isinstance(value, int | float) else float(value) if isinstance(value, Real) else MISFIT
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind):
        return MISFIT
    if kind is tuple:
        kinds = inner[:1] * len(value) if inner[-1:] == (...,) else inner
        if len(kinds) != len(value) or any(_fitted(*pair) is MISFIT for pair in zip(value, kinds, strict=True)):
            return MISFIT
    return value


def _words(hint: Any) -> str:
    """Return what a type is called: "a path or None", "a tuple of (a text, a whole number)"."""
    said = []
    for choice in _choices(hint):
        inner = [each for each in get_args(choice) if each is not ...]
        kind = get_origin(choice) or choice
        word = WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")
        if kind is tuple and inner:
            parts = ", ".join(map(_words, inner))
            word = f"a tuple of {parts if ... in get_args(choice) else f'({parts})'}"
        said.append(word)
    return " or ".join(said)
