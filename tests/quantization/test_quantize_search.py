"""The search of a module beside brute force: every combination of candidates as an integer graph, run as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from float_models import float_model, inputs
from hypothesis import given
from hypothesis import strategies as st

from flow.errors import SpecError, UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, exact_codes, to_values
from flow.ir.fixed import quantize as quantize_values
from flow.ir.passes import lower
from flow.quantization.assembly import assemble
from flow.quantization.candidates import code_range, covering_frac_bits, most_power, output_format, weight_candidates
from flow.quantization.driver import split_ports
from flow.quantization.floats import float_graph
from flow.quantization.restructuring import restructure
from flow.quantization.rounding import reconstruct
from flow.quantization.search import Choice, Parameters, Task, candidate_parameters, cast, search
from flow.quantization.settings import QuantSettings, read_settings
from flow.quantization.sweep import Deciding, Plan, make_plan, port_formats, sweep
from flow.quantization.widths import narrowed

FLOAT32 = 1e-5
"""Squared errors are added up in floats; codes are compared as integers."""


def tasks(name: str, settings: QuantSettings) -> tuple[Plan, Mapping[str, np.ndarray], list[tuple[Task, Choice]]]:
    """Return the modules of a model as the search sees them, with what it chooses."""
    graph = restructure(float_graph(float_model(name)[1]))
    ports = split_ports(graph, inputs(name, 16))
    plan = make_plan(graph, settings, port_formats(graph, ports, settings, None), lambda layers, values: values)
    seen: list[tuple[Task, Choice]] = []

    def decide(task: Task) -> Choice:
        seen.append((task, search(task)))
        return seen[-1][1]

    sweep(plan, ports, Deciding(decide, {}, lambda point, choice: None))
    return plan, ports, seen


def combinations(task: Task) -> Iterator[tuple[dict[str, Parameters], int]]:
    """Yield every combination of candidates: weights (per channel, if they are), bias and output."""
    rows = {op.name: candidate_parameters(task, op) for op in task.module.weighted}
    channels = task.target.shape[-1]
    per_channel = channels if task.settings.per_channel else 1
    weights = list(product(*(range(len(each)) for each in rows.values())))
    biases = range(len(next(iter(rows.values()))[0]))
    for chosen in product(weights, repeat=per_channel):
        picks = np.array(chosen * (channels // per_channel)).T  # (ops, channels)
        for bias in biases:
            parameters = {
                name: Parameters.picked([row[bias] for row in each], pick)
                for (name, each), pick in zip(rows.items(), picks, strict=True)
            }
            for output in task.output_candidates():
                yield parameters, output


def integer_error(plan: Plan, ports: Any, seen: Mapping[str, Choice], task: Task, tried: Choice) -> float:
    """Return the squared error of a module, computed by the reference on an integer graph with this choice in it."""
    point = task.module.point.name
    choices = {**seen, point: tried}
    until = plan.graph.ops.index(plan.graph[point]) + 1
    cut = replace(plan.graph, ops=plan.graph.ops[:until], outputs=(point,))
    graph = lower(assemble(cut, plan.modules, choices, plan.ports, plan.settings.rounding, plan.functions))
    codes = {op.name: quantize_values(ports[op.name], replace(op.cast, overflow=Overflow.SAT)) for op in graph.inputs}
    values = to_values(reference.run_output(graph, graph.join_port(codes)), graph.output.format)
    return float(np.square(values.reshape(task.target.shape) - task.target).sum())


@pytest.mark.parametrize(
    ("name", "module", "settings"),
    [
        ("dense", 1, QuantSettings(bits=3, candidates=3, bias_bits=4)),
        ("dense", 0, QuantSettings(bits=4, candidates=4, bias_bits=3, per_channel=False)),
        ("dense", 1, QuantSettings(bits=3, candidates=3, rounding=Rounding.RND, output_bits=4)),
        ("dense", 1, QuantSettings(bits=4, candidates=3, weights="po2", output_bits=5)),
        ("residual", 2, QuantSettings(bits=3, candidates=3, bias_bits=5, per_channel=False)),  # with a projection
        ("residual", 4, QuantSettings(bits=3, candidates=3, bias_bits=5, per_channel=False)),  # with an identity
        ("batchnorm_last", 1, QuantSettings(bits=3, candidates=3, bias_bits=4, per_channel=False, output_bits=4)),
        ("average_last", 1, QuantSettings(bits=3, candidates=4, output_bits=4)),
        ("depthwise", 0, QuantSettings(bits=3, candidates=2, bias_bits=4)),
    ],
)
def test_the_search_finds_the_best_of_all_combinations(name: str, module: int, settings: QuantSettings) -> None:
    plan, ports, seen = tasks(name, settings)
    task, found = seen[module]
    choices = {each.module.point.name: choice for each, choice in seen}
    best = np.inf
    if task.module.weighted:
        for parameters, frac_bits in combinations(task):
            fmt = output_format(frac_bits, task.bits, task.module.signed)
            tried = Choice(parameters=parameters, format=fmt, error=0.0, tried=1)
            best = min(best, integer_error(plan, ports, choices, task, tried))
    else:
        for frac_bits in task.output_candidates():
            fmt = output_format(frac_bits, task.bits, task.module.signed)
            tried = Choice(parameters={}, format=fmt, error=0.0, tried=1)
            best = min(best, integer_error(plan, ports, choices, task, tried))
    own = integer_error(plan, ports, choices, task, found)
    assert own <= best * (1 + FLOAT32)
    whole_output = float(np.square(task.target, dtype=float).sum())
    assert found.error == pytest.approx(own / whole_output, rel=FLOAT32)


def test_more_candidates_are_never_worse() -> None:
    errors = [tasks("residual", QuantSettings(bits=4, candidates=count))[2][0][1].error for count in (1, 2, 3, 5)]
    assert all(later <= earlier * (1 + FLOAT32) for earlier, later in pairwise(errors))


def test_flips_lower_the_error_of_the_sums_as_far_as_single_flips_can() -> None:
    for kind in ("integer", "po2"):
        settings = QuantSettings(bits=8, weight_bits=3, weights=kind, weight_rounding="reconstruct")
        _, _, seen = tasks("dense", settings)
        task, choice = seen[0]
        better = reconstruct(task, choice)
        assert better.error <= choice.error
        (op,), (name,) = task.module.weighted, better.parameters
        codes = better.parameters[name].weight
        off = np.abs(codes.values - op.numbers[0])
        if kind == "integer":  # up or down, or clamped
            step = np.ldexp(1.0, -codes.frac_bits)
            clamped = np.isin(codes.codes, code_range(3, True))
            assert ((off < step) | clamped).all()


# -- candidates


@given(st.floats(2.0**-20, 2.0**20), st.floats(0, 2.0**20), st.integers(2, 16))
def test_the_covering_fraction_bits_are_the_most_that_cover(high: float, low: float, bits: int) -> None:
    limits = code_range(bits, True)
    found = int(covering_frac_bits(np.array([-low]), np.array([high]), *limits)[0])

    def covers(frac_bits: int) -> bool:
        ends = np.rint(np.ldexp([-low, high], frac_bits))
        return bool(limits[0] <= ends[0] and ends[1] <= limits[1])

    assert covers(found) and not covers(found + 1)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.integers(2, 6))
def test_powers_of_two_are_the_nearest(values: list[float], bits: int) -> None:
    weight = np.array(values)[:, np.newaxis]
    if not weight.any() or np.abs(weight).max() < 1e-12:
        return
    for found in weight_candidates(weight, bits, "po2", False, (-1, 0, 1)):
        powers = np.array([0, *(1 << e for e in range(most_power(bits).bit_length()))])
        allowed = np.ldexp(np.concatenate([-powers, powers]).astype(float), -found.frac_bits)
        best = np.abs(weight - allowed).min(axis=1)
        np.testing.assert_allclose(np.abs(found.values - weight)[:, 0], best, rtol=1e-12, atol=0)


@given(
    st.lists(st.integers(-4000, 4000), min_size=1, max_size=30),
    st.sampled_from(list(Rounding)),
    st.integers(0, 6),
    st.booleans(),
)
def test_the_cast_of_the_search_is_that_of_the_hardware(
    codes: list[int], rounding: Rounding, dropped: int, signed: bool
) -> None:
    fmt = FixedFormat(signed, 8 - signed, 6 - dropped - 6)
    values = np.ldexp(np.array(codes, np.float32), dropped - 6 - 6 + 6)
    exact = np.array(codes, np.int64)
    wanted = Cast(fmt, rounding, Overflow.SAT)(exact, 6 - dropped)
    assert np.array_equal(cast(values, fmt, rounding), wanted)


def test_channels_are_never_finer_than_their_spread() -> None:
    weight = np.array([[1.0, 2.0**-30, 0.0]])
    (found,) = weight_candidates(weight, 8, "integer", True, (0,))
    assert found.frac_bits.tolist() == [6, 14, 6]
    constant = exact_codes(found.values)
    assert constant.format.width <= 16 and constant.codes.shape == (1, 3)


# -- widths


def test_the_cheapest_loss_goes_first() -> None:
    errors = {"a": {2: 9.0, 3: 1.0, 4: 0.0}, "b": {2: 0.3, 3: 0.2, 4: 0.0}}
    costs = {name: {width: 10.0 * width for width in (2, 3, 4)} for name in errors}
    assert narrowed(errors, costs, 80, {"a": None, "b": None}) == {"a": 4, "b": 4}
    assert narrowed(errors, costs, 60, {"a": None, "b": None}) == {"a": 4, "b": 2}
    assert narrowed(errors, costs, 50, {"a": None, "b": None}) == {"a": 3, "b": 2}
    assert narrowed(errors, costs, 60, {"a": 3, "b": None}) == {"a": 3, "b": 3}
    with pytest.raises(SpecError, match="still take 40 of 39"):
        narrowed(errors, costs, 39, {"a": None, "b": None})


# -- settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bits": 1}, "bits: 1 is not within 2 to 16"),
        ({"weight_bits": 17}, "weight_bits: 17"),
        ({"weights": "ternary"}, "weights: 'ternary' is none of integer, po2"),
        ({"choose": "best"}, "choose: 'best'"),
        ({"points": "none"}, "points: 'none'"),
        ({"sweeps": 3}, "sweeps: 3"),
        ({"candidates": 0}, "candidates: 0"),
        ({"calibration_samples": 8}, "calibration samples: 8 is not within 16 to 512"),
        ({"budget_bits": 1.5}, "budget of 1.5 bits"),
        ({"budget_lut": 0}, "budget of 0 LUTs"),
        ({"budget_bits": 4.0, "budget_lut": 10}, "give one of them"),
    ],
)
def test_settings_beyond_their_range_are_refused(settings: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        QuantSettings(**settings)


def test_wide_powers_of_two_are_refused() -> None:
    with pytest.raises(SpecError, match="power-of-two weights of 8 bits"):
        QuantSettings(weights="po2", weight_bits=8).layer(("conv",))
    assert QuantSettings(weights="po2").layer(("conv",)).weight_bits == 4


def test_a_file_of_settings_is_read(tmp_path: Any) -> None:
    path = tmp_path / "widths.toml"
    path.write_text('bits = 6\nrounding = "AP_RND"\n[layers.conv1]\nbits = 8\nweights = "po2"\n')
    found = QuantSettings(**read_settings(path))
    assert (found.bits, found.rounding) == (6, Rounding.RND)
    own = found.layer(("conv1", "bn1"))
    assert (own.bits, own.weights, own.weight_bits) == (8, "po2", 4)
    assert found.layer(("other",)).bits == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bits = ", "not a readable TOML file"),
        ("bitz = 6", "key 'bitz' is unknown; accepted are layers, bits, "),
        ("bits = true", "key 'bits' is True"),
        ("bits = 6.5", "key 'bits' is 6.5"),
        ('rounding = "HALF"', "rounding 'HALF' is none of AP_TRN"),
        ("layers = 3", "key 'layers' is 3; expected a table"),
        ("[layers.a]\nbits = 40", "layers.a: bits: 40"),
        ("[layers.a]\nseed = 4", "key 'layers.a.seed' is unknown; accepted are bits"),
    ],
)
def test_bad_files_of_settings_are_refused(tmp_path: Any, text: str, words: str) -> None:
    path = tmp_path / "widths.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words):
        read_settings(path)
    with pytest.raises(SpecError, match="no such file"):
        read_settings(tmp_path / "none.toml")


def test_ranges_without_a_format_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="1e-30: too small"):
        covering_frac_bits(np.array([0.0]), np.array([1e-30]), 0, 255)
    with pytest.raises(UnsupportedError, match=r"1e\+30: too large"):
        covering_frac_bits(np.array([-1e30]), np.array([1.0]), -128, 127)
    assert covering_frac_bits(np.zeros(2), np.zeros(2), 0, 255).tolist() == [0, 0]
