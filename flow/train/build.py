"""Keras models from a spec: the quantized one and its float twin, and float models by the name of their topology.

No layer of a float model is quantized; the outputs are linear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flow.ir.fixed import FixedFormat
from flow.train import load_tensorflow, quiet_warnings, tables
from flow.train import spec as specs
from flow.train.layers import EPSILON, FixedBatchNormalization
from flow.train.quantizers import quantized_apot, quantized_grid, quantized_po2_zero

_, keras, qkeras = load_tensorflow()

BATCH_NORM_MOMENTUM = 0.9


@quiet_warnings()
def build_quantized(spec: specs.ModelSpec) -> Any:
    """Return the Keras model of a spec with QKeras layers; it quantizes its own input and ends with logits or targets.

    Args:
        spec: the model; the format of its input is settled.
    """
    assert isinstance(spec.input.format, FixedFormat)
    quantize_input = qkeras.QActivation(activation_of(spec.input.format), name=spec.input.name)
    return _connected(spec, quantize_input, lambda layer: QUANTIZED[type(layer)](layer))


@quiet_warnings()
def build_float(spec: specs.ModelSpec) -> Any:
    """Return the float twin: the same topology in float32, nothing quantized."""
    return _connected(spec, None, lambda layer: FLOAT[type(layer)](layer))


@quiet_warnings()
def build_plain(spec: specs.ModelSpec, model: Any) -> Any:
    """Return the model of a spec with tables as layers of Keras and QKeras; it computes what the trained one does.

    Args:
        spec: the model; all formats and thresholds are settled.
        model: as `build_quantized` returned it, trained or not.
    """
    assert isinstance(spec.input.format, FixedFormat)
    formats, read = spec.formats(), {layer.name: names for layer, names in spec.connections()}

    def made(layer: specs.LayerSpec) -> Any:
        trained = model.get_layer(layer.name)
        if isinstance(layer, specs.TablesSpec):
            return tables.plain_tables(trained)
        if isinstance(layer, specs.PopcountSpec):
            return tables.plain_popcount(trained)
        if isinstance(layer, specs.ThresholdsSpec):
            fmt = formats[read[layer.name][0]]
            assert fmt is not None
            return tables.plain_thresholds(trained, fmt.step)
        return QUANTIZED[type(layer)](layer)

    plain = _connected(spec, qkeras.QActivation(activation_of(spec.input.format), name=spec.input.name), made)
    for layer in spec.layers:
        if not isinstance(layer, specs.ThresholdsSpec | specs.TablesSpec | specs.PopcountSpec):
            plain.get_layer(layer.name).set_weights(model.get_layer(layer.name).get_weights())
    return plain


def _connected(spec: specs.ModelSpec, port: Any, made: Callable[[specs.LayerSpec], Any]) -> Any:
    """Return the model of layers that read each other as the spec says; `port` is a layer before all, or None."""
    first = keras.Input(spec.input.shape, name="input")
    tensors = {spec.input.name: first if port is None else port(first)}
    for layer, names in spec.connections():
        read = [tensors[name] for name in names]
        tensors[layer.name] = made(layer)(read if len(read) > 1 else read[0])
    outputs = [tensors[head.layer] for head in spec.learned()]
    return keras.Model(first, outputs[0] if len(outputs) == 1 else outputs, name=spec.name)


def _geometry(layer: Any) -> dict[str, Any]:
    """Return the arguments of a layer with weights, quantized or not."""
    common = {"name": layer.name, "use_bias": layer.bias is not None}
    if isinstance(layer, specs.DenseSpec):
        return {**common, "kernel_initializer": "he_normal", "units": layer.units}
    sizes = {**common, "kernel_size": layer.kernel_size, "strides": layer.strides, "padding": layer.padding}
    if isinstance(layer, specs.DepthwiseConv2DSpec):
        return {**sizes, "depthwise_initializer": "he_normal"}
    return {**sizes, "kernel_initializer": "he_normal", "filters": layer.filters}


def _quantized(layer: Any) -> dict[str, Any]:
    bias = qkeras.quantized_bits(layer.bias.width, layer.bias.int_bits, 0, 1, alpha=1.0) if layer.bias else None
    what = "depthwise" if isinstance(layer, specs.DepthwiseConv2DSpec) else "kernel"
    return {**_geometry(layer), f"{what}_quantizer": KERNELS[type(layer.kernel)](layer.kernel), "bias_quantizer": bias}


def _cast(layer: Any, signed: bool) -> Any:
    """Return the cast of a layer; one whose range is learned begins with one integer bit."""
    bits = layer.format
    fmt = FixedFormat(signed, 1, bits - signed - 1) if isinstance(bits, int) else bits
    return qkeras.QActivation(activation_of(fmt), name=layer.name)


def _pool(layer: specs.PoolSpec) -> Any:
    """Return a pooling layer: of windows, or of a whole image or series."""
    kind = {"max": "MaxPooling", "average": "AveragePooling"}[layer.function]
    if layer.size:
        return getattr(keras.layers, f"{kind}{len(layer.size)}D")(layer.size, name=layer.name)
    return _Global(kind, layer.name)


class _Global:
    """A pooling of everything, of images or of series: which one, its input says."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name

    def __call__(self, tensor: Any) -> Any:
        return getattr(keras.layers, f"Global{self.kind}{len(tensor.shape) - 2}D")(name=self.name)(tensor)


def _quantized_batch_norm(layer: specs.BatchNormSpec) -> Any:
    scale = _po2(layer.scale) if isinstance(layer.scale, specs.Po2Spec) else _grid(layer.scale)
    return FixedBatchNormalization(scale, _grid(layer.offset), momentum=BATCH_NORM_MOMENTUM, name=layer.name)


def activation_of(fmt: FixedFormat) -> str:
    """Return the QKeras activation that rounds half to even and clamps to the format."""
    if fmt.signed:
        return f"quantized_bits({fmt.width},{fmt.int_bits},0,1,alpha=1.0)"
    return f"quantized_relu({fmt.width},{fmt.int_bits})"


def _grid(fmt: FixedFormat) -> Any:
    return quantized_grid(fmt.width, fmt.int_bits)


def _po2(values: specs.Po2Spec) -> Any:
    count = values.max_exponent - values.min_exponent + 1
    bits = 1 + count.bit_length()  # a sign; an exponent or zero
    return quantized_po2_zero(bits, min_exp=values.min_exponent, max_exp=values.max_exponent)


def _of_channels(values: specs.GridSpec) -> Any:
    widths, tops = values.of_channels()
    return quantized_grid(widths, tops) if values.channels else quantized_grid(widths[0], tops[0])


KERNELS: Mapping[type, Callable[[Any], Any]] = {
    specs.Po2Spec: _po2,
    specs.ApotSpec: lambda values: quantized_apot(values.terms, values.min_exponent, values.max_exponent),
    specs.LevelsSpec: lambda values: getattr(qkeras, values.values)(alpha="auto_po2"),
    specs.GridSpec: _of_channels,
    specs.BitsSpec: lambda values: quantized_grid(values.bits, 0),
}
"""What values a kernel of a spec has -> what makes their quantizer."""
FLOAT: Mapping[type[specs.LayerSpec], Callable[[Any], Any]] = {
    specs.DenseSpec: lambda layer: keras.layers.Dense(**_geometry(layer)),
    specs.Conv2DSpec: lambda layer: keras.layers.Conv2D(**_geometry(layer)),
    specs.Conv1DSpec: lambda layer: keras.layers.Conv1D(**_geometry(layer)),
    specs.DepthwiseConv2DSpec: lambda layer: keras.layers.DepthwiseConv2D(**_geometry(layer)),
    specs.BatchNormSpec: lambda layer: _batch_norm(layer.name),
    specs.ReluSpec: lambda layer: keras.layers.ReLU(name=layer.name),
    specs.QuantizeSpec: lambda layer: keras.layers.Activation("linear", name=layer.name),
    specs.PoolSpec: _pool,
    specs.UpSamplingSpec: lambda layer: UP_SAMPLING[len(layer.size)](layer.size, name=layer.name),
    specs.MergeSpec: lambda layer: MERGES[layer.function](name=layer.name),
    specs.DropoutSpec: lambda layer: keras.layers.Dropout(layer.rate, name=layer.name),
    specs.FlattenSpec: lambda layer: keras.layers.Flatten(name=layer.name),
    specs.ReshapeSpec: lambda layer: keras.layers.Reshape(layer.shape, name=layer.name),
}
QUANTIZED: Mapping[type[specs.LayerSpec], Callable[[Any], Any]] = {
    **FLOAT,
    specs.DenseSpec: lambda layer: qkeras.QDense(**_quantized(layer)),
    specs.Conv2DSpec: lambda layer: qkeras.QConv2D(**_quantized(layer)),
    specs.Conv1DSpec: lambda layer: qkeras.QConv1D(**_quantized(layer)),
    specs.DepthwiseConv2DSpec: lambda layer: qkeras.QDepthwiseConv2D(**_quantized(layer)),
    specs.BatchNormSpec: _quantized_batch_norm,
    specs.ReluSpec: lambda layer: _cast(layer, signed=False),
    specs.QuantizeSpec: lambda layer: _cast(layer, signed=True),
    specs.ThresholdsSpec: lambda layer: tables.Thresholds(layer.at, layer.name),
    specs.TablesSpec: lambda layer: tables.Tables(
        layer.units,
        layer.fan_in,
        layer.hidden,
        (layer.kernel.min_exponent, layer.kernel.max_exponent),
        tree=layer.wiring == "tree",
        name=layer.name,
    ),
    specs.PopcountSpec: lambda layer: tables.Popcount(layer.units, layer.temperature, layer.name),
}
"""Kind of layer in a spec -> what makes the layer of the quantized model; above, that of its float twin, if any."""
MERGES: Mapping[str, Any] = {"add": keras.layers.Add, "concatenate": keras.layers.Concatenate}
UP_SAMPLING: Mapping[int, Any] = {
    1: lambda size, name: keras.layers.UpSampling1D(size[0], name=name),
    2: keras.layers.UpSampling2D,
}


# -- float models by name

STACKS = ((16, 1), (32, 2), (64, 2))
"""Filters and stride of each residual stack of `resnet8`."""
PAIRS = ((24, 1), (48, 2), (48, 1), (96, 2), (96, 1), (96, 1))
"""Filters of the pointwise and stride of the depthwise convolution of each pair of `mobile`."""
CODE_LENGTH = 16
HIDDEN_UNITS = (64, 32)
"""Of the encoder of `autoencoder`; the decoder has them the other way round."""


@quiet_warnings()
def build_topology(spec: specs.FloatSpec, classes: int) -> Any:
    """Return the untrained Keras model of a float spec.

    Args:
        spec: the model.
        classes: units of the last layer of a classifier; the autoencoder has those of its input.

    Returns:
        A Keras model with one input of shape `spec.input_shape` and one linear output.
    """
    first = keras.Input(spec.input_shape, name="input")
    return keras.Model(first, TOPOLOGIES[spec.topology](first, classes), name=spec.name)


def resnet8(tensor: Any, classes: int) -> Any:
    """Apply ResNet-8, the image classification topology of MLPerf Tiny.

    A 3x3 convolution of 16 filters, three residual stacks of two 3x3 convolutions each (16, 32 and 64 filters, strides
    1, 2 and 2, a 1x1 convolution on the short cut of the last two), an average over the whole image, a dense layer.
    MLPerf's reference (github.com/mlcommons/tiny, benchmark/training/image_classification) gives the convolutions a
    bias and the short cuts no batch normalization; here a batch normalization follows each, and takes the bias' place.

    Args:
        tensor: (samples, height, width, channels).
        classes: units of the last layer.

    Returns:
        (samples, classes): logits.
    """
    tensor = _relu(_conv(tensor, "conv1", 16, 3, 1), "relu1")
    for number, (filters, stride) in enumerate(STACKS, 1):
        name = f"stack{number}"
        branch = _relu(_conv(tensor, f"{name}_conv1", filters, 3, stride), f"{name}_relu1")
        branch = _conv(branch, f"{name}_conv2", filters, 3, 1)
        if stride > 1:
            tensor = _conv(tensor, f"{name}_short", filters, 1, stride)
        tensor = _relu(keras.layers.Add(name=f"{name}_add")([tensor, branch]), f"{name}_relu2")
    tensor = keras.layers.AveragePooling2D(tuple(tensor.shape[1:3]), name="average")(tensor)
    return _dense(keras.layers.Flatten(name="flatten")(tensor), "logits", classes)


def mobile(tensor: Any, classes: int) -> Any:
    """Apply a small depthwise-separable net after MobileNet v1 (arXiv 1704.04861): batch normalization, ReLU6.

    A 3x3 convolution of 16 filters with stride 2, six pairs of a depthwise 3x3 and a pointwise convolution (`PAIRS`),
    an average over the whole image, a dense layer. Takes and returns what `resnet8` does.
    """
    tensor = _relu(_conv(tensor, "conv1", 16, 3, 2), "relu1", 6.0)
    for number, (filters, stride) in enumerate(PAIRS, 2):
        depthwise = keras.layers.DepthwiseConv2D(
            3, stride, "same", use_bias=False, depthwise_initializer="he_normal", name=f"depth{number}"
        )
        tensor = _relu(_batch_norm(f"depth{number}_bn")(depthwise(tensor)), f"depth{number}_relu", 6.0)
        tensor = _relu(_conv(tensor, f"point{number}", filters, 1, 1), f"point{number}_relu", 6.0)
    tensor = keras.layers.GlobalAveragePooling2D(name="average")(tensor)
    return _dense(tensor, "logits", classes)


def autoencoder(tensor: Any, classes: int) -> Any:
    """Apply a dense autoencoder like MLPerf Tiny's for anomaly detection, smaller: dense, batch normalization, ReLU.

    Args:
        tensor: (samples, features).
        classes: not used.

    Returns:
        (samples, features): the reconstruction, linear.
    """
    features = tensor.shape[1]
    for number, units in enumerate((*HIDDEN_UNITS, CODE_LENGTH, *reversed(HIDDEN_UNITS)), 1):
        dense = keras.layers.Dense(units, use_bias=False, kernel_initializer="he_normal", name=f"dense{number}")
        tensor = _relu(_batch_norm(f"dense{number}_bn")(dense(tensor)), f"relu{number}")
    return _dense(tensor, "reconstruction", features)


TOPOLOGIES: Mapping[str, Callable[[Any, int], Any]] = {"resnet8": resnet8, "mobile": mobile, "autoencoder": autoencoder}


def _conv(tensor: Any, name: str, filters: int, size: int, stride: int) -> Any:
    conv = keras.layers.Conv2D(filters, size, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name)
    return _batch_norm(f"{name}_bn")(conv(tensor))


def _batch_norm(name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=EPSILON, name=name)


def _relu(tensor: Any, name: str, max_value: float | None = None) -> Any:
    return keras.layers.ReLU(max_value, name=name)(tensor)


def _dense(tensor: Any, name: str, units: int) -> Any:
    return keras.layers.Dense(units, kernel_initializer="glorot_uniform", name=name)(tensor)
