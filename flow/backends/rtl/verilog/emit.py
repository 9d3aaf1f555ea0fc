"""IntGraph -> a Verilog project: one module per op, named after it, behind AXI-Stream ports.

With io_parallel a sample is one beat and the whole graph one pipeline, which accepts a sample per cycle; with io_stream
a pixel is one beat, and each op a stage of its own behind a line buffer, with FIFOs where branches part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from flow.backends.rtl.netlists.needs import Needs
from flow.backends.rtl.verilog.depths import stream_timing
from flow.backends.rtl.verilog.kernels import refusals
from flow.backends.rtl.verilog.op_modules import OpModule, tensor_module
from flow.backends.rtl.verilog.parallel_top import parallel_needs, parallel_timing, parallel_top
from flow.backends.rtl.verilog.stages import stream_module
from flow.backends.rtl.verilog.stream_top import stream_needs, stream_top
from flow.errors import UnsupportedError
from flow.ir.graph import Input, IntGraph, Op
from flow.project import Project
from flow.target import Target

LIBRARY = "po2flow_stream.v"
DESIGN = "design.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a graph becomes Verilog.

    Attributes:
        module: an op, its graph, the clock period in ns and a name -> the op's module.
        top: the graph and the module of each op -> the top module.
        needs: the same -> what the top needs beside these modules.
        timing: the same -> latency and initiation interval in cycles.
    """

    module: Callable[[Op, IntGraph, float, str], OpModule]
    top: Callable[[IntGraph, Mapping[str, OpModule]], str]
    needs: Callable[[IntGraph, Mapping[str, OpModule]], Needs]
    timing: Callable[[IntGraph, Mapping[str, OpModule]], tuple[int, int]]


FORMS: Mapping[str, Form] = {
    "io_parallel": Form(module=tensor_module, top=parallel_top, needs=parallel_needs, timing=parallel_timing),
    "io_stream": Form(module=stream_module, top=stream_top, needs=stream_needs, timing=stream_timing),
}
"""By io_type."""


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the Verilog project of a lowered graph.

    Raises:
        UnsupportedError: an op has no netlist, or two modules would have one name.
        ToolMissingError: alkaid is not installed.
    """
    for refusal in refusals(graph):
        raise refusal.at(model=graph.name)
    form = FORMS[target.io_type]
    modules = {
        op.name: form.module(op, graph, target.clock_period_ns, f"{graph.name}_{op.name}")
        for op in graph.ops
        if not isinstance(op, Input)
    }
    files = {f"rtl/{LIBRARY}": library()}
    texts = [item for module in modules.values() for item in module.texts.items()]
    for name, text in [*texts, (graph.name, form.top(graph, modules))]:
        path = f"rtl/{name}.v"
        if path in files:
            raise UnsupportedError(f"two modules would be called '{name}'", remedy="rename a layer of the model")
        files[path] = text.encode()
    design = {
        "top": graph.name,
        "io_type": target.io_type,
        "clock_period_ns": target.clock_period_ns,
        "depths": {name: module.depth for name, module in modules.items()},
        "needs": {name: module.needs.to_json() for name, module in modules.items()},
        "top_needs": form.needs(graph, modules).to_json(),
        "timing": form.timing(graph, modules),
    }
    files[DESIGN] = (json.dumps(design, indent=1, sort_keys=True) + "\n").encode()
    return Project(graph.name, files)


def findings(project: Project, graph: IntGraph, target: Target) -> list[str]:
    """Return which files of a project are not what `emit` writes for the graph."""
    expected, given = emit(graph, target).files, project.files
    return [
        f"{path}: {'is not there' if path not in given else 'is not what this version writes for the graph'}"
        for path, text in sorted(expected.items())
        if given.get(path) != text
    ]


def library() -> bytes:
    """Return the Verilog that streams and pipelines share."""
    return (resources.files("flow.backends.rtl.verilog") / LIBRARY).read_bytes()
