"""Synthesis by Yosys and placement by nextpnr: what is counted, what is kept, and what goes wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flow.backends.rtl.synthesis import pnr
from flow.backends.rtl.synthesis import synth as synthesis
from flow.backends.rtl.synthesis.pnr import HARNESS, device_options, harness, nextpnr, place_and_route, read_report
from flow.backends.rtl.synthesis.synth import cache_key, dsp_note, module_files, read_modules, script, synthesize
from flow.backends.yosys import scripts as yosys
from flow.backends.yosys.cells import FAMILIES, count, find_family
from flow.backends.yosys.scripts import CHILD, quoted, read_statistics, run_scripts, yosys_version
from flow.errors import EmitError, OutputError, SpecError, ToolFailedError, ToolMissingError, UnsupportedError
from flow.parts import LATTICE_PARTS, PARTS, find_device
from flow.results import ResourceReport, Resources
from flow.runs import keep, read_kept
from flow.target import Target
from flow.toolchain import run_tool

needs_yosys = pytest.mark.skipif(find_spec("pyosys") is None, reason="pyosys is not installed")
needs_nextpnr = pytest.mark.skipif(
    any(find_spec(f"yowasp_nextpnr_{name}") is None for name in ("ecp5", "ice40")), reason="nextpnr is not installed"
)
SUM = """
// sum of two bytes
module tiny_sum(input clk, input ce, input [15:0] x, output [8:0] y);
  reg [8:0] total;
  always @(posedge clk) if (ce) total <= x[7:0] + x[15:8];
  assign y = total;
endmodule
"""
KERNEL = """
module tiny_square_kernel(input clk, input ce, input [8:0] x, output [17:0] y);
  assign y = x * x;
endmodule
"""
SQUARE = """
module tiny_square(input clk, input ce, input [8:0] x, output [17:0] y);
  reg [8:0] kept;
  always @(posedge clk) if (ce) kept <= x;
  tiny_square_kernel kernel(.clk(clk), .ce(ce), .x(kept), .y(y));
endmodule
"""
TOP = """
module tiny(input aclk, input ce, input [15:0] s_axis_tdata, output [23:0] m_axis_tdata);
  wire [8:0] sum_data;
  tiny_sum sum(.clk(aclk), .ce(ce), .x(s_axis_tdata), .y(sum_data));
  tiny_square square(.clk(aclk), .ce(ce), .x(sum_data), .y(m_axis_tdata[17:0]));
  assign m_axis_tdata[23:18] = 0;
endmodule
"""
FILES = {"tiny": TOP, "tiny_sum": SUM, "tiny_square": SQUARE, "tiny_square_kernel": KERNEL}
MEMORY = """
module memory(input clk, input write, input [{a}:0] to, input [{a}:0] from, input [{d}:0] in, output reg [{d}:0] out);
  (* no_rw_check *) reg [{d}:0] words [0:{last}];
  always @(posedge clk) begin
    if (write) words[to] <= in;
    {read}
  end
  {wire}
endmodule
"""
OPS = ("sum", "square")


def write(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = directory / "rtl" / f"{name}.v"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "a project", FILES)


def memory(bits: int, words: int, *, registered: bool) -> str:
    """Return Verilog of a memory with one write and one read port."""
    address = (words - 1).bit_length()
    read = "out <= words[from];" if registered else ""
    wire = "" if registered else "always @* out = words[from];"
    return MEMORY.format(a=address - 1, d=bits - 1, last=words - 1, read=read, wire=wire)


def synthesized(directory: Path, part: str, **options: object) -> ResourceReport:
    cache = directory.parent / "synth"
    return synthesize(directory, "tiny", OPS, Target(part=part), cache, **options)  # type: ignore[arg-type]


@needs_yosys
@pytest.mark.parametrize(
    ("part", "family", "dsp"),
    [
        ("xc7z020clg400-1", "7-series", 1),
        pytest.param("xcku040", "UltraScale", 1, marks=pytest.mark.slow),
        ("xcvu13p-flga2577-2-e", "UltraScale+", 1),
        ("LFE5U-25F-6BG381C", "ECP5", 1),
        ("iCE40HX8K-CT256", "iCE40 HX", 0),
        pytest.param("iCE40LP8K", "iCE40 LP", 0, marks=pytest.mark.slow),
        ("iCE40UP5K-SG48I", "iCE40 UltraPlus", 1),
    ],
)
def test_every_family(project: Path, part: str, family: str, dsp: int) -> None:
    report = synthesized(project, part)
    assert (report.source, report.family, report.part, report.tool) == ("yosys", family, part, yosys_version())
    assert report.estimated_clock_period_ns is None and report.capacity == find_device(part).capacity()
    adder, square = report.layers
    assert (adder.name, adder.ff, adder.dsp, square.name, square.dsp) == ("sum", 9, 0, "square", dsp)
    assert adder.lut is not None and adder.lut >= 8 and adder.detail["carry"] >= 2
    assert report.total.name == "tiny" and report.total.dsp == dsp
    assert report.total.ff is not None and report.total.ff <= 18  # a DSP takes the registers before it
    assert report.total.bram_18k == (None if family.startswith("iCE40") else 0)
    assert dsp_note(report) == (f"DSPs by {yosys_version()}, per op: 'square' 1" if dsp else "")


@needs_yosys
def test_the_command_can_be_run_again(project: Path) -> None:
    report = synthesized(project, "LFE5U-25F")
    assert report.command == (
        "read_verilog rtl/tiny.v rtl/tiny_square.v rtl/tiny_square_kernel.v rtl/tiny_sum.v; synth_ecp5 -top tiny; "
        "stat -json"
    )
    said = run_tool([sys.executable, "-c", CHILD, *report.command.split("; ")], project)
    statistics = json.loads(said[said.rindex("\n{\n") : said.rindex("}") + 1])
    cells = statistics["design"]["num_cells_by_type"]
    assert count(cells, FAMILIES["ECP5"]) == {
        "lut": report.total.lut,
        "ff": report.total.ff,
        "dsp": report.total.dsp,
        "bram_18k": report.total.bram_18k,
        "uram": report.total.uram,
        **report.total.detail,
    }
    assert report.to_json()["command"] == report.command and report.to_json()["family"] == "ECP5"


def test_other_sources_have_no_command() -> None:
    entry = ResourceReport(source="static", tool="docs/estimates.md", total=Resources(name="m")).to_json()
    assert "command" not in entry and "family" not in entry


@needs_yosys
@pytest.mark.parametrize(
    ("family", "bits", "words", "registered", "expected"),
    [
        ("7-series", 18, 1024, True, {"bram_18k": 1}),
        ("UltraScale+", 36, 1024, True, {"bram_18k": 2}),
        ("ECP5", 18, 1024, True, {"bram_18k": 1}),
        ("iCE40 HX", 16, 256, True, {"bram_4k": 1, "lut": 1}),  # the LUT gates the clock enable of the read port
        ("7-series", 6, 32, False, {"lut": 4}),  # RAM32M: three LUTs to read, one more to write
        ("ECP5", 4, 16, False, {"lut": 6}),
    ],
)
def test_memories(
    tmp_path: Path, family: str, bits: int, words: int, registered: bool, expected: Mapping[str, int]
) -> None:
    directory = write(tmp_path, {"memory": memory(bits, words, registered=registered)})
    commands = script(module_files(read_modules(directory), "memory"), FAMILIES[family])
    run_scripts({"memory": (*commands, f"tee -q -o {quoted(tmp_path / 'out.json')} stat -json")}, directory)
    counted = count(read_statistics(tmp_path / "out.json"), FAMILIES[family])
    memories = {key: counted[key] for key in counted if key.startswith(("bram", "lut")) and counted[key]}
    assert memories == expected


@needs_yosys
@needs_nextpnr
def test_luts_of_ecp5_are_those_of_nextpnr(project: Path, tmp_path: Path) -> None:
    """`Total LUT4s` before packing: logic, carry, RAM, and the write ports of RAM."""
    top = TOP.replace(
        "endmodule",
        "memory m(.clk(aclk), .write(ce), .to(s_axis_tdata[3:0]), .from(s_axis_tdata[7:4]), "
        ".in(s_axis_tdata[11:8]), .out(m_axis_tdata[21:18]));\nendmodule",
    )
    top = top.replace("  assign m_axis_tdata[23:18] = 0;", "  assign m_axis_tdata[23:22] = 0;")
    write(project, {"tiny": top, "memory": memory(4, 16, registered=False)})
    report = synthesized(project, "LFE5U-25F")
    netlist = tmp_path / "netlist.json"
    run_scripts({"n": [str(report.command).split(";")[0], f"synth_ecp5 -top tiny -json {quoted(netlist)}"]}, project)
    program, _ = nextpnr("ECP5")
    options = [*device_options(find_device("LFE5U-25F"), "LFE5U-25F"), "--pack-only", "--out-of-context"]
    said = run_tool([*program, *options, "--json", netlist.name], tmp_path)
    assert f"Total LUT4s: {report.total.lut}/24288" in " ".join(said.split())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_cell_is_named(family: str) -> None:
    with pytest.raises(ToolFailedError, match=r"not counted here: 3 MYSTERY; their place is the table"):
        count({"MYSTERY": 3}, FAMILIES[family])


def test_counts_of_a_cell_add_up() -> None:
    cells = {"LUT6": 2, "SRL16E": 3, "RAM32M": 1, "RAMB36E2": 2, "RAMB18E2": 1, "FDRE": 5, "MUXF7": 9, "URAM288": 1}
    assert count(cells, FAMILIES["UltraScale+"]) == {
        "lut": 9,
        "ff": 5,
        "dsp": 0,
        "carry": 0,
        "uram": 1,
        "bram_18k": 5,
    }


def test_every_part_has_a_family() -> None:
    assert {part.family for part in (*PARTS, *LATTICE_PARTS)} == set(FAMILIES)
    with pytest.raises(UnsupportedError, match="family 'Agilex' is not supported; use one of 7-series"):
        find_family("Agilex")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the names of the modules of each call that runs Yosys."""
    calls: list[list[str]] = []
    real = synthesis.run_scripts

    def counted(scripts: Mapping[str, yosys.Script], *rest: object) -> None:
        calls.append(list(scripts))
        real(scripts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(synthesis, "run_scripts", counted)
    return calls


@needs_yosys
def test_nothing_is_done_twice(project: Path, runs: list[list[str]]) -> None:
    said: list[tuple[Any, ...]] = []
    first = synthesized(project, "LFE5U-25F", announce=lambda *words: said.append(words))
    assert sorted(words for words, _, _ in said) == [
        "synthesized tiny",
        "synthesized tiny_square",
        "synthesized tiny_sum",
    ]
    assert [(done, of) for _, done, of in said] == [(1, 3), (2, 3), (3, 3)]
    assert synthesized(project, "LFE5U-25F").to_json() == first.to_json()
    write(project, {"tiny_square_kernel": KERNEL.replace("x * x", "x + x")})
    again = synthesized(project, "LFE5U-25F")
    assert again.layers[0] == first.layers[0] and again.layers[1].dsp == 0
    (project.parent / "synth" / "tiny_sum.json").write_text("{")
    synthesized(project, "LFE5U-25F")
    synthesized(project, "iCE40HX1K")
    everything = ["tiny", "tiny_sum", "tiny_square"]
    assert runs == [everything, [], ["tiny", "tiny_square"], ["tiny_sum"], everything]


@needs_yosys
def test_an_interrupted_run_goes_on(project: Path, runs: list[list[str]]) -> None:
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesized(project, "LFE5U-25F", announce=interrupt)
    (kept,) = (path.stem for path in (project.parent / "synth").iterdir())
    synthesized(project, "LFE5U-25F")
    assert runs[1] == [name for name in runs[0] if name != kept]


@needs_yosys
def test_what_goes_wrong(project: Path) -> None:
    with pytest.raises(SpecError, match=r"part 'xc9' is not known.*of Lattice iCE40LP1K"):
        synthesized(project, "xc9")
    with pytest.raises(EmitError, match=r"no module 'tiny_pool' below rtl/; it has: tiny, tiny_square"):
        synthesize(project, "tiny", ["pool"], Target(), project.parent / "synth")
    with pytest.raises(ToolFailedError, match=r"Yosys: tiny: \S+ took longer than 0\.1 s"):
        synthesized(project, "LFE5U-25F", timeout_s=0.1)
    (project.parent / "synth").write_text("in the way")
    with pytest.raises(OutputError, match=r"synth.*cannot be written"):
        synthesized(project, "LFE5U-25F")
    write(project, {"tiny_sum": SUM.replace("posedge", "possedge")})
    with pytest.raises(ToolFailedError, match=r"Yosys: tiny\w*: python\S* failed with status 1 .*(?s:.*)ERROR: syntax"):
        synthesized(project, "LFE5U-25F")


def test_cells_that_are_not_counted_are_named_with_the_module(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "yosys_version", lambda: "Yosys")
    cache = project.parent / "synth"
    for module in ("tiny", "tiny_sum", "tiny_square"):
        of = module_files(read_modules(project), module)
        key = cache_key(of, script(of, FAMILIES["ECP5"]))
        keep(cache / f"{module}.json", key, {"EHXPLLL": 1} if module == "tiny" else {})
    monkeypatch.setattr(synthesis, "run_scripts", lambda *arguments: None)
    with pytest.raises(ToolFailedError, match="tiny: Yosys left cells that are not counted here: 1 EHXPLLL"):
        synthesized(project, "LFE5U-25F")


@pytest.mark.parametrize("text", [None, "", "[]", '{"design": {}}', '{"design": {"num_cells_by_type": [1]}}'])
def test_statistics_that_cannot_be_read(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(ToolFailedError, match=r"no readable statistics in tiny\.json"):
        read_statistics(tmp_path / "tiny.json")


def test_files_that_a_module_needs(project: Path) -> None:
    verilog = read_modules(project)
    square = module_files(verilog, "tiny_square")
    assert square.files == ("rtl/tiny_square.v", "rtl/tiny_square_kernel.v")
    assert module_files(verilog, "tiny_sum").files == ("rtl/tiny_sum.v",)
    write(project, {"tiny_square_kernel": KERNEL + "\n"})
    assert module_files(read_modules(project), "tiny_square").digest != square.digest


def test_kept_results(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    keep(path, "key", {"LUT4": 1})
    assert read_kept(path, "key") == {"LUT4": 1} and read_kept(path, "other") is None
    assert [item.name for item in path.parent.iterdir()] == ["a.json"]
    path.write_text("[]")
    assert read_kept(path, "key") is None


def test_yosys_is_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(yosys, "version", missing)
    with pytest.raises(ToolMissingError, match=r"Yosys is not installed; pip install 'po2flow\[rtl\]'"):
        synthesized(project, "LFE5U-25F")


@needs_yosys
@needs_nextpnr
@pytest.mark.parametrize("part", ["LFE5U-25F-7BG381C", "iCE40HX8K-CT256", "iCE40UP5K"])
def test_the_clock_that_is_reached(project: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, cache, said = Target(part=part), project.parent / "synth", list[str]()
    report = place_and_route(project, "tiny", target, cache, announce=lambda words, *_: said.append(words))
    assert (report.source, report.part, report.family) == ("nextpnr", part, find_device(part).family)
    assert report.tool.startswith("nextpnr") and str(report.command).startswith("nextpnr-")
    assert report.estimated_clock_period_ns is not None and 1 < report.estimated_clock_period_ns < 50
    assert report.total.detail["harness_ff"] == 1 + 16 + 24
    if report.family == "ECP5":
        assert report.total.ff == 41 + 18 and report.total.dsp == 1
    else:
        assert report.total.ff is None and report.total.detail["icestorm_lc"] > 41
    assert said == ["synthesizing tiny for nextpnr", "placing and routing tiny"]
    monkeypatch.setattr(pnr, "run_pool", None)
    assert place_and_route(project, "tiny", target, cache).to_json() == report.to_json()


@needs_yosys
@needs_nextpnr
def test_a_design_that_does_not_fit(project: Path) -> None:
    chain = "  reg [4000:0] chain;\n  always @(posedge aclk) chain <= {chain, ce};\nendmodule"
    wide = TOP.replace("m_axis_tdata[23:18] = 0", "m_axis_tdata[23:18] = chain[4000]").replace("endmodule", chain)
    write(project, {"tiny": wide})
    with pytest.raises(ToolFailedError, match=r"nextpnr: .*(?s:.*)ERROR: "):
        place_and_route(project, "tiny", Target(part="iCE40HX1K"), project.parent / "synth")


def test_families_without_nextpnr(project: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"family '7-series' is not supported: nextpnr places ECP5, iCE40 HX"):
        place_and_route(project, "tiny", Target(part="xc7z020"), project.parent / "synth")


def test_nextpnr_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pnr, "find_spec", lambda name: None)
    with pytest.raises(ToolMissingError, match="'nextpnr-ice40' is neither on PATH nor installed; pip install yowasp-"):
        nextpnr("iCE40 HX")
    native = tmp_path / "nextpnr-ice40"
    native.write_text("#!/bin/sh\necho 'nextpnr-ice40 -- Next Generation Place and Route (Version 0.7)'\n")
    native.chmod(0o755)
    assert nextpnr("iCE40 HX") == (
        [str(native)],
        "nextpnr-ice40 -- Next Generation Place and Route (Version 0.7)",
    )


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("LFE5U-45F-6BG381C", "--45k --package CABGA381 --speed 6"),
        ("LFE5UM5G-85F-8BG756I", "--um5g-85k --package CABGA756 --speed 8"),
        ("LFE5UM-25F-7MG285C", "--um-25k --package CSFBGA285 --speed 7"),
        ("lfe5u-25f", "--25k --package CABGA381 --speed 6"),
        ("iCE40HX8K-CT256", "--hx8k --package ct256"),
        ("iCE40HX1K", "--hx1k --package tq144"),
        ("iCE40LP1K", "--lp1k --package cm121"),
        ("iCE40LP8K-CM81", "--lp8k --package cm81"),
        ("iCE40UP5K-SG48I", "--up5k --package sg48"),
    ],
)
def test_options_of_a_part(part: str, options: str) -> None:
    assert " ".join(device_options(find_device(part), part)) == options


def test_a_package_that_is_not_known() -> None:
    with pytest.raises(UnsupportedError, match=r"package of part 'LFE5U-25F-6UWG49' is not known; known: bg, mg, tg"):
        device_options(find_device("LFE5U-25F"), "LFE5U-25F-6UWG49")


def test_the_harness_connects_every_port() -> None:
    bits = {"aclk": ("input", 1), "x": ("input", 3), "valid": ("input", 1), "y": ("output", 2)}
    ports = {name: {"direction": direction, "bits": [0] * width} for name, (direction, width) in bits.items()}
    text, flip_flops = harness("m", ports)
    assert flip_flops == 6 and text.startswith(f"module {HARNESS}(input clk, input load, input si, output so);")
    assert "  m top(.aclk(clk), .x(fed[0 +: 3]), .valid(fed[3 +: 1]), .y(taken[0 +: 2]));" in text.splitlines()


@pytest.mark.parametrize(
    "text", [None, "{", '{"fmax": {}, "utilization": {}}', '{"fmax": {"a": {"achieved": 1}, "b": {}}}']
)
def test_a_report_that_cannot_be_read(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(ToolFailedError, match=r"no readable report of one clock in report\.json"):
        read_report(tmp_path / "report.json")
