"""Files and folders: whole or not there, one writer at a time, and nothing left of a writer that was killed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from processes import Holder

from flow import files
from flow.errors import OutputError, ToolFailedError
from flow.files import LOCK, filling, holder, locked, made_once, sweep, temporary, writing


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with writing(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one" and file.digest() == hashlib.sha256(b"one").hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), writing(path) as file:
            file.write(b"two")
            raise error
    assert path.read_bytes() == b"one"
    assert names(path.parent) == ["file"]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", Path("/proc/none/file")):
        with pytest.raises(OutputError, match=str(path)), writing(path):
            pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").write_text("")
    with pytest.raises(OutputError, match="folder"), writing(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("before", ["nothing", "a file", "a directory", "a link"])
def test_a_directory_takes_the_place_of_whatever_lies_there(tmp_path: Path, before: str) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("")
    if before == "a file":
        place.write_text("")
    elif before == "a directory":
        place.mkdir()
        (place / "old").write_text("")
    elif before == "a link":
        place.symlink_to(other)
    with pytest.raises(KeyboardInterrupt), filling(place):
        raise KeyboardInterrupt
    assert os.path.lexists(place) == (before != "nothing")
    with filling(place) as new:
        (new / "file").write_text("")
    assert names(place) == ["file"] and not place.is_symlink()
    assert names(tmp_path) == ["other", "place"] and names(other) == ["kept"]


# -- what is made once


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "not executable":
        path.chmod(0o644)
    elif how == "its record gone":
        (path.parent / f"{path.name}.sha256").unlink()
    elif how == "its record no text":
        (path.parent / f"{path.name}.sha256").write_bytes(b"\xff")
    else:
        path.unlink()
        if how == "a directory":
            path.mkdir()
            (path / "inside").write_text("")


DAMAGES = ("gone", "truncated", "emptied", "a directory", "not executable", "its record gone", "its record no text")


@pytest.mark.parametrize("how", DAMAGES)
def test_what_was_damaged_is_made_again(tmp_path: Path, how: str) -> None:
    made = []

    def make(scratch: Path) -> None:
        made.append(scratch)
        (scratch / "rest.o").write_text("")
        (scratch / "program").write_text("#!/bin/sh")
        (scratch / "program").chmod(0o755)

    for _ in range(2):
        path = made_once(tmp_path / "entry", "program", make)
    assert len(made) == 1 and names(path.parent) == ["program", "program.sha256"]
    damage(path, how)
    for _ in range(2):
        assert made_once(tmp_path / "entry", "program", make) == path
    assert len(made) == 2 and path.read_text() == "#!/bin/sh" and os.access(path, os.X_OK)
    assert names(tmp_path) == ["entry"]


def test_a_tool_that_writes_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError, match=r"entry: its tool ended well and wrote no 'program'"):
        made_once(tmp_path / "entry", "program", lambda scratch: None)
    assert names(tmp_path) == []


# -- one process at a time


@pytest.fixture
def processes() -> Any:
    with ExitStack() as stack:

        def start(directory: Path, seconds: float = 60) -> Holder:
            process = stack.enter_context(Holder(directory, seconds))
            stack.callback(process.kill)
            return process

        yield start


def test_a_second_process_waits_and_says_for_whom(tmp_path: Path, processes: Any) -> None:
    first = processes(tmp_path, 1.5)
    assert first.line() == "held"
    assert holder(tmp_path).startswith(f"process {first.pid} on {os.uname().nodename} since 20")
    second = processes(tmp_path, 0)
    assert second.stderr.readline().startswith(f"flow: waiting for {tmp_path}, held by process {first.pid} on ")
    assert first.poll() is None and first.line() == "free"
    assert second.line() == "held" and second.wait() == 0
    assert holder(tmp_path) == "" and holder(tmp_path / "never") == ""


def test_other_folders_do_not_wait(tmp_path: Path, processes: Any) -> None:
    assert processes(tmp_path / "one").line() == "held"
    assert processes(tmp_path / "two", 0).line() == "held"


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_lock_ends_with_its_process(tmp_path: Path, processes: Any, sign: signal.Signals) -> None:
    first = processes(tmp_path)
    assert first.line() == "held"
    first.send_signal(sign)
    first.wait()
    with locked(tmp_path):
        assert holder(tmp_path) == "", "that is this process"


def test_ctrl_c_ends_the_wait(tmp_path: Path, processes: Any) -> None:
    assert processes(tmp_path).line() == "held"
    second = processes(tmp_path)
    second.stderr.readline()
    second.send_signal(signal.SIGINT)
    assert second.wait(10) == -signal.SIGINT and "KeyboardInterrupt" in second.stderr.read()


def test_a_folder_that_was_removed_while_another_waited_is_locked_anew(tmp_path: Path, processes: Any) -> None:
    first = processes(tmp_path / "run", 1)
    assert first.line() == "held"
    second = processes(tmp_path / "run")
    second.stderr.readline()
    (tmp_path / "run" / LOCK).unlink()
    assert second.line() == "held"
    assert holder(tmp_path / "run").startswith(f"process {second.pid} ")


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said = r"\.lock: cannot be locked \(No locks available\); use a disk that has"
    with pytest.raises(OutputError, match=said), locked(tmp_path):
        pass
    with writing(tmp_path / "file") as file:  # that needs none
        file.write(b"")


# -- what killed processes left


def test_what_is_still_written_is_not_swept(tmp_path: Path) -> None:
    with writing(tmp_path / "file") as file, filling(tmp_path / "folder") as new:
        (new / "file").write_text("")
        with locked(tmp_path):
            file.write(b"whole")
    assert names(tmp_path) == [".lock", "file", "folder"]


KILLED = """
import os, sys
from pathlib import Path
from flow.files import filling, temporary, writing
place = Path(sys.argv[1])
with writing(place / "file") as file, filling(place / "folder") as new, temporary() as scratch:
    file.write(b"half")
    (new / "file").write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, temp = tmp_path / "run", tmp_path / "temp"
    for each in (run, temp):
        each.mkdir()
        (each / "mine").write_text("")
    monkeypatch.setenv("TMPDIR", str(temp))
    subprocess.run([sys.executable, "-c", KILLED, str(run)], check=False)
    assert len(names(run)) == 3 and len(names(temp)) == 2
    sweep(run, ".writing-*")
    assert len(names(run)) == 3, "who writes may not have claimed it yet"
    with locked(run):
        assert names(run) == [".lock", "mine"]
    old = time.time() - 2 * files.CLAIMED_S
    for path in temp.glob("po2flow.*"):
        os.utime(path, (old, old))
    with temporary() as scratch:
        assert names(temp) == ["mine", scratch.name]
    assert names(temp) == ["mine"]


def test_a_directory_for_temporary_files_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    said = r"absent.*cannot be written \(No such file or directory\); set TMPDIR to"
    with pytest.raises(OutputError, match=said), temporary():
        pass
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for full in (OSError(errno.ENOSPC, "No space left on device"), OSError("100 requested and 0 written")):
        with pytest.raises(OutputError, match=rf"{tmp_path}: cannot be written \(.*\); set TMPDIR to"), temporary():
            raise full
    with pytest.raises(OSError, match="Unable to synchronously open file"), temporary():
        raise OSError("Unable to synchronously open file (bad byte number in an address)")
    with pytest.raises(FileNotFoundError), temporary():
        (tmp_path.parent / "elsewhere").read_text()
