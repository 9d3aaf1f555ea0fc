"""Numbers that nothing in a model quantized, rounded on request: how close they come, and what stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras_configs import dense, evaluate, layer, model, port
from nets import s

from flow.errors import SpecError
from flow.frontend.extraction import attempt
from flow.frontend.extraction.approximation import Approximation, best_cast, on_grid
from flow.frontend.trained import TrainedModel
from flow.ir.graph import BatchNorm, Dense, IntGraph, Requantize
from flow.ir.reference import run_output

RNG = np.random.default_rng(5)
SAMPLES = RNG.normal(0, 0.5, (100, 6))
CODES = np.clip(np.rint(SAMPLES * 16), -128, 127).astype(np.int64)
HIDDEN, LAST = (RNG.normal(0, 0.4, shape).astype(np.float32) for shape in ((6, 5), (5, 3)))
QUANTIZED = np.round(HIDDEN * 8) / 8
WIDE = np.round(RNG.normal(0, 0.5, (5, 8)) * 16) / 16
BIAS = RNG.normal(0, 0.1, 3).astype(np.float32)


def net(activation: str, *, float_hidden: bool) -> TrainedModel:
    plain: dict[str, Any] = {"kernel_quantizer": None, "bias_quantizer": None}
    first = dense("a", 5, use_bias=False, **(plain if float_hidden else {}))
    between = layer("QActivation" if "quantized" in activation else "Activation", "f", activation=activation)
    weights = {"a": {"kernel": HIDDEN if float_hidden else QUANTIZED}, "b": {"kernel": LAST, "bias": BIAS}}
    return model(port(6), first, between, dense("b", 3, **plain), weights=weights)


def rounded(trained: TrainedModel, **bits: int) -> tuple[IntGraph, tuple[str, ...]]:
    made = attempt(trained, s(8, 4), evaluate=evaluate, rounds=Approximation(samples=SAMPLES, **bits))
    return made.checked(), made.approximated


def outputs(graph: IntGraph) -> np.ndarray:
    return run_output(graph, CODES) * graph.output.format.step


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_a_float_last_layer_is_rounded_and_the_rest_stays(bits: int) -> None:
    trained = net("quantized_relu(4,1)", float_hidden=False)
    graph, approximated = rounded(trained, float_layers=bits)
    assert approximated == ("b",)
    first, last = (op for op in graph.ops if isinstance(op, Dense))
    assert np.array_equal(first.weight.values, QUANTIZED) and last.weight.format.width <= bits
    exact = attempt(trained, s(8, 4), evaluate=evaluate).checked()
    assert any(op.weight.format.width > 24 for op in exact.ops if isinstance(op, Dense))
    assert np.abs(outputs(graph) - outputs(exact)).max() < 8 * 2.0**-bits
    assert all(op.format == exact[op.name].format for op in graph.ops if op.name != last.name)


def test_outputs_of_a_float_layer_are_rounded_for_the_next() -> None:
    graph, approximated = rounded(net("relu", float_hidden=True), float_layers=10)
    assert approximated == ("a", "b")
    casts = [op for op in graph.ops if isinstance(op, Requantize)]
    assert [op.format.width for op in casts] == [10]
    x = CODES / 16
    expected = np.maximum(x @ HIDDEN.astype(float), 0) @ LAST.astype(float) + BIAS
    assert np.abs(outputs(graph) - expected).max() < 0.02


def test_a_function_without_a_quantizer_is_a_table_of_so_many_bits() -> None:
    graph, approximated = rounded(net("tanh", float_hidden=True), float_layers=9)
    assert set(approximated) == {"a", "b", "f"}
    table = next(op for op in graph.ops if op.kind == "lookup")
    assert table.format.width <= 9
    expected = np.tanh(CODES / 16 @ HIDDEN.astype(float)) @ LAST.astype(float) + BIAS
    assert np.abs(outputs(graph) - expected).max() < 0.03


def test_functions_inside_a_cell_are_tables_of_so_many_bits() -> None:
    steps, units = 3, 2
    functions = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "state_quantizer": "quantized_bits(8,0,alpha=1)",
    }
    trained = model(
        port(6),
        layer("Reshape", "rows", target_shape=[steps, 2]),
        layer("QLSTM", "c", units=units, **functions),
        weights={"c": {"kernel": WIDE[:2], "recurrent_kernel": WIDE[2:4], "bias": WIDE[4]}},
    )
    graph, approximated = rounded(trained, float_layers=14)
    assert approximated == ("c",)
    h = c = np.zeros((len(SAMPLES), units))
    for x in (CODES / 16).reshape(-1, steps, 2).transpose(1, 0, 2):
        h, c = (np.clip(np.rint(state * 128), -128, 127) / 128 for state in (h, c))
        i, f, g, o = np.split(x @ WIDE[:2] + h @ WIDE[2:4] + WIDE[4], 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
    assert np.abs(outputs(graph) - h).max() < 0.02


def test_batch_norms_are_rounded_alone() -> None:
    scale, offset = np.float32([0.913, -1.271, 0.31]), np.float32([0.1, 3.3, -0.01])
    norm = layer("BatchNormalization", "n")
    weights = {"a": {"kernel": QUANTIZED[:, :3]}, "n": {"scale": scale, "offset": offset}}
    trained = model(port(6), dense("a", 3, use_bias=False), norm, weights=weights)
    graph, approximated = rounded(trained, batchnorm=6)
    op = next(op for op in graph.ops if isinstance(op, BatchNorm))
    assert approximated == ("n",) and max(op.scale.format.width, op.offset.format.width) <= 6
    assert np.abs(op.scale.values - scale).max() <= 2.0**-5 and np.abs(op.offset.values - offset).max() <= 2.0**-3
    assert rounded(trained, float_layers=8)[1] == ()
    assert rounded(trained, batchnorm=24)[0].ops[-1].format.width >= 24


def test_a_grid_covers_what_is_put_on_it_or_clips_it() -> None:
    assert on_grid(np.array([0.99, -1.0]), 4).tolist() == [0.875, -1.0] or on_grid(np.array([0.99, -1.0]), 4)[0] == 1.0
    assert on_grid(np.zeros(2), 4).tolist() == [0, 0]
    assert on_grid(np.array([3.0, 0.3]), 5, finer=2).tolist() == [0.9375, 0.3125]
    assert best_cast(np.array([0.2, 3.0]), 4).format.signed is False
    assert best_cast(np.array([-0.2, 3.0]), 4).format == s(4, 1)


def test_bits_that_nothing_has_are_refused() -> None:
    with pytest.raises(SpecError, match="99 is outside 2 to 24 bits"):
        Approximation(float_layers=99)
