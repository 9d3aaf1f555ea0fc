"""Element-wise functions are what `Model.predict` gives, wherever in a tensor a value stands, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixtures_keras import keras, layers, qkeras
from keras_configs import layer, model, port

from flow.errors import UnsupportedError
from flow.frontend.extraction import extract
from flow.frontend.keras.quantizers import FUNCTIONS, POSITIONAL
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Lookup
from flow.train import functions, quiet_warnings
from flow.train.functions import evaluate

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
GRID = (np.arange(-512, 512) / 64).astype(np.float32)


def activation(entry: Any, class_name: str = "QActivation") -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": "odd", "activation": entry}}


def predicted(*parts: Any) -> Any:
    """Return what Keras gives for the grid; 1,024 values fill whole packets, so nothing is computed one by one."""
    with quiet_warnings():
        model = keras.Sequential([layers.InputLayer((GRID.size,)), *parts])
        return model.predict(GRID[None], verbose=0)[0]


TEXTS = (
    "quantized_bits(5,2)",
    "quantized_bits(5,2,1)",
    "quantized_bits(4,1,keep_negative=False)",
    "quantized_bits(1,0)",
    "quantized_bits(4,1,alpha=0.5)",
    "quantized_relu(4,1)",
    "quantized_relu(4,1,1)",
    "quantized_relu(5,1,0,0.25)",
    "quantized_relu(4,1,relu_upper_bound=1.5,is_quantized_clip=False)",
    "quantized_po2(4)",
    "quantized_po2(4,2,log2_rounding='floor')",
    "quantized_relu_po2(4,3,0.25)",
    "quantized_tanh(4,use_real_tanh=True)",
    "quantized_sigmoid(4,1)",
    "quantized_hswish(6,2)",
    "binary()",
    "ternary()",
    "stochastic_ternary()",
    "stochastic_binary()",
    "hard_sigmoid",
    "smooth_tanh",
    "binary_tanh",
    "relu6",
    "tanh",
)


@pytest.mark.parametrize("text", TEXTS)
def test_quantizers_and_functions_are_what_keras_predicts(text: str) -> None:
    np.testing.assert_array_equal(evaluate([activation(text)], GRID), predicted(qkeras.QActivation(text)))


WIDE = (
    *("quantized_bits(1,0)", "quantized_bits(4,1,alpha=0.5)", "quantized_relu(5,1,0,0.25)", "quantized_relu(4,1,1)"),
    *("quantized_po2(4)", "quantized_relu_po2(4,3,0.25)", "quantized_tanh(8)", "quantized_sigmoid(6)"),
    *("quantized_tanh(4,use_real_tanh=True)", "binary()", "ternary()", "stochastic_ternary()", "stochastic_binary()"),
    *("tanh", "elu"),
)


def test_functions_of_wide_sums_are_what_qkeras_gives_on_both_sides_of_each_step() -> None:
    checked_steps("quantized_relu(5,1,0,0.25)", FixedFormat(True, 9, 10), 1000)
    checked_steps("quantized_relu_po2(4,3,0.25)", FixedFormat(True, 19, 20), 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fmt", [FixedFormat(True, 6, 10), FixedFormat(True, 10, 13), FixedFormat(True, 19, 20)], ids=str
)
@pytest.mark.parametrize("text", WIDE)
def test_functions_of_wide_sums(text: str, fmt: FixedFormat) -> None:
    checked_steps(text, fmt, 100_000)


def checked_steps(text: str, fmt: FixedFormat, count: int) -> None:
    """Hold the steps of a function against QKeras at random codes of every magnitude, and next to each step."""
    entries = [layer("QActivation", "act", activation=text)]
    if text in FUNCTIONS:
        entries.append(layer("QActivation", "cast", activation="quantized_bits(6,1,alpha=1)"))
    op = extract(model(port(3), *entries), fmt, evaluate=evaluate).output
    assert isinstance(op, Lookup)
    rng = np.random.default_rng(5)
    near = op.starts[1:, None] + rng.integers(-300, 300, (len(op.starts) - 1, 1 + 10 * count // 1000))
    codes = np.concatenate([rng.integers(fmt.min_code, fmt.max_code, count), near.reshape(-1)])
    codes = np.concatenate(
        [codes >> rng.integers(0, fmt.width, codes.size), near.reshape(-1), op.starts, op.starts[1:] - 1]
    )
    codes = np.clip(codes, fmt.min_code, fmt.max_code)
    wanted = evaluate(entries, np.ldexp(codes.astype(np.float32), -fmt.frac_bits))
    np.testing.assert_array_equal(np.ldexp(op.value_of(codes), -op.format.frac_bits), wanted)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in functions.QKERAS_FUNCTIONS[1:]])
def test_a_function_with_a_quantizer_behind_it(name: str) -> None:
    cast = "quantized_bits(7,3,alpha=1)"
    with quiet_warnings():
        wanted = predicted(layers.Activation(name), qkeras.QActivation(cast))
    np.testing.assert_array_equal(evaluate([activation(name, "Activation"), activation(cast)], GRID), wanted)


LAYERS = {
    "ReLU": layers.ReLU(6.0, 0.25, 0.5),
    "LeakyReLU": layers.LeakyReLU(0.3),
    "ThresholdedReLU": layers.ThresholdedReLU(0.75),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    entry = {"class_name": name, "config": LAYERS[name].get_config()}
    np.testing.assert_array_equal(evaluate([entry], GRID), predicted(LAYERS[name]))


def test_an_average_is_a_product_with_the_reciprocal() -> None:
    """As `Model.predict` computes Keras' `Average`: eager calls divide."""
    inputs = [layers.Input((1,)) for _ in range(49)]
    model = keras.Model(inputs, layers.Average()(inputs))
    sums = np.arange(1, 200, dtype=np.float32)
    with quiet_warnings():
        wanted = model.predict([sums[:, None], *([0 * sums[:, None]] * 48)], verbose=0)[:, 0]
    found = evaluate([{"class_name": "Average", "config": {"count": 49}}], sums)
    np.testing.assert_array_equal(found, wanted)
    assert (found != sums / np.float32(49)).any()


def test_the_same_name_means_another_function_in_layers_of_qkeras() -> None:
    ours, theirs = (evaluate([activation("hard_sigmoid", kind)], GRID) for kind in ("QActivation", "Activation"))
    np.testing.assert_array_equal(ours, np.clip(GRID / 2 + np.float32(0.5), 0, 1))
    np.testing.assert_array_equal(theirs, predicted(layers.Activation("hard_sigmoid")))
    assert (ours != theirs).any()


def test_values_that_depend_on_their_place_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"layer 'odd': .* depend in TensorFlow on where"):
        evaluate([activation("sigmoid", "Activation")], GRID)


def test_many_values_take_several_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate([activation("quantized_tanh(6)")], GRID)
    monkeypatch.setattr(functions, "CHUNK", 100)
    np.testing.assert_array_equal(evaluate([activation("quantized_tanh(6)")], GRID), whole)
    assert evaluate([activation("quantized_tanh(6)")], GRID[:0]).shape == (0,)


def test_results_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="value at 100 is not finite"):
        evaluate([activation("exponential", "Activation")], np.float32([0, 100]))


def test_what_qkeras_itself_cannot_run_is_refused() -> None:
    """It would raise the integer 2 to a negative integer, which TensorFlow does not."""
    with pytest.raises(UnsupportedError, match="integer=-1 is not a whole number of bits from 0"):
        evaluate([activation("quantized_hswish(4,-1)")], GRID)


REFUSED = {
    "bernoulli": (activation("bernoulli()"), "random"),
    "stochastic rounding": (activation("stochastic_round"), "random"),
    "scale of a batch": (activation("binary(alpha='auto')"), "more than one element"),
    "scale per channel": (
        activation({"class_name": "quantized_bits", "config": {"bits": 4, "alpha": [1.0, 0.5]}}),
        "more than one element",
    ),
    "arguments": (activation("quantized_bits(4,colour=1)"), "has no argument 'colour'"),
    "slope": (activation("quantized_relu(4,1,0,0.3)"), "negative_slope=0.3 is not 0 or a power of two"),
    "unknown": (activation("system"), "'system' is not supported"),
    "of QKeras only": (activation("smooth_tanh", "Activation"), "'smooth_tanh' is not supported"),
    "softmax": (activation("softmax"), "'softmax' is not supported"),
    "arguments of a function": (activation("tanh(1)"), "'tanh' is not supported"),
    "code": (activation("__import__('os').getcwd()"), "cannot be read"),
    "layer": ({"class_name": "Lambda", "config": {}}, "Lambda is not an element-wise layer"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_function_of_one_element_is_refused(what: str) -> None:
    entry, words = REFUSED[what]
    with pytest.raises(UnsupportedError, match=words):
        evaluate([entry], GRID)


@pytest.mark.parametrize("name", POSITIONAL)
def test_every_quantizer_can_be_made(name: str) -> None:
    few = np.float32([-1, 0.25, 1])
    cast = activation("quantized_bits(8,2,alpha=1)")
    assert evaluate([activation({"class_name": name, "config": {}}), cast], few).shape == few.shape
