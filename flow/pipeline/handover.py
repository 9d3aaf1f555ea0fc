"""From a run to what others build on: a folder for a firmware engineer, a bitstream for a board."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from flow.backends.functions import INTERFACES, Site, functions
from flow.errors import InputError, OutputError, SpecError, UnsupportedError, shown
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.json_text import json_text
from flow.pipeline.driver import load_report
from flow.pipeline.reporting import read_report
from flow.progress import Announce, progress
from flow.project import Project, write
from flow.runs import RunDirectory, digest, digest_code, digest_file, keep, open_run, outside_runs, read_kept
from flow.toolchain import require_tool, run_tool
from flow.verification.levels import codes_digest, stored_graph, stored_inputs

SAMPLES = 100
"""Samples that a hand-over has, half of them of the run's inputs and half adversarial, where there are as many."""
MOST_SAMPLES = 10_000
RECORD = "po2flow.json"
"""What a hand-over or a bitstream was made of."""
CHECKED = 2
"""Samples that the placed cells of a bitstream compute, in simulation."""


def export(
    run: Path | str,
    to: Path | str,
    *,
    samples: int = SAMPLES,
    interface: str = "axis",
    tdata_bits: int | None = None,
    board: str | None = None,
) -> dict[str, Any]:
    """Write the hand-over of a run: sources, test bench with vectors, constraints, scripts, and how to use them.

    Args:
        run: run directory of a build that compared, and found no difference.
        to: the folder, which must be new or empty.
        samples: how many samples the vectors have, 1 or more.
        interface: "axis" (AXI-Stream), "fixed" (data and valid alone; the latency is constant and nothing waits) or
            "axilite" (registers behind AXI4-Lite).
        tdata_bits: of "axis" the bits of `tdata`, which holds as many elements as fit; None: a sample or
            a pixel a beat.
        board: one that Vivado makes a bitstream for, as `flow export --help` lists them: the ports are those of its DMA
            engines, with a block design and a driver; None: none.

    Returns:
        The record of the hand-over, as its `po2flow.json`.

    Raises:
        InputError: it is no such run, or was changed since.
        UnsupportedError: its back end hands nothing over, or not with that interface.
        SpecError: `samples` or `tdata_bits` is out of range, or there is no such interface or board.
        OutputError: `to` holds something, lies in a run directory, or cannot be written.
    """
    run, to = Path(run), Path(to)
    _in_range(samples)
    outside_runs(to)
    if interface not in INTERFACES:
        raise SpecError(f"interface {shown(interface)} is not known", remedy=f"use one of {', '.join(INTERFACES)}")
    if tdata_bits is not None and interface != "axis":
        raise SpecError(f"tdata_bits is given for the interface '{interface}'", remedy="only 'axis' has such a width")
    if board is not None and interface != "axis":
        raise SpecError(f"a board is given for the interface '{interface}'", remedy="its DMA engines need 'axis'")
    directory, site, codes = proven(run, samples)
    hand_over = functions(site.target).hand_over
    if hand_over is None:
        what = f"back end {site.target.backend} has no hand-over"
        raise UnsupportedError(what, remedy="its project is a folder of its own: RUN/project")
    made = hand_over(site, codes, interface, tdata_bits, board)
    record = {**_record(directory, site, made, len(next(iter(codes.values())))), "interface": interface}
    record |= {name: value for name, value in (("tdata_bits", tdata_bits), ("board", board)) if value is not None}
    if to.exists() and (not to.is_dir() or any(to.iterdir())):  # reports of a vendor's tool may lie there
        raise OutputError("is there and is not empty", file=to, remedy="name another folder, or remove it")
    write(Project(made.name, {**made.files, RECORD: (json_text(record) + "\n").encode()}), to)
    return record


def bitstream(
    run: Path | str, board: str, *, samples: int = CHECKED, program: bool = False, announce: Announce | None = None
) -> dict[str, Any]:
    """Make the bitstream of a run for a board, with open tools, and simulate its placed cells against the reference.

    Args:
        run: run directory of a build that compared, and found no difference.
        board: which one, as `flow bitstream --help` lists them.
        samples: how many the placed cells compute, 1 or more.
        program: load it into the board with openFPGALoader.
        announce: called with what is done, in words; without it a bar is shown on a terminal and in a notebook.

    Returns:
        What was reached; `path` is the bitstream, in `RUN/bitstream/<board>`. One that is there is not made again.

    Raises:
        InputError: it is no such run, or was changed since.
        SpecError: the board is not known, or `samples` is out of range.
        UnsupportedError: its back end makes none, or not of such a net.
        ToolMissingError: a tool is not installed.
        ToolFailedError: the net does not fit, or not at the board's clock; or the cells compute something else.
    """
    run = Path(run)
    _in_range(samples)
    directory, site, codes = proven(run, samples)
    make = functions(site.target).bitstream
    if make is None:
        what = f"back end {site.target.backend} makes no bitstream"
        raise UnsupportedError(what, remedy="build the model with --backend rtl")
    place = run / "bitstream" / board
    with ExitStack() as held:
        announce = announce or held.enter_context(progress())
        held.enter_context(directory.held())
        checked = {name: codes_digest(values) for name, values in codes.items()}
        key = digest(site.read().digest(), board, checked, digest_code("backends/rtl/handover"))
        record = read_kept(place / RECORD, key)
        if record is None or digest_file(place / record["bitstream"]) != record["digest"]:
            made, reached = make(site, board, codes, announce)
            write(made, place)
            record = {"schema": 1, **reached, "digest": digest_file(place / reached["bitstream"])}
            keep(place / RECORD, key, record)
    path = place / record["bitstream"]
    if program:
        run_tool([require_tool("openFPGALoader"), "-b", board, str(path)], place)
    return {**record, "path": str(path)}


def _in_range(samples: int) -> None:
    if not 1 <= samples <= MOST_SAMPLES:
        raise SpecError(f"samples is {shown(samples)}", remedy=f"expected 1 to {MOST_SAMPLES}")


def proven(path: Path, samples: int) -> tuple[RunDirectory, Site, dict[str, Codes]]:
    """Return a run that was found bit exact, with codes of its ports for some of its inputs.

    Raises:
        InputError: it is none, was changed since, or nothing was compared.
    """
    run, report = open_run(path), load_report(path)
    if report.is_outdated or report.bit_exact is False:
        remedy = f"see 'flow report {path}', then {run.again()}"
        raise InputError("its outputs differ, or its project was changed since", file=path, remedy=remedy)
    if report.bit_exact is None:
        raise InputError("nothing was compared in it", file=path, remedy="run 'flow build' without --until")
    graph, target = stored_graph(run)
    port, adversarial = stored_inputs(run)
    half = max(samples - samples // 2, samples - len(adversarial))
    chosen = np.concatenate([port.codes[:half].astype(np.int64), adversarial.astype(np.int64)])[:samples]
    result = reference.run(graph, chosen).codes
    named = (*(op.name for op in graph.inputs), *graph.outputs)
    return run, Site(path, graph, target), {name: result[name] for name in named}


def _record(run: RunDirectory, site: Site, made: Project, samples: int) -> dict[str, Any]:
    verdict = read_report(run).document["verdict"]
    return {
        "schema": 1,
        "model": site.graph.name,
        "run_dir": str(run.path),
        "target": site.target.to_json(),
        "compared": verdict["compared"],
        "samples": samples,
        "files": made.digests(),
    }
