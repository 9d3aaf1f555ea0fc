"""Recurrent layers: folded into one step that is used for every row, or laid out with ops of its own for every step.

The sequence is multiplied once, for all steps; each step adds the product of its state to its row of that
(`cells`). Laid out, ops are called `lstm_t3_sums` and the like. Folded, the step is the body of a Scan, which keeps
states as the step reads them: behind the state quantizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction import moves
from flow.frontend.extraction.builder import Builder, Handler, Tensor, bias_codes, kernel_codes
from flow.frontend.extraction.cells import CELLS, State, Step
from flow.frontend.extraction.moves import MOST_STEPS, joined
from flow.frontend.layers import Layer, Recurrent
from flow.ir.fixed import Cast, Constant, FixedFormat
from flow.ir.graph import Dense, Gather, Input, IntGraph, Op, Scan
from flow.ir.passes import lower

MOST_TRIES = 4
"""So often the body of a scan is built with other formats of its states, until those it gives are those it reads."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """What all steps of a layer have in common.

    Attributes:
        builder: to what ops are added.
        layer: the layer.
        given: the sequence, (steps, channels).
        product: of the sequence with the kernel, the bias added: (steps, gates * units).
        first: the first states if they are given.
        kernel: recurrent, (units, gates * units).
        bias: of the product of a state.
    """

    builder: Builder
    layer: Layer[Recurrent]
    given: Tensor
    product: Tensor
    first: Sequence[Tensor]
    kernel: Constant
    bias: Constant

    @property
    def steps(self) -> int:
        return self.builder.op(self.product).shape[0]

    def step(self, builder: Builder, name: str, row: int, product: Tensor) -> Step:
        """Return a step whose ops are added to a builder."""
        return Step(builder, self.layer, name, row, product, self.kernel, self.bias)


def _multiplied(builder: Builder, layer: Layer[Recurrent], inputs: Sequence[Tensor]) -> _Sequence:
    """Append the product of a sequence with the kernel."""
    settings = layer.settings
    _, gates, count = CELLS[settings.cell]
    sequence, *first = (builder.plain(layer, tensor) for tensor in inputs)
    x, width = builder.op(sequence).shape, gates * settings.units
    if len(x) != 2 or len(first) not in (0, count):
        raise UnsupportedError(
            f"reads a tensor of shape {x} and {len(first)} states", remedy="it takes (steps, channels)"
        )
    kernel, recurrent = kernel_codes(layer, 2), kernel_codes(layer, 2, "recurrent_kernel", "recurrent_quantizer")
    if kernel.codes.shape != (x[1], width) or recurrent.codes.shape != (settings.units, width):
        shapes = f"kernels {kernel.codes.shape} and {recurrent.codes.shape} do not fit"
        raise UnsupportedError(f"{shapes} {settings.units} units and an input of shape {x}")
    bias, of_state = _biases(layer, width)
    product = builder.add(
        Dense, layer, [sequence], (x[0], width), suffix="_x", weight=kernel, bias=bias, fused=("dense",)
    )
    return _Sequence(builder, layer, sequence, product, first, recurrent, of_state)


def _run(
    builder: Builder, layer: Layer[Recurrent], inputs: Sequence[Tensor], states_are_read: bool, turned: bool = False
) -> tuple[Tensor, Sequence[Tensor]]:
    """Append a layer; return its output, of every step or the last, and its last states, of a folded one none.

    Args:
        states_are_read: whether another layer reads the last states.
        turned: whether an output of every step begins with the last one.
    """
    sequence, turned = _multiplied(builder, layer, inputs), turned and layer.settings.sequences
    if builder.folds:
        try:
            if sequence.first or states_are_read:
                raise _NotFoldedError("its states are those of another layer, or another layer's are its own")
            return _folded(sequence, turned), ()
        except _NotFoldedError as error:
            builder.warnings.append(f"layer '{layer.name}' has hardware of its own for every step: {error}")
    builder.laid_out.append(layer.name)
    outputs, states = _laid_out(sequence)
    return joined(builder, layer, outputs[:: -1 if turned else 1]) if layer.settings.sequences else outputs[-1], states


# -- one step that is used for every row


class _NotFoldedError(Exception):
    """Why one step cannot be used for every row."""


def _folded(sequence: _Sequence, turned: bool) -> Tensor:
    """Append a scan over the product of a sequence.

    Raises:
        _NotFoldedError: states do not begin with zero, or have no format that stays.
    """
    builder, layer = sequence.builder, sequence.layer
    if _of_zero(builder, layer):
        raise _NotFoldedError("its state quantizer makes something else of zero")
    body, output = _body(sequence)
    rows = sequence.product
    if layer.settings.backwards:
        rows = _turned(builder, layer, rows, "_back")
    shape = (sequence.steps,) * layer.settings.sequences + body.output.shape
    values: dict[str, Any] = {"rows": sequence.steps, "body": body.ops, "returns": body.outputs}
    fused = (layer.settings.cell.value,)
    made = builder.add(Scan, layer, [rows], shape, Cast(body.output.format), fused=fused, **values)
    made = replace(output, op=made.op, layers=made.layers)
    return _turned(builder, layer, made, "_turned") if turned else made


def _body(sequence: _Sequence) -> tuple[IntGraph, Tensor]:
    """Return the ops of one row, whose states have the same formats before and behind it; and what it gives."""
    builder, layer = sequence.builder, sequence.layer
    settings, product = layer.settings, builder.op(sequence.product)
    add_step, _, count = CELLS[settings.cell]
    cast = settings.state.cast if isinstance(settings.state, layers.Quantizer) else None
    formats = [FixedFormat(True, 0, 0) if cast is None else cast.format] * count
    for _ in range(MOST_TRIES):
        given = dict(zip("hc", formats, strict=False))
        ports = [Input(name="row", inputs=(), shape=product.shape[1:], cast=Cast(product.format))]
        ports += [Input(name=name, inputs=(), shape=(settings.units,), cast=Cast(fmt)) for name, fmt in given.items()]
        inside = replace(builder, ops={op.name: op for op in ports}, warnings=[], rounds=None)  # no samples of a row
        step = sequence.step(inside, layer.name, 0, Tensor("row"))
        try:
            output, *others = add_step(step, *map(Tensor, given))
            after = [step.quantized(state, f"{name}q") for state, name in zip((output, *others), given, strict=True)]
        except UnsupportedError as error:
            raise _NotFoldedError(error.what) from None
        names = (output.op, *(state.op for state in after if state is not None))
        body = lower(IntGraph(name="body", ops=tuple(inside.ops.values()), outputs=names), stream=True)
        found = [body[name].format for name in body.outputs[1:]]
        if found == formats:
            return body, output
        formats = found
    raise _NotFoldedError("its states get longer at each step: give it a state_quantizer")


def _turned(builder: Builder, layer: Layer[Any], tensor: Tensor, suffix: str) -> Tensor:
    """Return a sequence from its last row to its first; functions that wait on it go on waiting."""
    shape = builder.op(tensor).shape
    index = np.arange(math.prod(shape)).reshape(shape)[::-1]
    made = builder.add(Gather, layer, [tensor], shape, suffix=suffix, index=index, fused=("reverse",))
    return replace(tensor, op=made.op)


# -- every step by itself


def _laid_out(sequence: _Sequence) -> tuple[list[Tensor], Sequence[Tensor]]:
    """Append all steps of a layer; return its outputs in the order of the steps, and its last states."""
    builder, layer, steps = sequence.builder, sequence.layer, sequence.steps
    settings = layer.settings
    add_step, _, count = CELLS[settings.cell]
    if steps > MOST_STEPS:
        remedy = f"at most {MOST_STEPS} are laid out; in a stream (--io-type io_stream) all share the hardware of one"
        raise UnsupportedError(f"a sequence of {steps} steps", remedy=remedy)
    biased = bool(sequence.bias.codes.any())
    states: Sequence[State] = sequence.first or _zeros(builder, layer, sequence.given, biased) * count
    outputs: list[Tensor] = []
    after: Sequence[Tensor] = ()
    for number in range(steps):
        row = steps - 1 - number if settings.backwards else number
        step = sequence.step(builder, f"{layer.name}_t{number}", row, sequence.product)
        before = len(builder.ops)
        try:
            quantized = [step.quantized(state, f"{name}q") for state, name in zip(states, "hc", strict=False)]
            states = after = add_step(step, *quantized)
            if settings.state is None:
                _check_width(list(builder.ops.values())[before:], builder.longest)
        except UnsupportedError as error:
            if settings.state is not None or not number:
                raise
            what = f"has no state quantizer, so its states get longer at each step: step {number + 1} of {steps}"
            remedy = (
                "give it a state_quantizer such as 'quantized_bits(8,0,1,alpha=1)', as QSimpleRNN, QLSTM, QGRU have"
            )
            raise UnsupportedError(f"{what}: {error.what}", remedy=remedy) from None
        outputs.append(after[0])
    return outputs, after


def _biases(layer: Layer[Recurrent], width: int) -> tuple[Constant, Constant]:
    """Return the biases of the products of the sequence and of a state."""
    if not (layer.settings.biased and layer.settings.reset_after):
        return bias_codes(layer, width), Constant.zeros(width)
    rows = layer.arrays["bias"]
    if rows.shape != (2, width):
        raise UnsupportedError(f"bias {rows.shape} does not fit {width} outputs, twice")
    of_input, of_state = (bias_codes(replace(layer, arrays={"bias": row}), width) for row in rows)
    return of_input, of_state


def _zeros(builder: Builder, layer: Layer[Recurrent], sequence: Tensor, biased: bool) -> tuple[State]:
    """Return a first state: no tensor, unless its product has a bias or its quantizer makes something of zero."""
    if not biased and not _of_zero(builder, layer):
        return (None,)
    index = np.full((layer.settings.units,), -1)
    return (builder.add(Gather, layer, [sequence], index.shape, suffix="_zero", index=index, fused=("zeros",)),)


def _of_zero(builder: Builder, layer: Layer[Recurrent]) -> bool:
    """Say whether the state quantizer makes something of zero."""
    quantizer = layer.settings.state
    casts = quantizer is None or (isinstance(quantizer, layers.Quantizer) and quantizer.cast is not None)
    if casts or quantizer is None or builder.evaluate is None:
        return False
    return bool(builder.evaluate([quantizer.function.source], np.zeros(1, np.float32)).any())


def _check_width(added: Sequence[Op], longest: int) -> None:
    """Raise UnsupportedError if results of some ops need more bits than that."""
    widest = max(op.format.width - op.format.signed for op in added)
    if widest > longest:
        raise UnsupportedError(f"{widest} bits are more than {longest}")


def _reads(builder: Builder, layer: Layer[Any], beside: int) -> bool:
    """Say whether something reads a further output of a layer but for the first few."""
    readers = (each for each in builder.network.layers if layer.name in each.inputs)
    return any(isinstance(each.settings, layers.Further) and each.settings.number > beside for each in readers)


def _recurrent(builder: Builder, layer: Layer[Recurrent], inputs: Sequence[Tensor]) -> Tensor:
    output, states = _run(builder, layer, inputs, _reads(builder, layer, 0))
    return replace(output, further=tuple(states))


def _bidirectional(builder: Builder, layer: Layer[layers.Bidirectional], inputs: Sequence[Tensor]) -> Tensor:
    """Append both layers; each reads the sequence and its part of the first states."""
    sequence, *first = inputs
    outputs: list[Tensor] = []
    further: list[Tensor] = []
    half, read = len(first) // 2, _reads(builder, layer, int(layer.settings.merge is None))
    for word, settings, given in (
        ("forward", layer.settings.forward, first[:half]),
        ("backward", layer.settings.backward, first[half:]),
    ):
        arrays = {key.removeprefix(f"{word}_"): array for key, array in layer.arrays.items() if key.startswith(word)}
        named: Layer[Any] = replace(layer, name=f"{layer.name}_{word}", arrays=arrays)
        one = replace(named, settings=settings)
        output, states = _run(builder, one, [sequence, *given], read, turned=word == "backward")
        outputs.append(output)
        further += states
    merge = layer.settings.merge
    if merge is None:
        return replace(outputs[0], further=(outputs[1], *further))
    whole: Layer[Any] = layer
    functions = outputs[0].functions
    waits = bool(functions) and isinstance(merge, layers.Concatenate) and functions == outputs[1].functions
    tensors = [replace(output, functions=()) for output in outputs] if waits else outputs
    merged = moves.LAYERS[type(merge)](builder, replace(whole, settings=merge), tensors)
    return replace(merged, functions=functions if waits else merged.functions, further=tuple(further))


def _further(builder: Builder, layer: Layer[layers.Further], inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].further[layer.settings.number - 1]


LAYERS: Mapping[type[layers.Settings], Handler] = {
    layers.Recurrent: _recurrent,
    layers.Bidirectional: _bidirectional,
    layers.Further: _further,
}
