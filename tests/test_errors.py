"""Errors: their parts, the text that is made of them, and the places that are put around them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from flow.errors import DataError, FlowError, PreflightError, UnsupportedError, at
from flow.findings import ERROR, Finding, Hit, refuse

WIDE = "its accumulator may need 70 bits, more than 62"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FlowError(WIDE), WIDE),
        (FlowError(WIDE, remedy="use fewer bits"), f"{WIDE}; use fewer bits"),
        (FlowError(WIDE, op="d", remedy="use fewer bits"), f"op 'd': {WIDE}; use fewer bits"),
        (FlowError("op 'd' is odd", named="d", model="m"), "m: op 'd' is odd"),
        (FlowError("is odd", layer="d", class_name="QDense", field="bias"), "layer 'd' (QDense): bias: is odd"),
        (FlowError("no such file", file=Path("a/b")), "a/b: no such file"),
        (FlowError("failed", tool="Yosys", module="top"), "Yosys: module 'top': failed"),
    ],
)
def test_parts_are_joined_when_printed(error: FlowError, text: str) -> None:
    assert str(error) == text


def test_a_place_goes_around_those_before_and_leaves_the_error_as_it_is() -> None:
    inner = UnsupportedError(WIDE, op="d", remedy="use fewer bits")
    outer = inner.at(layer="l", class_name="QDense").at(model="m")
    assert str(outer) == f"m: layer 'l' (QDense): op 'd': {WIDE}; use fewer bits"
    assert str(inner) == f"op 'd': {WIDE}; use fewer bits"
    assert isinstance(outer, UnsupportedError) and (outer.what, outer.remedy) == (inner.what, inner.remedy)


def test_a_place_is_said_once() -> None:
    error = FlowError("is odd").at(op="d").at(model="m")
    assert str(error.at(model="m")) == str(error.at(model="other")) == "m: op 'd': is odd"


def test_a_stage_boundary_puts_its_place_around_what_is_raised_inside() -> None:
    with pytest.raises(DataError, match=r"^m: op 'd': is odd$"), at(model="m"), at(op="d"):
        raise DataError("is odd")
    with pytest.raises(ValueError, match=r"^not ours$"), at(model="m"):
        raise ValueError("not ours")


@pytest.mark.parametrize(
    ("error", "op", "reason"),
    [
        (FlowError("is odd", model="m"), "", "is odd"),
        (FlowError("is odd", model="m", layer="l", op="d"), "l", "layer 'l': op 'd': is odd"),
        (FlowError("is odd", output="o", class_name="Dense"), "o", "output 'o' (Dense): is odd"),
        (FlowError("op 'd' is odd", named="d"), "d", "op 'd' is odd"),
        (FlowError("op 'd' is odd", named="d", layer="l"), "l", "layer 'l': op 'd' is odd"),
    ],
)
def test_what_an_error_is_about(error: FlowError, op: str, reason: str) -> None:
    assert (error.op, error.reason) == (op, reason)
    assert Hit.of(error) == Hit(op, reason, "change it, or leave it out")


def test_a_finding_is_refused_in_its_words() -> None:
    finding = Finding("rule", ERROR, "d", "op 'd' is odd", "source", "mend it")
    assert str(finding) == str(finding.refusal) == "op 'd' is odd; mend it"
    with pytest.raises(UnsupportedError, match=r"^m: op 'd' is odd; mend it$"):
        refuse("m", [finding.refusal])


def test_several_refusals_stay_apart() -> None:
    with pytest.raises(PreflightError) as raised:
        refuse("m", [FlowError("a", op="x"), FlowError("b", model="m")])
    assert [refusal.op for refusal in raised.value.refusals] == ["x", ""]
    assert str(raised.value) == "2 things are in the way\n  m: op 'x': a\n  m: b"
    assert str(raised.value.at(file="f")) == f"f: {raised.value}"


def test_an_error_survives_another_process() -> None:
    error = FlowError("is odd", op="d", remedy="mend it")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
