"""An op as JSON types and as a line of text.

In JSON its value types are laid flat, so that a graph reads as it always did: the `cast` as `format`, `rounding`,
`overflow` and `divisor`, a constant `weight` as `weight` and `weight_format`, a window as `window`, `strides` and
`padding`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from flow.ir import ops
from flow.ir.fixed import Cast, Codes, Constant, FixedFormat, Overflow, Rounding
from flow.ir.ops import Op
from flow.ir.windows import Window


def op_to_json(op: Op) -> dict[str, Any]:
    """Return an op as JSON types; weights are nested lists of integers, or of large arrays the bytes as text."""
    out: dict[str, Any] = {"kind": op.kind}
    for item in fields(op):
        value = getattr(op, item.name)
        if item.name in SELDOM and value == SELDOM[item.name]:
            continue
        if isinstance(value, Cast):
            modes = {"rounding": value.rounding.value, "overflow": value.overflow.value}
            out |= {"format": value.format.to_json(), **modes, "divisor": value.divisor}
        elif isinstance(value, Constant):
            out |= {item.name: _array_to_json(value.codes), f"{item.name}_format": value.format.to_json()}
        elif isinstance(value, Window):
            size = {} if isinstance(op, ops.Conv) else {"window": list(value.size)}  # a convolution's is its weight's
            out |= {**size, "strides": list(value.strides), "padding": list(value.padding)}
        elif isinstance(value, FixedFormat):
            out[item.name] = value.to_json()
        elif isinstance(value, np.ndarray):
            out[item.name] = _array_to_json(value)
        elif item.name == "body":
            out[item.name] = [op_to_json(each) for each in value]
        else:
            out[item.name] = list(value) if isinstance(value, tuple) else value
    return out


LARGE_ARRAY = 100_000
"""Arrays of more numbers are bytes in JSON: as a list they would take some hundred bytes of memory a number."""
SMALLEST_TYPES = ("<i1", "<i2", "<i4", "<i8")


def _array_to_json(codes: Codes) -> Any:
    if codes.size <= LARGE_ARRAY:
        return codes.tolist()
    low, high = int(codes.min()), int(codes.max())
    dtype = next(each for each in SMALLEST_TYPES if np.iinfo(each).min <= low and high <= np.iinfo(each).max)
    return {
        "shape": list(codes.shape),
        "dtype": dtype,
        "base64": base64.b64encode(codes.astype(dtype).tobytes()).decode(),
    }


def _array_from_json(data: Any) -> Codes:
    if isinstance(data, list):
        return np.array(data, np.int64)
    flat = np.frombuffer(base64.b64decode(data["base64"]), np.dtype(data["dtype"]))
    return np.asarray(flat.astype(np.int64).reshape(data["shape"]))


def op_from_json(data: dict[str, Any]) -> Op:
    """Return the op that `op_to_json` wrote."""
    kinds = {cls.kind: cls for cls in ops.OPS}
    cls = kinds[data["kind"]]
    return cls(**{item.name: FROM_JSON[str(item.type)]({**SELDOM, **data}, item.name) for item in fields(cls)})


SELDOM: Mapping[str, Any] = {"kept": (), "denominator": 1, "precise": ()}
"""Fields that are left out of the JSON form while they are this."""


def _cast_from_json(data: Mapping[str, Any], name: str) -> Cast:
    modes = Rounding(data["rounding"]), Overflow(data["overflow"])
    return Cast(FixedFormat.from_json(data["format"]), *modes, data["divisor"])


def _constant_from_json(data: Mapping[str, Any], name: str) -> Constant:
    return Constant(_array_from_json(data[name]), FixedFormat.from_json(data[f"{name}_format"]))


def _window_from_json(data: Mapping[str, Any], name: str) -> Window:
    size = data[name] if name in data else _array_from_json(data["weight"]).shape[:-2]
    return Window.with_padding(tuple(size), tuple(data["strides"]), tuple(data["padding"]))


FROM_JSON: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "Cast": _cast_from_json,
    "Constant": _constant_from_json,
    "Window": _window_from_json,
    "FixedFormat | None": lambda data, name: data[name] and FixedFormat.from_json(data[name]),
    "Codes": lambda data, name: _array_from_json(data[name]),
    "tuple[Op, ...]": lambda data, name: tuple(op_from_json(each) for each in data[name]),
    **dict.fromkeys(("Shape", "tuple[int, ...]", "tuple[str, ...]"), lambda data, name: tuple(data[name])),
    **dict.fromkeys(("str", "int", "int | None"), lambda data, name: data[name]),
}
"""How a field is read from the JSON form of its op, by the type it is declared with."""


def op_to_text(op: Op) -> str:
    """Return a line: what an op is, its shape, formats and weights."""
    what, *details = TEXTS[type(op)](op)
    parts = [f"{op.name} = {what}({', '.join(op.inputs)})", f"{'x'.join(map(str, op.shape))} {op.format}", *details]
    if op.cast.divisor != 1:
        parts.append(f"divided by {op.cast.divisor}")
    if op.denominator != 1:
        parts.append(f"over {op.denominator}")
    if op.cast.rounding is not Rounding.TRN or op.cast.overflow is not Overflow.WRAP:
        parts.append(f"{op.cast.rounding.value} {op.cast.overflow.value}")
    return "  ".join(parts)


def _kind_text(op: Op) -> list[str]:
    return [op.kind]


def _matmul_text(op: ops.MatMul) -> list[str]:
    weight = f"weight {'x'.join(map(str, op.weight.codes.shape))} {op.weight.format}"
    return [op.kind, weight, *([f"acc {op.accumulator}"] if op.accumulator is not None else [])]


def _scan_text(op: ops.Scan) -> list[str]:
    _, *states = (each for each in op.body if isinstance(each, ops.Input))
    held = ", ".join(f"{'x'.join(map(str, each.shape))} {each.format}" for each in states)
    return [op.kind, f"{op.rows} rows, {len(op.body) - 1 - len(states)} ops each", f"states {held}"]


TEXTS: Mapping[type[Op], Callable[..., list[str]]] = {
    ops.Input: _kind_text,
    ops.Dense: _matmul_text,
    ops.Conv: _matmul_text,
    ops.BatchNorm: _kind_text,
    ops.Relu: _kind_text,
    ops.LeakyRelu: _kind_text,
    ops.Requantize: _kind_text,
    ops.Merge: lambda op: [op.function],
    ops.MaxPool: _kind_text,
    ops.SumPool: _kind_text,
    ops.Reshape: _kind_text,
    ops.Gather: _kind_text,
    ops.Lookup: lambda op: [op.kind, f"{op.starts.shape[-1]} runs" + " a channel" * (op.starts.ndim > 1)],
    ops.TruthTable: lambda op: [op.kind, f"{op.wires.shape[-1]} bits each"],
    ops.Softmax: _kind_text,
    ops.Scan: _scan_text,
}
"""What an op is in the text of a graph: a word, and what it holds."""
