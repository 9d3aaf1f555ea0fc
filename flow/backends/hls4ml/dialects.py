"""What distinguishes the projects of hls4ml's back ends, in one table.

Seen in the writers and templates of hls4ml 1.3.0, and in C simulation of the tests' zoo where a plain C++ compiler can
do it. What a back end would compute otherwise than the graph says is refused here, by name, before anything is
written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import UnsupportedError
from flow.ir.fixed import FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Conv, Dense, Input, IntGraph, MatMul, MaxPool, Op, Relu, Requantize, Reshape
from flow.target import IO_TYPES, Target

LARGE = 2048
"""Above this many products, Quartus and oneAPI pad the weights to a reuse factor that is a power of two."""
BRIDGE = r"^[^/]*_bridge\.cpp$|^build_lib\.sh$"
Modes = tuple[Rounding, Overflow]
DEFAULTS: Modes = (Rounding.TRN, Overflow.WRAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The projects of one back end.

    Attributes:
        extended: whether `extension` adds to hls4ml what it lacks: kernels of `nnet_flow.h`, several ports, stored
            exponents and the depths of FIFOs.
        ops: the ops that hls4ml itself computes exactly.
        io_types: which it has.
        sources: directory of the generated sources.
        types: "ap_fixed" (AMD's), "ac_fixed" (Siemens' open types), or "ap_fixpt" (Microchip's).
        dense: the function that computes a dense over vectors.
        pointwise: io_types in which windows of one pixel have a function of their own.
        pads_streams: whether its convolutions add zeros to streams themselves, and no call before them.
        stream_suffix: what the names of functions end with in io_stream.
        convolves_in_dataflow: whether hls4ml changes the pipeline style to "dataflow" for convolutions, with a warning.
        settings: further keys of hls4ml's configuration.
        traces: whether hls4ml writes the calls that trace ops for simulation.
        unnamed: io_types in which hls4ml does not write behind a call which op it computes.
        weights_in_text: whether simulation reads weights from text files beside the headers.
        left_out: pattern of the files that a project does not take from hls4ml: those of its Python bridge, which would
            hold paths of the machine, and tests and manuals of ac_types.
        needs: what C simulation needs beside a C++ compiler; empty if nothing.
        synthesis: how its vendor's tool is run in the project directory; empty if `csynth` runs it.
    """

    extended: bool = False
    ops: tuple[type[Op], ...] = (Dense, Conv, BatchNorm, Relu, Requantize, MaxPool, Reshape)
    io_types: tuple[str, ...] = IO_TYPES
    sources: str = "firmware"
    types: str = "ac_fixed"
    dense: str = "dense"
    pointwise: tuple[str, ...] = IO_TYPES
    pads_streams: bool = False
    stream_suffix: str = ""
    convolves_in_dataflow: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    traces: bool = False
    unnamed: tuple[str, ...] = ()
    weights_in_text: bool = False
    left_out: str = BRIDGE
    needs: str = ""
    synthesis: str = ""


AMD = Dialect(
    extended=True,
    ops=(Dense, Conv, MaxPool, Reshape),
    types="ap_fixed",
    traces=True,
    weights_in_text=True,
)
DIALECTS: Mapping[str, Dialect] = {
    "Vitis": AMD,
    "Vivado": AMD,
    "Quartus": Dialect(
        dense="dense_resource",
        pointwise=("io_parallel",),
        pads_streams=True,
        unnamed=IO_TYPES,
        synthesis="make (Intel HLS Compiler, i++)",
    ),
    "Catapult": Dialect(
        convolves_in_dataflow=True,
        settings=(("Technology", "fpga"),),
        traces=True,
        weights_in_text=True,
        left_out=rf"{BRIDGE}|/(tests|pdfdocs|lutgen|gdb)/",
        synthesis="catapult -product ultra -shell -f build_prj.tcl",
    ),
    "oneAPI": Dialect(
        sources="src/firmware",
        dense="dense_resource",
        pointwise=("io_parallel",),
        pads_streams=True,
        stream_suffix="_stream",
        unnamed=("io_parallel",),
        left_out=r"(?!)",  # its CMakeLists.txt names the bridge
        needs="the SYCL headers of Intel's oneAPI compiler (sycl/sycl.hpp)",
        synthesis="cmake . && make report (Intel oneAPI, icpx)",
    ),
    "Libero": Dialect(
        ops=(Dense, Relu, Requantize),
        io_types=("io_parallel",),
        types="ap_fixpt",
        dense="dense_latency",
        # hls4ml would ask the shell for the path
        settings=(("FPGAFamily", "PolarFire"), ("Board", "hw_only"), ("SmartHLSPath", Path("SmartHLS"))),
        weights_in_text=True,
        left_out=rf"{BRIDGE}|Makefile\.compile",
        needs="the headers of Microchip SmartHLS (hls/ap_fixpt.hpp)",
        synthesis="shls hw (Microchip SmartHLS)",
    ),
}


def not_simulated(target: Target) -> str:
    """Return why a target's projects have no C simulation here; nothing if they have."""
    needs = DIALECTS[target.backend].needs
    return f"C simulation of {target.backend} projects needs {needs}" if needs else ""


def own_synthesis(target: Target) -> UnsupportedError:
    """Return why this package does not run a back end's synthesis, and how it is run."""
    own = DIALECTS[target.backend].synthesis
    return UnsupportedError(
        f"synthesis for {target.backend} is not run from here", remedy=f"in the project directory: {own}"
    )


def spelled(backend: str, fmt: FixedFormat, modes: Modes = DEFAULTS) -> str:
    """Return the C++ type that hls4ml writes for a format.

    A one-bit `ac_fixed` gets a second bit, below the point (`ACFixedPrecisionDefinition` of hls4ml): it holds the same
    values and more, so it does for what is never rounded into it.
    """
    return SPELLINGS[DIALECTS[backend].types](fmt, () if modes == DEFAULTS else tuple(mode.value for mode in modes))


def _ap_fixed(fmt: FixedFormat, modes: Sequence[str]) -> str:
    written = [*modes, "0"] if modes else []
    return (
        f"ap_{'' if fmt.signed else 'u'}fixed<{','.join([str(fmt.width), str(fmt.signed + fmt.int_bits), *written])}>"
    )


def _ac_fixed(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(max(fmt.width, 2)), str(fmt.signed + fmt.int_bits), str(fmt.signed).lower()]
    return f"ac_fixed<{','.join([*sizes, *(mode.replace('AP_', 'AC_') for mode in modes)])}>"


def _ap_fixpt(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(fmt.width), str(fmt.signed + fmt.int_bits)]
    return f"hls::ap_{'' if fmt.signed else 'u'}fixpt<{','.join([*sizes, *(f'hls::{mode}' for mode in modes)])}>"


SPELLINGS: Mapping[str, Callable[[FixedFormat, Sequence[str]], str]] = {
    "ap_fixed": _ap_fixed,
    "ac_fixed": _ac_fixed,
    "ap_fixpt": _ap_fixpt,
}


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
    if op.cast.divisor != 1 or (isinstance(op, Relu) and op.limit is not None):
        return f"a division or an upper limit is not supported for {backend}", "use layers without"
    if isinstance(op, Reshape) and op.name in graph.outputs:
        return f"a final reshape is left out by hls4ml for {backend}", "drop it from the model"
    if isinstance(op, Reshape) and target.io_type == "io_stream" and not _keeps_the_stream(op, graph):
        return (
            "a reshape in io_stream to words that neither divide nor fill those before, or to a vector that no dense "
            f"reads, is not supported for {backend}"
        ), "use io_parallel"
    if isinstance(op, MaxPool) and (
        any(op.window.padding)
        or len(op.window.size) != 2
        or (target.io_type == "io_stream" and op.window.size != op.window.strides)
    ):
        return (
            "max pooling with padding, over other than two axes, or in io_stream with overlapping windows is not "
            f"supported for {backend}"
        ), "use MaxPooling2D with padding 'valid' and strides equal to the window"
    if isinstance(op, MatMul | BatchNorm | Relu | Requantize) and dialect.types == "ac_fixed" and op.format.width == 1:
        return f"hls4ml writes its one-bit output as two bits for {backend}", "quantize it to two bits or more"
    if isinstance(op, Dense) and dialect.dense == "dense_resource":
        reuse = target.reuse(op.name)
        if op.weight.codes.size > LARGE and math.log2(reuse) % 1:
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
