"""Software inference with QKeras: what each layer computes, as integer codes on the graph's formats.

Keras computes in float32. Where the graph's intervals prove that every sum of every layer fits 24 bits, that is exact,
and the model runs as it is. Otherwise the same quantized weights run in float64 (exact to 53 bits) through Keras layers
built for that, and the result says so. Functions that the graph holds as tables are float32 in both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError
from flow.frontend.keras.quantizers import (
    ends_in_softmax,
)
from flow.frontend.keras.reader import ROUNDING, channels_first
from flow.frontend.keras.topology import Call, Topology, topology
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import CODE_BITS, Codes, to_values
from flow.ir.graph import Input, IntGraph, Lookup, Op, Softmax
from flow.ir.intervals import FLOAT32_BITS, FLOAT64_BITS, inexact_in
from flow.ir.reference import code_dtype
from flow.results import SimResult
from flow.train import complaint, keras_errors, load_tensorflow, quiet_warnings
from flow.train.double import NO_LAYERS, Function, double_functions, of_steps, undivided_calls
from flow.train.freeze import layers_by_path
from flow.train.functions import called_function

keras: Any
tf, keras, _ = load_tensorflow()

BATCH, ELEMENTS = 1024, 1 << 24
"""Samples at a time, at most, and elements of the largest tensor."""


@quiet_warnings()
def run(model: Any, trained: TrainedModel, extracted: IntGraph, lowered: IntGraph, codes: Codes) -> SimResult:
    """Run software inference on the values that the input ports carry.

    Args:
        model: the Keras model as the user gave it, or as rebuilt from `trained`.
        trained: the same model as data.
        extracted: its graph before any pass: one op per step of the model.
        lowered: the graph of unified modules; the result has the outputs of its ops.
        codes: input codes (samples, *lowered.port_shape).

    Returns:
        Codes of every op of `lowered` that is the output of a layer, level "qkeras". A softmax is left off: see
        `softmax_values`.

    Raises:
        UnsupportedError: sums need more than 53 bits, an output is not on the grid of its format, or QKeras itself
            fails at a layer.
    """
    started = time.perf_counter()
    calls = topology(trained.class_name, trained.config)
    undivided = any(op.denominator != 1 for op in extracted.ops)
    precise = any(isinstance(op, Lookup) and op.precise for op in extracted.ops)
    only_double = undivided or precise or any(_only_double(call) for call in calls.calls)
    if not inexact_in(extracted, FLOAT32_BITS) and not only_double:
        arithmetic, dtype = "float32", np.float32
    elif not inexact_in(extracted, FLOAT64_BITS):
        arithmetic, dtype = "float64", np.float64
    else:
        what = f"sums need more than {FLOAT64_BITS} bits, so no float can check them"
        raise UnsupportedError(what, model=lowered.name)
    taps = _taps(lowered, calls)
    single = dtype is np.float32
    if single:
        functions = _own_functions(model, calls, taps)
    else:
        functions = double_functions(trained, calls, extracted, undivided_calls(extracted, lowered, taps))
    results: dict[str, Codes] = lowered.split_port(codes)
    results |= {name: np.empty((len(codes), *lowered[name].shape), code_dtype(lowered[name].format)) for name in taps}
    off = dict.fromkeys(taps, 0)
    try:
        with keras_errors("QKeras itself cannot run it"):  # in the graph, where no layer can be named
            for batch, outputs in _outputs(calls, functions, list(taps.values()), lowered, codes, dtype):
                for name, values in zip(taps, outputs, strict=True):
                    scaled = np.ldexp(_kept(values, lowered[name]).astype(np.float64), lowered[name].format.frac_bits)
                    stored = np.rint(scaled)
                    off[name] += np.count_nonzero(stored != scaled)
                    if not off[name]:
                        results[name][batch] = stored.reshape(-1, *lowered[name].shape)
    except UnsupportedError as error:
        raise UnsupportedError(complaint(error), model=lowered.name) from None  # Keras put its own text around it
    for name, count in off.items():
        if count:
            where = f"layer '{taps[name]}' is not on the grid of {lowered[name].format}"
            what = f"QKeras' output of {where} ({count} elements, {arithmetic})"
            raise UnsupportedError(what, model=lowered.name, remedy="please report this model")
    return SimResult(
        level="qkeras",
        codes=results,
        arithmetic=arithmetic,
        run_s=time.perf_counter() - started,
        softmax=softmax_values(lowered, results),
    )


@quiet_warnings()
def float_outputs(model: Any, trained: TrainedModel, lowered: IntGraph, codes: Codes) -> dict[str, NDArray[np.float32]]:
    """Return what the Keras model itself computes at the outputs of a graph, in float32.

    Args:
        model, trained, codes: as of `run`.
        lowered: the graph, which may compute something else.

    Returns:
        Name of the output op -> (samples, *op.shape); a softmax that hardware leaves off is left off here.
    """
    calls = topology(trained.class_name, trained.config)
    every = _taps(lowered, calls, widest=CODE_BITS)
    taps = {name: every[name] for name in lowered.outputs if name in every}
    functions, results = _own_functions(model, calls, taps), {}
    with keras_errors("QKeras itself cannot run it"):
        batches = list(_outputs(calls, functions, list(taps.values()), lowered, codes, np.float32))
    for place, name in enumerate(taps):
        results[name] = np.concatenate([outputs[place] for _, outputs in batches]).reshape(-1, *lowered[name].shape)
    return results


@quiet_warnings()
def softmax_values(graph: IntGraph, codes: Mapping[str, Codes]) -> dict[str, NDArray[np.float32]]:
    """Return TensorFlow's float32 softmax of what QKeras computes before each softmax of the graph.

    Args:
        graph: the graph of unified modules.
        codes: what QKeras computes, op by op.

    Returns:
        Name of the Softmax op -> (samples, *op.shape) float32.
    """
    softmaxes = [op for op in graph.ops if isinstance(op, Softmax)]
    inputs = {op.name: graph[op.inputs[0]].numbers(codes[op.inputs[0]]) for op in softmaxes}
    return {name: np.asarray(tf.nn.softmax(tf.constant(x.astype(np.float32)))) for name, x in inputs.items()}


def _kept(values: NDArray[Any], op: Op) -> NDArray[Any]:
    """Return of a layer's outputs (samples, ...) those that its op has, flat but for the samples' channels."""
    if not op.kept:
        return values
    positions = len(values) * math.prod(op.shape[:-1])
    return values.reshape(positions, -1)[:, list(op.kept)]


def _only_double(call: Call) -> bool:
    """Say whether a layer cannot run exactly in float32: batch normalizations round.

    Most layers with channels first do not run on a CPU at all; in float64 they run with channels last. An Embedding
    fails at numbers beyond its table.

    TensorFlow merges a grouped convolution with its bias, then says that it cannot compute that; Keras' own layers, not
    QKeras', have a way around it.
    """
    grouped = call.class_name.startswith("QConv") and int(call.config.get("groups") or 1) > 1
    return grouped or call.class_name in (*ROUNDING, "Embedding") or channels_first(call)


def _taps(graph: IntGraph, calls: Topology, widest: int = FLOAT64_BITS) -> dict[str, str]:
    """Return op -> the call whose output it is; for the op before a softmax, it is without the softmax.

    What no float64 holds is rounded to odd on its way to a quantizer, and compared behind that.
    """
    taps: dict[str, str] = {}
    for op in graph.ops:
        if isinstance(op, Softmax) and op.layers and not graph[op.inputs[0]].layers:
            taps[op.inputs[0]] = _before_softmax(op, calls)
        elif op.layers and not isinstance(op, Input | Softmax) and op.format.width <= widest:
            taps[op.name] = op.layers[-1]
    return taps


def _before_softmax(op: Softmax, calls: Topology) -> str:
    """Return, of the layers that a softmax stands for, the one whose output it reads: its own, if it has weights."""
    by_name = {call.name: call for call in calls.calls}
    for position, name in enumerate(op.layers):
        call = by_name[name]
        if call.class_name == "Softmax" or ends_in_softmax(call.config):
            alone = call.class_name in ("Softmax", "Activation", "QActivation")
            return op.layers[position - 1] if alone else name
    raise AssertionError(f"{op.name}: none of {op.layers} is a softmax")


def _outputs(
    calls: Topology, functions: Mapping[str, Function], taps: list[str], graph: IntGraph, codes: Codes, dtype: type[Any]
) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
    """Yield batches of input codes with the outputs of the named calls, as a graph computes them."""
    flat: Any = _Flat(calls, functions, taps)

    def inputs(batch: slice) -> list[Any]:
        parts = graph.split_port(codes[batch])
        return [tf.constant(to_values(parts[op.name], op.format).astype(dtype)) for op in graph.inputs]

    flat(inputs(slice(1)), training=False)  # builds what is not built
    shapes = [[None, *op.shape] for op in graph.inputs]

    def step(*tensors: Any) -> Any:  # `Model.predict` does not know the shapes from its arguments either
        return flat([tf.ensure_shape(*pair) for pair in zip(tensors, shapes, strict=True)], training=False)

    compute = tf.function(step, input_signature=[tf.TensorSpec(None, dtype) for _ in shapes])
    size = max(1, min(BATCH, ELEMENTS // max(math.prod(op.shape) for op in graph.ops)))
    for start in range(0, len(codes), size):
        batch = slice(start, start + size)
        yield batch, [np.asarray(tensor) for tensor in compute(*inputs(batch))]


class _Flat(keras.layers.Layer):  # type: ignore[misc]
    """All calls of a model in their order: nested models, where layers may share a name, laid flat."""

    def __init__(self, calls: Topology, functions: Mapping[str, Function], taps: list[str]) -> None:
        super().__init__(autocast=False)
        self.run_calls: Callable[[list[Any]], list[Any]] = lambda tensors: _run_calls(calls, functions, taps, tensors)

    def call(self, inputs: list[Any]) -> list[Any]:
        return self.run_calls(inputs)


def _run_calls(calls: Topology, functions: Mapping[str, Function], taps: list[str], inputs: Iterable[Any]) -> list[Any]:
    tensors = dict(zip((call.name for call in calls.inputs), inputs, strict=True))
    for call in calls.calls:
        if call.class_name not in NO_LAYERS:
            read = [tensors[name] for name in call.inputs]
            with keras_errors(f"layer '{call.name}': QKeras itself cannot run it"):  # Keras keeps the text alone
                given = functions[call.name](read[0] if len(read) == 1 else read)
            several = list(given) if isinstance(given, list | tuple) else [given]
            names = (call.name, *(f"{call.name}:{number}" for number in range(1, len(several))))
            tensors |= dict(zip(names, several, strict=True))
    return [tensors[name] for name in taps]


def _own_functions(model: Any, calls: Topology, taps: Mapping[str, str]) -> dict[str, Function]:
    """Return the calls of the model's own layers; those that are tapped leave off a softmax they end with."""
    layers = layers_by_path(model)
    functions: dict[str, Function] = {}
    for call in calls.calls:
        if call.arguments is not None:
            functions[call.name] = called_function(str(call.config["function"]), call.arguments)
        elif call.class_name not in NO_LAYERS:
            layer = layers[call.layer]
            softmax = ends_in_softmax(call.config) and call.name in taps.values()
            functions[call.name] = of_steps(_linear(layer) if softmax else layer, call.time_axes)
    return functions


def _linear(layer: Any) -> Function:
    """Return the call of a layer without its activation."""

    def function(inputs: Any) -> Any:
        activation, layer.activation = layer.activation, keras.activations.linear
        try:
            return layer(inputs)
        finally:
            layer.activation = activation

    return function
