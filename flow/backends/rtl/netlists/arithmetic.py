"""Pieces of netlists: constant matrix products, casts, divisions.

Constant matrix products are alkaid's: it finds the adders that products of one input vector share (distributed
arithmetic with common subexpressions). Its result is multiplied out here and held against the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from flow.backends.rtl.netlists.netlist import Netlist
from flow.errors import ToolFailedError, ToolMissingError
from flow.ir.fixed import CODE_BITS, Cast, Codes, Overflow, Rounding, reciprocal
from flow.ir.po2 import signed_digits

WEIGHT_BITS = 24
"""alkaid takes matrices of float32; with wider weights its adders are wrong, and found to be here."""

MOST_SEARCHED = 8192
"""Signed digits of a matrix for which alkaid tries each of its decompositions. Of larger ones it takes the first: with
5,184 weights of 10 bits that is five times faster, and 0.3 % more adder bits than the best."""


def product(net: Netlist, x: Sequence[int], matrix: Codes, name: str) -> list[int]:
    """Add `x @ matrix` and return its columns.

    Args:
        x: places of the inputs, one per row.
        matrix: int64 (rows, columns).
        name: the op, for errors.

    Raises:
        ToolMissingError: alkaid is not installed.
        ToolFailedError: alkaid's adders give another matrix.
    """
    if not matrix.any():
        return [net.const(0)] * matrix.shape[1]
    rows, columns = (np.flatnonzero(matrix.any(axis=axis)).tolist() for axis in (1, 0))
    used = matrix[np.ix_(rows, columns)]
    read = [x[row] for row in rows]
    if np.abs(used).max() >= 1 << WEIGHT_BITS:
        sums = [
            reduce(net.add, (times(net, *pair) for pair in zip(read, column, strict=True)), net.const(0))
            for column in used.T.tolist()
        ]
    else:
        sums = _Adders(net, read, used).outputs(name)
    out = [net.const(0)] * matrix.shape[1]
    for column, place in zip(columns, sums, strict=True):
        out[column] = place
    return out


class _Adders:
    """alkaid's adders as nodes. Each of its values is (node << exponent), and a row of numbers: its linear form."""

    def __init__(self, net: Netlist, x: Sequence[int], matrix: Codes) -> None:
        self.net, self.matrix = net, matrix
        self.low = np.array([net.range(place)[0] for place in x], np.int64)
        self.high = np.array([net.range(place)[1] for place in x], np.int64)
        identity = np.eye(len(x), dtype=np.int64)
        self.values = [(place, 0, form) for place, form in zip(x, identity, strict=True)]

    def outputs(self, name: str) -> list[int]:
        try:
            from alkaid.cmvm import cmvm_solve
        except ImportError as error:
            raise ToolMissingError(
                "alkaid is not installed, which optimises constant products", remedy="run: pip install 'po2flow[rtl]'"
            ) from error
        ranges = [(float(low), float(high), 1.0) for low, high in zip(self.low, self.high, strict=True)]
        searched = int(signed_digits(self.matrix).sum()) <= MOST_SEARCHED
        for stage in cmvm_solve(self.matrix.astype(np.float32), qintervals=ranges, search_all_decompose_dc=searched):
            self.values = self._stage(stage)
        out = []
        for column, (place, exponent, form) in zip(self.matrix.T, self.values, strict=True):
            if exponent < 0 or not np.array_equal(form << max(exponent, 0), column):
                raise ToolFailedError("alkaid's adders give another matrix than its weights", op=name)
            out.append(self.net.shl(place, exponent))
        return out

    def _stage(self, stage: object) -> list[tuple[int, int, Codes]]:
        """Return the outputs of one of alkaid's programs over `self.values`."""
        inputs, buffer = self.values, list[tuple[int, int, Codes]]()
        for op in stage.ops:  # type: ignore[attr-defined]
            if op.opcode == -1:
                place, exponent, form = inputs[op.data[0]]
                buffer.append((place, exponent + stage.inp_shifts[op.data[0]], form))  # type: ignore[attr-defined]
            elif op.opcode in (0, 1):
                buffer.append(self._sum(buffer[op.addr[0]], buffer[op.addr[1]], op.data[0], op.opcode == 1))
            else:
                raise ToolFailedError(f"alkaid's program has an operation {op.opcode}, which is not known here")
        zero = (self.net.const(0), 0, np.zeros(len(self.low), np.int64))
        out = []
        for place, shift, negative in zip(stage.out_idxs, stage.out_shifts, stage.out_negs, strict=True):  # type: ignore[attr-defined]
            node, exponent, form = buffer[place] if place >= 0 else zero
            if negative:
                node, exponent, form = self._sum(zero, (node, exponent, form), 0, True)
            out.append((node, exponent + shift, form))
        return out

    def _sum(
        self, a: tuple[int, int, Codes], b: tuple[int, int, Codes], shift: int, minus: bool
    ) -> tuple[int, int, Codes]:
        exponent = min(a[1], b[1] + shift)
        left, right = a[1] - exponent, b[1] + shift - exponent
        form = (a[2] << left) + (-(b[2] << right) if minus else b[2] << right)
        positive, negative = np.maximum(form, 0), np.minimum(form, 0)
        limits = (int(positive @ self.low + negative @ self.high), int(positive @ self.high + negative @ self.low))
        add = self.net.sub if minus else self.net.add
        return add(a[0], b[0], left, right, limits), exponent, form


def cast(net: Netlist, exact: int, frac_bits: int, how: Cast) -> int:
    """Add the cast of a value with `frac_bits` fraction bits, as `flow.ir.fixed.Cast` computes it.

    One shift, one rounding, one clamp; where the shift is to the left nothing is rounded.
    """
    fmt, rounding, overflow = how.format, how.rounding, how.overflow
    halvings = (how.divisor & -how.divisor).bit_length() - 1
    frac_bits, divisor = frac_bits + halvings, how.divisor >> halvings
    raised = fmt.frac_bits - frac_bits
    if divisor != 1:
        rounded = _rounded_quotient(net, net.shl(exact, max(raised, 0)), divisor << max(-raised, 0), rounding)
    elif raised >= 0:
        rounded = net.shl(exact, raised)
    else:
        rounded = round_shift(net, exact, -raised, rounding)
    if overflow is Overflow.WRAP:
        return net.wrap(rounded, fmt.width, fmt.signed)
    if overflow is Overflow.SAT_ZERO:
        outside = net.less(rounded, net.const(fmt.min_code)), net.less(net.const(fmt.max_code), rounded)
        zero = net.const(0)
        inside = net.clamp(rounded, fmt.min_code, fmt.max_code)
        return net.mux(outside[0], zero, net.mux(outside[1], zero, inside))
    return net.clamp(rounded, how.lowest_code, fmt.max_code)


def round_shift(net: Netlist, x: int, n: int, rounding: Rounding) -> int:
    """Add x / 2**n, rounded: at most one addition before the shift, of a constant or of the sign."""
    half, negative = 1 << (n - 1), net.less(x, net.const(0))
    if rounding is Rounding.TRN:
        return net.shr(x, n)
    if rounding is Rounding.TRN_ZERO:
        return net.shr(net.add(x, net.mux(negative, net.const((1 << n) - 1), net.const(0))), n)
    if rounding is Rounding.RND_CONV:
        return net.even(net.add(x, net.const(half)), n)
    if rounding is Rounding.RND_ZERO:
        return net.shr(net.add(net.add(x, net.const(half - 1)), negative), n)
    if rounding is Rounding.RND_INF:
        return net.shr(net.sub(net.add(x, net.const(half)), negative), n)
    return net.shr(net.add(x, net.const(half if rounding is Rounding.RND else half - 1)), n)


def _rounded_quotient(net: Netlist, x: int, divisor: int, rounding: Rounding) -> int:
    """Add x / divisor, rounded to an integer: the floor and what is left decide."""
    floor = floor_quotient(net, x, divisor)
    rest = net.sub(x, times(net, floor, divisor), limits=(0, divisor - 1))
    twice, step, negative = net.shl(rest, 1), net.const(divisor), net.less(x, net.const(0))
    above = net.less(step, net.wrap(twice, divisor.bit_length() + 1, False))
    at_least = net.less(net.const(divisor - 1), twice)
    if rounding is Rounding.TRN:
        return floor
    if rounding is Rounding.TRN_ZERO:
        up = net.both(negative, net.less(net.const(0), rest))
    elif rounding is Rounding.RND:
        up = at_least
    elif rounding is Rounding.RND_MIN_INF:
        up = above
    else:
        prefers_up = {
            Rounding.RND_INF: net.sub(net.const(1), negative),
            Rounding.RND_ZERO: negative,
            Rounding.RND_CONV: net.any(floor, 1),
        }[rounding]
        up = net.mux(prefers_up, at_least, above)
    return net.add(floor, up)


def floor_quotient(net: Netlist, x: int, divisor: int) -> int:
    """Add x // divisor: a multiplication by a reciprocal, with as many bits as make it exact for the range of x."""
    if divisor & (divisor - 1) == 0:
        return net.shr(x, divisor.bit_length() - 1)
    offset, factor, shift = reciprocal(*net.range(x), divisor)
    twos = (divisor & -divisor).bit_length() - 1
    if twos and (max(map(abs, net.range(x))) + offset * divisor).bit_length() + factor.bit_length() >= CODE_BITS:
        return floor_quotient(net, net.shr(x, twos), divisor >> twos)  # a shorter product
    positive = net.add(x, net.const(offset * divisor))
    return net.sub(net.shr(times(net, positive, factor), shift), net.const(offset))


def times(net: Netlist, x: int, factor: int) -> int:
    """Add x * factor for a constant: one addition or subtraction per further non-zero signed digit."""
    digits, rest, place = [], abs(factor), 0
    while rest:
        if rest & 1:
            digit = 2 - (rest & 3)
            digits.append((digit, place))
            rest -= digit
        rest, place = rest >> 1, place + 1
    total, low, high = net.const(0), *net.range(x)
    value = 0
    for digit, shift in reversed(digits):
        value += digit << shift
        least, most = sorted((low * value, high * value))
        total = (net.add if digit > 0 else net.sub)(total, x, 0, shift, (least, most))
    return total if factor >= 0 else net.sub(net.const(0), total)


def divide(net: Netlist, x: int, divisor: int, bits: int) -> int:
    """Add x // divisor for non-negative x and positive `divisor`, where the quotient has `bits` bits: long division."""
    rest, quotient = x, net.const(0)
    for bit in range(bits - 1, -1, -1):
        trial = net.shl(divisor, bit)
        fits = net.sub(net.const(1), net.less(rest, trial))
        rest = net.mux(fits, net.wrap(net.sub(rest, trial), net.nodes[rest].width, False), rest)
        quotient = net.add(quotient, fits, 0, bit)
    return quotient
