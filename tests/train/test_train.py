"""Training: quantizers, batch normalization, freezing, reproducibility, and the artefacts in models/."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from processes import Holder

from flow.data.datasets import Dataset
from flow.errors import DataError, ModelFileError, OutputError, SpecError, ToolMissingError, UnsupportedError
from flow.frontend.trained import FLOAT_DIR, TrainedModel, load_metrics, load_trained
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, exact_codes, quantize
from flow.train import load_tensorflow, quiet_warnings
from flow.train.spec import (
    TASK_OF_TOPOLOGY,
    AugmentSpec,
    DropoutSpec,
    FloatSpec,
    FloatTrainSpec,
    ModelSpec,
    PruneSpec,
    load_spec,
)

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train.build import TOPOLOGIES, build_float, build_quantized, build_topology
from flow.train.checkpoints import Checkpoint, training_key
from flow.train.deserialize import custom_objects
from flow.train.fit import train
from flow.train.freeze import freeze, keras_model, quantized_weights, sparsity
from flow.train.layers import EPSILON, FixedBatchNormalization
from flow.train.quantizers import quantized_grid, quantized_po2_zero

tf, keras, qkeras = load_tensorflow().tf, load_tensorflow().keras, load_tensorflow().qkeras
MODELS = REPOSITORY / "models"
FLOAT32_BITS = 24


@pytest.fixture(scope="module")
def stand_in() -> Dataset:
    """Generated clusters of the shape of the jets data; they are no jets."""
    rng = np.random.default_rng(11)
    centres = rng.normal(0, 1.5, (5, 16))
    labels = rng.integers(0, 5, 3000)
    inputs = np.float32(np.clip(np.rint((centres[labels] + rng.normal(0, 1, (3000, 16))) * 1024) / 1024, -16, 16))
    return Dataset(
        name="stand-in",
        x_train=inputs[:2500],
        y_train=labels[:2500],
        x_test=inputs[2500:],
        y_test=labels[2500:],
        class_names=tuple("abcde"),
        source="generated for a test",
    )


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    spec = load_spec(MODELS / "jets_mlp")
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, batch_size=64))


@pytest.fixture(scope="module")
def trained_dir(spec: ModelSpec, stand_in: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("jets")
    train(spec, directory, epochs=2, dataset=stand_in)
    return directory


@pytest.fixture(scope="module")
def trained(trained_dir: Path) -> TrainedModel:
    return load_trained(trained_dir)


# quantizers


def samples(count: int = 100_000) -> np.ndarray:
    rng = np.random.default_rng(2)
    spread = rng.choice([-1, 1], count) * np.exp2(rng.uniform(-20, 5, count))
    edges = [0.0, -0.0, 1e-40, 3e38, *np.exp2(np.arange(-12, 4) - 0.5), *np.exp2(np.arange(-12.0, 4))]
    around = [np.nextafter(np.float32(edge), np.float32(way)) for edge in edges for way in (-np.inf, np.inf)]
    return np.concatenate([spread, edges, around]).astype(np.float32)


def test_po2_zero_is_the_nearest_power_of_two_or_zero() -> None:
    values = samples()
    found = np.asarray(quantized_po2_zero(min_exp=-7, max_exp=0)(values))
    squares = values.astype(np.float64) ** 2  # |x| against 2**(e + 1/2) without a root: x*x against 2**(2e + 1)
    exponents = np.arange(-7, 0)
    nearest = np.exp2(-7.0 + (squares[:, None] > np.exp2(2.0 * exponents + 1)).sum(axis=1))
    expected = np.where(squares < 2.0**-15, 0, np.sign(values) * nearest)
    assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert set(np.abs(found).tolist()) == {0.0, *np.exp2(np.arange(-7.0, 1)).tolist()}
    assert not np.signbit(found[found == 0]).any()


def test_po2_zero_holds_zeros_that_quantized_po2_loses() -> None:
    pruned = tf.constant([0.0, 0.3, 0.0, -0.9])
    assert np.count_nonzero(qkeras.quantized_po2(4, 1)(pruned)) == 4
    assert np.asarray(quantized_po2_zero(4, 1)(pruned)).tolist() == [0.0, 0.25, 0.0, -1.0]


def test_po2_zero_agrees_with_quantized_po2_elsewhere() -> None:
    values = samples()
    values = values[(np.abs(values) > 1e-30) & (np.abs(values) < 2**10)].astype(np.float64)
    exponents = np.log2(np.abs(values))
    for bits, max_value in ((4, 1), (4, 2), (4, None), (5, 0.5), (3, 0.7)):
        ours, theirs = quantized_po2_zero(bits, max_value), qkeras.quantized_po2(bits, max_value)
        # away from zero and from ties, where QKeras' float32 logarithm decides
        settled = values[(exponents > ours.min_exp) & (np.abs(exponents % 1 - 0.5) > 1e-4)].astype(np.float32)
        assert len(settled) > 10_000 and np.array_equal(ours(settled), theirs(settled))


def test_po2_zero_is_exact_where_the_usual_straight_through_is_not() -> None:
    assert float(qkeras.quantized_po2(4, 1)(tf.constant(3e8))) == 0.0  # x + (1 - x) in float32
    assert float(quantized_po2_zero(4, 1)(tf.constant(3e8))) == 1.0


@pytest.mark.parametrize("quantizer", (quantized_po2_zero(min_exp=-6, max_exp=1), quantized_grid(8, 2)))
def test_quantizers_are_idempotent_straight_through_and_serialisable(quantizer) -> None:
    values = tf.constant(samples(1000))
    with tf.GradientTape() as tape:
        tape.watch(values)
        once = quantizer(values)
        total = tf.reduce_sum(once)
    assert np.array_equal(tape.gradient(total, values), np.ones(values.shape))  # through the dead zone as well
    assert np.array_equal(quantizer(once), once)
    again = type(quantizer).from_config(quantizer.get_config())
    assert np.array_equal(again(values), once) and (again.min(), again.max()) == (-quantizer.max(), quantizer.max())
    assert type(quantizer).__name__ in str(quantizer)


def test_grid_rounds_half_to_even_and_saturates() -> None:
    values = np.concatenate([samples(), np.arange(-600, 600, dtype=np.float32) / 64])
    codes = quantize(np.clip(values, -1e6, 1e6), Cast(FixedFormat(True, 2, 5), Rounding.RND_CONV, Overflow.SAT))
    assert np.array_equal(np.asarray(quantized_grid(8, 2)(values)) * 32, codes)


def test_empty_exponent_range() -> None:
    with pytest.raises(SpecError, match=r"exponents 1\.\.0 are not within"):
        quantized_po2_zero(min_exp=1, max_exp=0)


# batch normalization


def batch_norm(scale_quantizer: object) -> tuple[FixedBatchNormalization, np.ndarray]:
    layer = FixedBatchNormalization(scale_quantizer=scale_quantizer, offset_quantizer=quantized_grid(8, 2))
    inputs = np.random.default_rng(4).normal(0.5, 2, (64, 3, 5)).astype(np.float32)
    layer.build(inputs.shape)
    layer.set_weights([np.float32([1, 0.3, -2, 0, 5]), np.float32([0, 1, 0.3, -1, 9]), np.zeros(5), np.ones(5)])
    return layer, inputs


SCALES = (quantized_po2_zero(min_exp=-4, max_exp=2), quantized_grid(8, 2))


@pytest.mark.parametrize("scale_quantizer", SCALES)
def test_batch_norm_trains_with_what_it_infers_with(scale_quantizer: object) -> None:
    layer, inputs = batch_norm(scale_quantizer)
    scale, offset = layer.folded()
    assert np.array_equal(layer(inputs, training=False), inputs * scale + offset)
    keras_layer = keras.layers.BatchNormalization(epsilon=EPSILON)
    keras_layer.build(inputs.shape)
    output, _ = layer(inputs, training=True), keras_layer(inputs, training=True)
    np.testing.assert_allclose(layer.moving_mean, keras_layer.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, keras_layer.moving_variance, rtol=1e-5)
    batch_scale = scale_quantizer(layer.gamma / np.sqrt(inputs.var(axis=(0, 1)) + EPSILON))
    batch_offset = layer.offset_quantizer(layer.beta - inputs.mean(axis=(0, 1)) * batch_scale)
    np.testing.assert_allclose(output, inputs * batch_scale + batch_offset, atol=1e-6)
    layer.use_moving_statistics = True
    assert np.array_equal(layer(inputs, training=True), layer(inputs, training=False))


@pytest.mark.parametrize("scale_quantizer", SCALES)
def test_folded_batch_norm_is_the_same_layer(scale_quantizer: object) -> None:
    layer, inputs = batch_norm(scale_quantizer)
    layer(inputs, training=True)
    before, (scale, offset) = layer(inputs), layer.folded()
    layer.set_folded(scale, offset)
    assert np.array_equal(layer(inputs), before)
    assert all(np.array_equal(*pair) for pair in zip(layer.folded(), (scale, offset), strict=True))
    again = FixedBatchNormalization.from_config(layer.get_config())
    again.build(inputs.shape)
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(inputs), before)


def test_batch_norm_takes_quantizers_of_qkeras() -> None:
    layer, inputs = batch_norm(qkeras.quantized_bits(8, 2, alpha=1.0))
    again = FixedBatchNormalization.from_config(layer.get_config())
    again.build(inputs.shape)
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(inputs), layer(inputs))


# freezing


@pytest.mark.parametrize("name", ("digits_mlp", "fashion_cnn"))
def test_freezing_changes_no_output(name: str) -> None:
    spec = load_spec(MODELS / name)
    model = build_quantized(spec)
    rng = np.random.default_rng(6)
    model.set_weights([np.float32(np.abs(rng.normal(0, 0.5, weight.shape))) for weight in model.get_weights()])
    inputs = np.float32(rng.integers(0, 257, (32, *spec.input.shape)) / 256)
    weights = freeze(model, inputs)
    assert all(np.array_equal(a, weights[n][k]) for n, g in quantized_weights(model).items() for k, a in g.items())
    assert [layer.name for layer in build_float(spec).layers[1:]] == [layer.name for layer in model.layers[2:]]


def test_nan_is_not_frozen() -> None:
    model = build_quantized(load_spec(MODELS / "digits_mlp"))
    model.get_layer("dense2").kernel.assign(np.full((model.get_layer("dense2").kernel.shape), np.nan))
    with pytest.raises(UnsupportedError, match="layer 'dense2': kernel holds NaN"):
        freeze(model, np.zeros((1, 64), np.float32))


# training


def test_training_writes_what_it_returns(
    spec: ModelSpec, stand_in: Dataset, trained: TrainedModel, tmp_path: Path
) -> None:
    again = train(spec, tmp_path, epochs=2, dataset=stand_in)
    assert again.digest() == trained.digest() and again.metrics == trained.metrics  # reproducible
    stored = load_trained(tmp_path)
    assert stored.digest() == trained.digest() and stored.metrics == trained.metrics
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float", "history.csv", "trained.json", "trained.npz"]
    assert stored.provenance["dataset"] == "stand-in" and stored.provenance["epochs"] == 2
    assert np.array_equal(stored.verification_inputs, stand_in.x_test[:300])
    assert min(trained.metrics["qkeras"], trained.metrics["float"]) > 0.6  # five classes
    confusion = np.array(trained.metrics["float_confusion"])
    assert confusion.sum(axis=1).tolist() == np.bincount(stand_in.y_test).tolist()
    assert confusion.trace() / confusion.sum() == trained.metrics["float"]


def test_the_float_twin_is_kept(spec: ModelSpec, stand_in: Dataset, trained_dir: Path) -> None:
    twin, metrics = load_trained(trained_dir / FLOAT_DIR), load_metrics(trained_dir)
    assert twin.name == spec.name and twin.metrics["float"] == metrics["float"]
    assert accuracy_without_keras(twin, stand_in) == metrics["float"]
    assert np.array_equal(twin.verification_inputs, stand_in.x_test[:300])
    for layer in spec.layers:  # pruned like the quantized one
        if (wanted := getattr(layer, "sparsity", None)) is not None:
            kernel = twin.weights[layer.name]["kernel"]
            assert np.mean(kernel == 0) >= wanted - 1 / kernel.size
    drawn = {row.tobytes() for row in twin.calibration_inputs}
    assert len(drawn) == len(twin.calibration_inputs) == 128
    assert drawn <= {row.tobytes() for row in stand_in.x_train}


def accuracy_without_keras(model: TrainedModel, data: Dataset) -> float:
    """Return the accuracy of dense layers, scales and ReLUs as the artefact describes them, in float64."""
    values = data.x_test.astype(np.float64)
    for layer in model.config["layers"]:
        arrays = model.weights.get(layer["name"], {})
        if "kernel" in arrays:
            values = values @ arrays["kernel"] + arrays.get("bias", 0)
        elif "scale" in arrays:
            values = values * arrays["scale"] + arrays["offset"]
        elif layer["class_name"] == "ReLU":
            values = np.maximum(values, 0)
    return float(np.mean(values.argmax(axis=1) == data.y_test))


def test_pruned_weights_are_zeros(spec: ModelSpec, trained: TrainedModel) -> None:
    for layer in spec.layers:
        if (wanted := getattr(layer, "sparsity", None)) is not None:
            kernel = trained.weights[layer.name]["kernel"]
            assert np.mean(kernel == 0) >= wanted - 1 / kernel.size
    assert trained.metrics["sparsity"] == sparsity(trained.weights) > 0.7


def test_rebuilt_model_computes_the_same(trained: TrainedModel, stand_in: Dataset, tmp_path: Path) -> None:
    model = keras_model(trained)
    outputs = model.predict(stand_in.x_test, verbose=0)
    assert np.mean(outputs.argmax(axis=1) == stand_in.y_test) == trained.metrics["qkeras"]
    with quiet_warnings():
        model.save(tmp_path / "model.h5")
        loaded = keras.models.load_model(tmp_path / "model.h5", custom_objects=custom_objects(), compile=False)
    assert np.array_equal(loaded.predict(stand_in.x_test, verbose=0), outputs)


def test_weights_that_do_not_fit(trained: TrainedModel) -> None:
    weights = {**trained.weights, "dense1": {"kernel": np.zeros((3, 3), np.float32)}}
    with pytest.raises(ModelFileError, match="jets_mlp: configuration and weights do not make a Keras model"):
        keras_model(dataclasses.replace(trained, weights=weights))


def test_an_interrupted_training_ends_in_the_same_weights(
    spec: ModelSpec, stand_in: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the float twin, and in the quantized model before its last epoch, whose statistics are frozen.

    A dropout and an augmentation draw at random besides.
    """
    epochs, stops = 3, [1, 5]
    settings = dataclasses.replace(spec.train, epochs=3, frozen_epochs=1)
    layers = (*spec.layers[:3], DropoutSpec(name="dropout", rate=0.2), spec.layers[-1])
    noise = AugmentSpec(layer="GaussianNoise", arguments=(("stddev", 0.1),))
    prune = PruneSpec(begin_epoch=0, end_epoch=2)
    spec = dataclasses.replace(spec, layers=layers, train=settings, prune=prune, augment=(noise,))
    whole = train(spec, tmp_path / "whole", epochs=epochs, dataset=stand_in)
    saved, save = list[tuple[str, int]](), Checkpoint.save

    def interrupted(self: Checkpoint, model: object, done: int, *rest: object) -> None:
        save(self, model, done, *rest)
        saved.append((self.path.stem, done))
        if len(saved) in stops:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupted)
    directory = tmp_path / "parts"
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            train(spec, directory, epochs=epochs, dataset=stand_in)
        assert [path.name for path in directory.iterdir()] == [".training"]
    found = train(spec, directory, epochs=epochs, dataset=stand_in)
    assert saved == [(name, epoch) for name in ("float_twin", "quantized") for epoch in range(1, epochs + 1)]
    assert found.digest() == whole.digest() and found.metrics == whole.metrics
    assert (directory / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    assert sorted(path.name for path in directory.iterdir()) == ["float", "history.csv", "trained.json", "trained.npz"]


def test_a_checkpoint_belongs_to_one_training(spec: ModelSpec, stand_in: Dataset, tmp_path: Path) -> None:
    versions = {"numpy": "1"}
    other = dataclasses.replace(stand_in, x_train=stand_in.x_train + 1)
    key = training_key(spec, 2, stand_in, versions)
    assert key == training_key(dataclasses.replace(spec), 2, stand_in, {"numpy": "1"})
    seed = dataclasses.replace(spec, train=dataclasses.replace(spec.train, seed=spec.train.seed + 1))
    keys = {training_key(seed, 2, stand_in, versions), training_key(spec, 3, stand_in, versions)}
    keys |= {training_key(spec, 2, other, versions), training_key(spec, 2, stand_in, {}), key}
    assert len(keys) == 5
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    checkpoint = Checkpoint(path=tmp_path / "model.npz", key=key)
    assert checkpoint.epochs_done() == 0
    checkpoint.save(model, 1, {"loss": [0.5]}, [])
    assert checkpoint.epochs_done() == 1 and checkpoint.history() == {"loss": [0.5]}
    assert [Checkpoint(path=checkpoint.path, key=each).epochs_done() for each in keys - {key}] == [0] * 4
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-100])
    assert checkpoint.epochs_done() == 0, "a damaged one begins anew"


def test_training_interrupted_while_it_writes_leaves_only_what_it_goes_on_from(
    spec: ModelSpec, stand_in: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(model: TrainedModel, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        (directory / "trained.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr("flow.train.artefacts.save_trained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path, epochs=1, dataset=stand_in)
    assert [path.name for path in tmp_path.iterdir()] == [".training"]


def test_wrong_use_of_train(spec: ModelSpec, stand_in: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="epochs is 0; expected at least 1"):
        train(spec, tmp_path, epochs=0, dataset=stand_in)
    with pytest.raises(DataError, match=r"inputs of 'stand-in' have shape \(16,\), not \(64,\)"):
        train(load_spec(MODELS / "digits_mlp"), tmp_path, dataset=stand_in)
    with pytest.raises(DataError, match="5 units in the last layer, but 'stand-in' has 6 classes"):
        train(spec, tmp_path, dataset=dataclasses.replace(stand_in, class_names=tuple("abcdef")))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        train(spec, tmp_path / "file", epochs=1, dataset=stand_in)


# float models


def float_spec(topology: str, shape: tuple[int, ...]) -> FloatSpec:
    return FloatSpec(
        name="little",
        description="for a test",
        dataset="mnist",
        input_shape=shape,
        topology=topology,
        task=TASK_OF_TOPOLOGY[topology],
        train=FloatTrainSpec(epochs=2, batch_size=32, learning_rate=0.01, seed=3),
    )


def pictures(shape: tuple[int, ...]) -> Dataset:
    """Generated images k/256 of three classes that differ in where they are bright."""
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, 500)
    codes = rng.integers(0, 100, (500, 3, math.prod(shape) // 3))
    codes[np.arange(500), labels] += 120
    inputs = np.float32(codes.reshape(500, -1)[:, : math.prod(shape)].reshape(500, *shape) / 256)
    return Dataset(
        name="pictures",
        x_train=inputs[:400],
        y_train=labels[:400],
        x_test=inputs[400:],
        y_test=labels[400:],
        class_names=("top", "middle", "bottom"),
        source="generated for a test",
    )


def test_a_float_model_is_written_as_it_is(tmp_path: Path) -> None:
    spec, data = float_spec("mobile", (12, 12, 1)), pictures((12, 12, 1))
    made = train(spec, tmp_path, epochs=3, dataset=data)
    stored = load_trained(tmp_path)
    assert stored.digest() == made.digest() and stored.metrics == made.metrics
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "trained.json", "trained.npz"]
    assert set(stored.metrics) == {"float", "float_confusion"} and stored.metrics["float"] > 0.6  # three classes
    assert np.array(stored.metrics["float_confusion"]).trace() == stored.metrics["float"] * 100
    assert stored.provenance["epochs"] == 3 and stored.provenance["seed"] == 3
    assert np.array_equal(stored.verification_labels, data.y_test) and len(stored.calibration_inputs) == 128
    assert stored.input_shape() == (12, 12, 1)
    outputs = keras_model(stored).predict(data.x_test, verbose=0)
    assert np.mean(outputs.argmax(axis=1) == data.y_test) == stored.metrics["float"]


def test_a_second_training_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, place = pictures((48,)), tmp_path / ".training"
    (tmp_path / ".partial-killed").mkdir()
    with Holder(place, 0.5) as first:
        assert first.line() == "held"
        said = list[str]()
        spec = float_spec("autoencoder", (48,))
        train(spec, tmp_path, dataset=data, announce=lambda words, done, of: said.append(f"{words} {done} of {of}"))
    assert capsys.readouterr().err.startswith(f"flow: waiting for {place}, held by process {first.pid} on ")
    assert [words.rpartition(", ")[2] for words in said] == ["epochs 1 of 2", "epochs 2 of 2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "trained.json", "trained.npz"]


def test_an_autoencoder_is_measured_by_its_error(tmp_path: Path) -> None:
    data = pictures((48,))
    trained = train(float_spec("autoencoder", (48,)), tmp_path, dataset=data)
    again = train(float_spec("autoencoder", (48,)), tmp_path, dataset=data)
    assert again.digest() == trained.digest() and again.metrics == trained.metrics  # reproducible
    assert set(trained.metrics) == {"reconstruction_mse"} and trained.verification_labels is None
    assert 0 < trained.metrics["reconstruction_mse"] < np.mean(np.square(data.x_test))
    assert load_metrics(tmp_path) == trained.metrics


@pytest.mark.parametrize(
    ("topology", "shape"), [("resnet8", (28, 28, 1)), ("mobile", (20, 16, 3)), ("autoencoder", (48,))]
)
def test_topologies(topology: str, shape: tuple[int, ...]) -> None:
    model = build_topology(float_spec(topology, shape), 7)
    assert model.input_shape == (None, *shape) and len(model.inputs) == len(model.outputs) == 1
    assert model.output_shape == (None, *(shape if topology == "autoencoder" else (7,)))
    last = model.layers[-1]
    assert last.activation is keras.activations.linear and last.use_bias
    windows = keras.layers.Conv2D | keras.layers.DepthwiseConv2D
    convolutions = [layer for layer in model.layers if isinstance(layer, windows)]
    normalized = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(normalized) == (5 if topology == "autoencoder" else len(convolutions))
    if topology == "resnet8":
        adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
        assert [add.output_shape for add in adds] == [(None, 28, 28, 16), (None, 14, 14, 32), (None, 7, 7, 64)]
        assert len(convolutions) == 9 and sum(layer.kernel_size == (1, 1) for layer in convolutions) == 2
    if topology == "mobile":
        assert sum(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in convolutions) == 6
        assert all(layer.max_value == 6 for layer in model.layers if isinstance(layer, keras.layers.ReLU))
    assert set(TOPOLOGIES) == set(TASK_OF_TOPOLOGY)


def test_wrong_use_of_train_float(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="little: epochs is 0; expected at least 1"):
        train(float_spec("mobile", (12, 12, 1)), tmp_path, epochs=0)
    with pytest.raises(DataError, match=r"inputs of 'pictures' have shape \(12, 12, 1\), not \(28, 28, 1\)"):
        train(float_spec("mobile", (28, 28, 1)), tmp_path, dataset=pictures((12, 12, 1)))


# TensorFlow


def test_keras_3_in_use_is_refused() -> None:
    code = "import tensorflow as tf; tf.keras.layers; from flow.train.build import build_float"
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "OtherKerasError: TensorFlow was imported with Keras 3" in done.stderr
    assert "set TF_USE_LEGACY_KERAS=1" in done.stderr


@pytest.mark.parametrize("package", ("tensorflow", "tf_keras", "qkeras"))
def test_absent_package_names_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ToolMissingError, match=rf"package '{package}' .*pip install 'po2flow\[train\]'"):
        load_tensorflow.__wrapped__()


# the artefacts

REQUIRED = {"digits_mlp": (0.96, 0.75), "fashion_cnn": (0.88, 0.70), "mnist_mlp": (0.97, 0.90)}
FLOAT_MODELS = {"fashion_resnet8": 0.91, "fashion_mobile": 0.89, "mnist_autoencoder": 0.02}
"""The least accuracy, or the largest mean squared error."""


@pytest.mark.parametrize("name", REQUIRED)
def test_artefact_keeps_its_promises(name: str) -> None:
    model, (accuracy, zeros) = load_trained(MODELS / name), REQUIRED[name]
    assert model.metrics["qkeras"] >= accuracy and sparsity(model.weights) == model.metrics["sparsity"] >= zeros
    confusion = np.array(model.metrics["float_confusion"])
    assert (confusion.sum(), confusion.trace()) == (
        model.provenance["test_samples"],
        round(model.metrics["float"] * confusion.sum()),
    )
    outputs = keras_model(model).predict(model.verification_inputs, verbose=0)
    assert np.mean(outputs.argmax(axis=1) == model.verification_labels) >= accuracy - 0.03
    assert sum(path.stat().st_size for path in (MODELS / name).glob("trained.*")) < 400_000
    twin = load_trained(MODELS / name / FLOAT_DIR)
    assert abs(twin.metrics["float"] - model.metrics["float"]) < 0.005  # not always trained on the same machine
    assert sum(path.stat().st_size for path in (MODELS / name / FLOAT_DIR).glob("trained.*")) < 500_000
    sizes = {layer.name: layer.units for layer in load_spec(MODELS / name).layers if hasattr(layer, "units")}
    assert all(model.weights[layer]["kernel"].shape[-1] == units for layer, units in sizes.items())


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_float_artefact_keeps_its_promises(name: str) -> None:
    model, spec = load_trained(MODELS / name), load_spec(MODELS / name)
    assert isinstance(spec, FloatSpec) and model.provenance["epochs"] == spec.train.epochs
    outputs = keras_model(model).predict(model.verification_inputs, verbose=0)
    if spec.task == "classification":
        accuracy = np.mean(outputs.argmax(axis=1) == model.verification_labels)
        assert abs(accuracy - model.metrics["float"]) < 0.05 and model.metrics["float"] >= FLOAT_MODELS[name]
    else:
        error = np.mean(np.square(outputs - model.verification_inputs))
        assert error < 1.2 * model.metrics["reconstruction_mse"] < 1.2 * FLOAT_MODELS[name]
    assert model.calibration_inputs.shape == (128, *spec.input_shape)
    assert sum(path.stat().st_size for path in (MODELS / name).glob("trained.*")) < 600_000


@pytest.mark.parametrize("name", REQUIRED)
def test_float32_inference_is_exact(name: str) -> None:
    """Interval arithmetic: no sum, in whatever order, needs more than float32's 24 bits."""
    bits = accumulator_bits(load_trained(MODELS / name))
    assert max(bits.values()) <= FLOAT32_BITS, bits


def accumulator_bits(model: TrainedModel) -> dict[str, int]:
    """Return, per layer, how many bits the largest possible partial sum needs, counted in the finest step."""
    largest, step, bits = 0.0, 0.0, {}
    for layer in model.config["layers"]:
        weights = model.weights.get(layer["name"], {})
        if layer["class_name"] == "QActivation":
            kind, width, integer = re.match(r"quantized_(\w+)\((\d+),(-?\d+)", layer["config"]["activation"]).groups()
            step = 2.0 ** (int(integer) - int(width) + (kind == "bits"))
            largest = 2.0 ** int(integer)
        elif "kernel" in weights:
            kernel, bias = weights["kernel"].astype(np.float64), weights.get("bias", np.zeros(1))
            step = min(step * finest(kernel), finest(bias))
            largest = (np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(axis=0) * largest + np.abs(bias)).max()
        elif "scale" in weights:
            step = min(step * finest(weights["scale"]), finest(weights["offset"]))
            largest = (np.abs(weights["scale"]) * largest + np.abs(weights["offset"])).max()
        bits[layer["name"]] = math.ceil(math.log2(largest / step)) if largest else 0
    return bits


def finest(values: np.ndarray) -> float:
    """Return the value of the last bit that any of the values uses."""
    return math.inf if not np.any(values) else 2.0 ** -exact_codes(values).format.frac_bits
