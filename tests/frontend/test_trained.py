"""TrainedModel on disk: what is written is read, and what is damaged is said to be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.errors import ModelFileError, UnsupportedError
from flow.findings import Hit
from flow.frontend.trained import TRAINED_JSON, TRAINED_NPZ, TrainedModel, load_metrics, load_trained, save_trained

MODEL = TrainedModel(
    name="m",
    class_name="Sequential",
    config={"layers": [{"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, 3]}}]},
    weights={
        "a/b": {"kernel": np.float32([[0.1, -0.0], [1e-40, 3e38]]), "bias": np.float32([1, 2])},
        "c": {"scale": np.float32([3])},
    },
    warnings=(Hit("a", "one", "mend it"), Hit("", "two", "")),
    verification_inputs=np.float32([[1, 2, 3]]),
    verification_labels=np.array([7]),
    metrics={"qkeras": 0.96, "float_confusion": [[3, 1], [0, 2]]},
    provenance={"seed": 1, "versions": {"numpy": "2"}},
)


def test_round_trip(tmp_path: Path) -> None:
    save_trained(MODEL, tmp_path / "new" / "place")
    again = load_trained(str(tmp_path / "new" / "place"))
    for field in ("name", "class_name", "config", "warnings", "metrics", "provenance"):
        assert getattr(again, field) == getattr(MODEL, field)
    assert again.weights.keys() == MODEL.weights.keys()
    for layer, group in MODEL.weights.items():
        for key, array in group.items():
            assert again.weights[layer][key].tobytes() == array.tobytes()
    assert np.array_equal(again.verification_inputs, MODEL.verification_inputs)  # type: ignore[arg-type]
    assert np.array_equal(again.verification_labels, MODEL.verification_labels)  # type: ignore[arg-type]
    assert again.digest() == MODEL.digest() and load_metrics(tmp_path / "new" / "place") == {"qkeras": 0.96}
    assert again.calibration_inputs is None
    bare = replace(MODEL, verification_inputs=None, verification_labels=None)
    save_trained(bare, tmp_path)
    assert load_trained(tmp_path).verification_inputs is None and load_trained(tmp_path).verification_labels is None


@pytest.mark.parametrize(
    ("inputs", "stored"),
    [
        (np.arange(256) / 256, np.uint8),
        (np.zeros((0, 3)), np.uint8),
        ([0.0, 1.0], np.float32),  # 256/256 has no code
        ([0.0, 1 / 512], np.float32),
        ([0.0, -1 / 256], np.float32),
        ([0.5, -0.0], np.float32),
        ([0.5, np.nan], np.float32),
    ],
)
def test_inputs_are_stored_as_codes_if_nothing_is_lost(inputs: Any, stored: type, tmp_path: Path) -> None:
    values = np.asarray(inputs, np.float32)
    save_trained(replace(MODEL, verification_inputs=values, calibration_inputs=values), tmp_path)
    again = load_trained(tmp_path)
    with np.load(tmp_path / TRAINED_NPZ) as archive:
        for kind, found in (("verification", again.verification_inputs), ("calibration", again.calibration_inputs)):
            assert archive[f"{kind}/inputs"].dtype == stored
            assert found is not None and found.dtype == np.float32 and found.tobytes() == values.tobytes()
            assert found.shape == values.shape


def test_digest_covers_topology_and_weights() -> None:
    weights = {**MODEL.weights, "c": {"scale": np.float32([4])}}
    others = [replace(MODEL, weights=weights), replace(MODEL, config={"layers": []}), replace(MODEL, name="n")]
    assert len({MODEL.digest(), *(other.digest() for other in others)}) == 4
    assert (
        replace(MODEL, metrics={}, provenance={}, calibration_inputs=np.float32([[1, 2, 3]])).digest() == MODEL.digest()
    )


@pytest.mark.parametrize("damage", ["no json", "no npz", "cut json", "cut npz", "list", "keys", "not zip", "pickle"])
def test_damaged_files(damage: str, tmp_path: Path) -> None:
    save_trained(MODEL, tmp_path)
    document, archive = tmp_path / TRAINED_JSON, tmp_path / TRAINED_NPZ
    if damage == "no json":
        document.unlink()
    elif damage == "no npz":
        archive.unlink()
    elif damage == "cut json":
        document.write_text(document.read_text()[:50])
    elif damage == "cut npz":
        archive.write_bytes(archive.read_bytes()[:200])
    elif damage == "list":
        document.write_text("[]")
    elif damage == "keys":
        document.write_text(json.dumps({"name": "m"}))
    elif damage == "not zip":
        archive.write_bytes(b"hello")
    else:
        np.savez(archive, **{"weights/a/kernel": np.array([print], object)})
    with pytest.raises(ModelFileError, match=r"not a readable trained model .*run 'flow train' again"):
        load_trained(tmp_path)
    if damage in ("no json", "cut json", "list", "keys"):
        with pytest.raises(ModelFileError, match="not a readable trained model"):
            load_metrics(tmp_path)


def port(name: str, *shape: int | None) -> dict[str, Any]:
    return {"class_name": "InputLayer", "config": {"name": name, "batch_input_shape": [None, *shape]}}


def test_input_shape() -> None:
    assert MODEL.input_shape() == (3,)
    with pytest.raises(UnsupportedError, match="is not fixed; give every axis but the batch a size"):
        replace(MODEL, config={"layers": [port("in", None, 3)]}).input_shape()
    first = {"class_name": "Flatten", "config": {"name": "flat"}}
    assert replace(MODEL, config={"layers": [first], "build_input_shape": [None, 4]}).input_shape() == (4,)
    own = {"class_name": "Flatten", "config": {"name": "flat", "batch_input_shape": [None, 2, 3]}}
    assert replace(MODEL, config={"layers": [own]}).input_shapes() == {"input": (2, 3)}


def test_several_inputs_are_joined_in_the_order_of_the_model() -> None:
    ports = [{**port(name, *shape), "name": name, "inbound_nodes": []} for name, shape in (("a", (2, 3)), ("b", (4,)))]
    config = {"layers": ports, "input_layers": [["b", 0, 0], ["a", 0, 0]], "output_layers": [["a", 0, 0]]}
    model = replace(MODEL, class_name="Functional", config=config)
    assert list(model.input_shapes().items()) == [("b", (4,)), ("a", (2, 3))] and model.input_shape() == (10,)
