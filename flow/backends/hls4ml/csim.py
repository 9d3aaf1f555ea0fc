"""C simulation: build a generated project with g++ and run it on integer codes."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from flow.errors import OutputError, ToolFailedError
from flow.ir.fixed import Codes
from flow.ir.graph import Input, IntGraph, Op, Reshape
from flow.ir.reference import code_dtype
from flow.project import Project, digest_files
from flow.results import SimResult
from flow.toolchain import require_tool, run_all, run_tool

INCLUDES = ("ap_types", "ac_types", "ac_types/include", "ac_math/include", "ac_simutils/include", "nnet_utils")
"""Where headers lie in the projects of any back end, below `firmware`; g++ passes over those that are not there."""
FLAGS = (
    *("-O1", "-std=c++17", "-w", "-I.", '-DWEIGHTS_DIR="firmware/weights"'),
    *(f"-Ifirmware/{directory}" for directory in INCLUDES),
)


def sources_digest(project: Project) -> str:
    """Return the SHA-256 of what the compiler reads, the compiler and its flags."""
    sources = {path: text for path, text in project.files.items() if re.search(r"\.(h|cpp)$", path)}
    compiler = run_tool([require_tool("g++"), "--version"], Path.cwd()).splitlines()[0]
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
    program = cache.resolve() / key[:16] / "csim"
    if program.exists():
        return program
    compiler = require_tool("g++")
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
            objects = [(f"firmware/{name}.cpp", f"{scratch}/top.o"), ("csim/main.cpp", f"{scratch}/main.o")]
            run_all([[compiler, *FLAGS, "-c", source, "-o", out] for source, out in objects], directory)
            run_tool([compiler, *(out for _, out in objects), "-o", f"{scratch}/csim"], directory)
            os.replace(f"{scratch}/csim", program)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", file=program.parent) from error
    return program


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
    started = time.perf_counter()
    parts = [part for part in np.array_split(codes.astype(np.int64), os.cpu_count() or 1) if len(part)]
    with tempfile.TemporaryDirectory(prefix="po2flow-csim-") as scratch:
        commands = []
        for number, part in enumerate(parts):
            out = Path(scratch) / str(number)
            out.mkdir()
            part.tofile(out / "inputs.bin")
            commands.append([str(program), str(out / "inputs.bin"), str(out)])
        for said in run_all(commands, directory):
            if said.strip():  # hls::stream prints a line when it is read empty, or dropped with words in it
                raise ToolFailedError(f"csim of {graph.name} complained: {said.strip().splitlines()[0]}")
        results: dict[str, Codes] = graph.split_port(codes)
        for op in graph.ops:
            if isinstance(op, Reshape):
                results[op.name] = results[op.inputs[0]].reshape(len(codes), *op.shape)
            elif not isinstance(op, Input):
                chunks = [_read(Path(scratch) / str(i), op, len(part)) for i, part in enumerate(parts)]
                results[op.name] = np.concatenate(chunks).astype(code_dtype(op.format))
    return SimResult(level="csim", codes=results, arithmetic="ap_fixed", run_s=time.perf_counter() - started)


def _read(directory: Path, op: Op, samples: int) -> Codes:
    assert not isinstance(op, Input)
    path = directory / f"{op.name}.bin"
    codes = np.fromfile(path, np.int64) if path.exists() else np.zeros(0, np.int64)
    expected = samples * int(np.prod(op.shape))
    if codes.size != expected:
        raise ToolFailedError(f"csim wrote {codes.size} codes of op '{op.name}', not {expected}")
    return codes.reshape(samples, *op.shape)
