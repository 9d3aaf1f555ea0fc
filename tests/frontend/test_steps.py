"""Steps of functions over codes too many to list: found, tried around each step, or refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from nets import s, u

from flow.errors import UnsupportedError
from flow.frontend.extraction import steps
from flow.frontend.extraction.steps import find_steps
from flow.ir.fixed import Codes, FixedFormat

STARTS = [-(1 << 39), -(1 << 35) - 3, -70001, -70000, 0, 1, 12345, (1 << 39) - 1]


def staircase(starts: list[int], values: list[float]) -> Callable[[Codes], np.ndarray]:
    return lambda codes: np.float32(values)[np.searchsorted(starts, codes, side="right") - 1]


def identity(codes: Codes) -> np.ndarray:
    return codes.astype(np.float32)


@pytest.mark.parametrize("fmt", [s(40), u(33), s(17), s(63), u(62)])
def test_every_step_is_found(fmt: FixedFormat) -> None:
    starts = [fmt.min_code, *(start for start in STARTS[1:] if fmt.min_code < start <= fmt.max_code)]
    values = [float(number) for number in range(len(starts))]
    found = find_steps(staircase(starts, values), fmt, identity, 0, "f")
    assert found[0].tolist() == starts and found[1].tolist() == values


def test_many_steps_and_none() -> None:
    starts = [-(1 << 29), *range(-(1 << 19), 1 << 19, 257)]
    found = find_steps(staircase(starts, list(range(len(starts)))), s(30), identity, 0, "f")
    assert found[0].tolist() == starts
    assert [each.tolist() for each in find_steps(staircase([-(1 << 29)], [2.5]), s(30), identity, 0, "f")] == [
        [-(1 << 29)],
        [2.5],
    ]
    starts = [-(1 << 29), *range(-(1 << 19), 1 << 19, 255)]
    with pytest.raises(UnsupportedError, match="f of 30 bits has more than 4096 steps"):
        find_steps(staircase(starts, list(range(len(starts)))), s(30), identity, 0, "f")


def test_a_function_that_falls_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="f of 20 bits falls somewhere"):
        find_steps(staircase([-(1 << 19), 0, 900], [0.0, 1.0, 0.0]), s(20), identity, 0, "f")


def test_a_function_that_falters_around_a_step_is_refused() -> None:
    """Between two codes that bisection tries, 100,003 falls back once."""
    values = staircase([-(1 << 25), 100_000], [0.0, 1.0])
    with pytest.raises(UnsupportedError, match="f of 26 bits falters around a step"):
        find_steps(lambda codes: np.where(codes == 100_003, 0, values(codes)), s(26), identity, 0, "f")


def test_a_function_too_flat_at_a_step_is_refused() -> None:
    """Within so many floats it moves by less than it falters."""
    values = staircase([-(1 << 25), 100_000], [0.0, 1.0])
    with pytest.raises(UnsupportedError, match="f of 26 bits is too flat at a step"):
        find_steps(values, s(26), lambda codes: (1 + codes * 2.0**-40).astype(np.float32), 16, "f")
    find_steps(values, s(26), identity, 16, "f")


def test_codes_beyond_floats_are_tried_float_by_float() -> None:
    codes, ends = steps._around(np.array([1 << 39]), s(41))
    assert (np.diff(codes.astype(np.float32)) >= 0).all() and len(np.unique(codes.astype(np.float32))) > 1000
    assert ends.tolist() == [(1 << 39) - (steps.MOST_AROUND << 16), (1 << 39) + (steps.MOST_AROUND << 16)]


def test_a_function_that_falls_up_to_a_code_and_rises_from_it_is_searched_on_both_sides() -> None:
    values = staircase([-(1 << 39), -90_001, -5, 7, 1 << 30], [3.0, 1.0, -1.0, 2.0, 4.0])
    found = find_steps(values, s(40), identity, 0, "f", turn=1)
    assert found[0].tolist() == [-(1 << 39), -90_001, -5, 7, 1 << 30] and found[1].tolist() == [3, 1, -1, 2, 4]
    for beyond in (-(1 << 50), 1 << 50):  # then it only rises, or only falls
        with pytest.raises(UnsupportedError, match="f of 40 bits falls somewhere"):
            find_steps(values, s(40), identity, 0, "f", turn=beyond)
