"""Operators and functions of tensors in functional models: as TensorFlow computes them, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from fixtures_keras import qkeras, save, wired
from keras_configs import functional, layer, named
from test_inference import compare

from flow.errors import ModelFileError, UnsupportedError
from flow.frontend.extraction import extract
from flow.train import load_tensorflow
from flow.train.configuration import checked
from flow.train.functions import evaluate
from flow.train.reader import read_keras

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
tf: Any = load_tensorflow().tf
ROW, MATRIX = np.arange(6, dtype=np.float32), np.arange(24, dtype=np.float32).reshape(4, 6) - 9
EXACT: Mapping[str, Callable[[Any, Any], Any]] = {
    "merges": lambda x, y: tf.maximum(x * 2 + y[:, :4], tf.minimum(x - y, x * y)),
    "a number first": lambda x, y: (2 - x) * 0.5 + -y,
    "division": lambda x, y: x / 4,
    "add_n": lambda x, y: tf.math.add_n([x, y, x]),
    "squares": lambda x, y: tf.square(x) + y**2,
    "bounds": lambda x, y: tf.clip_by_value(x, -1, 1.5) + tf.maximum(tf.minimum(y, ROW), 0.25),
    "crossed bounds": lambda x, y: tf.clip_by_value(x, 1, -2.5) + y,
    "a constant with an axis of samples": lambda x, y: tf.maximum(x * MATRIX[None], ROW[None, None])[:, 1],
    "a constant row": lambda x, y: x * ROW,
    "a constant of all elements": lambda x, y: x * 2 + MATRIX,
    "a larger constant": lambda x, y: x[:, :, :1] * MATRIX,
    "slices": lambda x, y: tf.concat([x[:, 1:3, None], y[:, ::-2][:, :, None]], axis=1),
    "one of an axis": lambda x, y: x[..., -1] + x[:, :, 0],
    "functions": lambda x, y: tf.nn.relu(x) + tf.nn.relu6(2 * y) + tf.abs(x - 1) + tf.nn.leaky_relu(x, 0.25),
    "sums": lambda x, y: tf.reduce_sum(x, axis=1) + tf.reduce_sum(y, axis=-2),
    "a sum of channels": lambda x, y: tf.reduce_sum(x, axis=-1, keepdims=True) + y,
    "a maximum": lambda x, y: tf.reduce_max(x[:, :, :, None] + y[:, :, :, None], axis=[1, 3]),
    "an average": lambda x, y: tf.reduce_mean(x, axis=1),
    "an average of three": lambda x, y: tf.reduce_mean(x[:, :3], axis=[1]),
    "a matrix behind": lambda x, y: x @ MATRIX.reshape(6, 4),
    "a matrix before": lambda x, y: tf.matmul(MATRIX.reshape(6, 4), x),
    "places": lambda x, y: tf.reverse(tf.gather(tf.pad(x, [[0, 0], [1, 1], [0, 2]]), [0, 3, 5], axis=1), [2]),
    "mirrors": lambda x, y: tf.pad(
        tf.pad(x, [[0, 0], [2, 3], [0, 1]], "REFLECT"), [[0, 0], [0, 2], [3, 0]], "symmetric"
    ),
    "shapes": lambda x, y: tf.squeeze(tf.expand_dims(tf.reshape(tf.transpose(x, (0, 2, 1)), (-1, 3, 8)), 1), [1]),
    "two matrices": lambda x, y: tf.matmul(tf.matmul(x, y, transpose_b=True), y),
    "stacks": lambda x, y: tf.stack([x, y], axis=1),
}
INSIDE = ("batchnorm", "gather", "merge", "dense", "maxpool", "sumpool", "reshape", "requantize")
"""Ops that may be one step of several of a function."""
ROUNDED: Mapping[str, Callable[[Any, Any], Any]] = {
    "any factor": lambda x, y: x * 0.3 + 0.7,
    "any slope": lambda x, y: tf.nn.leaky_relu(x),
    "tables": lambda x, y: tf.tanh(x),
}
"""What float32 rounds, or a table is."""


def quantized(x: Any, bits: int) -> Any:
    return qkeras.QActivation(f"quantized_bits({bits},2,alpha=1)")(x)


def outputs(cases: Mapping[str, Callable[[Any, Any], Any]]) -> Callable[[Any], list[Any]]:
    def build(x: Any) -> list[Any]:
        first = quantized(x, 6)
        second = quantized(first, 4)
        return [quantized(case(first, second), 9) for case in cases.values()]

    return build


@pytest.mark.parametrize(("cases", "arithmetic"), [(EXACT, "float32"), ({**EXACT, **ROUNDED}, "float64")])
def test_they_are_what_tensorflow_computes(cases: Any, arithmetic: str, tmp_path: Any) -> None:
    found = read_keras(save(wired(outputs(cases), (4, 6)), tmp_path / "model.h5"))
    assert compare(found, unseen=INSIDE)[0] == arithmetic


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another function": (tf.math.log, "layer '.*': function tf.math.log is not supported; use layers, or"),
    "another power": (lambda x: x**3, "raises to another power than 2; multiply a tensor by itself"),
    "another division": (lambda x: x / 3, "divides by what is no power of two; multiply by its reciprocal"),
    "a division by a tensor": (lambda x: 1 / (x + 9), "divides by a tensor; multiply by constants instead"),
    "other samples": (lambda x: x + x[:, 0, 0:1], "whose samples would meet those of others; give them as many axes"),
    "a constant of samples": (
        lambda x: x * np.ones((3, 4, 6), np.float32),
        r"shape \(3, 4, 6\) is not the same for every",
    ),
    "samples": (lambda x: tf.reduce_sum(x, axis=0), r"reduces over samples \(axis=0\); give axes of one sample"),
    "samples joined": (lambda x: tf.concat([x, x], axis=0), "joins samples"),
    "samples sliced": (lambda x: x[1:], "takes some of the samples"),
    "another type": (lambda x: tf.cast(x, tf.int32), "casts to 'int32'; compute in float32"),
    "nothing left": (lambda x: x[:, 0, 0], r"leaves nothing of its input of shape \(4, 6\); keep an axis"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_others_are_refused_by_name(what: str, tmp_path: Any) -> None:
    build, message = REFUSED[what]
    path = save(wired(lambda x: build(quantized(x, 6)), (4, 6)), tmp_path / "model.h5")
    with pytest.raises(UnsupportedError, match=message) as caught:
        extract(read_keras(path).trained, evaluate=evaluate)
    assert "layer 'tf." in str(caught.value)


def test_no_object_among_the_arguments_is_made() -> None:
    evil = {"class_name": "Lambda", "config": {"function": "os.system"}}
    call = {**layer("TFOpLambda", "odd", function="nn.leaky_relu"), "name": "odd"}
    call["inbound_nodes"] = [["in", 0, 0, {"alpha": evil}]]
    model = functional(named("in", 3), call, outputs=["odd"])
    with pytest.raises((ModelFileError, UnsupportedError), match="Lambda"):
        checked({"class_name": "Functional", "config": {"name": "m", **model.config}})


@pytest.mark.parametrize("function", ["io.write_file", "py_function", "os.system", "__class__", ""])
def test_no_function_outside_the_table_is_looked_up(function: str) -> None:
    call = {**layer("TFOpLambda", "odd", function=function), "name": "odd", "inbound_nodes": [["in", 0, 0, {}]]}
    model = functional(named("in", 3), call, outputs=["odd"])
    with pytest.raises(UnsupportedError, match=r"layer 'odd': function tf\..* is not supported"):
        checked({"class_name": "Functional", "config": {"name": "m", **model.config}})
