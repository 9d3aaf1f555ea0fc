"""Build small graphs by hand, in the form that `extract` gives: each op's format holds each of its results."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from flow.fixed import FixedFormat, Overflow, Rounding, covering
from flow.graph import BatchNorm, Conv2D, Dense, Flatten, Input, IntGraph, MatMul, MaxPool2D, Op, Relu, Requantize
from flow.intervals import exact_result

WIDEST = FixedFormat(True, 62, 0)


def u(bits: int, frac_bits: int = 0) -> FixedFormat:
    """Return the unsigned format of `bits` bits."""
    return FixedFormat(False, bits - frac_bits, frac_bits)


def s(bits: int, frac_bits: int = 0) -> FixedFormat:
    """Return the signed format of `bits` bits, sign included."""
    return FixedFormat(True, bits - 1 - frac_bits, frac_bits)


class Net:
    """A chain of ops under construction.

    Example:
        >>> Net((2,), u(4)).dense([[1, 2], [4, 0]]).relu().requantize(u(3)).graph().output.name
        'requantize_3'
    """

    def __init__(self, shape: tuple[int, ...], fmt: FixedFormat, name: str = "net") -> None:
        self.name = name
        self.ops: list[Op] = [Input(name="port", inputs=(), shape=shape, format=fmt, fused=("input",))]

    def dense(self, weight: Any, bias: Any = None, frac: int = 0, bias_frac: int | None = None) -> Net:
        weight = np.array(weight, np.int64)
        return self._add(Dense, (weight.shape[1],), **_weights(weight, bias, frac, bias_frac))

    def conv(
        self,
        weight: Any,
        bias: Any = None,
        frac: int = 0,
        bias_frac: int | None = None,
        strides: tuple[int, int] = (1, 1),
        padding: str = "valid",
    ) -> Net:
        weight = np.array(weight, np.int64)
        size, pads = self._window(weight.shape[:2], strides, padding)
        values = _weights(weight, bias, frac, bias_frac)
        return self._add(Conv2D, (*size, weight.shape[3]), strides=strides, padding=pads, **values)

    def batchnorm(self, scale: Any, offset: Any, frac: int = 0, offset_frac: int = 0) -> Net:
        values = dict(zip(("scale", "scale_format"), _codes(scale, frac), strict=True))
        values |= dict(zip(("offset", "offset_format"), _codes(offset, offset_frac), strict=True))
        return self._add(BatchNorm, self.ops[-1].shape, **values)

    def relu(self) -> Net:
        return self._add(Relu, self.ops[-1].shape)

    def requantize(
        self, fmt: FixedFormat, rounding: Rounding = Rounding.RND_CONV, overflow: Overflow = Overflow.SAT
    ) -> Net:
        return self._add(Requantize, self.ops[-1].shape, format=fmt, rounding=rounding, overflow=overflow)

    def pool(self, pool: tuple[int, int], strides: tuple[int, int] | None = None, padding: str = "valid") -> Net:
        size, pads = self._window(pool, strides or pool, padding)
        shape, fmt = (*size, self.ops[-1].shape[2]), self.ops[-1].format
        return self._add(MaxPool2D, shape, format=fmt, pool=pool, strides=strides or pool, padding=pads)

    def flatten(self) -> Net:
        return self._add(Flatten, (math.prod(self.ops[-1].shape),), format=self.ops[-1].format)

    def graph(self) -> IntGraph:
        return IntGraph(name=self.name, ops=tuple(self.ops))

    def _add(self, cls: type[Op], shape: tuple[int, ...], **values: Any) -> Net:
        last = self.ops[-1]
        name = f"{cls.kind}_{len(self.ops)}"
        common = {"name": name, "inputs": (last.name,), "shape": shape, "layers": (name,), "fused": (cls.kind,)}
        op = cls(**{"format": WIDEST, **common, **values})
        if "format" not in values:
            frac_bits, low, high = exact_result(op, last.format)
            op = dataclasses.replace(op, format=covering(low, high, frac_bits))
        self.ops.append(op)
        return self

    def _window(
        self, size: tuple[int, ...], strides: tuple[int, int], padding: str
    ) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        spans = [_span(n, k, step, padding) for n, k, step in zip(self.ops[-1].shape, size, strides, strict=False)]
        return (spans[0][0], spans[1][0]), (*spans[0][1], *spans[1][1])


def _span(n: int, k: int, step: int, padding: str) -> tuple[int, tuple[int, int]]:
    """Return how many windows fit along one axis and the padding before and behind, as TensorFlow has it."""
    if padding == "valid":
        return (n - k) // step + 1, (0, 0)
    out = math.ceil(n / step)
    missing = max((out - 1) * step + k - n, 0)
    return out, (missing // 2, missing - missing // 2)


def _codes(values: Any, frac_bits: int) -> tuple[np.ndarray, FixedFormat]:
    codes = np.array(values, np.int64)
    return codes, covering(min(0, int(codes.min())), max(1, int(codes.max())), frac_bits)


def _weights(weight: np.ndarray, bias: Any, frac: int, bias_frac: int | None) -> dict[str, Any]:
    codes, fmt = _codes(weight, frac)
    bias_codes, bias_fmt = _codes(
        [0] * weight.shape[-1] if bias is None else bias, frac if bias_frac is None else bias_frac
    )
    return {"weight": codes, "weight_format": fmt, "bias": bias_codes, "bias_format": bias_fmt}


def inputs(graph: IntGraph, count: int, seed: int = 1) -> np.ndarray:
    """Return random input codes behind the corners: int64 (7 + count, *shape)."""
    from flow.adversarial import corner_inputs

    fmt, rng = graph.input.format, np.random.default_rng(seed)
    random = rng.integers(fmt.min_code, fmt.max_code, (count, *graph.input.shape), endpoint=True)
    return np.concatenate([corner_inputs(graph.input), random])


def first(graph: IntGraph, kind: type[Op] = MatMul) -> Op:
    """Return the first op of a kind."""
    return next(op for op in graph.ops if isinstance(op, kind))
