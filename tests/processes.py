"""Processes beside that of a test: one that holds a folder, a build that is slow; and what is left of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from flow.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
print("free", flush=True)
"""
SLOWLY = """
import sys, time
from flow import runs
from flow.cli import main
mark_done = runs.RunDirectory.mark_done
def later(*arguments, **options):
    time.sleep(0.2)
    mark_done(*arguments, **options)
runs.RunDirectory.mark_done = later
sys.exit(main())
"""
"""The command line with a pause between what is written and its record."""


class Holder(subprocess.Popen[str]):
    """A process that holds a folder; it prints "held", and "free" after some seconds."""

    def __init__(self, directory: Path, seconds: float) -> None:
        command = [sys.executable, "-c", HOLD, str(directory), str(seconds)]
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.stdout is not None
        return self.stdout.readline().strip()


def running(temporary: Path) -> list[int]:
    """Return the processes whose TMPDIR is this one, those that ended and were not waited for left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ended = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not ended and f"TMPDIR={temporary}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:  # it ended meanwhile, or is somebody else's
            pass
    return found


def environment(temporary: Path) -> dict[str, str]:
    """Return the environment of a process whose temporary files go there."""
    temporary.mkdir()
    return {**os.environ, "TMPDIR": str(temporary)}
