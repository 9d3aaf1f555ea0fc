"""Boards that Vivado makes bitstreams for: the block design, the streams for its DMA engines, and the driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import zoo
from conftest import TESTS, Golden
from handovers import SAMPLES, handed_over, make
from nets import Net, s, u
from test_axilite import driver_of, predicted
from test_handover import SCRIPTS, needs_cocotb, needs_ghdl, needs_schema, needs_tcl, needs_verilator, two_heads
from test_readers import needs_icarus

from flow.backends.functions import functions
from flow.backends.rtl.handover.boards import BOARDS, VIVADO_BOARDS, find_board, find_vivado_board
from flow.errors import SpecError, UnsupportedError
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.parts import complete_part
from flow.project import Project, write
from flow.target import IO_TYPES, Target

pytestmark = [
    pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH"),
]
PARALLEL, STREAM = (Target(backend="rtl", io_type=io_type) for io_type in ("io_parallel", "io_stream"))


def handed(
    graph: IntGraph, target: Target = PARALLEL, board: str = "pynq-z2", tdata_bits: int | None = None
) -> Project:
    return handed_over(graph, target, board=board, tdata_bits=tdata_bits)


# ---------------------------------------------------------------------- the block design


def run_script(directory: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["tclsh", str(TESTS / "data/fake_vivado.tcl"), "calls", f"to/scripts/{script}.tcl", *arguments]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@needs_tcl
@pytest.mark.parametrize("board", VIVADO_BOARDS)
def test_the_block_design_is_whole(board: str, tmp_path: Path, golden: Golden) -> None:
    """Every command, option, cell, pin and parameter is one of Vivado's documents, and nothing is left open."""
    write(handed(two_heads(), board=board), tmp_path / "to")
    run = run_script(tmp_path, "board")
    assert run.returncode == 0, run.stderr
    calls = (tmp_path / "calls").read_text().replace(str(tmp_path / "to"), "HANDOVER")
    golden(f"scripts/handover/board_{board}.txt", calls)
    bitstream = tmp_path / "to/software/two_heads_dma"
    assert bitstream.with_suffix(".bit").exists()
    assert bitstream.with_suffix(".hwh").exists() == (not find_vivado_board(board).card)


@needs_tcl
def test_scripts_of_all_hand_overs_use_documented_commands(tmp_path: Path) -> None:
    write(handed_over(two_heads(), STREAM), tmp_path / "to")
    for script in SCRIPTS:
        if script.startswith("vivado"):
            run = run_script(tmp_path, script)
            assert run.returncode == 0, run.stderr


FAULTS = {
    "an option": ("validate_bd_design", "validate_bd_design -all", "validate_bd_design has no option -all"),
    "a command": ("save_bd_design", "store_bd_design", 'invalid command name "store_bd_design"'),
    "a pin": ("ext_reset_in", "reset_in", "has no pin reset_in"),
    "a parameter": ("c_sg_length_width", "c_length_width", "a axi_dma has no parameter c_length_width"),
    "a port of the net": ("s_axis mm2s", "in_axis mm2s", "has no intf in_axis"),
    "no clock": (" net/aclk", "", "net/aclk is open"),
    "no reset": ("{net/aresetn ", "{", "net/aresetn is open"),
    "too few ports": ("CONFIG.NUM_MI 3", "CONFIG.NUM_MI 2", "has no intf M02_AXI"),
    "too many": ("CONFIG.NUM_MI 3", "CONFIG.NUM_MI 4", "control/M03_AXI is open"),
    "another net": ("two_heads_dma:1.0", "two_heads:1.0", "not po2flow:nets:two_heads:1.0"),
    "no addresses": ("\nassign_bd_address", "\n", "no addresses"),
    "both ways": ("CONFIG.c_include_s2mm [expr {!$sends}]", "CONFIG.c_include_s2mm 1", "is open"),
}


@needs_tcl
@pytest.mark.parametrize("name", FAULTS)
def test_the_fake_finds_faults(name: str, tmp_path: Path) -> None:
    """Else it would find none in the scripts either."""
    made, (old, new, told) = blocks(), FAULTS[name]
    text = made.text("scripts/board.tcl")
    assert old in text
    write(Project(made.name, {**made.files, "scripts/board.tcl": text.replace(old, new).encode()}), tmp_path / "to")
    run = run_script(tmp_path, "board")
    assert run.returncode == 1 and told in run.stderr


MADE: list[Project] = []


def blocks() -> Project:
    """Return the hand-over for a PYNQ-Z2, made once."""
    if not MADE:
        MADE.append(handed(two_heads()))
    return MADE[0]


@needs_tcl
def test_missing_board_files_and_a_clock_too_fast_are_told(tmp_path: Path) -> None:
    write(blocks(), tmp_path / "to")
    assert (
        "Vivado has no board files of PYNQ-Z2 (*:pynq-z2:*): install" in run_script(tmp_path, "board", BOARD="").stderr
    )
    late = run_script(tmp_path, "board", "125", SLACK="-0.2")
    assert late.returncode == 1 and "at 125 MHz timing is not met" in late.stderr
    assert "PCW_FPGA0_PERIPHERAL_FREQMHZ 125" in (tmp_path / "calls").read_text()
    assert not (tmp_path / "to/software/two_heads_dma.bit").exists()


def test_boards_have_parts_and_names_of_their_own() -> None:
    assert not set(BOARDS) & set(VIVADO_BOARDS)
    for name, board in VIVADO_BOARDS.items():
        assert name == board.name and board.tdata_bits in board.widths
        complete_part(board.part)
        target = Target(backend="rtl", part=board.part)
        functions(target).check_part(target)


def test_what_a_board_has_not_is_refused() -> None:
    with pytest.raises(SpecError, match="'nexys' is not known; use one of pynq-z2, zcu102, zcu104, kv260, u250"):
        find_vivado_board("nexys")
    with pytest.raises(SpecError, match="ulx3s needs no vendor's tool; use 'flow bitstream RUN --board ulx3s'"):
        find_vivado_board("ulx3s")
    with pytest.raises(SpecError, match=r"no open tool .* zcu104; 'flow export RUN --to DIR --board zcu104' writes"):
        find_board("zcu104")
    with pytest.raises(SpecError, match="tdata_bits is 64; the engines of u250 have 512"):
        handed(two_heads(), board="u250", tdata_bits=64)
    with pytest.raises(SpecError, match="tdata_bits is 48; the engines of pynq-z2 have 32, 64, 128, 256, 512, 1024"):
        handed(two_heads(), tdata_bits=48)
    wide = lower(Net((2, 2, 300), u(4), "wide").relu().graph())
    with pytest.raises(UnsupportedError, match=r"a pixel has 1200 bits, and tdata 1024"):
        handed(wide, STREAM)
    many, names = Net((2,), u(4), "many").mark("given"), "abcd"
    for bits, name in enumerate(names, 1):
        many.back("given").requantize(s(bits)).mark(name)
    many.leave(*names).back("given").requantize(u(2))
    with pytest.raises(UnsupportedError, match="1 inputs and 5 outputs, and u250 4 of each"):
        handed(lower(many.graph()), board="u250")


# ---------------------------------------------------------------------- the streams


@needs_icarus
@needs_ghdl
def test_batches_end_where_they_should(tmp_path: Path) -> None:
    """With two outputs, of other numbers of beats, steadily, with pauses and after resets."""
    write(handed(two_heads(), STREAM), tmp_path / "to")
    said = make(tmp_path / "to", "icarus", "vhdl")
    assert f"PASS: two_heads_dma, {SAMPLES} samples; " in said


@needs_verilator
@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize("row", ["everything", "two_inputs", "two_outputs", "branch_strided"])
@pytest.mark.parametrize("target", [PARALLEL, STREAM], ids=IO_TYPES)
def test_batches_pass_everywhere(row: str, target: Target, tmp_path: Path) -> None:
    write(handed(lower(zoo.row(row)), target), tmp_path / "to")
    make(tmp_path / "to", "lint", "icarus", "verilator")


def ahead() -> IntGraph:
    """Return a net whose last result is there long before the last pixels, which it does not read."""
    net = Net((16, 5, 4), u(4), "ahead").conv(zoo.po2(2, 2, 4, 8), strides=(8, 2), padding="valid")
    return lower(net.requantize(u(5)).graph())


@needs_icarus
@pytest.mark.slow
def test_a_result_that_is_early_waits_for_the_end_of_its_sample(tmp_path: Path) -> None:
    write(handed(ahead(), STREAM), tmp_path / "to")
    assert "PASS: ahead_dma" in make(tmp_path / "to", "icarus")


BATCH = "rtl/po2flow_batch.v"
STREAM_FAULTS = {
    "an end that is forgotten": ("(ends & ~passed)", "1'b0"),
    "an end that stays": ("(ends & ~passed)", "ends"),
    "an end that does not wait": ("x_valid & x_last & whole & ends;", "1'b0;"),
    "an end a sample late": ("ending <= entered + 1", "ending <= entered + 2"),
    "an end at any beat": ("assign y_last = whole &", "assign y_last ="),
    "an end for one output": ("assign passed = ~behind[31];", "assign passed = 1'b1;"),
    "a beat that does not wait": ("known = ~whole | left != entered", "known = 1'b1"),
    "a count that stays in reset": ("            entered <= 0;\n", ""),
    "a place that stays in reset": ("            place <= 0;\n            left", "            left"),
}
QUICK = ("an end that does not wait",)


@needs_icarus
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in STREAM_FAULTS]
)
def test_the_bench_finds_faults_of_batches(name: str, tmp_path: Path) -> None:
    graph = ahead() if name == "a beat that does not wait" else two_heads()
    made, (old, new) = handed(graph, STREAM), STREAM_FAULTS[name]
    assert old in made.text(BATCH)
    faulty = {**made.files, BATCH: made.text(BATCH).replace(old, new).encode()}
    write(Project(made.name, faulty), tmp_path / "to")
    assert "FAIL" in make(tmp_path / "to", "icarus", fails=True)


@needs_schema
@pytest.mark.slow
def test_ip_xact_is_valid() -> None:
    import xmlschema

    (root,) = find_spec("pyEDAA").submodule_search_locations
    schema = xmlschema.XMLSchema(f"{root}/IPXACT/Schema/ieee-1685-2009/index.xsd")
    schema.validate(blocks().text("component.xml"))


# ---------------------------------------------------------------------- the driver


class Channel:
    """A channel of an engine whose device is the reference."""

    def __init__(self, device: Device, port: str) -> None:
        self.device, self.port, self.transferred = device, port, 0

    def transfer(self, buffer: np.ndarray) -> None:
        self.device.buffers[self.port] = buffer

    def wait(self) -> None:
        self.transferred = self.device.passed(self.port)


class Device:
    """What answers as the engines of a board would, but for `short` bytes."""

    def __init__(self, graph: IntGraph, driver: ModuleType, short: int = 0) -> None:
        self.graph, self.driver, self.short = graph, driver, short
        self.buffers = dict[str, np.ndarray]()
        self.sends, self.receives = (
            [Channel(self, tensor.port) for tensor in side.values()] for side in (driver.INPUTS, driver.OUTPUTS)
        )
        self.allocate = lambda size: np.zeros(size, np.uint8)

    def passed(self, port: str) -> int:
        outputs = {tensor.port: name for name, tensor in self.driver.OUTPUTS.items()}
        if port not in outputs:
            return len(self.buffers[port])
        codes = [tensor.unpacked(self.buffers[tensor.port]) for tensor in self.driver.INPUTS.values()]
        name = outputs[port]
        result = reference.run(self.graph, np.concatenate(codes, axis=1) if len(codes) > 1 else codes[0]).codes[name]
        self.buffers[port][:] = self.driver.OUTPUTS[name].packed(result)
        return len(self.buffers[port]) - self.short


def several() -> IntGraph:
    """Return a net of two inputs and two outputs, signed and not, of odd widths."""
    net = Net((3,), s(37, 3), "several").port("other", (2,), u(3)).mark("given")
    net.requantize(s(35, 1)).mark("far").leave("far").back("given").dense([[1, -2], [0, 8], [2, 2]]).mark("sums")
    return lower(net.merge("add", "sums", "other").requantize(s(9)).graph())


def test_the_driver_predicts_what_the_reference_does(tmp_path: Path) -> None:
    graph = several()
    driver = driver_of(handed(graph), tmp_path)
    net, driver.BATCH = driver.Net(Device(graph, driver)), 2
    x = predicted(net, graph)
    rates = net.measure({"port": x[0], "other": x[1]})
    assert rates["samples"] == 5 and 0 < rates["predict_per_s"] < rates["device_per_s"]
    with pytest.raises(ValueError, match="the inputs are port, other"):
        net.predict(x[0])
    with pytest.raises(ValueError, match="different numbers of samples"):
        net.predict({"port": x[0], "other": x[1][:4]})
    with pytest.raises(RuntimeError, match=r"40 bytes passed, not 48: load the bitstream again"):
        driver.Net(Device(graph, driver, short=8)).predict({"port": x[0], "other": x[1]})


@pytest.mark.parametrize("target", [PARALLEL, STREAM], ids=IO_TYPES)
def test_the_driver_packs_as_the_bench_does_and_plays_its_vectors(target: Target, tmp_path: Path) -> None:
    graph = two_heads()
    made = handed(graph, target, tdata_bits=32)
    write(made, tmp_path)
    driver = driver_of(made, tmp_path)
    vectors = tmp_path / "bench/vectors"
    codes = reference.run(
        graph, driver.INPUTS["port"].unpacked(np.frombuffer(beats(vectors, "s_axis"), np.uint8))
    ).codes
    for name, tensor in (driver.INPUTS | driver.OUTPUTS).items():
        assert tensor.packed(codes[name]).tobytes() == beats(vectors, tensor.port)
        assert (tensor.unpacked(tensor.packed(codes[name])) == codes[name]).all()
    net = driver.Net(Device(graph, driver))
    assert net.check(vectors) == SAMPLES
    path = vectors / f"{driver.OUTPUTS[graph.outputs[0]].port}.hex"
    lines = path.read_text().split()
    path.write_text("\n".join([*lines[:-1], f"{int(lines[-1], 16) ^ 1:08x}"]))
    with pytest.raises(RuntimeError, match=f"sample {SAMPLES - 1} of {graph.outputs[0]} differs"):
        net.check(vectors)


def beats(vectors: Path, port: str) -> bytes:
    """Return the bytes of the beats of 32 bits in a file of vectors."""
    return b"".join(int(line, 16).to_bytes(4, "little") for line in (vectors / f"{port}.hex").read_text().split())


def test_a_board_without_its_package_or_its_driver_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(RuntimeError, match=r"pynq is missing: .*www.pynq.io"):
        driver_of(blocks(), tmp_path).Net()
    card = driver_of(handed(two_heads(), board="u250"), tmp_path)
    with pytest.raises(RuntimeError, match="/dev/xdma0_h2c_0: No such file or directory; load the bitstream and"):
        card.Net()
    (tmp_path / "sent").write_bytes(b"")
    channel = card.Channel(tmp_path / "sent", os.writev, os.O_WRONLY)
    channel.transfer(np.arange(5, dtype=np.uint8))
    channel.wait()
    assert channel.transferred == 5 and (tmp_path / "sent").read_bytes() == bytes(range(5))


@needs_icarus
@needs_cocotb
@pytest.mark.slow
@pytest.mark.parametrize("target", [PARALLEL, STREAM], ids=IO_TYPES)
@pytest.mark.parametrize("row", [two_heads, several])
def test_the_driver_runs_our_verilog(row, target: Target, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(handed(row(), target), tmp_path / "to")
    assert f"PASS: {row().name}_dma under cocotb" in make(tmp_path / "to", "cocotb")
