"""Own nets on own data, from specs: trained, and exact in integers; one of each kind the whole way."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from kills import KILLED, NEVER

import flow
from flow.data.own import SplitSpec
from flow.errors import DataError, InputError, SpecError, ToolMissingError, UnsupportedError
from flow.frontend.trained import load_trained
from flow.ir.fixed import FixedFormat
from flow.ir.passes import lower
from flow.train import load_tensorflow, quiet_warnings
from flow.train.spec import ModelSpec, OwnSpec, load_spec

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.data.inputs import Samples, to_port
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.pipeline import BuildOptions, build
from flow.target import Target
from flow.train.fit import train
from flow.train.freeze import keras_model, quantized_weights
from flow.train.inference import run
from flow.train.quantizers import quantized_po2_zero

pytest.importorskip("sklearn")
pytest.importorskip("pandas")
_, keras, QKERAS = load_tensorflow()
BIAS = "quantized_bits(8,2,1,alpha=1.0)"

SIGNED, UNSIGNED = (
    "{ signed = true, int_bits = 1, frac_bits = 4 }",
    "{ signed = false, int_bits = 1, frac_bits = 3 }",
)
KERNEL = "kernel = { min_exponent = -4, max_exponent = 0 }"
TRAIN = """
[train]
epochs = {epochs}
batch_size = 32
learning_rate = 0.01
seed = 1
frozen_epochs = {frozen}
"""
CODE = '''
import numpy as np

def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8, 1) / 16, y

def series(count=1500, seed=3):
    """Sines, saws and squares with noise: (samples, 32, 1)."""
    rng = np.random.default_rng(seed)
    kinds, phase, time = rng.integers(0, 3, count), rng.uniform(0, 1, (count, 1)), np.arange(32) / 16
    turn = (time + phase) % 1
    waves = np.stack([np.sin(2 * np.pi * turn), 2 * turn - 1, np.sign(turn - 0.5)])
    return (waves[kinds, np.arange(count)] + rng.normal(0, 0.2, (count, 32)))[..., None], kinds
'''


def layer(kind: str, name: str, **keys: str) -> str:
    given = "".join(f"{'from' if key == 'of' else key} = {value}\n" for key, value in keys.items())
    return f'[[layers]]\nkind = "{kind}"\nname = "{name}"\n{given}'


def weights(kind: str, name: str, *, sparsity: str = "0.3", **keys: str) -> str:
    return layer(kind, name, **keys).rstrip("\n") + f"\n{KERNEL}\nsparsity = {sparsity}\n"


def norm(name: str) -> str:
    offset = "{ signed = true, int_bits = 2, frac_bits = 5 }"
    return layer("batch_norm", name, scale="{ min_exponent = -4, max_exponent = 5 }", offset=offset)


def relu(name: str, **keys: str) -> str:
    return layer("relu", name, format=UNSIGNED, **keys)


def head(name: str, units: int, **keys: str) -> str:
    return weights("dense", name, units=str(units), bias=SIGNED, **keys)


def spec_text(name: str, data: str, shape: str, layers: list[str], *, rest: str = "", epochs: int = 12) -> str:
    prune = "[prune]\nbegin_epoch = 0\nend_epoch = 2\n"
    text = f'name = "{name}"\ndescription = "for a test"\n[data]\n{data}\n'
    text += f'[input]\nname = "port"\nshape = {shape}\nformat = {{ bits = 6 }}\n'
    return text + "\n".join(layers) + rest + prune + TRAIN.format(epochs=epochs, frozen=epochs // 4)


def residual() -> str:
    same = {"filters": "6", "kernel_size": "[3, 3]", "padding": '"same"'}
    layers = [
        *(weights("conv2d", "conv1", **same), norm("norm1"), relu("relu1")),
        *(weights("conv2d", "conv2", **same), norm("norm2"), relu("relu2")),
        *(weights("conv2d", "conv3", **same), norm("norm3"), layer("quantize", "cast3", format=SIGNED)),
        *(layer("add", "join", of='["relu1", "cast3"]'), relu("relu3"), layer("average_pool2d", "pool", size="[2, 2]")),
        *(relu("relu4"), layer("dropout", "dropout", rate="0.1"), layer("flatten", "flatten"), head("logits", 10)),
    ]
    turned = '[[augment]]\nlayer = "RandomTranslation"\nheight_factor = 0.1\nwidth_factor = 0.1\n'
    return spec_text("residual", 'function = "mine.py:digits"\nstratified = true', "[8, 8, 1]", layers, rest=turned)


def depthwise() -> str:
    window = {"kernel_size": "[3, 3]", "padding": '"same"'}
    layers = [
        *(weights("conv2d", "conv", filters="8", **window), norm("norm1"), relu("relu1")),
        *(weights("depthwise_conv2d", "depth", sparsity="0", **window), norm("norm2"), relu("relu2")),
        *(weights("conv2d", "point", filters="12", kernel_size="[1, 1]"), norm("norm3"), relu("relu3")),
        *(layer("upsampling2d", "up", size="[2, 2]", of='"relu3"'), layer("max_pool2d", "down", size="[2, 2]")),
        *(layer("concatenate", "both", of='["down", "relu1"]'), layer("global_average_pool", "mean")),
        layer("relu", "relu4", format="{ signed = false, int_bits = 1, frac_bits = 7 }"),
        *(weights("dense", "logits", units="10", sparsity="0"), norm("norm5")),
    ]
    return spec_text("depthwise", 'function = "mine.py:digits"\nvalidation = 0.1', "[8, 8, 1]", layers)


def series() -> str:
    layers = [
        weights("conv1d", "conv1", filters="8", kernel_size="[5]", strides="[2]", padding='"same"'),
        *(norm("norm1"), relu("relu1"), layer("max_pool1d", "pool", size="[2]")),
        *(weights("conv1d", "conv2", filters="8", kernel_size="[3]"), norm("norm2"), relu("relu2")),
        *(layer("global_max_pool", "largest"), head("logits", 3, sparsity="0")),
    ]
    return spec_text("series", 'function = "mine.py:series"', "[32, 1]", layers)


def two_heads(epochs: int = 12) -> str:
    layers = [
        *(weights("dense", "hidden", units="24", sparsity="0.4"), norm("norm1"), relu("relu1")),
        *(layer("dropout", "dropout", rate="0.1"), head("kind", 3, sparsity="0")),
        head("alcohol", 1, sparsity="0", of='"dropout"'),
    ]
    heads = (
        '[[heads]]\nlayer = "kind"\nclass_weights = "balanced"\n'
        '[[heads]]\nlayer = "alcohol"\ntask = "regression"\nloss = "huber"\nweight = 0.5\n'
    )
    data = 'file = "wine.csv"\nlabels = ["kind", "alcohol"]\nscaling = "standard"\ntest = 0.3\nstratified = true'
    return spec_text("two_heads", data, "[12]", layers, rest=heads, epochs=epochs)


NETS = {"residual": residual, "depthwise": depthwise, "series": series, "two_heads": two_heads}


def written(directory: Path, text: str) -> Path:
    """Write a spec, and beside it the samples that the specs here name."""
    from sklearn.datasets import load_wine

    (directory / "mine.py").write_text(CODE)
    wine = load_wine(as_frame=True)
    table = wine.frame.rename(columns={"target": "kind"})
    table["alcohol"] -= 13  # within what the weights of its head reach
    table.to_csv(directory / "wine.csv", index=False)
    (directory / "spec.toml").write_text(text)
    return directory


def written_spec(directory: Path, text: str) -> Path:
    (directory / "spec.toml").write_text(text)
    return directory


def within(luts: int, text: str) -> str:
    """Return a spec whose net is pruned to a budget, in place of its sparsities."""
    return re.sub("sparsity = .*", "", text).replace("[prune]", f"[prune]\nluts = {luts}")


def test_two_heads_on_a_table_are_exact(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, within(700, two_heads(epochs=2))))
    assert isinstance(spec, ModelSpec)
    trained = train(spec, tmp_path)
    stored = load_trained(tmp_path)
    assert stored.digest() == trained.digest() and stored.metrics == trained.metrics
    heads = stored.metrics["heads"]
    assert heads["kind"]["measure"] == "accuracy"
    assert heads["alcohol"].keys() == {"measure", "float", "qkeras"}
    assert isinstance(stored.verification_labels, dict) and stored.verification_labels["alcohol"].shape == (54, 1)
    preparation = stored.provenance["preparation"]
    assert preparation["classes"]["kind"] == ["0", "1", "2"] and len(preparation["offset"]) == 12
    extracted = extract(stored)
    lowered, values = lower(extracted), stored.verification_inputs
    assert extracted.inputs[0].format == FixedFormat(True, 2, 3), "fitted: 6 bits that hold all of the training split"
    codes = to_port(Samples(values=values, labels=None, source=""), lowered).codes
    by_keras = run(keras_model(stored), stored, extracted, lowered, codes)
    by_reference = reference.run(lowered, codes)
    assert len(by_keras.codes) == len(lowered.ops)
    assert all(np.array_equal(found, by_reference.codes[name]) for name, found in by_keras.codes.items())
    history = (tmp_path / "history.csv").read_text().splitlines()
    assert history[0].startswith("model,epoch,loss,kind_loss,alcohol_loss,kind_accuracy") and len(history) == 5
    rows = [dict(zip(history[0].split(","), line.split(","), strict=True)) for line in history[1:]]
    twin, net = rows[1], rows[3]
    assert (twin["model"], net["model"]) == ("float_twin", "quantized")
    assert float(net["luts"]) == pytest.approx(700, rel=0.1)
    assert float(twin["zeros"]) == pytest.approx(float(net["zeros"]), abs=0.02) and twin["luts"] == ""


def test_a_live_model_is_trained_in_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 1, (120, 4)), rng.integers(0, 3, 120)
    keras.utils.set_random_seed(1)
    first = keras.Input((4,))
    with quiet_warnings():
        hidden = QKERAS.QActivation("quantized_relu(4,0)", name="port")(first)
        out = QKERAS.QDense(4, kernel_quantizer=quantized_po2_zero(4, 1), bias_quantizer=BIAS, name="out")(hidden)
    model = keras.Model(first, out, name="mine")
    begin = model.get_weights()
    asked = {"x": x, "y": y, "split": SplitSpec(stratified=True, validation=0.2), "epochs": 2}
    trained = flow.train_model(model, tmp_path, **asked)
    assert trained.name == "mine" and 0 <= trained.metrics["qkeras"] <= 1
    assert np.array_equal(quantized_weights(model)["out"]["kernel"], trained.weights["out"]["kernel"])
    names = ["history.csv", "trained.json", "trained.npz", "training.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "val_accuracy" in (tmp_path / "history.csv").read_text()
    page = (tmp_path / "training.html").read_text()
    assert "loss over epoch" in page and "luts over epoch: quantized model from " in page
    model.set_weights(begin)
    again = flow.train_model(model, tmp_path, **asked)
    assert again.digest() == trained.digest() == flow.load_trained(str(tmp_path)).digest()
    runs = flow.BuildOptions(output=tmp_path / "runs", until="extract")
    assert flow.build(tmp_path, options=runs).document["model"] == "mine"  # as a directory without a spec
    give = r"give numbers of classes, one for each sample: of one-hot labels y\.argmax\(axis=-1\)"
    wrong = (
        ({"x": x}, "'y' is not given; a Keras model is trained on arrays x and y"),
        ({"x": x[:, :3], "y": y}, r"inputs of 'arrays' have shape \(3,\), not \(4,\)"),
        ({"x": x, "y": y + 3}, r"4 units .*, but 'arrays' has 6 classes; .* targets as floats: y\.astype\('float'\)"),
        (
            {"x": x, "y": y.astype(float)},
            r"output 'out' has shape \(4,\), but its targets one number; .* as ints: y\.astype\('int'\)",
        ),
        (
            {"x": x, "y": np.eye(4, dtype=int)[y]},
            rf"labels of 'out' have shape \(.*, 4\) in the training split; {give}",
        ),
        (
            {"x": x, "y": y, "x_test": x, "y_test": np.eye(4, dtype=int)[y]},
            rf"shape \(.*, 4\) in the test split; {give}",
        ),
        ({"x": x, "y": y - 1}, "labels are -1 to 1; number the classes from 0"),
    )
    for given, message in wrong:
        with pytest.raises(InputError, match=message):
            flow.train_model(model, tmp_path / "wrong", **given)
    if find_spec("tensorboard") is None:
        with pytest.raises(ToolMissingError, match="'tensorboard' is not installed; run: pip install tensorboard"):
            flow.train_model(model, tmp_path / "wrong", x=x, y=y, tensorboard=tmp_path / "logs")
    with pytest.raises(SpecError, match="'x' goes with a Keras model; a spec names its data"):
        flow.train_model("digits_mlp", tmp_path, x=x)
    with pytest.raises(SpecError, match="expected a functional or sequential model of tf_keras"):
        flow.train_model(keras.layers.Dense(2), tmp_path, x=x, y=y)  # type: ignore[arg-type]


NET = """
from flow.train import load_tensorflow
from flow.train.quantizers import quantized_po2_zero

keras, qkeras = load_tensorflow().keras, load_tensorflow().qkeras

def small(units, activation="quantized_relu(4,0)"):
    first = keras.Input((4,))
    port = qkeras.QActivation(activation, name="port")(first)
    bias = "quantized_bits(8,2,1,alpha=1.0)"
    out = qkeras.QDense(units, kernel_quantizer=quantized_po2_zero(4, 1), bias_quantizer=bias, name="out")
    return keras.Model(first, out(port))

def rough():
    return small(3, "quantized_bits(4,0,1,alpha='auto')")
"""


def test_a_function_makes_the_net(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NET)
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "x.npz", x=rng.uniform(0, 1, (120, 4)), y=rng.integers(0, 3, 120))
    text = 'name = "net"\ndescription = "for a test"\n[data]\nfile = "x.npz"\n[net]\nfunction = "nets.py:small"\n'
    text += "arguments = { units = 3 }\n" + TRAIN.format(epochs=1, frozen=0)
    spec = load_spec(written_spec(tmp_path, text))
    assert isinstance(spec, OwnSpec)
    trained = train(spec, tmp_path / "made")
    assert trained.weights["out"]["kernel"].shape == (4, 3) and "qkeras" in trained.metrics
    assert extract(load_trained(tmp_path / "made")).output.shape == (3,)
    refused = (
        (UnsupportedError, ("small", "rough"), ("{ units = 3 }", "{}"), "net: .*alpha"),
        (DataError, ("units = 3", "units = 2"), ("", ""), r"2 units in the last layer, but 'x\.npz' has 3 classes"),
        (
            SpecError,
            ("nets.py:small", "nets.py:load_tensorflow"),
            ("{ units = 3 }", "{}"),
            "gives TensorFlowModules, no",
        ),
    )
    for error, (was, now), (other, becomes), message in refused:
        changed = text.replace(was, now).replace(other or was, becomes or now)
        with pytest.raises(error, match=message):
            train(load_spec(written_spec(tmp_path, changed)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_net_of_each_kind_is_exact_on_every_level(name: str, tmp_path: Path) -> None:
    directory = written(tmp_path, NETS[name]())
    trained = train(load_spec(directory), directory)
    score = trained.metrics.get("qkeras") or trained.metrics["heads"]["kind"]["qkeras"]
    assert score > 0.6, "it has learned something"
    for target in (Target(), Target(backend="rtl")):
        report = build(directory, target, BuildOptions(output=tmp_path / "runs", samples=300, adversarial=64))
        assert report.bit_exact is True, report


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Killed (SIGKILL) and interrupted (SIGINT) by turns, in the float twin and in the quantized model."""
    noise = '[[augment]]\nlayer = "GaussianNoise"\nstddev = 0.1\n[prune]'
    text = within(700, two_heads(epochs=4)).replace("[prune]", noise)
    text = text.replace("begin_epoch = 0\nend_epoch = 2", "begin_epoch = 1\nend_epoch = 4")
    spec = written(tmp_path, text) / "spec.toml"
    whole = train(load_spec(spec), tmp_path / "whole")
    kills = [(signal.SIGKILL, 2), (signal.SIGINT, 3), (signal.SIGKILL, 4), (signal.SIGINT, 2), (signal.SIGKILL, NEVER)]
    for sign, moment in kills:  # of the files that get their names
        command = [sys.executable, "-c", KILLED, str(int(sign)), str(moment), "train", str(spec)]
        given = [*command, "--output", str(tmp_path / "parts")]
        done = subprocess.run(given, capture_output=True, text=True, check=False)
        expected = 0 if moment == NEVER else 130 if sign == signal.SIGINT else -signal.SIGKILL
        assert done.returncode == expected, done.stderr[-2000:]
    found = load_trained(tmp_path / "parts")
    assert found.digest() == whole.digest() and found.metrics == whole.metrics
    assert (tmp_path / "parts" / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
