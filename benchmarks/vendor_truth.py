"""Hold the estimates of HLS projects against what vendors' tools reported for projects of other people.

    python benchmarks/vendor_truth.py TABLE.csv [--layers CSV] [--out CSV] [--by COLUMN] [--where COLUMN=VALUE]

A row of the table is a project: its settings, what C synthesis reported (`csynth_*`), what Vivado's synthesis made of
it (`synth_*`), and `design`, a file beside the table from which the graph is built (`vendor_designs.py`). Nothing is
compiled. C synthesis is held against the estimate that foretells it, Vivado against the other one. Errors are printed
by group; --out writes every pair, --layers those of single ops.

The hardware has no final softmax. What C synthesis reports for that module (`softmax_*`) is taken off its totals;
totals of Vivado stay whole, so the share that Vivado leaves of it is added to the estimate.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vendor_designs import lowered

from flow.backends.base import find_backend
from flow.cost.hls.estimates import VIVADO_SHARES, Numbers, estimate, estimate_csynth
from flow.cost.hls.settings import Hls, tool_of
from flow.ir import ops
from flow.ir.graph import IntGraph, MatMul
from flow.results import ResourceReport
from flow.target import Target

OTHER_PART = {"xc7z007s": "xc7z010", "xc7a200tl": "xc7a200t"}
"""Parts that we do not know, and one of the same family that we know."""
COUNTS = ("lut", "ff", "dsp", "bram18", "latency", "ii")
FIELDS = dict(
    zip(COUNTS, ("lut", "ff", "dsp", "bram_18k", "latency_cycles", "initiation_interval_cycles"), strict=True)
)
LEVELS = ("csynth", "synth", "synth+axi", "routed")
"""synth+axi: Vivado's synthesis of the project as an IP core, hls4ml's AXI wrapper included."""
AXI = {"lut": 1200, "ff": 6800}
"""Of the AXI wrapper that hls4ml's VivadoAccelerator puts around a design, which is none of ours: medians of four."""
FLOORS = {"lut": 30, "ff": 30}
"""Errors are relative where the truth is at least this, or 1."""

Row = Mapping[str, str]


def main() -> None:
    arguments = parser().parse_args()
    began = time.time()
    rows = [row for row in read(arguments.table) if all(row.get(key) == value for key, value in arguments.where)]
    known = {row["id"]: row for row in rows if row.get("design")}
    estimates, failed = {}, []
    for name, row in known.items():
        try:
            estimates[name] = estimated(design_of(arguments.table, row["design"]), row)
        except Exception as error:  # one design that cannot be estimated must not hide the others
            failed.append(f"FAILED {name} {type(error).__name__}: {str(error)[:150]}")
    entries = [entry for name, made in estimates.items() for entry in compared(known[name], *made, arguments.by)]
    if arguments.out and entries:
        write(arguments.out, entries)
    print_table(entries)
    print_inside(entries)
    print(*failed, sep="\n", end="\n" if failed else "")
    if arguments.layers:
        print_layers(arguments.layers, estimates)
    print(f"{len(entries)} pairs of {len(rows)} rows, {len(failed)} failed, {time.time() - began:.0f} s")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""

    def condition(text: str) -> tuple[str, str]:
        column, equals, value = text.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE")
        return column, value

    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("table", type=Path)
    found.add_argument("--layers", type=Path, help="C synthesis by module: errors of single ops")
    found.add_argument("--out", type=Path, help="write every pair of estimate and truth")
    found.add_argument("--by", default="group", metavar="COLUMN", help="group errors by this column")
    found.add_argument("--where", action="append", default=[], type=condition, metavar="COLUMN=VALUE")
    return found


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf8", newline="") as file:
        table = csv.DictWriter(file, list(entries[0]))
        table.writeheader()
        table.writerows(entries)


def design_of(table: Path, named: str) -> Path:
    """Return the file of a design: where the table says, or of that name in any `designs*` beside the table."""
    beside = sorted(table.parent.glob(f"designs*/{Path(named).name}"))
    candidates = [table.parent / named, *beside]
    return next((path for path in candidates if path.is_file()), candidates[0])


# -- estimates


def target_of(design: Mapping[str, Any], graph: IntGraph, row: Row) -> Target:
    """Return the target of a project: what the row says, else the design."""
    layers = [layer for layer in design["layers"] if layer["kind"] in ("dense", "conv")]
    own = {layer["name"]: int(row["reuse"]) if row["reuse"].isdigit() else layer["reuse"] for layer in layers}
    strategy = row["strategy"]
    if strategy not in ("Latency", "Resource"):
        strategy = "Resource" if any(layer["strategy"] == "Resource" for layer in layers) else "Latency"
    matmuls = (op for op in graph.ops if isinstance(op, MatMul))
    reuse = {op.name: own[layer] for op in matmuls for layer in op.layers if layer in own}
    part = row["part"] or design["part"]
    other = next((other for device, other in OTHER_PART.items() if part.lower().startswith(device)), part)
    return Target(
        backend=target_backend(design),
        io_type=row["io_type"] or design["io_type"],
        strategy=strategy,
        reuse_factor=max(reuse.values(), default=1),
        reuse_factors=tuple(reuse.items()),
        part=other,
        clock_period_ns=float(row["clock_ns"] or design["clock_ns"]),
    )


def settings_of(design: Mapping[str, Any], graph: IntGraph, row: Row) -> Hls:
    """Return what a project was compiled with, as far as the row says; its kernels and FIFOs are hls4ml's."""
    tool, version = tool_of(row["tool"], find_backend(target_backend(design)).hls)
    forced = [way for way in ("dsp", "fabric") if f"mul -impl {way}" in row["note"]]
    layers = {layer["name"]: layer for layer in design["layers"]}
    matmuls = {op.name: [layers[name] for name in op.layers] for op in graph.ops if isinstance(op, MatMul)}
    modes = {op: own[0].get("accum", [])[3:5] for op, own in matmuls.items()}
    partitions = {
        op.name: matmuls[op.name][0].get("n_partitions") or math.prod(op.shape[:-1])
        for op in graph.ops
        if isinstance(op, ops.Conv)
    }
    return Hls(
        tool=tool,
        version=version,
        multipliers=forced[0] if forced else "auto",
        clock_uncertainty_ns=number(row["uncertainty_ns"]),
        stock=True,
        saturating=frozenset(op for op, mode in modes.items() if mode not in ([], ["AP_TRN", "AP_WRAP"])),
        # hls4ml of the time of earlier tools unrolls the loop over positions
        partitions=tuple((op, 1 if version < "2020.1" else count) for op, count in partitions.items()),
    )


def target_backend(design: Mapping[str, Any]) -> str:
    """Return the back end that writes projects of a design's kind."""
    return "Vitis" if design["backend"].startswith("Vitis") else "Vivado"


def estimated(path: Path, row: Row, fitted: Numbers | None = None) -> tuple[IntGraph, Mapping[str, ResourceReport]]:
    """Return the graph of a design and level -> the estimate that foretells it; `fitted` as `estimate` takes it."""
    design, graph = lowered(path)
    given = graph, target_of(design, graph, row), settings_of(design, graph, row), fitted
    return graph, {"csynth": estimate_csynth(*given), **dict.fromkeys(LEVELS[1:], estimate(*given))}


# -- pairs


def number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def truth(row: Row, level: str) -> dict[str, float]:
    """Return what a tool reported, without a final softmax where that is known."""
    found = {}
    for count in COUNTS:
        value = number(row.get(f"{level}_{count}"))
        if value is None:
            continue
        if level == "csynth" and (count != "latency" or row["io_type"] == "io_parallel"):
            value -= number(row.get(f"softmax_{count}")) or 0
        found[count] = max(value, 0.0)
    return found


def around(row: Row, level: str, count: str) -> int:
    """Return what Vivado counts that our estimate has not: the share it leaves of a final softmax, the AXI wrapper."""
    if level == "csynth" or count in ("latency", "ii"):
        return 0
    share = dict(zip(("lut", "ff"), VIVADO_SHARES["constant weights"], strict=True)).get(count, 1.0)
    wrapper = AXI.get(count, 0) if level == "synth+axi" else 0
    return wrapper + round(share * (number(row.get(f"softmax_{count}")) or 0))


def compared(row: Row, graph: IntGraph, reports: Mapping[str, ResourceReport], by: str) -> Iterator[dict[str, Any]]:
    """Yield an entry per level that a row knows: estimates, truths and their ratios."""
    for level in LEVELS:
        tool = level.partition("+")[0]
        if tool == "synth" and (level == "synth+axi") != ("AXI wrapper" in row["note"]):
            continue
        true, total = truth(row, tool), reports[level].total
        if not true:
            continue
        entry: dict[str, Any] = {"id": row["id"], "group": row.get(by, ""), "level": level}
        for count in COUNTS:
            beside = around(row, level, count)
            guess = getattr(total, FIELDS[count]) + beside
            entry |= {f"{count}_pred": guess, f"{count}_true": true.get(count, ""), f"{count}_ratio": ""}
            if true.get(count):
                entry[f"{count}_ratio"] = round(guess / true[count], 4)
            interval = total.intervals[FIELDS[count]]
            known = interval.low is not None and interval.high is not None
            entry[f"{count}_low"] = interval.low + beside if known else ""
            entry[f"{count}_high"] = interval.high + beside if known else ""
        yield entry


# -- errors


def print_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print the errors of each group, level and count."""
    print(
        f"{'group':34s} {'level':7s} {'count':8s} {'rows':>5s} {'mean%':>8s} {'median%':>8s} {'worst%':>9s} "
        f"{'pred/true: median':>18s} {'min':>8s} {'max':>9s} {'typ.factor':>10s}"
    )
    keys = {(entry["group"], entry["level"]) for entry in entries}
    for group, level in sorted(keys, key=lambda key: (key[0], LEVELS.index(key[1]))):
        for count in COUNTS:
            pairs = [
                (entry[f"{count}_pred"], entry[f"{count}_true"])
                for entry in entries
                if (entry["group"], entry["level"]) == (group, level) and entry[f"{count}_true"] != ""
            ]
            print_errors(f"{group:34s} {level:7s}", count, pairs)


def print_errors(group: str, count: str, pairs: Sequence[tuple[float, float]]) -> None:
    """Print a line of errors, relative where the truth is not small, and one of estimates where the truth is zero."""
    kept = [(guess, true) for guess, true in pairs if true >= FLOORS.get(count, 1)]
    if kept:
        off = [100 * abs(guess - true) / true for guess, true in kept]
        ratios = [guess / true for guess, true in kept]
        factor = math.exp(statistics.mean(abs(math.log(max(ratio, 1e-3))) for ratio in ratios))
        print(
            f"{group} {count:8s} {len(kept):5d} {statistics.mean(off):8.1f} {statistics.median(off):8.1f} "
            f"{max(off):9.0f} {statistics.median(ratios):18.3f} {min(ratios):8.3f} {max(ratios):9.2f} {factor:10.2f}"
        )
    zero = [guess for guess, true in pairs if true == 0]
    if count in ("dsp", "bram18") and zero:
        above = sum(guess > 0 for guess in zero)
        print(f"{group} {count + '=0':8s} {len(zero):5d}   true is 0: estimate above 0 in {above}, at most {max(zero)}")


def print_inside(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print how many true values lie in the intervals that the estimates state."""
    print("\ntrue values inside the stated intervals")
    for level in LEVELS:
        for count in COUNTS:
            known = [
                entry[f"{count}_low"] <= entry[f"{count}_true"] <= entry[f"{count}_high"]
                for entry in entries
                if entry["level"] == level and entry[f"{count}_true"] != "" and entry[f"{count}_low"] != ""
            ]
            if known:
                print(
                    f"{level:10s} {count:8s} {sum(known):5d} of {len(known):5d} {100 * sum(known) / len(known):6.1f} %"
                )


def largest_modules(path: Path) -> dict[tuple[str, str], Row]:
    """Return (design, op) -> its module; in a stream the larger one, which holds the other."""
    largest: dict[tuple[str, str], Row] = {}
    for module in read(path):
        key = module["design"], module["op"]
        if key not in largest or float(module["lut"]) > float(largest[key]["lut"]):
            largest[key] = module
    return largest


def print_layers(path: Path, estimates: Mapping[str, tuple[IntGraph, Mapping[str, ResourceReport]]]) -> None:
    """Print errors of dense and convolution ops against their modules, the largest one of each op."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for (design, name), module in largest_modules(path).items():
        if design not in estimates:
            continue
        graph, reports = estimates[design]
        op = next((op.name for op in graph.ops if isinstance(op, MatMul) and name in op.layers), None)
        told = next((layer for layer in reports["csynth"].layers if layer.name == op), None)
        forced = " forced" if "forced" in module.get("family", "") else ""
        reuse = "rf=1" if module["reuse"] == "1" else "rf>1"
        group = f"{module['io_type']} {module['strategy']} {module['kind']} {reuse}{forced}"
        for count, column in (("lut", "lut"), ("ff", "ff"), ("dsp", "dsp"), ("bram18", "bram")):
            true = number(module[column])
            if told is not None and true is not None:
                pairs.setdefault((group, count), []).append((getattr(told, FIELDS[count]), true))
    print("\nsingle ops against csynth's modules")
    for (group, count), found in sorted(pairs.items()):
        print_errors(f"{group:44s}", count, found)


if __name__ == "__main__":
    main()
