"""How far the estimates of HLS projects are off: intervals that held nine of ten true values of designs left out.

`truth.json` holds, for each group of designs, how far the truth lay from an estimate that was not fitted to it
(benchmarks/fit_hls.py). A design without a group of its own takes the next wider one, and says which.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from flow.results import Interval, Resources

FIGURES = ("lut", "ff", "dsp", "bram_18k", "latency_cycles", "initiation_interval_cycles")
FEWEST = 5
"""Designs that a group has, at least, to say anything."""
NO_TRUTH = "no truth for this kind"
DERIVED = "derived"


@cache
def truth() -> Mapping[str, Any]:
    """Return source, group, figure -> `low`, `high` as shares of the estimate, `zero` where that is 0, `designs`."""
    measured: Mapping[str, Any] = json.loads((resources.files("flow.cost.hls") / "truth.json").read_text())
    return measured


def groups_of(io_type: str, strategy: str, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the groups of a design of ops of some kinds, the nearest first."""
    yield f"{io_type} {strategy}, {kinds[0] if len(kinds) == 1 else 'several ops'}"
    yield f"{io_type} {strategy}"
    yield strategy
    yield "any design"


def group_of_op(io_type: str, kind: str) -> str:
    """Return the group of single ops of a kind."""
    return f"op of {io_type}: {kind}"


def with_intervals(
    counted: Resources, source: str, groups: Sequence[str], derived: str = "", unknown_latency: bool = False
) -> Resources:
    """Return figures with where the truth lies.

    Args:
        counted: the figures.
        source: whose figures they foretell: "csynth" or "vivado".
        groups: to look for, the nearest first.
        derived: what of the design no truth is known of, in words; empty for nothing.
        unknown_latency: whether no report has such a latency.
    """
    stated = {name: _interval(counted, name, source, groups, derived) for name in FIGURES}
    if unknown_latency:
        stated["latency_cycles"] = Interval(low=None, high=None, basis=NO_TRUTH)
    return replace(counted, intervals=stated)


def _interval(counted: Resources, name: str, source: str, groups: Sequence[str], derived: str) -> Interval:
    estimate = getattr(counted, name)
    # Vivado changes no cycles
    known = truth().get("csynth" if name.endswith("_cycles") else source, {})
    for group in groups:
        measured = known.get(group, {}).get(name)
        if measured is None or measured["designs"] < FEWEST:
            continue
        low, high = round(estimate * measured["low"]), round(estimate * measured["high"])
        if estimate == 0:
            low, high = 0, math.ceil(measured["zero"])
        share = math.ceil(100 * max(1 - measured["low"], measured["high"] - 1))
        basis = f"within {share} % for 9 of 10 such designs ({group}); {measured['designs']} designs"
        return Interval(
            low=min(low, estimate), high=max(high, estimate), basis=basis + derived, designs=measured["designs"]
        )
    return Interval(low=None, high=None, basis=NO_TRUTH + derived)
