"""Run directories: a stage counts as done only while its files are as it wrote them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import flow
from flow.errors import InputError
from flow.runs import RunDirectory, digest, digest_file, keep, open_run, read_kept, write_npz


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
    assert run.is_done("stage", "key") and run.read("out.txt") == b"whole"
    if damage == "gone":
        (tmp_path / "out.txt").unlink()
    else:
        (tmp_path / "out.txt").write_text("wholE")
    with pytest.raises(InputError, match=r"out\.txt is missing or was changed; run 'flow build' again"):
        run.read("out.txt")


def test_a_record_is_of_what_was_written_not_of_what_lies_there(tmp_path: Path) -> None:
    """Somebody else writes the file before it is recorded: this run does not take it for its own."""
    run, other = RunDirectory(tmp_path), RunDirectory(tmp_path)
    run.write_npz("inputs.npz", {"x": np.arange(3)})
    other.write_npz("inputs.npz", {"x": np.arange(4)})
    run.mark_done("inputs", "mine", "inputs.npz")
    with pytest.raises(InputError, match="was changed"):
        run.read("inputs.npz")
    run.write_npz("inputs.npz", {"x": np.arange(3)})
    assert run.read_npz("inputs.npz")["x"].tolist() == [0, 1, 2]


def test_a_file_written_before_a_kill_does_not_pass_for_that_of_the_stage_before(tmp_path: Path) -> None:
    """Key and digests appear together: until then the file is not what the old key says."""
    run = RunDirectory(tmp_path)
    run.write_text("out.txt", "of a")
    run.mark_done("stage", "a", "out.txt")
    run.write_text("out.txt", "of b")
    assert run.is_done("stage", "a")
    with pytest.raises(InputError, match="was changed"):
        run.read("out.txt")
    run.mark_done("stage", "b", "out.txt")
    assert run.read("out.txt") == b"of b"


def test_a_file_that_was_never_recorded_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "stray").write_text("")
    with pytest.raises(InputError, match="stray is missing or was changed"):
        RunDirectory(tmp_path).read("stray")


def test_a_file_that_is_not_there_yet_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.describe({"commands": ["flow train net", "flow build net --samples 3"]})
    said = r"report\.json is not there yet: the build was interrupted before .*; run again: flow build net --samples 3$"
    with pytest.raises(InputError, match=said):
        run.read("report.json")


def test_what_is_kept_is_read_as_it_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "of.json"
    keep(path, "key", {"lut": 3})
    assert read_kept(path, "key") == {"lut": 3} and read_kept(path, "other") is None
    whole = path.read_text()
    for damaged in (whole.replace("3", "4"), whole[:-9], "", "[]", '{"key": "key", "result": {"lut": 3}}'):
        path.write_text(damaged)
        assert read_kept(path, "key") is None, damaged
    path.unlink()
    path.mkdir()
    assert read_kept(path, "key") is None


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
    with pytest.raises(InputError, match="interrupted, or asked to stop, before it wrote one"):
        open_run(tmp_path)


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


def test_a_text_stands_for_a_path(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    for call in (
        flow.load_report,
        flow.compare_run,
        partial(flow.export, to=absent),
        partial(flow.bitstream, board="x"),
    ):
        with pytest.raises(InputError, match="not a run directory"):
            call(absent)
