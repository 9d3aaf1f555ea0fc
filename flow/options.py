"""The options of the command line, and the dataclasses that they are read as."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow.backends.base import BACKENDS
from flow.commands import WEIGHTS_FILE, option_of
from flow.errors import SpecError, shown
from flow.target import IO_TYPES, STRATEGIES, Target

if TYPE_CHECKING:
    from flow.pipeline import BuildOptions, QuantizeOptions
    from flow.quantization.settings import QuantSettings

SETTING = "setting "
"""Stands before the fields of `QuantSettings` among the arguments: their `weights` are a kind, not a file."""


def add_model_options(parser: argparse.ArgumentParser, weights_file: str = WEIGHTS_FILE["build"]) -> None:
    """Add where model and inputs come from and where runs go: fields of `BuildOptions`."""
    add = parser.add_argument
    add(weights_file, dest="weights", type=Path, help="weights file for a model given as .json")
    add("--inputs", type=Path, help=".npy (samples, ...), .csv (a sample a row) or .npz (for several inputs: by name)")
    labels = ".npy or .csv: classes from 0, or floats to be measured against; of several outputs .npz or .csv by name"
    add("--labels", type=Path, help=labels)
    add("--input-format", help="port format of a model that does not quantize its input: 'ufixed<8,0>'")
    rounded = "round to this many bits, no longer exactly the model (docs/numerics.md): "
    add("--batchnorm-bits", type=int, metavar="BITS", help=f"{rounded}factors of batch normalizations")
    add("--float-layers", type=int, metavar="BITS", help=f"{rounded}layers without quantizers, tried on --inputs")
    add("--softmax", help="output format of a final softmax: 'ufixed<8,0>' (default: off, left away)")
    add("--output", type=Path, help="where runs go (default: hls_projects)")


NEAREST = "nearest:"
"""Before a reuse factor: of an op that cannot have it, the nearest one that it can have."""


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the fields of a `Target`."""
    add, default = parser.add_argument, Target()
    add("--backend", default=default.backend, help=f"{', '.join(BACKENDS)} (default: {default.backend})")
    io_types = f"{', '.join(IO_TYPES)} (default: {default.io_type}; rtl: io_stream for convolutions)"
    add("--io-type", default="", help=io_types)
    add("--strategy", default="", help=f"{', '.join(STRATEGIES)} (default: the first that the back end has)")
    shared = "products that share one multiplier or shifter, for all ops or one; may be repeated (default: 1)"
    add("--reuse-factor", action="append", default=[], metavar="N|nearest:N|OP=N", help=shared)
    part = f"FPGA part (default: hls4ml's for the back end, {default.part} for {default.backend})"
    add("--part", default="", help=part)
    add("--clock-period-ns", type=float, default=default.clock_period_ns, help="(default: 5)")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what is run and where to stop: further fields of `BuildOptions`."""
    add = parser.add_argument
    add("--samples", type=int, help="run at most this many inputs, 1 or more (default: 2000)")
    add("--adversarial", type=int, help="adversarial inputs besides, 16 or more (default: 2048)")
    add("--until", help="stop after: extract, emit, report (default), csynth, vivado; rtl: synth, pnr")
    add("--json", action="store_true", help="print the report as JSON on stdout")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of `QuantSettings`; one that is not given is None."""
    from flow.quantization.settings import QuantSettings, types_of

    add = parser.add_argument
    add("--calibration", type=Path, help="as --inputs, 16 samples or more (default: those kept with a named model)")
    add("--spec", type=Path, help="TOML file with these settings, and those of single layers")
    types = types_of(QuantSettings)
    settings = [item for item in fields(QuantSettings) if item.name in types]
    for item in sorted(settings, key=lambda item: (int, float, str, bool).index(types[item.name])):
        kind = types[item.name]
        value: dict[str, Any] = {"action": "store_const", "const": not item.default}
        if kind is not bool:
            metavar = {int: "N", float: "B"}.get(kind, item.name.upper())
            value = {"type": kind, "metavar": item.metadata.get("metavar", metavar)}
        add(option_of(item), dest=SETTING + item.name, help=item.metadata["help"], **value)


def read_target(arguments: argparse.Namespace) -> Target:
    """Return the target that the options of `add_target_options` ask for."""
    return Target(**{**_fields_of(Target, arguments), **_reuse_factors(arguments.reuse_factor)})


def _reuse_factors(given: Sequence[str]) -> dict[str, Any]:
    """Read ["nearest:4", "conv1=3"] as the fields of a Target."""
    common, own, nearest = 1, [], False
    for text in given:
        op, _, number = text.rpartition("=")
        if not op and number.startswith(NEAREST):
            number, nearest = number.removeprefix(NEAREST), True
        if not number.isdecimal():
            raise SpecError(f"--reuse-factor {shown(text)} is neither N nor {NEAREST}N nor OP=N")
        if op:
            own.append((op, int(number)))
        else:
            common = int(number)
    return {"reuse_factor": common, "reuse_factors": tuple(own), "reuse_nearest": nearest}


def read_options(arguments: argparse.Namespace) -> BuildOptions:
    """Return what a build is asked for besides its target."""
    from flow.pipeline import BuildOptions

    return BuildOptions(**_fields_of(BuildOptions, arguments))


def read_quantize_options(arguments: argparse.Namespace) -> QuantizeOptions:
    """Return what the build of a float model is asked for besides its target."""
    from flow.pipeline import QuantizeOptions

    return QuantizeOptions(**_fields_of(QuantizeOptions, arguments), settings=_read_settings(arguments))


def _fields_of(options: type[Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that are called like the fields of a dataclass and were given; it knows the defaults."""
    given = {item.name: getattr(arguments, item.name, None) for item in fields(options)}
    return {name: value for name, value in given.items() if value is not None}


def _read_settings(arguments: argparse.Namespace) -> QuantSettings:
    """Return the settings that a file and the command line give; the command line has the last word."""
    from flow.quantization.settings import QuantSettings, parse_rounding, read_settings

    said = {item.name: getattr(arguments, SETTING + item.name, None) for item in fields(QuantSettings)}
    given = {name: value for name, value in said.items() if value is not None}
    if "rounding" in given:
        given["rounding"] = parse_rounding(given["rounding"])
    return QuantSettings(**{**(read_settings(arguments.spec) if arguments.spec is not None else {}), **given})
