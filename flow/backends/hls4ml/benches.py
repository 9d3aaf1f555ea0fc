"""Test benches of projects with several inputs or outputs, for which hls4ml's writers make none that works.

Quartus' writer leaves out a bench with several outputs, and gives the first values of a sample to every input of a
stream; oneAPI's feeds the first input and reads the first output only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from flow.ir.graph import IntGraph
from flow.target import Target

BENCH = Path(__file__).parent / "quartus_bench.cpp"
FED = re.compile(r"float vals\[.*?\]; *\n.*?vals\[j\] = (.*?);.*?\(q, vals\);", re.DOTALL)
TAKEN = re.compile(r"float outputs\[.*?\];\n.*?\(q, outputs\);", re.DOTALL)


def benches(
    files: Mapping[str, bytes], graph: IntGraph, ports: Sequence[tuple[str, str]], target: Target
) -> dict[str, bytes]:
    """Return the test bench of a project with several ports, where hls4ml wrote none for them.

    Args:
        files: the project.
        graph: what it computes.
        ports: C++ types and names of the top function's ports, inputs first.
        target: what it is for.
    """
    if len(ports) == 2 or target.backend not in BENCHES:
        return {}
    path, text = BENCHES[target.backend](files, graph, ports, target.io_type == "io_stream")
    return {path: text.encode()}


def _quartus(
    files: Mapping[str, bytes], graph: IntGraph, ports: Sequence[tuple[str, str]], stream: bool
) -> tuple[str, str]:
    """Return where the test bench for Intel's HLS compiler lies, and its text."""
    sizes = [math.prod(op.shape) for op in (*graph.inputs, *(graph[name] for name in graph.outputs))]
    before, after, start = [], [], 0
    names = [f"{name}_port" if stream else name for _, name in ports]
    for number, ((kind, _), name, size) in enumerate(zip(ports, names, sizes, strict=True)):
        is_input = number < len(graph.inputs)
        if stream:
            before.append(f"stream_{'in' if is_input else 'out'}<{kind}> {name};")
        if is_input:
            before.append(f"nnet::convert_data<float, {kind}, {size}>(sample + {start}, {name});")
            start += size
        else:
            after += [
                f"nnet::convert_data_back<{kind}, float, {size}>({name}, values);",
                f"for (unsigned i = 0; i < {size}; i++)",
                '    results << values[i] << " ";',
            ]
    called = f"{graph.name}({', '.join(names)});" if stream else f"output_data outputs = {graph.name}(inputs);"
    before = before if stream else ["input_data inputs;", *before]
    text = Template(BENCH.read_text()).substitute(
        top=graph.name, n_input=start, n_largest=max(sizes), call="\n        ".join([*before, called, *after])
    )
    return f"{graph.name}_test.cpp", text


def _oneapi(
    files: Mapping[str, bytes], graph: IntGraph, ports: Sequence[tuple[str, str]], stream: bool
) -> tuple[str, str]:
    """Return where the test bench for oneAPI lies, and hls4ml's text with all ports in place of the first."""
    path, pipes = f"src/{graph.name}_test.cpp", [pipe for _, pipe in ports]
    inputs, outputs = pipes[: len(graph.inputs)], pipes[len(graph.inputs) :]
    read = [math.prod(op.shape) for op in graph.inputs]
    given = [math.prod(graph[name].shape) for name in graph.outputs]
    feeding = "\n".join(
        f"            nnet::convert_data<float, {pipe}, {size}>(q, vals + {sum(read[:number])});"
        for number, (pipe, size) in enumerate(zip(inputs, read, strict=True))
    )
    taking = "\n".join(
        f"            nnet::convert_data_back<{pipe}, float, {size}>(q, outputs + {sum(given[:number])});"
        for number, (pipe, size) in enumerate(zip(outputs, given, strict=True))
    )
    all_values = f"float vals[{sum(read)}];\n            for (int j = 0; j < {sum(read)}; j++)\n"
    text = FED.sub(lambda fed: f"{all_values}                vals[j] = {fed[1]};\n{feeding}", files[path].decode())
    return path, TAKEN.sub(f"float outputs[{sum(given)}];\n{taking}", text)


BENCHES = {"Quartus": _quartus, "oneAPI": _oneapi}
