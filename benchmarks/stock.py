"""What a user has without po2flow: stock QKeras models of our topologies, and plain hls4ml on them.

hls4ml knows neither our quantizer with a zero nor our batch normalization, so each model is built from stock layers:
`QDense`, `QConv2D`, `QActivation`, and Keras' `BatchNormalization` that holds the folded scale and offset. Topology and
stored weights are those of the trained model. Everything that hls4ml 1.3.0 is known to trip over and that a user can
step around is stepped around here: it is shown Keras 2 where it would take Keras 3, the input quantizer is a signed
`quantized_bits` (behind a `quantized_relu`, `bit_exact=True` refuses the model), and inputs lie on its grid.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from flow.data.adversarial import adversarial_inputs
from flow.data.datasets import load_dataset
from flow.data.inputs import Samples, to_port
from flow.frontend.extraction import extract
from flow.frontend.trained import TrainedModel, load_trained
from flow.ir.fixed import FixedFormat, to_values
from flow.ir.passes import lower
from flow.train import load_tensorflow
from flow.train.layers import EPSILON
from flow.train.spec import (
    BatchNormSpec,
    Conv2DSpec,
    DenseSpec,
    FlattenSpec,
    LayerSpec,
    MaxPool2DSpec,
    ModelSpec,
    Po2Spec,
    find_model_dir,
    load_spec,
)

_modules = load_tensorflow()
keras, qkeras = _modules.keras, _modules.qkeras

MODELS = ("digits_mlp", "fashion_cnn", "mnist_mlp")

KernelQuantizer = Callable[[Po2Spec], Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """One of our models with the inputs that every side gets.

    Attributes:
        spec, trained: the model.
        inputs: (samples, *shape) float32, test inputs first, on the input port's grid.
        labels: (tests,) int64: of the test inputs, of which there are as many.
    """

    spec: ModelSpec
    trained: TrainedModel
    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_subject(name: str, samples: int, adversarial: int) -> Subject:
    """Return a model in `models/` with at most `samples` test inputs and `adversarial` adversarial ones."""
    directory = find_model_dir(name)
    spec, trained = load_spec(directory / "spec.toml"), load_trained(directory)
    data = load_dataset(spec.dataset, download=False)
    tests = Samples(values=data.x_test[:samples], labels=data.y_test[:samples], source=data.source)
    graph = lower(extract(trained, None))
    codes = [to_port(tests, graph.input).codes]
    if adversarial:
        codes.append(adversarial_inputs(graph, adversarial))
    return Subject(
        spec=spec,
        trained=trained,
        inputs=to_values(np.concatenate(codes), graph.input.format).astype(np.float32),
        labels=data.y_test[:samples],
    )


def po2_kernel(values: Po2Spec) -> Any:
    """Return the `quantized_po2` that a user would write: it holds the same powers of two, but no zero."""
    count = values.max_exponent - values.min_exponent + 1
    return qkeras.quantized_po2(1 + count.bit_length(), 2**values.max_exponent)


def bits_kernel(values: Po2Spec) -> Any:
    """Return the `quantized_bits` that holds zero and every power of two of the range: it changes no weight."""
    return _bits(FixedFormat(True, values.max_exponent + 1, -values.min_exponent))


def stock_model(subject: Subject, kernel: KernelQuantizer) -> Any:
    """Return the stock QKeras model with the stored weights of a trained model.

    Args:
        subject: topology and weights.
        kernel: makes a layer's kernel quantizer: `po2_kernel` or `bits_kernel`.
    """
    spec = subject.spec
    port = FixedFormat(True, spec.input.format.int_bits, spec.input.format.frac_bits)
    model = keras.Sequential(name=spec.name)
    model.add(keras.Input(spec.input.shape))
    model.add(qkeras.QActivation(_bits(port), name=spec.input.name))
    for layer in spec.layers:
        model.add(_stock_layer(layer, kernel))
    for layer in model.layers:
        group = subject.trained.weights.get(layer.name, {})
        if "scale" in group:  # gamma, beta, mean, variance: gamma / sqrt(variance + epsilon) is the scale
            ones = np.ones_like(group["scale"])
            layer.set_weights([group["scale"], group["offset"], 0 * ones, ones - np.float32(EPSILON)])
        elif "kernel" in group:
            layer.set_weights([group[key] for key in ("kernel", "bias") if key in group])
    return model


def _stock_layer(layer: LayerSpec, kernel: KernelQuantizer) -> Any:
    if isinstance(layer, DenseSpec | Conv2DSpec):
        arguments = {
            "name": layer.name,
            "use_bias": layer.bias is not None,
            "kernel_quantizer": kernel(layer.kernel),
            "bias_quantizer": _bits(layer.bias) if layer.bias else None,
        }
        if isinstance(layer, DenseSpec):
            return qkeras.QDense(layer.units, **arguments)
        sizes = {"kernel_size": layer.kernel_size, "strides": layer.strides, "padding": layer.padding}
        return qkeras.QConv2D(layer.filters, **sizes, **arguments)
    if isinstance(layer, BatchNormSpec):
        return keras.layers.BatchNormalization(epsilon=EPSILON, name=layer.name)
    if isinstance(layer, MaxPool2DSpec):
        return keras.layers.MaxPooling2D(layer.size, name=layer.name)
    if isinstance(layer, FlattenSpec):
        return keras.layers.Flatten(name=layer.name)
    return qkeras.QActivation(f"quantized_relu({layer.format.width},{layer.format.int_bits})", name=layer.name)


def _bits(fmt: FixedFormat) -> Any:
    return qkeras.quantized_bits(fmt.width, fmt.int_bits, 0, 1, alpha=1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlainRun:
    """What plain hls4ml made of a model.

    Attributes:
        outputs: (samples, *shape) float32 of its C simulation.
        calls: `nnet::` calls of its top function.
        seconds: conversion, compilation and prediction together.
    """

    outputs: NDArray[np.float32]
    calls: int
    seconds: float


class PlainError(Exception):
    """Plain hls4ml gave no outputs; the message is one line."""


def plain_hls4ml(
    model: Any, inputs: NDArray[np.float32], directory: Path, *, bit_exact: bool | None, mend_numpy: bool
) -> PlainRun:
    """Convert, compile and simulate a model with hls4ml alone, as its documentation shows.

    Args:
        model: a Keras 2 model.
        inputs: what to simulate.
        directory: where hls4ml writes.
        bit_exact: hls4ml's option; None is its default.
        mend_numpy: put back `numpy.product`, which hls4ml 1.3.0 calls and NumPy 2 has no more.

    Raises:
        PlainError: hls4ml or the compiler gave up.
    """
    from hls4ml.converters import convert_from_keras_model
    from hls4ml.utils import config_from_keras_model

    said = io.StringIO()
    started = time.perf_counter()
    try:
        with _keras_2_for_hls4ml(), _numpy_product(mend_numpy), contextlib.redirect_stdout(said):
            config = config_from_keras_model(model, granularity="name", backend="Vitis")
            settings = {"output_dir": str(directory), "backend": "Vitis", "io_type": "io_parallel"}
            converted = convert_from_keras_model(model, hls_config=config, bit_exact=bit_exact, **settings)
            converted.compile()
            outputs = converted.predict(inputs)
    except Exception as error:  # hls4ml raises whatever comes
        raise PlainError(_one_line(error, said.getvalue())) from error
    seconds = time.perf_counter() - started
    calls = count_calls(directory / "firmware" / "myproject.cpp")
    return PlainRun(outputs=outputs.reshape(len(inputs), -1), calls=calls, seconds=seconds)


def count_calls(top_function: Path) -> int:
    """Return how many `nnet::` functions the hardware of a project has."""
    hardware = re.sub(r"#ifndef __SYNTHESIS__.*?#endif", "", top_function.read_text(), flags=re.DOTALL)
    return len(re.findall(r"nnet::\w+<.*>\(", hardware))


@contextlib.contextmanager
def _keras_2_for_hls4ml() -> Iterator[None]:
    """hls4ml looks at the package `keras`, which is Keras 3 today, also when the model is one of Keras 2."""
    with patch.dict(sys.modules, keras=sys.modules["tf_keras"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _numpy_product(mend: bool) -> Iterator[None]:
    if not mend or hasattr(np, "product"):
        yield
        return
    with patch.object(np, "product", np.prod, create=True):
        yield


def _one_line(error: Exception, said: str) -> str:
    """Return the compiler's first error if there is one, else the exception's first line."""
    found = re.search(r"error: (.*)", said)
    text = f"does not compile: {found.group(1)}" if found else f"fails: {error}"
    line = text.splitlines()[0].replace("|", "/")
    return line if len(line) <= 90 else line[:87] + "..."


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)
