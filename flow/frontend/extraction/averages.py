"""What averages leave undivided: codes over a divisor, which all that is linear carries on.

(x / d) @ w + b == (x @ w + d * b) / d: sums and what chooses or moves codes take codes over a divisor, if constants
that are added are multiplied by it. A quantizer then divides, once; without one the output is a multiple of the
model's, which its op tells as `denominator`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend.extraction.builder import Builder, Tensor
from flow.frontend.layers import Activate, Function, Layer, Quantizer
from flow.ir.fixed import Cast, Constant, exact_codes
from flow.ir.graph import BatchNorm, IntGraph, LeakyRelu, Relu


def carried(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return a tensor whose values are codes over a divisor, which its op tells.

    Quotients that are codes are made so: by powers of two, and what is rounded on request.
    """
    alone = not tensor.functions or _reads(builder, tensor.layers[-1]) == 1
    if not (alone and _carries(builder, tensor)):
        return builder.plain(layer, tensor)
    return _undivided(builder, layer, tensor)


def shared(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return the output of a layer, undivided where several layers read it that are not all quantizers.

    One of them is linear, and knows no other ties than those of the exact quotient: the table that a quantizer makes of
    an average of tensors knows those of its float32.
    """
    if not tensor.functions or _reads(builder, layer.name) == 1 or not _carries(builder, tensor):
        return tensor
    readers = [reader for reader in builder.network.layers if layer.name in reader.inputs]
    tables = all(
        isinstance(reader.settings, Activate) and isinstance(reader.activation, Quantizer) for reader in readers
    )
    return tensor if tables and layer.name not in builder.network.outputs else _undivided(builder, layer, tensor)


def _carries(builder: Builder, tensor: Tensor) -> bool:
    """Say whether all that waits on a tensor is averages and what a sum may be bent by, over no power of two."""
    divisor = tensor.divisor * math.prod(function.divisor for function in tensor.functions)
    rounded = builder.rounds is not None and builder.rounds.float_layers is not None
    real = builder.graph_type is not IntGraph
    bent = all(function.divisor != 1 or function.slope is not None for function in tensor.functions)
    return bent and not (tensor.lines or divisor & (divisor - 1) == 0 or rounded or real)


def _undivided(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Append what bends a sum, each limit as many times larger as the sum is, and tell over what it then is."""
    told = builder.op(tensor).layers
    for function in tensor.functions:
        if function.divisor != 1:
            tensor = replace(tensor, divisor=tensor.divisor * function.divisor)
        else:
            tensor = replace(_bent(builder, layer, tensor, function), divisor=tensor.divisor)
    tensor = builder.straight(layer, replace(tensor, functions=()))
    builder.tell(tensor, tuple(name for name in tensor.layers if name not in told))
    return Tensor(tensor.op, divisor=tensor.divisor)


def _bent(builder: Builder, layer: Layer[Any], tensor: Tensor, function: Function) -> Tensor:
    x = builder.op(tensor)
    if function.slope:
        slope = exact_codes(np.array([function.slope], np.float32))
        return builder.add(LeakyRelu, layer, [tensor], x.shape, suffix="_slope", slope=slope)
    limit = math.ldexp(function.limit * tensor.divisor, x.format.frac_bits)
    if limit >= x.format.max_code:
        return builder.add(Relu, layer, [tensor], x.shape, Cast(x.format.unsigned()), suffix="_relu")
    if not limit.is_integer():
        what = f"limits an average over {tensor.divisor} to {function.limit:g}, which is on no grid of it"
        raise UnsupportedError(what, remedy="put a quantizer (QActivation) behind it")
    return builder.add(Relu, layer, [tensor], x.shape, suffix="_relu", limit=int(limit))


def divided(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return a tensor whose values are codes over a divisor: what moves or compares codes asks for no more."""
    return carried(builder, layer, tensor) if tensor.functions or tensor.lines else tensor


def _reads(builder: Builder, name: str) -> int:
    """Return how many layers read the output of a layer, and leave the network with it."""
    return sum(name in layer.inputs for layer in builder.network.layers) + (name in builder.network.outputs)


def on_one_divisor(builder: Builder, layer: Layer[Any], tensors: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """Return tensors whose values are codes over the same divisor, and that."""
    tensors = [carried(builder, layer, tensor) for tensor in tensors]
    divisor = math.lcm(*(tensor.divisor for tensor in tensors))
    return [_raised(builder, layer, tensor, divisor) for tensor in tensors], divisor


def _raised(builder: Builder, layer: Layer[Any], tensor: Tensor, divisor: int) -> Tensor:
    """Append what makes a tensor's codes those over a multiple of its divisor."""
    if tensor.divisor == divisor:
        return tensor
    shape, source = builder.op(tensor).shape, builder.inside(layer, tensor)
    factor = exact_codes(np.full(shape[-1], divisor / tensor.divisor))
    values: dict[str, Any] = {"scale": factor, "offset": Constant.zeros(shape[-1]), "fused": ("scale",)}
    return replace(builder.add(BatchNorm, layer, [source], shape, suffix="_raised", **values), divisor=divisor)


def told(builder: Builder, inputs: Sequence[Tensor], tensor: Tensor) -> bool:
    """Say whether an output of a layer that still waits for a division is told as one over a divisor."""
    undivided = tensor.divisor != 1 and not (tensor.functions or tensor.lines or tensor.turned)
    return undivided and (tensor.softmax is not None or any(builder.op(source).denominator != 1 for source in inputs))
