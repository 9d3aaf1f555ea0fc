"""Emit projects for hls4ml's other back ends, by its own writers: every type named, one text for one graph.

hls4ml's defects that are mended here, all of version 1.3.0: the Quartus writer traces the model's last stream in place
of each op's own; the Libero writer copies as many outputs as there are inputs, and looks for a `build_lib.sh` that the
package does not hold.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hls4ml.model.graph import ModelGraph
from hls4ml.writer.catapult_writer import CatapultWriter
from hls4ml.writer.libero_writer import LiberoWriter
from hls4ml.writer.oneapi_writer import OneAPIWriter
from hls4ml.writer.quartus_writer import QuartusWriter

from flow.backends.hls4ml import layers
from flow.backends.hls4ml.dialects import DIALECTS, check
from flow.backends.hls4ml.emit import HARMLESS, csim_main, quiet, test_bench_data
from flow.backends.hls4ml.other_readback import CALL, check_project, is_adapter
from flow.errors import EmitError
from flow.ir.fixed import to_values
from flow.ir.graph import BatchNorm, Conv, Dense, IntGraph, Op, Relu, Requantize
from flow.project import Project, read
from flow.target import Target

LEFT_OUT = {
    "Quartus": r"_bridge\.cpp|build_lib\.sh",
    "Catapult": r"_bridge\.cpp|build_lib\.sh|/(tests|pdfdocs|lutgen|gdb)/",
    "oneAPI": r"(?!)",  # its CMakeLists.txt names the bridge
    "Libero": r"_bridge\.cpp|Makefile\.compile",
}
"""Files of hls4ml's Python bridge, which would hold paths of the machine, and tests and manuals of ac_types."""


class _Quartus(QuartusWriter):  # type: ignore[misc]
    def write_yml(self, model: Any) -> None:
        """Write no hls4ml_config.yml: it would import Keras, and the run directory holds graph and target."""


class _Catapult(CatapultWriter):  # type: ignore[misc]
    def write_yml(self, model: Any) -> None:
        """Write no hls4ml_config.yml."""


class _OneAPI(OneAPIWriter):  # type: ignore[misc]
    def write_yml(self, model: Any) -> None:
        """Write no hls4ml_config.yml."""


class _Libero(LiberoWriter):  # type: ignore[misc]
    def write_yml(self, model: Any) -> None:
        """Write no hls4ml_config.yml."""

    def write_build_script(self, model: Any) -> None:
        """Write Makefile and config.tcl; what comes after them fails for want of a template, and is not needed."""
        try:
            super().write_build_script(model)
        except FileNotFoundError as error:
            if Path(error.filename).name != "build_lib.sh":
                raise


WRITERS: Mapping[str, type[Any]] = {"Quartus": _Quartus, "Catapult": _Catapult, "oneAPI": _OneAPI, "Libero": _Libero}


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the project of a lowered graph, read back and found to say what the graph says.

    Raises:
        UnsupportedError: the back end would not compute an op exactly, or what `flow.backends.hls4ml.emit` refuses.
        EmitError: hls4ml wrote something other than the graph.
    """
    check(graph, target)
    layers.check_reuse_factors(graph, target)
    layers.check_forms(graph, target)
    with tempfile.TemporaryDirectory(prefix="po2flow-") as scratch:
        output = Path(scratch) / "project"
        with quiet() as said:
            model = ModelGraph.from_layer_list(_configuration(graph, target, str(output)), _layer_list(graph))
            WRITERS[target.backend]().write_hls(model)
        generated = read(output, graph.name)
    complaints = [line for line in said.getvalue().splitlines() if line.startswith("WARNING") and HARMLESS not in line]
    if complaints:
        raise EmitError(f"hls4ml changed something on its own: {complaints[0]}", model=graph.name)
    files = {path: text for path, text in generated.files.items() if not re.search(LEFT_OUT[target.backend], path)}
    source = f"{DIALECTS[target.backend].sources}/{graph.name}.cpp"
    files[source] = _mended(files[source].decode(), graph, target).encode()
    data = test_bench_data(graph)
    project = Project(graph.name, {**files, **data, **_simulation(graph, target, files[source].decode())})
    check_project(project, graph, target)
    return project


def _layer_list(graph: IntGraph) -> list[dict[str, Any]]:
    """Return the ops as hls4ml's own layers."""
    return [
        {"name": op.name, "inputs": list(op.inputs), "trace": layers.is_traced(op), **_layer(op, graph)}
        for op in graph.ops
    ]


def _layer(op: Op, graph: IntGraph) -> dict[str, Any]:
    if isinstance(op, BatchNorm):
        return {
            "class_name": "BatchNormalization",
            "n_in": math.prod(op.shape),
            "n_filt": op.shape[-1] if len(op.shape) > 1 else -1,
            "scale_data": to_values(op.scale, op.scale_format),
            "bias_data": to_values(op.offset, op.offset_format),
        }
    if isinstance(op, Relu | Requantize):
        kind = "relu" if isinstance(op, Relu) else "linear"
        return {"class_name": "Activation", "activation": kind, "n_in": math.prod(op.shape)}
    return layers.LAYERS[type(op)](op, graph, False)  # hls4ml itself adds the zeros around a streamed convolution


def _configuration(graph: IntGraph, target: Target, output_dir: str) -> dict[str, Any]:
    config = layers.configuration(graph, target, output_dir)
    model, named = config["HLSConfig"]["Model"], config["HLSConfig"]["LayerName"]
    for op in graph.ops:
        if isinstance(op, BatchNorm):
            scale, offset = layers.precision(op.scale_format), layers.precision(op.offset_format)
            named[op.name]["Precision"] |= {"scale": scale, "bias": offset}
    if target.backend == "Libero":  # its layers take the strategy in lower case only
        for each in (model, *named.values()):
            each["Strategy"] = target.strategy.lower()
        config["SmartHLSPath"] = Path("SmartHLS")  # else hls4ml asks the shell where it is
    if target.backend == "Catapult" and any(
        isinstance(op, Conv) or (isinstance(op, Dense) and len(op.shape) > 1) for op in graph.ops
    ):
        model["PipelineStyle"] = "dataflow"  # what hls4ml would change it to
    return {**config, **dict(DIALECTS[target.backend].settings), "TraceOutput": target.backend == "Catapult"}


def _mended(source: str, graph: IntGraph, target: Target) -> str:
    """Return the top function's source with every call named after its op, and without the defects above."""
    ops = iter(layers.traced(graph))

    def named(call: re.Match[str]) -> str:
        if is_adapter(call["function"]):
            return call[0]
        op = next(ops)
        if target.backend != "Quartus":
            return f"{call[0]} // {op.name}"
        result, output = call["types"].split(", ")[1], call["arguments"].split(", ")[1]
        save = f'nnet::save_layer_output<{result}>({output}, "{op.name}", {math.prod(op.shape)});'
        return f"{call[0]} // {op.name}\n#ifndef HLS_SYNTHESIS\n    {save}\n#endif"

    if target.backend == "Quartus" or (target.backend == "oneAPI" and target.io_type == "io_parallel"):
        return re.sub(CALL, named, source)
    if target.backend == "Libero":
        copied = rf"i < {math.prod(graph.output.shape)}; i++) {{\n        \g<1>"
        return re.sub(r"i < \d+; i\+\+\) \{\n +(\w+_struct\.data\[i\] =)", copied, source)
    return source


def _simulation(graph: IntGraph, target: Target, source: str) -> dict[str, bytes]:
    """Return `csim/main.cpp` for a back end that a plain C++ compiler can simulate."""
    if DIALECTS[target.backend].needs:
        return {}
    port, sizes = graph.inputs[0], {"N_IN": math.prod(graph.inputs[0].shape), "N_OUT": math.prod(graph.output.shape)}
    calls = [f"to_values(sample.data(), {sizes['N_IN']}, {port.format.frac_bits}, real.data());"]
    for line in SAMPLE[target.backend, target.io_type]:
        for key, value in {**sizes, "PORT": port.name, "TOP": graph.name}.items():
            line = line.replace(key, str(value))
        calls.append(line)
    loaded = re.findall(r"nnet::load_weights_from_txt<(\w+), (\d+)>\((\w+),", source)
    weights = "".join(f"{kind} {variable}[{size}];\n" for kind, size, variable in loaded)
    return {"csim/main.cpp": (csim_main(graph, calls) + weights).encode()}


SAMPLE = {
    ("Quartus", "io_parallel"): (
        "input_data x;",
        "nnet::convert_data<double, input_t, N_IN>(real.data(), x.PORT);",
        "TOP(x);",
    ),
    ("Quartus", "io_stream"): (
        "stream_in<input_t> x;",
        "stream_out<result_t> y;",
        "nnet::convert_data<double, input_t, N_IN>(real.data(), x);",
        "TOP(x, y);",
        "nnet::convert_data_back<result_t, double, N_OUT>(y, real.data());",
    ),
    ("Catapult", "io_parallel"): (
        "input_t x[N_IN];",
        "result_t y[N_OUT];",
        "nnet::convert_data<double, input_t, N_IN>(real.data(), x);",
        "TOP(x, y);",
    ),
    ("Catapult", "io_stream"): (
        "ac_channel<input_t> x;",
        "ac_channel<result_t> y;",
        "nnet::convert_data<double, input_t, N_IN>(real.data(), x);",
        "TOP(x, y);",
        "nnet::convert_data<result_t, double, N_OUT>(y, real.data());",
        "if (x.debug_size() + y.debug_size() != 0)",
        '    return fail("not as many words as a sample has", "TOP");',
    ),
}
"""How `csim/main.cpp` runs one sample, by back end and io_type."""
