"""The report: the machine-readable contract, and the tables that people read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures_cli import built_digits, flow, needs_compiler, run_directories

from flow.report import Report, to_markdown, to_text, verdict_line
from flow.results import ResourceReport, Resources

NUMBER = (int, float)
CONTRACT: dict[str, Any] = {
    "schema": int,
    "model": str,
    "run_dir": str,
    "verdict": {
        "bit_exact": bool,
        "samples": int,
        "adversarial_samples": int,
        "mismatches": int,
        "compared": [str],
        "first_divergence": type(None),
    },
    "layers": [
        {
            "name": str,
            "op": str,
            "fused": [str],
            "output_format": {"signed": bool, "int_bits": int, "frac_bits": int},
            "accumulator_bits": (int, type(None)),
            "weights": int,
            "sparsity": (float, type(None)),
            "mismatches": int,
        }
    ],
    "accuracy": {"float": float, "qkeras": float, "hardware": float},
    "resources": [
        {
            "source": str,
            "lut": int,
            "ff": int,
            "dsp": int,
            "bram_18k": int,
            "latency_cycles": int,
            "initiation_interval_cycles": int,
            "layers": [{"name": str}],
        }
    ],
    "project": {"backend": str, "io_type": str, "strategy": str, "path": str, "digest": str},
    "timings_s": {"extract": NUMBER, "emit": NUMBER, "csim_compile": NUMBER, "csim_run": NUMBER},
}
"""The fields that keep their names and meanings; there may be more."""


def check(value: Any, contract: Any, where: str = "report") -> None:
    if isinstance(contract, dict):
        assert isinstance(value, dict), where
        for key, inner in contract.items():
            assert key in value, f"{where}.{key} is missing"
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(contract, list):
        assert isinstance(value, list), where
        for index, item in enumerate(value):
            check(item, contract[0], f"{where}[{index}]")
    else:
        assert isinstance(value, contract), f"{where} is {value!r}"
        assert isinstance(value, bool) == (contract is bool), f"{where} is {value!r}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_directories(built_digits(tmp_path_factory)[0])[0]


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return Report.load(run)


@needs_compiler
def test_the_contract_is_kept_on_stdout_and_on_disk(tmp_path_factory: pytest.TempPathFactory, run: Path) -> None:
    _, outcome = built_digits(tmp_path_factory)
    assert (outcome.code, outcome.err) == (0, "")
    found = outcome.report()
    check(found, CONTRACT)
    assert json.loads((run / "report.json").read_text()) == found
    assert found["schema"] == 1
    assert found["model"] == "digits_mlp"
    assert found["verdict"]["compared"] == ["qkeras", "reference", "csim"]
    assert (found["verdict"]["samples"], found["verdict"]["adversarial_samples"]) == (100, 64)
    assert Path(found["run_dir"]) == run
    assert Path(found["project"]["path"]) == run / "project"
    assert found["resources"][0]["source"] == "static"
    layer = found["layers"][1]
    assert layer["fused"] == ["dense", "batchnorm", "relu", "requantize"]
    assert (layer["name"], layer["op"], layer["weights"]) == ("dense1", "dense", 64 * 48)
    assert layer["output_format"] == {"signed": False, "int_bits": 1, "frac_bits": 3}


@needs_compiler
def test_sparsity_is_the_share_of_zeros_in_the_weight_files(report: Report, run: Path) -> None:
    layers = [layer for layer in report.document["layers"] if layer["weights"]]
    files = sorted((run / "project/firmware/weights").glob("w*.txt"))
    zeros = total = 0
    for layer, path in zip(layers, files, strict=True):
        numbers = [float(text) for text in path.read_text().split(",")]
        assert layer["sparsity"] == numbers.count(0.0) / len(numbers)
        zeros, total = zeros + numbers.count(0.0), total + len(numbers)
    assert report.document["sparsity"] == zeros / total


@needs_compiler
def test_text_and_markdown_say_what_the_json_says(report: Report, run: Path) -> None:
    text, markdown = to_text(report), to_markdown(report)
    assert (run / "report.md").read_text() == markdown
    for form in (text, markdown):
        assert verdict_line(report) in form
        for layer in report.document["layers"]:
            assert layer["name"] in form
        for words in ("82.0 %", "ufixed<4,1>", "static estimate", str(run / "project"), "over 100 inputs and 64"):
            assert words in form
        assert f"{report.document['resources'][0]['lut']:,}" in form
    assert "\x1b" not in text
    tables = [block for block in markdown.split("\n\n") if block.startswith("| ")]
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
    assert max(map(len, text.splitlines())) < 160


@needs_compiler
def test_the_verdict_is_said_in_one_line(report: Report) -> None:
    assert verdict_line(report).startswith("BIT EXACT: qkeras (float32) = reference = csim")
    verdict = report.document["verdict"]
    wrong = Report({**report.document, "verdict": {**verdict, "bit_exact": False, "mismatches": 7}})
    assert wrong.exit_code == 1
    assert "DIFFERENT: 7 output elements" in verdict_line(wrong)
    none = Report({**report.document, "verdict": {**verdict, "bit_exact": None}})
    assert (none.exit_code, none.bit_exact) == (0, None)
    assert "NOT COMPARED" in to_text(none)


@needs_compiler
def test_a_divergence_is_told(report: Report) -> None:
    first = {
        "op": "dense1",
        "levels": ["reference", "csim"],
        "sample": 3,
        "index": [4],
        "codes": [5, 6],
        "cause": "AP_TRN instead of AP_RND_CONV gives exactly the observed codes",
        "nonzero_inputs": 1,
    }
    verdict = {**report.document["verdict"], "bit_exact": False, "first_divergence": first, "file_differences": ["w2"]}
    text = to_text(Report({**report.document, "verdict": verdict}))
    assert "first at op 'dense1', element (4,): reference 5, csim 6" in text
    assert "counterexample with 1 non-zero inputs, from sample 3: " in text
    assert "cause: AP_TRN instead" in text
    place = report.document["run_dir"]
    again = f"flow compare {place} --levels reference csim --inputs {place}/counterexample.npz"
    assert text.endswith(f"\n{again}"), "the last line is the command that reproduces it"
    assert "file: w2" in text


@needs_compiler
def test_one_source_of_resources_stands_once(report: Report) -> None:
    csynth = ResourceReport(source="csynth", tool="Vitis HLS", total=Resources(name="digits_mlp", lut=9))
    both = report.with_resources(csynth).with_resources(csynth)
    assert [each["source"] for each in both.document["resources"]] == ["static", "csynth"]
    text = to_text(both)
    assert "Resources: csynth (Vitis HLS)" in text
    assert "-" in text.split("Resources: csynth")[1], "what the source does not say is no zero"


@needs_compiler
def test_names_cannot_break_the_tables(report: Report) -> None:
    document = {**report.document, "notes": ["layer 'a\n# Title\x1b[2J\ud800' is odd"]}
    for form in (to_text(Report(document)), to_markdown(Report(document))):
        assert "\x1b" not in form
        assert "\n# Title" not in form
        form.encode()


@needs_compiler
def test_the_report_command_prints_every_form(run: Path, report: Report) -> None:
    assert json.loads(flow("report", run, "--format", "json").out) == report.document
    assert flow("report", run).out == to_text(report) + "\n"
    assert flow("report", run, "--format", "markdown").out == to_markdown(report) + "\n"
    assert flow("report", run, "--format", "html").code == 2


def test_a_report_of_another_schema_is_refused(tmp_path: Path) -> None:
    for text in ('{"schema": 2}', "[]", "{"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(ValueError, match=r"schema|Expecting"):
            Report.load(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        Report.load(tmp_path / "none")
