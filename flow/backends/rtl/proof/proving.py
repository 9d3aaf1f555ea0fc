"""Whether a circuit computes what its op is, for all inputs; of one module at a time, and run in a process of its own.

For each output code, in this order:

1. The weighted sum: Yosys' cells are followed as affine forms (`backends.rtl.proof.forms`). A wire whose form is the
   sum of the definition, times and plus constants, is cut: what follows reads one number of known range.
2. What follows - rounding, clamp, everything that is no sum - is compared by bitwuzla for every such number.
3. Without such a wire, bitwuzla compares the whole cone; an op that is no sum starts here.
4. Tables, and what bitwuzla leaves open, are run on all codes if the output reads at most `EXHAUSTIVE_BITS` bits.

Before that all are run on some samples, which finds what is grossly wrong, and with an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.proof.circuit import UNDEFINED, Bits, Circuit, simulate
from flow.backends.rtl.proof.definition import Key, Output, bits_needed, outputs, result
from flow.backends.rtl.proof.forms import Form, Forms, direction
from flow.backends.rtl.proof.integers import evaluate
from flow.backends.rtl.proof.terms import Solver, Term, Vectors, joined, translate
from flow.errors import ToolFailedError
from flow.ir.fixed import Codes, FixedFormat
from flow.ir.graph import Lookup, Op, Softmax

EXHAUSTIVE_BITS = 16
RANDOM_SAMPLES = 256
MOST_SINGLE = 2048
"""With more inputs than that, no sample is made for each."""
FORMS_CELLS = 1 << 26
"""Forms are computed if cells times inputs are no more than this."""
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


@dataclass(frozen=True, slots=True)
class Difference:
    """Inputs for which a circuit does not compute what it should.

    Attributes:
        output: which code of which task, counted over all.
        inputs: codes of the circuit's elements.
        found, expected: the codes.
    """

    output: int
    inputs: tuple[int, ...]
    found: int
    expected: int


@dataclass(slots=True)
class Answer:
    """What was shown of a circuit.

    Attributes:
        proved, exhaustive, open: how many outputs.
        codes: the most input codes that an output was run on.
        engines: what was used.
        lost_nothing: whether every adder and multiplier has a form that its wire holds.
        difference: what refutes it; the rest says nothing then.
    """

    proved: int = 0
    exhaustive: int = 0
    open: int = 0
    codes: int = 0
    engines: set[str] = field(default_factory=set)
    lost_nothing: bool = True
    difference: Difference | None = None


class Prover:
    """A circuit, the op it computes, and what is known of both.

    Args:
        circuit: it.
        op, sources: the op, and what it reads.
        elements: nets of each element of the circuit's input.
        formats: the format of each.
        deadline: until when, as of time.monotonic().
    """

    def __init__(
        self,
        circuit: Circuit,
        op: Op,
        sources: Sequence[Op],
        elements: Sequence[Bits],
        formats: Sequence[FixedFormat],
        deadline: float,
    ) -> None:
        self.circuit, self.op, self.read = circuit, op, sources
        self.elements, self.formats = elements, formats
        self.deadline = deadline
        self.sources: dict[int, tuple[int, int]] = dict(circuit.driver)
        for place, bits in enumerate(elements):
            self.sources.update({bit: (-1 - place, number) for number, bit in enumerate(bits)})
        self._outputs: dict[Key, list[Output]] = {}

    def prove(self, tasks: Sequence[Task]) -> Answer:
        """Return what could be shown of all outputs of all tasks.

        Raises:
            ToolFailedError: a wire that is read has no driver, or a driver that is not known here.
        """
        self._check_driven(tasks)
        answer = Answer()
        if self.circuit.cells:
            answer.difference = self._sampled(tasks)
        shown = set[tuple[object, ...]]()
        for number, (task, place, y) in enumerate(self._each(tasks)):
            if answer.difference is not None or answer.open:
                break
            cone = self.circuit.cone(y, {})
            shape = self._shape(task, place, y) if not cone else (number,)
            if shape in shown:
                answer.proved += 1
                continue
            self._one(answer, number, task, place, y, cone)
            shown.add(shape)
        if self.circuit.cells:
            self._overflow(answer)
        return answer

    def _check_driven(self, tasks: Sequence[Task]) -> None:
        read = {bit for cell in self.circuit.cells for bits in (cell.a, cell.b, cell.s) for bit in bits}
        read.update(bit for task in tasks for bit in task.y)
        loose = read - self.sources.keys() - {0, 1, UNDEFINED}
        if loose or any(UNDEFINED in task.y for task in tasks):
            raise ToolFailedError(f"module '{self.circuit.name}' has {len(loose)} wires without a driver that is known")

    def _overflow(self, answer: Answer) -> None:
        adders = [place for place, cell in enumerate(self.circuit.cells) if cell.kind in ARITHMETIC]
        forms = self.forms
        answer.lost_nothing = not adders or (forms is not None and all(place in forms.of_cell for place in adders))

    def _each(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, int, Bits]]:
        width = self.op.format.width
        for task in tasks:
            for place in range(len(task.y) // width):
                yield task, place, task.y[place * width : (place + 1) * width]

    def outputs(self, key: Key) -> list[Output]:
        """Return the outputs of a position with that key."""
        if key not in self._outputs:
            self._outputs[key] = outputs(self.op, self.read, key)
        return self._outputs[key]

    def _shape(self, task: Task, place: int, y: Bits) -> tuple[object, ...]:
        """Return what an output without cells is, but for which element it reads."""
        reads = [int(task.index[read]) for read in self.outputs(task.key)[place].reads]
        places = {-1 - element: number for number, element in enumerate(reads)}
        wires = []
        for bit in y:
            source, number = self.sources.get(bit, (None, bit))
            wires.append((places.get(source, source) if source is not None else None, number))
        return (task.key, place, tuple(element < 0 for element in reads), tuple(wires))

    @cached_property
    def forms(self) -> Forms | None:
        """The forms of the circuit's cells, unless there are too many."""
        if len(self.circuit.cells) * len(self.elements) > FORMS_CELLS:
            return None
        return Forms(self.circuit, self.elements, self.formats)

    @cached_property
    def directions(self) -> dict[int, tuple[bytes, int, Form]]:
        """Place of a cell -> key and factor of its form, and the form; for those that are not constant."""
        found = {}
        for place, form in self.forms.of_cell.items() if self.forms is not None else ():
            towards = direction(form.weights)
            if towards is not None:
                found[place] = (towards.key, towards.factor, form)
        return found

    def _one(self, answer: Answer, number: int, task: Task, place: int, y: Bits, cone: list[int]) -> None:
        output = self.outputs(task.key)[place]
        if isinstance(self.op, Lookup | Softmax) and self._exhausted(answer, number, task, place, y, cone):
            return
        if output.weights is not None and len(output.reads) > 1 and self._by_sum(answer, number, task, place, y):
            answer.proved += 1
            return
        if answer.difference is not None:
            return
        differs, example = self._by_cone(task, place, y, cone)
        if differs is False:
            answer.proved += 1
            answer.engines.add("bitwuzla")
        elif differs:
            answer.difference = self._difference(number, task, place, y, example)
            assert answer.difference is not None, f"{self.circuit.name}: bitwuzla's example is none"
        elif not self._exhausted(answer, number, task, place, y, cone):
            answer.open += 1

    # ------------------------------------------------------------------ samples

    def _samples(self, tasks: Sequence[Task]) -> Codes:
        """Return codes of the elements: zeros, corners, every element alone at its ends, ends of sums, random ones."""
        low = np.array([fmt.min_code for fmt in self.formats], np.int64)
        high = np.array([fmt.max_code for fmt in self.formats], np.int64)
        rng = np.random.default_rng(len(self.formats))
        ends = rng.random((RANDOM_SAMPLES, len(low))) < 0.5
        parts = [
            np.stack([np.zeros_like(low), low, high]),
            rng.integers(low, high, (RANDOM_SAMPLES, len(low)), endpoint=True),
            np.where(ends, low, high),
        ]
        if len(low) <= MOST_SINGLE:
            parts += [np.diag(high), np.diag(low)] if low.any() else [np.diag(high)]
        for task in tasks[:1]:
            for output in self.outputs(task.key):
                if output.weights is not None:
                    most = np.zeros(len(low), bool)
                    most[task.index[list(output.reads)]] = np.array(output.weights, np.int64) > 0
                    parts += [np.stack([np.where(most, high, low), np.where(most, low, high)])]
        return np.concatenate(parts)

    def _run(self, codes: Codes, y: Bits, cone: Sequence[int] | None = None) -> Codes:
        """Return the codes on nets for codes of the elements: int64 (samples, elements) -> (samples, outputs)."""
        read = range(len(self.elements)) if cone is None else self._leaves(y, cone, {})
        given = {}
        for element in read:
            for number, bit in enumerate(self.elements[element]):
                given[bit] = _packed((codes[:, element] >> number) & 1)
        values = simulate(self.circuit, given, len(codes), cone)
        width, signed = self.op.format.width, self.op.format.signed
        out = np.zeros((len(codes), len(y) // width), np.int64)
        for place, bit in enumerate(y):
            weight = -1 << width - 1 if signed and place % width == width - 1 else 1 << place % width
            out[:, place // width] += _unpacked(values[bit], len(codes)) * weight
        return out

    def _expected(self, codes: Codes, task: Task, place: int) -> Codes:
        """Return what one output should be for codes of the elements."""
        padded = np.concatenate([codes, np.full((len(codes), 1), task.fill, np.int64)], axis=1)
        return np.broadcast_to(evaluate(self.op, self.read, task.key, place, padded[:, task.index]), len(codes))

    def _sampled(self, tasks: Sequence[Task]) -> Difference | None:
        codes = self._samples(tasks)
        each = list(self._each(tasks))
        found = self._run(codes, tuple(bit for _, _, y in each for bit in y))
        for number, (task, place, _) in enumerate(each):
            expected = self._expected(codes, task, place)
            difference = _first_difference(number, codes, found[:, number], expected)
            if difference is not None:
                return difference
        return None

    def _difference(
        self, number: int, task: Task, place: int, y: Bits, codes: Codes, cone: Sequence[int] | None = None
    ) -> Difference | None:
        """Return the sample with the fewest non-zero codes that refutes an output, or None."""
        return _first_difference(number, codes, self._run(codes, y, cone)[:, 0], self._expected(codes, task, place))

    # ------------------------------------------------------------------ all codes

    def _exhausted(self, answer: Answer, number: int, task: Task, place: int, y: Bits, cone: list[int]) -> bool:
        """Run an output on all codes that it reads, if they are few; say whether that was done."""
        reads = sorted({int(task.index[read]) for read in self.outputs(task.key)[place].reads} - {-1})
        widths = [self.formats[element].width for element in reads]
        if sum(widths) > EXHAUSTIVE_BITS or not self._leaves(y, cone, {}) <= set(reads):
            return False
        everything = np.arange(1 << sum(widths), dtype=np.int64)
        codes = np.zeros((len(everything), len(self.elements)), np.int64)
        for element, width in zip(reads, widths, strict=True):
            codes[:, element] = self.formats[element].min_code + everything % (1 << width)
            everything >>= width
        answer.difference = self._difference(number, task, place, y, codes, cone)
        answer.exhaustive += 1
        answer.codes = max(answer.codes, len(codes))
        answer.engines.add("all codes run over RTLIL")
        return True

    def _leaves(self, y: Bits, cone: Sequence[int], stops: dict[int, Term]) -> set[int]:
        """Return the elements that some nets and the cells of their cone read, but for those cells in `stops`."""
        nets = set(y)
        for place in cone:
            if place not in stops:
                cell = self.circuit.cells[place]
                nets.update(cell.a, cell.b, cell.s)
        return {-1 - self.sources[net][0] for net in nets if net in self.sources and self.sources[net][0] < 0}

    # ------------------------------------------------------------------ bitwuzla

    def _by_sum(self, answer: Answer, number: int, task: Task, place: int, y: Bits) -> bool:
        """Prove an output from the wires that carry its sum; say whether that was possible and no difference found."""
        output = self.outputs(task.key)[place]
        assert output.weights is not None
        reads = [int(task.index[read]) for read in output.reads]
        if min(reads) < 0:
            return False
        weights = np.zeros(len(self.elements), np.int64)
        for element, weight in zip(reads, output.weights, strict=True):
            weights[element] += weight
        towards = direction(weights)
        if towards is None:
            return False
        solver, factor = Solver(self.deadline), towards.factor
        low, high = self._interval(weights // factor)
        width = max(low, high, -low - 1, -high - 1).bit_length() + 1
        total = solver.variable(width)
        stops: dict[int, Term] = {}
        for cell, (key, multiple, form) in self.directions.items():
            if key == towards.key:
                size = len(self.circuit.cells[cell].y)
                scaled = solver.term("BV_MUL", solver.resized(total, size, True), solver.value(multiple, size))
                stops[cell] = solver.term("BV_ADD", scaled, solver.value(form.constant, size))
        cone = self.circuit.cone(y, stops)
        if self._leaves(y, cone, stops):
            return False
        values = translate(solver, self.circuit, cone, self.sources, stops)
        vectors = Vectors(solver, max(bits_needed(self.op, output), width + factor.bit_length() + 1), [])
        exact = vectors.add(
            vectors.mul(solver.resized(total, vectors.width, True), vectors.const(factor)),
            vectors.const(output.constant),
        )
        within = [
            solver.term("BV_SLE", solver.value(low, width), total),
            solver.term("BV_SLE", total, solver.value(high, width)),
        ]
        differs, found = self._compare(solver, vectors, task, place, y, values, [exact], within, [total])
        answer.engines |= {"affine forms over RTLIL", "bitwuzla"}
        if differs:
            wanted = found[0] - (1 << width) if found[0] >> width - 1 else found[0]
            answer.difference = self._difference(number, task, place, y, self._reaching(weights // factor, wanted))
        return differs is False

    def _interval(self, weights: Codes) -> tuple[int, int]:
        """Return the smallest and the largest weighted sum of the elements."""
        ends = [
            (weight * self.formats[element].min_code, weight * self.formats[element].max_code)
            for element, weight in enumerate(weights.tolist())
            if weight
        ]
        return sum(map(min, ends)), sum(map(max, ends))

    def _reaching(self, weights: Codes, wanted: int) -> Codes:
        """Return codes of the elements whose weighted sum is as close to `wanted` as a greedy choice comes."""
        codes = np.zeros((1, len(weights)), np.int64)
        used = np.flatnonzero(weights)
        for element in used.tolist():
            fmt = self.formats[element]
            codes[0, element] = fmt.min_code if weights[element] > 0 else fmt.max_code
        missing = wanted - self._interval(weights)[0]
        for element in used[np.argsort(-np.abs(weights[used]))].tolist():
            weight = int(weights[element])
            steps = min(missing // abs(weight), self.formats[element].max_code - self.formats[element].min_code)
            codes[0, element] += steps if weight > 0 else -steps
            missing -= steps * abs(weight)
        return codes

    def _by_cone(self, task: Task, place: int, y: Bits, cone: list[int]) -> tuple[bool | None, Codes]:
        """Return whether an output can differ as a function of the elements, None if that stays open; an example."""
        output, solver = self.outputs(task.key)[place], Solver(self.deadline)
        reads = [int(task.index[read]) for read in output.reads]
        used = sorted((self._leaves(y, cone, {}) | set(reads)) - {-1})
        inputs = {-1 - element: solver.variable(self.formats[element].width) for element in used}
        values = translate(solver, self.circuit, cone, self.sources, inputs)
        vectors = Vectors(solver, bits_needed(self.op, output), [])
        codes = [
            vectors.const(task.fill)
            if element < 0
            else solver.resized(inputs[-1 - element], vectors.width, self.formats[element].signed)
            for element in reads
        ]
        if output.weights is not None:
            exact = vectors.const(output.constant)
            for code, weight in zip(codes, output.weights, strict=True):
                exact = vectors.add(exact, vectors.mul(code, vectors.const(weight)))
            codes = [exact]
        wanted = [inputs[-1 - element] for element in used]
        differs, found = self._compare(solver, vectors, task, place, y, values, codes, [], wanted)
        example = np.zeros((1, len(self.elements)), np.int64)
        for element, code in zip(used, found, strict=False):
            fmt = self.formats[element]
            example[0, element] = code - (1 << fmt.width) if code > fmt.max_code else code
        return differs, example

    def _compare(
        self,
        solver: Solver,
        vectors: Vectors,
        task: Task,
        place: int,
        y: Bits,
        values: dict[int, Term],
        codes: Sequence[Term],
        within: Sequence[Term],
        wanted: Sequence[Term],
    ) -> tuple[bool | None, list[int]]:
        """Return whether an output's nets can differ from its definition over `codes`, and an example of `wanted`."""
        expected = result(self.op, self.read, task.key, place, vectors, codes)
        found = joined(solver, y, self.sources, values)
        different = solver.term("DISTINCT", found, solver.resized(expected, len(y), True))
        return solver.solve([*within, *vectors.facts, different], wanted)


def _first_difference(number: int, codes: Codes, found: Codes, expected: Codes) -> Difference | None:
    wrong = np.flatnonzero(found != expected)
    if not len(wrong):
        return None
    at = wrong[np.argmin(np.count_nonzero(codes[wrong], axis=1))]
    return Difference(number, tuple(codes[at].tolist()), int(found[at]), int(expected[at]))


def _packed(bits: NDArray[np.int64]) -> int:
    return int.from_bytes(np.packbits(bits.astype(bool), bitorder="little").tobytes(), "little")


def _unpacked(value: int, samples: int) -> Codes:
    data = np.frombuffer(value.to_bytes(-(-samples // 8), "little"), np.uint8)
    return np.unpackbits(data, count=samples, bitorder="little").astype(np.int64)
