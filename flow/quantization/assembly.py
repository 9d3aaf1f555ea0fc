"""From what was chosen to an IntGraph: exact ops with codes in them, and a requantization behind each point.

An output of the model whose exact results all have a value in its format keeps the narrower format that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flow.frontend.base import Evaluate
from flow.frontend.extraction.activations import softmax_exponentials
from flow.frontend.extraction.builder import rows_of
from flow.ir import ops
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, exact_codes, narrowed, quantize
from flow.ir.graph import IntGraph, Op
from flow.ir.intervals import Range, check_division, exact_result
from flow.ir.names import identifier
from flow.ir.tables import runs
from flow.quantization.floats import INTEGER_ONLY, FloatGraph, FloatOp, Function, Reals
from flow.quantization.modules import Module
from flow.quantization.search import Choice, Parameters


def assemble(
    graph: FloatGraph,
    modules: Mapping[str, Module],
    choices: Mapping[str, Choice],
    ports: Mapping[str, FixedFormat],
    rounding: Rounding,
    functions: Evaluate,
    softmax: FixedFormat | None = None,
) -> IntGraph:
    """Return the quantized graph, one op per step, before any pass.

    Args:
        graph: the float graph.
        modules: its modules by their points.
        choices: point -> what was chosen for its module.
        ports: input -> its format.
        rounding: how results and inputs are rounded.
        functions: computes the functions of tables.
        softmax: format of the outputs of a final softmax; None leaves it off.

    Raises:
        UnsupportedError: a result needs more bits than codes have.
    """
    builder = _Assembly(rounding, functions, frozenset(op.name for op in graph.ops), frozenset(graph.outputs))
    parameters = {name: chosen for choice in choices.values() for name, chosen in choice.parameters.items()}
    for op in graph.ops:
        if isinstance(op.op, ops.Input):
            builder.port(op, ports[op.name])
            continue
        choice = choices.get(op.name)
        builder.append(op, parameters.get(op.name), None if choice is None else choice.format)
    warnings = graph.warnings
    for name, layer in graph.softmaxes.items():
        if softmax is not None:
            builder.append_softmax(name, layer, softmax)
        how = "is left off the hardware, which returns its inputs; argmax is the same"
        how = how if softmax is None else "is an integer function of the same inputs, not Keras' float one"
        warnings = (*warnings, f"the final softmax ('{layer}') {how}")
    outputs = tuple(builder.gives[name] for name in graph.outputs)
    return IntGraph(name=graph.name, ops=tuple(builder.ops.values()), outputs=outputs, warnings=warnings)


@dataclass(slots=True)
class _Assembly:
    """The graph so far; `gives` says which op has the values of an op of the float graph.

    Attributes:
        rounding, functions: as of `assemble`.
        names, outputs: of the ops of the float graph, and of its outputs.
    """

    rounding: Rounding
    functions: Evaluate
    names: frozenset[str]
    outputs: frozenset[str]
    ops: dict[str, Op] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)

    def port(self, op: FloatOp, fmt: FixedFormat) -> None:
        """Append an input."""
        self._put(op, replace(op.op, cast=Cast(fmt, self.rounding, Overflow.SAT)))

    def append(self, op: FloatOp, parameters: Parameters | None, fmt: FixedFormat | None) -> None:
        """Append an op, and if it has a format of its own the cast to it."""
        bare = replace(op.op, inputs=tuple(self.gives[name] for name in op.inputs))
        if isinstance(bare, Function):
            assert fmt is not None
            self._put(op, self._table(bare, op.table, fmt))
            return
        clipped = isinstance(bare, ops.Relu) and op.limit is not None
        if isinstance(bare, ops.Relu):
            on_codes = clipped and fmt is None
            bare = replace(bare, limit=self._limit(op, self._input(bare).format) if on_codes else None)
        exact = self._exact(bare, op, parameters)
        self._put(op, exact)
        leaves = op.name in self.outputs and op.divisor == 1 and not clipped
        if fmt is None or (leaves and _holds(fmt, exact.format)):
            return
        cast = self._cast(exact, op, fmt)
        self.gives[op.name] = cast.name
        limit = self._limit(op, fmt) if clipped else None
        if limit is not None:
            name = self._name(f"{op.name}_limit")
            last = ops.Relu(
                name=name, inputs=(cast.name,), shape=cast.shape, cast=Cast(fmt), limit=limit, fused=("limit",)
            )
            self.ops[name] = self._covered(last)
            self.gives[op.name] = name

    def append_softmax(self, name: str, layer: str, fmt: FixedFormat) -> None:
        """Append a softmax behind the op that gives the values of `name`."""
        x = self.ops[self.gives[name]]
        made = ops.Softmax(
            name=self._name(layer),
            inputs=(x.name,),
            shape=x.shape,
            cast=Cast(fmt),
            exponentials=softmax_exponentials(x, fmt),
            layers=(layer,),
            fused=("softmax",),
        )
        self.ops[made.name] = made
        self.gives[name] = made.name

    def _put(self, op: FloatOp, made: Op) -> None:
        self.ops[made.name] = made
        self.gives[op.name] = made.name

    def _name(self, wanted: str) -> str:
        return identifier(wanted, self.names | self.ops.keys())

    def _input(self, op: Op) -> Op:
        return self.ops[op.inputs[0]]

    def _limit(self, op: FloatOp, fmt: FixedFormat) -> int | None:
        """Return the code that the limit of a ReLU is rounded to, or None if no code lies beyond it."""
        assert op.limit is not None
        code = int(quantize(np.array([op.limit]), Cast(fmt, self.rounding, Overflow.SAT))[0])
        return None if code >= fmt.max_code else code

    def _exact(self, bare: Op, op: FloatOp, parameters: Parameters | None) -> Op:
        """Return an op with its codes in it and a format that holds each of its results."""
        return ASSEMBLED[type(bare)](self, bare, parameters)

    def _weighted(self, bare: Op, parameters: Parameters | None) -> Op:
        assert parameters is not None
        return self._covered(replace(bare, **_constants(bare, parameters)))

    def _as_its_input(self, bare: Op, parameters: Parameters | None) -> Op:
        return replace(bare, cast=replace(bare.cast, format=self._input(bare).format))

    def _as_it_is(self, bare: Op, parameters: Parameters | None) -> Op:
        return self._covered(bare)

    def _covered(self, op: Op) -> Op:
        exact = exact_result(op, *(self.ops[name].format for name in op.inputs))
        return replace(op, cast=replace(op.cast, format=exact.format))

    def _cast(self, exact: Op, op: FloatOp, fmt: FixedFormat) -> Op:
        name = self._name(f"{op.name}_rounded")
        cast = ops.Requantize(
            name=name,
            inputs=(exact.name,),
            shape=exact.shape,
            cast=Cast(fmt, self.rounding, Overflow.SAT, op.divisor),
            fused=("requantize",),
        )
        if op.divisor != 1:
            check_division(cast, Range.of(exact.format))
        self.ops[name] = cast
        return cast

    def _table(self, op: Function, table: Reals | None, fmt: FixedFormat) -> Op:
        """Return a function as a table over all codes of its input."""
        x, cast = self._input(op).format, Cast(fmt, self.rounding, Overflow.SAT)
        if table is None:
            codes = np.arange(x.min_code, x.max_code + 1)
            exact = self.functions(op.functions, np.ldexp(codes.astype(np.float32), -x.frac_bits))
            starts, values = runs(codes, quantize(exact, cast))
        else:
            starts, values = rows_of(quantize(table, cast), x)
        return ops.Lookup(
            name=op.name,
            inputs=op.inputs,
            shape=op.shape,
            cast=Cast(fmt),
            starts=starts,
            values=values,
            layers=op.layers,
            fused=op.fused,
        )


ASSEMBLED: Mapping[type[Op], Callable[[_Assembly, Op, Parameters | None], Op]] = {
    ops.Dense: _Assembly._weighted,
    ops.Conv: _Assembly._weighted,
    ops.BatchNorm: _Assembly._weighted,
    ops.Relu: _Assembly._as_it_is,
    ops.LeakyRelu: _Assembly._as_it_is,
    ops.Merge: _Assembly._as_it_is,
    ops.MaxPool: _Assembly._as_its_input,
    ops.SumPool: _Assembly._as_it_is,
    ops.Reshape: _Assembly._as_its_input,
    ops.Gather: _Assembly._as_it_is,
}
"""How an op gets its codes and a format that holds each of its results; a `Function` becomes a table."""
MADE_APART = (ops.Input, *INTEGER_ONLY)
"""Ops that are put together elsewhere: ports, casts, tables and a final softmax."""


def _holds(fmt: FixedFormat, exact: FixedFormat) -> bool:
    """Say whether a format holds every value of another one, so that nothing is left to be rounded or clamped."""
    return fmt.frac_bits >= exact.frac_bits and fmt.int_bits >= exact.int_bits and fmt.signed >= exact.signed


def _constants(op: Op, parameters: Parameters) -> dict[str, Any]:
    """Return the fields of an op that hold weights and bias."""
    weight = narrowed(parameters.weight.on_one_grid(), parameters.weight.finest)
    bias = narrowed(parameters.bias, parameters.bias_frac_bits)
    return {"scale": weight, "offset": bias} if isinstance(op, ops.BatchNorm) else {"weight": weight, "bias": bias}


def with_exact_slopes(op: FloatOp, bits: int) -> FloatOp:
    """Return a leaky ReLU with slopes rounded to codes of so many bits, but for powers of two; other ops unchanged."""
    if not isinstance(op.op, ops.LeakyRelu):
        return op
    assert op.slope is not None
    largest = float(np.abs(op.slope).max())
    frac_bits = bits - 1 - int(np.ceil(np.log2(largest))) if largest > 0 else 0
    slope = exact_codes(np.ldexp(np.rint(np.ldexp(op.slope, frac_bits)), -frac_bits))
    return replace(op, op=replace(op.op, slope=slope), slope=slope.values)
