"""Calibration: factors that a user's own vendor reports put on our estimates.

`flow calibrate` pairs the estimates of runs with what the vendor's tools said of the same ops, and keeps the median of
true over estimated per group and count in `calibration.json` beside the runs. A build into the same directory
multiplies its estimates of that group, and its report names the file. A group is an estimate's source, what measured
it, and the settings that decide how the tools build: back end, io_type and strategy.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flow.errors import InputError, SpecError, counted
from flow.files import writing
from flow.ir.names import VHDL, identifier
from flow.json_text import json_text
from flow.results import Interval, ResourceReport, Resources

FILE = "calibration.json"
COUNTS = ("lut", "ff", "dsp", "bram_18k")
MEASURED = {"static_csynth": ("csynth",), "static": ("vivado", "yosys")}
"""Source of an estimate -> the sources that measure the same, the one that counts more first."""
SURE = 10
"""So many pairs say where nine of ten counts lie; fewer, only where all of them lay."""
FEWEST = 5
"""Of fewer nets, told apart by name, the ends say little of another: those of the estimate stay, scaled."""
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An estimate and what was measured: `name` is an op's, or "total"; counts are None where one does not say."""

    name: str
    estimated: Mapping[str, int | None]
    measured: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """An estimate of a report beside a measurement of the same design.

    Attributes:
        estimate, measured: entries of `resources`.
        pairs: ops that both name, then the total.
        unmatched: modules of the measurement that are no op's.
    """

    estimate: Document
    measured: Document
    pairs: tuple[Pair, ...]
    unmatched: tuple[str, ...]


def beside(document: Document) -> list[Beside]:
    """Return each estimate of a report beside the measurement of the same, where there is one."""
    entries = {entry["source"]: entry for entry in document["resources"]}
    found, layers = [], document.get("layers", ())
    configurations = {layer["name"]: layer["configuration"] for layer in layers if "configuration" in layer}
    for source, sources in MEASURED.items():
        measured = next((entries[name] for name in sources if name in entries), None)
        if source in entries and measured is not None:
            found.append(_beside(document["model"], configurations, entries[source], measured))
    return found


def _beside(model: str, configurations: Mapping[str, str], estimate: Document, measured: Document) -> Beside:
    modules = {layer["name"]: layer for layer in measured["layers"]}
    pairs, matched = [], set[str]()
    for op in estimate["layers"]:
        names = {op["name"], f"{model}_{op['name']}", f"{op['name']}_inst"} & modules.keys()
        number = _number(configurations.get(op["name"], ""))
        names = names or {name for name in modules if number is not None and _number(name) == number}
        if names:
            matched |= names
            pairs.append(_pair(op["name"], op, *(modules[name] for name in names)))
    pairs.append(_pair("total", estimate, measured))
    return Beside(estimate=estimate, measured=measured, pairs=tuple(pairs), unmatched=tuple(modules.keys() - matched))


def _number(name: str) -> str | None:
    """Return the number of a configuration, which HLS keeps in the names of what it makes of a kernel.

    An example: `grp_dense_latency_ap_fixed_ap_fixed_config11_0_0_0_fu_233`. HLS cuts names that are long, and with them
    the number.
    """
    found = re.search(r"config(\d+)", name)
    return None if found is None else found[1]


def _pair(name: str, estimate: Document, *measured: Document) -> Pair:
    """Pair an estimate with the modules that are the same together."""
    estimated = {key: estimate.get(key) for key in COUNTS}
    return Pair(name=name, estimated=estimated, measured={key: _sum(key, measured) for key in COUNTS})


def _sum(key: str, modules: Sequence[Document]) -> int | None:
    counts: list[int | None] = [module.get(key) for module in modules]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def group_of(project: Document, source: str, measured: str) -> str:
    """Return the group of an estimate: its source, what measures it, and the settings that decide how it is built."""
    return " ".join((source, "by", measured, project["backend"], project["io_type"], project["strategy"]))


def other_design(document: Document, entry: Document) -> str:
    """Say of an entry of `resources` that its top is not the run's, nor the `_fixed` one around it; else nothing."""
    top, model = entry.get("top"), identifier(document["model"], VHDL)
    is_other = top is not None and top not in (model, f"{model}_fixed")
    return f"{entry['source']} ({entry['tool']}) is of top {top}, the run of {model}" if is_other else ""


def of_own_design(documents: Sequence[Document]) -> tuple[list[Document], list[str]]:
    """Return the reports whose vendors' figures are of the run's own design, and of each other one why it is left out.

    Raises:
        InputError: none is left.
    """
    kept, left_out = list[Document](), list[str]()
    for document in documents:
        said = next(filter(None, (other_design(document, entry) for entry in document["resources"])), "")
        if said:
            left_out.append(f"{document['run_dir']}: {said}")
        else:
            kept.append(document)
    if left_out and not kept:
        remedy = "hand the run's own report to `flow report RUN --vendor FILE`"
        raise InputError(f"no run has figures of its own design: {'; '.join(left_out)}", remedy=remedy)
    return kept, left_out


def learn(documents: Sequence[Document]) -> dict[str, Any]:
    """Return what `calibration.json` holds, learned from reports that have vendors' figures.

    Raises:
        InputError: none has an estimate and a measurement of the same.
    """
    groups: dict[str, dict[str, Any]] = {}
    for document in documents:
        for found in beside(document):
            group = group_of(document["project"], found.estimate["source"], found.measured["source"])
            entry = groups.setdefault(
                group, {"runs": [], "tools": [], "ratios": {key: [] for key in COUNTS}, "designs": {}}
            )
            entry["runs"].append(document["run_dir"])
            entry["tools"] = sorted({*entry["tools"], found.measured["tool"]})
            for key, ratio in _ratios(found):
                entry["ratios"][key].append(ratio)
                entry["designs"].setdefault(key, set()).add(document["model"])
    if not groups:
        wanted = " or ".join(f"'{source}' and {' or '.join(by)}" for source, by in MEASURED.items())
        raise InputError(
            f"no run has figures of a vendor's tool beside an estimate of the same: {wanted}",
            remedy="run the tool (`--until csynth`, `vivado`), or hand its reports to `flow report RUN --vendor FILE`",
        )
    for entry in groups.values():
        ratios, designs = entry.pop("ratios"), entry.pop("designs")
        entry["factors"] = {
            key: {**_factor(values), "designs": len(designs[key])} for key, values in ratios.items() if values
        }
    return {"schema": 1, "groups": groups}


def _ratios(found: Beside) -> Iterator[tuple[str, float]]:
    """Yield true over estimated of each op; of the total only if no op is named by both. Earlier factors are undone."""
    factors = (found.estimate.get("calibration") or {}).get("factors", {})
    for pair in found.pairs[:-1] or found.pairs:
        for key in COUNTS:
            estimated, true = pair.estimated[key], pair.measured[key]
            if estimated and true:
                yield key, true / estimated * factors.get(key, 1.0)


def _factor(ratios: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(ratios)
    cut = len(ordered) // 20 if len(ordered) >= SURE else 0
    said = {"factor": statistics.median(ordered), "low": ordered[cut], "high": ordered[len(ordered) - 1 - cut]}
    return {**{name: round(value, 4) for name, value in said.items()}, "pairs": len(ordered)}


def write(path: Path, data: Document) -> None:
    """Write a calibration.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path) as file:
        file.write((json_text(data) + "\n").encode())


def read(path: Path) -> dict[str, Any] | None:
    """Return the groups of a calibration; None if there is no such file.

    Raises:
        SpecError: it is no calibration.
    """
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        for entry in data["groups"].values():
            for factor in entry["factors"].values():
                given = [*(factor[key] for key in ("factor", "low", "high", "pairs")), factor.get("designs", 1)]
                if not all(math.isfinite(value) and value > 0 for value in given):
                    raise ValueError("a factor is not positive")
        groups: dict[str, Any] = data["groups"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpecError(
            f"this is no calibration ({error!r})", file=path, remedy="write it with `flow calibrate`, or remove it"
        ) from error
    return groups


def calibrated(report: ResourceReport, project: Document, path: Path) -> ResourceReport:
    """Return an estimate with the factors of its group in a calibration; itself if that has none.

    Args:
        project: "backend", "io_type" and "strategy" of the run.
        path: of the calibration, which need not be there.

    Raises:
        SpecError: the file is no calibration.
    """
    groups = read(path) or {}
    names = [group_of(project, report.source, measured) for measured in MEASURED.get(report.source, ())]
    name = next((name for name in names if name in groups), None)
    if name is None:
        return report
    entry = groups[name]
    factors = entry["factors"]

    def scaled(counted_of: Resources) -> Resources:
        counts = {key: getattr(counted_of, key) for key in factors if getattr(counted_of, key) is not None}
        values = {key: round(count * factors[key]["factor"]) for key, count in counts.items()}
        own = counted_of.intervals
        intervals = {key: _interval(count, factors[key], entry, path, own.get(key)) for key, count in counts.items()}
        return replace(counted_of, **values, intervals={**own, **intervals})

    return replace(
        report,
        total=scaled(report.total),
        layers=tuple(map(scaled, report.layers)),
        error={},  # which is that of the figures before
        calibration={
            "file": str(path),
            "group": name,
            "runs": len(entry["runs"]),
            "factors": {key: factor["factor"] for key, factor in factors.items()},
        },
    )


def _interval(count: int, factor: Document, entry: Document, path: Path, own: Interval | None) -> Interval:
    """Return where a count lies that a factor scaled.

    Args:
        count: before.
        own: where it lay before; None if nothing said so.
    """
    designs = factor.get("designs", len(entry["runs"]))
    times, nets = f"times {factor['factor']:g} by {path}", counted(designs, "design")
    if designs < FEWEST:
        times += f", of {nets} alone"
        if own is None or own.low is None or own.high is None:
            said = own.basis if own is not None else "nothing says how far it is off"
            return Interval(low=None, high=None, basis=f"{said}; {times}")
        low, high = (factor["factor"] * end for end in (own.low, own.high))
        return Interval(low=math.floor(low), high=math.ceil(high), basis=f"{own.basis}; {times}", designs=own.designs)
    which, pairs = "9 of 10" if factor["pairs"] >= SURE else "all", counted(factor["pairs"], "count")
    basis = f"{times}: {which} of {pairs} in {nets} by {', '.join(entry['tools'])}"
    low, high = (factor[end] * count for end in ("low", "high"))
    return Interval(low=math.floor(low), high=math.ceil(high), basis=basis, designs=designs)
