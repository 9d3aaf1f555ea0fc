"""Netlists compute what the reference does: arithmetic against flow.ir.fixed, kernels against every op of the zoo."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import zoo
from hypothesis import given
from hypothesis import strategies as st

from flow.backends.rtl.netlists import arithmetic
from flow.backends.rtl.netlists.logic import BUILD
from flow.backends.rtl.netlists.netlist import EVALUATE, KINDS, Netlist
from flow.backends.rtl.netlists.pipelining import LOGIC
from flow.backends.rtl.verilog.kernels import evaluate, kernels
from flow.backends.rtl.verilog.netlist_module import LINES
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import Input
from flow.ir.passes import lower

TABLES = {"value": EVALUATE, "delay": LOGIC, "gates": BUILD, "Verilog": LINES}


@pytest.mark.parametrize("aspect", TABLES)
def test_every_kind_of_node_has_a_row(aspect: str) -> None:
    assert set(TABLES[aspect]) == set(KINDS)


def table(net: Netlist, low: int, high: int) -> np.ndarray:
    """Return the first output for every input from `low` to `high`."""
    return net.run(np.arange(low, high + 1)[:, None])[:, 0]


@pytest.mark.parametrize("divisor", [1, 3, 4, 12, 49])
@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("frac_bits", [0, 1, 4, 9])
def test_cast_is_requantize(rounding: Rounding, overflow: Overflow, divisor: int, frac_bits: int) -> None:
    low, high = -700, 900
    for fmt in (FixedFormat(True, 2, 2), FixedFormat(False, 3, 1), FixedFormat(True, 10, 6)):
        net = Netlist()
        x = net.input(low, high)
        cast = Cast(fmt, rounding, overflow, divisor)
        net.outputs = [arithmetic.cast(net, x, frac_bits, cast)]
        codes = np.arange(low, high + 1)
        expected = cast(codes, frac_bits)
        np.testing.assert_array_equal(table(net, low, high), expected)


@pytest.mark.parametrize("divisor", [2, 3, 5, 7, 9, 25, 36, 100, 255, 1000])
@pytest.mark.parametrize("bounds", [(0, 4095), (-4096, 4095), (-5, 3), (-4000, -20)])
def test_floor_quotient(divisor: int, bounds: tuple[int, int]) -> None:
    net = Netlist()
    net.outputs = [arithmetic.floor_quotient(net, net.input(*bounds), divisor)]
    np.testing.assert_array_equal(table(net, *bounds), np.arange(bounds[0], bounds[1] + 1) // divisor)


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-100, 100), st.integers(0, 200))
def test_times(factor: int, low: int, span: int) -> None:
    net = Netlist()
    net.outputs = [arithmetic.times(net, net.input(low, low + span), factor)]
    np.testing.assert_array_equal(table(net, low, low + span), np.arange(low, low + span + 1) * factor)


def test_divide() -> None:
    net = Netlist()
    x, d = net.input(0, 1000), net.input(40, 90)
    net.outputs = [arithmetic.divide(net, x, d, 5)]
    codes = np.array([(a, b) for a in range(0, 1001, 7) for b in range(40, 91) if a // b < 32])
    np.testing.assert_array_equal(net.run(codes)[:, 0], codes[:, 0] // codes[:, 1])


@given(st.data())
def test_product(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    largest = data.draw(st.sampled_from([1, 8, 1 << 30]))
    weights = st.lists(st.integers(-largest, largest), min_size=rows * columns, max_size=rows * columns)
    matrix = np.array(data.draw(weights)).reshape(rows, columns)
    net = Netlist()
    with patch.object(arithmetic, "MOST_SEARCHED", data.draw(st.sampled_from([0, arithmetic.MOST_SEARCHED]))):
        net.outputs = arithmetic.product(net, [net.input(-8, 7) for _ in range(rows)], matrix, "op")
    codes = np.random.default_rng(0).integers(-8, 8, (50, rows))
    np.testing.assert_array_equal(net.run(codes), codes @ matrix)


@pytest.mark.parametrize("row", zoo.ROWS)
def test_no_value_leaves_its_interval(row: str) -> None:
    """The widths of the Verilog are those of the intervals, so an interval that is too narrow is a wrong circuit."""
    graph = lower(zoo.row(row))
    rng = np.random.default_rng(0)
    for op in graph.ops:
        if isinstance(op, Input):
            continue
        for each in kernels(op, graph):
            ends = np.array([[node.low, node.high] for node in each.net.inputs]).reshape(-1, 2)
            corners = ends[np.arange(len(ends)), rng.integers(0, 2, (200, len(ends)))]
            inside = rng.integers(ends[:, 0], ends[:, 1] + 1, (200, len(ends)))
            for node, values in zip(each.net.nodes, each.net.values(np.concatenate([corners, inside])), strict=True):
                assert node.low <= values.min() and values.max() <= node.high, (op.name, node)


@pytest.mark.parametrize("row", zoo.ROWS)
def test_kernels_are_the_reference(row: str) -> None:
    given = zoo.row(row)
    for graph in (given, lower(given)):
        low, high = graph.port_limits()
        codes = np.random.default_rng(0).integers(low, high + 1, (100, *graph.port_shape))
        expected = reference.run(graph, codes).codes
        for op in graph.ops:
            if not isinstance(op, Input):
                found = evaluate(op, graph, [expected[name] for name in op.inputs])
                np.testing.assert_array_equal(found, expected[op.name], err_msg=op.name)
