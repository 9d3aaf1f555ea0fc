"""Pictures of single facts, as inline SVG or a bar of HTML; each says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow.report.page.html import Html, element, escape, join, percent

LONGEST_STRIP = 28
"""Bits of a format that fit across a phone."""


def svg(width: float, height: float, label: str, *parts: str | None, **attributes: str) -> Html:
    """Return a picture of so many pixels that is read out as `label`."""
    size = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height:g}"}
    return element("svg", *parts, role="img", aria_label=label, **size, **attributes)  # type: ignore[arg-type]


def text(x: float, y: float, words: str, anchor: str = "middle", class_: str | None = None) -> Html:
    """Return words in a picture."""
    return element("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def bar(share: float, label: str, between: tuple[float, float] | None = None) -> Html:
    """Return a bar of which `share`, from 0 to 1, is filled; anything above 0 is visible.

    Args:
        between: shares between which the true one lies, drawn as a line over the bar.
    """
    width = _percent(share)
    parts = [element("span", style=f"width:{f'max(2px,{width:.2f}%)' if width else '0'}")]
    if between is not None:
        low, high = map(_percent, between)
        parts.append(element("i", style=f"left:{low:.2f}%;width:max(2px,{high - low:.2f}%)"))
    return element("span", *parts, class_="bar", role="img", aria_label=label)


def _percent(share: float) -> float:
    return 100 * min(max(share, 0.0), 1.0)


def format_strip(fmt: Mapping[str, Any]) -> Html | None:
    """Return the bits of a format in a row: sign, integer bits, point, fraction bits; None if they are too many.

    Places between the point and the first or last bit that the format does not have are drawn dashed.
    """
    integer, fraction = fmt["int_bits"], fmt["frac_bits"]
    places = range(max(integer, 0) - 1, min(-fraction, 0) - 1, -1)
    if len(places) + fmt["signed"] > LONGEST_STRIP:
        return None
    parts, x = [], 0.5
    if fmt["signed"]:
        parts += [element("rect", x=x, y=0.5, width=8, height=12, class_="sign"), text(x + 4, 10, "±")]
        x += 10
    for place in places:
        if place == -1:
            parts.append(element("circle", cx=x + 0.5, cy=11.5, r=1.5, class_="point"))
            x += 4
        kind = "missing" if not -fraction <= place < integer else "whole" if place >= 0 else "part"
        parts.append(element("rect", x=x, y=0.5, width=8, height=12, class_=kind))
        x += 10
    sign = "sign, " if fmt["signed"] else ""
    return svg(x, 13, f"bits: {sign}{integer} integer, {fraction} fraction", *parts, class_="strip")


def histogram(exponents: Mapping[str, int]) -> Html:
    """Return how many weights have each exponent of two, gaps between them included."""
    counts = {int(exponent): count for exponent, count in exponents.items()}
    shown = range(min(counts), max(counts) + 1)
    step = min(44, 300 // len(shown))
    top = max(counts.values())
    parts = []
    for index, exponent in enumerate(shown):
        count, x = counts.get(exponent, 0), index * step
        height = 70 * count / top
        drawn = max(height, 1.0) if count else 0
        parts.append(element("rect", x=x + 2, y=86 - drawn, width=step - 4, height=drawn, class_="data"))
        if step >= 24:
            parts.append(text(x + step / 2, 82 - drawn, f"{count:,}", class_="small"))
        if step >= 24 or exponent in (shown[0], shown[-1]):
            parts.append(text(x + step / 2, 100, _signed(exponent), class_="small"))
    parts.append(element("line", x1=0, y1=86.5, x2=step * len(shown), y2=86.5, class_="axis"))
    words = ", ".join(f"{counts[exponent]} of 2 to the {exponent}" for exponent in shown if exponent in counts)
    return svg(step * len(shown), 106, f"non-zero weights by exponent: {words}", *parts)


def accumulator(low: int, high: int, bits: int) -> Html:
    """Return a picture of the codes that an accumulator reaches, within those that its bits hold."""
    first, last = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if low < 0 else (0, (1 << bits) - 1)
    width, span = 300.0, last - first

    def at(code: int) -> float:
        return 1 + (width - 2) * (code - first) / span

    left, right = at(low), at(high)
    parts = [
        element("rect", x=1, y=4, width=width - 2, height=14, class_="room"),
        element("rect", x=left, y=4, width=max(right - left, 2.0), height=14, class_="data"),
        element("line", x1=at(0), y1=0, x2=at(0), y2=22, class_="axis") if first < 0 else None,
        text(1, 34, _signed(first), "start", "small"),
        text(at(0), 34, "0", class_="small") if first < 0 else None,
        text(width - 1, 34, _signed(last), "end", "small"),
    ]
    return svg(width, 38, f"reaches {low:,} to {high:,} of {first:,} to {last:,}", *parts)


def _signed(value: int) -> Html:
    return escape(f"{value:,}".replace("-", "\N{MINUS SIGN}"))


def bars(rows: Sequence[tuple[str, float, str]], caption: str) -> Html:
    """Return a table of (name, amount, words) with a bar each, as long as its part of the largest amount."""
    largest = max((amount for _, amount, _ in rows), default=0) or 1
    return _bar_table([(name, words, amount / largest, None) for name, amount, words in rows], caption)


@dataclass(frozen=True, slots=True)
class Used:
    """How much of a part a design uses: `between` which counts an estimate's true one lies, None if nothing says."""

    name: str
    count: int
    has: int
    between: tuple[int, int] | None


def capacity(rows: Sequence[Used], caption: str) -> Html:
    """Return a table with a bar each, filled as far as the part is used."""
    lines = []
    for row in rows:
        ends = row.between
        told = join([f"{row.count:,} of {row.has:,}, ", percent(row.count / row.has)])
        told = told if ends is None else join([told, f"; {ends[0]:,} to {ends[1]:,}"])
        shares = None if ends is None else (ends[0] / row.has, ends[1] / row.has)
        lines.append((row.name, told, row.count / row.has, shares))
    return _bar_table(lines, caption)


def _bar_table(rows: Iterable[tuple[str, str, float, tuple[float, float] | None]], caption: str) -> Html:
    lines = []
    for name, words, share, between in rows:
        cell = element("td", element("span", bar(share, "", between), aria_hidden="true"), class_="wide")
        lines.append(element("tr", element("th", name, scope="row"), element("td", words), cell))
    return element("table", element("caption", caption), element("tbody", *lines), class_="bars")


@dataclass(frozen=True, slots=True)
class Point:
    """A run in a plot: `name` is drawn in its mark."""

    name: str
    x: float
    y: float


def scatter(points: Sequence[Point], x_words: str, y_words: str) -> Html:
    """Return points over two axes; x begins at 0, y (a fraction) is drawn in percent around the points."""
    left, top, width, height = 52, 14, 300, 210
    across = _ticks(0, max(point.x for point in points) * 1.05 or 1)
    lowest, highest = min(point.y for point in points), max(point.y for point in points)
    margin = max((highest - lowest) * 0.15, 0.002)
    up = _ticks(100 * max(lowest - margin, 0), 100 * min(highest + margin, 1))

    def at(x: float, y: float) -> tuple[float, float]:
        right = left + width * (x - across[0]) / (across[-1] - across[0])
        return right, top + height * (up[-1] - 100 * y) / (up[-1] - up[0])

    parts = []
    for tick in across:
        x, _ = at(tick, 0)
        parts.append(element("line", x1=x, y1=top, x2=x, y2=top + height, class_="grid"))
        parts.append(text(x, top + height + 16, f"{tick / 1000:g} k" if across[-1] >= 100_000 else f"{tick:,.0f}"))
    for tick in up:
        _, y = at(0, tick / 100)
        parts.append(element("line", x1=left, y1=y, x2=left + width, y2=y, class_="grid"))
        parts.append(text(left - 6, y + 4, f"{tick:g}", "end"))
    parts.append(text(left + width / 2, top + height + 36, x_words))
    middle = top + height / 2
    parts.append(element("text", y_words, x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:g})"))
    for point in points:
        x, y = at(point.x, point.y)
        parts += [element("circle", cx=x, cy=y, r=10, class_="mark"), text(x, y + 4, point.name, class_="on")]
    words = "; ".join(f"run {point.name}: {point.x:,g}, {100 * point.y:.2f} %" for point in points)
    return svg(left + width + 20, top + height + 44, f"{y_words} over {x_words}: {words}", *parts, class_="plot")


@dataclass(frozen=True, slots=True)
class Curve:
    """A line in a plot, and its points (x, y)."""

    name: str
    points: tuple[tuple[float, float], ...]


MOST_CURVES = 4
"""Kinds of lines that can be told apart."""


def curves(drawn: Sequence[Curve], x_words: str, y_words: str) -> Html:
    """Return lines over two axes, with a legend; it reads out where each begins and ends."""
    left, top, width, height = 60, 14, 300, 190
    xs, ys = ([point[axis] for curve in drawn for point in curve.points] for axis in (0, 1))
    across, up = _ticks(min(xs), max(max(xs), min(xs) + 1)), _ticks(min(ys), max(ys) + (min(ys) == max(ys)))

    def at(x: float, y: float) -> tuple[float, float]:
        right = left + width * (x - across[0]) / (across[-1] - across[0])
        return right, top + height * (up[-1] - y) / (up[-1] - up[0])

    parts = []
    for tick in across:
        x, _ = at(tick, up[0])
        parts.append(text(x, top + height + 16, f"{tick:g}"))
    for tick in up:
        _, y = at(across[0], tick)
        parts.append(element("line", x1=left, y1=y, x2=left + width, y2=y, class_="grid"))
        parts.append(text(left - 6, y + 4, f"{tick:g}", "end"))
    parts.append(text(left + width / 2, top + height + 34, x_words))
    for number, curve in enumerate(drawn):
        kind, below = f"curve c{number % MOST_CURVES}", top + height + 54 + 18 * number
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in curve.points))
        parts.append(element("polyline", points=path, class_=kind))
        parts.append(element("line", x1=left, y1=below - 4, x2=left + 26, y2=below - 4, class_=kind))
        parts.append(text(left + 34, below, curve.name, "start"))
    ends = (f"{curve.name} from {curve.points[0][1]:.4g} to {curve.points[-1][1]:.4g}" for curve in drawn)
    label = f"{y_words} over {x_words}: {'; '.join(ends)}"
    return svg(left + width + 20, top + height + 46 + 18 * len(drawn), label, *parts, class_="plot")


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers that enclose [low, high]."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, last + 1)]
