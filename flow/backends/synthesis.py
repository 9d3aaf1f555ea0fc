"""The tools that say what a project takes, as stages of a build: `--until` names the last one that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flow.backends import vivado
from flow.backends.hls4ml import csynth
from flow.backends.rtl.cells import find_family
from flow.backends.rtl.synthesis import pnr
from flow.backends.rtl.synthesis import synth as synthesis
from flow.backends.rtl.yosys import yosys_version
from flow.errors import UnsupportedError
from flow.ir.graph import Input, IntGraph
from flow.parts import find_device
from flow.results import ResourceReport
from flow.target import AMD_BACKENDS, RTL, Target

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """A tool.

    Attributes:
        check: raises what would stop the tool, before the long work.
        run: runs it on the project of a run directory.
    """

    check: Callable[[Target], object]
    run: Callable[[Path, IntGraph, Target, Announce], ResourceReport]


def stages(until: str, target: Target) -> dict[str, Stage]:
    """Return the stages up to `until`, in order: Vivado takes what C synthesis writes, nextpnr is held beside Yosys."""
    before = {"pnr": ("synth",), "vivado": ("csynth",) if target.backend in AMD_BACKENDS else ()}
    return {name: STAGES[name] for name in (*before.get(until, ()), until) if name in STAGES}


def _csynth(run_dir: Path, graph: IntGraph, target: Target, announce: Announce) -> ResourceReport:
    return csynth.synthesize(run_dir, graph.name, target)


def _vivado(run_dir: Path, graph: IntGraph, target: Target, announce: Announce) -> ResourceReport:
    return vivado.synthesize(run_dir, graph.name, target)


def _yosys_reads(target: Target) -> None:
    if target.backend != RTL:
        raise UnsupportedError(f"Yosys reads Verilog, and back end {target.backend} writes C++; use --backend rtl")
    find_family(find_device(target.part).family)
    yosys_version()


def _synth(run_dir: Path, graph: IntGraph, target: Target, announce: Announce) -> ResourceReport:
    ops = [op.name for op in graph.ops if not isinstance(op, Input)]
    cache = run_dir / "synth"
    return synthesis.synthesize(run_dir / "project", graph.name, ops, target, cache, announce=announce)


def _nextpnr_places(target: Target) -> None:
    _yosys_reads(target)
    part = find_device(target.part)
    pnr.nextpnr(part.family)
    pnr.device_options(part, target.part)


def _pnr(run_dir: Path, graph: IntGraph, target: Target, announce: Announce) -> ResourceReport:
    return pnr.place_and_route(run_dir / "project", graph.name, target, run_dir / "synth", announce=announce)


STAGES: Mapping[str, Stage] = {
    "synth": Stage(_yosys_reads, _synth),
    "pnr": Stage(_nextpnr_places, _pnr),
    "csynth": Stage(csynth.command, _csynth),
    "vivado": Stage(vivado.command, _vivado),
}
