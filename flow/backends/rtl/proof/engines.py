"""Whether a circuit computes what its op is, for all inputs: four engines, tried in order on each output code.

- `by_sum` follows the operations as affine forms (`forms`). A wire whose form is the sum of the definition, times and
  plus constants, is cut: what follows - rounding, clamp, everything that is no sum - reads one number of known range,
  and is compared by bitwuzla for every such number.
- `by_counting` follows sums of single bits through tables of six inputs (`counting`).
- `by_cone` lets bitwuzla compare all that the output depends on; an op that is no sum starts here.
- `by_running` runs the output on all codes, if it reads at most `EXHAUSTIVE_BITS` bits; tables start here.

Before that all are run on some samples, which finds what is grossly wrong, and with an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow.backends.rtl.proof.claims import Claim, Question, interval
from flow.backends.rtl.proof.counting import counts
from flow.backends.rtl.proof.definition import bits_needed, result
from flow.backends.rtl.proof.forms import direction
from flow.backends.rtl.proof.samples import Difference, difference_on, sampled
from flow.backends.rtl.proof.terms import Solver, Term, Vectors, joined, translate
from flow.ir.fixed import Codes
from flow.ir.graph import Lookup, Merge, Softmax, TruthTable, nested

EXHAUSTIVE_BITS = 16
MULTIPLIED_BITS = 48
"""A row of a scan that multiplies what it computes, and reads more bits, is not given to bitwuzla: it found no answer
in a minute for any LSTM or GRU that was tried."""
COUNTING = "sums of tables over RTLIL"
FORMS, BITWUZLA, RUN = "affine forms over RTLIL", "bitwuzla", "all codes run over RTLIL"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an engine says of one output.

    Attributes:
        decided: whether it holds or is refuted; if not, the next engine is asked.
        means: what was used.
        codes: the number of inputs that were run, if all were.
        difference: what refutes it.
    """

    decided: bool
    means: tuple[str, ...] = ()
    codes: int = 0
    difference: Difference | None = None


OPEN = Outcome(decided=False)


@dataclass(slots=True)
class Answer:
    """What was shown of a circuit.

    Attributes:
        proved, exhaustive, open: how many outputs.
        codes: the most input codes that an output was run on.
        means: what was used.
        left: whether it was left to simulation without being asked.
        lost_nothing: whether every adder and multiplier has a form that its wire holds.
        difference: what refutes it; the rest says nothing then.
    """

    proved: int = 0
    exhaustive: int = 0
    open: int = 0
    codes: int = 0
    means: set[str] = field(default_factory=set)
    left: bool = False
    lost_nothing: bool = True
    difference: Difference | None = None


def prove_claim(claim: Claim, deadline: float) -> Answer:
    """Return what could be shown of all outputs of a circuit.

    Args:
        deadline: until when a solver may be asked, as of time.monotonic().

    Raises:
        ToolFailedError: a wire that is read has no driver, or a driver that is not known here.
    """
    claim.check_driven()
    answer = Answer()
    if claim.circuit.operations:
        answer.difference = sampled(claim)
    answer.left = answer.difference is None and _multiplies(claim)
    answer.open += answer.left
    shown = set[tuple[object, ...]]()
    for question in claim.questions():
        if answer.difference is not None or answer.open:
            break
        shape = claim.shape(question)
        if shape in shown:
            answer.proved += 1
            continue
        if shape is not None:
            shown.add(shape)
        _ask(claim, question, deadline, answer)
    if claim.circuit.operations:
        answer.lost_nothing = claim.loses_nothing
    return answer


def _multiplies(claim: Claim) -> bool:
    """Say whether a claim is of a row that multiplies, and too wide for a solver."""
    products = any(isinstance(op, Merge) and op.function == "multiply" for op in nested(claim.op)[1:])
    return products and sum(fmt.width for fmt in claim.formats) > MULTIPLIED_BITS


def _ask(claim: Claim, question: Question, deadline: float, answer: Answer) -> None:
    """Ask one engine after the other, and add what they say."""
    tables_first = isinstance(claim.op, Lookup | TruthTable | Softmax)
    engines: tuple[Callable[[Claim, Question, float], Outcome], ...] = (by_sum, by_counting, by_cone, by_running)
    for engine in (by_running, by_sum, by_cone) if tables_first else engines:
        finding = engine(claim, question, deadline)
        answer.means.update(finding.means)
        if finding.decided:
            answer.difference = finding.difference
            answer.codes = max(answer.codes, finding.codes)
            answer.exhaustive += bool(finding.codes)
            answer.proved += not finding.codes
            return
    answer.open += 1


def by_running(claim: Claim, question: Question, deadline: float) -> Outcome:
    """Run an output on all codes that it reads, if they are few."""
    reads = sorted(set(question.reads) - {-1})
    widths = [claim.formats[element].width for element in reads]
    if sum(widths) > EXHAUSTIVE_BITS:
        return OPEN
    if not claim.leaves(question.y, claim.circuit.cone(question.y, {})) <= set(reads):
        return OPEN
    everything = np.arange(1 << sum(widths), dtype=np.int64)
    codes = np.zeros((len(everything), len(claim.elements)), np.int64)
    for element, width in zip(reads, widths, strict=True):
        codes[:, element] = claim.formats[element].min_code + everything % (1 << width)
        everything >>= width
    return Outcome(True, (RUN,), len(codes), difference_on(claim, question, codes))


def by_counting(claim: Claim, question: Question, deadline: float) -> Outcome:
    """Follow a sum from the output back through tables that count; what is wrong is left to the next engine."""
    return Outcome(True, (COUNTING,)) if counts(claim, question) else OPEN


def by_cone(claim: Claim, question: Question, deadline: float) -> Outcome:
    """Compare an output with its definition as functions of the elements."""
    output, solver = question.output, Solver(deadline)
    cone = claim.circuit.cone(question.y, {})
    used = sorted((claim.leaves(question.y, cone) | set(question.reads)) - {-1})
    inputs = {-1 - element: solver.variable(claim.formats[element].width) for element in used}
    values = translate(solver, claim.circuit, cone, claim.sources, inputs)
    vectors = Vectors(solver, bits_needed(claim.op, output), [])
    codes = [
        vectors.const(question.task.fill)
        if element < 0
        else solver.resized(inputs[-1 - element], vectors.width, claim.formats[element].signed)
        for element in question.reads
    ]
    if output.weights is not None:
        exact = vectors.const(output.constant)
        for code, weight in zip(codes, output.weights, strict=True):
            exact = vectors.add(exact, vectors.mul(code, vectors.const(weight)))
        codes = [exact]
    differ = _differ(claim, question, vectors, codes, values)
    differs, example = solver.solve([*vectors.facts, differ], list(inputs.values()))
    if differs is None:
        return OPEN
    if not differs:
        return Outcome(True, (BITWUZLA,))
    sample = np.zeros((1, len(claim.elements)), np.int64)
    for element, code in zip(used, example, strict=True):
        fmt = claim.formats[element]
        sample[0, element] = code - (1 << fmt.width) if code > fmt.max_code else code
    difference = difference_on(claim, question, sample)
    assert difference is not None, f"{claim.circuit.name}: bitwuzla's example is none"
    return Outcome(True, difference=difference)


def by_sum(claim: Claim, question: Question, deadline: float) -> Outcome:
    """Compare an output with its definition as functions of its weighted sum, from the wires that carry this sum."""
    output = question.output
    if output.weights is None or len(output.reads) < 2 or min(question.reads) < 0:
        return OPEN
    weights = np.zeros(len(claim.elements), np.int64)
    for element, weight in zip(question.reads, output.weights, strict=True):
        weights[element] += weight
    towards = direction(weights)
    if towards is None:
        return OPEN
    solver, (direct, factor) = Solver(deadline), towards
    low, high = interval(weights // factor, claim.formats)
    width = max(low, high, -low - 1, -high - 1).bit_length() + 1
    total = solver.variable(width)
    stops: dict[int, Term] = {}
    for place, (key, multiple, form) in claim.directions.items():
        if key == direct:
            size = len(claim.circuit.operations[place].y)
            scaled = solver.term("BV_MUL", solver.resized(total, size, True), solver.value(multiple, size))
            stops[place] = solver.term("BV_ADD", scaled, solver.value(form.constant, size))
    cone = claim.circuit.cone(question.y, stops)
    if claim.leaves(question.y, (place for place in cone if place not in stops)):
        return OPEN
    vectors = Vectors(solver, max(bits_needed(claim.op, output), width + factor.bit_length() + 1), [])
    scaled = vectors.mul(solver.resized(total, vectors.width, True), vectors.const(factor))
    exact = vectors.add(scaled, vectors.const(output.constant))
    within = [
        solver.term("BV_SLE", solver.value(low, width), total),
        solver.term("BV_SLE", total, solver.value(high, width)),
    ]
    values = translate(solver, claim.circuit, cone, claim.sources, stops)
    differ = _differ(claim, question, vectors, [exact], values)
    differs, example = solver.solve([*within, *vectors.facts, differ], [total])
    difference = None
    if differs:
        wanted = example[0] - (1 << width) if example[0] >> width - 1 else example[0]
        difference = difference_on(claim, question, _reaching(claim, weights // factor, wanted))
    return Outcome(differs is False or difference is not None, (FORMS, BITWUZLA), 0, difference)


def _differ(claim: Claim, question: Question, vectors: Vectors, codes: Sequence[Term], values: dict[int, Term]) -> Term:
    """Return whether an output differs from its definition, computed of `codes` in `vectors`, as a term."""
    expected = result(claim.op, question.output, vectors, codes)
    given = joined(vectors.solver, question.y, claim.sources, values)
    return vectors.solver.term("DISTINCT", given, vectors.solver.resized(expected, len(question.y), True))


def _reaching(claim: Claim, weights: Codes, wanted: int) -> Codes:
    """Return codes of the elements whose weighted sum is as close to `wanted` as a greedy choice comes."""
    codes = np.zeros((1, len(weights)), np.int64)
    used = np.flatnonzero(weights)
    for element in used.tolist():
        fmt = claim.formats[element]
        codes[0, element] = fmt.min_code if weights[element] > 0 else fmt.max_code
    missing = wanted - interval(weights, claim.formats)[0]
    for element in used[np.argsort(-np.abs(weights[used]))].tolist():
        weight, fmt = int(weights[element]), claim.formats[element]
        steps = min(missing // abs(weight), fmt.max_code - fmt.min_code)
        codes[0, element] += steps if weight > 0 else -steps
        missing -= steps * abs(weight)
    return codes
