"""Faults: the op of a divergence with single numbers of it changed: a weight, a bias, a table entry, a moved code.

The search is bounded: at most `MOST_PLACES` channels, elements or entries may diverge, and for each the numbers that
`near` gives are tried, first on a few samples and then on all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice, product
from typing import Any

import numpy as np

from flow.ir import ops
from flow.ir.fixed import Codes, Constant, FixedFormat, covering
from flow.ir.graph import Op
from flow.verification.causes import Candidate, Site, alone, as_gather, changed

MOST_PLACES = 4
MOST_NUMBERS = 1 << 17
"""Largest number of changed constants that are tried for one channel."""
NARROW_BITS = 5
"""Width up to which all codes of a format are tried."""
MOST_ENTRIES = 64
"""Entries of a softmax's table that are tried."""
SURVIVORS = 32
"""Changes that fit the few samples and are tried on all."""
PRODUCTS, WEIGHTS = 1 << 31, 1 << 22
"""Products that the few samples may take in all, and weights of one batch of changed constants."""


def faults(where: Site[Op], wrong: Codes) -> Iterator[Candidate]:
    """Yield the op of a site with single numbers changed.

    Args:
        where: the site, with all samples that count.
        wrong: bool, the shape of the observed codes: where they are not what the op gives.
    """
    if type(where.op) not in WITHOUT_NUMBERS:
        yield from FAULTS[type(where.op)](where, wrong)


def near(code: int, fmt: FixedFormat) -> list[int]:
    """Return the codes to try instead of one: all of a narrow format, else those one change away.

    That is one step, one bit of the format, one shift, the sign, zero, or any power of two; the nearest come first.
    """
    if fmt.width <= NARROW_BITS:
        found = set(range(fmt.min_code, fmt.max_code + 1))
    else:
        bits = [(code & (1 << fmt.width) - 1) ^ (1 << bit) for bit in range(fmt.width)]
        found = {each - (1 << fmt.width) if fmt.signed and each >> (fmt.width - 1) else each for each in bits}
        found |= {sign << exponent for exponent in range(fmt.width) for sign in (1, -1)}
    found |= {code + 1, code - 1, -code, code * 2, code >> 1, 0}
    return sorted(found - {code}, key=lambda each: (abs(each - code), each))


# constants of a channel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lane:
    """One channel of an op, or the elements that share one slope, with the constants that act there.

    Attributes:
        op: the op with this channel alone.
        place: index of the channel's constants after their position in `constants`.
        constants: field of `op` -> what it holds there, last axis 1.
        formats, inputs, observed: as a site has them; the inputs of ops without products have a last axis of 1.
    """

    op: ops.MatMul | ops.BatchNorm | ops.LeakyRelu
    place: tuple[int, ...]
    constants: Mapping[str, Constant]
    formats: Mapping[str, FixedFormat]
    inputs: Mapping[str, Codes]
    observed: Codes

    def part(self, samples: slice) -> _Lane:
        inputs = {name: codes[samples] for name, codes in self.inputs.items()}
        return replace(self, inputs=inputs, observed=self.observed[samples])


_Change = tuple[str, tuple[int, ...], int]
"""Field, position in it, code that stands there instead."""


def _constants(where: Site[ops.MatMul | ops.BatchNorm | ops.LeakyRelu], wrong: Codes) -> Iterator[Candidate]:
    """Yield the op with one constant changed in each diverging channel, where each has such constants."""
    lanes = [_lane(where, place) for place in _places(where.op, wrong)]
    if not 1 <= len(lanes) <= MOST_PLACES:
        return
    fitting = [list(_fitting(lane)) for lane in lanes]
    for chosen in islice(product(*fitting), SURVIVORS):
        changed_codes = {name: constant.codes.copy() for name, constant in ops.constants(where.op).items()}
        words = []
        for lane, (name, position, code) in zip(lanes, chosen, strict=True):
            index = (*position, *lane.place)
            words.append(f"{name} {index} of {code} instead of {changed_codes[name][index]}")
            changed_codes[name][index] = code
        yield " and ".join(words), changed(_with(where.op, changed_codes))


def _places(op: Op, wrong: Codes) -> list[tuple[int, ...]]:
    """Return the indices of diverging channels; of slopes, those that act on diverging elements."""
    indices = np.argwhere(wrong)[:, 1:]
    if isinstance(op, ops.LeakyRelu):
        indices = np.where(np.array(op.slope.codes.shape) == 1, 0, indices[:, indices.shape[1] - op.slope.codes.ndim :])
    else:
        indices = indices[:, -1:]
    return [tuple(index) for index in np.unique(indices, axis=0).tolist()]


def _lane(where: Site[ops.MatMul | ops.BatchNorm | ops.LeakyRelu], place: tuple[int, ...]) -> _Lane:
    op, x = where.op, where.x
    if isinstance(op, ops.LeakyRelu):
        acts = np.zeros(op.slope.codes.shape, bool)
        acts[place] = True
        mask = np.broadcast_to(acts, op.shape)
        x, observed = x[:, mask][..., np.newaxis], where.observed[:, mask]
    else:
        observed = where.observed[..., place[0]]
        if isinstance(op, ops.BatchNorm):
            x = x[..., place[0], np.newaxis]
        elif isinstance(op, ops.Conv) and op.groups > 1:
            each = op.weight.codes.shape[-2]
            first = place[0] // (op.weight.codes.shape[-1] // op.groups) * each
            x, op = x[..., first : first + each], replace(op, groups=1)
    here = tuple(slice(each, each + 1) for each in place)
    held = {name: Constant(_last(each.codes, here), each.format) for name, each in ops.constants(op).items()}
    bare = replace(op, accumulator=None, channel_bits=()) if isinstance(op, ops.MatMul) else op
    inputs = {op.inputs[0]: x}
    return _Lane(op=bare, place=place, constants=held, formats=where.formats, inputs=inputs, observed=observed)


def _last(codes: Codes, here: tuple[slice, ...]) -> Codes:
    """Return what stands at an index of the last axes, which become one of size 1."""
    found: Codes = codes[(slice(None),) * (codes.ndim - len(here)) + here]
    return found.reshape(*codes.shape[: codes.ndim - len(here)], 1)


def _fitting(lane: _Lane) -> Iterator[_Change]:
    """Yield the changes of one constant that give every observed code of a lane."""
    changes = [
        (name, position, code)
        for name, constant in lane.constants.items()
        for position in np.ndindex(constant.codes.shape[:-1])
        for code in near(int(constant.codes[position][0]), constant.format)
    ]
    if len(changes) > MOST_NUMBERS:
        return
    size = sum(constant.codes.size for constant in lane.constants.values())
    products = size * math.prod(lane.observed.shape[1:]) * len(changes)
    few = lane.part(slice(0, max(1, min(64, PRODUCTS // products))))
    batch = max(1, WEIGHTS // size)
    batches = (changes[start : start + batch] for start in range(0, len(changes), batch))
    survivors = (change for some in batches for change in _surviving(few, some))
    for change in islice(survivors, SURVIVORS):
        if _surviving(lane, [change]):
            yield change


def _surviving(lane: _Lane, changes: list[_Change]) -> list[_Change]:
    """Return the changes that give what was observed: one channel computes each of them."""
    codes_of = {name: np.repeat(held.codes, len(changes), axis=-1) for name, held in lane.constants.items()}
    for number, (name, position, code) in enumerate(changes):
        codes_of[name][position][..., number] = code
    name = lane.op.inputs[0]
    x = lane.inputs[name]
    if not isinstance(lane.op, ops.MatMul):
        x = np.repeat(x, len(changes), axis=-1)
    op = replace(_with(lane.op, codes_of), shape=(*lane.observed.shape[1:], len(changes)))
    codes, _, _ = alone(op, lane.formats, {name: x})
    fits = (codes == lane.observed[..., np.newaxis]).reshape(-1, len(changes)).all(axis=0)
    return [change for change, fit in zip(changes, fits, strict=True) if fit]


def _with(op: Op, codes_of: Mapping[str, Codes]) -> Op:
    """Return an op with other codes in its constants, in formats that hold them."""
    held = ops.constants(op)
    values: dict[str, Any] = {
        name: Constant(codes, covering(min(0, int(codes.min())), max(1, int(codes.max())), held[name].format.frac_bits))
        for name, codes in codes_of.items()
    }
    return replace(op, **values)


# tables


def _table(where: Site[ops.Lookup], wrong: Codes) -> Iterator[Candidate]:
    """Yield the table with other values in the diverging runs, or with one of their ends moved."""
    op = where.op
    entry_of = op.run_of(where.x)
    if op.starts.ndim > 1:
        entry_of = entry_of + op.starts.shape[1] * np.arange(len(op.starts))
    diverging = np.unique(entry_of[wrong]).tolist()
    if len(diverging) > MOST_PLACES:
        return
    values, words = op.values.copy(), []
    for entry in diverging:
        place = np.unravel_index(entry, values.shape)
        values[place] = where.observed[entry_of == entry].flat[0]
        named = f"entry {_entry(place)} (codes from {op.starts[place]})"
        words.append(f"{named} of {values[place]} instead of {op.values[place]}")
    yield " and ".join(words), lambda site: replace(op, values=values).value_of(site.x)
    if len(diverging) == 1:
        codes = where.x[wrong]
        *channel, run = np.unravel_index(diverging[0], values.shape)
        for moved, start in ((run, int(codes.max()) + 1), (run + 1, int(codes.min()))):
            if 0 < moved < op.starts.shape[-1]:
                starts, place = op.starts.copy(), (*channel, moved)
                starts[place] = start
                if (np.diff(starts[tuple(channel)]) > 0).all():
                    words_of = f"entry {_entry(place)} that begins at code {start} instead of {op.starts[place]}"
                    yield words_of, changed(replace(op, starts=starts))


def _entry(place: tuple[Any, ...]) -> str:
    """Return which run a place is, and of which channel if there are several."""
    *channel, run = map(int, place)
    return f"{run} of channel {channel[0]}" if channel else f"{run}"


def _truths(where: Site[ops.TruthTable], wrong: Codes) -> Iterator[Candidate]:
    """Yield the tables with other codes for the numbers that diverging elements read."""
    op = where.op
    numbers = replace(op, values=np.broadcast_to(np.arange(op.values.shape[-1]), op.values.shape))
    read = alone(_covered(numbers), where.formats, where.inputs)[0]
    at = np.argwhere(wrong)
    entries = np.unique(np.c_[at[:, 1:], read[wrong]], axis=0).tolist()
    if len(entries) > MOST_PLACES:
        return
    values, words = op.values.copy(), []
    for *place, number in entries:
        here, entry = (slice(None), *place), (*place, number)
        values[entry] = where.observed[here][read[here] == number][0]
        words.append(
            f"entry {number} of the table of element {tuple(place)} of {values[entry]} instead of {op.values[entry]}"
        )
    yield " and ".join(words), changed(_covered(replace(op, values=values)))


def _covered(op: ops.TruthTable) -> ops.TruthTable:
    """Return tables in a format that holds their codes."""
    values = op.values
    fmt = covering(min(0, int(values.min())), max(1, int(values.max())), op.format.frac_bits)
    return replace(op, cast=replace(op.cast, format=fmt))


def _exponentials(where: Site[ops.Softmax], wrong: Codes) -> Iterator[Candidate]:
    """Yield the table with one entry changed that every diverging row reads."""
    op = where.op
    x = where.x.astype(np.int64)
    rows = (x.max(axis=-1, keepdims=True) - x)[wrong.any(axis=-1)]
    common = set(rows[0].tolist()).intersection(*(set(row.tolist()) for row in rows))
    for entry in sorted(common)[:MOST_ENTRIES]:
        own = int(op.exponentials[entry])
        for code in near(own, covering(0, int(op.exponentials.max()), 0)):
            if code >= 0 and (entry or code):
                table = op.exponentials.copy()
                table[entry] = code
                yield f"exponential {entry} of {code} instead of {own}", changed(replace(op, exponentials=table))


# moved codes


def _sources(where: Site[ops.Gather | ops.Reshape], wrong: Codes) -> Iterator[Candidate]:
    """Yield the op with diverging elements read from elsewhere."""
    op = where.op
    places = [tuple(place) for place in np.unique(np.argwhere(wrong)[:, 1:], axis=0).tolist()]
    if len(places) > MOST_PLACES:
        return
    starts = np.cumsum([0, *(math.prod(where.inputs[name].shape[1:]) for name in op.inputs)]).tolist()
    same = as_gather(op, np.arange(starts[-1]))
    every = replace(same, shape=(starts[-1] + 1,), index=np.arange(-1, starts[-1]))
    read, _, _ = alone(every, where.formats, where.inputs)
    index, words = same.index.copy(), []
    for place in places:
        seen = np.moveaxis(where.observed, 0, -1)[place]
        fits = np.flatnonzero((read == seen[:, np.newaxis]).all(axis=0))
        if not len(fits):
            return
        index[place] = fits[0] - 1
        new, own = (_named(op, where, starts, int(each)) for each in (index[place], same.index[place]))
        words.append(f"element {place} read from {new} instead of {own}")
    yield " and ".join(words), changed(replace(same, index=index))


def _named(op: Op, where: Site[Op], starts: list[int], position: int) -> str:
    if position < 0:
        return "zero"
    number = int(np.searchsorted(starts, position, side="right")) - 1
    name = op.inputs[number]
    index = np.unravel_index(position - starts[number], where.inputs[name].shape[1:])
    return f"'{name}' {tuple(int(each) for each in index)}"


def _pixels(where: Site[ops.SumPool], wrong: Codes) -> Iterator[Candidate]:
    """Yield the sum without one pixel of each window."""
    op = where.op
    for offset in islice(np.ndindex(op.window.size), MOST_ENTRIES):
        yield f"pixel {offset} of each window left away", _without(op, offset)


def _without(op: ops.SumPool, offset: tuple[int, ...]) -> Callable[[Site[Op]], Codes]:
    def codes(where: Site[Op]) -> Codes:
        pixel, _, _ = alone(_one_pixel(op, where.formats[op.inputs[0]], offset), where.formats, where.inputs)
        return where.cast(op, where.exact - pixel * op.weight.codes[..., np.newaxis])

    return codes


def _one_pixel(op: ops.SumPool, x: FixedFormat, offset: tuple[int, ...]) -> ops.Conv:
    """Return the convolution that takes one pixel of each window."""
    channels = op.shape[-1]
    weight = np.zeros((*op.window.size, 1, channels), np.int64)
    weight[offset] = 1
    common = {item.name: getattr(op, item.name) for item in fields(Op)}
    wide = replace(op.cast, format=covering(x.min_code, x.max_code, x.frac_bits), divisor=1)
    return ops.Conv(
        **{**common, "cast": wide},
        weight=Constant(weight, FixedFormat(False, 1, 0)),
        bias=Constant.zeros(channels),
        window=op.window,
        groups=channels,
    )


FAULTS: Mapping[type[Op], Callable[[Site[Any], Codes], Iterator[Candidate]]] = {
    ops.Dense: _constants,
    ops.Conv: _constants,
    ops.BatchNorm: _constants,
    ops.LeakyRelu: _constants,
    ops.SumPool: _pixels,
    ops.Reshape: _sources,
    ops.Gather: _sources,
    ops.Lookup: _table,
    ops.TruthTable: _truths,
    ops.Softmax: _exponentials,
}
"""The single numbers of an op that are tried."""
WITHOUT_NUMBERS = (ops.Input, ops.Relu, ops.Requantize, ops.Merge, ops.MaxPool, ops.Scan)
"""Ops that hold no numbers but settings, which `causes` tries; those of a scan act in every row, and are not tried."""
