"""Recurrent cells, laid out and folded, in C simulation of the back ends with open headers: each is the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import needs_compiler
from keras_configs import evaluate, layer, model, port
from nets import inputs, s

from flow.backends.hls4ml import csim, piped
from flow.backends.hls4ml.emit import emit
from flow.frontend.extraction import extract
from flow.ir import reference
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.project import write
from flow.target import IO_TYPES, Target

GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}
WEIGHT, STATE = "quantized_bits(4,1,alpha=1)", "quantized_bits(5,1,alpha=1)"
SLOW, QUICK = pytest.mark.slow, ("Quartus", "io_stream", True, "GRU")


def tiny(kind: str, steps: int = 3, units: int = 2, *, folds: bool = False, **more: object) -> IntGraph:
    """Return a net of one cell, before the passes."""
    own = {"units": units, "activation": STATE, "use_bias": True, "state_quantizer": STATE, **more}
    own |= {} if kind == "SimpleRNN" else {"recurrent_activation": "quantized_relu(4,1)"}
    own |= dict.fromkeys(("kernel_quantizer", "recurrent_quantizer", "bias_quantizer"), WEIGHT)
    rng, width = np.random.default_rng(1), GATES[kind] * units
    shapes = {"kernel": (2, width), "recurrent_kernel": (units, width), "bias": (width,)}
    weights = {key: np.float32(rng.integers(-4, 4, shape) / 4) for key, shape in shapes.items()}
    trained = model(port(steps, 2), layer(f"Q{kind}", "rnn", **own), weights={"rnn": weights})
    return extract(trained, s(5, 3), evaluate=evaluate, folds=folds)


@needs_compiler
@pytest.mark.parametrize(
    ("backend", "io_type", "folds", "kind"),
    [
        pytest.param(backend, io_type, folds, kind, marks=[SLOW] * ((backend, io_type, folds, kind) != QUICK))
        for backend in ("Quartus", "Catapult", "oneAPI", "Vitis")
        for io_type in IO_TYPES
        for folds in (False, True)
        for kind in GATES
    ],
)
def test_csim_is_the_reference(backend: str, io_type: str, folds: bool, kind: str, tmp_path: Path) -> None:
    lowered = lower(tiny(kind, folds=folds, return_sequences=folds), stream=io_type == "io_stream")
    target, codes = Target(backend=backend, io_type=io_type), inputs(lowered, 60)
    project = emit(lowered, target)
    write(project, tmp_path / "project")
    if backend == "oneAPI":
        program = piped.compile_pipes(project, lowered, tmp_path / "csim", csim.sources_digest(project))
        found = csim.run(program, tmp_path / "project", lowered, codes)
    else:
        (simulate,) = csim.compile_together([project], [lowered], tmp_path)
        found = simulate(codes)
    expected = reference.run(lowered, codes).codes
    assert [op.name for op in lowered.ops if not np.array_equal(found.codes[op.name], expected[op.name])] == []
    assert len(np.unique(expected[lowered.output.name])) > 5
