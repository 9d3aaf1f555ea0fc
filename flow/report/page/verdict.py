"""The head of a page: the model and its target, the verdict with its scope, and the numbers asked for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow.report import words
from flow.report.page.html import Html, absent, element, facts, items, join, number, percent
from flow.report.record import Report


def heading(report: Report) -> Html:
    """Return the head of the page: the model and its target."""
    shown = (element("li", setting) for setting in words.settings(report.document["project"]) if setting)
    return join([element("h1", report.document["model"]), element("ul", *shown, class_="settings")])


def verdict(report: Report) -> Html:
    """Return the verdict with its scope: which levels, how many inputs, how each op was checked, where they part."""
    document = report.document
    compared, differences = document["verdict"]["compared"], words.differences(document)
    word, rest = words.verdict_words(report)
    state, sign = {True: ("same", "="), False: ("wrong", "≠"), None: ("open", "?")}[report.bit_exact]
    return element(
        "section",
        element("h2", element("span", sign, class_="sign", aria_hidden="true"), word.capitalize(), id="verdict"),
        element("p", f"{rest if compared else rest[:1].upper() + rest[1:]}.", class_="scope"),
        _levels(document["verdict"]),
        _first_divergence(report),
        join([element("h3", "Files and streams that differ"), items(differences)]) if differences else None,
        _since(report),
        _scope(document) if compared else None,
        class_=f"verdict {state}",
        aria_labelledby="verdict",
    )


def _since(report: Report) -> Html | None:
    """Return what comparisons found since, and what was compared before."""
    if not words.since_words(report.document):
        return None
    lines = [words.found_line(entry) for entry in report.document["verdict"].get("found_since", ())]
    return join([element("h3", "Since the build"), items([*lines, words.before_line(report)])])


def _levels(outcome: Mapping[str, Any]) -> Html | None:
    """Return the compared levels in a row, with = or ≠ where that is known."""
    levels = outcome["compared"]
    if not levels:
        return None
    first = outcome["first_divergence"]
    parted = set(first["levels"]) if first else set()
    parts = []
    for index, level in enumerate(levels):
        if index:
            here = {levels[index - 1], level} == parted
            equal = not outcome["mismatches"]
            sign, read_out = ("≠", "differs from") if here else ("=", "equals") if equal else ("·", "and")
            words_of = element("span", read_out, class_="unseen")
            parts.append(element("span", element("span", sign, aria_hidden="true"), words_of, class_="join"))
        name = element("b", level)
        parts.append(element("span", name, element("small", outcome["arithmetic"].get(level)), class_="level"))
    return element("p", *parts, class_="levels")


def _first_divergence(report: Report) -> Html | None:
    document = report.document
    first = document["verdict"]["first_divergence"]
    if first is None:
        return None
    told = facts(
        ("first at", words.divergence_place(first)),
        ("codes", words.divergence_codes(first)),
        ("cause", first["cause"]),
        ("counterexample", f"from sample {first['sample']}, with {first['nonzero_inputs']} non-zero inputs"),
        ("to see it again", element("code", words.reproduction(document))),
    )
    return join([element("h3", "Where they part"), told])


def _scope(document: Mapping[str, Any]) -> Html:
    """Return in words how far the comparison reaches."""
    scopes = [layer["proof"]["scope"] for layer in document["layers"] if layer.get("proof")]
    if not scopes:
        return element("p", "A test over these inputs, not a proof for all.", class_="note")
    parts = [f"{_ops(scopes.count(scope))} {said}" for scope, (_, said) in words.SCOPES.items() if scope in scopes]
    left = len(document["layers"]) - len(scopes)
    parts += [f"{_ops(left)} only compared on the inputs above"] if left else []
    return element("p", f"Each op by itself: {'; '.join(parts)}.", class_="note")


def _ops(count: int) -> str:
    return f"{count} {'op' if count == 1 else 'ops'}"


def _said_by(entry: Mapping[str, Any] | None, key: str) -> str:
    """Return the source of a number, and how far it may be off."""
    return "" if entry is None else "; ".join(words.said_by(entry, key))


def _luts(document: Mapping[str, Any]) -> tuple[str, Html, str]:
    """Return the LUTs of the part, with their interval, or the LUTs alone where the part's are not known."""
    entry = words.nearest(document, "lut")
    share = None if entry is None else words.share_words(entry, "lut")
    if entry is None or share is None:
        return "LUTs", number(entry["lut"] if entry else None), _said_by(entry, "lut")
    return "LUTs of the part", join([share]), f"{entry['lut']:,} by {_said_by(entry, 'lut')}"


def _head(document: Mapping[str, Any], output: str, what: str) -> tuple[str, Html, str | None]:
    """Return what the hardware's output is worth."""
    value = words.measure_words(what, words.measures(document)[output, what]["hardware"])
    samples = next(head["samples"] for head in document["heads"] if head["output"] == output)
    return f"{words.MEASURES[what]} of {output}", join([value or absent()]), f"{samples:,} labelled inputs"


def summary(report: Report) -> Html:
    """Return the numbers that are asked for first, each with its source, an estimate with its error."""
    document = report.document
    accuracy = document["accuracy"]
    latency = words.nearest(document, "latency_cycles")
    labelled = f"{accuracy['samples']:,} labelled inputs" if accuracy["samples"] else None
    worth = [("accuracy of the hardware", percent(accuracy["hardware"]), labelled)]
    if document.get("heads"):
        worth = [
            _head(document, output, what) for output, what in words.measures(document) if what != "mean_squared_error"
        ]
    weights = sum(layer["weights"] for layer in document["layers"])
    cells = [
        *worth,
        ("zero weights", percent(document["sparsity"], 1), f"{weights:,} weights"),
        _luts(document),
        (
            "latency",
            number(latency["latency_cycles"] if latency else None, "cycles"),
            _said_by(latency, "latency_cycles"),
        ),
    ]
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value, element("small", of))) for name, value, of in cells),
        class_="summary",
    )
