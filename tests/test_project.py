"""Projects: a digest of all content, and directories that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from flow.errors import OutputError
from flow.project import Project, digest_files, read, write

FILES = {"a.txt": b"one", "deep/er/b.bin": bytes(range(256)), "run.sh": b"#!/bin/sh\n"}


def test_written_and_read_back(tmp_path: Path) -> None:
    project = Project("top", FILES)
    write(project, tmp_path / "x" / "project")
    again = read(tmp_path / "x" / "project", "top")
    assert dict(again.files) == FILES and again.digest() == project.digest() and again.text("a.txt") == "one"
    assert (tmp_path / "x" / "project" / "run.sh").stat().st_mode & stat.S_IXUSR
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["project"]


def test_digest() -> None:
    digest = digest_files(FILES)
    assert digest == digest_files(dict(reversed(FILES.items())))
    others = [
        {**FILES, "a.txt": b"two"},
        {**FILES, "c": b""},
        {"b.txt" if k == "a.txt" else k: v for k, v in FILES.items()},
    ]
    assert len({digest, *map(digest_files, others)}) == 4
    assert digest_files({"a": b"bc"}) != digest_files({"ab": b"c"})


def test_paths_stay_inside() -> None:
    for path in ("/etc/passwd", "../x", "a/../../x"):
        with pytest.raises(AssertionError):
            Project("top", {path: b""})


def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    write(Project("top", {"old.txt": b"old", "same.txt": b"1"}), tmp_path / "p")
    write(Project("top", {"same.txt": b"2"}), tmp_path / "p")
    assert dict(read(tmp_path / "p", "top").files) == {"same.txt": b"2"}


def test_a_full_disk_leaves_the_old_project_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Project("top", FILES)
    write(old, tmp_path / "p")
    own = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "b.bin":
            raise OSError(errno.ENOSPC, "No space left on device")
        return own(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"p/b\.bin: cannot be written \(No space left on device\)"):
        write(Project("top", {"a.txt": b"new", "b.bin": b"new"}), tmp_path / "p")
    assert read(tmp_path / "p", "top").digest() == old.digest()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_an_interruption_at_the_last_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(Project("top", FILES), tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write(Project("top", FILES), tmp_path / "file" / "p")
    with pytest.raises(OutputError, match="cannot be written"):
        write(Project("top", FILES), Path("/proc/nowhere/p"))
    with pytest.raises(OutputError, match="cannot be written"):
        write(Project("top", {"a": b"", "a/b": b""}), tmp_path / "p")
    assert not (tmp_path / "p").exists()
