"""IntGraph: a small typed graph of exact integer operations; `reference.run` is its meaning.

    graph   = IntGraph(name, ops, outputs)            ops in dataflow order, the Inputs first

`ir.ops` says what ops there are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ir.checks import check_ops
from flow.ir.fixed import Codes
from flow.ir.forms import op_from_json, op_to_json, op_to_text
from flow.ir.ops import (
    MERGES as MERGES,
)
from flow.ir.ops import (
    OPS as OPS,
)
from flow.ir.ops import (
    BatchNorm as BatchNorm,
)
from flow.ir.ops import (
    Conv as Conv,
)
from flow.ir.ops import (
    Dense as Dense,
)
from flow.ir.ops import (
    Gather as Gather,
)
from flow.ir.ops import (
    Input as Input,
)
from flow.ir.ops import (
    LeakyRelu as LeakyRelu,
)
from flow.ir.ops import (
    Lookup as Lookup,
)
from flow.ir.ops import (
    MatMul as MatMul,
)
from flow.ir.ops import (
    MaxPool as MaxPool,
)
from flow.ir.ops import (
    Merge as Merge,
)
from flow.ir.ops import (
    Op as Op,
)
from flow.ir.ops import (
    Pool as Pool,
)
from flow.ir.ops import (
    Relu as Relu,
)
from flow.ir.ops import (
    Requantize as Requantize,
)
from flow.ir.ops import (
    Reshape as Reshape,
)
from flow.ir.ops import (
    Scan as Scan,
)
from flow.ir.ops import (
    Softmax as Softmax,
)
from flow.ir.ops import (
    SumPool as SumPool,
)
from flow.ir.ops import (
    TruthTable as TruthTable,
)
from flow.ir.ops import (
    constants as constants,
)
from flow.ir.ops import (
    nested as nested,
)
from flow.ir.windows import Shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntGraph:
    """Ops in dataflow order.

    Attributes:
        name: identifier of the model.
        ops: the Inputs first, in the order of the model's ports.
        outputs: names of the ops whose codes leave the graph, in the order of the model's outputs; the last op if none
            is named.
        warnings: what a report must repeat (lines of text).
    """

    name: str
    ops: tuple[Op, ...]
    outputs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs:
            object.__setattr__(self, "outputs", (self.ops[-1].name,))
        verify(self)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __getitem__(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The ops that take codes from outside."""
        return tuple(op for op in self.ops if isinstance(op, Input))

    @property
    def output(self) -> Op:
        """The op whose codes leave the graph first."""
        return self[self.outputs[0]]

    @property
    def port_shape(self) -> Shape:
        """Shape of one sample: that of the only input, or of all inputs flattened and joined in order."""
        inputs = self.inputs
        return inputs[0].shape if len(inputs) == 1 else (sum(math.prod(op.shape) for op in inputs),)

    def port_limits(self) -> tuple[Codes, Codes]:
        """Return the smallest and the largest code of each element of a sample, int64 `port_shape`."""
        low = [np.full(math.prod(op.shape), op.cast.lowest_code, np.int64) for op in self.inputs]
        high = [np.full(math.prod(op.shape), op.format.max_code, np.int64) for op in self.inputs]
        return np.concatenate(low).reshape(self.port_shape), np.concatenate(high).reshape(self.port_shape)

    def split_port(self, codes: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return samples (n, *port_shape) input by input: name -> (n, *shape), views."""
        return split_samples(codes, {op.name: op.shape for op in self.inputs})

    def join_port(self, parts: Mapping[str, Codes]) -> Codes:
        """Return samples (n, *port_shape) from codes input by input, as `split_port` took them apart."""
        flat = [parts[op.name].reshape(len(parts[op.name]), -1) for op in self.inputs]
        return np.concatenate(flat, axis=1).astype(np.int64).reshape(-1, *self.port_shape)

    def sources(self, op: Op) -> tuple[Op, ...]:
        """Return the ops that `op` reads, in order."""
        return tuple(self[name] for name in op.inputs)

    def readers(self, name: str) -> tuple[Op, ...]:
        """Return the ops that read the output of `name`."""
        return tuple(op for op in self.ops if name in op.inputs)

    def digest(self) -> str:
        """Return the SHA-256 of the JSON form, keys sorted."""
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()


class Draft(IntGraph):
    """A graph in the making, which is not verified; its outputs are given."""

    def __post_init__(self) -> None:
        pass


def split_samples(samples: NDArray[Any], shapes: Mapping[str, Shape]) -> dict[str, NDArray[Any]]:
    """Return samples that are flattened and joined in order one by one: name -> (n, *shape), views."""
    flat, parts, start = samples.reshape(len(samples), -1), {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        parts[name] = flat[:, start:stop].reshape(len(samples), *shape)
        start = stop
    return parts


def verify(graph: IntGraph) -> None:
    """Check what the types cannot say.

    Raises:
        AssertionError: names repeat, an op reads something not yet computed, shapes or code ranges do not fit: a bug
            in the pass that made the graph, never a user's fault.
    """
    check_ops(graph.ops, graph.outputs)


def body_of(op: Scan) -> IntGraph:
    """Return what a scan does with a row: its inputs are the row and the states, its outputs what `returns` names."""
    return IntGraph(name=op.name, ops=op.body, outputs=op.returns)


def slides_windows(graph: IntGraph) -> bool:
    """Say whether an op computes the same at many places of an image or a sequence."""
    return any(isinstance(op, Conv | Pool) and math.prod(op.shape[:-1]) > 1 for op in graph.ops)


def to_json(graph: IntGraph) -> dict[str, Any]:
    """Return the graph as JSON types; weights are nested lists of integers, or of large arrays the bytes as text."""
    return {
        "name": graph.name,
        "outputs": list(graph.outputs),
        "warnings": list(graph.warnings),
        "ops": [op_to_json(op) for op in graph.ops],
    }


def from_json(data: dict[str, Any]) -> IntGraph:
    """Return the graph that `to_json` wrote."""
    return IntGraph(
        name=data["name"],
        outputs=tuple(data["outputs"]),
        warnings=tuple(data["warnings"]),
        ops=tuple(op_from_json(op) for op in data["ops"]),
    )


def to_text(graph: IntGraph) -> str:
    """Return one line per op: what it is, its shape, formats and weights."""
    returns = f" -> {', '.join(graph.outputs)}" if graph.outputs != (graph.ops[-1].name,) else ""
    return "\n".join([f"graph {graph.name}{returns}", *("  " + op_to_text(op) for op in graph.ops)])
