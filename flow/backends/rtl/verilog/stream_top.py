"""The top of an io_stream project: a stage per op, with a FIFO of two words behind each.

Where ways part or meet, a branch has a further FIFO, whose depth is computed (`depths`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from flow.backends.rtl.netlists.needs import Needs, fifo_needs
from flow.backends.rtl.verilog.depths import Edge, edge_depths
from flow.backends.rtl.verilog.op_modules import OpModule, word_bits, words
from flow.backends.rtl.verilog.ports import CLOCKED, axis_port, padded, top_module
from flow.backends.rtl.verilog.printer import assign, declare, declare_stream, instance, stream
from flow.ir.graph import Input, IntGraph, Op

OP_FIFO = 2
"""Words of the FIFO behind an op."""


def stream_needs(graph: IntGraph, modules: Mapping[str, OpModule]) -> Needs:
    """Return what the top needs: its FIFOs, forks and counters."""
    needs = Needs(parts={})
    for op in graph.ops:
        if not isinstance(op, Input):
            needs += fifo_needs(word_bits(op), OP_FIFO)
        readers = sum(other.inputs.count(op.name) for other in graph.ops) + graph.outputs.count(op.name)
        if readers > 1:
            needs += Needs(parts=Counter(flip_flops=readers, stages=1))
    for (name, _, _), depth in edge_depths(graph, modules).items():
        needs += fifo_needs(word_bits(graph[name]), depth)
    counters = sum((words(graph[name].shape) - 1).bit_length() for name in graph.outputs)
    return needs + Needs(parts=Counter(flip_flops=counters, control=counters))


def stream_top(graph: IntGraph, modules: Mapping[str, OpModule]) -> str:
    """Return the top module."""
    body, depths = "", edge_depths(graph, modules)
    for op in graph.ops:
        body += declare_stream(op.name, word_bits(op))
    for op in graph.ops:
        body += _input(graph, op) if isinstance(op, Input) else _stage(op, modules[op.name].name)
        body += _branches(op, graph, depths)
    for name in graph.outputs:
        body += _output(graph, graph[name])
    return top_module(graph, {op.name: word_bits(op) for op in graph.ops}, body)


def _input(graph: IntGraph, op: Op) -> str:
    name = axis_port(graph, op, "s")
    return (
        assign(f"{op.name}_data", f"{name}_tdata[{word_bits(op) - 1}:0]")
        + assign(f"{op.name}_valid", f"{name}_tvalid")
        + assign(f"{name}_tready", f"{op.name}_ready")
    )


def _stage(op: Op, module: str) -> str:
    """Return the use of an op's module, and the FIFO behind it."""
    inputs = [stream(f"x{number}", _branch(x, op.name, number)) for number, x in enumerate(op.inputs)]
    out, width = f"{op.name}_out", word_bits(op)
    return (
        declare_stream(out, width)
        + instance(module, f"{op.name}_inst", CLOCKED, *inputs, stream("y", out), framed=True)
        + _fifo(width, OP_FIFO, out, op.name, f"{out}_fifo")
    )


def _branch(x: str, reader: str, number: int) -> str:
    """Return the name of the wires from an op to input `number` of one that reads it."""
    return f"{x}_to_{reader}_{number}"


def _fifo(width: int, depth: int, x: str, y: str, name: str) -> str:
    parameters = {"WIDTH": width, "DEPTH": depth}
    return instance("po2flow_fifo", name, CLOCKED, stream("x", x), stream("y", y), parameters=parameters)


def _branches(op: Op, graph: IntGraph, depths: Mapping[Edge, int]) -> str:
    """Return the wires from an op to all that read it: other ops and ports of the design."""
    edges = [
        (op.name, reader.name, number) for reader in graph.ops for number, x in enumerate(reader.inputs) if x == op.name
    ]
    text = "".join(declare_stream(_branch(*edge), word_bits(op)) for edge in edges)
    takers = []
    for edge in edges:
        name = taker = _branch(*edge)
        if edge in depths:
            taker = f"{name}_in"
            text += declare_stream(taker, word_bits(op)) + _fifo(
                word_bits(op), depths[edge], taker, name, f"{name}_fifo"
            )
        text += assign(f"{taker}_data", f"{op.name}_data")
        takers.append(f"{taker}_")
    takers += [f"{axis_port(graph, op, 'm')}_t" for output in graph.outputs if output == op.name]
    return text + _handshake(op.name, [f"{taker}valid" for taker in takers], [f"{taker}ready" for taker in takers])


def _handshake(name: str, valid: Sequence[str], ready: Sequence[str]) -> str:
    """Return how the words of an op are taken: by nothing, by one reader, or by several, each in its time."""
    if not valid:
        return assign(f"{name}_ready", "1'b1")
    if len(valid) == 1:
        return assign(valid[0], f"{name}_valid") + assign(f"{name}_ready", ready[0])
    return instance(
        "po2flow_fork",
        f"{name}_fork",
        CLOCKED,
        {"x_valid": f"{name}_valid", "x_ready": f"{name}_ready", "y_valid": f"{{{', '.join(reversed(valid))}}}"},
        {"y_ready": f"{{{', '.join(reversed(ready))}}}"},
        parameters={"COUNT": len(valid)},
    )


def _output(graph: IntGraph, op: Op) -> str:
    """Return the data of an output's port, and the counter that says which word is the last of a sample."""
    name, count = axis_port(graph, op, "m"), words(op.shape)
    data = assign(f"{name}_tdata", padded(word_bits(op), f"{op.name}_data"))
    if count == 1:
        return data + assign(f"{name}_tlast", "1'b1")
    return (
        data
        + declare(f"{name}_word", width=max(1, (count - 1).bit_length()), kind="reg")
        + assign(f"{name}_tlast", f"{name}_word == {count - 1}")
        + f"    always @(posedge aclk)\n        if (~aresetn) {name}_word <= 0;\n"
        f"        else if ({name}_tvalid & {name}_tready) {name}_word <= {name}_tlast ? 0 : {name}_word + 1'b1;\n"
    )
