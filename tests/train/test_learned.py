"""Quantizers of kernels beyond QKeras': sums of powers of two, a grid for each channel, steps that are learned."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow
from flow.errors import SpecError, ToolMissingError
from flow.train import load_tensorflow, quiet_warnings

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train.artefacts import configuration
from flow.train.build import build_quantized
from flow.train.checkpoints import Checkpoint
from flow.train.cost_in_loss import LutCost
from flow.train.deserialize import keras_model_of
from flow.train.fit import check_exact
from flow.train.freeze import quantized_weights
from flow.train.learned import LearnedFormat, LearnedSteps, learn
from flow.train.lut_cost import Features
from flow.train.quantizers import quantized_apot, quantized_grid
from flow.train.spec import load_spec

tf, keras, qkeras = load_tensorflow()
RNG = np.random.default_rng(3)
X = np.float32(RNG.integers(-16, 16, (256, 12)) / 16)
Y = X[:, :4].argmax(axis=1)


def test_sums_of_powers_of_two() -> None:
    """The nearest of all sums, by trying each; the one closer to zero of two; its own values stay."""
    for terms, low, high in ((2, -3, 1), (3, -4, 0), (2, 0, 0)):
        quantizer = quantized_apot(terms, low, high)
        exponents = np.ldexp(1.0, np.arange(low, high + 1))
        signs = [each for each in product((-1, 0, 1), repeat=len(exponents)) if np.count_nonzero(each) <= terms]
        sums = np.unique(np.array(signs) @ exponents)
        x = np.concatenate([np.linspace(-4, 4, 1001), sums, (sums[1:] + sums[:-1]) / 2]).astype(np.float32)
        away = np.abs(np.float64(x)[:, np.newaxis] - sums)
        nearest = [sums[row == row.min()] for row in away]
        expected = np.array([each[np.abs(each).argmin()] for each in nearest])
        found = quantizer(x).numpy()
        assert np.array_equal(found, expected) and np.array_equal(quantizer(found).numpy(), found)
    with pytest.raises(SpecError, match=r"quantized_apot: 2 terms with exponents -30..0; expected 2 to 3 terms, and"):
        quantized_apot(2, -30, 0)


def test_a_grid_for_each_channel() -> None:
    x = np.random.default_rng(1).normal(0, 2, (3, 3, 2, 2)).astype(np.float32)
    widths, tops = [4, 3, 6, 2], [0, -1, 2, 1]
    depthwise = quantized_grid(widths, tops)(x).numpy().reshape(-1, 4)
    dense = quantized_grid(widths, tops)(x.reshape(-1, 4)).numpy()
    alone = [
        quantized_grid(*each)(x.reshape(-1, 4)[:, n]).numpy() for n, each in enumerate(zip(widths, tops, strict=True))
    ]
    assert np.array_equal(dense, np.stack(alone, axis=1)) and np.array_equal(depthwise, dense)
    many = quantized_grid([4] * 16, [-1] * 15 + [0])
    wide = x[0, 0, 0, 0] * np.linspace(-1, 1, 640).reshape(40, 16).astype(np.float32)
    found = tf.function(lambda: many(wide))().numpy()  # where a division by constants would be a product
    assert np.array_equal(found, many(wide).numpy()) and np.array_equal(found * 16, np.rint(found * 16)) and found.any()
    learned = LearnedFormat(True, [0] * 16, [-1.4, 2.6] * 8, least=-16.0)
    settled = quantized_grid([1, 4] * 8, 0)
    assert np.array_equal(tf.function(lambda: learned(wide))().numpy()[:, 1::2], settled(wide).numpy()[:, 1::2])
    unsigned = quantized_grid(3, [1, 2], keep_negative=False)([[-1.0, -1.0], [1.3, 9.0]]).numpy()
    assert unsigned.tolist() == [[0, 0], [1.25, 3.5]]
    with pytest.raises(SpecError, match="bits and integer are lists of 2 and 3 channels"):
        quantized_grid([2, 3], [0, 0, 0])
    with pytest.raises(SpecError, match=r"bits of 3 channels, of a tensor of shape \(3, 3, 2, 2\)"):
        quantized_grid([2, 3, 4])(x)


@quiet_warnings()
def mlp(first: Any, second: Any, activation: Any = "quantized_relu(4,1)") -> Any:
    keras.utils.set_random_seed(1)
    bias = "quantized_bits(5,0,1,alpha=1)"
    port = keras.Input((12,))
    tensor = qkeras.QActivation("quantized_bits(6,0,0,1,alpha=1.0)", name="port")(port)
    tensor = qkeras.QDense(6, kernel_quantizer=first, bias_quantizer=bias, name="hidden")(tensor)
    tensor = qkeras.QActivation(activation, name="relu")(tensor)
    tensor = qkeras.QDense(4, kernel_quantizer=second, bias_quantizer=bias, name="logits")(tensor)
    return keras.Model(port, tensor, name="mine")


def fit(model: Any, *callbacks: Any, epochs: int) -> None:
    with quiet_warnings():
        model.compile(keras.optimizers.Adam(0.03), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(X, Y, epochs=epochs, batch_size=64, verbose=0, callbacks=list(callbacks))


def test_what_they_hold_is_read_again_from_a_configuration() -> None:
    """By QKeras, and by the front end, which takes them for weights and for one grid of all activations."""
    grid = quantized_grid([5, 4, 3, 2, 6, 4], [0, 1, 0, 0, -1, 0])
    model = mlp(grid, quantized_apot(2, -4, 0), quantized_grid(4, 1, keep_negative=False))
    with quiet_warnings():
        again = keras_model_of("Functional", configuration(model))
    again.set_weights(model.get_weights())
    assert np.array_equal(model.predict(X, verbose=0), again.predict(X, verbose=0))
    assert quantized_weights(again)["hidden"]["kernel"].any()
    with quiet_warnings():
        check_exact(again, "mine")
    many = mlp(grid, quantized_apot(2, -4, 0), quantized_grid([4] * 6, 1, keep_negative=False))
    with quiet_warnings(), pytest.raises(flow.FlowError, match=r"'quantized_grid' has bits of each channel, as only"):
        check_exact(many, "mine")


def test_steps_are_learned_and_stay_in_a_file(tmp_path: Path) -> None:
    """Two kernels, one of them with a step for each neuron; a file keeps what was found."""
    model = mlp(quantized_grid(4, 3), "quantized_bits(3,0,1,alpha=1.0)")
    steps = LearnedSteps(model, layers=["hidden"], per_channel=True), LearnedSteps(model, layers=["relu", "logits"])
    fit(model, *steps, epochs=1)
    hidden, logits = (model.get_layer(name).kernel_quantizer_internal for name in ("hidden", "logits"))
    assert hidden.of_channels == [4] * 6 and len(hidden.integer) == 6 and max(hidden.integer) < 3
    assert type(logits) is quantized_grid and logits.bits == 3 and len(model.weights) == 4
    assert model.get_layer("relu").activation.startswith("quantized_relu(4,")
    said = model.predict(X, verbose=0)
    fit(model, *steps, epochs=1)
    assert not np.array_equal(said, model.predict(X, verbose=0)), "it trains on"
    with quiet_warnings():
        model.save(tmp_path / "mine.h5")  # variables of one name could not be saved
        read = flow.read_keras(tmp_path / "mine.h5")
        check_exact(read.keras, "mine")
    assert np.array_equal(read.keras.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_step_begins_where_it_fits() -> None:
    model = mlp(quantized_grid(4, 3), "quantized_bits(3,0,1,alpha=1.0)")
    kernel = np.linspace(-1.9, 1.9, 72).reshape(12, 6).astype(np.float32)
    kernel[:, 0], kernel[:, 1] = kernel[:, 0] / 16, 0
    model.get_layer("hidden").set_weights([kernel, np.zeros(6, np.float32)])
    _, learned = LearnedSteps(model, per_channel=True).learned["hidden"]
    rounded = learned(kernel).numpy()
    assert np.abs(rounded - kernel)[:, 2:].max() <= 2.0**-2 and np.abs(rounded - kernel)[:, 0].max() <= 2.0**-6
    other = LearnedSteps(model, layers=["hidden"]).learned["hidden"]
    learn(*other)
    with pytest.raises(SpecError, match="the format of layer 'hidden' is learned by two callbacks; name its layers"):
        learn(model.get_layer("hidden"), learned)


@pytest.mark.slow
def test_widths_of_kernels_are_learned_under_cost() -> None:
    for kernels in ("layer", "channel"):
        model = mlp(quantized_grid(6, 0), "quantized_bits(6,0,1,alpha=1.0)")
        first = float(Features(model).luts())
        fit(model, LutCost(model, 3e-3, kernels=kernels, formats=False, end_epoch=8), epochs=9)
        widths = np.array(model.get_layer("hidden").kernel_quantizer_internal.of_channels)
        assert widths.shape == ((6,) if kernels == "channel" else ()) and widths.mean() < 6
        assert float(Features(model).luts()) < 0.8 * first
        assert model.get_layer("relu").activation == "quantized_relu(4,1)", "formats=False leaves activations"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: LearnedSteps(model, layers=["nope"]), "layer 'nope' has no step to learn; there are: port, rel"),
        (lambda model: LearnedSteps(model, layers=["hidden"]), "layer 'hidden' has no step to learn"),
        (lambda model: LutCost(model, 1e-3, kernels="weight"), "kernels is 'weight'; expected layer or channel"),
    ],
)
def test_what_has_no_step_is_named(make: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(mlp("binary(alpha=1)", quantized_apot()))


SPEC = """
name = "small"
description = "a kernel of each kind"
dataset = "digits"
[input]
name = "port"
shape = [64]
format = { signed = false, int_bits = 0, frac_bits = 4 }
[[layers]]
kind = "dense"
name = "first"
units = 3
kernel = { signed = true, int_bits = 0, frac_bits = [3, 2, 4] }
[[layers]]
kind = "relu"
name = "relu"
format = { bits = 4 }
[[layers]]
kind = "dense"
name = "second"
units = 4
kernel = { terms = 2, min_exponent = -4, max_exponent = 0 }
[[layers]]
kind = "quantize"
name = "cast"
format = { bits = 5 }
[[layers]]
kind = "dense"
name = "third"
units = 4
kernel = { values = "ternary" }
[[layers]]
kind = "dense"
name = "logits"
units = 10
kernel = { bits = 4, per_channel = true }
[train]
epochs = 3
batch_size = 64
learning_rate = 0.01
frozen_epochs = 1
seed = 1
"""


def test_a_spec_names_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    with quiet_warnings():
        model = build_quantized(load_spec(path))
        check_exact(model, "small")
    kinds = [type(layer.kernel_quantizer_internal).__name__ for layer in model.layers if hasattr(layer, "kernel")]
    assert kinds == ["quantized_grid", "quantized_apot", "ternary", "quantized_grid"]
    assert model.get_layer("first").kernel_quantizer_internal.of_channels == [4, 3, 5]
    for line, other, message in (
        ("[3, 2, 4]", "[3, 2]", "layer 'first' has 3 channels, and its kernel bits of 2"),
        ("[3, 2, 4]", "[3, 2, 0]", "layers.0..kernel' has 1 bits; expected 1 to 23 and a sign"),
        ("[3, 2, 4]", "[3, 2.5, 4]", "expected integers from -24 to 24, one for each channel"),
        ("int_bits = 0, frac_bits = [", "int_bits = [0, 1], frac_bits = [", "has bits of 2 and of 3 channels"),
        ("signed = true, int", "signed = false, int", "kernel.signed' is false; expected true"),
        ("terms = 2", "terms = 4", "kernel.terms' is 4; expected an integer from 2 to 3"),
        ("terms = 2, min_exponent = -4", "terms = 2, min_exponent = -24", "exponents -24..0 of sums are more than 20"),
        ('"ternary" }', '"binary" }\nsparsity = 0.5', "sparsity' is 0.5, but binary weights have no zero"),
        ('"ternary"', '"quinary"', "is 'quinary'; expected one of binary, ternary"),
        ("{ bits = 4, per", "{ bits = 1, per", "kernel.bits' is 1; expected an integer from 2 to 24"),
        ("{ bits = 4, per", "{ bits = 4, pre", "kernel.pre_channel' is unknown; accepted are per_channel, bits"),
        ("{ bits = 5 }", "{ bits = 1 }", "format.bits' is 1; expected an integer from 2 to 24"),
    ):
        assert line in SPEC
        path.write_text(SPEC.replace(line, other))
        with pytest.raises(SpecError, match=message):
            load_spec(path)


@pytest.mark.slow
@pytest.mark.parametrize("target", [flow.Target(backend="rtl"), flow.Target(backend="Vitis")], ids=str)
def test_each_kind_is_bit_exact_in_simulation(target: flow.Target, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    tensor = port = keras.Input((12,))
    kinds = (quantized_grid([4, 3, 5, 2], [0, -1, 1, 0]), quantized_apot(2, -4, 0), quantized_apot(3, -5, 1))
    with quiet_warnings():
        for quantizer in (*kinds, "binary(alpha='auto_po2')", "ternary(alpha='auto_po2')"):
            tensor = qkeras.QActivation("quantized_bits(6,1,0,1,alpha=1.0)")(tensor)
            tensor = qkeras.QDense(4, kernel_quantizer=quantizer, use_bias=False)(tensor)
        model = keras.Model(port, tensor, name="kinds")
        assert len({weight["kernel"].tobytes() for weight in quantized_weights(model).values()}) == 5
        options = flow.BuildOptions(output=tmp_path, adversarial=256)
        assert flow.build(model, target, options, x=X).bit_exact


@pytest.mark.slow
def test_a_training_that_learns_steps_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its epochs, and behind the last one, where only the files were not written."""
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    whole = flow.train_model(path, tmp_path / "whole")
    bits = {layer["name"]: layer["config"] for layer in whole.config["layers"]}
    assert bits["logits"]["kernel_quantizer"]["config"]["bits"] == [4] * 10
    assert bits["relu"]["activation"].startswith("quantized_relu(4,")
    save = Checkpoint.save

    def interrupted(self: Checkpoint, model: object, done: int, *rest: object) -> None:
        save(self, model, done, *rest)
        raise KeyboardInterrupt

    for _ in range(2 * 3):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", interrupted)
            with pytest.raises(KeyboardInterrupt):
                flow.train_model(path, tmp_path / "parts")
    assert flow.train_model(path, tmp_path / "parts").digest() == whole.digest()
