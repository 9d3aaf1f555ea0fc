"""The wiring of an op: which circuit computes which of its positions, and whether every wire goes where it must.

Wires are compared bit by bit, as Yosys parsed them, with the op's own index of its inputs. What happens over time -
handshakes, line buffers, frames collected word by word - is no wiring, and left to simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from flow.backends.rtl.proof.circuit import Bits, Circuit, Instance
from flow.backends.rtl.proof.claims import OpCircuit, Task
from flow.backends.rtl.proof.positions import OUTSIDE as OUTSIDE
from flow.backends.rtl.proof.positions import Key, input_formats, positions
from flow.ir import ops
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Op

LINE_BUFFER, FRAME_BUFFERS = "line buffer", "frame buffers"


class WiringError(Exception):
    """A wire of the Verilog goes elsewhere than the op's definition says."""


@dataclass(frozen=True, slots=True, eq=False)
class OpCircuits:
    """All that computes an op.

    Attributes:
        circuits: each circuit once, however often it is used.
        simulated: what beside handshakes is none of them: `LINE_BUFFER`, `FRAME_BUFFERS` or "".
    """

    circuits: Sequence[OpCircuit]
    simulated: str = ""


def op_circuits(op: Op, sources: Sequence[Op], modules: Mapping[str, Circuit], name: str, stream: bool) -> OpCircuits:
    """Return the circuits that compute an op, after a check of all wires between them.

    Args:
        op, sources: the op, and what it reads.
        modules: its module, and those that it instantiates, but for the stream library.
        name: of its module.
        stream: whether the project is one of io_stream.

    Raises:
        WiringError: a wire does not go where it must.
    """
    if not stream:
        return OpCircuits(_tensor_circuits(op, sources, modules, name))
    circuit, frames = modules[name], _find(modules[name], f"{name}_whole")
    if frames is None:
        return WIRINGS[type(op)](op, sources, circuit, modules)
    _check_frames(circuit, frames, len(sources))
    return OpCircuits(_tensor_circuits(op, sources, modules, frames.module), FRAME_BUFFERS)


def _same(given: Bits, expected: Bits, what: str) -> None:
    if given != expected:
        at = next((i for i, (a, b) in enumerate(zip(given, expected, strict=False)) if a != b), len(expected))
        raise WiringError(f"{what} is another wire at bit {at}")


def _find(circuit: Circuit, module: str) -> Instance | None:
    return next((instance for instance in circuit.instances if instance.module == module), None)


def _tensor_circuits(op: Op, sources: Sequence[Op], modules: Mapping[str, Circuit], name: str) -> list[OpCircuit]:
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
    kernels, direct = dict[tuple[str, Key], OpCircuit](), list[Task]()
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
            kernels[instance.module, key] = _kernel(modules[instance.module], own, key)
    own_wires = [OpCircuit(circuit, elements, formats, direct)] if direct else []
    return [*kernels.values(), *own_wires]


def _split(bits: Bits, formats: Sequence[FixedFormat]) -> list[Bits]:
    ends = np.cumsum([0, *(fmt.width for fmt in formats)]).tolist()
    return [bits[start:end] for start, end in pairwise(ends)]


def _inputs(row: Sequence[int], elements: Sequence[Bits], formats: Sequence[FixedFormat], fill: int) -> Bits:
    bits: list[int] = []
    for element, fmt in zip(row, formats, strict=True):
        bits += elements[element] if element >= 0 else [(fill >> place) & 1 for place in range(fmt.width)]
    return tuple(bits)


def _kernel(circuit: Circuit, formats: Sequence[FixedFormat], key: Key) -> OpCircuit:
    """Return a kernel, which computes one position from its inputs in order."""
    index = np.arange(len(formats), dtype=np.int64)
    elements = _split(circuit.ports["x"], formats)
    return OpCircuit(circuit, elements, formats, [Task(key, index, 0, circuit.ports["y"])])


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


def _alike(op: Op, sources: Sequence[Op], kernel: Circuit) -> OpCircuit:
    """Return a kernel that computes every position, all of which must be alike."""
    keys = set(positions(op, sources).keys)
    if len(keys) != 1:
        raise WiringError(f"'{kernel.name}' is one circuit for positions that differ")
    (key,) = keys
    return _kernel(kernel, input_formats(op, sources, key), key)


def _pixels(op: Op, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> OpCircuits:
    return OpCircuits([_alike(op, sources, _kernel_of(circuit, _words(circuit, sources), modules))])


def _windows(
    op: ops.Conv | ops.Pool, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]
) -> OpCircuits:
    buffer = _find(circuit, "po2flow_window")
    if buffer is None:
        raise WiringError(f"'{circuit.name}' has no line buffer")
    _same(buffer.ports["x_data"], _words(circuit, sources), "the input of the line buffer")
    kernel = _kernel_of(circuit, buffer.ports["y_data"], modules)
    _check_window(op, sources[0], positions(op, sources).fill, buffer)
    return OpCircuits([_alike(op, sources, kernel)], LINE_BUFFER)


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


def _passed_on(op: ops.Reshape, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> OpCircuits:
    _same(circuit.ports["y_data"], _words(circuit, sources), f"'{circuit.name}' passes on what it does not take")
    return OpCircuits([])


def _moved(op: ops.Gather, sources: Sequence[Op], circuit: Circuit, modules: Mapping[str, Circuit]) -> OpCircuits:
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
    return OpCircuits([OpCircuit(kernel, _split(kernel.ports["x"], formats), formats, tasks)])


WIRINGS: Mapping[type[Op], Callable[[Any, Sequence[Op], Circuit, Mapping[str, Circuit]], OpCircuits]] = {
    **dict.fromkeys(
        (ops.Dense, ops.BatchNorm, ops.Relu, ops.LeakyRelu, ops.Requantize, ops.Merge, ops.Lookup, ops.Softmax), _pixels
    ),
    **dict.fromkeys((ops.Conv, ops.MaxPool, ops.SumPool), _windows),
    ops.Reshape: _passed_on,
    ops.Gather: _moved,
}
"""Type of op -> what computes it in a stream, unless its stage collects frames; but for those `OUTSIDE`."""
