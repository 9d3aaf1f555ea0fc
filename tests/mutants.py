"""Mutants of an op: one thing about it changed, and the codes that it then gives for what it reads.

A mutant stands for an emission gone wrong in one place. Changes that an op can state (a constant, a mode, a window)
are made to the op, so that the mutated graph can be emitted as well; what a project can do and no op can state
(another fill of the padding, a result too narrow before its cast) is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any

import numpy as np
from nets import altered

from flow.ir.fixed import CODE_BITS, Cast, Codes, Constant, FixedFormat, Overflow, Rounding, overflow_to
from flow.ir.graph import (
    MERGES,
    Conv,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MatMul,
    MaxPool,
    Merge,
    Op,
    Pool,
    Relu,
    Requantize,
    Reshape,
    Scan,
    Softmax,
    TruthTable,
    constants,
)
from flow.ir.intervals import exact_result
from flow.ir.windows import Window
from flow.verification.causes import alone

SEED = 7
CAST = {"cast", "accumulator", "channel_bits", "layers", "fused"}
"""Fields of an op that say nothing about its exact result."""


@dataclass(frozen=True, eq=False)
class Site:
    """An op with what it reads and gives on some samples.

    Attributes:
        op: the op as it should be.
        formats, inputs: format and codes (samples, *shape) of each op that it reads.
        codes: of the op.
        exact, frac_bits: its exact result before the cast and the grid of that; its codes where nothing is cast.
    """

    op: Op
    formats: Mapping[str, FixedFormat]
    inputs: Mapping[str, Codes]
    codes: Codes
    exact: Codes
    frac_bits: int


def site(graph: IntGraph, op: Op, known: Mapping[str, Codes]) -> Site:
    """Return the site of an op of a graph, given the codes of what it reads."""
    formats = {source.name: source.format for source in graph.sources(op)}
    inputs = {name: known[name].astype(np.int64) for name in formats}
    codes, exact, frac_bits = alone(op, formats, inputs)
    return Site(op, formats, inputs, codes, exact, frac_bits)


@dataclass(frozen=True, eq=False)
class Mutant:
    """An op with one thing changed.

    Attributes:
        kind: what is changed ("weight bit").
        what: which one, and how.
        op: the op as it is computed.
        read: how it sees what it reads first, if not as it is.
        held: the format in which an exact result is held, where it wraps, if that is too narrow; a matrix product's is
            the accumulator of `op`.
    """

    kind: str
    what: str
    op: Op
    read: Callable[[Codes], Codes] | None = None
    held: FixedFormat | None = None

    def codes(self, where: Site) -> Codes:
        """Return what it gives, codes of `op.format`."""
        op, exact, frac_bits = self.op, where.exact, where.frac_bits
        if self.read is not None or not _same_result(op, where.op):
            inputs = {name: codes if self.read is None else self.read(codes) for name, codes in where.inputs.items()}
            _, exact, frac_bits = alone(op, where.formats, inputs)
        held = op.accumulator if isinstance(op, MatMul) else self.held
        if held is not None:
            raised = held.frac_bits - frac_bits
            exact = overflow_to(exact << raised if raised >= 0 else exact >> -raised, held, Overflow.WRAP)
            frac_bits = held.frac_bits
        return op.cast(exact, frac_bits)

    def differs(self, where: Site) -> bool:
        """Say whether any value that it gives is another than it should be."""
        finest = max(self.op.format.frac_bits, where.op.format.frac_bits)
        found = self.codes(where) << (finest - self.op.format.frac_bits)
        return not np.array_equal(found, where.codes << (finest - where.op.format.frac_bits))

    def graph(self, graph: IntGraph) -> IntGraph | None:
        """Return the mutated graph, or None if no graph can state it."""
        if self.read is not None or self.held is not None:
            return None
        try:
            return replace(graph, ops=tuple(self.op if op.name == self.op.name else op for op in graph.ops))
        except AssertionError:  # a table or a pooling is tied to the format
            return None


def _same_result(op: Op, other: Op) -> bool:
    if isinstance(op, Softmax) and op.format != other.format:  # its quotients are made on the grid of its format
        return False
    return type(op) is type(other) and all(
        getattr(op, item.name) is getattr(other, item.name) for item in fields(op) if item.name not in CAST
    )


def targets(graph: IntGraph) -> list[Op]:
    """Return the ops that have mutants: a Reshape computes nothing, and an Input is what its readers read."""
    return [op for op in graph.ops if not isinstance(op, Input | Reshape)]


def mutants(graph: IntGraph, op: Op, most: int | None = None) -> list[Mutant]:
    """Return the mutants of an op; of each kind at most `most`, chosen by chance but always the same."""
    found: dict[str, list[Mutant]] = {}
    for mutant in _all(graph, op):
        found.setdefault(mutant.kind, []).append(mutant)
    rng = np.random.default_rng(SEED)
    return [each[i] for each in found.values() for i in np.sort(rng.permutation(len(each))[:most])]


def _all(graph: IntGraph, op: Op) -> Iterator[Mutant]:
    sources = graph.sources(op)
    yield from _modes(op)
    yield from _widths(op)
    yield from _held(op, [source.format for source in sources])
    yield from _bits(op)
    if op.cast.divisor != 1:
        for divisor in dict.fromkeys((1, op.cast.divisor - 1, op.cast.divisor + 1, 1 << op.cast.divisor.bit_length())):
            if divisor not in (0, op.cast.divisor):
                yield Mutant("divisor", f"{divisor} for {op.cast.divisor}", altered(op, divisor=divisor))
    if isinstance(op, Conv | Pool):
        yield from _windows(op, sources[0])
    elif isinstance(op, Merge):
        yield from _merges(op)
    elif isinstance(op, Gather):
        yield from _moves(op, sum(math.prod(source.shape) for source in sources))
    elif isinstance(op, Lookup):
        yield from _starts(op, sources[0].format)
    elif isinstance(op, TruthTable):
        yield from _truths(op, sum(math.prod(source.shape) for source in sources))
    elif isinstance(op, Softmax):
        yield from _entries(op)
    elif isinstance(op, Relu | LeakyRelu):
        yield from _activations(op)
    elif isinstance(op, Scan):
        yield from _rows(op)


def _modes(op: Op) -> Iterator[Mutant]:
    if isinstance(
        op, MaxPool | Lookup | TruthTable | Softmax | Scan
    ):  # their codes are those of their format: nothing is cast
        return
    for rounding in Rounding:
        if rounding is not op.cast.rounding:
            yield Mutant("rounding", f"{rounding.value} for {op.cast.rounding.value}", altered(op, rounding=rounding))
    for overflow in Overflow:
        if overflow is not op.cast.overflow:
            yield Mutant("overflow", f"{overflow.value} for {op.cast.overflow.value}", altered(op, overflow=overflow))


def _widths(op: Op) -> Iterator[Mutant]:
    """Yield result types of one bit less or more at either end, and of the other signedness."""
    fmt = op.format
    for signed, int_bits, frac_bits in (
        (fmt.signed, fmt.int_bits - 1, fmt.frac_bits),
        (fmt.signed, fmt.int_bits + 1, fmt.frac_bits),
        (fmt.signed, fmt.int_bits, fmt.frac_bits - 1),
        (fmt.signed, fmt.int_bits, fmt.frac_bits + 1),
        (not fmt.signed, fmt.int_bits + (1 if fmt.signed else -1), fmt.frac_bits),
    ):
        if 1 <= signed + int_bits + frac_bits < CODE_BITS:
            other = FixedFormat(signed, int_bits, frac_bits)
            values = (
                {"values": overflow_to(op.values, other, Overflow.WRAP)} if isinstance(op, Lookup | TruthTable) else {}
            )
            yield _with(op, "result width", f"{other} for {fmt}", {"cast": replace(op.cast, format=other), **values})


def _held(op: Op, formats: list[FixedFormat]) -> Iterator[Mutant]:
    """Yield exact results held without their top bits."""
    if isinstance(op, MatMul):
        own = op.accumulator
        assert own is not None
    elif isinstance(op, MaxPool | Lookup | TruthTable | Softmax | Gather):
        return
    else:
        exact = exact_result(op, *formats)
        width = max(max(exact.high, -exact.low - 1).bit_length() + 1, exact.frac_bits - op.format.frac_bits + 2)
        own = FixedFormat(True, width - 1 - exact.frac_bits, exact.frac_bits)
    for width in range(own.width - 1, max(own.width - 4, 1), -1):
        narrow = replace(own, int_bits=own.int_bits - (own.width - width))
        what = f"{width} bits for {own.width}"
        if isinstance(op, MatMul):
            yield Mutant("accumulator", what, replace(op, accumulator=narrow))
        else:
            yield Mutant("exact result", what, op, held=narrow)


def _bits(op: Op) -> Iterator[Mutant]:
    """Yield every constant with each of its bits flipped, and constants in types of one bit less."""
    for name, constant in constants(op).items():
        codes, fmt = constant.codes, constant.format
        for place in np.ndindex(codes.shape):
            for bit in range(fmt.width):
                other = codes.copy()
                other[place] ^= np.int64(1) << bit
                other = overflow_to(other, fmt, Overflow.WRAP)
                yield _with(op, f"{name} bit", f"{name} {place} with bit {bit} flipped", {name: _codes(op, other, fmt)})
        for int_bits, frac_bits in ((1, 0), (0, 1)):
            if fmt.width > 1:
                narrow = replace(fmt, int_bits=fmt.int_bits - int_bits, frac_bits=fmt.frac_bits - frac_bits)
                other = Cast(narrow)(codes, fmt.frac_bits) << frac_bits
                if not np.array_equal(other, codes):
                    yield _with(op, f"{name} width", f"{narrow} for {fmt}", {name: _codes(op, other, fmt)})


def _codes(op: Op, codes: Codes, fmt: FixedFormat) -> Codes | Constant:
    """Return codes as an op holds them: the values of a table are bare, in the format of its output."""
    return codes if isinstance(op, Lookup) else Constant(codes, fmt)


def _with(op: Op, kind: str, what: str, values: Mapping[str, Any]) -> Mutant:
    return Mutant(kind, what, replace(op, **values))


def _windows(op: Conv | Pool, source: Op) -> Iterator[Mutant]:
    """Yield other strides, windows and padding that give as many results, and windows moved by one."""
    fmt = source.format
    own = fmt.min_code if isinstance(op, MaxPool) else 0
    geometry = {"strides": "strides", "window": "size"}
    if isinstance(op, Conv):  # its window is as large as its weight
        del geometry["window"]
    own_window = op.window
    for axis in range(len(own_window.strides)):
        for by in (1, -1):
            for name, field in geometry.items():
                if name == "strides" and op.shape[axis] == 1:  # there is no second window
                    continue
                other = _moved(getattr(own_window, field), axis, by)
                window = _padded(replace(own_window, **{field: other}), op, source, axis)
                if window is not None:
                    yield _with(op, name, f"{other} for {getattr(own_window, field)}", {"window": window})
            padding = _moved(_moved(own_window.padding, 2 * axis, by), 2 * axis + 1, -by)
            if min(padding) >= 0:
                window = Window.with_padding(own_window.size, own_window.strides, padding)
                yield _with(op, "padding", f"{padding} for {own_window.padding}", {"window": window})
            yield Mutant("place", f"windows moved by {by} along axis {axis}", op, read=_shifted(axis, by, own))
    if any(own_window.padding):
        bare = replace(op, window=own_window.unpadded())
        for fill in sorted({fmt.min_code, 0, fmt.max_code} - {own}):
            yield Mutant("fill", f"{fill} for {own}", bare, read=_filled(own_window, fill))


def _moved(values: tuple[int, ...], axis: int, by: int) -> tuple[int, ...]:
    return (*values[:axis], values[axis] + by, *values[axis + 1 :])


def _padded(window: Window, op: Conv | Pool, source: Op, axis: int) -> Window | None:
    """Return a window with the padding with which it gives as many results as the op has, or None."""
    if min(*window.size, *window.strides) < 1:
        return None
    for more in range(-window.pads[axis][1], sum(source.shape)):
        padding = _moved(window.padding, 2 * axis + 1, more)
        padded = Window.with_padding(window.size, window.strides, padding)
        if padded.positions(source.shape) == op.shape[:-1]:
            return padded
    return None


def _shifted(axis: int, by: int, fill: int) -> Callable[[Codes], Codes]:
    def read(codes: Codes) -> Codes:
        moved = np.roll(codes, -by, axis + 1)
        gap = [slice(None)] * codes.ndim
        gap[axis + 1] = slice(-1, None) if by > 0 else slice(0, 1)
        moved[tuple(gap)] = fill
        return moved

    return read


def _filled(window: Window, fill: int) -> Callable[[Codes], Codes]:
    pads = [(0, 0), *window.pads, (0, 0)]
    return lambda codes: np.pad(codes, pads, constant_values=fill)


def _merges(op: Merge) -> Iterator[Mutant]:
    for function in MERGES:
        if function != op.function:
            yield Mutant("function", f"{function} for {op.function}", replace(op, function=function))
    for names in dict.fromkeys(permutations(op.inputs)):
        if names != op.inputs:
            yield Mutant("inputs", f"{names} for {op.inputs}", replace(op, inputs=names))


def _moves(op: Gather, total: int) -> Iterator[Mutant]:
    for place in np.ndindex(op.index.shape):
        own = int(op.index[place])
        for other in dict.fromkeys(((own + 1) % total, -1)):
            if other != own:
                index = op.index.copy()
                index[place] = other
                yield Mutant("index", f"{place} from {other} for {own}", replace(op, index=index))


def _starts(op: Lookup, x: FixedFormat) -> Iterator[Mutant]:
    for place in np.ndindex(op.starts.shape):
        for by in (1, -1):
            starts = op.starts.copy()
            starts[place] += by
            own = starts if starts.ndim == 1 else starts[place[0]]
            if place[-1] and (np.diff(own) > 0).all() and own[-1] <= x.max_code:
                words = f"run {place} from {starts[place]} for {op.starts[place]}"
                yield Mutant("start", words, replace(op, starts=starts))


def _truths(op: TruthTable, total: int) -> Iterator[Mutant]:
    """Yield tables with single bits of their codes flipped, and with other wires."""
    for place in np.ndindex(op.values.shape):
        for bit in range(op.format.width):
            values = op.values.copy()
            values[place] ^= np.int64(1) << bit
            values = overflow_to(values, op.format, Overflow.WRAP)
            yield Mutant("table bit", f"{place} with bit {bit} flipped", replace(op, values=values))
    for place in np.ndindex(op.wires.shape):
        if op.wires[place] != -1:
            wires, bits = op.wires.copy(), op.bits.copy()
            wires[place], bits[place] = (wires[place] + 1) % total, 0
            yield Mutant("wire", f"{place} from {wires[place]}", replace(op, wires=wires, bits=bits))


def _entries(op: Softmax) -> Iterator[Mutant]:
    """Yield the table of exponentials with single bits flipped; its first entry is never zero."""
    for entry in range(len(op.exponentials)):
        for bit in range(int(op.exponentials.max()).bit_length()):
            table = op.exponentials.copy()
            table[entry] ^= 1 << bit
            if table[0]:
                yield Mutant("exponential bit", f"entry {entry}, bit {bit}", replace(op, exponentials=table))


def _activations(op: Relu | LeakyRelu) -> Iterator[Mutant]:
    common = {item.name: getattr(op, item.name) for item in fields(Op)}
    yield Mutant("function", "left away", Requantize(**common))
    if isinstance(op, LeakyRelu):
        yield Mutant("function", "relu", Relu(**common))
    elif op.limit is not None:
        for limit in (None, op.limit - 1, op.limit + 1):
            yield Mutant("limit", f"{limit} for {op.limit}", replace(op, limit=limit))


def _rows(op: Scan) -> Iterator[Mutant]:
    """Yield another order of the rows, states that are lost, and bits of the constants of the body."""
    yield Mutant("row order", "last to first", op, read=lambda codes: codes[:, ::-1])
    states = [each.name for each in op.body if isinstance(each, Input)][1:]
    yield Mutant("states", "always zero", replace(op, returns=(op.returns[0], *states)))
    for place, each in enumerate(op.body):
        for mutant in _bits(each):
            body = (*op.body[:place], mutant.op, *op.body[place + 1 :])
            yield Mutant("body bit", f"{each.name}: {mutant.what}", replace(op, body=body))
