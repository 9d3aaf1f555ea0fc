"""Emit an HLS project with hls4ml: every type named by us, nothing inferred, and one text for one graph."""

from __future__ import annotations

import contextlib
import io
import math
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hls4ml.model.graph import HLSConfig, ModelGraph
from hls4ml.writer.vitis_writer import VitisWriter
from hls4ml.writer.vivado_writer import VivadoWriter

from flow.backends.hls4ml import layers
from flow.backends.hls4ml.extension import register
from flow.backends.hls4ml.fifo_depths import set_depths
from flow.backends.hls4ml.po2_weights import store_exponents
from flow.backends.hls4ml.readback import check_project
from flow.backends.hls4ml.wiring import Wiring, wire
from flow.data.adversarial import corner_inputs
from flow.errors import EmitError
from flow.ir import reference
from flow.ir.fixed import Values, to_values
from flow.ir.graph import IntGraph
from flow.project import Project, read
from flow.target import Target

HERE = Path(__file__).parent
HEADERS = (HERE / "nnet_flow.h", HERE / "nnet_po2.h")
HARMLESS = "may have suboptimal QoR"
"""hls4ml says so of strategy Resource with a large reuse factor; its other warnings tell of a setting it changed."""
BRIDGE = (r"^[^/]*_bridge\.cpp$", r"^build_lib\.sh$")
"""Files of hls4ml's Python bridge: csim/main.cpp does their work, on integer codes."""


class _VivadoWriter(VivadoWriter):  # type: ignore[misc]
    def write_yml(self, model: Any) -> None:
        """Write no hls4ml_config.yml: it would import Keras, and the run directory holds graph and target."""


class _VitisWriter(_VivadoWriter, VitisWriter):  # type: ignore[misc]
    pass


WRITERS = {"Vivado": _VivadoWriter, "Vitis": _VitisWriter}


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the HLS project of a lowered graph, read back and found to say what the graph says.

    Raises:
        UnsupportedError: an illegal reuse factor, or an op that this back end cannot compute exactly.
        EmitError: hls4ml wrote something other than the graph.
    """
    layers.check_reuse_factors(graph, target)
    layers.check_forms(graph, target)
    wiring = wire(graph, target)
    with tempfile.TemporaryDirectory(prefix="po2flow-") as scratch:
        output = Path(scratch) / "project"
        config = layers.configuration(graph, target, str(output))
        register()
        with quiet() as said:
            model = _model(config, wiring, [op.name for op in graph.inputs])
            if target.strategy == "Resource":
                store_exponents(model, graph)
            if target.io_type == "io_stream":
                set_depths(model, graph)
            WRITERS[target.backend]().write_hls(model)
        generated = read(output, graph.name)
    complaints = [line for line in said.getvalue().splitlines() if line.startswith("WARNING") and HARMLESS not in line]
    if complaints:
        raise EmitError(f"hls4ml changed something on its own: {complaints[0]}", model=graph.name)
    ports = _Ports(model.get_input_variables(), model.get_output_variables())
    project = Project(graph.name, {**_without_bridge(generated), **_own_files(graph, target, ports)})
    check_project(project, graph, target)
    return project


@dataclass(frozen=True, slots=True)
class _Ports:
    """hls4ml's variables of the top function, in order."""

    inputs: Sequence[Any]
    outputs: Sequence[Any]


def _model(config: dict[str, Any], wiring: Wiring, inputs: list[str]) -> Any:
    """Return hls4ml's model; `ModelGraph.from_layer_list` takes a layer with several outputs as that many ports."""
    model = ModelGraph(HLSConfig(config), inputs, list(wiring.ports))
    model._make_graph([dict(layer) for layer in wiring.layers])
    for flow in model.config.flows:
        model.apply_flow(flow)
    return model


@contextlib.contextmanager
def quiet() -> Any:
    """Catch what hls4ml prints, for inspection; its Python warnings are about itself."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield said


def _without_bridge(generated: Project) -> dict[str, bytes]:
    return {path: text for path, text in generated.files.items() if not any(re.search(each, path) for each in BRIDGE)}


def _own_files(graph: IntGraph, target: Target, ports: _Ports) -> dict[str, bytes]:
    own = {f"firmware/nnet_utils/{header.name}": header.read_bytes() for header in HEADERS}
    return {
        "csim/main.cpp": _csim_main(graph, target, ports).encode(),
        **own,
        **test_bench_data(graph),
    }


def test_bench_data(graph: IntGraph) -> dict[str, bytes]:
    """Return the inputs and outputs that hls4ml's test bench reads: the corners of the ports' formats."""
    codes = corner_inputs(graph)
    inputs, result = graph.split_port(codes), reference.run(graph, codes)
    return {
        "tb_data/tb_input_features.dat": _dat([to_values(inputs[op.name], op.format) for op in graph.inputs]),
        "tb_data/tb_output_predictions.dat": _dat(
            [to_values(result.codes[name], graph[name].format) for name in graph.outputs]
        ),
    }


def _dat(ports: list[Values]) -> bytes:
    """Return the test bench's text: one line a sample, port after port, decimals that read back as the same doubles."""
    rows = np.concatenate([values.reshape(len(values), -1) for values in ports], axis=1)
    return "".join(" ".join(repr(float(v)) for v in row) + "\n" for row in rows).encode()


def _csim_main(graph: IntGraph, target: Target, ports: _Ports) -> str:
    stream = target.io_type == "io_stream"
    before, after, names, start = [], [], [], 0
    for number, (op, variable) in enumerate(zip(graph.inputs, ports.inputs, strict=True)):
        kind, name, size = variable.type.name, f"x{number}", math.prod(op.shape)
        before += [
            f"hls::stream<{kind}> {name};" if stream else f"{kind} {name}[{size}];",
            f"to_values(sample.data() + {start}, {size}, {op.format.frac_bits}, real.data());",
            f"nnet::convert_data<double, {kind}, {size}>(real.data(), {name});",
        ]
        if stream:
            after += [f"if (!{name}.empty())", f'    return fail("an input was not read to its end", "{op.name}");']
        names.append(name)
        start += size
    for number, (output, variable) in enumerate(zip(graph.outputs, ports.outputs, strict=True)):
        kind, name, size = variable.type.name, f"y{number}", math.prod(graph[output].shape)
        before.append(f"hls::stream<{kind}> {name};" if stream else f"{kind} {name}[{size}];")
        if stream:
            after += [
                f"nnet::convert_data<{kind}, double, {size}>({name}, real.data());",
                f"if (!{name}.empty())",
                f'    return fail("an output holds more than one result", "{output}");',
            ]
        names.append(name)
    return csim_main(graph, [*before, f"{graph.name}({', '.join(names)});", *after])


def csim_main(graph: IntGraph, calls: Sequence[str]) -> str:
    """Return `csim/main.cpp`: `calls` run one sample, whose codes are in `sample`; ports go through `real`."""
    taps = ", ".join(f'{{"{op.name}", {math.prod(op.shape)}, {op.format.frac_bits}}}' for op in layers.traced(graph))
    sizes = [math.prod(op.shape) for op in (*graph.inputs, *(graph[name] for name in graph.outputs))]
    text = (HERE / "csim_main.cpp").read_text()
    for key, value in {
        "top": graph.name,
        "taps": taps,
        "n_input": str(math.prod(graph.port_shape)),
        "n_largest": str(max(sizes)),
        "call": "\n        ".join(calls),
    }.items():
        text = text.replace(f"@{key}@", value)
    return text
