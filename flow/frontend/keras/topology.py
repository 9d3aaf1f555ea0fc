"""The layer calls of a Keras configuration, in dataflow order: branches, shared layers and nested models laid flat.

Sequential                each layer reads the one before it
Functional                layers read what their inbound nodes name; a layer with several nodes is called as often
a model inside a model    its layers stand for it, under the path "model/layer"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flow.errors import UnsupportedError
from flow.frontend.keras import operations
from flow.frontend.keras.operations import Arguments
from flow.frontend.keras.quantizers import short_name

MODELS = ("Sequential", "Functional", "Model")
FURTHER = "Further"
"""Class of the calls that stand for the further outputs of a layer; Keras has none."""
STATES = {name + kind: count for name in ("", "Q") for kind, count in (("SimpleRNN", 1), ("GRU", 1), ("LSTM", 2))}
"""Recurrent layers, and how many states each has."""
BIDIRECTIONAL = ("Bidirectional", "QBidirectional")
TIME_DISTRIBUTED = "TimeDistributed"
MAX_DEPTH, MAX_CALLS = 16, 4096
"""Models inside models deeper than this, or more calls, are damage or malice."""


@dataclass(frozen=True, slots=True)
class Call:
    """One layer applied to tensors.

    Attributes:
        name: of its output: the layer's path, with "#2" behind it for a second call of the same layer.
        layer: path of the layer: the names of the models around it and its own, joined by "/".
        class_name: without a package: "QDense".
        config: as Keras wrote it.
        inputs: names of the calls that it reads.
        arguments: of a function, what it is called with.
        time_axes: along how many axes behind the batch it does the same to each step.
    """

    name: str
    layer: str
    class_name: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    arguments: Arguments | None = None
    time_axes: int = 0


@dataclass(frozen=True, slots=True)
class Topology:
    """A model as calls.

    Attributes:
        calls: in dataflow order, inputs (class "InputLayer") first.
        outputs: names of the calls whose outputs leave the model.
    """

    calls: tuple[Call, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[Call, ...]:
        """The model's inputs, in its order."""
        return tuple(call for call in self.calls if call.class_name == "InputLayer")


def topology(class_name: str, config: Mapping[str, Any]) -> Topology:
    """Return the calls of a model.

    Args:
        class_name: "Sequential" or "Functional".
        config: what `model.get_config()` gives; entries are JSON types.

    Raises:
        UnsupportedError: a layer reads what no layer gives, or the configuration is not of this form.
    """
    try:
        flat = _Flattener()
        outputs = flat.model("", class_name, config, None, 0)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UnsupportedError(f"its layers cannot be connected ({type(error).__name__}: {error})") from None
    if not outputs:
        raise UnsupportedError("the model has no outputs")
    needed = set(outputs) | {call.name for call in flat.calls if call.class_name == "InputLayer"}
    kept = []
    for call in reversed(flat.calls):
        if call.name in needed:
            needed.update(call.inputs)
            kept.append(call)
    kept.reverse()
    return Topology(tuple(sorted(kept, key=lambda call: call.class_name != "InputLayer")), tuple(outputs))


@dataclass(slots=True)
class _Flattener:
    """Collects the calls.

    Attributes:
        calls: so far.
        counts: how often each layer has been called.
        time_axes: how many TimeDistributed are around what is read.
    """

    calls: list[Call] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    time_axes: int = 0

    def model(
        self, path: str, class_name: str, config: Mapping[str, Any], inputs: Sequence[str] | None, depth: int
    ) -> list[str]:
        """Append the calls of a model that reads `inputs` (its own input layers if None); return its outputs."""
        if depth > MAX_DEPTH:
            raise UnsupportedError(f"models are nested more than {MAX_DEPTH} deep")
        if not config.get("layers"):
            raise UnsupportedError(f"{path or 'the model'} has no layers")
        build = self._sequential if class_name == "Sequential" else self._functional
        return build(path, config, inputs, depth)

    def _sequential(self, path: str, config: Mapping[str, Any], inputs: Sequence[str] | None, depth: int) -> list[str]:
        entries = list(config["layers"])
        tensors = list(inputs or ())
        if short_name(entries[0]["class_name"]) == "InputLayer":
            first = entries.pop(0)
            tensors = tensors or [self._call(path, first, ())]
        elif inputs is None:
            own = entries[0]["config"]
            shape = own.get("batch_input_shape") or own.get("batch_shape") or config.get("build_input_shape")
            port = {"class_name": "InputLayer", "config": {"name": "input", "batch_shape": shape}}
            tensors = [self._call(path, port, ())]
        for entry in entries:
            tensors = self._apply(path, entry, tensors, depth)
        return tensors

    def _functional(self, path: str, config: Mapping[str, Any], inputs: Sequence[str] | None, depth: int) -> list[str]:
        done: dict[tuple[str, int], list[str]] = {}
        entries = {entry["name"]: entry for entry in config["layers"]}
        ports = [str(name) for name, *_ in _triples(config["input_layers"])]
        for position, name in enumerate(ports):
            done[name, 0] = [self._call(path, entries[name], ())] if inputs is None else [inputs[position]]
        first = _first_nodes(config, entries)
        waiting = [
            (name, number, *node_sources(entry, node))
            for name, entry in entries.items()
            if name not in ports
            for number, node in enumerate(entry["inbound_nodes"], first.get(name, 0))
        ]
        if len(waiting) > MAX_CALLS:
            raise UnsupportedError(f"more than {MAX_CALLS} layers")
        while waiting:
            left = []
            for name, number, sources, arguments in waiting:
                if all((source, node) in done for source, node, _ in sources):
                    tensors = [done[source, node][index] for source, node, index in sources]
                    done[name, number] = self._apply(path, entries[name], tensors, depth, arguments)
                else:
                    left.append((name, number, sources, arguments))
            if len(left) == len(waiting):
                name, _, sources, _ = left[0]
                raise UnsupportedError(
                    f"layer '{name}' reads {sources[0][0]!r}, which no layer before it gives", named=name
                )
            waiting = left
        return [done[str(name), int(node)][int(index)] for name, node, index in _triples(config["output_layers"])]

    def _apply(
        self,
        path: str,
        entry: Mapping[str, Any],
        tensors: Sequence[str],
        depth: int,
        arguments: Arguments | None = None,
    ) -> list[str]:
        """Append one call, or those of a nested model; return its outputs."""
        entry, time_axes = unwrapped(entry)
        class_name = short_name(entry["class_name"])
        if class_name in MODELS:
            inner = f"{path}{_name(entry)}/"
            self.time_axes += time_axes
            outputs = self.model(inner, class_name, entry["config"], tensors, depth + 1)
            self.time_axes -= time_axes
            return outputs
        call = self._call(path, entry, tuple(tensors), arguments, time_axes)
        return [call, *(self._further(call, number) for number in range(1, _outputs(class_name, entry["config"])))]

    def _further(self, call: str, number: int) -> str:
        """Append the call that stands for another output of a call; `_call` counts the layers."""
        name = f"{call}:{number}"
        self.calls.append(Call(name, name, FURTHER, {"number": number}, (call,)))
        return name

    def _call(
        self,
        path: str,
        entry: Mapping[str, Any],
        inputs: tuple[str, ...],
        arguments: Arguments | None = None,
        time_axes: int = 0,
    ) -> str:
        if len(self.calls) >= MAX_CALLS:
            raise UnsupportedError(f"more than {MAX_CALLS} layers")
        layer = path + _name(entry)
        self.counts[layer] = self.counts.get(layer, 0) + 1
        name = layer if self.counts[layer] == 1 else f"{layer}#{self.counts[layer]}"
        class_name, axes = short_name(entry["class_name"]), self.time_axes + time_axes
        self.calls.append(Call(name, layer, class_name, entry["config"], inputs, arguments, axes))
        return name


def _outputs(class_name: str, config: Mapping[str, Any]) -> int:
    """Return how many tensors a layer gives."""
    if class_name in BIDIRECTIONAL:
        inner = config["layer"]
        return 1 + (config.get("merge_mode", "concat") is None) + 2 * _states(inner["class_name"], inner["config"])
    return 1 + _states(class_name, config)


def _states(class_name: str, config: Mapping[str, Any]) -> int:
    return STATES.get(short_name(class_name), 0) if config.get("return_state") else 0


def unwrapped(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """Return the layer or model that a TimeDistributed holds, under its name, and how many of these are around it."""
    count = 0
    while short_name(str(entry["class_name"])) == TIME_DISTRIBUTED:
        inner, count = entry["config"]["layer"], count + 1
        entry = {
            **entry,
            "class_name": inner["class_name"],
            "config": {**inner["config"], "name": entry["config"].get("name")},
        }
    return entry, count


def _first_nodes(config: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of the first call of each model inside: 1 where Keras counted its making as node 0."""
    numbers: dict[str, list[int]] = {}
    nodes = [(entry, node) for entry in entries.values() for node in entry["inbound_nodes"]]
    sources = [source for entry, node in nodes for source in node_sources(entry, node)[0]]
    for name, node, _ in (*sources, *_triples(config["output_layers"])):
        if str(name) in entries and short_name(entries[str(name)]["class_name"]) in MODELS:
            numbers.setdefault(str(name), []).append(int(node))
    return {name: min(found) for name, found in numbers.items()}


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["config"].get("name") or entry["name"])


def _triples(value: Any) -> list[tuple[Any, Any, Any]]:
    """Return ("layer", node, tensor) entries; Keras writes a single one without the list around it."""
    return [value] if value and isinstance(value[0], str) else list(value)


def node_sources(entry: Mapping[str, Any], node: Any) -> tuple[list[tuple[str, int, int]], Arguments | None]:
    """Return the tensors that a call reads, and of a function what it is called with."""
    if short_name(str(entry["class_name"])) in operations.CLASSES:
        return operations.node_of(node)
    return list(_sources(node)), None


def _sources(node: Any) -> Iterator[tuple[str, int, int]]:
    for source in node:
        name, number, index = source[:3]
        yield str(name), int(number), int(index)


# -- configurations that Keras 3 wrote, in the form of Keras 2; float models of today come so

TENSOR = "__keras_tensor__"
NEW_KEYS = ("optional", "quantization_config", "lora_rank", "lora_alpha", "data_type", "shared_object_id")
"""Keys of layers that Keras 2 does not know and that change nothing at inference."""
RENAMED: Mapping[str, Mapping[str, str]] = {
    "InputLayer": {"batch_shape": "batch_input_shape"},
    "LeakyReLU": {"negative_slope": "alpha"},
}
"""Layer -> keys that have another name in Keras 2."""


def as_keras_2(entry: Any) -> Any:
    """Return an entry of a model or layer, {"class_name", "config", ...}, in the form of Keras 2; others as they are.

        node    {"args": [tensors, or lists of them], "kwargs": {...}}   ->  [["layer", node, tensor, kwargs], ...]
        tensor  {"class_name": "__keras_tensor__", "config": {"keras_history": ["layer", node, tensor]}}
        dtype   {"class_name": "DTypePolicy", "config": {"name": "float32"}}  ->  "float32"

    The numbers need no change: `.h5` lists layers and weights in the same order, `.keras` names them in the same way.
    Damaged ones too are left as they are: what reads them next refuses them.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        return entry
    if operations.is_of_keras_3(entry):
        try:
            return operations.as_lambda(entry, _history)
        except (AttributeError, LookupError, TypeError, ValueError):
            return {**entry, "class_name": operations.CLASSES[0], "inbound_nodes": []}
    renamed = RENAMED.get(short_name(str(entry.get("class_name"))), {})
    config = {renamed.get(key, key): value for key, value in entry["config"].items() if key not in NEW_KEYS}
    if "dtype" in config:
        config["dtype"] = _dtype(config["dtype"])
    if isinstance(config.get("activation"), Mapping):  # a layer, or a quantizer
        config["activation"] = as_keras_2(config["activation"])
    if isinstance(config.get("layers"), list):
        config["layers"] = [as_keras_2(layer) for layer in config["layers"]]
    config |= {key: as_keras_2(config[key]) for key in ("layer", "backward_layer") if key in config}
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or not any(isinstance(node, Mapping) for node in nodes):
        return {**entry, "config": config}
    return {**entry, "config": config, "inbound_nodes": [_node(node) for node in nodes]}


def _dtype(value: Any) -> Any:
    named = isinstance(value, Mapping) and value.get("class_name") == "DTypePolicy"
    return value["config"].get("name") if named and isinstance(value.get("config"), Mapping) else value


def _node(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    given = {key: value for key, value in dict(node.get("kwargs") or {}).items() if value is not None}
    return [[*history, given] for history in _histories(node.get("args"))]


def _history(value: Any) -> list[Any] | None:
    """Return [layer, node, tensor] of what stands for a tensor, or None."""
    if isinstance(value, Mapping) and value.get("class_name") == TENSOR and isinstance(value.get("config"), Mapping):
        return list(value["config"].get("keras_history") or ["", 0, 0])[:3]
    return None


def _histories(value: Any) -> Iterator[list[Any]]:
    """Yield [layer, node, tensor] of each tensor in the arguments of a call; of anything else, what refuses it."""
    if isinstance(value, list):
        for item in value:
            yield from _histories(item)
    elif (history := _history(value)) is not None:
        yield history
    elif value is not None:
        yield [f"an argument {value!r:.40}", 0, 0]
