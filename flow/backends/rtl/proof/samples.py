"""A claim held against samples: inputs that the circuit and the definition are both run on.

A circuit is run on all samples at once: the value of a net is one integer, whose bit i is the net's in sample i.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from flow.backends.rtl.proof.algebra import Integers
from flow.backends.rtl.proof.circuit import REGISTER, SHIFTS, UNDEFINED, Bits, Circuit, Operation, extended, shifted
from flow.backends.rtl.proof.claims import Claim, Question
from flow.backends.rtl.proof.definition import Output, bits_needed, result
from flow.errors import ToolFailedError
from flow.ir.fixed import Codes
from flow.ir.graph import Op

Values = Mapping[int, int]
"""Net -> its bits in all samples."""
RANDOM_SAMPLES = 256
MOST_SINGLE = 2048
"""With more inputs than that, no sample is made for each."""


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


def sampled(claim: Claim) -> Difference | None:
    """Return what some samples show to be wrong in the first output that is; it finds what is grossly wrong."""
    codes, questions = _samples(claim), list(claim.questions())
    given = _run(claim, codes, tuple(bit for question in questions for bit in question.y))
    for question in questions:
        expected = _expected(claim, question, codes)
        difference = _first_difference(question, codes, given[:, question.number], expected)
        if difference is not None:
            return difference
    return None


def difference_on(claim: Claim, question: Question, codes: Codes) -> Difference | None:
    """Return the sample with the fewest non-zero codes that refutes an output, or None.

    Args:
        codes: int64 (samples, elements of the circuit's input).
    """
    given = _run(claim, codes, question.y, claim.circuit.cone(question.y, {}))[:, 0]
    return _first_difference(question, codes, given, _expected(claim, question, codes))


def _run(claim: Claim, codes: Codes, y: Bits, cone: Sequence[int] | None = None) -> Codes:
    """Return the codes on nets of outputs, int64 (samples, outputs), for codes of the elements, int64 (samples, n)."""
    read = range(len(claim.elements)) if cone is None else claim.leaves(y, cone)
    given = {
        bit: int.from_bytes(np.packbits((codes[:, element] >> number) & 1, bitorder="little").tobytes(), "little")
        for element in read
        for number, bit in enumerate(claim.elements[element])
    }
    values = simulate(claim.circuit, given, len(codes), cone)
    width, signed = claim.op.format.width, claim.op.format.signed
    out = np.zeros((len(codes), len(y) // width), np.int64)
    for place, bit in enumerate(y):
        weight = -1 << width - 1 if signed and place % width == width - 1 else 1 << place % width
        packed = np.frombuffer(values[bit].to_bytes(-(-len(codes) // 8), "little"), np.uint8)
        out[:, place // width] += np.unpackbits(packed, count=len(codes), bitorder="little").astype(np.int64) * weight
    return out


def _expected(claim: Claim, question: Question, codes: Codes) -> Codes:
    """Return what one output should be for codes of the elements."""
    task = question.task
    padded = np.concatenate([codes, np.full((len(codes), 1), task.fill, np.int64)], axis=1)
    expected = evaluate(claim.op, question.output, padded[:, task.index])
    return np.broadcast_to(expected, len(codes))


def _samples(claim: Claim) -> Codes:
    """Return codes of the elements: zeros, corners, every element alone at its ends, ends of sums, random ones."""
    low = np.array([fmt.min_code for fmt in claim.formats], np.int64)
    high = np.array([fmt.max_code for fmt in claim.formats], np.int64)
    rng = np.random.default_rng(len(claim.formats))
    ends = rng.random((RANDOM_SAMPLES, len(low))) < 0.5
    parts = [
        np.stack([np.zeros_like(low), low, high]),
        rng.integers(low, high, (RANDOM_SAMPLES, len(low)), endpoint=True),
        np.where(ends, low, high),
    ]
    if len(low) <= MOST_SINGLE:
        parts += [np.diag(high), np.diag(low)] if low.any() else [np.diag(high)]
    for task in claim.tasks[:1]:
        for output in claim.outputs(task.key):
            if output.weights is not None:
                most = np.zeros(len(low), bool)
                most[task.index[list(output.reads)]] = np.array(output.weights, np.int64) > 0
                parts += [np.stack([np.where(most, high, low), np.where(most, low, high)])]
    return np.concatenate(parts)


def _first_difference(question: Question, codes: Codes, given: Codes, expected: Codes) -> Difference | None:
    wrong = np.flatnonzero(given != expected)
    if not len(wrong):
        return None
    at = wrong[np.argmin(np.count_nonzero(codes[wrong], axis=1))]
    return Difference(question.number, tuple(codes[at].tolist()), int(given[at]), int(expected[at]))


def evaluate(op: Op, output: Output, inputs: Codes) -> Codes:
    """Return one output's codes for samples of its position: int64 (samples, inputs) -> (samples,)."""
    algebra = Integers(bits_needed(op, output))
    values: list[Codes] = [inputs[:, read].astype(algebra.dtype) for read in output.reads]
    if output.weights is not None:
        total: Codes = np.full(len(inputs), output.constant, algebra.dtype)
        for value, weight in zip(values, output.weights, strict=True):
            total = total + value * algebra.const(weight)
        values = [total]
    return np.asarray(result(op, output, algebra, values)).astype(np.int64)


# ---------------------------------------------------------------------- a circuit run on samples


def simulate(circuit: Circuit, given: Values, samples: int, cone: Iterable[int] | None = None) -> dict[int, int]:
    """Return the value of every net.

    Args:
        given: the values of the nets that no operation drives.
        cone: places of the only operations that matter, in dataflow order; all if not given.
    """
    ones = (1 << samples) - 1
    values = {0: 0, 1: ones, **given}
    for place in range(len(circuit.operations)) if cone is None else cone:
        operation = circuit.operations[place]
        values.update(zip(operation.y, RUN[operation.kind](operation, values, ones), strict=True))
    return values


def _operands(operation: Operation, values: Values, width: int) -> list[list[int]]:
    """Return the bits of the operands, each extended to a width."""
    operands = (bits for bits in (operation.a, operation.b) if bits)
    return [[values[bit] for bit in extended(bits, width, operation.signed)] for bits in operands]


def _wires(bits: Callable[[Operation], Bits]) -> Run:
    return lambda operation, values, ones: [values[bit] for bit in bits(operation)]


def _arithmetic(function: Callable[..., list[int]]) -> Run:
    """Return what computes the output of the operands, extended to its width, and of `ones`."""
    return lambda operation, values, ones: function(*_operands(operation, values, len(operation.y)), ones)


def _sum(a: Sequence[int], b: Sequence[int], carry: int) -> list[int]:
    out = []
    for p, q in zip(a, b, strict=True):
        half = p ^ q
        out.append(half ^ carry)
        carry = (p & q) | (half & carry)
    return out


def _product(a: Sequence[int], b: Sequence[int]) -> list[int]:
    total = [0] * len(a)
    for place, bit in enumerate(b):
        total = _sum(total, [0] * place + [bit & other for other in a[: len(a) - place]], 0)
    return total


def _mux(operation: Operation, values: Values, ones: int) -> list[int]:
    (s,) = (values[bit] for bit in operation.s)
    return [(values[a] & ~s) | (values[b] & s) for a, b in zip(operation.a, operation.b, strict=True)]


def _pmux(operation: Operation, values: Values, ones: int) -> list[int]:
    """Return `a`, or the part of `b` whose bit of `s` is high (never more than one, as in a case)."""
    width, rest = len(operation.y), ones
    out = [0] * width
    for place, bit in enumerate(operation.s):
        s = values[bit]
        rest &= ~s
        for i, b in enumerate(operation.b[place * width : (place + 1) * width]):
            out[i] |= s & values[b]
    if rest and UNDEFINED in operation.a:
        raise ToolFailedError("a case without a default has inputs that no item names")
    return [chosen | (rest & values.get(a, 0)) for chosen, a in zip(out, operation.a, strict=True)]


def _flag(function: Callable[[Operation, Values, int], int]) -> Run:
    """Return an operation of one bit, above which its output is zero."""
    return lambda operation, values, ones: [function(operation, values, ones)] + [0] * (len(operation.y) - 1)


def _any(bits: Bits, values: Values) -> int:
    return reduce(operator.or_, (values[bit] for bit in bits), 0)


def _order(operation: Operation, values: Values, ones: int) -> tuple[int, int]:
    """Return where a < b, and where a == b."""
    different, less = 0, 0
    pairs = list(zip(*_operands(operation, values, max(len(operation.a), len(operation.b))), strict=True))
    for place, (p, q) in enumerate(pairs):
        sign = operation.signed and place == len(pairs) - 1
        below = (p & ~q) if sign else (~p & q)
        less = (below | (less & ~(p ^ q))) & ones
        different |= p ^ q
    return less, ones ^ different


def _comparison(function: Callable[[int, int], int], inverted: bool = False) -> Run:
    def compare(operation: Operation, values: Values, ones: int) -> int:
        return function(*_order(operation, values, ones)) ^ (ones if inverted else 0)

    return _flag(compare)


Run = Callable[[Operation, Values, int], list[int]]
RUN: Mapping[str, Run] = {
    REGISTER: _wires(lambda operation: operation.a),
    "$pos": _wires(lambda operation: extended(operation.a, len(operation.y), operation.signed)),
    **dict.fromkeys(SHIFTS, _wires(shifted)),
    "$not": _arithmetic(lambda a, ones: [ones ^ bit for bit in a]),
    "$and": _arithmetic(lambda a, b, ones: list(map(operator.and_, a, b))),
    "$or": _arithmetic(lambda a, b, ones: list(map(operator.or_, a, b))),
    "$xor": _arithmetic(lambda a, b, ones: list(map(operator.xor, a, b))),
    "$add": _arithmetic(lambda a, b, ones: _sum(a, b, 0)),
    "$sub": _arithmetic(lambda a, b, ones: _sum(a, [ones ^ bit for bit in b], ones)),
    "$neg": _arithmetic(lambda a, ones: _sum([0] * len(a), [ones ^ bit for bit in a], ones)),
    "$mul": _arithmetic(lambda a, b, ones: _product(a, b)),
    "$mux": _mux,
    "$pmux": _pmux,
    **dict.fromkeys(("$reduce_or", "$reduce_bool"), _flag(lambda operation, values, ones: _any(operation.a, values))),
    "$reduce_and": _flag(lambda operation, values, ones: reduce(operator.and_, (values[a] for a in operation.a), ones)),
    "$logic_not": _flag(lambda operation, values, ones: ones ^ _any(operation.a, values)),
    "$logic_and": _flag(lambda operation, values, ones: _any(operation.a, values) & _any(operation.b, values)),
    "$logic_or": _flag(lambda operation, values, ones: _any(operation.a + operation.b, values)),
    "$eq": _comparison(lambda less, equal: equal),
    "$ne": _comparison(lambda less, equal: equal, inverted=True),
    "$lt": _comparison(lambda less, equal: less),
    "$le": _comparison(lambda less, equal: less | equal),
    "$ge": _comparison(lambda less, equal: less, inverted=True),
    "$gt": _comparison(lambda less, equal: less | equal, inverted=True),
}
"""Kind of operation -> the values of its output's nets, for those of all nets before; `ones` is high in all samples."""
