"""QKeras quantizers that hold what hardware holds: powers of two with a zero, sums of a few, a fixed-point grid.

All return their grid values bit for bit (a custom gradient instead of `x + stop_gradient(xq - x)`, whose two float32
roundings need not give back `xq`), pass the gradient straight through, and leave their own outputs as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np

from flow.errors import SpecError
from flow.train import load_tensorflow

qkeras: Any
tf, _, qkeras = load_tensorflow()

_EXPONENT_BIAS, _MANTISSA_BITS = 127, 23  # IEEE 754 binary32
MOST_TERMS, MOST_SPAN = (2, 3), 20
"""Fewest and most terms of additive powers of two; how far their exponents are apart at most: float32 holds the middle
between two sums, too."""
_SQRT2_MANTISSA = 0x3504F3  # of float32(sqrt(2)), which lies just below sqrt(2): no tie can arise


class quantized_po2_zero(qkeras.quantized_po2):  # type: ignore[misc]  # noqa: N801 - QKeras' naming
    """Quantize to the nearest power of two on a log scale, or to exact zero.

    As QKeras' `quantized_po2`, which has no zero: there `|x| < 2**min_exp` becomes `2**min_exp` and 0 becomes
    `+2**min_exp`, so a pruned weight comes back. Here `|x| < 2**(min_exp - 1/2)` becomes exactly 0, which is a code of
    its own. The exponent is read from the bits of the float, so it is the same on every machine.

    Args:
        bits: bits of sign and exponent as QKeras counts them; sets the exponent range unless that is given.
        max_value: as in `quantized_po2`: the largest magnitude, rounded to a power of two.
        min_exp: smallest exponent; overrides the one that `bits` gives.
        max_exp: largest exponent; overrides the one that `bits` and `max_value` give.

    Raises:
        SpecError: the exponent range is empty or outside float32's.

    Example:
        >>> [float(v) for v in quantized_po2_zero(4, 1)([0.7, -0.3, 0.005, 0.0])]
        [0.5, -0.25, 0.0, 0.0]
    """

    _min_exp: int
    _max_exp: int

    def __init__(
        self, bits: int = 4, max_value: float | None = None, min_exp: int | None = None, max_exp: int | None = None
    ) -> None:
        super().__init__(bits=bits, max_value=max_value)
        if max_value is not None:
            self._max_exp = min(self._max_exp, int(_nearest_exponent(tf.constant(max_value, tf.float32))))
        self.min_exp = int(self._min_exp if min_exp is None else min_exp)
        self.max_exp = int(self._max_exp if max_exp is None else max_exp)
        self._min_exp, self._max_exp = self.min_exp, self.max_exp
        if not 1 - _EXPONENT_BIAS <= self.min_exp <= self.max_exp <= _EXPONENT_BIAS:
            raise SpecError(
                f"exponents {self.min_exp}..{self.max_exp} are not within -126..127", field="quantized_po2_zero"
            )

    def __call__(self, x: Any) -> Any:
        return _straight_through(self._quantize)(tf.convert_to_tensor(x, tf.float32))

    def _quantize(self, x: Any) -> Any:
        exponent = _nearest_exponent(x)
        kept = tf.clip_by_value(exponent, self.min_exp, self.max_exp)
        magnitude = tf.bitcast(tf.bitwise.left_shift(kept + _EXPONENT_BIAS, _MANTISSA_BITS), tf.float32)
        return tf.where(exponent < self.min_exp, tf.zeros_like(x), tf.sign(x) * magnitude)

    def max(self) -> float:
        """Return the largest magnitude."""
        return float(2.0**self.max_exp)

    def min(self) -> float:
        """Return the smallest value."""
        return -self.max()

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        return {"bits": self.bits, "max_value": self.max_value, "min_exp": self.min_exp, "max_exp": self.max_exp}

    def __str__(self) -> str:
        return f"quantized_po2_zero({self.bits},min_exp={self.min_exp},max_exp={self.max_exp})"


class quantized_bits(qkeras.quantized_bits):  # type: ignore[misc]  # noqa: N801 - QKeras' naming
    """QKeras' own with what its master has: a `post_training_scale`, which stands for the scale of the data."""

    def __init__(self, *given: Any, post_training_scale: Any = None, **more: Any) -> None:
        super().__init__(*given, **more)
        self.post_training_scale = post_training_scale

    def __call__(self, x: Any) -> Any:
        if self.post_training_scale is None:
            return super().__call__(x)
        x, scale = tf.cast(x, tf.float32), tf.constant(self.post_training_scale, tf.float32)
        unit, steps = 2.0**self.integer, 2.0 ** (self.bits - self.keep_negative)
        most = 2.0 ** (self.bits - 1) - 1
        count = tf.minimum(tf.floor(tf.abs(x / unit) / (scale / steps) + 0.5), most)
        quantized = scale * (unit * (tf.sign(x) * count) / steps)
        return x + tf.stop_gradient(quantized - x)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        frozen = {} if self.post_training_scale is None else {"post_training_scale": self.post_training_scale}
        return {**super().get_config(), **frozen}


class quantized_apot(qkeras.BaseQuantizer):  # type: ignore[misc]  # noqa: N801 - QKeras' naming
    """Round to the nearest sum of a few powers of two: additive powers of two, of which zero is one.

    Each weight takes an adder for each term behind its first. The idea is that of APoT (Li et al., Additive
    Powers-of-Two Quantization, ICLR 2020, arXiv 1909.13144), where each term has exponents of its own. Here the terms
    are any different exponents of one range, each added or subtracted, which is what a constant multiplier has. Of two
    values equally near the one closer to zero is taken.

    Args:
        terms: powers of two in a sum, at most.
        min_exp: smallest exponent.
        max_exp: largest exponent.

    Raises:
        SpecError: the number of terms or the range of exponents is none that float32 holds exactly.

    Example:
        >>> [float(v) for v in quantized_apot(2, -3, 0)([0.7, -0.3, 0.05, 1.9])]
        [0.75, -0.25, 0.0, 1.5]
    """

    def __init__(self, terms: int = 2, min_exp: int = -6, max_exp: int = 0) -> None:
        super().__init__()
        if not (MOST_TERMS[0] <= terms <= MOST_TERMS[1] and min_exp <= max_exp <= min_exp + MOST_SPAN):
            what = f"{terms} terms with exponents {min_exp}..{max_exp}"
            remedy = f"expected {MOST_TERMS[0]} to {MOST_TERMS[1]} terms, and exponents at most {MOST_SPAN} apart"
            raise SpecError(what, field="quantized_apot", remedy=remedy)
        self.terms, self.min_exp, self.max_exp = terms, min_exp, max_exp
        self.levels = np.ldexp(np.array(_sums(terms, max_exp - min_exp), np.float32), min_exp)
        self.middles = (self.levels[1:] + self.levels[:-1]) / 2
        self.bits = 1 + (len(self.levels) - 1).bit_length()  # QKeras' initializers ask for it

    def __call__(self, x: Any) -> Any:
        return _straight_through(self._quantize)(tf.convert_to_tensor(x, tf.float32))

    def _quantize(self, x: Any) -> Any:
        place = tf.searchsorted(tf.constant(self.middles), tf.reshape(tf.abs(x), [-1]))
        return tf.sign(x) * tf.reshape(tf.gather(tf.constant(self.levels), place), tf.shape(x))

    def max(self) -> float:
        """Return the largest magnitude."""
        return float(self.levels[-1])

    def min(self) -> float:
        """Return the smallest value."""
        return -self.max()

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        return {"terms": self.terms, "min_exp": self.min_exp, "max_exp": self.max_exp}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> quantized_apot:
        """Return the quantizer that `get_config` described."""
        return cls(**config)

    def __str__(self) -> str:
        return f"quantized_apot({self.terms},{self.min_exp},{self.max_exp})"


class quantized_grid(qkeras.BaseQuantizer):  # type: ignore[misc]  # noqa: N801 - QKeras' naming
    """Round half to even to a fixed-point grid, and clamp; each channel may have a grid of its own.

    Args:
        bits: width, sign included; or a list with that of each channel.
        integer: integer bits, sign excluded; or a list. The step is `2**(integer + keep_negative - bits)`.
        keep_negative: whether there is a sign; without one it is a ReLU too.

    The channels are those of the last axis. A depthwise kernel has its channels on the last two axes, in order.

    Example:
        >>> [float(v) for v in quantized_grid([4, 2], [0, 1])([[0.3, 0.3], [0.7, 0.7]])[1]]
        [0.75, 1.0]
    """

    def __init__(
        self, bits: int | list[int] = 8, integer: int | list[int] = 0, keep_negative: bool | int = True
    ) -> None:
        super().__init__()
        self.of_channels, self.integer, self.keep_negative = bits, integer, bool(keep_negative)
        self.bits = max(bits) if isinstance(bits, list) else bits  # QKeras' initializers ask for a number
        lengths = {len(each) for each in (bits, integer) if isinstance(each, list)}
        if len(lengths) > 1:
            what = f"bits and integer are lists of {' and '.join(map(str, sorted(lengths)))} channels"
            raise SpecError(what, field="quantized_grid", remedy="give one of each channel, or one number for all")
        self.channels = lengths.pop() if lengths else None

    def __call__(self, x: Any) -> Any:
        return _straight_through(self._quantize)(tf.convert_to_tensor(x, tf.float32))

    def _quantize(self, x: Any) -> Any:
        limits = 2.0 ** (np.array(self.of_channels, float) - self.keep_negative)
        scale, step, limit = (self._spread(values, x) for values in (1 / self.step(), self.step(), limits))
        codes = tf.clip_by_value(tf.round(x * scale), -limit if self.keep_negative else 0.0 * limit, limit - 1)
        return codes * step  # TensorFlow makes a product with an inexact reciprocal of a division by constants

    def _spread(self, values: Any, x: Any) -> Any:
        """Return a number, or one for each channel, in the shape that meets a tensor's last axes."""
        values = np.float32(values)
        if self.channels is None or self.channels == x.shape[-1]:
            return tf.constant(values)
        if len(x.shape) > 1 and self.channels == x.shape[-1] * x.shape[-2]:
            return tf.constant(np.broadcast_to(values, self.channels).reshape(x.shape[-2:]))
        what = f"bits of {self.channels} channels, of a tensor of shape {tuple(x.shape)}"
        raise SpecError(what, field="quantized_grid", remedy="give one number for each channel of the last axis")

    def step(self) -> Any:
        """Return the step, or that of each channel."""
        return 2.0 ** (np.array(self.integer, float) + self.keep_negative - np.array(self.of_channels, float))

    def max(self) -> float:
        """Return the largest magnitude."""
        return float(2.0 ** np.max(self.integer))

    def min(self) -> float:
        """Return the smallest value."""
        return -self.max() if self.keep_negative else 0.0

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes."""
        held = {"bits": self.of_channels, "integer": self.integer}
        config = {key: list(value) if isinstance(value, list) else value for key, value in held.items()}
        return config if self.keep_negative else {**config, "keep_negative": False}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> quantized_grid:
        """Return the quantizer that `get_config` described."""
        return cls(**config)


OURS: Mapping[str, Any] = {cls.__name__: cls for cls in (quantized_po2_zero, quantized_apot, quantized_grid)}
"""Class -> a quantizer that QKeras lacks."""


def _sums(terms: int, span: int) -> list[int]:
    """Return all magnitudes of sums of at most so many different powers of two up to 2**span, ascending."""
    found = {0}
    for count in range(1, terms + 1):
        for exponents in combinations(range(span + 1), count):
            for signs in product((1, -1), repeat=count - 1):  # the first sign only turns the whole sum round
                rest = zip(exponents[1:], signs, strict=True)
                found.add(abs((1 << exponents[0]) + sum(sign << exponent for exponent, sign in rest)))
    return sorted(found)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def power_of_two(exponents: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return 2 to whole numbers within float32's exponents: exactly, as TensorFlow's own powers need not be."""
    biased = tf.cast(tf.round(exponents), tf.int32) + _EXPONENT_BIAS
    power = tf.bitcast(tf.bitwise.left_shift(biased, _MANTISSA_BITS), tf.float32)
    return power, lambda upstream: upstream * power * math.log(2)


def _nearest_exponent(x: Any) -> Any:
    """Return `round(log2(|x|))` as int32, exactly; -127 for 0 and subnormal numbers."""
    bits = tf.bitcast(tf.abs(x), tf.int32)
    mantissa = tf.bitwise.bitwise_and(bits, (1 << _MANTISSA_BITS) - 1)
    floor = tf.bitwise.right_shift(bits, _MANTISSA_BITS) - _EXPONENT_BIAS
    return floor + tf.cast(mantissa > _SQRT2_MANTISSA, tf.int32)


def _straight_through(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `function` with the identity as its gradient."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def quantize(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        return function(x), lambda upstream: upstream

    return quantize  # type: ignore[no-any-return]
