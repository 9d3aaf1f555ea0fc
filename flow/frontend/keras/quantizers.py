"""QKeras quantizers read from a Keras configuration, as data: no TensorFlow, no `eval`.

A quantizer stands in a configuration as a dictionary {"class_name", "config"} or as text such as
"quantized_relu(6,2)". The text is parsed as a literal call; its positional arguments have the order of the constructor
in QKeras 0.9.0 (`qkeras/quantizers.py`).
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flow.errors import UnsupportedError, shown
from flow.frontend.keras.arguments import check_arguments
from flow.frontend.layers import ClippedLine
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding

_COMMON = ("use_stochastic_rounding", "scale_axis", "qnoise_factor", "var_name", "use_ste", "use_variables")
_RELU_BOUND = ("relu_upper_bound", "is_quantized_clip", "qnoise_factor")
_PO2 = ("use_stochastic_rounding", "quadratic_approximation", "log2_rounding", "qnoise_factor")
POSITIONAL: Mapping[str, tuple[str, ...]] = {
    "quantized_bits": ("bits", "integer", "symmetric", "keep_negative", "alpha", *_COMMON),
    "quantized_relu": ("bits", "integer", "use_sigmoid", "negative_slope", "use_stochastic_rounding", *_RELU_BOUND),
    "quantized_po2": ("bits", "max_value", *_PO2),
    "quantized_relu_po2": ("bits", "max_value", "negative_slope", *_PO2),
    "quantized_po2_zero": ("bits", "max_value"),
    "quantized_apot": ("terms", "min_exp", "max_exp"),
    "quantized_grid": ("bits", "integer", "keep_negative"),
    "quantized_ulaw": ("bits", "integer", "symmetric", "u"),
    "quantized_tanh": ("bits", "use_stochastic_rounding", "symmetric", "use_real_tanh"),
    "quantized_sigmoid": ("bits", "symmetric", "use_real_sigmoid", "use_stochastic_rounding"),
    "quantized_hswish": ("bits", "integer", "symmetric", "alpha", *_COMMON, "relu_shift", "relu_upper_bound"),
    "binary": ("use_01", "alpha", "use_stochastic_rounding"),
    "ternary": ("alpha", "threshold", "use_stochastic_rounding", "number_of_unrolls"),
    "stochastic_binary": ("alpha", "temperature", "use_real_sigmoid"),
    "stochastic_ternary": ("alpha", "threshold", "temperature", "use_real_sigmoid", "number_of_unrolls"),
}
"""Quantizers that are deterministic at inference, with their arguments in the order of the constructor."""
RANDOM = ("bernoulli", "stochastic_round", "stochastic_round_po2")
QKERAS_ONLY = ("smooth_sigmoid", "hard_tanh", "smooth_tanh", "binary_sigmoid", "binary_tanh")
"""Functions of `qkeras.quantizers` that Keras does not have."""
FUNCTIONS = (
    *("tanh", "sigmoid", "hard_sigmoid", "elu", "selu", "softplus", "softsign", "exponential"),
    *("gelu", "swish", "silu", "mish", "relu6", "leaky_relu", *QKERAS_ONLY),
)
"""Element-wise activations of Keras and QKeras that are no quantizers."""
ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")
"""Layers that `activation` of another layer may be, as objects."""
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_WORD = r"(True|False|'[^'\"(),=\s]*'|\"[^'\"(),=\s]*\")"
_ARGUMENT = rf"\s*(({_NUMBER}|{_WORD})\s*|\w+\s*=\s*({_NUMBER}\s*|{_WORD}))"
CALL = re.compile(rf"\s*\w+(\(({_ARGUMENT}(,{_ARGUMENT})*|\s*)\)\s*)?")
"""What QKeras' `safe_eval` reads as Python does: no `0x10`, no parentheses inside (it leaves off what comes behind
them), no space behind `keep_negative=False` (it takes that for a text, which is true)."""
WIDEST_CAST = 24
"""Bits without the sign of the widest cast that QKeras' float32 computes: of more, its largest value is rounded."""
APPROXIMATED = ("tanh", "sigmoid", "elu", "selu", "softplus", "softsign", "exponential", "ELU")
TURNS = {"gelu": -0.7517915, "swish": -1.2784645, "silu": -1.2784645, "mish": -1.1924312}
FALLING = ("quantized_hswish",)
"""Functions that TensorFlow computes by approximations; those that fall up to a number and rise from there on; those of
which no such number is known."""
LINES: Mapping[str, ClippedLine] = {
    "hard_sigmoid": ClippedLine(0.5, 0.5),
    "smooth_sigmoid": ClippedLine(0.1875, 0.5),
    "hard_tanh": ClippedLine(0.5, 0.5, low=-1.0),
    "smooth_tanh": ClippedLine(0.1875, 0.5, low=-1.0),
}
"""Functions of `qkeras.quantizers` that are clipped lines; Keras' own `hard_sigmoid` is another, and rounds."""
LOGARITHMIC = ("quantized_po2", "quantized_relu_po2")
"""Quantizers that take an exponent for the rounded logarithm of a number."""
LOSING = ("quantized_bits", "quantized_relu")
"""Quantizers whose `x + (xq - x)` loses bits of xq beside a large x, in float32."""
FALTERS = 16
"""Units in the last place that an approximation is trusted to be right to: those of TensorFlow are within 4 or so."""
FROZEN = "post_training_scale"
"""Argument of QKeras' master: the scale that alpha 'auto' found, kept for all data."""
TIES_TO_EVEN = Rounding.RND_CONV
"""How QKeras rounds activations: by `tf.round`."""


@dataclass(frozen=True, slots=True)
class QuantizerConfig:
    """Class name and arguments; arguments that were not given are absent."""

    name: str
    args: Mapping[str, Any]


def parse_quantizer(entry: Any) -> QuantizerConfig | None:
    """Return the quantizer that a configuration entry names; None for no quantizer or "linear".

    Raises:
        UnsupportedError: the entry is neither form, or its text is more than a call with literal arguments.
    """
    if entry is None or entry in ("linear", ""):
        return None
    if _is_lambda(entry):
        remedy = "it is not run, and has no exact integer form: use a quantizer or an activation by its name"
        raise UnsupportedError("its activation or quantizer is a Python lambda, which is code", remedy=remedy)
    if isinstance(entry, Mapping) and isinstance(entry.get("class_name"), str):
        args = entry.get("config") or {}
        if not isinstance(args, Mapping):
            raise UnsupportedError(f"quantizer {shown(entry['class_name'])} has no readable configuration")
        return QuantizerConfig(short_name(entry["class_name"]), args)
    if not isinstance(entry, str):
        raise UnsupportedError(f"quantizer {shown(entry)} is neither a name nor a configuration")
    return _parse_text(entry)


def _is_lambda(entry: Any) -> bool:
    """Say whether an entry is how Keras writes a function: its code, its defaults and what it closes over."""
    held = entry.get("value") if isinstance(entry, Mapping) else entry
    named = isinstance(entry, Mapping) and entry.get("class_name") == "__lambda__"
    return named or (isinstance(held, list) and len(held) == 3 and isinstance(held[0], str))


def short_name(class_name: str) -> str:
    """Return a registered class name without its package: "qkeras>QDense" -> "QDense"."""
    return class_name.rsplit(">", 1)[-1]


def _parse_text(text: str) -> QuantizerConfig:
    try:
        if "None" in text:
            what = f"quantizer {shown(text)} cannot be read: QKeras cannot read None in a text"
            raise UnsupportedError(what, remedy="leave that argument out")
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return QuantizerConfig(node.id, {})
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            raise ValueError("not a call")
        if not CALL.fullmatch(text):
            raise ValueError("QKeras reads only decimal numbers, True, False and texts, each alone")
        name = node.func.id
        positional = [ast.literal_eval(arg) for arg in node.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
        if positional:
            _check_name(name, "quantizer")
        if len(positional) > len(POSITIONAL.get(name, ())):
            raise ValueError("more arguments than are known")
        given = dict(zip(POSITIONAL.get(name, ()), positional, strict=False))
        if given.keys() & named.keys() or len(named) < len(node.keywords):
            raise ValueError("an argument is given twice")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnsupportedError(f"quantizer {shown(text)} cannot be read: {shown(error)}") from None
    return QuantizerConfig(name, {**given, **named})


def check_weight_quantizer(quantizer: QuantizerConfig | None, what: str) -> None:
    """Raise UnsupportedError unless weights under this quantizer are fixed numbers we can read."""
    if quantizer is not None:
        _check_known(quantizer, what)


def activation_cast(quantizer: QuantizerConfig, what: str) -> Cast | None:
    """Return the cast that an activation quantizer is, ReLU included, or None if it is another function of elements.

    Source: `__call__` of each quantizer in QKeras 0.9.0; integer bits exclude the sign.

    Raises:
        UnsupportedError: an unknown quantizer, or one whose result is random or depends on more than the element.
    """
    _check_known(quantizer, what)
    args = quantizer.args
    if args.get(FROZEN) is not None:
        return _frozen_cast(quantizer, what)
    alpha = args.get("alpha")
    if isinstance(alpha, str) and quantizer.name == "quantized_bits":
        raise UnsupportedError(
            f"{what} 'quantized_bits' with alpha={shown(alpha)} is not supported: QKeras scales it anew by each batch",
            remedy="give samples at which it is frozen (--inputs x.npy), or train with alpha=1 or another power of two",
        )
    if isinstance(alpha, str | list | tuple) or (alpha is not None and not _is_po2(alpha)):
        raise UnsupportedError(
            f"{what} '{quantizer.name}' with alpha={shown(alpha)} is not supported: its scale depends on the data "
            "or is no power of two",
            remedy="use alpha=1 or another power of two",
        )
    if quantizer.name not in ("quantized_relu", "quantized_bits", "quantized_grid"):
        return None
    if any(isinstance(args.get(key), list) for key in ("bits", "integer")):
        what = f"{what} 'quantized_grid' has bits of each channel, as only weights may"
        raise UnsupportedError(what, remedy="give one number for all channels")
    bits, integer = int(args.get("bits", 8)), int(args.get("integer", 0))
    if has_relu(quantizer):
        bounded = args.get("relu_upper_bound") and not args.get("is_quantized_clip", True)
        if args.get("use_sigmoid") or args.get("negative_slope") or bounded or bits > WIDEST_CAST:
            return None
        return Cast(FixedFormat(False, integer, bits - integer), TIES_TO_EVEN, Overflow.SAT)
    signed = bool(args.get("keep_negative", True))
    if not 1 <= bits - signed <= WIDEST_CAST or alpha not in (None, 1, 1.0):
        return None
    overflow = Overflow.SAT_SYM if args.get("symmetric") and signed else Overflow.SAT
    return Cast(FixedFormat(signed, integer, bits - signed - integer), TIES_TO_EVEN, overflow)


def has_precise(name: str, args: Mapping[str, Any]) -> bool:
    """Say whether a function or quantizer is computed otherwise in float64: it is approximated, or loses bits."""
    real = args.get("use_real_tanh") or args.get("use_real_sigmoid")
    return name in (*APPROXIMATED, *TURNS, *LOGARITHMIC, *LOSING) or bool(real)


def _frozen_cast(quantizer: QuantizerConfig, what: str) -> Cast:
    """Return the cast of a `quantized_bits` with a frozen scale: of one scale for all channels, times that.

    Source: `__call__` in QKeras' master: sign(x) * floor(abs(x) / step + 1/2), at most 2**(bits - 1) - 1, times the
    step, which is the scale times 2**(integer + keep_negative - bits).
    """
    args, scale = quantizer.args, frozen_scale(quantizer)
    if not all(map(_is_po2, scale)):
        what = f"{what} 'quantized_bits' has post_training_scale={shown(args[FROZEN])}, which is no power of two"
        raise UnsupportedError(what, remedy="freeze it with alpha='auto_po2'")
    bits = int(args.get("bits", 8))
    frac_bits = bits - bool(args.get("keep_negative", True)) - int(args.get("integer", 0))
    if len(set(scale)) == 1:
        frac_bits -= math.frexp(scale[0])[1] - 1
    if not 2 <= bits <= WIDEST_CAST:
        raise UnsupportedError(f"{what} 'quantized_bits' of {bits} bits with a frozen scale", remedy="use 2 to 24 bits")
    return Cast(FixedFormat(True, bits - 1 - frac_bits, frac_bits), Rounding.RND_INF, Overflow.SAT_SYM)


def frozen_scale(quantizer: QuantizerConfig) -> tuple[float, ...]:
    """Return the frozen scale of each channel, or the one of all of them; none of a quantizer that has no such.

    Raises:
        UnsupportedError: it differs along another axis than the last.
    """
    held: Any = quantizer.args.get(FROZEN)
    if held is None:
        return ()
    while isinstance(held, list | tuple) and len(held) == 1:
        held = held[0]
    scale = tuple(held) if isinstance(held, list | tuple) else (held,)
    if not all(isinstance(number, int | float) for number in scale):
        raise UnsupportedError("post_training_scale differs along several axes", remedy="use scales of the last one")
    return scale


def has_relu(quantizer: QuantizerConfig) -> bool:
    """Say whether a cast that an activation quantizer is stands for a ReLU too."""
    return quantizer.name == "quantized_relu"


def _is_po2(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0 and math.frexp(value)[0] == 0.5


def is_activation_layer(entry: Any) -> bool:
    """Say whether an `activation` entry is a layer, as an object."""
    return isinstance(entry, Mapping) and entry.get("class_name") in ACTIVATION_LAYERS


def ends_in_softmax(config: Mapping[str, Any]) -> bool:
    """Say whether the activation of a layer, by its configuration, is a softmax."""
    quantizer = parse_quantizer(config.get("activation"))
    return quantizer is not None and quantizer.name in ("softmax", "Softmax")


def _check_name(name: str, what: str) -> None:
    if name in RANDOM:
        raise UnsupportedError(f"{what} {name!r} is random at inference", remedy="use 'binary' or 'ternary'")
    if name not in POSITIONAL:
        remedy = f"use one of {', '.join(map(repr, POSITIONAL))}"
        raise UnsupportedError(f"{what} {name!r} is not supported", remedy=remedy)


def _check_known(quantizer: QuantizerConfig, what: str) -> None:
    _check_name(quantizer.name, f"{what} quantizer")
    check_arguments(quantizer.name, quantizer.args, what)
    if quantizer.args.get("qnoise_factor", 1.0) not in (1, 1.0):
        raise UnsupportedError(
            f"{what} quantizer {quantizer.name!r} has qnoise_factor={quantizer.args['qnoise_factor']!r}: its "
            "output is only partly quantized",
            remedy="set it to 1.0",
        )
