"""A net of each kind through all that training has, to a verdict in C simulation and in Verilog (docs/training.md).

python benchmarks/whole_way.py whole_way.csv [--nets residual ...] [--cases 2:4 ...]

A residual and a depthwise CNN on digits, an MLP of two heads on wines, a 1-D CNN on series. Each is trained as a float
model, then its QKeras twin is pruned by each pattern, trained with the cost in the loss, taught by the float model; and
the float model is quantized and fine-tuned. A row is appended for each; those that are there are not made again.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_wine

import flow
from flow.train import load_tensorflow, quiet_warnings
from flow.train.epochs import seeded

keras: Any
_, keras, _ = load_tensorflow()
layers: Any = keras.layers

EPOCHS, FLOAT_EPOCHS, BATCH, LEARNING_RATE = 6, 15, 32, 0.003
WHEN: Mapping[str, Any] = {"begin_epoch": 0, "end_epoch": 4}
SAMPLES, ADVERSARIAL = 64, 32
Arrays = dict[str, Any]


def digits() -> Arrays:
    pixels, labels = load_digits(return_X_y=True)
    return _split((pixels / 16).reshape(-1, 8, 8, 1), labels)


def wines() -> Arrays:
    """The kind of a wine, and its alcohol, from twelve measurements."""
    values, kinds = load_wine(return_X_y=True)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    return _split(scaled[:, 1:], {"kind": kinds, "alcohol": scaled[:, :1].astype(np.float32)})


def series() -> Arrays:
    """Sines, squares and saws of random phase and period, with noise."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 3, 900)
    turns = np.arange(32) / rng.uniform(8, 16, (900, 1)) + rng.uniform(0, 1, (900, 1))
    waves = np.stack([np.sin(2 * np.pi * turns), np.sign(np.sin(2 * np.pi * turns)), 2 * (turns % 1) - 1])
    return _split((waves[kinds, np.arange(900)] + rng.normal(0, 0.2, turns.shape))[..., None], kinds)


def _split(x: NDArray[Any], y: Any) -> Arrays:
    order = np.random.default_rng(1).permutation(len(x))
    test, train = np.split(order, [len(x) // 4])

    def of(rows: NDArray[Any]) -> Any:
        return {name: each[rows] for name, each in y.items()} if isinstance(y, Mapping) else y[rows]

    x = x.astype(np.float32)
    return {"x": x[train], "y": of(train), "x_test": x[test], "y_test": of(test)}


def _normed(layer: Any, tensor: Any, relu: bool = True) -> Any:
    tensor = layers.BatchNormalization(name=f"{layer.name}_norm")(layer(tensor))
    return layers.ReLU(name=f"{layer.name}_relu")(tensor) if relu else tensor


def residual() -> Any:
    port = keras.Input((8, 8, 1), name="pixels")
    x = _normed(layers.Conv2D(6, 3, padding="same", name="conv1"), port)
    y = _normed(layers.Conv2D(6, 3, padding="same", name="conv2"), x)
    y = _normed(layers.Conv2D(6, 3, padding="same", name="conv3"), y, relu=False)
    y = layers.ReLU(name="join_relu")(layers.Add(name="join")([x, y]))
    y = layers.Flatten(name="flat")(layers.AveragePooling2D(4, name="pool")(y))
    return keras.Model(port, layers.Dense(10, name="digit")(y), name="residual")


def depthwise() -> Any:
    port = keras.Input((8, 8, 1), name="pixels")
    x = _normed(layers.Conv2D(8, 3, padding="same", strides=2, name="conv1"), port)
    x = _normed(layers.DepthwiseConv2D(3, padding="same", name="depthwise"), x)
    x = _normed(layers.Conv2D(12, 1, name="pointwise"), x)
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(2, name="pool")(x))
    return keras.Model(port, layers.Dense(10, name="digit")(x), name="depthwise")


def two_heads() -> Any:
    port = keras.Input((12,), name="measured")
    x = _normed(layers.Dense(24, name="hidden1"), port)
    x = _normed(layers.Dense(16, name="hidden2"), x)
    return keras.Model(port, [layers.Dense(3, name="kind")(x), layers.Dense(1, name="alcohol")(x)], name="two_heads")


def on_series() -> Any:
    port = keras.Input((32, 1), name="series")
    x = _normed(layers.Conv1D(6, 5, strides=2, name="conv1"), port)
    x = _normed(layers.Conv1D(8, 3, name="conv2"), layers.MaxPooling1D(2, name="pool")(x))
    return keras.Model(port, layers.Dense(3, name="wave")(layers.Flatten(name="flat")(x)), name="on_series")


NETS: Mapping[str, tuple[Callable[[], Any], Callable[[], Arrays], str]] = {
    "residual": (residual, digits, "io_stream"),
    "depthwise": (depthwise, digits, "io_stream"),
    "two_heads": (two_heads, wines, "io_parallel"),
    "on_series": (on_series, series, "io_stream"),
}
"""Net -> what makes it, its data, and how it is built."""


@quiet_warnings()
def pruned(model: Any, data: Arrays, scratch: Path, io_type: str, cost: bool = False, **pattern: Any) -> Any:
    """Return the QKeras twin of a float model, pruned in a `fit`."""
    twin = flow.qkerasify(model, x=data["x"][:256])
    callbacks: list[Any] = [flow.Pruning(**pattern, io_type=io_type, **WHEN)]
    if cost:
        callbacks.append(flow.LutCost(twin, 3e-5, io_type=io_type, end_epoch=4))
    losses = [
        "mse" if name == "alcohol" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for name in model.output_names
    ]
    twin.compile(keras.optimizers.Adam(LEARNING_RATE), losses)
    y = data["y"]
    targets = [y[name] for name in model.output_names] if isinstance(y, Mapping) else y
    twin.fit(data["x"], targets, epochs=EPOCHS, batch_size=BATCH, callbacks=callbacks, verbose=0)
    return twin


def taught(model: Any, data: Arrays, scratch: Path, io_type: str) -> Any:
    """Return the QKeras twin, trained with the float model as its teacher."""
    twin, of_twin = flow.qkerasify(model, x=data["x"][:256]), dict(data)
    names = dict(zip(model.output_names, twin.output_names, strict=True))
    for key in ("y", "y_test"):
        if isinstance(data[key], Mapping):
            of_twin[key] = {names[name]: each for name, each in data[key].items()}
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": LEARNING_RATE}
    flow.train_model(twin, scratch, **of_twin, **settings, distill=flow.DistillSpec(model))
    return twin


def tuned(model: Any, data: Arrays, scratch: Path, io_type: str) -> Any:
    """Return the float model quantized to four bits, as a QKeras model that is trained on."""
    settings = flow.QuantSettings(bits=4, weight_bits=4)
    options = flow.QuantizeOptions(settings=settings, until="extract", output=scratch / "runs")
    twin = flow.quantize(model, options=options, calibration=data["x"][:128]).qkeras_model()
    names = dict(zip(model.output_names, twin.output_names, strict=True))
    of_twin = dict(data)
    for key in ("y", "y_test"):
        if isinstance(data[key], Mapping):
            of_twin[key] = {names[name]: each for name, each in data[key].items()}
    flow.train_model(twin, scratch / "tuned", **of_twin, epochs=EPOCHS, batch_size=BATCH, learning_rate=0.0005)
    return twin


CASES: Mapping[str, Callable[[Any, Arrays, Path, str], Any]] = {
    "weights 60 %": lambda *of: pruned(*of, sparsity=0.6),
    "2:4": lambda *of: pruned(*of, pattern="2:4"),
    "blocks 2x1 50 %": lambda *of: pruned(*of, sparsity=0.5, pattern="blocks 2x1"),
    "channels 30 %": lambda *of: pruned(*of, sparsity=0.3, pattern="channels"),
    "fan_in 4": lambda *of: pruned(*of, pattern="fan_in 4"),
    "cost in the loss": lambda *of: pruned(*of, sparsity=0.5, allocate="cost", cost=True),
    "distillation": taught,
    "fine-tuning, 4 bits": tuned,
}
"""Case -> what makes the model of it, of a float model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), default=tuple(NETS))
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    arguments = parser.parse_args()
    for case in arguments.cases:
        for name in arguments.nets:
            if [name, case] not in [row[:2] for row in read(arguments.table)]:
                found = measured(name, case)
                with arguments.table.open("a", newline="") as file:
                    csv.writer(file).writerow([name, case, *found])
                print(name, case, *found, flush=True)


def read(table: Path) -> list[list[str]]:
    """Return the rows so far: net, case, zeros, accuracy in software, verdicts of csim and of Verilog, seconds."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.reader(file))


def measured(name: str, case: str) -> list[Any]:
    """Train one net in one way, and build it for both back ends."""
    started = time.monotonic()
    build, load, io_type = NETS[name]
    seeded(1)
    model, data = build(), load()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        flow.train_model(model, scratch / "float", **data, epochs=FLOAT_EPOCHS, batch_size=BATCH, learning_rate=0.005)
        made = CASES[case](model, data, scratch / case.split()[0], io_type)
        y, test = data["y_test"], data["x_test"]
        if isinstance(y, Mapping):
            y = dict(zip(made.output_names, (y[each] for each in model.output_names), strict=True))
        verdicts, accuracy, zeros = [], "", ""
        for backend in ("Vitis", "rtl"):
            target = flow.Target(backend=backend, io_type=io_type)
            options = flow.BuildOptions(samples=SAMPLES, adversarial=ADVERSARIAL, output=scratch / "runs")
            report = flow.build(made, target, options, x=test, y=y)
            verdicts.append("exact" if report.bit_exact else str(report.bit_exact))
            held = [(op["weights"], op["sparsity"]) for op in report.document["layers"] if op["weights"]]
            zeros = f"{sum(count * part for count, part in held) / sum(count for count, _ in held):.2f}"
            accuracy = report.document["accuracy"].get("hardware") or ""
    return [zeros, accuracy, *verdicts, round(time.monotonic() - started)]


if __name__ == "__main__":
    main()
