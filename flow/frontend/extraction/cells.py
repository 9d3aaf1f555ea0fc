"""Cells of recurrent layers: the ops of one step, from its row of the product of the sequence and its states.

A state that is zero is no tensor (None), and what it would be multiplied with is left off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from flow.errors import UnsupportedError
from flow.frontend import layers
from flow.frontend.extraction.activations import activate
from flow.frontend.extraction.builder import Builder, Tensor
from flow.frontend.layers import Activation, Cell, Layer, Recurrent
from flow.ir.fixed import Codes, Constant, FixedFormat
from flow.ir.graph import Dense, Gather, Merge

State = Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step, while its ops are added.

    Attributes:
        builder: to what they are added.
        layer: whose step it is.
        name: what their names begin with.
        row: which step of the sequence it reads.
        inputs: the product of the sequence with the kernel, the bias added: (steps, gates * units), or a row of that.
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
        """Return the layer under the name of a part of the step, with what that does to each element: in float32."""
        if isinstance(activation, Activation):
            activation = replace(activation, function=replace(activation.function, precise=None))
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
        *_, width = shape = self.builder.op(self.inputs).shape
        index = np.arange(math.prod(shape)).reshape(-1, width)[self.row, self.columns(first, last)]
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


def _simple(step: Step, h: State) -> tuple[Tensor, ...]:
    sums = step.sums(h, 0, 1, "sums")
    return (activate(step.builder, step.part("h", step.layer.settings.activation), sums),)


def _lstm(step: Step, h: State, c: State) -> tuple[Tensor, ...]:
    gate, activation = step.layer.settings.gate, step.layer.settings.activation
    sums = step.sums(h, 0, 4, "sums")
    cell = step.merge("multiply", "ig", step.block(sums, 0, "i", gate), step.block(sums, 2, "g", activation))
    if c is not None:
        cell = step.merge("add", "c", step.merge("multiply", "fc", step.block(sums, 1, "f", gate), c), cell)
    return step.merge("multiply", "h", step.block(sums, 3, "o", gate), step.activated(cell, activation, "y")), cell


def _gru(step: Step, h: State) -> tuple[Tensor, ...]:
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
