"""The notebooks of docs/tutorial: their code is that of their pages, and runs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, needs_compiler

NOTEBOOKS = sorted((REPOSITORY / "docs" / "tutorial").glob("*.ipynb"))
LIMIT_S = 180
"""Processor time of a notebook on two cores."""


def cells(notebook: Path) -> list[str]:
    """Return the code cells of a notebook."""
    document = json.loads(notebook.read_text())
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_page(notebook: Path) -> None:
    page = notebook.with_suffix(".md").read_text()
    for code in cells(notebook):
        ast.parse(code)
        assert f"```python\n{code}\n```" in page, f"render {notebook.name} again: CONTRIBUTING.md says how"
    assert "Error" not in page


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("sklearn")
    before = time.monotonic()
    code = "\n".join(cells(notebook))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DIFFERENT" not in done.stdout and "BIT EXACT" in done.stdout
    assert os.environ.get("CI") is None or time.monotonic() - before < LIMIT_S
