"""Float models of every layer, quantized: the float graph is Keras' network, the integer graph is close to it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Simulate
from float_models import IMAGE, MODELS, VECTOR, L, as_data, float_model, inputs, keras
from float_models import values as values_of
from keras_configs import layer, model, port

from flow.backends.hls4ml.csim import compile_together
from flow.backends.hls4ml.emit import emit
from flow.errors import DataError, FlowError, SpecError, UnsupportedError
from flow.frontend.keras import LAYERS
from flow.frontend.trained import TrainedModel
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.fixed import quantize as quantize_values
from flow.ir.graph import IntGraph, Lookup, MatMul, Merge, Requantize, from_json, to_json
from flow.ir.passes import lower
from flow.ir.po2 import is_po2
from flow.quantization import search
from flow.quantization.driver import QuantizedModel, counts, float_outputs, quantize
from flow.quantization.floats import float_graph
from flow.quantization.restructuring import equalize, restructure
from flow.quantization.settings import CHOICES, POINTS, LayerSettings, QuantSettings
from flow.target import Target
from flow.train import quiet_warnings
from flow.train.functions import approximate as functions

FLOAT32 = 1e-5
"""Float networks are added up in another order here than in TensorFlow; nothing that is an integer is compared so."""
QUANTIZED_IN_QKERAS = {name for name in LAYERS if name.startswith(("Q", "Fixed"))}


@cache
def made(name: str, **settings: Any) -> QuantizedModel:
    _, trained = float_model(name)
    return quantize(trained, inputs(name), QuantSettings(**settings), functions=functions)


def outputs(graph: IntGraph, values: np.ndarray) -> np.ndarray:
    """Return what an integer graph gives for values, as values."""
    port = graph.inputs[0]
    codes = reference.run_output(graph, quantize_values(values, replace(port.cast, overflow=Overflow.SAT)))
    return np.ldexp(codes.astype(float), -graph.output.format.frac_bits)


def some_codes(graph: IntGraph, seed: int, samples: int) -> np.ndarray:
    """Return random codes of a graph's only port."""
    port = graph.inputs[0]
    rng = np.random.default_rng(seed)
    return rng.integers(port.format.min_code, port.format.max_code + 1, (samples, *graph.port_shape))


def error(name: str, found: QuantizedModel) -> float:
    """Return the squared error on inputs that the search has not seen, over the squared float outputs."""
    values = values_of(name, np.random.default_rng(11))
    exact = float_outputs(found.floats, values, functions)
    return float(np.square(outputs(found.lowered, values) - exact).sum() / np.square(exact, dtype=float).sum())


def test_a_softmax_alone_reads_what_stands_behind_the_port() -> None:
    x = L.Input((4,))
    with quiet_warnings():
        trained = as_data(keras.Model(x, L.Softmax()(x)))
    values = np.random.default_rng(1).uniform(-1, 1, (32, 4)).astype(np.float32)
    lowered = quantize(trained, values, softmax=FixedFormat(False, 0, 12), functions=functions).lowered
    port, passed, softmax = lowered.ops
    assert (passed.inputs, softmax.inputs, lowered.outputs) == ((port.name,), (passed.name,), (softmax.name,))
    exact = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs(lowered, values), exact, rtol=0, atol=0.01)


def test_every_float_layer_has_a_model() -> None:
    used: set[str] = set()
    for name in MODELS:
        _, trained = float_model(name)
        used |= {entry for entry in json.dumps(trained.config).split('"') if entry in LAYERS}
    assert used >= set(LAYERS) - QUANTIZED_IN_QKERAS


def test_a_port_that_numbers_rows_has_as_many_bits_as_they_need() -> None:
    _, trained = float_model("rows")
    for given, bits in ((None, 4), (FixedFormat(True, 3, 4), 4), (FixedFormat(False, 6, 0), 6)):
        lowered = quantize(trained, inputs("rows"), input_format=given, functions=functions).lowered
        assert lowered.inputs[0].format == FixedFormat(False, bits, 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_float_graph_is_the_network(name: str) -> None:
    model, trained = float_model(name)
    with quiet_warnings():
        wanted = model.predict(inputs(name), verbose=0)
    wanted = wanted[0] if isinstance(wanted, list) else wanted
    graph = float_graph(trained)
    found = float_outputs(graph, inputs(name), functions)
    restructured = float_outputs(restructure(graph), inputs(name), functions)
    np.testing.assert_allclose(restructured, found, rtol=0, atol=FLOAT32)
    if name == "softmax":  # left off
        wanted, found = np.log(wanted[:, 1:] / wanted[:, :1]), found[:, 1:] - found[:, :1]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("name", MODELS)
def test_quantized_to_8_bits_it_computes_nearly_the_same(name: str) -> None:
    found = made(name)
    assert error(name, found) < 3e-3
    for module in found.record["modules"]:
        assert module["bits"] <= (8 if module["name"] not in found.lowered.outputs else 16) or module["bits"] in (
            12,
            16,
        )
    again = from_json(json.loads(json.dumps(to_json(found.lowered))))
    assert again.digest() == found.lowered.digest()


@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_projects_are_emitted(io_type: str) -> None:
    for name in MODELS:
        emit(made(name).lowered, Target(io_type=io_type))


@pytest.mark.parametrize(
    "name", ["residual", *(pytest.param(name, marks=pytest.mark.slow) for name in ("depthwise", "leaky"))]
)
def test_simulation_is_exact(name: str, simulate: Simulate) -> None:
    graph = made(name).lowered
    codes = np.int64(np.random.default_rng(2).integers(-128, 128, (200, *graph.port_shape)))
    expected, found = reference.run(graph, codes), simulate(emit(graph, Target()), graph, codes)
    for op in graph.ops:
        assert np.array_equal(expected.codes[op.name], found.codes[op.name]), op.name


# -- restructuring


def test_quantizations_are_counted_as_the_topologies_say() -> None:
    """Of ResNet-50: 172 after every op, 119 with batch norm folded; four projections join the add of their block."""
    with quiet_warnings():
        model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    graph = float_graph(as_data(model))
    rows = counts(graph, made("dense").lowered)
    assert [row["ops"] for row in rows[:3]] == [172, 119, 50]
    assert rows[0]["values_per_inference"] > rows[1]["values_per_inference"] > rows[2]["values_per_inference"]


def test_a_residual_block_rounds_once_behind_its_add() -> None:
    graph = made("residual").lowered
    merge = next(op for op in graph.ops if isinstance(op, Merge))
    assert merge.fused == ("add", "relu", "requantize")
    for source in graph.sources(merge):
        assert source.fused[-1] in ("batchnorm", "conv2d") and source.cast.rounding is Rounding.TRN  # exact sums
    assert not any(isinstance(op, Requantize) for op in graph.ops)


def test_points_after_every_op_are_ops_of_their_own() -> None:
    folded, op = (made("residual", points=points) for points in ("folded", "op"))
    rounded = [[each.kind for each in made.lowered.ops if "requantize" in each.fused] for made in (folded, op)]
    assert "relu" in rounded[0] and "batchnorm" not in rounded[0]
    assert {"relu", "batchnorm", "merge", "conv", "dense"} == set(rounded[1])
    wide = made("residual", points="wide-add").lowered
    merges = [each for each in wide.ops if isinstance(each, Merge)]
    assert {source.format.width for merge in merges for source in wide.sources(merge)} == {8, 16}


def test_a_concatenation_has_one_grid() -> None:
    graph = made("joined").lowered
    joined = next(op for op in graph.ops if op.kind == "gather")
    assert {source.format.frac_bits for source in graph.sources(joined)} == {joined.format.frac_bits}
    assert joined.format.width == 8


def test_equalized_networks_compute_the_same() -> None:
    for name in ("residual", "dense", "conv_groups", "pooled"):  # no ReLU with a limit
        graph = restructure(float_graph(float_model(name)[1]))
        wanted = float_outputs(graph, inputs(name), functions)
        found = float_outputs(equalize(graph), inputs(name), functions)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=FLOAT32)


def test_equalization_helps_weights_of_unequal_channels() -> None:
    """A depthwise net whose channels reach 1 to 64 times as far, with fraction bits per tensor."""
    _, trained = float_model("depthwise")
    spread = 2.0 ** np.linspace(0, 6, 3)
    weights = {name: dict(arrays) for name, arrays in trained.weights.items()}
    first = next(arrays for arrays in weights.values() if arrays.get("kernel", np.zeros(0)).shape == (3, 3, 3, 1))
    second = next(arrays for arrays in weights.values() if arrays.get("kernel", np.zeros(0)).shape == (1, 1, 3, 8))
    first["kernel"] = np.float32(first["kernel"] / 64 * spread[:, np.newaxis])
    second["kernel"] = np.float32(second["kernel"] / spread[:, np.newaxis] * 64)
    unequal = replace(trained, weights=weights)
    errors = [
        error("depthwise", quantize(unequal, inputs("depthwise"), QuantSettings(bits=6, per_channel=False, **each)))
        for each in ({}, {"equalize": True})
    ]
    assert errors[1] < errors[0]


# -- switches


@pytest.mark.parametrize("rounding", Rounding)
def test_every_tie_rule_is_the_same_in_search_and_reference(rounding: Rounding) -> None:
    """`quantize` itself holds the two against each other, and raises an AssertionError if they differ."""
    assert {op.cast.rounding for op in made("residual", rounding=rounding).lowered.ops if "requantize" in op.fused} == {
        rounding
    }


def test_a_search_that_rounds_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search.ROUNDERS, Rounding.RND_CONV, search.ROUNDERS[Rounding.TRN])  # type: ignore[index]
    _, trained = float_model("dense")
    with pytest.raises(AssertionError, match="other values"):
        quantize(trained, inputs("dense"), QuantSettings(bits=3))


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("points", POINTS)
def test_every_baseline_runs_in_the_same_code(choose: str, points: str) -> None:
    for name in ("residual", "depthwise"):
        assert error(name, made(name, choose=choose, points=points)) < 0.1


def test_the_joint_choice_is_no_worse_than_the_others() -> None:
    for name in ("residual", "depthwise", "preactivated"):
        for bits in (8, 6, 4):
            found = made(name, bits=bits)
            first = found.record["modules"][0]["relative_error"]  # the module that sees the same inputs in all
            for choose in CHOICES[1:]:
                other = made(name, bits=bits, choose=choose).record["modules"][0]["relative_error"]
                assert first <= other * (1 + FLOAT32)  # errors are sums of floats


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_powers_of_two_are_powers_of_two(bits: int) -> None:
    graph = made("residual", weights="po2", weight_bits=bits, per_channel=False).lowered
    for op in graph.ops:
        if isinstance(op, MatMul):
            assert is_po2(op.weight.codes)
            exponents = {int(abs(each)).bit_length() for each in op.weight.codes.ravel() if each}
            assert max(exponents) - min(exponents) + 1 <= 2 ** (bits - 1) - 1


def test_zeros_stay_zero() -> None:
    _, trained = float_model("dense")
    weights = {name: dict(arrays) for name, arrays in trained.weights.items()}
    for arrays in weights.values():
        if "kernel" in arrays:
            arrays["kernel"] = np.where(
                np.arange(arrays["kernel"].size).reshape(arrays["kernel"].shape) % 3, 0, arrays["kernel"]
            )
    for settings in (QuantSettings(), QuantSettings(weights="po2"), QuantSettings(weight_rounding="reconstruct")):
        found = quantize(replace(trained, weights=weights), inputs("dense"), settings)
        for op in found.lowered.ops:
            if isinstance(op, MatMul):
                assert np.count_nonzero(op.weight.codes == 0) >= 2 * op.weight.codes.size // 3


def test_bias_correction_takes_the_mean_error_away() -> None:
    plain, corrected = (made("residual", bits=8, weight_bits=4, bias_correction=each) for each in (False, True))
    values = inputs("residual")
    exact = float_outputs(plain.floats, values)
    off = [np.abs((outputs(each.lowered, values) - exact).mean(axis=0)).max() for each in (plain, corrected)]
    assert off[1] < off[0] / 3


def test_rounding_by_reconstruction_never_makes_a_module_worse() -> None:
    for name in ("residual", "depthwise", "conv_groups", "dense"):
        for kind in ("integer", "po2"):
            plain = made(name, weights=kind, weight_bits=4)
            better = made(name, weights=kind, weight_bits=4, weight_rounding="reconstruct")
            first = [each.record["modules"][0]["relative_error"] for each in (plain, better)]
            assert first[1] <= first[0]
    assert error("residual", made("residual", weight_bits=3, weight_rounding="reconstruct")) < error(
        "residual", made("residual", weight_bits=3)
    )


def test_a_second_sweep_keeps_the_formats_legal_and_the_error_small() -> None:
    for name in ("residual", "joined", "functions"):
        assert error(name, made(name, bits=6, sweeps=2)) < 2 * error(name, made(name, bits=6)) + 1e-6


def test_layers_have_widths_of_their_own() -> None:
    own = {"stem": LayerSettings(bits=5, weight_bits=3), "projection": LayerSettings(weights="po2")}
    _, trained = float_model("residual")
    found = quantize(trained, inputs("residual"), QuantSettings(layers=own))
    stem = found.record["modules"][0]
    assert (stem["name"], stem["bits"], stem["weight_bits"]) == ("stem", 5, 3)
    codes = found.lowered["stem"].weight.codes  # type: ignore[attr-defined]
    assert max(len({*np.abs(codes[..., channel]).ravel()}) for channel in range(codes.shape[-1])) <= 5
    with pytest.raises(SpecError, match="no such layer; it has"):
        quantize(trained, inputs("residual"), QuantSettings(layers={"nowhere": LayerSettings(bits=4)}))


def test_a_budget_of_bits_is_kept() -> None:
    for budget in (3.0, 4.5, 7.0):
        rows = made("residual", budget_bits=budget).record["modules"]
        sizes = {row["name"]: row["values"] for row in rows}
        graph = made("residual", budget_bits=budget).lowered
        for op in graph.ops:
            if isinstance(op, MatMul):
                row = next(row for row in rows if op.name in row["ops"])
                sizes[row["name"]] += op.weight.codes.size
        spent = sum(sizes[row["name"]] * row["weight_bits"] for row in rows)
        assert spent <= budget * sum(sizes.values())
    errors = [error("residual", made("residual", budget_bits=budget)) for budget in (3.0, 4.5, 7.0)]
    assert errors == sorted(errors, reverse=True)


def test_a_table_is_what_keras_computes_of_each_code() -> None:
    graph = made("functions").lowered
    tanh = next(op for op in graph.ops if isinstance(op, Lookup))
    x = graph[tanh.inputs[0]].format
    codes = np.arange(x.min_code, x.max_code + 1)
    cast = Cast(tanh.format, Rounding.RND_CONV, Overflow.SAT)
    wanted = quantize_values(np.tanh(np.ldexp(codes.astype(float), -x.frac_bits)), cast)
    found = tanh.values[np.searchsorted(tanh.starts, codes, side="right") - 1]
    assert np.abs(found - wanted).max() <= 1 and np.count_nonzero(found != wanted) <= 2  # float32 beside float64


# -- what is refused, and what is odd but exact


def changed(name: str, layer: str, key: str, values: Any) -> TrainedModel:
    _, trained = float_model(name)
    weights = {each: dict(arrays) for each, arrays in trained.weights.items()}
    weights[layer][key] = np.broadcast_to(np.float32(values), weights[layer][key].shape).copy()
    return replace(trained, weights=weights)


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        (np.zeros((0, 6), np.float32), "0 calibration samples; give at least 16"),
        (np.zeros((15, 6), np.float32), "15 calibration samples"),
        (np.full((32, 6), np.nan, np.float32), "192 values of the calibration samples are NaN"),
        (np.full((32, 6), np.inf, np.float32), "NaN or infinite"),
    ],
)
def test_bad_calibration_is_refused(calibration: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        quantize(float_model("dense")[1], calibration)


def test_a_model_that_is_quantized_already_is_refused() -> None:
    _, trained = float_model("dense")
    config = json.loads(json.dumps(trained.config))
    config["layers"][1]["config"]["kernel_quantizer"] = "quantized_bits(4,0)"
    with pytest.raises(UnsupportedError, match=r"is quantized already .*'flow build' takes such a model"):
        quantize(replace(trained, config=config), inputs("dense"))


@pytest.mark.parametrize("class_name", ["FixedSoftmax", "FixedLayerNormalization"])
def test_layers_of_integers_are_none_of_a_float_model(class_name: str) -> None:
    settings = {"bits": 6, "integer": 1, "root_bits": 4, "epsilon": 0.5}
    with pytest.raises(UnsupportedError, match=rf"layer 'm' \({class_name}\) is quantized already \(bits=6\)"):
        float_graph(model(port(4), layer(class_name, "m", **settings)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(UnsupportedError, match="values of its kernel are NaN or infinite"):
        quantize(changed("dense", "dense", "kernel", value), inputs("dense"))


@pytest.mark.parametrize("value", [1e-30, 1e25, 1e37])
def test_sizes_beyond_all_formats_are_refused_by_name(value: float) -> None:
    with pytest.raises(UnsupportedError, match=r"dense: .*(dense|too small|too large)"):
        quantize(changed("dense", "dense", "kernel", value), inputs("dense"))


def test_large_and_small_but_possible_sizes_are_exact() -> None:
    for value in (1e-6, 1e6):
        found = quantize(changed("dense", "dense", "kernel", value), inputs("dense"))
        assert error("dense", found) < 1e-2


@pytest.mark.parametrize("name", ["dense", "residual", "depthwise", "preactivated"])
def test_constant_channels_and_dead_relus_are_exact(name: str) -> None:
    _, trained = float_model(name)
    weights = {each: dict(arrays) for each, arrays in trained.weights.items()}
    for arrays in weights.values():
        if "kernel" in arrays:
            arrays["kernel"] = arrays["kernel"].copy()
            arrays["kernel"][..., 0] = 0
        if "bias" in arrays:
            arrays["bias"] = arrays["bias"].copy()
            arrays["bias"][-1] = -1e4  # dead behind a ReLU
    found = quantize(replace(trained, weights=weights), inputs(name))
    assert np.isfinite([row["relative_error"] for row in found.record["modules"]]).all()


def test_constant_and_zero_inputs_are_exact() -> None:
    for value in (0.0, 0.5):
        found = quantize(float_model("residual")[1], np.full((16, *IMAGE), value, np.float32))
        assert found.record["modules"][-1]["relative_error"] < 1e-2


def test_a_batchnorm_without_variance_is_exact() -> None:
    keras.backend.clear_session()
    x = keras.Input(VECTOR)
    norm = L.BatchNormalization()
    model = keras.Model(x, L.Dense(2)(L.ReLU()(norm(L.Dense(3)(x)))), name="flat")
    norm.set_weights([np.ones(3), np.zeros(3), np.zeros(3), np.zeros(3)])  # a scale of 1 / sqrt(0.001)
    found = quantize(as_data(model), inputs("dense"))
    assert error("dense", found) < 1e-3


def test_a_given_port_format_is_kept() -> None:
    fmt = FixedFormat(True, 1, 4)
    _, trained = float_model("dense")
    assert quantize(trained, inputs("dense"), input_format=fmt).lowered.inputs[0].format == fmt
    assert quantize(trained, inputs("dense")).lowered.inputs[0].format == FixedFormat(True, 0, 7)  # 8 bits of k/256


def test_functions_need_something_to_compute_them() -> None:
    with pytest.raises(SpecError, match="tanh is a table that Keras fills"):
        quantize(float_model("functions")[1], inputs("functions"))


def test_errors_name_the_module() -> None:
    with pytest.raises(FlowError, match="dense: module 'dense'"):
        quantize(changed("dense", "dense", "kernel", 1e-25), inputs("dense"))


def test_lowering_keeps_the_meaning() -> None:
    for name in MODELS:
        found = made(name)
        codes = some_codes(found.lowered, 1, 8)
        whole, fused = reference.run_output(found.extracted, codes), reference.run_output(lower(found.extracted), codes)
        assert np.array_equal(whole, fused)


@pytest.mark.slow
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_every_model_is_simulated(io_type: str, tmp_path: Path) -> None:
    graphs = [made(name).lowered for name in MODELS]
    projects = [emit(graph, Target(io_type=io_type)) for graph in graphs]
    for graph, simulation in zip(graphs, compile_together(projects, graphs, tmp_path), strict=True):
        codes = some_codes(graph, 2, 100)
        expected, found = reference.run(graph, codes), simulation(codes)
        for op in graph.ops:
            assert np.array_equal(expected.codes[op.name], found.codes[op.name]), f"{graph.name}: {op.name}"
