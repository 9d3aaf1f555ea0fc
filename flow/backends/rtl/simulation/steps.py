"""Steps on 64-bit words, which `rtlsim_main.cpp` runs for many simulations at once, and the nets that they compute.

A signal of up to 64 bits is a slot, zero above its width. An undefined bit (`x`) is 0, as in a simulation that starts
from zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce

from flow.errors import EmitError

CHUNK = 64
"""Bits of a slot."""

Bit = int | str
"""A net, by number, or a constant: "0", "1", "x", "z"."""
Bits = tuple[Bit, ...]


Code = IntEnum(
    "Code",
    "INSERT SIGN MASK ADD SUB MUL DIVU DIVS MODU MODS AND OR XOR LTU LTS LEU LES "
    "ZERO NONZERO PARITY MUX SHIFT TABLE READ",
    start=0,
)
"""What a step does; the numbers are those of `enum Code` in `rtlsim_main.cpp`, which has the formulas."""


@dataclass(slots=True)
class Steps:
    """A design as slots and steps, while it is made.

    Attributes:
        nets: name -> nets of each wire of the flattened design.
        slots: how many there are; slot 0 is zero.
        constants: value -> slot.
        steps: (code, dst, a, b, c, low, high, mask).
        levels: per slot, how many steps must come before.
        drivers: net -> (slot, bit of it).
        words: nets -> the slot that holds them as an unsigned number.
        extended: nets -> the slot that holds them as a signed number of 64 bits.
        registers: (q, d, initial value).
        table: contents of memories, one after another.
        memories: (words, first place in `table`) of those that are written.
        writes: (memory, slot of the enabled bits, slot of the address, slot of the data).
        places: memory -> per piece of a word, its number in `memories`, or its place in `table` if it is not there.
        instances: net -> name of the instance in the top that drives it.
    """

    nets: Mapping[str, Bits]
    slots: int = 1
    constants: dict[int, int] = field(default_factory=lambda: {0: 0})
    steps: list[tuple[int, ...]] = field(default_factory=list)
    levels: list[int] = field(default_factory=lambda: [0])
    drivers: dict[Bit, tuple[int, int]] = field(default_factory=dict)
    words: dict[Bits, int] = field(default_factory=dict)
    extended: dict[Bits, int] = field(default_factory=dict)
    registers: list[tuple[int, int, int]] = field(default_factory=list)
    table: list[int] = field(default_factory=list)
    memories: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int, int, int]] = field(default_factory=list)
    places: dict[str, list[int]] = field(default_factory=dict)
    instances: dict[Bit, str] = field(default_factory=dict)

    def slot(self) -> int:
        """Return a new slot."""
        self.levels.append(0)
        self.slots += 1
        return self.slots - 1

    def constant(self, value: int) -> int:
        """Return the slot of a constant, an unsigned number of 64 bits."""
        if value not in self.constants:
            self.constants[value] = self.slot()
        return self.constants[value]

    def step(self, code: Code, a: int, b: int = 0, c: int = 0, *, low: int = 0, high: int = 0, mask: int = 0) -> int:
        """Add a step and return the slot of its result."""
        return self.step_to(self.slot(), code, a, b, c, low=low, high=high, mask=mask)

    def step_to(
        self, dst: int, code: Code, a: int, b: int = 0, c: int = 0, *, low: int = 0, high: int = 0, mask: int = 0
    ) -> int:
        """Add a step whose result goes to a slot that is there already."""
        levels = self.levels
        first = max(levels[a : a + low]) if code is Code.SHIFT else levels[a]
        levels[dst] = 1 + max(first, levels[b], levels[c])
        self.steps.append((code, dst, a, b, c, low, high, mask))
        return dst

    def drive(self, bits: Bits, slot: int) -> None:
        """Say that a slot holds these nets, at most 64."""
        self.words[bits] = slot
        for place, bit in enumerate(bits):
            if bit in self.drivers:
                raise EmitError(f"wire '{self.name(bit)}' is driven twice")
            self.drivers[bit] = (slot, place)

    def row_for(self, bits: Bits) -> list[int]:
        """Return new slots, one after another, that hold these nets."""
        slots = [self.slot() for _ in pieces(bits)]
        for piece, slot in zip(pieces(bits), slots, strict=True):
            self.drive(piece, slot)
        return slots

    def row(self, slots: Sequence[int]) -> int:
        """Return the first of slots that hold the same as these, one after another."""
        if list(slots) == list(range(slots[0], slots[0] + len(slots))):
            return slots[0]
        copies = [self.slot() for _ in slots]
        for copy, slot in zip(copies, slots, strict=True):
            self.step_to(copy, Code.MASK, slot, mask=ones(CHUNK))
        return copies[0]

    def name(self, bit: Bit) -> str:
        """Return the name of a wire that a net belongs to, one of the source if there is one."""
        names = sorted((name for name, bits in self.nets.items() if bit in bits), key=lambda name: name.startswith("$"))
        return names[0] if names else str(bit)

    def word(self, bits: Bits) -> int:
        """Return the slot that holds up to 64 nets and constants as an unsigned number, the first one lowest."""
        known = self.words.get(bits)
        if known is None:
            known = self.words[bits] = self._gathered(bits)
        return known

    def _gathered(self, bits: Bits) -> int:
        core = _without_extension(bits)
        if 1 < len(core) < len(bits) and isinstance(bits[-1], int):
            return self.step(Code.MASK, self.number(core, True), mask=ones(len(bits)))
        runs = list(self._runs(bits))
        result = self.constant(sum(1 << place for place, bit in enumerate(bits) if bit == "1"))
        for slot, low, place, count in runs:
            result = self.step(Code.INSERT, slot, result, low=low, high=place, mask=ones(count))
        return result

    def _runs(self, bits: Bits) -> Iterator[tuple[int, int, int, int]]:
        """Yield (slot, its first bit, place, count) of each run of nets that one slot holds in order."""
        place = 0
        while place < len(bits):
            start, bit = place, bits[place]
            place += 1
            if isinstance(bit, str):
                continue
            while place < len(bits) and bits[place] == bit:
                place += 1
            if place - start > 1:
                yield self.number((bit,), True), 0, start, place - start
                continue
            slot, low = self.driver(bit)
            while place < len(bits) and self.drivers.get(bits[place]) == (slot, low + place - start):
                place += 1
            yield slot, low, start, place - start

    def driver(self, bit: Bit) -> tuple[int, int]:
        """Return the slot and the bit of it that drive a net."""
        if bit not in self.drivers:
            raise EmitError(f"wire '{self.name(bit)}' is driven by nothing")
        return self.drivers[bit]

    def number(self, bits: Bits, signed: bool) -> int:
        """Return the slot that holds up to 64 bits as a number of 64 bits, sign extended if `signed`."""
        if not signed or len(bits) == CHUNK:
            return self.word(bits)
        core = _without_extension(bits)
        if core[-1] == "0":
            return self.word(core)
        if core not in self.extended:
            self.extended[core] = self.step(Code.SIGN, self.word(core), low=len(core))
        return self.extended[core]

    def joined(self, slots: Sequence[int], code: Code) -> int:
        """Return the slot of all these, joined by a step."""
        return reduce(lambda result, slot: self.step(code, result, slot), slots)

    def flag(self, bits: Bits) -> int:
        """Return the slot that is 1 if any of these bits is."""
        if len(bits) == 1:
            return self.word(bits)
        return self.step(Code.NONZERO, self.joined([self.word(piece) for piece in pieces(bits)], Code.OR))

    def encoded(self) -> list[int]:
        """Return the numbers from `steps` to `writes` as the program reads them, each list after its length."""
        order = sorted(self.steps, key=lambda step: (self.levels[step[1]], step[0]))
        lists: list[list[tuple[int, ...]]] = [
            [(slot, value) for value, slot in self.constants.items()],
            order,
            [(word,) for word in self.table],
            [*self.memories],
            [*self.registers],
            [*self.writes],
        ]
        return [number for items in lists for number in (len(items), *(n for item in items for n in item))]


def ones(count: int) -> int:
    """Return the number with `count` ones."""
    return (1 << count) - 1


def pieces(bits: Bits) -> list[Bits]:
    """Return the nets cut into pieces of 64."""
    return [bits[i : i + CHUNK] for i in range(0, len(bits), CHUNK)]


def extend(bits: Bits, width: int, signed: bool) -> Bits:
    """Return exactly `width` bits: some cut off, or the sign or zeros added."""
    return bits[:width] + ((bits[-1] if signed else "0"),) * (width - len(bits))


def _without_extension(bits: Bits) -> Bits:
    """Return the bits with the topmost one only once."""
    end = len(bits)
    while end > 1 and bits[end - 2] == bits[-1]:
        end -= 1
    return bits[:end]
