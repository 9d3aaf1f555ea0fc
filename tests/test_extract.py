"""Extract: hand-written Keras configurations to graphs, and the refusal, by name, of what has no exact form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import s, u

from flow.errors import UnsupportedError
from flow.extraction import extract, quantizes_its_input
from flow.fixed import FixedFormat, Overflow, Rounding
from flow.graph import BatchNorm, Conv2D, Dense, Flatten, IntGraph, MaxPool2D, Relu, Requantize
from flow.passes import lower
from flow.trained import TrainedModel

Entry = dict[str, Any]
BITS = {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 3, "alpha": 1}}
RELU = "quantized_relu(4,2)"


def layer(class_name: str, name: str, **config: Any) -> Entry:
    return {"class_name": class_name, "config": {"name": name, **config}}


def port(*shape: int | None) -> Entry:
    return layer("InputLayer", "in", batch_input_shape=[None, *shape])


def dense(name: str = "fc", units: int = 2, **config: Any) -> Entry:
    return layer("QDense", name, **{"units": units, "kernel_quantizer": BITS, "bias_quantizer": BITS, **config})


def conv(name: str = "cv", **config: Any) -> Entry:
    return layer("QConv2D", name, **{"strides": [1, 1], "padding": "valid", "kernel_quantizer": BITS, **config})


def arrays(*shape: int, bias: int | None = None) -> dict[str, np.ndarray]:
    weights = np.resize(np.float32([1, -2, 0, 4, 0.5]), shape)
    return {"kernel": weights} if bias is None else {"kernel": weights, "bias": np.resize(np.float32([1, -3]), bias)}


def model(*layers: Entry, weights: dict[str, Any] | None = None, **more: Any) -> TrainedModel:
    config = {"layers": list(layers), **more.pop("config", {})}
    return TrainedModel(
        name="m", class_name=more.pop("class_name", "Sequential"), config=config, weights=weights or {}, **more
    )


FC = {"fc": arrays(3, 2, bias=2)}


def kinds(graph: IntGraph) -> list[type]:
    return [type(op) for op in graph.ops[1:]]


def test_a_whole_model() -> None:
    graph = extract(
        model(
            port(6, 6, 1),
            layer("QActivation", "act_in", activation="quantized_bits(4,3,alpha=1)"),
            conv(use_bias=False),
            layer("FixedBatchNormalization", "bn", axis=[3]),
            layer("QActivation", "act", activation=RELU),
            layer("MaxPooling2D", "pool", pool_size=[2, 2], padding="valid"),
            layer("Dropout", "drop"),
            layer("Flatten", "flat"),
            dense("fc", activation="softmax"),
            weights={
                "cv": arrays(3, 3, 1, 2),
                "bn": {"scale": np.float32([0.5, 2]), "offset": np.float32([0.25, -1])},
                "fc": arrays(8, 2, bias=2),
            },
            warnings=("w",),
        )
    )
    assert kinds(graph) == [Conv2D, BatchNorm, Requantize, MaxPool2D, Flatten, Dense]
    assert (graph.input.format, graph.input.rounding, graph.input.overflow) == (s(4), Rounding.RND_CONV, Overflow.SAT)
    assert graph.input.layers == ("in", "act_in") and graph["flat"].layers == ("drop", "flat")
    assert graph["act"].fused == ("relu", "requantize") and graph["act"].format == FixedFormat(False, 2, 2)
    assert graph.warnings[0] == "w" and "the final softmax ('fc') is left off the hardware" in graph.warnings[1]
    weight = graph["cv"]
    assert (
        isinstance(weight, Conv2D)
        and weight.weight[0, :, 0, 0].tolist() == [2, 0, 1]
        and weight.weight_format == s(5, 1)
    )
    assert not weight.bias.any()
    assert [op.kind for op in lower(graph).ops] == ["input", "conv2d", "maxpool2d", "flatten", "dense"]


def test_the_port_of_a_model_that_does_not_quantize_its_input() -> None:
    plain = model(port(3), dense(), weights=FC)
    assert not quantizes_its_input(plain) and extract(plain, u(5, 2)).input.format == u(5, 2)
    with pytest.raises(UnsupportedError, match=r"m: layer 'in' .*does not quantize its input; give --input-format"):
        extract(plain)
    quantizing = model(port(3), layer("QActivation", "q", activation=BITS), dense(), weights=FC)
    assert quantizes_its_input(quantizing)
    with pytest.raises(UnsupportedError, match="quantizes its own input, so its port has that format"):
        extract(quantizing, u(4))
    assert not quantizes_its_input(model(port(3), layer("Activation", "a", activation="relu")))
    behind = model(port(3), layer("Dropout", "d"), layer("QActivation", "q", activation=BITS), dense(), weights=FC)
    assert quantizes_its_input(behind) and extract(behind).input.format == s(4)


def test_relu_forms_and_linear_layers() -> None:
    layers = [
        layer("Activation", "r1", activation="relu"),
        layer("ReLU", "r2", max_value=None, negative_slope=0.0),
        layer("Activation", "r3", activation="linear"),
    ]
    graph = extract(model(port(3), dense(activation="relu"), *layers, weights=FC), s(4))
    assert kinds(graph) == [Dense, Relu, Relu, Relu] and graph.output.layers == ("r2", "r3")


def test_same_padding_is_that_of_tensorflow() -> None:
    graph = extract(
        model(port(5, 6, 1), conv(padding="same", strides=[2, 2], use_bias=False), weights={"cv": arrays(4, 3, 1, 2)}),
        u(3),
    )
    op = graph["cv"]
    assert isinstance(op, Conv2D) and op.shape == (3, 3, 2) and op.padding == (1, 2, 0, 1)
    graph = extract(model(port(5, 5, 1), layer("MaxPooling2D", "p", pool_size=2, strides=None, padding="same")), u(3))
    op = graph["p"]
    assert isinstance(op, MaxPool2D) and op.shape == (3, 3, 1) and op.padding == (0, 1, 0, 1)


def test_functional_models_are_chains() -> None:
    def reads(entry: Entry, *sources: str) -> Entry:
        return {**entry, "inbound_nodes": [[[name, 0, 0, {}] for name in sources]]}

    ends = {"output_layers": [["fc", 0, 0]]}
    good = model(port(3), reads(dense(), "in"), weights=FC, class_name="Functional", config=ends)
    assert kinds(extract(good, u(4))) == [Dense]
    for wrong, message in (
        (
            model(port(3), reads(dense(), "other"), weights=FC, class_name="Functional", config=ends),
            "layer 'fc' reads 'other'",
        ),
        (model(port(3), dense(), weights=FC, class_name="Functional", config=ends), "layer 'fc' reads nothing"),
        (
            model(
                port(3),
                reads(dense("a"), "in"),
                reads(layer("Add", "fc"), "in", "a"),
                class_name="Functional",
                config=ends,
            ),
            "reads 'in', 'a', not the layer before it",
        ),
        (
            model(
                port(3),
                reads(dense(), "in"),
                weights=FC,
                class_name="Functional",
                config={"output_layers": [["in", 0, 0], ["fc", 0, 0]]},
            ),
            "the outputs are 'in', 'fc'; only one output",
        ),
    ):
        with pytest.raises(UnsupportedError, match=message):
            extract(wrong, u(4))


KERNEL = np.ones((3, 2), np.float32)
POOL = {"pool_size": [2, 2]}
REFUSED: dict[str, tuple[TrainedModel, str]] = {
    "no layers": (model(), "m: the model has no layers"),
    "nothing computed": (model(port(3)), "m: the model computes nothing after its input"),
    "unknown layer": (
        model(port(3), layer("LSTM", "l")),
        r"layer 'l': LSTM is not supported; use one of InputLayer, QDense",
    ),
    "lambda": (model(port(3), layer("Lambda", "l", function="os.system")), "layer 'l': Lambda is not supported"),
    "nested": (model(port(3), layer("Sequential", "inner")), "layer 'inner' is a model itself"),
    "open shape": (model(port(None, 3), dense(), weights=FC), r"the input shape \[None, None, 3\] is not fixed"),
    "weight quantizer": (
        model(port(3), dense(kernel_quantizer="binary()"), weights=FC),
        r"layer 'fc' \(QDense\): kernel quantizer 'binary'",
    ),
    "bias quantizer": (model(port(3), dense(bias_quantizer="ternary()"), weights=FC), "bias quantizer 'ternary'"),
    "activation": (model(port(3), dense(activation="tanh"), weights=FC), "activation 'tanh' is not supported"),
    "kernel missing": (model(port(3), dense()), r"layer 'fc' \(QDense\): kernel is missing from the model file"),
    "conv kernel missing": (model(port(4, 4, 1), conv()), "kernel is missing from the model file"),
    "bias missing": (
        model(port(3), dense(), weights={"fc": {"kernel": KERNEL}}),
        "bias is missing from the model file",
    ),
    "NaN": (
        model(port(3), dense(), weights={"fc": {**arrays(3, 2, bias=2), "kernel": KERNEL * np.nan}}),
        "kernel: 6 values are NaN or infinite",
    ),
    "float kernel": (
        model(port(3), dense(use_bias=False), weights={"fc": {"kernel": KERNEL * np.float32([1e-6, 1.1])}}),
        r"kernel needs \d+ bits to be exact, more than 32",
    ),
    "dense on image": (
        model(port(3, 3, 1), dense(), weights=FC),
        r"reads a tensor of shape \(3, 3, 1\); put a Flatten before it",
    ),
    "conv on vector": (
        model(port(3), conv(), weights={"cv": arrays(3, 3, 1, 2)}),
        r"reads a tensor of shape \(3,\), not \(height",
    ),
    "pool on vector": (
        model(port(3), layer("MaxPooling2D", "p", **POOL)),
        r"reads a tensor of shape \(3,\), not \(height",
    ),
    "kernel of other input": (
        model(port(4), dense(), weights=FC),
        r"kernel \(3, 2\) does not fit its input of shape \(4,\)",
    ),
    "kernel of other units": (model(port(3), dense(units=5), weights=FC), "does not fit"),
    "bias of other length": (model(port(3), dense(), weights={"fc": arrays(3, 2, bias=1)}), "does not fit"),
    "kernel of other rank": (model(port(3), dense(), weights={"fc": arrays(1, 3, 2, bias=2)}), "does not fit"),
    "conv kernel of other rank": (
        model(port(4, 4, 3), conv(use_bias=False), weights={"cv": arrays(3, 2)}),
        "does not fit",
    ),
    "batch norm of other length": (
        model(
            port(3),
            layer("BatchNormalization", "b"),
            weights={"b": {"scale": np.float32([1]), "offset": np.float32([0])}},
        ),
        "does not fit",
    ),
    "channels first": (
        model(port(4, 4, 1), conv(data_format="channels_first"), weights={"cv": arrays(3, 3, 1, 2)}),
        "data_format='channels_first' is not supported; use 'channels_last'",
    ),
    "groups": (model(port(4, 4, 2), conv(groups=2), weights={"cv": arrays(3, 3, 1, 2)}), "groups=2 is not supported"),
    "dilation": (
        model(port(4, 4, 1), conv(dilation_rate=[2, 2]), weights={"cv": arrays(3, 3, 1, 2)}),
        r"dilation_rate \[2, 2\] is not supported",
    ),
    "window too large": (
        model(port(2, 4, 1), conv(use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        r"window \(3, 3\) is larger than its input",
    ),
    "padding": (
        model(port(4, 4, 1), conv(padding="causal"), weights={"cv": arrays(3, 3, 1, 2)}),
        "padding 'causal' is not supported",
    ),
    "batch norm axis": (
        model(port(4, 4, 2), layer("BatchNormalization", "b", axis=1)),
        r"layer 'b' .*normalizes axis 1; only the last one",
    ),
    "scale missing": (
        model(port(2), layer("BatchNormalization", "b", axis=-1)),
        "scale is missing from the model file",
    ),
    "scale spans": (
        model(
            port(2),
            layer("BatchNormalization", "b"),
            weights={"b": {"scale": np.float32([1e-20, 1e10]), "offset": np.float32([0, 0])}},
        ),
        "scale: values span",
    ),
    "leaky": (model(port(3), layer("ReLU", "r", negative_slope=0.1)), r"negative_slope=0\.1 is not supported"),
    "threshold": (model(port(3), layer("ReLU", "r", threshold=[0.5])), "threshold="),
    "relu6": (model(port(3), layer("ReLU", "r", max_value=6.0)), r"max_value=6\.0 is not supported"),
    "after softmax": (model(port(3), layer("Softmax", "sm"), dense(), weights=FC), "comes after the softmax 'sm'"),
    "two softmax": (model(port(3), layer("Softmax", "sm"), layer("Softmax", "sm2")), "comes after the softmax 'sm'"),
    "wide sum": (
        model(port(3), dense(), weights={"fc": {"kernel": KERNEL * 2.0**60, "bias": np.float32([1, 1])}}),
        "may need",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    refused, message = REFUSED[case]
    with pytest.raises(UnsupportedError, match=message) as caught:
        extract(refused, u(4))
    assert str(caught.value).startswith("m: ") and "\n" not in str(caught.value)


def test_names_are_made_safe_and_unique() -> None:
    weights = {"a/b": arrays(3, 3, bias=3), "A b": arrays(3, 2, bias=2)}
    graph = extract(
        model(
            layer("InputLayer", "int", batch_input_shape=[None, 3]),
            dense("a/b", units=3),
            dense("A b"),
            weights=weights,
        ),
        u(4),
    )
    assert [op.name for op in graph.ops] == ["op_int", "a_b", "a_b_2"]
    assert [op.layers for op in graph.ops] == [("int",), ("a/b",), ("A b",)]
