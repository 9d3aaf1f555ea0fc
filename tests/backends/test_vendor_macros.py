"""What is compiled is what is synthesized: conditions of emitted files on macros that only the vendors' tools define.

Two checks. The conditions are held literally, each with the reason why it changes no result; and projects are simulated
as the vendor's compiler reads them, with its macros defined behind the library of types, which is the vendor's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import PurePosixPath

import pytest
import zoo
from conftest import Simulate, needs_compiler
from nets import inputs

from flow.backends.base import BACKENDS
from flow.backends.functions import functions
from flow.backends.hls4ml.dialects import DIALECTS
from flow.ir import reference
from flow.ir.passes import lower
from flow.project import Project
from flow.target import Target

LIBRARIES = {"ap_types", "ac_types", "ac_math", "ac_simutils"}
"""Headers of types for g++ alone: each vendor's tool has its own (`test_no_vendor_is_given_our_library_of_types`)."""
NO_VENDOR = {"__cplusplus", "defined"}
HOST = "prints, asserts, or is a test bench's: it computes nothing"
WEIGHTS = "simulation reads w2.txt, synthesis the initializer in w2.h: both are read back, and simulated below"
TRACE = "the outputs of layers are saved"
ONCE = "a table of constants is filled once by simulation, at each call in hardware"
UNUSED = "no project of ours calls it: such ops are kernels of nnet_flow.h, or refused"
TYPES = "which header the types and streams come from"
POWER_UP = "the constants behind it are there at power-up"
PRAGMA = "a pragma that the newer tool does not take"
CONDITIONS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("ifndef __SYNTHESIS__", "top.cpp"): {"Vitis Vivado Catapult Libero": f"{WEIGHTS}; {TRACE}"},
    ("ifndef __SYNTHESIS__", "weights"): {"Vitis Vivado Catapult Libero": WEIGHTS},
    ("ifndef __SYNTHESIS__", "nnet_helpers.h"): {"Vitis Vivado Catapult Libero": HOST},
    ("ifndef __SYNTHESIS__", "nnet_po2.h"): {"Vitis Vivado": HOST},
    ("ifndef __SYNTHESIS__", "nnet_stream.h"): {"Catapult": "clones a stream: branches are refused"},
    ("ifndef __SYNTHESIS__", "ap_shift_reg.h"): {"Catapult": HOST},
    ("ifndef __SYNTHESIS__", "top_test.cpp"): {"Catapult": HOST},
    ("ifdef __SYNTHESIS__", "nnet_pooling_stream.h"): {"Vivado Catapult": ONCE},
    ("ifdef __SYNTHESIS__", "nnet_activation.h"): {"Catapult": UNUSED},
    ("ifdef __SYNTHESIS__", "nnet_garnet.h"): {"Vitis Vivado Catapult": UNUSED},
    ("ifdef __SYNTHESIS__", "nnet_math.h"): {"Vitis Vivado Catapult": UNUSED},
    ("if !defined(__SYNTHESIS__) && defined(SINCOS_LUT_DEBUG)", "nnet_math.h"): {"Vitis Vivado Catapult": HOST},
    ("if !defined(USE_AC_MATH) && !defined(__SYNTHESIS__)", "nnet_activation.h"): {"Catapult": UNUSED},
    ("ifndef USE_AC_MATH", "nnet_activation.h"): {"Catapult": UNUSED},
    ("ifndef USE_AC_MATH", "nnet_activation_stream.h"): {"Catapult": UNUSED},
    ("ifdef BUILD_TABLE_FILE", "nnet_activation.h"): {"Catapult": HOST},
    ("ifndef INCLUDED_MC_TESTBENCH_H", "parameters.h"): {"Catapult": HOST},
    ("ifdef __HLS_SYN__", "nnet_activation.h"): {"Vitis Vivado Catapult Libero": f"{ONCE}; {UNUSED}"},
    ("ifdef __HLS_SYN__", "nnet_activation_stream.h"): {"Vitis Vivado Catapult Libero": f"{ONCE}; {UNUSED}"},
    ("ifdef __HLS_SYN__", "nnet_layernorm.h"): {"Vitis Vivado": UNUSED},
    ("ifndef __VITIS_HLS__", "nnet_common.h"): {"Vitis Vivado": PRAGMA},
    ("ifdef __VITIS_HLS__", "nnet_dense_compressed.h"): {"Vitis Vivado": UNUSED},
    ("ifdef RTL_SIM", "top_test.cpp"): {"Vitis Vivado Catapult Libero": HOST},
    ("ifndef __INTELFPGA_COMPILER__", "top.cpp"): {"Quartus": "the head of the top function; simulated below"},
    ("ifndef __INTELFPGA_COMPILER__", "top.h"): {"Quartus": f"the head of the top function; {TYPES}"},
    ("ifndef __INTELFPGA_COMPILER__", "defines.h"): {"Quartus": TYPES},
    ("ifndef __INTELFPGA_COMPILER__", "nnet_common.h"): {"Quartus": TYPES},
    ("ifdef __INTELFPGA_COMPILER__", "weights"): {"Quartus": POWER_UP},
    ("ifdef __INTELFPGA_COMPILER__", "activation_tables"): {"Quartus": f"{POWER_UP}; {UNUSED}"},
    ("ifndef HLS_SYNTHESIS", "top.cpp"): {"Quartus": TRACE},
    ("ifdef __SYCL_DEVICE_ONLY__", "nnet_printf.h"): {"oneAPI": HOST},
    ("if (__INTEL_CLANG_COMPILER < 20250000)", "top_test.cpp"): {"oneAPI": HOST},
    ("if FPGA_SIMULATOR", "top_test.cpp"): {"oneAPI": HOST},
    ("elif FPGA_HARDWARE", "top_test.cpp"): {"oneAPI": HOST},
}
"""(condition, file or folder) -> back ends -> why it changes no result. Files of our own: nnet_flow.h has none."""
TARGETS = [
    Target(backend=backend, io_type=io_type, strategy=strategy)
    for backend, dialect in DIALECTS.items()
    for io_type in dialect.io_types
    for strategy in BACKENDS[backend].strategies
]


@cache
def emitted(target: Target, name: str = "everything") -> Project:
    row = "dense_twice" if target.backend == "Libero" else name
    return functions(target).emit(lower(zoo.row(row)), target)


def place(path: PurePosixPath, top: str) -> str:
    """Return the name of a file as the table has it."""
    folder = path.parent.name
    return folder if folder in ("weights", "activation_tables") else path.name.replace(top, "top")


def conditions(project: Project) -> set[tuple[str, str]]:
    """Return (condition, place) of what is compiled only if a macro is defined, but for include guards."""
    found = set()
    for name, content in project.files.items():
        path, text = PurePosixPath(name), re.sub(r"/\*.*?\*/", "", content.decode(errors="replace"), flags=re.S)
        if LIBRARIES & set(path.parts):
            continue
        text = text.replace("\\\n", " ")
        for match in re.finditer(r"^[ \t]*#[ \t]*((?:el)?if|ifn?def)\b(.*)$", text, flags=re.M):
            said = match[2].partition("//")[0].strip()
            macros = set(re.findall(r"[A-Za-z_]\w*", said)) - NO_VENDOR
            guard = match[1] == "ifndef" and re.match(rf"\s*#\s*define {said}\b", text[match.end() :])
            if macros and not guard:
                found.add((f"{match[1]} {said}", place(path, project.name)))
    return found


def test_every_condition_on_a_macro_is_known_and_harmless() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for target in TARGETS:
        for condition in conditions(emitted(target)):
            found.setdefault(condition, set()).add(target.backend)
    expected = {key: {name for names in backends for name in names.split()} for key, backends in CONDITIONS.items()}
    assert found == expected


def test_an_include_guard_is_told_from_a_condition() -> None:
    text = b"#ifndef A_H_\n#define A_H_\n#ifdef __SYNTHESIS__\n#endif\n# if defined(X) && \\\n defined(Y) // z\n#endif"
    found = conditions(Project("net", {"firmware/net.cpp": text, "firmware/ap_types/a.h": text}))
    assert found == {("ifdef __SYNTHESIS__", "top.cpp"), ("if defined(X) &&   defined(Y)", "top.cpp")}


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_no_vendor_is_given_our_library_of_types(target: Target) -> None:
    """No script names them as sources or on an include path; a header includes types by name, as from the tool."""
    for name, content in emitted(target).files.items():
        text = content.decode(errors="replace")
        if not LIBRARIES & set(PurePosixPath(name).parts):
            if not name.endswith((".h", ".cpp", ".hpp")):
                assert not any(library in text for library in LIBRARIES), name
            assert not re.search(r'#include "[^"]*a[pc]_(types|math|simutils)/', text), name


# simulated as the vendor's compiler reads it

VENDOR: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Vitis": (("ap_fixed.h", "ap_int.h", "hls_stream.h"), ("__SYNTHESIS__", "__HLS_SYN__", "__VITIS_HLS__")),
    "Vivado": (("ap_fixed.h", "ap_int.h", "hls_stream.h"), ("__SYNTHESIS__", "__HLS_SYN__")),
    "Catapult": (("ac_fixed.h", "ac_int.h", "ac_channel.h", "mc_scverify.h"), ("__SYNTHESIS__", "__HLS_SYN__")),
    "Quartus": ((), ("__INTELFPGA_COMPILER__", "HLS_SYNTHESIS")),
}
"""Back end -> the library of types, the macros that its tool defines."""
INTEL = {
    "HLS/ac_fixed.h": "#include <ac_fixed.h>",
    "HLS/ac_float.h": "#include <ac_float.h>",
    "HLS/ac_int.h": "#include <ac_int.h>",
    "HLS/math.h": "#include <math.h>",
    "HLS/hls.h": """
#define component
#define hls_register
#define hls_init_on_powerup
#define hls_max_concurrency(n)
#define hls_component_ii(n)
#define hls_scheduler_target_fmax_mhz(n)
#define hls_stable_argument
#include "stream.h"
namespace ihc {
template <class T> using stream = nnet::stream<T>;
template <class T> using stream_in = nnet::stream<T>;
template <class T> using stream_out = nnet::stream<T>;
} // namespace ihc
""",
}
"""Stand-ins for what i++ brings along."""


def as_the_vendor_reads_it(project: Project, backend: str) -> Project:
    """Return a project whose top function sees the macros of the vendor's tool; its trace is kept."""
    library, macros = VENDOR[backend]
    top, main = f"firmware/{project.name}.cpp", "csim/main.cpp"
    traced = re.sub(r"#ifndef \w+(?=\n\s*nnet::save_layer_output)", "#ifndef NEVER", project.text(top))
    assert traced.count("#ifndef NEVER") == traced.count("save_layer_output") > 0
    lines = [f'#include "{header}"' for header in library]
    lines += ['#include "nnet_utils/nnet_helpers.h"'] if library else []
    lines += [*(f"#define {macro}" for macro in macros), '#include "vendor.h"', ""]
    files = {"firmware/vendor.h": traced, top: "\n".join(lines)}
    files[main] = re.sub(r"^\w+ [wb]\d+\[\d+\];$", "", project.text(main), flags=re.M)  # now the top's own
    files |= INTEL if backend == "Quartus" else {}
    return Project(project.name, {**project.files, **{path: text.encode() for path, text in files.items()}})


def equal(simulate: Simulate, project: Project, target: Target, name: str) -> bool:
    graph = lower(zoo.row(name))
    codes = inputs(graph, 40)
    simulated = simulate(as_the_vendor_reads_it(project, target.backend), graph, codes)
    expected = reference.run(graph, codes)
    return all((simulated.codes[op.name] == expected.codes[op.name]).all() for op in graph.ops)


SHORT = [
    ("Vitis", "io_parallel", "Latency"),
    ("Vitis", "io_stream", "Resource"),
    ("Quartus", "io_parallel", "Resource"),
]


@needs_compiler
@pytest.mark.parametrize(
    "target",
    [
        pytest.param(
            target, marks=() if (target.backend, target.io_type, target.strategy) in SHORT else pytest.mark.slow
        )
        for target in TARGETS
        if target.backend in VENDOR
    ],
    ids=str,
)
def test_what_synthesis_reads_computes_the_same(target: Target, simulate: Simulate) -> None:
    assert equal(simulate, emitted(target), target, "everything")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
@pytest.mark.parametrize(
    "name",
    ["residual_twice", "average_same", "softmax", "lookup_wide", "leaky_relu", "transposed_convolution", "conv1d"],
)
def test_our_kernels_are_the_same_for_synthesis(name: str, io_type: str, simulate: Simulate) -> None:
    target = Target(io_type=io_type)
    assert equal(simulate, emitted(target, name), target, name)


@needs_compiler
def test_a_change_that_only_synthesis_sees_is_seen(simulate: Simulate) -> None:
    target, name = Target(), "dense_twice"
    project = emitted(target, name)
    top = f"firmware/{project.name}.cpp"
    head, call, tail = project.text(top).rpartition("    nnet::dense")
    edited = f"{head}#ifdef __SYNTHESIS__\n    w3[0] = w3[0] + 1;\n#endif\n{call}{tail}"
    assert ", w3, " in tail and equal(simulate, project, target, name)
    assert not equal(simulate, Project(project.name, {**project.files, top: edited.encode()}), target, name)
