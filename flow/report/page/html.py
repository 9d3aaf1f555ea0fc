"""HTML built from elements: whatever is not `Html` already is escaped, so no name in a report becomes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib.resources import files

from flow.ir.names import printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
NOT_MEASURED = "not measured"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return `text` as HTML; control characters and halves of surrogate pairs are spelled out.

    Example:
        >>> escape("<b>")
        '&lt;b&gt;'
    """
    return text if isinstance(text, Html) else Html(html.escape(printable(text, "\n")))


def join(parts: Iterable[str | None]) -> Html:
    """Return the parts one after another; None is left out."""
    return Html("".join(escape(part) for part in parts if part is not None))


def element(tag: str, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """Return an element; `class_` becomes `class`, `aria_label` becomes `aria-label`; None and False are left out.

    Example:
        >>> element("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(_text(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{tag}{given}>" + ("" if tag == "meta" else f"{join(children)}</{tag}>"))


def _text(value: str | float | bool) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def number(value: float | None, unit: str = "") -> Html:
    """Return a count or a measured number, or "not measured"."""
    if value is None:
        return element("span", NOT_MEASURED, class_="none")
    words = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return escape(f"{words} {unit}".rstrip())


def percent(value: float | None, digits: int = 2) -> Html:
    """Return a fraction in percent, or "not measured"."""
    return number(None) if value is None else escape(f"{100 * value:.{digits}f} %")


def facts(*pairs: tuple[str, str | None], class_: str = "facts") -> Html:
    """Return a description list; a pair without value is left out."""
    given = [element("div", element("dt", term), element("dd", value)) for term, value in pairs if value is not None]
    return element("dl", *given, class_=class_) if given else Html()


def items(lines: Iterable[str]) -> Html:
    """Return a list."""
    return element("ul", *(element("li", line) for line in lines))


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str | None]], *, words: int = 1, foot: int = 0
) -> Html:
    """Return a table in a box of its own, which scrolls where the table is wider than the page.

    Args:
        caption: what the table shows.
        header: a heading for each column.
        rows: cells; the first heads its row, and None stands for what was not measured.
        words: how many columns hold words and stand to the left; the others hold numbers.
        foot: how many rows at the end sum up the others.
    """

    def cell(index: int, value: str | None) -> Html:
        kind = "words" if index < words else None
        shown = absent() if value is None else value
        return element("th", shown, scope="row") if index == 0 else element("td", shown, class_=kind)

    lines = [element("tr", *(cell(index, value) for index, value in enumerate(row))) for row in rows]
    head = (element("th", name, scope="col", class_="words" if i < words else None) for i, name in enumerate(header))
    middle = len(lines) - foot
    inside = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *head)),
        element("tbody", *lines[:middle]),
        element("tfoot", *lines[middle:]) if foot else None,
    )
    return scroll(caption, inside)


def absent() -> Html:
    """Return a dash that is read out as "not measured"."""
    dash = element("span", "\N{EN DASH}", aria_hidden="true")
    return element("span", dash, element("span", NOT_MEASURED, class_="unseen"), class_="none")


def scroll(label: str, inside: str) -> Html:
    """Return a box that scrolls sideways, with the keyboard too."""
    return element("div", inside, class_="scroll", role="region", aria_label=label, tabindex="0")


def page(title: str, header: str, sections: Sequence[tuple[str, str, Html | None]], *top: tuple[str, str, Html]) -> str:
    """Return a page.

    Args:
        title: of the window.
        header: HTML.
        sections: (id, heading, HTML); one without anything to say is left out.
        top: the same, of what stands before the sections and has headings of its own.
    """
    kept = [(place, words, inside) for place, words, inside in sections if inside]
    links = (element("li", element("a", words, href=f"#{place}")) for place, words, _ in (*top, *kept))
    parts = (
        element("section", element("h2", words, id=place), inside, aria_labelledby=place)
        for place, words, inside in kept
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Html(files("flow.report.page").joinpath("style.css").read_text(encoding="utf-8"))),
    )
    body = element(
        "body",
        element("a", "Skip to the contents", href="#main", class_="skip"),
        element("header", header),
        element("nav", element("ul", *links), aria_label="Sections"),
        element("main", *(inside for _, _, inside in top), *parts, id="main", tabindex="-1"),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"
