"""Where a float graph is quantized, and the modules between: all that is computed exactly before one quantization.

A *point* is an op whose result is quantized. Other ops are exact or absorbed. An *exact* op makes codes of codes:
maximum pooling, moves, a ReLU on what is quantized already, the sum of an average whose division went into weights. The
result of an *absorbed* op stays in the accumulator of the op that alone reads it. A *module* is a point with all that
it absorbs. For example, convolution -> add -> ReLU is one module, whose point is the ReLU.

    points      quantized after
    unified     each module: sum of products, adds, ReLU
    wide-add    the same, and to 16 bits before each add
    folded      each sum of products, add and ReLU
    op          each of these and each batch norm, which are not folded then
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flow.ir import ops
from flow.ir.graph import Op
from flow.quantization.floats import INTEGER_ONLY, FloatGraph, FloatOp, Function
from flow.quantization.restructuring import reader_of_average

MOST_SUMS = 2
"""Sums of products that one module absorbs: a convolution and the projection of its shortcut."""
WIDE_BITS = 16
"""Width before an add with points "wide-add"."""
POSITIVE = (
    "reciprocal",
    "inverseroot",
    "sigmoid",
    "hard_sigmoid",
    "softplus",
    "exponential",
    "relu6",
    "smooth_sigmoid",
    "binary_sigmoid",
)
"""Functions without negative values."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module:
    """A point and all ops that it absorbs.

    Attributes:
        ops: in dataflow order; the last is the point.
        inputs: names of the quantized tensors that they read.
        signed: whether its output can be negative.
        wide: whether it is the 16-bit point before an add.
    """

    ops: tuple[FloatOp, ...]
    inputs: tuple[str, ...]
    signed: bool
    wide: bool = False

    @property
    def point(self) -> FloatOp:
        """The op whose result is quantized."""
        return self.ops[-1]

    @property
    def name(self) -> str:
        """Name of its first op: what it is called in reports."""
        return self.ops[0].name

    @property
    def weighted(self) -> tuple[FloatOp, ...]:
        """Its ops with weights."""
        return tuple(op for op in self.ops if op.has_weights)

    @property
    def layers(self) -> tuple[str, ...]:
        """The Keras layers it stands for."""
        return tuple(dict.fromkeys(layer for op in self.ops for layer in op.op.layers))


def modules(graph: FloatGraph, points: str) -> Mapping[str, Module]:
    """Return the modules of a graph by the names of their points, in dataflow order.

    Args:
        graph: batch norms folded, unless `points` is "op".
        points: as the table above says.
    """
    quantized: set[str] = set()
    absorbed: dict[str, tuple[FloatOp, ...]] = {}
    cut: dict[str, Module] = {}
    positive = _positive(graph)
    for op in graph.ops:
        if isinstance(op.op, ops.Input) or (_is_exact(graph, op, points) and quantized.issuperset(op.inputs)):
            quantized.add(op.name)
            continue
        inner = {part.name: part for name in op.inputs for part in absorbed.get(name, ())}
        parts = (*sorted(inner.values(), key=graph.ops.index), op)
        if _stays(graph, op, points):
            absorbed[op.name] = parts
            continue
        inputs = tuple(dict.fromkeys(name for part in parts for name in part.inputs if name not in inner))
        wide = points == "wide-add" and _goes_into_add(graph, op) and isinstance(op.op, ops.MatMul)
        cut[op.name] = Module(ops=parts, inputs=inputs, signed=op.name not in positive, wide=wide)
        quantized.add(op.name)
    return cut


def quantizations(cut: Mapping[str, Module]) -> tuple[int, int]:
    """Return how many quantization ops a graph has that is cut so, and how many values they quantize per inference."""
    return len(cut), sum(math.prod(module.point.op.shape) for module in cut.values())


def _is_exact(graph: FloatGraph, op: FloatOp, points: str) -> bool:
    """Say whether an op makes codes of codes without rounding, whatever their format is."""
    return op.divisor == 1 and EXACT[type(op.op)](graph, op, points)


def _always(graph: FloatGraph, op: FloatOp, points: str) -> bool:
    return True


def _never(graph: FloatGraph, op: FloatOp, points: str) -> bool:
    return False


def _in_a_unified_module(graph: FloatGraph, op: FloatOp, points: str) -> bool:
    return points in ("unified", "wide-add")


def _before_weights(graph: FloatGraph, op: FloatOp, points: str) -> bool:
    reader = reader_of_average(graph, op)
    return reader is not None and isinstance(reader.op, ops.MatMul)


EXACT: Mapping[type[Op], Callable[[FloatGraph, FloatOp, str], bool]] = {
    ops.Input: _always,
    ops.Dense: _never,
    ops.Conv: _never,
    ops.BatchNorm: _never,
    ops.Relu: _in_a_unified_module,
    ops.LeakyRelu: _never,
    ops.Merge: _never,
    ops.MaxPool: _always,
    ops.SumPool: _before_weights,
    ops.Reshape: _always,
    ops.Gather: _always,
    Function: _never,
}
"""Whether an op makes codes of codes without rounding, if nothing is left of an average."""


def _stays(graph: FloatGraph, op: FloatOp, points: str) -> bool:
    """Say whether the result of an op stays in the accumulator of the op that reads it."""
    reader = graph.alone(op.name)
    if reader is None or points not in ("unified", "wide-add") or op.divisor != 1 or isinstance(op.op, Function):
        return False
    return ABSORBS[type(reader.op)](graph, reader, op, points)


def _takes_nothing(graph: FloatGraph, reader: FloatOp, op: FloatOp, points: str) -> bool:
    return False


def _takes_sums(graph: FloatGraph, reader: FloatOp, op: FloatOp, points: str) -> bool:
    assert isinstance(reader.op, ops.Merge)
    if reader.op.function == "multiply" or (points == "wide-add" and isinstance(op.op, ops.MatMul)):
        return False
    return _sums(graph, reader) <= MOST_SUMS


def _takes_all_but_pools(graph: FloatGraph, reader: FloatOp, op: FloatOp, points: str) -> bool:
    return not isinstance(op.op, ops.Pool)


ABSORBS: Mapping[type[Op], Callable[[FloatGraph, FloatOp, FloatOp, str], bool]] = {
    ops.Dense: _takes_nothing,
    ops.Conv: _takes_nothing,
    ops.BatchNorm: _takes_nothing,
    ops.Relu: _takes_all_but_pools,
    ops.LeakyRelu: _takes_all_but_pools,
    ops.Merge: _takes_sums,
    ops.MaxPool: _takes_nothing,
    ops.SumPool: _takes_nothing,
    ops.Reshape: _takes_nothing,
    ops.Gather: _takes_nothing,
    Function: _takes_nothing,
}
"""Whether an op computes in one accumulator with an op that it alone reads."""
READS_NOTHING = (ops.Input, *INTEGER_ONLY)
"""Ops that read no other op of a float graph."""


def _sums(graph: FloatGraph, merge: FloatOp) -> int:
    """Return how many sums of products a merge would absorb, directly or through merges and ReLUs."""
    count = 0
    for name in merge.inputs:
        op = graph[name]
        if graph.alone(name) is None:
            continue
        if op.has_weights:
            count += 1
        elif isinstance(op.op, ops.Merge | ops.Relu | ops.LeakyRelu):
            count += _sums(graph, op)
    return count


def _goes_into_add(graph: FloatGraph, op: FloatOp) -> bool:
    reader = graph.alone(op.name)
    return reader is not None and isinstance(reader.op, ops.Merge) and reader.op.function != "multiply"


def _positive(graph: FloatGraph) -> set[str]:
    """Return the ops whose results are never negative, whatever the inputs."""
    positive: set[str] = set()
    for op in graph.ops:
        if NEVER_NEGATIVE[type(op.op)](op.op, positive.issuperset(op.inputs)):
            positive.add(op.name)
    return positive


def _inherited(op: Op, positive: bool) -> bool:
    return positive


def _unknown(op: Op, positive: bool) -> bool:
    return False


def _merged_positive(op: ops.Merge, positive: bool) -> bool:
    if op.function == "multiply" and len(op.inputs) == 2 and len(set(op.inputs)) == 1:  # a square
        return True
    return positive and op.function in ("add", "multiply", "maximum", "minimum")


NEVER_NEGATIVE: Mapping[type[Op], Callable[[Any, bool], bool]] = {
    ops.Input: _unknown,
    ops.Dense: _unknown,
    ops.Conv: _unknown,
    ops.BatchNorm: _unknown,
    ops.Relu: lambda op, positive: True,
    ops.LeakyRelu: _unknown,
    ops.Merge: _merged_positive,
    ops.MaxPool: _inherited,
    ops.SumPool: _inherited,
    ops.Reshape: _inherited,
    ops.Gather: _inherited,
    Function: lambda op, positive: op.fused[-1].rpartition(", ")[2] in POSITIVE,
}
"""Whether the result of an op is never negative, from the op and whether none of its inputs is."""


def shared_formats(graph: FloatGraph, cut: Mapping[str, Module]) -> Mapping[str, str]:
    """Return, for each point, the first of the points that share its format.

    Points share a format where an exact op reads several of them, so that their codes must lie on one grid: a
    concatenation.
    """
    leader: dict[str, str] = {name: name for name in cut}
    reaches: dict[str, tuple[str, ...]] = {name: (name,) for name in cut}
    for op in graph.ops:
        if op.name in cut or isinstance(op.op, ops.Input | ops.BatchNorm):
            continue
        points = tuple(dict.fromkeys(point for name in op.inputs for point in reaches.get(name, ())))
        if isinstance(op.op, ops.MaxPool | ops.Reshape | ops.Gather | ops.Relu):
            reaches[op.name] = points
        if isinstance(op.op, ops.Gather):
            first = min((leader[point] for point in points), key=list(cut).index, default="")
            joined = {leader[point] for point in points}
            leader.update({name: first for name, lead in leader.items() if lead in joined})
    return leader
