"""What the arguments of a quantizer may be: those that QKeras computes with, as their names say.

QKeras checks few of them. What it then does is not what the name says, and no error either: `keep_negative=2` takes two
bits off, `bits=40` in `quantized_po2` counts to 2**2**38, `integer=32` makes every value NaN. So each argument is held
against this table before QKeras sees it. Source: constructors and `__call__` in `qkeras/quantizers.py` of QKeras 0.9.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flow.errors import UnsupportedError, shown


@dataclass(frozen=True, slots=True)
class Kind:
    """What an argument may be: in words, and as a test of its value."""

    words: str
    accepts: Callable[[Any], bool]

    def or_each(self) -> Kind:
        """Return the same kind, or a list with one for each channel."""
        words = f"{self.words}, or a list of them"
        return Kind(
            words, lambda value: value != [] and all(map(self.accepts, value if type(value) is list else [value]))
        )

    def or_none(self) -> Kind:
        """Return the same kind, or None."""
        return Kind(f"{self.words}, or None", lambda value: value is None or self.accepts(value))


LARGEST = 2.0**64
"""No larger number is a scale, a threshold or a limit; QKeras' float32 would soon be infinite."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _whole(low: int, high: int, what: str) -> Kind:
    """Return whole numbers, written with a decimal point too."""
    words = f"a whole number{what} from {low} to {high}"
    return Kind(words, lambda value: _is_number(value) and low <= value <= high and value == int(value))


def _integer(low: int, high: int, what: str) -> Kind:
    """Return integers, where QKeras fails on 4.0."""
    return Kind(_whole(low, high, what).words, lambda value: type(value) is int and low <= value <= high)


def _is_scale(value: Any) -> bool:
    return all(map(_is_scale, value)) if isinstance(value, list | tuple) else _is_number(value)


def _is_positive(value: Any) -> bool:
    return (value != [] and all(map(_is_positive, value))) if type(value) is list else _is_number(value) and value > 0


FLAG = Kind("True, False, 1 or 0", lambda value: isinstance(value, int | float) and value in (0, 1))
NUMBER = Kind("a number within 2**64", _is_number)
NOT_1 = Kind("a number within 2**64 other than 1", lambda value: _is_number(value) and value != 1)
ABOVE_0 = Kind("a number above 0, within 2**64", lambda value: _is_number(value) and value > 0)
FROM_0 = Kind("a number from 0 to 2**64", lambda value: _is_number(value) and value >= 0)
LAW = Kind("a number above 0.001 with a decimal point", lambda value: type(value) is float and 0.001 < value <= LARGEST)
SLOPE = Kind("0 or a power of two", lambda value: FROM_0.accepts(value) and math.frexp(value)[0] in (0, 0.5))
ALPHA = Kind(
    "a number within 2**64, 'auto' or 'auto_po2'", lambda value: value in ("auto", "auto_po2") or _is_scale(value)
)
SCALE = Kind("a number above 0, or lists of them", lambda value: value is not None and _is_positive(value))
AXIS = Kind("an axis", lambda value: type(value) is int)
TEXT = Kind("a text", lambda value: isinstance(value, str))
LOG2 = Kind("'rnd' or 'floor'", lambda value: value in ("rnd", "floor"))
NOISE = Kind("a number from 0 to 1", lambda value: FROM_0.accepts(value) and value <= 1)
BITS = " of bits"
WIDTH = _whole(1, 64, BITS)
INTEGER = _integer(0, 30, BITS)
"""QKeras raises 2 to it as an int32."""
PO2_BITS = 12
"""Without a max_value QKeras raises 2 to 2**(bits - 2), as a float; one bit less without a sign."""
NOISY: Mapping[str, Kind] = {
    **{"qnoise_factor": NOISE, "var_name": TEXT.or_none(), "use_ste": FLAG, "use_variables": FLAG},
}
SCALED: Mapping[str, Kind] = {
    **{"alpha": ALPHA.or_none(), "use_stochastic_rounding": FLAG, "scale_axis": AXIS.or_none()},
    **NOISY,
}
PO2: Mapping[str, Kind] = {
    **{"use_stochastic_rounding": FLAG, "quadratic_approximation": FLAG, "log2_rounding": LOG2},
    **NOISY,
}
EXPONENT = _integer(-126, 127, "").or_none()
THRESHOLD, UNROLLS = NUMBER.or_none(), _integer(1, 64, "")
RANDOM: Mapping[str, Kind] = {"temperature": NUMBER, "use_real_sigmoid": FLAG}
ARGUMENTS: Mapping[str, Mapping[str, Kind]] = {
    "quantized_bits": {
        **{"bits": WIDTH, "integer": INTEGER, "symmetric": FLAG, "keep_negative": FLAG, **SCALED},
        "post_training_scale": SCALE.or_none(),
    },
    "quantized_relu": {
        **{"bits": _integer(1, 30, BITS), "integer": INTEGER, "use_sigmoid": FLAG, "negative_slope": SLOPE},
        **{"use_stochastic_rounding": FLAG, "relu_upper_bound": FROM_0.or_none(), "is_quantized_clip": FLAG},
        **NOISY,
    },
    "quantized_po2": {"bits": WIDTH, "max_value": ABOVE_0.or_none(), **PO2},
    "quantized_relu_po2": {
        **{"bits": WIDTH, "max_value": ABOVE_0.or_none(), "negative_slope": SLOPE},
        **PO2,
    },
    "quantized_po2_zero": {
        **{"bits": _whole(1, PO2_BITS, BITS), "max_value": ABOVE_0.or_none()},
        **{"min_exp": EXPONENT, "max_exp": EXPONENT},
    },
    "quantized_apot": {"terms": _integer(2, 3, ""), "min_exp": _integer(-60, 60, ""), "max_exp": _integer(-60, 60, "")},
    "quantized_grid": {"bits": WIDTH.or_each(), "integer": _integer(-64, 64, BITS).or_each(), "keep_negative": FLAG},
    "quantized_ulaw": {"bits": WIDTH, "integer": _whole(-64, 64, BITS), "symmetric": FLAG, "u": LAW},
    "quantized_tanh": {
        **{"bits": _integer(1, 31, BITS), "use_stochastic_rounding": FLAG, "symmetric": FLAG, "use_real_tanh": FLAG},
    },
    "quantized_sigmoid": {
        **{"bits": _integer(1, 30, BITS), "symmetric": FLAG, "use_real_sigmoid": FLAG},
        "use_stochastic_rounding": FLAG,
    },
    "quantized_hswish": {
        **{"bits": WIDTH, "integer": INTEGER, "symmetric": FLAG, **SCALED},
        **{"relu_shift": ABOVE_0, "relu_upper_bound": ABOVE_0},
        "keep_negative": FLAG,  # QKeras writes it and does not take it back
    },
    "binary": {"use_01": FLAG, "alpha": ALPHA.or_none(), "use_stochastic_rounding": FLAG},
    "ternary": {
        **{"alpha": ALPHA.or_none(), "threshold": THRESHOLD, "use_stochastic_rounding": FLAG},
        "number_of_unrolls": UNROLLS,
    },
    "stochastic_binary": {"alpha": ALPHA.or_none(), **RANDOM},
    "stochastic_ternary": {
        **{"alpha": ALPHA.or_none(), "threshold": NOT_1.or_none(), **RANDOM},
        "number_of_unrolls": UNROLLS,
    },
}
"""Quantizer -> what each of its arguments may be, in the order of the constructor."""


def check_arguments(name: str, args: Mapping[str, Any], what: str) -> None:
    """Refuse arguments that QKeras would not compute with as their names say.

    Args:
        name: class of the quantizer; one that is not in the table is refused elsewhere.
        args: its arguments by name.
        what: entry of the layer's configuration, for the message.

    Raises:
        UnsupportedError: an argument is unknown, or not what the table says.
    """
    known = ARGUMENTS.get(name, {})
    if args.get("post_training_scale") is not None and not isinstance(args.get("alpha"), str):
        told = f"{name}: post_training_scale={shown(args['post_training_scale'])} freezes the scale of another alpha"
        raise UnsupportedError(told, field=what, remedy="it goes with alpha='auto' or alpha='auto_po2'")
    for key, value in args.items() if known else ():
        if key not in known:
            remedy = f"it takes {', '.join(known)}"
            raise UnsupportedError(f"quantizer {name!r} has no argument {shown(key)}", field=what, remedy=remedy)
        if not known[key].accepts(value):
            told = f"{name}: {key}={shown(value)} is not {known[key].words}"
            raise UnsupportedError(told, field=what, remedy="QKeras computes with no other: train with one of these")
    most = {"quantized_po2": PO2_BITS, "quantized_relu_po2": PO2_BITS - 1}.get(name)
    if most is not None and args.get("bits", 8) > most and args.get("max_value") is None:
        told = f"{name}: bits={args['bits']} without a max_value count to more than float32 holds"
        raise UnsupportedError(told, field=what, remedy=f"give it a max_value, or {most} bits at most")
    if name == "quantized_po2" and args.get("bits", 8) < 2 and not (args.get("max_value") or 2) <= 1:
        told = f"{name}: bits=1 are a sign and no exponent"
        raise UnsupportedError(told, field=what, remedy="use 2 or more, or max_value=1")
