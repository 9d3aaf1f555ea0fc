"""Programs outside Python: finding them, requiring them, running them. The only module that starts processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flow.errors import ToolFailedError, ToolMissingError

INSTALL = {
    "g++": "install a C++ compiler (Debian: apt-get install g++)",
    "vitis-run": "install AMD Vitis (vitis-run, or vitis_hls of older versions) and source its settings64.sh",
    "vivado_hls": "install Vivado HLS 2020.1 or earlier and source its settings64.sh",
}


def find_tool(name: str) -> str | None:
    """Return the path of a program, or None. `FLOW_<NAME>` in the environment names another one."""
    variable = "FLOW_" + "".join(c if c.isalnum() else "X" if c == "+" else "_" for c in name).upper()
    return shutil.which(os.environ.get(variable, name))


def require_tool(name: str) -> str:
    """Return the path of a program.

    Raises:
        ToolMissingError: it is not on PATH; the message says how to get it.
    """
    path = find_tool(name)
    if path is None:
        raise ToolMissingError(f"'{name}' is not on PATH; {INSTALL.get(name, 'install it')}")
    return path


def run_tool(command: Sequence[str], directory: Path, timeout_s: float | None = None) -> str:
    """Run a program in a directory and return what it printed (both streams).

    Raises:
        ToolFailedError: it could not start, took too long, or its exit status was not 0; the message ends with the
            last lines it printed.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailedError(f"{command[0]} took longer than {timeout_s} s in {directory}") from error
    except OSError as error:
        raise ToolFailedError(f"{command[0]} could not be started: {error}") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise ToolFailedError(f"{Path(command[0]).name} failed with status {done.returncode} in {directory}:\n{tail}")
    return done.stdout


def run_all(commands: Sequence[Sequence[str]], directory: Path) -> list[str]:
    """Run programs side by side, as many at a time as there are processors; return what each printed.

    Raises:
        ToolFailedError: the first that failed.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda command: run_tool(command, directory), commands))
