"""Freezing: every variable becomes the value that its quantizer makes of it, and nothing the model says changes.

`quantized_weights` takes the values out of a Keras model, `keras_model` makes one that has them. The names of the
arrays are those of the table in `flow.frontend.trained`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError, ModelFileError, UnsupportedError, at, shown
from flow.findings import Hit
from flow.frontend.trained import TrainedModel
from flow.train import keras_errors, load_tensorflow, quiet_warnings
from flow.train.attention import FixedLayerNormalization
from flow.train.deserialize import keras_model_of
from flow.train.kernels import KERNELS
from flow.train.layers import FixedBatchNormalization, QDenseBatchnorm

tf, keras, qkeras = load_tensorflow()

Group = dict[str, NDArray[np.float32]]
Weights = dict[str, Group]

VARIABLES = {**KERNELS, "recurrent_kernel": "recurrent", "bias": "bias"}
"""Variable of a layer -> what its quantizer is called after."""


OF_CELLS = ("kernel", "recurrent_kernel", "bias")
SETTABLE = (*OF_CELLS, *(f"{way}_{key}" for way in ("forward", "backward") for key in OF_CELLS))
"""Arrays of the layers whose variables are set to them, in the order of the variables."""


def quantized_weights(model: Any) -> Weights:
    """Return what each layer really multiplies and adds, as `flow.frontend.trained.TrainedModel.weights` holds it.

    Quantizers run as parts of graphs, as in `Model.predict`: there a division by a constant is a product with its
    reciprocal, and scales that a quantizer finds itself differ in their last bit from what eager calls give.

    Args:
        model: a Keras model of QKeras layers without pruning wrappers; it may hold other models.

    Returns:
        Path of the layer -> its arrays; layers without any are left out.

    Raises:
        UnsupportedError: a value is NaN or infinite, or a quantizer is random.
    """
    weights = {}
    for path, layer in layers_by_path(model).items():
        with at(model=model.name, layer=path):
            with keras_errors("QKeras itself cannot run it"):
                group = _arrays(layer)
            for key, array in group.items():
                if not np.isfinite(array).all():
                    raise UnsupportedError(f"{key} holds NaN or infinite values")
        if group:
            weights[path] = group
    return weights


def layers_by_path(model: Any, path: str = "") -> dict[str, Any]:
    """Return the layers of a model and of the models in it, by the path that `flow.frontend.keras.topology` gives them.

    A TimeDistributed stands for what it holds.

    Raises:
        UnsupportedError: two layers have one path.
    """
    by_path: dict[str, Any] = {}
    for layer in model.layers:
        name = layer.name
        while isinstance(layer, keras.layers.TimeDistributed):
            layer = layer.layer
        inside = isinstance(layer, keras.Model)
        group = layers_by_path(layer, f"{path}{name}/") if inside else {path + name: layer}
        for twice in group.keys() & by_path.keys():
            raise UnsupportedError(f"two layers are called '{twice}'", model=model.name, remedy="rename one")
        by_path.update(group)
    return by_path


def set_quantized_weights(model: Any, weights: Weights) -> None:
    """Set the variables of a model so that its layers use exactly these values.

    Raises:
        UnsupportedError: a batch normalization lacks the variables to hold any scale and offset.
        AssertionError: a quantizer does not leave its own output as it is.
    """
    for path, layer in layers_by_path(model).items():
        if path not in weights:
            continue
        group = weights[path]
        if isinstance(layer, FixedBatchNormalization | FixedLayerNormalization):
            layer.set_folded(group["scale"], group["offset"])
        elif type(layer) is keras.layers.BatchNormalization:
            _set_plain_batchnorm(layer, group["scale"], group["offset"])
        else:
            layer.set_weights([group[key] for key in SETTABLE if key in group])
    for (name, key, held), (_, _, wanted) in zip(_flat(quantized_weights(model)), _flat(weights), strict=True):
        assert np.array_equal(held, wanted), f"{name}/{key}: quantizing twice differs from quantizing once"


def freeze(model: Any, inputs: NDArray[np.float32]) -> Weights:
    """Replace kernels, biases and batch normalizations by their quantized values.

    Args:
        model: a Keras model of QKeras layers without pruning wrappers; changed in place.
        inputs: (n, *shape) float32: samples on which the outputs must stay the same, bit for bit.

    Returns:
        The quantized weights.

    Raises:
        UnsupportedError: a weight is NaN or infinite.
        AssertionError: an output changed.
    """
    before = _outputs(model, inputs)
    weights = quantized_weights(model)
    set_quantized_weights(model, weights)
    _assert_same(before, _outputs(model, inputs), f"{model.name}: freezing")
    return weights


def same_outputs(model: Any, plain: Any, inputs: NDArray[np.float32]) -> None:
    """Assert that two Keras models give the same, bit for bit."""
    _assert_same(_outputs(model, inputs), _outputs(plain, inputs), f"{model.name}: writing it as plain layers")


def _outputs(model: Any, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return tf.nest.flatten(model.predict(inputs, batch_size=1024, verbose=0))  # type: ignore[no-any-return]


def _assert_same(before: list[NDArray[np.float32]], after: list[NDArray[np.float32]], what: str) -> None:
    for was, now in zip(before, after, strict=True):
        assert np.array_equal(was, now), f"{what} changed {np.count_nonzero(was != now)} outputs"


@quiet_warnings()
def keras_model(trained: TrainedModel) -> Any:
    """Return a Keras model that computes what the trained model says.

    Args:
        trained: a model with layers of QKeras, of ours, or of Keras (a float model).

    Returns:
        The Keras model; its layers' quantized values are the arrays of `trained`, bit for bit.

    Raises:
        ModelFileError: configuration and weights do not make a model.
    """
    try:
        model = keras_model_of(trained.class_name, trained.config)
        weights = {
            name: {key: np.asarray(a, np.float32) for key, a in g.items()} for name, g in trained.weights.items()
        }
        set_quantized_weights(model, weights)
    except FlowError as error:
        raise error.at(model=trained.name) from None
    except Exception as error:  # Keras fails in many ways: types, keys, shapes, names
        raise ModelFileError(
            f"configuration and weights do not make a Keras model: {shown(error)}", model=trained.name
        ) from error
    return model


def sparsity(weights: Mapping[str, Mapping[str, NDArray[np.float32]]]) -> float:
    """Return the fraction of exact zeros over all kernels."""
    kernels = [array for group in weights.values() for key, array in group.items() if key.endswith("kernel")]
    return float(sum(np.count_nonzero(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels))


def revived(model: Any, weights: Weights) -> Iterator[Hit]:
    """Yield a warning for each kernel whose pruned weights its quantizer turns back into non-zeros.

    Args:
        model: the Keras model.
        weights: what `quantized_weights` gives for it.
    """
    for path, layer in layers_by_path(model).items():
        arrays = weights.get(path, {})
        layer = getattr(layer, "cell", layer)
        for key, what in VARIABLES.items():
            variable, used = getattr(layer, key, None), arrays.get(key, arrays.get("kernel"))
            if what == "bias" or variable is None or used is None:
                continue
            zeros = np.asarray(variable) == 0
            values = np.unique(used[zeros & (used != 0)])
            if len(values):
                quantizer = type(getattr(layer, f"{what}_quantizer_internal")).__name__
                becomes = " or ".join(f"{value:+g}" for value in values[:4])
                yield Hit(
                    path,
                    f"layer '{path}': {np.count_nonzero(zeros)} of {zeros.size} weights were pruned to zero, but "
                    f"{quantizer} has no zero and turns each into {becomes}, as QKeras really computes",
                    "train with flow.train.quantizers.quantized_po2_zero to keep them zero",
                )


def _arrays(layer: Any) -> Group:
    if isinstance(layer, FixedBatchNormalization | FixedLayerNormalization):
        scale, offset = layer.folded()
        return {"scale": scale, "offset": offset}
    if isinstance(layer, keras.layers.LayerNormalization):
        return _layer_norm(layer)
    if isinstance(layer, qkeras.QBatchNormalization):
        return _quantized_batchnorm(layer)
    if isinstance(layer, keras.layers.BatchNormalization):
        return _plain_batchnorm(layer)
    if isinstance(layer, QDenseBatchnorm):
        return dict(zip(("kernel", "scale", "offset"), _in_graph(lambda: list(layer.normalized())), strict=True))
    if isinstance(layer, qkeras.QConv2DBatchnorm | qkeras.QDepthwiseConv2DBatchnorm):
        return _folded_batchnorm(layer)
    if isinstance(layer, qkeras.QAveragePooling2D | qkeras.QGlobalAveragePooling2D):
        return _multiplier(layer)
    if isinstance(layer, keras.layers.Embedding):
        return {"table": np.asarray(layer.embeddings, np.float32)}
    if isinstance(layer, keras.layers.PReLU):
        return {"slope": np.asarray(layer.alpha, np.float32)}
    if isinstance(layer, keras.layers.Bidirectional):
        ways = {"forward": layer.forward_layer, "backward": layer.backward_layer}
        return {f"{way}_{key}": array for way, inner in ways.items() for key, array in _arrays(inner).items()}
    holder = getattr(layer, "cell", layer)
    variables = {key: getattr(holder, key, None) for key in VARIABLES}
    arrays = {key: _quantized(holder, VARIABLES[key], held) for key, held in variables.items() if held is not None}
    if "depthwise_kernel" in arrays and "pointwise_kernel" not in arrays:
        arrays["kernel"] = arrays.pop("depthwise_kernel")
    return arrays


def _quantized(layer: Any, what: str, variable: Any) -> NDArray[np.float32]:
    quantizer = getattr(layer, f"{what}_quantizer_internal", None)
    if quantizer is None:
        return np.asarray(variable, np.float32)
    if isinstance(layer, qkeras.QSeparableConv1D) and what != "bias":  # it puts an axis before, then quantizes
        return _in_graph(lambda: [quantizer(tf.expand_dims(variable, 0))[0]])[0]
    return _in_graph(lambda: [quantizer(variable)])[0]


def _in_graph(function: Callable[[], list[Any]]) -> list[NDArray[np.float32]]:
    """Return the tensors that a function gives as a graph.

    Raises:
        UnsupportedError: it gives others when asked again.
    """
    graph = tf.function(function)
    first, second = ([np.asarray(tensor, np.float32) for tensor in graph()] for _ in range(2))
    if any(one.tobytes() != other.tobytes() for one, other in zip(first, second, strict=True)):
        remedy = "use 'quantized_bits', 'binary' or 'ternary'"
        raise UnsupportedError("its quantizer is random, at inference too", remedy=remedy)
    return first


def _plain_batchnorm(layer: Any) -> Group:
    """Return scale and offset in float32, as `tf.nn.batch_normalization` computes them before it uses them."""
    folded = _scale_and_offset(layer, layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    return {key: np.asarray(value, np.float32) for key, value in zip(("scale", "offset"), folded, strict=True)}


def _layer_norm(layer: Any) -> Group:
    """Return what a layer normalization multiplies by and adds, one of each per channel of its last axis."""
    shape = layer._build_input_shape[-1:]
    scale, offset = (
        np.full(shape, usual, np.float32) if variable is None else np.asarray(variable, np.float32)
        for variable, usual in ((layer.gamma, 1), (layer.beta, 0))
    )
    return {"scale": scale, "offset": offset}


def _scale_and_offset(layer: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> list[Any]:
    scale = tf.math.rsqrt(variance + layer.epsilon)
    scale = scale if gamma is None else scale * gamma
    return [scale, -mean * scale if beta is None else beta - mean * scale]


def _set_plain_batchnorm(layer: Any, scale: NDArray[np.float32], offset: NDArray[np.float32]) -> None:
    """Find gammas and variances of which `_plain_batchnorm` makes these scales, with a mean of zero.

    TensorFlow's reciprocal root of 1 is 1 for some lengths of an array on some machines, else one bit less; the product
    with that skips some values, so further variances are tried.
    """
    if layer.gamma is None or layer.beta is None:
        raise UnsupportedError("a batch normalization with center or scale off cannot be set", layer=layer.name)
    gamma, variance = scale.copy(), np.full_like(scale, 1 - layer.epsilon)
    settled = np.zeros(scale.shape, bool)
    for tried in (1, 4, 3, 5, 6, 7):
        root = np.asarray(tf.math.rsqrt(tf.fill(scale.shape, np.float32(tried - layer.epsilon)) + layer.epsilon))
        nearest = (scale / root).astype(np.float32)
        above, below = (np.nextafter(nearest, np.float32(end)) for end in (np.inf, -np.inf))
        for candidate in (nearest, above, below):
            hit = ~settled & (root * candidate == scale)
            gamma[hit], variance[hit] = candidate[hit], tried - layer.epsilon
            settled |= hit
    layer.set_weights([gamma, offset, np.zeros_like(scale), variance])


def _quantized_batchnorm(layer: Any) -> Group:
    """Return scale and offset as `QBatchNormalization.call` hands its quantized variables to TensorFlow.

    Its `activation` argument is kept nowhere and applied nowhere.
    """

    def folded() -> list[Any]:
        gamma = _applied(layer.gamma_quantizer_internal, layer.gamma)
        beta = _applied(layer.beta_quantizer_internal, layer.beta)
        mean = _applied(layer.mean_quantizer_internal, layer.moving_mean)
        variance = _applied(layer.variance_quantizer_internal, layer.moving_variance)
        return _scale_and_offset(layer, gamma, beta, mean, variance)

    scale, offset = _in_graph(folded)
    return {"scale": scale, "offset": offset}


def _folded_batchnorm(layer: Any) -> Group:
    """Return kernel and bias as QKeras' layers with a batch normalization inside fold, then quantize them.

    At inference both folding modes use the moving statistics: `inv = rsqrt(variance + epsilon) * gamma`, kernel
    `inv * kernel`, bias `inv * (bias - mean) + beta`, there without `use_bias` too.
    """
    kind = "depthwise" if isinstance(layer, qkeras.QDepthwiseConv2DBatchnorm) else "kernel"
    quantizers = getattr(layer, f"{kind}_quantizer_internal"), layer.bias_quantizer_internal

    kernel, bias = _in_graph(lambda: list(map(_applied, quantizers, layer.get_folded_weights())))
    return {"kernel": kernel, "bias": bias}


def _applied(quantizer: Any, variable: Any) -> Any:
    """Return what a quantizer makes of a variable; either may be None."""
    return variable if variable is None or quantizer is None else quantizer(variable)


def _multiplier(layer: Any) -> Group:
    """Return what the quantizer of an average makes of 1 / area.

    The layer computes `(sum / area) * area * multiplier`: the sum times the multiplier where the area is a power of
    two, else with the roundings of float32 in between.

    Raises:
        UnsupportedError: a global average is called on images of several sizes.
    """
    quantizer = layer.average_quantizer_internal
    if quantizer is None:
        return {}
    if isinstance(layer, qkeras.QAveragePooling2D):
        area = float(np.prod(layer.pool_size))
    else:
        shapes = {tuple(node.input_shapes) for node in layer.inbound_nodes}
        if len(shapes) != 1:
            raise UnsupportedError("is called on images of several sizes", remedy="use one layer for each")
        axes = slice(2, 4) if layer.data_format == "channels_first" else slice(1, 3)
        area = float(np.prod(shapes.pop()[axes]))
    return {"multiplier": _in_graph(lambda: [quantizer(1.0 / area)])[0]}


def _flat(weights: Weights) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    return ((name, key, group[key]) for name, group in sorted(weights.items()) for key in sorted(group))
