"""The command line: exit codes, one-line errors, what is loaded when, and life without TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from fixtures_cli import built_digits, copy_of_digits, flow, needs_compiler, refused, run_directories
from handovers import make

import flow as package
from flow import cli
from flow.errors import EmitError, FlowError, OutputError, ToolFailedError, ToolMissingError
from flow.runs import digest_file

HEAVY = ("tensorflow", "tf_keras", "keras", "qkeras", "hls4ml", "h5py", "numpy", "sklearn")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=300,
    )


# what is loaded when


@pytest.mark.parametrize("code", ["import flow", "import flow.cli; flow.cli._parser().format_help()"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    done = python("-c", f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout == "[]\n", done


def test_help_is_complete() -> None:
    outcome = flow("--help")
    assert outcome.code == 0
    for command in (
        "list",
        "show",
        "train",
        "build",
        "check",
        "compare",
        "report",
        "export",
        "bitstream",
        "doctor",
        "exit codes",
    ):
        assert command in outcome.out
    for command in ("show", "train", "build", "check", "compare", "report", "export", "bitstream", "doctor", "list"):
        assert flow(command, "--help").code == 0
    assert flow().code == 2
    assert flow("frobnicate").code == 2


def test_list_and_show() -> None:
    listed = flow("list")
    assert listed.code == 0
    for name in ("digits_mlp", "fashion_cnn", "mnist_mlp", "jets_mlp"):
        assert name in listed.out
    assert "float 91.77 %, float model: flow quantize" in listed.out
    assert "float reconstruction error 0.01778, float model: flow quantize" in listed.out
    shown = flow("show", "digits_mlp")
    assert shown.code == 0
    assert shown.out.startswith("graph digits_mlp\n")
    assert "dense1 = dense" in shown.out
    document = (Path(__file__).parents[1] / "docs" / "encrypted.md").read_text()
    assert textwrap.indent(flow("show", "digits_mlp", "--encrypted").out, "    ") in document


# options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--backend", "Spartan"), ("backend 'Spartan'", "Vitis, Vivado")),
        (("--strategy", "latency"), ("strategy 'latency'", "Latency, Resource")),
        (("--io-type", "serial"), ("io_type 'serial'", "io_parallel, io_stream")),
        (("--reuse-factor", "0"), ("reuse_factor 0",)),
        (("--reuse-factor", "-3"), ("-3",)),
        (("--reuse-factor", "many"), ("'many'", "N nor nearest:N nor OP=N")),
        (("--reuse-factor", "dense1=nearest:4"), ("'dense1=nearest:4'", "N nor nearest:N nor OP=N")),
        (("--reuse-factor", "nothing=2"), ("'nothing'", "dense1, dense2, logits")),
        (("--strategy", "Resource", "--reuse-factor", "dense1=7"), ("'dense1'", "reuse_factor 7", "1, 2, 4")),
        (("--part", "xc7nothing"), ("xc7nothing",)),
        (("--clock-period-ns", "0"), ("clock_period_ns 0.0",)),
        (("--clock-period-ns", "nan"), ("clock_period_ns nan",)),
        (("--clock-period-ns=-inf",), ("clock_period_ns -inf",)),
        (("--until", "nonsense"), ("'nonsense'", "extract, emit, report, synth")),
        (("--samples", "0"), ("samples: 0",)),
        (("--adversarial", "15"), ("adversarial: 15",)),
        (("--labels", "y.npy"), ("labels were given without inputs",)),
        (("--weights", "w.h5"), ("--weights",)),
        (("--input-format", "float"), ("input format 'float'",)),
    ],
)
def test_wrong_options_are_refused(options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    refused(flow("build", "digits_mlp", "--output", tmp_path / "runs", *options), *words)
    assert not list(tmp_path.rglob("report.json"))
    assert not list(tmp_path.rglob("project"))


@pytest.mark.parametrize("option", ["--samples", "--clock-period-ns", "--adversarial"])
def test_options_that_are_no_numbers_are_usage_errors(option: str) -> None:
    outcome = flow("build", "digits_mlp", option, "many")
    assert outcome.code == 2
    assert "invalid" in outcome.err


@pytest.mark.parametrize(
    "arguments", [("build", "x", "--sampels", "3"), ("list", "x"), ("report", "x", "--inputs", "y")]
)
def test_a_wrong_option_shows_the_usage_of_its_command(arguments: tuple[str, ...]) -> None:
    outcome = flow(*arguments)
    assert outcome.code == 2 and outcome.err.startswith(f"usage: flow {arguments[0]} ")
    assert f"flow {arguments[0]}: error: unrecognized arguments: " in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("biuld", "x"), "argument COMMAND: there is no 'biuld': did you mean build?"),
        (("build", "x", "--bakcend", "rtl"), "unrecognized arguments: --bakcend rtl: did you mean --backend?"),
        (("zzz",), "there is no 'zzz': choose from list, show, "),
        (("report", "x", "--format", "jsno"), "argument --format: there is no 'jsno': did you mean json?"),
    ],
)
def test_what_was_meant_is_guessed(arguments: tuple[str, ...], words: str) -> None:
    outcome = flow(*arguments)
    assert outcome.code == 2 and words in outcome.err


def test_what_is_listed_is_json_on_request() -> None:
    models = {model["name"]: model for model in flow("list", "--json").report()["models"]}
    assert models["digits_mlp"]["kind"] == "quantized" and models["digits_mlp"]["trained"]["qkeras"] > 0.9
    assert models["fashion_resnet8"]["kind"] == "float" and models["jets_mlp"]["trained"] is None
    findings = flow("doctor", "--json").report()["findings"]
    assert findings[0]["what"] == "Python" and findings[0]["ok"] is True
    assert flow("--version").out.startswith("flow (po2flow) 0.1.0, Python 3.")


@pytest.mark.parametrize("name", ["nothing", "../models", "digits mlp", "", "x" * 5000, "a\nb", "-"])
def test_unknown_models_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("build", "show", "train"):
        refused(flow(command, name))
    assert list(tmp_path.iterdir()) == []
    assert "in models" not in flow("build", name).err, "there is no such folder here"


def test_directories_that_are_no_run(tmp_path: Path) -> None:
    for command in ("compare", "report"):
        refused(flow(command, tmp_path / "none"), "not a run directory")
        refused(flow(command, tmp_path), "not a run directory")
    stopped = flow("build", "digits_mlp", "--until", "extract", "--output", tmp_path)
    assert "project  not written: the build stopped before\n" in stopped.out
    run = run_directories(tmp_path)[0]
    refused(flow("compare", run), "before it wrote one")
    assert flow("build", "digits_mlp", "--until", "emit", "--output", tmp_path).code == 0
    refused(flow("compare", run), "inputs.npz", "stopped before its inputs were made")
    said = refused(flow("compare", run, "--inputs", tmp_path / "none.npz"), "No such file")
    assert said.count("none.npz") == 1
    assert "NOT COMPARED" in flow("report", run).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "digits_mlp", "--epochs=-1"), "epochs is -1; expected 1 to 9999"),
        (
            ("train", "digits_mlp", "--epochs=99999999999999999999"),
            "epochs is 99999999999999999999; expected 1 to 9999",
        ),
        (("quantize", "digits_mlp", "--seed=-1"), "seed: -1 is not within 0 to 2**63 - 1"),
        (("fuzz", "--seed=-1"), "--seed -1 is not within 0 to"),
        (("fuzz", "--models=99999999999999999999"), "--models 99999999999999999999 is not within 1 to 1000000"),
    ],
)
def test_numbers_beyond_all_bounds_are_refused_at_once(arguments: tuple[str, ...], words: str) -> None:
    refused(flow(*arguments), words)


@pytest.mark.parametrize(
    "option", ["--samples={}", "--reuse-factor={}", "--backend={}", "--part={}", "--no-such={}", "{}"]
)
def test_foreign_text_is_cut_and_cannot_move_the_cursor(option: str) -> None:
    outcome = flow("build", "digits_mlp", option.format("\x1b[2J" + "n" * 100_000))
    assert outcome.code == 2 and len(outcome.err) < 2500 and "\x1b" not in outcome.err, outcome.err[:3000]


def test_training_options_are_checked(tmp_path: Path) -> None:
    refused(flow("train", "digits_mlp", "--epochs", "0", "--output", tmp_path), "epochs")
    refused(flow("train", tmp_path / "none.toml", "--output", tmp_path), "none.toml")


def test_a_float_model_is_trained(tmp_path: Path) -> None:
    if find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    spec = (Path(cli.__file__).parent.parent / "models/mnist_autoencoder/spec.toml").read_text()
    spec = spec.replace('dataset = "mnist"', 'dataset = "digits"').replace("[784]", "[64]")
    (tmp_path / "spec.toml").write_text(spec.replace("epochs = 20", "epochs = 1"))
    outcome = flow("train", tmp_path / "spec.toml", "--output", tmp_path / "trained")
    assert outcome.code == 0 and "mnist_autoencoder: float reconstruction error 0." in outcome.out
    assert sorted(path.name for path in (tmp_path / "trained").iterdir()) == [
        *("history.csv", "spec.toml", "trained.json", "trained.npz", "training.html"),
    ]
    refused(flow("build", tmp_path / "trained", "--output", tmp_path / "runs"), "is a float model; run 'flow quantize")


def test_synthesis_needs_its_tool(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, _ = built_digits(tmp_path_factory)
    for name in ("FLOW_VITIS_RUN", "FLOW_VITIS_HLS"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    same = ("--output", output, "--samples", 100, "--adversarial", 64, "--json")
    error = refused(flow("build", "digits_mlp", *same, "--until", "csynth"), "not on PATH", code=3)
    assert "Vitis" in error
    monkeypatch.setenv("FLOW_VITIS_RUN", "/bin/sh")
    monkeypatch.setenv("FLOW_VIVADO", str(tmp_path / "none"))
    assert "'vivado'" in refused(flow("build", "digits_mlp", *same, "--until", "vivado"), "not on PATH", code=3)
    assert flow("build", "digits_mlp", *same).report()["verdict"]["bit_exact"] is True


def test_each_tool_has_its_own_column(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Path(__file__).parent / "data" / "reports"
    left = "digits_mlp_prj/solution1/syn"
    fakes = {
        "vitis_run": f"mkdir -p {left}/report {left}/verilog && touch {left}/verilog/digits_mlp.v && "
        f"cp {reports}/vitis_hls_csynth.rpt {left}/report/digits_mlp_csynth.rpt",
        "vivado": f"ls digits_mlp.v && cp {reports}/vivado_utilization_ultrascale.rpt utilization.rpt && "
        f"cp {reports}/vivado_timing.rpt timing.rpt",
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv(f"FLOW_{name.upper()}", str(tmp_path / name))
    shutil.copytree(built_digits(tmp_path_factory)[0], tmp_path / "runs")
    same = ("--output", tmp_path / "runs", "--samples", 100, "--adversarial", 64)
    found = flow("build", "digits_mlp", *same, "--until", "vivado", "--json").report()["resources"]
    assert [(each["source"], each["lut"], each["estimated_clock_period_ns"]) for each in found[2:]] == [
        ("csynth", 5300, 3.612),
        ("vivado", 4321, 3.621),
    ]
    assert [each["source"] for each in found[:2]] == ["static", "static_csynth"]
    assert flow("report", run_directories(tmp_path / "runs")[0], "--format", "json").report()["resources"] == found


def test_vendor_reports_from_elsewhere(tmp_path: Path) -> None:
    reports = Path(__file__).parent / "data" / "reports"
    flow("build", "digits_mlp", "--until", "emit", "--output", tmp_path)
    run = run_directories(tmp_path)[0]
    vivado = [reports / f"vivado_{name}.rpt" for name in ("timing", "utilization_ultrascale")]
    text = flow("report", run, "--vendor", *vivado, reports / "quartus_standard.fit.rpt").out
    assert "Resources: vivado (Vivado 2023.1 (routed)), reaches 3.621 ns" in text
    columns = text.partition("Resources: quartus")[2].splitlines()[1].split()
    assert columns[-7:] == ["ALM", "RAM", "blocks", "latency", "cycles", "II", "cycles"]
    refused(flow("report", run, "--vendor", vivado[0]), "report_utilization", code=4)
    kept = flow("report", run)
    assert kept.code == 0 and kept.out == text, "they stay with the run"
    assert flow("build", "digits_mlp", "--until", "emit", "--output", tmp_path).out.count("Resources: ") == 2


# errors and exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FlowError("a"), 2),
        (OutputError("a"), 2),
        (EmitError("a"), 4),
        (ToolMissingError("a"), 3),
        (ToolFailedError("a"), 4),
    ],
)
def test_every_error_of_the_tree_has_its_exit_code(
    error: FlowError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_list", fail)
    outcome = flow("list")
    assert (outcome.code, outcome.err, outcome.out) == (code, "flow: error: a\n", "")


def test_a_message_stays_in_its_line_but_a_tools_output_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise errors.pop()

    errors = [ToolFailedError("g++ failed:\nline 2\x1b"), FlowError("layer 'a\nb\x1b[31m\ud800' is odd")]
    monkeypatch.setattr(cli, "_list", fail)
    assert flow("list").err == "flow: error: layer 'a\\nb\\x1b[31m\\ud800' is odd\n"
    assert flow("list").err == "flow: error: g++ failed:\nline 2\\x1b\n"


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_list", stop)
    outcome = flow("list")
    assert (outcome.code, outcome.err.count("\n")) == (130, 1)
    assert "interrupted; the same command begins again" in outcome.err
    monkeypatch.setattr(cli, "_build", stop)
    said = "interrupted; what is finished stays, and the same command goes on from there"
    assert said in flow("build", "digits_mlp").err


def test_errors_of_the_file_system_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise PermissionError(13, "Permission denied", "/some\nwhere")

    monkeypatch.setattr(cli, "_list", fail)
    assert flow("list").err == "flow: error: /some\\nwhere: Permission denied\n"


@pytest.mark.parametrize("error", [ValueError("odd\x1b[31m\nlines" + "n" * 10_000), KeyError("x"), MemoryError()])
def test_a_bug_is_one_line_and_its_traceback_is_kept(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_list", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = refused(
        flow("list"), "memory ran out" if isinstance(error, MemoryError) else "this is a bug in flow", code=4
    )
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said and "in fail" in kept.read_text() and len(said) < 400
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    refused(flow("list"), "could not be kept", code=4)


@needs_compiler
def test_a_reader_that_goes_away_is_no_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = run_directories(built_digits(tmp_path_factory)[0])[0]
    for form in ("text", "json"):
        command = f'"$0" -m flow.cli report "$1" --format {form} | true; echo "${{PIPESTATUS[0]}}"'
        done = subprocess.run(
            ["bash", "-c", command, sys.executable, str(run)], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.stdout, done.stderr) == ("0\n", "")


# without TensorFlow

BLOCK = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "tf_keras", "qkeras", "tensorflow_model_optimization"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from flow import cli, progress
progress.LOG_EVERY_S = 3600
sys.exit(cli.main(sys.argv[1:]))
"""


def without_tensorflow(*arguments: object) -> subprocess.CompletedProcess[str]:
    return python("-W", "error", "-c", BLOCK, *map(str, arguments))


@needs_compiler
def test_everything_after_training_works_without_tensorflow(tmp_path: Path) -> None:
    few = ("--samples", 20, "--adversarial", 32, "--output", tmp_path)
    done = without_tensorflow("build", "digits_mlp", *few, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["verdict"]["bit_exact"] is True
    assert report["verdict"]["compared"] == ["reference", "csim"]
    assert any("pip install 'po2flow[train]'" in note for note in report["notes"])
    run = run_directories(tmp_path)[0]
    for command in (("compare", run), ("report", run), ("show", "digits_mlp"), ("list",)):
        done = without_tensorflow(*command)
        assert (done.returncode, done.stderr) == (0, ""), done


def needs_keras(place: Path) -> tuple[object, ...]:
    """Write a model that is read as far as can be without Keras, and return how it is given."""
    layer = {"class_name": "QActivation", "config": {"name": "q", "activation": "quantized_relu(4,1)"}}
    config = {"name": "m", "build_input_shape": [None, 3], "layers": [layer]}
    (place / "m.json").write_text(json.dumps({"class_name": "Sequential", "config": config}))
    (place / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return place / "m.json", "--weights", place / "w.h5"


def test_what_needs_tensorflow_says_so(tmp_path: Path) -> None:
    model = needs_keras(tmp_path)
    for command in (("train", "digits_mlp", "--output", tmp_path), ("build", *model, "--output", tmp_path)):
        done = without_tensorflow(*command)
        assert done.returncode == 3, done
        assert done.stderr.count("\n") == 1
        assert "pip install 'po2flow[train]'" in done.stderr


def test_what_is_no_model_is_refused_without_tensorflow(tmp_path: Path) -> None:
    """In no time: the text of a file says so, whatever its name."""
    (tmp_path / "m.h5").write_text("hello")
    done = without_tensorflow("build", tmp_path / "m.h5", "--output", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "not a Keras model" in done.stderr


@pytest.mark.parametrize("command", ["check", "build", "quantize"])
def test_what_is_cheap_is_checked_before_the_model_is_read(command: str, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_text("no model at all")
    asked, absent = (command, tmp_path / "m.h5", "--output", tmp_path / "runs"), tmp_path / "x.npy"
    refused(flow(*asked, "--inputs", absent), f"{absent}: no such file")
    refused(flow(*asked, "--input-format", "fixed<0,0>"), "input_format: a fixed-point format of 0 bits")
    refused(flow(*asked, "--softmax", "yes"), "softmax: ", "'yes'")
    refused(flow(*asked, "--part", "xc7z02"), "xc7z02")
    refused(flow(*asked), "not a Keras model")


def test_keras_3_before_us_is_a_clear_error(tmp_path: Path) -> None:
    """Whatever Keras TensorFlow took first, it keeps; a stand-in for the module says that it took Keras 3."""
    code = """
import os, sys, types
os.environ.pop("TF_USE_LEGACY_KERAS", None)
import importlib
real = importlib.import_module
class Layer: pass
Layer.__module__ = "keras.src.layers.layer"
def fake(name, package=None):
    if name == "tensorflow.keras":
        return types.SimpleNamespace(layers=types.SimpleNamespace(Layer=Layer))
    if name in ("tensorflow", "tf_keras"):
        return types.ModuleType(name)
    return real(name, package)
importlib.import_module = fake
from flow.cli import main
sys.exit(main(sys.argv[1:]))
"""
    output = ("--output", str(tmp_path))
    done = python("-c", code, "train", "digits_mlp", *output)
    assert done.returncode == 3, done
    assert "TF_USE_LEGACY_KERAS=1" in done.stderr
    assert done.stderr.count("\n") == 1
    done = python("-c", code, "build", *map(str, needs_keras(tmp_path)), *output, "--until", "extract")
    assert done.returncode == 2, "a file is read in a process of its own"
    assert "Keras 2 cannot load this model: Unable to synchronously open file" in done.stderr


def test_output_that_is_full_is_named() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "flow.cli", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "flow: error: standard output: No space left on device\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_verdict_stands_when_nobody_reads_it(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, form: str
) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    (run / "project/project.tcl").unlink()
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "flow.cli", "report", str(run), "--format", form]
    with open(write, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_no_standard_output_at_all_is_none_of_our_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["list"]) == 0


# `flow export`


@needs_compiler
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH")
def test_an_hls_run_is_handed_over_and_passes(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    (run,) = run_directories(built_digits(tmp_path_factory)[0])
    record = flow("export", run, "--to", tmp_path / "to", "--samples", 30, "--json").report()
    assert record["samples"] == 30 and record["compared"] == ["qkeras", "reference", "csim"]
    assert all(digest_file(tmp_path / "to" / path) == digest for path, digest in record["files"].items())
    assert json.loads((tmp_path / "to/po2flow.json").read_text()) == record
    assert "PASS: digits_mlp, 30 samples\n" in make(tmp_path / "to", "csim")
    expected = tmp_path / "to/vectors/logits.bin"
    expected.write_bytes(bytes(8) + expected.read_bytes()[8:])
    assert "FAIL: digits_mlp, logits differs" in make(tmp_path / "to", "csim", fails=True)
    refused(flow("export", run, "--to", tmp_path / "to"), "is there and is not empty", "name another folder")
    assert expected.exists()


@needs_compiler
def test_what_was_not_proven_is_not_handed_over(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run, to = copy_of_digits(tmp_path_factory, tmp_path), tmp_path / "to"
    refused(flow("export", run, "--to", to, "--samples", 0), "samples is 0", "1 to 10000")
    refused(flow("export", tmp_path, "--to", to), "not a run directory")
    inside, told = run / "project/x", (f"lies in the run directory {run}", "name a place outside of it")
    refused(flow("export", run, "--to", inside), *told)
    refused(flow("calibrate", run, "--to", inside), *told)
    refused(flow("report", run, run, "--output", inside), *told)
    refused(flow("build", "digits_mlp", "--output", inside), *told)
    refused(flow("quantize", "digits_mlp", "--output", inside), *told)
    refused(flow("train", "digits_mlp", "--output", inside), *told)
    assert not inside.exists()
    refused(
        flow("export", run, "--to", to, "--interface", "spi"),
        "interface 'spi' is not known; use one of axis, fixed, axilite",
    )
    refused(flow("export", run, "--to", to, "--interface", "fixed"), "what its tool makes of them", "--backend rtl")
    refused(flow("export", run, "--to", to, "--tdata-bits", 64), "what its tool makes of them", "--backend rtl")
    refused(flow("export", run, "--to", to, "--interface", "fixed", "--tdata-bits", 8), "only 'axis' has such a width")
    refused(flow("export", run, "--to", to, "--board", "u250"), "what its tool makes of them", "--backend rtl")
    refused(flow("export", run, "--to", to, "--interface", "fixed", "--board", "u250"), "DMA engines need 'axis'")
    refused(flow("bitstream", run, "--board", "ulx3s"), "back end Vitis makes no bitstream", "--backend rtl")
    (run / "project/firmware/defines.h").write_text("// changed\n")
    refused(flow("export", run, "--to", to), "its outputs differ, or its project was changed since")
    assert not to.exists()


def test_what_was_not_compared_is_not_handed_over(tmp_path: Path) -> None:
    stopped = package.BuildOptions(until="emit", output=tmp_path / "runs")
    package.build(Path("digits_mlp"), package.Target(backend="Catapult"), stopped)
    (run,) = run_directories(tmp_path / "runs")
    refused(flow("export", run, "--to", tmp_path / "to"), "nothing was compared in it", "without --until")


def test_completion_knows_every_command_and_option() -> None:
    done = flow("completion", "bash")
    if find_spec("shtab") is None:
        assert done.code == 3 and "pip install 'po2flow[completion]'" in done.err
    else:
        assert done.code == 0 and "--weight-rounding" in done.out and "--tensorboard" in done.out
