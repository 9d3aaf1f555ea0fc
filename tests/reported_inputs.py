"""Inputs that made other flows fail: the situations of public bug reports, each as a small model of our own.

A row says in our words what went wrong there and what must come of it here: "exact", or "refused" with a way out. No
model, number or sentence is taken from a report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fixtures_keras import bias, bits, dense, layers, po2, qkeras, save, wired

Build = Callable[..., Any]
Shape = tuple[int, ...]
EXACT, REFUSED = "exact", "refused"
HLS4ML, QKERAS = "https://github.com/fastmachinelearning/hls4ml/issues/", "https://github.com/google/qkeras/issues/"
VECTOR: Shape = (6,)
SEQUENCE: Shape = (8, 3)
IMAGE: Shape = (6, 6, 2)
SAMPLES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A kind of input.

    Attributes:
        url: of the report.
        what: what went wrong there.
        build: the layers, as a function of its input tensors.
        shapes: of the inputs.
        becomes: `EXACT` or `REFUSED`.
        stream: whether it is about io_stream.
        options: further ones of `flow build`.
        suffix: how the model is saved.
        values: (samples, *shape) -> what the inputs are; None for normal ones.
    """

    url: str
    what: str
    build: Build
    shapes: tuple[Shape, ...] = (VECTOR,)
    becomes: str = EXACT
    stream: bool = False
    options: tuple[str, ...] = ()
    suffix: str = ".h5"
    values: Callable[[Any], Any] | None = None

    def write(self, directory: Path) -> list[object]:
        """Write the model and its inputs; return the arguments that `flow build` takes of them."""
        path = save(wired(self.build, *self.shapes), directory / f"model{self.suffix}")
        rng = np.random.default_rng(1)
        inputs = {f"in{place}": rng.normal(0, 1, (SAMPLES, *shape)) for place, shape in enumerate(self.shapes)}
        if self.values is not None:
            inputs = {name: self.values(values) for name, values in inputs.items()}
        data = directory / ("inputs.npy" if len(inputs) == 1 else "inputs.npz")
        if len(inputs) == 1:
            np.save(data, inputs["in0"].astype(np.float32))
        else:
            np.savez(data, **{name: values.astype(np.float32) for name, values in inputs.items()})
        return [path, "--inputs", data, *(("--io-type", "io_stream") if self.stream else ()), *self.options]


def port(x: Any, text: str = "quantized_bits(8,2,alpha=1)", name: str = "port") -> Any:
    return qkeras.QActivation(text, name=name)(x)


def act(x: Any, text: str = "quantized_relu(6,2)") -> Any:
    return qkeras.QActivation(text)(x)


def conv(filters: int, size: Any = 3, kernel: Any = None, **more: Any) -> Any:
    kernel = po2(4, 1) if kernel is None else kernel
    return qkeras.QConv2D(filters, size, kernel_quantizer=kernel, bias_quantizer=bias(), **more)


def conv1d(filters: int, size: int = 3, kernel: Any = None, **more: Any) -> Any:
    kernel = po2(4, 1) if kernel is None else kernel
    return qkeras.QConv1D(filters, size, kernel_quantizer=kernel, bias_quantizer=bias(), **more)


def end(x: Any, units: int = 3) -> Any:
    return dense(units, "end")(layers.Flatten()(x))


def _separable(x: Any) -> Any:
    quantizers = {"depthwise_quantizer": bits(5, 1, alpha=1), "pointwise_quantizer": po2(4, 1)}
    return end(act(qkeras.QSeparableConv1D(4, 3, **quantizers, bias_quantizer=bias())(port(x))))


def _residual(x: Any) -> Any:
    x = act(conv(3, padding="same")(port(x)))
    y = layers.BatchNormalization()(conv(3, padding="same")(x))
    return end(act(layers.Add()([y, x])))


def _two_norms(x: Any) -> Any:
    x = dense(4, "first")(port(x))
    return [act(layers.BatchNormalization()(x)), act(layers.BatchNormalization()(x), "quantized_bits(8,4,alpha=1)")]


def _two_heads(x: Any) -> Any:
    x = act(dense(5, "body")(port(x)))
    return [dense(3, "classes")(x), dense(2, "box", bits(5, 1, alpha=1))(x)]


def _binary_cnn(x: Any) -> Any:
    x = qkeras.QConv2D(4, 3, kernel_quantizer="binary(alpha=1)", use_bias=False)(port(x))
    x = qkeras.QActivation("binary(alpha=1)")(layers.BatchNormalization()(x))
    return qkeras.QDense(3, kernel_quantizer="binary(alpha=1)", use_bias=False)(layers.Flatten()(x))


def _ternary(x: Any) -> Any:
    x = qkeras.QDense(5, kernel_quantizer="ternary(alpha=1)", use_bias=False)(port(x))
    x = qkeras.QActivation("ternary(alpha=1,threshold=0.5)")(x)
    return qkeras.QDense(3, kernel_quantizer="ternary(alpha=1)", use_bias=False)(x)


def _zero_kernel(x: Any) -> Any:
    return qkeras.QDense(3, kernel_quantizer=bits(2, 8, alpha=1), bias_quantizer=bias())(port(x))


def _joined(first: Any, second: Any) -> Any:
    x = dense(2, "first")(port(first))
    joined = layers.Concatenate(axis=-2)([act(x), act(port(second, name="other"))])
    return end(joined)


def _named(*names: str) -> Build:
    def build(x: Any) -> Any:
        x = port(x)
        for name in names:
            x = act(dense(4, name)(x))
        return dense(3, "last")(x)

    return build


def _between(layer: Callable[[Any], Any], before: str = "quantized_bits(8,2,alpha=1)", after: str = "") -> Build:
    """Return a net of a quantized port, a layer, a quantizer and a dense."""
    return lambda x: end(act(layer(port(x, before)), after or "quantized_bits(8,3,alpha=1)"))


def _first(kernel: Any, activation: str = "quantized_relu(6,2)", **more: Any) -> Build:
    """Return a net of two dense layers, the first with a kernel quantizer and an activation in question."""

    def build(x: Any) -> Any:
        own = {"kernel_quantizer": kernel, "bias_quantizer": bias(), **more}
        return dense(3, "end")(qkeras.QActivation(activation)(qkeras.QDense(5, **own, name="first")(port(x))))

    return build


def _activation(text: str, before: str = "quantized_bits(6,2,alpha=1)") -> Build:
    return lambda x: dense(3, "end")(qkeras.QActivation(text)(qkeras.QActivation(before)(dense(5, "first")(port(x)))))


def _depthwise(**more: Any) -> Build:
    own = {"depthwise_quantizer": bits(5, 1, alpha=1), "bias_quantizer": bias(), **more}
    return _between(qkeras.QDepthwiseConv2D((3, 3), **own))


def _unsigned(values: Any) -> Any:
    return np.clip(np.round(np.abs(values) * 64), 0, 255)


REPORTED: Mapping[str, Reported] = {
    # quantizers of weights
    "12-bit CNN": Reported(
        url=f"{HLS4ML}640",
        what="a CNN of 12 bits agreed with its simulation on some images only",
        build=lambda x: end(
            layers.MaxPooling2D(2)(act(conv(3, 3, bits(12, 3, alpha=1))(port(x)), "quantized_relu(12,4)"))
        ),
        shapes=(IMAGE,),
    ),
    "no bias quantizer": Reported(
        url=f"{HLS4ML}437",
        what="a QDense without a quantizer for its bias predicted at random",
        build=lambda x: qkeras.QDense(3, kernel_quantizer=po2(4, 1))(port(x)),
    ),
    "power-of-two activations": Reported(
        url=f"{HLS4ML}385",
        what="a net of AutoQKeras with quantized_relu_po2 and quantized batch norm lost a quarter of its accuracy",
        build=_first(po2(4, 1), "quantized_relu_po2(4,2)"),
    ),
    "QConv1D and pooling": Reported(
        url=f"{HLS4ML}326",
        what="a 1D CNN gave random outputs after conversion",
        build=lambda x: end(layers.MaxPooling1D(2)(act(conv1d(4)(port(x))))),
        shapes=(SEQUENCE,),
    ),
    "all bits are fraction": Reported(
        url=f"{HLS4ML}874",
        what="weights of quantized_bits(8,0) never agreed with QKeras",
        build=_first(bits(8, 0, alpha=1), "quantized_relu(10,2)"),
    ),
    "wide powers of two": Reported(
        url=f"{HLS4ML}346",
        what="quantized_po2 of 12 bits and a large max_value in a QConv1D did not compile",
        build=lambda x: end(act(conv1d(2, 3, po2(12, 4095))(port(x)), "quantized_relu(12,12)")),
        shapes=(SEQUENCE,),
    ),
    "no alpha": Reported(
        url=f"{QKERAS}129",
        what="quantized_bits without alpha scaled by a factor that its documentation does not mention",
        build=_first(bits(5, 1)),
    ),
    "alpha='auto'": Reported(
        url=f"{QKERAS}134",
        what="nobody could say how a scale of alpha='auto' gets into hardware",
        build=_first(bits(5, 1, alpha="auto")),
    ),
    "alpha='auto_po2'": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/531",
        what="a scale of one bit became a type that its compiler refused",
        build=_first(bits(5, 1, alpha="auto_po2")),
    ),
    "17-bit powers of two": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/806",
        what="a shift by many bits was given more bits than a vendor's tool takes",
        build=_first(po2(6, 2**12)),
    ),
    "more than 10 bits": Reported(
        url=f"{QKERAS}60",
        what="users saw values of 11 and 12 bits that seemed not to be quantized",
        build=_first(bits(12, 2, alpha=1)),
    ),
    "all weights become zero": Reported(
        url="https://github.com/calad0i/HGQ2/issues/11",
        what="a coarse quantizer made a kernel of zeros and nothing was said",
        build=_zero_kernel,
    ),
    "binary CNN": Reported(
        url=f"{HLS4ML}740",
        what="a binary CNN with batch norm and sign did not compile",
        build=_binary_cnn,
        shapes=(IMAGE,),
    ),
    "ternary": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/328",
        what="thresholds of ternary activations were taken as another number",
        build=_ternary,
    ),
    # activations
    "activation as a keyword": Reported(
        url=f"{HLS4ML}248",
        what="an activation given to QDense itself stopped the conversion",
        build=lambda x: dense(3, "end")(dense(5, "first", activation="quantized_relu(6,2)")(port(x))),
    ),
    "activation as an object": Reported(
        url=f"{HLS4ML}563",
        what="Activation(ReLU()) stopped the conversion with an error about strings",
        build=lambda x: dense(3, "end")(act(layers.Activation(layers.ReLU())(dense(5, "first")(port(x))))),
    ),
    "use_sigmoid": Reported(
        url=f"{HLS4ML}463",
        what="the third argument of quantized_relu was not read",
        build=_activation("quantized_relu(8,0,1)"),
    ),
    "binary_tanh": Reported(
        url=f"{HLS4ML}455",
        what="an activation was converted into a function that did not exist for streams",
        build=_activation("binary_tanh"),
        stream=True,
    ),
    "quantized_tanh": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/569",
        what="the quantized function was compared with the float one",
        build=_activation("quantized_tanh(5)"),
    ),
    "quantized_sigmoid": Reported(
        url="https://github.com/google/qkeras/pull/63",
        what="a sigmoid left the range 0 to 1",
        build=_activation("quantized_sigmoid(5)"),
    ),
    "quantized_relu of one argument": Reported(
        url=f"{HLS4ML}377",
        what="quantized_relu(4) and quantized_relu(10) had the wrong type",
        build=_first(po2(4, 1), "quantized_relu(10)"),
    ),
    "leaky quantized_relu": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/987",
        what="negative_slope was dropped, so that negative values became zero",
        build=_first(po2(4, 1), "quantized_relu(8,3,negative_slope=0.25)"),
    ),
    "LeakyReLU": Reported(
        url=f"{HLS4ML}1076",
        what="the slope was no argument of the function that was called",
        build=_between(layers.LeakyReLU(alpha=0.25)),
    ),
    "PReLU with shared axes": Reported(
        url=f"{HLS4ML}1328",
        what="the slopes of a PReLU were not written into the project",
        build=_between(layers.PReLU(shared_axes=[1])),
        shapes=(SEQUENCE,),
        becomes=REFUSED,
    ),
    "signed type behind a ReLU": Reported(
        url="https://github.com/Xilinx/finn/issues/682",
        what="an activation of a signed type that is never negative was refused without a way out",
        build=lambda x: end(act(layers.ReLU()(dense(5, "first")(port(x))), "quantized_bits(6,2,alpha=1)")),
    ),
    "softmax as an activation": Reported(
        url=f"{HLS4ML}1431",
        what="a softmax given to the last dense did not compile",
        build=lambda x: dense(3, "end", activation="softmax")(port(x)),
    ),
    "softmax in hardware": Reported(
        url=f"{HLS4ML}115",
        what="outputs of a softmax were greater than 1",
        build=lambda x: layers.Activation("softmax")(act(dense(3, "end")(port(x)), "quantized_bits(8,3,alpha=1)")),
        options=("--softmax", "ufixed<8,0>"),
    ),
    "softmax and argmax": Reported(
        url=f"{HLS4ML}1512",
        what="tables of a softmax changed which class is the largest",
        build=lambda x: layers.Softmax()(act(dense(4, "end")(port(x)), "quantized_bits(8,3,alpha=1)")),
    ),
    # batch normalization
    "batch norm first": Reported(
        url=f"{HLS4ML}228",
        what="a batch norm behind the input read an array that was never written",
        build=_between(layers.BatchNormalization()),
    ),
    "batch norm behind 1 x 1": Reported(
        url=f"{HLS4ML}368",
        what="batch norm was folded into a pointwise convolution, whose old weights were written",
        build=_between(lambda x: layers.BatchNormalization()(conv1d(4, 1)(x))),
        shapes=(SEQUENCE,),
    ),
    "QConv2DBatchnorm": Reported(
        url=f"{HLS4ML}978",
        what="a folded convolution of 16 bits overflowed in simulation",
        build=_between(qkeras.QConv2DBatchnorm(2, 3, kernel_quantizer=bits(8, 2, alpha=1), bias_quantizer=bias())),
        shapes=(IMAGE,),
    ),
    "QDepthwiseConv2DBatchnorm": Reported(
        url=f"{QKERAS}87",
        what="weights of a folded depthwise convolution were not quantized when they were exported",
        build=_between(
            qkeras.QDepthwiseConv2DBatchnorm((3, 3), depthwise_quantizer=bits(4, 0, alpha=1), use_bias=False)
        ),
        shapes=(IMAGE,),
    ),
    "batch norm without scale": Reported(
        url=f"{QKERAS}83",
        what="without a gamma, the other parameters were rounded by the wrong quantizers",
        build=_between(layers.BatchNormalization(scale=False)),
    ),
    # convolutions
    "stride beyond the window": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/340",
        what="strides larger than the window were computed as others",
        build=_between(conv(3, 1, strides=2)),
        shapes=(IMAGE,),
        stream=True,
    ),
    "odd padding": Reported(
        url="https://github.com/tensorflow/tensorflow/issues/17654",
        what="'same' with stride 2 pads on one side only, which others pad on both",
        build=_between(conv(3, 3, strides=2, padding="same")),
        shapes=(IMAGE,),
    ),
    "depth multiplier": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/1008",
        what="a depth multiplier was dropped and the shape with it",
        build=_depthwise(depth_multiplier=2),
        shapes=(IMAGE,),
    ),
    "depthwise": Reported(
        url=f"{HLS4ML}1471",
        what="every second channel of a depthwise convolution was wrong",
        build=_depthwise(padding="same"),
        shapes=(IMAGE,),
        stream=True,
    ),
    "separable": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/861",
        what="the result between both steps of a separable convolution had a type of its own",
        build=_separable,
        shapes=(SEQUENCE,),
    ),
    "groups": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/1486",
        what="a grouped convolution was computed as a dense one",
        build=_between(conv(4, 3, groups=2)),
        shapes=(IMAGE,),
    ),
    "dilation": Reported(
        url=f"{HLS4ML}1508",
        what="dilation was ignored without a word",
        build=_between(conv1d(3, 3, dilation_rate=2)),
        shapes=(SEQUENCE,),
    ),
    "causal": Reported(
        url=f"{HLS4ML}687",
        what="causal padding was not known",
        build=_between(conv1d(3, 3, padding="causal")),
        shapes=(SEQUENCE,),
    ),
    "transposed": Reported(
        url=f"{HLS4ML}896",
        what="a transposed convolution was not known",
        build=_between(
            qkeras.QConv2DTranspose(2, (2, 2), strides=(2, 2), kernel_quantizer=po2(4, 1), bias_quantizer=bias())
        ),
        shapes=((3, 3, 2),),
    ),
    # pooling
    "average over all": Reported(
        url=f"{HLS4ML}311",
        what="the sum of an average over the whole image overflowed in the type of its input",
        build=_between(layers.AveragePooling2D(6)),
        shapes=(IMAGE,),
        stream=True,
    ),
    "average of one pixel": Reported(
        url=f"{HLS4ML}995",
        what="pooling of one pixel with stride 2 took other pixels",
        build=_between(layers.AveragePooling2D(1, strides=2)),
        shapes=(IMAGE,),
    ),
    "average rounded": Reported(
        url=f"{HLS4ML}1297",
        what="an average was cut off to the grid of its input",
        build=_between(layers.AveragePooling2D(2)),
        shapes=(IMAGE,),
    ),
    "padded average": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/757",
        what="an average padded on the left read the wrong pixels and divided by the wrong number",
        build=_between(layers.AveragePooling2D(3, strides=2, padding="same")),
        shapes=(IMAGE,),
    ),
    "global pooling of a sequence": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/399",
        what="a global average of a sequence overflowed as a stream",
        build=_between(layers.GlobalAveragePooling1D()),
        shapes=(SEQUENCE,),
        stream=True,
    ),
    "QAveragePooling2D": Reported(
        url=f"{HLS4ML}466",
        what="QKeras' own average was not known",
        build=_between(qkeras.QAveragePooling2D((2, 2), average_quantizer=bits(6, 0, alpha=1))),
        shapes=(IMAGE,),
    ),
    "maximum before the activation": Reported(
        url="https://github.com/Xilinx/finn/issues/123",
        what="a maximum was moved past a threshold, which holds only where the threshold rises",
        build=lambda x: end(act(layers.MaxPooling2D(2)(conv(3)(port(x))))),
        shapes=(IMAGE,),
    ),
    # topology
    "residual": Reported(
        url=f"{HLS4ML}132",
        what="the two ways of a residual block were not added",
        build=_residual,
        shapes=(IMAGE,),
    ),
    "residual as streams": Reported(
        url=f"{HLS4ML}707",
        what="one copy of a stream was read twice and the other never",
        build=_residual,
        shapes=(IMAGE,),
        stream=True,
    ),
    "two norms of one dense": Reported(
        url=f"{HLS4ML}436",
        what="batch norms behind a branch were dropped",
        build=_two_norms,
        stream=True,
    ),
    "two heads": Reported(
        url=f"{HLS4ML}1147",
        what="of two outputs only the last was converted",
        build=_two_heads,
    ),
    "concatenation by axis": Reported(
        url=f"{HLS4ML}202",
        what="the shape of a concatenation was the sum along every axis",
        build=lambda x: end(layers.Concatenate(axis=1)([act(port(x)), act(conv1d(3, 1)(port(x, name="again")))])),
        shapes=(SEQUENCE,),
    ),
    "inputs of two ranks": Reported(
        url=f"{HLS4ML}317",
        what="a dense on a sequence of one, joined with a second input, lost an axis",
        build=_joined,
        shapes=((1, 3), (1, 2)),
    ),
    "an operator on tensors": Reported(
        url=f"{HLS4ML}841",
        what="slices and sums in the code of a model are layers without a name",
        build=lambda x: dense(3, "end")(act(port(x)[:, :4])),
    ),
    "Lambda": Reported(
        url=f"{HLS4ML}396",
        what="a Lambda holds Python code, which no converter reads",
        build=lambda x: dense(3, "end")(act(layers.Lambda(lambda y: y * 2)(port(x)))),
        becomes=REFUSED,
    ),
    # moving codes
    "permuted image": Reported(
        url=f"{HLS4ML}712",
        what="a permutation of three axes had no form as a stream",
        build=_between(layers.Permute((3, 1, 2))),
        shapes=(IMAGE,),
        stream=True,
    ),
    "enlarged": Reported(
        url=f"{HLS4ML}517",
        what="an image was enlarged in another order than Keras does",
        build=_between(layers.UpSampling2D(2)),
        shapes=((3, 3, 2),),
        stream=True,
    ),
    "padded by a layer": Reported(
        url=f"{HLS4ML}393",
        what="a layer that pads was named as known and refused",
        build=_between(layers.ZeroPadding2D(((1, 0), (0, 2)))),
        shapes=(IMAGE,),
    ),
    "cropped": Reported(
        url=f"{HLS4ML}1308",
        what="a layer that crops was not known",
        build=_between(layers.Cropping2D(((1, 0), (0, 2)))),
        shapes=(IMAGE,),
    ),
    # inputs, names, files
    "inputs of 0 to 255": Reported(
        url=f"{HLS4ML}456",
        what="unsigned inputs of 8 bits were given a type with a sign",
        build=lambda x: dense(3, "end")(act(dense(4, "first")(x))),
        options=("--input-format", "ufixed<8,8>"),
        values=_unsigned,
    ),
    "inputs off the grid": Reported(
        url=f"{HLS4ML}397",
        what="inputs that the first quantizer rounds were rounded otherwise in simulation",
        build=_first(po2(4, 1)),
        values=lambda values: values / 255,
    ),
    "a layer called input": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/482",
        what="the name of a layer was one that the converter used itself",
        build=_named("input", "result_t"),
    ),
    "a layer called out_": Reported(
        url="https://github.com/fastmachinelearning/hls4ml/pull/1391",
        what="two names became one in the generated code",
        build=_named("out_first", "first"),
    ),
    "a dash in a name": Reported(
        url="https://github.com/plaidml/plaidml/issues/241",
        what="a name with a dash was written into code as it is",
        build=_named("conv4-1", "conv4.1"),
    ),
    "a .keras file": Reported(
        url=f"{HLS4ML}831",
        what="the newer file format was not read",
        build=_first(po2(4, 1)),
        suffix=".keras",
    ),
}
"""Each kind by name."""
