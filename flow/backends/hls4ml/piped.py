"""C simulation of oneAPI projects with a plain C++ compiler: a stand-in for SYCL, and the open ac_types.

The sources are compiled as they lie on disk, but for two things: constants of ac_types are no `constexpr`, which only
Intel's version of the types can be, and behind each op the top function keeps what it wrote. Pipes have no end and
tasks run one after another (`sycl/sycl/sycl.hpp`).
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from flow.backends.hls4ml.csim import FLAGS
from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.layers import traced
from flow.backends.hls4ml.project_text import CALL, FOR_SIMULATION, read_text
from flow.files import made_once
from flow.ir.graph import IntGraph
from flow.project import Project, write
from flow.toolchain import require_tool, run_tool

HERE = Path(__file__).parent / "sycl"
CONSTANT = re.compile(rb"\bconstexpr (\w+_t \w+ =|auto padds =)")
ASYNC = re.compile(r"    (\w+)\.async\(.*?\);")
KEEP = """
#include <map>
#include <string>

namespace csim {
template <class word_T> static double *put(double *place, const word_T &word) {
    for (const auto &code : word)
        *place++ = code.to_double();
    return place;
}
static double *buffer(const char *op) { return static_cast<double *>((*nnet::trace_outputs)[op]); }
template <class array_T> static void keep(const array_T &array, const char *op) { put(buffer(op), array); }
template <class pipe_T> static void keep_words(const char *op) {
    double *place = buffer(op);
    for (const auto &word : pipe_T::words())
        place = put(place, word);
}
} // namespace csim
"""


def program_source(project: Project, graph: IntGraph) -> str:
    """Return the top function with what each op wrote kept for simulation.

    Raises:
        ValueError: it has no longer the form in which it was generated.
    """
    dialect = DIALECTS["oneAPI"]
    text, source = read_text(project, dialect), project.text(f"{dialect.sources}/{graph.name}.cpp")
    written = {call.op: call.writes[0] for call in text.calls}
    ops = {op.name for op in traced(graph)}

    def kept(call: re.Match[str]) -> str:
        op = call["op"]
        return f'{call[0]}\n    csim::keep({written[op]}, "{op}");' if op in ops else call[0]

    def kept_words(task: re.Match[str]) -> str:
        op = task[1]
        return f'{task[0]}\n    csim::keep_words<{written[op]}>("{op}");' if op in ops else task[0]

    body = ASYNC.sub(kept_words, CALL.sub(kept, FOR_SIMULATION.sub("", source)))
    if body.count("csim::keep") != len(ops):
        raise ValueError(f"{dialect.sources}/{graph.name}.cpp: an op is not called as it was generated")
    place = body.index("using sycl::ext::intel::experimental::task_sequence;")
    return body[:place] + KEEP + body[place:]


def compile_pipes(project: Project, graph: IntGraph, cache: Path, key: str) -> Path:
    """Return the simulation program of a project, built unless it is in the cache.

    Args:
        project: as it lies on disk.
        graph: its graph.
        cache: directory of built programs.
        key: `csim.sources_digest` of the project.

    Raises:
        ToolMissingError: there is no g++.
        ToolFailedError: it does not compile.
        ValueError: what `program_source` raises.
        OutputError: the cache cannot be written.
    """
    sources = DIALECTS["oneAPI"].sources
    files = {path: CONSTANT.sub(rb"const \1", text) for path, text in project.files.items()}
    files[f"{sources}/{graph.name}.cpp"] = CONSTANT.sub(rb"const \1", program_source(project, graph).encode())

    def build(scratch: Path) -> None:
        write(Project(graph.name, files), scratch / "project")
        includes = (HERE, open_types(), scratch / "project/src", scratch / "project" / sources)
        command = [require_tool("g++"), *(flag for flag in FLAGS if not flag.startswith("-I"))]
        command += [f"-I{path}" for path in includes]
        command += [f"{sources}/{graph.name}.cpp", "csim/main.cpp", "-o", f"{scratch}/csim"]
        run_tool(command, scratch / "project")

    return made_once(cache.resolve() / key[:16], "csim", build)


def open_types() -> Path:
    """Return where hls4ml keeps the open ac_types, which its projects for oneAPI take from Intel's compiler."""
    found = find_spec("hls4ml")
    assert found is not None and found.origin, "the project was generated with it"
    return Path(found.origin).parent / "templates/quartus/ac_types"
