"""What the documentation says: commands parse and run, links lead somewhere, fields exist, examples hold."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from aspects import ASPECTS
from page_reports import of_graph
from test_architecture import ORDER
from zoo import row

import flow
from flow.backends.rtl.proof.prove import Proof
from flow.cli import _parser, main
from flow.data.adversarial import adversarial_inputs
from flow.data.inputs import PortInputs
from flow.data.labels import Labels
from flow.frontend.trained import TrainedModel, load_trained
from flow.ir import reference
from flow.ir.fixed import FixedFormat, to_values
from flow.ir.passes import lower
from flow.project import Change
from flow.report.assemble import assemble
from flow.report.record import Comparison, Report
from flow.report.scores import distances
from flow.report.since import found, with_found
from flow.report.text import to_text
from flow.results import Interval, ResourceReport, Resources
from flow.target import Target
from flow.verification.compare import first_divergence

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "models/*.md", "hls_projects/README.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
FREE_KEYS = (
    *("verdict.arithmetic", "provenance", "timings_s", "reuse_factors", "detail", "capacity", "intervals", "exponents"),
    *("quantization.settings", "found_since[].verdict", "found_since[].project"),
)
"""Objects whose keys are names of levels, stages, ops, packages or counts; documented as `name.*`."""


# -- commands


def commands(text: str) -> list[str]:
    """Return the `flow ...` command lines of code blocks and of table cells, without comments."""
    blocks = re.findall(r"^ {4}(?:\$ )?(flow .*)$", text, flags=re.MULTILINE)
    cells = re.findall(r"\| `(flow [^`]*)` \|", text)
    return [line.partition(" #")[0].strip() for line in [*blocks, *cells]]


README_COMMANDS = sorted(set(commands(README)))


def test_the_readme_shows_every_command() -> None:
    choices = next(action.choices for action in _parser()._actions if action.choices)
    assert {line.split()[1] for line in README_COMMANDS} == set(choices)


@pytest.mark.parametrize("line", README_COMMANDS)
def test_readme_commands_parse(line: str) -> None:
    _parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("line", ["flow list", "flow doctor", "flow show digits_mlp"])
def test_cheap_readme_commands_run(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert line in README_COMMANDS
    code = main(line.split()[1:])
    assert code == 0 or (line == "flow doctor" and code == 3)
    assert capsys.readouterr().out


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in DOCUMENTS:
        for target in re.findall(r"^ {4}make (\w+)", path.read_text(), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{path.name}: make {target}"


# -- links


ASPECTS_HEAD = "| file | table | what a row says of an op | not asked of |\n|---|---|---|---|\n"


def test_the_tables_of_an_op_are_listed(request: pytest.FixtureRequest) -> None:
    """docs/extending.md names every table that a new op needs a row in, as tests/aspects.py lists them."""
    path = ROOT / "docs" / "extending.md"
    head, _, rest = path.read_text().partition(ASPECTS_HEAD)
    rows = ""
    for aspect in ASPECTS:
        aside = ", ".join(op.__name__ for op in aspect.not_asked())
        rows += f"| `{aspect.module.replace('.', '/')}.py` | `{aspect.table}` | {aspect.says} | {aside} |\n"
    _, _, tail = rest.partition("\n\n")
    expected = f"{head}{ASPECTS_HEAD}{rows}\n{tail}"
    if request.config.getoption("--update-golden"):
        path.write_text(expected)
    assert path.read_text() == expected, "run pytest --update-golden tests/test_docs.py and read the diff"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not link.startswith(("http://", "https://", "#")):
            assert (path.parent / link.partition("#")[0]).exists(), link


def test_files_named_in_the_documents_exist() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"`((?:flow|tests|models|benchmarks|docs)/[\w/.]+\.(?:py|md|cpp|h))`", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


DOORS = """Records that every room speaks of; and the doors, through which users come in: `cli`, `options`, `commands`,
`doctor`."""


def _docstring(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text())) or "").replace("|", "\\|")


def _rooms() -> Iterator[tuple[str, Path]]:
    """Yield name and directory of each room, in the order of the imports; the root comes last."""
    for name in ORDER:
        path = ROOT / "flow" / name.replace(".", "/")
        if path.is_dir():
            yield name.replace(".", "/"), path
    yield "", ROOT / "flow"


def _rooms_in_full() -> str:
    """Return docs/rooms.md: each room's docstring, and the first line of each of its modules."""
    lines = [
        "# Rooms",
        "",
        "Printed from the docstrings of the code. [architecture.md](architecture.md) says how they belong",
        "together.",
    ]
    for name, path in _rooms():
        words = _docstring(path / "__init__.py") if name else DOORS
        lines += ["", f"## `flow/{name}{'/' if name else ''}`", "", words]
        modules = [module for module in sorted(path.glob("*.py")) if module.stem != "__init__"]
        if modules:
            lines += ["", "| module | |", "|---|---|"]
            lines += [f"| `{module.stem}` | {_docstring(module).splitlines()[0]} |" for module in modules]
    return "\n".join(lines) + "\n"


def _rooms_in_short() -> str:
    """Return the table of docs/architecture.md: what each room is for."""
    rows = [f"| `{name}` | {_docstring(path / '__init__.py').splitlines()[0]} |" for name, path in _rooms() if name]
    return "\n".join(["| room | what it is for |", "|---|---|", *rows])


def test_every_room_says_what_goes_in_and_what_comes_out() -> None:
    for name, path in _rooms():
        words = _docstring(path / "__init__.py")
        assert not name or ("In: " in words and "Out: " in words), name


def test_the_documents_list_every_room(request: pytest.FixtureRequest) -> None:
    rooms, architecture = ROOT / "docs" / "rooms.md", ROOT / "docs" / "architecture.md"
    head, rest = architecture.read_text().split("| room | what it is for |")
    _, _, tail = rest.partition("\n\n")
    short = f"{head}{_rooms_in_short()}\n\n{tail}"
    if request.config.getoption("--update-golden"):
        rooms.write_text(_rooms_in_full())
        architecture.write_text(short)
    assert rooms.read_text() == _rooms_in_full(), "run pytest --update-golden tests/test_docs.py and read the diff"
    assert architecture.read_text() == short, "run pytest --update-golden tests/test_docs.py and read the diff"


# -- names


@pytest.mark.parametrize("name", flow.__all__)
def test_public_names_have_docstrings(name: str) -> None:
    """Each is asked for twice: importing its module must not put that module in its place."""
    getattr(flow, name)
    value = getattr(flow, name)
    assert not isinstance(value, ModuleType), f"flow.{name} is a module"
    assert inspect.getdoc(value), name
    assert not (inspect.getdoc(value) or "").startswith(f"{name}("), f"{name}: only the docstring that dataclass makes"


def _python_blocks() -> Iterator[str]:
    yield from re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_python_examples_import_what_exists() -> None:
    blocks = list(_python_blocks())
    assert len(blocks) == 4
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("flow"):
                place = ROOT / node.module.replace(".", "/")
                tree = ast.parse((place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text())
                defined = {item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)}
                assert {alias.name for alias in node.names} <= defined, node.module


def test_the_python_example_of_a_build_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOW_MODELS_DIR", str(ROOT / "models"))
    monkeypatch.chdir(tmp_path)
    block = next(block for block in _python_blocks() if "flow.build" in block)
    exec(compile(block, "README.md", "exec"), {})
    assert "NOT COMPARED" in capsys.readouterr().out


@pytest.mark.slow
def test_the_python_example_of_a_live_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained, _, live, pruned = _python_blocks()
    done: dict[str, Any] = {}
    from flow.train import quiet_warnings

    with quiet_warnings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user's session would print them
        exec(compile(trained + live, "README.md", "exec"), done)
        assert done["report"].bit_exact and done["report"].predict(done["x"][1400:]).shape == (397, 10)
        exec(compile(pruned, "README.md", "exec"), done)
    layers = {layer["name"]: layer for layer in done["report"].document["layers"]}
    assert done["report"].bit_exact and layers["hidden"]["weights"] <= 64 * 12


@pytest.mark.slow
def test_the_transformer_of_the_documents_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/attention.md").read_text(), flags=re.M | re.S)
    done: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user's session would print them
        exec(compile(block, "docs/attention.md", "exec"), done)
        x, y = done["x_test"][:200], done["y_test"][:200]
        target, options = flow.Target(backend="rtl", io_type="io_stream"), flow.BuildOptions(adversarial=64)
        streams = flow.build(done["model"], target, options, x=x, y=y)
    assert done["report"].bit_exact and streams.bit_exact
    assert done["report"].document["accuracy"]["hardware"] > 0.85


MODULES_WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "flow").rglob("*.py"))
    if re.search(r"^\s*>>> ", path.read_text(), re.M) and "train" not in path.parts
]


@pytest.mark.parametrize("module", MODULES_WITH_EXAMPLES)
def test_examples_in_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted and not results.failed


# -- the report


def paths(value: Any, at: str = "") -> set[str]:
    """Return the dotted paths of all leaves, `[]` for list entries and `*` for all of an object with free keys."""
    if isinstance(value, dict) and value:
        if at.endswith(FREE_KEYS):
            return {f"{at}.*"}
        return {path for key, item in value.items() for path in paths(item, f"{at}.{key}".lstrip("."))}
    if isinstance(value, list) and value:
        return {path for item in value for path in paths(item, f"{at}[]")}
    return set() if isinstance(value, dict | list) else {at}


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Report:
    options = flow.BuildOptions(until="emit", output=tmp_path_factory.mktemp("runs"))
    return flow.build(ROOT / "models" / "digits_mlp" / "spec.toml", Target(), options)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return a report of an autoencoder: outputs of the input's size."""
    options = flow.QuantizeOptions(until="extract", samples=50, output=tmp_path_factory.mktemp("runs"))
    return flow.quantize(ROOT / "models" / "mnist_autoencoder", Target(), options)


def with_softmax() -> TrainedModel:
    """Return digits_mlp with a softmax behind it."""
    trained = load_trained(ROOT / "models" / "digits_mlp")
    node = [[["logits", 0, 0, {}]]]
    softmax = {"class_name": "Softmax", "name": "softmax", "config": {"name": "softmax"}, "inbound_nodes": node}
    config = {**trained.config, "layers": [*trained.config["layers"], softmax], "output_layers": [["softmax", 0, 0]]}
    return replace(trained, config=config)


def compared() -> Report:
    """Return a report of a comparison that found a difference: the reference against itself with one code changed."""
    trained = with_softmax()
    from flow.frontend.extraction import extract

    graph = lower(extract(trained, softmax=FixedFormat(False, 0, 8)))
    codes = adversarial_inputs(graph, 16)
    expected = reference.run(graph, codes)
    changed = {name: values.copy() for name, values in expected.codes.items()}
    changed["dense2"][3, 1] += 1
    softmax = {"softmax": to_values(expected.codes["softmax"], graph["softmax"].format).astype(np.float32)}
    qkeras, other = replace(expected, level="qkeras", softmax=softmax), replace(expected, level="csim", codes=changed)
    interval = Interval(low=8, high=12, basis="within 20 % for 9 of 10 such designs; 43 designs", designs=43)
    estimated = Resources(name="digits", lut=10, intervals={"lut": interval})
    errors = {key: dict.fromkeys(("mean", "p95", "worst", "median_ratio", "modules"), 1) for key in ("lut", "ff")}
    given = np.zeros(8, np.int64), np.zeros((8, 10))  # classes, and targets for fields of both
    labels = tuple(Labels(output="logits", index=0, values=values) for values in given)
    port = PortInputs(codes=codes[:8], labels=labels, source="corners", rounded=0, clipped=0)
    report = assemble(
        trained=trained,
        graph=graph,
        target=Target(reuse_factors=(("dense1", 8),)),
        run_dir=Path("run"),
        project_digest=None,
        comparison=Comparison(
            port=port,
            adversarial=8,
            reference=expected,
            others=(qkeras, other),
            divergence=first_divergence(graph, expected, other, None),
            changes=(Change("project.tcl", "changed"),),
            differences=("a file differs",),
            proofs={"dense1": Proof(scope="proved", inputs=None, engine="", seconds=0.0, overflow="").to_json()},
        ),
        approximation={
            "layers": ["dense2"],
            "float_layers": 8,
            "batchnorm_bits": None,
            "software": "qkeras",
            "samples": 8,
            "outputs": distances(graph, expected, {"softmax": softmax["softmax"][:8]}),
        },
        resources=[
            ResourceReport(
                source="yosys",
                tool="Yosys",
                total=Resources(name="digits"),
                command="synth",
                family="ECP5",
                top="digits",
            ),
            ResourceReport(
                source="static_csynth", tool="flow", total=estimated, predicts="csynth", error={"against": "", **errors}
            ),
            ResourceReport(
                source="static",
                tool="flow",
                total=estimated,
                critical_path={"op": "fc1", "nodes": ["n1 add"], "delay_ns": 2.0},
                calibration={"file": "calibration.json", "group": "", "runs": 1, "factors": {"lut": 1.5}},
            ),
        ],
        energy=[],
        notes=[],
        commands=[],
        versions={},
        timings_s={},
    )
    return with_found(report, [found(report, "2026-11-30T13:29:02+00:00")])


def documented() -> dict[str, str]:
    """Return field -> when, of all tables of docs/report.md."""
    rows = re.findall(r"^\| `([^`]+)` \|.*\| *([^|]*) *\|$", (ROOT / "docs" / "report.md").read_text(), flags=re.M)
    assert len(rows) == len({name for name, _ in rows}), "a field is documented twice"
    return {name: when.strip() for name, when in rows}


def test_every_field_of_the_report_is_documented(emitted: Report, quantized: Report) -> None:
    wide = row("lookup_wide")
    stepped = of_graph(replace(wide, ops=(*wide.ops[:-1], replace(wide.ops[-1], denominator=3))))
    found = set().union(*(paths(each.to_json()) for each in (emitted, compared(), quantized, stepped)))
    measured = ("confusion", "accuracy", "mean_absolute_error", "mean_squared_error")
    parents = {
        "verdict.first_divergence",
        "confusion",
        "quantization",
        "approximation",
        *(f"heads[].{name}" for name in measured),
    }
    assert found - parents == set(documented()) - parents


def test_fields_without_a_condition_are_always_there(emitted: Report) -> None:
    always = {name for name, when in documented().items() if not when}
    assert always <= paths(emitted.to_json())


def test_the_transcript_is_what_a_build_prints(emitted: Report) -> None:
    """The tables of layers and resources: what does not depend on simulation or place."""
    layers = [{**layer, "mismatches": 0} for layer in emitted.document["layers"]]  # as it is after a comparison
    printed = (
        to_text(Report({**emitted.document, "layers": layers})).split("\nLayers\n")[1].split("\nNotes\n")[0].rstrip()
    )
    shown = "".join(line.removeprefix("    ") for line in README.splitlines(keepends=True))
    assert printed in shown
