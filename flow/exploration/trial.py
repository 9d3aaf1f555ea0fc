"""What a worker does: it trains the net of a trial, estimates what it takes, and confirms that by synthesis.

All is kept in the directory of the trial, which worker and search both see, so a trial that is asked for again, by a
worker after one that died, goes on where it stood.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from flow.errors import InputError
from flow.files import locked, temporary
from flow.project import write
from flow.runs import digest, digest_code, keep, read_kept
from flow.target import Target
from flow.train.spec import SPEC_TOML, load_spec

FULL, SHORT, CONFIRMED = "full", "short", "confirmed"
"""Steps of a trial, and names of what is kept of each: `full.json`."""
ROOMS = ("train", "ir", "ir/passes", "frontend/extraction", "backends/rtl/netlists", "backends/rtl/synthesis")
"""Whose code the figures depend on."""
Figures = dict[str, Any]


def measure(directory: str, step: str, part: float, target: Mapping[str, Any]) -> Figures:
    """Train the net of a trial and return its figures.

    Args:
        directory: of the trial, with `spec.toml`.
        step: `SHORT`, which leaves its net in a directory of its own, or `FULL`.
        part: of the epochs of the spec that it is trained; 1 for all.
        target: as JSON, what the net is estimated for.

    Returns:
        "accuracy" or "error" on samples held out, "luts" with "luts_low" (static), "latency" in cycles, "energy" in pJ
        and "seconds"; or "refused", why there is no such net.

    Raises:
        FlowError: what keeps any net from being trained: a tool that is missing, a disk that is full.
    """
    place = Path(directory)
    if not (place / SPEC_TOML).is_file():
        what = "the worker does not see the directory of the trial"
        raise InputError(what, file=place, remedy="put --output on a disk that all workers have")
    with locked(place):
        text = (place / SPEC_TOML).read_text(encoding="utf-8")
        key = digest(text, part, dict(target), [digest_code(room) for room in ROOMS])
        kept: Figures | None = read_kept(place / f"{step}.json", key)
        if kept is not None:
            return kept
        started = time.perf_counter()
        try:
            figures = _figures(place, place if step == FULL else place / SHORT, part, Target.from_json(target))
        except InputError as error:
            figures = {"refused": str(error)}
        figures["seconds"] = round(time.perf_counter() - started, 1)
        keep(place / f"{step}.json", key, figures)
        return figures


def _figures(place: Path, into: Path, part: float, target: Target) -> Figures:
    from flow.backends.functions import Site, emit, functions, lowered_for, settled
    from flow.cost.energy import static_energy
    from flow.pipeline.models import extract_model
    from flow.pipeline.options import BuildOptions
    from flow.train.fit import train

    spec = load_spec(place / SPEC_TOML)
    train(spec, into, epochs=max(1, round(part * spec.train.epochs)), twin=False)
    if into != place:
        (into / SPEC_TOML).write_bytes((place / SPEC_TOML).read_bytes())
    graph = lowered_for(extract_model(into, BuildOptions(output=place / "runs"), target).graph, target)
    settled_target = settled(target, graph)
    with temporary() as scratch:
        write(emit(graph, settled_target), scratch / "project")
        estimate, *_ = functions(target).estimate_project(Site(scratch, graph, settled_target))
    taken = estimate.total
    assert taken.lut is not None
    interval = taken.intervals.get("lut")
    low = taken.lut if interval is None or interval.low is None else interval.low
    return {
        **validated((into / "history.csv").read_text(encoding="utf-8")),
        "luts": taken.lut,
        "luts_low": low,
        "latency": taken.latency_cycles,
        "energy": static_energy(graph).per_inference,
    }


def validated(history: str) -> Figures:
    """Return what was measured on the samples held out after the last epoch: "accuracy", "error".

    Args:
        history: the text of a training's `history.csv`.

    Raises:
        InputError: no samples were held out, or the training diverged.
    """
    last = [row for row in csv.DictReader(StringIO(history)) if row["model"] == "quantized"][-1]
    measured = {key: float(value) for key, value in last.items() if key.startswith("val_") and value}
    if not measured:
        what = "no samples are held out that trials could be compared on"
        raise InputError(what, remedy="set validation = 0.2 in [train], or in [data]")
    if not all(map(math.isfinite, measured.values())):
        raise InputError("its training diverged: what is measured is no number")
    found = {"error": measured["val_loss"]}
    accuracies = [value for key, value in measured.items() if key.endswith("accuracy")]
    return {**found, "accuracy": sum(accuracies) / len(accuracies)} if accuracies else found


def confirm(directory: str, target: Mapping[str, Any]) -> Figures:
    """Build the net of a trial, bit exact or not, and return what Yosys counts.

    Returns:
        "luts", "ff", "dsp" and "bram_18k" by Yosys, "tool", "bit_exact", "test_accuracy" on the whole test split, and
        "run", the run directory.

    Raises:
        FlowError: as `flow.pipeline.build`.
    """
    from flow.frontend.trained import load_trained
    from flow.pipeline.driver import build
    from flow.pipeline.options import BuildOptions

    place, until = Path(directory), "synth"
    with locked(place):
        report = build(place, Target.from_json(target), BuildOptions(until=until, output=place / "runs")).document
    (taken,) = (each for each in report["resources"] if each["source"] == "yosys")
    metrics = load_trained(place).metrics
    counted = {
        name: taken[of] for name, of in (("luts", "lut"), ("ff", "ff"), ("dsp", "dsp"), ("bram_18k", "bram_18k"))
    }
    return {
        **counted,
        "tool": taken["tool"],
        "bit_exact": report["verdict"]["bit_exact"],
        "test_accuracy": metrics.get("qkeras"),
        "run": report["run_dir"],
    }
