"""The layering of the package, read from its source: imports go downwards, foreign packages stay in their place."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flow
from flow.backends.base import BACKENDS

ROOT = Path(flow.__file__).parent
MODULES = {
    ".".join(("flow", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
ORDER = (
    "errors", "progress", "findings", "json_text", "toml_table", "field_types", "files", "project", "results",
    "part_names", "parts", "toolchain", "workers", "runs", "backends.base", "target",
    "ir", "ir.passes", "data", "frontend", "frontend.keras", "frontend.extraction", "cost.vendor_reports", "cost",
    "cost.hls", "train", "quantization", "sources", "backends", "backends.yosys", "backends.hls4ml",
    "backends.rtl.netlists", "backends.rtl.verilog", "backends.rtl.simulation", "backends.rtl.synthesis",
    "backends.rtl.proof", "backends.rtl.handover", "backends.rtl",
    "verification", "report", "report.page", "study", "encrypted",
    "commands", "doctor", "pipeline", "exploration", "options", "explore_command", "cli",
)  # fmt: skip
"""A room imports only from itself and from those before it; the longest name that fits a module is its room. The first
two lines are records that every room speaks of, the last one are doors."""
RANK = {name: rank for rank, name in enumerate(ORDER)}
FOREIGN = {
    "tensorflow": "flow.train", "keras": "flow.train", "tf_keras": "flow.train", "qkeras": "flow.train",
    "tensorflow_model_optimization": "flow.train", "h5py": "flow.train", "hls4ml": "flow.backends.hls4ml",
    "optuna": "flow.exploration", "distributed": "flow.workers",
    "subprocess": "flow.toolchain", "multiprocessing": "flow.toolchain",
}  # fmt: skip


def imports(module: str, *, lazy: bool) -> set[str]:
    """Return the modules that a module imports; with `lazy`, also those imported inside functions."""
    tree = ast.parse(MODULES[module].read_text())
    nodes = list(ast.walk(tree)) if lazy else tree.body
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES}
            found.add(node.module)
    return found


def room(module: str) -> str:
    """Return the entry of `ORDER` that a module belongs to."""
    parts = module.removeprefix("flow.").split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    assert any(name in RANK for name in names), f"{module} is in no room: give it a place in ORDER"
    return next(name for name in names if name in RANK)


def test_every_room_is_there() -> None:
    assert {room(module) for module in MODULES if module != "flow"} == set(RANK)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "flow"])
def test_imports_go_downwards(module: str) -> None:
    for imported in imports(module, lazy=True):
        if imported.startswith("flow."):
            assert RANK[room(imported)] <= RANK[room(module)], f"{module} imports {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_foreign_packages_stay_in_their_place(module: str) -> None:
    for imported in imports(module, lazy=True):
        place = FOREIGN.get(imported.split(".")[0])
        assert place is None or module == place or module.startswith(f"{place}."), f"{module} imports {imported}"


def test_json_is_written_in_one_place() -> None:
    """Others digest JSON, or hand it to Keras or to themselves: no file and no output holds a NaN."""
    assert {name for name, path in MODULES.items() if "json.dump" in path.read_text()} == {
        "flow.json_text",
        *("flow.frontend.trained", "flow.ir.graph", "flow.runs"),
        *("flow.backends.rtl.synthesis.synth", "flow.backends.rtl.proof.prove"),
        *("flow.train.deserialize", "flow.train.artefacts", "flow.quantization.stage"),
    }


def test_no_module_imports_in_a_circle() -> None:
    waiting = {
        name: {other for other in imports(name, lazy=False) if other in MODULES and other != name} for name in MODULES
    }
    waiting = {name: {o for o in others if not name.startswith(f"{o}.")} for name, others in waiting.items()}
    while free := [name for name, others in waiting.items() if not others]:
        waiting = {name: others - set(free) for name, others in waiting.items() if name not in free}
    assert waiting == {}


@pytest.mark.parametrize("module", ["flow", "flow.cli"])
def test_heavy_packages_are_not_loaded(module: str) -> None:
    heavy = sorted({name for name, place in FOREIGN.items() if place != "flow.toolchain"})
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_only_back_ends_know_which_back_end_it_is() -> None:
    """Outside flow/backends nobody compares with a back end's name, nor imports a particular back end."""
    asked = []
    for module, path in MODULES.items():
        if module.startswith("flow.backends"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                values = [item.value for item in ast.walk(node) if isinstance(item, ast.Constant)]
                asked += [f"{module}:{node.lineno}" for value in values if value in BACKENDS]
        asked += [
            f"{module} imports {name}"
            for name in imports(module, lazy=True)
            if name.startswith(("flow.backends.hls4ml", "flow.backends.rtl"))
        ]
    assert asked == []


MAKERS = {
    *("load_model", "model_from_json", "model_from_config", "model_from_yaml", "clone_model", "from_config"),
    *("deserialize", "deserialize_keras_object", "get_quantizer", "safe_eval", "load"),
}
"""What of Keras, QKeras and TensorFlow makes an object of a configuration, imports what it names or evaluates it."""


def test_one_place_makes_keras_objects_of_configurations() -> None:
    """`flow.train.deserialize`, which checks them first: `json.load` and `np.load` read data and are no such calls.

    What `flow.encrypted` loads are ciphertexts, keys and circuits of its libraries, behind a digest.
    """
    found = []
    for module, path in MODULES.items():
        if module.startswith("flow.encrypted."):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            reads = isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "json.load", "Report.load")
            if name in MAKERS and not reads:
                found.append((module, name))
    assert sorted(found) == [
        ("flow.train.deserialize", "from_config"),
        ("flow.train.deserialize", "get_quantizer"),
        ("flow.train.deserialize", "model_from_json"),
    ]
