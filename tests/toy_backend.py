"""A back end in under sixty lines: dense layers as plain C++, sixty-four bits wide. All that a new one has to write."""

import numpy as np

from flow.backends.functions import Functions, Level, Site
from flow.errors import UnsupportedError
from flow.ir.graph import Dense, IntGraph
from flow.ir.intervals import accumulation
from flow.project import Project
from flow.results import SimResult
from flow.target import Target
from flow.toolchain import require_tool, run_tool

MAIN = """#include <cstdint>
#include <cstdio>
static int64_t cast(int64_t sum, int shift, int64_t low, int64_t high) {
    int64_t code = sum >> shift, twice = (sum - (code << shift)) * 2, one = int64_t(1) << shift;
    code += twice > one || (twice == one && (code & 1)); // AP_RND_CONV: a tie goes to the even code
    return code < low ? low : code > high ? high : code; // AP_SAT
}
int main(int argc, char** argv) {
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    static int64_t @arrays;
    while (fread(@port, 8, @size, in) == @size) {@steps}
}
"""


def refusals(graph: IntGraph, target: Target) -> list[UnsupportedError]:
    others = [op for op in graph.ops[1:] if not isinstance(op, Dense)]
    return [UnsupportedError(f"'{op.kind}' is not dense", op=op.name, remedy="use dense layers only") for op in others]


def emit(graph: IntGraph, target: Target) -> Project:
    steps = ""
    for op in graph.ops[1:]:
        assert isinstance(op, Dense), "refused"
        (x,), sums = graph.sources(op), accumulation(op, graph.sources(op)[0].format)
        for j, (column, bias) in enumerate(zip(op.weight.codes.T, op.bias.codes, strict=True)):
            terms = [f"{x.name}[{i}] * {int(w) << sums.shifts[0]}" for i, w in enumerate(column) if w]
            total = " + ".join([*terms, f"{int(bias) << sums.shifts[1]}"])
            ends = f"{sums.frac_bits - op.format.frac_bits}, {op.format.min_code}, {op.format.max_code}"
            steps += f"\n        {op.name}[{j}] = cast({total}, {ends});"
        steps += f"\n        fwrite({op.name}, 8, {op.shape[0]}, out);"
    names = {"arrays": ", ".join(f"{op.name}[{op.shape[0]}]" for op in graph), "steps": steps}
    text = MAIN
    for name, value in {**names, "port": graph.inputs[0].name, "size": str(graph.port_shape[0])}.items():
        text = text.replace(f"@{name}", value)
    return Project(graph.name, {"main.cpp": text.encode()})


def compile_cpp(site: Site) -> Level:
    run_tool([require_tool("g++"), "project/main.cpp", "-o", "simulation"], site.path)

    def run(codes: np.ndarray) -> SimResult:
        codes.astype(np.int64).tofile(site.path / "in.bin")
        run_tool([str(site.path.resolve() / "simulation"), "in.bin", "out.bin"], site.path)
        parts = np.fromfile(site.path / "out.bin", np.int64).reshape(len(codes), -1)
        split = np.split(parts, np.cumsum([op.shape[0] for op in site.graph.ops[1:-1]]), axis=1)
        return SimResult(level="csim", codes=dict(zip((op.name for op in site.graph), [codes, *split], strict=True)))

    return run


def differences(project: Project, graph: IntGraph, target: Target) -> tuple[str, ...]:
    return () if project.files == emit(graph, target).files else ("main.cpp is not what the graph says",)


PLAIN = Functions(refusals=refusals, emit=emit, differences=differences, compile=compile_cpp)
