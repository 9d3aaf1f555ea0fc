"""Random QKeras models: small functional configurations over everything that `extract` reads, made to hit corners.

A `Recipe` is plain data: a Keras configuration, and a seed from which `flow.train.recipes` makes weights layer by layer
(by name, so that a smaller recipe keeps the weights of the layers that are left).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flow.frontend.keras.topology import node_sources
from flow.toml_table import Table
from flow.train.random_blocks import block, heads, join
from flow.train.random_drafts import Draft, Tensor, draw_style
from flow.train.random_layers import embedding


@dataclass(frozen=True, slots=True)
class Recipe:
    """A random model as data.

    Attributes:
        name: identifier.
        config: Keras configuration of a functional model.
        seed: of the weights.
        input_format: port format where the model does not quantize its inputs, as for `--input-format`.
        io_type, strategy, backend: target on which it is tried.
        rtlsim: whether it is tried as Verilog too.
    """

    name: str
    config: Mapping[str, Any]
    seed: int
    input_format: str | None = None
    io_type: str = "io_parallel"
    strategy: str = "Latency"
    backend: str = "Vitis"
    rtlsim: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_json` wrote.

        Raises:
            SpecError: a value is missing, unknown or of another kind.
        """
        table = Table({key: value for key, value in data.items() if value is not None}, "")
        return cls(
            name=table.text("name"),
            config=table.take("config", dict, "a Keras configuration"),
            seed=table.integer("seed", 0, 2**64),
            **table.optional(
                {**dict.fromkeys(("input_format", "io_type", "strategy", "backend"), str), "rtlsim": bool}
            ),
        )


RTLSIM_EVERY = 10
"""One model of so many is tried as Verilog too."""


def random_recipe(seed: int, index: int) -> Recipe:
    """Return model `index` of a seed; always the same one."""
    rng = np.random.default_rng([seed, index])
    draft = Draft(rng, draw_style(rng))
    inputs, tensors, input_format = _inputs(draft)
    for _ in range(0 if draft.chance(0.02) else draft.number(1, 5)):
        source = tensors[-1] if draft.chance(0.75) else draft.pick(tensors)
        tensors.append(block(draft, source, tensors))
    if len(inputs) == 2:  # every input must be read
        tensors.append(join(draft, tensors))
    count = draft.pick([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 3]) if len(tensors) > len(inputs) else 0
    outputs = heads(draft, tensors[-1], count) if count else tensors[-1:]
    name = f"fuzz_{seed}_{index}"
    config = {
        "name": name,
        "layers": draft.entries,
        "input_layers": [[tensor.name, 0, 0] for tensor in inputs],
        "output_layers": [[tensor.name, tensor.node, 0] for tensor in outputs],
    }
    return Recipe(
        name=name,
        config=_needed(config),
        seed=draft.number(0, 1 << 31),
        input_format=input_format,
        io_type=draft.pick(["io_parallel", "io_stream"]),
        strategy=draft.pick(["Latency", "Resource"]),
        backend=draft.pick(["Vitis", "Vivado"]),
        rtlsim=index % RTLSIM_EVERY == 0,
    )


def _inputs(draft: Draft) -> tuple[list[Tensor], list[Tensor], str | None]:
    """Return the inputs of a model, what is made of them, and the format of ports that nothing quantizes."""
    if draft.chance(0.04):
        bits = draft.number(1, 5)
        embedded = embedding(draft, bits)
        return (
            [Tensor(draft.entries[0]["name"], embedded.shape[:1])],
            [draft.quantizer(embedded)],
            f"ufixed<{bits},{bits}>",
        )
    inputs = [draft.input() for _ in range(1 if draft.chance(0.9) else 2)]
    if draft.chance(0.15):
        return inputs, list(inputs), draft.pick(["ufixed<4,2>", "fixed<5,2>", "fixed<16,6>", "ufixed<8,0>"])
    return inputs, [draft.keep("QActivation", port, activation=draft.cast()) for port in inputs], None


def smaller(recipe: Recipe) -> Iterator[Recipe]:
    """Yield recipes with less in them, boldest first: an earlier output, then one layer left out."""
    layers = [entry for entry in recipe.config["layers"] if entry["class_name"] != "InputLayer"]
    for entry in layers:
        config = copy.deepcopy(dict(recipe.config))
        config["output_layers"] = [[entry["name"], 0, 0]]
        yield replace(recipe, config=_needed(config))
    for entry in layers:
        if len(entry["inbound_nodes"]) != 1:
            continue
        for source in node_sources(entry, entry["inbound_nodes"][0])[0]:
            config = copy.deepcopy(dict(recipe.config))
            config["layers"] = [other for other in config["layers"] if other["name"] != entry["name"]]
            for other in config["layers"]:
                other["inbound_nodes"] = _redirected(other["inbound_nodes"], entry["name"], source)
            config["output_layers"] = _redirected(config["output_layers"], entry["name"], source)
            yield replace(recipe, config=_needed(config))


def _redirected(value: Any, name: str, source: tuple[str, int, int]) -> Any:
    """Return nodes of a configuration that read `source` where they read the layer `name`."""
    if isinstance(value, Mapping):
        return {key: _redirected(held, name, source) for key, held in value.items()}
    if not isinstance(value, list):
        return value
    rest = [_redirected(held, name, source) for held in value]
    return [*source, *rest[3:]] if value[:1] == [name] else rest


def _needed(config: dict[str, Any]) -> dict[str, Any]:
    """Drop layers that no output needs; inputs that nothing reads go too."""
    entries = {entry["name"]: entry for entry in config["layers"]}
    wanted: set[str] = set()
    waiting = [name for name, _, _ in config["output_layers"]]
    while waiting:
        entry = entries[waiting.pop()]
        if entry["name"] not in wanted:
            wanted.add(entry["name"])
            waiting += [name for node in entry["inbound_nodes"] for name, _, _ in node_sources(entry, node)[0]]
    layers = [entry for entry in config["layers"] if entry["name"] in wanted]
    return {**config, "layers": layers, "input_layers": [port for port in config["input_layers"] if port[0] in wanted]}
