"""A quantized float model becomes a QKeras model that gives the same codes, is trained on, and is exact again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow
from flow.cli import main
from flow.errors import SpecError, UnsupportedError
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Rounding
from flow.pipeline.live import saved
from flow.quantization.driver import QuantizedModel, quantize
from flow.quantization.settings import QuantSettings
from flow.train import graph_model as module
from flow.train import load_tensorflow
from flow.train.artefacts import configuration
from flow.train.freeze import quantized_weights
from flow.train.functions import approximate
from flow.train.graph_model import graph_model
from flow.train.lut_cost import Features
from flow.train.spec import OwnSpec, load_spec

keras: Any
_, keras, _ = load_tensorflow()
layers: Any = keras.layers


def dense() -> Any:
    """Eight neurons: a vector of a processor, in which TensorFlow's quotients are others than one by one."""
    x = port = keras.Input((3,), name="x")
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(port, layers.Dense(2, name="scores")(x), name="small")


def residual() -> Any:
    x = port = keras.Input((8, 8, 2), name="image")
    x = layers.ReLU(name="relu1")(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="conv1")(x)))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="conv2")(x))
    y = layers.ReLU(6.0, name="relu2")(layers.Add(name="add")([x, y]))
    y = layers.ReLU(name="relu3")(layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise")(y))
    y = layers.ReLU(name="relu4")(layers.Conv2D(6, 3, dilation_rate=2, padding="same", name="dilated")(y))
    both = [layers.AveragePooling2D(2, name="average")(y), layers.MaxPooling2D(2, name="largest")(y)]
    y = layers.GlobalAveragePooling2D(name="whole")(layers.Concatenate(name="both")(both))
    return keras.Model(port, layers.Dense(3, activation="softmax", name="scores")(y), name="residual")


def moved() -> Any:
    """Averages over nine pixels; what moves codes; functions."""
    x = port = keras.Input((6, 6, 1), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, strides=2, padding="same", name="conv1")(x))
    x = layers.UpSampling2D(2, name="up")(layers.LeakyReLU(0.25, name="leaky")(x))
    x = layers.ZeroPadding2D(((0, 1), (1, 0)), name="padded")(x)
    x = layers.Activation("tanh", name="tanh")(layers.Conv2D(2, 4, name="conv2")(x))
    x = layers.GlobalAveragePooling2D(name="whole")(layers.Cropping2D(((0, 1), (0, 1)), name="cropped")(x))
    return keras.Model(port, layers.Dense(2, name="scores")(x), name="moved")


def sequence() -> Any:
    x = port = keras.Input((12, 3), name="series")
    x = layers.ReLU(name="relu")(layers.Conv1D(4, 3, padding="causal", name="conv")(x))
    x = layers.DepthwiseConv1D(3, padding="same", strides=2, name="depthwise")(x)
    x = layers.MaxPooling1D(2, name="largest")(layers.PReLU(shared_axes=[1], name="prelu")(x))
    x = layers.Activation("sigmoid", name="sigmoid")(layers.BatchNormalization(name="norm")(x))
    x = layers.Flatten(name="flat")(layers.Permute((2, 1), name="turned")(x))
    hidden = layers.Dense(5, activation="relu", name="hidden")(x)
    return keras.Model(port, [layers.Dense(2, name="a")(hidden), layers.Dense(1, name="b")(hidden)], name="sequence")


def with_numbers(model: Any) -> Any:
    """Return a model with biases and statistics as a training leaves them."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif any(key in variable.name for key in ("mean", "beta", "bias")):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        elif "gamma" in variable.name or "alpha" in variable.name:
            variable.assign(rng.uniform(0.3, 1.2, variable.shape))
    return model


def quantized(build: Callable[[], Any], **settings: Any) -> QuantizedModel:
    keras.utils.set_random_seed(1)
    model = with_numbers(build())
    trained = TrainedModel(
        name=model.name, class_name="Functional", config=configuration(model), weights=quantized_weights(model)
    )
    x = np.random.default_rng(0).normal(0, 1, (32, *model.input_shape[1:])).astype(np.float32)
    return quantize(trained, x, QuantSettings(**settings), functions=approximate)


def test_a_quantized_graph_is_a_qkeras_model_with_the_same_codes() -> None:
    made = quantized(dense)
    twin = graph_model(made.extracted, made.record, {made.extracted.outputs[0]: "scores"})
    assert [type(layer).__name__ for layer in twin.layers] == [
        *("InputLayer", "QActivation", "QDense", "QActivation", "QDense", "QActivation", "Softmax"),
    ]
    assert twin.output_names == ["scores_softmax"]
    kernel = twin.get_layer("hidden").kernel_quantizer_internal
    assert kernel.bits == 8 and len(set(kernel.integer)) > 1  # a grid for each channel
    assert float(Features(twin, "io_parallel").luts()) > 0  # shown while it trains on


def test_a_model_that_gives_other_codes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = quantized(dense)
    right = module._integer_bits
    monkeypatch.setattr(module, "_integer_bits", lambda rows, bits: right(rows, bits) - 1)
    with pytest.raises(UnsupportedError, match=r"scores.* gives other values for .* inputs"):
        graph_model(made.extracted, made.record)


def test_a_tie_rule_that_qkeras_has_not_is_refused() -> None:
    made = quantized(dense, rounding=Rounding.RND)
    with pytest.raises(UnsupportedError, match=r"rounds by AP_RND, .* quantize with --rounding AP_RND_CONV"):
        graph_model(made.extracted, made.record)


def test_a_spec_names_a_file_whose_model_is_trained_on(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    train = "[train]\nepochs = 1\nbatch_size = 8\nlearning_rate = 0.001\nseed = 1\n"
    spec.write_text(f'name = "tuned"\ndataset = "digits"\n[net]\nfile = "net.h5"\n{train}')
    with pytest.raises(SpecError, match=r"there is no file .*net\.h5"):
        load_spec(spec)
    (tmp_path / "net.h5").write_bytes(b"a model")
    read = load_spec(spec)
    assert isinstance(read, OwnSpec) and read.net is not None and len(read.net.digest()) == 64


def test_a_report_of_a_model_that_was_not_quantized_has_no_qkeras_model() -> None:
    from flow.report.record import Report

    with pytest.raises(SpecError, match="was not quantized from a float model"):
        Report({"quantization": None, "model": "net", "run_dir": ""}).qkeras_model()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"weights": "po2"}, {"bits": 5, "per_channel": False}], ids=str)
@pytest.mark.parametrize("build", [dense, residual, moved, sequence])
def test_nets_of_all_kinds_are_qkeras_models(build: Callable[[], Any], settings: dict[str, Any]) -> None:
    made = quantized(build, **settings)
    graph_model(made.extracted, made.record)


@pytest.mark.slow
def test_fine_tuning_from_the_command_line_is_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = flow.load_dataset("digits")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(16, "relu"), layers.Dense(10, activation="softmax")], name="net"
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data.x_train, data.y_train, epochs=3, verbose=0)
    saved(model, tmp_path / "net.h5")
    np.save(tmp_path / "x.npy", data.x_train[:64])
    place = ["--output", str(tmp_path / "runs")]
    given = ["--calibration", str(tmp_path / "x.npy"), "--bits", "4", "--until", "extract", *place]
    assert main(["quantize", str(tmp_path / "net.h5"), *given, "--qkeras", str(tmp_path / "net.txt")]) == 2
    assert "does not end in .h5" in capsys.readouterr().err
    assert main(["quantize", str(tmp_path / "net.h5"), *given, "--qkeras", str(tmp_path / "quantized.h5")]) == 0
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "spec.toml").write_text(
        'name = "tuned"\ndataset = "digits"\n[net]\nfile = "../quantized.h5"\n'
        "[train]\nepochs = 3\nbatch_size = 32\nlearning_rate = 0.0005\nseed = 1\n"
    )
    assert main(["train", str(tmp_path / "tuned" / "spec.toml")]) == 0
    capsys.readouterr()
    assert main(["build", str(tmp_path / "tuned" / "spec.toml"), "--json", "--samples", "100", *place]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["bit_exact"] is True
