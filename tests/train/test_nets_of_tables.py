"""Nets of tables: specs, the plain form that computes the same, wires that are learned, and a training whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.errors import SpecError, ToolMissingError
from flow.frontend.trained import TrainedModel, load_trained
from flow.ir.fixed import FixedFormat
from flow.ir.passes import lower
from flow.train import load_tensorflow, quiet_warnings
from flow.train.spec import ModelSpec, TablesSpec, ThresholdsSpec, find_model_dir, load_spec

try:
    tf, keras, _ = load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.data.datasets import Dataset
from flow.data.inputs import Samples, to_port
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.train import tables
from flow.train.artefacts import configuration
from flow.train.build import build_plain, build_quantized
from flow.train.epochs import seeded
from flow.train.fit import _with_fitted_thresholds, train
from flow.train.freeze import keras_model, quantized_weights, sparsity
from flow.train.rewiring import Rewiring

NET = """
name = "small"
description = "three layers of tables, a skip and a tree"
dataset = "digits"

[input]
name = "port"
shape = [2, 4, 1]
format = { signed = false, int_bits = 0, frac_bits = 2 }

[[layers]]
kind = "flatten"
name = "flat"

[[layers]]
kind = "thresholds"
name = "bits"
at = [0.0, 0.3]

[[layers]]
kind = "tables"
name = "first"
units = 12
fan_in = 6
hidden = 3
kernel = { min_exponent = -3, max_exponent = 1 }

[[layers]]
kind = "concatenate"
name = "skip"
from = ["first", "bits"]

[[layers]]
kind = "tables"
name = "second"
units = 12
fan_in = 4
hidden = 4
kernel = { min_exponent = -3, max_exponent = 0 }

[[layers]]
kind = "tables"
name = "third"
units = 6
fan_in = 2
hidden = 5
wiring = "tree"
kernel = { min_exponent = -3, max_exponent = 1 }

[[layers]]
kind = "popcount"
name = "classes"
units = 3
temperature = 2

[train]
epochs = 2
batch_size = 32
learning_rate = 0.01
seed = 7
"""
Load = Callable[[str], ModelSpec]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that reads a spec from a text."""

    def read(text: str) -> ModelSpec:
        path = tmp_path / "spec.toml"
        path.write_text(text)
        spec = load_spec(path)
        assert isinstance(spec, ModelSpec)
        return spec

    return read


def test_the_plain_form_computes_the_same_and_is_exact_in_integers(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load(NET)
    seeded(1)
    model = build_quantized(spec)
    values = np.random.default_rng(1).uniform(0, 1, (600, 2, 4, 1)).astype(np.float32)
    monkeypatch.setattr(tables, "MOMENTUM", 0.0)
    model(values, training=True)  # its moving statistics are now those of the values
    plain = build_plain(spec, model)
    with quiet_warnings():
        config, weights = configuration(plain), quantized_weights(plain)
    modules = {layer["module"].partition(".")[0] for layer in config["layers"]}
    assert modules <= {"keras", "tf_keras", "qkeras"}, "no layer of ours"
    graph = lower(extract(TrainedModel(name="small", class_name="Functional", config=config, weights=weights)))
    codes = to_port(Samples(values=values, labels=None, source=""), graph).codes
    logits = np.asarray(model(values))
    assert np.array_equal(logits, plain(values))
    assert np.array_equal(reference.run(graph, codes).codes[graph.ops[-1].name], logits)
    assert np.ptp(logits, axis=0).any()
    layer = plain.get_layer("third_sum")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias - 2.0**-6])
    fewer = np.asarray(plain(values))
    assert (fewer <= logits).all() and (fewer < logits).any(), "a threshold lies where a step of its grid counts"


@pytest.mark.parametrize(("at", "step"), [((0.0,), 0.5), ((0.0, 0.3), 0.25), ((-1.0, 2.6), 0.5)])
def test_thresholds_of_any_port_compare_as_they_train(at: tuple[float, ...], step: float) -> None:
    layer, first = tables.Thresholds(at, "bits"), keras.Input((2,))
    values = np.arange(-8, 8, dtype=np.float32).reshape(-1, 2) * step
    with quiet_warnings():
        plain = keras.Model(first, tables.plain_thresholds(layer, step)(first))
    assert np.array_equal(plain(values), layer(values))


WRONG = (
    ('from = ["first", "bits"]', 'from = ["first", "flat"]', "layer 'second' reads bits, and 'skip' gives others"),
    ("units = 6\n", "units = 5\n", "needs 5 times 2 = 10 bits for its tree; its input has shape"),
    ("units = 3\n", "units = 4\n", "needs a vector of as many bits for each of 4 classes"),
    ("fan_in = 6", "fan_in = 16", None),
    ("fan_in = 6", "fan_in = 17", "key 'layers.2.fan_in' is 17|fan_in"),
    ("at = [0.0, 0.3]", "at = [0.3, 0.0]", "at' is .*expected finite numbers in brackets, each above the one before"),
    ("at = [0.0, 0.3]", "", "at"),
    ('wiring = "tree"', 'wiring = "star"', "wiring"),
    ("hidden = 5\n", "", "hidden"),
    ("[train]", "[prune]\nbegin_epoch = 0\nend_epoch = 1\n\n[train]", "does not go with tables"),
    ('name = "bits"\nat = [0.0, 0.3]', 'name = "bits"\nlevels = 16', "levels"),
    ('name = "flat"', 'name = "flat"\n\n[[layers]]\nkind = "add"\nname = "sum"\nfrom = ["flat", "flat"]', "no relu"),
)


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG)
def test_what_a_spec_of_tables_must_say(load: Load, right: str, wrong: str, message: str | None) -> None:
    assert NET.count(right) >= 1
    text = NET.replace(right, wrong, 1)
    if message is None:
        load(text)
        return
    with pytest.raises(SpecError, match=message):
        load(text)


def test_thresholds_are_fitted_to_quantiles_on_the_grid_of_the_port(load: Load) -> None:
    spec = load(NET.replace("at = [0.0, 0.3]", "levels = 3"))
    assert spec.shapes()["bits"] == (24,)
    values = np.repeat(np.float32([0, 0.25, 0.5, 0.75]), [60, 10, 10, 10]).reshape(-1, 1)
    labels = np.zeros(len(values), np.int64)
    data = _data(values, labels)
    fitted = _with_fitted_thresholds(spec, data).layers[1]
    assert isinstance(fitted, ThresholdsSpec) and fitted.at == (0.0, 0.25, 0.5)
    one_bit = replace(spec, input=replace(spec.input, format=FixedFormat(False, 0, 1)))
    fitted = _with_fitted_thresholds(one_bit, data).layers[1]
    assert isinstance(fitted, ThresholdsSpec) and fitted.at == (0.0,), "the top of the range is above no threshold"


def _data(values: Any, labels: Any) -> Dataset:
    return Dataset(
        name="own", x_train=values, y_train=labels, x_test=values, y_test=labels, class_names=("a", "b"), source="here"
    )


@pytest.mark.slow
def test_wires_go_where_the_gradient_is_and_never_to_what_does_not_vary() -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 2, (512, 40)).astype(np.float32)
    x[:, :20] = 1  # says nothing
    y = (x[:, 30] + x[:, 31] + x[:, 32] >= 2).astype(np.int64)

    seeded(1)
    first = keras.Input((40,))
    layer = tables.Tables(8, 3, 2, (-3, 1), name="tables")
    model = keras.Model(first, keras.layers.Dense(2)(layer(first)))
    model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=64, epochs=6, verbose=0, callbacks=[Rewiring(x, y, 6, seed=5)])
    wires = np.asarray(layer.wires)
    assert wires.min() >= 20, "wires that vary"
    assert all(len(set(row)) == 3 for row in wires.tolist())
    assert np.isin(wires, (30, 31, 32)).mean() > 0.3, "by chance it is 0.15"


@pytest.mark.slow
def test_the_model_of_the_house_trains_anew_from_its_spec(tmp_path: Path) -> None:
    spec = load_spec("digits_tables")
    made, kept = train(spec, tmp_path), load_trained(find_model_dir("digits_tables"))
    assert made.metrics["qkeras"] > 0.93
    assert abs(made.metrics["qkeras"] - kept.metrics["qkeras"]) < 0.03, "another machine adds up in another order"
    assert not (tmp_path / "float").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accuracy"), [("digits_tables", 0.93), ("mnist_tiny", 0.95), ("mnist_small", 0.96)])
def test_the_models_of_the_house_keep_their_promises(name: str, accuracy: float) -> None:
    directory = find_model_dir(name)
    kept = load_trained(directory)
    spec = load_spec(name)
    assert isinstance(spec, ModelSpec)
    for layer in spec.layers:
        if isinstance(layer, TablesSpec):
            assert kept.weights[f"{layer.name}_hidden"]["kernel"].shape == (layer.fan_in, 1, layer.units, layer.hidden)
    outputs = keras_model(kept).predict(kept.verification_inputs, verbose=0)
    assert np.mean(outputs.argmax(1) == kept.verification_labels) >= accuracy
    assert kept.metrics["qkeras"] >= accuracy and kept.metrics["sparsity"] == sparsity(kept.weights)
    assert sum(path.stat().st_size for path in directory.glob("trained.*")) < 800_000
