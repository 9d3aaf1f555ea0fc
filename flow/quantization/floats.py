"""A float model as a graph of the ops of an IntGraph, with real numbers in the place of codes.

Extraction already turns each layer into a few kinds of ops. Here the same functions read a model whose every
constant was replaced by its position in one long list: where a weight ends up, transposed, dilated or reshaped, its
position stands, and the real number is put there. So there is one reading of layers, and no second one to keep equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, at, counted
from flow.frontend.base import read
from flow.frontend.extraction.builder import Builder, Tensor
from flow.frontend.extraction.model import walk
from flow.frontend.layers import ClippedLine, Layer, Network, StepLayerNorm, StepSoftmax
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Constant, FixedFormat
from flow.ir.graph import (
    BatchNorm,
    Conv,
    Dense,
    Draft,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MatMul,
    MaxPool,
    Merge,
    Op,
    Relu,
    Requantize,
    Reshape,
    Scan,
    Softmax,
    SumPool,
    TruthTable,
)
from flow.ir.windows import Shape

Reals = NDArray[np.float64]

NOMINAL = FixedFormat(True, 31, 31)
"""Format of every tensor while a float model is read: it stands for no choice yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Function(Op):
    """Element-wise functions that are no arithmetic of an integer graph, as `flow.frontend.base.Evaluate` takes them.

    Or rows of a table, for whole numbers that are the same in every channel. They become a `Lookup`.
    """

    kind: ClassVar[str] = "function"
    functions: tuple[Any, ...] = ()
    table: Constant | None = None


INTEGER_ONLY = (Requantize, Lookup, TruthTable, Softmax, Scan)
"""Ops that no float graph has: they come of quantizing it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatOp:
    """One op of a float graph.

    Attributes:
        op: the op that it becomes: kind, inputs, shape, geometry, names. Its codes and formats mean nothing yet.
        factor: real, what its input is multiplied by: the weights of a sum of products, the scale of a batch norm.
        addend: real (channels,), what is added to that: the bias, or the offset.
        slope: real, of a leaky ReLU.
        limit: of a ReLU: its largest output.
        table: real (rows, channels), of an embedding.
        divisor: by what the result is divided: what is left of an average.
    """

    op: Op
    factor: Reals | None = None
    addend: Reals | None = None
    slope: Reals | None = None
    limit: float | None = None
    table: Reals | None = None
    divisor: int = 1

    @property
    def name(self) -> str:
        """Name of the op."""
        return self.op.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the ops that it reads."""
        return self.op.inputs

    @property
    def shape(self) -> Shape:
        """Shape of its output."""
        return self.op.shape

    @property
    def channels(self) -> int:
        """Channels of its output."""
        return self.op.shape[-1]

    @property
    def has_weights(self) -> bool:
        """Whether it multiplies by constants that are searched for."""
        return self.factor is not None

    @property
    def numbers(self) -> tuple[Reals, Reals]:
        """Factor and addend of an op that has weights."""
        assert self.factor is not None and self.addend is not None
        return self.factor, self.addend


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatGraph:
    """Ops in dataflow order, as in an IntGraph.

    Attributes:
        name: identifier of the model.
        ops: the inputs first.
        outputs: names of the ops whose values leave the graph.
        softmaxes: op whose values go into a final softmax -> the layer that is one; it is no op of this graph.
        warnings: what a report must repeat.
    """

    name: str
    ops: tuple[FloatOp, ...]
    outputs: tuple[str, ...]
    softmaxes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> FloatOp:
        return next(op for op in self.ops if op.name == name)

    @property
    def inputs(self) -> tuple[FloatOp, ...]:
        """The ops that take values from outside."""
        return tuple(op for op in self.ops if isinstance(op.op, Input))

    def readers(self, name: str) -> tuple[FloatOp, ...]:
        """Return the ops that read the output of `name`."""
        return tuple(op for op in self.ops if name in op.inputs)

    def alone(self, name: str) -> FloatOp | None:
        """Return the only reader of an op that is no output, or None."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def float_graph(model: TrainedModel) -> FloatGraph:
    """Return the ops of a float model with its numbers in them; a final softmax is left off.

    Raises:
        UnsupportedError: a layer is not supported, or quantizes: the message names it; or a weight is not finite.
    """
    with at(model=model.name):
        network = read(model)
        for layer in network.layers:
            _refuse_quantized(layer)
    placed, numbers = _positions(network)
    builder = _Builder(placed, NOMINAL, None, None)
    graph = walk(builder).checked()
    held = _Read(numbers, {layer.name for layer in network.layers if "slope" in layer.arrays})
    ops = tuple(
        FloatOp(op=op, divisor=builder.divisors.get(op.name, 1), **NUMBERS[type(op)](op, held)) for op in graph.ops
    )
    softmaxes = {tensor.op: tensor.softmax for tensor in builder.tensors.values() if tensor.softmax is not None}
    return FloatGraph(name=graph.name, ops=ops, outputs=graph.outputs, softmaxes=softmaxes, warnings=network.warnings)


def _refuse_quantized(layer: Layer[Any]) -> None:
    """Refuse a layer with a quantizer in it."""
    by = [f"{key} {name!r}" for key, name in layer.quantizers.items()]
    if isinstance(layer.settings, StepSoftmax | StepLayerNorm):
        by.append(f"bits={layer.settings.bits}")
    if by:
        raise UnsupportedError(
            f"{layer.described} is quantized already ({by[0]})",
            named=layer.name,
            remedy="'flow build' takes such a model, 'flow quantize' a float one",
        )


def _positions(network: Network) -> tuple[Network, Reals]:
    """Return the network with the position of each of its numbers in their place, and the numbers by position.

    Position 0 is a zero. Slopes come first: the op that holds them takes few bits.
    """
    weights = {layer.path: layer.arrays for layer in network.layers}
    keys = [(path, key) for path, arrays in weights.items() for key in arrays]
    keys.sort(key=lambda pair: pair[1] != "slope")
    numbers: list[Reals] = [np.zeros(1)]
    placed: dict[str, dict[str, NDArray[Any]]] = {path: {} for path in weights}
    start = 1
    for path, key in keys:
        values = np.asarray(weights[path][key], np.float64)
        if not np.isfinite(values).all():
            count = np.count_nonzero(~np.isfinite(values))
            raise UnsupportedError(
                f"{counted(count, 'value')} of its {key} {'is' if count == 1 else 'are'} NaN or infinite",
                model=network.name,
                layer=path,
            )
        placed[path][key] = np.arange(start, start + values.size, dtype=np.float64).reshape(values.shape)
        numbers.append(values.reshape(-1))
        start += values.size
    layers = tuple(replace(layer, arrays=placed[layer.path]) for layer in network.layers)
    return replace(network, layers=layers), np.concatenate(numbers)


def _weighted(op: MatMul, read: _Read) -> dict[str, Any]:
    return {"factor": read.numbers(op.weight), "addend": read.numbers(op.bias)}


def _scaled(op: BatchNorm, read: _Read) -> dict[str, Any]:
    return {"factor": read.numbers(op.scale), "addend": read.numbers(op.offset)}


def _sloped(op: LeakyRelu, read: _Read) -> dict[str, Any]:
    return {"slope": read.numbers(op.slope) if read.sloped.intersection(op.layers) else op.slope.values}


def _limited(op: Relu, read: _Read) -> dict[str, Any]:
    return {} if op.limit is None else {"limit": float(np.ldexp(op.limit, -NOMINAL.frac_bits))}


def _tabled(op: Function, read: _Read) -> dict[str, Any]:
    return {} if op.table is None else {"table": read.numbers(op.table)}


def _none(op: Op, read: _Read) -> dict[str, Any]:
    return {}


NUMBERS: Mapping[type[Op], Callable[..., dict[str, Any]]] = {
    Input: _none,
    Dense: _weighted,
    Conv: _weighted,
    BatchNorm: _scaled,
    Relu: _limited,
    LeakyRelu: _sloped,
    Merge: _none,
    MaxPool: _none,
    SumPool: _none,
    Reshape: _none,
    Gather: _none,
    Function: _tabled,
}
"""The fields of a FloatOp that hold an op's real numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """The numbers of a model by position, and the layers that have slopes of their own."""

    by_position: Reals
    sloped: set[str]

    def numbers(self, positions: Constant) -> Reals:
        return self.by_position[positions.values.astype(np.int64)]


@dataclass(slots=True)
class _Builder(Builder):
    """Reads layers without formats; what waits for a quantizer is an op of its own, which no integer graph has.

    Attributes:
        divisors: op -> what is left of an average: by what its result is divided.
    """

    graph_type: ClassVar[type[IntGraph]] = Draft
    passes_on: ClassVar[type[Op]] = Reshape
    longest: ClassVar[int] = NOMINAL.width

    divisors: dict[str, int] = field(default_factory=dict)

    def result_format(self, op: Op, inputs: Sequence[Tensor]) -> FixedFormat:
        """Return the nominal format."""
        return NOMINAL

    def plain(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor on which nothing waits: its divisor is written down, its functions are an op."""
        tensor = self.straight(layer, tensor)
        if not tensor.waits:
            return tensor
        functions, divisor = list(tensor.functions), tensor.divisor
        while functions and functions[0].divisor != 1:  # an average of so many inputs, no power of two
            divisor *= functions.pop(0).divisor
        if divisor != 1:
            self.divisors |= dict.fromkeys(self._averages(tensor.op), divisor)
        if not functions:
            self.ops[tensor.op] = replace(self.op(tensor), layers=(*self.op(tensor).layers, *tensor.layers))
            return Tensor(tensor.op)
        names = ", ".join(function.name for function in functions)
        shape = self.op(tensor).shape
        made = self.add(
            Function,
            layer,
            [tensor],
            shape,
            suffix="_function",
            functions=tuple(function.source for function in functions),
            fused=(names,),
        )
        self.ops[made.op] = replace(self.op(made), layers=made.layers)
        return Tensor(made.op)

    def clipped_line(self, layer: Layer[Any], tensor: Tensor, line: ClippedLine) -> Tensor:
        """Return the function that the line is."""
        return self.plain(layer, tensor)

    def embedded(self, layer: Layer[Any], tensor: Tensor, table: Constant) -> Tensor:
        """Append the rows of a table."""
        return self.add(Function, layer, [tensor], self.op(tensor).shape, table=table, fused=("embedding",))

    def _averages(self, name: str) -> list[str]:
        """Return the sums that an average waits on, behind ops that keep its factor."""
        op = self.ops[name]
        return [name] if isinstance(op, SumPool | Merge) else [each for x in op.inputs for each in self._averages(x)]
