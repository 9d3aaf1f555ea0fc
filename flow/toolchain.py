"""Programs outside Python: finding them, requiring them, running them. The only module that starts processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import IO, TypeVar

from flow.errors import FlowError, ToolFailedError, ToolMissingError
from flow.files import BESIDE, TEMPORARY, naming

SHORTEST_S, LONGEST_S = 0.0005, 0.02
"""Pauses between two looks at programs that run: at first, and after some time."""
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process, besides Ctrl-C."""
PATIENCE_S = 2.0
"""How long a program that is told to end may take for it."""

INSTALL = {
    "iverilog": "install Icarus Verilog (Debian: apt-get install iverilog)",
    "vvp": "install Icarus Verilog (Debian: apt-get install iverilog)",
    "openFPGALoader": "install openFPGALoader (Debian: apt-get install openfpgaloader)",
    "g++": "install a C++ compiler (Debian: apt-get install g++)",
    "vitis-run": "install AMD Vitis (vitis-run, or vitis_hls of older versions) and source its settings64.sh",
    "vivado": "install AMD Vivado and source its settings64.sh",
    "concrete-python": "in a Python environment of its own run: pip install concrete-python==2.11.0 'setuptools<81'; "
    "then set FLOW_CONCRETE_PYTHON to its python",
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
    said: list[str] = []
    _run({0: command}, directory, timeout_s, lambda _, text: said.append(text))
    return said[0]


def tool_version(program: str, line: int = 0) -> str:
    """Return a line of what a program says of its version.

    Raises:
        ToolFailedError: it cannot be run, or says nothing.
    """
    lines = run_tool([program, "--version"], Path.cwd()).strip().splitlines()
    if not lines:
        raise ToolFailedError("says nothing when it is asked for its version", file=program)
    return lines[line]


@cache
def import_error(module: str) -> str:
    """Return why a package of compiled code does not import, tried in a process of its own; empty if it does."""
    try:
        run_tool([sys.executable, "-c", f"import {module}"], Path.cwd())
    except ToolFailedError as error:
        return str(error).splitlines()[-1]
    return ""


def run_all(commands: Sequence[Sequence[str]], directory: Path) -> list[str]:
    """Run programs side by side, as many at a time as there are processors; return what each printed.

    Raises:
        ToolFailedError: the first that failed.
    """
    said: dict[int, str] = {}
    _run(dict(enumerate(commands)), directory, None, said.__setitem__)
    return [said[number] for number in range(len(commands))]


def run_pool(
    commands: Mapping[str, Sequence[str]],
    directory: Path,
    timeout_s: float | None,
    finished: Callable[[str], object],
    waiting: Callable[[], object] = lambda: None,
) -> None:
    """Run long programs side by side, in order, as many at a time as there are processors.

    Args:
        commands: name -> command.
        directory: where they run.
        timeout_s: how long one of them may take; None for as long as it takes.
        finished: called with the name of each that ended well, as it ends.
        waiting: called about once a second meanwhile.

    Raises:
        ToolFailedError: one could not start, took too long, or its exit status was not 0; the message begins with its
            name and ends with the last lines it printed.
    """
    _run(commands, directory, timeout_s, lambda name, said: finished(name), waiting)


Name = TypeVar("Name", str, int)


def _run(
    commands: Mapping[Name, Sequence[str]],
    directory: Path,
    timeout_s: float | None,
    finished: Callable[[Name, str], object],
    waiting: Callable[[], object] = lambda: None,
) -> None:
    """Run programs side by side; `finished` gets the name of each that ended well, and what it printed.

    What still runs is ended with its own children when one fails, `finished` raises, or this process is interrupted.
    """
    to_do, running, pause_s, told = dict(commands), dict[Name, _Running](), SHORTEST_S, time.monotonic()
    try:
        while to_do or running:
            while to_do and len(running) < (os.cpu_count() or 1):
                name = next(iter(to_do))
                with _whole():
                    running[name] = _start(to_do.pop(name), directory)
            ended = [name for name, program in running.items() if program.process.poll() is not None]
            for name in ended:
                program = running.pop(name)
                if program.process.returncode != 0:
                    raise _named(name, program.failure(directory))
                finished(name, program.said())
            for name, program in running.items():
                if timeout_s is not None and time.monotonic() - program.started > timeout_s:
                    what = f"{program.command[0]} took longer than {timeout_s} s in {directory}"
                    raise _named(name, ToolFailedError(what))
            pause_s = SHORTEST_S if ended else min(2 * pause_s, LONGEST_S)
            time.sleep(0 if ended else pause_s)
            if time.monotonic() - told > 1:
                waiting()
                told = time.monotonic()
    finally:
        _end(running.values())


def _named(name: str | int, error: FlowError) -> FlowError:
    return error.at(field=name) if isinstance(name, str) and name else error


@dataclass(frozen=True, slots=True)
class _Running:
    command: Sequence[str]
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: float

    def said(self) -> str:
        with self.output as output:
            output.seek(0)
            return output.read().decode(errors="replace")

    def failure(self, directory: Path) -> ToolFailedError:
        tail = "\n".join(self.said().strip().splitlines()[-15:])
        status = self.process.returncode
        gone = any(part.startswith((BESIDE, TEMPORARY)) for part in directory.parts)
        where = "" if gone else f" in {directory}"
        return ToolFailedError(f"{Path(self.command[0]).name} failed with status {status}{where}:\n{tail}")


def _start(command: Sequence[str], directory: Path) -> _Running:
    """Start a program as the first of a process group of its own, which a signal to ours does not reach."""
    with naming(Path(tempfile.gettempdir())):
        output = tempfile.TemporaryFile()  # noqa: SIM115  (without a name: nothing of it is ever left)
    try:
        process = subprocess.Popen(
            command, cwd=directory, stdin=DEVNULL, stdout=output, stderr=STDOUT, start_new_session=True
        )
    except OSError as error:
        output.close()
        raise ToolFailedError(f"{command[0]} could not be started: {error}") from error
    return _Running(command, process, output, time.monotonic())


def _end(programs: Collection[_Running]) -> None:
    """End programs with what they started; those that start others in groups of their own get time to end these."""
    for sign, patience_s in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, None)):
        for program in programs:
            with suppress(ProcessLookupError):
                os.killpg(program.process.pid, sign)
        for program in programs:
            with suppress(subprocess.TimeoutExpired):
                program.process.wait(patience_s)
    for program in programs:
        program.output.close()


@contextmanager
def _whole() -> Iterator[None]:
    """Let the signals that end this process wait: one between the start of a program and its record would orphan it."""
    numbers = (signal.SIGINT, *ENDING) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    came: list[int] = []
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for first in came[:1]:
            handlers[signal.Signals(first)](first, None)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let the signals that end a process raise SystemExit: so what it started ends too, and its scratch files go."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signals = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
