"""Circuits run on samples: the value of a net is one integer, whose bit i is the net's in sample i."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence

from flow.backends.rtl.proof.circuit import REGISTER, SHIFTS, UNDEFINED, Bits, Circuit, Operation, extended, shifted
from flow.errors import ToolFailedError

Values = Mapping[int, int]


def simulate(circuit: Circuit, given: Values, samples: int, cone: Iterable[int] | None = None) -> dict[int, int]:
    """Return the value of every net.

    Args:
        circuit: what is run.
        given: the values of the nets that no operation drives.
        samples: how many.
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


def _bitwise(function: Callable[[int, int], int]) -> Run:
    return lambda operation, values, ones: list(map(function, *_operands(operation, values, len(operation.y))))


def _not(operation: Operation, values: Values, ones: int) -> list[int]:
    (a,) = _operands(operation, values, len(operation.y))
    return [ones ^ bit for bit in a]


def _sum(a: Sequence[int], b: Sequence[int], carry: int) -> list[int]:
    out = []
    for p, q in zip(a, b, strict=True):
        half = p ^ q
        out.append(half ^ carry)
        carry = (p & q) | (half & carry)
    return out


def _add(operation: Operation, values: Values, ones: int) -> list[int]:
    a, b = _operands(operation, values, len(operation.y))
    return _sum(a, b, 0)


def _sub(operation: Operation, values: Values, ones: int) -> list[int]:
    a, b = _operands(operation, values, len(operation.y))
    return _sum(a, [ones ^ bit for bit in b], ones)


def _neg(operation: Operation, values: Values, ones: int) -> list[int]:
    return _sum([0] * len(operation.y), _not(operation, values, ones), ones)


def _mul(operation: Operation, values: Values, ones: int) -> list[int]:
    a, b = _operands(operation, values, len(operation.y))
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
    one = 0
    for bit in bits:
        one |= values[bit]
    return one


def _all(bits: Bits, values: Values, ones: int) -> int:
    for bit in bits:
        ones &= values[bit]
    return ones


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
    "$not": _not,
    "$and": _bitwise(operator.and_),
    "$or": _bitwise(operator.or_),
    "$xor": _bitwise(operator.xor),
    "$add": _add,
    "$sub": _sub,
    "$neg": _neg,
    "$mul": _mul,
    "$mux": _mux,
    "$pmux": _pmux,
    "$reduce_or": _flag(lambda operation, values, ones: _any(operation.a, values)),
    "$reduce_bool": _flag(lambda operation, values, ones: _any(operation.a, values)),
    "$reduce_and": _flag(lambda operation, values, ones: _all(operation.a, values, ones)),
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
