"""The measured costs of requantizing an accumulator, as a table that needs no tool to be read.

`flow study quantizers` writes it (docs/quantizer-cost.md); `quantizers.json` is the copy that comes along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from flow.errors import SpecError, UnsupportedError
from flow.json_text import json_text

QUANTIZERS_JSON = "quantizers.json"
CONSTANT, RUNTIME = "constant", "runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class FpgaCost:
    """What a circuit takes of an FPGA, as Yosys counts it (flow/backends/yosys/cells.py); nothing is placed."""

    lut: int
    ff: int
    carry: int
    dsp: int
    bram_18k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How the mapped netlist was held against its integer definition, bit for bit.

    Attributes:
        scope: "exhaustive" (every accumulator, with every parameter set that was tried) or "vectors" (ties, extremes
            and random accumulators).
        inputs: how many inputs were compared.
    """

    scope: str
    inputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One circuit at one pair of widths. Units of area and energy are those of the table.

    Attributes:
        circuit: "shift_constant", "dyadic16_runtime", ...
        parameters: "constant" or "runtime".
        acc_bits: width of the input: the accumulator, signed; of a codebook's decoder, the code.
        out_bits: width of the output.
        multiplier_bits: of the integer multiplier, or None.
        entries: of the codebook or the thresholds' steps, or None.
        area: of all cells.
        register_area: of the input's and the output's flip-flops in it; those of storage are not among them.
        storage_bits: bits that the circuit stores beside its input and output registers (codebooks, thresholds).
        cells: how many cells.
        energy: of the data nets, per operation.
        energy_zeros: the same with zeros in place of the random bits that widen an accumulator.
        clock_energy: of the clock pins of the input's and the output's flip-flops, per operation; the clock of storage
            stands still.
        delay_ns: of the longest path from register to register by ABC, without wires; None where the library has no
            delays.
        xc7, xc7_nodsp, xcup, xcup_nodsp: on 7-series and UltraScale+, with DSPs and without; None where it was not
            synthesized for FPGAs.
        checked: how it was checked.
    """

    circuit: str
    parameters: str
    acc_bits: int
    out_bits: int
    multiplier_bits: int | None
    entries: int | None
    area: float
    register_area: float
    storage_bits: int
    cells: int
    energy: float
    energy_zeros: float
    clock_energy: float
    delay_ns: float | None
    xc7: FpgaCost | None
    xc7_nodsp: FpgaCost | None
    xcup: FpgaCost | None
    xcup_nodsp: FpgaCost | None
    checked: Checked

    @property
    def logic_area(self) -> float:
        """Area without the input's and the output's flip-flops."""
        return self.area - self.register_area

    @property
    def name(self) -> str:
        """Circuit and widths in words: "dyadic16_runtime, 32 -> 8"."""
        return f"{self.circuit}, {self.acc_bits} -> {self.out_bits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """A measured table.

    Attributes:
        cell_library: name of the standard-cell library, or "generic gates".
        area_unit, energy_unit: of `Row.area` and `Row.energy`.
        clock_period_ns: what the mapping to cells sized for.
        tools: name -> version.
        scripts: name -> commands of Yosys, with `<circuit>` for the module.
        accumulators: model and op of the accumulator values -> how many were taken.
        rows: the measurements.
    """

    cell_library: str
    area_unit: str
    energy_unit: str
    clock_period_ns: float
    tools: Mapping[str, str]
    scripts: Mapping[str, tuple[str, ...]]
    accumulators: Mapping[str, int]
    rows: tuple[Row, ...]

    def find(self, circuit: str, acc_bits: int, out_bits: int) -> Row:
        """Return the row of exactly these widths.

        Raises:
            UnsupportedError: it was not measured.
        """
        for row in self.rows:
            if (row.circuit, row.acc_bits, row.out_bits) == (circuit, acc_bits, out_bits):
                return row
        raise UnsupportedError(f"the table of requantizers has no '{circuit}, {acc_bits} -> {out_bits}'")


def costs_from_json(document: Mapping[str, Any]) -> Costs:
    """Return the table that a JSON object holds.

    Example:
        >>> load_costs().cell_library
        'osu018_stdcells'
    """
    fpga = ("xc7", "xc7_nodsp", "xcup", "xcup_nodsp")
    plain = ("cell_library", "area_unit", "energy_unit", "clock_period_ns", "tools", "accumulators")
    rows = []
    for row in document["rows"]:
        counted = {name: FpgaCost(**row[name]) if row[name] else None for name in fpga}
        rows.append(Row(**{**row, **counted, "checked": Checked(**row["checked"])}))
    return Costs(
        **{name: document[name] for name in plain},
        scripts={name: tuple(commands) for name, commands in document["scripts"].items()},
        rows=tuple(rows),
    )


def costs_to_json(costs: Costs) -> str:
    """Return the table as the text of a JSON object, a line for each row."""
    document = {"schema": 1, **asdict(costs)}
    rows = document.pop("rows")
    head = json_text(document).removesuffix("\n}")
    return head + ',\n "rows": [\n' + ",\n".join(f"  {json_text(row, indent=None)}" for row in rows) + "\n ]\n}\n"


@cache
def load_costs() -> Costs:
    """Return the measured table that comes with the package."""
    return costs_from_json(json.loads((resources.files("flow.cost") / QUANTIZERS_JSON).read_text()))


def requantization_cost(circuit: str, acc_bits: int, out_bits: int) -> Row:
    """Return what a requantizer costs: the row of the smallest measured widths that cover those asked for.

    Args:
        circuit: name of a circuit in the table.
        acc_bits: width of the accumulator.
        out_bits: width of the output.

    Returns:
        The row; its own `acc_bits` and `out_bits` say which widths were measured.

    Raises:
        SpecError: there is no such circuit.
        UnsupportedError: it was not measured at widths that cover these.

    Example:
        >>> row = requantization_cost("shift_constant", 18, 8)
        >>> row.acc_bits, row.out_bits
        (24, 8)
    """
    rows = [row for row in load_costs().rows if row.circuit == circuit]
    if not rows:
        known = dict.fromkeys(row.circuit for row in load_costs().rows)
        raise SpecError(f"no requantizer '{circuit}' in the table", remedy=f"there are {', '.join(known)}")
    covering = [row for row in rows if row.acc_bits >= acc_bits and row.out_bits >= out_bits]
    if not covering:
        measured = ", ".join(f"{row.acc_bits} -> {row.out_bits}" for row in rows)
        raise UnsupportedError(f"'{circuit}' was measured at {measured}; none covers {acc_bits} -> {out_bits}")
    return min(covering, key=lambda row: (row.acc_bits, row.out_bits))
