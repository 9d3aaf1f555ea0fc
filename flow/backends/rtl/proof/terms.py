"""Terms of bitwuzla: circuits and definitions as bit vectors, and whether the two can differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from flow.backends.rtl.proof.circuit import REGISTER, SHIFTS, UNDEFINED, Bits, Circuit, Operation, extended, shifted
from flow.backends.rtl.proof.forms import runs
from flow.errors import ToolMissingError
from flow.ir.fixed import Codes

Term = Any
"""A bitwuzla.Term; the package carries no types."""


def bitwuzla_version() -> str:
    """Return the name and version of the installed bitwuzla.

    Raises:
        ToolMissingError: it is not installed.
    """
    try:
        import bitwuzla
    except ImportError as error:
        raise ToolMissingError("bitwuzla is not installed", remedy="pip install 'po2flow[rtl]' brings it") from error
    return f"bitwuzla {bitwuzla.version()}"


class Solver:
    """Makes terms, and decides them until a deadline."""

    def __init__(self, deadline: float) -> None:
        import bitwuzla

        self.deadline = deadline
        self._package: Any = bitwuzla
        self.manager: Any = bitwuzla.TermManager()

    def term(self, kind: str, *args: Term, indices: Sequence[int] = ()) -> Term:
        """Return a term of bitwuzla.Kind `kind`."""
        return self.manager.mk_term(self._package.Kind[kind], list(args), list(indices))

    def value(self, value: int, width: int) -> Term:
        """Return a constant, its two's complement if negative."""
        sort = self.manager.mk_bv_sort(width)
        return self.manager.mk_bv_value(sort, f"{value & ((1 << width) - 1):b}", 2)

    def variable(self, width: int) -> Term:
        """Return a new variable."""
        return self.manager.mk_const(self.manager.mk_bv_sort(width))

    def truth(self, bit: Term) -> Term:
        """Return the truth value of a vector of one bit."""
        return self.term("EQUAL", bit, self.value(1, 1))

    def bit(self, truth: Term) -> Term:
        """Return a truth value as a vector of one bit."""
        return self.term("ITE", truth, self.value(1, 1), self.value(0, 1))

    def slice(self, a: Term, first: int, length: int) -> Term:
        """Return some bits of a vector."""
        return self.term("BV_EXTRACT", a, indices=[first + length - 1, first])

    def resized(self, a: Term, width: int, signed: bool) -> Term:
        """Return a vector cut or extended to another width."""
        now = a.sort().bv_size()
        if width <= now:
            return self.slice(a, 0, width)
        return self.term("BV_SIGN_EXTEND" if signed else "BV_ZERO_EXTEND", a, indices=[width - now])

    def solve(self, facts: Iterable[Term], wanted: Sequence[Term] = ()) -> tuple[bool | None, list[int]]:
        """Return whether all facts can hold at once, None if no answer was found in time; and, if they can, values.

        Args:
            facts: truth values.
            wanted: vectors of which to return an example, as non-negative integers.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            return None, []
        options = self._package.Options()
        options.set(self._package.Option.PRODUCE_MODELS, True)
        options.set(self._package.Option.TIME_LIMIT_PER, max(1, int(1000 * left)))
        solver = self._package.Bitwuzla(self.manager, options)
        for fact in facts:
            solver.assert_formula(fact)
        answer = solver.check_sat()
        if answer == self._package.Result.SAT:
            return True, [int(solver.get_value(vector).value(2), 2) for vector in wanted]
        return (False if answer == self._package.Result.UNSAT else None), []


def _operation(kind: str) -> Callable[..., Term]:
    return lambda self, *operands: self.solver.term(kind, *operands)


@dataclass(slots=True)
class Vectors:
    """The algebra of signed vectors of `width` bits, which must hold every number (`definition.bits_needed`).

    Attributes:
        solver: what makes the terms.
        width: their bits.
        facts: what defines the quotients among them.
    """

    solver: Solver
    width: int
    facts: list[Term]

    add, sub, mul = _operation("BV_ADD"), _operation("BV_SUB"), _operation("BV_MUL")
    less, same, both, either = _operation("BV_SLT"), _operation("EQUAL"), _operation("AND"), _operation("OR")
    choose = _operation("ITE")

    def const(self, value: int) -> Term:
        return self.solver.value(value, self.width)

    def shr(self, a: Term, n: int) -> Term:
        return self.solver.term("BV_ASHR", a, self.const(min(n, self.width - 1)))

    def quotient(self, a: Term, b: Term) -> Term:
        """Return q with 0 <= a - q * b < b: a variable with this fact, in vectors of twice the width."""
        term, double = self.solver.term, 2 * self.width
        quotient = self.solver.variable(self.width)
        wide = [self.solver.resized(vector, double, True) for vector in (a, b, quotient)]
        rest = term("BV_SUB", wide[0], term("BV_MUL", wide[2], wide[1]))
        self.facts += [term("BV_SLE", self.solver.value(0, double), rest), term("BV_SLT", rest, wide[1])]
        return quotient

    def low(self, a: Term, n: int, signed: bool) -> Term:
        return self.solver.resized(self.solver.slice(a, 0, n), self.width, signed)

    def steps(self, a: Term, starts: Codes, values: Codes) -> Term:
        if len(starts) == 1 or (values == values[0]).all():
            return self.const(int(values[0]))
        half = len(starts) // 2
        below = self.less(a, self.const(int(starts[half])))
        return self.choose(
            below, self.steps(a, starts[:half], values[:half]), self.steps(a, starts[half:], values[half:])
        )


def joined(solver: Solver, bits: Bits, sources: Mapping[int, tuple[int, int]], values: Mapping[int, Term]) -> Term:
    """Return nets as one vector.

    Args:
        sources: net -> (source, which bit of it).
        values: source -> its vector.
    """
    parts = [
        solver.value(first, length) if source is None else solver.slice(values[source], first, length)
        for _, source, first, length in runs(bits, sources)
    ]
    return reduce(lambda total, part: solver.term("BV_CONCAT", part, total), parts)


def translate(
    solver: Solver,
    circuit: Circuit,
    cone: Iterable[int],
    sources: Mapping[int, tuple[int, int]],
    given: Mapping[int, Term],
) -> dict[int, Term]:
    """Return the vectors of operations, `given` among them.

    Args:
        cone: places of the operations, in dataflow order.
        sources: net -> (source, which bit of it).
        given: source -> vector, for inputs and for operations that are cut.
    """
    values = dict(given)
    for place in cone:
        if place not in values:
            operation = circuit.operations[place]
            values[place] = TERMS[operation.kind](solver, operation, lambda bits: joined(solver, bits, sources, values))
    return values


Vector = Callable[[Bits], Term]
"""Nets -> their vector."""
ToTerm = Callable[[Solver, Operation, Vector], Term]


def _wires(bits: Callable[[Operation], Bits]) -> ToTerm:
    return lambda solver, operation, vector: vector(bits(operation))


def _choice(solver: Solver, operation: Operation, vector: Vector) -> Term:
    width = len(operation.y)
    chosen = solver.variable(width) if UNDEFINED in operation.a else vector(operation.a)
    for place, s in enumerate(operation.s):
        case = vector(operation.b[place * width : (place + 1) * width])
        chosen = solver.term("ITE", solver.truth(vector((s,))), case, chosen)
    return chosen


def _arithmetic(name: str) -> ToTerm:
    def arithmetic(solver: Solver, operation: Operation, vector: Vector) -> Term:
        width, operands = len(operation.y), [bits for bits in (operation.a, operation.b) if bits]
        return solver.term(name, *(vector(extended(bits, width, operation.signed)) for bits in operands))

    return arithmetic


def _flag(truth: Callable[[Solver, Operation, Vector], Term]) -> ToTerm:
    """Return an operation of one bit, above which its output is zero."""
    return lambda solver, operation, vector: solver.resized(
        solver.bit(truth(solver, operation, vector)), len(operation.y), False
    )


def _comparison(unsigned: str, signed: str) -> ToTerm:
    def compare(solver: Solver, operation: Operation, vector: Vector) -> Term:
        width = max(len(operation.a), len(operation.b))
        a, b = (vector(extended(bits, width, operation.signed)) for bits in (operation.a, operation.b))
        return solver.term(signed if operation.signed else unsigned, a, b)

    return _flag(compare)


def _some(solver: Solver, vector: Term) -> Term:
    return solver.truth(solver.term("BV_REDOR", vector))


def _logic(name: str) -> ToTerm:
    return _flag(
        lambda solver, operation, vector: solver.term(
            name, *(_some(solver, vector(bits)) for bits in (operation.a, operation.b))
        )
    )


TERMS: Mapping[str, ToTerm] = {
    REGISTER: _wires(lambda operation: extended(operation.a, len(operation.y), operation.signed)),
    "$pos": _wires(lambda operation: extended(operation.a, len(operation.y), operation.signed)),
    **dict.fromkeys(SHIFTS, _wires(shifted)),
    **{f"${kind}": _arithmetic(f"BV_{kind.upper()}") for kind in ("not", "and", "or", "xor")},
    **{f"${kind}": _arithmetic(f"BV_{kind.upper()}") for kind in ("add", "sub", "neg", "mul")},
    **dict.fromkeys(("$mux", "$pmux"), _choice),
    **dict.fromkeys(
        ("$reduce_or", "$reduce_bool"), _flag(lambda solver, operation, vector: _some(solver, vector(operation.a)))
    ),
    "$reduce_and": _flag(lambda solver, operation, vector: solver.truth(solver.term("BV_REDAND", vector(operation.a)))),
    "$logic_not": _flag(lambda solver, operation, vector: solver.term("NOT", _some(solver, vector(operation.a)))),
    "$logic_and": _logic("AND"),
    "$logic_or": _logic("OR"),
    "$eq": _comparison("EQUAL", "EQUAL"),
    "$ne": _comparison("DISTINCT", "DISTINCT"),
    **{f"${kind}": _comparison(f"BV_U{kind.upper()}", f"BV_S{kind.upper()}") for kind in ("lt", "le", "ge", "gt")},
}
"""Kind of operation -> its output as a vector."""
