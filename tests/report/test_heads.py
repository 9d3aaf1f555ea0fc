"""Models with several heads, and regressions: built, quantized and compared, each head measured by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import flow, needs_compiler, refused
from fixtures_keras import dense, layers, qkeras, save, wired

from flow.verification.levels import _stored_labels

SAMPLES = 48


def _heads(x: Any) -> Any:
    x = qkeras.QActivation("quantized_bits(8,2,alpha=1)")(x)
    x = qkeras.QActivation("quantized_relu(6,2)")(dense(5, "body")(x))
    sigmoid = qkeras.QActivation("quantized_sigmoid(8)", name="flag")
    return [dense(3, "kind", activation="softmax")(x), dense(2, "where")(x), sigmoid(dense(1, "logit")(x))]


def _float_heads(x: Any) -> Any:
    return [layers.Dense(4, name="plain")(x), layers.Dense(3, activation="softmax", name="soft")(x)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a model of three heads, inputs, and labels that are what it says; and a float model."""
    directory = tmp_path_factory.mktemp("heads")
    model = wired(_heads, (6,))
    inputs = np.random.default_rng(1).normal(0, 1, (SAMPLES, 6)).astype(np.float32)
    kind, where, flag = model.predict(inputs, verbose=0)
    labels = {"kind": kind.argmax(axis=1), "where": where + 0.25, "flag": (flag > 0.5).astype(np.int64)}
    labels["flag"][:12] ^= 1
    np.savez(directory / "y.npz", **labels)
    np.save(directory / "x.npy", inputs)
    save(model, directory / "three.h5")
    floats = wired(_float_heads, (6,))
    save(floats, directory / "floats.h5")
    plain, soft = floats.predict(inputs, verbose=0)
    np.savez(directory / "floats.npz", plain=plain.argmax(axis=1), soft=soft)
    return directory


@needs_compiler
def test_every_head_is_measured_in_a_build_and_again(files: Path) -> None:
    given = ("--inputs", files / "x.npy", "--labels", files / "y.npz", "--output", files / "runs")
    built = flow("build", files / "three.h5", *given, "--adversarial", 16, "--json")
    assert built.code == 0, built.err
    report = built.report()
    kind, where, flag = report["heads"]
    assert [(each["output"], each["labels"], each["samples"]) for each in report["heads"]] == [
        ("kind", "classes", SAMPLES),
        ("where", "targets", SAMPLES),
        ("flag", "classes", SAMPLES),
    ]
    assert kind["accuracy"] == {"float": None, "quantized": None, "qkeras": 1.0, "hardware": 1.0}
    assert flag["accuracy"]["hardware"] == flag["accuracy"]["qkeras"] == 0.75 and kind["op"] == "kind"
    assert where["accuracy"] is None and where["confusion"] is None
    assert where["mean_absolute_error"]["hardware"] == pytest.approx(0.25, abs=1e-6)
    assert where["mean_squared_error"]["qkeras"] == pytest.approx(0.0625, abs=1e-6)
    table = np.array(flag["confusion"]["hardware"])
    assert flag["confusion"]["classes"] == 2 and (table.sum(), table.trace()) == (SAMPLES, 36)
    assert report["accuracy"]["hardware"] == 1.0 and report["confusion"]["classes"] == 3  # those of the first output
    again = flow("compare", report["run_dir"], "--json").report()
    for head, before in zip(again["heads"], report["heads"], strict=True):
        for what in ("accuracy", "mean_absolute_error", "mean_squared_error"):
            assert head[what] is None if before[what] is None else head[what]["hardware"] == before[what]["hardware"]


def test_a_check_looks_at_labels_too(files: Path) -> None:
    given = ("check", files / "three.h5", "--inputs", files / "x.npy", "--output", files / "runs", "--labels")
    assert flow(*given, files / "y.npz").code == 0
    refused(flow(*given, files / "x.npy"), "holds one array; the model has the outputs 'kind', 'where', 'flag': give")


@needs_compiler
def test_targets_of_a_softmax_are_measured_where_it_stays(files: Path) -> None:
    samples = ("--calibration", files / "x.npy", "--inputs", files / "x.npy", "--labels", files / "floats.npz")
    given = ("quantize", files / "floats.h5", *samples, "--adversarial", 16, "--output", files / "runs", "--json")
    refused(
        flow(*given),
        "output 'soft': labels are targets, but the hardware leaves the final softmax ('soft') off; keep it with",
    )
    outcome = flow(*given, "--softmax", "ufixed<16,0>")
    assert outcome.code == 0, outcome.err
    plain, soft = outcome.report()["heads"]
    errors = soft["mean_absolute_error"]
    assert errors["float"] < 1e-6 < errors["quantized"] == errors["hardware"] < 0.02 and errors["qkeras"] is None
    assert plain["accuracy"]["float"] == outcome.report()["accuracy"]["float"] == 1.0
    assert plain["accuracy"]["quantized"] == plain["accuracy"]["hardware"] > 0.9


def test_labels_of_earlier_runs_are_those_of_the_first_output() -> None:
    (found,) = _stored_labels({"labels": np.array([1, 2]), "codes": np.zeros(2)})
    assert (found.index, found.are_classes, found.values.tolist()) == (0, True, [1, 2])
    assert not list(_stored_labels({"labels": np.zeros(0, np.int64)}))
