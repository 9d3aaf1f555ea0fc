"""Step functions: each value is the real function's, rounded, and the tables of hardware hold the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras_configs import functional, kinds, layer, named, reads, values
from nets import s

from flow.errors import UnsupportedError
from flow.frontend.extraction import extract
from flow.frontend.step_functions import check_settings, exponential, inverse_root, reciprocal
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Dense, Gather, Lookup, Merge


def significant(y: np.ndarray, bits: int) -> np.ndarray:
    """Return numbers rounded to so many significant bits."""
    mantissa, exponent = np.frexp(y)
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)


def coarse(x: np.ndarray) -> np.ndarray:
    return np.float32(np.rint(x * 2**10) / 2**10)


@pytest.mark.parametrize("bits", [2, 6, 8, 10])
def test_values_are_those_of_the_real_functions_rounded(bits: int) -> None:
    """At numbers of few bits, none of which lies on a tie."""
    rng = np.random.default_rng(3)
    x = coarse(rng.uniform(-9, 0, 20_000))
    np.testing.assert_array_equal(exponential(bits)(x), np.rint(np.exp(x.astype(float)) * 2**bits) / 2**bits)
    x = coarse(rng.uniform(1, 11, 20_000))
    np.testing.assert_array_equal(reciprocal(bits, 11)(x), significant(1 / x.astype(float), bits))
    x = coarse(np.exp2(rng.uniform(-12, 4, 20_000)))
    root = 1 / np.sqrt(x.astype(float) / 0.75 + 2.0**-10)
    np.testing.assert_array_equal(inverse_root(bits, 2.0**-10, 16.0, 0.75)(x), significant(root, bits))


def test_ends() -> None:
    assert exponential(4)(np.float32([0, -100])).tolist() == [1, 0]
    assert reciprocal(4, 1)(np.float32([1])).tolist() == [1]
    assert reciprocal(3, 6)(np.float32([1, 6])).tolist() == [1, 0.15625]
    assert inverse_root(4, 0.25, 4.0)(np.float32([0, 4])).tolist() == [2, 0.5]


def tables(class_name: str, frac_bits: int, **config: Any) -> list[tuple[Lookup, FixedFormat]]:
    """Return the tables of a layer on four values of a grid, and the format that each reads."""
    weights = {"m": {"scale": np.ones(4, np.float32), "offset": np.zeros(4, np.float32)}}
    parts = [named("a", 4), reads(layer(class_name, "m", **config), "a")]
    graph = extract(functional(*parts, outputs=["m"], weights=weights), s(6, frac_bits))
    assert {Gather, Merge} < set(kinds(graph)) and Dense not in kinds(graph)
    return [(op, graph.sources(op)[0].format) for op in graph.ops if isinstance(op, Lookup)]


NORM = {"bits": 6, "integer": 2, "root_bits": 4, "epsilon": 2.0**-8}


@pytest.mark.parametrize("frac_bits", [-2, 0, 3, 9])
def test_tables_hold_the_same_steps_on_every_grid(frac_bits: int) -> None:
    found = tables("FixedSoftmax", frac_bits, bits=5) + tables("FixedLayerNormalization", frac_bits, **NORM)
    functions = exponential(5), reciprocal(5, 4), inverse_root(4, 2.0**-8, 16.0)
    for (op, x), function in zip(found, functions, strict=True):
        codes = np.arange(x.min_code, x.max_code + 1)
        expected = function(np.ldexp(codes.astype(np.float32), -x.frac_bits))
        np.testing.assert_array_equal(op.value_of(codes) * op.format.step, expected)


def test_a_softmax_of_one_value_and_of_equal_ones() -> None:
    def shares(*x: int) -> list[float]:
        graph = extract(
            functional(named("a", len(x)), reads(layer("FixedSoftmax", "m", bits=4), "a"), outputs=["m"]),
            s(6, 2),
        )
        return list(values(graph, np.array(x)))

    assert shares(7) == [15 / 16] and shares(-3, -3) == [0.5, 0.5] and shares(31, -32) == [15 / 16, 0]


@pytest.mark.parametrize(
    "config, why",
    [
        ({"bits": 1}, "bits=1 is not a whole number; use 2 to 12"),
        ({"bits": 40}, "bits=40 is not a whole number; use 2 to 12"),
        ({"bits": 4.0}, "bits=4.0 is not"),
        ({"integer": 13}, "integer=13 is not a whole number; use -12 to 12"),
        ({"root_bits": True}, "root_bits=True is not"),
        ({"epsilon": 0.0}, "epsilon=0.0 is not a number above 0; use 6.0e-08 to 1"),
        ({"epsilon": float("nan")}, "epsilon=nan is not"),
    ],
)
def test_settings_of_which_no_table_can_be_made_are_refused(config: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        check_settings(**{"bits": 6, **config})
    parts = [named("a", 4), reads(layer("FixedLayerNormalization", "m", **{**NORM, **config}), "a")]
    with pytest.raises(UnsupportedError, match=rf"layer 'm' \(FixedLayerNormalization\): {why}"):
        extract(functional(*parts, outputs=["m"]), s(6))
