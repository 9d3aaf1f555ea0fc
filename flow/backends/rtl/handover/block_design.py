"""A block design for a board, as a script for Vivado: cores or PCI Express, DMA engines, the net, clocks and resets.

Vivado was not at hand. Its commands are those of UG835 and UG994, cells and their pins those of PG021 (AXI DMA), PG082
and PG201 (Zynq), PG164 (resets), PG247 (SmartConnect), PG195 (XDMA), PG065 (clocks), PG085 (clock converter).
"""

from __future__ import annotations

from collections.abc import Sequence

from flow.backends.rtl.handover.boards import VivadoBoard
from flow.backends.rtl.handover.interface import ROOM
from flow.backends.rtl.handover.ports import Port
from flow.backends.rtl.handover.scripts import PLACED
from flow.backends.templating import filled
from flow.target import Target

XDC = """\
set_property CONFIG_VOLTAGE 1.8 [current_design]
set_property BITSTREAM.GENERAL.COMPRESS true [current_design]
"""
"""Of a card; the pins are those of its board files."""
README = """\

## On the board

    cd scripts && vivado -mode batch -source board.tcl    # at {megahertz} MHz; another clock: -tclargs MEGAHERTZ
{loading}
    python3 po2flow_driver.py                             # plays bench/vectors: PASS or FAIL, and samples a second

The script fails if timing is not met. The net was made for {part}; for this board it is made by
`flow build ... --backend rtl --part {board_part}`. A program says `net = Net()` and `net.predict(x)`, as
`software/po2flow_driver.py` tells. `make cocotb` runs that driver on simulated DMA engines.
"""
LOADING = {
    False: "    # copy this folder to the board, which has pynq (www.pynq.io), and there in software/:",
    True: "    # load software/{top}.bit into the card, restart the computer; with the driver `xdma`, in software/:",
}


def board_files(top: str, streams: Sequence[Port], board: VivadoBoard, target: Target) -> dict[str, str]:
    """Return script and constraints of a board: path in the hand-over -> text."""
    connections = f"\nset_property board_connections {{{board.connections}}} [current_project]"
    words: dict[str, object] = {
        "TOP": top,
        "BOARD": board.title,
        "BOARD_PART": board.board_part,
        "PART": board.part,
        "CONNECTIONS": connections if board.connections else "",
        "MEGAHERTZ": megahertz(board, target),
        "REPORTS": "".join(line for line in PLACED.splitlines(keepends=True) if "report" in line).rstrip(),
    }
    words["PROJECT"], words["BUILD"] = (filled(ROOM, f"board_{part}.tcl", words) for part in ("project", "build"))
    if board.processor is None:
        words["PROJECT"] = f"{words['PROJECT']}add_files -fileset constrs_1 -norecurse ../constraints/board.xdc\n"
        return {
            "scripts/board.tcl": filled(ROOM, "board_xdma.tcl", words | _channels(streams)),
            "constraints/board.xdc": XDC,
        }
    core = board.processor
    cell = {
        "IP": core.ip,
        "PRESET": core.preset,
        "SETTINGS": " ".join(f"CONFIG.{name} {value}" for name, value in core.settings.items()),
        "FREQUENCY": core.frequency,
        "CLOCK": core.clock,
        "RESET": core.reset,
        "MASTER": core.master[0],
        "MASTER_CLOCK": core.master[1],
        "MEMORY": core.memory[0],
        "MEMORY_CLOCK": core.memory[1],
        "TDATA_BITS": streams[0].bits,
    }
    return {"scripts/board.tcl": filled(ROOM, "board_zynq.tcl", words | cell | _engines(streams))}


def megahertz(board: VivadoBoard, target: Target) -> str:
    """Return the clock that the net gets: that of the run, or the fastest of the board."""
    return f"{min(1000 / target.clock_period_ns, board.most_mhz):.6g}"


def board_readme(top: str, board: VivadoBoard, target: Target) -> str:
    """Return the section of README.md on a board."""
    loading = LOADING[board.card].format(top=top)
    return README.format(megahertz=megahertz(board, target), loading=loading, part=target.part, board_part=board.part)


def _numbered(streams: Sequence[Port]) -> list[tuple[Port, int]]:
    """Return each port with its number among the inputs, or among the outputs."""
    sides = ([each for each in streams if each.is_input == side] for side in (True, False))
    return [(port, number) for side in sides for number, port in enumerate(side)]


def _engines(streams: Sequence[Port]) -> dict[str, object]:
    rows = [
        f"send_{number} {port.name} mm2s" if port.is_input else f"receive_{number} {port.name} s2mm"
        for port, number in _numbered(streams)
    ]
    return {"PORTS": "  ".join(rows), "ENGINES": len(rows)}


def _channels(streams: Sequence[Port]) -> dict[str, object]:
    rows = [
        f"send_{number} {port.name} {number} h2c" if port.is_input else f"receive_{number} {port.name} {number} c2h"
        for port, number in _numbered(streams)
    ]
    sends = sum(port.is_input for port in streams)
    return {"PORTS": "  ".join(rows), "SENDS": sends, "RECEIVES": len(rows) - sends}
