"""What a vendor's tool is given to run: the whole of every script as a golden file, run against stubs of the tools.

No vendor's tool is here. A script's own language is: Tcl, make and CMake run each one, with commands in place of the
tools that write down how they were called and find out whether the files that they were given are there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from conftest import TESTS, Golden, needs_compiler
from nets import Net, u
from test_emit import branches
from test_other_backends import tiny

from flow.backends import vivado
from flow.backends.base import BACKENDS
from flow.backends.functions import functions
from flow.backends.hls4ml import csynth
from flow.backends.hls4ml.dialects import DIALECTS
from flow.errors import UnsupportedError
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import IO_TYPES, Target

SCRIPTS = {
    "Vitis": ("build_opt.tcl", "build_prj.tcl", "project.tcl", "vivado_synth.tcl"),
    "Vivado": ("build_prj.tcl", "project.tcl", "vivado_synth.tcl"),
    "Quartus": ("Makefile",),
    "Catapult": ("build_prj.tcl",),
    "oneAPI": ("CMakeLists.txt",),
    "Libero": ("Makefile", "config.tcl"),
    "rtl": (),
}
"""All that a back end's tool runs; its other files are sources and data."""
NO_SCRIPT = (".h", ".hpp", ".cpp", ".tb", ".v", ".json", ".dat", ".md", "LICENSE")
TARGETS = [
    Target(backend=name, io_type=io_type)
    for name in BACKENDS
    for io_type in (DIALECTS[name].io_types if name in DIALECTS else IO_TYPES)
]
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not on PATH")


@cache
def emitted(target: Target) -> Project:
    """Return the project of a small graph."""
    return functions(target).emit(tiny(dense_only=target.backend == "Libero"), target)


def written(target: Target, directory: Path) -> Path:
    write(emitted(target), directory / "project")
    return directory / "project"


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_script_is_what_it_was_and_there_are_no_others(target: Target, golden: Golden) -> None:
    """A script is the same for both interfaces, holds no word of Python or of the template, and names what is there."""
    project = emitted(target)
    data = re.compile(r"(.*/)?weights/\w+\.txt|firmware/layer_summary\.txt")
    scripts = [path for path in project.files if not path.endswith(NO_SCRIPT) and not data.fullmatch(path)]
    assert sorted(scripts) == sorted(SCRIPTS[target.backend])
    for path in scripts:
        text = project.text(path)
        golden(f"scripts/{target.backend}/{path}", text)
        assert not re.search(r"\b(None|nan|inf|True|False|myproject|mystamp)\b", text), path
        assert named_files(text) <= set(project.files), path


def named_files(text: str) -> set[str]:
    """Return the files of a project that a script names, less those that tools make or that lie in their folders."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    spelled = "\n".join(lines).replace("${project_name}", "tiny").replace("../../../../project.tcl", "project.tcl")
    spelled = re.sub(r"\$(sfd|tcldir)/", "", spelled)
    paths = re.findall(r"(?<![\w/}$.-])(?:[\w.-]+/)*\w+\.(?:cpp|hpp|h|tcl|txt|dat|v)\b", spelled)
    return {path for path in paths if not path.startswith(("tiny_prj/", "vivado_concat_v/"))} - {"run_sim.tcl"}


TCL = {
    "Vitis": [("build_prj.tcl", ()), ("vivado_synth.tcl", ())],
    "Vivado": [
        ("build_prj.tcl", ()),
        ("build_prj.tcl", (csynth.command_line_steps(),)),
        ("vivado_synth.tcl", ()),
    ],
    "Catapult": [("build_prj.tcl", ()), ("build_prj.tcl", ("csim=1", "cosim=1", "bup=1"))],
}


def run_tcl(script: str, arguments: tuple[str, ...], directory: Path) -> str:
    """Return the calls that a script makes."""
    stubs = [str(TESTS / "data/vendor_stubs.tcl"), "calls.txt", script, *arguments]
    run = subprocess.run(["tclsh", *stubs], cwd=directory, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return (directory / "calls.txt").read_text().replace(str(directory), "PROJECT")


@needs_tcl
@pytest.mark.parametrize("backend", TCL)
def test_scripts_in_tcl_call_what_they_should(backend: str, tmp_path: Path, golden: Golden) -> None:
    directory = written(Target(backend=backend), tmp_path)
    calls = [
        f"# {script} {' '.join(arguments)}\n{run_tcl(script, arguments, directory)}"
        for script, arguments in TCL[backend]
    ]
    golden(f"scripts/{backend}/calls.txt", "\n".join(calls))


@needs_tcl
def test_c_synthesis_as_we_run_it(tmp_path: Path, golden: Golden) -> None:
    directory = written(Target(), tmp_path)
    for path, text in csynth.own_files(Target()).items():
        (directory / path).write_text(text)
        golden(f"scripts/csynth/{path}", text)
    golden("scripts/csynth/calls.txt", run_tcl("build_prj.tcl", (), directory))


@needs_tcl
def test_synthesis_by_vivado_as_we_run_it(tmp_path: Path, golden: Golden) -> None:
    target = Target(part="xc7z020clg400-1", clock_period_ns=10 / 3)
    (tmp_path / "tiny.v").write_text("\n")
    for path, text in vivado.own_files("tiny", target, "ap_clk").items():
        (tmp_path / path).write_text(text)
        golden(f"scripts/vivado/{path}", text)
    golden("scripts/vivado/calls.txt", run_tcl(vivado.SCRIPT, (), tmp_path))
    assert run_tcl(vivado.CLOCK, (), tmp_path) == "get_ports ap_clk\ncreate_clock -name clock -period 3.333 {}\n"


@needs_tcl
def test_libero_is_told_its_part_and_whole_nanoseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = written(Target(backend="Libero"), tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "legup.tcl").write_text("")
    (tmp_path / "examples" / "Makefile.common").write_text("all: $(SRCS) config.tcl\n\t@echo $(NAME) $(SRCS)\n")
    monkeypatch.setenv("SHLS_ROOT_DIR", str(tmp_path))
    assert (
        run_tcl("config.tcl", (), directory) == "set_project PolarFire MPF300 hw_only\nset_parameter CLOCK_PERIOD 5\n"
    )
    if shutil.which("make"):
        assert make(directory) == "tiny firmware/tiny.cpp tiny_test.cpp\n"


def make(directory: Path) -> str:
    return subprocess.run(
        ["make", "--no-print-directory"], cwd=directory, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH")
def test_quartus_compiles_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = written(Target(backend="Quartus"), tmp_path)
    fake(tmp_path, monkeypatch, "i++", 'ls "$4" "$5"; printf "#!/bin/sh\\n" > "$7"; chmod +x "$7"')
    assert make(directory).splitlines()[:3] == [
        "i++   -march=Arria10 --time quartus-hlssynt.log tiny_test.cpp firmware/tiny.cpp   -o tiny-fpga",
        "firmware/tiny.cpp",
        "tiny_test.cpp",
    ]


@needs_compiler
@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on PATH")
def test_cmake_finds_what_oneapi_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = written(Target(backend="oneAPI"), tmp_path)
    fake(tmp_path, monkeypatch, "icpx", 'exec g++ "$@"')
    run = subprocess.run(["cmake", "."], cwd=directory, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "-- Configuring the design to run on FPGA board Agilex7" in run.stdout
    assert "-- Additional USER_FPGA_FLAGS=-Xsoptimize=latency;-Xsclock=5.0ns;-Wno-unused-label\n" in run.stdout


def fake(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """Put a program before all others on PATH."""
    (directory / "bin").mkdir()
    (directory / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
    (directory / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize("backend", DIALECTS)
def test_a_network_without_weights_has_their_directory(backend: str) -> None:
    """`add_files -tb firmware/weights` stops at a directory that is not there."""
    weightless = lower(Net((3,), u(4), "weightless").requantize(u(3)).graph())
    paths = functions(target := Target(backend=backend)).emit(weightless, target).files
    assert any(PurePosixPath(path).parent.name == "weights" for path in paths)


@pytest.mark.parametrize("period", [0.5, 3.3])
def test_libero_takes_no_parts_of_a_nanosecond(period: float) -> None:
    target = Target(backend="Libero", clock_period_ns=period)
    refused = functions(target).refusals(tiny(dense_only=True), target)
    assert [str(refusal) for refusal in refused] == [
        f"target: clock_period_ns {period} is no whole number, and the tool of Libero takes no other; "
        f"use --clock-period-ns {max(1, int(period))}"
    ]
    with pytest.raises(UnsupportedError, match="is no whole number"):
        emitted(target)


@pytest.mark.parametrize(("backend", "text"), [("Vitis", "27%"), ("Vivado", "12.5%")])
def test_the_tool_is_told_the_uncertainty_that_the_estimate_takes_off(backend: str, text: str) -> None:
    assert f"set clock_uncertainty {text}\n" in emitted(Target(backend=backend)).text("project.tcl")
    assert Target(backend=backend).clock_uncertainty == float(text[:-1]) / 100


@needs_compiler
def test_sources_and_test_bench_are_in_the_language_that_the_script_asks_for(tmp_path: Path) -> None:
    """`-std=c++0x` is C++11; the test bench of the vendor's simulation prints what the reference says."""
    directory = written(Target(io_type="io_stream"), tmp_path)
    assert '-cflags "-std=c++0x"' in (directory / "build_prj.tcl").read_text()
    flags = ["-std=c++0x", "-pedantic-errors", "-isystem", "firmware/ap_types", '-DWEIGHTS_DIR="firmware/weights"']
    command = ["g++", *flags, "-I.", "firmware/tiny.cpp", "tiny_test.cpp", "-o", "bench"]
    subprocess.run(command, cwd=directory, check=True)
    subprocess.run(["./bench"], cwd=directory, check=True, capture_output=True)
    printed, expected = (
        [[float(number) for number in line.split()] for line in (directory / "tb_data" / name).read_text().splitlines()]
        for name in ("csim_results.log", "tb_output_predictions.dat")
    )
    assert printed == expected != []
    for io_type in IO_TYPES:
        kernels = functions(Target(io_type=io_type)).emit(branches(), Target(io_type=io_type))
        write(kernels, tmp_path / io_type)
        command = ["g++", *flags[:-1], "-I.", "-fsyntax-only", "firmware/branches.cpp"]
        subprocess.run(command, cwd=tmp_path / io_type, check=True)
