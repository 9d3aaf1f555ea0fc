"""What each family of quantizers gives on digits: accuracy, LUTs, energy, and a verdict (docs/training.md).

python benchmarks/quantizer_families.py --seeds 1 2 3       # goes on where it was stopped; prints the table

LUTs are those of our Verilog by the static estimate, with --yosys by Yosys; energy is static. The first seed of each
family goes whole through C simulation and Verilog simulation, and must be bit exact.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import flow
from flow.backends.rtl.synthesis.estimate import estimate_rtl
from flow.backends.rtl.synthesis.synth import synthesize
from flow.backends.rtl.verilog.emit import DESIGN, emit
from flow.cost.energy import static_energy
from flow.frontend.trained import TrainedModel
from flow.project import write
from flow.target import Target
from flow.train import load_tensorflow, quiet_warnings
from flow.train.artefacts import configuration
from flow.train.cost_in_loss import LutCost
from flow.train.epochs import seeded
from flow.train.freeze import quantized_weights
from flow.train.layers import FixedBatchNormalization
from flow.train.learned import LearnedSteps
from flow.train.lut_cost import usual_io_type
from flow.train.quantizers import quantized_apot, quantized_grid, quantized_po2_zero

keras: Any
qkeras: Any
_, keras, qkeras = load_tensorflow()

EPOCHS, FROZEN, BATCH, LEARNING_RATE = 20, 3, 64, 0.01
PART, CLOCK_NS = "xc7z020clg400-1", 5
Callbacks = Callable[[Any], Sequence[Any]]
Family = tuple[Callable[[], Any], Callbacks]
"""What makes the quantizer of a kernel, and the callbacks of the training."""


def alone(model: Any) -> Sequence[Any]:
    return ()


def under_cost(model: Any) -> Sequence[Any]:
    cost = LutCost(
        model, 3e-5, kernels="channel", formats=False, io_type=usual_io_type(model), begin_epoch=1, end_epoch=15
    )
    return (cost,)


FAMILIES: Mapping[str, Family] = {
    "powers of two": (lambda: quantized_po2_zero(4, min_exp=-5, max_exp=0), alone),
    "sums of two": (lambda: quantized_apot(2, -5, 0), alone),
    "sums of three": (lambda: quantized_apot(3, -5, 0), alone),
    "binary": (lambda: qkeras.binary(alpha="auto_po2"), alone),
    "ternary": (lambda: qkeras.ternary(alpha="auto_po2"), alone),
    "uniform, 4 bits": (lambda: quantized_grid(4, 0), alone),
    "... step learned": (lambda: quantized_grid(4, 0), lambda model: [LearnedSteps(model)]),
    "... of each channel": (lambda: quantized_grid(4, 0), lambda model: [LearnedSteps(model, per_channel=True)]),
    "6 bits, learned under cost": (lambda: quantized_grid(6, 0), under_cost),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), default=tuple(NETS))
    parser.add_argument("--only", nargs="+", choices=tuple(FAMILIES), default=tuple(FAMILIES))
    parser.add_argument("--into", type=Path, default=Path("hls_projects/quantizer_families"))
    parser.add_argument("--yosys", action="store_true", help="count LUTs with Yosys")
    arguments = parser.parse_args()
    into, source = arguments.into, "yosys" if arguments.yosys else "static"
    into.mkdir(parents=True, exist_ok=True)
    rows = [(net, name) for net in arguments.nets for name in arguments.only]
    for seed in arguments.seeds:
        for net, name in rows:
            once(into / f"{place(net, name)}-{seed}-{source}.json", measured, net, name, seed, into, source)
    for net, name in rows:
        once(into / f"{place(net, name)}-exact.json", is_exact, net, name, arguments.seeds[0], into)
        print(row(into, net, name, source), flush=True)


def place(net: str, name: str) -> str:
    return f"{net}-{list(FAMILIES).index(name)}"


def once(path: Path, measure: Callable[..., Any], *of: Any) -> None:
    """Write what is measured to a file, unless that is there."""
    if not path.exists():
        path.with_suffix(".part").write_text(json.dumps(measure(*of)))
        path.with_suffix(".part").rename(path)


def row(into: Path, net: str, name: str, source: str) -> str:
    """Return the row of a family: means and ranges over its seeds."""
    found = [json.loads(path.read_text()) for path in sorted(into.glob(f"{place(net, name)}-*-{source}.json"))]
    exact = json.loads((into / f"{place(net, name)}-exact.json").read_text())
    accuracies = [each["accuracy"] for each in found]
    spread = f"{np.mean(accuracies):.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})"
    lut, energy = (f"{np.mean([each[key] for each in found]):,.0f}" for key in ("lut", "energy_pj"))
    return f"| {net} | {name} | {spread} | {lut} | {energy} | {'yes' if exact else 'no'} |"


# -- nets


def _behind(tensor: Any, number: int) -> Any:
    scale = quantized_po2_zero(4, min_exp=-4, max_exp=2)
    tensor = FixedBatchNormalization(scale, quantized_grid(8, 2), momentum=0.9, name=f"bn{number}")(tensor)
    return qkeras.QActivation("quantized_relu(4,1)", name=f"relu{number}")(tensor)


def _logits(tensor: Any, quantizer: Callable[[], Any]) -> Any:
    return qkeras.QDense(
        10,
        kernel_quantizer=quantizer(),
        bias_quantizer="quantized_bits(6,1,0,1,alpha=1.0)",
        kernel_initializer="he_normal",
        name="logits",
    )(tensor)


@quiet_warnings()
def dense_net(quantizer: Callable[[], Any]) -> Any:
    """Return a net of dense layers, 64-16-12-10."""
    first = keras.Input((64,))
    tensor = qkeras.QActivation("quantized_relu(4,0)", name="input_quant")(first)
    for number, units in enumerate((16, 12), 1):
        kernel = {"kernel_quantizer": quantizer(), "kernel_initializer": "he_normal"}
        tensor = _behind(qkeras.QDense(units, use_bias=False, name=f"dense{number}", **kernel)(tensor), number)
    return keras.Model(first, _logits(tensor, quantizer), name="families_dense")


@quiet_warnings()
def conv_net(quantizer: Callable[[], Any]) -> Any:
    """Return a net of two convolutions, 8x8x1 -> 3x3x4 -> 2x2x8, and a dense layer."""
    first = keras.Input((8, 8, 1))
    tensor = qkeras.QActivation("quantized_relu(4,0)", name="input_quant")(first)
    for number, (filters, size) in enumerate(((4, 3), (8, 2)), 1):
        kernel = {"kernel_quantizer": quantizer(), "kernel_initializer": "he_normal"}
        tensor = _behind(qkeras.QConv2D(filters, size, use_bias=False, name=f"conv{number}", **kernel)(tensor), number)
        tensor = keras.layers.MaxPooling2D(2, name="pool")(tensor) if number == 1 else tensor
    return keras.Model(first, _logits(keras.layers.Flatten(name="flat")(tensor), quantizer), name="families_conv")


NETS: Mapping[str, Callable[[Callable[[], Any]], Any]] = {"dense": dense_net, "conv": conv_net}


# -- a row


@quiet_warnings()
def trained(net: str, name: str, seed: int) -> tuple[Any, Any, Any]:
    """Return a net of a family after training, and the test split in its shape."""
    data, (quantizer, callbacks) = flow.load_dataset("digits"), FAMILIES[name]
    seeded(seed)
    model = NETS[net](quantizer)
    x, x_test = (samples.reshape(-1, *model.input_shape[1:]) for samples in (data.x_train, data.x_test))
    train(model, x, data.y_train, callbacks(model))
    return model, x_test, data.y_test


def measured(net: str, name: str, seed: int, into: Path, source: str) -> dict[str, float]:
    """Return the accuracy of a net on the test split, its LUTs and its energy."""
    model, x, y = trained(net, name, seed)
    with quiet_warnings():
        weights = quantized_weights(model)
        kept = TrainedModel(name=model.name, class_name="Functional", config=configuration(model), weights=weights)
    graph = flow.lower(flow.extract(kept))
    project, target = into / "project", target_of(model)
    shutil.rmtree(project, ignore_errors=True)
    write(emit(graph, target), project)
    if source == "yosys":
        total = synthesize(project, graph.name, [], target, into / "cache").total
    else:
        total = estimate_rtl(graph, target, (project / DESIGN).read_bytes()).total
    accuracy = float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))
    return {"accuracy": accuracy, "lut": total.lut or 0, "energy_pj": static_energy(graph).per_inference}


def is_exact(net: str, name: str, seed: int, into: Path) -> bool:
    """Say whether C simulation and Verilog simulation of a net equal its inference in Keras, bit for bit."""
    model, x, y = trained(net, name, seed)
    rtl, options = target_of(model), flow.BuildOptions(output=into, adversarial=64)
    targets = rtl, Target(backend="Vitis", io_type=rtl.io_type)
    with quiet_warnings():
        reports = [flow.build(model, each, options, x=x, y=y, announce=lambda *_: None) for each in targets]
    return all(report.bit_exact for report in reports)


def target_of(model: Any) -> Target:
    return Target(backend="rtl", io_type=usual_io_type(model), part=PART, clock_period_ns=CLOCK_NS)


@quiet_warnings()
def train(model: Any, x: Any, y: Any, callbacks: Sequence[Any]) -> None:
    """Train a model; batch normalizations use moving statistics in the last epochs."""
    steps = EPOCHS * -(-len(x) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    options = {"batch_size": BATCH, "callbacks": list(callbacks), "verbose": 0}
    for start, end in ((0, EPOCHS - FROZEN), (EPOCHS - FROZEN, EPOCHS)):
        for layer in model.layers:
            if isinstance(layer, FixedBatchNormalization):
                layer.use_moving_statistics = start > 0
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, initial_epoch=start, epochs=end, **options)


def luts(graph: Any, target: Target, into: Path, yosys: bool) -> int:
    """Return the LUTs of a graph's Verilog, by the static estimate or by Yosys."""
    project = into / "project"
    shutil.rmtree(project, ignore_errors=True)
    write(emit(graph, target), project)
    if not yosys:
        return estimate_rtl(graph, target, (project / DESIGN).read_bytes()).total.lut or 0
    return synthesize(project, graph.name, [], target, into / "cache").total.lut or 0


if __name__ == "__main__":
    main()
