"""What distinguishes the projects of hls4ml's back ends, in one table.

Seen in the writers and templates of hls4ml 1.3.0, and in C simulation of the tests' zoo where a plain C++ compiler can
do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import UnsupportedError
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Conv, Dense, MaxPool, Op, Relu, Requantize, Reshape
from flow.target import IO_TYPES, Target

BRIDGE = r"^[^/]*_bridge\.cpp$|^build_lib\.sh$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The projects of one back end.

    Attributes:
        headers: of our kernels, for what hls4ml lacks: name in the project, and file here; without them, a back end
            takes a chain of ops with one port each.
        ops: the ops that hls4ml itself computes exactly, in some form.
        stores_exponents: whether strategy Resource stores powers of two as exponents (`nnet_po2.h`).
        sets_depths: whether its projects say how deep the FIFOs of streams are.
        pragmas: what stands before a loop for each pragma of our kernels that stands in it.
        ports: how the top function takes its ports: "arguments", "structs" of all inputs and all outputs, or "pipes".
        stream: C++ template of a stream at a port, for an input and an output.
        drains: the function that takes the words of a stream for simulation.
        holds_words: C++ condition that a stream at a port holds words; empty if a stream cannot tell.
        declares_weights: whether the top function declares the weights that it loads, and somebody else defines them.
        io_types: which it has.
        sources: directory of the generated sources.
        types: "ap_fixed" (AMD's), "ac_fixed" (Siemens' open types), or "ap_fixpt" (Microchip's).
        dense: the function that computes a dense over vectors.
        pointwise: io_types in which windows of one pixel have a function of their own.
        pads_streams: whether its convolutions add zeros to streams themselves, and no call before them.
        repacks: whether a dense takes the vector that it reads from a stream as one word.
        stream_suffix: what the names of functions end with in io_stream.
        convolves_in_dataflow: whether hls4ml changes the pipeline style to "dataflow" for convolutions, with a warning.
        settings: further keys of hls4ml's configuration.
        traces: whether hls4ml writes the calls that trace ops for simulation.
        keeps_outputs: whether its top function may save the outputs of ops for simulation.
        unnamed: io_types in which hls4ml does not write behind a call which op it computes.
        weights_in_text: whether simulation reads weights from text files beside the headers.
        left_out: pattern of the files that a project does not take from hls4ml: those of its Python bridge, which would
            hold paths of the machine, and tests and manuals of ac_types.
        needs: what C simulation needs beside a C++ compiler; empty if nothing.
        synthesis: how its vendor's tool is run in the project directory; empty if `csynth` runs it.
    """

    headers: tuple[tuple[str, str], ...] = ()
    ops: tuple[type[Op], ...] = (Dense, Conv, BatchNorm, Relu, Requantize, MaxPool, Reshape)
    stores_exponents: bool = False
    sets_depths: bool = False
    pragmas: tuple[tuple[str, str], ...] = ()
    ports: str = "arguments"
    stream: tuple[str, str] = ("hls::stream", "hls::stream")
    drains: str = "convert_data"
    holds_words: str = "!{}.empty()"
    declares_weights: bool = False
    io_types: tuple[str, ...] = IO_TYPES
    sources: str = "firmware"
    types: str = "ac_fixed"
    dense: str = "dense"
    pointwise: tuple[str, ...] = IO_TYPES
    pads_streams: bool = False
    repacks: bool = False
    stream_suffix: str = ""
    convolves_in_dataflow: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    traces: bool = False
    keeps_outputs: bool = True
    unnamed: tuple[str, ...] = ()
    weights_in_text: bool = False
    left_out: str = BRIDGE
    needs: str = ""
    synthesis: str = ""

    @property
    def extended(self) -> bool:
        """Whether our kernels compute what hls4ml does not."""
        return bool(self.headers)


def _headers(types: str, *more: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of our kernels, in the types of a vendor."""
    return (
        ("nnet_flow.h", "nnet_flow.h"),
        ("nnet_flow_types.h", f"types/{types}.h"),
        *((name, f"types/{name}") for name in more),
    )


AMD = Dialect(
    headers=(*_headers("ap"), ("nnet_po2.h", "nnet_po2.h")),
    ops=(Dense, Conv, MaxPool, Reshape),
    stores_exponents=True,
    sets_depths=True,
    types="ap_fixed",
    traces=True,
    weights_in_text=True,
)
DIALECTS: Mapping[str, Dialect] = {
    "Vitis": AMD,
    "Vivado": AMD,
    "Quartus": Dialect(
        headers=_headers("quartus", "nnet_flow_ac.h"),
        pragmas=(("UNROLL", "#pragma unroll"), ("PIPELINE", "#pragma ii 1")),
        ports="structs",
        stream=("stream_in", "stream_out"),
        drains="convert_data_back",
        holds_words="",
        dense="dense_resource",
        pointwise=("io_parallel",),
        pads_streams=True,
        unnamed=IO_TYPES,
        synthesis="make (Intel HLS Compiler, i++)",
    ),
    "Catapult": Dialect(
        headers=_headers("catapult", "nnet_flow_ac.h"),
        pragmas=(("UNROLL", "#pragma hls_unroll"), ("PIPELINE", "#pragma hls_pipeline_init_interval 1")),
        stream=("ac_channel", "ac_channel"),
        holds_words="{}.debug_size() != 0",
        declares_weights=True,
        convolves_in_dataflow=True,
        settings=(("Technology", "fpga"),),
        traces=True,
        weights_in_text=True,
        left_out=rf"{BRIDGE}|/(tests|pdfdocs|lutgen|gdb)/",
        synthesis="catapult -product ultra -shell -f build_prj.tcl",
    ),
    "oneAPI": Dialect(
        headers=_headers("oneapi", "nnet_flow_ac.h", "nnet_flow_pipes.h"),
        sets_depths=True,
        pragmas=(("UNROLL", "#pragma unroll"), ("PIPELINE", "[[intel::initiation_interval(1)]]")),
        ports="pipes",
        sources="src/firmware",
        dense="dense_resource",
        pointwise=("io_parallel",),
        pads_streams=True,
        repacks=True,
        stream_suffix="_stream",
        keeps_outputs=False,
        unnamed=("io_parallel",),
        left_out=r"(?!)",  # its CMakeLists.txt names the bridge
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


def spelled(backend: str, cast: Cast) -> str:
    """Return the C++ type that hls4ml writes for codes that a cast makes.

    Where hls4ml makes two bits of one, this is another bit before the point (`widened`).
    """
    modes = (cast.rounding, cast.overflow)
    written = () if modes == (Rounding.TRN, Overflow.WRAP) else tuple(mode.value for mode in modes)
    return SPELLINGS[DIALECTS[backend].types](widened(backend, cast.format), written)


def _ap_fixed(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(fmt.width), str(fmt.signed + fmt.int_bits)]
    return f"ap_{'' if fmt.signed else 'u'}fixed<{','.join([*sizes, *modes, *(['0'] if modes else [])])}>"


def widened(backend: str, fmt: FixedFormat) -> FixedFormat:
    """Return a format as the types of a back end hold it, code for code.

    hls4ml writes an `ac_fixed` of one bit with a second one below the point (`ACFixedPrecisionDefinition`: oneAPI needs
    two). With a second bit before it, codes stay what they are; but what saturates or wraps does so at two bits.
    """
    one_bit = DIALECTS[backend].types == "ac_fixed" and fmt.width == 1
    return FixedFormat(fmt.signed, fmt.int_bits + 1, fmt.frac_bits) if one_bit else fmt


def _ac_fixed(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(fmt.width), str(fmt.signed + fmt.int_bits), str(fmt.signed).lower()]
    return f"ac_fixed<{','.join([*sizes, *(mode.replace('AP_', 'AC_') for mode in modes)])}>"


def _ap_fixpt(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(fmt.width), str(fmt.signed + fmt.int_bits)]
    return f"hls::ap_{'' if fmt.signed else 'u'}fixpt<{','.join([*sizes, *(f'hls::{mode}' for mode in modes)])}>"


SPELLINGS = {"ap_fixed": _ap_fixed, "ac_fixed": _ac_fixed, "ap_fixpt": _ap_fixpt}
