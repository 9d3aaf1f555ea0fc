"""The report: the machine-readable contract, and the tables that people read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import built_digits, flow, needs_compiler, run_directories
from page_reports import of_graph
from zoo import row

from flow.data.inputs import PortInputs
from flow.data.labels import Labels
from flow.errors import InputError
from flow.ir import reference
from flow.ir.fixed import covering
from flow.ir.graph import from_json
from flow.pipeline import load_report
from flow.report.assemble import recompared
from flow.report.page import render
from flow.report.record import Comparison, Report
from flow.report.text import to_markdown, to_text
from flow.report.words import verdict_line
from flow.results import EnergyReport, ResourceReport, Resources
from flow.runs import RunDirectory
from flow.verification.levels import stored_inputs

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
    return load_report(run)


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
def test_exponents_are_those_of_the_weight_files(report: Report, run: Path) -> None:
    layers = [layer for layer in report.document["layers"] if layer["weights"]]
    for layer, path in zip(layers, sorted((run / "project/firmware/weights").glob("w*.txt")), strict=True):
        numbers = np.abs([float(text) for text in path.read_text().split(",")])
        exponents, counts = np.unique(np.log2(numbers[numbers > 0]), return_counts=True)
        expected = zip(exponents.tolist(), counts.tolist(), strict=True)
        assert layer["power_of_two_weights"] and layer["exponents"] == {str(int(e)): count for e, count in expected}


@needs_compiler
def test_the_range_of_an_accumulator_takes_its_bits(report: Report) -> None:
    layers = {layer["name"]: layer for layer in report.document["layers"]}
    assert layers["op_input"]["accumulator_range"] is None
    assert (layers["op_input"]["inputs"], layers["dense2"]["inputs"]) == ([], ["dense1"])
    for name in ("dense1", "dense2", "logits"):
        low, high = layers[name]["accumulator_range"]
        assert low < 0 < high and covering(low, high, 0).width == layers[name]["accumulator_bits"]


@needs_compiler
def test_confusion_counts_every_labelled_input(report: Report) -> None:
    confusion, accuracy = report.document["confusion"], report.document["accuracy"]
    assert confusion["classes"] == 10
    for level, samples in (("float", 360), ("qkeras", 100), ("hardware", 100)):
        table = np.array(confusion[level])
        assert table.shape == (10, 10) and table.sum() == samples
        assert table.trace() / samples == accuracy[level]
    assert confusion["qkeras"] == confusion["hardware"]
    port = stored_inputs(RunDirectory(Path(report.document["run_dir"])))[0]
    (labels,) = port.labels
    assert np.array(confusion["qkeras"]).sum(axis=1).tolist() == np.bincount(labels.values, minlength=10).tolist()


@needs_compiler
def test_confusion_takes_labels_that_are_classes(run: Path) -> None:
    graph = from_json(json.loads((run / "graph.json").read_text()))
    expected = reference.run(graph, np.zeros((2, 64), np.int64))
    port = PortInputs(codes=np.zeros((2, 64), np.int64), source="", rounded=0, clipped=0)

    def confusion(*labels: int) -> object:
        given = (Labels(output="logits", index=0, values=np.array(labels)),) if labels else ()
        comparison = Comparison(
            port=replace(port, labels=given),
            adversarial=0,
            reference=expected,
            others=(replace(expected, level="csim"),),
            divergence=None,
        )
        return recompared(load_report(run), graph, comparison, {}).document["confusion"]

    assert confusion() is None
    assert confusion(0, 10) is None
    assert confusion(-1, 0) is None
    found = confusion(3, 9)
    assert isinstance(found, dict) and found["qkeras"] is None
    said = int(expected.codes["logits"][0].argmax())
    assert [(row, column) for row, column in np.argwhere(found["hardware"])] == [(3, said), (9, said)]
    assert found["float"] == load_report(run).document["confusion"]["float"], "that of the training stays"


@needs_compiler
def test_provenance_says_how_to_do_it_again(report: Report, run: Path) -> None:
    provenance = report.document["provenance"]
    output = run.parent.parent.parent
    assert provenance["commands"] == [
        "flow train digits_mlp",
        f"flow build digits_mlp --samples 100 --adversarial 64 --output {output}",
    ]
    assert {"po2flow", "hls4ml", "qkeras", "tensorflow"} <= provenance["versions"].keys()


@needs_compiler
def test_energy_is_said_with_its_source(report: Report) -> None:
    energy = report.document["energy"][0]
    assert (energy["source"], energy["unit"]) == ("static", "pJ")
    line = "35 pJ per inference (static: 45 nm ASIC, relative only); with 8-bit multipliers 227, in float32 4,589; see"
    assert f"\nEnergy\n{line} docs/energy.md" in to_text(report)
    toggles = EnergyReport(source="rtlsim", unit="toggles", per_inference=1234.5, table="docs/energy.md", layers={})
    both = report.with_energy(toggles).with_energy(toggles)
    assert [each["source"] for each in both.document["energy"]] == ["static", "rtlsim"]
    assert "1,234 toggles per inference (rtlsim); see docs/energy.md" in to_markdown(both)


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
    assert [each["source"] for each in both.document["resources"]] == ["static", "static_csynth", "csynth"]
    text = to_text(both)
    assert "Resources: csynth (Vitis HLS)" in text
    assert "-" in text.split("Resources: csynth")[1], "what the source does not say is no zero"


@needs_compiler
@pytest.mark.parametrize(
    ("part", "is_other"),
    [
        ("xczu7ev-ffvc1156-2-e", True),
        ("xcvu13pflga2577-2", False),
        ("XCVU13P-FLGA2577-2-E", False),
        ("vu13p-flga2577-2-e", False),
        (None, False),
    ],
)
def test_resources_of_another_part_are_told(report: Report, part: str | None, is_other: bool) -> None:
    csynth = ResourceReport(source="csynth", tool="Vitis HLS", part=part, total=Resources(name="digits_mlp", lut=9))
    told = f"csynth (Vitis HLS) is of part {part}, the run of xcvu13p-flga2577-2-e"
    assert (told in report.with_resources(csynth).document["notes"]) is is_other


@needs_compiler
@pytest.mark.parametrize(("top", "is_other"), [("tiny_cnn", True), ("digits_mlp", False), ("digits_mlp_fixed", False)])
def test_resources_of_another_design_are_told(report: Report, top: str, is_other: bool) -> None:
    csynth = ResourceReport(source="csynth", tool="Vitis HLS", top=top, total=Resources(name=top, lut=9))
    told = f"csynth (Vitis HLS) is of top {top}, the run of digits_mlp"
    assert (told in report.with_resources(csynth).document["notes"]) is is_other


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
    for text in (b'{"schema": 2}', b"[]", b"{"):
        with pytest.raises(ValueError, match=r"schema|Expecting"):
            Report.read(text, tmp_path)
    run = RunDirectory(tmp_path)
    run.mark_done("emit", "")
    with pytest.raises(InputError, match=r"report.json is not there yet: the build was interrupted before"):
        load_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "steps", "said"),
    [
        ("lookup_few_runs", (1, 3, 3, True), "lookup, 3 steps"),
        ("lookup_step_at_zero", (1, 1, 1, True), "lookup, 1 step"),
        ("lookup_of_forty_bits", None, "steps"),
        ("lookup_per_channel", (3, 0, 3, False), "lookup, 0 to 3 steps in each of 3 channels"),
        ("lookup_per_channel_of_a_sum", (3, 1, 1, False), "lookup, 1 step in each of 3 channels"),
    ],
)
def test_steps_of_functions_are_counted(name: str, steps: tuple[int, ...] | None, said: str) -> None:
    report = of_graph(row(name))
    (found,) = (layer["steps"] for layer in report.document["layers"] if "steps" in layer)
    assert steps is None or tuple(found.values()) == steps
    assert said in to_text(report) and said in to_markdown(report)
    assert ("searched, and tried on both sides" in render(report)) == (not found["listed"])


def test_notes_stand_once(report: Report) -> None:
    noted = report.with_notes("a note", "").with_notes("a note")
    assert noted.document["notes"] == [*report.document["notes"], "a note"]
