"""Designs of other people's projects as graphs: what hls4ml was given, from which `vendor_truth.py` estimates.

A design is a JSON file: layers with their formats, weights as codes or as a histogram of codes, strategy and reuse. It
is built as one op per step, and casts are fused into the op before them. Accumulators are those that the project
declares, which need not be wide enough: an estimate of that project must count their bits.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flow.ir import ops
from flow.ir.fixed import Cast, Codes, Constant, FixedFormat, Overflow, Rounding
from flow.ir.graph import IntGraph
from flow.ir.intervals import exact_result
from flow.ir.passes.fuse_requantize import fuse_requantize
from flow.ir.passes.hoist_casts import hoist_casts
from flow.ir.passes.infer_accumulators import infer_accumulators
from flow.ir.windows import Window

WIDEST = FixedFormat(True, 62, 0)
"""Stands in for the format of a result until it is known."""
PASSES = hoist_casts, fuse_requantize, infer_accumulators
"""Of `flow.ir.passes` those that hls4ml has too: it folds and drops nothing that such a design still has."""
TABLE_BITS = 10
"""hls4ml's tables of functions have 1024 entries over [-8, 8)."""
FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "binary_tanh": lambda x: np.where(x < 0, -1, 1),
}

Layer = Mapping[str, Any]


def codes(packed: Mapping[str, Any]) -> Codes:
    """Return the codes of an array: as they are, or of a histogram in an order drawn from its seed."""
    if "z" in packed:
        data = zlib.decompress(base64.b64decode(packed["z"]))
        return np.frombuffer(data, np.int32).reshape(packed["shape"]).astype(np.int64)
    values = np.repeat(*(np.array(each, np.int64) for each in packed["histogram"]))
    return np.random.default_rng(packed["seed"]).permutation(values).reshape(packed["shape"])


def fixed(fmt: list[Any]) -> FixedFormat:
    """Return the format of [signed, width, integer bits with the sign, ...]."""
    signed, width, integer = fmt[:3]
    return FixedFormat(bool(signed), integer - signed, width - integer)


def cast(fmt: list[Any], divisor: int = 1) -> Cast:
    """Return the cast to [signed, width, integer bits, rounding, overflow]."""
    rounding = fmt[3] if len(fmt) > 3 else "AP_TRN"
    overflow = fmt[4] if len(fmt) > 4 else "AP_WRAP"
    if overflow == "AP_SAT_SYM" and not fmt[0]:
        overflow = "AP_SAT"
    return Cast(fixed(fmt), Rounding(rounding), Overflow(overflow), divisor)


@dataclass(slots=True)
class Builder:
    """A graph in the making.

    Attributes:
        by: op name -> op, in order.
        where: layer of the design -> the op that is its output.
    """

    by: dict[str, ops.Op] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

    def add(self, kind: type[Any], name: str, sources: list[str], shape: Any, layer: Layer, **values: Any) -> str:
        """Append an op, exact unless `cast` is given, and return its name."""
        about = {"layers": (layer["name"],), "fused": (kind.kind,), "inputs": tuple(sources), "shape": tuple(shape)}
        op = kind(name=name, **about, **{"cast": Cast(WIDEST), **values})
        if "cast" not in values:
            op = replace(op, cast=Cast(exact_result(op, *(self.by[each].format for each in sources)).format))
        self.by[name] = op
        return name

    def cast(self, name: str, source: str, fmt: list[Any], layer: Layer, divisor: int = 1) -> str:
        """Append a cast, unless it changes nothing but that codes get a sign."""
        op, to = self.by[source], fixed(fmt)
        if divisor == 1 and to.signed >= op.format.signed and to == replace(op.format, signed=to.signed):
            return source
        return self.add(ops.Requantize, name, [source], op.shape, layer, cast=cast(fmt, divisor))


def _matmul(b: Builder, layer: Layer, sources: list[str]) -> str:
    name, x = layer["name"], b.by[sources[0]]
    weight, bias = codes(layer["weight"]), codes(layer["bias"])
    held = {"weight": Constant(weight, fixed(layer["wfmt"])), "bias": Constant(bias, fixed(layer["bfmt"]))}
    if layer["kind"] == "conv":
        window = Window.with_padding(weight.shape[:-2], tuple(layer["stride"]), tuple(layer["pad"]))
        out = b.add(ops.Conv, name, sources, layer["shape"], layer, window=window, groups=layer["groups"], **held)
    else:
        if x.shape[-1] != weight.shape[0]:
            flat = b.add(ops.Reshape, f"{name}_flat", sources, [math.prod(x.shape)], layer, cast=x.cast)
            sources, x = [flat], b.by[flat]
        out = b.add(ops.Dense, name, sources, (*x.shape[:-1], weight.shape[1]), layer, **held)
    return b.cast(f"{name}_cast", out, layer["fmt"], layer)


def _relu(b: Builder, layer: Layer, sources: list[str]) -> str:
    x, limit = b.by[sources[0]], layer.get("limit")
    limit = None if limit is None else int(limit / x.format.step)
    out = b.add(ops.Relu, layer["name"], sources, x.shape, layer, limit=limit)
    return b.cast(f"{layer['name']}_cast", out, layer["fmt"], layer)


def _hard_tanh(b: Builder, layer: Layer, sources: list[str]) -> str:
    fraction = max(b.by[sources[0]].format.frac_bits, 1)
    unit = [1, 1 + fraction, 1, "AP_TRN", "AP_SAT"]
    clipped = b.cast(f"{layer['name']}_clip", sources[0], unit, layer)
    return b.cast(layer["name"], clipped, layer["fmt"], layer)


def _leaky_relu(b: Builder, layer: Layer, sources: list[str]) -> str:
    """The slope is not in the design: 1, as in hls4ml's tests."""
    slope = Constant(np.array([1], np.int64), FixedFormat(True, 1, 0))
    out = b.add(ops.LeakyRelu, layer["name"], sources, b.by[sources[0]].shape, layer, slope=slope)
    return b.cast(f"{layer['name']}_cast", out, layer["fmt"], layer)


def _function(b: Builder, layer: Layer, sources: list[str]) -> str:
    """A function of a code as a step function: its runs."""
    name, out = layer["name"], fixed(layer["fmt"])
    if b.by[sources[0]].format.width > TABLE_BITS:
        sources = [b.cast(f"{name}_in", sources[0], [1, TABLE_BITS, 4, "AP_TRN", "AP_SAT"], layer)]
    x = b.by[sources[0]]
    inputs = np.arange(x.format.min_code, x.format.max_code + 1)
    reals = np.floor(FUNCTIONS[layer["kind"]](inputs * x.format.step) / out.step)
    values = np.clip(reals, out.min_code, out.max_code).astype(np.int64)
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    runs = {"starts": inputs[first].astype(np.int64), "values": values[first], "cast": Cast(out)}
    return b.add(ops.Lookup, name, sources, x.shape, layer, **runs)


def _batchnorm(b: Builder, layer: Layer, sources: list[str]) -> str:
    scale, offset = (
        Constant(codes(layer[name]), fixed(layer[fmt])) for name, fmt in (("scale", "sfmt"), ("offset", "ofmt"))
    )
    out = b.add(ops.BatchNorm, layer["name"], sources, b.by[sources[0]].shape, layer, scale=scale, offset=offset)
    return b.cast(f"{layer['name']}_cast", out, layer["fmt"], layer)


def _pool(b: Builder, layer: Layer, sources: list[str]) -> str:
    name, x = layer["name"], b.by[sources[0]]
    window = Window.with_padding(tuple(layer["window"]), tuple(layer["stride"]), tuple(layer["pad"]))
    if layer["kind"] == "maxpool":
        out = b.add(ops.MaxPool, name, sources, layer["shape"], layer, window=window, cast=Cast(x.format))
        return b.cast(f"{name}_cast", out, layer["fmt"], layer)
    counts = window.counts(tuple(layer["shape"][:-1]))
    divisor = math.lcm(*counts.reshape(-1).tolist())
    weight = Constant(divisor // counts, FixedFormat(False, int((divisor // counts).max()).bit_length(), 0))
    out = b.add(ops.SumPool, name, sources, layer["shape"], layer, window=window, weight=weight)
    return b.cast(f"{name}_cast", out, layer["fmt"], layer, divisor)


def _zeropad(b: Builder, layer: Layer, sources: list[str]) -> str:
    x, pad = b.by[sources[0]], layer["pad"]
    places = np.arange(math.prod(x.shape)).reshape(x.shape)
    pads = [(pad[2 * axis], pad[2 * axis + 1]) for axis in range(len(x.shape) - 1)] + [(0, 0)]
    index = np.pad(places, pads, constant_values=-1)
    return b.add(ops.Gather, layer["name"], sources, layer["shape"], layer, index=index)


def _merge(b: Builder, layer: Layer, sources: list[str]) -> str:
    shape = b.by[sources[0]].shape
    out = b.add(ops.Merge, layer["name"], sources, shape, layer, function=layer["function"])
    return b.cast(f"{layer['name']}_cast", out, layer["fmt"], layer)


LAYERS: Mapping[str, Callable[[Builder, Layer, list[str]], str]] = {
    "input": lambda b, layer, sources: b.add(
        ops.Input, layer["name"], [], layer["shape"], layer, cast=Cast(fixed(layer["fmt"]))
    ),
    "dense": _matmul,
    "conv": _matmul,
    "relu": _relu,
    "relu_max": _relu,
    "linear": lambda b, layer, sources: b.cast(layer["name"], sources[0], layer["fmt"], layer),
    "hard_tanh": _hard_tanh,
    "leaky_relu": _leaky_relu,
    "prelu": _leaky_relu,
    **dict.fromkeys(FUNCTIONS, _function),
    "batchnorm": _batchnorm,
    "maxpool": _pool,
    "avgpool": _pool,
    "zeropad": _zeropad,
    "merge": _merge,
}


def graph_of(design: Mapping[str, Any]) -> IntGraph:
    """Return a design as a graph, one op per step."""
    b = Builder()
    layers = sorted(design["layers"], key=lambda layer: layer["kind"] != "input")
    for layer in layers:
        if layer["kind"] not in LAYERS:
            raise NotImplementedError(f"a layer of kind {layer['kind']!r}")
        b.where[layer["name"]] = LAYERS[layer["kind"]](b, layer, [b.where[each] for each in layer["inputs"]])
    read = {each for layer in layers for each in layer["inputs"]}
    last = [layer["name"] for layer in layers if layer["name"] not in read and layer["kind"] != "input"]
    return IntGraph(
        name="design", ops=tuple(b.by.values()), outputs=tuple(dict.fromkeys(b.where[name] for name in last))
    )


@cache
def lowered(path: Path) -> tuple[Mapping[str, Any], IntGraph]:
    """Return a design and its graph of unified modules, with the accumulators that the design declares."""
    design = json.loads(path.read_text())
    graph = graph_of(design)
    for each in PASSES:
        graph = each(graph)
    declared = {layer["name"]: layer.get("accum", layer["fmt"]) for layer in design["layers"] if "weight" in layer}

    def with_accumulator(op: ops.Op) -> ops.Op:
        own = [declared[name] for name in op.layers if name in declared]
        if not isinstance(op, ops.MatMul) or not own:
            return op
        return replace(op, accumulator=fixed(own[0]), channel_bits=())

    return design, IntGraph(name=graph.name, ops=tuple(map(with_accumulator, graph.ops)), outputs=graph.outputs)
