"""The page of one run: its sections in order, a function for each; None where there is nothing to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flow.cost.calibration import beside
from flow.quantization.words import POINTS_WORDS, cost_rows, how, module_rows, output_line
from flow.report import words
from flow.report.page import charts, ops, verdict
from flow.report.page.html import Html, element, facts, items, join, number, page, percent, scroll, table
from flow.report.record import Report

RELATIVE = (
    "Relative only: from published energies of single operations in an ASIC process, not what this FPGA consumes."
)
MOST_CLASSES = 20
"""Classes of a confusion matrix that is shown whole."""
MOST_CONFUSIONS = 15


def quantization(report: Report) -> Html | None:
    """Return what was chosen and what it costs; None for a model that was quantized before."""
    document = report.document.get("quantization")
    if not document:
        return None
    calibration = document["calibration"]
    told = facts(
        ("how", how(document["settings"])),
        ("calibration", f"{calibration['samples']} of {calibration['of']} samples, {calibration['source']}"),
        ("outputs", None if document["outputs"] is None else output_line(document["outputs"])),
    )
    ops_made, values = (
        [(POINTS_WORDS[entry["points"]], entry[field], number(entry[field])) for entry in document["counts"]]
        for field in ("ops", "values_per_inference")
    )
    costs = table("What requantizers cost, each and per inference", *cost_rows(document)) if document["costs"] else None
    note = "From docs/quantizer-cost.md: measured circuits of the next larger widths."
    parts = [
        told,
        charts.bars(ops_made, "Quantization ops per inference"),
        charts.bars(values, "Values quantized per inference"),
        costs,
        element("p", note, class_="note") if costs else None,
        table("What was chosen for each module", *module_rows(document), words=2),
    ]
    return join(parts)


def accuracy(report: Report) -> Html:
    """Return accuracies, or what was measured of each head, and the confusion matrices side by side."""
    software, training, here = words.accuracies(report.document)
    header, of_heads = words.head_rows(report.document)
    rows = [
        [name, *(None if share is None else percent(share) for share in shares), number(samples) if samples else None]
        for name, (*shares, samples) in (("test split, at training", training), ("inputs of this run", here))
        if any(share is not None for share in shares)
    ]
    if not rows and not of_heads:
        return element("p", "Not measured: there were no labels, or nothing was compared.")
    measured = ["measured on", "float", software, "hardware", "samples"]
    return join(
        [
            table("Share of samples whose largest output is the label", measured, rows) if rows else None,
            table("Each output beside its labels", header, of_heads, words=2) if of_heads else None,
            *_confusions(report),
        ]
    )


def _confusions(report: Report) -> Iterator[Html | None]:
    heads = report.document.get("heads")
    if not heads:
        yield _confusion("Confusion", report.document.get("confusion"))
    for head in heads or ():
        yield _confusion(f"Confusion of output {head['output']}", head["confusion"])


def _confusion(title: str, confusion: Mapping[str, Any] | None) -> Html | None:
    if not confusion:
        return None
    given = [(name, confusion[name.lower()]) for name in ("float", "QKeras", "hardware") if name.lower() in confusion]
    shown = [_matrix(name, matrix) for name, matrix in given if matrix]
    left = ", ".join(name for name, matrix in given if not matrix)
    note = "Rows are true classes, columns predicted ones."
    note += " Float is over the whole test split, at training." if "float" in confusion else ""
    told = element("p", f"{note} Not measured: {left}." if left else note, class_="note")
    return join([element("h3", title), told, element("div", *shown, class_="matrices")])


def _matrix(name: str, matrix: Sequence[Sequence[int]]) -> Html:
    total = sum(map(sum, matrix))
    right = sum(row[index] for index, row in enumerate(matrix))
    caption = f"{name}: {right:,} of {total:,} right"
    if len(matrix) > MOST_CLASSES:
        wrong = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
        rows = [[str(i), str(j), f"{n:,}"] for n, i, j in sorted(wrong, reverse=True)[:MOST_CONFUSIONS]]
        return table(f"{caption}; most frequent confusions", ["true", "taken for", "samples"], rows)
    top = max(max(row) for row in matrix) or 1

    def cell(i: int, j: int, count: int) -> Html:
        if not count:
            return element("td", element("span", "0", class_="nil"))
        tint = f"--tint:{8 + 34 * count / top:.0f}%"
        return element("td", f"{count}", class_="hit" if i == j else "miss", style=tint)

    columns = (element("th", f"{j}", scope="col") for j in range(len(matrix)))
    head = element("tr", element("th", "true", scope="col"), *columns)
    rows_ = (
        element("tr", element("th", f"{i}", scope="row"), *(cell(i, j, count) for j, count in enumerate(row)))
        for i, row in enumerate(matrix)
    )
    title, body = element("caption", element("span", caption)), element("tbody", *rows_)
    return scroll(caption, element("table", title, element("thead", head), body, class_="matrix"))


def resources(report: Report) -> Html:
    """Return resources and latency, each source by itself."""
    given = report.document["resources"]
    if not given:
        return element("p", "Not measured: no source of resources for this back end.")
    lead = "Each source stands by itself: an estimate and a tool's count are never added or drawn together."
    compared = (table(words.beside_words(found), *words.beside_rows(found)) for found in beside(report.document))
    return join([element("p", lead, class_="note"), *(_source(entry) for entry in given), *compared])


def _source(entry: Mapping[str, Any]) -> Html:
    used, path = _used(entry), words.path_line(entry)
    told = facts(
        ("said by", entry["tool"]),
        ("part", entry["part"]),
        ("family", entry.get("family")),
        ("target clock", _unit(entry["clock_period_ns"], "ns")),
        ("reached clock", None if path else _unit(entry["estimated_clock_period_ns"], "ns")),
        ("longest path", path),
        ("latency", _time(entry["latency_cycles"], entry["clock_period_ns"])),
        ("between two inputs", _cycles(entry["initiation_interval_cycles"])),
        ("error", words.error_words(entry["error"]) if entry.get("error") else None),
        ("calibration", words.calibration_line(entry)),
        *((f"true {name}", words.interval_line(entry, key)) for key, name in words.COUNTS.items()),
        *_details(entry),
        class_="facts compact",
    )
    command = facts(("command", element("code", entry["command"]) if entry.get("command") else None))
    filled = charts.capacity(used, f"Of the part, by {words.source_words(entry)}") if used else None
    title = element("h3", words.source_words(entry))
    return element("article", title, told, command, filled, _by_module(entry), class_="source")


def _unit(value: float | None, unit: str) -> Html | None:
    return None if value is None else number(value, unit)


def _time(cycles: int | None, period_ns: float | None) -> Html | None:
    if cycles is None:
        return None
    after = "" if period_ns is None else f", {cycles * period_ns:,.4g} ns at the target clock"
    return join([_cycles(cycles), after])


def _cycles(count: int | None) -> Html | None:
    return _unit(count, "cycle" if count == 1 else "cycles")


def _details(entry: Mapping[str, Any]) -> list[tuple[str, Html]]:
    """Return the further counts of a source."""
    return [(key.replace("_", " "), number(count)) for key, count in (entry.get("detail") or {}).items()]


def _used(entry: Mapping[str, Any]) -> list[charts.Used]:
    """Return each resource that the part has and the source counts."""
    counts = {**(entry.get("detail") or {}), **entry}
    return [
        charts.Used(words.COLUMNS.get(key, key.replace("_", " ")), counts[key], has, words.interval_of(entry, key))
        for key, has in entry["capacity"].items()
        if has and counts.get(key) is not None
    ]


def _by_module(entry: Mapping[str, Any]) -> Html | None:
    """Return a table per op or module; a column that the source does not fill is left out."""
    layers = entry["layers"]
    kept = [key for key in words.COLUMNS if any(row.get(key) is not None for row in (*layers, entry))]
    if not kept:
        return None
    between = {(layer["name"], key): words.interval_of(layer, key) for layer in layers for key in kept}
    ends = {key: [(between[layer["name"], key] or (0, 0))[1] for layer in layers] for key in kept}
    largest = {key: max([layer[key] or 0 for layer in layers] + ends[key], default=0) or 1 for key in kept}

    def cell(layer: Mapping[str, Any], key: str) -> Html | None:
        value, own = layer.get(key), between[layer["name"], key]
        shares = None if own is None else (own[0] / largest[key], own[1] / largest[key])
        drawn = element("span", charts.bar(value / largest[key], "", shares), aria_hidden="true") if value else None
        return None if value is None else join([number(value), drawn])

    rows = [[layer["name"], *(cell(layer, key) for key in kept)] for layer in layers]
    total = ["total", *(None if entry[key] is None else number(entry[key]) for key in kept)]
    caption = f"By module, {words.source_words(entry)}; a bar is as long as its part of the column's largest number"
    return table(caption, ["module", *(words.COLUMNS[key] for key in kept)], [*rows, total], foot=1)


def energy(report: Report) -> Html | None:
    """Return the energy or switching of an inference, each source by itself."""
    given = report.document.get("energy")
    return join(_energy(entry) for entry in given) if given else None


def _energy(entry: Mapping[str, Any]) -> Html:
    unit = entry["unit"]
    told = facts(
        ("per inference", number(entry["per_inference"], unit)),
        ("how it was found", entry.get("table")),
        *_details(entry),
        class_="facts compact",
    )
    layers = [layer for layer in entry.get("layers", []) if layer["per_inference"] is not None]
    rows = [(layer["name"], layer["per_inference"], number(layer["per_inference"], unit)) for layer in layers]
    shown = charts.bars(rows, f"By op, {words.source_words(entry)}") if rows else None
    note = element("p", RELATIVE, class_="note") if entry["source"] == "static" else None
    title = element("h3", words.source_words(entry))
    return element("article", title, note, told, _alternatives(entry), shown, class_="source")


def _alternatives(entry: Mapping[str, Any]) -> Html | None:
    """Return what the same sums would take otherwise, by the same source."""
    others = entry.get("alternatives")
    if not others or entry["per_inference"] is None:
        return None
    given = [("as built", entry["per_inference"])]
    given += [(words.ALTERNATIVES.get(key, key), value) for key, value in others.items() if value is not None]
    rows = [(name, value, number(value, entry["unit"])) for name, value in given]
    return charts.bars(rows, f"Beside other arithmetic, {words.source_words(entry)}")


def notes(report: Report) -> Html | None:
    """Return what a reader must know, softmax first."""
    lines = [words.softmax_line(entry) for entry in report.document.get("softmax", [])] + report.document["notes"]
    return items(lines) if lines else None


def inputs(report: Report) -> Html:
    """Return the ports and where the inputs came from."""
    entry = report.document["inputs"]
    rows = [
        [port["name"], words.shape_words(port), element("code", words.format_words(port["format"]))]
        for port in entry.get("ports", [])
    ]
    told = facts(
        ("source", entry.get("source")),
        ("values rounded on their way in", _unit(entry.get("rounded_values"), "")),
        ("values clipped on their way in", _unit(entry.get("clipped_values"), "")),
    )
    ports = table("Input ports", ["port", "shape of a sample", "format"], rows, words=3) if rows else None
    return join([told or element("p", "No inputs were run."), ports])


def provenance(report: Report) -> Html:
    """Return what it takes to make all this again: settings, versions, digests, seeds, commands."""
    document = report.document
    project = document["project"]
    made = {key: value for key, value in document["provenance"].items() if key != "commands"}
    commands = document["provenance"].get("commands") or []
    told = facts(
        ("run directory", element("code", document["run_dir"])),
        ("project", element("code", project["path"]) if project["digest"] else "not written: the build stopped before"),
        ("digest of the project", element("code", project["digest"]) if project["digest"] else "not emitted"),
        *((key.replace("_", " "), value) for key, value in _flat(made)),
    )
    shown = [element("h3", "Commands"), element("pre", element("code", "\n".join(commands)))] if commands else []
    return join([told, *shown])


def _flat(facts_: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested facts as (words, value)."""
    pairs: list[tuple[str, str]] = []
    for key, value in facts_.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{before}{key}: ")
        elif value is not None:
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            pairs.append((f"{before}{key}", said))
    return pairs


def timings(report: Report) -> Html | None:
    """Return how long each stage took."""
    taken = report.document["timings_s"]
    if not taken:
        return None
    rows = [(stage.replace("_", " "), seconds, number(seconds, "s")) for stage, seconds in taken.items()]
    note = "A stage whose result was reused is absent or near zero."
    return join([charts.bars(rows, "Seconds per stage"), element("p", note, class_="note")])


SECTIONS = (
    ("network", "Network", ops.diagram),
    ("ops", "Ops", ops.modules),
    ("quantization", "Quantization", quantization),
    ("accuracy", "Accuracy", accuracy),
    ("resources", "Resources and latency", resources),
    ("energy", "Energy", energy),
    ("notes", "Notes", notes),
    ("inputs", "Inputs", inputs),
    ("provenance", "Provenance", provenance),
    ("timings", "Timings", timings),
)
"""(id, title, function); a section without anything to say is left out."""


def render(report: Report) -> str:
    """Return the page of a run: one HTML file that needs nothing else."""
    top = join([verdict.verdict(report), verdict.summary(report)])
    made = [(place, title, section(report)) for place, title, section in SECTIONS]
    return page(f"{report.document['model']}: report", verdict.heading(report), made, ("verdict", "Verdict", top))
