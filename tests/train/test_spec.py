"""Model specs: what is accepted, and what every wrong key is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY

from flow.errors import SpecError
from flow.ir.fixed import FixedFormat
from flow.train.spec import (
    BatchNormSpec,
    Conv2DSpec,
    DenseSpec,
    FloatSpec,
    ModelSpec,
    Po2Spec,
    find_model_dir,
    list_models,
    load_spec,
    model_search_path,
)

MODELS = ("digits_mlp", "digits_tables", "fashion_cnn", "jets_mlp", "mnist_mlp", "mnist_small", "mnist_tiny")
FLOAT_MODELS = ("fashion_mobile", "fashion_resnet8", "mnist_autoencoder")

SMALL = """
name = "small"
description = "two layers"
dataset = "digits"

[input]
name = "input_quant"
shape = [8, 8, 1]
format = { signed = false, int_bits = 0, frac_bits = 4 }

[[layers]]
kind = "conv2d"
name = "conv1"
filters = 2
kernel_size = [3, 3]
kernel = { min_exponent = -3, max_exponent = 0 }
sparsity = 0.5

[[layers]]
kind = "batch_norm"
name = "bn1"
scale = { signed = true, int_bits = 2, frac_bits = 5 }
offset = { signed = true, int_bits = 2, frac_bits = 5 }

[[layers]]
kind = "flatten"
name = "flatten"

[[layers]]
kind = "dense"
name = "logits"
units = 10
kernel = { min_exponent = -3, max_exponent = 0 }
bias = { signed = true, int_bits = 1, frac_bits = 4 }
sparsity = 0

[prune]
begin_epoch = 0
end_epoch = 1

[train]
epochs = 2
batch_size = 32
learning_rate = 0.01
frozen_epochs = 1
seed = 7
"""

FLOAT = """
name = "little"
description = "a float model"
dataset = "mnist"

[input]
shape = [784]

[float]
topology = "autoencoder"
task = "reconstruction"

[train]
epochs = 2
batch_size = 32
learning_rate = 0.01
seed = 7
"""


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return load_spec(path)


def test_reads_every_part(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SMALL)
    spec = load_spec(tmp_path)
    assert spec.input.shape == (8, 8, 1) and spec.input.format == FixedFormat(False, 0, 4)
    conv, norm, _, dense = spec.layers
    assert isinstance(conv, Conv2DSpec) and (conv.strides, conv.padding, conv.bias) == ((1, 1), "valid", None)
    assert isinstance(norm, BatchNormSpec) and norm.scale == FixedFormat(True, 2, 5)
    assert isinstance(dense, DenseSpec) and dense.kernel == Po2Spec(min_exponent=-3, max_exponent=0)
    assert dense.bias == FixedFormat(True, 1, 4) and dense.sparsity == 0.0
    assert (spec.prune.end_epoch, spec.train.seed) == (1, 7)


@pytest.mark.parametrize("name", (*MODELS, *FLOAT_MODELS))
def test_specs_of_this_repository(name: str) -> None:
    spec = load_spec(REPOSITORY / "models" / name / "spec.toml")
    assert spec.name == name
    assert isinstance(spec, FloatSpec if name in FLOAT_MODELS else ModelSpec)


def test_reads_every_part_of_a_float_model(tmp_path: Path) -> None:
    spec = load(tmp_path, FLOAT)
    assert isinstance(spec, FloatSpec)
    assert (spec.name, spec.dataset, spec.input_shape) == ("little", "mnist", (784,))
    assert (spec.topology, spec.task) == ("autoencoder", "reconstruction")
    assert (spec.train.epochs, spec.train.batch_size, spec.train.seed) == (2, 32, 7)
    image = FLOAT.replace("[784]", "[28, 28, 1]").replace("autoencoder", "resnet8")
    classifier = load(tmp_path, image.replace('task = "reconstruction"', ""))
    assert isinstance(classifier, FloatSpec) and classifier.task == "classification"


WRONG_FLOAT = (
    ('"autoencoder"', '"vgg"', r"key 'float.topology' is 'vgg'; expected one of resnet8, mobile, autoencoder"),
    ('"reconstruction"', '"detection"', r"key 'float.task' is 'detection'; expected one of classification, regression"),
    ('"reconstruction"', '"classification"', r"float.task 'classification' does not go with topology 'autoencoder'"),
    ("[784]", "[28, 28, 1]", r"input.shape \(28, 28, 1\) does not go with .*; expected \(features,\)"),
    ("[784]", "[28, 28]", r"key 'input.shape' is \[28, 28\]; expected 1 or 3 positive integers"),
    ("seed = 7", "frozen_epochs = 1\nseed = 7", r"key 'train.frozen_epochs' is unknown; accepted are epochs"),
    ("[train]", "[prune]\n[train]", r"key 'prune' is unknown; accepted are"),
    ("[train]", "[training]", r"key 'train' is missing; expected a table"),
)


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG_FLOAT)
def test_wrong_value_of_a_float_model_is_named(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in FLOAT
    with pytest.raises(SpecError, match=message):
        load(tmp_path, FLOAT.replace(right, wrong, 1))


WRONG = (
    ('name = "small"', 'name = "Small"', r"key 'name' is 'Small'; expected lower-case letters"),
    ('name = "small"', 'nmae = "small"', r"key 'name' is missing; expected a string"),
    ("seed = 7", "seed = 7\nspeed = 8", r"key 'train.speed' is unknown; accepted are epochs, batch_size"),
    ("units = 10", "units = 1.5", r"key 'layers\[3\].units' is 1.5; expected an integer from 1"),
    ("units = 10", "units = true", r"key 'layers\[3\].units' is True; expected an integer"),
    ("units = 10", "units = 0", r"key 'layers\[3\].units' is 0; expected an integer from 1"),
    ('dataset = "digits"', 'dataset = "cifar"', r"key 'dataset' is 'cifar'; expected one of digits, fashion_mnist"),
    ('kind = "flatten"', 'kind = "softmax"', r"key 'layers\[2\].kind' is 'softmax'; expected one of dense, conv2d"),
    ("sparsity = 0.5", "sparsity = 1.0", r"key 'layers\[0\].sparsity' is 1.0; expected a number from 0.0 to below 1.0"),
    ("sparsity = 0.5", 'sparsity = "half"', r"key 'layers\[0\].sparsity' is 'half'; expected a number"),
    ("sparsity = 0.5", "sparsity = nan", r"key 'layers\[0\].sparsity' is nan; expected a number"),
    ("kernel_size = [3, 3]", "kernel_size = 3", r"key 'layers\[0\].kernel_size' is 3; expected 2 positive integers"),
    ("kernel_size = [3, 3]", "kernel_size = [9, 3]", r"layer 'conv1' needs at least \(9, 3\); its input has shape"),
    ("shape = [8, 8, 1]", "shape = [8, 8, 1, 1]", r"key 'input.shape' is .*; expected 1 or 2 or 3 positive integers"),
    ("shape = [8, 8, 1]", "shape = [64]", r"layer 'conv1' needs an image"),
    ('kind = "flatten"', 'kind = "relu"\nformat = { signed = true, int_bits = 1, frac_bits = 3 }', r"expected false"),
    ("min_exponent = -3, max_exponent = 0 }\nbias", "min_exponent = 1, max_exponent = 0 }\nbias", r"1 is above max"),
    ("int_bits = 1, frac_bits = 4", "int_bits = 1, frac_bits = -1", r"has 1 bits; expected 1 to 24 and a sign"),
    ('name = "bn1"', 'name = "conv1"', r"layer name 'conv1' is used twice"),
    ("end_epoch = 1", "end_epoch = 3", r"prune.end_epoch 3 is after train.epochs 2"),
    ("begin_epoch = 0", "begin_epoch = 1", r"begin_epoch 1 is not before end_epoch 1"),
    (
        "end_epoch = 1",
        "end_epoch = 1\nluts = 500",
        r"luts is a budget for all layers, and layer 'conv1' has a sparsity",
    ),
    ("end_epoch = 1", "end_epoch = 1\nluts = 0", r"key 'prune.luts' is 0; expected an integer from 1"),
    ("frozen_epochs = 1", "frozen_epochs = 2", r"train.frozen_epochs 2 must be less"),
    ("[prune]\nbegin_epoch = 0\nend_epoch = 1", "", r"layer 'conv1' has a sparsity, but no table says when to prune"),
    (
        'name = "flatten"',
        'name = "flatten"\nfrom = "conv"',
        r"layer 'flatten' reads 'conv', which is no layer before it",
    ),
    ('name = "flatten"', 'name = "flatten"\nfrom = "conv1"', r"layer 'bn1' is read by no layer and is no head"),
    ('name = "flatten"', 'name = "flatten"\nfrom = ["conv1", "bn1"]', r"layer 'flatten' reads 2 layers, but takes one"),
    (
        'name = "flatten"',
        'name = "flatten"\nfrom = []',
        r"key 'layers\[2\].from' is \[\]; expected a string, or strings",
    ),
    ('kind = "flatten"', 'kind = "add"', r"key 'layers\[2\].from' names no two layers"),
    ('kind = "flatten"', 'kind = "add"\nfrom = ["input_quant", "bn1"]', r"layer 'flatten' needs inputs of one shape"),
    ('kind = "flatten"', 'kind = "max_pool1d"\nsize = [2]', r"layer 'flatten' needs a series \(steps, channels\)"),
    ('kind = "flatten"', 'kind = "reshape"\nshape = [7]', r"layer 'flatten' needs 7 elements; its input has shape"),
    ("[prune]", '[[heads]]\nlayer = "logit"\n[prune]', r"head 'logit' is no layer; there are input_quant, conv1"),
    (
        "[prune]",
        '[[heads]]\nlayer = "logits"\nloss = "huber"\n[prune]',
        r"'heads\[0\].loss' does not go with task 'class",
    ),
    ("[prune]", '[[heads]]\nlayer = "flatten"\n[prune]', r"head 'flatten' must be dense"),
    ("[prune]", '[[augment]]\nlayer = "Resizing"\n[prune]', r"key 'augment\[0\].layer' is 'Resizing'; expected one of"),
    ('dataset = "digits"', "[data]\nseed = 1", r"data names not one source; expected one of file, folder and function"),
    ('dataset = "digits"', '[data]\nfile = "x.csv"\ntest = 1.0', r"key 'data.test' is 1.0; expected a number from 0"),
    ('dataset = "digits"', '[data]\nfolder = "x"', r"key 'data.size' is missing"),
    ('dataset = "digits"', '[data]\nfunction = "load"', r"function 'load' names none; expected 'file.py:function'"),
    (
        "format = { signed = false, int_bits = 0, frac_bits = 4 }",
        "format = { bits = 17 }",
        r"expected an integer from 1",
    ),
    ("[prune]", "[[prune]]", r"key 'prune' is \[.*\]; expected a table"),
    ("[train]", "train = [", r"not a readable TOML file"),
)


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG)
def test_wrong_value_is_named(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in SMALL
    with pytest.raises(SpecError, match=message) as caught:
        load(tmp_path, SMALL.replace(right, wrong, 1))
    assert str(caught.value).startswith(str(tmp_path / "spec.toml"))


def test_last_layer_must_be_dense(tmp_path: Path) -> None:
    cut = SMALL[: SMALL.index('[[layers]]\nkind = "dense"')] + SMALL[SMALL.index("[prune]") :]
    with pytest.raises(SpecError, match="the last layer must be dense"):
        load(tmp_path, cut)


def test_layers_must_be_tables(tmp_path: Path) -> None:
    start, end = SMALL.index("[[layers]]"), SMALL.index("[prune]")
    with pytest.raises(SpecError, match=r"key 'layers' is \[\]; expected tables"):
        load(tmp_path, "layers = []\n" + SMALL[:start] + SMALL[end:])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load_spec(tmp_path / "absent.toml")


def test_directory_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").mkdir()
    with pytest.raises(SpecError, match="not a readable TOML file"):
        load_spec(tmp_path / "spec.toml")


def test_models_are_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("named", "work/models"):
        (tmp_path / place / "small").mkdir(parents=True)
        (tmp_path / place / "small" / "spec.toml").write_text(SMALL)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("FLOW_MODELS_DIR", raising=False)
    assert find_model_dir("small") == Path("models/small")
    monkeypatch.setenv("FLOW_MODELS_DIR", str(tmp_path / "named"))
    assert find_model_dir("small") == tmp_path / "named" / "small"
    assert load_spec("small").name == "small"
    assert model_search_path()[0] == tmp_path / "named"
    assert {"small", *MODELS, *FLOAT_MODELS} <= set(list_models())


@pytest.mark.parametrize("name", ("absent", "../digits_mlp", ""))
def test_unknown_model_lists_the_known(name: str) -> None:
    with pytest.raises(SpecError, match=r"no model '.*' in .*; there are: .*digits_mlp"):
        find_model_dir(name)
