"""IntGraph: a small typed graph of exact integer operations; `reference.run` is its meaning.

    graph   = IntGraph(name, ops, outputs)            ops in dataflow order, the Inputs first
    op      = Input                                   codes from the outside, on the grid of `format`
            | Dense | Conv                            acc = sum(x * weight) + bias, then cast to `format`
            | BatchNorm                               acc = x * scale + offset per channel, then cast to `format`
            | Relu | LeakyRelu                        max(x, 0), at most `limit` | x * slope where x < 0; cast
            | Requantize                              cast to `format`
            | Merge                                   add, subtract, multiply, maximum, minimum of its inputs; cast
            | SumPool                                 sum of each window, weighted by its padding; cast
            | MaxPool | Reshape                       choose or reorder codes; the format stays
            | Gather                                  codes and zeros at any place, from any of its inputs; exact
            | Lookup                                  a step function: the value of the run in which the code lies
            | Softmax                                 exponentials from a table over their sum; round half up

Every tensor is integer codes of one FixedFormat. A product of codes has `x.frac_bits + weight.frac_bits` fraction
bits; a bias is shifted left to that grid (or the products to the bias', whichever is finer), so `acc` is exact; the
inputs of a Merge or a Gather are shifted left to their finest grid likewise. "Cast to `format`" is what the op's
`cast` does: one division (by 1 but for averages), one shift, one rounding, one clamp (ir.fixed). Where `format` holds
every possible result, the cast changes nothing: `extract` makes only such ops beside Requantize, and
`fuse_requantize` moves the cast of a Requantize into the op that feeds it, the unified module.

Layout is channels last, without a batch axis: Dense (..., n_in) -> (..., n_out); sequences are (length, channels),
images (height, width, channels). Windows are given per axis of these (ir.windows).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Cast, Codes, Constant, FixedFormat, Overflow, Rounding
from flow.ir.windows import Shape, Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Op:
    """What every op has.

    Attributes:
        name: identifier, unique in the graph, safe in C++, Verilog and file names.
        inputs: names of the ops whose outputs it reads.
        shape: shape of the output, no batch axis.
        cast: how the exact result becomes a code of the output.
        layers: the Keras layers it stands for, in order; its output is the output of the last one.
        fused: what it does, in order, in the field's words ("dense", "batchnorm", "relu", "requantize").
    """

    kind: ClassVar[str]

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    cast: Cast
    layers: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()

    @property
    def format(self) -> FixedFormat:
        """Format of the output codes."""
        return self.cast.format


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input(Op):
    """Codes from outside, made from values by `quantize(values, cast)`; none is below `cast.lowest_code`."""

    kind: ClassVar[str] = "input"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatMul(Op):
    """What Dense and Conv share: constant weights and a bias.

    Attributes:
        weight: the last axis is the output channel.
        bias: (channels,).
        accumulator: the format that holds every partial sum in any order, set by `infer_accumulators`.
        channel_bits: per output channel, the accumulator bits that this channel needs, set by the same pass.
    """

    weight: Constant
    bias: Constant
    accumulator: FixedFormat | None = None
    channel_bits: tuple[int, ...] = ()

    def matrix(self) -> Codes:
        """Return the weight's codes as one matrix: int64 (window * input channels, output channels)."""
        return self.weight.codes.reshape(-1, self.weight.codes.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense(MatMul):
    """Matrix product over the last axis; weight (n_in, n_out)."""

    kind: ClassVar[str] = "dense"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv(MatMul):
    """Convolution (correlation, as in Keras); weight (*window size, channels / groups, filters).

    Attributes:
        window: its padding is zeros.
        groups: input channels and filters are split into this many groups, in order, that do not mix.
    """

    kind: ClassVar[str] = "conv"
    window: Window
    groups: int = 1

    def matrix(self) -> Codes:
        """Return the weight's codes as one matrix over all channels, with zeros between groups."""
        channels, filters = self.weight.codes.shape[-2:]
        pixels, of_group = self.window.pixels, filters // self.groups
        matrix = np.zeros((pixels, self.groups, channels, self.groups, of_group), np.int64)
        for group in range(self.groups):
            part = self.weight.codes[..., group * of_group : (group + 1) * of_group]
            matrix[:, group, :, group] = part.reshape(pixels, channels, of_group)
        return matrix.reshape(-1, filters)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNorm(Op):
    """Multiply by `scale` and add `offset`, one of each per channel."""

    kind: ClassVar[str] = "batchnorm"
    scale: Constant
    offset: Constant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relu(Op):
    """max(x, 0), and at most `limit` (a code on the grid of the input) if that is given."""

    kind: ClassVar[str] = "relu"
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeakyRelu(Op):
    """x where it is not negative, else x * slope; the slope's shape is the end of `shape`."""

    kind: ClassVar[str] = "leaky_relu"
    slope: Constant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantize(Op):
    """Cast to another format: the one quantization operation of a unified module before it is fused."""

    kind: ClassVar[str] = "requantize"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merge(Op):
    """Combine inputs of one shape, element by element; `function` is one of `MERGES`, applied from left to right."""

    kind: ClassVar[str] = "merge"
    function: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool(Op):
    """What pooling ops share: windows over the axes before the last, whose padding holds nothing."""

    window: Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPool(Pool):
    """Largest code of each window; padding never wins."""

    kind: ClassVar[str] = "maxpool"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumPool(Pool):
    """Sum of each window times the weight of its position.

    An average over real pixels only has another count at the edges: a position's weight is the least common multiple
    of all counts over its own count. The powers of two in that multiple are fraction bits of the weight; its odd part
    is the divisor of the cast.

    Attributes:
        weight: the shape of the output without channels.
    """

    kind: ClassVar[str] = "sumpool"
    weight: Constant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reshape(Op):
    """Another shape for the same codes in the same order, as Keras' Flatten and Reshape have it."""

    kind: ClassVar[str] = "reshape"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather(Op):
    """Codes at other places: padding, cropping, repeating, transposing, joining.

    Attributes:
        index: int64, the shape of the output: which code of the inputs (each flattened, one after another) goes there;
            -1 for a zero.
    """

    kind: ClassVar[str] = "gather"
    index: Codes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookup(Op):
    """A step function of the input code: run i holds the codes from starts[i] up to the next start.

    Attributes:
        starts: int64 (runs,), ascending; the first is the input format's smallest code.
        values: int64 (runs,), codes of `format`.
    """

    kind: ClassVar[str] = "lookup"
    starts: Codes
    values: Codes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Softmax(Op):
    """Softmax over the last axis: e = exponentials[max(x) - x], then e / sum(e), rounded half up and clamped.

    Attributes:
        exponentials: int64, one per distance of two codes of the input's format: round(2**k * exp(-distance)), k whole.
    """

    kind: ClassVar[str] = "softmax"
    exponentials: Codes


OPS: tuple[type[Op], ...] = (
    Input,
    Dense,
    Conv,
    BatchNorm,
    Relu,
    LeakyRelu,
    Requantize,
    Merge,
    MaxPool,
    SumPool,
    Reshape,
    Gather,
    Lookup,
    Softmax,
)
MERGES = ("add", "subtract", "multiply", "maximum", "minimum")


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
    assert graph.ops and isinstance(graph.ops[0], Input), "the first op is an input"
    seen: dict[str, Op] = {}
    for op in graph.ops:
        assert op.name.isidentifier() and op.name not in seen, f"op name {op.name!r} is no identifier or repeats"
        assert all(name in seen for name in op.inputs), f"{op.name}: reads {op.inputs}, which is not computed before it"
        fewest, most = READS[type(op)]
        assert fewest <= len(op.inputs) <= most, f"{op.name}: reads {op.inputs}"
        held = constants(op)
        for name, codes in (arrays(op) | {name: constant.codes for name, constant in held.items()}).items():
            assert codes.dtype == np.int64, f"{op.name}: {name} is not int64"
        for constant in held.values():
            low, high, fmt = int(constant.codes.min(initial=0)), int(constant.codes.max(initial=0)), constant.format
            assert fmt.min_code <= low and high <= fmt.max_code, f"{op.name}: codes {low}..{high} outside {fmt}"
        expected = SHAPES[type(op)](op, *(seen[name] for name in op.inputs))
        assert op.shape == expected, f"{op.name}: shape {op.shape} does not follow from its input: {expected}"
        seen[op.name] = op
    assert all(name in seen for name in graph.outputs), f"outputs {graph.outputs} are not computed"


MANY = 1 << 16
READS: Mapping[type[Op], tuple[int, int]] = {
    Input: (0, 0),
    Dense: (1, 1),
    Conv: (1, 1),
    BatchNorm: (1, 1),
    Relu: (1, 1),
    LeakyRelu: (1, 1),
    Requantize: (1, 1),
    Merge: (2, MANY),
    MaxPool: (1, 1),
    SumPool: (1, 1),
    Reshape: (1, 1),
    Gather: (1, MANY),
    Lookup: (1, 1),
    Softmax: (1, 1),
}
"""How many inputs an op reads: the fewest and the most."""


def _own_shape(op: Op) -> Shape:
    return op.shape


def _shape_of_input(op: Op, x: Op) -> Shape:
    return x.shape


def _dense_shape(op: Dense, x: Op) -> Shape | None:
    n_in, n_out = op.weight.codes.shape
    assert op.shape[-1] == n_out == op.bias.codes.shape[0], f"{op.name}: channels differ"
    return (*x.shape[:-1], n_out) if n_in == x.shape[-1] else None


def _conv_shape(op: Conv, x: Op) -> Shape | None:
    *size, channels, filters = op.weight.codes.shape
    assert op.shape[-1] == filters == op.bias.codes.shape[0], f"{op.name}: channels differ"
    fits = op.window.size == tuple(size) and channels * op.groups == x.shape[-1] and filters % op.groups == 0
    return (*op.window.positions(x.shape), filters) if fits else None


def _batchnorm_shape(op: BatchNorm, x: Op) -> Shape | None:
    return x.shape if op.scale.codes.shape == op.offset.codes.shape == x.shape[-1:] else None


def _leaky_relu_shape(op: LeakyRelu, x: Op) -> Shape | None:
    return x.shape if np.broadcast_shapes(op.slope.codes.shape, x.shape) == x.shape else None


def _merge_shape(op: Merge, x: Op, *others: Op) -> Shape | None:
    return x.shape if all(other.shape == x.shape for other in others) and op.function in MERGES else None


def _max_pool_shape(op: MaxPool, x: Op) -> Shape:
    assert op.format == x.format, f"{op.name}: changes the format"
    return (*op.window.positions(x.shape), x.shape[-1])


def _sum_pool_shape(op: SumPool, x: Op) -> Shape | None:
    positions = op.window.positions(x.shape)
    return (*positions, x.shape[-1]) if op.weight.codes.shape == positions else None


def _reshape_shape(op: Reshape, x: Op) -> Shape | None:
    assert op.format == x.format, f"{op.name}: changes the format"
    return op.shape if math.prod(op.shape) == math.prod(x.shape) else None


def _gather_shape(op: Gather, *inputs: Op) -> Shape | None:
    total = sum(math.prod(x.shape) for x in inputs)
    return op.index.shape if op.index.min() >= -1 and op.index.max() < total else None


def _lookup_shape(op: Lookup, x: Op) -> Shape:
    assert op.starts.shape == op.values.shape and op.starts[0] == x.format.min_code, op.name
    assert (np.diff(op.starts) > 0).all(), f"{op.name}: runs are not in order"
    return x.shape


def _softmax_shape(op: Softmax, x: Op) -> Shape:
    assert len(op.exponentials) == 1 << x.format.width, f"{op.name}: exponentials do not fit"
    return x.shape


SHAPES: Mapping[type[Op], Callable[..., Shape | None]] = {
    Input: _own_shape,
    Dense: _dense_shape,
    Conv: _conv_shape,
    BatchNorm: _batchnorm_shape,
    Relu: _shape_of_input,
    LeakyRelu: _leaky_relu_shape,
    Requantize: _shape_of_input,
    Merge: _merge_shape,
    MaxPool: _max_pool_shape,
    SumPool: _sum_pool_shape,
    Reshape: _reshape_shape,
    Gather: _gather_shape,
    Lookup: _lookup_shape,
    Softmax: _softmax_shape,
}
"""The shape of an op's output, from the op and those it reads; None if it cannot read them so. Asserts what else holds
between them."""


def constants(op: Op) -> dict[str, Constant]:
    """Return the constants of an op by the names of their fields; of a Lookup, its values."""
    held = {item.name: getattr(op, item.name) for item in fields(op)}
    found = {name: value for name, value in held.items() if isinstance(value, Constant)}
    return found | ({"values": Constant(op.values, op.format)} if isinstance(op, Lookup) else {})


def arrays(op: Op) -> dict[str, Codes]:
    """Return the arrays of an op that are no constants, by the names of their fields."""
    held = {item.name: getattr(op, item.name) for item in fields(op)}
    return {name: value for name, value in held.items() if isinstance(value, np.ndarray)}


def slides_windows(graph: IntGraph) -> bool:
    """Say whether an op computes the same at many places of an image or a sequence."""
    return any(isinstance(op, Conv | Pool) and math.prod(op.shape[:-1]) > 1 for op in graph.ops)


def to_json(graph: IntGraph) -> dict[str, Any]:
    """Return the graph as JSON types; weights are nested lists of integers, or of large arrays the bytes as text."""
    return {
        "name": graph.name,
        "outputs": list(graph.outputs),
        "warnings": list(graph.warnings),
        "ops": [_op_to_json(op) for op in graph.ops],
    }


def _op_to_json(op: Op) -> dict[str, Any]:
    """Return an op as JSON types, its value types laid flat: a constant `weight` as `weight` and `weight_format`."""
    out: dict[str, Any] = {"kind": op.kind}
    for item in fields(op):
        value = getattr(op, item.name)
        if isinstance(value, Cast):
            modes = {"rounding": value.rounding.value, "overflow": value.overflow.value}
            out |= {"format": value.format.to_json(), **modes, "divisor": value.divisor}
        elif isinstance(value, Constant):
            out |= {item.name: _array_to_json(value.codes), f"{item.name}_format": value.format.to_json()}
        elif isinstance(value, Window):
            size = {} if isinstance(op, Conv) else {"window": list(value.size)}  # a convolution's is its weight's
            out |= {**size, "strides": list(value.strides), "padding": list(value.padding)}
        elif isinstance(value, FixedFormat):
            out[item.name] = value.to_json()
        elif isinstance(value, np.ndarray):
            out[item.name] = _array_to_json(value)
        else:
            out[item.name] = list(value) if isinstance(value, tuple) else value
    return out


LARGE_ARRAY = 100_000
"""Arrays of more numbers are bytes in JSON: as a list they would take some hundred bytes of memory a number."""
SMALLEST_TYPES = ("<i1", "<i2", "<i4", "<i8")


def _array_to_json(codes: Codes) -> Any:
    if codes.size <= LARGE_ARRAY:
        return codes.tolist()
    low, high = int(codes.min()), int(codes.max())
    dtype = next(each for each in SMALLEST_TYPES if np.iinfo(each).min <= low and high <= np.iinfo(each).max)
    return {
        "shape": list(codes.shape),
        "dtype": dtype,
        "base64": base64.b64encode(codes.astype(dtype).tobytes()).decode(),
    }


def _array_from_json(data: Any) -> Codes:
    if isinstance(data, list):
        return np.array(data, np.int64)
    flat = np.frombuffer(base64.b64decode(data["base64"]), np.dtype(data["dtype"]))
    return np.asarray(flat.astype(np.int64).reshape(data["shape"]))


def from_json(data: dict[str, Any]) -> IntGraph:
    """Return the graph that `to_json` wrote."""
    return IntGraph(
        name=data["name"],
        outputs=tuple(data["outputs"]),
        warnings=tuple(data["warnings"]),
        ops=tuple(_op_from_json(op) for op in data["ops"]),
    )


def _op_from_json(data: dict[str, Any]) -> Op:
    kinds = {cls.kind: cls for cls in OPS}
    cls = kinds[data["kind"]]
    return cls(**{item.name: FROM_JSON[str(item.type)](data, item.name) for item in fields(cls)})


def _cast_from_json(data: Mapping[str, Any], name: str) -> Cast:
    modes = Rounding(data["rounding"]), Overflow(data["overflow"])
    return Cast(FixedFormat.from_json(data["format"]), *modes, data["divisor"])


def _constant_from_json(data: Mapping[str, Any], name: str) -> Constant:
    return Constant(_array_from_json(data[name]), FixedFormat.from_json(data[f"{name}_format"]))


def _window_from_json(data: Mapping[str, Any], name: str) -> Window:
    size = data[name] if name in data else _array_from_json(data["weight"]).shape[:-2]
    return Window.with_padding(tuple(size), tuple(data["strides"]), tuple(data["padding"]))


FROM_JSON: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "Cast": _cast_from_json,
    "Constant": _constant_from_json,
    "Window": _window_from_json,
    "FixedFormat | None": lambda data, name: data[name] and FixedFormat.from_json(data[name]),
    "Codes": lambda data, name: _array_from_json(data[name]),
    **dict.fromkeys(("Shape", "tuple[int, ...]", "tuple[str, ...]"), lambda data, name: tuple(data[name])),
    **dict.fromkeys(("str", "int", "int | None"), lambda data, name: data[name]),
}
"""How a field is read from the JSON form of its op, by the type it is declared with."""


def to_text(graph: IntGraph) -> str:
    """Return one line per op: what it is, its shape, formats and weights."""
    returns = f" -> {', '.join(graph.outputs)}" if graph.outputs != (graph.ops[-1].name,) else ""
    return "\n".join([f"graph {graph.name}{returns}", *("  " + _op_to_text(op) for op in graph.ops)])


def _op_to_text(op: Op) -> str:
    what, *details = TEXTS[type(op)](op)
    parts = [f"{op.name} = {what}({', '.join(op.inputs)})", f"{'x'.join(map(str, op.shape))} {op.format}", *details]
    if op.cast.divisor != 1:
        parts.append(f"divided by {op.cast.divisor}")
    if op.cast.rounding is not Rounding.TRN or op.cast.overflow is not Overflow.WRAP:
        parts.append(f"{op.cast.rounding.value} {op.cast.overflow.value}")
    return "  ".join(parts)


def _kind_text(op: Op) -> list[str]:
    return [op.kind]


def _matmul_text(op: MatMul) -> list[str]:
    weight = f"weight {'x'.join(map(str, op.weight.codes.shape))} {op.weight.format}"
    return [op.kind, weight, *([f"acc {op.accumulator}"] if op.accumulator is not None else [])]


TEXTS: Mapping[type[Op], Callable[..., list[str]]] = {
    Input: _kind_text,
    Dense: _matmul_text,
    Conv: _matmul_text,
    BatchNorm: _kind_text,
    Relu: _kind_text,
    LeakyRelu: _kind_text,
    Requantize: _kind_text,
    Merge: lambda op: [op.function],
    MaxPool: _kind_text,
    SumPool: _kind_text,
    Reshape: _kind_text,
    Gather: _kind_text,
    Lookup: lambda op: [op.kind, f"{len(op.starts)} runs"],
    Softmax: _kind_text,
}
"""What an op is in the text of a graph: a word, and what it holds."""
