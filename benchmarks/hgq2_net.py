"""Train a network with HGQ2 and write its Verilog with alkaid; runs in the environment that hardware.py makes for it.

    python hgq2_net.py DATA.npz DIRECTORY --units 48 32 10 --accuracies 0.965 0.975 --epochs 1500 --betas 1e-6 5e-4 ...

HGQ2 learns the bits of every weight and activation: its loss adds beta times the bit operations (EBOPs), and beta grows
over the epochs. For each of `--accuracies`, the epoch with the fewest EBOPs among those that are at least as accurate
on a validation split is kept (the most accurate one if none is). The test split is used once, at the end.

Writes `DIRECTORY/<n>/rtl/` and `DIRECTORY/<n>/result.json`, n from 0, one for each accuracy. Needs HGQ2, Keras 3, JAX
and alkaid; nothing of po2flow.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from alkaid.codegen import RTLModel
from alkaid.converter import trace_model
from alkaid.trace import trace
from hgq.config import LayerConfigScope, QuantizerConfig, QuantizerConfigScope
from hgq.layers import QDense
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaScheduler, FreeEBOPs

PACKAGES = ("hgq2", "keras", "jax", "alkaid")
VALIDATION_PART = 8
"""One of so many training samples validates."""
SEED = 1
TOP = "hgq2_net"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--units", type=int, nargs="+", required=True)
    parser.add_argument("--accuracies", type=float, nargs="+", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--betas", type=float, nargs=2, required=True)
    parser.add_argument("--latency-cutoff", type=float, required=True)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(SEED)
    with np.load(arguments.data) as archive:
        data = {name: archive[name] for name in archive.files}
    model = build(data["x_train"].shape[1], arguments.units)
    kept = [Best(accuracy) for accuracy in arguments.accuracies]
    started = time.perf_counter()
    fit(model, data, kept, arguments)
    seconds = time.perf_counter() - started
    for place, best in enumerate(kept):
        facts = {"epochs": arguments.epochs, "training_seconds": round(seconds, 1)}
        result = facts | write(model, data, best, arguments.directory / str(place), arguments.latency_cutoff)
        (arguments.directory / str(place) / "result.json").write_text(json.dumps(result, indent=1) + "\n")


def write(
    model: keras.Model, data: dict[str, np.ndarray], best: Best, directory: Path, latency_cutoff: float
) -> dict[str, object]:
    """Write the Verilog of what was kept; return what was measured of it."""
    model.set_weights(best.weights)
    ebops = trace_minmax(model, data["x_train"])
    comb = trace(*trace_model(model))
    outputs = comb.predict(data["x_test"].astype(np.float64))
    expected = model.predict(data["x_test"], batch_size=1024, verbose=0)
    rtl = RTLModel(comb, directory / "rtl", prj_name=TOP, latency_cutoff=latency_cutoff)
    rtl.write()
    return {
        "accuracy": float(np.mean(outputs.argmax(axis=1) == data["y_test"])),
        "keras_accuracy": float(np.mean(expected.argmax(axis=1) == data["y_test"])),
        "outputs_differ_from_keras": float(np.mean(outputs != expected)),
        "latency_cycles": int(rtl.fsm.out_signals[0].schedule.bias),
        "ebops": ebops,
        "epoch": best.epoch,
        "validation_accuracy": best.accuracy,
        "versions": {name: version(name) for name in PACKAGES},
    }


def build(inputs: int, units: list[int]) -> keras.Model:
    """Return dense layers of so many units with ReLUs between them; HGQ2's defaults, weights that start at 6 bits."""
    with (
        QuantizerConfigScope(place="all", default_q_type="kbi", b0=6, i0=0, overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", default_q_type="kif", k0=False, i0=2, f0=3, overflow_mode="WRAP"),
        LayerConfigScope(enable_ebops=True),
    ):
        first = QuantizerConfig(place="datalane", k0=False, i0=1, f0=4)
        layers = [QDense(units[0], activation="relu", iq_conf=first)]
        layers += [QDense(count, activation="relu") for count in units[1:-1]]
        layers.append(QDense(units[-1]))
    return keras.Sequential([keras.Input((inputs,)), *layers])


def fit(model: keras.Model, data: dict[str, np.ndarray], kept: list[Best], arguments: argparse.Namespace) -> None:
    """Train with Adam, a cosine learning rate, and a beta that grows by the same factor in each epoch."""
    held = np.random.default_rng(SEED).permutation(len(data["x_train"])) % VALIDATION_PART == 0
    x, y = data["x_train"], data["y_train"]
    steps = arguments.epochs * -(-int(np.count_nonzero(~held)) // arguments.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(arguments.learning_rate, steps, alpha=0.05)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    low, high = arguments.betas

    def beta(epoch: int) -> float:
        return float(low * (high / low) ** (epoch / arguments.epochs))

    model.fit(
        x[~held],
        y[~held],
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_data=(x[held], y[held]),
        callbacks=[BetaScheduler(beta), FreeEBOPs(), *kept],
        verbose=0,
    )


class Best(keras.callbacks.Callback):
    """Keeps the weights with the fewest EBOPs among those that are accurate enough."""

    def __init__(self, enough: float) -> None:
        super().__init__()
        self.enough, self.rank = enough, (-1.0, 0.0)
        self.weights: list[np.ndarray] = []
        self.epoch, self.accuracy = -1, 0.0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        accuracy, ebops = logs["val_accuracy"], logs["ebops"]
        rank = (min(accuracy, self.enough), -ebops)
        if rank > self.rank:
            self.rank, self.weights = rank, self.model.get_weights()
            self.epoch, self.accuracy = epoch, float(accuracy)


if __name__ == "__main__":
    main()
