"""Footprint: what of a pipelined netlist becomes hardware, before any tool has run.

From the outputs back: what is read is built, logic between registers, carry chains and DSP slices is covered with
look-up tables. A netlist that is used at several positions is counted once; what two positions compute alike is one, as
equal words of equal inputs are one after flattening.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.netlists.covers import TABLES, Cover
from flow.backends.rtl.netlists.gates import Literal
from flow.backends.rtl.netlists.logic import LUT_INPUTS, Logic
from flow.backends.rtl.netlists.needs import registers
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import Pipeline
from flow.ir.fixed import Codes

OUTPUTS = -1
"""Stands for a node, for what belongs to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one use of a netlist needs.

    Attributes:
        parts: node -> kind -> how much of it.
        waits: (input, its bit) -> after how many cycles it is read, in ascending order without 0; only what is read.
    """

    parts: Mapping[int, Counter[str]]
    waits: Mapping[tuple[int, int], tuple[int, ...]]

    def alone(self) -> Counter[str]:
        """Return what it needs if nothing else reads its inputs."""
        return sum(self.parts.values(), registers(self.waits.values()))


def used(net: Netlist, pipe: Pipeline, width: int, index: Codes, fill: int) -> Counter[str]:
    """Return what the uses of a netlist need, side by side.

    Args:
        width: bits of each output.
        index: int64 (uses, inputs): which code each input reads; -1 for a constant. A code that several uses read
            waits in one register.
        fill: that constant.
    """
    parts: Counter[str] = Counter()
    taps: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    padded, which = np.unique(index < 0, axis=0, return_inverse=True)
    first = first_uses(net, pipe, index)
    for number, mask in enumerate(padded):
        chosen = which.reshape(-1) == number
        one = footprint(net, pipe, width, dict.fromkeys(np.flatnonzero(mask).tolist(), fill))
        for place, counts in one.parts.items():
            times = int((chosen if place == OUTPUTS else first[place, chosen]).sum())
            for kind, count in counts.items():
                parts[kind] += count * times
        for (place, bit), stages in one.waits.items():
            for code in index[chosen, place].tolist():
                taps[code, bit].update(stages)
    return parts + registers(taps.values())


def first_uses(net: Netlist, pipe: Pipeline, index: Codes) -> NDArray[np.bool_]:
    """Return (nodes, uses): whether a use is the first to compute what it does at a node.

    Two nodes compute the same if they are of one kind and read the same, as early; a number of 64 bits stands for that.
    """
    marks = np.zeros((len(net.nodes), len(index)), np.uint64)
    with np.errstate(over="ignore"):
        for place, node in enumerate(net.nodes):
            is_input = node.kind == "input"
            mark = np.full(len(index), hash((node.kind, None if is_input else node.data)) & (1 << 64) - 1, np.uint64)
            reads = [index[:, node.data].astype(np.uint64)] if is_input else [marks[arg] for arg in node.args]
            for number, read in enumerate(reads):
                late = 0 if is_input else pipe.stages[place] - pipe.stages[node.args[number]]
                mark = (mark ^ mark >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64
                mark += (read + np.uint64(late)) * np.uint64(0x9E3779B97F4A7C15)
            marks[place] = mark ^ mark >> np.uint64(32)
    first = np.zeros(marks.size, bool)
    first[np.unique(marks.reshape(-1), return_index=True)[1]] = True
    return first.reshape(marks.shape)


def footprint(net: Netlist, pipe: Pipeline, width: int, fixed: Mapping[int, int]) -> Footprint:
    """Return what one use of a netlist needs, whose outputs have `width` bits.

    Args:
        fixed: inputs that are constants: number of the input -> its code.
    """
    return _Count(Logic(net, pipe, fixed, width)).footprint()


class _Count:
    """What is built of logic, counted from the outputs back.

    Attributes:
        parts: node -> kind -> how much of it.
        roots: what registers, chains and DSP slices take in.
        taps: bit -> after how many cycles it is read.
        chains: those that are built, by the gates that leave them.
    """

    def __init__(self, logic: Logic) -> None:
        self.logic = logic
        self.parts: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.roots: list[Literal] = []
        self.taps: defaultdict[Literal, set[int]] = defaultdict(set)
        self.chains: dict[int, tuple[Sequence[tuple[Literal, Literal]], int]] = {}
        self.needed = {logic.gates.source(bit) >> 1 for bit in logic.outputs}
        self._readers: Counter[int] = Counter()
        for gate in range(len(logic.gates.reads) - 1, 0, -1):
            if gate in self.needed:
                self._need(gate)

    def footprint(self) -> Footprint:
        logic = self.logic
        resets = [self._data(bit) for bit in self.taps]
        waits = {logic.inputs[gate]: tuple[int, ...]() for gate in self.needed & logic.inputs.keys()}
        for bit, cycles in self.taps.items():
            place = logic.inputs.get(bit >> 1)
            if place is not None:
                waits[place] = tuple(sorted({*waits[place], *cycles}))
            else:
                self.parts[logic.owners[bit >> 1]] += registers([cycles])
        self._count_tables([(data, conditions) for data, conditions in resets if conditions])
        return Footprint(parts=self.parts, waits=waits)

    def _need(self, gate: int) -> None:
        """Count what a gate is, and note what it reads."""
        logic, reads = self.logic, list(self.logic.gates.reads[gate])
        if gate in logic.registers:
            bit, cycles = logic.registers[gate]
            self.taps[bit].add(cycles)
            reads = [bit]
        elif gate in logic.adders.chains and gate not in self.chains:
            bits, place = logic.adders.chains[gate]
            self.chains |= {leaf >> 1: (bits, i) for i, leaf in enumerate(logic.adders.leaves[gate][: place + 1])}
            self.parts[logic.owners[gate]]["carry"] += -(-(place + 1) // 4)
            reads = [bit for pair in bits[: place + 1] for bit in pair]
            reads += [logic.adders.enters[gate]] if gate in logic.adders.enters else []
            self.roots += map(logic.gates.source, reads)
        elif gate in logic.products:
            node, reads = logic.products[gate]
            a, b = (logic.net.nodes[arg].width for arg in logic.net.nodes[node].args)
            self.parts[node]["dsp"] = -(-a // 25) * -(-b // 18)
            self.roots += map(logic.gates.source, reads)
        for bit in map(logic.gates.source, reads):
            self.needed.add(bit >> 1)
            self._readers[bit >> 1] += 1

    def _data(self, bit: Literal) -> tuple[Literal, tuple[Literal, ...]]:
        """Return what a register takes in, and when it is reset: choices of one constant become its reset."""
        data, conditions, end = bit, list[Literal](), None
        while data in self.logic.choices and self._readers[data >> 1] <= 1:
            condition, other, constant = self.logic.choices[data]
            if end not in (None, constant):
                break
            data, end = other, constant
            conditions.append(condition)
        data = self.logic.gates.source(data)
        self.roots.append(data)
        return data, tuple(sorted(conditions))

    def _count_tables(self, resets: Sequence[tuple[Literal, tuple[Literal, ...]]]) -> None:
        """Count look-up tables: of logic, inverters, and resets, which hold the clock enable too."""
        logic, gates = self.logic, self.logic.gates
        enable, data_of = gates.outside(), defaultdict[Literal, list[Literal]](list)
        for data, conditions in resets:
            reset = gates.both(enable, gates.any(conditions))
            logic.owners += [logic.owners[conditions[0] >> 1]] * (len(gates.reads) - len(logic.owners))
            data_of[reset].append(data)
        tables = Cover(gates, [*self.roots, *data_of], self.chains).tables
        for gate, cut in tables.items():
            self.parts[logic.owners[gate]]["lut"] += TABLES[len(cut)]
        for root in {root for root in self.roots if root & 1 and root >> 1 not in tables and root >> 1}:
            self.parts[logic.owners[root >> 1]]["lut"] += 1
        readers = Counter([*(root >> 1 for root in self.roots), *(gate for cut in tables.values() for gate in cut)])

        def takes_reset(data: Literal, reset: int) -> bool:
            """Say whether the table of a register has room for reset, enable and the register (`xilinx_dffopt`)."""
            gate, itself = data >> 1, -1
            own = tables[gate] if gate in tables and readers[gate] <= 1 else {gate} if data & 1 else None
            return own is not None and len({itself, *own, *tables[reset]}) <= LUT_INPUTS

        for reset, datas in data_of.items():
            if all(takes_reset(data, reset >> 1) for data in datas):
                self.parts[logic.owners[reset >> 1]]["lut"] -= 1
