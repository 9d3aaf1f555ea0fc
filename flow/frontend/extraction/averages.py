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

from flow.frontend.extraction.builder import Builder, Tensor
from flow.frontend.layers import Layer
from flow.ir.fixed import Constant, exact_codes
from flow.ir.graph import BatchNorm, IntGraph


def carried(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return a tensor whose values are codes over a divisor, which its op tells.

    Quotients that are codes are made so: by powers of two, and what is rounded on request.
    """
    functions, divisor = list(tensor.functions), tensor.divisor
    while functions and functions[0].divisor != 1 and _alone(builder, tensor):
        divisor *= functions.pop(0).divisor
    rounded = builder.rounds is not None and builder.rounds.float_layers is not None
    real = builder.graph_type is not IntGraph
    if functions or tensor.lines or divisor & (divisor - 1) == 0 or rounded or real:
        return builder.plain(layer, tensor)
    tensor = builder.straight(layer, replace(tensor, functions=(), divisor=divisor))
    builder.tell(tensor, tensor.layers)
    return Tensor(tensor.op, divisor=divisor)


def divided(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Return a tensor whose values are codes over a divisor: what moves or compares codes asks for no more."""
    return carried(builder, layer, tensor) if tensor.functions or tensor.lines else tensor


def _alone(builder: Builder, tensor: Tensor) -> bool:
    """Say whether one layer reads a tensor; the table that another one makes of an average knows ties of its own."""
    name, network = tensor.layers[-1], builder.network
    return sum(name in layer.inputs for layer in network.layers) + (name in network.outputs) == 1


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
