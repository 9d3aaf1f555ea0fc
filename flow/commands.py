"""The command lines that make a run again: train, then build or quantize, with every setting that is no default."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from flow.target import Target

WEIGHTS_FILE = {"build": "--weights", "quantize": "--weights-file"}
"""Command -> option for the weights file of a model given as `.json`; to `flow quantize`, `--weights` is their kind."""


def option_of(item: Field[Any]) -> str:
    """Return the option of a field: it is called like the field, or as the field's metadata say."""
    return "--" + str(item.metadata.get("option", item.name)).replace("_", "-")


def commands(model: str | Path, target: Target, options: Any, *, trained_here: bool) -> tuple[str, ...]:
    """Return what trains and builds a model again, in this order.

    Args:
        model, target, options: as `build_command` takes them.
        trained_here: whether the model has a spec, so that `flow train` makes it.
    """
    train = (shlex.join(["flow", "train", str(model)]),) if trained_here else ()
    return (*train, build_command(model, target, options))


def build_command(model: str | Path, target: Target, options: Any) -> str:
    """Return the `flow build` or `flow quantize` of a model, with every setting that is not the default.

    Args:
        model: as `flow.pipeline.build` takes it.
        target: hardware settings.
        options: a `flow.pipeline.BuildOptions`, or `QuantizeOptions`; options are called like its fields.

    Example:
        >>> from flow.pipeline import BuildOptions
        >>> build_command("digits_mlp", Target(io_type="io_stream"), BuildOptions(samples=100))
        'flow build digits_mlp --io-type io_stream --samples 100'
    """
    command = "quantize" if hasattr(options, "settings") else "build"
    settings = [
        *_settings(target, Target(backend=target.backend)),
        *_settings(options, type(options)(), weights=WEIGHTS_FILE[command]),
    ]
    if target.backend != Target().backend:
        settings = ["--backend", target.backend, *settings]
    return shlex.join(["flow", command, str(model), *settings])


def _settings(given: Any, default: Any, **options: str) -> Iterator[str]:
    """Yield the options that make `given` of `default`; `options` are those called otherwise than `option_of` says."""
    for item in fields(given):
        value = getattr(given, item.name)
        if value == getattr(default, item.name) or item.name == "layers":  # which come from the file of `spec`
            continue
        option = options.get(item.name, option_of(item))
        if item.name == "reuse_factors":
            for op, factor in value:
                yield from ("--reuse-factor", f"{op}={factor}")
        elif item.name == "settings":
            yield from _settings(value, type(value)())
        elif isinstance(value, bool):
            yield option
        else:
            yield from (option, str(getattr(value, "value", value)))
