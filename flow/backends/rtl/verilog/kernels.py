"""Kernels: each op of the graph as netlists, and which codes of its inputs go where.

A kernel computes one position of the output. It is built once and used at every position that computes the same
function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.backends.rtl.netlists.netlist import Netlist
from flow.backends.rtl.verilog.op_netlists import OUTSIDE, netlist
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op
from flow.ir.reference import code_dtype
from flow.ir.windows import Shape

TABLE_INPUT_BITS = 16
"""Tables, and softmax's exponentials, are built for inputs of at most so many bits."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedNetlist:
    """One function and where it is used.

    Attributes:
        net: the function of one position.
        index: int64 (positions, len(net.inputs)): which code of the op's inputs (each flattened, one after another)
            is each input; -1 for padding.
        fill: the code that stands in padding.
        places: int64 (positions,): which position of the output each use computes, in units of its outputs.
    """

    net: Netlist
    index: Codes
    fill: int
    places: Codes


def kernels(op: Op, graph: IntGraph) -> list[PlacedNetlist]:
    """Return the kernels of an op; together they compute every element of its output once.

    An op that `refusals` names would take more memory than there is.

    Raises:
        ToolMissingError: alkaid is needed and not installed.
    """
    places, sources = PLACES[type(op)], graph.sources(op)
    index, constants = places.index(op, sources), places.constants(op, sources)
    rows = np.broadcast_to(constants, (len(index), constants.shape[1]))
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    placed = []
    for number, row in enumerate(distinct):
        here = np.flatnonzero(which.reshape(-1) == number)
        net = netlist(op, [x.format for x in sources], row)
        placed.append(PlacedNetlist(net, index[here, : len(net.inputs)], places.fill(op), here))  # a zero reads nothing
    return placed


def pixel_netlist(op: Op, sources: Sequence[Op]) -> Netlist:
    """Return the netlist of every position of an op that computes the same function at each."""
    return netlist(op, [x.format for x in sources], PLACES[type(op)].constants(op, sources)[0])


def refusals(graph: IntGraph) -> Iterator[UnsupportedError]:
    """Yield why ops of a graph have no netlist: who, why, and what to do."""
    for op in graph.ops:
        bits = 0 if isinstance(op, OUTSIDE) else PLACES[type(op)].table_bits(graph.sources(op))
        if bits > TABLE_INPUT_BITS:
            yield UnsupportedError(
                f"op '{op.name}' is a table over {bits} bits",
                named=op.name,
                remedy=f"at most {TABLE_INPUT_BITS} are built: quantize its input",
            )


def evaluate(op: Op, graph: IntGraph, inputs: list[Codes]) -> Codes:
    """Return an op's output as its netlists compute it: what the Verilog is written from.

    Args:
        op: the op.
        graph: its graph.
        inputs: codes of each input, (samples, *shape).
    """
    samples = len(inputs[0])
    flat = np.concatenate([x.reshape(samples, -1) for x in inputs], axis=1).astype(np.int64)
    out = np.empty((samples, math.prod(op.shape)), code_dtype(op.format))
    for kernel in kernels(op, graph):
        padded = np.concatenate([flat, np.full((samples, 1), kernel.fill, np.int64)], axis=1)  # index -1 is the fill
        codes = padded[:, kernel.index].reshape(samples * len(kernel.places), kernel.index.shape[1])
        result = kernel.net.run(codes).reshape(samples, len(kernel.places), -1)
        out.reshape(samples, -1, result.shape[-1])[:, kernel.places] = result
    return out.reshape(samples, *op.shape)


# ---------------------------------------------------------------------- which codes each position reads


def _pixels(op: Op, sources: Sequence[Op]) -> Codes:
    """Every input at the same position."""
    starts = np.cumsum([0] + [math.prod(x.shape) for x in sources])
    return np.concatenate([_rows(x.shape) + start for x, start in zip(sources, starts, strict=False)], axis=1)


def _rows(shape: Shape) -> Codes:
    return np.arange(math.prod(shape), dtype=np.int64).reshape(-1, shape[-1] if shape else 1)


def _windows(op: ops.Conv | ops.Pool, sources: Sequence[Op]) -> Codes:
    """The pixels of a window, -1 in the padding."""
    (x,) = sources
    places, channels = op.window.places(x.shape)[..., np.newaxis], np.arange(x.shape[-1])
    return np.where(places < 0, -1, places * len(channels) + channels).reshape(len(places), -1)


# ---------------------------------------------------------------------- what differs between positions


def _slopes(op: ops.LeakyRelu, sources: Sequence[Op]) -> Codes:
    return np.broadcast_to(op.slope.codes, op.shape).reshape(-1, op.shape[-1])


def _source(op: ops.Gather, sources: Sequence[Op]) -> Codes:
    """Which input a code comes from; a zero comes from behind the last."""
    starts, flat = np.cumsum([0] + [math.prod(x.shape) for x in sources]), op.index.reshape(-1)
    source = np.searchsorted(starts, flat, side="right") - 1
    return np.where(flat < 0, len(sources), source)[:, None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where an op computes what.

    Attributes:
        index: op, what it reads -> which code each input of each position is, see `PlacedNetlist`.
        constants: the same -> what differs between positions, int64 (positions or 1, n).
        fill: op -> the code that stands in padding.
        table_bits: what it reads -> over how many bits it is a table; 0 if it is none.
    """

    index: Callable[[Any, Sequence[Op]], Codes]
    constants: Callable[[Any, Sequence[Op]], Codes] = lambda op, sources: np.zeros((1, 1), np.int64)
    fill: Callable[[Op], int] = lambda op: 0
    table_bits: Callable[[Sequence[Op]], int] = lambda sources: 0


PLACES: Mapping[type[Op], Places] = {
    **dict.fromkeys((ops.Dense, ops.BatchNorm, ops.Relu, ops.Requantize, ops.Merge), Places(_pixels)),
    **dict.fromkeys((ops.Lookup, ops.Softmax), Places(_pixels, table_bits=lambda sources: sources[0].format.width)),
    ops.LeakyRelu: Places(_pixels, _slopes),
    ops.Conv: Places(_windows),
    ops.MaxPool: Places(_windows, fill=lambda op: op.format.min_code),
    ops.SumPool: Places(_windows, lambda op, sources: op.weight.codes.reshape(-1, 1)),
    ops.Reshape: Places(lambda op, sources: np.arange(math.prod(op.shape), dtype=np.int64)[:, None]),
    ops.Gather: Places(lambda op, sources: op.index.reshape(-1, 1), _source),
}
"""By type of op, but for those `OUTSIDE`."""
