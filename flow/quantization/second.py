"""A second sweep: outputs chosen again, by what they do to the modules that read them.

The first sweep fits a module's output to its own float output. The modules that read this output may care for other
values more: a shortcut is added to numbers of another size, a convolution multiplies large channels by small weights.
So the second sweep goes along the dataflow once more. Each module's output takes the candidate with which its readers,
as they are quantized by now, come closest to their float outputs. For each candidate, the module's weights and bias are
chosen again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from flow.ir.fixed import FixedFormat
from flow.ir.graph import Input
from flow.quantization.evaluation import Floats, evaluated
from flow.quantization.floats import FloatOp
from flow.quantization.search import Choice, Quantized, Task, choice_error, chosen_codes
from flow.quantization.sweep import Decide, Deciding, Plan, float_values, format_after, shared_grids


def second_sweep(
    plan: Plan,
    ports: Mapping[str, Floats],
    choices: Mapping[str, Choice],
    how: Deciding,
) -> tuple[dict[str, Choice], dict[str, Floats]]:
    """Choose for every module again.

    All tensors of the network, float and quantized, are held for all samples: memory grows with both.

    Args:
        plan, ports, how: as of `sweep`.
        choices: what the first sweep chose.

    Returns:
        What was chosen now and the outputs of the model, as of `sweep`.
    """
    chosen = dict(choices)
    state = _State(plan, ports, chosen)
    for point in plan.modules:
        task = state.task(point)
        best = how.kept.get(point) or state.best(point, task, how.decide)
        chosen[point] = best
        state.put(point, chosen_codes(task, best), best.format)
        how.finished(point, best)
    return chosen, {name: state.quantized[name].values for name in plan.graph.outputs}


class _State:
    """All tensors of a network, float and quantized."""

    def __init__(self, plan: Plan, ports: Mapping[str, Floats], choices: Mapping[str, Choice]) -> None:
        self.plan, self.choices = plan, choices
        self.inner = {op.name for module in plan.modules.values() for op in module.ops}
        self.shared = shared_grids(plan, ports)
        self.floats = {
            op.name: values
            for op, values in float_values(plan.graph, ports, plan.functions)
            if op.name in plan.modules or op.has_weights
        }
        self.quantized: dict[str, Quantized] = {}
        for op in plan.graph.ops:
            if isinstance(op.op, Input):
                self.quantized[op.name] = Quantized(plan.port_values(op.name, ports[op.name]), plan.ports[op.name])
                self._follow(op.name)
            elif op.name in choices:
                self.put(op.name, chosen_codes(self.task(op.name), choices[op.name]), choices[op.name].format)

    def task(self, point: str) -> Task:
        """Return a module with its inputs as they are by now."""
        module = self.plan.modules[point]
        inputs = {name: self.quantized[name] for name in module.inputs}
        results = {op.name: self.floats[op.name] for op in module.weighted}
        return self.plan.task(module, inputs, self.floats[point], results, self.shared)

    def put(self, point: str, codes: Floats, fmt: FixedFormat) -> None:
        """Set the output of a point, and what exact ops make of it."""
        self.quantized[point] = Quantized(codes * np.float32(fmt.step), fmt)
        self._follow(point)

    def readers(self, name: str) -> tuple[str, ...]:
        """Return the points whose modules read a tensor, directly or through exact ops."""
        reached = {name, *(op.name for op in self._exact_behind(name))}
        return tuple(point for point, module in self.plan.modules.items() if reached.intersection(module.inputs))

    def best(self, point: str, task: Task, decide: Decide) -> Choice:
        """Return the choice with which the readers of a point come closest to their float outputs."""
        if task.fixed_frac_bits is not None or not self.readers(point):
            return decide(task)
        tries = [decide(replace(task, fixed_frac_bits=frac_bits)) for frac_bits in task.output_candidates()]
        return min(tries, key=lambda tried: self.errors_behind(point, task, tried))

    def errors_behind(self, point: str, task: Task, tried: Choice) -> float:
        """Return the sum of the relative errors of the modules that read a point, if the point took this choice."""
        before = dict(self.quantized)
        self.put(point, chosen_codes(task, tried), tried.format)
        total = sum(choice_error(self.task(reader), self.choices[reader]) for reader in self.readers(point))
        self.quantized = before
        return float(total)

    def _exact_behind(self, name: str) -> tuple[FloatOp, ...]:
        reached, behind = {name}, []
        for op in self.plan.graph.ops:
            if op.name not in self.inner and reached.intersection(op.inputs):
                reached.add(op.name)
                behind.append(op)
        return tuple(behind)

    def _follow(self, name: str) -> None:
        for op in self._exact_behind(name):
            if all(source in self.quantized for source in op.inputs):
                inputs = [self.quantized[source] for source in op.inputs]
                values = evaluated(op, [x.values for x in inputs], self.plan.functions)
                self.quantized[op.name] = Quantized(values, format_after(op, [x.format for x in inputs]))
