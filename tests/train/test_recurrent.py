"""Recurrent layers of QKeras and Keras: their own inference, in float32 and in float64, is what the graph computes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TESTS, needs_compiler
from fixtures_cli import flow

from flow.errors import InputError, ToolMissingError
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.train import load_tensorflow, quiet_warnings

try:
    tf, keras, qkeras = load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train import inference
from flow.train.configuration import checked
from flow.train.freeze import keras_model
from flow.train.functions import evaluate
from flow.train.reader import read_keras

L, Q = keras.layers, qkeras
STEPS, CHANNELS = 4, 3
WEIGHT, STATE = "quantized_bits(6,0,1,alpha=1)", "quantized_bits(6,0,1,alpha=1)"
CELL = {"kernel_quantizer": WEIGHT, "recurrent_quantizer": WEIGHT, "bias_quantizer": WEIGHT, "state_quantizer": STATE}
BITS = {**CELL, "activation": "quantized_bits(6,0,1,alpha=1)", "recurrent_activation": "quantized_relu(5,1)"}


def _states(x: Any) -> list[Any]:
    """An encoder whose last states begin a decoder."""
    _, h, c = Q.QLSTM(2, return_state=True, **BITS)(x)
    return [Q.QLSTM(2, implementation=2, **BITS)(x, initial_state=[h, c]), c]


MODELS: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda x: Q.QSimpleRNN(2, return_sequences=True, **{**CELL, "activation": "tanh"})(x),
    "lines": lambda x: Q.QLSTM(2, **{**BITS, "recurrent_activation": "hard_sigmoid"})(x),
    "gru": lambda x: Q.QGRU(2, go_backwards=True, **BITS)(x),
    "both": lambda x: Q.QBidirectional(Q.QGRU(2, reset_after=True, return_sequences=True, **BITS))(x),
    "mixed": lambda x: L.Bidirectional(
        Q.QSimpleRNN(2, activation="quantized_relu(5,1)", **CELL),
        backward_layer=Q.QLSTM(2, go_backwards=True, **BITS),
        merge_mode="ave",
    )(x),
    "keras": lambda x: L.SimpleRNN(2, activation=Q.quantized_bits(4, 1, alpha=1))(x),
    "states": _states,
}


QUICK = ("lines", "gru", "keras")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in MODELS]
)
@quiet_warnings()
def test_inference_is_the_reference(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.backend.clear_session()
    port = L.Input((STEPS, CHANNELS))
    outputs = MODELS[name](Q.QActivation("quantized_bits(5,1,alpha=1)")(port))
    outputs = [Q.QActivation("quantized_bits(10,2,alpha=1)")(x) for x in (outputs if name == "states" else [outputs])]
    model, rng = keras.Model(port, outputs), np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([np.float32(rng.integers(-32, 33, held.shape) / 32) for held in layer.get_weights()])
    model.save(tmp_path / "model.h5")
    read = read_keras(tmp_path / "model.h5")
    graph = extract(read.trained, evaluate=evaluate)
    lowered, port_format = lower(graph), graph.inputs[0].format
    codes = rng.integers(port_format.min_code, port_format.max_code + 1, (100, STEPS, CHANNELS))
    expected = reference.run(lowered, codes).codes
    models = (read.keras, keras_model(read.trained))  # the user's, and one made of what was kept of it
    for arithmetic, own in zip(("float32", "float64"), models, strict=True):
        if arithmetic == "float64":
            monkeypatch.setattr(inference, "inexact_in", _not_in_float32)
        found = inference.run(own, read.trained, graph, lowered, codes)
        assert found.arithmetic == arithmetic and set(lowered.outputs) <= set(found.codes)
        for op, held in found.codes.items():
            np.testing.assert_array_equal(held, expected[op], err_msg=f"{op} in {arithmetic}")
    assert all(len(np.unique(expected[output])) > 10 for output in lowered.outputs)


def _not_in_float32(graph: IntGraph, bits: int) -> bool:
    return bits == inference.FLOAT32_BITS


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"class_name": "QLSTM", "config": "none"}, "damaged"),
        ("QLSTM", "damaged"),
        ({"class_name": "QDense", "config": {}}, "QBidirectional is around a QDense; use one of SimpleRNN"),
        ({"class_name": "QLSTM", "config": {"recurrent_activation": "mine"}}, "recurrent_activation 'mine'"),
        ({"class_name": "QLSTM", "config": {"state_quantizer": "quantized_bits(0)"}}, "bits=0 is not a whole number"),
    ],
)
def test_what_a_bidirectional_layer_is_around_is_looked_at_before_keras_sees_it(inner: Any, words: str) -> None:
    entry = {"class_name": "QBidirectional", "config": {"name": "both", "layer": inner}}
    with pytest.raises(InputError, match=f"both.*{words}"):
        checked({"class_name": "Sequential", "config": {"name": "m", "layers": [entry]}})


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("kind", ["QSimpleRNN", "QLSTM", "QGRU"])
def test_trained_nets_are_built_exactly(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/recurrent.md, with each kind of cell."""
    monkeypatch.chdir(tmp_path)
    text = (TESTS.parent / "docs" / "recurrent.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    example = example.replace("qkeras.QLSTM(", f"qkeras.{kind}(")
    if kind == "QSimpleRNN":  # it has no gates
        example = example.replace('recurrent_activation="quantized_sigmoid(6)", ', "")
    with quiet_warnings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user's session would print them
        exec(compile(example, "docs/recurrent.md", "exec"), {})
    for line in re.findall(r"^    flow (build .*)$", text, flags=re.MULTILINE):
        built = flow(*line.split(), "--json")
        assert built.code == 0, built
        report = built.report()
        assert report["verdict"]["bit_exact"] is True
        assert report["accuracy"]["hardware"] == report["accuracy"]["qkeras"] > 0.75
