"""The ops of a graph: frozen dataclasses, what each holds and what it means in a line.

    op      = Input                                   codes from the outside, on the grid of `format`
            | Dense | Conv                            acc = sum(x * weight) + bias, then cast to `format`
            | BatchNorm                               acc = x * scale + offset per channel, then cast to `format`
            | Relu | LeakyRelu                        max(x, 0), at most `limit` | x * slope where x < 0; cast
            | Requantize                              cast to `format`
            | Merge                                   add, subtract, multiply, maximum, minimum of its inputs; cast
            | SumPool                                 sum of each window, weighted by its padding; cast
            | MaxPool | Reshape                       choose or reorder codes; the format stays
            | Gather                                  codes and zeros at any place, from any of its inputs; exact
            | Lookup                                  a step function: the value of the run in which the code lies, of
                                                      all codes or of each channel
            | TruthTable                              a code for each number that a few bits of the inputs make; exact
            | Softmax                                 exponentials from a table over their sum; round half up
            | Scan                                    a body of ops on each row of a sequence and on states, which the
                                                      body gives anew for the next row

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

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Cast, Codes, Constant, FixedFormat, Values, to_values
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
        kept: which numbers on the last axis of its layer's output it has, where dead ones were dropped; empty for all.
        denominator: its values are those of its codes over this: what averages have left to whoever reads them.
    """

    kind: ClassVar[str]

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    cast: Cast
    layers: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    denominator: int = 1

    @property
    def format(self) -> FixedFormat:
        """Format of the output codes."""
        return self.cast.format

    def numbers(self, codes: Codes) -> Values:
        """Return the numbers that output codes stand for."""
        return to_values(codes, self.format) / self.denominator


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
        starts: int64 (runs,), ascending; the first is the input format's smallest code. With a function for each
            channel (channels, runs): those that have fewer runs repeat their last.
        values: int64, the same shape, codes of `format`.
        precise: layers whose functions are computed in float64 and rounded to float32, where float32 alone is no one
            function: software does so too.
    """

    kind: ClassVar[str] = "lookup"
    starts: Codes
    values: Codes
    precise: tuple[str, ...] = ()

    def of_channel(self, channel: int) -> tuple[Codes, Codes]:
        """Return starts and values of a channel, without repeated runs."""
        if self.starts.ndim == 1:
            return self.starts, self.values
        starts, values = self.starts[channel], self.values[channel]
        runs = int(np.searchsorted(starts, starts[-1])) + 1
        return starts[:runs], values[:runs]

    def run_of(self, x: NDArray[Any]) -> Codes:
        """Return which run of its function each code (..., channels) lies in."""
        if self.starts.ndim == 1:
            return np.asarray(np.searchsorted(self.starts, x, side="right") - 1)
        runs, channel = self.starts.shape[1], np.arange(len(self.starts))
        run, half = np.zeros(x.shape, np.int64), 1 << (runs - 1).bit_length() >> 1
        while half:
            further = np.minimum(run + half, runs - 1)
            run = np.where(x >= self.starts[channel, further], further, run)
            half >>= 1
        return run

    def value_of(self, x: NDArray[Any]) -> Codes:
        """Return the value of the function of each code (..., channels)."""
        run = self.run_of(x)
        return self.values[run] if self.starts.ndim == 1 else self.values[np.arange(len(self.values)), run]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TruthTable(Op):
    """A code for each number that a few bits of the inputs make: what a look-up table of an FPGA computes.

    Attributes:
        wires: int64 (*shape, bits): which code of the inputs (each flattened, one after another) holds each bit, the
            lowest of the number first; -1 for a bit that is 0.
        bits: int64, the same shape: which bit of that code it is, 0 for the lowest.
        values: int64 (*shape, 2**bits): the code for each number, of `format`.
    """

    kind: ClassVar[str] = "truth_table"
    wires: Codes
    bits: Codes
    values: Codes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Softmax(Op):
    """Softmax over the last axis: e = exponentials[max(x) - x], then e / sum(e), rounded half up and clamped.

    Attributes:
        exponentials: int64, one per distance of two codes of the input's format: round(2**k * exp(-distance)), k whole.
    """

    kind: ClassVar[str] = "softmax"
    exponentials: Codes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan(Op):
    """A sequence row by row: what a body of ops makes of each row and of states, which begin with zeros.

    As `Scan` of ONNX, with one sequence. The output is of every row, (rows, channels), or of the last, (channels,).

    Attributes:
        rows: how many the sequence has.
        body: ops of one row, lowered, the Inputs first: the row, then the states.
        returns: names in the body: what gives a row of the output, and then what each state is for the next row.
    """

    kind: ClassVar[str] = "scan"
    rows: int
    body: tuple[Op, ...]
    returns: tuple[str, ...]

    @property
    def every_row(self) -> bool:
        """Whether the output has a row for each of the sequence, and not only the last."""
        return len(self.shape) > 1


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
    TruthTable,
    Softmax,
    Scan,
)
MERGES = ("add", "subtract", "multiply", "maximum", "minimum")


def nested(op: Op) -> tuple[Op, ...]:
    """Return an op, and the ops of its body if it has one."""
    return (op, *op.body) if isinstance(op, Scan) else (op,)


def constants(op: Op) -> dict[str, Constant]:
    """Return the constants of an op by the names of their fields; of a Lookup, its values."""
    held = {item.name: getattr(op, item.name) for item in fields(op)}
    found = {name: value for name, value in held.items() if isinstance(value, Constant)}
    return found | ({"values": Constant(op.values, op.format)} if isinstance(op, Lookup) else {})


def arrays(op: Op) -> dict[str, Codes]:
    """Return the arrays of an op that are no constants, by the names of their fields."""
    held = {item.name: getattr(op, item.name) for item in fields(op)}
    return {name: value for name, value in held.items() if isinstance(value, np.ndarray)}
