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


AMD = Dialect(extended=True, ops=(Dense, Conv, MaxPool, Reshape), types="ap_fixed", traces=True, weights_in_text=True)
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


def spelled(backend: str, cast: Cast) -> str:
    """Return the C++ type that hls4ml writes for codes that a cast makes.

    A one-bit `ac_fixed` gets a second bit, below the point (`ACFixedPrecisionDefinition` of hls4ml): it holds the same
    values and more, so it does for what is never rounded into it.
    """
    modes = (cast.rounding, cast.overflow)
    written = () if modes == (Rounding.TRN, Overflow.WRAP) else tuple(mode.value for mode in modes)
    return SPELLINGS[DIALECTS[backend].types](cast.format, written)


def _ap_fixed(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(fmt.width), str(fmt.signed + fmt.int_bits)]
    return f"ap_{'' if fmt.signed else 'u'}fixed<{','.join([*sizes, *modes, *(['0'] if modes else [])])}>"


def _ac_fixed(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(max(fmt.width, 2)), str(fmt.signed + fmt.int_bits), str(fmt.signed).lower()]
    return f"ac_fixed<{','.join([*sizes, *(mode.replace('AP_', 'AC_') for mode in modes)])}>"


def _ap_fixpt(fmt: FixedFormat, modes: Sequence[str]) -> str:
    sizes = [str(fmt.width), str(fmt.signed + fmt.int_bits)]
    return f"hls::ap_{'' if fmt.signed else 'u'}fixpt<{','.join([*sizes, *(f'hls::{mode}' for mode in modes)])}>"


SPELLINGS = {"ap_fixed": _ap_fixed, "ac_fixed": _ac_fixed, "ap_fixpt": _ap_fixpt}
