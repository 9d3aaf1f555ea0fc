"""What must hold between an op and those it reads, beyond what the types say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flow.ir import ops
from flow.ir.ops import Op, arrays, constants
from flow.ir.windows import Shape


def check_ops(graph: Sequence[Op], outputs: Sequence[str]) -> None:
    """Check ops in the order in which they are computed, and that some of them are the outputs.

    Raises:
        AssertionError: as of `flow.ir.graph.verify`.
    """
    assert graph and isinstance(graph[0], ops.Input), "the first op is an input"
    seen: dict[str, Op] = {}
    for op in graph:
        assert op.name.isidentifier() and op.name not in seen, f"op name {op.name!r} is no identifier or repeats"
        assert all(name in seen for name in op.inputs), f"{op.name}: reads {op.inputs}, which is not computed before it"
        check(op, *(seen[name] for name in op.inputs))
        seen[op.name] = op
    assert all(name in seen for name in outputs), f"outputs {tuple(outputs)} are not computed"


def check(op: Op, *inputs: Op) -> None:
    """Check an op that reads these ops.

    Raises:
        AssertionError: it reads too few or too many, holds codes that are no int64 or outside their format, or its
            shape does not follow from theirs.
    """
    fewest, most = READS[type(op)]
    assert fewest <= len(op.inputs) <= most, f"{op.name}: reads {op.inputs}"
    held = constants(op)
    for name, codes in (arrays(op) | {name: constant.codes for name, constant in held.items()}).items():
        assert codes.dtype == np.int64, f"{op.name}: {name} is not int64"
    for constant in held.values():
        low, high, fmt = int(constant.codes.min(initial=0)), int(constant.codes.max(initial=0)), constant.format
        assert fmt.min_code <= low and high <= fmt.max_code, f"{op.name}: codes {low}..{high} outside {fmt}"
    expected = SHAPES[type(op)](op, *inputs)
    assert op.shape == expected, f"{op.name}: shape {op.shape} does not follow from its input: {expected}"


MANY = 1 << 16
READS: Mapping[type[Op], tuple[int, int]] = {
    ops.Input: (0, 0),
    ops.Dense: (1, 1),
    ops.Conv: (1, 1),
    ops.BatchNorm: (1, 1),
    ops.Relu: (1, 1),
    ops.LeakyRelu: (1, 1),
    ops.Requantize: (1, 1),
    ops.Merge: (2, MANY),
    ops.MaxPool: (1, 1),
    ops.SumPool: (1, 1),
    ops.Reshape: (1, 1),
    ops.Gather: (1, MANY),
    ops.Lookup: (1, 1),
    ops.TruthTable: (1, MANY),
    ops.Softmax: (1, 1),
    ops.Scan: (1, 1),
}
"""How many inputs an op reads: the fewest and the most."""


def _own_shape(op: Op) -> Shape:
    return op.shape


def _shape_of_input(op: Op, x: Op) -> Shape:
    return x.shape


def _dense_shape(op: ops.Dense, x: Op) -> Shape | None:
    n_in, n_out = op.weight.codes.shape
    assert op.shape[-1] == n_out == op.bias.codes.shape[0], f"{op.name}: channels differ"
    return (*x.shape[:-1], n_out) if n_in == x.shape[-1] else None


def _conv_shape(op: ops.Conv, x: Op) -> Shape | None:
    *size, channels, filters = op.weight.codes.shape
    assert op.shape[-1] == filters == op.bias.codes.shape[0], f"{op.name}: channels differ"
    fits = op.window.size == tuple(size) and channels * op.groups == x.shape[-1] and filters % op.groups == 0
    return (*op.window.positions(x.shape), filters) if fits else None


def _batchnorm_shape(op: ops.BatchNorm, x: Op) -> Shape | None:
    return x.shape if op.scale.codes.shape == op.offset.codes.shape == x.shape[-1:] else None


def _leaky_relu_shape(op: ops.LeakyRelu, x: Op) -> Shape | None:
    return x.shape if np.broadcast_shapes(op.slope.codes.shape, x.shape) == x.shape else None


def _merge_shape(op: ops.Merge, x: Op, *others: Op) -> Shape | None:
    return x.shape if all(other.shape == x.shape for other in others) and op.function in ops.MERGES else None


def _max_pool_shape(op: ops.MaxPool, x: Op) -> Shape:
    assert op.format == x.format, f"{op.name}: changes the format"
    return (*op.window.positions(x.shape), x.shape[-1])


def _sum_pool_shape(op: ops.SumPool, x: Op) -> Shape | None:
    positions = op.window.positions(x.shape)
    return (*positions, x.shape[-1]) if op.weight.codes.shape == positions else None


def _reshape_shape(op: ops.Reshape, x: Op) -> Shape | None:
    assert op.format == x.format, f"{op.name}: changes the format"
    return op.shape if math.prod(op.shape) == math.prod(x.shape) else None


def _gather_shape(op: ops.Gather, *inputs: Op) -> Shape | None:
    total = sum(math.prod(x.shape) for x in inputs)
    return op.index.shape if op.index.min() >= -1 and op.index.max() < total else None


def _lookup_shape(op: ops.Lookup, x: Op) -> Shape:
    assert op.starts.shape == op.values.shape and (op.starts[..., 0] == x.format.min_code).all(), op.name
    assert op.starts.ndim == 1 or len(op.starts) == x.shape[-1], f"{op.name}: another number of channels"
    repeated = np.zeros((), bool) if op.starts.ndim == 1 else op.starts[:, 1:] == op.starts[:, -1:]
    assert ((np.diff(op.starts) > 0) | repeated).all(), f"{op.name}: runs are not in order"
    return x.shape


def _truth_table_shape(op: ops.TruthTable, *inputs: Op) -> Shape | None:
    widths = np.repeat([x.format.width for x in inputs], [math.prod(x.shape) for x in inputs])
    low, high, fmt = int(op.values.min()), int(op.values.max()), op.format
    assert fmt.min_code <= low and high <= fmt.max_code, f"{op.name}: codes {low}..{high} outside {fmt}"
    assert op.wires.shape == op.bits.shape and op.values.shape == (*op.shape, 1 << op.wires.shape[-1]), op.name
    if op.wires.min(initial=-1) < -1 or op.wires.max(initial=-1) >= len(widths):
        return None
    inside = (op.bits >= 0) & (op.bits < np.where(op.wires < 0, 1, widths[op.wires]))
    return op.wires.shape[:-1] if inside.all() else None


def _softmax_shape(op: ops.Softmax, x: Op) -> Shape:
    assert len(op.exponentials) == 1 << x.format.width, f"{op.name}: exponentials do not fit"
    return x.shape


def _scan_shape(op: ops.Scan, x: Op) -> Shape | None:
    check_ops(op.body, op.returns)
    row, *states = (each for each in op.body if isinstance(each, ops.Input))
    output, *carried = (next(each for each in op.body if each.name == name) for name in op.returns)
    assert op.format == output.format, f"{op.name}: changes the format"
    pairs = [(row, x), *zip(states, carried, strict=True)]
    assert all(taken.format == given.format for taken, given in pairs), f"{op.name}: the body is of other formats"
    fits = x.shape == (op.rows, *row.shape) and all(a.shape == b.shape for a, b in pairs[1:])
    return ((op.rows,) * op.every_row + output.shape) if fits else None


SHAPES: Mapping[type[Op], Callable[..., Shape | None]] = {
    ops.Input: _own_shape,
    ops.Dense: _dense_shape,
    ops.Conv: _conv_shape,
    ops.BatchNorm: _batchnorm_shape,
    ops.Relu: _shape_of_input,
    ops.LeakyRelu: _leaky_relu_shape,
    ops.Requantize: _shape_of_input,
    ops.Merge: _merge_shape,
    ops.MaxPool: _max_pool_shape,
    ops.SumPool: _sum_pool_shape,
    ops.Reshape: _reshape_shape,
    ops.Gather: _gather_shape,
    ops.Lookup: _lookup_shape,
    ops.TruthTable: _truth_table_shape,
    ops.Softmax: _softmax_shape,
    ops.Scan: _scan_shape,
}
"""The shape of an op's output, from the op and those it reads; None if it cannot read them so. Asserts what else holds
between them."""
