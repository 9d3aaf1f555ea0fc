"""The models of hls4ml's tests (`test/pytest`, Keras 2 and QKeras) by the file of the test: layers, shapes, settings.

Recreated from what the tests say, not copied. Weights are those that Keras draws for a new model. Left out is what is
no Keras 2 or QKeras model, or tests no model: PyTorch, ONNX, Brevitas and HGQ, layers that hls4ml brings along (GarNet)
or that a test defines, the parsing of types, writers, synthesis, and what hls4ml itself refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from flow.train import load_tensorflow

_modules = load_tensorflow()
keras, qkeras = _modules.keras, _modules.qkeras
layers = keras.layers

PADDINGS = ("same", "valid")
FOUR, EIGHT = (
    dict.fromkeys(("kernel_quantizer", "bias_quantizer"), f"quantized_bits({bits},0,alpha=1)") for bits in (4, 8)
)
Build = Callable[[], Any]


class Situation(NamedTuple):
    """A model of the suite.

    Attributes:
        test: the file that has it.
        name: what distinguishes it there.
        build: makes the model.
        port: format of the inputs that a QKeras model does not quantize itself, and of those of a float model.
        softmax: whether its softmax stays in hardware.
    """

    test: str
    name: str
    build: Build
    port: str = "fixed<16,6>"
    softmax: bool = False

    @property
    def label(self) -> str:
        """Return test and name."""
        return f"{self.test} {self.name}".strip()


def new(kind: str, *arguments: Any, **settings: Any) -> Build:
    """Return what makes a layer of Keras or QKeras."""
    return lambda: getattr(layers if hasattr(layers, kind) else qkeras, kind)(*arguments, **settings)


def chain(shape: Sequence[int], *parts: Build) -> Build:
    """Return what builds a Sequential model of layers."""
    return lambda: keras.Sequential([layers.InputLayer(tuple(shape)), *(part() for part in parts)])


def wired(build: Callable[..., Any], *shapes: Sequence[int]) -> Build:
    """Return what builds a functional model."""

    def made() -> Any:
        inputs = [layers.Input(tuple(shape)) for shape in shapes]
        return keras.Model(inputs, build(*inputs))

    return made


# -- Keras models without quantizers


def _activations() -> Iterator[Situation]:
    own = {"relu": new("ReLU"), "leaky_relu": new("LeakyReLU", alpha=1.5), "elu": new("ELU", alpha=1.25)}
    own |= {"threshold_relu": new("ThresholdedReLU", theta=0.75)}
    named = ("leaky_relu", "selu", "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid")
    own |= {f"{name} by name": new("Activation", name) for name in named}
    for (name, part), shape in product(own.items(), ((8,), (8, 8, 3))):
        yield Situation("test_activations", f"{name} {shape}", chain(shape, part))
    yield Situation("test_activations", "prelu", chain((8,), new("PReLU", alpha_initializer="ones")))
    for shape in ((8,), (8, 8, 3)):
        yield Situation("test_softsign", f"{shape}", chain(shape, new("Activation", "softsign")))
    for shape, port in product(((8,), (8, 8, 3)), ("fixed<16,6>", "fixed<9,6>")):
        softmax = chain(shape, new("Activation", "softmax"))
        yield Situation("test_softmax", f"{shape} {port}", softmax, port, softmax=True)
    yield Situation("test_softmax", "skipped", chain((10,), new("Dense", 14), new("Activation", "softmax")))


def _precision() -> Iterator[Situation]:
    dense = [
        part for units in (8, 6, 4) for part in (new("Dense", units, activation="relu"), new("BatchNormalization"))
    ]
    yield Situation("test_auto_precision", "dense", chain((4,), *dense[:-1]))
    for axes, first in product((1, 2), ("Conv", "SeparableConv")):
        parts = (new(f"{first}{axes}D", 8, 3), new(f"AveragePooling{axes}D", 2), new("ReLU"))
        parts += tuple(new(f"Conv{axes}D", 4, size, activation="relu") for size in (1 + axes, 1))
        parts += (new("Flatten"), new("Dense", 4, activation="relu"))
        yield Situation("test_auto_precision", f"{first}{axes}D", chain(((10,) * (axes - 1)) + (12, 4), *parts))
    for on in (True, False):
        norm = new("BatchNormalization", center=on, scale=on)
        yield Situation("test_batchnorm", f"center, scale {on}", chain((16,), norm))


def _convolutions() -> Iterator[Situation]:
    yield Situation("test_causalpadding", "", chain((100, 1), new("Conv1D", 1, 5, padding="causal")))
    yield Situation("test_conv1d_narrow", "", chain((11, 3), new("Conv1D", 5, 9)))
    yield Situation("test_conv2d_narrow", "", chain((5, 5, 3), new("Conv2D", 5, 4)))
    yield Situation("test_pointwiseconv", "config", chain((8, 8, 3), new("Conv2D", 8, 1, use_bias=False)))
    for axes, padding, strides in product((1, 2), PADDINGS, (1, 2)):
        how = {"padding": padding, "strides": strides}
        words = f"{axes}d {padding} strides {strides}"
        pointwise = new(f"Conv{axes}D", 32, 1, use_bias=False, **how)
        yield Situation("test_pointwiseconv", words, chain((28,) * axes + (3,), pointwise))
        transposed = new(f"Conv{axes}DTranspose", 4, 3, **how)
        yield Situation("test_conv_transpose", words, chain((8,) * axes + (3,), transposed))
        for size in (2, 3):
            shape = (16,) * axes + ({1: 4, 2: 2}[axes],)
            deep = new(f"DepthwiseConv{axes}D", size, use_bias=False, **how)
            yield Situation("test_depthconv", f"{words} window {size}", chain(shape, deep))
        for size, (filters, shape) in product((axes, 3), [{1: (32, (28, 3)), 2: (8, (16, 16, 3))}[axes]]):
            apart = new(f"SeparableConv{axes}D", filters, size, use_bias=False, **how)
            yield Situation("test_sepconv", f"{words} window {size}", chain(shape, apart))
    small = (new("Conv1D", 3, 3, activation="relu"), new("Flatten"), new("Dense", 5, activation="relu"))
    yield Situation("test_conv1d", "small", chain((10, 4), *small, new("Dense", 5, activation="softmax")))
    first = (new("Conv2D", 4, 3, padding="same"), new("Activation", "relu"), new("MaxPooling2D"))
    second = (new("Conv2D", 6, 5), new("Activation", "relu"), new("AveragePooling2D"))
    end = (new("Flatten"), new("Dense", 10), new("Activation", "softmax"))
    yield Situation("test_cnn_mnist", "", chain((28, 28, 1), *first, *second, *end))


def _dense() -> Iterator[Situation]:
    yield Situation("test_dense_unrolled", "dense", chain((16,), new("Dense", 12)))
    for axes in (1, 2):
        parts = (new(f"Conv{axes}D", 4, 3), new("Flatten"), new("Dense", 1))
        yield Situation("test_dense_unrolled", f"conv{axes}d", chain((8,) * axes + (3,), *parts))
    for cell in ("LSTM", "GRU"):
        yield Situation("test_dense_unrolled", cell, chain((12, 8), new(cell, 8)))
    for shape in ((4, 3), (4, 1), (2, 3, 2), (1, 3, 1)):
        parts = tuple(new("Dense", units, activation="relu") for units in (7, 2))
        yield Situation("test_multi_dense", f"{shape}", chain(shape, *parts))
    for equation, shape in (("abc,cd->abd", (3, 5)), ("abc,cde->abde", (3, 2, 5))):
        product_of = new("EinsumDense", equation, output_shape=shape, bias_axes=equation[-1])
        yield Situation("test_einsum_dense", equation, chain((3, 4), product_of))
    yield Situation("test_reshape", "", chain((10,), new("Dense", 30), new("Reshape", (10, 3)), new("ReLU")))


def _api() -> Iterator[Situation]:
    for name, part in {
        "elu": new("Activation", "elu"),
        "ELU": new("ELU", alpha=1.0),
        "relu": new("Activation", "relu"),
        "leaky_relu": new("LeakyReLU", alpha=1.0),
        "prelu": new("PReLU", alpha_initializer="zeros"),
        "sigmoid": new("Activation", "sigmoid"),
    }.items():
        yield Situation("test_keras_api", f"dense, {name}", chain((1,), new("Dense", 2 if name == "elu" else 64), part))
    for padding in PADDINGS:
        one = new("Conv1D", 32, 3, padding=padding, activation="relu", use_bias=False)
        two = new("Conv2D", 32, 4, strides=4, padding=padding, use_bias=False)
        deep = new("DepthwiseConv2D", 4, strides=4, padding=padding, use_bias=False)
        first = new("Conv2D", 4, 4, padding=padding, data_format="channels_first")
        yield Situation("test_keras_api", f"conv1d {padding}", chain((128, 4), one, new("Activation", "relu")))
        yield Situation("test_keras_api", f"conv2d {padding}", chain((28, 28, 3), two))
        yield Situation("test_keras_api", f"conv2d {padding} channels_first", chain((3, 28, 28), first))
        yield Situation("test_keras_api", f"depthwise2d {padding}", chain((32, 32, 3), deep))
    for kind, axes, padding in product(("Max", "Average"), (1, 2), PADDINGS):
        shape, filters = {1: ((64, 3), 32), 2: ((8, 8, 3), 1)}[axes]
        parts = (new(f"Conv{axes}D", filters, 3, padding=padding), new(f"{kind}Pooling{axes}D", 2, padding=padding))
        yield Situation("test_keras_api", f"{kind}Pooling{axes}D {padding}", chain(shape, *parts))


def _pooling() -> Iterator[Situation]:
    for kind, axes, padding in product(("Max", "Average"), (1, 2), PADDINGS):
        pool = new(f"{kind}Pooling{axes}D", {1: 3, 2: 2}[axes], padding=padding)
        yield Situation("test_pooling", f"{kind}{axes}D {padding}", chain((124,) * axes + (5,), pool))
    for kind, axes, keep in product(("Max", "Average"), (1, 2), (True, False)):
        pool = new(f"Global{kind}Pooling{axes}D", keepdims=keep)
        yield Situation("test_globalpooling", f"{kind}{axes}D keepdims={keep}", chain((18,) * axes + (6,), pool))


def _moves() -> Iterator[Situation]:
    for axes, shape, edges in ((1, (8, 4), (3, 4)), (2, (6, 8, 4), ((1, 2), (3, 4)))):
        yield Situation("test_zeropadding", f"{axes}d", chain(shape, new(f"ZeroPadding{axes}D", edges)))
        yield Situation("test_cropping", f"{axes}d", chain(shape, new(f"Cropping{axes}D", edges)))
        yield Situation("test_upsampling", f"{axes}d", chain(shape, new(f"UpSampling{axes}D", 2)))
    yield Situation("test_repeat_vector", "", chain((4,), new("RepeatVector", 3)))
    yield Situation("test_embed", "", chain((100,), new("Embedding", 13, 8)), "ufixed<4,4>")

    def twice(x: Any) -> Any:
        return layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(x)])

    def transposed(x: Any) -> Any:
        x = layers.Permute((2, 1))(x)
        return layers.Concatenate(axis=1)([layers.Activation("relu")(x), layers.Concatenate(axis=1)([x, x])])

    yield Situation("test_clone_flatten", "", wired(twice, (2, 3)))
    yield Situation("test_transpose_concat", "", wired(transposed, (2, 3)))
    yield Situation("test_transpose_concat", "5 axes", chain((2, 3, 4, 5, 6), new("Permute", (3, 5, 4, 1, 2))))


def _merges() -> Iterator[Situation]:
    def merged(kind: str, *shapes: Sequence[int], swapped: bool = False, **settings: Any) -> Build:
        return wired(lambda *x: new(kind, **settings)()(list(x[::-1] if swapped else x)), *shapes)

    for kind, swapped in product(("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"), (False, True)):
        built = merged(kind, (10, 10, 3), (10, 10, 3), swapped=swapped)
        yield Situation("test_merge", f"{kind}{' swapped' * swapped}", built)
    yield Situation("test_merge", "Dot", merged("Dot", (10,), (10,), axes=1))
    for shape in ((10,), (10, 3), (10, 10, 3)):
        for axis in range(1, len(shape) + 1):
            built = merged("Concatenate", shape, shape, axis=axis)
            yield Situation("test_merge", f"Concatenate {shape} axis {axis}", built)
    kinds = (("Concatenate", (2, 2, 3), (2, 2, 1)), ("Add", (2, 2, 3), (2, 2, 1)), ("Add", (1, 1, 2), (3, 4, 2)))
    for (kind, *shapes), order in product(kinds, (1, -1)):
        one, other = shapes[::order]
        yield Situation("test_graph", f"{kind} {one} {other}", merged(kind, one, other))


def _graphs() -> Iterator[Situation]:
    yield Situation("test_graph", "final reshape", chain((1, 1, 1), new("Conv2D", 6, 1), new("Reshape", (3, 2))))
    yield Situation("test_graph", "two dense", chain((1,), new("Dense", 1), new("Dense", 1)))
    outputs = wired(lambda x: [layers.Dense(units, use_bias=False)(x) for units in (5, 2)], (10,))
    yield Situation("test_graph", "several outputs", outputs)
    branched = wired(lambda a, b: layers.Add()([a, layers.Add()([b, layers.Add()([a, b])])]), (1,), (1,))
    yield Situation("test_graph", "branches", branched)

    def dense(*units: int) -> list[Build]:
        return [new("Dense", count) for count in units]

    one = chain((10,), *dense(5), chain((5,), *dense(5, 3)), *dense(8), chain((8,), *dense(7, 6)), *dense(4))
    two = chain((6,), *dense(2), chain((2,), *dense(9, 3)), *dense(2), chain((2,), *dense(5, 7)), *dense(2))
    yield Situation("test_keras_nested_model", "nested", chain((15,), *dense(10), one))
    yield Situation("test_keras_nested_model", "twice", chain((15,), *dense(10), one, *dense(6), two, *dense(4)))
    for shape in ((10, 8), (5, 4, 3)):
        yield Situation("test_layernorm", f"{shape}", chain(shape, new("LayerNormalization")))


def _recurrent() -> Iterator[Situation]:
    for (shape, units), sequences in product((((3, 8), 64), ((12, 8), 32)), (True, False)):
        how, words = {"return_sequences": sequences}, f"{shape} return_sequences={sequences}"
        for cell in ("SimpleRNN", "LSTM", "GRU"):
            yield Situation("test_rnn", f"{cell} {words}", chain(shape, new(cell, units, **how)))
        there, back = new("LSTM", units // 2, **how), new("GRU", units // 2, go_backwards=True, **how)
        both = chain(shape, lambda t=there, b=back: layers.Bidirectional(t(), backward_layer=b()))
        yield Situation("test_rnn", f"Bidirectional {words}", both)
    for cell, bias in product(("LSTM", "GRU"), (True, False)):
        part, words = new(cell, 4, use_bias=bias), f"{cell} use_bias={bias}"
        yield Situation("test_rnn", words, chain((5, 8), part))
        yield Situation("test_rnn", f"Bidirectional {words}", chain((5, 8), lambda p=part: layers.Bidirectional(p())))


def _time_distributed() -> Iterator[Situation]:
    def each(part: Build) -> Build:
        return lambda: layers.TimeDistributed(part())

    conv, pool, movie = new("Conv2D", 4, 3, use_bias=False), new("MaxPooling2D", 2), (5, 10, 10, 3)
    yield Situation("test_time_distributed", "layers", chain(movie, each(conv), each(pool)))
    yield Situation("test_time_distributed", "model", chain(movie, each(chain(movie[1:], conv, pool))))
    after = each(new("Dense", 1))
    yield Situation("test_time_distributed", "LSTM", chain((8, 8), new("LSTM", 4, return_sequences=True), after))


# -- QKeras models


def _qkeras() -> Iterator[Situation]:
    six = dict.fromkeys(FOUR, "quantized_bits(6,0,alpha=1)")
    hidden = [
        part
        for units in (64, 32, 32)
        for part in (new("QDense", units, **six), new("QActivation", "quantized_relu(6)"))
    ]
    jets = chain((16,), *hidden, new("QDense", 5, **six), new("Activation", "softmax"))
    yield Situation("test_qkeras", "jets", jets)
    for alpha in ("1", "'auto_po2'"):
        dense = new("QDense", 16, **{**FOUR, "kernel_quantizer": f"quantized_bits(4,0,alpha={alpha})"})
        built = chain((16,), dense, new("QActivation", "quantized_relu(4,0)"))
        yield Situation("test_qkeras", f"dense, alpha={alpha}", built)
    quantizers = [f"quantized_bits({text})" for text in ("8,0", "8,4", "4,2", "4,0", "10,0")]
    quantizers += [f"quantized_relu({text})" for text in ("4", "4,2", "8", "8,4", "10", "10,5")]
    quantizers += ["quantized_tanh(8)", "quantized_sigmoid(5)", "quantized_sigmoid(7,use_real_sigmoid=True)"]
    for text in quantizers:
        yield Situation("test_qkeras", f"quantizer {text}", chain((1,), new("QActivation", text)))
    auto = "ternary(alpha='auto')"
    for number, (kernel, act, norm) in enumerate(
        (
            ("ternary(alpha=1)", "binary_tanh", False),
            ("binary()", "binary_tanh", False),
            (auto, "binary()", True),
            (auto, "ternary", True),
            (auto, "ternary(threshold=0.2)", True),
            (auto, "ternary(threshold=0.8)", True),
            ("binary()", "binary()", False),
        ),
        1,
    ):
        dense = new("QDense", 10, kernel_quantizer=kernel, bias_quantizer="quantized_bits(5,2)")
        parts = (dense, *([new("BatchNormalization")] if norm else []), new("QActivation", act))
        yield Situation("test_qkeras", f"btnn {number}", chain((10,), *parts))
    own = [(dict.fromkeys(FOUR, name), name) for name in ("binary", "ternary")]
    for quantizers_of, act in [*own, *((FOUR, f"quantized_relu({bits},0)") for bits in (2, 4, 8))]:
        yield Situation(
            "test_qkeras", f"activation={act}", chain((10,), new("QDense", 10, activation=act, **quantizers_of))
        )


def _qkeras_layers() -> Iterator[Situation]:
    folded = new("QConv2DBatchnorm", 4, 3, kernel_initializer="ones", activation="quantized_relu(8,0)", **EIGHT)
    yield Situation("test_qkeras", "QConv2DBatchnorm", chain((8, 8, 1), folded))
    keys = ("depthwise_quantizer", "pointwise_quantizer", "bias_quantizer")
    deep = {"depthwise_quantizer": "quantized_bits(6,0,alpha=1)", "bias_quantizer": FOUR["bias_quantizer"]}
    deep |= {"bias_initializer": "he_normal", "activation": "quantized_relu(3,0)"}
    yield Situation("test_qkeras", "QDepthwiseConv2D", chain((32, 32, 3), new("QDepthwiseConv2D", 3, **deep)))
    for name, shape in (("QSeparableConv1D", (13, 20)), ("QSeparableConv2D", (13, 21, 20))):
        apart = new(name, 5, 3, **dict.fromkeys(keys, "quantized_bits(8,3,alpha=1)"))
        yield Situation("test_qkeras", name, chain(shape, apart), "fixed<8,1>")
    for cell in ("QSimpleRNN", "QLSTM", "QGRU"):
        how = {**EIGHT, **dict.fromkeys(("recurrent_quantizer", "state_quantizer"), EIGHT["kernel_quantizer"])}
        how |= {"activation": "relu"} if cell == "QSimpleRNN" else {"activation": "tanh"}
        how |= {} if cell == "QSimpleRNN" else {"recurrent_activation": "sigmoid"}
        yield Situation("test_qkeras", cell, chain((5, 2), new(cell, 4, **how)), "fixed<8,1>")

    def wide() -> Any:
        model = chain((26,), new("QDense", 6, kernel_quantizer=qkeras.quantized_po2(18, max_value=2**20)))()
        kernel, bias = model.get_weights()
        model.set_weights([2.0**18 * abs(kernel) / abs(kernel).max(), bias])
        return model

    yield Situation("test_qkeras", "quantized_po2(18)", wide)


def _qkeras_cnn() -> Iterator[Situation]:
    binary = {"kernel_quantizer": "binary", "use_bias": False}

    def signs(kind: str, *arguments: Any, act: str = "binary") -> tuple[Build, ...]:
        return new(kind, *arguments, **binary), new("QBatchNormalization"), new("QActivation", act)

    pool, end = new("MaxPooling2D", 2), new("QDense", 10, activation="softmax", **binary)
    parts = (*signs("QConv2D", 4, 3), *signs("QConv2D", 8, 3), pool, *signs("QConv2D", 8, 3), pool, new("Flatten"))
    binary_cnn = chain((28, 28, 1), *parts, *signs("QDense", 10, act="binary_tanh"), end)
    yield Situation("test_binary_cnn", "", binary_cnn)
    conv = (new("QConv2D", 16, 3, **FOUR), new("QActivation", "quantized_relu(4,0)"), new("MaxPooling2D"))
    end_ = (new("Flatten"), new("QDense", 10, **FOUR), new("Activation", "softmax"))
    yield Situation("test_cnn_mnist_qkeras", "", chain((28, 28, 1), *conv, *conv, *end_))


def float_models() -> list[Situation]:
    """Return the Keras models without quantizers."""
    groups = (_activations, _precision, _convolutions, _dense, _api, _pooling, _moves, _merges, _graphs)
    return [row for group in (*groups, _recurrent, _time_distributed) for row in group()]


def quantized_models() -> list[Situation]:
    """Return the QKeras models."""
    return [row for group in (_qkeras, _qkeras_layers, _qkeras_cnn) for row in group()]
