"""Own nets on own data, from specs: trained, and exact in integers; one of each kind the whole way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.errors import ToolMissingError
from flow.frontend.trained import load_trained
from flow.ir.fixed import FixedFormat
from flow.ir.passes import lower
from flow.train import load_tensorflow
from flow.train.spec import ModelSpec, load_spec

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
from flow.train.freeze import keras_model
from flow.train.inference import run

pytest.importorskip("sklearn")
pytest.importorskip("pandas")
tf, keras, _ = load_tensorflow()

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

def series(count=600, seed=3):
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
    return layer("batch_norm", name, scale="{ min_exponent = -4, max_exponent = 2 }", offset=offset)


def relu(name: str, **keys: str) -> str:
    return layer("relu", name, format=UNSIGNED, **keys)


def head(name: str, units: int, **keys: str) -> str:
    return weights("dense", name, units=str(units), bias=SIGNED, **keys)


def spec_text(name: str, data: str, shape: str, layers: list[str], *, rest: str = "", epochs: int = 4) -> str:
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
        *(relu("relu4"), head("logits", 10, sparsity="0")),
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


def two_heads(epochs: int = 4) -> str:
    layers = [
        *(weights("dense", "hidden", units="24", sparsity="0.4"), norm("norm1"), relu("relu1")),
        *(head("kind", 3, sparsity="0"), head("alcohol", 1, sparsity="0", of='"relu1"')),
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
    wine.frame.rename(columns={"target": "kind"}).to_csv(directory / "wine.csv", index=False)
    (directory / "spec.toml").write_text(text)
    return directory


def test_two_heads_on_a_table_are_exact(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, two_heads(epochs=2)))
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


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_net_of_each_kind_is_exact_on_every_level(name: str, tmp_path: Path) -> None:
    directory = written(tmp_path, NETS[name]())
    trained = train(load_spec(directory), directory)
    score = trained.metrics.get("qkeras") or trained.metrics["heads"]["kind"]["qkeras"]
    assert score > 0.8, "it has learned something"
    for target in (Target(), Target(backend="rtl")):
        report = build(directory, target, BuildOptions(output=tmp_path / "runs", samples=300, adversarial=64))
        assert report.bit_exact is True, report
