"""A bitstream by open tools alone: Yosys, nextpnr and a packer; and the placed cells simulated with their UART.

The net stands behind a UART (`uart.v`). After place and route the netlist of placed cells is written as Verilog again,
and Icarus simulates it with models of the cells: bytes go in at the pin `rx`, and those that leave at `tx` must be the
reference's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flow.backends.functions import Site
from flow.backends.rtl.handover.boards import BAUD, MAPPED, PLACED, Board, find_board
from flow.backends.rtl.handover.interface import ROOM
from flow.backends.rtl.handover.ports import Port, ports
from flow.backends.rtl.synthesis.pnr import YOWASP, command_of, read_report
from flow.backends.rtl.verilog.printer import assign, declare
from flow.backends.templating import filled
from flow.backends.yosys.scripts import quoted, run_scripts, yosys_version
from flow.errors import ToolFailedError, UnsupportedError
from flow.files import temporary
from flow.ir.fixed import Codes
from flow.progress import Announce
from flow.project import Project
from flow.toolchain import require_tool, run_pool, run_tool

TIMEOUT_S = 3600.0
NO_DEFAULTS = "NO_ICE40_DEFAULT_ASSIGNMENTS"
"""Yosys' models of iCE40 leave out default values of ports, which Icarus does not know."""


def programs(board: Board) -> dict[str, list[str]]:
    """Return the commands that start nextpnr, the packer and Icarus.

    Raises:
        ToolMissingError: one of them, or Yosys, is not installed.
    """
    yosys_version()
    router, (packer, package, _) = board.router[0], board.packer
    return {
        "router": command_of(router, f"{YOWASP}-{router}"),
        "packer": command_of(packer, package),
        "iverilog": [require_tool("iverilog")],
        "vvp": [require_tool("vvp")],
    }


def bitstream(
    site: Site, board_name: str, codes: Mapping[str, Codes], announce: Announce
) -> tuple[Project, dict[str, Any]]:
    """Return the files of a bitstream and what it reached.

    Args:
        site: the run.
        board_name: a key of `BOARDS`.
        codes: name of each input and output op -> codes (samples, *shape), for the check of placed cells.
        announce: called with a line as each step begins.

    Raises:
        SpecError: the board is not known.
        UnsupportedError: the net has several inputs or outputs in a stream.
        ToolMissingError: a tool is not installed.
        ToolFailedError: one failed: the net does not fit, or not at the board's clock; or the placed cells compute
            something else.
    """
    board = find_board(board_name)
    started, name = programs(board), site.graph.name
    sources = _sources(site, board, codes)
    file = f"{name}.{board.bitstream}"
    with temporary() as scratch:
        for path, content in sources.items():
            (scratch / path).write_bytes(content)
        _build(scratch, sources, board, started, announce)
        announce(f"simulating the cells of {name}")
        check_cells(scratch, name, board, started)
        routed = read_report(scratch / "report.json")
        left = {file: f"design.{board.bitstream}", "gates.v": "gates.v"}
        made = {path: (scratch / source).read_bytes() for path, source in left.items()}
    record = {
        "model": name,
        "board": board.name,
        "bitstream": file,
        "baud": BAUD,
        "clock_mhz": board.clock_mhz,
        "reached_mhz": routed["achieved_mhz"],
        "used": routed["used"],
        "checked": {PLACED: "placed cells", MAPPED: "mapped cells"}[board.checked],
        "samples": len(next(iter(codes.values()))),
    }
    return Project(name, {**sources, **made}), record


def _sources(site: Site, board: Board, codes: Mapping[str, Codes]) -> dict[str, bytes]:
    """Return what is synthesized, where its pins are, and what speaks with it."""
    streams = ports(site.graph, site.target.io_type)
    if site.target.streams and len(streams) > 2:
        what = "a net with several inputs or outputs shares one UART only if all pass at once"
        raise UnsupportedError(what, remedy="build it with --io-type io_parallel")
    texts = {
        "po2flow_uart.v": filled(ROOM, "po2flow_uart.v", {}),
        "po2flow_board.v": wrapper(site.graph.name, streams, board),
        "constraints.txt": "".join(board.constraints.format(port=p, pin=pin) for p, pin in board.pins.items()),
        "sent.hex": _bytes([port for port in streams if port.is_input], codes),
        "expected.hex": _bytes([port for port in streams if not port.is_input], codes),
    }
    texts |= _ends(site.graph.name, streams, texts, board)
    rtl = {Path(path).name: content for path, content in site.read().files.items() if path.endswith(".v")}
    return {**rtl, **{path: text.encode() for path, text in texts.items()}}


def _build(
    scratch: Path, sources: Iterable[str], board: Board, started: Mapping[str, list[str]], announce: Announce
) -> None:
    """Synthesize, place, route and pack; nextpnr fails if the net does not fit or the board's clock is not met."""
    announce(f"synthesizing for {board.name}")
    read = f"read_verilog {' '.join(path for path in sources if path.endswith('.v'))}"
    script = (read, f"{board.synthesis} -top po2flow_board -json netlist.json")
    run_scripts({"synthesis": script}, scratch, timeout_s=TIMEOUT_S)
    announce(f"placing and routing on {board.name}")
    run_pool({"nextpnr": [*started["router"], *_routing(board)]}, scratch, TIMEOUT_S, lambda name: None)
    announce("packing the bitstream")
    packer, _, arguments = board.packer
    run_pool({packer: [*started["packer"], *arguments]}, scratch, TIMEOUT_S, lambda name: None)


def _routing(board: Board) -> list[str]:
    """Return the arguments of nextpnr."""
    *options, last = board.constraints_option
    constraints = [*options, f"{last}constraints.txt"] if last.endswith("=") else [*options, last, "constraints.txt"]
    written = [board.written, "design.config"] if board.written else []
    files = ["--json", "netlist.json", "--report", "report.json", "--write", "routed.json", *written]
    return [*board.router[1:], *constraints, "--freq", str(board.clock_mhz), "--seed", "1", *files]


def wrapper(name: str, streams: Sequence[Port], board: Board) -> str:
    """Return the top of a board: the net between the halves of a UART, all its inputs side by side."""
    inputs, outputs = ([port for port in streams if port.is_input == side] for side in (True, False))
    signals = [signal for port in streams for signal in port.signals]
    wires = "".join(declare(signal, width=width) for signal, _, width in signals)
    for bus, group in (("x_data", inputs), ("y_data", outputs)):
        start = 0
        for port in group:
            place, start = f"{bus}[{start} +: {port.bits}]", start + port.bits
            pair = (f"{port.name}_tdata", place) if port.is_input else (place, f"{port.name}_tdata")
            wires += assign(*pair)
            if port.is_input:
                wires += assign(f"{port.name}_tvalid", "x_valid") + assign(f"{port.name}_tlast", "1'b0")
            else:
                wires += assign(f"{port.name}_tready", "y_ready & y_valid")
    wires += assign("x_ready", " & ".join(f"{port.name}_tready" for port in inputs))
    wires += assign("y_valid", " & ".join(f"{port.name}_tvalid" for port in outputs))
    words = {
        "TOP": name,
        "BAUD": BAUD,
        "CYCLES": board.cycles_of_a_bit,
        "IN_BYTES": sum(port.bits for port in inputs) // 8,
        "OUT_BYTES": sum(port.bits for port in outputs) // 8,
        "WIRES": wires,
        "PORTS": ",\n        ".join(f".{signal}({signal})" for signal, _, _ in signals),
        "MORE_PORTS": "".join(f",\n    output wire {port}" for port in board.tied),
        "MORE": "".join(assign(port, f"1'b{level}") for port, level in board.tied.items()),
    }
    return filled(ROOM, "po2flow_board.v", words)


def _bytes(group: Sequence[Port], codes: Mapping[str, Codes]) -> str:
    """Return what passes the UART, a byte a line: of several ports that pass at once, one after another."""
    beats = zip(*(port.packed(codes[port.op.name]) for port in group), strict=True)
    sizes = [port.bits // 8 for port in group]
    return "".join(
        f"{byte:02x}\n"
        for row in beats
        for beat, size in zip(row, sizes, strict=True)
        for byte in beat.to_bytes(size, "little")
    )


def _ends(name: str, streams: Sequence[Port], texts: Mapping[str, str], board: Board) -> dict[str, str]:
    """Return what speaks with the board: a bench for the simulation of its cells, and a script for the real one."""
    sent, expected = (len(texts[path].split()) for path in ("sent.hex", "expected.hex"))
    given, taken = (
        sum(port.beats * port.bits // 8 for port in streams if port.is_input == side) for side in (True, False)
    )
    words = {
        "TOP": name,
        "IN": sent,
        "OUT": expected,
        "CYCLES": board.cycles_of_a_bit,
        "BAUD": BAUD,
        "SAMPLE_BYTES": given,
        "RESULT_BYTES": taken,
        "PATIENCE": 20 * board.cycles_of_a_bit * (sent + expected) + 100_000,
    }
    return {"board_bench.sv": filled(ROOM, "board_bench.sv", words), "host.py": filled(ROOM, "host.py", words)}


def check_cells(scratch: Path, name: str, board: Board, started: Mapping[str, list[str]]) -> None:
    """Simulate the placed cells.

    Raises:
        ToolFailedError: they give other bytes than the reference, or none.
    """
    read = f"read_json {quoted(scratch / board.checked)}"
    run_scripts({"gates": (read, "rename -top po2flow_board", "write_verilog -noattr gates.v")}, scratch)
    (scratch / "cells.v").write_text(_models(board))
    files = ["board_bench.sv", "gates.v", "cells.v"]
    command = [*started["iverilog"], "-g2012", f"-D{NO_DEFAULTS}", "-s", "board_bench", "-o", "gates", *files]
    run_tool(command, scratch, TIMEOUT_S)
    said = run_tool([*started["vvp"], "-n", "gates"], scratch, TIMEOUT_S)
    if "PASS" not in said:
        raise ToolFailedError(f"the cells of '{name}' on {board.name} compute something else:\n{said[-600:]}")


def _models(board: Board) -> str:
    """Return Verilog models of the cells of a board's part."""
    if not board.cells.startswith("yosys:"):
        return filled(ROOM, board.cells, {})
    root = Path(find_spec("pyosys").origin).parent / "share"  # type: ignore[union-attr, arg-type]
    return (root / board.cells.removeprefix("yosys:")).read_text()
