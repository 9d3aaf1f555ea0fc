"""Small float Keras models, one for each layer and topology that quantization takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flow.frontend.trained import TrainedModel
from flow.train import load_tensorflow, quiet_warnings
from flow.train.freeze import quantized_weights

keras = load_tensorflow().keras
L = keras.layers

VECTOR, SEQUENCE, IMAGE, MOVIE, ROWS = (6,), (8, 3), (8, 8, 3), (2, 5, 5, 2), (4,)
Build = Callable[[Any], Any]


def _residual(x: Any) -> Any:
    """A block with a projection, and one with an identity, as ResNets have them."""
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", name="stem")(x)))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, strides=2, padding="same")(x)))
    y = L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(y))
    x = L.ReLU()(L.Add()([y, L.BatchNormalization()(L.Conv2D(6, 1, strides=2, name="projection")(x))]))
    y = L.ReLU()(L.Conv2D(6, 3, padding="same")(x))
    x = L.ReLU()(L.Add()([L.Conv2D(6, 3, padding="same")(y), x]))
    return L.Dense(4)(L.GlobalAveragePooling2D()(x))


def _preactivated(x: Any) -> Any:
    """Batch norm before the convolution, where padding keeps it from being folded."""
    x = L.Conv2D(4, 3, padding="same")(x)
    y = L.Conv2D(4, 3, padding="same")(L.ReLU()(L.BatchNormalization(name="alone")(x)))
    return L.Dense(3)(L.Flatten()(L.Add()([x, y])))


def _depthwise(x: Any) -> Any:
    x = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(8, 1, use_bias=False)(x)))
    x = L.ReLU(6.0)(L.DepthwiseConv2D(3, strides=2, depth_multiplier=2)(L.ZeroPadding2D(1)(x)))
    return L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(4, 1)(x)))


def _joined(x: Any) -> Any:
    a = L.Conv2D(3, 1, activation="relu")(x)
    b = L.Conv2D(3, 3, padding="same", name="signed")(x)
    c = L.MaxPooling2D(3, strides=1, padding="same")(L.Conv2D(2, 1, activation="relu")(x))
    return L.Conv2D(4, 1)(L.Concatenate()([a, b, c]))


def _nested(x: Any) -> Any:
    inner_in = keras.Input(IMAGE)
    inner = keras.Model(inner_in, L.ReLU()(L.BatchNormalization()(L.Conv2D(3, 3, padding="same")(inner_in))))
    return L.Conv2D(2, 1)(inner(inner(x)))


def _shared(x: Any) -> Any:
    dense = L.Dense(6, activation="relu")
    return L.Dense(2)(dense(dense(x)))


def _functions(x: Any) -> Any:
    x = L.Dense(8, activation="tanh")(x)
    x = L.Dense(8, activation="sigmoid")(x)
    return L.Dense(3, activation="swish")(x)


def _leaky(x: Any) -> Any:
    x = L.LeakyReLU(0.125)(L.Dense(8)(x))
    x = L.LeakyReLU(0.3)(L.Dense(8)(x))
    x = L.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.1, 0.4, seed=1))(L.Dense(8)(x))
    return L.Dense(2)(x)


def _merges(x: Any) -> Any:
    a, b = L.Dense(5, activation="relu")(x), L.Dense(5)(x)
    parts = [L.Multiply()([a, b]), L.Maximum()([a, b]), L.Subtract()([a, b]), L.Minimum()([a, b])]
    parts += [L.Average()([a, b]), L.Average()([a, b, parts[0]])]
    return L.Dense(3)(L.Concatenate()(parts))


def _products(x: Any) -> Any:
    x = L.Dense(4)(x)
    x = L.Dot((2, 1))([L.Dot(2)([x, L.Dense(4)(x)]), x])
    return L.Dense(3)(L.GlobalAveragePooling1D()(x))


def _two_heads(x: Any) -> Any:
    x = L.Dense(8, activation="relu")(x)
    return [L.Dense(2, name="first")(x), L.Dense(3, activation="softmax", name="second")(x)]


def _chain(x: Any, *names: str) -> Any:
    """Layers in a row, with the arguments that each needs."""
    arguments: dict[str, dict[str, Any]] = {
        "Conv1D": {"filters": 3, "kernel_size": 2},
        "DepthwiseConv1D": {"kernel_size": 2},
        "SeparableConv1D": {"filters": 3, "kernel_size": 2},
        "Conv1DTranspose": {"filters": 2, "kernel_size": 3, "strides": 2},
    }
    for name in names:
        x = getattr(L, name)(**arguments.get(name, {}))(x)
    return x


def _ends(x: Any) -> list[Any]:
    """What is left of all positions: their largest values and their averages."""
    axes = len(x.shape) - 2
    return [getattr(L, f"Global{kind}Pooling{axes}D")()(x) for kind in ("Max", "Average")]


def _recurrent(x: Any) -> Any:
    x = L.GRU(3, return_sequences=True)(L.MaxPooling1D(2)(L.Conv1D(2, 3)(x)))
    return L.Dense(2)(L.Bidirectional(L.LSTM(2))(L.SimpleRNN(3, return_sequences=True, go_backwards=True)(x)))


def _movie(x: Any) -> Any:
    """Layers and a model for each image of a movie."""
    x = L.TimeDistributed(L.MaxPooling2D(2))(L.TimeDistributed(L.Conv2D(3, 2, activation="relu"))(x))
    ends = [L.AveragePooling2D(3, 1, "same"), L.Flatten(), L.PReLU(alpha_initializer="ones"), L.Dense(2)]
    return L.TimeDistributed(keras.Sequential([keras.Input(x.shape[2:]), *ends]))(x)


def _attending(x: Any) -> Any:
    """A softmax and layer normalizations inside a net."""
    x = L.LayerNormalization(epsilon=0.1)(L.Dense(4)(x))
    shares = L.Softmax()(L.Dot(2)([L.Dense(4)(x), L.Dense(4)(x)]))
    x = L.Dot((2, 1))([shares, x])
    return L.Dense(3)(L.LayerNormalization(scale=False)(L.Dense(8, activation="softmax")(x)))


def _noise(x: Any) -> Any:
    """Layers that do nothing at inference."""
    for layer in (L.Dropout(0.1), L.GaussianNoise(0.1), L.GaussianDropout(0.1), L.AlphaDropout(0.1)):
        x = layer(x)
    return L.Activation("linear")(L.ActivityRegularization()(L.Identity()(L.SpatialDropout1D(0.1)(x))))


MODELS: Mapping[str, tuple[tuple[int, ...], Build]] = {
    "dense": (VECTOR, lambda x: L.Dense(3)(L.Dense(8, activation="relu")(x))),
    "dense_on_image": (IMAGE, lambda x: L.Dense(3)(x)),
    "einsum": (SEQUENCE, lambda x: L.Dense(2)(L.EinsumDense("abc,cd->abd", output_shape=(None, 4))(x))),
    "local": (
        IMAGE,
        lambda x: L.LocallyConnected1D(2, 3)(L.Reshape((-1, 3))(L.LocallyConnected2D(3, 2, strides=2)(x))),
    ),
    "softmax": (VECTOR, lambda x: L.Softmax()(L.Dense(3)(x))),
    "batchnorm_first": (VECTOR, lambda x: L.Dense(3)(L.BatchNormalization()(x))),
    "batchnorm_twice": (VECTOR, lambda x: L.Dense(3)(L.BatchNormalization()(L.BatchNormalization()(L.Dense(4)(x))))),
    "batchnorm_after_relu": (
        IMAGE,
        lambda x: L.Conv2D(2, 3)(L.BatchNormalization()(L.ReLU()(L.Conv2D(4, 3, name="before")(x)))),
    ),
    "batchnorm_last": (VECTOR, lambda x: L.BatchNormalization()(L.ReLU()(L.Dense(4)(x)))),
    "conv1d": (SEQUENCE, lambda x: L.Conv1D(2, 3, padding="causal", dilation_rate=2)(L.ReLU()(L.Conv1D(4, 3)(x)))),
    "conv_groups": (IMAGE, lambda x: L.Conv2D(4, 3, groups=2)(L.Conv2D(4, 3, activation="relu")(x))),
    "conv_transposed": (IMAGE, lambda x: L.Conv2DTranspose(2, 3, strides=2, padding="same")(x)),
    "separable": (IMAGE, lambda x: L.SeparableConv2D(4, 3, activation="relu")(x)),
    "pooled": (
        IMAGE,
        lambda x: L.Conv2D(2, 1)(L.AveragePooling2D(2, padding="same")(L.MaxPooling2D(2)(L.Conv2D(4, 3)(x)))),
    ),
    "average_of_thirds": (SEQUENCE, lambda x: L.AveragePooling1D(3, padding="same")(L.Conv1D(4, 3)(x))),
    "average_last": (IMAGE, lambda x: L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(x))),
    "moves": (
        IMAGE,
        lambda x: L.Permute((2, 1, 3))(L.UpSampling2D(2)(L.Cropping2D(1)(L.Conv2D(2, 3, padding="same")(x)))),
    ),
    "pooled_input": (IMAGE, lambda x: L.Conv2D(2, 1)(L.MaxPooling2D(2)(L.ZeroPadding2D(1)(x)))),
    "residual": (IMAGE, _residual),
    "preactivated": (IMAGE, _preactivated),
    "depthwise": (IMAGE, _depthwise),
    "joined": (IMAGE, _joined),
    "nested": (IMAGE, _nested),
    "shared": (VECTOR, _shared),
    "functions": (VECTOR, _functions),
    "leaky": (VECTOR, _leaky),
    "merges": (VECTOR, _merges),
    "products": (SEQUENCE, _products),
    "two_heads": (VECTOR, _two_heads),
    "passed_on": (VECTOR, lambda x: [L.Dropout(0.5)(x), L.Softmax()(x)]),
    "sequence_1": (SEQUENCE, lambda x: _chain(x, "Conv1D", "MaxPooling1D", "ZeroPadding1D", "DepthwiseConv1D")),
    "sequence_2": (SEQUENCE, lambda x: _chain(x, "SeparableConv1D", "UpSampling1D", "Cropping1D", "Conv1DTranspose")),
    "sequence_3": (SEQUENCE, lambda x: L.RepeatVector(2)(L.Concatenate()(_ends(L.Conv1D(2, 1)(x))))),
    "recurrent": (SEQUENCE, _recurrent),
    "image_ends": (IMAGE, lambda x: L.Concatenate()(_ends(L.Conv2D(2, 1)(x)))),
    "attending": (SEQUENCE, _attending),
    "rows": (ROWS, lambda x: L.Dense(2)(L.Flatten()(L.Embedding(13, 3)(x)))),
    "movie": (MOVIE, _movie),
    "kinks": (VECTOR, lambda x: L.ThresholdedReLU(0.25)(L.ELU()(L.Dense(4)(x)))),
    "nothing": (SEQUENCE, lambda x: _noise(L.Conv1D(3, 2)(x))),
    "nothing_2d": (IMAGE, lambda x: L.Reshape((-1,))(L.SpatialDropout2D(0.1)(L.Conv2D(3, 2)(x)))),
    "limited": (IMAGE, lambda x: L.Conv2D(2, 1)(L.ReLU(0.7)(L.Conv2D(3, 1)(x)))),
    "sloped": (VECTOR, lambda x: L.ReLU(negative_slope=0.25)(L.Activation("relu")(L.Dense(3)(x)))),
}
SAMPLES = 64


def inputs(name: str, samples: int = SAMPLES) -> np.ndarray:
    """Return samples of a model: k/256, from -1 to 1."""
    return values(name, np.random.default_rng(3), samples)


def values(name: str, rng: np.random.Generator, samples: int = SAMPLES) -> np.ndarray:
    """Return values of a model's input: k/256, from -1 to 1; of an embedding whole numbers."""
    shape = (samples, *MODELS[name][0])
    return np.float32(rng.integers(0, 13, shape) if MODELS[name][0] == ROWS else rng.integers(-256, 257, shape) / 256)


@quiet_warnings()
def float_model(name: str) -> tuple[Any, TrainedModel]:
    """Return a Keras model with random weights and batch norm statistics, and the same as data."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    shape, build = MODELS[name]
    x = keras.Input(shape)
    model = keras.Model(x, build(x), name=name)
    rng = np.random.default_rng(7)
    for layer in [*model.layers, *(inner for outer in model.layers for inner in getattr(outer, "layers", ()))]:
        if isinstance(layer, L.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, size),
                    rng.normal(0, 0.2, size),
                    rng.normal(0, 0.5, size),
                    rng.uniform(0.5, 2, size),
                ]
            )
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return model, as_data(model)


def as_data(model: Any) -> TrainedModel:
    """Return a Keras model as data."""
    return TrainedModel(
        name=model.name,
        class_name="Functional",
        config=json.loads(json.dumps(model.get_config())),
        weights=quantized_weights(model),
    )
