"""The estimates of HLS projects: rules on numbers worked out by hand, what must hold, and what the record says."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import zoo
from nets import Net, s, u

from flow.cost.hls import intervals
from flow.cost.hls.estimates import VIVADO_SHARES, amounts, estimate, estimate_csynth, fifo_blocks, numbers
from flow.cost.hls.matmuls import constant_weights, multiplier_limit, stored_weights, weight_memory
from flow.cost.hls.products import products_of
from flow.cost.hls.settings import Hls, assumed, tool_of
from flow.errors import SpecError
from flow.ir.fixed import FixedFormat
from flow.ir.graph import IntGraph
from flow.ir.ops import MatMul
from flow.ir.passes import lower
from flow.parts import find_part
from flow.target import IO_TYPES, STRATEGIES, Target

VIVADO = Hls(tool="Vivado HLS", version="2020.1")
PART = find_part("xcvu13p")
S16 = FixedFormat(True, 5, 10)


def dense(weight: object, x: FixedFormat = S16) -> tuple[IntGraph, MatMul]:
    """Return a graph of one dense op of these codes, and the op."""
    weight = np.asarray(weight, np.int64)
    graph = Net(weight.shape[:1], x).dense(weight).requantize(S16).graph()
    (op,) = (op for op in graph.ops if isinstance(op, MatMul))
    return graph, op


def lowered(weight: object, x: FixedFormat = S16) -> MatMul:
    graph, _ = dense(weight, x)
    (op,) = (op for op in lower(graph).ops if isinstance(op, MatMul))
    return op


def test_products_are_shared_by_input_and_signed_weight() -> None:
    # input 0: 21 (10101) twice, -21, 4; input 1: 3 (two digits), -2 (a negated input), 0
    op = lowered([[21, 21, -21, 4], [3, -2, 0, 0]])
    made = products_of(op, S16, PART, VIVADO)
    assert (made.multipliers, made.in_dsp, made.slices) == (2, 2, 2)
    assert (made.negated_bits, made.two_digit_bits) == (16, 16 + 2)
    assert made.terms == (2, 1, 3) and (made.adders, made.longest, made.outputs) == (2, 2, 4)


def test_a_product_takes_a_slice_by_the_bits_of_both_operands() -> None:
    op = lowered([[11, -11]])  # 4 bits, and 5 with the sign
    assert products_of(op, S16, PART, VIVADO).in_dsp == 1
    assert products_of(op, S16, PART, replace(VIVADO, tool="Vitis HLS")).in_dsp == 2
    assert products_of(op, S16, PART, replace(VIVADO, multipliers="fabric")).in_dsp == 0
    assert products_of(lowered([[21]], u(8)), u(8), PART, replace(VIVADO, multipliers="dsp")).in_dsp == 1


def test_a_reuse_factor_limits_products_and_takes_turns() -> None:
    weight = np.arange(1, 65).reshape(8, 8) * 21  # 64 products of three digits and more, most of them
    op = lowered(weight)
    target = Target(backend="Vivado", reuse_factor=32)
    assert multiplier_limit(op, 32) == 2
    made = constant_weights(op, S16, target, PART, VIVADO)
    turns = -(-products_of(op, S16, PART, VIVADO).multipliers // 2)
    assert (made.dsp, made.latency_cycles, made.initiation_interval_cycles) == (2, turns + 1, min(32, turns + 2))
    alone = constant_weights(op, S16, replace(target, reuse_factor=1), PART, VIVADO)
    assert alone.initiation_interval_cycles == 1 and alone.dsp > 2


def test_stored_weights_by_hand() -> None:
    """128 x 128 of 8 bits, a reuse factor of 512: 32 units, which Vivado HLS 2020.1 reported with these figures."""
    weight = np.resize([1, -128, 77], (128, 128))
    op = lowered(weight)
    op = replace(op, accumulator=S16, channel_bits=(), weight=replace(op.weight, format=FixedFormat(True, 0, 7)))
    target = Target(backend="Vivado", strategy="Resource", reuse_factor=512)
    made = stored_weights(op, S16, target, PART, VIVADO, inside=False)
    assert (made.dsp, made.bram_18k, made.latency_cycles, made.initiation_interval_cycles) == (32, 9, 514, 512)
    fitted = numbers()
    lut = sum(fitted["lut"][name] * amount for name, amount in made.lut.items() if name != "LUT by structure")
    ff = sum(fitted["ff"][name] * amount for name, amount in made.ff.items())
    assert abs(lut / 34133 - 1) < 0.02 and abs(ff / 2666 - 1) < 0.02


def test_memories() -> None:
    assert weight_memory(8, 128) == (0, 16)
    assert weight_memory(128, 384) == (4, 0)
    assert weight_memory(40, 1024) == (3, 0)
    assert weight_memory(40, 1120) == (3 + 2, 0)
    vitis = Hls()
    assert fifo_blocks(16, 64, vitis) == 0
    assert (fifo_blocks(144, 128, vitis), fifo_blocks(144, 128, VIVADO)) == (4, 8)
    assert fifo_blocks(6, 3844, vitis) == 2


@pytest.mark.parametrize(
    ("text", "usual", "tool"),
    [
        ("Vivado/Vitis HLS 2021.1", "Vivado HLS 2020.1", ("Vitis HLS", "2021.1")),
        ("Vivado/Vitis HLS 2019.2", "Vivado HLS 2020.1", ("Vivado HLS", "2019.2")),
        ("Vitis HLS 2020.1", "Vivado HLS 2020.1", ("Vitis HLS", "2020.1")),
        ("Vivado HLS 2020.1", "Vitis HLS 2023.2", ("Vivado HLS", "2020.1")),
        ("", "Vitis HLS 2023.2", ("Vitis HLS", "2023.2")),
    ],
)
def test_tools_by_their_names(text: str, usual: str, tool: tuple[str, str]) -> None:
    assert tool_of(text, usual) == tool


def test_settings_are_checked() -> None:
    with pytest.raises(SpecError, match="multipliers 'lut' are none of auto, dsp, fabric"):
        Hls(multipliers="lut")


@pytest.mark.parametrize("name", list(zoo.ROWS)[::2])
def test_every_row_of_the_zoo_has_both_estimates(name: str) -> None:
    """Every kind and every amount has a number; figures of an op are parts of the total, and lie in their interval."""
    graph = lower(zoo.row(name))
    for io_type, strategy in zip(IO_TYPES, STRATEGIES, strict=True):
        target = Target(io_type=io_type, strategy=strategy, reuse_factor=2)
        for counted in amounts(graph, target, assumed(target)).values():
            assert counted.kind in VIVADO_SHARES
            assert set(counted.lut) <= set(numbers()["lut"]) and set(counted.ff) <= set(numbers()["ff"])
        for report in (estimate(graph, target), estimate_csynth(graph, target)):
            for field in ("lut", "ff", "dsp", "bram_18k"):
                assert getattr(report.total, field) == sum(getattr(layer, field) for layer in report.layers)
            for figures in (report.total, *report.layers):
                for field, interval in figures.intervals.items():
                    assert interval.low is None or interval.low <= getattr(figures, field) <= (interval.high or 0)


def test_two_estimates_of_one_project_are_labelled() -> None:
    graph = lower(zoo.row(next(iter(zoo.ROWS))))
    hardware, reported = estimate(graph, Target()), estimate_csynth(graph, Target())
    assert [(each.source, each.predicts) for each in (hardware, reported)] == [
        ("static", "vivado"),
        ("static_csynth", "csynth"),
    ]
    assert hardware.tool == reported.tool == "flow static model, see docs/estimates.md, for Vitis HLS 2023.2"


def test_latency_of_a_stream_is_the_way_through_all_ops() -> None:
    net = Net((6, 6, 2), u(4)).conv(np.ones((3, 3, 2, 2), np.int64)).requantize(u(4))
    graph = lower(net.flatten().dense(np.ones((32, 4), np.int64)).requantize(u(4)).graph())
    target = Target(io_type="io_stream")
    whole, reported = estimate(graph, target), estimate_csynth(graph, target)
    slowest = max(layer.latency_cycles or 0 for layer in reported.layers)
    assert reported.total.latency_cycles == slowest < (whole.total.latency_cycles or 0)
    assert whole.total.intervals["latency_cycles"].basis == intervals.NO_TRUTH


def test_what_is_derived_is_said() -> None:
    graph = Net((8,), u(4)).dense(np.eye(8, dtype=np.int64) * 3).requantize(s(6)).mark("a").merge("add", "a").graph()
    report = estimate_csynth(graph, Target())
    assert report.total.intervals["lut"].basis.endswith("ops are derived, without truth")
    merge = report.layers[-1].intervals["lut"]
    assert (merge.low, merge.basis, merge.designs) == (None, intervals.NO_TRUTH, 0)


def test_products_beyond_the_part_are_luts() -> None:
    graph, _ = dense(np.arange(1, 401).reshape(20, 20) * 85)
    small, large = (estimate(graph, Target(part=part)) for part in ("xc7z010clg400-1", "xcvu13p-flga2577-2-e"))
    assert large.total.dsp and large.total.dsp > 80 >= (small.total.dsp or 0)
    assert small.total.lut and small.total.lut > (large.total.lut or 0)


def test_the_stated_shares_are_of_groups_that_designs_can_have() -> None:
    stated = json.loads((resources.files("flow.cost.hls") / "truth.json").read_text())
    assert set(stated) == {"csynth", "vivado"}
    for groups in stated.values():
        for figures in groups.values():
            assert set(figures) <= set(intervals.FIGURES)
            assert all(0 <= each["low"] <= each["high"] for each in figures.values() if each["designs"])
