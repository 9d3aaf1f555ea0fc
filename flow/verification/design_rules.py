"""Rules about a graph on any target: what its back end refuses, which part holds it, and what no float can check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flow.backends.functions import Design, functions
from flow.findings import ERROR, WARNING, Hit, Rule
from flow.frontend.base import read
from flow.ir.graph import Op
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS, inexact_in
from flow.parts import PARTS


def _back_end_refusals(subject: Design) -> Iterator[Hit]:
    """An op that the back end cannot compute exactly."""
    yield from map(Hit.of, functions(subject.target).refusals(subject.lowered, subject.target))


def _small_part(subject: Design) -> Iterator[Hit]:
    """The part holds less than the static estimate."""
    if subject.resources is None:
        return
    needed = {key: int(getattr(subject.resources.total, key) or 0) for key in subject.resources.capacity}
    short = [key for key, count in needed.items() if count > subject.resources.capacity[key]]
    if short:
        words = ", ".join(f"{needed[key]} {key} of {subject.resources.capacity[key]}" for key in short)
        fitting = (part for part in PARTS if all(part.capacity()[key] >= count for key, count in needed.items()))
        part = min(fitting, key=lambda part: part.lut, default=None)
        larger = f"--part {part.name}" if part else "fewer weights (no known part holds it)"
        remedy = f"use {larger}, or --strategy Resource with a larger reuse factor"
        yield Hit("", f"the static estimate takes {words} on {subject.target.part}", remedy)


def _inexact_floats(subject: Design) -> Iterator[Hit]:
    """QKeras' float32 does not compute the model exactly: a build compares with float64 instead."""
    if subject.trained is None:
        return
    wide = inexact_in(subject.extracted, FLOAT32_BITS)
    if wide:
        reason = f"{_named(wide)} may need more than {FLOAT32_BITS} bits, so float32 inference may round"
        remedy = "use fewer bits for weights or activations, or take the float64 results as the model's"
        yield Hit(wide[0].name, reason, remedy)
    for layer in read(subject.trained).layers:
        if layer.rounds:
            reason = f"{layer.described} rounds in float32; the hardware computes it exactly"
            yield Hit(layer.name, reason, "use FixedBatchNormalization, or take the float64 results as the model's")


def _uncheckable_sums(subject: Design) -> Iterator[Hit]:
    """Results beyond float64: no software inference can be held against the hardware."""
    wide = () if subject.trained is None else inexact_in(subject.extracted, FLOAT64_BITS)
    if wide:
        reason = f"{_named(wide)} may need more than {FLOAT64_BITS} bits, so no float can check it"
        yield Hit(wide[0].name, reason, "use fewer bits for its weights or its input")


def _named(ops: Sequence[Op]) -> str:
    return f"op '{ops[0].name}'" + (f" and {len(ops) - 1} more" if len(ops) > 1 else "")


def _revived_weights(subject: Design) -> Sequence[Hit]:
    """Pruned weights that their quantizer turns back into non-zeros."""
    return () if subject.trained is None else subject.trained.warnings


DESIGN_RULES: tuple[Rule[Design], ...] = (
    Rule(
        "back-end",
        ERROR,
        "writers and headers of hls4ml 1.3.0, docs/numerics.md",
        _back_end_refusals,
    ),
    Rule(
        "float64-inexact",
        ERROR,
        "IEEE 754 binary64, docs/numerics.md, Carriers",
        _uncheckable_sums,
    ),
    Rule(
        "part-too-small",
        WARNING,
        "static estimate against the vendor's tables, docs/estimates.md",
        _small_part,
    ),
    Rule(
        "float32-inexact",
        WARNING,
        "IEEE 754 binary32, docs/numerics.md, Carriers",
        _inexact_floats,
    ),
    Rule(
        "pruned-weights-lost",
        WARNING,
        "quantized_po2 of QKeras 0.9.0, docs/numerics.md, Zero",
        _revived_weights,
    ),
)
