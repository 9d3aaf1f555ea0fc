"""The table of quantizers' arguments against QKeras itself: what it accepts, QKeras computes and reads in that way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixtures_keras import qkeras

from flow.errors import FlowError
from flow.frontend.keras.arguments import ARGUMENTS
from flow.frontend.keras.quantizers import POSITIONAL, parse_quantizer
from flow.train.functions import made_quantizer

VALUES: tuple[Any, ...] = (
    *(None, True, False, -64, -1, 0, 1, 2, 11, 12, 13, 24, 30, 31, 32, 64, 65, 127, 10**40, 10**400),
    *(
        0.0,
        0.25,
        0.3,
        1.0,
        2.0,
        4.5,
        -0.5,
        1e-9,
        1e30,
        float("nan"),
        float("inf"),
        "auto",
        "auto_po2",
        "rnd",
        "floor",
        "x",
    ),
)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*deprecated - use", "ignore:The initializer", "ignore:overflow encountered in cast"
)
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("quantized_po2", "bits"): {"max_value": 1},
    ("quantized_relu_po2", "bits"): {"max_value": 1},
    ("ternary", "use_stochastic_rounding"): {"alpha": "auto"},
    ("quantized_bits", "post_training_scale"): {"alpha": "auto"},
}
"""Without these QKeras takes no value of an argument, or not the least one."""
INPUTS = np.float32([-3.3, -1, -0.6, -1e-9, 0, 0.01, 0.4, 0.7, 1, 2.6, 500])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_the_table_accepts_qkeras_computes(name: str) -> None:
    """Alone, with all other arguments left out."""
    tried = 0
    for key, kind in ARGUMENTS[name].items():
        for value in filter(kind.accepts, VALUES):
            args = {**NEEDED.get((name, key), {}), key: value}
            try:
                quantizer = made_quantizer(parse_quantizer({"class_name": name, "config": args}))  # type: ignore[arg-type]
            except FlowError as error:  # of whole tensors, or exponents outside float32's
                assert any(words in str(error) for words in ("more than one element", "-126..127", "at most 20 apart"))
                continue
            assert np.isfinite(np.asarray(quantizer(INPUTS))).all(), args
            if key in ("bits", "integer", "max_value"):  # of which a layer asks the range
                qkeras.QDense(2, kernel_quantizer=quantizer).build((None, 3))
            tried += 1
    assert tried > 5


@pytest.mark.parametrize(
    "text",
    [
        *(
            "quantized_bits(4,0,1,keep_negative=False)",
            "quantized_bits(4,0,1,False)",
            "quantized_bits(4,0,True,alpha=1.0)",
        ),
        *("quantized_bits(4,0,0x1)", "quantized_relu(4,1,+0)", "quantized_relu(1e1,1)", "quantized_bits(4,(1))"),
        *("quantized_relu(4, negative_slope=.5)", 'quantized_bits(4,0,alpha="auto")', "quantized_bits(4,0,alpha=-1)"),
        *(
            "quantized_bits(4,1_0)",
            'quantized_bits("4",1)',
            "quantized_bits(bits = 4 , integer=1)",
            "binary()",
            "binary",
        ),
        *("quantized_bits(4,1,alpha=[1,2])", "quantized_po2(4,max_value=0.5)", "quantized_bits(4,1,alpha=(1.0,2.0))"),
        *("quantized_bits(4,0,alpha=1.)", "quantized_bits(4,0,1,alpha=1e-1)", "quantized_bits(bits=4,bits=5)"),
        *("quantized_bits(4,bits=5)", "quantized_relu(4,1);", "quantized_bits(4,0,symmetric=true)", "ternary(0.5,.25)"),
        *('quantized_bits(4,0,b"1")', "quantized_bits( 4,0,\n1)", 'quantized_bits(4,0,alpha="auto_po2",)'),
        *(
            "quantized_relu(0b100,1)",
            "quantized_relu(4,1,use_sigmoid=False)",
            "quantized_bits(4,0,keep_negative=False )",
        ),
        *("quantized_bits(4,0,keep_negative= False)", "quantized_bits(4,0,alpha='auto' )", "quantized_bits(4, 0 , 1 )"),
        *(
            "quantized_tanh(4,0,1)",
            "quantized_sigmoid(4,True)",
            "quantized_hswish(8,1,relu_shift=4)",
            "quantized_bits(4,+1)",
        ),
        *(
            "quantized_bits(4,0,alpha=1e400)",
            "quantized_bits(4,0,'1')",
            "quantized_bits(004,0)",
            "quantized_bits(4,- 1)",
        ),
    ],
)
def test_a_text_is_read_as_qkeras_reads_it(text: str) -> None:
    """Or refused: a text of which QKeras makes something else would be another quantizer."""
    try:
        parsed = parse_quantizer(text)
    except FlowError:
        return
    made = qkeras.get_quantizer(text)
    made = made() if isinstance(made, type) else made
    assert parsed is not None and type(made).__name__ == parsed.name and parsed.name in POSITIONAL
    if parsed.args.get("alpha") in ("auto", "auto_po2"):
        assert made.symmetric is True
    assert {key: getattr(made, key) for key in parsed.args} == parsed.args
