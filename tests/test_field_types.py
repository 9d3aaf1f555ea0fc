"""Options of other types than their fields say: an error that names the field, whatever the option."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.errors import SpecError
from flow.pipeline import BuildOptions, QuantizeOptions
from flow.quantization.settings import LayerSettings, QuantSettings
from flow.target import Target

OPTIONS = (Target, BuildOptions, QuantizeOptions, QuantSettings, LayerSettings)


@pytest.mark.parametrize(("options", "field"), [(each, item.name) for each in OPTIONS for item in fields(each)])
def test_a_value_of_another_type_is_refused_by_the_name_of_its_field(options: type[Any], field: str) -> None:
    with pytest.raises(SpecError, match=rf"{field}: .* is not "):
        options(**{field: object()})


@pytest.mark.parametrize(
    ("options", "field", "value", "words"),
    [
        (BuildOptions, "samples", "3", "'3' is not a whole number"),
        (BuildOptions, "batchnorm_bits", 3.5, "3.5 is not a whole number or None"),
        (BuildOptions, "float_layers", 99, "99 is outside 2 to 24 bits"),
        (BuildOptions, "labels", 3, "3 is not a path or None"),
        (Target, "reuse_factor", True, "True is not a whole number"),
        (Target, "reuse_factor", 1.5, "1.5 is not a whole number"),
        (Target, "reuse_factors", (("a", "3"),), r".* is not a tuple of a tuple of \(a text, a whole number\)"),
        (Target, "reuse_nearest", 1, "1 is not True or False"),
        (QuantSettings, "budget_bits", "4", "'4' is not a number or None"),
        (QuantSettings, "rounding", "AP_RND", "'AP_RND' is not a Rounding"),
    ],
)
def test_the_message_says_what_is_accepted(options: type[Any], field: str, value: Any, words: str) -> None:
    with pytest.raises(SpecError, match=f"{field}: {words}"):
        options(**{field: value})


def test_texts_are_paths_and_numbers_of_numpy_are_numbers() -> None:
    options = BuildOptions(inputs="x.npy", output="runs", samples=np.int64(5))
    assert (options.inputs, options.output) == (Path("x.npy"), Path("runs")) and type(options.samples) is int
    assert (
        Target(clock_period_ns=5).clock_period_ns == 5
        and type(QuantSettings(budget_bits=np.float32(4)).budget_bits) is float
    )
