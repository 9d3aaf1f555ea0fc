"""Reading users' Keras models: every form gives the same model, and nothing in a file is ever run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import keras_configs as configs
import numpy as np
import pytest
from fixtures_cli import flow, needs_compiler, refused, run_directories
from fixtures_keras import (
    array,
    bits,
    conv_parts,
    dense,
    functional,
    keras,
    layers,
    mlp_parts,
    po2,
    qkeras,
    save,
    save_all,
    scatter,
    sequential,
    wired,
)

from flow.errors import ModelFileError, UnsupportedError
from flow.frontend.extraction import extract
from flow.frontend.keras.topology import topology
from flow.ir.fixed import FixedFormat
from flow.ir.graph import to_json
from flow.quantization.driver import float_outputs
from flow.quantization.floats import float_graph
from flow.train import quiet_warnings
from flow.train.configuration import checked
from flow.train.freeze import quantized_weights
from flow.train.functions import approximate
from flow.train.reader import read_keras

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
SHAPE = (8, 8, 1)
FORMS = ("h5", "keras", "saved model", "json", "json, newer weights")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[Path, Path | None]]]:
    """Return kind -> form -> files, of the same layers as Sequential and Functional model."""
    found = {}
    for kind, make in (("sequential", sequential), ("functional", functional)):
        found[kind] = save_all(make(SHAPE, *conv_parts()), tmp_path_factory.mktemp(kind))
    return found


@pytest.mark.parametrize("kind", ["sequential", "functional"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_model(saved: Any, kind: str, form: str) -> None:
    wanted = read_keras(*saved[kind]["h5"])
    found = read_keras(*saved[kind][form])
    assert found.trained.class_name == ("Sequential" if kind == "sequential" else "Functional")
    assert found.trained.weights.keys() == {"conv", "norm", "hidden", "logits"}
    for name, group in wanted.trained.weights.items():
        for key, values in group.items():
            np.testing.assert_array_equal(found.trained.weights[name][key], values, f"{name}/{key}")
    first, second = (to_json(extract(each.trained)) for each in (wanted, found))
    for graph in (first, second):
        graph["ops"][0] |= {"name": "", "layers": []}  # the input layer's number depends on what was built before
        graph["ops"][1]["inputs"] = []
    assert first["ops"] == second["ops"]
    inputs = np.random.default_rng(3).normal(0, 1, (20, *SHAPE)).astype(np.float32)
    with quiet_warnings():
        np.testing.assert_array_equal(found.keras.predict(inputs, verbose=0), wanted.keras.predict(inputs, verbose=0))


def test_sequential_and_functional_hold_the_same_weights(saved: Any) -> None:
    first, second = (read_keras(*saved[kind]["h5"]).trained.weights for kind in ("sequential", "functional"))
    for name, group in first.items():
        for key, values in group.items():
            np.testing.assert_array_equal(second[name][key], values)


@pytest.mark.parametrize("name", ["older.weights.h5", "newer.h5", "no_suffix", "a b;c.weights.h5"])
def test_weights_are_told_by_their_content_not_by_their_name(saved: Any, tmp_path: Path, name: str) -> None:
    form = "json" if name.startswith("older") else "json, newer weights"
    arch, weights = saved["sequential"][form]
    renamed = tmp_path / name
    renamed.write_bytes(weights.read_bytes())
    found, wanted = read_keras(arch, renamed).trained, read_keras(arch, weights).trained
    assert found.digest() == wanted.digest()


def test_a_sequential_model_built_by_its_first_call_knows_its_input_shape(tmp_path: Path) -> None:
    with quiet_warnings():
        model = keras.Sequential([dense(3, "only")])
        model.build((None, 4))
        scatter(model, 1)
        model.predict(np.zeros((1, 4)), verbose=0)
    for name in ("model.h5", "model.keras", "saved"):
        trained = read_keras(save(model, tmp_path / name)).trained
        assert trained.input_shape() == (4,)
        assert extract(trained, FixedFormat(False, 0, 8)).inputs[0].shape == (4,)


# each form through a build


@needs_compiler
def test_a_build_of_every_form_is_bit_exact(saved: Any, tmp_path: Path) -> None:
    """One compilation: all five forms hold the same graph, so they share one run directory."""
    inputs = array(tmp_path / "x.npy", np.random.default_rng(5).uniform(-1.2, 1.2, (60, *SHAPE)))
    labels = array(tmp_path / "y.npy", np.arange(60) % 4)
    for form in FORMS:
        model, weights = saved["sequential"][form]
        more = ("--weights", weights) if weights else ()
        given = ("--inputs", inputs, "--labels", labels, "--adversarial", 64, "--output", tmp_path / "runs")
        outcome = flow("build", model, *more, *given, "--json")
        assert outcome.code == 0, outcome
        verdict = outcome.report()["verdict"]
        assert verdict["bit_exact"] is True
        assert verdict["compared"] == ["qkeras", "reference", "csim"]
        assert (verdict["samples"], verdict["adversarial_samples"], verdict["mismatches"]) == (60, 64, 0)
        assert verdict["arithmetic"]["qkeras"] == "float64", "the batch normalization is a stock one"
        assert [layer["mismatches"] for layer in outcome.report()["layers"]] == [0] * len(outcome.report()["layers"])
        assert any("softmax" in note for note in outcome.report()["notes"])
    assert len(run_directories(tmp_path / "runs")) == 1, "the same graph of the same name"


@needs_compiler
def test_float32_is_used_where_it_is_exact_and_pruned_weights_are_counted(tmp_path: Path) -> None:
    model = functional((8,), *mlp_parts())
    kernel, offset = model.get_layer("first").get_weights()
    kernel[:, :3] = 0
    model.get_layer("first").set_weights([kernel, offset])
    inputs = array(tmp_path / "x.npy", np.random.default_rng(5).uniform(-1.2, 1.2, (50, 8)).astype(np.float32))
    options = ("--inputs", inputs, "--adversarial", 32, "--output", tmp_path / "runs")
    outcome = flow("build", save(model, tmp_path / "mlp.keras"), *options, "--json")
    report = outcome.report()
    assert report["verdict"]["bit_exact"] is True
    assert report["verdict"]["arithmetic"]["qkeras"] == "float32"
    notes = [note for note in report["notes"] if "24 of 48 weights were pruned" in note]
    assert len(notes) == 1, report["notes"]
    assert "'first'" in notes[0]
    assert "quantized_po2_zero" in notes[0]
    first = next(layer for layer in report["layers"] if layer["name"] == "first")
    assert first["sparsity"] == 0.0, "as QKeras really computes"


@needs_compiler
def test_sums_beyond_24_bits_are_checked_in_float64(tmp_path: Path) -> None:
    wide = bits(16, 0, alpha=1)
    parts = (
        qkeras.QActivation("quantized_bits(16,0,alpha=1)", name="quantize_input"),
        qkeras.QDense(4, kernel_quantizer=wide, bias_quantizer=bits(8, 0, alpha=1), name="wide"),
        qkeras.QActivation("quantized_bits(16,2,alpha=1,symmetric=1)", name="quantize"),
        dense(3, "last", activation="quantized_bits(8,2,alpha=1)"),
    )
    inputs = array(tmp_path / "x.npy", np.random.default_rng(5).uniform(-1, 1, (50, 6)))
    options = ("--inputs", inputs, "--adversarial", 32, "--output", tmp_path / "runs")
    report = flow("build", save(sequential((6,), *parts), tmp_path / "wide.h5"), *options, "--json").report()
    assert report["verdict"]["bit_exact"] is True
    assert report["verdict"]["arithmetic"]["qkeras"] == "float64"
    assert report["verdict"]["compared"] == ["qkeras", "reference", "csim"]


def test_the_default_scale_of_a_kernel_quantizer_is_read_as_qkeras_uses_it(tmp_path: Path) -> None:
    model = sequential((6,), qkeras.QActivation("quantized_bits(4,0,alpha=1)"), dense(5, "auto", bits(4, 0)))
    layer = model.get_layer("auto")
    assert layer.kernel_quantizer_internal.alpha == "auto_po2", "QKeras turns alpha=None into auto_po2 for kernels"
    kernel = read_keras(save(model, tmp_path / "auto.h5")).trained.weights["auto"]["kernel"]
    np.testing.assert_array_equal(kernel, np.asarray(layer.kernel_quantizer_internal(layer.kernel)))


# files that are no model


def broken(directory: Path, model: Any) -> dict[str, Path]:
    """Return what is wrong -> a file of which that is so."""
    paths = {}
    for ending in ("h5", "keras"):
        whole = save(model, directory / f"whole.{ending}").read_bytes()
        for name, part in (("half", whole[: len(whole) // 2]), ("start", whole[:300]), ("magic", whole[:8])):
            paths[f"{name} {ending}"] = directory / f"{name}.{ending}"
            paths[f"{name} {ending}"].write_bytes(part)
    texts = {
        "empty.h5": "",
        "text.keras": "hello",
        "list.json": "[]",
        "half.json": '{"class_name": "Seq',
        "deep.json": "",
    }
    for name, text in texts.items():
        paths[name] = directory / name
        paths[name].write_text(text)
    paths["deep.json"].write_text("[" * 100_000)
    with quiet_warnings():
        model.save_weights(directory / "only.h5")
    paths["weights only"] = directory / "only.h5"
    (directory / "folder").mkdir()
    (directory / "folder" / "saved_model.pb").write_bytes(b"\x00\x01")
    paths["folder"] = directory / "folder"
    with zipfile.ZipFile(directory / "other.keras", "w") as archive:
        archive.writestr("readme", "no model")
    paths["zip"] = directory / "other.keras"
    return paths


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    model = sequential((4,), dense(2, "only"))
    paths = broken(tmp_path, model)
    for what, path in paths.items():
        more = ("--weights", paths["weights only"]) if path.suffix == ".json" else ()
        outcome = flow("build", path, *more, "--input-format", "fixed<8,1>", "--output", tmp_path / "runs")
        refused(outcome, str(path))
        assert not (tmp_path / "runs").exists(), what
    assert "holds weights only" in flow("build", paths["weights only"], "--output", tmp_path / "runs").err


def test_missing_files_are_refused(tmp_path: Path) -> None:
    refused(flow("build", tmp_path / "none.h5"), "no such file")
    refused(flow("build", tmp_path / "none.keras"), "no such file")
    (tmp_path / "arch.json").write_text("{}")
    refused(flow("build", tmp_path / "arch.json"), "--weights")
    refused(flow("build", tmp_path / "arch.json", "--weights", tmp_path / "none.h5"), "none.h5: no such file")
    refused(flow("build", "digits_mlp", "--weights", tmp_path / "none.h5"), "--weights goes with")
    whole = save(sequential((4,), dense(2, "only")), tmp_path / "m.h5")
    refused(flow("build", whole, "--weights", whole), "no .json")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    other = sequential((5,), dense(3, "a"), dense(2, "b"))
    with quiet_warnings():
        (tmp_path / "arch.json").write_text(sequential((4,), dense(2, "only")).to_json())
    for name in ("other.h5", "other.weights.h5"):
        with quiet_warnings():
            other.save_weights(tmp_path / name)
        refused(flow("build", tmp_path / "arch.json", "--weights", tmp_path / name), "cannot load this model")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    for number, part in enumerate((layers.Dense(2, name="plain"), layers.BatchNormalization(name="plain"))):
        model = sequential((4,), dense(4, "fine"), part)
        weights = part.get_weights()
        weights[0][..., 0] = value
        part.set_weights(weights)
        path = save(model, tmp_path / f"{number}.h5")
        refused(flow("show", path, "--input-format", "fixed<8,1>", "--output", tmp_path), "plain", "NaN or infinite")


def spread(model: Any) -> Any:
    """Give a dense layer weights of very different sizes."""
    model.set_weights([np.array([[1.0], [2.0**-60]]), np.zeros(1)])
    return model


UNSUPPORTED: dict[str, tuple[Callable[[], Any], str]] = {
    "layer": (lambda: sequential((4, 4), layers.LSTM(3, name="memory")), "LSTM"),
    "quantizer": (lambda: sequential((4,), dense(2, "odd", qkeras.bernoulli(alpha=1.0))), "random"),
    "adaptive": (lambda: sequential((4,), qkeras.QAdaptiveActivation("quantized_relu", 4), trained=False), "Adaptive"),
    "wrapped": (lambda: sequential((4, 4), layers.TimeDistributed(layers.Rescaling(2.0))), "Rescaling is not"),
    "wrapped inside": (
        lambda: sequential((4, 4), layers.TimeDistributed(sequential((4,), layers.Rescaling(2.0)))),
        "Rescaling is not",
    ),
    "activation": (lambda: sequential((4,), dense(2, "odd", activation="tanh")), "tanh"),
    "scaled activation": (
        lambda: sequential((4,), qkeras.QActivation(bits(4, 0, alpha="auto_po2", symmetric=True), name="odd")),
        "alpha='auto_po2'",
    ),
    "float weights": (
        lambda: spread(sequential((2,), layers.Dense(1, name="plain"))),
        "give the layer a kernel_quantizer",
    ),
    "half precision": (lambda: sequential((4,), layers.Dense(3, name="half", dtype="float16")), "float16"),
    "double precision": (lambda: sequential((4,), layers.Dense(3, name="double", dtype="float64")), "float64"),
    "open axis": (lambda: sequential((None, None, 1), qkeras.QConv2D(2, 3, kernel_quantizer=po2(4, 1))), "not fixed"),
    "after softmax": (lambda: sequential((4,), layers.Softmax(), dense(2, "late")), "after the softmax"),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_has_no_exact_form_is_refused_by_name(tmp_path: Path, what: str) -> None:
    make, word = UNSUPPORTED[what]
    with quiet_warnings():
        model = make()
    for form in ("model.h5", "model.keras"):
        path = save(model, tmp_path / form)
        port = ("--input-format", "fixed<8,1>")
        refused(flow("build", path, *port, "--output", tmp_path / "runs"), word, "model")
        assert run_directories(tmp_path / "runs") == []


# models of any shape


def branching(first: Any, second: Any) -> Any:
    """Two inputs, a shared layer, a branch, a nested model called twice, two outputs."""
    twin = dense(4, "twin", activation="quantized_relu(4,1)")
    block = sequential((4,), dense(4, "inner"), qkeras.QActivation("quantized_relu(4,1)", name="cast"))
    both = layers.Add(name="sum")([twin(first), twin(second)])
    return [dense(3, "left")(both), dense(2, "right")(block(block(twin(first))))]


@pytest.mark.parametrize("form", FORMS)
def test_models_of_any_shape_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    model = wired(branching, (4,), (4,))
    found = read_keras(*save_all(model, tmp_path)[form])
    inner = next(layer.name for layer in model.layers if isinstance(layer, keras.Model))
    assert found.trained.weights.keys() == {"twin", "left", "right", f"{inner}/inner"}
    for path, group in quantized_weights(model).items():
        for key, values in group.items():
            np.testing.assert_array_equal(found.trained.weights[path][key], values, f"{path}/{key}")
    calls = topology(found.trained.class_name, found.trained.config)
    names = [call.name for call in calls.calls if call.layer.endswith(("twin", "inner"))]
    assert sorted(names) == sorted(["twin", "twin#2", "twin#3", f"{inner}/inner", f"{inner}/inner#2"])
    assert [call.name for call in calls.inputs] == ["in0", "in1"]
    assert calls.outputs == ("left", "right")
    graph = extract(found.trained, FixedFormat(True, 0, 3))
    assert (len(graph.inputs), len(graph.outputs)) == (2, 2)


def older(config: dict[str, Any]) -> None:
    """Rewrite a configuration as Keras before 2.2.3 wrote it, Sequentials as lists and functional models as "Model"."""
    for entry in config["config"]["layers"]:
        if "layers" in entry["config"]:
            older(entry)
    keys = ("build_config", "build_input_shape", "module", "registered_name", "compile_config", "shared_object_id")
    for holder in (config, config["config"], *config["config"]["layers"]):
        for key in keys:
            holder.pop(key, None)
    if config["class_name"] == "Sequential":
        parts = config["config"]["layers"]
        shape = parts[0]["config"]["batch_input_shape"]
        parts[1]["config"]["batch_input_shape"] = shape
        config["config"] = parts[1:]
    else:
        config["class_name"] = "Model"


@pytest.mark.parametrize("kind", ["sequential", "functional", "nested"])
def test_exports_of_old_versions_are_read(tmp_path: Path, kind: str) -> None:
    parts = [qkeras.QActivation(bits(4, 0, alpha=1), name="port"), dense(3, "first"), dense(2, "second")]
    if kind == "nested":
        parts[1] = sequential((4,), parts[1])
    model = (functional if kind == "functional" else sequential)((4,), *parts)
    path, _ = edited(model, tmp_path, older)[0]
    found = read_keras(path)
    assert found.trained.class_name == ("Functional" if kind == "functional" else "Sequential")
    wanted = quantized_weights(model)
    names = {name: "model_1/first" if "/" in name else name for name in wanted}  # such models had no name
    assert found.trained.weights.keys() == set(names.values())
    for name, group in wanted.items():
        np.testing.assert_array_equal(found.trained.weights[names[name]]["kernel"], group["kernel"])
    assert extract(found.trained).inputs[0].shape == (4,)


def _named_as_before(group: h5py.Group, twice: bool) -> None:
    """Give the layers of a `.keras` archive the names that Keras 2.14 gave them, or 2.12, which counted some twice."""
    if "layers" in group:
        group.move("layers", "_layer_checkpoint_dependencies")
        for layer in list(group["_layer_checkpoint_dependencies"].values()):
            _named_as_before(layer, twice)
            base, _, number = layer.name.rpartition("_")
            if twice and number.isdecimal():
                layer.parent.move(layer.name, f"{base}_{100 * int(number)}")


@pytest.mark.parametrize("twice", [False, True], ids=["2.14", "2.12"])
def test_archives_of_keras_2_12_to_2_14_are_read(tmp_path: Path, twice: bool) -> None:
    inner = sequential((4,), dense(4, "inside"), dense(4, "deep"))
    parts = [dense(4, f"fc{number}") for number in range(3)]
    path = save(sequential((4,), *parts[:2], inner, *parts[2:]), tmp_path / "model.keras")
    wanted = read_keras(path).trained
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "numbers.h5").write_bytes(texts["model.weights.h5"])
    with h5py.File(tmp_path / "numbers.h5", "r+") as file:
        _named_as_before(file, twice)
    texts["model.weights.h5"] = (tmp_path / "numbers.h5").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    assert read_keras(path).trained.digest() == wanted.digest()


def test_arguments_of_other_versions_of_qkeras_that_say_nothing_are_left_out() -> None:
    def told(**more: Any) -> dict[str, Any]:
        kernel = {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 0, "alpha": 1, **more}}
        entries = [configs.port(3), configs.dense(kernel_quantizer=kernel)]
        return {"class_name": "Sequential", "config": {"name": "m", "layers": entries}}

    assert checked(told(post_training_scale=None, elements_per_scale=None)) == checked(told())
    with pytest.raises(UnsupportedError, match=r"post_training_scale=\[0.5\] freezes the scale of another"):
        checked(told(post_training_scale=[0.5]))


@pytest.mark.parametrize("key", ["module", "registered_name", "class_name"])
def test_layers_of_hgq_are_refused_for_what_they_are(key: str) -> None:
    own = configs.dense() | {key: "hgq>QDense" if key == "class_name" else "hgq.layers.core.dense"}
    with pytest.raises(UnsupportedError, match=r"QDense is a layer of HGQ, .*; no front end reads HGQ or HGQ2 yet"):
        checked({"class_name": "Sequential", "config": {"name": "m", "layers": [configs.port(3), own]}})


def test_a_quantizer_that_qkeras_cannot_load_itself_is_read(tmp_path: Path) -> None:
    """`quantized_hswish.get_config` holds an argument that its constructor refuses."""
    cast = qkeras.QActivation(qkeras.quantizers.quantized_hswish(6, 2), name="swish")
    model = sequential((4,), cast, dense(2, "last"))
    for form in ("model.h5", "model.keras"):
        found = read_keras(save(model, tmp_path / form))
        inputs = np.random.default_rng(1).normal(0, 2, (20, 4)).astype(np.float32)
        with quiet_warnings():
            wanted = model.predict(inputs, verbose=0)
            np.testing.assert_array_equal(found.keras.predict(inputs, verbose=0), wanted)


def test_calls_with_more_than_tensors_are_refused(tmp_path: Path) -> None:
    """A batch normalization called with training=True is another layer than its weights say."""
    for number, training in enumerate((True, False)):
        model = wired(lambda x, t=training: layers.BatchNormalization(name="norm")(x, training=t), (4,))
        path = save(model, tmp_path / f"{number}.h5")
        if training:
            with pytest.raises(UnsupportedError, match="layer 'norm': is called with training=True"):
                read_keras(path)
        else:
            assert read_keras(path).trained.weights.keys() == {"norm"}


KERAS_3 = """
import sys
import numpy as np
import keras

keras.utils.set_random_seed(1)
L = keras.layers
x = keras.Input((6, 6, 3))
y = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", name="stem")(x)))
y = L.LeakyReLU(negative_slope=0.25)(L.Add()([y, L.DepthwiseConv2D(3, padding="same")(y)]))
branched = keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(L.Dropout(0.5)(y))))
branched.layers[2].set_weights([np.linspace(0.5, 1.5, 4) + each for each in range(4)])
inner = keras.Sequential([keras.Input((5,)), L.Dense(4, activation="relu"), L.Dense(5)], name="inner")
row = keras.Sequential([keras.Input((5,)), inner, L.Dense(2)])
ops, x = keras.ops, keras.Input((4, 6))
y = (2 - x * 3) / 4 + x[:, ::-1] + np.arange(6.0) + ops.maximum(x, 0.25) + ops.square(x) + ops.absolute(-x)
y = ops.concatenate([ops.leaky_relu(y), ops.matmul(x, np.eye(6, 2)), ops.expand_dims(ops.sum(x, axis=2), -1)], axis=-1)
y = ops.relu(ops.mean(ops.transpose(y, (0, 2, 1)), axis=1)) + ops.clip(ops.max(x, axis=-1), -0.5, 0.5)
operators = keras.Model(x, ops.reshape(ops.stack([y, y - 1], axis=1), (-1, 8)))
values = np.random.default_rng(1).uniform(-1, 1, (8, 200))
for name, model in (("branched", branched), ("row", row), ("operators", operators)):
    given = np.float32(np.resize(values, (8, *model.input_shape[1:])))
    model.save(f"{sys.argv[1]}/{name}.h5")
    model.save(f"{sys.argv[1]}/{name}.keras")
    np.savez(f"{sys.argv[1]}/{name}.npz", given=given, wanted=model.predict(given, verbose=0))
"""


def test_models_of_keras_3_are_read(tmp_path: Path) -> None:
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", KERAS_3, tmp_path], check=True, env=environment, capture_output=True)
    for name, suffix in product(("branched", "row", "operators"), ("h5", "keras")):
        arrays = np.load(tmp_path / f"{name}.npz")
        found = read_keras(tmp_path / f"{name}.{suffix}")
        with quiet_warnings():
            said = found.keras.predict(arrays["given"], verbose=0)
        np.testing.assert_allclose(said, arrays["wanted"], rtol=0, atol=1e-5)  # two Keras' floats
        np.testing.assert_allclose(
            float_outputs(float_graph(found.trained), arrays["given"], approximate), said, rtol=0, atol=1e-5
        )


def test_damaged_nodes_of_keras_3_are_refused(tmp_path: Path) -> None:
    for node in (
        {"args": [], "kwargs": {}},
        {"args": [3], "kwargs": {}},
        {"args": [{"class_name": "__keras_tensor__"}]},
    ):

        def edit(config: dict[str, Any], node: Any = node) -> None:
            config["config"]["layers"][1]["inbound_nodes"] = [node]

        for path, weights in edited(functional((4,), dense(2, "last")), tmp_path, edit):
            with pytest.raises((UnsupportedError, ModelFileError)):
                read_keras(path, weights)


def test_models_in_models_have_an_end(tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        inner = json.loads(json.dumps(config["config"]["layers"][1:]))
        for number in range(40):
            inner = [{"class_name": "Sequential", "config": {"name": f"m{number}", "layers": inner}}]
        config["config"]["layers"][1:] = inner

    for path, weights in edited(sequential((4,), dense(2, "last")), tmp_path, edit):
        with pytest.raises(UnsupportedError, match="nested more than"):
            read_keras(path, weights)


# files that would do something


def marker_layer(marker: Path) -> Any:
    """Return a Lambda layer that creates a file when it is called."""
    created = {"path": str(marker)}
    return layers.Lambda(lambda x, path=created["path"]: (open(path, "w").close(), x)[1], name="evil")


@pytest.mark.parametrize("form", ["model.h5", "model.keras", "saved"])
def test_a_lambda_is_never_run(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "was_here"
    path = save(sequential((4,), marker_layer(marker), dense(2, "d")), tmp_path / form)
    marker.unlink(missing_ok=True)
    outcome = flow("build", path, "--input-format", "fixed<8,1>", "--output", tmp_path / "runs")
    refused(outcome, "Lambda")
    assert not marker.exists()
    assert not (tmp_path / "runs").exists()


def edited(model: Any, directory: Path, edit: Callable[[dict[str, Any]], None]) -> list[tuple[Path, Path | None]]:
    """Return a model's files after `edit` changed the configuration that they hold."""
    files = save_all(model, directory)
    with h5py.File(files["h5"][0], "r+") as file:
        config = json.loads(file.attrs["model_config"])
        edit(config)
        file.attrs["model_config"] = json.dumps(config)
    path = files["keras"][0]
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    edit(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, content)
    config = json.loads(files["json"][0].read_text())
    edit(config)
    files["json"][0].write_text(json.dumps(config))
    return [files["h5"], files["keras"], files["json"]]


def last_layer(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the last layer, of the last model in the model where there is one."""
    last = dict(config["config"]["layers"][-1])["config"]
    return last_layer({"config": last}) if "layers" in last else last


HOSTILE_TEXTS = (
    "__import__('os').system('touch was_here')",
    "quantized_bits(__import__('os').system('touch was_here'))",
    "quantized_bits(4,0,alpha=open('was_here','w'))",
    "(lambda: open('was_here', 'w'))()",
    "safe_eval('tf', {})",
    "get_quantizer('tf')",
    "np",
    "quantized_bits",
    "quantized_po2(4,1)\nimport os",
    "quantized_po2(" * 200,
    "\x00",
)


@pytest.mark.parametrize("nested", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("key", ["kernel_quantizer", "bias_quantizer", "activation"])
def test_a_quantizer_text_is_never_evaluated(
    tmp_path: Path, key: str, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(HOSTILE_TEXTS):
        if text == "quantized_bits":
            continue  # harmless: a name alone is the quantizer with its defaults
        (tmp_path / str(number)).mkdir()
        model = sequential((4,), sequential((4,), dense(2, "last")) if nested else dense(2, "last"))
        for path, weights in edited(model, tmp_path / str(number), lambda c, t=text: last_layer(c).update({key: t})):
            more = ("--weights", weights) if weights else ()
            outcome = flow("build", path, *more, "--input-format", "fixed<8,1>", "--output", tmp_path / "runs")
            refused(outcome, "last")
            assert not (tmp_path / "was_here").exists()


EVIL = {"module": "flow_evil_module", "class_name": "Evil", "config": {}, "registered_name": "Evil"}
FUNCTION = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
SCALED = {
    "class_name": "QInitializer",
    "config": {"initializer": "zeros", "use_scale": True, "quantizer": "__import__('flow_evil_module')"},
}


@pytest.mark.parametrize("value", [EVIL, FUNCTION, SCALED], ids=["class", "function", "initializer"])
@pytest.mark.parametrize("nested", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize(
    "key", ["kernel_initializer", "kernel_regularizer", "bias_constraint", "kernel_quantizer", "kernel_range"]
)
def test_no_module_that_a_file_names_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: dict[str, Any], nested: bool
) -> None:
    (tmp_path / "flow_evil_module.py").write_text("open('was_here', 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = sequential((4,), sequential((4,), dense(2, "last"), seed=2) if nested else dense(2, "last"))
    (wanted,) = quantized_weights(model).values()
    for path, weights in edited(model, tmp_path, lambda c: last_layer(c).update({key: value})):
        try:
            found = read_keras(path, weights)
        except (ModelFileError, UnsupportedError):
            assert key in ("kernel_quantizer", "kernel_range"), "what only training needs does not matter"
        else:
            (group,) = found.trained.weights.values()
            np.testing.assert_array_equal(group["kernel"], wanted["kernel"])
        assert not (tmp_path / "was_here").exists()


def test_the_module_of_a_layer_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flow_evil_module.py").write_text("open('was_here', 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def edit(config: dict[str, Any]) -> None:
        for entry in (config, config["config"]["layers"][-1]):
            entry |= {"module": "flow_evil_module", "registered_name": "flow_evil_module>QDense"}

    for path, weights in edited(sequential((4,), dense(2, "last")), tmp_path, edit):
        assert read_keras(path, weights).trained.weights.keys() == {"last"}
        assert not (tmp_path / "was_here").exists()


class Bomb:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, ("was_here", "w"))


def test_no_pickle_in_an_archive_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(sequential((4,), dense(2, "last")), tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    np.savez("model.weights.npz", a=np.array([Bomb()], dtype=object))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.write("model.weights.npz")
    with pytest.raises(ModelFileError):
        read_keras(path)
    assert not (tmp_path / "was_here").exists()
    pickle.loads(pickle.dumps(Bomb())).close()  # the bomb works
    assert (tmp_path / "was_here").exists()
