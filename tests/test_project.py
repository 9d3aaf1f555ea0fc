"""Projects: a digest of all content, and directories that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from flow.errors import OutputError
from flow.project import Change, Project, changes, digest_files, read, write

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


# what is no longer as it was written

LEAVES = ("*_prj", "*.log", "tb_data/*.log")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write(Project("top", FILES), tmp_path / "project")
    return tmp_path / "project"


def found(directory: Path) -> list[tuple[str, str]]:
    return [(change.path, change.how) for change in changes(directory, Project("top", FILES).digests(), LEAVES)]


def test_files_that_changed_are_named(written: Path) -> None:
    assert found(written) == []
    (written / "a.txt").write_bytes(b"onE")
    (written / "deep" / "er" / "b.bin").unlink()
    (written / "deep" / "ap_fixed.h").write_bytes(b"")
    assert found(written) == [("a.txt", "changed"), ("deep/ap_fixed.h", "extra"), ("deep/er/b.bin", "missing")]
    assert str(Change("a.txt", "changed")) == "a.txt: is not as the build wrote it"


def test_links_and_pipes_are_no_files(written: Path, tmp_path: Path) -> None:
    """What a link leads to can change by itself; a pipe would be waited for."""
    (written / "a.txt").rename(tmp_path / "a.txt")
    (written / "a.txt").symlink_to(tmp_path / "a.txt")
    (written / "run.sh").unlink()
    os.mkfifo(written / "run.sh")
    (tmp_path / "elsewhere").mkdir()
    (written / "deep" / "linked").symlink_to(tmp_path / "elsewhere")
    (written / "deep" / "nowhere").symlink_to(tmp_path / "none")
    extra = [("deep/linked", "extra"), ("deep/nowhere", "extra")]
    assert found(written) == [("a.txt", "changed"), *extra, ("run.sh", "changed")]
    (written / "deep" / "er" / "b.bin").rename(tmp_path / "elsewhere" / "b.bin")
    (written / "deep" / "er").rmdir()
    (written / "deep" / "er").symlink_to(tmp_path / "elsewhere")
    assert ("deep/er/b.bin", "missing") in found(written) and ("deep/er", "extra") in found(written)


def test_a_directory_that_is_gone_or_a_link_itself(written: Path, tmp_path: Path) -> None:
    written.rename(tmp_path / "moved")
    assert found(written) == [(path, "missing") for path in sorted(FILES)]
    written.symlink_to(tmp_path / "moved")
    assert found(written) == [], "where a project lies is no change of its files"


def test_what_tools_leave_is_not_of_the_project(written: Path) -> None:
    for path in ("top_prj/solution1/syn.rpt", "vitis_hls.log", "tb_data/csim.log"):
        (written / path).parent.mkdir(parents=True, exist_ok=True)
        (written / path).write_text("")
    assert found(written) == []
    assert dict(read(written, "top", LEAVES).files) == FILES
    for path in ("deep/top_prj/ap_fixed.h", "deep/x.log"):
        (written / path).parent.mkdir(parents=True, exist_ok=True)
        (written / path).write_text("")
    assert found(written) == [("deep/top_prj/ap_fixed.h", "extra"), ("deep/x.log", "extra")]


def test_a_name_that_is_no_text_is_escaped(written: Path) -> None:
    (written / os.fsdecode(b"\xff.h")).write_text("")
    assert found(written) == [("\\xff.h", "extra")]
