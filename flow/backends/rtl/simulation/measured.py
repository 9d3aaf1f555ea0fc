"""What a simulation of the Verilog measures, beside the codes: cycles, and how many bits change."""

from __future__ import annotations

from pathlib import Path

from flow.backends.rtl.simulation.rtlsim import compile_rtl, run_rtl
from flow.backends.yosys.scripts import yosys_version
from flow.errors import EmitError
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.results import EnergyReport, ResourceReport, Resources, SimResult
from flow.target import Target

COUNTED = 256
"""Samples on which changing bits are counted, at most."""


def measure(
    directory: Path, graph: IntGraph, target: Target, codes: Codes, stalled: SimResult, cache: Path
) -> tuple[ResourceReport, EnergyReport]:
    """Return cycles, and changing bits per inference, of a project's simulation without pauses at its ports.

    Args:
        directory: the project.
        graph: its graph.
        target: io_type, part and clock.
        codes: (samples, *port_shape); the first `COUNTED` are run.
        stalled: what the same design gave for these samples with pauses.
        cache: directory of built programs.

    Raises:
        EmitError: a code differs from that with pauses.
    """
    program, samples = compile_rtl(directory, graph, target.io_type, cache), min(len(codes), COUNTED)
    run = run_rtl(program, graph, codes[:samples], toggles=True)
    for op in graph.ops:
        if (run.codes[op.name] != stalled.codes[op.name][:samples]).any():
            raise EmitError(f"op '{op.name}' gives other codes when the ports pause", named=op.name, tool="rtlsim")
    cycles = ResourceReport(
        source="rtlsim",
        tool=f"po2flow, cycle by cycle; the Verilog read by {yosys_version()}",
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        total=Resources(
            name=graph.name,
            latency_cycles=run.latency_cycles,
            initiation_interval_cycles=run.initiation_interval_cycles,
        ),
    )
    layers = {name: count / samples for name, count in run.toggles.items() if count}
    energy = EnergyReport(
        source="rtlsim",
        unit="toggles",
        per_inference=sum(layers.values()),
        table="docs/energy.md",
        layers=layers,
        detail={"samples": samples},
    )
    return cycles, energy
