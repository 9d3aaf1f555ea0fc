"""The hand-over of a Verilog project: what another engineer needs of it, as files that need nothing of this package.

Makefile, README.md     one command that simulates; what stands at the ports
rtl/                    the Verilog of the run, each module of an op with the layers that it computes
bench/                  vectors, SystemVerilog for Icarus and Verilator, cocotb
software/               of nets with registers: C and Python; for a board: Python
constraints/, scripts/  XDC and SDC; Vivado, Quartus, Libero, Yosys with nextpnr
component.xml, vhdl/    IP-XACT, and a component for VHDL
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from flow.backends.functions import INTERFACES, Site
from flow.backends.rtl.handover.axilite import axilite_interface
from flow.backends.rtl.handover.bench import axis_interface
from flow.backends.rtl.handover.block_design import board_readme
from flow.backends.rtl.handover.boards import find_vivado_board
from flow.backends.rtl.handover.dma import dma_interface
from flow.backends.rtl.handover.fixed import fixed_interface
from flow.backends.rtl.handover.interface import ROOM, Interface, Net, described
from flow.backends.rtl.handover.pack import packed_interface
from flow.backends.rtl.handover.ports import Port
from flow.backends.rtl.handover.scripts import script_files
from flow.backends.rtl.handover.wrappers import component, vhdl
from flow.backends.rtl.verilog.emit import DESIGN
from flow.backends.templating import filled
from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph
from flow.project import Project, digest_files
from flow.target import Target

FORMS: Mapping[str, Callable[[Net], Interface]] = dict(
    zip(INTERFACES, (axis_interface, fixed_interface, axilite_interface), strict=True)
)


def hand_over(
    site: Site, codes: Mapping[str, Codes], interface: str, tdata_bits: int | None, board: str | None
) -> Project:
    """Return the hand-over of a run.

    Args:
        site: the run, whose project is as it was written.
        codes: name of each input and output op -> codes (samples, *shape), inputs and what the reference gives.
        interface: one of `INTERFACES`.
        tdata_bits: bits of `tdata` of "axis"; None: those of the net's own ports, or of the board.
        board: one that Vivado makes a bitstream for; None: none.

    Raises:
        SpecError: `tdata_bits` is out of range, or the board is not known.
        UnsupportedError: the project has not that interface.
    """
    return of_project(site.read(), site.graph, site.target, codes, interface, tdata_bits, board)


def of_project(
    project: Project,
    graph: IntGraph,
    target: Target,
    codes: Mapping[str, Codes],
    interface: str = "axis",
    tdata_bits: int | None = None,
    board: str | None = None,
) -> Project:
    """Return the hand-over of a project of Verilog; arguments as of `hand_over`."""
    latency, interval = json.loads(project.files[DESIGN])["timing"]
    rtl = {path: content for path, content in project.files.items() if path.endswith(".v")}
    number = int(digest_files(rtl)[:8], 16)
    net = Net(graph=graph, target=target, codes=codes, latency=latency, interval=interval, number=number)
    for op in graph.ops:
        path = f"rtl/{graph.name}_{op.name}.v"
        if not isinstance(op, Input) and path in rtl:
            rtl[path] = f"// Op '{op.name}' of '{graph.name}': {', '.join(op.fused)}.\n".encode() + rtl[path]
    there = None if board is None else find_vivado_board(board)
    if there is not None:
        form = dma_interface(net, there, tdata_bits)
    else:
        form = FORMS[interface](net) if tdata_bits is None else packed_interface(net, tdata_bits)
    rtl |= {path: text.encode() for path, text in form.rtl.items()}
    top = form.top
    texts = {
        **form.bench,
        "bench/lint.vlt": filled(ROOM, "lint.vlt", {}),
        "bench/waves.py": filled(ROOM, "waves.py", {"TOP": top, **_signals(form)}),
        "bench/run_cocotb.py": filled(ROOM, "run_cocotb.py", {"TOP": top}),
        "Makefile": filled(ROOM, "Makefile", {"TOP": top, "BENCHES": form.benches}),
        **script_files(top, form.ports, target),
        f"vhdl/{top}_wrapper.vhd": vhdl(top, form.ports),
        "component.xml": component(form, sorted(rtl)),
        "README.md": _readme(net, form),
    }
    if there is not None:
        texts["README.md"] += board_readme(top, there, target)
    return Project(graph.name, {**rtl, **{path: text.encode() for path, text in texts.items()}})


def _signals(form: Interface) -> dict[str, str]:
    """Return what is drawn of the ports, and what is valid with a result."""
    signals = [("aresetn", True), *((name, read) for port in form.ports for name, read, _ in port.signals)]
    results = [(f"{p.name}_tvalid", p.beats) for p in form.ports if isinstance(p, Port) and not p.is_input]
    results = results or [(f"{port.name}_rvalid", 1) for port in form.ports]
    sides = (("SIGNALS", signals), ("RESULT", results))
    return {side: "".join(f'    "{name}": {value},\n' for name, value in rows) for side, rows in sides}


def _readme(net: Net, form: Interface) -> str:
    ops = "".join(
        f"| `{net.graph.name}_{op.name}` | {', '.join(op.fused)} | {described(op.format)} |\n"
        for op in net.graph.ops
        if not isinstance(op, Input)
    )
    words = {
        "TOP": form.top,
        "SAMPLES": net.samples,
        "PERIOD_NS": f"{net.target.clock_period_ns:g}",
        "MEGAHERTZ": f"{1000 / net.target.clock_period_ns:g}",
        "PART": net.target.part,
        "OPS": ops,
        **form.readme,
    }
    return filled(ROOM, "README.md", words)
