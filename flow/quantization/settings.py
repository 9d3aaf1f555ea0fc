"""What to quantize how: bit widths, tie rule, where to quantize and by what to choose; from options and a TOML file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.errors import SpecError
from flow.ir.fixed import Rounding

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MIN_BITS, MAX_BITS = 2, 16
MIN_SAMPLES, MAX_SAMPLES = 16, 512
WEIGHTS = ("integer", "po2")
"""n-bit integers, or zero and plus/minus powers of two."""
CHOICES = ("joint", "independent", "mse", "minmax", "percentile", "kl")
"""By what fraction bits are chosen; all but the first are baselines (docs/quantize.md)."""
POINTS = ("unified", "wide-add", "folded", "op")
"""Where values are quantized; all but the first are baselines."""
WEIGHT_ROUNDINGS = ("nearest", "reconstruct")
PO2_BITS, MAX_PO2_BITS = 4, 6
"""Width of a power-of-two weight if nothing is said, and the largest: 31 powers, and zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSettings:
    """What one layer has of its own; None for what the model has.

    Attributes:
        bits: of the output of its module.
        weight_bits: of its weights.
        weights: one of `WEIGHTS`.
    """

    bits: int | None = None
    weight_bits: int | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        _check_bits(bits=self.bits, weight_bits=self.weight_bits)
        _check_one_of("weights", self.weights, (*WEIGHTS, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSettings:
    """How a float model is quantized.

    Attributes:
        bits: of activations: the outputs of modules.
        weight_bits: of weights; if None `bits`, and `PO2_BITS` for powers of two.
        bias_bits: of biases. A bias is never finer than the accumulator, so it need not be narrow.
        input_bits: of the input ports, if nothing else says their format; `bits` but at least 8 if None.
        output_bits: of what leaves the model.
        table_bits: of what a function (tanh, ...) reads; `bits` and 4 more if None.
        weights: one of `WEIGHTS`.
        per_channel: whether each output channel has fraction bits of its own for its weights.
        candidates: how many fraction bits are tried for weights, bias and output each: one coarser than what covers the
            range, that, and finer ones.
        rounding: how exact results become codes; nearest rules differ in ties.
        choose: one of `CHOICES`.
        points: one of `POINTS`.
        equalize: whether weights are equalized across layers first.
        bias_correction: whether biases take up the mean error of their sums.
        weight_rounding: one of `WEIGHT_ROUNDINGS`.
        sweeps: 1, or 2 to choose outputs again by what they do to the modules that read them.
        budget_bits: mean bits per weight and activation that may be spent; None for the same width everywhere.
        budget_lut: LUTs (static estimate) that may be spent; None for no such budget.
        calibration_samples: how many of them are used at most.
        seed: of their choice.
        layers: Keras layer -> what it has of its own.

    Raises:
        SpecError: a value is not one of those.
    """

    bits: int = 8
    weight_bits: int | None = None
    bias_bits: int = 16
    input_bits: int | None = None
    output_bits: int = 16
    table_bits: int | None = None
    weights: str = "integer"
    per_channel: bool = True
    candidates: int = 4
    rounding: Rounding = Rounding.RND_CONV
    choose: str = "joint"
    points: str = "unified"
    equalize: bool = False
    bias_correction: bool = False
    weight_rounding: str = "nearest"
    sweeps: int = 1
    budget_bits: float | None = None
    budget_lut: int | None = None
    calibration_samples: int = 128
    seed: int = 1
    layers: Mapping[str, LayerSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_bits(bits=self.bits, weight_bits=self.weight_bits, bias_bits=self.bias_bits)
        _check_bits(input_bits=self.input_bits, output_bits=self.output_bits, table_bits=self.table_bits)
        _check_one_of("weights", self.weights, WEIGHTS)
        _check_one_of("choose", self.choose, CHOICES)
        _check_one_of("points", self.points, POINTS)
        _check_one_of("weight rounding", self.weight_rounding, WEIGHT_ROUNDINGS)
        _check_one_of("sweeps", self.sweeps, (1, 2))
        if not 1 <= self.candidates <= 16:
            raise SpecError(f"candidates: {self.candidates} is not within 1 to 16")
        if not MIN_SAMPLES <= self.calibration_samples <= MAX_SAMPLES:
            raise SpecError(
                f"calibration samples: {self.calibration_samples} is not within {MIN_SAMPLES} to {MAX_SAMPLES}"
            )
        if self.budget_bits is not None and self.budget_lut is not None:
            raise SpecError("a budget of bits and one of LUTs were given; give one of them")
        if self.budget_bits is not None and not MIN_BITS <= self.budget_bits <= MAX_BITS:
            raise SpecError(f"budget of {self.budget_bits} bits is not within {MIN_BITS} to {MAX_BITS}")
        if self.budget_lut is not None and self.budget_lut < 1:
            raise SpecError(f"budget of {self.budget_lut} LUTs is below 1")

    @property
    def offsets(self) -> tuple[int, ...]:
        """By how much the candidates are finer than the fraction bits that cover a range; 0 is always one."""
        return tuple(range(-1, self.candidates - 1)) if self.candidates > 1 else (0,)

    @property
    def port_bits(self) -> int:
        """Bits of the input ports."""
        return max(8, self.bits) if self.input_bits is None else self.input_bits

    def layer(self, layers: tuple[str, ...]) -> LayerSettings:
        """Return what holds for an op that stands for some layers: the last one that says something has the say."""
        own = [self.layers[name] for name in layers if name in self.layers]
        bits = [each.bits for each in own if each.bits is not None]
        weight_bits = [each.weight_bits for each in own if each.weight_bits is not None]
        weights = ([each.weights for each in own if each.weights is not None] or [self.weights])[-1]
        usual = PO2_BITS if weights == "po2" else self.bits
        found = LayerSettings(
            bits=(bits or [self.bits])[-1],
            weight_bits=(weight_bits or [usual if self.weight_bits is None else self.weight_bits])[-1],
            weights=weights,
        )
        assert found.weight_bits is not None
        if weights == "po2" and found.weight_bits > MAX_PO2_BITS:
            raise SpecError(
                f"power-of-two weights of {found.weight_bits} bits ({', '.join(layers)}); use {MIN_BITS} to "
                f"{MAX_PO2_BITS}: a sign, and one of {2 ** (MAX_PO2_BITS - 1) - 1} exponents or zero"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        own = {
            name: {key: value for key in LayerSettings.__slots__ if (value := getattr(each, key)) is not None}
            for name, each in self.layers.items()
        }
        plain = {key: getattr(self, key) for key in QuantSettings.__slots__}
        return {**plain, "rounding": self.rounding.value, "layers": own}


def read_settings(path: Path) -> dict[str, Any]:
    """Return the fields of a `QuantSettings` that a TOML file sets.

    Example of such a file:

        bits = 6
        weight_bits = 4
        rounding = "AP_RND"

        [layers.conv1]
        bits = 8
        weights = "po2"

    Raises:
        SpecError: no such file; not TOML; an unknown key, or a value of another type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path}: not a readable TOML file ({error})") from error
    try:
        layers = {name: _layer(name, entry) for name, entry in _table("layers", document.pop("layers", {})).items()}
        return {**_fields(document, _TYPES), **({"layers": layers} if layers else {})}
    except SpecError as error:
        raise error.at(str(path)) from None


_TYPES: Mapping[str, type[Any] | tuple[type[Any], ...]] = {
    **dict.fromkeys(("bits", "weight_bits", "bias_bits", "input_bits", "output_bits", "table_bits"), int),
    **dict.fromkeys(("candidates", "sweeps", "budget_lut", "calibration_samples", "seed"), int),
    **dict.fromkeys(("weights", "choose", "points", "weight_rounding", "rounding"), str),
    **dict.fromkeys(("per_channel", "equalize", "bias_correction"), bool),
    "budget_bits": (int, float),
}
_LAYER_TYPES: Mapping[str, type[Any] | tuple[type[Any], ...]] = {"bits": int, "weight_bits": int, "weights": str}


def _layer(name: str, entry: Any) -> LayerSettings:
    try:
        return LayerSettings(**_fields(_table(name, entry), _LAYER_TYPES))
    except SpecError as error:
        raise error.at(f"layers.{name}") from None


def _table(name: str, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise SpecError(f"key '{name}' is {entry!r}; expected a table")
    return entry


def _fields(table: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(table)
    for key, value in table.items():
        if key not in types:
            raise SpecError(f"unknown key '{key}'; there are {', '.join(types)}")
        if not isinstance(value, types[key]) or (isinstance(value, bool) and types[key] is not bool):
            raise SpecError(f"key '{key}' is {value!r}, of another type than it should be")
    if "rounding" in found:
        found["rounding"] = parse_rounding(found["rounding"])
    return found


def parse_rounding(text: str) -> Rounding:
    """Return the tie rule of a name such as "AP_RND".

    Raises:
        SpecError: there is none of that name.
    """
    try:
        return Rounding(text)
    except ValueError:
        raise SpecError(f"rounding {text!r} is none of {', '.join(each.value for each in Rounding)}") from None


def _check_bits(**widths: int | None) -> None:
    for name, bits in widths.items():
        if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
            raise SpecError(f"{name}: {bits} is not within {MIN_BITS} to {MAX_BITS} bits")


def _check_one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise SpecError(f"{name}: {value!r} is none of {', '.join(str(each) for each in known if each is not None)}")
