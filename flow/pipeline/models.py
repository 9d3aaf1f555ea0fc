"""From a model to its graph: the first stage of a build."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.backends.functions import functions, settled
from flow.data.inputs import Samples, derive_format
from flow.data.labels import Head, Labels, told_apart
from flow.errors import DataError, InputError, UnsupportedError
from flow.files import BESIDE, sweep
from flow.findings import refuse
from flow.frontend.base import front_end, read
from flow.frontend.extraction import Evaluate, quantizes_its_input
from flow.ir.fixed import FixedFormat
from flow.ir.graph import IntGraph
from flow.pipeline.options import BuildOptions, QuantizeOptions
from flow.progress import Announce
from flow.results import Resources
from flow.runs import digest, read_npz, write_npz
from flow.sources import Source, find_calibration, find_float, find_samples, find_source
from flow.target import Target
from flow.verification.preflight import NO_FORMAT, Model, quantizes

if TYPE_CHECKING:  # a build of a quantized model does without them
    from flow.quantization.floats import FloatGraph
    from flow.quantization.stage import Quantization
    from flow.quantization.widths import Luts


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """A model as a graph.

    Attributes:
        source: the model.
        samples: inputs to run it on, or None.
        graph: before any pass.
        labels: of each output that has some.
        quantization: of a float model: what was chosen.
        approximated: layers of which something was rounded on request, so that no software computes the same.
    """

    source: Source
    samples: Samples | None
    graph: IntGraph
    labels: tuple[Labels, ...] = ()
    quantization: Quantization | None = None
    approximated: tuple[str, ...] = ()


def open_cache(output: Path) -> Path:
    """Return the directory of what was read, searched and evaluated before, without what killed processes left."""
    cache = output / ".read"
    sweep(cache, f"{BESIDE}*", f"*/{BESIDE}*")
    return cache


def _find_files(*paths: Path | None) -> None:
    """Refuse files that are not there: to read a model may take minutes.

    Raises:
        DataError: one is not there.
    """
    for path in paths:
        if path is not None and not path.exists():
            raise DataError("no such file", file=path)


def extract_model(model: Path, options: BuildOptions, asked: Target | None = None) -> Extracted:
    """Return the graph of a quantized model, for a target or for any.

    Raises:
        FlowError: the model cannot be found or read, or has no exact integer form.
    """
    _find_files(options.inputs, options.labels)
    cache = open_cache(options.output)
    source = find_source(model, weights=options.weights, cache=cache)
    samples = find_samples(source, options.inputs, options.labels, options.samples, cache)
    source = source.frozen(samples)
    own = Model(
        trained=source.trained,
        input_format=_input_format(source, options, samples),
        softmax=options.softmax_format(),
        evaluate=evaluated(source, cache),
        rounds=options.rounds(samples),
    )
    made = own.extracted(asked).made
    assert made is not None
    if made.refusals and isinstance(made.refusals[0], UnsupportedError):
        refuse(source.trained.name, made.refusals)
    graph = made.checked()
    labels = _labels(source, samples, options, lambda: graph)
    return Extracted(source, samples, graph, labels, approximated=made.approximated)


def _labels(
    source: Source, samples: Samples | None, options: BuildOptions, graph: Callable[[], IntGraph | FloatGraph]
) -> tuple[Labels, ...]:
    """Return the labels of each output of a model.

    Raises:
        DataError: they are of no output, or neither classes nor targets.
    """
    if samples is None or samples.labels is None:
        return ()
    network, left_off, outputs = read(source.trained), options.softmax_format() is None, graph()
    heads = [
        Head(name=name, shape=outputs[output].shape, softmax=network.final_softmax(name) if left_off else "")
        for name, output in zip(network.outputs, outputs.outputs, strict=True)
    ]
    return told_apart(samples.labels, heads)


def quantize_model(model: Path, asked: Target, options: QuantizeOptions, announce: Announce) -> Extracted:
    """Return the graph of a float model, quantized.

    Raises:
        FlowError: the model or its samples cannot be found or read, or it cannot be quantized.
    """
    from flow.quantization.floats import float_graph
    from flow.quantization.stage import quantize_stage

    _find_files(options.inputs, options.labels, options.calibration)
    cache = open_cache(options.output)
    source = find_float(model, weights=options.weights, cache=cache)
    calibration = find_calibration(source, options.calibration)
    samples = find_samples(source, options.inputs, options.labels, options.samples, cache)
    labels = _labels(source, samples, options, lambda: float_graph(source.trained))  # before the long search
    quantization = quantize_stage(
        source.trained,
        calibration,
        samples,
        labels,
        options.settings,
        options.port_format(),
        options.softmax_format(),
        cache,
        announce,
        _luts(asked),
    )
    return Extracted(source, samples, quantization.model.extracted, labels, quantization)


def _luts(target: Target) -> Luts | None:
    """Return the static estimate per op, for a budget of LUTs, if the back end has one of a graph alone."""
    estimate = functions(target).estimate
    if estimate is None:
        return None

    def luts(graph: IntGraph) -> tuple[Resources, ...]:
        return estimate(graph, settled(target, graph)).layers

    return luts


def model_to_check(model: Path, options: BuildOptions, target: Target) -> Model:
    """Return a model as the preflight takes it, for a target.

    Raises:
        FlowError: the model or its inputs cannot be found or read.
    """
    _find_files(options.inputs, options.labels)
    cache = open_cache(options.output)
    source = find_source(model, weights=options.weights, cache=cache)
    fmt, samples = options.port_format(), None
    derived = fmt is None and not quantizes(source.trained)
    if derived or options.inputs is not None or options.float_layers is not None:
        samples = find_samples(source, options.inputs, options.labels, options.samples, cache)
    source = source.frozen(samples)
    if derived and samples is not None:
        fmt = derive_format(samples.values)
    found = Model(
        trained=source.trained,
        input_format=fmt,
        derived=derived and samples is not None,
        softmax=options.softmax_format(),
        evaluate=evaluated(source, cache),
        rounds=options.rounds(samples),
    ).extracted(target)
    graph = None if found.made is None else found.made.graph
    if graph is not None:
        _labels(source, samples, options, lambda: graph)
    return found


def _input_format(source: Source, options: BuildOptions, samples: Samples | None) -> FixedFormat | None:
    """Return the port's format for a model that does not quantize its own input."""
    if options.input_format is not None:
        return options.port_format()
    if quantizes_its_input(source.trained):
        return None
    if samples is None:
        raise DataError(NO_FORMAT.reason, model=source.trained.name, remedy=NO_FORMAT.remedy)
    return derive_format(samples.values)


def evaluated(source: Source, cache: Path) -> Evaluate:
    """Return what evaluates a model's functions behind a cache: it takes the framework, and a table is made once."""

    def evaluate(functions: Sequence[Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
        key = digest(list(functions), values.shape, hashlib.sha256(values.tobytes()).hexdigest(), version("po2flow"))
        path = cache / f"table-{key[:16]}.npz"
        try:
            return read_npz(path)["results"]
        except InputError:  # not there yet, or damaged: it is made again
            results = front_end(source.trained.frontend).evaluate(functions, values)
        write_npz(path, {"results": results})
        return results

    return evaluate
