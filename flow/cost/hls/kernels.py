"""What C synthesis makes of each op: its kernel, and in a stream what stands around it (nnet_conv_stream.h, ...).

Kernels of hls4ml have been measured; those of our own (`nnet_flow.h`) are derived from what their logic is, as
`flow.cost.estimation` counts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from flow.cost import cost_rules as rules
from flow.cost.cost_rules import Cost
from flow.cost.hls.matmuls import Counted, constant_weights, reuse_of, stored_weights
from flow.cost.hls.products import accumulator_of
from flow.cost.hls.settings import Hls
from flow.ir import ops
from flow.ir.fixed import Overflow, Rounding
from flow.ir.graph import Op
from flow.ir.ops import MatMul
from flow.parts import Part
from flow.target import Target

Made = Callable[[Op, Sequence[Op], Cost, Target, Part, Hls], Counted]
RESOURCE_TURN, CALL_TURN, SHARED_TURN = 6, 2, 3
"""Cycles that a convolution in a stream adds to those of each position: strategy Resource; a call in Vitis HLS, whose
loop is not pipelined; products that take turns in Vivado HLS."""
STREAMED_COMPARISONS = 3
"""Of a code of a window in a stream at a time; the others take turns."""
SATURATING_TURN = 5
"""Cycles that accumulators add which round or clamp at every addition."""
TABLE_CYCLES = {True: 3, False: 2}
"""Of a function from a table: Vitis HLS, Vivado HLS."""


def _by_structure(op: Op, inputs: Sequence[Op], cost: Cost, target: Target, part: Part, hls: Hls) -> Counted:
    """Derive an op that no truth is known of from what its logic is."""
    made = cost.resources("")
    return Counted(
        kind="derived",
        lut={"LUT by structure": made.lut or 0},
        ff={"register bit by structure": made.ff or 0},
        dsp=cost.dsp,
        bram_18k=cost.bram_18k,
        depth=cost.depth,
        latency_cycles=cost.latency_cycles,
        initiation_interval_cycles=cost.initiation_interval_cycles,
        detail=made.detail,
    )


def _batchnorm(op: Op, inputs: Sequence[Op], cost: Cost, target: Target, part: Part, hls: Hls) -> Counted:
    """As `_by_structure`, but hls4ml limits its products by the reuse factor."""
    assert isinstance(op, ops.BatchNorm)
    limit = math.ceil(op.scale.codes.size / target.reuse(op.name))
    return _by_structure(op, inputs, replace(cost, dsp=min(cost.dsp, limit)), target, part, hls)


Measured = Callable[[Op, Sequence[Op], Target, Hls], Counted | None]


def _measured(made: Measured) -> Made:
    """Return what makes an op whose kernel is hls4ml's; where `made` gives None the kernel is another, and derived."""

    def kernel(op: Op, inputs: Sequence[Op], cost: Cost, target: Target, part: Part, hls: Hls) -> Counted:
        found = made(op, inputs, target, hls)
        return _by_structure(op, inputs, cost, target, part, hls) if found is None else _timed(found, cost, target, hls)

    return kernel


def _timed(found: Counted, cost: Cost, target: Target, hls: Hls) -> Counted:
    """Return an op beside products with its cycles: combinational in arrays, a loop over words in a stream."""
    turns = max(cost.initiation_interval_cycles, 1)
    latency = turns - 1 + found.depth
    alone = target.streams and hls.vitis and turns == 1  # Vitis HLS does not pipeline a loop of one word
    return replace(found, latency_cycles=latency, initiation_interval_cycles=max(latency, 1) if alone else turns)


# -- products


def _products(op: Op, inputs: Sequence[Op], cost: Cost, target: Target, part: Part, hls: Hls) -> Counted:
    assert isinstance(op, MatMul)
    (x,) = inputs
    stored = target.strategy == "Resource" and target.reuse(op.name) > 1
    if stored:
        inside = target.streams or not isinstance(x, ops.Input)
        made = stored_weights(op, x.format, target, part, hls, inside)
    else:
        made = constant_weights(op, x.format, target, part, hls)
    if op.name in hls.saturating:
        bits = {"saturated sum bit": made.detail["adders"] * accumulator_of(op, x.format).width}
        made = replace(made, kind="saturating sums", lut={**made.lut, **bits}, ff={**made.ff, **bits})
    made = replace(made, detail={**made.detail, **_weights(op, cost)})
    if target.streams:
        return _streamed(op, x, made, stored, target, hls)
    positions = math.prod(op.shape[:-1])
    return made if positions == 1 else _positions(op, x, made, positions, hls)


def _weights(op: MatMul, cost: Cost) -> dict[str, int]:
    return {
        "weights": cost.weights,
        "nonzero_weights": cost.nonzero_weights,
        "weight_bits": cost.weight_bits,
    }


def _positions(op: MatMul, x: Op, made: Counted, positions: int, hls: Hls) -> Counted:
    """Return a convolution of arrays: hardware for some of its positions, which take the others in turn.

    By structure, each input of a window is then chosen among so many places, and all outputs are kept.
    """
    partitions = min(dict(hls.partitions).get(op.name, positions), positions)
    copies = math.ceil(positions / partitions)
    interval = partitions * made.initiation_interval_cycles
    window_bits = int(np.count_nonzero(op.matrix().any(axis=1))) * x.format.width
    choices = rules.multiplexer_luts(partitions, window_bits)
    kept = math.prod(op.shape) * op.format.width if partitions > 1 else 0
    lut = {**made.lut, "LUT by structure": made.lut.get("LUT by structure", 0) + choices}
    ff = {**made.ff, "register bit by structure": kept / copies}
    return replace(
        made,
        kind="convolution of arrays",
        lut={name: copies * amount for name, amount in lut.items()},
        ff={name: copies * amount for name, amount in ff.items()},
        dsp=copies * made.dsp,
        bram_18k=copies * made.bram_18k,
        latency_cycles=interval - made.initiation_interval_cycles + made.latency_cycles,
        initiation_interval_cycles=interval,
    )


def _streamed(op: MatMul, x: Op, made: Counted, stored: bool, target: Target, hls: Hls) -> Counted:
    """Return a kernel of streams: it collects words, computes, and writes a word at each position."""
    n_in, n_out = op.matrix().shape
    around = {"word at a stream": n_in + n_out}
    wires = not hls.vitis and not made.latency_cycles
    words = {} if stored or wires else {"bit between ops": n_in * x.format.width + n_out * op.format.width}
    if isinstance(op, ops.Conv):
        padded = op.window.padded(x.shape)
        turns = _turns(op, made, stored, target, hls)
        lines = sum(
            (span - 1) * math.ceil(math.prod(padded[axis + 1 : -1]) / 32)
            for axis, span in enumerate(op.window.size[:-1])
        )
        latency = math.prod(padded[:-1]) * turns + 2
        around |= {"LUT of a line buffer": lines * x.shape[-1] * x.format.width}
        depth = made.depth
    else:
        reads = math.prod(x.shape[:-1])
        latency = reads - (reads == 1) + made.latency_cycles + 2
        depth = latency
    return replace(
        made,
        lut={**made.lut, **around},
        ff={**made.ff, **words},
        depth=depth,
        latency_cycles=latency,
        initiation_interval_cycles=1 if wires and latency <= 2 else latency,
    )


def _turns(op: ops.Conv, made: Counted, stored: bool, target: Target, hls: Hls) -> int:
    """Return the cycles between two positions of a convolution."""
    if target.strategy == "Resource":
        saturating = SATURATING_TURN if op.name in hls.saturating else 0
        return (target.reuse(op.name) if stored else 1) + RESOURCE_TURN + saturating
    if op.groups > 1:
        return 1
    if op.window.pixels == 1:
        return made.initiation_interval_cycles
    if hls.vitis:
        return made.latency_cycles + CALL_TURN
    return 1 if reuse_of(op, target) == 1 else made.latency_cycles + SHARED_TURN - 1


# -- element by element


def _codes(op: Op, target: Target) -> int:
    return op.shape[-1] if target.streams else math.prod(op.shape)


def _rounds(op: Op) -> bool:
    return op.cast.rounding is not Rounding.TRN or op.cast.overflow is not Overflow.WRAP


def _relu(op: Op, inputs: Sequence[Op], target: Target, hls: Hls) -> Counted:
    bits, tool = _codes(op, target) * inputs[0].format.width, hls.tool
    name = f"rounded bit, {tool}" if _rounds(op) else f"compared bit, {tool}"
    return Counted(kind="activation", lut={name: bits}, ff=_words(op, target), depth=int(target.streams or _rounds(op)))


def _requantize(op: Op, inputs: Sequence[Op], target: Target, hls: Hls) -> Counted:
    """A cast alone is wires where it neither rounds nor clamps."""
    bits = _codes(op, target) * inputs[0].format.width
    lut = {f"rounded bit, {hls.tool}": bits} if _rounds(op) and not hls.stock else {}
    return Counted(kind="activation", lut=lut)


def _table(op: Op, inputs: Sequence[Op], target: Target, hls: Hls) -> Counted | None:
    """A function from a table of 1024 words, two codes to a block RAM: hls4ml's own."""
    if not hls.stock:
        return None
    codes = _codes(op, target)
    return Counted(
        kind="table of a function",
        lut={f"looked-up code, {hls.tool}": codes},
        ff={"looked-up code": codes},
        bram_18k=math.ceil(codes / 2),
        depth=TABLE_CYCLES[hls.vitis] + target.streams,
    )


def _leaky_relu(op: Op, inputs: Sequence[Op], target: Target, hls: Hls) -> Counted | None:
    """A slope of 1 is wires."""
    assert isinstance(op, ops.LeakyRelu)
    one = 1 << op.slope.format.frac_bits
    return Counted(kind="activation", depth=int(target.streams)) if (op.slope.codes == one).all() else None


def _maxpool(op: Op, inputs: Sequence[Op], target: Target, hls: Hls) -> Counted:
    assert isinstance(op, ops.MaxPool)
    (x,) = inputs
    together = op.window.pixels - 1 if not target.streams else min(op.window.pixels - 1, STREAMED_COMPARISONS)
    compared = _codes(op, target) * together * op.format.width
    if not target.streams:
        return Counted(
            kind="pooling",
            lut={f"compared bit, {hls.tool}": compared},
            ff={"bit of a port": math.prod(x.shape) * x.format.width} if isinstance(x, ops.Input) else {},
        )
    return Counted(
        kind="pooling",
        lut={f"compared bit, {hls.tool}": compared},
        ff={"window bit": op.window.pixels * x.shape[-1] * x.format.width},
        depth=1,
    )


def _words(op: Op, target: Target) -> dict[str, float]:
    return {"word bit": op.shape[-1] * op.format.width} if target.streams else {}


MADE: Mapping[type[Op], Made] = {
    ops.Dense: _products,
    ops.Conv: _products,
    ops.BatchNorm: _batchnorm,
    ops.Relu: _measured(_relu),
    ops.LeakyRelu: _measured(_leaky_relu),
    ops.Requantize: _measured(_requantize),
    ops.Lookup: _measured(_table),
    ops.MaxPool: _measured(_maxpool),
    ops.Merge: _by_structure,
    ops.SumPool: _by_structure,
    ops.Reshape: _by_structure,
    ops.Gather: _by_structure,
    ops.TruthTable: _by_structure,
    ops.Softmax: _by_structure,
    ops.Scan: _by_structure,
}
"""What C synthesis makes of an op, from the op, the ops that it reads, what it is by structure
(`flow.cost.estimation.op_costs`), the target, the part, and what the project is compiled with."""
FREE: tuple[type[Op], ...] = (ops.Input,)
"""Ops that take nothing: ports."""
