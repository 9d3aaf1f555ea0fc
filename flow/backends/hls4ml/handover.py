"""The hand-over of an HLS project for AMD's tools: its files, vectors, and a Makefile that runs them with g++."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flow.backends import vivado
from flow.backends.functions import Site
from flow.backends.hls4ml import csynth
from flow.backends.hls4ml.csim import FLAGS
from flow.backends.templating import filled
from flow.errors import UnsupportedError
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, Op, Reshape
from flow.project import Project

ROOM = "flow.backends.hls4ml"
SYNTHESIS = {
    "Vitis": "vitis-run --mode hls --tcl build_prj.tcl",
    "Vivado": f"vivado_hls -f build_prj.tcl '{csynth.command_line_steps()}'",
}
"""Back end -> the command that synthesizes, typed in the folder."""


def hand_over(
    site: Site, codes: Mapping[str, Codes], interface: str, tdata_bits: int | None, board: str | None
) -> Project:
    """Return the hand-over of a run.

    Args:
        site: the run, whose project is as it was written.
        codes: name of each input and output op -> codes (samples, *shape), inputs and what the reference gives.
        interface: "axis": the tool's own.
        tdata_bits: None: likewise.
        board: None: it has no block design.

    Raises:
        UnsupportedError: another one, another width, or a board is asked for.
    """
    if interface != "axis" or tdata_bits is not None or board is not None:
        what = f"the ports of a {site.target.backend} project are what its tool makes of them"
        raise UnsupportedError(what, remedy="other interfaces and widths, and boards, need a run of --backend rtl")
    graph, target = site.graph, site.target
    samples = len(codes[graph.inputs[0].name])
    given = np.concatenate([codes[op.name].reshape(samples, -1) for op in graph.inputs], axis=1)
    expected = {_written(graph, graph[name]).name: codes[name] for name in graph.outputs}
    vectors = {"inputs": given, **expected}
    words = {
        "TOP": graph.name,
        "BACKEND": target.backend,
        "FLAGS": " ".join(f"'{flag}'" if '"' in flag else flag for flag in FLAGS),
        "OPS": " ".join(expected),
        "SAMPLES": samples,
        "SYNTHESIS": SYNTHESIS[target.backend],
        "ROWS": "".join(_row(op, "input") for op in graph.inputs)
        + "".join(_row(graph[name], "output") for name in graph.outputs),
        "STREAMED": "A stream passes a pixel, all channels of a position, at a time. " if target.streams else "",
        "PART": target.part,
        "PERIOD_NS": f"{target.clock_period_ns:g}",
    }
    texts = {
        "Makefile": filled(ROOM, "handover_Makefile", words),
        "README.md": filled(ROOM, "handover_README.md", words),
        **{f"scripts/{name}": text for name, text in vivado.own_files(graph.name, target, "ap_clk").items()},
    }
    made = {
        **{path: text.encode() for path, text in texts.items()},
        **{f"vectors/{name}.bin": values.astype("<i8").tobytes() for name, values in vectors.items()},
    }
    steps = {path: text.encode() for path, text in csynth.own_files(target).items()}
    return Project(graph.name, {**site.read().files, **steps, **made})


def _written(graph: IntGraph, op: Op) -> Op:
    """Return the op whose codes the simulation writes for an output: a reshape passes those of its input on."""
    return _written(graph, graph.sources(op)[0]) if isinstance(op, Reshape) else op


def _row(op: Op, way: str) -> str:
    kind, fmt = ("signed" if op.format.signed else "unsigned"), op.format
    shape = " x ".join(map(str, op.shape))
    return f"| {way} `{op.name}` | {shape} | {kind} {fmt.width} bits, {fmt.frac_bits} of them fraction |\n"
