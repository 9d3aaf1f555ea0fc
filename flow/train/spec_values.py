"""Values that weights and activations of a model spec may have: formats, powers of two, sums of them, levels.

kernel = { min_exponent = -6, max_exponent = 0 }                powers of two, or zero
kernel = { terms = 2, min_exponent = -6, max_exponent = 0 }     sums of at most so many different powers of two
kernel = { values = "ternary" }                                 -1, 0, 1 (or "binary": -1, 1) times a power of two
kernel = { signed = true, int_bits = 0, frac_bits = 3 }         fixed point; lists give one number for each channel
kernel = { bits = 4, per_channel = true }                       fixed point, the step learned
format = { signed = false, int_bits = 1, frac_bits = 3 }        of an activation, as `flow.ir.fixed.FixedFormat`
format = { bits = 4 }                                           of an activation, the range learned
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flow.errors import SpecError, shown
from flow.ir.fixed import FixedFormat
from flow.toml_table import Table

MOST_BITS = 24
LEVELS = ("binary", "ternary")
TERMS = (2, 3)
"""Fewest and most powers of two in a sum."""
SPAN = 20
"""How far exponents of sums are apart, at most."""
Bits = int | tuple[int, ...]
"""Bits of all channels, or of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Po2Spec:
    """A set of power-of-two values: 0 and plus/minus `2**e` for `min_exponent <= e <= max_exponent`."""

    min_exponent: int
    max_exponent: int

    def __post_init__(self) -> None:
        if not -30 <= self.min_exponent <= self.max_exponent <= 30:
            raise SpecError(f"exponents {self.min_exponent}..{self.max_exponent} are not a range within -30..30")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApotSpec:
    """Sums of at most `terms` different powers of two of a range, each added or subtracted."""

    terms: int
    min_exponent: int
    max_exponent: int

    def __post_init__(self) -> None:
        if self.max_exponent - self.min_exponent > SPAN:
            what = f"exponents {self.min_exponent}..{self.max_exponent} of sums are more than {SPAN} apart"
            raise SpecError(what, remedy="raise min_exponent")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelsSpec:
    """One of `LEVELS`, times a power of two for each neuron that follows its weights."""

    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """Signed fixed point; bits of all channels or a tuple with those of each."""

    int_bits: Bits
    frac_bits: Bits

    @property
    def channels(self) -> int | None:
        """How many channels there must be, or None."""
        return next((len(bits) for bits in (self.int_bits, self.frac_bits) if isinstance(bits, tuple)), None)

    def of_channels(self) -> tuple[list[int], list[int]]:
        """Return widths and integer bits of each channel; of one if they are the same for all."""
        count = self.channels or 1
        tops, fractions = (
            bits if isinstance(bits, tuple) else (bits,) * count for bits in (self.int_bits, self.frac_bits)
        )
        return [1 + top + fraction for top, fraction in zip(tops, fractions, strict=True)], list(tops)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsSpec:
    """Signed fixed point of a width whose step is learned, a power of two: one of the layer, or one of each channel."""

    bits: int
    per_channel: bool = False


KernelSpec = Po2Spec | ApotSpec | LevelsSpec | GridSpec | BitsSpec


def read_kernel(table: Table, name: str) -> KernelSpec:
    """Read what values a kernel has.

    Raises:
        SpecError: it is none of those above.
    """
    part = table.table(name)
    read = next((read for key, read in KERNELS.items() if part.has(key)), _po2)
    part.asked.clear()
    values = read(part)
    part.close()
    return values


def read_po2(table: Table, name: str) -> Po2Spec:
    """Read a range of exponents.

    Raises:
        SpecError: it is none.
    """
    part = table.table(name)
    values = _po2(part)
    part.close()
    return values


def read_format(table: Table, name: str, signed: bool | None = None) -> FixedFormat:
    """Read a format of 1 to 24 bits; `signed` demands one or the other kind.

    Raises:
        SpecError: it is none.
    """
    part = table.table(name)
    is_signed = _signed(part, signed)
    int_bits, frac_bits = part.integer("int_bits", -24, 24), part.integer("frac_bits", -24, 24)
    part.close()
    if not 1 + is_signed <= (bits := is_signed + int_bits + frac_bits) <= MOST_BITS:
        raise SpecError(f"key '{part.where}' has {bits} bits", remedy="expected 1 to 24 and a sign")
    return FixedFormat(is_signed, int_bits, frac_bits)


def read_format_or_bits(table: Table, name: str, signed: bool | None, most: int = MOST_BITS) -> FixedFormat | int:
    """Read a format, or how many bits there are, whose range is found.

    Raises:
        SpecError: it is neither.
    """
    part = table.table(name)
    if "bits" not in part.data:
        return read_format(table, name, signed)
    bits = part.integer("bits", 1 + bool(signed), most)
    part.close()
    return bits


def _signed(part: Table, wanted: bool | None) -> bool:
    is_signed: bool = part.take("signed", bool, "true or false")
    if wanted is not None and wanted != is_signed:
        what, remedy = f"key '{part.where}.signed' is {str(is_signed).lower()}", f"expected {str(wanted).lower()}"
        raise SpecError(what, remedy=remedy)
    return is_signed


def _exponents(part: Table) -> tuple[int, int]:
    low, high = part.integer("min_exponent", -30, 30), part.integer("max_exponent", -30, 30)
    if low > high:
        raise SpecError(f"key '{part.where}': min_exponent {low} is above max_exponent {high}")
    return low, high


def _po2(part: Table) -> Po2Spec:
    low, high = _exponents(part)
    return Po2Spec(min_exponent=low, max_exponent=high)


def _apot(part: Table) -> ApotSpec:
    terms = part.integer("terms", *TERMS)
    low, high = _exponents(part)
    return ApotSpec(terms=terms, min_exponent=low, max_exponent=high)


def _bits(part: Table) -> BitsSpec:
    per_channel = part.take("per_channel", bool, "true or false") if part.has("per_channel") else False
    return BitsSpec(bits=part.integer("bits", 2, MOST_BITS), per_channel=per_channel)


def _grid(part: Table) -> GridSpec:
    _signed(part, True)
    grid = GridSpec(int_bits=_of_channels(part, "int_bits"), frac_bits=_of_channels(part, "frac_bits"))
    lengths = {len(bits) for bits in (grid.int_bits, grid.frac_bits) if isinstance(bits, tuple)}
    if len(lengths) > 1:
        what = f"key '{part.where}' has bits of {' and of '.join(map(str, sorted(lengths)))} channels"
        raise SpecError(what, remedy="give as many int_bits as frac_bits, or one number")
    for bits in grid.of_channels()[0]:
        if not 2 <= bits <= MOST_BITS:
            raise SpecError(f"key '{part.where}' has {bits} bits", remedy="expected 1 to 23 and a sign")
    return grid


def _of_channels(part: Table, name: str) -> Bits:
    """Return an integer, or those of each channel."""
    if not isinstance(part.data.get(name), list):
        return part.integer(name, -MOST_BITS, MOST_BITS)
    values = part.take(name, list, "a list")
    if not values or any(type(value) is not int or abs(value) > MOST_BITS for value in values):
        remedy = f"expected integers from {-MOST_BITS} to {MOST_BITS}, one for each channel"
        raise SpecError(f"key '{part.key(name)}' is {shown(values)}", remedy=remedy)
    return tuple(values)


KERNELS: Mapping[str, Callable[[Table], KernelSpec]] = {
    "terms": _apot,
    "values": lambda part: LevelsSpec(values=part.text("values", LEVELS)),
    "bits": _bits,
    "int_bits": _grid,
}
"""A key of a kernel's values -> what reads them; powers of two have none of these."""
