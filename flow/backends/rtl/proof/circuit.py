"""Circuit: a Verilog module as Yosys parsed it, to be proved: cells in dataflow order, registers as wires.

A net is an integer, 0 and 1 are the constants, as in Yosys' JSON. A register is a cell of its own kind, "register",
whose output is its input: the function of a pipeline that is full. `depth` checks that this is what it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow.errors import ToolFailedError

Bits = tuple[int, ...]
"""Nets, the lowest bit first."""
REGISTER = "register"
UNDEFINED = -1
"""The net of Yosys' x. Only a case whose items are complete has one, as the choice that is never made."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One operation of Yosys' cell library ("Word-level cells" in its manual), or a register.

    Attributes:
        kind: "$add", "$mux", ..., or `REGISTER`.
        a, b, s: operands; empty if it has none of that name.
        signed: whether its operands are read as two's complement.
        y: what it drives.
    """

    kind: str
    a: Bits
    b: Bits
    s: Bits
    signed: bool
    y: Bits


@dataclass(frozen=True, slots=True)
class Instance:
    """A use of another module.

    Attributes:
        name, module: its own name, and that of the module.
        ports: port -> nets.
        parameters: name -> value.
    """

    name: str
    module: str
    ports: Mapping[str, Bits]
    parameters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Circuit:
    """A module.

    Attributes:
        name: of the module.
        ports: port -> nets, inputs and outputs.
        cells: in dataflow order.
        instances: uses of other modules; what they drive counts as given.
        driver: net -> (place of the cell that drives it, which bit).
    """

    name: str
    ports: Mapping[str, Bits]
    cells: tuple[Cell, ...]
    instances: tuple[Instance, ...]
    driver: Mapping[int, tuple[int, int]]

    def cone(self, bits: Iterable[int], stops: Mapping[int, Any]) -> list[int]:
        """Return the places of the cells that some nets depend on, in dataflow order; cells in `stops` are not
        entered."""
        found, left = set[int](), list(bits)
        while left:
            place = self.driver.get(left.pop(), (-1, 0))[0]
            if place >= 0 and place not in found:
                found.add(place)
                if place not in stops:
                    cell = self.cells[place]
                    left += cell.a + cell.b + cell.s
        return sorted(found)

    def depth(self, x: Bits, y: Bits) -> int | None:
        """Return how many registers are between any bit of `x` and any of `y`; None if none of `y` depends on `x`.

        Raises:
            ValueError: two paths have different numbers, so values of two samples would meet.
        """
        stages: dict[int, int | None] = dict.fromkeys(x, 0)
        for cell in self.cells:
            stage = _one_stage(stages, cell.a + cell.b + cell.s, self.name)
            if cell.kind == REGISTER and stage is not None:
                stage += 1
            stages.update(dict.fromkeys(cell.y, stage))
        return _one_stage(stages, y, self.name)


def _one_stage(stages: Mapping[int, int | None], bits: Bits, name: str) -> int | None:
    found = {stages.get(bit) for bit in bits} - {None}
    if len(found) > 1:
        raise ValueError(
            f"module '{name}': values of stages {sorted(map(str, found))} meet: a register too few or many"
        )
    return next(iter(found), None)


def read_circuit(name: str, data: Mapping[str, Any]) -> Circuit:
    """Return one module of the JSON that Yosys' `write_json` gives after `proc`.

    Raises:
        ToolFailedError: it has what no kernel has: undefined bits, loops, wires with two drivers,
            registers without `ce` or with a reset, memories.
    """
    try:
        around = read_instances(name, data)
        own = [
            (
                cell["type"],
                {port: _bits(bits) for port, bits in cell["connections"].items()},
                {key: int(value, 2) for key, value in cell["parameters"].items()},
            )
            for cell in data["cells"].values()
            if cell["type"].startswith("$")
        ]
        cells = _in_order(_registers_as_cells(own, around.ports))
        inputs = [name for name, port in data["ports"].items() if port["direction"] == "input"]
        driven = [bit for name in inputs for bit in around.ports[name]] + [bit for cell in cells for bit in cell.y]
        if len(set(driven)) < len(driven):
            raise ValueError("a wire with two drivers")
    except (KeyError, ValueError, TypeError) as error:
        raise ToolFailedError(f"module '{name}' is not one that is proved: {error}") from error
    driver = {bit: (place, index) for place, cell in enumerate(cells) for index, bit in enumerate(cell.y)}
    return Circuit(name, around.ports, tuple(cells), around.instances, driver)


def read_instances(name: str, data: Mapping[str, Any]) -> Circuit:
    """Return a module without its cells: its ports, and what it instantiates."""
    ports = {port: _bits(each["bits"]) for port, each in data["ports"].items()}
    instances = []
    for cell_name, cell in data["cells"].items():
        if not cell["type"].startswith("$"):
            parameters = {key: int(value, 2) for key, value in cell["parameters"].items()}
            wires = {port: _bits(bits) for port, bits in cell["connections"].items()}
            instances.append(Instance(cell_name, cell["type"], wires, parameters))
    return Circuit(name, ports, (), tuple(instances), {})


def _bits(bits: Sequence[int | str]) -> Bits:
    return tuple(UNDEFINED if bit == "x" else int(bit) for bit in bits)


def _registers_as_cells(
    own: Sequence[tuple[str, Mapping[str, Bits], Mapping[str, int]]], ports: Mapping[str, Bits]
) -> list[Cell]:
    """Return the cells, each register with the multiplexer that holds its value while `ce` is low as one."""
    cells, held = [], dict[int, tuple[int, int]]()  # output of such a multiplexer -> (its own register, next value)
    for kind, wires, _ in own:
        if kind == "$mux" and wires["S"] == ports.get("ce"):
            held.update(zip(wires["Y"], zip(wires["A"], wires["B"], strict=True), strict=True))
    for kind, wires, parameters in own:
        none: Bits = ()
        a, b, s = (wires.get(port, none) for port in "ABS")
        if kind == "$dff":
            if wires["CLK"] != ports["clk"] or parameters["CLK_POLARITY"] != 1:
                raise ValueError("a register with another clock")
            if any(bit not in held or held[bit][0] != q for bit, q in zip(wires["D"], wires["Q"], strict=True)):
                raise ValueError("a register that does not wait for ce")
            cells.append(Cell(REGISTER, tuple(held[bit][1] for bit in wires["D"]), none, none, False, wires["Q"]))
        elif kind != "$mux" or s != ports.get("ce"):
            signed = bool(parameters.get("A_SIGNED", 0)) and bool(parameters.get("B_SIGNED", 1))
            if kind in SHIFTS:
                signed = bool(parameters["A_SIGNED"])
            if kind not in KINDS:
                raise ValueError(f"a cell {kind}")
            if UNDEFINED in b + s or (UNDEFINED in a and kind != "$pmux"):
                raise ValueError("an undefined bit")
            cells.append(Cell(kind, a, b, s, signed, wires["Y"]))
    return cells


def _in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells in dataflow order.

    Raises:
        ValueError: there is a loop.
    """
    driver = {bit: place for place, cell in enumerate(cells) for bit in cell.y}
    readers: list[list[int]] = [[] for _ in cells]
    missing = []
    for place, cell in enumerate(cells):
        sources = {driver[bit] for bit in cell.a + cell.b + cell.s if bit in driver}
        missing.append(len(sources))
        for source in sources:
            readers[source].append(place)
    ready, order = [place for place, count in enumerate(missing) if count == 0], []
    while ready:
        place = ready.pop()
        order.append(cells[place])
        for reader in readers[place]:
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    if len(order) < len(cells):
        raise ValueError("a loop")
    return order


SHIFTS = ("$shl", "$sshl", "$shr", "$sshr")
COMPARISONS = ("$lt", "$le", "$gt", "$ge", "$eq", "$ne")
KINDS = (
    *("$add", "$sub", "$mul", "$neg", "$pos", "$not", "$and", "$or", "$xor"),
    *("$reduce_or", "$reduce_bool", "$reduce_and", "$logic_not", "$logic_and", "$logic_or", "$mux", "$pmux"),
    *SHIFTS,
    *COMPARISONS,
)
"""What is known here; all other cells are refused."""


def extended(bits: Bits, width: int, signed: bool) -> Bits:
    """Return an operand cut or extended to `width` bits."""
    return bits[:width] + (bits[-1] if signed else 0,) * (width - len(bits))


def shift_of(cell: Cell) -> int:
    """Return by how much a shift shifts.

    Raises:
        ToolFailedError: that is not a constant.
    """
    if any(bit not in (0, 1) for bit in cell.b):
        raise ToolFailedError("a shift by a variable is not one that is proved")
    return sum(bit << place for place, bit in enumerate(cell.b))


def shifted(cell: Cell) -> Bits:
    """Return the output of a shift by a constant as nets: only wires."""
    n, width = shift_of(cell), len(cell.y)
    if cell.kind in ("$shl", "$sshl"):
        return ((0,) * n + extended(cell.a, width, cell.signed))[:width]
    whole = extended(cell.a, max(width, len(cell.a)), cell.signed)
    fill = whole[-1] if cell.kind == "$sshr" and cell.signed else 0
    return (whole[n:] + (fill,) * n)[:width]


def simulate(
    circuit: Circuit, given: Mapping[int, int], samples: int, cone: Iterable[int] | None = None
) -> dict[int, int]:
    """Return every net's bit of every sample: net -> an integer whose bit i is the net's in sample i.

    Args:
        circuit: it.
        given: the same for the nets that no cell drives.
        samples: how many.
        cone: places of the only cells that matter, in dataflow order; all if not given.
    """
    ones = (1 << samples) - 1
    values = {0: 0, 1: ones, **given}
    for cell in circuit.cells if cone is None else (circuit.cells[place] for place in cone):
        values.update(zip(cell.y, _cell(cell, values, ones), strict=True))
    return values


def _cell(cell: Cell, values: Mapping[int, int], ones: int) -> list[int]:
    kind, width = cell.kind, len(cell.y)
    if kind == REGISTER:
        return [values[bit] for bit in cell.a]
    if kind in SHIFTS:
        return [values[bit] for bit in shifted(cell)]
    if kind == "$mux":
        (s,) = (values[bit] for bit in cell.s)
        return [(values[a] & ~s) | (values[b] & s) for a, b in zip(cell.a, cell.b, strict=True)]
    if kind == "$pmux":
        return _choice(cell, values, ones)
    common = max(len(cell.a), len(cell.b)) if kind in COMPARISONS else width
    a = [values[bit] for bit in extended(cell.a, common, cell.signed)]
    b = [values[bit] for bit in extended(cell.b, common, cell.signed)] if cell.b else []
    if kind in ("$and", "$or", "$xor", "$not", "$pos"):
        return _bitwise(kind, a, b, ones)
    if kind == "$add":
        return _sum(a, b, 0)
    if kind == "$sub":
        return _sum(a, [ones ^ bit for bit in b], ones)
    if kind == "$neg":
        return _sum([0] * width, [ones ^ bit for bit in a], ones)
    if kind == "$mul":
        return _product(a, b)
    return [_test(cell, a, b, values, ones)] + [0] * (width - 1)


def _bitwise(kind: str, a: list[int], b: list[int], ones: int) -> list[int]:
    if kind == "$pos":
        return a
    if kind == "$not":
        return [ones ^ bit for bit in a]
    return [p & q if kind == "$and" else p | q if kind == "$or" else p ^ q for p, q in zip(a, b, strict=True)]


def _sum(a: Sequence[int], b: Sequence[int], carry: int) -> list[int]:
    out = []
    for p, q in zip(a, b, strict=True):
        half = p ^ q
        out.append(half ^ carry)
        carry = (p & q) | (half & carry)
    return out


def _product(a: Sequence[int], b: Sequence[int]) -> list[int]:
    total = [0] * len(a)
    for place, bit in enumerate(b):
        total = _sum(total, [0] * place + [bit & each for each in a[: len(a) - place]], 0)
    return total


def _choice(cell: Cell, values: Mapping[int, int], ones: int) -> list[int]:
    """Return a $pmux: `a`, or the part of `b` whose bit of `s` is high (never more than one, as in a case)."""
    width, rest = len(cell.y), ones
    out = [0] * width
    for place, bit in enumerate(cell.s):
        s = values[bit]
        rest &= ~s
        for i, b in enumerate(cell.b[place * width : (place + 1) * width]):
            out[i] |= s & values[b]
    if rest and UNDEFINED in cell.a:
        raise ToolFailedError("a case without a default has inputs that no item names")
    return [each | (rest & values.get(a, 0)) for each, a in zip(out, cell.a, strict=True)]


def _test(cell: Cell, a: Sequence[int], b: Sequence[int], values: Mapping[int, int], ones: int) -> int:
    """Return the one bit of a comparison, a reduction or a logic operation."""
    if cell.kind in COMPARISONS:
        return _compare(cell, a, b, ones)
    any_a, any_b, all_a = 0, 0, ones
    for bit in cell.a:
        any_a, all_a = any_a | values[bit], all_a & values[bit]
    for bit in cell.b:
        any_b |= values[bit]
    return {
        "$reduce_or": any_a,
        "$reduce_bool": any_a,
        "$reduce_and": all_a,
        "$logic_not": ones ^ any_a,
        "$logic_and": any_a & any_b,
        "$logic_or": any_a | any_b,
    }[cell.kind]


def _compare(cell: Cell, a: Sequence[int], b: Sequence[int], ones: int) -> int:
    different, less = 0, 0
    pairs = list(zip(a, b, strict=True))
    for place, (p, q) in enumerate(pairs):
        sign = cell.signed and place == len(pairs) - 1
        below = (p & ~q) if sign else (~p & q)
        less = (below | (less & ~(p ^ q))) & ones
        different |= p ^ q
    equal = ones ^ different
    return {
        "$eq": equal,
        "$ne": different,
        "$lt": less,
        "$le": less | equal,
        "$ge": ones ^ less,
        "$gt": ones ^ (less | equal),
    }[cell.kind]
