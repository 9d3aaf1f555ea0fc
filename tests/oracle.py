"""The oracle: what a graph means, once more, slowly, in Python's unbounded integers and with other formulas.

It shares no arithmetic with `ir.fixed`, `ir.intervals` and `ir.reference`: a value is a Fraction, rounding is
written as it stands in Vitis HLS' user guide, a convolution is a loop over windows.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from itertools import product

import numpy as np

from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.ir.graph import (
    BatchNorm,
    Conv,
    Dense,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MaxPool,
    Merge,
    Op,
    Relu,
    Requantize,
    Reshape,
    Scan,
    Softmax,
    SumPool,
    TruthTable,
    body_of,
)

HALF = Fraction(1, 2)
Exact = np.ndarray  # of Fractions


def round_fraction(value: Fraction, rounding: Rounding) -> int:
    """Return the integer that UG1399's quantization mode gives."""
    size, sign = abs(value), (value > 0) - (value < 0)
    return {
        Rounding.TRN: lambda: math.floor(value),
        Rounding.TRN_ZERO: lambda: math.trunc(value),
        Rounding.RND: lambda: math.floor(value + HALF),
        Rounding.RND_MIN_INF: lambda: math.ceil(value - HALF),
        Rounding.RND_ZERO: lambda: sign * math.ceil(size - HALF),
        Rounding.RND_INF: lambda: sign * math.floor(size + HALF),
        Rounding.RND_CONV: lambda: round(value),
    }[rounding]()


def limit(code: int, fmt: FixedFormat, overflow: Overflow) -> int:
    """Return the code of `fmt` that UG1399's overflow mode gives."""
    width = fmt.signed + fmt.int_bits + fmt.frac_bits
    high = 2 ** (width - 1) - 1 if fmt.signed else 2**width - 1
    low = -high - 1 if fmt.signed else 0
    if overflow is Overflow.WRAP:
        return (code - low) % 2**width + low
    if overflow is Overflow.SAT_SYM and fmt.signed:
        return max(-high, min(high, code))
    if low <= code <= high:
        return code
    return 0 if overflow is Overflow.SAT_ZERO else max(low, min(high, code))


def cast(value: Fraction, fmt: FixedFormat, rounding: Rounding, overflow: Overflow) -> int:
    """Return the code of `fmt` that a value becomes."""
    return limit(round_fraction(value * Fraction(2) ** fmt.frac_bits, rounding), fmt, overflow)


def evaluate(graph: IntGraph, codes: Codes) -> dict[str, Codes]:
    """Return every op's output codes, int64 (samples, *shape)."""
    values: dict[str, Exact] = {}
    out: dict[str, Codes] = {}
    ports = codes.reshape(len(codes), -1)
    for op in graph.ops:
        if isinstance(op, Input):
            size = math.prod(op.shape)
            out[op.name], ports = ports[:, :size].reshape(len(codes), *op.shape), ports[:, size:]
        else:
            samples = zip(*(values[name] for name in op.inputs), strict=True)
            out[op.name] = np.stack([_codes(op, graph, *sample) for sample in samples])
        values[op.name] = to_fractions(out[op.name], op.format)
    return out


def to_fractions(codes: Codes, fmt: FixedFormat) -> Exact:
    step = Fraction(2) ** -fmt.frac_bits
    out = np.empty(codes.shape, object)
    out.reshape(-1)[:] = [int(code) * step for code in codes.reshape(-1)]
    return out


def _apply(op: Op, graph: IntGraph, x: Exact, *others: Exact) -> Exact:
    if isinstance(op, Dense):
        return x @ to_fractions(op.weight.codes, op.weight.format) + to_fractions(op.bias.codes, op.bias.format)
    if isinstance(op, Conv):
        return _conv(op, x)
    if isinstance(op, MaxPool):
        windows = _windows(x, op.shape, op.window.size, op.window.strides, op.window.padding)
        return np.stack([np.max(np.stack([p for _, p in pixels]), axis=0) for pixels in windows]).reshape(op.shape)
    if isinstance(op, SumPool):
        windows = _windows(x, op.shape, op.window.size, op.window.strides, op.window.padding)
        sums = np.stack([sum(pixel for _, pixel in pixels) for pixels in windows]).reshape(op.shape)
        return sums * to_fractions(op.weight.codes, op.weight.format)[..., None]
    if isinstance(op, BatchNorm):
        return x * to_fractions(op.scale.codes, op.scale.format) + to_fractions(op.offset.codes, op.offset.format)
    if isinstance(op, Relu):
        high = None if op.limit is None else op.limit * Fraction(2) ** -graph[op.inputs[0]].format.frac_bits
        above = np.where(x > 0, x, Fraction(0))
        return above if high is None else np.where(above < high, above, high)
    if isinstance(op, LeakyRelu):
        return np.where(x < 0, x * to_fractions(op.slope.codes, op.slope.format), x)
    if isinstance(op, Merge):
        return reduce(MERGES[op.function], others, x)
    if isinstance(op, Gather):
        joined = [value for each in (x, *others) for value in each.reshape(-1)]
        out = np.empty(op.shape, object)
        out.reshape(-1)[:] = [joined[i] if i >= 0 else Fraction(0) for i in op.index.reshape(-1).tolist()]
        return out
    if isinstance(op, Lookup):
        flat = x.reshape(-1, x.shape[-1])
        return np.array([[_looked_up(op, graph, *pair) for pair in enumerate(row)] for row in flat]).reshape(x.shape)
    if isinstance(op, TruthTable):
        return _from_tables(op, graph, (x, *others))
    if isinstance(op, Softmax):
        return np.stack([_softmax(op, graph, row) for row in x.reshape(-1, x.shape[-1])]).reshape(x.shape)
    if isinstance(op, Scan):
        return _scan(op, x)
    if isinstance(op, Reshape):
        return x.reshape(op.shape)
    assert isinstance(op, Requantize)
    return x


MERGES = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": lambda a, b: np.where(a > b, a, b),
    "minimum": lambda a, b: np.where(a < b, a, b),
}


def _codes(op: Op, graph: IntGraph, *inputs: Exact) -> Codes:
    """Return the codes of an op for one sample of what it reads."""
    exact, how = _apply(op, graph, *inputs), op.cast
    flat = [cast(value / how.divisor, op.format, how.rounding, how.overflow) for value in exact.reshape(-1)]
    return np.array(flat, np.int64).reshape(exact.shape)


def _scan(op: Scan, x: Exact) -> Exact:
    body, outputs = body_of(op), []
    row, *states = body.inputs
    held = {state.name: np.full(state.shape, Fraction(0)) for state in states}
    for values_of_row in x:
        values = {row.name: values_of_row, **held}
        for each in body.ops[1 + len(states) :]:
            codes = _codes(each, body, *(values[name] for name in each.inputs))
            values[each.name] = to_fractions(codes, each.format)
        outputs.append(values[op.returns[0]])
        held = {state.name: values[name] for state, name in zip(states, op.returns[1:], strict=True)}
    return np.stack(outputs) if op.every_row else outputs[-1]


def _conv(op: Conv, x: Exact) -> Exact:
    weight, bias = to_fractions(op.weight.codes, op.weight.format), to_fractions(op.bias.codes, op.bias.format)
    of_group, filters = x.shape[-1] // op.groups, weight.shape[-1] // op.groups
    rows = []
    for pixels in _windows(x, op.shape, weight.shape[:-2], op.window.strides, op.window.padding):
        row = list(bias)
        for (place, pixel), out in product(pixels, range(weight.shape[-1])):
            first = out // filters * of_group
            row[out] += sum(pixel[first + i] * weight[(*place, i, out)] for i in range(of_group))
        rows.append(np.array(row, object))
    return np.stack(rows).reshape(op.shape)


def _looked_up(op: Lookup, graph: IntGraph, channel: int, value: Fraction) -> Fraction:
    code = value * Fraction(2) ** graph[op.inputs[0]].format.frac_bits
    starts, values = (each if each.ndim == 1 else each[channel] for each in (op.starts, op.values))
    runs = [run for run, start in enumerate(starts.tolist()) if start <= code]
    return int(values[runs[-1]]) * Fraction(2) ** -op.format.frac_bits


def _from_tables(op: TruthTable, graph: IntGraph, inputs: tuple[Exact, ...]) -> Exact:
    codes = [
        int(value * Fraction(2) ** graph[name].format.frac_bits)
        for name, each in zip(op.inputs, inputs, strict=True)
        for value in each.reshape(-1)
    ]
    out = np.empty(op.shape, object)
    for place in np.ndindex(op.shape):
        pairs = zip(op.wires[place].tolist(), op.bits[place].tolist(), strict=True)
        number = sum((codes[wire] >> bit & 1) << i for i, (wire, bit) in enumerate(pairs) if wire >= 0)
        out[place] = Fraction(int(op.values[place][number]), 1) / Fraction(2) ** op.format.frac_bits
    return out


def _softmax(op: Softmax, graph: IntGraph, row: Exact) -> Exact:
    codes = row * Fraction(2) ** graph[op.inputs[0]].format.frac_bits
    weights = [int(op.exponentials[int(max(codes) - code)]) for code in codes]
    steps = [math.floor(Fraction(weight * 2**op.format.frac_bits, sum(weights)) + HALF) for weight in weights]
    out = np.empty(row.shape, object)
    out[:] = [
        min(step, 2 ** (op.format.int_bits + op.format.frac_bits) - 1) / Fraction(2) ** op.format.frac_bits
        for step in steps
    ]
    return out


def _windows(x: Exact, shape: tuple[int, ...], size: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]):
    """Yield, per output pixel, the (place in the window, input pixel) pairs that lie inside the input."""
    for out in product(*(range(n) for n in shape[:-1])):
        first = [position * step - before for position, step, before in zip(out, strides, pads[::2], strict=True)]
        inside = []
        for place in product(*(range(n) for n in size)):
            at = tuple(start + offset for start, offset in zip(first, place, strict=True))
            if all(0 <= i < n for i, n in zip(at, x.shape, strict=False)):
                inside.append((place, x[at]))
        yield inside
