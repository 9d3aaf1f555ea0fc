"""Mixed widths: a width for each module, so that a budget is kept and as little as possible is lost.

One sweep at the largest width measures for each module and each width its reconstruction error, its inputs at the
largest width. Then, from the largest width everywhere, the module that loses least error per unit of the budget is
narrowed by one bit, again and again, until the budget is kept.

A budget of bits counts each weight and each output value with its module's width. A budget of LUTs counts what the
static estimate says of the module's ops at that width, with inputs of the same width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flow.errors import SpecError
from flow.ir.graph import IntGraph
from flow.ir.passes import lower
from flow.quantization.assembly import assemble
from flow.quantization.evaluation import Floats
from flow.quantization.modules import Module
from flow.quantization.search import Choice, Task
from flow.quantization.settings import MAX_BITS, MAX_PO2_BITS, MIN_BITS, LayerSettings
from flow.quantization.sweep import Deciding, Plan, sweep
from flow.results import Resources

USUAL_TOP = 8
"""Largest width that is tried, if the budget does not ask for more."""
Luts = Callable[[IntGraph], tuple[Resources, ...]]
"""The static estimate of a lowered graph, op by op."""

Table = Mapping[str, Mapping[int, float]]
"""Point -> width -> a number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Widths:
    """The error and the cost of each module at each width.

    Attributes:
        plan: what was measured, at one width.
        errors, costs: by point and width.
        budget: of all costs together, as the settings say.
    """

    plan: Plan
    errors: Table
    costs: Table
    budget: float

    def layers(self, budget: float) -> Mapping[str, LayerSettings]:
        """Return the widths of all layers that keep a budget.

        Layers that the settings give a width keep it, and so do outputs of the model.

        Raises:
            SpecError: not even the smallest widths keep it.
        """
        plan = self.plan
        fixed = {name: _fixed(plan, module) for name, module in plan.modules.items()}
        return {
            layer: _settings(plan.settings.layers.get(layer), width)
            for name, width in narrowed(self.errors, self.costs, budget, fixed).items()
            for layer in plan.modules[name].layers
        }


def measure_widths(
    plan: Plan, ports: Mapping[str, Floats], at_width: Callable[[int], Deciding], luts: Luts | None
) -> Widths:
    """Return the error and the cost of each module at each width, with its inputs at the largest width.

    Args:
        plan: what to quantize, at one width.
        ports: input -> calibration values.
        at_width: how modules are decided at a width.
        luts: the static estimate, for a budget of LUTs.

    Raises:
        SpecError: a budget of LUTs, and no estimate.
    """
    settings = plan.settings
    top = max(USUAL_TOP, math.ceil(settings.budget_bits or 0))
    widths = tuple(range(MIN_BITS, min(top, MAX_BITS) + 1))
    hows = {width: at_width(width) for width in widths}
    choices: dict[int, dict[str, Choice]] = {width: {} for width in widths}

    def measure(task: Task) -> Choice:
        name = task.module.point.name
        for width, how in hows.items():
            choices[width][name] = how.kept.get(name) or how.decide(_at_width(plan, task, width))
            how.finished(name, choices[width][name])
        return choices[widths[-1]][name]

    sweep(plan, ports, Deciding(measure, {}, lambda point, choice: None))
    errors = {name: {width: choices[width][name].error for width in widths} for name in plan.modules}
    costs = _lut_costs(plan, choices, luts) if settings.budget_lut is not None else _bit_costs(plan, widths)
    return Widths(plan=plan, errors=errors, costs=costs, budget=_budget(plan))


def narrowed(errors: Table, costs: Table, budget: float, fixed: Mapping[str, int | None]) -> dict[str, int]:
    """Return a width per point: from the largest ones, the cheapest loss of a bit first, until the budget is kept.

    Args:
        errors, costs: by point and width.
        budget: of all costs together.
        fixed: points whose width is given.

    Raises:
        SpecError: it cannot be kept.
    """
    chosen = {name: fixed[name] or max(widths) for name, widths in errors.items()}
    while (total := sum(costs[name][width] for name, width in chosen.items())) > budget:
        steps = []
        for name, width in chosen.items():
            if fixed[name] is None and width > min(errors[name]):
                saved = costs[name][width] - costs[name][width - 1]
                lost = max(0.0, errors[name][width - 1] - errors[name][width])
                steps.append((lost / saved if saved > 0 else math.inf, name))
        if not steps or min(steps)[0] == math.inf:
            raise SpecError(f"the budget cannot be kept: the smallest widths still take {total:.6g} of {budget:.6g}")
        chosen[min(steps)[1]] -= 1
    return chosen


def _at_width(plan: Plan, task: Task, width: int) -> Task:
    """Return a task with another width for weights and output."""
    name = task.module.point.name
    output = task.bits if name in plan.graph.outputs else width
    weight_bits = min(width, MAX_PO2_BITS) if task.own.weights == "po2" else width
    return replace(task, own=replace(task.own, bits=width, weight_bits=weight_bits), bits=output, fixed_frac_bits=None)


def _fixed(plan: Plan, module: Module) -> int | None:
    """Return the width that the settings give to a module's layers, if they do."""
    own = [plan.settings.layers[layer] for layer in module.layers if layer in plan.settings.layers]
    bits = [layer_settings.bits for layer_settings in own if layer_settings.bits is not None]
    return bits[-1] if bits else None


def _settings(own: LayerSettings | None, width: int) -> LayerSettings:
    if own is None:
        return LayerSettings(bits=width, weight_bits=width)
    return LayerSettings(bits=own.bits or width, weight_bits=own.weight_bits or width, weights=own.weights)


def _numbers(module: Module) -> int:
    """Return how many weights and output values a module has."""
    weights = sum(op.numbers[0].size for op in module.weighted)
    return int(weights + math.prod(module.point.op.shape))


def _bit_costs(plan: Plan, widths: tuple[int, ...]) -> Table:
    return {name: {width: float(_numbers(module) * width) for width in widths} for name, module in plan.modules.items()}


def _lut_costs(plan: Plan, choices: Mapping[int, Mapping[str, Choice]], luts: Luts | None) -> Table:
    """Return the LUTs of each module by width: those of the graph in which all have that width."""
    if luts is None:
        raise SpecError("a budget of LUTs needs a back end with a static estimate before emission: Vitis or Vivado")
    costs: dict[str, dict[int, float]] = {name: {} for name in plan.modules}
    for width, chosen in choices.items():
        graph = assemble(plan.graph, plan.modules, chosen, plan.ports, plan.settings.rounding, plan.functions)
        by_op = {of_op.name: float(of_op.lut or 0) for of_op in luts(lower(graph))}
        for name, module in plan.modules.items():
            costs[name][width] = sum(by_op.get(op.name, 0.0) for op in module.ops)
    return costs


def _budget(plan: Plan) -> float:
    settings = plan.settings
    if settings.budget_lut is not None:
        return float(settings.budget_lut)
    assert settings.budget_bits is not None
    return settings.budget_bits * sum(_numbers(module) for module in plan.modules.values())
