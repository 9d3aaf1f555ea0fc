"""Random layers, made to hit corners: blocks of one layer, or of one and what belongs to it, that add it to a draft.

A block takes the draft, the tensor to read, and all earlier tensors, of which some blocks of `random_blocks` read more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flow.train.random_drafts import EPSILON, Draft, Shape, Tensor


def function(draft: Draft, source: Tensor) -> Tensor:
    """Add an activation, exact or by a table."""
    kinds = [
        "relu",
        "relu",
        "relu6",
        "leaky",
        "leaky_any",
        "prelu",
        "activation",
        "of Keras",
        "of QKeras",
        "elu",
        "thresholded",
    ]
    kind = draft.pick(kinds)
    if kind in ("relu", "relu6"):
        limit = None if kind == "relu" else draft.pick([6.0, 1.0, 0.75])
        return draft.keep("ReLU", source, max_value=limit, negative_slope=0.0, threshold=0.0)
    if kind in ("leaky", "leaky_any"):
        return draft.keep("LeakyReLU", source, alpha=draft.pick([0.25, 0.5, 0.125] if kind == "leaky" else [0.3, 0.1]))
    if kind == "prelu":
        return draft.keep("PReLU", source, shared_axes=list(range(1, len(source.shape))) or None)
    if kind == "activation":
        return draft.keep("Activation", source, activation=draft.pick(["relu", "linear"]))
    if kind == "elu":
        return draft.keep("ELU", source, alpha=1.0)
    if kind == "thresholded":
        return draft.keep("ThresholdedReLU", source, theta=draft.pick([0.5, 0.3]))
    of_keras = ["tanh", "sigmoid", "hard_sigmoid", "softsign", "elu", "selu", "softplus", "swish", "gelu", "relu6"]
    of_qkeras = ["hard_sigmoid", "smooth_sigmoid", "hard_tanh", "smooth_tanh", "binary_tanh", "binary_sigmoid"]
    if kind == "of Keras":
        return draft.keep("Activation", source, activation=draft.pick(of_keras))
    return draft.keep("QActivation", source, activation=draft.pick(of_qkeras))


def batchnorm(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a batch normalization, of any factors or of few bits."""
    epsilon = EPSILON if draft.chance(0.4) else 1e-3
    common = {"axis": [len(source.shape)], "momentum": 0.99, "epsilon": epsilon, "center": True, "scale": True}
    if draft.chance(0.1):
        scale = draft.pick(
            [
                {"class_name": "quantized_po2_zero", "config": {"bits": 4, "max_value": 2}},
                {"class_name": "quantized_grid", "config": {"bits": 6, "integer": 1}},
            ]
        )
        grid = {"class_name": "quantized_grid", "config": {"bits": draft.number(4, 10), "integer": 2}}
        return draft.keep("FixedBatchNormalization", source, **common, scale_quantizer=scale, offset_quantizer=grid)
    kind = "QBatchNormalization" if epsilon != EPSILON and draft.chance(0.2) else "BatchNormalization"
    return draft.keep(kind, source, **common)


def normalized(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a softmax or a layer normalization of integers."""
    if draft.chance(0.5):
        return draft.keep("FixedSoftmax", source, bits=draft.number(2, 9))
    settings = {"bits": draft.number(4, 9), "integer": draft.number(-1, 4), "root_bits": draft.number(2, 7)}
    quantizer = {"class_name": "quantized_grid", "config": {"bits": draft.number(2, 8), "integer": draft.number(0, 3)}}
    quantizers = {"scale_quantizer": quantizer, "offset_quantizer": quantizer}
    return draft.keep("FixedLayerNormalization", source, epsilon=2.0**-10, **settings, **quantizers)


def dense(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a dense layer, perhaps one without quantizers, or called at each step of a sequence."""
    units = draft.number(1, 6)
    shape = (*source.shape[:-1], units)
    activation = {"activation": draft.activation()} if draft.chance(0.2) else {}
    if draft.chance(0.08):
        return draft.add("Dense", [source], shape, units=units, use_bias=draft.chance(0.5), activation="linear")
    if draft.chance(0.1):
        epsilon = draft.pick([EPSILON, 1e-3])
        return draft.add("QDenseBatchnorm", [source], shape, units=units, epsilon=epsilon, **draft.weights())
    config = {"units": units, **draft.weights(), **activation}
    if len(source.shape) > 1 and draft.chance(0.2):
        inner = {"class_name": "QDense", "config": {"name": "inner", **config}}
        return draft.add("TimeDistributed", [source], shape, layer=inner)
    return draft.add("QDense", [source], shape, **config)


def at_each_step(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Do to each row of a picture, or to each step of a sequence, what one layer does."""
    inner = Draft(draft.rng, draft.style)
    port = inner.port(source.shape[1:])
    made = draft.pick([conv, pool] if len(port.shape) > 1 else [dense])(inner, port)
    entry = next(entry for entry in inner.entries if entry["name"] == made.name)
    layer = {"class_name": entry["class_name"], "config": entry["config"]}
    return draft.add("TimeDistributed", [source], (source.shape[0], *made.shape), layer=layer)


def einsum(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a dense layer by its equation."""
    units, axes = draft.number(1, 5), "abcd"[: len(source.shape) + 1]
    equation, shape = f"{axes},{axes[-1]}z->{axes[:-1]}z", (*source.shape[:-1], units)
    bias = draft.pick([None, "z"])
    return draft.add("EinsumDense", [source], shape, equation=equation, output_shape=list(shape), bias_axes=bias)


def embedding(draft: Draft, bits: int) -> Tensor:
    """Add an input of whole numbers of so many bits, and what it stands for."""
    count, units = draft.number(1, 7), draft.number(1, 4)
    config = {"input_dim": draft.number(2, 2**bits + 1), "output_dim": units}
    return draft.add("Embedding", [draft.port((count,))], (count, units), **config)


def conv(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a convolution, perhaps dilated or in groups."""
    axes, filters = len(source.shape) - 1, draft.number(1, 5)
    window, strides, padding, dilation = draw_window(draft, source.shape, spread=0.15)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "dilation_rate": dilation}
    shape = (*after(source.shape, window, strides, padding, dilation[0]), filters)
    groups = 2 if source.shape[-1] % 2 == 0 and filters % 2 == 0 and draft.chance(0.3) else 1
    common = {"filters": filters, "groups": groups, "data_format": "channels_last", **values}
    if draft.chance(0.06):
        return draft.add(f"Conv{axes}D", [source], shape, **common, use_bias=True, activation="linear")
    return draft.add(f"QConv{axes}D", [source], shape, **common, **draft.weights())


def locally_connected(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a convolution whose weights are others at each position."""
    axes, filters = len(source.shape) - 1, draft.number(1, 4)
    window, strides, _, _ = draw_window(draft, source.shape)
    shape = (*after(source.shape, window, strides, "valid"), filters)
    values = {"kernel_size": window, "strides": strides, "padding": "valid", "filters": filters}
    return draft.add(f"LocallyConnected{axes}D", [source], shape, **values, use_bias=draft.chance(0.5))


def channels_first(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Take the first axis of a sample for the channels: a convolution, a batch normalization and a pooling."""
    picture, filters, first = (
        (*source.shape[1:], source.shape[0]),
        draft.number(1, 4),
        {"data_format": "channels_first"},
    )
    window, strides, padding, _ = draw_window(draft, picture)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    sizes = after(picture, window, strides, padding)
    tensor = draft.add("QConv2D", [source], (filters, *sizes), **first, **values, **draft.weights())
    if draft.chance(0.4):
        tensor = draft.keep("BatchNormalization", tensor, axis=[1], epsilon=draft.pick([EPSILON, 1e-3]))
    tensor = draft.quantizer(tensor)
    kind, size = draft.pick([None, "MaxPooling2D", "AveragePooling2D"]), [min(2, length) for length in sizes]
    if kind is None:
        return tensor
    shape = (filters, *(length // span for length, span in zip(sizes, size, strict=True)))
    return draft.add(kind, [tensor], shape, **first, pool_size=size, strides=size, padding="valid")


def conv_batchnorm(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a convolution with a batch normalization in it."""
    filters = draft.number(1, 4)
    window, strides, padding, _ = draw_window(draft, source.shape)
    whole = draft.chance(0.5)
    strides = strides if whole else [min(strides)] * 2
    values: dict[str, Any] = {"kernel_size": window, "strides": strides, "padding": padding}
    values |= {
        "epsilon": draft.pick([EPSILON, 1e-3]),
        "use_bias": True,
        "bias_quantizer": "quantized_bits(6,2,alpha=1)",
    }
    geometry, quantizer = (
        after(source.shape, window, strides, padding),
        draft.pick(["quantized_bits(4,1,1,alpha=1)", "quantized_po2(4,1)"]),
    )
    if whole:
        values |= {"filters": filters, "kernel_quantizer": quantizer}
        return draft.add("QConv2DBatchnorm", [source], (*geometry, filters), **values)
    values |= {"depthwise_quantizer": quantizer}
    return draft.add("QDepthwiseConv2DBatchnorm", [source], (*geometry, source.shape[-1]), **values)


def depthwise(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a depthwise convolution."""
    axes = len(source.shape) - 1
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides, multiplier = [min(strides)] * axes, draft.number(1, 3)
    shape = (*after(source.shape, window, strides, padding), source.shape[-1] * multiplier)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "depth_multiplier": multiplier}
    if axes == 1 or draft.chance(0.06):
        return draft.add(f"DepthwiseConv{axes}D", [source], shape, **values, use_bias=draft.chance(0.5))
    return draft.add("QDepthwiseConv2D", [source], shape, **values, depthwise_quantizer=draft.kernel(), **draft.bias())


def recurrent(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a recurrent layer, of QKeras or of Keras with activations that quantize, perhaps in both directions."""
    kind, units, sequences = draft.pick(["SimpleRNN", "LSTM", "GRU"]), draft.number(1, 4), draft.chance(0.5)
    config = {"units": units, "return_sequences": sequences, "go_backwards": draft.chance(0.3)}
    config |= {"reset_after": draft.chance(0.5)} if kind == "GRU" else {}
    own = draft.chance(0.8)
    config |= _cell(draft, kind) if own else _keras_cell(draft, kind)
    name = f"Q{kind}" if own else kind
    if draft.chance(0.7):
        return draft.add(name, [source], (*source.shape[:-1], units) if sequences else (units,), **config)
    mode = draft.pick(["concat", "concat", "sum", "mul", "ave"])
    inner = {"class_name": name, "config": {"name": "inner", **config}}
    channels = 2 * units if mode == "concat" else units
    shape = (*source.shape[:-1], channels) if sequences else (channels,)
    outer = "QBidirectional" if own and draft.chance(0.7) else "Bidirectional"
    return draft.add(outer, [source], shape, layer=inner, merge_mode=mode)


def _cell(draft: Draft, kind: str) -> dict[str, Any]:
    gates = ["hard_sigmoid", "quantized_sigmoid(4)", "quantized_sigmoid(6,symmetric=True)", "quantized_relu(4,1)"]
    activations = ["quantized_tanh(4)", "quantized_tanh(6,use_real_tanh=True)", "hard_tanh", draft.cast()]
    config = {
        **{"activation": draft.pick([*activations, "tanh"] if kind == "SimpleRNN" else activations)},
        **({} if kind == "SimpleRNN" else {"recurrent_activation": draft.pick(gates)}),
        **{"recurrent_quantizer": draft.pick(["quantized_bits(4,0,1,alpha=1)", "quantized_po2(4,1)"])},
        **{"state_quantizer": draft.pick(["quantized_bits(5,0,1,alpha=1)", "quantized_bits(6,2,alpha=1)"])},
        **draft.weights(),
    }
    if not config["use_bias"]:
        config["bias_quantizer"] = None  # QKeras hands it the bias that is not there
    return config


def _keras_cell(draft: Draft, kind: str) -> dict[str, Any]:
    """Return a cell without quantizers of weights and states: its activations give codes."""
    tanh = {"class_name": "quantized_tanh", "config": {"bits": draft.number(3, 7)}}
    sigmoid = {"class_name": "quantized_sigmoid", "config": {"bits": draft.number(3, 7)}}
    gates = {} if kind == "SimpleRNN" else {"recurrent_activation": sigmoid}
    return {"activation": tanh, **gates, "use_bias": draft.chance(0.7)}


def separable(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a separable convolution."""
    axes, filters = len(source.shape) - 1, draft.number(1, 4)
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides = [min(strides)] * axes
    shape = (*after(source.shape, window, strides, padding), filters)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    quantizers = {"depthwise_quantizer": draft.kernel(), "pointwise_quantizer": draft.kernel()}
    if draft.chance(0.1):
        return draft.add(f"SeparableConv{axes}D", [source], shape, **values, use_bias=draft.chance(0.5))
    return draft.add(f"QSeparableConv{axes}D", [source], shape, **values, **quantizers, **draft.bias())


def transposed(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a transposed convolution."""
    axes, filters = len(source.shape) - 1, draft.number(1, 3)
    strides, window = ([draft.number(1, high) for _ in range(axes)] for high in (3, 4))
    padding = draft.pick(["valid", "same"])
    sizes = [
        size * step + (max(span - step, 0) if padding == "valid" else 0)
        for size, step, span in zip(source.shape, strides, window, strict=False)
    ]
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    if axes == 1 or draft.chance(0.1):
        return draft.add(f"Conv{axes}DTranspose", [source], (*sizes, filters), **values, use_bias=draft.chance(0.5))
    return draft.add("QConv2DTranspose", [source], (*sizes, filters), **values, **draft.weights())


def pool(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a pooling, over windows or the picture."""
    axes = len(source.shape) - 1
    kind = draft.pick(["Max", "Max", "Average", "Average", "GlobalMax", "GlobalAverage", "QAverage", "QGlobalAverage"])
    kind = kind.removeprefix("Q") if axes == 1 else kind
    if "Global" in kind:
        config = {"data_format": "channels_last", "keepdims": False}
        return draft.add(f"{kind}Pooling{axes}D", [source], source.shape[-1:], **config)
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides = strides if draft.chance(0.5) else window
    shape = (*after(source.shape, window, strides, padding), source.shape[-1])
    values = {"pool_size": window, "strides": strides, "padding": padding, "data_format": "channels_last"}
    return draft.add(f"{kind}Pooling{axes}D", [source], shape, **values)


def draw_window(draft: Draft, shape: Shape, spread: float = 0.0) -> tuple[list[int], list[int], str, list[int]]:
    """Return a window that fits: its size, strides, padding and, so often, dilation."""
    sizes = shape[:-1]
    padding = draft.pick(["valid", "same"])
    window = [int(draft.rng.integers(1, min(4, size) + 1)) for size in sizes]
    step, pointwise = draft.number(1, 3), max(window) == 1
    strides = [step if span > 1 or pointwise or draft.chance(0.1) else 1 for span in window]  # few leave rows unread
    dilated = max(strides) == 1 and draft.chance(spread)
    dilation = [2 if dilated and all(2 * w - 1 <= s for w, s in zip(window, sizes, strict=True)) else 1] * len(sizes)
    if len(sizes) == 1 and draft.chance(spread):
        padding = "causal"
    return window, strides, padding, dilation


def move(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Pad, crop, repeat or transpose."""
    axes = len(source.shape) - 1
    kind = draft.pick(["ZeroPadding", "Cropping", "UpSampling", "Permute"])
    if kind == "Permute":
        order = draft.rng.permutation(len(source.shape))
        shape = tuple(source.shape[axis] for axis in order)
        return draft.add("Permute", [source], shape, dims=[int(axis) + 1 for axis in order])
    if kind == "UpSampling":
        factors = [draft.number(1, 3) for _ in range(axes)]
        sizes = [size * factor for size, factor in zip(source.shape, factors, strict=False)]
        size = factors[0] if axes == 1 else factors
        extra = {} if axes == 1 else {"interpolation": "nearest", "data_format": "channels_last"}
        return draft.add(f"UpSampling{axes}D", [source], (*sizes, source.shape[-1]), size=size, **extra)
    margins = [[draft.number(0, 2), draft.number(0, 2)] for _ in range(axes)]
    if kind == "Cropping" and any(size <= sum(pair) for size, pair in zip(source.shape, margins, strict=False)):
        margins = [[0, 0]] * axes
    sign, key = (1, "padding") if kind == "ZeroPadding" else (-1, "cropping")
    sizes = [size + sign * sum(pair) for size, pair in zip(source.shape, margins, strict=False)]
    extra = {} if axes == 1 else {"data_format": "channels_last"}
    value = margins[0] if axes == 1 else margins
    return draft.add(f"{kind}{axes}D", [source], (*sizes, source.shape[-1]), **{key: value}, **extra)


def reshape(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Flatten."""
    return draft.add("Flatten", [source], (math.prod(source.shape),), data_format="channels_last")


def repeat(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Make a sequence of a vector, as between an encoder and a decoder."""
    count = draft.number(1, 5)
    return draft.add("RepeatVector", [source], (count, *source.shape), n=count)


def idle(draft: Draft, source: Tensor) -> Tensor:
    """Add a layer that does nothing at inference."""
    kinds: list[tuple[str, dict[str, float]]] = [
        *[("Dropout", {"rate": 0.5})] * 3,
        *[(name, {"rate": 0.25}) for name in ("AlphaDropout", "GaussianDropout")],
        *[("GaussianNoise", {"stddev": 0.5}), ("ActivityRegularization", {"l1": 0.0, "l2": 0.0}), ("Identity", {})],
    ]
    if len(source.shape) > 1:
        kinds.append((f"SpatialDropout{len(source.shape) - 1}D", {"rate": 0.5}))
    name, config = draft.pick(kinds)
    return draft.keep(name, source, **config)


def fold(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Make two axes of all values."""
    size = math.prod(source.shape)
    factor = draft.pick([divisor for divisor in (1, 2, 3, 4) if size % divisor == 0])
    return draft.add("Reshape", [source], (factor, size // factor), target_shape=[factor, -1])


def after(shape: Shape, window: Sequence[int], strides: Sequence[int], padding: str, dilation: int = 1) -> Shape:
    """Return the shape behind a window, without channels."""
    sizes = zip(shape, window, strides, strict=False)
    if padding == "valid":
        return tuple((size - ((span - 1) * dilation + 1)) // step + 1 for size, span, step in sizes)
    return tuple(-(-size // step) for size, _, step in sizes)
