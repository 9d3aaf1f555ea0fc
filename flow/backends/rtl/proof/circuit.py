"""Circuit: a Verilog module as Yosys parsed it, to be proved: operations in dataflow order, registers as wires.

A net is an integer, 0 and 1 are the constants, as in Yosys' JSON. A register is an operation of its own kind,
"register", whose output is its input: the function of a pipeline that is full. `depth` checks that this is what it
computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from flow.errors import ToolFailedError

Bits = tuple[int, ...]
"""Nets, the lowest bit first."""
REGISTER = "register"
UNDEFINED = -1
"""The net of Yosys' x. Only a case whose items are complete has one, as the choice that is never made."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A cell of Yosys' library ("Word-level cells" in its manual), or a register.

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

    @property
    def reads(self) -> Bits:
        """The nets of all operands."""
        return self.a + self.b + self.s


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
        operations: in dataflow order.
        instances: uses of other modules; what they drive counts as given.
        driver: net -> (place of the operation that drives it, which bit).
    """

    name: str
    ports: Mapping[str, Bits]
    operations: tuple[Operation, ...]
    instances: tuple[Instance, ...]
    driver: Mapping[int, tuple[int, int]]

    def cone(self, bits: Iterable[int], stops: Mapping[int, Any]) -> list[int]:
        """Return the places of the operations that some nets depend on, in dataflow order; `stops` are not entered."""
        reached, left = set[int](), list(bits)
        while left:
            place = self.driver.get(left.pop(), (-1, 0))[0]
            if place >= 0 and place not in reached:
                reached.add(place)
                if place not in stops:
                    left += self.operations[place].reads
        return sorted(reached)

    def depth(self, x: Bits, y: Bits) -> int | None:
        """Return how many registers are between any bit of `x` and any of `y`; None if none of `y` depends on `x`.

        Raises:
            ValueError: two paths have different numbers, so values of two samples would meet.
        """
        stages: dict[int, int | None] = dict.fromkeys(x, 0)
        for operation in self.operations:
            stage = _one_stage(stages, operation.reads, self.name)
            if operation.kind == REGISTER and stage is not None:
                stage += 1
            stages.update(dict.fromkeys(operation.y, stage))
        return _one_stage(stages, y, self.name)


def _one_stage(stages: Mapping[int, int | None], bits: Bits, name: str) -> int | None:
    meeting = {stages.get(bit) for bit in bits} - {None}
    if len(meeting) > 1:
        raise ValueError(
            f"module '{name}': values of stages {sorted(map(str, meeting))} meet: a register too few or many"
        )
    return next(iter(meeting), None)


def read_circuit(name: str, data: Mapping[str, Any]) -> Circuit:
    """Return one module of the JSON that Yosys' `write_json` gives after `proc`.

    Raises:
        ToolFailedError: it has what no kernel has: undefined bits, loops, wires with two drivers,
            registers without `ce` or with a reset, memories.
    """
    try:
        around = read_instances(name, data)
        own = [cell[1:] for cell in _cells(data, own=True)]
        operations = _in_order(_operations(own, around.ports))
        inputs = [name for name, port in data["ports"].items() if port["direction"] == "input"]
        driven = [bit for name in inputs for bit in around.ports[name]]
        driven += [bit for operation in operations for bit in operation.y]
        if len(set(driven)) < len(driven):
            raise ValueError("a wire with two drivers")
    except (KeyError, ValueError, TypeError) as error:
        raise ToolFailedError(f"module '{name}' is not one that is proved: {error}") from error
    driver = {bit: (place, index) for place, one in enumerate(operations) for index, bit in enumerate(one.y)}
    return Circuit(name, around.ports, tuple(operations), around.instances, driver)


def read_instances(name: str, data: Mapping[str, Any]) -> Circuit:
    """Return a module without its operations: its ports, and what it instantiates."""
    ports = {name: _bits(port["bits"]) for name, port in data["ports"].items()}
    return Circuit(name, ports, (), tuple(Instance(*cell) for cell in _cells(data, own=False)), {})


def _cells(data: Mapping[str, Any], *, own: bool) -> Iterator[tuple[str, str, dict[str, Bits], dict[str, int]]]:
    """Yield name, type, nets by port and parameters of a module's own cells, or of its uses of other modules."""
    for name, cell in data["cells"].items():
        if cell["type"].startswith("$") == own:
            wires = {port: _bits(bits) for port, bits in cell["connections"].items()}
            yield name, cell["type"], wires, {key: int(value, 2) for key, value in cell["parameters"].items()}


def _bits(bits: Sequence[int | str]) -> Bits:
    return tuple(UNDEFINED if bit == "x" else int(bit) for bit in bits)


def _operations(
    own: Sequence[tuple[str, Mapping[str, Bits], Mapping[str, int]]], ports: Mapping[str, Bits]
) -> list[Operation]:
    """Return the operations, each register with the multiplexer that holds its value while `ce` is low as one."""
    held = dict[int, tuple[int, int]]()  # output of such a multiplexer -> (its own register, next value)
    operations, none = list[Operation](), Bits()
    for kind, wires, _ in own:
        if kind == "$mux" and wires["S"] == ports.get("ce"):
            held.update(zip(wires["Y"], zip(wires["A"], wires["B"], strict=True), strict=True))
    for kind, wires, parameters in own:
        a, b, s = (wires.get(port, none) for port in "ABS")
        if kind == "$dff":
            if wires["CLK"] != ports["clk"] or parameters["CLK_POLARITY"] != 1:
                raise ValueError("a register with another clock")
            if any(bit not in held or held[bit][0] != q for bit, q in zip(wires["D"], wires["Q"], strict=True)):
                raise ValueError("a register that does not wait for ce")
            following = tuple(held[bit][1] for bit in wires["D"])
            operations.append(Operation(REGISTER, following, none, none, False, wires["Q"]))
        elif kind != "$mux" or s != ports.get("ce"):
            signed = bool(parameters.get("A_SIGNED", 0)) and bool(parameters.get("B_SIGNED", 1))
            if kind in SHIFTS:
                signed = bool(parameters["A_SIGNED"])
            if kind not in KINDS:
                raise ValueError(f"a cell {kind}")
            if UNDEFINED in b + s or (UNDEFINED in a and kind != "$pmux"):
                raise ValueError("an undefined bit")
            operations.append(Operation(kind, a, b, s, signed, wires["Y"]))
    return operations


def _in_order(operations: Sequence[Operation]) -> list[Operation]:
    """Return operations in dataflow order; a loop is a ValueError."""
    driver = {bit: place for place, operation in enumerate(operations) for bit in operation.y}
    sources = ({driver[bit] for bit in operation.reads if bit in driver} for operation in operations)
    try:
        return [operations[place] for place in TopologicalSorter(dict(enumerate(sources))).static_order()]
    except CycleError as error:
        raise ValueError("a loop") from error


SHIFTS = ("$shl", "$sshl", "$shr", "$sshr")
KINDS = (
    *("$add", "$sub", "$mul", "$neg", "$pos", "$not", "$and", "$or", "$xor"),
    *("$reduce_or", "$reduce_bool", "$reduce_and", "$logic_not", "$logic_and", "$logic_or", "$mux", "$pmux"),
    *("$lt", "$le", "$gt", "$ge", "$eq", "$ne"),
    *SHIFTS,
)
"""The cells that are known here; all others are refused. Tables over operations have these keys and `REGISTER`."""


def without_wires(circuit: Circuit) -> tuple[Circuit, dict[int, int]]:
    """Return a circuit that reads no registers and wires, and what each net of these is."""
    source: dict[int, int] = {}
    operations = []
    for one in circuit.operations:
        a, b, s = (tuple(source.get(bit, bit) for bit in bits) for bits in (one.a, one.b, one.s))
        operations.append(replace(one, a=a, b=b, s=s))
        if one.kind in (REGISTER, "$pos"):
            source.update(zip(one.y, extended(a, len(one.y), one.signed), strict=True))
    return replace(circuit, operations=tuple(operations)), source


def extended(bits: Bits, width: int, signed: bool) -> Bits:
    """Return an operand cut or extended to `width` bits."""
    return bits[:width] + (bits[-1] if signed else 0,) * (width - len(bits))


def shifted(shift: Operation) -> Bits:
    """Return the output of a shift by a constant as nets: only wires.

    Raises:
        ToolFailedError: it is not a constant by which it shifts.
    """
    if any(bit not in (0, 1) for bit in shift.b):
        raise ToolFailedError("a shift by a variable is not one that is proved")
    n, width = sum(bit << place for place, bit in enumerate(shift.b)), len(shift.y)
    if shift.kind in ("$shl", "$sshl"):
        return ((0,) * n + extended(shift.a, width, shift.signed))[:width]
    wide = extended(shift.a, max(width, len(shift.a)), shift.signed)
    fill = wide[-1] if shift.kind == "$sshr" and shift.signed else 0
    return (wide[n:] + (fill,) * n)[:width]
