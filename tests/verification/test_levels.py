"""`flow compare RUN --levels A B --inputs FILE.npz`: any two levels of a run, on all of its inputs or on a few."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import copy_of_digits, flow, needs_compiler, refused, run_directories

from flow.backends.functions import Site
from flow.errors import ToolMissingError
from flow.ir.graph import MatMul
from flow.runs import open_run, read_npz
from flow.sources import find_source, keep, kept
from flow.target import Target
from flow.verification.levels import find_divergence, open_level, stored_graph, stored_inputs

pytestmark = needs_compiler


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return copy_of_digits(tmp_path_factory, tmp_path)


def break_weight(run: Path) -> str:
    """Double a weight of the last layer as the simulation reads it; return the cause that must be named."""
    graph, _ = stored_graph(open_run(run))
    op = graph.output
    assert isinstance(op, MatMul)
    path = run / "project/firmware/weights/w4.txt"
    numbers = path.read_text().split(",")
    weight = op.weight.codes.reshape(-1)
    place = next(i for i in np.flatnonzero(np.abs(weight) == 1) if i % op.shape[-1] == 3)
    numbers[place] = f" {2 * float(numbers[place])!r}"
    path.write_text(",".join(numbers))
    index = tuple(int(each) for each in np.unravel_index(place, op.weight.codes.shape))
    return f"weight {index} of {2 * weight[place]} instead of {weight[place]} gives exactly the observed codes of "


@pytest.mark.parametrize("levels", [("reference", "csim"), ("csim", "qkeras"), ("qkeras", "csim")])
def test_a_wrong_weight_is_named_and_its_counterexample_reproduces_it(run: Path, levels: tuple[str, str]) -> None:
    cause = break_weight(run)
    outcome = flow("compare", run, "--levels", *levels)
    assert outcome.code == 1, outcome
    beside = "another may fit too: see the files below"
    assert f"cause: {'' if 'reference' in levels else 'csim: '}{cause}164 inputs; {beside}\n" in outcome.out
    command = shlex.split(outcome.out.splitlines()[-1])
    assert command == ["flow", "compare", str(run), "--levels", *levels, "--inputs", str(run / "counterexample.npz")]
    before = read_npz(run / "counterexample.npz")
    again = flow(*command[1:])
    assert again.code == 1 and place(again.out) == place(outcome.out)
    assert "over 1 input and 0 adversarial inputs" in again.out
    after = read_npz(run / "counterexample.npz")
    assert after.keys() == before.keys() and all(np.array_equal(after[name], before[name]) for name in before)
    assert before["levels"].tolist() == list(levels)
    report = flow(*command[1:], "--json").report()
    assert report["verdict"]["compared"] in ([*levels], [*levels[::-1]])
    first = report["verdict"]["first_divergence"]
    assert (first["levels"], first["nonzero_inputs"]) == ([*levels], np.count_nonzero(before["codes"]))


def place(text: str) -> str:
    """Return op, element and codes as a report states them."""
    found = re.search(r"first at op .*", text)
    assert found is not None
    return found.group()


def test_levels_that_are_equal(run: Path) -> None:
    for levels in (("reference", "qkeras"), ("csim", "qkeras")):
        report = flow("compare", run, "--levels", *levels, "--json").report()
        assert report["verdict"]["bit_exact"] is True and report["verdict"]["first_divergence"] is None
        assert set(report["verdict"]["compared"]) == set(levels)
        assert (report["verdict"]["samples"], report["verdict"]["adversarial_samples"]) == (100, 64)
        assert report["accuracy"]["qkeras"] is not None


def test_a_counterexample_is_kept_by_a_run_of_other_inputs(run: Path) -> None:
    """Only a comparison over all inputs says that there is none any more."""
    weights = run / "project/firmware/weights/w4.txt"
    honest = weights.read_text()
    break_weight(run)
    flow("compare", run)
    weights.write_text(honest)
    alone = flow("compare", run, "--inputs", run / "counterexample.npz")
    assert alone.code == 0 and "BIT EXACT" in alone.out and (run / "counterexample.npz").exists()
    assert flow("compare", run).code == 0 and not (run / "counterexample.npz").exists()


def test_levels_without_simulation_name_the_changed_file_and_read_no_weight(run: Path) -> None:
    break_weight(run)
    outcome = flow("compare", run, "--levels", "qkeras", "reference", "--json")
    verdict = outcome.report()["verdict"]
    assert (outcome.code, verdict["mismatches"]) == (1, 0)
    assert verdict["file_differences"] == ["firmware/weights/w4.txt: is not as the build wrote it"]


@pytest.mark.parametrize("levels", [("csim", "csim"), ("csim", "cosim"), ("", "reference")])
def test_what_are_not_two_levels_is_refused(run: Path, levels: tuple[str, str]) -> None:
    refused(flow("compare", run, "--levels", *levels), "not two of qkeras, reference, csim")


def test_one_level_is_a_usage_error(run: Path) -> None:
    assert flow("compare", run, "--levels", "csim").code == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "no array 'codes'"),
        ({"codes": np.zeros((1, 64))}, "float64; give integers"),
        ({"codes": np.zeros((0, 64), np.int64)}, "0 samples"),
        ({"codes": np.zeros((2, 63), np.int64)}, "shape (63,) per sample, the model takes (64,)"),
        ({"codes": np.full((2, 64), 16)}, "outside the format"),
        (None, "cannot be read"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(run: Path, arrays: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    if arrays is not None:
        np.savez(path, **arrays)
    refused(flow("compare", run, "--inputs", path), "x.npz", words)


@pytest.mark.parametrize("damage", ["gone", "changed", "more"])
def test_a_run_without_its_model_is_refused_where_qkeras_is_asked_for(run: Path, damage: str) -> None:
    model = run / "model" / "trained.json"
    if damage == "gone":
        model.unlink()
    elif damage == "changed":
        model.write_text(model.read_text() + " ")
    else:
        (run / "model" / "other").write_text("")
    refused(flow("compare", run, "--levels", "qkeras", "csim"), "the model is missing or was changed")
    assert flow("compare", run).code == 0
    output = run.parents[2]
    assert flow("build", "digits_mlp", "--output", output, "--samples", 100, "--adversarial", 64).code == 0
    assert flow("compare", run, "--levels", "qkeras", "reference").code == 0, "a build puts it back"


def test_without_tensorflow_it_is_a_missing_tool(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, *graphs: object) -> object:
        raise ToolMissingError("TensorFlow is not installed")

    monkeypatch.setattr("flow.sources.Source.inference", missing)
    refused(flow("compare", run, "--levels", "qkeras", "reference"), "TensorFlow is not installed", code=3)


def test_stored_results_of_a_level_that_is_gone_are_compared_unshrunk(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build reuses QKeras' stored results; where they differ, only the shrinking needs the model itself."""

    def missing(self: object, *graphs: object) -> object:
        raise ToolMissingError("TensorFlow is not installed")

    monkeypatch.setattr("flow.sources.Source.inference", missing)
    opened = open_run(run)
    graph, _ = stored_graph(opened)
    site = Site(run, graph, Target())
    port, _ = stored_inputs(opened)
    own = open_level(site, "reference")(port.codes)
    wrong = {name: codes.copy() for name, codes in own.codes.items()}
    wrong["dense1"][5, 2] += 1
    found = find_divergence(site, own, [type(own)(level="qkeras", codes=wrong)])
    assert found is not None and (found.op, found.sample, found.index) == ("dense1", 5, (2,))
    assert np.array_equal(found.counterexample, port.codes[5])


def test_a_model_is_kept_without_its_inputs(tmp_path: Path) -> None:
    source = find_source(Path("digits_mlp"), weights=None, cache=tmp_path / "cache")
    keep(source, tmp_path / "model")
    again = kept(tmp_path / "model")
    assert again.trained.digest() == source.trained.digest() and again.keras_file is None
    assert again.trained.verification_inputs is None


def test_files_of_a_user_are_kept(tmp_path: Path) -> None:
    """A copy of the Keras files lies in the run, whatever becomes of the user's own."""
    source = find_source(Path("digits_mlp"), weights=None, cache=tmp_path / "cache")
    (tmp_path / "arch.json").write_text("{}")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "inside").write_text("x")
    for keras_file, weights in ((tmp_path / "arch.json", tmp_path / "arch.json"), (tmp_path / "saved", None)):
        keep(type(source)(trained=source.trained, keras_file=keras_file, weights=weights), tmp_path / "model")
        again = kept(tmp_path / "model")
        assert again.keras_file == tmp_path / "model" / "keras" / keras_file.name
        assert again.weights == (tmp_path / "model" / "weights" / "arch.json" if weights else None)
    assert (tmp_path / "model" / "keras" / "saved" / "inside").read_text() == "x"


@pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
def test_a_users_model_is_compared_after_its_file_is_gone(tmp_path: Path) -> None:
    keras = pytest.importorskip("fixtures_keras")
    path = keras.save(keras.sequential((6,), *keras.mlp_parts()), tmp_path / "model.h5")
    x = keras.array(tmp_path / "x.npy", np.random.default_rng(1).normal(0, 0.5, (20, 6)).astype(np.float32))
    built = flow("build", path, "--inputs", x, "--output", tmp_path / "runs", "--adversarial", 64, "--until", "report")
    assert built.code == 0, built
    path.unlink()
    (run,) = run_directories(tmp_path / "runs")
    outcome = flow("compare", run, "--levels", "qkeras", "reference", "--json")
    assert outcome.code == 0 and outcome.report()["verdict"]["bit_exact"] is True
    assert (run / "model" / "keras" / "model.h5").exists()


# -- a run that is only read


@pytest.fixture
def read_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run on a disk that takes no writes."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    return run


def test_a_finished_run_that_is_only_read_is_reported_and_compared(read_only: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    told = flow("report", read_only)
    assert told.code == 0 and "BIT EXACT" in told.out
    assert f"its page is not written again: {read_only}/report.html: cannot be written (Read-only file" in told.out
    alone = flow("compare", read_only)
    assert alone.code == 0 and "BIT EXACT" in alone.out and alone.err == ""
    assert {path: path.stat().st_mtime_ns for path in read_only.rglob("*")} == before


def test_a_run_that_is_only_read_and_has_no_simulation(read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(read_only / "csim")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", tempfile.NamedTemporaryFile)
    said = refused(flow("compare", read_only), "its simulation cannot be made in a run that is only read")
    assert said.endswith("; compare a copy of it\n")


def test_a_difference_in_a_run_that_is_only_read_is_told_all_the_same(read_only: Path) -> None:
    break_weight(read_only)
    told = flow("compare", read_only)
    assert told.code == 1 and "DIFFERENT" in told.out
    assert "counterexample.npz is not of this comparison" in told.out and "is not kept in the run" in told.out


def test_a_project_that_is_a_file(run: Path) -> None:
    shutil.rmtree(run / "project")
    (run / "project").write_text("")
    refused(flow("compare", run), f"{run}/project: is not a directory; run again: flow build digits_mlp --samples")
