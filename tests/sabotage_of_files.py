"""Sabotage that no reading of types and weights need see: what only a vendor's tool reads, and files as a whole.

C simulation sees no pragma, no Tcl, no constraint, nothing under a macro that the vendor alone defines, and no header
that only the vendor's search path finds. An io_stream or rtl project also has clocks, resets and FIFOs that give the
same codes and another circuit. Each row is one such change of an emitted project; none may be called bit exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from edits import edit
from nets import Net, s, u
from sabotage import CONV, DEFINES, DENSE, HLS, LAST, NORM, PARAMETERS, POOL, SABOTAGE, TARGETS, TOP, Sabotage
from sabotage import victim as whole_victim

from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import Project
from flow.target import Target

PLACES: Mapping[str, Target] = {
    **dict(zip(HLS, TARGETS, strict=True)),
    **{name: Target(backend=name) for name in ("Quartus", "Catapult", "oneAPI", "Libero")},
    "rtl": Target(backend="rtl", io_type="io_stream"),
    "rtl, parallel": Target(backend="rtl", io_type="io_parallel"),
}
"""Whose projects are changed."""


def victim(place: str) -> IntGraph:
    """Return the graph whose project is changed; hls4ml's Libero has neither convolutions nor batch normalization."""
    if place != "Libero":
        return whole_victim()
    net = Net((4,), s(6, 2), "victim").dense([[1, -2, 4], [0, 8, -1], [2, 2, 1], [-4, 1, 0]], [1, -2, 4])
    return lower(net.relu().requantize(u(6, -1)).dense([[3, -5], [7, 2], [-6, 1]]).requantize(s(8, -2)).graph())


def changed(path: str, pattern: str, new: str | Callable[[re.Match[str]], str], *places: str, op: str = "") -> Sabotage:
    """Return the change of the one place in a file where a pattern stands; of "victim_*.v" style names the first."""
    return Sabotage(op, lambda project: edit(project, path, pattern, new), places=places or HLS)


def added(path: str, content: str, *places: str) -> Sabotage:
    """Return the addition of a file that was not emitted."""

    def act(project: Project) -> Project:
        assert path not in project.files, path
        return Project(project.name, {**project.files, path: content.encode()})

    return Sabotage("", act, places=places or HLS)


def removed(path: str, *places: str) -> Sabotage:
    """Return the removal of a file."""
    return Sabotage("", lambda project: _without(project, path), places=places or HLS)


def _without(project: Project, path: str) -> Project:
    assert path in project.files, path
    return Project(project.name, {name: content for name, content in project.files.items() if name != path})


def first(pattern: str) -> str:
    """Return a pattern for the first place where another stands; what is before it is group 1."""
    return rf"(?s)\A(.*?){pattern}"


def under(macro: str, text: str) -> str:
    """Return text that only those compile who define a macro."""
    return f"#ifdef {macro}\n{text}\n#endif\n"


def under_macro(macro: str, op: str, *places: str, path: str = TOP) -> Sabotage:
    """Return a change of an op's call: whoever defines a macro computes with one bias more."""
    call = rf"    nnet::[^;]*, (\w+)\); // {op}\n"
    return changed(path, call, lambda m: under(macro, f"    {m[1]}[0] += 1;") + m[0], *places, op=op)


def weights(op: str, argument: int, form: str, change: Callable[[str], str], *places: str) -> Sabotage:
    """Return a change of a whole file of weights (argument 2 of an op's call) or biases (3)."""

    def act(project: Project) -> Project:
        call = re.search(rf"\(([^;]*)\); // {op}\n", project.text(TOP))
        assert call is not None
        path = f"firmware/weights/{call.group(1).split(', ')[argument]}.{form}"
        return Project(project.name, {**project.files, path: change(project.text(path)).encode()})

    return Sabotage(op, act, places=places or HLS)


def _moved_words(text: str) -> str:
    numbers = text.split(",")
    return ",".join((*numbers[1:], numbers[0]))


FLOW, MULT, HELPERS = (f"firmware/nnet_utils/nnet_{name}.h" for name in ("flow", "mult", "helpers"))
TYPES = "firmware/ap_types/ap_fixed_base.h"
BUILD, TCL, SYNTH = "build_prj.tcl", "project.tcl", "vivado_synth.tcl"
PRIVATE = '#include "../ap_types/ap_fixed.h"\n#define AP_SAT AP_WRAP\n'

VITIS: Mapping[str, Sabotage] = {
    # under a macro that csim does not define
    "synthesis has another bias": under_macro("__SYNTHESIS__", DENSE),
    "synthesis calls another function": changed(
        TOP,
        r"nnet::pooling2d_cl<([^;]*;) // maxpool_4\n",
        lambda m: m.group() + under("__SYNTHESIS__", m.group().replace("pooling2d_cl", "global_pooling2d_cl")),
        op=POOL,
    ),
    "synthesis saturates otherwise": changed(
        DEFINES, r"#define DEFINES_H_\n", r"\g<0>" + under("__SYNTHESIS__", "#define AP_SAT AP_WRAP")
    ),
    "Vitis rounds otherwise": changed(
        DEFINES, r"#define DEFINES_H_\n", r"\g<0>" + under("__VITIS_HLS__", "#define AP_RND_CONV AP_TRN")
    ),
    "Vivado has another type": changed(
        DEFINES, r"typedef [^;\n]* result_t;\n", r"\g<0>" + under("__VIVADO_HLS__", "#define result_t ap_fixed<4,4>")
    ),
    "AutoESL's macro": changed(
        PARAMETERS, r"#define PARAMETERS_H_\n", r"\g<0>" + under("AESL_SYN", "#define AP_RND AP_TRN")
    ),
    "co-simulation's macro": under_macro("__RTL_SIMULATION__", LAST),
    "synthesis has another configuration": changed(
        PARAMETERS,
        r"const int config\d::offset\[3\][^\n]*\n",
        lambda m: "#ifndef __SYNTHESIS__\n" + m.group() + "#else\n" + m.group().replace("7", "6") + "#endif\n",
        op=NORM,
    ),
    "our kernels, in synthesis": changed(
        FLOW,
        r"(shift_cast \{\n(?s:.*?)#pragma HLS INLINE\n)",
        r"\1" + under("__SYNTHESIS__", "        return cast_of<res_T, CONFIG_T::exact_frac>(exact_t(exact + 1));"),
    ),
    "hls4ml's kernels, in synthesis": changed(
        MULT, r"(// 'Normal' product\n)", r"\1" + under("__SYNTHESIS__", "        return a;")
    ),
    "weights read in synthesis": changed(
        TOP, r"#ifndef __SYNTHESIS__\n(    static bool loaded)", r"#ifdef CSIM_ONLY\n\1"
    ),
    # macros for everybody, and headers
    "a rounding defined away": changed(
        DEFINES, r'#include "nnet_utils/nnet_types.h"\n', r"\g<0>#define AP_RND_CONV AP_TRN\n"
    ),
    "our kernels": changed(FLOW, r"exact \+= (sint<CONFIG_T::exact_bits>\(CONFIG_T::offset)", r"exact -= \1"),
    "hls4ml's kernels": changed(MULT, r"(// 'Normal' product\n[^\n]*\n\s*)return a \* w;", r"\1return a * w + 1;"),
    "a header that nothing includes": changed("firmware/nnet_utils/nnet_garnet.h", r"\Z", "// changed\n"),
    "types that csim alone reads": changed(TYPES, r"\(_AP_Q == AP_RND_CONV\)", "(_AP_Q == AP_TRN)"),
    "a comment in the types": changed(TYPES, r"\Z", "// changed\n"),
    "a header of the vendor, shadowed": added("firmware/ap_fixed.h", PRIVATE),
    "a stream of the vendor, shadowed": added("firmware/hls_stream.h", '#include "ap_types/hls_stream.h"\n'),
    "a header shadowed where kernels look": added("firmware/nnet_utils/ap_int.h", '#include "../ap_types/ap_int.h"\n'),
    # pragmas
    "no dataflow": changed(TOP, r"    #pragma HLS DATAFLOW\n", ""),
    "another interface": changed(TOP, r"#pragma HLS INTERFACE \w+ port=", "#pragma HLS INTERFACE ap_none port="),
    "a kernel not pipelined": changed(FLOW, first(r"    #pragma HLS PIPELINE\n"), r"\1"),
    "a dependence denied": changed(
        FLOW, first(r"#pragma HLS PIPELINE\n"), r"\1#pragma HLS PIPELINE\n#pragma HLS DEPENDENCE variable=exact false\n"
    ),
    "an array in one memory": changed(
        TOP, first(r"#pragma HLS ARRAY_PARTITION variable=layer3_out complete"), r"\1#pragma HLS BIND_STORAGE", "Vitis"
    ),
    "a FIFO too shallow": changed(TOP, r"variable=layer2_out depth=\d+", "variable=layer2_out depth=1", "Vivado"),
    "a FIFO deeper": changed(TOP, r"variable=layer7_out depth=\d+", "variable=layer7_out depth=9", "Vivado"),
    "an array left uninitialized at reset": changed(
        TOP, r"    #pragma HLS DATAFLOW\n", r"\g<0>    #pragma HLS RESET variable=loaded_weights off\n"
    ),
    # Tcl and constraints
    "another part": changed(TCL, r'set part "[^"]*"', 'set part "xc7z020clg400-1"'),
    "another clock": changed(TCL, r"set clock_period [\d.]+", "set clock_period 50.0"),
    "another uncertainty": changed(TCL, r"set clock_uncertainty [^\n]*", "set clock_uncertainty 0%"),
    "another top": changed(TCL, r'set project_name "victim"', 'set project_name "other"'),
    "larger arrays": changed(TCL, r"set maximum_size \d+", "set maximum_size 1"),
    "a macro on the command line": changed(BUILD, first(r'"-std=c\+\+0x"'), r'\1"-std=c++0x -DAP_SAT=AP_WRAP"'),
    "unsafe mathematics": changed(BUILD, r"(config_compile )", r"\1-unsafe_math_optimizations "),
    "another reset": changed(BUILD, r"(set_part \$part\n)", r"\1config_rtl -reset none\n"),
    "one more source": changed(BUILD, r"(set_top [^\n]*\n)", r"\1add_files firmware/weights\n"),
    "no C simulation by the vendor": changed("build_opt.tcl", r"(csim +)1", r"\g<1>0", "Vitis"),
    "no validation": changed(BUILD, r"(validation +)1", r"\g<1>0", "Vivado"),
    "another synthesis": changed(SYNTH, r"opt_design [^\n]*", "opt_design"),
    "another part for Vivado": changed(SYNTH, r"-part \$part", "-part xc7z020clg400-1"),
    "constraints": added("constraints.xdc", "create_clock -period 50 [get_ports ap_clk]\n"),
    "directives": added("directives.tcl", 'set_directive_top -name other "other"\n'),
    "another tool's configuration": added("hls_config.cfg", "[hls]\nclock=50ns\n"),
    "a hidden file": added(".hidden", ""),
    # weights and what simulates
    "weights moved by one": weights(DENSE, 2, "txt", _moved_words),
    "weights written otherwise": weights(LAST, 3, "txt", lambda text: text.replace(", ", ",  ")),
    "weights cut off": weights(DENSE, 2, "txt", lambda text: text[: len(text) // 2]),
    "weights emptied": weights(DENSE, 2, "txt", lambda text: ""),
    "weights for synthesis moved by one": weights(
        DENSE, 2, "h", lambda text: re.sub(r"= \{(.*)\};", lambda m: f"= {{{_moved_words(m[1])}}};", text)
    ),
    "weights for synthesis alone in another type": weights(
        LAST, 2, "h", lambda text: text.replace("#else\ndense_10_weight_t", "#else\nap_int<2>")
    ),
    "another file of weights": changed(
        TOP, rf'({DENSE}_bias_t, 4>\(\w+, )"b(\d)\.txt"', lambda m: f'{m[1]}"w{m[2]}.txt"', op=DENSE
    ),
    "arguments swapped": changed(TOP, rf"(w\d), (b\d)\); // {LAST}\n", rf"\2, \1); // {LAST}\n", op=LAST),
    "a tensor before it is done": changed(TOP, r"(auto& layer\d_out = layer)(\d)", lambda m: f"{m[1]}{int(m[2]) - 1}"),
    "ports reordered": changed("firmware/victim.h", r"victim\(\n(.*),\n(.*)\n\);", r"victim(\n\2,\n\1\n);"),
    "the simulation's program": changed("csim/main.cpp", rf'("{LAST}", 3, )(-?\d+)', r"\g<1>\2 - 1"),
    "what is traced": changed(HELPERS, first(r"if \(!trace_enabled\)\n +return;\n"), r"\1"),
    "the vendor's test bench": changed("victim_test.cpp", r"#ifdef RTL_SIM", "#ifdef NEVER"),
    "the vendor's stimulus": changed("tb_data/tb_input_features.dat", r"\A\S+", "0.125"),
    # whole files
    "no script": removed(BUILD),
    "no header of a kernel": removed("firmware/nnet_utils/nnet_garnet.h"),
    "no test bench": removed("victim_test.cpp"),
    "no types": removed(DEFINES),
    "nothing but a top function": Sabotage("", lambda p: Project(p.name, {TOP: p.files[TOP]}), places=HLS),
    "lines ended otherwise": Sabotage(
        "", lambda p: Project(p.name, {**p.files, TOP: p.files[TOP].replace(b"\n", b"\r\n")}), places=HLS
    ),
    "a byte order mark": changed(DEFINES, r"\A", "\ufeff"),
    "a null byte": changed(BUILD, r"\Z", "\0"),
}
"""Of Vitis and Vivado."""

OTHERS: Mapping[str, Sabotage] = {
    "another device": changed("Makefile", r"DEVICE   := \w+", "DEVICE   := CycloneV", "Quartus"),
    "a macro for its compiler": changed("Makefile", r"(-march=\S+)", r"\1 -DAC_SAT=AC_WRAP", "Quartus"),
    "another frequency": changed(TOP, r"fmax_mhz\(\d+\)", "fmax_mhz(20)", "Quartus"),
    "another interval": changed(TOP, r"component_ii\(\d+\)", "component_ii(9)", "Quartus"),
    "its compiler has another bias": under_macro("__INTELFPGA_COMPILER__", DENSE, "Quartus"),
    "its compiler's types": changed(DEFINES, r'"HLS/ac_fixed.h"', '"HLS/ac_fixed_other.h"', "Quartus"),
    "a weight": changed("firmware/weights/w7.h", first(r"(-?\d+\.\d+), "), r"\g<1>0.25, ", "Quartus", op=LAST),
    "a header of its types": added("firmware/HLS/ac_fixed.h", "#define AC_SAT AC_WRAP\n", "Quartus"),
    "its types": changed("firmware/ac_types/ac_fixed.h", r"if\(Q==AC_RND_CONV\)", "if(Q==AC_TRN)", "Quartus"),
    "its script gone": removed("Makefile", "Quartus"),
    "another part of Catapult": changed(
        BUILD, first(r"setup_xilinx_part \{[\w-]+\}"), r"\1setup_xilinx_part {x}", "Catapult"
    ),
    "another clock of Catapult": changed(BUILD, r"set hls_clock_period [\d.]+", "set hls_clock_period 50", "Catapult"),
    "another reset of Catapult": changed(BUILD, first(r"-RESET_KIND sync"), r"\1-RESET_KIND async", "Catapult"),
    "synthesis by Catapult": under_macro("__SYNTHESIS__", DENSE, "Catapult"),
    "the top of Catapult": changed(TOP, r"#pragma hls_design top\n", "", "Catapult"),
    "weights of Catapult": changed(
        "firmware/weights/w7.h", first(r"(-?\d+\.\d+), "), r"\g<1>0.25, ", "Catapult", op=LAST
    ),
    "a header of Catapult": changed(
        "firmware/ac_types/include/ac_fixed.h", r"if\(Q==AC_RND_CONV\)", "if(Q==AC_TRN)", "Catapult"
    ),
    "one more file for Catapult": added("firmware/ac_fixed.h", "", "Catapult"),
    "another device of oneAPI": changed(
        "CMakeLists.txt", r'set\(FPGA_DEVICE "\w+"\)', 'set(FPGA_DEVICE "Arria10")', "oneAPI"
    ),
    "another clock of oneAPI": changed("CMakeLists.txt", r"-Xsclock=[\d.]+ns", "-Xsclock=50ns", "oneAPI"),
    "a macro of oneAPI": changed("CMakeLists.txt", r"(set\(USER_FLAGS )", r"\1-DAC_SAT=AC_WRAP ", "oneAPI"),
    "on the device alone": under_macro("__SYCL_DEVICE_ONLY__", DENSE, "oneAPI", path="src/firmware/victim.cpp"),
    "a pipe of oneAPI": changed("src/firmware/victim.h", r"ready_latency<0>", "ready_latency<7>", "oneAPI"),
    "weights of oneAPI": changed(
        "src/firmware/weights/w7.h", first(r"(-?\d+\.\d+), "), r"\g<1>0.25, ", "oneAPI", op=LAST
    ),
    "the bridge of oneAPI": changed("src/victim_bridge.cpp", r"\Z", "// changed\n", "oneAPI"),
    "a file of oneAPI gone": removed("src/exception_handler.hpp", "oneAPI"),
    "another part of Libero": changed("config.tcl", r"MPF300", "MPF100", "Libero"),
    "another clock of Libero": changed("config.tcl", r"CLOCK_PERIOD [\d.]+", "CLOCK_PERIOD 50", "Libero"),
    "another top of Libero": changed(TOP, r"    #pragma HLS function top\n", "", "Libero"),
    "synthesis by SmartHLS": under_macro("__SYNTHESIS__", "dense_4", "Libero"),
    "weights of Libero": weights("dense_4", 2, "h", lambda text: re.sub(r"= \{(.*)\};", "= {0};", text), "Libero"),
    "the Makefile of Libero": changed("Makefile", r"-legup-config=config.tcl", "", "Libero"),
}
"""Of the back ends whose projects are not simulated here."""

RTL, STREAM = ("rtl", "rtl, parallel"), "rtl/po2flow_stream.v"
TOP_V, DENSE_V, CONV_V, POOL_V = "rtl/victim.v", f"rtl/victim_{DENSE}.v", f"rtl/victim_{CONV}.v", f"rtl/victim_{POOL}.v"
CONV_KERNEL, POOL_KERNEL, NORM_KERNEL = (f"rtl/victim_{op}_kernel.v" for op in (CONV, POOL, NORM))
DENSE_KERNEL, LAST_KERNEL = (f"rtl/victim_{op}_kernel.v" for op in (DENSE, LAST))


def otherwise(directive: str) -> Sabotage:
    """Return a change of a register: whoever takes a branch of the preprocessor stores the complement."""
    return changed(NORM_KERNEL, r"( +n7_1 <= )n7;\n", rf"{directive}\n\1~n7;\n`else\n\g<0>`endif\n", *RTL, op=NORM)


VERILOG: Mapping[str, Sabotage] = {
    # what a kernel computes
    "a sum for a difference": changed(
        DENSE_KERNEL, first(r"(n\d+ = \{[^;]*\}) - (\{[^;]*;)"), r"\1\2 + \3", "rtl", op=DENSE
    ),
    "a shift by one more": changed(CONV_KERNEL, first(r"\{(n\d+)\[3\], n\d+, 1'd0\}"), r"\1{\2, 2'd0}", *RTL, op=CONV),
    "an offset": changed(NORM_KERNEL, r"\+ 7'd5;", "+ 7'd4;", *RTL, op=NORM),
    "a sign": changed(NORM_KERNEL, r"- 7'd6;", "+ 7'd6;", *RTL, op=NORM),
    "the smaller for the larger": changed(POOL_KERNEL, first(r"\((n\d+) > (n\d+)\)"), r"\1(\2 < \3)", *RTL, op=POOL),
    "a tie": changed(DENSE_KERNEL, first(r"& \(\|n"), r"\1& (&n", "rtl", op=DENSE),
    "a limit": changed(DENSE_KERNEL, first(r"8'd255"), r"\g<1>8'd127", "rtl", op=DENSE),
    "a limit below zero": changed(LAST_KERNEL, first(r"8'd129"), r"\g<1>8'd128", "rtl", op=LAST),
    "a wire too narrow": changed(DENSE_KERNEL, first(r"wire signed \[11:0\]"), r"\1wire signed [7:0]", "rtl", op=DENSE),
    "a wire without sign": changed(DENSE_KERNEL, first(r"wire signed \["), r"\1wire [", "rtl", op=DENSE),
    "results swapped": changed(
        LAST_KERNEL, r"(n\d+_1),\n( +)(n\d+_1),\n( +n\d+_1\n)", r"\3,\n\2\1,\n\4", "rtl", op=LAST
    ),
    "an input from elsewhere": changed(DENSE_KERNEL, r"n1 = x\[8 \+: 8\]", "n1 = x[16 +: 8]", "rtl", op=DENSE),
    "a place of a window": changed(POOL_V, first(r"x\[68 \+: 4\]"), r"\1x[72 +: 4]", "rtl, parallel", op=POOL),
    # registers, clocks, resets
    "a register left out": changed(LAST_KERNEL, first(r"= (n\d+)_1 \+ "), r"\1= \2 + ", "rtl", op=LAST),
    "a register that does not wait": changed(CONV_KERNEL, r"if \(ce\) begin", "if (1'b1) begin", *RTL, op=CONV),
    "the other edge": changed(NORM_KERNEL, r"posedge clk", "negedge clk", *RTL, op=NORM),
    "a stage too many": changed(DENSE_V, r"DEPTH\(2\)\) stages", "DEPTH(3)) stages", "rtl", op=DENSE),
    "an initial value": changed(NORM_KERNEL, r"    always @", "    initial n7_1 = 7'd1;\n    always @", *RTL, op=NORM),
    "no reset": changed(TOP_V, r"(conv_1_inst \(\s*\.clk\(aclk\), \.rst\()~aresetn\)", r"\g<1>1'b0)", "rtl"),
    "reset upside down": changed(TOP_V, r"(po2flow_valid [^;]*)~aresetn", r"\1aresetn", "rtl, parallel"),
    "a reset of one FIFO": changed(TOP_V, r"(dense_7_+out_fifo \(\.clk\(aclk\), \.rst\()~aresetn", r"\g<1>1'b0", "rtl"),
    "an asynchronous reset": changed(
        STREAM,
        first(r"@\(posedge clk\)\n        if \(rst\)"),
        r"\1@(posedge clk or posedge rst)\n        if (rst)",
        *RTL,
    ),
    # streams
    "a FIFO of another depth": changed(TOP_V, r"DEPTH\(2\)(\) conv_1_+out_fifo)", r"DEPTH(4)\1", "rtl"),
    "a FIFO of one word": changed(TOP_V, r"DEPTH\(2\)(\) dense_7_+out_fifo)", r"DEPTH(1)\1", "rtl"),
    "a FIFO too narrow": changed(TOP_V, r"WIDTH\(32\)(, \.DEPTH\(2\)\) dense_7_+out)", r"WIDTH(31)\1", "rtl"),
    "always ready": changed(TOP_V, r"assign s_axis_tready = \w+;", "assign s_axis_tready = 1'b1;", *RTL),
    "never waiting for a reader": changed(CONV_V, r"ce = y_ready \| ~y_valid", "ce = 1'b1", "rtl", op=CONV),
    "an end that is none": changed(TOP_V, r"m_axis_tlast = 1'b1", "m_axis_tlast = 1'b0", *RTL),
    "bits of the output": changed(
        TOP_V, r"m_axis_tdata = dense_10_data", "m_axis_tdata = {dense_10_data[7:0], dense_10_data[23:8]}", *RTL
    ),
    "another reader": changed(TOP_V, r"\.x\(dense_7_data\)", ".x(reshape_6_data[31:0])", "rtl, parallel"),
    "a window moved": changed(CONV_V, r"\.TOP\(1\)", ".TOP(0)", "rtl", op=CONV),
    "another padding": changed(CONV_V, r"\.FILL\(\{2\{4'd0\}\}\)", ".FILL({2{4'd1}})", "rtl", op=CONV),
    "another stride": changed(POOL_V, r"\.SC\(2\)", ".SC(1)", "rtl", op=POOL),
    "words in another order": changed(STREAM, r"line = \{x_data, words\}", "line = {words, x_data}", "rtl"),
    "a FIFO that forgets": changed(STREAM, r"(count <= count \+ [^;]*) - [^;]*;", r"\1;", "rtl"),
    "a FIFO that wraps late": changed(
        STREAM, r"LAST = DEPTH - 1;\n    reg \[WIDTH-1:0\] words", "LAST = DEPTH;\n    reg [WIDTH-1:0] words", "rtl"
    ),
    # text that one reader sees and another does not
    "not for Yosys": otherwise("`ifndef YOSYS"),
    "for synthesis alone": otherwise("`ifdef SYNTHESIS"),
    "for Vivado's simulator": otherwise("`ifdef XILINX_SIMULATOR"),
    "for Quartus alone": otherwise("`ifdef ALTERA_RESERVED_QIS"),
    "not translated": changed(
        NORM_KERNEL,
        r"( +n11_1 <= n11;\n)",
        r"// synthesis translate_off\n\1// synthesis translate_on\n",
        *RTL,
        op=NORM,
    ),
    "a case called full": changed(
        CONV_KERNEL, first(r"    reg "), r"\1    (* full_case, parallel_case *) reg ", *RTL, op=CONV
    ),
    "an attribute for placement": changed(TOP_V, first(r"    wire "), r'\1    (* keep = "true" *) wire ', *RTL),
    "multipliers asked for": changed(CONV_KERNEL, r"\nmodule ", '\n(* use_dsp = "yes" *) module ', *RTL, op=CONV),
    "a file included": changed(TOP_V, r"\nmodule ", '\n`include "other.vh"\nmodule ', *RTL),
    "a delay": changed(NORM_KERNEL, r"n7_1 <= n7", "n7_1 <= #1 n7", *RTL, op=NORM),
    "a comment": changed(DENSE_V, r"\Z", "// changed\n", *RTL, op=DENSE),
    "a blank": changed(TOP_V, r"\Z", " ", *RTL),
    # files
    "constraints": added("rtl/victim.xdc", "create_clock -period 50 [get_ports aclk]\n", *RTL),
    "one more module": added("rtl/other.v", "module other (input wire x);\nendmodule\n", *RTL),
    "a module twice": Sabotage("", lambda p: Project(p.name, {**p.files, "rtl/zz.v": p.files[STREAM]}), places=RTL),
    "SystemVerilog beside it": added("rtl/victim.sv", "module victim;\nendmodule\n", *RTL),
    "a header beside it": added("rtl/other.vh", "`define WIDTH 1\n", *RTL),
    "no kernel": removed(NORM_KERNEL, *RTL),
    "no library": removed(STREAM, *RTL),
    "no description": removed("design.json", *RTL),
    "an empty module": changed(NORM_KERNEL, r"(?s)\A.*\Z", "", *RTL, op=NORM),
    "a module of another name": changed(DENSE_V, r"\nmodule victim_dense_7 ", "\nmodule victim_other ", *RTL, op=DENSE),
    # its description, which estimates and reports read
    "another clock in its description": changed(
        "design.json", r'"clock_period_ns": [\d.]+', '"clock_period_ns": 50.0', *RTL
    ),
    "another latency in its description": changed("design.json", r'"dense_7": 2', '"dense_7": 1', *RTL),
    "another top in its description": changed("design.json", r'"top": "victim"', '"top": "other"', *RTL),
}
"""Of the back end rtl."""

ALL: Mapping[str, Mapping[str, Sabotage]] = {
    "Verilog": VERILOG,
    "other back ends": OTHERS,
    "Vitis and Vivado": VITIS,
    "read back": SABOTAGE,
}
"""Every kind of sabotage, by table."""


def plots(*, fewer: bool = False) -> list[tuple[str, str, str, Sabotage]]:
    """Return (place, table, name, sabotage) of every change of every project that it is made in.

    Args:
        fewer: make what can be done to Vitis and to Vivado to Vitis alone, and each fourth to Vivado alone.
    """
    found = []
    for table, rows in ALL.items():
        for turn, (name, crime) in enumerate(rows.items()):
            places = (HLS[turn % 4 == 0],) if fewer and crime.places == HLS else crime.places
            found += [(place, table, name, crime) for place in places]
    return found


def planted(project: Project, crime: Sabotage) -> Project:
    """Return a project with the change in it, which is one."""
    after = crime.act(project)
    assert after.files != project.files
    return after
