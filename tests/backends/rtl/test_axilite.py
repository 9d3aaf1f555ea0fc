"""Registers over AXI4-Lite: the bench finds what is wrong with them; C and Python say the same as the bench."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zoo
from handovers import SAMPLES, handed_over, make
from nets import Net, s, u
from test_handover import needs_cocotb, needs_ghdl, needs_schema, needs_verilator
from test_readers import needs_icarus

from flow.backends.rtl.handover.axilite import FIRST, LitePort
from flow.errors import UnsupportedError
from flow.ir import reference
from flow.ir.fixed import Cast, Overflow, Rounding, quantize, to_values
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import Target

pytestmark = [
    pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH"),
]
PARALLEL = Target(backend="rtl", io_type="io_parallel")


def wide() -> IntGraph:
    """Return a net whose elements have more than 32 bits, or fewer, signed and not; two inputs and two outputs."""
    net = Net((3,), s(37, 3), "wide").port("other", (2,), u(3)).mark("given")
    net.requantize(s(35, 1)).mark("far").leave("far").back("given").dense([[1, -2], [0, 8], [2, 2]]).mark("sums")
    return lower(net.merge("add", "sums", "other").requantize(s(9)).graph())


def handed(graph: IntGraph, samples: int = SAMPLES) -> Project:
    return handed_over(graph, PARALLEL, samples=samples, interface="axilite")


@needs_icarus
@needs_ghdl
def test_the_bench_passes(tmp_path: Path) -> None:
    write(handed(wide()), tmp_path / "to")
    said = make(tmp_path / "to", "icarus", "vhdl")
    assert re.search(rf"PASS: wide_axilite, {SAMPLES} samples; \d cycles each; waits, strobes and resets\n", said), said


@needs_verilator
@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize("row", ["everything", "two_inputs", "two_outputs", "softmax_on_rows", "lookup_of_forty_bits"])
def test_verilator_passes(row: str, tmp_path: Path) -> None:
    write(handed(lower(zoo.row(row))), tmp_path / "to")
    make(tmp_path / "to", "lint", "icarus", "verilator")


@needs_icarus
@needs_cocotb
@pytest.mark.slow
def test_cocotb_passes(tmp_path: Path) -> None:
    write(handed(wide()), tmp_path / "to")
    assert "PASS: wide_axilite under cocotb" in make(tmp_path / "to", "cocotb")


BUS, TOP = "rtl/po2flow_axilite.v", "rtl/wide_axilite.v"
FAULTS = {
    "never idle again": (TOP, "busy ? ~finished : start", "busy | start"),
    "done too early": (TOP, "(done | finished)", "(done | go)"),
    "done for ever": (TOP, "& ~(start & ~busy);", ";"),
    "a missed start forgotten": (TOP, "start ? busy : missed", "start & busy"),
    "a start without strobe": (TOP, " && s_axi_wstrb[0]", ""),
    "no result": (TOP, "else if (finished)", "else if (missed)"),
    "results that stay": (TOP, "if (rst) m_axis_", "if (1'b0) m_axis_"),
    "a status that stays": (TOP, "if (rst) {busy", "if (1'b0) {busy"),
    "status for control": (TOP, "write_word == 10'd0 ||", "write_word <= 10'd1 ||"),
    "another net": (TOP, "32'd1 :", "32'd2 :"),
    "a sign": (BUS, "SIGNED != 0 &&", "1'b0 &&"),
    "strobes": (BUS, " && strobes[b / 8 % 4]", ""),
    "the wrong byte": (BUS, "data[b % 32 +:", "data[0 +:"),
    "another element": (BUS, "e * WORDS + b / 32", "e * WORDS"),
    "an answer that does not wait": (BUS, "write | (bvalid & ~bready)", "write"),
    "an answer that stays": (BUS, "write | (bvalid & ~bready)", "write | bvalid"),
    "data that do not wait": (BUS, "assign arready = ~rvalid;", "assign arready = 1'b1;"),
    "an address without data": (BUS, "awvalid & wvalid & ~write", "awvalid & ~write"),
    "no error": (BUS, "refused_read <= ~readable", "refused_read <= 1'b0"),
    "no error of a write": (BUS, "refused_write <= ~writable", "refused_write <= 1'b0"),
    "an end too far": (BUS, "word >= FIRST[9:0] && {1'b0, word} < END", "word >= FIRST[9:0] && {1'b0, word} <= END"),
}
QUICK = ("done for ever", "strobes")


@needs_icarus
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAULTS]
)
def test_the_bench_finds_every_fault(name: str, tmp_path: Path) -> None:
    made, (path, old, new) = handed(wide()), FAULTS[name]
    text = made.text(path)
    assert old in text
    write(Project(made.name, {**made.files, path: text.replace(old, new).encode()}), tmp_path / "to")
    assert "FAIL" in make(tmp_path / "to", "icarus", fails=True)


class Device:
    """What answers as the registers of a net would, by the reference."""

    def __init__(self, graph: IntGraph, driver: ModuleType) -> None:
        self.graph, self.driver, self.words, self.busy = graph, driver, dict[int, int](), 3
        self.words |= {8: driver.MAP, 12: driver.NET_NUMBER, 4: 1}

    def write(self, offset: int, value: int) -> None:
        assert 0 <= value < 1 << 32 and offset % 4 == 0
        self.words[offset] = value
        if offset == self.driver.CONTROL:
            self.run()

    def read(self, offset: int) -> int:
        self.busy -= 1
        return self.words[offset] if offset != self.driver.STATUS or self.busy < 0 else 0

    def run(self) -> None:
        given = {name: self.codes(tensor) for name, tensor in self.driver.INPUTS.items()}
        row = np.concatenate([given[op.name] for op in self.graph.inputs])
        result = reference.run(self.graph, row[None]).codes
        for name, tensor in self.driver.OUTPUTS.items():
            size = -(-tensor.width // 32)
            for place, code in enumerate(result[name].reshape(-1).tolist()):
                for at in range(size):
                    self.words[tensor.address + 4 * (place * size + at)] = code >> 32 * at & 0xFFFFFFFF
        self.busy = 2
        self.words[self.driver.STATUS] = 3

    def codes(self, tensor) -> np.ndarray:  # type: ignore[no-untyped-def]
        size, sign = -(-tensor.width // 32), 1 << tensor.width - 1
        words = [self.words[tensor.address + 4 * at] for at in range(size * int(np.prod(tensor.shape)))]
        raw = [sum(word << 32 * at for at, word in enumerate(words[i : i + size])) for i in range(0, len(words), size)]
        kept = [value & (1 << tensor.width) - 1 for value in raw]
        return np.array([(value ^ sign) - sign if tensor.signed else value for value in kept], np.int64)


def driver_of(made: Project, directory: Path) -> ModuleType:
    module = ModuleType("po2flow_driver")
    module.__file__ = str(directory / "software/po2flow_driver.py")
    exec(
        compile(made.text("software/po2flow_driver.py"), "po2flow_driver.py", "exec", dont_inherit=True),
        module.__dict__,
    )
    return module


def predicted(net: Any, graph: IntGraph) -> tuple[np.ndarray, np.ndarray]:
    """Hold what a driver predicts, of "port" and "other", against the reference; return the values it was given."""
    x = np.random.default_rng(1).normal(0, 30, (5, 3)), np.random.default_rng(2).uniform(-3, 12, (5, 2))
    found = net.predict({"port": x[0], "other": x[1]})
    formats = [Cast(op.format, Rounding.RND_CONV, Overflow.SAT) for op in graph.inputs]
    codes = np.concatenate([quantize(values, cast) for values, cast in zip(x, formats, strict=True)], axis=1)
    for name, expected in reference.run(graph, codes, keep=graph.outputs).codes.items():
        np.testing.assert_array_equal(found[name], to_values(expected, graph[name].format))
    return x


def test_the_driver_predicts_what_the_reference_does(tmp_path: Path) -> None:
    graph = wide()
    driver = driver_of(handed(graph), tmp_path)
    net = driver.Net(Device(graph, driver))
    x = predicted(net, graph)
    with pytest.raises(ValueError, match="NaN or infinite"):
        net.predict({"port": x[0] * np.inf, "other": x[1]})
    other = Device(graph, driver)
    other.words[12] ^= 1
    with pytest.raises(RuntimeError, match="is there, not map 1, net 0x"):
        driver.Net(other)


MAIN = """\
#include <stdio.h>
static unsigned words[1024], polls;
static unsigned po2flow_looked(volatile unsigned *address);
#define PO2FLOW_READ32(address) po2flow_looked(address)
#define PO2FLOW_WRITE32(address, value) (*(address) = (value))
#include "software/wide_axilite.h"
static unsigned po2flow_looked(volatile unsigned *address)
{
    if (address == words + 1 && ++polls == 3) words[1] = 3; /* done at the third look */
    return *address;
}
int main(void)
{
    int64_t given[3] = {-1, 5, INT64_C(-68719476736)}, far[3];
    uint32_t other[2] = {6, 7};
    int32_t near[2];
    unsigned i;
    for (i = 0; i < 8; i++) words[WIDE_AXILITE_OUTPUT_FAR / 4 + i] = i < 6 ? i + 0xFFFFFFF0u * (i % 2) : 0u - i;
    words[2] = 1, words[3] = WIDE_AXILITE_NET_NUMBER;
    if (!wide_axilite_is_there(words)) return 1;
    wide_axilite_run(words, given, other, far, near);
    for (i = 16; i < 24; i++) printf("%x ", words[i]);
    printf("%u %u %lld %lld ", words[0], polls, (long long)far[0], (long long)far[2]);
    printf("%d %d\\n", (int)near[0], (int)near[1]);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not on PATH")
def test_the_header_is_c(tmp_path: Path) -> None:
    graph = wide()
    write(handed(graph), tmp_path / "to")
    far, near = graph.outputs
    source = MAIN.replace("OUTPUT_FAR", f"OUTPUT_{far}").replace("far", far).replace("near", near)
    (tmp_path / "to/main.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], cwd=tmp_path / "to", check=True)
    said = subprocess.run(["./main"], cwd=tmp_path / "to", capture_output=True, text=True, check=True).stdout
    lows = "ffffffff ffffffff 5 0 0 fffffff0 6 7"
    assert said == f"{lows} 1 3 {-15 << 32} {4 + (-11 << 32)} -6 -7\n"


@needs_schema
@pytest.mark.slow
def test_ip_xact_is_valid_and_has_the_map() -> None:
    import xmlschema

    made = handed(wide())
    (root,) = find_spec("pyEDAA").submodule_search_locations
    schema = xmlschema.XMLSchema(f"{root}/IPXACT/Schema/ieee-1685-2009/index.xsd")
    schema.validate(made.text("component.xml"))


def test_ip_xact_header_and_readme_have_one_map() -> None:
    made = handed(wide())
    component = made.text("component.xml").replace("spirit:", "")
    pattern = r"<register>\s*<name>(\w+)</name>\s*(?:<dim>\d+</dim>\s*)?<addressOffset>0x(\w+)<"
    registers = {name: int(offset, 16) for name, offset in re.findall(pattern, component)}
    header = made.text("software/wide_axilite.h")
    assert registers == {n: int(a, 16) for n, a in re.findall(r"#define WIDE_AXILITE_(\w+) 0x(\w{3})u", header)}
    readme = re.findall(r"\| 0x(\w+) \| \w+ \| `(\w+)`", made.text("README.md"))
    assert registers == {name: int(offset, 16) for offset, name in readme}
    assert min(registers["INPUT_port"], registers["INPUT_other"]) == 4 * FIRST
    for signal, _, _ in LitePort().signals:
        assert f"<name>{signal}</name>" in component and f"{signal} :" in made.text("vhdl/wide_axilite_wrapper.vhd")


def test_what_has_no_registers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"has a register for each element.*--io-type io_parallel"):
        handed_over(wide(), Target(backend="rtl", io_type="io_stream"), interface="axilite")
    graph = lower(Net((40, 30), u(2), "many").relu().graph())
    with pytest.raises(UnsupportedError, match=r"need 2400 registers, and 'axilite' has 1008; use --interface axis"):
        handed(graph, samples=1)
