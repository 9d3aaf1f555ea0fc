"""Static estimate of an rtl project: what its netlists need, and what a synthesizer makes of memories and control.

Logic is mapped to look-up tables (`netlists.footprint`), memories are counted by rules, the control
of streams is fitted to Yosys on random modules (benchmarks/fit_estimate.py). How far the figures are off on other
modules stands in every report (docs/estimates.md).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from flow.backends.rtl.netlists.needs import Memory, Needs
from flow.backends.rtl.verilog.emit import count_needs
from flow.errors import SpecError, UnsupportedError
from flow.ir.graph import IntGraph
from flow.parts import find_device
from flow.results import Interval, ResourceReport, Resources
from flow.target import Target

COEFFICIENTS = Path(str(resources.files("flow.backends.rtl.synthesis"))) / "estimate.json"
"""What benchmarks/fit_estimate.py wrote: LUTs per kind, and the errors."""
LUTS = {
    **dict.fromkeys(("lut", "shift_registers"), 1),
    **dict.fromkeys(("carry", "dsp", "flip_flops"), 0),
    "fifo_control": 6,  # of 17 FIFOs of 2 to 512 words, 8 to 53 LUTs beside the words, one off by more than a third
}
"""Kinds of `backends.rtl.netlists.needs` whose LUTs are known."""
FITTED = ("stages", "control", "padding")
"""Those whose LUTs are fitted: the control of streams."""
SMALLEST = 30
"""Errors are stated over modules that take more than so many LUTs, or flip-flops."""


def memory_needs(memory: Memory, family: str) -> tuple[int, int, int]:
    """Return (LUTs, flip-flops, block RAMs of 18 kbit) of words that are read at once, as Yosys maps them.

    UltraScale and UltraScale+ put 14 bits x 32 or 7 x 64 into the 8 LUTs of a slice, 7 series 6 x 32 or 3 x 64 into 4
    (UG574, UG474); with one address it has 64 x 1 per LUT. The smallest are registers. A block RAM is read a
    cycle later, so Yosys adds a way around it.
    """
    width, depth, bits = memory.width, memory.depth, memory.width * memory.depth
    address = max(1, (depth - 1).bit_length()) * (memory.ports - 1)
    if bits <= SMALLEST_MEMORY_BITS or (depth == 2 and bits <= SMALLEST_PAIR_BITS):
        return width * (depth - 1), bits + address, 0
    if depth > 64 and bits > LUT_MEMORY_BITS[family]:
        per_block = 36 * 512 // max(512, 1 << (depth - 1).bit_length())
        return width, width + 1, math.ceil(width / max(per_block, 1))
    if memory.ports == 1 and depth > 32:
        return width * math.ceil(depth / 64), 0, 0
    wide, slice_luts = LUT_MEMORIES[family]
    bits_each = wide if depth <= 32 else wide // 2
    banks = math.ceil(depth / 64)
    return slice_luts * banks * math.ceil(width / bits_each) + width * (banks > 1), address, 0


SMALLEST_MEMORY_BITS = 8
SMALLEST_PAIR_BITS = 24
"""Memories of so few bits are registers; of two words."""
LUT_MEMORY_BITS: Mapping[str, int] = {"7-series": 2048, "UltraScale": 4096, "UltraScale+": 4096}
"""Memories of more bits, and more than 64 words, become block RAMs; seen in what Yosys makes of both."""
LUT_MEMORIES: Mapping[str, tuple[int, int]] = {"7-series": (6, 4), "UltraScale": (14, 8), "UltraScale+": (14, 8)}
"""Family -> bits of 32 words in the LUTs of a slice, and how many LUTs these are."""


def features(needs: Needs, family: str) -> tuple[list[int], int]:
    """Return how much there is of each kind in `FITTED`, and the LUTs of all that is known."""
    known = sum(LUTS[kind] * count for kind, count in needs.parts.items() if kind in LUTS)
    memories = sum(memory_needs(memory, family)[0] for memory in needs.memories)
    return [needs.parts.get(kind, 0) for kind in FITTED], known + memories


def flip_flops(needs: Needs, family: str) -> int:
    """Return the flip-flops of a module."""
    return needs.parts.get("flip_flops", 0) + sum(memory_needs(memory, family)[1] for memory in needs.memories)


def luts(needs: Needs, family: str, coefficients: Mapping[str, float]) -> int:
    """Return the LUTs of a module."""
    counts, known = features(needs, family)
    return known + round(sum(coefficients[kind] * count for kind, count in zip(FITTED, counts, strict=True)))


def errors(
    modules: Sequence[tuple[Needs, str, int, int]], coefficients: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return how far the estimate is off, see `relative_errors`.

    Args:
        modules: what each needs, its family, the LUTs and the flip-flops that Yosys counted.
        coefficients: LUTs per kind.
    """
    return {name: relative_errors(counts) for name, counts in _pairs(modules, coefficients).items()}


def ratios(modules: Sequence[tuple[Needs, str, int, int]], coefficients: Mapping[str, float]) -> dict[str, list[float]]:
    """Return between which multiples of an estimate nine of ten true counts lie: "lut", "ff" -> [low, high]."""
    return {
        name: [
            round(float(end), 3) for end in np.quantile([true / max(ours, 1) for ours, true in counts], (0.05, 0.95))
        ]
        for name, counts in _pairs(modules, coefficients).items()
    }


def _pairs(
    modules: Sequence[tuple[Needs, str, int, int]], coefficients: Mapping[str, float]
) -> dict[str, list[tuple[int, int]]]:
    """Return what was estimated and counted of the modules that are large enough: "lut", "ff" -> pairs."""
    return {
        "lut": [(luts(needs, family, coefficients), lut) for needs, family, lut, _ in modules if lut > SMALLEST],
        "ff": [(flip_flops(needs, family), ff) for needs, family, _, ff in modules if ff > SMALLEST],
    }


def relative_errors(pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return how far estimates are off: of (estimated, counted), both positive.

    Returns:
        mean, 95th of a hundred and worst relative error, in percent; the median of estimated over counted; how many.
    """
    off = sorted(100 * abs(estimated / counted - 1) for estimated, counted in pairs)
    figures = {"mean": sum(off) / len(off), "p95": off[math.ceil(0.95 * len(off)) - 1], "worst": off[-1]}
    ratio = statistics.median(estimated / counted for estimated, counted in pairs)
    rounded = {key: round(value, 1) for key, value in figures.items()}
    return {**rounded, "median_ratio": round(ratio, 2), "modules": len(off)}


@cache
def fitted() -> Mapping[str, Any]:
    """Return what benchmarks/fit_estimate.py wrote: `lut`, LUTs per kind, and `error`, see `errors`."""
    coefficients: Mapping[str, Any] = json.loads(COEFFICIENTS.read_text())
    return coefficients


def estimate_rtl(graph: IntGraph, target: Target, design: bytes) -> ResourceReport:
    """Return the static estimate of an emitted project, per op and in all.

    Args:
        graph: what was emitted.
        target: for which part and clock.
        design: `design.json` of the project, which says its cycles and its longest paths.

    Returns:
        Source "static". The total has the FIFOs and delays between ops besides. The cycles of an op are those that it
        takes by itself.

    Raises:
        UnsupportedError: the part is not known, or the estimate does not know its family.
    """
    try:
        part = find_device(target.part)
    except SpecError as error:
        raise UnsupportedError(error.what, remedy=error.remedy) from error
    if part.family not in LUT_MEMORIES:
        raise UnsupportedError(
            f"there is no static estimate for family {part.family!r}, only for {', '.join(LUT_MEMORIES)}",
            remedy="`flow build --until synth` counts",
        )
    told = json.loads(design)
    needs, of_top = count_needs(graph, target)
    total = sum(needs.values(), of_top)
    cycles = told.get("op_timing", {})  # runs of earlier versions have none

    def resources(name: str, of_module: Needs, timing: Sequence[int | None]) -> Resources:
        latency, interval = timing
        counted = _resources(name, of_module, part.family)
        return replace(counted, latency_cycles=latency, initiation_interval_cycles=interval)

    ops = [op.name for op in graph.ops if op.name in needs]
    path = critical_path(told)
    return ResourceReport(
        source="static",
        tool="flow static model of rtl projects, see docs/estimates.md",
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        estimated_clock_period_ns=path["delay_ns"] if path else None,
        total=resources(graph.name, total, told["timing"]),
        layers=tuple(resources(name, needs[name], cycles.get(name, (None, None))) for name in ops),
        capacity=part.capacity(),
        predicts="yosys",
        critical_path=path,
        error=fitted()["error"],
    )


def critical_path(design: Mapping[str, Any]) -> dict[str, Any]:
    """Return the longest path from register to register of a design as it was planned; empty if it does not say."""
    paths = design.get("paths", {})  # runs of earlier versions have none
    if not paths:
        return {}
    op, (delay, nodes) = max(paths.items(), key=lambda item: item[1][0])
    return {"op": op, "nodes": nodes, "delay_ns": delay}


def _resources(name: str, needs: Needs, family: str) -> Resources:
    counts = {"lut": luts(needs, family, fitted()["lut"]), "ff": flip_flops(needs, family)}
    return Resources(
        name=name,
        **counts,
        dsp=needs.parts.get("dsp", 0),
        bram_18k=sum(memory_needs(memory, family)[2] for memory in needs.memories),
        uram=0,
        detail={"carry": needs.parts.get("carry", 0)},
        intervals={key: _interval(key, count) for key, count in counts.items()},
    )


def _interval(key: str, count: int) -> Interval:
    """Return where nine of ten true counts of modules lie that were estimated so."""
    low, high = fitted()["interval"][key]
    designs = fitted()["error"][key]["modules"]
    within = max(1 - low, high - 1)
    basis = f"within {100 * within:.0f} % for 9 of 10 modules that nothing was fitted to; {designs} modules"
    return Interval(low=math.floor(low * count), high=math.ceil(high * count), basis=basis, designs=designs)
