"""The seam of a back end: a toy of one page goes through `flow.build` to a verdict, with a row in the table alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TESTS, needs_compiler

from flow.backends import base
from flow.errors import InputError
from flow.pipeline import BuildOptions, build, compare_run
from flow.target import Target

pytestmark = needs_compiler
ROW = base.Backend(name="plain", functions="toy_backend:PLAIN", generator="numpy", part="any")


def test_a_toy_back_end_gets_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base.BACKENDS, ROW.name, ROW)  # type: ignore[arg-type]
    options = BuildOptions(output=tmp_path, samples=50, adversarial=32)
    report = build("digits_mlp", Target(backend="plain"), options)
    verdict = report.document["verdict"]
    assert report.bit_exact and verdict["compared"][-2:] == ["reference", "csim"], verdict
    assert report.document["project"]["backend"] == "plain" and report.document["resources"] == []
    run = Path(report.document["run_dir"])
    source = run / "project" / "main.cpp"
    source.write_text(source.read_text().replace("+ op_input[", "- op_input[", 1))
    again = compare_run(run)
    assert not again.bit_exact and again.document["verdict"]["file_differences"] == [
        "main.cpp: is not as the build wrote it",
        "main.cpp is not what the graph says",
    ]
    with pytest.raises(InputError, match="conv1"):
        build("fashion_cnn", Target(backend="plain"), options)


def test_the_toy_is_small() -> None:
    lines = (TESTS / "toy_backend.py").read_text().splitlines()
    assert sum(bool(line) for line in lines) < 60
