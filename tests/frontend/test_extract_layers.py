"""Extract: what convolutions, poolings and moves must compute, from their definitions in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras_configs import FC, RELU, Entry, arrays, dense, functional, kinds, layer, model, named, port, reads, values
from nets import s, u

from flow.errors import UnsupportedError
from flow.frontend.extraction import extract
from flow.ir.graph import Conv, Gather, MaxPool, Relu, Requantize, Reshape, SumPool
from flow.ir.passes import lower
from flow.ir.reference import run_output

# -- sums of products


def correlate(x: np.ndarray, kernel: np.ndarray, strides: int = 1) -> np.ndarray:
    """Return the valid correlation over one axis: x (length, channels), kernel (window, channels, filters)."""
    count = (len(x) - len(kernel)) // strides + 1
    return np.array([np.tensordot(x[i * strides : i * strides + len(kernel)], kernel, 2) for i in range(count)])


X = np.arange(-7, 7).reshape(7, 2)
"""Codes of a sequence of seven positions and two channels."""


def conv1d(class_name: str = "QConv1D", **config: Any) -> Entry:
    return layer(class_name, "cv", **{"strides": [1], "padding": "valid", "use_bias": False, **config})


@pytest.mark.parametrize("class_name", ["QConv1D", "Conv1D"])
def test_conv1d(class_name: str) -> None:
    kernel = arrays(3, 2, 4)["kernel"]

    def found(**config: Any) -> list[Any]:
        return values(
            extract(model(port(7, 2), conv1d(class_name, **config), weights={"cv": {"kernel": kernel}}), s(4)), X
        ).tolist()

    assert found() == correlate(X, kernel).tolist()
    assert found(strides=[2]) == correlate(X, kernel, 2).tolist()
    assert found(padding="causal") == correlate(np.pad(X, ((2, 0), (0, 0))), kernel).tolist()
    assert found(padding="same") == correlate(np.pad(X, ((1, 1), (0, 0))), kernel).tolist()
    spread = np.zeros((5, 2, 4))
    spread[::2] = kernel
    assert found(dilation_rate=[2]) == correlate(X, spread).tolist()
    assert found(padding="causal", dilation_rate=2) == correlate(np.pad(X, ((4, 0), (0, 0))), spread).tolist()
    halves = extract(model(port(7, 2), conv1d(class_name, groups=2), weights={"cv": {"kernel": kernel[:, :1]}}), s(4))
    apart = [correlate(X[:, g : g + 1], kernel[:, :1, 2 * g : 2 * g + 2]) for g in range(2)]
    assert values(halves, X).tolist() == np.concatenate(apart, axis=-1).tolist()


@pytest.mark.parametrize("class_name", ["QDepthwiseConv2D", "DepthwiseConv2D"])
def test_depthwise_keeps_the_order_of_channels(class_name: str) -> None:
    """Channel c with multiplier m is output channel c * multipliers + m."""
    kernel = arrays(3, 1, 2, 2)["kernel"]
    entry = layer(class_name, "cv", strides=[1, 1], padding="valid", use_bias=False)
    graph = extract(model(port(7, 1, 2), entry, weights={"cv": {"kernel": kernel}}), s(4))
    expected = [correlate(X[:, c : c + 1], kernel[:, 0, c : c + 1, m : m + 1]) for c in range(2) for m in range(2)]
    assert values(graph, X[:, np.newaxis])[:, 0].tolist() == np.concatenate(expected, axis=-1).tolist()
    assert graph.output.fused == ("depthwise_conv2d",)


def test_separable_has_no_rounding_in_between() -> None:
    weights = {
        "depthwise_kernel": arrays(3, 2, 2)["kernel"],
        "pointwise_kernel": arrays(1, 4, 3)["kernel"],
        "bias": np.float32([1, 0, -2]),
    }
    entry = conv1d("QSeparableConv1D", use_bias=True, strides=[2])
    graph = extract(model(port(7, 2), entry, weights={"cv": weights}), s(4))
    assert kinds(graph) == [Conv, Conv] and graph.output.layers == ("cv",)
    d = weights["depthwise_kernel"]
    between = np.concatenate(
        [correlate(X[:, c : c + 1], d[:, c : c + 1, m : m + 1], 2) for c in range(2) for m in range(2)], axis=-1
    )
    assert values(graph, X).tolist() == (correlate(between, weights["pointwise_kernel"]) + weights["bias"]).tolist()


def transposed(x: np.ndarray, kernel: np.ndarray, stride: int, length: int, before: int) -> np.ndarray:
    """Return the gradient of a convolution: each pixel adds its kernel (window, filters, channels) at its place."""
    out = np.zeros((length + 64, kernel.shape[1]))
    for i, pixel in enumerate(x):
        for k, row in enumerate(kernel):
            out[32 + i * stride + k - before] += row @ pixel
    return out[32 : 32 + length]


@pytest.mark.parametrize(
    ("config", "length", "before"),
    [
        ({"strides": [2], "padding": "valid"}, 15, 0),
        ({"strides": [2], "padding": "same"}, 14, 0),
        ({"strides": [1], "padding": "same"}, 7, 1),
        ({"strides": [3], "padding": "valid"}, 21, 0),
        ({"strides": [2], "padding": "same", "output_padding": [0]}, 13, 1),
        ({"strides": [3], "padding": "valid", "output_padding": [1]}, 22, 0),
    ],
)
def test_transposed_convolutions(config: dict[str, Any], length: int, before: int) -> None:
    kernel = arrays(3, 4, 2)["kernel"]
    entry = conv1d("Conv1DTranspose", **config)
    graph = extract(model(port(7, 2), entry, weights={"cv": {"kernel": kernel}}), s(4))
    assert kinds(graph) == [Gather, Conv] and graph.output.shape == (length, 4)
    assert values(graph, X).tolist() == transposed(X, kernel, config["strides"][0], length, before).tolist()


def test_qkeras_drops_the_output_padding() -> None:
    kernel = arrays(3, 3, 1, 2)["kernel"]
    entry = layer("QConv2DTranspose", "cv", strides=[2, 2], padding="same", output_padding=[0, 0], use_bias=False)
    graph = extract(model(port(4, 4, 2), entry, weights={"cv": {"kernel": kernel}}), u(3))
    assert graph.output.shape == (8, 8, 1)


def test_a_folded_convolution_has_a_bias_without_use_bias() -> None:
    folded = layer("QConv2DBatchnorm", "cv", strides=[1, 1], padding="valid", use_bias=False)
    graph = extract(model(port(4, 4, 1), folded, weights={"cv": arrays(3, 3, 1, 2, bias=2)}), u(3))
    op = graph["cv"]
    assert isinstance(op, Conv) and op.bias.codes.tolist() == [1, -3]


def test_dense_works_on_the_last_axis() -> None:
    graph = extract(model(port(2, 2, 3), dense(), weights=FC), u(4))
    x = np.arange(12).reshape(2, 2, 3)
    assert values(graph, x).tolist() == (x @ FC["fc"]["kernel"] + FC["fc"]["bias"]).tolist()


# -- pooling


def test_averages_divide_in_the_cast_of_the_quantizer() -> None:
    graph = extract(
        model(
            port(4, 3, 1),
            layer("AveragePooling2D", "p", pool_size=[3, 3], strides=[1, 1], padding="valid"),
            layer("QActivation", "act", activation="quantized_bits(6,3,alpha=1)"),
        ),
        u(4),
    )
    assert kinds(graph) == [SumPool, Requantize] and graph["act"].cast.divisor == 9
    assert graph["p"].layers == () and graph["act"].layers == ("p", "act")
    x = np.arange(12).reshape(4, 3, 1)
    assert values(graph, x).reshape(-1).tolist() == [4.0, 7.0]
    assert [op.cast.divisor for op in lower(graph).ops] == [1, 9]


def test_averages_at_the_edge_are_over_real_pixels() -> None:
    pool = layer("AveragePooling1D", "p", pool_size=[3], strides=[1], padding="same")
    act = layer("QActivation", "act", activation="quantized_relu(8,4)")
    graph = extract(model(port(3, 1), pool, act), u(4))
    assert graph["act"].cast.divisor == 3 and graph["p"].weight.codes.tolist() == [3, 2, 3]  # type: ignore[attr-defined]
    means = np.array([11 / 2, 12 / 3, 5 / 2]) * 16
    assert run_output(graph, np.array([[[7], [4], [1]]]))[0, :, 0].tolist() == np.rint(means).tolist()


@pytest.mark.parametrize("class_name", ["GlobalAveragePooling1D", "GlobalAveragePooling2D", "QGlobalAveragePooling2D"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_averages_of_powers_of_two_are_exact(class_name: str, keepdims: bool) -> None:
    shape = (4, 3) if "1D" in class_name else (2, 2, 3)
    graph = extract(model(port(*shape), layer(class_name, "p", keepdims=keepdims)), u(4))
    x = np.arange(12).reshape(shape)
    assert graph.output.layers == ("p",)
    assert graph.output.shape == ((1,) * (len(shape) - 1) + (3,) if keepdims else (3,))
    assert values(graph, x).reshape(-1).tolist() == x.reshape(4, 3).mean(axis=0).tolist()


def test_the_average_quantizer_multiplies_sums() -> None:
    """QKeras: the mean times the area times what the quantizer makes of 1 / area."""
    pool = layer(
        "QAveragePooling2D", "p", pool_size=[2, 2], average_quantizer="quantized_bits(3,0,alpha=1)", activation=RELU
    )
    weights = {"p": {"multiplier": np.float32(0.25)}}
    graph = extract(model(port(2, 4, 1), pool, weights=weights), u(4))
    assert kinds(graph) == [SumPool, Requantize] and graph.output.cast.divisor == 1
    assert values(graph, np.arange(8).reshape(2, 4, 1)).reshape(-1).tolist() == [2.5, 3.75]
    with pytest.raises(UnsupportedError, match="multiplier is missing from the model file"):
        extract(model(port(2, 4, 1), pool), u(4))
    nine = layer("QGlobalAveragePooling2D", "p", average_quantizer="quantized_bits(3,0,alpha=1)")
    with pytest.raises(UnsupportedError, match="multiplies a rounded average over 9 pixels; use a window of a power"):
        extract(model(port(3, 3, 1), nine, weights=weights), u(4))


def test_relus_reshapes_and_maxima_come_before_the_division() -> None:
    graph = extract(
        model(
            port(6, 1),
            layer("AveragePooling1D", "p", pool_size=[3], strides=[1], padding="valid"),
            layer("Activation", "r", activation="relu"),
            layer("MaxPooling1D", "m", pool_size=[2]),
            layer("Flatten", "f"),
            layer("QActivation", "act", activation="quantized_relu(6,4)"),
        ),
        s(4),
    )
    assert kinds(graph) == [SumPool, Relu, MaxPool, Reshape, Requantize]
    assert graph["act"].cast.divisor == 3 and graph["act"].layers == ("p", "r", "m", "f", "act")
    x = np.array([[-8, 1, 5, -2, 4, 7]]).T
    means = np.maximum([-2 / 3, 4 / 3, 7 / 3, 9 / 3], 0).reshape(2, 2).max(axis=1)
    assert values(graph, x).tolist() == (np.rint(means * 4) / 4).tolist()


def test_max_pooling_over_one_axis_and_over_all() -> None:
    graph = extract(model(port(7, 2), layer("MaxPooling1D", "p", pool_size=[3], strides=[2], padding="same")), s(4))
    assert values(graph, X).tolist() == [
        X[0:2].max(axis=0).tolist(),
        *(X[i : i + 3].max(axis=0).tolist() for i in (1, 3, 5)),
    ]
    graph = extract(model(port(7, 2), layer("GlobalMaxPooling1D", "p")), s(4))
    assert kinds(graph) == [MaxPool, Reshape] and values(graph, X).tolist() == X.max(axis=0).tolist()


# -- moving codes


P = np.arange(12).reshape(2, 3, 2)
MOVED: dict[str, tuple[Entry, np.ndarray]] = {
    "pad": (layer("ZeroPadding2D", "m", padding=[[1, 0], [0, 2]]), np.pad(P, ((1, 0), (0, 2), (0, 0)))),
    "pad by one number": (layer("ZeroPadding2D", "m", padding=1), np.pad(P, ((1, 1), (1, 1), (0, 0)))),
    "pad by one number per axis": (layer("ZeroPadding2D", "m", padding=[1, 2]), np.pad(P, ((1, 1), (2, 2), (0, 0)))),
    "crop": (layer("Cropping2D", "m", cropping=[[1, 0], [0, 1]]), P[1:, :2]),
    "upsample": (layer("UpSampling2D", "m", size=[2, 1], interpolation="nearest"), P.repeat(2, 0)),
    "permute": (layer("Permute", "m", dims=[3, 1, 2]), P.transpose(2, 0, 1)),
    "reshape": (layer("Reshape", "m", target_shape=[-1, 6]), P.reshape(2, 6)),
    "flatten": (layer("Flatten", "m"), P.reshape(-1)),
}


@pytest.mark.parametrize("what", MOVED)
def test_moves(what: str) -> None:
    entry, expected = MOVED[what]
    graph = extract(model(port(2, 3, 2), entry), u(4))
    assert values(graph, P).tolist() == expected.tolist() and len(graph.ops) == 2


def test_moves_over_one_axis() -> None:
    for entry, expected in (
        (layer("ZeroPadding1D", "m", padding=[1, 2]), np.pad(X, ((1, 2), (0, 0)))),
        (layer("Cropping1D", "m", cropping=[1, 2]), X[1:-2]),
        (layer("UpSampling1D", "m", size=3), X.repeat(3, 0)),
    ):
        assert values(extract(model(port(7, 2), entry), s(4)), X).tolist() == expected.tolist()
    repeated = extract(model(port(3), layer("RepeatVector", "m", n=2)), u(4))
    assert values(repeated, [1, 2, 3]).tolist() == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_concatenate(axis: int) -> None:
    layers = [
        named("a", 2, 3),
        named("b", 2, 3),
        reads(layer("QActivation", "q", activation="quantized_bits(5,2,alpha=1)"), "b"),
        reads(layer("Concatenate", "m", axis=axis), "q", "a"),
    ]
    graph = extract(functional(*layers, outputs=["m"]), u(4))
    a, b = np.arange(6).reshape(2, 3), np.arange(-3, 3).reshape(2, 3)
    expected = np.concatenate([b / 4, a], axis if axis < 0 else axis - 1)
    assert graph.output.format.frac_bits == 2
    assert values(graph, np.concatenate([a.reshape(-1), b.reshape(-1)])).tolist() == expected.tolist()
