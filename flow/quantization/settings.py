"""How to quantize: bit widths, tie rule, where to quantize and by what to choose; from options and a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from flow.errors import SpecError, at, shown
from flow.field_types import hold_types
from flow.ir.fixed import Rounding
from flow.toml_table import Table, read_toml

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
    """Settings of one layer; None where those of the model hold.

    Attributes:
        bits: of the output of its module.
        weight_bits: of its weights.
        weights: one of `WEIGHTS`.
    """

    bits: int | None = None
    weight_bits: int | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        hold_types(self)
        _check_bits(bits=self.bits, weight_bits=self.weight_bits)
        _check_one_of("weights", self.weights, (*WEIGHTS, None))


def _setting(default: Any, text: str, **words: str) -> Any:
    """Return the field of a setting.

    Args:
        default: what holds if nothing is said.
        text: help of its option; {} is the default.
        words: what the option is called, if not like the field, and what stands for its value in the help.
    """
    return field(default=default, metadata={"help": text.format(getattr(default, "value", default)), **words})


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
        calibration_samples: how many of them are used at most.
        seed: of their choice.
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
        layers: Keras layer -> what it has of its own.

    Raises:
        SpecError: a value is not one of those.
    """

    bits: int = _setting(8, "of activations, 2 to 16 (default: {})")
    weight_bits: int | None = _setting(None, "of weights (default: as --bits; 4 for powers of two)")
    bias_bits: int = _setting(16, "of biases (default: {})")
    input_bits: int | None = _setting(None, "of the input ports (default: as --bits, but at least 8)")
    output_bits: int = _setting(16, "of the outputs (default: {})")
    table_bits: int | None = _setting(None, "of what a function such as tanh reads (default: 4 more than --bits)")
    calibration_samples: int = _setting(128, "use at most so many, 16 to 512 (default: {})")
    seed: int = _setting(1, "of their choice (default: {})")
    weights: str = _setting("integer", "integer, po2 (default: {})", metavar="WEIGHT_KIND")
    per_channel: bool = _setting(
        True, "one number of fraction bits for all weights of a module, instead of one per channel", option="per-tensor"
    )
    candidates: int = _setting(4, "fraction bits tried for each of weights, bias, output (default: {})")
    rounding: Rounding = _setting(Rounding.RND_CONV, "tie rule: {} (default), AP_RND, AP_RND_INF, ...")  # noqa: RUF009
    choose: str = _setting("joint", "{} (default), or a baseline: independent, mse, minmax, percentile, kl")
    points: str = _setting("unified", "{} (default), or a baseline: wide-add, folded, op")
    equalize: bool = _setting(False, "equalize weights across layers first")
    bias_correction: bool = _setting(False, "let biases take up the mean error of their sums")
    weight_rounding: str = _setting("nearest", "{} (default), reconstruct")
    sweeps: int = _setting(1, "2: choose outputs again by what they do to the modules that read them (default: {})")
    budget_bits: float | None = _setting(None, "choose widths per module, B bits in the mean")
    budget_lut: int | None = _setting(None, "choose widths per module for so many LUTs (static estimate)")
    layers: Mapping[str, LayerSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hold_types(self)
        _check_bits(bits=self.bits, weight_bits=self.weight_bits, bias_bits=self.bias_bits)
        _check_bits(input_bits=self.input_bits, output_bits=self.output_bits, table_bits=self.table_bits)
        _check_one_of("weights", self.weights, WEIGHTS)
        _check_one_of("choose", self.choose, CHOICES)
        _check_one_of("points", self.points, POINTS)
        _check_one_of("weight rounding", self.weight_rounding, WEIGHT_ROUNDINGS)
        _check_one_of("sweeps", self.sweeps, (1, 2))
        if not 1 <= self.candidates <= 16:
            raise SpecError(f"{self.candidates} is not within 1 to 16", field="candidates")
        if not 0 <= self.seed < 1 << 63:
            raise SpecError(f"{shown(self.seed)} is not within 0 to 2**63 - 1", field="seed")
        if not MIN_SAMPLES <= self.calibration_samples <= MAX_SAMPLES:
            raise SpecError(
                f"calibration samples: {self.calibration_samples} is not within {MIN_SAMPLES} to {MAX_SAMPLES}"
            )
        if self.budget_bits is not None and self.budget_lut is not None:
            raise SpecError("a budget of bits and one of LUTs were given", remedy="give one of them")
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
        """Return the settings of an op that stands for some layers; where layers differ, the last one decides."""
        own = [self.layers[name] for name in layers if name in self.layers]
        bits = [layer.bits for layer in own if layer.bits is not None]
        weight_bits = [layer.weight_bits for layer in own if layer.weight_bits is not None]
        weights = ([layer.weights for layer in own if layer.weights is not None] or [self.weights])[-1]
        usual = PO2_BITS if weights == "po2" else self.bits
        settings = LayerSettings(
            bits=(bits or [self.bits])[-1],
            weight_bits=(weight_bits or [usual if self.weight_bits is None else self.weight_bits])[-1],
            weights=weights,
        )
        assert settings.weight_bits is not None
        if weights == "po2" and settings.weight_bits > MAX_PO2_BITS:
            raise SpecError(
                f"power-of-two weights of {settings.weight_bits} bits ({', '.join(layers)})",
                remedy=f"use {MIN_BITS} to {MAX_PO2_BITS}: a sign, and one of {2 ** (MAX_PO2_BITS - 1) - 1} exponents "
                "or zero",
            )
        return settings

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        own = {
            name: {key: value for key, value in asdict(layer).items() if value is not None}
            for name, layer in self.layers.items()
        }
        return {**asdict(self), "rounding": self.rounding.value, "layers": own}


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
    table = read_toml(path)
    with at(file=path):
        own = table.table("layers") if table.has("layers") else Table({}, "")
        layers = {name: _layer(own.table(name)) for name in own.data}
        given = table.optional(types_of(QuantSettings))
        if "rounding" in given:
            given["rounding"] = parse_rounding(given["rounding"])
        return {**given, **({"layers": layers} if layers else {})}


def types_of(settings: type[Any]) -> dict[str, type]:
    """Return the type of each setting as a file and the command line write it: a tie rule is a string."""
    kinds = {
        name: (get_args(hint) or (hint,))[0] for name, hint in get_type_hints(settings).items() if name != "layers"
    }
    return {name: str if kind is Rounding else kind for name, kind in kinds.items()}


def _layer(table: Table) -> LayerSettings:
    given = table.optional(types_of(LayerSettings))
    with at(table=table.where):
        return LayerSettings(**given)


def parse_rounding(text: str) -> Rounding:
    """Return the tie rule of a name such as "AP_RND".

    Raises:
        SpecError: there is none of that name.
    """
    try:
        return Rounding(text)
    except ValueError:
        raise SpecError(f"rounding {text!r} is none of {', '.join(rule.value for rule in Rounding)}") from None


def _check_bits(**widths: int | None) -> None:
    for name, bits in widths.items():
        if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
            raise SpecError(f"{bits} is not within {MIN_BITS} to {MAX_BITS} bits", field=name)


def _check_one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise SpecError(
            f"{value!r} is none of {', '.join(str(choice) for choice in known if choice is not None)}", field=name
        )
