"""Layers of integer attention: what they compute, how they train, and where those of floats are refused."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fixtures_keras import bits, keras, qkeras, save

from flow.errors import ModelFileError, UnsupportedError
from flow.frontend.extraction import attempt, extract
from flow.frontend.extraction.approximation import Approximation
from flow.ir import reference
from flow.ir.passes import lower
from flow.report.scores import distances
from flow.train import attention, inference, load_tensorflow
from flow.train.attention import FixedLayerNormalization, FixedSoftmax, multi_head_attention
from flow.train.functions import evaluate
from flow.train.reader import read_keras

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
tf = load_tensorflow().tf
X = np.random.default_rng(5).integers(-64, 64, (500, 12)).astype(np.float32) / 16


def test_the_examples_of_the_layers() -> None:
    results = doctest.testmod(attention)
    assert results.attempted and not results.failed


def test_they_are_close_to_the_real_functions() -> None:
    assert np.abs(FixedSoftmax(8)(X) - tf.nn.softmax(X)).max() < 2**-6
    real = keras.layers.LayerNormalization(epsilon=2.0**-10)(X)
    close = FixedLayerNormalization(8, 3, root_bits=8)(X)
    assert np.abs(close - real).max() < 2**-4


@pytest.mark.parametrize("layer, smooth", [(FixedSoftmax(6), "softmax"), (FixedLayerNormalization(6), "_smooth")])
def test_gradients_are_those_of_the_real_functions(layer: Any, smooth: str) -> None:
    real = getattr(layer, smooth, tf.nn.softmax)

    def slope(function: Any) -> np.ndarray:
        x = tf.constant(X)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(function(x) * X)
        return np.asarray(tape.gradient(y, x))

    np.testing.assert_allclose(slope(layer), slope(real), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [FixedSoftmax(5), FixedLayerNormalization(5, 1, 4, 2.0**-6)])
def test_a_configuration_makes_the_same_layer_again(layer: Any) -> None:
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config() and np.array_equal(again(X), layer(X))


def model(path: Path, *layers: Any) -> Path:
    port, narrow = qkeras.QActivation(bits(6, 2, alpha=1), name="port"), bits(4, 0, 1, alpha=1)
    parts = [port, *layers, qkeras.QDense(2, kernel_quantizer=narrow, bias_quantizer=narrow, name="end")]
    return save(keras.Sequential([keras.layers.InputLayer((4, 4)), *parts]), path)


@pytest.mark.parametrize(
    "layer, why",
    [
        (
            keras.layers.LayerNormalization(name="x"),
            "layer 'x' .LayerNormalization.: computes with floats; use FixedLayerNorm.* --float-layers 12",
        ),
        (
            keras.layers.Softmax(name="x"),
            "'end' .QDense.: comes after the softmax 'x'; .* inside a net use FixedSoftmax of",
        ),
    ],
)
def test_those_of_floats_are_refused_with_the_layer_to_use(layer: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=why):
        extract(read_keras(model(tmp_path / "m.h5", layer)).trained)


def test_those_of_floats_are_rounded_on_request_near_what_keras_computes(tmp_path: Path) -> None:
    parts = [keras.layers.LayerNormalization(name="norm"), keras.layers.Softmax(name="shares")]
    found = read_keras(model(tmp_path / "m.h5", *parts))
    samples = np.random.default_rng(1).uniform(-3, 3, (64, 4, 4))
    rounds = Approximation(float_layers=12, samples=samples)
    made = attempt(found.trained, evaluate=evaluate, rounds=rounds)
    lowered, codes = lower(made.checked()), np.int64(np.rint(samples * 8).clip(-32, 31))
    assert made.approximated == ("norm", "shares")
    own = inference.float_outputs(found.keras, found.trained, lowered, codes)
    (distance,) = distances(lowered, reference.run(lowered, codes), own)
    assert distance["largest_difference"] < 0.02 < np.abs(own[lowered.outputs[0]]).max()


def test_attention_of_floats_is_refused_as_such_however_it_is_called(tmp_path: Path) -> None:
    port = keras.Input((4, 4))
    attended = keras.layers.MultiHeadAttention(2, 2, name="x")(port, value=port)
    with pytest.raises(
        UnsupportedError, match="'x': MultiHeadAttention is not supported; use multi_head_attention of flow"
    ):
        read_keras(save(keras.Model(port, attended), tmp_path / "m.keras"))


def test_what_the_refusals_say_works(tmp_path: Path) -> None:
    port = keras.Input((4, 4))
    norm = FixedLayerNormalization(name="norm")(qkeras.QActivation(bits(6, 2, alpha=1), name="codes")(port))
    attended = multi_head_attention(qkeras.QActivation(bits(6, 2, alpha=1), name="q")(norm), heads=2, key_dim=2)
    path = save(keras.Model(port, FixedSoftmax(name="shares")(attended)), tmp_path / "m.keras")
    names = {name for op in extract(read_keras(path).trained).ops for name in op.layers}
    assert {"norm", "attention_shares1", "attention_output", "shares"} < names


def test_a_file_that_asks_for_a_huge_table_is_refused_before_one_is_made(tmp_path: Path) -> None:
    path = model(tmp_path / "m.h5", FixedSoftmax(name="shares"))
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"]
        assert '"bits": 8' in text
        file.attrs["model_config"] = text.replace('"bits": 8', '"bits": 40')
    with pytest.raises(ModelFileError, match="layer 'shares': bits=40 is not a whole number; use 2 to 12"):
        read_keras(path)
