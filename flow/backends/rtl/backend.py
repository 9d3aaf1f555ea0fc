"""The back end that writes Verilog of its own, as a value."""

from __future__ import annotations

from collections.abc import Mapping

from flow.backends import vivado
from flow.backends.functions import Announce, Check, Functions, Level, Shown, Site, Tool, refused
from flow.backends.rtl import limits
from flow.backends.rtl.synthesis import pnr, synth
from flow.backends.rtl.synthesis.estimate import estimate_rtl
from flow.backends.rtl.verilog import kernels
from flow.backends.yosys.cells import find_family
from flow.backends.yosys.scripts import yosys_version
from flow.errors import UnsupportedError
from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph
from flow.parts import find_device
from flow.project import Project
from flow.results import EnergyReport, ResourceReport, SimResult
from flow.target import Target

STALLS = 1
"""Seed of the random pauses at the ports of a design."""
PROOF_S = 60.0
"""How long a solver may take for one op."""


def _emit(graph: IntGraph, target: Target) -> Project:
    from flow.backends.rtl.verilog.emit import emit

    return emit(graph, target)


def _differences(project: Project, graph: IntGraph, target: Target) -> tuple[str, ...]:
    from flow.backends.rtl.verilog.emit import findings

    return tuple(findings(project, graph, target))


def _compile(site: Site) -> Level:
    """Read the Verilog as it lies on disk, unless that was done before."""
    from flow.backends.rtl.simulation.rtlsim import compile_rtl, run_rtl

    program = compile_rtl(site.project, site.graph, site.target.io_type, site.path / "rtlsim")
    return lambda codes: run_rtl(program, site.graph, codes, stalls=STALLS)


def _prove(site: Site, codes: Codes, announce: Announce) -> Shown:
    """Prove the Verilog of each op, unless that was done before."""
    from flow.backends.rtl.proof.prove import Refuted, prove

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


def _checks(target: Target) -> Mapping[str, Check]:
    return {"prove": _prove}


def _measure(site: Site, codes: Codes, stalled: SimResult) -> tuple[ResourceReport, EnergyReport]:
    from flow.backends.rtl.simulation.measured import measure

    return measure(site.project, site.graph, site.target, codes, stalled, site.path / "rtlsim")


def _estimate(site: Site) -> ResourceReport:
    from flow.backends.rtl.verilog.emit import DESIGN

    if not site.project.is_dir():
        raise UnsupportedError("it reads the project, which was not written")
    return estimate_rtl(site.graph, site.target, (site.project / DESIGN).read_bytes())


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


def _no_c(target: Target) -> UnsupportedError:
    return UnsupportedError("a Verilog project has no C++ to synthesize", remedy="use --until vivado")


VERILOG = Functions(
    check_part=find_device,
    refusals=lambda graph, target: kernels.refusals(graph),
    emit=_emit,
    differences=_differences,
    compile=_compile,
    checks=_checks,
    measure=_measure,
    estimate_project=_estimate,
    rules=limits.RULES,
    tools={
        "synth": Tool(check=_yosys_reads, run=_synth, note=synth.dsp_note),
        "pnr": Tool(after=("synth",), check=_nextpnr_places, run=_pnr),
        "csynth": refused(_no_c),
        "vivado": Tool(check=vivado.command, run=_vivado),
    },
)
