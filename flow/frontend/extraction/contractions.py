"""Products of two tensors that are both computed, summed along axes that they share: a matrix product is one.

No op is needed for it: a `Gather` puts the codes of either tensor where the products are, a `Merge` multiplies them, a
`SumPool` adds them up. Products are laid out as rows of steps of channels, summed along the steps, so that a stream
makes as many at once as the result has in its last axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_letters
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction.averages import carried
from flow.frontend.extraction.builder import SPREAD, Builder, Handler, Tensor
from flow.frontend.extraction.moves import reshaped
from flow.frontend.layers import Layer
from flow.ir.fixed import exact_codes
from flow.ir.graph import Gather, Merge, SumPool
from flow.ir.windows import Shape, Window


def contract(builder: Builder, layer: Layer[Any], inputs: Sequence[Tensor], subscripts: str) -> Tensor:
    """Append the products of two tensors, as `np.einsum` names their axes without the batch: "ij,kj->ik"."""
    tensors = [carried(builder, layer, tensor) for tensor in inputs]
    terms, kept = subscripts.split("->")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), tensors, strict=True):
        for letter, size in zip(term, builder.op(tensor).shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                shapes = " and ".join(str(builder.op(tensor).shape) for tensor in tensors)
                raise UnsupportedError(f"multiplies tensors of shapes {shapes}, of which no axes of one size meet")
    sums = "".join(letter for letter in sizes if letter not in kept)
    order = kept[:-1] + sums + kept[-1:]
    steps = math.prod(sizes[letter] for letter in sums)
    shape = tuple(sizes[letter] for letter in kept)
    products = (math.prod(shape[:-1]), steps, *(shape[-1:] or (1,)))
    if math.prod(products) > SPREAD:
        raise UnsupportedError(f"makes {math.prod(products)} products", remedy=f"at most {SPREAD} are built")
    placed = [
        _placed(builder, layer, tensor, term, order, sizes, products)
        for term, tensor in zip(terms.split(","), tensors, strict=True)
    ]
    made = builder.add(Merge, layer, placed, products, suffix="_products", function="multiply", fused=("multiply",))
    out = replace(summed(builder, layer, made, "dot"), divisor=math.prod(tensor.divisor for tensor in tensors))
    return reshaped(builder, layer, out, shape or (1,))


def _placed(
    builder: Builder,
    layer: Layer[Any],
    tensor: Tensor,
    term: str,
    order: str,
    sizes: Mapping[str, int],
    products: Shape,
) -> Tensor:
    """Return the codes of a tensor where the products read them."""
    x = builder.op(tensor).shape
    index = np.arange(math.prod(x)).reshape(x).transpose([term.index(letter) for letter in order if letter in term])
    index = index.reshape([sizes[letter] if letter in term else 1 for letter in order])
    index = np.broadcast_to(index, [sizes[letter] for letter in order]).reshape(products)
    return builder.add(Gather, layer, [tensor], products, suffix="_spread", index=index, fused=("broadcast",))


def summed(builder: Builder, layer: Layer[Any], tensor: Tensor, word: str, weight: float = 1.0) -> Tensor:
    """Append the sums over the steps of (rows, steps, channels), times a weight: (rows, 1, channels)."""
    rows, steps, channels = builder.op(tensor).shape
    values: dict[str, Any] = {
        "window": Window((1, steps), (1, steps), ((0, 0), (0, 0))),
        "weight": exact_codes(np.full((rows, 1), weight)),
    }
    return builder.add(SumPool, layer, [tensor], (rows, 1, channels), suffix="_sums", fused=(word,), **values)


def _dot(builder: Builder, layer: Layer[layers.Dot], inputs: Sequence[Tensor]) -> Tensor:
    ranks = [len(builder.op(tensor).shape) for tensor in inputs]
    first, second = (
        axis + rank if axis < 0 else axis - 1 for axis, rank in zip(layer.settings.axes, ranks, strict=True)
    )
    if not (0 <= first < ranks[0] and 0 <= second < ranks[1]):
        raise UnsupportedError(f"axes {layer.settings.axes} are not those of one sample of its inputs")
    left = ascii_letters[: ranks[0]]
    right = ascii_letters[ranks[0] : sum(ranks)]
    right = right[:second] + left[first] + right[second + 1 :]
    kept = "".join(letter for letter in left + right if letter != left[first])
    return contract(builder, layer, inputs, f"{left},{right}->{kept}")


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Dot: _dot,
}
