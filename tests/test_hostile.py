"""Names made to do harm, of layers and of files: nothing of them reaches a shell or a compiler."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fixtures_cli import flow, needs_compiler, refused, run_directories
from fixtures_keras import array, dense, qkeras, save, sequential

from flow.graph import from_json

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
PORT = ("--input-format", "fixed<6,1>")
NAMES = (
    "a\"b'c",
    'x; int main() { system("touch was_here"); } //',
    "*/ #include <evil.h> /*",
    "../../evil",
    "/etc/passwd",
    "$(touch was_here)",
    "`touch was_here`",
    "grün λ 層",
    "line\nbreak",
    "bell\x07\x1b[31m",
    "| a | b |",
    "%s%n{0}",
    "@top@",
    "weights/first/kernel",
    "n" * 3000,
    "int",
    "main",
    "layer2_out",
    "result_t",
    "nnet",
    "-rf",
    " ",
    "0",
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Work in a directory where a `touch was_here` would be seen."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("was_here"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a small model whose first layers have names to be replaced."""
    parts = (dense(3, "first"), qkeras.QActivation("quantized_relu(3,1)", name="second"), dense(2, "last"))
    return save(sequential((4,), *parts), tmp_path_factory.mktemp("model") / "m.h5").read_bytes()


def renamed(model: bytes, path: Path, name: str) -> Path:
    """Write a model whose layers are called `name`; Keras itself would not make most of these."""
    path.write_bytes(model)
    with h5py.File(path, "r+") as file:
        text = str(file.attrs["model_config"])
        for old, new in (("first", name), ("second", f"{name}.2")):
            text = text.replace(json.dumps(old), json.dumps(new))
        file.attrs["model_config"] = text
    return path


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:12]))
def test_layer_names(model: bytes, name: str, tmp_path: Path) -> None:
    """A name is either refused in one line or becomes an identifier everywhere."""
    outcome = flow("build", renamed(model, tmp_path / "m.h5", name), *PORT, "--until", "emit", "--output", "runs")
    if outcome.code:
        error = refused(outcome, "m.h5")
        assert error[:-1].isprintable()
        assert not Path("runs").exists()
        return
    run = run_directories(Path("runs"))[0]
    graph = from_json(json.loads((run / "graph.json").read_text()))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,44}", op.name) for op in graph.ops)
    for path in (run / "project").rglob("*"):
        assert re.fullmatch(r"[\w.-]+", path.name)
    if not re.fullmatch(r"\w{1,12}", name):
        own = [path for path in (run / "project").rglob("*") if path.is_file() and "nnet_utils" not in path.parts]
        assert not [path for path in own if name.encode() in path.read_bytes()]


FILES = (
    "main.h5",
    "int.h5",
    "a b;c.h5",
    "$(touch was_here).h5",
    "'.h5",
    "-x.h5",
    "..h5",
    "ünï.h5",
    "new\nline.h5",
    "1.h5",
)


@pytest.mark.parametrize("name", FILES)
def test_file_names(model: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(model)
    outcome = flow("build", tmp_path / name, *PORT, "--until", "emit", "--output", "runs", "--json")
    assert outcome.code == 0, outcome
    found = outcome.report()["model"]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", found)
    run = run_directories(Path("runs"))[0]
    assert run.parts[:2] == ("runs", found)
    assert (run / "project/firmware" / f"{found}.cpp").exists()


@needs_compiler
@pytest.mark.parametrize(("name", "layer"), [("main", "layer2_out"), ("int; x", "result_t")])
def test_a_hostile_model_compiles_and_is_exact(model: bytes, name: str, layer: str, tmp_path: Path) -> None:
    """The file name becomes the top function; layers are called like what hls4ml generates."""
    path = renamed(model, tmp_path / f"{name}.h5", layer)
    outcome = flow("build", path, *PORT, "--output", "runs", "--adversarial", 32, "--json")
    assert outcome.code == 0, outcome
    assert outcome.report()["verdict"]["bit_exact"] is True


@needs_compiler
def test_names_of_input_files_stay_in_their_line(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(model)
    inputs = array(tmp_path / "x\n# Title\x1b[2J.npy", np.zeros((3, 4)))
    outcome = flow("build", "m.h5", "--inputs", inputs, "--output", "runs", "--adversarial", 32)
    assert outcome.code == 0, outcome
    assert "\x1b" not in outcome.out
    assert "\n# Title" not in outcome.out
    assert "\n# Title" not in next(Path("runs").rglob("report.md")).read_text()


def test_a_port_needs_a_format_or_inputs(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(model)
    refused(flow("build", "m.h5", "--output", "runs"), "--input-format", "--inputs")
    inputs = array(tmp_path / "x.npy", np.array([[0.5, -0.25, 1.0, 0.0]]))
    until = ("--until", "emit", "--output", "runs", "--json")
    derived = flow("build", "m.h5", "--inputs", inputs, *until).report()["inputs"]["format"]
    assert derived == {"signed": True, "int_bits": 1, "frac_bits": 2}
    given = flow("build", "m.h5", "--inputs", inputs, "--input-format", "fixed<8,3>", *until).report()["inputs"][
        "format"
    ]
    assert given == {"signed": True, "int_bits": 2, "frac_bits": 5}
    rough = array(tmp_path / "rough.npy", np.array([[0.1, -0.25, 1.0, 0.0]]))
    capped = flow("build", "m.h5", "--inputs", rough, *until).report()["inputs"]["format"]
    assert capped == {"signed": True, "int_bits": 1, "frac_bits": 14}
