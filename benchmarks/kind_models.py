"""Small nets, one for each kind of layer of the field, on scikit-learn's digits or on series of its own.

A row of `KINDS` builds a net and its samples. Every net ends in scores of classes or in numbers of a regression, and
every tensor of it lies on a grid, so that Keras, the integer graph and hardware can be compared bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.train import load_tensorflow
from flow.train.attention import FixedLayerNormalization, FixedSoftmax, multi_head_attention

tf, keras, qkeras = load_tensorflow()
layers = keras.layers
Array = NDArray[Any]
WEIGHT, BIAS, STATE = "quantized_bits(6,0,1,alpha=1)", "quantized_bits(8,1,1,alpha=1)", "quantized_bits(8,0,1,alpha=1)"
RELU, SIGNED = "quantized_relu(6,2)", "quantized_bits(7,2,1,alpha=1)"
FINEST = 32
"""Weights of layers that Keras has and QKeras has not are rounded to multiples of 1 / FINEST after training."""
CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """Samples: `x` by the names of ports if there are several."""

    x_train: Any
    y_train: Array
    x_test: Any
    y_test: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """A net to train.

    Attributes:
        what: the layers that it is about, for the table.
        build: makes the net.
        data: makes its samples.
        loss: what is trained for: scores of classes, unless it is a regression.
        epochs: of training.
        jit: whether it trains under XLA: TensorFlow's own kernels for the processor lack its gradients.
        reuse_factor: of its HLS projects, the nearest legal one for each op; above 1 with strategy Resource.
    """

    what: str
    build: Callable[[], Any]
    data: Callable[[], Data]
    loss: Any = CLASSES
    epochs: int = 20
    jit: bool = False
    reuse_factor: int = 1


# -- data


def digits(*shape: int, scale: float = 1 / 16) -> Callable[[], Data]:
    """Return what loads the digits: 1,437 to train, 360 to test."""

    def load() -> Data:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        x = (x * scale).reshape(-1, *shape).astype(np.float32)
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order].astype(np.int64)
        return Data(x_train=x[:1437], y_train=y[:1437], x_test=x[1437:], y_test=y[1437:])

    return load


def patches() -> Data:
    """Return digits as four patches of 4 x 4 pixels."""

    def cut(x: Array) -> Array:
        return x.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 16)

    data = digits(8, 8)()
    return replace(data, x_train=cut(data.x_train), x_test=cut(data.x_test))


def noisy(segments: bool) -> Callable[[], Data]:
    """Return what loads digits with noise, and what they were: which pixels are ink, or the picture itself."""

    def load() -> Data:
        data, rng = digits(8, 8, 1)(), np.random.default_rng(1)

        def blur(x: Array) -> Array:
            return np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1).astype(np.float32)

        def target(x: Array) -> Array:
            return (x[..., 0] > 0.375).astype(np.int64) if segments else x

        made = {"x_train": blur(data.x_train), "x_test": blur(data.x_test)}
        return Data(**made, y_train=target(data.x_train), y_test=target(data.x_test))

    return load


def pairs() -> Data:
    """Return pairs of digits; a label says whether both are the same."""
    data, rng = digits(64)(), np.random.default_rng(2)

    def paired(x: Array, y: Array, count: int) -> tuple[dict[str, Array], Array]:
        left = rng.integers(0, len(x), count)
        right = np.array([rng.choice(np.flatnonzero((y == y[one]) == bool(n % 2))) for n, one in enumerate(left)])
        return {"left": x[left], "right": x[right]}, (y[left] == y[right]).astype(np.int64)

    x_train, y_train = paired(data.x_train, data.y_train, 4000)
    x_test, y_test = paired(data.x_test, data.y_test, 360)
    return Data(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def photographs() -> Data:
    """Return patches of 8 x 16 pixels of two photographs, standardized: one to train, one to test."""
    from sklearn.datasets import load_sample_images

    def cut(picture: Array) -> Array:
        grey = picture.mean(-1)[: picture.shape[0] // 8 * 8] / 255
        height, width = grey.shape
        return grey.reshape(height // 8, 8, width // 16, 16).transpose(0, 2, 1, 3).reshape(-1, 128)

    train, test = map(cut, load_sample_images().images)
    x_train, x_test = (((x - train.mean()) / train.std()).astype(np.float32) for x in (train, test))
    return Data(x_train=x_train, y_train=x_train, x_test=x_test[::6], y_test=x_test[::6])


def waves() -> Data:
    """Return sines, saws and squares of 32 steps with noise, each from any phase on."""

    def drawn(count: int, seed: int) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        kinds, turn = rng.integers(0, 3, count), (np.arange(32) / 16 + rng.uniform(0, 1, (count, 1))) % 1
        shapes = np.stack([np.sin(2 * np.pi * turn), 2 * turn - 1, np.sign(turn - 0.5)])
        x = shapes[kinds, np.arange(count)] + rng.normal(0, 0.3, (count, 32))
        return x[..., None].astype(np.float32), kinds

    (x_train, y_train), (x_test, y_test) = drawn(2000, 3), drawn(360, 4)
    return Data(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


# -- parts


def dense(units: int, name: str, bias: str = BIAS) -> Any:
    return qkeras.QDense(units, kernel_quantizer=WEIGHT, bias_quantizer=bias, name=name)


def conv(filters: int, size: int, name: str, kind: str = "QConv2D", **more: Any) -> Any:
    made = {"kernel_quantizer": WEIGHT, "bias_quantizer": BIAS, "padding": "same", "name": name}
    return getattr(qkeras, kind)(filters, size, **made | more)


def cast(name: str, quantizer: str = RELU) -> Any:
    return qkeras.QActivation(quantizer, name=name)


def chain(*shape: int, parts: Callable[[], list[Any]], port: str = "quantized_relu(5,0)") -> Callable[[], Any]:
    """Return what builds a chain behind a port; `parts` makes its layers."""

    def build() -> Any:
        return keras.Sequential([keras.Input(shape, name="port"), cast("quantize", port), *parts()])

    return build


def wired(*shape: int, port: str = "quantized_relu(5,0)") -> Callable[[Callable[[Any], Any]], Callable[[], Any]]:
    """Return a decorator: from a function of tensors to what builds the model behind a port."""

    def of(net: Callable[[Any], Any]) -> Callable[[], Any]:
        def build() -> Any:
            x = keras.Input(shape, name="port")
            return keras.Model(x, net(cast("quantize", port)(x)))

        return build

    return of


# -- recurrent


def cell(kind: str, units: int = 8, **more: Any) -> Any:
    """Return a recurrent layer of QKeras."""
    own = {"kernel_quantizer": WEIGHT, "recurrent_quantizer": WEIGHT, "bias_quantizer": WEIGHT}
    gates = {} if kind == "QSimpleRNN" else {"recurrent_activation": "quantized_sigmoid(6)"}
    name = {"name": more.pop("name", "cell")}
    return getattr(qkeras, kind)(
        units, activation="quantized_tanh(6)", state_quantizer=STATE, **own | gates | name | more
    )


def recurrent(*parts: Callable[[], Any], steps: int = 8) -> Callable[[], Any]:
    return chain(steps, 64 // steps, parts=lambda: [*(part() for part in parts), dense(10, "scores")])


def keras_cell(kind: str) -> Any:
    """Return a cell of Keras with functions of QKeras; its weights are rounded after training."""
    gates = {} if kind == "SimpleRNN" else {"recurrent_activation": qkeras.quantized_sigmoid(5)}
    return getattr(layers, kind)(8, activation=qkeras.quantized_tanh(5), name="cell", **gates)


# -- attention and normalization


@wired(8, 8)
def transformer(x: Any) -> Any:
    x = cast("embedded")(dense(8, "embedding")(x))
    y = cast("attended", SIGNED)(multi_head_attention(x, heads=2, key_dim=4))
    x = cast("mixed", SIGNED)(FixedLayerNormalization(name="norm1")(layers.Add(name="around1")([x, y])))
    y = cast("fed", SIGNED)(dense(8, "down")(cast("widened")(dense(16, "up")(x))))
    x = cast("block", SIGNED)(FixedLayerNormalization(name="norm2")(layers.Add(name="around2")([x, y])))
    return dense(10, "scores")(layers.Flatten(name="flat")(x))


@wired(64)
def normalized(x: Any) -> Any:
    for number in (1, 2):
        x = cast(f"relu{number}")(FixedLayerNormalization(name=f"norm{number}")(dense(16, f"dense{number}")(x)))
    return dense(10, "scores")(x)


@wired(64)
def experts(x: Any) -> Any:
    """Mix four experts by a softmax."""
    share = FixedSoftmax(bits=8, name="shares")(cast("gate", SIGNED)(dense(4, "choose")(x)))
    said = layers.Reshape((4, 8), name="experts")(cast("said")(dense(32, "all")(x)))
    return dense(10, "scores")(cast("mixed")(layers.Dot((1, 1), name="mix")([share, said])))


# -- convolutions


@wired(8, 8, 1)
def segmenting(x: Any) -> Any:
    """Halve, halve again, and come back by transposed convolutions beside what was there."""
    a = cast("a")(conv(8, 3, "conv1", strides=2)(x))
    b = cast("b")(conv(12, 3, "conv2", strides=2)(a))
    up = cast("c")(conv(8, 2, "up1", "QConv2DTranspose", strides=2)(b))
    x = layers.Concatenate(name="beside")([a, up])
    x = cast("d")(conv(6, 2, "up2", "QConv2DTranspose", strides=2)(x))
    return conv(2, 3, "scores")(x)


def denoising(interpolation: str) -> Callable[[], Any]:
    """Return what builds an autoencoder with a layer that enlarges by interpolation."""

    @wired(8, 8, 1)
    def net(x: Any) -> Any:
        x = cast("a")(conv(8, 3, "conv1", strides=2)(x))
        x = layers.UpSampling2D(2, interpolation=interpolation, name="enlarge")(x)
        return conv(1, 3, "picture")(cast("b")(conv(6, 3, "conv2")(cast("larger")(x))))

    return net


def grouped() -> list[Any]:
    parts = [conv(8, 3, "conv1", strides=2), cast("a"), conv(8, 3, "conv2", groups=4), cast("b")]
    return [*parts, layers.Flatten(name="flat"), dense(10, "scores")]


def dilated() -> list[Any]:
    parts = []
    for rate in (1, 2, 4):
        settings = {"kind": "QConv1D", "padding": "causal", "dilation_rate": rate}
        parts += [conv(6, 3, f"conv{rate}", **settings), cast(f"relu{rate}")]
    return [*parts, layers.GlobalMaxPooling1D(name="most"), dense(3, "scores")]


def atrous() -> list[Any]:
    parts = [conv(6, 3, "conv1"), cast("a"), conv(8, 3, "conv2", dilation_rate=2), cast("b")]
    return [*parts, layers.MaxPooling2D(2, name="pool"), layers.Flatten(name="flat"), dense(10, "scores")]


def channels_first() -> list[Any]:
    first = {"data_format": "channels_first"}
    parts = [conv(6, 3, "conv1", **first), cast("a"), layers.MaxPooling2D(2, name="pool", **first)]
    parts += [conv(12, 3, "conv2", **first), cast("b"), layers.GlobalAveragePooling2D(name="mean", **first)]
    return [*parts, cast("pooled"), dense(10, "scores")]


def averages() -> list[Any]:
    parts = [conv(6, 3, "conv1"), cast("a"), layers.AveragePooling2D(3, 2, "same", name="nine"), cast("pooled")]
    return [*parts, conv(12, 3, "conv2"), cast("b"), layers.GlobalAveragePooling2D(name="mean"), dense(10, "scores")]


# -- other layers


def embedding() -> Any:
    """Return a net of pixels as words: 17 shades, each a vector of two numbers that are learned."""
    port = keras.Input((64,), name="port")
    x = cast("shades", SIGNED)(layers.Embedding(17, 2, name="embedding")(port))
    x = cast("relu")(dense(16, "hidden")(layers.Flatten(name="flat")(x)))
    return keras.Model(port, dense(10, "scores")(x))


def einsum() -> list[Any]:
    parts = [layers.EinsumDense("abc,cd->abd", output_shape=(8, 6), bias_axes="d", name="rows"), cast("a")]
    parts += [layers.EinsumDense("abc,bcde->ade", output_shape=(4, 4), bias_axes=None, name="heads"), cast("b")]
    return [*parts, layers.Flatten(name="flat"), dense(10, "scores")]


def time_distributed() -> list[Any]:
    """Return the layers of a net that sees two halves of a picture by the same small net."""
    half = [keras.Input((4, 8, 1)), conv(4, 3, "conv"), cast("a"), layers.MaxPooling2D(2, name="pool")]
    seen = keras.Sequential([*half, layers.Flatten(name="flat")], name="half")
    return [layers.TimeDistributed(seen, name="halves"), *_of_halves()]


def _of_halves() -> list[Any]:
    parts = [layers.TimeDistributed(dense(8, "inner"), name="each"), cast("b")]
    return [*parts, layers.Flatten(name="both"), dense(10, "scores")]


def siamese() -> Any:
    """Return a net that says whether two digits are the same: the product of what one net makes of each."""
    ports, shared, ends = [], dense(16, "shared"), []
    for side in ("left", "right"):
        ports.append(keras.Input((64,), name=side))
        x = shared(cast(f"{side}_port", "quantized_relu(5,0)")(ports[-1]))
        ends.append(cast(f"{side}_vector", SIGNED)(x))
    x = cast("alike", "quantized_bits(9,5,1,alpha=1)")(layers.Dot(1, name="dot")(ends))
    return keras.Model(ports, dense(2, "scores")(cast("steps")(dense(8, "hidden", "quantized_bits(9,4,1,alpha=1)")(x))))


@wired(64)
def maxout(x: Any) -> Any:
    """Take the larger of two sums, and the smaller of that and a third."""
    sums = [cast(f"sum{number}", SIGNED)(dense(16, f"dense{number}")(x)) for number in range(3)]
    x = layers.Minimum(name="min")([layers.Maximum(name="max")(sums[:2]), sums[2]])
    return dense(10, "scores")(cast("relu")(x))


@wired(4, 16)
def interacting(x: Any) -> Any:
    """Return an interaction network (Battaglia et al., 2016): four nodes, twelve edges, matrices of zeros and ones."""
    edges = [(to, source) for to in range(4) for source in range(4) if to != source]
    receives, sends = (np.eye(4, dtype=np.float32)[[edge[end] for edge in edges]] for end in (0, 1))
    ends = layers.Concatenate(name="ends")([tf.linalg.matmul(receives, x), tf.linalg.matmul(sends, x)])
    effect = cast("effect")(dense(4, "edge2")(cast("edge")(dense(8, "edge1")(ends))))
    seen = layers.Concatenate(name="seen")([x, cast("sum")(tf.linalg.matmul(receives.T, effect))])
    node = cast("node2", RELU)(dense(8, "nodes2")(cast("node1")(dense(12, "nodes1")(seen))))
    return dense(10, "scores")(cast("graph", "quantized_relu(8,4)")(tf.reduce_sum(node, axis=1)))


def autoencoder() -> list[Any]:
    """Return the dense autoencoder of 10 bits with stock batch normalization: 128-72-72-8-72-72-128."""
    weight = "quantized_bits(10,2,alpha=1)"
    made: list[Any] = []
    for number, units in enumerate((72, 72, 8, 72, 72)):
        made.append(qkeras.QDense(units, kernel_quantizer=weight, bias_quantizer=weight, name=f"dense{number}"))
        made += [layers.BatchNormalization(name=f"norm{number}"), cast(f"relu{number}", "quantized_relu(10,3)")]
    return [*made, qkeras.QDense(128, kernel_quantizer=weight, bias_quantizer=weight, name="series")]


KINDS: Mapping[str, Kind] = {
    "simple_rnn": Kind(what="`QSimpleRNN`", build=recurrent(lambda: cell("QSimpleRNN", 12)), data=digits(8, 8)),
    "lstm": Kind(what="`QLSTM`", build=recurrent(lambda: cell("QLSTM")), data=digits(8, 8)),
    "gru": Kind(what="`QGRU`", build=recurrent(lambda: cell("QGRU")), data=digits(8, 8)),
    "keras_rnn": Kind(what="`SimpleRNN` of Keras", build=recurrent(lambda: keras_cell("SimpleRNN")), data=digits(8, 8)),
    "keras_lstm": Kind(
        what="`LSTM` of Keras, 4 steps", build=recurrent(lambda: keras_cell("LSTM"), steps=4), data=digits(4, 16)
    ),
    "keras_gru": Kind(
        what="`GRU` of Keras, 4 steps", build=recurrent(lambda: keras_cell("GRU"), steps=4), data=digits(4, 16)
    ),
    "bidirectional": Kind(
        what="`Bidirectional` of `QGRU`, a `QSimpleRNN` behind it",
        build=recurrent(
            lambda: layers.Bidirectional(cell("QGRU", 4, return_sequences=True), name="both"),
            lambda: cell("QSimpleRNN", 8, name="after"),
        ),
        data=digits(8, 8),
    ),
    "attention": Kind(
        what="a transformer block: `multi_head_attention`, `FixedLayerNormalization`",
        build=transformer,
        data=digits(8, 8),
    ),
    "layer_normalization": Kind(what="`FixedLayerNormalization`", build=normalized, data=digits(64)),
    "softmax": Kind(what="`FixedSoftmax` inside: a mixture of experts", build=experts, data=digits(64)),
    "transposed": Kind(what="`QConv2DTranspose`: segmentation", build=segmenting, data=noisy(True)),
    "grouped": Kind(what="`QConv2D` in 4 groups", build=chain(8, 8, 1, parts=grouped), data=digits(8, 8, 1), jit=True),
    "dilated": Kind(
        what="`QConv1D`, causal, dilations 1, 2, 4",
        build=chain(32, 1, parts=dilated, port="quantized_bits(6,1,alpha=1)"),
        data=waves,
    ),
    "atrous": Kind(what="`QConv2D`, dilation 2", build=chain(8, 8, 1, parts=atrous), data=digits(8, 8, 1)),
    "channels_first": Kind(
        what="`channels_first`", build=chain(1, 8, 8, parts=channels_first), data=digits(1, 8, 8), jit=True, epochs=40
    ),
    "embedding": Kind(what="`Embedding`", build=embedding, data=digits(64, scale=1.0)),
    "einsum": Kind(what="`EinsumDense`", build=chain(8, 8, parts=einsum), data=digits(8, 8)),
    "time_distributed": Kind(
        what="`TimeDistributed` of a model and of a layer",
        build=chain(2, 4, 8, 1, parts=time_distributed),
        data=digits(2, 4, 8, 1),
    ),
    "dot": Kind(what="`Dot`: are two digits the same?", build=siamese, data=pairs),
    "extremes": Kind(what="`Minimum`, `Maximum`", build=maxout, data=digits(64)),
    "interaction": Kind(what="an interaction network: matrices of constants", build=interacting, data=patches),
    "averages": Kind(
        what="`AveragePooling2D` over 3 x 3, padded; `GlobalAveragePooling2D`",
        build=chain(8, 8, 1, parts=averages),
        data=digits(8, 8, 1),
        epochs=40,
    ),
    "nearest": Kind(what="`UpSampling2D`: denoising", build=denoising("nearest"), data=noisy(False), loss="mse"),
    "bilinear": Kind(
        what="`UpSampling2D`, bilinear: denoising", build=denoising("bilinear"), data=noisy(False), loss="mse"
    ),
    "autoencoder": Kind(
        what="dense, 10 bits, stock `BatchNormalization`: 128-72-72-8-72-72-128; HLS with reuse factor 72",
        build=chain(128, parts=autoencoder, port="quantized_bits(16,3,alpha=1)"),
        data=photographs,
        loss="mse",
        epochs=40,
        reuse_factor=72,
    ),
}
