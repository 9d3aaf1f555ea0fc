"""A float graph with fewer ops: batch norms and averages move into the weights beside them, exactly but for float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from flow.ir import ops
from flow.ir.graph import Op
from flow.quantization.floats import INTEGER_ONLY, FloatGraph, FloatOp, Function, Reals

Rewrite = Callable[[FloatOp, FloatOp], FloatOp | None]
"""Given an op and its only reader, return the op that does both, under one of their names, or None to leave them."""


def restructure(graph: FloatGraph) -> FloatGraph:
    """Return the graph with batch norms folded and averages moved into weights, where that changes no value."""
    return fold_averages(fold_batchnorms(graph))


def fold_batchnorms(graph: FloatGraph) -> FloatGraph:
    """Fold each batch norm into the sum of products before it, else into the one behind it if that has no padding.

    Between zeros that pad an image, a batch norm is no constant factor: there, and behind an add or a ReLU that others
    read, it stays.
    """
    return _rewritten(_rewritten(graph, _fold_back), _fold_ahead)


def _fold_back(first: FloatOp, second: FloatOp) -> FloatOp | None:
    if not (isinstance(first.op, ops.MatMul) and isinstance(second.op, ops.BatchNorm)) or first.divisor != 1:
        return None
    (scale, offset), (weight, bias) = second.numbers, first.numbers
    return replace(second, op=_both(first, second, first.op), factor=weight * scale, addend=bias * scale + offset)


def _fold_ahead(first: FloatOp, second: FloatOp) -> FloatOp | None:
    if not (isinstance(first.op, ops.BatchNorm) and isinstance(second.op, ops.MatMul)) or first.divisor != 1:
        return None
    if isinstance(second.op, ops.Conv) and any(second.op.window.padding):
        return None
    (scale, offset), (weight, bias) = first.numbers, second.numbers
    filters = weight.shape[-1]
    own = by_input_channel(second.op, scale)
    added = (weight * by_input_channel(second.op, offset)).reshape(-1, filters).sum(axis=0)
    return replace(second, op=_both(first, second, second.op), factor=weight * own, addend=bias + added)


def by_input_channel(op: ops.MatMul, channels: Reals) -> Reals:
    """Return one number per input channel as an array that multiplies the weights of `op`, group by group."""
    if not isinstance(op, ops.Conv) or op.groups == 1:
        return channels[:, np.newaxis]
    of_group, filters = op.weight.codes.shape[-2:]
    return np.asarray(channels.reshape(op.groups, of_group).T.repeat(filters // op.groups, axis=1))


def fold_averages(graph: FloatGraph) -> FloatGraph:
    """Move the division of an average over all positions into the weights that alone read it.

    The hardware then adds exactly, and nothing is rounded between. Other averages are quantized like any module.
    """
    for average in graph.ops:
        reader = reader_of_average(graph, average)
        if average.divisor != 1 and reader is not None and isinstance(reader.op, ops.MatMul):
            divided = replace(reader, factor=reader.numbers[0] / average.divisor)
            exact = replace(average, divisor=1)
            swaps = {average.name: exact, reader.name: divided}
            return fold_averages(replace(graph, ops=tuple(swaps.get(op.name, op) for op in graph.ops)))
    return graph


def reader_of_average(graph: FloatGraph, op: FloatOp) -> FloatOp | None:
    """Return the op that alone reads an average over all positions, behind changes of shape; None for other ops."""
    if not isinstance(op.op, ops.SumPool) or math.prod(op.op.shape[:-1]) != 1:
        return None
    reader = graph.alone(op.name)
    while reader is not None and isinstance(reader.op, ops.Reshape):
        reader = graph.alone(reader.name)
    return reader


def _both(first: FloatOp, second: FloatOp, kept: Op) -> Op:
    """Return `kept`, one of two ops, standing for both."""
    return replace(
        kept,
        inputs=first.inputs,
        layers=first.op.layers + second.op.layers,
        fused=first.op.fused + second.op.fused,
    )


def _rewritten(graph: FloatGraph, rewrite: Rewrite) -> FloatGraph:
    """Apply a rewrite to each op and its only reader, until nothing changes."""
    for first in graph.ops:
        second = graph.alone(first.name)
        merged = rewrite(first, second) if second is not None else None
        if merged is not None and second is not None:
            renamed = {first.name: merged.name, second.name: merged.name}
            kept = (merged if op is second else op for op in graph.ops if op is not first)
            ops = tuple(op if op is merged else _reading(op, renamed) for op in kept)
            outputs = tuple(renamed.get(name, name) for name in graph.outputs)
            softmaxes = {renamed.get(name, name): layer for name, layer in graph.softmaxes.items()}
            return _rewritten(replace(graph, ops=ops, outputs=outputs, softmaxes=softmaxes), rewrite)
    return graph


def _reading(op: FloatOp, renamed: Mapping[str, str]) -> FloatOp:
    if not renamed.keys() & set(op.inputs):
        return op
    return replace(op, op=replace(op.op, inputs=tuple(renamed.get(name, name) for name in op.inputs)))


# -- equalization across layers

SWEEPS = 20
"""How often all pairs are equalized: later ones change little."""
FLAT = 1e-6
"""A channel whose weights reach no further than this share of the largest is left as it is."""


def equalize(graph: FloatGraph) -> FloatGraph:
    """Make the weights of channels in a row of layers reach equally far, without changing what the row computes.

    Between two sums of products that nothing but ReLUs, maximum pooling and padding lies between, channel i of the
    first is divided by s and the weights that read it are multiplied by s, with s so that both reach equally far. A
    ReLU with a limit becomes one without, since its limit would differ from channel to channel: that changes the values
    beyond it. After Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019).
    """
    pairs = tuple(_pairs(graph))
    between = {name for _, path, _ in pairs for name in path}
    ops = {op.name: replace(op, limit=None) if op.name in between else op for op in graph.ops}
    for _ in range(SWEEPS):
        for first, _, second in pairs:
            ops[first], ops[second] = _equalized(ops[first], ops[second])
    return replace(graph, ops=tuple(ops[op.name] for op in graph.ops))


def _pairs(graph: FloatGraph) -> list[tuple[str, tuple[str, ...], str]]:
    """Return each sum of products, the ops behind it that pass a factor per channel on, and the sum that reads them."""
    pairs = []
    for first in graph.ops:
        path: list[str] = []
        reader = graph.alone(first.name) if isinstance(first.op, ops.MatMul) else None
        while reader is not None and _scales(graph, reader):
            path.append(reader.name)
            reader = graph.alone(reader.name)
        if reader is not None and isinstance(reader.op, ops.MatMul):
            pairs.append((first.name, tuple(path), reader.name))
    return pairs


def _scales(graph: FloatGraph, op: FloatOp) -> bool:
    """Say whether an op gives s times its output for s times its input, channel by channel."""
    return SCALES[type(op.op)](graph, op)


def _keeps_channels(graph: FloatGraph, op: FloatOp) -> bool:
    """Say whether a gather of one tensor takes each code from the channel it goes to, or puts a zero."""
    assert isinstance(op.op, ops.Gather)
    index, channels = op.op.index, graph[op.inputs[0]].op.shape[-1]
    if len(op.inputs) != 1 or index.shape[-1] != channels:
        return False
    return bool(((index < 0) | (index % channels == np.arange(channels))).all())


def _yes(graph: FloatGraph, op: FloatOp) -> bool:
    return True


def _no(graph: FloatGraph, op: FloatOp) -> bool:
    return False


SCALES: Mapping[type[Op], Callable[[FloatGraph, FloatOp], bool]] = {
    ops.Dense: _no,
    ops.Conv: _no,
    ops.BatchNorm: _no,
    ops.Relu: _yes,
    ops.LeakyRelu: _no,
    ops.Merge: _no,
    ops.MaxPool: _yes,
    ops.SumPool: _yes,
    ops.Reshape: _no,
    ops.Gather: _keeps_channels,
    Function: _no,
}
"""Whether an op that reads another passes a factor per channel on."""
READS_NOTHING = (ops.Input, *INTEGER_ONLY)
"""Ops that read no other op of a float graph."""


def _equalized(first: FloatOp, second: FloatOp) -> tuple[FloatOp, FloatOp]:
    (weight, bias), (read, _) = first.numbers, second.numbers
    assert isinstance(second.op, ops.MatMul)
    out = np.abs(weight).reshape(-1, weight.shape[-1]).max(axis=0)
    into = _reach_by_input(second.op, read)
    usable = (out > FLAT * out.max(initial=0)) & (into > FLAT * into.max(initial=0))
    factor = np.ones_like(out)
    factor[usable] = np.sqrt(out[usable] / into[usable])
    read = read * by_input_channel(second.op, factor)
    return replace(first, factor=weight / factor, addend=bias / factor), replace(second, factor=read)


def _reach_by_input(op: ops.MatMul, weight: Reals) -> Reals:
    """Return the largest magnitude of the weights that read each input channel."""
    if isinstance(op, ops.Dense) or (isinstance(op, ops.Conv) and op.groups == 1):
        return np.asarray(np.abs(weight).max(axis=-1).reshape(-1, weight.shape[-2]).max(axis=0))
    assert isinstance(op, ops.Conv)
    split = np.abs(weight).reshape(-1, weight.shape[-2], op.groups, weight.shape[-1] // op.groups)
    return np.asarray(split.max(axis=(0, 3)).T.reshape(-1))
