"""Pictures of waveforms: what `bench/waves.py` of a hand-over draws of the VCD file of its bench."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from handovers import handed_over, make
from test_axilite import wide
from test_handover import two_heads
from test_readers import needs_icarus

from flow.backends.rtl.handover.interface import ROOM
from flow.backends.templating import filled
from flow.ir.passes import lower
from flow.project import write
from flow.target import Target

HEAD = """\
$timescale 1ps $end
$scope module n_bench $end
$var reg 1 ! aclk $end
$var wire 1 % s_axis_tvalid $end
$scope module dut $end
$var wire 1 ! aclk $end
$var wire 1 " s_axis_tvalid $end
$var wire 12 # s_axis_tdata [11:0] $end
$var wire 1 $ m_axis_tvalid $end
$scope module net $end
$var wire 1 % s_axis_tvalid $end
$upscope $end
$upscope $end
$upscope $end
$enddefinitions $end
#0
$dumpvars
0!
0"
bx #
0$
1%
$end
"""
RESULT = '    "m_axis_tvalid": 1,\n'
SIGNALS = {"s_axis_tdata": True, "s_axis_tvalid": True, "m_axis_tvalid": False}


def dumped(changes: dict[int, str], cycles: int) -> str:
    """Return a VCD file with a cycle every 10 ps; signals change with its rising edge."""
    parts = [HEAD]
    for cycle in range(cycles):
        parts.append(f"#{10 * cycle + 5}\n1!\n{changes.get(cycle, '')}#{10 * cycle + 10}\n0!\n")
    return "".join(parts)


def drawn(directory: Path, changes: dict[int, str], cycles: int, *arguments: str) -> str:
    (directory / "build").mkdir(exist_ok=True)
    (directory / "build/n.vcd").write_text(dumped(changes, cycles))
    signals = "".join(f'    "{name}": {read},\n' for name, read in SIGNALS.items())
    (directory / "waves.py").write_text(filled(ROOM, "waves.py", {"TOP": "n", "SIGNALS": signals, "RESULT": RESULT}))
    run = subprocess.run([sys.executable, "waves.py", *arguments], cwd=directory, capture_output=True, text=True)
    if run.returncode:
        return run.stderr
    return (directory / "build/waves.svg").read_text()


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]


ENTER, LEAVE = '1"\nb10110 #\n', '0"\nbx #\n1$\n'


def test_a_picture_shows_what_each_cycle_ends_with(tmp_path: Path) -> None:
    """Words have the zeros that a VCD file leaves out; what is unknown is a box; the latency is told."""
    picture = drawn(tmp_path, {4: ENTER, 7: LEAVE}, 16)
    told = texts(picture)
    assert "3 cycles" in told and "016" in told
    assert [word for word in told if word.isdigit() and len(word) < 3] == [str(cycle) for cycle in range(2, 13)]
    assert picture.count('<rect class="unknown"') == 2
    window = texts(drawn(tmp_path, {4: ENTER, 7: LEAVE}, 16, "--from", "6", "--cycles", "2"))
    assert window.count("016") == 1 and "3 cycles" not in window and "6" in window and "8" not in window


def test_the_middle_of_a_long_way_is_left_out(tmp_path: Path) -> None:
    told = texts(drawn(tmp_path, {4: ENTER, 70: LEAVE}, 90))
    assert "66 cycles" in told and "..." in told and "40" not in told


def test_a_file_without_samples_is_told(tmp_path: Path) -> None:
    assert "nothing enters in" in drawn(tmp_path, {}, 20)
    assert "n.vcd ends before cycle 50" in drawn(tmp_path, {4: ENTER}, 20, "--from", "50")


@needs_icarus
@pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("interface", "bits", "board"),
    [("axis", None, None), ("fixed", None, None), ("axilite", None, None), ("axis", 64, None), ("axis", None, "kv260")],
)
def test_every_bench_leaves_a_picture(interface: str, bits: int | None, board: str | None, tmp_path: Path) -> None:
    graph = wide() if interface == "axilite" else lower(two_heads())
    target = Target(backend="rtl", io_type="io_stream" if interface == "axis" else "io_parallel")
    made = handed_over(graph, target, interface=interface, tdata_bits=bits, board=board)
    if interface == "fixed":
        name = f"bench/{graph.name}_fixed_bench.sv"
        made.files[name] = made.files[name].replace(b"100000", b"300")
    write(made, tmp_path)
    assert "PASS" in make(tmp_path, "waves")
    told = texts((tmp_path / "bench/build/waves.svg").read_text())
    latency = re.search(r"latency (\d+)|each after (\d+)", (tmp_path / "bench/build/icarus.log").read_text())
    if latency is not None:
        assert f"{latency[1] or latency[2]} cycles" in told
