"""The wiring of an op and of the top: which circuit computes which position, and whether every wire goes where it must.

Wires are compared bit by bit, as Yosys parsed them, with the op's own index of its inputs. What happens over time -
handshakes, line buffers, frames collected word by word - is no wiring, and left to simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from flow.backends.rtl.proof.circuit import Bits, Circuit, Instance
from flow.backends.rtl.proof.claims import Claim, Task
from flow.backends.rtl.proof.definition import OUTSIDE as OUTSIDE
from flow.backends.rtl.proof.definition import Key, input_formats, positions
from flow.ir import ops
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Input, IntGraph, Op, body_of

Computed = tuple[Sequence[Claim], str]
LINE_BUFFER, FRAME_BUFFERS, STATES = "line buffer", "frame buffers", "states"


class WiringError(Exception):
    """A wire of the Verilog goes elsewhere than the op's definition says."""


def op_circuits(op: Op, sources: Sequence[Op], modules: Mapping[str, Circuit], name: str, stream: bool) -> Computed:
    """Return the circuits that compute an op, after a check of all wires between them.

    Args:
        modules: its module, and those that it instantiates, but for the stream library.
        name: of its module.
        stream: whether the project is one of io_stream.

    Returns:
        Each circuit once, however often it is used; and what beside handshakes is none of them: `LINE_BUFFER`,
        `FRAME_BUFFERS`, `STATES` or "".

    Raises:
        WiringError: a wire does not go where it must.
    """
    if not stream:
        return _tensor_circuits(op, sources, modules, name), ""
    circuit, frames = modules[name], _find(modules[name], f"{name}_whole")
    if frames is None:
        return WIRINGS[type(op)](op, sources, circuit, modules)
    _check_frames(circuit, frames, len(sources))
    return _tensor_circuits(op, sources, modules, frames.module), FRAME_BUFFERS


def _same(given: Bits, expected: Bits, what: str) -> None:
    if given != expected:
        at = next((i for i, (a, b) in enumerate(zip(given, expected, strict=False)) if a != b), len(expected))
        raise WiringError(f"{what} is another wire at bit {at}")


def _find(circuit: Circuit, module: str) -> Instance | None:
    return next((instance for instance in circuit.instances if instance.module == module), None)


def _tensor_circuits(op: Op, sources: Sequence[Op], modules: Mapping[str, Circuit], name: str) -> list[Claim]:
    """Return what computes an op from whole tensors: kernels, and wires and cells of its own module."""
    circuit, where = modules[name], positions(op, sources)
    formats = [x.format for x in sources for _ in range(math.prod(x.shape))]
    x, y = circuit.ports["x"], circuit.ports["y"]
    elements, size = _split(x, formats), where.channels * op.format.width
    if len(y) != size * len(where.keys) or len(x) != sum(fmt.width for fmt in formats):
        raise WiringError(f"'{name}' has ports of {len(x)} and {len(y)} bits")
    driven = {bit: instance for instance in circuit.instances for bit in instance.ports["y"]}
    if len(driven) < sum(len(instance.ports["y"]) for instance in circuit.instances):
        raise WiringError(f"'{name}' has a wire that two modules drive")
    kernels, direct = dict[tuple[str, Key], Claim](), list[Task]()
    for place, key in enumerate(where.keys):
        bits = y[place * size : (place + 1) * size]
        instance = driven.get(bits[0])
        if instance is None:
            direct.append(Task(key, where.index[place], where.fill, bits))
            continue
        own = input_formats(op, sources, key)
        expected = _inputs(where.index[place].tolist(), elements, own, where.fill)
        _same(instance.ports["x"], expected, f"the input of '{instance.module}' at position {place}")
        _same(instance.ports["y"], bits, f"the output of '{instance.module}' at position {place}")
        for wire in ("clk", "ce"):
            _same(instance.ports[wire], circuit.ports[wire], f"{wire} of '{instance.module}' at position {place}")
        if (instance.module, key) not in kernels:
            kernels[instance.module, key] = _kernel(modules[instance.module], op, sources, key)
    own_wires = [Claim(circuit, elements, formats, direct, op, sources)] if direct else []
    return [*kernels.values(), *own_wires]


def _split(bits: Bits, formats: Sequence[FixedFormat]) -> list[Bits]:
    ends = np.cumsum([0, *(fmt.width for fmt in formats)]).tolist()
    return [bits[start:end] for start, end in pairwise(ends)]


def _inputs(row: Sequence[int], elements: Sequence[Bits], formats: Sequence[FixedFormat], fill: int) -> Bits:
    bits: list[int] = []
    for element, fmt in zip(row, formats, strict=True):
        bits += elements[element] if element >= 0 else [(fill >> place) & 1 for place in range(fmt.width)]
    return tuple(bits)


def _kernel(circuit: Circuit, op: Op, sources: Sequence[Op], key: Key) -> Claim:
    """Return a kernel, which computes one position from its inputs in order."""
    formats = input_formats(op, sources, key)
    index = np.arange(len(formats), dtype=np.int64)
    elements = _split(circuit.ports["x"], formats)
    return Claim(circuit, elements, formats, [Task(key, index, 0, circuit.ports["y"])], op, sources)


def _check_frames(circuit: Circuit, frames: Instance, inputs: int) -> None:
    collected: Bits = ()
    for number in range(inputs):
        collect = next((one for one in circuit.instances if one.name == f"collect{number}"), None)
        if collect is None:
            raise WiringError(f"'{circuit.name}' does not collect its input {number}")
        _same(collect.ports["x_data"], circuit.ports[f"x{number}_data"], f"what 'collect{number}' takes")
        collected += collect.ports["y_data"]
    _same(frames.ports["x"], collected, f"the input of '{frames.module}'")
    serialize, y = _find(circuit, "po2flow_serialize"), frames.ports["y"]
    if serialize is not None:
        _same(serialize.ports["x_data"], y, "what 'serialize' takes")
        y = serialize.ports["y_data"]
    _same(y, circuit.ports["y_data"], f"the output of '{circuit.name}'")


# ---------------------------------------------------------------------- stages of a stream


def _words(circuit: Circuit, sources: Sequence[Op]) -> Bits:
    """Return the words that a stage takes, one input after another."""
    return tuple(bit for number in range(len(sources)) for bit in circuit.ports[f"x{number}_data"])


def _kernel_of(circuit: Circuit, x: Bits, modules: Mapping[str, Circuit]) -> Circuit:
    """Return the kernel of a stage, which reads `x` and gives the words of the stage."""
    kernel = _find(circuit, f"{circuit.name}_kernel")
    if kernel is None:
        raise WiringError(f"'{circuit.name}' has no kernel")
    _same(kernel.ports["y"], circuit.ports["y_data"], f"the output of '{kernel.module}'")
    _same(kernel.ports["x"], x, f"the input of '{kernel.module}'")
    _same(kernel.ports["clk"], circuit.ports["clk"], f"the clock of '{kernel.module}'")
    return modules[kernel.module]


def _alike(op: Op, sources: Sequence[Op], kernel: Circuit) -> Claim:
    """Return a kernel that computes every position, all of which must be alike."""
    keys = set(positions(op, sources).keys)
    if len(keys) != 1:
        raise WiringError(f"'{kernel.name}' is one circuit for positions that differ")
    (key,) = keys
    return _kernel(kernel, op, sources, key)


def _pixels(op: Op, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> Computed:
    return [_alike(op, sources, _kernel_of(circuit, _words(circuit, sources), modules))], ""


def _windows(
    op: ops.Conv | ops.Pool, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]
) -> Computed:
    buffer = _find(circuit, "po2flow_window")
    if buffer is None:
        raise WiringError(f"'{circuit.name}' has no line buffer")
    _same(buffer.ports["x_data"], _words(circuit, sources), "the input of the line buffer")
    kernel = _kernel_of(circuit, buffer.ports["y_data"], modules)
    _check_window(op, sources[0], positions(op, sources).fill, buffer)
    return [_alike(op, sources, kernel)], LINE_BUFFER


def _check_window(op: ops.Conv | ops.Pool, x: Op, fill: int, buffer: Instance) -> None:
    """Check the parameters of a line buffer: sizes, strides, padding."""
    missing = 2 - len(op.window.size)
    rows, cols = (1,) * missing + x.shape[:-1]
    (top, bottom), (left, right) = ((0, 0),) * missing + op.window.pads
    channels, width = x.shape[-1], x.format.width
    code = fill & ((1 << width) - 1)
    expected = {
        "WIDTH": channels * width,
        **dict(zip(("ROWS", "COLS", "KR", "KC"), (rows, cols, *(1,) * missing, *op.window.size), strict=True)),
        **dict(zip(("SR", "SC"), ((1,) * missing + op.window.strides), strict=True)),
        **{"TOP": top, "LEFT": left, "PADDED_ROWS": top + rows + bottom, "PADDED_COLS": left + cols + right},
        "FILL": sum(code << (width * channel) for channel in range(channels)),
    }
    for name, value in expected.items():
        if buffer.parameters.get(name) != value:
            raise WiringError(f"the line buffer's {name} is {buffer.parameters.get(name)}, not {value}")


def _passed_on(op: ops.Reshape, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> Computed:
    _same(circuit.ports["y_data"], _words(circuit, sources), f"'{circuit.name}' passes on what it does not take")
    return [], ""


def _moved(op: ops.Gather, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> Computed:
    """Every pixel is made of the same channels of the pixels in the same place."""
    kernel = _kernel_of(circuit, _words(circuit, sources), modules)
    where, channels = positions(op, sources), op.shape[-1]
    starts = np.cumsum([0, *(math.prod(x.shape) for x in sources)])
    firsts = np.cumsum([0, *(x.shape[-1] for x in sources)])
    local = np.full(len(where.keys), -1, np.int64)
    for place, ((source, *_), code) in enumerate(zip(where.keys, where.index[:, 0].tolist(), strict=True)):
        if source >= 0:
            pixel, channel = divmod(code - int(starts[source]), sources[source].shape[-1])
            if pixel != place // channels:
                raise WiringError(f"'{kernel.name}' computes pixel {place // channels} from pixel {pixel}")
            local[place] = channel + firsts[source]
    rows = local.reshape(-1, channels)
    if (rows != rows[0]).any():
        raise WiringError(f"'{kernel.name}' is one circuit for pixels that differ")
    formats = [x.format for x in sources for _ in range(x.shape[-1])]
    width, y = op.format.width, kernel.ports["y"]
    tasks = [
        Task(where.keys[channel], rows[0, channel : channel + 1], 0, y[channel * width : (channel + 1) * width])
        for channel in range(channels)
    ]
    return [Claim(kernel, _split(kernel.ports["x"], formats), formats, tasks, op, sources)], ""


def _whole_frames(op: Op, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> Computed:
    raise WiringError(f"'{circuit.name}' does not collect the whole of what it reads")


def _rows(op: ops.Scan, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> Computed:
    """Return that the kernel gives a row and each state for the next, of any row and any states before it."""
    kernel, body = _find(circuit, f"{circuit.name}_kernel"), body_of(op)
    if kernel is None:
        raise WiringError(f"'{circuit.name}' has no kernel")
    taken, given = _words(circuit, sources), circuit.ports["y_data"]
    _same(kernel.ports["x"][: len(taken)], taken, f"the row that '{kernel.module}' reads")
    _same(kernel.ports["y"][: len(given)], given, f"the output of '{kernel.module}'")
    _same(kernel.ports["clk"], circuit.ports["clk"], f"the clock of '{kernel.module}'")
    held = _find(circuit, "po2flow_states")
    expected = {"WIDTH": len(kernel.ports["x"]) - len(taken), "ROWS": op.rows, "EVERY": int(op.every_row)}
    if held is None or held.parameters != expected:
        raise WiringError(f"'{circuit.name}' does not hold its states for {op.rows} rows")
    _same(held.ports["sent"], circuit.ports["y_valid"], "which rows are sent on")
    _same(held.ports["x"], kernel.ports["y"][len(given) :], "what the states become")
    _same(kernel.ports["x"][len(taken) :], held.ports["y"], f"the states that '{kernel.module}' reads")
    inner, start, claims = modules[kernel.module], 0, []
    formats = input_formats(op, body.inputs, ())
    elements, index = _split(inner.ports["x"], formats), np.arange(len(formats), dtype=np.int64)
    for name in op.returns:
        own = body[name]
        one = replace(op, rows=1, shape=own.shape, cast=own.cast, returns=(name, *op.returns[1:]))
        bits = math.prod(own.shape) * own.format.width
        task = Task((), index, 0, inner.ports["y"][start : start + bits])
        claims.append(Claim(inner, elements, formats, [task], one, body.inputs))
        start += bits
    return claims, STATES


WIRINGS: Mapping[type[Op], Callable[[Any, Sequence[Op], Circuit, Mapping[str, Circuit]], Computed]] = {
    **dict.fromkeys(
        (ops.Dense, ops.BatchNorm, ops.Relu, ops.LeakyRelu, ops.Requantize, ops.Merge, ops.Lookup, ops.Softmax), _pixels
    ),
    **dict.fromkeys((ops.Conv, ops.MaxPool, ops.SumPool), _windows),
    ops.Reshape: _passed_on,
    ops.Gather: _moved,
    ops.TruthTable: _whole_frames,
    ops.Scan: _rows,
}
"""Type of op -> what computes it in a stream, unless its stage collects frames; but for those `OUTSIDE`."""


# ---------------------------------------------------------------------- the top


def check_top(graph: IntGraph, circuit: Circuit, stream: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Check that each op of the top module reads what it should.

    Returns:
        For each op but inputs: what is wrong, or ""; and by how many registers each of its inputs is delayed on its
        way from the output of the op it reads (0 in a stream).
    """
    x_port, y_port = ("x_data", "y_data") if stream else ("x", "y")
    queues = [instance for instance in circuit.instances if instance.module in ("po2flow_delay", "po2flow_fifo")]
    behind = {bit: instance for instance in queues for bit in instance.ports[y_port]}

    def traced(bits: Bits) -> tuple[Bits, int]:
        """Return nets as they were before the FIFOs or delays that they come from, and how long these delay them."""
        delay = 0
        while bits and bits[0] in behind and bits == behind[bits[0]].ports[y_port]:
            queue = behind[bits[0]]
            bits, delay = queue.ports[x_port], delay + (0 if stream else queue.parameters["DEPTH"])
        return bits, delay

    def inputs_of(op: Op, instance: Instance) -> tuple[str, tuple[int, ...]]:
        start, delays = 0, []
        for number, x in enumerate(graph.sources(op)):
            width = _word(x, stream)
            wires = instance.ports[f"x{number}_data"] if stream else instance.ports["x"][start : start + width]
            start += width
            bits, delay = traced(wires)
            if bits != traced(given[x.name])[0]:
                return f"its input {number} is not the output of '{x.name}'", ()
            delays.append(delay)
        return "", tuple(delays)

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
        given[op.name] = instance.ports[y_port]
        checked[op.name] = inputs_of(op, instance)
    for name in graph.outputs:
        op = graph[name]
        bits, _ = traced(circuit.ports[_port(graph, op, "m")][: _word(op, stream)])
        if bits != traced(given[name])[0] and not isinstance(op, Input):
            checked[name] = (f"port '{_port(graph, op, 'm')}' does not carry it", checked[name][1])
    return checked


def _port(graph: IntGraph, op: Op, side: str) -> str:
    alone = len(graph.inputs if side == "s" else graph.outputs) == 1
    return f"{side}_axis_tdata" if alone else f"{side}_axis_{op.name}_tdata"


def _word(op: Op, stream: bool) -> int:
    return math.prod(op.shape[-1:] if stream else op.shape) * op.format.width
