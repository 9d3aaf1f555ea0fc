"""Estimate resources and cycles of a graph on a target, from its weights, widths and the loops of the generated code.

A model, not a measurement. What one adder, shifter or memory takes stands in `cost.cost_rules`, with sources; which of
them each op has in `flow.cost.op_costs`; here is how ops follow each other. docs/estimates.md tells it as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from flow.cost.cost_rules import Cost, fifo_memory
from flow.cost.fifos import fifos
from flow.cost.op_costs import FREE, op_cost
from flow.ir.graph import IntGraph
from flow.parts import find_part
from flow.results import ResourceReport
from flow.target import Target


def estimate(graph: IntGraph, target: Target) -> ResourceReport:
    """Return the static estimate of `graph` on `target`, per op and in all, with the capacity of the part.

    Args:
        graph: after the passes; ops that were not fused are counted as they stand.
        target: back end, io_type, strategy, reuse factor, part and clock.

    Raises:
        SpecError: the part is not in the table of flow.parts.
        UnsupportedError: an accumulator would need more than 62 bits, or a stream is read by nothing.
    """
    part = find_part(target.part)
    costs = {op.name: op_cost(op, graph.sources(op), target, part) for op in graph if type(op) not in FREE}
    if target.io_type == "io_stream":
        costs = _with_fifos(costs, graph)
    return ResourceReport(
        source="static",
        tool="flow static model, see docs/estimates.md",
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        total=_total(costs, graph, target).resources(graph.name),
        layers=tuple(cost.resources(name) for name, cost in costs.items()),
        capacity=part.capacity(),
        error=_known_error(),
    )


@cache
def _known_error() -> Mapping[str, Any]:
    """Return how far the estimate is off on random modules, as benchmarks/fit_estimate.py measured it."""
    error: Mapping[str, Any] = json.loads((resources.files("flow.cost") / "estimation_error.json").read_text())
    return error


def _total(costs: Mapping[str, Cost], graph: IntGraph, target: Target) -> Cost:
    """Sum the counts; the slowest op sets the interval.

    Arrays (io_parallel) are handed on whole: latencies add up along the longest path. Streams overlap: the slowest op,
    and the pipelines of those before and behind it, since each begins with the first word of the one before.
    """
    counts = (name for name in Cost.__dataclass_fields__ if not name.endswith("_cycles"))
    total = Cost(**{name: sum(getattr(cost, name) for cost in costs.values()) for name in counts})
    if target.io_type == "io_stream":
        depths = {name: cost.depth for name, cost in costs.items()}
        through = _longest_paths(graph, depths)
        latency = max((cost.latency_cycles + through[name] - cost.depth for name, cost in costs.items()), default=0)
    else:
        latencies = {name: cost.latency_cycles for name, cost in costs.items()}
        latency = max(_longest_paths(graph, latencies).values(), default=0)
    interval = max((cost.initiation_interval_cycles for cost in costs.values()), default=0)
    return replace(total, latency_cycles=latency, initiation_interval_cycles=interval)


def _longest_paths(graph: IntGraph, cycles: Mapping[str, int]) -> dict[str, int]:
    """Return, per op, the cycles of all ops on the longest path through it; `cycles` leaves out the inputs."""
    until: dict[str, int] = {}
    for op in graph.ops:
        until[op.name] = cycles.get(op.name, 0) + max((until[name] for name in op.inputs), default=0)
    behind = dict.fromkeys(until, 0)
    for op in reversed(graph.ops):
        for name in op.inputs:
            behind[name] = max(behind[name], behind[op.name] + cycles[op.name])
    return {name: until[name] + behind[name] for name in cycles}


def _with_fifos(costs: Mapping[str, Cost], graph: IntGraph) -> dict[str, Cost]:
    """Add every FIFO to the op whose codes it carries, those of an input to the first op that reads it."""
    extended = dict(costs)
    for fifo in fifos(graph):
        name = fifo.op if fifo.op in extended else graph.readers(fifo.op)[0].name
        bram, luts = fifo_memory(fifo.word_bits, fifo.depth)
        cost = extended[name]
        extended[name] = replace(cost, bram_18k=cost.bram_18k + bram, memory_lut=cost.memory_lut + luts)
    return extended
