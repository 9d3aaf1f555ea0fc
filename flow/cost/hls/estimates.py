"""The two estimates of an HLS project: what the report of C synthesis will say, and what Vivado will make of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from flow.cost.cost_rules import fifo_memory
from flow.cost.estimation import longest_paths, op_costs, through_stream
from flow.cost.fifos import fifos
from flow.cost.hls import intervals
from flow.cost.hls.kernels import FREE, MADE
from flow.cost.hls.matmuls import SHALLOW_WORDS, Counted
from flow.cost.hls.settings import Hls, assumed
from flow.ir import ops
from flow.ir.graph import IntGraph
from flow.parts import find_part
from flow.results import ResourceReport, Resources
from flow.target import Target

TOOL = "flow static model, see docs/estimates.md"
BLOCKS = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
"""Shapes of a block RAM of 18 kbit (UG473, UG573); Vivado HLS does not use the first for FIFOs."""
CALL_CYCLES = {True: 2, False: 0}
"""Of the top function around its ops, by whether the tool is Vitis HLS; each product adds one for its call."""
VIVADO_SHARES: Mapping[str, tuple[float, float]] = {
    "constant weights": (0.48, 0.68),
    "convolution of arrays": (0.48, 0.68),
    "stored weights": (0.38, 0.62),
    "saturating sums": (0.27, 0.6),
    "activation": (0.48, 0.68),
    "table of a function": (0.48, 0.68),
    "pooling": (0.48, 0.68),
    "derived": (1.0, 1.0),
}
"""Kind -> LUTs and flip-flops of Vivado's synthesis over those of C synthesis (docs/estimates.md, Carried over)."""
LUTS_FOR_A_DSP = 170
"""Of a product of 16 by 16 bits that finds no DSP slice: 0.65 per pair of bits."""
LUTS_OF_A_SHALLOW_BLOCK = 18
"""Of a memory of 64 words in place of a block RAM: a bit each (UG474, UG574)."""
Numbers = Mapping[str, Mapping[str, float]]


@cache
def numbers() -> Numbers:
    """Return LUTs and flip-flops of each amount, as benchmarks/fit_hls.py fitted them."""
    fitted: Mapping[str, Any] = json.loads((resources.files("flow.cost.hls") / "numbers.json").read_text())
    return fitted


def amounts(graph: IntGraph, target: Target, hls: Hls) -> dict[str, Counted]:
    """Return what C synthesis makes of each op, its FIFO included, in amounts of what takes LUTs and flip-flops."""
    part = find_part(target.part)
    costs = op_costs(graph, target, part)
    found = {
        op.name: MADE[type(op)](op, graph.sources(op), costs[op.name], target, part, hls)
        for op in graph.ops
        if type(op) not in FREE
    }
    return _with_fifos(found, graph, hls) if target.streams else found


def _with_fifos(found: Mapping[str, Counted], graph: IntGraph, hls: Hls) -> dict[str, Counted]:
    """Add every FIFO to the op whose codes it carries, those of an input to the first op that reads it."""
    extended = dict(found)
    for fifo in fifos(graph):
        name = fifo.op if fifo.op in extended else graph.readers(fifo.op)[0].name
        channels = graph[fifo.op].shape[-1]
        depth = fifo.words if hls.stock else fifo.depth
        bits = fifo.word_bits if hls.vitis else fifo.word_bits // channels
        count = 1 if hls.vitis else channels
        memory = fifo_blocks(bits, depth, hls)
        small = {"FIFO bit": count * bits * math.ceil(depth / 32)} if not memory and hls.vitis else {}
        counted = extended[name]
        lut, ff = dict(counted.lut), dict(counted.ff)
        for key, amount in (("FIFO", count), *small.items()):
            lut[key] = lut.get(key, 0) + amount
        for key, amount in (("FIFO", count), *({"FIFO bit": count * bits} if hls.vitis else {}).items()):
            ff[key] = ff.get(key, 0) + amount
        extended[name] = replace(
            counted,
            lut=lut,
            ff=ff,
            bram_18k=counted.bram_18k + count * memory,
            shallow_18k=counted.shallow_18k + count * memory * (depth <= SHALLOW_WORDS),
        )
    return extended


def fifo_blocks(bits: int, depth: int, hls: Hls) -> int:
    """Return the block RAMs of a FIFO: none where it fits into shift registers."""
    if not fifo_memory(bits, depth)[0]:
        return 0
    shapes = BLOCKS if hls.vitis else BLOCKS[1:]
    return min(math.ceil(bits / wide) * math.ceil(depth / deep) for wide, deep in shapes)


def estimate_csynth(
    graph: IntGraph, target: Target, hls: Hls | None = None, fitted: Numbers | None = None
) -> ResourceReport:
    """Return what the report of C synthesis will say.

    Args:
        graph: after the passes.
        target: back end, io_type, strategy, reuse factors, part and clock.
        hls: what the project is compiled with; None for what our own are.
        fitted: LUTs and flip-flops of each amount; None for `numbers`.

    Raises:
        SpecError: the part is not in the table of flow.parts.
        UnsupportedError: as `flow.cost.estimation.op_costs`, or a stream is read by nothing.
    """
    hls = hls or assumed(target)
    found = amounts(graph, target, hls)
    layers = tuple(_resources(name, counted, fitted or numbers()) for name, counted in found.items())
    total = _total(graph, target, hls, found, layers)
    return _report(target, hls, found, layers, total, source="static_csynth", predicts="csynth")


def estimate(graph: IntGraph, target: Target, hls: Hls | None = None, fitted: Numbers | None = None) -> ResourceReport:
    """Return what Vivado's synthesis will make of what C synthesis leaves: the hardware. As `estimate_csynth`.

    Memories of few words become LUTs, and so do products for which the part has no DSP slice left.
    """
    hls = hls or assumed(target)
    found = amounts(graph, target, hls)
    reported = [_resources(name, counted, fitted or numbers()) for name, counted in found.items()]
    has = find_part(target.part).capacity().get("dsp")
    wanted = sum(counted.dsp for counted in found.values())
    kept = 1.0 if has is None or wanted <= has else has / wanted
    layers = tuple(_synthesized(counted, of_op, kept) for counted, of_op in zip(found.values(), reported, strict=True))
    total = _total(graph, target, hls, found, layers)
    if target.streams:
        total = replace(total, latency_cycles=through_stream(graph, found))  # no report has it, but its slowest op's
    if kept < 1:
        total = replace(total, detail={**total.detail, "dsp_asked": wanted})
    return _report(target, hls, found, layers, total, source="static", predicts="vivado")


def _synthesized(counted: Counted, reported: Resources, kept: float) -> Resources:
    lut_share, ff_share = VIVADO_SHARES[counted.kind]
    dsp = math.floor(counted.dsp * kept)
    small_memories = counted.shallow_18k * LUTS_OF_A_SHALLOW_BLOCK
    return replace(
        reported,
        lut=round(lut_share * (reported.lut or 0) + small_memories + (counted.dsp - dsp) * LUTS_FOR_A_DSP),
        ff=round(ff_share * (reported.ff or 0)),
        dsp=dsp,
        bram_18k=counted.bram_18k - counted.shallow_18k,
    )


def _report(
    target: Target,
    hls: Hls,
    found: Mapping[str, Counted],
    layers: tuple[Resources, ...],
    total: Resources,
    *,
    source: str,
    predicts: str,
) -> ResourceReport:
    kinds = [counted.kind for counted in found.values()]
    groups = list(intervals.groups_of(target.io_type, target.strategy, kinds or ["no op"]))
    unknown = sum(kind == intervals.DERIVED for kind in kinds)
    unknown_latency = target.streams and predicts == "vivado"
    derived = f"; {unknown} of {len(kinds)} ops are derived, without truth" if unknown else ""
    return ResourceReport(
        source=source,
        tool=f"{TOOL}, for {hls.named}",
        part=target.part,
        clock_period_ns=target.clock_period_ns,
        total=intervals.with_intervals(total, predicts, groups, derived, unknown_latency),
        layers=tuple(
            intervals.with_intervals(layer, predicts, [intervals.group_of_op(target.io_type, counted.kind)])
            for layer, counted in zip(layers, found.values(), strict=True)
        ),
        capacity=find_part(target.part).capacity(),
        predicts=predicts,
    )


def _resources(name: str, counted: Counted, each: Numbers) -> Resources:
    lut, ff = (
        round(sum(each[what].get(thing, 0.0) * amount for thing, amount in amounts.items()))
        for what, amounts in (("lut", counted.lut), ("ff", counted.ff))
    )
    return Resources(
        name=name,
        lut=lut,
        ff=ff,
        dsp=counted.dsp,
        bram_18k=counted.bram_18k,
        uram=0,
        latency_cycles=counted.latency_cycles,
        initiation_interval_cycles=counted.initiation_interval_cycles,
        detail=counted.detail,
    )


def _total(
    graph: IntGraph, target: Target, hls: Hls, found: Mapping[str, Counted], layers: tuple[Resources, ...]
) -> Resources:
    """Sum the counts; cycles as the report of C synthesis has them, whose latency of a stream is its slowest op's."""
    names = ("lut", "ff", "dsp", "bram_18k", "uram")
    total = {name: sum(getattr(layer, name) for layer in layers) for name in names}
    interval = max((counted.initiation_interval_cycles for counted in found.values()), default=0)
    if target.streams:
        latency = max((counted.latency_cycles for counted in found.values()), default=0)
    else:
        cycles = {name: counted.latency_cycles for name, counted in found.items()}
        latency = max(longest_paths(graph, cycles).values(), default=0)
        matmuls = sum(isinstance(op, ops.MatMul) for op in graph.ops)
        between = matmuls + CALL_CYCLES[hls.vitis]
        latency += between if matmuls > 1 and target.strategy == "Latency" else 0
    keys = dict.fromkeys(key for layer in layers for key in layer.detail)
    return Resources(
        name=graph.name,
        latency_cycles=latency,
        initiation_interval_cycles=interval,
        detail={key: sum(layer.detail.get(key, 0) for layer in layers) for key in keys},
        **total,
    )
