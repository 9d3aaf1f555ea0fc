"""Verilog modules of ops: a pipeline over whole tensors, or a stage in a stream of pixels.

    whole    (clk, ce, x, y)                                   y follows x after `depth` cycles of ce
    stream   (clk, rst, x<i>_data, x<i>_valid, x<i>_ready, y_data, y_valid, y_ready)

`x` holds the inputs of the op one after another, the first one lowest; a tensor's first element is lowest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow.backends.rtl.netlists.footprint import Needs, footprint, used, window_needs
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import Pipeline, pipeline
from flow.backends.rtl.verilog.kernels import Kernel, kernel, kernels, uniform
from flow.backends.rtl.verilog.text import FOOTER, HEADER, literal, module
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Conv, Gather, IntGraph, MaxPool, Op, Pool, Reshape, Shape
from flow.ir.intervals import common_grid


@dataclass(frozen=True, slots=True)
class Module:
    """An op as Verilog.

    Attributes:
        name: the module's.
        texts: module name -> Verilog, this one and those it instantiates.
        depth: cycles from input to output of its pipeline.
        needs: what it is made of, for the estimate.
        by_pixel: in a stream: it gives a word for each word it takes, or for a window; else it collects frames.
    """

    name: str
    texts: dict[str, str]
    depth: int
    needs: Needs
    by_pixel: bool = True


def bits(op: Op) -> int:
    """Return the bits of a whole tensor."""
    return math.prod(op.shape) * op.format.width


def words(shape: Shape) -> int:
    """Return how many words a tensor takes in a stream: its pixels."""
    return math.prod(shape[:-1])


def word_bits(op: Op) -> int:
    """Return the bits of one word of an op's output."""
    return bits(op) // words(op.shape)


def whole_module(op: Op, graph: IntGraph, clock_period_ns: float, name: str) -> Module:
    """Return an op on whole tensors, every position at once."""
    sources, found = graph.sources(op), kernels(op, graph)
    pipes = _alike([pipeline(each.net, clock_period_ns) for each in found])
    depth, needs = pipes[0].depth, _whole_needs(op, found, pipes)
    if len(found) == 1 and _is_all(found[0], sum(math.prod(x.shape) for x in sources)):
        formats = [x.format for x in sources for _ in range(math.prod(x.shape))]
        return Module(name, {name: module(name, found[0].net, pipes[0], formats, op.format)}, depth, needs)
    texts, instances = {}, list[str]()
    offsets, widths = _elements(sources)
    for number, (each, pipe) in enumerate(zip(found, pipes, strict=True)):
        wires = depth == 0 and _only_shifts(each.net)
        inner = f"{name}_kernel{number if len(found) > 1 else ''}"
        formats = _formats(each, sources)
        if not wires:
            texts[inner] = module(inner, each.net, pipe, formats, op.format)
        size = len(each.net.outputs) * op.format.width
        for place, row in zip(each.places.tolist(), each.index.tolist(), strict=True):
            y = f"y[{place * size} +: {size}]"
            parts = [
                literal(each.fill, fmt.width) if i < 0 else f"x[{offsets[i]} +: {widths[i]}]"
                for i, fmt in zip(row, formats, strict=True)
            ]
            if wires:
                instances.append(f"    assign {y} = {_wire(each.net, parts, formats, op.format)};\n")
            else:
                x = f"{{{', '.join(reversed(parts))}}}"
                instances.append(f"    {inner} at_{place} (.clk(clk), .ce(ce), .x({x}), .y({y}));\n")
    total = sum(bits(x) for x in sources)
    texts[name] = (
        f"{HEADER}module {name} (\n    input wire clk,\n    input wire ce,\n    input wire [{total - 1}:0] x,\n"
        f"    output wire [{bits(op) - 1}:0] y\n);\n{''.join(instances)}endmodule\n{FOOTER}"
    )
    return Module(name, texts, depth, needs)


def _whole_needs(op: Op, found: Sequence[Kernel], pipes: Sequence[Pipeline]) -> Needs:
    each = (used(it.net, pipe, op.format.width, it.index, it.fill) for it, pipe in zip(found, pipes, strict=True))
    return Needs(parts=sum(each, Counter()))


def _alike(pipes: Sequence[Pipeline]) -> list[Pipeline]:
    depth = max(pipe.depth for pipe in pipes)
    return [Pipeline(pipe.stages, depth) for pipe in pipes]


def _is_all(found: Kernel, elements: int) -> bool:
    return np.array_equal(found.index, np.arange(elements)[None])


def _elements(sources: Sequence[Op]) -> tuple[list[int], list[int]]:
    """Return offset and width of every element of the inputs, one input after another."""
    widths = [x.format.width for x in sources for _ in range(math.prod(x.shape))]
    return np.cumsum([0, *widths])[:-1].tolist(), widths


def _formats(each: Kernel, sources: Sequence[Op]) -> list[FixedFormat]:
    """Return the format of each input of a kernel; one of only padding has the first input's."""
    ends = np.cumsum([math.prod(x.shape) for x in sources])
    largest = each.index.max(axis=0, initial=-1)
    return [sources[int(np.searchsorted(ends, max(i, 0), side="right"))].format for i in largest.tolist()]


def _only_shifts(net: Netlist) -> bool:
    return len(net.outputs) == 1 and all(node.kind in ("input", "const", "shl") for node in net.nodes)


def _wire(net: Netlist, parts: Sequence[str], formats: Sequence[FixedFormat], fmt: FixedFormat) -> str:
    """Return the one output of a netlist that only shifts and extends its one input, or is a constant."""
    node, shift = net.nodes[net.outputs[0]], 0
    while node.kind == "shl":
        shift, node = shift + node.data, net.nodes[node.args[0]]
    if node.kind == "const":
        return literal(node.low << shift, fmt.width)
    (part,), (x,) = parts, formats
    missing = fmt.width - x.width - shift
    below = f", {shift}'d0" if shift else ""
    if missing <= 0:
        return f"{{{part}{below}}}"
    start = int(part[part.index("[") + 1 :].split()[0])
    sign = f"{{{missing}{{x[{start + x.width - 1}]}}}}" if x.signed else f"{missing}'d0"
    return f"{{{sign}, {part}{below}}}"


def stream_module(op: Op, graph: IntGraph, clock_period_ns: float, name: str) -> Module:
    """Return an op in a stream of pixels. Ops without a streaming form collect whole frames."""
    sources = graph.sources(op)
    if isinstance(op, Reshape) and words(op.shape) == words(sources[0].shape):
        return _kernel_stage(op, sources, None, clock_period_ns, name)
    if is_window(op):
        assert isinstance(op, Conv | Pool)
        return _window_stage(op, sources[0], clock_period_ns, name)
    net = _pixel_net(op, sources)
    if net is None:
        return _frame_stage(op, graph, clock_period_ns, name)
    return _kernel_stage(op, sources, net, clock_period_ns, name)


def is_window(op: Op) -> bool:
    """Say whether an op of a stream stands behind a line buffer."""
    return isinstance(op, Conv | Pool) and uniform(op)


def _pixel_net(op: Op, sources: Sequence[Op]) -> Netlist | None:
    """Return the netlist of an op that computes each pixel from the pixels in the same place, or None."""
    if any(words(x.shape) != words(op.shape) for x in sources) or isinstance(op, Reshape | Pool | Conv):
        return None
    if not isinstance(op, Gather):
        return kernel(op, [x.format for x in sources]) if uniform(op) else None
    return _joined_channels(op, sources)


def _joined_channels(op: Gather, sources: Sequence[Op]) -> Netlist | None:
    """Return the netlist of a gather that only chooses among the channels of one place, or None."""
    starts = np.cumsum([0] + [math.prod(x.shape) for x in sources])
    firsts = np.cumsum([0] + [x.shape[-1] for x in sources])
    index = op.index.reshape(-1, op.shape[-1])
    chosen = np.full(index.shape, -1, np.int64)  # which channel of all inputs at this place
    position = np.arange(len(index))[:, None]
    for number, x in enumerate(sources):
        mine = (starts[number] <= index) & (index < starts[number + 1])
        channel = index - starts[number] - position * x.shape[-1]
        if ((channel < 0) | (channel >= x.shape[-1]))[mine].any():
            return None
        chosen[mine] = (channel + firsts[number])[mine]
    if (chosen != chosen[0]).any():
        return None
    frac_bits, _ = common_grid([x.format for x in sources])
    net = Netlist()
    raised = [
        net.shl(net.input(x.format.min_code, x.format.max_code), frac_bits - x.format.frac_bits)
        for x in sources
        for _ in range(x.shape[-1])
    ]
    net.outputs = [net.const(0) if i < 0 else net.shl(raised[i], op.format.frac_bits - frac_bits) for i in chosen[0]]
    return net


def _ports(op: Op, widths: Sequence[int]) -> str:
    """Return the ports of a stage in a stream; `widths` are those of a word of each input."""
    lines = ["input wire clk", "input wire rst"]
    for number, width in enumerate(widths):
        lines += [
            f"input wire [{width - 1}:0] x{number}_data",
            f"input wire x{number}_valid",
            f"output wire x{number}_ready",
        ]
    lines += [f"output wire [{word_bits(op) - 1}:0] y_data", "output wire y_valid", "input wire y_ready"]
    return "(\n    " + ",\n    ".join(lines) + "\n);\n"


def _concat(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{{{', '.join(reversed(names))}}}"


def _joined_inputs(count: int) -> str:
    """Return the wires by which all inputs pass at once: `x_data`, `x_valid`, taken by `x_ready`."""
    lines = ""
    for number in range(count):
        others = " & ".join(["x_ready", *(f"x{other}_valid" for other in range(count) if other != number)])
        lines += f"    assign x{number}_ready = {others};\n"
    return lines


def _advance(depth: int, valid: str) -> str:
    """Return the control of a pipeline behind `ce`: it advances unless a word waits at its end."""
    if depth == 0:
        return f"    assign y_valid = {valid};\n    wire ce = y_ready;\n"
    return (
        f"    wire [{depth - 1}:0] valid;\n    wire ce = y_ready | ~y_valid;\n"
        f"    assign y_valid = valid[{depth - 1}];\n"
        f"    po2flow_valid #(.DEPTH({depth})) stages (.clk(clk), .rst(rst), .ce(ce), .x({valid}), .y(valid));\n"
    )


def _kernel_stage(op: Op, sources: Sequence[Op], net: Netlist | None, clock_period_ns: float, name: str) -> Module:
    """Return a stage that computes each pixel by itself; without a netlist it passes them on."""
    widths = [word_bits(x) for x in sources]
    names = [f"x{number}" for number in range(len(sources))]
    texts, depth, needs, compute = (
        {},
        0,
        Needs(parts={}),
        f"    assign y_data = {_concat([f'{x}_data' for x in names])};\n",
    )
    if net is not None:
        inner, pipe = f"{name}_kernel", pipeline(net, clock_period_ns)
        formats = [x.format for x in sources for _ in range(x.shape[-1])]
        depth, texts[inner] = pipe.depth, module(inner, net, pipe, formats, op.format)
        needs = _stage_needs(op, net, pipe, 0)
        x = _concat([f"{x}_data" for x in names])
        compute = f"    {inner} kernel (.clk(clk), .ce(ce), .x({x}), .y(y_data));\n"
    valid = " & ".join(f"{x}_valid" for x in names)
    body = f"    wire x_ready = ce;\n{_joined_inputs(len(names))}{_advance(depth, valid)}{compute}"
    texts[name] = f"{HEADER}module {name} {_ports(op, widths)}{body}endmodule\n{FOOTER}"
    return Module(name, texts, depth, needs)


def _stage_needs(op: Op, net: Netlist, pipe: Pipeline, fill: int) -> Needs:
    """Return what the one use of a netlist in a stage needs, with the bits that say which words are valid."""
    index = np.arange(len(net.inputs), dtype=np.int64)[None]
    parts = used(net, pipe, op.format.width, index, fill) + Counter(flip_flops=pipe.depth, stages=1)
    return Needs(parts=parts)


def _window_stage(op: Conv | Pool, x: Op, clock_period_ns: float, name: str) -> Module:
    """Return a stage behind a line buffer: one pixel in per cycle, a pixel out wherever a window ends."""
    inner, net = f"{name}_kernel", kernel(op, [x.format])
    pipe = pipeline(net, clock_period_ns)
    settings = window_settings(op, x)
    parameters = ", ".join(f".{key}({value})" for key, value in settings.items())
    pixels = settings["KR"] * settings["KC"]
    fill = op.format.min_code if isinstance(op, MaxPool) else 0
    filled = f"{{{x.shape[-1]}{{{literal(fill, x.format.width)}}}}}"
    body = (
        f"    wire [{pixels * word_bits(x) - 1}:0] window;\n    wire window_valid;\n"
        f"    po2flow_window #({parameters}, .FILL({filled})) buffer (\n"
        "        .clk(clk), .rst(rst), .ce(ce), .x_data(x0_data), .x_valid(x0_valid), .x_ready(x0_ready),\n"
        "        .y_data(window), .y_valid(window_valid)\n    );\n"
        f"{_advance(pipe.depth, 'window_valid')}"
        f"    {inner} kernel (.clk(clk), .ce(ce), .x(window), .y(y_data));\n"
    )
    formats = [x.format] * (pixels * x.shape[-1])
    texts = {
        inner: module(inner, net, pipe, formats, op.format),
        name: f"{HEADER}module {name} {_ports(op, [word_bits(x)])}{body}endmodule\n{FOOTER}",
    }
    needs = _stage_needs(op, net, pipe, fill)
    window = window_needs(footprint(net, pipe, op.format.width, {}).waits, settings, x.shape[-1])
    return Module(name, texts, pipe.depth + 1, needs + window)


def window_settings(op: Conv | Pool, x: Op) -> dict[str, int]:
    """Return the parameters of `po2flow_window`; a sequence is one row."""
    missing = 2 - len(op.window)
    rows, cols = (1,) * missing + x.shape[:-1]
    kr, kc = (1,) * missing + op.window
    sr, sc = (1,) * missing + op.strides
    top, bottom, left, right = (0, 0) * missing + op.padding
    return {
        "WIDTH": word_bits(x),
        "ROWS": rows,
        "COLS": cols,
        "KR": kr,
        "KC": kc,
        "SR": sr,
        "SC": sc,
        "TOP": top,
        "LEFT": left,
        "PADDED_ROWS": top + rows + bottom,
        "PADDED_COLS": left + cols + right,
    }


def leading_padding(graph: IntGraph) -> int:
    """Return at most how many cycles the padding before the first pixels takes, after a reset."""
    at = [window_settings(op, graph.sources(op)[0]) for op in graph.ops if isinstance(op, Conv | Pool)]
    return sum(each["TOP"] * each["PADDED_COLS"] + each["LEFT"] for each in at)


def _frame_stage(op: Op, graph: IntGraph, clock_period_ns: float, name: str) -> Module:
    """Return a stage that collects whole frames, computes on them at once, and sends the result word by word."""
    sources = graph.sources(op)
    inner = whole_module(op, graph, clock_period_ns, f"{name}_whole")
    body = "    wire x_ready, f_valid, f_ready;\n"
    for number, x in enumerate(sources):
        body += (
            f"    wire [{bits(x) - 1}:0] frame{number};\n    wire frame{number}_valid;\n"
            f"    po2flow_collect #(.WIDTH({word_bits(x)}), .COUNT({words(x.shape)})) collect{number} (\n"
            f"        .clk(clk), .rst(rst), .x_data(x{number}_data), .x_valid(x{number}_valid), "
            f".x_ready(x{number}_ready),\n        .y_data(frame{number}), .y_valid(frame{number}_valid), "
            f".y_ready(x_ready{''.join(f' & frame{k}_valid' for k in range(len(sources)) if k != number)})\n    );\n"
        )
    frames = _concat([f"frame{number}" for number in range(len(sources))])
    valid = " & ".join(f"frame{number}_valid" for number in range(len(sources)))
    body += (
        f"    wire [{bits(op) - 1}:0] f_data;\n    assign x_ready = ce;\n"
        + _advance(inner.depth, valid).replace("y_valid", "f_valid").replace("y_ready", "f_ready")
        + f"    {inner.name} whole (.clk(clk), .ce(ce), .x({frames}), .y(f_data));\n"
    )
    if words(op.shape) == 1:
        body += "    assign y_data = f_data;\n    assign y_valid = f_valid;\n    assign f_ready = y_ready;\n"
    else:
        body += (
            f"    po2flow_serialize #(.WIDTH({word_bits(op)}), .COUNT({words(op.shape)})) serialize (\n"
            "        .clk(clk), .rst(rst), .x_data(f_data), .x_valid(f_valid), .x_ready(f_ready),\n"
            "        .y_data(y_data), .y_valid(y_valid), .y_ready(y_ready)\n    );\n"
        )
    text = f"{HEADER}module {name} {_ports(op, [word_bits(x) for x in sources])}{body}endmodule\n{FOOTER}"
    frame = Counter(flip_flops=sum(bits(x) for x in sources) + inner.depth, stages=len(sources))
    if words(op.shape) > 1:
        frame += Counter(flip_flops=bits(op), select=bits(op), stages=1)
    needs = inner.needs + Needs(parts=frame)
    return Module(name, {**inner.texts, name: text}, inner.depth, needs, by_pixel=False)
