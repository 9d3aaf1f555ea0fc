"""Which layer reads what: the ops, and between them what a project needs to carry their codes.

io_parallel: arrays are read as often as one likes; a reshape is another name. io_stream: the kernels of
`flow.cost.streams`, without the zeros around convolutions where those of a back end add them. A port is never read
inside the project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.layers import AXES, PADS, layer_of
from flow.cost.streams import Kernel, Kind, streams, unused
from flow.ir.graph import Conv, Input, IntGraph, Reshape
from flow.ir.windows import Shape
from flow.target import Target


@dataclass(frozen=True, slots=True)
class Wiring:
    """Layers for hls4ml, in order, and the names of the outputs of layers that are the project's ports."""

    layers: tuple[dict[str, Any], ...]
    ports: tuple[str, ...]


def wire(graph: IntGraph, target: Target) -> Wiring:
    """Return the layers of a project.

    Raises:
        UnsupportedError: an op has no form in this back end; a stream is read by nothing.
    """
    if target.io_type == "io_parallel" or not DIALECTS[target.backend].extended:
        return _arrays(graph, target)
    network, same = streams(graph), {}
    if DIALECTS[target.backend].pads_streams:
        same = {kernel.name: kernel.reads[0] for kernel in network.kernels if kernel.kind is Kind.PAD}
    kernels = [kernel for kernel in network.kernels if kernel.name not in same]
    reading = [replace(kernel, reads=tuple(same.get(name, name) for name in kernel.reads)) for kernel in kernels]
    return Wiring(tuple(_streamed(kernel, graph, target) for kernel in reading), network.ports)


def _arrays(graph: IntGraph, target: Target) -> Wiring:
    layers = [layer_of(op, graph, target, op.inputs) for op in graph.ops]
    read = {name for op in graph.ops for name in op.inputs}
    taken = {op.name for op in graph.ops}
    ports: list[str] = []
    for name in graph.outputs:
        op, port = graph[name], name
        if name in read or name in ports or isinstance(op, Input | Reshape):
            port = unused(f"{name}_port", taken)
            taken.add(port)
            layers.append(_copy(port, [name], op.shape))
        ports.append(port)
    return Wiring(tuple(layers), tuple(ports))


def _streamed(kernel: Kernel, graph: IntGraph, target: Target) -> dict[str, Any]:
    """Return a kernel as a layer."""
    return {"name": kernel.name, "inputs": list(kernel.reads), **STREAMED[kernel.kind](kernel, graph, target)}


def _op(kernel: Kernel, graph: IntGraph, target: Target) -> dict[str, Any]:
    return layer_of(kernel.op, graph, target, kernel.reads)


def _copy(name: str, inputs: Sequence[str], shape: Shape) -> dict[str, Any]:
    """Return the layer that makes the same codes once more, in words of the last axis of `shape`."""
    return {"class_name": "FlowCopy", "name": name, "inputs": list(inputs), "out_shape": list(shape)}


def _flat(kernel: Kernel, target: Target) -> dict[str, Any]:
    """Return the layer behind which a stream is one vector: another name for it, whose words stay, or one long word."""
    if DIALECTS[target.backend].repacks:
        return _copy(kernel.name, kernel.reads, kernel.shape)
    return {"class_name": "Reshape", "target_shape": list(kernel.shape)}


def _padding(kernel: Kernel, graph: IntGraph, target: Target) -> dict[str, Any]:
    """Return the zeros around the input of a convolution, whose windows hls4ml pads in arrays only."""
    op = kernel.op
    assert isinstance(op, Conv)
    shape, axes = graph.sources(op)[0].shape, AXES[len(op.window.size)]
    layer = {"class_name": f"ZeroPadding{len(axes)}D", "data_format": "channels_last", "n_chan": shape[-1]}
    for position, axis in enumerate(axes):
        layer |= {f"in_{axis}": shape[position], f"out_{axis}": kernel.shape[position]}
        layer |= dict(zip(PADS[axis], op.window.pads[position], strict=True))
    return layer


STREAMED: Mapping[Kind, Callable[[Kernel, IntGraph, Target], dict[str, Any]]] = {
    Kind.PORT: _op,
    Kind.OP: _op,
    Kind.FLAT: lambda kernel, graph, target: _flat(kernel, target),
    Kind.CLONE: lambda kernel, graph, target: {"class_name": "FlowClone", "outputs": list(kernel.writes)},
    Kind.COPY: lambda kernel, graph, target: _copy(kernel.name, kernel.reads, kernel.shape),
    Kind.PAD: _padding,
}
