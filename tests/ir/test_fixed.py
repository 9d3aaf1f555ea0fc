"""Fixed point: every rounding and overflow against exact fractions, and against the real ap_fixed.h."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import s, u
from oracle import cast, limit, round_fraction

from flow.errors import DataError, UnsupportedError
from flow.ir.fixed import (
    CODE_BITS,
    Cast,
    FixedFormat,
    Overflow,
    Rounding,
    covering,
    exact_codes,
    overflow_to,
    parse_cpp,
    quantize,
    round_quotient,
    round_shift,
    to_codes,
    to_values,
)
from flow.toolchain import require_tool, run_tool

roundings, overflows = st.sampled_from(Rounding), st.sampled_from(Overflow)


@st.composite
def formats(draw: st.DrawFn, max_width: int = 20) -> FixedFormat:
    signed, width = draw(st.booleans()), draw(st.integers(1, max_width))
    frac_bits = draw(st.integers(-8, 24))
    return FixedFormat(signed, width - signed - frac_bits, frac_bits)


codes_62 = st.lists(st.integers(-(2**61), 2**61) | st.integers(-300, 300), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (Rounding.TRN, [-2, -1, 0, 1]),
        (Rounding.TRN_ZERO, [-1, 0, 0, 1]),
        (Rounding.RND, [-1, 0, 1, 2]),
        (Rounding.RND_ZERO, [-1, 0, 0, 1]),
        (Rounding.RND_MIN_INF, [-2, -1, 0, 1]),
        (Rounding.RND_INF, [-2, -1, 1, 2]),
        (Rounding.RND_CONV, [-2, 0, 0, 2]),
    ],
)
def test_the_table_in_the_docstring(rounding: Rounding, expected: list[int]) -> None:
    assert round_shift(np.array([-3, -1, 1, 3]), 1, rounding).tolist() == expected


@given(codes_62, st.integers(-1, 70), roundings)
def test_round_shift_is_exact(codes: list[int], shift: int, rounding: Rounding) -> None:
    expected = [round_fraction(Fraction(code) / Fraction(2) ** shift, rounding) for code in codes]
    assert round_shift(np.array(codes), shift, rounding).tolist() == expected


@given(codes_62, formats(63), overflows)
def test_overflow_is_exact(codes: list[int], fmt: FixedFormat, overflow: Overflow) -> None:
    assert overflow_to(np.array(codes), fmt, overflow).tolist() == [limit(code, fmt, overflow) for code in codes]


@settings(max_examples=300)
@given(codes_62, st.integers(-20, 30), formats(40), roundings, overflows)
def test_requantize_is_exact(
    codes: list[int], frac_bits: int, fmt: FixedFormat, rounding: Rounding, overflow: Overflow
) -> None:
    step = Fraction(2) ** -frac_bits
    expected = [cast(code * step, fmt, rounding, overflow) for code in codes]
    assert Cast(fmt, rounding, overflow)(np.array(codes), frac_bits).tolist() == expected


@given(codes_62, st.integers(1, 2**61), roundings)
def test_round_quotient_is_exact(codes: list[int], divisor: int, rounding: Rounding) -> None:
    expected = [round_fraction(Fraction(code, divisor), rounding) for code in codes]
    assert round_quotient(np.array(codes), divisor, rounding).tolist() == expected


@settings(max_examples=300)
@given(
    st.lists(st.integers(-(2**20), 2**20) | st.integers(-300, 300), min_size=1, max_size=8),
    st.integers(1, 300),
    st.integers(-8, 12),
    formats(20),
    roundings,
    overflows,
)
def test_requantize_divides_exactly(
    codes: list[int], divisor: int, frac_bits: int, fmt: FixedFormat, rounding: Rounding, overflow: Overflow
) -> None:
    """One rounding of the quotient: never one of the shift and one of the division."""
    step = Fraction(2) ** -frac_bits
    expected = [cast(code * step / divisor, fmt, rounding, overflow) for code in codes]
    assert Cast(fmt, rounding, overflow, divisor)(np.array(codes), frac_bits).tolist() == expected


floats = st.floats(-(2.0**40), 2.0**40) | st.integers(-400, 400).map(lambda n: n / 16) | st.floats(-1e300, 1e300)


@settings(max_examples=300)
@given(st.lists(floats, min_size=1, max_size=8), formats(63), roundings, overflows)
def test_quantize_is_exact(values: list[float], fmt: FixedFormat, rounding: Rounding, overflow: Overflow) -> None:
    array = np.array(values)
    if overflow is Overflow.WRAP:
        array = np.clip(array, -(2.0**49) * fmt.step, 2.0**49 * fmt.step)
    if (np.abs(array) / fmt.step >= 2.0**62).any() and fmt.width == CODE_BITS:
        return  # no int64 beyond the format's end tells the value apart from the end
    expected = [cast(Fraction(value), fmt, rounding, overflow) for value in array.tolist()]
    assert quantize(array, Cast(fmt, rounding, overflow)).tolist() == expected


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=6))
def test_exact_codes_are_the_values_in_the_narrowest_format(values: list[float]) -> None:
    try:
        constant = exact_codes(np.array(values))
    except UnsupportedError:
        fractions = [abs(Fraction(value)) for value in values if value]
        finest = min(Fraction((f.numerator & -f.numerator), f.denominator) for f in fractions)
        assert max(fractions) / finest >= 2 ** (CODE_BITS - 2)
        return
    codes, fmt = constant.codes, constant.format
    step = Fraction(2) ** -fmt.frac_bits
    assert [int(code) * step for code in codes] == [Fraction(value) for value in values]
    assert fmt.min_code <= codes.min() and codes.max() <= fmt.max_code
    if codes.any():
        assert (codes & 1).any(), "a coarser step would do"
        if fmt.width > 1:
            narrower = FixedFormat(fmt.signed, fmt.int_bits - 1, fmt.frac_bits)
            assert codes.min() < narrower.min_code or codes.max() > narrower.max_code


near_powers = st.builds(
    lambda k, sign, by: sign * 2**k + by, st.integers(0, 61), st.sampled_from([-1, 1]), st.integers(-1, 1)
)


@given(st.integers(-(2**62), 2**62 - 1) | near_powers, st.integers(0, 2**40), st.integers(-10, 40))
def test_covering_holds_both_ends_and_no_narrower_format_does(low: int, span: int, frac_bits: int) -> None:
    high = min(low + span, 2**62 - 1)
    fmt = covering(low, high, frac_bits)
    assert fmt.frac_bits == frac_bits and fmt.min_code <= low and high <= fmt.max_code
    if fmt.width > 1:
        narrower = FixedFormat(fmt.signed, fmt.int_bits - 1, frac_bits)
        assert low < narrower.min_code or high > narrower.max_code
    assert fmt.signed == (low < 0)


@given(formats(63), roundings, overflows)
def test_cpp_text_reads_back(fmt: FixedFormat, rounding: Rounding, overflow: Overflow) -> None:
    assert parse_cpp(Cast(fmt, rounding, overflow).cpp) == Cast(fmt, rounding, overflow)
    assert FixedFormat.from_json(fmt.to_json()) == fmt


def test_cpp_forms_of_hls4ml() -> None:
    assert parse_cpp("ap_fixed<9,-2>") == Cast(FixedFormat(True, -3, 11), Rounding.TRN, Overflow.WRAP)
    assert parse_cpp("ap_uint<3>") == Cast(u(3), Rounding.TRN, Overflow.WRAP)
    assert parse_cpp("ap_ufixed<6, 2, AP_RND, AP_SAT>") == Cast(FixedFormat(False, 2, 4), Rounding.RND, Overflow.SAT)
    for text in ("float", "ap_fixed<16>", "ap_fixed<16,6,AP_NEAREST,AP_SAT,0>", "ap_fixed<16,6,AP_RND,AP_SAT,2>"):
        with pytest.raises(ValueError):
            parse_cpp(text)


def test_codes_of_values_off_the_grid_are_refused() -> None:
    fmt = s(4, 1)
    assert to_codes(np.array([-4.0, 3.5, 0.5]), fmt).tolist() == [-8, 7, 1]
    assert to_values(np.array([-8, 7, 1]), fmt).tolist() == [-4.0, 3.5, 0.5]
    for value, message in (
        (0.25, r"1 value is no multiple of the format s4\.1 \(first: .*0\.25"),
        (4.0, "outside the range"),
        (-4.5, "outside the range"),
        (np.nan, "1 value is NaN or infinite"),
        (np.inf, "1 value is NaN or infinite"),
    ):
        with pytest.raises(DataError, match=message):
            to_codes(np.array([0.0, value]), fmt)
    widest = FixedFormat(True, 62, 0)
    with pytest.raises(DataError, match="outside the range"):
        to_codes(np.array([2.0**62]), widest)


def test_what_cannot_be_held_is_refused() -> None:
    for bits in ((True, 63, 0), (False, 0, 0), (True, -3, 2)):
        with pytest.raises(UnsupportedError, match="is outside 1 to 63 bits"):
            FixedFormat(*bits)
    with pytest.raises(UnsupportedError):
        covering(-(2**62) - 1, 0, 0)
    for value in (np.nan, -np.inf):
        with pytest.raises(DataError, match="NaN or infinite"):
            exact_codes(np.array([1.0, value]))
        with pytest.raises(DataError, match="NaN or infinite"):
            quantize(np.array([value]), Cast(s(8), overflow=Overflow.SAT))
    with pytest.raises(DataError, match="too large to wrap"):
        quantize(np.array([2.0**52]), Cast(s(8)))
    with pytest.raises(UnsupportedError, match="values span 63 bits"):
        exact_codes(np.array([2.0**62, 1.0]))


TARGETS = (s(5, 1), s(3), u(4), u(3, 2), FixedFormat(True, -1, 4), FixedFormat(False, 6, -3), s(1), u(1, 1), s(9, 6))
SOURCE = s(9, 4)


def _program() -> str:
    """Return C++ that casts every code of SOURCE to every target by every mode, from fixed point and from double."""
    lines = []
    for fmt, rounding, overflow in product(TARGETS, Rounding, Overflow):
        lines.append(
            f"{{ {fmt.cpp(rounding, overflow)} y = x, z = v; const double step = std::ldexp(1, -({fmt.frac_bits}));"
            ' std::printf("%g %g\\n", y.to_double() / step, z.to_double() / step); }'
        )
    return (
        "#include <cmath>\n#include <cstdio>\n#include <ap_fixed.h>\nint main() {\n"
        f"for (int code = {SOURCE.min_code}; code <= {SOURCE.max_code}; ++code) {{\n"
        f"const double v = std::ldexp(double(code), -{SOURCE.frac_bits}); const {SOURCE.cpp()} x = v;\n"
        + "\n".join(lines)
        + "\n}}\n"
    )


@needs_compiler
def test_the_real_ap_fixed_rounds_and_overflows_so(tmp_path: Path) -> None:
    """All roundings and overflows, ties and both ends included, by the header that csim compiles."""
    spec = find_spec("hls4ml")
    assert spec is not None and spec.origin is not None
    headers = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    (tmp_path / "cast.cpp").write_text(_program())
    run_tool([require_tool("g++"), "-O0", "-std=c++17", "-w", f"-I{headers}", "cast.cpp", "-o", "cast"], tmp_path)
    said = np.array(run_tool([str(tmp_path / "cast")], tmp_path).split(), np.float64).astype(np.int64)
    codes = np.arange(SOURCE.min_code, SOURCE.max_code + 1)
    said = said.reshape(len(codes), -1, 2)
    values = to_values(codes, SOURCE)
    for position, (fmt, rounding, overflow) in enumerate(product(TARGETS, Rounding, Overflow)):
        if fmt == s(1) and overflow is Overflow.SAT_SYM:
            continue  # one signed bit has no symmetric range: the header leaves -1 there
        ours = Cast(fmt, rounding, overflow)(codes, SOURCE.frac_bits)
        assert np.array_equal(ours, said[:, position, 0]), (str(fmt), rounding, overflow)
        from_double = quantize(values, Cast(fmt, rounding, overflow))
        assert np.array_equal(from_double, said[:, position, 1]), (str(fmt), rounding, overflow)
