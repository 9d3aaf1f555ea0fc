"""A float model as a graph of the ops of an IntGraph, with real numbers in the place of codes.

Extraction already turns each layer into a few kinds of ops. Here the same functions read a model whose every
constant was replaced by its position in one long list: where a weight ends up, transposed, dilated or reshaped, its
position stands, and the real number is put there. So there is one reading of layers, and no second one to keep equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, at
from flow.frontend.base import read
from flow.frontend.extraction.builder import Builder, Tensor
from flow.frontend.extraction.model import walk
from flow.frontend.layers import Layer, Network
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Constant, FixedFormat
from flow.ir.graph import BatchNorm, Draft, Input, IntGraph, LeakyRelu, MatMul, Merge, Op, Relu, SumPool

Reals = NDArray[np.float64]

NOMINAL = FixedFormat(True, 31, 31)
"""Format of every tensor while a float model is read: it stands for no choice yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Function(Op):
    """Element-wise functions that are no arithmetic of an integer graph, as `flow.frontend.base.Evaluate` takes them.

    They become a `Lookup`.
    """

    kind: ClassVar[str] = "function"
    functions: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatOp:
    """One op of a float graph.

    Attributes:
        op: the op that it becomes: kind, inputs, shape, geometry, names. Its codes and formats mean nothing yet.
        weight: real weights in the shape of the op's; scale of a batch norm, slope of a leaky ReLU.
        bias: real (channels,): bias, or offset of a batch norm.
        limit: of a ReLU: its largest output.
        divisor: by what the result is divided: what is left of an average.
    """

    op: Op
    weight: Reals | None = None
    bias: Reals | None = None
    limit: float | None = None
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
    def channels(self) -> int:
        """Channels of its output."""
        return self.op.shape[-1]

    @property
    def has_weights(self) -> bool:
        """Whether it multiplies by constants that are searched for."""
        return isinstance(self.op, MatMul | BatchNorm)


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
    sloped = {layer.name for layer in network.layers if "slope" in layer.arrays}
    ops = tuple(_with_numbers(op, numbers, builder.divisors, sloped) for op in graph.ops)
    softmaxes = {tensor.op: tensor.softmax for tensor in builder.tensors.values() if tensor.softmax is not None}
    return FloatGraph(name=graph.name, ops=ops, outputs=graph.outputs, softmaxes=softmaxes, warnings=network.warnings)


def _refuse_quantized(layer: Layer[Any]) -> None:
    """Refuse a layer with a quantizer in it."""
    for key, name in layer.quantizers.items():
        raise UnsupportedError(
            f"{layer.described} is quantized already ({key} {name!r})",
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
            raise UnsupportedError(f"{count} values of its {key} are NaN or infinite", model=network.name, layer=path)
        placed[path][key] = np.arange(start, start + values.size, dtype=np.float64).reshape(values.shape)
        numbers.append(values.reshape(-1))
        start += values.size
    layers = tuple(replace(layer, arrays=placed[layer.path]) for layer in network.layers)
    return replace(network, layers=layers), np.concatenate(numbers)


def _with_numbers(op: Op, numbers: Reals, divisors: Mapping[str, int], sloped: set[str]) -> FloatOp:
    divisor = divisors.get(op.name, 1)
    if isinstance(op, MatMul):
        weight, bias = _numbers(numbers, op.weight), _numbers(numbers, op.bias)
        return FloatOp(op=op, weight=weight, bias=bias, divisor=divisor)
    if isinstance(op, BatchNorm):
        scale, offset = _numbers(numbers, op.scale), _numbers(numbers, op.offset)
        return FloatOp(op=op, weight=scale, bias=offset, divisor=divisor)
    if isinstance(op, LeakyRelu):
        own = sloped.intersection(op.layers)
        slope = _numbers(numbers, op.slope) if own else op.slope.values
        return FloatOp(op=op, weight=slope, divisor=divisor)
    if isinstance(op, Relu) and op.limit is not None:
        return FloatOp(op=op, limit=float(np.ldexp(op.limit, -NOMINAL.frac_bits)), divisor=divisor)
    return FloatOp(op=op, divisor=divisor)


def _numbers(numbers: Reals, positions: Constant) -> Reals:
    return numbers[positions.values.astype(np.int64)]


@dataclass(slots=True)
class _Builder(Builder):
    """Reads layers without formats; what waits for a quantizer is an op of its own, which no integer graph has.

    Attributes:
        divisors: op -> what is left of an average: by what its result is divided.
    """

    graph_type: ClassVar[type[IntGraph]] = Draft

    divisors: dict[str, int] = field(default_factory=dict)

    def result_format(self, op: Op, inputs: Sequence[Tensor]) -> FixedFormat:
        """Return the nominal format."""
        return NOMINAL

    def plain(self, layer: Layer[Any], tensor: Tensor) -> Tensor:
        """Return a tensor on which nothing waits: its divisor is written down, its functions are an op."""
        if not tensor.waits:
            return tensor
        functions, divisor = list(tensor.functions), tensor.divisor
        while functions and functions[0].divisor != 1:  # an average of so many inputs, no power of two
            divisor *= functions.pop(0).divisor
        if divisor != 1:
            self.divisors[self._averaging(tensor.op)] = divisor
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

    def _averaging(self, name: str) -> str:
        """Return the sum that an average waits on, behind ops that keep its factor."""
        while not isinstance(self.ops[name], SumPool | Merge):
            (name,) = self.ops[name].inputs
        return name
