"""Extract: activations as ops, or as tables that QKeras fills; here a fake in NumPy stands for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from keras_configs import FC, Entry, dense, evaluate, functional, kinds, layer, model, named, port, reads, values
from nets import s, u

from flow.errors import UnsupportedError
from flow.frontend.extraction import extract
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Dense, Lookup, Merge, Softmax


def outputs(entry: Entry, fmt: FixedFormat, **weights: Any) -> np.ndarray:
    """Return the values that a layer makes of every code of a format."""
    codes = np.arange(fmt.min_code, fmt.max_code + 1)
    graph = extract(model(port(len(codes)), entry, weights=weights), fmt, evaluate=evaluate)
    assert graph.output.layers == (entry["config"]["name"],)
    return values(graph, codes)


def test_relus_with_limits_and_slopes() -> None:
    x = np.arange(-32, 32) / 2
    assert outputs(layer("ReLU", "r", max_value=6.0), s(6, 1)).tolist() == np.clip(x, 0, 6).tolist()
    assert outputs(layer("ReLU", "r", max_value=99.0), s(6, 1)).tolist() == np.maximum(x, 0).tolist()
    assert outputs(layer("ReLU", "r", negative_slope=0.25), s(6, 1)).tolist() == np.where(x < 0, x / 4, x).tolist()
    assert outputs(layer("LeakyReLU", "r", alpha=0.375), s(6, 1)).tolist() == np.where(x < 0, x * 0.375, x).tolist()
    assert (
        outputs(layer("LeakyReLU", "r", negative_slope=-2.0), s(6, 1)).tolist() == np.where(x < 0, -2 * x, x).tolist()
    )
    assert outputs(layer("Activation", "r", activation="relu6"), s(6, 1)).tolist() == np.clip(x, 0, 6).tolist()
    prelu = {"r": {"slope": np.resize(np.float32([0.5, -1]), 64)}}
    assert (
        outputs(layer("PReLU", "r"), s(6, 1), **prelu).tolist() == np.where(x < 0, x * prelu["r"]["slope"], x).tolist()
    )


def test_limits_and_slopes_off_the_grid_go_into_a_table() -> None:
    for entry in (
        layer("ReLU", "r", max_value=5.9),
        layer("ReLU", "r", max_value=6.0, threshold=1.0),
        layer("LeakyReLU", "r", alpha=0.3),
        layer("ELU", "r", alpha=1.0),
    ):
        layers = (port(2), entry, layer("QActivation", "act", activation="quantized_bits(4,1,alpha=1)"))
        graph = extract(model(*layers), s(4), evaluate=evaluate)
        assert kinds(graph) == [Lookup] and graph["act"].layers == ("r", "act")
        expected = evaluate([entry, layers[2]], np.float32([-8, 5]))
        assert values(graph, [-8, 5]).tolist() == expected.tolist()


def test_functions_are_tables_of_what_qkeras_computes() -> None:
    given = []

    def recorded(layers: Sequence[Mapping[str, Any]], values: np.ndarray) -> np.ndarray:
        given.append((layers, values))
        return evaluate(layers, values)

    layers = (dense(activation="tanh"), layer("QActivation", "act", activation="quantized_bits(4,1,alpha=1)"))
    graph = extract(model(port(3), *layers, weights=FC), u(2), evaluate=recorded)
    ((composed, points),) = given
    assert [each["class_name"] for each in composed] == ["QActivation", "QActivation"]
    sums = graph["fc"].format
    assert points.dtype == np.float32 and len(points) == 1 << sums.width and points[1] - points[0] == sums.step
    assert graph["act"].layers == ("fc", "act") and graph["act"].fused == ("tanh, quantized_bits",)
    op = graph["act"]
    assert isinstance(op, Lookup) and (np.diff(op.values) != 0).all(), "equal neighbours are one run"
    keras = extract(model(port(3), layer("Activation", "t", activation="tanh"), layers[1]), u(2), evaluate=recorded)
    assert [each["class_name"] for each in given[-1][0]] == ["Activation", "QActivation"] and kinds(keras) == [Lookup]


def test_functions_on_a_grid_need_no_quantizer() -> None:
    x = np.arange(-8, 8)
    assert (
        outputs(layer("QActivation", "h", activation="hard_sigmoid"), s(4)).tolist()
        == np.clip(x / 2 + 0.5, 0, 1).tolist()
    )
    assert outputs(layer("QActivation", "b", activation="binary"), s(4)).tolist() == np.where(x < 0, -1, 1).tolist()
    doubled = outputs(layer("QActivation", "d", activation="quantized_bits(4,1,alpha=2)"), s(4))
    assert doubled.tolist() == (2 * np.clip(x * 4, -8, 7) / 4).tolist()


def test_a_function_before_a_sum_is_a_table_of_its_own() -> None:
    layers = [port(3), layer("QActivation", "h", activation="hard_sigmoid"), dense()]
    graph = extract(model(*layers, weights=FC), s(4), evaluate=evaluate)
    assert kinds(graph) == [Lookup, Dense]
    assert [op.layers for op in graph.ops] == [("in",), ("h",), ("fc",)]


def test_two_readers_of_a_function_have_a_table_each() -> None:
    act = "quantized_bits(4,1,alpha=1)"
    layers = [
        named("x", 3),
        reads(layer("Activation", "t", activation="tanh"), "x"),
        reads(layer("QActivation", "a", activation=act), "t"),
        reads(layer("QActivation", "b", activation="quantized_relu(4,2)"), "t"),
        reads(layer("Add", "sum"), "a", "b"),
    ]
    graph = extract(functional(*layers, outputs=["sum"]), s(4, 2), evaluate=evaluate)
    assert kinds(graph) == [Lookup, Lookup, Merge]


def test_a_final_softmax_is_left_off_or_computed() -> None:
    entries = port(3), dense(activation="softmax")
    off = extract(model(*entries, weights=FC), u(2))
    assert kinds(off) == [Dense] and "the final softmax ('fc') is left off" in off.warnings[0]
    on = extract(model(*entries, weights=FC), u(2), softmax=u(8, 8))
    assert kinds(on) == [Dense, Softmax] and "is an integer function of the same inputs" in on.warnings[0]
    x = np.array([1, 0, 3])
    logits = x @ FC["fc"]["kernel"] + FC["fc"]["bias"]
    exact = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert (np.abs(values(on, x) - exact) <= 2.0**-8).all()
    behind = extract(model(*entries, layer("Dropout", "drop"), weights=FC), u(2))
    assert kinds(behind) == [Dense]
    for fmt, message in (
        (s(8), "its output is unsigned"),
        (u(30, 30), "has an output of u30.30; use 0 to 24 fraction bits"),
        (u(8, -1), "use 0 to 24 fraction bits"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            extract(model(*entries, weights=FC), u(2), softmax=fmt)
    with pytest.raises(UnsupportedError, match="its input may have 16 bits"):
        extract(model(*entries, weights=FC), u(16), softmax=u(8, 8))
