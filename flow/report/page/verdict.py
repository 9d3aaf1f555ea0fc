"""The head of a page: the model and its target, the verdict with its scope, and the numbers asked for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow.report.page.html import Html, element, facts, items, join, number, percent
from flow.report.page.words import CHECKED, preferred, source_words
from flow.report.text import Report, reproduction, verdict_line


def heading(report: Report) -> Html:
    """Return the head of the page: the model and its target."""
    project = report.document["project"]
    own = [f"{op} {factor}" for op, factor in project["reuse_factors"].items()]
    settings = [
        project["backend"],
        project["io_type"],
        project["strategy"],
        f"reuse factor {', '.join([str(project['reuse_factor']), *own])}",
        project["part"],
        f"{project['clock_period_ns']:g} ns",
    ]
    shown = (element("li", words) for words in settings if words)
    return join([element("h1", report.document["model"]), element("ul", *shown, class_="settings")])


def verdict(report: Report) -> Html:
    """Return the verdict with its scope: which levels, how many inputs, how each op was checked, where they part."""
    document = report.document
    found = document["verdict"]
    word, _, rest = verdict_line(report).partition(": ")
    state, sign = {True: ("same", "="), False: ("wrong", "≠"), None: ("open", "?")}[report.bit_exact]
    return element(
        "section",
        element("h2", element("span", sign, class_="sign", aria_hidden="true"), word.capitalize(), id="verdict"),
        element("p", f"{rest if found['compared'] else rest[:1].upper() + rest[1:]}.", class_="scope"),
        _levels(found),
        _first_divergence(report),
        _differences(found),
        _scope(document) if found["compared"] else None,
        class_=f"verdict {state}",
        aria_labelledby="verdict",
    )


def _levels(found: Mapping[str, Any]) -> Html | None:
    """Return the compared levels in a row, with = or ≠ where that is known."""
    levels = found["compared"]
    if not levels:
        return None
    first = found["first_divergence"]
    parted = set(first["levels"]) if first else set()
    parts = []
    for index, level in enumerate(levels):
        if index:
            here = {levels[index - 1], level} == parted
            equal = not found["mismatches"]
            sign, words = ("≠", "differs from") if here else ("=", "equals") if equal else ("·", "and")
            parts.append(element("span", element("span", sign, aria_hidden="true"), _unseen(words), class_="join"))
        name = element("b", level)
        parts.append(element("span", name, element("small", found["arithmetic"].get(level)), class_="level"))
    return element("p", *parts, class_="levels")


def _unseen(words: str) -> Html:
    return element("span", words, class_="unseen")


def _first_divergence(report: Report) -> Html | None:
    document = report.document
    first = document["verdict"]["first_divergence"]
    if first is None:
        return None
    here, there = first["levels"]
    told = facts(
        ("first at", f"op '{first['op']}', element {tuple(first['index'])}"),
        ("codes", f"{here} {first['codes'][0]}, {there} {first['codes'][1]}"),
        ("cause", first["cause"]),
        ("counterexample", f"from sample {first['sample']}, with {first['nonzero_inputs']} non-zero inputs"),
        ("to see it again", element("code", reproduction(document))),
    )
    return join([element("h3", "Where they part"), told])


def _differences(found: Mapping[str, Any]) -> Html | None:
    lines = found["file_differences"]
    return join([element("h3", "Files and streams that differ"), items(lines)]) if lines else None


def _scope(document: Mapping[str, Any]) -> Html:
    """Return in words how far the comparison reaches."""
    given = [layer["proof"] for layer in document["layers"] if layer.get("proof")]
    if not given:
        return element("p", "A test over these inputs, not a proof for all.", class_="note")
    counts = {scope: sum(proof["scope"] == scope for proof in given) for scope in CHECKED}
    words = [f"{_ops(count)} {CHECKED[scope]}" for scope, count in counts.items() if count]
    left = sum(not layer.get("proof") for layer in document["layers"])
    words += [f"{_ops(left)} only compared on the inputs above"] if left else []
    return element("p", f"Each op by itself: {'; '.join(words)}.", class_="note")


def _ops(count: int) -> str:
    return f"{count} {'op' if count == 1 else 'ops'}"


def summary(report: Report) -> Html:
    """Return the numbers that are asked for first, each with its source."""
    document = report.document
    accuracy = document["accuracy"]
    lut, latency = preferred(document, "lut"), preferred(document, "latency_cycles")
    cells = [
        (
            "accuracy of the hardware",
            percent(accuracy["hardware"]),
            f"{accuracy['samples']:,} labelled inputs" if accuracy["samples"] else None,
        ),
        (
            "zero weights",
            percent(document["sparsity"], 1),
            f"{sum(e['weights'] for e in document['layers']):,} weights",
        ),
        ("LUTs", number(lut["lut"] if lut else None), source_words(lut)),
        ("latency", number(latency["latency_cycles"] if latency else None, "cycles"), source_words(latency)),
    ]
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value, element("small", of))) for name, value, of in cells),
        class_="summary",
    )
