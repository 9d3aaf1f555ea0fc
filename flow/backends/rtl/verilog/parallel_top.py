"""The top of an io_parallel project: one pipeline for the graph, which takes a sample, one beat, in every cycle.

All of it advances at once, unless a result at its end waits to be taken. Where ways of different length meet, the
shorter one waits in registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from flow.backends.rtl.netlists.needs import Needs, held
from flow.backends.rtl.verilog.op_modules import OpModule, tensor_bits
from flow.backends.rtl.verilog.ports import CLOCKED, axis_port, padded, top_module
from flow.backends.rtl.verilog.printer import assign, concat, declare, instance
from flow.ir.graph import Input, IntGraph


def pipeline_times(graph: IntGraph, modules: Mapping[str, OpModule]) -> tuple[dict[str, int], dict[str, int]]:
    """Return when each op starts on a sample, and when it has its result, in cycles after the sample entered."""
    starts: dict[str, int] = {}
    done: dict[str, int] = {}
    for op in graph.ops:
        starts[op.name] = max((done[name] for name in op.inputs), default=0)
        done[op.name] = starts[op.name] + (0 if isinstance(op, Input) else modules[op.name].depth)
    return starts, done


def parallel_timing(graph: IntGraph, modules: Mapping[str, OpModule]) -> tuple[int, int]:
    """Return latency and initiation interval in cycles."""
    return max(1, *pipeline_times(graph, modules)[1].values()), 1


def parallel_needs(graph: IntGraph, modules: Mapping[str, OpModule]) -> Needs:
    """Return what the top needs: its valid bits, and registers of the shorter ways."""
    starts, done = pipeline_times(graph, modules)
    depth = max(1, *done.values())
    delays = [(x, starts[op.name] - done[x.name]) for op in graph.ops for x in graph.sources(op)]
    delays += [(graph[name], depth - done[name]) for name in graph.outputs]
    parts = Counter(flip_flops=depth + len(graph.outputs) * (len(graph.outputs) > 1), stages=1)
    for x, late in delays:
        registers, shifts = held((late,))
        parts += Counter(flip_flops=tensor_bits(x) * registers, shift_registers=tensor_bits(x) * shifts)
    return Needs(parts=parts)


def parallel_top(graph: IntGraph, modules: Mapping[str, OpModule]) -> str:
    """Return the top module."""
    depth = max(1, *pipeline_times(graph, modules)[1].values())
    valid = {**CLOCKED, "ce": "advance", "x": "all_valid", "y": "holds"}
    body = (
        declare("advance", "all_valid")
        + declare("holds", width=depth)
        + instance("po2flow_valid", "stages", valid, parameters={"DEPTH": depth})
        + _ops(graph, modules)
        + _inputs(graph)
        + _outputs(graph, modules, depth)
    )
    return top_module(graph, {op.name: tensor_bits(op) for op in graph.ops}, body)


def _ops(graph: IntGraph, modules: Mapping[str, OpModule]) -> str:
    """Return the ops' wires, the ops, which stage of the pipeline has each result, and the delays between ops."""
    starts, done = pipeline_times(graph, modules)
    wires, ops, flags, delays = "", "", "", ""
    for op in graph.ops:
        name = op.name
        wires += declare(f"{name}_data", width=tensor_bits(op)) + declare(f"{name}_valid", f"{name}_ready")
        flags += assign(f"{name}_valid", f"holds[{done[name] - 1}]" if done[name] else "all_valid")
        flags += assign(f"{name}_ready", "advance")
        if isinstance(op, Input):
            continue
        inputs = []
        for number, x in enumerate(graph.sources(op)):
            late, delayed = starts[name] - done[x.name], f"{name}_x{number}_data"
            inputs.append(delayed if late else f"{x.name}_data")
            delays += _delay(tensor_bits(x), late, f"{x.name}_data", delayed)
        ports = {"clk": "aclk", "ce": "advance", "x": concat(inputs), "y": f"{name}_data"}
        ops += instance(modules[name].name, f"{name}_inst", ports)
    return wires + ops + flags + delays


def _inputs(graph: IntGraph) -> str:
    """Return how the inputs enter: all in the same cycle."""
    names = [axis_port(graph, op, "s") for op in graph.inputs]
    text = assign("all_valid", " & ".join(f"{name}_tvalid" for name in names))
    for op, name in zip(graph.inputs, names, strict=True):
        others = [f"{other}_tvalid" for other in names if other != name]
        text += assign(f"{name}_tready", " & ".join(["advance", *others]))
        text += assign(f"{op.name}_data", f"{name}_tdata[{tensor_bits(op) - 1}:0]")
    return text


def _outputs(graph: IntGraph, modules: Mapping[str, OpModule], depth: int) -> str:
    """Return how the outputs leave: each as its reader takes it, and the pipeline advances when all are taken."""
    outputs, count = [graph[name] for name in graph.outputs], len(graph.outputs)
    _, done = pipeline_times(graph, modules)
    ready = ", ".join(f"{axis_port(graph, op, 'm')}_tready" for op in reversed(outputs))
    text = declare("taken") + declare("leaves", width=count)
    text += instance(
        "po2flow_fork",
        "results",
        {**CLOCKED, "x_valid": f"holds[{depth - 1}]"},
        {"x_ready": "taken", "y_valid": "leaves", "y_ready": f"{{{ready}}}"},
        parameters={"COUNT": count},
    )
    text += assign("advance", f"taken | ~holds[{depth - 1}]")
    for number, op in enumerate(outputs):
        name, late = axis_port(graph, op, "m"), depth - done[op.name]
        text += _delay(tensor_bits(op), late, f"{op.name}_data", f"{name}_late")
        text += assign(f"{name}_tdata", padded(tensor_bits(op), f"{name}_late" if late else f"{op.name}_data"))
        text += assign(f"{name}_tvalid", f"leaves[{number}]") + assign(f"{name}_tlast", "1'b1")
    return text


def _delay(width: int, depth: int, x: str, y: str) -> str:
    if depth == 0:
        return ""
    ports, parameters = {"clk": "aclk", "ce": "advance", "x": x, "y": y}, {"WIDTH": width, "DEPTH": depth}
    return declare(y, width=width) + instance("po2flow_delay", f"{y}_delay", ports, parameters=parameters)
