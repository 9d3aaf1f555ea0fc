"""The rules of the static estimate: from widths, ranges and counts to LUTs, registers, block RAMs and DSP slices.

Each function is one rule and names its source; `flow.cost.estimation` and `flow.cost.matmul_costs` put them together
and docs/estimates.md tells them as a whole. None is fitted to a tool. Integers throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from flow.ir.fixed import Codes, Overflow, Rounding, covering
from flow.ir.graph import Lookup, Op
from flow.ir.tables import TABLE_INPUT_BITS, Table, smallest_table
from flow.parts import Part
from flow.results import Resources
from flow.target import Target

LEVEL_NS = {"7-series": 2.0, "UltraScale": 1.3, "UltraScale+": 0.9}
"""Assumed delay of one adder or multiplexer with its routing, per family; ours, for the slower speed grades."""
DSP_OPERAND_BITS = {"7-series": (18, 25), "UltraScale": (18, 27), "UltraScale+": (18, 27)}
"""Signed multiplier of one DSP slice: 25 x 18 in DSP48E1 (UG479), 27 x 18 in DSP48E2 (UG579)."""
DSP_MIN_BITS = 10
"""Narrowest operand of a product that takes a DSP slice; see `takes_dsp`."""
DSP_STAGES = 3
"""Cycles of a fully pipelined DSP multiplication (input, product and output register: UG479, UG579)."""
SMALL_MEMORY_BITS = 1024
"""Largest FIFO kept in shift registers (UG1399, config_storage fifo -auto_srl_max_bits); for ROMs our assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logic:
    """A piece of combinational hardware: what it holds, and how deep it is.

    `a + b` is a piece and what follows it, `n * a` are n of them side by side; see `beside` for pieces that differ.

    Attributes:
        lut: LUTs that are no adders.
        levels: adders or multiplexers in a row.
        stages: clock cycles that it takes besides, in DSP slices.
    """

    adders: int = 0
    adder_bits: int = 0
    multipliers: int = 0
    shifts: int = 0
    lut: int = 0
    memory_lut: int = 0
    dsp: int = 0
    bram_18k: int = 0
    levels: int = 0
    stages: int = 0

    def __add__(self, after: Logic) -> Logic:
        return Logic(**{item.name: getattr(self, item.name) + getattr(after, item.name) for item in fields(self)})

    def __rmul__(self, copies: int) -> Logic:
        counts = {name: copies * getattr(self, name) for name in _COUNTS}
        return Logic(**counts, levels=self.levels, stages=self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one op takes; the fields of `Resources`, the counts of its detail, and how deep its pipeline is.

    Attributes:
        depth: pipeline stages from operands to result.
        logic_lut: LUTs that are neither adders nor memory (casts, multiplexers, shifters, products).
        memory_lut: LUTs used as memory or shift registers.
    """

    adders: int = 0
    adder_bits: int = 0
    multipliers: int = 0
    shifts: int = 0
    weights: int = 0
    nonzero_weights: int = 0
    weight_bits: int = 0
    register_bits: int = 0
    logic_lut: int = 0
    memory_lut: int = 0
    dsp: int = 0
    bram_18k: int = 0
    depth: int = 0
    latency_cycles: int = 0
    initiation_interval_cycles: int = 0

    def resources(self, name: str) -> Resources:
        """Return the counts as a report holds them: one LUT per adder bit, one flip-flop per register bit."""
        detail = ("multipliers", "adders", "adder_bits", "shifts", "weights", "nonzero_weights", "weight_bits")
        return Resources(
            name=name,
            lut=self.adder_bits + self.logic_lut + self.memory_lut,
            ff=self.register_bits,
            dsp=self.dsp,
            bram_18k=self.bram_18k,
            uram=0,
            latency_cycles=self.latency_cycles,
            initiation_interval_cycles=self.initiation_interval_cycles,
            detail={key: getattr(self, key) for key in (*detail, "register_bits")},
        )


_COUNTS = tuple(item.name for item in fields(Logic) if item.name not in ("levels", "stages"))


def beside(*pieces: Logic) -> Logic:
    """Return pieces side by side: what all hold, as deep as the deepest."""
    counts = {name: sum(getattr(piece, name) for piece in pieces) for name in _COUNTS}
    deep = {name: max((getattr(piece, name) for piece in pieces), default=0) for name in ("levels", "stages")}
    return Logic(**counts, **deep)


# -- logic


def adder(bits: int) -> Logic:
    """Return one adder."""
    return Logic(adders=1, adder_bits=bits, levels=1)


def adders(terms: int, bits: int, limit: int) -> Logic:
    """Return a balanced tree over equal words, as `even_tree_bits` counts it."""
    return Logic(adders=terms - 1, adder_bits=even_tree_bits(terms, bits, limit), levels=tree_levels(terms))


def adder_tree(low: Codes, high: Codes, lsb: Codes) -> tuple[int, int]:
    """Return (adders, adder bits) of balanced trees that sum the leaves of each column.

    A carry chain is one LUT per bit (UG474 "Carry Logic", UG574 "Carry Chain"). It runs from the higher of the two
    operands' lowest bits (below it one operand is zero) to the top bit of the exact result; a subtraction costs the
    same. Leaves keep their places, absent ones cost nothing, so another leaf never makes a tree cheaper.

    Args:
        low, high: int64 (leaves, columns), range of each leaf; both 0 where there is none.
        lsb: int64 (leaves, columns), lowest bit that can be set.
    """
    adders = bits = 0
    while low.shape[0] > 1:
        if low.shape[0] % 2:
            low, high, lsb = (np.pad(array, ((0, 1), (0, 0))) for array in (low, high, lsb))
        here = (low != 0) | (high != 0)
        both = here[0::2] & here[1::2]
        start = np.maximum(lsb[0::2], lsb[1::2])
        lsb = np.where(both, np.minimum(lsb[0::2], lsb[1::2]), np.where(here[0::2], lsb[0::2], lsb[1::2]))
        low, high = low[0::2] + low[1::2], high[0::2] + high[1::2]
        adders += int(both.sum())
        bits += int((range_bits(low, high) - start)[both].sum())
    return adders, bits


def even_tree_bits(terms: int, bits: int, limit: int) -> int:
    """Return the adder bits of a balanced tree over equal words: one bit wider at each level, `limit` at most."""
    total = 0
    while terms > 1:
        bits = min(bits + 1, limit)
        total += terms // 2 * bits
        terms -= terms // 2
    return total


def code_bits(low: int, high: int) -> int:
    """Return the bits of the narrowest format that holds all codes from `low` to `high`."""
    return covering(low, high, 0).width


def range_bits(low: Codes, high: Codes) -> Codes:
    """Return the two's complement width of each range (one bit too many is possible beyond 2**53)."""
    magnitude = np.maximum(high, -low - 1).astype(np.float64)
    bits: Codes = np.frexp(magnitude)[1].astype(np.int64) + (low < 0)
    return bits


def lowest_bit(codes: Codes) -> Codes:
    """Return the position of the lowest set bit, 0 for zero."""
    lowest = (codes & -codes).astype(np.float64)
    bit: Codes = np.where(codes != 0, np.frexp(lowest)[1] - 1, 0).astype(np.int64)
    return bit


def takes_dsp(bits: int, other_bits: Codes) -> NDArray[np.bool_]:
    """Say of each product whether it takes a DSP slice: both operands are at least `DSP_MIN_BITS` wide.

    The tools document no threshold; this one is ours, near where published scans of hls4ml over bit widths pass from
    DSPs to LUTs (for example arXiv 2101.05108).
    """
    return np.minimum(other_bits, bits) >= DSP_MIN_BITS


def dsp_slices(bits: int, other_bits: int, part: Part) -> int:
    """Return the DSP slices of one product; wider operands are cut into pieces that share a sign bit (UG479, UG579)."""
    narrow, wide = DSP_OPERAND_BITS[part.family]
    small, large = sorted((bits, other_bits))
    return max(1, math.ceil((small - 1) / (narrow - 1))) * max(1, math.ceil((large - 1) / (wide - 1)))


def multiplier_luts(bits: int, other_bits: int) -> int:
    """Return the LUTs of a product without DSP: one per pair of bits (the "effective bit operations" of HGQ,
    arXiv 2405.00645, which follow LUT + 55 DSP)."""
    return bits * other_bits


def multiplexer_luts(choices: int, bits: int) -> int:
    """Return the LUTs that select one of `choices` words: a LUT6 is a 4:1 multiplexer of one bit (UG474, UG574)."""
    return bits * math.ceil((choices - 1) / 3)


def shifter_luts(span: int, bits: int) -> int:
    """Return the LUTs of a shift by a stored exponent of 0 to `span`: base-4 stages of 4:1 multiplexers (UG474).

    Sign and zero flag fit into the LUTs of the adder that follows (`a + ((product & nonzero) ^ negative)`).
    """
    return bits * math.ceil(span.bit_length() / 2)


def cast_luts(bits: int, signed: bool, shift: int, op: Op) -> int:
    """Return the LUTs that bring one sum to the op's output format: drop `shift` bits, round, clamp.

    Rounding is an incrementer over the kept bits, and an OR of the dropped ones where ties matter; clamping compares
    the excess bits, five to a LUT, and selects each output bit. For 32 to 8 bits and a shift of 8 that is 36 LUTs, 38
    with ties to even; Yosys made 34 of a constant shift, round and clamp of these widths (its shift is not recorded).
    """
    kept = max(bits - shift, 1)
    luts = 0
    if shift > 0 and op.cast.rounding is not Rounding.TRN:
        luts += kept + (0 if op.cast.rounding is Rounding.RND else math.ceil((shift - 1) / 5))
    return luts + _clamp_luts(kept, signed, op)


def _clamp_luts(bits: int, signed: bool, op: Op) -> int:
    """Return the LUTs that bring a code of `bits`, rounded, into the op's output format."""
    excess = max(bits - signed - (op.format.width - op.format.signed), 0) + (signed and not op.format.signed)
    return math.ceil(excess / 5) + op.format.width if excess and op.cast.overflow is not Overflow.WRAP else 0


def comparator_luts(bits: int) -> int:
    """Return the LUTs of max(a, b): two bits compared per LUT of a carry chain, one LUT per selected bit (UG474)."""
    return math.ceil(bits / 2) + bits


def comparators(bits: int, count: int) -> Logic:
    """Return a tree of `count` choices of the larger or smaller of two codes: compare, then select."""
    return Logic(lut=count * comparator_luts(bits), levels=2 * tree_levels(count + 1))


def product(bits: int, other_bits: int, part: Part) -> Logic:
    """Return a product of two variables, in DSP slices or in LUTs."""
    if takes_dsp(bits, np.array(other_bits)):
        return Logic(multipliers=1, dsp=dsp_slices(bits, other_bits, part), stages=DSP_STAGES)
    return Logic(multipliers=1, lut=multiplier_luts(bits, other_bits), levels=1)


def constant_product(bits: int, factor: int, part: Part) -> Logic:
    """Return a product of a variable by a constant's magnitude: signed digits, or DSP slices if both are wide."""
    digits = ((factor >> 1) ^ (factor + (factor >> 1))).bit_count()
    if digits < 2:
        return Logic(shifts=digits)
    if takes_dsp(bits, np.array(factor.bit_length() + 1)):
        return Logic(multipliers=1, dsp=dsp_slices(bits, factor.bit_length() + 1, part), stages=DSP_STAGES)
    width = bits + factor.bit_length()
    return Logic(multipliers=1, adders=digits - 1, adder_bits=(digits - 1) * width, levels=tree_levels(digits))


def constant_division(low: int, high: int, divisor: int, op: Op, part: Part) -> Logic:
    """Return a numerator from `low` to `high` divided by an odd constant, with the op's rounding and overflow.

    A multiplication by the reciprocal gives the quotient rounded down (Granlund and Montgomery, PLDI 1994): an offset
    makes the numerator positive, its product keeps the high bits, the offset's quotient is taken off again. Rounding
    multiplies back and compares twice the rest with the divisor, which takes the bits of the divisor only.
    """
    bits = (high - low).bit_length()
    reciprocal = -(-(1 << bits + divisor.bit_length()) // divisor)
    quotient_bits = max(high // divisor, -low // divisor, 1).bit_length() + (low < 0)
    quotient = constant_product(bits, reciprocal // (reciprocal & -reciprocal), part)
    if low < 0:
        quotient = adder(bits) + quotient + adder(quotient_bits)
    if op.cast.rounding is not Rounding.TRN:
        rest_bits = divisor.bit_length() + 1
        rest = constant_product(rest_bits, divisor, part) + adder(rest_bits)
        quotient = quotient + rest + Logic(lut=math.ceil(rest_bits / 2), levels=1) + adder(quotient_bits)
    return quotient + Logic(lut=_clamp_luts(quotient_bits, low < 0, op), levels=1)


def lookup_table(bits: int, entries: int, out_bits: int) -> Logic:
    """Return a table of `entries` constants for an input of `bits`, clamped to the table where that is smaller.

    A LUT6 holds 64 x 1 bits, and the multiplexers of a slice join four of them to 256 x 1 (UG474, UG574).
    """
    if entries == 1:
        return Logic()
    address = (entries - 1).bit_length()
    blocks = max(1, 1 << max(address - 8, 0))
    clamps = 2 if address < bits else 0
    lut = out_bits * max(1, 1 << max(address - 6, 0)) + multiplexer_luts(blocks, out_bits)
    return Logic(lut=lut + clamps * math.ceil((bits + address) / 2), levels=1 + (blocks > 1) + bool(clamps))


def comparisons(bits: int, runs: int, out_bits: int) -> Logic:
    """Return a step function as a comparison with the start of each run.

    A comparison with a constant takes a LUT per two bits of the carry chain; what it finds selects among the values.
    """
    compared = (runs - 1) * math.ceil(bits / 2)
    return Logic(lut=compared + multiplexer_luts(runs, out_bits), levels=1 + tree_levels(runs))


def search(bits: int, runs: int, out_bits: int) -> Logic:
    """Return a step function as a binary search: in each level one comparison, with a start that a table gives.

    A comparison takes a LUT per two bits of the carry chain; the tables of starts and of values 64 x 1 bits per LUT.
    """
    levels = (runs - 1).bit_length()
    starts = sum(bits * math.ceil((1 << level) / 64) for level in range(1, levels))
    compared = levels * math.ceil(bits / 2)
    return Logic(lut=compared + starts + bool(levels) * out_bits * math.ceil(runs / 64), levels=2 * levels)


def cheapest_table(op: Lookup, bits: int) -> Table | None:
    """Return the table of a step function of codes of `bits`, or None where it is compared with its steps instead."""
    table = smallest_table(op)
    if table is None or bits <= TABLE_INPUT_BITS:
        return table
    searched = search(bits, op.starts.shape[-1], op.format.width)
    return table if lookup_table(bits - table.shift, len(table.values), op.format.width).lut <= searched.lut else None


def divider(bits: int, divisor_bits: int) -> Logic:
    """Return the quotient of two variables: a subtraction per bit of the numerator, one after another."""
    return Logic(adders=bits, adder_bits=bits * (divisor_bits + 1), levels=bits)


# -- memory


def weight_memory(bits: int, depth: int) -> tuple[int, int]:
    """Return (bram_18k, LUTs) of a ROM of `depth` words of `bits`.

    hls4ml binds weights to block RAM when they are reused (nnet_dense_resource.h, ROM_nP_BRAM); one is 512 x 36 at its
    widest (UG473, UG573). Below `SMALL_MEMORY_BITS` they stay in LUTs, each 64 x 1 (UG474).
    """
    if bits * depth <= SMALL_MEMORY_BITS:
        return 0, bits * math.ceil(depth / 64)
    return math.ceil(bits / 36) * math.ceil(depth / 512), 0


def fifo_memory(bits: int, depth: int) -> tuple[int, int]:
    """Return (bram_18k, LUTs) of a FIFO: 18 bits x 1024 per block RAM, or SRL32 shift registers.

    Vitis HLS keeps a FIFO in shift registers to a depth of 2 or to 1024 bits (UG1399, config_storage); its reports
    show ceil(bits / 18) block RAMs above that.
    """
    if depth <= 2 or bits * depth <= SMALL_MEMORY_BITS:
        return 0, shift_register_luts(bits, depth)
    return math.ceil(bits / 18) * math.ceil(depth / 1024), 0


def shift_register_luts(bits: int, depth: int) -> int:
    """Return the LUTs of a shift register: 32 deep and one bit wide each (SRL32: UG474, UG574)."""
    return bits * math.ceil(depth / 32)


# -- time


def levels_per_stage(target: Target, part: Part) -> int:
    """Return how many adders or multiplexers in a row fit into a clock period less HLS' margin."""
    assert target.clock_uncertainty is not None, f"{target.backend} has no estimate of a graph alone"
    usable_ns = target.clock_period_ns * (1 - target.clock_uncertainty)
    return max(1, int(usable_ns / LEVEL_NS[part.family]))


def tree_levels(terms: int) -> int:
    """Return the depth of a balanced binary tree over `terms` leaves."""
    return int(max(terms - 1, 0).bit_length())


def pipeline_register_bits(terms: Codes, widths: Codes, bits: int, levels: int, per_stage: int) -> int:
    """Return the flip-flops inside pipelined adder trees: after l levels ceil(terms / 2**l) sums of `bits + l` live on.

    Args:
        terms: int64 (columns,), leaves of each tree.
        widths: int64 (columns,), bits of the sum, which no partial sum exceeds.
        bits: width of a leaf.
        levels: levels in all, cast included.
        per_stage: levels between two registers; the last register is the output's and not counted here.
    """
    cuts = range(per_stage, levels, per_stage)
    return sum(int((-(-terms // 2**cut) * np.minimum(widths, bits + cut)).sum()) for cut in cuts)
