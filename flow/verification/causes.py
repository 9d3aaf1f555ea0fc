"""Causes: the op of a divergence with one of its settings changed, to find the setting that gives the observed codes.

Tried in this order, one change before two, and the first that gives every observed code is named: rounding and
overflow, output format, division, accumulator, formats of constants, padding, function and order and grid of the
inputs. Single numbers come after these (flow.verification.faults).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any, Generic, TypeVar

import numpy as np

from flow.errors import UnsupportedError
from flow.ir import fixed, ops
from flow.ir.fixed import Cast, Codes, Constant, FixedFormat, Overflow, Rounding, covering
from flow.ir.graph import IntGraph, Op
from flow.ir.intervals import common_grid, exact_result
from flow.ir.reference import run
from flow.ir.sums import Carrier

MOST_AXES = 4
"""Inputs and axes are put into every order up to this many."""
AnyOp = TypeVar("AnyOp", bound=Op, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site(Generic[AnyOp]):
    """An op by itself: what it reads, and what a level made of it.

    Attributes:
        op: the op.
        formats: name of each op that it reads -> format.
        inputs: name of each op that it reads -> codes (samples, *shape).
        observed: codes of `op` from the level (samples, *op.shape).
        exact: result of the op before its cast, int64; its codes where nothing is cast.
        frac_bits: fraction bits of `exact`.
    """

    op: AnyOp
    formats: Mapping[str, FixedFormat]
    inputs: Mapping[str, Codes]
    observed: Codes
    exact: Codes
    frac_bits: int

    @property
    def x(self) -> Codes:
        """What the op reads first."""
        return self.inputs[self.op.inputs[0]]

    def expected(self) -> Codes:
        """Return the codes that the op gives."""
        return self.cast(self.op)

    def cast(self, op: Op, exact: Codes | None = None) -> Codes:
        """Return the exact result (or another one on the same grid) cast as `op` casts."""
        return op.cast(self.exact if exact is None else exact, self.frac_bits)


Candidate = tuple[str, Callable[[Site[Op]], Codes]]
"""What is changed, in words, and the codes that the op then gives."""


def site(op: Op, formats: Mapping[str, FixedFormat], inputs: Mapping[str, Codes], observed: Codes) -> Site[Op]:
    """Return the site of an op."""
    _, exact, frac_bits = alone(op, formats, inputs)
    return Site(op=op, formats=formats, inputs=inputs, observed=observed, exact=exact, frac_bits=frac_bits)


def alone(op: Op, formats: Mapping[str, FixedFormat], inputs: Mapping[str, Codes]) -> tuple[Codes, Codes, int]:
    """Return the codes of an op for codes of its inputs, its exact result before the cast, and the grid of that."""
    ports = [ops.Input(name=name, inputs=(), shape=x.shape[1:], cast=Cast(formats[name])) for name, x in inputs.items()]
    graph = IntGraph(name="alone", ops=(*ports, op))
    parts: list[Codes] = []
    grid = [op.format.frac_bits]

    def keep(seen: Op, exact: Carrier, frac_bits: int) -> None:
        parts.append(exact.astype(np.int64))
        grid[0] = frac_bits

    codes = run(graph, graph.join_port(inputs), keep).codes[op.name].astype(np.int64)
    return codes, np.concatenate(parts) if parts else codes, grid[0]


def gives(candidate: Candidate, where: Site[Op]) -> bool:
    """Say whether a candidate gives every observed code; what cannot be computed exactly gives none."""
    try:
        return np.array_equal(candidate[1](where), where.observed)
    except UnsupportedError:
        return False


def settings(where: Site[Op]) -> Iterator[Candidate]:
    """Yield the op of a site under other settings, in the order that the module states."""
    for candidates in CAUSES[type(where.op)]:
        yield from candidates(where)


def changed(op: Op) -> Callable[[Site[Op]], Codes]:
    """Return what another op computes at a site."""
    return lambda where: alone(op, where.formats, where.inputs)[0]


def _modes(where: Site[Op]) -> Iterator[Candidate]:
    op = where.op
    modes = [(rounding, overflow) for rounding in Rounding for overflow in Overflow]
    own = (op.cast.rounding, op.cast.overflow)
    modes.sort(key=lambda mode: (mode[0] is not own[0]) + (mode[1] is not own[1]))  # one change before two
    for rounding, overflow in modes[1:]:
        new = [each.value for each in (rounding, overflow) if each not in own]
        old = [each.value for each in own if each not in (rounding, overflow)]
        yield f"{' and '.join(new)} instead of {' and '.join(old)}", _cast(op, rounding=rounding, overflow=overflow)


def _cast(op: Op, **settings: Any) -> Callable[[Site[Op]], Codes]:
    other = replace(op, cast=replace(op.cast, **settings))
    coarser = op.format.frac_bits - other.format.frac_bits
    return lambda where: where.cast(other) << coarser


def _softmax_modes(where: Site[ops.Softmax]) -> Iterator[Candidate]:
    """Yield the quotient rounded otherwise, and with its carry beyond the largest code."""
    op = where.op
    exponentials = op.exponentials

    def quotient(rounding: Rounding, overflow: Overflow) -> Callable[[Site[Op]], Codes]:
        def codes(where: Site[Op]) -> Codes:
            x = where.x.astype(np.int64)
            weights = exponentials[x.max(axis=-1, keepdims=True) - x]
            total = weights.sum(axis=-1, keepdims=True)
            share = fixed.round_quotient(weights << op.format.frac_bits, total, rounding)
            return fixed.overflow_to(share, op.format, overflow)

        return codes

    own = Rounding.RND
    for rounding in (each for each in Rounding if each is not own):
        yield f"{rounding.value} instead of {own.value}", quotient(rounding, Overflow.SAT)
    for overflow in (Overflow.WRAP, Overflow.SAT_ZERO):
        yield f"{overflow.value} instead of {Overflow.SAT.value}", quotient(own, overflow)


def _output_formats(where: Site[Op]) -> Iterator[Candidate]:
    op = where.op
    for fmt in _other_formats(op.format):
        yield f"an output of format {fmt} instead of {op.format}", _cast(op, format=fmt)


def _other_formats(fmt: FixedFormat) -> Iterator[FixedFormat]:
    """Yield formats close to one, on its grid or a coarser one, and that of the other signedness."""
    for int_bits in (fmt.int_bits, fmt.int_bits - 1, fmt.int_bits - 2, fmt.int_bits + 1):
        for frac_bits in (fmt.frac_bits, fmt.frac_bits - 1, fmt.frac_bits - 2):
            same = (int_bits, frac_bits) == (fmt.int_bits, fmt.frac_bits)
            if not same and 1 <= fmt.signed + int_bits + frac_bits < fixed.CODE_BITS:
                yield replace(fmt, int_bits=int_bits, frac_bits=frac_bits)
    if fmt.width > 1:
        yield replace(fmt, signed=not fmt.signed, int_bits=fmt.int_bits + (1 if fmt.signed else -1))


def _divisions_first(where: Site[Op]) -> Iterator[Candidate]:
    """Yield the quotient rounded by itself, before the cast."""
    op = where.op
    if op.cast.divisor != 1:
        for mode in (Rounding.TRN, Rounding.TRN_ZERO):
            yield f"a division by {op.cast.divisor} that is {mode.value} before the cast", _divided_first(op, mode)


def _divisors(where: Site[Op]) -> Iterator[Candidate]:
    op = where.op
    if op.cast.divisor != 1:
        powers = (1 << op.cast.divisor.bit_length() - 1, 1 << op.cast.divisor.bit_length())
        for divisor in dict.fromkeys((1, *powers, op.cast.divisor - 1, op.cast.divisor + 1)):
            if divisor != op.cast.divisor:
                yield f"a division by {divisor} instead of {op.cast.divisor}", _cast(op, divisor=divisor)


def _divided_first(op: Op, rounding: Rounding) -> Callable[[Site[Op]], Codes]:
    whole = replace(op, cast=replace(op.cast, divisor=1))
    return lambda where: where.cast(whole, fixed.round_quotient(where.exact, op.cast.divisor, rounding))


def _averages(where: Site[ops.SumPool]) -> Iterator[Candidate]:
    """Yield the averages over all pixels of a window, padding among them, and over the real ones only.

    An average is the sum times `weight` over a total, `weight * count` of a full window; where the division is left to
    a later op, only what has the same total can be told.
    """
    op = where.op
    counts, fused = op.window.counts(op.shape[:-1]), op.cast.divisor != 1
    total = op.cast.divisor if fused else int((op.weight.codes * counts).max())
    full = np.full_like(counts, op.window.pixels)
    for words, pixels in (("all pixels of a window", full), ("real pixels only", counts)):
        common = math.lcm(total, *np.unique(pixels).tolist())
        if fused or common == total:
            weight = common // pixels
            constant = Constant(weight, covering(0, int(weight.max()), 0))
            cast = replace(op.cast, divisor=common if fused else 1)
            yield f"an average over {words}", changed(replace(op, weight=constant, cast=cast))


def _accumulators(where: Site[ops.MatMul]) -> Iterator[Candidate]:
    op = where.op
    if op.accumulator is not None:
        yield from _narrower(where, op.accumulator, "an accumulator")


def _exact_widths(where: Site[Op]) -> Iterator[Candidate]:
    exact = exact_result(where.op, *(where.formats[name] for name in where.op.inputs))
    yield from _narrower(where, exact.format, "a result before the cast")


def _merged_widths(where: Site[ops.Merge]) -> Iterator[Candidate]:
    if where.op.function in ("add", "subtract", "multiply"):
        yield from _exact_widths(where)


def _narrower(where: Site[Op], own: FixedFormat, what: str) -> Iterator[Candidate]:
    """Yield narrower sums: without their top bits, or without their last ones."""
    op = where.op
    for width in range(own.width - 1, 1, -1):
        narrow = replace(own, int_bits=own.int_bits - (own.width - width))
        yield f"{what} of {width} bits that wraps, instead of {own.width},", _wrapped(op, narrow)
    for dropped in range(1, where.frac_bits - op.format.frac_bits):
        left = where.frac_bits - dropped
        yield f"{what} of {left} fraction bits that truncates, instead of {where.frac_bits},", _truncated(op, dropped)


def _wrapped(op: Op, fmt: FixedFormat) -> Callable[[Site[Op]], Codes]:
    return lambda where: where.cast(op, fixed.overflow_to(where.exact, fmt, Overflow.WRAP))


def _truncated(op: Op, dropped: int) -> Callable[[Site[Op]], Codes]:
    return lambda where: where.cast(op, where.exact >> dropped << dropped)


def _constant_formats(where: Site[Op]) -> Iterator[Candidate]:
    """Yield constants that lost their top bits or their last ones on the way into a narrower type."""
    op = where.op
    for name, constant in ops.constants(op).items():
        codes, fmt = constant.codes, constant.format
        for int_bits, frac_bits in ((1, 0), (2, 0), (0, 1), (0, 2)):
            if fmt.width <= int_bits + frac_bits:
                continue
            narrow = replace(fmt, int_bits=fmt.int_bits - int_bits, frac_bits=fmt.frac_bits - frac_bits)
            held = Cast(narrow)(codes, fmt.frac_bits) << frac_bits
            if not np.array_equal(held, codes):
                values: dict[str, Any] = {name: held if isinstance(op, ops.Lookup) else Constant(held, fmt)}
                yield f"{name} of format {narrow} instead of {fmt}", changed(replace(op, **values))


def _gathered_zeros(where: Site[ops.Gather]) -> Iterator[Candidate]:
    op = where.op
    if (op.index < 0).any():
        fmt = where.formats[op.inputs[0]]
        raised = where.frac_bits - fmt.frac_bits
        for words, fill in _fills(fmt, 0):
            yield words, _filled(op, fill << raised)


def _paddings(where: Site[ops.Conv | ops.Pool]) -> Iterator[Candidate]:
    op = where.op
    if not any(op.window.padding):
        return
    fmt = where.formats[op.inputs[0]]
    for words, fill in _fills(fmt, fmt.min_code if isinstance(op, ops.MaxPool) else 0):
        yield words, _padded_by_hand(op, fill)
    swapped = replace(op.window, pads=tuple((after, before) for before, after in op.window.pads))
    if swapped != op.window:
        words = f"padding {swapped.padding} instead of {op.window.padding}"
        yield words, changed(replace(op, window=swapped))


def _fills(fmt: FixedFormat, own: int) -> Iterator[tuple[str, int]]:
    top = fmt.min_code if fmt.signed else 1 << fmt.width - 1
    fills = {fmt.max_code: "the largest code", top: "the code whose top bit alone is set"}
    fills |= {fmt.min_code: "the smallest code", 0: "zero"}
    for fill in sorted(fills, key=abs):
        if fill != own:
            yield f"padding filled with {fills[fill]}, {fill}, instead of {own},", fill


def _filled(op: ops.Gather, fill: int) -> Callable[[Site[Op]], Codes]:
    return lambda where: where.cast(op, np.where(op.index < 0, fill, where.exact))


def _padded_by_hand(op: ops.Conv | ops.Pool, fill: int) -> Callable[[Site[Op]], Codes]:
    bare = replace(op, window=op.window.unpadded())

    def codes(where: Site[Op]) -> Codes:
        wide = np.pad(where.x, [(0, 0), *op.window.pads, (0, 0)], constant_values=fill)
        return alone(bare, where.formats, {op.inputs[0]: wide})[0]

    return codes


def _merge_functions(where: Site[ops.Merge]) -> Iterator[Candidate]:
    op = where.op
    for function in ops.MERGES:
        if function != op.function:
            yield f"{function} instead of {op.function}", changed(replace(op, function=function))


def _limits(where: Site[ops.Relu]) -> Iterator[Candidate]:
    op = where.op
    yield "the ReLU left away", lambda where: where.cast(op, where.x.astype(np.int64))
    if op.limit is not None:
        yield f"no limit instead of {op.limit}", changed(replace(op, limit=None))
        for limit in (op.limit - 1, op.limit + 1):
            yield f"limit {limit} instead of {op.limit}", changed(replace(op, limit=limit))


def _no_slope(where: Site[ops.LeakyRelu]) -> Iterator[Candidate]:
    op = where.op
    yield "zero instead of the slope", changed(replace(op, slope=Constant.zeros(*op.slope.codes.shape)))


def _smallest(where: Site[ops.MaxPool]) -> Iterator[Candidate]:
    op = where.op

    def smallest(where: Site[Op]) -> Codes:
        x = ~where.x.astype(np.int64)
        fmt = covering(int(x.min()), int(x.max()), op.format.frac_bits)
        return ~alone(replace(op, cast=replace(op.cast, format=fmt)), {op.inputs[0]: fmt}, {op.inputs[0]: x})[0]

    yield "the smallest code of a window", smallest


def _input_orders(where: Site[Op]) -> Iterator[Candidate]:
    op = where.op
    if len(op.inputs) <= MOST_AXES:
        for names in dict.fromkeys(permutations(op.inputs)):
            if names != op.inputs:
                words = f"inputs in the order {', '.join(names)} instead of {', '.join(op.inputs)}"
                yield words, changed(replace(op, inputs=names))


def _axis_orders(where: Site[ops.Gather | ops.Reshape]) -> Iterator[Candidate]:
    """Yield the op with the axes of what it moves in other orders."""
    op = where.op
    if len(op.inputs) == 1:
        shape = where.x.shape[1:]
        for axes in permutations(range(len(shape))) if len(shape) <= MOST_AXES else ():
            if axes != tuple(range(len(shape))):
                positions = np.arange(math.prod(shape)).reshape(shape).transpose(axes).reshape(-1)
                yield f"its input read with axes in the order {axes}", changed(as_gather(op, positions))


def as_gather(op: ops.Gather | ops.Reshape, positions: Codes) -> ops.Gather:
    """Return an op that moves codes, reading `positions` (flat) of its input instead of all in order."""
    index = op.index if isinstance(op, ops.Gather) else np.arange(len(positions)).reshape(op.shape)
    moved = np.append(positions, -1)[index]
    common = {item.name: getattr(op, item.name) for item in fields(Op)}
    return ops.Gather(**{**common, "shape": moved.shape, "index": moved})


def _input_grids(where: Site[Op]) -> Iterator[Candidate]:
    """Yield the op with one input taken for another grid: what a wrong shift of it does."""
    op = where.op
    for name, fmt in where.formats.items():
        finest = common_grid(list(where.formats.values()))[0].frac_bits
        for frac_bits in dict.fromkeys((finest, *(fmt.frac_bits + shift for shift in (1, -1, 2, -2)))):
            if frac_bits != fmt.frac_bits:
                other = replace(fmt, int_bits=fmt.int_bits + fmt.frac_bits - frac_bits, frac_bits=frac_bits)
                words = f"input '{name}' taken for one of {frac_bits} fraction bits instead of {fmt.frac_bits}"
                yield words, _on_grid(op, name, other)


def _on_grid(op: Op, name: str, fmt: FixedFormat) -> Callable[[Site[Op]], Codes]:
    return lambda where: alone(op, {**where.formats, name: fmt}, where.inputs)[0]


def _row_orders(where: Site[ops.Scan]) -> Iterator[Candidate]:
    """Yield the rows from the last to the first, and states that stay what they are at first."""
    op, (name,) = where.op, where.op.inputs
    yield (
        "rows from the last to the first",
        lambda where: alone(op, where.formats, {name: where.inputs[name][:, ::-1]})[0],
    )
    _, *states = (each.name for each in op.body if isinstance(each, ops.Input))
    yield "states that stay zero", changed(replace(op, returns=(op.returns[0], *states)))


_CAST = (_modes, _output_formats, _divisions_first, _divisors)
CAUSES: Mapping[type[Op], tuple[Callable[[Site[Any]], Iterator[Candidate]], ...]] = {
    ops.Input: (),  # its codes are given
    ops.Dense: (*_CAST, _accumulators, _constant_formats, _input_grids),
    ops.Conv: (*_CAST, _accumulators, _constant_formats, _paddings, _input_grids),
    ops.BatchNorm: (*_CAST, _constant_formats, _input_grids),
    ops.Relu: (*_CAST, _limits, _input_grids),
    ops.LeakyRelu: (*_CAST, _constant_formats, _no_slope, _input_grids),
    ops.Requantize: (*_CAST, _input_grids),
    ops.Merge: (*_CAST, _merged_widths, _merge_functions, _input_orders, _input_grids),
    ops.MaxPool: (*_CAST, _paddings, _smallest),
    ops.SumPool: (
        *(_modes, _output_formats, _divisions_first, _averages, _divisors),
        *(_exact_widths, _constant_formats, _paddings, _input_grids),
    ),
    ops.Reshape: (*_CAST, _axis_orders),
    ops.Gather: (*_CAST, _gathered_zeros, _input_orders, _axis_orders, _input_grids),
    ops.Lookup: (*_CAST, _constant_formats),
    ops.TruthTable: (),  # its tables and wires are single numbers
    ops.Softmax: (_softmax_modes, _output_formats, _divisions_first, _divisors),
    ops.Scan: (_row_orders,),
}
"""The settings of an op that are tried, in order."""
