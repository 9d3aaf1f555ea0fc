"""Every aspect of an op is a table with a row for each op and no default; the zoo has each op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import zoo
from aspects import ASPECTS, Aspect

from flow.ir.fixed import Cast, FixedFormat
from flow.ir.graph import OPS, Input, IntGraph, Op
from flow.ir.intervals import exact_result
from flow.ir.steps import step_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Square(Op):
    """x * x: an op that no table knows."""

    kind: ClassVar[str] = "square"


S4 = FixedFormat(True, 3, 0)
PORT = Input(name="x", inputs=(), shape=(2,), cast=Cast(S4))
SQUARE = Square(name="y", inputs=("x",), shape=(2,), cast=Cast(FixedFormat(True, 6, 0)))


@pytest.mark.parametrize("aspect", ASPECTS, ids=[f"{each.module}.{each.table}" for each in ASPECTS])
def test_every_op_has_a_row_in_every_table(aspect: Aspect) -> None:
    rows, aside = set(aspect.rows()), set(aspect.not_asked())
    assert not rows & aside, "asked of an op that stands aside"
    assert (rows & set(OPS)) | aside == set(OPS)


@pytest.mark.parametrize("aspect", ASPECTS, ids=[f"{each.module}.{each.table}" for each in ASPECTS])
def test_a_table_has_no_row_for_an_op_that_it_does_not_know(aspect: Aspect) -> None:
    with pytest.raises(KeyError, match="Square"):
        aspect.rows()[Square]


def test_the_zoo_has_every_op() -> None:
    assert {type(op) for name in zoo.ROWS for op in zoo.row(name).ops} == set(OPS)


ASKED: dict[str, Callable[[], object]] = {
    "a graph": lambda: IntGraph(name="g", ops=(PORT, SQUARE)),
    "bounds": lambda: exact_result(SQUARE, S4),
    "the reference": lambda: step_of(SQUARE, PORT),
}


@pytest.mark.parametrize("question", ASKED)
def test_an_unknown_op_is_an_error_not_a_guess(question: str) -> None:
    with pytest.raises(KeyError, match="Square"):
        ASKED[question]()
