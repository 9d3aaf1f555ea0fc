"""Yosys: run a script in a process of its own, and say which Yosys that was."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flow.errors import ToolFailedError, ToolMissingError, at
from flow.toolchain import import_error, run_pool

CHILD = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.argv[1:]:
    libyosys.run_pass(command, design)
"""
TIMEOUT_S = 3600.0

Script = tuple[str, ...]
"""Commands of Yosys, in order."""


def yosys_version() -> str:
    """Return the name and version of the installed Yosys.

    Raises:
        ToolMissingError: it is not installed, or does not import.

    Example:
        >>> yosys_version()
        'Yosys 0.70 (pyosys)'
    """
    try:
        installed = version("pyosys")
    except PackageNotFoundError as error:
        raise ToolMissingError(
            "Yosys is not installed", remedy="pip install 'po2flow[rtl]' brings it (pyosys)"
        ) from error
    if reason := import_error("pyosys.libyosys"):
        what = f"Yosys {installed} (pyosys) does not import: {reason}"
        raise ToolMissingError(what, remedy="run: pip install --force-reinstall pyosys")
    return f"Yosys {installed} (pyosys)"


def run_scripts(
    scripts: Mapping[str, Sequence[str]],
    directory: Path,
    finished: Callable[[str], None] = lambda name: None,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Run scripts side by side, each in a process of its own, as many at a time as there are processors.

    Args:
        scripts: name -> commands, in the order in which they start.
        directory: what relative paths in the commands are relative to.
        finished: called with the name of each script as it ends.
        timeout_s: how long one script may take.

    Raises:
        ToolMissingError: Yosys is not installed.
        ToolFailedError: a script failed, with what Yosys said last, or took too long.
    """
    yosys_version()
    commands = {name: [sys.executable, "-c", CHILD, *script] for name, script in scripts.items()}
    with at(tool="Yosys"):
        run_pool(commands, directory, timeout_s, finished)


def quoted(path: Path) -> str:
    """Return a path as one word of a Yosys command."""
    return f'"{path}"'


def read_statistics(path: Path) -> dict[str, int]:
    """Return cell type -> how many of a whole design, as Yosys' `stat -json` wrote it.

    Raises:
        ToolFailedError: it is no such file.
    """
    try:
        cells = json.loads(path.read_text())["design"]["num_cells_by_type"]
        return {str(name): int(number) for name, number in cells.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolFailedError(f"Yosys left no readable statistics in {path.name} ({error!r})") from error
