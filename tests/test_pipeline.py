"""Builds from end to end: exact on every target, resumable after any stop, never fooled by what lies on disk."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import built_digits, copy_of_digits, flow, needs_compiler, refused, run_directories

import flow as api
from flow import files, runs, sources
from flow.backends.hls4ml import csim
from flow.errors import InputError, ModelFileError, OutputError, SpecError, ToolMissingError
from flow.frontend.base import front_end
from flow.frontend.trained import save_trained
from flow.ir.graph import from_json
from flow.pipeline import UNTIL, BuildOptions, build, compare_run, load_report
from flow.pipeline.reporting import key_of_written
from flow.pipeline.stages import BUILD, COMPARE, QUANTIZE, WANTED
from flow.project import read
from flow.report.record import Report
from flow.sources import find_source
from flow.target import Target
from flow.train import quiet_warnings
from flow.verification.levels import stored_graph

pytestmark = needs_compiler
STAGES = ["extract", "emit", "inputs", "reference", "qkeras", "csim_compile", "csim_run", "compare", "estimate"]
SMALL = {"samples": 30, "adversarial": 32}


# every model on every target

TARGETS = [("Vitis", "Latency"), ("Vitis", "Resource"), ("Vivado", "Latency"), ("Vivado", "Resource")]
SHORT = {
    ("digits_mlp", "Vitis", "Latency", "io_parallel"),
    ("digits_mlp", "Vivado", "Resource", "io_parallel"),
    ("fashion_cnn", "Vitis", "Latency", "io_stream"),
    ("mnist_mlp", "Vitis", "Latency", "io_parallel"),
}
MATRIX = [
    *((model, *target, "io_parallel") for model in ("digits_mlp", "fashion_cnn", "mnist_mlp") for target in TARGETS),
    *(("fashion_cnn", *target, "io_stream") for target in TARGETS),
]


def exact(model: str, backend: str, strategy: str, io_type: str, output: Path, options: dict[str, int]) -> None:
    target = Target(backend=backend, strategy=strategy, io_type=io_type)
    with quiet_warnings():
        report = build(model, target, BuildOptions(output=output, **options)).document
    verdict = report["verdict"]
    assert verdict["bit_exact"] is True, verdict
    assert verdict["compared"] == ["qkeras", "reference", "csim"]
    assert verdict["mismatches"] == 0
    assert verdict["first_divergence"] is None
    assert [layer["mismatches"] for layer in report["layers"]] == [0] * len(report["layers"])
    assert (verdict["samples"], verdict["adversarial_samples"]) == (options["samples"], options["adversarial"])
    assert report["accuracy"]["qkeras"] == report["accuracy"]["hardware"]
    assert report["accuracy"]["hardware"] > 0.8
    assert report["sparsity"] == pytest.approx(zeros_in_files(output, report))


def zeros_in_files(output: Path, report: dict[str, Any]) -> float:
    """Return the fraction of zeros over the weight files of a project, as text."""
    weights = Path(report["project"]["path"]) / "firmware" / "weights"
    graph = from_json(json.loads((weights.parents[2] / "graph.json").read_text()))
    computing = [op.name for op in graph.ops if hasattr(op, "weight")]
    files = sorted(weights.glob("w*.txt"), key=lambda path: int(path.stem[1:]))
    assert len(files) == len(computing)
    numbers = [[float(text) for text in path.read_text().split(",")] for path in files]
    if report["project"]["strategy"] == "Latency":
        for layer, values in zip([each for each in report["layers"] if each["weights"]], numbers, strict=True):
            assert layer["weights"] == len(values)
            assert layer["sparsity"] == values.count(0.0) / len(values)
    return sum(values.count(0.0) for values in numbers) / sum(map(len, numbers))


@pytest.mark.parametrize("case", sorted(SHORT), ids="-".join)
def test_bit_exact(case: tuple[str, str, str, str], tmp_path: Path) -> None:
    cnn = case[0] == "fashion_cnn"
    exact(*case, tmp_path, {"samples": 200 if cnn else 360 if case[0] == "digits_mlp" else 300, "adversarial": 1024})


@pytest.mark.slow
@pytest.mark.parametrize("case", MATRIX, ids="-".join)
def test_bit_exact_on_many_samples(case: tuple[str, str, str, str], tmp_path: Path) -> None:
    exact(*case, tmp_path, {"samples": 360 if case[0] == "digits_mlp" else 2000, "adversarial": 2048})


# stopped and started again


class Stop:
    """Interrupts a build when a stage begins."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __call__(self, stage: str) -> None:
        if stage == self.stage:
            raise KeyboardInterrupt


def keep_compiled(output: Path, other: Path) -> None:
    """Put what was compiled where a build to another output directory will look for it, to save seconds."""
    run = run_directories(output)[0]
    shutil.copytree(run / "csim", other / run.relative_to(output) / "csim")


def comparable(report: Report) -> dict[str, Any]:
    """Return a report without times and places."""
    kept = {key: value for key, value in report.document.items() if key not in ("timings_s", "run_dir", "project")}
    return {**kept, "provenance": {**kept["provenance"], "commands": None}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    output = tmp_path_factory.mktemp("whole")
    with quiet_warnings():
        return output, build("digits_mlp", options=BuildOptions(output=output, **SMALL))


def test_stages_are_announced_in_order(whole: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    shutil.rmtree(run_directories(tmp_path / "runs")[0] / "project")
    seen: list[str] = []
    build("digits_mlp", options=BuildOptions(output=tmp_path / "runs", **SMALL), announce=seen.append)
    assert seen == ["extract", "emit"], "all but the project was there"
    (run_directories(tmp_path / "runs")[0] / "manifest.json").unlink()
    seen.clear()
    build("digits_mlp", options=BuildOptions(output=tmp_path / "runs", **SMALL), announce=seen.append)
    assert seen == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_build_goes_on(whole: tuple[Path, Report], stage: str, tmp_path: Path) -> None:
    """A stop at each stage, by a signal, leaves nothing that is taken for whole."""
    options = BuildOptions(output=tmp_path, **SMALL)
    keep_compiled(whole[0], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build("digits_mlp", options=options, announce=Stop(stage))
    found = run_directories(tmp_path)
    if found:
        with pytest.raises(InputError, match="again"):
            load_report(found[0])
    with quiet_warnings():
        again = build("digits_mlp", options=options)
    assert comparable(again) == comparable(whole[1])
    first, second = (run_directories(output)[0] for output in (whole[0], tmp_path))
    assert read(first / "project", "").digest() == read(second / "project", "").digest()
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("name", ["graph.json", "inputs.npz", "qkeras.npz", "report.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "other"])
def test_a_damaged_file_is_made_again(whole: tuple[Path, Report], tmp_path: Path, name: str, damage: str) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    run = run_directories(tmp_path / "runs")[0]
    path = run / name
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        other = b"[1, 2]" if name.endswith("json") else b"PK\x05\x06" + b"\0" * 18
        path.write_bytes({"empty": b"", "half": before[: len(before) // 2], "other": other}[damage])
    if name in ("graph.json", "inputs.npz", "manifest.json"):
        refused(flow("compare", run), str(run))
    if name in ("report.json", "manifest.json"):
        refused(flow("report", run), str(run))
    again = build("digits_mlp", options=BuildOptions(output=tmp_path / "runs", **SMALL))
    assert comparable(again) == comparable(whole[1])
    assert comparable(load_report(run)) == comparable(whole[1])
    assert compare_run(run).bit_exact is True


def test_an_edited_project_file_is_written_again(whole: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    defines = run_directories(tmp_path / "runs")[0] / "project/firmware/defines.h"
    before = defines.read_text()
    defines.write_text(before.replace("AP_RND_CONV", "AP_TRN"))
    (defines.parent / "more.h").write_text("// mine")
    assert build("digits_mlp", options=BuildOptions(output=tmp_path / "runs", **SMALL)).bit_exact is True
    assert defines.read_text() == before
    assert not (defines.parent / "more.h").exists()


def test_a_partial_build_is_not_taken_for_a_whole_one(whole: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    options = BuildOptions(output=tmp_path / "runs", **SMALL)
    part = build("digits_mlp", options=BuildOptions(output=tmp_path / "runs", until="emit", **SMALL))
    assert part.bit_exact is None
    assert part.document["verdict"]["compared"] == []
    assert comparable(build("digits_mlp", options=options)) == comparable(whole[1])


def test_other_inputs_are_run_anew(whole: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    report = build("digits_mlp", options=BuildOptions(output=tmp_path / "runs", samples=31, adversarial=33))
    assert report.document["verdict"]["samples"] == 31
    assert report.document["verdict"]["adversarial_samples"] == 33
    assert len(run_directories(tmp_path / "runs")) == 1


def test_a_moved_run_says_where_it_lies_now(whole: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "elsewhere")
    run = run_directories(tmp_path / "elsewhere")[0]
    document = load_report(run).document
    assert document["run_dir"] == str(run)
    assert document["project"]["path"] == str(run / "project")


def test_qkeras_is_tried_again_when_it_was_missing(
    whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    (run_directories(tmp_path / "runs")[0] / "qkeras.npz").unlink()
    options = BuildOptions(output=tmp_path / "runs", samples=29, adversarial=32)

    def missing(*_: object) -> None:
        raise ToolMissingError("package 'tensorflow' cannot be imported; run: pip install 'po2flow[train]'")

    with monkeypatch.context() as without:
        without.setattr(sources.Source, "inference", missing)
        report = build("digits_mlp", options=options)
    assert report.bit_exact is True
    assert report.document["verdict"]["compared"] == ["reference", "csim"]
    assert any("pip install" in note for note in report.document["notes"])
    assert report.document["accuracy"]["qkeras"] is None
    with quiet_warnings():
        again = build("digits_mlp", options=options)
    assert again.document["verdict"]["compared"] == ["qkeras", "reference", "csim"]
    assert not again.document["notes"]


# places that cannot be written


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below", Path("/proc/flow_runs")):
        refused(flow("build", "digits_mlp", "--output", place, "--until", "emit"), str(place))
    assert file.read_text() == ""


def full_disk(after: int) -> Callable[..., Any]:
    """Return a stand-in for `os.replace` (the last step of every write here) that fails the n-th time."""
    count = [0]
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        count[0] += 1
        if count[0] == after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    return replace


@pytest.mark.parametrize("after", range(1, 9))
def test_a_full_disk_is_one_line_and_the_next_build_is_whole(
    whole: tuple[Path, Report], after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("build", "digits_mlp", "--output", tmp_path / "runs", "--samples", 30, "--adversarial", 32, "--json")
    keep_compiled(whole[0], tmp_path / "runs")
    with monkeypatch.context() as full:
        full.setattr(os, "replace", full_disk(after))
        refused(flow(*command), "No space left on device")
    assert not list(tmp_path.rglob(".writing-*"))
    assert comparable(Report(flow(*command).report())) == comparable(whole[1])


def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.RunDirectory(tmp_path)
    run.write_text("report.md", "whole")
    with pytest.raises(OutputError, match="No space left"), files.writing(tmp_path / "report.md") as file:
        file.write(b"ha")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "report.md").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


# sabotage


def edit(path: Path, old: str, new: str) -> Callable[[], None]:
    """Replace the first occurrence of a text in a file; return what undoes it."""
    before = path.read_text()
    assert old in before, f"{old} is not in {path.name}"
    path.write_text(before.replace(old, new, 1))
    return lambda: path.write_text(before) and None


def flip_weight(project: Path) -> Callable[[], None]:
    """Turn the sign of the first non-zero weight of the first layer, in the file that the simulation reads."""
    path = project / "firmware/weights/w2.txt"
    first = re.search(r"-?\d*\.?\d*[1-9]\d*", path.read_text())
    assert first is not None
    text = first.group()
    return edit(path, text, text.removeprefix("-") if text.startswith("-") else f"-{text}")


def narrow(project: Path) -> Callable[[], None]:
    path = project / "firmware/defines.h"
    found = re.search(r"ap_fixed<(\d+),(-?\d+)> dense1_accum_t", path.read_text())
    assert found is not None
    width, integer = int(found[1]), int(found[2])
    return edit(path, found.group(), f"ap_fixed<{width - 3},{integer - 3}> dense1_accum_t")


def changed_mode(op: str, old: str, new: str) -> Callable[[Path], Callable[[], None]]:
    def apply(project: Path) -> Callable[[], None]:
        path = project / "firmware/defines.h"
        line = next(line for line in path.read_text().splitlines() if line.endswith(f" {op};"))
        return edit(path, line, line.replace(old, new))

    return apply


SABOTAGE: dict[str, tuple[str, str, Callable[[Path], Callable[[], None]]]] = {
    "weight": ("dense1", "weight", flip_weight),
    "rounding": ("dense1", "output type", changed_mode("layer2_t", "AP_RND_CONV", "AP_TRN")),
    "overflow": ("dense2", "output type", changed_mode("layer3_t", "AP_SAT", "AP_WRAP")),
    "accumulator": ("dense1", "accumulator", narrow),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_sabotage_is_caught_and_named(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, what: str) -> None:
    op, words, sabotage = SABOTAGE[what]
    run = copy_of_digits(tmp_path_factory, tmp_path)
    undo = sabotage(run / "project")
    outcome = flow("compare", run, "--json")
    assert outcome.code == 1, outcome
    report = outcome.report()
    verdict = report["verdict"]
    assert verdict["bit_exact"] is False
    assert verdict["mismatches"] > 0
    assert verdict["first_divergence"]["op"] == op
    assert verdict["first_divergence"]["levels"] == ["reference", "csim"]
    assert any(f"op '{op}'" in line and words in line for line in verdict["file_differences"])
    assert next(layer for layer in report["layers"] if layer["name"] == op)["mismatches"] > 0
    text = flow("compare", run)
    assert text.code == 1
    assert "DIFFERENT" in text.out
    assert f"first at op '{op}'" in text.out
    reproduces(run, verdict["first_divergence"])
    undo()
    restored = flow("compare", run, "--json")
    assert restored.code == 0, restored
    assert restored.report()["verdict"]["bit_exact"] is True
    assert restored.report()["verdict"]["file_differences"] == []
    assert not (run / "counterexample.npz").exists()


def reproduces(run: Path, divergence: dict[str, Any]) -> None:
    """Check that the stored counterexample alone makes the two levels differ at the op."""
    with np.load(run / "counterexample.npz") as archive:
        codes, op, levels = archive["codes"], str(archive["op"]), archive["levels"].tolist()
    assert (op, levels) == (divergence["op"], divergence["levels"])
    assert len(codes) == 1
    assert np.count_nonzero(codes) == divergence["nonzero_inputs"]
    graph, _ = stored_graph(runs.open_run(run))
    key = csim.sources_digest(read(run / "project", graph.name))
    program = csim.compile_project(run / "project", graph.name, run / "csim", key)
    simulated = csim.run(program[0] if isinstance(program, tuple) else program, run / "project", graph, codes)
    assert (simulated.codes[op] != api.run_reference(graph, codes).codes[op]).any()


def test_weights_for_synthesis_are_read_back_too(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """`w2.h` is what a synthesis tool reads; the simulation reads `w2.txt`, so only the read-back can see it."""
    run = copy_of_digits(tmp_path_factory, tmp_path)
    path = run / "project/firmware/weights/w2.h"
    number = re.search(r"-?0\.\d*[1-9]\d*", path.read_text().split("{", 1)[1])
    assert number is not None
    head, body = path.read_text().split("{", 1)
    path.write_text(head + "{" + body.replace(number.group(), "0.0", 1))
    outcome = flow("compare", run, "--json")
    assert outcome.code == 1
    assert any("'dense1'" in line and "w2.h" in line for line in outcome.report()["verdict"]["file_differences"])


@pytest.mark.parametrize(
    ("name", "content"),
    [("firmware/parameters.h", None), ("firmware/weights/w3.txt", "garbage"), ("firmware/defines.h", "")],
)
def test_project_files_that_cannot_be_read_back(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str, content: str | None
) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    path = run / "project" / name
    path.unlink() if content is None else path.write_text(content)
    outcome = flow("compare", run, "--json")
    assert "Traceback" not in outcome.err
    assert outcome.code == 1, outcome
    assert outcome.report()["verdict"]["file_differences"]


# where models come from


def test_a_name_in_a_trained_model_does_not_leave_the_output_directory(tmp_path: Path) -> None:
    digits = find_source(Path("digits_mlp"), weights=None, cache=tmp_path / "cache")
    directory = tmp_path / "model"
    shutil.copytree(api_model_dir(), directory)
    trained = digits.trained
    save_trained(
        type(trained)(
            name="../../evil",
            class_name=trained.class_name,
            config=trained.config,
            weights=trained.weights,
            verification_inputs=trained.verification_inputs,
            verification_labels=trained.verification_labels,
        ),
        directory,
    )
    outcome = flow("build", directory, "--until", "emit", "--output", tmp_path / "a/b/runs", "--json")
    assert outcome.code == 0, outcome
    assert Path(outcome.report()["run_dir"]).resolve().is_relative_to((tmp_path / "a/b/runs").resolve())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "model"]


def api_model_dir() -> Path:
    from flow.train.spec import find_model_dir

    return find_model_dir("digits_mlp")


def test_a_spec_without_its_trained_model(tmp_path: Path) -> None:
    shutil.copy(api_model_dir() / "spec.toml", tmp_path)
    refused(flow("build", tmp_path), "flow train")
    shutil.copy(api_model_dir() / "trained.json", tmp_path)
    refused(flow("build", tmp_path), "not a readable trained model")
    (tmp_path / "trained.npz").write_bytes((api_model_dir() / "trained.npz").read_bytes()[:500])
    refused(flow("build", tmp_path / "spec.toml"), "not a readable trained model")


def test_the_api_gives_what_the_command_gives(tmp_path_factory: pytest.TempPathFactory) -> None:
    output, outcome = built_digits(tmp_path_factory)
    report = api.build("digits_mlp", options=api.BuildOptions(output=output, samples=100, adversarial=64))
    assert report.document["verdict"] == outcome.report()["verdict"]
    assert report.exit_code == 0
    assert report.to_json() == load_report(run_directories(output)[0]).to_json()


# the lists of stages

LISTS = {
    "build": (BUILD, {"model", "asked", "options", "announce", "held"}),
    "quantize": (QUANTIZE, {"model", "asked", "options", "announce", "held"}),
    "compare": (COMPARE, {"run", "stored", "asked_levels", "asked_inputs"}),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_a_stage_needs_is_made_before_it_or_given(name: str) -> None:
    """No value is made twice, and no stage waits for one that waits for it."""
    stages, known = LISTS[name][0], LISTS[name][1] | {"clock"}
    made = [stage.makes for stage in stages]
    assert len(set(made)) == len(made) and not known & set(made)
    waiting = list(stages)
    while ready := [stage for stage in waiting if stage.needs <= known]:
        known = known | {stage.makes for stage in ready}
        waiting = [stage for stage in waiting if stage not in ready]
    assert not waiting, {stage.makes: stage.needs - known for stage in waiting}


def test_every_stage_that_a_build_may_stop_after_is_known() -> None:
    assert tuple(WANTED) == UNTIL
    for stages, _ in (LISTS["build"], LISTS["quantize"]):
        assert {name for names in WANTED.values() for name in names} <= {stage.makes for stage in stages}


def test_a_comparison_reads_the_project_before_it_runs_it(whole: tuple[Path, Report], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "runs")
    run, seen = run_directories(tmp_path / "runs")[0], []
    compare_run(run, seen.append)
    assert seen == ["readback", "reference", "csim_compile", "csim_run", "compare"]
    (run / "inputs.npz").unlink()
    with pytest.raises(SpecError, match="'a' and 'b' are not two of"):
        compare_run(run, levels=("a", "b"))


def test_a_report_of_tools_without_software_is_not_taken_for_whole() -> None:
    document = {"verdict": {"compared": ["reference", "csim"]}, "quantization": None}
    assert key_of_written(Report(document), "key") != "key"
    document["verdict"]["compared"].insert(0, "qkeras")
    assert key_of_written(Report(document), "key") == "key"


def test_an_unknown_front_end_is_refused() -> None:
    with pytest.raises(ModelFileError, match="front end 'foo' is not known; there are: keras"):
        front_end("foo")


@needs_compiler
@pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
def test_what_is_rounded_on_request_is_exact_in_hardware_and_measured_against_the_model(tmp_path: Path) -> None:
    from fixtures_keras import array, bits, layers, qkeras, save, sequential

    first = qkeras.QDense(4, kernel_quantizer=bits(6, 1, alpha=1), use_bias=False, name="first")
    quantizer = qkeras.QActivation("quantized_relu(6,1)", name="q")
    model = save(sequential((5,), first, quantizer, layers.Dense(3, name="last")), tmp_path / "net.h5")
    x = array(tmp_path / "x.npy", np.random.default_rng(1).normal(0, 1, (40, 5)).astype(np.float32))
    given = ("build", model, "--inputs", x, "--input-format", "fixed<8,3>", "--output", tmp_path, "--adversarial", 16)
    exact, rounded = flow(*given, "--json").report(), flow(*given, "--float-layers", 7, "--json").report()
    assert exact["verdict"]["compared"] == ["qkeras", "reference", "csim"] and exact["approximation"] is None
    assert exact["verdict"]["bit_exact"] and rounded["verdict"]["bit_exact"]
    assert rounded["verdict"]["compared"] == ["reference", "csim"]
    (output,) = rounded["approximation"]["outputs"]
    assert rounded["approximation"]["layers"] == ["last"] and output["compared"] == 40
    assert 0 < output["mean_difference"] < output["largest_difference"] < 0.2
    words = flow(*given, "--float-layers", 7).out
    assert "not exact with qkeras, because last was rounded on request: outputs are at most" in words
    assert "--float-layers 7" in rounded["provenance"]["commands"][-1]


def test_a_build_that_stops_leaves_the_report_of_one_that_compared(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    before = flow("report", run, "--format", "json").report()
    stopped = flow("build", "digits_mlp", "--until", "emit", "--output", run.parents[2])
    assert stopped.code == 0 and "NOT COMPARED" in stopped.out and "stays that of an earlier build" in stopped.out
    assert flow("report", run, "--format", "json").report() == before and before["verdict"]["bit_exact"]
