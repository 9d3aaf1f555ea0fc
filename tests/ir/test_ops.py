"""Every aspect of an op is a table with a row for each op and no default; the zoo has each op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import zoo
from aspects import ASPECTS, Aspect

from flow.backends.hls4ml.kernels import kernel as hls_kernel
from flow.backends.rtl.verilog.kernels import kernels as netlists
from flow.cost.energy import static_energy
from flow.cost.fifos import fifos
from flow.cost.hls.estimates import estimate
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat
from flow.ir.graph import OPS, Draft, Input, IntGraph, Op, Requantize, to_text
from flow.ir.intervals import exact_result, inexact_in
from flow.ir.passes.fuse_requantize import fuse_requantize
from flow.target import Target
from flow.verification import causes, faults


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


GRAPH = Draft(
    name="g",
    ops=(PORT, SQUARE, Requantize(name="q", inputs=("y",), shape=(2,), cast=Cast(S4))),
    outputs=("q",),
)
CODES = np.zeros((1, 2), np.int64)
SITE = causes.Site(op=SQUARE, formats={"x": S4}, inputs={"x": CODES}, observed=CODES, exact=CODES, frac_bits=0)
ASKED: dict[str, Callable[[], object]] = {
    "a graph": lambda: IntGraph(name="g", ops=(PORT, SQUARE)),
    "text": lambda: to_text(GRAPH),
    "bounds": lambda: exact_result(SQUARE, S4),
    "exactness in floats": lambda: inexact_in(GRAPH, 24),
    "the reference": lambda: reference.run(GRAPH, CODES),
    "passes": lambda: fuse_requantize(GRAPH),
    "causes": lambda: list(causes.settings(SITE)),
    "faults": lambda: list(faults.faults(SITE, CODES > 0)),
    "energy": lambda: static_energy(GRAPH),
    "resources": lambda: estimate(GRAPH, Target()),
    "FIFOs": lambda: fifos(GRAPH),
    "a kernel of nnet_flow.h": lambda: hls_kernel(SQUARE, GRAPH, Target()),
    "netlists": lambda: list(netlists(SQUARE, GRAPH)),
}


@pytest.mark.parametrize("question", ASKED)
def test_an_unknown_op_is_an_error_not_a_guess(question: str) -> None:
    with pytest.raises(KeyError, match="Square"):
        ASKED[question]()
