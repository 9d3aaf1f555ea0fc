"""Read a user's Keras model without running code it may contain.

The configuration is read as JSON first, by us, and checked: a model with a Lambda layer or a class we do not know is
refused before Keras sees it. Keras then builds the model from what inference needs of that configuration, and loads
the numbers; it never opens a whole model, which could name Python modules to import, functions, pickles or graphs.

    model.h5, model.keras        whole models
    arch.json + weights.h5       `model.to_json()` and `model.save_weights()`
    directory                    a SavedModel that Keras 2 wrote
"""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from flow.errors import FlowError, ModelFileError, UnsupportedError, at
from flow.files import temporary
from flow.frontend.keras import LAYERS
from flow.frontend.keras.quantizers import FUNCTIONS, POSITIONAL, RANDOM, parse_quantizer, short_name
from flow.frontend.keras.topology import MAX_DEPTH, MODELS, as_keras_2, topology
from flow.frontend.trained import TrainedModel
from flow.ir.names import identifier
from flow.train import complaint, load_tensorflow, quiet_warnings
from flow.train.freeze import custom_objects, layers_by_path, quantized_weights, revived

qkeras: Any
tf, keras, qkeras = load_tensorflow()

HDF5_MAGIC, ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
KERAS_WEIGHTS = "model.weights.h5"
"""The numbers inside a `.keras` archive; the other form that Keras reads, `.npz`, could hold pickles."""
CONFIG_BYTES = 64 << 20
"""Largest configuration that is read; a declared size beyond it is damage or malice."""
ROOM_BYTES, ROOM_PER_BYTE = 64 << 20, 32
"""Numbers take no more room than this and so much per byte of their file; more is a size that is only declared."""
TENSOR_VALUES = 1 << 22
"""Most values of a tensor, per sample: a layer that makes more is damage or malice, or no layer for an FPGA."""
QUANTIZER_COUNT = 64
"""Largest number of bits, or of steps, that a quantizer may have."""
TRAINING_ONLY = ("initializer", "regularizer", "constraint")
"""Ends of the keys that inference does not need; their values may name any function."""
NEWER_KEYS = ("module", "registered_name", "build_config", "compile_config", "shared_object_id")
"""Keys that the newer form of a configuration adds to the older one; a module named there would be imported."""
KNOWN = ("relu", "softmax", *FUNCTIONS, *POSITIONAL, *RANDOM, "quantized_grid")
"""Functions and quantizers that Keras or QKeras may make; what of them has an exact form, `extract` says."""
RUNS_CODE = ("Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")


@dataclass(frozen=True, slots=True, eq=False)
class KerasModel:
    """A user's model: the Keras object for inference, and what was read from it as data."""

    keras: Any
    trained: TrainedModel


def read_keras(path: Path, weights: Path | None = None) -> KerasModel:
    """Read a Keras model.

    Args:
        path: `.h5`, `.keras`, a SavedModel directory, or `.json` together with `weights`.
        weights: weights file for a `.json`.

    Raises:
        ModelFileError: missing, damaged, no Keras model, or one that holds code.
        UnsupportedError: a layer we do not know, or a weight that is NaN or infinite.
    """
    with at(file=path), quiet_warnings():
        config, weights_file = _configuration(path, weights)
        for code in (name for name in _class_names(config) if short_name(name) in RUNS_CODE):
            remedy = "it is not run, and has no exact integer form: replace it by layers of the list in the README"
            raise ModelFileError(f"holds a {code} layer, which is code", remedy=remedy)
        _refuse_unknown_layers(config)
        class_name = short_name(str(config["class_name"]))
        topology(class_name, config["config"])  # Keras waits for ever for what nothing gives
        try:
            model = _load(config, weights_file)
            _refuse_huge_tensors(model)
        except FlowError:
            raise
        except Exception as error:  # Keras and HDF5 fail in many ways
            raise ModelFileError(f"Keras 2 cannot load this model: {complaint(error)}") from error
        arrays = quantized_weights(model)
        trained = TrainedModel(
            name=identifier(path.name.split(".")[0] if path.is_file() else path.resolve().name, ()),
            class_name=class_name,
            config=config["config"],
            weights=arrays,
            warnings=tuple(revived(model, arrays)),
            provenance={"file": path.name},
        )
    return KerasModel(model, trained)


def _configuration(path: Path, weights: Path | None) -> tuple[Mapping[str, Any], Path]:
    """Return the model's configuration and the file that holds its weights."""
    if not path.exists():
        raise ModelFileError("no such file")
    if weights is not None and path.suffix != ".json":
        raise ModelFileError("--weights goes with a .json configuration; this file is no .json")
    try:
        if path.is_dir():
            return _saved_model_config(path), path / "variables" / "variables"
        magic = _magic(path)
        if magic == HDF5_MAGIC:
            with h5py.File(path, "r") as file:
                text = file.attrs.get("model_config")
            if text is None:
                remedy = f"give the configuration: arch.json --weights {path.name}"
                raise ModelFileError("holds weights only", remedy=remedy)
            return _parsed(text), path
        if magic.startswith(ZIP_MAGIC):
            with zipfile.ZipFile(path) as archive:
                archive.getinfo(KERAS_WEIGHTS)
                if archive.getinfo("config.json").file_size > CONFIG_BYTES:
                    raise ModelFileError("its config.json is too large to be one")
                return _parsed(archive.read("config.json")), path
        if path.suffix == ".json":
            if weights is None:
                raise ModelFileError("a configuration without weights", remedy="add --weights FILE.h5")
            if not weights.is_file():
                raise ModelFileError("no such file", file=weights)
            return _parsed(path.read_bytes()), weights
    except FlowError:
        raise
    except Exception as error:  # h5py and zipfile report damage in many ways
        raise ModelFileError(f"damaged or cut short ({error})") from error
    raise ModelFileError("not a Keras model (.h5, .keras, SavedModel directory, or .json with --weights)")


def _parsed(text: str | bytes) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
        entry = dict(as_keras_2(_inference_only(config))) if isinstance(config, dict) else {}
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"its configuration is no JSON ({error})") from error
    if not isinstance(entry.get("config"), dict | list) or "class_name" not in entry:
        raise ModelFileError("its configuration is not that of a Keras model")
    today = _with_models_of_today(entry, 0, "model")
    built = (config.get("build_config") or {}).get("input_shape") or config.get("build_input_shape")
    return {**today, "config": {**({"build_input_shape": built} if built else {}), **today["config"]}}


def _with_models_of_today(entry: Any, depth: int, unnamed: str) -> Any:
    """Return a model's entry, and those of the models in it, in the form that Keras writes today.

    Keras before 2.2.3 wrote the layers of a Sequential alone, without its name; before 2.4 a functional model was
    called "Model".
    """
    if not isinstance(entry, Mapping) or short_name(str(entry.get("class_name"))) not in MODELS or depth > MAX_DEPTH:
        return entry
    config = entry.get("config")
    config = {"name": str(entry.get("name") or unnamed), "layers": config} if isinstance(config, list) else config
    if not isinstance(config, Mapping) or not isinstance(config.get("layers"), list):
        return entry
    class_name = "Functional" if short_name(str(entry["class_name"])) == "Model" else entry["class_name"]
    inner = enumerate(config["layers"])
    layers = [_with_models_of_today(layer, depth + 1, f"{unnamed}_{number}") for number, layer in inner]
    return {**entry, "class_name": class_name, "config": {**config, "layers": layers}}


def _inference_only(config: Any) -> Any:
    """Return a configuration in Keras' older form, without what only training needs."""
    if isinstance(config, Mapping):
        if config.get("class_name") in ("__tuple__", "TensorShape"):  # as a SavedModel writes them
            return _inference_only(config.get("items"))
        kept = [key for key in config if key not in NEWER_KEYS and not key.endswith(TRAINING_ONLY)]
        needed = {key: _inference_only(config[key]) for key in kept}
        if short_name(str(needed.get("class_name"))) == "quantized_hswish" and isinstance(needed.get("config"), dict):
            needed["config"].pop("keep_negative", None)  # QKeras writes it and does not take it back
        return needed
    return [_inference_only(item) for item in config] if isinstance(config, list) else config


def _saved_model_config(path: Path) -> Mapping[str, Any]:
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = path / "keras_metadata.pb"
    if not metadata.is_file():
        raise ModelFileError("not a Keras SavedModel (no keras_metadata.pb in it)")
    message = saved_metadata_pb2.SavedMetadata()
    message.ParseFromString(metadata.read_bytes())
    roots = [node.metadata for node in message.nodes if node.node_path == "root"]
    if not roots:
        raise ModelFileError("its metadata names no model")
    return _parsed(roots[0])


def _class_names(config: Any) -> Iterator[str]:
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            if isinstance(item.get("class_name"), str):
                yield item["class_name"]
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _refuse_unknown_layers(config: Mapping[str, Any], inside: str = "", depth: int = 0) -> None:
    """Refuse layers, functions and quantizers by name before Keras tries to find or evaluate them."""
    layers = config["config"].get("layers") if isinstance(config.get("config"), Mapping) else None
    if not isinstance(layers, list) or not layers:
        raise ModelFileError("its configuration lists no layers")
    if depth > MAX_DEPTH:
        raise UnsupportedError(f"models are nested more than {MAX_DEPTH} deep")
    for entry in layers:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
            raise ModelFileError("a layer's configuration is damaged")
        class_name, name = short_name(str(entry.get("class_name"))), f"{inside}{entry['config'].get('name')}"
        with at(layer=name):
            _refuse_call_arguments(entry.get("inbound_nodes"))
            if class_name not in MODELS:
                _refuse_unknown(class_name, entry["config"])
        if class_name in MODELS:
            _refuse_unknown_layers(entry, f"{name}/", depth + 1)


def _refuse_call_arguments(nodes: Any) -> None:
    """Refuse calls that say more than what they read: `training=True` makes a layer another one."""
    for node in nodes if isinstance(nodes, list) else ():
        for source in node if isinstance(node, list) else ():
            given = source[3] if isinstance(source, list) and len(source) > 3 else {}
            for key, value in given.items() if isinstance(given, Mapping) else [("arguments", given)]:
                if not (key in ("training", "mask") and value in (None, False)):
                    raise UnsupportedError(f"is called with {key}={value!r}", remedy="call it on tensors alone")


def _refuse_unknown(class_name: str, config: Mapping[str, Any]) -> None:
    if class_name.startswith("Prune"):
        raise UnsupportedError("is still wrapped for pruning", remedy="call strip_pruning and save")
    if class_name not in LAYERS:
        raise UnsupportedError(f"{class_name} is not supported", remedy=f"use one of {', '.join(LAYERS)}")
    dtype = config.get("dtype") or "float32"
    if dtype != "float32" and dtype != {"class_name": "Policy", "config": {"name": "float32"}}:
        raise UnsupportedError(f"dtype {dtype!r} is not supported", remedy="save a float32 model")
    for key, value in config.items():
        if key == "activation" or key.endswith("quantizer"):
            quantizer = parse_quantizer(value)
            if quantizer is not None and quantizer.name not in KNOWN:
                remedy = f"use one of {', '.join(map(repr, KNOWN))}"
                raise UnsupportedError(f"{key} {quantizer.name!r} is not supported", remedy=remedy)
            value = {} if quantizer is None else quantizer.args
            for count in ("bits", "integer", "number_of_unrolls"):  # QKeras raises 2 to these, or counts to them
                if isinstance(value.get(count), int | float) and not abs(value[count]) <= QUANTIZER_COUNT:
                    remedy = "use fewer bits or steps"
                    raise UnsupportedError(f"{count} is not within {QUANTIZER_COUNT}", field=key, remedy=remedy)
        for inner in () if key == "dtype" else _class_names(value):
            raise UnsupportedError(f"{key} holds an object of class {inner!r}, which is not known")


def _load(config: Mapping[str, Any], weights: Path) -> Any:
    files = [weights] if weights.is_file() else list(weights.parent.glob(f"{weights.name}.*"))
    room = ROOM_BYTES + ROOM_PER_BYTE * sum(file.stat().st_size for file in files)
    with tf.variable_creator_scope(_within(room)):
        model = keras.models.model_from_json(json.dumps(config), custom_objects={**custom_objects(), **READERS})
    if not weights.is_file():  # the checkpoint of a SavedModel: several files of which this is the prefix
        model.load_weights(weights).assert_existing_objects_matched()
        return model
    with temporary() as scratch:
        named = _named_for_keras(weights, scratch, room)
        _refuse_unusual_numbers(named, room)
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
                raise ModelFileError(f"the numbers of {name!r} lie in another file")
            if item.dtype.kind not in "fiu":
                raise ModelFileError(f"{name!r} holds {item.dtype}, not numbers")
            taken += item.dtype.itemsize * (item.size or 0)
            if taken > room:
                declared = f"{name!r} declares an array of shape {item.shape}"
                raise ModelFileError(f"{declared}, more than a file of this size holds ({room} bytes at most)")

    with h5py.File(path, "r") as file:
        link = file.visititems_links(lambda name, link: name if isinstance(link, h5py.ExternalLink) else None)
        if link is not None:
            raise ModelFileError(f"{link!r} is a link to another file")
        file.visititems(refuse_object)


def _refuse_huge_tensors(model: Any) -> None:
    for path, layer in layers_by_path(model).items():
        for node in layer.inbound_nodes:
            for shape in tf.nest.flatten(tf.nest.map_structure(tf.TensorShape, node.output_shapes)):
                values = math.prod(size or 1 for size in (shape.as_list() if shape.rank is not None else []))
                if values > TENSOR_VALUES:
                    what = f"its output of shape {tuple(shape)} has more than {TENSOR_VALUES} values"
                    raise UnsupportedError(what, layer=path, remedy="use smaller inputs or strides")


def _named_for_keras(weights: Path, scratch: Path, room: int) -> Path:
    """Return the weights under the name by which Keras tells its newer HDF5 layout from the older one."""
    newer = scratch / KERAS_WEIGHTS
    if _magic(weights).startswith(ZIP_MAGIC):
        with zipfile.ZipFile(weights) as archive, archive.open(KERAS_WEIGHTS) as packed, newer.open("wb") as file:
            if archive.getinfo(KERAS_WEIGHTS).file_size > room:
                raise ModelFileError(f"its {KERAS_WEIGHTS} is too large for an archive of this size")
            shutil.copyfileobj(packed, file)
        return newer
    with h5py.File(weights, "r") as file:
        older = "layer_names" in file.attrs or "model_weights" in file
    link = scratch / "weights.h5" if older else newer
    link.symlink_to(weights.resolve())
    return link


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


class _QActivation(qkeras.QActivation):  # type: ignore[misc]
    """Makes the quantizer that a configuration describes; QKeras' own leaves it a dictionary and cannot be called."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        activation = config["activation"]
        if isinstance(activation, Mapping):
            activation = qkeras.get_quantizer(dict(activation))
        return qkeras.QActivation(**{**config, "activation": activation})


class QConv2DTranspose(qkeras.QConv2DTranspose):  # type: ignore[misc]
    """Computes what QKeras' own says, which calls a function that TensorFlow no longer has."""

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel_quantizer_internal(self.kernel) if self.kernel_quantizer else self.kernel
        shape = tf.concat([tf.shape(inputs)[:1], self.compute_output_shape(inputs.shape)[1:]], 0)
        geometry = {"strides": self.strides, "padding": self.padding, "dilation_rate": self.dilation_rate}
        outputs = keras.backend.conv2d_transpose(inputs, kernel, shape, data_format=self.data_format, **geometry)
        if self.use_bias:
            bias = self.bias_quantizer_internal(self.bias) if self.bias_quantizer else self.bias
            outputs = keras.backend.bias_add(outputs, bias, data_format=self.data_format)
        return outputs if self.activation is None else self.activation(outputs)


READERS = {"QActivation": _QActivation, "QConv2DTranspose": QConv2DTranspose}
