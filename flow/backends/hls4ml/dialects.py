"""What distinguishes the projects of hls4ml's other back ends (Quartus, Catapult, oneAPI, Libero), in one table.

Seen in the writers and templates of hls4ml 1.3.0, and in C simulation of the tests' zoo where a plain C++ compiler can
do it. What a back end would compute otherwise than the graph says is refused here, by name, before anything is
written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flow.errors import UnsupportedError
from flow.ir.fixed import FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Conv, Dense, Input, IntGraph, MatMul, MaxPool, Op, Relu, Requantize, Reshape
from flow.target import Target

LARGE = 2048
"""Above this many products, Quartus and oneAPI pad the weights to a reuse factor that is a power of two."""
DEFAULTS = (Rounding.TRN, Overflow.WRAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A back end's projects.

    Attributes:
        sources: directory of the generated sources.
        types: "ac_fixed" (Siemens' open types), or "ap_fixpt" (Microchip's).
        needs: what C simulation needs beside a C++ compiler; empty if nothing.
        synthesis: how its vendor's tool is run in the project directory.
        io_types: which it has.
        ops: the ops that it computes exactly.
        weights_in_text: whether simulation reads weights from text files beside the headers.
        settings: further keys of hls4ml's configuration.
    """

    sources: str = "firmware"
    types: str = "ac_fixed"
    needs: str = ""
    synthesis: str
    io_types: tuple[str, ...] = ("io_parallel", "io_stream")
    ops: tuple[type[Op], ...] = (Dense, Conv, BatchNorm, Relu, Requantize, MaxPool, Reshape)
    weights_in_text: bool = False
    settings: tuple[tuple[str, str], ...] = ()


DIALECTS: Mapping[str, Dialect] = {
    "Quartus": Dialect(synthesis="make (Intel HLS Compiler, i++)"),
    "Catapult": Dialect(
        synthesis="catapult -product ultra -shell -f build_prj.tcl",
        weights_in_text=True,
        settings=(("Technology", "fpga"),),
    ),
    "oneAPI": Dialect(
        sources="src/firmware",
        needs="the SYCL headers of Intel's oneAPI compiler (sycl/sycl.hpp)",
        synthesis="cmake . && make report (Intel oneAPI, icpx)",
    ),
    "Libero": Dialect(
        types="ap_fixpt",
        needs="the headers of Microchip SmartHLS (hls/ap_fixpt.hpp)",
        synthesis="shls hw (Microchip SmartHLS)",
        io_types=("io_parallel",),
        ops=(Dense, Relu, Requantize),
        weights_in_text=True,
        settings=(("FPGAFamily", "PolarFire"), ("Board", "hw_only")),
    ),
}


def not_simulated(target: Target) -> str:
    """Return why a target's projects have no C simulation here; nothing if they have."""
    needs = DIALECTS[target.backend].needs if target.backend in DIALECTS else ""
    return f"C simulation of {target.backend} projects needs {needs}" if needs else ""


def own_synthesis(target: Target) -> UnsupportedError:
    """Return why this package does not run a back end's synthesis, and how it is run."""
    own = DIALECTS[target.backend].synthesis
    return UnsupportedError(
        f"synthesis for {target.backend} is not run from here", remedy=f"in the project directory: {own}"
    )


def spelled(backend: str, fmt: FixedFormat, modes: tuple[Rounding, Overflow] = DEFAULTS) -> str:
    """Return the C++ type that hls4ml writes for a format.

    A one-bit `ac_fixed` gets a second bit, below the point (`ACFixedPrecisionDefinition` of hls4ml): it holds the same
    values and more, so it does for what is never rounded into it.
    """
    integer, written = fmt.signed + fmt.int_bits, "" if modes == DEFAULTS else ",".join(mode.value for mode in modes)
    if DIALECTS[backend].types == "ap_fixpt":
        kind = "ap_fixpt" if fmt.signed else "ap_ufixpt"
        return f"hls::{kind}<{fmt.width},{integer}{written and ',' + written.replace('AP_', 'hls::AP_')}>"
    arguments = f"{max(fmt.width, 2)},{integer},{str(fmt.signed).lower()}"
    return f"ac_fixed<{arguments}{written and ',' + written.replace('AP_', 'AC_')}>"


def check(graph: IntGraph, target: Target) -> None:
    """Refuse what the back end of `target` would not compute as the graph says.

    Raises:
        UnsupportedError: op, what is wrong with it there, and what to do.
    """
    for refusal in refusals(graph, target):
        raise refusal.at(model=graph.name)


def refusals(graph: IntGraph, target: Target) -> Iterator[UnsupportedError]:
    """Yield all that `check` refuses; nothing for a back end that has no row in `DIALECTS`."""
    dialect = DIALECTS.get(target.backend)
    if dialect is None:
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
        what, remedy = _refusal(op, graph, target, dialect)
        if what:
            remedy = f"{remedy}, or back end Vitis or Vivado" if remedy else ""
            yield UnsupportedError(what, op=op.name, remedy=remedy)


def _refusal(op: Op, graph: IntGraph, target: Target, dialect: Dialect) -> tuple[str, str]:
    """Return what is wrong with an op and the way out; nothing if it is not refused."""
    backend = target.backend
    if not isinstance(op, Input) and type(op) not in dialect.ops:
        done = ", ".join(cls.kind for cls in dialect.ops)
        return f"hls4ml's {backend} back end does not compute '{op.kind}' exactly", f"use only {done}"
    if isinstance(op, Dense) and len(op.shape) > 1 and Conv not in dialect.ops:
        return f"hls4ml makes a convolution of a dense over several axes, and {backend} has none", "use vectors"
    if len(graph.readers(op.name)) + (op.name in graph.outputs) != 1:
        return f"not exactly one reader of its output, which is not supported for {backend}", "use a chain of layers"
    if op.divisor != 1 or (isinstance(op, Relu) and op.limit is not None):
        return f"a division or an upper limit is not supported for {backend}", "use layers without"
    if isinstance(op, Reshape) and op.name in graph.outputs:
        return f"a final reshape is left out by hls4ml for {backend}", "drop it from the model"
    if isinstance(op, Reshape) and target.io_type == "io_stream" and not _keeps_the_stream(op, graph):
        return (
            "a reshape in io_stream to words that neither divide nor fill those before, or to a vector that no dense "
            f"reads, is not supported for {backend}"
        ), "use io_parallel"
    if isinstance(op, MaxPool) and (
        any(op.padding) or len(op.window) != 2 or (target.io_type == "io_stream" and op.window != op.strides)
    ):
        return (
            "max pooling with padding, over other than two axes, or in io_stream with overlapping windows is not "
            f"supported for {backend}"
        ), "use MaxPooling2D with padding 'valid' and strides equal to the window"
    if isinstance(op, MatMul | BatchNorm | Relu | Requantize) and dialect.types == "ac_fixed" and op.format.width == 1:
        return f"hls4ml writes its one-bit output as two bits for {backend}", "quantize it to two bits or more"
    if isinstance(op, Dense) and backend in ("Quartus", "oneAPI"):
        reuse = target.reuse(op.name)
        if op.weight.size > LARGE and math.log2(reuse) % 1:
            what = f"with more than {LARGE} products its reuse factor must be a power of two for {backend}, not {reuse}"
            return f"{what}, or back end Vitis or Vivado", ""
    return "", ""


def _keeps_the_stream(op: Reshape, graph: IntGraph) -> bool:
    """Say whether hls4ml's streams carry the codes of a reshape in order, as seen in C simulation.

    It leaves a flattening out, so its reader gets the words from before, which only a dense takes; and its
    `repack_stream` splits words or joins them, but not both.
    """
    before, after = graph.sources(op)[0].shape, op.shape
    if len(after) == 1:
        return before[-1] == after[-1] or isinstance(graph.readers(op.name)[0], Dense)
    return before[-1] % after[-1] == 0 or after[-1] % before[-1] == 0
