"""Pipelining: which stage of a kernel computes each node, so that each stage fits the clock.

The delays are a model, not timing analysis: one look-up table and the wire to it, plus the carry chain of an adder.
Data sheets give 0.1 to 0.15 ns for the table and 0.02 to 0.03 ns per bit of carry (AMD DS181, DS923); the wire is the
larger part and known only after routing, so the model takes its usual size and leaves a fifth of the clock free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flow.backends.rtl.netlists.netlist import Netlist, Node

LEVEL_NS = 0.6
"""One look-up table and the wire to it."""
CARRY_NS = 0.025
"""One bit of a carry chain."""
OVERHEAD_NS = 0.4
"""A register's delay from clock to output, and its setup."""
USED = 0.8
"""Part of the clock period that the model may fill."""

FREE = ("input", "const", "shl", "shr", "wrap")
"""Wiring, which takes no logic."""
LOGIC: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(FREE, (0, 0)),
    **dict.fromkeys(("both", "any", "even", "mux", "table"), (1, 0)),
    **dict.fromkeys(("add", "sub", "less"), (1, 1)),
    "clamp": (2, 0),
    "max": (2, 1),
    "mul": (4, 2),
}
"""Kind of node -> look-up tables one behind another, and bits of carry chains per bit; `even` and `any` of more than 5
bits have one more."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages of a netlist: node -> the stage that computes it; a value is registered between two stages.

    Attributes:
        stages: per node, from 0.
        depth: clock cycles from input to output; 0 for a netlist that is only wires.
    """

    stages: tuple[int, ...]
    depth: int


def pipeline(net: Netlist, clock_period_ns: float) -> Pipeline:
    """Return the stages of a netlist for a clock: every node as early as its inputs and the clock allow."""
    budget = clock_period_ns * USED - OVERHEAD_NS
    done: list[tuple[int, float]] = []
    for node in net.nodes:
        stage, time = max((done[arg] for arg in node.args), default=(0, 0.0))
        delay = delay_ns(node, net)
        if time > 0 and time + delay > budget:
            stage, time = stage + 1, 0.0
        done.append((stage, time + delay))
    stages = tuple(stage for stage, _ in done)
    if all(net.nodes[place].kind in FREE for place in reached(net)):
        return Pipeline(stages, 0)
    return Pipeline(stages, 1 + max(stages[place] for place in net.outputs))


def delay_ns(node: Node, net: Netlist) -> float:
    """Return the modelled delay of a node."""
    bits = max([node.width, *(net.nodes[arg].width for arg in node.args)])
    levels, carries = LOGIC[node.kind]
    if node.kind in ("even", "any"):
        levels += node.data > 5
    return levels * LEVEL_NS + carries * bits * CARRY_NS


def reached(net: Netlist) -> set[int]:
    """Return the nodes that the outputs depend on."""
    reached, left = set[int](), list(net.outputs)
    while left:
        place = left.pop()
        if place not in reached:
            reached.add(place)
            left += net.nodes[place].args
    return reached
