"""The plot of the study: how many times a shift's area and energy each requantizer takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

LEFT, TOP, WIDTH, LINE, GAP = 196.0, 58.0, 300.0, 19.0, 36.0
LEAST, MOST = 0.1, 10000.0
"""Ends of the axes, which are logarithmic."""
STYLE = """
svg { background: #fff; font: 12px sans-serif; }
text { fill: #24292f; }
.grid { stroke: #d8dee4; }
.claim { stroke: #cf222e; stroke-dasharray: 4 3; }
.runtime { fill: #0969da; }
.constant { fill: #fff; stroke: #9a6700; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .grid { stroke: #30363d; }
  .claim { stroke: #ff7b72; }
  .runtime { fill: #58a6ff; }
  .constant { fill: #0d1117; stroke: #d29922; }
}
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A requantizer in the plot: how many times the area and the energy of each shift it takes."""

    name: str
    area: tuple[float, float]
    energy: tuple[float, float]


def plot(marks: Sequence[Mark], area_claim: float, energy_claim: float) -> str:
    """Return the plot as SVG: area to the left, energy to the right.

    Args:
        marks: one line each; of each pair, the first is over the constant shift, the second over the run-time shift.
        area_claim, energy_claim: where the dashed lines stand.
    """
    height = TOP + LINE * len(marks) + 44
    width = LEFT + 2 * WIDTH + GAP + 20
    parts = [f"<style>{STYLE}</style>", *_legend()]
    parts += _panel(marks, 0, "area", lambda mark: mark.area, area_claim)
    parts += _panel(marks, WIDTH + GAP, "energy", lambda mark: mark.energy, energy_claim)
    for index, mark in enumerate(marks):
        parts.append(_text(LEFT - 8, TOP + LINE * (index + 0.5) + 4, mark.name, "end"))
    words = "; ".join(
        f"{mark.name}: area {mark.area[0]:.3g} and {mark.area[1]:.3g}, energy {mark.energy[0]:.3g} and "
        f"{mark.energy[1]:.3g}"
        for mark in marks
    )
    label = escape(f"Times the area and energy of the constant and of the run-time shift. {words}")
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">'
    return "\n".join([head, *parts, "</svg>", ""])


def _panel(
    marks: Sequence[Mark], left: float, title: str, chosen: Callable[[Mark], tuple[float, float]], claim: float
) -> list[str]:
    bottom = TOP + LINE * len(marks)
    parts = []
    for power in range(round(math.log10(LEAST)), round(math.log10(MOST)) + 1):
        x = left + _across(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP:g}" x2="{x:.1f}" y2="{bottom:g}"/>')
        parts.append(_text(x, bottom + 16, f"{10.0**power:g}", "middle"))
    x = left + _across(claim)
    parts.append(f'<line class="claim" x1="{x:.1f}" y1="{TOP - 4:g}" x2="{x:.1f}" y2="{bottom:g}"/>')
    parts.append(_text(x, TOP - 8, f"{claim:g}x", "middle"))
    parts.append(_text(left + LEFT + WIDTH / 2, bottom + 36, f"times the {title} of a shift (logarithmic)", "middle"))
    for index, mark in enumerate(marks):
        y = TOP + LINE * (index + 0.5)
        for kind, ratio in zip(("constant", "runtime"), chosen(mark), strict=True):
            assert LEAST <= ratio <= MOST, (mark.name, ratio)
            parts.append(f'<circle class="{kind}" cx="{left + _across(ratio):.1f}" cy="{y:.1f}" r="4.5"/>')
    return parts


def _across(ratio: float) -> float:
    return LEFT + WIDTH * math.log(ratio / LEAST) / math.log(MOST / LEAST)


def _legend() -> list[str]:
    parts, x = [], LEFT
    for kind, words in (("constant", "over the constant shift"), ("runtime", "over the run-time shift")):
        parts.append(f'<circle class="{kind}" cx="{x + 6:g}" cy="14" r="4.5"/>')
        parts.append(_text(x + 16, 18, words, "start"))
        x += 180
    return [*parts, _text(x, 18, "dashed: the abstract's 15x and 9x", "start")]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
