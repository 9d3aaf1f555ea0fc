"""Fit LUTs and flip-flops of the estimate of C synthesis to what it reported for other people's projects.

    python benchmarks/fit_hls.py TABLE.csv LAYERS.csv            # write the numbers and the errors
    python benchmarks/fit_hls.py TABLE.csv LAYERS.csv --check    # fit to some, print errors of the others

An op is amounts of things (`flow.cost.hls.matmuls.Counted`): bits of adders, words that wait, choices. What each takes
is fitted, never below zero, so that errors relative to the truth are small, first of single ops, then of whole designs.
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from vendor_designs import lowered
from vendor_truth import (
    FIELDS,
    Row,
    compared,
    design_of,
    estimated,
    largest_modules,
    number,
    print_table,
    read,
    settings_of,
    target_of,
    truth,
)

import flow
from flow.cost.hls.estimates import amounts
from flow.cost.hls.intervals import group_of_op, groups_of
from flow.ir.graph import MatMul

HOME = Path(flow.__file__).parent / "cost" / "hls"
NUMBERS, TRUTH = HOME / "numbers.json", HOME / "truth.json"
SCAN, SHAPE_FOLDS = 100, 5
"""A repository of more designs than this is a scan over shapes, which are left out in so many turns."""
STAGES = (0, 1, 2)
SMALLEST = 30
"""LUTs or flip-flops of what is fitted to."""
ROUNDS = 40
"""Of reweighting: least squares become least relative errors."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Something that C synthesis reported: a design, or an op of it.

    Attributes:
        row: of the table.
        stage: 0 an op of arrays, 1 an op of streams, 2 a whole design.
        what: "lut" or "ff".
        amounts: of what there is.
        true: the count.
    """

    row: Row
    stage: int
    what: str
    amounts: Mapping[str, float]
    true: float


def samples(table: Path, layers: Path) -> list[Sample]:
    """Return what is fitted to: whole designs, and single ops of those whose modules are known."""
    rows = {row["id"]: row for row in read(table) if row.get("design")}
    modules = largest_modules(layers)
    found = []
    for name, row in rows.items():
        design, graph = lowered(design_of(table, row["design"]))
        counted = amounts(graph, target_of(design, graph, row), settings_of(design, graph, row))
        true = truth(row, "csynth")
        products = {
            op.name: [modules[name, layer] for layer in op.layers if (name, layer) in modules]
            for op in graph.ops
            if isinstance(op, MatMul)
        }
        for what in ("lut", "ff"):
            rest, left = dict.fromkeys((), 0.0), true.get(what, 0.0)
            for op_name, op in counted.items():
                given, own = getattr(op, what), products.get(op_name)
                if own and products and all(products.values()):  # its module is known: only its FIFO is left
                    left -= float(own[0][what])
                    given = {thing: amount for thing, amount in given.items() if thing.startswith("FIFO")}
                for thing, amount in given.items():
                    rest[thing] = rest.get(thing, 0) + amount
            if left >= SMALLEST:
                alone = row["io_type"] == "io_parallel" and len(graph.ops) <= 2
                found.append(Sample(row, 0 if alone else 2, what, rest, left))
            for op_name, own in products.items():
                if own and (number(own[0][what]) or 0) >= SMALLEST:
                    kernel = {k: v for k, v in getattr(counted[op_name], what).items() if not k.startswith("FIFO")}
                    found.append(Sample(row, int(row["io_type"] == "io_stream"), what, kernel, float(own[0][what])))
    return found


START: Mapping[str, Mapping[str, float]] = {
    "lut": {
        **dict.fromkeys(
            ("LUT by structure", "adder bit", "choice of sums, LUTs", "pair of bits of a product in LUTs"), 1
        ),
        **{"unit bit": 1.4, "input bit": 2, "output word": 24, "input word": 0.1, "unit with a DSP slice": 0.1},
        **{"bit of a two-digit product": 1.5, "negated bit": 2, "loop over all sums": 4700},
        **{"DSP product, Latency": 7, "DSP product, Resource": 3, "DSP product, shared": 8, "saturated sum bit": 10},
        **{"compared bit, Vitis HLS": 2.4, "compared bit, Vivado HLS": 1.9},
        **{"rounded bit, Vitis HLS": 3, "rounded bit, Vivado HLS": 5},
        **{"looked-up code, Vitis HLS": 120, "looked-up code, Vivado HLS": 120},
        **{"word at a stream": 10, "FIFO": 40, "FIFO bit": 0.5, "LUT of a line buffer": 0.5},
    },
    "ff": {
        **dict.fromkeys(("register bit by structure", "output bit", "sum bit", "bit of a port", "bit between ops"), 1),
        **dict.fromkeys(("unit weight bit", "input bit, held", "saturated sum bit", "FIFO bit", "word bit"), 1),
        **{"loop": 115, "FIFO": 5, "looked-up code": 24, "window bit": 0.1},
        **{"DSP term bit": 0.5, "two-digit term bit": 0.1, "one-digit term bit": 0.02, "output bit, staged": 0.6},
        **{"DSP term bit, Vitis HLS": 0.45, "product bit, Latency": 0.2, "output bit, Latency": 1.6},
        **{"two-digit term bit, Latency": 0.1, "one-digit term bit, Latency": 0.03, "output bit, reused": 0.6},
        **{"product bit, shared": 0.8, "two-digit term bit, shared": 0.8},
        **{"adder bit, reused": 0.8, "adder bit by ns, reused": 1.2},
        **{"adder bit, each cycle": 0.2, "adder bit by ns, each cycle": 5},
    },
}
"""What each thing takes before anything is fitted: one LUT or flip-flop a bit, or what a first look at truth said."""
HELD = 1.0
"""How strongly a number is held where it starts, in samples: one of which few samples speak stays."""


def fit(given: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Return "lut", "ff" -> what each thing takes: of arrays alone, then what streams add, then the rest of designs."""
    fitted: dict[str, dict[str, float]] = {"lut": {"LUT by structure": 1.0}, "ff": {"register bit by structure": 1.0}}
    for what, known in fitted.items():
        for stage in STAGES:
            chosen = [sample for sample in given if (sample.what, sample.stage) == (what, stage)]
            there = {name for sample in chosen for name, amount in sample.amounts.items() if amount}
            names = sorted(there - known.keys())
            if names:
                explained = errors(chosen, fitted)
                start = np.array([START[what][name] for name in names], float)
                true = np.array([sample.true for sample in chosen])
                matrix = np.array([[sample.amounts.get(name, 0) for name in names] for sample in chosen], float)
                found = start * _least_errors(matrix * start / true[:, None], 1 - explained)
                known.update({name: float(f"{each:.4g}") for name, each in zip(names, found, strict=True)})
        known.update({name: float(each) for name, each in START[what].items() if name not in known})
    return fitted


def _least_errors(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is not negative, near 1, and brings `matrix @ x` to the target with the least absolute errors."""
    weight, columns = np.ones(len(target)), matrix.shape[1]
    for _ in range(ROUNDS):
        held = np.vstack([matrix * weight[:, None], HELD * np.eye(columns)])
        found = nnls(held, np.concatenate([target * weight, np.full(columns, HELD)]), maxiter=10_000)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(matrix @ found - target), 0.02))
    return np.asarray(found)


def errors(given: Sequence[Sample], fitted: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
    """Return estimate over truth of each sample."""
    estimates = [sum(fitted[s.what].get(k, 0) * v for k, v in s.amounts.items()) for s in given]
    return np.array(estimates) / np.array([sample.true for sample in given])


# -- errors on what is not fitted to


def folds(rows: Sequence[Row], by: str) -> list[set[str]]:
    """Return sets of designs that are left out together.

    Args:
        by: "repository" (one that is a scan over shapes: its shapes, a few at a time), or "shape": nets of the same
            layers, a few at a time.
    """
    found: dict[str, set[str]] = {}
    for row in rows:
        scan = sum(other["repo"] == row["repo"] for other in rows) > SCAN
        shape = f"shape {zlib.crc32(row['layers'].encode()) % SHAPE_FOLDS}"
        found.setdefault(shape if scan or by == "shape" else row["repo"], set()).add(row["id"])
    return list(found.values())


Pairs = dict[tuple[str, str, str], list[tuple[float, float]]]
"""Source, group and figure -> estimates and truths."""


def left_out(given: Sequence[Sample], table: Path, layers: Path, by: str) -> tuple[list[dict[str, Any]], Pairs]:
    """Return what `vendor_truth.compared` says of designs by numbers that were not fitted to them, and all pairs."""
    rows = {row["id"]: row for row in read(table) if row.get("design")}
    modules, entries, pairs = largest_modules(layers), [], Pairs()
    for fold in folds(list(rows.values()), by):
        fitted = fit([sample for sample in given if sample.row["id"] not in fold])
        for name in sorted(fold):
            row = rows[name]
            design, graph = lowered(design_of(table, row["design"]))
            target, hls = target_of(design, graph, row), settings_of(design, graph, row)
            kinds = {op: counted.kind for op, counted in amounts(graph, target, hls).items()}
            made = estimated(design_of(table, row["design"]), row, fitted)
            for entry in compared(row, *made, "group"):
                entries.append(entry)
                source = "csynth" if entry["level"] == "csynth" else "vivado"
                for group in groups_of(target.io_type, target.strategy, list(kinds.values())):
                    _add(pairs, source, group, {c: (entry[f"{c}_pred"], entry[f"{c}_true"]) for c in FIELDS})
            for layer in made[1]["csynth"].layers:
                own = [modules[name, each] for each in graph[layer.name].layers if (name, each) in modules]
                if own and isinstance(graph[layer.name], MatMul):
                    group = group_of_op(target.io_type, kinds[layer.name])
                    columns = dict(zip(FIELDS, ("lut", "ff", "dsp", "bram", "lat", "ii"), strict=True))
                    known = {c: (getattr(layer, FIELDS[c]), own[0][column]) for c, column in columns.items()}
                    _add(pairs, "csynth", group, known)
                elif len(kinds) == 1 and isinstance(graph[layer.name], MatMul):
                    group = group_of_op(target.io_type, kinds[layer.name])
                    true = truth(row, "csynth")
                    _add(pairs, "csynth", group, {c: (getattr(layer, FIELDS[c]), true[c]) for c in true})
    return entries, pairs


def _add(pairs: Pairs, source: str, group: str, known: Mapping[str, tuple[float, Any]]) -> None:
    for count, (guess, true) in known.items():
        if true != "":
            pairs.setdefault((source, group, FIELDS[count]), []).append((guess, float(true)))


def measured(pairs: Pairs) -> dict[str, Any]:
    """Return `truth.json`: source -> group -> figure -> how far the truth is from the estimate."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (source, group, name), known in sorted(pairs.items()):
        found.setdefault(source, {}).setdefault(group, {})[name] = interval(known)
    return found


def interval(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return between which shares of the estimate the truth of nine of ten lies, a tenth wider where few are known."""
    shares = np.array([true / guess for guess, true in pairs if guess] or [1.0])
    zeros = [true for guess, true in pairs if not guess] or [0.0]
    spare = 1 + 1 / (1 + len(shares))
    low, high = np.quantile(shares, (0.05, 0.95))
    return {
        "low": round(float(low / spare), 4),
        "high": round(float(high * spare), 4),
        "zero": round(float(np.quantile(zeros, 0.95)), 1),
        "designs": len(pairs) // 2,  # each was left out twice
    }


def by_lines(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `truth.json` as text, a figure on a line."""
    text = json.dumps(measured, indent=1) + "\n"
    return re.sub(r'\{\s+("low"[^}]*?)\s+\}', lambda figure: f"{{{' '.join(figure[1].split())}}}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("layers", type=Path)
    parser.add_argument("--check", action="store_true", help="only print errors on what is left out")
    arguments = parser.parse_args()
    given = samples(arguments.table, arguments.layers)
    pairs = Pairs()
    for by in ("repository", "shape"):
        entries, found = left_out(given, arguments.table, arguments.layers, by)
        print(f"\nleft out by {by}")
        print_table(entries)
        for key, known in found.items():
            pairs.setdefault(key, []).extend(known)
    if not arguments.check:
        NUMBERS.write_text(json.dumps(fit(given), indent=1) + "\n")
        TRUTH.write_text(by_lines(measured(pairs)))


if __name__ == "__main__":
    main()
