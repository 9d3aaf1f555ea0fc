"""What a back end does: one value with a function for each thing that the rest of the package asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from flow.backends.base import find_backend
from flow.errors import UnsupportedError
from flow.findings import Rule
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, slides_windows
from flow.ir.passes import lower
from flow.progress import Announce
from flow.project import Project, read
from flow.results import EnergyReport, ResourceReport, SimResult
from flow.target import Target

Level = Callable[[Codes], SimResult]
"""Computes the codes of every op that the level knows, for input codes (samples, *port_shape)."""


@dataclass(frozen=True, slots=True)
class Site:
    """A generated project where it lies.

    Attributes:
        path: run directory; the project is in `project/`, and what is built of it beside that.
        graph: what the project should compute.
        target: what it was generated for.
    """

    path: Path
    graph: IntGraph
    target: Target

    @property
    def project(self) -> Path:
        """Directory of the generated files."""
        return self.path / "project"

    def read(self) -> Project:
        """Return the project as it lies there now, without what tools left beside it."""
        return read(self.project, self.graph.name, find_backend(self.target.backend).left_by_tools)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """A graph on a target.

    Attributes:
        trained: the model it was made of; None for a float model, which no inference is compared with.
        extracted: before any pass.
        lowered: after them.
        target: hardware settings.
        resources: the static estimate; None where there is none, or not yet.
    """

    trained: TrainedModel | None
    extracted: IntGraph
    lowered: IntGraph
    target: Target
    resources: ResourceReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a check beside the comparison of codes shows of a project.

    Attributes:
        differences: what is wrong, in words; nothing if nothing is.
        proofs: op name -> what was proved of it, as JSON.
        note: what a report says of the check if nothing is wrong.
    """

    differences: tuple[str, ...] = ()
    proofs: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def joined(self, other: Shown) -> Shown:
        """Return what both show."""
        return Shown(
            differences=(*self.differences, *other.differences),
            proofs={**self.proofs, **other.proofs},
            note=" ".join(filter(None, (self.note, other.note))),
        )


Check = Callable[[Site, Codes, Announce], Shown]
"""Takes the input codes that were simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that says what a project takes: a later stage of a build.

    Attributes:
        after: the stages that must have run before it.
        check: raises what would stop the tool, before the long work.
        run: runs it on a project.
        note: what a report repeats of its figures, in words; empty for nothing.
    """

    after: tuple[str, ...] = ()
    check: Callable[[Target], object]
    run: Callable[[Site, Announce], ResourceReport]
    note: Callable[[ResourceReport], str] = lambda report: ""


INTERFACES = ("axis", "fixed", "axilite")
"""What stands at the ports of a hand-over: AXI-Stream; data and valid alone, with a constant latency; registers."""
TOOLS = ("synth", "pnr", "csynth", "vivado")
"""Names of later stages; each back end has a tool for each, or says why not."""


def no_estimate(site: Site) -> tuple[ResourceReport, ...]:
    """Refuse: there are no rules for what the projects of a back end take."""
    raise UnsupportedError("its rules are those of Vitis and Vivado, and of rtl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """What a back end does.

    Attributes:
        check_part: raises SpecError if its tool would not take the part of a target.
        nearest_reuse: of a graph and a target with `reuse_nearest`, the reuse factors of ops that cannot have the
            common one.
        refusals: what of a graph it cannot compute exactly.
        emit: writes the project of a lowered graph, as data.
        differences: what a project's files say otherwise than the graph, in words; nothing where the simulation reads
            the very files that are synthesized.
        configurations: of a project on disk, op -> the configuration that its kernel takes, whose name stands in the
            names of the modules that the vendor's tools report; nothing where none does.
        folds: whether it computes a `Scan`, in streams: one step of a recurrent layer, used again for every row.
        not_simulated: why its projects are not simulated here; empty if they are.
        compile: builds the simulation of a project as it lies on disk.
        compile_together: builds the simulations of many projects, of one io_type and below one directory, at once; None
            where they are built one by one.
        checks: further checks of a project by the name of their stage.
        measure: what a simulation without pauses measures, given input codes and what the level gave for them; None if
            it measures nothing.
        estimate: the static estimate of the hardware, of a graph alone; None where there is none.
        estimate_project: the static estimates of a project, that of the hardware first; raises UnsupportedError where
            there is none.
        tools: stage -> tool.
        rules: what its tools are known to fail at, for the preflight.
        hand_over: of a run, codes of its inputs and outputs by name, one of `INTERFACES`, bits of `tdata` or None, and
            a board or None: a folder that another engineer can use without this package; None where there is none.
        bitstream: of a run, a board, codes as for `hand_over`, and what to call with each step: the files of a
            bitstream, and what was reached; None where there is none.
    """

    check_part: Callable[[Target], object] = lambda target: None
    nearest_reuse: Callable[[IntGraph, Target], Mapping[str, int]] = lambda graph, target: {}
    refusals: Callable[[IntGraph, Target], Iterable[UnsupportedError]]
    emit: Callable[[IntGraph, Target], Project]
    differences: Callable[[Project, IntGraph, Target], tuple[str, ...]] = lambda project, graph, target: ()
    configurations: Callable[[Site], Mapping[str, str]] = lambda site: {}
    folds: bool = False
    not_simulated: Callable[[Target], str] = lambda target: ""
    compile: Callable[[Site], Level]
    compile_together: Callable[[Sequence[Project], Sequence[IntGraph], Path], list[Level]] | None = None
    checks: Callable[[Target], Mapping[str, Check]] = lambda target: {}
    measure: Callable[[Site, Codes, SimResult], tuple[ResourceReport, EnergyReport]] | None = None
    estimate: Callable[[IntGraph, Target], ResourceReport] | None = None
    estimate_project: Callable[[Site], tuple[ResourceReport, ...]] = no_estimate
    tools: Mapping[str, Tool] = field(default_factory=dict)
    rules: tuple[Rule[Design], ...] = ()
    hand_over: Callable[[Site, Mapping[str, Codes], str, int | None, str | None], Project] | None = None
    bitstream: Callable[[Site, str, Mapping[str, Codes], Announce], tuple[Project, dict[str, Any]]] | None = None


def functions(target: Target) -> Functions:
    """Return what the back end of a target does."""
    module, _, name = find_backend(target.backend).functions.partition(":")
    found: Functions = getattr(import_module(module), name)
    return found


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the project of a lowered graph, found to say what the graph says.

    Raises:
        UnsupportedError: what the back end of the target cannot compute exactly, or a setting it cannot take.
        EmitError: its generator wrote something other than the graph.
    """
    return functions(target).emit(graph, target)


def lowered_for(graph: IntGraph, target: Target) -> IntGraph:
    """Return the graph of unified modules of an extracted graph, as a target takes the least of it."""
    tables = find_backend(target.backend).takes_tables
    return lower(graph, stream=target.for_windows(slides_windows(graph)).streams, tables=tables)


def folds(target: Target, graph: IntGraph | None = None) -> bool:
    """Say whether recurrent layers are one step of hardware on a target: in a stream, as all that has positions.

    Args:
        graph: of the model, where the target leaves the io_type to that.
    """
    windows = graph is not None and slides_windows(graph)
    return functions(target).folds and target.for_windows(windows).streams


def settled(target: Target, graph: IntGraph) -> Target:
    """Return a target with what follows from a graph: the io_type if none was given, the nearest reuse factors."""
    own = functions(target).nearest_reuse(graph, target) if target.reuse_nearest else {}
    factors = (*target.reuse_factors, *own.items())
    return replace(target.for_windows(slides_windows(graph)), reuse_factors=factors, reuse_nearest=False)


def tools(until: str, target: Target) -> dict[str, Tool]:
    """Return the later stages up to `until`, in order.

    Raises:
        UnsupportedError: the back end has no such stage.
    """
    if until not in TOOLS:
        return {}
    own = functions(target).tools
    if until not in own:
        raise UnsupportedError(
            f"back end {target.backend} has no stage '{until}'", remedy=f"it has: {', '.join(own) or 'none'}"
        )
    return {name: own[name] for name in (*own[until].after, until)}


def refused(refusal: Callable[[Target], UnsupportedError]) -> Tool:
    """Return a tool that a back end does not have, and says so."""

    def check(target: Target) -> None:
        raise refusal(target)

    def run(site: Site, announce: Announce) -> ResourceReport:
        raise refusal(site.target)

    return Tool(check=check, run=run)


def reads_only_verilog(target: Target) -> UnsupportedError:
    """Return why Yosys and nextpnr cannot take an HLS project."""
    return UnsupportedError(
        f"Yosys reads Verilog, and back end {target.backend} writes C++", remedy="use --backend rtl"
    )
