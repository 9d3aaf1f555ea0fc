"""The plot of accuracy against look-up tables: rows of hardware.py beside published points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

LEFT, TOP, WIDTH, HEIGHT = 62.0, 40.0, 600.0, 300.0
FEWEST, MOST = 1e3, 1e6
"""Ends of the axis of look-up tables, which is logarithmic."""
LOWEST, HIGHEST = 94.5, 98.5
"""Ends of the axis of accuracy, percent."""
NAMES = {
    "a": "po2flow (a)",
    "b": "6 bits, unpruned (b)",
    "c": "alkaid alone (c)",
    "d": "HGQ2 (d)",
    "d, as accurate": "HGQ2 (d)",
}
RIGHT = (9, 4, "start")
PLACES = {"po2flow (a)": (-9, 4, "end"), "alkaid alone (c)": (0, -10, "middle"), "NeuraLUT": (-9, 4, "end")}
"""Where words stand beside their mark, if not to its right, where they would lie on another mark."""
STYLE = """
svg { background: #fff; font: 12px sans-serif; }
text { fill: #24292f; }
.grid { stroke: #d8dee4; }
.ours { fill: #0969da; }
.other { fill: #fff; stroke: #9a6700; stroke-width: 2; }
.plain { fill: #57606a; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .grid { stroke: #30363d; }
  .ours { fill: #58a6ff; }
  .other { fill: #0d1117; stroke: #d29922; }
  .plain { fill: #8b949e; }
}
"""


class Measured(Protocol):
    """What is drawn of a row."""

    @property
    def row(self) -> str: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def lut(self) -> int: ...


def plot(rows: Sequence[Measured], published: Sequence[Mapping[str, Any]]) -> str:
    """Return the plot as SVG; points outside the axes are an error of ours."""
    parts = [f"<style>{STYLE}</style>", *_axes(), *_legend()]
    words = []
    for point in published:
        parts += _mark(point["lut"], point["accuracy"], point["name"], "other")
        words.append(f"{point['name']} {100 * point['accuracy']:.1f} %, {point['lut']:,} (Vivado, published)")
    for row in rows:
        if row.row in NAMES:
            parts += _mark(row.lut, row.accuracy, NAMES[row.row], "ours" if row.row == "a" else "plain")
            words.append(f"{NAMES[row.row]} {100 * row.accuracy:.1f} %, {row.lut:,} (Yosys)")
    label = escape(f"MNIST, accuracy over look-up tables: {'; '.join(words)}")
    width, height = LEFT + WIDTH + 44, TOP + HEIGHT + 52
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">\n' + "\n".join(
        [*parts, "</svg>"]
    )


def _at(lut: float, accuracy: float) -> tuple[float, float]:
    assert FEWEST <= lut <= MOST and LOWEST <= 100 * accuracy <= HIGHEST, (lut, accuracy)
    across = math.log(lut / FEWEST) / math.log(MOST / FEWEST)
    return LEFT + WIDTH * across, TOP + HEIGHT * (HIGHEST - 100 * accuracy) / (HIGHEST - LOWEST)


def _axes() -> list[str]:
    parts = []
    for power in range(3, 7):
        x, _ = _at(10.0**power, HIGHEST / 100)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP:g}" x2="{x:.1f}" y2="{TOP + HEIGHT:g}"/>')
        parts.append(_text(x, TOP + HEIGHT + 18, f"{10**power:,}", "middle"))
    for percent in range(math.ceil(LOWEST), math.floor(HIGHEST) + 1):
        _, y = _at(FEWEST, percent / 100)
        parts.append(f'<line class="grid" x1="{LEFT:g}" y1="{y:.1f}" x2="{LEFT + WIDTH:g}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{percent} %", "end"))
    parts.append(_text(LEFT + WIDTH / 2, TOP + HEIGHT + 40, "look-up tables (logarithmic)", "middle"))
    return parts


def _legend() -> list[str]:
    legend = (("ours", "po2flow, Yosys"), ("plain", "same topology, same Yosys"))
    parts, x = [], LEFT
    for kind, words in (*legend, ("other", "others' figures, Vivado after place and route")):
        parts.append(f'<circle class="{kind}" cx="{x + 6:g}" cy="18" r="5"/>')
        parts.append(_text(x + 16, 22, words, "start"))
        x += 32 + 6.6 * len(words)
    return parts


def _mark(lut: int, accuracy: float, name: str, kind: str) -> list[str]:
    x, y = _at(lut, accuracy)
    right, down, anchor = PLACES.get(name, RIGHT)
    return [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>', _text(x + right, y + down, name, anchor)]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
