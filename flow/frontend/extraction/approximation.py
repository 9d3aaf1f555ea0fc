"""Numbers that nothing in a model quantized, rounded on request: those of float layers, and factors of batch norms.

What is rounded so is no longer what the model computes: the graph says which layers they are, and a report how far its
outputs are from the model's. Where codes of a width lie best is tried on samples, layer by layer in dataflow order, as
`flow quantize` does: the weights whose sums are closest to the true ones, then the format that changes outputs least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import SpecError
from flow.frontend.layers import BatchNorm, Layer
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding

Values = NDArray[np.float64]
FINE_BITS = 8
"""Weights that are finer by so many bits stand for the true ones."""
CLIPPED = 4
"""Formats that are tried: what covers the largest number, and with up to so many fraction bits more, which clip it."""
MOST_SAMPLES = 256
FEWEST_BITS, MOST_BITS = 2, 24
WEIGHTS = ("kernel", "depthwise_kernel", "pointwise_kernel", "bias", "slope", "table")
"""Arrays of a layer without quantizers that are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Approximation:
    """What is rounded on request.

    Attributes:
        float_layers: bits of weights and outputs of layers without quantizers; None to leave them exact.
        batchnorm: bits of the factors and offsets of batch normalizations; None to leave them exact.
        samples: inputs to try formats on, (samples, *shape).

    Raises:
        SpecError: bits are outside 2 to 24.
    """

    float_layers: int | None = None
    batchnorm: int | None = None
    samples: Values | None = None

    def __post_init__(self) -> None:
        check_bits("float_layers", self.float_layers)
        check_bits("batchnorm_bits", self.batchnorm)

    def takes(self, layer: Layer[Any]) -> bool:
        """Say whether numbers of a layer are rounded: its weights have no quantizer, or it is a batch normalization."""
        if isinstance(layer.settings, BatchNorm):
            return self.batchnorm is not None
        quantized = any(name != "activation" for name in layer.quantizers)
        return self.float_layers is not None and not quantized and any(key in layer.arrays for key in WEIGHTS)

    def rounded(self, layer: Layer[Any], compute: Callable[[Layer[Any]], Values]) -> Layer[Any]:
        """Return a layer that `takes` says is rounded with the weights whose outputs come closest to the true ones.

        Args:
            layer: the layer.
            compute: what a layer with these arrays gives for the samples.
        """
        if isinstance(layer.settings, BatchNorm):
            assert self.batchnorm is not None
            return _with(layer, {key: on_grid(layer.arrays[key], self.batchnorm) for key in ("scale", "offset")})
        assert self.float_layers is not None
        bits, keys = self.float_layers, [key for key in WEIGHTS if key in layer.arrays]
        true = compute(_with(layer, {key: on_grid(layer.arrays[key], bits + FINE_BITS) for key in keys}))
        tried = []
        for finer in range(CLIPPED + 1):
            made = _with(layer, {key: on_grid(layer.arrays[key], bits, 0 if key == "bias" else finer) for key in keys})
            tried.append((float(np.square(compute(made) - true).sum()), finer, made))
        return min(tried, key=lambda each: each[:2])[-1]


def check_bits(field: str, bits: int | None) -> None:
    """Raise SpecError if what an option rounds to are bits outside 2 to 24."""
    if bits is not None and not FEWEST_BITS <= bits <= MOST_BITS:
        raise SpecError(f"{bits} is outside {FEWEST_BITS} to {MOST_BITS} bits", field=field)


def _with(layer: Layer[Any], arrays: Mapping[str, NDArray[np.float32]]) -> Layer[Any]:
    return replace(layer, arrays={**layer.arrays, **arrays})


def on_grid(values: NDArray[np.floating[Any]], bits: int, finer: int = 0) -> NDArray[np.float32]:
    """Return numbers as codes of `bits` with the sign, of a format that covers them or clips by so many bits."""
    largest = float(np.abs(values).max(initial=0))
    if largest == 0 or not np.isfinite(largest):
        return np.asarray(values, np.float32)
    frac_bits = _most_frac_bits(largest, bits) + finer
    codes = np.clip(
        np.rint(np.ldexp(np.asarray(values, np.float64), frac_bits)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    )
    return np.asarray(np.ldexp(codes, -frac_bits), np.float32)


def _most_frac_bits(largest: float, bits: int) -> int:
    """Return the most fraction bits with which codes of `bits` with the sign hold a number, rounded."""
    frac_bits = bits - 1 - int(np.frexp(largest)[1])
    return frac_bits - int(np.rint(np.ldexp(largest, frac_bits)) >= 2 ** (bits - 1))


def best_cast(values: Values, bits: int) -> Cast:
    """Return the cast to a format of `bits` that changes values least: one that covers them, or clips the largest."""
    signed = bool((values < 0).any())
    largest = float(np.abs(values).max(initial=0)) or 1.0
    coarsest = _most_frac_bits(largest, bits + (not signed))
    casts = [
        Cast(FixedFormat(signed, bits - signed - frac_bits, frac_bits), Rounding.RND, Overflow.SAT)
        for frac_bits in range(coarsest, coarsest + CLIPPED + 1)
    ]
    return min(casts, key=lambda cast: float(np.square(_cast(values, cast) - values).sum()))


def _cast(values: Values, cast: Cast) -> Values:
    fmt = cast.format
    codes = np.clip(np.floor(np.ldexp(values, fmt.frac_bits) + 0.5), fmt.min_code, fmt.max_code)
    return np.asarray(np.ldexp(codes, -fmt.frac_bits))
