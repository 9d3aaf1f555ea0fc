"""Front ends: a made-up one goes all the way with a row in the table, and every kind of layer has a handler."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import flow, needs_compiler, refused, run_directories
from keras_configs import BITS, functional, layer, model, named, port, reads

import flow.frontend.layers as kinds
from flow.frontend import base
from flow.frontend.extraction import LAYERS
from flow.frontend.extraction.activations import ACTIVATIONS
from flow.frontend.trained import load_trained, save_trained
from flow.ir.graph import Dense, Input
from flow.ir.passes import lower
from flow.ir.reference import run
from flow.pipeline.models import extract_model
from flow.pipeline.options import BuildOptions

STEPS = [
    {"name": "first", "kernel": [[1, -2], [0.5, 4], [-1, 0]], "bias": [1, -3]},
    {"name": "positive"},
    {"name": "last", "kernel": [[2, 1], [-1, 0.25]], "bias": [0, 0.5]},
]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(base, "FRONTENDS", {"toy": "toy_frontend", **base.FRONTENDS})
    path = tmp_path / "net.toy"
    path.write_text(json.dumps(STEPS))
    return path


def test_a_made_up_front_end_goes_through_extraction_and_is_computed_as_its_framework_does(toy: Path) -> None:
    made = extract_model(toy, BuildOptions(inputs=inputs(toy), input_format="fixed<5,3>", output=toy.parent / "runs"))
    lowered = lower(made.graph)
    assert [type(op) for op in lowered.ops] == [Input, Dense, Dense]
    codes = np.random.default_rng(1).integers(-16, 16, (50, 3))
    own, expected = made.source.inference(made.graph, lowered)(codes), run(lowered, codes)
    assert own.level == made.source.level == "numpy"
    assert own.codes.keys() == expected.codes.keys()
    for name, array in own.codes.items():
        np.testing.assert_array_equal(array, expected.codes[name])
    save_trained(made.source.trained, toy.parent / "kept")
    again = load_trained(toy.parent / "kept")
    assert again.frontend == "toy" and again.digest() == made.source.trained.digest()


@needs_compiler
def test_a_made_up_front_end_is_built_to_a_verdict(toy: Path) -> None:
    asked = ("--inputs", inputs(toy), "--input-format", "fixed<5,3>", "--adversarial", 64)
    built = flow("build", toy, *asked, "--output", toy.parent / "runs", "--json")
    assert built.code == 0, built
    verdict = built.report()["verdict"]
    assert verdict["compared"] == ["numpy", "reference", "csim"] and verdict["bit_exact"] is True
    (directory,) = run_directories(toy.parent / "runs")
    toy.unlink()
    assert flow("compare", directory, "--levels", "numpy", "csim").code == 0
    assert "levels 'qkeras' and 'csim'" in refused(flow("compare", directory, "--levels", "qkeras", "csim"))


def inputs(toy: Path) -> Path:
    path = toy.with_suffix(".npy")
    np.save(path, np.random.default_rng(2).normal(0, 1, (20, 3)).astype(np.float32))
    return path


def classes(of: type) -> set[type]:
    """Return a class of `flow.frontend.layers` and those that derive from it."""
    return {cls for cls in vars(kinds).values() if isinstance(cls, type) and issubclass(cls, of)}


def test_every_kind_of_layer_and_activation_has_a_handler() -> None:
    assert set(LAYERS) == classes(kinds.Settings) - {kinds.Settings, kinds.Pool}
    assert set(ACTIVATIONS) == classes(kinds.Activation) | {kinds.Softmax}


def test_a_reader_gives_settings_of_their_kinds() -> None:
    """What Keras spells in several ways is one thing behind the reader."""
    wide = [
        layer("Conv2D", "cv", strides=2, padding="same", dilation_rate=[1, 1], data_format="channels_last"),
        layer("QConv2D", "cv", strides=[2, 2], padding="same", groups=1),
    ]
    for entry in wide:
        (_, found) = base.read(model(port(4, 4, 1), entry)).layers
        settings = found.settings
        assert isinstance(settings, kinds.Conv) and settings.padding is kinds.Padding.SAME
        assert (settings.axes, settings.strides, settings.dilation, settings.groups) == (2, (2, 2), (1, 1), 1)
    pads = [base.read(model(port(4, 4, 1), layer("ZeroPadding2D", "p", padding=p))) for p in (1, [1, 1], [[1, 1]] * 2)]
    assert {pad.layers[1].settings for pad in pads} == {kinds.Pad(margins=((1, 1), (1, 1)))}
    quantized = base.read(model(port(3), layer("QDense", "fc", units=2, kernel_quantizer=BITS, activation="relu")))
    assert quantized["fc"].quantizers == {"kernel_quantizer": "quantized_bits"}
    assert isinstance(quantized["fc"].activation, kinds.Relu)


def test_what_keras_3_wrote_is_read_as_what_keras_2_wrote() -> None:
    old = functional(
        named("x", 3),
        reads(layer("LeakyReLU", "leaky", alpha=0.25), "x"),
        reads(layer("Add", "sum"), "x", "leaky"),
        outputs=["sum"],
    )
    new = json.loads(json.dumps(old.config))
    new["layers"][0]["config"] = {"name": "x", "batch_shape": [None, 3], "optional": False}
    new["layers"][1]["config"] = {"name": "leaky", "negative_slope": 0.25}
    for entry, sources, listed in ((new["layers"][1], ["x"], False), (new["layers"][2], ["x", "leaky"], True)):
        tensors: list[Any] = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}} for name in sources
        ]
        entry["inbound_nodes"] = [{"args": [tensors] if listed else tensors, "kwargs": {"mask": None}}]
    first, second = base.read(old), base.read(replace(old, config=new))
    assert first.outputs == second.outputs
    for one, other in zip(first.layers, second.layers, strict=True):
        assert (one.name, one.inputs, one.settings) == (other.name, other.inputs, other.settings)
        assert one.activation == other.activation
