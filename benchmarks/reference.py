"""Print what an image costs in the reference, beside float inference of the same network in TensorFlow.

    python benchmarks/reference.py [--images 8] [--rounds 5] [--networks resnet50 mobilenetv2]

Both networks have the size for ImageNet (224 x 224 pixels, 1000 classes) and 8-bit weights and activations; the numbers
are random, which changes no time. Both sides run alternately (A B A B ...), warm, on all cores; the medians are
compared. TensorFlow runs without oneDNN, as everywhere in po2flow; `TF_ENABLE_ONEDNN_OPTS=1` before the command turns
it on. Memory is the process's: of the second network it says little. Needs `po2flow[train]`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import resource
import time
from statistics import median
from typing import Any

import numpy as np
from stock import markdown_table

from flow.ir import reference
from flow.ir.fixed import Cast, Constant, FixedFormat, Overflow, Rounding
from flow.ir.graph import Conv, Dense, Gather, Input, IntGraph, MaxPool, Merge, Op, Relu, Reshape, SumPool
from flow.ir.intervals import exact_result
from flow.ir.windows import Shape, Window

U8, S8, WIDEST = FixedFormat(False, 8, 0), FixedFormat(True, 7, 0), FixedFormat(True, 62, 0)
SAT = Rounding.RND_CONV, Overflow.SAT


class Builder:
    """A graph under construction: each method adds an op and returns it."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: dict[str, Op] = {}

    def add(self, cls: type[Op], x: Op, shape: Shape, *others: Op, **values: Any) -> Op:
        """Add an op; without a format it has the one that holds each of its exact results."""
        name, inputs = f"{cls.kind}_{len(self.ops)}", (x, *others)
        common = {"name": name, "inputs": tuple(each.name for each in inputs), "shape": shape, "cast": Cast(WIDEST)}
        op = cls(**common | values)
        if "cast" not in values:
            op = dataclasses.replace(op, cast=Cast(exact_result(op, *(each.format for each in inputs)).format))
        self.ops[op.name] = op
        return op

    def input(self) -> Op:
        self.ops["x"] = Input(name="x", inputs=(), shape=(224, 224, 3), cast=Cast(U8))
        return self.ops["x"]

    def conv(
        self, x: Op, filters: int, size: int = 1, stride: int = 1, pad: int = 0, cast: str = "relu", groups: int = 1
    ) -> Op:
        """Add a convolution; `cast` is "relu" (8 bits, unsigned), "signed" (8 bits) or "exact"."""
        weight, bias = self._weights(x, size, size, x.shape[-1] // groups, filters)
        window = Window((size, size), (stride, stride), ((pad, pad),) * 2)
        shape, how = (*window.positions(x.shape), filters), self._cast(x, weight, cast)
        return self.add(Conv, x, shape, weight=weight, bias=bias, window=window, groups=groups, **how)

    def dense(self, x: Op, units: int) -> Op:
        weight, bias = self._weights(x, x.shape[-1], units)
        return self.add(Dense, x, (units,), weight=weight, bias=bias)

    def merge(self, x: Op, other: Op, fmt: FixedFormat) -> Op:
        return self.add(Merge, x, x.shape, other, function="add", cast=Cast(fmt, *SAT))

    def relu6(self, x: Op) -> Op:
        """Add a ReLU that stops at a limit and a cast to 8 bits; the limit is three of the numbers' deviations."""
        frac_bits = x.format.frac_bits - max(x.format.width - 13, 0)
        limit = 192 << x.format.frac_bits - frac_bits
        return self.add(Relu, x, x.shape, limit=limit, cast=Cast(FixedFormat(False, 8 - frac_bits, frac_bits), *SAT))

    def pad(self, x: Op, *pads: int) -> Op:
        positions = np.arange(math.prod(x.shape)).reshape(x.shape)
        index = np.pad(positions, (pads[:2], pads[2:], (0, 0)), constant_values=-1)
        return self.add(Gather, x, index.shape, index=index)

    def maxpool(self, x: Op, size: int, stride: int) -> Op:
        window = Window((size, size), (stride, stride), ((0, 0),) * 2)
        return self.add(MaxPool, x, (*window.positions(x.shape), x.shape[-1]), cast=Cast(x.format), window=window)

    def average(self, x: Op) -> Op:
        """Add a global average, cast to 8 bits, and the reshape behind it."""
        height, width, channels = x.shape
        window = Window((height, width), (height, width), ((0, 0),) * 2)
        one, cast = Constant(np.ones((1, 1), np.int64), FixedFormat(False, 1, 0)), Cast(x.format, *SAT, height * width)
        pooled = self.add(SumPool, x, (1, 1, channels), window=window, weight=one, cast=cast)
        return self.add(Reshape, pooled, (channels,), cast=Cast(pooled.format))

    def graph(self, name: str) -> IntGraph:
        return IntGraph(name=name, ops=tuple(self.ops.values()))

    def _weights(self, x: Op, *shape: int) -> tuple[Constant, Constant]:
        """Return normal weights whose 8 bits hold four deviations, and a bias on the grid of the products."""
        weight = np.clip(np.rint(self.rng.normal(0, 32, shape)), -127, 127).astype(np.int64)
        bias, frac_bits = self.rng.integers(-127, 127, shape[-1:]), x.format.frac_bits + 7
        return Constant(weight, FixedFormat(True, 0, 7)), Constant(bias, FixedFormat(True, 7 - frac_bits, frac_bits))

    def _cast(self, x: Op, weight: Constant, cast: str) -> dict[str, Any]:
        """Return the cast of a convolution that reads `x`."""
        if cast == "exact":
            return {}
        return {"cast": Cast(eight_bits(x, weight.codes[..., 0].size, signed=cast == "signed"), *SAT)}


def eight_bits(x: Op, products: int, signed: bool = False) -> FixedFormat:
    """Return the format of 8 bits that holds three deviations of sums of so many products of `x` and weights.

    The input's own format holds three deviations; a ReLU has left half of their square.
    """
    deviation = 32 * math.sqrt(products) * x.format.max_code / (3 if x.format.signed else 3 * math.sqrt(2))
    frac_bits = x.format.frac_bits + 7 - max(round(math.log2(3 * deviation / (128 if signed else 256))), 0)
    return FixedFormat(signed, 8 - signed - frac_bits, frac_bits)


def resnet50() -> IntGraph:
    """Return ResNet50 as Keras has it (He et al., 2016, the stride in the first convolution of a block)."""
    net = Builder()
    x = net.conv(net.pad(net.input(), 3, 3, 3, 3), 64, 7, stride=2)
    x = net.maxpool(net.pad(x, 1, 1, 1, 1), 3, 2)
    for filters, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            short = net.conv(x, 4 * filters, stride=stride, cast="signed") if block == 0 else x
            y = net.conv(net.conv(x, filters, stride=stride), filters, 3, pad=1)
            wide = net.conv(y, 4 * filters, cast="exact")
            x = net.merge(wide, short, eight_bits(y, 2 * filters))
    net.dense(net.average(x), 1000)
    return net.graph("resnet50")


def mobilenetv2() -> IntGraph:
    """Return MobileNetV2 as Keras has it (Sandler et al., 2018)."""
    net = Builder()
    x = net.relu6(net.conv(net.pad(net.input(), 0, 1, 0, 1), 32, 3, stride=2, cast="exact"))
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, filters, blocks, first_stride in stages:
        for block in range(blocks):
            stride, channels = first_stride if block == 0 else 1, factor * x.shape[-1]
            wide = net.relu6(net.conv(x, channels, cast="exact")) if factor > 1 else x
            if stride == 2:
                wide = net.pad(wide, *(pad for size in wide.shape[:2] for pad in ((0, 1) if size % 2 == 0 else (1, 1))))
            deep = net.relu6(net.conv(wide, channels, 3, stride, 1 if stride == 1 else 0, "exact", groups=channels))
            if block == 0:
                x = net.conv(deep, filters, cast="signed")
            else:
                x = net.merge(net.conv(deep, filters, cast="exact"), x, x.format)
    net.dense(net.average(net.relu6(net.conv(x, 1280, cast="exact"))), 1000)
    return net.graph("mobilenetv2")


NETWORKS = {"resnet50": (resnet50, "ResNet50"), "mobilenetv2": (mobilenetv2, "MobileNetV2")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=8, help="images a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    print(
        markdown_table(
            [
                "network",
                "weights",
                "reference, ms an image",
                "TensorFlow, ms an image",
                "ratio",
                "peak memory (before the first run), GB",
            ],
            [measured(name, options.images, options.rounds) for name in options.networks],
        )
    )


def measured(name: str, images: int, rounds: int) -> list[str]:
    """Return a row of the table: the reference's last output against that of `predict_on_batch`."""
    make, in_keras = NETWORKS[name]
    graph = make()
    codes = np.random.default_rng(1).integers(0, 256, (images, *graph.port_shape))
    built = _peak_memory()
    reference.run_output(graph, codes)
    memory = f"{_peak_memory():.2f} ({built:.2f})"  # before TensorFlow takes its own
    from flow.train import load_tensorflow

    keras = load_tensorflow().keras
    model = getattr(keras.applications, in_keras)(weights=None, classifier_activation=None)
    values = (codes / 255).astype(np.float32)
    model.predict_on_batch(values)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, action in enumerate(
            (lambda: reference.run_output(graph, codes), lambda: model.predict_on_batch(values))
        ):
            started = time.perf_counter()
            action()
            taken[side].append((time.perf_counter() - started) / images * 1000)
    ours, other = median(taken[0]), median(taken[1])
    weights = sum(op.weight.codes.size for op in graph.ops if isinstance(op, Conv | Dense))
    return [name, f"{weights / 1e6:.1f} M", f"{ours:.0f}", f"{other:.0f}", f"{ours / other:.2f}", memory]


def _peak_memory() -> float:
    """Return the most memory that the process had so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
