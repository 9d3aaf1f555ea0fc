"""QKeras quantizers that hold what hardware holds: powers of two with a zero, and a plain fixed-point grid.

Both return their grid values bit for bit (a custom gradient instead of `x + stop_gradient(xq - x)`, whose two float32
roundings need not give back `xq`), pass the gradient straight through, and leave their own outputs as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flow.errors import SpecError
from flow.train import load_tensorflow

qkeras: Any
tf, _, qkeras = load_tensorflow()

_EXPONENT_BIAS, _MANTISSA_BITS = 127, 23  # IEEE 754 binary32
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
        step, steps, limit = (self._spread(values, x) for values in (self.step(), 1 / self.step(), limits))
        codes = tf.clip_by_value(tf.round(x * steps), -limit if self.keep_negative else 0.0 * limit, limit - 1)
        return codes * step  # not over `steps`: TensorFlow's quotients by several numbers may miss the last bit

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
