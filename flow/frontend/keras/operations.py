"""Operators and functions in the calls of a functional model: `a * 2 + a[:, :4]`, `tf.nn.relu(a)`, `ops.sum(a, 1)`.

Keras 2 lists them as layers of class TFOpLambda or SlicingOpLambda, which name a function of TensorFlow, and writes the
arguments into the node; Keras 3 as an `Operation` of its own, of which `as_keras_2` makes those. A function is one of
`FUNCTIONS`, or refused by its name: none is looked up that is not in that table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UnsupportedError, shown
from flow.frontend import layers
from flow.frontend.layers import Settings

CLASSES = ("TFOpLambda", "SlicingOpLambda")
CONSTANT = "_CONSTANT_VALUE"
"""Stands in a node for the name of a layer, before a number."""
ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Reads:
    """An argument that is a tensor: which of those that the call reads."""

    position: int


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a function is called with: the first argument, and the others by name; tensors as `Reads`."""

    first: Any
    named: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a function is in a network.

    Attributes:
        settings: the kind of layer.
        arrays: its constants.
        function: where it is an element-wise function, the activation: its name in Keras, and slope.
    """

    settings: Settings
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    activation: tuple[str, Mapping[str, Any]] | None = None


def node_of(node: Any) -> tuple[list[tuple[str, int, int]], Arguments]:
    """Return the tensors (layer, node, index) that a node reads, and its arguments.

    Raises:
        UnsupportedError: it is none of a function.
    """
    sources: list[tuple[str, int, int]] = []

    def tensor(name: str, number: int, index: int) -> Reads:
        sources.append((name, int(number), int(index)))
        return Reads(len(sources) - 1)

    def first(entry: Any) -> Any:
        return _rounded(entry[2]) if entry[0] == CONSTANT else tensor(*entry[:3])

    def argument(value: Any) -> Any:
        if isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str):
            return first(value)
        if isinstance(value, list) and any(
            isinstance(item, list) and item and isinstance(item[0], str) for item in value
        ):
            return [argument(item) for item in value]
        return _rounded(value)

    if not isinstance(node, list) or not node:
        raise UnsupportedError(f"its call {shown(node)} cannot be read")
    several = isinstance(node[0], list)
    begin = [first(entry) for entry in node] if several else first(node)
    named = (node[0] if several else node)[3:4] or [{}]
    return sources, Arguments(begin, {key: argument(value) for key, value in named[0].items() if key != "name"})


def _rounded(value: Any) -> Any:
    """Return a constant with its numbers as float32 holds them: TensorFlow makes such of them."""
    if isinstance(value, float):
        with np.errstate(over="ignore"):  # infinite, which is refused
            return float(np.float32(value))
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def unknown(function: str) -> UnsupportedError:
    """Return the refusal of a function that is not in the table."""
    known = ", ".join(f"tf.{name}" for name in FUNCTIONS if not name.startswith(("__", "compat")))
    return UnsupportedError(f"function tf.{shown(function)[1:-1]} is not supported", remedy=f"use layers, or {known}")


def operation(function: str, arguments: Arguments) -> Operation:
    """Return what a function is in a network.

    Raises:
        UnsupportedError: it is not in the table, or has arguments that no layer is.
    """
    if function not in FUNCTIONS:
        raise unknown(function)
    names, read = FUNCTIONS[function]
    given = {names[0]: arguments.first, **arguments.named}
    known_defaults = {key: value for key, value in given.items() if key in names}
    for key, value in given.items():
        if key not in names and value not in (None, False, 0, "CONSTANT"):
            raise UnsupportedError(f"tf.{function} with {key}={shown(value)} is not supported", remedy="leave it out")
    return read(known_defaults)


# -- kinds


def _merge(function: str) -> Callable[[Mapping[str, Any]], Operation]:
    def read(given: Mapping[str, Any]) -> Operation:
        x, y = given["x"], given["y"]
        if isinstance(x, Reads) and isinstance(y, Reads):
            return Operation(settings=layers.Merge(function=function, same_rank=True))
        constant, first = (y, True) if isinstance(x, Reads) else (x, False)
        return _with_constant(function, _array(constant), first)

    return read


def _with_constant(function: str, constant: NDArray[np.float32], first: bool) -> Operation:
    """Return a tensor and a constant, in this order or the other, as a scale and an offset, or as a bound."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    if function in ("maximum", "minimum"):
        return Operation(settings=layers.Bound(function=function), arrays={"bound": constant})
    if function == "divide":
        with np.errstate(divide="ignore"):
            inverse = (1 / constant).astype(np.float32)
        if not first:
            raise UnsupportedError(
                "divides by a tensor", remedy="multiply by constants instead, or quantize its reciprocal"
            )
        if not np.isin(np.frexp(constant)[0], (0.5, -0.5)).all():
            remedy = "multiply by its reciprocal, or divide by a power of two"
            raise UnsupportedError("divides by what is no power of two", remedy=remedy)
        return Operation(settings=layers.Affine(), arrays={"scale": inverse, "offset": zero})
    if function == "multiply":
        scale, offset = constant, zero
    elif function == "subtract":
        scale, offset = (one, -constant) if first else (-one, constant)
    else:
        scale, offset = one, constant
    return Operation(settings=layers.Affine(), arrays={"scale": scale, "offset": offset})


def _array(value: Any) -> NDArray[np.float32]:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise UnsupportedError(f"the constant {shown(value)} is no array of numbers") from None
    return array.reshape(1) if array.ndim == 0 else array


def _power(given: Mapping[str, Any]) -> Operation:
    if given["y"] != 2 or not isinstance(given["x"], Reads):
        raise UnsupportedError("raises to another power than 2", remedy="multiply a tensor by itself")
    return _square(given)


def _square(given: Mapping[str, Any]) -> Operation:
    return Operation(settings=layers.Merge(function="multiply", times=2))


def _clip(given: Mapping[str, Any]) -> Operation:
    bounds = {"low": _array(given["clip_value_min"]), "high": _array(given["clip_value_max"])}
    return Operation(settings=layers.Bound(function="clip"), arrays=bounds)


def _scaled(scale: float) -> Callable[[Mapping[str, Any]], Operation]:
    arrays = {"scale": np.array([scale], np.float32), "offset": np.zeros(1, np.float32)}
    return lambda given: Operation(settings=layers.Affine(), arrays=arrays)


def _function(name: str, **defaults: Any) -> Callable[[Mapping[str, Any]], Operation]:
    """Return how an element-wise function is read; its other arguments are those of the layer of that name."""

    def read(given: Mapping[str, Any]) -> Operation:
        config = {key: given.get(key, value) for key, value in defaults.items()}
        return Operation(settings=layers.Activate(), activation=(name, config))

    return read


def _same(given: Mapping[str, Any]) -> Operation:
    if given.get("dtype") not in (None, "float32"):
        raise UnsupportedError(f"casts to {shown(given['dtype'])}", remedy="compute in float32")
    return Operation(settings=layers.Identity())


def _join(stacks: bool) -> Callable[[Mapping[str, Any]], Operation]:
    def read(given: Mapping[str, Any]) -> Operation:
        values = given["values"]
        if not all(isinstance(value, Reads) for value in values):
            raise UnsupportedError("joins a constant", remedy="join tensors of the network")
        axis = int(given.get("axis") or 0)
        if axis == 0:
            raise UnsupportedError("joins samples (axis=0)", remedy="only axes of one sample are supported")
        return Operation(settings=layers.Concatenate(axis=axis if axis < 0 else axis - 1, stacks=stacks))

    return read


def _reshape(given: Mapping[str, Any]) -> Operation:
    return Operation(settings=layers.Reshape(shape=tuple(int(size) for size in given["shape"][1:])))


def _transpose(given: Mapping[str, Any]) -> Operation:
    axes = given.get("perm")
    if not axes or axes[0] != 0:
        raise UnsupportedError(f"transposes the samples (perm={shown(axes)})", remedy="give perm, beginning with 0")
    return Operation(settings=layers.Permute(axes=tuple(int(axis) - 1 for axis in axes[1:])))


def _slice(given: Mapping[str, Any]) -> Operation:
    spec = given["slice_spec"]
    parts = tuple(map(_part, spec if isinstance(spec, list) else [spec]))
    if parts[0] not in (ALL, ...):
        raise UnsupportedError("takes some of the samples", remedy="begin with a full slice: x[:, ...]")
    return Operation(settings=layers.Slice(parts=parts))


def _part(part: Any) -> Any:
    if isinstance(part, Mapping):
        if part.get("class_name") == "__ellipsis__":
            return ...
        own = part.get("config", part)
        return slice(own.get("start"), own.get("stop"), own.get("step"))
    if part is not None and type(part) is not int:
        raise UnsupportedError(f"slices with {shown(part)}", remedy="slice with numbers")
    return part


def _at(axis: Any, part: Any) -> tuple[Any, ...]:
    """Return a slice that has `part` at an axis counted with the batch, and all of the others."""
    if type(axis) is not int or axis == 0:
        raise UnsupportedError(f"axis={shown(axis)} is not supported", remedy="give an axis of one sample")
    return (*(ALL,) * axis, part) if axis > 0 else (..., part, *(ALL,) * (-axis - 1))


def _one_axis(key: str, part: Any) -> Callable[[Mapping[str, Any]], Operation]:
    """Return how a function is read that does something at one axis."""

    def read(given: Mapping[str, Any]) -> Operation:
        axis = given.get(key)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        return Operation(settings=layers.Slice(parts=_at(axis, part)))

    return read


def _take(given: Mapping[str, Any]) -> Operation:
    indices = given["indices"]
    if not isinstance(indices, int | list) or not np.asarray(indices).dtype.kind == "i":
        raise UnsupportedError("gathers at indices that are no constants", remedy="give numbers")
    return Operation(settings=layers.Slice(parts=_at(given.get("axis"), indices)))


def _reduce(function: str) -> Callable[[Mapping[str, Any]], Operation]:
    def read(given: Mapping[str, Any]) -> Operation:
        axis = given.get("axis")
        axes = tuple(int(each) for each in (axis if isinstance(axis, list) else [axis]) if each is not None)
        if not axes or 0 in axes:
            raise UnsupportedError(f"reduces over samples (axis={shown(axis)})", remedy="give axes of one sample")
        return Operation(settings=layers.Reduce(function=function, axes=axes, keepdims=bool(given.get("keepdims"))))

    return read


def _product(given: Mapping[str, Any]) -> Operation:
    a, b = given["a"], given["b"]
    turned = bool(given.get("transpose_a")), bool(given.get("transpose_b"))
    if isinstance(a, Reads) and isinstance(b, Reads):
        return Operation(settings=layers.MatMul(transposes=turned))
    if any(turned):
        raise UnsupportedError("transposes a tensor or a matrix", remedy="transpose it before")
    matrix = _array(b if isinstance(a, Reads) else a)
    if matrix.ndim != 2:
        raise UnsupportedError(f"multiplies by a constant of shape {matrix.shape}", remedy="use a matrix")
    before = not isinstance(a, Reads)
    return Operation(settings=layers.Product(before=before), arrays={"kernel": matrix.T if before else matrix})


def _pad(given: Mapping[str, Any]) -> Operation:
    margins = [(int(before), int(after)) for before, after in given["paddings"]]
    if margins[0] != (0, 0) or given.get("constant_values") not in (None, 0):
        raise UnsupportedError("pads samples, or with other numbers than 0", remedy="pad axes of one sample with zeros")
    mode = str(given.get("mode") or "CONSTANT").lower()
    if mode not in ("constant", "reflect", "symmetric"):
        raise UnsupportedError(f"pads with mode={shown(given['mode'])}", remedy="use CONSTANT, REFLECT or SYMMETRIC")
    return Operation(settings=layers.Pad(margins=tuple(margins[1:]), channels=True, mode=mode))


Read = tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Operation]]


def _aliases(names: str, read: Read) -> dict[str, Read]:
    return dict.fromkeys(names.split(), read)


FUNCTIONS: Mapping[str, Read] = {
    **_aliases("math.add __operators__.add add", (("x", "y"), _merge("add"))),
    **_aliases("math.subtract subtract", (("x", "y"), _merge("subtract"))),
    **_aliases("math.multiply multiply", (("x", "y"), _merge("multiply"))),
    **_aliases("math.truediv math.divide divide", (("x", "y"), _merge("divide"))),
    **_aliases("math.maximum maximum", (("x", "y"), _merge("maximum"))),
    **_aliases("math.minimum minimum", (("x", "y"), _merge("minimum"))),
    "math.add_n": (("values",), lambda given: Operation(settings=layers.Merge(function="add", same_rank=True))),
    **_aliases("math.negative negative", (("x",), _scaled(-1))),
    "math.square": (("x",), _square),
    "math.pow": (("x", "y"), _power),
    "clip_by_value": (("t", "clip_value_min", "clip_value_max"), _clip),
    "nn.relu": (("features",), _function("ReLU")),
    "nn.relu6": (("features",), _function("ReLU", max_value=6.0)),
    "nn.leaky_relu": (("features", "alpha"), _function("LeakyReLU", alpha=0.2)),
    "math.abs": (("x",), _function("LeakyReLU", alpha=-1.0)),
    **_aliases("math.tanh nn.tanh tanh", (("x",), _function("tanh"))),
    **_aliases("math.sigmoid nn.sigmoid sigmoid", (("x",), _function("sigmoid"))),
    "nn.elu": (("features",), _function("elu")),
    "nn.selu": (("features",), _function("selu")),
    **_aliases("math.softplus nn.softplus", (("features",), _function("softplus"))),
    **_aliases("nn.softsign math.softsign", (("features",), _function("softsign"))),
    "nn.softmax": (("logits", "axis"), _function("Softmax", axis=-1)),
    **_aliases("identity stop_gradient", (("input",), _same)),
    "cast": (("x", "dtype"), _same),
    "concat": (("values", "axis"), _join(False)),
    "stack": (("values", "axis"), _join(True)),
    "reshape": (("tensor", "shape"), _reshape),
    **_aliases("transpose compat.v1.transpose", (("a", "perm"), _transpose)),
    "__operators__.getitem": (("tensor", "slice_spec"), _slice),
    "expand_dims": (("input", "axis"), _one_axis("axis", None)),
    **_aliases("squeeze compat.v1.squeeze", (("input", "axis"), _one_axis("axis", 0))),
    "reverse": (("tensor", "axis"), _one_axis("axis", slice(None, None, -1))),
    **_aliases("gather compat.v1.gather", (("params", "indices", "axis"), _take)),
    "math.reduce_sum": (("input_tensor", "axis", "keepdims"), _reduce("add")),
    "math.reduce_mean": (("input_tensor", "axis", "keepdims"), _reduce("average")),
    "math.reduce_max": (("input_tensor", "axis", "keepdims"), _reduce("maximum")),
    "linalg.matmul": (("a", "b", "transpose_a", "transpose_b"), _product),
    **_aliases("pad compat.v1.pad", (("tensor", "paddings", "mode", "constant_values"), _pad)),
}
"""Function of TensorFlow -> the names of its arguments, in order, and how they become a layer."""

# -- Keras 3

OF_KERAS_3: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Add": ("math.add", ("x", "y")),
    "Subtract": ("math.subtract", ("x", "y")),
    "Multiply": ("math.multiply", ("x", "y")),
    **dict.fromkeys(("TrueDivide", "Divide"), ("math.truediv", ("x", "y"))),
    "Maximum": ("math.maximum", ("x", "y")),
    "Minimum": ("math.minimum", ("x", "y")),
    "Power": ("math.pow", ("x", "y")),
    "Negative": ("math.negative", ("x",)),
    "Absolute": ("math.abs", ("x",)),
    "Square": ("math.square", ("x",)),
    "Clip": ("clip_by_value", ("t",)),
    "Relu": ("nn.relu", ("features",)),
    "Relu6": ("nn.relu6", ("features",)),
    "LeakyRelu": ("nn.leaky_relu", ("features",)),
    "Tanh": ("math.tanh", ("x",)),
    "Sigmoid": ("math.sigmoid", ("x",)),
    "Softplus": ("nn.softplus", ("features",)),
    "Softmax": ("nn.softmax", ("logits",)),
    "Concatenate": ("concat", ("values",)),
    "Stack": ("stack", ("values",)),
    "Reshape": ("reshape", ("tensor",)),
    "Transpose": ("transpose", ("a",)),
    "GetItem": ("__operators__.getitem", ("tensor", "slice_spec")),
    "ExpandDims": ("expand_dims", ("input",)),
    "Squeeze": ("squeeze", ("input",)),
    "Flip": ("reverse", ("tensor",)),
    "Take": ("gather", ("params", "indices")),
    "Sum": ("math.reduce_sum", ("input_tensor",)),
    "Mean": ("math.reduce_mean", ("input_tensor",)),
    "Max": ("math.reduce_max", ("input_tensor",)),
    "Matmul": ("linalg.matmul", ("a", "b")),
}
"""Operation of Keras 3 -> function of TensorFlow, and the names of the arguments that a node gives it."""
ALSO_LAYERS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Reshape", "Softmax")
"""Operations that have the names of layers; the layers read one tensor, or one list of them."""
RENAMED = {
    **{"negative_slope": "alpha", "newshape": "shape", "axes": "perm"},
    **{"x_min": "clip_value_min", "x_max": "clip_value_max"},
}
"""Arguments that Keras 3 calls otherwise than TensorFlow."""


def is_of_keras_3(entry: Mapping[str, Any]) -> bool:
    """Say whether an entry of a configuration is an operation of Keras 3: it has no variables to train or not to train.

    An `.h5` does not say the module, and some layers have the names of operations.
    """
    nodes, config, name = entry.get("inbound_nodes"), entry.get("config"), str(entry.get("class_name"))
    called = [node for node in nodes if isinstance(node, Mapping)] if isinstance(nodes, list) else []
    if not called or not isinstance(config, Mapping) or "trainable" in config:
        return False
    several = any(len(node.get("args") or ()) > 1 for node in called)
    like_a_layer = name in ALSO_LAYERS and not several and "newshape" not in config
    return str(entry.get("module")).startswith("keras.src.ops.") or (name in OF_KERAS_3 and not like_a_layer)


def as_lambda(entry: Mapping[str, Any], tensor: Callable[[Any], list[Any] | None]) -> dict[str, Any]:
    """Return an operation of Keras 3 as the layer that Keras 2 makes of such a call.

    Args:
        entry: as Keras 3 lists it.
        tensor: [layer, node, index] of what stands for a tensor there; None for anything else.
    """
    class_name, config = str(entry["class_name"]), dict(entry["config"])
    function, names = OF_KERAS_3.get(class_name, (class_name, ("x",)))
    name = config.pop("name", entry.get("name"))
    own = {RENAMED.get(key, key): value for key, value in config.items() if key not in ("dtype", "trainable")}
    nodes: list[Any] = []
    for node in entry["inbound_nodes"]:
        given = dict(zip(names, node["args"], strict=False)) | dict(node.get("kwargs") or {}) | own
        held = {key: _held(value, tensor) for key, value in given.items() if value is not None}
        held |= {key: float(held[key]) for key in ("x", "y") if type(held.get(key)) is int}  # TensorFlow mixes no types
        first = held.pop(names[0])
        if isinstance(first, list) and first and isinstance(first[0], list) and isinstance(first[0][0], str):
            nodes.append([[*source, held] for source in first])
        elif isinstance(first, list) and first and isinstance(first[0], str):
            nodes.append([*first, held])
        else:
            nodes.append([CONSTANT, -1, first, held])
    kind = "SlicingOpLambda" if class_name == "GetItem" else "TFOpLambda"
    layer = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    return {"class_name": kind, "config": layer, "name": name, "inbound_nodes": nodes}


def _held(value: Any, tensor: Callable[[Any], list[Any] | None]) -> Any:
    """Return an argument as Keras 2 writes it into a node."""
    found = tensor(value)
    if found is not None:
        return found
    if isinstance(value, Mapping):
        if value.get("class_name") == "__numpy__":
            return value["config"]["value"]
        return value["config"] if value.get("class_name") == "__slice__" else dict(value)
    return [_held(item, tensor) for item in value] if isinstance(value, list) else value


def filled(value: Any, tensors: Sequence[Any]) -> Any:
    """Return an argument with tensors in the place of `Reads`."""
    if isinstance(value, Reads):
        return tensors[value.position]
    return [filled(item, tensors) for item in value] if isinstance(value, list) else value


def slices(arguments: Arguments) -> Iterator[Any]:
    """Yield what stands between the brackets of a slice."""
    spec = arguments.named["slice_spec"]
    yield from map(_part, spec if isinstance(spec, list) else [spec])
