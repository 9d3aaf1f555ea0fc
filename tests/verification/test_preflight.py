"""The preflight: a case for each rule, what stops a build, and no alarm about the models that come with the project."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from fixtures_cli import flow, refused
from nets import Net, s, u

from flow.backends.base import BACKENDS
from flow.backends.functions import Design
from flow.cost.hls.estimates import estimate
from flow.errors import PreflightError, UnsupportedError
from flow.findings import ERROR, WARNING, Finding, Hit, refuse, to_text
from flow.frontend.trained import TrainedModel, save_trained
from flow.ir.fixed import FixedFormat, Overflow
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.target import Target
from flow.verification.preflight import MODEL_RULES, ORDER, Model, check, design_rules, examine

BYTE = FixedFormat(False, 0, 8)
Layer = tuple[str, Mapping[str, Any], Mapping[str, Any]]


def trained(*layers: Layer, shape: tuple[int, ...] = (4,), warnings: tuple[Hit, ...] = ()) -> TrainedModel:
    """Return a chain of layers: (class name, configuration, arrays); the first is called l0."""
    entries: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"name": "port", "batch_input_shape": [None, *shape]}}
    ]
    entries += [{"class_name": name, "config": {"name": f"l{i}", **own}} for i, (name, own, _) in enumerate(layers)]
    weights = {f"l{i}": {k: np.array(v, np.float32) for k, v in own.items()} for i, (*_, own) in enumerate(layers)}
    return TrainedModel(
        name="m", class_name="Sequential", config={"layers": entries}, weights=weights, warnings=warnings
    )


def activation(text: str) -> Layer:
    return "QActivation", {"activation": text}, {}


def dense(n_in: int, n_out: int, **config: Any) -> Layer:
    return "QDense", {"use_bias": False, **config}, {"kernel": np.ones((n_in, n_out))}


QUANTIZED = activation("quantized_bits(4,0,alpha=1)")


def about(model: TrainedModel, target: Target | None = None, **options: Any) -> tuple[Finding, ...]:
    return check(Model(trained=model, **options), target or Target())


def made(graph: IntGraph, model: TrainedModel | None = None, **target: Any) -> Design:
    return Design(trained=model or trained(QUANTIZED), extracted=graph, lowered=lower(graph), target=Target(**target))


def on(graph: IntGraph, **target: Any) -> tuple[Finding, ...]:
    return examine(made(graph, **target))


def matrix(n_in: int, n_out: int, largest: int = 1) -> IntGraph:
    """Return a dense whose weights are no powers of two if `largest` is none."""
    weight = np.ones((n_in, n_out), np.int64)
    weight[0, 0] = largest
    return Net((n_in,), u(4)).dense(weight).relu().requantize(u(4)).graph()


def shifted(largest: int) -> IntGraph:
    """Return a dense with powers of two from 1 to `largest`."""
    return Net((2,), u(16)).dense([[largest], [1]]).requantize(u(4)).graph()


def residual(channels: int = 8, bits: int = 4) -> IntGraph:
    kernel = np.ones((3, 3, channels, channels), np.int64)
    net = Net((9, 9, channels), u(bits)).mark("in").conv(kernel, padding="same").relu().requantize(u(bits))
    return net.merge("add", "in").requantize(u(bits)).graph()


def slow_pipelines(subject: Design, stages: int) -> Design:
    """Return a design whose estimate gives each op so many pipeline stages."""
    resources = estimate(subject.lowered, subject.target)
    late = [
        dataclasses.replace(layer, latency_cycles=(layer.initiation_interval_cycles or 0) + stages - 1)
        for layer in resources.layers
    ]
    return dataclasses.replace(subject, resources=dataclasses.replace(resources, layers=tuple(late)))


VIVADO = {"backend": "Vivado"}
RESOURCE = {"strategy": "Resource"}
CASES: dict[str, tuple[Callable[[], tuple[Finding, ...]], str, tuple[str, ...]]] = {
    "input-not-quantized": (lambda: about(trained(dense(4, 2))), "", ("--input-format", "--inputs")),
    "input-format-derived": (
        lambda: about(trained(dense(4, 2)), input_format=BYTE, derived=True),
        "",
        ("QActivation", str(BYTE)),
    ),
    "unsupported": (
        lambda: about(trained(QUANTIZED, ("ConvLSTM2D", {}, {}))),
        "l1",
        ("ConvLSTM2D is not supported", "QDense"),
    ),
    "reuse-factor": (
        lambda: on(matrix(6, 2), **RESOURCE, reuse_factor=5),
        "dense_1",
        ("(6 x 2) cannot have reuse_factor 5", "--reuse-factor dense_1=N, with N one of 1, 2, 3, 6, 12"),
    ),
    "back-end": (
        lambda: on(Net((4,), s(4)).leaky([1], 1).requantize(s(4)).graph(), backend="Libero"),
        "leaky_relu_1",
        ("does not compute 'leaky_relu' exactly", "Vitis or Vivado"),
    ),
    "array-partition": (
        lambda: on(matrix(128, 33), **VIVADO),
        "dense_1",
        ("128 x 33 products", "4096", "--strategy Resource --reuse-factor dense_1=2", "--backend Vitis"),
    ),
    "unroll": (
        lambda: on(matrix(128, 33), **VIVADO, **RESOURCE),
        "dense_1",
        ("unrolls 4224 of its 4224 products", "--reuse-factor dense_1=2"),
    ),
    "long-tree": (
        lambda: on(matrix(101, 100)),
        "dense_1",
        ("101 x 100 products", "10000 weights", "--strategy Resource --reuse-factor dense_1="),
    ),
    "design-size": (lambda: on(matrix(1000, 151)), "dense_1", ("302000 instructions", "--strategy Resource")),
    "reshape-width": (
        lambda: on(matrix(64, 64, 100_001), **VIVADO, **RESOURCE),
        "dense_1",
        ("69632 bits of weights", "65536", "larger reuse factor"),
    ),
    "stream-width": (
        lambda: on(Net((3, 1030), u(4)).relu().requantize(u(3)).graph(), io_type="io_stream"),
        "port",
        ("1030 channels, 4120 bits", "4096"),
    ),
    "fifo-depth": (
        lambda: examine(slow_pipelines(made(residual(300), io_type="io_stream"), 30)),
        "port",
        ("FIFO of depth", "pipeline of 30 stages"),
    ),
    "part-too-small": (
        lambda: on(matrix(400, 400, 3), part="xc7z010clg400-1"),
        "",
        ("lut of 17600", "on xc7z010clg400-1", "--part xc"),
    ),
    "part-not-listed": (
        lambda: on(matrix(2, 2), part="xcvc1902-vsva2197-2MP-e-S"),
        "",
        ("xcvc1902-vsva2197-2MP-e-S is not in our table", "data sheet"),
    ),
    "wide-type": (
        lambda: on(shifted(2**32), **RESOURCE),
        "dense_1",
        ("types of 81 bits", "64"),  # 16 + 2 + the largest shift that six bits hold
    ),
    "float32-inexact": (
        lambda: on(Net((2,), u(12)).dense([[8191], [1]]).requantize(u(4)).graph()),
        "dense_1",
        ("more than 24 bits", "float64"),
    ),
    "float64-inexact": (
        lambda: on(Net((2,), u(30)).dense([[2**24 - 1], [1]]).requantize(u(4)).graph()),
        "dense_1",
        ("more than 53 bits", "fewer bits"),
    ),
    "verilog-size": (
        lambda: on(matrix(300, 200), backend="rtl"),
        "dense_1",
        ("60000 products", "io_stream"),
    ),
    "pruned-weights-lost": (
        lambda: examine(
            made(matrix(2, 2), trained(QUANTIZED, warnings=(Hit("a", "layer 'a': 3 of 4 came back", "train anew"),)))
        ),
        "a",
        ("3 of 4 came back", "train anew"),
    ),
}
RULES = {
    rule.id: rule
    for rule in (*MODEL_RULES, *(rule for backend in BACKENDS for rule in design_rules(Target(backend=backend))))
}
"""Those about the model, and those about designs of all back ends."""


def test_every_rule_has_a_case_and_a_place_in_the_documentation() -> None:
    assert set(CASES) == set(RULES) == {*ORDER, *(rule.id for rule in MODEL_RULES)}
    text = (REPOSITORY / "docs" / "preflight.md").read_text()
    for rule in RULES.values():
        assert rule.severity in (ERROR, WARNING)
        assert rule.title and rule.source
        assert f"| `{rule.id}` | {rule.severity} |" in text, rule.id


@pytest.mark.parametrize("rule", CASES)
def test_each_rule_finds_its_case(rule: str) -> None:
    find, op, words = CASES[rule]
    found = [finding for finding in find() if finding.rule == rule]
    assert len(found) == 1, find()
    assert (found[0].op, found[0].severity, found[0].source) == (op, RULES[rule].severity, RULES[rule].source)
    for word in words:
        assert word in f"{found[0].reason} {found[0].remedy}"
    assert found[0].reason and found[0].remedy


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        (lambda: on(matrix(128, 32), **VIVADO), "array-partition"),
        (lambda: on(matrix(128, 33)), "array-partition"),
        (lambda: on(matrix(128, 33), **VIVADO, **RESOURCE, reuse_factor=2), "unroll"),
        (lambda: on(matrix(100, 100)), "long-tree"),
        (lambda: on(matrix(101, 100), **VIVADO), "long-tree"),
        (lambda: on(matrix(1000, 150)), "design-size"),
        (lambda: on(matrix(1000, 151), **RESOURCE, reuse_factor=2), "design-size"),
        (lambda: on(matrix(64, 64, 100_001), **VIVADO, **RESOURCE, reuse_factor=2), "reshape-width"),
        (lambda: on(Net((3, 1024), u(4)).relu().requantize(u(3)).graph(), io_type="io_stream"), "stream-width"),
        (lambda: on(Net((3, 1030), u(4)).flatten().relu().requantize(u(1)).graph()), "stream-width"),
        (lambda: examine(slow_pipelines(made(residual(300), io_type="io_stream"), 16)), "fifo-depth"),
        (lambda: on(matrix(400, 400, 3)), "part-too-small"),
        (lambda: on(shifted(2**32)), "wide-type"),
        (lambda: on(matrix(200, 200), backend="rtl", io_type="io_stream"), "verilog-size"),
        (lambda: on(matrix(300, 200)), "verilog-size"),
        (lambda: on(shifted(2**31), **RESOURCE), "wide-type"),
        (lambda: on(Net((2,), u(12)).dense([[4095], [0]]).requantize(u(4)).graph()), "float32-inexact"),
    ],
)
def test_what_is_within_a_limit_is_not_found(within: Callable[[], tuple[Finding, ...]], beyond: str) -> None:
    assert beyond not in {finding.rule for finding in within()}


@pytest.mark.parametrize(
    ("graph", "target", "rule", "op"),
    [
        (Net((70, 60, 1), u(4)).relu().requantize(u(3)).graph(), VIVADO, "array-partition", "relu_1"),
        (Net((130, 130, 1), u(4)).pool((2, 2)).graph(), VIVADO, "reshape-width", "port"),
    ],
)
def test_arrays_of_vivado(graph: IntGraph, target: dict[str, Any], rule: str, op: str) -> None:
    assert (rule, op) in {(finding.rule, finding.op) for finding in on(graph, **target)}
    streamed = {(finding.rule, finding.op) for finding in on(graph, **target, io_type="io_stream")}
    assert (rule, op) not in streamed


def test_a_division_computes_in_a_wider_type_than_its_output() -> None:
    graph = Net((9, 9, 1), s(40)).average((9, 9), s(40)).graph()
    found = [finding for finding in on(graph) if finding.rule == "wide-type"]
    assert [finding.op for finding in found] == ["sumpool_1"]


def test_stock_batch_normalization_rounds_in_float32() -> None:
    arrays = {"scale": np.ones(4), "offset": np.zeros(4)}
    model = trained(QUANTIZED, ("BatchNormalization", {}, arrays), activation("quantized_relu(4)"))
    found = [finding for finding in about(model) if finding.rule == "float32-inexact"]
    assert [finding.op for finding in found] == ["l1"]


def test_a_float_model_hears_how_it_is_quantized() -> None:
    """With samples too, from which its port gets a format; a model that is quantized anywhere does not hear it."""
    kernel = np.random.default_rng(1).normal(size=(4, 4))
    plain: Layer = ("Dense", {"use_bias": False}, {"kernel": kernel})
    for model, hears in ((trained(plain, plain, plain), True), (trained(QUANTIZED, plain, plain, plain), False)):
        first, *_ = about(
            model, input_format=None if model.config["layers"][1]["class_name"] == "QActivation" else BYTE
        )
        assert first.severity == ERROR and ("'flow quantize' does that" in first.remedy) == hears


def test_what_rounds_in_float32_is_said_once() -> None:
    """Of a batch normalization that is wide too, not once for its width and once for what it is."""
    arrays = {"scale": np.full(4, 1 + 2.0**-20), "offset": np.zeros(4)}
    model = trained(QUANTIZED, ("BatchNormalization", {}, arrays), activation("quantized_relu(4)"))
    found = [finding for finding in about(model) if finding.rule == "float32-inexact"]
    assert len(found) == 1 and "layer 'l1' (BatchNormalization) rounds" in found[0].reason


# several at once


def test_all_refusals_of_a_model_are_found() -> None:
    model = trained(
        QUANTIZED,
        dense(4, 3, kernel_quantizer="bernoulli"),
        dense(3, 3, kernel_quantizer="quantized_nonsense", bias_quantizer="not used"),
        ("ConvLSTM2D", {}, {}),
        dense(3, 3, kernel_quantizer="quantized_po2(4)", activation="tanh"),
        activation("quantized_relu(4"),
    )
    found = about(model)
    assert [(finding.rule, finding.op) for finding in found] == [("unsupported", f"l{i}") for i in (1, 2, 3, 5)]


def test_refusals_behind_an_unquantized_input_are_found_too() -> None:
    found = about(trained(dense(4, 3), ("ConvLSTM2D", {}, {})))
    assert [finding.rule for finding in found] == ["input-not-quantized", "unsupported"]
    assert "op" not in {finding.op for finding in found}


def test_a_sum_that_no_code_holds_is_found() -> None:
    kernel = {"kernel": np.full((4, 2), 2.0**30), "bias": np.full(2, 2.0**-30)}
    quantizers = {"kernel_quantizer": "quantized_po2(8)", "bias_quantizer": "quantized_po2(8)"}
    model = trained(activation("quantized_bits(16,0,alpha=1)"), ("QDense", quantizers, kernel))
    assert [finding.rule for finding in about(model)] == ["unsupported"]


def test_layers_that_cannot_be_connected_are_found() -> None:
    broken = dataclasses.replace(trained(QUANTIZED), config={"layers": []})
    assert [finding.rule for finding in about(broken)] == ["unsupported"]


def test_all_illegal_reuse_factors_are_found() -> None:
    graph = Net((6,), u(4)).dense(np.ones((6, 2))).requantize(u(4)).dense(np.ones((2, 3))).requantize(u(4)).graph()
    found = on(graph, **RESOURCE, reuse_factor=5, reuse_factors=(("nothing", 2),))
    assert [finding.op for finding in found if finding.rule == "reuse-factor"] == ["nothing", "dense_1", "dense_3"]


def test_all_refusals_of_a_back_end_are_found() -> None:
    half = Net((4,), s(4)).requantize(s(1), overflow=Overflow.SAT_SYM).mark("a").requantize(s(1))
    graph = half.requantize(s(54)).graph()
    found = [finding for finding in on(graph) if finding.rule == "back-end"]
    assert [finding.op for finding in found] == ["requantize_1", "requantize_3"]
    unread = Net((4,), s(4)).mark("a").relu().back("a").relu().requantize(u(2)).graph()
    found = [finding for finding in on(unread, io_type="io_stream") if finding.rule == "back-end"]
    assert ["read by nothing" in finding.reason for finding in found] == [True]
    assert "back-end" not in {finding.rule for finding in on(unread)}


def test_one_error_is_one_line_and_several_are_a_line_each() -> None:
    refuse("net", [])
    with pytest.raises(UnsupportedError, match=r"^net: op 'a' is wrong; mend it$"):
        refuse("net", [UnsupportedError("op 'a' is wrong", named="a", remedy="mend it")])
    with pytest.raises(PreflightError) as raised:
        refuse("net", [UnsupportedError("a"), UnsupportedError("b")])
    assert str(raised.value).splitlines() == ["2 things are in the way", "  net: a", "  net: b"]
    assert raised.value.exit_code == 2


def test_text_has_errors_first() -> None:
    found = [Finding(rule, severity, "", "r", "s", "m") for rule, severity in (("b", WARNING), ("a", ERROR))]
    assert [line.split()[1] for line in to_text(found).splitlines()[::3]] == ["a:", "b:"]
    assert to_text([]) == "nothing found"


# the command


MODELS = ("digits_mlp", "fashion_cnn", "mnist_mlp")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_no_false_alarm_on_the_models(model: str, io_type: str, tmp_path: Path) -> None:
    outcome = flow("check", model, "--io-type", io_type, "--output", tmp_path)
    long_trees = {"mnist_mlp": 1, "fashion_cnn": 1}.get(model, 0)
    assert (outcome.code, outcome.err, outcome.out.count("long-tree: ")) == (0, "", long_trees)
    assert long_trees or outcome.out == "nothing found\n"
    assert list(tmp_path.iterdir()) == []


def test_it_takes_neither_tensorflow_nor_hls4ml() -> None:
    from test_cli import python

    code = (
        "import sys; from flow.cli import main; main(['check', 'mnist_mlp']); "
        "print([name for name in ('tensorflow', 'hls4ml', 'sklearn') if name in sys.modules])"
    )
    done = python("-c", code)
    assert "long-tree: " in done.stdout and done.stdout.endswith("\n[]\n"), done


def test_a_part_with_too_few_slices_or_hardly_enough_luts() -> None:
    """Products beyond the slices of a part become LUTs in the estimate; the rule still says how many are asked for."""
    wide = Net((40,), FixedFormat(True, 5, 10)).dense(np.arange(1, 401).reshape(40, 10) * 85)
    slices = on(wide.requantize(FixedFormat(True, 5, 10)).graph(), part="xc7z010clg400-1")
    (reason,) = (finding.reason for finding in slices if finding.rule == "part-too-small")
    assert "static estimate takes" in reason and "dsp of 80" in reason
    near = made(matrix(100, 20))
    estimated = estimate(near.lowered, near.target)
    interval = estimated.total.intervals["lut"]
    capacity = {**estimated.capacity, "lut": (estimated.total.lut or 0) + 1}
    tight = dataclasses.replace(near, resources=dataclasses.replace(estimated, capacity=capacity))
    (reason,) = (finding.reason for finding in examine(tight) if finding.rule == "part-too-small")
    assert f"seen to take up to {interval.high} lut of {capacity['lut']}" in reason


def test_known_failures_of_vivado_are_warnings(tmp_path: Path) -> None:
    outcome = flow("check", "mnist_mlp", "--backend", "Vivado", "--output", tmp_path, "--json")
    document = json.loads(outcome.out)
    assert (outcome.code, document["schema"]) == (0, 1)
    assert [(each["rule"], each["op"]) for each in document["findings"]] == [("array-partition", "dense1")]
    assert set(document["findings"][0]) == {field.name for field in dataclasses.fields(Finding)}


def test_errors_are_exit_code_2_and_stop_a_build(tmp_path: Path) -> None:
    wrong = ("--strategy", "Resource", "--reuse-factor", 7, "--output", tmp_path)
    outcome = flow("check", "digits_mlp", *wrong)
    assert (outcome.code, outcome.err) == (2, "")
    assert outcome.out.count("reuse-factor: ") == 3
    built = flow("build", "digits_mlp", *wrong)
    assert (built.code, built.out) == (2, "")
    assert len(built.err.splitlines()) == 4
    assert built.err.startswith("flow: error: 3 things are in the way\n")
    one = refused(flow("build", "digits_mlp", "--output", tmp_path, "--reuse-factor", "nothing=2"), "'nothing'")
    assert "things" not in one
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_build_repeats_the_warnings(tmp_path: Path) -> None:
    options = ("--part", "xc7z010clg400-1", "--output", tmp_path, "--until", "emit", "--json")
    notes = flow("build", "fashion_cnn", *options).report()["notes"]
    assert sum(note.startswith("part-too-small: ") for note in notes) == 1


def test_unknown_models_and_parts_are_refused(tmp_path: Path) -> None:
    refused(flow("check", "nothing", "--output", tmp_path))
    refused(flow("check", "digits_mlp", "--part", "xc7nothing", "--output", tmp_path), "xc7nothing")


def test_the_format_of_an_unquantized_input_comes_from_inputs(tmp_path: Path) -> None:
    spec = (REPOSITORY / "models" / "digits_mlp" / "spec.toml").read_text()
    directory = tmp_path / "m"
    save_trained(dataclasses.replace(trained(dense(64, 10), shape=(64,)), name="digits_mlp"), directory)
    (directory / "spec.toml").write_text(spec)
    values = tmp_path / "x.npy"
    np.save(values, np.full((3, 64), 0.5, np.float32))
    derived = flow("check", directory, "--inputs", values, "--output", tmp_path / "runs")
    assert derived.code == 0
    assert "input-format-derived" in derived.out
    stated = flow("check", directory, "--input-format", "ufixed<4,0>", "--output", tmp_path / "runs")
    assert (stated.code, stated.out) == (0, "nothing found\n")
