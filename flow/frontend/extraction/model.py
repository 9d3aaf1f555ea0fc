"""Extract an IntGraph from a trained model: every number becomes an integer of a known format, or is refused by name.

One function per kind of Keras layer, in the `LAYERS` of each module here; each turns a layer's configuration, quantized
arrays and the tensors it reads into ops whose formats hold every possible result, so nothing is rounded but what the
model itself rounds.

Two things that a layer computes have no fixed-point format and wait for the quantizer behind it: the quotient of an
average, and an element-wise function such as tanh. A `Tensor` carries them along; the quantizer becomes a division in
its cast, or a table over all input codes, evaluated by QKeras itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flow.errors import FlowError, UnsupportedError, at
from flow.frontend.extraction import activations, moves, pooling, products
from flow.frontend.extraction.builder import Builder, Evaluate, Handler, Layer, Tensor
from flow.frontend.quantizers import (
    FUNCTIONS,
    QuantizerConfig,
    activation_cast,
    check_weight_quantizer,
    parse_quantizer,
)
from flow.frontend.topology import Call, Topology, topology
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import FixedFormat, Overflow, Rounding
from flow.ir.graph import Input, IntGraph
from flow.ir.names import identifier

NO_OPS = (
    "Identity",
    "Dropout",
    "ActivityRegularization",
    "AlphaDropout",
    "GaussianNoise",
    "GaussianDropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
)


def _nothing(builder: Builder, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0]


LAYERS: Mapping[str, Handler] = {
    "InputLayer": _nothing,
    **products.LAYERS,
    **activations.LAYERS,
    **pooling.LAYERS,
    **moves.LAYERS,
    **dict.fromkeys(NO_OPS, _nothing),
}


def extract(
    model: TrainedModel,
    input_format: FixedFormat | None = None,
    *,
    softmax: FixedFormat | None = None,
    evaluate: Evaluate | None = None,
) -> IntGraph:
    """Return the integer graph of a trained model, one op per step, before any pass.

    Args:
        model: the trained model.
        input_format: format of the input ports; needed when the model's first layer is no quantizer, and refused when
            it is one (the port then has the quantizer's format).
        softmax: unsigned format of the outputs of a final softmax; None leaves the softmax off.
        evaluate: fills the tables of functions that are no casts; needed for models with such functions only.

    Raises:
        UnsupportedError: something has no exact integer form here; the message names the layer.
    """
    graph = read_calls(Builder(model, input_format, softmax, evaluate))
    if input_format is not None and quantizes_its_input(model):
        raise UnsupportedError(
            "the model quantizes its own input, so its port has that format",
            model=model.name,
            remedy="drop --input-format",
        )
    return graph


def read_calls(builder: Builder) -> IntGraph:
    """Return the graph that a builder makes of its model, call by call.

    Raises:
        UnsupportedError: as `extract`.
    """
    model = builder.model
    with at(model=model.name):
        calls = topology(model.class_name, model.config)
        absorbed = _quantizing_readers(calls)
        for call in calls.calls:
            builder.tensors[call.name] = _tensor(builder, call, absorbed)
        outputs = [_output(builder, calls, name) for name in calls.outputs]
        ops = tuple(builder.ops.values())
        if all(isinstance(op, Input) for op in ops):
            raise UnsupportedError("the model computes nothing after its input")
    return IntGraph(
        name=identifier(model.name, ()),
        ops=ops,
        outputs=tuple(outputs),
        warnings=(*map(str, model.warnings), *builder.warnings),
    )


def _tensor(builder: Builder, call: Call, absorbed: Mapping[str, Call]) -> Tensor:
    """Return what a call gives.

    Raises:
        UnsupportedError: it has no exact integer form; the message names the layer.
    """
    layer = Layer(call.name, call.class_name, call.config, builder.model.weights.get(call.layer, {}))
    handler = LAYERS.get(call.class_name)
    if handler is None:
        raise UnsupportedError(
            f"{call.class_name} is not supported", layer=call.name, remedy=f"use one of {', '.join(LAYERS)}"
        )
    try:
        inputs = [builder.tensors[name] for name in call.inputs]
        before = [tensor.softmax for tensor in inputs if tensor.softmax is not None]
        if before and call.class_name not in NO_OPS:
            raise UnsupportedError(f"comes after the softmax '{before[0]}'", remedy="only a final softmax is supported")
        if call.class_name == "InputLayer":
            tensor = _input(builder, layer, absorbed.get(call.name))
        elif call in absorbed.values():
            tensor = inputs[0]
        else:
            tensor = handler(builder, layer, inputs)
        return _named(builder, layer, inputs, tensor)
    except FlowError as error:
        error.at(layer=call.name, class_name=call.class_name)
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"its configuration or arrays do not fit ({type(error).__name__}: {error})"
        raise UnsupportedError(what, layer=call.name, class_name=call.class_name) from None


def refusals(
    model: TrainedModel,
    input_format: FixedFormat | None = None,
    *,
    softmax: FixedFormat | None = None,
    evaluate: Evaluate | None = None,
) -> tuple[FlowError, ...]:
    """Return all that `extract` refuses in a model, layer by layer; nothing if it takes the model.

    Behind a refused layer no tensor is known; there, only classes and quantizers are looked at.
    """
    try:
        calls = topology(model.class_name, model.config)
    except FlowError as error:
        return (error,)
    builder = Builder(model, input_format, softmax, evaluate)
    absorbed = _quantizing_readers(calls)
    found: list[FlowError] = []
    for call in calls.calls:
        if call.class_name in LAYERS and not all(name in builder.tensors for name in call.inputs):
            found += _own_refusals(call)
            continue
        try:
            builder.tensors[call.name] = _tensor(builder, call, absorbed)
        except FlowError as error:
            found.append(error)
    if not found:
        try:
            extract(model, input_format, softmax=softmax, evaluate=evaluate)
        except FlowError as error:
            found.append(error)
    return tuple(found)


def _own_refusals(call: Call) -> Iterator[FlowError]:
    """Yield what is wrong with a layer whatever it reads: its quantizers."""
    used = ("bias_quantizer",) if call.config.get("use_bias", True) else ()
    for key in ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer", *used, "activation"):
        try:
            quantizer = parse_quantizer(call.config.get(key))
            if key != "activation":
                check_weight_quantizer(quantizer, key.removesuffix("_quantizer"))
            elif quantizer is not None and quantizer.name not in ("relu", "softmax", *FUNCTIONS):
                activation_cast(quantizer, key)
        except FlowError as error:
            yield error.at(layer=call.name, class_name=call.class_name)


def quantizes_its_input(model: TrainedModel) -> bool:
    """Say whether each input goes into an activation quantizer first, so that the formats of the ports are known."""
    calls = topology(model.class_name, model.config)
    return set(_quantizing_readers(calls)) == {call.name for call in calls.inputs}


def _quantizing_readers(calls: Topology) -> dict[str, Call]:
    """Return, by name of the input, the cast that alone reads it, through layers that do nothing."""
    found = {}
    for port in calls.inputs:
        name = port.name
        while name not in calls.outputs:
            readers = [call for call in calls.calls if name in call.inputs]
            if len(readers) != 1:
                break
            if _input_cast(readers[0]) is not None:
                found[port.name] = readers[0]
            if readers[0].class_name not in NO_OPS:
                break
            name = readers[0].name
    return found


def _input_cast(call: Call) -> QuantizerConfig | None:
    """Return the quantizer of a call if it is an activation layer that is a cast."""
    if call.class_name not in ("QActivation", "Activation"):
        return None
    try:
        quantizer = parse_quantizer(call.config.get("activation"))
        known = quantizer is not None and quantizer.name not in ("relu", "softmax", *FUNCTIONS)
        return quantizer if quantizer and known and activation_cast(quantizer, "activation") else None
    except UnsupportedError:  # refused with the layer's name when its turn comes
        return None


def _named(builder: Builder, layer: Layer, inputs: Sequence[Tensor], tensor: Tensor) -> Tensor:
    """Write down that the tensor is the output of the layer: with the op once nothing waits on it any more."""
    if tensor.softmax is not None and inputs and tensor.op == inputs[0].op:
        return tensor
    names = (*tensor.layers, layer.name)
    if tensor.waits:
        return replace(tensor, layers=names)
    op = builder.op(tensor)
    builder.ops[op.name] = replace(op, layers=(*op.layers, *names))
    return replace(tensor, layers=())


def _output(builder: Builder, calls: Topology, name: str) -> str:
    """Return the op whose codes are an output of the model."""
    call = next(call for call in calls.calls if call.name == name)
    layer, tensor = Layer(call.name, call.class_name, {}, {}), builder.tensors[name]
    with at(output=name, class_name=call.class_name):
        return tensor.op if tensor.softmax is not None else builder.plain(layer, tensor).op


def _input(builder: Builder, layer: Layer, reader: Call | None) -> Tensor:
    shape = builder.model.input_shapes()[layer.name]
    quantizer = _input_cast(reader) if reader is not None else None
    cast = activation_cast(quantizer, "activation") if quantizer is not None else None
    if cast is not None:
        modes: dict[str, Any] = {"rounding": cast.rounding, "overflow": cast.overflow}
        return builder.add(Input, layer, [], shape, cast.format, **modes)
    if builder.input_format is None:
        raise UnsupportedError(
            "the model does not quantize its input", remedy="give --input-format or inputs to derive it from"
        )
    modes = {"rounding": Rounding.RND_CONV, "overflow": Overflow.SAT}
    return builder.add(Input, layer, [], shape, builder.input_format, **modes)
