"""Claims: a circuit computes certain positions of an op. What it reads, what it should give, and what its wires are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flow.backends.rtl.proof.circuit import UNDEFINED, Bits, Circuit, without_wires
from flow.backends.rtl.proof.definition import Key, Output, outputs
from flow.backends.rtl.proof.forms import Form, Forms, direction
from flow.errors import ToolFailedError
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Op

FORMS_OPERATIONS = 1 << 26
"""Forms are computed if operations times inputs are no more than this."""
ARITHMETIC = ("$add", "$sub", "$mul", "$neg")


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One position that a circuit computes.

    Attributes:
        key: of the position, see `definition.Positions`.
        index: int64 (inputs of the position,): which element of the circuit's input each is; -1: `fill`.
        fill: the code of padding.
        y: nets of its outputs, the first code lowest.
    """

    key: Key
    index: Codes
    fill: int
    y: Bits


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Whether one output of a circuit has the code of its definition, for all inputs.

    Attributes:
        number: of the output, counted over all tasks.
        task: the position that it belongs to.
        place: which output of that position it is.
        y: its nets.
        output: its definition, but for the cast.
        reads: the elements that the definition reads, -1 for padding.
    """

    number: int
    task: Task
    place: int
    y: Bits
    output: Output
    reads: Sequence[int]


class Claim:
    """That a circuit computes some positions of an op.

    Args:
        circuit: the circuit.
        elements, formats: nets and format of each element of its input.
        tasks: what it computes.
        op, read: the op, and what it reads.

    Attributes:
        sources: net -> (operation that drives it, or -1 - element, and which bit of it).
    """

    def __init__(
        self,
        circuit: Circuit,
        elements: Sequence[Bits],
        formats: Sequence[FixedFormat],
        tasks: Sequence[Task],
        op: Op,
        read: Sequence[Op],
    ) -> None:
        self.circuit, self.elements, self.formats, self.tasks = circuit, elements, formats, tasks
        self.op, self.read = op, read
        self.sources: dict[int, tuple[int, int]] = dict(self.circuit.driver)
        for place, bits in enumerate(self.elements):
            self.sources.update({bit: (-1 - place, number) for number, bit in enumerate(bits)})
        self._outputs: dict[Key, list[Output]] = {}

    def outputs(self, key: Key) -> list[Output]:
        """Return the outputs of a position with that key."""
        if key not in self._outputs:
            self._outputs[key] = outputs(self.op, self.read, key)
        return self._outputs[key]

    def questions(self) -> Iterator[Question]:
        """Yield each output of each task."""
        width, number = self.op.format.width, 0
        for task in self.tasks:
            for place in range(len(task.y) // width):
                y, output = task.y[place * width : (place + 1) * width], self.outputs(task.key)[place]
                reads = task.index[list(output.reads)].tolist()
                yield Question(number, task, place, y, output, reads)
                number += 1

    def check_driven(self) -> None:
        """Check that every wire that is read is driven.

        Raises:
            ToolFailedError: a wire has no driver, or a driver that is not known here.
        """
        read = {bit for operation in self.circuit.operations for bit in operation.reads}
        read.update(bit for task in self.tasks for bit in task.y)
        loose = read - self.sources.keys() - {0, 1, UNDEFINED}
        if loose or any(UNDEFINED in task.y for task in self.tasks):
            raise ToolFailedError(f"module '{self.circuit.name}' has {len(loose)} wires without a driver that is known")

    def shape(self, question: Question) -> tuple[object, ...] | None:
        """Return what an output of only wires is, but for which elements it reads; None if operations drive it."""
        if any(bit in self.circuit.driver for bit in question.y):
            return None
        places = {-1 - element: number for number, element in enumerate(question.reads)}
        wires = []
        for bit in question.y:
            source, number = self.sources.get(bit, (None, bit))
            wires.append((places.get(source, source) if source is not None else None, number))
        padding = tuple(element < 0 for element in question.reads)
        return (question.task.key, question.place, padding, tuple(wires))

    def leaves(self, y: Bits, cone: Iterable[int]) -> set[int]:
        """Return the elements that some nets and some operations read."""
        nets = {*y, *(bit for place in cone for bit in self.circuit.operations[place].reads)}
        return {-1 - self.sources[net][0] for net in nets if net in self.sources and self.sources[net][0] < 0}

    @cached_property
    def without_wires(self) -> tuple[Circuit, dict[int, int]]:
        """The circuit without registers and wires, and what each net of these is."""
        return without_wires(self.circuit)

    @cached_property
    def forms(self) -> Forms | None:
        """The affine forms of the circuit's operations, unless there are too many."""
        if len(self.circuit.operations) * len(self.elements) > FORMS_OPERATIONS:
            return None
        return Forms(self.circuit, self.sources, self.formats)

    @cached_property
    def directions(self) -> dict[int, tuple[bytes, int, Form]]:
        """Place of an operation -> key and factor of its form, and the form; for those that are not constant."""
        directions = {}
        for place, form in self.forms.of_operation.items() if self.forms is not None else ():
            towards = direction(form.weights)
            if towards is not None:
                directions[place] = (*towards, form)
        return directions

    @property
    def loses_nothing(self) -> bool:
        """Whether every adder and multiplier has a form, which its wire then holds."""
        adders = [place for place, one in enumerate(self.circuit.operations) if one.kind in ARITHMETIC]
        return not adders or (self.forms is not None and all(place in self.forms.of_operation for place in adders))


def interval(weights: Codes, formats: Sequence[FixedFormat]) -> tuple[int, int]:
    """Return the smallest and the largest weighted sum of codes of some formats."""
    used = np.flatnonzero(weights).tolist()
    ends = [(int(weights[i]) * formats[i].min_code, int(weights[i]) * formats[i].max_code) for i in used]
    return sum(map(min, ends)), sum(map(max, ends))
