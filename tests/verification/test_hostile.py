"""Files made to do harm, and names of layers and of files: a clean error or a clean project, and nothing else."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fixtures_cli import flow, needs_compiler, refused, run_directories
from fixtures_keras import array, dense, qkeras, save, sequential
from hostile_files import CANARY, FORMS, Files, attacks, base_models, contorted, damaged

from flow.ir.graph import from_json

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
    assert not list(tmp_path.rglob(CANARY))


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


# -- files

ATTACKS = attacks()
HARMLESS = {
    "size: groups 0",
    "wires: ragged",
    "text: constraint",
    "text: initializer",
    "text: module of a layer",
    "text: module os",
    "text: build_config",
    "weights: infinite",
    "weights: integers",
    "weights: group in itself",
    "archive: names out of it",
}
"""Attacks on what is never looked at, or that make another model of the file: a project comes of them."""
STARTS_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty")
SECONDS, MEGABYTES = 60, 1000
_events: list[tuple[str, Any]] | None = None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and (event in ("open", "socket.connect", "pickle.find_class", *STARTS_PROGRAMS)):
        _events.append((event, arguments))


sys.addaudithook(_record)  # it cannot be taken off, so it only looks while a file is built


class TooLong(BaseException):
    """A build was not done in time."""


@contextmanager
def watched(allowed: tuple[Path, ...]) -> Iterator[None]:
    """Check that no program is started, no file written elsewhere, little memory used, and that it ends in time."""
    global _events

    def late(*_: Any) -> None:
        raise TooLong

    before, kept = _peak_megabytes(), signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    _events = []
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, kept)
        events, _events = _events, None
    for event, arguments in events:
        assert event == "open", (event, arguments)
        path, _, flags = arguments
        if isinstance(path, str | bytes) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written = Path(os.path.abspath(os.fsdecode(path)))
            assert any(place in (written, *written.parents) for place in allowed), written
    assert _peak_megabytes() - before < MEGABYTES


def _peak_megabytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10  # type: ignore[index]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Files]]:
    return base_models(tmp_path_factory.mktemp("bases"))


def build(files: Files) -> Any:
    """Build a file; check what must hold for each: an exit code, one line of error at most, and nothing elsewhere."""
    path, weights = files
    before = sorted(Path().rglob("*"))
    scratch = Path("scratch").absolute()
    scratch.mkdir()
    options = () if weights is None else ("--weights", weights)
    with pytest.MonkeyPatch.context() as patch, watched((Path("runs").absolute(), scratch)):
        patch.setattr(tempfile, "tempdir", str(scratch))
        outcome = flow("build", path, *options, "--until", "emit", "--output", "runs", "--json")
    left = [each.name for each in scratch.iterdir()]
    assert all(name.startswith("__autograph_generated_file") for name in left), left  # TensorFlow's, until it exits
    assert sorted(each for each in Path().rglob("*") if each.parts[0] not in ("runs", "scratch")) == before
    if outcome.code:
        error = refused(outcome)
        assert error[:-1].isprintable()
        assert len(error) < 2000, error
    else:
        assert outcome.report()["project"]["path"].startswith("runs/")
    return outcome


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(bases: Any, name: str, tmp_path: Path) -> None:
    model, form, make = ATTACKS[name]
    outcome = build(files := make(bases[model][form], tmp_path))
    assert (outcome.code == 0) == (name in HARMLESS), outcome
    if name.startswith("quantizer"):
        assert checked(files) == said(outcome), outcome


def said(outcome: Any) -> tuple[int, str]:
    """Return the exit code of a command and what it refused, without the name of the model in front."""
    return outcome.code, outcome.err.removeprefix("flow: error: ").removeprefix("model: ").strip()


def checked(files: Files) -> tuple[int, str]:
    """Return the same of a check; what it finds it prints, with what to do in a line of its own."""
    path, weights = files
    outcome = flow("check", path, *(() if weights is None else ("--weights", weights)), "--output", "runs")
    found = re.findall(r"^error    \S+: (.*)\n         way out: (.*)$", outcome.out, re.M)
    return (outcome.code, "; ".join(found[0])) if len(found) == 1 else said(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ATTACKS if not name.startswith("quantizer")])
def test_a_check_refuses_what_a_build_refuses(bases: Any, name: str, tmp_path: Path) -> None:
    model, form, make = ATTACKS[name]
    files = make(bases[model][form], tmp_path)
    code, error = said(build(files))
    found = checked(files)
    assert found[0] == code and (not code or found[1] == error or "things are in the way" in error)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files(bases: Any, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    build(damaged(bases[rng.choice(sorted(bases))][rng.choice(FORMS)], tmp_path, rng))


@pytest.mark.parametrize("seed", range(60))
def test_contorted_configurations(bases: Any, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    build(contorted(bases[rng.choice(sorted(bases))][rng.choice(FORMS)], tmp_path, rng))


def test_there_are_enough_files() -> None:
    assert len(ATTACKS) + 40 + 60 >= 250


@pytest.mark.parametrize("name", ["wires: cycle", "text: TFOpLambda deep inside", "weights: numbers in another file"])
def test_attacks_on_the_real_command(bases: Any, name: str, tmp_path: Path) -> None:
    """A process of its own says one line too: nothing of TensorFlow, HDF5 or Python comes with it."""
    model, form, make = ATTACKS[name]
    path, weights = make(bases[model][form], tmp_path)
    options = [] if weights is None else ["--weights", str(weights)]
    command = [sys.executable, "-m", "flow.cli", "build", "--quiet", str(path), *options, "--output", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flow: error: ")
    assert done.stderr.count("\n") == 1
