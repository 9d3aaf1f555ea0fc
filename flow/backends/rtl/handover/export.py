"""The hand-over of a Verilog project: what another engineer needs of it, as files that need nothing of this package.

Makefile, README.md     one command that simulates; what stands at the ports
rtl/                    the Verilog of the run, each module of an op with the layers that it computes
bench/                  vectors, SystemVerilog for Icarus and Verilator, cocotb
constraints/, scripts/  XDC and SDC; Vivado, Quartus, Libero, Yosys with nextpnr
component.xml, vhdl/    IP-XACT, and a component for VHDL
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from flow.backends.functions import Site
from flow.backends.rtl.handover.bench import ROOM, bench_files, common_files
from flow.backends.rtl.handover.fixed import fixed_bench, fixed_ports, fixed_top
from flow.backends.rtl.handover.ports import Port, ports
from flow.backends.rtl.handover.scripts import script_files
from flow.backends.rtl.handover.wrappers import component, vhdl
from flow.backends.rtl.verilog.emit import DESIGN
from flow.backends.rtl.verilog.stages import leading_padding
from flow.backends.templating import filled
from flow.errors import counted
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Input, IntGraph
from flow.project import Project
from flow.target import Target

AXIS = (
    "Each stream has `_tdata`, `_tvalid`, `_tready` and `_tlast` (AXI4-Stream). An input's `tlast` is not read, since\n"
    "shapes are fixed; an output's marks the last beat of a sample."
)
FIXED = (
    "Each stream has `_tdata` and `_tvalid` alone: AXI4-Stream without back-pressure. All inputs of a sample\n"
    "are valid in the same cycle."
)
AXIS_WAITING = (
    "a port that waits (`tready` low) stops the net once what lies between is full. Nothing is lost, and `tdata` and\n"
    "  `tvalid` stay until they are taken"
)
FIXED_WAITING = "nothing waits: a result is valid exactly so many cycles after its sample, for one cycle"


def hand_over(site: Site, codes: Mapping[str, Codes], interface: str) -> Project:
    """Return the hand-over of a run.

    Args:
        site: the run, whose project is as it was written.
        codes: name of each input and output op -> codes (samples, *shape), inputs and what the reference gives.
        interface: "axis", or "fixed" for a top without handshake.

    Raises:
        UnsupportedError: the project is a stream, and "fixed" is asked for.
    """
    return of_project(site.read(), site.graph, site.target, codes, interface)


def of_project(
    project: Project, graph: IntGraph, target: Target, codes: Mapping[str, Codes], interface: str = "axis"
) -> Project:
    """Return the hand-over of a project of Verilog; arguments as of `hand_over`."""
    latency, interval = json.loads(project.files[DESIGN])["timing"]
    streams = ports(graph, target.io_type)
    rtl = {path: content for path, content in project.files.items() if path.endswith(".v")}
    for op in graph.ops:
        path = f"rtl/{graph.name}_{op.name}.v"
        if not isinstance(op, Input) and path in rtl:
            rtl[path] = f"// Op '{op.name}' of '{graph.name}': {', '.join(op.fused)}.\n".encode() + rtl[path]
    top, period = graph.name, target.clock_period_ns
    if interface == "fixed":
        outer, top = fixed_ports(streams, target), f"{graph.name}_fixed"
        rtl[f"rtl/{top}.v"] = fixed_top(graph.name, streams).encode()
        streams, benches = outer, f"{top}_bench.sv"
        bench = fixed_bench(top, streams, codes, latency, period)
    else:
        settle = leading_padding(graph) if target.io_type == "io_stream" else 0
        bench, benches = (
            bench_files(top, streams, codes, (latency, interval), settle, period),
            f"streams.sv {top}_bench.sv",
        )
    texts = {
        **bench,
        **common_files(top, streams, period, benches),
        **script_files(top, streams, target),
        f"vhdl/{top}_wrapper.vhd": vhdl(top, streams),
        "component.xml": component(top, streams, sorted(rtl), period),
        "README.md": _readme(graph, target, streams, (latency, interval), len(next(iter(codes.values())))),
    }
    return Project(graph.name, {**rtl, **{path: text.encode() for path, text in texts.items()}})


def _readme(graph: IntGraph, target: Target, streams: Sequence[Port], timing: tuple[int, int], samples: int) -> str:
    (latency, interval), waits = timing, streams[0].waits
    rows = "".join(_row(port) for port in streams)
    orders = "".join(f"- `{port.name}`: {_order(port, target.io_type)}\n" for port in streams)
    ops = "".join(
        f"| `{graph.name}_{op.name}` | {', '.join(op.fused)} | {_format(op.format)} |\n"
        for op in graph.ops
        if not isinstance(op, Input)
    )
    words = {
        "TOP": graph.name if waits else f"{graph.name}_fixed",
        "SIGNALS": AXIS if waits else FIXED,
        "WAITING": AXIS_WAITING if waits else FIXED_WAITING,
        "SAMPLES": samples,
        "ROWS": rows,
        "ORDERS": orders,
        "PERIOD_NS": f"{target.clock_period_ns:g}",
        "MEGAHERTZ": f"{1000 / target.clock_period_ns:g}",
        "PART": target.part,
        "LATENCY": counted(latency, "cycle"),
        "INTERVAL": counted(interval, "cycle"),
        "OPS": ops,
    }
    return filled(ROOM, "README.md", words)


def _row(port: Port) -> str:
    way = "input" if port.is_input else "output"
    what = f"{way} `{port.op.name}`, {counted(port.elements, 'element')} of {_format(port.op.format)}"
    return f"| `{port.name}` | {port.bits} | {port.used_bits} | {port.beats} | {what} |\n"


def _order(port: Port, io_type: str) -> str:
    shape, width = " x ".join(map(str, port.op.shape)), port.op.format.width
    if io_type == "io_stream" and port.beats > 1:
        return f"{shape}, a beat is a pixel, row by row; channel c at bits [{width}c +: {width}]"
    return f"{shape}, one beat; the last index runs fastest; element i at bits [{width}i +: {width}]"


def _format(fmt: FixedFormat) -> str:
    return f"{'signed' if fmt.signed else 'unsigned'} {fmt.width} bits, {fmt.frac_bits} of them fraction"
