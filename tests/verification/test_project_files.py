"""Every file of an emitted project is held against what the build wrote, for every back end, and the run says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import Outcome, copy_of_digits, flow, needs_compiler, run_directories

from flow.backends.base import BACKENDS
from flow.errors import InputError, ToolFailedError
from flow.pipeline import BuildOptions, build, load_report
from flow.pipeline.stages import broken, inputs_to_compare
from flow.project import Change
from flow.runs import RunDirectory
from flow.target import Target
from flow.verification.levels import project_changes, stored_graph

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the output directory of a project for a back end; do not change it."""
    made: dict[str, Path] = {}

    def emit(backend: str) -> Path:
        if backend not in made:
            made[backend] = tmp_path_factory.mktemp(backend)
            assert build("digits_mlp", Target(backend=backend), options(made[backend])).bit_exact is None
        return made[backend]

    return emit


def options(output: Path) -> BuildOptions:
    return BuildOptions(until="emit", output=output)


def copied(output: Path, place: Path) -> Path:
    shutil.copytree(output, place / "runs")
    return run_directories(place / "runs")[0]


def changed(run: Path) -> list[tuple[str, str]]:
    return [(change.path, change.how) for change in project_changes(RunDirectory(run))]


def add(path: str, text: str) -> Edit:
    def edit(project: Path) -> None:
        with (project / path).open("a") as file:
            file.write(text)

    return edit


def replace(path: str, old: str, new: str) -> Edit:
    def edit(project: Path) -> None:
        text = (project / path).read_text()
        assert old in text
        (project / path).write_text(text.replace(old, new, 1))

    return edit


def link(path: str) -> Edit:
    def edit(project: Path) -> None:
        (project / path).rename(project.parent / "aside")
        (project / path).symlink_to(project.parent / "aside")

    return edit


TOP, WEIGHTS = "firmware/digits_mlp.cpp", "firmware/weights"
SYNTHESIS = "\n#ifdef __SYNTHESIS__\n#define relu clipped_relu\n#endif\n"
EDITS: Mapping[str, tuple[str, str, str, Edit]] = {
    "only synthesis reads it": ("Vitis", TOP, "changed", add(TOP, SYNTHESIS)),
    "a kernel": ("Vitis", "firmware/nnet_utils/nnet_flow.h", "changed", add("firmware/nnet_utils/nnet_flow.h", "//")),
    "types": ("Vitis", "firmware/defines.h", "changed", add("firmware/defines.h", "#define AP_SAT AP_WRAP\n")),
    "part": ("Vitis", "project.tcl", "changed", replace("project.tcl", "xcvu13p-flga2577-2-e", "xc7z020clg400-1")),
    "clock": ("Vivado", "project.tcl", "changed", replace("project.tcl", "set clock_period 5", "set clock_period 9")),
    "a header in front": ("Vitis", "firmware/ap_fixed.h", "extra", add("firmware/ap_fixed.h", "// mine\n")),
    "a source is gone": ("Vitis", TOP, "missing", lambda project: (project / TOP).unlink()),
    "a link": ("Vitis", f"{WEIGHTS}/w2.txt", "changed", link(f"{WEIGHTS}/w2.txt")),
    "the script": ("Vivado", "build_prj.tcl", "changed", replace("build_prj.tcl", "csynth_design", "# csynth_design")),
    "a weight for synthesis": ("Vitis", f"{WEIGHTS}/w3.h", "changed", add(f"{WEIGHTS}/w3.h", "//")),
    "a weight for simulation": ("Vitis", f"{WEIGHTS}/w3.txt", "changed", add(f"{WEIGHTS}/w3.txt", " ")),
    "Makefile": ("Quartus", "Makefile", "changed", replace("Makefile", "Arria10", "Cyclone10GX")),
    "CMake": ("oneAPI", "CMakeLists.txt", "changed", replace("CMakeLists.txt", "Agilex7", "Stratix10")),
    "Tcl of Libero": ("Libero", "config.tcl", "changed", replace("config.tcl", "CLOCK_PERIOD 5", "CLOCK_PERIOD 9")),
    "Tcl of Catapult": ("Catapult", "build_prj.tcl", "changed", replace("build_prj.tcl", "c++17", "c++11")),
    "a module": ("rtl", "rtl/digits_mlp_dense1.v", "changed", replace("rtl/digits_mlp_dense1.v", "+", "-")),
    "a second module": ("rtl", "rtl/a.v", "extra", add("rtl/a.v", "module digits_mlp_dense1(); endmodule\n")),
    "what the estimate reads": ("rtl", "design.json", "changed", add("design.json", "\n")),
}
"""What is done -> back end, file, how it changed, the edit."""


@pytest.mark.parametrize("what", EDITS)
def test_a_report_says_that_its_project_is_no_longer_there(
    emitted: Callable[[str], Path], tmp_path: Path, what: str
) -> None:
    backend, path, how, edit = EDITS[what]
    run = copied(emitted(backend), tmp_path)
    assert changed(run) == [] and flow("report", run).code == 0
    edit(run / "project")
    assert changed(run) == [(path, how)]
    text = flow("report", run)
    heading, _, verdict, *rest = text.out.splitlines()
    assert text.code == 1 and text.err == "" and heading.endswith("as built: its files changed since")
    assert verdict == "DIFFERENT: 1 file of the project changed since the build wrote it"
    assert f"  file: {Change(path, how)}" in rest
    document = flow("report", run, "--format", "json").report()
    assert document["verdict"]["bit_exact"] is False
    assert document["project"]["changes"] == [{"path": path, "how": how}]
    assert f"{path}: " in (run / "report.html").read_text()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_file_of_a_project_can_change_unseen(emitted: Callable[[str], Path], tmp_path: Path, backend: str) -> None:
    run = copied(emitted(backend), tmp_path)
    files = [path for path in (run / "project").rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes() + b"\n")
    assert changed(run) == sorted((path.relative_to(run / "project").as_posix(), "changed") for path in files)


LEFT = {
    "Vitis": ("digits_mlp_prj/solution1/syn/report/digits_mlp_csynth.rpt", "vitis_hls.log", "vivado.jou", ".Xil/x"),
    "Vivado": ("digits_mlp_prj/hls.app", "vivado_hls.log", "vivado_synth.rpt", "tb_data/csim_results.log"),
    "Quartus": ("digits_mlp-fpga", "digits_mlp-fpga.prj/reports/report.html", "quartus-hlssynt.log", "top.fit.rpt"),
    "Catapult": ("digits_mlp_prj/digits_mlp.v1/rtl.v", "digits_mlp_prj.ccs", "catapult.log", "Catapult.code-workspace"),
    "oneAPI": ("build/CMakeCache.txt", "build/fpga.prj/report.html"),
    "Libero": ("hls_output/rtl/digits_mlp.v", "hls.log"),
    "rtl": ("vivado.log", "vivado.jou", ".Xil/x", "utilization.rpt"),
}
"""Back end -> what its tools leave in the directory of a project when a user runs them there."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_tools_leave_is_no_change_and_survives_a_build(
    emitted: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    run = copied(emitted(backend), tmp_path)
    for path in LEFT[backend]:
        (run / "project" / path).parent.mkdir(parents=True, exist_ok=True)
        (run / "project" / path).write_text("")
    assert changed(run) == [] and load_report(run).bit_exact is None
    note = load_report(run).document["notes"][-1]
    assert all(path.partition("/")[0] in note for path in LEFT[backend]) and "left in its directory by tools" in note
    build("digits_mlp", Target(backend=backend), options(tmp_path / "runs"))
    assert all((run / "project" / path).exists() for path in LEFT[backend])


def test_a_run_of_an_earlier_version_is_held_against_its_one_digest(
    emitted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = copied(emitted("Vitis"), tmp_path)
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["project"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert changed(run) == []
    add("project.tcl", "\n")(run / "project")
    assert changed(run) == [(".", "changed")] and flow("report", run).code == 1
    build("digits_mlp", options=options(tmp_path / "runs"))
    assert changed(run) == [] and "project" in json.loads((run / "manifest.json").read_text())


def test_runs_side_by_side_say_so_too(
    emitted: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = copied(emitted("Vitis"), tmp_path)
    assert flow("report", run, run).code == 0
    add("project.tcl", "\n")(run / "project")
    assert flow("report", run, run).code == 1
    page = Path("comparison.html").read_text()
    assert "Different" in page and "Shown as built, but files of the project changed since: 1, 2." in page


def test_a_run_without_inputs_of_its_own_takes_those_of_a_file(emitted: Callable[[str], Path], tmp_path: Path) -> None:
    run = RunDirectory(run_directories(emitted("Vitis"))[0])
    np.savez(tmp_path / "codes.npz", codes=np.ones((3, 64), np.int64))
    port, adversarial = inputs_to_compare(run, stored_graph(run)[0], tmp_path / "codes.npz")
    assert len(port.codes) == 3 and adversarial.shape == (0, 64)
    with pytest.raises(InputError, match="stopped before its inputs were made"):
        inputs_to_compare(run, stored_graph(run)[0], None)


# what a comparison finds


@needs_compiler
def test_a_comparison_names_files_that_no_simulation_reads(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    replace("project.tcl", "xcvu13p", "xcvu9p")(run / "project")
    replace(f"{WEIGHTS}/w3.h", "-0.25", "-0.125")(run / "project")
    outcome = flow("compare", run)
    heading, _, verdict, *rest = outcome.out.splitlines()
    assert outcome.code == 1 and heading.endswith(", as built: its files changed since")
    assert verdict == (
        "DIFFERENT: 2 files of the project changed since the build wrote it; "
        "no output element differs between reference, csim, over 100 inputs and 64 adversarial inputs"
    )
    files = [line.strip() for line in rest if line.startswith("  file: ")]
    assert files[:2] == [
        "file: firmware/weights/w3.h: is not as the build wrote it",
        "file: project.tcl: is not as the build wrote it",
    ]
    assert "w3.h is code -1, the graph says code -2" in files[2]


@needs_compiler
@pytest.mark.parametrize("path", [f"{WEIGHTS}/w3.txt", "firmware"])
def test_a_project_that_cannot_be_run_any_more_is_different(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, path: str
) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    gone = run / "project" / path
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    verdict = differs(flow("compare", run, "--json"))
    assert verdict["mismatches"] is None and verdict["compared"] == ["reference"]
    (said,) = (line for line in verdict["file_differences"] if line.startswith("csim cannot be run: "))
    assert ".writing-" not in said, "that place is gone by now"
    assert any(line == str(Change(path, "missing")) for line in verdict["file_differences"]) or path == "firmware"


def test_a_changed_module_is_named_once(emitted: Callable[[str], Path], tmp_path: Path) -> None:
    run = copied(emitted("rtl"), tmp_path)
    add("rtl/digits_mlp.v", "// mine\n")(run / "project")
    np.savez(tmp_path / "codes.npz", codes=np.ones((1, 64), np.int64))
    verdict = differs(flow("compare", run, "--json", "--inputs", tmp_path / "codes.npz"))
    assert verdict["file_differences"] == [str(Change("rtl/digits_mlp.v", "changed"))] and verdict["mismatches"] == 0


def test_a_tool_that_fails_on_an_unchanged_project_is_an_error() -> None:
    error = ToolFailedError("g++ failed with status 1:\n  in file x\n  a.cpp:1: error: no y\n   ^")
    with broken((Change("a.cpp", "changed"),)) as failed:
        raise error
    assert failed == ["g++ failed with status 1: a.cpp:1: error: no y"]
    with pytest.raises(ToolFailedError), broken(()):
        raise error


def differs(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 1, outcome
    verdict: dict[str, Any] = outcome.report()["verdict"]
    assert verdict["bit_exact"] is False
    return verdict


@needs_compiler
def test_what_a_comparison_found_stays_with_the_run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    before = load_report(run)
    other = tmp_path / "other.npz"
    np.savez(other, codes=np.ones((3, 64), np.int64))
    replace(f"{WEIGHTS}/w2.txt", "-0.25", "-4")(run / "project")
    found = differs(flow("compare", run, "--json"))
    assert found["mismatches"] > 0 and found["found_since"] == []
    for _ in range(2):  # nor does another comparison of the same add to it
        stored = json.loads((run / "report.json").read_text())
        assert [entry["verdict"]["mismatches"] for entry in stored["verdict"]["found_since"]] == [found["mismatches"]]
        assert (stored["verdict"]["bit_exact"], stored["verdict"]["mismatches"]) == (False, 0), "the build's stand"
        differs(flow("compare", run, "--json"))
    differs(flow("compare", run, "--json", "--inputs", other))
    text = flow("report", run)
    assert text.code == 1 and "flow compare found 2 differences, the last at " in text.out
    assert "over 100 inputs and 64 adversarial inputs (digits test set); first at op 'dense1'" in text.out
    assert f"over 3 inputs and 0 adversarial inputs ({other})" in text.out
    assert "before that: BIT EXACT: qkeras (float32) = reference = csim" in text.out
    for name in ("report.md", "report.html"):
        assert "flow compare found 2 differences, the last at " in (run / name).read_text()
    replace(f"{WEIGHTS}/w2.txt", "-4", "-0.25")(run / "project")
    text = flow("report", run)
    assert text.code == 0 and text.out.startswith(before.document["model"]) and "flow compare at" not in text.out
    again = flow("compare", run, "--json", "--inputs", other)
    assert again.code == 0 and again.report()["inputs"]["source"] == str(other)
    assert load_report(run).to_json() == before.to_json(), "restored files settle what was found with others"


@needs_compiler
def test_a_build_settles_what_a_comparison_found(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    before = load_report(run).document["verdict"]
    add("project.tcl", "\n")(run / "project")
    differs(flow("compare", run, "--json"))
    command = ("build", "digits_mlp", "--samples", 100, "--adversarial", 64, "--output", tmp_path / "runs")
    assert flow(*command).code == 0
    assert changed(run) == [] and load_report(run).document["verdict"] == before
    assert flow("report", run).code == 0
