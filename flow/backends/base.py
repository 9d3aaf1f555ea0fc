"""What a back end is, and the table of them.

A back end is one row: what it is called, which settings it takes, and where its functions are. They are one value, a
`flow.backends.functions.Functions`, whose module is imported when one of them is needed. Adding a back end is a row
here and that module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flow.errors import SpecError, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A back end's row.

    Attributes:
        name: what `--backend` takes.
        functions: "module:NAME" of what it does.
        generator: the package that it generates with; a run records its version.
        install: what pip installs for that.
        part: the part it is taken for without another one.
        strategies: those it has, the default first.
        io_type: the default; empty for one that follows from the graph (`Target.for_windows`).
        takes_reuse: whether products can share a multiplier.
        takes_tables: whether it computes truth tables, which are made then of what depends on few bits.
        simulation: the level of check that runs its projects.
        clock_uncertainty: share of the clock period that its tool is told to set aside, and that the estimate takes
            off; None where a project says nothing of it.
        hls: the HLS tool and version that the estimate is of, where nobody says which one it will be: the one of which
            most truth is known; empty where there is no such estimate.
        whole_nanoseconds: whether its tool takes no other clock periods.
        leaves: patterns of what its tools leave in the directory of a project, besides logs and reports.
    """

    name: str
    functions: str
    generator: str = "hls4ml"
    install: str = "po2flow"
    part: str
    strategies: tuple[str, ...] = ("Latency", "Resource")
    io_type: str = "io_parallel"
    takes_reuse: bool = True
    takes_tables: bool = False
    simulation: str = "csim"
    clock_uncertainty: float | None = None
    hls: str = ""
    whole_nanoseconds: bool = False
    leaves: tuple[str, ...] = ()

    @property
    def left_by_tools(self) -> tuple[str, ...]:
        """Patterns of all that tools leave in the directory of a project."""
        return ("*.log", "*.rpt", *self.leaves)


AMD, OTHER, VERILOG = (
    "flow.backends.hls4ml.backend:AMD",
    "flow.backends.hls4ml.backend:OTHER",
    "flow.backends.rtl.backend:VERILOG",
)
VIRTEX = "xcvu13p-flga2577-2-e"
XILINX_LEAVES = ("*_prj", ".Xil", "*.jou", "tb_data/*.log")
"""Of `build_prj.tcl` and `vivado_synth.tcl`, and of Vivado by itself."""

# Strategies are those that hls4ml 1.3.0 has; for Libero it forgets to transpose the weights of Resource. Parts and
# clock uncertainties are hls4ml's defaults; 27 % is Vitis HLS' own (UG1399). SmartHLS takes whole nanoseconds
# (its Constraints Manual, CLOCK_PERIOD).
ROWS = (
    Backend(
        name="Vitis",
        functions=AMD,
        part=VIRTEX,
        takes_tables=True,
        clock_uncertainty=0.27,
        hls="Vitis HLS 2023.2",
        leaves=XILINX_LEAVES,
    ),
    Backend(
        name="Vivado",
        functions=AMD,
        part=VIRTEX,
        takes_tables=True,
        clock_uncertainty=0.125,
        hls="Vivado HLS 2020.1",
        leaves=XILINX_LEAVES,
    ),
    Backend(
        name="Quartus",
        functions=OTHER,
        part="Arria10",
        strategies=("Resource",),
        leaves=("*-fpga", "*-fpga.prj", "*.summary"),
    ),
    Backend(
        name="Catapult",
        functions=OTHER,
        part="xcku115-flvb2104-2-i",
        leaves=("*_prj", "*_prj.ccs", "Catapult*", "catapult*"),
    ),
    Backend(name="oneAPI", functions=OTHER, part="Agilex7", strategies=("Resource",), leaves=("build",)),
    Backend(
        name="Libero",
        functions=OTHER,
        part="MPF300",
        strategies=("Latency",),
        whole_nanoseconds=True,
        leaves=("hls_output",),
    ),
    Backend(
        name="rtl",
        functions=VERILOG,
        generator="alkaid",
        install="'po2flow[rtl]'",
        part=VIRTEX,
        strategies=("Latency",),
        io_type="",
        takes_reuse=False,
        takes_tables=True,
        simulation="rtlsim",
        leaves=(".Xil", "*.jou"),
    ),
)
BACKENDS: Mapping[str, Backend] = {row.name: row for row in ROWS}


def find_backend(name: str) -> Backend:
    """Return the row of a back end.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in BACKENDS:
        raise SpecError(
            f"backend {shown(name)} is not known", field="target", remedy=f"use one of {', '.join(BACKENDS)}"
        )
    return BACKENDS[name]
