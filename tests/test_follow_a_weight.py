"""The walk in docs/architecture.md, taken: each function is called, in that order, and the numbers are those told."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, needs_compiler

from flow.pipeline import BuildOptions, build

fixtures = pytest.importorskip("fixtures_keras")
ROW = re.compile(r"^\| `(\w+)` \| `(flow/[\w/]+\.py)` \|", re.MULTILINE)
TOLD = [(path, name) for name, path in ROW.findall((REPOSITORY / "docs" / "architecture.md").read_text())]
pytestmark = [needs_compiler, pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")]


def my_model(path: Path) -> Path:
    """Save a model with a dense layer that has a weight of -0.24."""
    qkeras, keras = fixtures.qkeras, fixtures.keras
    bias = "quantized_bits(6,2,1,alpha=1.0)"

    def dense(units: int, name: str) -> Any:
        return qkeras.QDense(units, kernel_quantizer="quantized_po2(4,1)", bias_quantizer=bias, name=name)

    model = keras.Sequential(
        [
            keras.Input((4,)),
            qkeras.QActivation("quantized_relu(4,0)", name="port"),
            dense(3, "hidden"),
            qkeras.QActivation("quantized_relu(5,2)", name="act"),
            dense(2, "scores"),
        ]
    )
    kernel = np.full((4, 3), 0.5, np.float32)
    kernel[0, 0], kernel[1, 1] = -0.24, 1.0
    model.get_layer("hidden").set_weights([kernel, np.zeros(3, np.float32)])
    return Path(fixtures.save(model, path))


def test_each_function_is_called_in_the_order_told(tmp_path: Path) -> None:
    path, calls = my_model(tmp_path / "my_model.h5"), []
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((20, 4)))

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name in names:
            place = frame.f_code.co_filename.removeprefix(f"{REPOSITORY}/")
            calls.append((place, frame.f_code.co_name))

    names = {name for _, name in TOLD}
    options = BuildOptions(inputs=tmp_path / "x.npy", output=tmp_path / "runs", adversarial=16)
    sys.setprofile(note)
    try:
        report = build(path, options=options)
    finally:
        sys.setprofile(None)
    assert report.bit_exact and len(TOLD) > 20
    rest = iter(calls)
    missing = [step for step in TOLD if step not in rest]  # each is looked for behind the one before
    assert not missing
    run = Path(report.document["run_dir"])
    assert "= {-0.25, " in (run / "project/firmware/weights/w2.h").read_text()
    (hidden,) = (layer for layer in report.document["layers"] if layer["name"] == "hidden")
    assert (hidden["weights"], hidden["accumulator_bits"]) == (12, 9)
    assert hidden["weight_format"] == {"signed": True, "int_bits": 1, "frac_bits": 2}
