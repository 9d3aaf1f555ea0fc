"""JSON as text: the one place that writes it, with no number that JSON has not.

NaN and infinity are no JSON (RFC 8259), though Python writes them unless it is told not to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from flow.errors import DataError


def json_text(data: Any, *, indent: int | None = 1, sort_keys: bool = False) -> str:
    """Return JSON types as text.

    Raises:
        DataError: a number is NaN or infinite; it names the first.
    """
    try:
        return json.dumps(data, indent=indent, sort_keys=sort_keys, allow_nan=False)
    except ValueError as error:
        place, number = next(_not_finite(data, ""))
        raise DataError(f"'{place}' is {number}, a number that JSON has not") from error


def _not_finite(data: Any, place: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers that are not finite, by their place."""
    if isinstance(data, float) and not math.isfinite(data):
        yield place, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _not_finite(value, f"{place}.{key}".lstrip("."))
    elif isinstance(data, list | tuple):
        for position, value in enumerate(data):
            yield from _not_finite(value, f"{place}[{position}]")
