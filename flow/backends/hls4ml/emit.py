"""Emit an HLS project with hls4ml: every type named by us, nothing inferred, and one text for one graph."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hls4ml.model.graph import ModelGraph
from hls4ml.writer.vitis_writer import VitisWriter
from hls4ml.writer.vivado_writer import VivadoWriter

from flow import reference
from flow.adversarial import corner_inputs
from flow.backends.hls4ml import layers
from flow.backends.hls4ml.po2_weights import store_exponents
from flow.backends.hls4ml.readback import check_project
from flow.errors import EmitError
from flow.fixed import to_values
from flow.graph import IntGraph
from flow.project import Project, read
from flow.target import Target

HERE = Path(__file__).parent
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
        UnsupportedError: an illegal reuse factor, a pooling that hls4ml cannot do, or an output too wide to
            simulate.
        EmitError: hls4ml wrote something other than the graph.
    """
    layers.check_reuse_factors(graph, target)
    layers.check_pools(graph, target)
    listed = layers.layer_list(graph)
    with tempfile.TemporaryDirectory(prefix="po2flow-") as scratch:
        output = Path(scratch) / "project"
        config = layers.configuration(graph, target, str(output))
        with quiet() as said:
            model = ModelGraph.from_layer_list(config, listed)
            if target.strategy == "Resource":
                store_exponents(model, graph)
            WRITERS[target.backend]().write_hls(model)
        generated = read(output, graph.name)
    complaints = [line for line in said.getvalue().splitlines() if line.startswith("WARNING") and HARMLESS not in line]
    if complaints:
        raise EmitError(f"{graph.name}: hls4ml changed something on its own: {complaints[0]}")
    project = Project(graph.name, {**_without_bridge(generated), **_own_files(graph, target)})
    check_project(project, graph, target)
    return project


@contextlib.contextmanager
def quiet() -> Any:
    """Catch what hls4ml prints, for inspection; its Python warnings are about itself."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield said


def _without_bridge(generated: Project) -> dict[str, bytes]:
    return {path: text for path, text in generated.files.items() if not any(re.search(each, path) for each in BRIDGE)}


def _own_files(graph: IntGraph, target: Target) -> dict[str, bytes]:
    codes = corner_inputs(graph.input)
    outputs = reference.run_output(graph, codes)
    main = _csim_main(graph, target)
    return {
        "csim/main.cpp": main.encode(),
        "firmware/nnet_utils/nnet_po2.h": (HERE / "nnet_po2.h").read_bytes(),
        "tb_data/tb_input_features.dat": _dat(to_values(codes, graph.input.format)),
        "tb_data/tb_output_predictions.dat": _dat(to_values(outputs, graph.output.format)),
    }


def _dat(values: np.ndarray[Any, np.dtype[np.float64]]) -> bytes:
    """Return the test bench's text: one line a sample, decimals that read back as the same doubles."""
    rows = values.reshape(len(values), -1)
    return "".join(" ".join(repr(float(v)) for v in row) + "\n" for row in rows).encode()


def _csim_main(graph: IntGraph, target: Target) -> str:
    taps = ", ".join(f'{{"{op.name}", {int(np.prod(op.shape))}, {op.format.frac_bits}}}' for op in layers.traced(graph))
    n_input, n_output = int(np.prod(graph.input.shape)), int(np.prod(graph.output.shape))
    if target.io_type == "io_parallel":
        call = f"""input_t x[n_input];
        result_t y[n_output];
        nnet::convert_data<double, input_t, n_input>(real.data(), x);
        {graph.name}(x, y);"""
    else:
        call = f"""hls::stream<input_t> x;
        hls::stream<result_t> y;
        nnet::convert_data<double, input_t, n_input>(real.data(), x);
        {graph.name}(x, y);
        if (!x.empty())
            return fail("the input stream was not read to its end", "{graph.name}");
        nnet::convert_data<result_t, double, n_output>(y, result.data());
        if (!y.empty())
            return fail("the output stream holds more than one result", "{graph.name}");"""
    text = (HERE / "csim_main.cpp").read_text()
    for key, value in {
        "top": graph.name,
        "taps": taps,
        "n_input": str(n_input),
        "n_output": str(n_output),
        "input_frac_bits": str(graph.input.format.frac_bits),
        "call": call,
    }.items():
        text = text.replace(f"@{key}@", value)
    return text
