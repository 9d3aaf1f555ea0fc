"""The table of hls4ml's tests, and how its outcomes are counted; `benchmarks/peer_suite.py` tries all of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fixtures_keras import layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import peer_suite
from peer_models import Situation, chain, float_models, new, quantized_models

from flow.train import quiet_warnings


def test_every_model_has_a_name_of_its_own() -> None:
    labels = [row.label for row in (*float_models(), *quantized_models())]
    assert len(labels) == len(set(labels)) > 240
    assert len({peer_suite.place(Path(), label) for label in labels}) == len(labels)


@quiet_warnings()
def test_outcomes_are_kept_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = (row for row in quantized_models() if row.label == "test_qkeras quantizer quantized_bits(4,0)")
    refused = Situation("test_qkeras", "noise", chain((4,), lambda: layers.Lambda(lambda x: x)))
    how = {"again": False, "refused": False, "emits": False}
    outcomes = peer_suite.try_all([taken, refused], tmp_path, **how)
    assert {status for status, _ in outcomes[taken.label].values()} == {"taken"}
    assert {status for status, _ in outcomes[refused.label].values()} == {"refused"}
    text = peer_suite.document(outcomes)
    assert "| rtl | 4 | 2 (50.0 %) | 0 | 0 | 0 | 2 | 0 | 0 |" in text and "refused (Vitis, Vivado, Quartus," in text
    monkeypatch.setattr(peer_suite, "try_model", lambda *_, **__: pytest.fail("it is known"))
    assert peer_suite.try_all([taken, refused], tmp_path, **how) == outcomes


@quiet_warnings()
def test_a_difference_from_qkeras_is_none_of_the_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_suite, "mismatches", lambda *_: {"quantizer": 3})
    row = Situation("test_qkeras", "", chain((1,), new("QActivation", "quantized_bits(4,0)")))
    assert row.label not in {each.label for each in quantized_models()}
    monkeypatch.setattr(peer_suite, "quantized_models", lambda: [row])
    outcomes = peer_suite.try_model(row, tmp_path, emits=False)
    assert set(outcomes.values()) == {("differs", "QKeras differs from the reference: {'quantizer': 3}")}
