"""QKeras quantizers read from a Keras configuration, as data: no TensorFlow, no `eval`.

A quantizer stands in a configuration as a dictionary {"class_name", "config"} or as text such as
"quantized_relu(6,2)". The text is parsed as a literal call; its positional arguments have the order of the constructor
in QKeras 0.9.0 (`qkeras/quantizers.py`).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flow.errors import UnsupportedError
from flow.fixed import FixedFormat, Overflow, Rounding

POSITIONAL: Mapping[str, tuple[str, ...]] = {
    "quantized_bits": (
        "bits",
        "integer",
        "symmetric",
        "keep_negative",
        "alpha",
        "use_stochastic_rounding",
        "scale_axis",
        "qnoise_factor",
    ),
    "quantized_relu": (
        "bits",
        "integer",
        "use_sigmoid",
        "negative_slope",
        "use_stochastic_rounding",
        "relu_upper_bound",
        "is_quantized_clip",
        "qnoise_factor",
    ),
    "quantized_po2": (
        "bits",
        "max_value",
        "use_stochastic_rounding",
        "quadratic_approximation",
        "log2_rounding",
        "qnoise_factor",
    ),
    "quantized_po2_zero": ("bits", "max_value"),
}
WEIGHT_QUANTIZERS = ("quantized_po2_zero", "quantized_po2", "quantized_bits")
ACTIVATION_QUANTIZERS = ("quantized_relu", "quantized_bits")


@dataclass(frozen=True, slots=True)
class QuantizerConfig:
    """Class name and arguments; arguments that were not given are absent."""

    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ActivationCast:
    """What an activation quantizer does to a value: a cast to `format`, which includes the ReLU if `relu`."""

    format: FixedFormat
    overflow: Overflow
    relu: bool
    rounding: Rounding = Rounding.RND_CONV  # tf.round: ties to even


def parse_quantizer(entry: Any) -> QuantizerConfig | None:
    """Return the quantizer that a configuration entry names; None for no quantizer or "linear".

    Raises:
        UnsupportedError: the entry is neither form, or its text is more than a call with literal arguments.
    """
    if entry is None or entry in ("linear", ""):
        return None
    if isinstance(entry, Mapping) and isinstance(entry.get("class_name"), str):
        args = entry.get("config") or {}
        if not isinstance(args, Mapping):
            raise UnsupportedError(f"quantizer {entry['class_name']!r} has no readable configuration")
        return QuantizerConfig(short_name(entry["class_name"]), args)
    if isinstance(entry, str):
        return _parse_text(entry)
    raise UnsupportedError(f"quantizer {entry!r} is neither a name nor a configuration")


def short_name(class_name: str) -> str:
    """Return a registered class name without its package: "qkeras>QDense" -> "QDense"."""
    return class_name.rsplit(">", 1)[-1]


def _parse_text(text: str) -> QuantizerConfig:
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return QuantizerConfig(node.id, {})
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            raise ValueError("not a call")
        name = node.func.id
        positional = [ast.literal_eval(arg) for arg in node.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
        if positional and len(positional) > len(POSITIONAL.get(name, ())):
            raise ValueError("more arguments than are known")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnsupportedError(f"quantizer {text[:80]!r} cannot be read: {error}") from None
    return QuantizerConfig(name, {**dict(zip(POSITIONAL.get(name, ()), positional, strict=False)), **named})


def check_weight_quantizer(quantizer: QuantizerConfig | None, what: str) -> None:
    """Raise UnsupportedError unless weights under this quantizer are fixed numbers we can read."""
    if quantizer is None:
        return
    if quantizer.name not in WEIGHT_QUANTIZERS:
        raise UnsupportedError(
            f"{what} quantizer {quantizer.name!r} is not supported; use {', '.join(map(repr, WEIGHT_QUANTIZERS))}"
        )
    _check_noise(quantizer, what)
    if quantizer.args.get("use_stochastic_rounding") and quantizer.name != "quantized_bits":
        raise UnsupportedError(f"{what} quantizer {quantizer.name!r} with stochastic rounding is not supported")


def activation_cast(quantizer: QuantizerConfig, what: str) -> ActivationCast:
    """Return the cast that an activation quantizer is.

    Source: `quantized_bits.__call__` and `quantized_relu.__call__` of QKeras 0.9.0; the integer bits of both exclude
    the sign.

    Raises:
        UnsupportedError: another quantizer, or an argument that makes it more than a cast.
    """
    if quantizer.name not in ACTIVATION_QUANTIZERS:
        raise UnsupportedError(
            f"{what} {quantizer.name!r} is not supported; use {', '.join(map(repr, ACTIVATION_QUANTIZERS))}"
        )
    _check_noise(quantizer, what)
    args = quantizer.args
    bits, integer = _whole(args, "bits", 8, what), _whole(args, "integer", 0, what)
    if quantizer.name == "quantized_relu":
        for name in ("use_sigmoid", "negative_slope"):
            if args.get(name):
                raise UnsupportedError(f"{what} 'quantized_relu' with {name}={args[name]!r} is not supported")
        if args.get("relu_upper_bound") is not None and not args.get("is_quantized_clip", True):
            raise UnsupportedError(
                f"{what} 'quantized_relu' with relu_upper_bound is not supported; choose integer bits"
            )
        return ActivationCast(FixedFormat(False, integer, bits - integer), Overflow.SAT, relu=True)
    if args.get("alpha") not in (None, 1, 1.0):
        raise UnsupportedError(f"{what} 'quantized_bits' with alpha={args['alpha']!r} is not supported; use alpha=1")
    signed = bool(args.get("keep_negative", True))
    if bits - signed < 1:
        raise UnsupportedError(f"{what} 'quantized_bits' of {bits} bit is a sign function; use at least 2 bits")
    symmetric = bool(args.get("symmetric", False))
    overflow = Overflow.SAT_SYM if symmetric and signed else Overflow.SAT
    return ActivationCast(FixedFormat(signed, integer, bits - signed - integer), overflow, relu=False)


def _check_noise(quantizer: QuantizerConfig, what: str) -> None:
    if quantizer.args.get("qnoise_factor", 1.0) not in (1, 1.0):
        raise UnsupportedError(
            f"{what} quantizer {quantizer.name!r} has qnoise_factor={quantizer.args['qnoise_factor']!r}: "
            "its output is only partly quantized; set it to 1.0"
        )


def _whole(args: Mapping[str, Any], name: str, default: int, what: str) -> int:
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -64 <= value <= 64 or value != int(value):
        raise UnsupportedError(f"{what}: {name}={value!r} is not a whole number of bits")
    return int(value)
