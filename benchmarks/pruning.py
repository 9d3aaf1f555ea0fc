"""What pruning and the cost in the loss give: accuracy and the LUTs that Yosys counts (docs/pruning.md).

python benchmarks/pruning.py                # digits, every row, one seed
python benchmarks/pruning.py --seeds 1 2 3 --only 'uniform 0.5' budget
python benchmarks/pruning.py --data mnist --seeds 1 2 3 --table mnist.csv    # goes on behind the rows of the table
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flow
from flow.backends.rtl.synthesis.synth import synthesize
from flow.backends.rtl.verilog.emit import emit
from flow.frontend.trained import TrainedModel
from flow.project import write
from flow.target import Target
from flow.train import load_tensorflow, quiet_warnings
from flow.train.artefacts import configuration
from flow.train.cost_in_loss import LutCost
from flow.train.epochs import seeded
from flow.train.freeze import quantized_weights
from flow.train.layers import FixedBatchNormalization
from flow.train.pruning import Pruning
from flow.train.quantizers import quantized_grid, quantized_po2_zero

keras: Any
qkeras: Any
_, keras, qkeras = load_tensorflow()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the nets on a data set are trained and pruned.

    Attributes:
        units: widths of the hidden layers.
        epochs, frozen, batch, learning_rate: of a training; in the last `frozen` epochs statistics do not move.
        begin, end: epochs between which is pruned.
        uniform: sparsities of the uniform pruning.
        luts, weight: the budget, and what a LUT adds to the loss.
    """

    units: tuple[int, ...]
    epochs: int
    frozen: int
    batch: int
    learning_rate: float
    begin: int
    end: int
    uniform: tuple[float, ...]
    luts: int
    weight: float

    def rows(self) -> Mapping[str, Callable[[Any], list[Any]]]:
        """Return row -> the callbacks of its training."""
        when: dict[str, Any] = {"begin_epoch": self.begin, "end_epoch": self.end}
        most = self.uniform[-1]

        def budget(model: Any) -> list[Any]:
            cost = LutCost(model, self.weight, begin_epoch=self.begin // 2, end_epoch=self.end)
            return [Pruning(luts=self.luts, **when), cost]

        return {
            "not pruned": lambda model: [],
            **{f"uniform {part}": lambda model, part=part: [Pruning(part, **when)] for part in self.uniform},
            "regrow": lambda model: [Pruning(most, regrow=0.3, **when)],
            "allocate": lambda model: [Pruning(most, allocate="cost", **when)],
            "1:4": lambda model: [Pruning(pattern="1:4", **when)],
            "blocks 4x1": lambda model: [Pruning(most, pattern="blocks 4x1", **when)],
            "channels": lambda model: [Pruning(0.5, pattern="channels", **when)],
            "fan_in 8": lambda model: [Pruning(pattern="fan_in 8", **when)],
            "budget alone": lambda model: [Pruning(luts=self.luts, **when)],
            "budget": budget,
        }


RECIPES = {
    "digits": Recipe(
        units=(24, 16),
        epochs=24,
        frozen=4,
        batch=64,
        learning_rate=0.01,
        begin=2,
        end=18,
        uniform=(0.4, 0.5, 0.6, 0.75),
        luts=2300,
        weight=3e-5,
    ),
    "mnist": Recipe(
        units=(32, 16),
        epochs=12,
        frozen=2,
        batch=256,
        learning_rate=0.005,
        begin=1,
        end=9,
        uniform=(0.7, 0.8, 0.9, 0.95),
        luts=5000,
        weight=3e-5,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(RECIPES), default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", help="rows (default: all)")
    parser.add_argument("--table", type=Path, default=Path("pruning.csv"), help="what is measured goes there")
    arguments = parser.parse_args()
    recipe, data = RECIPES[arguments.data], flow.load_dataset(arguments.data)
    rows = recipe.rows()
    for seed in arguments.seeds:
        for name in arguments.only or rows:
            if [arguments.data, name, str(seed)] in [row[:3] for row in read(arguments.table)]:
                continue
            model = trained(recipe, data, seed, rows[name])
            said = model.predict(data.x_test, verbose=0).argmax(axis=1)
            kernels = [group["kernel"] for group in quantized_weights(model).values() if "kernel" in group]
            zeros = " ".join(f"{np.mean(each == 0):.2f}" for each in kernels)
            found = [arguments.data, name, seed, f"{np.mean(said == data.y_test):.4f}", luts(model), zeros]
            with arguments.table.open("a", newline="") as file:
                csv.writer(file).writerow(found)
            print(*found, flush=True)


def read(table: Path) -> list[list[str]]:
    """Return what was measured so far: data set, row, seed, accuracy, LUTs, zeros of each kernel."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.reader(file))


@quiet_warnings()
def net(widths: Sequence[int], inputs: int = 64) -> Any:
    """Return a net that is not trained: dense layers so wide, powers of two, 4 bits between them, ten classes."""
    first = keras.Input((inputs,))
    tensor = qkeras.QActivation("quantized_relu(4,0)", name="input_quant")(first)
    po2 = {"min_exp": -5, "max_exp": 0}
    for number, units in enumerate(widths, 1):
        kernel = {"kernel_quantizer": quantized_po2_zero(4, **po2), "kernel_initializer": "he_normal"}
        tensor = qkeras.QDense(units, use_bias=False, name=f"dense{number}", **kernel)(tensor)
        scale = quantized_po2_zero(4, min_exp=-4, max_exp=2)
        tensor = FixedBatchNormalization(scale, quantized_grid(8, 2), momentum=0.9, name=f"bn{number}")(tensor)
        tensor = qkeras.QActivation("quantized_relu(4,1)", name=f"relu{number}")(tensor)
    last = {"bias_quantizer": "quantized_bits(6,1,0,1,alpha=1.0)", "kernel_initializer": "he_normal", "name": "logits"}
    return keras.Model(first, qkeras.QDense(10, kernel_quantizer=quantized_po2_zero(4, **po2), **last)(tensor))


@quiet_warnings()
def trained(recipe: Recipe, data: Any, seed: int, callbacks: Callable[[Any], list[Any]]) -> Any:
    """Return the net after training; batch normalizations use moving statistics in the last epochs."""
    seeded(seed)
    model = net(recipe.units, data.x_train.shape[-1])
    steps = recipe.epochs * -(-len(data.x_train) // recipe.batch)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps))
    options = {"batch_size": recipe.batch, "callbacks": callbacks(model), "verbose": 0}
    still = recipe.epochs - recipe.frozen
    for start, end in ((0, still), (still, recipe.epochs)):
        for layer in model.layers:
            if isinstance(layer, FixedBatchNormalization):
                layer.use_moving_statistics = start > 0
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(data.x_train, data.y_train, initial_epoch=start, epochs=end, **options)
    return model


def luts(model: Any) -> int:
    """Return what Yosys counts of a model's Verilog, for 7 series at 5 ns."""
    kept = TrainedModel(
        name="net", class_name="Functional", config=configuration(model), weights=quantized_weights(model)
    )
    graph = flow.lower(flow.extract(kept))
    target = Target(backend="rtl", io_type="io_parallel", part="xc7z020clg400-1", clock_period_ns=5)
    with tempfile.TemporaryDirectory() as scratch:
        write(emit(graph, target), Path(scratch) / "project")
        return synthesize(Path(scratch) / "project", "net", [], target, Path(scratch) / "cache").total.lut or 0


if __name__ == "__main__":
    main()
