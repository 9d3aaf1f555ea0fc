"""Print what large models and many inputs cost a build: peak memory and seconds, and how both grow with the size.

    python benchmarks/large.py [--quick] [--only image]

Each case is `flow build` of a QKeras model with random weights, images as streams, every level run and compared, in a
process of its own.
Neither that nor any that it starts may have more than 4 GB. Seconds are those of the processor, of all of them; memory
is that of the largest. Within a family one size grows: the last columns say how many times larger it is than in the row
before, and how many times more seconds and memory that took. Needs `po2flow[train]` and g++.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stock import markdown_table

LIMIT_BYTES = 4 << 30
FEWEST = 16
"""Adversarial inputs of a case where it is not they that grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A build.

    Attributes:
        family: cases of which one size grows.
        what: the model and its inputs, in words.
        size: what grows.
        shape: of an input.
        layers: convolutions (filters, stride) or, of a flat input, units of dense layers.
        samples, adversarial: inputs.
    """

    family: str
    what: str
    size: int
    shape: tuple[int, ...]
    layers: tuple[tuple[int, int], ...]
    samples: int = FEWEST
    adversarial: int = FEWEST


def image(side: int, adversarial: int = FEWEST) -> Case:
    """Return an image through a small convolutional net."""
    layers = ((8, 2), (8, 2), (16, 2), (16, 2))
    what = f"{side}x{side}x3 image, 4 convolutions"
    return Case(family="image", what=what, size=side * side * 3, shape=(side, side, 3), layers=layers)


def deep(depth: int) -> Case:
    """Return a net of so many convolutions."""
    what = f"{depth} convolutions of a 16x16x8 image"
    return Case(family="depth", what=what, size=depth, shape=(16, 16, 8), layers=((8, 1),) * depth)


def wide(units: int) -> Case:
    """Return a dense net."""
    what, size = f"784-{units}-{units}-10 dense", (784 + units + 10) * units
    return Case(family="width", what=what, size=size, shape=(784,), layers=((units, 1), (units, 1), (10, 1)))


def many(samples: int) -> Case:
    """Return a small dense net for many inputs."""
    what = f"{samples:,} inputs of 784-32-10 dense"
    layers = ((32, 1), (10, 1))
    return Case(family="inputs", what=what, size=samples, shape=(784,), layers=layers, samples=samples)


def steered(count: int) -> Case:
    """Return an image with so many adversarial inputs."""
    what = f"96x96x3 image, {count:,} adversarial inputs"
    layers = ((8, 2), (8, 2), (16, 2), (16, 2))
    return Case(family="adversarial", what=what, size=count, shape=(96, 96, 3), layers=layers, adversarial=count)


FULL = (
    *(image(side) for side in (32, 64, 96, 128, 224)),
    *(deep(depth) for depth in (15, 30, 60)),
    *(wide(units) for units in (256, 512, 1024)),
    *(many(samples) for samples in (1_000, 10_000, 100_000)),
    *(steered(count) for count in (64, 256, 1024)),
)
QUICK = (
    image(32),
    image(64),
    deep(4),
    deep(8),
    wide(64),
    wide(128),
    many(1_000),
    many(4_000),
    steered(16),
    steered(64),
)


def model_of(case: Case) -> Any:
    """Return a QKeras model with random weights."""
    from flow.train import load_tensorflow

    modules = load_tensorflow()
    keras, qkeras = modules.keras, modules.qkeras
    keras.utils.set_random_seed(0)
    model = keras.Sequential(name=f"{case.family}_{case.size}")
    model.add(keras.Input(case.shape))
    for number, (units, stride) in enumerate(case.layers):
        kernel = {"kernel_quantizer": "quantized_po2(4,1)", "bias_quantizer": "quantized_bits(6,1)"}
        if len(case.shape) == 1:
            model.add(qkeras.QDense(units, name=f"dense_{number}", **kernel))
        else:
            model.add(qkeras.QConv2D(units, 3, strides=stride, padding="same", name=f"conv_{number}", **kernel))
        if number < len(case.layers) - 1:
            model.add(qkeras.QActivation("quantized_relu(6,2)", name=f"relu_{number}"))
    return model


def build_case(case: Case, directory: Path) -> dict[str, Any]:
    """Build a case and return what it took."""
    model_of(case).save(directory / "model.h5")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (case.samples, *case.shape), dtype=np.uint8)
    np.save(directory / "x.npy", codes.astype(np.float32) / 256)
    from flow.pipeline import BuildOptions, build
    from flow.target import Target

    options = BuildOptions(
        inputs=directory / "x.npy", output=directory / "runs", samples=case.samples, adversarial=case.adversarial
    )
    target = Target(io_type="io_stream" if len(case.shape) > 1 else "io_parallel")
    report = build(directory / "model.h5", target, options)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": sum(each.ru_utime + each.ru_stime for each in used),
        "stages": report.document["timings_s"],
        "peak_bytes": max(each.ru_maxrss for each in used) * 1024,
        "bit_exact": report.document["verdict"]["bit_exact"],
    }


def measured(number: int, quick: bool) -> dict[str, Any]:
    """Return what a case took, or what it said when it failed, from a process of its own."""
    command = [sys.executable, __file__, "--case", str(number), *(["--quick"] if quick else [])]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def row(case: Case, found: dict[str, Any], before: tuple[Case, dict[str, Any]] | None) -> list[str]:
    """Return the cells of a case; `before` is the case of its family that is next smaller."""
    if "failed" in found:
        return [case.what, "fails", found["failed"], "", "", "", ""]
    slowest = sorted(found["stages"].items(), key=lambda item: -item[1])[:3]
    cells = [
        case.what,
        "yes" if found["bit_exact"] else "NO",
        f"{found['seconds']:.1f}",
        f"{found['peak_bytes'] / 2**30:.2f}",
        ", ".join(f"{name} {seconds:.1f}" for name, seconds in slowest),
    ]
    if before is None or "failed" in before[1]:
        return [*cells, "", ""]
    growth = (f"{found[key] / before[1][key]:.1f}" for key in ("seconds", "peak_bytes"))
    return [*cells, f"{case.size / before[0].size:.1f}", " / ".join(growth)]


HEADER = ["model", "exact", "CPU s", "peak, GB", "slowest stages, s", "size, times", "s / GB, times"]


def main() -> None:
    """Run the cases, each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, a few minutes")
    parser.add_argument("--only", choices=sorted({case.family for case in FULL}), help="one family")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    cases = QUICK if asked.quick else FULL
    if asked.case is not None:
        with tempfile.TemporaryDirectory(prefix="po2flow-large-") as scratch:
            print(json.dumps(build_case(cases[asked.case], Path(scratch))))
        return
    rows, before = [], dict[str, tuple[Case, dict[str, Any]]]()
    for number, case in enumerate(cases):
        if asked.only in (None, case.family):
            found = measured(number, asked.quick)
            rows.append(row(case, found, before.get(case.family)))
            before[case.family] = case, found
            print(" | ".join(rows[-1]), file=sys.stderr)
    print(markdown_table(HEADER, rows))


if __name__ == "__main__":
    main()
