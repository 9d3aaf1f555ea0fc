"""Random QKeras models: small functional configurations over everything that `extract` reads, made to hit corners.

A `Recipe` is plain data: a Keras configuration, and a seed from which `flow.train.recipes` makes weights layer by layer
(by name, so that a smaller recipe keeps the weights of the layers that are left).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Shape = tuple[int, ...]
EPSILON = 2.0**-10
"""Batch normalizations with this epsilon get a variance of `1 - EPSILON` and scale by gamma, exactly; others by any
float32."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A random model as data.

    Attributes:
        name: identifier.
        config: Keras configuration of a functional model.
        seed: of the weights.
        input_format: port format where the model does not quantize its inputs, as for `--input-format`.
        io_type, strategy, backend: target on which it is tried.
    """

    name: str
    config: Mapping[str, Any]
    seed: int
    input_format: str | None = None
    io_type: str = "io_parallel"
    strategy: str = "Latency"
    backend: str = "Vitis"

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_json` wrote."""
        return cls(**data)


def random_recipe(seed: int, index: int) -> Recipe:
    """Return model `index` of a seed; always the same one."""
    rng = np.random.default_rng([seed, index])
    draft = _Draft(rng)
    inputs = [draft.input() for _ in range(1 if rng.random() < 0.9 else 2)]
    quantizes = rng.random() < 0.85
    tensors = [draft.quantizer(tensor) if quantizes else tensor for tensor in inputs]
    for _ in range(int(rng.integers(1, 5))):
        source = tensors[-1] if rng.random() < 0.75 else draft.pick(tensors)
        tensors.append(draft.block(source, tensors))
    if len(inputs) == 2:  # every input must be read
        tensors.append(draft.join(tensors, inputs))
    outputs = [tensors[-1]]
    if rng.random() < 0.1 and tensors[-2].name not in {tensor.name for tensor in inputs}:
        outputs.append(tensors[-2])
    name = f"fuzz_{seed}_{index}"
    config = {
        "name": name,
        "layers": draft.entries,
        "input_layers": [[tensor.name, 0, 0] for tensor in inputs],
        "output_layers": [[tensor.name, tensor.node, 0] for tensor in outputs],
    }
    return Recipe(
        name=name,
        config=_needed(config),
        seed=int(rng.integers(1 << 31)),
        input_format=None if quantizes else draft.pick(["ufixed<4,2>", "fixed<5,2>"]),
        io_type=draft.pick(["io_parallel", "io_stream"]),
        strategy=draft.pick(["Latency", "Resource"]),
        backend=draft.pick(["Vitis", "Vivado"]),
    )


def smaller(recipe: Recipe) -> Iterator[Recipe]:
    """Yield recipes with less in them, boldest first: an earlier output, then one layer left out."""
    layers = [entry for entry in recipe.config["layers"] if entry["class_name"] != "InputLayer"]
    for entry in layers:
        config = copy.deepcopy(dict(recipe.config))
        config["output_layers"] = [[entry["name"], 0, 0]]
        yield replace(recipe, config=_needed(config))
    for entry in layers:
        sources = [source for node in entry["inbound_nodes"] for source in node]
        if len(entry["inbound_nodes"]) != 1:
            continue
        for source in sources:
            config = copy.deepcopy(dict(recipe.config))
            config["layers"] = [other for other in config["layers"] if other["name"] != entry["name"]]
            for other in config["layers"]:
                other["inbound_nodes"] = [
                    [source if each[0] == entry["name"] else each for each in node] for node in other["inbound_nodes"]
                ]
            config["output_layers"] = [
                list(source[:3]) if each[0] == entry["name"] else each for each in config["output_layers"]
            ]
            yield replace(recipe, config=_needed(config))


def _needed(config: dict[str, Any]) -> dict[str, Any]:
    """Drop layers that no output needs; inputs that nothing reads go too."""
    entries = {entry["name"]: entry for entry in config["layers"]}
    wanted: set[str] = set()
    waiting = [name for name, _, _ in config["output_layers"]]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [source[0] for node in entries[name]["inbound_nodes"] for source in node]
    layers = [entry for entry in config["layers"] if entry["name"] in wanted]
    return {**config, "layers": layers, "input_layers": [port for port in config["input_layers"] if port[0] in wanted]}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: Shape
    node: int = 0


@dataclass(slots=True)
class _Draft:
    """A model while it is drawn."""

    rng: np.random.Generator
    entries: list[dict[str, Any]] = field(default_factory=list)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def input(self) -> _Tensor:
        shape = self.pick(
            [
                (int(self.rng.integers(1, 9)),),
                (int(self.rng.integers(1, 8)), int(self.rng.integers(1, 4))),
                *[(int(self.rng.integers(1, 7)), int(self.rng.integers(1, 7)), int(self.rng.integers(1, 4)))] * 2,
            ]
        )
        return self.add("InputLayer", [], shape, batch_input_shape=[None, *shape], dtype="float32")

    def add(self, class_name: str, sources: Sequence[_Tensor], shape: Shape, **config: Any) -> _Tensor:
        name = f"{class_name.lower()}_{len(self.entries)}"
        node = [[source.name, source.node, 0, {}] for source in sources]
        self.entries.append(
            {
                "class_name": class_name,
                "name": name,
                "config": {"name": name, **config},
                "inbound_nodes": [node] if sources else [],
            }
        )
        return _Tensor(name, shape)

    # -- quantizers

    def weight_quantizer(self) -> str:
        bits = int(self.rng.integers(2, 7))
        return str(
            self.pick(
                [
                    f"quantized_bits({bits},{int(self.rng.integers(0, 2))},1,alpha=1)",
                    f"quantized_bits({bits},0,0,alpha=1)",
                    f"quantized_bits({bits},0,1,alpha='auto_po2')",
                    f"quantized_bits({bits},0,1)",
                    f"quantized_bits({bits},1,0,False,alpha=1)",
                    f"quantized_bits({bits},0,1,alpha=0.5)",
                    "quantized_bits(1,0,alpha=1)",
                    "quantized_po2(4,1)",
                    "quantized_po2(3,2)",
                    "quantized_po2(4,1,quadratic_approximation=True)",
                    "quantized_relu_po2(4,2)",
                    "binary(alpha=1)",
                    "binary(True,alpha=1)",
                    "ternary(alpha=1)",
                    "stochastic_ternary(alpha=1)",
                    "stochastic_binary(alpha=1)",
                ]
            )
        )

    def bias(self) -> dict[str, Any]:
        if self.chance(0.2):
            return {"use_bias": False}
        return {
            "use_bias": True,
            "bias_quantizer": self.pick([None, "quantized_bits(5,1,alpha=1)", "quantized_po2(4,1)"]),
        }

    def cast(self) -> str:
        bits = int(self.rng.integers(1, 8))
        integer = int(self.rng.integers(0, 4))
        return str(
            self.pick(
                [
                    f"quantized_relu({bits},{integer})",
                    f"quantized_relu({bits},{integer})",
                    f"quantized_bits({bits + 1},{integer},alpha=1)",
                    f"quantized_bits({bits + 1},{integer},1,alpha=1)",
                    f"quantized_bits({bits + 1},{integer},0,False,alpha=1)",
                ]
            )
        )

    def other_quantizer(self) -> str:
        bits = int(self.rng.integers(2, 7))
        return str(
            self.pick(
                [
                    f"quantized_relu({bits},1,negative_slope=0.25)",
                    f"quantized_relu({bits},1,use_sigmoid=1)",
                    f"quantized_relu({bits},2,relu_upper_bound=1.5,is_quantized_clip=False)",
                    f"quantized_tanh({bits})",
                    f"quantized_tanh({bits},symmetric=True)",
                    f"quantized_tanh({bits},use_real_tanh=True)",
                    f"quantized_sigmoid({bits})",
                    f"quantized_hswish({bits},2,alpha=1)",
                    f"quantized_relu_po2({max(bits, 3)},4)",
                    f"quantized_po2({max(bits, 3)},4)",
                    "binary(alpha=1)",
                    "binary(True,alpha=1)",
                    "ternary(alpha=1,threshold=0.5)",
                    "stochastic_ternary(alpha=1)",
                    "quantized_bits(1,0,alpha=1)",
                    "quantized_bits(4,1,alpha=2.0)",
                ]
            )
        )

    def quantizer(self, source: _Tensor) -> _Tensor:
        return self.add("QActivation", [source], source.shape, activation=self.cast())

    # -- blocks

    def block(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        """Add a layer that computes, perhaps a batch normalization and functions, and a quantizer."""
        options = BLOCKS["any"] if self.chance(0.45) else BLOCKS[f"rank {len(source.shape)}"]
        tensor = self.pick(options)(self, source, earlier)
        if self.chance(0.2):
            tensor = self.batchnorm(tensor)
        if self.chance(0.2):
            tensor = self.function(tensor)
        if self.chance(0.12):
            tensor = self.add("Dropout", [tensor], tensor.shape, rate=0.5)
        tensor = self.quantizer(tensor)
        if self.chance(0.25):  # its input is narrow now, as a table wants it
            tensor = self.add("QActivation", [tensor], tensor.shape, activation=self.other_quantizer())
        return tensor

    def function(self, source: _Tensor) -> _Tensor:
        kind = self.pick(["relu", "relu6", "leaky", "leaky_any", "prelu", "activation", "narrow function"])
        if kind == "relu":
            return self.add("ReLU", [source], source.shape, max_value=None, negative_slope=0.0, threshold=0.0)
        if kind == "relu6":
            limit = self.pick([6.0, 1.0, 0.75])
            return self.add("ReLU", [source], source.shape, max_value=limit, negative_slope=0.0, threshold=0.0)
        if kind == "leaky":
            return self.add("LeakyReLU", [source], source.shape, alpha=self.pick([0.25, 0.5, 0.125]))
        if kind == "prelu":
            return self.add("PReLU", [source], source.shape, shared_axes=list(range(1, len(source.shape))) or None)
        if kind == "activation":
            return self.add("Activation", [source], source.shape, activation=self.pick(["relu", "linear"]))
        narrow = self.quantizer(source)
        if kind == "leaky_any":
            return self.add("LeakyReLU", [narrow], source.shape, alpha=0.3)
        text = self.pick(["tanh", "hard_sigmoid", "softsign", "elu"])
        return self.add("Activation", [narrow], source.shape, activation=text)

    def batchnorm(self, source: _Tensor) -> _Tensor:
        epsilon = EPSILON if self.chance(0.8) else 1e-3
        common = {"axis": [len(source.shape)], "momentum": 0.99, "epsilon": epsilon, "center": True, "scale": True}
        kind = "QBatchNormalization" if epsilon != EPSILON and self.chance(0.3) else "BatchNormalization"
        return self.add(kind, [source], source.shape, **common)

    def dense(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        units = int(self.rng.integers(1, 6))
        shape = (*source.shape[:-1], units)
        activation = {"activation": self.cast()} if self.chance(0.2) else {}
        if self.chance(0.15):
            return self.add("Dense", [source], shape, units=units, use_bias=self.chance(0.5), activation="linear")
        quantizer = self.weight_quantizer()
        return self.add("QDense", [source], shape, units=units, kernel_quantizer=quantizer, **self.bias(), **activation)

    def shared(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        """Apply one layer twice in a row."""
        units = source.shape[-1]
        once = self.add(
            "QDense", [source], source.shape, units=units, kernel_quantizer=self.weight_quantizer(), **self.bias()
        )
        between = self.quantizer(once)
        entry = next(entry for entry in self.entries if entry["name"] == once.name)
        entry["inbound_nodes"].append([[between.name, between.node, 0, {}]])
        return _Tensor(once.name, source.shape, 1)

    def nested(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        """Put a block into a model of its own."""
        inner = _Draft(self.rng)
        port = inner.add("InputLayer", [], source.shape, batch_input_shape=[None, *source.shape], dtype="float32")
        out = inner.quantizer(inner.dense(port, ()))
        config = {
            "layers": inner.entries,
            "input_layers": [[port.name, 0, 0]],
            "output_layers": [[out.name, out.node, 0]],
        }
        made = self.add("Functional", [source], out.shape, **config)
        return replace(made, node=1)  # Keras counts the making of a model as its node 0

    def conv(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        axes, filters = len(source.shape) - 1, int(self.rng.integers(1, 5))
        window, strides, padding, dilation = self.window(source.shape, causal=True)
        values = {"kernel_size": window, "strides": strides, "padding": padding, "dilation_rate": dilation}
        shape = (*_after(source.shape, window, strides, padding, dilation), filters)
        groups = 2 if source.shape[-1] % 2 == 0 and filters % 2 == 0 and self.chance(0.3) else 1
        common = {"filters": filters, "groups": groups, "data_format": "channels_last", **values}
        if self.chance(0.1):
            return self.add(f"Conv{axes}D", [source], shape, **common, use_bias=True, activation="linear")
        return self.add(
            f"QConv{axes}D", [source], shape, **common, kernel_quantizer=self.weight_quantizer(), **self.bias()
        )

    def conv_batchnorm(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        filters = int(self.rng.integers(1, 4))
        window, strides, padding, _ = self.window(source.shape)
        values: dict[str, Any] = {"kernel_size": window, "strides": strides, "padding": padding}
        values |= {"epsilon": EPSILON, "use_bias": True}
        quantizers = {"bias_quantizer": "quantized_bits(6,2,alpha=1)"}
        geometry = _after(source.shape, window, strides, padding)
        if self.chance(0.5):
            return self.add(
                "QConv2DBatchnorm",
                [source],
                (*geometry, filters),
                filters=filters,
                kernel_quantizer="quantized_bits(4,1,1,alpha=1)",
                **values,
                **quantizers,
            )
        values["strides"] = [min(strides)] * 2
        geometry = _after(source.shape, window, values["strides"], padding)
        return self.add(
            "QDepthwiseConv2DBatchnorm",
            [source],
            (*geometry, source.shape[-1]),
            depthwise_quantizer="quantized_bits(4,1,1,alpha=1)",
            **values,
            **quantizers,
        )

    def depthwise(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        window, strides, padding, _ = self.window(source.shape)
        strides, each = [min(strides)] * 2, int(self.rng.integers(1, 3))
        shape = (*_after(source.shape, window, strides, padding), source.shape[-1] * each)
        values = {"kernel_size": window, "strides": strides, "padding": padding, "depth_multiplier": each}
        return self.add(
            "QDepthwiseConv2D", [source], shape, **values, depthwise_quantizer=self.weight_quantizer(), **self.bias()
        )

    def separable(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        axes, filters = len(source.shape) - 1, int(self.rng.integers(1, 4))
        window, strides, padding, _ = self.window(source.shape)
        strides = [min(strides)] * axes
        shape = (*_after(source.shape, window, strides, padding), filters)
        values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
        quantizers = {
            "depthwise_quantizer": "quantized_bits(4,0,1,alpha=1)",
            "pointwise_quantizer": "quantized_po2(4,1)",
        }
        return self.add(f"QSeparableConv{axes}D", [source], shape, **values, **quantizers, **self.bias())

    def transposed(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        filters, strides = int(self.rng.integers(1, 3)), [int(self.rng.integers(1, 3)) for _ in range(2)]
        window, padding = [int(self.rng.integers(1, 4)) for _ in range(2)], self.pick(["valid", "same"])
        sizes = [
            size * step + (max(span - step, 0) if padding == "valid" else 0)
            for size, step, span in zip(source.shape, strides, window, strict=False)
        ]
        values = {"kernel_size": window, "strides": strides, "padding": padding, "filters": filters}
        return self.add(
            "QConv2DTranspose",
            [source],
            (*sizes, filters),
            **values,
            kernel_quantizer="quantized_bits(4,0,1,alpha=1)",
            **self.bias(),
        )

    def pool(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        axes = len(source.shape) - 1
        kind = self.pick(
            ["Max", "Max", "Average", "Average", "GlobalMax", "GlobalAverage", "QAverage", "QGlobalAverage"]
        )
        if kind.startswith("Q") and axes == 1:
            kind = kind.removeprefix("Q")
        if "Global" in kind:
            config = {"data_format": "channels_last", "keepdims": False}
            return self.add(f"{kind}Pooling{axes}D", [source], source.shape[-1:], **config)
        window, strides, padding, _ = self.window(source.shape)
        strides = strides if self.chance(0.5) else window
        shape = (*_after(source.shape, window, strides, padding), source.shape[-1])
        values = {"pool_size": window, "strides": strides, "padding": padding, "data_format": "channels_last"}
        return self.add(f"{kind}Pooling{axes}D", [source], shape, **values)

    def window(self, shape: Shape, causal: bool = False) -> tuple[list[int], list[int], str, list[int]]:
        sizes = shape[:-1]
        padding = self.pick(["valid", "same"])
        window = [int(self.rng.integers(1, min(4, size) + 1)) for size in sizes]
        strides = (
            [int(self.rng.integers(1, 3)) for _ in sizes] if len(sizes) == 1 else [int(self.rng.integers(1, 3))] * 2
        )
        dilation = [1] * len(sizes)
        if (
            causal
            and max(strides) == 1
            and self.chance(0.15)
            and all(2 * w - 1 <= s for w, s in zip(window, sizes, strict=True))
        ):
            dilation = [2] * len(sizes)
        if causal and len(sizes) == 1 and self.chance(0.15):
            padding = "causal"
        return window, strides, padding, dilation

    def merge(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        """Combine with an earlier tensor of its shape, or with another branch of its own."""
        others = [tensor for tensor in earlier if tensor.shape == source.shape and tensor != source]
        other = self.pick(others) if others and self.chance(0.7) else self.quantizer(self._same_shape(source))
        kind = self.pick(["Add", "Add", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
        sources = [source, other] if self.chance(0.5) else [other, source]
        if kind != "Subtract" and others and self.chance(0.2):
            sources.append(self.pick(others))
        return self.add(kind, sources, source.shape)

    def _same_shape(self, source: _Tensor) -> _Tensor:
        channels = source.shape[-1]
        if len(source.shape) == 1 or self.chance(0.3):
            quantizer = self.weight_quantizer()
            return self.add("QDense", [source], source.shape, units=channels, kernel_quantizer=quantizer, **self.bias())
        axes = len(source.shape) - 1
        window = [int(self.rng.integers(1, 4)) for _ in range(axes)]
        values = {"kernel_size": window, "strides": [1] * axes, "padding": "same", "filters": channels}
        quantizer = self.weight_quantizer()
        return self.add(f"QConv{axes}D", [source], source.shape, **values, kernel_quantizer=quantizer, **self.bias())

    def residual(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        """Two convolutions (or denses) and the way around them."""
        inner = self.quantizer(self._same_shape(source))
        return self.add("Add", [self.quantizer(self._same_shape(inner)), source], source.shape)

    def concatenate(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        others = [tensor for tensor in earlier if tensor.shape[:-1] == source.shape[:-1]]
        other = self.pick(others) if others else source
        return self.add(
            "Concatenate", [source, other], (*source.shape[:-1], source.shape[-1] + other.shape[-1]), axis=-1
        )

    def join(self, tensors: Sequence[_Tensor], inputs: Sequence[_Tensor]) -> _Tensor:
        """Bring the last tensor and those made of the other inputs into one vector."""
        read = {source[0] for entry in self.entries for node in entry["inbound_nodes"] for source in node}
        loose = [tensor for tensor in tensors if tensor.name not in read]
        vectors = [self.reshape(tensor, ()) if len(tensor.shape) > 1 else tensor for tensor in loose]
        if len(vectors) == 1:
            return self.quantizer(self.dense(vectors[0], ()))
        joined = self.add("Concatenate", vectors, (sum(math.prod(each.shape) for each in vectors),), axis=-1)
        return self.quantizer(self.dense(joined, ()))

    def move(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        """Pad, crop, repeat or transpose."""
        axes = len(source.shape) - 1
        kind = self.pick(["ZeroPadding", "Cropping", "UpSampling", "Permute"])
        if kind == "Permute":
            order = self.rng.permutation(len(source.shape))
            dims = [int(axis) + 1 for axis in order]
            return self.add("Permute", [source], tuple(source.shape[axis] for axis in order), dims=dims)
        if kind == "UpSampling":
            factors = [int(self.rng.integers(1, 3)) for _ in range(axes)]
            sizes = [size * factor for size, factor in zip(source.shape, factors, strict=False)]
            size = factors[0] if axes == 1 else factors
            extra = {} if axes == 1 else {"interpolation": "nearest", "data_format": "channels_last"}
            return self.add(f"UpSampling{axes}D", [source], (*sizes, source.shape[-1]), size=size, **extra)
        margins = [[int(self.rng.integers(0, 2)), int(self.rng.integers(0, 2))] for _ in range(axes)]
        if kind == "Cropping" and any(size <= sum(pair) for size, pair in zip(source.shape, margins, strict=False)):
            margins = [[0, 0]] * axes
        sign, key = (1, "padding") if kind == "ZeroPadding" else (-1, "cropping")
        sizes = [size + sign * sum(pair) for size, pair in zip(source.shape, margins, strict=False)]
        extra = {} if axes == 1 else {"data_format": "channels_last"}
        value = margins[0] if axes == 1 else margins
        return self.add(f"{kind}{axes}D", [source], (*sizes, source.shape[-1]), **{key: value}, **extra)

    def reshape(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        return self.add("Flatten", [source], (math.prod(source.shape),), data_format="channels_last")

    def fold(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        size = math.prod(source.shape)
        factor = self.pick([each for each in (1, 2, 3, 4) if size % each == 0])
        return self.add("Reshape", [source], (factor, size // factor), target_shape=[factor, -1])

    def norm(self, source: _Tensor, earlier: Sequence[_Tensor]) -> _Tensor:
        return self.batchnorm(source)


def _after(
    shape: Shape, window: Sequence[int], strides: Sequence[int], padding: str, dilation: Sequence[int] | None = None
) -> Shape:
    out = []
    for axis, (span, step) in enumerate(zip(window, strides, strict=True)):
        size, reach = shape[axis], (span - 1) * (dilation[axis] if dilation else 1) + 1
        out.append((size - reach) // step + 1 if padding == "valid" else -(-size // step))
    return tuple(out)


Block = Callable[[_Draft, _Tensor, Sequence[_Tensor]], _Tensor]
_SPATIAL: list[Block] = [
    _Draft.conv,
    _Draft.conv,
    _Draft.separable,
    _Draft.pool,
    _Draft.pool,
    _Draft.move,
    _Draft.reshape,
]
BLOCKS: Mapping[str, list[Block]] = {
    "any": [
        _Draft.dense,
        _Draft.dense,
        _Draft.merge,
        _Draft.residual,
        _Draft.concatenate,
        _Draft.shared,
        _Draft.nested,
        _Draft.norm,
    ],
    "rank 1": [_Draft.fold, _Draft.dense, _Draft.merge],
    "rank 2": [*_SPATIAL, _Draft.fold],
    "rank 3": [*_SPATIAL, _Draft.conv_batchnorm, _Draft.depthwise, _Draft.transposed],
}
