"""TrainedModel: a trained model as plain data, readable without TensorFlow.

The topology is the Keras configuration as Keras writes it (`model.get_config()`); the weights are the values that the
layers' own quantizers make of the stored variables, so nothing downstream has to know how a quantizer rounds.

    layer (QKeras' or Keras')                 arrays, float32
    Dense, Conv, ConvTranspose                kernel as in Keras; bias (channels,) if use_bias
    DepthwiseConv                             kernel (*window, channels, multiplier); bias if use_bias
    SeparableConv                             depthwise_kernel, pointwise_kernel; bias if use_bias
    QConv2DBatchnorm, QDepthwise...Batchnorm  kernel and bias, always both, as folded at inference
    batch normalizations                      scale (channels,), offset (channels,): output = input * scale + offset
    (Q)SimpleRNN, (Q)LSTM, (Q)GRU             kernel, recurrent_kernel as in Keras; bias if use_bias
    (Q)Bidirectional                          the same with forward_ and backward_ before each name
    Embedding                                 table (rows, channels)
    PReLU                                     slope, broadcast over the input
    averages with an average_quantizer        multiplier (), what 1 / area becomes
    all others                                none

In the npz, verification and calibration inputs are float32 as they are, or uint8 codes k that mean k/256 (images).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import ModelFileError
from flow.files import writing
from flow.findings import Hit
from flow.frontend.base import read
from flow.json_text import json_text

Arrays = Mapping[str, NDArray[np.float32]]
TRAINED_JSON, TRAINED_NPZ = "trained.json", "trained.npz"
LABELS = "verification/labels"
FLOAT_DIR = "float"
"""Subdirectory of a quantized model that holds its float twin, in the same two files."""
STEPS_PER_UNIT = 256
"""What uint8 codes of inputs are divided by."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """A trained model as data.

    Attributes:
        name: identifier; what reports and directories are called after.
        class_name: what `config` is of: "Sequential" or "Functional".
        config: the model as its front end describes it, as Keras' configuration (JSON types only).
        weights: layer name -> array name -> float32 values, as the table above says.
        warnings: found while reading the model, and repeated by a report.
        verification_inputs: (n, *input_shape) float32 or None: inputs kept with the model.
        verification_labels: (n,) int64, or float32 targets (n, *shape); of several outputs by their names; or None.
        calibration_inputs: (n, *input_shape) float32 or None: inputs of the training split, kept with a float model
            to calibrate its quantization with.
        metrics: what training measured: accuracies as fractions, {"float": 0.97, "qkeras": 0.96}, "sparsity", and
            "float_confusion": how many test samples of each class (row) the float twin took for each (column). Of a
            float model "float" and "float_confusion" alone, or "reconstruction_mse": mean squared error per feature.
            Of targets, or of several outputs, "heads": by output what is measured, and its value by level.
        provenance: how the model was made: seed, epochs, versions, data set (JSON types only).
        frontend: the front end that reads all this: a key of `flow.frontend.base.FRONTENDS`.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    weights: Mapping[str, Arrays]
    warnings: tuple[Hit, ...] = ()
    verification_inputs: NDArray[np.float32] | None = None
    verification_labels: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None
    calibration_inputs: NDArray[np.float32] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    frontend: str = "keras"

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input by the name of its layer, in order, without the batch axis.

        Raises:
            UnsupportedError: the configuration leaves an axis open, or its layers cannot be connected.
        """
        return read(self).input_shapes()

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one sample: that of the only input, or of all inputs flattened and joined in order.

        Raises:
            UnsupportedError: as `input_shapes`.
        """
        shapes = list(self.input_shapes().values())
        return shapes[0] if len(shapes) == 1 else (sum(math.prod(shape) for shape in shapes),)

    def digest(self) -> str:
        """Return the SHA-256 of topology and weights (not of metrics or inputs)."""
        sha = hashlib.sha256(json.dumps([self.name, self.class_name, self.config], sort_keys=True).encode())
        for layer in sorted(self.weights):
            for key in sorted(self.weights[layer]):
                array = np.ascontiguousarray(self.weights[layer][key], np.float32)
                sha.update(f"{layer}/{key}{array.shape}".encode() + array.tobytes())
        return sha.hexdigest()


def save_trained(model: TrainedModel, directory: Path) -> dict[str, str]:
    """Write `trained.json` and `trained.npz` into a directory; return the SHA-256 of both by their names.

    Raises:
        OutputError: they cannot be written.
    """
    document = {
        "name": model.name,
        "frontend": model.frontend,
        "class_name": model.class_name,
        "config": model.config,
        "warnings": [asdict(warning) for warning in model.warnings],
        "metrics": dict(model.metrics),
        "provenance": dict(model.provenance),
    }
    arrays: dict[str, NDArray[Any]] = {
        f"weights/{layer}/{key}": array for layer, group in model.weights.items() for key, array in group.items()
    }
    samples: dict[str, NDArray[Any] | None] = {
        "verification/inputs": _packed(model.verification_inputs),
        "calibration/inputs": _packed(model.calibration_inputs),
    }
    if isinstance(model.verification_labels, Mapping):
        samples |= {f"{LABELS}/{name}": labels for name, labels in model.verification_labels.items()}
    else:
        samples[LABELS] = model.verification_labels
    arrays |= {key: array for key, array in samples.items() if array is not None}
    with writing(directory / TRAINED_NPZ) as npz:
        np.savez_compressed(npz, **arrays)  # type: ignore[arg-type]
    document["npz_sha256"] = npz.digest()
    with writing(directory / TRAINED_JSON) as file:
        file.write((json_text(document, sort_keys=True) + "\n").encode())
    return {TRAINED_NPZ: npz.digest(), TRAINED_JSON: file.digest()}


def load_trained(directory: Path | str) -> TrainedModel:
    """Read what `save_trained` wrote.

    Raises:
        ModelFileError: a file is missing or damaged.
    """
    directory = Path(directory)
    try:
        text, packed = (directory / TRAINED_JSON).read_bytes(), (directory / TRAINED_NPZ).read_bytes()
    except OSError as error:
        raise _unreadable(directory, error) from error
    return trained_from(text, packed, directory)


def trained_from(text: bytes, packed: bytes, directory: Path) -> TrainedModel:
    """Return the model of a `trained.json` and a `trained.npz`.

    Raises:
        ModelFileError: one is damaged, or they were not written together.
    """
    try:
        document = json.loads(text)
        if document.get("npz_sha256") not in (None, hashlib.sha256(packed).hexdigest()):
            raise ValueError(f"{TRAINED_NPZ} and {TRAINED_JSON} were not written together")
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        weights: dict[str, dict[str, NDArray[np.float32]]] = {}
        for path, array in arrays.items():
            if path.startswith("weights/"):
                layer, key = path.removeprefix("weights/").rsplit("/", 1)
                weights.setdefault(layer, {})[key] = array
        of_outputs = {key.removeprefix(f"{LABELS}/"): array for key, array in arrays.items() if f"{LABELS}/" in key}
        return TrainedModel(
            name=document["name"],
            frontend=document.get("frontend", "keras"),
            class_name=document["class_name"],
            config=document["config"],
            weights=weights,
            warnings=tuple(
                Hit(**line) if isinstance(line, dict) else Hit("", line, "") for line in document["warnings"]
            ),
            verification_inputs=_unpacked(arrays.get("verification/inputs")),
            verification_labels=of_outputs or arrays.get(LABELS),
            calibration_inputs=_unpacked(arrays.get("calibration/inputs")),
            metrics=document["metrics"],
            provenance=document["provenance"],
        )
    except Exception as error:  # a damaged file fails in many ways: zip, JSON, keys, types
        raise _unreadable(directory, error) from error


def _unreadable(directory: Path, error: Exception) -> ModelFileError:
    remedy = "run 'flow train' again"
    return ModelFileError(f"not a readable trained model ({error})", file=directory, remedy=remedy)


def _packed(inputs: NDArray[np.float32] | None) -> NDArray[Any] | None:
    """Return uint8 codes if they say the same, else the inputs as they are."""
    if inputs is None:
        return None
    codes = np.clip(np.nan_to_num(inputs) * STEPS_PER_UNIT, 0, 255).astype(np.uint8)
    same = np.asarray(codes, np.float32) / STEPS_PER_UNIT
    return codes if same.tobytes() == np.ascontiguousarray(inputs, np.float32).tobytes() else inputs


def _unpacked(inputs: NDArray[Any] | None) -> NDArray[np.float32] | None:
    if inputs is None or inputs.dtype != np.uint8:
        return inputs
    return np.asarray(inputs / STEPS_PER_UNIT, np.float32)


def load_metrics(directory: Path) -> dict[str, Any]:
    """Read accuracies, sparsity and reconstruction error of a trained model alone, without its weights.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    try:
        metrics = json.loads((directory / TRAINED_JSON).read_text())["metrics"]
        names = ("float", "qkeras", "sparsity", "reconstruction_mse")
        heads = {"heads": dict(metrics["heads"])} if "heads" in metrics else {}
        return {name: float(metrics[name]) for name in names if name in metrics} | heads
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(directory, error) from error
