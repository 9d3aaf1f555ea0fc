"""Which layer reads what: the ops, and between them what a project needs to carry their codes.

io_parallel: arrays are read as often as one likes; a reshape is another name. io_stream: a stream is read once, so it
is cloned for every further reader; padding and words of another size are steps of their own. A port is never read
inside the project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flow.backends.hls4ml.layers import AXES, PADS, layer_of
from flow.errors import UnsupportedError
from flow.graph import Conv, Dense, Input, IntGraph, Op, Reshape
from flow.target import Target

CLONES = 7
"""`clone_stream` of hls4ml 1.3.0 writes 2 to 7 streams."""


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
    builder = _Builder(graph, target, {op.name for op in graph.ops})
    return builder.streams() if target.io_type == "io_stream" else builder.arrays()


def stream_roots(graph: IntGraph) -> dict[str, str]:
    """Return, by op, the op whose stream holds its codes: another one where a reshape needs no other words.

    A matrix product takes words of any size.
    """
    roots: dict[str, str] = {}
    shapes = {op.name: op.shape for op in graph.ops}
    flat_only = {op.name: len(op.shape) == 1 and op.name not in graph.outputs for op in graph.ops}
    for op in graph.ops:
        for name in op.inputs:
            flat_only[name] &= isinstance(op, Dense)
    for op in graph.ops:
        source = roots[op.inputs[0]] if isinstance(op, Reshape) else op.name
        same = shapes[source][-1] == op.shape[-1]
        roots[op.name] = source if same or flat_only[op.name] else op.name
    return roots


@dataclass(slots=True)
class _Builder:
    """Collects layers; `taken` are names in use, `taps` streams that wait for a reader."""

    graph: IntGraph
    target: Target
    taken: set[str]
    layers: list[dict[str, Any]] = field(default_factory=list)
    taps: dict[str, list[str]] = field(default_factory=dict)

    def arrays(self) -> Wiring:
        for op in self.graph.ops:
            self.layers.append(layer_of(op, self.graph, self.target, op.inputs))
        read = {name for op in self.graph.ops for name in op.inputs}
        ports: list[str] = []
        for name in self.graph.outputs:
            op = self.graph[name]
            alone = name not in read and name not in ports and not isinstance(op, Input | Reshape)
            ports.append(name if alone else self.copy(op, name))
        return Wiring(tuple(self.layers), tuple(ports))

    def streams(self) -> Wiring:
        roots = stream_roots(self.graph)
        computing = [op for op in self.graph.ops if roots[op.name] == op.name]
        uses = Counter(roots[name] for op in computing for name in op.inputs)
        uses.update(roots[name] for name in self.graph.outputs)
        for op in computing:
            inputs = [self.taps[roots[name]].pop(0) for name in op.inputs]
            if isinstance(op, Dense) and len(op.weight) != self.graph[roots[op.inputs[0]]].shape[-1]:
                inputs = [self.flat(op, *inputs)]
            if isinstance(op, Conv) and any(op.padding):
                inputs = [self.pad(op, *inputs)]
            if isinstance(op, Reshape):
                self.copy(op, inputs[0], op.name)
            else:
                self.layers.append(layer_of(op, self.graph, self.target, inputs))
            self.clone(op.name, uses[op.name])
        ports = []
        for name in self.graph.outputs:
            tap = self.taps[roots[name]].pop(0)
            ports.append(self.copy(self.graph[name], tap) if isinstance(self.graph[roots[name]], Input) else tap)
        return Wiring(tuple(self.layers), tuple(ports))

    def flat(self, op: Dense, tap: str) -> str:
        """Call a stream a vector, for hls4ml, which infers shapes; its words stay."""
        name = self.fresh(f"flat_{op.name}")
        self.layers.append({"class_name": "Reshape", "name": name, "inputs": [tap], "target_shape": [len(op.weight)]})
        return name

    def clone(self, name: str, uses: int) -> None:
        """Make as many streams of `name` as it has readers."""
        if uses == 0:
            raise UnsupportedError(
                f"{self.graph.name}: op '{name}' is read by nothing; in io_stream it would never be done: leave it out "
                "of the model, or use io_parallel"
            )
        taps = [name]
        while len(taps) < uses:
            source, count = taps.pop(), min(CLONES, uses - len(taps))
            clone = self.fresh(f"clone_{name}")
            outputs = [self.fresh(f"{clone}_{number}") for number in range(1, count + 1)]
            self.layers.append({"class_name": "FlowClone", "name": clone, "inputs": [source], "outputs": outputs})
            taps += outputs
        self.taps[name] = taps

    def copy(self, op: Op, source: str, name: str | None = None) -> str:
        """Add the codes of `op` once more, in words of its last axis."""
        copied = name or self.fresh(f"{op.name}_port")
        self.layers.append({"class_name": "FlowCopy", "name": copied, "inputs": [source], "out_shape": list(op.shape)})
        return copied

    def pad(self, op: Conv, source: str) -> str:
        """Add the zeros around the input of a convolution, whose windows hls4ml pads in arrays only."""
        shape = self.graph.sources(op)[0].shape
        padded = self.fresh(f"pad_{op.name}")
        layer: dict[str, Any] = {"class_name": f"ZeroPadding{len(op.window)}D", "name": padded, "inputs": [source]}
        layer |= {"data_format": "channels_last", "n_chan": shape[-1]}
        for position, axis in enumerate(AXES[len(op.window)]):
            before, after = op.padding[2 * position : 2 * position + 2]
            layer |= {f"in_{axis}": shape[position], f"out_{axis}": shape[position] + before + after}
            layer |= dict(zip(PADS[axis], (before, after), strict=True))
        self.layers.append(layer)
        return padded

    def fresh(self, name: str) -> str:
        """Return a name that no layer has."""
        names: Iterable[str] = (name, *(f"{name}_{number}" for number in range(len(self.taken) + 1)))
        chosen = next(each for each in names if each not in self.taken)
        self.taken.add(chosen)
        return chosen
