"""Drafts of random models: the layers so far, and the quantizers of the next, in the style of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EPSILON = 2.0**-10
"""Batch normalizations with this epsilon get a variance of `1 - EPSILON` and few bits, so they scale by gamma, exactly;
others have any float32."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """The output of a layer: its name, the shape of one sample, and which use of the layer made it."""

    name: str
    shape: Shape
    node: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a model is quantized: most of the field's have one precision, or few.

    Attributes:
        kernel: quantizer of all kernels; None to draw one for each layer.
        activations: quantizers behind layers; none to draw one each time.
        normalized: how often a batch normalization stands behind a layer.
        biased: how often a layer has a bias.
    """

    kernel: str | None = None
    activations: tuple[str, ...] = ()
    normalized: float = 0.2
    biased: float = 0.8


def draw_style(rng: np.random.Generator) -> Style:
    """Return a style: of all kinds of quantizers, of one precision, of powers of two, binary or ternary."""
    bits, integer = int(rng.choice([3, 4, 5, 6, 8, 10, 12, 16])), int(rng.integers(0, 3))
    signed = f"quantized_bits({bits},{integer},alpha=1)"
    styles = [
        *[Style()] * 4,
        Style(kernel=f"quantized_bits({bits},0,alpha=1)", activations=(f"quantized_relu({bits},{integer})",)),
        Style(
            kernel=f"quantized_bits({bits},0,1,alpha=1)",
            activations=(f"quantized_relu({bits},{integer})", signed, f"quantized_tanh({min(bits, 8)})"),
            normalized=0.6,
        ),
        Style(kernel="quantized_po2(4,1)", activations=(f"quantized_relu({min(bits, 6)},2)",), normalized=0.5),
        Style(kernel="binary(alpha=1)", activations=("binary(alpha=1)",), normalized=0.8, biased=0.2),
        Style(kernel="binary()", activations=("quantized_relu(2,1)", "ternary(alpha=1)"), normalized=0.7, biased=0.3),
        Style(kernel="ternary(alpha=1)", activations=("ternary(alpha=1,threshold=0.5)",), normalized=0.7, biased=0.4),
        Style(kernel="stochastic_ternary(alpha=1)", activations=(f"quantized_relu({bits},{integer})",)),
    ]
    return styles[int(rng.integers(len(styles)))]


@dataclass(slots=True)
class Draft:
    """A model while it is drawn; `read` holds the layers that another one reads."""

    rng: np.random.Generator
    style: Style
    entries: list[dict[str, Any]] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    def pick(self, choices: Sequence[Any]) -> Any:
        """Return one of several."""
        return choices[self.number(0, len(choices))]

    def chance(self, probability: float) -> bool:
        """Say yes so often."""
        return bool(self.rng.random() < probability)

    def number(self, low: int, high: int) -> int:
        """Return a number of at least `low`, below `high`."""
        return int(self.rng.integers(low, high))

    # -- layers

    def input(self) -> Tensor:
        """Add an input of one to three axes."""
        vector, line = (self.number(1, 9),), (self.number(1, 8), self.number(1, 5))
        picture = self.number(1, 7), self.number(1, 7), self.number(1, 4)
        return self.port(self.pick([vector, line, picture, picture]))

    def port(self, shape: Shape) -> Tensor:
        """Add an input of a shape."""
        return self.add("InputLayer", [], shape, batch_input_shape=[None, *shape], dtype="float32")

    def add(self, class_name: str, sources: Sequence[Tensor], shape: Shape, **config: Any) -> Tensor:
        """Add a layer that reads some tensors and makes one of this shape."""
        return self._listed(
            class_name, sources, shape, config, [[source.name, source.node, 0, {}] for source in sources]
        )

    def keep(self, class_name: str, source: Tensor, **config: Any) -> Tensor:
        """Add a layer that reads one tensor and keeps its shape."""
        return self.add(class_name, [source], source.shape, **config)

    def call(self, function: str, first: Any, shape: Shape, /, **arguments: Any) -> Tensor:
        """Add a function of TensorFlow, as Keras lists it: of a tensor, a list of them or a number, and of others."""
        sources = [value for value in (first, *arguments.values()) if isinstance(value, Tensor)]
        held = {
            key: [value.name, value.node, 0] if isinstance(value, Tensor) else value for key, value in arguments.items()
        }
        if isinstance(first, Tensor):
            node = [first.name, first.node, 0, held]
        elif isinstance(first, list):
            sources += first
            node = [[source.name, source.node, 0, held] for source in first]
        else:
            node = ["_CONSTANT_VALUE", -1, first, held]
        kind = "SlicingOpLambda" if function == "__operators__.getitem" else "TFOpLambda"
        return self._listed(kind, sources, shape, {"function": function}, node)

    def again(self, tensor: Tensor, source: Tensor) -> Tensor:
        """Call the layer that made a tensor once more."""
        entry = next(entry for entry in self.entries if entry["name"] == tensor.name)
        entry["inbound_nodes"].append([[source.name, source.node, 0, {}]])
        self.read.add(source.name)
        return Tensor(tensor.name, tensor.shape, len(entry["inbound_nodes"]) - 1)

    def _listed(
        self, class_name: str, sources: Sequence[Tensor], shape: Shape, config: dict[str, Any], node: list[Any]
    ) -> Tensor:
        name = f"{class_name.lower()}_{len(self.entries)}"
        entry = {"class_name": class_name, "name": name, "config": {"name": name, **config}}
        self.entries.append({**entry, "inbound_nodes": [node] if sources else []})
        self.read.update(source.name for source in sources)
        return Tensor(name, shape)

    # -- quantizers

    def kernel(self) -> str:
        """Return a quantizer of weights."""
        if self.style.kernel is not None and self.chance(0.9):
            return self.style.kernel
        bits = self.number(2, 7) if self.chance(0.85) else self.pick([8, 12, 16])
        choices = [
            f"quantized_bits({bits},{self.number(0, 2)},1,alpha=1)",
            f"quantized_bits({bits},0,0,alpha=1)",
            f"quantized_bits({bits},0,1,alpha='auto_po2')",
            f"quantized_bits({bits},0,1,alpha='auto')",
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
            "binary(alpha='auto')",
            "ternary(alpha=1)",
            "ternary(alpha='auto')",
            "stochastic_ternary(alpha=1)",
            "stochastic_binary(alpha=1)",
        ]
        return str(self.pick(choices))

    def weights(self) -> dict[str, Any]:
        """Return what a layer's configuration says of its kernel and bias."""
        return {"kernel_quantizer": self.kernel(), **self.bias()}

    def bias(self) -> dict[str, Any]:
        """Return what a layer's configuration says of its bias."""
        if not self.chance(self.style.biased):
            return {"use_bias": False}
        quantizer = self.pick(
            [None, "quantized_bits(5,1,alpha=1)", "quantized_po2(4,1)", "quantized_bits(12,3,alpha=1)"]
        )
        return {"use_bias": True, "bias_quantizer": quantizer}

    def cast(self) -> str:
        """Return a quantizer of activations that rounds to a format."""
        wide = self.chance(0.1)
        bits, integer = self.pick([10, 12, 16]) if wide else self.number(1, 8), self.number(0, 4)
        choices = [
            f"quantized_relu({bits},{integer})",
            f"quantized_relu({bits},{integer})",
            f"quantized_bits({bits + 1},{integer},alpha=1)",
            f"quantized_bits({bits + 1},{integer},1,alpha=1)",
            f"quantized_bits({bits + 1},{integer},0,False,alpha=1)",
        ]
        return str(self.pick(choices))

    def function(self) -> str:
        """Return a quantizer of activations that a table or thresholds compute."""
        bits = self.number(2, 7)
        choices = [
            f"quantized_relu({bits},1,negative_slope=0.25)",
            f"quantized_relu({bits},1,use_sigmoid=1)",
            f"quantized_relu({bits},2,relu_upper_bound=1.5,is_quantized_clip=False)",
            f"quantized_tanh({bits})",
            f"quantized_tanh({bits},symmetric=True)",
            f"quantized_tanh({bits},use_real_tanh=True)",
            f"quantized_sigmoid({bits})",
            f"quantized_sigmoid({bits},use_real_sigmoid=True)",
            f"quantized_hswish({bits},2,alpha=1)",
            f"quantized_relu_po2({max(bits, 3)},4)",
            f"quantized_po2({max(bits, 3)},4)",
            "binary(alpha=1)",
            "binary(True,alpha=1)",
            "ternary(alpha=1,threshold=0.5)",
            "stochastic_ternary(alpha=1)",
            "stochastic_binary(alpha=1)",
            "quantized_bits(1,0,alpha=1)",
            "quantized_bits(4,1,alpha=2.0)",
        ]
        return str(self.pick(choices))

    def activation(self) -> str:
        """Return a quantizer behind a layer, in the style of the model."""
        if self.style.activations and self.chance(0.9):
            return str(self.pick(self.style.activations))
        return self.function() if self.chance(0.12) else self.cast()

    def quantizer(self, source: Tensor) -> Tensor:
        """Add a quantizer of activations, in the style of the model, or with scales that were found in data."""
        own = self.frozen(source.shape[-1]) if self.chance(0.04) else self.activation()
        return self.keep("QActivation", source, activation=own)

    def frozen(self, channels: int) -> dict[str, Any]:
        """Return a quantizer with a frozen scale for each channel, or one for all of them."""
        scale = [2.0 ** self.number(-3, 3) for _ in range(channels if self.chance(0.7) else 1)]
        config = {"bits": self.number(2, 9), "integer": self.number(0, 3), "symmetric": 1, "alpha": "auto_po2"}
        return {"class_name": "quantized_bits", "config": {**config, "post_training_scale": [scale]}}
