"""Random layers, made to hit corners: blocks of everything that `extract` reads, each added to a draft of a model.

A draft holds the layers so far, and draws quantizers for the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

EPSILON = 2.0**-10
"""Batch normalizations with this epsilon get a variance of `1 - EPSILON` and scale by gamma, exactly; others by any
float32."""


Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """The output of a layer: its name, the shape of one sample, and which use of the layer made it."""

    name: str
    shape: Shape
    node: int = 0


@dataclass(slots=True)
class Draft:
    """A model while it is drawn."""

    rng: np.random.Generator
    entries: list[dict[str, Any]] = field(default_factory=list)

    def pick(self, choices: Sequence[Any]) -> Any:
        """Return one of several."""
        return choices[self.number(0, len(choices))]

    def chance(self, probability: float) -> bool:
        """Say yes so often."""
        return bool(self.rng.random() < probability)

    def number(self, low: int, high: int) -> int:
        """Return a number of at least `low`, below `high`."""
        return int(self.rng.integers(low, high))

    def input(self) -> Tensor:
        """Add an input of one to three axes."""
        vector, line = (self.number(1, 9),), (self.number(1, 8), self.number(1, 4))
        picture = self.number(1, 7), self.number(1, 7), self.number(1, 4)
        return self.port(self.pick([vector, line, picture, picture]))

    def port(self, shape: Shape) -> Tensor:
        """Add an input of a shape."""
        return self.add("InputLayer", [], shape, batch_input_shape=[None, *shape], dtype="float32")

    def add(self, class_name: str, sources: Sequence[Tensor], shape: Shape, **config: Any) -> Tensor:
        """Add a layer that reads some tensors and makes one of this shape."""
        name = f"{class_name.lower()}_{len(self.entries)}"
        node = [[source.name, source.node, 0, {}] for source in sources]
        entry = {"class_name": class_name, "name": name, "config": {"name": name, **config}}
        self.entries.append({**entry, "inbound_nodes": [node] if sources else []})
        return Tensor(name, shape)

    def keep(self, class_name: str, source: Tensor, **config: Any) -> Tensor:
        """Add a layer that reads one tensor and keeps its shape."""
        return self.add(class_name, [source], source.shape, **config)

    def weight_quantizer(self) -> str:
        """Return a quantizer of weights."""
        bits = self.number(2, 7)
        choices = [
            f"quantized_bits({bits},{self.number(0, 2)},1,alpha=1)",
            f"quantized_bits({bits},0,0,alpha=1)",
            f"quantized_bits({bits},0,1,alpha='auto_po2')",
            f"quantized_bits({bits},0,1)",
            f"quantized_bits({bits},1,0,False,alpha=1)",
            f"quantized_bits({bits},0,1,alpha=0.5)",
            "quantized_bits(1,0,alpha=1)",
            "quantized_po2(4,1)",
            "quantized_po2(3,2)",
            "quantized_po2(4,1,quadratic_approximation=True)",
            "quantized_relu_po2(4,2)",
            "binary(alpha=1)",
            "binary(True,alpha=1)",
            "ternary(alpha=1)",
            "stochastic_ternary(alpha=1)",
            "stochastic_binary(alpha=1)",
        ]
        return str(self.pick(choices))

    def weights(self) -> dict[str, Any]:
        """Return what a layer's configuration says of its kernel and bias."""
        return {"kernel_quantizer": self.weight_quantizer(), **self.bias()}

    def bias(self) -> dict[str, Any]:
        """Return what a layer's configuration says of its bias."""
        if self.chance(0.2):
            return {"use_bias": False}
        quantizer = self.pick([None, "quantized_bits(5,1,alpha=1)", "quantized_po2(4,1)"])
        return {"use_bias": True, "bias_quantizer": quantizer}

    def cast(self) -> str:
        """Return a quantizer of activations that rounds to a format."""
        bits, integer = self.number(1, 8), self.number(0, 4)
        choices = [
            f"quantized_relu({bits},{integer})",
            f"quantized_relu({bits},{integer})",
            f"quantized_bits({bits + 1},{integer},alpha=1)",
            f"quantized_bits({bits + 1},{integer},1,alpha=1)",
            f"quantized_bits({bits + 1},{integer},0,False,alpha=1)",
        ]
        return str(self.pick(choices))

    def other_quantizer(self) -> str:
        """Return a quantizer of activations that a table or a threshold computes."""
        bits = self.number(2, 7)
        choices = [
            f"quantized_relu({bits},1,negative_slope=0.25)",
            f"quantized_relu({bits},1,use_sigmoid=1)",
            f"quantized_relu({bits},2,relu_upper_bound=1.5,is_quantized_clip=False)",
            f"quantized_tanh({bits})",
            f"quantized_tanh({bits},symmetric=True)",
            f"quantized_tanh({bits},use_real_tanh=True)",
            f"quantized_sigmoid({bits})",
            f"quantized_hswish({bits},2,alpha=1)",
            f"quantized_relu_po2({max(bits, 3)},4)",
            f"quantized_po2({max(bits, 3)},4)",
            "binary(alpha=1)",
            "binary(True,alpha=1)",
            "ternary(alpha=1,threshold=0.5)",
            "stochastic_ternary(alpha=1)",
            "quantized_bits(1,0,alpha=1)",
            "quantized_bits(4,1,alpha=2.0)",
        ]
        return str(self.pick(choices))

    def quantizer(self, source: Tensor) -> Tensor:
        """Add a quantizer of activations that rounds to a format."""
        return self.keep("QActivation", source, activation=self.cast())


def block(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a layer that computes, perhaps a batch normalization and functions, and a quantizer."""
    options = BLOCKS["any"] if draft.chance(0.45) else BLOCKS[f"rank {len(source.shape)}"]
    tensor = draft.pick(options)(draft, source, earlier)
    if draft.chance(0.2):
        tensor = batchnorm(draft, tensor)
    if draft.chance(0.2):
        tensor = function(draft, tensor)
    if draft.chance(0.12):
        tensor = draft.keep("Dropout", tensor, rate=0.5)
    tensor = draft.quantizer(tensor)
    if draft.chance(0.25):  # its input is narrow now, as a table wants it
        tensor = draft.keep("QActivation", tensor, activation=draft.other_quantizer())
    return tensor


def function(draft: Draft, source: Tensor) -> Tensor:
    """Add an activation, exact or by a table."""
    kind = draft.pick(["relu", "relu6", "leaky", "leaky_any", "prelu", "activation", "narrow function"])
    if kind in ("relu", "relu6"):
        limit = None if kind == "relu" else draft.pick([6.0, 1.0, 0.75])
        return draft.keep("ReLU", source, max_value=limit, negative_slope=0.0, threshold=0.0)
    if kind == "leaky":
        return draft.keep("LeakyReLU", source, alpha=draft.pick([0.25, 0.5, 0.125]))
    if kind == "prelu":
        return draft.keep("PReLU", source, shared_axes=list(range(1, len(source.shape))) or None)
    if kind == "activation":
        return draft.keep("Activation", source, activation=draft.pick(["relu", "linear"]))
    narrow = draft.quantizer(source)
    if kind == "leaky_any":
        return draft.keep("LeakyReLU", narrow, alpha=0.3)
    return draft.keep("Activation", narrow, activation=draft.pick(["tanh", "hard_sigmoid", "softsign", "elu"]))


def batchnorm(draft: Draft, source: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
    """Add a batch normalization."""
    epsilon = EPSILON if draft.chance(0.8) else 1e-3
    common = {"axis": [len(source.shape)], "momentum": 0.99, "epsilon": epsilon, "center": True, "scale": True}
    kind = "QBatchNormalization" if epsilon != EPSILON and draft.chance(0.3) else "BatchNormalization"
    return draft.keep(kind, source, **common)


def normalized(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a softmax or a layer normalization of integers."""
    if draft.chance(0.5):
        return draft.keep("FixedSoftmax", source, bits=draft.number(2, 9))
    settings = {"bits": draft.number(4, 9), "integer": draft.number(-1, 4), "root_bits": draft.number(2, 7)}
    quantizer = {"class_name": "quantized_grid", "config": {"bits": draft.number(2, 8), "integer": draft.number(0, 3)}}
    quantizers = {"scale_quantizer": quantizer, "offset_quantizer": quantizer}
    return draft.keep("FixedLayerNormalization", source, epsilon=2.0**-10, **settings, **quantizers)


def dense(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a dense layer."""
    units = draft.number(1, 6)
    shape = (*source.shape[:-1], units)
    activation = {"activation": draft.cast()} if draft.chance(0.2) else {}
    if draft.chance(0.15):
        return draft.add("Dense", [source], shape, units=units, use_bias=draft.chance(0.5), activation="linear")
    return draft.add("QDense", [source], shape, units=units, **draft.weights(), **activation)


def shared(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Apply one layer twice in a row."""
    once = draft.keep("QDense", source, units=source.shape[-1], **draft.weights())
    between = draft.quantizer(once)
    entry = next(entry for entry in draft.entries if entry["name"] == once.name)
    entry["inbound_nodes"].append([[between.name, between.node, 0, {}]])
    return Tensor(once.name, source.shape, 1)


def nested(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Put a block into a model of its own."""
    inner = Draft(draft.rng)
    port = inner.port(source.shape)
    out = inner.quantizer(dense(inner, port, ()))
    config = {"layers": inner.entries, "input_layers": [[port.name, 0, 0]], "output_layers": [[out.name, out.node, 0]]}
    made = draft.add("Functional", [source], out.shape, **config)
    return replace(made, node=1)  # Keras counts the making of a model as its node 0


def conv(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a convolution."""
    axes, filters = len(source.shape) - 1, draft.number(1, 5)
    window, strides, padding, dilation = draw_window(draft, source.shape, causal=True)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "dilation_rate": dilation}
    shape = (*_after(source.shape, window, strides, padding, dilation[0]), filters)
    groups = 2 if source.shape[-1] % 2 == 0 and filters % 2 == 0 and draft.chance(0.3) else 1
    common = {"filters": filters, "groups": groups, "data_format": "channels_last", **values}
    if draft.chance(0.1):
        return draft.add(f"Conv{axes}D", [source], shape, **common, use_bias=True, activation="linear")
    return draft.add(f"QConv{axes}D", [source], shape, **common, **draft.weights())


def conv_batchnorm(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a convolution with a batch normalization in it."""
    filters = draft.number(1, 4)
    window, strides, padding, _ = draw_window(draft, source.shape)
    whole = draft.chance(0.5)
    strides = strides if whole else [min(strides)] * 2
    values: dict[str, Any] = {"kernel_size": window, "strides": strides, "padding": padding}
    values |= {"epsilon": EPSILON, "use_bias": True, "bias_quantizer": "quantized_bits(6,2,alpha=1)"}
    geometry, quantizer = _after(source.shape, window, strides, padding), "quantized_bits(4,1,1,alpha=1)"
    if whole:
        values |= {"filters": filters, "kernel_quantizer": quantizer}
        return draft.add("QConv2DBatchnorm", [source], (*geometry, filters), **values)
    values |= {"depthwise_quantizer": quantizer}
    return draft.add("QDepthwiseConv2DBatchnorm", [source], (*geometry, source.shape[-1]), **values)


def depthwise(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a depthwise convolution."""
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides, multiplier = [min(strides)] * 2, draft.number(1, 3)
    shape = (*_after(source.shape, window, strides, padding), source.shape[-1] * multiplier)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "depth_multiplier": multiplier}
    quantizer = draft.weight_quantizer()
    return draft.add("QDepthwiseConv2D", [source], shape, **values, depthwise_quantizer=quantizer, **draft.bias())


def recurrent(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a recurrent layer, perhaps in both directions."""
    kind, units, sequences = draft.pick(["SimpleRNN", "LSTM", "GRU"]), draft.number(1, 4), draft.chance(0.5)
    gates = ["hard_sigmoid", "quantized_sigmoid(4)", "quantized_sigmoid(6,symmetric=True)", "quantized_relu(4,1)"]
    activations = ["quantized_tanh(4)", "quantized_tanh(6,use_real_tanh=True)", "hard_tanh", draft.cast()]
    config = {
        **{"units": units, "return_sequences": sequences, "go_backwards": draft.chance(0.3)},
        **{"activation": draft.pick([*activations, "tanh"] if kind == "SimpleRNN" else activations)},
        **({} if kind == "SimpleRNN" else {"recurrent_activation": draft.pick(gates)}),
        **({"reset_after": draft.chance(0.5)} if kind == "GRU" else {}),
        **{"recurrent_quantizer": draft.pick(["quantized_bits(4,0,1,alpha=1)", "quantized_po2(4,1)"])},
        **{"state_quantizer": draft.pick(["quantized_bits(5,0,1,alpha=1)", "quantized_bits(6,2,alpha=1)"])},
        **draft.weights(),
    }
    if not config["use_bias"]:
        config["bias_quantizer"] = None  # QKeras hands it the bias that is not there
    if draft.chance(0.7):
        return draft.add(f"Q{kind}", [source], (*source.shape[:-1], units) if sequences else (units,), **config)
    mode = draft.pick(["concat", "concat", "sum", "mul", "ave"])
    inner = {"class_name": f"Q{kind}", "config": {"name": "inner", **config}}
    channels = 2 * units if mode == "concat" else units
    shape = (*source.shape[:-1], channels) if sequences else (channels,)
    return draft.add("QBidirectional", [source], shape, layer=inner, merge_mode=mode)


def separable(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a separable convolution."""
    axes, filters = len(source.shape) - 1, draft.number(1, 4)
    window, strides, padding, _ = draw_window(draft, source.shape)
    strides = [min(strides)] * axes
    shape = (*_after(source.shape, window, strides, padding), filters)
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    quantizers = {"depthwise_quantizer": "quantized_bits(4,0,1,alpha=1)", "pointwise_quantizer": "quantized_po2(4,1)"}
    return draft.add(f"QSeparableConv{axes}D", [source], shape, **values, **quantizers, **draft.bias())


def transposed(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a transposed convolution."""
    filters, strides = draft.number(1, 3), [draft.number(1, 3) for _ in range(2)]
    window, padding = [draft.number(1, 4) for _ in range(2)], draft.pick(["valid", "same"])
    sizes = [
        size * step + (max(span - step, 0) if padding == "valid" else 0)
        for size, step, span in zip(source.shape, strides, window, strict=False)
    ]
    values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
    quantizer = "quantized_bits(4,0,1,alpha=1)"
    return draft.add(
        "QConv2DTranspose", [source], (*sizes, filters), **values, kernel_quantizer=quantizer, **draft.bias()
    )


def pool(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a pooling, over windows or the picture."""
    axes = len(source.shape) - 1
    kind = draft.pick(["Max", "Max", "Average", "Average", "GlobalMax", "GlobalAverage", "QAverage", "QGlobalAverage"])
    kind = kind.removeprefix("Q") if axes == 1 else kind
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
    strides = [draft.number(1, 3)] * len(sizes)
    spread = causal and max(strides) == 1 and draft.chance(0.15)
    dilation = [2 if spread and all(2 * w - 1 <= s for w, s in zip(window, sizes, strict=True)) else 1] * len(sizes)
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
    if len(source.shape) == 1 or draft.chance(0.3):
        return draft.keep("QDense", source, units=source.shape[-1], **draft.weights())
    axes = len(source.shape) - 1
    window = [draft.number(1, 4) for _ in range(axes)]
    values = {"kernel_size": window, "strides": [1] * axes, "padding": "same", "filters": source.shape[-1]}
    return draft.keep(f"QConv{axes}D", source, **values, **draft.weights())


def residual(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Two convolutions (or denses) and the way around them."""
    inner = draft.quantizer(_same_shape(draft, source))
    return draft.add("Add", [draft.quantizer(_same_shape(draft, inner)), source], source.shape)


def concatenate(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Join with an earlier tensor, or itself, along channels."""
    others = [tensor for tensor in earlier if tensor.shape[:-1] == source.shape[:-1]]
    other = draft.pick(others) if others else source
    return draft.add("Concatenate", [source, other], (*source.shape[:-1], source.shape[-1] + other.shape[-1]), axis=-1)


def product(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Multiply with a tensor of as many axes, itself perhaps, summed along an axis of one size of each."""
    others = [tensor for tensor in (*earlier, source) if len(tensor.shape) == len(source.shape) < 3]
    pairs = [
        (other, own + 1, its + 1)
        for other in others
        for own, size in enumerate(source.shape)
        for its, same in enumerate(other.shape)
        if size == same
    ]
    other, own, its = draft.pick(pairs)
    left = source.shape[: own - 1] + source.shape[own:]
    shape = (left + other.shape[: its - 1] + other.shape[its:]) or (1,)
    return draft.add("Dot", [source, other], shape, axes=[own, its], normalize=False)


def attention(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Attend to another sequence, or to the same."""
    other = draft.pick([tensor for tensor in (*earlier, source) if len(tensor.shape) == 2])
    units = draft.number(1, 4)

    def projected(tensor: Tensor) -> Tensor:
        dense = draft.add("QDense", [tensor], (tensor.shape[0], units), units=units, **draft.weights())
        return draft.quantizer(dense)

    query, key, value = projected(source), projected(other), projected(other)
    shape = source.shape[0], other.shape[0]
    scores = draft.quantizer(draft.add("Dot", [query, key], shape, axes=[2, 2], normalize=False))
    shares = draft.keep("FixedSoftmax", scores, bits=draft.number(2, 9))
    return draft.add("Dot", [shares, value], (shape[0], units), axes=[2, 1], normalize=False)


def join(draft: Draft, tensors: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Bring the last tensor and those made of the other inputs into one vector."""
    read = {source[0] for entry in draft.entries for node in entry["inbound_nodes"] for source in node}
    loose = [tensor for tensor in tensors if tensor.name not in read]
    vectors = [reshape(draft, tensor, ()) if len(tensor.shape) > 1 else tensor for tensor in loose]
    joined = vectors[0]
    if len(vectors) > 1:
        joined = draft.add("Concatenate", vectors, (sum(math.prod(vector.shape) for vector in vectors),), axis=-1)
    return draft.quantizer(dense(draft, joined, ()))


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


def reshape(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Flatten."""
    return draft.add("Flatten", [source], (math.prod(source.shape),), data_format="channels_last")


def fold(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Make two axes of all values."""
    size = math.prod(source.shape)
    factor = draft.pick([divisor for divisor in (1, 2, 3, 4) if size % divisor == 0])
    return draft.add("Reshape", [source], (factor, size // factor), target_shape=[factor, -1])


def _after(shape: Shape, window: Sequence[int], strides: Sequence[int], padding: str, dilation: int = 1) -> Shape:
    """Return the shape behind a window, without channels."""
    sizes = zip(shape, window, strides, strict=False)
    if padding == "valid":
        return tuple((size - ((span - 1) * dilation + 1)) // step + 1 for size, span, step in sizes)
    return tuple(-(-size // step) for size, _, step in sizes)


Block = Callable[[Draft, Tensor, Sequence[Tensor]], Tensor]
_SPATIAL: tuple[Block, ...] = (conv, conv, separable, pool, pool, move, reshape)
BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "any": (dense, dense, merge, residual, concatenate, shared, nested, batchnorm, normalized),
    "rank 1": (fold, dense, merge, product),
    "rank 2": (*_SPATIAL, fold, product, attention, recurrent),
    "rank 3": (*_SPATIAL, conv_batchnorm, depthwise, transposed),
}
"""What may be added to a tensor of any rank, and to one of so many axes; what stands twice is drawn twice as often.

A block takes the draft, the tensor to read, and all earlier tensors, of which some blocks read one more.
"""
