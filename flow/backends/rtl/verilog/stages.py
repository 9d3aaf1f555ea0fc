"""The Verilog of an op in a stream of pixels: `(clk, rst, x<i>_{data, valid, ready}, y_{data, valid, ready})`.

A stage computes each pixel by itself, or each window behind a line buffer, or else collects whole frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import resources
from typing import Any

import numpy as np

from flow.backends.rtl.netlists.footprint import Footprint, footprint
from flow.backends.rtl.netlists.needs import Needs, window_needs
from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.netlists.pipelining import Clock, Pipeline, pipeline
from flow.backends.rtl.verilog.kernels import OUTSIDE, PLACES, pixel_netlist, row_netlist
from flow.backends.rtl.verilog.netlist_module import netlist_module
from flow.backends.rtl.verilog.op_modules import OpModule, tensor_bits, tensor_module, word_bits, words
from flow.backends.rtl.verilog.printer import assign, concat, declare, instance, literal, repeated, stage, stream
from flow.ir import ops
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import common_grid

CLOCKED = {"clk": "clk", "rst": "rst"}
STATES = "po2flow_states"
"""The module that holds the states of a scan, in a file of its own: only projects with a scan have it."""


def stream_module(op: Op, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """Return an op in a stream of pixels. Ops without a streaming form collect whole frames."""
    return STAGES[type(op)](op, graph, clock, name)


def _advance(depth: int, valid: str, y: str = "y") -> str:
    """Return the control of a pipeline behind `ce`: it advances unless a word waits at its end, the stream `y`."""
    if depth == 0:
        return assign(f"{y}_valid", valid) + assign("ce", f"{y}_ready")
    ports = {**CLOCKED, "ce": "ce", "x": valid, "y": "valid"}
    return (
        declare("valid", width=depth)
        + assign("ce", f"{y}_ready | ~{y}_valid")
        + assign(f"{y}_valid", f"valid[{depth - 1}]")
        + instance("po2flow_valid", "stages", ports, parameters={"DEPTH": depth})
    )


def _compute(inner: str, name: str, x: str, y: str) -> str:
    """Return the use of a pipeline."""
    return instance(inner, name, {"clk": "clk", "ce": "ce", "x": x, "y": y})


def _kernel_needs(net: Netlist, pipe: Pipeline, width: int) -> Needs:
    """Return what the one use of a netlist in a stage needs."""
    return _stage_needs(footprint(net, pipe, width, {}), pipe)


def _stage_needs(kernel: Footprint, pipe: Pipeline) -> Needs:
    """Return what a kernel in a stage needs, with the bits that say which words are valid."""
    return Needs(parts=kernel.alone() + Counter(flip_flops=pipe.depth, stages=1))


def _pixel_stage(op: Op, sources: Sequence[Op], net: Netlist | None, clock: Clock, name: str) -> OpModule:
    """Return a stage that computes each pixel by itself; without a netlist it passes them on."""
    x = concat([f"x{i}_data" for i in range(len(sources))])
    valid = " & ".join(f"x{i}_valid" for i in range(len(sources)))
    texts, pipe, compute = dict[str, str](), None, assign("y_data", x)
    needs: Callable[[], Needs] = partial(Needs, parts={})
    if net is not None:
        inner, pipe = f"{name}_kernel", pipeline(net, clock)
        formats = [source.format for source in sources for _ in range(source.shape[-1])]
        texts[inner] = netlist_module(inner, net, pipe, formats, [op.format] * len(net.outputs))
        needs = partial(_kernel_needs, net, pipe, op.format.width)
        compute = _compute(inner, "kernel", x, "y_data")
    body = declare("ce") + declare("x_ready", value="ce")
    for i in range(len(sources)):  # all inputs pass at once
        others = [f"x{k}_valid" for k in range(len(sources)) if k != i]
        body += assign(f"x{i}_ready", " & ".join(["x_ready", *others]))
    depth = 0 if pipe is None else pipe.depth
    body += _advance(depth, valid) + compute
    return OpModule(
        name, {**texts, name: stage(name, [word_bits(x) for x in sources], word_bits(op), body)}, depth, needs, pipe
    )


def _pixels(op: Op, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    sources = graph.sources(op)
    return _pixel_stage(op, sources, pixel_netlist(op, sources), clock, name)


def _leaky_pixels(op: ops.LeakyRelu, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """With one slope per channel each pixel is computed alike; with others each position has a kernel of its own."""
    form = _pixels if math.prod(op.slope.codes.shape[:-1]) == 1 else _frames
    return form(op, graph, clock, name)


def _reshaped_pixels(op: ops.Reshape, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    sources = graph.sources(op)
    if words(op.shape) != words(sources[0].shape):
        return _frames(op, graph, clock, name)
    return _pixel_stage(op, sources, None, clock, name)


def _gathered_pixels(op: ops.Gather, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    sources = graph.sources(op)
    net = _joined_channels(op, sources)
    if net is None:
        return _frames(op, graph, clock, name)
    return _pixel_stage(op, sources, net, clock, name)


def _joined_channels(op: ops.Gather, sources: Sequence[Op]) -> Netlist | None:
    """Return the netlist of a gather that only chooses among the channels of one place, or None."""
    if any(words(x.shape) != words(op.shape) for x in sources):
        return None
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
    frac_bits = common_grid([x.format for x in sources])[0].frac_bits
    net = Netlist()
    raised = [
        net.shl(net.input(x.format.min_code, x.format.max_code), frac_bits - x.format.frac_bits)
        for x in sources
        for _ in range(x.shape[-1])
    ]
    net.outputs = [net.const(0) if i < 0 else net.shl(raised[i], op.format.frac_bits - frac_bits) for i in chosen[0]]
    return net


def _weighted_windows(op: ops.SumPool, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """With one weight each window is computed alike; with several each position has a kernel of its own."""
    form = _windows if (op.weight.codes == op.weight.codes.flat[0]).all() else _frames
    return form(op, graph, clock, name)


def _windows(op: ops.Conv | ops.Pool, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """Return a stage behind a line buffer: one pixel in per cycle, a pixel out wherever a window ends."""
    (x,) = graph.sources(op)
    inner, net = f"{name}_kernel", pixel_netlist(op, [x])
    pipe = pipeline(net, clock)
    settings = window_settings(op, x)
    pixels = settings["KR"] * settings["KC"]
    fill = PLACES[type(op)].fill(op)
    filled = repeated(literal(fill, x.format.width), x.shape[-1])
    buffer = instance(
        "po2flow_window",
        "line_buffer",
        {**CLOCKED, "ce": "ce", **stream("x", "x0")},
        {"y_data": "window", "y_valid": "window_valid"},
        framed=True,
        parameters={**settings, "FILL": filled},
    )
    wires = declare("ce", "window_valid") + declare("window", width=pixels * word_bits(x))
    body = wires + buffer + _advance(pipe.depth, "window_valid") + _compute(inner, "kernel", "window", "y_data")
    kernel_text = netlist_module(inner, net, pipe, [x.format] * (pixels * x.shape[-1]), [op.format] * len(net.outputs))

    def needs() -> Needs:
        kernel = footprint(net, pipe, op.format.width, {})
        return _stage_needs(kernel, pipe) + window_needs(kernel.waits, settings, x.shape[-1])

    return OpModule(
        name,
        {inner: kernel_text, name: stage(name, [word_bits(x)], word_bits(op), body)},
        pipe.depth + 1,
        needs,
        pipe,
        line_buffer=settings,
    )


def window_settings(op: ops.Conv | ops.Pool, x: Op) -> dict[str, int]:
    """Return the parameters of `po2flow_window`; a sequence is one row."""
    missing = 2 - len(op.window.size)
    rows, cols = (1,) * missing + x.shape[:-1]
    kr, kc = (1,) * missing + op.window.size
    sr, sc = (1,) * missing + op.window.strides
    (top, bottom), (left, right) = ((0, 0),) * missing + op.window.pads
    return {
        **{"WIDTH": word_bits(x), "ROWS": rows, "COLS": cols, "KR": kr, "KC": kc, "SR": sr, "SC": sc},
        **{"TOP": top, "LEFT": left, "PADDED_ROWS": top + rows + bottom, "PADDED_COLS": left + cols + right},
    }


def leading_padding(graph: IntGraph) -> int:
    """Return at most how many cycles the padding before the first pixels takes, after a reset."""
    cycles = 0
    for op in graph.ops:
        if not isinstance(op, OUTSIDE) and STAGES[type(op)] in (_windows, _weighted_windows):
            assert isinstance(op, ops.Conv | ops.Pool)
            settings = window_settings(op, graph.sources(op)[0])
            cycles += settings["TOP"] * settings["PADDED_COLS"] + settings["LEFT"]
    return cycles


def _frames(op: Op, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """Return a stage that collects whole frames, computes on them at once, and sends the result word by word."""
    sources, count = graph.sources(op), words(op.shape)
    inner = tensor_module(op, graph, clock, f"{name}_whole")
    valid = [f"frame{i}_valid" for i in range(len(sources))]
    body = declare("ce", "f_valid", "f_ready", *valid)
    for i, x in enumerate(sources):
        ready = " & ".join(["ce", *(other for other in valid if other != valid[i])])
        body += declare(f"frame{i}", width=tensor_bits(x))
        body += instance(
            "po2flow_collect",
            f"collect{i}",
            {**CLOCKED, **stream("x", f"x{i}")},
            {"y_data": f"frame{i}", "y_valid": valid[i], "y_ready": ready},
            framed=True,
            parameters={"WIDTH": word_bits(x), "COUNT": words(x.shape)},
        )
    frames = concat([f"frame{i}" for i in range(len(sources))])
    body += declare("f_data", width=tensor_bits(op))
    body += _advance(inner.depth, " & ".join(valid), "f") + _compute(inner.name, "whole", frames, "f_data")
    if count == 1:
        body += assign("y_data", "f_data") + assign("y_valid", "f_valid") + assign("f_ready", "y_ready")
    else:
        body += instance(
            "po2flow_serialize",
            "serialize",
            {**CLOCKED, **stream("x", "f")},
            stream("y", "y"),
            framed=True,
            parameters={"WIDTH": word_bits(op), "COUNT": count},
        )
    frame = Counter(flip_flops=sum(tensor_bits(x) for x in sources) + inner.depth, stages=len(sources))
    if count > 1:
        frame += Counter(flip_flops=tensor_bits(op), lut=tensor_bits(op), stages=1)
    texts = {**inner.texts, name: stage(name, [word_bits(x) for x in sources], word_bits(op), body)}
    return OpModule(name, texts, inner.depth, lambda: inner.needs() + Needs(parts=frame), inner.longest, by_pixel=False)


def _rows(op: ops.Scan, graph: IntGraph, clock: Clock, name: str) -> OpModule:
    """Return a stage whose kernel computes one row and the states for the next, which wait in registers.

    A row enters when none is in the kernel; the states are zero again behind the last row of a sequence.
    """
    (x,), body = graph.sources(op), body_of(op)
    inner, net = f"{name}_kernel", row_netlist(op)
    pipe = pipeline(net, clock)
    pipe = replace(pipe, depth=max(pipe.depth, 1))
    taken = [each.format for each in body.inputs for _ in range(math.prod(each.shape))]
    given = [body[each].format for each in op.returns for _ in range(math.prod(body[each].shape))]
    text = netlist_module(inner, net, pipe, taken, given)
    bits, y_bits = sum(tensor_bits(state) for state in body.inputs[1:]), tensor_bits(body[op.returns[0]])
    ports = {"clk": "clk", "ce": "ce", "x": concat(["x0_data", "states"]), "y": concat(["y_data", "following"])}
    lines = (
        declare("ce", "enters", "leaves")
        + declare("valid", width=pipe.depth)
        + declare("states", "following", width=bits)
        + assign("x0_ready", "ce & ~|valid")
        + assign("enters", "x0_valid & ~|valid")
        + assign("leaves", f"valid[{pipe.depth - 1}]")
        + assign("ce", "y_ready | ~y_valid")
        + instance(
            "po2flow_valid",
            "stages",
            {**CLOCKED, "ce": "ce", "x": "enters", "y": "valid"},
            parameters={"DEPTH": pipe.depth},
        )
        + instance(
            STATES,
            "held",
            {**CLOCKED, "ce": "ce", "leaves": "leaves", "sent": "y_valid", "x": "following", "y": "states"},
            parameters={"WIDTH": bits, "ROWS": op.rows, "EVERY": int(op.every_row)},
        )
        + instance(inner, "kernel", ports)
    )

    def needs() -> Needs:
        states = Needs(parts=Counter(flip_flops=bits + op.rows.bit_length()))
        return _kernel_needs(net, pipe, max(fmt.width for fmt in given)) + states

    held = (resources.files("flow.backends.rtl.verilog") / f"{STATES}.v").read_text()
    texts = {inner: text, STATES: held, name: stage(name, [word_bits(x)], y_bits, lines)}
    return OpModule(name, texts, pipe.depth, needs, pipe, row_cycles=pipe.depth + 1)


STAGES: Mapping[type[Op], Callable[[Any, IntGraph, Clock, str], OpModule]] = {
    **dict.fromkeys((ops.Dense, ops.BatchNorm, ops.Relu, ops.Requantize, ops.Merge, ops.Lookup, ops.Softmax), _pixels),
    **dict.fromkeys((ops.Conv, ops.MaxPool), _windows),
    ops.LeakyRelu: _leaky_pixels,
    ops.SumPool: _weighted_windows,
    ops.Reshape: _reshaped_pixels,
    ops.Gather: _gathered_pixels,
    ops.TruthTable: _frames,
    ops.Scan: _rows,
}
"""Type of op -> its stage, but for those `OUTSIDE`."""
