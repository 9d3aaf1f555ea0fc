"""The page of a search: accuracy over LUTs with the front, published nets beside it, and every trial behind a click."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow.report.page.charts import bars, svg, text
from flow.report.page.html import Html, element, facts, join, number, page, percent, table
from flow.report.page.published import PUBLISHED, Net

STYLE = """text { font: 12px sans-serif; fill: #4d5961; } .grid { stroke: #cdd5d9; }
.s0 { fill: #dbe4ea; stroke: #4d5961; } .s1 { fill: #1c64a4; } .s2 { fill: none; stroke: #815200; stroke-width: 2; }"""
"""Of a plot that stands by itself; in a page colours of the page."""
COLOURS = {
    "s0": "fill:var(--room);stroke:var(--soft)",
    "s1": "fill:var(--data)",
    "s2": "fill:none;stroke:var(--open);stroke-width:2",
}
WORDS = {
    "accuracy": "accuracy",
    "error": "error",
    "luts": "LUT, static estimate",
    "luts_low": "LUT, at least",
    "latency": "latency, cycles",
    "energy": "energy, pJ, static",
    "seconds": "seconds of training",
    "test_accuracy": "accuracy on the test split",
    "ff": "flip-flops",
    "dsp": "DSP",
    "bram_18k": "block RAM, 18 kbit",
    "bit_exact": "bit exact",
    "tool": "counted by",
    "run": "run",
    "failed": "not built",
}
HELD_OUT = (
    "Accuracy is that of samples held out of the training split, by which trials are compared, if nothing else is said."
)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A net in the plot."""

    luts: float
    value: float
    words: str
    href: str = ""
    label: str = ""


def render_exploration(data: Mapping[str, Any]) -> str:
    """Return the page of a search: one HTML file that needs nothing else.

    Args:
        data: what `flow.exploration.search.Exploration.to_json` gives.
    """
    trials = data["trials"]
    finished = sum(trial["state"] == "finished" for trial in trials)
    said = (
        f"{len(trials)} trials, {finished} of them trained to the end; data set {data['dataset']}, part {data['part']}"
    )
    header = element("div", element("h1", f"{data['model']}: search"), element("p", said))
    sections = (
        ("tradeoff", "Trade-off", _tradeoff(data)),
        ("front", "Front", _front(data)),
        ("importances", "What matters", _importances(data["importances"])),
        ("trials", "Trials", join(_trial(trial) for trial in trials) if trials else None),
    )
    return page(f"{data['model']}: search", header, sections)


# -- the plot


def tradeoff(data: Mapping[str, Any], *, alone: bool = False) -> Html:
    """Return the plot of a search; empty if no trial is finished.

    Args:
        data: as of `render_exploration`.
        alone: whether it stands by itself, outside of a page.
    """
    of = _measure(data)
    drawn = [(name, marks) for name, marks in _series(data, of) if marks]
    if not any(name.startswith("trials") for name, _ in drawn):
        return Html()
    left, top, width, height = 60, 14, 460, 280
    every = [mark for _, marks in drawn for mark in marks]
    across = _decades([mark.luts for mark in every])
    low, high = min(mark.value for mark in every), max(mark.value for mark in every)
    step = _step(high - low)
    up = [step * index for index in range(math.floor(low / step), math.ceil(high / step) + 1)]
    up = up if len(up) > 1 else [up[0], up[0] + step]

    def at(mark: _Mark) -> tuple[float, float]:
        x = (math.log(mark.luts) - math.log(across[0])) / (math.log(across[-1]) - math.log(across[0]))
        return left + width * x, top + height * (up[-1] - mark.value) / (up[-1] - up[0])

    parts = list[Html | None]()
    for tick in across:
        x, _ = at(_Mark(tick, up[0], ""))
        parts += [
            element("line", x1=x, y1=top, x2=x, y2=top + height, class_="grid"),
            text(x, top + height + 16, f"{tick:,.0f}"),
        ]
    for tick in up:
        _, y = at(_Mark(across[0], tick, ""))
        parts += [
            element("line", x1=left, y1=y, x2=left + width, y2=y, class_="grid"),
            text(left - 6, y + 4, f"{tick:.6g}", "end"),
        ]
    parts.append(text(left + width / 2, top + height + 34, "LUT, of the source that the legend says"))
    y_words = f"{of}, %" if of == "accuracy" else WORDS[of]
    middle = top + height / 2
    parts.append(element("text", y_words, x=14, y=middle, text_anchor="middle", transform=f"rotate(-90 14 {middle:g})"))
    for place, (name, marks) in enumerate(drawn):
        below = top + height + 56 + 18 * place
        parts += [_shape(name, left + 8, below - 4, alone), text(left + 24, below, name, "start")]
        for mark in marks:
            x, y = at(mark)
            shape = join([element("title", mark.words), _shape(name, x, y, alone)])
            parts.append(element("a", shape, href=mark.href) if mark.href and not alone else element("g", shape))
            parts.append(text(x + 8, y + 4, mark.label, "start", "small") if mark.label else None)
    label = f"{y_words} over LUT: " + "; ".join(f"{len(marks)} {name}" for name, marks in drawn)
    extra: dict[str, Any] = {"class_": "plot"}
    if alone:
        parts.insert(0, element("style", Html(STYLE)))
        extra = {"xmlns": "http://www.w3.org/2000/svg"}
    return svg(left + width + 110, top + height + 66 + 18 * len(drawn), label, *parts, **extra)


def _measure(data: Mapping[str, Any]) -> str:
    return str(next((name for name in data["objectives"] if name != "luts"), "accuracy"))


def _series(data: Mapping[str, Any], of: str) -> Iterator[tuple[str, list[_Mark]]]:
    """Yield what the legend says of each kind of marks, and the marks."""
    scale = 100 if of == "accuracy" else 1
    trials, counted = list[_Mark](), list[_Mark]()
    for trial in data["trials"]:
        if trial["state"] != "finished" or of not in trial["figures"]:
            continue
        value, href = scale * trial["figures"][of], f"#trial-{trial['number']}"
        words = f"trial {trial['number']}: {value:.4g} at "
        luts = trial["figures"]["luts"]
        trials.append(_Mark(max(luts, 1), value, f"{words}{luts:,} LUT (static)", href))
        if "luts" in trial["confirmed"]:
            luts = trial["confirmed"]["luts"]
            counted.append(_Mark(max(luts, 1), value, f"{words}{luts:,} LUT (Yosys)", href))
    yield "trials, LUT by the static estimate", trials
    yield "trials, LUT by Yosys", counted
    if of == "accuracy":
        nets = [
            _Mark(net.luts, 100 * net.accuracy, f"{net.name}: {net.source}", "", net.name) for net in _published(data)
        ]
        yield "published, LUT by Vivado after place and route; accuracy on the test split", nets


def _shape(name: str, x: float, y: float, alone: bool) -> Html:
    """Return the mark of a kind: round for estimates, square for counts, hollow for others' nets."""
    kind = "s0" if "static" in name else "s1" if "Yosys" in name else "s2"
    drawn: dict[str, Any] = {"class_": kind} if alone else {"style": COLOURS[kind]}
    if kind == "s1":
        return element("rect", x=x - 5, y=y - 5, width=10, height=10, **drawn)
    return element("circle", cx=x, cy=y, r=5, **drawn)


def _decades(values: Sequence[float]) -> list[float]:
    """Return 1, 2 and 5 times powers of ten that enclose some numbers."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    marks = [factor * 10.0**power for power in range(low, high + 1) for factor in (1, 2, 5)]
    first = max(mark for mark in marks if mark <= min(values))
    last = min(mark for mark in marks if mark >= max(values) and mark > first)
    return [mark for mark in marks if first <= mark <= last]


def _step(span: float) -> float:
    rough = max(span, 1e-3) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)


# -- the sections


def _published(data: Mapping[str, Any]) -> tuple[Net, ...]:
    return PUBLISHED.get(data["dataset"], ())


def _tradeoff(data: Mapping[str, Any]) -> Html | None:
    drawn = tradeoff(data)
    if not drawn:
        return None
    notes = [
        element("p", "A click on a mark leads to its trial.", class_="note"),
        element("p", HELD_OUT, class_="note"),
    ]
    nets = _published(data)
    rows = [(net.name, percent(net.accuracy, 1), number(net.luts), net.source) for net in nets]
    header = ("net", "accuracy, test split", "LUT, Vivado", "source")
    told = table("Published nets, after place and route", header, rows) if nets else None
    return join([drawn, *notes, told])


def _front(data: Mapping[str, Any]) -> Html | None:
    front = [trial for trial in data["trials"] if trial["number"] in data["front"]]
    if not front:
        return None
    measures = [name for name in data["objectives"] if name != "luts"]
    header = (
        "trial",
        *(WORDS[name] for name in measures),
        WORDS["test_accuracy"],
        "LUT, Yosys",
        WORDS["luts"],
        "rebuilt by",
    )
    rows = [
        (
            element("a", f"trial {trial['number']}", href=f"#trial-{trial['number']}"),
            *(_figure(name, trial["figures"][name]) for name in measures),
            _figure("test_accuracy", trial["confirmed"].get("test_accuracy")),
            number(trial["confirmed"]["luts"]),
            number(trial["figures"]["luts"]),
            element("code", trial["commands"][0]),
        )
        for trial in sorted(front, key=lambda trial: trial["confirmed"]["luts"])
    ]
    budget = data["budget_luts"]
    best = "nothing" if data["best"] is None else f"trial {data['best']}"
    told = element("p", f"Best within {budget:,} LUT: {best}.") if budget is not None else None
    caption = "Nets of which no other is better in one objective and not worse in any, by LUTs that Yosys counted"
    return join([told, table(caption, header, rows)])


def _importances(found: Mapping[str, Mapping[str, float]]) -> Html | None:
    tables = [
        bars([(name, share, f"{100 * share:.0f} %") for name, share in of.items()], f"of {WORDS[objective]}")
        for objective, of in found.items()
    ]
    told = "How much of what is best each parameter settles (PED-ANOVA of Optuna, trials trained to the end)."
    return join([element("p", told, class_="note"), *tables]) if tables else None


def _trial(trial: Mapping[str, Any]) -> Html:
    """Return a trial; the place that links lead to is within it, so that it opens."""
    figures, confirmed = trial["figures"], trial["confirmed"]
    summary = f"{trial['state']}{': ' + trial['reason'] if trial['reason'] else ''}"
    if figures:
        measured = [f"{WORDS[name]} {_figure(name, figures[name])}" for name in ("accuracy", "luts") if name in figures]
        summary = ", ".join(measured)
    after = {"short training": trial["short"], "full training": figures, "confirmed by synthesis": confirmed}
    lists = [
        join(
            [element("h4", words), facts(*((_words(name, words), _figure(name, value)) for name, value in of.items()))]
        )
        for words, of in after.items()
        if of
    ]
    values = facts(*((name, element("code", str(value))) for name, value in trial["values"].items()))
    commands = element("pre", "\n".join(trial["commands"])) if figures else None
    head = element("summary", element("h3", f"trial {trial['number']}"), element("span", summary, class_="does"))
    inside = element("div", values, *lists, commands, id=f"trial-{trial['number']}")
    return element("details", head, inside, class_="op")


def _words(name: str, of: str) -> str:
    return "LUT, Yosys" if name == "luts" and of.startswith("confirmed") else WORDS.get(name, name)


def _figure(name: str, value: Any) -> Html | str | None:
    if "accuracy" in name:
        return percent(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) or value is None else str(value)
