"""Static estimate of an rtl project: what its netlists need, times what a synthesizer makes of each kind.

Flip-flops, carry chains, DSP slices and memories are counted by rules; LUTs are fitted to Yosys on random modules
(benchmarks/fit_estimate.py), and how far they are off on other ones stands in every report (docs/estimates.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from flow.backends.rtl.footprint import Memory, Needs
from flow.errors import UnsupportedError
from flow.graph import Input, IntGraph
from flow.parts import find_device
from flow.results import ResourceReport, Resources
from flow.target import Target

COEFFICIENTS = Path(str(resources.files("flow.backends.rtl"))) / "estimate.json"
"""What benchmarks/fit_estimate.py wrote: LUTs per kind, and the errors."""
KINDS = (
    *("sum", "small_sum", "invert", "passed", "sum_of_1", "sum_of_2", "sum_of_3", "carry"),
    *("select", "gate", "absorbed", "compare", "compare_constant", "clamp", "clamp_one", "beyond", "any", "table"),
    *("product", "dsp", "flip_flops", "shift_registers", "stages", "control", "padding", "fifo_control"),
)
"""The kinds of `flow.backends.rtl.footprint`."""
COUNTED = ("flip_flops", "shift_registers", "carry", "dsp")
"""Kinds whose coefficient is not fitted: a shift register is one LUT, the others are none."""
SMALLEST = 30
"""Errors are stated over modules that take more than so many LUTs, or flip-flops."""


def memory_needs(memory: Memory, family: str) -> tuple[int, int, int]:
    """Return (LUTs, flip-flops, block RAMs of 18 kbit) of words that are read at once, as Yosys maps them.

    UltraScale and UltraScale+ put 14 bits x 32 or 7 x 64 into the 8 LUTs of a slice, 7 series 6 x 32 or 3 x 64 into 4
    (UG574, UG474); with one address 7 series has 64 x 1 per LUT. The two smallest are registers. A block RAM is read a cycle
    later, so Yosys adds a way around it.
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
LUT_MEMORY_BITS = {"7-series": 2048, "UltraScale": 4096, "UltraScale+": 4096}
LUT_MEMORIES = {"7-series": (6, 4), "UltraScale": (14, 8), "UltraScale+": (14, 8)}
"""Family -> bits of 32 words in the LUTs of a slice, and how many LUTs these are."""


def features(needs: Needs, family: str) -> tuple[list[int], int]:
    """Return what LUTs are fitted to, in the order of `KINDS`, and the LUTs that are counted by rules."""
    table = [0 if kind in COUNTED else needs.parts.get(kind, 0) for kind in KINDS]
    memories = sum(memory_needs(memory, family)[0] for memory in needs.memories)
    return table, needs.parts.get("shift_registers", 0) + memories


def flip_flops(needs: Needs, family: str) -> int:
    """Return the flip-flops of a module."""
    return needs.parts.get("flip_flops", 0) + sum(memory_needs(memory, family)[1] for memory in needs.memories)


def luts(needs: Needs, family: str, coefficients: Mapping[str, float]) -> int:
    """Return the LUTs of a module."""
    table, known = features(needs, family)
    return known + round(sum(coefficients.get(kind, 0.0) * value for kind, value in zip(KINDS, table, strict=True)))


def errors(
    modules: Sequence[tuple[Needs, str, int, int]], coefficients: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return how far the estimate is off, in percent.

    Args:
        modules: what each needs, its family, the LUTs and the flip-flops that Yosys counted.
    """
    pairs = {
        "lut": [(luts(needs, family, coefficients), lut) for needs, family, lut, _ in modules if lut > SMALLEST],
        "ff": [(flip_flops(needs, family), ff) for needs, family, _, ff in modules if ff > SMALLEST],
    }
    found = {}
    for name, each in pairs.items():
        off = [100 * abs(estimated / counted - 1) for estimated, counted in each]
        found[name] = {"mean": round(sum(off) / len(off), 1), "worst": round(max(off), 1), "modules": len(off)}
    return found
