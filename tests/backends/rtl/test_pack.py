"""AXI-Stream of a width that is asked for: several elements or pixels a beat, or a sample in several beats."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import zoo
from handovers import SAMPLES, handed_over, make
from nets import Net, s, u
from test_handover import needs_cocotb, needs_verilator, two_heads
from test_readers import needs_icarus

from flow.backends.rtl.handover.pack import _packing
from flow.backends.rtl.handover.ports import ports
from flow.errors import SpecError, UnsupportedError
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import Target

pytestmark = [
    pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH"),
]
PARALLEL, STREAM = (Target(backend="rtl", io_type=io_type) for io_type in ("io_parallel", "io_stream"))


def frames() -> IntGraph:
    """Return a net of 15 pixels of 3 elements in, and of 2 elements out: neither fills its beats."""
    net = Net((5, 3, 3), s(4), "frames").conv(zoo.po2(3, 3, 3, 2), padding="same")
    return lower(net.requantize(u(5)).graph())


@needs_icarus
@pytest.mark.parametrize(
    ("graph", "target", "bits"),
    [
        (frames, STREAM, 48),
        pytest.param(frames, STREAM, 16, marks=pytest.mark.slow),
        pytest.param(frames, PARALLEL, 32, marks=pytest.mark.slow),
        pytest.param(frames, PARALLEL, 512, marks=pytest.mark.slow),
        (two_heads, STREAM, 16),
        pytest.param(two_heads, STREAM, 128, marks=pytest.mark.slow),
        pytest.param(two_heads, PARALLEL, 64, marks=pytest.mark.slow),
        pytest.param(lambda: lower(zoo.row("two_inputs")), PARALLEL, 8, marks=pytest.mark.slow),
    ],
)
def test_a_packed_net_gives_the_same(graph, target: Target, bits: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    net = graph()
    write(handed_over(net, target, tdata_bits=bits), tmp_path / "to")
    assert f"PASS: {net.name}_packed, {SAMPLES} samples; " in make(tmp_path / "to", "icarus")


@needs_verilator
@needs_cocotb
@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize(("target", "bits"), [(STREAM, 16), (PARALLEL, 64)])
def test_a_packed_net_passes_everywhere(target: Target, bits: int, tmp_path: Path) -> None:
    write(handed_over(two_heads(), target, tdata_bits=bits), tmp_path / "to")
    said = make(tmp_path / "to", "lint", "verilator", "vhdl", "cocotb")
    assert "PASS: two_heads_packed, " in said and "PASS: two_heads_packed under cocotb" in said


BUBBLE = "a bubble"
FAULTS = {
    "a rest that is not zero": ("if (index == 0) held <= 0;\n", "\n"),
    "the other order": ("held[index*WIDTH +: WIDTH]", "held[(WORDS-1-index)*WIDTH +: WIDTH]"),
    "a sample that does not begin afresh": ("ends = last | index ==", "ends = index =="),
    "a split that does not begin afresh": ("ends = y_last | index ==", "ends = index =="),
    "a last beat too early": ("y_last <= last", "y_last <= 1'b1"),
    "a word taken too early": ("~full | (y_ready & ends)", "~full | y_ready"),
    "a collected word overwritten": ("x_ready = ~full | y_ready", "x_ready = 1'b1"),
    BUBBLE: ("x_ready = ~full | y_ready", "x_ready = ~full"),
    "a bubble of a split": ("~full | (y_ready & ends)", "~full"),
    "a place that stays in reset": ("full <= 0;\n            place <= 0;", "full <= 0;"),
    "an index that stays in reset": ("            index <= 0;\n        end else", "        end else"),
}


@needs_icarus
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == BUBBLE else pytest.mark.slow) for name in FAULTS]
)
def test_the_bench_finds_every_fault(name: str, tmp_path: Path) -> None:
    """In a stream whose samples fill the last beat of neither side; or with a sample in every cycle."""
    old, new = FAULTS[name]
    target, bits = (PARALLEL, 1024) if name == BUBBLE else (STREAM, 48)
    made, path = handed_over(frames(), target, tdata_bits=bits), "rtl/po2flow_pack.v"
    assert old in made.text(path)
    write(Project(made.name, {**made.files, path: made.text(path).replace(old, new).encode()}), tmp_path / "to")
    assert "FAIL" in make(tmp_path / "to", "icarus", fails=True)


def test_a_beat_holds_as_many_elements_as_fit() -> None:
    shapes = {
        (bits, target.io_type): [
            (each.outer.elements, each.outer.beats, each.cycles)
            for each in (_packing(port, bits) for port in ports(frames(), target.io_type))
        ]
        for bits, target in ((48, STREAM), (16, STREAM), (48, PARALLEL), (1024, PARALLEL))
    }
    assert shapes == {
        (48, "io_stream"): [(12, 4, 1), (8, 4, 1)],
        (16, "io_stream"): [(3, 15, 1), (2, 15, 1)],
        (48, "io_parallel"): [(12, 4, 4), (9, 4, 4)],
        (1024, "io_parallel"): [(45, 1, 1), (30, 1, 1)],
    }


def test_what_does_not_fit_a_beat_is_refused() -> None:
    for bits in (0, 12, 4104):
        with pytest.raises(SpecError, match=f"tdata_bits is {bits}; expected whole bytes"):
            handed_over(frames(), STREAM, tdata_bits=bits)
    with pytest.raises(UnsupportedError, match=r"'s_axis' \('port'\): a pixel has 12 bits, and tdata 8; .* 16 or more"):
        handed_over(frames(), STREAM, tdata_bits=8)
    with pytest.raises(UnsupportedError, match=r"an element has 40 bits, and tdata 32; use --tdata-bits 40 or more"):
        handed_over(lower(zoo.row("lookup_of_forty_bits")), PARALLEL, tdata_bits=32)
