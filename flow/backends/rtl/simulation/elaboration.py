"""A flat netlist of Yosys -> steps: registers and memories, and every word-level cell after those that it reads.

Yosys reads the Verilog, turns processes into registers and multiplexers and flattens the hierarchy (`SCRIPT`); nothing
is optimized or removed, so that every wire can be read.

The meaning of each cell is that of the Yosys manual ("Internal cell library"); tests hold every one against CXXRTL,
the simulator of Yosys. Signals wider than 64 bits are cut into pieces where a cell works bit by bit, compares for
equality, shifts or remembers; arithmetic of more than 64 bits is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flow.backends.rtl.simulation.steps import CHUNK, Bit, Bits, Code, Steps, extend, ones, pieces
from flow.errors import EmitError

SCRIPT = ("proc", "flatten", "memory_collect")
"""Between `hierarchy -check -top` and `write_json`."""
CLOCK = "aclk"
LOOP_LINES = 8
"""Wires of a loop that a message names."""
ARITHMETIC = {  # cell -> step for unsigned and for signed operands
    "$add": (Code.ADD, Code.ADD),
    **dict.fromkeys(("$sub", "$neg"), (Code.SUB, Code.SUB)),
    "$mul": (Code.MUL, Code.MUL),
    "$div": (Code.DIVU, Code.DIVS),
    "$mod": (Code.MODU, Code.MODS),
}
ORDER = {  # cell -> steps, and whether the operands change places
    "$lt": (Code.LTU, Code.LTS, False),
    "$le": (Code.LEU, Code.LES, False),
    "$gt": (Code.LTU, Code.LTS, True),
    "$ge": (Code.LEU, Code.LES, True),
}
BITWISE = {"$and": Code.AND, "$or": Code.OR, "$xor": Code.XOR, "$xnor": Code.XOR}
EQUALITY = {"$eq": Code.ZERO, "$eqx": Code.ZERO, "$ne": Code.NONZERO, "$nex": Code.NONZERO}
SHIFTS = ("$shl", "$sshl", "$shr", "$sshr", "$shift", "$shiftx")
REDUCTIONS = ("$reduce_and", "$reduce_or", "$reduce_bool", "$reduce_xor", "$reduce_xnor", "$logic_not")
LOGIC = {"$logic_and": Code.AND, "$logic_or": Code.OR}


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A cell: its name, kind, parameters, and the nets at its ports."""

    name: str
    kind: str
    parameters: Mapping[str, Any]
    ports: Mapping[str, Bits]

    def number(self, parameter: str) -> int:
        """Return a parameter as an unsigned number."""
        value = self.parameters[parameter]
        return value if isinstance(value, int) else int(value.replace("x", "0"), 2)

    @property
    def signed(self) -> bool:
        """Whether all operands are signed."""
        return all(self.number(name) for name in ("A_SIGNED", "B_SIGNED") if name in self.parameters)


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


# ---------------------------------------------------------------------- the steps of a cell, by its kind


def is_wiring(cell: Cell) -> bool:
    """Say whether a cell only moves bits."""
    return cell.kind == "$pos" or (cell.kind in SHIFTS and all(isinstance(bit, str) for bit in cell.ports["B"]))


def wired(cell: Cell) -> Bits:
    """Return what the output of a cell that only moves bits is made of."""
    width, a, signed = len(cell.ports["Y"]), cell.ports["A"], bool(cell.number("A_SIGNED"))
    if cell.kind == "$pos":
        return extend(a, width, signed)
    amount = sum(1 << place for place, bit in enumerate(cell.ports["B"]) if bit == "1")
    if cell.kind in ("$shift", "$shiftx") and cell.number("B_SIGNED") and cell.ports["B"][-1] == "1":
        amount -= 1 << len(cell.ports["B"])
    if cell.kind in ("$shl", "$sshl"):
        amount = -amount
    operand = a if cell.kind == "$shiftx" else extend(a, max(width, len(a)), signed)
    fill = operand[-1] if cell.kind == "$sshr" and signed else "0"
    places = (place + amount for place in range(width))
    return tuple("0" if place < 0 else operand[place] if place < len(operand) else fill for place in places)


def read_ports(cell: Cell) -> Iterator[Cell]:
    """Yield a cell, or one cell per port through which a memory is read; they know the memory by its name."""
    if cell.kind != "$mem_v2":
        yield cell
        return
    if any(bit != "0" for bit in _text(cell, "RD_CLK_ENABLE")) or cell.number("OFFSET") != 0:
        raise EmitError(f"memory '{cell.name}' is read by a clock or does not begin at 0: it cannot be simulated")
    address, data = cell.ports["RD_ADDR"], cell.ports["RD_DATA"]
    a_bits, d_bits = cell.number("ABITS"), cell.number("WIDTH")
    for port in range(cell.number("RD_PORTS")):
        a, y = address[port * a_bits :][:a_bits], data[port * d_bits :][:d_bits]
        yield Cell(cell.name, "$mem_v2", cell.parameters, {"A": a, "Y": y})


def _text(cell: Cell, parameter: str) -> str:
    value = cell.parameters[parameter]
    return bin(value)[2:] if isinstance(value, int) else str(value)


def lower(cell: Cell, steps: Steps) -> None:
    """Add the steps of a cell without state; its inputs are there already.

    Raises:
        EmitError: it computes with more than 64 bits.
    """
    STEPS[cell.kind](cell, steps)


def _check_width(cell: Cell, width: int, steps: Steps) -> None:
    if width > CHUNK:
        where = steps.name(cell.ports["Y"][0])
        raise EmitError(f"wire '{where}': {cell.kind} of {width} bits cannot be simulated, only of {CHUNK} or less")


def _arithmetic(cell: Cell, steps: Steps) -> None:
    """Add a sum, difference, product, quotient or remainder; a negation is a difference from zero."""
    y, operands = cell.ports["Y"], [cell.ports[port] for port in "AB" if port in cell.ports]
    widths = map(len, operands) if cell.kind in ("$div", "$mod") else ()
    _check_width(cell, max([len(y), *widths]), steps)
    slots = [steps.number(bits[:CHUNK], cell.signed) for bits in operands]
    if cell.kind == "$neg":
        slots = [0, *slots]
    steps.drive(y, steps.step(ARITHMETIC[cell.kind][cell.signed], *slots, mask=ones(len(y))))


def _truth(slot: Callable[[Cell, Steps], int]) -> Lower:
    """Return a cell whose output is a truth value, in the slot that a function gives."""

    def add(cell: Cell, steps: Steps) -> None:
        _check_width(cell, len(cell.ports["Y"]), steps)
        steps.drive(cell.ports["Y"], slot(cell, steps))

    return add


def _connected(cell: Cell, steps: Steps) -> int:
    return steps.step(LOGIC[cell.kind], steps.flag(cell.ports["A"]), steps.flag(cell.ports["B"]))


def _equal(cell: Cell, steps: Steps) -> int:
    width = max(len(cell.ports["A"]), len(cell.ports["B"]))
    parts = [pieces(extend(cell.ports[port], width, cell.signed)) for port in "AB"]
    words = [(steps.word(x), steps.word(y)) for x, y in zip(*parts, strict=True)]
    return steps.step(EQUALITY[cell.kind], steps.joined([steps.step(Code.XOR, x, y) for x, y in words], Code.OR))


def _ordered(cell: Cell, steps: Steps) -> int:
    a, b = cell.ports["A"], cell.ports["B"]
    _check_width(cell, max(len(a), len(b)), steps)
    unsigned, signed, swapped = ORDER[cell.kind]
    first, second = (steps.number(bits, cell.signed) for bits in ((b, a) if swapped else (a, b)))
    return steps.step(signed if cell.signed else unsigned, first, second)


def _reduced(cell: Cell, steps: Steps) -> int:
    kind, a = cell.kind, cell.ports["A"]
    words = [steps.word(piece) for piece in pieces(a)]
    if kind == "$reduce_and":
        masks = [steps.constant(ones(len(piece))) for piece in pieces(a)]
        full = [steps.step(Code.XOR, word, mask) for word, mask in zip(words, masks, strict=True)]
        return steps.step(Code.ZERO, steps.joined(full, Code.OR))
    if kind in ("$reduce_xor", "$reduce_xnor"):
        odd = steps.step(Code.PARITY, steps.joined(words, Code.XOR))
        return odd if kind == "$reduce_xor" else steps.step(Code.ZERO, odd)
    return steps.step(Code.ZERO if kind == "$logic_not" else Code.NONZERO, steps.joined(words, Code.OR))


def _bitwise(cell: Cell, steps: Steps) -> None:
    """Add the steps of a cell whose output bits each follow from the bits in the same place."""
    kind, y, ports = cell.kind, cell.ports["Y"], cell.ports
    operands = [pieces(extend(ports[port], len(y), cell.signed)) for port in ("A", "B") if port in ports]
    for number, piece in enumerate(pieces(y)):
        words = [steps.word(operand[number]) for operand in operands]
        word = words[0] if kind == "$not" else steps.step(BITWISE[kind], *words)
        if kind in ("$not", "$xnor"):
            word = steps.step(Code.XOR, word, steps.constant(ones(len(piece))))
        steps.drive(piece, word)


def _choice(cell: Cell, steps: Steps) -> None:
    """Add the steps of a multiplexer; where several cases are chosen, the first one counts."""
    y, select, cases = cell.ports["Y"], cell.ports["S"], cell.ports["B"]
    for number, piece in enumerate(pieces(y)):
        word = steps.word(pieces(cell.ports["A"])[number])
        for case in reversed(range(len(select))):
            choice = pieces(cases[case * len(y) :][: len(y)])[number]
            word = steps.step(Code.MUX, word, steps.word(choice), steps.word(select[case : case + 1]))
        steps.drive(piece, word)


def _shift(cell: Cell, steps: Steps) -> None:
    """Add the steps of a shift by a signal: each piece of the output is a window on the operand."""
    y, a, b, kind = cell.ports["Y"], cell.ports["A"], cell.ports["B"], cell.kind
    signed = bool(cell.number("A_SIGNED"))
    _check_width(cell, len(b) + 2, steps)
    amount = steps.number(b, kind in ("$shift", "$shiftx") and bool(cell.number("B_SIGNED")))
    if kind in ("$shl", "$sshl"):
        amount = steps.step(Code.SUB, 0, amount, mask=ones(CHUNK))
    operand = a if kind == "$shiftx" else extend(a, max(len(y), len(a)), signed)
    arithmetic = kind == "$sshr" and signed
    parts = pieces(extend(operand, -(-len(operand) // CHUNK) * CHUNK, arithmetic))
    first = steps.row([steps.word(part) for part in parts])
    fill = steps.number(operand[-1:], True) if arithmetic else 0
    for number, piece in enumerate(pieces(y)):
        at = number * CHUNK
        word = steps.step(Code.SHIFT, first, amount, fill, low=len(parts), high=at, mask=ones(len(piece)))
        steps.drive(piece, word)


def _read(cell: Cell, steps: Steps) -> None:
    address, size = steps.word(cell.ports["A"]), cell.number("SIZE")
    for piece, place in zip(pieces(cell.ports["Y"]), places(cell, steps), strict=True):
        code = Code.READ if cell.number("WR_PORTS") else Code.TABLE
        steps.drive(piece, steps.step(code, address, low=place, mask=size))


def places(cell: Cell, steps: Steps) -> list[int]:
    """Return, per piece of a word of a memory, its number, or its place in the table if it is never written."""
    if cell.name not in steps.places:
        width, size = cell.number("WIDTH"), cell.number("SIZE")
        text = _text(cell, "INIT").replace("x", "0").rjust(width * size, "0")
        words = [int(text[len(text) - (i + 1) * width : len(text) - i * width], 2) for i in range(size)]
        starts = []
        for low in range(0, width, CHUNK):
            starts.append(len(steps.table))
            steps.table += [word >> low & ones(CHUNK) for word in words]
        if cell.number("WR_PORTS"):
            steps.memories += [(size, start) for start in starts]
            starts = list(range(len(steps.memories) - len(starts), len(steps.memories)))
        steps.places[cell.name] = starts
    return steps.places[cell.name]


def lower_writes(cell: Cell, steps: Steps) -> None:
    """Add the writes of a memory, port by port: where two write one word, the later one wins."""
    a_bits, width = cell.number("ABITS"), cell.number("WIDTH")
    for port in range(cell.number("WR_PORTS")):
        address = steps.word(cell.ports["WR_ADDR"][port * a_bits :][:a_bits])
        enable, data = (pieces(cell.ports[name][port * width :][:width]) for name in ("WR_EN", "WR_DATA"))
        for place, e, d in zip(places(cell, steps), enable, data, strict=True):
            steps.writes.append((place, steps.word(e), address, steps.word(d)))


Lower = Callable[[Cell, Steps], None]
STEPS: Mapping[str, Lower] = {
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(ORDER, _truth(_ordered)),
    **dict.fromkeys(EQUALITY, _truth(_equal)),
    **dict.fromkeys(REDUCTIONS, _truth(_reduced)),
    **dict.fromkeys(LOGIC, _truth(_connected)),
    **dict.fromkeys(BITWISE, _bitwise),
    "$not": _bitwise,
    **dict.fromkeys(("$mux", "$pmux"), _choice),
    **dict.fromkeys(SHIFTS, _shift),
    "$mem_v2": _read,
}
"""Kind of cell -> adds its steps."""
KINDS = {*STEPS, "$pos", "$dff"}
"""All that can be simulated: these, wires and registers."""
