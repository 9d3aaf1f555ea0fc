"""Preflight: what conversion would refuse, and what vendor synthesis is known to fail at, before anything is made.

Each rule is a function that yields what it finds, in the model or in its graph on a target; a back end has rules of its
own. An error is what `flow build` refuses. A warning is what it goes on with: the vendor's tool may fail, a check is
weaker than one thinks, or the hardware is not what was meant. docs/preflight.md tells what is known of each limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from flow.backends.functions import Design, folds, functions, lowered_for, settled
from flow.errors import FlowError, UnsupportedError
from flow.findings import ERROR, WARNING, Finding, Hit, Rule
from flow.frontend.base import Evaluate, read
from flow.frontend.extraction import Extraction, attempt, quantizes_its_input
from flow.frontend.extraction.approximation import Approximation
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import FixedFormat
from flow.ir.graph import Op
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS, inexact_in
from flow.ir.passes import lower
from flow.parts import PARTS, complete_names, find_part
from flow.target import Target

STAND_IN = FixedFormat(False, 0, 8)
"""Format of ports that nothing says the format of, while the rest of the model is looked at."""
ORDER = (
    "reuse-factor",
    "back-end",
    "float64-inexact",
    "array-partition",
    "unroll",
    "long-tree",
    "design-size",
    "reshape-width",
    "stream-width",
    "fifo-depth",
    "part-too-small",
    "part-not-listed",
    "wide-type",
    "float32-inexact",
    "verilog-size",
    "pruned-weights-lost",
)
"""Ids of the rules about designs as they are told: what refuses, what fails or is slow, what is checked less."""


# -- rules about models


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A model before it is a graph.

    Attributes:
        trained: the model.
        input_format: format of the ports that the model does not quantize; None if nothing says it.
        derived: whether that format was derived from inputs.
        softmax, evaluate, rounds: as `flow.frontend.extraction.attempt` takes them.
        made: what extraction makes of it.
    """

    trained: TrainedModel
    input_format: FixedFormat | None = None
    derived: bool = False
    softmax: FixedFormat | None = None
    evaluate: Evaluate | None = None
    rounds: Approximation | None = None
    made: Extraction | None = None

    def extracted(self, target: Target | None = None) -> Model:
        """Return the model with what extraction makes of it, for a target or for any.

        A port that nothing says the format of gets a stand-in.
        """
        unknown = self.input_format is None and not quantizes(self.trained)
        fmt = STAND_IN if unknown else self.input_format
        make = partial(attempt, self.trained, fmt, softmax=self.softmax, evaluate=self.evaluate, rounds=self.rounds)
        folded = target is not None and folds(target)
        made = make(folds=folded)
        if target is not None and not folded and made.laid_out and made.graph is not None:
            made = make(folds=True) if folds(target, made.graph) else made
        return replace(self, made=made)


NO_FORMAT = Hit(
    "",
    "the model does not quantize its input, so its port has no format",
    "give --input-format, or --inputs to derive it from, or begin with a QActivation; "
    "a float model is quantized by 'flow quantize'",
)
"""What a build and a check say of ports without a format."""


def _no_input_format(model: Model) -> Iterator[Hit]:
    """The model does not quantize its input, and nothing says which format its port has."""
    if model.input_format is None and not quantizes(model.trained):
        yield NO_FORMAT


def _derived_input_format(model: Model) -> Iterator[Hit]:
    """The port's format comes from sample inputs: others may be rounded or clipped."""
    if model.derived and not quantizes(model.trained):
        reason = f"the model does not quantize its input; its port got {model.input_format} from the inputs given"
        yield Hit("", reason, "begin the model with a QActivation, or state the format with --input-format")


def quantizes(trained: TrainedModel) -> bool:
    """Say whether a model quantizes its input; one whose layers cannot be connected is refused for that alone."""
    try:
        return quantizes_its_input(trained)
    except UnsupportedError:
        return True


def _refused(model: Model) -> Iterator[Hit]:
    """A layer, a quantizer or a value has no exact integer form."""
    assert model.made is not None
    yield from map(Hit.of, model.made.refusals)
    if model.made.graph is not None:
        try:
            lower(model.made.graph)
        except FlowError as error:
            yield Hit.of(error)


MODEL_RULES: tuple[Rule[Model], ...] = (
    Rule("input-not-quantized", ERROR, "docs/numerics.md, The input port", _no_input_format),
    Rule("input-format-derived", WARNING, "docs/numerics.md, The input port", _derived_input_format),
    Rule("unsupported", ERROR, "flow/frontend/extraction/: what is exact is converted, the rest refused", _refused),
)
"""About a model before it is a graph: its inputs, and what of it has no exact integer form."""


# -- rules about designs


def _back_end_refusals(subject: Design) -> Iterator[Hit]:
    """An op that the back end cannot compute exactly."""
    yield from map(Hit.of, functions(subject.target).refusals(subject.lowered, subject.target))


def _small_part(subject: Design) -> Iterator[Hit]:
    """The part holds less than the static estimate."""
    if subject.resources is None or not subject.resources.capacity:
        return
    total, capacity = subject.resources.total, subject.resources.capacity
    needed = {key: int(getattr(total, key) or 0) for key in capacity}
    needed["dsp"] = max(needed["dsp"], total.detail.get("dsp_asked", 0))  # an estimate takes no more than there are
    short = [key for key, count in needed.items() if count > capacity[key]]
    takes = "takes"
    if not short:
        most = {key: interval.high for key, interval in total.intervals.items() if interval.high is not None}
        needed = {key: max(count, most.get(key, 0)) for key, count in needed.items()}
        short = [key for key, count in needed.items() if count > capacity[key]]
        takes = "takes less than the part has, but such designs were seen to take up to"
    if short:
        words = ", ".join(f"{needed[key]} {key} of {capacity[key]}" for key in short)
        fitting = (part for part in PARTS if all(part.capacity()[key] >= count for key, count in needed.items()))
        part = min(fitting, key=lambda part: part.lut, default=None)
        larger = f"--part {complete_names(part)[0]}" if part else "fewer weights (no known part holds it)"
        remedy = f"use {larger}, or --strategy Resource with a larger reuse factor"
        yield Hit("", f"the static estimate {takes} {words} on {subject.target.part}", remedy)


def _unlisted_part(subject: Design) -> Iterator[Hit]:
    """The part is none of those whose capacity is known."""
    if functions(subject.target).estimate is not None and not find_part(subject.target.part).capacity():
        reason = f"part {subject.target.part} is not in our table, so nothing says whether the design fits"
        yield Hit("", reason, "compare the estimate with its data sheet")


def _inexact_floats(subject: Design) -> Iterator[Hit]:
    """QKeras' float32 does not compute the model exactly: a build compares with float64 instead."""
    if subject.trained is None:
        return
    rounding = {layer.name: layer for layer in read(subject.trained).layers if layer.rounds}
    wide = [op for op in inexact_in(subject.extracted, FLOAT32_BITS) if not rounding.keys() & _layers_at(subject, op)]
    if wide:
        reason = f"{_named(wide)} may need more than {FLOAT32_BITS} bits, so float32 inference may round"
        remedy = "use fewer bits for weights or activations, or take the float64 results as the model's"
        yield Hit(wide[0].name, reason, remedy)
    for layer in rounding.values():
        reason = f"{layer.described} rounds in float32; the hardware computes it exactly"
        yield Hit(layer.name, reason, "use FixedBatchNormalization, or take the float64 results as the model's")


def _layers_at(subject: Design, op: Op) -> set[str]:
    """Return the layers of an op and of those that it reads."""
    return {layer for each in (op, *subject.extracted.sources(op)) for layer in each.layers}


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
    Rule("back-end", ERROR, "writers and headers of hls4ml 1.3.0, docs/numerics.md", _back_end_refusals),
    Rule("float64-inexact", ERROR, "IEEE 754 binary64, docs/numerics.md, Carriers", _uncheckable_sums),
    Rule("part-too-small", WARNING, "static estimate against the vendor's tables, docs/estimates.md", _small_part),
    Rule("part-not-listed", WARNING, "the vendor's tables, docs/estimates.md, Parts", _unlisted_part),
    Rule("float32-inexact", WARNING, "IEEE 754 binary32, docs/numerics.md, Carriers", _inexact_floats),
    Rule("pruned-weights-lost", WARNING, "quantized_po2 of QKeras 0.9.0, docs/numerics.md, Zero", _revived_weights),
)
"""About a graph on any target: what its back end refuses, which part holds it, and what no float can check."""


# -- what they find


def design_rules(target: Target) -> list[Rule[Design]]:
    """Return the rules about designs on a target, those of its back end among them, as they are told."""
    return sorted((*functions(target).rules, *DESIGN_RULES), key=lambda rule: ORDER.index(rule.id))


def check(model: Model, target: Target) -> tuple[Finding, ...]:
    """Return all findings about a model on a target; those about the target only if the model can be converted.

    Raises:
        SpecError: the part is not known.
    """
    model = model if model.made is not None else model.extracted(target)
    assert model.made is not None
    found = tuple(finding for rule in MODEL_RULES for finding in rule.apply(model))
    if any(finding.severity == ERROR for finding in found):
        return found
    extracted = model.made.checked()
    lowered = lowered_for(extracted, target)
    trained = None if model.made.approximated else model.trained
    subject = Design(trained=trained, extracted=extracted, lowered=lowered, target=settled(target, lowered))
    return (*found, *examine(subject))


def examine(subject: Design) -> tuple[Finding, ...]:
    """Return all findings about a design; where it is refused, what else may come is not looked at.

    Raises:
        SpecError: the part is not known.
    """
    rules = design_rules(subject.target)
    errors = tuple(finding for rule in rules if rule.severity == ERROR for finding in rule.apply(subject))
    if errors:
        return errors
    static = functions(subject.target).estimate
    if subject.resources is None and static is not None:
        with suppress(UnsupportedError):  # a build says why there is no estimate
            subject = replace(subject, resources=static(subject.lowered, subject.target))
    return tuple(finding for rule in rules if rule.severity != ERROR for finding in rule.apply(subject))
