"""Static energy of one inference: what a graph computes, times published energies of single operations.

The counts follow from the graph alone (weights are constants, as in a design that is fully unrolled), the energies are
those of an ASIC process: figures to compare models and arithmetics with, not the consumption of an FPGA. What is
counted, at which price, and the sources stand in docs/energy.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from flow.cost.cost_rules import (
    adder_tree,
    cheapest_table,
    code_bits,
    even_tree_bits,
    range_bits,
    tree_levels,
)
from flow.cost.matmul_costs import leaves
from flow.ir import ops
from flow.ir.fixed import Codes, FixedFormat, Overflow, Rounding
from flow.ir.graph import IntGraph, Op, body_of
from flow.ir.intervals import Accumulation, Range, common_grid, exact_result
from flow.ir.po2 import signed_digits
from flow.ir.tables import searches
from flow.results import EnergyReport

ADD_8, ADD_32, MULTIPLY_8, MULTIPLY_32 = 0.03, 0.1, 0.2, 3.1
"""pJ per integer operation of 8 and 32 bits, 45 nm, 0.9 V (Horowitz, ISSCC 2014)."""
PER_BIT_PAIR = (MULTIPLY_32 - 4 * MULTIPLY_8) / (32**2 - 4 * 8**2)
PER_MULTIPLIED_BIT = MULTIPLY_8 / 8 - 8 * PER_BIT_PAIR
"""pJ, the parts of a multiplication: a parabola through 0 and the energies of 8 and 32 bits."""
FLOAT_ADD, FLOAT_MULTIPLY = 0.9, 3.7
"""pJ per float32 operation (ibid.)."""
MEMORY_BIT = 10 / 64
"""pJ per bit read from an 8 kB SRAM, 64 bits at a time (ibid.)."""
REGISTER_BIT = 0.009
"""pJ per register bit and clock, 40 nm (Aladdin, ISCA 2014, `REG_*_dynamic_energy` of its power_func.h)."""
DECIMALS = 3
"""Of a figure in pJ: femtojoules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one inference computes; `a + b` is both, `n * a` is that n times.

    Attributes:
        products: products of a code by a constant other than zero: shifts, and `product_additions` between them.
        product_additions, product_addition_bits: none for powers of two; bits are of all of them together.
        additions, addition_bits: additions, subtractions and comparisons beside those.
        multiplications: products of two variables, of a and b bits.
        multiplied_bits, multiplied_bit_pairs: sums of a + b and of a * b over them.
        table_bits: bits read from tables.
        results, result_bits: codes that are written to registers.
    """

    products: int = 0
    product_additions: int = 0
    product_addition_bits: int = 0
    additions: int = 0
    addition_bits: int = 0
    multiplications: int = 0
    multiplied_bits: int = 0
    multiplied_bit_pairs: int = 0
    table_bits: int = 0
    results: int = 0
    result_bits: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})

    def __rmul__(self, times: int) -> Work:
        return Work(**{item.name: times * getattr(self, item.name) for item in fields(self)})


def static_energy(graph: IntGraph) -> EnergyReport:
    """Return the energy of one inference from what the ops of a graph compute, per op and in all.

    Args:
        graph: after the passes.

    Raises:
        UnsupportedError: a result would need more than 62 bits.

    Example:
        >>> from flow.ir.fixed import Cast
        >>> byte = FixedFormat(True, 7, 0)
        >>> x = ops.Input(name="x", inputs=(), shape=(4,), cast=Cast(byte))
        >>> y = ops.Relu(name="y", inputs=("x",), shape=(4,), cast=Cast(byte))
        >>> static_energy(IntGraph(name="net", ops=(x, y))).layers  # registers alone
        {'x': 0.288, 'y': 0.288}
    """
    done = {op.name: work(op, graph.sources(op)) for op in graph.ops}
    total = sum(done.values(), Work())
    return EnergyReport(
        source="static",
        unit="pJ",
        per_inference=round(energy_pj(total), DECIMALS),
        table="docs/energy.md",
        layers={name: round(energy_pj(of_op), DECIMALS) for name, of_op in done.items()},
        alternatives={"int8": round(int8_pj(total), DECIMALS), "float32": round(float32_pj(total), DECIMALS)},
        detail=asdict(total),
    )


# -- prices


def energy_pj(done: Work) -> float:
    """Return the energy of work as the graph has it: shifts are free, every addition has its own width."""
    return _beside_products(done) + addition_pj(done.product_additions, done.product_addition_bits)


def int8_pj(done: Work) -> float:
    """Return the energy of work with an 8-bit multiplication for each product, all else as the graph has it."""
    return _beside_products(done) + MULTIPLY_8 * done.products


def float32_pj(done: Work) -> float:
    """Return the energy of work in float32; tables are read as the graph has them."""
    multiplied = FLOAT_MULTIPLY * (done.products + done.multiplications)
    registers = REGISTER_BIT * 32 * done.results
    return multiplied + FLOAT_ADD * done.additions + MEMORY_BIT * done.table_bits + registers


def _beside_products(done: Work) -> float:
    return (
        addition_pj(done.additions, done.addition_bits)
        + PER_BIT_PAIR * done.multiplied_bit_pairs
        + PER_MULTIPLIED_BIT * done.multiplied_bits / 2
        + MEMORY_BIT * done.table_bits
        + REGISTER_BIT * done.result_bits
    )


def addition_pj(count: int, bits: int) -> float:
    """Return the energy of additions of so many bits together: the line through the energies of 8 and 32 bits."""
    per_bit = (ADD_32 - ADD_8) / 24
    return count * (ADD_8 - 8 * per_bit) + bits * per_bit


# -- counts


def work(op: Op, inputs: Sequence[Op]) -> Work:
    """Return what an op computes for one inference.

    Args:
        op: any op.
        inputs: the ops that it reads, in order.

    Raises:
        UnsupportedError: a result would need more than 62 bits.
    """
    formats = [source.format for source in inputs]
    return WORK[type(op)](op, exact_result(op, *formats), *formats)


def _registers(op: Op, exact: Range, *inputs: FixedFormat) -> Work:
    """Return the registers that the codes of an op are written to."""
    codes = math.prod(op.shape)
    return Work(results=codes, result_bits=codes * op.format.width)


def _results(op: Op, exact: Range, *inputs: FixedFormat) -> Work:
    """Return the casts of all exact results, and the registers that their codes are written to."""
    return math.prod(op.shape) * _cast(op, exact) + _registers(op, exact)


def _matmul(op: ops.MatMul, acc: Accumulation, x: FixedFormat) -> Work:
    """Return a dense or a convolution: the same work at every position, for all of its channels."""
    weight, bias = op.matrix() << acc.shifts[0], op.bias.codes << acc.shifts[1]
    low, high, lsb = leaves(weight, bias, x)
    extra = np.maximum(signed_digits(weight) - 1, 0)
    additions, bits = adder_tree(low, high, lsb)
    ends = zip(low.sum(axis=0).tolist(), high.sum(axis=0).tolist(), strict=True)
    casts = [_cast(op, Range(acc.frac_bits, *reach)) for reach in ends if reach[0] != reach[1]]  # else a constant
    sums = Work(
        products=int(np.count_nonzero(weight)),
        product_additions=int(extra.sum()),
        product_addition_bits=int((extra * (range_bits(low, high) - lsb)[:-1]).sum()),
        additions=additions,
        addition_bits=bits,
    )
    return math.prod(op.shape[:-1]) * sum(casts, sums) + _registers(op, acc)


def _batchnorm(op: ops.BatchNorm, exact: Range, x: FixedFormat) -> Work:
    scale = op.scale.codes << exact.shifts[0]
    sums = math.prod(op.shape[:-1]) * int(np.count_nonzero((scale != 0) & (op.offset.codes != 0)))
    return _products(op, scale, x.width) + sums * _addition(exact.format.width) + _results(op, exact)


def _relu(op: ops.Relu, exact: Range, x: FixedFormat) -> Work:
    limited = op.limit is not None and op.limit < x.max_code
    return math.prod(op.shape) * limited * _addition(x.width) + _results(op, exact)


def _leaky_relu(op: ops.LeakyRelu, exact: Range, x: FixedFormat) -> Work:
    products = _products(op, op.slope.codes << exact.shifts[1], x.width) if x.signed else Work()
    return products + _results(op, exact)


def _merge(op: ops.Merge, exact: Range, *inputs: FixedFormat) -> Work:
    bits, done = exact.format.width, Work()
    if op.function in ("maximum", "minimum"):
        ranges = common_grid(inputs)
        bits = code_bits(min(x.low for x in ranges), max(x.high for x in ranges))
    if op.function == "multiply":
        width = inputs[0].width
        for other in inputs[1:]:
            done, width = done + _multiplication(width, other.width), width + other.width
    else:
        done = (len(inputs) - 1) * _addition(bits)
    return math.prod(op.shape) * done + _results(op, exact)


def _maxpool(op: ops.MaxPool, exact: Range, x: FixedFormat) -> Work:
    return _beyond_first(op) * _addition(x.width) + _results(op, exact)


def _sumpool(op: ops.SumPool, exact: Range, x: FixedFormat) -> Work:
    pixels = int(op.window.counts(op.shape[:-1]).max())
    bits = code_bits(pixels * x.min_code, pixels * x.max_code)
    weighted = _products(op, op.weight.codes[..., np.newaxis], bits)
    return _beyond_first(op) * _addition(bits) + weighted + _results(op, exact)


def _beyond_first(op: ops.Pool) -> int:
    """Return how many real pixels all windows hold beside the first of each, over all channels."""
    return op.shape[-1] * int((op.window.counts(op.shape[:-1]) - 1).sum())


def _lookup(op: ops.Lookup, exact: Range, x: FixedFormat) -> Work:
    """Return an entry of a table, or where none is small enough comparisons, in a search with starts of a table."""
    later, codes = int(op.starts.shape[-1]) - 1, math.prod(op.shape)
    if later and cheapest_table(op, x.width) is None:
        if not searches(op, x):
            return codes * later * _addition(x.width) + _results(op, exact)
        levels = later.bit_length()
        read = Work(table_bits=codes * ((levels - 1) * x.width + op.format.width))
        return codes * levels * _addition(x.width) + read + _results(op, exact)
    return Work(table_bits=codes * op.format.width * bool(later)) + _results(op, exact)


def _truth_table(op: ops.TruthTable, exact: Range, *inputs: FixedFormat) -> Work:
    return Work(table_bits=math.prod(op.shape) * op.format.width) + _results(op, exact)


def _softmax(op: ops.Softmax, exact: Range, x: FixedFormat) -> Work:
    """Return all rows: the largest code, distances, exponentials, their sum, a subtraction per bit of a quotient."""
    channels, bits = op.shape[-1], int(op.exponentials.max()).bit_length()
    total_bits = bits + tree_levels(channels)
    sums = Work(additions=channels - 1, addition_bits=even_tree_bits(channels, bits, total_bits))
    quotient = (bits + op.format.frac_bits + 1) * _addition(total_bits + 1)
    element = _addition(x.width + 1) + Work(table_bits=bits) + quotient
    row = (channels - 1) * _addition(x.width) + channels * element + sums
    return math.prod(op.shape[:-1]) * row + _results(op, exact)


def _scan(op: ops.Scan, exact: Range, x: FixedFormat) -> Work:
    """Return the work of the body on each row; of its inputs, the states are registers of its own."""
    body = body_of(op)
    return op.rows * sum((work(each, body.sources(each)) for each in body.ops[1:]), Work())


WORK: Mapping[type[Op], Callable[..., Work]] = {
    ops.Input: _registers,
    **dict.fromkeys((ops.Dense, ops.Conv), _matmul),
    ops.BatchNorm: _batchnorm,
    ops.Relu: _relu,
    ops.LeakyRelu: _leaky_relu,
    ops.Requantize: _results,
    ops.Merge: _merge,
    ops.MaxPool: _maxpool,
    ops.SumPool: _sumpool,
    **dict.fromkeys((ops.Reshape, ops.Gather), lambda op, exact, *inputs: Work()),  # wires
    ops.Lookup: _lookup,
    ops.TruthTable: _truth_table,
    ops.Softmax: _softmax,
    ops.Scan: _scan,
}
"""What an op computes for one inference, from the op, how far its exact result goes, and the formats it reads."""


def _addition(bits: int) -> Work:
    return Work(additions=1, addition_bits=bits)


def _multiplication(bits: int, other_bits: int) -> Work:
    return Work(multiplications=1, multiplied_bits=bits + other_bits, multiplied_bit_pairs=bits * other_bits)


def _products(op: Op, factor: Codes, bits: int) -> Work:
    """Return the products of codes of `bits` by constants, whose shape is the end of the op's; by 1 there is none."""
    factors = np.abs(np.broadcast_to(factor, op.shape))
    extra = np.maximum(signed_digits(factors) - 1, 0)
    return Work(
        products=int(np.count_nonzero(factors > 1)),
        product_additions=int(extra.sum()),
        product_addition_bits=int((extra * (bits + range_bits(np.zeros_like(factors), factors))).sum()),
    )


def _cast(op: Op, exact: Range) -> Work:
    """Return the cast of one exact result: a division, a rounding and a clamp, if it has them."""
    twos = (op.cast.divisor & -op.cast.divisor).bit_length() - 1
    odd, shift = op.cast.divisor >> twos, exact.frac_bits + twos - op.format.frac_bits
    bits = exact.format.width
    kept, done = max(bits - shift, 1), Work()
    if odd > 1:  # by the reciprocal, and back for the rest (Granlund and Montgomery, PLDI 1994)
        kept = max(kept - odd.bit_length() + 1, 1)
        done = _multiplication(bits, bits + odd.bit_length()) + _multiplication(kept, odd.bit_length())
    if op.cast.rounding is not Rounding.TRN and (shift > 0 or odd > 1):
        done = done + _addition(kept)
    negative = exact.low < 0
    beyond = kept - negative > op.format.width - op.format.signed or (negative and not op.format.signed)
    return done + _addition(kept) if beyond and op.cast.overflow is not Overflow.WRAP else done
