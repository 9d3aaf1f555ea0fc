"""What hls4ml's back ends do not compute exactly, said before anything is written: who, why, and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from flow.backends.hls4ml import chains
from flow.backends.hls4ml.chains import Refusal
from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.layers import AXES, layer_of
from flow.backends.hls4ml.reuse_factors import reuse_refusals
from flow.cost.streams import streams
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Overflow
from flow.ir.graph import IntGraph, Op
from flow.target import Target

CSIM_BITS = 53
"""C simulation and its traces carry values as doubles: an output wider than this could not be compared exactly."""


def check(graph: IntGraph, target: Target) -> None:
    """Refuse what can be seen without making any kernel; those that cannot be made raise where they are made.

    Raises:
        UnsupportedError: the first that is refused.
    """
    for refusal in (*chains.refusals(graph, target), *reuse_refusals(graph, target), *_forms(graph, target)):
        raise refusal.at(model=graph.name)


def refusals(graph: IntGraph, target: Target) -> list[UnsupportedError]:
    """Return all that a back end refuses in a graph, reuse factors aside.

    Kernels are made only if every op has a form, and connected only if all of them can be made.
    """
    refused = [*chains.refusals(graph, target), *_forms(graph, target)]
    if refused or not DIALECTS[target.backend].extended:
        return refused
    for op in graph.ops:
        try:
            layer_of(op, graph, target, op.inputs)
        except UnsupportedError as error:
            refused.append(error)
    if not refused and target.io_type == "io_stream":
        try:
            streams(graph)
        except UnsupportedError as error:
            refused.append(error)
    return refused


def _forms(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield which ops neither hls4ml nor a kernel of ours computes exactly, why, and the way out.

    A one-bit signed `ap_fixed` has no code for 0 - max_code, so its symmetric saturation gives -1 (`overflow_adjust` in
    `ap_fixed_base.h`). In a stream, a window of one row is computed as one over a sequence, which has no row to leave
    out (`conv_2d_buffer_latency_cl` in `nnet_conv2d_stream.h`).
    """
    for op in graph.ops:
        refused = _refused(op, target)
        if refused:
            what, remedy = refused
            yield UnsupportedError(f"op '{op.name}' {what}", named=op.name, remedy=remedy)


def _refused(op: Op, target: Target) -> Refusal | None:
    refused = FORMS[type(op)](op, target)
    casts = not isinstance(op, ops.Input) and op.cast.overflow is Overflow.SAT_SYM
    if not refused and casts and op.format.signed and op.format.width == 1:
        return "saturates symmetrically to one signed bit, which ap_fixed does not: use another format", ""
    if not refused and op.format.width > CSIM_BITS:
        return f"has outputs of {op.format.width} bits", f"C simulation carries {CSIM_BITS}: quantize its output"
    return refused


def _any_form(op: Op, target: Target) -> Refusal | None:
    """Refuse no form of an op."""
    return None


def _dense_form(op: Op, target: Target) -> Refusal | None:
    if len(op.shape) > 3:
        return f"is a dense layer over {len(op.shape)} axes", "hls4ml has them over 3 at most: reshape its input"
    return None


def _conv_form(op: Op, target: Target) -> Refusal | None:
    assert isinstance(op, ops.Conv)
    if len(op.window.size) not in AXES:
        return f"is a convolution over {len(op.window.size)} axes", "hls4ml has 1 and 2: use Conv1D or Conv2D"
    one_row = len(op.window.size) == 2 and op.window.size[0] == 1 < op.window.size[1] and op.window.strides[0] > 1
    if one_row and target.io_type == "io_stream":
        return (
            "has a window of one row and leaves out rows, which hls4ml's streams do not: "
            "use strides of 1 along that axis, a window of more rows, or io_parallel"
        ), ""
    return None


FORMS: Mapping[type[Op], Callable[[Op, Target], Refusal | None]] = {
    ops.Input: _any_form,
    ops.Dense: _dense_form,
    ops.Conv: _conv_form,
    ops.BatchNorm: _any_form,
    ops.Relu: _any_form,
    ops.LeakyRelu: _any_form,
    ops.Requantize: _any_form,
    ops.Merge: _any_form,
    ops.MaxPool: _any_form,
    ops.SumPool: _any_form,
    ops.Reshape: _any_form,
    ops.Gather: _any_form,
    ops.Lookup: _any_form,
    ops.Softmax: _any_form,
}
"""Which forms of an op are refused in every back end."""
