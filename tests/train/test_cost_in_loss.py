"""Cost in the loss: formats and zeros are learned under it, and QKeras' quantizers come back; budgets are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flow.errors import SpecError, ToolMissingError, UnsupportedError
from flow.train import load_tensorflow, quiet_warnings

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

from flow.train.cost_in_loss import LutCost
from flow.train.learned import LearnedFormat, learn, settle
from flow.train.lut_cost import Features
from flow.train.pruning import Pruning

tf, keras, qkeras = load_tensorflow()
BITS = "quantized_bits(5,0,1,alpha=1)"


@quiet_warnings()
def mlp() -> Any:
    keras.utils.set_random_seed(1)
    first = keras.Input((12,))
    tensor = qkeras.QActivation("quantized_bits(6,0,0,1,alpha=1.0)", name="port")(first)
    tensor = qkeras.QDense(16, kernel_quantizer=BITS, bias_quantizer=BITS, name="hidden")(tensor)
    tensor = qkeras.QActivation("quantized_relu(6,1)", name="relu")(tensor)
    tensor = qkeras.QActivation("quantized_tanh(6)", name="tanh")(tensor)
    return keras.Model(first, qkeras.QDense(4, kernel_quantizer=BITS, bias_quantizer=BITS, name="logits")(tensor))


def fit(model: Any, *callbacks: Any, epochs: int) -> list[float]:
    rng = np.random.default_rng(3)
    x = np.float32(rng.integers(-16, 16, (256, 12)) / 16)
    y = x[:, :4].argmax(axis=1)
    with quiet_warnings():
        model.compile(keras.optimizers.Adam(0.03), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return list(
            model.fit(x, y, epochs=epochs, batch_size=64, verbose=0, callbacks=list(callbacks)).history.get("luts", [])
        )


@quiet_warnings()
def test_a_learned_format_is_a_quantizer_of_qkeras() -> None:
    """The same values and gradients that say which bits are worth something."""
    x = np.concatenate([np.linspace(-5, 5, 999), np.arange(-40, 40) / 16]).astype(np.float32)
    layer = qkeras.QActivation("quantized_relu(4,1)")
    for signed, integer, fraction in ((False, 1, 3), (False, 3, -1), (True, 2, 0), (True, 0, 3), (False, -1, -3)):
        learned = LearnedFormat(signed, integer, fraction)
        learned.top.assign_add(0.3)
        learned.fraction.assign_add(-0.4)
        learn(layer, learned)
        assert {id(variable) for variable in layer.trainable_weights} == {id(learned.top), id(learned.fraction)}
        with quiet_warnings():
            values = layer(x).numpy()
            settle(layer, learned)
            assert np.array_equal(values, layer(x).numpy()) and not layer.weights
            again = qkeras.QActivation(layer.get_config()["activation"])
            assert np.array_equal(values, again(x).numpy())
    learned = LearnedFormat(False, 0, 2)
    with tf.GradientTape(persistent=True) as tape:
        clamped, rounded = learned(tf.constant([3.0])), learned(tf.constant([0.3]))
    assert tape.gradient(clamped, learned.top).numpy() > 0 and tape.gradient(rounded, learned.top) in (None, 0)
    assert tape.gradient(rounded, learned.fraction).numpy() == pytest.approx(np.log(2) * (0.3 - 0.25))


def test_a_model_becomes_cheaper_and_stays_so() -> None:
    model = mlp()
    first = float(Features(model).luts())
    cost = LutCost(model, 1e-3, end_epoch=6)
    assert cost.formats.keys() == {"port", "relu"}, "a table has no format to learn"
    luts = fit(model, cost, epochs=9)
    assert luts[-1] < 0.7 * first
    assert float(cost.weight) == 0 and abs(luts[-1] / luts[6] - 1) < 0.1, "it trains on with what it has"
    found = [str(model.get_layer(name).activation) for name in ("port", "relu")]
    assert all(text.startswith("quantized_") for text in found) and found[1] != "quantized_relu(6,1)"
    assert float(Features(model).luts()) == pytest.approx(luts[-1], rel=0.02)


def test_a_budget_is_kept() -> None:
    """Of what is estimated, beside a cost in the loss and without it."""
    for callbacks in ([], [1e-4]):
        model = mlp()
        costs = [LutCost(model, weight, end_epoch=7) for weight in callbacks]
        fit(model, *costs, Pruning(luts=600, end_epoch=6, begin_epoch=1), epochs=8)
        assert 420 < float(Features(model).luts()) < 690
    with pytest.raises(SpecError, match=r"a budget of 0 LUTs needs a number above 0, .*; such as Pruning"):
        Pruning(luts=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": 0}, "weight is 0; expected a number above 0"),
        ({"weight": 1e-4, "begin_epoch": 5, "end_epoch": 5}, "begin_epoch 5 is not before end_epoch 5"),
        ({"weight": 1e-4, "io_type": "stream"}, "io_type is 'stream'; expected io_parallel or io_stream"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        LutCost(mlp(), **arguments)


def test_a_model_without_kernels() -> None:
    first = keras.Input((3,))
    with pytest.raises(UnsupportedError, match="no layer has a kernel"):
        LutCost(keras.Model(first, keras.layers.ReLU()(first)), weight=1e-3)
