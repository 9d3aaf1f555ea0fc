"""The page of a run: one file that needs nothing else, says what the report says, and renders in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fixtures_cli import copy_of_digits, flow, needs_compiler, refused
from page_reports import different, full, headed, layers, stopped, variant

from flow.report.page import compare, network, render
from flow.report.page.charts import _ticks
from flow.report.page.training import History, render_training
from flow.report.record import Report
from flow.report.text import to_markdown, to_text
from flow.report.words import SOURCES

PAGES = {
    "full": lambda: render(Report(full())),
    "different": lambda: render(Report(different())),
    "stopped": lambda: render(Report(stopped())),
    "headed": lambda: render(Report(headed())),
    "compared": lambda: compare(
        [variant(hardware=0.97, static=6341, yosys=5800), variant(hardware=0.955, static=120_341), Report(stopped())]
    ),
}
VOID = ("meta",)


class Tree(HTMLParser):
    """Reads a page, holds tags against each other, and keeps what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


def test_a_page_is_well_formed(page: str) -> None:
    tree = Tree(page)
    assert page.startswith("<!DOCTYPE html>\n<html")
    ids = [given["id"] for _, given in tree.tags if "id" in given]
    assert len(ids) == len(set(ids))
    targets = {str(given["href"]) for _, given in tree.tags if "href" in given}
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    named = {given["aria-labelledby"] for _, given in tree.tags if "aria-labelledby" in given}
    assert named <= set(ids)


def test_a_page_loads_nothing_and_runs_nothing(page: str) -> None:
    tree = Tree(page)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "image", "use"} & {t for t, _ in tree.tags}
    for tag, given in tree.tags:
        assert not {name for name in given if name.startswith("on") or name in ("src", "srcset", "action")}, tag
        assert str(given.get("href", "#")).startswith("#"), given
    assert "://" not in page and "url(" not in page and "@import" not in page
    policy = next(given["content"] for _, given in tree.tags if given.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none';")


def test_a_page_is_for_everyone(page: str) -> None:
    tree = Tree(page)
    levels = [int(tag[1]) for tag, _ in tree.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    links = [given for tag, given in tree.tags if tag == "a"]
    assert links[0]["href"] == "#main"
    assert [tag for tag, _ in tree.tags].count("table") == [tag for tag, _ in tree.tags].count("caption")
    for tag, given in tree.tags:
        if tag == "th":
            assert given.get("scope") or not page.count("<table"), given
        if tag == "svg":
            assert given["role"] in ("img", "group") and given["aria-label"]
        if given.get("class") == "scroll":
            assert (given["tabindex"], given["role"]) == ("0", "region") and given["aria-label"]
    assert tree.tags[0] == ("html", {"lang": "en"})


def colours(style: str) -> Iterator[dict[str, str]]:
    """Return the colours of a page by name: on light, on dark, on paper."""
    for block in re.findall(r":root \{(.*?)\}", style, flags=re.S):
        yield dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", block))


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough() -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for what is drawn."""
    found = list(colours(PAGES["full"]()))
    assert len(found) == 3
    for theme in found:
        for back in ("paper", "panel"):
            for front in ("ink", "soft", "same", "wrong", "open"):
                assert contrast(theme[front], theme[back]) >= 4.5, (front, back, theme)
        assert contrast(theme["data"], theme["paper"]) >= 3
        assert contrast(theme["data"], theme["room"]) >= 3
        assert contrast(theme["paper"], theme["data"]) >= 4.5


# -- what it says


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield value


def test_every_field_that_is_there_is_shown() -> None:
    """Every number and word of the report, but the parts of formats, which are shown as formats."""
    for document in (full(), different()):
        tree = Tree(render(Report(document)))
        attributes = " ".join(str(value) for _, given in tree.tags for value in given.values())
        shown = f"{tree.text} {attributes}"
        del document["schema"], document["inputs"]["format"]
        for value in leaves(without_formats(document)):
            if isinstance(value, int):
                forms = [f"{value:,}", str(value)]
            elif isinstance(value, float):
                forms = [
                    f"{value:.4g}",
                    f"{value:,.0f}",
                    f"{100 * value:.2f} %",
                    f"{100 * value:.1f} %",
                    f"{value:.3g}",
                ]
            else:
                forms = [value, value.replace("_", " "), SOURCES.get(value, value)]
            assert any(form in shown for form in forms), value


def without_formats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_formats(item) for key, item in value.items() if not key.endswith("format")}
    return [without_formats(item) for item in value] if isinstance(value, list) else value


def test_formats_are_shown() -> None:
    text = Tree(PAGES["full"]()).text
    for words in ("ufixed<4,1>", "fixed<6,-1>", "fixed<33,13>", "fixed<6,7>", "fixed<5,3>", "ufixed<4,0>"):
        assert words in text


def test_the_verdict_has_its_scope() -> None:
    text = Tree(PAGES["full"]()).text
    assert "Bit exact" in text and "over 360 inputs and 2048 adversarial inputs" in text
    scope = (
        "1 op proved for all inputs; 1 op run on every possible input; 2 ops tested; 6 ops only compared on the inputs"
    )
    assert scope in text
    assert "run on every possible input, 65,536 inputs (rtlsim, 0.8 s)" in text
    bare = full()
    for layer in bare["layers"]:
        layer["proof"] = None
    assert "A test over these inputs, not a proof for all." in Tree(render(Report(bare))).text


def test_a_divergence_is_told_in_words() -> None:
    tree = Tree(PAGES["different"]())
    for words in (
        "Different",
        "op 'left', element (3, 5, 22)",
        "reference 0, csim 2",
        "weight (0, 22) of -2 instead of -4",
        "flow compare hls_projects/two_ways/rtl/0661f65e433c --levels reference csim --inputs",
        "op 'left': weight (0, 22) in w3.h is code -2",
        "differs from",
    ):
        assert words in tree.text, words
    assert "Bit exact" not in tree.text


def test_levels_that_are_not_known_to_be_equal_are_not_called_so() -> None:
    document = different()
    shown = re.findall(r'class="unseen">(equals|and|differs from)<', render(Report(document)))
    assert shown == ["and", "differs from"]
    document["verdict"] |= {"mismatches": 0, "first_divergence": None}  # only files differ
    assert re.findall(r'class="unseen">(equals|and|differs from)<', render(Report(document))) == ["equals", "equals"]


def test_what_was_not_measured_is_never_zero() -> None:
    page = PAGES["stopped"]()
    tree = Tree(page)
    headings = re.findall(r'<h2 id="(\w+)">', page)
    assert headings == ["verdict", "network", "ops", "accuracy", "resources", "inputs", "provenance"]
    assert "Not compared" in tree.text
    assert tree.text.count("not measured") >= 3 + len(layers())  # accuracy, LUTs, latency; differences of each op
    assert "Bit exact" not in tree.text and "equals" not in tree.text
    assert not re.search(r"(?<![\d.,<-])0( %| cycles| LUT)", tree.text)
    bare = stopped()
    bare["layers"] = [{key: value for key, value in layer.items() if key != "inputs"} for layer in layers()]
    assert 'id="network"' not in render(Report(bare))


def test_a_source_that_measured_only_time_shows_only_time() -> None:
    page = PAGES["full"]()
    article = next(part for part in page.split("<article") if ">RTL simulation<" in part and "Verilator" in part)
    text = Tree(f"<article{article.partition('</article>')[0]}</article>").text
    assert "11 cycles" in text and "55 ns" in text
    assert "LUT" not in text and "DSP" not in text and " 0 " not in text


def test_sources_never_share_a_table() -> None:
    page = PAGES["full"]()
    names = {"static estimate", "Yosys", "nextpnr", "RTL simulation"}
    for table in re.findall(r"<table.*?</table>", page, flags=re.S):
        if "<span>static estimate beside Yosys</span>" in table:  # each in a column of its own
            continue
        assert sum(name in table for name in names) <= 1, table
    assert all(page.count(f"<h3>{name}</h3>") >= 1 for name in names)


def test_names_are_escaped() -> None:
    evil = """<script>alert("1")</script>&amp;'\x1b[31m\ud800 \u202e"""
    free = ("provenance", "timings_s", "detail", "versions", "alternatives", "reuse_factors", "arithmetic")

    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name + evil * (key in free): poison(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return value + evil if isinstance(value, str) else value

    harmless = {tag for make in PAGES.values() for tag, _ in Tree(make()).tags}
    report = Report(poison(different()))
    for page in (render(report), compare([report, report])):
        assert {tag for tag, _ in Tree(page).tags} <= harmless
        page.encode()
        assert "\x1b" not in page and "\u202e" not in page
        assert page.count(html.escape("<script>alert(")) > 20


def test_many_classes_are_listed_by_what_is_confused() -> None:
    document = full()
    matrix = [[9 if i == j else 0 for j in range(30)] for i in range(30)]
    matrix[3][17] = 5
    document["confusion"] = {"classes": 30, "float": None, "qkeras": matrix, "hardware": matrix}
    text = Tree(render(Report(document))).text
    assert "hardware: 270 of 275 right; most frequent confusions" in text
    assert "Not measured: float" in text


def test_heads_are_named() -> None:
    """Each output by its name: on the page, in text and Markdown, and beside runs without heads."""
    text = Tree(PAGES["headed"]()).text.replace("\N{EN DASH} ", "")
    for words in (
        "accuracy of digit 96.94 % 359 labelled inputs mean absolute error of angle 0.04321 359 labelled inputs",
        "digit accuracy not measured 97.22 % 96.94 % 359",
        "angle mean squared error not measured 0.9722 0.00257 359",
        "Confusion of output digit Rows are true classes, columns predicted ones.",
        "test split, at training 98.33 % 97.50 %",
    ):
        assert words in text, words
    assert "accuracy of the hardware" not in text and "inputs of this run" not in text
    report = Report({**headed(), "energy": []})
    for lines in (to_text(report), to_markdown(report)):
        rows = [re.sub(r"[| ]+", " ", line).strip() for line in lines.splitlines()]
        assert "digit accuracy - 97.22 % 96.94 % 359" in rows and "at training 98.33 % 97.50 % - 360" in rows
        assert "angle mean absolute error - 0.9722 0.04321 359" in rows and not any(
            row.startswith("this run") for row in rows
        )
    page = compare([Report(headed()), variant(hardware=0.955, static=120_341)])
    rows = re.findall(r"<tr>.*?</tr>", page)
    assert any("angle: mean absolute error, hardware" in row and "0.04321" in row for row in rows)
    assert sum("96.94 %" in row for row in rows) == sum("95.50 %" in row for row in rows) == 1
    plots = [given["aria-label"] for tag, given in Tree(page).tags if tag == "svg"]
    assert plots[:2] == [
        "accuracy of digit, % over LUTs, static estimate: run 1: 6,341, 96.94 %",
        "accuracy of the hardware, % over LUTs, static estimate: run 2: 120,341, 95.50 %",
    ]


# -- the diagram


def test_no_two_boxes_overlap_and_every_op_is_below_what_it_reads() -> None:
    reads = {layer["name"]: layer["inputs"] for layer in layers()}
    reads |= {f"deep{i}": [f"deep{i - 1}" if i else "conv1", *(["image"] if i % 3 == 0 else [])] for i in range(9)}
    rows, width = network.rows_of(reads), 200.0
    for name, inputs in reads.items():
        assert all(rows[other] < rows[name] for other in inputs), name
    assert rows["extra"] == rows["joined"] - 1
    by_row: dict[int, list[tuple[float, float]]] = {}
    for (name, row), middle in network.arrange(reads, width).items():
        half = (width if rows[name] == row else network.WIRE) / 2
        by_row.setdefault(row, []).append((middle - half, middle + half))
    for spans in by_row.values():
        spans.sort()
        assert spans[0][0] >= -1e-6
        assert all(left[1] < right[0] for left, right in pairwise(spans))


def test_a_chain_is_drawn_straight() -> None:
    reads: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["b"]}
    assert set(network.arrange(reads, 200.0).values()) == {100.0}


# -- several runs


def test_runs_stand_side_by_side() -> None:
    page = PAGES["compared"]()
    tree = Tree(page)
    for words in ("3 runs side by side", "Resources: static estimate", "Resources: Yosys", "6,341", "120,341", "5,800"):
        assert words in tree.text, words
    plots = [given["aria-label"] for tag, given in tree.tags if tag == "svg"]
    assert plots == [
        "accuracy of the hardware, % over LUTs, static estimate: run 1: 6,341, 97.00 %; run 2: 120,341, 95.50 %",
        "accuracy of the hardware, % over LUTs, Yosys: run 1: 5,800, 97.00 %",
    ]
    assert "not measured in 2, 3" in tree.text
    other = variant(hardware=0.5, static=1)
    other.document["inputs"]["source"] = "other"  # type: ignore[index]
    assert "measured on different inputs" in compare([other, variant(hardware=0.5, static=2)])


def test_figures_of_different_sources_share_no_row_and_no_plot() -> None:
    """Two models of estimation are both "static", and Yosys counts other cells for each family."""
    hls, rtl = variant(hardware=0.97, static=100, yosys=50), variant(hardware=0.96, static=200, yosys=70)
    static, yosys = rtl.document["resources"]
    static["tool"], yosys["family"] = "flow model of rtl", "ecp5"
    page = compare([hls, rtl])
    plots = [given["aria-label"] for tag, given in Tree(page).tags if tag == "svg"]
    assert plots == [
        "accuracy of the hardware, % over LUTs, static estimate, flow static model: run 1: 100, 97.00 %",
        "accuracy of the hardware, % over LUTs, Yosys, Yosys 0.70, xc7: run 1: 50, 97.00 %",
        "accuracy of the hardware, % over LUTs, static estimate, flow model of rtl: run 2: 200, 96.00 %",
        "accuracy of the hardware, % over LUTs, Yosys, Yosys 0.70, ecp5: run 2: 70, 96.00 %",
    ]
    rows = re.findall(r"<th scope=row>LUT</th>(.*?)</tr>", page.replace('"', ""))
    assert [sum(number in row for number in (">100<", ">200<", ">50<", ">70<")) for row in rows] == [1, 1, 1, 1]


def test_an_estimate_at_the_head_shows_its_error() -> None:
    document = full()
    static = next(entry for entry in document["resources"] if entry["source"] == "static")
    document["resources"] = [static]
    summary = render(Report(document)).partition('class="summary"')[2].partition("</dl>")[0]
    assert "static estimate; its error is not known" in summary
    errors = {"mean": 14.1, "p95": 40, "worst": 63, "median_ratio": 1.1, "modules": 200}
    static["error"] = {"lut": errors, "ff": errors, "against": "Yosys"}
    for page in (render(Report(document)), compare([Report(document)])):
        assert "static estimate; off by 14.1 % in the mean, 63 % at worst" in page


def test_runs_without_numbers_have_no_plot() -> None:
    page = compare([Report(stopped()), Report(stopped())])
    assert "<svg" not in page and "no run has both LUTs and an accuracy" in page


@pytest.mark.parametrize(("low", "high"), [(0, 7), (0, 1e7), (97.1, 97.4), (0, 100), (99.8, 100.0)])
def test_ticks_enclose_what_is_drawn(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert ticks[0] <= low and high <= ticks[-1] and 3 <= len(ticks) <= 9


# -- commands


@needs_compiler
def test_report_writes_the_page(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    assert "Bit exact" in (run / "report.html").read_text()
    (run / "report.html").unlink()
    outcome = flow("report", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"page     {run}/report.html" in outcome.out
    Tree((run / "report.html").read_text())
    before = (run / "report.html").read_text()
    assert flow("report", run, "--format", "json").report()["model"] == "digits_mlp"
    assert (run / "report.html").read_text() == before


@needs_compiler
def test_report_puts_runs_side_by_side(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of_digits(tmp_path_factory, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert flow("report", run, run).out == "2 runs side by side: comparison.html\n"
    assert "2 runs side by side" in Tree(Path("comparison.html").read_text()).text
    assert flow("report", run, run, run, "--output", "deep/c.html").out == "3 runs side by side: deep/c.html\n"
    refused(flow("report", run, run, "--format", "json"), "--format", "one run")
    refused(flow("report", run, "--output", "c.html"), "--output", "several runs")
    refused(flow("report", run, tmp_path / "none"), "not a run directory")
    (tmp_path / "file").touch()
    refused(flow("report", run, run, "--output", "file/c.html"), "file/c.html", "cannot be written")


# -- in a browser


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is on PATH")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
MEASURE = """<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const overflow = [...page.querySelectorAll("body *")].filter(each =>
    each.getBoundingClientRect().right > innerFrame() + 0.5 && !each.closest(".scroll, .unseen, .skip"));
  function innerFrame() { return page.documentElement.clientWidth; }
  document.querySelector("pre").textContent = JSON.stringify({
    width: innerFrame(),
    scrolls: page.scrollingElement.scrollWidth,
    overflow: overflow.map(each => each.outerHTML.slice(0, 80)),
    closed: page.querySelectorAll("details:not([open])").length,
    words: page.body.innerText.length,
  });
};
</script>"""


def browse(place: Path, page: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a headless browser with an empty profile."""
    source = place / "page.html"
    source.write_text(page)
    assert BROWSER is not None
    command = [BROWSER, *QUIET, f"--user-data-dir={place / 'profile'}", *arguments, source.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=place)


def framed(page: str, width: int) -> str:
    """Return a page that shows `page` in a frame of so many pixels and measures it there."""
    frame = f'<iframe style="border:0" width="{width}" height="800" srcdoc="{html.escape(page)}"></iframe>'
    return f"<!DOCTYPE html><body>{MEASURE}{frame}<pre></pre></body>"


def pixels(png: bytes) -> bytes:
    """Return the filtered rows of a PNG file."""
    found, at = b"", 8
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        found += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    return zlib.decompress(found)


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways(page: str, width: int, tmp_path: Path) -> None:
    done = browse(tmp_path, framed(page, width), "--dump-dom")
    measured = json.loads(html.unescape(done.stdout.partition("<pre>")[2].partition("</pre>")[0]))
    assert measured["width"] == width
    assert measured["scrolls"] == width, measured["overflow"]
    assert measured["overflow"] == []
    assert measured["words"] > 1000
    assert "CONSOLE" not in done.stderr, done.stderr


@needs_browser
def test_the_console_would_have_told(tmp_path: Path) -> None:
    """What the tests above rely on: a blocked load is heard, and so is what sticks out."""
    wide = PAGES["full"]().replace(
        "<main", '<img src="http://127.0.0.1:9/x.png"><div style="width:900px">x</div><main', 1
    )
    done = browse(tmp_path, framed(wide, 360), "--dump-dom")
    assert "CONSOLE" in done.stderr and "Content Security Policy" in done.stderr
    measured = json.loads(html.unescape(done.stdout.partition("<pre>")[2].partition("</pre>")[0]))
    assert measured["scrolls"] > 360 and measured["overflow"]


@needs_browser
@pytest.mark.parametrize(("scheme", "paper"), [("1", b"\xfb\xfc\xfc"), ("0", b"\x10\x14\x16")], ids=["light", "dark"])
def test_a_page_is_drawn(scheme: str, paper: bytes, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    settings = (f"--screenshot={picture}", "--window-size=900,1400", f"--blink-settings=preferredColorScheme={scheme}")
    browse(tmp_path, PAGES["full"](), *settings)
    drawn = pixels(picture.read_bytes())
    assert drawn[1:4] == paper  # no filter changes the first pixel
    assert len(set(drawn)) > 100


@needs_browser
def test_a_page_prints(tmp_path: Path) -> None:
    printed = tmp_path / "page.pdf"
    browse(tmp_path, PAGES["full"](), f"--print-to-pdf={printed}")
    data = printed.read_bytes()
    assert data.startswith(b"%PDF-") and len(data) > 20_000
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2


def test_the_page_of_a_training_has_a_curve_for_each_model() -> None:
    """Also of a measure that one model lacks, one value that never changes, and names that are no HTML."""
    history = "model,epoch,loss,val_loss,zeros,luts\nfloat_twin,1,0.9,0.8,0,\nfloat_twin,2,0.5,0.6,0,\n"
    history += "quantized,1,1.2,1.1,0.2,700\nquantized,2,0.7,0.8,0.4,650\n"
    metrics = {"float": 0.97, "heads": {"<age>": {"measure": "mean_absolute_error", "float": 0.3, "qkeras": 0.4}}}
    made = render_training("net", history, metrics, {"source": "<i>mine</i>", "seed": 1, "versions": {"numpy": "2"}})
    assert "loss over epoch: float twin from 0.9 to 0.5; float twin, validation from 0.8 to 0.6" in made
    assert "zeros, % over epoch: float twin from 0 to 0; quantized model from 20 to 40" in made
    assert "luts over epoch: quantized model from 700 to 650" in made and "97.00 %" in made
    assert "&lt;i&gt;mine&lt;/i&gt;" in made and "&lt;age&gt;, qkeras mean absolute error" in made and "<i>" not in made
    assert "NaN" not in made and "val loss" not in made
    assert "After each epoch" not in render_training("net", "model,epoch\n", {}, {})
    picture = ElementTree.fromstring(History(history)._repr_svg_())
    assert [text.text for text in picture.iter() if text.get("class") == "title"] == ["loss", "zeros", "luts"]
    assert repr(History(history)) == "<History of 4 epochs: loss, zeros, luts>"
