"""Words and choices that the sections of a page share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    ("lut", "LUT"),
    ("ff", "FF"),
    ("dsp", "DSP"),
    ("bram_18k", "BRAM 18k"),
    ("uram", "URAM"),
    ("latency_cycles", "latency, cycles"),
    ("initiation_interval_cycles", "interval, cycles"),
)
"""Field of a resource entry -> heading."""

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
CHECKED = {
    "proved": "proved for all inputs",
    "exhaustive": "run on every possible input",
    "tested": "tested",
}
"""Scope of a proof -> words."""

ALTERNATIVES = {"int8": "with 8-bit multipliers", "float32": "in float32"}
"""Other arithmetic for the same sums -> words."""

SOURCES = {
    "static": "static estimate",
    "csynth": "C synthesis",
    "yosys": "Yosys",
    "nextpnr": "nextpnr",
    "vivado": "Vivado",
    "quartus": "Quartus",
    "rtlsim": "RTL simulation",
}
"""Source -> words; the nearer to the chip, the later. A source that is not here goes by its own name."""


def source_words(entry: Mapping[str, Any] | None) -> str:
    """Return the source of an entry in words, or nothing if there is no entry."""
    source = "" if entry is None else str(entry["source"])
    return SOURCES.get(source, source)


def preferred(document: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return the entry of `resources` nearest to the chip that knows `key`; None if none does."""
    order = list(SOURCES)
    known = [entry for entry in document["resources"] if entry[key] is not None]
    return max(known, key=lambda entry: order.index(entry["source"]) if entry["source"] in order else -1, default=None)


def does(layer: Mapping[str, Any]) -> str:
    """Return what an op does, in order."""
    return " + ".join(layer["fused"]) or str(layer["op"])


def shape_words(layer: Mapping[str, Any]) -> str:
    """Return a shape, for example "28 x 28 x 1"."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, layer["shape"]))


def checked(layer: Mapping[str, Any]) -> str:
    """Return how an op was checked by itself, or nothing."""
    proof = layer.get("proof")
    if not proof:
        return ""
    words = CHECKED.get(proof["scope"], str(proof["scope"]))
    if proof.get("inputs") is not None:
        words += f", {proof['inputs']:,} inputs"
    by = [f"{proof['engine']}"] if proof.get("engine") else []
    by += [f"{proof['seconds']:.3g} s"] if proof.get("seconds") is not None else []
    words += f" ({', '.join(by)})" if by else ""
    return words + (f"; overflow: {proof['overflow']}" if proof.get("overflow") else "")
