"""Fit the static estimate of rtl projects to Yosys, and say how far it is off on modules it was not fitted to.

    python benchmarks/fit_estimate.py measure [--modules 816]    # synthesize what the table does not have yet
    python benchmarks/fit_estimate.py fit                        # write the coefficients, print the errors

The table, benchmarks/data/estimate_modules.csv, has a row per random module (`random_modules.py`, seed 0, 1, ...) and
family: what Yosys counts, and what `flow.backends.rtl.netlists.footprint` does. The first 620 seeds are fitted to.
Errors are relative, over modules that take more than 30 LUTs (of flip-flops: more than 30 flip-flops).
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_modules import random_module
from scipy.optimize import linprog

from flow.backends.rtl.netlists.needs import Memory, Needs
from flow.backends.rtl.synthesis.estimate import COEFFICIENTS, FITTED, LUTS, SMALLEST, errors, features, ratios
from flow.backends.rtl.synthesis.synth import ModuleFiles, module_files, read_modules
from flow.backends.rtl.verilog.emit import count_needs, emit
from flow.backends.yosys.cells import FAMILIES, count
from flow.backends.yosys.scripts import quoted, run_scripts, yosys_version
from flow.ir.graph import IntGraph
from flow.project import write
from flow.target import Target

TABLE = Path(__file__).parent / "data" / "estimate_modules.csv"
MODULES = 816
FITTED_SEEDS = 620
"""The first modules are fitted to, and the rules of logic were written looking at them."""
LARGEST = 5000
"""Modules with more parts than this are left out: they take minutes each."""
OTHER_FAMILY_EVERY = 8
"""Every eighth module is synthesized for UltraScale+ too."""
PARTS = {"7-series": "xc7z020clg300-1", "UltraScale+": "xcvu13p-flga2577-2-e"}
CLOCK_PERIODS_NS = (5.0, 5.0, 3.0, 10.0)
"""By seed, in turns."""
BATCH = 12
"""Modules that share one run of Yosys, which reads its libraries once."""
PORT = re.compile(r"(input|output) wire (\[\d+:0\] )?(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A module and what it takes.

    Attributes:
        seed, kind: which random module.
        family: of parts.
        verilog: digest of the files that were synthesized.
        lut, ff, dsp, bram_18k, carry: what Yosys counts.
        needs: what the emission says that it needs.
    """

    seed: int
    kind: str
    family: str
    verilog: str
    lut: int
    ff: int
    dsp: int
    bram_18k: int
    carry: int
    needs: Needs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "fit"))
    parser.add_argument("--modules", type=int, default=MODULES)
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure(arguments.modules)
    else:
        fit()


def target(seed: int, io_type: str, family: str) -> Target:
    """Return the target for which a random module is built."""
    clock = CLOCK_PERIODS_NS[seed % len(CLOCK_PERIODS_NS)]
    return Target(backend="rtl", io_type=io_type, part=PARTS[family], clock_period_ns=clock)


# -- measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """A random module's project: its kind, its files, the module in question, and what that needs."""

    kind: str
    directory: Path
    module: ModuleFiles
    needs: Needs


def measure(modules: int) -> None:
    """Bring the table up to date: synthesize modules that are not in it, or whose Verilog is another now."""
    known = {(row.seed, row.family): row for row in read_rows()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="po2flow-fit-") as scratch:
        for family in PARTS:
            step = 1 if family == "7-series" else OTHER_FAMILY_EVERY
            waiting: dict[int, Emitted] = {}
            for seed in range(0, modules, step):
                each = _emitted(seed, family, Path(scratch) / f"{family}_{seed}")
                row = known.get((seed, family))
                if row and row.verilog == each.module.digest[:12]:
                    rows.append(replace(row, needs=each.needs, kind=each.kind))
                elif sum(each.needs.parts.values()) <= LARGEST:
                    waiting[seed] = each
                if len(waiting) == 2 * BATCH or seed + step >= modules:
                    rows += _measured(waiting, family)
                    write_rows([*rows, *(row for key, row in known.items() if key not in _keys(rows))])
                    print(f"{family}: seed {seed}, synthesized {len(waiting)}", file=sys.stderr, flush=True)
                    waiting = {}
    write_rows(rows)


def _keys(rows: Sequence[Row]) -> set[tuple[int, str]]:
    return {(row.seed, row.family) for row in rows}


def _emitted(seed: int, family: str, directory: Path) -> Emitted:
    kind, io_type, graph = random_module(seed)
    graph = IntGraph(name=f"m{seed}", ops=graph.ops, outputs=graph.outputs)
    built_for, op = target(seed, io_type, family), graph.ops[-1].name
    write(emit(graph, built_for), directory)
    module = module_files(read_modules(directory), f"m{seed}_{op}")
    return Emitted(kind=kind, directory=directory, module=module, needs=count_needs(graph, built_for)[0][op])


def _measured(modules: Mapping[int, Emitted], family: str) -> Iterator[Row]:
    """Yield rows of modules, synthesized two batches at a time; modules of one batch do not see each other."""
    seeds = list(modules)
    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    with tempfile.TemporaryDirectory(prefix="po2flow-fit-") as scratch:
        scripts = {str(batch[0]): _script(batch, modules, family, Path(scratch)) for batch in batches}
        run_scripts(scripts, Path(scratch))
        found: dict[str, dict[str, int]] = {}
        for path in Path(scratch).glob("*.json"):
            for name, module in json.loads(path.read_text())["modules"].items():
                found[name.removeprefix("\\")] = module["num_cells_by_type"]
    for seed, each in modules.items():
        counts = count(found[each.module.name], FAMILIES[family])
        picked = {key: counts[key] for key in COUNTS}
        digest = each.module.digest[:12]
        yield Row(seed=seed, kind=each.kind, family=family, verilog=digest, needs=each.needs, **picked)


def _script(seeds: Sequence[int], modules: Mapping[int, Emitted], family: str, directory: Path) -> tuple[str, ...]:
    files: dict[str, str] = {}
    ports, body = ["input clk"], ""
    for seed in seeds:
        at, name = modules[seed].directory, modules[seed].module.name
        files |= {Path(path).name: quoted(at / path) for path in modules[seed].module.files}
        header = read_modules(at)[name][1].decode().partition(f"module {name} ")[2].partition(");")[0]
        wires = []
        for way, width, port in PORT.findall(header):
            own = "clk" if port == "clk" else f"{name}_{port}"
            wires.append(f".{port}({own})")
            ports += [] if port == "clk" else [f"{way} {width}{own}"]
        body += f"{name} i{seed} ({', '.join(wires)});\n"
    top = directory / f"batch_{seeds[0]}.v"
    top.write_text(f"module batch({', '.join(ports)});\n{body}endmodule\n")
    names = " ".join(modules[seed].module.name for seed in seeds)
    return (
        f"read_verilog {' '.join(files.values())} {quoted(top)}",
        f"setattr -mod -set keep_hierarchy 1 {names}",
        f"{FAMILIES[family].synthesis} -top batch",
        f"tee -q -o {quoted(directory / f'{seeds[0]}.json')} stat -json",
    )


def held_out(seed: int) -> bool:
    """Say whether a module is not fitted to."""
    return seed >= FITTED_SEEDS


# -- the table


KINDS = (*LUTS, *FITTED)
PART = "needs "
"""Begins the columns of what the emission counts."""
COUNTS = ("lut", "ff", "dsp", "bram_18k", "carry")


def read_rows() -> list[Row]:
    """Return the rows of the table; none if there is no table."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Row(
            seed=int(row["seed"]),
            kind=row["kind"],
            verilog=row["verilog"],
            family=row["family"],
            needs=Needs(
                parts={kind: int(row[PART + kind]) for kind in KINDS if row.get(PART + kind)},
                memories=tuple(Memory(width=w, depth=d, ports=p) for w, d, p in json.loads(row["memories"])),
            ),
            **{key: int(row[key]) for key in COUNTS},
        )
        for row in rows
    ]


def write_rows(rows: Sequence[Row]) -> None:
    """Write the table, in order."""
    TABLE.parent.mkdir(exist_ok=True)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "kind", "family", "verilog", *COUNTS, *(PART + kind for kind in KINDS), "memories"])
        for row in sorted(rows, key=lambda row: (row.family, row.seed)):
            memories = [[memory.width, memory.depth, memory.ports] for memory in row.needs.memories]
            counts = [getattr(row, key) for key in COUNTS]
            parts = [row.needs.parts.get(kind, "") for kind in KINDS]
            writer.writerow([row.seed, row.kind, row.family, row.verilog, *counts, *parts, json.dumps(memories)])


# -- fit

RTL_AGAINST = "Yosys; not fitted to"


def fit() -> None:
    """Fit to the first modules, write the coefficients and the errors on the others."""
    rows = read_rows()
    fitted = [row for row in rows if not held_out(row.seed)]
    counted = [features(row.needs, row.family) for row in fitted]
    table, known = (np.array(each, np.float64) for each in zip(*counted, strict=True))
    lut = np.array([row.lut for row in fitted])
    found = least_deviations(table, lut - known, 1 / np.maximum(lut, SMALLEST))
    coefficients = {kind: round(float(value), 3) for kind, value in zip(FITTED, found, strict=True)}
    error = {"against": RTL_AGAINST, **held_out_errors(rows, coefficients)}
    known = [(row.needs, row.family, row.lut, row.ff) for row in rows if held_out(row.seed)]
    interval = ratios(known, coefficients)
    data = {
        "tool": yosys_version(),
        "fitted": len(fitted),
        "lut": coefficients,
        "interval": interval,
        "error": error,
    }
    _write(COEFFICIENTS, data)


def least_deviations(table: NDArray[np.float64], goal: NDArray[np.float64], scale: NDArray[np.float64]) -> Any:
    """Return the x >= 0 with the smallest sum of scale * |table @ x - goal|: odd modules do not bend it."""
    rows, columns = table.shape
    left, right = table * scale[:, None], goal * scale
    slack = np.eye(rows)
    found = linprog(
        np.concatenate([np.zeros(columns), np.ones(rows)]),
        A_ub=np.block([[left, -slack], [-left, -slack]]),
        b_ub=np.concatenate([right, -right]),
    )
    return np.maximum(found.x[:columns], 0)


def held_out_errors(rows: Sequence[Row], coefficients: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the errors on what was not fitted to."""
    return errors([(row.needs, row.family, row.lut, row.ff) for row in rows if held_out(row.seed)], coefficients)


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
