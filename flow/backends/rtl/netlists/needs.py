"""Needs: how much a module has of each kind of hardware, counted before any tool has run.

    lut                look-up tables of the logic of netlists (`covers`), carry: cells of carry chains, 4 bits each
    dsp                DSP slices
    flip_flops         registers;   shift_registers: bits that only wait, for 3 cycles or more, a table each

Streams have besides: `stages`, `control` (bits of a window's counters), `padding` (those of them that are held against
the frame inside its padding), `fifo_control` (bits of addresses), and the memories of `Needs`. How many tables these
take is fitted to a synthesizer (`flow.backends.rtl.synthesis.estimate`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SHORTEST_SHIFT_REGISTER = 3
"""A bit that only waits for so many cycles becomes a shift register of one LUT (Yosys, `xilinx_srl -minlen`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Words that are read in the cycle in which their address is given.

    Attributes:
        width, depth: bits of a word, words.
        ports: addresses, 1 or 2.
    """

    width: int
    depth: int
    ports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a module needs.

    Attributes:
        parts: kind -> how much of it, see above.
        memories: those of its line buffers and FIFOs.
    """

    parts: Mapping[str, int]
    memories: tuple[Memory, ...] = ()

    def __add__(self, other: Needs) -> Needs:
        return Needs(parts=Counter(self.parts) + Counter(other.parts), memories=self.memories + other.memories)


def window_needs(read: Iterable[tuple[int, int]], settings: Mapping[str, int], channels: int) -> Needs:
    """Return what a window over a frame needs (`po2flow_window`).

    Args:
        read: (code of the window, its bit) that are read; a pixel's channels lie together, the row's pixels too.
        settings: its parameters.
        channels: of a pixel.
    """
    rows, cols, columns = settings["KR"], settings["KC"], settings["PADDED_COLS"]
    taps: defaultdict[tuple[int, int, int], set[int]] = defaultdict(set)
    for code, bit in read:
        pixel, channel = divmod(code, channels)
        row, col = divmod(pixel, cols)
        taps[row, channel, bit].add(cols - col)
    skips = [(size, step) for size, step in ((rows, settings["SR"]), (cols, settings["SC"])) if max(size, step) > 1]
    counters = sum(max(skip).bit_length() for skip in skips)
    counters += sum(size.bit_length() for size in (settings["PADDED_ROWS"], columns) if size > 1)
    padded = (settings["PADDED_ROWS"], columns) != (settings["ROWS"], settings["COLS"])
    parts = registers(taps.values()) + Counter(flip_flops=counters + 1, control=counters, padding=counters * padded)
    if rows == 1:
        return Needs(parts=parts)
    memory = Memory(width=(rows - 1) * settings["WIDTH"], depth=columns, ports=1 if rows == 2 else 2)
    return Needs(parts=parts, memories=(memory,))


def fifo_needs(width: int, depth: int) -> Needs:
    """Return what a FIFO needs (`po2flow_fifo`): two addresses, a count, and the words."""
    bits = max(1, (depth - 1).bit_length())
    return Needs(
        parts=Counter(flip_flops=3 * bits + 1, fifo_control=bits), memories=(Memory(width=width, depth=depth, ports=2),)
    )


def registers(bits: Iterable[Iterable[int]]) -> Counter[str]:
    """Return what holds some bits, each of which is read after so many cycles."""
    counts = [held(sorted(taps)) for taps in bits]
    return Counter(flip_flops=sum(count for count, _ in counts), shift_registers=sum(count for _, count in counts))


def held(taps: Sequence[int]) -> tuple[int, int]:
    """Return (flip-flops, shift registers) of a bit that is read after so many cycles, in ascending order.

    Example:
        >>> held((1, 2, 7))
        (2, 1)
    """
    gaps = [after - before for before, after in zip((0, *taps), taps, strict=False)]
    long = [gap for gap in gaps if gap >= SHORTEST_SHIFT_REGISTER]
    return sum(gaps) - sum(long), len(long)
