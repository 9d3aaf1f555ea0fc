"""A network as a list of layers, in the field's words: what stands between a user's file and extraction.

The kind of a layer is the type of its settings, and the kinds are a closed set. A reader makes a `Network` of its
framework's own description; nothing behind it knows that description.

    Dense(units=10)                                     kernel (inputs, outputs) and bias in `arrays`
    Conv(axes=2, strides=(1, 1), padding=Padding.SAME)  kernel (*window, inputs / groups, outputs)
    Merge(function="add")                               several inputs
    Refused(refusal=...)                                what the reader could not express: refused when its turn comes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.ir.fixed import Cast

Margins = tuple[tuple[int, int], ...]
"""(before, after) for each axis between batch and channels."""


class Padding(Enum):
    """What surrounds an input before windows slide over it; how much depends on its size."""

    VALID = "valid"
    """Nothing."""
    SAME = "same"
    """As TensorFlow pads: one window for each stride, more at the end."""
    CAUSAL = "causal"
    """A window less one pixel, before."""


def misfit(error: Exception) -> UnsupportedError:
    """Return the refusal of a layer whose settings or arrays make Python or NumPy fail."""
    return UnsupportedError(f"its configuration or arrays do not fit ({type(error).__name__}: {error})")


@dataclass(frozen=True, slots=True)
class ClippedLine:
    """`low + (high - low) * min(max(slope * x + offset, 0), 1)`, which integers compute exactly."""

    slope: float
    offset: float
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Function:
    """An element-wise function as the network's own framework computes it.

    Attributes:
        name: what a report calls it.
        source: how the framework is asked for it: what `flow.frontend.base.Evaluate` takes.
        precise: how it is asked for the same in float64, rounded to float32 at its end; None where that is no other
            function. An approximation in float32 is no one function where its last bits, which depend on where in a
            tensor a number stands, decide on a step.
        divisor: of an average of that many tensors; 1 for any other function.
        falters: of a function that never falls, or only before its `turn`: by how many units in the last place its
            float32 values may; None for any other.
        turn: where a function that falls first and then rises does so; None for one that never falls.
        line: the clipped line that it is, if it is one with few bits.
        slope: of a function that is the number, times this below zero, at most `limit`; None for any other.
        limit: that limit.
    """

    name: str
    source: Any
    precise: Any = None
    divisor: int = 1
    falters: int | None = None
    turn: float | None = None
    line: ClippedLine | None = None
    slope: float | None = None
    limit: float = math.inf


# -- activations: what a layer does to each element at its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function of each element; where it is nothing simpler, it joins the table of the quantizer behind it."""

    function: Function


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(Activation):
    """max(x, 0), at most `limit`."""

    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakyRelu(Activation):
    """x, times `slope` where it is negative."""

    slope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer(Activation):
    """A quantizer: the cast that it is, or None if only the function says what it does; `relu` if it is a ReLU too.

    With a `scale`, powers of two (channels,), the cast stands between a division by it and a product with it.
    """

    cast: Cast | None
    relu: bool = False
    scale: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """Exponentials over their sum, along an axis counted with the batch.

    Attributes:
        axis: the axis.
        functions: the exponential of what is not above 0, and the reciprocal of what is not below 1.
    """

    axis: int = -1
    functions: tuple[Function, ...] = ()


# -- kinds of layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a layer of some kind does, apart from its arrays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port(Settings):
    """An input of the network, of a shape without the batch; None if that is not fixed but `said` so by the file."""

    shape: tuple[int, ...] | None
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Settings):
    """Nothing, at inference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Settings):
    """What cannot be expressed here, and why; raised when the turn of the layer comes."""

    refusal: UnsupportedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense(Settings):
    """A product with `kernel` (inputs, units) along the last axis; `bias` (units,) if it is biased.

    Then, if there are such, times `scale` plus `offset` (units,).

    Attributes:
        contracted: if the kernel has other than two axes, how many last axes of the input are summed: its first ones.
            The others are those of the units, over which the bias is broadcast.
    """

    contracted: int | None = None
    units: int | None = None
    biased: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LocallyConnected(Settings):
    """A convolution with other weights at each position: `kernel` (positions, window * channels, filters).

    `bias` (*positions, filters) if it is biased.

    Attributes:
        window, strides: as of a convolution, without padding.
        biased: whether it has a bias.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    biased: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Settings):
    """For each value, a whole number, that row of `table` (rows, channels); the last one for those beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Settings):
    """A convolution with `kernel` (*window, channels / groups, filters); `bias` (filters,) if it is biased.

    Attributes:
        axes: how many axes a window has.
        strides, dilation: one number for each of them.
        padding: by a rule, or (before, after) for each of them.
        groups: groups of channels that are convolved apart.
        filters: how many outputs the file says that there are; None if it does not.
        biased: whether it has a bias.
    """

    axes: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Padding | Margins
    groups: int = 1
    filters: int | None = None
    biased: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConv(Conv):
    """A convolution of each channel apart: `kernel` (*window, channels, multiplier)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparableConv(Conv):
    """A depthwise convolution (`depthwise_kernel`), then one of single pixels (`pointwise_kernel`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTranspose(Conv):
    """The gradient of a convolution: `kernel` (*window, filters, channels).

    Attributes:
        output_padding: pixels added at the end of each axis; None for as many as the padding's rule says.
    """

    output_padding: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Settings):
    """`scale` (channels,) times the input plus `offset` (channels,), along an axis counted with the batch."""

    axis: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSoftmax(Settings):
    """A softmax of step functions (`flow.frontend.step_functions`) along the last axis, to `bits` fraction bits."""

    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLayerNorm(Settings):
    """A layer normalization with a step function for its inverse root, then `scale` and `offset` (channels,).

    Attributes:
        bits: of the centered values, and of the normalized ones.
        integer: integer bits of the centered values, without the sign.
        root_bits: significant bits of the inverse root.
        epsilon: added to the variance.
    """

    bits: int
    integer: int
    root_bits: int
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(Settings):
    """Values without their mean over their standard deviation, times `scale` plus `offset` (channels,): of floats.

    Attributes:
        axis: along which there is one mean, counted with the batch.
        epsilon: added to the variance.
        root: one over the root of a variance and `epsilon`.
    """

    axis: int
    epsilon: float
    root: Function


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate(Settings):
    """Nothing but the activation of the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prelu(Settings):
    """Values, times `slope` (broadcast over the input) where they are negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Settings):
    """Something of each window.

    Attributes:
        window, strides, padding: as of a convolution; a window of None is the whole input.
        keepdims: whether the axes of one stay that a window of the whole input leaves.
    """

    window: tuple[int, ...] | None
    strides: tuple[int, ...] = ()
    padding: Padding | Margins = Padding.VALID
    keepdims: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Pool):
    """The largest value of each window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool(Pool):
    """The average of the real pixels of each window; if `scaled`, times its area times `multiplier` ()."""

    scaled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Settings):
    """Several tensors, broadcast, into one.

    Attributes:
        function: "add", "subtract", "multiply", "maximum" or "minimum".
        times: how often each of them stands there: a square is one tensor twice.
        average: of an average: what is left to do to the sum; None for others.
        same_rank: refused where the numbers of axes differ: last axes are aligned, so that samples would meet others.
    """

    function: str
    times: int = 1
    same_rank: bool = False
    average: Function | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot(Settings):
    """Products of two tensors, summed along an axis of each, counted with the batch.

    What is left of the first comes before what is left of the second; of two vectors one number is left.
    """

    axes: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenate(Settings):
    """Several tensors side by side, along an axis of one sample; along a new one if it `stacks` them."""

    axis: int = -1
    stacks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Settings):
    """Another shape, -1 for what is left; None for all in a row."""

    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Settings):
    """Margins around the axes between batch and channels, and around the channels too if there are some for these.

    `mode` says what they hold, in NumPy's words: zeros ("constant"), or what lies inside of the edge, mirrored without
    it ("reflect") or with it ("symmetric").
    """

    margins: Margins
    channels: bool = False
    mode: str = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop(Settings):
    """What is left without margins."""

    margins: Margins


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsample(Settings):
    """Each pixel, repeated along each axis."""

    factors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolate(Settings):
    """Pixels between pixels along each axis, in straight lines between their centers; powers of two times as many."""

    factors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute(Settings):
    """The axes of one sample in another order, the first counted 0."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat(Settings):
    """A vector as so many rows."""

    count: int


class Cell(Enum):
    """What a recurrent layer does at each step."""

    SIMPLE = "simple"
    """h = activation(x @ kernel + bias + h @ recurrent_kernel)."""
    LSTM = "lstm"
    """Gates i, f, o and a candidate g, of which the kernels' columns are i, f, g, o: c = f * c + i * g, and
    h = o * activation(c)."""
    GRU = "gru"
    """Gates z, r and a candidate g, the kernels' columns in this order: h = z * h + (1 - z) * g."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent(Settings):
    """A cell, step by step along a sequence: `kernel` (inputs, gates * units), `recurrent_kernel` (units, gates *
    units), and `bias` (gates * units,) if it is biased.

    It reads the sequence, and perhaps its first states. Its further outputs are its last states.

    Attributes:
        cell: what a step does.
        units: values of a state.
        activation: of the candidate, and of what an LSTM gives.
        gate: the activation of the gates.
        state: what quantizes each state before a step reads it.
        biased: whether it has a bias.
        reset_after: of a GRU: whether r multiplies the candidate's product of the state, or the state; if so, `bias`
            has two rows, the second of the product of the state.
        backwards: whether the last step is the first.
        sequences: whether the output is that of every step, in their order, or of the last.
    """

    cell: Cell
    units: int
    activation: Activation | None
    gate: Activation | None = None
    state: Activation | None = None
    biased: bool = True
    reset_after: bool = False
    backwards: bool = False
    sequences: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bidirectional(Settings):
    """Two recurrent layers over the same sequence, whose arrays are called `forward_kernel`, `backward_kernel`, ...

    Attributes:
        forward, backward: the two; the sequences of a backward one come in the order of the other.
        merge: what joins their outputs; with None that of the backward one is a further output.
    """

    forward: Recurrent
    backward: Recurrent
    merge: Concatenate | Merge | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Further(Settings):
    """Another output of the layer that it reads: the first of these is 1."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Settings):
    """What NumPy takes of a batch between brackets: slices, numbers, None for a new axis, ..., a list of numbers."""

    parts: tuple[Any, ...]


# -- arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Settings):
    """The input times `scale` plus `offset`, all three broadcast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound(Settings):
    """The "maximum" or "minimum" of the input and `bound`, or "clip" between `low` and `high`; broadcast."""

    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Settings):
    """The sum ("add"), "average" or "maximum" over axes counted with the batch; `keepdims` leaves axes of one."""

    function: str
    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Settings):
    """The matrix products of two tensors, of each of which the last two axes are exchanged before if it says so."""

    transposes: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Settings):
    """A matrix product with the constant `kernel` (inputs, outputs).

    Attributes:
        before: whether the constant stands before the tensor, so that the last axis but one is multiplied.
    """

    before: bool = False


# -- networks

Kind = TypeVar("Kind", bound=Settings, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer(Generic[Kind]):
    """One layer, applied to tensors.

    Attributes:
        name: of its output: the layer's path, with "#2" behind it for a second application of the same layer.
        path: the names of the models around it and its own, joined by "/".
        source: what the user's file calls its kind, for messages: "QDense".
        settings: what it does.
        inputs: names of the layers that it reads.
        arrays: its constants, float32, as its kind says.
        activation: what it does to each element at its end, if anything.
        quantizers: what of it is quantized already, as the file says it -> name of the quantizer.
        refusals: what is wrong with its quantizers or its kind, whatever it reads.
        rounds: whether its own framework rounds what it computes, so that no inference of it is exact.
        channels_first: whether it takes the first axis of a sample for the channels, as what reads it may not.
        time_axes: along how many first axes of a sample it does the same to each step.
    """

    name: str
    path: str
    source: str
    settings: Kind
    inputs: tuple[str, ...] = ()
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    activation: Activation | Softmax | None = None
    quantizers: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[UnsupportedError, ...] = ()
    rounds: bool = False
    channels_first: bool = False
    time_axes: int = 0

    @property
    def place(self) -> dict[str, str]:
        """Where an error about it is."""
        return {"layer": self.name, **({"class_name": self.source} if self.source else {})}

    @property
    def described(self) -> str:
        """What a message calls it."""
        return f"layer '{self.name}' ({self.source})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Layers in dataflow order.

    Attributes:
        name: of the model.
        layers: the ports first.
        outputs: names of the layers whose outputs leave the network.
        warnings: what a report must repeat.
    """

    name: str
    layers: tuple[Layer[Any], ...]
    outputs: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Layer[Any]:
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def ports(self) -> tuple[Layer[Any], ...]:
        """The inputs, in the order of the model."""
        return tuple(layer for layer in self.layers if isinstance(layer.settings, Port))

    def final_softmax(self, output: str) -> str:
        """Return the name of the softmax that gives an output; empty if it comes of something else."""
        layer = self[output]
        while isinstance(layer.settings, Identity):
            layer = self[layer.inputs[0]]
        return layer.name if isinstance(layer.activation, Softmax) else ""

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input by the name of its layer, in order, without the batch axis.

        Raises:
            UnsupportedError: an input has no fixed shape.
        """
        shapes = {}
        for layer in self.ports:
            if layer.settings.shape is None:
                said = layer.settings.said
                remedy = "give every axis but the batch a size"
                raise UnsupportedError(f"the input shape {said} is not fixed", remedy=remedy)
            shapes[layer.name] = layer.settings.shape
        return shapes
