"""Counters: sums of single bits as tables of six inputs, instead of adders, whose carry chains no table can look into.

A counter takes up to six bits, of one column or of two that stand side by side, and gives their sum in three: three
tables that leave three bits fewer. So a count of many bits takes about a table a bit. Columns are counted down from the
lowest on, earliest bits first, since a synthesizer builds twice what makes others late.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flow.backends.rtl.netlists.netlist import Netlist

INPUTS = 6
"""Of a table."""
SHAPES = ((6, 0), (5, 1), (3, 2), (3, 0))
"""Bits of a column, and of the next, that a counter takes; the first that fits leaves the fewest bits a table."""


def count(net: Netlist, bits: Sequence[int]) -> int:
    """Add the number of bits that are 1."""
    counter = _Counter(net, bits)
    place = 0
    while place < len(counter.columns):
        while len(counter.columns[place]) > 2 and counter.left() > INPUTS:
            own, other = len(counter.columns[place]), len(counter.following(place))
            counter.take(place, *next(each for each in SHAPES if own >= each[0] and other >= each[1]))
        place += 1
    while counter.left() > INPUTS:  # at most two bits a column: two columns and what they carry
        place = counter.alone()
        counter.take(place, len(counter.columns[place]), len(counter.following(place)))
    low, above = counter.columns[: counter.alone()], counter.columns[counter.alone() :]
    top = _sum(net, [(bit, 1 << place) for place, column in enumerate(above) for bit in column])
    return net.join([*(column[0] for column in low), *top][: len(bits).bit_length()], (0, len(bits)))


class _Counter:
    """Columns of bits, the lowest first, that stay the same sum.

    Attributes:
        columns: the bits of each, by the tables that stand before them.
    """

    def __init__(self, net: Netlist, bits: Sequence[int]) -> None:
        self.net, self.columns = net, [list(bits)]
        self._levels = dict.fromkeys(bits, 0)

    def alone(self) -> int:
        """Return how many of the lowest columns have one bit."""
        return next((place for place, each in enumerate(self.columns) if len(each) != 1), len(self.columns))

    def left(self) -> int:
        """Return how many bits there are above these."""
        return sum(map(len, self.columns[self.alone() :]))

    def following(self, place: int) -> list[int]:
        """Return the column above another."""
        if place + 1 == len(self.columns):
            self.columns.append([])
        return self.columns[place + 1]

    def take(self, place: int, own: int, other: int) -> None:
        """Replace so many bits of a column, and of the next, by their sum."""
        columns = self.columns[place], self.following(place)
        taken = [(bit, weight) for weight, n in ((1, own), (2, other)) for bit in columns[weight - 1][:n]]
        del columns[0][:own], columns[1][:other]
        late = 1 + max(self._levels[bit] for bit, _ in taken)
        for weight, bit in enumerate(_sum(self.net, taken)):
            self._levels.setdefault(bit, late)
            column = self.columns[place] if weight == 0 else self.following(place + weight - 1)
            column.append(bit)
            column.sort(key=self._levels.__getitem__)


def _sum(net: Netlist, taken: Sequence[tuple[int, int]]) -> list[int]:
    """Add the bits of a sum of a few weighted bits, each a table of them."""
    numbers = np.arange(1 << len(taken))
    sums = np.zeros_like(numbers)
    for i, (_, weight) in enumerate(taken):
        sums += (numbers >> i & 1) * weight
    bits = [bit for bit, _ in taken]
    return [net.lut(bits, (sums >> place & 1).tolist()) for place in range(int(sums.max()).bit_length())]
