"""The ops on a page: the network as a picture, a table, and the details of each op."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow.report.page import charts, network
from flow.report.page.html import Html, element, escape, facts, join, number, percent, table
from flow.report.record import Report
from flow.report.words import SCOPES, does, format_words, output_words, shape_words, steps_words

ROUNDINGS = {
    "AP_TRN": "toward minus infinity",
    "AP_TRN_ZERO": "toward zero",
    "AP_RND": "to nearest, ties toward plus infinity",
    "AP_RND_ZERO": "to nearest, ties toward zero",
    "AP_RND_MIN_INF": "to nearest, ties toward minus infinity",
    "AP_RND_INF": "to nearest, ties away from zero",
    "AP_RND_CONV": "to nearest, ties to even",
}
OVERFLOWS = {
    "AP_WRAP": "keeps the low bits",
    "AP_SAT": "clamps",
    "AP_SAT_ZERO": "becomes zero",
    "AP_SAT_SYM": "clamps, symmetrically",
}

MOST_OPEN = 24
"""Ops whose details are open when the page is."""
STRIPS = (
    "Formats are drawn bit by bit: ± for the sign, full boxes for integer bits, the point, empty boxes for fraction "
    "bits; dashed boxes stand for places that the format does not have."
)


def diagram(report: Report) -> Html | None:
    """Return the picture of the network; None for a report that does not say what each op reads."""
    layers = report.document["layers"]
    if any("inputs" not in layer for layer in layers):
        return None
    compared = bool(report.document["verdict"]["compared"])
    boxes = [
        network.Box(
            name=layer["name"],
            does=does(layer),
            output=f"{shape_words(layer)} · {output_words(layer)}",
            state="" if not _known(layer, compared) else "wrong" if layer["mismatches"] else "same",
            remark=_remark(layer, _known(layer, compared)),
            href=f"#op-{index}",
        )
        for index, layer in enumerate(layers)
    ]
    lead = "Each box is one hardware module: what it does, then shape and format of its output."
    picture = network.draw(boxes, {layer["name"]: layer["inputs"] for layer in layers})
    return join([element("p", lead, class_="note"), picture])


def _known(layer: Mapping[str, Any], compared: bool) -> bool:
    """Say whether an op was compared; reports of earlier versions have 0 where it was not."""
    return compared and layer["mismatches"] is not None


def _remark(layer: Mapping[str, Any], compared: bool) -> str:
    if layer["mismatches"]:
        return f"≠ {layer['mismatches']:,}"
    proof = layer.get("proof")
    return f"= {proof['scope']}" if proof else "=" if compared else ""


def modules(report: Report) -> Html:
    """Return a table of all ops, and the details of each."""
    layers = report.document["layers"]
    compared = bool(report.document["verdict"]["compared"])
    header = ["op", "does", "reads", "shape", "output", "acc. bits", "weights", "zeros", "differ"]
    rows = [
        [
            element("a", layer["name"], href=f"#op-{index}"),
            does(layer),
            escape(", ".join(layer["inputs"])) if "inputs" in layer else None,
            shape_words(layer),
            element("code", output_words(layer)),
            _count(layer["accumulator_bits"], layer["weights"] > 0),
            _count(layer["weights"] or None, False),
            percent(layer["sparsity"], 1) if layer["sparsity"] is not None else Html(),
            number(layer["mismatches"]) if _known(layer, compared) else None,
        ]
        for index, layer in enumerate(layers)
    ]
    opened = len(layers) <= MOST_OPEN
    caption = "All ops in dataflow order; differ: output elements unlike the reference's"
    cards = [_module(layer, index, compared, opened) for index, layer in enumerate(layers)]
    return join([table(caption, header, rows, words=5), element("p", STRIPS, class_="note"), *cards])


def _count(value: int | None, expected: bool) -> Html | None:
    """Return a number; where an op has none, nothing, and where it should have one, "not measured"."""
    return number(value) if value is not None else None if expected else Html()


def _module(layer: Mapping[str, Any], index: int, compared: bool, opened: bool) -> Html:
    fmt = layer["output_format"]
    told = facts(
        ("kind", layer["op"]),
        ("Keras layers", ", ".join(layer["layers"]) or None),
        ("output", join([f"{shape_words(layer)} of ", element("code", output_words(layer)), charts.format_strip(fmt)])),
        ("cast", _cast(layer)),
        ("weights", _weights(layer)),
        ("zeros", _zeros(layer)),
        ("steps", _steps(layer)),
        ("checked", _checked(layer)),
        ("differ", f"{layer['mismatches']:,} output elements" if _known(layer, compared) else "not compared"),
    )
    pictures = join([_accumulator(layer), _exponents(layer)])
    title = element("summary", element("h3", layer["name"]), " ", element("span", does(layer), class_="does"))
    inside = element("div", told, element("div", pictures) if pictures else None, class_="sides")
    return element("details", title, inside, id=f"op-{index}", open=opened, class_="op")


def _cast(layer: Mapping[str, Any]) -> str:
    modes = ((layer["rounding"], ROUNDINGS), (layer["overflow"], OVERFLOWS))
    return ", ".join(f"{mode} ({words[mode]})" if mode in words else mode for mode, words in modes)


def _steps(layer: Mapping[str, Any]) -> str | None:
    """Return how many steps an op's function has and how they were found, or None."""
    said = steps_words(layer)
    found = (
        "of the function at every code" if said and layer["steps"]["listed"] else "searched, and tried on both sides"
    )
    return f"{said} ({found})" if said else None


def _checked(layer: Mapping[str, Any]) -> str | None:
    """Return how an op was checked by itself, or None."""
    proof = layer.get("proof")
    if not proof:
        return None
    _, words = SCOPES.get(proof["scope"], ("", str(proof["scope"])))
    if proof.get("inputs") is not None:
        words += f", {proof['inputs']:,} input" + "s" * (proof["inputs"] != 1)
    by = [str(proof["engine"])] if proof.get("engine") else []
    by += [f"{proof['seconds']:.3g} s"] if proof.get("seconds") is not None else []
    words += f" ({', '.join(by)})" if by else ""
    return words + (f"; overflow: {proof['overflow']}" if proof.get("overflow") else "")


def _weights(layer: Mapping[str, Any]) -> Html | None:
    if not layer["weights"]:
        return None
    fmt = layer["weight_format"]
    only = "each is zero or plus or minus a power of two" if layer["power_of_two_weights"] else "not all powers of two"
    strip = charts.format_strip(fmt)
    return join([f"{layer['weights']:,} of ", element("code", format_words(fmt)), strip, element("small", only)])


def _zeros(layer: Mapping[str, Any]) -> Html | None:
    share = layer["sparsity"]
    return None if share is None else join([percent(share, 1), charts.bar(share, "zeros among the weights")])


def _figure(title: str, picture: str, note: str) -> Html:
    return element("figure", element("figcaption", element("b", title), f" {note}"), picture)


def _accumulator(layer: Mapping[str, Any]) -> Html | None:
    bits, reach = layer["accumulator_bits"], layer.get("accumulator_range")
    if bits is None:
        return None
    if reach is None:
        return _figure("Accumulator", Html(), f"{bits} bits, proved wide enough by intervals")
    low, high = reach
    note = f"reaches {low:,} to {high:,} for any input, within the {bits} bits drawn"
    return _figure("Accumulator", charts.accumulator(low, high, bits), note)


def _exponents(layer: Mapping[str, Any]) -> Html | None:
    counts = layer.get("exponents")
    return _figure("Non-zero weights", charts.histogram(counts), "by exponent of two") if counts else None
