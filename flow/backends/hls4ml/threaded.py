"""Threaded C simulation of a streamed project: its kernels side by side, with the FIFO depths that it is built with.

`hls::stream` of the vendor's simulation never blocks and its kernels run one after another, so no depth is too small
there. Here the same top function is compiled with each kernel in a thread of its own and with streams that block
(`threads/hls_stream.h`); samples follow each other without a pause.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from string import Template

import numpy as np

from flow.backends.hls4ml.csim import FLAGS, sources_digest
from flow.backends.hls4ml.dialects import AMD
from flow.backends.hls4ml.project_text import DEPTH, read_text
from flow.files import made_once, temporary
from flow.ir import reference
from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph
from flow.project import Project
from flow.toolchain import require_tool, run_tool

HERE = Path(__file__).parent / "threads"
OWN_FLAGS = ("-O0", "-pthread", f"-I{HERE}")
"""Before those of csim, so that our `hls_stream.h` is found first."""
TRACE = re.compile(r"#ifndef __SYNTHESIS__\s*nnet::save_layer_output<[^;]*;\s*#endif\n")
INCLUDE = re.compile(r"^#include .*\n", re.MULTILINE)
CALL = re.compile(r"^    (nnet::\w+<[^;]*;) // (\w+)$", re.MULTILINE)
END = re.compile(r"\}\s*\Z")


def program_source(project: Project, graph: IntGraph) -> str:
    """Return the program: the project's top function with threads for calls, and a `main` around it.

    Raises:
        ValueError: the top function has no longer the form in which it was generated.
    """
    top = INCLUDE.sub("", TRACE.sub("", project.text(f"firmware/{graph.name}.cpp")))
    top, calls = CALL.subn(r'    threads::add("\2", [&] { \1 });', top)
    if calls != top.count("nnet::") - top.count("nnet::load_weights_from_txt") or not calls:
        raise ValueError(f"firmware/{graph.name}.cpp: a kernel is not called as it was generated")
    top = END.sub("    threads::run();\n}\n", DEPTH.sub(r"\1.depth(\2);", top))
    headers = ("<cmath>", "<cstdint>", "<cstdio>", "<vector>", f'"firmware/{graph.name}.h"', '"firmware/parameters.h"')
    return "\n".join([*(f"#include {header}" for header in headers), top, _main(project, graph)])


def _main(project: Project, graph: IntGraph) -> str:
    types = [kind for kind, _ in read_text(project, AMD).ports]
    outputs = [graph[name] for name in graph.outputs]
    ports, reading, writing, start = [], [], [], {"x": 0, "y": 0}
    pairs = [*(("x", op) for op in graph.inputs), *(("y", op) for op in outputs)]
    for number, ((side, op), kind) in enumerate(zip(pairs, types, strict=True)):
        name, size, frac_bits = f"port{number}", math.prod(op.shape), op.format.frac_bits
        ports.append(f'hls::stream<{kind}> {name}("{op.name}");')
        if side == "x":
            reading.append(f"to_values(sample.data() + {start[side]}, {size}, {frac_bits}, real.data());")
            reading.append(f"nnet::convert_data<double, {kind}, {size}>(real.data(), {name});")
        else:
            writing.append(f"nnet::convert_data<{kind}, double, {size}>({name}, real.data());")
            writing.append(f"to_codes(real.data(), {size}, {frac_bits}, codes + {start[side]});")
        start[side] += size
    return Template((HERE / "main.cpp").read_text()).substitute(
        top=graph.name,
        n_input=start["x"],
        n_output=start["y"],
        n_largest=max(math.prod(op.shape) for _, op in pairs),
        ports="\n    ".join(ports),
        inputs="\n        ".join(reading),
        arguments=", ".join(f"port{number}" for number in range(len(pairs))),
        outputs="\n        ".join(writing),
    )


def compile_threads(project: Project, directory: Path, graph: IntGraph, cache: Path) -> Path:
    """Return the threaded program of a project, built unless it is in the cache.

    Args:
        project: as it lies in `directory`.
        directory: where the compiler finds its headers.
        graph: its graph.
        cache: directory of built programs.

    Raises:
        ToolMissingError: there is no g++.
        ToolFailedError: it does not compile.
        ValueError: what `program_source` raises.
        OutputError: the cache cannot be written.
    """
    source = program_source(project, graph)
    own = (source, (HERE / "hls_stream.h").read_text(), sources_digest(project))
    key = hashlib.sha256(repr(own).encode()).hexdigest()

    def build(scratch: Path) -> None:
        (scratch / "threads.cpp").write_text(source)
        command = [require_tool("g++"), *OWN_FLAGS, *(flag for flag in FLAGS if not flag.startswith("-O"))]
        run_tool([*command, f"{scratch}/threads.cpp", "-o", f"{scratch}/threads"], directory)

    return made_once(cache.resolve() / key[:16], "threads", build)


def complaints(program: Path, directory: Path, graph: IntGraph, codes: Codes) -> tuple[str, ...]:
    """Run samples through the threaded program; return what is wrong, nothing if nothing is.

    Args:
        program: what `compile_threads` built.
        directory: the project (its weight files are read at run time).
        graph: its graph.
        codes: integers (samples, *port_shape).

    Returns:
        Lines: who waits for what in a deadlock, words left over, an output that differs from the reference.

    Raises:
        ToolFailedError: it crashed.
    """
    with temporary() as scratch:
        inputs, outputs = scratch / "inputs.bin", scratch / "outputs.bin"
        codes.astype(np.int64).tofile(inputs)
        said = run_tool([str(program), str(inputs), str(outputs)], directory)
        if said.strip():
            return tuple(f"its streams, run side by side: {line}" for line in said.strip().splitlines())
        computed = np.fromfile(outputs, np.int64).reshape(len(codes), -1)
    result = reference.run(graph, codes, keep=graph.outputs).codes
    expected = np.concatenate([result[name].reshape(len(codes), -1) for name in graph.outputs], axis=1)
    wrong = int(np.count_nonzero((computed != expected).any(axis=1)))
    return (f"its streams, run side by side: {wrong} of {len(codes)} samples differ",) if wrong else ()
