"""Fixtures that many tests share: golden files, and one compilation per distinct project."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from flow.backends.hls4ml import csim
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.project import Project, write
from flow.results import SimResult

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
GOLDEN = TESTS / "golden"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")

Golden = Callable[[str, str], None]
Simulate = Callable[[Project, IntGraph, Codes], SimResult]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return a function that holds a text against `tests/golden/<name>`, or writes it there with --update-golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} does not exist; run pytest with --update-golden and read the diff"
        assert text == path.read_text(), f"differs from {path}; if meant so, run pytest with --update-golden"

    return check


@pytest.fixture(scope="session")
def simulate(tmp_path_factory: pytest.TempPathFactory) -> Simulate:
    """Return a function that simulates a project; projects with equal sources are compiled once a session."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on PATH")
    root = tmp_path_factory.mktemp("csim")

    def run(project: Project, graph: IntGraph, codes: Codes) -> SimResult:
        directory = root / project.digest()[:16]
        if not directory.exists():
            write(project, directory)
        key = csim.sources_digest(project)
        program = csim.compile_project(directory, graph.name, root / "programs", key)
        return csim.run(program, directory, graph, codes)

    return run
