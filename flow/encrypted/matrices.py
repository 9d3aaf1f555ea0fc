"""From a graph to the circuit of a TFHE server.

Every op that only adds and multiplies by constants is a matrix, found by asking its meaning (`flow.ir.steps`) for the
result of each unit vector. Ops whose results are their codes take nothing of their own: their matrix is multiplied into
the next. So a circuit is as many stages as the graph has requantizations, and a last sum.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from flow.encrypted.circuit import Circuit, Group
from flow.encrypted.cuts import Cut, bits_of, tables_of
from flow.encrypted.plan import cuts_of
from flow.errors import UnsupportedError, at
from flow.ir import ops
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op
from flow.ir.steps import step_of

MATRICES = (
    ops.Dense, ops.Conv, ops.BatchNorm, ops.Requantize, ops.SumPool, ops.Reshape, ops.Gather, ops.Merge,
)  # fmt: skip
"""Ops that are a matrix before their cast; of merges those that add and subtract."""
LARGEST_MATRIX = 1 << 24
"""Numbers of a matrix that is made: 128 MB."""
WIDEST_TABLE = 8
"""Bits of a table that is still computed: one of 8 bits takes some seconds, one of 9 half a minute."""


def circuit_of(graph: IntGraph) -> Circuit:
    """Return the circuit of a lowered graph.

    Raises:
        UnsupportedError: an op is no sum with a cast, or is too large.
    """
    low, high = (each.reshape(-1) for each in graph.port_limits())
    maker = _Maker(len(low))
    for op in graph.ops:
        with at(model=graph.name):
            maker.add(op, graph.sources(op))
    output = graph.output
    matrix, bias = maker.tensors[output.name]
    cut = Cut(
        low=output.format.min_code, high=output.format.max_code, frac_bits=output.format.frac_bits, cast=output.cast
    )
    last = Group(_wide(matrix, maker.codes), bias, cut)
    return Circuit(graph.name, graph.digest(), low, high, tuple(maker.stages), last)


class _Maker:
    """Stages in the making.

    Attributes:
        codes: how many there are so far, the input's first.
        tensors: name of an op -> its codes as a matrix over those, and a bias.
    """

    def __init__(self, inputs: int) -> None:
        self.codes, self._read = inputs, 0
        self.stages: list[tuple[Group, ...]] = []
        self.tensors: dict[str, tuple[Codes, Codes]] = {}

    def add(self, op: Op, sources: tuple[Op, ...]) -> None:
        """Add an op: its sums, and a stage if they are no codes yet."""
        size = math.prod(op.shape)
        if isinstance(op, ops.Input):
            self.tensors[op.name] = np.eye(size, self.codes, self._read, dtype=np.int64), np.zeros(size, np.int64)
            self._read += size
            return
        matrix, bias = self._sums(op, sources)
        cuts, exact = cuts_of(op, *sources), step_of(op, *sources).exact.frac_bits
        if all(cut.is_free for cut in cuts):  # on one grid: that of the codes
            scale = cuts[0].frac_bits - exact
            self.tensors[op.name] = _scaled(matrix, scale), _scaled(bias, scale)
            return
        stage, order = list[Group](), list[int]()
        for cut, channels in _alike(cuts):
            numbers = [number for number in range(size) if number % len(cuts) in channels]
            _check(op, cut)
            scale = cut.frac_bits - exact
            sums = _scaled(_wide(matrix, self.codes)[numbers], scale)
            stage.append(Group(sums, _scaled(bias[numbers], scale), cut))
            order += numbers
        self.stages.append(tuple(stage))
        places = np.empty(size, np.int64)
        places[order] = self.codes + np.arange(size)
        self.codes += size
        picked = np.zeros((size, self.codes), np.int64)
        picked[np.arange(size), places] = 1
        self.tensors[op.name] = picked, np.zeros(size, np.int64)

    def _sums(self, op: Op, sources: tuple[Op, ...]) -> tuple[Codes, Codes]:
        """Return the exact results of an op, before its cast, over all codes so far."""
        added = not isinstance(op, ops.Merge) or op.function in ("add", "subtract")
        if not isinstance(op, MATRICES) or not added:
            what = f"'{getattr(op, 'function', op.kind)}' is no sum: it is not computed under TFHE"
            raise UnsupportedError(what, op=op.name, remedy="use the scheme 'bfv', where the client computes it")
        sizes = [math.prod(x.shape) for x in sources]
        if (sum(sizes) + 1) * max(math.prod(op.shape), self.codes) > LARGEST_MATRIX:
            what = f"{sum(sizes)} numbers that become {math.prod(op.shape)} are too many for TFHE"
            raise UnsupportedError(what, op=op.name, remedy="use a smaller net, or the scheme 'bfv'")
        step, ends = step_of(op, *sources), np.cumsum([0, *sizes])
        units = np.concatenate([np.eye(sum(sizes)), np.zeros((1, sum(sizes)))])
        parts = [units[:, a:b].reshape(-1, *x.shape) for a, b, x in zip(ends, ends[1:], sources, strict=False)]
        results = step.apply((slice(0, len(units)),), *(part.astype(np.int64) for part in parts))
        results = np.rint(results.reshape(len(units), -1)).astype(np.int64)
        own, bias = (results[:-1] - results[-1]).T, results[-1]
        read = [self.tensors[x.name] for x in sources]
        before = np.concatenate([_wide(matrix, self.codes) for matrix, _ in read])
        return own @ before, own @ np.concatenate([each for _, each in read]) + bias


def _wide(matrix: Codes, codes: int) -> Codes:
    """Return a matrix over all codes so far."""
    return np.pad(matrix, ((0, 0), (0, codes - matrix.shape[1])))


def _scaled(sums: Codes, shift: int) -> Codes:
    scaled = sums << shift if shift >= 0 else sums >> -shift
    assert np.array_equal(scaled >> shift if shift >= 0 else scaled << -shift, sums)
    return scaled


def _alike(cuts: tuple[Cut, ...]) -> list[tuple[Cut, set[int]]]:
    """Return cuts that are computed side by side by the same steps, as one that goes as far, and whose they are.

    A table grows with each bit, so sums of one table share its kind only where none becomes wider.
    """
    found: list[tuple[Cut, set[int]]] = []
    for channel, cut in sorted(enumerate(cuts), key=lambda pair: (pair[1].low, pair[1].high)):
        for number, (other, channels) in enumerate(found):
            both = replace(cut, low=min(cut.low, other.low), high=max(cut.high, other.high))
            same = (cut.frac_bits, cut.is_free, cut.is_table) == (other.frac_bits, other.is_free, other.is_table)
            if same and (not cut.is_table or _bits(both) <= min(_bits(cut), _bits(other))):
                found[number] = both, channels | {channel}
                break
        else:
            found.append((cut, {channel}))
    return found


def _bits(cut: Cut) -> int:
    return bits_of(cut.high - cut.low)


def _check(op: Op, cut: Cut) -> None:
    if tables_of(cut).widest > WIDEST_TABLE:
        what = f"its codes take a table of {tables_of(cut).widest} bits, more than {WIDEST_TABLE}"
        raise UnsupportedError(what, op=op.name, remedy="use fewer bits, or the scheme 'bfv'")
