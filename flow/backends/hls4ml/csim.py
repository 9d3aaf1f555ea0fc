"""C simulation: the program around a project, its compilation with g++, alone or many at once, and runs of it.

With one compilation of many projects (`compile_together`), each is in a namespace of its own and the headers they share
are read once. The generated `firmware/<name>.cpp` and `csim/main.cpp` are compiled as they are, but for three things:
headers of `nnet_utils` are included once and outside, `nnet_code_gen.h` (made per project) has its class names
numbered, and the definitions of the trace variables in `main.cpp` are made once. The program picks a project by the
name of the directory in which it runs.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from string import Template

import numpy as np

from flow.backends.functions import Level
from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.layers import traced
from flow.errors import ToolFailedError
from flow.files import made_once, temporary
from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph, Op, Reshape
from flow.ir.reference import code_dtype
from flow.project import Project, digest_files, write
from flow.results import SimResult
from flow.target import Target
from flow.toolchain import require_tool, run_all, run_tool, tool_version

INCLUDES = ("ap_types", "ac_types", "ac_types/include", "ac_math/include", "ac_simutils/include", "nnet_utils")
"""Where headers lie in the projects of any back end, below `firmware`; g++ passes over those that are not there."""
FLAGS = (
    *("-O1", "-std=c++17", "-w", "-I.", '-DWEIGHTS_DIR="firmware/weights"'),
    *(f"-Ifirmware/{directory}" for directory in INCLUDES),
)
PROGRAM = Path(__file__).parent / "csim_main.cpp"
PARAMETERS = "firmware/parameters.h"
OWN = ("nnet_po2.h", "nnet_flow.h")
TRACE = re.compile(r"namespace nnet \{\nbool trace_enabled.*?\} // namespace nnet\n", re.DOTALL)
INCLUDE = re.compile(r'#include ["<](?!weights/)[^">]+[">]\n')
VENDOR = re.compile(r'#include ["<](?:a[cp]_\w+|hls_stream|mc_\w+)\.h[">]')
CODE_BYTES, FILES_BYTES = 8, 1 << 28
"""A code takes so many bytes in the files of the simulation, and those of one process so many in all, about."""
CODE_GEN = re.compile(r"fill_buffer_|pointwise_conv_")


def sources_digest(project: Project) -> str:
    """Return the SHA-256 of what the compiler reads, the compiler and its flags."""
    sources = {path: text for path, text in project.files.items() if re.search(r"\.(h|hpp|cpp|tb)$", path)}
    compiler = tool_version(require_tool("g++"))
    return hashlib.sha256(f"{digest_files(sources)} {compiler} {FLAGS}".encode()).hexdigest()


def compile_project(directory: Path, name: str, cache: Path, key: str) -> Path:
    """Return the simulation program of a project, built unless it is in the cache.

    Args:
        directory: the project.
        name: its top function.
        cache: directory of built programs.
        key: `sources_digest` of the project.

    Raises:
        ToolMissingError: there is no g++.
        ToolFailedError: the project does not compile.
        OutputError: the cache cannot be written.
    """
    top, main = f"firmware/{name}.cpp", "csim/main.cpp"

    def build(scratch: Path) -> None:
        compiler = require_tool("g++")
        objects = [(top, f"{scratch}/top.o"), (main, f"{scratch}/main.o")]
        run_all([[compiler, *FLAGS, "-c", source, "-o", out] for source, out in objects], directory)
        run_tool([compiler, *(out for _, out in objects), "-o", f"{scratch}/csim"], directory)

    return made_once(cache.resolve() / key[:16], "csim", build)


def run(program: Path, directory: Path, graph: IntGraph, codes: Codes) -> SimResult:
    """Run the simulation, the samples split over the processors.

    Args:
        program: what `compile_project` built.
        directory: the project (its weight files are read at run time).
        graph: the graph of the project: names, shapes and formats of the outputs.
        codes: integers (samples, *port_shape).

    Returns:
        Codes of every op, level "csim"; ops that only pass codes on repeat their input's.

    Raises:
        ToolFailedError: it crashed, complained, or wrote less than it should.
    """
    started, cores = time.perf_counter(), os.cpu_count() or 1
    results: dict[str, Codes] = graph.split_port(codes)
    written = [op for op in graph.ops if not isinstance(op, Input | Reshape)]
    results |= {op.name: np.empty((len(codes), *op.shape), code_dtype(op.format)) for op in written}
    most = max(1, FILES_BYTES // (CODE_BYTES * sum(math.prod(op.shape) for op in (*graph.inputs, *written))))
    ends = np.linspace(0, len(codes), max(cores, math.ceil(len(codes) / most)) + 1).astype(int).tolist()
    parts = [slice(*pair) for pair in pairwise(ends) if pair[0] < pair[1]]
    for first in range(0, len(parts), cores):
        _run_parts(program, directory, graph, codes, parts[first : first + cores], results)
    for op in graph.ops:
        if isinstance(op, Reshape):
            results[op.name] = results[op.inputs[0]].reshape(len(codes), *op.shape)
    return SimResult(level="csim", codes=results, arithmetic="ap_fixed", run_s=time.perf_counter() - started)


def _run_parts(
    program: Path, directory: Path, graph: IntGraph, codes: Codes, parts: Sequence[slice], results: Mapping[str, Codes]
) -> None:
    """Run parts of the samples side by side, and put the codes of ops that the program writes into `results`."""
    with temporary() as scratch:
        outs = [scratch / str(number) for number in range(len(parts))]
        for out, part in zip(outs, parts, strict=True):
            out.mkdir()
            codes[part].astype(np.int64).tofile(out / "inputs.bin")
        for said in run_all([[str(program), str(out / "inputs.bin"), str(out)] for out in outs], directory):
            if said.strip():  # hls::stream prints a line when it is read empty, or dropped with words in it
                raise ToolFailedError(f"csim of {graph.name} complained: {said.strip().splitlines()[0]}")
        for op in graph.ops:
            if not isinstance(op, Input | Reshape):
                for out, part in zip(outs, parts, strict=True):
                    results[op.name][part] = _read(out, op, part.stop - part.start)


def _read(directory: Path, op: Op, samples: int) -> Codes:
    path = directory / f"{op.name}.bin"
    codes = np.fromfile(path, np.int64) if path.exists() else np.zeros(0, np.int64)
    expected = samples * math.prod(op.shape)
    if codes.size != expected:
        raise ToolFailedError(f"csim wrote {codes.size} codes of op '{op.name}', not {expected}")
    return codes.reshape(samples, *op.shape)


# -- many at once


def compile_together(
    projects: Sequence[Project], graphs: Sequence[IntGraph], directory: Path, programs: int = 2
) -> list[Level]:
    """Return a function for each project that simulates it.

    Args:
        projects: of one io_type; their names differ.
        graphs: of the projects.
        directory: where they are written and compiled.
        programs: compilations side by side.

    Raises:
        ToolMissingError: there is no g++.
        ToolFailedError: a project does not compile.
    """
    for project, graph in zip(projects, graphs, strict=True):
        write(project, directory / graph.name)
    compiler = require_tool("g++")
    shared = directory / graphs[0].name
    flags = [flag.replace("-Ifirmware", f"-I{shared}/firmware") for flag in FLAGS]
    flags += [f"-I{shared}/firmware", "-O0"]  # they run for a moment only
    commands = []
    for part in range(min(programs, len(projects))):
        (directory / f"all{part}.cpp").write_text(_source(projects[part::programs], directory))
        commands.append([compiler, *flags, f"{directory}/all{part}.cpp", "-o", f"{directory}/all{part}"])
    run_all(commands, shared)
    return [
        partial(run, directory / f"all{number % programs}", directory / graph.name, graph)
        for number, graph in enumerate(graphs)
    ]


def _source(projects: Sequence[Project], directory: Path) -> str:
    first = projects[0].name
    texts = [project.text(path) for project in projects for path in ("firmware/defines.h", PARAMETERS)]
    headers = sorted({header for text in texts for header in re.findall(r'#include "(nnet_utils/[^"]+)"', text)})
    headers.sort(key="nnet_utils/nnet_helpers.h".__ne__)  # some need it, and do not include it
    lines = [
        "#include <array>\n#include <cmath>\n#include <cstdint>\n#include <cstdio>\n#include <filesystem>\n"
        "#include <iostream>\n#include <map>\n#include <string>\n#include <tuple>\n#include <vector>",
        *VENDOR.findall(projects[0].text(f"firmware/{first}.h") + projects[0].text(f"firmware/{first}.cpp")),
        f'#include "{directory}/{first}/firmware/defines.h"',
        *(f'#include "{header}"' for header in headers),
        *(f'#include "nnet_utils/{name}"' for name in OWN if f"firmware/nnet_utils/{name}" in projects[0].files),
        *TRACE.findall(projects[0].text("csim/main.cpp")),
        *(_in_namespace(project) for project in projects),
        "int main(int argc, char **argv) {",
        "    const std::string here = std::filesystem::current_path().filename();",
        *(f'    if (here == "{p.name}") return {p.name}_space::main(argc, argv);' for p in projects),
        "    return 2;\n}\n",
    ]
    return "\n".join(lines)


def _in_namespace(project: Project) -> str:
    path = "firmware/nnet_utils/nnet_code_gen.h"
    generated = project.text(path).partition("// hls4ml insert code\n")[2] if path in project.files else ""
    generated = generated.rpartition("} // namespace nnet")[0]
    rename = rf"\g<0>{project.name}_"
    parts = [
        f"#undef DEFINES_H_\n#undef PARAMETERS_H_\n#undef {project.name.upper()}_H_",
        f"namespace nnet {{\n{CODE_GEN.sub(rename, generated)}\n}}",
        f"namespace {project.name}_space {{",
        INCLUDE.sub("", project.text("firmware/defines.h")),
        _with_weights(project, CODE_GEN.sub(rename, INCLUDE.sub("", project.text(PARAMETERS)))),
        INCLUDE.sub("", project.text(f"firmware/{project.name}.h")),
        _with_weights(project, INCLUDE.sub("", project.text(f"firmware/{project.name}.cpp"))),
        INCLUDE.sub("", TRACE.sub("", project.text("csim/main.cpp"))),
        "}",
    ]
    return "\n".join(parts)


def _with_weights(project: Project, text: str) -> str:
    """Put weight files in place of their includes, so that each is read again for each project."""

    def content(match: re.Match[str]) -> str:
        weights = project.text(f"firmware/{match.group(1)}")
        return re.sub(r"#ifndef (\w+_H_)\n", r"#undef \1\n\g<0>", weights)

    return re.sub(r'#include "(weights/[^"]+)"', content, text)


# -- the program around a project


def csim_main(graph: IntGraph, target: Target, ports: Sequence[tuple[str, str]], source: str) -> str:
    """Return the program.

    Args:
        graph: what the project computes.
        target: what the project is for.
        ports: C++ types and names of the top function's ports, inputs first.
        source: text of the top function.
    """
    outputs, dialect = [graph[name] for name in graph.outputs], DIALECTS[target.backend]
    text = Template(PROGRAM.read_text()).substitute(
        top=graph.name,
        taps=", ".join(f'{{"{op.name}", {math.prod(op.shape)}, {op.format.frac_bits}}}' for op in traced(graph)),
        n_input=math.prod(graph.port_shape),
        n_largest=max(math.prod(op.shape) for op in (*graph.inputs, *outputs)),
        call="\n        ".join(_called(graph, ports, target, source)),
    )
    loaded = (
        re.findall(r"nnet::load_weights_from_txt<(\w+), (\d+)>\((\w+),", source) if dialect.declares_weights else []
    )
    return text + "".join(f"{kind} {variable}[{size}];\n" for kind, size, variable in loaded)


def _piped(graph: IntGraph, ports: Sequence[tuple[str, str]], source: str) -> list[str]:
    """Return how a sample runs through a project whose ports are pipes."""
    task = re.search(r"void (\w+)::operator\(\)\(\)", source)
    assert task is not None, "oneAPI's top function"
    before, after, start = ["sycl::queue queue;"], [f"{task[1]}{{}}();"], 0
    ops = (*graph.inputs, *(graph[name] for name in graph.outputs))
    for number, (op, (_, pipe)) in enumerate(zip(ops, ports, strict=True)):
        size = math.prod(op.shape)
        if number < len(graph.inputs):
            before.append(f"to_values(sample.data() + {start}, {size}, {op.format.frac_bits}, real.data());")
            before.append(f"nnet::convert_data<double, {pipe}, {size}>(queue, real.data());")
            start += size
        else:
            after.append(f"nnet::convert_data_back<{pipe}, double, {size}>(queue, real.data());")
        after += [
            f"if (!{pipe}::words().empty())",
            f'    return fail("not as many words as a sample has", "{op.name}");',
        ]
    return [*before, *after]


def _called(graph: IntGraph, ports: Sequence[tuple[str, str]], target: Target, source: str) -> list[str]:
    """Return how a sample runs through any number of ports, arrays or streams, which go through `real`."""
    dialect, stream = DIALECTS[target.backend], target.io_type == "io_stream"
    if dialect.ports == "pipes":
        return _piped(graph, ports, source)
    structs = dialect.ports == "structs" and not stream
    before, after, names, start = ["input_data inputs;"] if structs else [], [], [], 0
    sides: list[tuple[str, int, Op]] = [("x", number, op) for number, op in enumerate(graph.inputs)]
    sides += [("y", number, graph[name]) for number, name in enumerate(graph.outputs)]
    for (side, number, op), (kind, variable) in zip(sides, ports, strict=True):
        size, name = math.prod(op.shape), variable if structs else f"{side}{number}"
        names.append(name)
        if not structs:
            template = dialect.stream[side == "y"]
            before.append(f"{template}<{kind}> {name};" if stream else f"{kind} {name}[{size}];")
        complaint = "an output holds more than one result"
        if side == "x":
            before += [
                f"to_values(sample.data() + {start}, {size}, {op.format.frac_bits}, real.data());",
                f"nnet::convert_data<double, {kind}, {size}>(real.data(), {name});",
            ]
            complaint = "an input was not read to its end"
            start += size
        elif stream:
            after.append(f"nnet::{dialect.drains}<{kind}, double, {size}>({name}, real.data());")
        if stream and dialect.holds_words:
            after += [f"if ({dialect.holds_words.format(name)})", f'    return fail("{complaint}", "{op.name}");']
    return [*before, f"{graph.name}({'inputs' if structs else ', '.join(names)});", *after]
