"""Covers: the look-up tables that gates take, found by cuts.

A cut of a gate is a set of gates of which it is a function; a look-up table computes it from them (Cong and Ding,
FlowMap, 1994). Few cuts are kept per gate (Mishchenko et al., "Combinational and sequential mapping with priority
cuts", ICCAD 2007), so the time is linear in the gates. As `abc9` does for `synth_xilinx`: first how early a gate can
have its value, then the least area that is not later, then what is built twice is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from flow.backends.rtl.netlists.gates import Gates, Literal

AREA = (0, 2, 2, 3, 5, 5, 5, 10, 20)
"""Area of a table by its inputs, as `abc9 -luts 2:2,3,6:5,10,20` weighs it; seven and eight are tables of six behind
the multiplexers of a slice."""
TABLES = (0, 1, 1, 1, 1, 1, 1, 2, 6)
"""How many tables of six inputs that is. Four would do for eight inputs; of lookups of eight and nine bits, whose logic
`abc9` rearranges first, Yosys makes 2.8 more for each (median of 12 modules below seed 620, 0.9 to 3.9)."""
LEVEL_NS = (0.0, *[0.7] * 6, 1.2, 1.7)
"""A table by its inputs, and the wire to it; these times only say what must not be later."""
CHAIN_NS, CARRY_NS = 0.6, 0.03
"""Through a carry chain, and per bit of it."""
SLACK = 1.35
"""How much later than the earliest a value may be: late ones take the fast inputs of a table. Chosen on modules that
the estimate's errors are not stated over (docs/estimates.md)."""
CUTS = 6
"""Cuts kept per gate, besides the earliest."""
PASSES = 2
"""How often what is built twice is given up."""

Cut = frozenset[int]
Chain = tuple[Sequence[tuple[Literal, Literal]], int]
"""What a carry chain reads, per bit, and at which bit something leaves it; what leaves it are gates in a row."""


class Cover:
    """Look-up tables that compute the roots of gates.

    Args:
        roots: literals that must be there.
        chains: gate that leaves a carry chain -> that chain.

    Attributes:
        tables: gate -> what its table reads.
    """

    def __init__(self, gates: Gates, roots: Iterable[Literal], chains: Mapping[int, Chain]) -> None:
        self._reads, self._chains = gates.reads, chains
        self._roots = {root >> 1 for root in roots}
        self._cuts: dict[int, list[Cut]] = {}
        self._best: dict[int, Cut] = {}
        self._arrives = [0.0] * len(gates.reads)
        self._uses = [0] * len(gates.reads)
        self._find_cuts(self._needed())
        self._latest = SLACK * max(self._arrives)
        self._required(choose=True)
        self._uses = [0] * len(gates.reads)
        for root in self._roots:
            self._take(root)
        for _ in range(PASSES):
            self._recover_area()
        self.tables = {gate: cut for gate, cut in self._best.items() if self._uses[gate]}

    def _needed(self) -> list[int]:
        """Return the gates that the roots depend on, and count how often each is read."""
        needed = set(self._roots)
        for gate in range(len(self._reads) - 1, 0, -1):
            if gate in needed:
                for read in self._reads[gate]:
                    self._uses[read >> 1] += 1
                    needed.add(read >> 1)
        for root in self._roots:
            self._uses[root] += 1
        return sorted(needed | self._chains.keys())

    def _find_cuts(self, gates: Sequence[int]) -> None:
        """Keep the cuts of least area, in which shared tables count in part, and choose the earliest."""
        flow = [0.0] * len(self._reads)
        kept: dict[int, list[Cut]] = {}
        flow_of, arrives = flow.__getitem__, self._arrives.__getitem__
        for gate in gates:
            if not self._reads[gate]:
                kept[gate] = [frozenset((gate,) if gate else ())]
                self._arrives[gate] = self._out_of_chain(gate)
                continue
            first, *others = self._reads[gate]
            found: Iterable[Cut] = kept[first >> 1]
            for read in others:
                found = {cut for a in found for b in kept[read >> 1] if len(cut := a | b) < len(AREA)}
            weighed = [(AREA[len(cut)] + sum(map(flow_of, cut)), -len(cut), cut) for cut in found]
            weighed.sort(key=itemgetter(0, 1))
            arrivals = [LEVEL_NS[len(cut)] + max(map(arrives, cut), default=0.0) for _, _, cut in weighed]
            self._arrives[gate] = min(arrivals)
            self._best[gate] = early = weighed[arrivals.index(self._arrives[gate])][2]
            cuts = [cut for _, _, cut in weighed[:CUTS]]
            self._cuts[gate] = cuts if early in cuts else [*cuts, early]
            flow[gate] = weighed[0][0] / max(self._uses[gate], 1)
            kept[gate] = [*self._cuts[gate], frozenset((gate,))]

    def _arrival(self, cut: Cut) -> float:
        return LEVEL_NS[len(cut)] + max(map(self._arrives.__getitem__, cut), default=0.0)

    def _out_of_chain(self, gate: int) -> float:
        if gate not in self._chains:
            return 0.0
        bits, place = self._chains[gate]
        carry = self._arrives[gate - 1] if place else CHAIN_NS
        return max(carry + CARRY_NS, *(CHAIN_NS + self._arrives[bit >> 1] for bit in bits[place]))

    def _required(self, choose: bool = False) -> list[float]:
        """Return when each gate must have its value; if asked, choose the first of its cuts that has it by then."""
        required = [self._latest] * len(self._arrives)
        for gate in range(len(required) - 1, 0, -1):
            by = required[gate]
            if gate in self._chains:
                bits, place = self._chains[gate]
                for bit in bits[place]:
                    required[bit >> 1] = min(required[bit >> 1], by - CHAIN_NS)
                if place:
                    required[gate - 1] = min(required[gate - 1], by - CARRY_NS)
            elif gate in self._best and self._uses[gate]:
                if choose:
                    in_time = (cut for cut in self._cuts[gate] if self._in_time(cut, by))
                    self._best[gate] = next(in_time, self._best[gate])
                for leaf in self._best[gate]:
                    required[leaf] = min(required[leaf], by - LEVEL_NS[len(self._best[gate])])
        return required

    def _in_time(self, cut: Cut, by: float) -> bool:
        return self._arrival(cut) <= by + 1e-9

    def _recover_area(self) -> None:
        """Give every table the cut for which the least is built, of those that come in time."""
        required = self._required()
        for gate in sorted(self._best.keys() | self._chains.keys()):
            if gate in self._chains:
                self._arrives[gate] = self._out_of_chain(gate)
                continue
            if self._uses[gate] and len(self._cuts[gate]) > 1:
                self._drop(self._best[gate])
                in_time = [cut for cut in self._cuts[gate] if self._in_time(cut, required[gate])]
                self._best[gate] = min(in_time or [self._best[gate]], key=self._area)
                self._build(self._best[gate])
            self._arrives[gate] = self._arrival(self._best[gate])

    def _area(self, cut: Cut) -> int:
        area = self._build(cut)
        self._drop(cut)
        return area

    def _take(self, gate: int) -> int:
        """Use a gate once more, and return the area that is built for it."""
        self._uses[gate] += 1
        return self._build(self._best[gate]) if self._uses[gate] == 1 and gate in self._best else 0

    def _build(self, cut: Cut) -> int:
        return AREA[len(cut)] + sum(map(self._take, cut))

    def _drop(self, cut: Cut) -> None:
        for leaf in cut:
            self._uses[leaf] -= 1
            if self._uses[leaf] == 0 and leaf in self._best:
                self._drop(self._best[leaf])
