"""Scripts and constraints of a hand-over, for vendors' tools and for open ones.

None of the vendors' tools was at hand: their commands are those of UG835 and UG905 (Vivado), the Quartus Prime Tcl
reference, and Libero's Tcl command reference. Each script stands by itself and is started in `scripts/`.
"""

from __future__ import annotations

from collections.abc import Sequence

from flow.backends.rtl.handover.interface import ROOM
from flow.backends.rtl.handover.ports import TopPort
from flow.backends.rtl.synthesis import pnr
from flow.backends.templating import filled
from flow.backends.yosys.cells import find_family
from flow.errors import FlowError
from flow.parts import complete_part, find_device
from flow.target import Target

OPEN_PART = "LFE5U-85F-6BG381C"
"""What the open tools place a design on whose part they do not know."""
PLACED = """\
opt_design
place_design
route_design
file mkdir $reports
report_utilization -file $reports/utilization.rpt
report_utilization -hierarchical -file $reports/hierarchy.rpt
report_timing_summary -file $reports/timing.rpt
report_power -file $reports/power.rpt
"""


def script_files(name: str, ports: Sequence[TopPort], target: Target) -> dict[str, str]:
    """Return constraints and scripts: path in the hand-over -> text."""
    clock = f"create_clock -name clock -period {target.clock_period_ns:.3f} [get_ports aclk]\n"
    return {
        f"constraints/{name}.xdc": clock,
        f"constraints/{name}.sdc": clock,
        "scripts/vivado_ooc.tcl": _vivado(name, target, "vivado_ooc", _out_of_context(name)),
        "scripts/vivado_project.tcl": _vivado(name, target, "vivado_project", _in_project(name)),
        "scripts/quartus.tcl": filled(ROOM, "quartus.tcl", {"TOP": name}),
        "scripts/libero.tcl": filled(ROOM, "libero.tcl", {"TOP": name}),
        **_open(name, ports, target),
    }


def _vivado(name: str, target: Target, folder: str, steps: str) -> str:
    try:
        complete_part(target.part)
        part = f"set part [expr {{[llength $argv] > 0 ? [lindex $argv 0] : {{{target.part}}}}}]"
    except FlowError:
        part = 'if {[llength $argv] == 0} {error "name a part of AMD\'s: -tclargs PART"}\nset part [lindex $argv 0]'
    return (
        f"# vivado -mode batch -source {folder}.tcl [-tclargs PART]; then flow report RUN --vendor <its reports>\n"
        f"cd [file dirname [file normalize [info script]]]\n{part}\nset reports ../reports/{folder}\n{steps}"
    )


def _out_of_context(name: str) -> str:
    return (
        f"read_verilog [lsort [glob ../rtl/*.v]]\nread_xdc -mode out_of_context ../constraints/{name}.xdc\n"
        f"synth_design -mode out_of_context -top {name} -part $part\n{PLACED}"
        "write_checkpoint -force $reports/routed.dcp\n"
    )


def _in_project(name: str) -> str:
    """Return the steps of a project; without pins for its ports it is synthesized out of context there, too."""
    return f"""create_project -force {name} ../build/vivado -part $part
add_files [lsort [glob ../rtl/*.v]]
add_files -fileset constrs_1 ../constraints/{name}.xdc
set_property top {name} [current_fileset]
set_property -name {{STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS}} -value {{-mode out_of_context}} -objects [get_runs synth_1]
launch_runs impl_1 -jobs 4
wait_on_run impl_1
open_run impl_1
file mkdir $reports
{"".join(line for line in PLACED.splitlines(keepends=True) if line.startswith("report_"))}"""


def _open(name: str, ports: Sequence[TopPort], target: Target) -> dict[str, str]:
    """Return a shell script for Yosys and nextpnr, and the harness of four pins that it places (docs/synthesis.md)."""
    text = target.part if _is_placed(target.part) else OPEN_PART
    part = find_device(text)
    directions = {signal: (read, width) for port in ports for signal, read, width in port.signals}
    directions |= {"aclk": (True, None), "aresetn": (True, None)}
    wires = {
        signal: {"direction": "input" if read else "output", "bits": range(width or 1)}
        for signal, (read, width) in directions.items()
    }
    harness, _ = pnr.harness(name, wires)
    ecp5 = part.family == "ECP5"
    free, written = ("--lpf-allow-unconstrained", "--textcfg") if ecp5 else ("--pcf-allow-unconstrained", "--asc")
    options = " ".join(pnr.device_options(part, text))
    script = f"""#!/bin/sh
# Yosys and nextpnr for {text}: cells of the design, and the clock that it reaches.
set -e
cd "$(dirname "$0")"
mkdir -p ../build/open ../reports/open
yosys -q -p "read_verilog ../rtl/*.v open_harness.v; {find_family(part.family).synthesis} -top {pnr.HARNESS} \\
    -json ../build/open/{name}.json; tee -o ../reports/open/cells.txt stat"
{pnr.PROGRAMS[part.family]} {options} --json ../build/open/{name}.json --freq {1000 / target.clock_period_ns:.6g} \\
    --seed 1 {free} --timing-allow-fail --report ../reports/open/nextpnr.json {written} ../build/open/{name}.config
"""
    return {"scripts/open.sh": script, "scripts/open_harness.v": harness}


def _is_placed(part: str) -> bool:
    try:
        return find_device(part).family in pnr.PROGRAMS
    except FlowError:
        return False
