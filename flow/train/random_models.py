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

from flow.toml_table import Table
from flow.train.random_layers import Draft, block, join


@dataclass(frozen=True, slots=True)
class Recipe:
    """A random model as data.

    Attributes:
        name: identifier.
        config: Keras configuration of a functional model.
        seed: of the weights.
        input_format: port format where the model does not quantize its inputs, as for `--input-format`.
        io_type, strategy, backend: target on which it is tried.
    """

    name: str
    config: Mapping[str, Any]
    seed: int
    input_format: str | None = None
    io_type: str = "io_parallel"
    strategy: str = "Latency"
    backend: str = "Vitis"

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
            **table.optional(dict.fromkeys(("input_format", "io_type", "strategy", "backend"), str)),
        )


def random_recipe(seed: int, index: int) -> Recipe:
    """Return model `index` of a seed; always the same one."""
    rng = np.random.default_rng([seed, index])
    draft = Draft(rng)
    inputs = [draft.input() for _ in range(1 if rng.random() < 0.9 else 2)]
    quantizes = rng.random() < 0.85
    tensors = [draft.quantizer(tensor) if quantizes else tensor for tensor in inputs]
    for _ in range(int(rng.integers(1, 5))):
        source = tensors[-1] if rng.random() < 0.75 else draft.pick(tensors)
        tensors.append(block(draft, source, tensors))
    if len(inputs) == 2:  # every input must be read
        tensors.append(join(draft, tensors, inputs))
    outputs = [tensors[-1]]
    if rng.random() < 0.1 and tensors[-2].name not in {tensor.name for tensor in inputs}:
        outputs.append(tensors[-2])
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
        seed=int(rng.integers(1 << 31)),
        input_format=None if quantizes else draft.pick(["ufixed<4,2>", "fixed<5,2>"]),
        io_type=draft.pick(["io_parallel", "io_stream"]),
        strategy=draft.pick(["Latency", "Resource"]),
        backend=draft.pick(["Vitis", "Vivado"]),
    )


def smaller(recipe: Recipe) -> Iterator[Recipe]:
    """Yield recipes with less in them, boldest first: an earlier output, then one layer left out."""
    layers = [entry for entry in recipe.config["layers"] if entry["class_name"] != "InputLayer"]
    for entry in layers:
        config = copy.deepcopy(dict(recipe.config))
        config["output_layers"] = [[entry["name"], 0, 0]]
        yield replace(recipe, config=_needed(config))
    for entry in layers:
        sources = [source for node in entry["inbound_nodes"] for source in node]
        if len(entry["inbound_nodes"]) != 1:
            continue
        for source in sources:
            config = copy.deepcopy(dict(recipe.config))
            config["layers"] = [other for other in config["layers"] if other["name"] != entry["name"]]
            for other in config["layers"]:
                other["inbound_nodes"] = [
                    [source if read[0] == entry["name"] else read for read in node] for node in other["inbound_nodes"]
                ]
            config["output_layers"] = [
                list(source[:3]) if output[0] == entry["name"] else output for output in config["output_layers"]
            ]
            yield replace(recipe, config=_needed(config))


def _needed(config: dict[str, Any]) -> dict[str, Any]:
    """Drop layers that no output needs; inputs that nothing reads go too."""
    entries = {entry["name"]: entry for entry in config["layers"]}
    wanted: set[str] = set()
    waiting = [name for name, _, _ in config["output_layers"]]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [source[0] for node in entries[name]["inbound_nodes"] for source in node]
    layers = [entry for entry in config["layers"] if entry["name"] in wanted]
    return {**config, "layers": layers, "input_layers": [port for port in config["input_layers"] if port[0] in wanted]}
