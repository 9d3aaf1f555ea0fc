"""Model files damaged or made to do harm: a seeded generator, and attacks written by hand.

damaged        bytes flipped, zeroed, cut off or put in, in every form that Keras 2 writes
contorted      a configuration whose JSON has keys dropped, values replaced, parts swapped or put into each other
ATTACKS        one thing each: huge sizes, cycles, names, quantizer texts, modules, code, bombs, links out of the file
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fixtures_keras import bits, dense, keras, layers, po2, qkeras, save_all, sequential, wired

Files = tuple[Path, Path | None]
"""A model and the weights that go with it, if it is a `.json`."""
Config = dict[str, Any]
FORMS = ("h5", "keras", "json", "json, newer weights", "saved model")
CANARY = "was_here"
CODE = f'__import__("os").system("touch {CANARY}")'
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, -(2**31), 2**63, 10**9, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "../../evil", "same", "linear", "softmax", CODE, f"quantized_bits({CODE})", "quantized_bits(4,0", "é\0"),
    *([], {}, [[]], [[[]]], [None], [-1, -1], [10**9, 10**9], [None, 10**9], {"class_name": "Lambda"}),
    *({"class_name": "Sequential", "config": {}}, {"class_name": "os>system", "config": {"command": CANARY}}),
    *([["input", 0, 0, {}]], [[["first", 0, 0, {"training": True}]]], [["first", -1, 99]], {"a": {"b": [1]}}),
)
"""What a configuration entry is replaced by."""


def base_models(directory: Path) -> dict[str, dict[str, Files]]:
    """Save two small models in every form; return model -> form -> files."""
    chain = [
        qkeras.QActivation(bits(4, 0, alpha=1), name="quantize_input"),
        qkeras.QConv2D(2, (2, 2), kernel_quantizer=po2(4, 1), bias_quantizer=bits(6, 1, alpha=1), name="conv"),
        layers.BatchNormalization(name="norm"),
        qkeras.QActivation("quantized_relu(4,1)", name="quantize"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Flatten(name="flat"),
        dense(3, "logits"),
    ]

    def branches(first: Any, second: Any) -> Any:
        shared, cast = dense(3, "shared"), qkeras.QActivation("quantized_bits(5,1,alpha=1)", name="cast")
        left, right = shared(cast(first)), shared(cast(second))
        inner = keras.Sequential(
            [dense(2, "deep"), qkeras.QActivation("quantized_tanh(4)", name="table")], name="inner"
        )
        joined = layers.Concatenate(name="join")([layers.Add(name="sum")([left, right]), left])
        return inner(qkeras.QActivation("quantized_relu(4,2)", name="again")(joined))

    found = {}
    for name, model in (("chain", sequential((4, 4, 1), *chain)), ("branches", wired(branches, (4,), (4,)))):
        (directory / name).mkdir()
        found[name] = save_all(model, directory / name)
    return found


def copied(files: Files, place: Path) -> Files:
    """Copy a model, so that it can be damaged."""
    path, weights = files
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, place / path.name)
    if weights is not None:
        shutil.copyfile(weights, place / weights.name)
    return place / path.name, None if weights is None else place / weights.name


def damaged(files: Files, place: Path, rng: random.Random) -> Files:
    """Copy a model and damage the bytes of one of its files."""
    path, weights = copied(files, place)
    candidates = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path, weights or path]
    victim = rng.choice(sorted(candidates))
    data = bytearray(victim.read_bytes())
    start, stop = sorted(rng.choices(range(len(data)), k=2))
    kind = rng.randrange(5)
    if kind == 0:
        del data[start:]
    elif kind == 1:
        data[start:stop] = bytes(min(stop - start, 64))
    elif kind == 2:
        data[start:start] = rng.randbytes(rng.randrange(1, 64))
    else:  # the start of a file holds its structure
        for _ in range(rng.choice((1, 4, 64))):
            data[rng.randrange(rng.choice((64, 4096, len(data))) % len(data) + 1) - 1] = rng.randrange(256)
    victim.write_bytes(data)
    return path, weights


def contorted(files: Files, place: Path, rng: random.Random) -> Files:
    """Copy a model and change its configuration in one to three places, at any depth."""

    def change(config: Config) -> Config:
        for _ in range(rng.randrange(1, 4)):
            holder, key = rng.choice(list(_entries(config)))
            other, its = rng.choice(list(_entries(config)))
            kind = rng.randrange(6)
            if kind == 0:
                del holder[key]
            elif kind == 1:
                holder[key] = json.loads(json.dumps(other[its]))
            elif kind == 2 and isinstance(holder[key], dict | list):
                holder[key] = [holder[key]]
            else:
                holder[key] = json.loads(json.dumps(rng.choice(VALUES)))
        return config

    return reconfigured(files, place, change)


def _entries(item: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of every entry of a configuration, however deep."""
    for key in list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
        yield item, key
        yield from _entries(item[key])


def reconfigured(files: Files, place: Path, change: Callable[[Config], Any]) -> Files:
    """Copy a model and change its configuration; a change may give text instead of JSON types."""
    path, weights = copied(files, place)

    def changed(text: str | bytes) -> str | bytes:
        config = change(json.loads(text))
        return config if isinstance(config, str | bytes) else json.dumps(config)

    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = changed(file.attrs["model_config"])
    elif path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, changed(content) if name == "config.json" else content)
    elif path.suffix == ".json":
        text = changed(path.read_text())
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    else:
        from tf_keras.protobuf import saved_metadata_pb2

        message = saved_metadata_pb2.SavedMetadata()
        message.ParseFromString((path / "keras_metadata.pb").read_bytes())
        for node in message.nodes:
            if node.node_path == "root":
                text = changed(node.metadata)
                node.metadata = text if isinstance(text, str) else text.decode("latin-1")
        (path / "keras_metadata.pb").write_bytes(message.SerializeToString())
    return path, weights


# -- attacks: (model, form, change of the configuration) or (model, form, change of the files)


def layer(config: Config, name: str) -> Config:
    """Return the entry of a layer, looked for at any depth."""
    return next(
        holder[key]
        for holder, key in _entries(config)
        if isinstance(holder[key], dict) and (holder[key].get("config") or {}).get("name") == name
        if "class_name" in holder[key] and name != holder[key].get("class_name")
    )


def setting(name: str, /, **values: Any) -> Callable[[Config], Config]:
    """Return a change of some entries of one layer's configuration."""

    def change(config: Config) -> Config:
        layer(config, name)["config"].update(values)
        return config

    return change


def _both(first: Callable[[Config], Config], second: Callable[[Config], Config]) -> Callable[[Config], Config]:
    return lambda config: second(first(config))


def entry(name: str, /, **values: Any) -> Callable[[Config], Config]:
    """Return a change of some keys beside a layer's configuration."""

    def change(config: Config) -> Config:
        layer(config, name).update(values)
        return config

    return change


def _added(class_name: str, **values: Any) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        config["config"]["layers"].append({"class_name": class_name, "config": {"name": "evil", **values}})
        return config

    return change


def _put_before(name: str, class_name: str, **values: Any) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        found = {"class_name": class_name, "config": {"name": "evil", **values}}
        config["config"]["layers"].insert(config["config"]["layers"].index(layer(config, name)), found)
        return config

    return change


def _added_deep(class_name: str, **values: Any) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        found = {"class_name": class_name, "config": {"name": "evil", **values}}
        for depth in range(5):
            found = {"class_name": "Sequential", "config": {"name": f"m{depth}", "layers": [found]}}
        config["config"]["layers"].append(found)
        return config

    return change


def _nested(depth: int, start: Config | None = None) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        for number in range(depth):
            config = {"class_name": "Sequential", "config": {"name": f"m{number}", "layers": [config]}}
        return config

    return change


def _itself(config: Config) -> Config:
    layer(config, "inner")["config"] = json.loads(json.dumps(config["config"]))
    return config


def _many_calls(config: Config) -> Config:
    layer(config, "sum")["inbound_nodes"] *= 100_000
    return config


def _doubling(config: Config) -> Config:
    """Models that hold the one before twice: short text, 2^16 layers."""
    found = layer(config, "again")
    for depth in range(15):
        inner = {"class_name": found["class_name"], "config": found["config"]}
        found = {**found, "class_name": "Sequential", "config": {"name": f"m{depth}", "layers": [inner, inner]}}
    layer(config, "again").update(found)
    return config


def _text(text: str | bytes) -> Callable[[Config], str | bytes]:
    return lambda config: text


def _deep_text(config: Config) -> str:
    return json.dumps(config)[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"


def _number_text(config: Config) -> str:
    return json.dumps(config).replace('"units": 3', '"units": ' + "9" * 5000)


SIZES: Mapping[str, Callable[[Config], Any]] = {
    "units 1e9": setting("logits", units=10**9),
    "units -3": setting("logits", units=-3),
    "units 0": setting("logits", units=0),
    "units 1e400": setting("logits", units=10**400),
    "units 5000 digits": _number_text,
    "units 3.5": setting("logits", units=3.5),
    "units '3'": setting("logits", units="3"),
    "units true": setting("logits", units=True),
    "units list": setting("logits", units=[3, 3]),
    "filters 2^40": setting("conv", filters=2**40),
    "kernel 1e5 x 1e5": setting("conv", kernel_size=[10**5, 10**5], padding="same"),
    "kernel -1": setting("conv", kernel_size=[-1, 2]),
    "kernel 3-d": setting("conv", kernel_size=[2, 2, 2]),
    "strides 0": setting("conv", strides=[0, 0]),
    "strides -1": setting("pool", strides=[-1, -1]),
    "dilation 1e9": _both(
        setting("conv", dilation_rate=[10**9, 10**9], padding="same"), setting("pool", pool_size=[3, 3])
    ),
    "groups 0": setting("conv", groups=0),
    "pool 1e9": setting("pool", pool_size=[10**9, 10**9]),
    "pool 1e9, same": _put_before("conv", "MaxPooling2D", pool_size=[10**9, 10**9], strides=[1, 1], padding="same"),
    "average 1e9, same": _put_before(
        "conv", "AveragePooling2D", pool_size=[10**9, 10**9], strides=[1, 1], padding="same"
    ),
    "pool 0": setting("pool", pool_size=[0, 0]),
    "axis 99": setting("norm", axis=[99]),
    "axis []": setting("norm", axis=[]),
    "epsilon NaN": setting("norm", epsilon=float("nan")),
    "epsilon text": setting("norm", epsilon="x"),
    "padding text": setting("conv", padding=CODE),
    "data_format": setting("conv", data_format="channels_first"),
    "dtype": setting("conv", dtype=CODE),
    "upsampling 1e9": _put_before("flat", "UpSampling2D", size=[10**9, 10**9]),
    "upsampling 3e4": _put_before("flat", "UpSampling2D", size=[30_000, 30_000]),
    "padding 3e4": _put_before("flat", "ZeroPadding2D", padding=[[30_000, 30_000], [30_000, 30_000]]),
    "padding -9": _put_before("flat", "ZeroPadding2D", padding=[[-9, -9], [-9, -9]]),
    "repeat 1e10": _added("RepeatVector", n=10**10),
    "reshape 0": _added("Reshape", target_shape=[0, -1]),
    "reshape -1 -1": _added("Reshape", target_shape=[-1, -1]),
    "reshape 1e9": _added("Reshape", target_shape=[10**9, -1]),
    "permute": _put_before("flat", "Permute", dims=[1, 1, 1, 9]),
    "2^63 bits": setting("conv", kernel_quantizer={"class_name": "quantized_po2", "config": {"bits": 2**63}}),
    "2^40 unrolls": setting(
        "conv", kernel_quantizer={"class_name": "ternary", "config": {"alpha": "auto", "number_of_unrolls": 2**40}}
    ),
    "many bits": setting("quantize", activation={"class_name": "quantized_relu", "config": {"bits": 10**9}}),
    "bits 1e400": setting("quantize", activation={"class_name": "quantized_relu", "config": {"bits": 10**400}}),
    "bits NaN": setting("quantize", activation={"class_name": "quantized_relu", "config": {"bits": float("nan")}}),
    "bits -4": setting("quantize", activation="quantized_relu(-4,-9)"),
    "integer -3": setting("quantize", activation="quantized_bits(4,-3,alpha=1)"),
    "tanh 60 bits": setting("quantize", activation="quantized_tanh(60)"),
}
"""Of the chain: numbers that no layer can have."""
WIRES: Mapping[str, Callable[[Config], Any]] = {
    "reads itself": entry("sum", inbound_nodes=[[["sum", 0, 0, {}], ["cast", 0, 0, {}]]]),
    "cycle": entry("shared", inbound_nodes=[[["sum", 0, 0, {}]], [["sum", 0, 0, {}]]]),
    "reads nothing": entry("sum", inbound_nodes=[[]]),
    "reads a ghost": entry("sum", inbound_nodes=[[["ghost", 0, 0, {}], ["shared", 0, 0, {}]]]),
    "reads node 7": entry("sum", inbound_nodes=[[["shared", 7, 0, {}], ["shared", 0, 0, {}]]]),
    "reads node -1": entry("sum", inbound_nodes=[[["shared", -1, 0, {}], ["shared", 0, 0, {}]]]),
    "reads node 1e400": entry("sum", inbound_nodes=[[["shared", 10**400, 0, {}], ["shared", 0, 0, {}]]]),
    "reads node inf": entry("sum", inbound_nodes=[[["shared", float("inf"), 0, {}], ["shared", 0, 0, {}]]]),
    "reads tensor 3": entry("sum", inbound_nodes=[[["shared", 0, 3, {}], ["shared", 1, 0, {}]]]),
    "no nodes": entry("sum", inbound_nodes=[]),
    "nodes null": entry("sum", inbound_nodes=None),
    "nodes text": entry("sum", inbound_nodes=CODE),
    "nodes of Keras 3": entry("sum", inbound_nodes=[{"args": [], "kwargs": {}}]),
    "called with code": entry("sum", inbound_nodes=[[["shared", 0, 0, {"training": CODE}], ["shared", 1, 0, {}]]]),
    "100,000 calls": _many_calls,
    "itself inside": _itself,
    "2^15 layers inside": _doubling,
    "nested 5": _nested(5),
    "nested 300": _nested(300),
    "nested 300 in a list": _deep_text,
    "no output": lambda config: {**config, "config": {**config["config"], "output_layers": []}},
    "ghost output": lambda config: {**config, "config": {**config["config"], "output_layers": [["ghost", 0, 0]]}},
    "no input": lambda config: {**config, "config": {**config["config"], "input_layers": []}},
    "inputs twice": lambda config: {
        **config,
        "config": {**config["config"], "input_layers": config["config"]["input_layers"] * 2},
    },
    "input is no input": lambda config: {**config, "config": {**config["config"], "input_layers": [["sum", 0, 0]]}},
    "shape 1e9": setting("in0", batch_input_shape=[None, 10**9]),
    "shape -1": setting("in0", batch_input_shape=[None, -1]),
    "shape none": setting("in0", batch_input_shape=[None, None]),
    "shape text": setting("in0", batch_input_shape=CODE),
    "shape []": setting("in0", batch_input_shape=[]),
    "dtype string": setting("in0", dtype="string"),
    "ragged": setting("in0", ragged=True),
    "same names": setting("again", name="shared"),
}
"""Of the branches: connections that no model has."""
TEXTS: Mapping[str, Callable[[Config], Any]] = {
    "code as activation": setting("quantize", activation=CODE),
    "code as argument": setting("quantize", activation=f"quantized_relu({CODE})"),
    "code as keyword": setting("quantize", activation=f"quantized_relu(bits={CODE})"),
    "a lambda": setting("quantize", activation="(lambda: 0)()"),
    "an attribute": setting("quantize", activation="np.zeros"),
    "two statements": setting("quantize", activation="quantized_relu(4); quantized_relu(5)"),
    "comprehension": setting("quantize", activation="[quantized_relu(4) for _ in range(10**9)]"),
    "power": setting("quantize", activation="quantized_relu(9**9**9)"),
    "deep text": setting("quantize", activation="quantized_relu(" + "(" * 3000 + "4" + ")" * 3000 + ")"),
    "long text": setting("quantize", activation="quantized_relu(" + "1," * 100_000 + "1)"),
    "null byte": setting("quantize", activation="quantized_relu(4)\0"),
    "code in alpha": setting("conv", kernel_quantizer=f"quantized_bits(4,0,alpha='{CODE}')"),
    "code in a dict": setting(
        "conv", kernel_quantizer={"class_name": "quantized_bits", "config": {"alpha": CODE, "bits": 4}}
    ),
    "quantizer of os": setting("conv", kernel_quantizer={"class_name": "os.system", "config": {"command": CANARY}}),
    "unknown argument": setting("conv", kernel_quantizer={"class_name": "quantized_po2", "config": {"command": "x"}}),
    "quantizer in a quantizer": setting(
        "conv",
        kernel_quantizer={
            "class_name": "quantized_po2",
            "config": {"max_value": {"class_name": "Lambda", "config": {"function": CODE}}},
        },
    ),
    "constraint": setting("conv", kernel_constraint={"class_name": "Lambda", "config": {"function": CODE}}),
    "initializer": setting("conv", kernel_initializer={"class_name": "os>system", "config": {"command": CANARY}}),
    "module of a layer": entry("conv", module="os", registered_name="system"),
    "module of a quantizer": setting(
        "conv",
        kernel_quantizer={"module": "os", "class_name": "system", "config": CANARY, "registered_name": "os>system"},
    ),
    "function object": setting("quantize", activation={"class_name": "function", "config": CODE, "module": "os"}),
    "__lambda__": setting("quantize", activation={"class_name": "__lambda__", "config": {"code": CODE}}),
    "__numpy__": setting("norm", epsilon={"class_name": "__numpy__", "config": {"value": [1], "dtype": "O"}}),
    "__tensor__": setting("norm", momentum={"class_name": "__tensor__", "config": {"value": [1], "dtype": "x"}}),
    "__bytes__": setting("conv", name={"class_name": "__bytes__", "config": {"value": CODE}}),
    "TypeSpec": setting("conv", name={"class_name": "TypeSpec", "type_spec": "os.system", "serialized": []}),
    "Lambda": _added("Lambda", function=[CODE, None, None], function_type="lambda", module="os"),
    "Lambda deep inside": _added_deep("Lambda", function=[CODE, None, None], function_type="lambda", module="os"),
    "TFOpLambda": _added("TFOpLambda", function="io.write_file"),
    "TFOpLambda deep inside": _added_deep("TFOpLambda", function="io.write_file"),
    "SlicingOpLambda": _added("SlicingOpLambda", function="__operators__.getitem"),
    "ClassMethod": _added("ClassMethod", method="from_config"),
    "custom class": _added("Custom>Evil", command=CANARY),
    "custom class deep inside": _added_deep("os>system", command=CANARY),
    "Wrapper": _added("TimeDistributed", layer={"class_name": "Lambda", "config": {"function": CODE}}),
    "RNN": _added("RNN", cell={"class_name": "Lambda", "config": {"function": CODE}}),
    "StringLookup": _added("StringLookup", vocabulary="/etc/passwd"),
    "class in lower case": _added("lambda", function=CODE),
    "class with a package": _added("keras.layers>Lambda", function=CODE),
    "class of a list": _added(["Lambda"], function=CODE),  # type: ignore[arg-type]
    "layers a dict": lambda config: {**config, "config": {"layers": {"a": 1}}},
    "layers text": lambda config: {**config, "config": {"layers": [CODE]}},
    "no layers": lambda config: {**config, "config": {"layers": []}},
    "class_name a list": lambda config: {**config, "class_name": ["Sequential"]},
    "class_name os": lambda config: {**config, "class_name": "os>system"},
    "module os": lambda config: {**config, "module": "os", "registered_name": "system"},
    "build_config": lambda config: {**config, "build_config": {"input_shape": CODE}},
    "build_config a list": lambda config: {**config, "build_config": [1]},
    "empty": _text(""),
    "a number": _text("1"),
    "null": _text("null"),
    "a list": _text("[[[]]]"),
    "not UTF-8": _text(b'{"class_name": "\xff\xfe", "config": {"layers": [{}]}}'),
    "half a pair": _text('{"class_name": "Sequential", "config": {"name": "\\ud800", "layers": [{"config": {}}]}}'),
    "a pickle": _text(pickle.dumps(CODE).decode("latin-1")),
    "half a pair as a name": setting("logits", name="\ud800/../\udfff"),
    "NaN": _text("NaN"),
}
"""Of the chain: texts, names and classes that would be code elsewhere."""


def _h5(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return changed


def _replaced(file: h5py.File, **values: Any) -> None:
    """Put another dataset in the place of the last layer's kernel."""
    group = file["model_weights/logits/logits"]
    del group["kernel:0"]
    group.create_dataset("kernel:0", **values)


def _not_a_number(file: h5py.File) -> None:
    file["model_weights/logits/logits/kernel:0"][0, 0] = np.nan


def _infinite(file: h5py.File) -> None:
    file["model_weights/norm/norm/moving_variance:0"][0] = np.inf


def _negative_variance(file: h5py.File) -> None:
    file["model_weights/norm/norm/moving_variance:0"][0] = -1


def _external_link(file: h5py.File) -> None:
    group = file["model_weights/logits/logits"]
    del group["kernel:0"]
    group["kernel:0"] = h5py.ExternalLink("/etc/passwd", "/")


def _link_to_itself(file: h5py.File) -> None:
    group = file["model_weights/logits/logits"]
    del group["kernel:0"]
    group["kernel:0"] = h5py.SoftLink("/model_weights/logits/logits/kernel:0")


def _group_in_itself(file: h5py.File) -> None:
    file["model_weights/logits/logits/again"] = file["model_weights"]


def _elsewhere(file: h5py.File) -> None:
    _replaced(file, shape=(2, 3), dtype="<f4", external=[("/etc/passwd", 0, 24)])


def _virtual(file: h5py.File) -> None:
    group = file["model_weights/logits/logits"]
    del group["kernel:0"]
    layout = h5py.VirtualLayout(shape=(2, 3), dtype="<f4")
    layout[:] = h5py.VirtualSource("../elsewhere.h5", "kernel", shape=(2, 3))
    group.create_virtual_dataset("kernel:0", layout)


def _without_names(file: h5py.File) -> None:
    del file["model_weights"].attrs["layer_names"]


def _other_names(file: h5py.File) -> None:
    file["model_weights"].attrs["layer_names"] = [b"../../evil", b"\xff\xfe"]


WEIGHTS: Mapping[str, Callable[[Path], None]] = {
    "NaN": _h5(_not_a_number),
    "infinite": _h5(_infinite),
    "negative variance": _h5(_negative_variance),
    "swapped shape": _h5(lambda file: _replaced(file, data=np.zeros((3, 2), np.float32))),
    "scalar": _h5(lambda file: _replaced(file, data=np.float32(1))),
    "text": _h5(lambda file: _replaced(file, data="../../evil")),
    "integers": _h5(lambda file: _replaced(file, data=np.zeros((2, 3), np.int64))),
    "complex": _h5(lambda file: _replaced(file, data=np.zeros((2, 3), np.complex64))),
    "records": _h5(lambda file: _replaced(file, data=np.zeros((2, 3), [("a", "<f4"), ("b", "<i2")]))),
    "doubles": _h5(lambda file: _replaced(file, data=np.full((2, 3), 1e300))),
    "empty": _h5(lambda file: _replaced(file, data=np.zeros((0, 3), np.float32))),
    "null": _h5(lambda file: _replaced(file, data=h5py.Empty("f4"))),
    "1e11 numbers declared": _h5(lambda file: _replaced(file, shape=(10**6, 10**5), dtype="f4", chunks=(8, 8))),
    "2^33 numbers packed": _h5(
        lambda file: _replaced(file, shape=(2**17, 2**16), dtype="f4", chunks=(64, 64), compression="gzip")
    ),
    "external link": _h5(_external_link),
    "link to itself": _h5(_link_to_itself),
    "group in itself": _h5(_group_in_itself),
    "numbers in another file": _h5(_elsewhere),
    "virtual": _h5(_virtual),
    "no names": _h5(_without_names),
    "other names": _h5(_other_names),
    "no weights": _h5(lambda file: file.__delitem__("model_weights")),
    "no configuration": _h5(lambda file: file.attrs.__delitem__("model_config")),
    "configuration of numbers": _h5(lambda file: file.attrs.__setitem__("model_config", np.arange(5))),
    "empty file": lambda path: path.write_bytes(b"") and None,
    "magic only": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n") and None,
    "zip magic only": lambda path: path.write_bytes(b"PK\x03\x04") and None,
    "a pickle": lambda path: path.write_bytes(pickle.dumps(CODE)) and None,
}
"""Of the chain's `.h5`: what it holds instead of its numbers."""


def _archive(**changes: bytes | None) -> Callable[[Path], None]:
    """Return a change of an archive's members, named with "__" for "."; None takes one out."""

    def changed(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
        members.update({name.replace("__", "."): content for name, content in changes.items()})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                if content is not None:
                    archive.writestr(name, content)

    return changed


def _bomb(member: str) -> Callable[[Path], None]:
    """Return a change that makes one member of an archive 200 MB of zeros."""
    return _archive(**{member: bytes(200 << 20)})


ARCHIVES: Mapping[str, Callable[[Path], None]] = {
    "no weights": _archive(model__weights__h5=None),
    "no configuration": _archive(config__json=None),
    "configuration bomb": _bomb("config__json"),
    "weights bomb": _bomb("model__weights__h5"),
    "weights a pickle": _archive(model__weights__h5=pickle.dumps(CODE)),
    "weights a .npz": _archive(model__weights__h5=None, model__weights__npz=pickle.dumps(CODE)),
    "names out of it": _archive(**{"../../evil": b"x", "/tmp/po2flow_evil": b"x"}),
}
"""Of the chain's `.keras`."""


def _kernel(name: str, **config: Any) -> Callable[[Config], Config]:
    return setting("conv", kernel_quantizer={"class_name": name, "config": config})


def _cast(text: str) -> Callable[[Config], Config]:
    return setting("quantize", activation=text)


QUANTIZERS: Mapping[str, Callable[[Config], Any]] = {
    **{
        f"po2, {bits} bits": _kernel("quantized_po2", bits=bits)
        for bits in (-1, 0, 1, 13, 40, 4.5, 10**9, "4", None, True)
    },
    **{
        f"bits, integer {integer}": _kernel("quantized_bits", integer=integer)
        for integer in (-3, 31, 64, 1.0, "1", [1])
    },
    **{f"keep_negative {flag}": _kernel("quantized_bits", keep_negative=flag) for flag in (2, -1, 0.5, "False", None)},
    **{f"symmetric {flag}": _kernel("quantized_bits", symmetric=flag) for flag in (3, "x", None, [0])},
    **{f"alpha {alpha}": _kernel("quantized_bits", alpha=alpha) for alpha in ("other", 1e300, {"a": 1}, [["x"]], True)},
    **{f"max_value {top}": _kernel("quantized_po2", max_value=top) for top in (0, -1, 1e300, "1", [1])},
    **{f"slope {slope}": _cast(f"quantized_relu(4,1,0,{slope})") for slope in (0.3, -0.5, 3, "'x'", "True")},
    **{f"relu, {bits} bits": _cast(f"quantized_relu({bits})") for bits in (-4, 0, 31, 64, 4.0, "'4'")},
    **{f"upper bound {top}": _cast(f"quantized_relu(4,1,relu_upper_bound={top})") for top in (-1, "1e30", "'x'")},
    **{
        text: _cast(text)
        for text in (
            *("quantized_bits(4,0x1)", "quantized_bits(4,(1))", "quantized_bits(0b100)", "quantized_bits(4,0,b'1')"),
            *("quantized_bits(4,0,keep_negative=False )", "quantized_bits(4,bits=5)", "quantized_bits(bits=4,bits=5)"),
            *("quantized_bits(4,0,alpha=(1.0,2.0))", "quantized_bits(4,0,alpha=[1])", "quantized_bits(*[4])"),
            *("quantized_bits(**{'bits': 4})", "quantized_bits(4)(5)", "quantized_relu(4,1);", "quantized_relu(4)#x"),
            *(
                "quantized_relu(4,lambda: 0)",
                "quantized_relu(4,1 if 1 else 2)",
                "quantized_relu(f'4')",
                "ternary(None)",
            ),
        )
    },
    "noise 2": _kernel("quantized_bits", qnoise_factor=2),
    "unrolls -1": _kernel("ternary", alpha="auto", number_of_unrolls=-1),
    "u 255": _cast("quantized_ulaw(4,0,0,255)"),
    "shift 0": _kernel("quantized_hswish", relu_shift=0),
    "exponents": _kernel("quantized_po2_zero", min_exp=5, max_exp=-5),
    "a lambda": setting("quantize", activation={"value": ["4wEA" * 1000, None, None]}),
    "a list": setting("quantize", activation=[1] * 100_000),
    "a name of 100,000": setting("quantize", name="n" * 100_000),
    "a quantizer of 100,000": setting("quantize", activation="q" * 100_000),
    "a class of 100,000": entry("quantize", class_name="Q" * 100_000),
    "an argument of 100,000": _kernel("quantized_bits", **{"n" * 100_000: 1}),
    "terminal codes": _kernel("quantized_bits", **{"\x1b[2J\n": "\x1b[31m"}),
}
"""Of the chain: arguments and texts of quantizers that QKeras computes otherwise than they say, or not at all."""


def attacks() -> dict[str, tuple[str, str, Callable[[Files, Path], Files]]]:
    """Return name -> (model, form, how its files are made)."""

    def configured(change: Callable[[Config], Any]) -> Callable[[Files, Path], Files]:
        return lambda files, place: reconfigured(files, place, change)

    def changed(change: Callable[[Path], None]) -> Callable[[Files, Path], Files]:
        def make(files: Files, place: Path) -> Files:
            made = copied(files, place)
            change(made[0])
            return made

        return make

    found = {}
    for what, model, form, table in (
        ("size", "chain", "h5", SIZES),
        ("wires", "branches", "h5", WIRES),
        ("text", "chain", "json", TEXTS),
        ("quantizer", "chain", "json", QUANTIZERS),
    ):
        found.update({f"{what}: {name}": (model, form, configured(change)) for name, change in table.items()})
    for what, form, tables in (("weights", "h5", WEIGHTS), ("archive", "keras", ARCHIVES)):
        found.update({f"{what}: {name}": ("chain", form, changed(change)) for name, change in tables.items()})
    return found
