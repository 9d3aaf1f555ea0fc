"""Simulate many projects with one compilation: each in a namespace of its own, the headers they share read once.

The generated `firmware/<name>.cpp` and `csim/main.cpp` are compiled as they are, but for three things: headers of
`nnet_utils` are included once and outside, `nnet_code_gen.h` (made per project) has its class names numbered, and the
definitions of the trace variables in `main.cpp` are made once. The program picks a project by the name of the
directory in which it runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flow.backends.functions import Level
from flow.backends.hls4ml import csim
from flow.ir.graph import IntGraph
from flow.project import Project, write
from flow.toolchain import require_tool, run_all

PARAMETERS = "firmware/parameters.h"
TRACE = re.compile(r"namespace nnet \{\nbool trace_enabled.*?\} // namespace nnet\n", re.DOTALL)
INCLUDE = re.compile(r'#include ["<](?!weights/)[^">]+[">]\n')
CODE_GEN = re.compile(r"fill_buffer_|pointwise_conv_")


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
    flags = [flag.replace("-Ifirmware", f"-I{shared}/firmware") for flag in csim.FLAGS]
    flags += [f"-I{shared}/firmware", "-O0"]  # they run for a moment only
    commands = []
    for part in range(min(programs, len(projects))):
        (directory / f"all{part}.cpp").write_text(_source(projects[part::programs]))
        commands.append([compiler, *flags, f"{directory}/all{part}.cpp", "-o", f"{directory}/all{part}"])
    run_all(commands, shared)
    return [
        partial(csim.run, directory / f"all{number % programs}", directory / graph.name, graph)
        for number, graph in enumerate(graphs)
    ]


def _source(projects: Sequence[Project]) -> str:
    texts = [project.text(path) for project in projects for path in ("firmware/defines.h", PARAMETERS)]
    headers = sorted({header for text in texts for header in re.findall(r'#include "(nnet_utils/[^"]+)"', text)})
    lines = [
        "#include <array>\n#include <cmath>\n#include <cstdint>\n#include <cstdio>\n#include <filesystem>\n"
        "#include <iostream>\n#include <map>\n#include <string>\n#include <tuple>\n#include <vector>",
        '#include "ap_fixed.h"\n#include "ap_int.h"\n#include "hls_stream.h"',
        *(f'#include "{header}"' for header in headers),
        '#include "nnet_utils/nnet_po2.h"\n#include "nnet_utils/nnet_flow.h"',
        *TRACE.findall(projects[0].text("csim/main.cpp")),
        *(_in_namespace(project) for project in projects),
        "int main(int argc, char **argv) {",
        "    const std::string here = std::filesystem::current_path().filename();",
        *(f'    if (here == "{p.name}") return {p.name}_space::main(argc, argv);' for p in projects),
        "    return 2;\n}\n",
    ]
    return "\n".join(lines)


def _in_namespace(project: Project) -> str:
    generated = project.text("firmware/nnet_utils/nnet_code_gen.h").partition("// hls4ml insert code\n")[2]
    generated = generated.rpartition("} // namespace nnet")[0]
    rename = rf"\g<0>{project.name}_"
    parts = [
        "#undef DEFINES_H_\n#undef PARAMETERS_H_",
        f"namespace nnet {{\n{CODE_GEN.sub(rename, generated)}\n}}",
        f"namespace {project.name}_space {{",
        INCLUDE.sub("", project.text("firmware/defines.h")),
        _with_weights(project, CODE_GEN.sub(rename, INCLUDE.sub("", project.text(PARAMETERS)))),
        INCLUDE.sub("", project.text(f"firmware/{project.name}.h")),
        INCLUDE.sub("", project.text(f"firmware/{project.name}.cpp")),
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
