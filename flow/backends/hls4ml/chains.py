"""What a back end without our kernels takes: a chain of ops with one port each, each op in a form that hls4ml has.

Seen in the writers and templates of hls4ml 1.3.0, and in C simulation of the tests' zoo where a plain C++ compiler can
do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.layers import WITHOUT_LAYER, pools
from flow.errors import UnsupportedError
from flow.ir.graph import BatchNorm, Conv, Dense, Input, IntGraph, MaxPool, Op, Relu, Requantize, Reshape
from flow.target import Target

LARGE = 2048
"""Above this many products, Quartus and oneAPI pad the weights to a reuse factor that is a power of two."""
Refusal = tuple[str, str]
"""What is wrong with an op, and the way out."""


def refusals(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield what a back end that is not extended would compute otherwise than the graph says."""
    dialect = DIALECTS[target.backend]
    if dialect.extended:
        return
    if target.io_type not in dialect.io_types:
        yield UnsupportedError(
            f"hls4ml cannot write {target.io_type} projects for {target.backend}",
            remedy=f"use {' or '.join(dialect.io_types)}",
        )
    if len(graph.inputs) > 1 or len(graph.outputs) > 1:
        yield UnsupportedError(
            f"several inputs or outputs are not supported for {target.backend}", remedy="use Vitis or Vivado"
        )
    for op in graph.ops:
        refused = _refused(op, graph, target)
        if refused:
            what, remedy = refused
            remedy = f"{remedy}, or back end Vitis or Vivado" if remedy else ""
            yield UnsupportedError(what, op=op.name, remedy=remedy)


def _refused(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    backend, ops = target.backend, DIALECTS[target.backend].ops
    if type(op) not in (Input, *ops):
        done = ", ".join(cls.kind for cls in ops)
        return f"hls4ml's {backend} back end does not compute '{op.kind}' exactly", f"use only {done}"
    if isinstance(op, Dense) and len(op.shape) > 1 and Conv not in ops:
        return f"hls4ml makes a convolution of a dense over several axes, and {backend} has none", "use vectors"
    if len(graph.readers(op.name)) + (op.name in graph.outputs) != 1:
        return f"not exactly one reader of its output, which is not supported for {backend}", "use a chain of layers"
    if op.cast.divisor != 1:
        return _no_division(backend)
    return FORMS[type(op)](op, graph, target)


def _no_division(backend: str) -> Refusal:
    return f"a division or an upper limit is not supported for {backend}", "use layers without"


def _taken(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    return None


def _not_one_bit(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    if DIALECTS[target.backend].types == "ac_fixed" and op.format.width == 1:
        return f"hls4ml writes its one-bit output as two bits for {target.backend}", "quantize it to two bits or more"
    return None


def _dense(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    assert isinstance(op, Dense)
    backend, reuse = target.backend, target.reuse(op.name)
    padded = DIALECTS[backend].dense == "dense_resource" and op.weight.codes.size > LARGE and math.log2(reuse) % 1
    if padded and op.format.width > 1:
        what = f"with more than {LARGE} products its reuse factor must be a power of two for {backend}, not {reuse}"
        return f"{what}, or back end Vitis or Vivado", ""
    return _not_one_bit(op, graph, target)


def _relu(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    assert isinstance(op, Relu)
    return _not_one_bit(op, graph, target) if op.limit is None else _no_division(target.backend)


def _max_pool(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    assert isinstance(op, MaxPool)
    if pools(op, target):
        return None
    return (
        "max pooling with padding, over other than two axes, or in io_stream with overlapping windows is not "
        f"supported for {target.backend}"
    ), "use MaxPooling2D with padding 'valid' and strides equal to the window"


def _reshape(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    assert isinstance(op, Reshape)
    if op.name in graph.outputs:
        return f"a final reshape is left out by hls4ml for {target.backend}", "drop it from the model"
    if target.io_type == "io_stream" and not _keeps_the_stream(op, graph):
        return (
            "a reshape in io_stream to words that neither divide nor fill those before, or to a vector that no dense "
            f"reads, is not supported for {target.backend}"
        ), "use io_parallel"
    return None


FORMS: Mapping[type[Op], Callable[[Op, IntGraph, Target], Refusal | None]] = {
    Input: _taken,
    Dense: _dense,
    Conv: _not_one_bit,
    BatchNorm: _not_one_bit,
    Relu: _relu,
    Requantize: _not_one_bit,
    MaxPool: _max_pool,
    Reshape: _reshape,
}
"""In which form a back end without our kernels takes an op, if it takes it at all (`Dialect.ops`)."""
NOT_TAKEN = WITHOUT_LAYER


def _keeps_the_stream(op: Reshape, graph: IntGraph) -> bool:
    """Say whether hls4ml's streams carry the codes of a reshape in order, as seen in C simulation.

    It leaves a flattening out, so its reader gets the words from before, which only a dense takes; and its
    `repack_stream` splits words or joins them, but not both.
    """
    before, after = graph.sources(op)[0].shape, op.shape
    if len(after) == 1:
        return before[-1] == after[-1] or isinstance(graph.readers(op.name)[0], Dense)
    return before[-1] % after[-1] == 0 or after[-1] % before[-1] == 0
