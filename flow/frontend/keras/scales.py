"""Scales of activation quantizers that QKeras computes from the data, and those that are frozen.

`quantized_bits` with alpha 'auto' or 'auto_po2' scales each batch by what is in it. QKeras' master writes such a scale,
once it is found, as `post_training_scale`, and then computes with that alone (`quantized_bits.__call__` there). So a
frozen model is one with that argument, whoever froze it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flow.errors import UnsupportedError
from flow.frontend.keras.quantizers import FROZEN, QuantizerConfig, parse_quantizer, short_name

Config = Mapping[str, Any]


def of_data(config: Config, path: str = "") -> Iterator[tuple[str, QuantizerConfig]]:
    """Yield the layers of a model, by their paths, whose activation is scaled by the data, and that quantizer."""
    for entry in config.get("layers") or ():
        own = entry["config"]
        if "layers" in own:
            yield from of_data(own, f"{path}{own['name']}/")
            continue
        try:
            quantizer = parse_quantizer(own.get("activation"))
        except UnsupportedError:  # refused with the layer's name
            continue
        if quantizer is not None and quantizer.name == "quantized_bits" and _asks_the_data(quantizer):
            yield path + own["name"], quantizer


def frozen(config: Config, scales: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return a model's configuration with the scales of some activations, nested lists by path of the layer."""
    layers = []
    for entry in config["layers"]:
        own = entry["config"]
        if "layers" in own:
            own = frozen(own, scales, f"{path}{own['name']}/")
        elif (name := path + str(own["name"])) in scales:
            quantizer = parse_quantizer(own["activation"])
            assert quantizer is not None
            args = {**quantizer.args, FROZEN: scales[name]}
            own = {**own, "activation": {"class_name": short_name(quantizer.name), "config": args}}
        layers.append({**entry, "config": own})
    return {**config, "layers": layers}


def _asks_the_data(quantizer: QuantizerConfig) -> bool:
    return isinstance(quantizer.args.get("alpha"), str) and quantizer.args.get(FROZEN) is None
