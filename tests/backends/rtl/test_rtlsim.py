"""RTL simulation: what passes between ops and leaves the ports, how long it takes, and what is wrong with a design."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import zoo
from conftest import needs_compiler
from nets import Net, inputs, s, u

from flow.backends.rtl.simulation import rtlsim
from flow.backends.rtl.simulation.elaboration import KINDS
from flow.backends.rtl.simulation.rtlsim import RtlProgram, RtlRun, compile_rtl, run_rtl
from flow.backends.yosys import scripts as yosys
from flow.errors import EmitError, OutputError, ToolFailedError, ToolMissingError
from flow.ir import reference
from flow.ir.fixed import Cast, Codes, Constant
from flow.ir.graph import Dense, IntGraph
from flow.ir.passes import lower
from flow.project import Project, write
from flow.target import Target

needs_yosys = pytest.mark.skipif(find_spec("pyosys") is None, reason="pyosys is not installed")
needs_alkaid = pytest.mark.skipif(find_spec("alkaid") is None, reason="alkaid is not installed")
pytestmark = [needs_compiler, needs_yosys]

WHOLE = Net((2,), u(4), "tiny").dense([[1, 0], [2, -1]]).relu().graph()
WHOLE_VERILOG = """
module tiny_dense_1(input clk, input ce, input [7:0] x, output [13:0] y);
    reg signed [6:0] first, second;
    always @(posedge clk) if (ce) begin
        first <= x[3:0] + 2 * x[7:4];
        second <= -$signed({1'b0, x[7:4]});
    end
    assign y = {second, first};
endmodule

module tiny_relu_2(input clk, input ce, input [13:0] x, output reg [11:0] y);
    always @(posedge clk) if (ce) y <= {x[13] ? 6'd0 : x[12:7], x[6] ? 6'd0 : x[5:0]};
endmodule

module tiny(
    input aclk, input aresetn,
    input [7:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
    output [15:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast
);
    wire [7:0] port_data = s_axis_tdata;
    wire [13:0] dense_1_data;
    wire [11:0] relu_2_data;
    reg dense_1_valid, relu_2_valid;
    wire ce = ~relu_2_valid | m_axis_tready;
    wire port_valid = s_axis_tvalid, port_ready = ce, dense_1_ready = ce, relu_2_ready = ce;
    tiny_dense_1 dense_1 (aclk, ce, port_data, dense_1_data);
    tiny_relu_2 relu_2 (aclk, ce, dense_1_data, relu_2_data);
    always @(posedge aclk)
        if (~aresetn) {dense_1_valid, relu_2_valid} <= 0;
        else if (ce) {dense_1_valid, relu_2_valid} <= {port_valid, dense_1_valid};
    assign s_axis_tready = ce;
    assign m_axis_tdata = {4'd0, relu_2_data};
    assign m_axis_tvalid = relu_2_valid;
    assign m_axis_tlast = 1'b1;
endmodule
"""
STREAM = Net((3, 2), s(4), "stream").relu().graph()
STREAM_VERILOG = """
module stream_relu_1(
    input clk, input rst, input [7:0] x_data, input x_valid, output x_ready,
    output reg [5:0] y_data, output reg y_valid, input y_ready
);
    assign x_ready = ~y_valid | y_ready;
    always @(posedge clk) begin
        if (x_ready) y_data <= {x_data[7] ? 3'd0 : x_data[6:4], x_data[3] ? 3'd0 : x_data[2:0]};
        if (rst) y_valid <= 0;
        else if (~y_valid | y_ready) y_valid <= x_valid & x_ready;
    end
endmodule

module stream(
    input aclk, input aresetn,
    input [7:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
    output [7:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast
);
    wire [7:0] port_data = s_axis_tdata;
    wire port_valid = s_axis_tvalid, port_ready;
    wire [5:0] relu_1_data;
    wire relu_1_valid, relu_1_ready = m_axis_tready;
    stream_relu_1 relu_1 (
        aclk, ~aresetn, port_data, port_valid, port_ready, relu_1_data, relu_1_valid, relu_1_ready
    );
    reg [1:0] word;
    always @(posedge aclk)
        if (~aresetn) word <= 0;
        else if (m_axis_tvalid & m_axis_tready) word <= m_axis_tlast ? 0 : word + 1;
    assign s_axis_tready = port_ready;
    assign m_axis_tdata = {2'b11, relu_1_data};
    assign m_axis_tvalid = relu_1_valid;
    assign m_axis_tlast = word == 2;
endmodule
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rtlsim")


def built(verilog: str, graph: IntGraph, io_type: str, tmp_path: Path, cache: Path) -> RtlProgram:
    write(Project(graph.name, {"rtl/design.v": verilog.encode()}), tmp_path / "project")
    return compile_rtl(tmp_path / "project", graph, io_type, cache)


def whole(tmp_path: Path, cache: Path, old: str = "", new: str = "") -> RtlProgram:
    assert old in WHOLE_VERILOG
    return built(WHOLE_VERILOG.replace(old, new) if old else WHOLE_VERILOG, WHOLE, "io_parallel", tmp_path, cache)


def stream(tmp_path: Path, cache: Path, old: str = "", new: str = "") -> RtlProgram:
    assert old in STREAM_VERILOG
    return built(STREAM_VERILOG.replace(old, new) if old else STREAM_VERILOG, STREAM, "io_stream", tmp_path, cache)


def assert_equal(run: RtlRun, graph: IntGraph, codes: Codes) -> None:
    expected = reference.run(graph, codes)
    assert run.level == "rtlsim" and list(run.codes) == [op.name for op in graph.ops]
    for op in graph.ops:
        assert np.array_equal(run.codes[op.name], expected.codes[op.name]), op.name
        assert run.codes[op.name].dtype == expected.codes[op.name].dtype


@pytest.mark.parametrize("samples", [1, 2, 15, 300])
@pytest.mark.parametrize("stalls", [None, 0, 7])
def test_samples_in_one_beat(samples: int, stalls: int | None, tmp_path: Path, cache: Path) -> None:
    codes = inputs(WHOLE, 300)[:samples]
    run = run_rtl(whole(tmp_path, cache), WHOLE, codes, stalls=stalls)
    assert_equal(run, WHOLE, codes)
    expected = (2, 1 if samples > 1 else None) if stalls is None else (None, None)
    assert (run.latency_cycles, run.initiation_interval_cycles) == expected


@pytest.mark.parametrize("samples", [1, 2, 15, 300])
@pytest.mark.parametrize("stalls", [None, 0, 7])
def test_samples_pixel_by_pixel(samples: int, stalls: int | None, tmp_path: Path, cache: Path) -> None:
    codes = inputs(STREAM, 300)[:samples]
    run = run_rtl(stream(tmp_path, cache), STREAM, codes, stalls=stalls)
    assert_equal(run, STREAM, codes)
    expected = (3, 3 if samples > 1 else None) if stalls is None else (None, None)
    assert (run.latency_cycles, run.initiation_interval_cycles) == expected


def test_stalls_come_from_the_seed(tmp_path: Path, cache: Path) -> None:
    program, codes = stream(tmp_path, cache), inputs(STREAM, 40)
    cycles = [run_rtl(program, STREAM, codes, stalls=seed).cycles for seed in (3, 3, 4, 5, 6, None)]
    assert cycles[0] == cycles[1] and len(set(cycles[1:5])) > 1 and cycles[5] < min(cycles[:5])


def test_toggles_are_the_bits_that_change(tmp_path: Path, cache: Path) -> None:
    program, codes = whole(tmp_path, cache), inputs(WHOLE, 8)[:8]
    run = run_rtl(program, WHOLE, codes, toggles=True)
    kept = np.concatenate([np.zeros((1, 2), np.int64), run.codes["dense_1"]]) & 0x7F
    out = np.concatenate([np.zeros((1, 2), np.int64), run.codes["relu_2"]])
    assert run.toggles == {"port": 0, "dense_1": _flips(kept), "relu_2": _flips(out)}
    assert run_rtl(program, WHOLE, codes).toggles == {}


def _flips(codes: Codes) -> int:
    return sum(int(x).bit_count() for x in (codes[1:] ^ codes[:-1]).reshape(-1))


def test_a_wrong_op_is_seen_where_it_is_wrong(tmp_path: Path, cache: Path) -> None:
    codes = inputs(WHOLE, 50)
    run = run_rtl(whole(tmp_path, cache, "2 * x[7:4]", "3 * x[7:4]"), WHOLE, codes)
    expected = reference.run(WHOLE, codes)
    differ = [op.name for op in WHOLE.ops if not np.array_equal(run.codes[op.name], expected.codes[op.name])]
    assert differ == ["dense_1", "relu_2"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "m_axis_tlast = 1'b1",
            "m_axis_tlast = relu_2_data[0]",
            "output 'relu_2': beat .* has the wrong tlast in cycle",
        ),
        ("{4'd0, relu_2_data}", "{4'd0, ~relu_2_data}", "output 'relu_2' leaves its port with code 6.* the op with"),
        ("tvalid = relu_2_valid", "tvalid = relu_2_valid & m_axis_tready", None),
        ("tvalid = relu_2_valid", "tvalid = relu_2_valid & ce & dense_1_data[0]", "nothing passes any more"),
        (
            "tdata = {4'd0, relu_2_data}",
            "tdata = {4'd0, relu_2_data} ^ m_axis_tready",
            "changes tvalid, tdata or tlast",
        ),
        (
            "dense_1_ready = ce",
            "dense_1_ready = ce & ~relu_2_data[0]",
            "nothing passes any more .*: 'port' waits for its",
        ),
        ("dense_1_ready = ce", "dense_1_ready = 1'b1", "op 'dense_1' passes more than its .* words in cycle"),
        ("wire ce = ~relu_2_valid | m_axis_tready", "wire ce = 0", "'port' waits for its readers after 0 words"),
        ("{port_valid, dense_1_valid}", "{1'b1, dense_1_valid}", "op 'dense_1' passes more than its"),
        ("{port_valid, dense_1_valid}", "{port_valid, 1'b0}", "'relu_2' waits for its inputs after 0 words"),
    ],
)
def test_faults_of_a_design(old: str, new: str, message: str | None, tmp_path: Path, cache: Path) -> None:
    program, codes = whole(tmp_path, cache, old, new), inputs(WHOLE, 64)
    if message is None:
        run_rtl(program, WHOLE, codes, stalls=1, patience_cycles=300)
        return
    with pytest.raises(EmitError, match=message):
        run_rtl(program, WHOLE, codes, stalls=1, patience_cycles=300)


def test_beats_beyond_the_last_one(tmp_path: Path, cache: Path) -> None:
    program = stream(tmp_path, cache, "m_axis_tvalid = relu_1_valid", "m_axis_tvalid = relu_1_valid | ~s_axis_tvalid")
    with pytest.raises(EmitError, match="output 'relu_1': beat 24 leaves although it is one too many in cycle"):
        run_rtl(program, STREAM, inputs(STREAM, 8)[:8])


def test_a_stuck_stream_names_who_waits(tmp_path: Path, cache: Path) -> None:
    program = stream(tmp_path, cache, "x_ready = ~y_valid | y_ready", "x_ready = ~x_data[0] & (~y_valid | y_ready)")
    codes = np.zeros((8, 3, 2), np.int64)
    codes[4, 1, 0] = 1
    said = "cycle .* of the simulation that began with sample 0: 'port' waits for its readers after 13 words; "
    with pytest.raises(EmitError, match=f"{said}'relu_1' waits for its inputs after 13 words"):
        run_rtl(program, STREAM, codes, patience_cycles=100)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("dense_1_valid", "dense_1_holds", "the top module has no wire 'dense_1_valid'"),
        ("[13:0]", "[14:0]", "wire 'dense_1_data' of the top module has 15 bits, not 14"),
        ("output [15:0] m_axis_tdata", "output [16:0] m_axis_tdata", "wire 'm_axis_tdata' .* has 17 bits, not 12"),
        ("port_ready = ce", "port_ready", "wire 'port_ready' is driven by nothing"),
        ("assign s_axis_tready", "assign ce = m_axis_tready & aresetn;\n    assign s_axis_tready", "is driven twice"),
        ("wire ce = ~relu_2_valid", "wire ce = ~ce", "wires depend on each other without a register: "),
        ("always @(posedge aclk)", "always @(negedge aclk)", "does not follow the rising edge of aclk alone"),
        ("always @(posedge aclk)", "always @(posedge s_axis_tvalid)", "does not follow the rising edge of aclk alone"),
        ("always @(posedge clk) if (ce) y <=", "always @* if (ce) y <=", "of kind \\$adlatch cannot be simulated"),
        ("y = {second, first}", "y = {64'd0, x} + {56'd3, x, x}", "\\$add of 72 bits cannot be simulated, only of 64"),
    ],
)
def test_designs_that_cannot_be_simulated(old: str, new: str, message: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(EmitError, match=message):
        whole(tmp_path, cache, old, new)


def test_a_syntax_error_is_yosys_to_tell(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ToolFailedError, match=r"design.v:\d+: .*syntax error"):
        whole(tmp_path, cache, "endmodule", "endmodul")


def test_a_design_is_built_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = whole(tmp_path, cache)
    runs = []
    monkeypatch.setattr(rtlsim, "run_scripts", lambda scripts, directory: runs.append(scripts) or 1 / 0)
    assert whole(tmp_path, cache) == first
    with pytest.raises(ZeroDivisionError):
        whole(tmp_path, cache, "2 * x", "4 * x")
    with pytest.raises(ZeroDivisionError):
        built(WHOLE_VERILOG, dataclasses.replace(WHOLE, outputs=("dense_1",)), "io_parallel", tmp_path, cache)
    assert len(runs) == 2
    assert sorted(path.name for path in first.design.parent.iterdir()) == ["design.bin", "design.bin.sha256"]


def test_tools_that_are_missing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FLOW_GXX", "no-such-compiler")
        with pytest.raises(ToolMissingError, match=r"'g\+\+' is not on PATH; install a C\+\+ compiler"):
            whole(tmp_path, cache)

    def absent(name: str) -> str:
        raise yosys.PackageNotFoundError(name)

    monkeypatch.setattr(yosys, "version", absent)
    with pytest.raises(ToolMissingError, match=r"pip install 'po2flow\[rtl\]'"):
        whole(tmp_path, cache)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match=r"cache/simulator-\w+: cannot be written"):
        whole(tmp_path, tmp_path / "cache")


@needs_alkaid
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize("name", ["everything", "two_inputs", "two_outputs", "softmax"])
def test_emitted_designs(name: str, io_type: str, tmp_path: Path, cache: Path) -> None:
    from flow.backends.rtl.verilog.emit import emit

    graph = lower(zoo.row(name))
    project = emit(graph, dataclasses.replace(Target(), io_type=io_type))
    write(project, tmp_path / "project")
    program = compile_rtl(tmp_path / "project", graph, io_type, cache)
    codes = inputs(graph, 100)
    for stalls in (None, 5):
        assert_equal(run_rtl(program, graph, codes, stalls=stalls), graph, codes)


# Every cell against CXXRTL: `CELLS` has each operator in many widths and signs, each result one element of the output.

OPERANDS = """
    wire [127:0] w = port_data, v = {w[60:0], w[127:61]};
    wire [15:0] a = w[15:0];
    wire [12:0] b = w[28:16];
    wire signed [15:0] sa = w[47:32];
    wire signed [9:0] sb = w[57:48];
    wire [4:0] n = w[68:64];
    wire [7:0] m = w[87:80];
    wire [6:0] k = w[102:96];
    wire [63:0] d = w[100:37], e = v[70:7];
    wire signed [63:0] sd = d, se = e;
"""
ARITHMETIC = ("{} + {}", "{} - {}", "{} * {}", "{} / ({} | 1)", "{} % ({} | 1)")
COMPARISONS = tuple(f"{{}} {sign} {{}}" for sign in ("<", "<=", ">", ">=", "==", "!=", "===", "!=="))
BITWISE = ("{} & {}", "{} | {}", "{} ^ {}", "{} ~^ {}", "{} && {}", "{} || {}")
UNARY = ("-{}", "+{}", "~{}", "!{}", "&{}", "|{}", "^{}", "~&{}", "~|{}", "~^{}")
PAIRS = (("a", "b"), ("b", "a"), ("sa", "sb"), ("sb", "sa"), ("a", "sb"), ("d", "e"), ("sd", "se"), ("sd", "sb"))
EXPRESSIONS = (
    *(form.format(*pair) for form in (*ARITHMETIC, *COMPARISONS[:2]) for pair in PAIRS),
    *(form.format(*pair) for form in (*COMPARISONS[2:], *BITWISE) for pair in PAIRS[:7:2]),
    *(form.format(*pair) for form in ("{} == {}", "{} != {}", *BITWISE) for pair in (("w", "v"), ("w[99:9]", "sa"))),
    *(form.format(x) for form in UNARY for x in ("a", "sa", "sb", "d", "a[0]")),
    *(form.format(x) for form in UNARY[1:] for x in ("w", "v[90:1]")),
    *(f"{x} {shift} {by}" for x in ("a", "sa", "d", "sd") for shift in ("<<", ">>", "<<<", ">>>") for by in ("n", "m")),
    *(f"{x} {shift} 5" for x in ("a", "sa", "sd", "b") for shift in ("<<", ">>", "<<<", ">>>")),
    *(f"(w {shift} {by}) >> 50" for shift in ("<<", ">>") for by in ("m", "n", "77")),
    *("$signed(w) >>> m", "$signed(w[95:0]) >>> 90", "$signed(v[0 +: 66]) >>> n"),
    *("w[k +: 16]", "w[m +: 16]", "w[k - 3 +: 9]", "w[$signed(m) +: 12]", "w[m]", "a[n]", "w[k[3:0] * 8 +: 8]"),
    *(
        "a[0] ? sa : sb",
        "a[0] ? a : sb",
        "(a[3] ? w : v) >> 60",
        "n ? a : b",
        "{3{a[0]}}",
        "{a, {5{b[3]}}, 2'd2, b}",
        "{4{b}}",
    ),
    *("chosen", "prioritized", "from_table", "wide_table[100:61]", "kept", "counted", "held[90:51]", "masked >> 44"),
    *("read[39:0]", "read[71:40]", "read_twice[71:32]"),
)
STATE = """
    reg [39:0] chosen, prioritized, from_table;
    reg [100:0] wide_table;
    always @* case (w[66:64]) 0: chosen = a; 1: chosen = b; 2: chosen = d; 5: chosen = -sa; default: chosen = 9; endcase
    always @* casez (w[70:64])
        7'b1??????: prioritized = a;
        7'b01?????: prioritized = b;
        7'b?0??1??: prioritized = e;
        default: prioritized = 40'd77;
    endcase
    always @* case (w[35:32]) TABLE default: from_table = 0; endcase
    always @* case (w[39:36]) WIDE default: wide_table = 0; endcase
    reg [39:0] counted = 40'h123456789a, kept;
    reg [99:0] held = 100'd1 << 70;
    reg [127:0] masked;
    reg [71:0] memory [0:12];
    wire [71:0] read = memory[w[115:112]], read_twice = memory[w[119:116]];
    always @(posedge aclk) begin
        counted <= counted * 3 + a;
        if (w[80]) held <= {held, w} >> 9;
        if (~aresetn) kept <= 5; else if (w[81]) kept <= d;
        if (~aresetn) masked <= 0; else masked[k +: 8] <= a;
        if (w[82]) memory[w[91:88]] <= {w, v} >> 33;
        if (w[83]) memory[w[95:92]][47:20] <= e;
    end
"""
WIDTH = 40
DRIVER = """
#include "top.cc"
#include <cstdio>
#include <vector>
int main(int argc, char **argv) {
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    const int samples = atoi(argv[3]), each = atoi(argv[4]), elements = atoi(argv[5]);
    for (int first = 0; first < samples; first += each) {
        cxxrtl_design::p_cells top;
        auto clock = [&](bool reset) {
            top.p_aresetn.set<bool>(!reset), top.p_aclk.set<bool>(false), top.step();
            if (!reset)
                for (int e = 0; e < elements; e++) {
                    long long code = 0;
                    for (int bit = 0; bit < WIDTH; bit++)
                        code |= (long long)top.p_m__axis__tdata.bit(e * WIDTH + bit) << bit;
                    fwrite(&code, 8, 1, out);
                }
            top.p_aclk.set<bool>(true), top.step();
        };
        top.p_m__axis__tready.set<bool>(true);
        for (int i = 0; i < 4; i++) clock(true);
        for (int i = first; i < samples && i < first + each; i++) {
            for (int e = 0; e < 8; e++) {
                long long code;
                if (!fread(&code, 8, 1, in)) return 1;
                for (int bit = 0; bit < 16; bit++) top.p_s__axis__tdata.set_bit(16 * e + bit, code >> bit & 1);
            }
            top.p_s__axis__tvalid.set<bool>(true), clock(false);
        }
    }
    return fclose(out);
}
"""


def cells() -> tuple[IntGraph, str]:
    """Return a design with all cells, and a graph with its ports."""
    random = np.random.default_rng(5)
    narrow = " ".join(f"{i}: from_table = {random.integers(1 << 40)};" for i in range(16))
    words = [int.from_bytes(random.bytes(13), "little") >> 3 for _ in range(16)]
    wide = " ".join(f"{i}: wide_table = 101'd{word};" for i, word in enumerate(words))
    count = len(EXPRESSIONS)
    wires = "".join(f"    wire [{WIDTH - 1}:0] e{i} = {text};\n" for i, text in enumerate(EXPRESSIONS))
    joined = ", ".join(f"e{i}" for i in reversed(range(count)))
    verilog = f"""
module cells(
    input aclk, input aresetn,
    input [127:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
    output [{count * WIDTH - 1}:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast
);
    wire [127:0] port_data = s_axis_tdata;
    wire port_valid = s_axis_tvalid, port_ready = m_axis_tready;
{OPERANDS}{STATE.replace("TABLE", narrow).replace("WIDE", wide)}{wires}
    wire [{count * WIDTH - 1}:0] all_data = {{{joined}}};
    wire all_valid = port_valid, all_ready = port_ready;
    assign {{s_axis_tready, m_axis_tdata, m_axis_tvalid, m_axis_tlast}} = {{port_ready, all_data, all_valid, 1'b1}};
endmodule
"""
    port = Net((8,), u(16), "cells").graph().ops[0]
    zeros = np.zeros((8, count), np.int64)
    op = Dense(
        name="all", inputs=("port",), shape=(count,), cast=Cast(u(WIDTH)),
        weight=Constant(zeros, s(2)), bias=Constant(zeros[0], s(2)),
    )  # fmt: skip
    return IntGraph(name="cells", ops=(port, op)), verilog


def test_every_cell_means_what_cxxrtl_says(tmp_path: Path, cache: Path) -> None:
    graph, verilog = cells()
    program = built(verilog, graph, "io_parallel", tmp_path, cache)
    random = np.random.default_rng(9)
    codes = random.integers(0, 1 << 16, (200, 8))
    codes[random.random(codes.shape) < 0.15] = 0
    codes[random.random(codes.shape) < 0.15] = 0xFFFF
    codes[::11], codes[::17] = 0, 0xFFFF
    result = run_rtl(program, graph, codes).codes["all"]

    import pyosys

    project, headers = tmp_path / "project", Path(pyosys.__file__).parent / "share/include/backends/cxxrtl/runtime"
    script = ["read_verilog rtl/design.v", "hierarchy -check -top cells", "proc", "write_cxxrtl -g0 top.cc"]
    yosys.run_scripts({"cxxrtl": script}, project)
    (project / "driver.cpp").write_text(DRIVER.replace("WIDTH", str(WIDTH)))
    subprocess.run(
        ["g++", "-std=c++17", "-w", "-DCXXRTL_NDEBUG", f"-I{headers}", "driver.cpp", "-o", "driver"],
        cwd=project,
        check=True,
    )
    codes.tofile(project / "in.bin")
    each = rtlsim.FEWEST if len(codes) <= rtlsim.FEWEST * rtlsim.LANES else math.ceil(len(codes) / rtlsim.LANES)
    command = ["./driver", "in.bin", "out.bin", len(codes), each, len(EXPRESSIONS)]
    subprocess.run([str(word) for word in command], cwd=project, check=True)
    expected = np.fromfile(project / "out.bin", np.int64).reshape(result.shape)
    differ = [EXPRESSIONS[i] for i in np.flatnonzero((result != expected).any(axis=0))]
    assert differ == []
    constant = [EXPRESSIONS[i] for i in np.flatnonzero((expected == expected[0]).all(axis=0))]
    assert constant == []


def test_the_cells_of_that_design_are_all_kinds(tmp_path: Path) -> None:
    _, verilog = cells()
    (tmp_path / "design.v").write_text(verilog)
    script = ["read_verilog design.v", "hierarchy -top cells", *rtlsim.SCRIPT, "write_rtlil flat.il"]
    yosys.run_scripts({"kinds": script}, tmp_path)
    kinds = set(re.findall(r"^ *cell (\S+)", (tmp_path / "flat.il").read_text(), re.M))
    assert kinds == KINDS
