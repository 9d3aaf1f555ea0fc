"""What C synthesis makes of a dense or of a position of a convolution (nnet_dense_latency.h, nnet_dense_resource.h)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flow.cost import cost_rules as rules
from flow.cost.hls.products import Products, accumulator_of, products_of, signed_bits, takes_dsp
from flow.cost.hls.settings import LAST_VIVADO_HLS, Hls, fast, usable_ns
from flow.ir.fixed import FixedFormat
from flow.ir.intervals import accumulation
from flow.ir.ops import Conv, MatMul
from flow.ir.po2 import is_po2, split
from flow.parts import Part
from flow.target import Target

LEVEL_NS = {True: 0.3, False: 2.7}
"""Of a sum in a tree: families with fast carry chains, where HLS joins levels, and 7 series."""
START_NS = {True: 2.3, False: 3.6}
"""Of reading, and of what every tree has."""
DSP_NS, NEGATION_NS = 3.0, 0.805
"""Of a product in a DSP slice, and of the simplest product, a negated input."""
RESOURCE_NS = -0.2
"""With strategy Resource and a reuse factor of 1 the same logic is as much faster."""
LONG_TREE_WEIGHTS = 10_000
"""Beyond so many weights Vitis HLS adds one after another instead of building trees."""
ODD_BITS, ODD_INPUTS = 6, 32
"""Of weights of so many bits Vivado HLS 2020.1 puts one unit less into DSP slices, if there are more inputs."""
NARROW_BITS = 4
"""Weights of so many bits from a memory: C synthesis counts nothing for their products."""
SHALLOW_WORDS = 64
"""Memories of no more words are LUTs for Vivado, whatever C synthesis asks for (UG901, RAM_STYLE)."""
SLOW_TURNS = 10
"""Turns of a shared multiplier after which other terms of the sum wait in registers."""
TERMS_PER_CYCLE = 1.86
"""Terms that such a chain adds in a cycle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What C synthesis makes of an op: amounts of what takes LUTs and flip-flops, and counts.

    Attributes:
        kind: what it is measured with: ops of one kind share errors.
        lut, ff: amounts, by the names of `numbers.json`.
        shallow_18k: block RAMs, of `bram_18k`, of so few words that Vivado makes LUTs of them.
        depth: cycles from operands to result; what a stream adds to its slowest op.
    """

    kind: str
    lut: Mapping[str, float] = field(default_factory=dict)
    ff: Mapping[str, float] = field(default_factory=dict)
    dsp: int = 0
    bram_18k: int = 0
    shallow_18k: int = 0
    depth: int = 0
    latency_cycles: int = 0
    initiation_interval_cycles: int = 1
    detail: Mapping[str, int] = field(default_factory=dict)


def constant_weights(op: MatMul, x: FixedFormat, target: Target, part: Part, hls: Hls) -> Counted:
    """Return what an op of constant weights takes: strategy Latency, and Resource without reuse."""
    made = products_of(op, x, part, hls)
    reuse, latency_strategy = reuse_of(op, target), target.strategy == "Latency"
    limit = multiplier_limit(op, reuse) if latency_strategy else made.multipliers
    shared = latency_strategy and reuse > 1 and made.multipliers > limit
    base = _cycles(op, made, target, part, hls)
    turns = math.ceil(made.multipliers / limit) if shared else 0
    latency = base
    if shared:
        latency = base + turns - min(max(base - 1, 0), 2)
    elif reuse > 1 and latency_strategy and base and not made.multipliers and not hls.vitis:
        latency = base + 1
    interval = min(reuse, latency + 1) if latency_strategy else latency + 1
    built = min(limit, made.multipliers) / max(made.multipliers, 1)
    return Counted(
        kind="constant weights",
        lut={
            "adder bit": made.adder_bits,
            "negated bit": made.negated_bits,
            "bit of a two-digit product": made.two_digit_bits,
            f"DSP product, {_way(latency_strategy, shared)}": made.in_dsp,
            "pair of bits of a product in LUTs": made.fabric_bits * built,
            "LUT by structure": cast_luts(op, x),
        },
        ff=_registers(op, x, made, target, part, hls, base, shared),
        dsp=_shared(made, limit),
        depth=latency,
        latency_cycles=latency,
        initiation_interval_cycles=interval,
        detail={
            "multipliers": made.multipliers,
            "adders": made.adders,
            "adder_bits": made.adder_bits,
            "shifts": made.terms[0],
        },
    )


def _way(latency_strategy: bool, shared: bool) -> str:
    return "Resource" if not latency_strategy else "shared" if shared else "Latency"


def _shared(made: Products, limit: int) -> int:
    """Return the DSP slices: no more products at a time than hls4ml allows."""
    if made.in_dsp <= limit:
        return made.slices
    return limit * max(1, round(made.slices / made.in_dsp))


def reuse_of(op: MatMul, target: Target) -> int:
    """Return the reuse factor of an op; the products of a depthwise convolution are not limited."""
    return 1 if isinstance(op, Conv) and op.groups > 1 else target.reuse(op.name)


def multiplier_limit(op: MatMul, reuse: int) -> int:
    """Return how many products hls4ml lets the tool build: `multiplier_limit` of its dense configuration."""
    weights, zeros = op.weight.codes.size, int((op.weight.codes == 0).sum())
    return max(1, math.ceil(weights / reuse) - zeros // reuse)


def _cycles(op: MatMul, made: Products, target: Target, part: Part, hls: Hls) -> int:
    """Return the clock cycles from the inputs to the sums."""
    if hls.vitis and op.weight.codes.size > LONG_TREE_WEIGHTS:
        return math.ceil(made.longest / TERMS_PER_CYCLE)
    if made.longest < 2:
        return int(DSP_NS / usable_ns(target, hls)) if made.in_dsp else 0
    quick = fast(part)
    delay = START_NS[quick] + LEVEL_NS[quick] * math.log2(max(made.longest, 1))
    if made.in_dsp:
        delay += DSP_NS
    elif quick:
        delay += NEGATION_NS
    delay += RESOURCE_NS * (target.strategy == "Resource")
    return int(delay / usable_ns(target, hls))


def _registers(
    op: MatMul, x: FixedFormat, made: Products, target: Target, part: Part, hls: Hls, cycles: int, shared: bool
) -> dict[str, float]:
    """Return amounts of registers: outputs, and what lives between two stages."""
    width = accumulator_of(op, x).width
    one, two, three = (count * width for count in made.terms)
    outputs = made.outputs * op.format.width
    if not fast(part):  # a register behind every adder, more of them in a shorter clock period
        way = "each cycle" if reuse_of(op, target) == 1 else "reused"
        usable = usable_ns(target, hls)
        return {f"adder bit, {way}": made.adder_bits, f"adder bit by ns, {way}": made.adder_bits / usable}
    if made.longest < 2:  # a product alone goes where its reader keeps it
        return {}
    if shared:
        waiting = min(1.0, made.multipliers / multiplier_limit(op, reuse_of(op, target)) / SLOW_TURNS)
        products = made.multipliers * width
        return {"two-digit term bit, shared": two * waiting, "product bit, shared": products}
    if not cycles:
        return {"output bit": outputs}
    if hls.vitis:
        return {
            "output bit, staged": outputs,
            "one-digit term bit": one,
            "two-digit term bit": two,
            "DSP term bit, Vitis HLS": three,
        }
    if target.strategy == "Resource":
        return {
            "output bit, staged": outputs,
            "one-digit term bit": one,
            "two-digit term bit": two,
            "DSP term bit": three,
        }
    kept = "output bit, Latency" if reuse_of(op, target) == 1 else "output bit, reused"
    return {
        kept: outputs,
        "one-digit term bit, Latency": one,
        "two-digit term bit, Latency": two,
        "product bit, Latency": made.multipliers * width,
    }


def stored_weights(op: MatMul, x: FixedFormat, target: Target, part: Part, hls: Hls, inside: bool) -> Counted:
    """Return what an op takes whose weights are read from memory, `reuse` in turn by each unit.

    Args:
        inside: whether its inputs come from another op, and are kept while it runs; ports stand still.
    """
    weight = op.matrix()
    n_in, n_out = weight.shape
    reuse = min(target.reuse(op.name), weight.size)
    units, groups = math.ceil(weight.size / reuse), math.ceil(reuse / n_in)
    width, po2 = accumulator_of(op, x).width, is_po2(op.weight.codes)
    stored = split(op.weight.codes).stored_bits if po2 else op.weight.format.width
    in_dsp = not po2 and bool(takes_dsp(signed_bits(x), np.array([stored]), hls)[0])
    odd = int(stored == ODD_BITS and units > 1 and n_in > ODD_INPUTS and _vivado_2020(hls))
    bits = x.width * stored if stored > NARROW_BITS and not po2 else 0
    # a unit adds to one of the sums: one of all of them in Vivado HLS 2020.1, of those it ever adds to elsewhere
    whole = groups > 2 and _vivado_2020(hls)
    choices = 1 << max(n_out - 1, 0).bit_length() if whole else groups
    bram, memory_luts = weight_memory(units * stored, reuse)
    index_bits = reuse * (groups - 1).bit_length() if groups > 2 else 0
    bram += math.ceil(index_bits / (18 * 1024)) if index_bits >= rules.SMALL_MEMORY_BITS else 0
    held = (2 + (groups > 1)) * inside
    later = 2 if in_dsp or groups != 2 else 1
    return Counted(
        kind="stored weights",
        lut={
            "input word": n_in,
            "input bit": n_in * x.width,
            "output word": n_out,
            "unit bit": units * width,
            "choice of sums, LUTs": units * rules.multiplexer_luts(choices, width),
            "unit with a DSP slice": units * in_dsp,
            "pair of bits of a product in LUTs": 0 if in_dsp else units * bits,
            "loop over all sums": int(groups >= 2 and _vivado_2020(hls)),
            "LUT by structure": memory_luts + cast_luts(op, x) + (units * _shifter_luts(op, x) if po2 else 0),
        },
        ff={
            "sum bit": n_out * width * (1 + inside),
            "input bit, held": n_in * x.width * held,
            "loop": 1,
            "unit weight bit": units * (max(stored, width) if in_dsp and groups > 2 else stored),
            "bit between ops": (n_in * x.width + n_out * op.format.width) * inside,
        },
        dsp=(units - odd) * in_dsp * (rules.dsp_slices(signed_bits(x), stored, part) if in_dsp else 1),
        bram_18k=bram,
        shallow_18k=bram if reuse <= SHALLOW_WORDS else 0,
        depth=reuse + later,
        latency_cycles=reuse + later,
        initiation_interval_cycles=reuse,
        detail={"multipliers": 0 if po2 else units, "shifts": units if po2 else 0, "adders": units},
    )


def _vivado_2020(hls: Hls) -> bool:
    """Say whether a tool is Vivado HLS 2020.1, whose loops over sums differ from those of earlier and later tools."""
    return not hls.vitis and hls.version == LAST_VIVADO_HLS


def _shifter_luts(op: MatMul, x: FixedFormat) -> int:
    """Return the LUTs of a shift by a stored exponent."""
    exponents = split(op.weight.codes)
    span = exponents.max_exponent - exponents.min_exponent
    return rules.shifter_luts(span, x.width + span + 1)


def cast_luts(op: MatMul, x: FixedFormat) -> int:
    """Return the LUTs of rounding and clamping the sums, by structure; without them a cast is wires."""
    acc = accumulation(op, x)
    shift = acc.frac_bits - op.format.frac_bits
    return sum(
        rules.cast_luts(bits, low < 0, shift, op)
        for bits, low in zip(op.channel_bits or acc.channel_bits, acc.channel_low.tolist(), strict=True)
    )


def weight_memory(bits: int, depth: int) -> tuple[int, int]:
    """Return (bram_18k, LUTs) of a ROM: blocks of 512 x 36 or 1024 x 18, one upon another; the smallest in LUTs."""
    if bits * depth <= rules.SMALL_MEMORY_BITS:
        return 0, bits * math.ceil(depth / 64)
    whole, rest = divmod(depth, 1024)
    blocks = whole * math.ceil(bits / 18)
    if rest:
        blocks += math.ceil(bits / 36) if rest <= 512 else math.ceil(bits / 18)
    return blocks, 0
