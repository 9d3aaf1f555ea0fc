"""Several tensors into one, and one with its codes at other places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction.activations import later
from flow.frontend.extraction.averages import carried, divided, on_one_divisor
from flow.frontend.extraction.builder import Builder, Handler, Tensor, waiting
from flow.frontend.layers import Layer
from flow.ir.fixed import Cast, Codes
from flow.ir.graph import Gather, Merge, Reshape
from flow.ir.windows import Shape

MOST_STEPS = 256
"""A longer sequence is not laid out: each step is hardware of its own."""


def _merge(builder: Builder, layer: Layer[layers.Merge], inputs: Sequence[Tensor]) -> Tensor:
    if layer.settings.function == "multiply":
        tensors = [carried(builder, layer, tensor) for tensor in inputs] * layer.settings.times
        divisor = math.prod(tensor.divisor for tensor in tensors)
    else:
        tensors, divisor = on_one_divisor(builder, layer, inputs)
        tensors *= layer.settings.times
    shapes = [builder.op(tensor).shape for tensor in tensors]
    if layer.settings.same_rank and len({len(each) for each in shapes}) > 1:
        what = f"has inputs of shapes {' and '.join(map(str, shapes))}, whose samples would meet those of others"
        raise UnsupportedError(what, remedy="give them as many axes, as by x[:, None]")
    shape = np.broadcast_shapes(*shapes)
    spread = [broadcast(builder, layer, tensor, shape) for tensor in tensors]
    function, average = layer.settings.function, layer.settings.average
    out = spread[0]
    if len(spread) > 1:
        fused = (function,) if average is None else (average.name,)
        out = builder.add(Merge, layer, spread, shape, function=function, fused=fused)
    if average is None:
        return replace(out, divisor=divisor)
    if (
        average.divisor & (average.divisor - 1) and divisor == 1
    ):  # QKeras multiplies by 1 / count in float32: a table tells its ties
        return later(out, average)
    return replace(out, divisor=average.divisor * divisor)


def broadcast(builder: Builder, layer: Layer[Any], tensor: Tensor, shape: Shape) -> Tensor:
    """Append a tensor's codes, repeated along axes of one."""
    x = builder.op(tensor)
    if x.shape == shape:
        return tensor
    index = np.broadcast_to(np.arange(math.prod(x.shape)).reshape(x.shape), shape).copy()
    out = builder.add(Gather, layer, [tensor], shape, suffix="_spread", index=index, fused=("broadcast",))
    return replace(out, divisor=tensor.divisor)


def _concatenate(builder: Builder, layer: Layer[layers.Concatenate], inputs: Sequence[Tensor]) -> Tensor:
    tensors, divisor = on_one_divisor(builder, layer, inputs)
    positions, start = [], 0
    for tensor in tensors:
        shape = builder.op(tensor).shape
        positions.append(start + np.arange(math.prod(shape)).reshape(shape))
        start += math.prod(shape)
    join = np.stack if layer.settings.stacks else np.concatenate
    index = join(positions, layer.settings.axis)
    out = builder.add(Gather, layer, tensors, index.shape, index=index, fused=("concatenate",))
    return replace(out, divisor=divisor)


def _reshape(builder: Builder, layer: Layer[layers.Reshape], inputs: Sequence[Tensor]) -> Tensor:
    tensor, given = inputs[0], layer.settings.shape
    x = builder.op(tensor)
    shape: Shape = (math.prod(x.shape),)
    if given is not None:
        known = math.prod(size for size in given if size != -1)
        shape = tuple(math.prod(x.shape) // known if size == -1 else size for size in given)
    if math.prod(shape) != math.prod(x.shape):
        raise UnsupportedError(f"target_shape {shape} does not hold its input of shape {x.shape}")
    word = "flatten" if given is None else "reshape"
    copies, left = divmod(shape[-1], x.shape[-1]) if tensor.lines else (0, 0)
    if tensor.lines and left:  # of the channels, which the new last axis no longer tells
        tensor = builder.plain(layer, tensor)
    out = builder.add(Reshape, layer, [tensor], shape, Cast(builder.op(tensor).format), fused=(word,))
    return waiting(out, replace(tensor, lines=tensor.lines * copies))


def _move(builder: Builder, layer: Layer[Any], inputs: Sequence[Tensor]) -> Tensor:
    """Pad, crop, repeat or transpose: what the layer does to an array of positions, it does to the codes."""
    tensor = divided(builder, layer, inputs[0])
    x = builder.op(tensor)
    word, move = MOVES[type(layer.settings)]
    index = move(layer.settings, np.arange(math.prod(x.shape)).reshape(x.shape))
    if index.size == 0:
        raise UnsupportedError(f"leaves nothing of its input of shape {x.shape}")
    return gathered(builder, layer, tensor, index, word.format(len(x.shape) - 1))


def gathered(builder: Builder, layer: Layer[Any], tensor: Tensor, index: Codes, word: str, suffix: str = "") -> Tensor:
    """Put the codes of a tensor, whatever they are divided by, at the places that `index` says."""
    out = builder.add(Gather, layer, [tensor], index.shape, suffix=suffix, index=index, fused=(word,))
    return replace(out, divisor=tensor.divisor)


def reshaped(builder: Builder, layer: Layer[Any], tensor: Tensor, shape: Shape, suffix: str = "") -> Tensor:
    """Append the codes of a tensor, whatever they are divided by, in another shape, if it has not that one."""
    x = builder.op(tensor)
    if x.shape == shape:
        return tensor
    out = builder.add(Reshape, layer, [tensor], shape, Cast(x.format), suffix=suffix, fused=("reshape",))
    return replace(out, divisor=tensor.divisor)


def joined(builder: Builder, layer: Layer[Any], steps: Sequence[Tensor]) -> Tensor:
    """Return tensors of one layer as a sequence; what waits on them goes on waiting."""
    shape = (len(steps), *builder.op(steps[0]).shape)
    index = np.arange(math.prod(shape)).reshape(shape)
    out = builder.add(Gather, layer, steps, index.shape, index=index, fused=("sequence",))
    return replace(steps[0], op=out.op, layers=out.layers)


def each_step(builder: Builder, layer: Layer[Any], inputs: Sequence[Tensor], append: Handler) -> Tensor:
    """Append a layer for each step along the first axis of what it reads, and join the outputs."""
    tensors = [carried(builder, layer, tensor) for tensor in inputs]
    shapes = [builder.op(tensor).shape for tensor in tensors]
    count = shapes[0][0]
    if {shape[0] for shape in shapes} != {count} or min(map(len, shapes)) < 2:
        raise UnsupportedError(f"reads tensors of shapes {shapes}, which are no sequences of one length")
    if count > MOST_STEPS:
        raise UnsupportedError(f"a sequence of {count} steps", remedy=f"at most {MOST_STEPS} are laid out")
    steps = []
    for number in range(count):
        own = replace(layer, name=f"{layer.name}_t{number}", time_axes=layer.time_axes - 1)
        parts = []
        for place, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
            index = np.arange(math.prod(shape)).reshape(shape)[number]
            parts.append(gathered(builder, own, tensor, index, "slice", f"_x{place or ''}"))
        steps.append(append(builder, own, parts))
    return joined(builder, layer, steps)


def _padded(pad: layers.Pad, index: Codes) -> Codes:
    margins = pad.margins if pad.channels else (*pad.margins, (0, 0))
    filling: dict[str, Any] = {"constant_values": -1} if pad.mode == "constant" else {}
    padded: Codes = np.pad(index, margins, mode=pad.mode, **filling)  # type: ignore[call-overload]  # wants a literal
    return padded


def _cropped(crop: layers.Crop, index: Codes) -> Codes:
    margins = zip(index.shape, crop.margins, strict=False)
    return index[tuple(slice(before, size - after) for size, (before, after) in margins)]


def _upsampled(upsample: layers.Upsample, index: Codes) -> Codes:
    for axis, factor in enumerate(upsample.factors):
        index = index.repeat(factor, axis)
    return index


MOVES: Mapping[type[layers.Settings], tuple[str, Callable[[Any, Codes], Codes]]] = {
    layers.Pad: ("zeropadding{}d", _padded),
    layers.Crop: ("cropping{}d", _cropped),
    layers.Upsample: ("upsampling{}d", _upsampled),
    layers.Permute: ("permute", lambda permute, index: index.transpose(permute.axes)),
    layers.Repeat: ("repeatvector", lambda repeat, index: np.tile(index, (repeat.count, 1))),
}
"""Kind -> what a report calls it, with how many axes there are besides channels; and what it does to an array."""


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Merge: _merge,
    layers.Concatenate: _concatenate,
    layers.Reshape: _reshape,
    **dict.fromkeys(MOVES, _move),
}
