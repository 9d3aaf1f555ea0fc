"""The course of a training as a page: what was measured after each epoch of each model, as curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from flow.errors import shown
from flow.report.page.charts import Curve, curves
from flow.report.page.html import Html, element, facts, number, page, percent, table

MODELS = {"float": "float model", "float_twin": "float twin", "quantized": "quantized model"}
"""Name of a model in `history.csv` -> what the page calls it."""
FRACTIONS = ("accuracy", "zeros")
"""Ends of the names of what is a fraction, and is drawn in percent."""
VALIDATION = "val_"


STYLE = """text { font: 12px sans-serif; fill: #4d5961; } .title { font-weight: bold; } .grid { stroke: #cdd5d9; }
.curve { fill: none; stroke: #1c64a4; stroke-width: 2; } .c1 { stroke: #815200; }
.c2 { stroke: #0a6640; stroke-dasharray: 5 3; } .c3 { stroke: #b01d1d; stroke-dasharray: 2 3; }"""
"""Of a picture that stands by itself; in a page the page's own style says so."""
FIGURE = (400, 330)
"""Width and height of one figure in a picture of several."""


@dataclass(frozen=True, slots=True)
class History:
    """What was measured after each epoch of each model of a training; in a notebook it shows its curves.

    Attributes:
        text: of `history.csv`.
    """

    text: str

    def rows(self) -> list[dict[str, str]]:
        """Return the lines of the table: column -> value."""
        return list(csv.DictReader(StringIO(self.text)))

    def measures(self) -> list[str]:
        """Return what was measured, without what was on the validation split."""
        rows = self.rows()
        keys = [key for key in (rows[0] if rows else {}) if key not in ("model", "epoch")]
        return [key for key in keys if not key.startswith(VALIDATION)]

    def __repr__(self) -> str:
        return f"<History of {len(self.rows())} epochs: {', '.join(self.measures())}>"

    def _repr_svg_(self) -> str:
        """Show the curves, those of each measure beside those of the one before."""
        width, height = FIGURE
        drawn = []
        for place, key in enumerate(self.measures()):
            title = element("text", key.replace("_", " "), x=60, y=12, class_="title")
            below = element("g", _curves(key, self.rows()), transform="translate(0 14)")
            drawn.append(element("g", title, below, transform=f"translate({width * place} 0)"))
        size: dict[str, Any] = {"width": width * len(drawn), "height": height}
        size["viewBox"] = f"0 0 {width * len(drawn)} {height}"
        return element("svg", element("style", Html(STYLE)), *drawn, xmlns="http://www.w3.org/2000/svg", **size)


def render_training(name: str, history: str, metrics: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return the page of a training: one HTML file that needs nothing else.

    Args:
        name: of the model.
        history: the text of `history.csv`.
        metrics, provenance: of the trained model.
    """
    kept = History(history)
    rows = kept.rows()
    measured = [key for key in (rows[0] if rows else {}) if key not in ("model", "epoch")]
    figures = [
        element("figure", element("figcaption", element("b", key.replace("_", " "))), _curves(key, rows))
        for key in kept.measures()
    ]
    plots = element("div", *figures, class_="matrices") if figures else None
    header = element("div", element("h1", name), element("p", f"Training on {provenance.get('source', '')}"))
    sections = (
        ("reached", "Reached", _reached(metrics)),
        ("curves", "After each epoch", plots),
        ("last", "The last epoch", _last(rows, measured)),
        ("provenance", "Provenance", facts(*((key, _words(value)) for key, value in provenance.items()))),
    )
    return page(f"{name}: training", header, sections)


def _curves(key: str, rows: Sequence[Mapping[str, str]]) -> Html:
    """Return the curves of one measure: one for each model, and one for its validation."""
    is_fraction, found = key.endswith(FRACTIONS), list[Curve]()
    for model in dict.fromkeys(row["model"] for row in rows):
        for column, words in ((key, ""), (VALIDATION + key, ", validation")):
            of_model = [(int(row["epoch"]), row.get(column)) for row in rows if row["model"] == model]
            points = [(epoch, float(value) * (100 if is_fraction else 1)) for epoch, value in of_model if value]
            if points:
                found.append(Curve(MODELS.get(model, model) + words, tuple(points)))
    return curves(found, "epoch", f"{key}, %" if is_fraction else key)


def _reached(metrics: Mapping[str, Any]) -> Html | None:
    heads: Mapping[str, Any] = metrics.get("heads", {})
    pairs = [
        (words, percent(metrics[key]))
        for key, words in (("float", "float accuracy"), ("qkeras", "QKeras accuracy"), ("sparsity", "zeros"))
        if key in metrics
    ]
    if "reconstruction_mse" in metrics:
        pairs.append(("reconstruction error", number(metrics["reconstruction_mse"])))
    for name, of in heads.items():
        for level in ("float", "qkeras"):
            if level in of:
                said = percent(of[level]) if of["measure"] == "accuracy" else number(of[level])
                pairs.append((f"{name}, {level} {of['measure'].replace('_', ' ')}", said))
    return facts(*pairs) if pairs else None


def _last(rows: Sequence[Mapping[str, str]], measured: Sequence[str]) -> Html | None:
    if not rows:
        return None
    last = {row["model"]: row for row in rows}
    cells = [
        (MODELS.get(model, model), row["epoch"], *(number(float(row[key])) if row[key] else None for key in measured))
        for model, row in last.items()
    ]
    return table("What was measured after the last epoch", ("model", "epoch", *measured), cells)


def _words(value: Any) -> str:
    return ", ".join(f"{key} {each}" for key, each in value.items()) if _is_flat(value) else shown(value)


def _is_flat(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str | int | float) for each in value.values())
