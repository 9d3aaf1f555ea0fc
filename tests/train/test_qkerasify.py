"""A float model becomes its QKeras twin: layers, quantizers, weights, and integers that are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flow.errors import DataError, SpecError, ToolMissingError, UnsupportedError
from flow.train import load_tensorflow, quiet_warnings

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train.fit import check_exact
from flow.train.qkerasify import qkerasify
from flow.train.quantizers import quantized_po2_zero

_, keras, qkeras = load_tensorflow()
layers = keras.layers
X = np.random.default_rng(1).uniform(0, 1, (64, 8, 8, 1)).astype(np.float32)


def small() -> Any:
    """A residual net with every kind of layer that qkerasify treats in a way of its own."""
    keras.utils.set_random_seed(1)
    first = keras.Input((8, 8, 1), name="x")
    tensor = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(first)
    tensor = layers.BatchNormalization(name="norm")(tensor)
    short = tensor = layers.ReLU(name="relu")(tensor)
    tensor = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(tensor)
    tensor = layers.Add(name="add")([tensor, short])
    tensor = layers.AveragePooling2D(2, name="mean")(tensor)
    tensor = layers.ReLU(6.0, name="relu6")(layers.Flatten(name="flat")(tensor))
    tensor = layers.Dense(8, activation="tanh", name="hidden")(tensor)
    return keras.Model(first, layers.Dense(3, activation="softmax", name="out")(tensor), name="small")


def test_a_float_model_gets_quantizers_and_keeps_its_weights() -> None:
    model = small()
    model.get_layer("norm").set_weights([np.float32([1, -2, 0.3, 0]), *np.float32([[0.1] * 4, [0.2] * 4, [0.5] * 4])])
    fine = {"hidden": {"kernel": "quantized_bits(6,0,1,alpha=1.0)"}, "Dense": {"kernel": quantized_po2_zero(5, 1)}}
    twin = qkerasify(model, fine, x=X)
    kinds = [(layer.name, type(layer).__name__) for layer in twin.layers]
    assert kinds == [
        *(
            ("x", "InputLayer"),
            ("x_quantizer", "QActivation"),
            ("conv", "QConv2D"),
            ("norm", "FixedBatchNormalization"),
        ),
        *(("relu", "QActivation"), ("depth", "QDepthwiseConv2D"), ("depth_relu", "QActivation"), ("add", "Add")),
        *(("mean", "AveragePooling2D"), ("mean_quantizer", "QActivation"), ("flat", "Flatten"), ("relu6", "ReLU")),
        *(("relu6_quantizer", "QActivation"), ("hidden", "QDense"), ("hidden_tanh", "Activation")),
        *(("hidden_tanh_quantizer", "QActivation"), ("out", "QDense"), ("out_softmax", "Activation")),
    ]
    for layer in model.layers:
        for old, new in zip(layer.get_weights(), twin.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(old, new), layer.name
    assert str(twin.get_layer("hidden").kernel_quantizer_internal) == "quantized_bits(6,0,1,alpha=1.0)"
    assert twin.get_layer("out").kernel_quantizer_internal.bits == 5
    assert twin.get_layer("conv").kernel_quantizer_internal.bits == 4
    assert np.abs(model.predict(X, verbose=0) - twin.predict(X, verbose=0)).max() < 0.2
    with quiet_warnings():
        check_exact(twin, "small")


def test_rules_may_leave_things_as_they_are() -> None:
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="a"), layers.ReLU(name="r")], name="s")
    twin = qkerasify(
        model,
        {"InputLayer": {"output": "quantized_bits(8,0,1,alpha=1.0)"}, "Dense": {"kernel": None, "bias": None}}
        | {"r": {"output": "quantized_relu(4,1)"}, "a": {"output": "quantized_bits(12,4,1,alpha=1.0)"}},
    )
    assert [layer.name for layer in twin.layers] == ["x", "x_quantizer", "a", "a_output", "r"]
    assert twin.get_layer("a").kernel_quantizer is None
    bare = qkerasify(model, {"InputLayer": {"output": None}, "r": {"output": "quantized_relu(4,1)"}})
    assert [layer.name for layer in bare.layers] == ["x", "a", "r"]


def test_what_cannot_become_a_twin_is_named() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a")], name="s")
    with pytest.raises(SpecError, match=r"s: .*ranges of activations are not known; give x, some training samples"):
        qkerasify(model)
    with pytest.raises(SpecError, match="s: rule 'Dens' is of no layer"):
        qkerasify(model, {"Dens": {}}, x=X)
    with pytest.raises(SpecError, match="rule 'a' has 'weights'; expected kernel, bias"):
        qkerasify(model, {"a": {"weights": None}}, x=X)
    with pytest.raises(SpecError, match="expected a built model of tf_keras or its file"):
        qkerasify(7)
    first, shared = keras.Input((4,)), layers.Dense(4, name="twice")
    with pytest.raises(UnsupportedError, match="layer 'twice' is called more than once"):
        qkerasify(keras.Model(first, shared(shared(first))), x=X)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[..., 0], r"s: argument 'x': has shape \(64, 8, 8\); the model takes \(samples, 4\)"),
        (np.zeros((0, 4)), "'x': holds no samples"),
        (np.float32([[0, 1, np.nan, np.inf]]), "'x': 2 values are NaN or infinite"),
        (np.array([["a"] * 4]), "'x': is an array of <U1, not of numbers"),
        ({"y": X}, "'x': holds 'y'; the model has the inputs 'in'"),
    ],
)
def test_samples_that_cannot_be_run_are_refused(x: Any, message: str) -> None:
    model = keras.Sequential([keras.Input((4,), name="in"), layers.Dense(3, name="a")], name="s")
    with pytest.raises(DataError, match=message):
        qkerasify(model, x=x)


def test_an_input_may_leave_an_axis_open() -> None:
    first = keras.Input((None, 2), name="in")
    twin = qkerasify(keras.Model(first, layers.Conv1D(3, 2, name="a")(first), name="s"), x={"in": np.ones((5, 7, 2))})
    assert [layer.name for layer in twin.layers] == ["in", "in_quantizer", "a"]
