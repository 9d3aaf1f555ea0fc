"""An integer graph becomes a QKeras model: what was quantized after training is trained on.

    op                                      becomes
    input                                   an input, and a quantizer behind it
    dense, conv                             QDense, QConv1D, QConv2D, QDepthwiseConv2D with the grids of its weights
    batch norm                              FixedBatchNormalization, which is not trained: nothing of it may move
    ReLU, leaky ReLU, merge, pooling        Keras' own
    requantize                              QActivation: quantized_relu, quantized_bits, or quantized_grid
    a function's table                      the function, and the quantizer of its values

A weight may become any number of the grid that its own lies on, in as many bits. The model is held against the graph
before it is given: its own graph must give the same codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.adversarial import adversarial_inputs
from flow.errors import UnsupportedError, at, counted
from flow.frontend.extraction import extract
from flow.frontend.keras.quantizers import FUNCTIONS, TIES_TO_EVEN
from flow.frontend.trained import TrainedModel
from flow.ir import ops, reference
from flow.ir.fixed import Cast, to_values
from flow.ir.graph import IntGraph, MatMul, Op
from flow.ir.passes import lower
from flow.train import load_tensorflow, quiet_warnings
from flow.train.artefacts import configuration
from flow.train.build import activation_of
from flow.train.freeze import quantized_weights
from flow.train.frontend import evaluate
from flow.train.layers import FixedBatchNormalization
from flow.train.quantizers import quantized_grid, quantized_po2_zero

keras: Any
qkeras: Any
tf, keras, qkeras = load_tensorflow()

HELD = 128
"""Inputs that the model is held against the graph on."""
MERGED = {
    **{"add": "Add", "subtract": "Subtract", "multiply": "Multiply"},
    **{"maximum": "Maximum", "minimum": "Minimum"},
}
"""Function of a merge -> class of the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightKind:
    """What the weights of an op may become: `bits` wide, powers of two or integers on a grid of their own."""

    bits: int
    po2: bool


@quiet_warnings()
def graph_model(graph: IntGraph, quantization: Mapping[str, Any], softmaxes: Mapping[str, str] | None = None) -> Any:
    """Return a QKeras model that computes what a graph does, to be trained on.

    Args:
        graph: before any pass: one op per step.
        quantization: of the report of the run that made it: what its weights are.
        softmaxes: output op -> name of a final softmax that the graph leaves off, and the model gets back.

    Returns:
        A functional model of tf-keras, whose layers are called like the ops.

    Raises:
        UnsupportedError: an op has no layer that computes the same; the message names it.
    """
    with at(model=graph.name):
        kinds = {
            of["op"]: WeightKind(bits=module["weight_bits"], po2=module["weights"] == "po2")
            for module in quantization["modules"]
            for of in module["parameters"]
        }
        making = _Making(graph, kinds, quantization["settings"]["bias_bits"])
        for op in graph.ops:
            with at(op=op.name):
                making.tensors[op.name] = LAYERS[type(op)](making, op)
        ends = [making.tensors[name] for name in graph.outputs]
        for place, name in enumerate(graph.outputs):
            if softmaxes and name in softmaxes:
                layer = softmaxes[name]  # the last one itself, if the softmax was its activation
                layer = f"{layer}_softmax" if layer in making.tensors else layer
                ends[place] = keras.layers.Softmax(name=layer)(ends[place])
        model = keras.Model([making.ports[op.name] for op in graph.inputs], ends, name=graph.name)
        for name, weights in making.weights.items():
            model.get_layer(name).set_weights(weights)
        for name, (scale, offset) in making.folded.items():
            model.get_layer(name).set_folded(scale, offset)
        _hold(model, graph)
    return model


def _hold(model: Any, graph: IntGraph) -> None:
    """Refuse a model whose own graph gives other codes than the graph that it was made of."""
    trained = TrainedModel(
        name=graph.name, class_name="Functional", config=configuration(model), weights=quantized_weights(model)
    )
    mine = extract(trained, evaluate=evaluate)
    ends = [_scores(each, name) for each in (graph, mine) for name in each.outputs]
    pairs = list(zip(ends[: len(graph.outputs)], ends[len(graph.outputs) :], strict=True))
    codes = adversarial_inputs(lower(graph), HELD)
    if [op.cast for op in graph.inputs] != [op.cast for op in mine.inputs]:
        raise UnsupportedError("its inputs are rounded otherwise as a QKeras model", remedy=REPORT)
    wanted = reference.run(graph, codes, keep=[a for a, _ in pairs]).codes
    given = reference.run(mine, codes, keep=[b for _, b in pairs]).codes
    for a, b in pairs:
        expected, found = to_values(wanted[a], graph[a].format), to_values(given[b], mine[b].format)
        off = np.any((expected != found).reshape(len(codes), -1), axis=1)
        if off.any():
            what = f"a QKeras model gives other values for {np.count_nonzero(off)} of {counted(len(codes), 'input')}"
            raise UnsupportedError(what, op=a, remedy=REPORT)


REPORT = "please report this model"


def _scores(graph: IntGraph, name: str) -> str:
    op = graph[name]
    return op.inputs[0] if isinstance(op, ops.Softmax) else name


@dataclass(slots=True)
class _Making:
    """The model so far.

    Attributes:
        graph: what it is made of.
        kinds: op -> what its weights are.
        bias_bits: width of biases.
        tensors: op -> Keras tensor.
        ports: input -> Keras tensor.
        weights, folded: layer -> what its variables are set to.
    """

    graph: IntGraph
    kinds: Mapping[str, WeightKind]
    bias_bits: int
    tensors: dict[str, Any] = field(default_factory=dict)
    ports: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    folded: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)

    def source(self, op: Op) -> Any:
        return self.tensors[op.inputs[0]]

    def source_op(self, op: Op) -> Op:
        return self.graph[op.inputs[0]]

    def port(self, op: Op) -> Any:
        self.ports[op.name] = keras.Input(op.shape, name=op.name)
        return _quantized(self.ports[op.name], f"{op.name}_quantizer", op.cast)

    def dense(self, op: ops.Dense) -> Any:
        kernel, bias = self.quantizers(op, op.weight.values)
        self.weights[op.name] = [_floats(op.weight.values), _floats(op.bias.values)]
        layer = qkeras.QDense(op.shape[-1], kernel_quantizer=kernel, bias_quantizer=bias, name=op.name)
        return layer(self.source(op))

    def conv(self, op: ops.Conv) -> Any:
        """Append a convolution, with its padding before it where Keras has no word for that."""
        x, values, axes = self.source_op(op), op.weight.values, len(op.window.size)
        if 1 < op.groups < x.shape[-1]:
            raise UnsupportedError(f"a convolution of {op.groups} groups, which QKeras has not")
        dilation = _dilation(values, axes)
        values = values[tuple(slice(None, None, step) for step in dilation)]
        tensor, padding = self.source(op), _padding(op.window, x.shape)
        if padding is None:
            margins = op.window.pads if axes == 2 else op.window.pads[0]
            tensor = getattr(keras.layers, f"ZeroPadding{axes}D")(margins, name=f"{op.name}_padding")(tensor)
        settings = {"strides": op.window.strides, "dilation_rate": dilation, "padding": padding or "valid"}
        if op.groups == 1:
            kernel, bias = self.quantizers(op, values)
            kind = getattr(qkeras, f"QConv{axes}D")
            layer = kind(
                op.shape[-1],
                values.shape[:axes],
                kernel_quantizer=kernel,
                bias_quantizer=bias,
                name=op.name,
                **settings,
            )
        else:
            return self.depthwise(op, tensor, values, settings)
        self.weights[op.name] = [_floats(values), _floats(op.bias.values)]
        return layer(tensor)

    def depthwise(self, op: ops.Conv, tensor: Any, values: NDArray[Any], settings: dict[str, Any]) -> Any:
        """Append a depthwise convolution; of sequences, which QKeras has not, that of images one pixel high."""
        sequence, multiplier = len(op.window.size) == 1, op.shape[-1] // op.groups
        if sequence:
            values = values[np.newaxis]
            settings = {key: (1, *held) if isinstance(held, tuple) else held for key, held in settings.items()}
            settings["strides"] = (settings["strides"][1],) * 2  # of one row any stride takes it
            tensor = keras.layers.Reshape((1, *tensor.shape[1:]), name=f"{op.name}_image")(tensor)
        values = values.reshape(*values.shape[:2], op.groups, multiplier)
        kernel, bias = self.quantizers(op, values, axes=2)
        layer = qkeras.QDepthwiseConv2D(
            values.shape[:2],
            depth_multiplier=multiplier,
            depthwise_quantizer=kernel,
            bias_quantizer=bias,
            name=op.name,
            **settings,
        )
        self.weights[op.name] = [_floats(values), _floats(op.bias.values)]
        out = layer(tensor)
        return keras.layers.Reshape(op.shape, name=f"{op.name}_sequence")(out) if sequence else out

    def quantizers(self, op: MatMul, values: NDArray[np.float64], axes: int = 1) -> tuple[Any, Any]:
        """Return quantizers of weights and bias, under which the present ones stay what they are.

        Args:
            op: of which they are.
            values: its weights.
            axes: how many last axes of them have a grid each.
        """
        kind = self.kinds[op.name]
        bias, bits = op.bias.values, self.bias_bits
        finest = op.bias.format.frac_bits if bias.any() else op.format.frac_bits
        least = int(_integer_bits(bias, bits).max())
        integer = max(least, min(least + 1, bits - 1 - finest)) if bias.any() else bits - 1 - finest
        of_bias = quantized_grid(bits, int(np.clip(integer, -64, 64)))
        if kind.po2:
            exponents = np.log2(np.abs(values[values != 0])) if values.any() else np.zeros(1)
            most = int(exponents.max())
            least = min(int(exponents.min()), most - 2 ** (kind.bits - 1) + 2)
            return quantized_po2_zero(kind.bits, min_exp=least, max_exp=most), of_bias
        rows = values.reshape(-1, *values.shape[-axes:])
        per_channel = _integer_bits(rows, kind.bits)
        each = per_channel.reshape(-1).tolist()
        return quantized_grid(kind.bits, each if len(set(each)) > 1 else each[0]), of_bias

    def batchnorm(self, op: ops.BatchNorm) -> Any:
        grids = []
        for constant in (op.scale, op.offset):
            fmt = constant.format
            grids.append(quantized_grid(1 + fmt.int_bits + fmt.frac_bits, fmt.int_bits))
        self.folded[op.name] = (_floats(op.scale.values), _floats(op.offset.values))
        return FixedBatchNormalization(*grids, trainable=False, name=op.name)(self.source(op))

    def relu(self, op: ops.Relu) -> Any:
        readers = self.graph.readers(op.name)
        casts = [each for each in readers if isinstance(each, ops.Requantize) and not each.format.signed]
        if op.limit is None and len(casts) == len(readers) and op.name not in self.graph.outputs:
            return self.source(op)  # the quantizers behind it are ReLUs
        limit = None if op.limit is None else float(np.ldexp(op.limit, -self.source_op(op).format.frac_bits))
        return keras.layers.ReLU(limit, name=op.name)(self.source(op))

    def leaky_relu(self, op: ops.LeakyRelu) -> Any:
        slope = op.slope.values
        if len(np.unique(slope)) == 1:
            return keras.layers.LeakyReLU(float(slope.flat[0]), name=op.name)(self.source(op))
        spread = np.broadcast_to(slope, (*(1,) * (len(op.shape) - slope.ndim), *slope.shape))
        shared = [axis + 1 for axis, size in enumerate(spread.shape) if size == 1]
        self.weights[op.name] = [_floats(spread)]
        return keras.layers.PReLU(shared_axes=shared, trainable=False, name=op.name)(self.source(op))

    def requantize(self, op: ops.Requantize) -> Any:
        return _quantized(self.source(op), op.name, op.cast)

    def merge(self, op: ops.Merge) -> Any:
        return getattr(keras.layers, MERGED[op.function])(name=op.name)([self.tensors[name] for name in op.inputs])

    def maxpool(self, op: ops.MaxPool) -> Any:
        return self.pooled(op, "MaxPooling")

    def sumpool(self, op: ops.SumPool) -> Any:
        """Append the average that the sum is for; the sum itself where its division went into weights."""
        readers, area = self.graph.readers(op.name), op.window.pixels
        divided = all(isinstance(each, ops.Requantize) and each.cast.divisor != 1 for each in readers)
        weight = op.weight.values
        if divided or (np.unique(weight) == 1 / area).all():
            return self.pooled(op, "AveragePooling")
        whole = math.prod(op.shape[:-1]) == 1 and op.window.size == self.source_op(op).shape[:-1]
        if not whole:
            raise UnsupportedError("a sum of windows, which Keras has not")
        axes = list(range(1, len(op.window.size) + 1))
        total = tf.reduce_sum(self.source(op), axes, keepdims=True)
        return total * float(weight.flat[0]) if weight.flat[0] != 1 else total

    def pooled(self, op: ops.Pool, kind: str) -> Any:
        window, x = op.window, self.source_op(op).shape
        padding = _padding(window, x)
        if padding is None:
            raise UnsupportedError(f"pooling with padding {window.pads}, which Keras has not")
        layer = getattr(keras.layers, f"{kind}{len(window.size)}D")
        return layer(window.size, window.strides, padding=padding, name=op.name)(self.source(op))

    def reshape(self, op: ops.Reshape) -> Any:
        return keras.layers.Reshape(op.shape, name=op.name)(self.source(op))

    def gather(self, op: ops.Gather) -> Any:
        """Append what moves codes: a layer that Keras has for it, else a list of positions."""
        shapes = [self.graph[name].shape for name in op.inputs]
        starts = np.cumsum([0, *map(math.prod, shapes)])
        placed = [
            start + np.arange(math.prod(shape)).reshape(shape) for start, shape in zip(starts, shapes, strict=False)
        ]
        tensors = [self.tensors[name] for name in op.inputs]
        if len(tensors) == 1:
            layer = _move(placed[0], op)
            if layer is not None:
                return layer(tensors[0])
        of_one_rank = len(tensors) > 1 and len({len(shape) for shape in shapes}) == 1
        for axis in range(len(op.shape)) if of_one_rank else ():
            if _same(partial(np.concatenate, placed, axis), op.index):
                return keras.layers.Concatenate(axis + 1, name=op.name)(tensors)
        flat = [keras.layers.Flatten(name=f"{op.name}_flat{place}")(each) for place, each in enumerate(tensors)]
        row = keras.layers.Concatenate(name=f"{op.name}_row")(flat) if len(flat) > 1 else flat[0]
        index = op.index.reshape(-1)
        if (index < 0).any():
            row = tf.pad(row, [[0, 0], [0, 1]])
            index = np.where(index < 0, starts[-1], index)
        return keras.layers.Reshape(op.shape, name=op.name)(tf.gather(row, index.tolist(), axis=1))

    def lookup(self, op: ops.Lookup) -> Any:
        tensor = self.source(op)
        for number, function in enumerate(", ".join(op.fused).split(", ")):
            if function not in FUNCTIONS:
                raise UnsupportedError(f"a table of '{function}', which no layer of Keras computes by that name")
            tensor = keras.layers.Activation(function, name=f"{op.name}_function{number or ''}")(tensor)
        return _quantized(tensor, op.name, Cast(op.format, TIES_TO_EVEN, op.cast.overflow))

    def softmax(self, op: ops.Softmax) -> Any:
        return keras.layers.Softmax(name=op.name)(self.source(op))


LAYERS: Mapping[type[Op], Callable[[_Making, Any], Any]] = {
    ops.Input: _Making.port,
    ops.Dense: _Making.dense,
    ops.Conv: _Making.conv,
    ops.BatchNorm: _Making.batchnorm,
    ops.Relu: _Making.relu,
    ops.LeakyRelu: _Making.leaky_relu,
    ops.Requantize: _Making.requantize,
    ops.Merge: _Making.merge,
    ops.MaxPool: _Making.maxpool,
    ops.SumPool: _Making.sumpool,
    ops.Reshape: _Making.reshape,
    ops.Gather: _Making.gather,
    ops.Lookup: _Making.lookup,
    ops.Softmax: _Making.softmax,
}
"""The layers that compute what an op does."""
NOT_MADE = (ops.Scan, ops.TruthTable)
"""Ops that no graph of a quantized float model has before the passes."""


def _quantized(tensor: Any, name: str, cast: Cast) -> Any:
    """Put the quantizer that a cast is behind a tensor."""
    fmt = cast.format
    if cast.rounding != TIES_TO_EVEN:
        what = f"it rounds by {cast.rounding.value}, and QKeras' quantizers half to even"
        raise UnsupportedError(what, remedy=f"quantize with --rounding {TIES_TO_EVEN.value}")
    if fmt.int_bits >= 0 and fmt.frac_bits >= 0:
        return qkeras.QActivation(activation_of(fmt), name=name)(tensor)
    grid = quantized_grid(fmt.width, fmt.int_bits, keep_negative=fmt.signed)
    return qkeras.QActivation(grid, name=name)(tensor)


def _integer_bits(rows: NDArray[np.float64], bits: int) -> NDArray[np.int64]:
    """Return the least integer bits of each column, without the sign, with which so many bits cover it."""
    low, high = np.minimum(rows.min(axis=0), 0), np.maximum(rows.max(axis=0), 0)
    found = np.full(np.shape(high), -64, np.int64)
    empty = (low == 0) & (high == 0)
    for integer in range(-64, 65):
        limit = 2.0**integer
        short = (low < -limit) | (high > limit - limit * 2.0 ** (1 - bits))
        found = np.where(short & ~empty, integer + 1, found)
    return np.where(empty, found[~empty].max() if (~empty).any() else 0, found)


def _dilation(values: NDArray[np.float64], axes: int) -> tuple[int, ...]:
    """Return by how many pixels each axis of a window was spread: the zeros between are no weights."""
    steps = []
    for axis in range(axes):
        rows = np.moveaxis(values, axis, 0)
        spreads = [
            step
            for step in range(1, len(rows))
            if (len(rows) - 1) % step == 0 and not rows[np.arange(len(rows)) % step != 0].any()
        ]
        steps.append(max(spreads, default=1))
    return tuple(steps)


def _padding(window: Any, shape: tuple[int, ...]) -> str | None:
    """Return Keras' word for the padding of a window over an image; None if it has none."""
    if not any(window.padding):
        return "valid"
    for size, span, stride, pads in zip(shape[:-1], window.size, window.strides, window.pads, strict=True):
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        if pads != (total // 2, total - total // 2):
            return None
    return "same"


def _same(made: Callable[[], NDArray[Any]], index: NDArray[Any]) -> bool:
    """Say whether an array of positions is made so."""
    try:
        return np.array_equal(made(), index)
    except ValueError:  # shapes that do not fit
        return False


def _move(placed: NDArray[np.int64], op: ops.Gather) -> Any:
    """Return the layer of Keras that moves the codes of one tensor so, or None."""
    before, after = placed.shape, op.shape
    axes = len(before) - 1
    if len(before) != len(after) or axes not in (1, 2):
        return None
    inside = np.argwhere(op.index == 0)
    if len(inside) and after[-1] == before[-1]:
        pads = [(int(at), now - was - int(at)) for at, now, was in zip(inside[0], after, before, strict=True)]
        if min(min(pad) for pad in pads) >= 0 and _same(lambda: np.pad(placed, pads, constant_values=-1), op.index):
            margins = tuple(pads[:-1]) if axes == 2 else pads[0]
            return getattr(keras.layers, f"ZeroPadding{axes}D")(margins, name=op.name)
    factors = [now // was for now, was in zip(after, before, strict=True)]
    if factors[-1] == 1 and min(factors) > 0:
        spread = placed
        for axis, factor in enumerate(factors[:-1]):
            spread = spread.repeat(factor, axis)
        if np.array_equal(spread, op.index):
            size = tuple(factors[:-1]) if axes == 2 else factors[0]
            return getattr(keras.layers, f"UpSampling{axes}D")(size, name=op.name)
    return None


def _floats(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)
