"""Pipelining: which stage of a kernel computes each node, so that each stage fits the clock.

The delays are a model, not timing analysis: look-up tables and the wires to them, and carry chains. For AMD's families
nobody has run the vendor's tools: data sheets give 0.1 to 0.15 ns for a table and 0.02 to 0.03 ns per bit of carry
(AMD DS181, DS923), the wire is taken in its usual size. For ECP5 they are read from the critical paths of nextpnr
(docs/synthesis.md): 0.24 ns for a table, 0.45 ns into a chain and 0.44 ns out of it, 0.07 ns per two bits, 0.4 to 1.4
ns for a wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flow.backends.rtl.netlists.netlist import Netlist, Node, reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Delays of a family of parts, in ns.

    Attributes:
        level: one look-up table and the wire to it.
        chain: into a carry chain and out of it, beyond a level.
        carry: one bit of a carry chain.
        overhead: a register's delay from clock to output, and its setup.
    """

    level: float
    chain: float
    carry: float
    overhead: float


AMD = Delays(level=0.6, chain=0.0, carry=0.025, overhead=0.4)
ECP5 = Delays(level=1.25, chain=0.85, carry=0.036, overhead=1.0)
DELAYS: Mapping[str, Delays] = {
    **dict.fromkeys(("7-series", "UltraScale", "UltraScale+", "Versal"), AMD),
    **dict.fromkeys(("ECP5", "iCE40 HX", "iCE40 LP", "iCE40 UltraPlus"), ECP5),
}
"""By the family of flow.parts."""
USED = 0.8
"""Part of the clock period that the model may fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The clock that a pipeline is made for."""

    period_ns: float
    delays: Delays = AMD


FREE = ("input", "const", "shl", "shr", "wrap", "join")
"""Wiring, which takes no logic."""
LOGIC: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(FREE, (0, 0)),
    **dict.fromkeys(("both", "any", "even", "mux", "table", "lut"), (1, 0)),
    **dict.fromkeys(("add", "sub", "less"), (1, 1)),
    "clamp": (2, 0),
    "max": (2, 1),
    "mul": (4, 2),
}
"""Kind of node -> look-up tables one behind another, and carry chains; `even` and `any` of more than 5 bits have one
more."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages of a netlist: node -> the stage that computes it; a value is registered between two stages.

    Attributes:
        stages: per node, from 0.
        depth: clock cycles from input to output; 0 for a netlist that is only wires.
        path: the longest way through a stage: its nodes as the Verilog calls them, with what they do.
        path_ns: its modelled delay, with the registers at its ends.
    """

    stages: tuple[int, ...]
    depth: int
    path: tuple[str, ...] = ()
    path_ns: float = 0.0


def pipeline(net: Netlist, clock: Clock) -> Pipeline:
    """Return the stages of a netlist for a clock: every node as early as its inputs and the clock allow."""
    budget = clock.period_ns * USED - clock.delays.overhead
    done: list[tuple[int, float]] = []
    before: list[int | None] = []
    for node in net.nodes:
        last = max(node.args, key=lambda arg: done[arg], default=None)
        stage, time = (0, 0.0) if last is None else done[last]
        delay = delay_ns(node, net, clock.delays)
        if time > 0 and time + delay > budget:
            stage, time, last = stage + 1, 0.0, None
        done.append((stage, time + delay))
        before.append(last)
    built = reached(net)
    stages = tuple(stage for stage, _ in done)
    if all(net.nodes[place].kind in FREE for place in built):
        return Pipeline(stages, 0)
    end = max(sorted(built), key=lambda place: done[place][1])
    path, at = [end], before[end]
    while at is not None:
        path.append(at)
        at = before[at]
    path_ns = done[end][1] + clock.delays.overhead
    logic = tuple(f"n{at} {net.nodes[at].kind}" for at in reversed(path) if net.nodes[at].kind not in FREE)
    return Pipeline(stages, 1 + max(stages[place] for place in net.outputs), logic, path_ns)


def delay_ns(node: Node, net: Netlist, delays: Delays) -> float:
    """Return the modelled delay of a node."""
    bits = max([node.width, *(net.nodes[arg].width for arg in node.args)])
    levels, chains = LOGIC[node.kind]
    if node.kind in ("even", "any"):
        levels += node.data > 5
    return levels * delays.level + chains * (delays.chain + bits * delays.carry)
