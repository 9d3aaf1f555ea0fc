"""Extract an IntGraph from a network: every number becomes an integer of a known format, or is refused by name.

One function per kind of layer, in the `LAYERS` of each module here; each turns a layer's settings, arrays and the
tensors it reads into ops whose formats hold every possible result, so nothing is rounded but what the model itself
rounds.

Two things that a layer computes have no fixed-point format and wait for the quantizer behind it: the quotient of an
average, and an element-wise function such as tanh. A `Tensor` carries them along; the quantizer becomes a division in
its cast, or a table over all input codes, evaluated by the framework itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flow.errors import FlowError, UnsupportedError, at
from flow.frontend import layers
from flow.frontend.base import Evaluate, front_end, read
from flow.frontend.extraction import (
    activations,
    arithmetic,
    averages,
    contractions,
    moves,
    normalizations,
    products,
    recurrent,
)
from flow.frontend.extraction.approximation import WEIGHTS, Approximation, Values
from flow.frontend.extraction.builder import Builder, Handler, Tensor, counts_rows, row_format
from flow.frontend.layers import Layer, Network
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import Input, IntGraph
from flow.ir.names import VHDL, identifier

ONLY_FINAL = (
    "a float softmax can only be the last layer; inside a net use FixedSoftmax of flow.train.attention, "
    "or take it rounded on request: --float-layers 12"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extraction:
    """What became of a model.

    Attributes:
        name: of the model.
        graph: one op per step, before any pass; None if something is refused.
        refusals: all that is refused, layer by layer. Behind a refused layer no tensor is known; there, only kinds and
            quantizers are looked at.
        approximated: the layers of which something was rounded that nothing in the model quantizes.
        laid_out: the recurrent layers every step of which is hardware of its own.
    """

    name: str
    graph: IntGraph | None = None
    refusals: tuple[FlowError, ...] = ()
    approximated: tuple[str, ...] = ()
    laid_out: tuple[str, ...] = ()

    def checked(self) -> IntGraph:
        """Return the graph.

        Raises:
            FlowError: the first refusal.
        """
        if self.graph is None:
            raise self.refusals[0].at(model=self.name)
        return self.graph


def extract(
    model: TrainedModel,
    input_format: FixedFormat | None = None,
    *,
    softmax: FixedFormat | None = None,
    evaluate: Evaluate | None = None,
    rounds: Approximation | None = None,
    folds: bool = False,
) -> IntGraph:
    """Return the integer graph of a trained model, one op per step, before any pass.

    Args:
        model, input_format, softmax, evaluate, rounds, folds: as of `attempt`.

    Raises:
        UnsupportedError: something has no exact integer form here; the message names the layer.
    """
    return attempt(model, input_format, softmax=softmax, evaluate=evaluate, rounds=rounds, folds=folds).checked()


FLOAT = "nothing in this model is quantized: 'flow quantize' does that"
"""What is said of the first refusal of a float model."""


def attempt(
    model: TrainedModel,
    input_format: FixedFormat | None = None,
    *,
    softmax: FixedFormat | None = None,
    evaluate: Evaluate | None = None,
    rounds: Approximation | None = None,
    folds: bool = False,
) -> Extraction:
    """Return the integer graph of a trained model, or all that is refused in it.

    Args:
        model: the trained model.
        input_format: format of the input ports; needed when the model's first layer is no quantizer, and refused when
            it is one (the port then has the quantizer's format) and not the last one too.
        softmax: unsigned format of the outputs of a final softmax; None leaves the softmax off.
        evaluate: fills the tables of functions that are no casts; needed for models with such functions only.
        rounds: what nothing in the model quantizes, and is rounded on request; None to refuse it.
        folds: whether recurrent layers are one step of hardware, used again for every row, where they can be.
    """
    try:
        network = read(model)
    except FlowError as error:
        return Extraction(name=model.name, refusals=(error,))
    builder = Builder(network, input_format, softmax, evaluate, front_end(model.frontend).approximate, rounds, folds)
    made = walk(builder)
    if made.graph is not None and input_format is not None and len(builder.absorbed) == len(network.ports):
        reason = "the model quantizes its own input, so its port has that format"
        return Extraction(name=model.name, refusals=(UnsupportedError(reason, remedy="drop --input-format"),))
    if made.refusals and not any(layer.quantizers for layer in network.layers):
        first, *others = made.refusals
        return replace(made, refusals=(first.advised(FLOAT), *others))
    return made


def walk(builder: Builder) -> Extraction:
    """Return what a builder makes of its network, layer by layer."""
    network = builder.network
    builder.absorbed = _absorbed(network, builder.input_format)
    refusals: list[FlowError] = []
    for layer in network.layers:
        if not all(name in builder.tensors for name in layer.inputs):
            refusals += [refusal.at(**layer.place) for refusal in layer.refusals]
            continue
        try:
            builder.tensors[layer.name] = _tensor(builder, layer)
        except FlowError as error:
            refusals.append(error)
    try:
        if refusals:
            return Extraction(name=network.name, refusals=tuple(refusals))
        graph, approximated = _graph(builder), tuple(dict.fromkeys(builder.approximated))
        return Extraction(name=network.name, graph=graph, approximated=approximated, laid_out=tuple(builder.laid_out))
    except FlowError as error:
        return Extraction(name=network.name, refusals=(error,))


def _graph(builder: Builder) -> IntGraph:
    network = builder.network
    outputs = [_output(builder, network[name]) for name in network.outputs]
    if all(isinstance(op, Input) for op in builder.ops.values()):
        outputs = [_passed_on(builder, network[name]) for name in network.outputs]
    return builder.graph_type(
        name=identifier(network.name, VHDL),  # the top of a project
        ops=tuple(builder.ops.values()),
        outputs=tuple(outputs),
        warnings=(*network.warnings, *builder.warnings),
    )


def _tensor(builder: Builder, layer: Layer[Any]) -> Tensor:
    """Return what a layer gives.

    Raises:
        UnsupportedError: it has no exact integer form; the message names the layer.
    """
    try:
        if layer.refusals:
            raise layer.refusals[0]
        inputs = [builder.tensors[name] for name in layer.inputs]
        before = [tensor.softmax for tensor in inputs if tensor.softmax is not None]
        if before and not isinstance(layer.settings, layers.Identity):
            raise UnsupportedError(f"comes after the softmax '{before[0]}'", remedy=ONLY_FINAL)
        if layer in builder.absorbed.values():
            return _named(builder, layer, inputs, inputs[0])
        carried = [name for tensor in inputs if tensor.turned for name in tensor.layers]
        inputs, turned = _turned(builder, layer, inputs)
        if builder.rounds is not None:
            layer, inputs = _rounded(builder, builder.rounds, layer, inputs)
        tensor = _appended(builder, layer, inputs)
        if turned and isinstance(layer.activation, layers.Softmax):
            tensor, turned = builder.straight(layer, replace(tensor, turned=True)), False
        tensor = _activated(builder, layer, tensor)
        if turned:
            told = (*carried, *tensor.layers)
            tensor = replace(tensor, turned=len(builder.op(tensor).shape) > 1, layers=told)
        return _named(builder, layer, inputs, tensor)
    except FlowError as error:
        raise error.at(**layer.place) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise layers.misfit(error).at(**layer.place) from None


def _appended(builder: Builder, layer: Layer[Any], inputs: Sequence[Tensor]) -> Tensor:
    """Append what a layer does, to each step of a sequence if it says so."""
    if layer.time_axes:
        return moves.each_step(builder, layer, inputs, _appended)
    return LAYERS[type(layer.settings)](builder, layer, inputs)


def _activated(builder: Builder, layer: Layer[Any], tensor: Tensor) -> Tensor:
    """Do what a layer does to each element at its end; a softmax that no output is alone is one inside the net."""
    finals = {builder.network.final_softmax(output) for output in builder.network.outputs}
    if isinstance(layer.activation, layers.Softmax) and layer.name not in finals:
        made = normalizations.inner_softmax(builder, layer, tensor)
        if made is not None:
            return made
    return activations.activate(builder, layer, tensor)


def _rounded(
    builder: Builder, rounds: Approximation, layer: Layer[Any], inputs: list[Tensor]
) -> tuple[Layer[Any], list[Tensor]]:
    """Return a layer with what is rounded of it on request, and what it reads of float layers in as few bits."""
    if any(key in layer.arrays for key in (*WEIGHTS, "scale")) and rounds.float_layers is not None:
        inputs = [builder.shortened(layer, tensor) for tensor in inputs]
    if not rounds.takes(layer):
        return layer, inputs

    def compute(candidate: Layer[Any]) -> Values:
        trial = replace(builder, ops=dict(builder.ops), sampled=dict(builder.sampled), warnings=[])
        return trial.on_samples(_appended(trial, candidate, inputs))

    made = rounds.rounded(layer, compute)
    if any(not np.array_equal(made.arrays[key], values) for key, values in layer.arrays.items()):
        builder.approximated.append(layer.name)
    return made, inputs


ELEMENT_WISE = (layers.Activate, layers.Identity, layers.Merge)


def _turned(builder: Builder, layer: Layer[Any], inputs: Sequence[Tensor]) -> tuple[list[Tensor], bool]:
    """Return what a layer reads, with the channels last where it takes the first axis for them, and whether they were.

    Between such layers codes stay as they are: what does the same to every element does not ask where they stand.
    """
    by_axis = isinstance(layer.settings, layers.BatchNorm) and layer.settings.axis == 1
    shapes = {builder.op(tensor).shape for tensor in inputs}
    if layer.channels_first or (by_axis and all(len(shape) > 1 for shape in shapes)):
        return [builder.channels_last(layer, tensor) for tensor in inputs], True
    together = isinstance(layer.settings, ELEMENT_WISE) and not isinstance(layer.activation, layers.Softmax)
    if together and len(shapes) == 1 and all(tensor.turned for tensor in inputs):
        return [builder.channels_last(layer, tensor) for tensor in inputs], True
    return [builder.straight(layer, tensor) for tensor in inputs], False


def quantizes_its_input(model: TrainedModel) -> bool:
    """Say whether each input goes into an activation quantizer or an embedding, so that formats of ports are known."""
    return _quantizes(read(model))


def _quantizes(network: Network) -> bool:
    known = _quantizing_readers(network)
    return all(port.name in known or _rows_read(network, port) for port in network.ports)


def _absorbed(network: Network, input_format: FixedFormat | None) -> dict[str, Layer[Any]]:
    """Return, by name of the input, the cast that its port does.

    A cast that is all there is between an input and an output stays an op where the port is told another format.
    """
    readers = _quantizing_readers(network)
    if input_format is None:
        return readers
    return {port: layer for port, layer in readers.items() if layer.name not in network.outputs}


def _quantizing_readers(network: Network) -> dict[str, Layer[Any]]:
    """Return, by name of the input, the cast that alone reads it, through layers that do nothing."""
    found = {}
    for port in network.ports:
        name = port.name
        while name not in network.outputs:
            readers = [layer for layer in network.layers if name in layer.inputs]
            if len(readers) != 1:
                break
            if _input_cast(readers[0]) is not None:
                found[port.name] = readers[0]
            if not isinstance(readers[0].settings, layers.Identity):
                break
            name = readers[0].name
    return found


def _input_cast(layer: Layer[Any]) -> Cast | None:
    """Return the cast that a layer is and nothing else."""
    if isinstance(layer.settings, layers.Activate) and isinstance(layer.activation, layers.Quantizer):
        return None if layer.activation.scale else layer.activation.cast
    return None


def _named(builder: Builder, layer: Layer[Any], inputs: Sequence[Tensor], tensor: Tensor) -> Tensor:
    """Write down that the tensor is the output of the layer: with the op once nothing waits on it any more."""
    if tensor.softmax is not None and inputs and tensor.op == inputs[0].op:
        return tensor
    tensor = averages.shared(builder, layer, replace(tensor, layers=(*tensor.layers, layer.name)))
    if tensor.waits and not averages.told(builder, inputs, tensor):
        return tensor
    builder.tell(tensor, tensor.layers)
    return replace(tensor, layers=())


def _output(builder: Builder, layer: Layer[Any]) -> str:
    """Return the op whose codes are an output of the model."""
    tensor = builder.tensors[layer.name]
    with at(output=layer.name, class_name=layer.source):
        op = builder.op(tensor if tensor.softmax is not None else averages.carried(builder, layer, tensor))
        if op.denominator != 1:
            builder.warnings.append(
                f"output '{layer.name}' is {op.denominator} times what the model computes: no binary fraction holds "
                f"its averages; divide it by {op.denominator}, or put a quantizer (QActivation) behind them"
            )
        return op.name


def _passed_on(builder: Builder, layer: Layer[Any]) -> str:
    """Return an op behind a port that is an output of the model: hardware has at least one."""
    tensor = builder.tensors[layer.name]
    port = builder.op(tensor)
    out = builder.op(builder.add(builder.passes_on, layer, [tensor], port.shape, port.cast, suffix="_out"))
    builder.ops[out.name] = replace(out, layers=(layer.name,))
    builder.tensors[layer.name] = replace(tensor, op=out.name)  # a softmax that is put behind it reads it
    return out.name


def _port(builder: Builder, layer: Layer[layers.Port], inputs: Sequence[Tensor]) -> Tensor:
    shape = builder.network.input_shapes()[layer.name]
    reader = builder.absorbed.get(layer.name)
    cast = None if reader is None else _input_cast(reader)
    if cast is not None:
        return builder.add(Input, layer, [], shape, cast)
    rows = _rows_read(builder.network, layer)
    if rows and (builder.input_format is None or not counts_rows(builder.input_format)):
        return builder.add(Input, layer, [], shape, Cast(row_format(rows), Rounding.RND_CONV, Overflow.SAT))
    if builder.input_format is None:
        remedy = "give --input-format or inputs to derive it from"
        raise UnsupportedError("the model does not quantize its input", remedy=remedy)
    return builder.add(Input, layer, [], shape, Cast(builder.input_format, Rounding.RND_CONV, Overflow.SAT))


def _rows_read(network: Network, port: Layer[Any]) -> int:
    """Return how many rows the embeddings have whose rows a port numbers; 0 if it is read by anything else."""
    names, rows = {port.name}, []
    for layer in network.layers:
        if names.intersection(layer.inputs):
            if isinstance(layer.settings, layers.Identity):
                names.add(layer.name)
            elif isinstance(layer.settings, layers.Embedding) and "table" in layer.arrays:
                rows.append(len(layer.arrays["table"]))
            else:
                return 0
    return 0 if names.intersection(network.outputs) else max(rows, default=0)


def _refused(builder: Builder, layer: Layer[layers.Refused], inputs: Sequence[Tensor]) -> Tensor:
    raise layer.settings.refusal


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Port: _port,
    **products.LAYERS,
    **contractions.LAYERS,
    **normalizations.LAYERS,
    **activations.LAYERS,
    **moves.LAYERS,
    **recurrent.LAYERS,
    **arithmetic.LAYERS,
    layers.Identity: lambda builder, layer, inputs: inputs[0],
    layers.Refused: _refused,
}
"""Kind of layer -> what it becomes."""
