"""Train a small net of each kind of layer, build it with every form of two back ends, and write docs/kinds.md.

    python benchmarks/kinds.py [--only NAME ...] [--again] [--record]

A net is trained in seconds to two minutes (`kind_models.py`), then built by `flow.build` for Vitis (C simulation) and
for Verilog (simulation of that), in io_stream and io_parallel: up to 360 samples that it was not trained on, and 256
adversarial ones, compared op by op. What came out is kept in `build/kinds`, so an interrupted run goes on where it
stopped; `--again` builds anew, of the nets that were trained. `--record` writes the document. Needs `po2flow[train]`,
scikit-learn, g++ and Verilator.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from kind_models import FINEST, KINDS, Data, Kind, keras

import flow
from flow.backends.base import find_backend
from flow.errors import FlowError
from flow.target import Target

ROOT = Path(__file__).resolve().parents[1]
KEPT, DOCUMENT = ROOT / "build" / "kinds", ROOT / "docs" / "kinds.md"
BACKENDS = ("Vitis", "rtl")
FORMS = tuple(product(("io_stream", "io_parallel"), BACKENDS))
FLOAT = ("EinsumDense", "SimpleRNN", "LSTM", "GRU")
"""Layers without quantizers, whose weights are put on a grid after training."""
ADVERSARIAL = 256


def trained(name: str, kind: Kind, data: Data) -> Path:
    """Return the file of a net, trained if it was not."""
    path = KEPT / name / "model.h5"
    if not path.exists():
        keras.utils.set_random_seed(1)
        model = kind.build()
        model.compile(keras.optimizers.Adam(0.005), kind.loss, jit_compile=kind.jit)
        model.fit(data.x_train, data.y_train, batch_size=32, epochs=kind.epochs, verbose=0)
        _round_floats(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path.with_name("writing.h5"))
        path.with_name("writing.h5").rename(path)
    return path


def _round_floats(model: Any) -> None:
    """Put the weights of layers without quantizers on a grid."""
    for layer in model.layers:
        if type(layer).__module__.startswith(("tf_keras", "keras")) and type(layer).__name__ in FLOAT:
            layer.set_weights([np.rint(weight * FINEST) / FINEST for weight in layer.get_weights()])


def target(kind: Kind, backend: str, io_type: str) -> Target:
    """Return the settings of a build."""
    reuse = kind.reuse_factor if find_backend(backend).takes_reuse else 1
    shared: dict[str, Any] = {"strategy": "Resource", "reuse_factor": reuse, "reuse_nearest": True} if reuse > 1 else {}
    return Target(backend=backend, io_type=io_type, **shared)


def built(name: str, path: Path, data: Data, how: Target) -> dict[str, Any]:
    """Return where the report of a build lies, or why there was none."""
    options = flow.BuildOptions(output=KEPT / name / "runs", adversarial=ADVERSARIAL)
    started = time.time()
    try:
        report = flow.build(path, how, options, x=data.x_test, y=data.y_test)
    except FlowError as error:
        return {"refused": str(error)}
    return {"run": report.document["run_dir"], "seconds": round(time.time() - started)}


def document() -> str:
    """Return docs/kinds.md."""
    return INTRODUCTION + "\n".join(_lines()) + "\n\n" + CLOSING


def _lines() -> Iterator[str]:
    heads = ["net", "samples", "Keras", "hardware", *(f"{backend}, {io_type}" for io_type, backend in FORMS)]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for name, kind in KINDS.items():
        found = [_kept(name, backend, io_type) for io_type, backend in FORMS]
        reports = [report for report in found if report and "verdict" in report]
        about = _samples(reports[0]) if reports else ["-"] * 3
        yield "| " + " | ".join([kind.what, *about, *map(_cell, found)]) + " |"


def _kept(name: str, backend: str, io_type: str) -> dict[str, Any] | None:
    """Return the report of a build, `refused` alone if there is none, or None if it was not tried."""
    file = KEPT / name / f"{backend}-{io_type}.json"
    if not file.exists():
        return None
    kept: dict[str, Any] = json.loads(file.read_text())
    return kept if "refused" in kept else json.loads((Path(kept["run"]) / "report.json").read_text())


def _samples(report: dict[str, Any]) -> list[str]:
    """Return how many samples, and accuracy, or of a regression the mean squared error, in Keras and on hardware."""
    verdict, levels = report["verdict"], ("qkeras", "hardware")
    errors = [head["mean_squared_error"] for head in report["heads"] if head["mean_squared_error"]]
    said = [
        f"error {errors[0][level]:.4f}" if errors else f"{100 * report['accuracy'][level]:.1f} %" for level in levels
    ]
    return [f"{verdict['samples']} + {verdict['adversarial_samples']}", *said]


def _cell(report: dict[str, Any] | None) -> str:
    if report is None or "refused" in report:
        return "-" if report is None else "refused"
    sources = {entry["source"]: entry for entry in report["resources"]}
    static, cycles = sources["static"], sources.get("rtlsim", sources["static"])["latency_cycles"]
    taken = f"{static['lut']:,}" + (f" + {static['dsp']:,} DSP" if static["dsp"] else "")
    return f"{'exact' if report['verdict']['bit_exact'] else 'DIFFERS'}; {taken}; {cycles:,}"


INTRODUCTION = """# One trained net of each kind

For each kind of layer that po2flow takes there is a small net that was trained and went the whole way: to projects of
HLS C++ and of Verilog, simulated on samples that the net had not seen and on adversarial ones, and compared with
Keras, integer by integer, op by op. This one marks the pixels of a digit that are ink, whatever the noise:

```python
x = QActivation("quantized_relu(5,0)")(port)
a = QActivation(relu)(QConv2D(8, 3, strides=2, padding="same", **quantizers)(x))
b = QActivation(relu)(QConv2D(12, 3, strides=2, padding="same", **quantizers)(a))
up = QActivation(relu)(QConv2DTranspose(8, 2, strides=2, padding="same", **quantizers)(b))
x = Concatenate()([a, up])
x = QActivation(relu)(QConv2DTranspose(6, 2, strides=2, padding="same", **quantizers)(x))
model = Model(port, QConv2D(2, 3, padding="same", **quantizers)(x))
```

The nets are in `benchmarks/kind_models.py`, as plain Keras and QKeras; most have weights of 6 bits and activations of
6 or 7. They learn scikit-learn's digits, waves, or patches of two photographs, for seconds to two minutes: their
accuracy is no record. `python benchmarks/kinds.py --record` trains what is not trained, builds what is not built, and
writes this page.

A cell says whether every integer of every level was the same; LUTs and DSPs by the static estimate; and the latency
in cycles of 5 ns, of Verilog as simulated, of HLS as estimated. Samples are those of a test set and adversarial ones.
Of a regression there is the mean squared error. *-* was not built yet.

"""
CLOSING = """What was learned on the way:

- Keras cannot train grouped or `channels_first` convolutions on a processor: its kernels lack the gradients. XLA has
  them: `model.compile(..., jit_compile=True)`.
- Layers of Keras that QKeras has not (`EinsumDense`, and here Keras' own cells) have weights that nothing quantizes.
  Put on a grid after training, `layer.set_weights([np.rint(32 * w) / 32 for w in layer.get_weights()])`, they are as
  small as QKeras' and the net is exact. `--float-layers 8` does it too, and measures the distance.
- Keras' `LSTM` and `GRU` have no state quantizer, so their states get longer at each step; with gates of 5 bits 4
  steps are exact, 8 are refused. `QLSTM` and `QGRU` with a `state_quantizer` have no such end.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--again", action="store_true", help="build what was built before")
    parser.add_argument("--record", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args()
    for (io_type, backend), name in product(FORMS, options.only):  # streams first: they take the least time
        result = KEPT / name / f"{backend}-{io_type}.json"
        if options.again or not result.exists():
            data = KINDS[name].data()
            found = built(name, trained(name, KINDS[name], data), data, target(KINDS[name], backend, io_type))
            result.write_text(json.dumps(found))
            print(name, backend, io_type, found, flush=True)
    if options.record:
        DOCUMENT.write_text(document())


if __name__ == "__main__":
    main()
