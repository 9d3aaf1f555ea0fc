"""Read the configuration of a user's Keras model as data, and refuse what Keras must not see.

No code of a file is run, and TensorFlow is not loaded: a configuration is JSON in each form that Keras writes. A model
with a Lambda layer, a class we do not know, or a quantizer with arguments that QKeras would not compute with is refused
here, whichever way it came: `flow.train.deserialize` takes no other.

    model.h5, model.keras        whole models
    arch.json + weights.h5       `model.to_json()` and `model.save_weights()`
    directory                    a SavedModel that Keras 2 wrote
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from flow.errors import FlowError, ModelFileError, UnsupportedError, at, shortened, shown
from flow.frontend.keras import LAYERS, operations, unknown_layer
from flow.frontend.keras.arguments import check_arguments
from flow.frontend.keras.quantizers import (
    ACTIVATION_LAYERS,
    FUNCTIONS,
    POSITIONAL,
    RANDOM,
    parse_quantizer,
    short_name,
)
from flow.frontend.keras.topology import (
    BIDIRECTIONAL,
    MAX_DEPTH,
    MODELS,
    STATES,
    TIME_DISTRIBUTED,
    as_keras_2,
    topology,
    unwrapped,
)
from flow.frontend.layers import misfit
from flow.train import load_tensorflow

HDF5_MAGIC, ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
KERAS_WEIGHTS = "model.weights.h5"
"""The numbers inside a `.keras` archive; the other form that Keras reads, `.npz`, could hold pickles."""
CONFIG_BYTES = 64 << 20
"""Largest configuration that is read; a declared size beyond it is damage or malice."""
LONGEST_NAME = 1024
"""Most characters of a layer's name: it becomes part of names in archives, which end at 65535."""
TRAINING_ONLY = ("initializer", "regularizer", "constraint")
"""Ends of the keys that inference does not need; their values may name any function."""
NEWER_KEYS = ("module", "registered_name", "build_config", "compile_config", "shared_object_id")
"""Keys that the newer form of a configuration adds to the older one; a module named there would be imported."""
OF_MASTER: Mapping[str, Any] = dict.fromkeys(
    ("post_training_scale", "elements_per_scale", "min_po2_exponent", "max_po2_exponent")
)
"""Arguments of quantizers that QKeras' master and its successor for Keras 3 write, and the value that says nothing."""
OF_BEFORE: Mapping[str, Mapping[str, Any]] = {key: {"integer": 0} for key in ("quantized_tanh", "quantized_sigmoid")}
"""The same of QKeras before 0.9."""
KNOWN = ("relu", "softmax", *FUNCTIONS, *ACTIVATION_LAYERS, *POSITIONAL, *RANDOM)
"""Functions and quantizers that Keras or QKeras may make; what of them has an exact form, `extract` says."""
RUNS_CODE = ("Lambda", "ClassMethod", "InstanceMethod", "InstanceProperty")


def read_configuration(path: Path, weights: Path | None = None) -> tuple[Mapping[str, Any], Path]:
    """Return a model's configuration, checked, and the file that holds its weights.

    Args:
        path: `.h5`, `.keras`, a SavedModel directory, or `.json` together with `weights`.
        weights: weights file for a `.json`.

    Raises:
        ModelFileError: missing, damaged, no Keras model, or one that holds code.
        UnsupportedError: a layer or a quantizer that we do not know.
    """
    with at(file=path):
        text, numbers = _text(path, weights)
        try:
            config = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise ModelFileError(f"its configuration is no JSON ({shown(error)})") from error
        return checked(config), numbers


def checked(config: Any) -> Mapping[str, Any]:
    """Return what inference needs of a model's configuration, in the form that Keras 2 writes today.

    Args:
        config: {"class_name", "config"} of a model, as JSON types.

    Raises:
        ModelFileError: it is no model's, or holds code.
        UnsupportedError: a layer or a quantizer that we do not know, or that is not connected.
    """
    _refuse_other_packages(config)
    today = _today(config)
    for code in (name for name in _class_names(today) if short_name(name) in RUNS_CODE):
        remedy = "it is not run, and has no exact integer form: replace it by layers of the list in the README"
        raise ModelFileError(f"holds a {shortened(code)} layer, which is code", remedy=remedy)
    _refuse_unknown_layers(today)
    topology(short_name(str(today["class_name"])), today["config"])  # Keras waits for ever for what nothing gives
    return today


def _text(path: Path, weights: Path | None) -> tuple[str | bytes, Path]:
    """Return the configuration of a model as its file writes it, and the file of its weights."""
    if not path.exists():
        raise ModelFileError("no such file")
    if weights is not None and path.suffix != ".json":
        raise ModelFileError("--weights goes with a .json configuration; this file is no .json")
    try:
        if path.is_dir():
            return _saved_model_text(path), path / "variables" / "variables"
        magic = magic_of(path)
        if magic == HDF5_MAGIC:
            with h5py.File(path, "r") as file:
                text = file.attrs.get("model_config")
            if text is None:
                remedy = f"give the configuration: arch.json --weights {path.name}"
                raise ModelFileError("holds weights only", remedy=remedy)
            return text, path
        if magic.startswith(ZIP_MAGIC):
            with zipfile.ZipFile(path) as archive:
                archive.getinfo(KERAS_WEIGHTS)
                if archive.getinfo("config.json").file_size > CONFIG_BYTES:
                    raise ModelFileError("its config.json is too large to be one")
                return archive.read("config.json"), path
        if path.suffix == ".json":
            if weights is None:
                raise ModelFileError("a configuration without weights", remedy="add --weights FILE.h5")
            if not weights.is_file():
                raise ModelFileError("no such file", file=weights)
            return path.read_bytes(), weights
    except FlowError:
        raise
    except Exception as error:  # h5py and zipfile report damage in many ways
        raise ModelFileError(f"damaged or cut short ({shown(error)})") from error
    raise ModelFileError("not a Keras model (.h5, .keras, SavedModel directory, or .json with --weights)")


def _today(config: Any) -> Mapping[str, Any]:
    """Return a configuration without what only training needs, as Keras 2 writes it today."""
    try:
        entry = dict(_inference_only(as_keras_2(config))) if isinstance(config, dict) else {}
    except RecursionError as error:
        raise ModelFileError(f"its configuration is no JSON ({shown(error)})") from error
    if not isinstance(entry.get("config"), dict | list) or "class_name" not in entry:
        raise ModelFileError("its configuration is not that of a Keras model")
    today = _with_models_of_today(entry, 0, "model")
    told = config.get("build_config") or {}
    if not isinstance(told, Mapping):
        raise ModelFileError("its configuration is not that of a Keras model")
    built = told.get("input_shape") or config.get("build_input_shape")
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
        name = short_name(str(needed.get("class_name")))
        if name in POSITIONAL and isinstance(needed.get("config"), dict):
            needed["config"] = _arguments_of_today(name, needed["config"])
        return needed
    return [_inference_only(item) for item in config] if isinstance(config, list) else config


def _arguments_of_today(quantizer: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a quantizer that QKeras 0.9.0 takes, without those of other versions that say nothing."""
    silent = {**OF_MASTER, **OF_BEFORE.get(quantizer, {})}
    kept = {key: value for key, value in args.items() if key not in silent or value != silent[key]}
    if quantizer == "quantized_hswish":
        kept.pop("keep_negative", None)  # QKeras writes it and does not take it back
    return kept


def _refuse_other_packages(config: Any) -> None:
    """Refuse models of packages whose layers are called like QKeras' and compute otherwise."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            for key in ("class_name", "module", "registered_name"):
                if str(item.get(key)).lower().startswith("hgq"):
                    name = short_name(str(item.get("class_name")))
                    what = f"{shortened(name)} is a layer of HGQ, whose bit widths are trained number by number"
                    remedy = "no front end reads HGQ or HGQ2 yet: use QKeras' layers, or hls4ml or da4ml for this model"
                    raise UnsupportedError(what, remedy=remedy)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _saved_model_text(path: Path) -> str:
    load_tensorflow()  # it says which Keras there is, before one is imported
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = path / "keras_metadata.pb"
    if not metadata.is_file():
        raise ModelFileError("not a Keras SavedModel (no keras_metadata.pb in it)")
    message = saved_metadata_pb2.SavedMetadata()
    message.ParseFromString(metadata.read_bytes())
    roots = [node.metadata for node in message.nodes if node.node_path == "root"]
    if not roots:
        raise ModelFileError("its metadata names no model")
    return str(roots[0])


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
        whole = isinstance(entry, Mapping) and "class_name" in entry and isinstance(entry.get("config"), Mapping)
        if not whole:
            raise ModelFileError("a layer's configuration is damaged")
        class_name, name = short_name(str(entry["class_name"])), f"{inside}{entry['config'].get('name')}"
        with at(layer=name):
            if len(name) > LONGEST_NAME * (1 + depth):
                raise UnsupportedError(f"a name of {len(name)} characters", remedy=f"use {LONGEST_NAME} at most")
            if class_name in operations.CLASSES:
                _refuse_unknown_function(entry)
                continue
            nodes, entry = entry.get("inbound_nodes"), _unwrapped(entry)
            class_name = short_name(str(entry["class_name"]))
            if class_name not in MODELS:
                _refuse_unknown(class_name, entry["config"])
            _refuse_call_arguments(nodes)
        if class_name in MODELS:
            _refuse_unknown_layers(entry, f"{name}/", depth + 1)


def _refuse_unknown_function(entry: Mapping[str, Any]) -> None:
    """Refuse a function that is not in the table: Keras would look up whatever TensorFlow calls so."""
    function, nodes = str(entry["config"].get("function")), entry.get("inbound_nodes")
    if function not in operations.FUNCTIONS:
        raise operations.unknown(function)
    if not isinstance(nodes, list) or not nodes:
        raise UnsupportedError(f"function tf.{function} is not called")
    for inner in _class_names(nodes):
        if inner != "__ellipsis__":
            raise UnsupportedError(f"is called with an object of class {shown(inner)}, which is not known")
    try:
        for node in nodes:
            operations.operation(function, operations.node_of(node)[1])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise misfit(error) from None


def _refuse_call_arguments(nodes: Any) -> None:
    """Refuse calls that say more than what they read: `training=True` makes a layer another one."""
    for node in nodes if isinstance(nodes, list) else ():
        for source in node if isinstance(node, list) else ():
            given = source[3] if isinstance(source, list) and len(source) > 3 else {}
            for key, value in given.items() if isinstance(given, Mapping) else [("arguments", given)]:
                if not (key in ("training", "mask") and value in (None, False)):
                    raise UnsupportedError(
                        f"is called with {shown(key)[1:-1]}={shown(value)}", remedy="call it on tensors alone"
                    )


def _unwrapped(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the layer or model that a TimeDistributed holds, after it was seen that it holds one."""
    inner, depth = entry, 0
    while short_name(str(inner["class_name"])) == TIME_DISTRIBUTED:
        inner, depth = inner["config"].get("layer"), depth + 1
        whole = isinstance(inner, Mapping) and "class_name" in inner and isinstance(inner.get("config"), Mapping)
        if not whole or depth > MAX_DEPTH:
            raise ModelFileError("a layer's configuration is damaged")
    return unwrapped(entry)[0]


def _refuse_unknown(class_name: str, config: Mapping[str, Any]) -> None:
    if class_name.startswith("Prune"):
        raise UnsupportedError("is still wrapped for pruning", remedy="call strip_pruning and save")
    if class_name not in LAYERS:
        raise unknown_layer(class_name)
    dtype = config.get("dtype") or "float32"
    if dtype != "float32" and dtype != {"class_name": "Policy", "config": {"name": "float32"}}:
        raise UnsupportedError(f"dtype {shown(dtype)} is not supported", remedy="save a float32 model")
    for key, value in config.items():
        if class_name in BIDIRECTIONAL and key in ("layer", "backward_layer") and value is not None:
            with at(field=key):
                _refuse_inner(class_name, value)
            continue
        if key.endswith(("activation", "quantizer")):
            quantizer = parse_quantizer(value)
            if quantizer is not None and quantizer.name not in KNOWN:
                remedy = f"use one of {', '.join(map(repr, KNOWN))}"
                raise UnsupportedError(f"{key} {shown(quantizer.name)} is not supported", remedy=remedy)
            value = {} if quantizer is None else {**quantizer.args, "dtype": None}  # as in a layer's own
            if quantizer is not None:
                check_arguments(quantizer.name, quantizer.args, key)
        for inner in () if key == "dtype" else _class_names(value):
            raise UnsupportedError(f"{key} holds an object of class {shown(inner)}, which is not known")


def _refuse_inner(class_name: str, entry: Any) -> None:
    """Refuse what a bidirectional layer is around, unless it is a recurrent layer that we know."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise ModelFileError("a layer's configuration is damaged")
    inner = short_name(str(entry.get("class_name")))
    if inner not in STATES:
        raise UnsupportedError(f"{class_name} is around a {shortened(inner)}", remedy=f"use one of {', '.join(STATES)}")
    _refuse_unknown(inner, entry["config"])


def magic_of(path: Path) -> bytes:
    """Return the bytes that a file begins with."""
    with path.open("rb") as file:
        return file.read(8)
