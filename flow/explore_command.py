"""`flow explore`: its options, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flow.ir.names import printable
from flow.json_text import json_text
from flow.progress import progress
from flow.target import IO_TYPES, Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `flow explore`."""
    add = parser.add_argument
    add("model", type=Path, help="spec file with a [search] table, or name in models/ (docs/explore.md)")
    add("--trials", type=int, default=50, help="how many in all, those of earlier calls counted (default: 50)")
    add("--workers", type=int, help="processes that train on this machine (default: one for two processors)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, whose workers train: 'tcp://head:8786'")
    add("--storage", metavar="URL", help="database for the trials: 'postgresql://...' (default: SQLite beside them)")
    add("--budget-luts", type=int, metavar="N", help="most LUTs; the most accurate net within it is looked for")
    add("--output", type=Path, default=Path("explore"), help="where trials go (default: explore)")
    add("--part", default="", help="FPGA part that LUTs are counted for (default: that of back end rtl)")
    add("--clock-period-ns", type=float, default=Target().clock_period_ns, help="(default: 5)")
    add("--io-type", default="", help=f"{', '.join(IO_TYPES)} (default: io_stream for convolutions)")
    add("--json", action="store_true", help="print what was found as JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Search, print the front, and return the exit code."""
    from flow.exploration.search import explore

    hardware: dict[str, Any] = {"part": arguments.part, "io_type": arguments.io_type}
    target = Target(backend="rtl", clock_period_ns=arguments.clock_period_ns, **hardware)
    with progress(log=True, quiet=arguments.quiet) as announce:
        found = explore(
            arguments.model,
            trials=arguments.trials,
            workers=arguments.workers,
            scheduler=arguments.scheduler,
            storage=arguments.storage,
            budget_luts=arguments.budget_luts,
            output=arguments.output,
            target=target,
            announce=announce,
        )
    print(json_text(found.to_json()) if arguments.json else printable(found.to_text(), "\n"))
    return found.exit_code
