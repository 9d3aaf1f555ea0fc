"""Static energy: published points met exactly, counts worked out by hand, and every op of the zoo priced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zoo
from nets import Net, s, u

from flow.cost.energy import Work, addition_pj, energy_pj, float32_pj, int8_pj, static_energy, work
from flow.ir.fixed import Overflow, Rounding
from flow.ir.graph import IntGraph, Op
from flow.ir.passes import lower


def last(net: Net) -> Work:
    """Return the work of the last op."""
    graph = net.graph()
    return work(graph.output, graph.sources(graph.output))


def counts(done: Work) -> dict[str, int]:
    """Return the counts other than zero, without the registers that every op has."""
    names = [name for name in Work.__dataclass_fields__ if not name.startswith("result")]
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def test_the_published_energies_are_met() -> None:
    assert [round(addition_pj(1, bits), 12) for bits in (8, 32)] == [0.03, 0.1]
    products = [Work(multiplications=1, multiplied_bits=2 * bits, multiplied_bit_pairs=bits * bits) for bits in (8, 32)]
    assert [round(energy_pj(each), 12) for each in products] == [0.2, 3.1]
    assert round(energy_pj(Work(table_bits=64)), 12) == 10
    assert energy_pj(Work(products=1000)) == 0, "a shift by a constant is wires"
    assert energy_pj(Work(results=3, result_bits=24)) == 24 * 0.009


def test_a_dense_of_powers_of_two_is_shifts_and_additions() -> None:
    done = last(Net((4,), u(4)).dense([[1, 2], [-4, 0], [0, 0], [8, 1]], [3, 0]))
    # channel 0: a - 4b is -60 to 15, its bits 2 to 6; + 8c is -60 to 135, bits 3 to 8; + 3 is -60 to 138, bits 0 to 8
    # channel 1: 2a + c is 0 to 45, bits 1 to 5
    assert counts(done) == {"products": 5, "additions": 3 + 1, "addition_bits": 5 + 6 + 9 + 5}
    assert (done.results, done.result_bits) == (2, 2 * 9)


def test_a_weight_of_several_digits_has_additions_of_its_own() -> None:
    plain, more = (last(Net((1,), u(4)).dense([[weight]])) for weight in (8, 7))
    assert counts(plain) == {"products": 1}
    assert counts(more) == {"products": 1, "product_additions": 1, "product_addition_bits": 7}  # 8x - x: 0 to 105
    assert energy_pj(more) > energy_pj(plain)


def test_a_convolution_is_its_window_at_every_position() -> None:
    once, often = (last(Net((size, 1), u(4)).conv([[[1]], [[2]]])) for size in (2, 6))
    assert counts(often) == {name: 5 * count for name, count in counts(once).items()}
    assert counts(once) == {"products": 2, "additions": 1, "addition_bits": 5}  # x + 2y: from bit 1 to bit 5


def test_a_cast_rounds_and_clamps_where_it_may() -> None:
    net = Net((3,), s(8, 4))
    wires = counts(last(net.requantize(s(6, 2), Rounding.TRN, Overflow.WRAP)))
    rounded = counts(last(Net((3,), s(8, 4)).requantize(s(6, 2), Rounding.RND_CONV, Overflow.WRAP)))
    clamped = counts(last(Net((3,), s(8, 4)).requantize(s(4, 2), Rounding.TRN, Overflow.SAT)))
    relu = counts(last(Net((3,), s(8, 4)).requantize(u(8, 4), Rounding.TRN, Overflow.SAT)))
    assert (wires, rounded) == ({}, {"additions": 3, "addition_bits": 18})
    assert clamped == {"additions": 3, "addition_bits": 18}
    assert relu == {"additions": 3, "addition_bits": 24}


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Net((2,), s(4)).relu(), {}),
        (Net((2,), s(4)).relu(limit=3), {"additions": 2, "addition_bits": 8}),
        (Net((2,), s(4)).batchnorm([2, 0], [1, 5]), {"products": 1, "additions": 1, "addition_bits": 5}),
        (Net((4, 1), u(4)).pool((2,)), {"additions": 2, "addition_bits": 8}),
        (Net((2,), u(3)).mark("a").merge("multiply", "a"), {
            "multiplications": 2, "multiplied_bits": 12, "multiplied_bit_pairs": 18,
        }),
        (Net((2,), u(3)).mark("a").merge("add", "a"), {"additions": 2, "addition_bits": 8}),
        (Net((2,), u(3)).mark("a").merge("maximum", "a"), {"additions": 2, "addition_bits": 6}),
        (Net((2, 2), u(3)).reshape(4), {}),
    ],
    ids=lambda value: value.last.name if isinstance(value, Net) else "",
)  # fmt: skip
def test_ops_worked_out_by_hand(net: Net, expected: dict[str, int]) -> None:
    assert counts(last(net)) == expected


def test_zeros_cost_nothing_and_width_costs() -> None:
    rng = np.random.default_rng(1)
    weight = 2 ** rng.integers(0, 4, (16, 4))
    sparse = np.where(rng.random(weight.shape) < 0.5, 0, weight)
    dense, pruned, wide = (last(Net((16,), u(bits)).dense(w)) for bits, w in ((4, weight), (4, sparse), (8, weight)))
    assert energy_pj(pruned) < energy_pj(dense) < energy_pj(wide)
    assert (float32_pj(dense) - float32_pj(pruned)) > 0 and float32_pj(dense) == float32_pj(wide)


def test_other_arithmetic_multiplies() -> None:
    done = Work(products=10, product_additions=5, product_addition_bits=50)
    assert (int8_pj(done), float32_pj(done)) == (10 * 0.2, 10 * 3.7)
    with_sums = replace(done, additions=1, addition_bits=8, results=1, result_bits=4)
    assert round(int8_pj(with_sums) - int8_pj(done), 12) == 0.03 + 4 * 0.009
    assert round(float32_pj(with_sums) - float32_pj(done), 12) == round(0.9 + 32 * 0.009, 12)


@pytest.mark.parametrize("name", zoo.ROWS)
def test_every_op_is_priced(name: str) -> None:
    graph = zoo.row(name)
    for each in (graph, lower(graph)):
        found = static_energy(each)
        assert list(found.layers) == [op.name for op in each.ops]
        assert all(value >= 0 for value in found.layers.values())
        total = sum((work(op, each.sources(op)) for op in each.ops), Work())
        assert found.detail == {name: getattr(total, name) for name in Work.__dataclass_fields__}
        assert found.per_inference == round(energy_pj(total), 3)


def test_wires_take_nothing() -> None:
    def is_wires(op: Op) -> bool:
        return op.kind in ("reshape", "gather")

    graphs: list[IntGraph] = [zoo.row(name) for name in zoo.ROWS]
    assert any(is_wires(op) for graph in graphs for op in graph.ops)
    for graph in graphs:
        layers = static_energy(graph).layers
        assert all((layers[op.name] == 0) == is_wires(op) for op in graph.ops)
