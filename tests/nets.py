"""Build small graphs by hand, in the form that `extract` gives: each op's format holds each of its results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flow.ir.fixed import Cast, Constant, FixedFormat, Overflow, Rounding, covering
from flow.ir.graph import (
    BatchNorm,
    Conv,
    Dense,
    Gather,
    Input,
    IntGraph,
    LeakyRelu,
    Lookup,
    MatMul,
    MaxPool,
    Merge,
    Op,
    Relu,
    Requantize,
    Reshape,
    Scan,
    Softmax,
    SumPool,
    TruthTable,
)
from flow.ir.intervals import exact_result
from flow.ir.passes import lower
from flow.ir.windows import Window

WIDEST = FixedFormat(True, 62, 0)


def u(bits: int, frac_bits: int = 0) -> FixedFormat:
    """Return the unsigned format of `bits` bits."""
    return FixedFormat(False, bits - frac_bits, frac_bits)


def s(bits: int, frac_bits: int = 0) -> FixedFormat:
    """Return the signed format of `bits` bits, sign included."""
    return FixedFormat(True, bits - 1 - frac_bits, frac_bits)


class Net:
    """A graph under construction: each method adds an op that reads the op before it.

    `mark("a")` names the current op; `back("a")` goes on from there; merges and joins take further marks.

    Example:
        >>> Net((2,), u(4)).dense([[1, 2], [4, 0]]).relu().requantize(u(3)).graph().output.name
        'requantize_3'
    """

    def __init__(self, shape: tuple[int, ...], fmt: FixedFormat, name: str = "net") -> None:
        self.name = name
        self.ops: list[Op] = [Input(name="port", inputs=(), shape=shape, cast=Cast(fmt), fused=("input",))]
        self.here = "port"
        self.marks: dict[str, str] = {}
        self.outputs: tuple[str, ...] = ()

    def op(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    @property
    def last(self) -> Op:
        return self.op(self.here)

    def port(self, mark: str, shape: tuple[int, ...], fmt: FixedFormat) -> Net:
        """Add a further input, called and marked `mark`; the current op stays."""
        inputs = [op for op in self.ops if isinstance(op, Input)]
        self.ops.insert(len(inputs), Input(name=mark, inputs=(), shape=shape, cast=Cast(fmt), fused=("input",)))
        self.marks[mark] = mark
        return self

    def mark(self, name: str) -> Net:
        self.marks[name] = self.here
        return self

    def back(self, name: str) -> Net:
        self.here = self.marks[name]
        return self

    def leave(self, *names: str) -> Net:
        """Make marked ops outputs, before the current one."""
        self.outputs = tuple(self.marks[name] for name in names)
        return self

    def dense(self, weight: Any, bias: Any = None, frac: int = 0, bias_frac: int | None = None) -> Net:
        weight = np.array(weight, np.int64)
        return self._add(Dense, (*self.last.shape[:-1], weight.shape[1]), **_weights(weight, bias, frac, bias_frac))

    def conv(
        self,
        weight: Any,
        bias: Any = None,
        frac: int = 0,
        bias_frac: int | None = None,
        strides: tuple[int, ...] | None = None,
        padding: str = "valid",
        groups: int = 1,
    ) -> Net:
        weight = np.array(weight, np.int64)
        strides = strides or (1,) * (weight.ndim - 2)
        size, pads = self._window(weight.shape[:-2], strides, padding)
        values = _weights(weight, bias, frac, bias_frac)
        shape = (*size, weight.shape[-1])
        return self._add(Conv, shape, window=Window(weight.shape[:-2], strides, pads), groups=groups, **values)

    def batchnorm(self, scale: Any, offset: Any, frac: int = 0, offset_frac: int = 0) -> Net:
        return self._add(
            BatchNorm, self.last.shape, scale=_constant(scale, frac), offset=_constant(offset, offset_frac)
        )

    def relu(self, limit: int | None = None) -> Net:
        return self._add(Relu, self.last.shape, limit=limit)

    def leaky(self, slope: Any, frac: int = 0) -> Net:
        return self._add(LeakyRelu, self.last.shape, slope=_constant(slope, frac))

    def requantize(
        self,
        fmt: FixedFormat,
        rounding: Rounding = Rounding.RND_CONV,
        overflow: Overflow = Overflow.SAT,
        divisor: int = 1,
    ) -> Net:
        return self._add(Requantize, self.last.shape, cast=Cast(fmt, rounding, overflow, divisor))

    def pool(self, pool: tuple[int, ...], strides: tuple[int, ...] | None = None, padding: str = "valid") -> Net:
        size, pads = self._window(pool, strides or pool, padding)
        shape, window = (*size, self.last.shape[-1]), Window(pool, strides or pool, pads)
        return self._add(MaxPool, shape, cast=Cast(self.last.format), window=window)

    def average(
        self,
        pool: tuple[int, ...],
        fmt: FixedFormat,
        strides: tuple[int, ...] | None = None,
        padding: str = "valid",
        rounding: Rounding = Rounding.RND_CONV,
        overflow: Overflow = Overflow.SAT,
    ) -> Net:
        """Add a sum over real pixels and the cast that divides it by their number."""
        size, pads = self._window(pool, strides or pool, padding)
        window = Window(pool, strides or pool, pads)
        counts = window.counts(size)
        divisor = math.lcm(*counts.reshape(-1).tolist())
        self._add(SumPool, (*size, self.last.shape[-1]), weight=_constant(divisor // counts, 0), window=window)
        return self.requantize(fmt, rounding, overflow, divisor)

    def reshape(self, *shape: int) -> Net:
        return self._add(Reshape, shape, cast=Cast(self.last.format))

    def flatten(self) -> Net:
        return self.reshape(math.prod(self.last.shape))

    def gather(self, index: Callable[..., Any], *marks: str) -> Net:
        """Add a Gather; `index` is given, per input, an array of the positions of its codes (fill with -1)."""
        inputs = (self.here, *(self.marks[mark] for mark in marks))
        starts = np.cumsum([0] + [math.prod(self.op(name).shape) for name in inputs])
        positions = [
            first + np.arange(math.prod(self.op(name).shape)).reshape(self.op(name).shape)
            for first, name in zip(starts, inputs, strict=False)
        ]
        codes = np.asarray(index(*positions), np.int64)
        return self._add(Gather, codes.shape, inputs=inputs, index=codes)

    def merge(self, function: str, *marks: str) -> Net:
        inputs = (self.here, *(self.marks[mark] for mark in marks))
        return self._add(Merge, self.last.shape, inputs=inputs, function=function)

    def lookup(self, starts: Any, values: Any, fmt: FixedFormat) -> Net:
        arrays = {"starts": np.array(starts, np.int64), "values": np.array(values, np.int64)}
        return self._add(Lookup, self.last.shape, cast=Cast(fmt), **arrays)

    def truth_table(self, wires: Any, bits: Any, values: Any, fmt: FixedFormat, *marks: str) -> Net:
        inputs = (self.here, *(self.marks[mark] for mark in marks))
        arrays = {
            name: np.array(each, np.int64) for name, each in (("wires", wires), ("bits", bits), ("values", values))
        }
        return self._add(TruthTable, arrays["wires"].shape[:-1], inputs=inputs, cast=Cast(fmt), **arrays)

    def softmax(self, fmt: FixedFormat, bits: int = 10) -> Net:
        distance = np.arange(1 << self.last.format.width) * self.last.format.step
        exponentials = np.rint(np.exp(-distance) * 2**bits).astype(np.int64)
        return self._add(Softmax, self.last.shape, cast=Cast(fmt), exponentials=exponentials)

    def scan(self, body: Net, *returns: str, every_row: bool = True) -> Net:
        """Add a scan over the rows: of a body, lowered, the marks of what it gives of a row and for the next one."""
        outputs = tuple(body.marks[mark] for mark in returns)
        lowered = lower(IntGraph(name="body", ops=tuple(body.ops), outputs=outputs), stream=True)
        output, rows = lowered[lowered.outputs[0]], self.last.shape[0]
        values = {"rows": rows, "body": lowered.ops, "returns": lowered.outputs, "cast": Cast(output.format)}
        return self._add(Scan, (rows,) * every_row + output.shape, **values)

    def graph(self) -> IntGraph:
        outputs = (*self.outputs, self.here) if self.outputs else ()
        return IntGraph(name=self.name, ops=tuple(self.ops), outputs=outputs)

    def _add(self, cls: type[Op], shape: tuple[int, ...], **values: Any) -> Net:
        name = f"{cls.kind}_{len(self.ops)}"
        common = {"name": name, "inputs": (self.here,), "shape": shape, "layers": (name,), "fused": (cls.kind,)}
        op = cls(**{"cast": Cast(WIDEST), **common, **values})
        if "cast" not in values:
            exact = exact_result(op, *(self.op(name).format for name in op.inputs))
            op = dataclasses.replace(op, cast=Cast(exact.format))
        self.ops.append(op)
        self.here = name
        return self

    def _window(
        self, size: tuple[int, ...], strides: tuple[int, int], padding: str
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        spans = [_span(n, k, step, padding) for n, k, step in zip(self.last.shape, size, strides, strict=False)]
        return tuple(span[0] for span in spans), tuple(span[1] for span in spans)


def _span(n: int, k: int, step: int, padding: str) -> tuple[int, tuple[int, int]]:
    """Return how many windows fit along one axis and the padding before and behind, as TensorFlow has it."""
    if padding == "valid":
        return (n - k) // step + 1, (0, 0)
    out = math.ceil(n / step)
    missing = max((out - 1) * step + k - n, 0)
    return out, (missing // 2, missing - missing // 2)


def _constant(values: Any, frac_bits: int) -> Constant:
    codes = np.array(values, np.int64)
    return Constant(codes, covering(min(0, int(codes.min())), max(1, int(codes.max())), frac_bits))


def _weights(weight: np.ndarray, bias: Any, frac: int, bias_frac: int | None) -> dict[str, Constant]:
    bias = [0] * weight.shape[-1] if bias is None else bias
    return {"weight": _constant(weight, frac), "bias": _constant(bias, frac if bias_frac is None else bias_frac)}


def altered(op: Op, **changes: Any) -> Any:
    """Return an op with other fields; also with other settings of its cast, codes of its constants, or padding."""
    settings = {name: changes.pop(name) for name in ("format", "rounding", "overflow", "divisor") if name in changes}
    if "padding" in changes:
        changes["window"] = Window.with_padding(op.window.size, op.window.strides, changes.pop("padding"))
    for item in dataclasses.fields(op):
        held = getattr(op, item.name)
        if isinstance(held, Constant) and isinstance(changes.get(item.name), np.ndarray):
            changes[item.name] = Constant(changes[item.name], held.format)
    return dataclasses.replace(op, cast=dataclasses.replace(changes.pop("cast", op.cast), **settings), **changes)


def inputs(graph: IntGraph, count: int, seed: int = 1) -> np.ndarray:
    """Return random input codes behind the corners: int64 (7 + count, *port_shape)."""
    from flow.data.adversarial import corner_inputs

    (low, high), rng = graph.port_limits(), np.random.default_rng(seed)
    return np.concatenate([corner_inputs(graph), rng.integers(low, high, (count, *low.shape), endpoint=True)])


def first(graph: IntGraph, kind: type[Op] = MatMul) -> Op:
    """Return the first op of a kind."""
    return next(op for op in graph.ops if isinstance(op, kind))
