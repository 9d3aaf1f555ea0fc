"""Every kind of activation behind sums of 17 to 40 bits: what the graph computes is what QKeras computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_keras import bits, layers, qkeras, save, sequential

from flow.data.adversarial import adversarial_inputs
from flow.frontend.extraction import extract, steps
from flow.ir import reference
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Lookup
from flow.ir.passes import lower
from flow.train import inference
from flow.train.functions import evaluate
from flow.train.reader import read_keras

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
QUANTIZERS = [
    "quantized_relu(6,1,negative_slope=0.25)",
    "quantized_relu(6,2,use_sigmoid=1)",
    "quantized_relu_po2(4,2)",
    "quantized_po2(4,2)",
    "quantized_tanh(5)",
    "quantized_tanh(5,use_real_tanh=True)",
    "quantized_sigmoid(5)",
    "quantized_sigmoid(5,use_real_sigmoid=True)",
    "binary(alpha=1)",
    "ternary(alpha=1,threshold=0.3)",
    "stochastic_ternary(alpha=1,threshold=0.3)",
    "stochastic_binary(alpha=1)",
    "quantized_bits(1,0,alpha=1)",
    "quantized_bits(6,1,alpha=0.5)",
    "quantized_bits(6,1,alpha=4)",
]
FUNCTIONS = ["tanh", "sigmoid", "softsign", "elu", "selu", "softplus", "gelu", "swish", "mish"]
WIDTHS = (17, 19, 24, 25, 28, 33, 36, 40)


def wide(width: int, *behind: Any) -> Any:
    """Return a model of a sum of about so many bits, batch norm or not, and what reads it."""
    port = qkeras.QActivation("quantized_bits(12,1,alpha=1)", name="port")
    kernel = bits(width - 14, 0, alpha=1)
    return sequential((3,), port, qkeras.QDense(3, kernel_quantizer=kernel, use_bias=False, name="sum"), *behind)


def differences(model: Any, path: Path) -> dict[str, int]:
    """Return, op by op, how many codes of the reference are not QKeras'."""
    found = read_keras(save(model, path))
    extracted = extract(found.trained, evaluate=evaluate)
    lowered = lower(extracted)
    codes = adversarial_inputs(lowered, 256)
    own = inference.run(found.keras, found.trained, extracted, lowered, codes).codes
    expected = reference.run(lowered, codes).codes
    assert lowered.output.name in own
    return {name: int(np.count_nonzero(values != expected[name])) for name, values in own.items()}


def behind(name: str, normalized: bool) -> list[Any]:
    norm = [layers.BatchNormalization(name="norm")] * normalized
    if name in FUNCTIONS:
        return [*norm, layers.Activation(name, name="f"), qkeras.QActivation("quantized_bits(7,1,alpha=1)", name="q")]
    return [*norm, qkeras.QActivation(name, name="q")]


def next_to_steps(name: str, fmt: FixedFormat, path: Path) -> int:
    """Return how many codes next to the steps of a function QKeras and the graph tell apart; some are precise."""
    model = sequential((64,), *behind(name, False))
    found = read_keras(save(model, path))
    extracted = extract(found.trained, fmt, evaluate=evaluate)
    lowered = lower(extracted)
    op = extracted.output
    assert isinstance(op, Lookup) and op.precise[-1:] in ((), ("q",))
    near, _ = steps._around(op.starts[1:], fmt)
    codes = np.resize(near, (-(-near.size // 64), 64))
    own = inference.run(found.keras, found.trained, extracted, lowered, codes)
    assert not op.precise or own.arithmetic == "float64"
    return np.count_nonzero(own.codes[op.name] != reference.run(lowered, codes).codes[op.name])


@pytest.mark.parametrize(("width", "name"), [(22, "gelu"), (40, "quantized_po2(4,2)"), (12, "sigmoid"), (40, "tanh")])
def test_functions_that_tensorflow_approximates_are_exact(width: int, name: str, tmp_path: Path) -> None:
    """Next to a step its float32 gives two values, or falls: then both sides compute in float64."""
    assert next_to_steps(name, FixedFormat(True, 3, width - 4), tmp_path / "m.h5") == 0


@pytest.mark.parametrize("name", ["quantized_relu(6,1,negative_slope=0.25)", "quantized_bits(6,1,alpha=0.5)"])
def test_quantizers_are_exact_beside_large_sums(name: str, tmp_path: Path) -> None:
    """Their x + (xq - x) has no bit of xq left there in float32."""
    assert next_to_steps(name, FixedFormat(True, 36, 3), tmp_path / "m.h5") == 0


@pytest.mark.parametrize(
    ("width", "quantizer", "op"),
    [(20, "quantized_relu(6,1)", "batchnorm"), (24, "quantized_bits(4,1,alpha=1)", "lookup"), (24, "binary", "lookup")],
)
def test_batch_norms_beyond_63_bits_are_exact_in_fewer(width: int, quantizer: str, op: str, tmp_path: Path) -> None:
    """Factors from 77 to 1e-4 behind a sum of 36 or 40 bits need 66 and more."""
    port = qkeras.QActivation("quantized_bits(16,1,alpha=1)", name="port")
    dense = qkeras.QDense(3, kernel_quantizer=bits(width, 0, alpha=1), use_bias=False, name="sum")
    norm = layers.BatchNormalization(name="norm")
    model = sequential((3,), port, dense, norm, layers.ReLU(name="relu"), qkeras.QActivation(quantizer, name="q"))
    statistics = [0.9, 1.31e-4, -77.0], [0.1, -0.1, 0.3], [0.1, 0.2, -0.1], [0.7, 0.3, 1.9]
    norm.set_weights([np.float32(each) for each in statistics])
    assert not any(differences(model, tmp_path / "m.h5").values())
    trained = read_keras(tmp_path / "m.h5").trained
    assert lower(extract(trained, evaluate=evaluate)).ops[-1].kind == op


@pytest.mark.slow
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", [*QUANTIZERS, *FUNCTIONS])
def test_every_kind_at_every_width(name: str, normalized: bool, tmp_path: Path) -> None:
    """The table of docs/numerics.md."""
    for width in WIDTHS:
        wrong = differences(wide(width, *behind(name, normalized)), tmp_path / f"m{width}.h5")
        assert not any(wrong.values()), (width, wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUANTIZERS, *FUNCTIONS])
def test_every_kind_next_to_its_steps(name: str, tmp_path: Path) -> None:
    for width, integer in ((16, 3), (20, 3), (24, 3), (25, 3), (40, 3), (40, 28)):
        assert next_to_steps(name, FixedFormat(True, integer, width - 1 - integer), tmp_path / "m.h5") == 0
