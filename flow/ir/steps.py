"""The living definition: what each op computes, as a step that is prepared once and applied piece by piece.

Numbers are integers throughout. They travel in float32 or float64 arrays where the intervals prove that every sum
stays within 2**24 or 2**53, because floating-point addition and multiplication of integers is exact there and BLAS is
fast; in int64 otherwise. The carrier never changes a result, and a test holds the three against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.ir import ops, sums
from flow.ir.fixed import FixedFormat, Overflow, Rounding
from flow.ir.graph import Input, Op, body_of
from flow.ir.intervals import Range, accumulation, common_grid, exact_result
from flow.ir.sums import FLOAT32_EXACT, FLOAT64_EXACT, PIECE_BYTES, Carrier, Place
from flow.ir.tables import TABLE_INPUT_BITS
from flow.ir.windows import Window

FEWEST_POSITIONS = 256
"""So many windows or rows at a time, at least, are multiplied with the weights: BLAS reorders those each time."""
Apply = Callable[..., Carrier]
"""Called with a place of the output and the codes of all inputs, (samples, *shape): gives what belongs there."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What an op computes, with all that does not depend on the data.

    Attributes:
        op: the op.
        exact: grid and range of the exact result.
        carrier: the type that is exact for the result and for what it is computed from.
        apply: computes the exact result, in an array of its own if it is cast; codes of the output if `chooses`.
        row_bytes: what the work on one row of the output takes; 0 for ops that are not cut into rows.
        chooses: whether the result is codes of the output already, chosen among codes: nothing is cast.
    """

    op: Op
    exact: Range
    carrier: type[Any]
    apply: Apply
    row_bytes: int
    chooses: bool = False

    @property
    def casts(self) -> bool:
        """Whether the cast changes any result."""
        cast, exact = self.op.cast, self.exact
        fits = cast.lowest_code <= exact.low and exact.high <= cast.format.max_code
        return not (fits and exact.frac_bits == cast.format.frac_bits and cast.divisor == 1)


def step_of(op: Op, *inputs: Op) -> Step:
    """Return the step of an op that reads these ops."""
    return STEPS[type(op)](op, *inputs)


def _row_bytes(op: Op) -> int:
    return 12 * math.prod(op.shape[1:])


def _raised(x: Carrier, shift: int, carrier: type[Any]) -> Carrier:
    """Return a copy of an input, shifted left, in the carrier."""
    wide = x.astype(carrier)
    if shift:
        wide *= carrier(1 << shift)
    return wide


def _matmul(op: ops.MatMul, x: Op) -> Step:
    acc = accumulation(op, x.format)
    carrier = sums.carrier(acc.bound)
    weight = op.weight.codes << acc.shifts[0] if acc.shifts[0] else op.weight.codes
    bias = (op.bias.codes << acc.shifts[1]).astype(carrier)
    ends = parts_of(op, weight, x.format) if carrier is np.float64 else ()
    factor = sums.factor_of(op, weight.astype(np.float32 if ends else carrier))
    if sums.is_depthwise(op):
        position_bytes = 5 * factor.itemsize * op.shape[-1]
    else:
        position_bytes = factor.itemsize * (op.weight.codes[..., 0].size + 3 * op.shape[-1])
        position_bytes = min(position_bytes, PIECE_BYTES // FEWEST_POSITIONS)

    def apply(place: Place, x: Carrier) -> Carrier:
        result = sums.sums_of_products(op, factor, x, place, ends)
        result += bias
        return result

    return Step(op, acc, carrier, apply, position_bytes * math.prod(op.shape[1:-1]))


def parts_of(op: ops.MatMul, weight: np.ndarray[Any, Any], x: FixedFormat) -> tuple[int, ...]:
    """Return where sums of products that need float64 are cut into parts that float32 holds (`sums.products`), if so.

    Args:
        op: the op.
        weight: its weight on the grid of the accumulator.
        x: format of its input.
    """
    if isinstance(op, ops.Conv) and op.groups > 1:
        return ()
    return sums.splits(weight.reshape(-1, op.shape[-1]), x)


def _batchnorm(op: ops.BatchNorm, x: Op) -> Step:
    exact = exact_result(op, x.format)
    scale, offset = op.scale.codes << exact.shifts[0], op.offset.codes << exact.shifts[1]
    largest = np.abs(scale) * max(x.format.max_code, -x.format.min_code) + np.abs(offset)
    carrier = sums.carrier(int(largest.max(initial=0)))
    factor, addend = scale.astype(carrier), offset.astype(carrier)

    def apply(place: Place, x: Carrier) -> Carrier:
        result = x[place].astype(carrier)
        result *= factor
        result += addend
        return result

    return Step(op, exact, carrier, apply, _row_bytes(op))


def _relu(op: ops.Relu, x: Op) -> Step:
    exact = exact_result(op, x.format)
    carrier = sums.carrier(exact.bound)

    def apply(place: Place, x: Carrier) -> Carrier:
        result = np.maximum(x[place], 0)
        if op.limit is not None:
            np.minimum(result, exact.high, out=result)  # which is no more than the largest code of the input
        return result.astype(carrier, copy=False)

    return Step(op, exact, carrier, apply, _row_bytes(op))


def _leaky_relu(op: ops.LeakyRelu, x: Op) -> Step:
    exact = exact_result(op, x.format)
    carrier, (raised, shift) = sums.carrier(exact.bound), exact.shifts
    slope = np.broadcast_to((op.slope.codes << shift).astype(carrier), op.shape)

    def apply(place: Place, x: Carrier) -> Carrier:
        wide = x[place].astype(carrier)
        return np.where(wide < 0, wide * slope[place[1:]], _raised(wide, raised, carrier))

    return Step(op, exact, carrier, apply, _row_bytes(op))


def _requantize(op: ops.Requantize, x: Op) -> Step:
    exact = exact_result(op, x.format)
    carrier = sums.carrier(exact.bound)
    return Step(op, exact, carrier, lambda place, x: x[place].astype(carrier), _row_bytes(op))


MERGE_FUNCTIONS: Mapping[str, Callable[..., Carrier]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _joining_carrier(exact: Range, inputs: tuple[Op, ...]) -> type[Any]:
    """Return the type that holds a result, and each input on the finest grid of them."""
    return sums.carrier(max(exact.bound, *(x.bound for x in common_grid([x.format for x in inputs]))))


def _merge(op: ops.Merge, *inputs: Op) -> Step:
    exact = exact_result(op, *(x.format for x in inputs))
    carrier, function = _joining_carrier(exact, inputs), MERGE_FUNCTIONS[op.function]

    def apply(place: Place, *inputs: Carrier) -> Carrier:
        result, *others = (_raised(x[place], shift, carrier) for x, shift in zip(inputs, exact.shifts, strict=True))
        for other in others:
            function(result, other, out=result)
        return result

    return Step(op, exact, carrier, apply, _row_bytes(op))


def _max_pool(op: ops.MaxPool, x: Op) -> Step:
    exact = exact_result(op, x.format)

    def apply(place: Place, x: Carrier) -> Carrier:  # the fill never wins against a code
        return sums.pooled(op, x, np.maximum, op.format.min_code, place, x.dtype)

    return Step(op, exact, sums.carrier(exact.bound), apply, _row_bytes(op), chooses=True)


def _sum_pool(op: ops.SumPool, x: Op) -> Step:
    exact = exact_result(op, x.format)
    carrier = sums.carrier(exact.bound)
    weight = op.weight.codes[..., np.newaxis].astype(carrier)

    def apply(place: Place, x: Carrier) -> Carrier:
        result = sums.pooled(op, x, np.add, 0, place, carrier)
        result *= weight[place[1:]]
        return result

    return Step(op, exact, carrier, apply, _row_bytes(op))


def _reshape(op: ops.Reshape, x: Op) -> Step:
    exact = exact_result(op, x.format)

    def apply(place: Place, x: Carrier) -> Carrier:
        return x.reshape(len(x), *op.shape)[place]

    return Step(op, exact, sums.carrier(exact.bound), apply, _row_bytes(op), chooses=True)


def _gather(op: ops.Gather, *inputs: Op) -> Step:
    exact = exact_result(op, *(x.format for x in inputs))
    carrier = _joining_carrier(exact, inputs)

    def taken(place: Place, *inputs: Carrier) -> Carrier:
        raised = (_raised(x, shift, carrier) for x, shift in zip(inputs, exact.shifts, strict=True))
        flat = [x.reshape(len(x), -1) for x in raised]
        zero = np.zeros((len(flat[0]), 1), carrier)
        return np.take(np.concatenate([*flat, zero], axis=1), op.index, axis=1)  # index -1 is the zero

    anywhere = Step(op, exact, carrier, taken, 0)
    pads = None if anywhere.casts else added_pads(op, inputs)
    if pads is None:
        return anywhere
    ones = (1,) * len(pads)
    window = Window(ones, ones, pads)

    def padded(place: Place, x: Carrier) -> Carrier:
        return sums.strip(x, place, window, 0, x.dtype)

    return Step(op, exact, carrier, padded, _row_bytes(op))


def added_pads(op: ops.Gather, inputs: tuple[Op, ...]) -> tuple[tuple[int, int], ...] | None:
    """Return the zeros that a Gather adds around its only input, per axis, or None if it does anything else."""
    (x, *others), inside = inputs, op.index >= 0
    if others or not inside.any() or not inside.ndim == len(x.shape) > 1:
        return None
    spans = [
        np.flatnonzero(inside.any(axis=tuple(i for i in range(inside.ndim) if i != axis)))
        for axis in range(inside.ndim)
    ]
    box = tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    in_order = np.arange(math.prod(x.shape)).reshape(x.shape)
    if not np.array_equal(op.index[box], in_order) or op.shape[-1] != x.shape[-1]:
        return None
    return tuple((part.start, size - part.stop) for part, size in zip(box[:-1], op.shape, strict=False))


def _lookup(op: ops.Lookup, x: Op) -> Step:
    exact, first, values = exact_result(op, x.format), x.format.min_code, op.values
    if op.starts.ndim == 1 and x.format.width <= TABLE_INPUT_BITS:  # a value for each code
        values = op.value_of(np.arange(first, x.format.max_code + 1))

    def apply(place: Place, x: Carrier) -> Carrier:
        if len(values) > len(op.starts):
            return np.asarray(np.take(values, x[place].astype(np.intp) - first))
        return op.value_of(x[place])

    return Step(op, exact, sums.carrier(exact.bound), apply, _row_bytes(op), chooses=True)


def _truth_table(op: ops.TruthTable, *inputs: Op) -> Step:
    exact = exact_result(op, *(x.format for x in inputs))
    starts = np.arange(op.values.size // op.values.shape[-1]).reshape(op.shape) * op.values.shape[-1]
    values, weight = op.values.reshape(-1), np.arange(op.wires.shape[-1])

    def apply(place: Place, *inputs: Carrier) -> Carrier:
        flat = [x.reshape(len(x), -1).astype(np.int64) for x in inputs]
        joined = np.concatenate([*flat, np.zeros((len(flat[0]), 1), np.int64)], axis=1)  # wire -1 is the zero
        numbers = ((joined[:, op.wires] >> op.bits & 1) << weight).sum(axis=-1)
        return np.asarray(values[starts + numbers])

    return Step(op, exact, sums.carrier(exact.bound), apply, 0, chooses=True)


def _softmax(op: ops.Softmax, x: Op) -> Step:
    exact = exact_result(op, x.format)

    def apply(place: Place, x: Carrier) -> Carrier:
        codes = x.astype(np.int64)
        weights = op.exponentials[codes.max(axis=-1, keepdims=True) - codes]
        total = weights.sum(axis=-1, keepdims=True)
        rounded = ((weights << (op.format.frac_bits + 1)) + total) // (2 * total)
        return np.asarray(np.minimum(rounded, op.format.max_code))

    return Step(op, exact, sums.carrier(exact.bound), apply, 0, chooses=True)


def _scan(op: ops.Scan, x: Op) -> Step:
    """Return the body's steps, one after another, on each row."""
    body, exact = body_of(op), exact_result(op, x.format)
    row, *states = body.inputs
    steps = [step_of(each, *body.sources(each)) for each in body.ops if not isinstance(each, Input)]

    def apply(place: Place, x: Carrier) -> Carrier:
        held = {state.name: np.zeros((len(x), *state.shape), np.int64) for state in states}
        outputs = []
        for number in range(op.rows):
            values: dict[str, Carrier] = {row.name: x[:, number], **held}
            for step in steps:
                result = step.apply((slice(0, len(x)),), *(values[name] for name in step.op.inputs))
                values[step.op.name] = cast(result, step) if step.casts and not step.chooses else result
            outputs.append(values[op.returns[0]])
            held = {state.name: values[name] for state, name in zip(states, op.returns[1:], strict=True)}
        return np.stack(outputs, axis=1) if op.every_row else outputs[-1]

    return Step(op, exact, sums.carrier(exact.bound), apply, 0, chooses=True)


STEPS: Mapping[type[Op], Callable[..., Step]] = {
    ops.Dense: _matmul,
    ops.Conv: _matmul,
    ops.BatchNorm: _batchnorm,
    ops.Relu: _relu,
    ops.LeakyRelu: _leaky_relu,
    ops.Requantize: _requantize,
    ops.Merge: _merge,
    ops.MaxPool: _max_pool,
    ops.SumPool: _sum_pool,
    ops.Reshape: _reshape,
    ops.Gather: _gather,
    ops.Lookup: _lookup,
    ops.TruthTable: _truth_table,
    ops.Softmax: _softmax,
    ops.Scan: _scan,
}
"""What an op computes, from the op and those it reads."""
GIVEN = (ops.Input,)
"""Ops that compute nothing: their codes come from outside."""


FLOAT_ROUNDINGS: Mapping[Rounding, Callable[..., Carrier]] = {
    Rounding.RND_CONV: np.rint,  # ties to even
    Rounding.RND: np.floor,  # of half a step more
    Rounding.TRN: np.floor,
}
FLOAT_SHIFTS = 100
"""A float32 holds a code times two to the power of minus this, and less."""


def cast(exact: Carrier, step: Step) -> Carrier:
    """Cast exact results, which are overwritten, to the format of the op; in floats where that is exact."""
    how, fmt = step.op.cast, step.op.format
    shift = step.exact.frac_bits - fmt.frac_bits
    half = 1 << shift - 1 if how.rounding is Rounding.RND and shift > 0 else 0
    holds = FLOAT32_EXACT if exact.dtype == np.float32 else FLOAT64_EXACT
    if (
        exact.dtype.kind == "f"
        and 0 <= shift < FLOAT_SHIFTS
        and max(step.exact.high + half, -step.exact.low) <= holds
        and how.divisor == 1
        and how.rounding in FLOAT_ROUNDINGS
        and how.overflow in (Overflow.SAT, Overflow.SAT_SYM)
    ):
        if half:
            exact += exact.dtype.type(half)
        if shift:
            exact *= exact.dtype.type(2.0**-shift)
            FLOAT_ROUNDINGS[how.rounding](exact, out=exact)
        return np.clip(exact, how.lowest_code, fmt.max_code, out=exact)
    return how(exact.astype(np.int64), step.exact.frac_bits)
