"""IntGraph: a small typed graph of exact integer operations; `reference.run` is its meaning.

    graph   = IntGraph(name, ops)                     ops in dataflow order; the first is Input, the last the output
    op      = Input                                   codes from the outside, on the grid of `format`
            | Dense | Conv2D                          acc = sum(x * weight) + bias, then cast to `format`
            | BatchNorm                               acc = x * scale + offset per channel, then cast to `format`
            | Relu                                    max(x, 0), cast to `format`
            | Requantize                              cast to `format`
            | MaxPool2D | Flatten                     choose or reorder codes; the format stays

Every tensor is integer codes of one FixedFormat. A product of codes has `x.frac_bits + weight.frac_bits` fraction
bits; a bias is shifted left to that grid (or the products to the bias', whichever is finer), so `acc` is exact.
"Cast to `format`" is one shift, one rounding, one clamp by the op's `rounding` and `overflow` (see flow.fixed). Where
`format` holds every possible result, the cast changes nothing: `extract` makes only such ops, and `fuse_requantize`
moves the rounding of a Requantize into the op that feeds it, which is the unified module.

Layout is channels last, without a batch axis: Dense (..., n_in) -> (..., n_out); images are (height, width, channels).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from flow.fixed import Codes, FixedFormat, Overflow, Rounding

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
    layers: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input(Op):
    """Codes from outside, made from values by `quantize(values, format, rounding, overflow)`."""

    kind: ClassVar[str] = "input"

    @property
    def lowest_code(self) -> int:
        """The smallest code that reaches the port: symmetric saturation never makes `format.min_code`."""
        symmetric = self.overflow is Overflow.SAT_SYM and self.format.signed
        return -self.format.max_code if symmetric else self.format.min_code


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatMul(Op):
    """What Dense and Conv2D share: constant weights and a bias.

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense(MatMul):
    """Matrix product over the last axis; weight (n_in, n_out)."""

    kind: ClassVar[str] = "dense"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv2D(MatMul):
    """Convolution (correlation, as in Keras); weight (kernel_height, kernel_width, channels, filters).

    Attributes:
        strides: (height, width).
        padding: zeros added (top, bottom, left, right).
    """

    kind: ClassVar[str] = "conv2d"
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]


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
    """max(x, 0)."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantize(Op):
    """Cast to another format: the one quantization operation of a unified module before it is fused."""

    kind: ClassVar[str] = "requantize"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPool2D(Op):
    """Largest code of each window; the padding (top, bottom, left, right) never wins."""

    kind: ClassVar[str] = "maxpool2d"
    pool: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flatten(Op):
    """(height, width, channels) -> (height * width * channels,), row by row as Keras does."""

    kind: ClassVar[str] = "flatten"


OPS: tuple[type[Op], ...] = (Input, Dense, Conv2D, BatchNorm, Relu, Requantize, MaxPool2D, Flatten)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntGraph:
    """Ops in dataflow order.

    Attributes:
        name: identifier of the model.
        ops: the first is an Input; the last is the output.
        warnings: what a report must repeat (lines of text).
    """

    name: str
    ops: tuple[Op, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        verify(self)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __getitem__(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    @property
    def input(self) -> Input:
        """The op that takes codes from outside."""
        first = self.ops[0]
        assert isinstance(first, Input)
        return first

    @property
    def output(self) -> Op:
        """The op whose codes leave the graph."""
        return self.ops[-1]

    def readers(self, name: str) -> tuple[Op, ...]:
        """Return the ops that read the output of `name`."""
        return tuple(op for op in self.ops if name in op.inputs)

    def digest(self) -> str:
        """Return the SHA-256 of the JSON form."""
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()


def verify(graph: IntGraph) -> None:
    """Check what the types cannot say.

    Raises:
        AssertionError: names repeat, an op reads something not yet computed, shapes or code ranges do not fit: a bug
            in the pass that made the graph, never a user's fault.
    """
    assert graph.ops and isinstance(graph.ops[0], Input), "the first op is the input"
    seen: dict[str, Op] = {}
    for op in graph.ops:
        assert op.name.isidentifier() and op.name not in seen, f"op name {op.name!r} is no identifier or repeats"
        assert all(name in seen for name in op.inputs), f"{op.name}: reads {op.inputs}, which is not computed before it"
        assert len(op.inputs) == (0 if isinstance(op, Input) else 1), f"{op.name}: reads {len(op.inputs)} ops"
        if isinstance(op, MatMul):
            assert op.shape[-1] == op.weight.shape[-1] == op.bias.shape[0], f"{op.name}: channels differ"
            _verify_codes(op.name, op.weight, op.weight_format)
            _verify_codes(op.name, op.bias, op.bias_format)
        if isinstance(op, BatchNorm):
            _verify_codes(op.name, op.scale, op.scale_format)
            _verify_codes(op.name, op.offset, op.offset_format)
        if isinstance(op, MaxPool2D | Flatten):
            assert op.format == seen[op.inputs[0]].format, f"{op.name}: changes the format"
        if op.inputs:
            expected = _shape_after(op, seen[op.inputs[0]].shape)
            assert op.shape == expected, f"{op.name}: shape {op.shape} does not follow from its input: {expected}"
        seen[op.name] = op


def _shape_after(op: Op, x: Shape) -> Shape | None:
    """Return the output shape of `op` for an input of shape `x`, or None if it takes no such input."""
    if isinstance(op, Dense):
        return (*x[:-1], op.weight.shape[1]) if op.weight.shape[0] == x[-1] else None
    if isinstance(op, Conv2D):
        size, channels = op.weight.shape[:2], op.weight.shape[2]
        return (*_windows(x, size, op.strides, op.padding), op.weight.shape[3]) if channels == x[-1] else None
    if isinstance(op, MaxPool2D):
        return (*_windows(x, op.pool, op.strides, op.padding), x[-1])
    if isinstance(op, BatchNorm):
        return x if op.scale.shape == op.offset.shape == (x[-1],) else None
    return (math.prod(x),) if isinstance(op, Flatten) else x


def _windows(x: Shape, size: Shape, strides: tuple[int, int], padding: tuple[int, int, int, int]) -> Shape:
    (height, width, _), (top, bottom, left, right) = x, padding
    return (
        (height + top + bottom - size[0]) // strides[0] + 1,
        (width + left + right - size[1]) // strides[1] + 1,
    )


def _verify_codes(name: str, codes: Codes, fmt: FixedFormat) -> None:
    assert codes.dtype == np.int64, f"{name}: codes are {codes.dtype}"
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    assert fmt.min_code <= low and high <= fmt.max_code, f"{name}: codes {low}..{high} outside {fmt}"


def to_json(graph: IntGraph) -> dict[str, Any]:
    """Return the graph as JSON types; weights are nested lists of integers."""
    return {"name": graph.name, "warnings": list(graph.warnings), "ops": [_op_to_json(op) for op in graph.ops]}


def _op_to_json(op: Op) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": op.kind}
    for item in fields(op):
        value = getattr(op, item.name)
        if isinstance(value, FixedFormat):
            value = value.to_json()
        elif isinstance(value, Rounding | Overflow):
            value = value.value
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        elif isinstance(value, tuple):
            value = list(value)
        out[item.name] = value
    return out


def from_json(data: dict[str, Any]) -> IntGraph:
    """Return the graph that `to_json` wrote."""
    return IntGraph(
        name=data["name"], warnings=tuple(data["warnings"]), ops=tuple(_op_from_json(op) for op in data["ops"])
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
        elif item.name in ("weight", "bias", "scale", "offset"):
            value = np.array(value, np.int64)
        elif isinstance(value, list):
            value = tuple(value)
        values[item.name] = value
    return cls(**values)


def to_text(graph: IntGraph) -> str:
    """Return one line per op: what it is, its shape, formats and weights."""
    return "\n".join([f"graph {graph.name}", *("  " + _op_to_text(op) for op in graph.ops)])


def _op_to_text(op: Op) -> str:
    parts = [f"{op.name} = {op.kind}({', '.join(op.inputs)})", f"{'x'.join(map(str, op.shape))} {op.format}"]
    if isinstance(op, MatMul):
        parts.append(f"weight {'x'.join(map(str, op.weight.shape))} {op.weight_format}")
        if op.accumulator is not None:
            parts.append(f"acc {op.accumulator}")
    if op.rounding is not Rounding.TRN or op.overflow is not Overflow.WRAP:
        parts.append(f"{op.rounding.value} {op.overflow.value}")
    return "  ".join(parts)
