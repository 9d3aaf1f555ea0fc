"""Project: the generated files as data, `{relative path: bytes}`; writing them is apart from making them.

A project on disk is held against the digests of what was written, file by file. What a vendor's tool leaves in the
directory of a project, `left_by_tools` of its back end, is none of its files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from flow.files import filling, naming


@dataclass(frozen=True, slots=True, eq=False)
class Project:
    """Generated files.

    Attributes:
        name: name of the top function.
        files: relative POSIX path -> content.
    """

    name: str
    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for path in self.files:
            assert not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts, path

    def digest(self) -> str:
        """Return the SHA-256 of all paths and contents."""
        return digest_files(self.files)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each content, by path."""
        return {path: hashlib.sha256(content).hexdigest() for path, content in sorted(self.files.items())}

    def text(self, path: str) -> str:
        """Return a file as text."""
        return self.files[path].decode()


def digest_files(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of paths and contents, whatever their order."""
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(f"{path}\0{len(files[path])}\0".encode() + files[path])
    return sha.hexdigest()


def write(project: Project, directory: Path) -> None:
    """Write a project; the directory appears whole or not at all, and replaces what was there.

    Raises:
        OutputError: the directory cannot be written, or the disk is full.
    """
    with filling(directory) as new:
        for path, content in project.files.items():
            with naming(directory / path):
                target = new / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                if content.startswith(b"#!"):
                    target.chmod(0o755)


@dataclass(frozen=True, slots=True)
class Change:
    """A file of a project on disk that is not as it was written.

    Attributes:
        path: relative to the project; of a file whose name is no text, with escapes.
        how: a key of `HOW`.
    """

    path: str
    how: str

    def __str__(self) -> str:
        return f"{self.path}: {HOW[self.how]}"


HOW: Mapping[str, str] = {
    "changed": "is not as the build wrote it",
    "missing": "is gone since the build wrote it",
    "extra": "is not of the project, it was added since",
}
"""How a file changed -> words."""


def changes(directory: Path, written: Mapping[str, str], leaves: Sequence[str] = ()) -> list[Change]:
    """Return the files of a project on disk that are not as they were written: changed, missing or extra.

    A symbolic link counts as changed: what it leads to can change by itself. So does a file that cannot be read.

    Args:
        directory: the project.
        written: relative POSIX path -> SHA-256 of its content, as of `Project.digests`.
        leaves: patterns of what tools leave there, as of `Backend.left_by_tools`.
    """
    found = {path: directory / path for path in _entries(directory, leaves)}
    missing = [Change(path, "missing") for path in written if path not in found]
    extra = [Change(os.fsencode(path).decode(errors="backslashreplace"), "extra") for path in found.keys() - written]
    changed = [Change(path, "changed") for path in written if path in found and _digest(found[path]) != written[path]]
    return sorted([*missing, *extra, *changed], key=lambda change: change.path)


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():  # a pipe would be waited for
        return ""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _entries(directory: Path, leaves: Sequence[str]) -> Iterator[str]:
    """Yield the path of all that lies below a directory and is none itself, but what tools left."""
    for where, directories, names in os.walk(directory):
        below = Path(where).relative_to(directory)
        kept = [name for name in directories if not is_left(below / name, leaves)]
        links = [name for name in kept if (Path(where) / name).is_symlink()]
        directories[:] = [name for name in kept if name not in links]
        paths = [below / name for name in (*names, *links)]
        yield from (path.as_posix() for path in paths if not is_left(path, leaves))


def left_by_tools(directory: Path, leaves: Sequence[str]) -> list[str]:
    """Return what tools left in the directory of a project; of a folder its name."""
    return sorted(path.relative_to(directory).as_posix() for pattern in leaves for path in directory.glob(pattern))


def is_left(path: PurePosixPath | Path, leaves: Sequence[str]) -> bool:
    """Say whether a path, relative to a project, is one that tools leave: each of its parts fits the pattern's.

    Example:
        >>> is_left(PurePosixPath("net_prj"), ("*_prj",)), is_left(PurePosixPath("firmware/net_prj"), ("*_prj",))
        (True, False)
    """
    patterns = [pattern.split("/") for pattern in leaves]
    return any(len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts)) for parts in patterns)


def read(directory: Path, name: str, leaves: Sequence[str] = ()) -> Project:
    """Read a project back from disk, as it lies there now, without what tools left there."""
    paths = sorted(path for path in _entries(directory, leaves) if (directory / path).is_file())
    return Project(name, {path: (directory / path).read_bytes() for path in paths})
