"""Fit the estimate of LUTs of a model in training (`flow.train.lut_cost`) to what Yosys counts of random Keras models.

    python benchmarks/loss_cost.py measure [--nets 50]   # synthesize the nets that the table does not have
    python benchmarks/loss_cost.py fit                   # write the factors, print how well the estimate ranks

Dense nets of one to three layers and convolutions in streams; powers of two, integers and ternary weights; batch
norms; ReLUs and tables. The table, benchmarks/data/loss_cost.csv, has what Yosys counts of each seed. The factors have
the least sum of relative errors. Half of the nets, drawn thirty times, is fitted to; ranks of the others are compared.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.stats import spearmanr

import flow
from flow.backends.rtl.synthesis.synth import synthesize
from flow.backends.rtl.verilog.emit import emit
from flow.project import write
from flow.target import Target
from flow.train import load_tensorflow, quiet_warnings
from flow.train.functions import evaluate
from flow.train.layers import EPSILON, FixedBatchNormalization
from flow.train.lut_cost import COEFFICIENTS, FEATURES, Features
from flow.train.quantizers import quantized_grid, quantized_po2_zero

keras: Any
qkeras: Any
_, keras, qkeras = load_tensorflow()

TABLE = Path(__file__).parent / "data" / "loss_cost.csv"
PART = "xc7z020clg400-1"
SMALLEST = 50
"""Nets of fewer LUTs are left out."""
DRAWS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "fit"))
    parser.add_argument("--nets", type=int, default=50)
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure(arguments.nets)
    else:
        fit()


def measure(nets: int) -> None:
    """Synthesize nets, and write the table after each."""
    counted = read()
    for seed in range(nets):
        if seed not in counted:
            counted[seed] = _luts(seed)
            rows = [["seed", "lut"], *sorted(counted.items())]
            TABLE.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
            print(seed, counted[seed], flush=True)


def read() -> dict[int, int]:
    """Return seed -> LUTs."""
    with TABLE.open() as file:
        return {int(row["seed"]): int(row["lut"]) for row in csv.DictReader(file)}


def fit() -> None:
    """Fit the factors, and write them with what the estimate is worth."""
    counted = {seed: lut for seed, lut in read().items() if lut >= SMALLEST}
    taken = np.array([_features(seed) for seed in counted])
    luts = np.array(list(counted.values()), float)
    factors = _least(taken, luts)
    rng, ranks = np.random.default_rng(0), list[float]()
    for _ in range(DRAWS):
        order = rng.permutation(len(luts))
        half, other = order[: len(luts) // 2], order[len(luts) // 2 :]
        ranks.append(_rank(taken[other] @ _least(taken[half], luts[half]), luts[other]))
    off = np.abs(taken @ factors / luts - 1)
    error = {
        "nets": len(luts),
        "rank_correlation": round(_rank(taken @ factors, luts), 3),
        "rank_correlation_not_fitted_to": round(float(np.mean(ranks)), 3),
        "median": round(100 * float(np.median(off)), 1),
    }
    named = dict(zip(FEATURES, np.round(factors, 3).tolist(), strict=True))
    COEFFICIENTS.write_text(json.dumps({"lut": named, "error": error}, indent=1) + "\n")
    print(COEFFICIENTS.read_text())


def _rank(estimated: NDArray[Any], counted: NDArray[Any]) -> float:
    return float(spearmanr(estimated, counted).statistic)


def _least(taken: NDArray[Any], luts: NDArray[Any]) -> NDArray[Any]:
    """Return the factors, none below 0, with the least sum of relative errors."""
    share = taken / luts[:, None]
    count, kinds = share.shape
    cost = np.concatenate([np.zeros(kinds), np.ones(count)])
    above = np.block([[share, -np.eye(count)], [-share, -np.eye(count)]])
    ends = np.concatenate([np.ones(count), -np.ones(count)])
    return np.asarray(linprog(cost, A_ub=above, b_ub=ends, bounds=[(0, None)] * (kinds + count)).x[:kinds])


def _features(seed: int) -> list[float]:
    keras.backend.clear_session()
    model, stream = random_net(seed)
    taken = Features(model, "io_stream" if stream else "io_parallel").of_layers()
    return [sum(float(of.get(key, 0.0)) for of in taken.values()) for key in FEATURES]


def _luts(seed: int) -> int:
    """Return what Yosys counts of a net."""
    keras.backend.clear_session()
    model, stream = random_net(seed)
    with tempfile.TemporaryDirectory() as scratch:
        with quiet_warnings():
            model.save(f"{scratch}/net.h5", include_optimizer=False)
        extracted = flow.extract(flow.read_keras(Path(scratch) / "net.h5").trained, evaluate=evaluate)
        graph = flow.lower(extracted, stream=stream)
        target = Target(backend="rtl", io_type="io_stream" if stream else "io_parallel", part=PART, clock_period_ns=5)
        write(emit(graph, target), Path(scratch) / "project")
        return synthesize(Path(scratch) / "project", graph.name, [], target, Path(scratch) / "cache").total.lut or 0


# -- random nets


def _kernel_quantizer(rng: np.random.Generator) -> Any:
    kind = rng.integers(5)
    if kind <= 1:
        return quantized_po2_zero(4, min_exp=-int(rng.integers(1, 7)), max_exp=0)
    if kind == 2:
        return "ternary(alpha=1,threshold=0.33)"
    bits = int(rng.integers(2, 7)) if kind == 3 else int(rng.integers(3, 6))
    return f"quantized_bits({bits},0,1,alpha=1)"


@quiet_warnings()
def random_net(seed: int) -> tuple[Any, bool]:
    """Return a Keras model with random weights, and whether it is a convolution, for a stream."""
    rng = np.random.default_rng([seed, 16])
    stream = bool(rng.random() < 0.3)

    def size(low: int, high: int) -> int:
        return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))

    bits = int(rng.integers(2, 9))
    shape = (int(rng.integers(5, 9)), int(rng.integers(5, 9)), size(1, 4)) if stream else (size(8, 48),)
    first = keras.Input(shape)
    port = f"quantized_relu({bits},0)" if rng.random() < 0.6 else f"quantized_bits({bits},0,0,1,alpha=1.0)"
    tensor = qkeras.QActivation(port)(first)
    same = _kernel_quantizer(rng) if rng.random() < 0.5 else None
    density, densities = rng.uniform(0.12, 1), list[float]()
    layers = 1 if stream else int(rng.integers(1, 4))
    for number in range(layers):
        quantizer = same or _kernel_quantizer(rng)
        densities.append(density if rng.random() < 0.5 else rng.uniform(0.12, 1))
        bias = None if rng.random() < 0.5 else "quantized_bits(6,1,0,1,alpha=1.0)"
        weights = {"kernel_quantizer": quantizer, "bias_quantizer": bias, "use_bias": bias is not None}
        if stream:
            window = int(rng.integers(1, 4))
            tensor = qkeras.QConv2D(size(2, 8), (window, window), name=f"w{number}", **weights)(tensor)
        else:
            tensor = qkeras.QDense(size(4, 28), name=f"w{number}", **weights)(tensor)
        if rng.random() < 0.5:
            scale = quantized_po2_zero(4, min_exp=-4, max_exp=2) if rng.random() < 0.7 else quantized_grid(6, 1)
            norm = FixedBatchNormalization(scale, quantized_grid(8, 2), momentum=0.0, name=f"bn{number}")
            tensor = norm(tensor)
        if number < layers - 1 or rng.random() < 0.6:
            width = int(rng.integers(1, 8))
            table = rng.random() < 0.2
            relu = "" if table else f"quantized_relu({width},{int(rng.integers(0, 3))})"
            tensor = qkeras.QActivation(relu or f"quantized_tanh({min(width + 1, 6)})")(tensor)
    model = keras.Model(first, tensor, name=f"net{seed}")
    for layer in model.layers:
        layer.set_weights([_values(rng, layer, variable, densities) for variable in layer.weights])
    model(rng.uniform(0, 1, (256, *shape)).astype(np.float32), training=True)
    return model, stream


def _values(rng: np.random.Generator, layer: Any, variable: Any, densities: list[float]) -> NDArray[np.float32]:
    name, shape = variable.name.split("/")[-1], tuple(variable.shape)
    values: NDArray[Any] = (
        rng.normal(0, 0.4, shape)
        if not any(key in name for key in ("variance", "mean", "gamma", "beta"))
        else np.zeros(shape)
    )
    if "kernel" in name:
        values[rng.random(shape) > densities[int(layer.name[1:])]] = 0
    if "variance" in name:
        values = np.full(shape, 1 - EPSILON)
    if "gamma" in name:
        values = rng.uniform(0.5, 1.5, shape)
    if "beta" in name:
        values = rng.normal(0, 0.3, shape)
    return values.astype(np.float32)


if __name__ == "__main__":
    main()
