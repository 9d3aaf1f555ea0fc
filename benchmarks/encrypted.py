"""What requantizations and multipliers cost under TFHE: the plans of one net in four forms, counted and not run.

    python benchmarks/encrypted.py

The net is that of `digits_mlp`, 64 -> 48 -> 32 -> 10, as it is; with 8-bit codes after each operation instead of one
requantization for all; and with weights of 8 bits, drawn at random, for the same activations and for 8-bit ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from flow.encrypted.plan import Plan, plan_of
from flow.ir.fixed import Cast, Constant, FixedFormat, Overflow, Rounding, covering
from flow.ir.graph import BatchNorm, Dense, IntGraph, Op, Requantize
from flow.ir.intervals import exact_result
from flow.ir.passes import lower
from flow.pipeline import BuildOptions
from flow.pipeline.models import extract_model

BITS = 8


def after_each_operation(graph: IntGraph) -> IntGraph:
    """Return an extracted graph with a requantization to 8 bits behind each product and each batch norm."""
    ops, renamed = list[Op](), dict[str, str]()
    for op in graph.ops:
        op = replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        if isinstance(op, Dense | BatchNorm) or any(name in renamed.values() for name in op.inputs):
            op = _exact(op, {each.name: each for each in ops})
        ops.append(op)
        if isinstance(op, Dense | BatchNorm) and op.name not in graph.outputs:
            fmt = FixedFormat(True, op.format.int_bits, BITS - 1 - op.format.int_bits)
            cast = Cast(fmt, Rounding.RND_CONV, Overflow.SAT)
            ops.append(Requantize(name=f"{op.name}_cast", inputs=(op.name,), shape=op.shape, cast=cast))
            renamed[op.name] = ops[-1].name
    return IntGraph(name=graph.name, ops=tuple(ops), outputs=graph.outputs)


def _exact(op: Op, made: dict[str, Op]) -> Op:
    """Return an op that rounds nothing with the format of its exact result; one with a cast of its own as it is."""
    if isinstance(op, Requantize):
        return op
    exact = exact_result(op, *(made[name].format for name in op.inputs))
    return replace(op, cast=Cast(covering(exact.low, exact.high, exact.frac_bits)))


def eight_bit_weights(graph: IntGraph, activations: int) -> IntGraph:
    """Return a lowered graph with weights of 8 bits, none of them zero, and activations of so many bits."""
    rng, ops = np.random.default_rng(1), list[Op]()
    for op in graph.ops:
        if isinstance(op, Dense):
            codes = rng.integers(-127, 128, op.weight.codes.shape)
            op = replace(op, weight=Constant(codes, FixedFormat(True, 0, 7)), accumulator=None, channel_bits=())
        if op.name not in graph.outputs:
            fmt = FixedFormat(False, op.format.int_bits, activations - op.format.int_bits)
            op = replace(op, cast=replace(op.cast, format=fmt))
        else:
            op = _exact(op, {each.name: each for each in ops})
        ops.append(op)
    return IntGraph(name=graph.name, ops=tuple(ops), outputs=graph.outputs)


def row(words: str, plan: Plan) -> str:
    """Return a row of the table."""
    tables = plan.tables
    sums = max(stage.sum_bits for stage in plan.stages if stage.tables.bootstraps)
    return f"| {words} | {sums} | {tables.bootstraps:,} | {tables.widest} | {plan.depth} |"


def main() -> None:
    """Print the table."""
    extracted = extract_model(Path("digits_mlp"), BuildOptions()).graph
    graph = lower(extracted)
    print("| net | bits of the widest sum | bootstraps | bits of the widest table | depth |\n|---|---|---|---|---|")
    print(row("unified modules, power-of-two weights", plan_of(graph)))
    print(row("8-bit codes after each operation", plan_of(after_each_operation(extracted))))
    print(row("8-bit weights, 4-bit activations", plan_of(eight_bit_weights(graph, 4))))
    print(row("8-bit weights, 8-bit activations", plan_of(eight_bit_weights(graph, 8))))


if __name__ == "__main__":
    main()
