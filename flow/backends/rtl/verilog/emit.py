"""IntGraph -> a Verilog project: one module per op, named after it, behind AXI-Stream ports.

With io_parallel a sample is one beat and the whole graph one pipeline, which accepts a sample per cycle; with io_stream
a pixel is one beat, and each op a stage of its own behind a line buffer, with FIFOs where branches part.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources

from flow.backends.rtl.netlists.footprint import Needs, fifo_needs, held
from flow.backends.rtl.verilog.depths import Edge, edge_depths, pipeline_times, stream_timing, whole_timing
from flow.backends.rtl.verilog.kernels import refusals
from flow.backends.rtl.verilog.modules import Module, bits, stream_module, whole_module, word_bits, words
from flow.backends.rtl.verilog.text import FOOTER, HEADER
from flow.errors import UnsupportedError
from flow.ir.graph import Input, IntGraph, Op
from flow.project import Project
from flow.target import Target

LIBRARY = "po2flow_stream.v"
DESIGN = "design.json"


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the Verilog project of a lowered graph.

    Raises:
        UnsupportedError: an op has no netlist, or two modules would have one name.
        ToolMissingError: alkaid is not installed.
    """
    for reason in refusals(graph):
        raise UnsupportedError(f"{graph.name}: {reason}")
    stream = target.io_type == "io_stream"
    make = stream_module if stream else whole_module
    modules = {
        op.name: make(op, graph, target.clock_period_ns, f"{graph.name}_{op.name}")
        for op in graph.ops
        if not isinstance(op, Input)
    }
    files = {f"rtl/{LIBRARY}": library()}
    top = _stream_top(graph, modules) if stream else _whole_top(graph, modules)
    for name, text in [(name, text) for each in modules.values() for name, text in each.texts.items()] + [
        (graph.name, top)
    ]:
        path = f"rtl/{name}.v"
        if path in files:
            raise UnsupportedError(f"two modules would be called '{name}'; rename a layer of the model")
        files[path] = text.encode()
    design = {
        "top": graph.name,
        "io_type": target.io_type,
        "clock_period_ns": target.clock_period_ns,
        "depths": {name: each.depth for name, each in modules.items()},
        "needs": {name: each.needs.to_json() for name, each in modules.items()},
        "top_needs": (stream_needs if stream else whole_needs)(graph, modules).to_json(),
        "timing": (stream_timing if stream else whole_timing)(graph, modules),
    }
    files[DESIGN] = (json.dumps(design, indent=1, sort_keys=True) + "\n").encode()
    return Project(graph.name, files)


def whole_needs(graph: IntGraph, modules: Mapping[str, Module]) -> Needs:
    """Return what the top of a pipeline needs: its valid bits, and what the shorter ways wait for."""
    starts, latencies = pipeline_times(graph, modules)
    depth = max(1, *latencies.values())
    delays = [(x, starts[op.name] - latencies[x.name]) for op in graph.ops for x in graph.sources(op)]
    delays += [(graph[name], depth - latencies[name]) for name in graph.outputs]
    parts = Counter(flip_flops=depth + len(graph.outputs) * (len(graph.outputs) > 1), stages=1)
    for x, late in delays:
        registers, shifts = held((late,))
        parts += Counter(flip_flops=bits(x) * registers, shift_registers=bits(x) * shifts)
    return Needs(parts=parts)


def stream_needs(graph: IntGraph, modules: Mapping[str, Module]) -> Needs:
    """Return what the top of a stream needs: its FIFOs, forks and counters."""
    needs = Needs(parts={})
    for op in graph.ops:
        if not isinstance(op, Input):
            needs += fifo_needs(word_bits(op), 2)
        readers = sum(other.inputs.count(op.name) for other in graph.ops) + graph.outputs.count(op.name)
        if readers > 1:
            needs += Needs(parts=Counter(flip_flops=readers, stages=1))
    for (name, _, _), depth in edge_depths(graph, modules).items():
        needs += fifo_needs(word_bits(graph[name]), depth)
    counters = sum((words(graph[name].shape) - 1).bit_length() for name in graph.outputs)
    return needs + Needs(parts=Counter(flip_flops=counters, control=counters))


def findings(project: Project, graph: IntGraph, target: Target) -> list[str]:
    """Return which files of a project are not what `emit` writes for the graph."""
    expected, found = emit(graph, target).files, project.files
    return [
        f"{path}: {'is not there' if path not in found else 'is not what this version writes for the graph'}"
        for path, text in sorted(expected.items())
        if found.get(path) != text
    ]


def library() -> bytes:
    """Return the Verilog that streams and pipelines share."""
    return (resources.files("flow.backends.rtl.verilog") / LIBRARY).read_bytes()


def port(graph: IntGraph, op: Op, side: str) -> str:
    """Return the prefix of the AXI-Stream port of an input (`side` "s") or an output ("m")."""
    alone = len(graph.inputs if side == "s" else graph.outputs) == 1
    return f"{side}_axis" if alone else f"{side}_axis_{op.name}"


def port_bits(op: Op, stream: bool) -> int:
    """Return the bits of an AXI-Stream port: whole bytes."""
    return -(-(word_bits(op) if stream else bits(op)) // 8) * 8


def _header(graph: IntGraph, stream: bool) -> str:
    ports = ["input wire aclk", "input wire aresetn"]
    outputs = [graph[name] for name in graph.outputs]
    for side, ops, ways in (("s", graph.inputs, ("input", "output")), ("m", outputs, ("output", "input"))):
        for op in ops:
            name = port(graph, op, side)
            there, back = ways
            ports += [
                f"{there} wire [{port_bits(op, stream) - 1}:0] {name}_tdata",
                f"{there} wire {name}_tvalid",
                f"{back} wire {name}_tready",
                f"{there} wire {name}_tlast",
            ]
    return f"{HEADER}module {graph.name} (\n    " + ",\n    ".join(ports) + "\n);\n"


def _wires(op: Op, width: int) -> str:
    return f"    wire [{width - 1}:0] {op.name}_data;\n    wire {op.name}_valid, {op.name}_ready;\n"


def _padded(width: int, name: str) -> str:
    """Return data widened to whole bytes with zeros."""
    missing = -width % 8
    return f"{{{missing}'d0, {name}}}" if missing else name


def _whole_top(graph: IntGraph, modules: dict[str, Module]) -> str:
    starts, latency = pipeline_times(graph, modules)
    body = "".join(_wires(op, bits(op)) for op in graph.ops)
    delays = ""
    inputs, outputs = graph.inputs, [graph[name] for name in graph.outputs]
    for op in graph.ops:
        if isinstance(op, Input):
            continue
        parts = []
        for number, x in enumerate(graph.sources(op)):
            late = starts[op.name] - latency[x.name]
            parts.append(f"{x.name}_data" if late == 0 else f"{op.name}_x{number}_data")
            delays += _delay(bits(x), late, f"{x.name}_data", f"{op.name}_x{number}_data")
        x_data = parts[0] if len(parts) == 1 else f"{{{', '.join(reversed(parts))}}}"
        body += (
            f"    {modules[op.name].name} {op.name}_inst (.clk(aclk), .ce(advance), .x({x_data}), "
            f".y({op.name}_data));\n"
        )
    depth = max(1, *latency.values())
    for op in graph.ops:
        at = latency[op.name]
        valid = "all_valid" if at == 0 else f"holds[{at - 1}]"
        body += f"    assign {op.name}_valid = {valid};\n    assign {op.name}_ready = advance;\n"
    body = (
        f"    wire advance, all_valid;\n    wire [{depth - 1}:0] holds;\n"
        f"    po2flow_valid #(.DEPTH({depth})) stages (.clk(aclk), .rst(~aresetn), .ce(advance), .x(all_valid), "
        ".y(holds));\n" + body + delays
    )
    names = [port(graph, op, "s") for op in inputs]
    body += f"    assign all_valid = {' & '.join(f'{name}_tvalid' for name in names)};\n"
    for op, name in zip(inputs, names, strict=True):
        others = [f" & {other}_tvalid" for other in names if other != name]
        body += f"    assign {name}_tready = advance{''.join(others)};\n"
        body += f"    assign {op.name}_data = {name}_tdata[{bits(op) - 1}:0];\n"
    count = len(outputs)
    ready = ", ".join(f"{port(graph, op, 'm')}_tready" for op in reversed(outputs))
    body += (
        f"    wire taken;\n    wire [{count - 1}:0] leaves;\n"
        f"    po2flow_fork #(.COUNT({count})) results (.clk(aclk), .rst(~aresetn), .x_valid(holds[{depth - 1}]),\n"
        f"        .x_ready(taken), .y_valid(leaves), .y_ready({{{ready}}}));\n"
        f"    assign advance = taken | ~holds[{depth - 1}];\n"
    )
    for number, op in enumerate(outputs):
        name, late = port(graph, op, "m"), depth - latency[op.name]
        source = f"{op.name}_data" if late == 0 else f"{name}_late"
        body += _delay(bits(op), late, f"{op.name}_data", f"{name}_late")
        body += (
            f"    assign {name}_tdata = {_padded(bits(op), source)};\n"
            f"    assign {name}_tvalid = leaves[{number}];\n    assign {name}_tlast = 1'b1;\n"
        )
    return f"{_header(graph, False)}{body}endmodule\n{FOOTER}"


def _delay(width: int, depth: int, x: str, y: str) -> str:
    if depth == 0:
        return ""
    return (
        f"    wire [{width - 1}:0] {y};\n    po2flow_delay #(.WIDTH({width}), .DEPTH({depth})) {y}_delay "
        f"(.clk(aclk), .ce(advance), .x({x}), .y({y}));\n"
    )


def _stream_top(graph: IntGraph, modules: dict[str, Module]) -> str:
    """Return the top of a stream: a FIFO of two words after each op, one of computed depth where ways part or meet."""
    body, outputs = "", [graph[name] for name in graph.outputs]
    depths = edge_depths(graph, modules)
    for op in graph.ops:
        body += _wires(op, word_bits(op))
    for op in graph.ops:
        if isinstance(op, Input):
            name = port(graph, op, "s")
            body += (
                f"    assign {op.name}_data = {name}_tdata[{word_bits(op) - 1}:0];\n"
                f"    assign {op.name}_valid = {name}_tvalid;\n    assign {name}_tready = {op.name}_ready;\n"
            )
        else:
            body += _stage(op, graph, modules[op.name])
        body += _readers(op, graph, depths)
    for op in outputs:
        name, count = port(graph, op, "m"), words(op.shape)
        body += f"    assign {name}_tdata = {_padded(word_bits(op), f'{op.name}_data')};\n"
        if count == 1:
            body += f"    assign {name}_tlast = 1'b1;\n"
            continue
        wide = max(1, (count - 1).bit_length())
        body += (
            f"    reg [{wide - 1}:0] {name}_word;\n    assign {name}_tlast = {name}_word == {count - 1};\n"
            f"    always @(posedge aclk)\n        if (~aresetn) {name}_word <= 0;\n"
            f"        else if ({name}_tvalid & {name}_tready) {name}_word <= {name}_tlast ? 0 : {name}_word + 1'b1;\n"
        )
    return f"{_header(graph, True)}{body}endmodule\n{FOOTER}"


def _stage(op: Op, graph: IntGraph, module: Module) -> str:
    ports = [".clk(aclk), .rst(~aresetn)"]
    for number, x in enumerate(op.inputs):
        branch = f"{x}_to_{op.name}_{number}"
        ports.append(
            f".x{number}_data({branch}_data), .x{number}_valid({branch}_valid), .x{number}_ready({branch}_ready)"
        )
    out = f"{op.name}_out"
    ports.append(f".y_data({out}_data), .y_valid({out}_valid), .y_ready({out}_ready)")
    width = word_bits(op)
    return (
        f"    wire [{width - 1}:0] {out}_data;\n    wire {out}_valid, {out}_ready;\n"
        f"    {module.name} {op.name}_inst (\n        "
        + ",\n        ".join(ports)
        + "\n    );\n"
        + _fifo(width, 2, out, op.name, f"{out}_fifo")
    )


def _fifo(width: int, depth: int, x: str, y: str, name: str) -> str:
    return (
        f"    po2flow_fifo #(.WIDTH({width}), .DEPTH({depth})) {name} (.clk(aclk), .rst(~aresetn),\n"
        f"        .x_data({x}_data), .x_valid({x}_valid), .x_ready({x}_ready),\n"
        f"        .y_data({y}_data), .y_valid({y}_valid), .y_ready({y}_ready));\n"
    )


def _readers(op: Op, graph: IntGraph, depths: dict[Edge, int]) -> str:
    """Return the wires from an op to all that read it: other ops and ports of the design."""
    branches: list[tuple[str, int]] = []
    text = ""
    for reader in graph.ops:
        for number, x in enumerate(reader.inputs):
            if x == op.name:
                name = f"{x}_to_{reader.name}_{number}"
                branches.append((name, depths.get((x, reader.name, number), 0)))
                text += f"    wire [{word_bits(op) - 1}:0] {name}_data;\n    wire {name}_valid, {name}_ready;\n"
    valid, ready = [], []
    for name, depth in branches:
        source = f"{name}_in" if depth else name
        if depth:
            text += f"    wire [{word_bits(op) - 1}:0] {source}_data;\n    wire {source}_valid, {source}_ready;\n"
            text += _fifo(word_bits(op), depth, source, name, f"{name}_fifo")
        text += f"    assign {source}_data = {op.name}_data;\n"
        valid.append(f"{source}_valid")
        ready.append(f"{source}_ready")
    for output in graph.outputs:
        if output == op.name:
            name = port(graph, op, "m")
            valid.append(f"{name}_tvalid")
            ready.append(f"{name}_tready")
    return text + _handshake(op.name, valid, ready)


def _handshake(name: str, valid: Sequence[str], ready: Sequence[str]) -> str:
    if not valid:
        return f"    assign {name}_ready = 1'b1;\n"
    if len(valid) == 1:
        return f"    assign {valid[0]} = {name}_valid;\n    assign {name}_ready = {ready[0]};\n"
    every = ", ".join(reversed(valid))
    return (
        f"    po2flow_fork #(.COUNT({len(valid)})) {name}_fork (.clk(aclk), .rst(~aresetn),\n"
        f"        .x_valid({name}_valid), .x_ready({name}_ready), .y_valid({{{every}}}),\n"
        f"        .y_ready({{{', '.join(reversed(ready))}}}));\n"
    )
