"""LUTs of a batch norm and the quantizer behind it in three forms, by Yosys: what `flow.ir.scaling` chooses between.

    python benchmarks/thresholds.py

Sums of 12 to 28 bits, stock batch norms (24-bit factors) of two channels, quantizers of 2 to 8 bits: the true factors,
the shortest that give the same codes, and thresholds. Each is a Verilog project of its own.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from flow.backends.functions import functions
from flow.backends.rtl.synthesis.synth import synthesize
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Input, IntGraph, Lookup, Op
from flow.ir.intervals import exact_result
from flow.ir.scaling import Line, cuts_of, shortened, stepped
from flow.project import write
from flow.target import Target

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from nets import Net, s

SUM_BITS, OUTPUT_BITS, CHANNELS = (12, 16, 20, 24, 28), (2, 4, 6, 8), 2


def forms(sum_bits: int, output_bits: int, seed: int) -> dict[str, IntGraph]:
    """Return a batch norm and its quantizer in each form, which compute the same."""
    rng = np.random.default_rng(seed)
    scale, offset = rng.integers(1 << 23, 1 << 24, CHANNELS), rng.integers(-(1 << 22), 1 << 22, CHANNELS)
    net = Net((CHANNELS,), s(sum_bits, sum_bits - 3)).batchnorm(scale, offset, 24, 24)  # sums from -4 to 4
    port, op = net.ops
    cast = Cast(FixedFormat(True, 1, output_bits - 2), Rounding.RND_CONV, Overflow.SAT)
    assert isinstance(port, Input) and isinstance(op, BatchNorm)
    exact = exact_result(op, port.format)
    pairs = zip(scale << exact.shifts[0], offset << exact.shifts[1], strict=True)
    lines = [Line(int(a), int(b), exact.frac_bits) for a, b in pairs]
    short = shortened(lines, port.format, cast)
    assert short is not None
    codes = np.arange(cast.lowest_code, cast.format.max_code + 1)
    starts, values = stepped(lines, cuts_of(cast), codes, port.format)
    shape = {"name": op.name, "inputs": op.inputs, "shape": op.shape, "fused": op.fused}
    made: dict[str, Op] = {
        "true factors": replace(op, cast=cast),
        "shortest": replace(op, scale=short[0], offset=short[1], cast=short[2]),
        "thresholds": Lookup(cast=Cast(cast.format), starts=starts, values=values, **shape),
    }
    return {name: IntGraph(name="net", ops=(port, each), outputs=(op.name,)) for name, each in made.items()}


def luts(graph: IntGraph, cache: Path) -> int:
    """Return the LUTs of a graph, with those of the carry chains."""
    target = Target(backend="rtl", io_type="io_parallel")
    with tempfile.TemporaryDirectory() as scratch:
        write(functions(target).emit(graph, target), Path(scratch))
        return int(synthesize(Path(scratch), graph.name, (), target, cache).total.lut or 0)


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    print("| sum, bits | quantizer, bits | true factors | shortest | its bits | thresholds |\n" + "|---" * 6 + "|")
    with tempfile.TemporaryDirectory() as cache:
        for sum_bits, output_bits in product(SUM_BITS, OUTPUT_BITS):
            graphs = forms(sum_bits, output_bits, 100 * sum_bits + output_bits)
            taken = {name: luts(graph, Path(cache)) for name, graph in graphs.items()}
            norm = graphs["shortest"].ops[-1]
            assert isinstance(norm, BatchNorm)
            own = (taken["true factors"], taken["shortest"], norm.scale.format.width, taken["thresholds"])
            print("|", " | ".join(map(str, (sum_bits, output_bits, *own))), "|", flush=True)


if __name__ == "__main__":
    main()
