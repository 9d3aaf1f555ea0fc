"""Emit an HLS project with hls4ml: every type named by us, nothing inferred, and one text for one graph.

hls4ml's defects that are mended here, all of version 1.3.0: the Quartus writer traces the model's last stream in place
of each op's own; the Libero writer copies as many outputs as there are inputs, and looks for a `build_lib.sh` that the
package does not hold.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hls4ml.model.flow import get_flow
from hls4ml.model.graph import HLSConfig, ModelGraph
from hls4ml.model.optimizer import optimize_model
from hls4ml.writer.catapult_writer import CatapultWriter
from hls4ml.writer.libero_writer import LiberoWriter
from hls4ml.writer.oneapi_writer import OneAPIWriter
from hls4ml.writer.quartus_writer import QuartusWriter
from hls4ml.writer.vitis_writer import VitisWriter
from hls4ml.writer.vivado_writer import VivadoWriter

from flow.backends.hls4ml import layers
from flow.backends.hls4ml.benches import benches
from flow.backends.hls4ml.csim import csim_main
from flow.backends.hls4ml.dialects import DIALECTS, Dialect
from flow.backends.hls4ml.extension import register, store_exponents
from flow.backends.hls4ml.kernels import OUTPUT_FIRST
from flow.backends.hls4ml.project_text import CALL, carries
from flow.backends.hls4ml.readback import check_project
from flow.backends.hls4ml.refusals import check
from flow.backends.hls4ml.wiring import wire
from flow.cost.fifos import fifos
from flow.cost.streams import unused
from flow.data.adversarial import corner_inputs
from flow.errors import EmitError
from flow.files import temporary
from flow.ir import reference
from flow.ir.fixed import Values, to_values
from flow.ir.graph import IntGraph
from flow.ir.names import VHDL
from flow.project import Project, read
from flow.target import Target

HERE = Path(__file__).parent
HARMLESS = "may have suboptimal QoR"
"""hls4ml says so of strategy Resource with a large reuse factor; its other warnings tell of a setting it changed."""


class _LiberoWriter(LiberoWriter):  # type: ignore[misc]
    def write_build_script(self, model: Any) -> None:
        """Write Makefile and config.tcl; what comes after them fails for want of a template, and is not needed."""
        try:
            super().write_build_script(model)
        except FileNotFoundError as error:
            if Path(error.filename).name != "build_lib.sh":
                raise


class _QuartusWriter(QuartusWriter):  # type: ignore[misc]
    def write_test_bench(self, model: Any) -> None:
        """Write the test bench of one input and one output; others are written by `benches`."""
        if len(model.get_input_variables()) == len(model.get_output_variables()) == 1:
            super().write_test_bench(model)


WRITERS: Mapping[str, type[Any]] = {
    "Vitis": VitisWriter,
    "Vivado": VivadoWriter,
    "Quartus": _QuartusWriter,
    "Catapult": CatapultWriter,
    "oneAPI": OneAPIWriter,
    "Libero": _LiberoWriter,
}


def emit(graph: IntGraph, target: Target) -> Project:
    """Return the HLS project of a lowered graph, read back and found to say what the graph says.

    Raises:
        UnsupportedError: an illegal reuse factor, or an op that this back end cannot compute exactly.
        EmitError: hls4ml wrote something other than the graph.
    """
    check(graph, target)
    dialect = DIALECTS[target.backend]
    generated, ports = _generated(graph, target)
    files = {path: text for path, text in generated.files.items() if not re.search(dialect.left_out, path)}
    top = f"{dialect.sources}/{graph.name}.cpp"
    source = _mended(files[top].decode(), graph, target)
    files[top] = source.encode()
    files |= {f"{dialect.sources}/nnet_utils/{name}": header(path, dialect).encode() for name, path in dialect.headers}
    files |= benches(files, graph, ports, target)
    weights = f"{dialect.sources}/weights"
    if not any(path.startswith(f"{weights}/") for path in files):
        files[f"{weights}/none.txt"] = b"This network has no weights; scripts name their directory.\n"
    if not dialect.needs:
        files["csim/main.cpp"] = csim_main(graph, target, ports, source).encode()
    project = Project(graph.name, {**files, **test_bench_data(graph)})
    check_project(project, graph, target)
    return project


PRAGMA = re.compile(r"^( *)(for \([^{]*\{\n) *#pragma HLS (UNROLL|PIPELINE)\n", re.MULTILINE)
OTHER_PRAGMA = re.compile(r"^ *#pragma HLS .*\n", re.MULTILINE)


def header(path: str, dialect: Dialect) -> str:
    """Return a header of our kernels, with a back end's pragmas before loops in place of AMD's in them."""
    text, pragmas = (HERE / path).read_text(), dict(dialect.pragmas)
    if not pragmas:
        return text
    moved = PRAGMA.sub(lambda loop: f"{loop[1]}{pragmas[loop[3]]}\n{loop[1]}{loop[2]}", text)
    return OTHER_PRAGMA.sub("", moved)


def _generated(graph: IntGraph, target: Target) -> tuple[Project, list[tuple[str, str]]]:
    """Return what hls4ml writes, and the types and names of the top function's ports.

    `ModelGraph.from_layer_list` would take a layer with several outputs as that many ports.
    """
    wiring, dialect = wire(graph, target), DIALECTS[target.backend]
    with temporary() as scratch:
        output = scratch / "project"
        config = HLSConfig(layers.configuration(graph, target, str(output)))
        register()
        with quiet() as said:
            model = ModelGraph(config, [op.name for op in graph.inputs], list(wiring.ports))
            model._make_graph([dict(layer) for layer in wiring.layers])
            _name_ports(model, graph)
            for flow in model.config.flows:
                _apply(model, flow, set())
            if dialect.stores_exponents and target.strategy == "Resource":
                store_exponents(model, graph)
            if dialect.sets_depths and target.io_type == "io_stream":
                for fifo in fifos(graph):  # hls4ml's are as deep as whole tensors
                    if variable := model.get_layer_output_variable(fifo.stream):
                        variable.pragma = ("stream", fifo.depth)
            writer = WRITERS[target.backend]()
            writer.write_yml = lambda model: None  # it would import Keras; the run directory holds graph and target
            writer.write_hls(model)
        generated = read(output, graph.name)
    complaints = [line for line in said.getvalue().splitlines() if line.startswith("WARNING") and HARMLESS not in line]
    if complaints:
        raise EmitError(f"hls4ml changed something on its own: {complaints[0]}", model=graph.name)
    ports = (*model.get_input_variables(), *model.get_output_variables())
    return generated, [(variable.type.name, getattr(variable, "pipe_name", variable.name)) for variable in ports]


def _name_ports(model: Any, graph: IntGraph) -> None:
    """Rename the variables of inputs that are called like keywords of VHDL: vendors' tools make ports of them."""
    taken = {op.name for op in graph.ops}
    for variable in model.get_input_variables():
        if variable.name in VHDL:
            variable.name = unused(f"{variable.name}_in", taken)


REWRITES = frozenset(
    {
        "remove_nop_batch_normalization",
        "fuse_consecutive_batch_normalization",
        "fuse_batch_normalization",
        "eliminate_linear_activation",
        "merge_linear_activation",
    }
)
"""Passes of hls4ml that would drop or merge ops: a normalization or a cast that changes nothing is an op all the same.

What the other passes rewrite is not in a layer list of ours (constants, transposes, quantizers, proxies, softmax), is
asked for (padding, clones, pointwise convolutions), or is refused before (a final reshape): each was read, and
`tests/backends/test_generator_passes.py` lists them.
"""


def _apply(model: Any, name: str, applied: set[str]) -> None:
    """Apply a flow of hls4ml after those that it requires, as `ModelGraph.apply_flow` does, without `REWRITES`."""
    flow = get_flow(name)
    for required in flow.requires:
        if required not in applied:
            _apply(model, required, applied)
    optimize_model(model, [each for each in flow.optimizers if each not in REWRITES])
    applied.add(name)


@contextlib.contextmanager
def quiet() -> Any:
    """Catch what hls4ml prints, for inspection; its Python warnings are about itself."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield said


COPIED = re.compile(r"i < \d+; i\+\+\) \{\n +(\w+_struct\.data\[i\] =)")
"""Libero's loop over the outputs."""


def _mended(source: str, graph: IntGraph, target: Target) -> str:
    """Return the top function's source with every call named after its op, and without the defects above."""
    dialect, ops = DIALECTS[target.backend], iter(layers.traced(graph))

    def named(call: re.Match[str]) -> str:
        if carries(call["function"]):
            return call[0]
        op = next(ops)
        if not dialect.keeps_outputs:
            return f"{call[0]} // {op.name}"
        place = 0 if call["function"] in OUTPUT_FIRST else 1
        result, output = call["types"].split(", ")[place], call["arguments"].split(", ")[place]
        save = f'nnet::save_layer_output<{result}>({output}, "{op.name}", {math.prod(op.shape)});'
        return f"{call[0]} // {op.name}\n#ifndef HLS_SYNTHESIS\n    {save}\n#endif"

    if target.io_type in dialect.unnamed:
        source = CALL.sub(named, source)
    return COPIED.sub(rf"i < {math.prod(graph.output.shape)}; i++) {{\n        \g<1>", source)


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
