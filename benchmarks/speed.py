"""Print how fast po2flow is, each figure beside what it is held against, measured in turns in one run.

    python benchmarks/speed.py [--quick]

Both sides of a row run alternately (A B A B ...), warm, on all cores; the medians are compared. Needs
`po2flow[train]`, g++, and the data sets.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from stock import MODELS, Subject, bits_kernel, load_subject, markdown_table, plain_hls4ml, stock_model

from flow.backends.hls4ml import csim
from flow.backends.hls4ml.emit import emit
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.ir.fixed import to_values
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.pipeline import BuildOptions, build
from flow.project import write
from flow.target import Target
from flow.train.freeze import keras_model
from flow.train.inference import BATCH

FEWEST_ADVERSARIAL = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measurement: what was done, both figures in their unit, their ratio, and the goal for it."""

    what: str
    ours: str
    other: str
    ratio: float
    goal: str
    met: bool

    def cells(self) -> list[str]:
        return [self.what, self.ours, self.other, f"{self.ratio:.3g}", self.goal, "yes" if self.met else "no"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is run.

    Attributes:
        rounds: turns of each side.
        build_rounds: the same for builds, which take longer.
        images: images a turn of reference and QKeras.
        csim_images: images a turn of csim.
        samples: inputs of a build.
        models: the models to build.
    """

    rounds: int
    build_rounds: int
    images: int
    csim_images: int
    samples: int
    models: tuple[str, ...]


FULL = Effort(rounds=5, build_rounds=2, images=8000, csim_images=500, samples=500, models=MODELS)
QUICK = Effort(rounds=1, build_rounds=1, images=1000, csim_images=50, samples=50, models=MODELS[:1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn, few images, builds of digits_mlp only")
    effort = QUICK if parser.parse_args().quick else FULL
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="po2flow-benchmark-") as scratch:
        for measure in (reference_to_csim, reference_to_qkeras, build_to_plain, second_to_first_build, help_time):
            for row in measure(effort, Path(scratch)):
                print(f"{row.what}: {row.ours}, {row.other}", file=sys.stderr, flush=True)
                rows.append(row)
    print(markdown_table(["what", "ours", "other", "ratio", "goal", "met"], [row.cells() for row in rows]))


def reference_to_csim(effort: Effort, scratch: Path) -> Iterator[Row]:
    """Images per second of the reference against those of C simulation, both with every layer's outputs."""
    graph, codes = _graph_and_codes("fashion_cnn", effort.images)
    project, directory = emit(graph, Target()), scratch / "project"
    write(project, directory)
    program = csim.compile_project(directory, graph.name, scratch / "csim", csim.sources_digest(project))
    ours, other = _in_turns(
        effort.rounds,
        partial(reference.run, graph, codes),
        partial(csim.run, program, directory, graph, codes[: effort.csim_images]),
    )
    yield _rates("fashion_cnn: reference / csim", len(codes) / ours, effort.csim_images / other, 100)


def reference_to_qkeras(effort: Effort, scratch: Path) -> Iterator[Row]:
    """Images per second of the reference (every layer's outputs) against those of QKeras' `predict` (the last)."""
    for name in MODELS:
        graph, codes = _graph_and_codes(name, effort.images)
        values = to_values(codes, graph.input.format).astype(np.float32)
        model = keras_model(load_subject(name, 1, 0).trained)
        ours, other = _in_turns(
            effort.rounds,
            partial(reference.run, graph, codes),
            partial(model.predict, values, batch_size=BATCH, verbose=0),
        )
        yield _rates(f"{name}: reference / QKeras predict", len(codes) / ours, len(codes) / other, 1)


def build_to_plain(effort: Effort, scratch: Path) -> Iterator[Row]:
    """A first build to its verdict against plain hls4ml on the stock model that computes the same."""
    for name in effort.models:
        subject = load_subject(name, effort.samples, FEWEST_ADVERSARIAL)
        stock = stock_model(subject, bits_kernel)
        ours, other = _in_turns(
            effort.build_rounds,
            partial(_first_build, subject, scratch),
            partial(_plain, stock, subject, scratch),
            warm=False,
        )
        what = f"{name}: build to verdict / plain hls4ml to outputs"
        yield _seconds(what, ours, other, 1.0)


def _first_build(subject: Subject, scratch: Path) -> None:
    output = Path(tempfile.mkdtemp(dir=scratch))
    options = BuildOptions(samples=len(subject.labels), adversarial=FEWEST_ADVERSARIAL, output=output)
    report = build(subject.spec.name, options=options)
    assert report.to_json()["verdict"]["bit_exact"]


def _plain(stock: Any, subject: Subject, scratch: Path) -> None:
    directory = Path(tempfile.mkdtemp(dir=scratch))
    run = plain_hls4ml(stock, subject.inputs, directory, bit_exact=None, mend_numpy=False)
    expected = stock.predict(subject.inputs, verbose=0)
    print(
        f"plain hls4ml, {subject.spec.name}: {np.count_nonzero(run.outputs != expected)} outputs differ",
        file=sys.stderr,
    )


def second_to_first_build(effort: Effort, scratch: Path) -> Iterator[Row]:
    """Whole processes: `flow build` again, nothing changed, against the first time."""
    for name in effort.models:
        output = scratch / "again"
        command = ["build", name, "--samples", str(effort.samples), "--output", str(output)]
        first, second = _in_turns(
            effort.build_rounds,
            partial(_flow_afresh, output, *command),
            partial(_flow, *command),
            warm=False,
        )
        yield _seconds(f"{name}: second build / first build", second, first, 0.1)


def help_time(effort: Effort, scratch: Path) -> Iterator[Row]:
    """Whole processes: `flow --help` against 0.3 s."""
    taken, _ = _in_turns(effort.rounds, partial(_flow, "--help"), lambda: None)
    yield _seconds("flow --help / 0.3 s", taken, 0.3, 1.0)


def _graph_and_codes(name: str, images: int) -> tuple[IntGraph, Any]:
    """Return a lowered graph and exactly `images` input codes, test inputs repeated if there are too few."""
    subject = load_subject(name, images, 0)
    graph = lower(extract(subject.trained, None))
    codes = np.ldexp(subject.inputs, graph.input.format.frac_bits).astype(np.int64)
    repeated = np.resize(codes, (images, *codes.shape[1:]))
    return graph, repeated


def _in_turns(
    rounds: int, ours: Callable[[], object], other: Callable[[], object], *, warm: bool = True
) -> tuple[float, float]:
    """Return the median seconds of each, run alternately; `warm` runs each once before."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + warm):
        for side, action in enumerate((ours, other)):
            started = time.perf_counter()
            action()
            if turn >= warm:
                taken[side].append(time.perf_counter() - started)
    return median(taken[0]), median(taken[1])


def _flow_afresh(output: Path, *arguments: str) -> None:
    shutil.rmtree(output, ignore_errors=True)
    _flow(*arguments)


def _flow(*arguments: str) -> None:
    command = [sys.executable, "-m", "flow.cli", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _rates(what: str, ours: float, other: float, goal: float) -> Row:
    ratio = ours / other
    return Row(
        what=what,
        ours=f"{ours:,.0f} images/s",
        other=f"{other:,.0f} images/s",
        ratio=ratio,
        goal=f">= {goal:g}",
        met=ratio >= goal,
    )


def _seconds(what: str, ours: float, other: float, goal: float) -> Row:
    ratio = ours / other
    return Row(
        what=what, ours=f"{ours:.3g} s", other=f"{other:.3g} s", ratio=ratio, goal=f"<= {goal:g}", met=ratio <= goal
    )


if __name__ == "__main__":
    main()
