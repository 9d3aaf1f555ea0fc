"""What is computed under encryption, computed without: `carve` on integers against the reference, and its counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo import ROWS, row

from flow.encrypted.cuts import Cut, Plain, Table, Tables, beside, bits_of, carve, tables_of
from flow.encrypted.plan import STAGES, cut_of, cuts_of, plan_of, to_text
from flow.ir import ops, reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import Op
from flow.ir.passes import lower

ROUNDINGS = st.sampled_from(list(Rounding))
OVERFLOWS = st.sampled_from(list(Overflow))


class Counting(Plain):
    """Integers, and what one number's tables were: the bits that each read."""

    def __init__(self) -> None:
        self.taken: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no other number gets the id of one
        self.widths: Counter[int] = Counter()

    def bit(self, x: Any, position: int) -> Any:
        self.kept.append(x)
        self.taken[id(x)] = max(self.taken.get(id(x), 0), position + 1)
        return super().bit(x, position)

    def above(self, x: Any, position: int, table: Table, high: int) -> Any:
        assert self.taken[id(x)] == position
        return super().above(x, position, table, high)

    def table(self, x: Any, table: Table, high: int) -> Any:
        self.widths[bits_of(high)] += 1
        return super().table(x, table, high)


@given(st.integers(-300, 300), st.integers(0, 400), st.booleans(), st.integers(1, 5), st.integers(0, 6), ROUNDINGS,
       OVERFLOWS, st.sampled_from((1, 1, 3)))  # fmt: skip
def test_a_cut_is_the_cast(
    low: int, reach: int, signed: bool, bits: int, drop: int, rounding: Rounding, overflow: Overflow, divisor: int
) -> None:
    """For every integer of its range, whatever is dropped, rounded, clamped or wrapped."""
    cut = Cut(low=low, high=low + reach, frac_bits=drop,
              cast=Cast(FixedFormat(signed, bits - signed, 0), rounding, overflow, divisor))  # fmt: skip
    x, how = np.arange(low, low + reach + 1), Counting()
    kept = x.copy()
    assert np.array_equal(carve(x, cut, how), cut.cast(kept, drop))
    counted = Tables(bits=sum(how.taken.values()), widths=tuple(sorted(how.widths.items())))
    expected = tables_of(cut)
    assert (counted.bits, counted.widths) == (expected.bits, expected.widths)


@pytest.mark.parametrize("unit", (0, 1, 3, 7))
def test_bits_that_are_always_zero_are_left_away(unit: int) -> None:
    cast = Cast(FixedFormat(False, 1, 3), Rounding.RND_CONV, Overflow.SAT)
    cut, sums = cut_of(cast, 6, -40 << unit, 50 << unit, unit), np.arange(-40, 51) << unit
    assert cut.frac_bits == 6 - min(unit, 3)
    assert np.array_equal(carve(sums >> min(unit, 3), cut, Plain()), cast(sums, 6))


@pytest.mark.parametrize("name", ROWS)
def test_the_plan_of_a_graph_computes_what_the_reference_computes(name: str) -> None:
    """Every op that is a sum and a cast, on codes of all kinds: the codes of the reference, by tables alone."""
    graph = lower(row(name))
    low, high = graph.port_limits()
    codes = np.random.default_rng(1).integers(low, high + 1, (40, *graph.port_shape))
    exact: dict[str, tuple[Any, int]] = {}

    def observe(op: Op, result: Any, frac_bits: int) -> None:
        exact[op.name] = (result.astype(np.int64), frac_bits)

    expected = reference.run(graph, codes, observe)
    for op in graph.ops:
        if op.name not in exact or STAGES[type(op)].__name__ not in ("_matmul", "_linear"):
            continue
        sums, frac_bits = exact[op.name]
        cuts = cuts_of(op, *graph.sources(op))
        channels = [(..., slice(None))] if len(cuts) == 1 else [(..., channel) for channel in range(len(cuts))]
        for cut, part in zip(cuts, channels, strict=True):
            shift = cut.frac_bits - frac_bits
            whole = sums[part] << max(shift, 0) >> max(-shift, 0)
            assert np.array_equal(whole << max(-shift, 0) >> max(shift, 0), sums[part])
            assert np.array_equal(carve(whole, cut, Plain()), expected.codes[op.name][part]), op.name
    plan = plan_of(graph)
    assert {stage.op for stage in plan.stages} == {op.name for op in graph.ops if not isinstance(op, ops.Input)}
    assert plan.tables.bootstraps == plan.to_json()["tfhe"]["bootstraps"]
    assert to_text(plan).splitlines()[-1].startswith("all")


def test_depth_is_that_of_the_longest_way() -> None:
    side, other = Tables(bits=3, depth=3), Tables.one(4)
    assert beside([side.times(5), other]).depth == 3
    assert beside([side, other]).bootstraps == 4
