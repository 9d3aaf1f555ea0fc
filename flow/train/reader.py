"""Read a user's Keras model without running code it may contain.

The configuration is read as JSON first and checked. Keras then builds the model from what inference needs of it and
loads the numbers; it never opens a whole model, which could name modules to import, functions, pickles or graphs.
"""

from __future__ import annotations

import math
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from flow.errors import ModelFileError, UnsupportedError, at, shown
from flow.files import temporary
from flow.frontend.keras.quantizers import short_name
from flow.frontend.trained import TrainedModel
from flow.ir.names import identifier
from flow.train import keras_errors, load_tensorflow, quiet_warnings
from flow.train.configuration import KERAS_WEIGHTS, ZIP_MAGIC, magic_of, read_configuration
from flow.train.deserialize import keras_model_of
from flow.train.freeze import quantized_weights, revived

tf, keras, _ = load_tensorflow()

ROOM_BYTES, ROOM_PER_BYTE = 64 << 20, 32
"""Numbers take no more room than this and so much per byte of their file; more is a size that is only declared."""
LAYERS, LAYERS_BEFORE = "layers", "_layer_checkpoint_dependencies"
"""Group of the layers of a model in the newer HDF5 layout, and what Keras 2.12 to 2.14 called it."""
TENSOR_VALUES = 1 << 22
"""Most values of a tensor, per sample: a layer that makes more is damage or malice, or no layer for an FPGA."""


@dataclass(frozen=True, slots=True, eq=False)
class KerasModel:
    """A user's model: the Keras object for inference, and what was read from it as data."""

    keras: Any
    trained: TrainedModel


def read_keras(
    path: Path | str, weights: Path | str | None = None, frozen: Mapping[str, Any] | None = None
) -> KerasModel:
    """Read a Keras model.

    Args:
        path: `.h5`, `.keras`, a SavedModel directory, or `.json` together with `weights`.
        weights: weights file for a `.json`.
        frozen: the model's own configuration, checked, with scales of activations that were found in samples.

    Raises:
        ModelFileError: missing, damaged, no Keras model, or one that holds code.
        UnsupportedError: a layer we do not know, or a weight that is NaN or infinite.
    """
    path, weights = Path(path), None if weights is None else Path(weights)
    with at(file=path), quiet_warnings():
        config, weights_file = read_configuration(path, weights)
        config = config if frozen is None else {**config, "config": frozen}
        with keras_errors("Keras 2 cannot load this model", ModelFileError):
            model = _load(config, weights_file)
            _refuse_huge_tensors(model)
        arrays = quantized_weights(model)
        trained = TrainedModel(
            name=identifier(path.name.split(".")[0] if path.is_file() else path.resolve().name, ()),
            class_name=short_name(str(config["class_name"])),
            config=config["config"],
            weights=arrays,
            warnings=tuple(revived(model, arrays)),
            provenance={"file": path.name},
        )
    return KerasModel(model, trained)


def _load(config: Mapping[str, Any], weights: Path) -> Any:
    files = [weights] if weights.is_file() else list(weights.parent.glob(f"{weights.name}.*"))
    room = ROOM_BYTES + ROOM_PER_BYTE * sum(file.stat().st_size for file in files)
    with tf.variable_creator_scope(_within(room)):
        model = keras_model_of(config["class_name"], config["config"])
    if not weights.is_file():  # the checkpoint of a SavedModel: several files of which this is the prefix
        model.load_weights(weights).assert_existing_objects_matched()
        return model
    with temporary() as scratch:
        named = _named_for_keras(weights, scratch, room)
        _refuse_unusual_numbers(named, room)
        if named.name == KERAS_WEIGHTS:
            with h5py.File(named, "r+") as file:
                _name_as_today(file)
        model.load_weights(named)
    return model


def _within(room: int) -> Callable[..., Any]:
    """Return a maker of variables that refuses those which take more than `room` bytes, before they take any."""
    taken = 0

    def make(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        nonlocal taken
        taken += 4 * math.prod(size or 0 for size in kwargs.get("shape") or ())
        if taken > room:
            what = f"its layers declare more weights than a file of this size holds ({room} bytes at most)"
            raise ModelFileError(what)
        return next_creator(**kwargs)

    return make


def _refuse_unusual_numbers(path: Path, room: int) -> None:
    """Refuse an HDF5 file whose numbers are no real numbers, lie in other files, or take more than `room` bytes."""
    taken = 0

    def refuse_object(name: str, item: Any) -> None:
        nonlocal taken
        if isinstance(item, h5py.Dataset):
            if item.external is not None or item.is_virtual:
                raise ModelFileError(f"the numbers of {shown(name)} lie in another file")
            if item.dtype.kind not in "fiu":
                raise ModelFileError(f"{shown(name)} holds {item.dtype}, not numbers")
            taken += item.dtype.itemsize * (item.size or 0)
            if taken > room:
                declared = f"{shown(name)} declares an array of shape {item.shape}"
                raise ModelFileError(f"{declared}, more than a file of this size holds ({room} bytes at most)")

    with h5py.File(path, "r") as file:
        link = file.visititems_links(lambda name, link: name if isinstance(link, h5py.ExternalLink) else None)
        if link is not None:
            raise ModelFileError(f"{shown(link)} is a link to another file")
        file.visititems(refuse_object)


def _refuse_huge_tensors(model: Any) -> None:
    for layer in model.submodules:
        for node in getattr(layer, "inbound_nodes", ()):
            for shape in tf.nest.flatten(tf.nest.map_structure(tf.TensorShape, node.output_shapes)):
                values = math.prod(size or 1 for size in (shape.as_list() if shape.rank is not None else []))
                if values > TENSOR_VALUES:
                    what = f"its output of shape {tuple(shape)} has more than {TENSOR_VALUES} values"
                    raise UnsupportedError(what, layer=layer.name, remedy="use smaller inputs or strides")


def _named_for_keras(weights: Path, scratch: Path, room: int) -> Path:
    """Return the weights under the name by which Keras tells its newer HDF5 layout from the older one."""
    newer = scratch / KERAS_WEIGHTS
    if magic_of(weights).startswith(ZIP_MAGIC):
        with zipfile.ZipFile(weights) as archive, archive.open(KERAS_WEIGHTS) as packed, newer.open("wb") as file:
            if archive.getinfo(KERAS_WEIGHTS).file_size > room:
                raise ModelFileError(f"its {KERAS_WEIGHTS} is too large for an archive of this size")
            shutil.copyfileobj(packed, file)
        return newer
    with h5py.File(weights, "r") as file:
        older = "layer_names" in file.attrs or "model_weights" in file
    if older:
        link = scratch / "weights.h5"
        link.symlink_to(weights.resolve())
        return link
    shutil.copyfile(weights, newer)
    return newer


def _name_as_today(group: h5py.Group) -> None:
    """Rename the layers in the HDF5 file of a `.keras` archive that Keras 2.12 to 2.14 wrote.

    They counted some layers of a class twice: only the order of the numbers behind its name is that of today.
    """
    if LAYERS_BEFORE in group:
        group.move(LAYERS_BEFORE, LAYERS)
        layers = group[LAYERS]
        numbered = sorted((base, int(number or 0)) for base, _, number in map(_split_number, layers))
        count: dict[str, int] = {}
        for base, number in numbered:
            position = count.setdefault(base, 0)
            count[base] += 1
            if position != number:
                layers.move(f"{base}_{number}", f"{base}_{position}" if position else base)
    for layer in group.get(LAYERS, {}).values():
        _name_as_today(layer)


def _split_number(name: str) -> tuple[str, str, str]:
    """Return a name in three parts: "dense_2" -> ("dense", "_", "2"), "dense" -> ("dense", "", "")."""
    base, line, number = name.rpartition("_")
    return (base, line, number) if number.isdecimal() else (name, "", "")
