"""Files and folders: they appear whole or not at all, are written by one process at a time, and leave nothing behind.

Whoever writes holds a lock (`flock`), which the kernel releases when the process ends, however it ends. So a folder
that somebody writes is told from one whose writer was killed, and what that one left can be removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from flow.errors import OutputError, ToolFailedError

LOCK, BESIDE, TEMPORARY = ".lock", ".writing-", "po2flow."
"""Name of the lock of a folder; how names begin of what is not whole yet, and of directories in TMPDIR."""
CLAIMED_S = 60
"""Within that time a scratch file is claimed by its writer, where no lock says that nobody else writes."""


class Written(io.RawIOBase):
    """A file that is being written, with the digest of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._sha = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._sha.update(content)
        return self._file.write(content)

    def digest(self) -> str:
        """Return the SHA-256 of the bytes that were written."""
        return self._sha.hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file that cannot be written.

    Raises:
        OutputError: the operating system refused something inside.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror or error})", file=path) from error


@contextmanager
def writing(path: Path) -> Iterator[Written]:
    """Open a file that appears whole or not at all.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    scratch = None
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=BESIDE, delete=False) as file:
                scratch = file.name
                _claim(file.fileno())
                yield Written(file.file)  # type: ignore[arg-type]
                file.flush()
                os.chmod(scratch, 0o644)
                os.replace(scratch, path)
                scratch = None
    finally:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)


@contextmanager
def filling(directory: Path) -> Iterator[Path]:
    """Give an empty directory that takes the place of `directory`, and of whatever lies there, when it is full.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    with naming(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(directory.parent, BESIDE) as scratch:
            new = scratch / "new"
            new.mkdir()
            yield new
            if os.path.lexists(directory):
                os.replace(directory, scratch / "old")
            os.replace(new, directory)


@contextmanager
def temporary() -> Iterator[Path]:
    """Give an empty directory in TMPDIR, which is removed afterwards; those of processes that were killed are too.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    place = os.environ.get("TMPDIR") or tempfile.gettempdir()
    sweep(Path(place), f"{TEMPORARY}*")
    try:
        with _scratch(Path(place), TEMPORARY) as scratch:
            yield scratch
    except OSError as error:
        read = error.errno is None and "writ" not in str(error)  # libraries say without a number what they failed at
        if read or not str(error.filename or place).startswith(place):
            raise
        what, remedy = f"cannot be written ({error.strerror or error})", "set TMPDIR to a directory that has room"
        raise OutputError(what, file=error.filename or place, remedy=remedy) from error


@contextmanager
def _scratch(place: Path, prefix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=place, prefix=prefix) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            _claim(handle)
            yield Path(name)
        finally:
            os.close(handle)


def _claim(handle: int) -> None:
    """Lock a scratch file for as long as it is open; where there are no locks, nobody will sweep it either."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(directory: Path, *patterns: str, older_than_s: float = CLAIMED_S) -> None:
    """Remove what processes that were killed left, and nothing else.

    Args:
        directory: where.
        patterns: globs of scratch files.
        older_than_s: age below which one may not be claimed yet by its writer; 0 if nobody else writes there.
    """
    for path in (path for pattern in patterns for path in directory.glob(pattern)):
        with suppress(OSError):  # it is claimed, gone by now, or somebody else's
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status = os.fstat(handle)
                if status.st_uid == os.geteuid() and time.time() - status.st_mtime >= older_than_s:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


def made_once(entry: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the file of an entry of a cache: as it was made, or made now.

    Args:
        entry: directory of the file, and of its digest.
        name: of the file.
        make: leaves it in a directory.

    Raises:
        ToolFailedError: `make` left no such file.
        OutputError: the cache cannot be written.
    """
    path, record = entry / name, entry / f"{name}.sha256"
    with suppress(OSError, UnicodeDecodeError):
        if record.read_text() == _state(path):
            return path
    with filling(entry) as new:
        work = new / "work"
        work.mkdir()
        make(work)
        if not (work / name).is_file():
            raise ToolFailedError(f"its tool ended well and wrote no '{name}'", file=entry)
        os.replace(work / name, new / name)
        shutil.rmtree(work)
        (new / record.name).write_text(_state(new / name))
    return path


def _state(path: Path) -> str:
    """Return the SHA-256 of a file and whether it can be run."""
    runs = "executable" if path.stat().st_mode & 0o111 else "not executable"
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()} {runs}\n"


# -- one process at a time


@contextmanager
def locked(directory: Path, *leftovers: str) -> Iterator[None]:
    """Hold a folder against everybody else who asks for it, until the end or that of the process.

    While another holds it, this waits, with a word on stderr; Ctrl-C ends the wait.

    Args:
        directory: made if it is not there.
        leftovers: globs of scratch files that are removed first: nobody can be writing them.

    Raises:
        OutputError: it cannot be written, or its disk has no locks.
    """
    with _lock(directory) as file:
        sweep(directory, f"{BESIDE}*", *leftovers, older_than_s=0)
        with suppress(OSError):  # the disk is full: it is held without a word
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"{_this_process()} since {since}".encode())
        yield


def _this_process() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"


def holder(directory: Path) -> str:
    """Return which other process holds a folder, in words; empty if none does."""
    try:
        with (directory / LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = file.read().decode() or "another process"
                return "" if said.startswith(_this_process()) else said
    except OSError:  # never locked, or on a disk without locks
        pass
    return ""


def _lock(directory: Path) -> io.FileIO:
    """Return the lock of a folder, open and held."""
    path = directory / LOCK
    while True:
        with naming(path):
            directory.mkdir(parents=True, exist_ok=True)
            file = io.FileIO(path, "a")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                erase = "\r\x1b[K" if sys.stderr.isatty() else ""
                print(f"{erase}flow: waiting for {directory}, held by {holder(directory)}", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError as error:
            file.close()
            what, remedy = f"cannot be locked ({error.strerror})", "use a disk that has file locks (flock)"
            raise OutputError(what, file=path, remedy=remedy) from error
        except BaseException:
            file.close()
            raise
        file.close()  # somebody removed the folder meanwhile
