"""Parsers of vendor reports, on reports written for these tests in the tools' layouts, and on real ones if there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY, TESTS

from flow.cost.vendor_reports.csynth import read_csynth
from flow.cost.vendor_reports.kinds import find_reports, read_reports
from flow.cost.vendor_reports.quartus import read_quartus_fit
from flow.cost.vendor_reports.vivado import (
    read_vivado,
    read_vivado_hierarchy,
    read_vivado_timing,
    read_vivado_utilization,
)
from flow.errors import InputError, ToolFailedError
from flow.results import Resources

REPORTS = TESTS / "data" / "reports"
REAL = REPOSITORY.parent / "shared" / "reports"

MLP_CAPACITY = {"lut": 63_400, "ff": 126_800, "dsp": 240, "bram_18k": 270, "uram": 0}
CNN_CAPACITY = {"lut": 230_400, "ff": 460_800, "dsp": 1728, "bram_18k": 624, "uram": 96}
MLP_TOTAL = Resources(
    name="tiny_mlp", lut=958, ff=710, dsp=12, bram_18k=3, uram=0, latency_cycles=11, initiation_interval_cycles=5
)
CNN_TOTAL = Resources(name="tiny_cnn", lut=5300, ff=1720, dsp=5, bram_18k=6, uram=0, initiation_interval_cycles=110)


@pytest.mark.parametrize("suffix", ["rpt", "xml"])
def test_vivado_hls(suffix: str) -> None:
    report = read_csynth(REPORTS / f"vivado_hls_csynth.{suffix}")
    assert (report.source, report.tool, report.part) == ("csynth", "Vivado HLS 2020.1", "xc7a100t-csg324-1")
    assert (report.clock_period_ns, report.estimated_clock_period_ns) == (10.0, 7.125)
    assert report.total == MLP_TOTAL
    assert report.capacity == MLP_CAPACITY


@pytest.mark.parametrize("suffix", ["rpt", "xml"])
def test_vitis_hls_with_unknown_latency(suffix: str) -> None:
    report = read_csynth(REPORTS / f"vitis_hls_csynth.{suffix}")
    assert (report.source, report.tool, report.part) == ("csynth", "Vitis HLS 2023.1", "xczu7ev-ffvc1156-2-e")
    assert (report.clock_period_ns, report.estimated_clock_period_ns) == (5.0, 3.612)
    assert report.total == CNN_TOTAL, "a latency the tool does not know is None, not 0"
    assert report.capacity == CNN_CAPACITY


def test_layers_are_the_instances() -> None:
    assert read_csynth(REPORTS / "vivado_hls_csynth.rpt").layers == (
        Resources(
            name="dense_resource_U0",
            lut=780,
            ff=660,
            dsp=12,
            bram_18k=3,
            uram=0,
            latency_cycles=5,
            initiation_interval_cycles=5,
        ),
        Resources(
            name="relu_config3_U0",
            lut=120,
            ff=40,
            dsp=0,
            bram_18k=0,
            uram=0,
            latency_cycles=1,
            initiation_interval_cycles=1,
        ),
    )


def test_layer_in_one_table_only() -> None:
    entry, conv, dense = read_csynth(REPORTS / "vitis_hls_csynth.rpt").layers
    assert entry == Resources(name="entry_proc_U0", latency_cycles=0, initiation_interval_cycles=0)
    assert (conv.name, conv.dsp, conv.latency_cycles) == ("conv_2d_cl_config2_U0", 5, 109)
    assert (dense.lut, dense.latency_cycles, dense.initiation_interval_cycles) == (1100, None, None)


def test_vivado_7series() -> None:
    report = read_vivado_utilization(REPORTS / "vivado_utilization_7series.rpt")
    assert (report.source, report.tool, report.part) == ("vivado", "Vivado 2020.1 (synthesized)", "xc7a100tcsg324-1")
    assert report.total == Resources(name="tiny_mlp", lut=612, ff=455, dsp=12, bram_18k=3)
    assert report.capacity == {"lut": 63_400, "ff": 126_800, "dsp": 240, "bram_18k": 270}


def test_vivado_ultrascale() -> None:
    report = read_vivado_utilization(REPORTS / "vivado_utilization_ultrascale.rpt")
    assert (report.tool, report.part) == ("Vivado 2023.1 (routed)", "xczu7ev-ffvc1156-2-e")
    assert report.total == Resources(name="tiny_cnn", lut=4321, ff=1650, dsp=5, bram_18k=6, uram=1)
    assert report.capacity == CNN_CAPACITY


def test_vivado_hierarchy_and_timing_go_into_one_entry() -> None:
    names = ("vivado_utilization_ultrascale.rpt", "vivado_hierarchy.rpt", "vivado_timing.rpt")
    report = read_vivado(*(REPORTS / name for name in names))
    assert (report.source, report.total.name, report.total.lut) == ("vivado", "tiny_cnn", 4321)
    assert (report.clock_period_ns, report.estimated_clock_period_ns) == (5.0, 3.621)
    assert report.layers == (
        Resources(name="conv1_U0", lut=3220, ff=1200, dsp=5, bram_18k=5, uram=1),
        Resources(name="dense1_U0", lut=1100, ff=440, dsp=0, bram_18k=1, uram=0),
    ), "the instances in the top module, without its own logic and without what is in them"
    assert read_reports([REPORTS / name for name in reversed(names)]) == (report,)


def test_older_vivado_names_its_dsp_column_otherwise(tmp_path: Path) -> None:
    text = (REPORTS / "vivado_hierarchy.rpt").read_text().replace("| URAM | DSP Blocks |", "| RAM? | DSP48 Blocks |")
    (tmp_path / "hierarchy.rpt").write_text(text)
    assert [(each.dsp, each.uram) for each in read_vivado_hierarchy(tmp_path / "hierarchy.rpt")] == [
        (5, None),
        (0, None),
    ]


@pytest.mark.parametrize(
    ("slack", "reached"), [(" 1.379", 3.621), ("-0.250", 5.25), ("    NA", None), ("   inf", None)]
)
def test_reached_period(slack: str, reached: float | None, tmp_path: Path) -> None:
    text = (REPORTS / "vivado_timing.rpt").read_text().replace(" 1.379", slack, 1)
    (tmp_path / "timing.rpt").write_text(text)
    assert read_vivado_timing(tmp_path / "timing.rpt").reached_ns == reached


def test_a_design_without_clock_reaches_none(tmp_path: Path) -> None:
    lines = (REPORTS / "vivado_timing.rpt").read_text().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith("Clock  Waveform"))
    (tmp_path / "timing.rpt").write_text("".join(lines[:first] + lines[first + 3 :]))
    clock = read_vivado_timing(tmp_path / "timing.rpt")
    assert (clock.period_ns, clock.reached_ns) == (None, None)


def test_reports_of_two_designs_are_refused() -> None:
    with pytest.raises(
        ToolFailedError, match=r"timing\.rpt:3: is of design 'tiny_cnn' by Vivado 2023\.1, but .* 'tiny_mlp'"
    ):
        read_vivado(REPORTS / "vivado_utilization_7series.rpt", None, REPORTS / "vivado_timing.rpt")


def test_quartus_standard() -> None:
    report = read_quartus_fit(REPORTS / "quartus_standard.fit.rpt")
    assert (report.source, report.tool, report.part) == ("quartus", "Quartus Prime 20.1.1 (fitted)", "5CSEMA5F31C6")
    assert report.total == Resources(
        name="tiny_mlp", lut=2043, ff=987, dsp=3, detail={"alm": 1269, "ram_blocks": 2, "memory_bits": 6144}
    ), "an M10K is no block of 18 kbit"
    assert report.capacity == {"alm": 32_070, "ram_blocks": 397, "memory_bits": 4_065_280, "dsp": 87}
    assert report.layers == (
        Resources(name="dense1:d1", lut=1800, ff=800, dsp=3, detail={"ram_blocks": 2, "memory_bits": 6144}),
        Resources(name="relu1:r1", lut=241, ff=138, dsp=0, detail={"ram_blocks": 0, "memory_bits": 0}),
    )


def test_quartus_pro_summary() -> None:
    report = read_quartus_fit(REPORTS / "quartus_pro.fit.summary")
    assert (report.tool, report.part) == ("Quartus Prime 24.1.0 (fitted)", "AGFB014R24A2I2V")
    assert report.total == Resources(
        name="tiny_cnn", ff=10_271, dsp=0, detail={"alm": 5477, "ram_blocks": 32, "memory_bits": 524_288}
    ), "the summary does not say how many ALUTs"
    assert report.layers == ()


Reader = Callable[[Path], object]
DAMAGE: tuple[tuple[str, Reader, str, str, str], ...] = (
    # file, reader, text, its replacement, what the message must name
    ("vivado_hls_csynth.rpt", read_csynth, "== Vivado HLS Report", "== Catapult Report", "Vitis HLS Report for"),
    ("vivado_hls_csynth.rpt", read_csynth, "* Version:", "* Release:", "'Version'"),
    ("vivado_hls_csynth.rpt", read_csynth, "* Target device:", "* Device:", "'Target device'"),
    ("vivado_hls_csynth.rpt", read_csynth, "== Utilization Estimates", "== Area", "'Summary' under"),
    ("vivado_hls_csynth.rpt", read_csynth, "+ Timing:", "+ Clock:", "'Timing/Summary'"),
    ("vivado_hls_csynth.rpt", read_csynth, "|Total            |", "|Sum              |", "a row 'Total'"),
    ("vivado_hls_csynth.rpt", read_csynth, "DSP48E|   FF   ", "MULT18|   FF   ", "a column 'DSP'"),
    ("vivado_hls_csynth.rpt", read_csynth, "|     12|     710|", "|     12|", "6 cells in the row of 'Total'"),
    ("vivado_hls_csynth.rpt", read_csynth, "710|    958|", "710|  95.8k|", "a whole number, not '95.8k'"),
    ("vivado_hls_csynth.rpt", read_csynth, "126800|  63400|", "126800|      -|", "a number of available lut"),
    ("vivado_hls_csynth.rpt", read_csynth, "10.00 ns", "100 MHz ", "nanoseconds under 'Target'"),
    ("vivado_hls_csynth.rpt", read_csynth, "min | max |   Type   |", "min | Type |  max  |", "columns min max"),
    ("vivado_hls_csynth.xml", read_csynth, "</profile>", "", "well-formed XML"),
    ("vivado_hls_csynth.xml", read_csynth, "AreaEstimates>", "Area>", "<AreaEstimates/Resources>"),
    ("vivado_hls_csynth.xml", read_csynth, "LUT>", "ALM>", "elements LUT"),
    ("vivado_hls_csynth.xml", read_csynth, "DSP48E>", "MULT>", "elements DSP"),
    ("vivado_hls_csynth.xml", read_csynth, "<LUT>958", "<LUT>95.8k", ":38: expected a whole number, not '95.8k'"),
    ("vivado_hls_csynth.xml", read_csynth, "Worst-caseLatency>", "Latency>", "<Worst-caseLatency>"),
    ("vivado_hls_csynth.xml", read_csynth, ">7.125<", ">fast<", "a number, not 'fast'"),
    ("vivado_utilization_7series.rpt", read_vivado_utilization, "Slice LUTs", "Slices", "'Slice LUTs'"),
    ("vivado_utilization_7series.rpt", read_vivado_utilization, "| DSPs ", "| MULT ", "'DSPs'"),
    ("vivado_utilization_7series.rpt", read_vivado_utilization, "  1.5 ", "  1.7 ", "a multiple of 1/2"),
    ("vivado_utilization_7series.rpt", read_vivado_utilization, "Available", "Capacity ", "a column 'Available'"),
    ("vivado_utilization_7series.rpt", read_vivado_utilization, "Vivado v.", "Quartus ", "Vivado v."),
    ("vivado_utilization_7series.rpt", read_vivado_utilization, "| Device ", "| Chip   ", "'Device'"),
    ("vivado_hierarchy.rpt", read_vivado_hierarchy, "1. Utilization by", "1. Resources by", "a table under"),
    ("vivado_hierarchy.rpt", read_vivado_hierarchy, "(top) |       4321", "  top |       4321", "'(top)'"),
    ("vivado_hierarchy.rpt", read_vivado_hierarchy, "| Total LUTs |", "|       ALMs |", "a column 'Total LUTs'"),
    ("vivado_hierarchy.rpt", read_vivado_hierarchy, "|       3220 |", "|   3220(9%) |", ":27: expected a whole number"),
    ("vivado_hierarchy.rpt", read_vivado_hierarchy, "|       3220 |", "", ":27: expected 11 cells"),
    ("vivado_timing.rpt", read_vivado_timing, "| Design Timing Summary", "| Timing", "'| Design Timing Summary'"),
    ("vivado_timing.rpt", read_vivado_timing, "    WNS(ns)", "    Slack  ", "a header 'WNS(ns) ...'"),
    ("vivado_timing.rpt", read_vivado_timing, "    -------  ", "    WNS      ", "a rule under the header"),
    ("vivado_timing.rpt", read_vivado_timing, " 1.379        0.000 ", " 1.379 ", "12 numbers"),
    ("vivado_timing.rpt", read_vivado_timing, " 1.379 ", " fast ", ":49: expected a number, not 'fast'"),
    ("vivado_timing.rpt", read_vivado_timing, "| Clock Summary", "| Clocks", "'| Clock Summary'"),
    ("vivado_timing.rpt", read_vivado_timing, "{0.000 2.500}        ", "", ":62: expected a clock"),
    (
        "vivado_timing.rpt",
        read_vivado_timing,
        "200.000         \n",
        "200.000         \nother  {0.000 2.000}        4.000           250.000\n",
        ":63: expected an empty line after the one clock",
    ),
    (
        "quartus_standard.fit.rpt",
        read_quartus_fit,
        "; Fitter Summary  ",
        "; Flow Summary    ",
        "a table 'Fitter Summary'",
    ),
    (
        "quartus_standard.fit.rpt",
        read_quartus_fit,
        "; Successful -",
        "; Failed -    ",
        ":20: the fit did not succeed",
    ),
    (
        "quartus_standard.fit.rpt",
        read_quartus_fit,
        "Logic utilization (in ALMs)",
        "Total logic elements       ",
        "ALMs",
    ),
    ("quartus_standard.fit.rpt", read_quartus_fit, "1,269 / 32,070", "1,269         ", ":27: expected '<used> / <av"),
    ("quartus_standard.fit.rpt", read_quartus_fit, "; 987         ", "; 98.7        ", ":28: expected a whole number"),
    ("quartus_standard.fit.rpt", read_quartus_fit, "Total registers", "All registers  ", "'Total registers'"),
    (
        "quartus_standard.fit.rpt",
        read_quartus_fit,
        "; Fitter Resource Utilization",
        "; Utilization",
        "as the table of cont",
    ),
    (
        "quartus_standard.fit.rpt",
        read_quartus_fit,
        "Combinational ALUTs",
        "Logic Cells        ",
        "'Combinational ALUTs'",
    ),
    ("quartus_standard.fit.rpt", read_quartus_fit, "; 1800 (300) ", "; some (300) ", ":55: expected a whole number"),
    ("quartus_pro.fit.summary", read_quartus_fit, "Fitter Status :", "Flow Status :", "'Fitter Status : ...'"),
    ("quartus_pro.fit.summary", read_quartus_fit, "5,477 / 487,200", "54,77 / 487,200", ":10: expected a whole number"),
    ("quartus_pro.fit.summary", read_quartus_fit, "Device : AGF", "Chip : AGF", "a line 'Device'"),
)


@pytest.mark.parametrize(("name", "reader", "old", "new", "said"), DAMAGE)
def test_other_layouts_are_refused(tmp_path: Path, name: str, reader: Reader, old: str, new: str, said: str) -> None:
    text = (REPORTS / name).read_text(encoding="utf-8")
    if old not in text:
        pytest.fail(f"{name} does not hold {old!r}")
    damaged = tmp_path / name
    damaged.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ToolFailedError) as caught:
        reader(damaged)
    assert said in str(caught.value)
    assert f"{damaged}:" in str(caught.value)


READERS: dict[str, Reader] = {
    "csynth": read_csynth,
    "utilization": read_vivado_utilization,
    "hierarchy": read_vivado_hierarchy,
    "timing": read_vivado_timing,
    "quartus": read_quartus_fit,
}


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.rpt")), ids=lambda path: path.name)
def test_cut_short_is_refused_or_complete(tmp_path: Path, path: Path) -> None:
    """Wherever a report is cut, its numbers are whole or it is refused."""
    reader = next(reader for kind, reader in READERS.items() if kind in path.name)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = reader(path)
    cut = tmp_path / path.name
    refused = 0
    for count in range(len(lines)):
        cut.write_text("".join(lines[:count]), encoding="utf-8")
        try:
            read = reader(cut)
        except ToolFailedError:
            refused += 1
        else:
            assert read == whole
    assert refused > len(lines) // 3


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_absent_file(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        reader(tmp_path / "absent.rpt")


def test_find_reports(tmp_path: Path) -> None:
    assert find_reports(tmp_path) == ()
    folder = tmp_path / "tiny_mlp_prj" / "solution1" / "syn" / "report"
    folder.mkdir(parents=True)
    shutil.copy(REPORTS / "vivado_hls_csynth.xml", folder / "tiny_mlp_csynth.xml")
    (folder / "dense_resource_s_csynth.rpt").write_text("a submodule, not read", encoding="utf-8")
    assert [report.layers for report in find_reports(tmp_path)] == [()]
    shutil.copy(REPORTS / "vivado_hls_csynth.rpt", folder / "tiny_mlp_csynth.rpt")
    shutil.copy(REPORTS / "vivado_utilization_7series.rpt", tmp_path / "vivado_synth.rpt")
    csynth, vivado = find_reports(tmp_path)
    assert (csynth.source, len(csynth.layers), vivado.source) == ("csynth", 2, "vivado")


def test_find_what_vivado_and_quartus_leave(tmp_path: Path) -> None:
    for name, place in (("utilization_ultrascale", "utilization"), ("hierarchy", "hierarchy"), ("timing", "timing")):
        shutil.copy(REPORTS / f"vivado_{name}.rpt", tmp_path / f"{place}.rpt")
    quartus = tmp_path / "tiny-fpga.prj" / "quartus" / "output_files"
    quartus.mkdir(parents=True)
    shutil.copy(REPORTS / "quartus_pro.fit.summary", quartus / "quartus_compile.fit.summary")
    vivado, fitted = find_reports(tmp_path)
    assert (vivado.source, vivado.estimated_clock_period_ns, fitted.source) == ("vivado", 3.621, "quartus")
    shutil.copy(REPORTS / "quartus_standard.fit.rpt", quartus / "quartus_compile.fit.rpt")
    assert [len(each.layers) for each in find_reports(tmp_path)] == [2, 2], "the report says more than its summary"


def test_which_report_is_which() -> None:
    names = ("quartus_pro.fit.summary", "vivado_utilization_7series.rpt", "vivado_hls_csynth.xml")
    found = read_reports([REPORTS / name for name in names])
    assert [each.source for each in found] == ["csynth", "vivado", "quartus"]
    with pytest.raises(ToolFailedError, match=r"quartus_pro\.fit\.summary is a quartus report too"):
        read_reports([REPORTS / "quartus_pro.fit.summary", REPORTS / "quartus_standard.fit.rpt"])
    with pytest.raises(ToolFailedError, match="give the text of report_utilization"):
        read_reports([REPORTS / "vivado_timing.rpt"])
    with pytest.raises(ToolFailedError, match=r"README\.md:1: expected a csynth report"):
        read_reports([REPORTS / "README.md"])


@pytest.mark.skipif(not REAL.is_dir(), reason="no real vendor reports beside the repository (../shared/reports)")
def test_real_reports() -> None:
    rpt = read_csynth(REAL / "vivado_hls_myproject_csynth.rpt")
    xml = read_csynth(REAL / "vivado_hls_myproject_csynth.xml")
    assert (
        rpt.total
        == xml.total
        == Resources(
            name="myproject",
            lut=2532,
            ff=7969,
            dsp=73,
            bram_18k=0,
            uram=0,
            latency_cycles=10,
            initiation_interval_cycles=8,
        )
    )
    assert rpt.capacity == xml.capacity == {"lut": 53_200, "ff": 106_400, "dsp": 220, "bram_18k": 280, "uram": 0}
    assert [(layer.dsp, layer.lut, layer.latency_cycles) for layer in rpt.layers] == [(73, 2134, 7), (0, 256, 2)]
    synthesis = read_vivado_utilization(REAL / "vivado_hls_vivado_synth.rpt")
    assert synthesis.total == Resources(name="myproject", lut=1526, ff=2428, dsp=66, bram_18k=0)


NUMBERS = ("9" * 5000, "1e999", "-5.00", "1" + "0" * 13)
"""Too long for Python's integers, beyond its floats, negative, more than any chip has."""


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:8])
@pytest.mark.parametrize(
    ("name", "reader", "old", "field"),
    [
        ("vitis_hls_csynth.xml", read_csynth, "<LUT>5300<", "LUT"),
        ("vitis_hls_csynth.xml", read_csynth, "<Interval-max>110<", "Interval-max"),
        ("vitis_hls_csynth.xml", read_csynth, "<TargetClockPeriod>5.00<", "TargetClockPeriod"),
        ("vitis_hls_csynth.rpt", read_csynth, "5.00 ns|", "Target clock period"),
        ("vivado_utilization_ultrascale.rpt", read_vivado_utilization, " 4321 |", "CLB LUTs"),
        ("vivado_timing.rpt", read_vivado_timing, " 5.000  ", "Period(ns)"),
        ("quartus_pro.fit.summary", read_quartus_fit, "5,477 /", "Logic utilization (in ALMs)"),
    ],
)
def test_numbers_that_no_design_has_are_refused(
    tmp_path: Path, name: str, reader: Reader, old: str, field: str, number: str
) -> None:
    text = (REPORTS / name).read_text(encoding="utf-8")
    assert old in text
    damaged = tmp_path / name
    written = re.sub(r"[\d.,]+", number, old, count=1)
    damaged.write_text(text.replace(old, written), encoding="utf-8")
    with pytest.raises(ToolFailedError) as caught:
        reader(damaged)
    said = str(caught.value)
    assert f"{damaged}:" in said and len(said) < 400
    assert field in said or "expected" in said


def test_a_slack_may_be_negative_and_longer_than_the_period(tmp_path: Path) -> None:
    text = (REPORTS / "vivado_timing.rpt").read_text(encoding="utf-8")
    for slack, reached in (("-0.621", 5.621), ("7.000", None)):
        path = tmp_path / "timing.rpt"
        path.write_text(text.replace(" 1.379  ", f" {slack}  ", 1), encoding="utf-8")
        assert read_vivado_timing(path).reached_ns == reached


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r":1: expected a csynth report"),
        ("<profile>\n</profile>\n".encode("utf-16"), r":1: expected a csynth report"),
        (b"\xff\xfe\x00" * 100, r":1: expected a csynth report"),
        (b'<!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n<profile>\n&b;</profile>', "without a document type"),
        (b"<profile>\n" + b"<a>" * 3000, "expected well-formed XML"),
        (b"| " + b" " * 20_000 + b"\n", r":1: a line of a report has at most 10,000 characters"),
        (b"<profile>\n" * 7_000_000, "a report has at most 64 MB"),
    ],
    ids=("empty", "utf-16", "bytes", "entities", "deep", "wide", "large"),
)
def test_files_that_are_no_reports(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "csynth.xml"
    path.write_bytes(content)
    with pytest.raises((InputError, ToolFailedError), match=said):
        read_reports([path])
