"""`flow quantize` on the command line and from Python: reports, resuming, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import flow, needs_compiler, refused, run_directories
from float_models import float_model, inputs
from processes import Holder

import flow as package
from flow.ir.fixed import Rounding
from flow.pipeline import QuantizeOptions, load_report
from flow.quantization import thresholds
from flow.quantization.settings import QuantSettings
from flow.report.text import to_markdown, to_text
from flow.train import quiet_warnings


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("digits")
    found = flow("quantize", "digits_mlp", "--output", output, "--samples", 100, "--adversarial", 64, "--json")
    assert found.code == 0, found.err
    return found.report()


@pytest.fixture(scope="module")
def user_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a user's float model, calibration samples, inputs and labels."""
    place = tmp_path_factory.mktemp("user")
    model, _ = float_model("residual")
    with quiet_warnings():
        model.save(place / "my_net.h5")
        labels = model.predict(inputs("residual"), verbose=0).argmax(axis=1)
    np.save(place / "c.npy", inputs("residual"))
    np.save(place / "x.npy", inputs("residual", 48))
    np.save(place / "y.npy", labels[:48])
    return place


def test_a_second_search_of_the_same_model_waits_for_the_first(tmp_path: Path) -> None:
    asked = ("quantize", "digits_mlp", "--until", "extract", "--output", tmp_path)
    assert flow(*asked).code == 0
    (searched,) = (tmp_path / ".read").glob("quantize-*")
    with Holder(searched, 0.5) as first:
        assert first.line() == "held"
        again = flow(*asked)
    assert again.code == 0
    assert again.err.startswith(f"flow: waiting for {searched}, held by process {first.pid} on ")


def settings_of(*words: object) -> list[str]:
    return [str(word) for word in words]


@needs_compiler
def test_a_float_twin_becomes_a_verified_project(digits: dict[str, Any]) -> None:
    verdict = digits["verdict"]
    assert verdict["bit_exact"] and verdict["compared"] == ["reference", "csim"] and verdict["samples"] == 100
    accuracy = digits["accuracy"]
    assert accuracy["quantized"] == accuracy["hardware"] and abs(accuracy["float"] - accuracy["hardware"]) <= 0.02
    assert accuracy["float_at_training"] > 0.97 and accuracy["qkeras"] is None
    found = digits["quantization"]
    assert [row["ops"] for row in found["counts"]] == [7, 5, 3, 3]
    assert [module["name"] for module in found["modules"]] == ["dense1", "dense2", "logits"]
    assert found["calibration"]["samples"] == 128
    assert digits["provenance"]["commands"][-1].startswith("flow quantize digits_mlp ")


@needs_compiler
def test_reports_say_how_it_was_quantized(digits: dict[str, Any]) -> None:
    report = load_report(Path(digits["run_dir"]))
    for text in (to_text(report), to_markdown(report), (Path(digits["run_dir"]) / "report.html").read_text()):
        assert "8-bit activations, 8-bit weights (integers)" in text
        assert "after every op" in text and "unified modules" in text
        assert "quantized" in text and "128" in text


@needs_compiler
def test_a_run_of_a_float_model_is_compared_again(digits: dict[str, Any]) -> None:
    found = flow("compare", digits["run_dir"])
    assert found.code == 0 and "BIT EXACT: reference = csim" in found.out
    refused(flow("compare", digits["run_dir"], "--levels", "qkeras", "csim"), "are not two of reference, csim")


def test_a_users_model_with_all_options(user_files: Path, tmp_path: Path) -> None:
    spec = tmp_path / "widths.toml"
    spec.write_text("bits = 7\n[layers.stem]\nweight_bits = 5\n")
    words = ["--spec", spec, "--bits", 6, "--rounding", "AP_RND", "--per-tensor", "--bias-correction", "--equalize"]
    words += ["--weight-rounding", "reconstruct", "--candidates", 3, "--calibration-samples", 32, "--seed", 5]
    given = ["--calibration", user_files / "c.npy", "--inputs", user_files / "x.npy", "--labels", user_files / "y.npy"]
    found = flow(
        "quantize", user_files / "my_net.h5", *given, *words, "--until", "emit", "--output", tmp_path, "--json"
    )
    assert found.code == 0, found.err
    report = found.report()
    settings = report["quantization"]["settings"]
    assert (settings["bits"], settings["rounding"], settings["per_channel"]) == (6, "AP_RND", False)
    assert report["quantization"]["modules"][0]["weight_bits"] == 5
    assert report["accuracy"]["samples"] == 48 and report["accuracy"]["float"] == 1.0
    command = report["provenance"]["commands"][-1]
    for each in ("--spec", "--bits 6", "--rounding AP_RND", "--per-tensor", "--equalize", "--seed 5", "--calibration "):
        assert each in command, command
    again = flow(*command.removeprefix("flow ").split(), "--json")
    assert again.report()["project"]["digest"] == report["project"]["digest"]


def test_python_gives_the_same_report(user_files: Path, tmp_path: Path) -> None:
    options = QuantizeOptions(
        calibration=user_files / "c.npy",
        inputs=user_files / "x.npy",
        settings=QuantSettings(bits=5, rounding=Rounding.RND),
        until="extract",
        output=tmp_path,
    )
    report = package.quantize(user_files / "my_net.h5", options=options)
    words = ["--bits", 5, "--rounding", "AP_RND", "--until", "extract", "--output", tmp_path, "--json"]
    given = ["--calibration", user_files / "c.npy", "--inputs", user_files / "x.npy"]
    found = flow("quantize", user_files / "my_net.h5", *given, *words).report()
    assert report.document["quantization"] == found["quantization"]


def test_an_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["quantize", "digits_mlp", "--until", "extract", "--output", tmp_path, "--json", "--bits", 5]
    searched: list[str] = []
    search = thresholds.search

    def interrupted(task: Any) -> Any:
        searched.append(task.module.name)
        if len(searched) == 2:
            raise KeyboardInterrupt
        return search(task)

    monkeypatch.setattr(thresholds, "search", interrupted)
    assert flow(*words).code == 130
    found = flow(*words).report()
    assert searched == ["dense1", "dense2", "dense2", "logits"]
    assert flow(*words).report()["quantization"] == found["quantization"] and len(searched) == 4
    for path in tmp_path.rglob("first-relu2.npz"):  # damaged: searched again
        path.write_bytes(b"PK")
    assert flow(*words).report()["quantization"] == found["quantization"] and searched[4:] == ["dense2"]


def test_a_budget_of_luts_is_kept_by_the_estimate(tmp_path: Path) -> None:
    found = flow("quantize", "digits_mlp", "--budget-lut", 15000, "--until", "emit", "--output", tmp_path, "--json")
    assert found.code == 0, found.err
    report = found.report()
    assert report["resources"][0]["lut"] <= 15000
    assert len({module["bits"] for module in report["quantization"]["modules"]}) > 1
    refused(
        flow("quantize", "digits_mlp", "--budget-lut", 15000, "--backend", "rtl", "--output", tmp_path),
        "Vitis or Vivado",
    )
    refused(flow("quantize", "digits_mlp", "--budget-lut", 10, "--output", tmp_path), "the budget cannot be kept")


def test_a_softmax_in_hardware(tmp_path: Path) -> None:
    model, _ = float_model("softmax")
    with quiet_warnings():
        model.save(tmp_path / "soft.h5")
    np.save(tmp_path / "c.npy", inputs("softmax"))
    words = ["quantize", tmp_path / "soft.h5", "--calibration", tmp_path / "c.npy", "--inputs", tmp_path / "c.npy"]
    words += ["--until", "extract", "--output", tmp_path / "runs", "--json"]
    off, on = flow(*words).report(), flow(*words, "--softmax", "ufixed<8,0>").report()
    assert [layer["op"] for layer in off["layers"]] == ["input", "dense"]
    assert [layer["op"] for layer in on["layers"]] == ["input", "dense", "softmax"]
    assert any("left off the hardware" in note for note in off["notes"])
    assert off["quantization"]["outputs"] == on["quantization"]["outputs"]


def test_bad_input_is_refused_in_one_line(user_files: Path, tmp_path: Path) -> None:
    model, given = user_files / "my_net.h5", ("--output", tmp_path)
    np.save(tmp_path / "few.npy", inputs("residual", 3))
    np.save(tmp_path / "other.npy", np.zeros((20, 5), np.float32))
    np.save(tmp_path / "nan.npy", np.full((20, 8, 8, 3), np.nan, np.float32))
    refused(flow("quantize", model, *given), "my_net: has no calibration inputs of its own; give --calibration")
    refused(flow("quantize", model, "--calibration", tmp_path / "none.npy", *given), "no such file")
    refused(
        flow("quantize", model, "--calibration", tmp_path / "few.npy", *given),
        "3 calibration samples; give at least 16",
    )
    refused(flow("quantize", model, "--calibration", tmp_path / "other.npy", *given), "has shape (20, 5)")
    refused(flow("quantize", model, "--calibration", tmp_path / "nan.npy", *given), "NaN or infinite")
    for words, said in (
        (("--bits", 1), "bits: 1 is not within 2 to 16"),
        (("--weights", "float"), "weights: 'float' is none of integer, po2"),
        (("--weights", "po2", "--weight-bits", 8), "power-of-two weights of 8 bits"),
        (("--rounding", "HALF_UP"), "rounding 'HALF_UP' is none of AP_TRN"),
        (("--spec", tmp_path / "none.toml"), "none.toml: no such file"),
        (("--until", "nowhere"), "'nowhere' is not a stage"),
        (("--softmax", "fixed<8,0>"), ""),
    ):
        refused(flow("quantize", "digits_mlp", *words, *given), said) if said else None
    refused(flow("quantize", "jets_mlp", *given), "has no trained float model; run 'flow train jets_mlp'")
    refused(flow("build", "fashion_resnet8", *given), "is a float model; run 'flow quantize fashion_resnet8'")
    assert run_directories(tmp_path) == []


def test_help_lists_the_options() -> None:
    text = flow("quantize", "--help").out
    for option in ("--calibration", "--bits", "--weights", "--weights-file", "--budget-bits", "--points", "--until"):
        assert option in text


def test_settings_are_json(digits: dict[str, Any]) -> None:
    assert json.loads(json.dumps(QuantSettings().to_json())) == digits["quantization"]["settings"]
