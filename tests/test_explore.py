"""Searches: the space of a spec, the loop with a fake training, the page; slow ones with workers that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_cli import flow as command
from fixtures_cli import refused

import flow
from flow.data.datasets import Dataset, held_out
from flow.errors import SpecError, ToolFailedError, ToolMissingError
from flow.exploration import search as searching
from flow.exploration.found import Exploration
from flow.exploration.space import holds, read_space
from flow.exploration.study import FINISHED, PRUNED, REFUSED, RUNNING, Study, dominated, goes_on
from flow.exploration.trial import validated
from flow.progress import silent
from flow.report.page.exploration import render_exploration
from flow.target import Target
from flow.train.spec import ModelSpec, OwnSpec, load_spec
from flow.workers import dask_pool

NET = """
name = "searched"
dataset = "digits"
[input]
name = "port"
shape = [64]
format = { signed = false, int_bits = 0, frac_bits = 2 }
[[layers]]
kind = "dense"
name = "hidden"
units = 16
kernel = { min_exponent = -3, max_exponent = 0 }
[[layers]]
kind = "relu"
name = "relu1"
format = { signed = false, int_bits = 1, frac_bits = 2 }
[[layers]]
kind = "dense"
name = "more"
units = 12
kernel = { min_exponent = -3, max_exponent = 0 }
[[layers]]
kind = "relu"
name = "relu2"
format = { signed = false, int_bits = 1, frac_bits = 2 }
[[layers]]
kind = "dense"
name = "logits"
units = 10
kernel = { min_exponent = -3, max_exponent = 0 }
[train]
epochs = 8
batch_size = 64
learning_rate = 0.01
seed = 1
[search]
constraints = ["layers.more.units <= layers.hidden.units", "bits < 4 or not second"]
[search.space]
layers.hidden.units = { low = 8, high = 32, step = 8 }
layers.more.units = { low = 4, high = 32 }
layers.logits.kernel = [{ min_exponent = -3, max_exponent = 0 }, { values = "ternary" }]
bits = { keys = ["layers.relu1.format.frac_bits", "layers.relu2.format.frac_bits"], low = 1, high = 4 }
second = { keys = ["layers.more", "layers.relu2"], choices = [true, false] }
train.learning_rate = { low = 1e-3, high = 0.1, log = true }
"""
VALUES = {
    "layers.hidden.units": 24,
    "layers.more.units": 5,
    "layers.logits.kernel": "{'values': 'ternary'}",
    "bits": 3,
    "second": True,
    "train.learning_rate": 0.02,
}
OWN = 16 + 12


def write_spec(directory: Path, text: str = NET) -> Path:
    path = directory / "spec.toml"
    path.write_text(text)
    return path


# -- the space


def test_values_of_the_space_make_a_spec(tmp_path: Path) -> None:
    space = read_space(write_spec(tmp_path))
    assert space.document["train"]["validation"] == 0.2
    own = space.own_values()
    assert own is not None and own["layers.hidden.units"] == 16 and own["second"] is True
    made = space.spec(VALUES)
    assert [layer["name"] for layer in made["layers"]] == ["hidden", "relu1", "more", "relu2", "logits"]
    assert made["layers"][0]["units"] == 24 and made["layers"][4]["kernel"] == {"values": "ternary"}
    assert made["layers"][1]["format"]["frac_bits"] == made["layers"][3]["format"]["frac_bits"] == 3
    short = space.spec({**VALUES, "second": False, "layers.more.units": 32, "bits": 4})
    assert [layer["name"] for layer in short["layers"]] == ["hidden", "relu1", "logits"], "constraints of it are met"
    with pytest.raises(SpecError, match=r"constraint 'layers.more.units <= layers.hidden.units' is not met"):
        space.spec({**VALUES, "layers.more.units": 32})
    with pytest.raises(SpecError, match="constraint 'bits < 4 or not second' is not met"):
        space.spec({**VALUES, "bits": 4})
    assert isinstance(load_spec(tmp_path / "spec.toml"), ModelSpec), "`flow train` takes the same file"


def test_files_and_arguments_of_a_users_function(tmp_path: Path) -> None:
    text = """
    name = "own"
    dataset = "digits"
    [net]
    function = "nets.py:make"
    [train]
    epochs = 4
    batch_size = 8
    learning_rate = 0.01
    seed = 1
    [search.space]
    net.arguments.filters = { low = 2, high = 8 }
    """
    (tmp_path / "nets.py").write_text("def make(filters): raise AssertionError")
    space = read_space(write_spec(tmp_path, text))
    made = space.spec({"net.arguments.filters": 3})
    assert made["net"] == {"function": f"{tmp_path}/nets.py:make", "arguments": {"filters": 3}}
    assert isinstance(load_spec(tmp_path / "spec.toml"), OwnSpec)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (NET[NET.index("[search]") :], "", "has no table [search]"),
        ("layers.hidden.units =", "layers.hiden.units =", "nothing is called 'hiden'"),
        ("low = 8, high = 32", "low = 32, high = 8", "goes from 32 to 8"),
        ("step = 8", "step = 0", "search.space.layers.hidden.units.step' is 0"),
        ("step = 8", "steps = 8", "steps' is unknown"),
        ("choices = [true, false]", "choices = [1, 2]", "'layers.more' is a whole layer"),
        ("low = 1e-3", "low = 0", "above 0 for log"),
        ("[search]", '[search]\nobjectives = ["size"]', "expected different ones of accuracy, error, luts"),
        ("bits < 4", "bit < 4", "nothing is called 'bit'"),
        ("bits < 4", "__import__('os') < 4", "nothing is called '__import__'"),
        ("bits < 4", "bits <", "has no value"),
    ],
)
def test_what_is_no_space_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    outcome = command("explore", write_spec(tmp_path, NET.replace(old, new, 1)), "--output", tmp_path / "out")
    said = refused(outcome)
    assert words in said, said
    assert not (tmp_path / "out").exists()


def test_constraints_compute_and_run_nothing() -> None:
    document = {"layers": [{"name": "a", "units": 6}, {"name": "b", "units": 4}]}
    for text, expected in (
        ("layers.a.units % layers.b.units == 2", True),
        ("10 > layers.a.units - 1 > 5", False),
        ("-n < 0 and not (n >= 3)", True),
        ("layers.gone.units > 10**9", True),
    ):
        if "**" not in text:
            assert holds(text, document, {"n": 2}) is expected, text
    with pytest.raises(SpecError, match="holds '2 \\*\\* 9'"):
        holds("2 ** 9 < n", document, {"n": 2})
    with pytest.raises(SpecError, match="has no value"):
        holds("n / 0 < 1", document, {"n": 2})


# -- what is held out


def test_samples_are_held_out_of_the_training_split() -> None:
    x, y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10) % 2
    data = Dataset(name="own", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2], class_names=("a", "b"), source="here")
    parted = held_out(data, 0.3)
    assert parted.x_valid is not None and isinstance(parted.y_valid, np.ndarray)
    rows = np.concatenate([parted.x_train, parted.x_valid])[:, 0]
    assert sorted(rows) == x[:, 0].tolist() and len(parted.x_valid) == 3
    assert (parted.y_valid == (parted.x_valid[:, 0] / 2) % 2).all()
    assert held_out(parted, 0.5) is parted, "data that has a validation split keeps it"
    with pytest.raises(SpecError, match="leaves one of both splits empty"):
        held_out(data, 0.01)


def test_figures_are_those_of_the_last_epoch() -> None:
    head = "model,epoch,loss,val_loss,val_a_accuracy,val_b_accuracy\n"
    rows = "float_twin,2,0,9,0.1,0.1\nquantized,1,0,3,0.2,0.4\nquantized,2,0,2,0.5,0.7\n"
    assert validated(head + rows) == {"error": 2.0, "accuracy": pytest.approx(0.6)}
    with pytest.raises(flow.FlowError, match="no samples are held out"):
        validated("model,epoch,loss\nquantized,1,0.5\n")


# -- better and worse


def test_a_short_training_goes_on_if_it_is_among_the_better_half() -> None:
    line = [(float(n), 10.0 - n) for n in range(8)]
    assert dominated(line) == [0] * 8 and all(goes_on(point, line) for point in line)
    worse = [*line, *((n + 5.0, 15.0 - n) for n in range(8))]
    assert [goes_on(point, worse) for point in worse] == [True] * 8 + [False] * 8


# -- the loop, with a fake training


class Later:
    """Work that is done when it is asked for the second time."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call, self.asked = call, 0

    def done(self) -> bool:
        self.asked += 1
        return self.asked > 1

    def result(self) -> Any:
        return self.call()

    def cancel(self) -> None:
        self.call = lambda: pytest.fail("it was cancelled")


class Inline:
    """Does two pieces of work at a time, until so many are begun: then Ctrl-C is pressed."""

    def __init__(self, pieces: int = 10**6) -> None:
        self.left, self.steps = pieces, list[str]()

    def size(self) -> int:
        return 2

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Later:
        self.left -= 1
        self.steps.append(arguments[1] if isinstance(arguments[1], str) else "confirmed")
        if self.left < 0:
            raise KeyboardInterrupt
        return Later(lambda: function(*arguments))


def fake_measure(directory: str, step: str, part: float, target: Mapping[str, Any]) -> dict[str, Any]:
    """Give a net that is the more accurate the more units it has."""
    spec = load_spec(Path(directory) / "spec.toml")
    assert isinstance(spec, ModelSpec) and spec.train.validation == 0.2
    assert (step, part) in (("short", 0.25), ("full", 1.0))
    units = [layer.units for layer in spec.layers if hasattr(layer, "units")]
    wasted = 100 * (spec.train.learning_rate > 0.03)  # worse in both
    accuracy = (1 - 1 / sum(units[:-1])) * (1 if step == "full" else 0.5) - wasted / 1000
    luts = 100 * sum(units[:-1]) + wasted
    return {
        "accuracy": accuracy,
        "luts": luts,
        "luts_low": round(0.9 * luts),
        "latency": 3,
        "energy": 1.0,
        "seconds": 0.1,
    }


def fake_confirm(directory: str, target: Mapping[str, Any]) -> dict[str, Any]:
    (Path(directory) / "once").touch(exist_ok=False)
    luts = fake_measure(directory, "full", 1.0, target)["luts"]
    return {
        "luts": luts + 50,
        "ff": 1,
        "dsp": 0,
        "bram_18k": 0,
        "tool": "Yosys",
        "bit_exact": True,
        "test_accuracy": 0.9,
        "run": "r",
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Exploration]:
    pytest.importorskip("optuna")
    pytest.importorskip("tomli_w")
    monkeypatch.setattr(searching, "measure", fake_measure)
    monkeypatch.setattr(searching, "confirm", fake_confirm)
    monkeypatch.setattr(searching, "PAUSE_S", 0.0)
    monkeypatch.setattr(Study, "importances", lambda study: {})  # which import scikit-learn: a slow test has them
    space = read_space(write_spec(tmp_path))

    study = Study("searched", space, None, tmp_path / "trials", 1)

    def search(trials: int, budget: int | None = None, pool: Any = None) -> Exploration:
        facts = {"model": "searched", "dataset": "mnist", "part": "some", "budget_luts": budget}
        return searching.search(study, pool or Inline(), trials, Target(backend="rtl"), facts, silent)

    return search


def test_a_search_finds_the_front_and_confirms_it(run: Callable[..., Exploration], tmp_path: Path) -> None:
    found = run(14, pool=(pool := Inline()))
    assert pool.steps.count("short") == 14 and 7 <= pool.steps.count("full") < 14
    states = [trial.state for trial in found.trials]
    assert len(states) - states.count(REFUSED) == 14 and states.count(FINISHED) >= 7
    assert states.count(REFUSED) >= 1 and states.count(PRUNED) >= 1 and RUNNING not in states
    assert found.trials[0].figures["luts"] == 100 * OWN, "the spec itself is the first trial"
    done = [trial for trial in found.trials if trial.state == FINISHED]
    best = max(done, key=lambda trial: trial.figures["accuracy"])
    assert found.best is not None and found.best.figures == best.figures
    for trial in found.front:
        assert trial.confirmed["luts"] == trial.figures["luts"] + 50
        assert not any(
            o.figures["accuracy"] > trial.figures["accuracy"] and o.figures["luts"] < trial.figures["luts"]
            for o in done
        )
        assert isinstance(load_spec(trial.directory / "spec.toml"), ModelSpec)
    text = found.to_text()
    assert f"flow train {found.best.directory}/spec.toml" in text and "14 trials" not in text.partition(":")[0]
    data = json.loads((tmp_path / "trials/explore.json").read_text())
    assert data == json.loads(json.dumps(found.to_json())) and data["front"]
    assert found.page.read_text() == render_exploration(found.to_json())


def test_a_budget_gives_the_best_net_within_it(run: Callable[..., Exploration]) -> None:
    found = run(14, budget=2550)
    assert found.best is not None and found.best.confirmed["luts"] <= 2550
    fit = [t for t in found.trials if t.state == FINISHED and t.figures["luts"] + 50 <= 2550]
    assert found.best.figures["accuracy"] == max(t.figures["accuracy"] for t in fit)
    assert any("the budget is 2,550" in trial.reason for trial in found.trials)


def test_an_interrupted_search_goes_on(run: Callable[..., Exploration], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(4, pool=Inline(pieces=5))
    data = json.loads((tmp_path / "trials/explore.json").read_text())
    before = {each["number"]: each for each in data["trials"]}
    assert any(each["state"] == RUNNING for each in before.values()), "its page says where it stood"
    pool = Inline()
    found = run(4, pool=pool)
    states = [trial.state for trial in found.trials if trial.state != REFUSED]
    assert len(states) == 4 and RUNNING not in states
    for trial in found.trials:
        if trial.number in before and before[trial.number]["state"] != RUNNING:
            assert before[trial.number]["figures"] == dict(trial.figures), "nothing that was finished is lost"
    done = 10**6 - pool.left
    assert run(4, pool=(again := Inline())).front == found.front
    assert done > 0 and again.left == 10**6, "all is done"


def test_trials_that_fail_are_kept_until_they_are_too_many(
    run: Callable[..., Exploration], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(searching, "measure", broken)
    with pytest.raises(
        flow.FlowError, match="the first 5 trials gave no net, the last one: RuntimeError: no such thing"
    ):
        run(14)


def test_a_net_that_cannot_be_built_is_not_in_the_front(
    run: Callable[..., Exploration], monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(directory: str, target: Mapping[str, Any]) -> dict[str, Any]:
        if fake_measure(directory, "full", 1.0, target)["luts"] > 100 * OWN:
            raise ToolFailedError("yosys took longer than 3600 s")
        return fake_confirm(directory, target)

    monkeypatch.setattr(searching, "confirm", confirmed)
    found = run(8)
    failed = [trial for trial in found.trials if "failed" in trial.confirmed]
    assert failed and found.front and not {*map(id, failed)} & {*map(id, found.front)}
    assert "yosys took longer than 3600 s" in found.page.read_text()


def test_a_space_without_any_net_is_refused(
    run: Callable[..., Exploration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MOST_REFUSED", 3)
    space = read_space(write_spec(tmp_path, NET.replace("bits < 4 or not second", "bits > 4")))
    with pytest.raises(SpecError, match=r"one after another are no net, the last one as constraint"):
        searching.search(
            Study("none", space, None, tmp_path / "none", 1), Inline(), 3, Target(backend="rtl"),
            {"model": "none", "dataset": "digits", "part": "", "budget_luts": None}, silent,
        )  # fmt: skip


# -- the page, and what is missing


def test_the_page_shows_published_nets_and_escapes_what_is_foreign() -> None:
    figures = {"accuracy": 0.95, "luts": 500, "luts_low": 450, "latency": 3, "energy": 1.5, "seconds": 2.0}
    trial = {
        "number": 3, "state": "finished", "values": {"<i>": 1}, "figures": figures, "short": {}, "reason": "",
        "confirmed": {"luts": 520, "test_accuracy": 0.94, "bit_exact": True}, "directory": "d",
        "commands": ["flow train d/spec.toml"],
    }  # fmt: skip
    data = {
        "model": "net", "dataset": "mnist", "part": "p", "objectives": ["accuracy", "luts"], "budget_luts": 600,
        "trials": [trial], "front": [3], "best": 3, "importances": {"accuracy": {"<i>": 1.0}},
    }  # fmt: skip
    page = render_exploration(data)
    assert "<i>" not in page and page.count('href="#trial-3"') == 3 and 'id="trial-3"' in page
    assert "2410.11112" in page and "PolyLUT" in page and "Best within 600 LUT: trial 3." in page
    nothing = render_exploration({**data, "trials": [], "front": [], "best": None, "importances": {}})
    assert "Trade-off" not in nothing


@pytest.mark.parametrize("package", ["optuna", "distributed"])
def test_a_missing_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ToolMissingError, match=rf"'{package}' cannot be imported.*pip install 'po2flow\[explore\]'"):
        if package == "optuna":
            Study("none", read_space(write_spec(tmp_path)), None, tmp_path, 1)
        else:
            dask_pool().__enter__()


# -- slow


@pytest.mark.slow
def test_a_database_keeps_trials_and_says_what_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(searching, "measure", fake_measure)
    monkeypatch.setattr(searching, "confirm", fake_confirm)
    space, facts = (
        read_space(write_spec(tmp_path)),
        {"model": "m", "dataset": "digits", "part": "", "budget_luts": None},
    )
    found = []
    for trials in (6, 12, 12):  # opened anew each time, as by another process
        study = Study("kept", space, tmp_path / "study.db", tmp_path / "trials", 1)
        found.append(searching.search(study, Inline(), trials, Target(backend="rtl"), facts, silent))
    assert found[1].front == found[2].front
    assert {trial.number: trial.figures for trial in found[0].trials if trial.state == FINISHED}.items() <= {
        trial.number: trial.figures for trial in found[1].trials
    }.items()
    for importances in found[1].importances.values():
        assert set(importances) == set(VALUES) and sum(importances.values()) == pytest.approx(1)
    with pytest.raises(SpecError, match="cannot be opened"):
        Study("kept", space, "postgresql://nobody@localhost:1/none", tmp_path, 1)


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_no_trial_with_it(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    pytest.importorskip("distributed")
    spec = write_spec(tmp_path, NET.replace("epochs = 8", "epochs = 16"))
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        place = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
        return subprocess.Popen([*dask, *arguments], **place)  # type: ignore[call-overload,no-any-return]

    scheduler = start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    workers = [
        start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard")
        for _ in range(2)
    ]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        arguments = ["explore", str(spec), "--trials", "2", "--scheduler", address, "--output", str(tmp_path / "out")]
        search = subprocess.Popen(
            [sys.executable, "-m", "flow.cli", *arguments, "--json"], stdout=subprocess.PIPE, env=environment
        )
        while not list(tmp_path.glob("out/*/trial-*/.training/quantized.npz")) and time.monotonic() < deadline + 300:
            time.sleep(0.05)
        workers[0].send_signal(signal.SIGKILL)
        out, _ = search.communicate(timeout=900)
        assert search.returncode == 0
        data = json.loads(out)
        states = [each["state"] for each in data["trials"] if each["state"] != "refused"]
        assert len(states) == 2 and set(states) <= {"finished", "pruned"} and data["front"]
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
    best = next(each for each in data["trials"] if each["number"] == data["best"])
    assert command("train", Path(best["directory"]) / "spec.toml", "--output", tmp_path / "again").code == 0
    kept, again = (np.load(Path(place) / "trained.npz") for place in (best["directory"], tmp_path / "again"))
    weights = [name for name in kept.files if name.startswith("weight")]
    assert weights and all((kept[name] == again[name]).all() for name in weights), "its spec makes the same net"
