"""Random operators and functions of tensors: `a * 2 - b`, `a[:, 1:]`, `tf.reduce_sum(a, 1)`, products with a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flow.train.random_drafts import Draft, Tensor

ALL = {"start": None, "stop": None, "step": None}


def operator(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Apply an operator or a function of tensors."""
    options = OPERATORS if len(source.shape) > 1 else OPERATORS[:ANY_RANK]
    made: Tensor = draft.pick(options)(draft, source, earlier)
    return made


def _with_constant(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Combine with a number, on either side."""
    function, number = (
        draft.pick(["__operators__.add", "math.multiply", "math.subtract"]),
        draft.pick([0.5, 2.0, -1.0, 0.75, 3.0, 1.5, 0.1]),
    )
    if draft.chance(0.3):
        return draft.call("math.subtract", number, source.shape, y=source)
    return draft.call(function, source, source.shape, y=number)


def _of_two(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Combine with a tensor of the same shape."""
    other = draft.pick([tensor for tensor in (*earlier, source) if tensor.shape == source.shape])
    functions = ["__operators__.add", "math.subtract", "math.multiply", "math.maximum", "math.minimum"]
    return draft.call(draft.pick(functions), source, source.shape, y=other)


def _of_one(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Apply a function to each element."""
    function = draft.pick(["math.negative", "math.abs", "math.square", "nn.relu", "nn.relu6", "clip_by_value"])
    bounds = {"clip_value_min": -1.0, "clip_value_max": 1.5} if function == "clip_by_value" else {}
    return draft.call(function, source, source.shape, **bounds)


def _stacked(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Join two tensors of a shape along an axis, or along a new one."""
    other = draft.pick([tensor for tensor in (*earlier, source) if tensor.shape == source.shape])
    if len(source.shape) < 3 and draft.chance(0.4):
        return draft.call("stack", [source, other], (2, *source.shape), axis=1)
    axis = draft.number(0, len(source.shape))
    shape = (*source.shape[:axis], 2 * source.shape[axis], *source.shape[axis + 1 :])
    return draft.call("concat", [source, other], shape, axis=axis + 1)


def _sliced(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Take a part along an axis, or every second, or all from the last to the first."""
    axis = draft.number(0, len(source.shape))
    size = source.shape[axis]
    start = draft.number(0, size)
    part: dict[str, Any] = draft.pick(
        [{**ALL, "start": start}, {**ALL, "step": 2}, {**ALL, "step": -1}, {**ALL, "stop": size - start}]
    )
    left = len(range(size)[part["start"] : part["stop"] : part["step"]])
    shape = (*source.shape[:axis], left, *source.shape[axis + 1 :])
    return draft.call("__operators__.getitem", source, shape, slice_spec=[ALL] * (axis + 1) + [part])


def _reshaped(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Put all values into one axis, or into two."""
    size = math.prod(source.shape)
    factor = draft.pick([divisor for divisor in (1, 2, 3) if size % divisor == 0])
    shape = (size,) if factor == 1 else (factor, size // factor)
    return draft.call("reshape", source, shape, shape=[-1, *shape])


def _reduced(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Sum, average or take the largest along an axis."""
    axis, kept = draft.number(0, len(source.shape)), draft.chance(0.3)
    shape = (*source.shape[:axis], *((1,) if kept else ()), *source.shape[axis + 1 :])
    function = draft.pick(["math.reduce_sum", "math.reduce_mean", "math.reduce_max"])
    return draft.call(function, source, shape, axis=axis + 1, keepdims=kept)


def _turned(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Transpose."""
    order = [int(axis) for axis in draft.rng.permutation(len(source.shape))]
    shape = tuple(source.shape[axis] for axis in order)
    return draft.call("transpose", source, shape, perm=[0, *(axis + 1 for axis in order)])


def _by_graph(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Multiply by a matrix of zeros and ones that says which nodes each edge of a graph joins."""
    nodes, edges = source.shape[-1], draft.number(1, 6)
    matrix = [[float(draft.chance(0.5)) for _ in range(edges)] for _ in range(nodes)]
    return draft.call("linalg.matmul", source, (*source.shape[:-1], edges), b=matrix)


def _padded(draft: Draft, source: Tensor, earlier: Sequence[Tensor]) -> Tensor:
    """Put zeros before and behind along each axis."""
    margins = [[draft.number(0, 2), draft.number(0, 2)] for _ in source.shape]
    shape = tuple(size + sum(pair) for size, pair in zip(source.shape, margins, strict=True))
    return draft.call("pad", source, shape, paddings=[[0, 0], *margins])


Operator = Callable[[Draft, Tensor, Sequence[Tensor]], Tensor]
OPERATORS: tuple[Operator, ...] = (
    *(_with_constant, _of_two, _of_one, _stacked, _sliced, _padded, _reshaped),
    *(_reduced, _turned, _by_graph),
)
ANY_RANK = 7
"""So many of them are for tensors of one axis too."""
