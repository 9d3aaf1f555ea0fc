"""Drop dead channels: those that nothing reads, and those that are one number whatever the input.

A channel is an output of a dense or a convolution, with all that is made of it alone: its batch norm, its pooling, its
depthwise convolution, up to the dense or convolution that sums over channels. What a constant channel adds to each sum
becomes part of that sum's bias. So the graph holds fewer weights, and the sums that are left are the same integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Codes, Overflow, narrowed
from flow.ir.graph import Draft, IntGraph, MatMul, Op
from flow.ir.intervals import accumulation
from flow.ir.reference import run

Channels = NDArray[np.bool_]
MONOTONE = (Overflow.SAT, Overflow.SAT_SYM)
"""Under these a cast never falls: if it gives both ends of a range one code, then all between."""


def drop_channels(graph: IntGraph) -> IntGraph:
    """Remove dead channels, one chain of ops after another, until there is none; one channel stays in any case."""
    at = 0
    while at < len(graph.ops):
        chain = _chain(graph, graph.ops[at])
        smaller = None if chain is None else _smaller(graph, chain)
        if smaller is None:
            at += 1
        else:
            graph, at = smaller, 0  # what this chain no longer reads may be dead now
    return graph


@dataclass(frozen=True, slots=True)
class _Chain:
    """Ops that keep channels apart, the first of which makes them, and the one behind that sums over them.

    Attributes:
        ops: in order; the last may be a Reshape to one axis.
        reader: a dense or a convolution.
    """

    ops: tuple[Op, ...]
    reader: MatMul

    @property
    def channels(self) -> int:
        """How many the first makes."""
        return self.ops[0].shape[-1]

    def read(self, channels: NDArray[Any]) -> NDArray[Any]:
        """Return something of each channel for each number on the last axis that the reader reads."""
        return np.tile(channels, self.ops[-1].shape[-1] // self.channels)


def _chain(graph: IntGraph, first: Op) -> _Chain | None:
    if not isinstance(first, MatMul) or _is_depthwise(first) or getattr(first, "groups", 1) != 1:
        return None
    found: list[Op] = [first]
    last: Op = first
    while last.name not in graph.outputs:
        readers = graph.readers(last.name)
        if len(readers) != 1:
            return None
        (reader,) = readers
        if isinstance(reader, MatMul) and getattr(reader, "groups", 1) == 1:
            return _Chain(tuple(found), reader)
        flattens = isinstance(reader, ops.Reshape) and reader.shape == (math.prod(last.shape),)
        keeps_apart = _is_depthwise(reader) if isinstance(reader, MatMul) else type(reader) in PARTS
        if not (flattens or keeps_apart):
            return None
        found.append(reader)
        last = reader
        if flattens:
            behind = graph.readers(last.name)
            dense = len(behind) == 1 and isinstance(behind[0], ops.Dense) and last.name not in graph.outputs
            return _Chain(tuple(found), behind[0]) if dense else None  # type: ignore[arg-type]
    return None


def _is_depthwise(op: Op) -> bool:
    """Say whether an op makes each channel of the one channel in its place."""
    return isinstance(op, ops.Conv) and op.groups == op.shape[-1] > 1 == op.weight.codes.shape[-2]


def _smaller(graph: IntGraph, chain: _Chain) -> IntGraph | None:
    """Return the graph without the dead channels of a chain; None if all of them live."""
    constant, values = _constants(graph, chain)
    dead = constant | ~_read(chain)
    if dead.all():
        dead[0] = False
    if not dead.any():
        return None
    kept, kept_by_reader = np.flatnonzero(~dead), np.flatnonzero(chain.read(~dead))
    behind = graph[chain.ops[-1].name].format.frac_bits
    try:
        reader = _without(chain.reader, values * chain.read(dead), kept_by_reader, behind)
    except UnsupportedError:  # its bias is no code
        return None
    changed: dict[str, Op] = {op.name: _part(op, kept, chain) for op in chain.ops}
    changed[reader.name] = reader
    return replace(graph, ops=tuple(changed.get(op.name, op) for op in graph.ops))


def _read(chain: _Chain) -> Channels:
    """Say of each channel whether its reader has a weight for it."""
    weight = chain.reader.weight.codes
    by_number = (weight != 0).any(axis=(*range(weight.ndim - 2), weight.ndim - 1))
    return np.asarray(by_number.reshape(-1, chain.channels).any(axis=0))


def _constants(graph: IntGraph, chain: _Chain) -> tuple[Channels, Codes]:
    """Say of each channel whether it is one number for any input; and what the reader reads then, number by number."""
    first = chain.ops[0]
    assert isinstance(first, MatMul)
    bounds = accumulation(first, graph[first.inputs[0]].format)
    low, high = (first.cast(ends, bounds.frac_bits) for ends in _ends(first, bounds))
    constant: Channels = np.asarray(~first.weight.codes.any(axis=tuple(range(first.weight.codes.ndim - 1))))
    if first.cast.overflow in MONOTONE:
        constant |= low == high
    for op in chain.ops[1:]:
        if isinstance(op, MatMul):
            constant |= ~op.weight.codes.any(axis=tuple(range(op.weight.codes.ndim - 1)))
    last = chain.ops[-1]
    if not constant.any():
        return constant, np.zeros(last.shape[-1], np.int64)
    draft = Draft(name=graph.name, ops=graph.ops, outputs=(last.name,))
    codes = run(draft, np.clip(np.zeros((1, *graph.port_shape), np.int64), *graph.port_limits())).codes[last.name][0]
    rows = codes.reshape(-1, last.shape[-1]).astype(np.int64)
    same = (rows == rows[0]).all(axis=0)
    if isinstance(chain.reader, ops.Conv) and any(map(any, chain.reader.window.pads)):
        same &= rows[0] == 0  # its padding is zeros
    return np.asarray(constant & same.reshape(-1, chain.channels).all(axis=0)), rows[0]


def _ends(op: MatMul, bounds: Any) -> tuple[Codes, Codes]:
    """Return the smallest and largest exact result of each channel: what the bias is part of, whatever its sign."""
    bias = op.bias.codes << bounds.shifts[1] if op.bias.codes.any() else op.bias.codes
    return bounds.channel_low + np.maximum(bias, 0), bounds.channel_high + np.minimum(bias, 0)


def _without(op: MatMul, values: Codes, kept: NDArray[np.int64], frac_bits: int) -> MatMul:
    """Return a dense or a convolution that reads only some numbers, with what the others add as part of its bias.

    Args:
        op: of one group.
        values: what the others are; 0 for those that it still reads.
        kept: places of those.
        frac_bits: of what it reads.

    Raises:
        UnsupportedError: no code holds the bias.
    """
    weight = op.weight.codes
    smaller = replace(op, weight=replace(op.weight, codes=np.take(weight, kept, axis=-2)))
    added = (weight * values[:, None]).reshape(-1, weight.shape[-1]).sum(axis=0)
    if not added.any():
        return smaller
    product_frac = frac_bits + op.weight.format.frac_bits
    grid = max(product_frac, op.bias.format.frac_bits) if op.bias.codes.any() else product_frac
    own = op.bias.codes << (grid - op.bias.format.frac_bits) if op.bias.codes.any() else op.bias.codes
    return replace(smaller, bias=narrowed(own + (added << (grid - product_frac)), grid))


def _part(op: Op, kept: NDArray[np.int64], chain: _Chain) -> Op:
    """Return an op of a chain with some of its channels."""
    if isinstance(op, ops.Reshape):
        of_all = np.zeros(chain.channels, bool)
        of_all[kept] = True
        places = np.flatnonzero(chain.read(of_all))
        return replace(op, shape=(len(places),), kept=_kept(op, places))
    part = PARTS[type(op)](op, kept)
    return replace(part, shape=(*op.shape[:-1], len(kept)), kept=_kept(op, kept))


def _kept(op: Op, places: NDArray[np.int64]) -> tuple[int, ...]:
    """Return which numbers of its layer's output an op has when some of those that it had are left."""
    return tuple(int(place) for place in (np.array(op.kept)[places] if op.kept else places))


def _some(constant: Any, kept: NDArray[np.int64]) -> Any:
    return replace(constant, codes=constant.codes[..., kept])


def _matmul(op: MatMul, kept: NDArray[np.int64]) -> Op:
    part = replace(op, weight=_some(op.weight, kept), bias=_some(op.bias, kept), accumulator=None, channel_bits=())
    return replace(part, groups=len(kept)) if isinstance(part, ops.Conv) and _is_depthwise(op) else part


def _leaky(op: ops.LeakyRelu, kept: NDArray[np.int64]) -> Op:
    return replace(op, slope=_some(op.slope, kept)) if op.slope.codes.shape[-1:] == op.shape[-1:] else op


def _lookup(op: ops.Lookup, kept: NDArray[np.int64]) -> Op:
    return op if op.starts.ndim == 1 else replace(op, starts=op.starts[kept], values=op.values[kept])


PARTS: Mapping[type[Op], Callable[[Any, NDArray[np.int64]], Op]] = {
    **dict.fromkeys((ops.Dense, ops.Conv), _matmul),
    ops.BatchNorm: lambda op, kept: replace(op, scale=_some(op.scale, kept), offset=_some(op.offset, kept)),
    ops.LeakyRelu: _leaky,
    ops.Lookup: _lookup,
    **dict.fromkeys((ops.Relu, ops.Requantize, ops.MaxPool, ops.SumPool), lambda op, kept: op),
}
"""What an op that keeps channels apart is with some of them; of the MatMuls, the first and depthwise ones."""
