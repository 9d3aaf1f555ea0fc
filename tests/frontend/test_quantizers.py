"""Quantizer configurations: both written forms, the cast each is, and every refusal."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flow.errors import UnsupportedError
from flow.frontend.keras.arguments import ARGUMENTS, check_arguments
from flow.frontend.keras.quantizers import (
    POSITIONAL,
    QuantizerConfig,
    activation_cast,
    check_weight_quantizer,
    has_relu,
    parse_quantizer,
    short_name,
)
from flow.ir.fixed import FixedFormat, Overflow, Rounding


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (None, None), ("linear", None), ("", None),
        ("relu", ("relu", {})),
        ("quantized_relu(6,2)", ("quantized_relu", {"bits": 6, "integer": 2})),
        (" quantized_bits(4, 0, alpha=1.0) ", ("quantized_bits", {"bits": 4, "integer": 0, "alpha": 1.0})),
        ("binary(1, 2)", ("binary", {"use_01": 1, "alpha": 2})),
        ("quantized_ulaw(6,0,1,128)", ("quantized_ulaw", {"bits": 6, "integer": 0, "symmetric": 1, "u": 128})),
        ("quantized_bits(8, alpha='auto')", ("quantized_bits", {"bits": 8, "alpha": "auto"})),
        ({"class_name": "quantized_po2", "config": {"bits": 4}}, ("quantized_po2", {"bits": 4})),
        ({"class_name": "po2flow>quantized_po2_zero", "config": {}}, ("quantized_po2_zero", {})),
        ({"class_name": "quantized_po2", "config": None}, ("quantized_po2", {})),
    ],
)  # fmt: skip
def test_entries_are_read(entry: Any, expected: tuple[str, dict[str, Any]] | None) -> None:
    parsed = parse_quantizer(entry)
    assert (None if parsed is None else (parsed.name, dict(parsed.args))) == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("quantized_relu(", "cannot be read"),
        ("__import__('os').system('true')", "cannot be read"),
        ("quantized_bits(open('x'))", "cannot be read"),
        ("quantized_relu(6,2) + 1", "cannot be read"),
        ("quantized_relu(1,2,3,4,5,6,7,8,9)", "more arguments than are known"),
        ("binary(1, 2, 3, 4)", "more arguments than are known"),
        ("unheard_of(1)", "^quantizer 'unheard_of' is not supported; use one of 'quantized_bits'"),
        ("relu(6)", "^quantizer 'relu' is not supported; use one of 'quantized_bits'"),
        ("bernoulli(0.5)", "^quantizer 'bernoulli' is random at inference; use 'binary' or 'ternary'"),
        ("quantized_bits(4,(1))", "QKeras reads only decimal numbers"),
        ("quantized_bits(4,0x1)", "QKeras reads only decimal numbers"),
        ("quantized_bits(4,0,alpha=(1.0,2.0))", "QKeras reads only decimal numbers"),
        ("quantized_bits(4,0,keep_negative=False )", "QKeras reads only decimal numbers"),
        (["4wEA" * 1000, None, None], "is a Python lambda, which is code; it is not run"),
        ({"value": ["4wEA" * 1000, None, None]}, "is a Python lambda, which is code"),
        ({"class_name": "__lambda__", "config": {}}, "is a Python lambda, which is code"),
        ([0] * 100_000, "quantizer \\[0, 0.* characters\\) is neither a name nor a configuration"),
        ("quantized_po2(4, None)", "QKeras cannot read None in a text; leave that argument out"),
        ("(" * 5000 + ")" * 5000, "cannot be read"),
        (3, "neither a name nor a configuration"),
        ({"config": {}}, "neither a name nor a configuration"),
        ({"class_name": "quantized_bits", "config": [1]}, "has no readable configuration"),
    ],
)
def test_entries_that_are_no_quantizer(entry: Any, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        parse_quantizer(entry)


def cast(name: str, **args: Any) -> Any:
    return activation_cast(QuantizerConfig(name, args), "activation")


def test_the_cast_of_each_activation_quantizer() -> None:
    relu = cast("quantized_relu", bits=6, integer=2)
    assert (relu.format, relu.overflow, has_relu(QuantizerConfig("quantized_relu", {}))) == (
        FixedFormat(False, 2, 4),
        Overflow.SAT,
        True,
    )
    assert relu.rounding is Rounding.RND_CONV
    signed = cast("quantized_bits", bits=8, integer=2, alpha=1.0)
    assert (signed.format, signed.overflow, has_relu(QuantizerConfig("quantized_bits", {}))) == (
        FixedFormat(True, 2, 5),
        Overflow.SAT,
        False,
    )
    assert cast("quantized_bits", bits=4, symmetric=1).overflow is Overflow.SAT_SYM
    unsigned = cast("quantized_bits", bits=4, integer=1, keep_negative=0, symmetric=True)
    assert (unsigned.format, unsigned.overflow) == (FixedFormat(False, 1, 3), Overflow.SAT)
    assert cast("quantized_bits").format == FixedFormat(True, 0, 7), "QKeras' defaults"
    assert cast("quantized_relu", bits=6, integer=2, relu_upper_bound=6.0, is_quantized_clip=True) == relu


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("quantized_relu", {"use_sigmoid": 1}),
        ("quantized_relu", {"negative_slope": 0.25}),
        ("quantized_relu", {"relu_upper_bound": 1.0, "is_quantized_clip": False}),
        ("quantized_bits", {"alpha": 2.0}),
        ("quantized_bits", {"alpha": 0.5}),
        ("quantized_bits", {"bits": 1}),
        ("quantized_po2", {"bits": 4, "max_value": 2.0}),
        ("quantized_relu_po2", {"negative_slope": 0.25}),
        ("quantized_ulaw", {}),
        ("quantized_tanh", {"use_real_tanh": True}),
        ("quantized_sigmoid", {"bits": 4}),
        ("quantized_hswish", {"bits": 6}),
        ("binary", {"use_01": True}),
        ("ternary", {"threshold": 0.4}),
        ("stochastic_binary", {}),
        ("stochastic_ternary", {}),
    ],
)
def test_what_is_no_cast_is_left_to_a_table(name: str, args: dict[str, Any]) -> None:
    assert cast(name, **args) is None


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "quantized_linear",
            {},
            "activation quantizer 'quantized_linear' is not supported; use one of 'quantized_bits'",
        ),
        ("bernoulli", {}, "activation quantizer 'bernoulli' is random at inference; use 'binary' or 'ternary'"),
        ("stochastic_round_po2", {}, "is random at inference"),
        ("quantized_relu", {"qnoise_factor": 0.5}, r"qnoise_factor=0\.5: its output is only partly quantized"),
        (
            "quantized_bits",
            {"alpha": "auto_po2"},
            "with alpha='auto_po2' is not supported: QKeras scales it anew by each batch; give samples",
        ),
        ("binary", {"alpha": "auto"}, "alpha='auto' is not supported"),
        ("quantized_bits", {"alpha": 0.7}, r"alpha=0\.7 is not supported: .*use alpha=1 or another power of two"),
        ("quantized_bits", {"alpha": -1.0}, r"alpha=-1\.0 is not supported"),
        ("quantized_bits", {"alpha": [1.0, 2.0]}, "is not supported"),
        ("quantized_bits", {"bits": 4.5}, r"bits=4\.5 is not a whole number of bits"),
        ("quantized_bits", {"bits": "4"}, "is not a whole number of bits"),
        ("quantized_bits", {"bits": True}, "is not a whole number of bits"),
        ("quantized_bits", {"integer": 100}, "is not a whole number of bits"),
        ("quantized_bits", {"bits": float("nan")}, "is not a whole number of bits"),
        ("quantized_bits", {"bits": float("inf")}, "is not a whole number of bits"),
        ("quantized_relu", {"bits": 64}, "bits=64 is not a whole number of bits from 1 to 30"),
        ("quantized_relu", {"bits": 0}, "bits=0 is not a whole number of bits from 1 to 30"),
        ("quantized_relu", {"bits": 3, "integer": -2}, "integer=-2 is not a whole number of bits from 0 to 30"),
    ],
)
def test_what_has_no_fixed_values_is_refused(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        cast(name, **args)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("quantized_po2", {"bits": 40}, "bits=40 without a max_value count to more"),
        ("quantized_po2", {"bits": 1}, "bits=1 are a sign and no exponent"),
        ("quantized_po2", {"bits": 1, "max_value": 4}, "bits=1 are a sign and no exponent"),
        ("quantized_po2", {"max_value": 0}, "max_value=0 is not a number above 0, within 2..64, or None"),
        ("quantized_po2", {"max_value": float("nan")}, "max_value=nan is not"),
        ("quantized_po2", {"max_value": 10**400}, "max_value=1000.*401 characters. is not"),
        ("quantized_po2", {"max_value": 10**5000}, "max_value=a value of type int that is too long to write is not"),
        ("quantized_po2", {"log2_rounding": "ceil"}, "log2_rounding='ceil' is not 'rnd' or 'floor'"),
        ("quantized_po2", {"command": "x"}, "quantizer 'quantized_po2' has no argument 'command'; it takes bits"),
        ("quantized_bits", {"keep_negative": 2}, "keep_negative=2 is not True, False, 1 or 0"),
        ("quantized_bits", {"symmetric": 3}, "symmetric=3 is not True, False, 1 or 0"),
        ("quantized_bits", {"symmetric": None}, "symmetric=None is not"),
        ("quantized_bits", {"integer": -3}, "integer=-3 is not a whole number of bits from 0 to 30"),
        ("quantized_bits", {"integer": 31}, "integer=31 is not"),
        ("quantized_bits", {"integer": 1.0}, "integer=1.0 is not"),
        (
            "quantized_bits",
            {"alpha": "other"},
            "alpha='other' is not a number within 2..64, 'auto' or 'auto_po2', or None",
        ),
        ("quantized_bits", {"alpha": [[0.5], ["x"]]}, "is not a number within"),
        ("quantized_bits", {"scale_axis": "last"}, "scale_axis='last' is not an axis"),
        ("quantized_bits", {"use_ste": "yes"}, "use_ste='yes' is not True"),
        ("quantized_relu", {"negative_slope": 0.3}, "negative_slope=0.3 is not 0 or a power of two"),
        ("quantized_relu", {"negative_slope": -0.5}, "negative_slope=-0.5 is not"),
        ("quantized_relu", {"bits": 31}, "bits=31 is not"),
        ("quantized_relu", {"relu_upper_bound": -1}, "relu_upper_bound=-1 is not a number from 0 to 2..64"),
        ("quantized_ulaw", {"u": 255}, "u=255 is not a number above 0.001 with a decimal point"),
        ("quantized_hswish", {"relu_shift": 0}, "relu_shift=0 is not a number above 0"),
        ("ternary", {"number_of_unrolls": 2**40}, "number_of_unrolls=1099511627776 is not a whole number from 1 to 64"),
        ("ternary", {"threshold": "auto"}, "threshold='auto' is not a number within"),
        ("quantized_po2_zero", {"min_exp": -200}, "min_exp=-200 is not a whole number from -126 to 127"),
        ("quantized_apot", {"terms": 4}, "terms=4 is not a whole number from 2 to 3"),
        ("quantized_grid", {"bits": [4, 0]}, "is not a whole number of bits from 1 to 64, or a list of them"),
        ("quantized_grid", {"integer": []}, "or a list of them"),
    ],
)
def test_arguments_are_held_against_their_meaning(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        check_arguments(name, args, "kernel_quantizer")
    with pytest.raises(UnsupportedError, match=message):
        check_weight_quantizer(QuantizerConfig(name, args), "kernel")


def test_weight_quantizers() -> None:
    for name in POSITIONAL:
        args = {"use_stochastic_rounding": True, "alpha": "auto_po2"}
        own = {key: value for key, value in args.items() if key in ARGUMENTS[name]}
        check_weight_quantizer(QuantizerConfig(name, own), "kernel")
    check_weight_quantizer(None, "kernel")
    for name, args, message in (
        ("bernoulli", {}, "kernel quantizer 'bernoulli' is random at inference"),
        ("quantized_linear", {}, "kernel quantizer 'quantized_linear' is not supported; use one of"),
        ("quantized_bits", {"qnoise_factor": 0.0}, "only partly quantized"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            check_weight_quantizer(QuantizerConfig(name, args), "kernel")


def test_positional_arguments_have_the_order_of_qkeras() -> None:
    spec = find_spec("qkeras")
    if spec is None or spec.origin is None:
        pytest.skip("qkeras is not installed")
    tree = ast.parse((Path(spec.origin).parent / "quantizers.py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name in set(POSITIONAL) - {"quantized_po2_zero", "quantized_apot", "quantized_grid"}:
        init = next(f for f in classes[name].body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
        arguments = tuple(argument.arg for argument in init.args.args[1:])
        assert arguments[: len(POSITIONAL[name])] == POSITIONAL[name]
        assert [key for key in ARGUMENTS[name] if key in arguments] == list(arguments)
        more = {"quantized_hswish": {"keep_negative"}, "quantized_bits": {"post_training_scale"}}
        assert set(ARGUMENTS[name]) - set(arguments) == more.get(name, set())


def test_short_name() -> None:
    assert short_name("qkeras>QDense") == short_name("QDense") == "QDense"
