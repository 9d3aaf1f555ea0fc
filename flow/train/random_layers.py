"""Random layers, made to hit corners: blocks of everything that `extract` reads, each added to a draft of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flow.train.random_drafts import Draft, Shape, Tensor

EPSILON = 2.0**-10
"""Batch normalizations with this epsilon get a variance of `1 - EPSILON` and scale by gamma, exactly; others by any
float32."""


def block(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a layer that computes, perhaps a batch normalization and functions, and a quantizer."""
    options = BLOCKS["any"] if draft.chance(0.45) else BLOCKS[f"rank {len(source.shape)}"]
    tensor = draft.pick(options)(draft, source, earlier)
    if draft.chance(0.2):
        tensor = batchnorm(draft, tensor)
    if draft.chance(0.2):
        tensor = function(draft, tensor)
    if draft.chance(0.12):
        tensor = draft.add("Dropout", [tensor], tensor.shape, rate=0.5)
    tensor = draft.quantizer(tensor)
    if draft.chance(0.25):  # its input is narrow now, as a table wants it
        tensor = draft.add("QActivation", [tensor], tensor.shape, activation=draft.other_quantizer())
    return tensor


def function(draft: Draft, source: Tensor) -> Tensor:
    """Add an activation, exact or by a table."""
    kind = draft.pick(["relu", "relu6", "leaky", "leaky_any", "prelu", "activation", "narrow function"])
    if kind == "relu":
        return draft.add("ReLU", [source], source.shape, max_value=None, negative_slope=0.0, threshold=0.0)
    if kind == "relu6":
        limit = draft.pick([6.0, 1.0, 0.75])
        return draft.add("ReLU", [source], source.shape, max_value=limit, negative_slope=0.0, threshold=0.0)
    if kind == "leaky":
        return draft.add("LeakyReLU", [source], source.shape, alpha=draft.pick([0.25, 0.5, 0.125]))
    if kind == "prelu":
        return draft.add("PReLU", [source], source.shape, shared_axes=list(range(1, len(source.shape))) or None)
    if kind == "activation":
        return draft.add("Activation", [source], source.shape, activation=draft.pick(["relu", "linear"]))
    narrow = draft.quantizer(source)
    if kind == "leaky_any":
        return draft.add("LeakyReLU", [narrow], source.shape, alpha=0.3)
    text = draft.pick(["tanh", "hard_sigmoid", "softsign", "elu"])
    return draft.add("Activation", [narrow], source.shape, activation=text)


def batchnorm(draft: Draft, source: Tensor) -> Tensor:
    """Add a batch normalization."""
    epsilon = EPSILON if draft.chance(0.8) else 1e-3
    common = {"axis": [len(source.shape)], "momentum": 0.99, "epsilon": epsilon, "center": True, "scale": True}
    kind = "QBatchNormalization" if epsilon != EPSILON and draft.chance(0.3) else "BatchNormalization"
    return draft.add(kind, [source], source.shape, **common)


def dense(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a dense layer."""
    units = int(draft.rng.integers(1, 6))
    shape = (*source.shape[:-1], units)
    activation = {"activation": draft.cast()} if draft.chance(0.2) else {}
    if draft.chance(0.15):
        return draft.add("Dense", [source], shape, units=units, use_bias=draft.chance(0.5), activation="linear")
    quantizer = draft.weight_quantizer()
    return draft.add("QDense", [source], shape, units=units, kernel_quantizer=quantizer, **draft.bias(), **activation)


def shared(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Apply one layer twice in a row."""
    units = source.shape[-1]
    once = draft.add(
        "QDense", [source], source.shape, units=units, kernel_quantizer=draft.weight_quantizer(), **draft.bias()
    )
    between = draft.quantizer(once)
    entry = next(entry for entry in draft.entries if entry["name"] == once.name)
    entry["inbound_nodes"].append([[between.name, between.node, 0, {}]])
    return Tensor(once.name, source.shape, 1)


def nested(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Put a block into a model of its own."""
    inner = Draft(draft.rng)
    port = inner.add("InputLayer", [], source.shape, batch_input_shape=[None, *source.shape], dtype="float32")
    out = inner.quantizer(dense(inner, port, ()))
    config = {
        "layers": inner.entries,
        "input_layers": [[port.name, 0, 0]],
        "output_layers": [[out.name, out.node, 0]],
    }
    made = draft.add("Functional", [source], out.shape, **config)
    return replace(made, node=1)  # Keras counts the making of a model as its node 0


def conv(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a convolution."""
    axes, filters = len(source.shape) - 1, int(draft.rng.integers(1, 5))
    window, strides, padding, dilation = draw_window(draft, source.shape, causal=True)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "dilation_rate": dilation}
    shape = (*_after(source.shape, window, strides, padding, dilation), filters)
    groups = 2 if source.shape[-1] % 2 == 0 and filters % 2 == 0 and draft.chance(0.3) else 1
    common = {"filters": filters, "groups": groups, "data_format": "channels_last", **values}
    if draft.chance(0.1):
        return draft.add(f"Conv{axes}D", [source], shape, **common, use_bias=True, activation="linear")
    return draft.add(
        f"QConv{axes}D", [source], shape, **common, kernel_quantizer=draft.weight_quantizer(), **draft.bias()
    )


def conv_batchnorm(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a convolution with a batch normalization in it."""
    filters = int(draft.rng.integers(1, 4))
    window, strides, padding, _ = draw_window(draft, source.shape)
    values: dict[str, Any] = {"kernel_size": window, "strides": strides, "padding": padding}
    values |= {"epsilon": EPSILON, "use_bias": True}
    quantizers = {"bias_quantizer": "quantized_bits(6,2,alpha=1)"}
    geometry = _after(source.shape, window, strides, padding)
    if draft.chance(0.5):
        return draft.add(
            "QConv2DBatchnorm",
            [source],
            (*geometry, filters),
            filters=filters,
            kernel_quantizer="quantized_bits(4,1,1,alpha=1)",
            **values,
            **quantizers,
        )
    values["strides"] = [min(strides)] * 2
    geometry = _after(source.shape, window, values["strides"], padding)
    return draft.add(
        "QDepthwiseConv2DBatchnorm",
        [source],
        (*geometry, source.shape[-1]),
        depthwise_quantizer="quantized_bits(4,1,1,alpha=1)",
        **values,
        **quantizers,
    )


def depthwise(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a depthwise convolution."""
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides, multiplier = [min(strides)] * 2, int(draft.rng.integers(1, 3))
    shape = (*_after(source.shape, window, strides, padding), source.shape[-1] * multiplier)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "depth_multiplier": multiplier}
    return draft.add(
        "QDepthwiseConv2D", [source], shape, **values, depthwise_quantizer=draft.weight_quantizer(), **draft.bias()
    )


def separable(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a separable convolution."""
    axes, filters = len(source.shape) - 1, int(draft.rng.integers(1, 4))
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides = [min(strides)] * axes
    shape = (*_after(source.shape, window, strides, padding), filters)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    quantizers = {
        "depthwise_quantizer": "quantized_bits(4,0,1,alpha=1)",
        "pointwise_quantizer": "quantized_po2(4,1)",
    }
    return draft.add(f"QSeparableConv{axes}D", [source], shape, **values, **quantizers, **draft.bias())


def transposed(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a transposed convolution."""
    filters, strides = int(draft.rng.integers(1, 3)), [int(draft.rng.integers(1, 3)) for _ in range(2)]
    window, padding = [int(draft.rng.integers(1, 4)) for _ in range(2)], draft.pick(["valid", "same"])
    sizes = [
        size * step + (max(span - step, 0) if padding == "valid" else 0)
        for size, step, span in zip(source.shape, strides, window, strict=False)
    ]
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    return draft.add(
        "QConv2DTranspose",
        [source],
        (*sizes, filters),
        **values,
        kernel_quantizer="quantized_bits(4,0,1,alpha=1)",
        **draft.bias(),
    )


def pool(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a pooling, over windows or the picture."""
    axes = len(source.shape) - 1
    kind = draft.pick(["Max", "Max", "Average", "Average", "GlobalMax", "GlobalAverage", "QAverage", "QGlobalAverage"])
    if kind.startswith("Q") and axes == 1:
        kind = kind.removeprefix("Q")
    if "Global" in kind:
        config = {"data_format": "channels_last", "keepdims": False}
        return draft.add(f"{kind}Pooling{axes}D", [source], source.shape[-1:], **config)
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides = strides if draft.chance(0.5) else window
    shape = (*_after(source.shape, window, strides, padding), source.shape[-1])
    values = {"pool_size": window, "strides": strides, "padding": padding, "data_format": "channels_last"}
    return draft.add(f"{kind}Pooling{axes}D", [source], shape, **values)


def draw_window(draft: Draft, shape: Shape, causal: bool = False) -> tuple[list[int], list[int], str, list[int]]:
    """Return a window that fits: its size, strides, padding and dilation."""
    sizes = shape[:-1]
    padding = draft.pick(["valid", "same"])
    window = [int(draft.rng.integers(1, min(4, size) + 1)) for size in sizes]
    strides = [int(draft.rng.integers(1, 3)) for _ in sizes] if len(sizes) == 1 else [int(draft.rng.integers(1, 3))] * 2
    dilation = [1] * len(sizes)
    if (
        causal
        and max(strides) == 1
        and draft.chance(0.15)
        and all(2 * w - 1 <= s for w, s in zip(window, sizes, strict=True))
    ):
        dilation = [2] * len(sizes)
    if causal and len(sizes) == 1 and draft.chance(0.15):
        padding = "causal"
    return window, strides, padding, dilation


def merge(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Combine with an earlier tensor of its shape, or with another branch of its own."""
    others = [tensor for tensor in earlier if tensor.shape == source.shape and tensor != source]
    other = draft.pick(others) if others and draft.chance(0.7) else draft.quantizer(_same_shape(draft, source))
    kind = draft.pick(["Add", "Add", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
    sources = [source, other] if draft.chance(0.5) else [other, source]
    if kind != "Subtract" and others and draft.chance(0.2):
        sources.append(draft.pick(others))
    return draft.add(kind, sources, source.shape)


def _same_shape(draft: Draft, source: Tensor) -> Tensor:
    """Add a dense layer or a convolution that keeps the shape."""
    channels = source.shape[-1]
    if len(source.shape) == 1 or draft.chance(0.3):
        quantizer = draft.weight_quantizer()
        return draft.add("QDense", [source], source.shape, units=channels, kernel_quantizer=quantizer, **draft.bias())
    axes = len(source.shape) - 1
    window = [int(draft.rng.integers(1, 4)) for _ in range(axes)]
    values = {"kernel_size": window, "strides": [1] * axes, "padding": "same", "filters": channels}
    quantizer = draft.weight_quantizer()
    return draft.add(f"QConv{axes}D", [source], source.shape, **values, kernel_quantizer=quantizer, **draft.bias())


def residual(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Two convolutions (or denses) and the way around them."""
    inner = draft.quantizer(_same_shape(draft, source))
    return draft.add("Add", [draft.quantizer(_same_shape(draft, inner)), source], source.shape)


def concatenate(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Join with an earlier tensor, or itself, along channels."""
    others = [tensor for tensor in earlier if tensor.shape[:-1] == source.shape[:-1]]
    other = draft.pick(others) if others else source
    return draft.add("Concatenate", [source, other], (*source.shape[:-1], source.shape[-1] + other.shape[-1]), axis=-1)


def join(draft: Draft, tensors: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Bring the last tensor and those made of the other inputs into one vector."""
    read = {source[0] for entry in draft.entries for node in entry["inbound_nodes"] for source in node}
    loose = [tensor for tensor in tensors if tensor.name not in read]
    vectors = [reshape(draft, tensor, ()) if len(tensor.shape) > 1 else tensor for tensor in loose]
    if len(vectors) == 1:
        return draft.quantizer(dense(draft, vectors[0], ()))
    joined = draft.add("Concatenate", vectors, (sum(math.prod(vector.shape) for vector in vectors),), axis=-1)
    return draft.quantizer(dense(draft, joined, ()))


def move(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Pad, crop, repeat or transpose."""
    axes = len(source.shape) - 1
    kind = draft.pick(["ZeroPadding", "Cropping", "UpSampling", "Permute"])
    if kind == "Permute":
        order = draft.rng.permutation(len(source.shape))
        dims = [int(axis) + 1 for axis in order]
        return draft.add("Permute", [source], tuple(source.shape[axis] for axis in order), dims=dims)
    if kind == "UpSampling":
        factors = [int(draft.rng.integers(1, 3)) for _ in range(axes)]
        sizes = [size * factor for size, factor in zip(source.shape, factors, strict=False)]
        size = factors[0] if axes == 1 else factors
        extra = {} if axes == 1 else {"interpolation": "nearest", "data_format": "channels_last"}
        return draft.add(f"UpSampling{axes}D", [source], (*sizes, source.shape[-1]), size=size, **extra)
    margins = [[int(draft.rng.integers(0, 2)), int(draft.rng.integers(0, 2))] for _ in range(axes)]
    if kind == "Cropping" and any(size <= sum(pair) for size, pair in zip(source.shape, margins, strict=False)):
        margins = [[0, 0]] * axes
    sign, key = (1, "padding") if kind == "ZeroPadding" else (-1, "cropping")
    sizes = [size + sign * sum(pair) for size, pair in zip(source.shape, margins, strict=False)]
    extra = {} if axes == 1 else {"data_format": "channels_last"}
    value = margins[0] if axes == 1 else margins
    return draft.add(f"{kind}{axes}D", [source], (*sizes, source.shape[-1]), **{key: value}, **extra)


def reshape(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Flatten."""
    return draft.add("Flatten", [source], (math.prod(source.shape),), data_format="channels_last")


def fold(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Make two axes of all values."""
    size = math.prod(source.shape)
    factor = draft.pick([divisor for divisor in (1, 2, 3, 4) if size % divisor == 0])
    return draft.add("Reshape", [source], (factor, size // factor), target_shape=[factor, -1])


def norm(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a batch normalization by itself."""
    return batchnorm(draft, source)


def _after(
    shape: Shape, window: Sequence[int], strides: Sequence[int], padding: str, dilation: Sequence[int] | None = None
) -> Shape:
    """Return the shape behind a window, without channels."""
    out = []
    for axis, (span, step) in enumerate(zip(window, strides, strict=True)):
        size, reach = shape[axis], (span - 1) * (dilation[axis] if dilation else 1) + 1
        out.append((size - reach) // step + 1 if padding == "valid" else -(-size // step))
    return tuple(out)


Block = Callable[[Draft, Tensor, Sequence[Tensor]], Tensor]
_SPATIAL: tuple[Block, ...] = (conv, conv, separable, pool, pool, move, reshape)
BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "any": (dense, dense, merge, residual, concatenate, shared, nested, norm),
    "rank 1": (fold, dense, merge),
    "rank 2": (*_SPATIAL, fold),
    "rank 3": (*_SPATIAL, conv_batchnorm, depthwise, transposed),
}
"""What may be added to a tensor of any rank, and to one of so many axes; what stands twice is drawn twice as often.

A block takes the draft, the tensor to read, and all earlier tensors, of which some blocks read one more.
"""
