"""Seeded random modules, each a graph of one op and its cast: what the estimate of rtl projects is fitted to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flow.ir.fixed import FixedFormat, Overflow, Rounding
from flow.ir.graph import MERGES, IntGraph
from flow.ir.passes import lower

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from nets import Net

Generator = np.random.Generator


def random_module(seed: int) -> tuple[str, str, IntGraph]:
    """Return (kind, io_type, lowered graph) of a random module."""
    rng = np.random.default_rng([seed, 4])
    kind = rng.choice(list(KINDS), p=np.array(list(SHARES.values())) / sum(SHARES.values())).item()
    make, stream = KINDS[kind]
    return kind, "io_stream" if stream else "io_parallel", lower(make(rng).graph())


def _size(rng: Generator, low: int, high: int) -> int:
    """Return a size, small ones as often as large ones."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _format(rng: Generator, low: int, high: int, signed: bool | None = None) -> FixedFormat:
    signed = bool(rng.integers(2)) if signed is None else signed
    width, frac_bits = max(int(rng.integers(low, high + 1)), 1 + signed), int(rng.integers(0, 5))
    return FixedFormat(signed, width - signed - frac_bits, frac_bits)


def _weights(rng: Generator, *shape: int) -> np.ndarray:
    span, density = int(rng.integers(1, 8)), rng.uniform(0.2, 1)
    if rng.random() < 0.6:
        weight = rng.choice([-1, 1], shape) << rng.integers(0, span + 1, shape)
    else:
        weight = rng.integers(-(1 << span), (1 << span) + 1, shape)
    weight = np.where(rng.random(shape) < density, weight, 0)
    weight.reshape(-1)[0] = 1 << span
    return weight


def _bias(rng: Generator, channels: int) -> np.ndarray | None:
    return rng.integers(-20, 21, channels) if rng.random() < 0.7 else None


def _cast(rng: Generator, net: Net, always: bool = False) -> Net:
    """Add what comes behind a sum: perhaps a ReLU, mostly a cast."""
    if not always and rng.random() < 0.5:
        net.relu(None)
    if not always and rng.random() < 0.15:
        return net
    exact = net.last.format
    signed, width = bool(rng.integers(2)), int(rng.integers(2, 11))
    int_bits = exact.int_bits - int(rng.integers(0, 5))
    usual = rng.random() < 0.5
    rounding = Rounding.RND_CONV if usual else rng.choice(list(Rounding))
    overflow = Overflow.SAT if usual else rng.choice(list(Overflow))
    return net.requantize(FixedFormat(signed, int_bits, width - signed - int_bits), rounding, overflow)


def _dense(rng: Generator) -> Net:
    rows, columns = _size(rng, 6, 60), _size(rng, 4, 24)
    net = Net((rows,), _format(rng, 1, 10))
    return _cast(rng, net.dense(_weights(rng, rows, columns), _bias(rng, columns), frac=int(rng.integers(0, 4))))


def _conv(rng: Generator) -> Net:
    axes, channels, filters = int(rng.integers(1, 3)), _size(rng, 2, 8), _size(rng, 3, 12)
    window = tuple(int(size) for size in rng.integers(1, 4, axes))
    image = tuple(int(size) for size in rng.integers(5, 40, axes))
    net = Net((*image, channels), _format(rng, 2, 9))
    strides = tuple(int(step) for step in rng.integers(1, 3, axes))
    padding = str(rng.choice(["valid", "same"]))
    weight = _weights(rng, *window, channels, filters)
    return _cast(rng, net.conv(weight, _bias(rng, filters), int(rng.integers(0, 4)), strides=strides, padding=padding))


def _unrolled(rng: Generator) -> Net:
    channels, filters, window = _size(rng, 1, 4), _size(rng, 2, 5), int(rng.integers(2, 4))
    net = Net((int(rng.integers(4, 9)), channels), _format(rng, 2, 8))
    weight = _weights(rng, window, channels, filters)
    return _cast(rng, net.conv(weight, _bias(rng, filters), padding=str(rng.choice(["valid", "same"]))))


def _requantize(rng: Generator) -> Net:
    return _cast(rng, Net((_size(rng, 8, 100),), _format(rng, 5, 20)), always=True)


def _batchnorm(rng: Generator) -> Net:
    channels = _size(rng, 4, 40)
    net = Net((channels,), _format(rng, 3, 10))
    net.batchnorm(_weights(rng, channels), rng.integers(-50, 51, channels), frac=3, offset_frac=3)
    return _cast(rng, net)


def _relu(rng: Generator) -> Net:
    net = Net((_size(rng, 6, 60),), _format(rng, 4, 12, signed=True))
    return net.relu(int(rng.integers(2, net.last.format.max_code)) if rng.random() < 0.6 else None)


def _leaky(rng: Generator) -> Net:
    channels = _size(rng, 4, 30)
    net = Net((channels,), _format(rng, 4, 10, signed=True))
    return _cast(rng, net.leaky(rng.integers(1, 8, channels if rng.random() < 0.5 else 1), frac=4))


def _maxpool(rng: Generator) -> Net:
    axes = int(rng.integers(1, 3))
    window = tuple(int(size) for size in rng.integers(2, 4, axes))
    image = tuple(size * int(rng.integers(2, 5)) for size in window)
    return Net((*image, _size(rng, 1, 12)), _format(rng, 2, 10)).pool(window)


def _average(rng: Generator) -> Net:
    axes = int(rng.integers(1, 3))
    window = tuple(int(size) for size in rng.integers(2, 4, axes))
    image = tuple(size * int(rng.integers(2, 4)) for size in window)
    net = Net((*image, _size(rng, 1, 6)), _format(rng, 3, 9))
    fmt = net.last.format
    return net.average(window, FixedFormat(fmt.signed, max(fmt.int_bits, 1), int(rng.integers(0, 4))))


def _merge(rng: Generator) -> Net:
    function, shape = str(rng.choice(MERGES)), (_size(rng, 6, 40),)
    most = 7 if function == "multiply" else 12
    net = Net(shape, _format(rng, 3, most)).port("other", shape, _format(rng, 3, most))
    return _cast(rng, net.merge(function, "other"))


def _lookup(rng: Generator) -> Net:
    fmt, out = _format(rng, 4, 9), _format(rng, 2, 8)
    runs = int(rng.integers(3, 1 << (fmt.width - 1)))
    codes = np.arange(fmt.min_code + 1, fmt.max_code + 1)
    starts = np.sort(rng.choice(codes, runs, replace=False))
    values = np.sort(rng.integers(out.min_code, out.max_code + 1, runs + 1))
    return Net((_size(rng, 2, 24),), fmt).lookup([fmt.min_code, *starts.tolist()], values, out)


def _softmax(rng: Generator) -> Net:
    return Net((int(rng.integers(2, 6)),), _format(rng, 3, 6)).softmax(FixedFormat(False, 0, int(rng.integers(4, 8))))


KINDS: dict[str, tuple[Callable[[Generator], Net], bool]] = {
    "dense": (_dense, False),
    "conv": (_conv, True),
    "conv_unrolled": (_unrolled, False),
    "requantize": (_requantize, False),
    "batchnorm": (_batchnorm, False),
    "relu": (_relu, False),
    "leaky_relu": (_leaky, False),
    "maxpool": (_maxpool, True),
    "maxpool_unrolled": (_maxpool, False),
    "average": (_average, True),
    "average_unrolled": (_average, False),
    "merge": (_merge, False),
    "lookup": (_lookup, False),
    "softmax": (_softmax, False),
}
"""Kind -> what makes it, and whether it is built as a stage of a stream."""
SHARES = {
    "dense": 32,
    "conv": 20,
    "conv_unrolled": 6,
    "requantize": 12,
    "batchnorm": 6,
    "relu": 3,
    "leaky_relu": 4,
    "maxpool": 4,
    "maxpool_unrolled": 3,
    "average": 5,
    "average_unrolled": 3,
    "merge": 8,
    "lookup": 5,
    "softmax": 2,
}
"""How often each kind comes."""
