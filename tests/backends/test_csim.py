"""C simulation: compiled once for equal sources, run on all cores, and plain about what goes wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zoo
from conftest import Simulate, needs_compiler
from nets import Net, inputs, s, u

from flow.backends.hls4ml import csim
from flow.backends.hls4ml.emit import emit
from flow.data.adversarial import adversarial_inputs
from flow.errors import OutputError, ToolFailedError, ToolMissingError
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import Target


def small() -> IntGraph:
    return lower(Net((4,), u(4), "small").dense(zoo.po2(4, 3)).relu().requantize(u(3, -1)).dense(zoo.po2(3, 2)).graph())


@needs_compiler
def test_a_generated_project_as_it_is(simulate: Simulate) -> None:
    """Nothing rearranged for the test: the project's own sources, compiled as the flow compiles them."""
    graph = lower(zoo.row("everything"))
    codes = adversarial_inputs(graph, 300)
    result, expected = simulate(emit(graph, Target()), graph, codes), reference.run(graph, codes)
    assert result.level == "csim" and result.codes.keys() == expected.codes.keys()
    for op in graph.ops:
        assert np.array_equal(result.codes[op.name], expected.codes[op.name]), op.name
        assert result.codes[op.name].shape == (300, *op.shape)


@needs_compiler
def test_inputs_wider_than_32_bits(simulate: Simulate) -> None:
    graph = lower(Net((2,), s(48), "wide").requantize(s(40, -8)).graph())
    codes = inputs(graph, 50)
    assert np.abs(codes).max() > 1 << 40
    result = simulate(emit(graph, Target()), graph, codes)
    assert np.array_equal(result.codes[graph.output.name], reference.run_output(graph, codes))


@dataclass(frozen=True)
class FakeCompiler:
    """A `g++` that copies a script instead of compiling, and counts its calls."""

    script: Path
    log: Path

    def calls(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler(tmp_path / "simulation", tmp_path / "log")
    program = tmp_path / "fake-g++"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "fake 1.0"; exit; fi\n'
        f'echo "$@" >> {fake.log}\n'
        'while [ $# -gt 0 ]; do if [ "$1" = -o ]; then out=$2; fi; shift; done\n'
        f'cp {fake.script} "$out"\n'
    )
    program.chmod(0o755)
    fake.script.write_text("#!/bin/sh\nexit 0\n")
    fake.script.chmod(0o755)
    monkeypatch.setenv("FLOW_GXX", str(program))
    return fake


def built(project: Project, tmp_path: Path) -> Path:
    write(project, tmp_path / "project")
    return csim.compile_project(tmp_path / "project", project.name, tmp_path / "cache", csim.sources_digest(project))


def test_equal_sources_are_compiled_once(compiler: FakeCompiler, tmp_path: Path) -> None:
    project = emit(small(), Target())
    program = built(project, tmp_path)
    commands = compiler.log.read_text()
    assert compiler.calls() == 3 and "-std=c++17" in commands
    assert re.search(r"-c firmware/small.cpp -o", commands) and re.search(r"-c csim/main.cpp -o", commands)
    assert built(project, tmp_path) == program and compiler.calls() == 3
    weights = Project(project.name, {**project.files, "firmware/weights/w2.txt": b"0"})
    assert built(weights, tmp_path) == program, "weights are read at run time"
    source = project.text("firmware/defines.h").replace("AP_RND_CONV", "AP_RND")
    changed = Project(project.name, {**project.files, "firmware/defines.h": source.encode()})
    assert built(changed, tmp_path) != program and compiler.calls() == 6
    assert sorted(path.name for path in program.parent.iterdir()) == ["csim", "csim.sha256"]


def test_another_compiler_is_another_program(compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    project = emit(small(), Target())
    before = csim.sources_digest(project)
    monkeypatch.setattr(csim, "FLAGS", (*csim.FLAGS, "-O2"))
    assert csim.sources_digest(project) != before
    monkeypatch.setenv("FLOW_GXX", "no-such-compiler")
    with pytest.raises(ToolMissingError, match=r"'g\+\+' is not on PATH; install a C\+\+ compiler"):
        csim.sources_digest(project)


def test_a_compiler_that_fails_leaves_no_program(compiler: FakeCompiler, tmp_path: Path) -> None:
    compiler.script.unlink()
    project = emit(small(), Target())
    for _ in range(2):
        with pytest.raises(ToolFailedError, match=r"fake-g\+\+ failed with status 1"):
            built(project, tmp_path)
    assert not list((tmp_path / "cache").rglob("csim"))


def test_a_cache_that_cannot_be_written(compiler: FakeCompiler, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        built(emit(small(), Target()), tmp_path)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo broken >&2; exit 3", "csim failed with status 3"),
        ("kill -SEGV $$", "csim failed with status -11"),
        (
            'for op in dense_1 dense_4; do printf 12345678 > "$2/$op.bin"; done',
            "csim wrote 1 codes of op 'dense_1', not",
        ),
        ("exit 0", "csim wrote 0 codes of op 'dense_1', not"),
    ],
)
def test_a_simulation_that_fails(compiler: FakeCompiler, tmp_path: Path, script: str, message: str) -> None:
    compiler.script.write_text(f"#!/bin/sh\n{script}\n")
    project = emit(small(), Target())
    program = built(project, tmp_path)
    with pytest.raises(ToolFailedError, match=message):
        csim.run(program, tmp_path / "project", small(), inputs(small(), 5))


@needs_compiler
def test_a_project_that_does_not_compile(tmp_path: Path) -> None:
    project = emit(small(), Target())
    text = project.text("csim/main.cpp").replace("int main", "int nonsense main")
    with pytest.raises(ToolFailedError, match=r"failed with status 1 in (.|\n)*error"):
        built(Project(project.name, {**project.files, "csim/main.cpp": text.encode()}), tmp_path)
