"""Programs outside Python: finding them, requiring them, running them. The only module that starts processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

from flow.errors import ToolFailedError, ToolMissingError

INSTALL = {
    "g++": "install a C++ compiler (Debian: apt-get install g++)",
    "vitis-run": "install AMD Vitis (vitis-run, or vitis_hls of older versions) and source its settings64.sh",
    "vivado": "install AMD Vivado and source its settings64.sh",
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
        raise ToolMissingError(f"'{name}' is not on PATH", remedy=INSTALL.get(name, "install it"))
    return path


def run_tool(command: Sequence[str], directory: Path, timeout_s: float | None = None) -> str:
    """Run a program in a directory and return what it printed (both streams).

    Raises:
        ToolFailedError: it could not start, took too long, or its exit status was not 0; the message ends with the
            last lines it printed.
    """
    try:
        done = subprocess.run(
            command, cwd=directory, timeout=timeout_s, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailedError(f"{command[0]} took longer than {timeout_s} s in {directory}") from error
    except OSError as error:
        raise ToolFailedError(f"{command[0]} could not be started: {error}") from error
    if done.returncode != 0:
        raise _failure(command, done.returncode, directory, done.stdout)
    return done.stdout


def _failure(command: Sequence[str], status: int, directory: Path, said: str) -> ToolFailedError:
    tail = "\n".join(said.strip().splitlines()[-15:])
    return ToolFailedError(f"{Path(command[0]).name} failed with status {status} in {directory}:\n{tail}")


def run_all(commands: Sequence[Sequence[str]], directory: Path) -> list[str]:
    """Run programs side by side, as many at a time as there are processors; return what each printed.

    Raises:
        ToolFailedError: the first that failed.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda command: run_tool(command, directory), commands))


def run_pool(
    commands: Mapping[str, Sequence[str]], directory: Path, timeout_s: float, finished: Callable[[str], None]
) -> None:
    """Run long programs side by side, in order, as many at a time as there are processors.

    What still runs is killed with its own children when one fails, `finished` raises, or this process is interrupted.

    Args:
        commands: name -> command.
        directory: where they run.
        timeout_s: how long one of them may take.
        finished: called with the name of each that ended well, as it ends.

    Raises:
        ToolFailedError: one could not start, took too long, or its exit status was not 0; the message begins with its
            name and ends with the last lines it printed.
    """
    waiting, running = dict(commands), dict[str, tuple[subprocess.Popen[bytes], float]]()
    with tempfile.TemporaryDirectory(prefix="po2flow-") as logs:
        try:
            while waiting or running:
                while waiting and len(running) < (os.cpu_count() or 1):
                    name = next(iter(waiting))
                    running[name] = (_start(waiting.pop(name), directory, Path(logs) / name), time.monotonic())
                for name, (process, started) in list(running.items()):
                    if process.poll() is None and time.monotonic() - started > timeout_s:
                        raise ToolFailedError(f"{commands[name][0]} took longer than {timeout_s} s", field=name)
                    if process.poll() is not None:
                        del running[name]
                        if process.returncode != 0:
                            said = (Path(logs) / name).read_text(errors="replace")
                            raise _failure(commands[name], process.returncode, directory, said).at(field=name)
                        finished(name)
                time.sleep(0.02)
        finally:
            for process, _ in running.values():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _start(command: Sequence[str], directory: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program as the first of a process group of its own."""
    with log.open("wb") as output:
        try:
            return subprocess.Popen(
                command, cwd=directory, stdin=DEVNULL, stdout=output, stderr=STDOUT, start_new_session=True
            )
        except OSError as error:
            raise ToolFailedError(f"{command[0]} could not be started: {error}") from error
