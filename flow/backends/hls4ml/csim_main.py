"""`csim/main.cpp` of a project: C simulation on integer codes, with the lines that run one sample."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from flow.backends.hls4ml.dialects import DIALECTS
from flow.backends.hls4ml.layers import traced
from flow.ir.graph import IntGraph, Op
from flow.target import Target

PROGRAM = Path(__file__).parent / "csim_main.cpp"


def csim_main(graph: IntGraph, target: Target, kinds: Sequence[str], source: str) -> str:
    """Return the program.

    Args:
        graph: what the project computes.
        target: what the project is for.
        kinds: C++ types of the top function's ports, inputs first.
        source: text of the top function.
    """
    outputs = [graph[name] for name in graph.outputs]
    extended = DIALECTS[target.backend].extended
    calls = _ports(graph, outputs, kinds, target) if extended else _sample(graph, target)
    text = Template(PROGRAM.read_text()).substitute(
        top=graph.name,
        taps=", ".join(f'{{"{op.name}", {math.prod(op.shape)}, {op.format.frac_bits}}}' for op in traced(graph)),
        n_input=math.prod(graph.port_shape),
        n_largest=max(math.prod(op.shape) for op in (*graph.inputs, *outputs)),
        call="\n        ".join(calls),
    )
    # a top function that declares its weights only
    loaded = [] if extended else re.findall(r"nnet::load_weights_from_txt<(\w+), (\d+)>\((\w+),", source)
    return text + "".join(f"{kind} {variable}[{size}];\n" for kind, size, variable in loaded)


def _ports(graph: IntGraph, outputs: Sequence[Op], kinds: Sequence[str], target: Target) -> list[str]:
    """Return how a sample runs through any number of ports, arrays or streams, which go through `real`."""
    stream = target.io_type == "io_stream"
    before, after, names, start = [], [], [], 0
    ports = [*((f"x{i}", op) for i, op in enumerate(graph.inputs)), *((f"y{i}", op) for i, op in enumerate(outputs))]
    for (name, op), kind in zip(ports, kinds, strict=True):
        size = math.prod(op.shape)
        names.append(name)
        before.append(f"hls::stream<{kind}> {name};" if stream else f"{kind} {name}[{size}];")
        complaint = "an output holds more than one result"
        if name.startswith("x"):
            before += [
                f"to_values(sample.data() + {start}, {size}, {op.format.frac_bits}, real.data());",
                f"nnet::convert_data<double, {kind}, {size}>(real.data(), {name});",
            ]
            complaint = "an input was not read to its end"
            start += size
        elif stream:
            after.append(f"nnet::convert_data<{kind}, double, {size}>({name}, real.data());")
        if stream:
            after += [f"if (!{name}.empty())", f'    return fail("{complaint}", "{op.name}");']
    return [*before, f"{graph.name}({', '.join(names)});", *after]


def _sample(graph: IntGraph, target: Target) -> list[str]:
    """Return how a sample runs through a project with one input and one output."""
    port, n_in = graph.inputs[0], math.prod(graph.port_shape)
    values = {"n_in": n_in, "n_out": math.prod(graph.output.shape), "port": port.name, "top": graph.name}
    return [
        f"to_values(sample.data(), {n_in}, {port.format.frac_bits}, real.data());",
        *(Template(line).substitute(values) for line in SAMPLE[target.backend, target.io_type]),
    ]


SAMPLE: Mapping[tuple[str, str], Sequence[str]] = {
    ("Quartus", "io_parallel"): (
        "input_data x;",
        "nnet::convert_data<double, input_t, $n_in>(real.data(), x.$port);",
        "$top(x);",
    ),
    ("Quartus", "io_stream"): (
        "stream_in<input_t> x;",
        "stream_out<result_t> y;",
        "nnet::convert_data<double, input_t, $n_in>(real.data(), x);",
        "$top(x, y);",
        "nnet::convert_data_back<result_t, double, $n_out>(y, real.data());",
    ),
    ("Catapult", "io_parallel"): (
        "input_t x[$n_in];",
        "result_t y[$n_out];",
        "nnet::convert_data<double, input_t, $n_in>(real.data(), x);",
        "$top(x, y);",
    ),
    ("Catapult", "io_stream"): (
        "ac_channel<input_t> x;",
        "ac_channel<result_t> y;",
        "nnet::convert_data<double, input_t, $n_in>(real.data(), x);",
        "$top(x, y);",
        "nnet::convert_data<result_t, double, $n_out>(y, real.data());",
        "if (x.debug_size() + y.debug_size() != 0)",
        '    return fail("not as many words as a sample has", "$top");',
    ),
}
"""How a project of these back ends runs one sample, by back end and io_type."""
