"""What pruning and the cost in the loss give on digits: accuracy and the LUTs that Yosys counts (docs/pruning.md).

python benchmarks/pruning.py                # every row, one seed
python benchmarks/pruning.py --seeds 1 2 3 --only 'uniform 0.5' budget
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
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

UNITS, EPOCHS, FROZEN, BATCH, LEARNING_RATE = (24, 16), 24, 4, 64, 0.01
WHEN: Mapping[str, Any] = {"begin_epoch": 2, "end_epoch": 18}
ROWS: Mapping[str, Callable[[Any], list[Any]]] = {
    "not pruned": lambda model: [],
    **{f"uniform {part}": lambda model, part=part: [Pruning(part, **WHEN)] for part in (0.4, 0.5, 0.6, 0.75)},
    "regrow": lambda model: [Pruning(0.75, regrow=0.3, **WHEN)],
    "allocate": lambda model: [Pruning(0.75, allocate="cost", **WHEN)],
    "1:4": lambda model: [Pruning(pattern="1:4", **WHEN)],
    "blocks 4x1": lambda model: [Pruning(0.75, pattern="blocks 4x1", **WHEN)],
    "channels": lambda model: [Pruning(0.5, pattern="channels", **WHEN)],
    "fan_in 8": lambda model: [Pruning(pattern="fan_in 8", **WHEN)],
    "budget alone": lambda model: [Pruning(luts=2300, **WHEN)],
    "budget": lambda model: [Pruning(luts=2300, **WHEN), LutCost(model, 3e-5, begin_epoch=1, end_epoch=18)],
}
"""Row -> the callbacks of its training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    arguments = parser.parse_args()
    data = flow.load_dataset("digits")
    for name in arguments.only:
        for seed in arguments.seeds:
            model = trained(data, seed, ROWS[name])
            said = model.predict(data.x_test, verbose=0).argmax(axis=1)
            kernels = [group["kernel"] for group in quantized_weights(model).values() if "kernel" in group]
            accuracy, zeros = np.mean(said == data.y_test), [round(float(np.mean(each == 0)), 2) for each in kernels]
            print(f"{name}, seed {seed}: {accuracy:.2%}, {luts(model)} LUT, zeros {zeros}", flush=True)


@quiet_warnings()
def net(widths: Sequence[int]) -> Any:
    """Return a net on digits that is not trained: dense layers so wide, powers of two, 4 bits between them."""
    first = keras.Input((64,))
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
def trained(data: Any, seed: int, callbacks: Callable[[Any], list[Any]]) -> Any:
    """Return the net after training; batch normalizations use moving statistics in the last epochs."""
    seeded(seed)
    model = net(UNITS)
    steps = EPOCHS * -(-len(data.x_train) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    options = {"batch_size": BATCH, "callbacks": callbacks(model), "verbose": 0}
    for start, end in ((0, EPOCHS - FROZEN), (EPOCHS - FROZEN, EPOCHS)):
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
