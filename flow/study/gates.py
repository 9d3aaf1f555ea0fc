"""Netlists of cells, simulated: a bit of a 64-bit word per sample, one array operation per kind of cell and level."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import ToolFailedError
from flow.study.liberty import Cell, Lanes, Library

ZERO, ONE = 0, 1
"""Nets that are constant."""
CHUNK = 1 << 23
"""Words that a simulation may hold at a time."""
Integers = NDArray[np.int64]
Gate = tuple[Cell, Mapping[str, int]]
"""A cell, and the net of each of its pins."""


@dataclass(frozen=True, slots=True)
class Step:
    """Cells of one kind whose inputs are known: nets of each input pin, and of the output."""

    cell: Cell
    inputs: Mapping[str, NDArray[np.intp]]
    output: NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlist:
    """A netlist, ready to be simulated.

    Attributes:
        nets: how many; nets 0 and 1 are constant.
        ports: name -> nets, the lowest bit first.
        front: steps that depend on ports alone.
        steps: the other gates, in an order in which inputs are known.
        data, state: nets of the flip-flops' inputs and outputs.
        load: (nets,) what hangs on each net, of the library's unit; 0 for nets that no cell drives.
        clock_load: of all clock pins.
        area, register_area: of all cells, and of the flip-flops.
        cells: type -> how many.
    """

    nets: int
    ports: Mapping[str, NDArray[np.intp]]
    front: tuple[Step, ...]
    steps: tuple[Step, ...]
    data: NDArray[np.intp]
    state: NDArray[np.intp]
    load: NDArray[np.float64]
    clock_load: float
    area: float
    register_area: float
    cells: Mapping[str, int]


def read_netlist(path: Path, top: str, library: Library) -> Netlist:
    """Read a netlist that Yosys wrote (`write_json`).

    Raises:
        ToolFailedError: it holds a cell that the library does not have, or a loop.
    """
    module = json.loads(path.read_text())["modules"][top]
    numbers: dict[int | str, int] = {"0": ZERO, "1": ONE, "x": ZERO}

    def net(bit: int | str) -> int:
        return numbers.setdefault(bit, len(numbers) - 1)

    ports = {name: np.array([net(bit) for bit in port["bits"]]) for name, port in module["ports"].items()}
    found = []
    for entry in module["cells"].values():
        if entry["type"] == "$scopeinfo":
            continue
        if entry["type"] not in library.cells:
            raise ToolFailedError(f"Yosys left a cell {entry['type']} that {library.name} does not have")
        pins = {pin: net(bits[0]) for pin, bits in entry["connections"].items() if bits}
        found.append((library.cells[entry["type"]], pins))
    return _assembled(found, ports, len(numbers) - 1)


def _assembled(cells: Sequence[Gate], ports: Mapping[str, NDArray[np.intp]], nets: int) -> Netlist:
    load, driven = np.zeros(nets), np.zeros(nets, bool)
    clock_load = 0.0
    for cell, pins in cells:
        driven[pins[cell.output]] = True
        for pin, capacitance in cell.load.items():
            if pin == cell.clock:
                clock_load += capacitance
            else:
                load[pins[pin]] += capacitance
    registers = [(cell, pins) for cell, pins in cells if cell.function is None]
    gates = [(cell, pins) for cell, pins in cells if cell.function is not None]
    from_ports = {int(bit) for bits in ports.values() for bit in bits} - {pins[cell.output] for cell, pins in cells}
    known = from_ports | {ZERO, ONE}
    front, waiting = _ordered(gates, known)
    known |= {pins[cell.output] for cell, pins in registers}
    steps, left = _ordered(waiting, known)
    if left:
        raise ToolFailedError(f"the netlist has a loop, or a net that nothing drives, at {left[0][0].name}")
    return Netlist(
        nets=nets,
        ports=ports,
        front=front,
        steps=steps,
        data=np.array([pins[cell.data] for cell, pins in registers], np.intp),
        state=np.array([pins[cell.output] for cell, pins in registers], np.intp),
        load=np.where(driven, load, 0.0),
        clock_load=clock_load,
        area=sum(cell.area for cell, _ in cells),
        register_area=sum(cell.area for cell, _ in registers),
        cells=dict(sorted(Counter(cell.name for cell, _ in cells).items())),
    )


def _ordered(gates: Sequence[Gate], known: set[int]) -> tuple[tuple[Step, ...], list[Gate]]:
    """Return the steps of all gates that can be computed from known nets (made larger), and the other gates."""
    readers = defaultdict(list)
    missing = []
    for index, (cell, pins) in enumerate(gates):
        unknown = {pins[pin] for pin in cell.load} - known
        missing.append(len(unknown))
        for each in unknown:
            readers[each].append(index)
    steps = []
    ready = [index for index, count in enumerate(missing) if count == 0]
    done = set(ready)
    while ready:
        kinds = defaultdict(list)
        for index in ready:
            kinds[gates[index][0].name].append(gates[index])
        steps += [_step(group) for group in kinds.values()]
        following = []
        for index in ready:
            cell, pins = gates[index]
            known.add(pins[cell.output])
            for reader in readers[pins[cell.output]]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    following.append(reader)
        done |= set(following)
        ready = following
    return tuple(steps), [gate for index, gate in enumerate(gates) if index not in done]


def _step(gates: Sequence[Gate]) -> Step:
    cell = gates[0][0]
    inputs = {pin: np.array([pins[pin] for _, pins in gates], np.intp) for pin in cell.load}
    return Step(cell, inputs, np.array([pins[cell.output] for _, pins in gates], np.intp))


# -- simulation


class Simulation:
    """A netlist and the state of its flip-flops, the same for every lane: what has been written into its memory."""

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.state = np.zeros(len(netlist.state), bool)

    def write(self, words: Mapping[int, int], idle: Mapping[str, int]) -> None:
        """Write address -> word through the ports `write`, `address` and `data`, one clock each."""
        for address, word in words.items():
            values = self._values({**idle, "write": 1, "address": address, "data": word}, 1)
            self._run(values, (*self.netlist.front, *self.netlist.steps))
            self.state = (values[self.netlist.data, 0] & np.uint64(1)).astype(bool)

    def codes(self, inputs: Mapping[str, Any], lanes: int, *, signed: bool) -> Integers:
        """Return the output of each lane: inputs stand still for two clocks, which registers them and the result.

        Args:
            inputs: port -> integer, or one integer per lane.
            lanes: how many.
            signed: how the bits of `code` are read.
        """
        code = self.netlist.ports["code"]
        return np.concatenate([_unpacked(values[code], count, signed) for values, count in self._parts(inputs, lanes)])

    def toggled(self, inputs: Mapping[str, Any], lanes: int) -> NDArray[np.int64]:
        """Return how often each net changes while the lanes follow each other, a clock each, without glitches."""
        total = np.zeros(self.netlist.nets, np.int64)
        for values, count in self._parts(inputs, lanes, shared=1):
            changes = values ^ (values >> np.uint64(1))
            changes[:, :-1] ^= values[:, 1:] << np.uint64(63)
            changes &= _packed(np.ones(count - 1, np.int64), 1, lanes=count)
            total += np.bitwise_count(changes).sum(axis=1, dtype=np.int64)
        return total

    def _parts(self, inputs: Mapping[str, Any], lanes: int, shared: int = 0) -> Iterator[tuple[Lanes, int]]:
        """Yield the settled values of some lanes after others, and their number; two parts share so many lanes."""
        most = max(1, CHUNK // self.netlist.nets) * 64
        for start in range(0, lanes - shared, most):
            part = slice(start, min(start + most + shared, lanes))
            chosen = {name: each[part] if np.ndim(each) else each for name, each in inputs.items()}
            yield self._settled(chosen, part.stop - start), part.stop - start

    def _settled(self, inputs: Mapping[str, Any], lanes: int) -> Lanes:
        netlist = self.netlist
        values = self._values(inputs, lanes)
        self._run(values, netlist.front)
        ports = [bits for name, bits in netlist.ports.items() if name != "code"]
        held = np.isin(netlist.data, np.concatenate([*ports, *(step.output for step in netlist.front)]))
        values[netlist.state[held]] = values[netlist.data[held]]
        self._run(values, netlist.steps)
        values[netlist.state] = values[netlist.data]
        return values

    def _values(self, inputs: Mapping[str, Any], lanes: int) -> Lanes:
        values: Lanes = np.zeros((self.netlist.nets, -(-lanes // 64)), np.uint64)
        values[ONE] = ~np.uint64(0)
        values[self.netlist.state[self.state]] = ~np.uint64(0)
        for name, each in inputs.items():
            nets = self.netlist.ports[name]
            if np.ndim(each):
                values[nets] = _packed(np.asarray(each, np.int64), len(nets))
            else:
                values[nets[[bool(int(each) >> bit & 1) for bit in range(len(nets))]]] = ~np.uint64(0)
        return values

    @staticmethod
    def _run(values: Lanes, steps: Sequence[Step]) -> None:
        for step in steps:
            assert step.cell.function is not None
            values[step.output] = step.cell.function({pin: values[nets] for pin, nets in step.inputs.items()})


def _packed(numbers: Integers, bits: int, lanes: int = 0) -> Lanes:
    """Return (bits, words): bit b of each number, 64 numbers to a word, words for at least so many lanes."""
    padded = np.zeros(-(-max(len(numbers), lanes) // 64) * 64, np.int64)
    padded[: len(numbers)] = numbers
    planes = (padded >> np.arange(bits)[:, None]) & 1
    return np.packbits(planes.astype(np.uint8), axis=1, bitorder="little").view(np.uint64)


def _unpacked(planes: Lanes, lanes: int, signed: bool) -> Integers:
    bits = np.unpackbits(np.ascontiguousarray(planes).view(np.uint8), axis=1, bitorder="little", count=lanes)
    weights = np.int64(1) << np.arange(len(planes), dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    total: Integers = np.einsum("bl,b->l", bits, weights, dtype=np.int64, casting="unsafe")
    return total
