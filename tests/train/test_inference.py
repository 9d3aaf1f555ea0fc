"""Software inference: exact in float32 where that can be proved, in float64 elsewhere, and refused beyond."""

from __future__ import annotations

import ast
import inspect
import re
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fixtures_keras import (
    bits,
    conv_parts,
    dense,
    functional,
    keras,
    layers,
    mlp_parts,
    po2,
    qkeras,
    save,
    sequential,
    wired,
)

from flow.data.adversarial import adversarial_inputs
from flow.errors import UnsupportedError
from flow.frontend.extraction import extract, quantizes_its_input
from flow.frontend.keras.scales import of_data
from flow.ir import reference
from flow.ir.fixed import Cast, FixedFormat, Overflow, Rounding, quantize, to_values
from flow.ir.graph import BatchNorm, IntGraph, Softmax
from flow.ir.graph import from_json as graph_from_json
from flow.ir.graph import to_json as graph_to_json
from flow.ir.intervals import exact_result, inexact_in
from flow.ir.passes import lower
from flow.train import double, inference, quiet_warnings
from flow.train.attention import FixedLayerNormalization, FixedSoftmax, multi_head_attention
from flow.train.freeze import layers_by_path
from flow.train.frozen import freeze_scales
from flow.train.functions import evaluate
from flow.train.inference import softmax_values
from flow.train.layers import QDenseBatchnorm
from flow.train.reader import KerasModel, read_keras
from flow.train.sticky import quotient_to_odd

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # QKeras' use of pyparsing
BYTE = FixedFormat(True, 0, 7)


def read(model: Any, directory: Any, name: str = "model.h5") -> KerasModel:
    return read_keras(save(model, directory / name))


def compare(
    found: KerasModel, fmt: FixedFormat | None = None, count: int = 64, unseen: tuple[str, ...] = ()
) -> tuple[str, IntGraph]:
    """Check that QKeras and the reference agree on every op; return the arithmetic used and the graph.

    Args:
        found: the model.
        fmt: format of its input ports.
        count: adversarial samples.
        unseen: kinds of ops that are the output of no layer.
    """
    extracted = extract(found.trained, fmt, evaluate=evaluate)
    lowered = lower(extracted)
    codes = adversarial_inputs(lowered, count)
    result = inference.run(found.keras, found.trained, extracted, lowered, codes)
    expected = reference.run(lowered, codes)
    assert result.level == "qkeras"
    for op in lowered.ops:
        if op.name not in result.codes:
            assert op.kind in unseen and not op.layers, f"{op.name}: QKeras' output is missing"
            continue
        np.testing.assert_array_equal(result.codes[op.name], expected.codes[op.name], op.name)
    return result.arithmetic, lowered


CAST = "quantized_bits(4,0,alpha=1)"


def first(cls: Any, *given: Any, **more: Any) -> Any:
    """Return a layer with channels first."""
    return cls(*given, data_format="channels_first", **more)


def activation_parts(width: int) -> list[Any]:
    """Return layers whose activations are layers, behind kernels of so many bits."""

    def cast(name: str) -> Any:
        return qkeras.QActivation("quantized_bits(6,2,alpha=1)", name=name)

    def part(name: str, activation: Any) -> Any:
        return dense(5, name, bits(width, 1, alpha=1), activation=activation)

    return [
        *(cast("port"), part("relu", layers.ReLU(1.5)), cast("a"), part("few", layers.LeakyReLU(0.25)), cast("b")),
        *(part("any", layers.LeakyReLU(0.3)), cast("c"), part("threshold", layers.ThresholdedReLU(0.5)), cast("d")),
        *(qkeras.QActivation(layers.ReLU(), name="own"), layers.Activation("leaky_relu", name="named"), cast("e")),
        layers.Dropout(0.5),
        part("last", layers.Softmax()),
    ]


MODELS: dict[str, tuple[tuple[int, ...], Any, str]] = {
    "everything": ((8, 8, 1), conv_parts, "float64"),
    "mlp": ((8,), mlp_parts, "float32"),
    "quantizers": (
        (6,),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            dense(5, "a", bits(5, 1, keep_negative=False, alpha=1)),
            qkeras.QActivation("quantized_bits(5,2,1,alpha=1)", name="symmetric"),
            dense(5, "b", bits(5, 0, symmetric=True, alpha=1)),
            qkeras.QActivation("quantized_bits(4,1,keep_negative=False,alpha=1)", name="positive"),
            dense(5, "c", bits(3, 0)),
            qkeras.QActivation("quantized_relu(3,5)", name="coarse"),
            dense(5, "d", po2(5)),
            layers.ReLU(name="plain_relu"),
        ],
        "float32",
    ),
    "same padding": (
        (7, 6, 2),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            qkeras.QConv2D(
                3, (3, 2), strides=2, padding="same", use_bias=False, kernel_quantizer=po2(4, 1), name="strided"
            ),
            qkeras.QActivation("quantized_relu(4,2)", name="cast"),
            layers.MaxPooling2D(2, strides=1, padding="same", name="pool"),
            qkeras.QConv2D(2, 1, kernel_quantizer=bits(4, 0), bias_quantizer=bits(4, 0, alpha=1), name="pointwise"),
            layers.Flatten(name="flat"),
        ],
        "float32",
    ),
    "symmetric port": (
        (6,),
        lambda: [qkeras.QActivation("quantized_bits(5,0,1,alpha=1)", name="port"), dense(4, "a")],
        "float32",
    ),
    "softmax, then dropout": (
        (6,),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            dense(4, "a"),
            layers.Dropout(0.5, name="drop"),
            layers.Softmax(name="softmax"),
            layers.Dropout(0.5, name="last"),
        ],
        "float32",
    ),
    "softmax of a quantizer layer": (
        (6,),
        lambda: [qkeras.QActivation(CAST, name="port"), dense(4, "a"), qkeras.QActivation("softmax", name="softmax")],
        "float32",
    ),
}


@pytest.mark.parametrize("what", MODELS)
@pytest.mark.parametrize("make", [sequential, functional])
def test_qkeras_and_reference_are_equal(what: str, make: Any, tmp_path: Any) -> None:
    shape, parts, arithmetic = MODELS[what]
    with quiet_warnings():
        found = read(make(shape, *parts()), tmp_path)
    assert compare(found)[0] == arithmetic


SEVERAL: dict[str, tuple[tuple[int, ...], Any, str]] = {
    "activations that are layers": ((6,), lambda: activation_parts(5), "float32"),
    "activations that are layers, wide": ((6,), lambda: activation_parts(18), "float64"),
    "dense with a batch norm": (
        (6,),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            QDenseBatchnorm(
                5, kernel_quantizer=bits(4, 0, alpha=1), bias_quantizer=bits(4, 0, alpha=1), activation="relu", name="a"
            ),
            qkeras.QActivation("quantized_relu(5,2)", name="cast"),
            QDenseBatchnorm(4, kernel_quantizer=po2(4, 1), use_bias=False, scale=False, name="b"),
            qkeras.QActivation("quantized_bits(5,2,alpha=1)", name="end"),
        ],
        "float64",
    ),
    "channels first": (
        (2, 6, 7),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            first(qkeras.QConv2D, 3, 3, kernel_quantizer=bits(4, 0, alpha=1), use_bias=False, name="conv"),
            layers.BatchNormalization(axis=1, name="norm"),
            qkeras.QActivation("quantized_relu(5,2)", name="cast"),
            first(layers.MaxPooling2D, 2, name="pool"),
            layers.Activation("tanh", name="function"),
            qkeras.QActivation("quantized_bits(6,2,alpha=1)", name="again"),
            first(layers.ZeroPadding2D, 1, name="pad"),
            first(qkeras.QDepthwiseConv2D, 3, depthwise_quantizer=po2(4, 1), use_bias=False, name="depthwise"),
            layers.Permute((2, 3, 1), name="last"),
            qkeras.QConv2D(2, 1, kernel_quantizer=bits(4, 0, alpha=1), use_bias=False, name="pointwise"),
            qkeras.QActivation("quantized_relu(5,3)", name="cut"),
            first(layers.Flatten, name="flat"),
            dense(3, "logits"),
        ],
        "float64",
    ),
    "each step of a sequence": (
        (4, 3),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            layers.TimeDistributed(dense(5, "inner", activation="relu"), name="outer"),
            layers.TimeDistributed(qkeras.QActivation("quantized_relu(4,2)"), name="cast"),
            layers.TimeDistributed(layers.BatchNormalization(), name="norm"),
            qkeras.QActivation("quantized_relu(4,1)", name="again"),
            layers.TimeDistributed(dense(3, "last", activation="softmax"), name="logits"),
        ],
        "float64",
    ),
    "each image of a movie": (
        (2, 5, 5, 2),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            layers.TimeDistributed(conv("inner", size=2, activation="quantized_relu(4,1)"), name="outer"),
            layers.TimeDistributed(layers.AveragePooling2D(3, 1), name="thirds"),
            qkeras.QActivation("quantized_relu(4,1)", name="cut"),
            layers.TimeDistributed(
                sequential(
                    (2, 2, 3), layers.BatchNormalization(axis=3), cast("cast"), layers.Flatten(), dense(3, "last")
                ),
                name="model",
            ),
            layers.TimeDistributed(layers.BatchNormalization(axis=1), name="norm"),
            qkeras.QActivation("quantized_relu(6,3)", name="again"),
            layers.TimeDistributed(dense(3, "logits", activation="softmax"), name="classes"),
        ],
        "float64",
    ),
    "averages without a quantizer": (
        (5, 5, 2),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            layers.AveragePooling2D(3, 2, padding="same", name="ninths"),
            conv("after", size=1, activation="relu"),
            layers.BatchNormalization(name="norm"),
            qkeras.QActivation("quantized_bits(6,2,alpha=1)", name="cut"),
            layers.GlobalAveragePooling2D(name="all"),
            dense(3, "logits", activation="softmax"),
        ],
        "float64",
    ),
    "pixels between pixels": (
        (3, 4, 2),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            layers.UpSampling2D((2, 4), interpolation="bilinear", name="fine"),
            conv("edges", activation="quantized_relu(4,1)"),
        ],
        "float32",
    ),
    "pixels between pixels of wide sums": (
        (3, 4, 2),
        lambda: [
            qkeras.QActivation("quantized_bits(16,0,alpha=1)", name="port"),
            layers.UpSampling2D(2, interpolation="bilinear", name="fine"),
            conv("edges", activation="quantized_relu(4,1)"),
        ],
        "float64",
    ),
    "dense of several axes": (
        (4, 3),
        lambda: [
            qkeras.QActivation(CAST, name="port"),
            layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d", name="one"),
            qkeras.QActivation("quantized_bits(5,2,alpha=1)", name="after_one"),
            layers.EinsumDense("...x,xyz->...yz", output_shape=(2, 3), activation="relu", name="two"),
            qkeras.QActivation("quantized_bits(5,2,alpha=1)", name="after_two"),
            layers.EinsumDense("abcd,cde->abe", output_shape=(4, 2), bias_axes="e", name="both"),
        ],
        "float64",
    ),
}
INSIDE = ("gather", "conv", "dense", "reshape", "batchnorm", "lookup", "maxpool", "sumpool", "requantize")


@pytest.mark.parametrize("what", SEVERAL)
def test_layers_that_are_several_ops(what: str, tmp_path: Any) -> None:
    shape, parts, arithmetic = SEVERAL[what]
    with quiet_warnings():
        found = read(sequential(shape, *parts()), tmp_path, "model.keras")
    assert compare(found, unseen=INSIDE)[0] == arithmetic


def test_what_averages_leave_undivided_is_told(tmp_path: Any) -> None:
    """An output is a multiple of the model's, and says of which; a quotient that is a tie is rounded as a tie."""
    x = layers.Input((3, 2), name="x")
    quarters = qkeras.QActivation("quantized_bits(4,1,alpha=1)", name="port")(x)
    average = layers.GlobalAveragePooling1D(name="average")(quarters)
    half = dense(2, "half", bits(4, 0, alpha=1), use_bias=False)(average)
    three = layers.Average(name="three")([average, half, half])
    out = layers.Concatenate(name="out")([three, dense(2, "short")(average)])
    ties = qkeras.QActivation("quantized_bits(3,1,alpha=1)", name="ties")(half)
    model = keras.Model(x, [out, ties], name="m")
    model.get_layer("half").set_weights([np.array([[0.5, 0.25], [0.5, 0.0]], np.float32)])
    arithmetic, graph = compare(read(model, tmp_path), count=256, unseen=INSIDE)
    assert arithmetic == "float64"
    assert [graph[name].denominator for name in graph.outputs] == [9, 1]
    (told,) = graph.warnings
    assert told.startswith("output 'out' is 9 times what the model computes")
    assert graph_from_json(graph_to_json(graph))[graph.outputs[0]].denominator == 9
    codes = adversarial_inputs(graph, 256)
    values = to_values(codes, graph.inputs[0].format).astype(np.float32)
    far = graph[graph.outputs[0]].numbers(reference.run(graph, codes).codes[graph.outputs[0]]) - model(values)[0]
    assert np.abs(far).max() < 1e-5


def averaging(x: Any) -> list[Any]:
    """Averages of three, bent, read by several layers and multiplied, no quantizer behind any of them."""
    x = port(x)
    thirds = layers.Average(name="thirds")([x, dense(3, "a", bits(3, 0))(x), dense(3, "b", bits(3, 0))(x)])
    kept = layers.Dropout(0.5, name="kept")(layers.ReLU(1.5, name="bent")(thirds))
    leaky = layers.LeakyReLU(0.25, name="leaky")(layers.AveragePooling1D(3, name="pooled")(kept))
    around = layers.Add(name="around")([kept, dense(3, "c", bits(3, 0))(kept)])
    squares = layers.Multiply(name="squares")([thirds, around])
    dot = layers.Dot((2, 2), name="dot")([leaky, kept])
    flat = layers.Concatenate(name="flat")([layers.Flatten(name="f")(squares), layers.Flatten(name="g")(dot)])
    fifths = layers.ReLU(6.0, name="fifths")(layers.Average(name="five")([x] * 5))
    norm = layers.BatchNormalization(name="norm")(dense(3, "d")(fifths))
    return [cast("cut")(flat), dense(2, "last")(flat), cast("normal", "quantized_relu(4,1)")(norm)]


def test_averages_are_bent_shared_and_multiplied(tmp_path: Any) -> None:
    model = wired(averaging, (3, 3))
    with quiet_warnings():
        arithmetic, graph = compare(read(model, tmp_path, "model.keras"), unseen=(*INSIDE, "merge", "leaky_relu"))
    assert arithmetic == "float64"
    assert [graph[name].denominator for name in graph.outputs] == [1, 27, 1]
    assert graph["d"].layers[-1] == "normal" and graph["d"].cast.divisor == 1  # the factors of the batch norm divide


@pytest.mark.parametrize("divisor", [3.0, 7.0, 49.0])
def test_quotients_are_rounded_to_odd(divisor: float) -> None:
    x = np.concatenate([np.arange(-300.0, 300.0), 2.0**52 + np.arange(300.0), -(2.0**52) - np.arange(300.0)])
    for number, found in zip(x, quotient_to_odd(x, divisor), strict=True):
        exact = Fraction(number) / Fraction(divisor)
        odd = np.float64(found).view(np.int64) & 1
        assert Fraction(float(found)) == exact or (odd and abs(Fraction(float(found)) - exact) < np.spacing(abs(found)))


def scaled_by_data(x: Any) -> Any:
    auto = {"kernel_quantizer": bits(4, 0, symmetric=True, alpha="auto_po2")}
    x = cast("channels", "quantized_bits(5,1,1,alpha='auto_po2')")(port(x))
    x = qkeras.QDense(3, name="d", activation=bits(6, 0, symmetric=True, alpha="auto"), **auto)(x)
    x = layers.Activation("tanh", name="tanh")(qkeras.QDense(1, name="one", **auto)(x))
    return cast("bent", "quantized_bits(5,0,1,alpha='auto_po2')")(x)


@pytest.mark.parametrize("double", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["float32", "float64"])
def test_scales_of_the_data_are_frozen_at_samples(double: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those that QKeras finds in these samples, and a file of QKeras' master with them is the same model."""
    found = read(wired(scaled_by_data, (5, 2)), tmp_path, "model.keras")
    with pytest.raises(UnsupportedError, match=r"'channels' .*alpha='auto_po2' is not supported: .*--inputs x.npy"):
        extract(found.trained, evaluate=evaluate)
    samples = np.random.default_rng(3).normal(0, [0.05, 0.9], (64, 5, 2))
    frozen = freeze_scales(found.trained, found.keras, samples)
    assert [warning.op for warning in frozen.warnings] == ["channels", "d", "bent"]
    assert re.search(r"by 2\*\*-\d to 2\*\*-1, frozen at the first 64 samples", frozen.warnings[0].reason)
    again = read_keras(tmp_path / "model.keras", frozen=frozen.config)
    assert again.trained.config == frozen.config and not list(of_data(frozen.config))
    if double:
        monkeypatch.setattr(inference, "inexact_in", lambda graph, bits: bits != inference.FLOAT64_BITS)
    arithmetic, _ = compare(KerasModel(again.keras, frozen), unseen=INSIDE)
    assert arithmetic == "float64" if double else "float32"
    read_of_port = found.keras.get_layer("port")(np.float32(samples))  # of alpha='auto_po2' QKeras finds the same
    assert np.array_equal(*(model.get_layer("channels")(read_of_port) for model in (found.keras, again.keras)))


def test_an_embedding_looks_whole_numbers_up(tmp_path: Any) -> None:
    parts = [layers.Embedding(6, 3, name="rows"), qkeras.QActivation("quantized_bits(5,2,alpha=1)", name="end")]
    model = sequential((4,), *parts)
    found = read(model, tmp_path)
    assert compare(found, FixedFormat(False, 3, 0), unseen=("gather",))[0] == "float64"
    assert quantizes_its_input(found.trained)
    for given, width in ((None, 3), (FixedFormat(True, 3, 2), 3), (FixedFormat(False, 5, 0), 5)):  # of 6 rows
        assert extract(found.trained, given, evaluate=evaluate).inputs[0].format == FixedFormat(False, width, 0)
    late = read(sequential((4,), cast("port"), layers.Embedding(6, 3, name="late")), tmp_path)
    with pytest.raises(UnsupportedError, match=r"layer 'late' .*looks rows up at s6.3, which are no whole numbers"):
        extract(late.trained, evaluate=evaluate)


def cast(name: str, text: str = "quantized_bits(6,2,alpha=1)") -> Any:
    return qkeras.QActivation(text, name=name)


def conv(name: str, filters: int = 3, size: Any = 3, **more: Any) -> Any:
    return qkeras.QConv2D(
        filters, size, kernel_quantizer=bits(4, 0), bias_quantizer=bits(6, 1, alpha=1), name=name, **more
    )


def port(x: Any, name: str = "port") -> Any:
    return cast(name, CAST)(x)


def residual(x: Any) -> Any:
    x = port(x)
    y = cast("q1", "quantized_relu(4,1)")(conv("c1", 2, padding="same")(x))
    z = layers.Add(name="sum")([x, conv("c2", 2, padding="same")(y)])
    return cast("q2")(z)


def merges(x: Any, y: Any) -> Any:
    x, y = port(x, "px"), port(y, "py")
    kinds = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
    sides = [cast(f"q{kind}")(getattr(layers, kind)(name=kind)([x, y])) for kind in kinds]
    sides.append(layers.Average(name="halves")([x, y]))
    sides.append(cast("q3")(layers.Average(name="thirds")([x, y, sides[3]])))
    return layers.Concatenate(name="all")(sides)


def products(x: Any, y: Any) -> Any:
    """Every pair of axes that fits, between a sequence and a line."""
    x, y = port(x, "px"), port(y, "py")
    sides = [layers.Dot(axes, name=f"dot{n}")([x, x]) for n, axes in enumerate([1, 2, (-1, -1)])]
    sides.append(layers.Dot((1, 2), name="left")([x, cast("q1")(layers.Permute((2, 1), name="turn")(x))]))
    sides.append(layers.Dot((1, 1), name="line")([y, x]))
    sides.append(layers.Dot(1, name="number")([y, y]))
    return layers.Concatenate(name="all")([layers.Flatten(name=f"f{n}")(side) for n, side in enumerate(sides)])


def normalizing(x: Any, y: Any) -> Any:
    """Rows of a number of channels that is no power of two, and a line that is one row."""
    x, y = port(x, "px"), port(y, "py")
    norms = [FixedLayerNormalization(name="norm", integer=1)(x), FixedLayerNormalization(6, 0, 3, name="line_norm")(y)]
    narrow = [cast(f"q{number}")(norm) for number, norm in enumerate(norms)]
    sides = [FixedSoftmax(name="shares")(narrow[0]), FixedSoftmax(4, name="line_shares")(narrow[1])]
    flat = [layers.Flatten(name=f"f{number}")(side) for number, side in enumerate([*norms, *sides])]
    return layers.Concatenate(name="all")(flat)


def attending(x: Any, y: Any) -> Any:
    """Attention of a sequence to another one, by two heads."""
    x, y = port(x, "px"), port(y, "py")
    seen = multi_head_attention(
        x, y, heads=2, key_dim=2, bits=5, integer=1, kernel_quantizer="quantized_bits(4,0,alpha=1)"
    )
    return cast("q")(layers.Add(name="around")([x, cast("seen")(seen)]))


def two_outputs(x: Any) -> Any:
    x = cast("q", "quantized_relu(4,1)")(dense(5, "trunk")(port(x)))
    return [dense(3, "left")(x), cast("ends")(dense(2, "right")(x))]


def sharing(x: Any, y: Any) -> Any:
    layer, quantize = dense(4, "twin"), cast("q", "quantized_relu(4,1)")
    return layers.Concatenate(name="both")([quantize(layer(port(x, "px"))), quantize(layer(port(y, "py")))])


def nested(x: Any) -> Any:
    """Two models whose layers have the same names inside a third, which is called twice."""
    first = sequential((4,), dense(4, "inner"), cast("quantize", "quantized_relu(4,1)"))
    second = sequential((4,), dense(4, "inner"), cast("quantize", "quantized_relu(3,1)"))
    inputs = layers.Input((4,))
    outer = keras.Model(inputs, layers.Add(name="sum")([first(inputs), second(inputs)]), name="outer")
    return dense(3, "last")(cast("q", CAST)(outer(cast("between", CAST)(outer(port(x))))))


def moving(x: Any) -> Any:
    x = layers.ZeroPadding2D(((1, 0), (2, 1)), name="pad")(port(x))
    x = layers.Cropping2D(((0, 1), (1, 0)), name="crop")(x)
    x = layers.UpSampling2D((2, 1), name="up")(x)
    x = layers.Permute((2, 1, 3), name="turn")(x)
    return layers.Reshape((-1, 2), name="shape")(x)


def pooling(x: Any) -> Any:
    x = port(x)
    sides = [
        cast("q1")(layers.AveragePooling2D(3, 2, padding="same", name="edges")(x)),
        cast("q2")(layers.AveragePooling2D((3, 2), 2, padding="same", name="odd")(x)),
        layers.AveragePooling2D(2, name="halves", padding="same")(x),
        qkeras.QAveragePooling2D(
            2, average_quantizer=bits(8, 0, alpha=1), activation="quantized_relu(4,1)", name="quantized"
        )(x),
    ]
    flat = [layers.Flatten(name=f"flat{number}")(side) for number, side in enumerate(sides)]
    flat.append(cast("q3")(layers.GlobalAveragePooling2D(name="whole")(x)))
    flat.append(layers.GlobalMaxPooling2D(name="top")(x))
    return layers.Concatenate(name="all")(flat)


def lines(x: Any) -> Any:
    """One-dimensional layers."""
    x = port(x)
    kernels = {"kernel_quantizer": bits(4, 0), "bias_quantizer": bits(6, 1, alpha=1)}
    x = qkeras.QConv1D(4, 3, padding="causal", dilation_rate=2, activation="quantized_relu(4,1)", name="c", **kernels)(
        x
    )
    x = layers.MaxPooling1D(2, name="top")(x)
    x = layers.ZeroPadding1D(1, name="pad")(x)
    x = cast("q1")(layers.AveragePooling1D(2, name="mean")(x))
    x = qkeras.QSeparableConv1D(
        3, 2, depthwise_quantizer=bits(4, 0), pointwise_quantizer=bits(4, 0), use_bias=False, name="s"
    )(x)
    return cast("q2")(layers.UpSampling1D(2, name="up")(x))


def convolutions(x: Any) -> Any:
    x = port(x)
    one = {"bias_quantizer": bits(6, 1, alpha=1), "padding": "same"}
    sides = [
        conv("dilated", 4, dilation_rate=2, padding="same")(x),
        qkeras.QDepthwiseConv2D(3, depth_multiplier=2, depthwise_quantizer=po2(4, 1), name="depthwise", **one)(x),
        qkeras.QSeparableConv2D(
            4, 3, depthwise_quantizer=bits(4, 0), pointwise_quantizer=bits(4, 0), name="separable", **one
        )(x),
        qkeras.QConv2DBatchnorm(4, 3, kernel_quantizer=bits(4, 0), name="folded", **one)(x),
        qkeras.QDepthwiseConv2DBatchnorm(
            3, depth_multiplier=2, depthwise_quantizer=bits(4, 0), name="folded_depthwise", **one
        )(x),
    ]
    return layers.Concatenate(name="all")([cast(f"q{number}")(side) for number, side in enumerate(sides)])


def transposed(x: Any) -> Any:
    x = port(x)
    more = {"kernel_quantizer": bits(4, 0), "bias_quantizer": bits(6, 1, alpha=1)}
    sides = [
        cast("q1")(qkeras.QConv2DTranspose(2, 3, strides=2, padding="same", activation="relu", name="same", **more)(x)),
        cast("q2")(
            qkeras.QConv2DTranspose(2, (2, 3), strides=2, use_bias=False, kernel_quantizer=po2(4, 1), name="valid")(x)
        ),
        cast("q3")(layers.Conv2DTranspose(2, 3, strides=2, output_padding=1, padding="same", name="more")(x)),
    ]
    line = layers.Reshape((-1, 2), name="line")(x)
    sides.append(cast("q4")(layers.Conv1DTranspose(2, 3, strides=2, name="one")(line)))
    return layers.Concatenate(name="all")([layers.Flatten(name=f"flat{n}")(side) for n, side in enumerate(sides)])


def keras_layers(x: Any) -> Any:
    """Keras' own layers, whose weights nothing quantizes."""
    x = port(x)
    sides = [
        cast("q1")(layers.SeparableConv2D(3, 2, name="separable")(x)),
        cast("q2")(layers.DepthwiseConv2D(2, name="depthwise")(x)),
        cast("q3")(layers.Conv2D(4, 2, groups=2, activation="relu", name="grouped")(x)),
        cast("q4")(layers.PReLU(shared_axes=[1], name="slopes")(x)),
        cast("q0")(layers.LocallyConnected2D(2, (2, 3), name="local")(x)),
    ]
    line = layers.Reshape((-1, 2), name="line")(x)
    lines = [
        cast("q5")(layers.SeparableConv1D(3, 2, name="separable1")(line)),
        cast("q6")(layers.DepthwiseConv1D(2, name="depthwise1")(line)),
        cast("q7")(layers.Conv1D(3, 2, padding="causal", name="past")(line)),
        cast("q9")(layers.LocallyConnected1D(3, 2, strides=3, activation="relu", name="local1")(line)),
        cast("q8")(layers.Dense(3, name="dense")(line)),
    ]
    return layers.Concatenate(name="all")([layers.Flatten(name=f"f{n}")(side) for n, side in enumerate(sides + lines)])


def normalized(x: Any) -> Any:
    x = port(x)
    y = cast("q1")(layers.BatchNormalization(name="stock")(conv("c")(x)))
    return cast("q2")(qkeras.QBatchNormalization(name="quantized")(y))


def slopes(x: Any) -> Any:
    x = port(x)
    sides = [
        cast("q1")(layers.LeakyReLU(0.25, name="quarter")(x)),
        cast("q2")(layers.LeakyReLU(0.3, name="third")(x)),
        cast("q3")(layers.ReLU(0.75, negative_slope=0.5, threshold=0.25, name="bent")(x)),
        layers.ReLU(0.5, name="clipped")(x),
        cast("q4")(layers.ELU(0.7, name="elu")(x)),
        cast("q5")(layers.ThresholdedReLU(0.3, name="cut")(x)),
    ]
    return layers.Concatenate(name="all")(sides)


def functions(x: Any) -> Any:
    x = port(x)
    texts = [
        "quantized_tanh(5)",
        "quantized_tanh(5,use_real_tanh=True)",
        "quantized_sigmoid(4,use_real_sigmoid=True)",
        "quantized_hswish(6,2)",
        "quantized_relu(5,1,negative_slope=0.25)",
        "quantized_relu(5,1,1)",
        "quantized_po2(4)",
        "quantized_relu_po2(4)",
        "quantized_bits(4,0,alpha=0.5)",
        "quantized_bits(1,0)",
        "binary(alpha=1)",
        "ternary(threshold=0.4)",
    ]
    sides = [cast(f"f{number}", text)(x) for number, text in enumerate(texts)]
    sides.append(cast("qh")(cast("h", "hard_sigmoid")(x)))
    sides += [cast(f"q{name}")(layers.Activation(name, name=name)(x)) for name in ("tanh", "softplus", "hard_sigmoid")]
    sides.append(cast("qs")(dense(3, "inside", activation="sigmoid")(x)))
    return layers.Concatenate(name="all")(sides)


NORMALIZING = ("reshape", "sumpool", "gather", "batchnorm", "merge", "lookup", "maxpool", "requantize")
WIRED: dict[str, tuple[Any, tuple[tuple[int, ...], ...], tuple[str, ...]]] = {
    "residual": (residual, ((6, 5, 2),), ()),
    "merges": (merges, ((4,), (4,)), ("merge",)),
    "products": (products, ((5, 3), (5,)), ("gather", "merge", "sumpool", "reshape")),
    "normalizing": (normalizing, ((5, 3), (8,)), NORMALIZING),
    "attending": (attending, ((5, 3), (4, 3)), (*NORMALIZING, "dense")),
    "two outputs": (two_outputs, ((6,),), ()),
    "shared layer": (sharing, ((4,), (4,)), ()),
    "nested": (nested, ((4,),), ()),
    "moving": (moving, ((5, 4, 2),), ()),
    "pooling": (pooling, ((6, 5, 2),), ("sumpool", "maxpool", "reshape")),
    "lines": (lines, ((12, 2),), ("conv", "sumpool")),
    "convolutions": (convolutions, ((5, 6, 2),), ("conv",)),
    "grouped": (lambda x: cast("q")(conv("grouped", 4, groups=2)(port(x))), ((5, 6, 2),), ()),
    "transposed": (transposed, ((4, 3, 2),), ("gather", "conv")),
    "Keras' layers": (keras_layers, ((4, 3, 2),), ("conv", "reshape", "dense")),
    "normalized": (normalized, ((5, 4, 2),), ()),
    "slopes": (slopes, ((6,),), ()),
    "functions": (functions, ((6,),), ("dense", "requantize")),
}
"""What -> its wiring, the shapes of its inputs, and the kinds of ops that are the output of no layer."""


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("what", WIRED)
def test_every_layer_and_every_wiring(what: str, double: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both arithmetics, whether float32 would do or not."""
    build, shapes, unseen = WIRED[what]
    model = wired(build, *shapes)
    for layer in layers_by_path(model).values():
        if not hasattr(layer, "quantizers") and "BatchNorm" not in type(layer).__name__:
            layer.set_weights([np.rint(weight * 8) / 8 for weight in layer.get_weights()])
    found = read(model, tmp_path, "model.keras")  # an .h5 takes no nested weights of one name
    if double:
        monkeypatch.setattr(inference, "inexact_in", lambda graph, bits: bits != inference.FLOAT64_BITS)
    only = what in ("grouped", "normalized")
    assert compare(found, unseen=unseen)[0] == ("float64" if double or only else "float32")


def test_a_port_without_a_quantizer_carries_what_the_user_said(tmp_path: Any) -> None:
    found = read(sequential((6,), dense(4, "a", activation="quantized_relu(4,1)"), dense(3, "b")), tmp_path)
    assert compare(found, BYTE)[1].inputs[0].format == BYTE


def wide(bits_in: int) -> Any:
    kernel = bits(16, 0, alpha=1)
    port = qkeras.QActivation(f"quantized_bits({bits_in},0,alpha=1)", name="port")
    return sequential((4,), port, qkeras.QDense(3, kernel_quantizer=kernel, use_bias=False, name="a"))


def test_the_arithmetic_follows_from_the_intervals(tmp_path: Any) -> None:
    narrow, broad = read(wide(5), tmp_path), read(wide(16), tmp_path)
    assert not inexact_in(extract(narrow.trained), 24)
    assert inexact_in(extract(broad.trained), 24)
    assert compare(narrow)[0] == "float32"
    assert compare(broad)[0] == "float64"


def test_functions_behind_sums_beyond_24_bits_read_them_rounded_to_float32(tmp_path: Any) -> None:
    steps = qkeras.QActivation("quantized_relu(6,0,negative_slope=0.25)", name="steps")
    found = read(sequential((4,), *wide(16).layers, steps), tmp_path)
    assert compare(found)[0] == "float64"


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("quantizer", ["quantized_relu(10,2)", "quantized_bits(6,1,alpha=1)", "binary"])
def test_a_batch_norm_beyond_53_bits_is_compared_rounded_to_odd(quantizer: str, relu: bool, tmp_path: Any) -> None:
    """What a quantizer makes of it is what it makes of the exact number, behind a ReLU too."""
    norm, between = layers.BatchNormalization(name="norm"), [layers.ReLU(name="relu")] * relu
    model = sequential((4,), *wide(16).layers, norm, *between, qkeras.QActivation(quantizer, name="q"))
    statistics = [0.9, 1.31, 0.7], [0.1, -0.1, 0.3], [0.1, 0.2, -0.1], [0.7, 0.3, 1.9]
    norm.set_weights([np.float32(each) for each in statistics])
    found = read(model, tmp_path)
    graph = extract(found.trained, evaluate=evaluate)
    op = next(op for op in graph.ops if isinstance(op, BatchNorm))
    assert exact_result(op, graph[op.inputs[0]].format).bound >= 1 << 53
    assert not inexact_in(graph, 53)
    assert compare(found)[0] == "float64"


def beyond_codes(*behind: Any) -> Any:
    """Return a sequence's sums, and lines that rise and fall, of more bits than codes have, with layers behind."""
    norm, port = layers.BatchNormalization(name="norm"), qkeras.QActivation("quantized_bits(16,0,alpha=1)", name="port")
    sums = qkeras.QDense(3, kernel_quantizer=bits(16, 0, alpha=1), use_bias=False, name="a")
    model = sequential((6, 2), port, sums, norm, *behind)
    statistics = [0.9e-5, -1.31, 0.7], [0.1, -0.1, 0.3], [0.1, 0.2, -0.1], [0.7, 0.3, 1.9]
    norm.set_weights([np.float32(each) for each in statistics])
    return model


@pytest.mark.parametrize("quantizer", ["quantized_bits(6,1,alpha=1)", "quantized_tanh(4)"])
@pytest.mark.parametrize(
    "between",
    [
        lambda: [layers.MaxPooling1D(2, name="pool")],
        lambda: [layers.ReLU(name="relu"), layers.GlobalMaxPooling1D(name="pool")],
        lambda: [layers.MaxPooling1D(2, name="pool"), layers.Flatten(name="flat"), layers.ReLU(name="relu")],
        lambda: [layers.Reshape((3, 6), name="shape")],
    ],
)
def test_a_batch_norm_beyond_codes_waits_through_poolings_and_reshapes(
    between: Any, quantizer: str, tmp_path: Any
) -> None:
    model = beyond_codes(*between(), qkeras.QActivation(quantizer, name="q"))
    unseen = ("gather", "batchnorm", "maxpool", "reshape")
    assert compare(read(model, tmp_path), unseen=unseen)[0] == "float64"


@pytest.mark.parametrize(
    "moved",
    [
        lambda: layers.ZeroPadding1D(1, name="moved"),
        lambda: layers.Cropping1D(1, name="moved"),
        lambda: layers.Permute((2, 1), name="moved"),
        lambda: layers.Reshape((9, 2), name="moved"),
        lambda: layers.AveragePooling1D(2, name="moved"),
    ],
)
def test_what_moves_a_batch_norm_beyond_codes_is_refused(moved: Any, tmp_path: Any) -> None:
    model = beyond_codes(moved(), qkeras.QActivation("quantized_bits(6,1,alpha=1)", name="q"))
    with pytest.raises(UnsupportedError, match=r"layer 'moved' .* have more than 62 bits; put a quantizer"):
        extract(read(model, tmp_path).trained, evaluate=evaluate)


def test_a_clipped_line_that_a_table_holds_is_float32_in_float64_too(tmp_path: Any) -> None:
    """-0.5 and a little is -0.5 there, and so a tie of the quantizer behind."""
    parts = [layers.BatchNormalization(name="norm"), cast("h", "hard_sigmoid"), cast("end", "quantized_relu(2,1)")]
    model = sequential((4,), cast("port", "quantized_bits(8,0,1,alpha=1)"), *parts)
    model.get_layer("norm").set_weights([np.full(4, value) for value in (2.0**-29, -0.5, 0.0, 1.0)])
    assert compare(read(model, tmp_path))[0] == "float64"


def test_sums_beyond_53_bits_are_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(wide(16), tmp_path)
    monkeypatch.setattr(inference, "FLOAT64_BITS", 20)
    with pytest.raises(UnsupportedError, match="sums need more than 20 bits"):
        compare(found)


def test_what_qkeras_itself_cannot_run_is_refused_by_name(tmp_path: Any) -> None:
    parts = [qkeras.QActivation(CAST, name="port"), qkeras.QActivation("quantized_bits(4,-1,alpha=1)", name="odd")]
    with pytest.raises(UnsupportedError, match="layer 'odd': activation: quantized_bits: integer=-1 is not a whole"):
        read_keras(save(sequential((4,), *parts, dense(2, "a")), tmp_path / "m.h5"))


def test_values_off_the_grid_are_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(sequential((4,), dense(3, "a")), tmp_path)
    monkeypatch.setattr(inference, "_outputs", lambda *given: [(slice(None), [np.full(3, 1e-9)])])
    with pytest.raises(UnsupportedError, match="not on the grid"):
        compare(found, BYTE)


@pytest.mark.parametrize("softmax", ["inside", "behind"])
def test_a_softmax_is_left_off_and_returned_apart(softmax: str, tmp_path: Any) -> None:
    inside = softmax == "inside"
    parts = [dense(4, "a", activation="softmax" if inside else None), *([] if inside else [layers.Softmax(name="s")])]
    found = read(sequential((6,), cast("port", CAST), *parts), tmp_path)
    fmt = FixedFormat(False, 0, 8)
    graph = extract(found.trained, softmax=fmt)
    codes = adversarial_inputs(graph, 50)
    result, expected = inference.run(found.keras, found.trained, graph, graph, codes), reference.run(graph, codes)
    last = graph.outputs[0]
    assert isinstance(graph[last], Softmax)
    assert result.codes.keys() == expected.codes.keys() - {last}
    for name, found_codes in result.codes.items():
        np.testing.assert_array_equal(found_codes, expected.codes[name])
    values = softmax_values(graph, result.codes)
    with quiet_warnings():
        inputs = codes.astype(np.float32) / 8
        np.testing.assert_array_equal(values[last], found.keras(inputs).numpy())
        assert getattr(found.keras.layers[-1], "activation", keras.activations.softmax) is keras.activations.softmax


def test_a_quantizer_that_float32_cannot_saturate_exactly_runs_in_float64(tmp_path: Any) -> None:
    """`x + (xq - x)` of QKeras gives 1.0 for 131073 where 127/128 is meant."""
    port = cast("port", "quantized_bits(20,19,alpha=1)")
    found = read(sequential((3,), port, layers.ReLU(name="relu"), cast("q", "quantized_bits(8,0,alpha=1)")), tmp_path)
    assert compare(found)[0] == "float64"


@pytest.mark.parametrize("rounding", double.ROUNDINGS)
@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.SAT_SYM])
@pytest.mark.parametrize("fmt", [FixedFormat(True, 1, 2), FixedFormat(False, 2, 1), FixedFormat(True, 4, -1)])
def test_inference_in_float64_casts_as_the_graph_does(rounding: Rounding, overflow: Overflow, fmt: FixedFormat) -> None:
    values, cast = np.arange(-200, 200) / 16, Cast(fmt, rounding, overflow)
    ours = np.asarray(double.cast_values(cast)(double.tf.constant(values, double.tf.float64)))
    assert np.array_equal(ours, to_values(quantize(values, cast), fmt))


@pytest.mark.parametrize("cast", [Cast(BYTE), Cast(BYTE, Rounding.RND_ZERO, Overflow.SAT)])
def test_a_cast_that_no_quantizer_has_is_refused(cast: Cast) -> None:
    with pytest.raises(UnsupportedError, match="is no activation quantizer"):
        double.cast_values(cast)


def test_layers_of_qkeras_call_nothing_that_tensorflow_lost() -> None:
    """What `load_tensorflow` gives back to them; only a function that no quantizer uses is missing."""
    missing = set()
    for name in ("qconvolutional", "qlayers", "qnormalization", "qpooling", "qrecurrent", "quantizers"):
        module = getattr(qkeras, name)
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = getattr(module, node.value.id, None)
                if isinstance(owner, ModuleType) and not hasattr(owner, node.attr):
                    missing.add(ast.unparse(node))
    assert missing == {"tf.ceil"}
