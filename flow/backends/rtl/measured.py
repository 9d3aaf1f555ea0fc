"""What a simulation of the Verilog measures, beside the codes: cycles, and how many bits change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow.backends.rtl.rtlsim import RtlProgram, RtlRun, compile_rtl, run_rtl
from flow.backends.rtl.yosys import yosys_version
from flow.errors import EmitError
from flow.fixed import Codes
from flow.graph import IntGraph
from flow.results import EnergyReport, ResourceReport, Resources
from flow.target import Target

STALLS = 1
"""Seed of the random pauses at the ports."""
COUNTED = 256
"""Samples on which changing bits are counted, at most."""


def simulate(program: RtlProgram, graph: IntGraph, codes: Codes) -> RtlRun:
    """Run a design twice, without pauses and with random ones; return the run without.

    Raises:
        EmitError: the two differ, or one of them fails (`run_rtl`).
    """
    free, stalled = run_rtl(program, graph, codes), run_rtl(program, graph, codes, stalls=STALLS)
    for op in graph.ops:
        wrong = np.flatnonzero((free.codes[op.name] != stalled.codes[op.name]).reshape(len(codes), -1).any(axis=1))
        if len(wrong):
            raise EmitError(
                f"rtlsim: op '{op.name}' gives other codes when the ports pause, for {len(wrong)} of {len(codes)} "
                f"samples, the first of them number {wrong[0]}"
            )
    return free


def measure(
    directory: Path, graph: IntGraph, target: Target, codes: Codes, cache: Path
) -> tuple[ResourceReport, EnergyReport]:
    """Return cycles, and changing bits per inference, of a project's simulation on some samples.

    Args:
        directory: the project.
        graph: its graph.
        target: io_type, part and clock.
        codes: (samples, *port_shape); the first `COUNTED` are run.
        cache: directory of built programs.
    """
    program = compile_rtl(directory, graph, target.io_type, cache)
    run = run_rtl(program, graph, codes[:COUNTED], toggles=True)
    samples = len(codes[:COUNTED])
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
