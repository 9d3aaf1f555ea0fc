"""Fuse whatever depends on at most six bits into truth tables, with all the arithmetic between.

A cone is what an element is computed of, back to the bits that it reads. Its function is found by counting it out: each
op of the cone computes all numbers that these bits can make, as the reference does (`ir.steps`). On an FPGA a bit of
the result is then one look-up table, whether the cone is a wire or a small network of several layers.

Ops are taken in order. What they read are bits of tensors that are there (roots), and while no element reads more than
`TABLE_BITS` of them, cones grow over op after op; else they begin anew from what the op reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flow.ir import ops
from flow.ir.fixed import Cast, Codes, Overflow
from flow.ir.graph import IntGraph, Op
from flow.ir.intervals import accumulation, exact_result
from flow.ir.po2 import signed_digits
from flow.ir.steps import cast, step_of

TABLE_BITS = 6
"""Inputs of a look-up table. One of seven or eight is made of two or four of them, and bits that cones of six would
share are built again in each, so that wider ones would have to be counted, not assumed."""
NUMBERS = np.arange(1 << TABLE_BITS)
CHUNK = 1 << 19
"""Numbers that are held at once."""
NONE = -1
"""Stands for a wire where fewer are read."""


@dataclass(frozen=True, slots=True, eq=False)
class Cones:
    """What the elements of a tensor, flattened, are of the bits that they read.

    Attributes:
        wires: int64 (elements, TABLE_BITS): a number of each bit that is read, ascending; NONE where there are fewer.
        values: int64 (elements, 2**TABLE_BITS): the code for each number that the bits make, the first one lowest.
        roots: names of the ops whose bits they are.
        made: names of the ops between.
    """

    wires: Codes
    values: Codes
    roots: frozenset[str]
    made: tuple[str, ...] = ()


def fuse_tables(graph: IntGraph) -> IntGraph:
    """Replace ops whose elements depend on at most `TABLE_BITS` bits each by tables, where these take less.

    Args:
        graph: lowered, each position with hardware of its own.
    """
    found = _Finder(graph)
    for op in graph.ops:
        found.add(op)
    needed, new = set(graph.outputs), dict[str, Op]()
    for op in reversed(graph.ops):
        if op.name in needed:
            new[op.name] = found.table(op) or op
            needed.update(new[op.name].inputs)
    kept = tuple(new[op.name] for op in graph.ops if op.name in new or isinstance(op, ops.Input))
    return replace(graph, ops=kept) if any(isinstance(op, ops.TruthTable) for op in kept) else graph


class _Finder:
    """Cones of a graph's tensors, one op after another.

    Attributes:
        grown: op -> its cones as far back as they go; None if an element reads too many bits.
        rooted: op -> its elements as bits of their own; what only moves codes passes those on that it reads.
        firsts: op -> the number of its first bit.
    """

    def __init__(self, graph: IntGraph) -> None:
        self.graph = graph
        self.grown: dict[str, Cones | None] = {}
        self.rooted: dict[str, Cones | None] = {}
        self.firsts: dict[str, int] = {}
        self._bits = 0

    def add(self, op: Op) -> None:
        """Find the cones of an op behind all that it reads."""
        follow = CONES[type(op)]
        inputs = self.graph.sources(op)
        begun = [self.rooted[x.name] for x in inputs]
        cones = None
        for read in ([self.grown[x.name] for x in inputs], begun):
            if cones is None and follow is not None and all(each is not None for each in read):
                cones = follow(op, inputs, read)
        if cones is not None and not isinstance(op, MOVES):
            cones = without_unread(replace(cones, made=(*cones.made, op.name)))
        moved = follow is not None and isinstance(op, MOVES) and all(each is not None for each in begun)
        self.rooted[op.name] = follow(op, inputs, begun) if moved and follow else self._root(op, cones)
        self.grown[op.name] = self.rooted[op.name] if cones is None else cones

    def _root(self, op: Op, cones: Cones | None) -> Cones | None:
        """Return the elements of an op as bits: those that vary, once each; None if they are too many."""
        self.firsts[op.name] = first = self._bits
        self._bits += math.prod(op.shape) * op.format.width
        codes = possible_codes(op, self.graph.sources(op)) if cones is None else np.unique(cones.values)
        if codes is None:
            return None
        bits, values = varying_bits(codes, op.format.width)
        if len(bits) > TABLE_BITS:
            return None
        elements, constant = np.arange(math.prod(op.shape)), np.zeros(math.prod(op.shape), bool)
        every = np.broadcast_to(values[NUMBERS % len(values)], (len(elements), len(NUMBERS)))
        if cones is not None:  # equal elements are one, and one that never varies is no wire
            _, firsts, same = np.unique(
                np.c_[cones.wires, cones.values], axis=0, return_index=True, return_inverse=True
            )
            elements, constant = firsts[same.reshape(-1)], (cones.wires == NONE).all(axis=1)
            every = np.where(constant[:, None], cones.values, every)
        wires = np.full((len(elements), TABLE_BITS), NONE, np.int64)
        wires[:, : len(bits)] = first + elements[:, None] * op.format.width + bits
        wires[constant] = NONE
        return Cones(wires, every, frozenset((op.name,)))

    def table(self, op: Op) -> ops.TruthTable | None:
        """Return the tables that compute an op, or None if there are none, or they take as much as the op."""
        cones = self.grown[op.name]
        if cones is None or isinstance(op, MOVES) or not cones.made:
            return None
        made = [self.graph[name] for name in cones.made]
        if table_luts(cones, op) >= sum(adder_bits(each, self.graph) for each in made):
            return None
        count = max(1, int((cones.wires != NONE).sum(axis=1).max()))
        wires, bits, start, roots = np.full(cones.wires.shape, NONE), np.zeros_like(cones.wires), 0, list[str]()
        for root in (self.graph[name] for name in self.firsts if name in cones.roots):
            of_root, size = cones.wires - self.firsts[root.name], math.prod(root.shape)
            mine = (of_root >= 0) & (of_root < size * root.format.width) & (cones.wires != NONE)
            if mine.any():
                wires[mine], bits[mine] = start + of_root[mine] // root.format.width, of_root[mine] % root.format.width
                roots.append(root.name)
                start += size
        if not roots:
            return None
        return ops.TruthTable(
            name=op.name,
            inputs=tuple(roots),
            shape=op.shape,
            cast=Cast(op.format),
            layers=tuple(layer for each in made for layer in each.layers),
            fused=tuple(word for each in made for word in each.fused),
            kept=op.kept,
            denominator=op.denominator,
            wires=wires[:, :count].reshape(*op.shape, count),
            bits=bits[:, :count].reshape(*op.shape, count),
            values=cones.values[:, : 1 << count].reshape(*op.shape, 1 << count),
        )


def possible_codes(op: Op, inputs: Sequence[Op]) -> Codes | None:
    """Return a set of codes that holds all that an op can give; None if it has more than tables tell apart."""
    if isinstance(op, ops.Lookup):
        return np.unique(op.values) if len(np.unique(op.values)) <= len(NUMBERS) else None
    low, high = op.cast.lowest_code, op.format.max_code
    if inputs and op.cast.overflow in (Overflow.SAT, Overflow.SAT_SYM):
        exact = exact_result(op, *(x.format for x in inputs))
        low, high = op.cast(np.array([exact.low, exact.high], np.int64), exact.frac_bits).tolist()
    return np.arange(low, high + 1, dtype=np.int64) if high - low < len(NUMBERS) else None


def varying_bits(codes: Codes, width: int) -> tuple[Codes, Codes]:
    """Return the bits that tell some codes apart, without those that equal or oppose another; and the code for each
    number that these make (the first code for those that none makes)."""
    distinct = dict[bytes, int]()
    for bit in range(width):
        column = codes >> bit & 1
        if (column != column[0]).any():
            distinct.setdefault((column ^ column[0]).tobytes(), bit)
    bits = np.array(list(distinct.values()), np.int64)
    values = np.full(1 << len(bits), codes[0])
    values[((codes[:, None] >> bits & 1) << np.arange(len(bits))).sum(axis=1)] = codes
    return bits, values


def union(wires: Codes) -> Codes | None:
    """Return the wires of each row once, int64 (rows, TABLE_BITS); None if a row has too many."""
    ordered = np.sort(wires, axis=1)
    new = ordered != NONE
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    if new.sum(axis=1).max(initial=0) > TABLE_BITS:
        return None
    out = np.full((len(wires), TABLE_BITS), NONE)
    rows, columns = np.nonzero(new)
    out[rows, (new.cumsum(axis=1) - 1)[rows, columns]] = ordered[rows, columns]
    return out


def over(wires: Codes, own: Codes, values: Codes) -> Codes:
    """Return functions of bits as functions of other bits, all of theirs among these.

    Args:
        wires: int64 (elements, TABLE_BITS): the bits that they become functions of.
        own, values: a few cones for each element, int64 (elements, cones, TABLE_BITS or 2**TABLE_BITS).
    """
    number = np.zeros((*own.shape[:2], len(NUMBERS)), np.int64)
    for weight in range(TABLE_BITS):
        wire = own[:, :, weight]
        place = (wire[:, :, None] == wires[:, None, :]).argmax(axis=-1)
        number += np.where((wire == NONE)[:, :, None], 0, (NUMBERS >> place[:, :, None] & 1) << weight)
    return np.take_along_axis(values, number, axis=-1)


def without_unread(cones: Cones) -> Cones:
    """Return cones without the bits on which their elements do not depend."""
    kept = cones.wires.copy()
    for bit in range(TABLE_BITS):
        halves = cones.values.reshape(len(kept), -1, 2, 1 << bit)
        kept[(halves[:, :, 0] == halves[:, :, 1]).all(axis=(1, 2)), bit] = NONE
    wires = union(kept)
    assert wires is not None, "fewer wires than before"
    return replace(cones, wires=wires, values=over(wires, kept[:, None], cones.values[:, None])[:, 0])


# ---------------------------------------------------------------------- what a cone is behind one more op


Follow = Callable[[Any, Sequence[Op], Sequence[Any]], Cones | None]
"""An op, what it reads, and the cones of that: the cones of the op, or None if an element reads too many bits."""


def _computed(op: Op, inputs: Sequence[Op], values: Sequence[Codes]) -> Codes:
    """Return what an op computes of elements as numbers of bits go through all of theirs, as samples."""
    step = step_of(op, *inputs)
    samples = [each.T.reshape(len(NUMBERS), *x.shape) for each, x in zip(values, inputs, strict=True)]
    result = step.apply((slice(0, len(NUMBERS)),), *samples)
    codes = cast(result, step) if step.casts and not step.chooses else result
    return np.ascontiguousarray(codes.reshape(len(NUMBERS), -1).T).astype(np.int64)


def _aligned(op: Op, inputs: Sequence[Op], read: Sequence[Cones]) -> Cones | None:
    """An element is of the elements in the same place of all inputs."""
    wires = union(np.concatenate([each.wires for each in read], axis=1))
    if wires is None:
        return None
    values = [over(wires, each.wires[:, None], each.values[:, None])[:, 0] for each in read]
    return Cones(wires, _computed(op, inputs, values), *_before(read))


def _gathered(op: ops.Gather, inputs: Sequence[Op], read: Sequence[Cones]) -> Cones:
    zero = np.full((1, TABLE_BITS), NONE)
    wires = np.concatenate([*(each.wires for each in read), zero])[op.index.reshape(-1)]
    return Cones(wires, _computed(op, inputs, [each.values for each in read]), *_before(read))


def _before(read: Sequence[Cones]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the roots and the ops of some cones."""
    return frozenset[str]().union(*(each.roots for each in read)), tuple(
        dict.fromkeys(name for each in read for name in each.made)
    )


def _summed(op: ops.MatMul, inputs: Sequence[Op], read: Sequence[Cones]) -> Cones | None:
    """A sum of the elements that have a weight, some at a time: in most nets the first reads too many bits."""
    (x,), (cones,) = inputs, read
    acc, (pixels, pixel, channel, weight) = accumulation(op, x.format), _reads(op, x)
    own = np.concatenate([cones.wires, np.full((1, TABLE_BITS), NONE)])  # padding
    codes = np.concatenate([cones.values, np.zeros((1, len(NUMBERS)), np.int64)])
    weight, bias = weight << acc.shifts[0], op.bias.codes << acc.shifts[1]
    elements, wires, values = math.prod(op.shape), list[Codes](), list[Codes]()
    size = max(1, CHUNK // (len(NUMBERS) * max(weight.shape[1], 1)))
    for start in range(0, elements, size):
        position, output = np.divmod(np.arange(start, min(start + size, elements)), op.shape[-1])
        at = pixels[position[:, None], pixel[output]]
        several = np.where((at < 0) | (weight[output] == 0), NONE, at * x.shape[-1] + channel[output])
        together = union(own[several].reshape(len(several), -1))
        if together is None:
            return None
        terms = over(together, own[several], codes[several]) * weight[output][:, :, None]
        values.append(op.cast(terms.sum(axis=1) + bias[output][:, None], acc.frac_bits))
        wires.append(together)
    return Cones(np.concatenate(wires), np.concatenate(values), *_before(read))


def _reads(op: ops.MatMul, x: Op) -> tuple[Codes, Codes, Codes, Codes]:
    """Return what a dense or a convolution reads.

    Returns:
        which pixel of the input each pixel of a window is, int64 (positions, pixels), NONE for padding; and of each
        output for each of its weights, int64 (outputs, weights): the pixel, the channel, the weight (0 for none).
    """
    groups, channels, outputs = 1, *op.weight.codes.shape[-2:]
    pixels = np.arange(math.prod(op.shape[:-1]))[:, None]
    if isinstance(op, ops.Conv):
        groups, pixels = op.groups, op.window.places(x.shape)
    matrix = op.weight.codes.reshape(-1, outputs)
    most = int(np.count_nonzero(matrix, axis=0).max(initial=0))
    rows = np.argsort(matrix == 0, axis=0, kind="stable")[:most]
    pixel, channel = np.divmod(rows.T, channels)
    first = np.arange(outputs) // (outputs // groups) * channels
    return pixels, pixel, channel + first[:, None], np.take_along_axis(matrix, rows, axis=0).T


MOVES = (ops.Reshape, ops.Gather)
"""Ops that move codes: wires."""
CONES: Mapping[type[Op], Follow | None] = {
    ops.Input: None,
    **dict.fromkeys((ops.Dense, ops.Conv), _summed),
    **dict.fromkeys((ops.BatchNorm, ops.Relu, ops.LeakyRelu, ops.Requantize, ops.Merge, ops.Lookup), _aligned),
    ops.MaxPool: None,
    ops.SumPool: None,
    ops.Reshape: _aligned,
    ops.Gather: _gathered,
    ops.TruthTable: None,
    ops.Softmax: None,
    ops.Scan: None,
}
"""How cones grow over an op; None if they begin behind it."""


# ---------------------------------------------------------------------- what both forms take


def table_luts(cones: Cones, op: Op) -> int:
    """Return the look-up tables that compute an op: one for each bit of two wires or more, equal ones once."""
    rows = cones.wires[:, 1] != NONE
    wires, values = cones.wires[rows], cones.values[rows]
    planes = [np.c_[wires, values >> bit & 1] for bit in range(op.format.width)]
    planes = [plane[plane[:, TABLE_BITS:].any(axis=1) & ~plane[:, TABLE_BITS:].all(axis=1)] for plane in planes]
    return len(np.unique(np.concatenate(planes), axis=0))


def _summed_bits(op: ops.MatMul, graph: IntGraph) -> int:
    digits = signed_digits(op.weight.codes.reshape(-1, op.shape[-1])).sum(axis=0) + (op.bias.codes != 0)
    bits = np.array(accumulation(op, graph[op.inputs[0]].format).channel_bits)
    return math.prod(op.shape[:-1]) * int(np.maximum(digits - 1, 0) @ bits)


def _scaled_bits(op: ops.BatchNorm, graph: IntGraph) -> int:
    adders = np.maximum(signed_digits(op.scale.codes) + (op.offset.codes != 0) - 1, 0).sum()
    return math.prod(op.shape[:-1]) * int(adders) * exact_result(op, graph[op.inputs[0]].format).format.width


def _merged_bits(op: ops.Merge, graph: IntGraph) -> int:
    width = exact_result(op, *(x.format for x in graph.sources(op))).format.width
    return math.prod(op.shape) * (len(op.inputs) - 1) * width


ADDERS: Mapping[type[Op], Callable[[Any, IntGraph], int]] = {
    **dict.fromkeys((ops.Dense, ops.Conv), _summed_bits),
    ops.BatchNorm: _scaled_bits,
    ops.Merge: _merged_bits,
}
"""The bits of the adders of an op. Others have none: their logic is at most as large as tables."""


def adder_bits(op: Op, graph: IntGraph) -> int:
    """Return the bits of the adders of an op, each of which takes a look-up table, as its carry chain has it."""
    return ADDERS[type(op)](op, graph) if type(op) in ADDERS else 0
