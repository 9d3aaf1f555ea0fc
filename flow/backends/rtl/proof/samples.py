"""A claim held against samples: inputs that the circuit and the definition are both run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.backends.rtl.proof.circuit import Bits
from flow.backends.rtl.proof.claims import Claim, Question
from flow.backends.rtl.proof.integers import evaluate
from flow.backends.rtl.proof.running import simulate
from flow.ir.fixed import Codes

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
        claim: the circuit and its op.
        question: which output.
        codes: int64 (samples, elements of the circuit's input).
    """
    given = _run(claim, codes, question.y, claim.circuit.cone(question.y, {}))[:, 0]
    return _first_difference(question, codes, given, _expected(claim, question, codes))


def _run(claim: Claim, codes: Codes, y: Bits, cone: Sequence[int] | None = None) -> Codes:
    """Return the codes on nets.

    Args:
        claim: the circuit and its op.
        codes: int64 (samples, elements of the circuit's input).
        y: nets of outputs, the first code lowest.
        cone: places of the only operations that matter; all if not given.

    Returns:
        int64 (samples, outputs).
    """
    read = range(len(claim.elements)) if cone is None else claim.leaves(y, cone)
    given = {
        bit: _packed((codes[:, element] >> number) & 1)
        for element in read
        for number, bit in enumerate(claim.elements[element])
    }
    values = simulate(claim.circuit, given, len(codes), cone)
    width, signed = claim.op.format.width, claim.op.format.signed
    out = np.zeros((len(codes), len(y) // width), np.int64)
    for place, bit in enumerate(y):
        weight = -1 << width - 1 if signed and place % width == width - 1 else 1 << place % width
        out[:, place // width] += _unpacked(values[bit], len(codes)) * weight
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


def _packed(bits: NDArray[np.int64]) -> int:
    return int.from_bytes(np.packbits(bits.astype(bool), bitorder="little").tobytes(), "little")


def _unpacked(value: int, samples: int) -> Codes:
    data = np.frombuffer(value.to_bytes(-(-samples // 8), "little"), np.uint8)
    return np.unpackbits(data, count=samples, bitorder="little").astype(np.int64)
