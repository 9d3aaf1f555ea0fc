"""The command that holds estimates against other people's reports: a table and a design made here."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import vendor_truth

FIXED = [1, 16, 6, "AP_TRN", "AP_WRAP"]
DESIGN: dict[str, Any] = {
    "backend": "Vivado",
    "io_type": "io_parallel",
    "part": "xcvu13p-flga2577-2-e",
    "clock_ns": 5.0,
    "layers": [
        {"kind": "input", "name": "x", "inputs": [], "shape": [4], "fmt": FIXED},
        {
            "kind": "dense",
            "name": "fc",
            "inputs": ["x"],
            "weight": {"shape": [4, 2], "histogram": [[-1, 0, 3], [2, 3, 3]], "seed": 1},
            "wfmt": [1, 6, 1],
            "bias": {"shape": [2], "histogram": [[0], [2]], "seed": 2},
            "bfmt": [1, 6, 1],
            "fmt": FIXED,
            "reuse": 1,
            "strategy": "Latency",
        },
        {"kind": "relu", "name": "act", "inputs": ["fc"], "fmt": FIXED, "limit": None},
    ],
}
ROW = {"id": "a", "reuse": "", "strategy": "", "part": "", "io_type": "io_parallel", "clock_ns": "", "note": ""}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table whose designs lie in another folder than it says."""
    (tmp_path / "designs_held").mkdir()
    (tmp_path / "designs_held" / "a.json").write_text(json.dumps(DESIGN))
    row = {**ROW, "group": "dense", "design": "designs/a.json", "tool": "Vivado HLS 2020.1", "uncertainty_ns": ""}
    rows = [{**row, "csynth_dsp": "0", "csynth_ii": "2"}, {**row, "id": "b", "design": "designs/gone.json"}]
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "truth.csv"


def test_estimates_are_held_against_a_table(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "pairs.csv"
    monkeypatch.setattr(sys, "argv", ["vendor_truth.py", str(table), "--out", str(out)])
    vendor_truth.main()
    printed = capsys.readouterr().out.splitlines()
    (interval,) = [line for line in printed if line.startswith("dense ") and " ii " in line]
    assert interval.split()[:7] == ["dense", "csynth", "ii", "1", "50.0", "50.0", "50"]
    assert any("dsp=0" in line and "true is 0: estimate above 0 in 0" in line for line in printed)
    assert any(line.startswith("FAILED b FileNotFoundError") for line in printed)
    assert printed[-1].startswith("1 pairs of 2 rows, 1 failed")
    (pair,) = vendor_truth.read(out)
    assert (pair["id"], pair["ii_pred"], pair["ii_true"], pair["ii_ratio"]) == ("a", "1", "2.0", "0.5")


def test_designs_of_others_keep_what_our_passes_would_drop(tmp_path: Path) -> None:
    """A channel without weights leaves our own graphs, but stands in the project that was measured."""
    first, dead, act = DESIGN["layers"]
    dead = {**dead, "weight": {"shape": [4, 2], "histogram": [[0], [8]], "seed": 1}}
    after = {**DESIGN["layers"][1], "name": "out", "inputs": ["act"]}
    after["weight"] = {"shape": [2, 3], "histogram": [[1, 3], [3, 3]], "seed": 3}
    after["bias"] = {"shape": [3], "histogram": [[0], [3]], "seed": 2}
    (tmp_path / "d.json").write_text(json.dumps({**DESIGN, "layers": [first, dead, act, after]}))
    _, graph = vendor_truth.lowered(tmp_path / "d.json")
    assert [op.weight.codes.shape for op in graph.ops if isinstance(op, vendor_truth.MatMul)] == [(4, 2), (2, 3)]


def test_a_condition_keeps_rows(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vendor_truth.py", str(table), "--where", "id=c"])
    vendor_truth.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 pairs of 0 rows, 0 failed")
