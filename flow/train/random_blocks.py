"""Random blocks of several layers, the functions of tensors between them, and which block fits which tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flow.train.random_drafts import Draft, Tensor
from flow.train.random_functions import operator
from flow.train.random_layers import (
    at_each_step,
    batchnorm,
    channels_first,
    conv,
    conv_batchnorm,
    dense,
    depthwise,
    einsum,
    fold,
    function,
    idle,
    locally_connected,
    move,
    normalized,
    pool,
    recurrent,
    repeat,
    reshape,
    separable,
    transposed,
)

Block = Callable[[Draft, Tensor, Sequence[Tensor]], Tensor]


def block(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a layer that computes, perhaps a batch normalization and functions, and most often a quantizer."""
    options = BLOCKS["any"] if draft.chance(0.35) else BLOCKS[f"rank {len(source.shape)}"]
    tensor: Tensor = draft.pick(options)(draft, source, earlier)
    if "normalization" not in tensor.name and draft.chance(draft.style.normalized):
        tensor = batchnorm(draft, tensor)
        if draft.chance(0.15):  # a batch normalization and a ReLU, and no quantizer
            return draft.keep("ReLU", tensor, max_value=None, negative_slope=0.0, threshold=0.0)
    if draft.chance(0.2):
        return draft.quantizer(function(draft, tensor))
    if draft.chance(0.12):
        tensor = idle(draft, tensor)
    if draft.chance(0.1):
        return tensor
    if draft.chance(0.2):
        return draft.keep("QActivation", tensor, activation=draft.function())
    return draft.quantizer(tensor)


def shared(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Apply one layer twice in a row."""
    once = draft.keep("QDense", source, units=source.shape[-1], **draft.weights())
    return draft.again(once, draft.quantizer(once))


def nested(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Put a block into a model of its own."""
    inner = Draft(draft.rng, draft.style)
    port = inner.port(source.shape)
    out = inner.quantizer(dense(inner, port))
    config = {"layers": inner.entries, "input_layers": [[port.name, 0, 0]], "output_layers": [[out.name, out.node, 0]]}
    made = draft.add("Functional", [source], out.shape, **config)
    return replace(made, node=1)  # Keras counts the making of a model as its node 0


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
    """Attend to another sequence, or to the same, with one head or two."""
    other = draft.pick([tensor for tensor in (*earlier, source) if len(tensor.shape) == 2])
    units, bits = draft.number(1, 4), draft.number(2, 9)

    def projected(tensor: Tensor) -> Tensor:
        dense = draft.add("QDense", [tensor], (tensor.shape[0], units), units=units, **draft.weights())
        return draft.quantizer(dense)

    def head() -> Tensor:
        query, key, value = projected(source), projected(other), projected(other)
        shape = source.shape[0], other.shape[0]
        scores = draft.quantizer(draft.add("Dot", [query, key], shape, axes=[2, 2], normalize=False))
        shares = draft.keep("FixedSoftmax", scores, bits=bits)
        return draft.add("Dot", [shares, value], (shape[0], units), axes=[2, 1], normalize=False)

    if draft.chance(0.6):
        return head()
    parts = [draft.quantizer(head()) for _ in range(2)]
    return draft.add("Concatenate", parts, (source.shape[0], 2 * units), axis=-1)


def transformer(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Add a transformer block: attention and two denses, each with the way around it and a layer normalization."""
    tensor = source
    for inner in (attention, dense):
        units = source.shape[-1]
        made = draft.quantizer(inner(draft, tensor, [tensor]))
        made = draft.add("QDense", [made], source.shape, units=units, **draft.weights())
        around = draft.add("Add", [tensor, draft.quantizer(made)], source.shape)
        tensor = draft.quantizer(normalized(draft, around, ()))
    return tensor


def join(draft: Draft, tensors: Sequence[Tensor]) -> Tensor:
    """Bring the last tensor and those made of the other inputs into one vector."""
    loose = [tensor for tensor in tensors if tensor.name not in draft.read]
    vectors = [reshape(draft, tensor) if len(tensor.shape) > 1 else tensor for tensor in loose]
    joined = vectors[0]
    if len(vectors) > 1:
        joined = draft.add("Concatenate", vectors, (sum(math.prod(vector.shape) for vector in vectors),), axis=-1)
    return draft.quantizer(dense(draft, joined))


def heads(draft: Draft, source: Tensor, count: int) -> list[Tensor]:
    """Add the last dense layers of a net, each with a branch of its own if there are several."""
    trunk = source if len(source.shape) == 1 else reshape(draft, source)
    return [_head(draft, draft.quantizer(dense(draft, trunk)) if count > 1 else trunk) for _ in range(count)]


def _head(draft: Draft, source: Tensor) -> Tensor:
    units = draft.number(1, 6)
    if draft.chance(0.4):  # as in the most copied tutorials: without quantizers
        activation = draft.pick(["linear", "softmax"])
        return draft.add("Dense", [source], (units,), units=units, use_bias=True, activation=activation)
    tensor = draft.add("QDense", [source], (units,), units=units, **draft.weights())
    kind = draft.pick(["none", "none", "softmax", "layer", "quantized", "sigmoid"])
    if kind == "softmax":
        return draft.keep("Activation", tensor, activation="softmax")
    if kind == "layer":
        return draft.keep("Softmax", tensor, axis=-1)
    if kind == "sigmoid":
        return draft.keep("QActivation", tensor, activation="quantized_sigmoid(8)")
    return draft.quantizer(tensor) if kind == "quantized" else tensor


_SPATIAL: tuple[Block, ...] = (conv, conv, separable, depthwise, transposed, pool, pool, move, reshape)
BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "any": (
        dense,
        dense,
        dense,
        merge,
        residual,
        concatenate,
        shared,
        nested,
        batchnorm,
        normalized,
        einsum,
        operator,
        operator,
    ),
    "rank 1": (fold, repeat, dense, dense, dense, merge, product),
    "rank 2": (
        *_SPATIAL,
        fold,
        product,
        attention,
        attention,
        transformer,
        *[recurrent] * 4,
        at_each_step,
        locally_connected,
    ),
    "rank 3": (*_SPATIAL, conv, conv_batchnorm, channels_first, at_each_step, locally_connected),
}
"""What may be added to a tensor of any rank, and to one of so many axes; what stands twice is drawn twice as often."""
