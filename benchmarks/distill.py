"""What distillation gives on digits: a wide float teacher, small nets of powers of two (docs/training.md).

python benchmarks/distill.py --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import numpy as np
from pruning import net

import flow
from flow.train import load_tensorflow
from flow.train.epochs import seeded

keras: Any
_, keras, _ = load_tensorflow()

TEACHER, WIDTHS, EPOCHS = (512, 256), ((24, 16), (12, 8), (8,)), 24
RECIPES = {
    "labels alone": None,
    "temperature 2, weight 0.5": {"temperature": 2, "weight": 0.5},
    "temperature 4, weight 0.9": {"temperature": 4, "weight": 0.9},
    "hidden layer": {"weight": 0.01, "hidden": {"relu1": "wide2"}},
    "hidden layer, temperature 2, weight 0.5": {"temperature": 2, "weight": 0.5, "hidden": {"relu1": "wide2"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=tuple(RECIPES), default=tuple(RECIPES))
    arguments, data = parser.parse_args(), flow.load_dataset("digits")
    seeds = arguments.seeds
    seeded(1)
    layers = []
    for number, units in enumerate(TEACHER, 1):
        layers += [keras.layers.Dense(units, "relu", name=f"wide{number}"), keras.layers.Dropout(0.3)]
    teacher = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)], name="teacher")
    print(f"teacher: {accuracy(teacher, data, epochs=40, learning_rate=0.001, seed=1):.2%}", flush=True)
    for widths in WIDTHS:
        for recipe in arguments.only:
            distill = flow.DistillSpec(teacher, **RECIPES[recipe]) if RECIPES[recipe] else None
            found = []
            for seed in seeds:
                seeded(seed, forget=False)
                found.append(accuracy(net(widths), data, epochs=EPOCHS, learning_rate=0.01, seed=seed, distill=distill))
            each = ", ".join(f"{value:.2%}" for value in found)
            print(f"{widths}, {recipe}: mean {np.mean(found):.2%} of {each}", flush=True)


def accuracy(model: Any, data: Any, **how: Any) -> float:
    """Train a model in place; return its accuracy on the test split."""
    given = {"x": data.x_train, "y": data.y_train, "x_test": data.x_test, "y_test": data.y_test}
    with tempfile.TemporaryDirectory() as scratch:
        metrics = flow.train_model(model, scratch, batch_size=64, announce=lambda *_: None, **given, **how).metrics
    return float(metrics.get("qkeras", metrics.get("float")))


if __name__ == "__main__":
    main()
