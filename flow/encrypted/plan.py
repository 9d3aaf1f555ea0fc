"""What a graph takes under encryption, counted without running it and without any library.

Under TFHE additions and products with constants are free, and all else is tables (`flow.encrypted.cuts`), each a
bootstrap. With BFV a server computes the sums of products and a client all else: each dense layer and each convolution
is a round, in which a ciphertext goes up for each number that a sum reads, and one comes down for each sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flow.encrypted.cuts import Cut, Tables, behind, beside, bits_of, tables_of
from flow.ir import ops
from flow.ir.fixed import Cast
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import Range, accumulation, exact_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one op takes.

    Attributes:
        op: name and kind.
        numbers: of its output.
        sum_bits: of its widest sum; of other ops, of what its tables are made from.
        tables: under TFHE, for one sample.
        up, down: ciphertexts of a round with BFV; none if the client computes it.
        slots: numbers of one sample in each of them.
        products: products with constants other than zero, each of a ciphertext, in that round.
    """

    op: str
    kind: str
    numbers: int
    sum_bits: int
    tables: Tables
    up: int = 0
    down: int = 0
    slots: int = 0
    products: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a graph takes, op by op.

    Attributes:
        name: of the model.
        stages: in dataflow order.
        depth: tables that follow one another on the longest way through the graph.
    """

    name: str
    stages: tuple[Stage, ...]
    depth: int

    @property
    def tables(self) -> Tables:
        """What one sample takes under TFHE."""
        return behind([stage.tables for stage in self.stages])

    @property
    def rounds(self) -> int:
        """How often client and server exchange messages with BFV, for as many samples as slots hold."""
        return sum(stage.up > 0 for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        tables = self.tables
        return {
            "tfhe": {**_counts(tables), "depth": self.depth},
            "bfv": {
                "rounds": self.rounds,
                "ciphertexts_up": sum(stage.up for stage in self.stages),
                "ciphertexts_down": sum(stage.down for stage in self.stages),
                "products": sum(stage.products for stage in self.stages),
            },
            "ops": [
                {"name": stage.op, "op": stage.kind, "sum_bits": stage.sum_bits, **_counts(stage.tables)}
                for stage in self.stages
            ],
        }


def _counts(tables: Tables) -> dict[str, Any]:
    return {
        "bootstraps": tables.bootstraps,
        "bits_taken_off": tables.bits,
        "tables": {str(bits): count for bits, count in tables.widths},
        "widest_table_bits": tables.widest,
        "depth": tables.depth,
    }


def plan_of(graph: IntGraph) -> Plan:
    """Return what a lowered graph takes under encryption."""
    stages = tuple(STAGES[type(op)](op, *graph.sources(op)) for op in graph.ops if not isinstance(op, ops.Input))
    return Plan(name=graph.name, stages=stages, depth=_longest(graph, {stage.op: stage for stage in stages}))


def _longest(graph: IntGraph, stages: Mapping[str, Stage]) -> int:
    """Return how many tables follow one another at most."""
    reach: dict[str, int] = {}
    for op in graph.ops:
        before = max((reach[name] for name in op.inputs), default=0)
        reach[op.name] = before + (stages[op.name].tables.depth if op.name in stages else 0)
    return max(reach[name] for name in graph.outputs)


def cut_of(cast: Cast, frac_bits: int, low: int, high: int, unit: int = 0) -> Cut:
    """Return how sums become codes.

    Args:
        cast: of the op.
        frac_bits: fraction bits of the sums.
        low, high: how far they go.
        unit: so many lowest bits of each sum are zero: they are left away, down to the grid of the codes.
    """
    unit = min(unit, frac_bits - cast.format.frac_bits)
    if unit < 0:
        return Cut(low=low << -unit, high=high << -unit, frac_bits=frac_bits - unit, cast=cast)
    return Cut(low=low >> unit, high=-(-high >> unit), frac_bits=frac_bits - unit, cast=cast)


def cuts_of(op: Op, *sources: Op) -> tuple[Cut, ...]:
    """Return how the sums of an op become codes: of each channel, or one for all."""
    if not isinstance(op, ops.MatMul):
        exact = exact_result(op, *(x.format for x in sources))
        return (cut_of(op.cast, exact.frac_bits, exact.low, exact.high),)
    acc = accumulation(op, sources[0].format)
    ends = zip(acc.channel_low.tolist(), acc.channel_high.tolist(), _units(op, acc.shifts), strict=True)
    return tuple(cut_of(op.cast, acc.frac_bits, low, high, unit) for low, high, unit in ends)


def _units(op: ops.MatMul, shifts: tuple[int, ...]) -> list[int]:
    """Return how many lowest bits of each channel's sums are zero, whatever the input."""
    weight = op.weight.codes.reshape(-1, op.weight.codes.shape[-1]) << shifts[0]
    used = np.bitwise_or.reduce(np.abs(weight), axis=0) | np.abs(op.bias.codes << shifts[1])
    return [(int(bits) & -int(bits)).bit_length() - 1 if bits else 0 for bits in used.tolist()]


def _stage(op: Op, sum_bits: int, tables: Tables, **round_: int) -> Stage:
    return Stage(op=op.name, kind=op.kind, numbers=math.prod(op.shape), sum_bits=sum_bits, tables=tables, **round_)


def _matmul(op: ops.MatMul, x: Op) -> Stage:
    cuts, positions = cuts_of(op, x), math.prod(op.shape[:-1])
    matrix = op.matrix()
    read = int(np.count_nonzero(matrix.any(axis=1)))
    tables = beside([tables_of(cut).times(positions) for cut in cuts])
    sum_bits = max(bits_of(cut.high - cut.low) for cut in cuts)
    products = int(np.count_nonzero(matrix))
    return _stage(op, sum_bits, tables, up=read, down=matrix.shape[1], slots=positions, products=products)


def _linear(op: Op, *sources: Op) -> Stage:
    """Return what an op takes that only adds and multiplies by constants before its cast."""
    (cut,) = cuts_of(op, *sources)
    return _stage(op, bits_of(cut.high - cut.low), tables_of(cut).times(math.prod(op.shape)))


def _function(op: Op, x: Op) -> Stage:
    """Return what a function of one code takes: one table of it, its cast included."""
    return _stage(op, x.format.width, Tables.one(x.format.width).times(math.prod(op.shape)))


def _joined(op: Op, pairs: int, bits: int, per_pair: int, exact: Range) -> Stage:
    """Return what takes tables of two numbers' sum or difference, pair after pair, and then a cast."""
    cut = cut_of(op.cast, exact.frac_bits, exact.low, exact.high)
    steps = [Tables.one(bits).times(per_pair)] * pairs + [tables_of(cut)]
    return _stage(op, bits, behind(steps).times(math.prod(op.shape)))


def _merge(op: ops.Merge, *sources: Op) -> Stage:
    """a * b is a quarter of (a + b)**2 - (a - b)**2, and the larger of a and b is b + max(a - b, 0)."""
    if op.function in ("add", "subtract"):
        return _linear(op, *sources)
    exact = exact_result(op, *(x.format for x in sources))
    ends = [Range.of(x.format) for x in sources]
    if op.function != "multiply":
        ends = [Range(0, each.low << shift, each.high << shift) for each, shift in zip(ends, exact.shifts, strict=True)]
    bits = bits_of(max(each.high for each in ends) - min(each.low for each in ends)) + 1
    return _joined(op, len(sources) - 1, bits, 2 if op.function == "multiply" else 1, exact)


def _max_pool(op: ops.MaxPool, x: Op) -> Stage:
    exact = exact_result(op, x.format)
    return _joined(op, op.window.pixels - 1, x.format.width + 1, 1, exact)


def _truth_table(op: ops.TruthTable, *sources: Op) -> Stage:
    taken = [Tables(bits=x.format.width, depth=x.format.width).times(math.prod(x.shape)) for x in sources]
    reads = op.wires.shape[-1]
    split = beside([each for each, x in zip(taken, sources, strict=True) if x.format.width > 1])
    return _stage(op, reads, behind([split, Tables.one(reads).times(math.prod(op.shape))]))


def _softmax(op: ops.Softmax, x: Op) -> Stage:
    """The largest code, an exponential of each distance, and a quotient of two numbers, by its bits."""
    classes, bits = op.shape[-1], x.format.width
    total = (int(op.exponentials.max()) * classes).bit_length()
    rows = math.prod(op.shape[:-1])
    largest = behind([Tables.one(bits + 1)] * (classes - 1)).times(rows)
    each = behind([Tables.one(bits), *[Tables.one(total + 1)] * op.format.width]).times(classes * rows)
    return _stage(op, total, behind([largest, each]))


def _scan(op: ops.Scan, x: Op) -> Stage:
    body = plan_of(body_of(op))
    tables = behind([behind([stage.tables for stage in body.stages])] * op.rows)
    return _stage(op, max((stage.sum_bits for stage in body.stages), default=0), tables)


STAGES: Mapping[type[Op], Callable[..., Stage]] = {
    ops.Dense: _matmul,
    ops.Conv: _matmul,
    ops.BatchNorm: _linear,
    ops.Relu: _function,
    ops.LeakyRelu: _function,
    ops.Requantize: _linear,
    ops.Merge: _merge,
    ops.MaxPool: _max_pool,
    ops.SumPool: _linear,
    ops.Reshape: _linear,
    ops.Gather: _linear,
    ops.Lookup: _function,
    ops.TruthTable: _truth_table,
    ops.Softmax: _softmax,
    ops.Scan: _scan,
}
"""What an op takes under encryption, from the op and those it reads."""
GIVEN = (ops.Input,)
"""Ops that compute nothing: the client encrypts their codes."""


def to_text(plan: Plan) -> str:
    """Return a line per op that takes something, and one for all, as `flow show --encrypted` prints them."""
    rows = [("op", "sum", "bootstraps", "tables (count x bits)", "depth", "BFV: up", "down")]
    for stage in plan.stages:
        if stage.tables.bootstraps or stage.up:
            rows.append((stage.op, str(stage.sum_bits), *_columns(stage.tables), *_round(stage)))
    bfv = f"{plan.rounds} rounds"
    tables = plan.tables
    rows.append(("all", "", f"{tables.bootstraps:,}", _widths(tables), str(plan.depth), bfv, ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _columns(tables: Tables) -> tuple[str, str, str]:
    return f"{tables.bootstraps:,}", _widths(tables), str(tables.depth)


def _widths(tables: Tables) -> str:
    taken = [f"{tables.bits:,} taken off"] if tables.bits else []
    return ", ".join(taken + [f"{count:,} x {bits}" for bits, count in tables.widths]) or "-"


def _round(stage: Stage) -> tuple[str, str]:
    return (f"{stage.up} x {stage.slots}", f"{stage.down} x {stage.slots}") if stage.up else ("", "")
