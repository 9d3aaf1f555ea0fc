"""The back end that writes Verilog of its own, as a value."""

from __future__ import annotations

import math
from collections.abc import Iterator

from flow.backends import vivado
from flow.backends.functions import Design, Functions, Level, Shown, Site, Tool, refused
from flow.backends.rtl.handover.bitstream import bitstream
from flow.backends.rtl.handover.export import hand_over
from flow.backends.rtl.proof.prove import Refuted, prove
from flow.backends.rtl.simulation.rtlsim import compile_rtl, run_rtl
from flow.backends.rtl.synthesis import pnr, synth
from flow.backends.rtl.synthesis.estimate import estimate_rtl
from flow.backends.rtl.verilog import kernels
from flow.backends.rtl.verilog.emit import DESIGN, emit
from flow.backends.yosys.cells import find_family
from flow.backends.yosys.scripts import yosys_version
from flow.errors import EmitError, UnsupportedError
from flow.findings import WARNING, Hit, Rule
from flow.ir.fixed import Codes
from flow.ir.graph import Input, MatMul, nested
from flow.parts import find_device
from flow.progress import Announce
from flow.results import EnergyReport, ResourceReport, Resources, SimResult
from flow.target import Target

COUNTED = 256
"""Samples on which changing bits are counted, at most."""
STALLS = 1
"""Seed of the random pauses at the ports of a design."""
PROOF_S = 60.0
"""How long a solver may take for one op."""
VERILOG_PRODUCTS = 50_000
"""Products of a Verilog design beyond which Yosys takes hours; 5,600 take minutes (docs/synthesis.md)."""


def _compile(site: Site) -> Level:
    """Read the Verilog as it lies on disk, unless that was done before."""
    program = compile_rtl(site.project, site.graph, site.target.io_type, site.path / "rtlsim")
    return lambda codes: run_rtl(program, site.graph, codes, stalls=STALLS)


def _prove(site: Site, codes: Codes, announce: Announce) -> Shown:
    """Prove the Verilog of each op, unless that was done before."""
    shown = prove(
        site.project,
        site.graph,
        site.target.io_type,
        time_limit_s=PROOF_S,
        cache_dir=site.path / "proofs",
        tested=len(codes),
        announce=announce,
    )
    return Shown(
        differences=tuple(f"not proved: {proof}" for proof in shown.values() if isinstance(proof, Refuted)),
        proofs={name: proof.to_json() for name, proof in shown.items() if not isinstance(proof, Refuted)},
    )


def _measure(site: Site, codes: Codes, stalled: SimResult) -> tuple[ResourceReport, EnergyReport]:
    """Return cycles, and changing bits per inference, of a simulation without pauses; `stalled` had some."""
    graph, samples = site.graph, min(len(codes), COUNTED)
    program = compile_rtl(site.project, graph, site.target.io_type, site.path / "rtlsim")
    run = run_rtl(program, graph, codes[:samples], toggles=True)
    for op in graph.ops:
        if (run.codes[op.name] != stalled.codes[op.name][:samples]).any():
            raise EmitError(f"op '{op.name}' gives other codes when the ports pause", named=op.name, tool="rtlsim")
    cycles = ResourceReport(
        source="rtlsim",
        tool=f"po2flow, cycle by cycle; the Verilog read by {yosys_version()}",
        part=site.target.part,
        clock_period_ns=site.target.clock_period_ns,
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


def _estimate(site: Site) -> tuple[ResourceReport, ...]:
    if not site.project.is_dir():
        raise UnsupportedError("it reads the project, which was not written")
    return (estimate_rtl(site.graph, site.target, (site.project / DESIGN).read_bytes()),)


def _yosys_reads(target: Target) -> None:
    find_family(find_device(target.part).family)
    yosys_version()


def _synth(site: Site, announce: Announce) -> ResourceReport:
    ops = [op.name for op in site.graph.ops if not isinstance(op, Input)]
    cache = site.path / "synth"
    return synth.synthesize(site.project, site.graph.name, ops, site.target, cache, announce=announce)


def _nextpnr_places(target: Target) -> None:
    _yosys_reads(target)
    part = find_device(target.part)
    pnr.nextpnr(part.family)
    pnr.device_options(part, target.part)


def _pnr(site: Site, announce: Announce) -> ResourceReport:
    return pnr.place_and_route(site.project, site.graph.name, site.target, site.path / "synth", announce=announce)


def _vivado(site: Site, announce: Announce) -> ResourceReport:
    return vivado.synthesize(
        site.project / "rtl", site.path / "vivado", site.graph.name, site.target, clock_port="aclk"
    )


def _large_verilog(subject: Design) -> Iterator[Hit]:
    """Verilog of so many adders that open tools take hours for it."""
    stream = subject.target.io_type == "io_stream"
    for op in subject.lowered.ops:
        held = [each for each in nested(op) if isinstance(each, MatMul)]
        if held:
            places = 1 if stream else math.prod(op.shape[:-1])
            products = places * sum(int((each.matrix() != 0).sum()) for each in held)
            if products > VERILOG_PRODUCTS:
                reason = f"op '{op.name}' has {products} products with a circuit of their own, at {places} places"
                yield Hit(op.name, reason, "use --io-type io_stream or more zeros, or expect hours of synthesis")


VERILOG = Functions(
    check_part=lambda target: find_device(target.part),
    refusals=lambda graph, target: kernels.refusals(graph),
    emit=emit,
    folds=True,
    compile=_compile,
    checks=lambda target: {"prove": _prove},
    measure=_measure,
    estimate_project=_estimate,
    hand_over=hand_over,
    bitstream=bitstream,
    rules=(Rule("verilog-size", WARNING, "measured with Yosys 0.70, docs/synthesis.md", _large_verilog),),
    tools={
        "synth": Tool(check=_yosys_reads, run=_synth, note=synth.dsp_note),
        "pnr": Tool(after=("synth",), check=_nextpnr_places, run=_pnr),
        "csynth": refused(
            lambda target: UnsupportedError("a Verilog project has no C++ to synthesize", remedy="use --until vivado")
        ),
        "vivado": Tool(check=vivado.command, run=_vivado),
    },
)
