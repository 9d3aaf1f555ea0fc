"""IntGraph -> a Verilog project: one module per op, named after it, and a top that connects them to AXI-Stream ports.

With io_parallel the top is one pipeline for the whole graph, which takes a sample, one beat, in every cycle. All of it
advances at once, unless a result at its end waits to be taken. Where ways of different length meet, the shorter one
waits in registers.

With io_stream a pixel is one beat, and each op a stage of its own, with a FIFO of two words behind it. Where ways part
or meet, a branch has a further FIFO, whose depth is computed (`depths`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources

from flow.backends.rtl.netlists.needs import Needs, fifo_needs, held
from flow.backends.rtl.netlists.pipelining import DELAYS, Clock
from flow.backends.rtl.verilog.depths import Edge, edge_depths, op_timing, readers, stream_timing
from flow.backends.rtl.verilog.kernels import refusals
from flow.backends.rtl.verilog.op_modules import OpModule, tensor_bits, tensor_module, word_bits, words
from flow.backends.rtl.verilog.printer import (
    assign,
    concat,
    declare,
    declare_stream,
    instance,
    literal,
    module,
    port,
    stream,
)
from flow.backends.rtl.verilog.stages import stream_module
from flow.errors import UnsupportedError
from flow.ir.graph import Input, IntGraph, Op
from flow.ir.names import KEYWORDS
from flow.json_text import json_text
from flow.parts import find_device
from flow.project import Project
from flow.target import Target

LIBRARY = "po2flow_stream.v"
DESIGN = "design.json"
CLOCKED = {"clk": "aclk", "rst": "~aresetn"}
"""How clock and reset of the library's modules are connected in a top."""
OP_FIFO = 2
"""Words of the FIFO behind an op."""


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the Verilog project of a lowered graph.

    Raises:
        UnsupportedError: an op has no netlist, two modules would have one name, or one that of a keyword.
        ToolMissingError: alkaid is not installed.
    """
    for refusal in refusals(graph):
        raise refusal.at(model=graph.name)
    _, top, _, timing, timing_of = FORMS[target.io_type]
    modules = op_modules(graph, target)
    files = {f"rtl/{LIBRARY}": library()}
    texts = [item for module in modules.values() for item in module.texts.items()]
    for name, text in [*texts, (graph.name, top(graph, modules))]:
        path = f"rtl/{name}.v"
        if path in files and files[path] != text.encode():  # what several ops share is there once
            raise UnsupportedError(f"two modules would be called '{name}'", remedy="rename a layer of the model")
        if name in KEYWORDS:  # such as 'first_match', of a model and its op
            raise UnsupportedError(
                f"a module would be called '{name}', a keyword", remedy="rename a layer of the model"
            )
        files[path] = text.encode()
    design = {
        "top": graph.name,
        "io_type": target.io_type,
        "clock_period_ns": target.clock_period_ns,
        "depths": {name: module.depth for name, module in modules.items()},
        "timing": timing(graph, modules),
        "paths": {
            name: [round(module.longest.path_ns, 3), list(module.longest.path)]
            for name, module in modules.items()
            if module.longest is not None and module.longest.path
        },
        "op_timing": {name: timing_of(graph[name], graph, module) for name, module in modules.items()},
    }
    files[DESIGN] = (json_text(design, sort_keys=True) + "\n").encode()
    return Project(graph.name, files)


def op_modules(graph: IntGraph, target: Target) -> dict[str, OpModule]:
    """Return the module of each op that has one, by the op's name."""
    module_of = FORMS[target.io_type][0]
    clock = Clock(period_ns=target.clock_period_ns, delays=DELAYS[find_device(target.part).family])
    return {
        op.name: module_of(op, graph, clock, f"{graph.name}_{op.name}") for op in graph.ops if not isinstance(op, Input)
    }


def count_needs(graph: IntGraph, target: Target) -> tuple[dict[str, Needs], Needs]:
    """Return what the modules of ops need, by the op's name, and what the top needs beside them.

    This maps all logic (`netlists.footprint`), which takes about as long as `emit`, so only an estimate asks for it.
    """
    modules = op_modules(graph, target)
    return {name: module.needs() for name, module in modules.items()}, FORMS[target.io_type][2](graph, modules)


def library() -> bytes:
    """Return the Verilog that streams and pipelines share."""
    return (resources.files("flow.backends.rtl.verilog") / LIBRARY).read_bytes()


# ---------------------------------------------------------------------- the ports of a top


def axis_port(graph: IntGraph, op: Op, side: str) -> str:
    """Return the prefix of the port of an input (`side` "s") or an output ("m")."""
    alone = len(graph.inputs if side == "s" else graph.outputs) == 1
    return f"{side}_axis" if alone else f"{side}_axis_{op.name}"


def top_module(graph: IntGraph, beat_bits: dict[str, int], body: str) -> str:
    """Return the top module: its clock and reset, its AXI-Stream ports, and what stands between them.

    Args:
        beat_bits: op -> bits of one beat.
    """
    ports = [port("input", "aclk"), port("input", "aresetn")]
    outputs = [graph[name] for name in graph.outputs]
    for side, ops, there, back in (("s", graph.inputs, "input", "output"), ("m", outputs, "output", "input")):
        for op in ops:
            name = axis_port(graph, op, side)
            ports += [
                port(there, f"{name}_tdata", -(-beat_bits[op.name] // 8) * 8),
                port(there, f"{name}_tvalid"),
                port(back, f"{name}_tready"),
                port(there, f"{name}_tlast"),
            ]
    return module(graph.name, ports, body)


def padded(width: int, name: str) -> str:
    """Return data widened to whole bytes with zeros.

    Example:
        >>> padded(12, "y_data")
        "{4'd0, y_data}"
    """
    missing = -width % 8
    return f"{{{missing}'d0, {name}}}" if missing else name


# ---------------------------------------------------------------------- io_parallel


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


def parallel_op_timing(op: Op, graph: IntGraph, module: OpModule) -> tuple[int, int]:
    """Return latency and initiation interval in cycles of an op by itself."""
    return module.depth, 1


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
    valid = {**CLOCKED, "ce": "advance", "x": "enters", "y": "holds"}
    body = (
        declare("advance", "enters")
        + declare("holds", width=depth)
        + instance("po2flow_valid", "stages", valid, parameters={"DEPTH": depth})
        + _ops(graph, modules)
        + _sample_in(graph)
        + _sample_out(graph, modules, depth)
    )
    return top_module(graph, {op.name: tensor_bits(op) for op in graph.ops}, body)


def _ops(graph: IntGraph, modules: Mapping[str, OpModule]) -> str:
    """Return the ops' wires, the ops with the delays before them, and which stage of the pipeline has each result."""
    starts, done = pipeline_times(graph, modules)
    wires, ops, flags = "", "", ""
    for op in graph.ops:
        name = op.name
        wires += declare(f"{name}_data", width=tensor_bits(op)) + declare(f"{name}_valid", f"{name}_ready")
        flags += assign(f"{name}_valid", f"holds[{done[name] - 1}]" if done[name] else "enters")
        flags += assign(f"{name}_ready", "advance")
        if isinstance(op, Input):
            continue
        inputs = []
        for number, x in enumerate(graph.sources(op)):
            late, delayed = starts[name] - done[x.name], f"{name}__x{number}"
            inputs.append(delayed if late else f"{x.name}_data")
            ops += _delay(tensor_bits(x), late, f"{x.name}_data", delayed)
        ports = {"clk": "aclk", "ce": "advance", "x": concat(inputs), "y": f"{name}_data"}
        ops += instance(modules[name].name, f"{name}_inst", ports)
    return wires + ops + flags


def _sample_in(graph: IntGraph) -> str:
    """Return how the inputs enter: all in the same cycle."""
    names = [axis_port(graph, op, "s") for op in graph.inputs]
    text = assign("enters", " & ".join(f"{name}_tvalid" for name in names))
    for op, name in zip(graph.inputs, names, strict=True):
        others = [f"{other}_tvalid" for other in names if other != name]
        text += assign(f"{name}_tready", " & ".join(["advance", *others]))
        text += assign(f"{op.name}_data", f"{name}_tdata[{tensor_bits(op) - 1}:0]")
    return text


def _sample_out(graph: IntGraph, modules: Mapping[str, OpModule], depth: int) -> str:
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


# ---------------------------------------------------------------------- io_stream


def stream_needs(graph: IntGraph, modules: Mapping[str, OpModule]) -> Needs:
    """Return what the top needs: its FIFOs, forks and counters."""
    needs = Needs(parts={})
    for op in graph.ops:
        if not isinstance(op, Input):
            needs += fifo_needs(word_bits(op), OP_FIFO)
        if (count := readers(graph, op.name)) > 1:
            needs += Needs(parts=Counter(flip_flops=count, stages=1))
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
        body += _words_in(graph, op) if isinstance(op, Input) else _op_and_fifo(op, modules[op.name].name)
        body += _branches(op, graph, depths)
    for name in graph.outputs:
        body += _words_out(graph, graph[name])
    return top_module(graph, {op.name: word_bits(op) for op in graph.ops}, body)


def _words_in(graph: IntGraph, op: Op) -> str:
    name = axis_port(graph, op, "s")
    return (
        assign(f"{op.name}_data", f"{name}_tdata[{word_bits(op) - 1}:0]")
        + assign(f"{op.name}_valid", f"{name}_tvalid")
        + assign(f"{name}_tready", f"{op.name}_ready")
    )


def _op_and_fifo(op: Op, module: str) -> str:
    """Return the use of an op's module, and the FIFO behind it."""
    inputs = [stream(f"x{number}", _branch(x, op.name, number)) for number, x in enumerate(op.inputs)]
    out, width = f"{op.name}__out", word_bits(op)
    return (
        declare_stream(out, width)
        + instance(module, f"{op.name}_inst", CLOCKED, *inputs, stream("y", out), framed=True)
        + _fifo(width, OP_FIFO, out, op.name, f"{out}_fifo")
    )


def _branch(x: str, reader: str, number: int) -> str:
    """Return the name of the wires from an op to input `number` of one that reads it."""
    return f"{x}__{reader}__x{number}"


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
            taker = f"{name}__in"
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


def _words_out(graph: IntGraph, op: Op) -> str:
    """Return the data of an output's port, and the counter that says which word is the last of a sample."""
    name, count = axis_port(graph, op, "m"), words(op.shape)
    data = assign(f"{name}_tdata", padded(word_bits(op), f"{op.name}_data"))
    if count == 1:
        return data + assign(f"{name}_tlast", "1'b1")
    bits = (count - 1).bit_length()
    return (
        data
        + declare(f"{name}_word", width=bits, kind="reg")
        + assign(f"{name}_tlast", f"{name}_word == {literal(count - 1, bits)}")
        + f"    always @(posedge aclk)\n        if (~aresetn) {name}_word <= 0;\n"
        f"        else if ({name}_tvalid & {name}_tready) {name}_word <= {name}_tlast ? 0 : {name}_word + 1'b1;\n"
    )


FORMS = {
    "io_parallel": (tensor_module, parallel_top, parallel_needs, parallel_timing, parallel_op_timing),
    "io_stream": (stream_module, stream_top, stream_needs, stream_timing, op_timing),
}
"""By io_type: what makes an op's module of the op, its graph, the clock and a name; of a graph and its
ops' modules, the top module, what that needs beside them, latency and initiation interval in cycles; and these two of
an op, its graph and its module."""
