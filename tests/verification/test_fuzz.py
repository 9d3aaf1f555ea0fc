"""Fuzzing: some random models go the whole way; a broken flow is found and shrunk; old findings stay mended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TESTS, needs_compiler
from nets import altered

from flow.cli import main
from flow.errors import InputError, ToolMissingError
from flow.frontend.keras.reader import LAYERS
from flow.frontend.keras.topology import topology
from flow.ir.fixed import Rounding
from flow.ir.graph import Input, IntGraph
from flow.train import load_tensorflow
from flow.train.random_models import Recipe, random_recipe, smaller
from flow.verification import fuzz

try:
    load_tensorflow()
except ToolMissingError as error:
    pytest.skip(str(error), allow_module_level=True)
FINDINGS = sorted((TESTS / "findings").glob("*.json"))


def test_recipes_are_the_same_every_time() -> None:
    for index in range(50):
        recipe = random_recipe(3, index)
        assert recipe == random_recipe(3, index) == Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        for each in (recipe, *smaller(recipe)):
            assert topology("Functional", each.config).outputs


def held(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a layer and those that it holds."""
    yield entry
    config = entry["config"]
    for inner in [*config.get("layers", ()), *([config["layer"]] if "layer" in config else ())]:
        yield from held(inner)


def test_recipes_reach_every_layer() -> None:
    """A layer that the front end reads is drawn: one that is not needs a block in `flow/train/random_layers.py`."""
    recipes = [random_recipe(3, index) for index in range(1000)]
    entries = [inner for recipe in recipes for entry in recipe.config["layers"] for inner in held(entry)]
    on_request = {"LayerNormalization"}  # with --float-layers, which no recipe asks for
    assert set(LAYERS) - on_request <= {entry["class_name"] for entry in entries}
    configs = [entry["config"] for entry in entries]
    assert len({config["function"] for config in configs if "function" in config}) > 15
    assert any(config.get("data_format") == "channels_first" for config in configs)
    assert any(config.get("groups", 1) > 1 for config in configs)
    assert any(max(config.get("dilation_rate", [1])) > 1 for config in configs)
    assert {len(recipe.config["output_layers"]) for recipe in recipes} == {1, 2, 3}
    assert min(len(recipe.config["layers"]) for recipe in recipes) <= 2
    assert 90 < sum(recipe.rtlsim for recipe in recipes) < 110


@needs_compiler
def test_some_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fuzz", "--models", "6", "--seed", "7", "--output", str(tmp_path)]
    assert main(command) == 0, capsys.readouterr().out
    assert "6 models: " in capsys.readouterr().out
    assert main(command) == 0, "nothing is done twice"
    again = capsys.readouterr().out
    assert "models per minute" not in again and "0 differs, 0 crashed" in again


def test_models_on_the_workers_of_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches go to its workers; what has an outcome, of a worker that died, is not tried again."""
    tried, asked = list[str](), list[str]()

    @contextmanager
    def pool(*, scheduler: str) -> Iterator[Any]:
        def submit(function: Any, *arguments: Any) -> Any:
            return SimpleNamespace(done=lambda: True, result=lambda: function(*arguments))

        asked.append(scheduler)
        yield SimpleNamespace(size=lambda: 1, submit=submit)

    def exact(recipes: Sequence[Recipe]) -> Iterator[fuzz.Outcome]:
        tried.append(" ".join(recipe.name for recipe in recipes))
        return (fuzz.Outcome(name=recipe.name, status=fuzz.EXACT) for recipe in recipes)

    monkeypatch.setattr(fuzz, "dask_pool", pool)
    monkeypatch.setattr(fuzz, "try_recipes", exact)
    fuzz.try_models(3, [0, 2], str(tmp_path / "seed-3"))
    for _ in range(2):
        command = ["fuzz", "--models", "4", "--seed", "3", "--output", str(tmp_path), "--scheduler", "tcp://head:1"]
        assert main(command) == 0
        assert "4 models: 4 exact" in capsys.readouterr().out
    assert tried == ["fuzz_3_0 fuzz_3_2", "fuzz_3_1 fuzz_3_3"] and asked == ["tcp://head:1"]


@needs_compiler
@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_old_findings(path: Path) -> None:
    outcome = fuzz.replay(path)
    assert outcome.status == json.loads(path.read_text())["expected"], outcome.reason


@needs_compiler
def test_a_wrong_rounding_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cast drops its bits, in the graph and so in all that is made of it: only QKeras knows better."""
    lower = fuzz.lower

    def truncating(graph: IntGraph, **settings: Any) -> IntGraph:
        lowered = lower(graph, **settings)
        ops = tuple(op if isinstance(op, Input) else altered(op, rounding=Rounding.TRN) for op in lowered.ops)
        return replace(lowered, ops=ops)

    monkeypatch.setattr(fuzz, "lower", truncating)
    recipe = random_recipe(5, 4)  # eight layers, a leaky ReLU that rounds among them
    (outcome,) = fuzz.try_recipes([recipe])
    assert outcome.status == fuzz.DIFFERS and outcome.reason.startswith("qkeras differs from the reference first at op")
    small, found = fuzz.shrink(recipe, outcome)
    assert found.status == fuzz.DIFFERS and len(small.config["layers"]) <= 4 < len(recipe.config["layers"])


def test_a_file_without_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "finding.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="holds no recipe"):
        fuzz.replay(path)
    assert main(["fuzz", "--replay", str(path)]) == 2
    assert main(["fuzz", "--models", "0"]) == 2


def test_a_replayed_model_goes_through_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file names is refused as in a user's file, before Keras sees it."""
    monkeypatch.setattr(fuzz, "try_recipes", lambda recipes: pytest.fail("it was tried"))
    recipe = random_recipe(5, 0).to_json()
    path = tmp_path / "finding.json"

    def replayed(**changed: Any) -> str:
        path.write_text(json.dumps({"recipe": {**recipe, **changed}}))
        with pytest.raises(InputError) as caught:
            fuzz.replay(path)
        return str(caught.value)

    def with_layer(class_name: str, **config: Any) -> str:
        entry = {"class_name": class_name, "name": "evil", "config": {"name": "evil", **config}, "inbound_nodes": []}
        return replayed(config={**recipe["config"], "layers": [*recipe["config"]["layers"], entry]})

    assert "holds a Lambda layer, which is code" in with_layer("Lambda", function=["4wEA", None, None])
    assert "system is not supported" in with_layer("os>system", command="true")
    assert "quantized_po2: bits=40 without a max_value" in with_layer("QActivation", activation="quantized_po2(40)")
    assert "key 'seed' is -1" in replayed(seed=-1)
    assert "key 'config' is [1]" in replayed(config=[1])
    assert "key 'command' is unknown" in replayed(command="true")
