"""What post-training quantization loses: the joint search beside baselines and switches, on the float models here.

    python benchmarks/quantize.py                  # all models; goes on where it stopped; prints Markdown tables
    python benchmarks/quantize.py fashion_resnet8  # one model
    python benchmarks/quantize.py --tables         # only prints what was measured
    python benchmarks/quantize.py --why            # output errors with more samples, and with corrected biases
    python benchmarks/quantize.py --scale          # search time and memory against modules and samples
    python benchmarks/quantize.py --imagenet ResNet50      # one network of that size, or MobileNetV2

Accuracy is that of the integer reference on the whole test split. Calibration samples are 128 of the training split,
drawn by each of three seeds. Results are kept in benchmarks/data/quantize.json, with the versions that made them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from flow.data.datasets import load_dataset
from flow.frontend.trained import TrainedModel
from flow.ir import reference
from flow.ir.fixed import Overflow, to_values
from flow.ir.fixed import quantize as quantize_values
from flow.quantization.driver import QuantizedModel, float_outputs, quantize
from flow.quantization.floats import float_graph
from flow.quantization.settings import QuantSettings
from flow.sources import find_float

HERE = Path(__file__).parent
DATA = HERE / "data" / "quantize.json"
MODELS = ("digits_mlp", "mnist_mlp", "fashion_cnn", "fashion_mobile", "fashion_resnet8", "mnist_autoencoder")
BITS, SEEDS = (8, 6, 4), (1, 2, 3)
SAMPLES = 128
PART = 500
"""Test samples that the float network runs at a time."""
BASELINES: Mapping[str, Mapping[str, Any]] = {
    "joint": {},
    "independent": {"choose": "independent"},
    "MSE": {"choose": "mse"},
    "min-max": {"choose": "minmax"},
    "percentile": {"choose": "percentile"},
    "KL": {"choose": "kl"},
}
"""How fraction bits are chosen."""
POINTS: Mapping[str, Mapping[str, Any]] = {
    "after every op": {"points": "op"},
    "batch norm folded": {"points": "folded"},
    "16 bits before adds": {"points": "wide-add"},
}
"""Where values are quantized, besides unified modules."""
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "bias correction": {"bias_correction": True},
    "second sweep": {"sweeps": 2},
    "weights by reconstruction": {"weight_rounding": "reconstruct"},
    "both of these": {"weight_rounding": "reconstruct", "bias_correction": True},
    "per tensor": {"per_channel": False},
    "per tensor, equalized": {"per_channel": False, "equalize": True},
    "equalized": {"equalize": True},
    "4-bit powers of two": {"weights": "po2"},
    "... by reconstruction": {"weights": "po2", "weight_rounding": "reconstruct"},
}
"""What can be put on top; measured with the first seed."""


def runs() -> Iterator[tuple[str, int, int, Mapping[str, Any]]]:
    """Yield (name, bits, seed, settings) of all runs of a model."""
    for bits in BITS:
        for name, settings in {**BASELINES, **POINTS}.items():
            for seed in SEEDS:
                yield name, bits, seed, settings
        for name, settings in SWITCHES.items():
            yield name, bits, SEEDS[0], settings


def load() -> dict[str, Any]:
    return json.loads(DATA.read_text()) if DATA.exists() else {"models": {}, "scale": []}


def save(document: Mapping[str, Any]) -> None:
    machine = {"python": platform.python_version(), "numpy": version("numpy"), "processors": platform.machine()}
    DATA.write_text(json.dumps({**document, "versions": machine}, indent=1) + "\n")


def measure(name: str, document: dict[str, Any]) -> None:
    """Run what is not yet measured of one model."""
    source = find_float(Path(name), weights=None, cache=Path("build/.read"))
    data = load_dataset(str(source.dataset), download=False)
    kept = document["models"].setdefault(name, {"float": None, "runs": {}})
    exact = float_network(source.trained, data.x_test)
    kept["float"] = score(exact, exact, data)
    todo = [each for each in runs() if key(*each[:3]) not in kept["runs"]]
    for number, (variant, bits, seed, settings) in enumerate(todo, 1):
        started = time.perf_counter()
        found = quantize(source.trained, drawn(data, seed, SAMPLES), QuantSettings(bits=bits, **settings))
        searched = time.perf_counter() - started
        result = {**score(outputs(found, data.x_test), exact, data), "search_s": round(searched, 2)}
        result["quantizations"] = found.record["counts"][-1]["ops"]
        kept["runs"][key(variant, bits, seed)] = result
        save(document)
        print(f"{name}: {number} of {len(todo)}: {key(variant, bits, seed)}: {result}", file=sys.stderr, flush=True)


def float_network(trained: TrainedModel, values: np.ndarray) -> np.ndarray:
    """Return the outputs of a float network, a part of the samples at a time."""
    graph = float_graph(trained)
    return np.concatenate([float_outputs(graph, values[at : at + PART]) for at in range(0, len(values), PART)])


def drawn(data: Any, seed: int, count: int) -> np.ndarray:
    """Return calibration samples of the training split."""
    chosen = np.random.default_rng(seed).choice(len(data.x_train), count, replace=False)
    return data.x_train[np.sort(chosen)]


def key(variant: str, bits: int, seed: int) -> str:
    return f"{variant} / {bits} bits / seed {seed}"


def outputs(found: QuantizedModel, values: np.ndarray) -> np.ndarray:
    port = found.lowered.inputs[0]
    codes = reference.run_output(
        found.lowered, quantize_values(values, dataclasses.replace(port.cast, overflow=Overflow.SAT))
    )
    return to_values(codes, found.lowered.output.format)


def score(got: np.ndarray, exact: np.ndarray, data: Any) -> dict[str, float]:
    """Return the share of right classes, or the mean squared error of a reconstruction; and the error to float."""
    got = got.reshape(exact.shape)
    error = float(np.square(got - exact).sum() / np.square(exact, dtype=float).sum())
    if exact[0].size == data.x_test[0].size:
        return {"mse": float(np.square(got - data.x_test.reshape(got.shape)).mean()), "error": error}
    return {"accuracy": float(np.mean(got.reshape(len(got), -1).argmax(axis=1) == data.y_test)), "error": error}


# -- tables


def tables(document: Mapping[str, Any]) -> str:
    """Return Markdown: how fraction bits are chosen, where values are quantized, what switches add."""
    return "\n\n".join(
        [
            "How fraction bits are chosen (mean of three seeds, half the spread between them)",
            table(document, BASELINES),
            "The same: squared error of the outputs, over the squared float outputs, in thousandths",
            table(document, BASELINES, errors=True),
            "Where values are quantized (the same bits, the same search)",
            table(document, {"unified modules": {}, **POINTS}, counted=True),
            "Switches (first seed)",
            table(document, {"none": {}, **SWITCHES}, seeds=SEEDS[:1]),
        ]
    )


def table(
    document: Mapping[str, Any],
    variants: Mapping[str, Any],
    *,
    counted: bool = False,
    errors: bool = False,
    seeds: Sequence[int] = SEEDS,
) -> str:
    header = ["model", "float", "bits", *variants]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name, kept in document["models"].items():
        for bits in BITS:
            cells = [cell(kept["runs"], variant, bits, seeds, counted, errors) for variant in variants]
            lines.append("| " + " | ".join([f"`{name}`", words(kept["float"]), str(bits), *cells]) + " |")
    return "\n".join(lines)


def cell(found: Mapping[str, Any], variant: str, bits: int, seeds: Sequence[int], counted: bool, errors: bool) -> str:
    own = "joint" if variant in ("unified modules", "none") else variant
    results = [found[key(own, bits, seed)] for seed in seeds if key(own, bits, seed) in found]
    if not results:
        return "-"
    number, scale, digits = ("accuracy", 100, 2) if "accuracy" in results[0] else ("mse", 1, 5)
    if errors:
        number, scale, digits = "error", 1000, 3
    values = [scale * each[number] for each in results]
    text = f"{np.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {(max(values) - min(values)) / 2:.{digits}f}"
    return f"{text} ({results[0]['quantizations']})" if counted else text


def words(result: Mapping[str, float]) -> str:
    return f"{100 * result['accuracy']:.2f} %" if "accuracy" in result else f"mse {result['mse']:.5f}"


WHY = (("digits_mlp", 6), ("digits_mlp", 4), ("mnist_mlp", 8), ("mnist_mlp", 4), ("fashion_resnet8", 4))
"""Where the joint choice is not the best of the table."""


def why() -> None:
    """Measure the joint choice and its rivals with more samples, and with corrected biases; print a table."""
    print("| model | bits | samples | biases | joint | independent | min-max |\n|---|---|---|---|---|---|---|")
    for name, bits in WHY:
        source = find_float(Path(name), weights=None, cache=Path("build/.read"))
        data = load_dataset(str(source.dataset), download=False)
        exact = float_network(source.trained, data.x_test)
        for count, corrected in ((128, False), (512, False), (128, True), (512, True)):
            cells = []
            for choose in ("joint", "independent", "minmax"):
                settings = QuantSettings(bits=bits, choose=choose, bias_correction=corrected, calibration_samples=count)
                found = [quantize(source.trained, drawn(data, seed, count), settings) for seed in SEEDS]
                results = [score(outputs(each, data.x_test), exact, data) for each in found]
                accuracy, error = (np.mean([each[key] for each in results]) for key in ("accuracy", "error"))
                cells.append(f"{1000 * error:.3f} ({100 * accuracy:.2f})")
            kind = "corrected" if corrected else "as they are"
            print(f"| `{name}` | {bits} | {count} | {kind} | " + " | ".join(cells) + " |", flush=True)


# -- scale


def scale(document: dict[str, Any]) -> None:
    """Measure search time and memory of nets of residual blocks, against their number and that of samples."""
    document["scale"] = []
    for blocks, samples in ((2, 64), (4, 64), (8, 64), (16, 64), (4, 32), (4, 128), (4, 256)):
        trained, values = _blocks(blocks), _samples(samples)
        started = time.perf_counter()
        found = quantize(trained, values)
        row = {
            "modules": len(found.record["modules"]),
            "samples": samples,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        document["scale"].append(row)
        print(row, flush=True)
    save(document)


def imagenet(name: str, document: dict[str, Any]) -> None:
    """Take a network of tf.keras.applications with random weights through restructuring, search and reference."""
    from flow.train import load_tensorflow
    from flow.train.freeze import quantized_weights

    keras = load_tensorflow().keras
    images = _images(32)
    model = getattr(keras.applications, name)(weights=None, input_shape=images.shape[1:])
    rng = np.random.default_rng(1)
    for layer in model.layers:  # statistics as training leaves them: those of the images themselves
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
    model(images, training=True)
    config, arrays = json.loads(json.dumps(model.get_config())), quantized_weights(model)
    del model
    keras.backend.clear_session()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    trained = TrainedModel(name=name.lower(), class_name="Functional", config=config, weights=arrays)
    started = time.perf_counter()
    found = quantize(trained, images, QuantSettings(calibration_samples=32), progress=_show)
    searched = time.perf_counter() - started
    started = time.perf_counter()
    outputs(found, images)
    row = {
        "network": name,
        "weights": sum(array.size for group in arrays.values() for array in group.values()),
        "quantizations": {each["points"]: each["ops"] for each in found.record["counts"]},
        "search_s": round(searched, 1),
        "reference_s_per_image": round((time.perf_counter() - started) / len(images), 3),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_mb_before": before,
        "relative_error": found.record["modules"][-1]["relative_error"],
    }
    print(row, flush=True)
    rows = [each for each in document.get("imagenet", []) if each["network"] != name]
    save({**document, "imagenet": [*rows, row]})


def _show(done: int, of: int, name: str) -> None:
    print(f"{done} of {of}: {name}", file=sys.stderr, flush=True)


def _images(count: int) -> np.ndarray:
    """Return images k/256 that are smooth and noisy: random at several sizes."""
    rng, total = np.random.default_rng(1), np.zeros((count, 224, 224, 3))
    for size in (7, 28, 112, 224):
        total += rng.normal(size=(count, size, size, 3)).repeat(224 // size, 1).repeat(224 // size, 2)
    return np.float32(np.clip(np.rint(128 + 32 * total), 0, 255) / 256)


def _samples(count: int) -> np.ndarray:
    return np.float32(np.random.default_rng(1).integers(0, 257, (count, 16, 16, 8)) / 256)


def _blocks(count: int) -> TrainedModel:
    """Return a float net of residual blocks as data, without Keras."""
    rng = np.random.default_rng(2)
    layers = [_entry("InputLayer", "input", [], batch_input_shape=[None, 16, 16, 8])]
    weights: dict[str, dict[str, np.ndarray]] = {}

    def conv(name: str, source: str, inputs: int, activation: str) -> str:
        geometry = {"filters": 16, "kernel_size": [3, 3], "strides": [1, 1], "padding": "same"}
        layers.append(_entry("Conv2D", name, [source], activation=activation, use_bias=True, **geometry))
        kernel = rng.normal(0, 0.3 / np.sqrt(inputs), (3, 3, inputs, 16))
        weights[name] = {"kernel": np.float32(kernel), "bias": np.zeros(16, np.float32)}
        return name

    last = conv("stem", "input", 8, "relu")
    for block in range(count):
        inner = conv(f"b{block}_second", conv(f"b{block}_first", last, 16, "relu"), 16, "linear")
        layers.append(_entry("Add", f"b{block}_add", [inner, last]))
        layers.append(_entry("ReLU", f"b{block}_relu", [f"b{block}_add"]))
        last = f"b{block}_relu"
    ends = {"input_layers": [["input", 0, 0]], "output_layers": [[last, 0, 0]]}
    return TrainedModel(name="blocks", class_name="Functional", config={"layers": layers, **ends}, weights=weights)


def _entry(class_name: str, name: str, sources: Sequence[str], **config: Any) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--tables", action="store_true", help="only print what was measured")
    parser.add_argument("--why", action="store_true", help="output errors with more samples and corrected biases")
    parser.add_argument("--scale", action="store_true", help="search time and memory instead")
    parser.add_argument("--imagenet", metavar="NETWORK", help="ResNet50 or MobileNetV2 instead")
    arguments = parser.parse_args()
    document = load()
    if arguments.imagenet:
        imagenet(arguments.imagenet, document)
        return
    if arguments.why:
        why()
        return
    if arguments.scale:
        scale(document)
        return
    if not arguments.tables:
        for name in arguments.models:
            measure(name, document)
    print(tables(document))


if __name__ == "__main__":
    main()
