"""The network as a picture: each op in a row below all it reads, wires bundled per op and led around what is between.

A wire that skips rows gets a narrow place in each of them. Places of a row are ordered by where their neighbours
stand, then moved towards them as far as their widths allow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flow.report.page.html import Html, element, scroll

ROW, HEIGHT, GAP, WIRE = 96, 68, 24, 12
SWEEPS = 8
Place = tuple[str, int]
"""(op, row): the op itself in its own row, its wire in the rows below."""


@dataclass(frozen=True, slots=True)
class Box:
    """An op as drawn.

    Attributes:
        name, does, output: its three lines.
        state: "same", "wrong" or "" (not compared).
        remark: what stands beside the name: how it was checked.
        href: where the box leads.
    """

    name: str
    does: str
    output: str
    state: str
    remark: str
    href: str


def rows_of(reads: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the row of each op, given what each reads, in dataflow order.

    An op without inputs stands directly above the first that reads it.

    Example:
        >>> rows_of({"a": [], "b": ["a"], "c": [], "d": ["b", "c"]})
        {'a': 0, 'b': 1, 'c': 1, 'd': 2}
    """
    rows: dict[str, int] = {}
    for name, inputs in reads.items():
        rows[name] = max((rows[other] + 1 for other in inputs), default=0)
    for name, inputs in reads.items():
        readers = [rows[other] for other, read in reads.items() if name in read]
        if not inputs and readers:
            rows[name] = min(readers) - 1
    return rows


def arrange(reads: Mapping[str, Sequence[str]], width: float) -> dict[Place, float]:
    """Return the middle of each place, in pixels from the left edge; ops are `width` wide."""
    rows = rows_of(reads)
    links = _links(reads, rows)
    places = list(dict.fromkeys([(name, rows[name]) for name in reads] + [end for link in links for end in link]))
    grid: list[list[Place]] = [[] for _ in range(max(rows.values()) + 1)]
    for place in places:
        grid[place[1]].append(place)
    above: dict[Place, list[Place]] = {place: [] for place in places}
    below: dict[Place, list[Place]] = {place: [] for place in places}
    for first, second in links:
        below[first].append(second)
        above[second].append(first)

    def size(place: Place) -> float:
        return width if rows[place[0]] == place[1] else WIRE

    middle = {place: float(index) for line in grid for index, place in enumerate(line)}
    for sweep in range(SWEEPS):
        neighbours = below if sweep % 2 else above
        for line in grid[::-1] if sweep % 2 else grid:
            line.sort(key=lambda place: _mean([middle[other] for other in neighbours[place]], middle[place]))
            middle |= {place: float(index) for index, place in enumerate(line)}
    middle = {place: at for line in grid for place, at in _packed(line, size, {}).items()}
    for sweep in range(SWEEPS):
        neighbours = below if sweep % 2 else above
        for line in grid[::-1] if sweep % 2 else grid:
            wanted = {place: _mean([middle[other] for other in neighbours[place]], middle[place]) for place in line}
            middle |= _packed(line, size, wanted)
    left = min(middle[place] - size(place) / 2 for place in places)
    return {place: at - left for place, at in middle.items()}


def _links(reads: Mapping[str, Sequence[str]], rows: Mapping[str, int]) -> list[tuple[Place, Place]]:
    """Return the pieces of all wires, each from one row to the next, without repetition."""
    links: list[tuple[Place, Place]] = []
    for name, inputs in reads.items():
        for other in inputs:
            path = [(other, row) for row in range(rows[other], rows[name])] + [(name, rows[name])]
            links += itertools.pairwise(path)
    return list(dict.fromkeys(links))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _packed(line: Sequence[Place], size: Callable[[Place], float], wanted: Mapping[Place, float]) -> dict[Place, float]:
    """Return middles in the given order, without overlap, as near as can be to those wanted; only ops count."""
    at: dict[Place, float] = {}
    edge = float("-inf")
    for place in line:
        half = size(place) / 2
        at[place] = max(wanted.get(place, 0.0), edge + half)
        edge = at[place] + half + GAP
    heavy = [place for place in line if size(place) > WIRE] or list(line)
    shift = _mean([wanted.get(place, 0.0) - at[place] for place in heavy], 0.0)
    return {place: middle + shift for place, middle in at.items()}


def draw(boxes: Sequence[Box], reads: Mapping[str, Sequence[str]]) -> Html:
    """Return the picture of a network, in a box that scrolls if it is wider than the page."""
    shown = {box.name: box for box in boxes}
    width = min(320.0, max(180.0, *(24 + 7.5 * max(len(b.name) + len(b.remark) + 2, len(b.does)) for b in boxes)))
    rows, middle = rows_of(reads), arrange(reads, width)
    wires = [
        element("path", d=_curve(middle[first], first[1], middle[second], second[1]), class_="wire")
        for first, second in _links(reads, rows)
    ]
    wires += [  # through the rows that a wire skips
        element("path", d=f"M{at:.1f} {ROW * row:g}V{ROW * row + HEIGHT:g}", class_="wire")
        for (name, row), at in middle.items()
        if rows[name] != row
    ]
    tips = [_tip(middle[name, rows[name]], rows[name]) for name, inputs in reads.items() if inputs]
    drawn = [_box(shown[name], middle[name, row] - width / 2, row * ROW, width) for name, row in rows.items()]
    wide = max(at + (width if rows[name] == row else WIRE) / 2 for (name, row), at in middle.items()) + 2
    tall = ROW * max(rows.values()) + HEIGHT + 2
    size = {"viewBox": f"-1 -1 {wide:.0f} {tall:.0f}", "style": f"width:max(min(100%,{wide:.0f}px),{0.8 * wide:.0f}px)"}
    label = "The network as unified modules; each box leads to its op"
    picture = element("svg", *wires, *tips, *drawn, role="group", aria_label=label, **size, class_="net")
    return scroll("Diagram of the network", picture)


def _curve(x1: float, row1: int, x2: float, row2: int) -> str:
    y1, y2 = row1 * ROW + HEIGHT, row2 * ROW
    half = (y1 + y2) / 2
    return f"M{x1:.1f} {y1}C{x1:.1f} {half:g} {x2:.1f} {half:g} {x2:.1f} {y2}"


def _tip(x: float, row: int) -> Html:
    y = row * ROW
    return element("polygon", points=f"{x:.1f},{y} {x - 4:.1f},{y - 7} {x + 4:.1f},{y - 7}", class_="tip")


def _box(box: Box, x: float, y: float, width: float) -> Html:
    def line(words: str, down: int, class_: str, room: float) -> Html:
        fits = int((width - 24) / room)
        short = words if len(words) <= fits else words[: fits - 1] + "…"
        return element("text", short, x=x + 12, y=y + down, class_=class_)

    room = width - 24 - 6.6 * len(box.remark)
    name = box.name if 7.9 * len(box.name) <= room else box.name[: int(room / 7.9) - 1] + "…"
    remark = f"remark {box.state}".rstrip()
    return element(
        "a",
        element("title", f"{box.name}: {box.does}"),
        element("rect", x=x, y=y, width=width, height=HEIGHT, rx=3, class_=f"box {box.state}".rstrip()),
        element("text", name, x=x + 12, y=y + 22, class_="name"),
        element("text", box.remark, x=x + width - 12, y=y + 22, text_anchor="end", class_=remark),
        line(box.does, 40, "does", 7.2),
        line(box.output, 57, "output", 7.4),
        href=box.href,
    )
