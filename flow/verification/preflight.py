"""Preflight: what conversion would refuse, and what vendor synthesis is known to fail at, before anything is made.

Each rule is a function that yields what it finds, in the model or in its graph on a target; a back end has rules of its
own. An error is what `flow build` refuses. A warning is what it goes on with: the vendor's tool may fail, a check is
weaker than one thinks, or the hardware is not what was meant. docs/preflight.md tells what is known of each limit.
"""

from __future__ import annotations

from dataclasses import replace

from flow.backends.functions import Design, functions
from flow.findings import ERROR, Finding, Rule
from flow.ir.passes import lower
from flow.target import Target
from flow.verification.design_rules import DESIGN_RULES
from flow.verification.model_rules import MODEL_RULES, Model

ORDER = (
    "reuse-factor",
    "back-end",
    "float64-inexact",
    "array-partition",
    "unroll",
    "design-size",
    "reshape-width",
    "stream-width",
    "fifo-depth",
    "part-too-small",
    "wide-type",
    "float32-inexact",
    "verilog-size",
    "pruned-weights-lost",
)
"""Ids of the rules about designs as they are told: what refuses, what fails or is slow, what is checked less."""


def design_rules(target: Target) -> list[Rule[Design]]:
    """Return the rules about designs on a target, those of its back end among them, as they are told."""
    return sorted((*functions(target).rules, *DESIGN_RULES), key=lambda rule: ORDER.index(rule.id))


def check(model: Model, target: Target) -> tuple[Finding, ...]:
    """Return all findings about a model on a target; those about the target only if the model can be converted.

    Raises:
        SpecError: the part is not known.
    """
    model = model.extracted()
    assert model.made is not None
    found = tuple(finding for rule in MODEL_RULES for finding in rule.apply(model))
    if any(finding.severity == ERROR for finding in found):
        return found
    extracted = model.made.checked()
    subject = Design(trained=model.trained, extracted=extracted, lowered=lower(extracted), target=target)
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
        subject = replace(subject, resources=static(subject.lowered, subject.target))
    return tuple(finding for rule in rules if rule.severity != ERROR for finding in rule.apply(subject))
