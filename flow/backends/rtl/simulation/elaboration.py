"""A flat netlist of Yosys -> steps: registers and memories, and every cell after those that it reads.

Yosys reads the Verilog, turns processes into registers and multiplexers and flattens the hierarchy (`SCRIPT`); nothing
is optimized or removed, so that every wire can be read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flow.backends.rtl.simulation.cell_steps import KINDS, Cell, is_wiring, lower, lower_writes, read_ports, wired
from flow.backends.rtl.simulation.steps import Bit, Bits, Steps, pieces
from flow.errors import EmitError

SCRIPT = ("proc", "flatten", "memory_collect")
"""Between `hierarchy -check -top` and `write_json`."""
CLOCK = "aclk"
LOOP_LINES = 8
"""Wires of a loop that a message names."""


def elaborate(module: Mapping[str, Any]) -> Steps:
    """Return the steps of a flat module, the top of what `write_json` wrote.

    Raises:
        EmitError: the design has a cell, a width, a clock or a loop that can't be simulated, or a wire with no driver
            or with two.
    """
    cells = [
        Cell(name, data["type"], data["parameters"], {port: tuple(bits) for port, bits in data["connections"].items()})
        for name, data in module["cells"].items()
        if data["type"] != "$scopeinfo"
    ]
    aliases = dict[Bit, Bit]()
    for cell in cells:
        if cell.kind not in KINDS or (cell.kind == "$mem_v2" and "1" in str(cell.parameters["RD_CLK_ENABLE"])):
            raise EmitError(f"cell '{cell.name}' of kind {cell.kind} cannot be simulated")
        if is_wiring(cell):
            aliases.update(zip(cell.ports["Y"], wired(cell), strict=True))
    steps = Steps({name: _resolved(tuple(data["bits"]), aliases) for name, data in module["netnames"].items()})
    for port in module["ports"].values():
        if port["direction"] == "input":
            steps.row_for(tuple(port["bits"]))
    cells = [  # with no net at their ports that only repeats another
        replace(cell, ports={port: _resolved(bits, aliases) for port, bits in cell.ports.items()})
        for cell in cells
        if not is_wiring(cell)
    ]
    _add_cells(cells, _initial_values(module, steps), steps)
    return steps


def _add_cells(cells: Sequence[Cell], initial: Mapping[Bit, str], steps: Steps) -> None:
    registers = [cell for cell in cells if cell.kind == "$dff"]
    states = [steps.row_for(cell.ports["Q"]) for cell in registers]
    for cell in cells:
        for port in ("Y", "Q", "RD_DATA"):
            steps.instances.update(dict.fromkeys(cell.ports.get(port, ()), _instance(cell)))
    combinational = [part for cell in cells if cell.kind != "$dff" for part in read_ports(cell)]
    for cell in _in_order(combinational, steps):
        lower(cell, steps)
    for cell, slots in zip(registers, states, strict=True):
        _check_clock(cell, "", steps)
        for q, d_bits, q_bits in zip(slots, pieces(cell.ports["D"]), pieces(cell.ports["Q"]), strict=True):
            value = sum(1 << place for place, bit in enumerate(q_bits) if initial.get(bit) == "1")
            steps.registers.append((q, steps.word(d_bits), value))
    for cell in cells:
        if cell.kind == "$mem_v2" and cell.number("WR_PORTS"):
            _check_clock(cell, "WR_", steps)
            lower_writes(cell, steps)


def _resolved(bits: Bits, aliases: Mapping[Bit, Bit]) -> Bits:
    while not aliases.keys().isdisjoint(bits):
        bits = tuple(aliases.get(bit, bit) for bit in bits)
    return bits


def _instance(cell: Cell) -> str:
    """Return the instance in the top that a cell comes from, or ""."""
    return cell.name.removeprefix("$flatten\\").split(".")[0] if cell.name.startswith("$flatten\\") else ""


def _initial_values(module: Mapping[str, Any], steps: Steps) -> dict[Bit, str]:
    """Return net -> initial value of the registers that have one."""
    values: dict[Bit, str] = {}
    for name, data in module["netnames"].items():
        if "init" in data["attributes"]:
            values.update(zip(steps.nets[name], reversed(data["attributes"]["init"]), strict=False))
    return values


def _in_order(cells: Sequence[Cell], steps: Steps) -> list[Cell]:
    """Return the cells such that each comes after those that it reads."""
    makers = {bit: number for number, cell in enumerate(cells) for bit in cell.ports["Y"]}
    readers = defaultdict[int, list[int]](list)
    missing = [0] * len(cells)
    for number, cell in enumerate(cells):
        reads = {makers[bit] for port, bits in cell.ports.items() if port != "Y" for bit in bits if bit in makers}
        missing[number] = len(reads)
        for maker in reads:
            readers[maker].append(number)
    free = [number for number, count in enumerate(missing) if count == 0]
    for number in free:
        for reader in readers[number]:
            missing[reader] -= 1
            if missing[reader] == 0:
                free.append(reader)
    if len(free) < len(cells):
        waiting = [steps.name(cell.ports["Y"][0]) for cell, count in zip(cells, missing, strict=True) if count]
        raise EmitError(f"wires depend on each other without a register: {', '.join(waiting[:LOOP_LINES])}")
    return [cells[number] for number in free]


def _check_clock(cell: Cell, prefix: str, steps: Steps) -> None:
    clocks, edges = cell.ports[f"{prefix}CLK"], str(cell.parameters[f"{prefix}CLK_POLARITY"])
    if {*clocks} - {*steps.nets.get(CLOCK, ())} or "0" in edges[-len(clocks) :]:
        raise EmitError(f"'{cell.name}' does not follow the rising edge of {CLOCK} alone: it cannot be simulated")
