"""Power-of-two weights: split and joined without loss, and multiplied by nnet_po2.h as Python multiplies."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_compiler
from hypothesis import given
from hypothesis import strategies as st
from nets import s, u

from flow.backends.hls4ml.extension import stored_codes
from flow.ir.fixed import FixedFormat
from flow.ir.po2 import is_po2, join, split
from flow.toolchain import require_tool, run_tool

po2_codes = st.builds(lambda sign, exponent: sign << exponent, st.sampled_from([-1, 0, 1]), st.integers(0, 61))


@given(st.lists(po2_codes, min_size=1, max_size=20))
def test_split_and_join(codes: list[int]) -> None:
    array = np.array(codes)
    weights = split(array)
    assert join(weights).tolist() == codes
    present = [abs(code).bit_length() - 1 for code in codes if code]
    assert weights.min_exponent == min(present, default=0) and weights.max_exponent == max(present, default=0)
    assert not weights.exponent[~weights.nonzero].any() and (weights.exponent < 1 << weights.exponent_bits).all()
    assert weights.stored_bits == 2 + weights.exponent_bits
    assert (stored_codes(weights) < 1 << weights.stored_bits).all()


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8))
def test_is_po2(codes: list[int]) -> None:
    assert is_po2(np.array(codes)) == all(abs(code).bit_count() <= 1 for code in codes)
    if not is_po2(np.array(codes)):
        with pytest.raises(AssertionError):
            split(np.array(codes))


INPUTS: tuple[FixedFormat, ...] = (s(4, 1), u(4, 2), s(1), u(1), FixedFormat(False, 5, -2), FixedFormat(True, -1, 4))
WEIGHTS = ((1, -3), (2, 0), (3, -9), (3, 2), (4, -15))
"""(bits of the stored exponent, exponent that stored 0 stands for)"""


def _program() -> str:
    """Return C++ that prints, for every input code and stored weight, the product and the fraction bits of its type."""
    loops = []
    for fmt in INPUTS:
        for bits, lowest in WEIGHTS:
            loops.append(
                f"for (int c = {fmt.min_code}; c <= {fmt.max_code}; ++c)\n"
                f"for (unsigned w = 0; w < {1 << (bits + 2)}; ++w) {{\n"
                f"  const {fmt.cpp()} x = std::ldexp(double(c), -({fmt.frac_bits}));\n"
                f"  auto y = x * nnet::po2_weight<{bits}, {lowest}>(w);\n"
                '  std::printf("%.17g\\n", y.to_double()); }'
            )
    return (
        '#include <cmath>\n#include <cstdio>\n#include "nnet_po2.h"\nint main() {\n'
        + "\n".join(loops)
        + "\nreturn 0; }\n"
    )


@needs_compiler
def test_the_header_multiplies_as_python_does(tmp_path: Path) -> None:
    import flow.backends.hls4ml as package

    spec = find_spec("hls4ml")
    assert spec is not None and spec.origin is not None and package.__file__ is not None
    headers = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    (tmp_path / "product.cpp").write_text(_program())
    flags = ["-O0", "-std=c++17", "-w", f"-I{headers}", f"-I{Path(package.__file__).parent}"]
    run_tool([require_tool("g++"), *flags, "product.cpp", "-o", "product"], tmp_path)
    said = [float(text) for text in run_tool([str(tmp_path / "product")], tmp_path).split()]
    expected = [
        code * fmt.step * _weight(stored, bits, lowest)
        for fmt in INPUTS
        for bits, lowest in WEIGHTS
        for code in range(fmt.min_code, fmt.max_code + 1)
        for stored in range(1 << (bits + 2))
    ]
    assert said == expected


def _weight(stored: int, bits: int, lowest: int) -> float:
    nonzero, negative, exponent = stored >> (bits + 1), stored >> bits & 1, stored & (1 << bits) - 1
    return nonzero * (-1.0) ** negative * 2.0 ** (exponent + lowest)
