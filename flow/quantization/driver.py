"""From a float model and some samples to an integer graph, and what a report says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from flow.errors import DataError, SpecError, counted
from flow.frontend.base import Evaluate
from flow.frontend.trained import TrainedModel
from flow.ir import reference
from flow.ir.fixed import FixedFormat, Overflow, to_values
from flow.ir.fixed import quantize as quantize_codes
from flow.ir.graph import IntGraph, Lookup, Op, Softmax, split_samples
from flow.ir.intervals import exact_result
from flow.ir.passes import lower
from flow.quantization.assembly import assemble
from flow.quantization.evaluation import Floats
from flow.quantization.floats import FloatGraph, Function, float_graph
from flow.quantization.modules import Module, modules, quantizations
from flow.quantization.restructuring import equalize, fold_averages, restructure
from flow.quantization.rounding import reconstruct
from flow.quantization.search import Choice, Task
from flow.quantization.second import second_sweep
from flow.quantization.settings import MIN_SAMPLES, QuantSettings
from flow.quantization.sweep import Deciding, Plan, float_values, make_plan, port_formats, sweep
from flow.quantization.thresholds import choose
from flow.quantization.widths import Luts, measure_widths

Progress = Callable[[int, int, str], None]
"""Called with how many modules are done, of how many, and the name of the last."""

MOST_BUDGETS = 4
"""How often widths are chosen again if the graph takes more LUTs than its modules did one by one."""


class Memory(Protocol):
    """Keeps what was chosen, so that an interrupted search goes on."""

    def recall(self, name: str) -> Choice | None:
        """Return what was kept under a name, or None."""

    def keep(self, name: str, choice: Choice) -> None:
        """Keep a choice under a name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedModel:
    """A float model as an integer graph.

    Attributes:
        extracted: the integer graph, one op per step.
        lowered: after the passes: one op per module, or two where branches meet.
        floats: the float graph as it was read.
        record: `quantization` of a report's JSON.
    """

    extracted: IntGraph
    lowered: IntGraph
    floats: FloatGraph
    record: Mapping[str, Any]


def quantize(
    model: TrainedModel,
    calibration: Floats,
    settings: QuantSettings | None = None,
    *,
    input_format: FixedFormat | None = None,
    softmax: FixedFormat | None = None,
    functions: Evaluate | None = None,
    luts: Luts | None = None,
    memory: Memory | None = None,
    progress: Progress = lambda done, of, name: None,
) -> QuantizedModel:
    """Quantize a float model: restructure it into unified modules and search their fraction bits, module by module.

    Args:
        model: a float model, as `flow.read_keras` reads it.
        calibration: float (samples, *input shape); several inputs flattened and joined in order.
        settings: bit widths and switches.
        input_format: of the ports; else what fits the samples.
        softmax: unsigned format of the outputs of a final softmax; None leaves it off.
        functions: computes element-wise functions such as tanh (`flow.train.functions.approximate`); needed for models
            that have them.
        luts: the static estimate, for a budget of LUTs.
        memory: what was chosen by an interrupted run.
        progress: called after each module.

    Raises:
        DataError: too few samples, or values that are not finite.
        SpecError: the settings name a layer that is not there, or a budget cannot be kept.
        UnsupportedError: the model is quantized already, or a layer or value has no integer form; the message names it.
    """
    settings = settings or QuantSettings()
    original = float_graph(model)
    graph = restructure(original) if settings.points != "op" else fold_averages(original)
    graph = equalize(graph) if settings.equalize else graph
    _check_layers(graph, settings)
    ports = split_ports(graph, _checked(model.name, calibration))
    formats = port_formats(graph, ports, settings, input_format)
    plan = make_plan(graph, settings, formats, _checked_functions(original, functions))
    run = _Run(ports, memory, progress, softmax)
    if settings.budget_bits is None and settings.budget_lut is None:
        choices, outputs, extracted = run.quantize(plan)
    else:
        plan, choices, outputs, extracted = _within_budget(run, plan, luts)
    lowered = lower(extracted)
    if outputs:
        _check_search(lowered, ports, outputs[plan.graph.outputs[0]])
    return QuantizedModel(
        extracted=extracted,
        lowered=lowered,
        floats=original,
        record=_record(original, plan, choices, lowered),
    )


def _within_budget(
    run: _Run, plan: Plan, luts: Luts | None
) -> tuple[Plan, dict[str, Choice], dict[str, Floats], IntGraph]:
    """Choose widths that keep the budget of the settings, then quantize with them.

    LUTs depend on the widths of inputs too, so the graph that comes out may take more than its modules did one by one:
    then with a smaller budget again.

    Raises:
        SpecError: it cannot be kept.
    """
    measured = measure_widths(plan, run.ports, lambda width: run.deciding(plan, f"width{width}"), luts)
    limit, budget, taken = plan.settings.budget_lut, measured.budget, 0
    for attempt in range(MOST_BUDGETS):
        settings = replace(plan.settings, layers=measured.layers(budget))
        narrow = make_plan(plan.graph, settings, plan.ports, plan.functions)
        choices, outputs, extracted = run.quantize(narrow, "again" * attempt)
        if limit is None or luts is None:
            return narrow, choices, outputs, extracted
        taken = sum(of_op.lut or 0 for of_op in luts(lower(extracted)))
        if taken <= limit:
            return narrow, choices, outputs, extracted
        budget *= 0.98 * limit / taken
    raise SpecError(f"the budget of {limit} LUTs was not kept after {MOST_BUDGETS} attempts, the last took {taken}")


@dataclass(frozen=True, slots=True)
class _Run:
    """What all sweeps of a quantization share."""

    ports: Mapping[str, Floats]
    memory: Memory | None
    progress: Progress
    softmax: FixedFormat | None

    def quantize(self, plan: Plan, name: str = "") -> tuple[dict[str, Choice], dict[str, Floats], IntGraph]:
        """Return the choices, the outputs that the search computed (none if it recalled all), and the graph of them."""
        twice = plan.settings.sweeps == 2
        last = self.deciding(plan, f"second{name}" if twice else f"first{name}")
        choices, outputs = dict(last.kept), dict[str, Floats]()
        if len(choices) < len(plan.modules):
            choices, outputs = sweep(plan, self.ports, self.deciding(plan, f"first{name}"))
            if twice:
                choices, outputs = second_sweep(plan, self.ports, choices, last)
        rounding = plan.settings.rounding
        graph = assemble(plan.graph, plan.modules, choices, plan.ports, rounding, plan.functions, self.softmax)
        return choices, outputs, graph

    def deciding(self, plan: Plan, name: str) -> Deciding:
        """Return how a sweep of some name decides: by memory, or by the rule of the settings."""
        kept: dict[str, Choice] = {}
        for point in plan.modules:
            choice = None if self.memory is None else self.memory.recall(f"{name}-{point}")
            if choice is not None:
                kept[point] = choice
        done: list[str] = []

        def decide(task: Task) -> Choice:
            choice = choose(task)
            return reconstruct(task, choice) if plan.settings.weight_rounding == "reconstruct" else choice

        def finished(point: str, choice: Choice) -> None:
            done.append(point)
            if self.memory is not None and point not in kept:
                self.memory.keep(f"{name}-{point}", choice)
            self.progress(len(done), len(plan.modules), f"{name} sweep, {plan.modules[point].name}")

        return Deciding(decide, kept, finished)


def _checked(name: str, calibration: Floats) -> Floats:
    if len(calibration) < MIN_SAMPLES:
        raise DataError(f"{len(calibration)} calibration samples", model=name, remedy=f"give at least {MIN_SAMPLES}")
    if not np.isfinite(calibration).all():
        count = np.count_nonzero(~np.isfinite(calibration))
        raise DataError(
            f"{counted(count, 'value')} of the calibration samples {'is' if count == 1 else 'are'} NaN or infinite",
            model=name,
        )
    return np.asarray(calibration, np.float32)


def _check_layers(graph: FloatGraph, settings: QuantSettings) -> None:
    known = {layer for op in graph.ops for layer in op.op.layers}
    for name in settings.layers:
        if name not in known:
            raise SpecError(
                f"{graph.name} has no such layer", field=f"layers.{name}", remedy=f"it has {', '.join(sorted(known))}"
            )


def _checked_functions(graph: FloatGraph, functions: Evaluate | None) -> Evaluate:
    """Return what computes element-wise functions; for a network without them, something that is never called.

    Raises:
        SpecError: it is missing.
    """
    for op in graph.ops:
        if functions is None and isinstance(op.op, Function):
            remedy = "pass functions=flow.train.functions.approximate"
            raise SpecError(f"{', '.join(op.op.fused)} is a table that Keras fills", remedy=remedy)
    return functions or (lambda functions, values: values)


def split_ports(graph: FloatGraph, values: Floats) -> dict[str, Floats]:
    """Return samples input by input: name -> (samples, *shape)."""
    return split_samples(values, {op.name: op.op.shape for op in graph.inputs})


def _check_search(lowered: IntGraph, ports: Mapping[str, Floats], outputs: Floats) -> None:
    """Hold the integer reference against what the search computed for the calibration samples.

    Raises:
        AssertionError: they differ: the search has not computed what the hardware will.
    """
    parts = {op.name: quantize_codes(ports[op.name], replace(op.cast, overflow=Overflow.SAT)) for op in lowered.inputs}
    last = scores(lowered, lowered.outputs[0])
    codes = reference.run(lowered, lowered.join_port(parts), keep=(last.name,)).codes[last.name]
    same = np.array_equal(to_values(codes, last.format).reshape(outputs.shape), outputs)
    assert same, f"{lowered.name}: the search computed other values"


def scores(graph: IntGraph, output: str) -> Op:
    """Return the op of an output, or that before a softmax."""
    op = graph[output]
    return graph[op.inputs[0]] if isinstance(op, Softmax) else op


def float_outputs(graph: FloatGraph, values: Floats, functions: Evaluate | None = None) -> Floats:
    """Return the first output of the float network, before a final softmax: float32 (samples, *shape)."""
    return all_float_outputs(graph, values, functions)[graph.outputs[0]]


def all_float_outputs(graph: FloatGraph, values: Floats, functions: Evaluate | None = None) -> dict[str, Floats]:
    """Return the outputs of the float network, before a final softmax: op -> float32 (samples, *shape)."""
    results = float_values(graph, split_ports(graph, values), _checked_functions(graph, functions))
    return {op.name: result for op, result in results if op.name in graph.outputs}


def counts(original: FloatGraph, lowered: IntGraph) -> list[dict[str, Any]]:
    """Return how many quantization ops a network has, and values quantized per inference, by where it is quantized.

    Args:
        original: the float graph as it was read.
        lowered: the graph that was made of it; an op that rounds nothing does not count there.
    """
    folded = restructure(original)
    cuts = {
        "op": modules(fold_averages(original), "op"),
        "folded": modules(folded, "folded"),
        "unified": modules(folded, "unified"),
    }
    made = [math.prod(op.shape) for op in lowered.ops if "requantize" in op.fused or isinstance(op, Lookup)]
    rows = {**{points: quantizations(cut) for points, cut in cuts.items()}, "this_run": (len(made), sum(made))}
    return [{"points": points, "ops": ops, "values_per_inference": values} for points, (ops, values) in rows.items()]


def _record(original: FloatGraph, plan: Plan, choices: Mapping[str, Choice], lowered: IntGraph) -> dict[str, Any]:
    bits = _accumulator_bits(lowered)
    return {
        "settings": plan.settings.to_json(),
        "counts": counts(original, lowered),
        "modules": [_module_record(plan, module, choices[name], bits) for name, module in plan.modules.items()],
    }


def _accumulator_bits(graph: IntGraph) -> dict[str, int]:
    """Return, for each op that rounds, how many bits it rounds from."""
    return {
        op.name: exact_result(op, *(source.format for source in graph.sources(op))).format.width
        for op in graph.ops
        if "requantize" in op.fused
    }


def _module_record(plan: Plan, module: Module, choice: Choice, accumulator_bits: Mapping[str, int]) -> dict[str, Any]:
    own = plan.settings.layer(module.layers)
    rounding = [accumulator_bits[op.name] for op in module.ops if op.name in accumulator_bits]
    return {
        "name": module.name,
        "ops": [op.name for op in module.ops],
        "layers": list(module.layers),
        "does": [word for op in module.ops for word in op.op.fused],
        "bits": choice.format.width,
        "frac_bits": choice.format.frac_bits,
        "signed": choice.format.signed,
        "values": math.prod(module.point.op.shape),
        "accumulator_bits": rounding[-1] if rounding else None,
        "weight_bits": own.weight_bits if module.weighted else None,
        "weights": own.weights if module.weighted else None,
        "parameters": [
            {
                "op": name,
                "weight_frac_bits": [int(chosen.weight.frac_bits.min()), int(chosen.weight.frac_bits.max())],
                "bias_frac_bits": chosen.bias_frac_bits,
            }
            for name, chosen in choice.parameters.items()
        ],
        "relative_error": choice.error,
        "combinations_tried": choice.tried,
    }
