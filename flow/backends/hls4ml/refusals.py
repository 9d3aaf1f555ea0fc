"""What hls4ml's back ends do not compute exactly, said before anything is written: who, why, and the way out.

Seen in the writers and templates of hls4ml 1.3.0, and in C simulation of the tests' zoo where a plain C++ compiler can
do it. A back end without our kernels takes a chain of ops with one port each, each op in a form that hls4ml has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from flow.backends.base import find_backend
from flow.backends.hls4ml.dialects import DIALECTS, widened
from flow.backends.hls4ml.layers import AXES, layer_of
from flow.cost.streams import streams
from flow.errors import UnsupportedError
from flow.ir import ops
from flow.ir.fixed import Overflow
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import casts_exactly
from flow.target import Target

CSIM_BITS = 53
"""C simulation and its traces carry values as doubles: an output wider than this could not be compared exactly."""
LARGE = 2048
"""Above this many products, Quartus and oneAPI pad the weights to a reuse factor that is a power of two."""
Refusal = tuple[str, str]
"""What is wrong with an op, and the way out."""


def check(graph: IntGraph, target: Target) -> None:
    """Refuse what can be seen without making any kernel; those that cannot be made raise where they are made.

    Raises:
        UnsupportedError: the first that is refused.
    """
    reuse = reuse_refusals(graph, target)
    for refusal in (*_clock_refusals(target), *_own_refusals(graph, target), *reuse, *_forms(graph, target)):
        raise refusal.at(model=graph.name)


def refusals(graph: IntGraph, target: Target) -> list[UnsupportedError]:
    """Return all that a back end refuses in a graph, reuse factors aside.

    Kernels are made only if every op has a form, and connected only if all of them can be made.
    """
    refused = [*_clock_refusals(target), *_own_refusals(graph, target), *_forms(graph, target)]
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


def _clock_refusals(target: Target) -> Iterator[UnsupportedError]:
    """Yield that a vendor's tool does not take a clock period."""
    if find_backend(target.backend).whole_nanoseconds and target.clock_period_ns % 1:
        what = f"clock_period_ns {target.clock_period_ns:g} is no whole number, and the tool of {target.backend} takes"
        remedy = f"use --clock-period-ns {max(1, int(target.clock_period_ns))}"
        yield UnsupportedError(f"{what} no other", remedy=remedy, field="target")


def _forms(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield which ops neither hls4ml nor a kernel of ours computes exactly, why, and the way out.

    A one-bit signed `ap_fixed` has no code for 0 - max_code, so its symmetric saturation gives -1 (`overflow_adjust` in
    `ap_fixed_base.h`). In a stream, a window of one row is computed as one over a sequence, which has no row to leave
    out (`conv_2d_buffer_latency_cl` in `nnet_conv2d_stream.h`).
    """
    for op in graph.ops:
        if refused := _refused(op, graph, target):
            what, remedy = refused
            yield UnsupportedError(f"op '{op.name}' {what}", named=op.name, remedy=remedy)


def _refused(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    refused = FORMS[type(op)](op, graph, target)
    casts = not isinstance(op, ops.Input) and op.cast.overflow is Overflow.SAT_SYM
    if not refused and casts and op.format.signed and op.format.width == 1:
        return "saturates symmetrically to one signed bit, which ap_fixed does not: use another format", ""
    if not refused and op.format.width > CSIM_BITS:
        return f"has outputs of {op.format.width} bits", f"C simulation carries {CSIM_BITS}: quantize its output"
    return refused


def _any_form(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    """Refuse no form of an op."""
    return None


def _dense_form(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    if len(op.shape) > 3:
        return f"is a dense layer over {len(op.shape)} axes", "hls4ml has them over 3 at most: reshape its input"
    return None


def _conv_form(op: ops.Conv, graph: IntGraph, target: Target) -> Refusal | None:
    if len(op.window.size) not in AXES:
        return f"is a convolution over {len(op.window.size)} axes", "hls4ml has 1 and 2: use Conv1D or Conv2D"
    one_row = len(op.window.size) == 2 and op.window.size[0] == 1 < op.window.size[1] and op.window.strides[0] > 1
    if one_row and target.io_type == "io_stream":
        return (
            "has a window of one row and leaves out rows, which hls4ml's streams do not: "
            "use strides of 1 along that axis, a window of more rows, or io_parallel"
        ), ""
    return None


def _scan_form(op: ops.Scan, graph: IntGraph, target: Target) -> Refusal | None:
    """Refuse what is refused of an op of the body; a reshape there has no kernel, and nothing makes one."""
    body = body_of(op)
    return next((refused for each in op.body if (refused := _refused(each, body, target))), None)


FORMS: Mapping[type[Op], Callable[..., Refusal | None]] = {
    ops.Dense: _dense_form,
    ops.Conv: _conv_form,
    **dict.fromkeys((ops.Input, ops.BatchNorm, ops.Relu, ops.LeakyRelu, ops.Requantize, ops.Merge), _any_form),
    **dict.fromkeys(
        (ops.MaxPool, ops.SumPool, ops.Reshape, ops.Gather, ops.Lookup, ops.TruthTable, ops.Softmax), _any_form
    ),
    ops.Scan: _scan_form,
}
"""Which forms of an op are refused in every back end."""


# -- what a vendor's tool, or hls4ml for it, does otherwise


def _own_refusals(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield what a back end would compute otherwise than the graph says."""
    dialect = DIALECTS[target.backend]
    if target.io_type not in dialect.io_types:
        yield UnsupportedError(
            f"hls4ml cannot write {target.io_type} projects for {target.backend}",
            remedy=f"use {' or '.join(dialect.io_types)}",
        )
    if not dialect.extended and (len(graph.inputs) > 1 or len(graph.outputs) > 1):
        yield UnsupportedError(
            f"several inputs or outputs are not supported for {target.backend}", remedy="use another back end"
        )
    for op in graph.ops:
        refused = None if dialect.extended else _not_chained(op, graph, target)
        if refused := refused or _not_one_bit(op, graph, target) or _other_reuse(op, target):
            what, remedy = refused
            remedy = f"{remedy}, or back end Vitis or Vivado" if remedy else ""
            yield UnsupportedError(what, op=op.name, remedy=remedy)


def _not_chained(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    """Refuse what hls4ml alone does not compute exactly in a chain of ops."""
    backend, computed = target.backend, DIALECTS[target.backend].ops
    if type(op) not in (ops.Input, *computed):
        done = ", ".join(cls.kind for cls in computed)
        return f"hls4ml's {backend} back end does not compute '{op.kind}' exactly", f"use only {done}"
    if isinstance(op, ops.Dense) and len(op.shape) > 1:
        return f"hls4ml makes a convolution of a dense over several axes, and {backend} has none", "use vectors"
    if len(graph.readers(op.name)) + (op.name in graph.outputs) != 1:
        return f"not exactly one reader of its output, which is not supported for {backend}", "use a chain of layers"
    if op.cast.divisor != 1 or (isinstance(op, ops.Relu) and op.limit is not None):
        return f"a division or an upper limit is not supported for {backend}", "use layers without"
    return None


COPIES_CODES = (ops.Input, ops.MaxPool, ops.Reshape, ops.Gather, ops.Lookup, ops.TruthTable, ops.Softmax)
"""Their outputs are codes that fit, never cast."""


def _not_one_bit(op: Op, graph: IntGraph, target: Target) -> Refusal | None:
    """Refuse what would saturate at two bits instead of one (`dialects.widened`)."""
    if isinstance(op, ops.Scan):
        body = body_of(op)
        return next(filter(None, (_not_one_bit(each, body, target) for each in body.ops)), None)
    fits = isinstance(op, COPIES_CODES) or casts_exactly(op, *(x.format for x in graph.sources(op)))
    if fits or widened(target.backend, op.format) == op.format:
        return None
    return (f"hls4ml writes its one-bit output as two bits for {target.backend}"), "quantize it to two bits or more"


def _other_reuse(op: Op, target: Target) -> Refusal | None:
    """Refuse a reuse factor that hls4ml changes for Quartus and oneAPI, since it pads the weights."""
    backend, reuse = target.backend, target.reuse(op.name)
    if not isinstance(op, ops.MatMul) or not _padded(op, target, reuse):
        return None
    what = f"with more than {LARGE} products its reuse factor must be a power of two for {backend}, not {reuse}"
    return f"{what}, or back end Vitis or Vivado", ""


def _padded(op: ops.MatMul, target: Target, reuse: int) -> bool:
    """Say whether a back end pads the weights of a dense op to another reuse factor."""
    dense = isinstance(op, ops.Dense) and DIALECTS[target.backend].dense == "dense_resource"
    return dense and op.weight.codes.size > LARGE and math.log2(reuse) % 1 != 0


# -- reuse factors


def reuse_refusals(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield which reuse factors hls4ml would change, and the way out.

    Source: `FPGABackend._validate_reuse_factor` of hls4ml 1.3.0.
    """
    sizes = {op.name: op.matrix().shape for op in graph.ops if isinstance(op, ops.MatMul)}
    for name, _ in target.reuse_factors:
        if name not in sizes:
            yield UnsupportedError(
                f"no op '{name}' to give a reuse factor", named=name, remedy=f"use {', '.join(sizes)}"
            )
    if target.strategy != "Resource":
        return
    for name, (n_in, n_out) in sizes.items():
        if not _legal(n_in, n_out, target.reuse(name)):
            legal = ", ".join(map(str, legal_reuse_factors(n_in, n_out)))
            yield UnsupportedError(
                f"op '{name}' ({n_in} x {n_out}) cannot have reuse_factor {target.reuse(name)} with strategy Resource",
                named=name,
                remedy=f"take --reuse-factor nearest:{target.reuse_factor}, or give it one of its own, "
                f"--reuse-factor {name}=N, with N one of {legal}",
            )


def nearest_reuse(graph: IntGraph, target: Target) -> dict[str, int]:
    """Return the legal reuse factor that is nearest to the common one, of each op that cannot have that."""
    chosen, nearest = target.reuse_factor, {}
    for op in graph.ops:
        if target.strategy == "Resource" and isinstance(op, ops.MatMul) and op.name not in dict(target.reuse_factors):
            legal = [factor for factor in legal_reuse_factors(*op.matrix().shape) if not _padded(op, target, factor)]
            if chosen not in legal:
                nearest[op.name] = min(legal, key=lambda factor: abs(factor - chosen))
    return nearest


def legal_reuse_factors(n_in: int, n_out: int) -> Sequence[int]:
    """Return the reuse factors, ascending, that strategy Resource takes as they are for an op of this size."""
    products = n_in * n_out
    low = [factor for factor in range(1, math.isqrt(products) + 1) if products % factor == 0]
    return [factor for factor in sorted({*low, *(products // factor for factor in low)}) if _legal(n_in, n_out, factor)]


def _legal(n_in: int, n_out: int, factor: int) -> bool:
    products = n_in * n_out
    whole_columns = math.ceil(products / min(n_in, factor)) % n_out == 0 or factor >= n_in
    return whole_columns and (factor % n_in == 0 or factor < n_in) and products % factor == 0
