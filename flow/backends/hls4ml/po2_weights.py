"""Store power-of-two weights as sign, exponent and zero flag (strategy Resource), to be multiplied by shifting.

The codes are those of `nnet_po2.h`, which goes into the project; hls4ml's own exponent weights have no zero and lose
bits (see docs/numerics.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hls4ml.model.types import NamedType

from flow.ir.fixed import Codes
from flow.ir.graph import IntGraph, MatMul
from flow.ir.po2 import Po2Weights, is_po2, split


class StoredPo2Type(NamedType):  # type: ignore[misc]
    """The type of stored weights, as hls4ml writes it into `defines.h`."""

    def __init__(self, name: str, precision: Any, exponent_bits: int, min_exponent: int) -> None:
        super().__init__(name, precision)
        self.template_arguments = f"{exponent_bits}, {min_exponent}"

    def definition_cpp(self) -> str:
        return f'#include "nnet_utils/nnet_po2.h"\ntypedef nnet::po2_weight<{self.template_arguments}> {self.name};\n'


def is_stored_po2(op: MatMul) -> bool:
    """Say whether a Resource project stores this op's weights as exponents."""
    return is_po2(op.weight.codes)


def stored_codes(weights: Po2Weights) -> Codes:
    """Return {nonzero, negative, exponent} packed as `nnet_po2.h` reads them."""
    flags = weights.nonzero.astype(np.int64) * 2 + (weights.negative & weights.nonzero)
    return (flags << weights.exponent_bits) + weights.exponent


def value_exponent(op: MatMul, weights: Po2Weights) -> int:
    """Return the exponent that stored exponent 0 stands for, in values rather than codes."""
    return weights.min_exponent - op.weight.format.frac_bits


def store_exponents(model: Any, graph: IntGraph) -> None:
    """Replace the power-of-two weights of an hls4ml model, after its passes, by stored exponents."""
    for op in graph.ops:
        if not (isinstance(op, MatMul) and is_stored_po2(op)):
            continue
        layer = model.graph[op.name]
        variable = layer.weights["weight"]
        codes = np.ldexp(variable.data, op.weight.format.frac_bits).astype(np.int64)  # in hls4ml's transposed order
        weights = split(codes)
        stored = StoredPo2Type(
            variable.type.name, variable.type.precision, weights.exponent_bits, value_exponent(op, weights)
        )
        variable.data = stored_codes(weights).astype(np.float64)
        variable.precision_fmt = "{:.0f}"
        variable.type = stored
        layer.attributes["weight_t"] = stored
