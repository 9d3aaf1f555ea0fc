"""Software inference: exact in float32 where that can be proved, in float64 elsewhere, and refused beyond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixtures_keras import bits, conv_parts, dense, functional, keras, layers, mlp_parts, po2, qkeras, save, sequential

from flow import reference
from flow.adversarial import adversarial_inputs
from flow.errors import UnsupportedError
from flow.extraction import extract
from flow.fixed import FixedFormat
from flow.graph import IntGraph
from flow.passes import lower
from flow.train import inference, quiet_warnings
from flow.train.inference import double_model, exact_in
from flow.train.reader import KerasModel, read_keras

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
BYTE = FixedFormat(True, 0, 7)


def read(model: Any, directory: Any) -> KerasModel:
    return read_keras(save(model, directory / "model.h5"))


def compare(found: KerasModel, fmt: FixedFormat | None = None, count: int = 64) -> tuple[str, IntGraph]:
    """Check that QKeras and the reference agree on every op; return the arithmetic used and the graph."""
    extracted = extract(found.trained, fmt)
    lowered = lower(extracted)
    codes = adversarial_inputs(lowered, count)
    result = inference.run(found.keras, found.trained, extracted, lowered, codes)
    expected = reference.run(lowered, codes)
    assert result.level == "qkeras"
    assert result.codes.keys() == expected.codes.keys()
    for op in lowered.ops:
        np.testing.assert_array_equal(result.codes[op.name], expected.codes[op.name], op.name)
    return result.arithmetic, lowered


CAST = "quantized_bits(4,0,alpha=1)"
MODELS: dict[str, tuple[tuple[int, ...], Any, str]] = {
    "everything": ((8, 8, 1), conv_parts, "float64"),
    "mlp": ((8,), mlp_parts, "float32"),
    "quantizers": (
        (6,),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            dense(5, "a", bits(5, 1, keep_negative=False, alpha=1)),
            qkeras.QActivation("quantized_bits(5,2,1,alpha=1)", name="symmetric"),
            dense(5, "b", bits(5, 0, symmetric=True, alpha=1)),
            qkeras.QActivation("quantized_bits(4,1,keep_negative=False,alpha=1)", name="positive"),
            dense(5, "c", bits(3, 0)),
            qkeras.QActivation("quantized_relu(3,5)", name="coarse"),
            dense(5, "d", po2(5)),
            layers.ReLU(name="plain_relu"),
        ],
        "float32",
    ),
    "same padding": (
        (7, 6, 2),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            qkeras.QConv2D(
                3, (3, 2), strides=2, padding="same", use_bias=False, kernel_quantizer=po2(4, 1), name="strided"
            ),
            qkeras.QActivation("quantized_relu(4,2)", name="cast"),
            layers.MaxPooling2D(2, strides=1, padding="same", name="pool"),
            qkeras.QConv2D(2, 1, kernel_quantizer=bits(4, 0), bias_quantizer=bits(4, 0, alpha=1), name="pointwise"),
            layers.Flatten(name="flat"),
        ],
        "float32",
    ),
    "symmetric port": (
        (6,),
        lambda: [qkeras.QActivation("quantized_bits(5,0,1,alpha=1)", name="port"), dense(4, "a")],
        "float32",
    ),
    "softmax, then dropout": (
        (6,),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            dense(4, "a"),
            layers.Dropout(0.5, name="drop"),
            layers.Softmax(name="softmax"),
            layers.Dropout(0.5, name="last"),
        ],
        "float32",
    ),
    "softmax of a quantizer layer": (
        (6,),
        lambda: [qkeras.QActivation(CAST, name="port"), dense(4, "a"), qkeras.QActivation("softmax", name="softmax")],
        "float32",
    ),
}


@pytest.mark.parametrize("what", MODELS)
@pytest.mark.parametrize("make", [sequential, functional])
def test_qkeras_and_reference_are_equal(what: str, make: Any, tmp_path: Any) -> None:
    shape, parts, arithmetic = MODELS[what]
    with quiet_warnings():
        found = read(make(shape, *parts()), tmp_path)
    assert compare(found)[0] == arithmetic


def test_a_port_without_a_quantizer_carries_what_the_user_said(tmp_path: Any) -> None:
    found = read(sequential((6,), dense(4, "a", activation="quantized_relu(4,1)"), dense(3, "b")), tmp_path)
    assert compare(found, BYTE)[1].input.format == BYTE


def wide(bits_in: int) -> Any:
    kernel = bits(16, 0, alpha=1)
    port = qkeras.QActivation(f"quantized_bits({bits_in},0,alpha=1)", name="port")
    return sequential((4,), port, qkeras.QDense(3, kernel_quantizer=kernel, use_bias=False, name="a"))


def test_the_arithmetic_follows_from_the_intervals(tmp_path: Any) -> None:
    narrow, broad = read(wide(5), tmp_path), read(wide(16), tmp_path)
    assert exact_in(extract(narrow.trained), 24)
    assert not exact_in(extract(broad.trained), 24)
    assert compare(narrow)[0] == "float32"
    assert compare(broad)[0] == "float64"


def test_sums_beyond_53_bits_are_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(wide(16), tmp_path)
    monkeypatch.setattr(inference, "FLOAT64_BITS", 20)
    with pytest.raises(UnsupportedError, match="sums need more than 20 bits"):
        compare(found)


def test_values_off_the_grid_are_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(sequential((4,), dense(3, "a")), tmp_path)
    monkeypatch.setattr(inference, "_outputs", lambda model, names, inputs: [np.full((len(inputs), 3), 1e-9)])
    with pytest.raises(UnsupportedError, match="not on the grid"):
        compare(found, BYTE)


def test_the_float64_model_is_the_same_model(tmp_path: Any) -> None:
    """On inputs where float32 is exact, both give the same numbers."""
    with quiet_warnings():
        found = read(sequential((8,), *mlp_parts()), tmp_path)
        inputs = np.random.default_rng(2).integers(-8, 8, (40, 8)) / 8
        single = keras.Model(found.keras.inputs, found.keras.get_layer("quantize").output)
        double = double_model(found.trained)
        double = keras.Model(double.inputs, double.get_layer("quantize").output)
        assert double.output.dtype == "float64"
        np.testing.assert_array_equal(
            single.predict(inputs.astype(np.float32), verbose=0), double.predict(inputs, verbose=0)
        )
