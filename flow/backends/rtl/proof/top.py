"""The wiring of the top module: whether each op reads the outputs of the ops that it should read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flow.backends.rtl.proof.circuit import Bits, Circuit, Instance
from flow.ir.graph import Input, IntGraph, Op


def check_top(graph: IntGraph, circuit: Circuit, stream: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Check that each op of the top module reads what it should.

    Returns:
        For each op but inputs: what is wrong, or ""; and by how many registers each of its inputs is delayed on its
        way from the output of the op it reads (0 in a stream).
    """
    behind = {
        bit: (instance, place)
        for instance in circuit.instances
        if instance.module in ("po2flow_delay", "po2flow_fifo")
        for place, bit in enumerate(instance.ports["y_data" if stream else "y"])
    }
    checked: dict[str, tuple[str, tuple[int, ...]]] = {}
    given: dict[str, Bits] = {}
    for op in graph.ops:
        if isinstance(op, Input):
            given[op.name] = circuit.ports[_port(graph, op, "s")][: _word(op, stream)]
            continue
        instance = next((one for one in circuit.instances if one.name == f"{op.name}_inst"), None)
        if instance is None or instance.module != f"{graph.name}_{op.name}":
            checked[op.name] = (f"'{graph.name}' has no instance '{op.name}_inst' of its module", ())
            given[op.name] = ()
            continue
        given[op.name] = instance.ports["y_data" if stream else "y"]
        checked[op.name] = _inputs_of(op, graph, instance, given, behind, stream)
    for name in graph.outputs:
        op = graph[name]
        port = circuit.ports[_port(graph, op, "m")]
        bits, _ = _traced(port[: _word(op, stream)], behind, stream)
        if bits != _traced(given[name], behind, stream)[0] and not isinstance(op, Input):
            checked[name] = (f"port '{_port(graph, op, 'm')}' does not carry it", checked[name][1])
    return checked


def _inputs_of(
    op: Op,
    graph: IntGraph,
    instance: Instance,
    given: Mapping[str, Bits],
    behind: Mapping[int, tuple[Instance, int]],
    stream: bool,
) -> tuple[str, tuple[int, ...]]:
    start, delays = 0, []
    for number, x in enumerate(graph.sources(op)):
        width = _word(x, stream)
        wires = instance.ports[f"x{number}_data"] if stream else instance.ports["x"][start : start + width]
        start += width
        bits, delay = _traced(wires, behind, stream)
        source, _ = _traced(given[x.name], behind, stream)
        if bits != source:
            return f"its input {number} is not the output of '{x.name}'", ()
        delays.append(delay)
    return "", tuple(delays)


def _traced(bits: Bits, behind: Mapping[int, tuple[Instance, int]], stream: bool) -> tuple[Bits, int]:
    """Return nets as they were before the FIFOs or delays that they come from, and how long these delay them."""
    delay = 0
    while bits and bits[0] in behind:
        instance = behind[bits[0]][0]
        if bits != instance.ports["y_data" if stream else "y"]:
            break
        bits = instance.ports["x_data" if stream else "x"]
        delay += 0 if stream else instance.parameters["DEPTH"]
    return bits, delay


def _port(graph: IntGraph, op: Op, side: str) -> str:
    alone = len(graph.inputs if side == "s" else graph.outputs) == 1
    return f"{side}_axis_tdata" if alone else f"{side}_axis_{op.name}_tdata"


def _word(op: Op, stream: bool) -> int:
    return math.prod(op.shape[-1:] if stream else op.shape) * op.format.width
