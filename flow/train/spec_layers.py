"""Layers of a model spec: what each is, how its table is read, and the shape that it makes of those it reads.

A layer reads the one before it, or those that its `from` names. What values its weights and its outputs have is said as
in `flow.train.spec_values`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flow.errors import SpecError
from flow.ir.fixed import FixedFormat
from flow.toml_table import Table
from flow.train.spec_values import (
    GridSpec,
    KernelSpec,
    LevelsSpec,
    Po2Spec,
    read_format,
    read_format_or_bits,
    read_kernel,
    read_po2,
)

MOST = 65536
"""Units, filters or elements along an axis, at most."""
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """What every layer has: its name, and the layers that it reads; none named is the one before it."""

    name: str
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _WeightsSpec(_Layer):
    """What has weights. `bias` is its format, or None for no bias; `sparsity` the fraction pruned to zero."""

    kernel: KernelSpec
    bias: FixedFormat | None
    sparsity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSpec(_WeightsSpec):
    """A dense layer."""

    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _WindowsSpec(_WeightsSpec):
    """What slides a kernel; one number per axis that it slides along; `padding` is "valid" or "same"."""

    kernel_size: Shape
    strides: Shape
    padding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2DSpec(_WindowsSpec):
    """A 2-D convolution."""

    filters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv1DSpec(_WindowsSpec):
    """A 1-D convolution of a series (steps, channels)."""

    filters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConv2DSpec(_WindowsSpec):
    """A 2-D convolution of each channel by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNormSpec(_Layer):
    """A batch normalization; a `Po2Spec` scale is a shift, a `FixedFormat` scale a multiplier."""

    scale: Po2Spec | FixedFormat
    offset: FixedFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ReluSpec(_Layer):
    """A ReLU that rounds half to even and clamps to an unsigned format; of a number of bits the range is learned."""

    format: FixedFormat | int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeSpec(_Layer):
    """Rounds half to even and clamps to a signed format; of a number of bits the range is learned."""

    format: FixedFormat | int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec(_Layer):
    """The largest or the average ("max", "average") of windows that do not overlap; without a `size` of everything."""

    function: str
    size: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSamplingSpec(_Layer):
    """Each element repeated along each axis."""

    size: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSpec(_Layer):
    """Several tensors into one: "add", or "concatenate" along the last axis."""

    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutSpec(_Layer):
    """Zeros at random in training; nothing at inference."""

    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenSpec(_Layer):
    """Flatten an image or a series to a vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshapeSpec(_Layer):
    """The same elements in the same order, in another shape."""

    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdsSpec(_Layer):
    """A bit for each value of a vector and each threshold, 1 above it; `levels` thresholds are fitted, to quantiles."""

    at: tuple[float, ...] = ()
    levels: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesSpec(_Layer):
    """Neurons that read `fan_in` bits each and give one, with a subnet of `hidden` units of powers of two inside.

    Their wires are learned, or each reads the next ones ("tree").
    """

    units: int
    fan_in: int
    hidden: int
    kernel: Po2Spec
    wiring: str = "learned"


@dataclass(frozen=True, slots=True, kw_only=True)
class PopcountSpec(_Layer):
    """For each class how many of its bits, which stand side by side, are 1; `temperature` divides it in training."""

    units: int
    temperature: float


LayerSpec = (
    DenseSpec
    | Conv2DSpec
    | Conv1DSpec
    | DepthwiseConv2DSpec
    | BatchNormSpec
    | ReluSpec
    | QuantizeSpec
    | PoolSpec
    | UpSamplingSpec
    | MergeSpec
    | DropoutSpec
    | FlattenSpec
    | ReshapeSpec
    | ThresholdsSpec
    | TablesSpec
    | PopcountSpec
)
OF_BITS = (TablesSpec, PopcountSpec)
"""Read bits."""
BIT = FixedFormat(False, 1, 0)
MOST_FAN_IN, MOST_HIDDEN, MOST_LEVELS = 16, 64, 15


# -- tables


def read_layer(table: Table) -> LayerSpec:
    """Return the layer of a table `[[layers]]`.

    Raises:
        SpecError: a key is missing, unknown, or of a wrong type or value.
    """
    kind = table.text("kind", tuple(LAYERS))
    common: dict[str, Any] = {"name": table.name("name")}
    if table.has("from"):
        common["inputs"] = table.texts("from")
    layer = LAYERS[kind](table, common)
    table.close()
    return layer


def _weights(table: Table, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all layers with weights say of them."""
    kernel = read_kernel(table, "kernel")
    sparsity = table.number("sparsity", 0.0, 1.0) if table.has("sparsity") else 0.0
    if sparsity and kernel == LevelsSpec(values="binary"):
        what = f"key '{table.key('sparsity')}' is {sparsity}, but binary weights have no zero"
        raise SpecError(what, remedy='take kernel = { values = "ternary" }')
    bias = read_format(table, "bias", signed=True) if table.has("bias") else None
    return {**common, "kernel": kernel, "bias": bias, "sparsity": sparsity}


def _windows(table: Table, common: Mapping[str, Any], axes: int) -> dict[str, Any]:
    return {
        **_weights(table, common),
        "kernel_size": table.integers("kernel_size", (axes,)),
        "strides": table.integers("strides", (axes,)) if table.has("strides") else (1,) * axes,
        "padding": table.text("padding", ("valid", "same")) if table.has("padding") else "valid",
    }


def _batch_norm(table: Table, common: Mapping[str, Any]) -> LayerSpec:
    is_po2 = "min_exponent" in table.table("scale").data
    scale = read_po2(table, "scale") if is_po2 else read_format(table, "scale", signed=True)
    return BatchNormSpec(**common, scale=scale, offset=read_format(table, "offset", signed=True))


def _merge(table: Table, common: Mapping[str, Any], function: str) -> LayerSpec:
    if len(common.get("inputs", ())) < 2:
        raise SpecError(f"key '{table.key('from')}' names no two layers", remedy="expected from = ['one', 'other']")
    return MergeSpec(**common, function=function)


def _thresholds(table: Table, common: Mapping[str, Any]) -> LayerSpec:
    if table.has("levels"):
        return ThresholdsSpec(**common, levels=table.integer("levels", 1, MOST_LEVELS))
    return ThresholdsSpec(**common, at=table.numbers("at"))


def _tables(table: Table, common: Mapping[str, Any]) -> LayerSpec:
    return TablesSpec(
        **common,
        units=table.integer("units", 1, MOST),
        fan_in=table.integer("fan_in", 1, MOST_FAN_IN),
        hidden=table.integer("hidden", 1, MOST_HIDDEN),
        kernel=read_po2(table, "kernel"),
        wiring=table.text("wiring", ("learned", "tree")) if table.has("wiring") else "learned",
    )


def _popcount(table: Table, common: Mapping[str, Any]) -> LayerSpec:
    temperature = table.number("temperature", 2.0**-10, 2.0**10)
    return PopcountSpec(**common, units=table.integer("units", 1, MOST), temperature=temperature)


def _pool(function: str, axes: int) -> Callable[[Table, Mapping[str, Any]], LayerSpec]:
    return lambda table, common: PoolSpec(
        **common, function=function, size=table.integers("size", (axes,)) if axes else ()
    )


LAYERS: Mapping[str, Callable[[Table, Mapping[str, Any]], LayerSpec]] = {
    "dense": lambda table, common: DenseSpec(**_weights(table, common), units=table.integer("units", 1, MOST)),
    "conv2d": lambda table, common: Conv2DSpec(**_windows(table, common, 2), filters=table.integer("filters", 1, MOST)),
    "conv1d": lambda table, common: Conv1DSpec(**_windows(table, common, 1), filters=table.integer("filters", 1, MOST)),
    "depthwise_conv2d": lambda table, common: DepthwiseConv2DSpec(**_windows(table, common, 2)),
    "batch_norm": _batch_norm,
    "relu": lambda table, common: ReluSpec(**common, format=read_format_or_bits(table, "format", signed=False)),
    "quantize": lambda table, common: QuantizeSpec(**common, format=read_format_or_bits(table, "format", signed=True)),
    "max_pool2d": _pool("max", 2),
    "max_pool1d": _pool("max", 1),
    "average_pool2d": _pool("average", 2),
    "average_pool1d": _pool("average", 1),
    "global_max_pool": _pool("max", 0),
    "global_average_pool": _pool("average", 0),
    "upsampling2d": lambda table, common: UpSamplingSpec(**common, size=table.integers("size", (2,))),
    "upsampling1d": lambda table, common: UpSamplingSpec(**common, size=table.integers("size", (1,))),
    "add": lambda table, common: _merge(table, common, "add"),
    "concatenate": lambda table, common: _merge(table, common, "concatenate"),
    "dropout": lambda table, common: DropoutSpec(**common, rate=table.number("rate", 0.0, 1.0)),
    "flatten": lambda table, common: FlattenSpec(**common),
    "reshape": lambda table, common: ReshapeSpec(**common, shape=table.integers("shape", (1, 2, 3))),
    "thresholds": _thresholds,
    "tables": _tables,
    "popcount": _popcount,
}
"""`kind` of a layer -> what reads its table."""


# -- shapes


def output_shape(layer: LayerSpec, shapes: tuple[Shape, ...]) -> Shape:
    """Return the shape of one sample after a layer that reads samples of these shapes.

    Raises:
        SpecError: the layer does not take them.
    """
    if isinstance(layer, MergeSpec):
        return _merged(layer, shapes)
    if len(shapes) > 1:
        raise SpecError(f"layer '{layer.name}' reads {len(shapes)} layers, but takes one", named=layer.name)
    shape = SHAPES[type(layer)](layer, shapes[0])
    kernel = getattr(layer, "kernel", None)
    given = kernel.channels if isinstance(kernel, GridSpec) else None
    if given not in (None, shape[-1]):
        what = f"layer '{layer.name}' has {shape[-1]} channels, and its kernel bits of {given}"
        raise SpecError(what, named=layer.name)
    return shape


def _merged(layer: MergeSpec, shapes: tuple[Shape, ...]) -> Shape:
    first = shapes[0]
    if layer.function == "add":
        same = all(shape == first for shape in shapes)
        _require(same, layer, "inputs of one shape", shapes)
        return first
    _require(all(shape[:-1] == first[:-1] for shape in shapes), layer, "inputs that differ in the last axis", shapes)
    return (*first[:-1], sum(shape[-1] for shape in shapes))


def _dense(layer: DenseSpec, shape: Shape) -> Shape:
    _require(len(shape) == 1, layer, "a vector (put a flatten layer before it)", shape)
    return (layer.units,)


def _slid(layer: _WindowsSpec, shape: Shape, channels: int) -> Shape:
    """Return the places of a sliding kernel, and the channels."""
    _require_axes(layer, len(layer.kernel_size), shape)
    if layer.padding == "same":
        return (*(-(-length // step) for length, step in zip(shape, layer.strides, strict=False)), channels)
    _require_room(layer, layer.kernel_size, shape)
    places = zip(shape, layer.kernel_size, layer.strides, strict=False)
    return (*((length - size) // step + 1 for length, size, step in places), channels)


def _pooled(layer: PoolSpec, shape: Shape) -> Shape:
    if not layer.size:
        _require(len(shape) > 1, layer, "a series (steps, channels) or an image (height, width, channels)", shape)
        return shape[-1:]
    _require_axes(layer, len(layer.size), shape)
    _require_room(layer, layer.size, shape)
    return (*(length // size for length, size in zip(shape, layer.size, strict=False)), shape[-1])


def _upsampled(layer: UpSamplingSpec, shape: Shape) -> Shape:
    _require_axes(layer, len(layer.size), shape)
    return (*(length * size for length, size in zip(shape, layer.size, strict=False)), shape[-1])


def _reshaped(layer: ReshapeSpec, shape: Shape) -> Shape:
    _require(math.prod(layer.shape) == math.prod(shape), layer, f"{math.prod(layer.shape)} elements", shape)
    return layer.shape


def _compared(layer: ThresholdsSpec, shape: Shape) -> Shape:
    _require(len(shape) == 1, layer, "a vector (put a flatten layer before it)", shape)
    return (shape[0] * max(layer.levels, len(layer.at)),)


def _looked_up(layer: TablesSpec, shape: Shape) -> Shape:
    _require(len(shape) == 1, layer, "a vector (put a flatten layer before it)", shape)
    if layer.wiring == "tree":
        wires = layer.units * layer.fan_in
        _require(shape[0] == wires, layer, f"{layer.units} times {layer.fan_in} = {wires} bits for its tree", shape)
    _require(shape[0] >= layer.fan_in, layer, f"at least {layer.fan_in} bits", shape)
    return (layer.units,)


def _counted(layer: PopcountSpec, shape: Shape) -> Shape:
    fits = len(shape) == 1 and shape[0] % layer.units == 0
    _require(fits, layer, f"a vector of as many bits for each of {layer.units} classes", shape)
    return (layer.units,)


def _same(_: Any, shape: Shape) -> Shape:
    return shape


SHAPES: Mapping[type[LayerSpec], Callable[[Any, Shape], Shape]] = {
    DenseSpec: _dense,
    Conv2DSpec: lambda layer, shape: _slid(layer, shape, layer.filters),
    Conv1DSpec: lambda layer, shape: _slid(layer, shape, layer.filters),
    DepthwiseConv2DSpec: lambda layer, shape: _slid(layer, shape, shape[-1]),
    BatchNormSpec: _same,
    ReluSpec: _same,
    QuantizeSpec: _same,
    DropoutSpec: _same,
    PoolSpec: _pooled,
    UpSamplingSpec: _upsampled,
    FlattenSpec: lambda _, shape: (math.prod(shape),),
    ReshapeSpec: _reshaped,
    ThresholdsSpec: _compared,
    TablesSpec: _looked_up,
    PopcountSpec: _counted,
}
"""Kind of layer that reads one other -> the shape that it makes of it."""


def _require_axes(layer: _Layer, axes: int, shape: Shape) -> None:
    expected = ("a series (steps, channels)", "an image (height, width, channels)")[axes - 1]
    _require(len(shape) == axes + 1, layer, expected, shape)


def _require_room(layer: _Layer, size: Shape, shape: Shape) -> None:
    fits = all(length >= least for length, least in zip(shape, size, strict=False))
    _require(fits, layer, f"at least {size}", shape)


def _require(condition: bool, layer: _Layer, expected: str, shape: object) -> None:
    if not condition:
        what = f"layer '{layer.name}' needs {expected}; its input has shape {shape}"
        raise SpecError(what, named=layer.name)
