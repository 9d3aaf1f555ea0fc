"""hls4ml's back ends as values: HLS projects, simulated with g++ and the vendor's open headers.

`AMD` is Vitis and Vivado, with kernels of our own, streams that run side by side, an estimate and the vendor's tools.
`OTHER` is Quartus, Catapult, oneAPI and Libero. Importing hls4ml takes half a second, so it waits until a project is
emitted or read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from flow.backends import vivado
from flow.backends.functions import Functions, Level, Shown, Site, Tool, reads_only_verilog, refused
from flow.backends.hls4ml import csim, csynth, dialects, limits, piped, threaded
from flow.backends.hls4ml.csim import compile_together
from flow.backends.hls4ml.handover import hand_over
from flow.backends.hls4ml.project_text import read_configurations
from flow.backends.hls4ml.refusals import nearest_reuse, refusals
from flow.cost.hls.estimates import estimate, estimate_csynth
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.part_names import check_intel, check_microchip
from flow.parts import complete_part
from flow.progress import Announce
from flow.project import Project
from flow.results import ResourceReport
from flow.target import Target

STREAMED_SAMPLES = 4
"""Samples that streams run side by side; they are slow, and whether they deadlock does not depend on the codes."""
STREAMS_RAN = "the streams ran side by side, FIFOs as deep as in the project: no deadlock, outputs equal"


def _emit(graph: IntGraph, target: Target) -> Project:
    from flow.backends.hls4ml.emit import emit

    return emit(graph, target)


def _differences(project: Project, graph: IntGraph, target: Target) -> tuple[str, ...]:
    from flow.backends.hls4ml.readback import findings

    try:
        return tuple(str(finding) for finding in findings(project, graph, target))
    except (LookupError, ValueError) as error:  # a file is gone, or no longer has the form that hls4ml gave it
        return (f"the project cannot be read back: {type(error).__name__}: {error}",)


def _configurations(site: Site) -> Mapping[str, str]:
    sources = dialects.DIALECTS[site.target.backend].sources
    return read_configurations(site.project / sources, site.graph.name)


def _compile(site: Site) -> Level:
    """Compile the project as it lies on disk, unless that was done before."""
    directory, name, cache = site.project, site.graph.name, site.path / "csim"
    project = site.read()
    key = csim.sources_digest(project)
    if dialects.DIALECTS[site.target.backend].ports == "pipes":
        program = piped.compile_pipes(project, site.graph, cache, key)
    else:
        program = csim.compile_project(directory, name, cache, key)
    return lambda codes: csim.run(program, directory, site.graph, codes)


def _run_streams(site: Site, codes: Codes, announce: Announce) -> Shown:
    """Run the kernels of a streamed project side by side on some of the samples."""
    directory, graph = site.project, site.graph
    chosen = codes[np.unique(np.linspace(0, len(codes) - 1, STREAMED_SAMPLES).astype(int))]
    try:
        program = threaded.compile_threads(site.read(), directory, graph, site.path / "csim")
    except (LookupError, ValueError) as error:  # the text has no longer the form that hls4ml gave it
        return Shown(differences=(f"its streams cannot be run side by side: {error}",))
    return Shown(differences=threaded.complaints(program, directory, graph, chosen), note=STREAMS_RAN)


def _vivado(site: Site, announce: Announce) -> ResourceReport:
    """Synthesize the Verilog that C synthesis left."""
    name = site.graph.name
    verilog = site.path / f"csynth/{name}_prj/solution1/syn/verilog"
    return vivado.synthesize(verilog, site.path / "vivado", name, site.target, clock_port="ap_clk")


PART_CHECKS = {
    "Quartus": check_intel,
    "Catapult": complete_part,
    "oneAPI": check_intel,
    "Libero": check_microchip,
}
VERILOG_ONLY = dict.fromkeys(("synth", "pnr"), refused(reads_only_verilog))
AMD = Functions(
    check_part=lambda target: complete_part(target.part),
    nearest_reuse=nearest_reuse,
    refusals=refusals,
    emit=_emit,
    folds=True,
    differences=_differences,
    configurations=_configurations,
    compile=_compile,
    compile_together=partial(compile_together, programs=1),
    checks=lambda target: {"streams": _run_streams} if target.io_type == "io_stream" else {},
    estimate=estimate,
    estimate_project=lambda site: (estimate(site.graph, site.target), estimate_csynth(site.graph, site.target)),
    rules=limits.AMD_RULES,
    hand_over=hand_over,
    tools={
        **VERILOG_ONLY,
        "csynth": Tool(
            check=csynth.command,
            run=lambda site, announce: csynth.synthesize(site.path, site.graph.name, site.target),
        ),
        "vivado": Tool(after=("csynth",), check=vivado.command, run=_vivado),
    },
)
OTHER = Functions(
    check_part=lambda target: PART_CHECKS[target.backend](target.part),
    nearest_reuse=nearest_reuse,
    refusals=refusals,
    emit=_emit,
    folds=True,
    differences=_differences,
    configurations=_configurations,
    not_simulated=dialects.not_simulated,
    compile=_compile,
    rules=limits.REUSE_RULES,
    tools={
        **VERILOG_ONLY,
        "csynth": refused(dialects.own_synthesis),
        "vivado": refused(vivado.takes_only_verilog),
    },
)
