"""Project: the generated files as data, `{relative path: bytes}`; writing them is apart from making them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
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


def read(directory: Path, name: str) -> Project:
    """Read a project back from disk, as it lies there now."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return Project(name, {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths})
