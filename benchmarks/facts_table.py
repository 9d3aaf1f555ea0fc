"""Print what plain hls4ml and po2flow make of tiny QKeras models, one for each layer or quantizer that is easily lost.

    python benchmarks/facts_table.py [--cases TEXT ...]

Every side gets the same inputs, on the grid of the model's input quantizer. Each output of the C simulation is held
against `Model.predict`, without any tolerance. Needs `po2flow[train]` and g++.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stock import PlainError, keras, markdown_table, plain_hls4ml, qkeras

from flow.data.inputs import Samples, to_port
from flow.errors import FlowError
from flow.ir import reference
from flow.ir.fixed import to_values
from flow.ir.graph import from_json
from flow.pipeline import BuildOptions, build
from flow.train import quiet_warnings

HEADER = ["case", "hls4ml", "hls4ml, bit_exact", "**po2flow**"]
INPUT = "quantized_bits(6,0,alpha=1)"
VECTOR, IMAGE = (8,), (6, 6, 2)
SAMPLES = 1000
EPSILON = 1e-3
layers = keras.layers


@dataclass(frozen=True, slots=True)
class Case:
    """A model: the input quantizer, then these layers."""

    shape: tuple[int, ...]
    make: Callable[[], Sequence[Any]]
    softmax: bool = False
    """Whether it ends with a softmax, which po2flow leaves off: its inputs are what is compared then."""


def bits(width: int = 4, integer: int = 0, **more: Any) -> Any:
    return qkeras.quantized_bits(width, integer, **{"alpha": 1, **more})


def dense(units: int = 5, kernel: Any = None, bias: Any = None, **more: Any) -> Any:
    return qkeras.QDense(units, kernel_quantizer=kernel or bits(), bias_quantizer=bias or bits(5, 1), **more)


def conv(kernel: Any = None, cls: Any = qkeras.QConv2D, **more: Any) -> Any:
    return cls(3, (3, 3), kernel_quantizer=kernel or bits(), bias_quantizer=bits(5, 1), **more)


def relu(width: int = 5, integer: int = 1) -> Any:
    return qkeras.QActivation(f"quantized_relu({width},{integer})")


def few_exponents() -> Any:
    """Return a QBatchNormalization with quantizers whose scale needs few bits."""
    return qkeras.QBatchNormalization(
        beta_quantizer="quantized_bits(5,1,alpha=1)",
        mean_quantizer="quantized_bits(5,1,alpha=1)",
        gamma_quantizer="quantized_relu_po2(4,2)",
        variance_quantizer="quantized_relu_po2(4,2,quadratic_approximation=True)",
    )


CASES: dict[str, Case] = {
    "QDense, `quantized_bits`": Case(VECTOR, lambda: [dense()]),
    "QDense, `quantized_po2`": Case(VECTOR, lambda: [dense(kernel=qkeras.quantized_po2(4, 1))]),
    "QConv2D, `quantized_po2`": Case(IMAGE, lambda: [conv(qkeras.quantized_po2(4, 1))]),
    "bias `quantized_po2`": Case(VECTOR, lambda: [dense(bias=qkeras.quantized_po2(4, 1))]),
    "kernel scale `auto_po2`": Case(VECTOR, lambda: [dense(kernel=bits(alpha="auto_po2"))]),
    "`quantized_relu_po2`": Case(VECTOR, lambda: [dense(), qkeras.QActivation("quantized_relu_po2(4,2)")]),
    "trailing QActivation": Case(VECTOR, lambda: [dense(), qkeras.QActivation("quantized_bits(5,1,alpha=1)")]),
    "BatchNormalization": Case(VECTOR, lambda: [dense(), layers.BatchNormalization(epsilon=EPSILON), relu()]),
    "QBatchNormalization": Case(VECTOR, lambda: [dense(), qkeras.QBatchNormalization(), relu()]),
    "QBatchNormalization, po2 quantizers": Case(VECTOR, lambda: [dense(), few_exponents(), relu()]),
    "binary kernel": Case(VECTOR, lambda: [dense(kernel=qkeras.binary(alpha=1)), relu()]),
    "softmax": Case(VECTOR, lambda: [dense(), layers.Activation("softmax")], softmax=True),
    "AveragePooling2D, 2 x 2": Case(IMAGE, lambda: [conv(), layers.AveragePooling2D(2)]),
    "AveragePooling2D, 3 x 3, quantized": Case(IMAGE, lambda: [layers.AveragePooling2D(3), relu()]),
    "GlobalAveragePooling2D, quantized": Case(IMAGE, lambda: [conv(), layers.GlobalAveragePooling2D(), relu()]),
    "ZeroPadding2D": Case(IMAGE, lambda: [layers.ZeroPadding2D(1), conv()]),
    "UpSampling2D": Case(IMAGE, lambda: [layers.UpSampling2D(2), conv()]),
    "QConv2DBatchnorm": Case(IMAGE, lambda: [conv(cls=qkeras.QConv2DBatchnorm), relu()]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=[""], metavar="TEXT", help="only those with such a text in them")
    arguments = parser.parse_args()
    rows = []
    for name, case in CASES.items():
        if any(text in name for text in arguments.cases):
            with tempfile.TemporaryDirectory(prefix="po2flow-benchmark-") as scratch, quiet_warnings():
                rows.append([name, *_row(case, Path(scratch))])
    print(f"Outputs of C simulation that differ from Model.predict, on {SAMPLES} inputs.\n")
    print(markdown_table(HEADER, rows))


def _row(case: Case, scratch: Path) -> list[str]:
    """Return what each side makes of a model."""
    model = _trained(case)
    codes = np.random.default_rng(2).integers(-32, 32, (SAMPLES, *case.shape))
    inputs = (codes / 32).astype(np.float32)
    expected = model.predict(inputs, verbose=0)
    plain = [_plain(model, inputs, expected, scratch / str(exact), exact) for exact in (None, True)]
    if case.softmax:
        expected = keras.Model(model.inputs, model.layers[-2].output).predict(inputs, verbose=0)
    ours = _ours(model, inputs, expected, scratch)
    return [*plain, f"{ours}, softmax left off" if case.softmax else ours]


def _trained(case: Case) -> Any:
    """Return the model with seeded numbers in its variables, as training would leave them."""
    parts = [qkeras.QActivation(INPUT), *case.make()]
    model = keras.Sequential([layers.InputLayer(case.shape), *parts])
    rng = np.random.default_rng(1)
    for variable in model.weights:
        values = rng.normal(0, 0.5, variable.shape)
        if variable.dtype.is_integer:
            values = np.zeros(variable.shape)
        elif "variance" in variable.name or "gamma" in variable.name:
            values = np.abs(values) + 0.25
        variable.assign(values.astype(variable.dtype.as_numpy_dtype))
    return model


def _plain(model: Any, inputs: NDArray[np.float32], expected: Any, directory: Path, bit_exact: bool | None) -> str:
    try:
        run = plain_hls4ml(model, inputs, directory, bit_exact=bit_exact, mend_numpy=True)
    except PlainError as error:
        return str(error)
    return _differ(run.outputs, expected)


def _ours(model: Any, inputs: NDArray[np.float32], expected: Any, scratch: Path) -> str:
    """Build the model from the file that a user has; where the levels agree, the reference's outputs are csim's."""
    model.save(scratch / "model.h5")
    np.save(scratch / "inputs.npy", inputs)
    options = BuildOptions(inputs=scratch / "inputs.npy", samples=SAMPLES, adversarial=256, output=scratch / "runs")
    try:
        document = build(scratch / "model.h5", options=options).to_json()
    except FlowError as error:
        return f"refused: {error}"
    verdict = document["verdict"]
    assert verdict["compared"] == ["qkeras", "reference", "csim"], verdict
    if not verdict["bit_exact"]:
        return f"{verdict['mismatches']} values of all layers differ"
    graph = from_json(json.loads((Path(document["run_dir"]) / "graph.json").read_text()))
    port = to_port(Samples(values=inputs, labels=None, source="seeded"), graph)
    outputs = reference.run(graph, port.codes).codes[graph.output.name]
    return _differ(to_values(outputs, graph.output.format), expected)


def _differ(found: NDArray[Any], expected: NDArray[Any]) -> str:
    """Return the share of outputs that differ; a share that is not 0 never reads as 0."""
    share = 100 * float(np.mean(found.reshape(len(found), -1) != expected.reshape(len(expected), -1)))
    return "0 %" if share == 0 else f"{share:.1f} %" if share >= 0.1 else f"{share:.2g} %"


if __name__ == "__main__":
    main()
