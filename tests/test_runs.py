"""Run directories: files appear whole or not at all, and a stage counts as done only while its files are intact."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from flow.errors import InputError, OutputError
from flow.runs import RunDirectory, digest, digest_file, open_run, write_npz, writing


def test_a_stage_is_done_for_its_key_alone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.manifest() == {}
    assert not run.is_done("emit", "a")
    run.mark_done("emit", "a")
    assert run.is_done("emit", "a")
    assert not run.is_done("emit", "b")
    run.describe({"model": "m"})
    run.mark_done("emit", "b")
    assert run.manifest()["stages"] == {"emit": "b"}
    assert run.manifest()["model"] == "m"


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_stage_is_not_done_when_its_file_was_touched(tmp_path: Path, damage: str) -> None:
    run = RunDirectory(tmp_path)
    run.write_text("out.txt", "whole")
    run.mark_done("stage", "key", "out.txt")
    assert run.is_done("stage", "key", "out.txt")
    if damage == "gone":
        (tmp_path / "out.txt").unlink()
    else:
        (tmp_path / "out.txt").write_text("wholE")
    assert not run.is_done("stage", "key", "out.txt")
    assert not run.is_intact("out.txt")
    assert run.is_done("stage", "key"), "as far as its other files go"


def test_a_file_that_was_never_recorded_is_not_intact(tmp_path: Path) -> None:
    (tmp_path / "stray").write_text("")
    assert not RunDirectory(tmp_path).is_intact("stray")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"stages": 3}', '{"stages": {}, "files": []}', "\x00"])
def test_a_damaged_manifest_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    run = RunDirectory(tmp_path)
    assert run.manifest() == {}
    assert not run.is_done("emit", "a")
    with pytest.raises(InputError, match="not a run directory"):
        open_run(tmp_path)
    run.mark_done("emit", "a")
    assert open_run(tmp_path) == run


def test_a_build_that_never_emitted_is_told_from_no_build(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        open_run(tmp_path / "none")
    RunDirectory(tmp_path).describe({"model": "m"})
    with pytest.raises(InputError, match="interrupted before its project was written"):
        open_run(tmp_path)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with writing(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), writing(path) as file:
            file.write(b"two")
            raise error
    assert path.read_bytes() == b"one"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", Path("/proc/none/file")):
        with pytest.raises(OutputError, match=str(path)), writing(path):
            pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "full").write_text("")
    with pytest.raises(OutputError, match="folder"), writing(tmp_path / "folder"):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


def test_arrays_and_json_read_back(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"x": np.arange(3)}, compress=True)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive["x"].tolist() == [0, 1, 2]
    RunDirectory(tmp_path).write_json("a.json", {"b": [1, "ü"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, "ü"]}


def test_digests_tell_content_and_names_apart(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(["a", "b"]) != digest(["ab"])
    (tmp_path / "d").mkdir()
    found = {digest_file(tmp_path / "d")}
    for name, content in (("x", "1"), ("y", "1"), ("x", "2")):
        (tmp_path / "d" / name).write_text(content)
        found.add(digest_file(tmp_path / "d"))
    assert len(found) == 4
    assert digest_file(tmp_path / "d" / "x") == digest_file(tmp_path / "d" / "x")
