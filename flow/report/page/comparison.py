"""Several runs on one page: a column each, and accuracy against LUTs, one plot for each source of LUTs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from flow.report.page.charts import Point, scatter
from flow.report.page.html import Html, absent, element, items, number, page, percent, scroll
from flow.report.record import Report
from flow.report.words import (
    COLUMNS,
    MEASURES,
    error_of,
    error_words,
    measure_words,
    measures,
    source_of,
    source_words,
    verdict_words,
)

Cell = Callable[[Any], str | None]


def compare(reports: Sequence[Report]) -> str:
    """Return a page with several runs side by side."""
    documents = [report.document for report in reports]
    made = [
        ("runs", "Runs", _table(reports)),
        ("tradeoff", "Accuracy against LUTs", _plots(documents)),
        ("notes", "Notes", _notes(documents)),
    ]
    title = f"{len(reports)} runs side by side"
    return page(title, element("h1", title), made)


def _table(reports: Sequence[Report]) -> Html:
    documents = [report.document for report in reports]
    head = (
        element("th", element("span", str(place), class_="number"), f" {document['model']}", scope="col")
        for place, document in enumerate(documents, 1)
    )
    groups = [
        _group("Target", documents, _TARGET),
        _group("Verdict", [{**report.document, "said": verdict_words(report)[0]} for report in reports], _VERDICT),
        _group("Accuracy", documents, [*_ACCURACY, *_head_rows(documents)]),
        *_source_groups(documents),
    ]
    caption = "A column for each run; a dash where a run did not measure"
    title, columns = element("caption", element("span", caption)), element("tr", element("td"), *head)
    return scroll(caption, element("table", title, element("thead", columns), *groups, class_="runs"))


_TARGET: tuple[tuple[str, Cell], ...] = (
    ("back end", lambda d: d["project"]["backend"]),
    ("interface", lambda d: d["project"]["io_type"]),
    ("strategy", lambda d: d["project"]["strategy"] or None),
    ("reuse factor", lambda d: str(d["project"]["reuse_factor"])),
    ("part", lambda d: d["project"]["part"] or None),
    ("target clock", lambda d: number(d["project"]["clock_period_ns"], "ns")),
    ("run", lambda d: element("code", d["run_dir"])),
)
_VERDICT: tuple[tuple[str, Cell], ...] = (
    ("verdict", lambda d: d["said"].capitalize()),
    ("levels", lambda d: ", ".join(d["verdict"]["compared"]) or None),
    ("inputs run", lambda d: number(d["verdict"]["samples"]) if d["verdict"]["compared"] else None),
    ("adversarial inputs", lambda d: number(d["verdict"]["adversarial_samples"]) if d["verdict"]["compared"] else None),
    ("differ", lambda d: number(d["verdict"]["mismatches"]) if d["verdict"]["compared"] else None),
)
_ACCURACY: tuple[tuple[str, Cell], ...] = (
    ("float, at training", lambda d: _share(d["accuracy"].get("float_at_training", d["accuracy"]["float"]))),
    ("quantized, in integers", lambda d: _share(_of_run(d).get("quantized"))),
    ("QKeras", lambda d: _share(_of_run(d).get("qkeras"))),
    ("hardware", lambda d: _share(_of_run(d).get("hardware"))),
    ("labelled inputs", lambda d: number(_of_run(d)["samples"]) if _of_run(d).get("samples") else None),
    ("inputs", lambda d: d["inputs"].get("source")),
    ("zero weights", lambda d: _share(d["sparsity"])),
)
"""(heading of the row, its cell in a report); None is not measured."""


def _of_run(document: Any) -> Mapping[str, Any]:
    """Return the accuracies of a run without heads; of one that has some they stand in rows of their own."""
    return {} if document.get("heads") else document["accuracy"]


def _head_rows(documents: Sequence[Any]) -> list[tuple[str, Cell]]:
    """Return a row for each measure of each head, by the name of its output: what the hardware does."""
    known = dict.fromkeys(key for document in documents for key in measures(document))

    def cell(output: str, what: str) -> Cell:
        return lambda d: measure_words(what, measures(d).get((output, what), {}).get("hardware"))

    return [(f"{output}: {MEASURES[what]}, hardware", cell(output, what)) for output, what in known]


def _accuracies(document: Any) -> dict[str, float]:
    """Return the accuracies of the hardware: of each head that has one by its name, else that of the run."""
    if not document.get("heads"):
        return {"": document["accuracy"]["hardware"]}
    return {output: values["hardware"] for (output, what), values in measures(document).items() if what == "accuracy"}


def _share(value: float | None) -> Html | None:
    return None if value is None else percent(value)


def _group(title: str, documents: Sequence[Any], rows: Sequence[tuple[str, Cell]]) -> Html:
    """Return a body of the table: a heading and its rows."""
    head = element("tr", element("th", title, scope="rowgroup", colspan=len(documents) + 1, class_="group"))
    lines = []
    for words, cell in rows:
        values = (cell(document) for document in documents)
        cells = (element("td", absent() if value is None else value) for value in values)
        lines.append(element("tr", element("th", words, scope="row"), *cells))
    return element("tbody", head, *lines)


def _by_source(documents: Sequence[Any], field: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield, for each source, its name and what it says of each run; an empty entry where it says nothing.

    One tool that was asked for two families, or two tools of one kind, are two sources, and named so.
    """
    said = [{source_of(entry): entry for entry in document.get(field) or []} for document in documents]
    sources = list(dict.fromkeys(source for entries in said for source in entries))
    kinds = [kind for kind, *_ in sources]
    for kind, *others in sources:
        name = source_words({"source": kind})
        if kinds.count(kind) > 1:
            name = ", ".join(filter(None, (name, *others)))
        yield name, [entries.get((kind, *others), {"source": kind}) for entries in said]


def _source_groups(documents: Sequence[Any]) -> list[Html]:
    """Return a group of rows for each source of resources or energy: figures of two sources never share a row."""
    groups = []
    for name, entries in _by_source(documents, "resources"):
        rows = [("said by", _cell("tool")), ("family", _cell("family"))]
        rows += [(words, _cell(key)) for key, words in COLUMNS.items()]
        rows += [("reached clock, ns", _cell("estimated_clock_period_ns")), ("error", _error)]
        known = [(words, cell) for words, cell in rows if any(cell(entry) is not None for entry in entries)]
        groups.append(_group(f"Resources: {name}", entries, known))
    for name, entries in _by_source(documents, "energy"):
        rows = [("unit", _cell("unit")), ("per inference", _cell("per_inference"))]
        groups.append(_group(f"Energy: {name}", entries, rows))
    return groups


def _error(entry: Any) -> str | None:
    return error_words(entry["error"]) if entry.get("error") else None


def _cell(key: str) -> Cell:
    def cell(entry: Any) -> str | None:
        value = entry.get(key)
        return value if value is None or isinstance(value, str) else number(value)

    return cell


def _plots(documents: Sequence[Any]) -> Html:
    """Return accuracy of the hardware against LUTs, a plot for each source of LUTs and each head."""
    shown, heads = [], dict.fromkeys(name for document in documents for name in _accuracies(document))
    for (words, entries), head in product(_by_source(documents, "resources"), heads):
        points = [
            Point(str(place), entry["lut"], share)
            for place, (document, entry) in enumerate(zip(documents, entries, strict=True), 1)
            if entry.get("lut") is not None and (share := _accuracies(document).get(head)) is not None
        ]
        of = f"accuracy of {head}" if head else "accuracy of the hardware"
        if points:
            left = [str(place) for place in range(1, len(documents) + 1) if str(place) not in {p.name for p in points}]
            without = f"; not measured in {', '.join(left)}" if left else ""
            off = dict.fromkeys(
                filter(None, (error_of(entry, "lut") for entry in entries if entry.get("lut") is not None))
            )
            name = element("b", "; ".join((words, *([of] if head else []), *off)))
            caption = element("figcaption", name, f": each run by its number in the table{without}")
            picture = scatter(points, f"LUTs, {words}", f"{of}, %")
            shown.append(element("figure", caption, scroll(f"Accuracy against LUTs, {words}", picture)))
    if not shown:
        return element("p", "Not measured: no run has both LUTs and an accuracy of its hardware.")
    return element("div", *shown, class_="matrices")


def _notes(documents: Sequence[Any]) -> Html | None:
    """Return what stands in the way of comparing the runs."""
    inputs = {
        (document["inputs"].get("source"), samples)
        for document in documents
        for samples in ([head["samples"] for head in document.get("heads") or ()] or [document["accuracy"]["samples"]])
        if samples
    }
    parts = {document["project"]["part"] for document in documents}
    changed = [str(place) for place, document in enumerate(documents, 1) if document["project"].get("changes")]
    lines = [
        "The accuracies were measured on different inputs, or on different numbers of them." if len(inputs) > 1 else "",
        "The runs are for different parts, whose LUTs may differ." if len(parts) > 1 else "",
        f"Shown as built, but files of the project changed since: {', '.join(changed)}." if changed else "",
    ]
    return items([line for line in lines if line]) if any(lines) else None
