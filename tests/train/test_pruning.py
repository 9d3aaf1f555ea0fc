"""Pruning of any Keras model: the patterns, the schedule, what is exchanged and allocated, and that the gates fall."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flow
from flow.errors import SpecError, ToolMissingError
from flow.train import load_pruning, load_tensorflow, quiet_warnings
from flow.train.patterns import chosen, comparable, largest, parse_pattern

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train.lut_cost import Features, weight_luts
from flow.train.pruning import Pruning

tf, keras, qkeras = load_tensorflow()
BITS = "quantized_bits(4,0,1,alpha=1)"


def data(shape: tuple[int, ...] = (12,)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = np.float32(rng.integers(0, 16, (256, *shape)) / 16)
    return x, (x.reshape(256, -1)[:, :4].argmax(axis=1)).astype(np.int64)


@quiet_warnings()
def mlp() -> Any:
    keras.utils.set_random_seed(1)
    first = keras.Input((12,))
    tensor = qkeras.QActivation("quantized_relu(4,0)")(first)
    tensor = qkeras.QDense(16, kernel_quantizer=BITS, bias_quantizer=BITS, name="hidden")(tensor)
    tensor = qkeras.QActivation("quantized_relu(4,1)")(tensor)
    return keras.Model(first, qkeras.QDense(4, kernel_quantizer=BITS, bias_quantizer=BITS, name="logits")(tensor))


def fit(model: Any, *callbacks: Any, epochs: int = 4, optimizer: Any = None) -> None:
    x, y = data(model.input_shape[1:])
    with quiet_warnings():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer or keras.optimizers.Adam(0.02), loss)
        model.fit(x, y, epochs=epochs, batch_size=64, verbose=0, callbacks=list(callbacks))


def kernel(model: Any, name: str) -> np.ndarray:
    return model.get_layer(name).kernel.numpy()  # type: ignore[no-any-return]


# patterns


@pytest.mark.parametrize(
    ("text", "count", "groups"),
    [("weights", 60, 1), ("2:4", 60, 15), ("blocks 4x2", 9, 1), ("channels", 5, 1), ("fan_in 3", 60, 5)],
)
def test_a_pattern_divides_a_kernel(text: str, count: int, groups: int) -> None:
    layout = parse_pattern(text)(12, 5)
    assert layout.unit.shape == (12, 5) and len(layout.group) == count == layout.unit.max() + 1
    assert len(np.bincount(layout.group)) == groups
    scores = layout.scores(np.full((12, 5), 2.0))
    assert scores.tolist() == [2.0] * count, "a block at the edge counts as much as another"


@pytest.mark.parametrize("text", ["rows", "0:4", "5:4", "blocks 4", "fan_in 0", "fan_in", 3, None])
def test_no_pattern(text: Any) -> None:
    with pytest.raises(SpecError, match=r"pruning pattern .* is not known; expected 'weights', 'channels'"):
        parse_pattern(text)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.data())
def test_no_group_keeps_more_than_its_pattern_says(rows: int, columns: int, seed: int, draw: st.DataObject) -> None:
    among = draw.draw(st.integers(1, 5))
    most = draw.draw(st.integers(1, among))
    rng = np.random.default_rng(seed)
    for text in (f"{most}:{among}", f"fan_in {most}"):
        layout = parse_pattern(text)(rows, columns)
        sparsity, growth = layout.sparsity(), rng.random(len(layout.group))
        assert sparsity is not None
        counts = layout.counts(sparsity)
        kept = chosen(rng.random(len(layout.group)), growth, layout.group, counts, 0.3)[layout.unit]
        rows_of = [kept[start : start + among] for start in range(0, rows, among)] if ":" in text else [kept]
        assert all((part.sum(axis=0) <= most).all() for part in rows_of)
        assert all((part.sum(axis=0) == min(most, len(part))).all() for part in rows_of)


def test_the_largest_stay_and_some_are_exchanged() -> None:
    scores, group = np.array([5.0, 1, 3, 4, 2, 9]), np.array([0, 0, 0, 1, 1, 1])
    assert largest(scores, group, np.array([2, 1])).tolist() == [True, False, True, False, False, True]
    growth = np.array([0.0, 7, 0, 0, 8, 0])
    kept = chosen(scores, growth, group, np.array([2, 2]), 0.5)
    assert kept.tolist() == [True, True, False, False, True, True], "the smaller of two goes for what grows most"
    relative = comparable(np.array([1.0, 3.0, 2.0]))
    assert np.allclose(relative, [1 / 14, 1.0, 4 / 13]), "each against those that are no smaller"


# training


@pytest.mark.slow
def test_weights_go_as_tfmot_takes_them() -> None:
    """The same masks, step by step, as the wrapper of tfmot makes."""
    wrapped, ours = mlp(), mlp()
    schedule = {"begin_step": 3, "end_step": 9, "frequency": 1, "initial_sparsity": 0.0, "final_sparsity": 0.75}
    tfmot = load_pruning()

    def wrap(layer: Any) -> Any:
        again = type(layer).from_config(layer.get_config())
        if layer.name != "hidden":
            return again
        return tfmot.prune_low_magnitude(again, pruning_schedule=tfmot.PolynomialDecay(**schedule))

    with quiet_warnings(), keras.utils.custom_object_scope({"QDense": qkeras.QDense}):
        wrapped = keras.models.clone_model(ours, clone_function=wrap)
        wrapped.get_layer("prune_low_magnitude_hidden").layer.set_weights(ours.get_layer("hidden").get_weights())
        wrapped.get_layer("logits").set_weights(ours.get_layer("logits").get_weights())
    for model, callback in (
        (wrapped, tfmot.UpdatePruningStep()),
        (ours, Pruning(layers={"hidden": None}, schedule=tfmot.PolynomialDecay(**schedule))),
    ):
        keras.utils.set_random_seed(2)
        fit(model, callback, epochs=3)
    found = kernel(ours, "hidden")
    assert np.array_equal(found, wrapped.get_layer("prune_low_magnitude_hidden").layer.kernel.numpy())
    assert np.count_nonzero(found) == found.size / 4 and np.count_nonzero(kernel(ours, "logits")) == 64


@pytest.mark.parametrize("pattern", ["2:4", "fan_in 2", "blocks 4x2", "channels"])
def test_a_pattern_holds_after_training(pattern: str) -> None:
    model = mlp()
    own = pattern[0] not in "bc"
    fit(model, Pruning(None if own else 0.5, pattern=pattern, end_epoch=3, regrow=0.2))
    found = kernel(model, "hidden") != 0
    if pattern == "2:4":
        assert all((found[start : start + 4].sum(axis=0) == 2).all() for start in range(0, 12, 4))
    elif pattern == "fan_in 2":
        assert (found.sum(axis=0) == 2).all()
    elif pattern == "blocks 4x2":
        blocks = found.reshape(3, 4, 8, 2).transpose(0, 2, 1, 3).reshape(24, 8)
        assert set(blocks.sum(axis=1)) == {0, 8} and blocks.all(axis=1).sum() == 12
    else:
        dead = ~found.any(axis=0)
        assert dead.sum() == 8 and not model.get_layer("hidden").bias.numpy()[dead].any()
        assert (kernel(model, "logits") != 0).all(), "no class goes"


def test_regrowth_exchanges_weights() -> None:
    """With the same number of zeros, weights are there that were zeros before."""
    seen = list[np.ndarray]()
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(kernel(keep.model, "hidden") != 0))
    constant = load_pruning().ConstantSparsity(0.8, begin_step=0, end_step=16, frequency=4)
    fit(mlp(), Pruning(layers={"hidden": None}, schedule=constant, regrow=0.5), keep)
    assert any((after & ~before).any() for before, after in pairwise(seen))
    assert seen[-1].sum() == round(12 * 16 * 0.2)
    with pytest.raises(SpecError, match=r"optimizer SGD keeps no mean gradient .*; use Adam, or SGD with momentum"):
        fit(mlp(), Pruning(0.8, regrow=0.5), optimizer=keras.optimizers.SGD(0.1))


def test_zeros_go_where_they_save_most() -> None:
    """As many in all as each layer's own fraction says, but more where a weight takes more LUTs."""
    model = mlp()
    luts = weight_luts(model)
    fit(model, Pruning(0.6, end_epoch=3, allocate="cost"))
    zeros = {name: np.mean(kernel(model, name) == 0) for name in luts}
    assert sum(np.count_nonzero(kernel(model, name)) for name in luts) == round(0.4 * 192) + round(0.4 * 64)
    assert luts.keys() == {"hidden", "logits"} and min(luts.values()) > 0 and zeros["hidden"] != zeros["logits"]


def test_digits_are_what_a_sum_takes() -> None:
    """A kernel of known weights: sums, bits and how far each reaches below the top of its sum."""
    model = mlp()
    hidden, logits = model.get_layer("hidden"), model.get_layer("logits")
    hidden.set_weights([np.zeros((12, 16)), np.zeros(16)])
    weight = np.zeros((12, 16))
    weight[:3, 0], weight[:2, 1] = (0.5, 0.25, -0.375), 0.125
    hidden.kernel.assign(weight)
    logits.set_weights([np.ones((16, 4)) / 2, np.zeros(4)])
    taken = Features(model).of_layers()["hidden"]
    assert (taken["sums"], taken["sum_bits"]) == (4, 16), "digits 1 + 1 + 2 less one, and 2 less one, of 4 bits"
    with tf.GradientTape() as tape:
        luts = Features(model).luts()
    gradient = tape.gradient(luts, hidden.kernel).numpy()
    assert (np.sign(gradient)[weight != 0] == np.sign(weight)[weight != 0]).all() and not gradient[weight == 0].any()
    logits.set_weights([np.zeros((16, 4)), np.zeros(4)])
    assert Features(model).of_layers()["hidden"]["sums"] == 0, "nothing reads it"


def test_a_training_goes_on_from_its_zeros() -> None:
    """What pruning knows is in the model and its optimizer."""
    model = mlp()
    fit(model, Pruning(0.7, end_epoch=2), epochs=1)
    x, y = data()
    for _ in range(2):
        before = kernel(model, "hidden") == 0
        model.fit(x, y, batch_size=64, verbose=0, callbacks=[Pruning(0.7, end_epoch=2)])
        assert before.any() and not kernel(model, "hidden")[before].any()
    assert np.count_nonzero(kernel(model, "hidden")) == round(192 * 0.3)
    with pytest.warns(UserWarning, match=r"ended before the schedule of its pruning, with \d+% zeros; give an earlier"):
        model.fit(x, y, batch_size=64, verbose=0, callbacks=[Pruning(0.7, end_epoch=9)])


@pytest.mark.slow
def test_each_pattern_arrives_in_the_gates(tmp_path: Path) -> None:
    """Yosys counts fewer LUTs than without pruning, the model stays bit exact, and dead neurons leave the graph."""
    pytest.importorskip("pyosys")
    x, y = data()

    def built(*callbacks: Any) -> tuple[int, Any]:
        model = mlp()
        fit(model, *callbacks)
        report = flow.build(
            model, flow.Target(backend="rtl"), flow.BuildOptions(until="synth", output=tmp_path), x=x, y=y
        )
        assert report.bit_exact
        counted = next(entry for entry in report.document["resources"] if entry["source"] == "yosys")
        return counted["lut"], report.document["layers"]

    whole, _ = built()
    for pattern in ("weights", "2:4", "blocks 4x2", "channels", "fan_in 3"):
        luts, layers = built(
            Pruning(None if pattern[-1].isdigit() and "x" not in pattern else 0.5, pattern=pattern, end_epoch=3)
        )
        assert luts < 0.8 * whole, pattern
        hidden = next(layer for layer in layers if layer["name"] == "hidden")
        assert pattern != "channels" or hidden["weights"] <= 12 * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "pattern 'weights' needs a sparsity; such as Pruning"),
        ({"sparsity": 1.0}, "sparsity 1.0 is no fraction"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "pattern '2:4' says itself how many weights stay; give no sparsity"),
        ({"layers": {"hidden": 0.5}, "pattern": "fan_in 3"}, "says itself how many"),
        ({"sparsity": 0.5, "begin_epoch": 3, "end_epoch": 3}, "begin_epoch 3 is not before end_epoch 3"),
        ({"sparsity": 0.5, "allocate": "best"}, "allocate is 'best'; expected layer or cost"),
        ({"pattern": "2:4", "allocate": "cost"}, "pattern '2:4' allocates itself"),
        ({"sparsity": 0.5, "regrow": 1}, "regrow 1 is no fraction"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Pruning(**arguments)


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(SpecError, match="no layer 'hiden' with a kernel to prune; there are: hidden, logits"):
        fit(mlp(), Pruning(layers={"hiden": 0.5}))
