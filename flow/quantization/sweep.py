"""One sweep along the dataflow: module by module, each seeing its already quantized inputs beside its float output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flow.errors import UnsupportedError, at
from flow.frontend.base import Evaluate
from flow.frontend.extraction.builder import counts_rows, row_format
from flow.ir import ops
from flow.ir.fixed import Cast, FixedFormat, Overflow, exact_within, quantize, to_values
from flow.ir.graph import Op
from flow.quantization.assembly import with_exact_slopes
from flow.quantization.candidates import code_range, covering_frac_bits, output_format
from flow.quantization.evaluation import Floats, evaluated
from flow.quantization.floats import INTEGER_ONLY, FloatGraph, FloatOp, Function
from flow.quantization.modules import WIDE_BITS, Module, modules, shared_formats
from flow.quantization.search import Choice, Quantized, Task, chosen_codes, squared_errors
from flow.quantization.settings import MAX_BITS, QuantSettings

LARGEST = 1e30
"""A float value beyond this is refused."""
Decide = Callable[[Task], Choice]
"""Chooses for one module."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """How modules are decided in a sweep.

    Attributes:
        decide: chooses for a module.
        kept: point -> what an interrupted run chose.
        finished: called with each point and what was chosen.
    """

    decide: Decide
    kept: Mapping[str, Choice]
    finished: Callable[[str, Choice], None]


@dataclass(slots=True)
class Values:
    """Tensors by name that are given up once nobody reads them any more."""

    last_readers: Mapping[str, str]
    held: dict[str, Floats] = field(default_factory=dict)

    def give_up(self, reader: str) -> None:
        """Forget what `reader` was the last to read."""
        for name in [name for name, last in self.last_readers.items() if last == reader]:
            self.held.pop(name, None)


@dataclass(frozen=True, slots=True)
class Shared:
    """The format of several points: width and sign of all of them together, and fraction bits."""

    bits: int
    signed: bool
    frac_bits: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """A restructured float graph, where it is quantized and how.

    Attributes:
        graph: the float graph.
        modules: its modules by their points.
        shared: point -> the point it shares its format with.
        settings: how.
        ports: input -> its format.
        functions: computes functions.
    """

    graph: FloatGraph
    modules: Mapping[str, Module]
    shared: Mapping[str, str]
    settings: QuantSettings
    ports: Mapping[str, FixedFormat]
    functions: Evaluate

    def bits(self, module: Module) -> int:
        """Return the width of a module's output."""
        if module.wide:
            return WIDE_BITS
        name = module.point.name
        if name in self.graph.outputs:
            return self.settings.output_bits
        own = self.settings.layer(module.layers).bits
        assert own is not None
        if any(isinstance(reader.op, Function) for reader in self.graph.readers(name)):
            return self.settings.table_bits or min(MAX_BITS, own + 4)
        return own

    def port_values(self, name: str, values: Floats) -> Floats:
        """Return values as an input port carries them."""
        codes = quantize(values, Cast(self.ports[name], self.settings.rounding, Overflow.SAT))
        return to_values(codes, self.ports[name]).astype(np.float32)

    def task(
        self,
        module: Module,
        inputs: Mapping[str, Quantized],
        target: Floats,
        results: Mapping[str, Floats],
        shared: Mapping[str, Shared],
    ) -> Task:
        """Return a module with all that its search sees."""
        grid = shared.get(self.shared[module.point.name])
        return Task(
            module=module,
            inputs=inputs,
            target=target,
            results=results,
            settings=self.settings,
            own=self.settings.layer(module.layers),
            bits=self.bits(module) if grid is None else grid.bits - (grid.signed and not module.signed),
            fixed_frac_bits=None if grid is None else grid.frac_bits,
            functions=self.functions,
        )


def make_plan(
    graph: FloatGraph, settings: QuantSettings, ports: Mapping[str, FixedFormat], functions: Evaluate
) -> Plan:
    """Return where and how a graph is quantized.

    Raises:
        SpecError: settings name a layer that no module stands for.
    """
    cut = modules(graph, settings.points)
    slopes = {op.name: with_exact_slopes(op, settings.layer(op.op.layers).weight_bits or 8) for op in graph.ops}
    graph = replace(graph, ops=tuple(slopes[op.name] for op in graph.ops))
    by_point = {name: replace(module, ops=tuple(slopes[op.name] for op in module.ops)) for name, module in cut.items()}
    return Plan(
        graph=graph,
        modules=by_point,
        shared=shared_formats(graph, by_point),
        settings=settings,
        ports=ports,
        functions=functions,
    )


def float_values(
    graph: FloatGraph, ports: Mapping[str, Floats], functions: Evaluate
) -> Iterator[tuple[FloatOp, Floats]]:
    """Yield each op with its float output for some samples, in order; no more is kept than is still read.

    Raises:
        UnsupportedError: values are not finite or beyond any format.
    """
    values = Values(last_readers=_last_readers(graph, {op.name: op.name for op in graph.ops}))
    for op in graph.ops:
        if isinstance(op.op, ops.Input):
            values.held[op.name] = ports[op.name].astype(np.float32)
        else:
            values.held[op.name] = evaluated(op, [values.held[name] for name in op.inputs], functions)
        result = values.held[op.name]
        largest = float(np.abs(result).max(initial=0))
        if not largest < LARGEST:
            raise UnsupportedError(
                f"the float output of '{op.name}' reaches {largest:.3g} on the calibration samples",
                model=graph.name,
                remedy="look for huge weights, or a batch norm whose variance is zero",
            )
        yield op, result
        values.give_up(op.name)


def _last_readers(graph: FloatGraph, done_at: Mapping[str, str]) -> dict[str, str]:
    """Return for each op the name of the last one that needs its output; `done_at` says when a reader has read."""
    order = {op.name: number for number, op in enumerate(graph.ops)}
    last: dict[str, str] = {}
    for op in graph.ops:
        for name in op.inputs:
            last[name] = max(last.get(name, name), done_at[op.name], key=order.__getitem__)
    return last


def sweep(plan: Plan, ports: Mapping[str, Floats], how: Deciding) -> tuple[dict[str, Choice], dict[str, Floats]]:
    """Choose for every module, in order.

    Args:
        plan: what to quantize.
        ports: input -> calibration values, (samples, *shape).
        how: how modules are decided.

    Returns:
        Point -> what was chosen, and op -> values of the model's outputs, float32 (samples, *shape).

    Raises:
        UnsupportedError: a module has no format; the message names it.
    """
    graph = plan.graph
    done_at = {op.name: name for name, module in plan.modules.items() for op in module.ops}
    last = _last_readers(graph, {op.name: done_at.get(op.name, op.name) for op in graph.ops})
    kept = Values(last_readers=last)
    formats: dict[str, FixedFormat] = {}
    choices: dict[str, Choice] = {}
    results: dict[str, Floats] = {}
    shared = shared_grids(plan, ports)
    outputs: dict[str, Floats] = {}
    for op, target in float_values(graph, ports, plan.functions):
        if op.has_weights:
            results[op.name] = target
        if isinstance(op.op, ops.Input):
            formats[op.name] = plan.ports[op.name]
            kept.held[op.name] = plan.port_values(op.name, ports[op.name])
        elif op.name in plan.modules:
            module = plan.modules[op.name]
            inputs = {name: Quantized(kept.held[name], formats[name]) for name in module.inputs}
            own = {part.name: results.pop(part.name) for part in module.weighted}
            with at(model=graph.name, module=module.name):
                task = plan.task(module, inputs, target, own, shared)
                choices[op.name] = how.kept.get(op.name) or how.decide(task)
                result = chosen_codes(task, choices[op.name])
            formats[op.name] = choices[op.name].format
            kept.held[op.name] = result * np.float32(formats[op.name].step)
            how.finished(op.name, choices[op.name])
        elif op.name not in done_at:
            kept.held[op.name] = evaluated(op, [kept.held[name] for name in op.inputs], plan.functions)
            formats[op.name] = format_after(op, [formats[name] for name in op.inputs])
        if op.name in graph.outputs:
            outputs[op.name] = kept.held[op.name]
        kept.give_up(op.name)
    return choices, outputs


def shared_grids(plan: Plan, ports: Mapping[str, Floats]) -> dict[str, Shared]:
    """Return the format that several points share, by the first of them: the best for their float outputs.

    Each point counts by its squared error over its squared output.
    """
    leaders = [plan.shared[name] for name in plan.modules]
    several = {leader for leader in leaders if leaders.count(leader) > 1}
    if not several:
        return {}
    ranges = dict.fromkeys(several, (False, 0.0, 0.0))
    for op, target in float_values(plan.graph, ports, plan.functions):
        leader = plan.shared.get(op.name, "")
        if leader in several:
            signed, low, high = ranges[leader]
            signed = signed or plan.modules[op.name].signed
            ranges[leader] = signed, min(low, float(target.min())), max(high, float(target.max()))
    candidates = {}
    for leader, (signed, low, high) in ranges.items():
        bits = plan.bits(plan.modules[leader])
        fit = int(covering_frac_bits(np.array([low]), np.array([high]), *code_range(bits, signed))[0])
        candidates[leader] = [output_format(fit + offset, bits, signed) for offset in plan.settings.offsets]
    errors = {leader: np.zeros(len(formats)) for leader, formats in candidates.items()}
    for op, target in float_values(plan.graph, ports, plan.functions):
        leader = plan.shared.get(op.name, "")
        if leader in several:
            own = squared_errors(target, target, candidates[leader], plan.settings.rounding).sum(axis=1)
            errors[leader] += own / max(float(np.square(target, dtype=np.float64).sum()), np.finfo(float).tiny)
    best = {leader: candidates[leader][int(errors[leader].argmin())] for leader in several}
    return {leader: Shared(fmt.width, fmt.signed, fmt.frac_bits) for leader, fmt in best.items()}


def format_after(op: FloatOp, inputs: Sequence[FixedFormat]) -> FixedFormat:
    """Return the format of an exact op's output, wide enough for what the search asks of it: grid and range."""
    return EXACT_FORMATS[type(op.op)](op.op, _common(inputs))


def _common(inputs: Sequence[FixedFormat]) -> FixedFormat:
    signed, int_bits = any(x.signed for x in inputs), max(x.int_bits for x in inputs)
    return FixedFormat(signed, int_bits, max(x.frac_bits for x in inputs))


def _as_it_is(op: Op, x: FixedFormat) -> FixedFormat:
    return x


def _without_sign(op: ops.Relu, x: FixedFormat) -> FixedFormat:
    return replace(x, signed=False)


def _summed(op: ops.SumPool, x: FixedFormat) -> FixedFormat:
    weight = op.weight.format
    int_bits = int(np.ceil(np.log2(op.window.pixels))) - weight.frac_bits + weight.width
    return FixedFormat(x.signed, x.int_bits + int_bits, x.frac_bits + weight.frac_bits)


EXACT_FORMATS: Mapping[type[Op], Callable[..., FixedFormat]] = {
    ops.Relu: _without_sign,
    ops.MaxPool: _as_it_is,
    ops.SumPool: _summed,
    ops.Reshape: _as_it_is,
    ops.Gather: _as_it_is,
}
"""The format of an exact op's output, from the op and the format that holds all its inputs."""
INEXACT = (ops.Input, ops.Dense, ops.Conv, ops.BatchNorm, ops.LeakyRelu, ops.Merge, *INTEGER_ONLY)
"""Ops whose results are rounded to a format that is searched for, or come so from outside."""


def port_formats(
    graph: FloatGraph, ports: Mapping[str, Floats], settings: QuantSettings, given: FixedFormat | None
) -> dict[str, FixedFormat]:
    """Return the format of each input port: the one that was given, else what fits the calibration values best.

    Values that lie on a grid of few enough bits keep it; else fraction bits are chosen by their squared error. What
    numbers rows of tables has as many bits as they need, unless whole numbers were given.
    """
    formats = {}
    for name, values in ports.items():
        rows = _rows_read(graph, name)
        if rows and (given is None or not counts_rows(given)):
            formats[name] = row_format(rows)
        else:
            formats[name] = given or _port_format(values, settings)
    return formats


def _rows_read(graph: FloatGraph, name: str) -> int:
    """Return how many rows the tables have whose rows an op's values number; 0 if they are anything else."""
    counts = []
    for op in graph.readers(name):
        if op.table is not None:
            counts.append(len(op.table))
        else:
            counts.append(_rows_read(graph, op.name) if isinstance(op.op, ops.Gather | ops.Reshape) else 0)
    return 0 if name in graph.outputs else min(counts, default=0) and max(counts)


def _port_format(values: Floats, settings: QuantSettings) -> FixedFormat:
    bits = settings.port_bits
    exact = exact_within(values, bits)
    if exact is not None:
        return exact
    low, high = float(values.min()), float(values.max())
    signed = low < 0
    fit = int(covering_frac_bits(np.array([low]), np.array([high]), *code_range(bits, signed))[0])
    formats = [output_format(fit + offset, bits, signed) for offset in settings.offsets]
    errors = [
        np.square(to_values(quantize(values, Cast(fmt, settings.rounding, Overflow.SAT)), fmt) - values).sum()
        for fmt in formats
    ]
    return formats[int(np.argmin(errors))]
