"""Command lines of a report: what the command line makes of them is what was asked for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from flow.cli import _parser
from flow.commands import build_command, commands
from flow.ir.fixed import Rounding
from flow.options import read_options, read_quantize_options, read_target
from flow.pipeline import BuildOptions, QuantizeOptions
from flow.quantization.settings import QuantSettings
from flow.target import Target


@pytest.mark.parametrize(
    "target",
    [
        Target(),
        Target(io_type="io_stream", strategy="Resource", reuse_factor=4, reuse_factors=(("conv1", 3), ("fc", 7))),
        Target(backend="Vivado", part="xc7z020clg400-1", clock_period_ns=3.3333333333333335),
        Target(backend="Quartus"),
        Target(backend="rtl", io_type="io_stream"),
        Target(backend="Libero", part="MPF500"),
    ],
    ids=lambda target: target.backend,
)
@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(),
        BuildOptions(samples=7, adversarial=16, until="emit", output=Path("runs here"), softmax="ufixed<8,0>"),
        BuildOptions(weights=Path("w.h5"), inputs=Path("x y.npy"), labels=Path("l.npy"), input_format="fixed<6,2>"),
    ],
    ids=["defaults", "numbers", "files"],
)
def test_a_build_is_asked_for_again(target: Target, options: BuildOptions) -> None:
    words = shlex.split(build_command("my model.h5", target, options))
    arguments = _parser().parse_args(words[1:])
    assert (words[:3], arguments.model) == (["flow", "build", "my model.h5"], Path("my model.h5"))
    assert (read_target(arguments), read_options(arguments)) == (target, options)


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": "po2", "weight_bits": 5, "rounding": Rounding.RND, "choose": "kl", "points": "op", "seed": 9},
        {"per_channel": False, "equalize": True, "bias_correction": True, "budget_bits": 5.5, "sweeps": 2},
    ],
    ids=["kinds", "switches"],
)
def test_a_quantization_is_asked_for_again(settings: dict[str, Any]) -> None:
    options = QuantizeOptions(weights=Path("w.h5"), calibration=Path("c.npy"), settings=QuantSettings(**settings))
    words = shlex.split(build_command("m.json", Target(), options))
    assert words[:5] == ["flow", "quantize", "m.json", "--weights-file", "w.h5"]
    assert read_quantize_options(_parser().parse_args(words[1:])) == options


def test_defaults_are_not_written() -> None:
    assert build_command("digits_mlp", Target(), BuildOptions()) == "flow build digits_mlp"


def test_a_model_with_a_spec_is_trained_first() -> None:
    again = commands("m", Target(), BuildOptions(), trained_here=True)
    assert again == ("flow train m", "flow build m")
    assert commands("m.h5", Target(), BuildOptions(), trained_here=False) == ("flow build m.h5",)
    for line in again:
        _parser().parse_args(shlex.split(line)[1:])
