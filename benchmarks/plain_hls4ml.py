"""Print how often plain hls4ml differs from QKeras on our three models, beside po2flow.

    python benchmarks/plain_hls4ml.py [--quick] [--models NAME ...]

Every side gets test inputs, and inputs made to reach the ends of accumulators, ties of rounding and edges of
saturation. Each output is held against QKeras' own output of the same model, without any tolerance: both are exact
binary numbers. Needs `po2flow[train]`, g++, and the data sets.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stock import (
    MODELS,
    PlainError,
    Subject,
    bits_kernel,
    count_calls,
    load_subject,
    markdown_table,
    plain_hls4ml,
    po2_kernel,
    stock_model,
)

from flow.pipeline import BuildOptions, build
from flow.report.record import Report
from flow.train.freeze import keras_model

HEADER = ["model, kernels", "zeros", "accuracy", "tool", "outputs that differ", "classes", "calls"]
MODES = ((None, False), (None, True), (True, False), (True, True))
"""hls4ml's `bit_exact`, and whether `numpy.product` is put back."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50 + 32 inputs a model instead of 1000 + 512")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="NAME")
    arguments = parser.parse_args()
    samples, adversarial = (50, 32) if arguments.quick else (1000, 512)
    rows = []
    for name in arguments.models:
        subject = load_subject(name, samples, adversarial)
        with tempfile.TemporaryDirectory(prefix="po2flow-benchmark-") as scratch:
            rows += list(_rows(subject, Path(scratch), samples, adversarial))
    print(f"Outputs that differ: of at most {samples} test inputs / of {adversarial} adversarial inputs.")
    print("Classes: test inputs whose largest output is another one. Calls: `nnet::` functions in the hardware.\n")
    print(markdown_table(HEADER, rows))


def _rows(subject: Subject, scratch: Path, samples: int, adversarial: int) -> Iterator[list[str]]:
    """Yield the rows of one model: as trained, with `quantized_po2`, and with `quantized_bits`."""
    name = subject.spec.name
    options = BuildOptions(samples=samples, adversarial=adversarial, output=scratch / "runs")
    ours = keras_model(subject.trained)
    facts = [f"{name}, as trained", _zeros(ours), _accuracy(subject, ours)]
    yield [*facts, "hls4ml", *_plain(subject, ours, scratch, None, True)]
    yield [*facts, "**po2flow**", *_verdict(build(name, options=options))]
    for words, kernel in (("quantized_po2", po2_kernel), ("quantized_bits", bits_kernel)):
        model = stock_model(subject, kernel)
        facts = [f"{name}, {words}", _zeros(model), _accuracy(subject, model)]
        for bit_exact, mend_numpy in MODES:
            if mend_numpy and kernel is bits_kernel:
                continue  # nothing to mend: only exponents are written that way
            tool = "hls4ml" + (", bit_exact" if bit_exact else "") + (", np.product mended" if mend_numpy else "")
            yield [*facts, tool, *_plain(subject, model, scratch, bit_exact, mend_numpy)]
        yield [*facts, "**po2flow**", *_verdict(_build_file(subject, model, scratch, options))]


def _plain(
    subject: Subject, model: Any, scratch: Path, bit_exact: bool | None, mend_numpy: bool
) -> tuple[str, str, str]:
    """Return what plain hls4ml does: outputs that differ, classes that differ, calls."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        run = plain_hls4ml(model, subject.inputs, directory, bit_exact=bit_exact, mend_numpy=mend_numpy)
    except PlainError as error:
        return str(error), "-", "-"
    expected = model.predict(subject.inputs, verbose=0)
    tests = len(subject.labels)
    wrong = run.outputs != expected
    classes = run.outputs[:tests].argmax(axis=1) != expected[:tests].argmax(axis=1)
    return f"{_percent(wrong[:tests])} / {_percent(wrong[tests:])}", _percent(classes), str(run.calls)


def _build_file(subject: Subject, model: Any, scratch: Path, options: BuildOptions) -> Report:
    """Build a stock model from the file that a user has, on the same test inputs."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    model.save(directory / "model.h5")
    np.save(directory / "inputs.npy", subject.inputs[: len(subject.labels)])
    return build(directory / "model.h5", options=replace(options, inputs=directory / "inputs.npy"))


def _verdict(report: Report) -> tuple[str, str, str]:
    """Return what a report says, over every layer: values on which QKeras, reference and csim do not all agree."""
    document = report.to_json()
    project, verdict = Path(document["project"]["path"]), document["verdict"]
    assert verdict["compared"] == ["qkeras", "reference", "csim"], verdict
    wrong = "0 % / 0 %" if verdict["bit_exact"] else f"{verdict['mismatches']} values of all layers"
    top_function = project / "firmware" / f"{document['model']}.cpp"
    return wrong, "0 %" if verdict["bit_exact"] else "-", str(count_calls(top_function))


def _zeros(model: Any) -> str:
    kernels = [
        np.asarray(layer.kernel_quantizer_internal(layer.kernel))
        for layer in model.layers
        if hasattr(layer, "kernel_quantizer_internal")
    ]
    return _percent(np.concatenate([kernel.reshape(-1) for kernel in kernels]) == 0)


def _accuracy(subject: Subject, model: Any) -> str:
    outputs = model.predict(subject.inputs[: len(subject.labels)], verbose=0)
    return _percent(outputs.argmax(axis=1) == subject.labels)


def _percent(hits: NDArray[np.bool_]) -> str:
    """Return the share of hits; a share that is not 0 never reads as 0."""
    share = 100 * float(np.mean(hits))
    return "0 %" if share == 0 else f"{share:.1f} %" if share >= 0.1 else f"{share:.2g} %"


if __name__ == "__main__":
    main()
