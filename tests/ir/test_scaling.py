"""Shortened batch norms: the same codes for every input, on fewer bits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from nets import Net, s, u

from flow.ir.fixed import Cast, Codes, FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, IntGraph
from flow.ir.passes import fuse_requantize, lower
from flow.ir.passes.shorten_batchnorm import shorten_batchnorm
from flow.ir.po2 import signed_digits
from flow.ir.reference import run_output
from flow.ir.scaling import Line, cuts_of, has_thresholds, shortened, stepped

CASTS = [
    Cast(fmt, rounding, overflow)
    for fmt in (s(4, 1), u(5, 3), u(1), s(7, -2), s(2, 4))
    for rounding in (Rounding.TRN, Rounding.RND, Rounding.RND_CONV)
    for overflow in (Overflow.SAT, Overflow.SAT_SYM)
] + [Cast(s(4, 1), rounding, Overflow.SAT, divisor=49) for rounding in (Rounding.TRN, Rounding.RND, Rounding.RND_CONV)]


def random_line(rng: np.random.Generator) -> Line:
    bits, frac_bits = int(rng.integers(1, 26)), int(rng.integers(-2, 28))
    scale, offset = rng.integers(-(2**bits), 2**bits + 1), rng.integers(-(2 ** (bits + 4)), 2 ** (bits + 4))
    return Line(int(scale * (rng.random() < 0.9)), int(offset), frac_bits)


def codes_of(line: Line, x: Codes, cast: Cast) -> Codes:
    """Return cast(line(x)) of integers, by fractions."""

    def code(n: int) -> int:
        exact = Fraction(line.scale * n + line.offset) * Fraction(2) ** (cast.format.frac_bits - line.frac_bits)
        exact /= cast.divisor
        half = Fraction(1, 2)
        rounded = {
            Rounding.TRN: lambda: exact // 1,
            Rounding.RND: lambda: (exact + half) // 1,
            Rounding.RND_CONV: lambda: round(exact),
        }[cast.rounding]()
        return min(max(rounded, cast.lowest_code), cast.format.max_code)

    return np.array([code(n) for n in x.tolist()])


@pytest.mark.parametrize(
    "cast", CASTS, ids=lambda cast: f"{cast.format}-{cast.rounding.name}-{cast.overflow.name}-{cast.divisor}"
)
def test_a_shorter_factor_gives_the_codes_of_the_true_one(cast: Cast) -> None:
    rng = np.random.default_rng(2)
    for x in (s(6, 2), u(5)):
        every = np.arange(x.min_code, x.max_code + 1)
        for _ in range(8):
            line = random_line(rng)
            made, expected = shortened([line], x, cast), codes_of(line, every, cast)
            assert made is not None
            scale, offset, own = made
            shift = own.format.frac_bits - scale.format.frac_bits - x.frac_bits
            finest = max(offset.format.frac_bits, own.format.frac_bits - shift)
            exact = every * scale.codes << (finest - scale.format.frac_bits - x.frac_bits)
            exact += offset.codes << (finest - offset.format.frac_bits)
            assert np.array_equal(own(exact, finest), expected), (line, x)
            starts, values = stepped([line], cuts_of(cast), np.arange(cast.lowest_code, cast.format.max_code + 1), x)
            assert np.array_equal(values[0][np.searchsorted(starts[0], every, side="right") - 1], expected)


def test_lines_of_any_size_have_thresholds() -> None:
    """Factors of 90 bits behind sums of 40: more than any carrier holds."""
    x, cast = s(40), Cast(s(3), Rounding.RND_CONV, Overflow.SAT)
    line = Line((1 << 90) // 3, -(1 << 121) + 12345, 124)
    starts, values = stepped([line], cuts_of(cast), np.arange(cast.lowest_code, cast.format.max_code + 1), x)
    around = np.concatenate([starts[0][1:] - 1, starts[0][1:], [x.min_code, x.max_code]])
    assert len(starts[0]) > 4
    found = values[0][np.searchsorted(starts[0], around, side="right") - 1]
    assert np.array_equal(found, codes_of(line, around, cast))


def test_what_wraps_has_none() -> None:
    assert not has_thresholds(Cast(s(4)))
    assert not has_thresholds(Cast(s(20), Rounding.RND, Overflow.SAT))


def normalized(width: int, fmt: FixedFormat, channels: int = 3, positions: tuple[int, ...] = ()) -> IntGraph:
    """Return a dense with a batch norm of `width` random bits and a quantizer behind it."""
    rng = np.random.default_rng(width)
    net = Net((*positions, 12), s(5, 2)).dense(rng.integers(-8, 8, (12, channels)), frac=3)
    scale, offset = (
        rng.integers(1 << (width - 1), 1 << width, channels),
        rng.integers(-(1 << width), 1 << width, channels),
    )
    return net.batchnorm(scale, offset, width, width).relu().requantize(fmt).graph()


def test_a_stock_batch_norm_is_multiplied_once_and_not_in_every_weight() -> None:
    graph = normalized(24, u(4, 2))
    lowered = lower(graph)
    assert [op.kind for op in lowered.ops[1:]] == ["dense", "batchnorm"]
    norm = lowered.ops[-1]
    assert isinstance(norm, BatchNorm) and norm.fused == ("batchnorm", "relu", "requantize")
    before = next(op for op in graph.ops if isinstance(op, BatchNorm))
    assert signed_digits(norm.scale.codes).sum() < signed_digits(before.scale.codes).sum()
    assert norm.scale.format.width <= 14 < before.scale.format.width
    codes = np.random.default_rng(0).integers(-16, 16, (4000, 12))
    assert np.array_equal(run_output(lowered, codes), run_output(graph, codes))


def test_a_power_of_two_is_folded_as_ever_and_positions_in_arrays_count() -> None:
    graph = Net((12,), s(5)).dense(np.ones((12, 2), int) * 3).batchnorm([4, 8], [1, 0], 3).requantize(s(4)).graph()
    assert [op.kind for op in lower(graph).ops[1:]] == ["dense"]
    rows = normalized(24, u(4, 2), positions=(50,))
    assert [op.kind for op in lower(rows).ops[1:]] == ["dense"]
    assert [op.kind for op in lower(rows, stream=True).ops[1:]] == ["dense", "batchnorm"]


def test_a_batch_norm_whose_factors_are_short_stays_as_it_is() -> None:
    graph = fuse_requantize(normalized(3, u(4, 2)))
    assert shorten_batchnorm(graph).digest() == graph.digest()
    exact = replace(graph, ops=graph.ops[:-1], outputs=(graph.ops[-2].name,))
    assert shorten_batchnorm(exact) == exact or shorten_batchnorm(exact).digest() == exact.digest()
