"""JSON as it is written: what Python would write beside it is refused by its place."""

from __future__ import annotations

import json
import math

import pytest

from flow.errors import DataError
from flow.json_text import json_text


def test_it_is_what_json_writes() -> None:
    data = {"b": [1, 2.5, None, True], "a": {"ü": "x"}}
    assert json_text(data) == json.dumps(data, indent=1)
    assert json_text(data, indent=None, sort_keys=True) == json.dumps(data, sort_keys=True)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_refused_by_their_place(number: float) -> None:
    with pytest.raises(DataError, match=rf"^'resources\[1\]\.clock' is {number}, a number that JSON has not$"):
        json_text({"resources": [{"clock": 1.0}, {"clock": number}]})
