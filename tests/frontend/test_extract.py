"""Extract: whole models of any shape, and the refusal, by name, of what has no exact form."""

from __future__ import annotations

import numpy as np
import pytest
from keras_configs import (
    BITS,
    FC,
    RELU,
    arrays,
    conv,
    dense,
    evaluate,
    functional,
    kinds,
    layer,
    model,
    named,
    port,
    reads,
    values,
)
from nets import s, u

from flow.errors import UnsupportedError
from flow.findings import Hit
from flow.frontend.extraction import extract, quantizes_its_input
from flow.frontend.trained import TrainedModel
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding
from flow.ir.graph import BatchNorm, Conv, Dense, Gather, Input, Lookup, MaxPool, Merge, Relu, Requantize, Reshape
from flow.ir.passes import lower
from flow.ir.reference import run


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
            warnings=(Hit("", "w", ""),),
        )
    )
    assert kinds(graph) == [Conv, BatchNorm, Requantize, MaxPool, Reshape, Dense]
    assert graph.inputs[0].cast == Cast(
        s(4),
        Rounding.RND_CONV,
        Overflow.SAT,
    )
    assert graph.inputs[0].layers == ("in", "act_in") and graph["pool"].layers == ("pool", "drop")
    assert graph["act"].fused == ("relu", "requantize") and graph["act"].format == FixedFormat(False, 2, 2)
    assert graph.warnings[0] == "w" and "the final softmax ('fc') is left off the hardware" in graph.warnings[1]
    weight = graph["cv"]
    assert (
        isinstance(weight, Conv)
        and weight.weight.codes[0, :, 0, 0].tolist() == [2, 0, 1]
        and weight.weight.format == s(5, 1)
    )
    assert not weight.bias.codes.any()
    assert [op.kind for op in lower(graph).ops] == ["input", "conv", "maxpool", "reshape", "dense"]


def test_the_port_of_a_model_that_does_not_quantize_its_input() -> None:
    plain = model(port(3), dense(), weights=FC)
    assert not quantizes_its_input(plain) and extract(plain, u(5, 2)).inputs[0].format == u(5, 2)
    with pytest.raises(UnsupportedError, match=r"m: layer 'in' .*does not quantize its input; give --input-format"):
        extract(plain)
    quantizing = model(port(3), layer("QActivation", "q", activation=BITS), dense(), weights=FC)
    assert quantizes_its_input(quantizing)
    with pytest.raises(UnsupportedError, match="quantizes its own input, so its port has that format"):
        extract(quantizing, u(4))
    assert not quantizes_its_input(model(port(3), layer("Activation", "a", activation="relu")))
    behind = model(port(3), layer("Dropout", "d"), layer("QActivation", "q", activation=BITS), dense(), weights=FC)
    assert quantizes_its_input(behind) and extract(behind).inputs[0].format == s(4)


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
    assert isinstance(op, Conv) and op.shape == (3, 3, 2) and op.window.padding == (1, 2, 0, 1)
    graph = extract(model(port(5, 5, 1), layer("MaxPooling2D", "p", pool_size=2, strides=None, padding="same")), u(3))
    op = graph["p"]
    assert isinstance(op, MaxPool) and op.shape == (3, 3, 1) and op.window.padding == (0, 1, 0, 1)


def test_a_residual_block() -> None:
    """Both branches meet on one grid; the skip is the op behind the first activation."""
    graph = extract(
        functional(
            named("x", 4),
            reads(layer("QActivation", "q", activation=BITS), "x"),
            reads(dense("a", units=4, use_bias=False), "q"),
            reads(layer("Add", "sum"), "a", "q"),
            reads(layer("QActivation", "act", activation=RELU), "sum"),
            outputs=["act"],
            weights={"a": arrays(4, 4)},
        )
    )
    assert kinds(graph) == [Dense, Merge, Requantize]
    assert graph["sum"].inputs == ("a", "op_x") and graph.inputs[0].layers == ("x", "q")
    kernel = arrays(4, 4)["kernel"]
    x = np.array([3, -2, 5, 1])
    assert values(graph, x).tolist() == (np.clip(np.rint((x @ kernel + x) * 4), 0, 15) / 4).tolist()
    assert [op.kind for op in lower(graph).ops] == ["input", "dense", "merge"]


MERGED = {
    "Add": lambda a, b: a + b,
    "Subtract": lambda a, b: a - b,
    "Multiply": lambda a, b: a * b,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Average": lambda a, b: (a + b) / 2,
}


@pytest.mark.parametrize("kind", MERGED)
def test_merges_on_two_grids(kind: str) -> None:
    layers = [
        named("a", 2, 3),
        named("b", 2, 3),
        reads(layer("QActivation", "qa", activation="quantized_bits(5,2,alpha=1)"), "a"),
        reads(layer("QActivation", "qb", activation="quantized_relu(4,1)"), "b"),
        reads(layer(kind, "m"), "qa", "qb"),
    ]
    graph = extract(functional(*layers, outputs=["m"]))
    assert [op.format for op in graph.inputs] == [s(5, 2), u(4, 3)] and graph.output.layers == ("m",)
    codes = np.array([[1, -2, 3, -16, 15, 0], [15, 0, 7, 1, 2, 8]])
    a, b = codes[0] / 4, codes[1] / 8
    assert values(graph, codes.reshape(-1)).reshape(-1).tolist() == MERGED[kind](a, b).tolist()


def test_merges_broadcast_as_keras_does() -> None:
    """A tensor of lower rank gets axes behind the batch, as (1, 1, channels)."""
    layers = [named("a", 2, 2, 3), named("b", 3), reads(layer("Multiply", "m"), "a", "b")]
    graph = extract(functional(*layers, outputs=["m"]), s(4))
    assert kinds(graph) == [Gather, Merge] and graph["m_spread"].shape == (2, 2, 3)
    a, b = np.arange(-6, 6).reshape(2, 2, 3), np.array([1, -2, 3])
    assert np.array_equal(values(graph, np.concatenate([a.reshape(-1), b])), a * b)
    wrong = functional(named("a", 4), named("b", 3), reads(layer("Add", "m"), "a", "b"), outputs=["m"])
    with pytest.raises(UnsupportedError, match=r"m: layer 'm' \(Add\): its configuration or arrays do not fit"):
        extract(wrong, s(4))


def test_an_average_of_three_is_a_table_behind_its_quantizer() -> None:
    """Keras multiplies by 1 / 3 in float32, which decides its ties."""
    ports = [named(name, 2) for name in "abc"]
    act = reads(layer("QActivation", "act", activation="quantized_bits(4,1,alpha=1)"), "m")
    quantized = functional(*ports, reads(layer("Average", "m"), "a", "b", "c"), act, outputs=["act"])
    graph = extract(quantized, s(4, 2), evaluate=evaluate)
    assert kinds(graph) == [Merge, Lookup] and graph["act"].layers == ("m", "act")
    sums = np.arange(-8, 8)
    for total in sums:
        found = values(graph, [total, total, 0, 0, 0, 0]).tolist()
        assert found == [np.clip(np.rint(np.float32(total / 4) / 3 * 4), -8, 7) / 4] * 2


def test_a_model_that_only_quantizes() -> None:
    act = layer("QActivation", "act", activation="quantized_relu(4,2)")
    graph = extract(model(port(3), act))
    assert [(type(op), op.layers) for op in graph.ops] == [(Input, ("in", "act")), (Requantize, ("act",))]
    assert graph.output.format == graph.inputs[0].format == FixedFormat(False, 2, 2)

    told = extract(model(port(3), act), s(3, 3))
    assert [(type(op), op.layers) for op in told.ops] == [(Input, ("in",)), (Requantize, ("act",))]
    assert values(told, [-4, 1, 3]).tolist() == [0, 0, 0.5]  # 1 and 3 of 8 are ties


def test_a_model_that_does_nothing() -> None:
    graph = extract(model(port(3), layer("Dropout", "drop", rate=0.5)), s(3, 3))
    assert [type(op) for op in graph.ops] == [Input, Requantize]
    assert values(graph, [-4, 1, 3]).tolist() == [-0.5, 0.125, 0.375]


def test_several_outputs() -> None:
    weights = {"a": arrays(3, 2), "b": arrays(2, 2)}
    layers = [named("port", 3), reads(dense("a", use_bias=False), "port"), reads(dense("b", use_bias=False), "a")]
    graph = extract(functional(*layers, outputs=["b", "a", "port"], weights=weights), u(4))
    assert graph.outputs == ("op_b", "a", "port")
    found = run(graph, np.array([[1, 2, 3]]))
    kernel = arrays(3, 2)["kernel"] * 2
    assert found.codes["a"][0].tolist() == (np.array([1, 2, 3]) @ kernel).tolist()


def test_a_shared_layer_is_an_op_for_each_call() -> None:
    shared = {**dense("d", use_bias=False), "name": "d", "inbound_nodes": [[["a", 0, 0, {}]], [["b", 0, 0, {}]]]}
    last = {**reads(layer("Subtract", "m")), "inbound_nodes": [[["d", 0, 0, {}], ["d", 1, 0, {}]]]}
    graph = extract(
        functional(named("a", 3), named("b", 3), shared, last, outputs=["m"], weights={"d": arrays(3, 2)}), s(4)
    )
    assert [op.name for op in graph.ops] == ["a", "op_b", "d", "d_2", "m"]
    assert graph["d_2"].layers == ("d#2",)
    assert np.array_equal(graph["d"].weight.codes, graph["d_2"].weight.codes)  # type: ignore[attr-defined]


def test_a_nested_model_is_its_layers() -> None:
    body = {"name": "body", "layers": [port(3), dense("fc")]}
    nested = {"class_name": "Sequential", "config": body}
    graph = extract(model(port(3), nested, weights={"body/fc": FC["fc"]}), u(4))
    flat = extract(model(port(3), dense("fc"), weights=FC), u(4))
    assert graph.output.layers == ("body/fc",) and graph.output.name == "body_fc"
    x = [1, 2, 3]
    assert values(graph, x).tolist() == values(flat, x).tolist()


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


# -- refusals


KERNEL = np.ones((3, 2), np.float32)
POOL = {"pool_size": [2, 2]}
ACT = layer("QActivation", "act", activation=RELU)
REFUSED: dict[str, tuple[TrainedModel, str]] = {
    "unknown source": (
        functional(named("x", 3), reads(dense(), "other"), outputs=["fc"]),
        "m: layer 'fc' reads 'other', which no layer before it gives",
    ),
    "not connected": (model(port(3), {"config": {}}), r"m: its layers cannot be connected \(KeyError"),
    "weight quantizer": (
        model(port(3), dense(kernel_quantizer="bernoulli()"), weights=FC),
        r"layer 'fc' \(QDense\): kernel quantizer 'bernoulli' is random",
    ),
    "bias quantizer": (
        model(port(3), dense(bias_quantizer="own()"), weights=FC),
        "bias quantizer 'own' is not supported",
    ),
    "activation": (
        model(port(3), dense(activation="swoosh"), weights=FC),
        "activation quantizer 'swoosh' is not supported; use one of",
    ),
    "scale of the data": (
        model(port(3), layer("QActivation", "a", activation="quantized_bits(4,alpha='auto')")),
        "layer 'a' .*alpha='auto' is not supported",
    ),
    "nothing to evaluate with": (
        model(port(3), layer("Activation", "t", activation="tanh"), ACT),
        "layer 'act' .*tanh, quantized_relu is a table that QKeras fills; pass evaluate",
    ),
    "raw function": (
        model(port(3), layer("Activation", "t", activation="tanh")),
        r"m: output 't' \(Activation\): tanh is a table",
    ),
    "wide table": (
        model(
            port(3),
            dense(),
            layer("QActivation", "h", activation="quantized_hswish(6,2,alpha=1)"),
            weights={"fc": arrays(3, 2, bias=2) | {"kernel": KERNEL * 2.0**16 + 1}},
        ),
        "quantized_hswish of 2[0-9] bits; functions that fall somewhere have at most 16: quantize its input first",
    ),
    "average among states": (
        functional(
            named("a", 3, 3, 1),
            reads(layer("AveragePooling2D", "p", pool_size=[1, 3]), "a"),
            reads(layer("Embedding", "rows"), "p"),
            outputs=["rows"],
            weights={"rows": {"table": np.ones((2, 1), np.float32)}},
        ),
        r"layer 'rows' .*reads an average over 3, which no binary fraction holds; put a quantizer",
    ),
    "wider than QKeras computes": (
        model(
            port(3, 1),
            layer("GlobalAveragePooling1D", "p"),
            layer("QActivation", "a", activation="quantized_relu(62,2)"),
        ),
        "bits=62 is not a whole number of bits from 1 to 30",
    ),
    "slopes": (
        model(port(3), layer("PReLU", "p"), weights={"p": {"slope": np.float32([0.1, 0.2, 0.3])}}),
        r"layer 'p' .*its slopes need 2\d bits to be exact, more than 16",
    ),
    "slopes of another shape": (
        model(port(3), layer("PReLU", "p"), weights={"p": {"slope": np.float32([1, 2])}}),
        "layer 'p' ",
    ),
    "softmax over rows": (
        model(port(3, 2), layer("Softmax", "sm", axis=1)),
        "axis=1 is not supported; use the last one",
    ),
    "samples joined": (
        functional(named("a", 3), named("b", 3), reads(layer("Concatenate", "m", axis=0), "a", "b"), outputs=["m"]),
        r"joins samples \(axis=0\)",
    ),
    "shapes that do not join": (
        functional(named("a", 3, 2), named("b", 2, 3), reads(layer("Concatenate", "m"), "a", "b"), outputs=["m"]),
        "its configuration or arrays do not fit",
    ),
    "interpolation": (
        model(port(2, 2, 1), layer("UpSampling2D", "m", size=[2, 2], interpolation="bicubic")),
        "interpolation='bicubic' is not supported; use 'nearest' or 'bilinear'",
    ),
    "nothing left": (model(port(3, 2), layer("Cropping1D", "m", cropping=[2, 1])), "leaves nothing of its input"),
    "size of a reshape": (
        model(port(3, 2), layer("Reshape", "m", target_shape=[5])),
        r"target_shape \(5,\) does not hold",
    ),
    "no size of a crop": (model(port(3, 2), layer("Cropping1D", "m")), r"do not fit \(KeyError: 'cropping'\)"),
    "pool on vector": (
        model(port(3), layer("MaxPooling2D", "p", **POOL)),
        r"reads a tensor of shape \(3,\); its windows \(2, 2\) need 3 axes",
    ),
    "conv on vector": (
        model(port(3), conv(use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        r"kernel \(3, 3, 1, 2\) in 1 groups does not fit its input of shape \(3,\)",
    ),
    "depthwise of other channels": (
        model(port(4, 4, 4), layer("QDepthwiseConv2D", "cv", use_bias=False), weights={"cv": arrays(3, 3, 2, 2)}),
        "does not fit its input of 4 channels",
    ),
    "transposed of other channels": (
        model(
            port(7, 2),
            layer("Conv1DTranspose", "cv", strides=[1], padding="valid"),
            weights={"cv": arrays(3, 4, 3, bias=4)},
        ),
        r"kernel \(3, 4, 3\) does not fit its input of shape \(7, 2\)",
    ),
    "groups": (
        model(port(4, 4, 3), conv(groups=2, use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        r"kernel \(3, 3, 1, 2\) in 2 groups does not fit",
    ),
    "kernel of other rank": (
        model(port(3), dense(), weights={"fc": arrays(1, 3, 2, bias=2)}),
        r"kernel \(1, 3, 2\) does not fit; it has 2 axes",
    ),
    "padding": (
        model(port(4, 4, 1), conv(padding="full", use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        "padding 'full' is not supported; use 'valid' or 'same'",
    ),
    "no layers": (model(), "m: the model has no layers"),
    "unknown layer": (
        model(port(3), layer("ConvLSTM1D", "l")),
        r"layer 'l': ConvLSTM1D is not supported; use one of InputLayer, QDense",
    ),
    "lambda": (model(port(3), layer("Lambda", "l", function="os.system")), "layer 'l': Lambda is not supported"),
    "open shape": (model(port(None, 3), dense(), weights=FC), r"the input shape \[None, None, 3\] is not fixed"),
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
        model(port(3), dense(use_bias=False), weights={"fc": {"kernel": KERNEL * np.float32([1e-12, 1.1])}}),
        r"kernel needs \d+ bits to be exact, more than 53",
    ),
    "kernel of other input": (
        model(port(4), dense(), weights=FC),
        r"kernel \(3, 2\) does not fit its input of shape \(4,\)",
    ),
    "kernel of other units": (model(port(3), dense(units=5), weights=FC), "does not fit"),
    "bias of other length": (model(port(3), dense(), weights={"fc": arrays(3, 2, bias=1)}), "does not fit"),
    "batch norm of other length": (
        model(
            port(3),
            layer("BatchNormalization", "b"),
            weights={"b": {"scale": np.float32([1]), "offset": np.float32([0])}},
        ),
        "does not fit",
    ),
    "another order of axes": (
        model(port(4, 4, 1), conv(data_format="NCHW", use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        "data_format='NCHW' is not known; use 'channels_last' or 'channels_first'",
    ),
    "window too large": (
        model(port(2, 4, 1), conv(use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        r"window \(3, 3\) is larger than its input",
    ),
    "batch norm axis": (
        model(port(4, 4, 2), layer("BatchNormalization", "b", axis=2)),
        r"layer 'b' .*normalizes axis 2; only the last one and the first one",
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
        "reads a batch normalization whose results have more than 62 bits",
    ),
    "after softmax": (model(port(3), layer("Softmax", "sm"), dense(), weights=FC), "comes after the softmax 'sm'"),
    "two softmax": (model(port(3), layer("Softmax", "sm"), layer("Softmax", "sm2")), "comes after the softmax 'sm'"),
    "kernel of other filters": (
        model(port(4, 4, 1), conv(filters=3, use_bias=False), weights={"cv": arrays(3, 3, 1, 2)}),
        "its arrays have 2 outputs, which does not fit filters=3",
    ),
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
