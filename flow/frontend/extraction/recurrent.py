"""Recurrent layers, laid out step by step: every step has ops of its own, called `lstm_t3_sums` and the like.

The sequence is multiplied once, for all steps; each step adds the product of its state to its row of that. A state that
is zero is no tensor (None), and what it would be multiplied with is left off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction import moves
from flow.frontend.extraction.activations import activate
from flow.frontend.extraction.builder import Builder, Handler, Tensor, bias_codes, kernel_codes
from flow.frontend.extraction.moves import MOST_STEPS, joined
from flow.frontend.layers import Activation, Cell, Layer, Recurrent
from flow.ir.fixed import Codes, Constant, FixedFormat
from flow.ir.graph import Dense, Gather, Merge, Op

State = Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One step, while its ops are added.

    Attributes:
        builder: to what they are added.
        layer: whose step it is.
        name: what their names begin with.
        row: which step of the sequence it reads.
        inputs: the product of the sequence with the kernel, the bias added: (steps, gates * units).
        kernel: recurrent, (units, gates * units).
        bias: of the product of the state.
    """

    builder: Builder
    layer: Layer[Recurrent]
    name: str
    row: int
    inputs: Tensor
    kernel: Constant
    bias: Constant

    def part(self, suffix: str, activation: Activation | None = None) -> Layer[Recurrent]:
        """Return the layer under the name of a part of the step, with what that does to each element."""
        return replace(self.layer, name=f"{self.name}_{suffix}", activation=activation)

    def columns(self, first: int, last: int) -> slice:
        """Return where the columns of some gates stand."""
        units = self.layer.settings.units
        return slice(first * units, last * units)

    def pick(self, tensor: Tensor, index: Codes, suffix: str) -> Tensor:
        return self.builder.add(Gather, self.part(suffix), [tensor], index.shape, index=index, fused=("slice",))

    def merge(self, function: str, suffix: str, *tensors: Tensor) -> Tensor:
        shape = self.builder.op(tensors[0]).shape
        return self.builder.add(Merge, self.part(suffix), tensors, shape, function=function, fused=(function,))

    def row_of(self, first: int, last: int, suffix: str) -> Tensor:
        """Return what some gates get of the sequence."""
        shape = self.builder.op(self.inputs).shape
        index = np.arange(math.prod(shape)).reshape(shape)[self.row, self.columns(first, last)]
        return self.pick(self.inputs, index, suffix)

    def product(self, state: Tensor, first: int, last: int, suffix: str) -> Tensor:
        """Return what some gates get of a state."""
        columns = self.columns(first, last)
        weight = Constant(self.kernel.codes[:, columns], self.kernel.format)
        bias = Constant(self.bias.codes[columns], self.bias.format)
        shape = weight.codes.shape[1:]
        return self.builder.add(Dense, self.part(suffix), [state], shape, weight=weight, bias=bias)

    def sums(self, state: State, first: int, last: int, suffix: str) -> Tensor:
        """Return what some gates get of the sequence and of a state."""
        if state is None:
            return self.row_of(first, last, suffix)
        row = self.row_of(first, last, f"{suffix}_x")
        return self.merge("add", suffix, row, self.product(state, first, last, f"{suffix}_h"))

    def block(self, sums: Tensor, number: int, suffix: str, activation: Activation | None) -> Tensor:
        """Return what an activation makes of one gate's part of the sums of several."""
        columns = self.columns(number, number + 1)
        part = self.pick(sums, np.arange(columns.start, columns.stop), f"{suffix}_sum")
        return self.activated(part, activation, suffix)

    def activated(self, tensor: Tensor, activation: Activation | None, suffix: str) -> Tensor:
        """Return what an activation makes of a tensor, as codes.

        Raises:
            UnsupportedError: its values lie on no grid.
        """
        part = self.part(suffix, activation)
        waiting = activate(self.builder, part, tensor)
        if waiting.clipped is not None:
            return self.builder.clipped_line(part, waiting, waiting.clipped)
        try:
            return self.builder.plain(part, waiting)
        except UnsupportedError as error:
            if type(activation) is not Activation:
                raise
            what = f"its function {activation.function.name!r} gives values on no grid, and each step multiplies them"
            remedy = (
                "use activations that quantize, such as quantized_tanh(8) and quantized_sigmoid(8), "
                "or take it rounded on request: --float-layers 12"
            )
            raise UnsupportedError(what, remedy=remedy) from error

    def quantized(self, state: State, suffix: str) -> State:
        """Return a state as the step reads it."""
        quantizer = self.layer.settings.state
        if state is None:
            return None
        if quantizer is None or (not state.waits and _keeps(quantizer, self.builder.op(state).format)):
            return self.activated(state, None, suffix)
        return self.activated(self.builder.inside(self.part(suffix), state), quantizer, suffix)


def _keeps(quantizer: Activation, fmt: FixedFormat) -> bool:
    """Say whether a quantizer leaves all codes of a format as they are."""
    cast = quantizer.cast if isinstance(quantizer, layers.Quantizer) else None
    shift = -1 if cast is None else cast.format.frac_bits - fmt.frac_bits
    if cast is None or shift < 0:
        return False
    return cast.lowest_code <= fmt.min_code << shift and fmt.max_code << shift <= cast.format.max_code


def _simple(step: _Step, h: State) -> tuple[Tensor, ...]:
    sums = step.sums(h, 0, 1, "sums")
    return (activate(step.builder, step.part("h", step.layer.settings.activation), sums),)


def _lstm(step: _Step, h: State, c: State) -> tuple[Tensor, ...]:
    gate, activation = step.layer.settings.gate, step.layer.settings.activation
    sums = step.sums(h, 0, 4, "sums")
    cell = step.merge("multiply", "ig", step.block(sums, 0, "i", gate), step.block(sums, 2, "g", activation))
    if c is not None:
        cell = step.merge("add", "c", step.merge("multiply", "fc", step.block(sums, 1, "f", gate), c), cell)
    return step.merge("multiply", "h", step.block(sums, 3, "o", gate), step.activated(cell, activation, "y")), cell


def _gru(step: _Step, h: State) -> tuple[Tensor, ...]:
    """Add z * h + (1 - z) * g, as g + z * (h - g): one product less."""
    settings = step.layer.settings
    sums = step.sums(h, 0, 2, "sums")
    z = step.block(sums, 0, "z", settings.gate)
    if h is None:
        g = step.activated(step.row_of(2, 3, "g_sum"), settings.activation, "g")
        return (step.merge("subtract", "h", g, step.merge("multiply", "zg", z, g)),)
    r = step.block(sums, 1, "r", settings.gate)
    if settings.reset_after:
        product = step.merge("multiply", "rh", r, step.product(h, 2, 3, "g_h"))
        new = step.merge("add", "g_sum", step.row_of(2, 3, "g_x"), product)
    else:
        new = step.sums(step.merge("multiply", "rh", r, h), 2, 3, "g_sum")
    g = step.activated(new, settings.activation, "g")
    return (step.merge("add", "h", g, step.merge("multiply", "zd", z, step.merge("subtract", "d", h, g))),)


CELLS: Mapping[Cell, tuple[Callable[..., tuple[Tensor, ...]], int, int]] = {
    Cell.SIMPLE: (_simple, 1, 1),
    Cell.LSTM: (_lstm, 4, 2),
    Cell.GRU: (_gru, 3, 1),
}
"""What a step of a cell adds to the graph, how many gates its kernels have columns of, and how many states it has."""


def _laid_out(
    builder: Builder, layer: Layer[Recurrent], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], Sequence[Tensor]]:
    """Append all steps of a layer; return its outputs in the order of the steps, and its last states."""
    settings = layer.settings
    add_step, gates, count = CELLS[settings.cell]
    sequence, *first = (builder.plain(layer, tensor) for tensor in inputs)
    x, width = builder.op(sequence).shape, gates * settings.units
    if len(x) != 2 or len(first) not in (0, count):
        raise UnsupportedError(
            f"reads a tensor of shape {x} and {len(first)} states", remedy="it takes (steps, channels)"
        )
    if x[0] > MOST_STEPS:
        raise UnsupportedError(f"a sequence of {x[0]} steps", remedy=f"at most {MOST_STEPS} are laid out")
    kernel, recurrent = kernel_codes(layer, 2), kernel_codes(layer, 2, "recurrent_kernel", "recurrent_quantizer")
    if kernel.codes.shape != (x[1], width) or recurrent.codes.shape != (settings.units, width):
        shapes = f"kernels {kernel.codes.shape} and {recurrent.codes.shape} do not fit"
        raise UnsupportedError(f"{shapes} {settings.units} units and an input of shape {x}")
    bias, of_state = _biases(layer, width)
    product = builder.add(
        Dense, layer, [sequence], (x[0], width), suffix="_x", weight=kernel, bias=bias, fused=("dense",)
    )
    states: Sequence[State] = first or _zeros(builder, layer, sequence, bool(of_state.codes.any())) * count
    outputs: list[Tensor] = []
    after: Sequence[Tensor] = ()
    for number in range(x[0]):
        row = x[0] - 1 - number if settings.backwards else number
        step = _Step(builder, layer, f"{layer.name}_t{number}", row, product, recurrent, of_state)
        before = len(builder.ops)
        try:
            quantized = [step.quantized(state, f"{name}q") for state, name in zip(states, "hc", strict=False)]
            states = after = add_step(step, *quantized)
            if settings.state is None:
                _check_width(list(builder.ops.values())[before:], builder.longest)
        except UnsupportedError as error:
            if settings.state is not None or not number:
                raise
            what = f"has no state quantizer, so its states get longer at each step: step {number + 1} of {x[0]}"
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
    quantizer = layer.settings.state
    casts = quantizer is None or (isinstance(quantizer, layers.Quantizer) and quantizer.cast is not None)
    if not casts and quantizer is not None and builder.evaluate is not None:
        biased |= bool(builder.evaluate([quantizer.function.source], np.zeros(1, np.float32)).any())
    if not biased:
        return (None,)
    index = np.full((layer.settings.units,), -1)
    return (builder.add(Gather, layer, [sequence], index.shape, suffix="_zero", index=index, fused=("zeros",)),)


def _check_width(added: Sequence[Op], longest: int) -> None:
    """Raise UnsupportedError if results of some ops need more bits than that."""
    widest = max(op.format.width - op.format.signed for op in added)
    if widest > longest:
        raise UnsupportedError(f"{widest} bits are more than {longest}")


def _recurrent(builder: Builder, layer: Layer[Recurrent], inputs: Sequence[Tensor]) -> Tensor:
    outputs, states = _laid_out(builder, layer, inputs)
    output = joined(builder, layer, outputs) if layer.settings.sequences else outputs[-1]
    return replace(output, further=tuple(states))


def _bidirectional(builder: Builder, layer: Layer[layers.Bidirectional], inputs: Sequence[Tensor]) -> Tensor:
    """Append both layers; each reads the sequence and its part of the first states."""
    sequence, *first = inputs
    outputs: list[Tensor] = []
    further: list[Tensor] = []
    half = len(first) // 2
    for word, settings, given in (
        ("forward", layer.settings.forward, first[:half]),
        ("backward", layer.settings.backward, first[half:]),
    ):
        arrays = {key.removeprefix(f"{word}_"): array for key, array in layer.arrays.items() if key.startswith(word)}
        named: Layer[Any] = replace(layer, name=f"{layer.name}_{word}", arrays=arrays)
        one = replace(named, settings=settings)
        steps, states = _laid_out(builder, one, [sequence, *given])
        if settings.sequences:
            steps = [joined(builder, one, steps if word == "forward" else steps[::-1])]
        outputs.append(steps[-1])
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
