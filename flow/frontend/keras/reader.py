"""Configurations of Keras -> a `Network`: each class of QKeras and Keras as a kind of layer, with typed settings.

`LAYERS` is all that is known of them. What a configuration says and no kind can is refused there, in words that name
the key; a layer's quantizers are parsed and checked, whatever it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, shortened
from flow.frontend import layers
from flow.frontend.keras import operations, quantizers
from flow.frontend.keras.quantizers import parse_quantizer, short_name
from flow.frontend.keras.topology import BIDIRECTIONAL, FURTHER, STATES, TIME_DISTRIBUTED, Call, as_keras_2, topology
from flow.frontend.layers import Function, Layer, Margins, Network, Padding, Settings
from flow.frontend.step_functions import check_settings
from flow.frontend.trained import TrainedModel

Arrays = Mapping[str, NDArray[np.float32]]
NO_OPS = (
    *("Identity", "Dropout", "ActivityRegularization", "AlphaDropout"),
    *("GaussianNoise", "GaussianDropout", "SpatialDropout1D", "SpatialDropout2D"),
)
OF_LAST_AXIS = (
    *("Dense", "QDense", "QDenseBatchnorm", "BatchNormalization", "QBatchNormalization", "Activation", "QActivation"),
    *("FixedBatchNormalization", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "PReLU", "Softmax", *NO_OPS),
)
"""Layers that do to each step of a sequence what they do to a sample, where they read the sequence itself."""
ROUNDING = ("BatchNormalization", "QBatchNormalization", "QDenseBatchnorm")
"""Layers with a batch normalization that float32 rounds."""


def read(model: TrainedModel) -> Network:
    """Return the layers of a model whose configuration Keras 2 or Keras 3 wrote.

    Raises:
        UnsupportedError: its layers cannot be connected.
    """
    entry = as_keras_2({"class_name": model.class_name, "config": model.config})
    calls = topology(model.class_name, entry["config"])
    return Network(
        name=model.name,
        layers=tuple(_layer(call, model.weights.get(call.layer, {})) for call in calls.calls),
        outputs=calls.outputs,
        warnings=tuple(map(str, model.warnings)),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """One layer as Keras wrote it, its arrays, and how many tensors it reads."""

    class_name: str
    config: Mapping[str, Any]
    arrays: Arrays
    inputs: int

    @property
    def axes(self) -> int:
        """How many axes its windows have, from its class: "QConv2D" -> 2."""
        return 1 if "1D" in self.class_name else 2

    @property
    def biased(self) -> bool:
        return "bias" in self.arrays or bool(self.config.get("use_bias", True))

    def spatial(self, key: str, default: Any = 1) -> tuple[int, ...]:
        """Return an entry with one number for each axis between batch and channels."""
        value = self.config.get(key)
        value = default if value is None else value
        return (int(value),) * self.axes if isinstance(value, int) else tuple(int(size) for size in value)

    def margins(self, key: str) -> Margins:
        """Return (before, after) for each axis: Keras writes one number, one for each axis, or a pair for each."""
        value = self.config[key]
        if isinstance(value, int):
            return ((value, value),) * self.axes
        if self.axes == 1:
            return ((int(value[0]), int(value[1])),)
        pairs = [(entry, entry) if isinstance(entry, int) else entry for entry in value]
        return tuple((int(before), int(after)) for before, after in pairs)

    def padding(self, kind: Any, *accepted: str) -> Padding:
        if kind not in accepted:
            raise UnsupportedError(f"padding {kind!r} is not supported", remedy="use 'valid' or 'same'")
        return Padding(kind)

    def only(self, key: str, accepted: str) -> None:
        """Raise UnsupportedError unless an entry has its usual value."""
        if self.config.get(key, accepted) not in (accepted, None):
            raise UnsupportedError(f"{key}={self.config[key]!r} is not supported", remedy=f"use {accepted!r}")


def _layer(call: Call, arrays: Arrays) -> Layer[Settings]:
    source, time_axes = _Source(call.class_name, call.config, arrays, len(call.inputs)), call.time_axes
    if call.class_name in OF_LAST_AXIS:
        source, time_axes = replace(source, config=_of_sequence(call.config, time_axes)), 0
    own: dict[str, Any] = {"name": call.name, "path": call.layer, "inputs": call.inputs, "arrays": arrays}
    if call.class_name == FURTHER:
        return Layer(**own, source="", settings=layers.Further(number=call.config["number"]))
    if call.arguments is not None:
        return _operation(call, own)
    if call.class_name not in LAYERS:
        error = unknown_layer(call.class_name)
        return Layer(**own, source="", settings=layers.Refused(refusal=error), refusals=(error,))
    refusals = list(_weight_refusals(source))
    activation: layers.Activation | layers.Softmax | None = None
    settings: Settings
    first = False
    try:
        try:
            activation = ACTIVATIONS[call.class_name](source) if call.class_name in ACTIVATIONS else None
        except UnsupportedError as error:
            refusals.append(error)
        first = channels_first(call)
        settings = LAYERS[call.class_name](source)
    except UnsupportedError as error:
        settings = layers.Refused(refusal=error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        settings = layers.Refused(refusal=layers.misfit(error))
    return Layer(
        **own,
        source=call.class_name,
        settings=settings,
        activation=activation,
        quantizers=_quantizers(call.config),
        refusals=tuple(refusals),
        rounds=call.class_name in ROUNDING,
        channels_first=first,
        time_axes=time_axes,
    )


def _of_sequence(config: Mapping[str, Any], time_axes: int) -> Mapping[str, Any]:
    """Return the configuration of a layer that reads a sequence where it read its steps."""
    given = config.get("axis", -1)
    axis = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
    return {**config, "axis": axis + time_axes} if isinstance(axis, int) and axis > 0 else config


def unknown_layer(class_name: str) -> UnsupportedError:
    """Return the refusal of a class that is not in `LAYERS`."""
    remedy = INSTEAD.get(class_name) or f"use one of {', '.join(LAYERS)}"
    return UnsupportedError(f"{shortened(class_name)} is not supported", remedy=remedy)


def channels_first(call: Call) -> bool:
    """Say whether a layer takes the first axis of a sample for the channels.

    Raises:
        UnsupportedError: its `data_format` is neither of the two that there are.
    """
    entry = call.config.get("data_format") or "channels_last"
    if entry not in ("channels_first", "channels_last"):
        raise UnsupportedError(f"data_format={entry!r} is not known", remedy="use 'channels_last' or 'channels_first'")
    first = entry == "channels_first" and call.class_name not in NO_OPS
    if first and call.time_axes:
        raise UnsupportedError(f"{TIME_DISTRIBUTED} with channels_first is not supported", remedy="use channels_last")
    return first


def _operation(call: Call, own: Mapping[str, Any]) -> Layer[Settings]:
    """Return a function of tensors as a layer."""
    function = str(call.config.get("function"))
    try:
        assert call.arguments is not None
        said = operations.operation(function, call.arguments)
        activation = None
        if said.activation is not None:
            activation = function_activation(*said.activation)
    except UnsupportedError as error:
        refused = layers.Refused(refusal=error)
        return Layer(**own, source=f"tf.{function}", settings=refused, refusals=(error,))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return Layer(**own, source=f"tf.{function}", settings=layers.Refused(refusal=layers.misfit(error)))
    held = {**own, "arrays": said.arrays}
    return Layer(**held, source=f"tf.{function}", settings=said.settings, activation=activation)


def function_activation(name: str, config: Mapping[str, Any]) -> layers.Activation | layers.Softmax | None:
    """Return an activation by the name of its layer, or of its function, in Keras."""
    layer = name in quantizers.ACTIVATION_LAYERS
    source = _Source(name if layer else "Activation", config if layer else {"activation": name}, {}, 1)
    return ACTIVATIONS[source.class_name](source)


# -- quantizers


def _weight_refusals(source: _Source) -> Iterator[UnsupportedError]:
    """Yield what is wrong with the quantizers of weights."""
    if source.class_name in BIDIRECTIONAL:
        for inner in _both(source):
            yield from _weight_refusals(inner)
        return
    if "Separable" in source.class_name:
        used = {"depthwise_kernel": "depthwise_quantizer", "pointwise_kernel": "pointwise_quantizer"}
    else:
        used = {"kernel": "depthwise_quantizer" if "Depthwise" in source.class_name else "kernel_quantizer"}
    used |= {"recurrent_kernel": "recurrent_quantizer"} if source.class_name in STATES else {}
    used |= {"bias": "bias_quantizer"} if source.biased else {}
    for array, key in used.items():
        try:
            quantizers.check_weight_quantizer(parse_quantizer(source.config.get(key)), array)
        except UnsupportedError as error:
            yield error


def _quantizers(config: Mapping[str, Any]) -> dict[str, str]:
    """Return which entries of a configuration name a quantizer, and which."""
    named: dict[str, str] = {}
    for key, value in config.items():
        if key in ("layer", "backward_layer") and isinstance(value, Mapping):
            named |= {f"{key} {inner}": name for inner, name in _quantizers(value.get("config") or {}).items()}
        elif key.endswith(("activation", "quantizer")):
            try:
                quantizer = parse_quantizer(value)
            except UnsupportedError:  # refused with the layer's name
                continue
            if quantizer is not None and quantizer.name in (*quantizers.POSITIONAL, *quantizers.RANDOM):
                named[key] = quantizer.name
    return named


# -- activations


def _function(
    class_name: str, config: Mapping[str, Any], name: str = "", args: Mapping[str, Any] | None = None
) -> Function:
    """Return an element-wise layer as `flow.train.functions.evaluate` takes it."""
    turn = quantizers.TURNS.get(name)
    approximated = turn is not None or (name or class_name) in quantizers.APPROXIMATED
    falters: int | None = quantizers.FALTERS if approximated else 0
    if name in quantizers.FALLING:
        falters = None
    source = {"class_name": class_name, "config": dict(config)}
    precise = {**source, "precise": True} if quantizers.has_precise(name or class_name, args or {}) else None
    return Function(name or class_name.lower(), source, precise, falters=falters, turn=turn)


def _own_activation(source: _Source, key: str = "activation") -> layers.Activation | layers.Softmax | None:
    """Return what an entry of a configuration names: the activation of a layer, or what else is one."""
    entry = source.config.get(key)
    quantizer = parse_quantizer(entry)
    if quantizer is None:
        return None
    if quantizer.name in quantizers.ACTIVATION_LAYERS:
        return ACTIVATIONS[quantizer.name](_Source(quantizer.name, quantizer.args, {}, 1))
    if quantizer.name == "softmax":
        return _softmax(source)
    if quantizer.name == "relu" and not quantizer.args:
        return _positive(None)
    ours = "QActivation" if source.class_name.startswith("Q") else "Activation"
    function = _function(ours, {"activation": entry}, quantizer.name, quantizer.args)
    if quantizer.name in quantizers.FUNCTIONS:
        line = quantizers.LINES.get(quantizer.name) if ours == "QActivation" else None
        return layers.Activation(function=replace(function, line=line))
    cast = quantizers.activation_cast(quantizer, key)
    scale = quantizers.frozen_scale(quantizer)
    own = scale if len(set(scale)) > 1 else ()
    return layers.Quantizer(function=function, cast=cast, relu=quantizers.has_relu(quantizer), scale=own)


def _softmax(source: _Source) -> layers.Softmax:
    parts = _function("Activation", {"activation": "exponential"}, "exponential"), _function("Reciprocal", {})
    return layers.Softmax(axis=source.config.get("axis", -1), functions=parts)


def _positive(limit: float | None) -> layers.Relu:
    config = {"max_value": limit, "negative_slope": 0.0, "threshold": 0.0}
    return layers.Relu(function=_function("ReLU", config), limit=limit)


def _relu(source: _Source) -> layers.Activation:
    config = source.config
    slope, limit = float(config.get("negative_slope") or 0), config.get("max_value")
    if config.get("threshold") or (slope and limit is not None):
        kept = {key: config[key] for key in ("max_value", "negative_slope", "threshold") if key in config}
        return layers.Activation(function=_function("ReLU", kept))
    return _leaky(slope) if slope else _positive(None if limit is None else float(limit))


def _leaky(slope: Any) -> layers.LeakyRelu:
    rounded = float(np.array(slope, np.float32))
    function = _function("LeakyReLU", {"alpha": rounded})
    return layers.LeakyRelu(function=replace(function, falters=0 if rounded >= 0 else None), slope=rounded)


# -- kinds


def _port(source: _Source) -> Settings:
    shape = source.config.get("batch_input_shape") or source.config.get("batch_shape")
    if not isinstance(shape, list | tuple) or any(not isinstance(size, int) or size < 1 for size in shape[1:]):
        return layers.Port(shape=None, said=repr(shape))
    return layers.Port(shape=tuple(shape[1:]))


def _geometry(source: _Source) -> dict[str, Any]:
    """Return the settings that all convolutions have, but the padding."""
    return {
        "axes": source.axes,
        "strides": source.spatial("strides"),
        "dilation": source.spatial("dilation_rate"),
        "filters": source.config.get("filters"),
        "biased": source.biased,
    }


def _windows(source: _Source) -> dict[str, Any]:
    return {"padding": source.padding(source.config.get("padding", "valid"), "valid", "same", "causal")}


def _conv_transpose(source: _Source) -> Settings:
    drops = source.class_name.startswith("Q") or source.config.get("output_padding") is None  # QKeras drops it
    return layers.ConvTranspose(
        **_geometry(source),
        padding=source.padding(source.config["padding"], "valid", "same"),
        output_padding=None if drops else source.spatial("output_padding"),
    )


def _locally_connected(source: _Source) -> Settings:
    """Return the usual one of Keras' three implementations, which alone keeps the weights of a position together."""
    source.only("data_format", "channels_last")
    if source.config.get("implementation", 1) != 1 or source.config.get("padding", "valid") != "valid":
        what = f"implementation={source.config['implementation']!r}, padding={source.config.get('padding')!r}"
        raise UnsupportedError(f"{what} are not supported", remedy="use implementation=1, behind a ZeroPadding")
    return layers.LocallyConnected(
        window=source.spatial("kernel_size"), strides=source.spatial("strides"), biased=source.biased
    )


def _batchnorm(source: _Source) -> Settings:
    axis = source.config.get("axis", -1)
    return layers.BatchNorm(axis=axis[0] if isinstance(axis, list | tuple) else axis)


def _step_softmax(source: _Source) -> Settings:
    check_settings(source.config["bits"])
    return layers.StepSoftmax(bits=source.config["bits"])


def _step_layer_norm(source: _Source) -> Settings:
    settings = {key: source.config[key] for key in ("bits", "integer", "root_bits", "epsilon")}
    check_settings(**settings)
    return layers.StepLayerNorm(**settings)


def _layer_norm(source: _Source) -> Settings:
    axis, epsilon = source.config.get("axis", -1), float(source.config["epsilon"])
    if source.config.get("rms_scaling"):
        raise UnsupportedError("rms_scaling=True is not supported", remedy="normalize with the mean")
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    return layers.LayerNorm(axis=axis, epsilon=epsilon, root=_function("InverseRoot", {"epsilon": epsilon}))


def _pool(source: _Source) -> dict[str, Any]:
    if source.class_name.removeprefix("Q").startswith("Global"):
        return {"window": None, "keepdims": bool(source.config.get("keepdims"))}
    window = source.spatial("pool_size")
    return {"window": window, "strides": source.spatial("strides", window), **_windows(source)}


def _average_pool(source: _Source) -> Settings:
    quantized = parse_quantizer(source.config.get("average_quantizer")) is not None
    return layers.AveragePool(**_pool(source), scaled=quantized or "multiplier" in source.arrays)


def _merge(source: _Source) -> Settings:
    return layers.Merge(function=source.class_name.lower())


def _einsum(source: _Source) -> Settings:
    """Return an EinsumDense that multiplies by its kernel along last axes: "abc,cde->abde"."""
    equation = str(source.config["equation"]).replace(" ", "").replace("...", "")
    terms, _, result = equation.partition("->")
    x, _, kernel = terms.partition(",")
    kept = next(
        (x[:size] for size in range(len(x)) if kernel == x[size:] + result[size:] and result[:size] == x[:size]), None
    )
    if kept is None or set(kernel) & set(kept):
        raise UnsupportedError(
            f"its equation {source.config['equation']!r} is no dense layer of last axes",
            remedy="write it as 'abc,cd->abd', with the axes that are summed last in the input and first in the kernel",
        )
    axes = str(source.config.get("bias_axes") or "")
    if set(axes) & set(kept):
        raise UnsupportedError(f"its bias differs along {axes!r}", remedy="use axes of the kernel's outputs alone")
    summed = len(x) - len(kept)
    plain = (summed, len(kernel)) == (1, 2)
    return layers.Dense(biased="bias" in source.arrays, contracted=None if plain else summed)


def _embedding(source: _Source) -> Settings:
    if source.config.get("mask_zero"):
        raise UnsupportedError("mask_zero=True is not supported", remedy=UNMASKED)
    return layers.Embedding()


def _average(source: _Source) -> Settings:
    average = replace(_function("Average", {"count": source.inputs}), divisor=source.inputs)
    return layers.Merge(function="add", average=average)


def _dot(source: _Source) -> Settings:
    if source.config.get("normalize"):
        raise UnsupportedError("normalize=True divides by a root", remedy="normalize before it, or train without")
    axes = source.config["axes"]
    first, second = (axes, axes) if isinstance(axes, int) else axes
    return layers.Dot(axes=(int(first), int(second)))


def _concatenate(source: _Source) -> Settings:
    axis = int(source.config.get("axis", -1))
    if axis == 0:
        raise UnsupportedError("joins samples (axis=0)", remedy="only axes of one sample are supported")
    return layers.Concatenate(axis=axis if axis < 0 else axis - 1)


def _upsample(source: _Source) -> Settings:
    factors, how = source.spatial("size", 2), source.config.get("interpolation") or "nearest"
    if how not in ("nearest", "bilinear"):
        raise UnsupportedError(f"interpolation={how!r} is not supported", remedy="use 'nearest' or 'bilinear'")
    if how == "nearest":
        return layers.Upsample(factors=factors)
    if any(factor < 1 or factor & (factor - 1) for factor in factors):
        what = f"interpolation='bilinear' with size={factors} has weights that no binary fraction is"
        raise UnsupportedError(what, remedy="use powers of two, or 'nearest'")
    return layers.Interpolate(factors=factors)


def _recurrent(source: _Source) -> layers.Recurrent:
    """Return a cell and how it goes along its sequence.

    Source: `qkeras/qrecurrent.py` of QKeras 0.9.0. A state quantizer is applied to h and c before a step reads them;
    what a step gives is not quantized. `unit_forget_bias` is how the bias begins, dropout how it is trained.
    """
    config = source.config
    for key, remedy in (
        ("stateful", "let every sample begin with states of zero"),
        ("time_major", "put samples first"),
    ):
        if config.get(key):
            raise UnsupportedError(f"{key}=True is not supported", remedy=remedy)
    cell = layers.Cell[source.class_name.removeprefix("Q").removesuffix("RNN").upper()]
    if source.class_name == "QGRU" and parse_quantizer(config.get("recurrent_quantizer")) is None:
        what = "has no recurrent_quantizer: QKeras then multiplies states by the kernel, not by the recurrent kernel"
        raise UnsupportedError(what, remedy="give it one, such as 'quantized_bits(8,0,1,alpha=1)'")
    return layers.Recurrent(
        cell=cell,
        units=int(config["units"]),
        activation=_at_each_step(source, "activation"),
        gate=None if cell is layers.Cell.SIMPLE else _at_each_step(source, "recurrent_activation"),
        state=_at_each_step(source, "state_quantizer") if "state_quantizer" in config else None,
        biased=source.biased,
        reset_after=bool(config.get("reset_after", source.class_name == "GRU")),
        backwards=bool(config.get("go_backwards")),
        sequences=bool(config.get("return_sequences")),
    )


def _at_each_step(source: _Source, key: str) -> layers.Activation | None:
    """Return an activation of a cell, which says all of its own."""
    if key not in source.config:
        raise UnsupportedError(f"its configuration has no {key}", remedy="save the model with Keras 2")
    function = _own_activation(source, key)
    if isinstance(function, layers.Softmax):
        raise UnsupportedError("has a softmax at each step", remedy="use quantized_tanh or quantized_sigmoid")
    return function


def _both(source: _Source) -> tuple[_Source, _Source]:
    """Return the forward and the backward layer of a bidirectional one."""
    forward = source.config["layer"]
    config = forward["config"]
    opposite = {**forward, "config": {**config, "go_backwards": not config.get("go_backwards")}}
    backward = source.config.get("backward_layer") or opposite
    made = (_Source(short_name(entry["class_name"]), entry["config"], {}, 1) for entry in (forward, backward))
    return next(made), next(made)


MERGES: Mapping[Any, layers.Concatenate | layers.Merge | None] = {
    "concat": layers.Concatenate(axis=-1),
    "sum": layers.Merge(function="add"),
    "mul": layers.Merge(function="multiply"),
    "ave": layers.Merge(function="add", average=Function("average", {}, divisor=2)),
    None: None,
}
"""What joins the outputs of a bidirectional layer."""


def _bidirectional(source: _Source) -> Settings:
    both = _both(source)
    for inner in both:
        if inner.class_name not in STATES:
            raise UnsupportedError(f"is around a {inner.class_name}", remedy=f"use one of {', '.join(STATES)}")
    forward, backward = map(_recurrent, both)
    return layers.Bidirectional(
        forward=forward, backward=backward, merge=MERGES[source.config.get("merge_mode", "concat")]
    )


Reading = Callable[[_Source], Settings]
PRODUCTS: Mapping[str, Reading] = {
    **dict.fromkeys(
        ("QDense", "Dense"), lambda source: layers.Dense(units=source.config.get("units"), biased=source.biased)
    ),
    "EinsumDense": _einsum,
    "QDenseBatchnorm": lambda source: layers.Dense(units=source.config.get("units"), biased=False),
    **dict.fromkeys(
        ("QConv1D", "Conv1D", "QConv2D", "Conv2D", "QConv2DBatchnorm"),
        lambda source: layers.Conv(
            groups=int(source.config.get("groups") or 1), **_geometry(source), **_windows(source)
        ),
    ),
    **dict.fromkeys(
        ("QDepthwiseConv2D", "DepthwiseConv2D", "DepthwiseConv1D", "QDepthwiseConv2DBatchnorm"),
        lambda source: layers.DepthwiseConv(**_geometry(source), **_windows(source)),
    ),
    **dict.fromkeys(
        ("QSeparableConv1D", "SeparableConv1D", "QSeparableConv2D", "SeparableConv2D"),
        lambda source: layers.SeparableConv(**_geometry(source), **_windows(source)),
    ),
    **dict.fromkeys(("QConv2DTranspose", "Conv2DTranspose", "Conv1DTranspose"), _conv_transpose),
    **dict.fromkeys(("LocallyConnected1D", "LocallyConnected2D"), _locally_connected),
}
UNMASKED = "leave masks out: pad sequences at their beginning, and train so that what pads them is a value like others"
INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(("MultiHeadAttention", "Attention"), "use multi_head_attention of flow.train.attention"),
    "Masking": UNMASKED,
}
"""Layers instead of which there is something better to do than to use another one of the list."""
AVERAGES = (
    *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("QAveragePooling2D", "QGlobalAveragePooling2D"),
)
LAYERS: Mapping[str, Reading] = {
    "InputLayer": _port,
    **PRODUCTS,
    **dict.fromkeys(("FixedBatchNormalization", "BatchNormalization", "QBatchNormalization"), _batchnorm),
    "LayerNormalization": _layer_norm,
    "FixedSoftmax": _step_softmax,
    "FixedLayerNormalization": _step_layer_norm,
    **dict.fromkeys(("QActivation", "Activation", "ReLU", "LeakyReLU"), lambda source: layers.Activate()),
    "PReLU": lambda source: layers.Prelu(),
    "Embedding": _embedding,
    **dict.fromkeys(("ELU", "ThresholdedReLU", "Softmax"), lambda source: layers.Activate()),
    **dict.fromkeys(
        ("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
        lambda source: layers.MaxPool(**_pool(source)),
    ),
    **dict.fromkeys(AVERAGES, _average_pool),
    **dict.fromkeys(("Add", "Subtract", "Multiply"), _merge),
    "Average": _average,
    **dict.fromkeys(("Maximum", "Minimum"), _merge),
    "Dot": _dot,
    "Concatenate": _concatenate,
    "Flatten": lambda source: layers.Reshape(shape=None),
    "Reshape": lambda source: layers.Reshape(shape=tuple(int(size) for size in source.config["target_shape"])),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), lambda source: layers.Pad(margins=source.margins("padding"))),
    **dict.fromkeys(("Cropping1D", "Cropping2D"), lambda source: layers.Crop(margins=source.margins("cropping"))),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D"), _upsample),
    "Permute": lambda source: layers.Permute(axes=tuple(int(axis) - 1 for axis in source.config["dims"])),
    **dict.fromkeys(STATES, _recurrent),
    **dict.fromkeys(BIDIRECTIONAL, _bidirectional),
    "RepeatVector": lambda source: layers.Repeat(count=int(source.config["n"])),
    **dict.fromkeys(NO_OPS, lambda source: layers.Identity()),
}
"""Class -> how its configuration becomes settings."""
ACTIVATIONS: Mapping[str, Callable[[_Source], layers.Activation | layers.Softmax | None]] = {
    **dict.fromkeys((*PRODUCTS, *AVERAGES, "QActivation", "Activation"), _own_activation),
    "ReLU": _relu,
    "LeakyReLU": lambda source: _leaky(source.config.get("alpha", source.config.get("negative_slope", 0.3))),
    **dict.fromkeys(
        ("ELU", "ThresholdedReLU"),
        lambda source: layers.Activation(function=_function(source.class_name, source.config)),
    ),
    "Softmax": _softmax,
}
"""Class -> how its configuration says what it does to each element at its end; the others do nothing there."""
