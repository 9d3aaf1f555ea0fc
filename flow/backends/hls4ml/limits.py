"""What the tools behind hls4ml's projects are known to fail at, as rules of the preflight (docs/preflight.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from flow.backends.functions import Design
from flow.backends.hls4ml.kernels import kernel
from flow.backends.hls4ml.layers import needs_kernel
from flow.backends.hls4ml.refusals import legal_reuse_factors, reuse_refusals
from flow.cost.fifos import PIPELINE_STEPS, fifos, needed_depths
from flow.cost.hls.matmuls import LONG_TREE_WEIGHTS, TERMS_PER_CYCLE
from flow.cost.streams import processes, stream_roots, streams
from flow.findings import ERROR, WARNING, Hit, Rule
from flow.ir.graph import Input, MatMul, Op, Reshape
from flow.ir.po2 import is_po2, split

PARTITION_ELEMENTS = 4096
"""Elements of an array that Vivado HLS partitions completely: `MaximumSize` in hls4ml's project script."""
UNROLLED_STEPS = 4096
"""Steps of a loop that Vivado HLS unrolls."""
DESIGN_INSTRUCTIONS = 300_000
"""Instructions beyond which Vitis HLS warns of slow compilation: the value that UG1399 shows for its option."""
RESHAPED_BITS = 65_536
"""Width of an array that Vivado HLS reshapes into one word."""
STREAM_BITS = 4096
"""Width of a word of a stream in Vitis HLS."""
FAST_BITS = 64
"""Width up to which the HLS headers keep a number in one machine word."""


def _illegal_reuse_factors(subject: Design) -> Iterator[Hit]:
    """A reuse factor that hls4ml would change, or of an op that is not there."""
    yield from map(Hit.of, reuse_refusals(subject.lowered, subject.target))


def _matmuls(subject: Design, backend: str, strategy: str) -> Iterator[tuple[MatMul, int, int]]:
    """Yield dense and convolution ops with the size of the matrix hls4ml makes of each, on such a target only."""
    if (subject.target.backend, subject.target.strategy) == (backend, strategy):
        for op in subject.lowered.ops:
            if isinstance(op, MatMul):
                n_in, n_out = op.matrix().shape
                yield op, n_in, n_out


def _reused(op: MatMul, n_in: int, n_out: int) -> str:
    """Return the options under which an op's loop is short enough."""
    factor = next(f for f in legal_reuse_factors(n_in, n_out) if n_in * n_out <= f * UNROLLED_STEPS)
    return f"--strategy Resource --reuse-factor {op.name}={factor}"


def _large_arrays(subject: Design) -> Iterator[Hit]:
    """An array that Vivado HLS has to partition completely is too large for it."""
    for op, n_in, n_out in _matmuls(subject, "Vivado", "Latency"):
        if n_in * n_out > PARTITION_ELEMENTS:
            reason = f"op '{op.name}' has {n_in} x {n_out} products in one array of registers, Vivado HLS takes"
            remedy = f"use {_reused(op, n_in, n_out)}, or --backend Vitis, of which no such limit is known"
            yield Hit(op.name, f"{reason} {PARTITION_ELEMENTS}", remedy)
    if subject.target.backend == "Vivado" and subject.target.io_type == "io_parallel":
        for tensor in subject.lowered.ops:
            size = math.prod(tensor.shape)
            if size > PARTITION_ELEMENTS and not isinstance(tensor, Input | Reshape):
                reason = f"op '{tensor.name}' has an output of {size} elements in registers, Vivado HLS takes"
                yield Hit(tensor.name, f"{reason} {PARTITION_ELEMENTS}", "use --io-type io_stream, or --backend Vitis")


def _long_loops(subject: Design) -> Iterator[Hit]:
    """A loop that Vivado HLS has to unroll is too long for it."""
    for op, n_in, n_out in _matmuls(subject, "Vivado", "Resource"):
        steps = math.ceil(n_in * n_out / subject.target.reuse(op.name))
        if steps > UNROLLED_STEPS:
            reason = f"op '{op.name}' unrolls {steps} of its {n_in * n_out} products, Vivado HLS stops beyond"
            yield Hit(op.name, f"{reason} {UNROLLED_STEPS}", f"use {_reused(op, n_in, n_out)} or more")


def _long_trees(subject: Design) -> Iterator[Hit]:
    """Vitis HLS adds the products of so many weights one after another, not in trees."""
    for op, n_in, n_out in _matmuls(subject, "Vitis", "Latency"):
        if n_in * n_out > LONG_TREE_WEIGHTS:
            longest = int((op.matrix() != 0).sum(axis=0).max())
            reason = f"op '{op.name}' sums {n_in} x {n_out} products at once; beyond {LONG_TREE_WEIGHTS} weights"
            yield Hit(
                op.name,
                f"{reason} Vitis HLS builds no trees: about {math.ceil(longest / TERMS_PER_CYCLE)} cycles of registers",
                f"use {_reused(op, n_in, n_out)}",
            )


def _large_designs(subject: Design) -> Iterator[Hit]:
    """Unrolled loops make more instructions than Vitis HLS compiles in usual time."""
    strategy, counts = subject.target.strategy, {}
    for op, n_in, n_out in _matmuls(subject, "Vitis", strategy):
        reuse = subject.target.reuse(op.name) if strategy == "Resource" else 1
        counts[op.name] = 2 * math.ceil(n_in * n_out / reuse)
    if sum(counts.values()) > DESIGN_INSTRUCTIONS:
        largest = max(counts, key=lambda name: counts[name])
        reason = f"unrolled products and sums are {sum(counts.values())} instructions, {counts[largest]} of them in"
        remedy = f"use --strategy Resource with a reuse factor for op '{largest}', or expect hours"
        yield Hit(largest, f"{reason} op '{largest}'; Vitis HLS warns from {DESIGN_INSTRUCTIONS}", remedy)


def _wide_words(subject: Design) -> Iterator[Hit]:
    """A word that Vivado HLS has to make of a whole array is too wide for it."""
    for op, n_in, n_out in _matmuls(subject, "Vivado", "Resource"):
        stored = split(op.weight.codes).stored_bits if is_po2(op.weight.codes) else op.weight.format.width
        bits = stored * math.ceil(n_in * n_out / subject.target.reuse(op.name))
        if bits > RESHAPED_BITS:
            reason = f"op '{op.name}' reads {bits} bits of weights at once, Vivado HLS takes {RESHAPED_BITS}"
            yield Hit(op.name, reason, f"use a larger reuse factor for op '{op.name}'")
    if subject.target.backend == "Vivado" and subject.target.io_type == "io_parallel":
        for port in subject.lowered.inputs:
            bits = math.prod(port.shape) * port.format.width
            if bits > RESHAPED_BITS:
                reason = f"op '{port.name}' is a port of {bits} bits, Vivado HLS takes {RESHAPED_BITS}"
                yield Hit(port.name, reason, "use --io-type io_stream")


def _wide_streams(subject: Design) -> Iterator[Hit]:
    """A stream whose words are too wide for Vitis HLS."""
    if (subject.target.backend, subject.target.io_type) != ("Vitis", "io_stream"):
        return
    roots = stream_roots(subject.lowered)
    for op in subject.lowered.ops:
        bits = op.shape[-1] * op.format.width
        if roots[op.name] == op.name and bits > STREAM_BITS:
            reason = f"op '{op.name}' has stream words of {op.shape[-1]} channels, {bits} bits"
            yield Hit(op.name, f"{reason}, Vitis HLS takes {STREAM_BITS}", "use fewer channels or bits, or io_parallel")


def _shallow_branches(subject: Design) -> Iterator[Hit]:
    """A branch's FIFO is too shallow for the pipeline beside it: the streams would wait for each other forever."""
    if subject.target.io_type != "io_stream" or subject.resources is None:
        return
    longest = max((_pipeline_stages(layer) for layer in subject.resources.layers), default=0)
    if longest <= PIPELINE_STEPS:  # the depths are made for these
        return
    built = {fifo.stream: fifo for fifo in fifos(subject.lowered)}
    for stream, needed in needed_depths(processes(subject.lowered, streams(subject.lowered)), longest).items():
        fifo = built[stream]
        if fifo.depth < needed:
            reason = f"op '{fifo.op}' has a FIFO of depth {fifo.depth} in stream '{stream}', {needed} are needed"
            remedy = "use a longer clock period or io_parallel, or set the depth in the project by hand"
            yield Hit(fifo.op, f"{reason} beside a pipeline of {longest} stages", remedy)


def _pipeline_stages(layer: Any) -> int:
    """Return about how many stages an op's pipeline has: its latency beyond what it needs to read its words."""
    return max(0, (layer.latency_cycles or 0) - (layer.initiation_interval_cycles or 0) + 1)


def _wide_types(subject: Design) -> Iterator[Hit]:
    """A type beyond what the HLS headers compute in one machine word: C simulation crawls."""
    for op in subject.lowered.ops:
        bits = _widest_type(op, subject)
        if bits > FAST_BITS:
            reason = f"op '{op.name}' computes in types of {bits} bits; C simulation is fast up to {FAST_BITS}"
            yield Hit(op.name, reason, "use fewer bits for its weights or its input, or expect C simulation to be slow")


def _widest_type(op: Op, subject: Design) -> int:
    """Return the width of the widest type that an op computes in."""
    widths = [op.format.width]
    if isinstance(op, MatMul):
        x, weight = subject.lowered.sources(op)[0].format.width, op.weight.format.width
        if subject.target.strategy == "Resource" and is_po2(op.weight.codes):
            weight = 2 + (1 << split(op.weight.codes).exponent_bits) - 1  # `nnet_po2.h`: the shift, a sign, a negation
        widths += [x + weight, 1 + (op.accumulator.width if op.accumulator else 0)]
    if needs_kernel(op, subject.lowered, subject.target):
        widths.append(kernel(op, subject.lowered, subject.target).bits)
    return max(widths)


REUSE_RULES: tuple[Rule[Design], ...] = (
    Rule("reuse-factor", ERROR, "hls4ml 1.3.0, FPGABackend._validate_reuse_factor", _illegal_reuse_factors),
)
"""Of every back end that hls4ml writes for."""
AMD_RULES: tuple[Rule[Design], ...] = (
    *REUSE_RULES,
    Rule(
        "array-partition",
        WARNING,
        "hls4ml issue #1157: Vivado HLS error XFORM 203-103 beyond config_array_partition -maximum_size",
        _large_arrays,
    ),
    Rule("unroll", WARNING, "hls4ml issues #904 and #1013: Vivado HLS error XFORM 203-504", _long_loops),
    Rule(
        "long-tree",
        WARNING,
        "reports of Vitis HLS 2021.1 for dense layers of 561 x 20 weights, docs/estimates.md",
        _long_trees,
    ),
    Rule(
        "design-size",
        WARNING,
        "Vitis HLS User Guide UG1399, Compile Options, syn.compile.design_size_maximum_warning",
        _large_designs,
    ),
    Rule("reshape-width", WARNING, "hls4ml issue #506: Vivado HLS error XFORM 203-133", _wide_words),
    Rule(
        "stream-width",
        WARNING,
        "Xilinx/Vitis-HLS-Introductory-Examples issue #19: bit width of a stream beyond 4096",
        _wide_streams,
    ),
    Rule("fifo-depth", WARNING, "computed from the graph, docs/streams.md", _shallow_branches),
    Rule("wide-type", WARNING, "ap_private.h of the HLS headers: one machine word where _AP_W <= 64", _wide_types),
)
"""Of Vitis and Vivado, each rule of the one that it names or of both."""
