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
inputs of a Merge or a Gather are shifted left to their finest grid likewise. "Cast to `format`" is one division by the
op's `divisor` (1 but for averages), one shift, one rounding, one clamp by its `rounding` and `overflow` (see
ir.fixed). Where `format` holds every possible result, the cast changes nothing: `extract` makes only such ops beside
Requantize, and `fuse_requantize` moves the rounding of a Requantize into the op that feeds it, the unified module.

Layout is channels last, without a batch axis: Dense (..., n_in) -> (..., n_out); sequences are (length, channels),
images (height, width, channels). Windows are given per axis of these; padding is (before, after) axis by axis.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding, lowest_code

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Op:
    """What every op has.

    Attributes:
        name: identifier, unique in the graph, safe in C++, Verilog and file names.
        inputs: names of the ops whose outputs it reads.
        shape: shape of the output, no batch axis.
        format: format of the output codes.
        rounding, overflow: how the exact result becomes a code of `format`.
        divisor: by what the exact result is divided when it is cast.
        layers: the Keras layers it stands for, in order; its output is the output of the last one.
        fused: what it does, in order, in the field's words ("dense", "batchnorm", "relu", "requantize").
    """

    kind: ClassVar[str]

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    format: FixedFormat
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP
    divisor: int = 1
    layers: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input(Op):
    """Codes from outside, made from values by `quantize(values, format, rounding, overflow)`."""

    kind: ClassVar[str] = "input"

    @property
    def lowest_code(self) -> int:
        """The smallest code that reaches the port."""
        return lowest_code(self.format, self.overflow)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatMul(Op):
    """What Dense and Conv share: constant weights and a bias.

    Attributes:
        weight: int64 codes of `weight_format`; the last axis is the output channel.
        bias: int64 codes (channels,) of `bias_format`.
        accumulator: the format that holds every partial sum in any order, set by `infer_accumulators`.
        channel_bits: per output channel, the accumulator bits that this channel needs, set by the same pass.
    """

    weight: Codes
    weight_format: FixedFormat
    bias: Codes
    bias_format: FixedFormat
    accumulator: FixedFormat | None = None
    channel_bits: tuple[int, ...] = ()

    def matrix(self) -> Codes:
        """Return the weight as one matrix: int64 (window * input channels, output channels)."""
        return self.weight.reshape(-1, self.weight.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense(MatMul):
    """Matrix product over the last axis; weight (n_in, n_out)."""

    kind: ClassVar[str] = "dense"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv(MatMul):
    """Convolution (correlation, as in Keras); weight (*window, channels / groups, filters).

    Attributes:
        strides: per axis of the window.
        padding: zeros added (before, after), axis by axis.
        groups: input channels and filters are split into this many groups, in order, that do not mix.
    """

    kind: ClassVar[str] = "conv"
    strides: Shape
    padding: Shape
    groups: int = 1

    @property
    def window(self) -> Shape:
        """The window's size, axis by axis."""
        return self.weight.shape[:-2]

    def matrix(self) -> Codes:
        """Return the weight as one matrix over all channels, with zeros between groups."""
        channels, filters = self.weight.shape[-2:]
        size, each = math.prod(self.window), filters // self.groups
        whole = np.zeros((size, self.groups, channels, self.groups, each), np.int64)
        for group in range(self.groups):
            mine = self.weight[..., group * each : (group + 1) * each]
            whole[:, group, :, group] = mine.reshape(size, channels, each)
        return whole.reshape(-1, filters)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNorm(Op):
    """Per-channel multiply and add; `scale` codes of `scale_format`, `offset` codes of `offset_format`, (channels,)."""

    kind: ClassVar[str] = "batchnorm"
    scale: Codes
    scale_format: FixedFormat
    offset: Codes
    offset_format: FixedFormat


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relu(Op):
    """max(x, 0), and at most `limit` (a code on the grid of the input) if that is given."""

    kind: ClassVar[str] = "relu"
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeakyRelu(Op):
    """x where it is not negative, else x * slope; `slope` codes of `slope_format`, its shape the end of `shape`."""

    kind: ClassVar[str] = "leaky_relu"
    slope: Codes
    slope_format: FixedFormat


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
    """What pooling ops share: windows over the axes before the last.

    Attributes:
        window, strides: per axis.
        padding: pixels added (before, after), axis by axis; they hold nothing.
    """

    window: Shape
    strides: Shape
    padding: Shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPool(Pool):
    """Largest code of each window; padding never wins."""

    kind: ClassVar[str] = "maxpool"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumPool(Pool):
    """Sum of each window times the weight of its position.

    An average over real pixels only has another count at the edges: a position's weight is the least common multiple
    of all counts over its own count. The powers of two in that multiple are fraction bits of `weight_format`; its odd
    part is the `divisor`.

    Attributes:
        weight: int64 codes of `weight_format`, the shape of the output without channels.
    """

    kind: ClassVar[str] = "sumpool"
    weight: Codes
    weight_format: FixedFormat


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
        low = [np.full(math.prod(op.shape), op.lowest_code, np.int64) for op in self.inputs]
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


def split_samples(samples: NDArray[Any], shapes: Mapping[str, Shape]) -> dict[str, NDArray[Any]]:
    """Return samples that are flattened and joined in order one by one: name -> (n, *shape), views."""
    flat, parts, start = samples.reshape(len(samples), -1), {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        parts[name] = flat[:, start:stop].reshape(len(samples), *shape)
        start = stop
    return parts


CONSTANTS = {
    "weight": "weight_format",
    "bias": "bias_format",
    "scale": "scale_format",
    "offset": "offset_format",
    "slope": "slope_format",
    "values": "format",
}
"""Fields that hold codes -> the field that holds their format."""
ARRAYS = (*CONSTANTS, "starts", "index", "exponentials")


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
        lowest = 0 if isinstance(op, Input) else 2 if isinstance(op, Merge) else 1
        many = isinstance(op, Merge | Gather)
        assert lowest <= len(op.inputs) and (many or len(op.inputs) == lowest), f"{op.name}: reads {op.inputs}"
        assert op.divisor >= 1, f"{op.name}: divides by {op.divisor}"
        for item in fields(op):
            if item.name in ARRAYS:
                assert getattr(op, item.name).dtype == np.int64, f"{op.name}: {item.name} is not int64"
            if item.name in CONSTANTS:
                _verify_codes(op.name, getattr(op, item.name), getattr(op, CONSTANTS[item.name]))
        inputs = [seen[name] for name in op.inputs]
        if isinstance(op, MatMul):
            assert op.shape[-1] == op.weight.shape[-1] == op.bias.shape[0], f"{op.name}: channels differ"
        if isinstance(op, MaxPool | Reshape):
            assert op.format == inputs[0].format, f"{op.name}: changes the format"
        if isinstance(op, Lookup):
            assert op.starts.shape == op.values.shape and op.starts[0] == inputs[0].format.min_code, op.name
            assert (np.diff(op.starts) > 0).all(), f"{op.name}: runs are not in order"
        if isinstance(op, Softmax):
            assert len(op.exponentials) == 1 << inputs[0].format.width, f"{op.name}: exponentials do not fit"
        if inputs:
            expected = _shape_after(op, [x.shape for x in inputs])
            assert op.shape == expected, f"{op.name}: shape {op.shape} does not follow from its input: {expected}"
        seen[op.name] = op
    assert all(name in seen for name in graph.outputs), f"outputs {graph.outputs} are not computed"


def _shape_after(op: Op, shapes: list[Shape]) -> Shape | None:
    """Return the output shape of `op` for inputs of these shapes, or None if it takes no such inputs."""
    x = shapes[0]
    if isinstance(op, Dense):
        return (*x[:-1], op.weight.shape[1]) if op.weight.shape[0] == x[-1] else None
    if isinstance(op, Conv):
        fits = op.weight.shape[-2] * op.groups == x[-1] and op.weight.shape[-1] % op.groups == 0
        return (*windows(x, op.window, op.strides, op.padding), op.weight.shape[-1]) if fits else None
    if isinstance(op, Pool):
        out = windows(x, op.window, op.strides, op.padding)
        fits = not isinstance(op, SumPool) or op.weight.shape == out
        return (*out, x[-1]) if fits else None
    if isinstance(op, BatchNorm):
        return x if op.scale.shape == op.offset.shape == (x[-1],) else None
    if isinstance(op, LeakyRelu):
        return x if np.broadcast_shapes(op.slope.shape, x) == x else None
    if isinstance(op, Merge):
        return x if all(shape == x for shape in shapes) and op.function in MERGES else None
    if isinstance(op, Reshape):
        return op.shape if math.prod(op.shape) == math.prod(x) else None
    if isinstance(op, Gather):
        total = sum(math.prod(shape) for shape in shapes)
        return op.index.shape if op.index.min() >= -1 and op.index.max() < total else None
    return x


def windows(x: Shape, window: Shape, strides: Shape, padding: Shape) -> Shape:
    """Return how many windows fit along each axis before the channels."""
    pads = zip(padding[::2], padding[1::2], strict=True)
    return tuple(
        (size + before + after - span) // step + 1
        for size, span, step, (before, after) in zip(x[:-1], window, strides, pads, strict=True)
    )


def _verify_codes(name: str, codes: Codes, fmt: FixedFormat) -> None:
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    assert fmt.min_code <= low and high <= fmt.max_code, f"{name}: codes {low}..{high} outside {fmt}"


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
    out: dict[str, Any] = {"kind": op.kind}
    for item in fields(op):
        value = getattr(op, item.name)
        if isinstance(value, FixedFormat):
            value = value.to_json()
        elif isinstance(value, Rounding | Overflow):
            value = value.value
        elif isinstance(value, np.ndarray):
            value = _array_to_json(value)
        elif isinstance(value, tuple):
            value = list(value)
        out[item.name] = value
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
    values: dict[str, Any] = {}
    for item in fields(cls):
        value = data[item.name]
        if item.name.endswith("format") or (item.name == "accumulator" and value is not None):
            value = FixedFormat.from_json(value)
        elif item.name == "rounding":
            value = Rounding(value)
        elif item.name == "overflow":
            value = Overflow(value)
        elif item.name in ARRAYS:
            value = _array_from_json(value)
        elif isinstance(value, list):
            value = tuple(value)
        values[item.name] = value
    return cls(**values)


def to_text(graph: IntGraph) -> str:
    """Return one line per op: what it is, its shape, formats and weights."""
    returns = f" -> {', '.join(graph.outputs)}" if graph.outputs != (graph.ops[-1].name,) else ""
    return "\n".join([f"graph {graph.name}{returns}", *("  " + _op_to_text(op) for op in graph.ops)])


def _op_to_text(op: Op) -> str:
    what = op.function if isinstance(op, Merge) else op.kind
    parts = [f"{op.name} = {what}({', '.join(op.inputs)})", f"{'x'.join(map(str, op.shape))} {op.format}"]
    if isinstance(op, MatMul):
        parts.append(f"weight {'x'.join(map(str, op.weight.shape))} {op.weight_format}")
        if op.accumulator is not None:
            parts.append(f"acc {op.accumulator}")
    if isinstance(op, Lookup):
        parts.append(f"{len(op.starts)} runs")
    if op.divisor != 1:
        parts.append(f"divided by {op.divisor}")
    if op.rounding is not Rounding.TRN or op.overflow is not Overflow.WRAP:
        parts.append(f"{op.rounding.value} {op.overflow.value}")
    return "  ".join(parts)
