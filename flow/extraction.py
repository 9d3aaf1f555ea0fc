"""Extract an IntGraph from a trained model: every number becomes an integer of a known format, or is refused by name.

One function per kind of Keras layer, in `LAYERS`; each turns a layer's configuration, quantized arrays and the tensors
it reads into ops whose formats hold every possible result, so nothing is rounded here but what the model itself rounds.

Two things that a layer computes have no fixed-point format and wait for the quantizer behind it: the quotient of an
average, and an element-wise function such as tanh. A `Tensor` carries them along; the quantizer becomes a division in
its cast, or a table over all input codes, evaluated by QKeras itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError, UnsupportedError
from flow.fixed import CODE_BITS, Codes, FixedFormat, Overflow, Rounding, covering, exact_codes
from flow.graph import (
    BatchNorm,
    Conv,
    Dense,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MaxPool,
    Merge,
    Op,
    Pool,
    Relu,
    Requantize,
    Reshape,
    Shape,
    Softmax,
    SumPool,
    windows,
)
from flow.intervals import check_division, exact_result, window_counts
from flow.names import identifier
from flow.quantizers import (
    FUNCTIONS,
    QuantizerConfig,
    activation_cast,
    check_weight_quantizer,
    parse_quantizer,
)
from flow.topology import Call, Topology, topology
from flow.trained import TrainedModel

WEIGHT_BITS = 32
"""Widest weight accepted: float32 weights that nothing quantized need more, and no one wants them as multipliers."""
TABLE_BITS = 16
"""Widest input of a table: each of its codes is evaluated."""
TABLE_VALUE_BITS = 24
"""Widest value of a table: a float32 that lies on no coarser grid is not quantized."""
SOFTMAX_BITS = 16
"""Widest input of a softmax: there is one exponential per distance of two codes."""
SOFTMAX_GUARD_BITS = 4
"""By how many bits the exponentials of a softmax are finer than its output."""
SLOPE_BITS = 16
"""Widest slope below zero that is multiplied; others go into the table of the quantizer behind them."""

Constant = tuple[Codes, FixedFormat]
Evaluate = Callable[[Sequence[Mapping[str, Any]], NDArray[np.float32]], NDArray[np.float32]]
"""What `flow.train.functions.evaluate` does: element-wise layers, given as {"class_name", "config"}, on values."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a layer gives: the codes of an op, and what still has to be done to them before they are its values.

    Attributes:
        op: name of the op.
        divisor: the values are the codes' values divided by this.
        functions: element-wise layers applied to them after that, as {"class_name", "config"}.
        layers: calls that the op does not stand for yet, because of the above.
        softmax: the final softmax that was left off, if this is its result.
    """

    op: str
    divisor: int = 1
    functions: tuple[Mapping[str, Any], ...] = ()
    layers: tuple[str, ...] = ()
    softmax: str | None = None

    @property
    def waits(self) -> bool:
        """Whether its values are not yet codes."""
        return self.divisor != 1 or bool(self.functions)


@dataclass(frozen=True, slots=True)
class Layer:
    """One Keras layer as it is called: its name, class, configuration and arrays."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    arrays: Mapping[str, NDArray[np.float32]]

    def codes(self, key: str) -> tuple[Codes, FixedFormat]:
        """Return an array as codes in the narrowest format.

        Raises:
            UnsupportedError: it is missing, not finite, or spans more bits than codes have.
        """
        values = self.arrays.get(key)
        if values is None:
            raise UnsupportedError(f"{key} is missing from the model file")
        try:
            return exact_codes(values)
        except FlowError as error:
            raise UnsupportedError(f"{key}: {error}") from None

    def quantized(self, key: str, quantizer: str) -> tuple[Codes, FixedFormat]:
        """Return a kernel or bias as codes; `quantizer` is the key of its quantizer in the configuration.

        Raises:
            UnsupportedError: its quantizer is not known, or it needs more than `WEIGHT_BITS` bits.
        """
        check_weight_quantizer(parse_quantizer(self.config.get(quantizer)), key)
        codes, fmt = self.codes(key)
        if fmt.width > WEIGHT_BITS:
            raise UnsupportedError(
                f"{key} needs {fmt.width} bits to be exact, more than {WEIGHT_BITS}; "
                f"give the layer a {quantizer} such as quantized_bits or quantized_po2"
            )
        return codes, fmt

    def bias(self, channels: int) -> dict[str, Any]:
        """Return the op fields `bias` and `bias_format`: zeros if the layer has none."""
        if "bias" not in self.arrays and not self.config.get("use_bias", True):
            return {"bias": np.zeros(channels, np.int64), "bias_format": FixedFormat(False, 1, 0)}
        bias, bias_format = self.quantized("bias", "bias_quantizer")
        if bias.shape != (channels,):
            raise UnsupportedError(f"bias {bias.shape} does not fit {channels} outputs")
        return {"bias": bias, "bias_format": bias_format}

    def kernel(self, axes: int, key: str = "kernel", quantizer: str = "kernel_quantizer") -> Constant:
        """Return an array of `axes` axes as codes with their format."""
        codes, fmt = self.quantized(key, quantizer)
        if codes.ndim != axes:
            raise UnsupportedError(f"{key} {codes.shape} does not fit; it has {axes} axes")
        return codes, fmt

    def check_outputs(self, count: int) -> None:
        """Raise UnsupportedError unless arrays with this many outputs are those of the configuration."""
        for name in ("units", "filters"):
            if self.config.get(name) not in (count, None):
                raise UnsupportedError(
                    f"its arrays have {count} outputs, which does not fit {name}={self.config[name]}"
                )

    def spatial(self, key: str, default: Any = 1) -> Shape:
        """Return a configuration entry with one number per axis between batch and channels."""
        value = self.config.get(key)
        value = default if value is None else value
        axes = spatial_axes(self.class_name)
        return (int(value),) * axes if isinstance(value, int) else tuple(int(each) for each in value)

    def only(self, key: str, accepted: Any) -> None:
        """Raise UnsupportedError unless a configuration entry has its usual value."""
        if self.config.get(key, accepted) not in (accepted, None):
            raise UnsupportedError(f"{key}={self.config[key]!r} is not supported; use {accepted!r}")


@dataclass(slots=True)
class Builder:
    """The graph so far, while layers are read one after another.

    Attributes:
        model: the trained model.
        input_format: format of the input ports that the model does not quantize itself.
        softmax: format of the outputs of a final softmax; None leaves it off.
        evaluate: evaluates element-wise layers as QKeras does.
        ops: ops so far, by name.
        tensors: outputs so far, by the name of the call.
        warnings: what a report must say.
    """

    model: TrainedModel
    input_format: FixedFormat | None
    softmax: FixedFormat | None
    evaluate: Evaluate | None
    ops: dict[str, Op] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def op(self, tensor: Tensor) -> Op:
        """Return the op of a tensor, whatever still waits on it."""
        return self.ops[tensor.op]

    def add(
        self,
        cls: type[Op],
        layer: Layer,
        inputs: Sequence[Tensor],
        shape: Shape,
        fmt: FixedFormat | None = None,
        *,
        suffix: str = "",
        **values: Any,
    ) -> Tensor:
        """Append an op; without a format it gets the one that holds each of its results exactly."""
        values.setdefault("fused", (cls.kind,))
        wide = FixedFormat(True, CODE_BITS - 1, 0)
        op = cls(
            name=identifier(layer.name + suffix, self.ops),
            inputs=tuple(tensor.op for tensor in inputs),
            shape=shape,
            format=fmt or wide,
            **values,
        )
        if fmt is None:
            frac_bits, low, high = exact_result(op, *(self.op(tensor).format for tensor in inputs))
            op = replace(op, format=covering(low, high, frac_bits))
        self.ops[op.name] = op
        return Tensor(op.name, layers=tuple(name for tensor in inputs for name in tensor.layers))

    def plain(self, layer: Layer, tensor: Tensor) -> Tensor:
        """Return a tensor whose values are codes.

        Raises:
            UnsupportedError: the values lie on no grid that a format has.
        """
        if not tensor.waits:
            return tensor
        made = self.lookup(layer, tensor) if tensor.functions else self._halved(layer, tensor)
        self.ops[made.op] = replace(self.op(made), layers=made.layers)
        return Tensor(made.op)

    def _halved(self, layer: Layer, tensor: Tensor) -> Tensor:
        x, halvings = self.op(tensor), tensor.divisor.bit_length() - 1
        if tensor.divisor != 1 << halvings:
            raise UnsupportedError(
                f"reads an average over {tensor.divisor}, which no binary fraction holds; "
                "put a quantizer (QActivation) behind the average"
            )
        fmt = FixedFormat(x.format.signed, x.format.int_bits - halvings, x.format.frac_bits + halvings)
        return self.add(Requantize, layer, [tensor], x.shape, fmt, suffix="_halved", divisor=tensor.divisor)

    def lookup(self, layer: Layer, tensor: Tensor) -> Tensor:
        """Append a table of the functions that wait on a tensor: QKeras' own results for every code.

        Raises:
            UnsupportedError: too many codes, values on no grid, or nothing to evaluate with.
        """
        x = self.op(tensor)
        names = ", ".join(_function_name(function) for function in tensor.functions)
        if x.format.width > TABLE_BITS:
            raise UnsupportedError(
                f"{names} of {x.format.width} bits; tables have at most {TABLE_BITS}: quantize its input first"
            )
        if self.evaluate is None:
            raise UnsupportedError(f"{names} is a table that QKeras fills; pass evaluate=flow.train.functions.evaluate")
        codes = np.arange(x.format.min_code, x.format.max_code + 1)
        values = np.ldexp(codes.astype(np.float32), -x.format.frac_bits) / np.float32(tensor.divisor)
        results = self.evaluate(tensor.functions, values.astype(np.float32))
        table, fmt = exact_codes(results)
        if fmt.width > TABLE_VALUE_BITS:
            raise UnsupportedError(f"the values of {names} lie on no grid; put a quantizer (QActivation) behind it")
        starts = np.flatnonzero(np.r_[True, table[1:] != table[:-1]])
        return self.add(
            Lookup, layer, [tensor], x.shape, fmt, starts=codes[starts], values=table[starts], fused=(names,)
        )


def extract(
    model: TrainedModel,
    input_format: FixedFormat | None = None,
    *,
    softmax: FixedFormat | None = None,
    evaluate: Evaluate | None = None,
) -> IntGraph:
    """Return the integer graph of a trained model, one op per step, before any pass.

    Args:
        model: the trained model.
        input_format: format of the input ports; needed when the model's first layer is no quantizer, and refused when
            it is one (the port then has the quantizer's format).
        softmax: unsigned format of the outputs of a final softmax; None leaves the softmax off.
        evaluate: fills the tables of functions that are no casts; needed for models with such functions only.

    Raises:
        UnsupportedError: something has no exact integer form here; the message names the layer.
    """
    try:
        calls = topology(model.class_name, model.config)
    except FlowError as error:
        raise error.at(model.name) from None
    builder = Builder(model, input_format, softmax, evaluate)
    absorbed = _quantizing_readers(calls)
    for call in calls.calls:
        try:
            builder.tensors[call.name] = _tensor(builder, call, absorbed)
        except FlowError as error:
            raise error.at(model.name) from None
    outputs = [_output(builder, calls, name) for name in calls.outputs]
    if input_format is not None and set(absorbed) == {call.name for call in calls.inputs}:
        raise UnsupportedError(
            f"{model.name}: the model quantizes its own input, so its port has that format; drop --input-format"
        )
    ops = tuple(builder.ops.values())
    if all(isinstance(op, Input) for op in ops):
        raise UnsupportedError(f"{model.name}: the model computes nothing after its input")
    return IntGraph(
        name=identifier(model.name, ()),
        ops=ops,
        outputs=tuple(outputs),
        warnings=(*model.warnings, *builder.warnings),
    )


def _tensor(builder: Builder, call: Call, absorbed: Mapping[str, Call]) -> Tensor:
    """Return what a call gives.

    Raises:
        UnsupportedError: it has no exact integer form; the message names the layer.
    """
    layer = Layer(call.name, call.class_name, call.config, builder.model.weights.get(call.layer, {}))
    handler = LAYERS.get(call.class_name)
    if handler is None:
        raise UnsupportedError(
            f"layer '{call.name}': {call.class_name} is not supported; use one of {', '.join(LAYERS)}"
        )
    try:
        inputs = [builder.tensors[name] for name in call.inputs]
        before = [tensor.softmax for tensor in inputs if tensor.softmax is not None]
        if before and call.class_name not in NO_OPS:
            raise UnsupportedError(f"comes after the softmax '{before[0]}'; only a final softmax is supported")
        if call.class_name == "InputLayer":
            tensor = _input(builder, layer, absorbed.get(call.name))
        elif call in absorbed.values():
            tensor = inputs[0]
        else:
            tensor = handler(builder, layer, inputs)
        return _named(builder, layer, inputs, tensor)
    except FlowError as error:
        raise error.at(f"layer '{call.name}' ({call.class_name})") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"layer '{call.name}' ({call.class_name}): its configuration or arrays do not fit "
            f"({type(error).__name__}: {error})"
        ) from None


def refusals(
    model: TrainedModel,
    input_format: FixedFormat | None = None,
    *,
    softmax: FixedFormat | None = None,
    evaluate: Evaluate | None = None,
) -> tuple[str, ...]:
    """Return all that `extract` refuses in a model, layer by layer; nothing if it takes the model.

    Behind a refused layer no tensor is known; there, only classes and quantizers are looked at.
    """
    try:
        calls = topology(model.class_name, model.config)
    except FlowError as error:
        return (str(error),)
    builder = Builder(model, input_format, softmax, evaluate)
    absorbed = _quantizing_readers(calls)
    found: list[str] = []
    for call in calls.calls:
        if call.class_name in LAYERS and not all(name in builder.tensors for name in call.inputs):
            found += _own_refusals(call)
            continue
        try:
            builder.tensors[call.name] = _tensor(builder, call, absorbed)
        except FlowError as error:
            found.append(str(error))
    if not found:
        try:
            extract(model, input_format, softmax=softmax, evaluate=evaluate)
        except FlowError as error:
            found.append(str(error).removeprefix(f"{model.name}: "))
    return tuple(found)


def _own_refusals(call: Call) -> Iterator[str]:
    """Yield what is wrong with a layer whatever it reads: its quantizers."""
    used = ("bias_quantizer",) if call.config.get("use_bias", True) else ()
    for key in ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer", *used, "activation"):
        try:
            quantizer = parse_quantizer(call.config.get(key))
            if key != "activation":
                check_weight_quantizer(quantizer, key.removesuffix("_quantizer"))
            elif quantizer is not None and quantizer.name not in ("relu", "softmax", *FUNCTIONS):
                activation_cast(quantizer, key)
        except FlowError as error:
            yield f"layer '{call.name}' ({call.class_name}): {error}"


def quantizes_its_input(model: TrainedModel) -> bool:
    """Say whether each input goes into an activation quantizer first, so that the formats of the ports are known."""
    calls = topology(model.class_name, model.config)
    return set(_quantizing_readers(calls)) == {call.name for call in calls.inputs}


def _quantizing_readers(calls: Topology) -> dict[str, Call]:
    """Return, by name of the input, the cast that alone reads it, through layers that do nothing."""
    found = {}
    for port in calls.inputs:
        name = port.name
        while name not in calls.outputs:
            readers = [call for call in calls.calls if name in call.inputs]
            if len(readers) != 1:
                break
            if _input_cast(readers[0]) is not None:
                found[port.name] = readers[0]
            if readers[0].class_name not in NO_OPS:
                break
            name = readers[0].name
    return found


def _input_cast(call: Call) -> QuantizerConfig | None:
    """Return the quantizer of a call if it is an activation layer that is a cast."""
    if call.class_name not in ("QActivation", "Activation"):
        return None
    try:
        quantizer = parse_quantizer(call.config.get("activation"))
        known = quantizer is not None and quantizer.name not in ("relu", "softmax", *FUNCTIONS)
        return quantizer if quantizer and known and activation_cast(quantizer, "activation") else None
    except UnsupportedError:  # refused with the layer's name when its turn comes
        return None


def _named(builder: Builder, layer: Layer, inputs: Sequence[Tensor], tensor: Tensor) -> Tensor:
    """Write down that the tensor is the output of the layer: with the op once nothing waits on it any more."""
    if tensor.softmax is not None and inputs and tensor.op == inputs[0].op:
        return tensor
    names = (*tensor.layers, layer.name)
    if tensor.waits:
        return replace(tensor, layers=names)
    op = builder.op(tensor)
    builder.ops[op.name] = replace(op, layers=(*op.layers, *names))
    return replace(tensor, layers=())


def _output(builder: Builder, calls: Topology, name: str) -> str:
    """Return the op whose codes are an output of the model."""
    call = next(call for call in calls.calls if call.name == name)
    layer, tensor = Layer(call.name, call.class_name, {}, {}), builder.tensors[name]
    try:
        return tensor.op if tensor.softmax is not None else builder.plain(layer, tensor).op
    except FlowError as error:
        raise error.at(f"{builder.model.name}: output '{name}' ({call.class_name})") from None


def _input(builder: Builder, layer: Layer, reader: Call | None) -> Tensor:
    shape = builder.model.input_shapes()[layer.name]
    quantizer = _input_cast(reader) if reader is not None else None
    cast = activation_cast(quantizer, "activation") if quantizer is not None else None
    if cast is not None:
        modes: dict[str, Any] = {"rounding": cast.rounding, "overflow": cast.overflow}
        return builder.add(Input, layer, [], shape, cast.format, **modes)
    if builder.input_format is None:
        raise UnsupportedError("the model does not quantize its input; give --input-format or inputs to derive it from")
    modes = {"rounding": Rounding.RND_CONV, "overflow": Overflow.SAT}
    return builder.add(Input, layer, [], shape, builder.input_format, **modes)


# -- sums of products


def _dense(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0])
    x, (weight, weight_format) = builder.op(tensor), layer.kernel(2)
    if weight.shape[0] != x.shape[-1]:
        raise UnsupportedError(f"kernel {weight.shape} does not fit its input of shape {x.shape}")
    layer.check_outputs(weight.shape[1])
    values: dict[str, Any] = {"weight": weight, "weight_format": weight_format, **layer.bias(weight.shape[1])}
    return _activate(builder, layer, builder.add(Dense, layer, [tensor], (*x.shape[:-1], weight.shape[1]), **values))


def _conv(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    kernel = layer.kernel(spatial_axes(layer.class_name) + 2)
    layer.check_outputs(kernel[0].shape[-1])
    groups = int(layer.config.get("groups") or 1)
    return _activate(
        builder, layer, _convolve(builder, layer, inputs[0], kernel, layer.bias(kernel[0].shape[-1]), groups)
    )


def _depthwise(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    channels = builder.op(inputs[0]).shape[-1]
    kernel = layer.kernel(spatial_axes(layer.class_name) + 2, quantizer="depthwise_quantizer")
    kernel = _by_channel(kernel, channels)
    filters = kernel[0].shape[-1]
    return _activate(builder, layer, _convolve(builder, layer, inputs[0], kernel, layer.bias(filters), channels))


def _separable(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    axes = spatial_axes(layer.class_name) + 2
    channels = builder.op(inputs[0]).shape[-1]
    depthwise = _by_channel(layer.kernel(axes, "depthwise_kernel", "depthwise_quantizer"), channels)
    pointwise = layer.kernel(axes, "pointwise_kernel", "pointwise_quantizer")
    layer.check_outputs(pointwise[0].shape[-1])
    none = replace(layer, arrays={}, config={**layer.config, "use_bias": False})
    between = _convolve(
        builder, layer, inputs[0], depthwise, none.bias(depthwise[0].shape[-1]), channels, suffix="_depthwise"
    )
    whole = replace(layer, config={**layer.config, "strides": 1, "padding": "valid", "dilation_rate": 1})
    return _activate(
        builder, layer, _convolve(builder, whole, between, pointwise, layer.bias(pointwise[0].shape[-1]), 1)
    )


def _by_channel(kernel: Constant, channels: int) -> Constant:
    """Return a depthwise kernel (*window, channels, multiplier) as one of a convolution with a group per channel."""
    codes, fmt = kernel
    if codes.shape[-2] != channels:
        raise UnsupportedError(f"kernel {codes.shape} does not fit its input of {channels} channels")
    return codes.reshape(*codes.shape[:-2], 1, -1), fmt


def _convolve(
    builder: Builder,
    layer: Layer,
    tensor: Tensor,
    kernel: Constant,
    bias: Mapping[str, Any],
    groups: int,
    suffix: str = "",
) -> Tensor:
    layer.only("data_format", "channels_last")
    tensor, (weight, weight_format) = builder.plain(layer, tensor), kernel
    weight = _dilated(weight, layer.spatial("dilation_rate"))
    x, strides = builder.op(tensor).shape, layer.spatial("strides")
    if len(x) != weight.ndim - 1 or weight.shape[-2] * groups != x[-1] or weight.shape[-1] % groups:
        raise UnsupportedError(f"kernel {weight.shape} in {groups} groups does not fit its input of shape {x}")
    out, padding = _window(layer.config, x, weight.shape[:-2], strides)
    values: dict[str, Any] = {
        "strides": strides,
        "padding": padding,
        "groups": groups,
        "weight": weight,
        "weight_format": weight_format,
    }
    kind = f"conv{len(out)}d" if groups == 1 else "depthwise_" * (groups == x[-1]) + f"conv{len(out)}d"
    shape = (*out, weight.shape[-1])
    return builder.add(Conv, layer, [tensor], shape, suffix=suffix, fused=(kind,), **values, **bias)


def _dilated(weight: Codes, rates: Shape) -> Codes:
    """Return a kernel with `rate - 1` zeros between its weights along each axis."""
    if all(rate == 1 for rate in rates):
        return weight
    window = tuple((size - 1) * rate + 1 for size, rate in zip(weight.shape, rates, strict=False))
    out = np.zeros((*window, *weight.shape[-2:]), np.int64)
    out[tuple(slice(None, None, rate) for rate in rates)] = weight
    return out


def _conv_transpose(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """A convolution of the flipped kernel over the input with zeros between and around its pixels.

    Source: `deconv_output_length` of Keras, and TensorFlow's gradient of a convolution, which it computes.
    """
    layer.only("data_format", "channels_last")
    axes = spatial_axes(layer.class_name)
    tensor, (weight, weight_format) = builder.plain(layer, inputs[0]), layer.kernel(axes + 2)
    weight = _dilated(weight, layer.spatial("dilation_rate"))
    x, strides = builder.op(tensor).shape, layer.spatial("strides")
    if len(x) != axes + 1 or weight.shape[-1] != x[-1]:
        raise UnsupportedError(f"kernel {weight.shape} does not fit its input of shape {x}")
    given = None if layer.class_name.startswith("Q") else layer.config.get("output_padding")  # QKeras drops it
    extra = [None] * axes if given is None else list(layer.spatial("output_padding"))
    index = np.arange(math.prod(x)).reshape(x)
    for axis in range(axes):
        places = _transposed_places(x[axis], weight.shape[axis], strides[axis], layer.config["padding"], extra[axis])
        index = _picked(index, places, axis)
    layer.check_outputs(weight.shape[-2])
    flipped = np.flip(weight, tuple(range(axes))).swapaxes(-1, -2).copy()
    stuffed = builder.add(Gather, layer, [tensor], index.shape, suffix="_stuffed", index=index, fused=("stuff",))
    out = windows(index.shape, flipped.shape[:-2], (1,) * axes, (0, 0) * axes)
    values: dict[str, Any] = {
        "strides": (1,) * axes,
        "padding": (0, 0) * axes,
        "weight": flipped,
        "weight_format": weight_format,
    }
    shape, bias = (*out, flipped.shape[-1]), layer.bias(flipped.shape[-1])
    conv = builder.add(Conv, layer, [stuffed], shape, fused=(f"conv{axes}d_transpose",), **values, **bias)
    return _activate(builder, layer, conv)


def _transposed_places(size: int, window: int, step: int, padding: str, extra: int | None) -> Codes:
    """Return, for one axis of the padded input of the flipped kernel, which input pixel stands there, or -1."""
    if padding not in ("valid", "same"):
        raise UnsupportedError(f"padding {padding!r} is not supported; use 'valid' or 'same'")
    if extra is None:
        length = size * step + (max(window - step, 0) if padding == "valid" else 0)
    else:
        length = (size - 1) * step + window - 2 * (window // 2 if padding == "same" else 0) + extra
    before = max((-(-length // step) - 1) * step + window - length, 0) // 2 if padding == "same" else 0
    stuffed = np.arange(length + window - 1) - (window - 1 - before)
    return np.where((stuffed % step == 0) & (stuffed >= 0) & (stuffed < size * step), stuffed // step, -1)


def _picked(index: Codes, places: Codes, axis: int) -> Codes:
    """Return `index` with the given places along one axis, -1 where a place is negative."""
    inside = np.expand_dims(places >= 0, tuple(range(1, index.ndim - axis)))
    return np.where(inside, np.take(index, np.maximum(places, 0), axis), -1)


def _batchnorm(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0])
    shape, axis = builder.op(tensor).shape, layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    if axis not in (-1, len(shape)):
        raise UnsupportedError(f"normalizes axis {axis}; only the last one (channels) is supported")
    scale, scale_format = layer.codes("scale")
    offset, offset_format = layer.codes("offset")
    if scale.shape != shape[-1:] or offset.shape != shape[-1:]:
        raise UnsupportedError(f"scale {scale.shape} or offset {offset.shape} does not fit {shape[-1]} channels")
    values: dict[str, Any] = {
        "scale": scale,
        "scale_format": scale_format,
        "offset": offset,
        "offset_format": offset_format,
    }
    return builder.add(BatchNorm, layer, [tensor], shape, **values)


# -- activations


def _activation(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    return _activate(builder, layer, inputs[0])


def _activate(builder: Builder, layer: Layer, tensor: Tensor) -> Tensor:
    """Do what an activation layer does, or the `activation` argument of another layer."""
    entry = layer.config.get("activation")
    quantizer = parse_quantizer(entry)
    if quantizer is None:
        return tensor
    if quantizer.name == "softmax":
        return _softmax(builder, layer, [tensor])
    if quantizer.name == "relu" and not quantizer.args:
        return _positive(builder, layer, tensor)
    ours = "QActivation" if layer.class_name.startswith("Q") else "Activation"
    applied = replace(tensor, functions=(*tensor.functions, {"class_name": ours, "config": {"activation": entry}}))
    if quantizer.name in FUNCTIONS:
        return applied
    cast = activation_cast(quantizer, "activation")
    if cast is None or tensor.functions:
        return builder.lookup(layer, applied)
    fused = ("relu", "requantize") if cast.relu else ("requantize",)
    values: dict[str, Any] = {
        "rounding": cast.rounding,
        "overflow": cast.overflow,
        "divisor": tensor.divisor,
        "fused": fused,
    }
    x = builder.op(tensor)
    out = builder.add(Requantize, layer, [tensor], x.shape, cast.format, **values)
    if tensor.divisor != 1:
        check_division(builder.op(out), x.format.frac_bits, x.format.min_code, x.format.max_code)
    return out


def _positive(builder: Builder, layer: Layer, tensor: Tensor, limit: float | None = None) -> Tensor:
    """Append max(x, 0), at most `limit`: before a division that waits, behind functions that do."""
    x = builder.op(tensor)
    code = None if limit is None else math.ldexp(limit, x.format.frac_bits)
    if tensor.functions or (code is not None and (tensor.divisor != 1 or not code.is_integer())):
        return _later(tensor, "ReLU", {"max_value": limit, "negative_slope": 0.0, "threshold": 0.0})
    if code is None or code >= x.format.max_code:
        out = builder.add(Relu, layer, [tensor], x.shape, x.format.unsigned())
    else:
        out = builder.add(Relu, layer, [tensor], x.shape, limit=int(code))
    return replace(out, divisor=tensor.divisor)


def _later(tensor: Tensor, class_name: str, config: Mapping[str, Any]) -> Tensor:
    """Leave an element-wise layer to the table of the quantizer behind it."""
    return replace(tensor, functions=(*tensor.functions, {"class_name": class_name, "config": dict(config)}))


def _function_name(function: Mapping[str, Any]) -> str:
    """Return what a report calls an element-wise layer."""
    quantizer = parse_quantizer(function["config"].get("activation"))
    return quantizer.name if quantizer is not None else str(function["class_name"]).lower()


RELU_KEYS = ("max_value", "negative_slope", "threshold")


def _relu(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    config = layer.config
    slope, limit = float(config.get("negative_slope") or 0), config.get("max_value")
    if config.get("threshold") or (slope and limit is not None):
        return _later(inputs[0], "ReLU", {key: config[key] for key in RELU_KEYS if key in config})
    if slope:
        return _leaky(builder, layer, inputs[0], np.array([slope], np.float32))
    return _positive(builder, layer, inputs[0], None if limit is None else float(limit))


def _leaky_relu(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    slope = layer.config.get("alpha", layer.config.get("negative_slope", 0.3))
    return _leaky(builder, layer, inputs[0], np.array([slope], np.float32))


def _leaky(builder: Builder, layer: Layer, tensor: Tensor, slope: NDArray[np.float32]) -> Tensor:
    """Multiply negative values by one slope, or leave it to a table if the slope has many bits."""
    codes, fmt = exact_codes(slope)
    if tensor.waits or fmt.width > SLOPE_BITS:
        return _later(tensor, "LeakyReLU", {"alpha": float(slope[0])})
    return builder.add(LeakyRelu, layer, [tensor], builder.op(tensor).shape, slope=codes, slope_format=fmt)


def _prelu(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor, (slope, fmt) = builder.plain(layer, inputs[0]), layer.codes("slope")
    shape = builder.op(tensor).shape
    if np.broadcast_shapes(slope.shape, shape) != shape:
        raise UnsupportedError(f"slopes {slope.shape} do not fit its input of shape {shape}")
    if fmt.width > SLOPE_BITS:
        raise UnsupportedError(
            f"its slopes need {fmt.width} bits to be exact, more than {SLOPE_BITS}; round them to powers of two"
        )
    return builder.add(LeakyRelu, layer, [tensor], shape, slope=slope, slope_format=fmt)


def _function(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    return _later(inputs[0], layer.class_name, layer.config)


def _softmax(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    if layer.config.get("axis", -1) not in (-1, len(builder.op(inputs[0]).shape)):
        raise UnsupportedError(f"axis={layer.config['axis']!r} is not supported; use the last one")
    tensor = builder.plain(layer, inputs[0])
    if builder.softmax is None:
        builder.warnings.append(
            f"the final softmax ('{layer.name}') is left off the hardware, which returns its inputs; argmax is the same"
        )
        return replace(tensor, softmax=layer.name)
    x, fmt = builder.op(tensor), builder.softmax
    if fmt.signed or x.format.width > SOFTMAX_BITS:
        raise UnsupportedError(
            f"the softmax has an input of {x.format} and an output of {fmt}; its input may have {SOFTMAX_BITS} bits "
            "(quantize it), its output is unsigned"
        )
    bits = fmt.width + SOFTMAX_GUARD_BITS
    if fmt.frac_bits < 0 or bits + max(fmt.frac_bits + 1, x.shape[-1].bit_length()) >= CODE_BITS - 2:
        raise UnsupportedError(f"the softmax has an output of {fmt}; use 0 to 24 fraction bits")
    distances = np.arange(1 << x.format.width) * x.format.step
    exponentials = np.rint(np.ldexp(np.exp(-distances), bits)).astype(np.int64)
    builder.warnings.append(
        f"the softmax ('{layer.name}') is an integer function of the same inputs, not QKeras' float one; "
        "the report says how far apart they are"
    )
    out = builder.add(Softmax, layer, [tensor], x.shape, fmt, exponentials=exponentials)
    return replace(out, softmax=layer.name)


# -- pooling


def _max_pool(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensor = builder.plain(layer, inputs[0]) if inputs[0].functions else inputs[0]
    geometry, shape = _pool_geometry(layer, builder.op(tensor).shape)
    out = builder.add(MaxPool, layer, [tensor], shape, builder.op(tensor).format, **geometry)
    return _without_axes(builder, layer, replace(out, divisor=tensor.divisor))


def _average_pool(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """Sums over real pixels, on a common denominator; what is left of it after powers of two waits as a divisor."""
    tensor = builder.plain(layer, inputs[0])
    x = builder.op(tensor)
    geometry, shape = _pool_geometry(layer, x.shape)
    counts = window_counts(Pool(name="counts", inputs=(), shape=shape, format=x.format, **geometry))
    common = math.lcm(*(int(count) for count in np.unique(counts)))
    weight, weight_format = exact_codes((common // counts) / (common & -common))
    divisor = common // (common & -common)
    if "multiplier" in layer.arrays or parse_quantizer(layer.config.get("average_quantizer")) is not None:
        weight, weight_format, divisor = _multiplied(layer, counts, math.prod(geometry["window"]))
    values: dict[str, Any] = {**geometry, "weight": weight, "weight_format": weight_format}
    out = replace(builder.add(SumPool, layer, [tensor], shape, fused=("average",), **values), divisor=divisor)
    return _activate(builder, layer, _without_axes(builder, layer, out))


def _multiplied(layer: Layer, counts: Codes, area: int) -> tuple[Codes, FixedFormat, int]:
    """Return the weights of QKeras' average: the mean over real pixels, times the window's area, times a multiplier.

    QKeras rounds each step to float32, which is exact for powers of two only.
    """
    if any(int(number) & (int(number) - 1) for number in (area, *np.unique(counts))):
        raise UnsupportedError(
            f"its average_quantizer multiplies a rounded average over {area} pixels; "
            "use a window of a power of two without padding, or no average_quantizer"
        )
    multiplier, fmt = layer.codes("multiplier")
    weight, weight_format = exact_codes(multiplier.item() * fmt.step * area / counts)
    return weight, weight_format, 1


def _pool_geometry(layer: Layer, x: Shape) -> tuple[dict[str, Any], Shape]:
    """Return window, strides and padding of a pooling layer, and the shape of its output."""
    layer.only("data_format", "channels_last")
    if layer.class_name.removeprefix("Q").startswith("Global"):
        window = x[:-1]
        return {"window": window, "strides": window, "padding": (0, 0) * len(window)}, (*((1,) * len(window)), x[-1])
    window = layer.spatial("pool_size")
    strides = layer.spatial("strides", window)
    out, padding = _window(layer.config, x, window, strides)
    return {"window": window, "strides": strides, "padding": padding}, (*out, x[-1])


def _without_axes(builder: Builder, layer: Layer, tensor: Tensor) -> Tensor:
    """Drop the axes of one that a global pooling leaves, unless it keeps them."""
    x = builder.op(tensor)
    if not layer.class_name.removeprefix("Q").startswith("Global") or layer.config.get("keepdims"):
        return tensor
    out = builder.add(Reshape, layer, [tensor], x.shape[-1:], x.format, suffix="_flat")
    return replace(out, divisor=tensor.divisor)


# -- several inputs


def _merge(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensors = [builder.plain(layer, tensor) for tensor in inputs]
    shape = np.broadcast_shapes(*(builder.op(tensor).shape for tensor in tensors))
    spread = [_broadcast(builder, layer, tensor, shape) for tensor in tensors]
    average = layer.class_name == "Average"
    function = "add" if average else layer.class_name.lower()
    out = spread[0]
    if len(spread) > 1:
        fused = ("average",) if average else (function,)
        out = builder.add(Merge, layer, spread, shape, function=function, fused=fused)
    count = len(spread)
    if not average or count == 1:
        return out
    if count & (count - 1):  # QKeras multiplies by 1 / count in float32: a table tells its ties
        return _later(out, "Average", {"count": count})
    return replace(out, divisor=count)


def _broadcast(builder: Builder, layer: Layer, tensor: Tensor, shape: Shape) -> Tensor:
    x = builder.op(tensor)
    if x.shape == shape:
        return tensor
    index = np.broadcast_to(np.arange(math.prod(x.shape)).reshape(x.shape), shape).copy()
    return builder.add(Gather, layer, [tensor], shape, suffix="_spread", index=index, fused=("broadcast",))


def _concatenate(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    tensors = [builder.plain(layer, tensor) for tensor in inputs]
    positions, start = [], 0
    for tensor in tensors:
        shape = builder.op(tensor).shape
        positions.append(start + np.arange(math.prod(shape)).reshape(shape))
        start += math.prod(shape)
    axis = int(layer.config.get("axis", -1))
    if axis == 0:
        raise UnsupportedError("joins samples (axis=0); only axes of one sample are supported")
    index = np.concatenate(positions, axis if axis < 0 else axis - 1)
    return builder.add(Gather, layer, tensors, index.shape, index=index, fused=("concatenate",))


# -- moving codes


def _reshape(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    layer.only("data_format", "channels_last")
    tensor = inputs[0]
    x = builder.op(tensor)
    shape: Shape = (math.prod(x.shape),)
    if layer.class_name == "Reshape":
        given = [int(size) for size in layer.config["target_shape"]]
        known = math.prod(size for size in given if size != -1)
        shape = tuple(math.prod(x.shape) // known if size == -1 else size for size in given)
    if math.prod(shape) != math.prod(x.shape):
        raise UnsupportedError(f"target_shape {shape} does not hold its input of shape {x.shape}")
    out = builder.add(Reshape, layer, [tensor], shape, x.format, fused=(layer.class_name.lower(),))
    return replace(out, divisor=tensor.divisor, functions=tensor.functions)


def _move(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """Pad, crop, repeat or transpose: what the layer does to an array of positions, it does to the codes."""
    layer.only("data_format", "channels_last")
    tensor, x = inputs[0], builder.op(inputs[0])
    if tensor.functions:
        tensor = builder.plain(layer, tensor)
        x = builder.op(tensor)
    index = MOVES[layer.class_name](layer, np.arange(math.prod(x.shape)).reshape(x.shape))
    if index.size == 0:
        raise UnsupportedError(f"leaves nothing of its input of shape {x.shape}")
    out = builder.add(Gather, layer, [tensor], index.shape, index=index, fused=(layer.class_name.lower(),))
    return replace(out, divisor=tensor.divisor)


def _padded(layer: Layer, index: Codes) -> Codes:
    return np.pad(index, [*_margins(layer, "padding"), (0, 0)], constant_values=-1)


def _cropped(layer: Layer, index: Codes) -> Codes:
    margins = zip(index.shape, _margins(layer, "cropping"), strict=False)
    return index[tuple(slice(before, size - after) for size, (before, after) in margins)]


def _margins(layer: Layer, key: str) -> list[tuple[int, int]]:
    """Return (before, after) per axis: Keras writes one number, one per axis, or a pair per axis."""
    value, axes = layer.config[key], spatial_axes(layer.class_name)
    if isinstance(value, int):
        return [(value, value)] * axes
    if axes == 1:
        return [(int(value[0]), int(value[1]))]
    pairs = [(each, each) if isinstance(each, int) else each for each in value]
    return [(int(before), int(after)) for before, after in pairs]


def _upsampled(layer: Layer, index: Codes) -> Codes:
    layer.only("interpolation", "nearest")
    for axis, factor in enumerate(layer.spatial("size", 2)):
        index = index.repeat(factor, axis)
    return index


def _permuted(layer: Layer, index: Codes) -> Codes:
    return np.asarray(index.transpose([int(axis) - 1 for axis in layer.config["dims"]]))


def _repeated(layer: Layer, index: Codes) -> Codes:
    return np.asarray(np.tile(index, (int(layer.config["n"]), 1)))


MOVES: Mapping[str, Callable[[Layer, Codes], Codes]] = {
    "ZeroPadding1D": _padded,
    "ZeroPadding2D": _padded,
    "Cropping1D": _cropped,
    "Cropping2D": _cropped,
    "UpSampling1D": _upsampled,
    "UpSampling2D": _upsampled,
    "Permute": _permuted,
    "RepeatVector": _repeated,
}


def _nothing(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0]


# -- geometry


def spatial_axes(class_name: str) -> int:
    """Return how many axes a layer's windows have, from its class: "QConv2D" -> 2."""
    return 1 if "1D" in class_name else 2


def _window(config: Mapping[str, Any], x: Shape, window: Shape, strides: Shape) -> tuple[Shape, Shape]:
    """Return how many windows fit per axis and the padding (before, after), as TensorFlow pads: more at the end."""
    if len(x) != len(window) + 1:
        raise UnsupportedError(f"reads a tensor of shape {x}; its windows {window} need {len(window) + 1} axes")
    kind = config.get("padding", "valid")
    if kind not in ("valid", "same", "causal"):
        raise UnsupportedError(f"padding {kind!r} is not supported; use 'valid' or 'same'")
    padding: list[int] = []
    for size, span, step in zip(x, window, strides, strict=False):
        total = max((-(-size // step) - 1) * step + span - size, 0)
        edges = {"valid": (0, 0), "same": (total // 2, total - total // 2), "causal": (span - 1, 0)}
        padding.extend(edges[kind])
    out = windows(x, window, strides, tuple(padding))
    if min(out) < 1:
        raise UnsupportedError(f"window {window} is larger than its input {x}")
    return out, tuple(padding)


NO_OPS = (
    "Dropout",
    "ActivityRegularization",
    "AlphaDropout",
    "GaussianNoise",
    "GaussianDropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
)
Handler = Callable[[Builder, Layer, Sequence[Tensor]], Tensor]
LAYERS: Mapping[str, Handler] = {
    "InputLayer": _nothing,
    **dict.fromkeys(("QDense", "Dense"), _dense),
    **dict.fromkeys(("QConv1D", "Conv1D", "QConv2D", "Conv2D", "QConv2DBatchnorm"), _conv),
    **dict.fromkeys(
        ("QDepthwiseConv2D", "DepthwiseConv2D", "DepthwiseConv1D", "QDepthwiseConv2DBatchnorm"), _depthwise
    ),
    **dict.fromkeys(("QSeparableConv1D", "SeparableConv1D", "QSeparableConv2D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("QConv2DTranspose", "Conv2DTranspose", "Conv1DTranspose"), _conv_transpose),
    **dict.fromkeys(("FixedBatchNormalization", "BatchNormalization", "QBatchNormalization"), _batchnorm),
    **dict.fromkeys(("QActivation", "Activation"), _activation),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    **dict.fromkeys(("ELU", "ThresholdedReLU"), _function),
    "Softmax": _softmax,
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"), _max_pool),
    **dict.fromkeys(
        (
            "AveragePooling1D",
            "AveragePooling2D",
            "GlobalAveragePooling1D",
            "GlobalAveragePooling2D",
            "QAveragePooling2D",
            "QGlobalAveragePooling2D",
        ),
        _average_pool,
    ),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _merge),
    "Concatenate": _concatenate,
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(NO_OPS, _nothing),
}
