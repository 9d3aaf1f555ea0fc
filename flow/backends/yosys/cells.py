"""What the cells of Yosys' netlists are in each family of parts, and the script that makes them.

Rules of counting (docs/synthesis.md):

- AMD: every LUT1 to LUT6 and INV is one LUT, whatever shares a site with another after placement. Shift registers and
  distributed RAM count the LUTs of the slice they take, as the vendor's "LUT as memory" does (UG474, UG574): SRL16E
  and SRLC32E 1, RAM64X1S 1, RAM64X1D 2, RAM128X1S 2, RAM128X1D, RAM256X1S, RAM32M and RAM64M 4, the rest 8. MUXF7 to
  MUXF9 and carry chains lie beside the LUTs. RAMB36 is two block RAMs of 18 kbit.
- ECP5: a CCU2C is two LUTs in carry mode, as nextpnr counts them; TRELLIS_DPR16X4 is four LUTs and the two that hold
  its write port. PFUMX and L6MUX21 lie beside the LUTs. DP16KD holds 18 kbit; MULT18X18D is the DSP, ALU54B its adder.
- iCE40: SB_CARRY lies beside the LUT of its logic cell. SB_RAM40_4K holds 4 kbit, so `bram_18k` is None and
  `detail.bram_4k` has the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flow.errors import ToolFailedError, UnsupportedError

Counts = Mapping[str, int]


def _cells(names: str, **counts: int) -> dict[str, Counts]:
    """Return the same counts for each of these cell types."""
    return dict.fromkeys(names.split(), counts)


NO_HARDWARE = _cells("$scopeinfo")
AMD: Mapping[str, Counts] = {
    **NO_HARDWARE,
    **_cells("INV LUT1 LUT2 LUT3 LUT4 LUT5 LUT6 SRL16E SRLC32E RAM64X1S", lut=1),
    **_cells("RAM64X1D RAM128X1S", lut=2),
    **_cells("RAM128X1D RAM256X1S RAM32M RAM64M", lut=4),
    **_cells("RAM256X1D RAM512X1S RAM32M16 RAM64M8 RAM64X8SW RAM32X16DR8", lut=8),
    **_cells("FDRE FDSE FDCE FDPE FDRE_1 FDSE_1 FDCE_1 FDPE_1", ff=1),
    **_cells("CARRY4 CARRY8", carry=1),
    **_cells("DSP48E1 DSP48E2", dsp=1),
    **_cells("RAMB18E1 RAMB18E2", bram_18k=1),
    **_cells("RAMB36E1 RAMB36E2", bram_18k=2),
    **_cells("URAM288", uram=1),
    **_cells("MUXF7 MUXF8 MUXF9 VCC GND"),
}
ECP5: Mapping[str, Counts] = {
    **NO_HARDWARE,
    **_cells("LUT4", lut=1),
    **_cells("CCU2C", lut=2, carry=1),
    **_cells("TRELLIS_DPR16X4", lut=6),
    **_cells("TRELLIS_FF", ff=1),
    **_cells("MULT18X18D", dsp=1),
    **_cells("DP16KD", bram_18k=1),
    **_cells("PFUMX L6MUX21 ALU54B"),
}
ICE40: Mapping[str, Counts] = {
    **NO_HARDWARE,
    **_cells("SB_LUT4", lut=1),
    **_cells("SB_CARRY", carry=1),
    **_cells("SB_DFF SB_DFFE SB_DFFR SB_DFFS SB_DFFSR SB_DFFSS SB_DFFER SB_DFFES SB_DFFESR SB_DFFESS", ff=1),
    **_cells("SB_DFFN SB_DFFNE SB_DFFNR SB_DFFNS SB_DFFNSR SB_DFFNSS", ff=1),
    **_cells("SB_DFFNER SB_DFFNES SB_DFFNESR SB_DFFNESS", ff=1),
    **_cells("SB_RAM40_4K SB_RAM40_4KNR SB_RAM40_4KNW SB_RAM40_4KNRNW", bram_4k=1),
    **_cells("SB_MAC16", dsp=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How Yosys maps to a family of parts.

    Attributes:
        synthesis: the command; `-top <module>` is added. It flattens, and puts no pads and no clock buffer, which an
            op inside a design does not have.
        cells: cell type -> what one of it counts.
        bram_kbit: what one block RAM holds, kbit.
    """

    synthesis: str
    cells: Mapping[str, Counts]
    bram_kbit: int = 18


XILINX = "synth_xilinx -flatten -noiopad -noclkbuf -family"
FAMILIES: Mapping[str, Family] = {
    "7-series": Family(synthesis=f"{XILINX} xc7", cells=AMD),
    "UltraScale": Family(synthesis=f"{XILINX} xcu", cells=AMD),
    "UltraScale+": Family(synthesis=f"{XILINX} xcup", cells=AMD),
    "ECP5": Family(synthesis="synth_ecp5", cells=ECP5),
    "iCE40 HX": Family(synthesis="synth_ice40 -device hx", cells=ICE40, bram_kbit=4),
    "iCE40 LP": Family(synthesis="synth_ice40 -device lp", cells=ICE40, bram_kbit=4),
    "iCE40 UltraPlus": Family(synthesis="synth_ice40 -device u -dsp", cells=ICE40, bram_kbit=4),
}
"""By the family of flow.parts."""


def find_family(name: str) -> Family:
    """Return how Yosys maps to a family of `flow.parts`.

    Raises:
        UnsupportedError: it has no mapping for it here.
    """
    if name not in FAMILIES:
        raise UnsupportedError(
            f"synthesis for family {name!r} is not supported", remedy=f"use one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def count(cells: Mapping[str, int], family: Family) -> dict[str, int]:
    """Return what cells add up to.

    Args:
        cells: cell type -> how many.
        family: what its cells count.

    Returns:
        lut, ff, dsp, carry, uram and bram_18k or bram_4k.

    Raises:
        ToolFailedError: a cell type is not in the family's table.

    Example:
        >>> count({"LUT2": 3, "CARRY4": 1}, FAMILIES["7-series"])
        {'lut': 3, 'ff': 0, 'dsp': 0, 'carry': 1, 'uram': 0, 'bram_18k': 0}
    """
    unknown = sorted(set(cells) - set(family.cells))
    if unknown:
        raise ToolFailedError(
            f"Yosys left cells that are not counted here: {', '.join(f'{cells[name]} {name}' for name in unknown)}",
            remedy="their place is the table of the family in flow/backends/yosys/cells.py",
        )
    total = dict.fromkeys(("lut", "ff", "dsp", "carry", "uram", f"bram_{family.bram_kbit}k"), 0)
    for name, number in cells.items():
        for resource, of_one in family.cells[name].items():
            total[resource] += number * of_one
    return total
